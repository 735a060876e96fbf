"""Casts from raw source columns to the types of the schema, as DuckDB SQL.

A cast never loses a value silently: whatever is given and cannot be read becomes null *and* is counted as
`wrong_type`. The rules by type:

========== ============================================================================================
id         text, trimmed; integers become decimal text; floats are refused (``12.0`` and ``12`` would not join)
text       trimmed; only the empty field is null (``NA`` is Namibia)
slug       as text; the shape is checked by the rules, never repaired
timestamp  ISO 8601 text, a date (00:00 UTC of its day), epoch milliseconds, a native timestamp;
           zoned values become UTC, naive ones are read in the table's time zone; what lies after the year 9999,
           infinity included, means "for ever" and becomes its last moment
number     finite float64; in native columns not-a-number means missing, as in pandas
integer    whole numbers only
boolean    true/false, yes/no, t/f, y/n, 1/0 in any case
list       native, a JSON array, or text split at ``;`` or ``|``; elements trimmed, empty ones dropped
codes      upper-cased (countries, regions, currencies); allowed texts are compared in lower case
========== ============================================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

from partnerml import schema
from partnerml.ecosystem._sql import literal
from partnerml.moments import EPOCH_MS
from partnerml.schema import Type

# CRM exports carry tabs, line ends and no-break spaces around texts
_NO_BREAK_SPACE = "\u00a0"
BLANKS = f"' \t\r\n{_NO_BREAK_SPACE}'"
_TEXT_TYPES = ("VARCHAR", "ENUM", "UUID", "JSON")
_INTEGER_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOAT_TYPES = ("FLOAT", "REAL", "DOUBLE", "DECIMAL")
_UPPER = (Type.COUNTRY, Type.REGION, Type.CURRENCY)
# sums are exact in DECIMAL(38, 6): that holds 1e17 values of this size
_LARGEST = "1e15"
# the calendar of Python; databases hold more, and write "for ever" as infinity or as the end of 9999 in some zone
_FIRST, _LAST = "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"
_NUMERIC = (Type.NUMBER, Type.AMOUNT, Type.SHARE, Type.LATITUDE, Type.LONGITUDE)

TARGETS = {
    **dict.fromkeys(Type, "VARCHAR"),
    **dict.fromkeys(_NUMERIC, "DOUBLE"),
    Type.TIMESTAMP: "TIMESTAMP",
    Type.INTEGER: "BIGINT",
    Type.BOOLEAN: "BOOLEAN",
    Type.LIST: "VARCHAR[]",
}

_EXPECTED = {
    **dict.fromkeys(_NUMERIC, "a number below 1e15 in size with a decimal point and no thousands separators"),
    Type.ID: "text or whole numbers; export ids with fractions (12.0) as text",
    Type.TIMESTAMP: (
        "ISO 8601 (2024-01-31T09:30:00Z), a date (2024-01-31) or epoch milliseconds; "
        "map other formats with {expr: \"strptime(COLUMN, '%m/%d/%Y')\"} and seconds with to_timestamp(COLUMN)"
    ),
    Type.INTEGER: "a whole number",
    Type.BOOLEAN: "true or false, yes or no, 1 or 0",
    Type.LIST: "a list of texts, a JSON array, or text split at ';' or '|'",
}


@dataclasses.dataclass(frozen=True)
class Cast:
    """How one raw column becomes a canonical one.

    All texts are SQL over the raw column, and over its trimmed text, as they were quoted in `cast`.

    Attributes
    ----------
    sql : str
        The canonical value; null where it cannot be read.
    text : str or None
        The trimmed text, null where blank, for columns of text; to be computed once, under the name given to `cast`.
    given : str
        Whether the row gives a value at all.
    type : Type
    target : str
        The DuckDB type of the canonical value.
    source : str
        The DuckDB type of the raw column.
    parsed : bool
        Whether text has to be parsed, which is worth doing only once.
    altered : str or None
        Whether the row's value differs from the raw one; None where the cast always changes the column. If no row is
        altered, the raw column can be taken as it is.
    zoned, naive : str or None
        Whether the row's text carries a time zone, or a time without one. None where the column's type settles it.
    """

    sql: str
    given: str
    type: Type
    target: str
    source: str
    text: str | None = None
    parsed: bool = False
    altered: str | None = None
    zoned: str | None = None
    naive: str | None = None

    @property
    def expected(self) -> str:
        """What the column must hold, in words for a message."""
        return _EXPECTED.get(self.type, "text")


def cast(column: schema.Column, raw: str, text: str, source: str, zone: str = "UTC") -> Cast:
    """Return the cast of a raw column to its canonical type.

    Parameters
    ----------
    column : schema.Column
        The canonical column.
    raw : str
        SQL of the raw column, already quoted.
    text : str
        SQL name that its trimmed text will have, already quoted.
    source : str
        DuckDB's name of its type, as DESCRIBE prints it.
    zone : str, default "UTC"
        IANA name of the time zone in which naive moments are read.
    """
    family = _family(source)
    origin = _Origin(column.type, raw if family != "text" else text, source, family)
    if column.type is Type.TIMESTAMP:
        how = _timestamp(origin, zone)
    elif column.type in _READERS:
        how = _READERS[column.type](origin)
    else:
        how = _text(origin, raw, lowered=bool(column.values))
    return dataclasses.replace(how, text=_trimmed(raw, source)) if family == "text" else how


def cast_open(raw: str, text: str, source: str, zone: str = "UTC") -> Cast:
    """Return the cast of a column that the schema does not declare: by what it holds.

    Numbers become float64, moments naive UTC, texts are trimmed and stay texts, whatever they look like: a type that
    followed the values would change with the data.
    """
    types = {
        **dict.fromkeys(("integer", "float"), Type.NUMBER),
        **dict.fromkeys(("timestamp", "zoned", "date"), Type.TIMESTAMP),
        "bool": Type.BOOLEAN,
        "list": Type.LIST,
    }
    return cast(schema.Column("", types.get(_family(source), Type.TEXT)), raw, text, source, zone)


@dataclasses.dataclass(frozen=True)
class Clash:
    """Types of one column that a union would make one before a cast sees them, and so change what its values mean.

    Attributes
    ----------
    changed : frozenset of str
        The DuckDB types whose values it would change.
    kept : frozenset of str
        The DuckDB types beside which it would.
    text : str
        What is wrong, with places for the column and for where it has either kind of type.
    """

    changed: frozenset[str]
    kept: frozenset[str]
    text: str


def clash(type: Type, sources: Collection[str]) -> Clash | None:
    """Return what a union of one column would change in silence, or None.

    DuckDB reads naive moments beside zoned ones as UTC, whatever the table's time zone, and turns 2.0 into an id of
    text beside text.

    Parameters
    ----------
    type : Type
        The canonical type of the column.
    sources : collection of str
        DuckDB's names of the types that it has in the parts of the union.
    """
    rules = [({"timestamp"}, {"zoned"}, "{column} has a time zone in {kept} and none in {changed}")]
    if type is Type.ID:
        text = f"{{column}} must be {_EXPECTED[Type.ID]}: it holds fractions in {{changed}} and none in {{kept}}"
        rules.append(({"float"}, {"text", "integer"}, text))
    for changed, kept, text in rules:
        lost, other = (
            frozenset(source for source in sources if _family(source) in families) for families in (changed, kept)
        )
        if lost and other:
            return Clash(lost, other, text)
    return None


@dataclasses.dataclass(frozen=True)
class _Origin:
    """A raw column on its way to a type: the SQL that holds its value, for text the trimmed one."""

    type: Type
    sql: str
    source: str
    family: str

    @property
    def given(self) -> str:
        if self.source.upper() in ("FLOAT", "REAL", "DOUBLE"):
            return f"coalesce(NOT isnan({self.sql}), false)"
        return f"{self.sql} IS NOT NULL"

    def to(self, sql: str, *, altered: str | None = None) -> Cast:
        """Return the cast with this value."""
        return Cast(sql, self.given, self.type, TARGETS[self.type], self.source, altered=altered)

    def parsed(self, sql: str) -> Cast:
        """Return the cast with this value, read from text."""
        return dataclasses.replace(self.to(sql), parsed=True)

    def unreadable(self) -> Cast:
        """Return the cast of a column that cannot hold the type: every value given is wrong."""
        return self.to(f"CAST(NULL AS {TARGETS[self.type]})")


def _family(source: str) -> str:
    kind = source.upper().strip('"')
    if kind.endswith("]"):
        return "list"
    if kind.startswith("TIMESTAMP"):
        return "zoned" if "ZONE" in kind or "TZ" in kind else "timestamp"
    if kind.startswith("DECIMAL") and kind.endswith(",0)"):
        return "integer"
    for family, names in (("integer", _INTEGER_TYPES), ("float", _FLOAT_TYPES), ("text", _TEXT_TYPES)):
        if kind.startswith(names):
            return family
    return {"DATE": "date", "BOOLEAN": "bool", "NULL": "null"}.get(kind, "other")


def _trimmed(raw: str, source: str) -> str:
    kind = source.upper()
    # ->> takes the quotes off a JSON string; arrays and numbers come out as they are written
    plain = f"({raw} ->> '$')" if kind == "JSON" else raw if kind == "VARCHAR" else f"CAST({raw} AS VARCHAR)"
    # trimming more than spaces is slow, and almost no value needs it
    ends = " AND ".join(f"{plain}[{i}] > ' ' AND {plain}[{i}] <> '{_NO_BREAK_SPACE}'" for i in (1, -1))
    return f"CASE WHEN {ends} THEN {plain} ELSE nullif(trim({plain}, {BLANKS}), '') END"


def _text(origin: _Origin, raw: str, *, lowered: bool) -> Cast:
    if origin.family in ("list", "other") or (origin.family == "float" and origin.type is Type.ID):
        return origin.unreadable()
    value = origin.sql if origin.family == "text" else f"CAST({origin.sql} AS VARCHAR)"
    if origin.type in _UPPER:
        value = f"upper({value})"
    elif lowered:
        value = f"lower({value})"
    return origin.to(value, altered=f"{raw} IS DISTINCT FROM {value}" if origin.source.upper() == "VARCHAR" else None)


def _number(origin: _Origin) -> Cast:
    # not-a-number and infinity compare above every number
    if origin.family == "text":
        read = f"TRY_CAST({origin.sql} AS DOUBLE)"
        return origin.parsed(f"CASE WHEN abs({read}) < {_LARGEST} THEN {read} END")
    if origin.family in ("integer", "float"):
        read = f"CAST({origin.sql} AS DOUBLE)"
        altered = f"coalesce(NOT abs({origin.sql}) < {_LARGEST}, false)" if origin.source.upper() == "DOUBLE" else None
        return origin.to(f"CASE WHEN abs({read}) < {_LARGEST} THEN {read} END", altered=altered)
    return origin.unreadable()


def _integer(origin: _Origin) -> Cast:
    if origin.family == "integer":
        altered = "false" if origin.source.upper() == "BIGINT" else None
        return origin.to(f"TRY_CAST({origin.sql} AS BIGINT)", altered=altered)
    if origin.family not in ("text", "float"):
        return origin.unreadable()
    # DuckDB rounds '2.5' to 3 when it casts to an integer, hence the way over float64
    read = f"TRY_CAST({origin.sql} AS DOUBLE)"
    sql = f"CASE WHEN {read} = floor({read}) THEN TRY_CAST({read} AS BIGINT) END"
    return origin.parsed(sql) if origin.family == "text" else origin.to(sql)


def _boolean(origin: _Origin) -> Cast:
    if origin.family == "bool":
        return origin.to(origin.sql, altered="false")
    if origin.family in ("integer", "float"):
        return origin.to(f"CASE {origin.sql} WHEN 1 THEN true WHEN 0 THEN false END")
    if origin.family != "text":
        return origin.unreadable()
    text = f"lower({origin.sql})"
    return origin.parsed(
        f"CASE WHEN {text} IN ('true', 't', 'yes', 'y', '1') THEN true "
        f"WHEN {text} IN ('false', 'f', 'no', 'n', '0') THEN false END"
    )


def _list(origin: _Origin) -> Cast:
    if origin.family == "list":
        return origin.to(_elements(f"CAST({origin.sql} AS VARCHAR[])"))
    if origin.family != "text":
        return origin.unreadable()
    text = origin.sql
    array = f"CASE WHEN json_valid({text}) THEN from_json({text}, '[\"VARCHAR\"]') END"
    split = _elements(f"regexp_split_to_array({text}, '[;|]')")
    return origin.parsed(f"CASE WHEN starts_with({text}, '[') THEN {_elements(array)} ELSE {split} END")


def _elements(sql: str) -> str:
    return f"[trim(_e, {BLANKS}) FOR _e IN {sql} IF trim(_e, {BLANKS}) <> '']"


def _timestamp(origin: _Origin, zone: str) -> Cast:
    value = origin.sql
    if origin.family == "text":
        return _timestamp_text(origin, zone)
    if origin.family == "zoned":
        # the epoch does not depend on the session's zone; nanoseconds must drop to microseconds first
        plain = f"CAST({value} AS TIMESTAMPTZ)"
        # infinity has no epoch
        return origin.to(
            f"CASE WHEN {plain} > timezone('UTC', {_LAST}) THEN {_LAST} "
            f"WHEN {plain} >= timezone('UTC', {_FIRST}) THEN make_timestamp(epoch_us({plain})) END"
        )
    if origin.family == "timestamp":
        passes = zone == "UTC" and origin.source.upper() == "TIMESTAMP"
        altered = f"coalesce({value} NOT BETWEEN {_FIRST} AND {_LAST}, false)" if passes else None
        return origin.to(_bounded(_in_zone(f"CAST({value} AS TIMESTAMP)", zone)), altered=altered)
    if origin.family == "date":
        # a date may lie beyond what a timestamp holds
        plain = f"CASE WHEN {value} > CAST({_LAST} AS DATE) THEN {_LAST} ELSE TRY_CAST({value} AS TIMESTAMP) END"
        return origin.to(_bounded(plain))
    if origin.family in ("integer", "float"):
        return origin.to(_from_epoch(value))
    return origin.unreadable()


def _timestamp_text(origin: _Origin, zone: str) -> Cast:
    text = origin.sql
    # DuckDB reads '10:00+02' as 10:00 when it casts to a naive timestamp, so the zone is looked for first: whatever
    # follows the date and is no part of a plain time is a zone
    timed = f"(length({text}) > 10 AND contains({text}, ':'))"
    zoned = f"regexp_matches(substr({text}, 11), '[^0-9:. T]')"
    sql = (
        f"CASE WHEN {text} NOT LIKE '____-__-__%' THEN {_from_epoch(text)} "
        f"WHEN length({text}) = 10 THEN TRY_CAST({text} AS TIMESTAMP) "
        f"WHEN NOT contains({text}, ':') THEN NULL "
        f"WHEN {zoned} THEN make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ))) "
        f"ELSE {_in_zone(f'TRY_CAST({text} AS TIMESTAMP)', zone)} END"
    )
    # only at the ends can a zone lead out of the calendar; for the rest each value is read once
    sql = f"CASE WHEN {text} >= '0001-01-02' AND {text} < '9999-12-31' THEN {sql} ELSE {_bounded(sql)} END"
    return dataclasses.replace(
        origin.parsed(sql),
        zoned=f"coalesce({timed} AND {zoned}, false)",
        naive=f"coalesce({timed} AND NOT {zoned}, false)",
    )


def _in_zone(naive: str, zone: str) -> str:
    # the change of zone fails at the ends of what a timestamp holds, and infinity stays "for ever" in every zone
    return naive if zone == "UTC" else _bounded(naive, f"timezone('UTC', timezone({literal(zone)}, {naive}))")


def _bounded(value: str, inside: str | None = None) -> str:
    """Return the moment, or what is made of it, within the calendar: after it the last one, before it null."""
    return f"CASE WHEN {value} > {_LAST} THEN {_LAST} WHEN {value} >= {_FIRST} THEN {inside or value} END"


def _from_epoch(value: str) -> str:
    low, high = EPOCH_MS
    read = f"TRY_CAST({value} AS DOUBLE)"
    # milliseconds of these years are whole numbers in float64
    return (
        f"CASE WHEN {read} BETWEEN {low} AND {high} AND {read} = floor({read}) "
        f"THEN make_timestamp(CAST({read} AS BIGINT) * 1000) END"
    )


_READERS: Mapping[Type, Callable[[_Origin], Cast]] = {
    **dict.fromkeys(_NUMERIC, _number),
    Type.INTEGER: _integer,
    Type.BOOLEAN: _boolean,
    Type.LIST: _list,
}
