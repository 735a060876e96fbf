"""What a person decides is done, and what is odd about it is told."""

import datetime as dt
import logging

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import DataError, InputError
from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
PARTNERS = [
    {},
    {"left_at": AS_OF},
    {"joined_at": AS_OF + dt.timedelta(days=1)},
    {"left_at": NOW + dt.timedelta(days=9)},
]


@pytest.mark.parametrize(("partner", "odd"), [("p0", False), ("p1", True), ("p2", True), ("p3", False)])
def test_a_lead_given_to_who_is_no_partner_is_warned_of(partner, odd, caplog):
    with Router.open(snapshot(PARTNERS)) as router:
        router.route({"lead_id": "l1", "created_at": AS_OF.isoformat()}, now=NOW)
        with caplog.at_level(logging.WARNING, logger="partnerml"):
            given = router.override("l1", partner, by="Ada", reason="so", now=NOW)
    assert given.partner_id == partner
    assert (f"lead l1 is given to {partner}, which is no partner at the time" in caplog.text) is odd


def test_round_robin_owes_a_lead_again_to_who_lost_it_to_an_override():
    policy = {"kind": "round_robin", "catch_up": 50}
    with Router.open(snapshot(3, config={"policy": policy})) as router:
        got = []
        for number in range(30):
            lead_id = f"l{number}"
            given = router.route({"lead_id": lead_id}, now=NOW + dt.timedelta(minutes=number))
            if given.partner_id == "p0":
                later = NOW + dt.timedelta(minutes=number, seconds=30)
                owed = _credit(router)
                router.override(lead_id, "p1", by="ann", reason="knows them", now=later)
                assert _credit(router) == pytest.approx(owed + 1.0)
                # once is enough
                router.override(lead_id, "p2", by="ann", reason="knows them better", now=later)
                assert _credit(router) == pytest.approx(owed + 1.0)
            got.append(given.partner_id)
        assert got.count("p0") > 10
        for text in router.ledger.export("decisions").decision_id[:5]:
            if router.decision(text).policy == "round_robin":
                router.replay(text)


def test_who_let_the_deadline_pass_is_owed_nothing_by_an_override():
    with Router.open(snapshot(3, config={"policy": {"kind": "round_robin", "catch_up": 50}})) as router:
        first = router.route({"lead_id": "l0"}, now=NOW)
        other = next(partner for partner in ("p0", "p1") if partner != first.partner_id)
        with router.ledger.turn(moment=NOW) as turn:
            owed = turn.credit()
        router.override("l0", other, by="ann", reason="nobody answered", now=NOW + dt.timedelta(days=9))
        with router.ledger.turn(moment=NOW) as turn:
            assert turn.credit() == owed
        assert {offer.status for offer in router.ledger.offers()} == {"expired", "accepted"}


def _credit(router):
    with router.ledger.turn(moment=NOW) as turn:
        return turn.credit().get("p0", 0.0)


@pytest.mark.parametrize(
    ("by", "reason", "error", "words"),
    [
        (None, "so", InputError, "kept with who did it and why: give by= and reason="),
        ("Ada", " ", InputError, "kept with who did it and why: give by= and reason="),
        (7, "so", DataError, "by must be a text of at most 10,000 characters"),
        ("Ada", "x" * 10_001, DataError, "reason must be a text of at most 10,000 characters"),
        ("\ud800", "so", DataError, "by holds a NUL or half of a character"),
        ("Ada", "\0", DataError, "reason holds a NUL or half of a character"),
    ],
)
def test_who_did_it_and_why_are_checked_before_anything_is_decided(by, reason, error, words, ledger_url):
    with Router.open(snapshot(2), ledger=ledger_url) as router:
        was = router.route({"lead_id": "l1"}, now=NOW)
        with pytest.raises(error, match=words):
            router.override("l1", "p1", by=by, reason=reason, now=NOW)
        assert router.ledger.latest("l1") == was.decision_id
        if error is DataError:  # an answer and an outcome are not written by halves either
            with pytest.raises(DataError, match=words):
                router.respond(was.offer_id, "accepted", by=by, reason=reason, now=NOW)
            with pytest.raises(DataError, match=words):
                router.withdraw(was.offer_id, by=by, reason=reason, now=NOW)
        assert router.ledger.offer(was.offer_id).status == "offered"
