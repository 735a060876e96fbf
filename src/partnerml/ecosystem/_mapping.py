"""Maps raw tables onto canonical ones: blocks of the configuration, compiled to SQL of the embedded DuckDB.

Compiling is pure text; every part that a user wrote passed the fence (`_sql`) as it stands. What parses text or runs
expressions is stored once; a mere renaming stays a view over its source.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from partnerml import schema
from partnerml.config import BlockConfig, ColumnConfig, nearest, unknown_column
from partnerml.ecosystem._engine import MAPPED, explained
from partnerml.ecosystem._files import Files, layouts
from partnerml.ecosystem._report import Violation
from partnerml.ecosystem._sources import RawTable, Sources
from partnerml.ecosystem._sql import check_expression, check_select, literal, quote
from partnerml.ecosystem._types import BLANKS, clash
from partnerml.errors import MappingError
from partnerml.schema import Type

_FIRST = 3
_ZONED = "{expr: \"timezone('America/New_York', COLUMN)\"}"


@dataclasses.dataclass(frozen=True)
class MappedTable:
    """A table with canonical column names and the types of its source."""

    table: ibis.Table
    violations: tuple[Violation, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Values:
    """A value map as a table of the engine, joined to its raw value."""

    column: str
    raw: str  # SQL of the raw value, as trimmed text
    lookup: str  # the table with the columns __k and __v; raw columns may well be called k or v
    alias: str
    config: ColumnConfig


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """One block as SQL: what it selects, from what, and its value maps."""

    items: Mapping[str, str]
    origin: str
    values: tuple[_Values, ...] = ()
    is_plain: bool = True

    @property
    def select(self) -> str:
        joins = "".join(
            f" LEFT JOIN {item.lookup} AS {item.alias} ON {item.alias}.__k = lower({item.raw})" for item in self.values
        )
        return f"SELECT {', '.join(f'{sql} AS {quote(name)}' for name, sql in self.items.items())} {self.origin}{joins}"


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a union: what messages call it, its SQL, and the DuckDB types of its columns, in lower case."""

    place: str
    select: str
    kinds: Mapping[str, str]


