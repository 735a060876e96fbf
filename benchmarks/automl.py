"""Churn beside AutoML: partnerml with its defaults and tuned, and FLAML, on the same rows and features.

    python benchmarks/automl.py [--world synthetic|olist] [--partners 3000] [--months 27] [--trials 30]
                                [--seconds 300] [--data ../shared/data/olist]

The rows are those of churn, with the features of partnerml: monthly snapshots whose labels are mature at the first test
snapshot to fit on, later ones to test on. FLAML minimises log loss within SECONDS (by default as long as partnerml took
with tuning), twice: as it is by default, with rows split at random, so that months and partners are on both sides; and
split by time, as somebody would who knows the data. Times are those of fitting, without the features; those of
partnerml hold backtest, tuning, evaluation and final fit.

FLAML has an environment of its own with the versions of ``automl.txt``, made at the first run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _harness as harness

HERE = Path(__file__).resolve().parent
START = dt.date(2024, 1, 1)
TEST_MONTHS = 4
# the two snapshots after the choices of Olist's churn are frozen
OLIST_UNTIL, OLIST_TEST, OLIST_END = "2018-05-01", ("2018-05-01", "2018-06-01"), "2018-09-01"
FLAML = {"FLAML": "stratified", "FLAML, split by time": "time"}
SHOWN = ("auc", "brier", "log_loss", "ece", "mean_prediction")


@contextmanager
def synthetic(args: argparse.Namespace, out: Path) -> Iterator[tuple[Any, str, list[str], str]]:
    """Open a made-up ecosystem; with it: until when to train, the test snapshots, and until when they are judged."""
    import pandas as pd

    from partnerml import Ecosystem, tasks
    from partnerml.config import Config
    from partnerml.moments import month_starts
    from partnerml.synthetic import simulate

    world = simulate(partners=args.partners, start=START, months=args.months, seed=args.seed)
    last = (pd.Timestamp(START, tz="UTC") + pd.DateOffset(months=args.months)).to_pydatetime()
    mature = last - dt.timedelta(days=tasks.churn().horizon_days)
    test = month_starts(dt.datetime(START.year, START.month, 1, tzinfo=dt.UTC), mature)[-TEST_MONTHS:]
    config = Config.from_dict({"output": str(out)})
    with Ecosystem.from_frames(**world.tables, now=last, config=config) as eco:
        yield eco, test[0].isoformat(), [moment.isoformat() for moment in test], last.isoformat()


@contextmanager
def olist(args: argparse.Namespace, out: Path) -> Iterator[tuple[Any, str, list[str], str]]:
    """Open Olist."""
    from partnerml import Ecosystem

    overrides = [f"data.source={args.data}", f"output={out}"]
    with Ecosystem.open(HERE.parent / "configs" / "olist.yaml", overrides=overrides) as eco:
        yield eco, OLIST_UNTIL, list(OLIST_TEST), OLIST_END


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Fit all, and print the tables."""
    from partnerml import tasks
    from partnerml.models import evaluate
    from partnerml.progress import Progress

    models: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    notes: dict[str, str] = {}
    world = synthetic if args.world == "synthetic" else olist
    with world(args, folder / "out") as (eco, until, test, end):
        task = next((one for one in tasks.from_config(eco.config) if one.name == "churn"), tasks.churn())
        for name, trials in (("partnerml", 0), ("partnerml, tuned", args.trials)):
            recipe = prepared(eco, task, until, trials, args.seed)
            started = time.perf_counter()
            made = recipe.train(Progress.on(), trials=trials, database=folder / "tuning.db")
            seconds[name], models[name] = time.perf_counter() - started, made.model
            notes[name] = made.model.evaluation["tuning"]["reason"] if trials else ""
        later = tasks.build_dataset(eco, task, as_of=test, until=end, catalogue=recipe.catalogue)
    y, partner = later.y.to_numpy(), later.keys["partner_id"].to_numpy()
    said = {name: model.predict_proba(later.X) for name, model in models.items()}
    write_rows(recipe, later, folder)
    for name, split in FLAML.items():
        found = flaml(args, folder, split, args.seconds or seconds["partnerml, tuned"])
        if found is None:
            break
        seconds[name], said[name], notes[name] = found
    show(evaluate(y, said, partner, subject="partnerml", n_boot=1000), seconds, notes, len(recipe.data), args)


