"""What the benchmarks of the feature engine share: the features, the tables, and children that are timed.

Every run is a process of its own: it reads Parquet, computes, writes Parquet, and prints how long that took, imports
aside. The parent takes its CPU time, its peak memory and what it spilled.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
WINDOWS = (7, 30, 90, 365)
RATIOS = ((7, 30), (30, 90), (90, 365))
MEASURES = ("value", "active_days", "distinct_types")
AS_OF = tuple(dt.datetime(2025, month, 1, tzinfo=dt.UTC) for month in range(1, 13))
GIGABYTE = 1e9


class ParquetTables:
    """The tables of the benchmark as the engine wants them, without the checks that `Ecosystem` makes first."""

    def __init__(
        self, folder: Path, *, recorded: bool, memory_limit: str | None = None, spill: Path | None = None
    ) -> None:
        from partnerml.ecosystem._engine import EmbeddedDuckDB

        self.backend = EmbeddedDuckDB().connect(threads=THREADS)
        settings = ["GLOBAL TimeZone='UTC'", "preserve_insertion_order=false"]
        settings += [f"memory_limit='{memory_limit}'"] if memory_limit else []
        settings += [f"temp_directory='{spill}'"] if spill else []
        for setting in settings:
            self.backend.con.execute(f"SET {setting}")
        self._folder, self._recorded = folder, recorded
        self._tables = {name: self._read(name) for name in ("events", "partners")}

    def _read(self, name: str) -> Any:
        table = self.backend.read_parquet(self._folder / f"{name}.parquet")
        moments = [column for column in table.columns if column.endswith("_at")]
        table = table.mutate(**{column: naive(table[column]) for column in moments})
        return table if self._recorded or "recorded_at" not in moments else table.drop("recorded_at")

    def table(self, name: str) -> Any:
        """Return a table."""
        return self._tables[name]

    def has(self, table: str, *columns: str) -> bool:
        """Whether a table has these columns."""
        return table in self._tables and set(columns) <= set(self._tables[table].columns)

    def lag(self, table: str) -> dt.timedelta:
        """Return the declared lag of a table: none."""
        return dt.timedelta(0)


def naive(moment: Any) -> Any:
    """Return a zoned moment as naive UTC: by way of an integer, since a cast asks for the zone row by row."""
    import ibis

    epoch_us = ibis.udf.scalar.builtin(_epoch_us, name="epoch_us")
    make_timestamp = ibis.udf.scalar.builtin(_make_timestamp, name="make_timestamp")
    return make_timestamp(epoch_us(moment))


def _epoch_us(moment: dt.datetime) -> int:
    """Return microseconds since 1970."""


def _make_timestamp(us: int) -> dt.datetime:
    """Return the naive moment."""


def names(types: Iterable[str], *, standard: bool) -> list[str]:
    """Return the 57 features of the prototype, or the standard 68."""
    found = [f"events__all__recency_days__{'ever' if standard else '365d'}"]
    for days in WINDOWS:
        found += [f"events__{kind}__count__{days}d" for kind in ("all", *types)]
        found += [f"events__all__{measure}__{days}d" for measure in (MEASURES if standard else MEASURES[:1])]
    if standard:
        found += [f"events__all__count_ratio__{a}d_{b}d" for a, b in RATIOS]
    return found


def event_types(folder: Path) -> tuple[str, ...]:
    """Return the event types of the data, in order."""
    import duckdb

    query = f"SELECT DISTINCT event_type FROM '{folder}/events.parquet' ORDER BY 1"
    with duckdb.connect() as con:
        return tuple(row[0] for row in con.execute(query).fetchall())


def build_ours(
    folder: Path,
    out: Path,
    *,
    standard: bool,
    recorded: bool,
    cut_offs: int = len(AS_OF),
    memory_limit: str | None = None,
    spill: Path | None = None,
) -> None:
    """Build the features by partnerml, from Parquet to Parquet, and print the seconds that it took."""
    import partnerml.ecosystem._engine  # noqa: F401 (before the clock starts)
    from partnerml.features import Catalogue, Feature, write_rows

    clock = Clock()
    eco: Any = ParquetTables(folder, recorded=recorded, memory_limit=memory_limit, spill=spill)
    types = event_types(folder)
    features = tuple(Feature.parse(name) for name in names(types, standard=standard))
    spine = eco.backend.read_parquet(folder / "spine.parquet")
    keys = spine.mutate(as_of=naive(spine.as_of))
    if cut_offs < len(AS_OF):
        keys = keys.filter(keys.as_of <= AS_OF[cut_offs - 1].replace(tzinfo=None))
    catalogue = Catalogue(features, event_types=types)
    write_rows(eco, keys, out, catalogue=catalogue, as_of=AS_OF[:cut_offs])
    print(clock.told(len(features)))


class Clock:
    """Seconds and CPU seconds of this process, of all its threads, since the clock was made: imports come before it."""

    def __init__(self) -> None:
        gc.collect()  # what the imports left over is theirs
        self._start, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        return time.process_time() - self._cpu

    def told(self, features: int) -> str:
        """Return the line by which a child tells them."""
        return f"{self.seconds:.3f} s, {self.cpu:.3f} CPU s, {features} features"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one child: seconds as it says, CPU seconds, and gigabytes (1e9 bytes) held and spilled at most.

    CPU seconds are as it says too; of a child that does not, as the prototype, they are all of the process's, with its
    imports.
    """

    seconds: float
    cpu: float
    peak: float
    spilled: float = 0.0


