"""Kernels of pairs: what they say of hand-made leads and partners, and that one lead is as good as many pairs."""

from __future__ import annotations

import ast
import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import pairs as oracle

import partnerml.pairs
from partnerml.errors import ConfigError, DataError
from partnerml.features._catalog import Feature
from partnerml.pairs import (
    FEATURES,
    Leads,
    Pairing,
    PartnerFacts,
    distance_km,
    routing_pairs,
    shrunken,
    size_band,
    unit_vectors,
)

MIDNIGHT = dt.datetime(2026, 1, 1)  # noqa: DTZ001 (naive UTC, as inside the engine)
TALLIES = ("closed", "won", "days", "sized", "amount", "all_closed", "all_won", "all_days")


def facts(partners, *, territories=(), certifications=(), cells=()):
    """Make facts of rows as dicts; what is left out is unknown."""
    names = {name for row in partners for name in row} | set(TALLIES)
    columns = {name: [row.get(name, 0.0 if name in TALLIES else None) for row in partners] for name in names}
    columns["partner_id"] = [f"P{i}" for i in range(len(partners))]
    columns["as_of"] = [MIDNIGHT] * len(partners)
    return PartnerFacts.of(
        columns,
        certifications=_columns(certifications, "row", "certification"),
        territories=_columns(territories, *{name for row in territories for name in row} | {"row"}),
        cells=_columns(cells, "row", "dimension", "value", "closed", "won", "days"),
    )


def _columns(rows, *names):
    return {name: [row.get(name) for row in rows] for name in names}


def feature(name, lead, known, held=None):
    return routing_pairs(lead, known, held, [name])[:, 0].tolist()


def same(found, expected):
    np.testing.assert_array_equal(found, np.array(expected, dtype=float))


POINTS = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(POINTS, POINTS)
def test_the_distance_is_that_of_haversine(a, b):
    found = float(distance_km(unit_vectors(*a)[:, None], unit_vectors(*b)[:, None])[0])
    # both formulas lose digits near the antipodes: by a metre there, by a micrometre elsewhere
    expected = oracle._haversine(a, b)
    assert math.isclose(found, expected, abs_tol=1e-3 if expected > 19_000 else 1e-6, rel_tol=1e-12)


def test_distances_that_people_know():
    berlin, paris = unit_vectors([52.52], [13.405]), unit_vectors([48.8566], [2.3522])
    assert distance_km(berlin, paris)[0] == pytest.approx(877.5, abs=0.5)
    assert distance_km(berlin, berlin)[0] == 0.0
    assert np.isnan(distance_km(berlin, unit_vectors([None], [2.0]))[0])


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1))
def test_a_shrunken_rate_lies_between_the_rate_and_its_prior(won, lost, prior):
    rate = shrunken(won, won + lost, prior)
    own = won / (won + lost) if won + lost else prior
    assert min(own, prior) - 1e-12 <= rate <= max(own, prior) + 1e-12
    assert shrunken(0, 0, prior) == pytest.approx(prior, abs=1e-15)
    assert shrunken(3, 4, 0.5, pseudo_count=0) == 0.75


def test_bands_of_sizes_begin_at_1_and_3_of_each_power_of_ten():
    amounts = [None, 0, 99.99, 100, 299, 300, 999, 1000, 3e8, 1e12]
    assert size_band(amounts).tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 14, 14]


def test_similar_verticals_share_their_first_levels():
    known = facts([{"verticals": v} for v in (["retail.grocery"], ["Retail"], ["public", "retail.fashion"], [], None)])
    found = feature("pair__vertical__similarity__asof", {"vertical": "retail.grocery"}, known)
    same(found, [1.0, 0.5, 0.5, np.nan, np.nan])
    same(feature("pair__vertical__similarity__asof", {"vertical": "retail"}, known)[:3], [1.0, 1.0, 1.0])
    same(feature("pair__vertical__similarity__asof", {"vertical": "grocery"}, known)[:3], [0.0, 0.0, 0.0])
    same(feature("pair__vertical__similarity__asof", {}, known)[:3], [np.nan] * 3)


