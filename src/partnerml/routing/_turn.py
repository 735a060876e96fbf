"""A turn: one transaction in which the state is read, a decision is made of it, and written.

Turns are serial: nobody else writes between what a turn reads and what it writes. So a decision is drawn from the very
state that it is stored with, and a lead cannot be given twice.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml.errors import InputError, InternalError
from partnerml.routing import _queries as queries
from partnerml.routing._matches import Keys
from partnerml.routing._offers import (
    ACCEPTED,
    ANSWERS,
    ASKED,
    EXPIRED,
    OUTCOMES,
    OVERRIDE,
    WITHDRAWN,
    Answer,
    Held,
    NewOffer,
    Offer,
    check_move,
    checked_amount,
    closing,
)
from partnerml.routing._schema import maybe_moment, micros, moment_of
from partnerml.routing._situation import Load, Match
from partnerml.routing._writer import Writer

if TYPE_CHECKING:
    from partnerml.routing._capacity import PartnerCapacity
    from partnerml.routing._memory import Memory
    from partnerml.routing._vectors import Vector


@dataclasses.dataclass(frozen=True)
class Latest:
    """The last decision on a lead.

    Attributes
    ----------
    decision_id : str
    number : int
        How many decisions there were on the lead before.
    text : str
        The decision as JSON, byte for byte as it was given.
    payload : str
        Of the lead.
    offer : Offer or None
        That the decision made.
    forgotten : bool
        Whether the lead has been forgotten since.
    """

    decision_id: str
    number: int
    text: str
    payload: str
    offer: Offer | None
    forgotten: bool = False


class Turn:
    """One transaction on the ledger, which looks at one lead at a time; made by `Ledger.turn`.

    Attributes
    ----------
    moment : datetime
        Now, zoned UTC.
    lead_id : str or None
        The lead that it looks at.
    wrote : bool
        Whether it has written anything: what was read then may be undone with it.
    """

    def __init__(self, connection: sa.Connection, memory: Memory, *, lead_id: str | None, moment: dt.datetime) -> None:
        self.connection, self._memory, self.moment = connection, memory, moment
        self._writer, self.wrote = Writer(connection, moment), False
        memory.begin()
        self.look_at(lead_id)

    def look_at(self, lead_id: str | None) -> None:
        """Look at another lead."""
        self.lead_id = None if lead_id is None else queries.checked_id(lead_id, "lead_id")
        self._found: Any = None
        self._offers: list[tuple[Any, Offer]] | None = None
        self._matched: list[tuple[Any, ...]] = []

    @property
    def _writes(self) -> Writer:
        self.wrote = True
        return self._writer

    @property
    def _lead(self) -> Any:
        """The row of the lead; None if it has none."""
        if self._found is None:
            self._found = queries.LEAD.one(self.connection, {"of_lead_id": self.lead_id})
        return None if self._found.lead is None else self._found

    @property
    def latest(self) -> Latest | None:
        """The last decision on the lead; None if there is none."""
        if self._lead is None:
            return None
        offer = next((offer for offer in reversed(self.offers) if offer.number == self._lead.number), None)
        lead = self._lead
        return Latest(lead.decision_id, lead.number, lead.document, lead.payload, offer, bool(lead.forgotten))

    @property
    def number(self) -> int:
        """How many decisions the lead has had."""
        return 0 if self._lead is None else int(self._lead.number) + 1

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All offers of the lead, in order."""
        return tuple(offer for _, offer in self._offer_rows())

    @property
    def had(self) -> frozenset[str]:
        """Partners that have had the lead."""
        return frozenset(offer.partner_id for offer in self.offers)

    @property
    def holder(self) -> Offer | None:
        """The offer by which a partner holds the lead at present; None if nobody does."""
        return next((offer for offer in self.offers if offer.holds), None)

    @property
    def closed(self) -> Offer | None:
        """The offer by whose partner the lead was closed; None while it is open."""
        return next((offer for offer in self.offers if offer.outcome is not None), None)

    @property
    def last_step(self) -> dt.datetime:
        """When something was written last; the epoch, if nothing ever was."""
        return moment_of(max(self.connection.execute(queries.LAST_STEP).one()))

    def load(self, capacity: PartnerCapacity) -> Load:
        """Return what partners have been given, as it is now, this turn included."""
        return self._memory.load(self.connection, capacity, self.moment)

    def credit(self) -> Mapping[str, float]:
        """Return how many leads each partner is owed by weighted round robin; who is not in it is owed none."""
        return self._memory.credit(self.connection)

    def matches(
        self, keys: Keys, *, since: dt.datetime, name_threshold: float = 93.0, then: queries.Then | None = None
    ) -> list[Match]:
        """Return other leads that may be the same: of the same account or domain, or with a name alike.

        Parameters
        ----------
        keys : Keys
            Of this lead.
        since : datetime
            Leads that were first decided before are not looked at.
        name_threshold : float
            How alike names must be, 0 to 100.
        then : Then, optional
            A decision: who had them, and what had become of them, is told as it was before it. By default as it is.
        """
        known = self._memory.known(self.connection, since=micros(since), forgets=self._forgets())
        like = known.like(keys, since=micros(since), threshold=name_threshold)
        partners = self._partners_of([row.lead for row in like if row.lead_id != self.lead_id], then)
        rows = [row for row in like if row.lead in partners]
        self._matched = [(row.lead, *partners[row.lead]) for row in rows]
        return [match_of(row, *partners[row.lead]) for row in rows]

    def _forgets(self) -> int:
        """Return how many leads have been forgotten."""
        return int((self._found or self.connection.execute(queries.FORGETS).one()).forgets)

    def _partners_of(self, numbers: list[int], then: queries.Then | None) -> dict[int, tuple[Any, ...]]:
        """Return who has some leads; of those that are closed, their outcome and when as well.

        A lead that is another one come again is with whoever has that one now. It is left out where that one has been
        forgotten: then nobody has it or is asked about it, and it must not keep the next one from being routed.
        """
        if not numbers:
            return {}
        duplicates, holders, by = queries.DUPLICATES, queries.HOLDERS, {}
        if then is not None:
            duplicates, holders, by = queries.DUPLICATES_THEN, queries.HOLDERS_THEN, then._asdict()
        copies: dict[int, Any] = {}
        asked = numbers
        while asked:
            found = {row.lead: row for row in queries.many(self.connection, duplicates, asked, **by)}
            copies |= found
            asked = [row.original for row in found.values() if row.original and row.original not in copies]
        first = {number: _followed(number, copies) for number in numbers}
        at_last = sorted({at for at, _ in first.values()})
        held = {
            row.lead: (row.partner_id,) if row.outcome is None else (row.partner_id, row.outcome, row.closed_at)
            for row in queries.many(self.connection, holders, at_last, **by)
        }
        return {
            number: held.get(at, (None if copy is None else copy.partner_id,))
            for number, (at, copy) in first.items()
            if copy is None or not copy.forgotten
        }

    def record(
        self,
        *,
        document: Mapping[str, Any],
        payload: str | None = None,
        keys: Keys | None = None,
        offer: NewOffer | None = None,
        held: Held | None = None,
        vector: Vector | None = None,
        credit: Mapping[str, float] | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Write the next decision on the lead.

        Parameters
        ----------
        document : mapping
            The decision: JSON with at least ``decision_id``, ``lead_id``, ``status``, ``partner_id`` and
            ``duplicate_of``.
        payload : str, optional
            Canonical JSON of the lead; needed for its first decision.
        keys : Keys, optional
            By what the lead is known again; of its first decision.
        offer : NewOffer, optional
            The offer that it makes.
        held : Held, optional
            The partner that gets the lead without being asked. Who holds it at present loses it (``withdrawn``).
        vector : Vector, optional
            What the policy chose from.
        credit : mapping of str to float, optional
            What partners are owed from now on, where that has changed.
        by, reason : str, optional
            Of an override.

        Returns
        -------
        str
            The JSON text that is stored, and that the same question will get for an answer.
        """
        credited = None if self._found is None else self._found.last_credit
        state = (self._memory.last_entry(self.connection), self._memory.last_credit(self.connection, found=credited))
        self._check(document, offer, held)
        lead = self._lead_number(payload, keys)
        text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        given = offer or held
        if self._forgets():
            self._writes.move_aside(document["decision_id"], None if given is None else given.offer_id)
        seq = self._writes.decision(
            vector,
            decision_id=document["decision_id"],
            lead=lead,
            number=self.number,
            decided_at=micros(self.moment),
            status=document["status"],
            partner_id=document["partner_id"],
            duplicate_of=document["duplicate_of"],
            document=text,
            after_entry=state[0],
            after_credit=state[1],
            matches=json.dumps(self._matched) if self._matched else None,
        )
        if isinstance(given, NewOffer):  # of the open leads, the database counts only its own
            given = given.beside(self._memory.held(given.partner_id))
        if given is not None:
            self._give(lead, seq, given, by, reason)
        self.owe(credit or {})
        self.look_at(self.lead_id)
        return text

    def _check(self, document: Mapping[str, Any], offer: NewOffer | None, held: Held | None) -> None:
        if self.lead_id is None or document["lead_id"] != self.lead_id:
            raise InternalError(f"a decision on lead {document['lead_id']!r} in a turn that looks at {self.lead_id!r}")
        if offer is not None and held is not None:
            raise InternalError("a decision makes an offer or gives the lead away, not both")
        holder = self.holder
        if holder is not None and offer is not None:
            raise InternalError(f"{holder.told}; another offer of it would be a second one")
        if self.closed is not None and (offer is not None or held is not None):
            raise InputError(
                f"{self.closed.told}; it is closed and goes to nobody else. New business is a new lead; within "
                "routing.duplicates.window of this one it counts as the same come again, and override gives it to whom "
                "you name"
            )

    def _lead_number(self, payload: str | None, keys: Keys | None) -> int:
        if self._lead is not None:
            if payload is not None and payload != self._lead.payload:
                raise InternalError(f"lead {self.lead_id!r} came with another payload, which the caller is to refuse")
            return int(self._lead.lead)
        if payload is None:
            raise InternalError(f"the first decision on lead {self.lead_id!r} came without its payload")
        keys = keys or Keys()
        return self._writes.lead(
            lead_id=self.lead_id,
            created_at=micros(keys.created_at or self.moment),
            payload=payload,
            account_id=keys.account_id,
            domain=keys.domain,
            name=keys.name,
            country=keys.country,
        )

    def _give(self, lead: int, seq: int, given: NewOffer | Held, by: str | None, reason: str | None) -> None:
        for row, offer in self._offer_rows():
            if offer.holds:  # another one is named in its place
                self._end(row, offer, by=by, reason=reason)
        after = max((row.offered_at for row, _ in self._offer_rows()), default=-1)
        number = self._writes.offer(lead, seq, given, after=after)
        if isinstance(given, Held) and given.way == OVERRIDE:
            self._writes.note(lead, number, OVERRIDE, by=by, reason=reason)

    def owe(self, credit: Mapping[str, float]) -> None:
        """Write what partners are owed by weighted round robin from now on, where that has changed."""
        self._writes.owe(credit)
        if credit:
            self._found = None

    def respond(self, offer_id: str, response: str, *, by: str | None = None, reason: str | None = None) -> Answer:
        """Write a partner's answer, and look at the lead from now on.

        An answer after the deadline lets the offer expire instead; `Answer.refuse_late` tells it to the caller once
        the turn has ended, since an error within the turn would undo the expiry.

        Parameters
        ----------
        offer_id : str
        response : str
            ``accepted`` or ``declined``.
        by, reason : str, optional
            Who answered, and why.

        Raises
        ------
        InputError
            If there is no such offer, or it has been answered otherwise.
        """
        if response not in ANSWERS:
            raise InputError(f"a partner answers with one of {', '.join(ANSWERS)}; got {response!r:.80}")
        row, offer = self._at(offer_id)
        if offer.status == response:
            return Answer(offer, repeated=True)
        if offer.overdue(self.moment):
            return Answer(self._step(row, offer, EXPIRED), late=True)
        if offer.way != ASKED or not offer.live:
            instead = "; withdraw takes the lead back" if offer.holds else ""
            raise InputError(f"{offer.told}; it cannot be {response}: only a live offer is answered{instead}")
        return Answer(self._step(row, offer, response, by=by, reason=reason))

    def expire(self, offer_id: str) -> Offer:
        """Let an offer expire if it is live and its deadline has passed, and look at its lead from now on."""
        row, offer = self._at(offer_id)
        return self._step(row, offer, EXPIRED) if offer.overdue(self.moment) else offer

    def withdraw(self, offer_id: str, *, by: str | None = None, reason: str | None = None) -> Offer:
        """Take an offer, or a lead that a partner has accepted, back, and look at the lead from now on.

        An offer whose deadline has passed was not taken back: it expires.

        Raises
        ------
        InputError
            If the partner does not hold the lead any more.
        """
        row, offer = self._at(offer_id)
        if offer.status == WITHDRAWN:
            return offer
        check_move(offer, WITHDRAWN)
        return self._end(row, offer, by=by, reason=reason)

    def close(
        self,
        lead_id: str,
        outcome: str,
        *,
        closed_at: dt.datetime | None = None,
        amount: float | None = None,
        by: str | None = None,
    ) -> Offer:
        """Write what became of a lead that a partner has accepted.

        The same again changes nothing; another outcome later is a correction, and both stay in the history.

        Parameters
        ----------
        lead_id, outcome : str
            ``won``, ``lost`` or ``cancelled``.
        closed_at : datetime, optional
            When; now, if not given. On the day on which the lead was given, it counts as the moment of giving.
        amount : float, optional
        by : str, optional

        Raises
        ------
        InputError
            If nobody has accepted the lead, or the values cannot be.
        """
        if outcome not in OUTCOMES:
            raise InputError(f"a lead is closed as one of {', '.join(OUTCOMES)}; got {outcome!r:.80}")
        self.look_at(lead_id)
        row, offer = self._accepted()
        closed = closing(offer, closed_at, moment=self.moment)
        amount = checked_amount(amount)
        if (offer.outcome, offer.amount) == (outcome, amount) and closed_at in (None, offer.closed_at, closed):
            return offer
        self._writes.close(row, offer, outcome, closed, amount, by=by)
        self._offers = None
        return self._at(offer.offer_id)[1]

    def note(self, lead: int, what: str, *, by: str | None = None) -> None:
        """Write a line of history about a lead by its number."""
        self._writes.note(lead, None, what, by=by, reason=None)

    def _accepted(self) -> tuple[Any, Offer]:
        if self._lead is None:
            raise InputError(f"there is no lead {self.lead_id!r} in this ledger; an outcome is that of a routed lead")
        found = [(row, offer) for row, offer in self._offer_rows() if offer.status == ACCEPTED]
        if not found:
            last = f": {self.offers[-1].told}" if self.offers else ""
            raise InputError(
                f"lead {self.lead_id!r} has an outcome and no partner that accepted it{last}; "
                "write the partner's answer first, or override"
            )
        return found[-1]

    def _at(self, offer_id: str) -> tuple[Any, Offer]:
        row, offer = queries.find_offer(self.connection, offer_id)
        if self.lead_id != offer.lead_id:
            self.look_at(offer.lead_id)
        return row, offer

    def _offer_rows(self) -> list[tuple[Any, Offer]]:
        if self._offers is None:
            lead = None if self._lead is None else self._lead.lead
            rows = [] if lead is None else queries.OFFERS_OF_LEAD.all(self.connection, {"of_lead": lead})
            self._offers = [(row, queries.offer_of(row)) for row in rows]
        return self._offers

    def _end(self, row: Any, offer: Offer, *, by: str | None, reason: str | None) -> Offer:
        """Write that a partner has a lead no longer: it was taken back, or the deadline had passed before."""
        if offer.overdue(self.moment):
            return self._step(row, offer, EXPIRED)
        return self._step(row, offer, WITHDRAWN, by=by, reason=reason)

    def _step(self, row: Any, offer: Offer, status: str, *, by: str | None = None, reason: str | None = None) -> Offer:
        at = self._writes.step(row, offer, status, by=by, reason=reason)
        self._offers = None
        return dataclasses.replace(offer, status=status, responded_at=at)


def _followed(number: int, copies: Mapping[int, Any]) -> tuple[int, Any]:
    """Return the lead that one is in the end, and the last copy where that says more: of what is unknown or gone."""
    seen: set[int] = set()
    while (copy := copies.get(number)) is not None:
        if copy.original is None or copy.forgotten or copy.original in seen:
            return number, copy
        seen.add(number)
        number = copy.original
    return number, None


def match_of(row: Any, partner_id: str | None, outcome: str | None = None, closed_at: int | None = None) -> Match:
    """Return an earlier lead as a value."""
    return Match(
        lead_id=row.lead_id,
        partner_id=partner_id,
        created_at=moment_of(row.created_at),
        decided_at=moment_of(row.decided_at),
        account_id=row.account_id,
        domain=row.domain,
        name=row.name,
        country=row.country,
        outcome=outcome,
        closed_at=maybe_moment(closed_at),
    )
