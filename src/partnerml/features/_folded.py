"""Folded rows as arrays: what a partner did of one kind in a span of days, in sums that can be put together.

Arrays and not a query, since cells are many, thin and sorted: adding a column of them to an array that has a place for
each partner and kind costs a few nanoseconds a row, a tenth of what a hash table with a condition for each feature
does. The same functions fold raw rows to days, days to pieces and late rows into what they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from partnerml.errors import SourceError

Columns: TypeAlias = dict[str, np.ndarray[Any, Any]]

DAY_US = 86_400_000_000
BLOCK_DAYS = 60  # the days of a block share one 64-bit mask
MICRO = 1_000_000  # values are held as whole millionths, as the stream's decimals are
_LOWEST, _HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_LIMIT = 2.0**62

KEYS = ("kind", "partner")
TOTALS = ALL, OWN = 0, 1  # kinds of totals
WHEN = ("day", "seen", "revision")  # what late rows have beside their key
TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "kind": pa.int32(),  # twice the number of the event type, and one more if the partner itself acted
        "partner": pa.int32(),
        "n": pa.int32(),  # rows
        "nv": pa.int32(),  # rows with a value
        "v": pa.int64(),  # sum of values, in millionths, as all that follows of values
        "vmin": pa.int64(),
        "vmax": pa.int64(),
        "vlast": pa.int64(),  # value of the last moment that has one; the largest of those at one moment
        "vlast_at": pa.int64(),  # microseconds since 1970, as all moments
        "first": pa.int64(),
        "last": pa.int64(),
        "bits": pa.int64(),  # days of the block
        "day": pa.int32(),  # days since 1970
        "seen": pa.int32(),
        "revision": pa.int32(),
    }
)
FOLDS = tuple(name for name in TYPES if name not in (*KEYS, *WHEN))
# what stands for "no value" and "no row" is what the fold leaves alone
EMPTY: Mapping[str, int] = MappingProxyType(
    {
        "n": 0,
        "nv": 0,
        "v": 0,
        "vmin": _HIGHEST,
        "vmax": _LOWEST,
        "vlast": _LOWEST,
        "vlast_at": _LOWEST,
        "first": _HIGHEST,
        "last": _LOWEST,
        "bits": 0,
    }
)
# a row mostly stands for one event: its first moment is its last, its smallest value is their sum
_NEAR: Mapping[str, str] = MappingProxyType(
    {"first": "last", "vlast_at": "last", "vmin": "v", "vmax": "v", "vlast": "v"}
)
_MERGE: Mapping[str, np.ufunc] = MappingProxyType(
    {
        "n": np.add,
        "nv": np.add,
        "v": np.add,
        "vmin": np.minimum,
        "vmax": np.maximum,
        "vlast": np.maximum,  # of those of the last moment
        "vlast_at": np.maximum,
        "first": np.minimum,
        "last": np.maximum,
        "bits": np.bitwise_or,
    }
)


def fold_raw(
    *, kind: np.ndarray[Any, Any], partner: np.ndarray[Any, Any], moment: Any, seen: Any, value: Any
) -> Columns:
    """Fold raw rows to one row for each kind, partner, day and day seen.

    Parameters
    ----------
    kind, partner : array of int
    moment, seen : array of int64
        Microseconds since 1970.
    value : pyarrow decimal128(38, 6) array
        Null where a row has none.
    """
    day = moment // DAY_US
    micros = millionths(value)
    has = np.asarray(value.is_valid())
    raw = {
        "kind": kind.astype("int32"),
        "partner": partner.astype("int32"),
        "n": np.ones(len(moment), dtype="int32"),
        "nv": has.astype("int32"),
        "v": np.where(has, micros, 0),
        "vmin": np.where(has, micros, EMPTY["vmin"]),
        "vmax": np.where(has, micros, EMPTY["vmax"]),
        "vlast": np.where(has, micros, EMPTY["vlast"]),
        "vlast_at": np.where(has, moment, EMPTY["vlast_at"]),
        "first": moment,
        "last": moment,
        "bits": np.left_shift(np.int64(1), day % BLOCK_DAYS),
        "day": day.astype("int32"),
        "seen": (seen // DAY_US).astype("int32"),
        "revision": np.zeros(len(moment), dtype="int32"),
    }
    return merged([raw], by=(*KEYS, *WHEN))


def millionths(value: Any) -> np.ndarray[Any, Any]:
    """Return decimals with six places as whole millionths; what stands at a null is not defined.

    Raises
    ------
    SourceError
        If a value does not fit 64 bits.
    """
    array = value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    if len(array) == 0:
        return np.empty(0, dtype="int64")
    words = np.frombuffer(array.buffers()[1], dtype="int64").reshape(-1, 2)[array.offset : array.offset + len(array)]
    low, high = words[:, 0], words[:, 1]
    wide = (high != low >> 63) & np.asarray(array.is_valid())
    if wide.any():
        raise _too_large()
    return np.ascontiguousarray(low)


def decimals(high: np.ndarray[Any, Any], low: np.ndarray[Any, Any], null: np.ndarray[Any, Any] | None = None) -> Any:
    """Return ``high * 2**32 + low`` millionths as a pyarrow decimal128(38, 6) array.

    Parameters
    ----------
    high, low : array of int64
    null : array of bool, optional
        Where there is no value.
    """
    words = np.empty((len(high), 2), dtype="int64")
    carried = high + (low >> 32)
    words[:, 0] = (carried << 32) | (low & 0xFFFFFFFF)
    words[:, 1] = carried >> 32
    valid = None if null is None else pa.array(~null).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(38, 6), len(high), [valid, pa.py_buffer(words)])


def merged(parts: Sequence[Columns], *, by: Sequence[str] = KEYS) -> Columns:
    """Put folded rows together: one row for each key, in the order of the keys.

    Parameters
    ----------
    parts : sequence of Columns
        With the same columns.
    by : sequence of str
        The columns that make the key; the other ones are folded.

    Raises
    ------
    SourceError
        If a sum of values does not fit 64 bits.
    """
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if len(rows[by[0]]) == 0:
        return rows
    key = _key(rows, by)
    order = _in_order(key)
    rows = {name: column[order] for name, column in rows.items()}
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for part in key:
        new[1:] |= np.diff(part[order]) != 0
    starts = np.flatnonzero(new)
    if "v" in rows and np.add.reduceat(np.abs(rows["v"].astype("float64")), starts).max() > _LIMIT:
        raise _too_large()
    if "vlast" in rows:
        rows["vlast"] = _of_the_last(rows, starts)
    return {
        name: column[starts] if name in by else _MERGE[name].reduceat(column, starts) for name, column in rows.items()
    }


def _of_the_last(rows: Columns, starts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values of the last moments of groups of rows, and for all others what never is the largest."""
    sizes = np.diff(np.append(starts, len(rows["vlast_at"])))
    last = np.repeat(np.maximum.reduceat(rows["vlast_at"], starts), sizes)
    return np.where(rows["vlast_at"] == last, rows["vlast"], EMPTY["vlast"])


