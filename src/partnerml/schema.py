"""The canonical tables: their columns, types and keys, declared once.

Column names of canonical tables live here and nowhere else. What is declared here drives the mapping of
sources (`ecosystem`), the checks (`validation`) and the docs page of the tables.

Inside partnerml every moment is a naive timestamp in UTC with microseconds; what is handed to users is zoned UTC.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping


class Type(enum.Enum):
    """What a canonical column holds; decides its cast and its checks."""

    ID = "id"  # text, trimmed, never case-folded; integers become decimal text, floats are refused
    TEXT = "text"
    SLUG = "slug"  # lower-case letters, digits and underscores: safe inside a feature name
    TIMESTAMP = "timestamp"
    NUMBER = "number"  # float64
    AMOUNT = "amount"  # major units of a currency, never negative
    INTEGER = "integer"
    SHARE = "share"  # a number in [0, 1]
    BOOLEAN = "boolean"
    LIST = "list"  # of text: native, a JSON array, or text split at ';' or '|'
    COUNTRY = "country"  # ISO 3166-1 alpha-2
    REGION = "region"  # ISO 3166-2
    CURRENCY = "currency"  # ISO 4217
    TIME_ZONE = "time_zone"  # IANA
    LATITUDE = "latitude"
    LONGITUDE = "longitude"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a canonical table.

    Attributes
    ----------
    name : str
    type : Type
    required : bool
        The column must be there and never null.
    values : tuple of str
        The only texts allowed, where there is such a list.
    default : str or None
        What a null or an absent column means.
    """

    name: str
    type: Type
    required: bool = False
    values: tuple[str, ...] = ()
    default: str | None = None


@dataclasses.dataclass(frozen=True)
class Reference:
    """A column whose values must be keys of another table, where that table exists."""

    column: str
    table: str
    key: str


@dataclasses.dataclass(frozen=True)
class Table:
    """One canonical table.

    Attributes
    ----------
    name : str
    columns : tuple of Column
    key : tuple of str
        The columns that identify a row; empty where a table has no key.
    references : tuple of Reference
        Rows that point nowhere are orphans.
    event_time : str or None
        The moment a row happened.
    recorded : tuple of (str, str)
        Pairs of a moment and the column that tells when it was *recorded*.
    open_columns : bool
        Whether other columns may ride along (as traits).
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    event_time: str | None = None
    recorded: tuple[tuple[str, str], ...] = ()
    open_columns: bool = False

    def column(self, name: str) -> Column | None:
        """Return the declared column of that name, or None."""
        return self._by_name.get(name)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the columns without which the table is refused."""
        return tuple(column.name for column in self.columns if column.required)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all declared columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def _by_name(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.columns}


def _required(name: str, type: Type, values: tuple[str, ...] = ()) -> Column:
    return Column(name, type, required=True, values=values)


OUTCOMES = ("open", "won", "lost", "cancelled")
ROLES = ("sourced", "influenced")
ACTORS = ("partner", "vendor", "system")
REGISTRATION_STATUSES = ("pending", "approved", "denied", "expired")
RESPONSES = ("accepted", "declined", "expired", "withdrawn")
ORIGINS = ("routed", "partner_submitted", "manual")

_OF_PARTNER = Reference("partner_id", "partners", "partner_id")
_OF_DEAL = Reference("deal_id", "deals", "deal_id")

_PLACE = (
    Column("country", Type.COUNTRY),
    Column("region", Type.REGION),
    Column("postal_code", Type.TEXT),
    Column("latitude", Type.LATITUDE),
    Column("longitude", Type.LONGITUDE),
)

