"""What a router does when its snapshot has grown too old: answers are kept, and nobody is chosen until a newer one."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import InputError, ModelError
from partnerml.routing import Router
from partnerml.routing._opened import Opened

NOW = AS_OF + dt.timedelta(hours=9)
DAY = dt.timedelta(days=1)
LATE = NOW + 4 * DAY  # every deadline has passed, and the snapshot is too old
P = {"p0": 0.6, "p1": 0.5, "p2": 0.4, "p3": 0.3}


def lead(number: int = 1, **values: object) -> dict[str, object]:
    return {"lead_id": f"l{number}", "created_at": "2026-06-01T08:00:00Z", **values}


def publish_again(router: Router) -> None:
    """Let the router follow a snapshot of the late day."""
    router._in_use.opened = Opened.of(snapshot([{"max_open_leads": 2}] * 4, p=P, as_of=AS_OF + 4 * DAY))


@pytest.fixture
def router(ledger_url):
    with Router.open(snapshot([{"max_open_leads": 2}] * 4, p=P), ledger=ledger_url) as opened:
        yield opened


def statuses(router: Router) -> list[tuple[str, str]]:
    return [(offer.partner_id, offer.status) for offer in router.ledger.offers()]


def waits(router: Router, decision) -> None:
    """Check that nobody was chosen, why, and that it is made again byte for byte."""
    assert (decision.status, decision.partner_id, decision.offer_id, decision.waits) == ("fallback", None, None, True)
    assert "routing.max_snapshot_age allows 36" in decision.why
    assert router.replay(decision.decision_id).to_json() == decision.to_json()
    assert router.ledger.audit() == []


def test_a_decline_is_kept_and_nobody_is_chosen(router):
    # a day more to answer than the snapshot lasts
    first = router.route(lead(), now=NOW)
    old = NOW + 2 * DAY
    following = router.respond(first.offer_id, "declined", now=old, by="Ada", reason="no time")
    waits(router, following)
    assert statuses(router) == [("p0", "declined")]
    # the same again is still answered, and changes nothing
    assert router.respond(first.offer_id, "declined", now=old) == following


def test_an_acceptance_needs_no_snapshot(router):
    first = router.route(lead(), now=NOW)
    assert router.respond(first.offer_id, "accepted", now=NOW + 2 * DAY) == first
    assert statuses(router) == [("p0", "accepted")]


def test_a_late_answer_lets_the_offer_expire(router):
    first = router.route(lead(), now=NOW)
    with pytest.raises(InputError, match="has expired"):
        router.respond(first.offer_id, "accepted", now=LATE)
    assert statuses(router) == [("p0", "expired")]
    assert router.ledger.waiting() == ["l1"]


def test_a_withdrawal_is_kept(router):
    first = router.route(lead(), now=NOW)
    waits(router, router.withdraw(first.offer_id, now=NOW + 2 * DAY))
    assert statuses(router) == [("p0", "withdrawn")]


def test_what_expires_waits_for_the_next_snapshot_and_goes_on_with_it(router):
    for number in (1, 2):
        router.route(lead(number), now=NOW)
    found = router.expire(now=LATE)
    for decision in found:
        waits(router, decision)
    assert sorted(router.ledger.waiting()) == ["l1", "l2"]
    # nothing changes while it is old
    assert router.expire(now=LATE) == []
    with pytest.raises(ModelError, match="allows 36"):
        router.route(lead(1), now=LATE)
    publish_again(router)
    assert [(d.lead_id, d.partner_id) for d in router.expire(now=LATE)] == [("l1", "p1"), ("l2", "p1")]
    assert router.ledger.waiting() == []
    assert router.expire(now=LATE) == []
    assert router.ledger.audit() == []


def test_a_lead_that_waits_goes_on_when_it_is_routed_or_rehearsed_with_the_next_snapshot(router):
    first = router.route(lead(), now=NOW)
    router.respond(first.offer_id, "declined", now=NOW + 2 * DAY)
    publish_again(router)
    (would,) = router.dry_run([lead()], now=LATE)
    following = router.route(lead(), now=LATE)
    assert would.to_json() == following.to_json()
    assert following.partner_id == "p1"
    assert router.route(lead(), now=LATE) == following
    assert router.replay(following.decision_id) == following


def test_a_lead_that_waits_goes_on_in_a_batch(router):
    pytest.importorskip("numba")
    first = router.route(lead(), now=NOW)
    router.respond(first.offer_id, "declined", now=NOW + 2 * DAY)
    publish_again(router)
    batch = router.assign([lead(), lead(2)], now=LATE)
    assert [decision.partner_id for decision in batch.decisions] == ["p1", "p0"]


def test_a_person_may_give_a_lead_away_that_waits(router):
    first = router.route(lead(), now=NOW)
    router.respond(first.offer_id, "declined", now=NOW + 2 * DAY)
    given = router.override("l1", "p3", by="Ada", reason="knows them", now=NOW + 2 * DAY)
    publish_again(router)
    assert router.ledger.waiting() == []
    assert router.expire(now=LATE) == []
    assert router.route(lead(), now=LATE) == given


def test_a_lead_that_waits_and_is_forgotten_waits_no_more(router):
    first = router.route(lead(), now=NOW)
    router.respond(first.offer_id, "declined", now=NOW + 2 * DAY)
    router.forget("l1", now=NOW + 2 * DAY)
    assert router.ledger.waiting() == []


def test_a_past_day_is_made_up_by_the_snapshot_in_use_whatever_its_age(router):
    router.route(lead(), now=NOW)
    router._in_use.opened = Opened.of(snapshot([{"max_open_leads": 2}] * 4, p=P, as_of=AS_OF - 3 * DAY))
    assert router.simulate(AS_OF).would_partner_id.tolist() == ["p0"]
