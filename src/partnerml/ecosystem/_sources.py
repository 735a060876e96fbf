"""Raw tables by name: files of a folder, named files, a DuckDB file, another connection, frames.

A raw table is opened when a mapping first asks for it, as a view or a table of the schema `source` in the embedded
DuckDB. Tables of another connection are read into it: only the columns that are mapped, and only the rows that a
simple condition keeps.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import glob
import itertools
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import ibis
import pandas as pd
import pyarrow as pa
from sqlglot import exp

from partnerml.config import Config, nearest
from partnerml.ecosystem._engine import ATTACHED, RAW, explained
from partnerml.ecosystem._files import SUFFIXES, Files, relation, split_name
from partnerml.ecosystem._sql import literal, quote, simple_condition
from partnerml.errors import DataError, MappingError, SourceError

# types that Ibis or the checks do not read, and what they become
_RECAST = {"TIMESTAMPTZ_NS": "TIMESTAMPTZ", "UUID": "VARCHAR", "JSON": "VARCHAR", '"NULL"': "VARCHAR"}


@dataclasses.dataclass(frozen=True)
class RawTable:
    """An opened raw table.

    Attributes
    ----------
    name : str
        As the mapping calls it.
    relation : str
        Its quoted name in the embedded DuckDB.
    columns : tuple of str
    needs_parsing : bool
        Whether every scan parses text, so that it pays to store what is made of it.
    """

    name: str
    relation: str
    columns: tuple[str, ...]
    needs_parsing: bool = False


@dataclasses.dataclass(frozen=True)
class _Attached:
    table: str


@dataclasses.dataclass(frozen=True)
class _Remote:
    table: ibis.Table


# a raw table is one of these: Files, _Attached, _Remote or a pyarrow Table, which has no types
Origin: TypeAlias = Any


def find_files(config: Config) -> dict[str, Files]:
    """Return the raw tables in files: those of the source folder by stem, then the named ones.

    Raises
    ------
    SourceError
        If the folder or a file does not exist, is of no known kind, or two files have one stem.
    """
    found: dict[str, Files] = {}
    source = config.data.source
    if source is not None and "://" not in source and not is_duckdb(source):
        found = _in_folder(Path(source))
    for name, pattern in config.data.sources.items():
        found[name] = _named(name, pattern)
    if source is not None and not found and "://" not in source and not is_duckdb(source):
        raise SourceError(f"data.source: {source} holds no data file ({SUFFIXES})")
    return found


def is_duckdb(source: str) -> bool:
    """Whether a source is a DuckDB file, by its name."""
    return source.startswith("duckdb://") or Path(source).suffix.lower() in (".duckdb", ".ddb")


def _in_folder(folder: Path) -> dict[str, Files]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise SourceError(f"data.source: {folder} {what}; name a folder, a .duckdb file or an Ibis URL")
    found: dict[str, Files] = {}
    for path in sorted(folder.iterdir()):
        parts = split_name(path)
        if parts is None or not path.is_file():
            continue
        stem, kind = parts
        if stem in found:
            raise SourceError(f"{path}: {found[stem].paths[0].name} has the same stem; keep one of the two")
        found[stem] = Files((path,), kind)
    return found


def _named(name: str, pattern: str) -> Files:
    paths = [Path(match) for match in sorted(glob.glob(pattern))]  # noqa: PTH207 (the pattern is absolute)
    if not paths:
        raise SourceError(f"data.sources.{name}: no file matches {pattern}")
    kinds = {parts[1] if parts else None for parts in map(split_name, paths)}
    if len(kinds) != 1:
        raise SourceError(f"data.sources.{name}: files of one format are needed, {pattern} matches several")
    kind = kinds.pop()
    if kind is None:
        raise SourceError(f"data.sources.{name}: {paths[0]} is of no known kind ({SUFFIXES})")
    return Files(tuple(paths), kind)


class Sources:
    """All raw tables of an ecosystem, opened on demand.

    Parameters
    ----------
    backend : ibis DuckDB backend
        The embedded one, already fenced.
    files : mapping of str to Files
    frames : mapping of str to pa.Table
    remote : ibis backend, optional
        Another connection whose tables are raw tables too.
    attached : bool
        Whether a DuckDB file was attached.
    """

    def __init__(
        self,
        backend: Any,
        *,
        files: Mapping[str, Files] | None = None,
        frames: Mapping[str, pa.Table] | None = None,
        remote: Any = None,
        attached: bool = False,
    ) -> None:
        self._backend = backend
        self._origins: dict[str, Origin] = {}
        if remote is not None:
            with _foreign_deprecations_ignored():
                self._origins |= {name: _Remote(remote.table(name)) for name in _table_names(remote)}
        if attached:
            self._origins |= {name: _Attached(name) for name in _attached_names(backend)}
        self._origins |= {**(files or {}), **(frames or {})}
        self._opened: dict[str, RawTable] = {}
        self._numbers = itertools.count(1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all raw tables."""
        return tuple(self._origins)

    def resolve(self, name: str, where: str) -> str:
        """Return a raw table's name as it is spelt here.

        Raises
        ------
        MappingError
            If there is none of that name.
        """
        if name in self._origins:
            return name
        folded = {known.casefold(): known for known in self._origins}
        if name.casefold() not in folded:
            known = ", ".join(sorted(self._origins)) or "none"
            raise MappingError(
                f"{where}: there is no raw table {name}{nearest(name, self.names)} (raw tables: {known})"
            )
        return folded[name.casefold()]

    def files(self, name: str) -> Files | None:
        """Return the files of a raw table; None if it lies elsewhere."""
        origin = self._origins[name]
        return origin if isinstance(origin, Files) else None

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the columns of a raw table without reading its rows."""
        origin = self._origins[name]
        return tuple(origin.table.columns) if isinstance(origin, _Remote) else self.open(name).columns

    def open(self, name: str, *, columns: Collection[str] | None = None, where: str | None = None) -> RawTable:
        """Make a raw table available in the embedded DuckDB.

        Parameters
        ----------
        name : str
        columns : collection of str, optional
            The columns that are needed, all by default; only tables of another connection are cut down to them.
        where : str, optional
            A checked condition that the caller applies anyway. If it is simple, another connection applies it too.
        """
        origin = self._origins[name]
        if isinstance(origin, _Remote):
            return self._load(name, origin, columns, where)
        if name not in self._opened:
            with explained(f"raw table {name}"):
                self._opened[name] = self._open(name, origin)
        return self._opened[name]

    def _open(self, name: str, origin: Files | _Attached | pa.Table) -> RawTable:
        if isinstance(origin, Files):
            select = relation(self._backend.con, origin)
            return self._view(name, select, needs_parsing=origin.format != "parquet")
        if isinstance(origin, _Attached):
            return self._view(name, f"SELECT * FROM {quote(ATTACHED)}.main.{quote(origin.table)}")
        return self._store(name, origin)

    def _view(self, name: str, select: str, *, needs_parsing: bool = False) -> RawTable:
        relation = f"{RAW}.{quote(name)}"
        described = self._backend.con.execute(f"DESCRIBE {select}").fetchall()
        columns = ", ".join(_readable(column, kind) for column, kind, *_ in described)
        self._backend.con.execute(f"CREATE VIEW {relation} AS SELECT {columns} FROM ({select})")
        return RawTable(name, relation, tuple(row[0] for row in described), needs_parsing)

    def _store(self, name: str, table: pa.Table) -> RawTable:
        relation, connection = f"{RAW}.{quote(name)}", self._backend.con
        connection.register("partnerml_incoming", table)
        try:
            described = connection.execute("DESCRIBE SELECT * FROM partnerml_incoming").fetchall()
            columns = ", ".join(_readable(column, kind) for column, kind, *_ in described)
            connection.execute(f"CREATE TABLE {relation} AS SELECT {columns} FROM partnerml_incoming")
        finally:
            connection.unregister("partnerml_incoming")
        return RawTable(name, relation, tuple(table.column_names))

    def _load(self, name: str, origin: _Remote, columns: Collection[str] | None, where: str | None) -> RawTable:
        table = origin.table
        condition = None if where is None else _pushed_down(table, where)
        if condition is not None:
            table = table.filter(condition)
        if columns is not None:
            # a table without columns cannot be read: a mapping of constants only still needs the rows
            table = table.select(*(list(columns) or list(table.columns)[:1]))
        try:
            with _foreign_deprecations_ignored():
                incoming = plain_arrow(table.to_pyarrow(), name)
        except (DataError, MappingError):
            raise
        except Exception as error:  # any driver's own type
            raise SourceError(f"table {name} of the connection cannot be read: {error}") from error
        stored = self._store(f"{name} {next(self._numbers)}", incoming)
        return dataclasses.replace(stored, name=name)


@contextmanager
def _foreign_deprecations_ignored() -> Iterator[None]:
    """Ignore deprecations inside a backend that is not ours: Ibis 12 calls what DuckDB 2 and pandas 3 deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _readable(column: str, kind: str) -> str:
    base = "VARCHAR" if kind.startswith("ENUM") else _RECAST.get(kind)
    return quote(column) if base is None else f"CAST({quote(column)} AS {base}) AS {quote(column)}"


