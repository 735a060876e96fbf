"""What can be said about a partner: every measure as data, with its unit, its null rule and its words.

A measure and the rows that it is about make one entry; a name of the catalogue is checked, described and built by the
entry that it finds here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from partnerml.features._measure import (
    ANY,
    AS_OF,
    DAYS,
    DAYS_OR_EVER,
    EVER,
    STREAK_WEEKS,
    TWO_SPANS,
    WEEKS,
    ZERO,
    Family,
    Measure,
)
from partnerml.features._pair_measures import pair_measures

STREAMS: Mapping[str, tuple[str, ...]] = {
    "events": ANY,
    "deals": ("all", "registered", "won", "lost"),
    "certifications": ("all", "earned"),
    "activity": ("all",),
}
_EVENTS = {"events": ANY}
_CLOSED = {"deals": ("won", "lost")}
_WON = {"deals": ("won",)}
_OPEN = {"deals": ("open",)}
_TRAITS = {"partners": ANY, "accounts": ANY}
_AMOUNT = ("amount",)
_REVENUE = "{revenue}"
_CUSTOMERS = (
    ("verticals", "vertical", "industries"),
    ("countries", "country", "countries"),
    ("accounts", "account_id", "customers"),
)

_NO_VALUE = "null if none has a value"
_TWO_DAYS = "null with fewer than two active days"


def _windows() -> Iterator[Measure]:
    """Yield the folds over windows of what partners did."""
    w = Family.WINDOWS
    yield Measure("count", STREAMS, DAYS_OR_EVER, w, "count", ZERO, "{rows} {during}")
    for name, fold, rule in (
        ("value", "value of {rows}", ZERO),
        ("value_mean", "mean value of {rows}", _NO_VALUE),
        ("value_min", "lowest value of {rows}", _NO_VALUE),
        ("value_max", "highest value of {rows}", _NO_VALUE),
        ("value_last", "value of the last of the {rows}", _NO_VALUE),
    ):
        yield Measure(name, _EVENTS, DAYS_OR_EVER, w, "value", rule, fold + " {during}", ("value",), "value of {rows}")
    yield Measure("amount", _CLOSED, DAYS_OR_EVER, w, "money", ZERO, "revenue of {rows} {during}", _AMOUNT, _REVENUE)
    yield Measure(
        "amount_mean",
        _CLOSED,
        DAYS_OR_EVER,
        w,
        "money",
        "null if none has an amount",
        "mean amount of {rows} {during}",
        _AMOUNT,
        "amount of {rows}",
    )
    yield Measure("active_days", STREAMS, DAYS_OR_EVER, w, "count", ZERO, "days with {rows} {during}")
    yield Measure(
        "distinct_types",
        {"events": ("all",)},
        DAYS,
        w,
        "count",
        ZERO,
        "different types of {rows} {during}",
        ("event_type",),
    )
    yield Measure(
        "share",
        {"events": ANY, "deals": ("registered", "won", "lost")},
        DAYS,
        w,
        "ratio",
        "null if the source has no rows",
        "share of {rows} in all {source} {during}",
    )
    yield Measure(
        "recency_days", STREAMS, DAYS_OR_EVER, w, "days", "null if never", "days since the last of the {rows}{within}"
    )
    yield Measure("age_days", STREAMS, EVER, w, "days", "null if never", "days since the first of the {rows}")
    yield from _changes(w)
    yield from _rhythm(w)


def _changes(w: Family) -> Iterator[Measure]:
    """Yield how one window compares with another."""
    over = "{during} over that of the last {longest} days"
    none = "null if the longer window holds none"
    yield Measure("count_ratio", STREAMS, TWO_SPANS, w, "ratio", none, "rate of {rows} " + over)
    yield Measure(
        "value_ratio",
        _EVENTS,
        TWO_SPANS,
        w,
        "ratio",
        "null if the longer window sums to 0",
        "daily value of {rows} " + over,
        ("value",),
        "value of {rows}",
    )
    yield Measure(
        "amount_ratio",
        _CLOSED,
        TWO_SPANS,
        w,
        "ratio",
        "null if the longer window sums to 0",
        "daily revenue of {rows} " + over,
        _AMOUNT,
        _REVENUE,
    )
    yield Measure(
        "prior_ratio",
        STREAMS,
        DAYS,
        w,
        "ratio",
        "null if the window before holds none",
        "{rows} {during} for each in the {shortest} days before",
    )
    yield Measure(
        "count_trend", STREAMS, WEEKS, w, "per week", ZERO, "weekly change of {rows} over the last {weeks} weeks"
    )
    yield Measure(
        "streak_weeks",
        STREAMS,
        STREAK_WEEKS,
        w,
        "weeks",
        "0 if the last seven days hold none",
        "weeks in a row with {rows}, of the last {weeks}",
    )


def _rhythm(w: Family) -> Iterator[Measure]:
    """Yield what is said of the gaps between active days."""
    yield Measure("gap_mean", STREAMS, DAYS, w, "days", _TWO_DAYS, "mean gap between days with {rows} {during}")
    yield Measure("gap_max", STREAMS, DAYS, w, "days", _TWO_DAYS, "longest gap between days with {rows} {during}")
    yield Measure("gap_sd", STREAMS, DAYS, w, "days", _TWO_DAYS, "spread of the gaps between days with {rows} {during}")
    yield Measure(
        "recency_over_gap",
        STREAMS,
        DAYS,
        w,
        "ratio",
        _TWO_DAYS,
        "days since the last of the {rows} over their mean gap {during}",
    )


def _open_deals() -> Iterator[Measure]:
    """Yield what is said of the deals that were open at as_of."""
    d = Family.DEALS
    yield Measure("count", _OPEN, AS_OF, d, "count", ZERO, "{rows}")
    yield Measure(
        "amount",
        _OPEN,
        AS_OF,
        d,
        "money",
        "0 if there are none with an amount on record then",
        "amount of {rows}",
        ("deal_history.amount",),
        "pipeline",
    )
    yield Measure("age_days", _OPEN, AS_OF, d, "days", "null if there are none", "mean age in days of {rows}")
    yield Measure(
        "overdue",
        _OPEN,
        AS_OF,
        d,
        "count",
        ZERO,
        "{rows} past the date they were expected to close",
        ("deal_history.expected_close_at",),
    )


def _closed_deals() -> Iterator[Measure]:
    """Yield what is said of the deals that had closed by as_of, as far as was known."""
    d = Family.DEALS
    yield Measure(
        "win_rate",
        {"deals": ("all",)},
        DAYS_OR_EVER,
        d,
        "ratio",
        "null if nobody's deals closed",
        "share of closed deals won {during}, allowing for small numbers",
        subject="win rate",
    )
    yield Measure(
        "cycle_days",
        _CLOSED,
        DAYS_OR_EVER,
        d,
        "days",
        "null if there are none",
        "mean days from registration to close of {rows} {during}",
        subject="days to close",
    )
    yield Measure(
        "sourced_share",
        _WON,
        DAYS_OR_EVER,
        d,
        "ratio",
        "null without revenue that has a role",
        "share of the revenue {during} that the partner brought itself",
        ("amount", "role"),
        "sourced revenue",
    )
    yield Measure(
        "joint_rate",
        _WON,
        DAYS_OR_EVER,
        d,
        "ratio",
        "null if there are none",
        "share of {rows} {during} that had other partners too",
        ("deal_partners.partner_id",),
        "joint deals",
    )
    yield Measure(
        "joint_share",
        _WON,
        DAYS_OR_EVER,
        d,
        "ratio",
        "null if none had other partners",
        "mean share of the revenue of joint deals won {during}",
        ("deal_partners.share",),
        "joint deals",
    )


def _customers() -> Iterator[Measure]:
    """Yield what is said of whom a partner sold to."""
    d = Family.DEALS
    for name, column, customers in _CUSTOMERS:
        words = f"different {customers} of {{rows}} {{during}}"
        yield Measure(name, _WON, DAYS_OR_EVER, d, "count", ZERO, words, (column,), customers)
    yield Measure(
        "concentration",
        _WON,
        DAYS_OR_EVER,
        d,
        "ratio",
        "null without revenue",
        "concentration of revenue on few customers {during} (1: a single one)",
        ("amount", "account_id"),
        "customer concentration",
    )


def _certifications() -> Iterator[Measure]:
    """Yield what is said of certifications as they stood at as_of."""
    c = Family.CERTIFICATIONS
    ends = ("expires_at", "revoked_at", "certification")
    yield Measure("count", {"certifications": ("valid",)}, AS_OF, c, "count", ZERO, "valid certifications", ends)
    yield Measure(
        "count",
        {"certifications": ("expiring",)},
        DAYS,
        c,
        "count",
        ZERO,
        "valid certifications that expire in the next {shortest} days",
        ends,
    )
    yield Measure(
        "count", {"certifications": ("lapsed",)}, DAYS, c, "count", ZERO, "certifications that lapsed {during}", ends
    )


def _traits() -> Iterator[Measure]:
    """Yield what is said of what a partner is."""
    t, unknown = Family.TRAITS, "null if unknown"
    yield Measure("trait", _TRAITS, AS_OF, t, "category", unknown, "{trait}", (), "{trait}", "country")
    words = "{trait} include {item}"
    yield Measure("has", _TRAITS, AS_OF, t, "yes or no", unknown, words, (), "{trait} {item}", "languages.de")
    words = "number of {trait}"
    yield Measure("items", _TRAITS, AS_OF, t, "count", unknown, words, (), words, "verticals")
    yield Measure(
        "since_days",
        _TRAITS,
        AS_OF,
        t,
        "days",
        f"{unknown}; negative if it lies ahead",
        "days since {trait}",
        (),
        "{trait}",
        "founded_at",
    )
    yield Measure(
        "tenure_days",
        {"partners": ("all",)},
        AS_OF,
        t,
        "days",
        "null without a joining date",
        "days since joining",
        ("joined_at",),
        "tenure",
    )


MEASURES: Sequence[Measure] = (
    *_windows(),
    *_open_deals(),
    *_closed_deals(),
    *_customers(),
    *_certifications(),
    *_traits(),
    *pair_measures(),
)


@functools.cache
def find(source: str, kind: str, measure: str) -> Measure | None:
    """Return the entry of a source, kind and measure; None if there is none."""
    for entry in MEASURES:
        if entry.name == measure and source in entry.on:
            kinds = entry.on[source]
            if kinds == ANY or kind in kinds:
                return entry
    return None
