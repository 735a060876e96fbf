"""The catalogues that the tasks start from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import ibis
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._accounts import account_features
from partnerml.features._catalog import Catalogue, Feature, Peers
from partnerml.features._joining import joining_features
from partnerml.features._measures import STREAMS
from partnerml.features._pairs import RECORD, default_pair_features
from partnerml.features._peers import known_peers
from partnerml.features._spine import naive_utc
from partnerml.features._stream import OTHER, Activity, seen_at
from partnerml.features._traits import static_traits, trait_features

if TYPE_CHECKING:
    from partnerml.config import FeaturesConfig
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

WINDOWS = (7, 14, 30, 60, 90, 180, 365)
RATIOS = ((7, 30), (30, 90), (90, 365))
TREND_WEEKS = (12, 26)
MAX_TYPES = 20  # event types with features of their own; rarer ones are "other"
_SPARSE_WINDOWS = (30, 90, 180, 365)
# what BG/NBD and the baseline of recency read (and the rates of peers, RECORD): no pattern takes it away
_ALWAYS = tuple(f"activity__all__{measure}__ever" for measure in ("active_days", "recency_days", "age_days"))
# how a partner compares with its peers: how active it is, how much it sells
_RELATIVE = ("activity__all__active_days__90d", "events__all__count__90d", "deals__won__amount__365d")
# Of a partner on the day of an assignment: how active it is, how much it sells, what it can. Hundreds of days are asked
# for, and every window costs time at each of them.
_CLOSE = frozenset(
    {
        *(("events", measure, window) for measure, window in (("count", "90d"), ("recency_days", "ever"))),
        *(("activity", "active_days", window) for window in ("30d", "90d", "365d")),
        ("activity", "recency_days", "ever"),
        *(("deals", "count", window) for window in ("90d", "365d", "asof")),
        *(("deals", measure, "365d") for measure in ("amount", "amount_mean", "win_rate", "cycle_days")),
        ("certifications", "count", "asof"),
    }
)
# the tasks that take traits alone
_TRAITS = MappingProxyType({"fit": joining_features, "propensity": account_features})


def default_catalogue(
    eco: Ecosystem, *, before: datetime, activity: Activity | None = None, task: str = "churn"
) -> Catalogue:
    """Return the features of a task, as far as the tables allow them and the configuration wants them.

    Event types are those that the configuration lists, else those of rows that were known before a moment, the 20 most
    frequent of them; what comes later or is rarer is counted as ``other``. Items of lists are found likewise. So a
    model never depends on what its first snapshot could not know.

    Parameters
    ----------
    eco : Ecosystem
    before : datetime
        The first as_of that the catalogue is for.
    activity : Activity, optional
        What ``activity`` features count; by default all that qualifies.
    task : str
        ``churn`` (all about a partner), ``fit`` (its traits), ``propensity`` (the traits of an account) or ``close`` (a
        partner on the day of an assignment, and how it suits the lead).

    Returns
    -------
    Catalogue
    """
    moment, config = naive_utc(before), getattr(eco, "config", None)
    settings = None if config is None else config.features
    traits, vocabularies = _TRAITS.get(task, trait_features)(eco, before=moment)
    types: tuple[str, ...] = ()
    # the particular before the general: of columns that are equal in every row, training keeps the first
    features: list[Feature] = []
    if task not in _TRAITS:
        types, has_values = _event_types(eco, moment, None if settings is None else settings.event_types)
        partner = list(_partner(eco, types, has_values))
        features.extend(partner)
    features.extend(traits)
    if task == "close":
        features = [feature for feature in features if _tells_at_assignment(feature)]
    if task == "churn":
        names = {feature.name for feature in features}
        relative = [dataclasses.replace(Feature.parse(name), relative=True) for name in _RELATIVE if name in names]
        features.extend(relative if eco.has("partners") else ())
    if task == "close":
        pairs = default_pair_features(eco)
        features.extend(map(Feature.parse, [*pairs, *(RECORD[:1] if RECORD[1] in pairs else ())]))
    if not features:
        raise ConfigError(
            f"these tables give no feature of {task}: neither partner_history nor partners has a column that may be a "
            "trait; name those that were known at the time in traits.partners"
        )
    if task == "propensity":
        return Catalogue(_chosen(settings, features), vocabularies=vocabularies)
    static = static_traits(eco)
    peers = None if settings is None else Peers(by=settings.peers.by, at_least=settings.peers.at_least)
    return Catalogue(
        _chosen(settings, features),
        event_types=types,
        activity=activity or Activity(),
        static_traits=static,
        vocabularies=vocabularies,
        peers=known_peers(eco, static, peers),
    )


def _chosen(settings: FeaturesConfig | None, features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the features that the configuration wants."""
    if settings is None:
        return tuple(features)
    kept, idle = settings.choose([feature.name for feature in features])
    if idle:
        _logger.warning(
            "features.include and exclude: %s match(es) none of the %d features that these tables give",
            ", ".join(map(repr, idle)),
            len(features),
        )
    if not kept:
        raise ConfigError(
            f"features.include and features.exclude leave none of the {len(features)} features: loosen them"
        )
    wanted = {*kept, *_ALWAYS, *RECORD}
    return tuple(feature for feature in features if feature.name in wanted)


