"""A rule or a score that fails at one lead: answers and deadlines are kept, and no other lead is held up."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import DataError
from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=9)
LATE = NOW + dt.timedelta(days=5)


class Failing:
    """Scores that are no numbers for some leads, for a while."""

    def __init__(self):
        self.leads = set()

    def __call__(self, situation, rows):
        return [float("nan") if situation.lead.lead_id in self.leads else 0.5 - 0.1 * row for row in rows]


@pytest.fixture
def failing():
    return Failing()


@pytest.fixture
def router(failing):
    config = {"max_snapshot_age": "30d"}
    with Router.open(snapshot(4, p=failing, config=config)) as opened:
        yield opened


def offered(router, *numbers):
    return [router.route({"lead_id": f"l{number}"}, now=NOW).offer_id for number in numbers]


def statuses(router):
    return {offer.offer_id: offer.status for offer in router.ledger.offers()}


def waits(router, decision):
    assert (decision.status, decision.partner_id, decision.waits) == ("fallback", None, True)
    assert "must return one probability" in decision.why
    assert router.replay(decision.decision_id).to_json() == decision.to_json()


@pytest.mark.parametrize("way", ["respond", "withdraw"])
def test_an_answer_is_kept_and_the_lead_waits_until_it_is_mended(router, failing, way):
    (offer,) = offered(router, 1)
    failing.leads = {"l1"}
    more, ended = (("declined",), "declined") if way == "respond" else ((), "withdrawn")
    waits(router, getattr(router, way)(offer, *more, now=NOW))
    assert statuses(router) == {offer: ended}
    assert router.ledger.waiting() == ["l1"]
    with pytest.raises(DataError, match="must return one probability"):
        router.route({"lead_id": "l1"}, now=NOW)
    failing.leads = set()
    assert [decision.partner_id for decision in router.expire(now=NOW)] == ["p1"]
    assert router.ledger.waiting() == []
    assert router.ledger.audit() == []


def test_deadlines_of_others_are_kept_whatever_happens_to_one(router, failing, caplog):
    offers = offered(router, 1, 2, 3)
    failing.leads = {"l1", "l2"}
    found = {decision.lead_id: decision for decision in router.expire(now=LATE)}
    assert [statuses(router)[offer] for offer in offers] == ["expired"] * 3
    waits(router, found["l1"])
    waits(router, found["l2"])
    assert found["l3"].partner_id == "p1"
    # one is mended, the other is told and held against nobody
    failing.leads = {"l1"}
    assert [(decision.lead_id, decision.partner_id) for decision in router.expire(now=LATE)] == [("l2", "p1")]
    assert "lead l1 still waits: " in caplog.text
    assert router.ledger.waiting() == ["l1"]


def test_a_score_that_breaks_holds_up_one_lead_and_tells_where(caplog):
    broken = set()

    def score(situation, rows):
        return [{}[1] if situation.lead.lead_id in broken else 0.5 - 0.1 * row for row in rows]

    with Router.open(snapshot(4, p=score, config={"max_snapshot_age": "30d"})) as router:
        offers = offered(router, 1, 2, 3)
        broken |= {"l1", "l2"}
        found = {decision.lead_id: decision for decision in router.expire(now=LATE)}
        assert [statuses(router)[offer] for offer in offers] == ["expired"] * 3
        assert found["l3"].partner_id == "p1"
        for lead_id in ("l1", "l2"):
            assert found[lead_id].waits
            assert "a rule or its score broke with KeyError: 1" in found[lead_id].why
            assert router.replay(found[lead_id].decision_id).to_json() == found[lead_id].to_json()
        assert "return [{}[1] if" in caplog.text  # the line that broke
        broken -= {"l2"}
        caplog.clear()
        assert [decision.lead_id for decision in router.expire(now=LATE)] == ["l2"]
        assert "lead l1 still waits" in caplog.text
        assert "return [{}[1] if" in caplog.text
        with pytest.raises(KeyError):
            router.route({"lead_id": "l1"}, now=LATE)
        assert router.ledger.waiting() == ["l1"]
        assert router.ledger.audit() == []
