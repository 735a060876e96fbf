"""Rows with any number of entries, and what is found by a code: the arrays behind the kernels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NOTHING, UNSEEN = -1, -2  # codes: null, and what no partner has


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Texts by their code."""

    index: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Vocabulary:
        """Give the distinct texts numbers, in their order."""
        return cls({text: code for code, text in enumerate(sorted({text for text in texts if text is not None}))})

    def codes(self, texts: Iterable[str | None]) -> Ints:
        """Return the codes of texts."""
        get = self.index.get
        return np.array([NOTHING if text is None else get(text, UNSEEN) for text in texts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.index)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows of a `Ragged`: where each begins among `position`, how many it has, and where they lie."""

    first: Ints
    count: Ints
    position: Any  # integers, or a slice for all of them

    def each(self, values: Any) -> Any:
        """Return what belongs to the row of each position."""
        return values if np.ndim(values) == 0 else np.repeat(values, self.count)

    def fold(self, values: Any, by: np.ufunc, *, empty: Any) -> Any:
        """Return one value for each row; `empty` for those without entries."""
        folded = np.full(len(self.count), empty, dtype=bool if isinstance(empty, bool) else np.float64)
        some = self.count > 0
        if some.any():
            folded[some] = by.reduceat(values, self.first[some])
        return folded


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Rows with any number of entries each, which lie one after the other; row i begins at ``start[i]``."""

    start: Ints

    @classmethod
    def of(cls, row: Ints, n: int) -> Ragged:
        """Take entries that are in the order of their rows."""
        return cls(np.append(0, np.cumsum(np.bincount(row, minlength=n))).astype(np.int64))

    @functools.cached_property
    def everything(self) -> Part:
        """All rows."""
        return Part(self.start[:-1], np.diff(self.start), slice(None))

    def at(self, rows: Any) -> Part:
        """Return some rows: an array of integers, or the slice of all."""
        if isinstance(rows, slice):
            return self.everything
        count = self.everything.count[rows]
        first = np.cumsum(count) - count
        return Part(first, count, np.repeat(self.start[rows] - first, count) + np.arange(int(count.sum())))


@dataclasses.dataclass(frozen=True)
class Lists:
    """A list of codes for each row, each code once."""

    rows: Ragged
    item: Ints

    @classmethod
    def of(cls, row: Any, item: Ints, n: int) -> Lists:
        """Take (row, code) pairs in any order."""
        width = int(item.max(initial=0)) + 1
        pairs = np.unique(np.asarray(row, dtype=np.int64) * width + item)
        return cls(Ragged.of(pairs // width, n), pairs % width)

    @classmethod
    def of_texts(cls, lists: Sequence[Sequence[str]], vocabulary: Vocabulary) -> Lists:
        """Take a list of texts for each row."""
        row = np.repeat(np.arange(len(lists)), [len(texts) for texts in lists])
        return cls.of(row, vocabulary.codes(text for texts in lists for text in texts), len(lists))


class Tally(NamedTuple):
    """What became of deals and leads: how many closed as won or lost, how many were won, and their days to win."""

    closed: Any
    won: Any
    days: Any


@dataclasses.dataclass(frozen=True)
class Cells:
    """Tallies by value and row: those of partners in a vertical, a country, a band of sizes."""

    values: Vocabulary
    n: int
    key: Ints  # code of the value times n plus the row, in order
    tally: Tally

    @classmethod
    def of(cls, row: Any, value: Sequence[str], tally: Tally, n: int) -> Cells:
        """Take tallies in any order."""
        values = Vocabulary.of(value)
        key = values.codes(value) * n + np.asarray(row, dtype=np.int64)
        order = np.argsort(key, kind="stable")
        return cls(values, n, key[order], Tally(*(np.asarray(part, dtype=np.float64)[order] for part in tally)))

    def at(self, code: Any, rows: Any) -> Tally:
        """Return the tallies of a value for rows, or of a value for each row; 0 where there is none."""
        if isinstance(rows, slice):
            return self._of_all(code)
        if np.ndim(code) == 0:
            # the rows that have the value are few: look there alone
            key, tally = self._having(code)
            return _looked_up(key, tally, code * self.n + rows)
        found = _looked_up(self.key, self.tally, code * self.n + rows)
        return Tally(*(np.where(code >= 0, part, 0.0) for part in found))

    def _having(self, code: Any) -> tuple[Ints, Tally]:
        low, high = np.searchsorted(self.key, (code * self.n, (code + 1) * self.n)) if code >= 0 else (0, 0)
        return self.key[low:high], Tally(*(part[low:high] for part in self.tally))

    def _of_all(self, code: Any) -> Tally:
        key, tally = self._having(code)
        spread = np.zeros((len(tally), self.n))
        spread[:, key - code * self.n] = tally
        return Tally(*spread)


def _looked_up(key: Ints, tally: Tally, wanted: Ints) -> Tally:
    if not len(key):
        return Tally(*np.zeros((len(tally), len(wanted))))
    place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    found = key[place] == wanted
    return Tally(*(np.where(found, part[place], 0.0) for part in tally))
