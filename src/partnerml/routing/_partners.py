"""What routing knows of partners, deals, accounts and leads: current values, as arrays and by their keys."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from partnerml import schema
from partnerml.routing._names import domain_key
from partnerml.routing._tables import MOMENT, column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Moments = npt.NDArray[np.datetime64]
Objects = npt.NDArray[np.object_]

NO_ROW = -1
REGISTERED = ("approved", "pending")
_MOMENTS = ("joined_at", "left_at", "paused_until")
_NUMBERS = ("capacity_per_day", "capacity_per_week", "max_open_leads", "min_deal_amount", "max_deal_amount")
_TEXTS = ("partner_id", "name", "partner_type", "tier", "parent_id", "country", "region")


@dataclasses.dataclass(frozen=True, eq=False)
class Partners:
    """Partners in the order of their ids, each at its row.

    Attributes
    ----------
    partner_id, name, partner_type, tier, parent_id, country, region : array of str or None, shape (n,)
    joined_at, left_at, paused_until : array of datetime64[us], shape (n,)
        Naive UTC, NaT where null.
    capacity_per_day, capacity_per_week, max_open_leads : array, shape (n,)
        NaN is unlimited.
    min_deal_amount, max_deal_amount : array, shape (n,)
        NaN is no limit.
    time_zones : tuple of str
        The zones that any partner has.
    time_zone : array of int, shape (n,)
        Position in `time_zones`; -1 where null.
    flags : tuple of frozenset of str
    flagged : mapping of str to array of bool, shape (n,)
        For each flag, who has it.
    more : mapping of str to array, shape (n,)
        All other columns: numbers as float64, else as they are.
    """

    partner_id: Objects
    name: Objects
    partner_type: Objects
    tier: Objects
    parent_id: Objects
    country: Objects
    region: Objects
    joined_at: Moments
    left_at: Moments
    paused_until: Moments
    capacity_per_day: Floats
    capacity_per_week: Floats
    max_open_leads: Floats
    min_deal_amount: Floats
    max_deal_amount: Floats
    time_zones: tuple[str, ...]
    time_zone: Ints
    flags: tuple[frozenset[str], ...]
    flagged: Mapping[str, Bools]
    more: Mapping[str, npt.NDArray[Any]]
    index: Mapping[str, int]

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """Take the canonical table."""
        known: dict[str, Any] = {name: objects(table, name) for name in _TEXTS}
        known |= {name: moments(table, name) for name in _MOMENTS}
        known |= {name: numbers(table, name) for name in _NUMBERS}
        zones = known_values(table, "time_zone")
        number = {zone: code for code, zone in enumerate(zones)}
        flags = tuple(frozenset(items or ()) for items in column(table, "flags"))
        named = sorted({flag for items in flags for flag in items})
        own = {*_TEXTS, *_MOMENTS, *_NUMBERS, "time_zone", "flags"}
        return cls(
            **known,
            time_zones=zones,
            time_zone=np.array([number.get(zone, NO_ROW) for zone in column(table, "time_zone")], dtype=np.int64),
            flags=flags,
            flagged=MappingProxyType({flag: np.array([flag in items for items in flags]) for flag in named}),
            more=MappingProxyType({name: _as_is(table, name) for name in table.column_names if name not in own}),
            index=MappingProxyType({partner: row for row, partner in enumerate(column(table, "partner_id"))}),
        )

    def __len__(self) -> int:
        return len(self.partner_id)

    def row(self, partner_id: str) -> int | None:
        """Return the row of a partner, None if there is no such partner."""
        return self.index.get(partner_id)

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """Return a column by its name in the table ``partners``, None if there is none."""
        if name == "time_zone":
            return np.array([None if code < 0 else self.time_zones[code] for code in self.time_zone], dtype=object)
        found = self.more.get(name) if name not in schema.PARTNERS.names else getattr(self, name, self.more.get(name))
        return found if isinstance(found, np.ndarray) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Certifications:
    """Who earned what and until when: all of them, since it is the day of the lead that counts.

    Attributes
    ----------
    names : tuple of str
        What can be earned.
    row, code : array of int, shape (k,)
        Of the partner, and position in `names`; in the order of the rows.
    earned_at, expires_at, revoked_at : array of datetime64[us], shape (k,)
        NaT where it does not expire or is not revoked.
    """

    names: tuple[str, ...]
    row: Ints
    code: Ints
    earned_at: Moments
    expires_at: Moments
    revoked_at: Moments

    @classmethod
    def of(cls, table: pa.Table, partners: Partners) -> Self:
        """Take the canonical table; rows of partners that are not there are left out."""
        rows = rows_of(table, partners)
        texts = [text.strip() for text in column(table, "certification")]
        names = tuple(sorted(set(texts)))
        number = {name: code for code, name in enumerate(names)}
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] != NO_ROW]
        codes = np.array([number[text] for text in texts], dtype=np.int64)
        spans = (moments(table, name)[order] for name in ("earned_at", "expires_at", "revoked_at"))
        return cls(names, rows[order], codes[order], *spans)


class Deal(NamedTuple):
    """An open registered deal."""

    deal_id: str
    row: int  # of the partner
    registered_at: dt.datetime
    status: str  # approved or pending
    protected_until: dt.datetime | None
    lead_id: str | None
    account_id: str | None
    domain: str | None
    name: str | None  # of the account, as written
    country: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Deals:
    """Open registered deals, the first registered first.

    Attributes
    ----------
    every : tuple of Deal
    by_lead, by_account, by_domain : mapping of str to tuple of Deal
    """

    every: tuple[Deal, ...]
    by_lead: Mapping[str, tuple[Deal, ...]]
    by_account: Mapping[str, tuple[Deal, ...]]
    by_domain: Mapping[str, tuple[Deal, ...]]

    @classmethod
    def of(cls, table: pa.Table, partners: Partners, accounts: Accounts) -> Self:
        """Take the canonical table; what is closed, neither approved nor pending, or of no partner here is left out."""
        every = tuple(
            _deal(values, row, accounts)
            for values, row in zip(table.to_pylist(), rows_of(table, partners).tolist(), strict=True)
            if row != NO_ROW and values["registration_status"] in REGISTERED and values["outcome"] in (None, "open")
        )
        return cls(every, *(_grouped(every, name) for name in ("lead_id", "account_id", "domain")))


def _deal(values: Mapping[str, Any], row: int, accounts: Accounts) -> Deal:
    account = accounts.get(values["account_id"])
    return Deal(
        deal_id=values["deal_id"],
        row=row,
        registered_at=zoned(values["registered_at"]),
        status=values["registration_status"],
        protected_until=None if values["protected_until"] is None else zoned(values["protected_until"]),
        lead_id=values["lead_id"],
        account_id=values["account_id"],
        domain=None if account is None else account.domain,
        name=None if account is None else account.name,
        country=(None if account is None else account.country) or values["country"],
    )


def _grouped(deals: Sequence[Deal], name: str) -> Mapping[str, tuple[Deal, ...]]:
    found: dict[str, list[Deal]] = {}
    for deal in deals:
        key = getattr(deal, name)
        if key is not None:
            found.setdefault(key, []).append(deal)
    return MappingProxyType({key: tuple(those) for key, those in found.items()})


class Account(NamedTuple):
    """What is known of an account."""

    name: str | None
    domain: str | None  # as `domain_key` has it
    country: str | None
    owner: int  # row of the partner that owns it, -1 if none does


class Accounts:
    """Accounts by id; few of very many are ever asked for, so each is looked up in its columns."""

    def __init__(self, table: pa.Table, partners: Partners) -> None:
        self._index = {account: place for place, account in enumerate(column(table, "account_id"))}
        self._columns = [
            column(table, "name"),
            [domain_key(domain) for domain in column(table, "domain")],
            column(table, "country"),
        ]
        self._owner = [
            NO_ROW if owner is None else partners.index.get(owner, NO_ROW)
            for owner in column(table, "owner_partner_id")
        ]
        self._by_domain: dict[str, int] = {}
        for place, domain in enumerate(self._columns[1]):
            if domain is not None and self._owner[place] != NO_ROW:
                self._by_domain.setdefault(domain, place)

    def __len__(self) -> int:
        return len(self._index)

    def get(self, account_id: str | None) -> Account | None:
        """Return an account, None if it is not known."""
        place = None if account_id is None else self._index.get(account_id)
        return None if place is None else self._at(place)

    def of_domain(self, domain: str) -> Account | None:
        """Return the first account of a domain (as `domain_key` has it) that a partner owns; None if there is none."""
        place = self._by_domain.get(domain)
        return None if place is None else self._at(place)

    def _at(self, place: int) -> Account:
        name, domain, country = (values[place] for values in self._columns)
        return Account(name, domain, country, self._owner[place])


def rows_of(table: pa.Table, partners: Partners) -> Ints:
    """Return the row of the partner of each row of a table, -1 where it is not known."""
    index = partners.index
    return np.array([index.get(partner, NO_ROW) for partner in column(table, "partner_id")], dtype=np.int64)


def moments(table: pa.Table, name: str) -> Moments:
    """Return a column of moments as datetime64[us], NaT where null."""
    return np.asarray(table[name].cast(MOMENT).to_numpy(), dtype="datetime64[us]")


def numbers(table: pa.Table, name: str) -> Floats:
    """Return a column of numbers, NaN where null."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def objects(table: pa.Table, name: str) -> Objects:
    """Return a column as Python values, None where null."""
    values = column(table, name)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def known_values(table: pa.Table, name: str) -> tuple[str, ...]:
    """Return the distinct texts of a column, in order."""
    return tuple(sorted({value for value in column(table, name) if value is not None}))


def zoned(moment: dt.datetime) -> dt.datetime:
    """Return a naive moment of a table as zoned UTC."""
    return moment.replace(tzinfo=dt.UTC)


def _as_is(table: pa.Table, name: str) -> npt.NDArray[Any]:
    kind = table[name].type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return numbers(table, name)
    return moments(table, name) if pa.types.is_timestamp(kind) else objects(table, name)
