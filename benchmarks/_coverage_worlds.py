"""Small worlds of partners whose true probability of going quiet is known, made to be drawn by the hundred.

A partner is active in a month with a chance that depends on its trait, on a level of its own that nobody sees, on the
season and on a state of the market that wanders. It is quiet if it is not active in the next three months. What is true
is told as `partnerml.synthetic` tells it: P(quiet | all that is on record before the moment), by the laws of the world.
Of the market after the moment it knows what will come, which no forecaster can: that is what drift is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HORIZON = 3  # months
GAP = pd.Timedelta(days=92)
FIRST = pd.Timestamp("2021-01-01", tz="UTC")
_NODES = 31  # of the unseen level

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class World:
    """Monthly snapshots of a world.

    Attributes
    ----------
    rows : DataFrame
        ``partner``, ``month`` (number), ``as_of``, ``y`` and ``truth``, one row a partner and month in the population.
    X : DataFrame
        Features of the rows.
    scored : int
        The month to score: the last whose outcome the world knows.
    """

    rows: pd.DataFrame
    X: pd.DataFrame
    scored: int


def draw(seed: int, *, partners: int | None = None, drift: float | None = None) -> World:
    """Draw a world: its size, history, spread, season and drift are drawn as well."""
    generator = np.random.default_rng([seed, 2718])
    n = partners or round(float(np.exp(generator.uniform(np.log(1_000), np.log(6_000)))))
    months = int(generator.integers(18, 37))
    wander = float(generator.uniform(0.0, 0.06)) if drift is None else drift
    sd = float(generator.uniform(0.7, 1.5))
    centre = float(generator.uniform(-0.9, 0.6))
    market = np.cumsum(generator.normal(0.0, wander, size=months))
    market -= market.mean()
    season = generator.uniform(0.0, 0.12) * np.sin(2 * np.pi * (np.arange(months) / 12 + generator.random()))
    trait = generator.integers(0, 4, size=n)
    effect = generator.normal(0.0, 0.4, size=4)
    joined = np.where(generator.random(n) < 0.5, 0, generator.integers(0, months, size=n))
    level = generator.normal(0.0, sd, size=n)
    base = centre + effect[trait][:, None] + (market + season)[None, :]
    there = np.arange(months)[None, :] >= joined[:, None]
    active = (generator.random((n, months)) < _sigmoid(base + level[:, None])) & there
    return _snapshots(active, there, base, sd, trait, joined)


def _snapshots(active: NDArray, there: NDArray, base: Floats, sd: float, trait: NDArray, joined: NDArray) -> World:
    n, months = active.shape
    nodes, prior = _level_prior(sd)
    posterior = np.repeat(np.log(prior)[None, :], n, axis=0)
    totals = np.concatenate([np.zeros((n, 1)), np.cumsum(active, axis=1)], axis=1)
    last = np.full(n, -HORIZON)  # never, and long before the first month
    rows, features = [], []
    for month in range(months - HORIZON + 1):
        if month >= 2:
            inside = np.flatnonzero((joined < month) & (last >= month - HORIZON))
            quiet = np.prod(_sigmoid(-(base[inside, month : month + HORIZON, None] + nodes)), axis=1)
            belief = np.exp(posterior[inside] - posterior[inside].max(axis=1, keepdims=True))
            truth = (belief * quiet).sum(axis=1) / belief.sum(axis=1)
            y = ~active[inside, month : month + HORIZON].any(axis=1)
            rows.append(pd.DataFrame({"partner": inside, "month": month, "y": y.astype(float), "truth": truth}))
            features.append(_features(totals[inside], last[inside], joined[inside], trait[inside], month))
        chance = _sigmoid(base[:, month, None] + nodes)
        seen = np.where(active[:, month, None], np.log(chance), np.log1p(-chance))
        posterior += np.where(there[:, month, None], seen, 0.0)
        last = np.where(active[:, month], month, last)
    table = pd.concat(rows, ignore_index=True)
    table["as_of"] = pd.DatetimeIndex([FIRST + pd.DateOffset(months=int(m)) for m in range(months)])[table["month"]]
    return World(table, pd.concat(features, ignore_index=True), months - HORIZON)


def _features(totals: Floats, last: NDArray, joined: NDArray, trait: NDArray, month: int) -> pd.DataFrame:
    counts = {f"active_{w}m": totals[:, month] - totals[:, max(0, month - w)] for w in (1, 3, 6, 12)}
    age = (month - joined).astype(float)
    kinds = {f"trait_{value}": (trait == value).astype(float) for value in (1, 2, 3)}
    return pd.DataFrame(
        {**counts, "active_ever": totals[:, month], "recency": month - last, "age": age, **kinds}, dtype=np.float64
    ).assign(share=totals[:, month] / age)


def _level_prior(sd: float) -> tuple[Floats, Floats]:
    nodes = np.linspace(-4.0, 4.0, _NODES)
    prior = np.exp(-0.5 * nodes**2)
    return sd * nodes, prior / prior.sum()


def _sigmoid(z: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-z))
