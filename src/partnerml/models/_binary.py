"""What the binary classifiers share: columns by name, frozen vocabularies, checks of the labels."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from partnerml.errors import ModelError, NotEnoughDataError
from partnerml.models._target_statistics import OrderedTargetStatistics

Array = NDArray[np.float64]
State = dict[str, Any]


# scikit-learn's conventions ask for ValueError; partnerml's callers catch the types of partnerml.errors.
class ColumnsError(ModelError, ValueError):
    """The columns of a table are not those that a model was fitted on."""


class OneClassError(NotEnoughDataError, ValueError):
    """All labels are equal: there is nothing to tell apart."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a frame in their order, with the values that each text column had in training.

    Attributes
    ----------
    names : tuple of str
    vocabulary : mapping of str to tuple of str
        Sorted values of each text column; every other column holds numbers.
    """

    names: tuple[str, ...]
    vocabulary: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def learn(cls, X: pd.DataFrame) -> Self:
        """Freeze names and vocabularies of a training frame.

        Raises
        ------
        ColumnsError
            On a duplicate name or a column that holds neither numbers nor text.
        """
        names = tuple(str(name) for name in X.columns)
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ColumnsError(f"column names must be unique; more than once: {', '.join(duplicates)}")
        vocabulary = {name: _values(X[name]) for name in names if not pd.api.types.is_numeric_dtype(X[name])}
        return cls(names, vocabulary)

    def encode(self, X: pd.DataFrame) -> Array:
        """Return the columns as float64, by name: text as its place in the vocabulary, NaN where missing or unseen.

        Parameters
        ----------
        X : DataFrame of shape (n, at least len(names))
            Columns in any order; others are ignored.

        Returns
        -------
        array of shape (n, len(names))

        Raises
        ------
        ColumnsError
            If a column is missing, or is text where training had numbers or the other way round.
        """
        missing = [name for name in self.names if name not in X.columns]
        if missing:
            raise ColumnsError(
                f"{len(missing)} of {len(self.names)} columns that the model was fitted on are missing: "
                f"{_first(missing)}; build the features with the catalogue of the model"
            )
        encoded = np.empty((len(X), len(self.names)), dtype=np.float64)
        for j, name in enumerate(self.names):
            encoded[:, j] = _codes(X[name], self.vocabulary[name]) if name in self.vocabulary else _numbers(X[name])
        return encoded

    def decode(self, codes: Array, index: pd.Index | None = None) -> pd.DataFrame:
        """Return what `encode` returned as a frame again: numbers as float64, texts as categories of the vocabulary.

        Parameters
        ----------
        codes : array of shape (n, len(names))
        index : Index of shape (n,), optional
            Of the frame.
        """
        data: dict[str, Any] = {name: codes[:, j] for j, name in enumerate(self.names)}
        for name, values in self.vocabulary.items():
            places = np.nan_to_num(data[name], nan=-1.0).astype(np.intp)
            known = pd.CategoricalDtype(pd.Index(values, dtype=str))
            data[name] = pd.Categorical.from_codes(places, dtype=known)
        return pd.DataFrame(data, index=index, columns=list(self.names))

    @property
    def text_positions(self) -> list[int]:
        """Positions of the text columns."""
        return [j for j, name in enumerate(self.names) if name in self.vocabulary]

    def to_state(self) -> State:
        """Return plain values for JSON."""
        return {"names": list(self.names), "vocabulary": {name: list(v) for name, v in self.vocabulary.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        return cls(tuple(state["names"]), {name: tuple(v) for name, v in state["vocabulary"].items()})


def _values(column: pd.Series) -> tuple[str, ...]:
    """Sorted distinct values, so that neither row order nor a declared category order matters."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise ColumnsError(f"column {column.name!r} is {column.dtype}; give numbers or text")
    return tuple(sorted({str(value) for value in column.dropna().unique()}))


def _codes(column: pd.Series, vocabulary: Sequence[str]) -> Array:
    if pd.api.types.is_numeric_dtype(column) and column.notna().any():
        raise ColumnsError(f"column {column.name!r} held text in training and now holds {column.dtype}")
    text = column.astype("category").cat
    # object on both sides: pandas' string dtypes do not compare alike in every mixture
    places = pd.Index(list(vocabulary), dtype=object).get_indexer(
        pd.Index([str(value) for value in text.categories], dtype=object)
    )
    codes = np.append(places, -1)[text.codes.to_numpy()].astype(np.float64)
    codes[codes < 0] = np.nan
    return codes


def _numbers(column: pd.Series) -> Array:
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ColumnsError(
            f"column {column.name!r} held numbers in training and now holds {column.dtype}: {error}"
        ) from error


