"""The canonical tables of an ecosystem on Spark: no row of them leaves the cluster."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import ibis

from partnerml import schema
from partnerml.config import BlockConfig, ColumnConfig, Config, nearest, unknown_column
from partnerml.ecosystem._ecosystem import Ecosystem
from partnerml.ecosystem._sql import simple_condition
from partnerml.errors import ConfigError, DataError, MappingError
from partnerml.schema import Type

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from partnerml.ecosystem._report import ValidationReport
    from partnerml.ecosystem._spark import SparkBackend

_ADVICE = (
    "map once with DuckDB and write canonical tables, "
    "eco.backend.to_parquet(eco.table(NAME), PATH) for each, and open these on Spark"
)
# one row of these twice counts twice; to group the events would cost more than all of their features
_KEYED = tuple(name for name, table in schema.TABLES.items() if table.key and name != "events")
_UPPER = (Type.COUNTRY, Type.REGION, Type.CURRENCY)
_NUMBERS = (Type.NUMBER, Type.AMOUNT, Type.SHARE, Type.LATITUDE, Type.LONGITUDE)
_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_FLOATS = ("float", "double")
_TEXTS = "array<string>"


class SparkEcosystem(Ecosystem):
    """Canonical tables that are Spark's; made by `partnerml.spark.ecosystem`.

    Columns may be renamed, set to a constant or cut down by a simple ``where``; types are settled by their columns,
    never by reading their rows. Nothing is set aside: rows are validated where they are mapped.

    Parameters
    ----------
    config : Config
        Its ``data.tables``, ``traits`` and lags.
    backend : SparkBackend
    frames : mapping of str to DataFrame
        Raw tables by name.

    Raises
    ------
    ConfigError
        If a table is neither canonical nor mapped.
    MappingError
        If the mapping asks for more than Spark does.
    """

    def __init__(self, config: Config, backend: SparkBackend, frames: Mapping[str, DataFrame]) -> None:
        self.config = config
        self.backend = backend
        self._frames = frames
        self._blocks = _blocks(config, frames)
        self._until: dt.datetime | None = None
        self._ready: dict[str, ibis.Table] = {}
        self._notify_absent()

    def table(self, name: str) -> ibis.Table:
        """Return a canonical table; its keys are looked at when it is first asked for.

        Raises
        ------
        ConfigError
            If there is no such table.
        DataError
            If a column is missing or of a wrong type, a key is null or comes twice, or amounts have two currencies.
        """
        if name not in self._blocks:
            raise ConfigError(f"there is no table {name} (tables: {', '.join(self.tables) or 'none'})")
        if name not in self._ready:
            frames = [self._block(name, block) for block in self._blocks[name]]
            frame = frames[0]
            for more in frames[1:]:
                frame = frame.unionByName(more, allowMissingColumns=True)
            table = self.backend.register(ibis.util.gen_name(f"partnerml_{name}"), frame)
            self._check_rows(name, table)
            self._ready[name] = table
        return self._ready[name]

    def validate(self, *, now: dt.datetime | None = None) -> ValidationReport:
        """Refuse: rows are validated where they are mapped."""
        raise ConfigError(f"rows are not validated on Spark: {_ADVICE}")

    def write_rejects(self) -> tuple[Path, ...]:
        """Return nothing: no row is set aside on Spark."""
        return ()

    def _block(self, name: str, block: BlockConfig) -> DataFrame:
        frame = self._frames[block.source or name]
        if block.where is not None:
            frame = frame.where(_condition(name, block.where))
        zone = self.config.data.timezone(name)
        kinds = dict(frame.dtypes)
        if block.columns is None:
            items = _as_it_is(name, kinds, zone)
        else:
            items = {column: _mapped(name, column, how, kinds, zone) for column, how in block.columns.items()}
        missing = [column for column in schema.TABLES[name].required if column not in items]
        if missing:
            raise DataError(
                f"{name}: {len(missing)} required column(s) missing: {', '.join(missing)} (there are "
                f"{', '.join(kinds) or 'none'}); map them with data.tables.{name}.columns"
            )
        return frame.selectExpr(*(f"{sql} AS {_quoted(column)}" for column, sql in items.items()))

    def _check_rows(self, name: str, table: ibis.Table) -> None:
        key = schema.TABLES[name].key
        if name in _KEYED and set(key) <= set(table.columns):
            counted = table.group_by(*key).aggregate(n=table.count())
            nothing = ibis.or_(*(counted[column].isnull() for column in key))
            wrong = counted.filter((counted.n > 1) | nothing).order_by(*key).limit(3)
            first = self.backend.to_pyarrow(wrong).select(list(key)).to_pylist()
            if first:
                raise DataError(
                    f"{name}: the key {', '.join(key)} is null or comes twice, first {first[0]}; "
                    "each row needs one of its own"
                )
        if "currency" in table.columns:
            found = self.backend.to_pyarrow(table.select("currency").distinct().order_by("currency").limit(5))
            codes = [code for code in found["currency"].to_pylist() if code is not None]
            if len(codes) > 1:
                raise DataError(f"{name}.currency: amounts are in {', '.join(codes)}; convert them: {_ADVICE}")


def with_lags(config: Config, lags: Mapping[str, str | dt.timedelta]) -> Config:
    """Return a configuration with the declared lags of tables in it."""
    if not lags:
        return config
    tree = config.resolved()
    for name, lag in lags.items():
        blocks = tree["data"]["tables"].get(name) or [{}]
        text = lag if isinstance(lag, str) else f"{lag // dt.timedelta(minutes=1)}m"
        tree["data"]["tables"][name] = [{**block, "lag": text} for block in blocks]
    return Config.from_dict(tree, name="lags")


def _blocks(config: Config, frames: Mapping[str, Any]) -> Mapping[str, tuple[BlockConfig, ...]]:
    """Return the blocks of each canonical table, each over a raw table that is there."""
    found: dict[str, tuple[BlockConfig, ...]] = {}
    for name in schema.TABLES:
        blocks = config.data.tables.get(name, (BlockConfig(),) if name in frames else None)
        # a lag alone may be declared for a table that is not there
        if blocks and any(block.source or block.columns or block.sql or name in frames for block in blocks):
            found[name] = blocks
    for name, blocks in found.items():
        for block in blocks:
            _check_block(f"data.tables.{name}", block, block.source or name, frames)
    used = {block.source or name for name, blocks in found.items() for block in blocks}
    for name in frames:
        if name not in used:
            raise ConfigError(f"{name} is no canonical table{nearest(name, tuple(schema.TABLES))}")
    return MappingProxyType(found)


def _check_block(where: str, block: BlockConfig, source: str, frames: Mapping[str, Any]) -> None:
    if block.sql is not None:
        _refuse(where, "sql")
    for column, how in (block.columns or {}).items():
        for key in ("expr", "values"):
            if getattr(how, key) is not None:
                _refuse(f"{where}.columns.{column}", key)
    if source not in frames:
        known = ", ".join(frames) or "none"
        raise MappingError(
            f"{where}.from: there is no table {source}{nearest(source, tuple(frames))} (tables: {known})"
        )


def _refuse(where: str, key: str) -> NoReturn:
    raise MappingError(f"{where}: {key} is not read on Spark, where columns are renamed or constant; {_ADVICE}")


def _condition(name: str, text: str) -> str:
    parsed = simple_condition(text)
    if parsed is None:
        raise MappingError(
            f"data.tables.{name}.where: {text!r} is more than comparisons of columns with constants, IN, IS NULL, "
            f"BETWEEN, AND, OR and NOT, and no more is read on Spark; {_ADVICE}"
        )
    return str(parsed.sql(dialect="spark"))


def _mapped(name: str, column: str, how: ColumnConfig, kinds: Mapping[str, str], zone: str) -> str:
    if how.source is None:
        value = how.const
        declared = schema.TABLES[name].column(column)
        if declared is not None and declared.type is Type.TIMESTAMP and isinstance(value, str):
            return f"CAST({_text(value)} AS TIMESTAMP_NTZ)"
        kind = {str: "string", bool: "boolean", int: "bigint", float: "double"}.get(type(value), "void")
        sql = _text(value) if isinstance(value, str) else "NULL" if value is None else repr(value).lower()
        return _cast(name, column, sql, kind, zone)
    folded = {known.casefold(): known for known in kinds}
    found = folded.get(how.source.casefold())
    if found is None:
        raise MappingError(
            f"data.tables.{name}.columns.{column}: there is no column {how.source}"
            f"{nearest(how.source, tuple(kinds))} (columns: {', '.join(kinds)})"
        )
    return _cast(name, column, _quoted(found), kinds[found], zone)


def _as_it_is(name: str, kinds: Mapping[str, str], zone: str) -> dict[str, str]:
    """Return the columns of a table that is not mapped: the declared ones, and others where there may be others."""
    folded = {known.casefold(): known for known in schema.TABLES[name].names}
    items = {}
    for column, kind in kinds.items():
        canonical = folded.get(column.casefold(), column)
        if unknown_column(schema.TABLES[name], canonical) == "":
            items[canonical] = _cast(name, canonical, _quoted(column), kind, zone)
    return items


def _cast(name: str, column: str, sql: str, kind: str, zone: str) -> str:
    """Return Spark's SQL of a canonical column, given that of the raw one and its type."""
    declared = schema.TABLES[name].column(column)
    type_ = _open_type(kind) if declared is None else declared.type
    if kind == "void":
        return f"CAST(NULL AS {_target(type_)})"
    cast = _moment(sql, kind, zone) if type_ is Type.TIMESTAMP else _plain(sql, kind, type_)
    if cast is None:
        raise DataError(
            f"{name}.{column}: Spark has it as {kind}, which does not read as {type_.value}; "
            f"cast it in the table, or {_ADVICE}"
        )
    return f"lower({cast})" if declared is not None and declared.values else cast


