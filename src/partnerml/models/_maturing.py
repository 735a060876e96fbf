"""Rows whose label is not mature yet, by what is known of them: the chance that it will be 1.

Leaving them out loses the latest months. Taking those that have ended already for the whole would count the quick ones
alone. What is right is in between: each row with the chance that it has, given its age and that it has not ended.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from partnerml.models._binary import Array
from partnerml.models._hazard import DiscreteTimeHazard
from partnerml.models._logistic import LogLogistic

_STEPS = 6  # intervals of the grid: how an age is told
_INDEX = "index"
# little is estimated from many rows: a shrunken slope would only blur
_STRENGTH = 100.0


class Maturing:
    """P(label 1 by the horizon) of rows that are open still, from two ends that compete.

    A row ends as a success or as a failure, or goes on. Each has a discrete-time hazard over the days since the row's
    moment, for rows that have not had *that* end (the hazard of the subdistribution, Fine and Gray 1999), so that its
    curve is the share of all rows that have ended so by a day: F for successes, L for failures. A row that is open at
    age a becomes a success by the horizon h with the chance ``(F(h) - F(a)) / (1 - F(a) - L(a))``.

    Both hazards depend on one index alone, such as the log-odds of a model of mature rows.

    Parameters
    ----------
    horizon_days : float

    Attributes
    ----------
    success_, failure_ : DiscreteTimeHazard or None
        None where no such end was ever seen.
    """

    def __init__(self, horizon_days: float) -> None:
        self.horizon_days = float(horizon_days)

    def fit(
        self,
        index: ArrayLike,
        success_days: ArrayLike,
        failure_days: ArrayLike,
        follow_up_days: ArrayLike,
    ) -> Self:
        """Fit both hazards.

        Parameters
        ----------
        index : array-like of shape (n,)
            What the chances depend on.
        success_days, failure_days : array-like of shape (n,)
            Days to the end of each kind; NaN where none was seen. No row has both.
        follow_up_days : array-like of shape (n,)
            Days that each row could be followed for.
        """
        X = pd.DataFrame({_INDEX: np.asarray(index, dtype=np.float64)})
        follow = np.asarray(follow_up_days, dtype=np.float64)
        self.success_ = self._hazard(X, np.asarray(success_days, dtype=np.float64), follow)
        self.failure_ = self._hazard(X, np.asarray(failure_days, dtype=np.float64), follow)
        return self

    def chances(self, index: ArrayLike, age_days: ArrayLike) -> Array:
        """Return P(success by the horizon | open at this age), shape (n,)."""
        age = np.clip(np.asarray(age_days, dtype=np.float64), 0.0, self.horizon_days)
        won, lost = self._survival(self.success_, index), self._survival(self.failure_, index)
        succeeded, failed = self._ended(won, age), self._ended(lost, age)
        left = self._ended(won, np.full(len(age), self.horizon_days)) - succeeded
        open_ = np.maximum(1.0 - succeeded - failed, left)
        return np.divide(left, open_, out=np.zeros(len(age)), where=open_ > 0)

    def weights(self, index: ArrayLike, age_days: ArrayLike, succeeded: ArrayLike, failed: ArrayLike) -> Array:
        """Return how many rows of its age each row stands for, shape (n,), so that none needs to wait for the horizon.

        A success at age a stands for ``F(h) / F(a)`` rows and a failure for ``L(h) / L(a)``, h the horizon. Rows that
        are open stand for those that will be open at the horizon still, which count as no success there:
        ``(1 - F(h) - L(h)) / (1 - F(a) - L(a))`` each. So weighted, rows are what all rows of their age will be, also
        among those of one chance of success, where how long an end takes does not depend on the row. Were failures to
        stand for all that is no success, that would hold in the mean alone: rows that are likely to succeed seldom
        fail, and stay open as often as the rest.

        Parameters
        ----------
        index, age_days : array-like of shape (n,)
        succeeded, failed : array-like of bool of shape (n,)
            Which rows have ended so; a row with neither is open.
        """
        age = np.clip(np.asarray(age_days, dtype=np.float64), 0.0, self.horizon_days)
        horizon, won, lost = np.full(len(age), self.horizon_days), np.asarray(succeeded, bool), np.asarray(failed, bool)
        curves = self._survival(self.success_, index), self._survival(self.failure_, index)
        ends, so_far = ([self._ended(curve, days) for curve in curves] for days in (horizon, age))
        whole, seen = (
            np.select([won, lost], [success, failure], np.maximum(1.0 - success - failure, 0.0))
            for success, failure in (ends, so_far)
        )
        return np.divide(whole, seen, out=np.zeros(len(age)), where=seen > 0)

    def half_days(self, share: float = 0.5) -> float:
        """Return the first day of the grid by which a share of the successes and of the failures have ended so.

        For an index of 0; the horizon where that takes longer.
        """
        zeros, every = np.zeros(_STEPS), np.ones(_STEPS, dtype=bool)
        rows = self.weights(zeros, self._grid, every, ~every), self.weights(zeros, self._grid, ~every, every)
        enough = [(w > 0) & (w <= 1.0 / share) for w in rows]
        days = self._grid[enough[0] & enough[1]]
        return float(days[0]) if len(days) else self.horizon_days

    def decided(self) -> float:
        """Return the share of rows that have ended by the horizon, in success or in failure, for an index of 0."""
        zero, horizon = np.zeros(1), np.full(1, self.horizon_days)
        ended = (self._ended(self._survival(end, zero), horizon)[0] for end in (self.success_, self.failure_))
        return float(min(sum(ended), 1.0))

    @property
    def _grid(self) -> Array:
        return self.horizon_days * np.arange(1, _STEPS + 1) / _STEPS

    def _hazard(self, X: pd.DataFrame, days: Array, follow: Array) -> DiscreteTimeHazard | None:
        seen = ~np.isnan(days) & (days <= self.horizon_days)
        if not seen.any():
            return None
        # an end matters by the interval that it falls into, and the rest by the intervals that it was followed through:
        # rows that are alike in that are one of more weight, which is most of them where there is no index
        ends = np.searchsorted(self._grid, np.where(seen, days, 0.0), side="left")
        through = np.searchsorted(self._grid, follow, side="right")
        rows = np.column_stack([X[_INDEX], seen, ends, through])
        alike, counts = np.unique(rows, axis=0, return_counts=True)
        happened, stops = alike[:, 1] > 0, np.concatenate([[0.0], self._grid])
        followed = stops[alike[:, 3].astype(np.intp)]
        duration = np.where(happened, self._grid[alike[:, 2].astype(np.intp)], followed)
        model = DiscreteTimeHazard(self._grid.tolist(), base=LogLogistic(C=_STRENGTH))
        return model.fit(
            pd.DataFrame({_INDEX: alike[:, 0]}),
            duration,
            happened,
            follow_up_days=followed,
            sample_weight=counts.astype(np.float64),
        )

    def _survival(self, hazard: DiscreteTimeHazard | None, index: ArrayLike) -> Array:
        """Return the log of the share of each row that has not ended so by the days 0 and `_grid`, shape (n, m)."""
        values, row = np.unique(np.asarray(index, dtype=np.float64), return_inverse=True)
        # nobody may be left to ask about: all leads came at once, and all of them are mature
        if hazard is None or not len(row):
            return np.zeros((len(row), _STEPS + 1))
        curve = hazard.cumulative(pd.DataFrame({_INDEX: values}), self._grid.tolist())
        survival = np.log1p(-np.minimum(curve, 1.0 - 1e-12))
        return np.hstack([np.zeros((len(values), 1)), survival])[row]

    def _ended(self, survival: Array, days: Array) -> Array:
        """Return the share that has ended so by each row's day: log-survival is linear between the days of the grid."""
        knots = np.concatenate([[0.0], self._grid])
        place = np.clip(np.searchsorted(knots, days, side="right") - 1, 0, _STEPS - 1)
        rows, share = np.arange(len(days)), (days - knots[place]) / np.diff(knots)[place]
        low, high = survival[rows, place], survival[rows, place + 1]
        return np.asarray(-np.expm1(low + share * (high - low)))
