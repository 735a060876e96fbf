"""Boosted trees: LightGBM behind scikit-learn's conventions, deterministic, with reasons and a state of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import lightgbm as lgb
import numpy as np

from partnerml.models._binary import Array, BinaryScorer, State


class BoostedTrees(BinaryScorer):
    """Binary classifier: gradient boosting over small trees, averaged in log-odds over a few seeds.

    Takes frames with columns of numbers and of text (`category`, `str` or `object`), found by name, or plain arrays.
    A text value that training did not see counts as missing. The same data, parameters and `random_state` give the
    same trees, whatever the number of threads.

    Parameters
    ----------
    n_estimators : int
        Trees for each seed.
    num_leaves : int
        Leaves of a tree, at most.
    learning_rate : float
    min_child_samples : int
        Rows in a leaf, at least.
    subsample, colsample : float
        Share of rows drawn for each tree, and of columns.
    reg_lambda : float
        L2 penalty on the values of the leaves.
    n_seeds : int
        How many boosters are averaged; they differ in their draws only.
    max_levels : int
        Values that a text column may have; one of more is replaced by its ordered target statistic.
    random_state : int
    n_jobs : int or None
        Threads; None for all cores. Never changes a result. One by default: where the cores are shared (a loaded
        machine, a container with a quota), LightGBM's threads wait for each other, and two were measured at 18 times
        the time of one.

    Attributes
    ----------
    classes_ : array of shape (2,)
    texts_ : tuple of str
        The boosters in LightGBM's text format, without the section of parameters (it holds the number of threads).

    References
    ----------
    Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree. Lundberg et al. (2020), From local
    explanations to global understanding with explainable AI for trees (for `contributions`).
    """

    def __init__(
        self,
        *,
        n_estimators: int = 120,
        num_leaves: int = 7,
        learning_rate: float = 0.03,
        min_child_samples: int = 60,
        subsample: float = 0.8,
        colsample: float = 0.5,
        reg_lambda: float = 5.0,
        n_seeds: int = 1,
        max_levels: int = 30,
        random_state: int = 0,
        n_jobs: int | None = 1,
    ) -> None:
        self.n_estimators = n_estimators
        self.num_leaves = num_leaves
        self.learning_rate = learning_rate
        self.min_child_samples = min_child_samples
        self.subsample = subsample
        self.colsample = colsample
        self.reg_lambda = reg_lambda
        self.n_seeds = n_seeds
        self.max_levels = max_levels
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, known_rows: Any = None) -> Self:
        """Grow the trees.

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
        return self._grow(*self._check_fit(X, y, sample_weight, known_rows))

    def _grow(self, X: Array, target: Array, weight: Array) -> Self:
        """Grow the trees on a checked matrix, labels 0 or 1 and weights."""
        text = self._text_positions
        parameters = self._parameters()
        data = lgb.Dataset(X, target, weight=weight, categorical_feature=text, params=parameters, free_raw_data=False)
        texts = []
        for k in range(self.n_seeds):
            drawn = parameters | _seeds(self.random_state * 1_000 + k)
            booster = lgb.train(drawn, data, num_boost_round=self.n_estimators)
            texts.append(_without_parameters(booster.model_to_string(num_iteration=-1)))
        self._set_texts(tuple(texts))
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of the second class, shape (n,)."""
        return self._predicted(self._check_predict(X), raw_score=True)

    def contributions(self, X: Any) -> Array:
        """Return TreeSHAP values in log-odds, shape (n, p + 1): one per column, the base last.

        A row sums to its `decision_function`.
        """
        return self.effects(self._check_predict(X))

    def effects(self, X: Array) -> Array:
        """Return the `contributions` of a matrix that is checked: codes for text columns, statistics for large ones."""
        return self._predicted(X, pred_contrib=True)

    def _predicted(self, X: Array, **kind: bool) -> Array:
        """Return what LightGBM says of a checked matrix, as a mean over the boosters."""
        return self._mean([np.asarray(b.predict(X, **kind, **self._threads())) for b in self._boosters])

    def to_state(self) -> State:
        """Return plain values for JSON; the number of threads is left out, so that it cannot change a byte."""
        state = self._base_state()
        state["parameters"].pop("n_jobs")
        return state | {"boosters": list(self.texts_)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        estimator = cls._from_base_state(state)
        estimator._set_texts(tuple(state["boosters"]))
        return estimator

    def _set_texts(self, texts: tuple[str, ...]) -> None:
        # Fresh boosters are read back too: what predicts after training is what predicts after loading.
        self.texts_ = texts
        self._boosters = [lgb.Booster(model_str=text) for text in texts]

    def _threads(self) -> dict[str, Any]:
        return {"num_threads": 0 if self.n_jobs is None else self.n_jobs}

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "binary",
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_child_samples,
            "bagging_fraction": self.subsample,
            "bagging_freq": 1 if self.subsample < 1 else 0,
            "feature_fraction": self.colsample,
            "lambda_l2": self.reg_lambda,
            "data_random_seed": self.random_state,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        } | self._threads()

    @staticmethod
    def _mean(values: list[Array]) -> Array:
        return np.asarray(np.mean(np.stack(values), axis=0))


def _seeds(seed: int) -> dict[str, int]:
    # Named one by one: a plain `seed` would also redraw the bins, which the boosters share.
    return {"bagging_seed": seed, "feature_fraction_seed": seed, "objective_seed": seed, "extra_seed": seed}


def _without_parameters(text: str) -> str:
    head, _, tail = text.partition("\nparameters:")
    return head + tail.partition("end of parameters\n")[2] if tail else text
