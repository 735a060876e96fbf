"""Who may get a lead: equal to the plain oracle for any partners and leads; the funnel and the words of a refusal."""

import contextlib
import datetime as dt
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import eligibility as oracle
from tests.routing.made_up import AS_OF, snapshot
from tests.routing.situations import names, situation

from partnerml.routing import _eligibility
from partnerml.routing._decision import Removed
from partnerml.routing._eligibility import Failed, eligible, why_not
from partnerml.routing._rules import RULES, rules_of

TICK, DAY = dt.timedelta(microseconds=1), dt.timedelta(days=1)
DAWN = AS_OF - 30 * DAY
HOURS = st.integers(-30, 30).map(lambda hours: AS_OF + dt.timedelta(hours=hours))
CODES = ("manufacturing", "manufacturing.automotive", "manufacturing.automotive.parts", "manufacturingx", "retail")
PLACES = (("DE", None), ("DE", "DE-BY"), (None, "DE-BE"), ("FR", None), (None, None))
POSTAL = ("80331", "80 3-31", "10115", "8", None)


def maybe(strategy):
    return st.one_of(st.none(), strategy)


def sparse(**columns):
    """Rows in which any column may be null."""
    return st.fixed_dictionaries({name: maybe(strategy) for name, strategy in columns.items()})


CIRCLE = {"latitude": st.sampled_from([48.1, 52.5]), "longitude": st.sampled_from([11.6, 13.4])}
PARTNERS = st.lists(
    sparse(
        joined_at=HOURS,
        left_at=HOURS,
        paused_until=HOURS,
        flags=st.lists(st.sampled_from(["compliance", "esg"]), max_size=2),
        verticals=st.lists(st.sampled_from(CODES), max_size=2),
        languages=st.lists(st.sampled_from(["en", "de", "EN-gb"]), max_size=2),
        min_deal_amount=st.sampled_from([0.0, 100.0, 1000.0]),
        max_deal_amount=st.sampled_from([100.0, 1000.0]),
        tier=st.sampled_from(["gold", "silver", "other"]),
        capacity_per_day=st.integers(0, 2),
        capacity_per_week=st.integers(0, 3),
        max_open_leads=st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)
AREAS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(PLACES),
        sparse(
            postal_prefix=st.sampled_from(["80", "1", "80331"]),
            radius_km=st.sampled_from([5.0, 300.0, 600.0]),
            verticals=st.lists(st.sampled_from(CODES), max_size=2),
            exclusive=st.booleans(),
            valid_from=HOURS,
            valid_to=HOURS,
            **CIRCLE,
        ),
    ),
    max_size=6,
)
CERTIFICATIONS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["core", "cloud"]), HOURS, maybe(HOURS), maybe(HOURS)), max_size=6
)
LEADS = st.builds(
    lambda place, columns: {**columns, "country": place[0], "region": place[1]},
    st.sampled_from(PLACES),
    sparse(
        postal_code=st.sampled_from([code for code in POSTAL if code]),
        vertical=st.sampled_from([*CODES, "Retail", "mining"]),
        amount=st.sampled_from([0.0, 100.0, 500.0, 5000.0]),
        languages=st.lists(st.sampled_from(["de", "en_US", "ja"]), min_size=1, max_size=2),
        required_certifications=st.lists(st.sampled_from(["core", "cloud", "never"]), min_size=1, max_size=2),
        excluded_partners=st.lists(st.sampled_from(["p0", "p1", "nobody"]), min_size=1, max_size=2),
        consent=st.booleans(),
        **CIRCLE,
    ),
)
RESTRICTED = ("territory", "vertical", "language", "deal_size", "tier")


