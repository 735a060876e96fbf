"""BG/NBD: activity as a Poisson process that may end for good after every active day."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln

from partnerml.errors import NotEnoughDataError
from partnerml.models._binary import Array, ColumnsError, State

ACTIVE_DAYS = "activity__all__active_days__ever"
RECENCY_DAYS = "activity__all__recency_days__ever"
AGE_DAYS = "activity__all__age_days__ever"
COLUMNS = (ACTIVE_DAYS, RECENCY_DAYS, AGE_DAYS)

DAYS_PER_WEEK = 7.0
# Beyond that it is the model that is certain, not the data: on backtests a blend with bounded log-odds lost less.
MAX_LOG_ODDS = 4.0
_BOUND = 12.0  # of the logarithms of the parameters
_STARTS = ((0.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 1.0), (1.0, 1.0, -1.0, 2.0))
_CHUNK = 2_048  # rows whose 64 mixtures with the background are held at once: 1 MB a player


@dataclasses.dataclass(frozen=True)
class Transactions:
    """What BG/NBD sees of each partner, three arrays of shape (n,).

    Attributes
    ----------
    frequency : array
        Active days after the first.
    recency : array
        Weeks from the first active day to the last.
    age : array
        Weeks from the first active day to the moment of scoring.
    """

    frequency: Array
    recency: Array
    age: Array

    @classmethod
    def from_features(cls, X: pd.DataFrame) -> Self:
        """Derive the three from the features `COLUMNS`, in days.

        Days since the last and since the first activity are rounded up, which for a scoring moment at midnight UTC
        turns moments into calendar days. A partner that was never active (null) counts as one that appeared just now.
        """
        missing = [name for name in COLUMNS if name not in X.columns]
        if missing:
            raise ColumnsError(f"BG/NBD needs the feature columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        active, recency, age = (X[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in COLUMNS)
        return cls._from_days(active, recency, age)

    @classmethod
    def _from_days(cls, active: Array, recency: Array, age: Array) -> Self:
        frequency = np.maximum(np.nan_to_num(active, nan=0.0) - 1.0, 0.0)
        whole_age = np.maximum(np.ceil(np.nan_to_num(age, nan=0.0)), 0.0)
        since_last = np.where(np.isnan(recency), whole_age, np.ceil(np.nan_to_num(recency, nan=0.0)))
        last = np.maximum(whole_age - since_last, 0.0)
        return cls(frequency, last / DAYS_PER_WEEK, whole_age / DAYS_PER_WEEK)


class BuyTillYouDie:
    """BG/NBD (beta-geometric, negative binomial), its probability of churn, and exact reasons for it.

    While alive, a partner is active at a rate that is gamma(r, alpha) over partners; after each active day it leaves
    for good with a probability that is beta(a, b) over partners. Times are in weeks.

    Parameters
    ----------
    horizon_days : float
        The span whose silence is churn.
    penalty : float
        Weight of the squared logarithms of the parameters against the mean log-likelihood: keeps them finite where
        the data do not identify them (nobody leaves, say).
    n_background : int
        Rows of the fit that are kept as the background of the reasons, at most.
    random_state : int
        Draws the background.

    Attributes
    ----------
    parameters_ : tuple of float
        r, alpha (weeks), a, b.
    background_ : array of shape (m, 3)
        Active days, days since the last, days since the first.

    Notes
    -----
    P(alive) is 1 for everybody who was active once, so the score is built on P(active in the horizon), which is
    P(alive) times the chance that a living partner acts.

    References
    ----------
    Fader, Hardie and Lee (2005), "Counting your customers" the easy way: an alternative to the Pareto/NBD model,
    Marketing Science 24(2). P(alive): Fader, Hardie and Lee (2008), Computing P(alive) using the BG/NBD model.
    """

    feature_names_in_ = np.array(COLUMNS, dtype=object)
    n_features_in_ = len(COLUMNS)

    def __init__(
        self, *, horizon_days: float = 90.0, penalty: float = 1e-6, n_background: int = 64, random_state: int = 0
    ) -> None:
        self.horizon_days = horizon_days
        self.penalty = penalty
        self.n_background = n_background
        self.random_state = random_state

    def fit(
        self, frequency: ArrayLike, recency: ArrayLike, age: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the four parameters by maximum likelihood, one row per partner.

        Parameters
        ----------
        frequency, recency, age : array-like of shape (n,)
            See `Transactions`; recency and age in weeks, recency at most age.
        sample_weight : array-like of shape (n,), optional

        Raises
        ------
        NotEnoughDataError
            If no partner was active on a second day.
        """
        x, tx, T = (np.asarray(values, dtype=np.float64) for values in (frequency, recency, age))
        weight = np.ones_like(x) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        kept = weight > 0
        x, tx, T, weight = x[kept], tx[kept], T[kept], weight[kept]
        _check_transactions(x, tx, T)
        self.parameters_ = _maximum_likelihood(x, tx, T, weight / weight.sum(), self.penalty)
        self.background_ = self._sample(x, tx, T)
        return self

    def fit_features(self, X: pd.DataFrame, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on the feature columns `COLUMNS`; one row per partner, at one as_of."""
        seen = Transactions.from_features(X)
        return self.fit(seen.frequency, seen.recency, seen.age, sample_weight)

    def p_alive(self, frequency: ArrayLike, recency: ArrayLike, age: ArrayLike) -> Array:
        """Return the probability that a partner has not left for good, shape (n,); 1 where frequency is 0."""
        x, tx, T = (np.asarray(values, dtype=np.float64) for values in (frequency, recency, age))
        return _p_alive(self.parameters_, x, tx, T)

    def p_active(self, frequency: ArrayLike, recency: ArrayLike, age: ArrayLike, horizon: float | None = None) -> Array:
        """Return the probability of an active day in the next `horizon` weeks (default: `horizon_days`), shape (n,)."""
        x, tx, T = (np.asarray(values, dtype=np.float64) for values in (frequency, recency, age))
        weeks = self.horizon_days / DAYS_PER_WEEK if horizon is None else horizon
        return _p_active(self.parameters_, x, tx, T, weeks)

    def p_silent(self, X: pd.DataFrame) -> Array:
        """Return 1 - P(active in the horizon) from the feature columns `COLUMNS`, shape (n,)."""
        seen = Transactions.from_features(X)
        return np.asarray(1.0 - self.p_active(seen.frequency, seen.recency, seen.age))

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Return the log-odds of churn (no activity in the horizon), shape (n,).

        Kept within `MAX_LOG_ODDS` of 0; `p_active` is not.
        """
        return self._churn_log_odds(Transactions.from_features(X))

    def contributions(self, X: pd.DataFrame) -> Array:
        """Return exact Shapley values of the log-odds over `COLUMNS`, shape (n, 4): the base last.

        The value of a set of known columns is the mean log-odds with the others taken from each background row; where
        that puts the last activity before the first, the last counts as the first. A row sums to its
        `decision_function`; the base is the mean log-odds of the background.
        """
        Transactions.from_features(X)  # names what is missing
        days = X[list(COLUMNS)].to_numpy(dtype=np.float64, na_value=np.nan)
        chunks = [self._shapley(days[start : start + _CHUNK]) for start in range(0, len(days), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, len(COLUMNS) + 1))

    def to_state(self) -> State:
        """Return plain values for JSON."""
        return {
            "horizon_days": self.horizon_days,
            "penalty": self.penalty,
            "n_background": self.n_background,
            "random_state": self.random_state,
            "parameters": list(self.parameters_),
            "background": self.background_.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        names = ("horizon_days", "penalty", "n_background", "random_state")
        model = cls(**{name: state[name] for name in names})
        r, alpha, a, b = (float(value) for value in state["parameters"])
        model.parameters_ = (r, alpha, a, b)
        model.background_ = np.asarray(state["background"], dtype=np.float64).reshape(-1, len(COLUMNS))
        return model

    def _churn_log_odds(self, seen: Transactions) -> Array:
        active = self.p_active(seen.frequency, seen.recency, seen.age)
        tiny = expit(-MAX_LOG_ODDS)
        active = np.clip(active, tiny, 1.0 - tiny)
        return np.asarray(np.log1p(-active) - np.log(active))

    def _sample(self, x: Array, tx: Array, T: Array) -> Array:
        n = min(self.n_background, len(x))
        rows = np.sort(np.random.default_rng(self.random_state).choice(len(x), size=n, replace=False))
        days = np.column_stack([x + 1.0, (T - tx) * DAYS_PER_WEEK, T * DAYS_PER_WEEK])[rows]
        # whole days again: weeks are days / 7 in floating point
        whole = np.round(days)
        return np.where(np.abs(days - whole) < 1e-6, whole, days)

    def _shapley(self, days: Array) -> Array:
        def value(known: tuple[int, ...]) -> Array:
            m = 1 if len(known) == len(COLUMNS) else len(self.background_)
            mixed = np.broadcast_to(self.background_[None, :m], (len(days), m, len(COLUMNS))).copy()
            mixed[:, :, known] = days[:, None, known]
            columns = (mixed[:, :, j].ravel() for j in range(len(COLUMNS)))
            log_odds = self._churn_log_odds(Transactions._from_days(*columns))
            return np.asarray(log_odds.reshape(len(days), m).mean(axis=1))

        return _shapley_values(value, len(COLUMNS), len(days))


def _check_transactions(x: Array, tx: Array, T: Array) -> None:
    wrong = ~((x >= 0) & (tx >= 0) & (tx <= T + 1e-9) & np.isfinite(T))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ColumnsError(
            f"BG/NBD needs frequency >= 0 and 0 <= recency <= age; {int(wrong.sum())} of {len(x)} rows break this, the "
            f"first at position {first}: frequency {x[first]}, recency {tx[first]}, age {T[first]}"
        )
    if not (x > 0).any():
        raise NotEnoughDataError(
            f"BG/NBD needs partners that were active on more than one day; none of {len(x)} was. Start from earlier "
            "data, or leave BG/NBD out"
        )


def _maximum_likelihood(x: Array, tx: Array, T: Array, share: Array, penalty: float) -> tuple[float, ...]:
    # Days are whole, so that many partners are alike; alike ones are one row with their weights added.
    alike, where = np.unique(np.column_stack([x, tx, T]), axis=0, return_inverse=True)
    x, tx, T = alike.T
    share = np.bincount(where.ravel(), weights=share).astype(np.float64)
    # In units of the mean age, so that one set of starts fits days, weeks and years alike.
    unit = float(np.sum(share * T)) or 1.0
    tx, T = tx / unit, T / unit

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = _log_likelihood(np.exp(theta), x, tx, T)
        slope = np.array([-np.sum(share * g) for g in gradient]) * np.exp(theta)
        return float(penalty * np.sum(theta**2) - np.sum(share * value)), slope + 2.0 * penalty * theta

    found = [
        minimize(
            loss,
            np.array(start),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_BOUND, _BOUND)] * 4,
            options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1_000},
        )
        for start in _STARTS
    ]
    best = min(found, key=lambda result: float(result.fun))
    r, alpha, a, b = np.exp(best.x).tolist()
    return r, alpha * unit, a, b


