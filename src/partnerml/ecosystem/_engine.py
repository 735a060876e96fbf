"""Opens the embedded DuckDB and shuts it in: limits, functions, allowed folders, then the locks."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.duckdb.converter import DuckDBPyArrowData
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from partnerml.config import Config
from partnerml.ecosystem import _functions
from partnerml.ecosystem._sql import literal, quote
from partnerml.ecosystem._translation import DirectCompiler
from partnerml.errors import MappingError, SourceError

#: DuckDB schemas of the raw and of the mapped tables.
RAW = "source"
MAPPED = "mapped"
ATTACHED = "attached"
_UTC = {"UTC", "Etc/UTC"}


class _Compiler(DirectCompiler, DuckDBCompiler):
    """Ibis's compiler, in one pass."""


class EmbeddedDuckDB(Backend):
    """Ibis's DuckDB backend where Ibis 12 calls functions that DuckDB 2 has deprecated or dropped."""

    compiler = _Compiler()

    def do_connect(self, *args: Any, **kwargs: Any) -> None:
        """Connect, and switch off what breaks down in DuckDB 2.0.0.

        There a join with few rows hands on its columns as one dictionary for all rows, and what gathers small chunks
        behind it (a caching operator) takes a second dictionary for an internal error, which closes the database:
        "dict-surviving cache: global dictionary column 4 changed identity". Versions that no longer know the setting
        are taken to need it no more.
        """
        super().do_connect(*args, **kwargs)
        with contextlib.suppress(duckdb.CatalogException):
            self.con.execute("SET GLOBAL enable_caching_operators=false")

    def get_schema(self, table_name: str, *, catalog: str | None = None, database: str | None = None) -> ibis.Schema:
        """Return the schema of a table."""
        path = ".".join(quote(part) for part in (catalog, database, table_name) if part)
        try:
            return self._get_schema_using_query(path)
        except duckdb.CatalogException:
            raise ibis.common.exceptions.TableNotFound(table_name) from None

    def create_table(self, name: str, /, obj: Any = None, *, temp: bool = False, **kwargs: Any) -> ibis.Table:
        """Create a table; of a temporary one the SQL is written once, where Ibis copies it as a tree."""
        if not temp or kwargs or not isinstance(obj, ibis.Table):
            return super().create_table(name, obj, temp=temp, **kwargs)
        self._run_pre_execute_hooks(obj)
        columns = sge.Schema(expressions=obj.schema().to_sqlglot_column_defs(self.dialect)).sql(self.dialect)
        self.con.execute(f"CREATE TEMP TABLE {quote(name)} {columns}")
        self.con.execute(f"INSERT INTO {quote(name)} {self.compile(obj)}")
        return self.table(name, database=("temp", "main"))

    def execute(self, expr: Any, /, *, params: Any = None, limit: Any = None, **kwargs: Any) -> Any:
        """Return a frame, series or scalar, by way of Arrow: Ibis's own way reads a deprecated pandas option."""
        return as_pandas(expr, self.to_pyarrow(expr, params=params, limit=limit, **kwargs))

    def to_arrow_together(self, tables: Sequence[ibis.Table]) -> list[pa.Table]:
        """Return tables as Arrow, found side by side, each by a session of its own: few rows keep one thread busy.

        Tables that this session alone knows, in memory or temporary, are found one after the other.
        """
        sessions = [self.con.cursor() for _ in tables]
        try:
            found = self._by_sessions(sessions, tables)
        finally:
            for session in sessions:
                session.close()
        return [self.to_pyarrow(table) for table in tables] if found is None else found

    def _by_sessions(self, sessions: Sequence[Any], tables: Sequence[ibis.Table]) -> list[pa.Table] | None:
        """Return what sessions found; None if they cannot, or see another time zone than this one."""
        zones = {session.execute("SELECT current_setting('TimeZone')").fetchall()[0][0] for session in sessions}
        if not zones <= _UTC or any(table.op().find(ops.InMemoryTable) for table in tables):
            return None

        def found(session: Any, table: ibis.Table, query: str) -> pa.Table:
            return table.__pyarrow_result__(session.sql(query).to_arrow_table(), data_mapper=DuckDBPyArrowData)

        queries = [self.compile(table) for table in tables]
        with ThreadPoolExecutor(len(sessions)) as pool:
            try:
                return list(pool.map(found, sessions, tables, queries))
            except duckdb.CatalogException:  # it is a temporary one
                return None

    def list_tables(self, *, like: str | None = None, database: tuple[str, str] | str | None = None) -> list[str]:
        """Return the names of the tables of a DuckDB schema, the current one by default."""
        catalog, schema = database if isinstance(database, tuple) else (None, database)
        rows = self.con.execute(
            "SELECT DISTINCT table_name FROM information_schema.tables WHERE table_schema = coalesce($1, "
            "current_schema()) AND table_catalog IN (coalesce($2, current_database()), 'temp') ORDER BY 1",
            [schema, catalog],
        ).fetchall()
        return list(self._filter_with_like([row[0] for row in rows], like))

    def _get_schema_using_query(self, query: str) -> ibis.Schema:
        rows = self.con.execute(f"DESCRIBE {query}").fetchall()
        return ibis.schema({name: _type(kind, null == "YES") for name, kind, null, *_ in rows})

    def _run_pre_execute_hooks(self, expr: Any) -> None:
        # Ibis also looks for readers, geometry and functions of Python, each time through the whole expression
        if expr.op().find(ops.InMemoryTable):
            self._register_in_memory_tables(expr)


