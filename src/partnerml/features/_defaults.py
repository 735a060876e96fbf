"""The catalogue that the churn task starts from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import ibis
from ibis import _

from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._spine import naive_utc
from partnerml.features._stream import KINDS, OTHER, Activity, seen_at
from partnerml.features._traits import historic_traits, static_traits

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

WINDOWS = (7, 14, 30, 60, 90, 180, 365)
RATIOS = ((7, 30), (30, 90), (90, 365))
TREND_WEEKS = (12, 26)
MAX_TYPES = 20  # event types with features of their own; rarer ones are "other"
_SPARSE_WINDOWS = (30, 90, 180, 365)


def default_catalogue(eco: Ecosystem, *, before: datetime, activity: Activity | None = None) -> Catalogue:
    """Return the features of the churn task.

    Event types are those of rows that were known before a moment, the 20 most frequent of them; what comes later
    or is rarer is counted as ``other``, so a model never depends on what its first snapshot could not know.

    Parameters
    ----------
    eco : Ecosystem
    before : datetime
        The first as_of that the catalogue is for.
    activity : Activity, optional
        What ``activity`` features count; by default all that qualifies.

    Returns
    -------
    Catalogue
    """
    chosen = activity or Activity()
    types, has_values = _event_types(eco, naive_utc(before))
    # the particular before the general: of columns that are equal in every row, training keeps the first
    features: list[Feature] = []
    if eco.has("events"):
        features.extend(_events(types, has_values))
    if eco.has("deals"):
        features.extend(_deals(eco))
    if eco.has("certifications"):
        features.extend(
            Feature("certifications", "all", m, w) for m, w in (("count", "365d"), ("recency_days", "ever"))
        )
    static, historic = static_traits(eco), historic_traits(eco)
    features.extend(_activity())
    if eco.has("partners", "joined_at"):
        features.append(Feature("partners", "all", "tenure_days", "asof"))
    features.extend(Feature("partners", name, "trait", "asof") for name in dict.fromkeys((*static, *historic)))
    return Catalogue(tuple(features), event_types=types, activity=chosen, static_traits=static)


def _event_types(eco: Ecosystem, before: datetime) -> tuple[tuple[str, ...], bool]:
    """Return the event types known before a moment, the most frequent ones by name, and whether events have values."""
    if not eco.has("events"):
        return (), False
    moment = ibis.literal(before, type="timestamp(6)")
    events = eco.table("events")
    known = events.filter(seen_at(eco, "events", events, "occurred_at") < moment)
    values = _.value.count() if eco.has("events", "value") else ibis.literal(0)
    counts = known.group_by("event_type").aggregate(n=_.count(), values=values)
    frame = eco.backend.to_pyarrow(counts).to_pandas()
    # a type called "all" or "other" would read as the kind of that name
    named = frame[~frame["event_type"].isin(("all", OTHER))]
    top = named.sort_values(["n", "event_type"], ascending=[False, True])["event_type"].head(MAX_TYPES)
    return tuple(sorted(str(name) for name in top)), bool(frame["values"].sum() > 0)


def _activity() -> Iterator[Feature]:
    # by day: a sale that is an event and a won deal at once is one
    yield from (Feature("activity", "all", "active_days", f"{days}d") for days in WINDOWS)
    for measure in ("active_days", "recency_days", "age_days"):
        yield Feature("activity", "all", measure, "ever")
    for measure in ("gap_mean", "gap_max", "gap_sd", "recency_over_gap"):
        yield Feature("activity", "all", measure, "365d")


def _events(types: tuple[str, ...], has_values: bool) -> Iterator[Feature]:
    if len(types) > 1:
        for kind in types:
            yield from _event_type(kind, has_values)
        yield from (Feature("events", "all", "distinct_types", f"{days}d") for days in (30, 90, 365))
        yield Feature("events", OTHER, "count", "90d")
    # the one type that there is has the name that people know it by
    yield from _every_event(types[0] if len(types) == 1 else "all", has_values)


def _every_event(kind: str, has_values: bool) -> Iterator[Feature]:
    for measure in ("count", "active_days", *(("value",) if has_values else ())):
        yield from (Feature("events", kind, measure, f"{days}d") for days in WINDOWS)
    yield Feature("events", kind, "recency_days", "ever")
    yield Feature("events", kind, "age_days", "ever")
    yield from _changes("events", kind)


def _event_type(kind: str, has_values: bool) -> Iterator[Feature]:
    yield from (Feature("events", kind, "count", f"{days}d") for days in WINDOWS)
    yield from (Feature("events", kind, "active_days", f"{days}d") for days in (90, 365))
    yield Feature("events", kind, "recency_days", "ever")
    yield Feature("events", kind, "count_ratio", "30d_90d")
    if has_values:
        yield from (Feature("events", kind, "value", f"{days}d") for days in (90, 365))


def _changes(source: str, kind: str) -> Iterator[Feature]:
    yield from (Feature(source, kind, "count_ratio", f"{a}d_{b}d") for a, b in RATIOS)
    yield from (Feature(source, kind, "prior_ratio", f"{days}d") for days in (30, 90))
    yield from (Feature(source, kind, "count_trend", f"{weeks}w") for weeks in TREND_WEEKS)


def _deals(eco: Ecosystem) -> Iterator[Feature]:
    closed = eco.has("deals", "closed_at")
    for kind in KINDS["deals"] if closed else KINDS["deals"][:1]:
        windows = WINDOWS if kind != "lost" else _SPARSE_WINDOWS
        yield from (Feature("deals", kind, "count", f"{days}d") for days in windows)
        yield Feature("deals", kind, "recency_days", "ever")
    yield from _changes("deals", "registered")
    yield Feature("deals", "registered", "age_days", "ever")
    if closed and eco.has("deals", "amount"):
        yield from (Feature("deals", "won", "amount", f"{days}d") for days in WINDOWS)
