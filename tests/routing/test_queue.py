"""The leads for a person: those whose latest decision is that nobody gets them, and no others."""

import datetime as dt
import random

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
UNSAID = ["account_id", "account_name", "country"]  # of leads of these tests, and no value is none's equal


def a_lead(number, **values):
    return {"lead_id": f"l{number}", "created_at": AS_OF.isoformat(), **values}


def slowly(ledger):
    """The queue, from all decisions: of each lead the one with the largest number."""
    latest = {}
    for row in ledger.export("decisions").sort_values("number").to_dict("records"):
        latest[row["lead_id"]] = row
    waiting = [row for row in latest.values() if row["status"] == "fallback" and not row["forgotten"]]
    return sorted((row["decided_at"], row["decision_id"]) for row in waiting)


@pytest.mark.parametrize("url", [None, "sqlite", "postgresql"])
def test_a_lead_that_repeats_one_that_nobody_has_and_that_was_never_routed_is_in_the_queue(url, tmp_path, request):
    url = request.getfixturevalue("postgres_url") if url == "postgresql" else url and f"sqlite:///{tmp_path}/l.db"
    before = {"lead_id": "old", "created_at": AS_OF - dt.timedelta(days=3), "account_id": "A1"}
    with Router.open(snapshot(2, leads=[before]), ledger=url) as router:
        assert router.route(a_lead(1, account_id="A1"), now=NOW).why.endswith("no partner has it")
        # of these two the first is with somebody, or in the queue itself
        assert router.route(a_lead(2, account_id="A2"), now=NOW).status == "assigned"
        assert router.route(a_lead(3, account_id="A2"), now=NOW).status == "duplicate"
        assert list(router.ledger.queue()["lead_id"]) == ["l1"]
        router.override("l1", "p1", by="Ada", reason="so", now=NOW)
        assert router.ledger.queue().empty


@pytest.mark.parametrize("seed", range(3))
def test_the_queue_is_the_leads_whose_latest_decision_is_a_fallback(seed):
    draw = random.Random(seed)
    snap = snapshot([{"country": "DE", "max_open_leads": 4} for _ in range(3)], config={"offers": {"limit": 2}})
    with Router.open(snap) as router:
        live, seen, forgotten = [], {}, set()
        for number in range(30):
            now = NOW + dt.timedelta(minutes=number)
            made = router.route(a_lead(number, amount=number), now=now)
            live += [made.offer_id] if made.offer_id else []
            for offer in draw.sample(live, min(2, len(live))):
                live.remove(offer)
                after = router.respond(offer, draw.choice(["accepted", "declined"]), now=now)
                live += [after.offer_id] if after.offer_id and after.offer_id != offer else []
            queue = router.ledger.queue()
            if len(queue) and draw.random() < 0.3:
                lead = draw.choice(list(queue["lead_id"]))
                if draw.random() < 0.5:
                    router.override(lead, f"p{draw.randrange(3)}", by="Ada", reason="so", now=now)
                else:
                    router.forget(lead, now=now)
                    forgotten.add(lead)
                assert lead not in set(router.ledger.queue()["lead_id"])
            seen[now] = router.ledger.queue()
        for then, found in seen.items():
            known = found[~found["lead_id"].isin(forgotten)].drop(columns=UNSAID)
            assert router.ledger.queue(now=then).drop(columns=UNSAID).to_dict("records") == known.to_dict("records")
        queue = router.ledger.queue()
        live = [offer for offer in router.ledger.offers() if offer.holds]
        assert not {offer.lead_id for offer in live} & set(queue["lead_id"])
        assert sorted(zip(queue["since"], queue["decision_id"], strict=True)) == slowly(router.ledger)
        assert len(queue) > 3
        assert queue["since"].is_monotonic_increasing


def test_the_queue_tells_why_and_of_whom():
    with Router.open(snapshot(2, config={"offers": {"limit": 1}})) as router:
        assert router.ledger.queue().empty
        made = router.route(a_lead(1, account_name="Acme", country="DE", amount=5), now=NOW)
        router.respond(made.offer_id, "declined", now=NOW)
        (row,) = router.ledger.queue().to_dict("records")
        assert (row["lead_id"], row["account_name"], row["country"], row["amount"]) == ("l1", "Acme", "DE", 5.0)
        assert (row["asked"], row["waits"], row["since"], row["created_at"]) == (1, False, NOW, AS_OF)
        assert "routing.offers.limit" in row["why"]


def test_a_lead_that_waits_for_a_snapshot_says_so():
    with Router.open(snapshot(2)) as router:
        made = router.route(a_lead(1), now=NOW)
        router.respond(made.offer_id, "declined", now=NOW + dt.timedelta(hours=3))
        router.expire(now=NOW + dt.timedelta(days=9))
        assert router.ledger.queue()["waits"].tolist() == [True]
        assert router.ledger.waiting() == ["l1"]
