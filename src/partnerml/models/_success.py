"""The component of fit: the chance of a first success within a time, by discrete-time hazard over months.

What a trait does to the log-odds is the same in every month: a partner has one number, to which each month adds its
level. So the reasons of a score need one prediction where they would need one a month.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.errors import ConfigError
from partnerml.models._binary import Array, Columns, State
from partnerml.models._classifier import BoostedTrees
from partnerml.models._hazard import INTERVAL, DiscreteTimeHazard
from partnerml.models._logistic import LogLogistic
from partnerml.models._permutation import permutation_values

MONTH_DAYS = 30


def success_grid(success_days: int) -> tuple[float, ...]:
    """Return the ends of the cells of 30 days; the last ends at `success_days` and takes in what is left over."""
    cells = max(1, round(success_days / MONTH_DAYS))
    return (*(float(MONTH_DAYS * (j + 1)) for j in range(cells - 1)), float(success_days))


class MonthlyTrees(BoostedTrees):
    """Boosted trees over person-months whose trees split on the month or on traits, never on both."""

    def _parameters(self) -> dict[str, Any]:
        parameters = super()._parameters()
        names = () if self.columns_ is None else self.columns_.names
        if INTERVAL in names:
            traits = [j for j, name in enumerate(names) if name != INTERVAL]
            parameters["interaction_constraints"] = [traits, [names.index(INTERVAL)]]
        return parameters


class SuccessHazard:
    """Log-odds of P(T <= success_days), from the chance of success in each month of those that had none before.

    Partners that could not be followed to `success_days` count in the months that they were followed through.

    Parameters
    ----------
    success_days : int
    base : LogLogistic or MonthlyTrees, optional
        Classifier of the person-months, with the month as a column; a `LogLogistic` by default.
    background_rows : int
        Rows of training, spread over the scores, that reasons compare with.
    random_state : int
        Draws the background and the orders in which columns are taken over.

    Attributes
    ----------
    hazard_ : DiscreteTimeHazard
    background_ : array of shape (background_rows, p)
        The rows that reasons compare with: numbers, and texts as their places in the vocabulary.
    orders_ : array of int of shape (background_rows, p)
    feature_names_in_ : array of str of shape (p,)
    """

    def __init__(
        self,
        success_days: int = 365,
        *,
        base: LogLogistic | MonthlyTrees | None = None,
        background_rows: int = 16,
        random_state: int = 0,
    ) -> None:
        self.success_days = success_days
        self.base = base
        self.background_rows = background_rows
        self.random_state = random_state
        if background_rows < 1:
            raise ConfigError(f"background_rows must be at least 1, not {background_rows}")
        if not isinstance(base, LogLogistic | MonthlyTrees | None):
            raise ConfigError(f"a month must add the same for everybody: {type(base).__name__} cannot be the base")

    def fit(
        self,
        X: pd.DataFrame,
        duration_days: ArrayLike,
        observed: ArrayLike,
        *,
        follow_up_days: ArrayLike | None = None,
        known_rows: ArrayLike | None = None,
    ) -> Self:
        """Fit the hazard, and draw what reasons compare with.

        Parameters
        ----------
        X : DataFrame of shape (n, p)
            Traits as known at joining, in the order of joining.
        duration_days : array-like of shape (n,)
            Days to the first success where `observed`, else days followed without one.
        observed : array-like of bool of shape (n,)
        follow_up_days : array-like of shape (n,), optional
            Days that each row could have been followed for, successes included.
        known_rows : array-like of int of shape (n,), optional
            How many of the first rows had a known label when each joined, for text columns of many values.

        Raises
        ------
        NotEnoughDataError
            If nobody was followed through one of the months, or nobody was seen to succeed.
        """
        self.hazard_ = DiscreteTimeHazard(success_grid(self.success_days), base=self.base, free_levels=True).fit(
            X, duration_days, observed, follow_up_days=follow_up_days, known_rows=known_rows
        )
        self.feature_names_in_ = self.hazard_.feature_names_in_
        codes = self._traits.encode(X)
        self._month_levels = self._learn_months(codes[0])
        generator = np.random.default_rng(self.random_state)
        self.background_ = codes[_spread(self.decision_function(X), self.background_rows, generator)]
        columns = np.arange(codes.shape[1])
        self.orders_ = np.stack([generator.permutation(columns) for _ in self.background_])
        return self

    @property
    def columns_(self) -> Columns:
        """The columns of the base, with their vocabulary."""
        columns: Columns = self.hazard_.base_.columns_
        return columns

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Return the log-odds of success within `success_days` of joining, shape (n,)."""
        return self._over_months(self._first_month(X))

    def contributions(self, X: pd.DataFrame) -> Array:
        """Return permutation Shapley values in log-odds, shape (n, p + 1): one a column, the base last.

        A row sums to its `decision_function`.
        """
        if isinstance(self.hazard_.base_, LogLogistic):
            # a sum of effects: mixing its terms is mixing the rows
            effects, constant = self._effects(X)
            background, _ = self._effects(self._traits.decode(self.background_))
            return permutation_values(
                lambda mixed: self._over_months(mixed.sum(axis=1) + constant), effects, background, self.orders_
            )
        traits = self._traits
        return permutation_values(
            lambda mixed: self.decision_function(traits.decode(mixed)),
            traits.encode(X),
            self.background_,
            self.orders_,
        )

    def cumulative(self, X: pd.DataFrame, days: Sequence[float]) -> Array:
        """Return P(T <= d) for each d in days, at most `success_days`, shape (n, len(days))."""
        return self.hazard_.cumulative(X, days)

    def to_state(self) -> State:
        """Return plain values for JSON."""
        return {
            "success_days": self.success_days,
            "random_state": self.random_state,
            "hazard": self.hazard_.to_state(),
            "background": [[None if np.isnan(value) else float(value) for value in row] for row in self.background_],
            "orders": self.orders_.tolist(),
            "month_levels": self._month_levels.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        hazard = DiscreteTimeHazard.from_state(state["hazard"])
        rows = state["background"]
        model = cls(
            int(state["success_days"]),
            base=hazard.base,
            background_rows=len(rows),
            random_state=int(state["random_state"]),
        )
        model.hazard_ = hazard
        model.feature_names_in_ = hazard.feature_names_in_
        model.background_ = np.array([[np.nan if value is None else value for value in row] for row in rows])
        model.orders_ = np.asarray(state["orders"], dtype=np.intp)
        model._month_levels = np.asarray(state["month_levels"], dtype=np.float64)
        return model

    @property
    def _traits(self) -> Columns:
        """The columns without that of the month."""
        vocabulary = {name: values for name, values in self.columns_.vocabulary.items() if name != INTERVAL}
        return Columns(tuple(str(name) for name in self.feature_names_in_), vocabulary)

    def _learn_months(self, row: Array) -> Array:
        """Return what each month adds to the log-odds of the first, which no trait changes."""
        months = np.arange(len(self.hazard_.grid_days))
        said = self._in_months(self._traits.decode(np.tile(row, (len(months), 1))), months)
        return np.asarray(said - said[0] + self.hazard_.levels_)

    def _over_months(self, first_month: Array) -> Array:
        """Return the log-odds of success in any month from those of the first."""
        log_survival = -np.logaddexp(0.0, first_month[:, None] + self._month_levels).sum(axis=1)
        return np.asarray(np.log(-np.expm1(log_survival)) - log_survival)

    def _first_month(self, X: pd.DataFrame) -> Array:
        return self._in_months(X[list(self.feature_names_in_)], np.zeros(len(X), dtype=np.intp))

    def _in_months(self, X: pd.DataFrame, months: NDArray[np.intp]) -> Array:
        return np.asarray(self.hazard_.base_.decision_function(self.hazard_.with_interval(X, months)))

    def _effects(self, X: pd.DataFrame) -> tuple[Array, float]:
        """Return what each column adds to the log-odds of the first month, shape (n, p), and the rest of them."""
        first = self.hazard_.with_interval(X[list(self.feature_names_in_)], np.zeros(len(X), dtype=np.intp))
        parts = np.asarray(self.hazard_.base_.contributions(first))
        places = [j for j, name in enumerate(self.columns_.names) if name != INTERVAL]
        return parts[:, places], float(np.delete(parts[0], places).sum())


def _spread(scores: Array, rows: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw one row from each of equally large groups of ascending scores."""
    order = np.argsort(scores, kind="stable")
    edges = np.linspace(0, len(order), min(rows, len(order)) + 1).astype(np.intp)
    return order[[int(generator.integers(low, high)) for low, high in itertools.pairwise(edges)]]
