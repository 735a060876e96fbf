"""What a process keeps in memory of the ledger, so that a turn reads only what is new."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from partnerml.routing import _queries as queries
from partnerml.routing._capacity import Aligned, Entry, Fold, PartnerCapacity
from partnerml.routing._hours import day_number
from partnerml.routing._matches import Known

if TYPE_CHECKING:
    from partnerml.routing._situation import Load

_KEPT = dt.timedelta(days=30)  # counters of days past that are kept before all is read anew


class Memory:
    """The state of the ledger as far as it was read; used by one turn at a time.

    It reads what the turn itself has written like everything else, from the database. After a turn that was undone it
    may hold what never was: `forget` it then.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._fold: Fold | None = None
        self._aligned: Aligned | None = None
        self._known: Known | None = None
        self._credit: dict[str, float] | None = None
        self._change = 0
        self.begin()

    def begin(self) -> None:
        """Begin a turn: what others have written since is not yet read."""
        self._load_read = self._credit_read = False

    def load(self, connection: sa.Connection, capacity: PartnerCapacity, moment: dt.datetime) -> Load:
        """Return what partners have been given."""
        self._follow(connection, capacity, moment)
        self._load_read = True
        if self._aligned is None or not self._aligned.serves(capacity, moment):
            self._aligned = Aligned(self._fold or Fold(), capacity, moment)
        return self._aligned.load

    def held(self, partner_id: str) -> int:
        """Return how many of a partner's open leads in the load of this turn are not the ledger's."""
        return self._aligned.held(partner_id) if self._load_read and self._aligned is not None else 0

    def last_entry(self, connection: sa.Connection) -> int:
        """Return the number of the last entry that the load of this turn is made of."""
        if self._load_read and self._fold is not None:
            return self._fold.seq
        return int(connection.execute(queries.LAST_ENTRY).scalar_one())

    def last_credit(self, connection: sa.Connection, *, found: int | None = None) -> int:
        """Return the number of the last change that what partners are owed in this turn is made of.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        found : int, optional
            What another query of the turn said of it, if nothing has changed since.
        """
        if self._credit_read:
            return self._change
        if found is not None:
            return found
        return queries.LAST_CREDIT.number(connection, {})

    def credit(self, connection: sa.Connection) -> Mapping[str, float]:
        """Return how many leads each partner is owed."""
        if self._credit is None:
            self._change = self.last_credit(connection)
            self._credit = {row.partner_id: row.credit for row in connection.execute(queries.CREDITS)}
        else:
            for change, changed in connection.execute(queries.CREDITS_AFTER, {"last": self._change}):
                self._change = change
                self._credit.update(json.loads(changed))
        self._credit_read = True
        return dict(self._credit)

    def known(self, connection: sa.Connection, *, since: int, forgets: int) -> Known:
        """Return the leads that were first decided at or after a moment, and maybe some before."""
        if self._known is None or since < self._known.since or self._known.forgets != forgets:
            self._known = Known(since=since, forgets=forgets)
        after = {"last": self._known.last, "since": self._known.since}
        self._known.add(queries.LEADS_AFTER.all(connection, after))
        return self._known

    def _follow(self, connection: sa.Connection, capacity: PartnerCapacity, moment: dt.datetime) -> None:
        fold = self._fold
        kept = queries.beginning(moment - _KEPT)[0]
        if fold is None or not kept <= fold.since <= day_number((moment - dt.timedelta(days=1)).date()):
            self._fold, self._aligned = queries.counted(connection, moment, held=capacity.held), None
            return
        fresh = [Entry(*row) for row in queries.ENTRIES_AFTER.all(connection, {"last": fold.seq})]
        fold.add(fresh)
        if self._aligned is not None:
            self._aligned.add(fresh)
        if fold.held is not capacity.held:
            queries.look_out(connection, fold, capacity.held)
