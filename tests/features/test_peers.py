"""Percentiles among peers equal their oracle, see nothing of the future, and are the same for one partner alone."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import traits as oracle

from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, build_rows
from partnerml.features._catalog import Peers
from partnerml.features._peers import known_peers, peer_groups

DAY, START = made.DAY, made.START
NAMES = ("partners__latitude__trait__asof", "partners__all__tenure_days__asof")
STATIC = ("partner_type", "country", "latitude")
few, fewer = settings(max_examples=3, **made.quick), settings(max_examples=2, **made.quick)


def catalogue_of(names=NAMES, *, peers, relative=True):
    features = [Feature.parse(f"peers__{name}") for name in names] if relative else []
    return Catalogue((*map(Feature.parse, names), *features), static_traits=STATIC, peers=peers)


def built(backend, tables, lags, keys, catalogue):
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        return build_rows(eco, keys, catalogue=catalogue)


def keys_of(partners, as_of):
    return pd.DataFrame(itertools.product(partners, as_of), columns=["partner_id", "as_of"])


@st.composite
def programmes(draw, as_of):
    """Draw (tables, lags) of ten partners in few groups: ties, nulls, late history, partners that come and go."""
    ids = [f"P{i}" for i in range(10)]
    moment = made.moments(as_of)
    partners = [
        {
            "partner_id": name,
            "joined_at": draw(st.one_of(st.none(), moment)),
            "left_at": draw(st.one_of(st.none(), st.none(), st.none(), moment)),
            "partner_type": draw(st.sampled_from([None, "isv"])),
            "country": draw(st.sampled_from(["DE", "DE", "1:D", None])),
            "latitude": draw(st.sampled_from([None, 1.0, 1.0, 2.0, 0.0, -0.0, -3.5])),
        }
        for name in ids
    ]
    tables = {"partners": partners}
    if draw(st.booleans()):
        past = st.builds(
            lambda who, when, country, latitude: {
                "partner_id": who,
                "valid_from": when,
                "country": country,
                "latitude": latitude,
            },
            st.sampled_from(ids),
            moment,
            st.sampled_from(["DE", "FR", None]),
            st.sampled_from([None, 1.0, 5.0]),
        )
        unique = {"min_size": 1, "max_size": 8, "unique_by": lambda row: (row["partner_id"], row["valid_from"])}
        tables["partner_history"] = draw(st.lists(past, **unique))
    lag = st.sampled_from([dt.timedelta(0), made.TICK, 2 * DAY])
    return tables, {name: draw(lag) for name in ("partners", "partner_history")}


@pytest.mark.parametrize("as_of", [made.MIDNIGHTS, made.OFF_MIDNIGHT])
@few
@given(data=st.data())
def test_equal_to_the_oracle(backend, as_of, data):
    compare(backend, as_of, data)


def compare(backend, as_of, data):
    tables, lags = data.draw(programmes(as_of))
    by = data.draw(st.sampled_from([("partner_type", "country"), ("country",), ()]))
    peers = Peers(by, data.draw(st.integers(2, 4)))
    names = [row["partner_id"] for row in tables["partners"]]
    everyone = built(backend, tables, lags, keys_of(names, as_of), catalogue_of(peers=peers))
    base = everyone.keys.assign(**everyone.X).set_index(["partner_id", "as_of"])
    for (partner_id, moment), row in base.iterrows():
        for name in NAMES:
            column = base[name].xs(moment, level="as_of")
            expected = oracle.percentile(
                lambda who, column=column: None if pd.isna(column[who]) else column[who],
                partner_id,
                moment.to_pydatetime().replace(tzinfo=None),
                tables,
                by=by,
                at_least=peers.at_least,
                lags=lags,
                static=STATIC,
            )
            found = row[f"peers__{name}"]
            same = pd.isna(found) if expected is None else math.isclose(found, expected, abs_tol=1e-12)
            assert same, (name, partner_id, moment, found, expected)


@fewer
@given(drawn=programmes(made.OFF_MIDNIGHT), data=st.data())
def test_one_partner_alone_has_the_percentile_that_it_has_among_all(backend, drawn, data):
    tables, lags = drawn
    names = [row["partner_id"] for row in tables["partners"]]
    catalogue = catalogue_of(peers=Peers(("country",), 2))
    everyone = built(backend, tables, lags, keys_of(names, made.OFF_MIDNIGHT), catalogue)
    chosen = data.draw(st.integers(0, len(everyone) - 1))
    alone = built(backend, tables, lags, everyone.keys.iloc[[chosen]], catalogue)
    pd.testing.assert_frame_equal(alone.X, everyone.X.iloc[[chosen]].reset_index(drop=True))


@pytest.mark.slow
@settings(max_examples=4, **made.quick)
@given(data=st.data())
def test_many_programmes(backend, data):
    compare(backend, data.draw(st.sampled_from([made.MIDNIGHTS, made.OFF_MIDNIGHT])), data)


def line(n, **columns):
    """`n` partners, the i-th at latitude i."""
    return [{"partner_id": f"P{i:02d}", "country": "DE", "latitude": float(i), **columns} for i in range(n)]


def latitudes(backend, partners, *, at_least=3, lags=None, history=None):
    tables = {"partners": partners} | ({"partner_history": history} if history else {})
    catalogue = catalogue_of(NAMES[:1], peers=Peers(("country",), at_least))
    keys = keys_of([row["partner_id"] for row in partners], [START])
    return built(backend, tables, lags, keys, catalogue).X[f"peers__{NAMES[0]}"]


def test_from_0_for_the_lowest_to_100_for_the_highest(backend):
    assert latitudes(backend, line(5)).tolist() == [0, 25, 50, 75, 100]


def test_equal_values_share_their_average_rank(backend):
    partners = line(4)
    partners[1]["latitude"] = partners[2]["latitude"] = 1.5
    assert latitudes(backend, partners).tolist() == [0, 50, 50, 100]
    assert latitudes(backend, [row | {"latitude": 7.0} for row in partners]).tolist() == [50] * 4


def test_a_group_without_enough_values_has_no_percentiles(backend):
    partners = line(5)
    partners[4]["latitude"] = None
    assert latitudes(backend, partners, at_least=4).notna().tolist() == [True] * 4 + [False]
    assert latitudes(backend, partners, at_least=5).isna().all()
    partners[0]["country"] = None
    assert latitudes(backend, partners, at_least=4).isna().all()


def test_who_has_not_joined_or_has_left_is_placed_but_counts_for_nobody_else(backend):
    partners = line(4)
    for moment, column in ((START, "joined_at"), (START - made.TICK, "left_at")):
        others = [row | {column: None} for row in partners]
        others.append({"partner_id": "X", "country": "DE", "latitude": 1.5, column: moment})
        # 2 of the 4 members lie below it
        assert latitudes(backend, others, at_least=4).tolist() == pytest.approx([0, 100 / 3, 200 / 3, 100, 50])
    # once joined, or while still there, it counts
    others[-1] = {"partner_id": "X", "country": "DE", "latitude": 1.5, "left_at": START}
    assert latitudes(backend, others).tolist() == [0, 25, 75, 100, 50]


def test_peers_are_those_of_the_time(backend):
    past = [{"partner_id": f"P{i:02d}", "valid_from": START - DAY, "country": "FR"} for i in range(3)]
    moved = line(6)
    assert latitudes(backend, moved, history=past).tolist() == [0, 50, 100, 0, 50, 100]
    assert latitudes(backend, moved, history=past, lags={"partner_history": DAY}).tolist() == [0, 20, 40, 60, 80, 100]


def login(partner_id, occurred_at, recorded_at=None):
    return {"partner_id": partner_id, "occurred_at": occurred_at, "event_type": "login", "recorded_at": recorded_at}


def test_counts_of_events_are_ranked_as_they_were_seen(backend):
    late = [login("P00", START - DAY, START) for _ in range(9)]
    rows = [login("P01", START - 2 * DAY), login("P02", START - DAY), login("P02", START - 3 * DAY), *late]
    tables = {"partners": line(4), "events": rows}
    catalogue = catalogue_of(("events__all__count__30d",), peers=Peers(("country",), 3))
    data = built(backend, tables, None, keys_of(["P00", "P01", "P02"], [START]), catalogue)
    assert data.X["peers__events__all__count__30d"].tolist() == pytest.approx([100 / 6, 200 / 3, 100])
    # the partner that nobody asked for has none either, and counts all the same
    lags = {"events": 2 * DAY}
    data = built(backend, tables, lags, keys_of(["P01", "P02"], [START]), catalogue)
    assert data.X["peers__events__all__count__30d"].tolist() == pytest.approx([100 / 3, 100])


@fewer
@given(drawn=programmes(made.OFF_MIDNIGHT), data=st.data())
def test_what_becomes_known_later_changes_nothing(backend, drawn, data):
    tables, lags = drawn
    cut = data.draw(st.sampled_from(made.OFF_MIDNIGHT))
    names = [row["partner_id"] for row in tables["partners"]]
    catalogue = catalogue_of(NAMES[:1], peers=Peers(("country",), 2))
    before = built(backend, tables, lags, keys_of(names, [cut]), catalogue)
    changed = {name: [dict(row) for row in rows] for name, rows in tables.items()}
    for row in changed["partners"]:
        if row["left_at"] is None or row["left_at"] + lags["partners"] >= cut:
            row["left_at"] = cut if row["left_at"] is None else None
        if row["joined_at"] is not None and row["joined_at"] + lags["partners"] >= cut:
            row["joined_at"] += 50 * DAY
    past = changed.setdefault("partner_history", [])
    changed["partner_history"] = [row for row in past if row["valid_from"] + lags["partner_history"] < cut]
    changed["partner_history"] += [
        {"partner_id": name, "valid_from": cut - lags["partner_history"], "country": "DE", "latitude": float(i)}
        for i, name in enumerate(names)
        if not any(r["partner_id"] == name and r["valid_from"] == cut - lags["partner_history"] for r in past)
    ]
    after = built(backend, changed, lags, keys_of(names, [cut]), catalogue)
    pd.testing.assert_frame_equal(before.X, after.X)
    # what was known one tick earlier does change something: the test can fail
    for row in changed["partner_history"]:
        if row["valid_from"] + lags["partner_history"] == cut:
            row["valid_from"] -= made.TICK
    earlier = built(backend, changed, lags, keys_of(names, [cut]), catalogue)
    assert not earlier.X.equals(after.X)


def test_a_text_has_no_rank(backend):
    catalogue = catalogue_of(("partners__country__trait__asof",), peers=Peers((), 2))
    with pytest.raises(ConfigError, match="partners__country__trait__asof is a text, and texts have no rank"):
        built(backend, {"partners": line(3)}, None, keys_of(["P00"], [START]), catalogue)


def test_a_list_makes_no_peers(backend):
    partners = [{"partner_id": "A", "verticals": ["retail"]}]
    with contextlib.closing(made.Tables(backend, {"partners": partners})) as eco:
        spine = eco.table("partners").select("partner_id", slot=1, as_of=START)
        with pytest.raises(ConfigError, match=r"peers.by: 'verticals' holds array<string>"):
            peer_groups(eco, Peers(("verticals",), 2), static_traits=("verticals",), rows=spine)


def test_only_columns_that_may_be_known_at_the_time_divide(backend):
    tables = {
        "partners": [{"partner_id": "A", "country": "DE", "partner_type": "isv", "tier": "gold"}],
        "partner_history": [{"partner_id": "A", "valid_from": START, "tier": "gold"}],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        assert known_peers(eco, ("country",)) == Peers(("country",), 20)
        assert known_peers(eco, (), Peers(("tier", "country"), 5)) == Peers(("tier",), 5)
        with pytest.raises(
            ConfigError, match=r"peers.by: 'region' is neither in partner_history nor .* \(country, tier\)"
        ):
            known_peers(eco, ("country",), Peers(("tier", "region"), 5))
        spine = eco.table("partners").select("partner_id", slot=1, as_of=START)
        with pytest.raises(ConfigError, match="'partner_type' is neither in partner_history nor among the traits"):
            peer_groups(eco, Peers(), static_traits=("country",), rows=spine)
