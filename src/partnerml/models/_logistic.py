"""Logistic regression on log-scaled features: the linear member of the blend, and a baseline of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has neither stubs nor py.typed

from partnerml.models._binary import Array, BinaryScorer, State

_MAX_ITERATIONS = 2_000


class LogLogistic(BinaryScorer):
    """L2 logistic regression on ``sign(x) log(1 + |x|)`` of the numeric columns.

    Counts, days and amounts are skewed to the right, and what they say about the log-odds is closer to linear in
    their logarithm. A null is replaced by the median of the training rows; where training had nulls, an indicator
    beside the column learns what the null itself says (a recency is null when nothing ever happened). Numeric columns
    are then standardised. A text column becomes one indicator for each value that training saw, so that an unseen or
    missing value has none; indicators are centred and not scaled, so that rare ones are shrunk the most. A text column
    of more than `max_levels` values becomes one number, its ordered target statistic.

    What a kilometre costs may be the same near and far away, which no logarithm says: columns that are named `straight`
    have their numbers as they are beside the logarithm, and the data say which counts.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty, as in scikit-learn: the loss is summed over rows.
    max_levels : int
        Values that a text column may have before it is replaced.
    straight : sequence of str
        Numeric columns, by name, whose numbers are read as they are too. Those that are not there are passed over.

    Attributes
    ----------
    classes_ : array of shape (2,)
    coef_ : array of shape (q,)
        Coefficients of the q design columns.
    origin_ : array of shape (q,)
        Position of the input column behind each design column.
    intercept_ : float
        Log-odds of a row at the means of the training rows.
    """

    def __init__(self, *, C: float = 0.05, max_levels: int = 30, straight: Sequence[str] = ()) -> None:
        self.C = C
        self.max_levels = max_levels
        self.straight = straight

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, known_rows: Any = None) -> Self:
        """Fit the design and the coefficients.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            NaN is a missing value; infinity is refused.
        y : array-like of shape (n,)
            Two classes; the second in sorted order is the one that is scored.
        sample_weight : array-like of shape (n,), optional
        known_rows : array-like of int of shape (n,), optional
            How many of the first rows had a known label when each was looked at, for the target statistics of text
            columns with many values; rows are in the order of time. By default all rows before it.

        Raises
        ------
        OneClassError
            If all labels are equal. It is a `NotEnoughDataError`.
        """
        X, target, weight = self._check_fit(X, y, sample_weight, known_rows)
        self._learn_design(X, weight)
        # in place from here on: to make another matrix of this size takes longer than what is done with it
        scaled = self._design(X)
        self.mean_ = np.einsum("i,ij->j", weight, scaled) / weight.sum()
        scaled -= self.mean_
        deviation = np.sqrt(np.einsum("i,ij,ij->j", weight, scaled, scaled) / weight.sum())
        # a deviation that is rounding noise belongs to a constant column
        constant = deviation <= 1e-12 * (1.0 + np.abs(self.mean_))
        self.scale_ = np.where(constant | self._is_indicator(), 1.0, deviation)
        scaled /= self.scale_
        scaled[:, constant] = 0.0
        # Newton: correlated windows cost L-BFGS hundreds of steps, and this one fewer than ten
        solver = LogisticRegression(C=self.C, solver="newton-cholesky", tol=1e-8, max_iter=_MAX_ITERATIONS)
        # A threaded product of matrices sums in another order than one thread does.
        with threadpool_limits(limits=1):
            solver.fit(scaled, target, sample_weight=weight)
        self.coef_ = np.where(constant, 0.0, solver.coef_[0])
        self.intercept_ = float(solver.intercept_[0])
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of the second class, shape (n,)."""
        return np.asarray(self.contributions(X).sum(axis=1))

    def contributions(self, X: Any) -> Array:
        """Return coefficient times distance from the mean, shape (n, p + 1): one per input column, the base last.

        A row sums to its `decision_function`. The effects of a column's indicators are added to the column.
        """
        return self.effects(self._check_predict(X))

    def effects(self, X: Array) -> Array:
        """Return the `contributions` of a matrix that is checked: codes for text columns, statistics for large ones."""
        effects = self._design(X)
        effects -= self.mean_
        effects *= self.coef_
        effects /= self.scale_
        contributions = np.zeros((len(X), self.n_features_in_ + 1), order="C")
        n = len(self._numeric)
        contributions[:, self._numeric] = effects[:, :n]
        for j, origin in enumerate(self.origin_[n:], start=n):
            contributions[:, origin] += effects[:, j]
        contributions[:, -1] = self.intercept_
        return contributions

    def to_state(self) -> State:
        """Return plain values for JSON."""
        fitted = {
            "median": self.median_.tolist(),
            "flagged": self.flagged_.tolist(),
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "coef": self.coef_.tolist(),
            "intercept": self.intercept_,
        }
        state = self._base_state() | fitted
        state["parameters"]["straight"] = list(self.straight)
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        estimator = cls._from_base_state(state)
        estimator.median_ = np.asarray(state["median"], dtype=np.float64)
        estimator.flagged_ = np.asarray(state["flagged"], dtype=bool)
        estimator._lay_out()
        estimator.mean_ = np.asarray(state["mean"], dtype=np.float64)
        estimator.scale_ = np.asarray(state["scale"], dtype=np.float64)
        estimator.coef_ = np.asarray(state["coef"], dtype=np.float64)
        estimator.intercept_ = float(state["intercept"])
        return estimator

    def _learn_design(self, X: Array, weight: Array) -> None:
        missing = np.isnan(X)
        # of logarithms: they are in the order of the numbers
        self.median_ = _signed_log(_medians(X, missing, weight))
        self.flagged_ = missing.any(axis=0)
        self._lay_out()

    def _lay_out(self) -> None:
        """Decide which design columns there are.

        Logarithms of numbers, numbers as they are, null indicators, and the values of text columns.
        """
        text = self._text_positions
        columns = self.columns_
        sizes = [] if columns is None else [len(columns.vocabulary[columns.names[j]]) for j in text]
        self._levels = [(j, k) for j, size in zip(text, sizes, strict=True) for k in range(size)]
        self._text = np.isin(np.arange(self.n_features_in_), text)
        self._numeric = np.flatnonzero(~self._text)
        asked = set() if columns is None else {j for j, name in enumerate(columns.names) if name in self.straight}
        self._straight = np.array([j for j in self._numeric if j in asked], dtype=np.intp)
        self._flags = np.flatnonzero(self.flagged_ & ~self._text)
        levels = [j for j, _ in self._levels]
        parts = self._numeric, self._straight, self._flags, np.array(levels, dtype=np.intp)
        self.origin_: NDArray[np.intp] = np.concatenate(parts)

    def _design(self, X: Array) -> Array:
        design = np.empty((len(X), len(self.origin_)))
        ends = np.cumsum([len(self._numeric), len(self._straight), len(self._flags)])
        numbers, plain, flags, levels = np.hsplit(design, ends)
        numbers[:] = _signed_log(X.take(self._numeric, axis=1))
        np.copyto(numbers, self.median_[self._numeric], where=np.isnan(numbers))
        plain[:] = X.take(self._straight, axis=1)
        np.copyto(plain, self._plain_median(self._straight), where=np.isnan(plain))
        flags[:] = np.isnan(X.take(self._flags, axis=1))
        for place, (j, k) in enumerate(self._levels):
            levels[:, place] = X[:, j] == k
        return design

    def _plain_median(self, columns: NDArray[np.intp]) -> Array:
        """Return the medians of columns as numbers, not as logarithms."""
        median = self.median_[columns]
        return np.asarray(np.sign(median) * np.expm1(np.abs(median)))

    def _is_logarithm(self) -> NDArray[np.bool_]:
        return np.arange(len(self.origin_)) < len(self._numeric)

    def _is_indicator(self) -> NDArray[np.bool_]:
        return np.arange(len(self.origin_)) >= len(self._numeric) + len(self._straight)


def _signed_log(values: Array) -> Array:
    logged = np.abs(values)
    np.log1p(logged, out=logged)
    return np.copysign(logged, values, out=logged)


def _medians(X: Array, missing: NDArray[np.bool_], weight: Array) -> Array:
    """Return the lower median of each column; a row of weight 2 counts as two rows. 0 if every value is missing."""
    alike = bool(weight.min() == weight.max())
    medians = np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        known = ~missing[:, j]
        values = X[known, j]
        if not len(values):
            continue
        if alike:
            middle = (len(values) - 1) // 2
            medians[j] = np.partition(values, middle)[middle]
        else:
            medians[j] = np.quantile(values, 0.5, weights=weight[known], method="inverted_cdf")
    return medians