def _log_likelihood(parameters: Array, x: Array, tx: Array, T: Array) -> tuple[Array, tuple[Array, ...]]:
    """Return the log-likelihood of each row and its gradient in r, alpha, a, b."""
    r, alpha, a, b = parameters
    repeated = x > 0
    before = b + np.maximum(x, 1.0) - 1.0
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    common += gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    alive = -(r + x) * np.log(alpha + T)
    left = np.where(repeated, np.log(a) - np.log(before) - (r + x) * np.log(alpha + tx), -np.inf)
    p_left = np.where(repeated, expit(np.where(repeated, left, 0.0) - alive), 0.0)
    p_alive = 1.0 - p_left
    gradient = (
        digamma(r + x) - digamma(r) + np.log(alpha) - p_alive * np.log(alpha + T) - p_left * np.log(alpha + tx),
        r / alpha - (r + x) * (p_alive / (alpha + T) + p_left / (alpha + tx)),
        digamma(a + b) - digamma(a + b + x) + p_left / a,
        digamma(a + b) + digamma(b + x) - digamma(b) - digamma(a + b + x) - p_left / before,
    )
    return common + np.logaddexp(alive, left), gradient


def _p_alive(parameters: tuple[float, ...], x: Array, tx: Array, T: Array) -> Array:
    r, alpha, a, b = parameters
    log_odds_left = (
        np.log(a) - np.log(b + np.maximum(x, 1.0) - 1.0) + (r + x) * (np.log(alpha + T) - np.log(alpha + tx))
    )
    return np.where(x > 0, expit(-log_odds_left), 1.0)


def _p_active(parameters: tuple[float, ...], x: Array, tx: Array, T: Array, weeks: float) -> Array:
    r, alpha, _, _ = parameters
    acts_if_alive = -np.expm1(-(r + x) * np.log1p(weeks / (alpha + T)))
    return np.asarray(_p_alive(parameters, x, tx, T) * acts_if_alive)


def _shapley_values(value: Callable[[tuple[int, ...]], Array], players: int, n: int) -> Array:
    """Return Shapley values of a game on few players by enumerating its coalitions, shape (n, players + 1)."""
    sets = [known for size in range(players + 1) for known in combinations(range(players), size)]
    worth = {known: value(known) for known in sets}
    result = np.zeros((n, players + 1))
    for known in sets:
        weight = (
            math.factorial(len(known)) * math.factorial(players - len(known) - 1) / math.factorial(players)
            if (len(known) < players)
            else 0.0
        )
        for j in set(range(players)) - set(known):
            result[:, j] += weight * (worth[tuple(sorted((*known, j)))] - worth[known])
    result[:, -1] = worth[()]
    return result
