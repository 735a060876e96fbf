"""Deals as they stood are those of the row-by-row oracle, and nothing known later changes them."""

from __future__ import annotations

import copy
import datetime as dt
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import performance as oracle

from partnerml.features._catalog import Catalogue, Feature, Peers
from partnerml.features._deals import deal_columns

WINDOWS = ("7d", "90d", "ever")
NAMES = (
    *(f"deals__open__{measure}__asof" for measure in ("count", "amount", "age_days", "overdue")),
    *(f"deals__all__win_rate__{window}" for window in WINDOWS),
    *(f"deals__{kind}__cycle_days__{window}" for kind in ("won", "lost") for window in WINDOWS),
    *(
        f"deals__won__{measure}__{window}"
        for measure in (
            "sourced_share",
            "joint_rate",
            "joint_share",
            "verticals",
            "countries",
            "accounts",
            "concentration",
        )
        for window in WINDOWS
    ),
)
ONE_WINDOW = tuple(name for name in NAMES if name.endswith(("asof", "90d")))
ONE_OF_EACH = (  # of what is built together
    "deals__open__count__asof",
    "deals__open__amount__asof",
    "deals__all__win_rate__90d",
    "deals__won__cycle_days__90d",
    "deals__won__concentration__90d",
)
PEERS = Peers(by=("partner_type", "country"))
STATIC = ("country",)
AS_OF = made.MIDNIGHTS[2]
AMOUNTS = (0.1, 0.7, 1e9 + 0.3, 0.2, 12.34, 3e7 + 0.01, 5.55) * 5


def columns(backend, tables, lags, keys, names, *, peers=PEERS):
    """Return the features of rows, as a frame by (partner_id, as_of) in the order of the keys."""
    catalogue = Catalogue(tuple(Feature.parse(name) for name in names), static_traits=STATIC, peers=peers)
    return made.family_columns(backend, tables, lags, keys, deal_columns, catalogue)


def check(backend, tables, lags, keys, names):
    frame = columns(backend, tables, lags, keys, names)
    for (partner_id, moment), row in frame.iterrows():
        as_of = moment.to_pydatetime()
        groups = oracle.groups_at(PEERS.by, as_of, tables, lags=lags, static=STATIC)
        for name in names:
            expected = oracle.deal_feature(name, partner_id, as_of, tables, lags=lags, groups=groups)
            assert made.same(row[name], expected, tolerance=1e-9), (name, partner_id, moment, row[name], expected)


def histories(deal_rows, as_of):
    """Draw rows of ``deal_history`` for some of the deals, with gaps in what they tell."""
    one = st.builds(
        lambda deal, moment, amount, expected: {
            "deal_id": deal["deal_id"],
            "valid_from": moment,
            "amount": amount,
            "expected_close_at": expected,
        },
        st.sampled_from(deal_rows),
        made.moments(as_of),
        st.one_of(st.none(), st.integers(0, 1_000_000).map(lambda cents: cents / 100)),
        st.one_of(st.none(), made.moments(as_of)),
    )
    return st.lists(one, max_size=25, unique_by=lambda row: (row["deal_id"], row["valid_from"]))


def sides(deal_rows):
    """Draw rows of ``deal_partners``: several partners a deal, roles and shares that may be missing."""
    one = st.builds(
        lambda deal, partner, share, primary, role: {
            "deal_id": deal["deal_id"],
            "partner_id": partner,
            "share": share,
            "is_primary": primary,
            "role": role,
        },
        st.sampled_from(deal_rows),
        st.sampled_from(made.PARTNERS),
        st.sampled_from([None, None, 0.0, 0.25, 1 / 3, 1.0]),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, "sourced", "influenced"]),
    )
    return st.lists(one, max_size=15, unique_by=lambda row: (row["deal_id"], row["partner_id"]))


