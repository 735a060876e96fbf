"""Time the feature engine against the prototype: the same 57 features in the same run, and the standard 68.

    python benchmarks/features.py [--events 2000000] [--repeats 3] [--growth]

Data come from ``bench/make_events.py`` and the prototype from ``reference/point_in_time_duckdb.py``, both in a folder
beside the repository (``--shared``). Every run is a process of its own with two threads; it reads Parquet, computes
and writes Parquet. Runs are interleaved, so that a busy machine slows all of them alike; the ratio is of medians.
With ``--growth`` a second set of four times the events follows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = (7, 30, 90, 365)
MEASURES = ("value", "active_days", "distinct_types")
THREADS = 2
RUNS = ("prototype", "57", "57 recorded_at", "68", "68 recorded_at")


class ParquetTables:
    """The tables of the benchmark as the engine wants them, without the checks that `Ecosystem` makes first."""

    def __init__(self, folder: Path, *, recorded: bool) -> None:
        from partnerml.ecosystem._engine import EmbeddedDuckDB

        self.backend = EmbeddedDuckDB().connect(threads=THREADS)
        for setting in ("TimeZone='UTC'", "preserve_insertion_order=false"):
            self.backend.con.execute(f"SET {setting}")
        self._folder, self._recorded = folder, recorded
        self._tables = {name: self._read(name) for name in ("events", "partners")}

    def _read(self, name: str):
        table = self.backend.read_parquet(self._folder / f"{name}.parquet")
        moments = [column for column in table.columns if column.endswith("_at")]
        table = table.mutate(**{column: _naive(table[column]) for column in moments})
        return table if self._recorded or "recorded_at" not in moments else table.drop("recorded_at")

    def table(self, name: str):
        """Return a table."""
        return self._tables[name]

    def has(self, table: str, *columns: str) -> bool:
        """Whether a table has these columns."""
        return table in self._tables and set(columns) <= set(self._tables[table].columns)

    def lag(self, table: str) -> dt.timedelta:
        """Return the declared lag of a table: none."""
        return dt.timedelta(0)


def _naive(moment):
    """Return a zoned moment as naive UTC: by way of an integer, since a cast asks for the zone row by row."""
    import ibis

    epoch_us = ibis.udf.scalar.builtin(_epoch_us, name="epoch_us")
    make_timestamp = ibis.udf.scalar.builtin(_make_timestamp, name="make_timestamp")
    return make_timestamp(epoch_us(moment))


def _epoch_us(moment: dt.datetime) -> int:
    """Return microseconds since 1970."""


def _make_timestamp(us: int) -> dt.datetime:
    """Return the naive moment."""


def names(types: list[str], *, standard: bool) -> list[str]:
    """Return the 57 features of the prototype, or the standard 68."""
    found = [f"events__all__recency_days__{'ever' if standard else '365d'}"]
    for days in WINDOWS:
        found += [f"events__{kind}__count__{days}d" for kind in ("all", *types)]
        found += [f"events__all__{measure}__{days}d" for measure in (MEASURES if standard else MEASURES[:1])]
    if standard:
        found += [f"events__all__count_ratio__{a}d_{b}d" for a, b in ((7, 30), (30, 90), (90, 365))]
    return found


def child(run: str, folder: Path, out: Path) -> None:
    """Build the features once and print the seconds that it took, imports aside."""
    from partnerml.features import Catalogue, Feature, write_rows

    start = time.perf_counter()
    eco = ParquetTables(folder, recorded="recorded_at" in run)
    types = sorted(
        row[0]
        for row in eco.backend.con.execute(f"SELECT DISTINCT event_type FROM '{folder}/events.parquet'").fetchall()
    )
    features = tuple(Feature.parse(name) for name in names(types, standard=run.startswith("68")))
    spine = eco.backend.read_parquet(folder / "spine.parquet")
    keys = spine.mutate(as_of=_naive(spine.as_of))
    as_of = [dt.datetime(2025, month, 1, tzinfo=dt.UTC) for month in range(1, 13)]
    write_rows(eco, keys, out, catalogue=Catalogue(features, event_types=tuple(types)), as_of=as_of)
    print(f"{time.perf_counter() - start:.2f} s, {len(features)} features")


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return the seconds that it prints, its CPU seconds and its peak memory in GB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{text}")
    found = re.search(r"([\d.]+) s, \d+ features", text)
    assert found is not None, text
    return float(found[1]), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def check(ours: Path, prototype: Path) -> str:
    """Compare the 57 features with those of the prototype."""
    import duckdb

    con = duckdb.connect()
    columns = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM '{prototype}'").fetchall()]
    tests = []
    for column in columns:
        head, _, window = column.rpartition("_")
        if column == "recency_days":
            name = "events__all__recency_days__365d"
        elif head == "v":
            name = f"events__all__value__{window}"
        elif head.startswith("n"):
            name = f"events__{head[2:] or 'all'}__count__{window}"
        else:
            continue
        tests.append(
            f'coalesce(abs(p."{column}" - o."{name}"), (p."{column}" IS DISTINCT FROM o."{name}")::int) < 1e-6'
        )
    query = (
        f"SELECT count(*) FROM '{prototype}' p JOIN '{ours}' o USING (partner_id, as_of) WHERE {' AND '.join(tests)}"
    )
    (same,), (rows,) = con.execute(query).fetchone(), con.execute(f"SELECT count(*) FROM '{prototype}'").fetchone()
    return f"{len(tests)} features equal in {same:,} of {rows:,} rows"


def compare(shared: Path, folder: Path, *, events: int, repeats: int) -> dict[str, float]:
    """Print the table for one size of data; return the median seconds of each run."""
    subprocess.run(
        [sys.executable, str(shared / "bench/make_events.py"), str(folder), "--events", str(events)], check=True
    )
    found: dict[str, list[tuple[float, float, float]]] = {run: [] for run in RUNS}
    for _ in range(repeats):
        for run in RUNS:
            out = folder / f"{run.replace(' ', '_')}.parquet"
            if run == "prototype":
                command = [sys.executable, str(shared / "reference/point_in_time_duckdb.py"), str(folder), str(out)]
            else:
                command = [sys.executable, __file__, "--child", run, "--folder", str(folder), "--out", str(out)]
            found[run].append(measure(command))
    print(f"\n{events:,} events, {repeats} repeats, {THREADS} threads")
    print(f"{'run':<16}{'median s':>10}{'best s':>9}{'CPU s':>9}{'peak GB':>9}{'ratio':>8}")
    medians = {run: statistics.median(seconds for seconds, _, _ in runs) for run, runs in found.items()}
    for run, runs in found.items():
        cpu, memory = statistics.median(r[1] for r in runs), max(r[2] for r in runs)
        print(
            f"{run:<16}{medians[run]:>10.2f}{min(r[0] for r in runs):>9.2f}{cpu:>9.2f}{memory:>9.2f}"
            f"{medians[run] / medians['prototype']:>8.2f}"
        )
    print(check(folder / "57.parquet", folder / "prototype.parquet"))
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="repeat with four times the events")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--child", choices=RUNS[1:], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder, args.out)
        return
    if not (args.shared / "bench/make_events.py").is_file():
        raise SystemExit(f"{args.shared} holds no bench/make_events.py; name its folder with --shared")
    with tempfile.TemporaryDirectory() as scratch:
        small = compare(args.shared, Path(scratch) / "1", events=args.events, repeats=args.repeats)
        if args.growth:
            large = compare(args.shared, Path(scratch) / "4", events=4 * args.events, repeats=args.repeats)
            print("\n4 x the events costs " + ", ".join(f"{r}: {large[r] / small[r]:.2f} x" for r in RUNS))


if __name__ == "__main__":
    main()
