"""What one partner is told: its rank however far down, its own rule, and nothing of the lead that it did not get."""

import datetime as dt
import json

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import InputError
from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
LEAD = {"lead_id": "l1", "created_at": AS_OF.isoformat(), "country": "DE", "amount": 777}


@pytest.mark.parametrize("policy", ["greedy", "softmax", "round_robin"])
def test_ranks_are_the_order_by_utility(policy):
    chances = {f"p{i}": 0.1 * (7 * i % 8) for i in range(8)}
    snap = snapshot(8, p=chances, config={"policy": {"kind": policy}})
    with Router.open(snap) as router:
        made = router.route(LEAD, now=NOW)
        order = sorted(chances, key=lambda name: -chances[name])
        assert [router.for_partner("l1", name)["rank"] for name in order] == list(range(1, 9))
        for other in made.alternatives:
            assert router.for_partner("l1", other.partner_id)["rank"] == other.rank


def test_a_partner_that_did_not_get_it_learns_nothing_of_the_lead_and_of_others():
    partners = [{"country": "DE", "max_open_leads": 5}, {"max_open_leads": 5}, {"min_deal_amount": 1000.0}]
    with Router.open(snapshot(partners, p={"p0": 0.6, "p1": 0.4})) as router:
        router.route(LEAD, now=NOW)
        runner_up, out = (router.for_partner("l1", name) for name in ("p1", "p2"))
        assert (runner_up["yours"], runner_up["rank"], runner_up["failed"]) == (False, 2, None)
        assert "0 of 5 open leads" in runner_up["facts"]
        assert (out["rank"], out["failed"]["rule"]) == (None, "deal_size")
        for found in (runner_up, out):
            assert not any(word in json.dumps(found) for word in ("p0", "777", "DE", "country"))
        with pytest.raises(InputError, match="no partner 'p9'"):
            router.for_partner("l1", "p9")
        router.forget("l1", now=NOW)
        with pytest.raises(InputError):
            router.for_partner("l1", "p1")


def test_of_a_lead_that_is_not_free_it_is_told_that():
    account = {"account_id": "a1", "owner_partner_id": "p2"}
    with Router.open(snapshot(3, accounts=[account])) as router:
        router.route({**LEAD, "account_id": "a1"}, now=NOW)
        assert router.for_partner("l1", "p2")["yours"]
        failed = router.for_partner("l1", "p0")["failed"]
        assert (failed["rule"], failed["evidence"]) == ("existing_owner", "the account has an owner")


def test_what_is_told_is_what_was_then():
    with Router.open(snapshot([{"max_open_leads": 5}, {"max_open_leads": 5}], p={"p0": 0.6, "p1": 0.4})) as router:
        router.route(LEAD, now=NOW)
        for number in range(3):
            router.override(router.route({"lead_id": f"x{number}"}, now=NOW).lead_id, "p1", by="A", reason="b", now=NOW)
        assert "0 of 5 open leads" in router.for_partner("l1", "p1")["facts"]


def test_a_lead_that_came_again_is_not_its_even_where_it_had_the_first():
    with Router.open(snapshot(2, p={"p0": 0.6, "p1": 0.4})) as router:
        first = router.route({**LEAD, "domain": "acme.com"}, now=NOW)
        again = router.route({**LEAD, "lead_id": "l2", "domain": "acme.com"}, now=NOW)
        assert (again.status, again.partner_id) == ("duplicate", first.partner_id)
        router.override("l1", "p1", by="Ada", reason="so", now=NOW)
        for name in ("p0", "p1"):
            found = router.for_partner("l2", name)
            assert (found["yours"], found["status"], found["offer_id"]) == (False, "duplicate", None)
            assert found["failed"]["rule"] == "duplicate"
            assert router.decision(again.decision_id).place_of(name) == ""


def test_of_a_lead_that_was_held_back_it_is_told_its_rank():
    partners = [{"country": "DE", "max_open_leads": 6} for _ in range(3)]
    prices = {f"p{row}": 0.9 for row in range(3)}
    chances = {"p0": 0.2, "p1": 0.4, "p2": 0.3}
    with Router.open(snapshot(partners, p=chances, prices=prices, config={"hold_back": True})) as router:
        assert router.route(LEAD, now=NOW).status == "fallback"
        assert [router.for_partner("l1", f"p{row}")["rank"] for row in range(3)] == [3, 1, 2]
