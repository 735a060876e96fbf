"""A day by other rules: what differs is due to the rules alone, whatever happened on the day."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import InputError
from partnerml.routing import Router

DAY, HOUR, MINUTE = (dt.timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes"))
KINDS = ("greedy", "softmax", "thompson", "round_robin")


def scored(situation, rows):
    return ((rows * 7919 + int(situation.lead.lead_id[1:]) * 31) % 97) / 100.0


def world(kind="greedy", **more):
    return snapshot([{"max_open_leads": 1, "capacity_per_week": 3}] * 4, p=scored, config=rules(kind, **more))


def rules(kind, **more):
    return {"policy": {"kind": kind}, **more}


def happen(router, steps, *, refuses):
    """Let leads come, before the day and on it, and let things happen to those that came."""
    offers, begun = [], 0
    for number, (what, which) in enumerate(steps):
        now = AS_OF + 22 * HOUR + number * 10 * MINUTE
        if what == "lead" or not offers:
            lead = {"lead_id": f"l{begun}", "created_at": AS_OF.isoformat()}
            if which % 5 == 4:
                lead["domain"] = "acme.example"
            decision, begun = router.route(lead, now=now), begun + 1
        else:
            offer = router.ledger.offer(offers[which % len(offers)])
            if what != "close" and not refuses and offer.offered_at >= AS_OF + DAY:
                continue
            try:
                decision = answer(router, offer, what, now)
            except InputError:  # it was closed, or is gone
                continue
        if decision.offer_id is not None:
            offers.append(decision.offer_id)


def answer(router, offer, what, now):
    """Let something happen to a lead, and return what is decided then."""
    if what == "override":
        return router.override(offer.lead_id, "p3", by="Ada", reason="so", now=now)
    if what == "decline" and offer.live:
        return router.respond(offer.offer_id, "declined", now=now)
    if what != "close":
        return router.withdraw(offer.offer_id, now=now)
    if offer.live:
        router.respond(offer.offer_id, "accepted", now=now)
    router.outcome(offer.lead_id, "won", now=now)
    return router.decision(router.ledger.latest(offer.lead_id))


STEPS = st.lists(
    st.tuples(st.sampled_from(["lead", "lead", "close", "decline", "withdraw", "override"]), st.integers(0, 30)),
    min_size=14,
    max_size=30,
)


@settings(max_examples=6)
@given(steps=STEPS, kind=st.sampled_from(KINDS))
def test_by_the_published_rules_nothing_changes_whatever_happened(steps, kind):
    with Router.open(world(kind)) as router:
        happen(router, [("lead", 0), *steps, ("lead", 0)], refuses=True)
        for start in (AS_OF, AS_OF + DAY):
            found = router.simulate(start, days=2, config=rules(kind, offers={"answer_within": "3h"}))
            assert not found["changed"].any()
            assert found["published_why"].tolist() == found["would_why"].tolist()


@settings(max_examples=6)
@given(steps=STEPS, kind=st.sampled_from(KINDS[:3]))
def test_where_partners_keep_what_they_are_offered_the_day_is_made_anew_as_it_was(steps, kind):
    with Router.open(world(kind)) as router:
        happen(router, [*steps, ("lead", 0)], refuses=False)
        start = AS_OF + DAY if len(steps) >= 12 else AS_OF
        found = router.simulate(start, days=2)
        assert found["published_status"].tolist() == found["was_status"].tolist()
        assert found["published_partner_id"].tolist() == found["was_partner_id"].tolist()


def test_a_lead_that_was_closed_makes_room_and_a_refusal_is_told_apart(caplog):
    with Router.open(snapshot([{"max_open_leads": 1}] * 2, p={"p0": 0.9, "p1": 0.1})) as router:
        for hour in range(6):
            now = AS_OF + hour * HOUR
            decision = router.route({"lead_id": f"l{hour}"}, now=now)
            router.respond(decision.offer_id, "accepted", now=now)
            router.outcome(f"l{hour}", "won", now=now + HOUR / 2)
        found = router.simulate(AS_OF, config={"policy": {"kind": "round_robin"}})
        assert found["published_partner_id"].tolist() == ["p0"] * 6
        assert sorted(found["would_partner_id"]) == ["p0"] * 3 + ["p1"] * 3
        assert (found["changed"].sum(), found.attrs["differs"], caplog.text) == (3, 0, "")
        # who refuses has room for the next; who is supposed to keep it has none
        late = AS_OF + 7 * HOUR
        router.respond(router.route({"lead_id": "l7"}, now=late).offer_id, "declined", now=late)
        router.route({"lead_id": "l8"}, now=late + HOUR)
        found = router.simulate(AS_OF)
        assert found["was_partner_id"].tolist()[-2:] == ["p0", "p0"]
        assert found["published_partner_id"].tolist()[-2:] == ["p0", "p1"]
        assert (found["changed"].sum(), found.attrs["differs"]) == (0, 1)
        assert "1 of 8 leads go otherwise by the published rules, made anew, than they did" in caplog.text


def test_what_becomes_of_earlier_leads_on_the_day_takes_and_gives_room_as_it_did():
    with Router.open(snapshot([{"max_open_leads": 1}] * 2, p={"p0": 0.9, "p1": 0.1})) as router:
        early = router.route({"lead_id": "l0"}, now=AS_OF)
        router.route({"lead_id": "l1"}, now=AS_OF + DAY)
        router.withdraw(router.ledger.offers(lead_id="l1")[0].offer_id, now=AS_OF + DAY + HOUR)
        router.respond(early.offer_id, "declined", now=AS_OF + DAY + 2 * HOUR)  # and p1 has it
        router.route({"lead_id": "l2"}, now=AS_OF + DAY + 3 * HOUR)
        found = router.simulate(AS_OF + DAY)
        # p1 keeps l1 here, so that p0, who refused, has room
        assert found["published_partner_id"].tolist() == ["p1", "p0"]


def test_without_the_day_there_is_nothing_to_tell_of():
    with Router.open(world()) as router, pytest.raises(InputError, match="there is nothing to simulate"):
        router.simulate(AS_OF)


def test_what_a_lead_repeats_is_with_whom_it_was_when_it_came(ledger_url):
    acme, later = {"domain": "acme.example"}, AS_OF + DAY
    with Router.open(snapshot(3, p={"p0": 0.9, "p1": 0.5}), ledger=ledger_url) as router:
        first = router.route({"lead_id": "e1", **acme}, now=AS_OF)
        router.route({"lead_id": "e0", **acme}, now=AS_OF + HOUR)  # the same come again
        router.respond(first.offer_id, "accepted", now=AS_OF + HOUR)
        told = router.route({"lead_id": "e2", **acme}, now=later)
        router.override("e1", "p1", by="Ada", reason="so", now=later + HOUR)
        router.route({"lead_id": "e3", **acme}, now=later + 2 * HOUR)
        router.outcome("e1", "won", now=later + 3 * HOUR)
        router.route({"lead_id": "e4", **acme}, now=later + 4 * HOUR)
        router.outcome("e1", "lost", now=later + 5 * HOUR)
        router.override("e0", "p2", by="Ada", reason="so", now=later + 6 * HOUR)
        found = router.simulate(later)
        assert told.partner_id == "p0"
        assert found["published_partner_id"].tolist() == ["p0", "p1", "p1"] == found["was_partner_id"].tolist()
        assert found["published_why"].tolist() == found["was_why"].tolist()
        assert "closed it as won" in found["published_why"].tolist()[-1]


def test_a_copy_of_a_copy_of_the_day_is_with_whoever_has_the_first_by_then():
    acme, later = {"domain": "acme.example"}, AS_OF + DAY
    with Router.open(snapshot(3, p={"p0": 0.9, "p1": 0.5})) as router:
        router.route({"lead_id": "e5", "created_at": AS_OF, **acme}, now=AS_OF)
        router.route({"lead_id": "e1", "created_at": AS_OF, **acme}, now=later)
        router.override("e5", "p1", by="Ada", reason="so", now=later + HOUR)
        last = router.route({"lead_id": "e2", "created_at": AS_OF, **acme}, now=later + 2 * HOUR)
        assert (last.duplicate_of, last.partner_id) == ("e1", "p1")
        found = router.simulate(later)
        assert found["published_partner_id"].tolist() == ["p0", "p1"]
