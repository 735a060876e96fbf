"""Rows of the ledger as they are written: each step of an offer with its units of capacity and its line of history."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml.routing import _schema as tables
from partnerml.routing._offers import ACCEPTED, ASKED, CLOSED, HELD, OFFERED, Held, Limits, NewOffer, Offer, units_of
from partnerml.routing._queries import checked_words
from partnerml.routing._ready import Ready
from partnerml.routing._schema import micros

if TYPE_CHECKING:
    from partnerml.routing._vectors import Vector

_OWED = sa.text(
    "INSERT INTO owed (partner_id, credit) VALUES (:partner_id, :credit) "
    "ON CONFLICT (partner_id) DO UPDATE SET credit = excluded.credit"
)
_NO_LIMITS = Limits()
_NEW_LEAD = Ready(tables.leads.insert().returning(tables.leads.c.lead))
_NEW_DECISION = Ready(tables.decisions.insert().returning(tables.decisions.c.seq))
_NEW_OFFER = Ready(tables.offers.insert().returning(tables.offers.c.offer))
_NEW_VECTOR, _NEW_ENTRY, _NEW_NOTE = (Ready(t.insert()) for t in (tables.vectors, tables.entries, tables.history))
_NEW_CHANGE = tables.owed_changes.insert()


class Writer:
    """What a turn writes.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In the transaction of the turn.
    moment : datetime
        Now, zoned UTC.
    """

    def __init__(self, connection: sa.Connection, moment: dt.datetime) -> None:
        self._connection, self._moment = connection, moment

    def lead(self, **values: Any) -> int:
        """Write a lead and return its number."""
        return _NEW_LEAD.number(self._connection, values)

    def decision(self, vector: Vector | None, **values: Any) -> int:
        """Write a decision, with what was chosen from, and return its number."""
        seq = _NEW_DECISION.number(self._connection, values)
        if vector is not None:
            _NEW_VECTOR.all(self._connection, {"seq": seq, "vector": vector.packed()})
        return seq

    def offer(self, lead: int, seq: int, given: NewOffer | Held, *, after: int) -> int:
        """Write an offer, or that a partner holds a lead without having been asked.

        Parameters
        ----------
        lead, seq : int
            Numbers of the lead and the decision.
        given : NewOffer or Held
        after : int
            When the lead was offered last: its offers come one after the other, also where two fall on one moment.

        Returns
        -------
        int
            The number of the offer.
        """
        asked = isinstance(given, NewOffer)
        way = given.way if isinstance(given, Held) else ASKED
        at = max(micros(self._moment), after + 1)
        values = {
            "offer_id": given.offer_id,
            "seq": seq,
            "lead": lead,
            "partner_id": given.partner_id,
            "way": way,
            "offered_at": at,
            "deadline": micros(given.deadline) if isinstance(given, NewOffer) else None,
            "day": given.day,
            "week": given.week,
            "status": OFFERED if asked else ACCEPTED,
            "responded_at": None if asked else at,
        }
        number = _NEW_OFFER.number(self._connection, values)
        limits = given.limits if isinstance(given, NewOffer) else _NO_LIMITS
        self._enter(number, given.partner_id, OFFERED if asked else HELD, way, (given.day, given.week), limits)
        return number

    def step(self, row: Any, offer: Offer, status: str, *, by: str | None, reason: str | None) -> dt.datetime:
        """Write what has become of an offer, and return when."""
        at = max(self._moment, offer.offered_at)
        self._connection.execute(
            tables.offers.update().where(tables.offers.c.offer == row.offer),
            {"status": status, "responded_at": micros(at)},
        )
        if status != ACCEPTED:
            self._enter(row.offer, offer.partner_id, status, offer.way, (row.day, row.week), _NO_LIMITS)
        self.note(row.lead, row.offer, status, by=by, reason=reason)
        return at

    def close(
        self, row: Any, offer: Offer, outcome: str, closed_at: dt.datetime, amount: float | None, *, by: str | None
    ) -> None:
        """Write what has become of a lead; its open-lead unit comes back the first time."""
        closed = {"closed_at": micros(closed_at), "amount": amount}
        self._connection.execute(
            tables.offers.update().where(tables.offers.c.offer == row.offer),
            {"outcome": outcome, "closed_recorded_at": micros(self._moment)} | closed,
        )
        if offer.outcome is None:
            self._enter(row.offer, offer.partner_id, CLOSED, offer.way, (row.day, row.week), _NO_LIMITS)
        self.note(row.lead, row.offer, outcome, by=by, reason=None, **closed)

    def note(self, lead: int, offer: int | None, what: str, *, by: str | None, reason: str | None, **more: Any) -> None:
        """Write a line of history."""
        values = {"at": micros(self._moment), "lead": lead, "offer": offer, "what": what}
        words = {"by": _words(by, "by"), "reason": _words(reason, "reason")}
        _NEW_NOTE.all(self._connection, values | words | {"closed_at": None, "amount": None} | more)

    def owe(self, credit: Mapping[str, float]) -> None:
        """Write what partners are owed from now on, where that has changed."""
        if not credit:
            return
        changed = json.dumps(dict(credit), allow_nan=False, ensure_ascii=False)
        self._connection.execute(_NEW_CHANGE, {"credits": changed})
        self._connection.execute(
            _OWED, [{"partner_id": partner_id, "credit": value} for partner_id, value in credit.items()]
        )

    def move_aside(self, decision_id: str, offer_id: str | None) -> None:
        """Free the ids of a lead that was forgotten and has come again: ids are made of what a lead is called."""
        decisions, offers = tables.decisions, tables.offers
        aside = secrets.token_hex(6)
        self._connection.execute(
            decisions.update()
            .where(decisions.c.decision_id == decision_id, decisions.c.forgotten == 1)
            .values(decision_id=f"{decision_id}-{aside}", forgotten=1)
        )
        forgotten = sa.select(tables.leads.c.lead).where(tables.leads.c.forgotten == 1)
        self._connection.execute(
            offers.update()
            .where(offers.c.offer_id == offer_id, offers.c.lead.in_(forgotten))
            .values(offer_id=f"{offer_id}-{aside}")
        )

    def _enter(self, offer: int, partner_id: str, step: str, way: str, period: tuple[int, int], limits: Limits) -> None:
        units, (day, week) = units_of(step, way), period
        values = {"offer": offer, "partner_id": partner_id, "at": micros(self._moment), "step": step}
        changes = {"day": day, "week": week, "d_day": units.day, "d_week": units.week, "d_open": units.open}
        in_force = {"limit_day": limits.day, "limit_week": limits.week, "limit_open": limits.open}
        _NEW_ENTRY.all(self._connection, values | changes | in_force)


def _words(value: object, name: str) -> str | None:
    return None if value is None else checked_words(value, name)