class Mapper:
    """Compiles and stores the canonical tables of one ecosystem.

    Parameters
    ----------
    backend : ibis DuckDB backend
    sources : Sources
    """

    def __init__(self, backend: Any, sources: Sources) -> None:
        self._backend = backend
        self._sources = sources
        self._numbers = itertools.count(1)

    def map(self, name: str, blocks: Sequence[BlockConfig]) -> MappedTable:
        """Make one canonical table from its blocks.

        Raises
        ------
        MappingError
            If a raw table, a column, an expression or a SQL text is wrong or not allowed.
        SourceError
            If a file cannot be read.
        """
        where = f"data.tables.{name}"
        compiled = [
            self._block(name, block, where if len(blocks) == 1 else f"{where}.{i}") for i, block in enumerate(blocks)
        ]
        if len(compiled) > 1:
            self._check_blocks(name, compiled, where)
        select = " UNION ALL BY NAME ".join(f"({block.select})" for block in compiled)
        kind = "VIEW" if all(block.is_plain for block in compiled) else "TABLE"
        with explained(where):
            self._backend.con.execute(f"CREATE OR REPLACE {kind} {MAPPED}.{quote(name)} AS {select}")
        violations = [violation for block in compiled for violation in self._unmapped(name, block, where)]
        return MappedTable(self._backend.table(name, database=MAPPED), tuple(violations))

    def _block(self, name: str, block: BlockConfig, where: str) -> _Compiled:
        if block.sql is not None:
            return self._select(name, block.sql, f"{where}.sql")
        source = self._sources.resolve(block.source or name, f"{where}.from")
        known = self._sources.columns(source)
        needed: set[str] = set()
        condition = None
        if block.where is not None:
            fenced = check_expression(
                self._backend.con, block.where, columns=known, where=f"{where}.where", source=source
            )
            condition = fenced.text
            needed |= set(fenced.columns)
        if block.columns is None:
            items = _as_it_is(name, known)
            needed |= set(known)
            values: list[_Values] = []
        else:
            items, values = self._columns(block.columns, known, source=source, where=where, needed=needed)
        used = [column for column in known if column in needed]
        self._check_files(name, source, {column: _raw_type(name, block, column) for column in used}, where)
        raw = self._sources.open(source, columns=used, where=condition)
        is_computed = any(column.expr is not None for column in (block.columns or {}).values()) or bool(values)
        return _Compiled(items, _from(raw, condition), tuple(values), not (is_computed or raw.needs_parsing))

    def _columns(
        self, columns: Mapping[str, ColumnConfig], known: Sequence[str], *, source: str, where: str, needed: set[str]
    ) -> tuple[dict[str, str], list[_Values]]:
        items: dict[str, str] = {}
        values: list[_Values] = []
        for column, config in columns.items():
            at = f"{where}.columns.{column}"
            if config.source is not None:
                found = _raw_column(config.source, known, source=source, where=at)
                needed.add(found)
                sql = f"{quote(source)}.{quote(found)}"
            elif config.expr is not None:
                fenced = check_expression(
                    self._backend.con, config.expr, columns=known, where=f"{at}.expr", source=source
                )
                needed |= set(fenced.columns)
                sql = f"(\n{fenced.text}\n)"
            else:
                sql = _constant(config.const)
            if config.values is not None:
                lookup = self._values(column, sql, config, f"{at}.values")
                values.append(lookup)
                sql = _looked_up(lookup)
            items[column] = sql
        return items, values

    def _select(self, name: str, text: str, where: str) -> _Compiled:
        sources = self._sources.names
        mentioned = [source for source in sources if source.casefold() in text.casefold()]
        columns = {column for source in mentioned for column in self._sources.columns(source)}
        fenced = check_select(self._backend.con, text, sources=sources, columns=columns, where=where)
        named = {column.casefold() for column in fenced.columns}
        ctes = []
        for source in fenced.tables:
            known = self._sources.columns(source)
            cut = [column for column in known if column.casefold() in named] if fenced.names_all else None
            used = {column: _type(name, column) for column in (known if cut is None else cut)}
            self._check_files(name, source, used, where)
            ctes.append(f"{quote(source)} AS (SELECT * FROM {self._sources.open(source, columns=cut).relation})")
        select = f"({'WITH ' + ', '.join(ctes) + ' ' if ctes else ''}SELECT * FROM (\n{fenced.text}\n))"
        with explained(where):
            described = self._backend.con.execute(f"DESCRIBE {select}").fetchall()
        found = tuple(str(row[0]) for row in described)
        items = _as_it_is(name, found)
        table = schema.TABLES[name]
        for column in found:
            problem = unknown_column(table, _canonical_name(table, column))
            if problem:
                raise MappingError(f"{where}: {problem}; rename it with AS, or leave it out of the SELECT")
        return _Compiled(items, f"FROM {select} AS {quote(name)}", is_plain=False)

    def _check_blocks(self, name: str, blocks: Sequence[_Compiled], where: str) -> None:
        """Refuse blocks whose union would lose a type that the cast has to see."""
        parts = []
        for i, block in enumerate(blocks):
            with explained(f"{where}.{i}"):
                described = self._backend.con.execute(f"DESCRIBE {block.select}").fetchall()
            parts.append(_Part(f"block {i}", block.select, {str(row[0]).casefold(): str(row[1]) for row in described}))
        columns = dict.fromkeys(column for block in blocks for column in block.items)
        remedy = f"map the column alike in all blocks; {_ZONED} gives moments their zone, an expression an id its text"
        self._refuse_clashes(parts, {column: _type(name, column) for column in columns}, where, remedy)

    def _check_files(self, name: str, source: str, columns: Mapping[str, Type], where: str) -> None:
        """Refuse files of one raw table whose union would lose a type that the cast has to see."""
        origin = self._sources.files(source)
        if origin is None:
            return
        with explained(f"raw table {source}"):
            found = layouts(self._backend.con, origin)
        parts = [_Part(Files(item.paths, origin.format).text, item.select, item.kinds) for item in found]
        remedy = (
            f"write the files alike, or name them apart in data.sources and map {name} by a list of blocks, with "
            f"{_ZONED} for moments without a zone"
        )
        self._refuse_clashes(parts, columns, f"{where}: raw table {source}", remedy)

    def _refuse_clashes(self, parts: Sequence[_Part], columns: Mapping[str, Type], where: str, remedy: str) -> None:
        for column, kind in columns.items():
            having = [(part, part.kinds[column.casefold()]) for part in parts if column.casefold() in part.kinds]
            found = clash(kind, [source for _, source in having])
            if found is None:
                continue
            # pandas gives a column without any value a type of its own: that is no clash
            changed = [part.place for part, source in having if source in found.changed and self._gives(part, column)]
            kept = [part.place for part, source in having if source in found.kept]
            if changed:
                text = found.text.format(column=column, changed=_places(changed), kept=_places(kept))
                raise MappingError(f"{where}: {text}; {remedy}")

    def _gives(self, part: _Part, column: str) -> bool:
        query = f"SELECT 1 FROM ({part.select}) WHERE {quote(column)} IS NOT NULL LIMIT 1"
        with explained(part.place):
            return bool(self._backend.con.execute(query).fetchall())

    def _values(self, column: str, sql: str, config: ColumnConfig, where: str) -> _Values:
        """Store a value map, its keys trimmed and in lower case."""
        pairs = config.values
        if isinstance(pairs, str):
            pairs = _values_file(Path(pairs), where)
        folded: dict[str, str | None] = {}
        for key, value in (pairs or {}).items():
            plain = key.strip().lower()
            if plain in folded and folded[plain] != value:
                raise MappingError(f"{where}: {key!r} is mapped to {folded[plain]!r} and to {value!r}")
            folded[plain] = value
        number = next(self._numbers)
        lookup, connection = f"{MAPPED}.{quote(f'values {number}')}", self._backend.con
        incoming = pa.table({"__k": pa.array(folded, pa.string()), "__v": pa.array(folded.values(), pa.string())})
        connection.register("partnerml_values", incoming)
        try:
            connection.execute(f"CREATE TABLE {lookup} AS SELECT lower(__k) AS __k, __v FROM partnerml_values")
        finally:
            connection.unregister("partnerml_values")
        return _Values(column, f"trim(CAST({sql} AS VARCHAR), {BLANKS})", lookup, f"values_{number}", config)

    def _unmapped(self, name: str, block: _Compiled, where: str) -> list[Violation]:
        """Count the values that a map without a default does not name."""
        found = []
        for item in block.values:
            if item.config.has_default:
                continue
            # a null stays null; an empty text is an empty field
            missing = (
                f"SELECT {item.raw} AS value {block.origin} WHERE {item.raw} <> '' "
                f"AND lower({item.raw}) NOT IN (SELECT __k FROM {item.lookup})"
            )
            rows = self._backend.con.execute(
                f"SELECT value, count(*) AS n, sum(n) OVER (), (SELECT count(*) {block.origin}) "
                f"FROM ({missing}) GROUP BY value ORDER BY n DESC, value LIMIT {_FIRST}"
            ).fetchall()
            if rows:
                first = tuple({item.column: value, "rows": count} for value, count, *_ in rows)
                remedy = (
                    f"These values became null: add them to {where}.columns.{item.column}.values, or give it a default"
                )
                found.append(
                    Violation(
                        name, item.column, "unmapped_value", "warning", int(rows[0][2]), rows[0][3], first, remedy
                    )
                )
        return found


