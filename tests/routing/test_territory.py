"""Territories: which rows hold a lead, what is lenient, and what fails for want of coordinates alone."""

import datetime as dt

import pytest
from tests.routing.situations import situation

from partnerml.pairs import Pairing
from partnerml.routing._decision import Removed
from partnerml.routing._eligibility import eligible, why_not
from partnerml.routing._rules import rules_of
from partnerml.routing._territory import covers, lacks_coordinates
from partnerml.routing._territory_of_many import Holders

MUNICH = {"latitude": 48.14, "longitude": 11.58}
AUGSBURG = {"latitude": 48.37, "longitude": 10.90}  # 57 km away


def held(lead, area, *, lenient=False):
    """Whether a partner with one row of territories may take a lead."""
    s = situation(lead, 1, territories=[{"partner_id": "p0", **area}])
    return bool(covers(s, lenient=lenient)[0])


@pytest.mark.parametrize(
    ("lead", "area", "wanted"),
    [
        ({}, {}, True),
        ({"country": "de"}, {"country": "DE"}, True),
        ({"country": "AT"}, {"country": "DE"}, False),
        ({"region": "DE-BY"}, {"country": "DE"}, True),
        ({"country": "DE", "region": "DE-BY"}, {"country": "DE", "region": "DE-BE"}, False),
        ({"country": "DE", "postal_code": "80 331"}, {"country": "DE", "postal_prefix": "803"}, True),
        ({"country": "DE", "postal_code": "8"}, {"postal_prefix": "80"}, False),
        ({"vertical": "Manufacturing.Automotive"}, {"verticals": ["manufacturing"]}, True),
        ({"vertical": "manufacturing"}, {"verticals": ["manufacturing.automotive"]}, False),
        ({"vertical": "manufacturingx"}, {"verticals": ["manufacturing"]}, False),
        (MUNICH, {**AUGSBURG, "radius_km": 58.0}, True),
        (MUNICH, {**AUGSBURG, "radius_km": 55.0}, False),
        ({"country": "DE", **MUNICH}, {"country": "AT", **AUGSBURG, "radius_km": 58.0}, False),
        ({"country": "DE", **MUNICH}, {"country": "DE", **AUGSBURG, "radius_km": 58.0, "verticals": ["retail"]}, False),
    ],
)
def test_all_conditions_of_a_row_apply(lead, area, wanted):
    assert held(lead, area) is wanted


@pytest.mark.parametrize(
    ("lead", "area", "wanted"),
    [
        ({}, {"country": "DE"}, True),
        ({}, {"country": "DE", "region": "DE-BY", "postal_prefix": "8", "verticals": ["retail"]}, True),
        ({}, {**AUGSBURG, "radius_km": 1.0}, True),
        ({"country": "FR"}, {"country": "DE", "region": "DE-BY"}, False),
        ({"vertical": "mining"}, {"country": "DE", "verticals": ["retail"]}, False),
        # a circle without a centre is the partner's lack, not the lead's
        (MUNICH, {"radius_km": 10.0}, False),
    ],
)
def test_lenient_means_that_what_the_lead_does_not_say_is_met(lead, area, wanted):
    assert held(lead, area, lenient=True) is wanted
    assert held(lead, area) is False


def test_one_row_is_enough_and_none_means_anywhere():
    areas = [{"partner_id": "p0", "country": "FR"}, {"partner_id": "p0", "country": "DE"}]
    areas += [{"partner_id": "p1", "country": "FR"}]
    assert covers(situation({"country": "DE"}, 3, territories=areas), lenient=False).tolist() == [True, False, True]


def test_who_has_only_rows_that_are_not_valid_may_go_nowhere():
    now = situation().moment
    day = dt.timedelta(days=1)
    areas = [
        {"partner_id": "p0", "country": "DE", "valid_to": now},
        {"partner_id": "p1", "country": "DE", "valid_from": now + day},
        {"partner_id": "p2", "country": "DE", "valid_to": now},
        {"partner_id": "p2", "valid_from": now - day, "valid_to": now + day},
    ]
    s = situation({"country": "DE"}, 4, territories=areas)
    wanted = [False, False, True, True]
    assert covers(s, lenient=False).tolist() == wanted
    assert covers(s, lenient=True).tolist() == wanted
    (among_many,) = Holders(s.snapshot, s.now).of(s.encoded)
    assert (among_many.anywhere | among_many.by_any).tolist() == wanted
    (failed,) = why_not(s, rules_of(s.config), 0)
    assert failed.evidence.startswith("none of its territories is valid at the time; the lead is DE")


def test_those_who_fail_for_want_of_coordinates_are_counted_apart():
    circle = {**MUNICH, "radius_km": 10.0}
    areas = [
        {"partner_id": "p0", "country": "DE", **circle},
        {"partner_id": "p1", "country": "FR", **circle},
        {"partner_id": "p2", **circle},
        {"partner_id": "p2", "country": "DE"},
        {"partner_id": "p3", "radius_km": 10.0},
    ]
    s = situation({"country": "DE"}, 5, territories=areas)
    assert lacks_coordinates(s).tolist() == [True, False, False, True, False]
    found = eligible(s, rules_of(s.config))
    assert [step for step in found.funnel if step.removed] == [
        Removed("territory", 1, 4),
        Removed("territory_no_coordinates", 2, 2),
    ]
    assert found.rows.tolist() == [2, 4]
    told = why_not(s, rules_of(s.config), 0)[0].evidence
    assert told.endswith("it fails for want of coordinates alone")
    assert "DE within 10 km of 48.14, 11.58" in told
    there = situation({"country": "DE", **MUNICH}, 5, known=s.snapshot)
    assert lacks_coordinates(there).tolist() == [False, False, False, True, False]


def test_the_rule_says_what_the_feature_of_pairs_says():
    areas = [
        {"partner_id": "p0", "country": "DE", "region": "DE-BY"},
        {"partner_id": "p1", "country": "DE", "verticals": ["retail"]},
        {"partner_id": "p2", **AUGSBURG, "radius_km": 60.0},
        {"partner_id": "p3", "postal_prefix": "9"},
    ]
    for lead in ({"region": "DE-BY"}, {"country": "DE", "vertical": "retail.food"}, MUNICH, {"postal_code": "90"}):
        s = situation(lead, 5, territories=areas)
        level = Pairing(s.encoded, s.snapshot.facts, 0, slice(None)).features(["pair__territory__level__asof"])[:, 0]
        assert covers(s, lenient=False).tolist() == [x != 0 for x in level]  # NaN: without rows


def test_evidence_tells_the_own_territories_that_are_valid():
    areas = [
        {"partner_id": "p0", "country": "DE", "region": "DE-BY", "postal_prefix": "80", "verticals": ["retail"]},
        {"partner_id": "p0", "country": "AT", "valid_to": situation().moment},
        {"partner_id": "p0", "radius_km": 5.0},
    ]
    s = situation({"country": "FR", "postal_code": "75001", **MUNICH}, 1, territories=areas)
    (failed,) = why_not(s, rules_of(s.config), 0)
    assert failed.words == "covers the lead's place"
    assert failed.evidence == (
        "its territories are DE-BY 80... for retail, within 5 km of an unknown point; the lead is FR, 75001, "
        "at 48.14, 11.58 and does not tell its region, vertical; it fails for want of coordinates alone"
    )
