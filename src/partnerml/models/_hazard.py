"""Time to an event as a discrete-time hazard over a grid of days, and its curve tied to a score."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.base import clone

from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models._binary import Array, BinaryScorer, State
from partnerml.models._logistic import LogLogistic
from partnerml.models._survival import censoring_steps

INTERVAL = "hazard__interval"
_BASES = {
    "BoostedTrees": "partnerml.models._classifier",
    "LogLogistic": "partnerml.models._logistic",
    "MonthlyTrees": "partnerml.models._success",
}
_TINY = 1e-12  # keeps log-odds finite
_FURTHEST = 40.0  # in log-odds: where every hazard is 0 or 1 to the last digit


@dataclasses.dataclass(frozen=True)
class PersonPeriods:
    """One entry for each row and interval that the row was at risk in and seen to the end of, in the order of rows.

    Attributes
    ----------
    rows, interval : array of int of shape (m,)
        Position of the row, and of the interval in the grid.
    event : array of shape (m,)
        1 where the event fell into the interval, else 0.
    weight : array of shape (m,)
        Chance that the row would have been seen to the end of the interval, for events; 1 for survivors.
    """

    rows: NDArray[np.intp]
    interval: NDArray[np.intp]
    event: Array
    weight: Array


class DiscreteTimeHazard:
    """P(T <= d) from the chance of an event in each interval of a grid, given that there was none before.

    Rows whose event was not seen yet take part in the intervals that they were followed through. Dropping them would
    over-predict, without much change in the ranking.

    Parameters
    ----------
    grid_days : sequence of float
        Increasing ends of the intervals, in days from as_of; the first interval starts at 0.
    base : BinaryScorer, optional
        Classifier of the person-periods, with the interval as a text column; `LogLogistic` by default.
    free_levels : bool
        Move the log-odds of each interval, after the fit, so that it has as many events as were seen in it. A penalty
        that keeps columns from saying too much draws the intervals together as well: with few rows the curve then
        has the wrong shape, and P(T <= d) the wrong mean.

    Attributes
    ----------
    base_ : BinaryScorer
    levels_ : array of shape (len(grid_days),)
        What is added to the log-odds of each interval; 0 unless `free_levels`.
    feature_names_in_ : array of str

    References
    ----------
    Singer and Willett (1993), It's about time: using discrete-time survival analysis to study duration and the timing
    of events. Tutz and Schmid (2016), Modeling discrete time-to-event data.
    """

    def __init__(
        self,
        grid_days: Sequence[float] = (90.0, 120.0, 180.0),
        *,
        base: BinaryScorer | None = None,
        free_levels: bool = False,
    ) -> None:
        self.grid_days = tuple(float(day) for day in grid_days)
        self.base = base
        self.free_levels = free_levels
        if not self.grid_days or self.grid_days[0] <= 0 or np.any(np.diff(self.grid_days) <= 0):
            raise ConfigError(f"the days of a hazard grid must be positive and increase; got {list(grid_days)}")

    def fit(
        self,
        X: pd.DataFrame,
        duration_days: ArrayLike,
        observed: ArrayLike,
        *,
        follow_up_days: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        known_rows: ArrayLike | None = None,
    ) -> Self:
        """Fit the base classifier on the person-periods.

        Parameters
        ----------
        X : DataFrame of shape (n, p)
        duration_days : array-like of shape (n,)
            Days to the event where `observed`, else days followed without one.
        observed : array-like of bool of shape (n,)
        follow_up_days : array-like of shape (n,), optional
            Days that each row could have been followed for (to `until`), events included; see `person_periods`.
        sample_weight : array-like of shape (n,), optional
        known_rows : array-like of int of shape (n,), optional
            As in the base classifier: how many of the first rows had a known label when each was looked at.

        Raises
        ------
        NotEnoughDataError
            If no row was followed to the end of an interval, or no event was seen in any.
        """
        periods = person_periods(duration_days, observed, self.grid_days, follow_up_days=follow_up_days)
        self._check_support(periods)
        weight = periods.weight
        if sample_weight is not None:
            weight = weight * np.asarray(sample_weight, dtype=np.float64)[periods.rows]
        base = LogLogistic() if self.base is None else self.base
        design = self.with_interval(X.iloc[periods.rows], periods.interval)
        # entries lie in the order of rows: those of earlier rows come before all of a row's own
        before = np.arange(len(X)) if known_rows is None else np.asarray(known_rows)
        known = np.searchsorted(periods.rows, before[periods.rows], side="left")
        self.base_ = clone(base).fit(design, periods.event, sample_weight=weight, known_rows=known)
        self.feature_names_in_ = np.array(
            [name for name in self.base_.columns_.names if name != INTERVAL], dtype=object
        )
        self.levels_ = np.zeros(len(self.grid_days))
        if self.free_levels:
            said = self.base_.decision_function(design)
            self.levels_ = _levels(said, periods, weight, n_intervals=len(self.grid_days))
        return self

    def hazards(self, X: pd.DataFrame) -> Array:
        """Return the log-odds of an event in each interval, given none before, shape (n, len(grid_days))."""
        columns = X[list(self.feature_names_in_)] if set(self.feature_names_in_) <= set(X.columns) else X
        return np.column_stack(
            [
                self.base_.decision_function(self.with_interval(columns, np.full(len(X), j))) + self.levels_[j]
                for j in range(len(self.grid_days))
            ]
        )

    def cumulative(self, X: pd.DataFrame, days: Sequence[float]) -> Array:
        """Return P(T <= d), shape (n, len(days)); never decreasing in d.

        Inside an interval the hazard is constant in continuous time: log-survival is linear between grid days.

        Raises
        ------
        ModelError
            If a day lies outside of the grid.
        """
        outside = [day for day in days if not 0 <= day <= self.grid_days[-1]]
        if outside:
            raise ModelError(
                f"the hazard was fitted for 0 to {self.grid_days[-1]:g} days; asked for {outside}. "
                "Fit it on a grid that reaches further"
            )
        # log(1 - expit(z)), without the loss of digits
        log_survival = np.cumsum(-np.logaddexp(0.0, self.hazards(X)), axis=1)
        knots = np.concatenate([[0.0], self.grid_days])
        levels = np.hstack([np.zeros((len(X), 1)), log_survival])
        curve = np.empty((len(X), len(days)))
        for k, day in enumerate(days):
            j = max(int(np.searchsorted(knots, day, side="left")), 1)
            share = (day - knots[j - 1]) / (knots[j] - knots[j - 1])
            curve[:, k] = -np.expm1(_between(levels[:, j - 1], levels[:, j], share))
        return curve

    def to_state(self) -> State:
        """Return plain values for JSON."""
        base = {"type": type(self.base_).__name__, "state": self.base_.to_state()}
        state = {"grid_days": list(self.grid_days), "base": base}
        return state | {"levels": self.levels_.tolist()} if self.free_levels else state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        kind = str(state["base"]["type"])
        if kind not in _BASES:
            raise ModelError(f"a hazard cannot have a base of type {kind!r}; known: {', '.join(sorted(_BASES))}")
        fitted = getattr(importlib.import_module(_BASES[kind]), kind).from_state(state["base"]["state"])
        levels = state.get("levels")
        model = cls(state["grid_days"], base=clone(fitted), free_levels=levels is not None)
        model.base_ = fitted
        model.levels_ = np.asarray(levels or np.zeros(len(model.grid_days)), dtype=np.float64)
        model.feature_names_in_ = np.array([name for name in fitted.columns_.names if name != INTERVAL], dtype=object)
        return model

    def with_interval(self, X: pd.DataFrame, interval: NDArray[np.intp]) -> pd.DataFrame:
        """Return rows with the interval of the grid that each is asked about, as the base takes them."""
        names = np.array([f"to_{day:g}d" for day in self.grid_days], dtype=object)
        return X.assign(**{INTERVAL: pd.Categorical(names[interval], categories=names)})

    def _check_support(self, periods: PersonPeriods) -> None:
        starts = (0.0, *self.grid_days)
        for j, end in enumerate(self.grid_days):
            if not (periods.weight[periods.interval == j] > 0).any():
                raise NotEnoughDataError(
                    f"no row was followed from day {starts[j]:g} to day {end:g}; end the hazard grid at day "
                    f"{starts[j]:g}, or start from earlier data"
                )


def person_periods(
    duration_days: ArrayLike,
    observed: ArrayLike,
    grid_days: Sequence[float],
    *,
    follow_up_days: ArrayLike | None = None,
) -> PersonPeriods:
    """Expand times into one entry per row and interval at risk.

    A row takes part in an interval if it reached its start and was, or would have been, followed to its end. Of a row
    that was censored inside an interval nothing is known there, so an *event* in that interval may count only as far
    as its row would have been followed to the end as well; else events would be counted and their survivors not.
    `follow_up_days` tells that exactly. Without it an event has the weight P(C >= end | C >= T), C the censoring time,
    by Kaplan and Meier's estimate with the roles of event and censoring exchanged.

    Parameters
    ----------
    duration_days : array-like of shape (n,)
        Days to the event where `observed`, else days followed without one.
    observed : array-like of bool of shape (n,)
    grid_days : sequence of float
        Increasing ends of the intervals; an event at an end belongs to the interval that it ends.
    follow_up_days : array-like of shape (n,), optional
        Days that each row could have been followed for.
    """
    duration = np.asarray(duration_days, dtype=np.float64)
    seen = np.asarray(observed, dtype=bool)
    if not np.all(duration >= 0):
        raise ModelError(f"durations must be 0 days or more; {int(np.sum(~(duration >= 0)))} are not")
    limit = None if follow_up_days is None else np.asarray(follow_up_days, dtype=np.float64)
    ended, stays = censoring_steps(duration, seen)
    parts = []
    for j, end in enumerate(grid_days):
        start = 0.0 if j == 0 else grid_days[j - 1]
        # an event on day 0 belongs to the first interval, which has no earlier one to fall into
        at_risk = np.ones(len(duration), dtype=bool) if j == 0 else duration > start
        event = at_risk & seen & (duration <= end)
        survivor = at_risk & ~event & (duration >= end)
        rows = np.flatnonzero(event | survivor)
        followed = _chance_of_follow_up(duration, end, ended, stays) if limit is None else limit >= end
        weight = np.where(event, followed, 1.0)[rows]
        parts.append((rows, np.full(len(rows), j), event[rows].astype(np.float64), weight))
    rows, interval, event, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((interval, rows))
    kept = order[weight[order] > 0]
    return PersonPeriods(rows[kept], interval[kept], event[kept], weight[kept])


def shifted(curve: ArrayLike, at_horizon: ArrayLike, score: ArrayLike) -> Array:
    """Move each curve on the logit scale so that it passes through the score at the horizon.

    Parameters
    ----------
    curve : array-like of shape (n, m)
        P(T <= d) for m days, never decreasing along a row.
    at_horizon : array-like of shape (n,)
        P(T <= horizon) by the same model.
    score : array-like of shape (n,)
        What the curve shall be at the horizon.

    Returns
    -------
    array of shape (n, m)
        Never decreasing along a row, in [0, 1], and exactly the score where the curve equals `at_horizon`.
    """
    values = np.asarray(curve, dtype=np.float64)
    anchor = np.asarray(at_horizon, dtype=np.float64)[:, None]
    target = np.asarray(score, dtype=np.float64)[:, None]
    shift = logit(np.clip(target, _TINY, 1 - _TINY)) - logit(np.clip(anchor, _TINY, 1 - _TINY))
    with np.errstate(divide="ignore"):  # a chance of exactly 0 or 1 stays what it is
        moved = expit(logit(values) + shift)
    # Rounding must not put a day before the horizon above the score, nor one after it below.
    moved = np.where(values <= anchor, np.minimum(moved, target), moved)
    moved = np.where(values >= anchor, np.maximum(moved, target), moved)
    return np.where(values == anchor, target, moved)


def _levels(said: Array, periods: PersonPeriods, weight: Array, *, n_intervals: int) -> Array:
    """Return by how much the log-odds of each interval must move for its expected events to be those seen.

    Half a row with the hazard of all intervals together keeps the level finite where an interval had no event.
    """
    pooled = float(np.sum(weight * periods.event) / np.sum(weight))
    centre = logit(pooled)

    def level(rows: NDArray[np.intp]) -> float:
        odds, event, share = said[rows], periods.event[rows], weight[rows]

        def excess(move: float) -> float:
            half_a_row = 0.5 * (expit(centre + move) - pooled)
            return float(np.sum(share * (expit(odds + move) - event)) + half_a_row)

        return float(brentq(excess, -_FURTHEST, _FURTHEST, xtol=1e-12))

    return np.array([level(np.flatnonzero(periods.interval == j)) for j in range(n_intervals)])


def _between(low: Array, high: Array, share: float) -> Array:
    """Interpolate; exactly `high` at 1, so that a grid day is met to the last bit from both of its sides."""
    return high if share == 1.0 else low + share * (high - low)


def _chance_of_follow_up(duration: Array, end: float, ended: Array, stays: Array) -> Array:
    """Return P(C >= end | C >= duration) for each row, by the `censoring_steps` of all of them."""
    inside = ended < end
    # product over the censoring times in [duration, end)
    tail = np.append(np.cumprod(stays[inside][::-1])[::-1], 1.0)
    return np.asarray(tail[np.searchsorted(ended[inside], duration, side="left")])
