"""The leads for a person: those whose latest decision is that nobody gets them, and no others."""

import datetime as dt
import random

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Ledger, Router

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


def test_a_lead_that_repeated_one_that_was_routed_later_was_in_the_queue_till_then():
    before = {"lead_id": "old", "created_at": AS_OF - dt.timedelta(days=3), "account_id": "A1"}
    with Router.open(snapshot(2, leads=[before])) as router:
        router.route(a_lead(1, account_id="A1", amount=5), now=NOW)
        then = router.ledger.queue()
        assert router.route(before, now=NOW + dt.timedelta(hours=1)).status == "assigned"
        assert router.ledger.queue().empty
        assert list(then["lead_id"]) == ["l1"]
        assert router.ledger.queue(now=NOW).to_dict("records") == then.to_dict("records")


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


@pytest.mark.parametrize("url", [None, "sqlite", "postgresql"])
def test_leads_of_a_partner_that_left_are_in_the_queue_till_somebody_else_has_them(url, tmp_path, request):
    url = request.getfixturevalue("postgres_url") if url == "postgresql" else url and f"sqlite:///{tmp_path}/l.db"
    hour, p = dt.timedelta(hours=1), {"p1": 0.9}
    with Ledger.open(url) as ledger:
        before = Router.open(snapshot(3, p=p), ledger=ledger)
        offers = [before.route(a_lead(number, country="DE"), now=NOW).offer_id for number in range(5)]
        for offer_id in offers[1:]:
            before.respond(offer_id, "accepted", now=NOW)  # the first has yet to be answered
        before.override("l2", "p0", by="Ada", reason="so", now=NOW)
        before.outcome("l4", "won", now=NOW + 4 * hour)
        gone = Router.open(snapshot([{}, {"left_at": NOW + hour}, {}], p=p), ledger=ledger)
        assert before.queue(now=NOW + 4 * hour).empty
        assert gone.queue(now=NOW).empty
        assert list(gone.queue(now=NOW + hour)["lead_id"]) == ["l1", "l3", "l4"]
        assert gone.ledger.queue(now=NOW + 9 * hour).empty
        queue = gone.queue(now=NOW + 9 * hour)
        first = queue.to_dict("records")[0]
        assert list(queue["lead_id"]) == ["l1", "l3"]
        assert (first["since"], first["partner_id"], first["offer_id"]) == (NOW + hour, "p1", offers[1])
        assert (first["asked"], first["waits"], first["country"]) == (1, False, "DE")
        assert f"partner p1 has it and left on 2026-06-01: partnerml withdraw {offers[1]} lets" in first["why"]
        # who is no longer in the table at all
        without = Router.open(snapshot([{}, {"partner_id": "p2"}]), ledger=ledger).queue(now=NOW + 9 * hour)
        assert "partner p1 has it and is no longer in the table partners" in without["why"].iloc[0]
        following = gone.withdraw(offers[1], now=NOW + 10 * hour)
        assert following.partner_id != "p1"
        gone.override("l3", "p2", by="Ada", reason="so", now=NOW + 10 * hour)
        assert gone.queue(now=NOW + 10 * hour).empty
        assert list(gone.queue(now=NOW + 9 * hour)["lead_id"]) == ["l1", "l3"]


