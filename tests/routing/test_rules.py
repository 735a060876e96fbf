"""The rules one by one: what they say of nulls and edges; switches, order, and rules of users."""

import dataclasses
import datetime as dt
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from tests.routing.made_up import AS_OF
from tests.routing.situations import names, situation

from partnerml.config import RoutingConfig
from partnerml.errors import ConfigError
from partnerml.routing import _rules
from partnerml.routing._eligibility import eligible, why_not
from partnerml.routing._rules import RULES, Rule, register_rule, rules_of

TICK = dt.timedelta(microseconds=1)
DAY = dt.timedelta(days=1)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "rules.md"


def passes(name, lead, partner, **more):
    """Whether one partner passes a rule; where it does not, there are words for it."""
    s = situation(lead, [partner], **more)
    found = bool(RULES[name].mask(s)[0])
    assert found or RULES[name].failed(s, 0)
    return found


@pytest.mark.parametrize(
    ("name", "partner", "wanted"),
    [
        ("membership", {}, True),
        ("membership", {"joined_at": AS_OF}, True),
        ("membership", {"joined_at": AS_OF + TICK}, False),
        ("membership", {"left_at": AS_OF + TICK}, True),
        ("membership", {"left_at": AS_OF}, False),
        ("pause", {"paused_until": AS_OF}, True),
        ("pause", {"paused_until": AS_OF + TICK}, False),
        ("flags", {"flags": ["esg"]}, True),
        ("flags", {"flags": ["esg", "compliance"]}, False),
    ],
)
def test_partners_at_the_edges(name, partner, wanted):
    assert passes(name, {}, partner) is wanted


@pytest.mark.parametrize(
    ("name", "lead", "partner", "wanted"),
    [
        ("consent", {}, {}, True),
        ("consent", {"consent": True}, {}, True),
        ("consent", {"consent": False}, {}, False),
        ("exclusions", {"excluded_partners": ["p0", "nobody"]}, {}, False),
        ("exclusions", {"excluded_partners": ["P0"]}, {}, True),
        ("vertical", {"vertical": "manufacturing.automotive"}, {"verticals": ["manufacturing"]}, True),
        ("vertical", {"vertical": "manufacturing"}, {"verticals": ["manufacturing.automotive"]}, False),
        ("vertical", {"vertical": "manufacturingx"}, {"verticals": ["manufacturing"]}, False),
        ("vertical", {"vertical": "retail"}, {}, True),
        ("language", {"languages": ["en-GB", "ja"]}, {"languages": ["EN"]}, True),
        ("language", {"languages": ["fr"]}, {"languages": ["en", "de"]}, False),
        ("deal_size", {"amount": 100}, {"min_deal_amount": 100.0, "max_deal_amount": 100.0}, True),
        ("deal_size", {"amount": 99}, {"min_deal_amount": 100.0}, False),
        ("deal_size", {"amount": 101}, {"max_deal_amount": 100.0}, False),
        ("deal_size", {}, {}, True),
    ],
)
def test_leads_at_the_edges(name, lead, partner, wanted):
    assert passes(name, lead, partner) is wanted


@pytest.mark.parametrize(
    ("name", "partner"),
    [
        ("vertical", {"verticals": ["retail"]}),
        ("language", {"languages": ["en"]}),
        ("deal_size", {"min_deal_amount": 5.0}),
        ("tier", {"tier": "silver"}),
    ],
)
def test_a_restricted_partner_fails_where_the_lead_says_nothing_unless_configured(name, partner):
    config = {"tiers": {"gold": 500.0}}
    assert passes(name, {}, partner, config=config) is False
    assert passes(name, {}, partner, config={**config, "rules": {name: {"missing": "pass"}}}) is True
    # an unrestricted one passes either way
    assert passes(name, {}, {}, config=config) is True