def _key(rows: Columns, by: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Return the columns of a key in as few integers as hold them, which are sorted faster: mostly in one."""
    packed: list[np.ndarray[Any, Any]] = []
    size = 0
    for name in by:
        column = rows[name].astype("int64")
        low = int(column.min())
        span = int(column.max()) - low + 1
        if packed and size * span < _LIMIT:
            packed[-1] = packed[-1] * span + (column - low)
            size *= span
        else:
            packed.append(column - low)
            size = span
    return packed


def _in_order(key: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the order of a key; equal ones come in any order, on which no fold depends."""
    return np.argsort(key[0]) if len(key) == 1 else np.lexsort(list(reversed(key)))


def totals(rows: Columns, kind: int) -> Columns:
    """Return sums over all event types, one row for each partner: of all rows, or of the partner's own."""
    sums = merged([without(counted(rows, kind), ("kind",))], by=("partner",))
    return {**sums, "kind": np.full(len(sums["partner"]), kind, dtype="int32")}


def counted(rows: Columns, kind: int | None) -> Columns:
    """Return the rows that sums over all event types are of: the partner's own, or all."""
    return taken(rows, rows["kind"] % 2 == 1) if kind == OWN else rows


def taken(rows: Columns, chosen: np.ndarray[Any, Any]) -> Columns:
    """Return the rows that a mask or an order chooses."""
    return {name: column[chosen] for name, column in rows.items()}


def without(rows: Columns, names: Sequence[str]) -> Columns:
    """Return the columns but those named."""
    return {name: column for name, column in rows.items() if name not in names}


def to_arrow(rows: Columns) -> pa.RecordBatch:
    """Return folded rows as they are stored: most columns as their distance from another one, which mostly is 0."""
    n = len(rows["kind"])
    return pa.record_batch(
        {
            name: pa.array(_distance(name, rows) if name in rows else np.zeros(n, dtype="int32")).cast(kind)
            for name, kind in TYPES.items()
        }
    )


def from_arrow(batch: pa.RecordBatch, names: Sequence[str]) -> Columns:
    """Return columns of what `to_arrow` made."""
    rows = {name: column.to_numpy() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    return {name: _distance(name, rows) for name in names}


def stored(names: Sequence[str]) -> list[int]:
    """Return which stored columns these are made of, by their numbers."""
    wanted = {*names, *(_NEAR[name] for name in names if name in _NEAR)}
    return [i for i, name in enumerate(TYPES) if name in wanted]


def _distance(name: str, rows: Columns) -> np.ndarray[Any, Any]:
    # its own inverse; what overflows wraps around, here and on the way back
    return rows[_NEAR[name]] - rows[name] if name in _NEAR else rows[name]


def _too_large() -> SourceError:
    return SourceError(
        "events.value: sums above 4.6e12 do not fit the stored cells; turn them off (`features.cells: false`), or map "
        "the values to a larger unit"
    )
