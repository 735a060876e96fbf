"""Made-up companies of which some are like partners, with known truth: for the benchmark of propensity and its tests.

What makes a company one that could be a partner depends on five traits, two of them together; four others are noise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

INDUSTRIES = ("software", "consulting", "hosting", "telecom", "retail", "health", "finance", "education")
COUNTRIES = ("DE", "FR", "GB", "US", "ES", "IT")
TRAITS = ["industry", "country", "employees", "founded", "certified", "clients", "revenue_growth", "fleet", "colour"]
_BY_INDUSTRY = dict(zip(INDUSTRIES, (1.6, 1.3, 0.9, 0.2, -0.9, -1.0, -0.7, -1.2), strict=True))


def companies(n: int, *, seed: int, share: float = 0.2, noise: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw companies.

    Parameters
    ----------
    n : int
    seed : int
    share : float
        Of those that are like partners.
    noise : float
        Scale of the log-odds: 2 makes the two kinds easier to tell.

    Returns
    -------
    frame : DataFrame of shape (n, 10)
        ``account_id`` and the columns of `TRAITS`; a tenth of ``employees`` is not known.
    log_odds : array of shape (n,)
        Of being like partners.
    """
    rng = np.random.default_rng(seed)
    employees = np.round(rng.lognormal(4.0, 1.2, n)) + 1
    frame = pd.DataFrame(
        {
            "account_id": [f"c{seed}-{i:06d}" for i in range(n)],
            "industry": rng.choice(INDUSTRIES, n),
            "country": rng.choice(COUNTRIES, n, p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.1]),
            "employees": np.where(rng.random(n) < 0.1, np.nan, employees),
            "founded": rng.integers(1970, 2022, n).astype(float),
            "certified": (rng.random(n) < 0.3).astype(float),
            "clients": rng.poisson(12, n).astype(float),
            "revenue_growth": rng.normal(0, 1, n).round(3),
            "fleet": rng.poisson(3, n).astype(float),
            "colour": rng.choice(["red", "green", "blue"], n),
        }
    )
    size = np.log(employees)
    score = frame["industry"].map(_BY_INDUSTRY).to_numpy() + 1.2 * frame["certified"].to_numpy()
    # neither very small nor very large ones; young ones if they are certified
    score = score - 0.5 * (size - 4.5) ** 2 + 0.9 * frame["certified"].to_numpy() * (frame["founded"].to_numpy() > 2005)
    score = noise * (score + 0.6 * frame["country"].isin(["DE", "FR"]).to_numpy())
    return frame, score + _shift(score, share)


def _shift(score: np.ndarray, share: float) -> float:
    """Return what makes the mean probability the share."""
    low, high = -30.0, 30.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-score - middle))).mean() < share else (low, middle)
    return low


def labelled(frame: pd.DataFrame, positive: np.ndarray, *, share: float, by_trait: bool, seed: int) -> np.ndarray:
    """Draw which of the positives are labelled.

    Parameters
    ----------
    frame : DataFrame of shape (n, 10)
    positive : array of bool, shape (n,)
    share : float
        Of the positives.
    by_trait : bool
        Whether large companies in Germany are labelled ten times as often as small ones abroad.
    seed : int
    """
    rng = np.random.default_rng(seed)
    weight = np.ones(len(frame))
    if by_trait:
        large = frame["employees"].fillna(0).to_numpy() > 90
        weight = np.where(large, 1.0, 0.3) * np.where(frame["country"].eq("DE").to_numpy(), 1.0, 1 / 3)
    chance = np.clip(weight * share * positive.sum() / weight[positive].sum(), 0, 0.95)
    return positive & (rng.random(len(frame)) < chance)