@pytest.mark.parametrize(
    ("amount", "wanted"),
    [(99, "none silver gold other"), (100, "none silver gold"), (999, "none silver gold"), (1000, "none gold")],
)
def test_large_leads_are_for_high_tiers(amount, wanted):
    tiers = ["none", "silver", "gold", "other"]
    partners = [{"partner_id": tier, "tier": None if tier == "none" else tier} for tier in tiers]
    s = situation({"amount": amount}, partners, config={"tiers": {"silver": 100.0, "gold": 1000.0}})
    assert set(names(s, np.flatnonzero(RULES["tier"].mask(s)))) == set(wanted.split())


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ([], "core: never earned"),
        ([{"earned_at": AS_OF}], ""),
        ([{"earned_at": AS_OF + TICK}], "core: earned only on 2026-06-01 00:00 UTC"),
        ([{"earned_at": AS_OF - DAY, "expires_at": AS_OF + TICK}], ""),
        ([{"earned_at": AS_OF - DAY, "expires_at": AS_OF}], "core: expired on 2026-06-01 00:00 UTC"),
        ([{"earned_at": AS_OF - DAY, "revoked_at": AS_OF, "expires_at": AS_OF + DAY}], "core: revoked on 2026-06-01"),
        ([{"earned_at": AS_OF - DAY, "expires_at": AS_OF}, {"earned_at": AS_OF - DAY}], ""),
    ],
)
def test_certifications_count_on_the_day_of_the_lead(held, wanted):
    rows = [{"partner_id": "p0", "certification": "core", **row} for row in held]
    s = situation({"required_certifications": ["core"]}, [{}, {}], certifications=rows)
    assert RULES["certifications"].mask(s)[0] == (wanted == "")
    assert wanted in RULES["certifications"].failed(s, 0)


def test_every_certification_is_asked_for():
    rows = [{"partner_id": "p0", "certification": name, "earned_at": AS_OF} for name in ("core", "cloud")]
    for asked, wanted in ((["core", "cloud"], True), (["core", "x"], False), (["Core"], False)):
        s = situation({"required_certifications": asked}, 1, certifications=rows)
        assert RULES["certifications"].mask(s)[0] == wanted


@pytest.mark.parametrize("limit", ["capacity_per_day", "capacity_per_week", "max_open_leads"])
@pytest.mark.parametrize(("given", "wanted"), [(0, True), (1, True), (2, False), (3, False)])
def test_each_of_three_limits_is_one(limit, given, wanted):
    load = {
        "p0": [given if name == limit else 9 for name in ("capacity_per_day", "capacity_per_week", "max_open_leads")]
    }
    assert passes("capacity", {}, {limit: 2}, load=load) is wanted
    s = situation({}, [{limit: 2}], load={"p0": (2, 2, 2)})
    assert "2 of 2 leads" in RULES["capacity"].failed(s, 0)


def test_who_had_it_before_does_not_get_it_again():
    s = situation({}, 3, had=["p1", "gone"])
    assert names(s, eligible(s, rules_of(s.config)).rows) == ["p0", "p2"]


def test_business_hours_are_asked_when_switched_on():
    partners = [{"time_zone": "Europe/Berlin"}, {"time_zone": "America/New_York"}, {}]
    noon = AS_OF + dt.timedelta(hours=10)  # 12:00 in Berlin, 06:00 in New York
    config = {"rules": {"business_hours": {"enabled": True}}}
    s = situation({}, partners, moment=noon, config=config)
    found = eligible(s, rules_of(s.config))
    assert names(s, found.rows) == ["p0", "p2"]
    (failed,) = why_not(s, rules_of(s.config), 1)
    assert failed.evidence.startswith("it works mon, tue, wed, thu, fri from 09:00 to 17:00 (America/New_York)")


# switches and order


