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


@dataclasses.dataclass(frozen=True)
class PlattCalibrator:
    """Maps raw log-odds f to calibrated ones, ``slope f + intercept``.

    Attributes
    ----------
    slope : float
        Above 0, so that calibration never turns a ranking round.
    intercept : float

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines. Lin, Lin and Weng (2007), A note on Platt's
    probabilistic outputs for support vector machines.
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(
        cls, log_odds: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, smoothing: bool = False
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
        slope, intercept = _maximum_likelihood(raw, target, weight)
        return cls(slope, intercept)

    def apply(self, log_odds: ArrayLike) -> Array:
        """Return calibrated log-odds of the same shape."""
        return self.slope * np.asarray(log_odds, dtype=np.float64) + self.intercept

    def to_state(self) -> State:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        return cls(float(state["slope"]), float(state["intercept"]))


def _smoothed(target: Array, weight: Array) -> Array:
    positives, negatives = float(np.sum(weight * target)), float(np.sum(weight * (1.0 - target)))
    return np.where(target > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))


def _maximum_likelihood(raw: Array, target: Array, weight: Array) -> tuple[float, float]:
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
        z = theta[0] * unit + theta[1]
        value = np.sum(share * (np.logaddexp(0.0, z) - target * z)) + 0.5 * ridge * theta[0] ** 2
        residual = share * (expit(z) - target)
        return float(value), np.array([np.sum(residual * unit) + ridge * theta[0], np.sum(residual)])

    base = float(np.sum(share * target))
    # the loss is convex: a start where no probability is 0 or 1 finds its end whatever the scorer's scale
    start = np.array([max(1.0, MIN_SLOPE * scale), np.log(base) - np.log1p(-base)])
    bounds = [(MIN_SLOPE * scale, None), (None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
    slope = float(found.x[0]) / scale
    return slope, float(found.x[1]) - slope * centre
