"""The rules that single rows of the canonical tables must keep, as DuckDB SQL.

Each rule is one boolean expression over a relation that holds, for every column ``x``, the canonical value ``"x"``,
the raw one ``"raw__x"`` and, for columns of text, the trimmed one ``"text__x"``. `_validation` runs them; nothing here
touches data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from partnerml import schema
from partnerml.ecosystem._report import Severity
from partnerml.ecosystem._sql import literal, quote
from partnerml.ecosystem._types import Cast
from partnerml.schema import Type

#: Moments that are plans or announcements: they may lie in the future.
PLANNED = frozenset(
    ("expected_close_at", "protected_until", "paused_until", "expires_at", "left_at", "valid_from", "valid_to")
)
# dates and clocks of different time zones may differ by a day
_TOLERANCE = timedelta(days=1)

_CODES = {
    Type.COUNTRY: "two-letter ISO 3166-1 codes, as in DE; map names with {expr: country(COLUMN)}",
    Type.REGION: "ISO 3166-2 codes, as in US-CA; map names with {expr: 'region(COUNTRY, COLUMN)'}",
    Type.CURRENCY: "three-letter ISO 4217 codes, as in EUR",
    Type.TIME_ZONE: "IANA names, as in Europe/Berlin",
}
_RANGES = {Type.LATITUDE: (-90, 90), Type.LONGITUDE: (-180, 180)}


@dataclasses.dataclass(frozen=True)
class Check:
    """One rule over rows.

    Attributes
    ----------
    rule : str
    columns : tuple of str
        The columns that it is about, shown in the first rows.
    sql : str
        True, and never null, for a row that breaks the rule.
    severity : {"error", "warning"}
    remedy : str
    sets_aside : bool
        Whether such rows are left out of the clean table.
    """

    rule: str
    columns: tuple[str, ...]
    sql: str
    severity: Severity
    remedy: str
    sets_aside: bool = False

    @property
    def label(self) -> str:
        """The rule and its columns, as the rejects name them."""
        return f"{self.rule}: {', '.join(self.columns)}"


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the rules of one table refer to.

    Attributes
    ----------
    table : schema.Table
    casts : mapping of str to Cast
        The columns of the table that exist.
    parents : mapping of str to str
        Clean relations, by table name, that references may be checked against.
    codes : callable
        Name of the relation (one column, ``code``) with the valid codes of a type.
    now : datetime
        Naive UTC.
    """

    table: schema.Table
    casts: Mapping[str, Cast]
    parents: Mapping[str, str]
    codes: Callable[[Type], str]
    now: datetime

    def has(self, *columns: str) -> bool:
        """Return whether the table has all of the columns."""
        return all(column in self.casts for column in columns)


def row_checks(scope: Scope) -> tuple[Check, ...]:
    """Return every rule that rows of the table must keep, errors first."""
    return (
        *_type_checks(scope),
        *_code_checks(scope),
        *_number_checks(scope),
        *_future_checks(scope),
        *_order_checks(scope),
        *_closing_checks(scope),
        *_orphan_checks(scope),
    )


def raw(name: str) -> str:
    """Return the quoted name of a column as it came."""
    return quote(f"raw__{name}")


def text(name: str) -> str:
    """Return the quoted name of the trimmed text of a column."""
    return quote(f"text__{name}")


def _warning(rule: str, columns: tuple[str, ...], sql: str, remedy: str) -> Check:
    return Check(rule, columns, f"coalesce({sql}, false)", "warning", remedy, sets_aside=True)


def _type_checks(scope: Scope) -> Iterator[Check]:
    for name, cast in scope.casts.items():
        value = quote(name)
        remedy = f"The column came as {cast.source}; expected: {cast.expected}"
        yield Check("wrong_type", (name,), f"({cast.given}) AND {value} IS NULL", "error", remedy)
        column = scope.table.column(name)
        if column is not None and column.required:
            remedy = "The column must have a value in every row; filter such rows with `where` or map another column"
            yield Check("null", (name,), f"NOT ({cast.given})", "error", remedy)


