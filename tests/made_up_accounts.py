"""Made-up companies, some of which are like partners, for the tests of propensity; the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from partnerml.dataset import FeatureInfo
from partnerml.features import Feature, describe

INDUSTRY, EMPLOYEES, CERTIFIED, COLOUR = (
    f"accounts__{column}__trait__asof" for column in ("industry", "employees", "certified", "colour")
)
TEXTS = (INDUSTRY, COLOUR)
COLUMNS = ("industry", "employees", "certified", "colour")


def companies(n: int, *, seed: int = 0, share_shift: float = -2.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Traits by their names in accounts, with account_id, and the log-odds of being like a partner."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "account_id": [f"c{i:05d}" for i in range(n)],
            "industry": rng.choice(["software", "consulting", "retail", "health"], n),
            "employees": np.where(rng.random(n) < 0.1, np.nan, np.round(rng.lognormal(4, 1, n))),
            "certified": (rng.random(n) < 0.4).astype(float),
            "colour": rng.choice(["red", "green", "blue"], n),
        }
    )
    score = 2.0 * frame["industry"].isin(["software", "consulting"]) + 1.5 * frame["certified"]
    return frame, (score + share_shift).to_numpy(dtype=float)


def features(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns as the engine gives them."""
    X = frame[list(COLUMNS)].set_axis([INDUSTRY, EMPLOYEES, CERTIFIED, COLOUR], axis=1)
    return X.astype(dict.fromkeys(TEXTS, "category"))


def dictionary() -> tuple[FeatureInfo, ...]:
    """What the columns mean."""
    names = (INDUSTRY, EMPLOYEES, CERTIFIED, COLOUR)
    return tuple(describe(Feature.parse(n), unit="category" if n in TEXTS else "number") for n in names)


def drawn(log_odds: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Who is like a partner."""
    return np.random.default_rng([seed, 1]).random(len(log_odds)) < expit(log_odds)


def some(positive: np.ndarray, chance: float | np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Which of the positives are labelled, 1.0 or 0.0."""
    return (positive & (np.random.default_rng([seed, 2]).random(len(positive)) < chance)).astype(float)
