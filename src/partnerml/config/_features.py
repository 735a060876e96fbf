"""The sections `traits` and `features`: what may become a feature, which features there are, how they are kept."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Annotated

import pydantic
from pydantic import BeforeValidator, Field

from partnerml import schema
from partnerml.config._base import Model, Texts, as_tuple, refusal
from partnerml.config._data import unknown_column
from partnerml.config._reading import nearest

DEFAULT_TRAITS = (
    "partner_type",
    "country",
    "region",
    "postal_code",
    "latitude",
    "longitude",
    "verticals",
    "languages",
)

# today's value of these tells what became of a partner
NEVER_TRAITS = (
    "tier",
    "left_at",
    "paused_until",
    "flags",
    "capacity_per_day",
    "capacity_per_week",
    "max_open_leads",
)

# whether it is a partner and whose is what is predicted; which company it is says nothing of others
NEVER_OF_ACCOUNTS = ("account_id", "is_partner", "partner_since", "partner_id", "owner_partner_id", "name", "domain")

# the first part of the names of features, and the two kinds of events that are no types
FEATURE_SOURCES = ("events", "deals", "certifications", "activity", "partners", "accounts", "pair")
_PEERS = "peers__"
_RESERVED_TYPES = ("all", "other")
MAX_EVENT_TYPES = 60  # with the others they share one 64-bit mask in `distinct_types`
_GROUPING_TYPES = (
    schema.Type.TEXT,
    schema.Type.SLUG,
    schema.Type.COUNTRY,
    schema.Type.REGION,
    schema.Type.BOOLEAN,
    schema.Type.INTEGER,
    schema.Type.TIME_ZONE,
)

_SLUG = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


class TraitsConfig(Model):
    """Columns that may become features: those that were known at the time."""

    partners: Texts = Field(default=DEFAULT_TRAITS, description="of partners and recruits")
    accounts: Texts = Field(default=(), description="of accounts")
    leads: Texts = Field(default=(), description="of leads")

    @pydantic.field_validator("partners")
    @classmethod
    def _known_at_the_time(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in NEVER_TRAITS:
                raise refusal(
                    f"{name} changes with what is predicted, and `partners` holds it as it is now; it becomes a "
                    "feature from partner_history only, without being named here"
                )
        return value

    @pydantic.field_validator("accounts")
    @classmethod
    def _of_any_company(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in NEVER_OF_ACCOUNTS:
                raise refusal(
                    f"{name} tells whether the account is a partner, or which one it is; name columns that were known "
                    "before anybody became one, such as industry, country or employees"
                )
        return value


class PeersConfig(Model):
    """Whom a partner is compared with."""

    by: Texts = Field(
        default=("partner_type", "country"),
        description="columns of partners: those with the same values in all of them are peers",
    )
    at_least: int = Field(default=20, ge=2, description="percentiles of groups with fewer members are null")

    @pydantic.field_validator("by")
    @classmethod
    def _groups(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        table = schema.TABLES["partners"]
        for name in value:
            problem = unknown_column(table, name)
            if problem:
                raise refusal(problem)
            column = table.column(name)
            if column is not None and column.type not in _GROUPING_TYPES:
                raise refusal(
                    f"{name} is a column of type {column.type.value} and does not make groups of peers; name columns "
                    "that many partners have in common, such as partner_type, country or region"
                )
        return _once(value)


class FeaturesConfig(Model):
    """Which features there are, and how they are kept."""

    event_types: Annotated[tuple[str, ...] | None, BeforeValidator(as_tuple)] = Field(
        default=None,
        description="event types with features of their own; all others count as `other`; "
        "null = the most frequent ones that were known before the first snapshot",
    )
    include: Texts = Field(
        default=("*",), description="only features whose names match one of these shell patterns, such as `events__*`"
    )
    exclude: Texts = Field(default=(), description="no features whose names match one of these")
    peers: PeersConfig = Field(
        default_factory=PeersConfig, description="whom percentiles among peers and shrunken win rates compare with"
    )
    cells: bool = Field(
        default=False, description="keep the events of each day, folded, in OUT/cells: a run then reads only new rows"
    )

    @pydantic.field_validator("event_types")
    @classmethod
    def _types(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        for name in value:
            if _SLUG.fullmatch(name) is None or name in _RESERVED_TYPES:
                raise refusal(
                    f"{name!r} is not an event type as events.event_type holds them; write slugs such as portal_login "
                    f"({' and '.join(_RESERVED_TYPES)} mean every type and the types that are not listed)"
                )
        if len(set(value)) > MAX_EVENT_TYPES:
            raise refusal(
                f"{len(set(value))} event types, and at most {MAX_EVENT_TYPES} can have features of their own; list "
                "those that matter, the others count as `other`"
            )
        return tuple(sorted(set(value)))

    @pydantic.field_validator("include", "exclude")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            problem = impossible_pattern(pattern)
            if problem:
                raise refusal(problem)
        return _once(value)

    @pydantic.field_validator("include")
    @classmethod
    def _something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise refusal('an empty list leaves no feature; write ["*"] for all of them, or leave the key out')
        return value

    def choose(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names that `include` and `exclude` leave, in order, and the patterns that match none of all."""
        known = tuple(names)
        kept = tuple(name for name in known if _matches(name, self.include) and not _matches(name, self.exclude))
        given = [pattern for pattern in (*self.include, *self.exclude) if pattern != "*"]
        return kept, tuple(pattern for pattern in given if not any(_matches(name, (pattern,)) for name in known))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _once(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value))


def impossible_pattern(pattern: str) -> str:
    """Return why no feature can ever match a shell pattern; empty if one can."""
    head = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    starts = [f"{prefix}{source}__" for prefix in ("", _PEERS) for source in FEATURE_SOURCES]
    if any(head.startswith(start) or start.startswith(head) for start in starts):
        return ""
    source = head.removeprefix(_PEERS).partition("__")[0]
    return (
        f"no feature can match {pattern!r}: names read source__kind__measure__window, after {_PEERS} for percentiles "
        f"among peers, with one of the sources {', '.join(FEATURE_SOURCES)}{nearest(source, FEATURE_SOURCES)}"
    )