def measure(command: Sequence[str | Path], *, spill: Path | None = None) -> Run:
    """Run a command that prints its seconds.

    Parameters
    ----------
    command : sequence of str or Path
    spill : Path, optional
        A folder to watch, where the command puts what its memory does not hold.

    Raises
    ------
    SystemExit
        If it fails; with its output.
    """
    words = [str(word) for word in command]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, text=True, env=environment)
        spilled, status = 0, None
        while status is None:
            time.sleep(0.05)
            spilled = max(spilled, _size(spill))
            pid, found, usage = os.wait4(process.pid, os.WNOHANG)
            status = found if pid else None
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    told = re.search(r"([\d.]+) s, (?:([\d.]+) CPU s, )?\d+ features", text)
    if process.returncode or told is None:
        raise SystemExit(f"{' '.join(words)} failed with {process.returncode}:\n{text}")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime if told[2] is None else float(told[2])
    return Run(float(told[1]), cpu, usage.ru_maxrss * unit / GIGABYTE, spilled / GIGABYTE)


def _size(folder: Path | None) -> int:
    total = 0
    for path in () if folder is None else folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512  # DuckDB's files are sparse
        except FileNotFoundError:  # it came and went
            continue
    return total


def interleaved(commands: Mapping[str, Sequence[str | Path]], *, repeats: int, spill: Path) -> dict[str, list[Run]]:
    """Run all commands in turn, several times over: a busy machine then slows all of them alike."""
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            found[name].append(measure(command, spill=spill))
    return found


def median(runs: Sequence[Run]) -> float:
    """Return the median seconds."""
    return statistics.median(run.seconds for run in runs)


def make_events(shared: Path, folder: Path, *, events: int, partners: int | None = None) -> None:
    """Write the tables of the benchmark.

    Raises
    ------
    SystemExit
        If the folder of the generator is not there.
    """
    script = shared / "bench/make_events.py"
    if not script.is_file():
        raise SystemExit(f"{shared} holds no bench/make_events.py; name its folder with --shared")
    size = ["--events", str(events), *(() if partners is None else ("--partners", str(partners)))]
    subprocess.run([sys.executable, str(script), str(folder), *size], check=True)


def equal_rows(ours: Path, other: Path, pairs: Mapping[str, str]) -> str:
    """Return in how many rows all features of two files are equal, to twelve digits.

    Parameters
    ----------
    ours, other : Path
        Parquet with ``partner_id`` and ``as_of``.
    pairs : mapping of str to str
        Columns of `other`, and their names in `ours`.
    """
    import duckdb

    with duckdb.connect() as con:
        con.execute("SET TimeZone='UTC'")
        tests = [_equal(f'o."{name}"', f'p."{theirs}"') for theirs, name in pairs.items()]
        joined = f"'{other}' p JOIN '{ours}' o USING (partner_id, as_of)"
        same = con.execute(f"SELECT count(*) FROM {joined} WHERE {' AND '.join(tests)}").fetchall()[0][0]
        rows = max(con.execute(f"SELECT count(*) FROM '{path}'").fetchall()[0][0] for path in (ours, other))
    return f"{len(pairs)} features equal in {same:,} of {rows:,} rows" + ("" if same == rows else ": NOT EQUAL")


def _equal(ours: str, theirs: str) -> str:
    # sums of floats differ in their last digits with the order of the rows; a null equals a null alone
    near = f"abs({ours}::DOUBLE - {theirs}::DOUBLE) <= 1e-12 * greatest(abs({theirs}::DOUBLE), 1e6)"
    return f"coalesce({near}, {ours} IS NULL AND {theirs} IS NULL)"


def verdict(value: float, bar: float, what: str, *, at_least: bool = False) -> str:
    """Say whether a bar is held."""
    held = value >= bar if at_least else value <= bar
    return f"{value:.2f} {what} (bar: at {'least' if at_least else 'most'} {bar:g}): {'held' if held else 'NOT HELD'}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as text: the first column left, the others right."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(headings))]
    aligned = [[cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join([cells[0].lstrip().ljust(widths[0]), *cells[1:]]) for cells in aligned)


def environment(folder: Path, requirements: Path, *, of: str) -> Path | None:
    """Return the interpreter of a peer that cannot be installed beside us; None if it cannot be made.

    Parameters
    ----------
    folder : Path
        Where the environment lies, or is to be made.
    requirements : Path
        The file with its pinned versions.
    of : str
        What the peer is called.
    """
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"making an environment for {of} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--requirement", str(requirements)], capture_output=True, text=True)
    if done.returncode:
        print(f"skipped: {of} cannot be installed:\n{done.stderr.strip()}")
        return None
    return python
