"""Companies that may be the same as one, and earlier leads among them; in memory, following what the ledger writes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from partnerml.routing._names import Names


class Company(Protocol):
    """What says which company it is about: `Keys`, or a row of the ledger."""

    @property
    def account_id(self) -> str | None: ...

    @property
    def domain(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...


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


class Companies:
    """Places of companies, found by account, domain and name."""

    def __init__(self, companies: Iterable[Company] = ()) -> None:
        self._by: tuple[dict[str, list[int]], ...] = ({}, {})
        self._texts: list[str | None] = []
        self._names = Names.of(self._texts)
        self.add(companies)

    def add(self, companies: Iterable[Company]) -> None:
        """Take in the next ones."""
        fresh = list(companies)
        for place, company in enumerate(fresh, start=len(self._texts)):
            for found, key in zip(self._by, (company.account_id, company.domain), strict=True):
                if key is not None:
                    found.setdefault(key, []).append(place)
        names = Names.of([company.name for company in fresh])
        self._texts += names.texts
        self._names = Names(
            self._texts,
            np.concatenate([self._names.bits, names.bits]),
            np.concatenate([self._names.size, names.size]),
        )

    def like(self, company: Company, threshold: float) -> list[int]:
        """Return the places of those that have the same account or domain, or a name alike, in order.

        Parameters
        ----------
        company : Company
        threshold : float
            How alike names must be, 0 to 100.
        """
        asked = zip(self._by, (company.account_id, company.domain), strict=True)
        places = {place for found, key in asked for place in found.get(key or "", ())}
        if company.name is not None:
            places.update(place for place, _ in self._names.alike(company.name, threshold))
        return sorted(places)


class Known:
    """The leads of the ledger since some moment, by account, domain and name.

    Attributes
    ----------
    last : int
        Number of the last lead that is in it.
    since : int
        Leads that were first decided before are not in it (microseconds since 1970).
    forgets : int
        How many leads had been forgotten by then: afterwards it must be read anew.
    """

    def __init__(self, *, since: int, forgets: int) -> None:
        self.last, self.since, self.forgets = 0, since, forgets
        self._rows: list[Any] = []
        self._companies = Companies()

    def add(self, rows: Iterable[Any]) -> None:
        """Take in the next leads: rows with the columns of the table."""
        fresh = list(rows)
        if fresh:
            self._companies.add(fresh)
            self._rows += fresh
            self.last = fresh[-1].lead

    def like(self, keys: Keys, *, since: int, threshold: float) -> list[Any]:
        """Return leads of companies that may be the same (see `Companies.like`) which were first decided since."""
        found = (self._rows[place] for place in self._companies.like(keys, threshold))
        return [row for row in found if row.decided_at >= since]
