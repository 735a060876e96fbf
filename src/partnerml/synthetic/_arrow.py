"""Arrow columns from numpy arrays; -1 and NEVER stand for null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from partnerml import schema
from partnerml.synthetic._world import NEVER, Bools, Floats, Ints

_TYPES: Mapping[schema.Type, Any] = {
    schema.Type.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    schema.Type.NUMBER: pa.float64(),
    schema.Type.AMOUNT: pa.float64(),
    schema.Type.INTEGER: pa.int64(),
    schema.Type.SHARE: pa.float64(),
    schema.Type.BOOLEAN: pa.bool_(),
    schema.Type.LIST: pa.list_(pa.string()),
    schema.Type.LATITUDE: pa.float64(),
    schema.Type.LONGITUDE: pa.float64(),
}  # everything else is text


def table(name: str, columns: Mapping[str, Any]) -> Any:
    """Return a canonical table: all of its declared columns, in their order and types, and no others."""
    declared = schema.TABLES[name].columns
    fields = [pa.field(column.name, _TYPES.get(column.type, pa.string())) for column in declared]
    arrays = [_cast(columns[field.name], field.type) for field in fields]
    if len(columns) != len(fields):
        raise KeyError(f"{name} has no column {sorted(set(columns) - set(schema.TABLES[name].names))}")
    return pa.table(arrays, schema=pa.schema(fields))


def _cast(values: Any, type: Any) -> Any:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return array if array.type == type else array.cast(type)


def moments(microseconds: Ints) -> Any:
    """Return zoned timestamps; from NEVER on they are null."""
    return pa.array(microseconds, mask=microseconds >= NEVER).cast(pa.timestamp("us", tz="UTC"))


def ids(prefix: str, numbers: Ints, width: int) -> Any:
    """Return ids such as ``P000012``; null where the number is negative."""
    digits = pc.utf8_lpad(pa.array(numbers, mask=numbers < 0).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def pick(values: Sequence[Any], index: Ints) -> Any:
    """Return values by index (texts or lists of texts); null where the index is negative."""
    kind = pa.string() if not values or isinstance(values[0], str) else pa.list_(pa.string())
    return pa.array(list(values), type=kind).take(pa.array(index, mask=index < 0))


def numbers(values: Floats, known: Bools | None = None) -> Any:
    """Return floats; null where not known."""
    return pa.array(values, mask=None if known is None else ~known)


def integers(values: Ints) -> Any:
    """Return integers; null where negative."""
    return pa.array(values, mask=values < 0)


def booleans(values: Bools, known: Bools | None = None) -> Any:
    """Return booleans; null where not known."""
    return pa.array(values, mask=None if known is None else ~known)


def nulls(n: int) -> Any:
    """Return a column without values."""
    return pa.nulls(n)


def join(*parts: Any, separator: str = "") -> Any:
    """Return texts joined row by row; null where any part is null."""
    return pc.binary_join_element_wise(*parts, separator)


def subsets(values: Sequence[str]) -> list[list[str]]:
    """Return the list of chosen values for every bit mask, in the order of the masks."""
    return [[value for bit, value in enumerate(values) if mask >> bit & 1] for mask in range(1 << len(values))]


def arange(n: int) -> Ints:
    """Return 0..n-1."""
    return np.arange(n, dtype=np.int64)
