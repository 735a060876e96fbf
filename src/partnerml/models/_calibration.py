"""Platt's calibration of log-odds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from partnerml.errors import NotEnoughDataError
from partnerml.models._binary import Array, State

MIN_SLOPE = 1e-3
_NEAR = 1e-6  # in log-odds
# a difference of log-likelihoods: Kass and Raftery (1995), Bayes factors
_STRONG = float(np.log(20.0))


@dataclasses.dataclass(frozen=True)
class PlattCalibrator:
    """Maps raw log-odds f to calibrated ones: those of ``ceiling sigmoid(slope f + intercept)``.

    A label may ask for more than what features tell of: won *and* decided in time, where one case in so many is not
    decided by then, whatever it is. No chance is above the share that is, which no line in log-odds knows: fitted to
    such chances, it is too high at both ends. Without a ceiling, which is a ceiling of 1, calibrated log-odds are the
    line itself.

    Attributes
    ----------
    slope : float
        Above 0, so that calibration never turns a ranking round.
    intercept : float
    ceiling : float
        Above 0, and at most 1.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines. Lin, Lin and Weng (2007), A note on Platt's
    probabilistic outputs for support vector machines. The ceiling is the asymptote of a three-parameter logistic curve.
    """

    slope: float = 1.0
    intercept: float = 0.0
    ceiling: float = 1.0

    @classmethod
    def fit(
        cls,
        log_odds: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        smoothing: bool = False,
        ceiling: float = 1.0,
    ) -> Self:
        """Fit slope and intercept by maximum likelihood on rows that the scorer was not fitted on.

        Parameters
        ----------
        log_odds, y : array-like of shape (n,)
            Raw log-odds and labels 0 or 1.
        sample_weight : array-like of shape (n,), optional
        smoothing : bool
            Platt's targets ``(N1 + 1) / (N1 + 2)`` and ``1 / (N0 + 2)`` in place of 1 and 0: finite where the classes
            separate, but the mean prediction then leaves the base rate, by about 1/n.
        ceiling : float
            The share of cases that can have the label 1 at all. Left at 1 where the rows are strong evidence against
            it: where they are 20 times as likely by the best line without it.

        Raises
        ------
        NotEnoughDataError
            If the labels are all equal, or there are none.
        """
        raw = np.asarray(log_odds, dtype=np.float64)
        target = np.asarray(y, dtype=np.float64)
        weight = np.ones_like(raw) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        kept = weight > 0
        raw, target, weight = raw[kept], target[kept], weight[kept]
        if np.unique(target).size < 2:
            raise NotEnoughDataError(
                f"calibration needs rows of both labels; the {len(target)} rows of the calibration slice hold "
                f"{int(target.sum())} positives. Calibrate on a longer slice, or start from earlier data"
            )
        if smoothing:
            target = _smoothed(target, weight)
        slope, intercept, loss = _maximum_likelihood(raw, target, weight)
        if np.average(target, weights=weight) < ceiling < 1:
            lower, shift, higher = _maximum_likelihood(raw, target, weight, ceiling)
            if (higher - loss) * len(target) <= _STRONG:
                return cls(lower, shift, ceiling)
        return cls(slope, intercept)

    def apply(self, log_odds: ArrayLike) -> Array:
        """Return calibrated log-odds of the same shape."""
        return _under(self.ceiling, self.slope * np.asarray(log_odds, dtype=np.float64) + self.intercept)

    def effects(self, raw: Array) -> Array:
        """Return what effects on raw log-odds are on calibrated ones, shape (n, p + 1), the base last in both.

        Under a ceiling those of a row are all scaled by how far the row is from the base in calibrated log-odds, over
        how far it is along the line: what each adds on the straight way from one to the other (Aumann and Shapley). So
        the base is still the same for all rows, and a row still adds up to its calibrated log-odds.

        References
        ----------
        Aumann and Shapley (1974), Values of non-atomic games. Sundararajan, Taly and Yan (2017), Axiomatic attribution
        for deep networks.
        """
        effects = raw * self.slope
        effects[:, -1] += self.intercept
        if self.ceiling == 1:
            return effects
        base, moved = effects[:, -1].copy(), effects[:, :-1].sum(axis=1)
        rise = _under(self.ceiling, base + moved) - _under(self.ceiling, base)
        # where a row hardly leaves the base, the two differences are rounding: what they come to is the slope there
        near = np.abs(moved) < _NEAR
        share = np.where(near, _steepness(self.ceiling, base), rise / np.where(near, 1.0, moved))
        effects[:, :-1] *= share[:, None]
        effects[:, -1] = _under(self.ceiling, base)
        return effects

    def to_state(self) -> State:
        """Return plain values for JSON; without a ceiling those of models from before there were any."""
        line = {"slope": self.slope, "intercept": self.intercept}
        return line if self.ceiling == 1 else {**line, "ceiling": self.ceiling}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        return cls(float(state["slope"]), float(state["intercept"]), float(state.get("ceiling", 1.0)))


def _under(ceiling: float, log_odds: Array) -> Array:
    """Return the log-odds of ``ceiling sigmoid(log_odds)``."""
    if ceiling == 1:
        return log_odds
    return np.asarray(np.log(ceiling) - np.logaddexp(np.log1p(-ceiling), -log_odds))


def _steepness(ceiling: float, log_odds: Array) -> Array:
    """Return the derivative of `_under`."""
    return np.asarray(expit(-log_odds - np.log1p(-ceiling))) if ceiling < 1 else np.ones_like(log_odds)


def _smoothed(target: Array, weight: Array) -> Array:
    positives, negatives = float(np.sum(weight * target)), float(np.sum(weight * (1.0 - target)))
    return np.where(target > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))


def _maximum_likelihood(raw: Array, target: Array, weight: Array, ceiling: float = 1.0) -> tuple[float, float, float]:
    """Return slope, intercept and the mean loss that they have."""
    # Centred and scaled, so that the two parameters hardly interact and the optimiser's steps fit any scorer.
    share = weight / weight.sum()
    centre = float(np.sum(share * raw))
    spread = float(np.sqrt(np.sum(share * (raw - centre) ** 2)))
    # of a constant, the mean is off by its last digit: that is no spread to scale by
    constant = raw.min() == raw.max()
    scale = spread if spread > 0 and not constant else 1.0
    unit = (raw - centre) / scale
    # A ridge far below the noise of any sample: it only keeps separable classes finite.
    ridge = 1e-9

    def loss(theta: Array) -> tuple[float, Array]:
        line = theta[0] * unit + theta[1]
        z = _under(ceiling, line)
        value = np.sum(share * (np.logaddexp(0.0, z) - target * z)) + 0.5 * ridge * theta[0] ** 2
        residual = share * (expit(z) - target) * _steepness(ceiling, line)
        return float(value), np.array([np.sum(residual * unit) + ridge * theta[0], np.sum(residual)])

    base = float(np.sum(share * target)) / ceiling
    # but for a ceiling the loss is convex: a start where no probability is 0 or 1 finds its end whatever the scorer's
    # scale
    start = np.array([max(1.0, MIN_SLOPE * scale), np.log(base) - np.log1p(-base)])
    bounds = [(MIN_SLOPE * scale, None), (None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
    slope = float(found.x[0]) / scale
    return slope, float(found.x[1]) - slope * centre, float(found.fun)
