"""The leads that a person must decide: those whose latest decision is that nobody gets them.

Also those that repeat a lead which no partner has, where that one is known from the tables alone and was never routed,
or has been forgotten since; and those of partners that have left, which will not work on them. Nobody else would see to
any of them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from partnerml.routing import _schema as tables
from partnerml.routing._decision import DUPLICATE, FALLBACK, Decision
from partnerml.routing._forget import FORGOTTEN
from partnerml.routing._history import moments
from partnerml.routing._offers import ACCEPTED, ASKED, OUTCOMES, WITHDRAWN
from partnerml.routing._queries import DUPLICATES, HOLDERS, many, was_last
from partnerml.routing._situation import naive

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.routing._partners import Partners

COLUMNS = (
    *("lead_id", "since", "why", "waits", "asked", "decision_id"),
    *("created_at", "account_id", "account_name", "country", "amount"),
)
# of a lead whose partner has left
WITH_LEFT = (*COLUMNS, "partner_id", "offer_id")
_OF_LEAD = ("account_id", "account_name", "country", "amount")

_REPEATS_FORGOTTEN = (
    "the lead that it repeated has been forgotten, and no partner has that one any more: partnerml override gives this "
    "one to somebody"
)

leads, decisions, offers, history = (
    table.c for table in (tables.leads, tables.decisions, tables.offers, tables.history)
)
_BY_THEN: Any = sa.bindparam("by_then")


def _partners_asked(until: Any) -> Any:
    """Return how many partners had a lead by a decision on it."""
    asked = sa.select(sa.func.count(sa.distinct(offers.partner_id))).where(offers.lead == decisions.lead, until)
    return asked.correlate(tables.decisions).scalar_subquery().label("asked")


_original, _first = tables.leads.alias().c, tables.decisions.alias().c
_REPEATS_NOTHING_ROUTED = sa.and_(
    decisions.status == DUPLICATE,
    decisions.partner_id.is_(None),
    ~sa.exists()
    .where(
        _original.lead_id == decisions.duplicate_of,
        _first.lead == _original.lead,
        _first.number == 0,
        _first.decided_at <= _BY_THEN,
    )
    .correlate(tables.decisions),
)
# what called a lead the duplicate of one that was forgotten since has been reduced with that one
_MAY_REPEAT_FORGOTTEN = sa.and_(decisions.status == DUPLICATE, decisions.forgotten == 1)


def _of_forgotten(column: Any) -> Any:
    """Return something of the lead that a decision calls its lead a duplicate of, where that one has been forgotten."""
    found = sa.select(column).where(
        _MAY_REPEAT_FORGOTTEN, _original.lead_id == decisions.duplicate_of, _original.forgotten == 1
    )
    found = found.where(history.lead == _original.lead, history.what == FORGOTTEN, history.at <= _BY_THEN)
    return found.limit(1).correlate(tables.decisions).scalar_subquery()


_ABOUT_LEAD = (leads.lead_id, leads.payload, leads.created_at)
_WITH_NOBODY = (
    sa.select(
        decisions.document,
        decisions.decided_at,
        *_ABOUT_LEAD,
        _partners_asked(offers.seq < decisions.seq),
        _of_forgotten(_original.lead).label("forgotten"),
        _of_forgotten(history.at).label("forgotten_at"),
    )
    .select_from(tables.decisions.join(tables.leads))
    .where(
        sa.or_(
            decisions.status == FALLBACK,
            _REPEATS_NOTHING_ROUTED,
            sa.and_(_MAY_REPEAT_FORGOTTEN, _of_forgotten(_original.lead).is_not(None)),
        ),
        leads.forgotten == 0,
        was_last(_BY_THEN),
    )
    .order_by(decisions.decided_at, decisions.seq)
)


def _noted(*what: str) -> Any:
    """Return the condition that one of some things had become of an offer."""
    found = sa.exists().where(history.lead == offers.lead, history.offer == offers.offer, history.what.in_(what))
    return found.where(history.at <= _BY_THEN).correlate(tables.offers)


_ACCEPTED = (
    sa.select(
        offers.partner_id,
        offers.offer_id,
        offers.offered_at,
        decisions.decision_id,
        *_ABOUT_LEAD,
        _partners_asked(offers.seq <= decisions.seq),
    )
    .select_from(tables.offers.join(tables.leads).join(tables.decisions, decisions.seq == offers.seq))
    .where(
        leads.forgotten == 0,
        offers.offered_at <= _BY_THEN,
        sa.or_(offers.way != ASKED, _noted(ACCEPTED)),
        ~_noted(WITHDRAWN, *OUTCOMES),
    )
    .order_by(offers.offer)
)


class Left(NamedTuple):
    """That a partner has left.

    Attributes
    ----------
    at : int
        Microseconds since 1970; 0 where it is not known.
    words : str
    """

    at: int
    words: str


def left_by(partners: Partners, moment: dt.datetime) -> Callable[[str], Left | None]:
    """Return what tells of a partner that it has left by a moment, or is not among some partners any more."""
    now = naive(moment)

    def left(partner_id: str) -> Left | None:
        row = partners.row(partner_id)
        if row is None:
            return Left(0, "is no longer in the table partners")
        at = partners.left_at[row]
        return Left(int(at.astype(np.int64)), f"left on {np.datetime_as_string(at, unit='D')}") if at <= now else None

    return left


def queue(connection: sa.Connection, *, by_then: int, left: Callable[[str], Left | None] | None = None) -> pd.DataFrame:
    """Return the leads that a person was to decide at a moment in microseconds, who waited longest first.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    by_then : int
    left : callable, optional
        Tells of a partner whether it has left; without it, leads that somebody has are not looked at.
    """
    rows = [*_with_nobody(connection, by_then)]
    if left is not None:
        rows += _with_left(connection, by_then, left)
    return _framed(sorted(rows, key=lambda row: int(row["since"])), COLUMNS if left is None else WITH_LEFT)


def _with_nobody(connection: sa.Connection, by_then: int) -> Iterator[dict[str, Any]]:
    """Yield the leads that nobody had and nobody was asked about."""
    rows = connection.execute(_WITH_NOBODY, {"by_then": by_then}).all()
    had = _had(connection, {row.forgotten for row in rows} - {None})
    for row in rows:
        if row.forgotten in had:
            continue
        decision = Decision.from_json(row.document)
        yield {
            **_about(row),
            "since": row.decided_at if row.forgotten is None else row.forgotten_at,
            "why": decision.why if row.forgotten is None else _REPEATS_FORGOTTEN,
            "waits": decision.waits,
            "decision_id": decision.decision_id,
        }


def _had(connection: sa.Connection, forgotten: set[int]) -> set[int]:
    """Return those of some forgotten leads that a partner closed, or that repeat a lead which a partner has."""
    copies: dict[int, int] = {}
    held: set[int] = set()
    asked = sorted(forgotten)
    while asked:
        rows = list(many(connection, DUPLICATES, asked))
        # one of the tables, which the ledger does not know: they say who has it
        held |= {row.lead for row in rows if row.original is None and row.partner_id is not None}
        found = {row.lead: row.original for row in rows if row.original is not None}
        asked = sorted({original for original in found.values() if original not in copies} - set(found))
        copies |= found
    last = {lead: _at_last(lead, copies) for lead in forgotten}
    held |= {row.lead for row in many(connection, HOLDERS, sorted(set(last.values())))}
    return {lead for lead, at in last.items() if at in held}


def _at_last(lead: int, copies: Mapping[int, int]) -> int:
    """Return the lead that one repeats in the end, by numbers."""
    seen: set[int] = set()
    while lead in copies and lead not in seen:
        seen.add(lead)
        lead = copies[lead]
    return lead


def _with_left(connection: sa.Connection, by_then: int, left: Callable[[str], Left | None]) -> Iterator[dict[str, Any]]:
    """Yield the open leads that somebody has who has left; an offer that was not answered ends by itself."""
    for row in connection.execute(_ACCEPTED, {"by_then": by_then}):
        found = left(row.partner_id)
        if found is not None:
            yield {
                **_about(row),
                "since": max(found.at, row.offered_at),
                "why": f"partner {row.partner_id} has it and {found.words}: partnerml withdraw {row.offer_id} lets the "
                "lead go on to the next one",
                "waits": False,
                "decision_id": row.decision_id,
                "partner_id": row.partner_id,
                "offer_id": row.offer_id,
            }


def _about(row: Any) -> dict[str, Any]:
    payload = json.loads(row.payload)
    told = {name: payload.get(name) for name in _OF_LEAD}
    return {"lead_id": row.lead_id, "created_at": row.created_at, "asked": row.asked, **told}


def _framed(rows: Any, names: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(names))
    for name in ("since", "created_at"):
        frame[name] = moments(frame[name])
    return frame.astype({"waits": "bool", "asked": "int64", "amount": "float64"})
