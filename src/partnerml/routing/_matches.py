"""Earlier leads that may be the same as a new one: their keys in memory, which follow what the ledger has written."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from partnerml.routing._names import Names

_FIELDS = ("account_id", "domain")


@dataclasses.dataclass(frozen=True)
class Keys:
    """By what a lead is known again.

    Attributes
    ----------
    account_id : str or None
    domain : str or None
        As `partnerml.routing._names.domain_key` has it.
    name : str or None
        Of the company, as `partnerml.routing._names.normalised` has it.
    country : str or None
    created_at : datetime or None
        When the lead came; None = when it is decided first.
    """

    account_id: str | None = None
    domain: str | None = None
    name: str | None = None
    country: str | None = None
    created_at: dt.datetime | None = None


class Known:
    """The leads of the ledger since some moment, by account, domain and name.

    Attributes
    ----------
    last : int
        Number of the last lead that is in it.
    since : int
        Leads that came before are not in it (microseconds since 1970).
    forgets : int
        How many leads had been forgotten by then: afterwards it must be read anew.
    """

    def __init__(self, *, since: int, forgets: int) -> None:
        self.last, self.since, self.forgets = 0, since, forgets
        self._rows: list[Any] = []
        self._by: dict[str, dict[str, list[int]]] = {field: defaultdict(list) for field in _FIELDS}
        self._texts: list[str | None] = []
        self._names = Names.of(self._texts)

    def add(self, rows: Iterable[Any]) -> None:
        """Take in the next leads: rows with the columns of the table."""
        fresh = list(rows)
        if not fresh:
            return
        for place, row in enumerate(fresh, start=len(self._rows)):
            for field in _FIELDS:
                if (key := getattr(row, field)) is not None:
                    self._by[field][key].append(place)
        names = Names.of([row.name for row in fresh])
        self._texts += names.texts
        self._names = Names(
            self._texts,
            np.concatenate([self._names.bits, names.bits]),
            np.concatenate([self._names.size, names.size]),
        )
        self._rows += fresh
        self.last = fresh[-1].lead

    def like(self, keys: Keys, *, since: int, threshold: float) -> list[Any]:
        """Return the leads that came at or after a moment and share account or domain, or have a name alike, in order.

        Parameters
        ----------
        keys : Keys
        since : int
        threshold : float
            How alike names must be, 0 to 100.
        """
        places = {place for field in _FIELDS for place in self._by[field].get(getattr(keys, field) or "", ())}
        if keys.name is not None and self._rows:
            places |= {place for place, _ in self._names.alike(keys.name, threshold)}
        return [row for place in sorted(places) if (row := self._rows[place]).created_at >= since]