def test_how_near_an_office_is():
    seats = [("DE", "DE-BE", "10115"), ("DE", "DE-BE", "12000"), ("DE", "DE-BY", "80331"), ("FR", None, "10115")]
    columns = ("country", "region", "postal_code")
    known = facts([dict(zip(columns, seat, strict=True)) for seat in (*seats, (None, "DE-BE", None), (None,) * 3)])
    lead = {"country": "DE", "region": "DE-BE", "postal_code": "10-999"}
    same(feature("pair__place__level__asof", lead, known), [3, 2, 1, 0, 2, np.nan])
    same(feature("pair__place__level__asof", {"country": "JP"}, known), [0, 0, 0, 0, 0, np.nan])
    same(feature("pair__place__level__asof", {"postal_code": "10115"}, known), [np.nan] * 6)


TERRITORIES = (
    ([], np.nan),
    ([{"country": "DE"}], 1),
    ([{"country": "FR"}], 0),
    ([{"country": "FR"}, {"country": "DE"}], 1),
    ([{"country": "DE", "region": "DE-BY"}], 0),
    ([{"region": "DE-BE"}, {"country": "DE"}], 2),
    ([{"country": "DE", "postal_prefix": "10"}], 3),
    ([{"country": "FR", "postal_prefix": "10"}], 0),
    ([{"postal_prefix": "101 15"}], 3),
    ([{"postal_prefix": "11"}], 0),
    ([{"latitude": 52.4, "longitude": 13.1, "radius_km": 50.0}], 2),
    ([{"latitude": 52.4, "longitude": 13.1, "radius_km": 5.0}], 0),
    ([{"radius_km": 5000.0}], 0),  # a circle without a centre holds nobody
    ([{"latitude": -52.0, "longitude": -166.0, "radius_km": 30_000.0}], 2),
    ([{"country": "DE", "verticals": ["retail"]}], 1),
    ([{"verticals": ["retail.grocery.fresh", "public"]}], 0),
    ([{"verticals": []}], 1),
)


def test_a_territory_holds_what_all_parts_of_one_of_its_rows_hold():
    known = facts(
        [{} for _ in TERRITORIES],
        territories=[{"row": i, **row} for i, (rows, _) in enumerate(TERRITORIES) for row in rows],
    )
    lead = {"country": "DE", "region": "DE-BE", "postal_code": "10115", "vertical": "retail.grocery"}
    lead |= {"latitude": 52.5, "longitude": 13.4}
    same(feature("pair__territory__level__asof", lead, known), [level for _, level in TERRITORIES])
    # of a lead that says nothing only the row without any condition holds
    same(feature("pair__territory__level__asof", {}, known), [np.nan, *[0] * 15, 1])


def test_coverage_is_the_share_of_what_the_lead_asks_for():
    known = facts(
        [{"languages": ["en-GB", "de"]}, {"languages": ["fr"]}, {"languages": None}],
        certifications=[{"row": 0, "certification": "core"}, {"row": 0, "certification": "core"}],
    )
    lead = {"languages": ["EN", "ja", "en_US"], "required_certifications": ["core", "cloud"]}
    same(feature("pair__language__coverage__asof", lead, known), [0.5, 0.0, np.nan])
    same(feature("pair__certification__coverage__asof", lead, known), [0.5, 0.0, 0.0])
    for asked in (None, []):
        same(feature("pair__certification__coverage__asof", {"required_certifications": asked}, known), [np.nan] * 3)


