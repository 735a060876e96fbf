"""Which features there are: specs as values, names that parse back, and the catalogue of a model.

A name has four parts joined by two underscores: ``source__kind__measure__window``. Event types may hold two
underscores themselves; the first and the last two parts never do, so a name has one reading.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from partnerml.errors import ConfigError
from partnerml.features._stream import KINDS, OTHER, Activity

# measure: the sources that have it, and the form of its window
_WINDOWED = r"(?P<w>[1-9]\d*)d"
_WINDOWED_OR_EVER = rf"{_WINDOWED}|ever"
_STREAMS = ("events", "deals", "certifications", "activity")
MEASURES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "count": (_STREAMS, _WINDOWED_OR_EVER),
    "value": (("events",), _WINDOWED_OR_EVER),
    "amount": (("deals",), _WINDOWED_OR_EVER),
    "active_days": (_STREAMS, _WINDOWED_OR_EVER),
    "distinct_types": (("events",), _WINDOWED),
    "recency_days": (_STREAMS, _WINDOWED_OR_EVER),
    "age_days": (_STREAMS, "ever"),
    "count_ratio": (_STREAMS, rf"{_WINDOWED}_(?P<v>[1-9]\d*)d"),
    "prior_ratio": (_STREAMS, _WINDOWED),
    "count_trend": (_STREAMS, r"(?P<weeks>[2-9]|[1-9]\d+)w"),
    "gap_mean": (("activity",), _WINDOWED),
    "gap_max": (("activity",), _WINDOWED),
    "gap_sd": (("activity",), _WINDOWED),
    "recency_over_gap": (("activity",), _WINDOWED),
    "tenure_days": (("partners",), "asof"),
    "trait": (("partners",), "asof"),
}
GAP_MEASURES = ("gap_mean", "gap_max", "gap_sd", "recency_over_gap")
EVER = "ever"
AS_OF = "asof"


@dataclasses.dataclass(frozen=True, order=True)
class Feature:
    """One feature, as a value.

    Parameters
    ----------
    source : str
        ``events``, ``deals``, ``certifications``, ``activity`` (qualifying activity) or ``partners``.
    kind : str
        An event type, ``registered``/``won``/``lost``, ``earned``, the column of a trait, or ``all``.
    measure : str
        A key of `MEASURES`.
    window : str
        ``30d`` for ``[as_of - 30 days, as_of)``, ``30d_90d`` for a ratio of two, ``12w`` for a trend over weeks,
        ``ever``, or ``asof`` for what has no window.

    Raises
    ------
    ConfigError
        If there is no such feature.
    """

    source: str
    kind: str
    measure: str
    window: str

    def __post_init__(self) -> None:
        allowed = MEASURES.get(self.measure)
        if allowed is None:
            raise ConfigError(f"feature {self.name!r}: no measure {self.measure!r}; there are {', '.join(MEASURES)}")
        sources, window = allowed
        if self.source not in sources:
            raise ConfigError(f"feature {self.name!r}: {self.measure} exists for {', '.join(sources)}")
        if re.fullmatch(window, self.window) is None:
            raise ConfigError(f"feature {self.name!r}: window {self.window!r} does not fit {self.measure}; {_HINT}")
        self._check_kind()

    def _check_kind(self) -> None:
        kinds = ("all", *KINDS.get(self.source, ()))
        open_kinds = self.source == "events" or self.measure == "trait"
        if not self.kind or (not open_kinds and self.kind not in kinds):
            raise ConfigError(f"feature {self.name!r}: {self.source} has the kinds {', '.join(kinds)}")
        if self.measure == "distinct_types" and self.kind != "all":
            raise ConfigError(f"feature {self.name!r}: distinct_types is counted over the kind 'all'")

    @property
    def name(self) -> str:
        """``source__kind__measure__window``."""
        return "__".join((self.source, self.kind, self.measure, self.window))

    @classmethod
    def parse(cls, name: str) -> Feature:
        """Return the feature of a name.

        Raises
        ------
        ConfigError
            If the name does not read as a feature.
        """
        head, _, window = name.rpartition("__")
        head, _, measure = head.rpartition("__")
        source, _, kind = head.partition("__")
        if not (source and kind and measure and window):
            raise ConfigError(
                f"{name!r} is not the name of a feature; names read source__kind__measure__window, "
                "such as events__portal_login__count__30d"
            )
        return cls(source, kind, measure, window)

    @property
    def days(self) -> tuple[int, ...]:
        """The window lengths in days: two for a ratio, none for ``ever`` and ``asof``."""
        if self.window.endswith("w"):
            return (7 * int(self.window[:-1]),)
        return tuple(int(part[:-1]) for part in self.window.split("_") if part.endswith("d"))

    @property
    def series(self) -> tuple[str, str]:
        """(source, kind): the rows that the feature is about."""
        return self.source, self.kind


_HINT = "windows read 30d, ever, asof, 30d_90d (count_ratio) or 12w (count_trend)"


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The features of a model, and the vocabulary they were defined over.

    Parameters
    ----------
    features : tuple of Feature
        In the order of the columns.
    event_types : tuple of str
        The event types that have features of their own; every other type is ``other``. `distinct_types` counts
        the types of this list, and all others as one.
    activity : Activity
        What ``activity`` features count.
    static_traits : tuple of str
        The columns of ``partners`` that may be known at any time; every other trait comes from ``partner_history``
        alone.
    """

    features: tuple[Feature, ...]
    event_types: tuple[str, ...] = ()
    activity: Activity = Activity()  # noqa: RUF009 (a frozen value)
    static_traits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ConfigError(f"catalogue: {len(twice)} feature(s) are listed twice, first {twice[0]}")
        if len(self.event_types) > MAX_EVENT_TYPES:
            raise ConfigError(f"catalogue: {len(self.event_types)} event types, at most {MAX_EVENT_TYPES} are allowed")
        known = {"all", OTHER, *self.event_types}
        strange = [f for f in self.features if f.source == "events" and f.kind not in known]
        if strange:
            raise ConfigError(
                f"catalogue: {strange[0].name} is about {strange[0].kind!r}, which is not among the event types "
                f"{', '.join(self.event_types) or '(none)'}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(feature.name for feature in self.features)

    def only(self, names: Iterable[str]) -> Catalogue:
        """Return the catalogue with just these features, in this order; the vocabulary stays.

        Raises
        ------
        ConfigError
            If a name is not in the catalogue.
        """
        by_name = {feature.name: feature for feature in self.features}
        wanted = tuple(names)
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise ConfigError(f"catalogue: {len(missing)} of {len(wanted)} features are not in it, first {missing[0]}")
        return dataclasses.replace(self, features=tuple(by_name[name] for name in wanted))

    def to_dict(self) -> dict[str, Any]:
        """Return the catalogue as JSON (or YAML) values."""
        return {
            "features": list(self.names),
            "event_types": list(self.event_types),
            "activity": self.activity.to_dict(),
            "static_traits": list(self.static_traits),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Catalogue:
        """Return the catalogue that `to_dict` was made from."""
        return cls(
            features=tuple(Feature.parse(name) for name in state["features"]),
            event_types=tuple(state.get("event_types", ())),
            activity=Activity.from_dict(state.get("activity", {})),
            static_traits=tuple(state.get("static_traits", ())),
        )


MAX_EVENT_TYPES = 60  # they share one 64-bit mask in `distinct_types`