def test_the_queue_of_a_router_is_that_of_the_ledger_and_of_who_left_in_the_order_of_waiting():
    partners = [{}, {"left_at": NOW + dt.timedelta(hours=2)}]
    with Router.open(snapshot(partners, p={"p1": 0.9}, config={"offers": {"limit": 1}})) as router:
        accepted = router.route(a_lead(1), now=NOW)
        router.respond(accepted.offer_id, "accepted", now=NOW)
        for number, hours in ((2, 1), (3, 3)):
            later = NOW + dt.timedelta(hours=hours)
            router.respond(router.route(a_lead(number), now=later).offer_id, "declined", now=later)
        queue = router.queue(now=NOW + dt.timedelta(hours=3))
        assert list(queue["lead_id"]) == ["l2", "l1", "l3"]
        assert list(queue.columns[:-2]) == list(router.ledger.queue().columns)
        assert queue["partner_id"].isna().tolist() == queue["offer_id"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize("url", [None, "sqlite", "postgresql"])
def test_a_lead_that_repeated_one_that_is_forgotten_is_in_the_queue_till_somebody_has_it(url, tmp_path, request):
    url = request.getfixturevalue("postgres_url") if url == "postgresql" else url and f"sqlite:///{tmp_path}/l.db"
    hour = dt.timedelta(hours=1)
    with Router.open(snapshot(3, p={"p1": 0.9}), ledger=url) as router:
        router.route(a_lead(1, domain="acme.example"), now=NOW)
        repeated = router.route(a_lead(2, domain="acme.example", amount=7), now=NOW)
        assert (repeated.status, repeated.partner_id) == ("duplicate", "p1")
        assert router.queue(now=NOW + hour).empty
        router.forget("l1", now=NOW + 2 * hour)
        (row,) = router.ledger.queue().to_dict("records")
        assert (row["lead_id"], row["since"], row["amount"]) == ("l2", NOW + 2 * hour, 7.0)
        assert row["why"].startswith(
            "the lead that it repeated has been forgotten, and no partner has that one any more"
        )
        assert (row["waits"], row["asked"], row["decision_id"]) == (False, 0, repeated.decision_id)
        assert router.ledger.queue(now=NOW + hour).empty
        assert router.queue(now=NOW + 2 * hour)["lead_id"].tolist() == ["l2"]
        assert router.override("l2", "p0", by="Ada", reason="so", now=NOW + 3 * hour).partner_id == "p0"
        assert router.ledger.queue().empty
        assert router.ledger.queue(now=NOW + 2 * hour)["lead_id"].tolist() == ["l2"]


def test_a_lead_that_repeated_one_that_was_closed_is_nobodys_to_decide():
    with Router.open(snapshot(3, p={"p1": 0.9})) as router:
        made = router.route(a_lead(1, domain="acme.example"), now=NOW)
        router.route(a_lead(2, domain="acme.example"), now=NOW)
        router.respond(made.offer_id, "accepted", now=NOW)
        router.outcome("l1", "won", now=NOW)
        router.forget("l1", now=NOW)
        assert router.ledger.queue().empty


def test_a_lead_that_repeated_a_forgotten_copy_of_one_of_the_tables_is_with_who_has_that():
    acme = {"account_id": "a1", "domain": "acme.example"}
    tables = {"leads": [{"lead_id": "A", "created_at": AS_OF, "partner_id": "p1", "account_id": "a1"}]}
    with Router.open(snapshot(3, **tables)) as router:
        copy = router.route({"lead_id": "X", **acme}, now=NOW)
        again = router.route({"lead_id": "B", "domain": "acme.example"}, now=NOW)
        assert [(d.status, d.duplicate_of, d.partner_id) for d in (copy, again)] == [
            ("duplicate", "A", "p1"),
            ("duplicate", "X", "p1"),
        ]
        router.forget("X", now=NOW)
        assert router.queue(now=NOW).empty


def test_a_lead_that_repeated_a_forgotten_copy_is_with_whoever_has_the_first():
    with Router.open(snapshot(3, p={"p1": 0.9})) as router:
        router.route(a_lead(1, domain="acme.example"), now=NOW)
        router.route(a_lead(2, domain="acme.example", account_id="A1"), now=NOW)
        assert router.route(a_lead(3, account_id="A1"), now=NOW).duplicate_of == "l2"
        router.forget("l2", now=NOW)
        assert router.ledger.queue().empty
        router.forget("l1", now=NOW)
        assert router.ledger.queue()["lead_id"].tolist() == ["l3"]
