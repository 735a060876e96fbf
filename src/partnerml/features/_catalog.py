"""Which features there are: specs as values, names that parse back, and the catalogue of a model.

A name has four parts joined by two underscores: ``source__kind__measure__window``; ``peers__`` before it makes it a
percentile among the partner's peers. Event types may hold two underscores themselves; the first and the last two
parts never do, so a name has one reading.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from partnerml.config import MAX_EVENT_TYPES
from partnerml.errors import ConfigError
from partnerml.features._measure import FORMS, Family, Measure
from partnerml.features._measures import MEASURES, find
from partnerml.features._stream import OTHER, Activity

PEERS = "peers__"


@dataclasses.dataclass(frozen=True, order=True)
class Feature:
    """One feature, as a value.

    Parameters
    ----------
    source : str
        ``events``, ``deals``, ``certifications``, ``activity`` (qualifying activity), ``partners``, ``accounts`` or
        ``pair``.
    kind : str
        The rows that it is about: an event type, ``won``, ``open``, the column of a trait, ... or ``all``.
    measure : str
        The name of an entry of `MEASURES`.
    window : str
        ``30d`` for ``[as_of - 30 days, as_of)``, ``30d_90d`` for a ratio of two, ``12w`` for weeks, ``ever``, or
        ``asof`` for what has no window.
    relative : bool
        Whether it is told as a percentile among the partner's peers.

    Raises
    ------
    ConfigError
        If there is no such feature.
    """

    source: str
    kind: str
    measure: str
    window: str
    relative: bool = False

    def __post_init__(self) -> None:
        entry = find(self.source, self.kind, self.measure) if self.kind else None
        if entry is None:
            raise ConfigError(f"feature {self.name!r}: {self._why_unknown()}")
        if re.fullmatch(entry.window, self.window) is None:
            takes, such_as = FORMS[entry.window]
            raise ConfigError(
                f"feature {self.name!r}: window {self.window!r} does not fit {self.measure} of {self.source}, which "
                f"takes {takes}: write {such_as}"
            )
        if self.measure == "has" and not all(self.kind.partition(".")):
            raise ConfigError(
                f"feature {self.name!r}: write COLUMN.ITEM for one item of a list, as in verticals.retail"
            )
        if self.relative and (entry.family is Family.PAIRS or self.source == "accounts"):
            who = "an account" if self.source == "accounts" else "a pair of lead and partner"
            raise ConfigError(f"feature {self.name!r}: {who} has no peers")

    def _why_unknown(self) -> str:
        named = [entry for entry in MEASURES if entry.name == self.measure]
        if not named:
            return f"no measure {self.measure!r}; there are {', '.join(dict.fromkeys(e.name for e in MEASURES))}"
        of_source = [entry.on[self.source] for entry in named if self.source in entry.on]
        if not of_source:
            sources = dict.fromkeys(source for entry in named for source in entry.on)
            return f"{self.measure} exists for {', '.join(sources)}"
        kinds = dict.fromkeys(kind for kinds in of_source for kind in kinds)
        return f"{self.measure} of {self.source} has the kinds {', '.join(kinds) or 'that data name; none was given'}"

    @property
    def entry(self) -> Measure:
        """What its measure says and how it is built."""
        found = find(self.source, self.kind, self.measure)
        assert found is not None, "checked when it was made"
        return found

    @property
    def name(self) -> str:
        """``source__kind__measure__window``, after ``peers__`` where it is relative."""
        return (PEERS if self.relative else "") + "__".join((self.source, self.kind, self.measure, self.window))

    @classmethod
    def parse(cls, name: str) -> Feature:
        """Return the feature of a name.

        Raises
        ------
        ConfigError
            If the name does not read as a feature.
        """
        relative = name.startswith(PEERS)
        head, _, window = name.removeprefix(PEERS).rpartition("__")
        head, _, measure = head.rpartition("__")
        source, _, kind = head.partition("__")
        if not (source and kind and measure and window):
            raise ConfigError(
                f"{name!r} is not the name of a feature; names read source__kind__measure__window, "
                "such as events__portal_login__count__30d"
            )
        return cls(source, kind, measure, window, relative)

    @classmethod
    def example(cls, entry: Measure) -> Feature:
        """Return a feature of a measure."""
        source, kinds = next(iter(entry.on.items()))
        return cls(source, kinds[0] if kinds else entry.such_as, entry.name, FORMS[entry.window][1])

    @property
    def base(self) -> Feature:
        """The feature whose percentile this is; itself where it is not relative."""
        return dataclasses.replace(self, relative=False) if self.relative else self

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


@dataclasses.dataclass(frozen=True)
class Peers:
    """Whom a partner is compared with: the members of the programme with the same traits at as_of.

    Parameters
    ----------
    by : tuple of str
        Columns of ``partners`` that may be known at the time; a null is a value of its own.
    at_least : int
        Percentiles of smaller groups are null: they would say little, and too much about single partners.
    """

    by: tuple[str, ...] = ("partner_type", "country")
    at_least: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", tuple(self.by))
        if self.at_least < 2:
            raise ConfigError(f"peers.at_least must be at least 2, not {self.at_least}: nobody compares with itself")

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {"by": list(self.by), "at_least": self.at_least}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Peers:
        """Return the value that `to_dict` was made from."""
        return cls(**{**state, "by": tuple(state["by"])}) if state else cls()


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The features of a model, and the vocabularies they were defined over.

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
    vocabularies : mapping of str to tuple of str
        For each column that is a list, the items that have features of their own.
    peers : Peers
        Whom relative features and shrunk rates compare with.
    """

    features: tuple[Feature, ...]
    event_types: tuple[str, ...] = ()
    activity: Activity = Activity()  # noqa: RUF009 (a frozen value)
    static_traits: tuple[str, ...] = ()
    vocabularies: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    peers: Peers = Peers()

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

    @property
    def history_days(self) -> int | None:
        """How far back its windows over events reach, in days; None if one of them has no far edge."""
        windowed = self.of(Family.WINDOWS)
        if any(not feature.days for feature in windowed):
            return None
        return max((_reach(feature) for feature in windowed), default=0)

    def of(self, *families: Family) -> tuple[Feature, ...]:
        """Return the features of some families, in order."""
        return tuple(feature for feature in self.features if feature.entry.family in families)

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
            "vocabularies": {column: list(items) for column, items in self.vocabularies.items()},
            "peers": self.peers.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Catalogue:
        """Return the catalogue that `to_dict` was made from."""
        return cls(
            features=tuple(Feature.parse(name) for name in state["features"]),
            event_types=tuple(state.get("event_types", ())),
            activity=Activity.from_dict(state.get("activity", {})),
            static_traits=tuple(state.get("static_traits", ())),
            vocabularies=MappingProxyType({c: tuple(items) for c, items in state.get("vocabularies", {}).items()}),
            peers=Peers.from_dict(state.get("peers", {})),
        )


def _reach(feature: Feature) -> int:
    # the span before the span is part of this one
    return max(feature.days) * (2 if feature.measure == "prior_ratio" else 1)
