"""One measure as a value: what it is about, how its features are named, built and told."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

ANY: tuple[str, ...] = ()  # kinds that data name: event types, columns
ZERO = "0 if there are none"


class Family(enum.Enum):
    """Which part of the engine builds a feature."""

    WINDOWS = "windows"
    DEALS = "deals"
    CERTIFICATIONS = "certifications"
    TRAITS = "traits"
    PAIRS = "pairs"


_DAYS = r"[1-9]\d*d"
DAYS = _DAYS
DAYS_OR_EVER = rf"{_DAYS}|ever"
TWO_SPANS = rf"{_DAYS}_{_DAYS}"
WEEKS = r"[2-9]w|[1-9]\dw|[1-4]\d\dw"
STREAK_WEEKS = r"[2-9]w|[1-5]\dw"  # one bit of an integer for each week
EVER = "ever"
AS_OF = "asof"
LIVE = "live"  # the moment of an assignment; everything else of a pair is as of 00:00 UTC of its day

# what each pattern takes, in words, and an example
FORMS: Mapping[str, tuple[str, str]] = {
    DAYS: ("a number of days", "30d"),
    DAYS_OR_EVER: ("a number of days, or ever", "90d"),
    TWO_SPANS: ("two numbers of days", "30d_90d"),
    WEEKS: ("a number of weeks", "12w"),
    STREAK_WEEKS: ("2 to 59 weeks", "26w"),
    EVER: ("all of history", "ever"),
    AS_OF: ("no window", "asof"),
    LIVE: ("the moment of assignment", "live"),
}


@dataclasses.dataclass(frozen=True)
class Measure:
    """One thing to say about some rows.

    Attributes
    ----------
    name : str
        Third part of the names of its features.
    on : mapping of str to tuple of str
        The sources that have it and, for each, the kinds; `ANY` where data name them.
    window : str
        What the last part of the name must match, as a regular expression.
    family : Family
    unit : str
    null_rule : str
    words : str
        In plain words; see `wording` for what may stand in braces.
    columns : tuple of str
        What it reads beside the columns that select its rows.
    subject : str
        What it is about, where that is not its rows.
    such_as : str
        A kind that serves as an example, where data name the kinds.
    table : str
        The tables that it reads, where that is not its source.
    """

    name: str
    on: Mapping[str, tuple[str, ...]]
    window: str
    family: Family
    unit: str
    null_rule: str
    words: str
    columns: tuple[str, ...] = ()
    subject: str = "{rows}"
    such_as: str = "portal_login"
    table: str = ""
