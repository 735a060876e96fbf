"""Time the feature engine against the prototype: the same 57 features in the same run, and the standard 68.

    python benchmarks/features.py [--events 20000000] [--repeats 3] [--memory-limit 1GB] [--growth]

Data come from ``bench/make_events.py`` and the prototype from ``reference/point_in_time_duckdb.py``, both in a folder
beside the repository (``--shared``). Every run is a process of its own with two threads; it reads Parquet, computes
and writes Parquet. Runs are interleaved, so that a busy machine slows all of them alike; the ratio is of medians.

``--memory-limit`` adds a run of the 68 features, with and without recorded_at, under that limit of the engine: what
does not fit is spilled. ``--growth`` lets a set of four times the events, of as many partners, follow.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import _harness as harness

PROTOTYPE = "prototype"
OURS = ("57", "57 recorded_at", "68", "68 recorded_at")
BARS = {"57": 1.0, "57 recorded_at": 1.5}
PEAK_BAR = 2.0  # GB
GROWTH, GROWTH_BAR = 4, 4.4


def commands(args: argparse.Namespace, folder: Path, spill: Path) -> dict[str, list[str | Path]]:
    """Return the command of each run; what it writes has its name."""
    prototype = args.shared / "reference/point_in_time_duckdb.py"
    found: dict[str, list[str | Path]] = {
        PROTOTYPE: [sys.executable, prototype, folder, result(folder, PROTOTYPE)],
        **{run: _ours(run, run, folder, spill) for run in OURS},
    }
    if args.memory_limit:
        for run in OURS[2:]:
            limited = f"{run}, {args.memory_limit}"
            found[limited] = [*_ours(run, limited, folder, spill), "--memory-limit", args.memory_limit]
    return found


def _ours(run: str, name: str, folder: Path, spill: Path) -> list[str | Path]:
    start: list[str | Path] = [sys.executable, __file__, "--child", run, "--folder", folder]
    return [*start, "--out", result(folder, name), "--spill", spill]


def result(folder: Path, run: str) -> Path:
    """Return where a run writes."""
    return folder / f"{''.join(c if c.isalnum() else '_' for c in run)}.parquet"


def compare(args: argparse.Namespace, folder: Path, *, events: int) -> dict[str, tuple[float, float]]:
    """Print the table for one size of data; return the median seconds and CPU seconds of each run."""
    harness.make_events(args.shared, folder, events=events)
    spill = folder / "spill"
    spill.mkdir()
    found = harness.interleaved(commands(args, folder, spill), repeats=args.repeats, spill=spill)
    medians = {run: (harness.median(runs), statistics.median(r.cpu for r in runs)) for run, runs in found.items()}
    rows = []
    for run, runs in found.items():
        (seconds, cpu), best = medians[run], min(r.seconds for r in runs)
        peak, spilled = max(r.peak for r in runs), max(r.spilled for r in runs)
        ratios = (own / of for own, of in zip(medians[run], medians[PROTOTYPE], strict=True))
        figures = [f"{figure:.2f}" for figure in (seconds, best, cpu, peak, spilled, *ratios)]
        rows.append([run, *figures])
    print(f"\n{events:,} events, {args.repeats} repeats, {harness.THREADS} threads")
    print(harness.table(["run", "median s", "best s", "CPU s", "peak GB", "spilled GB", "ratio", "CPU ratio"], rows))
    for run, bar in BARS.items():
        print(f"{run}: {harness.verdict(medians[run][0] / medians[PROTOTYPE][0], bar, 'x the prototype')}")
    for run in OURS:
        print(f"{run}: {harness.verdict(max(r.peak for r in found[run]), PEAK_BAR, 'GB at the peak')}")
    same = harness.equal_rows(result(folder, "57"), result(folder, PROTOTYPE), prototype_names(folder))
    print(f"57 beside the {PROTOTYPE}: {same}")
    standard = harness.names(harness.event_types(folder), standard=True)
    for run in list(found)[1 + len(OURS) :]:
        without = result(folder, run.partition(",")[0])
        same = harness.equal_rows(without, result(folder, run), dict(zip(standard, standard, strict=True)))
        print(f"{run} beside no limit: {same}")
    return medians


def prototype_names(folder: Path) -> dict[str, str]:
    """Return the columns of the prototype and what they are called here."""
    found = {"recency_days": "events__all__recency_days__365d"}
    for days in harness.WINDOWS:
        found |= {f"n_{days}d": f"events__all__count__{days}d", f"v_{days}d": f"events__all__value__{days}d"}
        found |= {f"n_{kind}_{days}d": f"events__{kind}__count__{days}d" for kind in harness.event_types(folder)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-limit", help="of the engine, such as 1GB: two runs more")
    parser.add_argument("--growth", action="store_true", help="repeat with four times the events")
    parser.add_argument("--shared", type=Path, default=harness.ROOT.parent / "shared")
    for name, options in (("child", {"choices": OURS}), ("folder", {"type": Path}), ("out", {"type": Path})):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **options)
    parser.add_argument("--spill", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        harness.build_ours(
            args.folder,
            args.out,
            standard=args.child.startswith("68"),
            recorded="recorded_at" in args.child,
            memory_limit=args.memory_limit,
            spill=args.spill,
        )
        return
    with tempfile.TemporaryDirectory() as scratch:
        small = compare(args, Path(scratch) / "1", events=args.events)
        if args.growth:
            large = compare(args, Path(scratch) / "4", events=GROWTH * args.events)
            print(f"\n{GROWTH} x the events")
            for run in small:
                ratio, cpu = (after / before for after, before in zip(large[run], small[run], strict=True))
                told = (
                    f"{ratio:.2f} x the time" if run == PROTOTYPE else harness.verdict(ratio, GROWTH_BAR, "x the time")
                )
                print(f"{run}: {told}; {cpu:.2f} x the CPU time")


if __name__ == "__main__":
    main()
