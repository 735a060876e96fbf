"""Columns of leads and partners as people write them: cleaned texts, numbers, lists and dotted codes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from partnerml.errors import DataError
from partnerml.pairs._arrays import Floats, Ints, Vocabulary

POSTAL_CHARACTERS = 2  # offices are in one postal area if their codes begin alike
Cleaner = Callable[[Any], str | None]
Found = TypeVar("Found")


class Columns:
    """Columns of the same length, any of which may be absent: then all of it is unknown."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], n: int) -> None:
        self._columns, self.n = columns, n

    def take(self, order: Ints) -> Columns:
        """Return the rows in another order."""
        taken = {name: [values[int(i)] for i in order] for name, values in self._columns.items()}
        return Columns(taken, len(order))

    def column(self, name: str) -> Sequence[Any]:
        """Return a column as it is."""
        return self._columns.get(name, [None] * self.n)

    def numbers(self, name: str) -> Floats:
        """Return a column of numbers, NaN where unknown.

        Raises
        ------
        DataError
            If one is no number.
        """
        try:
            return np.asarray(self.column(name), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"column {name} must hold numbers: {error}") from None

    def texts(self, name: str, cleaned: Cleaner) -> list[str | None]:
        """Return a column of texts.

        Raises
        ------
        DataError
            If one is a list or a mapping.
        """
        column = self.column(name)
        wrong = next((value for value in column if isinstance(value, list | tuple | dict | set)), None)
        if wrong is not None:
            raise DataError(f"column {name} must hold texts, got {wrong!r}")
        return _each(column, cleaned)

    def lists(self, name: str, cleaned: Cleaner) -> list[list[str]]:
        """Return a column of lists of texts; nothing is known of an empty one.

        Raises
        ------
        DataError
            If one is a text.
        """
        column = self.column(name)
        single = next((value for value in column if isinstance(value, str)), None)
        if single is not None:
            raise DataError(f"column {name} must hold lists of texts, got the text {single!r}")
        # a missing list of pandas is NaN
        lists = [() if items is None or isinstance(items, float) else items for items in column]
        cleaned_of = {item: cleaned(item) for item in {item for items in lists for item in items}}
        return [[found for item in items if (found := cleaned_of[item]) is not None] for items in lists]

    @functools.cached_property
    def places(self) -> list[tuple[str | None, str | None, str | None]]:
        """Country, region and postal area of each row."""
        country, region = (self.texts(name, upper) for name in ("country", "region"))
        return _each(list(zip(country, region, self.texts("postal_code", postal), strict=True)), _place)


def _each(values: Sequence[Any], function: Callable[[Any], Found]) -> list[Found]:
    """Apply a function to every value, once to those that are equal: most texts come many times."""
    found = {value: function(value) for value in set(values)}
    return [found[value] for value in values]


def plain(value: Any) -> str | None:
    """Return a text without blanks around it; None for nothing."""
    missing = value is None or isinstance(value, float)  # a missing text of pandas is NaN
    return None if missing else str(value).strip() or None


def upper(value: Any) -> str | None:
    """Return a code of a country or region."""
    found = plain(value)
    return None if found is None else found.upper()


def vertical(value: Any) -> str | None:
    """Return a dotted code; upper and lower case are the same."""
    found = plain(value)
    return None if found is None else found.lower()


def language(value: Any) -> str | None:
    """Return the language of a tag: ``en`` of ``en-GB``."""
    found = vertical(value)
    return None if found is None else found.replace("_", "-").partition("-")[0] or None


def postal(value: Any) -> str | None:
    """Return a postal code without what people put between its parts."""
    found = upper(value)
    return None if found is None else found.replace(" ", "").replace("-", "") or None


def beginning(code: str | None, size: int) -> str | None:
    """Return the first characters of a code that has so many."""
    return None if code is None or not 0 < size <= len(code) else code[:size]


def above(code: str) -> list[str]:
    """Return a dotted code and those above it, from the top."""
    parts = code.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def levels(codes: Iterable[str], known: Vocabulary, *, missing: int) -> Ints:
    """Return for each dotted code the codes of all its levels, shape (codes, depth)."""
    chains = [known.codes(above(code)) for code in codes]
    table = np.full((len(chains), max(map(len, chains), default=1)), missing, dtype=np.int64)
    for chain, row in zip(chains, table, strict=True):
        row[: len(chain)] = chain
    return table


def _place(given: tuple[str | None, ...]) -> tuple[str | None, str | None, str | None]:
    """Return the country (that of the region, if it is not given), the region and the postal area."""
    country, region, code = given
    country = country or (None if region is None else region.partition("-")[0])
    first = beginning(code, POSTAL_CHARACTERS)
    return country, region, None if country is None or first is None else f"{country} {first}"
