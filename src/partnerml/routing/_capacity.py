"""How many leads partners have been given: counters in memory, which follow what the ledger has written.

The ledger writes every unit that is taken or given back as an entry and never changes one. A fold of the entries up to
some number is the state at that moment; to know the next, only the entries after it are read. Reading all counters of
100,000 partners for each lead would cost more than the decision.

Leads that partners hold and that the ledger has never given to anybody, such as those from before it, are counted by
the tables of the snapshot; once the ledger gives such a lead to somebody, it alone counts it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from partnerml.routing._hours import day_number, local_date, week_number
from partnerml.routing._offers import Limits, NewOffer
from partnerml.routing._situation import Load

if TYPE_CHECKING:
    from partnerml.pairs._arrays import Floats, Ints
    from partnerml.routing._partners import Partners

# clocks are changed, and time zones differ, by multiples of a quarter of an hour (in all zones since 1972)
_QUARTER = 900


class Entry(NamedTuple):
    """Units that were taken (positive) or given back (negative) for a lead."""

    seq: int
    partner_id: str
    day: int
    week: int
    d_day: int
    d_week: int
    d_open: int
    lead_id: str


@dataclasses.dataclass(frozen=True, eq=False)
class PartnerCapacity:
    """Limits and time zones of partners, by the rows of a snapshot. Make one for each snapshot, and keep it.

    Attributes
    ----------
    partner_id : sequence of str
    zones : tuple of str
        Distinct time zones (IANA).
    zone : array of int, shape (n,)
        The zone of each partner, as a place in `zones`.
    per_day, per_week, max_open : array of float, shape (n,)
        Limits; NaN = unlimited.
    held : mapping of str to tuple of int
        Leads that partners hold open by the tables of the snapshot, with their rows. A lead that the ledger has given
        to anybody is the ledger's to count.
    """

    partner_id: Sequence[str]
    zones: tuple[str, ...]
    zone: Ints
    per_day: Floats
    per_week: Floats
    max_open: Floats
    held: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, partners: Partners, *, time_zone: str = "UTC", held: Iterable[tuple[str, str]] = ()) -> PartnerCapacity:
        """Take them from the partners of a snapshot.

        Parameters
        ----------
        partners : Partners
        time_zone : str
            Of partners that have none.
        held : iterable of (str, str)
            Leads that partners hold open, and by whom: ``lead_id``, ``partner_id``.
        """
        rows: dict[str, tuple[int, ...]] = {}
        for lead_id, partner_id in held:
            if (row := partners.index.get(partner_id)) is not None:
                rows[lead_id] = (*rows.get(lead_id, ()), row)
        return cls(
            partner_id=partners.partner_id.tolist(),
            zones=(*partners.time_zones, time_zone),
            zone=np.where(partners.time_zone < 0, len(partners.time_zones), partners.time_zone),
            per_day=partners.capacity_per_day,
            per_week=partners.capacity_per_week,
            max_open=partners.max_open_leads,
            held=rows,
        )

    @functools.cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each partner."""
        return {partner: row for row, partner in enumerate(self.partner_id)}

    @functools.cached_property
    def held_each(self) -> Ints:
        """How many leads each partner holds open by the tables of the snapshot, shape (n,)."""
        rows = [row for rows in self.held.values() for row in rows]
        return np.bincount(np.array(rows, dtype=np.int64), minlength=len(self.partner_id)).astype(np.int64)

    def limits(self, row: int) -> Limits:
        """Return the limits of a partner."""
        return Limits(*(_limit(values[row]) for values in (self.per_day, self.per_week, self.max_open)))

    def local(self, row: int, moment: dt.datetime) -> tuple[int, int]:
        """Return the day and the ISO week that it is for a partner."""
        date = local_date(self.zones[self.zone[row]], moment)
        return day_number(date), week_number(date)

    def offer(self, row: int, *, offer_id: str, moment: dt.datetime, deadline: dt.datetime) -> NewOffer:
        """Return an offer to a partner, with the units that it takes and the limits in force."""
        day, week = self.local(row, moment)
        return NewOffer(offer_id, self.partner_id[row], deadline, day, week, self.limits(row))

    def free(self, load: Load, rows: Ints) -> Floats:
        """Return how many leads partners can still be offered: the least of the three limits; inf = unlimited."""
        left = [
            limit[rows] - used[rows]
            for limit, used in zip(
                (self.per_day, self.per_week, self.max_open), (load.day, load.week, load.open), strict=True
            )
        ]
        least = np.fmin(np.fmin(left[0], left[1]), left[2])
        free: Floats = np.maximum(np.where(np.isnan(least), np.inf, least), 0.0)
        return free


def _limit(value: float) -> int | None:
    return None if np.isnan(value) else int(value)