def _attached_names(backend: Any) -> tuple[str, ...]:
    rows = backend.con.execute(
        "SELECT table_name FROM information_schema.tables "
        f"WHERE table_catalog = {literal(ATTACHED)} AND table_schema = 'main' ORDER BY 1"
    ).fetchall()
    return tuple(row[0] for row in rows)


def _table_names(remote: Any) -> tuple[str, ...]:
    if remote.name == "duckdb":  # list_tables of Ibis 12 fails on DuckDB 2
        rows = remote.con.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = current_database() "
            "AND table_schema = current_schema() ORDER BY 1"
        ).fetchall()
        return tuple(row[0] for row in rows)
    return tuple(sorted(remote.list_tables()))


def to_arrow(name: str, table: pd.DataFrame | pa.Table | ibis.Table) -> pa.Table:
    """Return a frame as an Arrow table whose types DuckDB reads as they are meant.

    Raises
    ------
    DataError
        If a column mixes types, or zoned and naive moments.
    SourceError
        If it is no frame.
    """
    if isinstance(table, pa.Table):
        return plain_arrow(table, name)
    if isinstance(table, ibis.Table):
        return plain_arrow(table.to_pyarrow(), name)
    if not isinstance(table, pd.DataFrame):
        raise SourceError(
            f"{name}: a pandas DataFrame, Arrow table or Ibis table is needed, got {type(table).__name__}"
        )
    for column in table.columns:
        if not isinstance(column, str):
            raise DataError(f"{name}: names of columns are text, got {column!r}")
    # by position, because a name may be there twice
    arrays = [_to_array(name, table.iloc[:, i]) for i in range(table.shape[1])]
    return plain_arrow(pa.Table.from_arrays(arrays, names=list(table.columns)), name)