def _first(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


class BinaryScorer(ClassifierMixin, BaseEstimator, abc.ABC):
    """Base of the classifiers: the subclass gives `fit`, `decision_function` and `contributions`.

    A text column of more than `max_levels` values becomes one number, its target statistic: the trees would learn
    single partners from such values, and a coefficient for each would be one for next to nobody.
    """

    max_levels: int
    classes_: NDArray[Any]
    columns_: Columns | None
    n_features_in_: int
    replaced_: list[int]
    statistics_: OrderedTargetStatistics | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    @abc.abstractmethod
    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of the second class, shape (n,)."""

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of both classes, shape (n, 2)."""
        log_odds = self.decision_function(X)
        return np.column_stack([expit(-log_odds), expit(log_odds)])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likelier class of each row, shape (n,)."""
        log_odds = self.decision_function(X)
        return self.classes_[(log_odds > 0).astype(np.intp)]

    def _check_fit(self, X: Any, y: Any, sample_weight: Any, known_rows: Any) -> tuple[Array, Array, Array]:
        """Learn columns and classes; return matrix, 0/1 target and weights of the rows that weigh anything."""
        if self.max_levels < 1:
            raise ModelError(f"max_levels must be at least 1, not {self.max_levels}")
        self.columns_ = Columns.learn(X) if _named(X) else None
        X, y = validate_data(self, self._by_name(X), y, dtype=np.float64, ensure_all_finite="allow-nan", order="C")
        check_classification_targets(y)
        if (kind := type_of_target(y)) not in ("binary", "multiclass") or np.unique(y).size > 2:
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        weight = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        kept = weight > 0
        X, y, weight = X[kept], y[kept], weight[kept]
        self.classes_ = np.unique(y)
        if self.classes_.size < 2:
            raise OneClassError(
                f"two classes are needed to fit {type(self).__name__}; all {len(y)} labels with a positive weight "
                f"belong to one class: {', '.join(map(repr, self.classes_.tolist()))}"
            )
        target = (y == self.classes_[1]).astype(np.float64)
        if known_rows is not None:
            known_rows = np.concatenate([[0], np.cumsum(kept)])[np.asarray(known_rows)][kept]
        return self._learn_statistics(X, target, weight, known_rows), target, weight

    def _learn_statistics(self, X: Array, target: Array, weight: Array, known_rows: Any) -> Array:
        """Replace text columns of many values by their ordered target statistics."""
        columns = self.columns_
        self.statistics_, self.replaced_ = None, []
        if columns is not None:
            levels = {j: len(columns.vocabulary[columns.names[j]]) for j in columns.text_positions}
            self.replaced_ = [j for j, n in levels.items() if n > self.max_levels]
        if not self.replaced_:
            return X
        self.statistics_ = OrderedTargetStatistics()
        found = self.statistics_.fit_transform(X[:, self.replaced_], target, weight, known_rows=known_rows)
        return self._with_statistics(X, found)

    def _with_statistics(self, X: Array, found: Array) -> Array:
        replaced = X.copy()
        replaced[:, self.replaced_] = found
        return replaced

    @property
    def _text_positions(self) -> list[int]:
        """Positions of the text columns that are still codes."""
        return [] if self.columns_ is None else [j for j in self.columns_.text_positions if j not in self.replaced_]

    def _check_predict(self, X: Any) -> Array:
        check_is_fitted(self, "columns_")
        X = validate_data(
            self, self._by_name(X), dtype=np.float64, ensure_all_finite="allow-nan", order="C", reset=False
        )
        return self._replaced(np.asarray(X))

    def _replaced(self, X: Array) -> Array:
        """Return encoded columns with those of too many values as their target statistics."""
        if self.statistics_ is None:
            return X
        return self._with_statistics(X, self.statistics_.transform(X[:, self.replaced_]))

    def _by_name(self, X: Any) -> Any:
        if self.columns_ is None or not _named(X):
            return X
        return pd.DataFrame(self.columns_.encode(X), columns=list(self.columns_.names), copy=False)

    def _base_state(self) -> State:
        check_is_fitted(self, "columns_")
        return {
            "parameters": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_features": int(self.n_features_in_),
            "columns": None if self.columns_ is None else self.columns_.to_state(),
            "replaced": self.replaced_,
            "statistics": None if self.statistics_ is None else self.statistics_.to_state(),
        }

    @classmethod
    def _from_base_state(cls, state: Mapping[str, Any]) -> Self:
        estimator = cls(**state["parameters"])
        estimator.classes_ = np.asarray(state["classes"])
        estimator.n_features_in_ = int(state["n_features"])
        estimator.columns_ = None if state["columns"] is None else Columns.from_state(state["columns"])
        # models of earlier versions have neither
        statistics = state.get("statistics")
        estimator.statistics_ = None if statistics is None else OrderedTargetStatistics.from_state(statistics)
        estimator.replaced_ = [int(j) for j in state.get("replaced", ())]
        if estimator.columns_ is not None:
            estimator.feature_names_in_ = np.asarray(estimator.columns_.names, dtype=object)
        return estimator


def _named(X: Any) -> bool:
    return isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in X.columns)
