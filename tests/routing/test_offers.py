"""Offers and capacity: what the contract says of each step, and any sequence of steps against the plain model."""

import datetime as dt
import json

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.oracles.ledger import Book
from tests.routing.made_up_ledger import (
    DAY,
    HOUR,
    NOW,
    answer,
    capacity,
    decide,
    document,
    give,
    load_of,
    offer_id,
    route,
)

from partnerml.errors import DataError, InputError, InternalError
from partnerml.routing._ledger import Ledger
from partnerml.routing._offers import STATES, Offer, check_move, units_of

ONE = capacity((1, None, None))
THREE = capacity((1, 2, 2), (1, 2, 2), (1, 2, 2))
FREE = capacity((None, None, None), (None, None, None))


@pytest.fixture
def ledger():
    with Ledger.open(None) as opened:
        yield opened
        assert opened.audit() == []


def partner_of(text):
    return json.loads(text)["partner_id"]


def test_an_offer_takes_a_unit_of_the_day_the_week_and_the_open_leads(ledger):
    route(ledger, "L", FREE, NOW)
    assert load_of(ledger, FREE, NOW) == [(1, 1, 1), (0, 0, 0)]
    assert load_of(ledger, FREE, NOW + DAY) == [(0, 1, 1), (0, 0, 0)]
    assert load_of(ledger, FREE, NOW + 7 * DAY) == [(0, 0, 1), (0, 0, 0)]


@pytest.mark.parametrize("end", ["declined", "expired", "withdrawn"])
def test_what_a_partner_does_not_take_gives_back_week_and_open_lead_but_not_the_day(ledger, end):
    route(ledger, "L", FREE, NOW)
    later = NOW + 7 * DAY
    with ledger.turn(moment=later if end == "expired" else NOW + HOUR) as turn:
        if end == "expired":
            assert turn.expire(offer_id("L", 0)).status == end
        elif end == "declined":
            assert turn.respond(offer_id("L", 0), end).offer.status == end
        else:
            assert turn.withdraw(offer_id("L", 0), by="Ann", reason="duplicate").status == end
    # the unit of the week comes back to the week from which it was taken
    assert load_of(ledger, FREE, NOW)[0] == (1, 0, 0)
    assert load_of(ledger, FREE, later)[0] == (0, 0, 0)


def test_an_accepted_lead_is_held_until_it_is_closed(ledger):
    route(ledger, "L", FREE, NOW)
    answer(ledger, offer_id("L", 0), "accepted", FREE, NOW + HOUR)
    assert load_of(ledger, FREE, NOW)[0] == (1, 1, 1)
    with ledger.turn(moment=NOW + 2 * DAY) as turn:
        closed = turn.close("L", "won", amount=500, by="crm")
    assert (closed.outcome, closed.amount, closed.closed_at) == ("won", 500.0, NOW + 2 * DAY)
    assert load_of(ledger, FREE, NOW)[0] == (1, 1, 0)


@pytest.mark.parametrize("way", ["registered_deal", "existing_owner", "override"])
def test_a_lead_given_without_asking_holds_an_open_unit_alone_and_may_exceed_its_limit(ledger, way):
    none = capacity((0, 0, 0))
    give(ledger, "L", "P0", none, NOW, way=way)
    assert load_of(ledger, none, NOW) == [(0, 0, 1)]
    with ledger.turn("L", moment=NOW) as turn:
        assert turn.holder.status == "accepted"
        turn.withdraw(turn.holder.offer_id)
    assert load_of(ledger, none, NOW) == [(0, 0, 0)]


def test_a_decline_goes_on_in_the_same_turn_and_never_to_a_partner_that_had_the_lead(ledger):
    seen = [partner_of(route(ledger, "L", THREE, NOW))]
    for number in range(3):
        text = answer(ledger, offer_id("L", number), "declined", THREE, NOW + HOUR)
        seen.append(partner_of(text))
    assert seen == ["P0", "P1", "P2", None]
    assert json.loads(text)["status"] == "fallback"


def test_a_turn_that_fails_leaves_nothing_of_itself(ledger):
    route(ledger, "L", THREE, NOW)
    before = load_of(ledger, THREE, NOW)

    def stops(turn):
        turn.respond(offer_id("L", 0), "declined")
        decide(turn, THREE)
        assert turn.load(THREE).open.tolist() == [0, 1, 0]
        raise RuntimeError("the process stops here")

    with pytest.raises(RuntimeError, match="the process stops here"), ledger.turn(moment=NOW + HOUR) as turn:
        stops(turn)
    assert load_of(ledger, THREE, NOW) == before
    assert ledger.offer(offer_id("L", 0)).live