def _to_array(name: str, column: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # pyarrow's own way drops the zone by a means that pandas deprecates
        naive = pa.array(column.dt.tz_convert("UTC").dt.tz_localize(None), from_pandas=True)
        return naive.cast(pa.timestamp(naive.type.unit, tz="UTC"))
    if column.dtype.kind == "O":
        _refuse_mixed_zones(name, column)
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{name}.{column.name}: values of one type are needed: {error}") from None


def _refuse_mixed_zones(name: str, column: pd.Series[Any]) -> None:
    moments = [value for value in column if isinstance(value, dt.datetime) and not pd.isna(value)]
    zoned = sum(value.tzinfo is not None for value in moments)
    if 0 < zoned < len(moments):
        raise DataError(
            f"{name}.{column.name}: {zoned} moments have a time zone and {len(moments) - zoned} have none; "
            "give all of them one, or none"
        )


def plain_arrow(table: pa.Table, name: str) -> pa.Table:
    """Decode dictionaries and give columns without any value the type of text."""
    folded = [column.casefold() for column in table.column_names]
    twice = sorted({column for column in table.column_names if folded.count(column.casefold()) > 1})
    if twice:
        raise DataError(f"{name}: the column {twice[0]} is there twice (capitals do not count); rename one")
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
        elif pa.types.is_null(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
    return table


def _pushed_down(table: ibis.Table, where: str) -> Any:
    """Return a simple condition as an Ibis expression of the table, or None if it is not simple."""
    parsed = simple_condition(where)
    if parsed is None:
        return None
    try:
        return _condition(table, parsed)
    except (TypeError, KeyError, ibis.IbisError):
        return None  # engines differ in how they compare these types: it is applied here alone


_COMPARE = {
    exp.EQ: "__eq__", exp.NEQ: "__ne__", exp.GT: "__gt__", exp.GTE: "__ge__", exp.LT: "__lt__", exp.LTE: "__le__",
    exp.And: "__and__", exp.Or: "__or__",
}  # fmt: skip


def _condition(table: ibis.Table, node: Any) -> Any:
    if type(node) in _COMPARE:
        left, right = _condition(table, node.this), _condition(table, node.expression)
        result = getattr(left, _COMPARE[type(node)])(right)
        if result is NotImplemented:
            raise TypeError("not comparable")
        return result
    if isinstance(node, exp.Paren):
        return _condition(table, node.this)
    if isinstance(node, exp.Not):
        return ~_condition(table, node.this)
    if isinstance(node, exp.In):
        return _condition(table, node.this).isin([_condition(table, item) for item in node.expressions])
    if isinstance(node, exp.Is):
        if not isinstance(node.expression, exp.Null):
            raise TypeError("IS is read with NULL only")
        return _condition(table, node.this).isnull()  # noqa: PD003 (an Ibis column)
    if isinstance(node, exp.Between):
        low, high = _condition(table, node.args["low"]), _condition(table, node.args["high"])
        return _condition(table, node.this).between(low, high)
    return _value(table, node)


def _value(table: ibis.Table, node: Any) -> Any:
    if isinstance(node, exp.Column):
        folded = {column.casefold(): column for column in table.columns}
        return table[folded[node.name.casefold()]]
    if isinstance(node, exp.Neg):
        return -_value(table, node.this)
    if isinstance(node, exp.Boolean):
        return ibis.literal(bool(node.this))
    if isinstance(node, exp.Literal):
        if node.is_string:
            return ibis.literal(node.this)
        return ibis.literal(float(node.this) if any(mark in node.this for mark in ".eE") else int(node.this))
    raise TypeError(f"{type(node).__name__} is not simple")
