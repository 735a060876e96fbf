"""Time a night with stored cells against a build from raw tables: the same 68 features of every partner.

    python benchmarks/incremental.py [--events 20000000] [--nights 3] [--data DIR]

Data come from ``bench/make_events.py`` in a folder beside the repository (``--shared``): two years of events, so that a
night brings 1/730 of them. For each night one process builds the features from all events, and another one opens the
cells, takes in what is new and builds the features from them; both write Parquet, and the files are compared. With and
without ``recorded_at``. Every run is a process of its own with two threads; the ratio is of medians, by the clock and
of CPU time: what two processors share by the clock counts twice there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness

START = dt.datetime(2025, 12, 14)  # noqa: DTZ001 (naive UTC, as inside the engine)
BAR = 0.1
RUNS = ("build", "raw", "cells")


class Tables(harness.ParquetTables):
    """The tables of the benchmark in one view over each file: DuckDB then skips what a condition on time rules out."""

    def _read(self, name: str) -> Any:
        path = self._folder / f"{name}.parquet"
        columns = [row[0] for row in self.backend.con.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
        kept = [column for column in columns if self._recorded or column != "recorded_at"]
        naive = [f"make_timestamp(epoch_us({c})) AS {c}" if c.endswith("_at") else c for c in kept]
        self.backend.con.execute(f"CREATE VIEW {name} AS SELECT {', '.join(naive)} FROM '{path}'")
        return self.backend.table(name)


def child(args: argparse.Namespace) -> None:
    """Do one run: print the seconds that it took, imports aside, and write down what the update did."""
    import ibis

    import partnerml.ecosystem._engine  # noqa: F401 (before the clock starts)
    from partnerml.features import Catalogue, CellStore, Feature, write_rows

    as_of = START + dt.timedelta(days=args.night)
    types = harness.event_types(args.data)  # a saved model names its features and types
    clock = harness.Clock()
    eco: Any = Tables(args.data, recorded=args.recorded)
    store, told = None, {}
    if args.child != "raw":
        store = CellStore.open(args.cells)
        report = store.update(eco, as_of)
        told = {"rows": report.rows_read, "late": report.late_rows, "update": clock.seconds, "update CPU": clock.cpu}
    features: tuple[Any, ...] = ()
    if args.child != "build":
        features = tuple(Feature.parse(name) for name in harness.names(types, standard=True))
        keys = eco.table("partners").select("partner_id").mutate(as_of=ibis.literal(as_of, type="timestamp(6)"))
        catalogue = Catalogue(features, event_types=types)
        write_rows(eco, keys, args.out, catalogue=catalogue, as_of=[as_of], cells=store)
    line = clock.told(len(features))
    args.out.with_suffix(".json").write_text(json.dumps(told))
    print(line)


def run(name: str, folder: Path, scratch: Path, night: int, *, recorded: bool) -> tuple[harness.Run, dict[str, float]]:
    """Run a child; return what it took, and what its update did."""
    out = scratch / f"{name}.parquet"
    command: list[str | Path] = [sys.executable, __file__, "--child", name, "--data", folder, "--out", out]
    command += ["--cells", _cells(scratch, recorded), "--night", str(night), *(["--recorded"] if recorded else [])]
    took = harness.measure(command)
    return took, json.loads(out.with_suffix(".json").read_text())


def _cells(scratch: Path, recorded: bool) -> Path:
    return scratch / ("cells_recorded" if recorded else "cells")


def compare(folder: Path, scratch: Path, *, nights: int, recorded: bool) -> None:
    """Print the table for events with or without recorded_at."""
    took, told = run("build", folder, scratch, 0, recorded=recorded)
    size = sum(path.stat().st_size for path in _cells(scratch, recorded).iterdir()) / harness.GIGABYTE
    print(f"\n{'with' if recorded else 'without'} recorded_at, {nights} nights, {harness.THREADS} threads")
    print(
        f"first build: {told['rows']:,} rows in {took.seconds:.0f} s, {took.peak:.2f} GB at most, {size:.2f} GB on disk"
    )
    runs: dict[str, list[harness.Run]] = {"raw": [], "cells": []}
    updates: list[tuple[float, float]] = []
    pairs = {name: name for name in harness.names(harness.event_types(folder), standard=True)}
    for night in range(1, nights + 1):
        for name, found in runs.items():
            took, told = run(name, folder, scratch, night, recorded=recorded)
            found.append(took)
        updates.append((told["update"], told["update CPU"]))
        equal = harness.equal_rows(scratch / "cells.parquet", scratch / "raw.parquet", pairs)
        print(f"night {night}: {told['rows']:,} new rows, {told['late']:,} of them late; {equal}")
    took_by = {
        "a build from raw rows": [(run.seconds, run.cpu) for run in runs["raw"]],
        "the day alone": updates,
        "the day and features": [(run.seconds, run.cpu) for run in runs["cells"]],
    }
    medians = {
        what: [statistics.median(column) for column in zip(*times, strict=True)] for what, times in took_by.items()
    }
    raw = medians["a build from raw rows"]
    rows = []
    for what, (seconds, cpu) in medians.items():
        figures = (f"{figure:.2f}" for figure in (seconds, cpu, seconds / raw[0], cpu / raw[1]))
        rows.append([what, *figures])
    print(harness.table(["what", "median s", "CPU s", "s of raw", "CPU s of raw"], rows))
    peaks = (f"{name} {max(run.peak for run in found):.2f}" for name, found in runs.items())
    print(f"GB at the peak: {', '.join(peaks)}")
    for what in ("the day alone", "the day and features"):
        for clock, ours, theirs in zip(("time", "CPU time"), medians[what], raw, strict=True):
            print(f"{what}: {harness.verdict(ours / theirs, BAR, f'of the {clock} of a build from raw rows')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--nights", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a folder that make_events.py wrote")
    parser.add_argument("--shared", type=Path, default=harness.ROOT.parent / "shared")
    for name, options in (("child", {"choices": RUNS}), ("cells", {"type": Path}), ("out", {"type": Path})):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **options)
    parser.add_argument("--night", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--recorded", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.data or Path(name) / "data"
        if args.data is None:
            harness.make_events(args.shared, folder, events=args.events)
        for recorded in (False, True):
            compare(folder, Path(name), nights=args.nights, recorded=recorded)


if __name__ == "__main__":
    main()