_PARTNER_COLUMNS = (
    Column("joined_at", Type.TIMESTAMP),
    Column("left_at", Type.TIMESTAMP),
    Column("name", Type.TEXT),
    Column("partner_type", Type.TEXT),
    Column("tier", Type.TEXT),
    Column("parent_id", Type.ID),
    *_PLACE,
    Column("time_zone", Type.TIME_ZONE),
    Column("verticals", Type.LIST),
    Column("languages", Type.LIST),
    Column("capacity_per_day", Type.INTEGER),
    Column("capacity_per_week", Type.INTEGER),
    Column("max_open_leads", Type.INTEGER),
    Column("paused_until", Type.TIMESTAMP),
    Column("min_deal_amount", Type.AMOUNT),
    Column("max_deal_amount", Type.AMOUNT),
    Column("flags", Type.LIST),
)

PARTNERS = Table(
    "partners",
    (_required("partner_id", Type.ID), *_PARTNER_COLUMNS),
    key=("partner_id",),
    open_columns=True,
)

PARTNER_HISTORY = Table(
    "partner_history",
    (_required("partner_id", Type.ID), _required("valid_from", Type.TIMESTAMP), *_PARTNER_COLUMNS),
    key=("partner_id", "valid_from"),
    references=(_OF_PARTNER,),
    event_time="valid_from",
    open_columns=True,
)

EVENTS = Table(
    "events",
    (
        Column("event_id", Type.ID),
        _required("partner_id", Type.ID),
        _required("occurred_at", Type.TIMESTAMP),
        _required("event_type", Type.SLUG),
        Column("value", Type.NUMBER),
        Column("actor", Type.TEXT, values=ACTORS, default="partner"),
        Column("recorded_at", Type.TIMESTAMP),
    ),
    key=("event_id",),
    references=(_OF_PARTNER,),
    event_time="occurred_at",
    recorded=(("occurred_at", "recorded_at"),),
)

DEALS = Table(
    "deals",
    (
        _required("deal_id", Type.ID),
        Column("partner_id", Type.ID),
        _required("registered_at", Type.TIMESTAMP),
        _required("outcome", Type.TEXT, OUTCOMES),
        Column("closed_at", Type.TIMESTAMP),
        Column("expected_close_at", Type.TIMESTAMP),
        Column("amount", Type.AMOUNT),
        Column("currency", Type.CURRENCY),
        Column("account_id", Type.ID),
        Column("lead_id", Type.ID),
        Column("vertical", Type.TEXT),
        Column("country", Type.COUNTRY),
        Column("region", Type.REGION),
        Column("product", Type.TEXT),
        Column("role", Type.TEXT, values=ROLES),
        Column("registration_status", Type.TEXT, values=REGISTRATION_STATUSES),
        Column("protected_until", Type.TIMESTAMP),
        Column("recorded_at", Type.TIMESTAMP),
        Column("closed_recorded_at", Type.TIMESTAMP),
    ),
    key=("deal_id",),
    references=(_OF_PARTNER,),
    event_time="registered_at",
    recorded=(("registered_at", "recorded_at"), ("closed_at", "closed_recorded_at")),
)

DEAL_HISTORY = Table(
    "deal_history",
    (
        _required("deal_id", Type.ID),
        _required("valid_from", Type.TIMESTAMP),
        Column("amount", Type.AMOUNT),
        Column("expected_close_at", Type.TIMESTAMP),
        Column("stage", Type.TEXT),
        Column("registration_status", Type.TEXT, values=REGISTRATION_STATUSES),
        Column("protected_until", Type.TIMESTAMP),
    ),
    key=("deal_id", "valid_from"),
    references=(_OF_DEAL,),
    event_time="valid_from",
)

DEAL_PARTNERS = Table(
    "deal_partners",
    (
        _required("deal_id", Type.ID),
        _required("partner_id", Type.ID),
        Column("role", Type.TEXT, values=ROLES),
        Column("is_primary", Type.BOOLEAN),
        Column("share", Type.SHARE),
    ),
    key=("deal_id", "partner_id"),
    references=(_OF_DEAL, _OF_PARTNER),
)

CERTIFICATIONS = Table(
    "certifications",
    (
        _required("partner_id", Type.ID),
        _required("certification", Type.TEXT),
        _required("earned_at", Type.TIMESTAMP),
        Column("expires_at", Type.TIMESTAMP),
        Column("revoked_at", Type.TIMESTAMP),
        Column("recorded_at", Type.TIMESTAMP),
    ),
    references=(_OF_PARTNER,),
    event_time="earned_at",
    recorded=(("earned_at", "recorded_at"),),
)