@st.composite
def settings_of(draw, ids):
    """The moment, and what the configuration and the ledger say by then."""
    return {
        "now": AS_OF + dt.timedelta(hours=draw(st.integers(-2, 2))),
        "flags": draw(st.sampled_from([["compliance"], ["esg", "compliance"], []])),
        "tiers": draw(st.sampled_from([{}, {"gold": 500.0}, {"silver": 500.0}, {"gold": 1000.0, "silver": 100.0}])),
        "missing": draw(st.dictionaries(st.sampled_from(RESTRICTED), st.sampled_from(["pass", "fail"]))),
        "had": draw(st.lists(st.sampled_from(ids), max_size=2)),
        "load": {partner: draw(st.tuples(*[st.integers(0, 3)] * 3)) for partner in ids},
    }


@st.composite
def worlds(draw):
    """Tables, a lead, and what the configuration and the ledger say, as the oracle takes them."""
    partners = [{"partner_id": f"p{i}", **row} for i, row in enumerate(draw(PARTNERS))]
    ids = [partner["partner_id"] for partner in partners]
    areas = [{"partner_id": f"p{i}", "country": place[0], "region": place[1], **row} for i, place, row in draw(AREAS)]
    held = [
        {"partner_id": f"p{i}", "certification": name, "earned_at": a, "expires_at": b, "revoked_at": c}
        for i, name, a, b, c in draw(CERTIFICATIONS)
    ]
    return {
        "partners": partners,
        "territories": [row for row in areas if row["partner_id"] in ids],
        "certifications": [row for row in held if row["partner_id"] in ids],
        **draw(settings_of(ids)),
    }


@st.composite
def histories(draw):
    """Tables, and several leads that come one after the other, each at a moment and with settings of its own."""
    world = draw(worlds())
    ids = [partner["partner_id"] for partner in world["partners"]]
    return world, draw(st.lists(st.tuples(settings_of(ids), LEADS), min_size=2, max_size=4))


def of_world(world, lead, known=None):
    """The same as a situation."""
    return situation(
        {name: value for name, value in lead.items() if value is not None},
        moment=world["now"],
        load=world["load"],
        had=world["had"],
        config={
            "flags": world["flags"],
            "tiers": world["tiers"],
            "rules": {name: {"missing": missing} for name, missing in world["missing"].items()},
        },
        known=known,
        partners=world["partners"],
        territories=world["territories"],
        certifications=world["certifications"],
    )


@contextlib.contextmanager
def by_rows():
    """Rules are asked of rows from the first one on, as where few partners are left."""
    with mock.patch.object(_eligibility, "_FEW", 0):
        yield


@settings(max_examples=200)
@given(worlds(), LEADS)
def test_rules_say_what_the_oracle_says(world, lead):
    s = of_world(world, lead)
    rules = rules_of(s.config)
    found = eligible(s, rules)
    wanted, funnel = oracle.route(world, lead)
    assert [tuple(step) for step in found.funnel] == funnel
    assert names(s, found.rows) == wanted
    with by_rows():
        again = eligible(of_world(world, lead), rules)
    assert again.funnel == found.funnel
    assert again.rows.tolist() == found.rows.tolist()
    for row, partner in enumerate(s.snapshot.partners.partner_id):
        refused = [failed.rule for failed in why_not(s, rules, row)]
        expected = oracle.failing(world, lead, partner)
        assert refused == expected or (not expected and refused == [oracle.LAST])
        assert bool(refused) == (partner not in wanted)
        assert all(failed.evidence for failed in why_not(s, rules, row))


@settings(max_examples=60)
@given(worlds(), LEADS, LEADS)
def test_what_a_partner_reads_says_nothing_of_the_lead(world, lead, other):
    """Of two leads that it may not have for one reason it reads the same, whatever sets them apart."""
    cases = [of_world(world, each) for each in (lead, other)]
    for row, _ in enumerate(cases[0].snapshot.partners.partner_id):
        one, two = (why_not(s, rules_of(s.config), row, audience="partner") for s in cases)
        assert [failed.rule for failed in one] == [
            failed.rule for failed in why_not(cases[0], rules_of(cases[0].config), row)[:1]
        ]
        if one and two and one[0].rule == two[0].rule:
            assert one == two