@st.composite
def worlds(draw, as_of):
    """Draw (tables, lags) around deals: every optional table and column may be absent."""
    rows = draw(made.deals(as_of, size=30))
    for row in rows:
        row["account_id"] = draw(st.sampled_from([None, "X", "Y", "Z"]))
        row["vertical"] = draw(st.sampled_from([None, "retail", "telecom"]))
        row["country"] = draw(st.sampled_from([None, "DE", "FR", "US"]))
        row["role"] = draw(st.sampled_from([None, "sourced", "influenced"]))
        if draw(st.integers(0, 9)) == 0:
            row["closed_at"] = None  # a closing without a moment
    partners = [
        {
            "partner_id": name,
            "country": draw(st.sampled_from([None, "DE", "FR"])),
            "left_at": draw(st.one_of(st.none(), made.moments(as_of))),
        }
        for name in made.PARTNERS
    ]
    history = st.builds(
        lambda partner, moment, type_, country: {
            "partner_id": partner,
            "valid_from": moment,
            "partner_type": type_,
            "country": country,
        },
        st.sampled_from(made.PARTNERS),
        made.moments(as_of),
        st.sampled_from([None, "reseller", "integrator"]),
        st.sampled_from([None, "DE", "US"]),
    )
    key = lambda row: (row["partner_id"], row["valid_from"])  # noqa: E731
    tables = {
        "partners": partners,
        "deals": rows,
        "partner_history": draw(st.lists(history, min_size=1, max_size=8, unique_by=key)),
    }
    if rows and draw(st.integers(0, 3)):
        tables["deal_partners"] = draw(sides(rows))
    if rows and draw(st.integers(0, 3)):
        tables["deal_history"] = draw(histories(rows, as_of))
    absent = [(), (), ("recorded_at", "closed_recorded_at"), ("amount", "role", "account_id"), ("share", "vertical")]
    dropped = draw(st.sampled_from([*absent, ("expected_close_at", "is_primary"), ("country",)]))
    for name in ("deals", "deal_partners", "deal_history"):
        if name in tables:
            tables[name] = [{k: v for k, v in row.items() if k not in dropped} for row in tables[name]]
    lag = st.sampled_from([dt.timedelta(0), dt.timedelta(0), made.TICK, dt.timedelta(hours=12), 2 * made.DAY])
    lags = {name: draw(lag) for name in ("deals", "deal_history", "partner_history", "partners")}
    return tables, lags


@settings(max_examples=7, **made.quick)
@given(drawn=worlds(made.MIDNIGHTS), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=9, unique=True))
def test_equal_to_the_oracle_at_midnight(backend, drawn, names):
    check(backend, *drawn, made.every_key(made.MIDNIGHTS), names)


@settings(max_examples=5, **made.quick)
@given(drawn=worlds(made.OFF_MIDNIGHT), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=9, unique=True))
def test_equal_to_the_oracle_off_midnight(backend, drawn, names):
    check(backend, *drawn, made.every_key(made.OFF_MIDNIGHT), names)


@pytest.mark.slow
@settings(max_examples=2, **made.quick)
@given(worlds(made.MIDNIGHTS))
def test_every_feature_at_once(backend, drawn):
    check(backend, *drawn, made.every_key(made.MIDNIGHTS), NAMES)


def known(moment, recorded, lag):
    return max(moment, recorded if recorded is not None else moment + lag)


def with_another_future(tables, lags, cut, draw):
    """Change all that is known only from `cut` on, and what deals that were open then became."""
    changed = copy.deepcopy(tables)
    lag = lags["deals"]
    for row in changed["deals"]:
        seen = known(row["registered_at"], row.get("recorded_at"), lag)
        closed = row.get("closed_at")
        closing = None if closed is None else max(seen, known(closed, row.get("closed_recorded_at"), lag))
        if seen >= cut:
            row["registered_at"] = max(cut, row["registered_at"]) + made.DAY
            row["recorded_at"] = row["registered_at"]
            row["account_id"], row["vertical"], row["role"] = "new", "new", "sourced"
        if closing is None or closing >= cut:
            row["outcome"] = draw(st.sampled_from(["won", "lost", "cancelled", "open"]))
            row["closed_at"] = None if row["outcome"] == "open" else max(cut, row["registered_at"]) + made.DAY
            row["closed_recorded_at"] = row["closed_at"]
            row["amount"] = 123456.0
            row["expected_close_at"] = cut - made.DAY
    news = {"amount": 99.0, "expected_close_at": made.START, "partner_type": "other"}
    for name in ("deal_history", "partner_history"):
        for row in changed.get(name, []):
            if row["valid_from"] + lags[name] >= cut:
                row.update({column: value for column, value in news.items() if column in row})
    for row in changed["partners"]:
        row["left_at"] = None
        row["partner_type"] = "other"
    return changed