ACCOUNTS = Table(
    "accounts",
    (
        _required("account_id", Type.ID),
        Column("created_at", Type.TIMESTAMP),
        Column("is_partner", Type.BOOLEAN),
        Column("partner_since", Type.TIMESTAMP),
        Column("partner_id", Type.ID),
        Column("owner_partner_id", Type.ID),
        Column("name", Type.TEXT),
        Column("domain", Type.TEXT),
        Column("country", Type.COUNTRY),
    ),
    key=("account_id",),
    event_time="created_at",
    open_columns=True,
)

LEADS = Table(
    "leads",
    (
        _required("lead_id", Type.ID),
        _required("created_at", Type.TIMESTAMP),
        Column("account_id", Type.ID),
        Column("account_name", Type.TEXT),
        Column("domain", Type.TEXT),
        *_PLACE,
        Column("vertical", Type.TEXT),
        Column("product", Type.TEXT),
        Column("amount", Type.AMOUNT),
        Column("currency", Type.CURRENCY),
        Column("languages", Type.LIST),
        Column("required_certifications", Type.LIST),
        Column("excluded_partners", Type.LIST),
        Column("source_partner_id", Type.ID),
        Column("consent", Type.BOOLEAN),
    ),
    key=("lead_id",),
    event_time="created_at",
    open_columns=True,
)

ASSIGNMENTS = Table(
    "assignments",
    (
        _required("lead_id", Type.ID),
        _required("partner_id", Type.ID),
        _required("assigned_at", Type.TIMESTAMP),
        Column("propensity", Type.SHARE),
        Column("explores", Type.BOOLEAN),
        Column("response", Type.TEXT, values=RESPONSES),
        Column("responded_at", Type.TIMESTAMP),
        Column("outcome", Type.TEXT, values=OUTCOMES),
        Column("closed_at", Type.TIMESTAMP),
        Column("amount", Type.AMOUNT),
        Column("closed_recorded_at", Type.TIMESTAMP),
        Column("origin", Type.TEXT, values=ORIGINS),
        Column("policy", Type.TEXT),
    ),
    key=("lead_id", "partner_id", "assigned_at"),
    references=(Reference("lead_id", "leads", "lead_id"), _OF_PARTNER),
    event_time="assigned_at",
    recorded=(("closed_at", "closed_recorded_at"),),
)

RECRUITS = Table(
    "recruits",
    (
        _required("partner_id", Type.ID),
        Column("joined_at", Type.TIMESTAMP),
        Column("name", Type.TEXT),
        Column("partner_type", Type.TEXT),
        *_PLACE,
        Column("verticals", Type.LIST),
        Column("languages", Type.LIST),
    ),
    key=("partner_id",),
    open_columns=True,
)

TERRITORIES = Table(
    "territories",
    (
        _required("partner_id", Type.ID),
        Column("country", Type.COUNTRY),
        Column("region", Type.REGION),
        Column("postal_prefix", Type.TEXT),
        Column("latitude", Type.LATITUDE),
        Column("longitude", Type.LONGITUDE),
        Column("radius_km", Type.NUMBER),
        Column("verticals", Type.LIST),
        Column("exclusive", Type.BOOLEAN),
        Column("valid_from", Type.TIMESTAMP),
        Column("valid_to", Type.TIMESTAMP),
    ),
    references=(_OF_PARTNER,),
)

TABLES: Mapping[str, Table] = types.MappingProxyType(
    {
        table.name: table
        for table in (
            PARTNERS,
            PARTNER_HISTORY,
            EVENTS,
            DEALS,
            DEAL_HISTORY,
            DEAL_PARTNERS,
            CERTIFICATIONS,
            ACCOUNTS,
            LEADS,
            ASSIGNMENTS,
            RECRUITS,
            TERRITORIES,
        )
    }
)
