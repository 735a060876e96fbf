"""Train every task on a large synthetic programme: time, CPU and memory of each, in a process of its own.

    python benchmarks/training_scale.py [--partners 100000] [--months 24] [--tasks churn fit propensity close]

The programme is simulated first, in a process that is measured apart, and written to Parquet; ``--folder`` keeps it, so
that a second run finds it there. A task is timed from opening the tables to the model, imports aside; CPU and peak
memory are those of the whole process. DuckDB may take `--memory-limit` and two threads; the bar is 8 GB for a process
and 600 seconds for all four together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import _harness as harness

TASKS = ("churn", "fit", "propensity", "close")
SECONDS_BAR, PEAK_BAR = 600.0, 8.0
# the synthetic accounts are known by nothing else
ACCOUNT_TRAITS = ["country"]


def simulated(folder: Path, *, partners: int, months: int) -> None:
    """Write the tables of a programme, and print how long it took."""
    from partnerml.synthetic import simulate

    start = time.perf_counter()
    world = simulate(partners=partners, months=months)
    world.write(folder)
    # in the words that the harness reads
    print(f"{time.perf_counter() - start:.2f} s, 0 features")


def trained(folder: Path, name: str, out: Path, *, memory_limit: str) -> None:
    """Train a task on the tables of a folder, write what is told of the model, and print how long it took."""
    from partnerml import Ecosystem, tasks, train
    from partnerml.progress import Progress

    config = out / "partnerml.yaml"
    settings = {
        "data": {"source": str(folder)},
        "traits": {"accounts": ACCOUNT_TRAITS},
        "engine": {"threads": harness.THREADS, "memory_limit": memory_limit},
        "output": str(out),
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    start = time.perf_counter()
    with Ecosystem.open(config) as eco:
        model = train(eco, getattr(tasks, name)(), progress=Progress.silent())
    seconds = time.perf_counter() - start
    judged = model.evaluation["models"]["model"]
    told = {
        "rows": model.training["rows"],
        "of": model.training.get("drawn_from", model.training["rows"]),
        "judged": model.evaluation["rows"],
        "metrics": {metric: judged[metric] for metric in ("auc", "log_loss", "ece") if metric in judged},
    }
    (out / "told.json").write_text(json.dumps(told))
    print(f"{seconds:.2f} s, {len(model.columns)} features")


def child(*words: str | Path) -> list[str | Path]:
    """Return the command of a process of this script."""
    return [sys.executable, __file__, *words]


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Simulate where there is nothing yet, train each task in turn, and print the table."""
    rows = []
    if not (folder / "partners.parquet").is_file():
        size = ["--partners", str(arguments.partners), "--months", str(arguments.months)]
        run = harness.measure(child("--child", "simulate", "--folder", folder, *size))
        rows.append(["(simulation)", "", "", *_figures(run), "", ""])
        print(f"simulated: {' '.join(_figures(run))}", flush=True)
    runs = {}
    for name in arguments.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            words = ("--child", name, "--folder", folder, "--out", scratch, "--memory-limit", arguments.memory_limit)
            runs[name] = run = harness.measure(child(*words))
            told = json.loads((Path(scratch) / "told.json").read_text())
        counts = [f"{told[part]:,}" for part in ("rows", "of")]
        quality = [_interval(told["metrics"].get(metric)) for metric in ("auc", "ece")]
        rows.append([name, *counts, *_figures(run), *quality])
        print(f"{' '.join(rows[-1])}", flush=True)
    print(harness.table(["task", "rows", "of", "seconds", "CPU s", "peak GB", "AUC", "ECE"], rows))
    seconds, peak = sum(run.seconds for run in runs.values()), max(run.peak for run in runs.values())
    print(f"{len(runs)} tasks: {harness.verdict(seconds, SECONDS_BAR, 'seconds')}")
    print(f"the largest process: {harness.verdict(peak, PEAK_BAR, 'GB')}")


def _figures(run: harness.Run) -> list[str]:
    return [f"{run.seconds:.1f}", f"{run.cpu:.1f}", f"{run.peak:.2f}"]


def _interval(metric: dict | None) -> str:
    return "" if metric is None else f"{metric['estimate']:.4f} ({metric['low']:.4f} to {metric['high']:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=100_000)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--folder", type=Path, help="where the programme lies, or is to be written and kept")
    parser.add_argument("--memory-limit", default="3GB", help="of DuckDB")
    parser.add_argument("--child", choices=("simulate", *TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "simulate":
        simulated(arguments.folder, partners=arguments.partners, months=arguments.months)
    elif arguments.child:
        trained(arguments.folder, arguments.child, arguments.out, memory_limit=arguments.memory_limit)
    elif arguments.folder:
        report(arguments, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report(arguments, Path(folder))


if __name__ == "__main__":
    main()
