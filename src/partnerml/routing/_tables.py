"""The tables that a snapshot holds: canonical columns with canonical types, in an order of their own.

Whoever makes a snapshot, from frames in memory or from an ecosystem, the tables come out the same; so the same
content has the same bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from partnerml import schema
from partnerml.errors import DataError
from partnerml.outputs import arrow_table
from partnerml.schema import Type

MOMENT = pa.timestamp("us")
_ARROW: Mapping[Type, pa.DataType] = {
    Type.TIMESTAMP: MOMENT,
    Type.NUMBER: pa.float64(),
    Type.AMOUNT: pa.float64(),
    Type.SHARE: pa.float64(),
    Type.LATITUDE: pa.float64(),
    Type.LONGITUDE: pa.float64(),
    Type.INTEGER: pa.int64(),
    Type.BOOLEAN: pa.bool_(),
    # as Parquet gives it back
    Type.LIST: pa.list_(pa.field("element", pa.string())),
}
# of each table: what makes its order and is never null, and of those that hold more than routing asks, what is kept
_ORDER: Mapping[str, tuple[str, ...]] = {
    "partners": ("partner_id",),
    "territories": ("partner_id",),
    "certifications": ("partner_id", "certification", "earned_at"),
    "deals": ("registered_at", "deal_id"),
    "accounts": ("account_id",),
    "leads": ("created_at", "lead_id"),
    "assignments": ("assigned_at", "lead_id", "partner_id"),
}
KEPT: Mapping[str, tuple[str, ...]] = {
    "certifications": ("partner_id", "certification", "earned_at", "expires_at", "revoked_at"),
    "deals": (
        *("deal_id", "partner_id", "registered_at", "outcome", "registration_status", "protected_until"),
        *("account_id", "lead_id", "country"),
    ),
    "accounts": ("account_id", "name", "domain", "country", "owner_partner_id"),
    # with the partner that has the lead, or had it last
    "leads": ("lead_id", "created_at", "account_id", "account_name", "domain", "country", "partner_id"),
    "assignments": ("lead_id", "partner_id", "assigned_at", "response", "outcome"),
}
_MORE: Mapping[str, Mapping[str, Type]] = {"leads": {"partner_id": Type.ID}}


def canonical(name: str, given: Any) -> pa.Table:
    """Return a table with the columns and types of the schema, in its order; an absent column is null.

    Parameters
    ----------
    name : str
        Of the tables of a snapshot.
    given : DataFrame, pyarrow.Table, mapping of str to sequence, or None
        None is a table without rows. Moments are zoned, or naive and taken as UTC.

    Raises
    ------
    DataError
        If a required column is missing or null, a key comes twice, or a column has another type.
    """
    columns, n = _columns(given)
    types = _types(name)
    table = schema.TABLES[name]
    kept = KEPT.get(name, table.names)
    found = {column: _typed(columns.get(column), n, types[column], f"{name}.{column}") for column in kept}
    if table.open_columns and name not in KEPT:
        found |= {column: _plain(columns[column]) for column in sorted(set(columns) - set(kept))}
    made = pa.table(found)
    for column in _ORDER[name]:
        if nulls := made[column].null_count:
            raise DataError(f"{name}: {column} is null in {nulls} row(s); a snapshot needs it in all of them")
    _check_key(name, made, [column for column in table.key if column in kept])
    return made.take(_order(made, _ORDER[name], keyed=bool(table.key))).combine_chunks()


def held_leads(given: Any) -> pa.Table:
    """Return which leads partners hold open, ``lead_id`` and ``partner_id``, each pair once, in order.

    Parameters
    ----------
    given : DataFrame, pyarrow.Table, mapping of str to sequence, or None
    """
    columns, n = _columns(given)
    made = pa.table({name: _typed(columns.get(name), n, Type.ID, f"held.{name}") for name in ("lead_id", "partner_id")})
    made = made.group_by(made.column_names, use_threads=False).aggregate([])
    return made.sort_by([(name, "ascending") for name in made.column_names]).combine_chunks()


def column(table: pa.Table, name: str) -> list[Any]:
    """Return the values of a column; None where null."""
    values: list[Any] = table[name].to_pylist()
    return values


def _order(table: pa.Table, first: Sequence[str], *, keyed: bool) -> pa.Array:
    """Return the order of rows by some columns, and without a key by all others too: an engine gives them in any."""
    names = first if keyed else [*first, *(column for column in table.column_names if column not in first)]
    values = {
        name: pc.binary_join(table[name], "\n") if pa.types.is_list(table[name].type) else table[name] for name in names
    }
    return pc.sort_indices(pa.table(values), sort_keys=[(name, "ascending") for name in names])


def _columns(given: Any) -> tuple[dict[str, Any], int]:
    if given is None:
        return {}, 0
    if isinstance(given, Mapping):
        return dict(given), max((len(values) for values in given.values()), default=0)
    table = given if isinstance(given, pa.Table) else arrow_table(given)
    return {str(name): table[name] for name in table.column_names}, table.num_rows


def _types(name: str) -> dict[str, Type]:
    return {column.name: column.type for column in schema.TABLES[name].columns} | dict(_MORE.get(name, {}))


def _typed(values: Any, n: int, kind: Type, where: str) -> pa.Array:
    wanted = _ARROW.get(kind, pa.string())
    if values is None:
        return pa.nulls(n, wanted)
    try:
        array = _array(values, wanted)
        if pa.types.is_null(array.type):
            return array.cast(wanted)
        if wanted == MOMENT:
            return _moments(array)
        return array.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where} must hold values of the type {kind.value}: {error}") from None


def _array(values: Any, wanted: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if wanted == MOMENT:
        values = [dt.datetime.fromisoformat(value) if isinstance(value, str) else value for value in values]
        values = [_naive(value) for value in values]
    return pa.array(values, type=wanted, from_pandas=True)


def _naive(value: Any) -> Any:
    zoned = isinstance(value, dt.datetime) and value.tzinfo is not None
    return value.astimezone(dt.UTC).replace(tzinfo=None) if zoned else value


def _moments(array: pa.Array) -> pa.Array:
    """Return naive moments in UTC: a zoned one is stored as UTC already."""
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        array = array.cast(pa.timestamp(array.type.unit, tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
    return array.cast(MOMENT)


def _plain(values: Any) -> pa.Array:
    """Return another column, with one type for what is the same."""
    given = isinstance(values, pa.ChunkedArray | pa.Array)
    array = _array(values, values.type) if given else pa.array(values, from_pandas=True)
    if pa.types.is_timestamp(array.type):
        return _moments(array)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.string())
    return array


def _check_key(name: str, table: pa.Table, key: Sequence[str]) -> None:
    if not key or not table.num_rows:
        return
    counted = table.group_by(list(key)).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if twice.num_rows:
        first = sorted(str(value) for value in twice[key[0]].to_pylist())[0]
        raise DataError(f"{name}: {twice.num_rows} key(s) come more than once, first {first!r}; keep one row of each")
