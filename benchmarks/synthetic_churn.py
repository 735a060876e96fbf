"""Churn risk on the synthetic ecosystem, beside the oracle that knows the simulator but only the recorded history.

    python benchmarks/synthetic_churn.py [--partners 9000] [--months 27] [--seed 0]

Trains on what was known at the first of the last four months whose labels are mature, scores these four (20,000 rows
and more), and prints metrics beside the oracle's; then trains on shuffled labels, which must find no signal.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from partnerml import Ecosystem, tasks
from partnerml.models import evaluate
from partnerml.moments import month_starts
from partnerml.progress import Progress
from partnerml.synthetic import simulate
from partnerml.training import Recipe, judge, recipe_of

START = dt.date(2024, 1, 1)
TEST_MONTHS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=9_000)
    parser.add_argument("--months", type=int, default=27)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    world = simulate(partners=arguments.partners, start=START, months=arguments.months, seed=arguments.seed)
    task = tasks.churn()
    last = pd.Timestamp(START, tz="UTC") + pd.DateOffset(months=arguments.months)
    mature = (last - pd.Timedelta(days=task.horizon_days)).to_pydatetime()
    test = month_starts(dt.datetime(START.year, START.month, 1, tzinfo=dt.UTC), mature)[-TEST_MONTHS:]
    with Ecosystem.from_frames(**world.tables, now=last.to_pydatetime()) as eco:
        recipe = recipe_of(eco, task, until=test[0], seed=arguments.seed)
        backtest = recipe.backtest(Progress.on())
        evaluation, choice, _ = judge(backtest, simplest=recipe.simplest, seed=arguments.seed)
        model = recipe.model(choice, evaluation)
        rows = tasks.build_dataset(eco, task, as_of=test, until=last.to_pydatetime(), catalogue=model.catalogue)
    oracle = pd.concat(
        [world.truth.churn_probability(as_of).rename("oracle").reset_index().assign(as_of=as_of) for as_of in test]
    )
    oracle["as_of"] = oracle["as_of"].astype(rows.keys["as_of"].dtype)
    both = rows.keys.merge(oracle, on=["partner_id", "as_of"], how="left")
    known = both["oracle"].notna().to_numpy()
    said = {"model": model.predict_proba(rows.X)[known], "oracle": both["oracle"].to_numpy()[known]}
    show(evaluate(rows.y.to_numpy()[known], said, both["partner_id"].to_numpy()[known], n_boot=500), evaluation)
    shuffled(recipe, arguments.seed)


def show(report: dict, evaluation: dict) -> None:
    """Print the test rows beside the oracle, and the backtest beside the baselines."""
    console = Console(width=150)
    for title, models in (
        (f"test: {report['rows']:,} rows of {report['partners']:,} partners", report["models"]),
        (f"backtest: {evaluation['rows']:,} rows", evaluation["models"]),
    ):
        table = Table("model", "AUC", "Brier", "log loss", "ECE", "mean prediction", "base rate", title=title)
        for name, values in models.items():
            shown = ("auc", "brier", "log_loss", "ece", "mean_prediction", "base_rate")
            table.add_row(name, *(f"{values[metric]['estimate']:.4f}" for metric in shown))
        console.print(table)
    ours, best = report["models"]["model"], report["models"]["oracle"]
    behind = best["auc"]["estimate"] - ours["auc"]["estimate"]
    off = ours["mean_prediction"]["estimate"] - ours["base_rate"]["estimate"]
    print(f"AUC behind the oracle by {behind:.4f} (bar .02); mean prediction off by {off:+.4f} (bar .02)")


def shuffled(recipe: Recipe, seed: int) -> None:
    """Train on labels dealt anew at random: there must be no signal."""
    labels = recipe.data.y.to_numpy(copy=True)
    np.random.default_rng(seed).shuffle(labels)
    y = pd.Series(labels, index=recipe.data.y.index)
    data = dataclasses.replace(recipe.data, y=y)
    dealt = dataclasses.replace(recipe, data=data, known=dict.fromkeys(recipe.known, y))
    evaluation, _, _ = judge(dealt.backtest(Progress.on()), simplest=recipe.simplest, seed=seed)
    verdict = evaluation["verdict"]
    print(f"shuffled labels: promoted {verdict['promoted']}; {verdict['reason']}")


if __name__ == "__main__":
    main()
