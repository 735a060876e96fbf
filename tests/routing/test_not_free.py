"""Leads that go to nobody else, whoever is eligible: that is told, and to a partner without a word about others."""

import datetime as dt
import json

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import InputError
from partnerml.routing import Ledger, Router

NOW = AS_OF + dt.timedelta(hours=9)
LATER = NOW + dt.timedelta(days=9)


def asked(router, partner_id, now=NOW, lead="l1"):
    """Return the one reason that is told, after seeing that a partner is told the same of itself alone."""
    failed = router.why_not(lead, partner_id, now=now)
    theirs = router.why_not(lead, partner_id, now=now, audience="partner")
    assert [each.rule for each in theirs] == [each.rule for each in failed][:1]
    told = json.dumps([each.evidence for each in theirs])
    assert not any(f"p{other}" in told for other in range(3) if f"p{other}" != partner_id)
    return failed[0] if failed else None


def test_a_lead_that_somebody_has_or_had_to_the_end_is_not_free():
    with Router.open(snapshot(3, p={"p0": 0.9}, config={"max_snapshot_age": "30d"})) as router:
        assert asked(router, "p1", lead={"lead_id": "l1"}) is None
        offer_id = router.route({"lead_id": "l1"}, now=NOW).offer_id
        found = asked(router, "p1")
        assert (found.rule, found.words) == ("held", "the lead is free")
        assert "partner p0 was offered it and has yet to answer" in found.evidence
        assert asked(router, "p0").rule == "had_before"
        assert asked(router, "p1", LATER) is None  # it expires as soon as it is touched
        router.respond(offer_id, "accepted", now=NOW)
        assert "partner p0 has it" in asked(router, "p1", LATER).evidence
        router.outcome("l1", "won", now=NOW)
        assert asked(router, "p1") == (
            "closed",
            "the lead is free",
            "partner p0 closed it as won: it goes to nobody else",
        )


def test_a_lead_that_was_offered_often_enough_is_not_free():
    with Router.open(snapshot(3, config={"offers": {"limit": 1}})) as router:
        first = router.route({"lead_id": "l1"}, now=NOW)
        second = router.respond(first.offer_id, "declined", now=NOW)
        others = {"p0", "p1", "p2"} - {first.partner_id}
        for partner in others:
            found = asked(router, partner)
            assert (found.rule, found.evidence) == ("offer_limit", second.why)
        assert asked(router, first.partner_id).rule == "had_before"


def test_a_lead_that_is_held_back_for_its_price_is_not_free():
    prices = {"p0": 1.0, "p1": 1.0}
    with Router.open(snapshot(2, prices=prices, config={"hold_back": True})) as router:
        for lead in ({"lead_id": "l1"}, "l1"):
            found = asked(router, "p0", lead=lead)
            decision = router.route({"lead_id": "l1"}, now=NOW)
            assert (found.rule, found.evidence) == ("held_back", decision.why)
    with Router.open(snapshot(2, prices={"p1": 1.0}, config={"hold_back": True})) as router:
        # somebody would get it, if not this one
        assert asked(router, "p1", lead={"lead_id": "l1"}) is None


def test_whom_a_rule_of_engagement_names_has_the_lead_whatever_its_price():
    world = snapshot(
        2,
        prices={"p0": 1.0, "p1": 1.0},
        accounts=[{"account_id": "a", "owner_partner_id": "p0"}],
        config={"hold_back": True},
    )
    lead = {"lead_id": "l1", "account_id": "a", "consent": False, "excluded_partners": ["p0"]}
    with Router.open(world) as router:
        given = router.route(lead, now=NOW)
        # rules come after: what the docs say
        assert (given.status, given.partner_id) == ("existing_owner", "p0")
        with pytest.raises(InputError, match="only a live offer is answered; withdraw takes the lead back"):
            router.respond(given.offer_id, "declined", now=NOW)
        following = router.withdraw(given.offer_id, now=NOW)
        assert "consent" in following.why
    with Router.open(world) as router:
        assert router.why_not({"lead_id": "l1", "account_id": "a"}, "p0", now=NOW) == ()


def test_whom_a_rule_of_engagement_names_may_not_have_what_another_has():
    lead, config = {"lead_id": "l1", "account_id": "a"}, {"offers": {"limit": 1}, "max_snapshot_age": "30d"}
    with Ledger.open() as ledger:
        offer_id = Router.open(snapshot(3, p={"p1": 0.9}, config=config), ledger=ledger).route(lead, now=NOW).offer_id
        # meanwhile the account got an owner
        owned = snapshot(3, accounts=[{"account_id": "a", "owner_partner_id": "p0"}], config=config)
        router = Router.open(owned, ledger=ledger)
        found = asked(router, "p0")
        assert (found.rule, found.words) == ("held", "the lead is free")
        assert "partner p1 was offered it and has yet to answer" in found.evidence
        router.respond(offer_id, "accepted", now=NOW)
        assert "partner p1 has it" in asked(router, "p0", LATER).evidence
        router.outcome("l1", "lost", now=NOW)
        assert asked(router, "p0").rule == "closed"


def test_whom_a_rule_of_engagement_names_gets_what_was_offered_often_enough():
    lead, config = {"lead_id": "l1", "account_id": "a"}, {"offers": {"limit": 1}, "max_snapshot_age": "30d"}
    with Ledger.open() as ledger:
        Router.open(snapshot(3, p={"p1": 0.9}, config=config), ledger=ledger).route(lead, now=NOW)
        owned = snapshot(3, accounts=[{"account_id": "a", "owner_partner_id": "p0"}], config=config)
        router = Router.open(owned, ledger=ledger)
        assert asked(router, "p0", LATER) is None
        assert router.route(lead, now=LATER).partner_id == "p0"


def test_a_moment_before_an_answer_is_past():
    with Router.open(snapshot(3, p={"p0": 0.9})) as router:
        offer_id = router.route({"lead_id": "l1"}, now=NOW).offer_id
        between, answered = (NOW + dt.timedelta(hours=hours) for hours in (1, 2))
        assert "has yet to answer" in asked(router, "p1", between).evidence
        router.respond(offer_id, "accepted", now=answered)
        with pytest.raises(InputError, match="written at 2026-06-01 11:00:00 UTC, after 2026-06-01 10:00:00"):
            router.why_not("l1", "p1", now=between)
        assert "partner p0 has it" in asked(router, "p1", answered).evidence


@pytest.mark.parametrize("partner", ["p1", "p2"])
def test_a_closed_lead_is_given_to_nobody_not_even_again(partner):
    with Router.open(snapshot(3)) as router:
        router.route({"lead_id": "l1"}, now=NOW)
        given = router.override("l1", "p1", by="Ada", reason="so", now=NOW)
        assert router.override("l1", "p1", by="Ada", reason="again", now=NOW) == given
        router.outcome("l1", "won", now=NOW)
        with pytest.raises(InputError, match="it is closed and goes to nobody else"):
            router.override("l1", partner, by="Ada", reason="so", now=NOW)


@pytest.mark.parametrize(
    ("first_stage", "told"),
    [
        ({"above": 10, "keep": 5}, "the most likely to close of the 5 scored in full, of 50 eligible"),
        ({}, "the most likely to close of 50 eligible"),
    ],
)
def test_who_was_not_scored_in_full_is_not_compared(first_stage, told):
    with Router.open(snapshot(50, p={"p49": 0.9}, config={"first_stage": first_stage})) as router:
        assert router.route({"lead_id": "l1"}, now=NOW).why == told