class Fold:
    """What the entries up to one of them come to.

    Attributes
    ----------
    seq : int
        The last entry that is in it.
    open : mapping of str to int
        Open-lead units of partners.
    day, week : mapping of int to mapping of str to int
        Units of days and weeks.
    since : int
        Days before this one are not in it, nor the weeks before the one that holds it.
    held : collection of str, or None
        Leads that are looked out for; None = all.
    given : set of str
        Those of them that somebody was given.
    """

    def __init__(self, *, seq: int = 0, since: int = 0, held: Collection[str] | None = None) -> None:
        self.seq, self.since, self.held = seq, since, held
        self.given: set[str] = set()
        self.open: dict[str, int] = defaultdict(int)
        self.day: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.week: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in the next entries."""
        for entry in entries:
            self.seq = entry.seq
            if entry.d_open:
                self.open[entry.partner_id] += entry.d_open
                if self.held is None or entry.lead_id in self.held:
                    self.given.add(entry.lead_id)
            if entry.d_day:
                self.day[entry.day][entry.partner_id] += entry.d_day
            if entry.d_week:
                self.week[entry.week][entry.partner_id] += entry.d_week

    def load(self, capacity: PartnerCapacity, moment: dt.datetime) -> Load:
        """Return the load of partners at a moment, each on the day and in the week of its own time zone."""
        return Aligned(self, capacity, moment).load


class Aligned:
    """The load of the partners of one snapshot, which follows the entries."""

    def __init__(self, fold: Fold, capacity: PartnerCapacity, moment: dt.datetime) -> None:
        self.capacity, self._quarter = capacity, _quarter(moment)
        days, weeks = _local(capacity, moment)
        self._days, self._weeks = days[capacity.zone], weeks[capacity.zone]
        self._day = _spread(capacity, {day: fold.day.get(day, {}) for day in set(days.tolist())}, self._days)
        self._week = _spread(capacity, {week: fold.week.get(week, {}) for week in set(weeks.tolist())}, self._weeks)
        self._open = _spread(capacity, {0: fold.open}, np.zeros(len(capacity.partner_id), dtype=np.int64))
        self._held = capacity.held_each.copy()
        self._given: set[str] = set()
        self._take_over(lead_id for lead_id in fold.given if lead_id in capacity.held)

    def serves(self, capacity: PartnerCapacity, moment: dt.datetime) -> bool:
        """Tell whether it is that of a snapshot, and no partner has another day or week by then."""
        if capacity is not self.capacity:
            return False
        if (quarter := _quarter(moment)) != self._quarter:
            days, weeks = _local(capacity, moment)
            if (days[capacity.zone] != self._days).any() or (weeks[capacity.zone] != self._weeks).any():
                return False
            self._quarter = quarter
        return True

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in the next entries."""
        for entry in entries:
            if entry.lead_id in self.capacity.held:
                self._take_over((entry.lead_id,))
            row = self.capacity.rows.get(entry.partner_id)
            if row is None:  # it has left the snapshot
                continue
            self._open[row] += entry.d_open
            if entry.day == self._days[row]:
                self._day[row] += entry.d_day
            if entry.week == self._weeks[row]:
                self._week[row] += entry.d_week

    @property
    def load(self) -> Load:
        """The load as it is now; what comes later does not change it."""
        return Load(day=self._day.copy(), week=self._week.copy(), open=self._open + self._held)

    def held(self, partner_id: str) -> int:
        """Return how many of a partner's open leads are not the ledger's."""
        row = self.capacity.rows.get(partner_id)
        return 0 if row is None else int(self._held[row])

    def _take_over(self, leads: Iterable[str]) -> None:
        """Leave leads that the snapshot counts to the ledger, which has given them to somebody."""
        for lead_id in leads:
            if lead_id not in self._given:
                self._given.add(lead_id)
                for row in self.capacity.held[lead_id]:
                    self._held[row] -= 1


def _quarter(moment: dt.datetime) -> int:
    return int(moment.timestamp()) // _QUARTER


def _local(capacity: PartnerCapacity, moment: dt.datetime) -> tuple[Ints, Ints]:
    """Return the day and the week of each time zone."""
    dates = [local_date(name, moment) for name in capacity.zones]
    days = np.array([day_number(date) for date in dates], dtype=np.int64)
    return days, np.array([week_number(date) for date in dates], dtype=np.int64)


def _spread(capacity: PartnerCapacity, units: Mapping[int, Mapping[str, int]], periods: Any) -> Ints:
    """Return the units of each partner in the period that it has."""
    spread = np.zeros(len(capacity.partner_id), dtype=np.int64)
    for period, found in units.items():
        for partner_id, count in found.items():
            row = capacity.rows.get(partner_id)
            if row is not None and periods[row] == period:
                spread[row] = count
    return spread
