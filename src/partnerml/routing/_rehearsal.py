"""Decisions that are not made: what leads would get, one after the other.

A rehearsal starts with what the ledger holds and keeps what it decides to itself. It supposes that partners keep what
they would be offered: nobody knows what those would have answered who were not asked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from partnerml.routing._capacity import Aligned, Entry, Fold
from partnerml.routing._decide import Case, decide
from partnerml.routing._decision import Decision
from partnerml.routing._lead import Lead
from partnerml.routing._matches import Known
from partnerml.routing._offers import ASKED, CLOSED, EXPIRED, HELD, OFFERED, units_of
from partnerml.routing._precedence import keys_of
from partnerml.routing._schema import micros
from partnerml.routing._standing import is_due, parts
from partnerml.routing._turn import match_of

if TYPE_CHECKING:
    from partnerml.progress import Progress
    from partnerml.routing._decide import Outcome
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._offers import Offer
    from partnerml.routing._opened import Opened
    from partnerml.routing._queries import Then
    from partnerml.routing._situation import Load, Match
    from partnerml.routing._turn import Turn


class _Row(NamedTuple):
    """A lead of the rehearsal, with the columns that those of the ledger have."""

    lead: int
    lead_id: str
    created_at: int
    decided_at: int
    account_id: str | None
    domain: str | None
    name: str | None
    country: str | None


class Past(NamedTuple):
    """What a lead has behind it: how many decisions, with which partners, and what the last of them gives back."""

    number: int = 0
    had: frozenset[str] = frozenset()
    freed: tuple[Entry, ...] = ()


NEW = Past()


class Behind(NamedTuple):
    """What the ledger knows of a lead: the decision that stands, else what lies behind it, and leads like it."""

    stands: Decision | None
    past: Past
    matches: Sequence[Match]


class Rehearsal:
    """Decides leads one after the other, and writes nothing.

    Parameters
    ----------
    opened : Opened
    fold : Fold
        What partners have been given when it begins; it goes on from there.
    credit : mapping of str to float
        What round robin owes partners.
    """

    def __init__(self, opened: Opened, fold: Fold, credit: dict[str, float]) -> None:
        self.opened, self._fold, self._credit = opened, fold, dict(credit)
        self._aligned: Aligned | None = None
        self._known = Known(since=0, forgets=0)
        self._decided: list[tuple[str | None, str | None]] = []  # who got a lead, and which one it repeats
        self._open: dict[str, Entry] = {}  # what leads that it gave out took, by their ids

    def route(self, lead: Lead, moment: dt.datetime, *, matches: Sequence[Match] = (), past: Past = NEW) -> Decision:
        """Decide a lead.

        Parameters
        ----------
        lead : Lead
        moment : datetime
        matches : sequence of Match
            Leads of the ledger that may be the same.
        past : Past
            What the lead has behind it, if it does not come for the first time.
        """
        return self.take(self.case(lead, moment, matches=matches, past=past))

    def case(self, lead: Lead, moment: dt.datetime, *, matches: Sequence[Match] = (), past: Past = NEW) -> Case:
        """Return a lead as it stands in the rehearsal, to be decided."""
        self.count(past.freed)
        keys = keys_of(lead, self.opened.snapshot)
        window = self.opened.config.duplicates
        since = micros(moment - window.window)
        own = self._known.like(keys, since=since, threshold=window.name_threshold) if window.enabled else []
        others = {match.lead_id: match for match in matches}
        found = [*matches, *(self._match(row, others) for row in own)]
        situation = self.opened.situation(lead, moment, self._load(moment), had=past.had, matches=found)
        return Case(situation, self.opened.way, past.number)

    def _match(self, row: _Row, others: Mapping[str, Match]) -> Match:
        """Return a lead of the rehearsal as an earlier one; a copy is with whoever has the lead that it repeats."""
        partner_id, repeats = self._decided[row.lead]
        known, first = match_of(row, partner_id), others.get(repeats or "")
        if first is None:
            return known
        return dataclasses.replace(known, partner_id=first.partner_id, outcome=first.outcome, closed_at=first.closed_at)

    def take(self, case: Case, outcome: Outcome | None = None) -> Decision:
        """Take a decision for made: one that was found elsewhere, or that of the policy."""
        if outcome is None:
            # whatever the age of the snapshot: a past day is made up anew by the one in use
            outcome = decide(case.situation, way=case.way, number=case.number, credit=self._credit)
        lead, moment = case.situation.lead, case.situation.moment
        self._take(self.opened.written(outcome, moment=moment), lead.lead_id)
        self._credit |= outcome.credit or {}
        keys = keys_of(lead, self.opened.snapshot)
        created = micros(keys.created_at or moment)
        told = keys.account_id, keys.domain, keys.name, keys.country
        row = _Row(len(self._decided), lead.lead_id, created, micros(moment), *told)
        self._known.add([row])
        self._decided.append((outcome.decision.partner_id, outcome.decision.duplicate_of))
        return outcome.decision

    @property
    def credit(self) -> Mapping[str, float]:
        """What round robin owes partners by now."""
        return self._credit

    def close(self, lead_id: str) -> None:
        """Close a lead: whoever got it in the rehearsal, if anybody, has room for another."""
        taken = self._open.pop(lead_id, None)
        if taken is not None:
            day, week, opened = units_of(CLOSED, ASKED)
            self.count([taken._replace(seq=self._fold.seq + 1, d_day=day, d_week=week, d_open=opened)])

    def _load(self, moment: dt.datetime) -> Load:
        capacity = self.opened.way.capacity
        if self._aligned is None or not self._aligned.serves(capacity, moment):
            self._aligned = Aligned(self._fold, capacity, moment)
        return self._aligned.load

    def _take(self, told: dict[str, Any], lead_id: str) -> None:
        """Count what a decision gives a partner, as the ledger would."""
        offer, held = told.get("offer"), told.get("held")
        given = offer or held
        if given is None:
            return
        units = units_of(HELD if offer is None else OFFERED, ASKED)
        self._open[lead_id] = Entry(self._fold.seq + 1, given.partner_id, given.day, given.week, *units, lead_id)
        self.count([self._open[lead_id]])

    def count(self, entries: Sequence[Entry]) -> None:
        """Count units that leads took or gave back, of the rehearsal or not."""
        self._fold.add(entries)
        if self._aligned is not None:
            self._aligned.add(entries)


def dry_run(
    ledger: Ledger, opened: Opened, leads: Sequence[Lead], *, moment: dt.datetime, progress: Progress
) -> list[Decision]:
    """Return what leads would get now; those that have a decision keep it."""
    rehearsal = Rehearsal(opened, *ledger.standing(now=moment, capacity=opened.way.capacity))
    behind = (found for part in parts(leads) for found in in_ledger(ledger, opened, part, moment=moment))
    decisions = []
    for lead, found in progress.track(zip(leads, behind, strict=True), "leads", total=len(leads)):
        stands = found.stands
        decisions.append(
            rehearsal.route(lead, moment, matches=found.matches, past=found.past) if stands is None else stands
        )
    return decisions


def in_ledger(ledger: Ledger, opened: Opened, leads: Sequence[Lead], *, moment: dt.datetime) -> list[Behind]:
    """Return what the ledger knows of some leads, all read in one turn."""
    with ledger.turn(moment=moment) as turn:
        return [_behind(turn, opened, lead, moment) for lead in leads]


def matches_then(ledger: Ledger, opened: Opened, lead: Lead, *, moment: dt.datetime, then: Then) -> list[Match]:
    """Return leads that may be the same as one, with who had them before a decision, and what had become of them."""
    with ledger.turn(lead.lead_id, moment=moment) as turn:
        return _matches(turn, opened, lead, moment, then)


def _matches(turn: Turn, opened: Opened, lead: Lead, moment: dt.datetime, then: Then | None = None) -> list[Match]:
    window = opened.config.duplicates
    if not window.enabled:
        return []
    since, threshold = moment - window.window, window.name_threshold
    return turn.matches(keys_of(lead, opened.snapshot), since=since, name_threshold=threshold, then=then)


def _behind(turn: Turn, opened: Opened, lead: Lead, moment: dt.datetime) -> Behind:
    turn.look_at(lead.lead_id)
    latest, found = turn.latest, _matches(turn, opened, lead, moment)
    if latest is None:
        return Behind(None, NEW, found)
    if not is_due(latest, moment):
        return Behind(Decision.from_json(latest.text), NEW, found)
    return Behind(None, Past(turn.number, turn.had, _freed(opened, turn.holder)), found)


def _freed(opened: Opened, overdue: Offer | None) -> tuple[Entry, ...]:
    """Return the units that an offer gives back when it expires."""
    if overdue is None:
        return ()
    taken = opened.held(overdue.partner_id, overdue.offer_id, overdue.way, overdue.offered_at)
    return (Entry(0, overdue.partner_id, taken.day, taken.week, *units_of(EXPIRED, overdue.way), overdue.lead_id),)
