"""Columns that hold lists, such as verticals and languages: which of their items have a feature of their own.

Items are dotted codes: ``manufacturing.automotive`` is also ``manufacturing``. Upper and lower case are the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import ibis

MAX_ITEMS = 20  # items of one column with features of their own
# parts the items of a list that is one text; no item holds it, it cannot be typed
_BETWEEN = "\x1f"


def vocabulary(held: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the most frequent items, at most 20, first those that most partners have.

    A code counts for every code above it, so that ``manufacturing`` is as frequent as all that lies under it.

    Parameters
    ----------
    held : iterable of (str, str)
        Who has which item, in lower case.
    """
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for who, item in held:
        for code in _codes(item):
            holders[code].add(who)
    ranked = sorted(holders, key=lambda code: (-len(holders[code]), code))
    return tuple(ranked[:MAX_ITEMS])


def _codes(item: str) -> list[str]:
    """Return a dotted code and all codes above it."""
    code = item.strip(".")
    ends = [match.start() for match in re.finditer(r"\.+", code)]
    return [code[:end] for end in ends] + ([code] if code else [])


def item_names(items: Sequence[str]) -> dict[str, str]:
    """Return the items of a vocabulary by the name that they have in features.

    Letters and digits stay, dots part the levels, everything else is an underscore. Items that would share a name are
    numbered in the order of the vocabulary, so none is taken for another: ``c++, c#`` are ``c`` and ``c_2``.
    """
    named: dict[str, str] = {}
    for item in dict.fromkeys(item.lower() for item in items):
        parts = [re.sub(r"[\W_]+", "_", part).strip("_") for part in item.split(".")]
        plain = ".".join(part for part in parts if part) or "item"
        name, number = plain, 1
        while name in named:
            number += 1
            name = f"{plain}_{number}"
        named[name] = item
    return named


def as_text(items: ibis.Value) -> ibis.Value:
    """Return a list as one text in which `contains` finds items; null for a null."""
    # joining an empty list gives an empty text or a null, by engine
    inside = items.join(_BETWEEN).lower().fill_null("")
    joined = ibis.literal(_BETWEEN) + inside + ibis.literal(_BETWEEN)
    return items.isnull().ifelse(ibis.null("string"), joined)


def contains(text: ibis.Value, item: str) -> ibis.Value:
    """Return 1 if a list (see `as_text`) holds an item or one below it, 0 if not, null if the list is unknown."""
    itself = text.contains(f"{_BETWEEN}{item}{_BETWEEN}")
    return (itself | text.contains(f"{_BETWEEN}{item}.")).cast("float64")
