"""Figures of reasons as people say them: levels by what they stand for, shares in percent, large amounts rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from partnerml.dataset import FeatureInfo


class _Levels(NamedTuple):
    """What the numbers of a feature stand for: from 0 on, each one more."""

    pattern: str
    names: tuple[str, ...]


_LEVELS: Mapping[tuple[str, str], _Levels] = {
    ("pair__place", "level"): _Levels(
        "its office is in {}",
        ("another country", "the customer's country", "the customer's region", "the customer's postal area"),
    ),
    ("pair__territory", "level"): _Levels(
        "its territory {}",
        (
            "does not hold the lead",
            "holds the lead, by country or more widely",
            "holds the lead by region or circle",
            "holds the lead by postal area",
        ),
    ),
}
# a share of the code of an industry, which nobody thinks of as a number
_SIMILARITY = ("pair__vertical", "similarity")
_INDUSTRY = "works in {}"


def sentence(info: FeatureInfo) -> str:
    """Return how the value of a feature is told, with a place for its figure."""
    key = info.group, info.measure
    if key in _LEVELS:
        return _LEVELS[key].pattern
    if key == _SIMILARITY:
        return _INDUSTRY
    return "{} from the customer" if info.unit == "km" else f"{info.words}: {{}}"


def figure(info: FeatureInfo, value: float) -> str:
    """Return a value as people say it."""
    key = info.group, info.measure
    if key in _LEVELS:
        names = _LEVELS[key].names
        return names[min(max(int(value), 0), len(names) - 1)]  # a median may lie between two
    if key == _SIMILARITY and 0.0 <= value <= 1.0:
        return _industry(value)
    if info.unit == "yes or no" and value in (0.0, 1.0):
        return "yes" if value else "no"
    if info.unit == "km":
        return f"{value:,.0f} km"
    if info.unit == "degrees":
        return f"{value:.1f}°"
    if info.unit == "ratio" and info.words.startswith(("share of", "mean share of")):
        return f"{100 * value:,.0f} %"
    if value == int(value):
        return f"{value:,.0f}"
    return _rounded(value) if info.unit in {"count", "days", "money", "percentile"} else f"{value:,.2f}"


def _rounded(value: float) -> str:
    """Return a number with a decimal where it is small: medians of counts may lie between two."""
    return f"{value:,.1f}" if abs(value) < 10 else f"{value:,.0f}"


def _industry(similarity: float) -> str:
    if similarity in (0.0, 1.0):
        return "the lead's own industry" if similarity else "another industry than the lead's"
    return f"an industry near the lead's ({100 * similarity:.0f} % of its code)"
