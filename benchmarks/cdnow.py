"""Churn on CDNOW (a music shop's buyers of early 1997) beside BG/NBD's P(active), the classic of such data.

    python benchmarks/cdnow.py [--as-of 1998-04-01 1997-10-01] [--parts components public]

Every customer is a partner and every purchase an event. Horizon and inactivity are 91 days (13 weeks), the population
is everybody active ever. Rows are shown for the whole cohort of 23,570 and for the tenth of it that the literature
uses. Choices (weights, calibration) are made on what was known at the as-of, from backtests before it.

The data lie in the PyPI package `lifetimes` (extra `bench`), which is read as a file and never imported.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.special import expit, logit

from partnerml import Ecosystem, score, tasks, train
from partnerml.errors import NotEnoughDataError
from partnerml.models import (
    Blend,
    BoostedTrees,
    BuyTillYouDie,
    LogLogistic,
    backtest,
    choose,
    metrics,
    paired_difference,
    rolling_origin,
)
from partnerml.models._buy_till_you_die import ACTIVE_DAYS, AGE_DAYS, RECENCY_DAYS

HORIZON = pd.Timedelta(days=91)
WINDOWS = (30, 60, 90, 180, 365)
FIRST_SNAPSHOT = "1997-04-01"  # the cohort is complete: everybody made a first purchase by the end of March
BGNBD = "BG/NBD P(active)"
SHOWN = ("auc", "log_loss", "brier", "mean_prediction", "base_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-of", nargs="+", default=["1998-04-01", "1997-10-01"])
    parser.add_argument("--parts", nargs="+", choices=("components", "public"), default=["components", "public"])
    arguments = parser.parse_args()
    try:
        purchases, sample = load()
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
        print('skipped: CDNOW_master.txt is not there; install it with: pip install "partnerml[bench]"')
        return
    for text in arguments.as_of:
        as_of = pd.Timestamp(text)
        X, y = snapshot(purchases, as_of)
        said = {BGNBD: logit(np.clip(bgnbd(X).p_silent(X), 1e-9, 1 - 1e-9))}
        if "components" in arguments.parts:
            said |= components(purchases, as_of, X)
        if "public" in arguments.parts:
            said |= public(purchases, as_of, X.index)
        show(said, y, X.index.isin(sample), as_of)


def load() -> tuple[pd.DataFrame, set[str]]:
    """Return the purchases in the shape of `events`, and the customers of the 1/10 sample."""
    package = importlib.metadata.distribution("lifetimes")
    folder = Path(str(package.locate_file("lifetimes/datasets")))
    columns = ["partner_id", "occurred_at", "units", "value"]
    rows = pd.read_csv(
        folder / "CDNOW_master.txt",
        sep=r"\s+",
        skiprows=1,
        names=columns,
        dtype={"partner_id": str, "occurred_at": str},
    )
    rows["occurred_at"] = pd.to_datetime(rows["occurred_at"], format="%Y%m%d")
    sample = pd.read_csv(folder / "CDNOW_sample.txt", sep=r"\s+", header=None, dtype=str)[0]
    return rows.assign(event_type="purchase"), set(sample)


def snapshot(purchases: pd.DataFrame, as_of: pd.Timestamp) -> tuple[pd.DataFrame, pd.Series]:
    """Return simple features as of a moment, and whether the customer is silent throughout the horizon."""
    past = purchases[purchases["occurred_at"] < as_of]
    by = past.groupby("partner_id")
    days = (
        by["occurred_at"].nunique(),
        (as_of - by["occurred_at"].max()).dt.days,
        (as_of - by["occurred_at"].min()).dt.days,
    )
    X = pd.DataFrame(dict(zip((ACTIVE_DAYS, RECENCY_DAYS, AGE_DAYS), days, strict=True))).astype("float64")
    X["value_ever"], X["units_ever"] = by["value"].sum(), by["units"].sum().astype("float64")
    for window in WINDOWS:
        recent = past[past["occurred_at"] >= as_of - pd.Timedelta(days=window)].groupby("partner_id")
        X[f"count_{window}d"] = recent["occurred_at"].nunique().reindex(X.index).fillna(0.0)
        X[f"value_{window}d"] = recent["value"].sum().reindex(X.index).fillna(0.0)
    X["mean_value"] = X["value_ever"] / X[ACTIVE_DAYS]
    X["mean_gap"] = (X[AGE_DAYS] - X[RECENCY_DAYS]) / (X[ACTIVE_DAYS] - 1).where(X[ACTIVE_DAYS] > 1)
    X["recency_over_gap"] = X[RECENCY_DAYS] / X["mean_gap"]
    ahead = purchases["occurred_at"].between(as_of, as_of + HORIZON, inclusive="left")
    return X, pd.Series(~X.index.isin(purchases.loc[ahead, "partner_id"]), X.index, dtype="float64")


def bgnbd(X: pd.DataFrame) -> BuyTillYouDie:
    return BuyTillYouDie(horizon_days=HORIZON.days).fit_features(X)


def components(purchases: pd.DataFrame, as_of: pd.Timestamp, X: pd.DataFrame) -> dict[str, np.ndarray]:
    """Fit the blend on simple features of mature monthly snapshots; return log-odds of the blend and its parts."""
    months = pd.date_range(FIRST_SNAPSHOT, as_of - HORIZON, freq="MS")
    seen = {month: snapshot(purchases, month) for month in months}
    rows = pd.concat([features for features, _ in seen.values()])
    labels = pd.concat([label for _, label in seen.values()], ignore_index=True)
    moments = pd.Series(np.repeat(months, [len(features) for features, _ in seen.values()]))
    learners = {
        "trees": lambda X, y, cut: BoostedTrees().fit(X, y),
        "logistic": lambda X, y, cut: LogLogistic().fit(X, y),
        "bgnbd": lambda X, y, cut: bgnbd(snapshot(purchases, cut)[0]),
    }
    tested = backtest(
        rows.reset_index(drop=True),
        labels,
        rows.index.to_series(),
        folds=rolling_origin(moments, gap=HORIZON, at_most=4),
        gap=HORIZON,
        learners=learners,
        baselines={},
    )
    choice = choose(tested, tested.cuts, tested.y)
    fitted = {name: learn(rows, labels, as_of) for name, learn in learners.items()}
    blend = Blend(fitted, choice.weights, choice.calibration)
    print(
        f"{as_of:%Y-%m-%d} simple features, {len(months)} snapshots: {_weights(choice.weights)}; {choice.calibration}"
    )
    alone = {f"simple features: {name}": fitted[name].decision_function(X) for name in ("trees", "logistic")}
    return {**alone, "simple features: blend": blend.decision_function(X)}


def public(purchases: pd.DataFrame, as_of: pd.Timestamp, partners: pd.Index) -> dict[str, np.ndarray]:
    """Train and score by the public functions, which see nothing from the as-of on; return their log-odds."""
    columns = ["partner_id", "occurred_at", "event_type", "value"]
    known = purchases.loc[purchases["occurred_at"] < as_of, columns]
    everyone = pd.DataFrame({"partner_id": partners})
    task = tasks.churn(
        horizon_days=HORIZON.days, inactivity_days=HORIZON.days, active_within_days=None, train_from=FIRST_SNAPSHOT
    )
    with Ecosystem.from_frames(partners=everyone, events=known) as eco:
        try:
            model = train(eco, task, until=as_of)
        except NotEnoughDataError as error:
            print(f"{as_of:%Y-%m-%d} public train refuses: {error}")
            return {}
        said = score(eco, model, as_of=as_of, reasons=0).frame.set_index("partner_id")["score"]
    print(f"{as_of:%Y-%m-%d} public train: {_weights(model.blend.weights)}; {model.blend.calibrator}")
    p = said.reindex(partners).to_numpy(dtype="float64")
    return {"partnerml train and score": np.log(p) - np.log1p(-p)}


def show(said: dict[str, np.ndarray], y: pd.Series, tenth: np.ndarray, as_of: pd.Timestamp) -> None:
    """Print the metrics of each cohort, and paired differences to BG/NBD with 95 % intervals."""
    for cohort, rows in (("all customers", np.ones(len(y), dtype=bool)), ("1/10 sample", tenth)):
        labels, names = y.to_numpy()[rows], y.index.to_numpy()[rows]
        probabilities = {name: expit(log_odds[rows]) for name, log_odds in said.items()}
        table = Table(title=f"CDNOW, {cohort} ({rows.sum():,}), as of {as_of:%Y-%m-%d}, silent for {HORIZON.days} days")
        table.add_column("model")
        for heading in (*SHOWN, "log loss against BG/NBD"):
            table.add_column(heading, justify="right")
        for name, p in probabilities.items():
            values = metrics(labels, p)
            apart = "" if name == BGNBD else _difference(labels, p, probabilities[BGNBD], names)
            table.add_row(name, *(f"{values[metric]:.4f}" for metric in SHOWN), apart)
        Console(width=150).print(table)


def _difference(labels: np.ndarray, p: np.ndarray, other: np.ndarray, names: np.ndarray) -> str:
    found = paired_difference(labels, p, other, names, metric="log_loss", n_boot=1_000, seed=0)
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())


if __name__ == "__main__":
    main()
