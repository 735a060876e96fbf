"""Propensity without dates, on made-up companies whose truth is known: how much is lost where few partners are known.

    python benchmarks/synthetic_propensity.py [--accounts 10000] [--seed 1]

Of the companies that are like partners, a share is labelled: at random, or mostly large German ones. Models are trained
by the public call and rank companies that they have not seen. The bar: with a fifth labelled at random, within .02 AUC
of the best of three models that know all labels. With the true class prior, scores are held against the truth.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import pandas as pd
from _made_up_accounts import TRAITS, companies, labelled
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from partnerml import Dataset, Ecosystem, tasks, train
from partnerml.config import Config
from partnerml.features import Catalogue, build_accounts
from partnerml.models import BoostedTrees, LogLogistic, metrics, perfect_ece

UNTIL = "2026-01-01"
BAR = 0.02
TESTED = 20_000
SETTINGS = ((0.05, False), (0.2, False), (0.5, False), (0.2, True), (0.5, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    known, log_odds = companies(arguments.accounts, seed=arguments.seed)
    others, truth = companies(TESTED, seed=arguments.seed + 1)
    # streams of their own: who is labelled must not depend on what made it a positive
    rng = np.random.default_rng([arguments.seed, 1])
    positive, y = rng.random(len(known)) < expit(log_odds), (rng.random(len(others)) < expit(truth)).astype(float)
    console = Console(width=150)
    best, said = fully_labelled(known, positive, others, y)
    console.print(f"{len(known)} companies to learn from, {positive.mean():.1%} of them like partners")
    console.print(f"the truth: AUC {auc(y, truth):.4f}; all labels known: {said}")
    table = Table(title=f"{len(others)} companies that no model has seen")
    for heading in (
        "labelled", "how", "AUC", "to all labels", "score with the true prior", "true mean", "ECE",
        "ECE of a perfect model (p95)", "drawn at random?", "prior at most", "true prior",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "how" else "right")
    bars = []
    for share, by_trait in SETTINGS:
        chosen = labelled(known, positive, share=share, by_trait=by_trait, seed=arguments.seed + 100)
        row = trained(known, chosen, positive, others, y)
        gap = row["auc"] - best
        if share == 0.2 and not by_trait:
            bars.append(gap)
        random = {True: "rejected", False: "not rejected"}[row["rejected"]]
        table.add_row(
            f"{share:.0%}", "by trait" if by_trait else "at random", f"{row['auc']:.4f}", f"{gap:+.4f}",
            f"{row['mean']:.3f}", f"{row['true_mean']:.3f}", f"{row['ece']:.3f}", f"{row['perfect']:.3f}",
            f"{random} (p = {row['p']:.2g})", f"{row['at_most']:.3f}", f"{row['prior']:.3f}",
        )  # fmt: skip
    console.print(table)
    print(f"bar: {bars[0]:+.4f} >= -{BAR}: {bars[0] >= -BAR}")


def auc(y: np.ndarray, log_odds: np.ndarray) -> float:
    """Return the AUC of log-odds."""
    return metrics(y, expit(log_odds))["auc"]


def features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the traits as models take them."""
    return frame[TRAITS].astype(dict.fromkeys(("industry", "country", "colour"), "category"))


def fully_labelled(known: pd.DataFrame, positive: np.ndarray, others: pd.DataFrame, y: np.ndarray) -> tuple[float, str]:
    """Return the best AUC of trees, logistic and their mean, all with every label, and all three in words."""
    X, asked = features(known), features(others)
    trees = BoostedTrees().fit(X, positive).decision_function(asked)
    logistic = LogLogistic(C=0.8 / len(TRAITS)).fit(X, positive).decision_function(asked)
    found = {"trees": auc(y, trees), "logistic": auc(y, logistic), "mean of both": auc(y, trees + logistic)}
    return max(found.values()), ", ".join(f"{name} {value:.4f}" for name, value in found.items())


def trained(
    known: pd.DataFrame, chosen: np.ndarray, positive: np.ndarray, others: pd.DataFrame, y: np.ndarray
) -> dict[str, float]:
    """Train on some labels, given the true prior, and measure on companies of which none is known to be a partner."""
    prior = float(positive[~chosen].mean())
    with opened(known, chosen) as eco:
        model = train(eco, tasks.propensity(class_prior=prior), until=UNTIL)
        # those that were not labelled: what is scored every night
        rows = build_accounts(eco, catalogue=Catalogue.from_dict(model.catalogue), as_of=UNTIL)
        p = by_account(rows, model.predict_proba(rows.X), known["account_id"][~chosen])
    with opened(others, np.zeros(len(others), dtype=bool)) as eco:
        rows = build_accounts(eco, catalogue=Catalogue.from_dict(model.catalogue), as_of=UNTIL)
        asked = by_account(rows, model.log_odds(rows.X), others["account_id"])
    measured = metrics(positive[~chosen].astype(float), p)
    check = model.evaluation["selected_at_random"]
    return {
        "auc": auc(y, asked),
        "mean": measured["mean_prediction"],
        "true_mean": measured["base_rate"],
        "ece": measured["ece"],
        "perfect": perfect_ece(p).to_dict()["p95"],
        "rejected": check["rejected"],
        "p": check["p_value"],
        "at_most": check["prior_at_most"]["high"],
        "prior": prior,
    }


def by_account(rows: Dataset, said: np.ndarray, account_id: pd.Series) -> np.ndarray:
    """Return what was said of accounts, in the order of their ids."""
    return pd.Series(said, index=rows.keys["account_id"]).reindex(account_id).to_numpy()


def opened(frame: pd.DataFrame, chosen: np.ndarray) -> Ecosystem:
    """Return an ecosystem of accounts, some of which are partners."""
    accounts = frame.assign(is_partner=chosen)
    partners = pd.DataFrame({"partner_id": ["p0"]})
    config = Config.from_dict({"traits": {"accounts": TRAITS}, "output": tempfile.mkdtemp()})
    return Ecosystem.from_frames(accounts=accounts, partners=partners, config=config)


if __name__ == "__main__":
    main()
