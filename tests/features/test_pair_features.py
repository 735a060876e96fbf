"""Features of assigned pairs are those of the oracle; what routing computes equals them; the future changes none."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import functools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import pairs as oracle

from partnerml.ecosystem import Ecosystem
from partnerml.errors import ConfigError, DataError
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._pair_statistics import partner_facts
from partnerml.features._pairs import _missing, build_pairs, default_pair_features
from partnerml.pairs import FEATURES, LIVE_FEATURES, routing_pairs
from partnerml.synthetic import simulate

DAY, TICK = made.DAY, made.TICK
MIDNIGHT = made.START + 9 * DAY
MOMENTS = (MIDNIGHT, MIDNIGHT + dt.timedelta(hours=12, minutes=30), made.START + 31 * DAY + TICK)
PARTNERS = ("A", "B", "C")
LEADS = ("L1", "L2", "L3", "L4")
CATALOGUE = Catalogue(tuple(Feature.parse(name) for name in FEATURES))

COUNTRIES = st.sampled_from([None, "DE", "DE", "FR"])
REGIONS = st.sampled_from([None, "DE-BE", "DE-BY", "FR-IDF"])
CODES = st.sampled_from([None, "10115", "10-117 ", "1", "80331", "ec1a 1bb"])
VERTICALS = st.sampled_from(["retail", "retail.grocery", "retail.grocery.fresh", "Retail.Fashion", "public.education"])
POINTS = st.sampled_from([(None, None), (52.5, 13.4), (52.6, 13.1), (48.1, 11.6), (-33.9, 151.2), (None, 13.0)])
AMOUNTS = st.sampled_from([None, 0.0, 50.0, 100.0, 2999.99, 3000.0, 3000.01, 1e7])
TIMES = made.moments(MOMENTS, before=40)
SPANS = st.sampled_from([dt.timedelta(0), TICK, DAY, 9 * DAY, 30 * DAY])


def lists(items, size=3):
    return st.one_of(st.none(), st.lists(items, max_size=size))


def records(count, **columns):
    """Draw rows whose columns are drawn apart from each other."""
    return st.integers(0, count).flatmap(lambda n: st.lists(st.fixed_dictionaries(columns), min_size=n, max_size=n))


def _place(row):
    latitude, longitude = row.pop("point")
    return {**row, "latitude": latitude, "longitude": longitude}


def _numbered(name, rows):
    return [{name: f"{name[0].upper()}{i}", **row} for i, row in enumerate(rows)]


def _ended(row, begin, *, after):
    """Give a row of deals or assignments its end, where it has one."""
    row["closed_at"] = None if row.get("outcome") in (None, "open") else row[begin] + after
    delay = row.pop("closed_delay")
    row["closed_recorded_at"] = None if delay is None or row["closed_at"] is None else row["closed_at"] + delay
    return row


@st.composite
def partners(draw):
    columns = {
        "country": COUNTRIES,
        "region": REGIONS,
        "postal_code": CODES,
        "point": POINTS,
        "verticals": lists(VERTICALS),
        "languages": lists(st.sampled_from(["de", "en", "EN-gb", "fr"])),
        "joined_at": st.one_of(st.none(), TIMES),
        "max_open_leads": st.sampled_from([None, 0, 5]),
    }
    rows = draw(st.lists(st.fixed_dictionaries(columns), min_size=len(PARTNERS), max_size=len(PARTNERS)))
    now = [{"partner_id": name, **_place(row)} for name, row in zip(PARTNERS, rows, strict=True)]
    past = draw(records(6, partner_id=st.sampled_from(PARTNERS), valid_from=TIMES, **columns))
    distinct = {(row["partner_id"], row["valid_from"]): _place(row) for row in past}
    return now, list(distinct.values())


@st.composite
def deals(draw):
    rows = draw(
        records(
            24,
            partner_id=st.sampled_from([*PARTNERS, None]),
            registered_at=TIMES,
            outcome=st.sampled_from(["open", "won", "won", "lost", "cancelled"]),
            lead_id=st.sampled_from([None, None, *LEADS[:2]]),
            vertical=st.one_of(st.none(), VERTICALS),
            country=COUNTRIES,
            amount=AMOUNTS,
            recorded_at=st.one_of(st.none(), TIMES),
            closed_delay=made.DELAYS,
        )
    )
    return _numbered("deal_id", [_ended(row, "registered_at", after=draw(SPANS)) for row in rows])


@st.composite
def assignments(draw):
    rows = draw(
        records(
            16,
            lead_id=st.sampled_from(LEADS),
            partner_id=st.sampled_from(PARTNERS),
            assigned_at=st.one_of(TIMES, st.sampled_from(MOMENTS)),
            response=st.sampled_from([None, "accepted", "accepted", "declined", "expired"]),
            outcome=st.sampled_from([None, "open", "won", "lost", "cancelled"]),
            amount=AMOUNTS,
            closed_delay=made.DELAYS,
        )
    )
    for row in rows:
        delay = draw(made.DELAYS)
        row["responded_at"] = None if row["response"] is None or delay is None else row["assigned_at"] + delay
        _ended(row, "assigned_at", after=draw(SPANS))
    key = lambda row: (row["lead_id"], row["partner_id"], row["assigned_at"])  # noqa: E731
    return list({key(row): row for row in rows}.values())


@st.composite
def worlds(draw):
    """Draw (tables, lags)."""
    now, past = draw(partners())
    one = st.sampled_from(PARTNERS)
    maybe = st.one_of(st.none(), TIMES)
    columns = {"vertical": st.one_of(st.none(), VERTICALS), "country": COUNTRIES, "region": REGIONS, "amount": AMOUNTS}
    columns |= {"postal_code": CODES, "point": POINTS, "languages": lists(st.sampled_from(["de", "en", "ja"]))}
    columns["required_certifications"] = lists(st.sampled_from(["core", "cloud", "other"]))
    columns["source_partner_id"] = st.sampled_from([None, "A", "B", "left long ago"])
    leads = draw(st.lists(st.fixed_dictionaries(columns), min_size=len(LEADS), max_size=len(LEADS)))
    tables = {
        "partners": now,
        "leads": [
            {"lead_id": name, "created_at": made.START, **_place(row)} for name, row in zip(LEADS, leads, strict=True)
        ],
        "deals": draw(deals()),
        "assignments": draw(assignments()),
        "certifications": draw(
            records(
                8,
                partner_id=one,
                certification=st.sampled_from(["core", "cloud"]),
                earned_at=TIMES,
                expires_at=maybe,
                revoked_at=maybe,
                recorded_at=maybe,
            )
        ),
        "territories": [
            _place(row)
            for row in draw(
                records(
                    8,
                    partner_id=one,
                    country=COUNTRIES,
                    region=REGIONS,
                    postal_prefix=st.sampled_from([None, None, "1", "101", "EC1"]),
                    point=POINTS,
                    radius_km=st.sampled_from([None, None, 0.0, 100.0, 600.0]),
                    verticals=lists(VERTICALS, 2),
                    valid_from=maybe,
                    valid_to=maybe,
                )
            )
        ],
    }
    if past:
        tables["partner_history"] = past
    if draw(st.booleans()) and tables["deals"]:
        tables["deal_partners"] = draw(made.shares(tables["deals"]))
        tables["deal_partners"] = [row for row in tables["deal_partners"] if row["partner_id"] in PARTNERS]
    lag = st.sampled_from([dt.timedelta(0), dt.timedelta(0), TICK, dt.timedelta(hours=12), 2 * DAY])
    return tables, {name: draw(lag) for name in ("deals", "assignments", "certifications", "partner_history")}


def pairs_of(lead_ids=LEADS, partner_ids=PARTNERS, moments=MOMENTS):
    rows = [(lead, partner, moment) for lead in lead_ids for partner in partner_ids for moment in moments]
    return pd.DataFrame(rows, columns=["lead_id", "partner_id", "assigned_at"])


class Tables(made.Tables):
    """As the real ecosystem does, looks a table up once."""

    def __init__(self, backend, tables, lags=None):
        super().__init__(backend, tables, lags)
        self.table = functools.cache(super().table)


def built(backend, tables, lags=None, *, pairs=None, catalogue=CATALOGUE):
    with contextlib.closing(Tables(backend, tables, lags)) as eco:
        usable = [name for name in catalogue.names if _missing(eco, name) is None]
        return build_pairs(eco, pairs_of() if pairs is None else pairs, catalogue=catalogue.only(usable))


def check(backend, tables, lags):
    data = built(backend, tables, lags)
    for i, (lead_id, partner_id, moment) in enumerate(data.keys.itertuples(index=False)):
        naive = moment.to_pydatetime().replace(tzinfo=None)
        for name in data.X.columns:
            expected = oracle.feature(name, lead_id, partner_id, naive, tables, lags)
            assert same(data.X[name].iloc[i], expected), (name, lead_id, partner_id, naive, data.X[name].iloc[i])


def same(found, expected):
    if expected is None or math.isnan(found):
        return expected is None and math.isnan(found)
    # the chord and the haversine formula agree to a millimetre
    return math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-6)


@pytest.mark.slow
@settings(max_examples=5, **made.quick)
@given(worlds())
def test_equal_to_the_oracle(backend, drawn):
    check(backend, *drawn)


def changed_from(tables, lags, cut, *, live):
    """Change all that is known only from `cut` on, and add rows of that kind; what is live up to the assignment."""
    changed = copy.deepcopy(tables)
    zero = dt.timedelta(0)

    def seen(row, moment, recorded, table):
        given = row.get(recorded)
        return max(row[moment], given if given is not None else row[moment] + lags.get(table, zero))

    for row in changed["deals"]:
        registered = seen(row, "registered_at", "recorded_at", "deals")
        closed = None if row["closed_at"] is None else seen(row, "closed_at", "closed_recorded_at", "deals")
        if closed is None or max(registered, closed) >= cut:
            later = max(cut, row["registered_at"]) + DAY
            row |= {"outcome": "won", "closed_at": later, "closed_recorded_at": later, "amount": 7777.0}
            row |= {"vertical": "retail.grocery", "country": "DE"} if registered >= cut else {}
    for row in changed["assignments"]:
        closed = None if row["closed_at"] is None else seen(row, "closed_at", "closed_recorded_at", "assignments")
        if closed is None or max(closed, row["assigned_at"]) >= cut:
            later = max(cut, row["assigned_at"]) + DAY
            row |= {"outcome": "lost", "closed_at": later, "closed_recorded_at": later, "amount": 1.0}
        if live and row["response"] is not None and row["responded_at"] is not None and row["responded_at"] >= cut:
            row |= {"response": "withdrawn", "responded_at": max(cut, row["assigned_at"]) + TICK}
    _change_partners(changed, lags, cut, seen)
    later = [dict(row, assigned_at=cut + DAY, responded_at=None) for row in changed["assignments"][:2]]
    kept = [row for row in changed["assignments"] if row["assigned_at"] < cut or not live]
    changed["assignments"] = kept + [row for row in later if live]
    return changed


def _change_partners(changed, lags, cut, seen):
    history = changed.get("partner_history", [])
    for row in history:
        if row["valid_from"] + lags["partner_history"] >= cut:
            row |= {"country": "FR", "verticals": ["public"], "latitude": 0.0, "longitude": 0.0, "max_open_leads": 77}
    for row in changed["partners"]:
        row |= {"max_open_leads": 99, "tier": "gold"}
    certifications = changed["certifications"]
    for row in certifications:
        if row["revoked_at"] is not None and row["revoked_at"] + lags["certifications"] >= cut:
            row["revoked_at"] = None
        if seen(row, "earned_at", "recorded_at", "certifications") >= cut:
            row |= {"certification": "other", "expires_at": None}
    for row in changed["territories"]:
        if row["valid_from"] is not None and row["valid_from"] > cut:
            row |= {"country": "JP", "radius_km": 1.0}
        if row["valid_to"] is not None and row["valid_to"] > cut:
            row["valid_to"] = None


@settings(max_examples=3, **made.quick)
@given(worlds(), st.sampled_from(MOMENTS[1:]), st.booleans())
def test_the_future_changes_no_feature(backend, drawn, assigned_at, live):
    """Nothing known from midnight on changes what is as of midnight; nothing from the assignment on, the load."""
    tables, lags = drawn
    cut = assigned_at if live else assigned_at.replace(hour=0, minute=0, second=0, microsecond=0)
    names = LIVE_FEATURES if live else [name for name in FEATURES if name not in LIVE_FEATURES]
    pairs, catalogue = pairs_of(moments=[assigned_at]), CATALOGUE.only(names)
    before = built(backend, tables, lags, pairs=pairs, catalogue=catalogue).X
    changed = changed_from(tables, lags, cut, live=live)
    after = built(backend, changed, lags, pairs=pairs, catalogue=catalogue).X
    pd.testing.assert_frame_equal(after, before)


def small(**tables):
    """Three partners, one lead and what else is given."""
    lead = {"lead_id": "L1", "created_at": made.START, "vertical": "retail", "country": "DE", "amount": 5000.0}
    return {"partners": [{"partner_id": name} for name in PARTNERS], "leads": [lead], **tables}


def one(backend, tables, moments, *names, partner_ids=("A",), lags=None):
    """The values of features in the order of moments and partners."""
    pairs = pairs_of(["L1"], partner_ids, moments)
    found = built(backend, tables, lags, pairs=pairs, catalogue=Catalogue(tuple(map(Feature.parse, names)))).X
    return [value for name in names for value in found[name]]


def test_what_closed_just_before_midnight_counts(backend):
    """So the test of leaks can fail."""
    closed = {"A": MIDNIGHT - TICK, "B": MIDNIGHT, "C": MIDNIGHT + TICK}
    deal = {"registered_at": made.START, "outcome": "won"}
    tables = small(deals=[{"deal_id": p, "partner_id": p, "closed_at": at, **deal} for p, at in closed.items()])
    moment = MIDNIGHT + dt.timedelta(hours=5)
    found = one(backend, tables, [moment], "pair__all__won__ever", partner_ids=PARTNERS)
    assert found == [1.0, 0.0, 0.0]


def test_what_is_valid_at_midnight(backend):
    """A certificate until it expires or its end is known; a territory from its first moment to before its last."""
    ends = {"A": {"expires_at": MIDNIGHT}, "B": {"expires_at": MIDNIGHT + TICK}, "C": {"revoked_at": MIDNIGHT - TICK}}
    earned = {"certification": "core", "earned_at": made.START, "recorded_at": made.START}
    spans = {"A": {"valid_to": MIDNIGHT}, "B": {"valid_from": MIDNIGHT}, "C": {"valid_from": MIDNIGHT + TICK}}
    tables = small(
        certifications=[{"partner_id": name, **earned, **end} for name, end in ends.items()],
        territories=[{"partner_id": name, **span} for name, span in spans.items()],
    )
    tables["leads"][0]["required_certifications"] = ["core"]
    names = "pair__certification__coverage__asof", "pair__territory__level__asof"
    lags = {"certifications": dt.timedelta(hours=1)}
    found = one(backend, tables, [MIDNIGHT], *names, partner_ids=PARTNERS, lags=lags)
    np.testing.assert_array_equal(found, [0.0, 1.0, 1.0, np.nan, 1.0, np.nan])


def test_who_handed_a_lead_in_is_known_only_where_the_leads_say_it(backend, eco):
    tables = small(partner_history=[])
    assert _missing(eco, "pair__source__own__asof") is None
    with contextlib.closing(Tables(backend, tables)) as few:
        for name in ("pair__source__own__asof", "pair__place__given_km__asof"):
            assert _missing(few, name) == "leads.source_partner_id"
    tables["leads"][0]["source_partner_id"] = "B"
    found = one(backend, tables, [MIDNIGHT], "pair__source__own__asof", partner_ids=PARTNERS)
    assert found == [0.0, 1.0, 0.0]


def test_the_load_is_that_of_the_moment_of_assignment(backend):
    moment = MIDNIGHT + dt.timedelta(hours=5)
    given_ = {"A": moment - TICK, "B": moment, "C": moment + TICK}
    tables = small(assignments=[{"lead_id": "L1", "partner_id": p, "assigned_at": at} for p, at in given_.items()])
    found = one(backend, tables, [moment], "pair__load__open_leads__live", partner_ids=PARTNERS)
    assert found == [1.0, 0.0, 0.0]


def test_a_lead_that_became_a_deal_counts_once(backend):
    deal = {"deal_id": "D1", "partner_id": "A", "registered_at": made.START, "outcome": "won", "lead_id": "L1"}
    deal |= {"closed_at": made.START + DAY, "recorded_at": made.START + 4 * DAY, "vertical": "retail"}
    given_ = {"lead_id": "L1", "partner_id": "A", "assigned_at": made.START, "outcome": "won"}
    given_ |= {"closed_at": made.START + 2 * DAY}
    tables = small(deals=[deal], assignments=[given_])
    days = made.START + 3 * DAY, made.START + 5 * DAY
    # known first through the assignment, so the deal that is recorded later changes nothing
    found = one(backend, tables, days, "pair__all__count__ever", "pair__all__cycle_days__ever")
    assert found == [1.0, 1.0, 2.0, 2.0]


def test_rates_are_drawn_from_the_cell_to_the_partner_to_everybody(backend):
    def deal(i, partner, vertical, outcome):
        row = {"deal_id": f"D{i}", "partner_id": partner, "registered_at": made.START, "vertical": vertical}
        return {**row, "outcome": outcome, "closed_at": made.START + DAY}

    rows = [
        ("A", "retail.grocery", "won"),
        ("A", "retail.fashion", "lost"),
        ("A", "public", "won"),
        ("B", None, "lost"),
    ]
    tables = small(deals=[deal(i, *row) for i, row in enumerate(rows)])
    tables["leads"][0]["vertical"] = "Retail.Grocery"
    partner = (2 + 10 * 2 / 4) / (3 + 10)
    industry = (1 + 10 * partner) / (2 + 10)
    expected = (1 + 10 * industry) / (1 + 10)
    (found,) = one(backend, tables, [MIDNIGHT], "pair__vertical__win_rate__ever")
    assert found == pytest.approx(expected, rel=1e-14)


@pytest.fixture(scope="module")
def world():
    return simulate(partners=60, start="2025-01-01", months=7, seed=5)


@pytest.fixture(scope="module")
def eco(world):
    with Ecosystem.from_frames(now=world.end, **world.tables) as opened:
        yield opened


@pytest.fixture(scope="module")
def data(eco):
    names = ("partners__all__tenure_days__asof", "events__all__count__30d", "partners__country__trait__asof")
    features = tuple(Feature.parse(name) for name in (*names, *FEATURES))
    return build_pairs(eco, catalogue=Catalogue(features, static_traits=("country",)))


def test_routing_computes_what_training_built(eco):
    """Of random leads with random partners at random moments of two days."""
    rng = np.random.default_rng(0)
    leads = {row["lead_id"]: row for row in eco.table("leads").to_pyarrow().to_pylist()}
    partners = sorted(eco.table("partners").to_pyarrow()["partner_id"].to_pylist())
    days = pd.DatetimeIndex(["2025-03-04", "2025-07-21"])
    drawn = pd.DataFrame({"lead_id": rng.choice(list(leads), 80), "partner_id": rng.choice(partners, 80)})
    drawn["assigned_at"] = days[rng.integers(0, 2, 80)] + pd.to_timedelta(rng.integers(0, 86_400, 80), unit="s")
    trained = build_pairs(eco, drawn.drop_duplicates(), catalogue=CATALOGUE)
    facts = {day: partner_facts(eco, as_of=day.to_pydatetime()) for day in days.tz_localize("UTC")}
    names = list(FEATURES)
    for key, expected in zip(trained.keys.itertuples(index=False), trained.X.to_numpy(), strict=True):
        known = facts[key.as_of.floor("D")]
        assert list(known.partner_id) == partners
        row = np.array([partners.index(key.partner_id)])
        held = expected[[names.index("pair__load__open_leads__live")]]
        among_all = routing_pairs(leads[key.lead_id], known, np.resize(held, len(known)), names)[row]
        alone = routing_pairs(leads[key.lead_id], known, held, names, rows=row)
        for found in (among_all, alone):
            np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-12)


def test_rows_and_partner_features_of_the_day(eco, data):
    made_ = eco.table("assignments").to_pyarrow().to_pandas()
    assert len(data) == len(made_)
    assert list(data.keys) == ["lead_id", "partner_id", "as_of"]
    assert data.keys.equals(data.keys.sort_values(["as_of", "lead_id", "partner_id"], ignore_index=True))
    # the partner's tenure is that of midnight, through the engine as through the pairs
    tenure = data.X["partners__all__tenure_days__asof"]
    np.testing.assert_allclose(tenure, data.X["pair__all__tenure_days__asof"], rtol=0, atol=1e-9)
    assert data.X["events__all__count__30d"].sum() > 0
    assert isinstance(data.X["partners__country__trait__asof"].dtype, pd.CategoricalDtype)
    assert [info.name for info in data.dictionary] == list(data.X)


def test_the_oracle_on_the_simulated_world(world, data):
    naive = {name: _naive(table) for name, table in world.tables.items()}
    rows = np.random.default_rng(1).choice(len(data), 25, replace=False)
    for i in rows:
        key = data.keys.iloc[i]
        moment = key["as_of"].to_pydatetime().replace(tzinfo=None)
        for name in ("pair__vertical__win_rate__ever", "pair__load__share__live", "pair__territory__level__asof"):
            expected = oracle.feature(name, key["lead_id"], key["partner_id"], moment, naive)
            assert same(data.X[name].iloc[i], expected), (name, tuple(key))


def _naive(table):
    rows = table.to_pylist()
    return [{k: v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v for k, v in row.items()} for row in rows]


def test_until_leaves_out_what_was_assigned_later(eco, data):
    early = build_pairs(eco, catalogue=CATALOGUE.only(["pair__place__level__asof"]), until="2025-04-01")
    assert 0 < len(early) < len(data)
    assert early.keys["as_of"].max() < pd.Timestamp("2025-04-01", tz="UTC")


def test_the_order_of_rows_and_the_zone_do_not_matter(eco, data):
    catalogue = CATALOGUE.only(["pair__size__win_rate__ever", "pair__load__open_leads__live"])
    keys = data.keys.rename(columns={"as_of": "assigned_at"}).sample(frac=1.0, random_state=0)
    keys["assigned_at"] = keys["assigned_at"].dt.tz_convert("Asia/Tokyo")
    other = build_pairs(eco, keys, catalogue=catalogue)
    pd.testing.assert_frame_equal(other.X, data.X[list(catalogue.names)], check_exact=True)
    pd.testing.assert_frame_equal(other.keys, data.keys)


def test_no_pairs_are_an_empty_dataset(eco):
    features = ("events__all__count__30d", "pair__vertical__win_rate__ever", "pair__load__open_leads__live")
    none = build_pairs(eco, pairs_of([], [], []), catalogue=Catalogue(tuple(map(Feature.parse, features))))
    assert len(none) == 0
    assert list(none.X) == list(features)


def test_defaults_are_what_the_tables_allow(backend, eco):
    assert default_pair_features(eco) == tuple(name for name in FEATURES if not name.endswith("__won__ever"))
    with contextlib.closing(Tables(backend, small())) as few:
        assert default_pair_features(few) == ()
    tables = small(territories=[{"partner_id": "A"}], partner_history=[])
    tables["partners"][0]["country"] = "DE"
    with contextlib.closing(Tables(backend, tables)) as some:
        assert default_pair_features(some) == ("pair__place__level__asof", "pair__territory__level__asof")


def test_what_is_wrong_is_said(backend, eco, data):
    catalogue = CATALOGUE.only(["pair__place__level__asof"])
    keys = data.keys.rename(columns={"as_of": "assigned_at"}).head(3)
    with pytest.raises(DataError, match="1 row\\(s\\) come twice, first \\('L"):
        build_pairs(eco, pd.concat([keys, keys.head(1)]), catalogue=catalogue)
    with pytest.raises(DataError, match="3 lead\\(s\\) are not in leads, first 'xL"):
        build_pairs(eco, keys.assign(lead_id="x" + keys["lead_id"]), catalogue=catalogue)
    with pytest.raises(DataError, match="1 partner\\(s\\) are not in partners, first 'nobody'"):
        build_pairs(eco, keys.assign(partner_id="nobody"), catalogue=catalogue)
    with pytest.raises(DataError, match="no column assigned_at; lead_id, partner_id, assigned_at are needed"):
        build_pairs(eco, keys.drop(columns="assigned_at"), catalogue=catalogue)
    for tables, problem in (
        ({"partners": [{"partner_id": "A"}]}, "need the table leads"),
        (small(), "pair__place__level__asof: it needs traits.country, which is not there"),
    ):
        with contextlib.closing(Tables(backend, tables)) as few, pytest.raises(ConfigError, match=problem):
            build_pairs(few, pairs_of(["L1"], ["A"]), catalogue=catalogue)