def _event_types(eco: Ecosystem, before: datetime, listed: tuple[str, ...] | None) -> tuple[tuple[str, ...], bool]:
    """Return the event types that have features of their own, by name, and whether events have values."""
    if not eco.has("events"):
        return (), False
    moment = ibis.literal(before, type="timestamp(6)")
    events = eco.table("events")
    known = events.filter(seen_at(eco, "events", events, "occurred_at") < moment)
    values = _.value.count() if eco.has("events", "value") else ibis.literal(0)
    counts = known.group_by("event_type").aggregate(n=_.count(), values=values)
    frame = eco.backend.to_pyarrow(counts).to_pandas()
    has_values = bool(frame["values"].sum() > 0)
    if listed is not None:
        absent = sorted(set(listed) - set(frame["event_type"]))
        if absent:
            _logger.warning(
                "features.event_types: no event before %s has the type %s", before.date(), ", ".join(absent)
            )
        return listed, has_values
    # a type called "all" or "other" would read as the kind of that name
    named = frame[~frame["event_type"].isin(("all", OTHER))]
    top = named.sort_values(["n", "event_type"], ascending=[False, True])["event_type"].head(MAX_TYPES)
    return tuple(sorted(str(name) for name in top)), has_values


def _partner(eco: Ecosystem, types: tuple[str, ...], has_values: bool) -> Iterator[Feature]:
    """Yield what is said of how a partner engages, sells and learns."""
    if eco.has("events"):
        yield from _events(types, has_values)
    if eco.has("deals"):
        yield from _deals(eco)
    if eco.has("certifications"):
        yield from _certifications(eco)
    yield from _activity()
    if eco.has("partners", "joined_at"):
        yield Feature("partners", "all", "tenure_days", "asof")


def _tells_at_assignment(feature: Feature) -> bool:
    # of a list how long it is: what of it the lead asks for is said of the pair
    trait = feature.measure in ("trait", "items")
    single = feature.source == "events" and feature.kind != "all" and feature.measure != "count"
    return trait or ((feature.source, feature.measure, feature.window) in _CLOSE and not single)


def _activity() -> Iterator[Feature]:
    # by day: a sale that is an event and a won deal at once is one
    yield from (Feature("activity", "all", "active_days", f"{days}d") for days in WINDOWS)
    for measure in ("active_days", "recency_days", "age_days"):
        yield Feature("activity", "all", measure, "ever")
    for measure in ("gap_mean", "gap_max", "gap_sd", "recency_over_gap"):
        yield Feature("activity", "all", measure, "365d")
    yield Feature("activity", "all", "streak_weeks", "26w")


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
    yield Feature("events", kind, "share", "90d")
    if has_values:
        # the severity of tickets and the marks of surveys are the values of their events
        yield from (Feature("events", kind, "value", f"{days}d") for days in (90, 365))
        yield Feature("events", kind, "value_mean", "365d")
        yield Feature("events", kind, "value_last", "365d")


def _changes(source: str, kind: str) -> Iterator[Feature]:
    yield from (Feature(source, kind, "count_ratio", f"{a}d_{b}d") for a, b in RATIOS)
    yield from (Feature(source, kind, "prior_ratio", f"{days}d") for days in (30, 90))
    yield from (Feature(source, kind, "count_trend", f"{weeks}w") for weeks in TREND_WEEKS)


def _deals(eco: Ecosystem) -> Iterator[Feature]:
    kinds = STREAMS["deals"][1:]
    closed = eco.has("deals", "closed_at")
    for kind in kinds if closed else kinds[:1]:
        windows = WINDOWS if kind != "lost" else _SPARSE_WINDOWS
        yield from (Feature("deals", kind, "count", f"{days}d") for days in windows)
        yield Feature("deals", kind, "recency_days", "ever")
    yield from _changes("deals", "registered")
    yield Feature("deals", "registered", "age_days", "ever")
    if closed:
        yield from _performance(eco)


def _performance(eco: Ecosystem) -> Iterator[Feature]:
    """Yield what is said of closed and open deals, as far as the columns allow."""
    amounts = eco.has("deals", "amount")
    if amounts:
        yield from (Feature("deals", "won", "amount", f"{days}d") for days in WINDOWS)
        yield Feature("deals", "won", "amount_mean", "365d")
        yield Feature("deals", "won", "amount_ratio", "90d_365d")
    for measure in ("count", "age_days"):
        yield Feature("deals", "open", measure, "asof")
    for measure, column in (("amount", "amount"), ("overdue", "expected_close_at")):
        if eco.has("deal_history", column):
            yield Feature("deals", "open", measure, "asof")
    yield Feature("deals", "all", "win_rate", "365d")
    yield Feature("deals", "won", "cycle_days", "365d")
    if amounts and (eco.has("deals", "role") or eco.has("deal_partners", "role")):
        yield Feature("deals", "won", "sourced_share", "365d")
    if eco.has("deal_partners"):
        yield from (Feature("deals", "won", measure, "365d") for measure in ("joint_rate", "joint_share"))
    for measure, column in (("verticals", "vertical"), ("countries", "country"), ("accounts", "account_id")):
        if eco.has("deals", column):
            yield Feature("deals", "won", measure, "365d")
    if amounts and eco.has("deals", "account_id"):
        yield Feature("deals", "won", "concentration", "365d")


def _certifications(eco: Ecosystem) -> Iterator[Feature]:
    yield Feature("certifications", "earned", "count", "365d")
    yield Feature("certifications", "earned", "recency_days", "ever")
    yield Feature("certifications", "valid", "count", "asof")
    if eco.has("certifications", "expires_at"):
        yield Feature("certifications", "expiring", "count", "90d")
        yield Feature("certifications", "lapsed", "count", "365d")