@pytest.mark.slow
@settings(max_examples=3, **made.quick)
@given(as_of=st.sampled_from([made.MIDNIGHTS[2], made.OFF_MIDNIGHT[1]]), data=st.data())
def test_the_future_changes_no_feature(backend, as_of, data):
    tables, lags = data.draw(worlds((as_of,)))
    changed = with_another_future(tables, lags, as_of, data.draw)
    frames = [columns(backend, version, lags, made.every_key([as_of]), ONE_WINDOW) for version in (tables, changed)]
    pd.testing.assert_frame_equal(*frames)


def plain(**deal):
    row = {"deal_id": "D0", "partner_id": "A", "registered_at": AS_OF - 50 * made.DAY, "outcome": "won"}
    return {**row, "closed_at": AS_OF - made.DAY, "amount": 100.0, **deal}


def tables_of(*deals):
    rows = [{**deal, "deal_id": f"D{i}"} for i, deal in enumerate(deals)]
    partners = [{"partner_id": name} for name in made.PARTNERS]
    return {"partners": partners, "deals": rows}


def of_partners(backend, tables, name, *, by=("partner_type",)):
    keys = made.every_key([AS_OF])
    found = columns(backend, tables, {}, keys, [name], peers=Peers(by=by))[name]
    return dict(zip(keys["partner_id"], found, strict=True))


def of_one(backend, tables, *names, lags=None):
    keys = pd.DataFrame({"partner_id": ["A"], "as_of": [AS_OF]})
    return columns(backend, tables, lags or {}, keys, names, peers=Peers(by=())).iloc[0].tolist()