@functools.cache
def _type(text: str, nullable: bool) -> Any:
    return _Compiler.type_mapper.from_string(text, nullable=nullable)


def as_pandas(expr: Any, found: Any) -> Any:
    """Return what an expression found, an Arrow value, as a frame, series or scalar."""
    if isinstance(expr, ibis.expr.types.Scalar):
        return found.as_py()
    frame = found.to_pandas()
    return frame.rename(expr.get_name()) if isinstance(expr, ibis.expr.types.Column) else frame


def open_engine(config: Config, *, folders: Collection[Path], attach: Path | None = None) -> EmbeddedDuckDB:
    """Open a fenced Ibis DuckDB backend.

    Parameters
    ----------
    config : Config
        Its limits, spill folder and output folder.
    folders : collection of Path
        Folders of the sources: with OUT and the spill folder, all that may be read or written.
    attach : Path, optional
        A DuckDB file, attached read-only under the name `ATTACHED`.

    Notes
    -----
    The order matters: memory and threads cannot change once the configuration is locked, and views over Parquet and
    COPY need the folders before external access ends.
    """
    backend = EmbeddedDuckDB().connect()
    run = backend.con.execute
    run("SET GLOBAL TimeZone='UTC'")  # of the sessions beside this one too
    run("SET autoinstall_known_extensions=false")
    run("SET autoload_known_extensions=false")
    run("SET python_enable_replacements=false")
    if config.engine.threads is not None:
        run(f"SET threads={config.engine.threads}")
    if config.engine.memory_limit is not None:
        run(f"SET memory_limit={literal(config.engine.memory_limit)}")
    run(f"SET temp_directory={literal(str(config.spill))}")
    _functions.register(backend.con)
    run(f"CREATE SCHEMA {RAW}")
    run(f"CREATE SCHEMA {MAPPED}")
    if attach is not None:
        _attach(run, attach)
    allowed = sorted({str(folder) for folder in (*folders, config.spill, config.out)})
    run(f"SET allowed_directories=[{', '.join(map(literal, allowed))}]")
    run("SET enable_external_access=false")
    run("SET lock_configuration=true")
    return backend


def _attach(run: Any, path: Path) -> None:
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    try:
        run(f"ATTACH {literal(str(path))} AS {quote(ATTACHED)} (READ_ONLY)")
    except duckdb.Error as error:
        raise SourceError(f"{path}: not a DuckDB file that can be read: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn an error of DuckDB on the user's files or expressions into one that names them.

    Parameters
    ----------
    where : str
        What was being made, such as ``data.tables.deals``.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise SourceError(
            f"{where}: the memory does not suffice ({_first_line(error)}); raise engine.memory_limit or free disk "
            "space in the spill folder"
        ) from None
    except duckdb.Error as error:
        raise _translated(str(error), where) from None


def _translated(text: str, where: str) -> MappingError | SourceError:
    line = re.search(r"CSV Error on Line: (\d+)", text)
    if line:
        file = re.search(r"^\s*file = (.+)$", text, re.MULTILINE)
        return SourceError(f"{file[1] if file else where}: line {line[1]}: {_csv_reason(text)}")
    json = re.search(r'Malformed JSON in file "([^"]+)", at byte \d+ in line (\d+): (.+)', text)
    if json:
        return SourceError(f"{json[1]}: line {json[2]}: not valid JSON: {json[3].strip()}")
    reason = re.split(r"\n\n|\s*Candidate functions:", text.strip())[0].replace("\n", " ")
    file = re.search(r"file ['\"]([^'\"]+)['\"]", text, re.IGNORECASE)
    if file and ("magic bytes" in text or "parquet" in text.lower()):
        return SourceError(f"{file[1]}: not a readable Parquet file: {reason}")
    remedy = ""
    if "Conversion" in reason:
        remedy = "; try_cast and try_strptime give null where a value does not fit"
    elif "No function matches" in reason:
        remedy = "; the columns of a CSV file are text: cast them, as in Amount::double"
    return MappingError(f"{where}: {reason.rstrip('.')}{remedy}")


def _csv_reason(text: str) -> str:
    if "not utf-8" in text or "unicode" in text.lower():
        return "not UTF-8 text; save the file as UTF-8"
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if counts:
        return (
            f"{counts[2]} fields where the header has {counts[1]}; a field that holds the separator or a line break "
            "needs double quotes around it"
        )
    if "unterminated quote" in text:
        return "a double quote is opened and never closed; double it inside a quoted field"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[2] if len(lines) > 2 else lines[0]
