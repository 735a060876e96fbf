"""Text columns with many values as one number each: how far a value's share of label 1 lies from the base rate.

The number of a row in training comes from rows before it alone, so no row ever sees its own label. The plain mean of
the labels of a value, which does contain it, makes a column of pure noise look like the best one there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from partnerml.errors import ModelError

Array = NDArray[np.float64]
State = dict[str, Any]


class OrderedTargetStatistics(TransformerMixin, BaseEstimator):
    """Replace each column of codes by its ordered target statistic, less the base rate.

    For a row whose value was seen in n earlier rows, s of them with label 1, and p the share of label 1 in all earlier
    rows, the statistic is ``(s + a p) / (n + a) - p``: 0 for a value that is missing or was never seen, and moving
    toward the value's own rate as n grows past a. At prediction every row of training is an earlier one.

    Less p it does not drift with the base rate; a row before which no label was known has 0 and not a guess.

    Parameters
    ----------
    strength : float
        a: the number of rows that the base rate counts for.

    Attributes
    ----------
    sums_, counts_ : list of array
        For each column, over the codes 0, 1, ...: the weight of the rows with label 1, and of all rows.
    prior_ : float
        Share of label 1 in training.

    References
    ----------
    Prokhorenkova et al. (2018), CatBoost: unbiased boosting with categorical features, section 3.2; here the order is
    that of time and not of a random permutation. Micci-Barreca (2001), A preprocessing scheme for high-cardinality
    categorical attributes (for the prior).
    """

    def __init__(self, strength: float = 10.0) -> None:
        self.strength = strength

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the statistics of all rows, for rows to come.

        Parameters
        ----------
        X : array-like of shape (n, q)
            Codes 0, 1, ... of values; NaN where it is missing.
        y : array-like of shape (n,)
            0 or 1.
        sample_weight : array-like of shape (n,), optional
        """
        codes, target, weight = self._checked(X, y, sample_weight)
        self.sums_ = [_by_code(column, weight * target) for column in codes.T]
        self.counts_ = [_by_code(column, weight) for column in codes.T]
        self.prior_ = float(np.average(target, weights=weight))
        return self

    def transform(self, X: Any) -> Array:
        """Return the statistics from all rows of training, shape (n, q)."""
        check_is_fitted(self, "prior_")
        codes = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        columns = []
        for column, sums, counts in zip(codes.T, self.sums_, self.counts_, strict=True):
            known = (column >= 0) & (column < len(counts))
            place = np.where(known, column, 0).astype(np.intp)
            columns.append(_statistic(known * sums[place], known * counts[place], self.prior_, self.strength))
        return np.column_stack(columns)

    def fit_transform(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        known_rows: ArrayLike | None = None,
    ) -> Array:
        """Fit, and return the statistic of each row from the rows before it, shape (n, q).

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; rows in the order of time.
        known_rows : array-like of int of shape (n,), optional
            How many of the first rows had a known label when a row was looked at (see `known_rows`), at most its own
            position. By default its position. Where labels look ahead, those of the rows just before overlap with a
            row's own, and would give it away.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        codes, target, weight = self.fit(X, y, sample_weight)._checked(X, y, sample_weight)
        before = _positions(known_rows, len(codes))
        totals = np.concatenate([[0.0], np.cumsum(weight)])[before]
        ones = np.concatenate([[0.0], np.cumsum(weight * target)])[before]
        prior = np.divide(ones, totals, out=np.zeros(len(codes)), where=totals > 0)
        columns = []
        for column in codes.T:
            counts = _sums_before(column, weight, before)
            columns.append(_statistic(_sums_before(column, weight * target, before), counts, prior, self.strength))
        return np.column_stack(columns)

    def to_state(self) -> State:
        """Return plain values for JSON."""
        check_is_fitted(self, "prior_")
        return {
            "strength": self.strength,
            "prior": self.prior_,
            "sums": [sums.tolist() for sums in self.sums_],
            "counts": [counts.tolist() for counts in self.counts_],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        estimator = cls(state["strength"])
        estimator.prior_ = float(state["prior"])
        estimator.sums_ = [np.asarray(sums, dtype=np.float64) for sums in state["sums"]]
        estimator.counts_ = [np.asarray(counts, dtype=np.float64) for counts in state["counts"]]
        estimator.n_features_in_ = len(estimator.sums_)
        return estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = True
        return tags

    def _checked(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array, Array]:
        codes, target = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        if not self.strength > 0:
            raise ModelError(f"strength must be above 0, not {self.strength}")
        if np.any((codes < 0) | (codes != np.floor(codes)) & ~np.isnan(codes)):
            raise ModelError("target statistics take codes 0, 1, ... and NaN; encode the values of a column first")
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return codes, np.asarray(target, dtype=np.float64), weight


def known_rows(as_of: pd.Series, gap: pd.Timedelta) -> NDArray[np.intp]:
    """Return, for rows in the order of time, how many of them had a known label when each was looked at.

    Parameters
    ----------
    as_of : Series of shape (n,)
        Moments, never decreasing.
    gap : Timedelta
        From a moment until its labels are known: horizon and lag.

    Raises
    ------
    ModelError
        If the rows are not in the order of time.
    """
    moments = pd.DatetimeIndex(as_of)
    if not moments.is_monotonic_increasing:
        raise ModelError("target statistics need rows in the order of time: sort them by as_of")
    return np.asarray(moments.searchsorted(moments - gap, side="right"), dtype=np.intp)


def _statistic(ones: Array, counts: Array, prior: Array | float, strength: float) -> Array:
    # (s + a p) / (n + a) - p, in a form that is exactly 0 without rows
    return np.asarray((ones - counts * prior) / (counts + strength))


def _by_code(column: Array, values: Array) -> Array:
    known = ~np.isnan(column)
    return np.asarray(np.bincount(column[known].astype(np.intp), weights=values[known], minlength=1), dtype=np.float64)


def _positions(known: ArrayLike | None, n: int) -> NDArray[np.intp]:
    own = np.arange(n)
    if known is None:
        return own
    before = np.asarray(known, dtype=np.intp)
    if before.shape != (n,):
        raise ModelError(f"known_rows must have one number for each of the {n} rows; its shape is {before.shape}")
    if np.any((before < 0) | (before > own)):
        first = int(np.flatnonzero((before < 0) | (before > own))[0])
        raise ModelError(
            f"known_rows: row {first} cannot know the labels of {before[first]} rows, only {first} come before it; "
            "are the rows in the order of time?"
        )
    return before


def _sums_before(column: Array, values: Array, before: NDArray[np.intp]) -> Array:
    """Return the sum of values over the first `before` rows that have the row's own code; 0 without a code."""
    n = len(column)
    codes = np.where(np.isnan(column), -1, column).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    # rows by code and, within a code, by position: one search finds where the rows before end
    places = codes[order] * (n + 1) + order
    sums = np.concatenate([[0.0], np.cumsum(values[order])])
    until = np.searchsorted(places, codes * (n + 1) + before, side="left")
    begin = np.searchsorted(places, codes * (n + 1), side="left")
    return np.where(codes < 0, 0.0, sums[until] - sums[begin])