def test_an_answer_after_the_deadline_lets_the_offer_expire_and_is_refused(ledger):
    route(ledger, "L", THREE, NOW)
    late = NOW + 24 * HOUR
    with pytest.raises(InputError, match=r"could be answered until 2026-11-21T12:00:00\+00:00 and has expired"):
        answer(ledger, offer_id("L", 0), "accepted", THREE, late)
    assert ledger.offer(offer_id("L", 0)).status == "expired"
    # it has gone on, and the same answer again is told what has become of the offer
    assert ledger.offer(offer_id("L", 1)).partner_id == "P1"
    with pytest.raises(InputError, match=r"is expired since .*; it cannot be accepted: only a live offer is answered"):
        answer(ledger, offer_id("L", 0), "accepted", THREE, late)


def test_the_last_moment_before_the_deadline_is_good(ledger):
    route(ledger, "L", THREE, NOW)
    answer(ledger, offer_id("L", 0), "accepted", THREE, NOW + 24 * HOUR - dt.timedelta(microseconds=1))
    assert ledger.offer(offer_id("L", 0)).status == "accepted"


def test_the_same_answer_again_changes_nothing_and_another_is_refused(ledger):
    route(ledger, "L", THREE, NOW)
    first = answer(ledger, offer_id("L", 0), "declined", THREE, NOW + HOUR)
    assert answer(ledger, offer_id("L", 0), "declined", THREE, NOW + 2 * HOUR) == first
    assert len(ledger.offers()) == 2
    with pytest.raises(InputError, match=r"offer offer-L-0 of lead L to partner P0 is declined since 2026-11-20T13"):
        answer(ledger, offer_id("L", 0), "accepted", THREE, NOW + 2 * HOUR)


def test_expire_finds_what_is_overdue_the_earliest_first(ledger):
    for i, within in enumerate((3, 1, 2, 9)):
        route(ledger, f"L{i}", FREE, NOW, within=within * HOUR)
    answer(ledger, offer_id("L2", 0), "accepted", FREE, NOW)
    assert [offer.lead_id for offer in ledger.overdue(NOW + 3 * HOUR)] == ["L1", "L0"]
    with ledger.turn(moment=NOW + 2 * HOUR) as turn:
        assert turn.expire(offer_id("L0", 0)).live
        assert turn.expire(offer_id("L1", 0)).status == "expired"
        assert turn.lead_id == "L1"


def test_an_override_takes_the_lead_from_who_holds_it(ledger):
    route(ledger, "L", THREE, NOW)
    answer(ledger, offer_id("L", 0), "accepted", THREE, NOW)
    give(ledger, "L", "P2", THREE, NOW, by="Ann", reason="customer asked")
    assert [(offer.partner_id, offer.status) for offer in ledger.offers()] == [("P0", "withdrawn"), ("P2", "accepted")]
    assert load_of(ledger, THREE, NOW) == [(1, 0, 0), (0, 0, 0), (0, 0, 1)]
    # and back at the same moment: the offers of a lead still come one after the other
    give(ledger, "L", "P0", THREE, NOW)
    moments = [offer.offered_at for offer in ledger.offers()]
    assert moments == sorted(set(moments))


def test_a_closed_lead_goes_to_nobody_else(ledger):
    give(ledger, "L", "P0", FREE, NOW)
    with ledger.turn(moment=NOW) as turn:
        turn.close("L", "lost")
    with pytest.raises(InputError, match="and the lead lost; it is closed and goes to nobody else"):
        give(ledger, "L", "P1", FREE, NOW)
    with pytest.raises(InputError, match="it cannot be withdrawn"), ledger.turn(moment=NOW) as turn:
        turn.withdraw(offer_id("L", 0))


def test_an_outcome_may_be_corrected_and_its_unit_comes_back_once(ledger):
    give(ledger, "L", "P0", FREE, NOW)
    for outcome, amount in (("lost", None), ("lost", None), ("won", 10.5)):
        with ledger.turn(moment=NOW + DAY) as turn:
            turn.close("L", outcome, amount=amount, closed_at=NOW)
    assert ledger.history("L").query("what in ['lost', 'won']").what.tolist() == ["lost", "won"]
    assert load_of(ledger, FREE, NOW)[0] == (0, 0, 0)
    assert ledger.offer(offer_id("L", 0)).amount == 10.5


