"""What is asked of the tables of the ledger, and how rows become values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from partnerml.errors import DataError, InputError
from partnerml.routing import _schema as tables
from partnerml.routing._capacity import Entry, Fold
from partnerml.routing._decision import ASSIGNED, FALLBACK, OWNER
from partnerml.routing._hours import day_number, week_number
from partnerml.routing._offers import DECLINED, EXPIRED, HOLDING, OFFERED, OUTCOMES, WITHDRAWN, Offer
from partnerml.routing._ready import Ready
from partnerml.routing._schema import DAY, OPEN, WEEK, maybe_moment, moment_of

_LONGEST_ID = 200
_LONGEST_TEXT = 10_000
_AT_ONCE = 500  # values in one list of a query
# a fold begins so long before the moment: somewhere it is still the day before, and clocks of machines differ
_BEFORE = dt.timedelta(days=2)

leads, decisions, offers = tables.leads.c, tables.decisions.c, tables.offers.c
entries, counters = tables.entries.c, tables.counters.c


class Then(NamedTuple):
    """When a decision was made, by what came before it.

    Attributes
    ----------
    seq : int
        Number of the decision.
    entry : int
        Number of the last entry that it was made after.
    at : int
        Microseconds since 1970.
    """

    seq: int
    entry: int
    at: int


FORGETS = sa.select(tables.ledger.c.forgets)
_LAST_CREDIT = sa.select(sa.func.coalesce(sa.func.max(tables.owed_changes.c.change), 0))
LAST_CREDIT = Ready(_LAST_CREDIT)
# one row always: of a lead that is not there, it has only what is the same for all
LEAD = Ready(
    sa.select(
        tables.ledger.c.forgets,
        _LAST_CREDIT.scalar_subquery().label("last_credit"),
        leads.lead,
        leads.lead_id,
        leads.payload,
        leads.forgotten,
        decisions.seq,
        decisions.decision_id,
        decisions.number,
        decisions.document,
    )
    .select_from(
        tables.ledger.outerjoin(tables.leads, leads.lead_id == bindparam("of_lead_id")).outerjoin(
            tables.decisions, decisions.lead == leads.lead
        )
    )
    .order_by(decisions.number.desc())
    .limit(1)
)
DECISION = (
    sa.select(tables.decisions, leads.lead_id, leads.payload)
    .select_from(tables.decisions.join(tables.leads))
    .where(decisions.decision_id == bindparam("decision_id"))
)
FIRST_DECIDED = (
    sa.select(decisions.document, leads.payload, decisions.seq, decisions.after_entry, decisions.decided_at)
    .select_from(tables.decisions.join(tables.leads))
    .where(
        decisions.number == 0,
        decisions.forgotten == 0,
        decisions.decided_at >= bindparam("start"),
        decisions.decided_at < bindparam("end"),
    )
    .order_by(decisions.seq)
)
FIRST_DECIDED_SINCE = (
    sa.select(leads.lead_id)
    .select_from(tables.decisions.join(tables.leads))
    .where(decisions.number == 0, decisions.decided_at >= bindparam("start"))
)
FIRST_OWNED_SINCE = FIRST_DECIDED_SINCE.add_columns(decisions.document).where(decisions.status == OWNER)
CAME = sa.select(sa.func.count()).where(
    decisions.number == 0,
    decisions.status.in_((ASSIGNED, FALLBACK)),
    decisions.decided_at >= bindparam("start"),
    decisions.decided_at <= bindparam("end"),
)
# the latest first, of which so many are asked for
CONSIDERED = (
    sa.select(leads.payload, tables.vectors.c.vector)
    .select_from(tables.decisions.join(tables.leads).join(tables.vectors, tables.vectors.c.seq == decisions.seq))
    .where(
        decisions.number == 0,
        decisions.forgotten == 0,
        decisions.decided_at >= bindparam("start"),
        decisions.decided_at <= bindparam("end"),
    )
    .order_by(decisions.seq.desc())
)
OFFERS = (
    sa.select(tables.offers, leads.lead_id, decisions.number)
    .select_from(tables.offers.join(tables.leads).join(tables.decisions, decisions.seq == offers.seq))
    .order_by(offers.offer)
)
OFFERS_OF_LEAD = Ready(OFFERS.where(offers.lead == bindparam("of_lead")))
OFFER = OFFERS.where(offers.offer_id == bindparam("id_of_offer"))
OVERDUE = (
    OFFERS.where(offers.status == OFFERED, offers.deadline <= bindparam("now"))
    .order_by(None)
    .order_by(offers.deadline, offers.offer)
)
_ENTRY = (
    entries.seq,
    entries.partner_id,
    entries.day,
    entries.week,
    entries.d_day,
    entries.d_week,
    entries.d_open,
    leads.lead_id,
)
_ENTRIES = sa.select(*_ENTRY).select_from(
    tables.entries.join(tables.offers, offers.offer == entries.offer).join(tables.leads, leads.lead == offers.lead)
)
ENTRIES_AFTER = Ready(_ENTRIES.where(entries.seq > bindparam("last")).order_by(entries.seq))
GIVEN = (
    sa.select(leads.lead_id)
    .distinct()
    .select_from(tables.leads.join(tables.offers))
    .where(leads.lead_id.in_(bindparam("those", expanding=True)))
)
ENTRIES_UNTIL = _ENTRIES.where(
    entries.seq <= bindparam("last"),
    sa.or_(entries.d_open != 0, entries.week >= bindparam("week")),
).order_by(entries.seq)
ENTRIES_BETWEEN = (
    _ENTRIES.add_columns(entries.step)
    .where(entries.seq > bindparam("after"), entries.seq <= bindparam("last"))
    .order_by(entries.seq)
)
# when something was written last: decisions, and what became of them, are in the order of time
LAST_STEP = sa.select(
    sa.func.coalesce(
        sa.select(decisions.decided_at).order_by(decisions.seq.desc()).limit(1).scalar_subquery(), 0
    ).label("decided"),
    sa.func.coalesce(
        sa.select(tables.history.c.at).order_by(tables.history.c.event.desc()).limit(1).scalar_subquery(), 0
    ).label("became"),
)
LAST_ENTRY = sa.select(sa.func.coalesce(sa.func.max(entries.seq), 0))
COUNTERS = sa.select(counters.kind, counters.period, counters.partner_id, counters.units).where(
    counters.units > 0,
    sa.or_(
        counters.kind == OPEN,
        sa.and_(counters.kind == DAY, counters.period >= bindparam("day")),
        sa.and_(counters.kind == WEEK, counters.period >= bindparam("week")),
    ),
)
# with when each was decided first: it counts from then on
_TOLD_APART = sa.select(
    leads.lead,
    leads.lead_id,
    leads.created_at,
    decisions.decided_at,
    leads.account_id,
    leads.domain,
    leads.name,
    leads.country,
).join_from(tables.leads, tables.decisions, sa.and_(decisions.lead == leads.lead, decisions.number == 0))
LEADS_AFTER = Ready(
    _TOLD_APART.where(
        leads.lead > bindparam("last"),
        decisions.decided_at >= bindparam("since"),
        leads.forgotten == 0,
    ).order_by(leads.lead)
)
HOLDERS = sa.select(offers.lead, offers.partner_id, offers.outcome, offers.closed_at).where(
    offers.lead.in_(bindparam("those", expanding=True)), offers.status.in_(HOLDING)
)
# the same as it was when a decision was made; what became of offers stands in entries and history, which never change
_became = tables.history.alias().c


def _of_outcome(column: Any) -> Any:
    """Return what the last outcome of an offer by then says."""
    told = sa.select(column).where(_became.lead == offers.lead, _became.offer == offers.offer)
    told = told.where(_became.what.in_(OUTCOMES), _became.at <= bindparam("at"))
    return told.order_by(_became.event.desc()).limit(1).correlate(tables.offers).scalar_subquery()


HOLDERS_THEN = sa.select(
    offers.lead,
    offers.partner_id,
    _of_outcome(_became.what).label("outcome"),
    _of_outcome(_became.closed_at).label("closed_at"),
).where(
    offers.lead.in_(bindparam("those", expanding=True)),
    offers.seq < bindparam("seq"),
    ~sa.exists()
    .where(
        entries.offer == offers.offer,
        entries.seq <= bindparam("entry"),
        entries.step.in_((DECLINED, EXPIRED, WITHDRAWN)),
    )
    .correlate(tables.offers),
)
_later, _original = tables.decisions.alias().c, tables.leads.alias()
_IS_LAST = ~sa.exists().where(_later.lead == decisions.lead, _later.number > decisions.number)


def was_last(by_then: Any) -> Any:
    """Return the condition that a decision was the last on its lead of those that were made by a moment."""
    newer = sa.exists().where(
        _later.lead == decisions.lead, _later.number > decisions.number, _later.decided_at <= by_then
    )
    return sa.and_(decisions.decided_at <= by_then, ~newer)


LATEST = (
    sa.select(decisions.decision_id)
    .select_from(tables.decisions.join(tables.leads))
    .where(leads.lead_id == bindparam("of_lead_id"), was_last(bindparam("by_then")))
)
WAITING = (
    sa.select(leads.lead_id)
    .select_from(tables.decisions.join(tables.leads))
    .where(tables.WAITS, _IS_LAST)
    .order_by(decisions.lead)
)
# leads that are others come again: whose, as far as the ledger knows it, and who had that one then
_DUPLICATES = (
    sa.select(decisions.lead, decisions.partner_id, _original.c.lead.label("original"), _original.c.forgotten)
    .select_from(tables.decisions.outerjoin(_original, _original.c.lead_id == decisions.duplicate_of))
    .where(decisions.lead.in_(bindparam("those", expanding=True)), decisions.status == "duplicate")
)
DUPLICATES = _DUPLICATES.where(_IS_LAST)
DUPLICATES_THEN = _DUPLICATES.where(
    decisions.seq < bindparam("seq"),
    ~sa.exists().where(_later.lead == decisions.lead, _later.number > decisions.number, _later.seq < bindparam("seq")),
)
PAYLOADS = sa.select(leads.lead_id, leads.payload).where(leads.lead_id.in_(bindparam("those", expanding=True)))
VECTOR = sa.select(tables.vectors.c.vector).where(tables.vectors.c.seq == bindparam("of_decision"))
HAD = (
    sa.select(offers.partner_id)
    .select_from(tables.offers.join(tables.decisions, decisions.seq == offers.seq))
    .where(offers.lead == bindparam("of_lead"), decisions.number < bindparam("before"))
)
LEADS_NUMBERED = _TOLD_APART.where(leads.lead.in_(bindparam("those", expanding=True)))
CREDITS = sa.select(tables.owed.c.partner_id, tables.owed.c.credit)
CREDITS_AFTER = (
    sa.select(tables.owed_changes.c.change, tables.owed_changes.c.credits)
    .where(tables.owed_changes.c.change > bindparam("last"))
    .order_by(tables.owed_changes.c.change)
)
CREDITS_UNTIL = (
    sa.select(tables.owed_changes.c.credits)
    .where(tables.owed_changes.c.change <= bindparam("last"))
    .order_by(tables.owed_changes.c.change)
)


def offer_of(row: Any) -> Offer:
    """Return an offer as a value."""
    return Offer(
        offer_id=row.offer_id,
        lead_id=row.lead_id,
        partner_id=row.partner_id,
        way=row.way,
        status=row.status,
        offered_at=moment_of(row.offered_at),
        deadline=maybe_moment(row.deadline),
        responded_at=maybe_moment(row.responded_at),
        outcome=row.outcome,
        closed_at=maybe_moment(row.closed_at),
        amount=row.amount,
        number=row.number,
    )


def beginning(moment: dt.datetime) -> tuple[int, int]:
    """Return the day and the week from which on counters are read for a moment."""
    date = (moment.astimezone(dt.UTC) - _BEFORE).date()
    return day_number(date), week_number(date)


def counted(connection: sa.Connection, moment: dt.datetime, *, held: Collection[str]) -> Fold:
    """Return the fold of all entries, from the counters that the database keeps.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    moment : datetime
    held : collection of str
        Leads that are looked out for: the fold tells which of them somebody was given.
    """
    day, week = beginning(moment)
    fold = Fold(seq=connection.execute(LAST_ENTRY).scalar_one(), since=day)
    look_out(connection, fold, held)
    for kind, period, partner_id, units in connection.execute(COUNTERS, {"day": day, "week": week}):
        if kind == OPEN:
            fold.open[partner_id] = units
        else:
            (fold.day if kind == DAY else fold.week)[period][partner_id] = units
    return fold


def look_out(connection: sa.Connection, fold: Fold, held: Collection[str]) -> None:
    """Let a fold of all entries look out for other leads."""
    given = {row.lead_id for row in many(connection, GIVEN, list(held))}
    fold.held, fold.given = held, given


def folded(connection: sa.Connection, moment: dt.datetime, *, last: int) -> Fold:
    """Return the fold of the entries up to one of them, from the entries themselves."""
    day, week = beginning(moment)
    fold = Fold(since=day)
    fold.add(Entry(*row) for row in connection.execute(ENTRIES_UNTIL, {"last": last, "week": week}))
    return fold


def find_offer(connection: sa.Connection, offer_id: str) -> tuple[Any, Offer]:
    """Return the row of an offer, and the offer.

    Raises
    ------
    InputError
        If there is none of that id.
    """
    row = connection.execute(OFFER, {"id_of_offer": checked_id(offer_id, "offer_id")}).first()
    if row is None:
        raise InputError(f"there is no offer {offer_id!r} in this ledger; the decision on a lead names its offer")
    return row, offer_of(row)


def find_decision(connection: sa.Connection, decision_id: str) -> Any:
    """Return the row of a decision.

    Raises
    ------
    InputError
        If there is none of that id.
    """
    row = connection.execute(DECISION, {"decision_id": checked_id(decision_id, "decision_id")}).first()
    if row is None:
        raise InputError(f"there is no decision {decision_id!r} in this ledger")
    return row


def checked_id(value: object, name: str) -> str:
    """Return an id that the database can hold.

    Raises
    ------
    DataError
        If it is no text, or one that is no id.
    """
    told = f"{name} must be a text of 1 to {_LONGEST_ID} characters"
    if not isinstance(value, str):
        raise DataError(f"{told}; got {type(value).__name__}")
    if not value or len(value) > _LONGEST_ID:
        raise DataError(f"{told}; got {len(value)}")
    return checked_text(value, name)


def checked_text(value: str, name: str) -> str:
    """Return a text that the database can hold.

    Raises
    ------
    DataError
        If it has a NUL or half a character in it.
    """
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{name} holds a NUL or half of a character, which no database keeps; got {value!r:.80}")
    return value


def checked_words(value: object, name: str) -> str:
    """Return what a person gave as who did something, or why, as the database can hold it.

    Raises
    ------
    DataError
        If it is no text, or one that is too long or that no database keeps.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise DataError(f"{name} must be a text of at most {_LONGEST_TEXT:,} characters")
    return checked_text(value, name)


def many(connection: sa.Connection, query: Any, those: Sequence[str] | Sequence[int], **asked: int) -> Iterator[Any]:
    """Yield the rows of some leads by their ids or numbers, of which there may be very many."""
    for start in range(0, len(those), _AT_ONCE):
        yield from connection.execute(query, {"those": list(those[start : start + _AT_ONCE]), **asked})