def test_a_partner_reads_its_own_side():
    partners = [
        {"verticals": ["retail"]},
        {"languages": ["de", "fr"]},
        {"min_deal_amount": 5000.0},
        {"tier": "silver"},
        {},
        {"flags": ["compliance"]},
    ]
    area = {"partner_id": "p4", "country": "FR"}
    lead = {"country": "DE", "vertical": "mining", "languages": ["it"], "amount": 1813.84}
    s = situation(lead, partners, territories=[area], config={"tiers": {"gold": 1000}})
    read = [why_not(s, rules_of(s.config), row, audience="partner") for row in range(len(partners))]
    assert [(failed.rule, failed.evidence) for (failed,) in read] == [
        ("vertical", "it takes retail"),
        ("language", "it speaks de, fr"),
        ("deal_size", "it takes deals from 5,000.00"),
        ("tier", "its tier is silver"),
        ("territory", "its territories are FR"),
        ("flags", "it has the flag compliance"),
    ]
    closed = situation({**lead, "consent": False}, known=s.snapshot)
    assert [why_not(closed, rules_of(closed.config), row, audience="partner")[0].rule for row in range(6)] == [
        "consent"
    ] * 6


@settings(max_examples=50)
@given(histories())
def test_what_is_kept_of_one_lead_is_not_said_of_another(history):
    world, steps = history
    known = None
    for changed, lead in steps:
        now = {**world, **changed}
        s = of_world(now, lead, known)
        known = s.snapshot
        wanted, funnel = oracle.route(now, lead)
        for asked in (contextlib.nullcontext(), by_rows()):
            with asked:
                found = eligible(s, rules_of(s.config))
            assert [tuple(step) for step in found.funnel] == funnel
            assert names(s, found.rows) == wanted


@settings(max_examples=40)
@given(worlds(), LEADS, st.permutations(oracle.ORDER))
def test_order_changes_the_funnel_and_not_who_is_eligible(world, lead, order):
    s = of_world(world, lead)
    ordered = s.config.model_copy(update={"order": tuple(order)})
    found = eligible(s, rules_of(ordered))
    assert [tuple(step) for step in found.funnel] == oracle.route(world, lead, order=order)[1]
    assert found.rows.tolist() == eligible(s, rules_of(s.config)).rows.tolist()


def test_the_default_order_is_that_of_the_oracle():
    asked = [rule.name for rule in rules_of(situation().config)]
    assert asked == [*oracle.ORDER, oracle.LAST]
    assert set(RULES) - set(asked) == {"business_hours"}


def test_funnel_tells_how_many_each_rule_removes_and_how_many_are_left():
    s = situation({"vertical": "retail"}, [{"flags": ["compliance"]}, {"verticals": ["mining"]}, {}])
    found = eligible(s, rules_of(s.config))
    assert [step for step in found.funnel if step.removed] == [Removed("flags", 1, 2), Removed("vertical", 1, 1)]
    assert found.rows.tolist() == [2]
    assert RULES["vertical"].mask(s).tolist() == [True, False, True]


def test_nobody_is_left_without_partners_who_pass():
    s = situation({"consent": False})
    found = eligible(s, rules_of(s.config))
    assert len(found.rows) == 0
    assert found.funnel[-1] == Removed("exclusive_territory", 0, 0)


def test_exclusive_territory_counts_among_the_eligible_alone():
    areas = [
        {"partner_id": "p0", "country": "DE", "exclusive": True},
        {"partner_id": "p1", "country": "DE", "exclusive": True, "verticals": ["retail"]},
        {"partner_id": "p2", "country": "DE"},
    ]
    known = snapshot([{}, {"paused_until": AS_OF + dt.timedelta(days=9)}, {}], territories=areas)
    s = situation({"country": "DE", "vertical": "retail"}, known=known)
    rules = rules_of(s.config)
    assert names(s, eligible(s, rules).rows) == ["p0"]
    (failed,) = why_not(s, rules, 2)
    assert failed == Failed(
        "exclusive_territory",
        "holds the lead's place exclusively, if one of those left does",
        "the lead is DE, retail, which is held exclusively, and not by this partner",
    )
    assert "p0" not in failed.evidence
    # the one who is paused is told so, and not of the others
    assert [failed.rule for failed in why_not(s, rules, 1)] == ["pause"]
    had = situation({"country": "DE", "vertical": "retail"}, known=known, had=["p0"])
    assert names(had, eligible(had, rules).rows) == ["p2"]


