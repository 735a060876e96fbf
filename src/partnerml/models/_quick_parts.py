"""The components of a quick model: each says what it can of rows beforehand, and the rest when the lead is there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partnerml.models._binary import Array, BinaryScorer, Columns
from partnerml.models._blend import Component
from partnerml.models._classifier import BoostedTrees
from partnerml.models._logistic import LogLogistic, _signed_log
from partnerml.models._quick_trees import Joined, QuickTrees, Table

Indices = NDArray[np.intp]


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


class Part(Protocol):
    def log_odds(
        self, rows: Indices, values: Array, places: Sequence[int] | None = None, kept: Sequence[Any] = ()
    ) -> Array:
        """Return the log-odds of a component for rows whose live columns have values, shape (m,).

        Without places the values are those of all live columns; else the others were kept.
        """

    def kept(self, places: Sequence[int], values: Array) -> Sequence[Any]:
        """Return what some live columns say of all rows, as `log_odds` takes it again."""

    def contributions(self, rows: Indices, filled: Array) -> Array:
        """Return the effects of the component's columns, shape (m, p + 1), the base last.

        ``filled`` are the codes of the rows with their live columns, shape (m, all columns).
        """

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        """Return what live columns add where the others have their usual values, as means over some rows."""


class OwnColumns:
    """The columns of a component: where they lie among ours, and what stands for the codes of text columns.

    That is the component's own code, or the statistic that it reads in its place; the last entry of a table is that of
    a missing value.
    """

    def __init__(
        self, component: Component, columns: Columns, known: Mapping[str, Sequence[str]], live: Indices
    ) -> None:
        self.names = [str(name) for name in component.feature_names_in_]
        place = {name: j for j, name in enumerate(columns.names)}
        self.places = np.array([place[name] for name in self.names], dtype=np.intp)
        learnt = getattr(component, "columns_", None)
        self.vocabulary = {} if learnt is None else learnt.vocabulary
        self._codes, self._tables = {}, {}
        for j, name in enumerate(self.names):
            if name in self.vocabulary:
                number = {text: code for code, text in enumerate(self.vocabulary[name]) if text in known[name]}
                found = [number.get(text, np.nan) for text in columns.vocabulary[name]]
                self._codes[j] = np.array([*found, np.nan])
                self._tables[j] = _as_statistic(component, j, self._codes[j])
        # of those that are filled in: their place among the component's columns, and among the values that come
        values = {int(column): number for number, column in enumerate(live)}
        asked = [(j, values[int(column)]) for j, column in enumerate(self.places) if int(column) in values]
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


class Known:
    """A component that reads nothing that is filled in."""

    def __init__(self, component: Component, own: OwnColumns, codes: Array) -> None:
        self._component, self._own, self._codes = component, own, codes
        self._said = component.decision_function(own.frame(np.asarray(codes)))

    def log_odds(
        self, rows: Indices, values: Array, places: Sequence[int] | None = None, kept: Sequence[Any] = ()
    ) -> Array:
        return self._said[rows]

    def kept(self, places: Sequence[int], values: Array) -> Sequence[Any]:
        return ()

    def contributions(self, rows: Indices, filled: Array) -> Array:
        return self._effects.take(rows, axis=0)

    @functools.cached_property
    def _effects(self) -> Array:
        # of all rows, once: to make a frame of one row takes longer
        return self._component.contributions(self._own.frame(np.asarray(self._codes)))

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
    """The effect of a column on a logistic: a line over its logarithm and one over itself, and a number if missing."""

    column: int
    slope: float
    straight: float
    missing: float
    strength: float

    def __call__(self, values: Array) -> Array:
        return np.asarray(
            np.where(np.isnan(values), self.missing, _signed_log(values) * self.slope + values * self.straight)
        )


class Trees:
    def __init__(self, component: BoostedTrees, trees: QuickTrees, own: OwnColumns, codes: Array) -> None:
        self._component, self._own, self._trees = component, own, trees
        self._bits = trees.prepared(own.matrix(codes), own.still)
        # the tables of what is filled in, by the place of their values
        pairs = zip(own.live.tolist(), own.values.tolist(), strict=True)
        self._tables = {value: trees.tables[j] for j, value in pairs if j in trees.tables}

    def log_odds(
        self,
        rows: Indices,
        values: Array,
        places: Sequence[int] | None = None,
        kept: Sequence[Sequence[Joined]] = (),
    ) -> Array:
        bits = self._bits.take(rows, axis=0)
        for groups in kept:
            for joined in groups:
                bits &= joined.of_rows(rows)
        return self._trees.log_odds(self._trees.left_over(values, self._tables_at(places), bits))

    def kept(self, places: Sequence[int], values: Array) -> Sequence[Joined]:
        return self._trees.joined(values, self._tables_at(places))

    def contributions(self, rows: Indices, filled: Array) -> Array:
        return self._component.effects(self._own.matrix(filled))

    def _tables_at(self, places: Sequence[int] | None) -> Mapping[int, Table]:
        """Return the tables of some live columns, by the columns of values that are given of them."""
        if places is None:
            return self._tables
        return {column: self._tables[place] for column, place in enumerate(places) if place in self._tables}

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


class Terms(NamedTuple):
    """What some of the columns that a logistic reads add, shape (m, k), and which of them they are."""

    own: Indices
    numbers: Array

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.numbers.size

    def of_rows(self, rows: Indices) -> Terms:
        """Return those of some rows."""
        return Terms(self.own, self.numbers.take(rows, axis=0))


class Linear:
    """A logistic: what does not change is one number for each row."""

    def __init__(self, component: LogLogistic, own: OwnColumns, codes: Array) -> None:
        self._component, self._own = component, own
        slope = component.coef_ / component.scale_
        varies = np.isin(component.origin_, own.live)
        design = component._design(own.matrix(codes))
        design -= component.mean_
        design *= np.where(varies, 0.0, slope)
        self._base = design.sum(axis=1) + component.intercept_ - float((slope * component.mean_)[varies].sum())
        # numbers are scaled to a deviation of 1
        numeric = ~component._is_indicator()
        self._strength = [float(np.abs(component.coef_[numeric & (component.origin_ == j)]).sum()) for j in own.live]
        self._values = own.values
        self._found: dict[tuple[int, ...], tuple[Indices, Indices]] = {}
        logarithm, indicator = component._is_logarithm(), component._is_indicator()
        self._slope, self._straight, flag = (
            np.array([slope[kind & (component.origin_ == j)].sum() for j in own.live])
            for kind in (logarithm, ~logarithm & ~indicator, indicator)
        )
        self._missing = component.median_[own.live] * self._slope + flag
        self._missing += component._plain_median(own.live) * self._straight

    def log_odds(
        self, rows: Indices, values: Array, places: Sequence[int] | None = None, kept: Sequence[Sequence[Terms]] = ()
    ) -> Array:
        # a sum along rows is the same for one row and for many only where rows lie together
        every = np.empty((len(rows), len(self._values)))
        given = [self._terms(range(values.shape[1]) if places is None else places, values)]
        for terms in (*given, *(terms.of_rows(rows) for those in kept for terms in those)):
            every[:, terms.own] = terms.numbers
        return np.asarray(self._base[rows] + every.sum(axis=1))

    def kept(self, places: Sequence[int], values: Array) -> Sequence[Terms]:
        own, numbers = self._terms(places, values)
        # rows are taken out of it again and again, which is quick only where they lie together
        return (Terms(own, np.ascontiguousarray(numbers)),)

    def contributions(self, rows: Indices, filled: Array) -> Array:
        return self._component.effects(self._own.matrix(filled))

    def _terms(self, places: Sequence[int], values: Array) -> Terms:
        """Return what values of some live columns add."""
        at, own = self._own_of(tuple(places))
        given = values[:, at]
        effects = _signed_log(given) * self._slope[own]
        straight = np.flatnonzero(self._straight[own])
        effects[:, straight] += given[:, straight] * self._straight[own[straight]]
        return Terms(own, np.where(np.isnan(given), self._missing[own], effects))

    def _own_of(self, places: tuple[int, ...]) -> tuple[Indices, Indices]:
        """Return which of some live columns it reads, and where they stand among those that it reads."""
        found = self._found.get(places)
        if found is None:
            own = {value: j for j, value in enumerate(self._values.tolist())}
            pairs = [(column, own[place]) for column, place in enumerate(places) if place in own]
            columns, reads = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
            found = self._found[places] = columns, reads
        return found

    def effects(self, rows: Indices, usual: Array) -> Sequence[Effect]:
        columns = zip(self._values.tolist(), self._slope, self._straight, self._missing, self._strength, strict=True)
        return [_Line(*each) for each in columns]


class Framed:
    """Any other component, by way of a frame."""

    def __init__(self, component: Component, own: OwnColumns, filled: Callable[[Indices, Array], Array]) -> None:
        self._component, self._own, self._filled = component, own, filled

    def log_odds(
        self, rows: Indices, values: Array, places: Sequence[int] | None = None, kept: Sequence[Any] = ()
    ) -> Array:
        assert places is None, "a frame holds all columns"
        return self._component.decision_function(self._own.frame(self._filled(rows, values)))

    def kept(self, places: Sequence[int], values: Array) -> Sequence[Any]:
        return ()

    def contributions(self, rows: Indices, filled: Array) -> Array:
        return self._component.contributions(self._own.frame(filled))

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
