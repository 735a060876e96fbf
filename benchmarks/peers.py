"""Time the feature engine beside what else one would use: pandas, a range join in SQL, featuretools.

    python benchmarks/peers.py [--events 20000000] [--cut-offs 12] [--repeats 3] [--peers categories featuretools ...]
                               [--small-events 2000000] [--small-cut-offs 3]

All compute the standard 68 features of ``bench/make_events.py`` for every partner on the first of twelve months; that
they agree in every row is checked and printed. Every run is a process of its own that reads Parquet, computes and
writes Parquet; runs of one table are interleaved, so that a busy machine slows all of them alike; ratios are of medians
and against partnerml on equal work: the same events, partners and cut-offs, and both with recorded_at or both without.
partnerml and DuckDB have two threads, pandas and featuretools use one: the ratio of CPU times leaves that aside. Of the
three ways to write it in pandas (`_pandas_peer.py`) the bar is about ``categories``.

featuretools and the join run on fewer events, partners and cut-offs, in a table of their own that says so: they are
too slow for more. featuretools has an environment of its own with the versions of ``featuretools.txt``, made at the
first run: it does not run on pandas 3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import _harness as harness

HERE = Path(__file__).resolve().parent
EVENTS_OF_A_PARTNER = 400  # as in the defaults of the generator
RECORDED = ", recorded_at"
OURS = "partnerml"
FEATURETOOLS = "featuretools"
PANDAS = ("texts", "categories", "tuned")
PLAIN = "pandas categories"  # what somebody writes who knows pandas, and what the bar is about
JOIN = "join"
PANDAS_BAR, FEATURETOOLS_BAR = 10.0, 50.0


def ours(folder: Path, cut_offs: int, name: str) -> list[str | Path]:
    """Return the command of partnerml."""
    child = ["--child", "--cut-offs", str(cut_offs), *(["--recorded"] if name.endswith(RECORDED) else [])]
    return [sys.executable, HERE / "peers.py", *child, "--folder", folder, "--out", result(folder, name)]


def peer(folder: Path, cut_offs: int, name: str) -> list[str | Path]:
    """Return the command of a peer, by its name in the table."""
    kind = name.removesuffix(RECORDED)
    script = "_join_peer.py" if kind == JOIN else "_pandas_peer.py"
    flags = ["--cut-offs", str(cut_offs), *(["--recorded"] if name.endswith(RECORDED) else [])]
    style = [] if kind == JOIN else ["--style", kind.removeprefix("pandas ")]
    return [sys.executable, HERE / script, folder, result(folder, name), *flags, *style]


def result(folder: Path, name: str) -> Path:
    """Return where a run writes."""
    return folder / f"{''.join(c if c.isalnum() else '_' for c in name)}.parquet"


def compare_pandas(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Print the table of pandas; return the median seconds of each run."""
    harness.make_events(args.shared, folder, events=args.events, partners=args.partners)
    commands = {name: ours(folder, args.cut_offs, name) for name in (OURS, OURS + RECORDED)}
    peers = [full for kind in PANDAS if kind in args.peers for full in (f"pandas {kind}", f"pandas {kind}{RECORDED}")]
    commands |= {name: peer(folder, args.cut_offs, name) for name in peers}
    medians = timed(commands, args, folder, events=args.events, partners=args.partners, cut_offs=args.cut_offs)
    for name in peers:
        ratio, what = medians[name] / medians[base(name)], f"x the time of {OURS}"
        judged = name.removesuffix(RECORDED) == PLAIN
        print(f"{name}: {harness.verdict(ratio, PANDAS_BAR, what, at_least=True) if judged else f'{ratio:.2f} {what}'}")
    return medians


