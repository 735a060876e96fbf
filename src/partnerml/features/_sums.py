"""Sums over what partners did, taken in segment by segment backwards from a midnight.

An array has a place for each kind of rows and partner. What it holds when the far edge of a window has been reached
*is* the window: nothing is ever subtracted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from partnerml.features._calendar import EVER
from partnerml.features._cover import Segment
from partnerml.features._folded import ALL, BLOCK_DAYS, EMPTY, OWN, Columns, decimals, merged
from partnerml.features._folds import GAP_COLUMNS, Request

if TYPE_CHECKING:
    from partnerml.features._stream import Activity

Array: TypeAlias = np.ndarray[Any, Any]

_MOST_TYPES = 64  # event types with places of their own, whatever is asked for
_GAPS_AT_ONCE = 100_000  # partners
_LIMIT = 2.0**62
_LOW = np.int64(0xFFFFFFFF)

_KEPT_IN: Mapping[str, str] = MappingProxyType({"types": "n", "days": "bits", "gaps": "bits"})
# counts of rows fit 32 bits, as they do on disk: half the memory to go through takes half the time
_NARROW: Mapping[str, str] = MappingProxyType({"n": "int32", "nv": "int32", "nw": "float64"})
_READ: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"nw": ("n",), "weeks": (), "vlast": ("vlast", "vlast_at")}
)  # columns of folded rows, where they are not named like the array that they are added to
_PUT_IN: Mapping[str, np.ufunc] = MappingProxyType(
    {
        **dict.fromkeys(("n", "nv", "nw"), np.add),
        **dict.fromkeys(("bits", "weeks"), np.bitwise_or),
        **dict.fromkeys(("first", "vmin"), np.minimum),
        **dict.fromkeys(("last", "vmax"), np.maximum),
    }
)


def _total(values: Array) -> float:
    """Return the sum of the sizes of values."""
    return float(np.abs(values.astype("float64")).sum())


def _given(name: str, rows: Columns, week: int) -> Any:
    """Return what rows of a week put into an array."""
    if name == "weeks":
        return np.int64(1) << np.int64(week)
    return week * rows["n"] if name == "nw" else rows[name]


@dataclasses.dataclass(frozen=True)
class Kinds:
    """The places of all kinds of rows: two for each event type (who acted), and the last for qualifying deals.

    Attributes
    ----------
    place : array of int, shape (kinds of the store,)
    moved : bool
        Whether a kind's place is not its number.
    shared : bool
        Whether kinds share a place: rare types that nothing asks for by name.
    types : tuple of str or None
        The type of each pair of places; None for all others.
    event_types : tuple of str
        The types that are not ``other``.
    activity : Activity
    """

    place: Array
    moved: bool
    shared: bool
    types: tuple[str | None, ...]
    event_types: tuple[str, ...]
    activity: Activity

    @classmethod
    def of(cls, stored: Sequence[str], event_types: Sequence[str], activity: Activity) -> Kinds:
        """Give places to the event types of a store."""
        types: tuple[str | None, ...] = tuple(stored)
        if len(stored) > _MOST_TYPES:
            named = {*event_types, *(item.removeprefix("events.") for item in (*activity.include, *activity.exclude))}
            types = (*(type_ for type_ in stored if type_ in named), None)
        number = {type_: i for i, type_ in enumerate(types)}
        pair = np.asarray([number.get(type_, len(types) - 1) for type_ in stored], dtype="int32")
        place = np.repeat(2 * pair, 2) + np.tile(np.asarray([0, 1], dtype="int32"), len(stored))
        moved = types != tuple(stored)
        return cls(place, moved, len(types) < len(stored), types, tuple(event_types), activity)

    @property
    def count(self) -> int:
        """The number of places."""
        return 2 * len(self.types) + 1

    @property
    def deals(self) -> int:
        """The place of deals."""
        return self.count - 1

    def hold(self, request: Request, activity: Activity) -> bool:
        """Whether a request is about these sums: every one is."""
        return True

    def of_series(self, source: str, kind: str) -> Any:
        """Return the places of a series, as an index."""
        if source == "activity":
            return [2 * i + 1 for i, type_ in enumerate(self.types) if self._qualifies(type_)] + [self.deals]
        if kind == "all":
            return slice(0, self.deals)
        if kind == "other":
            others = [i for i, type_ in enumerate(self.types) if type_ not in self.event_types]
            return [place for i in others for place in (2 * i, 2 * i + 1)]
        at = self.types.index(kind) if kind in self.types else 0
        return slice(2 * at, 2 * at + (2 if kind in self.types else 0))

    def groups(self) -> list[Any]:
        """Return the places of each type that `distinct_types` tells apart."""
        return [self.of_series("events", kind) for kind in (*self.event_types, "other")]

    def put(self, rows: Columns) -> Columns:
        """Put places in the place of kinds: one row for each place and partner, if it was so before."""
        if not self.moved:
            return rows
        rows = {**rows, "kind": self.place[rows["kind"]]}
        return merged([rows]) if self.shared and "day" not in rows else rows

    def _qualifies(self, type_: str | None) -> bool:
        names = {"events", f"events.{type_}", type_}
        include, exclude = set(self.activity.include), set(self.activity.exclude)
        return (not include or bool(names & include)) and not names & exclude


@dataclasses.dataclass(frozen=True)
class Totals:
    """The places of sums over all event types, and of qualifying deals.

    Attributes
    ----------
    kind : int
        ``ALL`` rows, or the partner's ``OWN``.
    """

    kind: int
    count = 2
    deals = 1

    def hold(self, request: Request, activity: Activity) -> bool:
        """Whether a request is about these sums alone."""
        if request.source == "activity":
            return self.kind == OWN and not activity.include and not activity.exclude
        return self.kind == ALL and request.kind == "all" and request.atom != "types"

    def of_series(self, source: str, kind: str) -> Any:
        """Return the places of a series, as an index."""
        return slice(0, 2 if source == "activity" else 1)

    def groups(self) -> list[Any]:
        """Types are not told apart here."""
        return []

    def put(self, rows: Columns) -> Columns:
        """Put places in the place of kinds."""
        return {**rows, "kind": np.zeros(len(rows["partner"]), dtype="int32")}


class Sums:
    """The arrays for some requests.

    Parameters
    ----------
    places : Kinds or Totals
    requests : sequence of Request
    windows : sequence of int
        The windows of all requests, in order: ring i is what window i adds to those before it.
    rows : int
        The number of partners.
    """

    def __init__(self, places: Kinds | Totals, requests: Sequence[Request], windows: Sequence[int], rows: int) -> None:
        self.places, self.requests, self.windows, self.rows = places, requests, windows, rows
        # what ring i still adds to: windows that reach at least that far
        self.adds = [
            sorted({_KEPT_IN.get(r.atom, r.atom) for r in requests if self._ring(r) >= ring})
            for ring in range(len(windows) + 1)
        ]
        self.series = sorted({(r.source, r.kind) for r in requests if _KEPT_IN.get(r.atom) == "bits"})
        self.arrays: dict[str, Array] = {}
        self.block: int | None = None  # whose days `bits` holds
        self.bound = 0.0  # no sum of values is larger
        self.days = {series: np.zeros(rows, dtype="int64") for series in self.series}  # of blocks that are done
        self.sets: dict[tuple[str, str], list[tuple[int, Array]]] = {series: [] for series in self.series}

    @property
    def totals(self) -> int | None:
        """The kind of totals that are added up, None for all kinds of rows."""
        return self.places.kind if isinstance(self.places, Totals) else None

    def names(self, ring: int) -> set[str]:
        """Return the columns of folded rows that a ring adds up."""
        return {name for add in self.adds[ring] for name in _READ.get(add, (add,))}

    def add(self, rows: Columns, segment: Segment, *, repeated: bool = False) -> None:
        """Add rows to the arrays that still want them: one for each place and partner, unless they are repeated."""
        if len(rows["partner"]) == 0:
            return
        adds = self.adds[segment.ring]
        if repeated and ("vlast" in adds or ("v" in adds and _total(rows["v"]) > _LIMIT)):
            # last values are found by their order, and sums that might overflow are looked at one by one
            rows, repeated = merged([rows]), False
        at = rows["kind"].astype("int64") * self.rows + rows["partner"]
        for name in adds:
            if any(column not in rows for column in _READ.get(name, (name,))):
                continue  # deals have no values here
            if name == "v":
                self._add_values(at, rows["v"], repeated=repeated)
            elif name == "vlast":
                self._add_last(at, rows)
            elif repeated:
                _PUT_IN[name].at(self._array(name), at, _given(name, rows, segment.week))
            else:
                array = self._array(name)
                # places are distinct, so what is written is what was read with the row put in
                array[at] = _PUT_IN[name](array[at], _given(name, rows, segment.week))

    def _array(self, name: str) -> Array:
        if name not in self.arrays:
            kind = _NARROW.get(name, "int64")
            self.arrays[name] = np.full(self.places.count * self.rows, EMPTY.get(name, 0), dtype=kind)
        return self.arrays[name]

    def _add_last(self, at: Array, rows: Columns) -> None:
        value, moment = self._array("vlast"), self._array("vlast_at")
        later = rows["vlast_at"] > moment[at]
        later |= (rows["vlast_at"] == moment[at]) & (rows["vlast"] > value[at])
        value[at[later]], moment[at[later]] = rows["vlast"][later], rows["vlast_at"][later]

    def _add_values(self, at: Array, values: Array, *, repeated: bool) -> None:
        largest = _total(values) if repeated else float(np.abs(values).max())
        if self.bound + largest > _LIMIT:  # carry before anything can overflow
            high, low = self._words()
            self.arrays["high"], self.arrays["low"] = high, low
            self._array("v")[:] = 0
            self.bound = 0.0
        self.bound += largest
        if repeated:
            np.add.at(self._array("v"), at, values)
        else:
            self._array("v")[at] += values

    def _words(self) -> tuple[Array, Array]:
        """Return the sums of values as ``high * 2**32 + low``."""
        values = self._array("v")
        return self._array("high") + (values >> 32), self._array("low") + (values & _LOW)

    def _sets(self, series: tuple[str, str]) -> Array:
        """Return the days of the block at hand, as bits."""
        return self._over("bits", series, np.bitwise_or)

    def enter(self, block: int) -> None:
        """Note the days of the block that is done, and make room for those of the next."""
        if self.block is not None and block != self.block and "bits" in self.arrays:
            for series in self.series:
                days = self._sets(series)
                self.days[series] += np.bitwise_count(days)
                self.sets[series].append((self.block, days))
            self.arrays["bits"][:] = 0
        self.block = block

    def _ring(self, request: Request) -> int:
        return len(self.windows) if request.window == EVER else self.windows.index(request.window)

    def read_out(self, ring: int) -> dict[str, Any]:
        """Return the columns of the requests whose window ends with a ring."""
        found: dict[str, Any] = {}
        for request in self.requests:
            if self._ring(request) == ring:
                found.update(zip(columns(request), self._numbers(request), strict=True))
        return found

    def _over(self, name: str, series: tuple[str, str], fold: Any) -> Array:
        """Fold an array over the kinds of a series."""
        array = self._array(name).reshape(self.places.count, self.rows)[self.places.of_series(*series)]
        return np.asarray(fold.reduce(array, axis=0, initial=EMPTY.get(name, 0)))

    def _numbers(self, request: Request) -> list[Any]:
        """Return the columns of a request."""
        atom, series = request.atom, (request.source, request.kind)
        if atom in ("n", "nw", "nv"):
            return [pa.array(self._over(atom, series, np.add).astype("float64"))]
        if atom == "weeks":
            return [pa.array(self._over(atom, series, np.bitwise_or))]
        if atom == "days":
            return [pa.array((self.days[series] + np.bitwise_count(self._sets(series))).astype("float64"))]
        if atom == "types":
            counts = self._array("n").reshape(self.places.count, self.rows)
            return [pa.array(sum((counts[group] > 0).any(axis=0).astype("int64") for group in self.places.groups()))]
        if atom == "gaps":
            return self._gaps(series)
        if atom in ("first", "last"):
            moment = self._over(atom, series, np.minimum if atom == "first" else np.maximum)
            return [pa.array(moment, mask=moment == EMPTY[atom]).cast(pa.timestamp("us"))]
        return [self._value(atom, series)]

    def _value(self, atom: str, series: tuple[str, str]) -> Any:
        """Return values as decimals: their sum, or null where there is none."""
        if atom == "v":
            places = self.places.of_series(*series)
            shape = (self.places.count, self.rows)
            return decimals(*(word.reshape(shape)[places].sum(axis=0) for word in self._words()))
        if atom == "vlast":
            moments = self._array("vlast_at").reshape(self.places.count, self.rows)[self.places.of_series(*series)]
            values = self._array("vlast").reshape(self.places.count, self.rows)[self.places.of_series(*series)]
            newest = np.maximum.reduce(moments, axis=0, initial=EMPTY["vlast_at"])
            value = np.maximum.reduce(np.where(moments == newest, values, EMPTY["vlast"]), axis=0, initial=EMPTY[atom])
        else:
            value = self._over(atom, series, np.minimum if atom == "vmin" else np.maximum)
        return decimals(value >> 32, value & _LOW, value == EMPTY[atom])

    def _gaps(self, series: tuple[str, str]) -> list[Any]:
        """Return number, sum, sum of squares and maximum of the gaps between neighbouring active days."""
        sets = list(self.sets[series])
        if "bits" in self.arrays and self.block is not None:
            sets.append((self.block, self._sets(series)))
        parts = [
            _gaps([(block, days[start : start + _GAPS_AT_ONCE]) for block, days in sets], n)
            for start in range(0, self.rows, _GAPS_AT_ONCE)
            for n in [min(_GAPS_AT_ONCE, self.rows - start)]
        ]
        numbers = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype="int64")
        return [pa.array(number, mask=numbers[0] == 0) for number in numbers]


def columns(request: Request) -> tuple[str, ...]:
    """Return the names of the columns of a request."""
    if request.atom == "gaps":
        return tuple(f"{request.column}__{name}" for name in GAP_COLUMNS)
    return (request.column,)


def _gaps(sets: Sequence[tuple[int, Array]], n: int) -> Array:
    """Return m, s, q and max of the gaps of n partners, shape (4, n), from their days as bits of blocks."""
    numbers = np.zeros((4, n), dtype="int64")
    if not sets:
        return numbers
    newest_last = sorted(sets, key=lambda item: item[0])
    flags = [
        np.unpackbits(np.ascontiguousarray(days).view("uint8").reshape(n, 8), axis=1, bitorder="little")
        for _, days in newest_last
    ]
    first_days = np.repeat([block * BLOCK_DAYS for block, _ in newest_last], 64) + np.tile(
        np.arange(64), len(newest_last)
    )
    partner, place = np.nonzero(np.concatenate(flags, axis=1))
    day = first_days[place]
    same = partner[1:] == partner[:-1]
    gap, owner = (day[1:] - day[:-1])[same], partner[1:][same]
    numbers[0] = np.bincount(owner, minlength=n)
    numbers[1] = np.bincount(owner, weights=gap, minlength=n)
    numbers[2] = np.bincount(owner, weights=gap * gap, minlength=n)
    if len(gap):
        starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        numbers[3, owner[starts]] = np.maximum.reduceat(gap, starts)
    return numbers