def prepared(eco: Any, task: Any, until: str, trials: int, seed: int) -> Any:
    """Build the rows to fit on."""
    from partnerml.moments import moment
    from partnerml.training import recipe_of
    from partnerml.training._tuning import origins_for

    return recipe_of(eco, task, until=moment(until), seed=seed, origins=origins_for(trials, task.gap(eco)))


def write_rows(recipe: Any, later: Any, folder: Path) -> None:
    """Write what FLAML fits on and predicts: the columns that partnerml's components read, rows in order of time."""
    columns = list(recipe.columns)
    recipe.data.X[columns].assign(y=recipe.labels).to_parquet(folder / "train.parquet", index=False)
    later.X[columns].to_parquet(folder / "test.parquet", index=False)


def flaml(args: argparse.Namespace, folder: Path, split: str, budget: float) -> tuple[float, Any, str] | None:
    """Fit FLAML in its environment; return seconds, probabilities and what it says of itself."""
    import pandas as pd

    python = harness.environment(args.environment, HERE / "automl.txt", of="FLAML")
    if python is None:
        return None
    out = folder / f"{split}.parquet"
    options = ["--seconds", f"{budget:.0f}", "--split", split, "--seed", str(args.seed)]
    command = [str(python), str(HERE / "_flaml_peer.py"), str(folder), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    told = re.search(r"([\d.]+) s, \d+ features, (.*)", done.stdout)
    if done.returncode or told is None:
        raise SystemExit(f"FLAML failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return float(told[1]), pd.read_parquet(out)["p"].to_numpy(), told[2]


def show(
    report: Mapping[str, Any],
    seconds: Mapping[str, float],
    notes: Mapping[str, str],
    n_train: int,
    args: argparse.Namespace,
) -> None:
    """Print metrics and times, and each model's log loss minus that of the defaults."""
    from rich.console import Console
    from rich.table import Table

    tested = f"tested on {report['rows']:,} rows of {report['partners']:,} partners"
    title = f"{args.world}: fitted on {n_train:,} rows, {tested}"
    table = Table("model", *SHOWN, "log loss above the defaults'", "seconds", title=title)
    for name, values in report["models"].items():
        cells = [f"{values[metric]['estimate']:.4f}" for metric in SHOWN]
        table.add_row(name, *cells, above(report, name), f"{seconds[name]:.0f}")
    console = Console(width=150)
    console.print(table)
    for name, note in notes.items():
        if note:
            console.print(f"{name}: {note}", highlight=False)


def above(report: Mapping[str, Any], name: str) -> str:
    """Return by how much the log loss of a model lies above that of the defaults, with its paired 95 % interval."""
    if name not in report["differences"]:
        return ""
    found = report["differences"][name]["log_loss"]
    # 0.0 - x and not -x: of the same model, 0 and not -0
    above, low, high = (0.0 - found[part] for part in ("difference", "high", "low"))
    return f"{above:+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=("synthetic", "olist"), default="synthetic")
    parser.add_argument("--partners", type=int, default=3_000)
    parser.add_argument("--months", type=int, default=27)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seconds", type=float, help="of each FLAML; default: as long as partnerml took with tuning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data" / "olist")
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix) / "peers" / "flaml")
    args = parser.parse_args()
    if args.world == "olist" and not args.data.is_dir():
        print(f"skipped: {args.data} is not there; name Olist's folder with --data")
        return
    with tempfile.TemporaryDirectory() as scratch:
        compare(args, Path(scratch))


if __name__ == "__main__":
    main()
