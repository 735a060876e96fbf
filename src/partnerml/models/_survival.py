"""What a time to an event says where not everybody could be followed to it: curves, weights, means and medians."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partnerml.errors import InputError
from partnerml.models._binary import Array


@dataclasses.dataclass(frozen=True, eq=False)
class KaplanMeier:
    """The share without an event over time, as a step function.

    Attributes
    ----------
    days : array of shape (m,)
        The distinct days with an event, in order.
    survival : array of shape (m,)
        Share without an event right after each of them.

    References
    ----------
    Kaplan and Meier (1958), Nonparametric estimation from incomplete observations.
    """

    days: Array
    survival: Array

    @classmethod
    def of(cls, duration_days: ArrayLike, observed: ArrayLike) -> Self:
        """Estimate the curve.

        Parameters
        ----------
        duration_days : array-like of shape (n,)
            Days to the event where `observed`, else days followed without one.
        observed : array-like of bool of shape (n,)
            At a tie events come first: who was followed to a day was at risk on it.

        Raises
        ------
        InputError
            If there is no row, or a duration is negative or null.
        """
        duration, seen = _checked(duration_days, observed)
        days, events = np.unique(duration[seen], return_counts=True)
        at_risk = len(duration) - np.searchsorted(np.sort(duration), days, side="left")
        return cls(days, np.asarray(np.cumprod(1.0 - events / at_risk), dtype=np.float64))

    def at(self, days: ArrayLike) -> Array:
        """Return the share without an event by each day, that day included."""
        return self._read(days, side="right")

    def before(self, days: ArrayLike) -> Array:
        """Return the share without an event before each day, that day left out."""
        return self._read(days, side="left")

    def event_rate(self, day: float) -> float:
        """Return P(T <= day)."""
        return float(1.0 - self.at(day))

    @property
    def median(self) -> float:
        """The first day by which half had the event; NaN if fewer had, as far as anybody was followed."""
        # a product of fractions that is one half may end a hair above it
        reached = self.survival <= 0.5 + 1e-12
        return float(self.days[np.argmax(reached)]) if reached.any() else float("nan")

    def _read(self, days: ArrayLike, *, side: str) -> Array:
        place = np.searchsorted(self.days, np.asarray(days, dtype=np.float64), side=side)  # type: ignore[call-overload]
        return np.asarray(np.append(1.0, self.survival)[place])


def censoring_weights(duration_days: ArrayLike, observed: ArrayLike, horizon_days: float) -> tuple[Array, Array]:
    """Turn censored times into labels at a horizon, and weights that make up for those that are not known.

    A row whose event was seen by the horizon has label 1, one that was followed beyond the horizon without it 0; of any
    other nothing is known at the horizon: of who was followed to its very end the event may still come to be seen. Who
    is known stands for those like it who are not: its weight is the inverse of the chance of being followed as long as
    it was, by Kaplan and Meier's estimate of the times to censoring. Weighted so, Brier score, log loss and mean are
    those of complete data on average, if censoring does not depend on the event.

    Parameters
    ----------
    duration_days : array-like of shape (n,)
        Days to the event where `observed`, else days followed without one.
    observed : array-like of bool of shape (n,)
    horizon_days : float

    Returns
    -------
    y : array of shape (n,)
        1, 0, or NaN where it is not known.
    weights : array of shape (n,)
        0 where y is NaN.

    References
    ----------
    Graf, Schmoor, Sauerbrei and Schumacher (1999), Assessment and comparison of prognostic classification schemes for
    survival data.
    """
    duration, seen = _checked(duration_days, observed)
    happened = seen & (duration <= horizon_days)
    free = duration > horizon_days
    ended, stays = censoring_steps(duration, seen)
    followed = KaplanMeier(ended, np.asarray(np.cumprod(stays), dtype=np.float64))
    y = np.where(happened, 1.0, np.where(free, 0.0, np.nan))
    chance = np.where(happened, followed.before(duration), followed.at(horizon_days))
    known = happened | free
    return y, np.where(known, 1.0 / np.where(known, chance, 1.0), 0.0)


def median_days(days: ArrayLike, cumulative: ArrayLike) -> Array:
    """Return the day by which the event has a chance of one half, NaN where it stays below to the last day.

    Parameters
    ----------
    days : array-like of shape (m,)
        Increasing, above 0; between two of them, and from day 0, the hazard is constant.
    cumulative : array-like of shape (n, m)
        P(T <= day), never decreasing along a row.
    """
    knots, hazard = _cumulative_hazard(days, cumulative)
    target = np.log(2.0)
    reached = hazard >= target
    cell = np.argmax(reached, axis=1)
    rows = np.arange(len(hazard))
    below = hazard[rows, np.maximum(cell - 1, 0)]
    above = hazard[rows, cell]
    # an infinite end leaves a share of 0: half is reached at once where the cell begins
    share = (target - below) / np.where(above > below, above - below, 1.0)
    found = knots[cell - 1] + share * (knots[cell] - knots[cell - 1])
    return np.where(reached.any(axis=1), found, np.nan)


def restricted_mean_days(days: ArrayLike, cumulative: ArrayLike) -> Array:
    """Return the mean of min(T, last day): the area below the curve of survival. Parameters as of `median_days`."""
    knots, hazard = _cumulative_hazard(days, cumulative)
    survival = np.exp(-hazard)
    with np.errstate(invalid="ignore"):  # who is sure to have had the event stays so
        fallen = np.diff(hazard, axis=1)
    # constant hazard: the mean of the survival over a cell is its fall over the growth of the cumulative hazard
    steep = fallen > 1e-8
    mean = np.where(
        steep,
        -np.diff(survival, axis=1) / np.where(steep, fallen, 1.0),
        0.5 * (survival[:, :-1] + survival[:, 1:]),
    )
    return np.asarray((mean * np.diff(knots)).sum(axis=1))


def _cumulative_hazard(days: ArrayLike, cumulative: ArrayLike) -> tuple[Array, Array]:
    knots = np.append(0.0, np.asarray(days, dtype=np.float64))
    risk = np.asarray(cumulative, dtype=np.float64)
    with np.errstate(divide="ignore"):  # a chance of exactly 1
        hazard = -np.log1p(-risk)
    return knots, np.hstack([np.zeros((len(hazard), 1)), hazard])


def censoring_steps(duration: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the days on which following ended, and the chance to be followed on from each, by Kaplan and Meier.

    The roles of event and censoring are exchanged: who had the event before counts as followed no further.
    """
    days, ends = np.unique(duration[~seen], return_counts=True)
    # at a tie the event comes first: its row is no longer at risk of being censored on that day
    events = np.sort(duration[seen])
    ended = np.sort(duration[~seen])
    at_risk = (len(events) - np.searchsorted(events, days, side="right")) + (
        len(ended) - np.searchsorted(ended, days, side="left")
    )
    return days, np.asarray(1.0 - ends / at_risk, dtype=np.float64)


def _checked(duration_days: ArrayLike, observed: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    duration = np.asarray(duration_days, dtype=np.float64)
    seen = np.asarray(observed, dtype=bool)
    if duration.ndim != 1 or duration.shape != seen.shape or not len(duration):
        raise InputError(
            f"times need a duration and whether the event was seen for each row, at least one row; got shapes "
            f"{duration.shape} and {seen.shape}"
        )
    wrong = np.flatnonzero(~(duration >= 0))
    if len(wrong):
        raise InputError(
            f"duration_days must be 0 or more; {len(wrong)} of {len(duration)} are not, the first is "
            f"{duration[wrong[0]]} in row {wrong[0]}"
        )
    return duration, seen
