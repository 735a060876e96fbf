"""A model on matrices: what `Model` says of frames, for where a call must take a millisecond.

Rows are given beforehand but for a few columns, which are filled in when they are asked for: in routing a row is a
partner, and what is filled in is what it has to do with the lead. All that can be said without those columns is worked
out beforehand.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partnerml.models._artifact import Model
from partnerml.models._binary import Array, BinaryScorer, Columns
from partnerml.models._blend import Component, blended
from partnerml.models._classifier import BoostedTrees
from partnerml.models._logistic import LogLogistic, _signed_log
from partnerml.models._quick_trees import QuickTrees, Table
from partnerml.models._shrinkage import PeerRate

Indices = NDArray[np.intp]
AT_ONCE = 4_096  # rows whose trees fit into memory easily
_SAMPLE = 256  # rows that effects are means over
_BY_BAG = "by_bag"  # of a component that disagrees with itself


def coded(model: Model, peers: PeerRate | None, names: Sequence[str]) -> Columns:
    """Return columns as a matrix holds them: names, and the values of text columns by code.

    Parameters
    ----------
    model : Model
    peers : PeerRate or None
        The rates of peers that a model of close is saved with: they tell how uncertain a score is.
    names : sequence of str
        The columns of model and peers, and any others.
    """
    known = {} if peers is None else peers.columns_.vocabulary
    texts = {name: (*known.get(name, ()), *model.vocabulary.get(name, ())) for name in names}
    return Columns(tuple(names), {name: tuple(sorted(set(values))) for name, values in texts.items() if values})


class QuickModel:
    """A model that scores rows of a matrix.

    Parameters
    ----------
    model : Model
    peers : PeerRate or None
    columns : Columns
        As of `coded`.
    codes : array, shape (n, p)
        The rows; a memory map will do.
    live : sequence of int
        The columns that are filled in when rows are asked for; they hold numbers.
    """

    def __init__(
        self, model: Model, peers: PeerRate | None, columns: Columns, codes: Array, live: Sequence[int]
    ) -> None:
        self.model, self.peers, self.columns, self.codes = model, peers, columns, codes
        self.live = np.asarray(live, dtype=np.intp)
        self.parts = {name: self._part(part) for name, part in model.blend.components.items()}

    def log_odds_of_components(self, rows: Indices, values: Array) -> dict[str, Array]:
        """Return the log-odds of each component of the blend, each of shape (m,).

        Parameters
        ----------
        rows : array of int, shape (m,)
        values : array, shape (m, len(live))
        """
        return {name: part.log_odds(rows, values) for name, part in self.parts.items()}

    def log_odds(self, parts: Mapping[str, Array]) -> Array:
        """Return the calibrated log-odds from those of the components, shape (m,)."""
        blend = self.model.blend
        return blend.calibrator.apply(blended(parts, blend.weights))

    def frame(self, rows: Indices, values: Array) -> pd.DataFrame:
        """Return rows as the frame that `Model` takes."""
        return self.columns.decode(self._filled(rows, values))

    def spread(self, rows: Indices, values: Array, parts: Mapping[str, Array]) -> Array:
        """Return how uncertain each score is, shape (m,): how far the components disagree, and what peers leave open.

        As scores of close are told.
        """
        if any(hasattr(component, _BY_BAG) for component in self.model.blend.components.values()):
            apart = self.model.spread(self.frame(rows, values))
        else:
            apart = self.model.blend.disagreement(parts)
        if self.peers is None:
            return apart
        if self._varies(self.peers):
            return np.hypot(apart, self.peers.deviation(self.frame(rows, values)))
        return np.hypot(apart, self._deviation[rows])

    @functools.cached_property
    def _deviation(self) -> Array:
        assert self.peers is not None, "asked for only where there are rates"
        return self.peers.deviation(self.columns.decode(np.asarray(self.codes)))

    def _filled(self, rows: Indices, values: Array) -> Array:
        codes: Array = np.take(self.codes, rows, axis=0)
        codes[:, self.live] = values
        return codes

    def _varies(self, component: Component) -> bool:
        """Tell whether a component reads a column that is filled in."""
        read = {str(name) for name in component.feature_names_in_}
        return any(self.columns.names[place] in read for place in self.live)

    def _part(self, component: Component) -> _Part:
        own = _OwnColumns(component, self)
        quick = QuickTrees.of(component) if isinstance(component, BoostedTrees) else None
        if not self._varies(component):
            return _Known(component.decision_function(own.frame(np.asarray(self.codes))))
        if quick is not None:
            return _Trees(quick, own, self.codes)
        if isinstance(component, LogLogistic):
            return _Linear(component, own, self.codes)
        return _Framed(component, own, self)


class Additive:
    """A stand-in for a model that adds up: what a row brings, and what each live column adds whatever the others are.

    Much cheaper than the model, and near enough to tell which rows the model should look at.

    Parameters
    ----------
    quick : QuickModel
    usual : array, shape (len(live),)
        Values of the live columns from which effects are counted.

    Attributes
    ----------
    base : array, shape (n,)
        The model's log-odds of all rows at the usual values.
    strength : array, shape (len(live),)
        About how much the effect of each live column varies.
    """

    def __init__(self, quick: QuickModel, usual: Array) -> None:
        n = len(quick.codes)
        self.base = np.empty(n)
        for begin in range(0, n, AT_ONCE):
            rows = np.arange(begin, min(begin + AT_ONCE, n))
            parts = quick.log_odds_of_components(rows, np.repeat(usual[None], len(rows), axis=0))
            self.base[rows] = quick.log_odds(parts)
        some = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLE)).astype(np.intp))
        slope = quick.model.blend.calibrator.slope
        weights = quick.model.blend.weights
        effects = [
            (slope * weights[name], effect)
            for name, part in quick.parts.items()
            for effect in part.effects(some, usual)
            if n
        ]
        self._effects: list[list[tuple[float, Effect]]] = [
            [(weight, effect) for weight, effect in effects if effect.column == column] for column in range(len(usual))
        ]
        self.strength = np.array([sum(weight * effect.strength for weight, effect in of) for of in self._effects])

    def effect(self, column: int, values: Array) -> Array:
        """Return what some values of a live column add, of their shape."""
        total = np.zeros(len(values))
        for weight, effect in self._effects[column]:
            total += weight * effect(values)
        return total


class Effect(Protocol):
    """What one live column adds to the log-odds of a component."""

    @property
    def column(self) -> int:
        """Its place among the live columns."""

    @property
    def strength(self) -> float:
        """About how much it varies."""

    def __call__(self, values: Array) -> Array:
        """Return what values add."""


class _Part(Protocol):
    def log_odds(self, rows: Indices, values: Array) -> Array:
        """Return the log-odds of a component for rows whose live columns have values, shape (m,)."""

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        """Return what live columns add where the others have their usual values, as means over some rows."""


class _OwnColumns:
    """The columns of a component: where they lie among ours, and what stands for the codes of text columns.

    That is the component's own code, or the statistic that it reads in its place; the last entry of a table is that of
    a missing value.
    """

    def __init__(self, component: Component, quick: QuickModel) -> None:
        self.names = [str(name) for name in component.feature_names_in_]
        place = {name: j for j, name in enumerate(quick.columns.names)}
        self.places = np.array([place[name] for name in self.names], dtype=np.intp)
        learnt = getattr(component, "columns_", None)
        self.vocabulary = {} if learnt is None else learnt.vocabulary
        self._codes, self._tables = {}, {}
        for j, name in enumerate(self.names):
            if name in self.vocabulary:
                known = quick.model.vocabulary[name]
                number = {text: code for code, text in enumerate(self.vocabulary[name]) if text in known}
                found = [number.get(text, np.nan) for text in quick.columns.vocabulary[name]]
                self._codes[j] = np.array([*found, np.nan])
                self._tables[j] = _as_statistic(component, j, self._codes[j])
        # of those that are filled in: their place among the component's columns, and among the values that come
        live = {int(column): number for number, column in enumerate(quick.live)}
        asked = [(j, live[int(column)]) for j, column in enumerate(self.places) if int(column) in live]
        self.live = np.array([j for j, _ in asked], dtype=np.intp)
        self.values = np.array([number for _, number in asked], dtype=np.intp)
        self.still = [j for j in range(len(self.names)) if j not in set(self.live.tolist())]

    def frame(self, codes: Array) -> pd.DataFrame:
        """Return the frame that the component takes."""
        return Columns(tuple(self.names), self.vocabulary).decode(self._with(codes, self._codes))

    def matrix(self, codes: Array) -> Array:
        """Return what the component reads, with statistics for texts of many values."""
        return self._with(codes, self._tables)

    def _with(self, codes: Array, tables: Mapping[int, Array]) -> Array:
        own: Array = np.take(codes, self.places, axis=1)
        for j, table in tables.items():
            own[:, j] = table[np.nan_to_num(own[:, j], nan=-1.0).astype(np.intp)]
        return own


class _Known:
    """A component that reads nothing that is filled in."""

    def __init__(self, said: Array) -> None:
        self._said = said

    def log_odds(self, rows: Indices, values: Array) -> Array:
        return self._said[rows]

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        return ()


@dataclasses.dataclass(frozen=True)
class _Steps:
    """The effect of a column on trees: one for each bin."""

    column: int
    table: Table
    steps: Array

    @property
    def strength(self) -> float:
        return float(self.steps.std())

    def __call__(self, values: Array) -> Array:
        return np.asarray(self.steps[self.table.bins(values)])


@dataclasses.dataclass(frozen=True)
class _Line:
    """The effect of a column on a logistic: a line over its logarithm, and a number where it is missing."""

    column: int
    slope: float
    median: float
    flag: float
    strength: float

    def __call__(self, values: Array) -> Array:
        numbers = _signed_log(values)
        return np.asarray(np.where(np.isnan(numbers), self.median * self.slope + self.flag, numbers * self.slope))


class _Trees:
    def __init__(self, trees: QuickTrees, own: _OwnColumns, codes: Array) -> None:
        self._trees, self._own = trees, own
        self._bits = trees.prepared(own.matrix(codes), own.still)
        # the tables of what is filled in, by the place of their values
        pairs = zip(own.live.tolist(), own.values.tolist(), strict=True)
        self._tables = {value: trees.tables[j] for j, value in pairs if j in trees.tables}

    def log_odds(self, rows: Indices, values: Array) -> Array:
        bits = np.take(self._bits, rows, axis=0)
        return self._trees.log_odds(self._trees.left_over(values, self._tables, bits))

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        at_usual = np.repeat(usual[None], len(rows), axis=0)
        found = []
        for column, table in self._tables.items():
            others = {other: t for other, t in self._tables.items() if other != column}
            bits = self._trees.left_over(at_usual, others, np.take(self._bits, rows, axis=0))
            steps = np.array([self._trees.log_odds(bits & left).mean() for left in table.bits])
            usually = steps[table.bins(usual[[column]])]
            found.append(_Steps(column, table, steps - usually))
        return found


class _Linear:
    """A logistic: what does not change is one number for each row."""

    def __init__(self, component: LogLogistic, own: _OwnColumns, codes: Array) -> None:
        slope = component.coef_ / component.scale_
        varies = np.isin(component.origin_, own.live)
        design = component._design(own.matrix(codes))
        design -= component.mean_
        design *= np.where(varies, 0.0, slope)
        self._base = design.sum(axis=1) + component.intercept_ - float((slope * component.mean_)[varies].sum())
        self._median = component.median_[own.live]
        # numbers are scaled to a deviation of 1
        numeric = ~component._is_indicator()
        self._strength = [float(np.abs(component.coef_[numeric & (component.origin_ == j)]).sum()) for j in own.live]
        self._values = own.values
        self._slope, self._flag = (
            np.array([slope[kind & (component.origin_ == j)].sum() for j in own.live])
            for kind in (~component._is_indicator(), component._is_indicator())
        )

    def log_odds(self, rows: Indices, values: Array) -> Array:
        numbers = _signed_log(values[:, self._values])
        unknown = np.isnan(numbers)
        numbers = np.where(unknown, self._median, numbers) * self._slope + unknown * self._flag
        # a sum along rows is the same for one row and for many only where rows lie together
        return np.asarray(self._base[rows] + np.ascontiguousarray(numbers).sum(axis=1))

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        columns = zip(self._values.tolist(), self._slope, self._median, self._flag, self._strength, strict=True)
        return [_Line(*each) for each in columns]


class _Framed:
    """Any other component, by way of a frame."""

    def __init__(self, component: Component, own: _OwnColumns, quick: QuickModel) -> None:
        self._component, self._own, self._quick = component, own, quick

    def log_odds(self, rows: Indices, values: Array) -> Array:
        return self._component.decision_function(self._own.frame(self._quick._filled(rows, values)))

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        return ()


def _as_statistic(component: Component, column: int, codes: Array) -> Array:
    """Return codes of a text column, or what a component reads in their place where it has too many values."""
    if not isinstance(component, BinaryScorer) or component.statistics_ is None or column not in component.replaced_:
        return codes
    place = component.replaced_.index(column)
    every: Any = np.full((len(codes), len(component.replaced_)), np.nan)
    every[:, place] = codes
    return np.asarray(component.statistics_.transform(every)[:, place])