def _code_checks(scope: Scope) -> Iterator[Check]:
    for name in scope.casts:
        column = scope.table.column(name)
        if column is None:
            continue
        value = quote(name)
        if column.values:
            allowed = ", ".join(map(literal, column.values))
            remedy = f"Allowed: {', '.join(column.values)}; map others with {{from: COLUMN, values: {{...}}}}"
            yield _warning("invalid_code", (name,), f"{value} NOT IN ({allowed})", remedy)
        elif column.type in _CODES:
            known = f"SELECT code FROM {scope.codes(column.type)}"
            yield _warning("invalid_code", (name,), f"{value} NOT IN ({known})", f"Allowed: {_CODES[column.type]}")
        elif column.type is Type.SLUG:
            # two underscores separate the parts of a feature's name, and `all` stands there for every type
            sql = f"NOT regexp_full_match({value}, '[a-z0-9]+(_[a-z0-9]+)*') OR {value} = 'all'"
            remedy = "Allowed: lower-case letters, digits and single underscores, not 'all'; map {expr: slug(COLUMN)}"
            yield _warning("invalid_code", (name,), sql, remedy)


def _number_checks(scope: Scope) -> Iterator[Check]:
    for name in scope.casts:
        column = scope.table.column(name)
        if column is None:
            continue
        value = quote(name)
        if column.type in (Type.AMOUNT, Type.INTEGER):
            what = "Amounts" if column.type is Type.AMOUNT else "Counts"
            remedy = f"{what} are zero or more; filter or map refunds and corrections apart"
            yield _warning("negative", (name,), f"{value} < 0", remedy)
        elif column.type in _RANGES:
            low, high = _RANGES[column.type]
            remedy = f"Degrees from {low} to {high}"
            yield _warning("invalid_coordinate", (name,), f"{value} NOT BETWEEN {low} AND {high}", remedy)
        elif column.type is Type.SHARE:
            remedy = "A share from 0 to 1; divide percentages by 100 with {expr: ...}"
            yield _warning("out_of_range", (name,), f"{value} NOT BETWEEN 0 AND 1", remedy)


def _future_checks(scope: Scope) -> Iterator[Check]:
    limit = f"TIMESTAMP {literal((scope.now + _TOLERANCE).isoformat(sep=' '))}"
    remedy = f"Moments lie at most a day after now ({scope.now:%Y-%m-%d %H:%M} UTC); see the time zone of the source"
    for name in scope.casts:
        column = scope.table.column(name)
        if column is not None and column.type is Type.TIMESTAMP and name not in PLANNED:
            yield _warning("future", (name,), f"{quote(name)} > {limit}", remedy)


def _before(early: str, late: str) -> str:
    # a value at midnight may be a mere date, and a date means any moment of its day
    return f"{quote(early)} < {quote(late)} AND {quote(early)} <> date_trunc('day', {quote(late)})"


def _order_checks(scope: Scope) -> Iterator[Check]:
    for moment, recorded in scope.table.recorded:
        if scope.has(moment, recorded):
            remedy = f"{recorded} is when the row first entered the source and cannot lie before {moment}"
            yield _warning("occurred_after_recorded", (moment, recorded), _before(recorded, moment), remedy)
    for table, start in (("deals", "registered_at"), ("assignments", "assigned_at")):
        if scope.table.name != table:
            continue
        for end in ("closed_at", "responded_at"):
            if scope.has(start, end):
                rule = f"{end.removesuffix('_at')}_before_{start.removesuffix('_at')}"
                yield _warning(rule, (start, end), _before(end, start), f"{end} cannot lie before {start}")


def _closing_checks(scope: Scope) -> Iterator[Check]:
    if not scope.has("outcome", "closed_at"):
        return
    sql = f"{quote('outcome')} = 'open' AND {quote('closed_at')} IS NOT NULL"
    remedy = (
        "closed_at is the actual closing; map an expected date to expected_close_at and closed_at as "
        '{expr: "case when IS_CLOSED then COLUMN end"}'
    )
    yield _warning("closed_at_on_open_deal", ("outcome", "closed_at"), sql, remedy)
    sql = f"coalesce({quote('outcome')} <> 'open' AND {quote('closed_at')} IS NULL, false)"
    remedy = "A closing without a moment is never seen: such deals read as open at every point in time; map closed_at"
    yield Check("closed_without_moment", ("outcome", "closed_at"), sql, "warning", remedy)


def _orphan_checks(scope: Scope) -> Iterator[Check]:
    for reference in scope.table.references:
        parent = scope.parents.get(reference.table)
        if parent is None or not scope.has(reference.column):
            continue
        key = quote(reference.key)
        known = f"SELECT {key} FROM {parent} WHERE {key} IS NOT NULL"
        remedy = f"There is no such {reference.key} in {reference.table}, or its row was set aside"
        yield _warning("orphan", (reference.column,), f"{quote(reference.column)} NOT IN ({known})", remedy)