def _type(name: str, column: str) -> Type:
    """Return the type of a canonical column; text where the schema knows none."""
    table = schema.TABLES[name]
    known = table.column(_canonical_name(table, column))
    return Type.TEXT if known is None else known.type


def _raw_type(name: str, block: BlockConfig, column: str) -> Type:
    """Return the type that a raw column must have: that of an id if it becomes one as it is, else its own."""
    if block.columns is None:
        return _type(name, column)
    types = {
        _type(name, canonical)
        for canonical, config in block.columns.items()
        if config.source is not None and config.source.casefold() == column.casefold()
    }
    return Type.ID if Type.ID in types else Type.TEXT


def _places(places: Sequence[str]) -> str:
    more = f" and {len(places) - _FIRST} more" if len(places) > _FIRST else ""
    return ", ".join(places[:_FIRST]) + more


def _from(raw: RawTable, condition: str | None) -> str:
    alias = quote(raw.name)
    if condition is None:
        return f"FROM {raw.relation} AS {alias}"
    # innermost, so that the condition sees the raw columns and nothing else
    return f"FROM (SELECT * FROM {raw.relation} AS {alias} WHERE (\n{condition}\n)) AS {alias}"


def _as_it_is(name: str, columns: Collection[str]) -> dict[str, str]:
    """Return the columns of a table that is not mapped: canonical ones by name, others where there may be others."""
    table = schema.TABLES[name]
    items: dict[str, str] = {}
    for column in columns:
        canonical = _canonical_name(table, column)
        if not table.open_columns or not unknown_column(table, canonical):
            items[canonical] = quote(column)
    return items


def _canonical_name(table: schema.Table, column: str) -> str:
    folded = {known.casefold(): known for known in table.names}
    return folded.get(column.casefold(), column)


def _raw_column(name: str, known: Sequence[str], *, source: str, where: str) -> str:
    folded = {column.casefold(): column for column in known}
    if name.casefold() not in folded:
        raise MappingError(
            f"{where}: {source} has no column {name}{nearest(name, known)} (columns: {', '.join(known)})"
        )
    return folded[name.casefold()]


def _constant(value: str | float | bool | None) -> str:
    if value is None:
        return "CAST(NULL AS VARCHAR)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return literal(value) if isinstance(value, str) else repr(value)


def _looked_up(item: _Values) -> str:
    mapped = f"{item.alias}.__v"
    if not item.config.has_default or item.config.default is None:
        return mapped
    # a value that is mapped to null on purpose stays null
    is_named = f"{item.alias}.__k IS NOT NULL OR {item.raw} IS NULL"
    return f"CASE WHEN {is_named} THEN {mapped} ELSE {literal(item.config.default)} END"


def _values_file(path: Path, where: str) -> dict[str, str | None]:
    """Read a value map: a CSV file with a header, the raw value first and the canonical one second."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise MappingError(f"{where}: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise MappingError(f"{where}: {path} is not UTF-8 text") from None
    pairs: dict[str, str | None] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2:
            raise MappingError(f"{where}: {path}, line {number}: two fields are needed, got {len(row)}")
        pairs[row[0]] = row[1] or None
    if not pairs:
        raise MappingError(f"{where}: {path} holds no values below its header")
    return pairs
