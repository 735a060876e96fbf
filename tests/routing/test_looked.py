"""Leads that are looked at together: what is found of each is what is found of it alone, to the last bit."""

import dataclasses
import datetime as dt
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot
from tests.routing.made_up_close import DAY, close_model

from partnerml.publishing import snapshot_of
from partnerml.routing import Router, Rule, register_rule
from partnerml.routing._lead import Lead
from partnerml.routing._looked import Finds, Looked, Looking, looked_at
from partnerml.routing._opened import Opened
from partnerml.routing._remembered import Memory
from partnerml.routing._situation import Load

pytestmark = pytest.mark.xdist_group("routing-close")
NOW = AS_OF + dt.timedelta(hours=10)
ARRAYS = ("rows", "p", "worth", "free")

COUNTRIES, REGIONS, VERTICALS = ("DE", "FR"), ("DE-BY", "DE-BE", "FR-69"), ("retail", "retail.food", "mining")
PLACE = {
    "country": st.sampled_from(COUNTRIES),
    "region": st.sampled_from(REGIONS),
    "postal": st.sampled_from(("80331", "80", "69001")),
    "latitude": st.sampled_from((48.14, 48.4, 52.5, -0.0)),
    "longitude": st.sampled_from((11.58, 10.9, 13.4)),
}
LEAD = {
    "country": PLACE["country"],
    "region": PLACE["region"],
    "postal_code": PLACE["postal"],
    "latitude": PLACE["latitude"],
    "longitude": PLACE["longitude"],
    "vertical": st.sampled_from((*VERTICALS, "other")),
    "amount": st.sampled_from((10.0, 5_000.0, 80_000.0)),
    "languages": st.sampled_from((["de"], ["fr", "en"], ["xx"])),
    "required_certifications": st.sampled_from((["gold"], ["gold", "silver"], ["none"])),
    "excluded_partners": st.sampled_from((["p0"], ["p1", "p7"])),
    "consent": st.booleans(),
}
PARTNER = {
    "verticals": st.lists(st.sampled_from(VERTICALS), max_size=2, unique=True),
    "languages": st.lists(st.sampled_from(("de", "en", "fr")), max_size=2, unique=True),
    "min_deal_amount": st.sampled_from((100.0, 20_000.0)),
    "max_open_leads": st.integers(0, 4),
    "capacity_per_day": st.integers(1, 3),
    "tier": st.sampled_from(("a", "b")),
    "paused_until": st.sampled_from((AS_OF, AS_OF + dt.timedelta(days=3))),
    "left_at": st.sampled_from((AS_OF, AS_OF + dt.timedelta(days=3))),
}
AREA = {
    "country": PLACE["country"],
    "region": PLACE["region"],
    "postal_prefix": st.sampled_from(("8", "803", "69")),
    "latitude": PLACE["latitude"],
    "longitude": PLACE["longitude"],
    "radius_km": st.sampled_from((5.0, 60.0, 600.0)),
    "verticals": st.lists(st.sampled_from(VERTICALS), max_size=2, unique=True),
    "exclusive": st.booleans(),
    "valid_to": st.sampled_from((AS_OF, AS_OF + dt.timedelta(days=9))),
}


def rows_of(columns, **always):
    return st.lists(st.fixed_dictionaries(always, optional=columns), max_size=12)


def same(found: Looked, wanted: Looked) -> bool:
    alike = all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in ARRAYS)
    return alike and (found.n_eligible, found.funnel) == (wanted.n_eligible, wanted.funnel)


def check(opened, leads, load, *, moment=NOW):
    """Hold leads that are looked at together, in parts of any size, against each of them alone."""
    alone = [looked_at(opened.situation(lead, moment, load), opened.way) for lead in leads]
    looking = Looking(opened, load, moment=moment)
    for size in (len(leads), 3):
        together = [seen for start in range(0, len(leads), size) for seen in looking.at(leads[start : start + size])]
        assert all(same(*pair) for pair in zip(together, alone, strict=True))
    kept = Finds(alone, opened.config.batch.candidates)
    assert all(same(*pair) for pair in zip(kept, alone, strict=True))


