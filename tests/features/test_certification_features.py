"""Certifications as they stood are those of the row-by-row oracle, and nothing known later changes them."""

from __future__ import annotations

import copy
import datetime as dt

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import performance as oracle

from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._certifications import certification_columns

NAMES = (
    "certifications__valid__count__asof",
    *(f"certifications__{kind}__count__{days}d" for kind in ("expiring", "lapsed") for days in (1, 30, 90)),
)
AS_OF = made.MIDNIGHTS[2]


def columns(backend, tables, lags, keys, names=NAMES):
    """Return the features of rows, as a frame by (partner_id, as_of) in the order of the keys."""
    catalogue = Catalogue(tuple(Feature.parse(name) for name in names))
    return made.family_columns(backend, tables, lags, keys, certification_columns, catalogue)


def check(backend, tables, lags, as_of):
    for (partner_id, moment), row in columns(backend, tables, lags, made.every_key(as_of)).iterrows():
        for name in NAMES:
            expected = oracle.certification_feature(name, partner_id, moment.to_pydatetime(), tables, lags=lags)
            assert row[name] == expected, (name, partner_id, moment, row[name], expected)


@st.composite
def worlds(draw, as_of):
    """Draw (tables, lags) around certifications: renewed, taken away, recorded late, columns absent."""
    one = st.builds(
        lambda partner, name, moment, expires, revoked, delay: {
            "partner_id": partner,
            "certification": name,
            "earned_at": moment,
            "expires_at": expires,
            "revoked_at": revoked,
            "recorded_at": None if delay is None else moment + delay,
        },
        st.sampled_from(made.PARTNERS[:3]),
        st.sampled_from(("sales", "cloud", "security")),
        made.moments(as_of),
        st.one_of(st.none(), made.moments(as_of)),
        st.one_of(st.none(), st.none(), made.moments(as_of)),
        made.DELAYS,
    )
    rows = draw(st.lists(one, max_size=25))
    dropped = draw(st.sampled_from([(), (), (), ("recorded_at",), ("revoked_at",), ("expires_at",)]))
    rows = [{column: value for column, value in row.items() if column not in dropped} for row in rows]
    partners = [{"partner_id": name} for name in made.PARTNERS]
    lag = st.sampled_from([dt.timedelta(0), dt.timedelta(0), made.TICK, dt.timedelta(hours=12), 2 * made.DAY])
    return {"partners": partners, "certifications": rows}, {"certifications": draw(lag)}


@settings(max_examples=7, **made.quick)
@given(worlds(made.MIDNIGHTS))
def test_equal_to_the_oracle_at_midnight(backend, drawn):
    check(backend, *drawn, made.MIDNIGHTS)


@settings(max_examples=5, **made.quick)
@given(worlds(made.OFF_MIDNIGHT))
def test_equal_to_the_oracle_off_midnight(backend, drawn):
    check(backend, *drawn, made.OFF_MIDNIGHT)


def with_another_future(tables, lags, cut):
    """Change all that is known only from `cut` on: certifications earned or recorded later, and revocations."""
    changed = copy.deepcopy(tables)
    lag = lags["certifications"]
    for row in changed["certifications"]:
        recorded = row.get("recorded_at")
        if max(row["earned_at"], recorded if recorded is not None else row["earned_at"] + lag) >= cut:
            row["certification"], row["expires_at"] = "new", None
        revoked = row.get("revoked_at")
        if revoked is None or revoked + lag >= cut:
            row["revoked_at"] = cut - lag if revoked is None else None
    changed["certifications"].append({"partner_id": "A", "certification": "another", "earned_at": cut})
    return changed


@settings(max_examples=4, **made.quick)
@given(worlds((AS_OF,)))
def test_the_future_changes_no_feature(backend, drawn):
    tables, lags = drawn
    versions = (tables, with_another_future(tables, lags, AS_OF))
    pd.testing.assert_frame_equal(*(columns(backend, version, lags, made.every_key([AS_OF])) for version in versions))


def states(backend, cases, *, lag=dt.timedelta(0)):
    """(valid, expiring within 30 days, lapsed within 30 days) of partners with one certification each."""
    rows = [
        {"partner_id": f"P{i:02}", "certification": "sales", "earned_at": made.START - made.DAY, **row}
        for i, case in enumerate(cases)
        for row in case
    ]
    keys = pd.DataFrame({"partner_id": [f"P{i:02}" for i in range(len(cases))], "as_of": AS_OF})
    tables = {"partners": keys[["partner_id"]].to_dict("records"), "certifications": rows}
    names = [NAMES[0], "certifications__expiring__count__30d", "certifications__lapsed__count__30d"]
    found = columns(backend, tables, {"certifications": lag}, keys, names)
    return [tuple(row) for row in found.astype(int).itertuples(index=False)]


def test_edges(backend):
    day, tick = made.DAY, made.TICK
    cases = [
        ([{}], (1, 0, 0)),
        ([{"expires_at": AS_OF + tick}], (1, 1, 0)),
        ([{"expires_at": AS_OF}], (0, 0, 1)),
        ([{"expires_at": AS_OF + 30 * day - tick}], (1, 1, 0)),
        ([{"expires_at": AS_OF + 30 * day}], (1, 0, 0)),
        ([{"expires_at": AS_OF - 30 * day}], (0, 0, 1)),
        ([{"expires_at": AS_OF - 30 * day - tick}], (0, 0, 0)),
        ([{"expires_at": AS_OF - day}, {"expires_at": AS_OF + day}], (1, 1, 0)),
        ([{"expires_at": AS_OF + day}, {"expires_at": AS_OF + 300 * day}], (1, 0, 0)),
        ([{"expires_at": AS_OF + day}, {"expires_at": None}], (1, 0, 0)),
        ([{"revoked_at": AS_OF - tick, "expires_at": AS_OF + day}], (0, 0, 1)),
        ([{"revoked_at": AS_OF, "expires_at": None}], (1, 0, 0)),
        ([{"revoked_at": AS_OF - day, "expires_at": None}, {"expires_at": AS_OF + day}], (1, 1, 0)),
        ([{"revoked_at": AS_OF - day, "expires_at": AS_OF + 300 * day}, {"expires_at": AS_OF + day}], (1, 1, 0)),
    ]
    found = states(backend, [rows for rows, _ in cases])
    assert list(zip(cases, found, strict=True)) == [(case, case[1]) for case in cases]


def test_a_revocation_is_known_after_the_lag(backend):
    row = {"revoked_at": AS_OF - made.DAY, "expires_at": None}
    assert states(backend, [[row]], lag=made.DAY) == [(1, 0, 0)]
    assert states(backend, [[row]], lag=made.DAY - made.TICK) == [(0, 0, 1)]


def test_without_the_table_all_counts_are_0(backend):
    tables = {"partners": [{"partner_id": name} for name in made.PARTNERS]}
    assert (columns(backend, tables, {}, made.every_key([AS_OF])) == 0.0).all(axis=None)


def test_a_spine_with_holes_has_the_rows_that_it_asks_for(backend):
    row = {"partner_id": "A", "certification": "sales", "earned_at": made.START - made.DAY}
    tables = {"partners": [{"partner_id": name} for name in made.PARTNERS], "certifications": [row]}
    keys = pd.DataFrame({"partner_id": ["A", "B", "A"], "as_of": [made.START, AS_OF, made.START + 9 * made.DAY]})
    assert columns(backend, tables, {}, keys)[NAMES[0]].tolist() == [1.0, 0.0, 1.0]
