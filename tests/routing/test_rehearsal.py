"""What would be: the same as what then happens, without a trace; and a day by other rules beside the day that was."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.config import RoutingConfig
from partnerml.errors import InputError
from partnerml.routing import Router

DAY = dt.timedelta(days=1)


def scored(situation, rows):
    return ((rows * 7919 + int(situation.lead.lead_id[1:]) * 31) % 97) / 100.0


def world(**config):
    partners = [{"max_open_leads": 2, "flags": ["slow"] if i % 2 else None} for i in range(6)]
    return snapshot(partners, p=scored, config=RoutingConfig.model_validate(config))


def leads(n, start=0):
    return [{"lead_id": f"l{i}", "created_at": AS_OF.isoformat()} for i in range(start, start + n)]


@pytest.mark.parametrize("kind", ["greedy", "softmax", "epsilon", "round_robin"])
def test_a_dry_run_tells_what_then_happens_and_writes_nothing(kind):
    now = AS_OF + dt.timedelta(hours=9)
    with Router.open(world(policy={"kind": kind})) as router:
        router.route(leads(1)[0], now=now)
        before = router.ledger.history()
        would = router.dry_run(leads(15), now=now)
        assert router.ledger.history().equals(before)
        assert [router.route(lead, now=now).to_json() for lead in leads(15)] == [d.to_json() for d in would]
        assert {d.status for d in would} == {"assigned", "fallback"}


def test_duplicates_within_a_dry_run_are_found():
    rows = [{**lead, "domain": "acme.example"} for lead in leads(3)]
    with Router.open(world()) as router:
        assert [d.status for d in router.dry_run(rows, now=AS_OF)] == ["assigned", "duplicate", "duplicate"]


def test_a_day_by_the_same_rules_is_the_day_that_was():
    with Router.open(world()) as router:
        for hour, lead in enumerate(leads(4)):
            router.route(lead, now=AS_OF + dt.timedelta(hours=hour))
        for hour, lead in enumerate(leads(6, start=4)):
            router.route(lead, now=AS_OF + DAY + dt.timedelta(hours=hour))
        found = router.simulate(AS_OF + DAY)
        assert found["lead_id"].tolist() == [f"l{i}" for i in range(4, 10)]
        assert not found["changed"].any()
        assert (found["was_p_win"] == found["would_p_win"]).all()


def test_other_rules_are_told_beside_what_was():
    with Router.open(world()) as router:
        was = [router.route(lead, now=AS_OF) for lead in leads(5)]
        found = router.simulate(AS_OF, config=RoutingConfig(flags=("slow",)))
        gone = [int(d.partner_id[1:]) % 2 == 1 for d in was]
        assert any(gone)
        assert found["changed"][gone].all()
        assert all(int(partner[1:]) % 2 == 0 for partner in found["would_partner_id"].dropna())
        assert found["was_partner_id"].tolist() == [d.partner_id for d in was]


def test_a_day_without_leads_is_refused():
    with Router.open(world()) as router, pytest.raises(InputError, match="no lead was decided from 2026-06-01"):
        router.simulate(AS_OF)
