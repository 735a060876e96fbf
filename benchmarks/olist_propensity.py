"""Propensity to partner on real data: Olist's marketing leads, by the public commands, beside every baseline.

    python benchmarks/olist_propensity.py [--data ../shared/data/olist] [--until 2018-04-15] [--last 2018-06-01]

Trains on leads whose 30 days were over at UNTIL, scores those of later first contact, and only then looks at who
signed. The baseline to hold is a logistic regression on one indicator for each value of both traits.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from pathlib import Path

import _olist as olist
import numpy as np
import pandas as pd
from _tables import print_report
from scipy.special import expit

from partnerml import Ecosystem, load_model, score, tasks
from partnerml.models import BaseRate, LogLogistic, Registry, evaluate, perfect_ece
from partnerml.training import select_columns

BAR = 0.71


def main() -> None:
    parser = olist.parser(__doc__, until="2018-04-15")
    parser.add_argument("--last", default="2018-06-01", help="leads of first contact before it are scored")
    arguments = olist.given(parser)
    if arguments is None:
        return
    with tempfile.TemporaryDirectory() as out:
        olist.command("train", "propensity", "--until", arguments.until, data=arguments.data, out=out)
        compare(Path(out), arguments)


def compare(out: Path, arguments: argparse.Namespace) -> None:
    """Print the table: the model's scores, and the baselines fitted on the same training rows."""
    overrides = [f"data.source={arguments.data}", f"output={out}"]
    with Ecosystem.open(olist.CONFIG, overrides=overrides) as eco:
        task = tasks.configured(eco.config, "propensity")
        registry = Registry(eco.config.tracking_uri)
        model = load_model(registry.versions("propensity")[-1].uri, store=out / "mlflow.db")
        train = tasks.build_dataset(eco, task, as_of=arguments.until, until=arguments.until)
        # what a lead is like is known from its first contact on: one moment later it is scored
        last = dt.date.fromisoformat(arguments.last)
        test = tasks.build_dataset(eco, task, as_of=last, until=last + dt.timedelta(days=90), catalogue=model.catalogue)
        test = test.where((test.as_of >= pd.Timestamp(arguments.until, tz="UTC")).to_numpy() & test.mature)
        scored = score(eco, model, as_of=arguments.last).frame
    train = train.where(train.mature)
    said = {"model": model.predict_proba(test.X), **baselines(train, test)}
    y, account = test.y.to_numpy(), test.keys["account_id"].to_numpy()
    print(f"trained on {len(train)} leads, base rate {train.y.mean():.4f}")
    print(f"verdict: {model.evaluation['verdict']['reason']}")
    report = evaluate(y, said, account, n_boot=2000)
    show(report, perfect_ece(said["model"]).to_dict(), model.blend.weights)
    both = test.keys[["account_id"]].assign(said=said["model"]).merge(scored[["account_id", "score"]])
    apart = (both["said"] - both["score"]).abs().max()
    print(f"{len(both)} of them are no partners yet on {arguments.last}; their scores differ from these by {apart:.1e}")


def baselines(train: object, test: object) -> dict[str, np.ndarray]:
    """Fit the baselines on the training rows and predict the test rows."""
    columns, _ = select_columns(train.X)
    fitted = {"base rate": BaseRate.learn(train.X, train.y, pd.Timestamp(train.as_of.max()))}
    fitted["logistic, one-hot"] = LogLogistic(C=1.0, max_levels=10_000).fit(train.X[columns], train.y)
    for name in columns:
        fitted[f"{name.split('__')[1]} alone"] = LogLogistic(C=1.0, max_levels=10_000).fit(train.X[[name]], train.y)
    return {name: expit(scorer.decision_function(test.X)) for name, scorer in fitted.items()}


def show(report: dict, perfect: dict, weights: dict) -> None:
    """Print metrics with intervals, paired differences, and what a perfect model would show."""
    print_report(report, title=f"Olist propensity, {report['rows']} leads", unit="leads")
    auc = report["models"]["model"]["auc"]["estimate"]
    against = report["differences"]["logistic, one-hot"]["auc"]
    print(f"blend: {', '.join(f'{name} {weight:.2f}' for name, weight in weights.items())}")
    print(f"base rate {report['models']['model']['base_rate']['estimate']:.4f}")
    print(f"ECE of a perfectly calibrated model on these rows: {perfect}")
    print(f"bars: AUC {auc:.4f} >= {BAR}: {auc >= BAR}")
    print(f"      not worse than the one-hot logistic beyond the paired interval: {against['high'] >= 0}")


if __name__ == "__main__":
    main()
