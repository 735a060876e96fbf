"""Train every task on a large synthetic programme: time, CPU and memory of each, in a process of its own.

    python benchmarks/training_scale.py [--partners 100000] [--months 24] [--tasks churn fit ...] [--jobs 1]

The programme is simulated first, in a process that is measured apart, and written to Parquet; ``--folder`` keeps it, so
that a second run finds it there. A task is timed from opening the tables to the model, imports aside; CPU and peak
memory are those of the whole process. With ``--jobs`` all tasks are trained as `partnerml train all --jobs` does, into
the registry, and timed together; the peak is that of the largest process. DuckDB may take `--memory-limit` and two
threads; the bar is 8 GB for all processes at a time and 600 seconds for all four together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _harness as harness

TASKS = ("churn", "fit", "propensity", "close")
TOGETHER = "together"
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

    start = time.perf_counter()
    with Ecosystem.open(_written(folder, out, memory_limit=memory_limit)) as eco:
        model = train(eco, getattr(tasks, name)(), progress=Progress.silent())
    seconds = time.perf_counter() - start
    told = _told(model.training, model.evaluation)
    (out / "told.json").write_text(json.dumps({name: told}))
    print(f"{seconds:.2f} s, {len(model.columns)} features")


def trained_together(folder: Path, names: list[str], out: Path, *, memory_limit: str, jobs: int) -> None:
    """Train several tasks at a time into a registry, write what is told of the models, and print how long it took."""
    from partnerml import Ecosystem, load_model, tasks
    from partnerml.training import run_all

    start = time.perf_counter()
    with Ecosystem.open(_written(folder, out, memory_limit=memory_limit)) as eco:
        outcomes = run_all(eco, [getattr(tasks, name)() for name in names], jobs=jobs)
    seconds = time.perf_counter() - start
    models = {outcome.task: load_model(outcome.registered, store=out / "mlflow.db") for outcome in outcomes}
    told = {name: _told(model.training, model.evaluation) for name, model in models.items()}
    (out / "told.json").write_text(json.dumps(told))
    print(f"{seconds:.2f} s, {sum(len(model.columns) for model in models.values())} features")


def _written(folder: Path, out: Path, *, memory_limit: str) -> Path:
    """Write a configuration."""
    config = out / "partnerml.yaml"
    settings = {
        "data": {"source": str(folder)},
        "traits": {"accounts": ACCOUNT_TRAITS},
        "engine": {"threads": harness.THREADS, "memory_limit": memory_limit},
        "output": str(out),
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    return config


def _told(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    judged = evaluation["models"]["model"]
    return {
        "rows": training["rows"],
        "of": training.get("drawn_from", training["rows"]),
        "metrics": {metric: judged[metric] for metric in ("auc", "log_loss", "ece") if metric in judged},
    }


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
    runs = []
    together = arguments.jobs > 1
    for name in [TOGETHER] if together else arguments.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            words = ("--child", name, "--folder", folder, "--out", scratch, "--memory-limit", arguments.memory_limit)
            run = harness.measure(child(*words, "--tasks", *arguments.tasks, "--jobs", str(arguments.jobs)))
            told = json.loads((Path(scratch) / "told.json").read_text())
        runs.append(run)
        for task, found in told.items():
            counts = [f"{found[part]:,}" for part in ("rows", "of")]
            quality = [_interval(found["metrics"].get(metric)) for metric in ("auc", "ece")]
            rows.append([task, *counts, *(["", "", ""] if together else _figures(run)), *quality])
        if together:
            rows.append([f"({name})", "", "", *_figures(run), "", ""])
        print(f"{' '.join(rows[-1])}", flush=True)
    print(harness.table(["task", "rows", "of", "seconds", "CPU s", "peak GB", "AUC", "ECE"], rows))
    seconds, peak = sum(run.seconds for run in runs), arguments.jobs * max(run.peak for run in runs)
    print(f"{len(arguments.tasks)} tasks: {harness.verdict(seconds, SECONDS_BAR, 'seconds')}")
    print(f"{arguments.jobs} x the largest process: {harness.verdict(peak, PEAK_BAR, 'GB')}")


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
    parser.add_argument("--jobs", type=int, default=1, help="how many tasks are trained at the same time")
    parser.add_argument("--child", choices=("simulate", TOGETHER, *TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "simulate":
        simulated(arguments.folder, partners=arguments.partners, months=arguments.months)
    elif arguments.child == TOGETHER:
        limit, jobs = arguments.memory_limit, arguments.jobs
        trained_together(arguments.folder, arguments.tasks, arguments.out, memory_limit=limit, jobs=jobs)
    elif arguments.child:
        trained(arguments.folder, arguments.child, arguments.out, memory_limit=arguments.memory_limit)
    elif arguments.folder:
        report(arguments, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report(arguments, Path(folder))


if __name__ == "__main__":
    main()
