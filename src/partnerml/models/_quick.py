"""A model on matrices: what `Model` says of frames, for where a call must take a millisecond.

Rows are given beforehand but for a few columns, which are filled in when they are asked for: in routing a row is a
partner, and what is filled in is what it has to do with the lead. All that can be said without those columns is worked
out beforehand.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from partnerml.models._artifact import Model
from partnerml.models._binary import Array, Columns
from partnerml.models._blend import Component, blended
from partnerml.models._classifier import BoostedTrees
from partnerml.models._explain import Reason, Telling
from partnerml.models._logistic import LogLogistic
from partnerml.models._quick_parts import Effect, Framed, Indices, Known, Linear, OwnColumns, Part, Trees
from partnerml.models._quick_trees import QuickTrees
from partnerml.models._shrinkage import PeerRate

Unseen = Mapping[str, Mapping[int, str]]
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


def unseen_texts(columns: Columns, frame: pd.DataFrame, codes: Array) -> Unseen:
    """Return the texts of a frame that no code stands for, by column and row; columns without any are left out.

    Parameters
    ----------
    columns : Columns
    frame : DataFrame of shape (n, at least len(columns.names))
    codes : array, shape (n, len(columns.names))
        What `columns` makes of the frame.
    """
    found = {}
    for place in columns.text_positions:
        name = columns.names[place]
        rows = np.flatnonzero(np.isnan(codes[:, place]) & frame[name].notna().to_numpy())
        if len(rows):
            found[name] = dict(zip(rows.tolist(), map(str, frame[name].iloc[rows]), strict=True))
    return found


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
    unseen : mapping of str to mapping of int to str, optional
        Texts that training never saw, by column and row: no code stands for them, and reasons name them.
    """

    def __init__(
        self,
        model: Model,
        peers: PeerRate | None,
        columns: Columns,
        codes: Array,
        live: Sequence[int],
        unseen: Unseen | None = None,
    ) -> None:
        self.model, self.peers, self.columns, self.codes = model, peers, columns, codes
        self.unseen: Unseen = unseen or {}
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

    @functools.cached_property
    def keeps(self) -> bool:
        """Whether all components can be told of some live columns beforehand."""
        return not any(isinstance(part, Framed) for part in self.parts.values())

    def kept(self, places: Sequence[int], values: Array) -> Kept:
        """Return what some live columns say of all rows, to be asked for again.

        Parameters
        ----------
        places : sequence of int
            Among the live columns.
        values : array, shape (n, len(places))
        """
        return Kept({name: part.kept(places, values) for name, part in self.parts.items()})

    def log_odds_by(
        self, rows: Indices, kept: Sequence[Kept], places: Sequence[int], values: Array
    ) -> dict[str, Array]:
        """Return what `log_odds_of_components` says, to the last bit, of what was kept and the other live columns.

        Parameters
        ----------
        rows : array of int, shape (m,)
        kept : sequence of Kept
        places : sequence of int
            Those of the live columns that were not kept.
        values : array, shape (m, len(places))
        """
        return {
            name: part.log_odds(rows, values, places, [of.parts[name] for of in kept])
            for name, part in self.parts.items()
        }

    def log_odds(self, parts: Mapping[str, Array]) -> Array:
        """Return the calibrated log-odds from those of the components, shape (m,)."""
        blend = self.model.blend
        return blend.calibrator.apply(blended(parts, blend.weights))

    def frame(self, rows: Indices, values: Array) -> pd.DataFrame:
        """Return rows as the frame that `Model` takes."""
        return self.columns.decode(self._filled(rows, values))

    def reasons(self, rows: Indices, values: Array, *, top: int) -> list[list[Reason]]:
        """Return what `explain` says of rows, without their frames."""
        filled = self._filled(rows, values)
        blend = self.model.blend
        effects = blend.joined({name: part.contributions(rows, filled) for name, part in self.parts.items()})
        return self._telling.tell(effects[:, :-1], self._figures(rows, filled), top=top)

    @functools.cached_property
    def _telling(self) -> Telling:
        names = [str(name) for name in self.model.blend.feature_names_in_]
        return Telling(names, dictionary=self.model.dictionary, typical=self.model.training["typical"])

    def _figures(self, rows: Indices, filled: Array) -> list[dict[str, Any]]:
        """Return rows as plain values by the names of their columns: a number, a text, or NaN where it is missing."""
        found = []
        for number, codes in zip(rows.tolist(), filled.tolist(), strict=True):
            row = dict(zip(self.columns.names, codes, strict=True))
            for name, texts in self.columns.vocabulary.items():
                missing = np.isnan(row[name])
                row[name] = self.unseen.get(name, {}).get(number, row[name]) if missing else texts[int(row[name])]
            found.append(row)
        return found

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
        # a memory map costs time at each look
        codes: Array = np.asarray(np.take(self.codes, rows, axis=0))
        codes[:, self.live] = values
        return codes

    def _varies(self, component: Component) -> bool:
        """Tell whether a component reads a column that is filled in."""
        read = {str(name) for name in component.feature_names_in_}
        return any(self.columns.names[place] in read for place in self.live)

    def _part(self, component: Component) -> Part:
        own = OwnColumns(component, self.columns, self.model.vocabulary, self.live)
        if not self._varies(component):
            return Known(component, own, self.codes)
        if isinstance(component, BoostedTrees) and (quick := QuickTrees.of(component)) is not None:
            return Trees(component, quick, own, self.codes)
        if isinstance(component, LogLogistic):
            return Linear(component, own, self.codes)
        return Framed(component, own, self._filled)


class Kept(NamedTuple):
    """What some live columns say of all rows: of each component, in its own terms."""

    parts: Mapping[str, Sequence[Any]]

    @property
    def size(self) -> int:
        """About how many numbers it holds."""
        return sum(each.size for part in self.parts.values() for each in part)


class Additive:
    """A stand-in for a model that adds up: what a row brings, and what each live column adds whatever the others are.

    Much cheaper than the model, and near enough to tell which rows the model should look at. It adds up along the line
    of calibration: its ceiling is for the caller to put in.

    Parameters
    ----------
    quick : QuickModel
    usual : array, shape (len(live),)
        Values of the live columns from which effects are counted.

    Attributes
    ----------
    base : array, shape (n,)
        The model's log-odds of all rows at the usual values, along the line.
    strength : array, shape (len(live),)
        About how much the effect of each live column varies.
    """

    def __init__(self, quick: QuickModel, usual: Array) -> None:
        n, weights = len(quick.codes), quick.model.blend.weights
        line = dataclasses.replace(quick.model.blend.calibrator, ceiling=1.0)
        self.base = np.empty(n)
        for begin in range(0, n, AT_ONCE):
            rows = np.arange(begin, min(begin + AT_ONCE, n))
            parts = quick.log_odds_of_components(rows, np.repeat(usual[None], len(rows), axis=0))
            self.base[rows] = line.apply(blended(parts, weights))
        some = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLE)).astype(np.intp))
        effects = [
            (line.slope * weights[name], effect)
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
