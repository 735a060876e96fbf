"""Traits and percentiles among peers row by row, in plain Python over lists of dicts: slow and obvious.

It shares no code with `partnerml.features`. Moments are naive UTC; a missing column is a missing key.
"""

from __future__ import annotations

from datetime import timedelta

DAY = timedelta(days=1)


def value(column, partner_id, as_of, tables, *, lags=None, static=()):
    """A column of a partner as it was known before as_of."""
    lag = (lags or {}).get("partner_history", timedelta(0))
    best = None
    for row in tables.get("partner_history", []):
        seen = row["partner_id"] == partner_id and column in row and row["valid_from"] + lag < as_of
        if seen and (best is None or row["valid_from"] > best["valid_from"]):
            best = row
    if best is not None:
        return best[column]
    if column not in static:
        return None
    (partner,) = (row for row in tables["partners"] if row["partner_id"] == partner_id)
    return partner.get(column)


def at_joining(column, partner_id, as_of, tables, *, static=()):
    """A column of a partner or recruit as it was signed."""
    for row in tables.get("recruits", []):
        if row["partner_id"] == partner_id:
            return row.get(column)
    past = [
        row
        for row in tables.get("partner_history", [])
        if row["partner_id"] == partner_id and column in row and row["valid_from"] <= as_of
    ]
    if past:
        return sorted(past, key=lambda row: row["valid_from"])[-1][column]
    if column not in static:
        return None
    return next((row.get(column) for row in tables["partners"] if row["partner_id"] == partner_id), None)


def feature(name, found, as_of, *, items=None):
    """The feature of a trait from the value of its column; items: the item that each name of `has` stands for."""
    kind, measure, _window = name.removeprefix("partners__").rsplit("__", 2)
    if found is None:
        return None
    if measure == "items":
        return float(len(found))
    if measure == "since_days":
        return (as_of - found) / DAY
    if measure == "trait":
        return found if isinstance(found, str) else float(found)
    assert measure == "has"
    wanted = (items or {}).get(kind, kind.split(".", 1)[1]).split(".")
    return float(any(item.lower().split(".")[: len(wanted)] == wanted for item in found))


def is_member(partner, as_of, *, lags=None):
    """Whether a partner was in the programme, as far as was known."""
    lag = (lags or {}).get("partners", timedelta(0))
    joined, left = partner.get("joined_at"), partner.get("left_at")
    if joined is not None and joined + lag >= as_of:
        return False
    return left is None or left + lag >= as_of


def percentile(value_of, partner_id, as_of, tables, *, by, at_least, lags=None, static=()):
    """100 (average rank - 1) / (n - 1) of a partner among itself and the members of its group that have a value."""

    def group(who):
        return [value(column, who, as_of, tables, lags=lags, static=static) for column in by]

    own = value_of(partner_id)
    members = [
        row["partner_id"]
        for row in tables["partners"]
        if is_member(row, as_of, lags=lags)
        and group(row["partner_id"]) == group(partner_id)
        and value_of(row["partner_id"]) is not None
    ]
    if own is None or len(members) < at_least:
        return None
    values = sorted(value_of(who) for who in {*members, partner_id})
    ranks = [rank for rank, other in enumerate(values, start=1) if other == own]
    return 100 * (sum(ranks) / len(ranks) - 1) / (len(values) - 1)