def test_the_load_needs_a_limit_and_the_open_leads():
    known = facts([{"max_open_leads": limit} for limit in (8, 0, None)])
    same(feature("pair__load__share__live", {}, known, [2, 2, 2]), [0.25, np.nan, np.nan])
    same(feature("pair__load__open_leads__live", {}, known, [2, 0, 1]), [2, 0, 1])
    with pytest.raises(ConfigError, match="load need the number of open leads"):
        feature("pair__load__share__live", {}, known)


def test_rates_of_a_cell_need_that_the_lead_says_which():
    cells = [{"row": 0, "dimension": "country", "value": "DE", "closed": 10, "won": 5, "days": 50}]
    known = facts([{"closed": 10, "won": 5, "days": 50, "all_closed": 20, "all_won": 5, "all_days": 100}], cells=cells)
    partner = (5 + 10 * 0.25) / 20
    assert feature("pair__all__win_rate__ever", {}, known) == [partner]
    assert feature("pair__country__win_rate__ever", {"country": "DE"}, known) == [(5 + 10 * partner) / 20]
    assert feature("pair__country__win_rate__ever", {"country": "FR"}, known) == [pytest.approx(partner)]
    same(feature("pair__country__win_rate__ever", {}, known), [np.nan])
    assert feature("pair__country__count__ever", {"country": "FR"}, known) == [0.0]
    nobody = facts([{}])
    same(feature("pair__all__win_rate__ever", {}, nobody), [np.nan])


def test_who_handed_a_lead_in():
    known = facts([{}, {}])
    same(feature("pair__source__own__asof", {"source_partner_id": " P1"}, known), [0, 1])
    same(feature("pair__source__own__asof", {"source_partner_id": "p1"}, known), [0, 0])  # ids are never folded
    for nobody in ({}, {"source_partner_id": None}, {"source_partner_id": " "}, {"source_partner_id": np.nan}):
        same(feature("pair__source__own__asof", nobody, known), [0, 0])


def test_how_far_away_a_lead_is_that_a_partner_was_given():
    known = facts([{"latitude": 48.0, "longitude": 11.0}, {"latitude": 48.0, "longitude": 11.0}, {}])
    lead = {"latitude": 49.0, "longitude": 11.0, "source_partner_id": "P1"}
    far = feature("pair__place__distance_km__asof", lead, known)
    assert far[0] == far[1] == pytest.approx(111.2, abs=0.1)
    same(feature("pair__place__given_km__asof", lead, known), [far[0], np.nan, np.nan])
    same(feature("pair__place__given_km__asof", lead | {"source_partner_id": None}, known), far)


def test_the_size_of_the_lead_against_what_was_won():
    known = facts([{"sized": 2, "amount": 2000.0}, {"sized": 0, "amount": 0.0}, {"sized": 1, "amount": 0.0}])
    lead = {"amount": 100.0}
    same(feature("pair__size__log_ratio__ever", lead, known), [math.log(0.1), np.nan, np.nan])
    same(feature("pair__size__log_ratio__ever", {"amount": 0.0}, known), [np.nan] * 3)


def drawn(rng, n):
    """Return awkward partners, and leads as columns."""
    pick = lambda *options: [options[i] for i in rng.integers(0, len(options), n)]  # noqa: E731
    columns = {
        "country": pick("DE", "FR", None),
        "region": pick("DE-BE", "FR-IDF", None),
        "postal_code": pick("10115", "80331", "1", None),
        "latitude": pick(52.5, 48.1, None),
        "longitude": pick(13.4, 11.6),
    }
    partners = {
        **columns,
        "verticals": pick(["a.b"], ["a", "c.d.e"], [], None),
        "languages": pick(["de"], ["en", "fr"], None),
        "max_open_leads": pick(1, 5, None),
        "joined_at": pick(MIDNIGHT - dt.timedelta(days=100), None),
        **{name: rng.integers(1, 9, n).astype(float).tolist() for name in TALLIES},
    }
    leads = {
        **columns,
        "vertical": pick("a.b", "a", "c.d", None),
        "amount": pick(50.0, 5000.0, None),
        "languages": pick(["de", "ja"], [], None),
        "required_certifications": pick(["core"], ["core", "cloud"], None),
        "source_partner_id": pick("P0", "P1", "nobody here", None),
    }
    return partners, leads


