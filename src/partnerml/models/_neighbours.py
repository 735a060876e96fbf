"""Which of the best partners an account resembles, and in what.

The similarity is Gower's (1971, A general coefficient of similarity and some of its properties), a weighted mean over
the traits of how alike two companies are in each. Texts are alike or not; numbers by how many companies lie between
them, so that one very large one does not make all others look alike. The weights say what the model found important.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from partnerml.dataset import FeatureInfo
from partnerml.errors import InternalError, ModelError
from partnerml.models._binary import Array, Columns

# From this similarity on a trait counts as shared: the same text, or a number with few companies between the two.
SHARED = 0.9
_QUANTILES = 101
_CELLS = 4_000_000


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A partner that an account resembles.

    Attributes
    ----------
    account_id : str
    partner_id : str or None
    similarity : float
        From 0 to 1.
    shared : tuple of str
        What both have, in words, the most important first.
    """

    account_id: str
    partner_id: str | None
    similarity: float
    shared: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the struct that scores hold."""
        return {**dataclasses.asdict(self), "shared": list(self.shared)}


@dataclasses.dataclass(frozen=True, eq=False)
class NearestPartners:
    """The partners to compare with, and how alike two companies are.

    Attributes
    ----------
    columns : Columns
        The traits, by name, and the values of those that are texts.
    weights : array of shape (p,)
        How much each trait counts; they sum to 1.
    quantiles : mapping of str to array
        For each trait that is a number, its quantiles over the training rows.
    words : mapping of str to (str, str)
        For each trait what it is called, and its kind: ``text``, ``number`` or ``item`` (whether a list holds it).
    account_id, partner_id : tuple
        Of the partners; the second may be None.
    values : array of shape (m, p)
        Their traits: numbers, and texts by their place in the vocabulary.
    """

    columns: Columns
    weights: Array
    quantiles: Mapping[str, Array]
    words: Mapping[str, tuple[str, str]]
    account_id: tuple[str, ...]
    partner_id: tuple[str | None, ...]
    values: Array

    @classmethod
    def of(
        cls,
        partners: pd.DataFrame,
        keys: pd.DataFrame,
        *,
        everyone: pd.DataFrame,
        importance: Mapping[str, float],
        dictionary: Sequence[FeatureInfo],
    ) -> Self:
        """Take the partners to compare with.

        Parameters
        ----------
        partners : DataFrame of shape (m, at least p)
            Their traits.
        keys : DataFrame of shape (m, 2)
            ``account_id`` and ``partner_id`` (may be null).
        everyone : DataFrame of shape (n, at least p)
            Training rows: what is usual, and the values of texts.
        importance : mapping of str to float
            How much each trait moves the score, such as its mean absolute effect; a trait without any is left out. If
            none has any, all count alike.
        dictionary : sequence of FeatureInfo
        """
        names = [name for name, weight in importance.items() if weight > 0] or list(importance)
        if not names or len(keys) != len(partners):
            raise InternalError(f"nearest partners need traits and one key a row; got {len(names)} and {len(keys)}")
        both = pd.concat([everyone[names].astype(object), partners[names].astype(object)], ignore_index=True)
        texts = {name for name in names if not pd.api.types.is_numeric_dtype(everyone[name])}
        columns = Columns.learn(both.astype({name: "str" if name in texts else "float64" for name in names}))
        known = everyone[[name for name in names if name not in texts]].to_numpy(dtype=np.float64)
        quantiles = {
            name: np.nanquantile(known[:, j], np.linspace(0, 1, _QUANTILES))
            for j, name in enumerate(name for name in names if name not in texts)
            if not np.isnan(known[:, j]).all()
        }
        weights = np.array([max(float(importance[name]), 0.0) for name in names])
        weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(names), 1.0 / len(names))
        infos = {info.name: info for info in dictionary}
        words = {name: (infos[name].words, _kind(infos[name], is_text=name in texts)) for name in names}
        order = np.argsort(keys["account_id"].to_numpy(dtype=object), kind="stable")
        return cls(
            columns,
            weights,
            quantiles,
            words,
            tuple(str(one) for one in keys["account_id"].iloc[order]),
            tuple(None if pd.isna(one) else str(one) for one in keys["partner_id"].iloc[order]),
            columns.encode(partners.iloc[order]),
        )

    def __len__(self) -> int:
        return len(self.account_id)

    def similarities(self, X: pd.DataFrame) -> Array:
        """Return how alike rows and partners are, shape (n, m), between 0 and 1."""
        found = self._by_trait(self.columns.encode(X))
        return np.asarray(found[0])

    def nearest(self, X: pd.DataFrame, *, top: int = 3, shared: int = 3) -> list[list[Neighbour]]:
        """Return the most similar partners of each row, most similar first, ties by account_id.

        Parameters
        ----------
        X : DataFrame of shape (n, at least p)
        top : int
            How many partners.
        shared : int
            How many of the traits that they share.
        """
        values = self.columns.encode(X)
        step = max(1, _CELLS // max(len(self) * len(self.weights), 1))
        found: list[list[Neighbour]] = []
        for start in range(0, len(values), step):
            block = values[start : start + step]
            total, by_trait = self._by_trait(block)
            # rounding decides no tie: what is equal on paper goes by account_id
            order = np.argsort(-np.round(total, 12), axis=1, kind="stable")[:, :top]
            for i, places in enumerate(order):
                found.append(
                    [self._neighbour(block[i], int(j), total[i, j], by_trait[:, i, j], shared) for j in places]
                )
        return found

    def _by_trait(self, values: Array) -> tuple[Array, Array]:
        """Return similarities of shape (n, m), and those of each trait, (p, n, m): NaN where neither side says."""
        n, p = values.shape
        parts = np.empty((p, n, len(self)))
        for j, name in enumerate(self.columns.names):
            parts[j] = _alike(values[:, j], self.values[:, j], self.words[name][1], self.quantiles.get(name))
        counted = ~np.isnan(parts)
        total = np.einsum("j,jnm->nm", self.weights, np.where(counted, parts, 0.0))
        weight = np.einsum("j,jnm->nm", self.weights, counted.astype(np.float64))
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), parts

    def _neighbour(self, row: Array, j: int, similarity: float, by_trait: Array, shared: int) -> Neighbour:
        order = sorted(range(len(self.weights)), key=lambda k: (-self.weights[k], self.columns.names[k]))
        told = [self._told(k, row[k], self.values[j, k]) for k in order if by_trait[k] >= SHARED]
        return Neighbour(self.account_id[j], self.partner_id[j], float(similarity), tuple(told[:shared]))

    def _told(self, k: int, one: float, other: float) -> str:
        name = self.columns.names[k]
        words, kind = self.words[name]
        if kind == "text":
            return f"{words}: {self.columns.vocabulary[name][int(one)]}"
        if kind == "item":
            return words
        return f"{words}: {_figure(one)}" + ("" if one == other else f" (its {_figure(other)})")

    def to_state(self) -> dict[str, Any]:
        """Return plain values for JSON; a value that is not known is null."""
        return {
            "columns": self.columns.to_state(),
            "weights": self.weights.tolist(),
            "quantiles": {name: values.tolist() for name, values in self.quantiles.items()},
            "words": {name: list(pair) for name, pair in self.words.items()},
            "account_id": list(self.account_id),
            "partner_id": list(self.partner_id),
            "values": [[None if np.isnan(v) else v for v in row] for row in self.values.tolist()],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        columns = Columns.from_state(state["columns"])
        rows = [[np.nan if v is None else v for v in row] for row in state["values"]]
        values = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(columns.names))
        if len(state["account_id"]) != len(rows):
            raise ModelError(f"the nearest partners hold {len(state['account_id'])} ids and {len(rows)} rows")
        return cls(
            columns,
            np.asarray(state["weights"], dtype=np.float64),
            {name: np.asarray(found, dtype=np.float64) for name, found in state["quantiles"].items()},
            {name: (str(pair[0]), str(pair[1])) for name, pair in state["words"].items()},
            tuple(state["account_id"]),
            tuple(state["partner_id"]),
            values,
        )


def _kind(info: FeatureInfo, *, is_text: bool) -> str:
    if info.measure == "has":
        return "item"
    return "text" if is_text else "number"


def _alike(ours: Array, theirs: Array, kind: str, quantiles: Array | None) -> Array:
    """Return how alike two companies are in one trait, shape (n, m): NaN where it says nothing.

    A trait that only one side has counts as different, since a partner with many unknown traits would otherwise be
    like everybody. That neither has an item of a list is no likeness.
    """
    a, b = ours[:, None], theirs[None, :]
    if kind == "number":
        grid = np.array([0.0]) if quantiles is None else quantiles
        levels = np.linspace(0.0, 1.0, len(grid)) if len(grid) > 1 else np.array([0.5])
        alike = 1.0 - np.abs(_level(a, grid, levels) - _level(b, grid, levels))
    else:
        alike = (a == b).astype(np.float64)
    unknown_a, unknown_b = np.isnan(a), np.isnan(b)
    alike = np.where(unknown_a | unknown_b, 0.0, alike)
    silent = unknown_a & unknown_b
    if kind == "item":
        silent = silent | ((a == 0) & (b == 0)) | (unknown_a & (b == 0)) | ((a == 0) & unknown_b)
    return np.where(silent, np.nan, alike)


def _level(values: Array, grid: Array, levels: Array) -> Array:
    """Return which share of the training rows lies below values; the middle of the span where many are equal."""
    low = np.searchsorted(grid, values, side="left")
    high = np.searchsorted(grid, values, side="right")
    inside = np.interp(values, grid, levels)
    tied = high > low + 1
    last = len(levels) - 1
    middle = (levels[np.minimum(low, last)] + levels[np.clip(high - 1, 0, last)]) / 2
    return np.asarray(np.where(tied, middle, inside))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