def test_edges(backend):
    """A microsecond decides: (open, pipeline, overdue, won of closed, days to close) of one deal a partner."""
    tick, day = made.TICK, made.DAY
    open_ = {"outcome": "open", "closed_at": None}
    told = {"amount": 5.0, "expected_close_at": AS_OF + day}
    nothing, won = [0.0, 0.0, 0.0, math.nan, math.nan], [0.0, 0.0, 0.0, 1.0, 49.0]
    cases = [
        # when a registration can be seen
        (plain(**open_, registered_at=AS_OF), [], nothing),
        (plain(**open_, registered_at=AS_OF - tick), [], [1.0, *nothing[1:]]),
        (plain(**open_, recorded_at=AS_OF), [], nothing),
        # when a closing can be seen: before it, nothing of how it ends
        (plain(), [], won),
        (plain(closed_recorded_at=AS_OF), [], [1.0, *nothing[1:]]),
        (plain(closed_recorded_at=AS_OF - tick), [], won),
        (plain(recorded_at=AS_OF - tick, closed_recorded_at=AS_OF - day), [], won),
        (plain(recorded_at=AS_OF, closed_recorded_at=AS_OF - day), [], nothing),
        (plain(closed_at=None), [], [1.0, *nothing[1:]]),
        (plain(closed_at=None, closed_recorded_at=AS_OF - day), [], [1.0, *nothing[1:]]),
        (plain(outcome="cancelled"), [], nothing),
        (plain(outcome="lost"), [], [0.0, 0.0, 0.0, 0.0, math.nan]),
        # the far edge of the window of 90 days
        (plain(registered_at=AS_OF - 91 * day, closed_at=AS_OF - 90 * day), [], [0.0, 0.0, 0.0, 1.0, 1.0]),
        (plain(registered_at=AS_OF - 91 * day, closed_at=AS_OF - 90 * day - tick), [], nothing),
        # which row of the history holds
        (plain(**open_), [(AS_OF - tick, told)], [1.0, 5.0, 0.0, *nothing[3:]]),
        (plain(**open_), [(AS_OF, told)], [1.0, *nothing[1:]]),
        (plain(**open_), [(AS_OF - day, told), (AS_OF, {"amount": 7.0})], [1.0, 5.0, 0.0, *nothing[3:]]),
        (plain(**open_), [(AS_OF - day, told), (AS_OF - tick, {"amount": 7.0})], [1.0, 7.0, 0.0, *nothing[3:]]),
        (plain(**open_), [(AS_OF - day, told), (AS_OF - tick, {"amount": None})], [1.0, *nothing[1:]]),
        (plain(**open_), [(AS_OF - day, {"expected_close_at": AS_OF})], [1.0, *nothing[1:]]),
        (plain(**open_), [(AS_OF - day, {"expected_close_at": AS_OF - tick})], [1.0, 0.0, 1.0, *nothing[3:]]),
        (plain(), [(AS_OF - day, told)], won),
    ]
    ids = [f"P{i:02}" for i in range(len(cases))]
    tables = {
        "partners": [{"partner_id": name} for name in ids],
        "deals": [{**case[0], "deal_id": name, "partner_id": name} for name, case in zip(ids, cases, strict=True)],
        "deal_history": [
            {"deal_id": name, "valid_from": valid_from, **row}
            for name, case in zip(ids, cases, strict=True)
            for valid_from, row in case[1]
        ],
    }
    names = [f"deals__open__{measure}__asof" for measure in ("count", "amount", "overdue")]
    names += ["deals__all__win_rate__90d", "deals__won__cycle_days__90d"]
    keys = pd.DataFrame({"partner_id": ids, "as_of": AS_OF})
    found = columns(backend, tables, {}, keys, names, peers=Peers(by=()))
    # drawn toward the one rate of all, a rate tells by its side whether its own deal was counted, and how
    rate = found["deals__all__win_rate__90d"].tolist()
    base = rate[0]
    counted = [math.nan if r == base else float(r > base) for r in rate]
    found["deals__all__win_rate__90d"] = counted
    for i, (_, _, expected) in enumerate(cases):
        assert found.iloc[i].tolist() == pytest.approx(expected, nan_ok=True), (i, cases[i])


def test_amounts_of_open_deals_are_those_of_their_history(backend):
    """The amount in ``deals`` is that of the end, which would tell how the deal ends."""
    names = ("deals__open__amount__asof", "deals__open__overdue__asof")
    tables = tables_of(plain(outcome="open", closed_at=None, expected_close_at=AS_OF - made.DAY))
    assert of_one(backend, tables, *names) == [0.0, 0.0]
    told = [(-20, 70.0, -5), (-10, 80.0, 5), (0, 90.0, -5)]
    tables["deal_history"] = [
        {"deal_id": "D0", "valid_from": AS_OF + d * made.DAY, "amount": a, "expected_close_at": AS_OF + e * made.DAY}
        for d, a, e in told
    ]
    assert of_one(backend, tables, *names) == [80.0, 0.0]
    assert of_one(backend, tables, *names, lags={"deal_history": 10 * made.DAY}) == [70.0, 1.0]


def test_revenue_counts_by_share_and_by_the_role_on_the_deal(backend):
    tables = tables_of(plain(role="influenced"), plain(role="influenced", amount=300.0))
    tables["deal_partners"] = [
        {"deal_id": "D0", "partner_id": "A", "role": "sourced", "share": 0.6},
        {"deal_id": "D0", "partner_id": "B", "role": None, "share": 0.4},
    ]
    measures = ("sourced_share", "joint_rate", "joint_share")
    found = of_one(backend, tables, *(f"deals__won__{measure}__90d" for measure in measures))
    # 60 of 360; the second deal is all its own, and only influenced
    assert found == pytest.approx([60 / 360, 1 / 2, 0.6])