def test_one_lead_with_many_partners_equals_many_pairs():
    rng = np.random.default_rng(0)
    n = 200
    partners, leads = drawn(rng, n)
    row, values = rng.integers(0, n, 300), {"vertical": ("a", "a.b"), "country": ("DE", "FR"), "size": ("0", "4")}
    cells = {(int(r), d, values[d][r % 2]) for r, d in zip(row, rng.choice(list(values), 300), strict=True)}
    areas = [{"row": int(r), "country": "DE", "postal_prefix": "10", "verticals": [["a"], None][r % 2]} for r in row]
    known = facts(
        [{name: column[i] for name, column in partners.items()} for i in range(n)],
        territories=[*areas, *({"row": int(r), "latitude": 52.0, "longitude": 13.0, "radius_km": 90.0} for r in row)],
        certifications=[{"row": int(r), "certification": ("core", "cloud", "x")[r % 3]} for r in row],
        cells=[
            {"row": r, "dimension": d, "value": v, "closed": 4, "won": 3, "days": 7 + r} for r, d, v in sorted(cells)
        ],
    )
    held = rng.integers(0, 5, n).astype(float)
    names = list(FEATURES)
    lead, partner = rng.integers(0, n, 50), rng.integers(0, n, 50)
    many = Pairing(Leads.of(leads, known, n=n), known, lead, partner, held[partner]).features(names)
    for i, (a, b) in enumerate(zip(lead, partner, strict=True)):
        one = {name: column[a] for name, column in leads.items()}
        all_partners = routing_pairs(one, known, held, names)
        np.testing.assert_allclose(all_partners[b], many[i], rtol=1e-12, atol=0)
        some = np.array([b, (b + 1) % n])
        np.testing.assert_allclose(
            routing_pairs(one, known, held[some], names, rows=some), all_partners[some], rtol=1e-12
        )
    assert not np.isnan(many).all(axis=0).any()  # every feature was seen


def test_nobody_and_nothing():
    known = facts([])
    assert routing_pairs({"vertical": "a"}, known, [], list(FEATURES)).shape == (0, len(FEATURES))
    alone = routing_pairs({}, facts([{}]), [0.0], list(FEATURES))
    assert alone.shape == (1, len(FEATURES))


def test_what_is_wrong_is_said():
    known = facts([{"verticals": ["a"]}])
    with pytest.raises(ConfigError, match="no feature 'pair__x'; there are pair__place__distance_km__asof"):
        routing_pairs({}, known, None, ["pair__x"])
    with pytest.raises(DataError, match="column languages must hold lists of texts, got the text 'de;en'"):
        routing_pairs({"languages": "de;en"}, known, None, ["pair__language__coverage__asof"])
    with pytest.raises(DataError, match="column vertical must hold texts, got \\['a'\\]"):
        routing_pairs({"vertical": ["a"]}, known, None, ["pair__vertical__similarity__asof"])
    with pytest.raises(DataError, match="column amount must hold numbers"):
        routing_pairs({"amount": "much"}, known, None, ["pair__size__log_ratio__ever"])


def test_every_kernel_is_in_the_catalogue():
    for name in FEATURES:
        assert Feature.parse(name).name == name
        assert Feature.parse(name).source == "pair"


def test_routing_needs_no_engine():
    """The kernels import numpy and nothing heavier: neither ibis nor pandas."""
    allowed = {"numpy", "partnerml", "__future__", "dataclasses", "functools", "types", "typing", "collections"}
    for path in Path(partnerml.pairs.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, path.name
            ours = {name.split(".")[1] for name in names if name.startswith("partnerml.")}
            assert ours <= {"pairs", "errors"}, path.name