@pytest.mark.parametrize("amount", [5, np.int64(5), np.float32(5.0)])
def test_an_amount_may_be_a_number_of_numpy(ledger, amount):
    give(ledger, "L", "P0", FREE, NOW)
    with ledger.turn(moment=NOW) as turn:
        turn.close("L", "won", amount=amount)
    assert repr(ledger.offer(offer_id("L", 0)).amount) == "5.0"


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"lead_id": "M", "outcome": "won"}, InputError, "there is no lead 'M' in this ledger"),
        ({"lead_id": "L", "outcome": "sold"}, InputError, "one of won, lost, cancelled; got 'sold'"),
        ({"lead_id": "L", "outcome": "won"}, InputError, "no partner that accepted it: offer offer-L-0 .* is offered"),
        ({"lead_id": "H", "outcome": "won", "amount": -1}, DataError, "amount must be a number that is not negative"),
        ({"lead_id": "H", "outcome": "won", "amount": float("nan")}, DataError, "got nan"),
        ({"lead_id": "H", "outcome": "won", "amount": "5"}, DataError, "got '5'"),
        ({"lead_id": "H", "outcome": "won", "amount": True}, DataError, "got True"),
        ({"lead_id": "H", "outcome": "won", "amount": 10**400}, DataError, "got an integer of 1,329 bits"),
        ({"lead_id": "H", "outcome": "won", "closed_at": NOW + 3 * DAY}, DataError, "later than now"),
        ({"lead_id": "H", "outcome": "won", "closed_at": NOW - 3 * DAY}, DataError, "before partner P1 got it"),
        ({"lead_id": "H\0", "outcome": "won"}, DataError, "lead_id holds a NUL"),
    ],
)
def test_an_outcome_that_cannot_be_is_refused(ledger, what, error, message):
    route(ledger, "L", FREE, NOW)
    give(ledger, "H", "P1", FREE, NOW)
    with pytest.raises(error, match=message), ledger.turn(moment=NOW) as turn:
        turn.close(**what)


def test_a_lead_closed_on_the_day_it_was_given_is_closed_when_it_was_given(ledger):
    give(ledger, "L", "P0", FREE, NOW)
    with ledger.turn(moment=NOW + DAY) as turn:
        assert turn.close("L", "won", closed_at=NOW.replace(hour=0)).closed_at == NOW


@pytest.mark.parametrize("name", ["", "x" * 201, "\0", "\ud800", 5, None, b"L"])
def test_ids_that_no_database_holds_are_refused(ledger, name):
    with pytest.raises(DataError, match="offer_id"), ledger.turn(moment=NOW) as turn:
        turn.respond(name, "accepted")


def test_answers_and_offers_that_are_not_there_are_told(ledger):
    route(ledger, "L", FREE, NOW)
    with pytest.raises(InputError, match="one of accepted, declined; got 'maybe'"), ledger.turn(moment=NOW) as turn:
        turn.respond(offer_id("L", 0), "maybe")
    with pytest.raises(InputError, match="there is no offer"), ledger.turn(moment=NOW) as turn:
        turn.respond("'; DROP TABLE offers; --", "accepted")
    with pytest.raises(InputError, match=r"one of offered, accepted, .*; got 'live'"):
        ledger.offers(status="live")


def test_a_second_offer_of_a_lead_that_is_held_is_our_fault(ledger):
    route(ledger, "L", FREE, NOW)
    second = pytest.raises(InternalError, match="another offer of it would be a second one")
    with second, ledger.turn("L", moment=NOW) as turn:
        decide(turn, FREE)
    with pytest.raises(InternalError, match="a turn that looks at 'L'"), ledger.turn("L", moment=NOW) as turn:
        turn.record(document=document("M", 1, "fallback"))
    with pytest.raises(InternalError, match="without its payload"), ledger.turn("M", moment=NOW) as turn:
        turn.record(document=document("M", 0, "fallback"))


@pytest.mark.parametrize("status", STATES)
def test_only_steps_of_the_state_machine_are_taken(status):
    offer = Offer("O", "L", "P", "offer", status, NOW, NOW + DAY, None, None, None, None, 0)
    allowed = {"offered": {"accepted", "declined", "expired", "withdrawn"}, "accepted": {"withdrawn"}}
    for step in STATES:
        if step in allowed.get(status, ()):
            check_move(offer, step)
        else:
            with pytest.raises(InputError, match=f"is {status}.*cannot be {step}"):
                check_move(offer, step)