def test_win_rates_are_drawn_toward_peers(backend):
    won, lost = plain(), plain(outcome="lost")
    rows = [won] * 3 + [lost] + [{**lost, "partner_id": "B"}] * 6 + [{**won, "partner_id": "C"}] * 10
    tables = tables_of(*rows)
    types = {"A": "reseller", "B": "reseller", "C": "integrator"}
    tables["partner_history"] = [
        {"partner_id": name, "valid_from": AS_OF - 500 * made.DAY, "partner_type": type_}
        for name, type_ in types.items()
    ]
    rates = of_partners(backend, tables, "deals__all__win_rate__90d")
    overall = 13 / 20
    reseller, integrator = (3 + 10 * overall) / 20, (10 + 10 * overall) / 20
    expected = {"A": (3 + 10 * reseller) / 14, "B": 10 * reseller / 16, "C": (10 + 10 * integrator) / 20}
    # nobody of the others, whose type is not known, has closed a deal
    assert rates == pytest.approx({**expected, "D": overall, "E": overall, "F": overall}, rel=1e-12)


def test_deals_move_with_their_partner_to_its_new_group(backend):
    later = made.MIDNIGHTS[3]
    tables = tables_of(plain(), plain(outcome="lost", partner_id="B"))
    before = AS_OF - 90 * made.DAY
    history = [("A", before, "old"), ("A", later - made.TICK, "new"), ("C", before, "new"), ("D", before, "old")]
    history += [("E", before, "old"), ("E", AS_OF, "new")]  # known at as_of is not known before it
    tables["partner_history"] = [
        {"partner_id": name, "valid_from": since, "partner_type": type_} for name, since, type_ in history
    ]
    keys = pd.DataFrame({"partner_id": ["C", "D", "E", "C", "D"], "as_of": [AS_OF] * 3 + [later] * 2})
    found = columns(backend, tables, {}, keys, ["deals__all__win_rate__ever"], peers=Peers(by=("partner_type",)))
    mates = (1 + 10 * 0.5) / 11
    assert found.iloc[:, 0].tolist() == pytest.approx([0.5, mates, mates, mates, 0.5], rel=1e-12)


@settings(max_examples=2, **made.quick)
@given(data=st.data())
def test_one_row_has_the_features_that_it_has_among_all(backend, data):
    tables, lags = data.draw(worlds(made.MIDNIGHTS))
    keys = made.every_key(made.MIDNIGHTS)
    some = keys.iloc[sorted(data.draw(st.sets(st.integers(0, len(keys) - 1), min_size=1, max_size=3)))]
    frames = [columns(backend, tables, lags, rows, ONE_OF_EACH) for rows in (keys, some)]
    pd.testing.assert_frame_equal(frames[0].loc[frames[1].index], frames[1])


def test_without_deals_counts_are_0_and_the_rest_is_null(backend):
    tables = {"partners": [{"partner_id": name} for name in made.PARTNERS]}
    row = columns(backend, tables, {}, made.every_key([AS_OF]), NAMES).iloc[0]
    measures = {name: name.split("__")[2] for name in NAMES}
    zero = {"count", "amount", "overdue", "verticals", "countries", "accounts"}
    assert {name for name in NAMES if row[name] == 0.0} == {name for name in NAMES if measures[name] in zero}
    assert row[[name for name in NAMES if measures[name] not in zero]].isna().all()


def test_sums_do_not_depend_on_the_order_of_the_deals(backend):
    rows = [plain(amount=amount, account_id=f"C{i % 7}", role="sourced") for i, amount in enumerate(AMOUNTS)]
    names = [name for name in ONE_WINDOW if "win_rate" not in name]
    frames = [
        columns(backend, tables_of(*version), {}, made.every_key([AS_OF]), names) for version in (rows, rows[::-1])
    ]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
