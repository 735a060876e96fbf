"""Churn risk on real data: Olist's sellers, by the public commands, beside every baseline.

    python benchmarks/olist_churn.py [--data ../shared/data/olist] [--until 2018-05-01] [--test 2018-05-01 2018-06-01]

Trains on what was known before UNTIL, scores the two later snapshots, and only then looks at their labels. Choices
(weights, calibration) are frozen on as-ofs up to 2018-01-01, the last whose labels are mature at UNTIL.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _olist as olist
import numpy as np
import pandas as pd
from _tables import print_report

from partnerml import Ecosystem, load_model, tasks
from partnerml.models import BaseRate, BuyTillYouDie, LogLogistic, evaluate, perfect_ece
from partnerml.training import select_columns

RECENCY = "activity__all__recency_days__ever"
BARS = {"auc": 0.828, "log_loss": 0.420}


def main() -> None:
    parser = olist.parser(__doc__, until="2018-05-01")
    parser.add_argument("--test", nargs="+", default=["2018-05-01", "2018-06-01"])
    arguments = olist.given(parser)
    if arguments is None:
        return
    with tempfile.TemporaryDirectory() as out:
        places = {"data": arguments.data, "out": out}
        olist.command("train", "churn", "--until", arguments.until, **places)
        for as_of in arguments.test:
            olist.command("score", "churn", "--as-of", as_of, **places)
        compare(Path(out), arguments)


def compare(out: Path, arguments: argparse.Namespace) -> None:
    """Print the table: the model's scores from the files, the baselines fitted on the same training rows."""
    overrides = [f"data.source={arguments.data}", f"output={out}"]
    with Ecosystem.open(olist.CONFIG, overrides=overrides) as eco:
        task = tasks.configured(eco.config, "churn")
        model = load_model("models:/churn@champion", store=out / "mlflow.db")
        train = tasks.build_dataset(eco, task, as_of=model.training["as_of"], until=arguments.until)
        test = tasks.build_dataset(eco, task, as_of=arguments.test, catalogue=model.catalogue, until="2018-09-01")
        everyone = tasks.transactions(eco, task, as_of=[arguments.until])
    files = [out / "scores" / "churn" / f"date={as_of}" / "scores.parquet" for as_of in arguments.test]
    scores = pd.concat([pd.read_parquet(file) for file in files])
    rows = test.keys.merge(scores[["partner_id", "as_of", "score"]], on=["partner_id", "as_of"], how="left")
    said = {"model": rows["score"].to_numpy(), **baselines(train, test, everyone)}
    y, partner = test.y.to_numpy(), test.keys["partner_id"].to_numpy()
    report = evaluate(y, said, partner, n_boot=2000)
    show(report, perfect_ece(said["model"]).to_dict(), model.blend.weights)


def baselines(train: object, test: object, everyone: object) -> dict[str, np.ndarray]:
    """Fit the baselines on the training rows and predict the test rows."""
    columns, _ = select_columns(train.X)
    cut = pd.Timestamp(train.keys["as_of"].max())
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(train.X[name])]
    fitted = {
        "base rate": BaseRate.learn(train.X, train.y, cut),
        "days since last activity": LogLogistic(C=1e6).fit(train.X[[RECENCY]], train.y),
        "logistic, log features": LogLogistic().fit(train.X[numeric], train.y),
    }
    said = {name: 1 / (1 + np.exp(-scorer.decision_function(test.X))) for name, scorer in fitted.items()}
    return said | {"BG/NBD P(active)": BuyTillYouDie().fit_features(everyone.X).p_silent(test.X)}


def show(report: dict, perfect: dict, weights: dict) -> None:
    """Print metrics with intervals, paired differences, and what a perfect model would show."""
    title = f"Olist churn, {report['rows']} test rows of {report['partners']} sellers"
    print_report(report, title=title, unit="sellers")
    ours = {metric: report["models"]["model"][metric]["estimate"] for metric in ("auc", "log_loss", "ece", "base_rate")}
    print(f"blend: {', '.join(f'{name} {weight:.2f}' for name, weight in weights.items())}")
    print(f"base rate {ours['base_rate']:.4f}")
    print(f"ECE {ours['ece']:.4f}; a perfectly calibrated model on these rows: {perfect}")
    print(
        f"bars: AUC {ours['auc']:.4f} >= {BARS['auc']}: {ours['auc'] >= BARS['auc']}; "
        f"log loss {ours['log_loss']:.4f} <= {BARS['log_loss']}: {ours['log_loss'] <= BARS['log_loss']}"
    )


if __name__ == "__main__":
    main()