def test_every_unit_but_that_of_the_day_comes_back():
    for way in ("offer", "override"):
        taken = units_of("offered" if way == "offer" else "held", way)
        for end in ("declined", "expired", "withdrawn"):
            given = units_of(end, way)
            assert (taken.week + given.week, taken.open + given.open, given.day) == (0, 0, 0)


class Offers(RuleBasedStateMachine):
    """Any sequence of steps: the ledger and the plain model have the same, always."""

    limits = ((1, 2, 2), (2, 3, None), (None, None, 1), (2, None, 3))
    zones = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata")
    leads = st.integers(0, 9).map("L{}".format)
    partners = st.integers(0, 3).map("P{}".format)

    def __init__(self):
        super().__init__()
        self.ledger = Ledger.open(None)
        self.room = capacity(*self.limits, zones=self.zones)
        self.book = Book({f"P{i}": {"zone": self.zones[i], "limits": self.limits[i]} for i in range(len(self.limits))})
        self.now = NOW

    def teardown(self):
        assert self.ledger.audit() == []
        self.ledger.close()

    def follow(self, lead, text):
        """Take the decision over into the model, where the room must be what the ledger thought it was."""
        partner = partner_of(text)
        room = [name for name in self.book.partners if self.book.has_room(name, self.now)]
        rest = [name for name in room if name not in self.book.had(lead)]
        assert (partner is None) == (not rest)
        if partner is not None:
            assert partner in rest
            self.book.offer(lead, partner, self.now, self.now + 24 * HOUR)

    @rule(hours=st.integers(0, 30))
    def wait(self, hours):
        self.now += hours * HOUR

    @rule(lead=leads, pick=st.randoms(use_true_random=False))
    def route(self, lead, pick):
        with self.ledger.turn(lead, moment=self.now) as turn:
            new = turn.latest is None
        text = route(self.ledger, lead, self.room, self.now, choose=pick.choice)
        if new:
            self.follow(lead, text)
        assert route(self.ledger, lead, self.room, self.now) == text

    @precondition(lambda self: any(one.status == "offered" for one in self.book.given))
    @rule(data=st.data(), response=st.sampled_from(["accepted", "declined"]))
    def respond(self, data, response):
        live = [one for one in self.book.given if one.status == "offered"]
        offer = data.draw(st.sampled_from(live))
        name = next(found.offer_id for found in self.ledger.offers(lead_id=offer.lead, status="offered"))
        self.book.respond(offer.lead, response, self.now)
        try:
            text = answer(self.ledger, name, response, self.room, self.now)
        except InputError:
            assert offer.status == "expired"
            text = route(self.ledger, offer.lead, self.room, self.now)
        if offer.status != "accepted":
            self.follow(offer.lead, text)

    @rule()
    def expire(self):
        overdue = self.ledger.overdue(self.now)
        assert {offer.lead_id for offer in overdue} == self.book.expire(self.now)
        for offer in overdue:
            with self.ledger.turn(moment=self.now) as turn:
                assert turn.expire(offer.offer_id).status == "expired"

    @rule(lead=leads, partner=partners)
    def override(self, lead, partner):
        if self.book.closed(lead):
            with pytest.raises(InputError, match="it is closed"):
                give(self.ledger, lead, partner, self.room, self.now)
        else:
            give(self.ledger, lead, partner, self.room, self.now)
            self.book.give(lead, partner, self.now)

    @rule(lead=leads, outcome=st.sampled_from(["won", "lost", "cancelled"]))
    def close(self, lead, outcome):
        holder = self.book.holder(lead)
        if holder is not None and holder.status == "accepted":
            with self.ledger.turn(moment=self.now) as turn:
                turn.close(lead, outcome)
            self.book.close(lead, outcome)

    @invariant()
    def counted_alike(self):
        assert load_of(self.ledger, self.room, self.now) == [
            self.book.load(partner, self.now) for partner in self.book.partners
        ]

    @invariant()
    def held_by_the_same(self):
        held = {offer.lead_id: offer.partner_id for offer in self.ledger.offers() if offer.holds}
        told = {one.lead: one.partner for one in self.book.given if self.book.holder(one.lead) is one}
        assert held == told


TestAnySequence = Offers.TestCase
TestAnySequence.settings = settings(max_examples=25, stateful_step_count=30)