def test_evidence_names_nobody_else():
    partners = [{"tier": "silver", "name": "Other Ltd", "verticals": ["mining"]}, {"verticals": ["retail"]}]
    areas = [{"partner_id": "p0", "country": "FR"}, {"partner_id": "p1", "region": "DE-BY"}]
    s = situation({"vertical": "telecom", "country": "AT"}, partners, territories=areas)
    told = " ".join(failed.evidence for failed in why_not(s, rules_of(s.config), 1))
    assert "DE-BY" in told
    assert "retail" in told
    assert not {"p0", "FR", "mining", "Other", "silver"} & set(told.replace(";", " ").replace(",", " ").split())


def test_thousands_of_partners_are_asked_at_once():
    rng = np.random.default_rng(0)
    countries, codes = ("DE", "FR", "US"), ("retail", "mining", "telecom")
    partners = [{"verticals": [codes[rng.integers(3)]], "country": countries[rng.integers(3)]} for _ in range(2000)]
    areas = [{"partner_id": f"p{rng.integers(2000)}", "country": countries[rng.integers(3)]} for _ in range(3000)]
    world = {
        "now": AS_OF,
        "partners": [{"partner_id": f"p{i}", **row} for i, row in enumerate(partners)],
        "territories": areas,
    }
    lead = {"country": "DE", "vertical": "retail.food"}
    s = situation(lead, partners, territories=areas)
    assert names(s, eligible(s, rules_of(s.config)).rows) == oracle.route(world, lead)[0]


@pytest.mark.parametrize("column", ["valid_from", "valid_to"])
def test_territories_hold_from_their_beginning_until_their_end(column):
    areas = [{"partner_id": "p0", "country": "DE", column: AS_OF}, {"partner_id": "p0", "country": "FR"}]
    inside = AS_OF if column == "valid_from" else AS_OF - dt.timedelta(microseconds=1)
    outside = AS_OF - dt.timedelta(microseconds=1) if column == "valid_from" else AS_OF
    for moment, wanted in ((inside, 1), (outside, 0)):
        s = situation({"country": "DE"}, 1, moment=moment, territories=areas)
        assert len(eligible(s, rules_of(s.config)).rows) == wanted


@pytest.mark.parametrize(
    ("lead", "tables"),
    [
        ({}, {"partners": [{"joined_at": AS_OF}]}),
        ({}, {"partners": [{"left_at": AS_OF}]}),
        ({}, {"partners": [{"paused_until": AS_OF}]}),
        (
            {"required_certifications": ["core"]},
            {"certifications": [{"partner_id": "p0", "certification": "core", "earned_at": AS_OF}]},
        ),
        (
            {"required_certifications": ["core"]},
            {
                "certifications": [
                    {
                        "partner_id": "p0",
                        "certification": "core",
                        "earned_at": DAWN,
                        "expires_at": None,
                        "revoked_at": AS_OF,
                    }
                ]
            },
        ),
        ({"country": "DE"}, {"territories": [{"partner_id": "p0", "country": "DE", "valid_from": AS_OF}]}),
        ({"country": "DE"}, {"territories": [{"partner_id": "p0", "country": "DE", "valid_to": AS_OF}]}),
    ],
)
def test_what_begins_or_ends_does_so_for_the_leads_of_one_snapshot_too(lead, tables):
    known = snapshot(**{"partners": 1, **tables})
    moments = (AS_OF - TICK, AS_OF, AS_OF - TICK, AS_OF + DAY)
    found = [situation(lead, known=known, moment=moment) for moment in moments]
    before, at, again, after = (len(eligible(s, rules_of(s.config)).rows) for s in found)
    assert (before, at) == (again, after)
    assert before != at
