"""Conditions on traits that split partners in two: a category, an item of a list, a quarter of a number, a gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partnerml.dataset import FeatureInfo
from partnerml.errors import ModelError

MAX_LEVELS = 20  # of one trait, the most frequent first
QUARTILES = (0.25, 0.5, 0.75)

Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Condition:
    """One thing that a partner is or is not.

    Attributes
    ----------
    feature : str
        The column.
    kind : str
        ``is`` (a category), ``true`` (yes or no), ``below``, ``at_least`` (a number), or ``missing``.
    value : str or float or None
        The category, or the cut, which is a value of the rows that it was found on.
    words : str
        Fits behind "partners whose": "country is DE".
    """

    feature: str
    kind: str
    value: str | float | None
    words: str

    def holds(self, X: pd.DataFrame) -> Mask:
        """Return the rows that fulfil it, shape (n,); a value that is not known fulfils ``missing`` alone.

        Raises
        ------
        ModelError
            If the column is not there.
        """
        if self.feature not in X:
            raise ModelError(f"the condition {self.words!r} needs the column {self.feature}, which is not among X")
        column = X[self.feature]
        if self.kind == "missing":
            return np.asarray(column.isna(), dtype=bool)
        if self.kind == "is":
            return np.asarray(column.astype(object) == self.value, dtype=bool)
        numbers = column.to_numpy(dtype=np.float64)
        assert isinstance(self.value, float), "cuts are numbers"
        # comparisons with what is not known are false
        return numbers < self.value if self.kind == "below" else numbers >= self.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Condition:
        """Rebuild from `to_dict`."""
        return cls(**state)


def conditions(
    X: pd.DataFrame, dictionary: Sequence[FeatureInfo], *, at_least: int
) -> tuple[tuple[Condition, ...], NDArray[np.bool_]]:
    """Find the conditions that split the rows into two groups large enough to speak of.

    Parameters
    ----------
    X : DataFrame of shape (n, p)
        Traits: text as `category`, everything else as numbers.
    dictionary : sequence of FeatureInfo
        What each column means.
    at_least : int
        Rows on either side.

    Returns
    -------
    conditions : tuple of Condition
        In the order of the dictionary. Of two that split the rows alike the first is kept. What happened to the rows
        plays no part in the choice.
    masks : array of bool of shape (n_conditions, n)
        Which rows fulfil each.
    """
    kept: list[Condition] = []
    masks: list[Mask] = []
    seen: set[bytes] = set()
    for info in dictionary:
        if info.name not in X:
            continue
        for condition in _of_column(X[info.name], info):
            mask = condition.holds(X)
            size = int(mask.sum())
            split = {np.packbits(mask).tobytes(), np.packbits(~mask).tobytes()}
            if min(size, len(X) - size) < at_least or split & seen:
                continue
            seen |= split
            kept.append(condition)
            masks.append(mask)
    return tuple(kept), np.array(masks, dtype=bool).reshape(len(masks), len(X))


def _of_column(column: pd.Series, info: FeatureInfo) -> Iterator[Condition]:
    if pd.api.types.is_numeric_dtype(column.dtype):
        yield from _of_numbers(column, info)
    else:
        yield from _of_categories(column, info)
    yield Condition(info.name, "missing", None, f"{_subject(info)} not known")


def _of_categories(column: pd.Series, info: FeatureInfo) -> Iterator[Condition]:
    counts = column.dropna().astype(object).value_counts()
    levels = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    for level, _ in levels[:MAX_LEVELS]:
        yield Condition(info.name, "is", str(level), f"{info.words} is {level}")


def _of_numbers(column: pd.Series, info: FeatureInfo) -> Iterator[Condition]:
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return
    if np.isin(numbers, (0.0, 1.0)).all():
        # "languages include de" says it all; a flag does not
        yield Condition(info.name, "true", 1.0, info.words if info.measure == "has" else f"{info.words} is true")
        return
    # a cut is a value that occurs: a quantile between two of them would depend on how it is interpolated
    low, middle, high = (float(np.quantile(numbers, share, method="higher")) for share in QUARTILES)
    yield Condition(info.name, "below", low, f"{info.words} is below {_figure(low)}")
    yield Condition(info.name, "at_least", middle, f"{info.words} is at least {_figure(middle)}")
    yield Condition(info.name, "at_least", high, f"{info.words} is at least {_figure(high)}")


def _subject(info: FeatureInfo) -> str:
    if info.measure == "has":
        # all items of a list are unknown together
        return f"{info.words.partition(' include ')[0]} are"
    return f"{info.words} is"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