def _open_type(kind: str) -> Type:
    """Return the type of a column that the schema does not declare: by what it holds."""
    if kind in (*_INTEGERS, *_FLOATS) or kind.startswith("decimal"):
        return Type.NUMBER
    if kind in ("timestamp", "timestamp_ntz", "date"):
        return Type.TIMESTAMP
    return {"boolean": Type.BOOLEAN, _TEXTS: Type.LIST}.get(kind, Type.TEXT)


def _moment(sql: str, kind: str, zone: str) -> str | None:
    """Return a moment as naive UTC; the session is in UTC."""
    if kind == "timestamp_ntz" and zone != "UTC":
        return f"convert_timezone({_text(zone)}, 'UTC', {sql})"
    return f"CAST({sql} AS TIMESTAMP_NTZ)" if kind in ("timestamp", "timestamp_ntz", "date") else None


def _plain(sql: str, kind: str, type_: Type) -> str | None:
    is_integer, is_float = kind in _INTEGERS, kind in _FLOATS
    if type_ in _NUMBERS:
        is_number = is_integer or is_float or kind.startswith("decimal")
        # not-a-number means missing, as in pandas
        return f"nullif(CAST({sql} AS DOUBLE), DOUBLE('NaN'))" if is_number else None
    if type_ is Type.INTEGER:
        # whole numbers with a null among them come out of pandas as floats
        refused = f"raise_error(concat('not a whole number: ', {sql}))"
        whole = f"CASE WHEN {sql} = floor({sql}) THEN CAST({sql} AS BIGINT) WHEN NOT isnan({sql}) THEN {refused} END"
        return f"CAST({sql} AS BIGINT)" if is_integer else whole if is_float else None
    if type_ is Type.BOOLEAN:
        return sql if kind == "boolean" else None
    if type_ is Type.LIST:
        return f"filter(transform({sql}, x -> trim(x)), x -> x <> '')" if kind == _TEXTS else None
    if kind != "string" and not (is_integer and type_ in (Type.ID, Type.TEXT)):
        return None
    text = f"nullif(trim(CAST({sql} AS STRING)), '')"
    return f"upper({text})" if type_ in _UPPER else text


def _target(type_: Type) -> str:
    named: Mapping[Type, str] = {
        **dict.fromkeys(_NUMBERS, "DOUBLE"),
        Type.TIMESTAMP: "TIMESTAMP_NTZ",
        Type.INTEGER: "BIGINT",
        Type.BOOLEAN: "BOOLEAN",
        Type.LIST: "ARRAY<STRING>",
    }
    return named.get(type_, "STRING")


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