def test_rules_are_switched_and_ordered_by_name():
    config = RoutingConfig.model_validate(
        {"order": ["capacity", "vertical"], "rules": {"tier": {"enabled": False}, "business_hours": {"enabled": True}}}
    )
    asked = [rule.name for rule in rules_of(config)]
    assert asked[:3] == ["capacity", "vertical", "membership"]
    assert "tier" not in asked
    assert "business_hours" in asked
    assert asked[-1] == "exclusive_territory"


def test_rules_that_narrow_come_last_wherever_they_are_named():
    config = RoutingConfig(order=("exclusive_territory", "pause"))
    asked = [rule.name for rule in rules_of(config)]
    assert (asked[0], asked[-1]) == ("pause", "exclusive_territory")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"order": ["teritory"]},
            "routing.order: there is no rule 'teritory'; did you mean territory? (known: membership,",
        ),
        ({"rules": {"langauge": {}}}, "routing.rules: there is no rule 'langauge'; did you mean language?"),
        ({"order": ["pause", "pause"]}, "routing.order names the rule 'pause' more than once"),
        ({"rules": {"capacity": {"enabled": False}}}, "routing.rules.capacity: it cannot be switched off"),
        ({"rules": {"had_before": {"enabled": False}}}, "no lead is offered to the same partner twice"),
    ],
)
def test_rules_that_cannot_be_are_refused(config, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        rules_of(RoutingConfig.model_validate(config))


# rules of users


@pytest.fixture(autouse=True)
def _own_register(monkeypatch):
    monkeypatch.setattr(_rules, "_ADDED", {})


def only_first(s):
    return np.arange(len(s.snapshot)) == 0


def test_a_rule_of_a_user_is_asked_where_the_configuration_names_it():
    mine = register_rule(Rule("only_first", "is the first", only_first, lambda s, row: f"it is number {row}"))
    assert register_rule(mine) is mine
    silent, named = situation(), situation(config={"order": ["only_first"]})
    assert len(eligible(silent, rules_of(silent.config)).rows) == 3
    rules = rules_of(named.config)
    found = eligible(named, rules)
    assert found.rows.tolist() == [0]
    assert tuple(found.funnel[0]) == ("only_first", 2, 1)
    assert tuple(why_not(named, rules, 2)[0]) == ("only_first", "is the first", "it is number 2")


def test_a_rule_may_narrow_and_count_apart():
    register_rule(
        Rule("only_first", "is the first", only_first, narrows=True, apart={"second": lambda s: ~only_first(s)})
    )
    s = situation({}, [{"paused_until": AS_OF + DAY}, {}, {}], config={"rules": {"only_first": {}}})
    assert eligible(s, rules_of(s.config)).rows.tolist() == [1, 2]
    s = situation(config={"rules": {"only_first": {}}})
    found = eligible(s, rules_of(s.config))
    assert found.rows.tolist() == [0]
    assert [tuple(step) for step in found.funnel[-2:]] == [("only_first", 0, 3), ("second", 2, 1)]


def test_of_two_rules_that_narrow_the_one_that_did_is_told():
    register_rule(Rule("nobody", "is nobody", lambda s: np.zeros(len(s.snapshot), dtype=bool), narrows=True))
    register_rule(Rule("only_first", "is the first", only_first, narrows=True))
    s = situation(config={"order": ["nobody", "only_first"]})
    assert [failed.rule for failed in why_not(s, rules_of(s.config), 2)] == ["only_first"]
    assert why_not(s, rules_of(s.config), 0) == ()


@pytest.mark.parametrize(
    ("returns", "told"),
    [
        (
            lambda s: np.ones(2, dtype=bool),
            "must return an array of bool of shape (3,), one for each partner; got bool",
        ),
        (lambda s: np.ones(3), "got float64 of shape (3,)"),
        (lambda s: None, "got object of shape ()"),
        (lambda s: s.lead.nothing, "rule 'mine' failed: AttributeError: 'Lead' object has no attribute 'nothing'"),
        (lambda s: {}["x"], "rule 'mine' failed: KeyError: 'x'"),
    ],
)
def test_a_rule_of_a_user_that_fails_is_named(returns, told):
    register_rule(Rule("mine", "is mine", returns))
    s = situation(config={"rules": {"mine": {}}})
    with pytest.raises(ConfigError, match=re.escape(told)):
        eligible(s, rules_of(s.config))


def test_where_few_are_left_a_rule_may_be_asked_of_those_alone():
    asked = []

    def odd(s, rows):
        asked.append(rows.tolist())
        return rows % 2 == 1

    everybody = np.arange(16)
    register_rule(Rule("mine", "is odd", lambda s: everybody % 2 == 1, among=odd), replace=True)
    areas = [{"partner_id": f"p{i:02}", "country": "FR" if i > 1 else "DE"} for i in range(16)]
    partners = [{"partner_id": f"p{i:02}"} for i in range(16)]
    s = situation({"country": "DE"}, partners, territories=areas, config={"rules": {"mine": {}}})
    assert names(s, eligible(s, rules_of(s.config)).rows) == ["p01"]
    assert asked == [[0, 1]]
    register_rule(Rule("mine", "is odd", lambda s: everybody % 2 == 1, among=lambda s, rows: rows), replace=True)
    with pytest.raises(ConfigError, match=r"rule 'mine' must return an array of bool of shape \(2,\)"):
        eligible(s, rules_of(s.config))


def test_names_are_taken_once():
    register_rule(Rule("mine", "is mine", only_first))
    other = Rule("mine", "is mine too", only_first)
    with pytest.raises(ConfigError, match="'mine' is registered already; pass replace=True"):
        register_rule(other)
    assert register_rule(other, replace=True) is other
    with pytest.raises(ConfigError, match="'pause' is one of partnerml's own"):
        register_rule(Rule("pause", "is mine", only_first))
    with pytest.raises(ConfigError, match="rule 'mine': passes must be a function of the situation, got None"):
        Rule("mine", "is mine", None)
    with pytest.raises(ConfigError, match="lower-case letters, digits and underscores"):
        Rule("Not Mine", "is mine", only_first)
    with pytest.raises(ConfigError, match="takes a Rule, got function"):
        register_rule(only_first)


@dataclasses.dataclass
class Entry:
    """Stands in for an entry point of an installed package."""

    name: str
    found: object
    value: str = "package:rule"

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_rules_of_packages_are_loaded_when_they_are_named(monkeypatch):
    entries = {
        "theirs": Entry("theirs", Rule("theirs", "is theirs", only_first)),
        "broken": Entry("broken", ImportError("no module named nothing")),
        "wrong": Entry("wrong", Rule("other", "is another", only_first)),
        "none": Entry("none", 5),
    }

    class Found(list):
        @property
        def names(self):
            return set(entries)

    def entry_points(*, group, name=None):
        assert group == "partnerml.rules"
        return Found([entries[name]] if name in entries else [])

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    s = situation(config={"order": ["theirs"]})
    assert eligible(s, rules_of(s.config)).rows.tolist() == [0]
    for name, told in (
        ("broken", "'broken': the entry point package:rule of partnerml.rules cannot be loaded: no module"),
        ("wrong", "must be a Rule of that name, and is the rule 'other'"),
        ("none", "must be a Rule of that name, and is int"),
        ("nobody", "there is no rule 'nobody'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(told)):
            rules_of(RoutingConfig(order=(name,)))


# the page


def test_the_page_tells_every_rule_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(rule.name, rule.words) for rule in RULES.values()]


def test_the_example_of_the_page_runs():
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), namespace)
    s = situation({"source_partner_id": "p1"}, config={"order": ["not_the_source"]})
    assert names(s, eligible(s, rules_of(s.config)).rows) == ["p0", "p2"]
    assert why_not(s, rules_of(s.config), 1)[0].evidence == "it handed the lead in"