def compare_slow(args: argparse.Namespace, folder: Path, medians: Mapping[str, float]) -> None:
    """Print the table of the join and of featuretools, on less."""
    events, cut_offs = args.small_events, args.small_cut_offs
    partners = max(events // EVENTS_OF_A_PARTNER, 1)
    harness.make_events(args.shared, folder, events=events, partners=partners)
    commands = {OURS: ours(folder, cut_offs, OURS)}
    if JOIN in args.peers:
        commands[JOIN] = peer(folder, cut_offs, JOIN)
    python = (
        harness.environment(args.environment, HERE / "featuretools.txt", of=FEATURETOOLS)
        if FEATURETOOLS in args.peers
        else None
    )
    if python is not None:
        script = [python, HERE / "_featuretools_peer.py", folder, result(folder, FEATURETOOLS)]
        commands[FEATURETOOLS] = [*script, "--cut-offs", str(cut_offs)]
    small = timed(commands, args, folder, events=events, partners=partners, cut_offs=cut_offs)
    if FEATURETOOLS not in small:
        return
    ratio, what = small[FEATURETOOLS] / small[OURS], f"x the time of {OURS}, on equal work"
    print(f"{FEATURETOOLS}: {harness.verdict(ratio, FEATURETOOLS_BAR, what, at_least=True)}")
    if OURS in medians:
        work, all_work = events * cut_offs, args.events * args.cut_offs
        scaled = small[FEATURETOOLS] / work / (medians[OURS] / all_work)
        what = f"x the time of {OURS} for each event and cut-off, the latter on {args.events:,} events"
        print(f"{FEATURETOOLS}: {harness.verdict(scaled, FEATURETOOLS_BAR, what, at_least=True)}")


def timed(
    commands: Mapping[str, Sequence[str | Path]],
    args: argparse.Namespace,
    folder: Path,
    *,
    events: int,
    partners: int,
    cut_offs: int,
) -> dict[str, float]:
    """Run the commands, print the table and who agrees with whom; return the median seconds of each."""
    spill = folder / "spill"
    spill.mkdir()
    found = harness.interleaved(commands, repeats=args.repeats, spill=spill)
    medians = {name: harness.median(runs) for name, runs in found.items()}
    cpu = {name: statistics.median(run.cpu for run in runs) for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        figures = (medians[name], medians[name] / cut_offs, cpu[name], max(run.peak for run in runs))
        ratios = (of[name] / of[base(name)] for of in (medians, cpu))
        rows.append([name, *(f"{figure:.2f}" for figure in (*figures, *ratios))])
    print(f"\n{events:,} events, {partners:,} partners, {cut_offs} cut-offs, 68 features, {args.repeats} repeats")
    print(harness.table(["run", "median s", "s per cut-off", "CPU s", "peak GB", f"x {OURS}", "CPU x"], rows))
    standard = harness.names(harness.event_types(folder), standard=True)
    for name in commands:
        if name != base(name):
            same = dict(zip(standard, standard, strict=True))
            agree = harness.equal_rows(result(folder, base(name)), result(folder, name), same)
            print(f"{name} beside {base(name)}: {agree}")
    return medians


def base(name: str) -> str:
    """Return the run of partnerml that a run is held against."""
    return OURS + RECORDED if name.endswith(RECORDED) else OURS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers = (*PANDAS, JOIN, FEATURETOOLS)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--partners", type=int, help=f"default: one for {EVENTS_OF_A_PARTNER} events")
    parser.add_argument("--cut-offs", type=int, choices=range(1, 13), default=12)
    parser.add_argument("--small-events", type=int, default=2_000_000)
    parser.add_argument("--small-cut-offs", type=int, choices=range(1, 13), default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers)
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix) / "peers" / FEATURETOOLS)
    parser.add_argument("--shared", type=Path, default=harness.ROOT.parent / "shared")
    for name, options in (("child", {"action": "store_true"}), ("recorded", {"action": "store_true"})):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **options)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        harness.build_ours(args.folder, args.out, standard=True, recorded=args.recorded, cut_offs=args.cut_offs)
        return
    args.partners = args.partners or max(args.events // EVENTS_OF_A_PARTNER, 1)
    args.small_events = min(args.small_events, args.events)
    with tempfile.TemporaryDirectory() as scratch:
        medians = compare_pandas(args, Path(scratch) / "all") if {*PANDAS} & {*args.peers} else {}
        if {JOIN, FEATURETOOLS} & {*args.peers}:
            compare_slow(args, Path(scratch) / "less", medians)


if __name__ == "__main__":
    main()