@settings(max_examples=40)
@given(
    partners=st.lists(st.fixed_dictionaries({}, optional=PARTNER), min_size=2, max_size=9),
    areas=rows_of(AREA, partner_id=st.sampled_from(("p0", "p1"))),
    leads=st.lists(st.fixed_dictionaries({}, optional=LEAD), min_size=1, max_size=12),
    missing=st.sampled_from(("pass", "fail")),
    above=st.sampled_from((2, 300)),
    objective=st.sampled_from(("win", "value")),
    data=st.data(),
)
def test_whatever_the_rules_read_leads_together_are_as_each_alone(
    partners, areas, leads, missing, above, objective, data
):
    held = [{"partner_id": "p0", "certification": "gold", "earned_at": AS_OF - dt.timedelta(days=9)}]
    config = {
        "objective": objective,
        "tiers": {"a": 1_000.0},
        "first_stage": {"above": above, "keep": min(above, 200)},
        "batch": {"candidates": 3},
        "rules": {"business_hours": {"enabled": True}} | {r: {"missing": missing} for r in ("territory", "vertical")},
    }
    chance = lambda situation, rows: (rows * 37 + len(situation.lead.values)) % 11 / 11  # noqa: E731
    snap = snapshot(partners, territories=areas or None, certifications=held, p=chance, config=config)
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(snap), max_size=len(snap)))
    load = Load(*(np.array(counts, dtype=np.int64) for _ in range(3)))
    check(Opened.of(snap), [Lead.of({"lead_id": f"l{i}", **lead}) for i, lead in enumerate(leads)], load)


@pytest.fixture(scope="module")
def published():
    close = close_model()
    with close.open() as eco:
        return snapshot_of(eco, as_of=DAY, model=close.model), close.tables["leads"].to_pandas()


@pytest.mark.parametrize("above", [5, 300])
def test_scores_of_the_model_are_the_same_to_the_last_bit(published, above):
    snap, table = published
    given = [{k: v for k, v in row.items() if _is_given(v)} for row in table.tail(300).to_dict("records")]
    # few are eligible for some: one row alone, and none
    given += [{"lead_id": f"x{i}", "vertical": "other", "amount": 10.0 * i} for i in range(1, 20)]
    opened = Opened.of(snap)
    stage = opened.config.first_stage.model_copy(update={"above": above, "keep": 3})
    config = opened.config.model_copy(update={"first_stage": stage})
    opened = dataclasses.replace(opened, snapshot=dataclasses.replace(snap, config=config))
    load = Load(*np.random.default_rng(3).integers(0, 3, (3, len(snap))))
    check(opened, [Lead.of(row) for row in given], load, moment=DAY + dt.timedelta(hours=9))


def test_a_batch_of_the_model_is_made_again_byte_for_byte(published):
    snap, table = published
    given = [{k: v for k, v in row.items() if _is_given(v)} for row in table.tail(40).to_dict("records")]
    now = DAY + dt.timedelta(hours=9)
    with Router.open(snap, reasons=False) as router:
        decisions = router.assign(given, now=now).decisions
        assert {d.status for d in decisions} >= {"assigned"}
        for decision in decisions:
            assert router.replay(decision.decision_id).to_json() == decision.to_json()


def test_a_rule_that_says_what_it_reads_is_asked_once_for_leads_alike_in_it():
    asked = []

    def passes(situation):
        asked.append(situation.lead.lead_id)
        return np.arange(len(situation.snapshot)) % 2 == situation.lead.get("amount", 0.0) % 2

    register_rule(Rule("odd_or_even", "is odd or even", passes, reads=("amount",)), replace=True)
    register_rule(Rule("of_the_lead", "is of the lead", passes), replace=True)
    leads = [Lead.of({"lead_id": f"l{i}", "amount": i % 2}) for i in range(6)]
    for rule, times in (("odd_or_even", 2), ("of_the_lead", 6)):
        asked.clear()
        snap = snapshot(4, config={"rules": {rule: {}}})
        found = Looking(Opened.of(snap), Load.none(4), moment=NOW).at(leads)
        assert len(asked) == times
        assert [seen.n_eligible for seen in found] == [2] * 6
        assert [sorted(seen.rows.tolist()) for seen in found[:2]] == [[0, 2], [1, 3]]


def _is_given(value) -> bool:
    return value is not None and value == value


def test_what_is_remembered_is_counted_once_and_goes_when_there_is_too_much_of_many_threads():
    memory = Memory(most=50)

    def ask(seed):
        for key in np.random.default_rng(seed).integers(0, 40, 300):
            assert memory.get(int(key), lambda key=key: np.full(5, key)).tolist() == [key] * 5

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory._held == sum(array.size for array in memory._values.values()) <= 50
