"""Partner fit on the synthetic ecosystem, beside the oracle that knows the simulator and the traits at joining.

    python benchmarks/synthetic_fit.py [--partners 12000] [--months 30] [--test-partners 34000] [--seed 0]

Trains on one programme and scores the partners of another one that starts after it (20,000 rows and more, all followed
for the whole time for success). Then trains at a moment when half of the partners are censored, and says how far the
mean prediction is from the truth, beside what comes out where the censored are dropped.
"""

from __future__ import annotations

import argparse
import datetime as dt

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from partnerml import Ecosystem, tasks
from partnerml.models import Choice, KaplanMeier, evaluate, perfect_ece
from partnerml.progress import Progress
from partnerml.synthetic import simulate
from partnerml.training import recipe_of

START, TEST_START = dt.date(2024, 1, 1), dt.date(2027, 1, 1)
TEST_MONTHS = 15
# a year and three days after a programme began with half of its partners, half of all are censored
CENSORED_MONTHS, CENSORED_UNTIL = 13, dt.datetime(2025, 1, 3, tzinfo=dt.UTC)
SHOWN = ("auc", "brier", "log_loss", "ece", "mean_prediction", "base_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=12_000)
    parser.add_argument("--months", type=int, default=30)
    parser.add_argument("--test-partners", type=int, default=34_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task = tasks.fit()
    test = simulate(partners=arguments.test_partners, start=TEST_START, months=TEST_MONTHS, seed=arguments.seed + 1)
    with Ecosystem.from_frames(**test.tables, now=test.end) as fresh:
        world = simulate(partners=arguments.partners, start=START, months=arguments.months, seed=arguments.seed)
        with Ecosystem.from_frames(**world.tables, now=world.end) as eco:
            model = recipe_of(eco, task, until=world.end, seed=arguments.seed).train(Progress.on()).model
            rows = tasks.build_dataset(fresh, task, as_of=test.end, until=test.end, catalogue=model.catalogue)
            rows = rows.where(rows.mature)
            truth = test.truth.success_probability(days=task.horizon_days).reindex(rows.keys["partner_id"]).to_numpy()
    show(model, rows, truth)
    censored(arguments.partners, arguments.seed + 2)


def show(model: object, rows: object, truth: np.ndarray) -> None:
    """Print the test rows beside the oracle, and the backtest beside the baselines."""
    said = {"model": model.predict_proba(rows.X), "oracle": truth}
    aligned = model.aligned(rows.X)
    for name, part in model.blend.components.items():
        said[name] = 1 / (1 + np.exp(-part.decision_function(aligned)))
    report = evaluate(rows.y.to_numpy(), said, rows.keys["partner_id"].to_numpy(), n_boot=500)
    backtest = model.evaluation
    console = Console(width=150)
    for title, models in (
        (f"test: {report['rows']:,} partners of another programme", report["models"]),
        (f"backtest: {backtest['rows']:,} partners, within {model.training['judged_days']} days", backtest["models"]),
    ):
        table = Table("model", *SHOWN, title=title)
        for name, values in models.items():
            table.add_row(name, *(f"{values[metric]['estimate']:.4f}" for metric in SHOWN))
        console.print(table)
    ours, best = report["models"]["model"], report["models"]["oracle"]
    perfect = perfect_ece(said["model"])
    print(f"blend: {dict(model.blend.weights)}; {backtest['verdict']['reason']}")
    print(f"AUC behind the oracle by {best['auc']['estimate'] - ours['auc']['estimate']:.4f} (bar .02)")
    print(f"ECE {ours['ece']['estimate']:.4f}; a perfect model's 95th percentile on these rows {perfect.p95:.4f}")


def censored(partners: int, seed: int) -> None:
    """Train when half of the partners are censored: the mean prediction against the truth of the same partners."""
    task = tasks.fit()
    world = simulate(partners=partners, start=START, months=CENSORED_MONTHS, seed=seed)
    with Ecosystem.from_frames(**world.tables, now=world.end) as eco:
        recipe = recipe_of(eco, task, until=CENSORED_UNTIL, seed=seed)
    model = recipe.model(Choice.equal(list(recipe.learners())), {})
    data = recipe.data
    duration, observed = data.times["duration_days"], data.times["observed"]
    known = (observed & (duration <= task.horizon_days)) | (duration >= task.horizon_days)
    truth = world.truth.success_probability(days=task.horizon_days).reindex(data.keys["partner_id"])
    told = pd.Series(
        {
            "truth": truth.mean(),
            "model": model.predict_proba(data.X).mean(),
            "Kaplan and Meier": KaplanMeier.of(duration, observed).event_rate(task.horizon_days),
            "the censored dropped": (observed & (duration <= task.horizon_days))[known].mean(),
            "the censored taken for failures": (observed & (duration <= task.horizon_days)).mean(),
        }
    )
    table = Table("", "mean", "off by", title=f"{len(data):,} partners, {1 - known.mean():.0%} of them censored")
    for name, value in told.items():
        table.add_row(str(name), f"{value:.4f}", f"{value - told['truth']:+.4f}")
    Console(width=150).print(table)
    print(f"off by {told['model'] - told['truth']:+.4f} (bar .02)")


if __name__ == "__main__":
    main()
