"""Checks the mapped tables and makes the clean ones, inside DuckDB.

For each table, in the order of the schema so that parents come first: cast the columns (`_types`), count what breaks
the rules of its rows (`_rules`) in one pass, look for repeated keys, and define the clean table as a view without the
rows that were set aside. Only counts and the first offending rows ever leave the engine.

A table that needs no parsing stays a view over its source, however large; text is parsed once, into a table.
"""

from __future__ import annotations

import dataclasses
import difflib
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import ibis.expr.operations as ops

from partnerml import schema
from partnerml.codes import valid_codes
from partnerml.ecosystem._plausibility import clustered_recordings, survivors_only
from partnerml.ecosystem._report import ValidationReport, Violation, build_report
from partnerml.ecosystem._rules import Check, Scope, raw, row_checks, text
from partnerml.ecosystem._sql import literal, quote
from partnerml.ecosystem._types import Cast, cast, cast_open
from partnerml.errors import MappingError
from partnerml.schema import Type

__all__ = ["CheckedTables", "CurrencyRule", "ValidationReport", "Violation", "check_tables"]

#: The DuckDB schema that holds what validation makes.
SCHEMA = "partnerml"
_FIRST = 3


@dataclasses.dataclass(frozen=True)
class CurrencyRule:
    """How amounts become one currency.

    Attributes
    ----------
    to : str
        ISO 4217 code of the currency of all amounts inside partnerml.
    rates : mapping of str to float
        What one unit of a currency is worth in `to`. The rate of `to` itself is 1.
    """

    to: str
    rates: Mapping[str, float]

    def rate(self, currency: str) -> float | None:
        """Return the rate of a currency, or None where there is none."""
        return 1.0 if currency == self.to else self.rates.get(currency)


@dataclasses.dataclass(frozen=True)
class CheckedTables:
    """The outcome of `check_tables`.

    Attributes
    ----------
    clean : mapping of str to ibis.Table
        The canonical tables, typed, without the rows that were set aside.
    report : ValidationReport
    rejects : mapping of str to ibis.Table
        For each table that lost rows: these rows as they came, as text, and ``rules``, what they break.
    """

    clean: Mapping[str, ibis.Table]
    report: ValidationReport
    rejects: Mapping[str, ibis.Table]


def check_tables(
    backend: Any,
    mapped: Mapping[str, ibis.Table],
    *,
    mapping_violations: Sequence[Violation],
    zones: Mapping[str, str],
    lags: Mapping[str, timedelta],
    now: datetime,
    max_rejected: float,
    currency: CurrencyRule | None,
) -> CheckedTables:
    """Check mapped tables against the schema, and make the clean ones.

    Parameters
    ----------
    backend : ibis DuckDB backend
        Its session time zone must be UTC.
    mapped : mapping of str to ibis.Table
        Tables with canonical column names and the types of their sources.
    mapping_violations : sequence of Violation
        What the mapping found; it joins the report.
    zones : mapping of str to str
        Time zone of the naive moments of a table; UTC where it names none.
    lags : mapping of str to timedelta
        Declared lags of tables; zero where it names none.
    now : datetime
        Moments may lie at most a day after it. Naive means UTC.
    max_rejected : float
        Largest share of a table that may be set aside before its warnings become errors.
    currency : CurrencyRule or None
        How amounts become one currency; needed where there is more than one.
    """
    now = now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now
    checker = _Checker(backend, zones=zones, now=now, max_rejected=max_rejected, currency=currency)
    for violation in mapping_violations:
        checker.violations.append(checker.escalated(violation, violation.count, violation.total))
    for name, table in schema.TABLES.items():
        if name in mapped:
            checker.check(table, mapped[name])
    checker.check_whole(lags)
    # before the orphans that an empty table makes of the rows of others
    violations = [*_empty_tables(checker.rows), *checker.violations]
    report = build_report(violations, rows=checker.rows, set_aside=checker.set_aside)
    clean = {name: backend.table(name, database=SCHEMA) for name in checker.clean}
    rejects = {name: backend.table(f"rejects_{name}", database=SCHEMA) for name, n in checker.set_aside.items() if n}
    return CheckedTables(clean, report, rejects)


def _empty_tables(rows: Mapping[str, int]) -> list[Violation]:
    remedy = "The table is there and holds no row; check that its export was not cut off"
    found = [
        Violation(name, "", "empty_table", "warning", 0, 0, (), remedy) for name, count in rows.items() if not count
    ]
    return [
        dataclasses.replace(violation, severity="error", remedy=f"{remedy}: without partners there is nobody to score")
        if violation.table == "partners" and any(rows.values())
        else violation
        for violation in found
    ]


@dataclasses.dataclass(frozen=True)
class _Flagged:
    """A table with its canonical columns and, for each rule, a boolean column ``check__i``."""

    table: schema.Table
    casts: Mapping[str, Cast]
    checks: tuple[Check, ...]
    source: str

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that name a row in messages."""
        key = tuple(name for name in self.table.key if name in self.casts)
        return key or tuple(name for name in self.table.required if name in self.casts)

    @property
    def aside(self) -> tuple[int, ...]:
        """Positions of the rules that set rows aside."""
        return tuple(i for i, check in enumerate(self.checks) if check.sets_aside)

    def select(self, checks: Sequence[int], *, plain: frozenset[str] = frozenset()) -> str:
        """Return the relation: raw and canonical columns, and the chosen rules.

        Columns in `plain` are taken from the source as they are.
        """
        names = ", ".join(f"{quote(name)} AS {raw(name)}" for name in self.casts)
        texts = "".join(
            f", {cast.text} AS {text(name)}" for name, cast in self.casts.items() if cast.text and name not in plain
        )
        values = ", ".join(
            f"{raw(name) if name in plain else cast.sql} AS {quote(name)}" for name, cast in self.casts.items()
        )
        flags = "".join(f", {self.checks[i].sql} AS check__{i}" for i in checks)
        # a level of its own for the texts, so that each is trimmed once however often it is looked at
        return (
            f"SELECT *{flags} FROM (SELECT *, {values} FROM (SELECT *{texts} FROM (SELECT {names} FROM {self.source})))"
        )


class _Checker:
    """State of one run over all tables: relations made so far, counts and violations."""

    def __init__(
        self,
        backend: Any,
        *,
        zones: Mapping[str, str],
        now: datetime,
        max_rejected: float,
        currency: CurrencyRule | None,
    ) -> None:
        self.backend = backend
        self.zones = zones
        self.now = now
        self.max_rejected = max_rejected
        self.currency = currency
        self.violations: list[Violation] = []
        self.rows: dict[str, int] = {}
        self.set_aside: dict[str, int] = {}
        self.clean: dict[str, dict[str, Cast]] = {}
        self._amounts: dict[str, dict[str, int]] = {}
        self._coded: set[Type] = set()
        self._parents: dict[str, str] = {}
        self.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        rows: list[tuple[Any, ...]] = self.backend.raw_sql(sql).fetchall()
        return rows

    def check(self, table: schema.Table, mapped: ibis.Table) -> None:
        """Check one table and make its clean one."""
        source = self._relation(table.name, mapped)
        casts = self._casts(table, source)
        scope = Scope(table, casts, self._parents, self._codes, self.now)
        flagged = _Flagged(table, casts, row_checks(scope), source)
        parsed = any(cast.parsed for cast in casts.values())
        relation = self._parse(flagged) if parsed else f"({flagged.select(range(len(flagged.checks)))})"
        counts = self._count(flagged, relation, parsed=parsed)
        self.rows[table.name] = counts["rows"]
        self.set_aside[table.name] = counts["aside"]
        self._missing_columns(table, casts)
        self._row_violations(flagged, counts)
        self._duplicates(flagged, counts)
        self._mixed_zones(flagged, counts)
        self._define_clean(flagged, counts, parsed=parsed)
        self._define_rejects(flagged, counts)
        wrong = any(v.table == table.name and v.severity == "error" and not v.sets_aside for v in self.violations)
        if not wrong:
            # the orphans of a table with a broken key would only repeat its error
            self._parents[table.name] = f"{SCHEMA}.{quote(table.name)}"

    def check_whole(self, lags: Mapping[str, timedelta]) -> None:
        """Check what only all tables together can tell."""
        if schema.PARTNERS.name not in self.clean:
            remedy = "Every task needs the table of partners with a partner_id; map it under data.tables.partners"
            self.violations.append(Violation("partners", "", "missing_table", "error", 0, 0, (), remedy))
        self._currencies()
        columns = {name: frozenset(casts) for name, casts in self.clean.items()}
        self.violations += clustered_recordings(self.run, columns, SCHEMA)
        self.violations += survivors_only(self.run, columns, SCHEMA)
        for name, casts in self.clean.items():
            recorded = [column for _, column in schema.TABLES[name].recorded]
            if recorded and recorded[0] not in casts and not lags.get(name):
                remedy = (
                    f"Rows count as known from their own moment on; map {recorded[0]} or declare a lag if they come"
                )
                notice = Violation(name, recorded[0], "unknown_recording", "notice", 0, 0, (), f"{remedy} later")
                self.violations.append(notice)

    def escalated(self, violation: Violation, count: int, total: int) -> Violation:
        """Turn a warning about too large a share of a table into an error."""
        if violation.severity != "warning" or count <= self.max_rejected * total:
            return violation
        remedy = (
            f"{violation.remedy}. It stops the run because {100 * count / total:.3g} % of the table is concerned, more "
            f"than validation.max_rejected allows ({100 * self.max_rejected:.3g} %)"
        )
        return dataclasses.replace(violation, severity="error", remedy=remedy)

    def _relation(self, name: str, mapped: ibis.Table) -> str:
        operation = mapped.op()
        if isinstance(operation, ops.DatabaseTable):
            space = operation.namespace
            return ".".join(quote(part) for part in (space.catalog, space.database, operation.name) if part)
        self.backend.create_view(f"mapped_{name}", mapped, database=SCHEMA, overwrite=True)
        return f"{SCHEMA}.{quote(f'mapped_{name}')}"

    def _casts(self, table: schema.Table, source: str) -> dict[str, Cast]:
        zone = self.zones.get(table.name, "UTC")
        if zone not in zoneinfo.available_timezones():
            raise MappingError(f"data.tables.{table.name}.timezone: {zone!r} is no IANA name such as Europe/Berlin")
        types = {str(row[0]): str(row[1]) for row in self.run(f"DESCRIBE SELECT * FROM {source}")}
        casts = {
            column.name: cast(column, raw(column.name), text(column.name), types[column.name], zone)
            for column in table.columns
            if column.name in types
        }
        others = [name for name in types if name not in casts]
        if table.open_columns:
            casts |= {name: cast_open(raw(name), text(name), types[name], zone) for name in others}
        absent = [name for name in table.names if name not in types]
        for name in others:
            near = difflib.get_close_matches(name, absent, n=1, cutoff=0.75)
            if near:
                remedy = f"No such column in the schema; did you mean {near[0]}?"
                self.violations.append(Violation(table.name, name, "unknown_column", "warning", 0, 0, (), remedy))
        return casts

    def _codes(self, type: Type) -> str:
        name = f"{SCHEMA}.codes_{type.value}"
        if type not in self._coded:
            codes = ", ".join(map(literal, valid_codes(type)))
            self.run(f"CREATE OR REPLACE TABLE {name} AS SELECT unnest([{codes}]) AS code")
            self._coded.add(type)
        return name

    def _parse(self, flagged: _Flagged) -> str:
        """Store the canonical values, so that text is parsed only once."""
        name = f"{SCHEMA}.{quote(f'typed_{flagged.table.name}')}"
        moments = [
            f"{condition} AS {quote(f'{kind}__{column}')}"
            for column, cast in flagged.casts.items()
            for kind, condition in (("zoned", cast.zoned), ("naive", cast.naive))
            if condition
        ]
        flags = [f"check__{i}" for i in range(len(flagged.checks))]
        columns = ", ".join([*map(quote, flagged.casts), *flags, *moments])
        self.run(f"CREATE OR REPLACE TABLE {name} AS SELECT {columns} FROM ({flagged.select(range(len(flags)))})")
        return name

    def _count(self, flagged: _Flagged, relation: str, *, parsed: bool) -> dict[str, int]:
        """Count rows, broken rules and keys in one pass."""
        measures = {"rows": "count(*)", "aside": "0"}
        if flagged.aside:
            measures["aside"] = f"count_if({' OR '.join(f'check__{i}' for i in flagged.aside)})"
        measures |= {f"check__{i}": f"count_if(check__{i})" for i in range(len(flagged.checks))}
        for name, how in flagged.casts.items():
            if how.zoned:
                measures |= {f"{kind}__{name}": f"count_if({quote(f'{kind}__{name}')})" for kind in ("zoned", "naive")}
            if how.altered and not parsed:
                measures[f"altered__{name}"] = f"count_if({how.altered})"
        key = flagged.table.key
        if key and all(name in flagged.casts for name in key):
            whole = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key)
            # equal counts prove that no key repeats; hashes that collide only lead to the exact look below
            hashed = f"hash({', '.join(map(quote, key))})"
            measures["keys"] = f"count_if({whole})"
            measures["distinct"] = f"count(DISTINCT {hashed}) FILTER (WHERE {whole})"
        row = self.run(f"SELECT {', '.join(measures.values())} FROM {relation}")[0]
        # count_if of no row at all is null
        return {measure: int(count or 0) for measure, count in zip(measures, row, strict=True)}

    def _missing_columns(self, table: schema.Table, casts: Mapping[str, Cast]) -> None:
        for name in table.required:
            if name not in casts:
                remedy = f"The table needs the columns {', '.join(table.required)}; map it under data.tables"
                missing = Violation(table.name, name, "missing_column", "error", 0, 0, (), remedy)
                self.violations.append(missing)

    def _row_violations(self, flagged: _Flagged, counts: Mapping[str, int]) -> None:
        for i, check in enumerate(flagged.checks):
            count = counts[f"check__{i}"]
            if count:
                violation = Violation(
                    flagged.table.name,
                    ", ".join(check.columns),
                    check.rule,
                    check.severity,
                    count,
                    counts["rows"],
                    self._first(flagged, i),
                    check.remedy,
                    check.sets_aside,
                )
                if check.sets_aside:
                    violation = self.escalated(violation, counts["aside"], counts["rows"])
                self.violations.append(violation)

    def _first(self, flagged: _Flagged, i: int) -> tuple[dict[str, Any], ...]:
        columns = list(dict.fromkeys([*flagged.identity, *flagged.checks[i].columns]))
        shown = ", ".join(f"CAST({raw(name)} AS VARCHAR) AS {quote(name)}" for name in columns)
        rows = self.run(
            f"SELECT {shown} FROM ({flagged.select([i])}) WHERE check__{i} ORDER BY ALL NULLS FIRST LIMIT {_FIRST}"
        )
        return tuple(dict(zip(columns, row, strict=True)) for row in rows)

    def _duplicates(self, flagged: _Flagged, counts: Mapping[str, int]) -> None:
        if counts.get("keys") == counts.get("distinct"):
            return
        key = flagged.table.key
        columns = ", ".join(map(quote, key))
        whole = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key)
        groups = (
            f"SELECT {columns}, count(*) AS rows__ FROM ({flagged.select(())}) WHERE {whole} "
            f"GROUP BY {columns} HAVING count(*) > 1"
        )
        texts = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in key)
        repeated = self.run(f"SELECT coalesce(sum(rows__ - 1), 0) FROM ({groups})")[0][0]
        if not repeated:
            return
        first = self.run(f"SELECT {texts}, rows__ FROM ({groups}) ORDER BY ALL LIMIT {_FIRST}")
        rows = tuple(dict(zip((*key, "rows"), row, strict=True)) for row in first)
        remedy = f"{', '.join(key)} must name one row; keep one with `where` or a `sql` mapping"
        violation = Violation(
            flagged.table.name, ", ".join(key), "duplicate_key", "error", int(repeated), counts["rows"], rows, remedy
        )
        self.violations.append(violation)

    def _mixed_zones(self, flagged: _Flagged, counts: Mapping[str, int]) -> None:
        for name, how in flagged.casts.items():
            zoned, naive = counts.get(f"zoned__{name}", 0), counts.get(f"naive__{name}", 0)
            if not (zoned and naive):
                continue
            rarer = (how.zoned if zoned < naive else how.naive) or ""
            columns = list(dict.fromkeys([*flagged.identity, name]))
            shown = ", ".join(f"CAST({raw(column)} AS VARCHAR)" for column in columns)
            first = self.run(
                f"SELECT {shown} FROM ({flagged.select(())}) WHERE {rarer} ORDER BY ALL NULLS FIRST LIMIT {_FIRST}"
            )
            rows = tuple(dict(zip(columns, row, strict=True)) for row in first)
            remedy = f"{zoned:,} values carry a time zone and {naive:,} do not; map the column so that all or none do"
            self.violations.append(
                Violation(
                    flagged.table.name, name, "mixed_zones", "error", min(zoned, naive), counts["rows"], rows, remedy
                )
            )

    def _define_clean(self, flagged: _Flagged, counts: Mapping[str, int], *, parsed: bool) -> None:
        table = flagged.table
        broken = [i for i in flagged.aside if counts[f"check__{i}"]]
        if parsed:
            relation = f"{SCHEMA}.{quote(f'typed_{table.name}')}"
        else:
            plain = frozenset(
                name
                for name, cast in flagged.casts.items()
                if cast.altered is not None and not counts[f"altered__{name}"]
            )
            relation = f"({flagged.select(broken, plain=plain)})"
        where = f" WHERE NOT ({' OR '.join(f'check__{i}' for i in broken)})" if broken else ""
        columns = []
        for name in flagged.casts:
            column = table.column(name)
            default = column.default if column is not None else None
            value = f"coalesce({quote(name)}, {literal(default)})" if default else quote(name)
            columns.append(f"{value} AS {quote(name)}")
        sql = f"SELECT {', '.join(columns)} FROM {relation}{where}"
        self.clean[table.name] = dict(flagged.casts)
        self._note_amounts(table.name, sql)
        self.run(f"CREATE OR REPLACE VIEW {SCHEMA}.{quote(table.name)} AS {self._converted(table.name, sql)}")

    def _define_rejects(self, flagged: _Flagged, counts: Mapping[str, int]) -> None:
        broken = [i for i in flagged.aside if counts[f"check__{i}"]]
        if not broken:
            return
        name = flagged.table.name
        columns = ", ".join(f"CAST({raw(column)} AS VARCHAR) AS {quote(column)}" for column in flagged.casts)
        rules = ", ".join(
            f"CASE WHEN check__{i} THEN {literal(check.label)} END"
            for i, check in enumerate(flagged.checks)
            if i in broken
        )
        any_broken = " OR ".join(f"check__{i}" for i in broken)
        # a table, because the orphans among them refer to parents that later runs replace
        self.run(
            f"CREATE OR REPLACE TABLE {SCHEMA}.{quote(f'rejects_{name}')} AS "
            f"SELECT {columns}, concat_ws('; ', {rules}) AS rules FROM ({flagged.select(broken)}) "
            f"WHERE {any_broken} ORDER BY ALL NULLS FIRST"
        )

    def _note_amounts(self, name: str, sql: str) -> None:
        if "amount" in self.clean[name] and "currency" in self.clean[name]:
            rows = self.run(
                f"SELECT currency, count(*) FROM ({sql}) WHERE amount IS NOT NULL AND currency IS NOT NULL "
                "GROUP BY currency ORDER BY currency"
            )
            self._amounts[name] = {str(currency): int(count) for currency, count in rows}

    def _converted(self, name: str, sql: str) -> str:
        """Return the table with its amounts in the currency of the rule."""
        if self.currency is None or "amount" not in self.clean[name]:
            return sql
        if name == schema.DEAL_HISTORY.name and "currency" in self.clean.get(schema.DEALS.name, {}):
            # a deal's earlier amounts are in the deal's currency
            return (
                f"SELECT h.* REPLACE ({self._in_one_currency('h.amount', 'c.currency')} AS amount) FROM ({sql}) h "
                f"LEFT JOIN {SCHEMA}.currency_of_deals c ON h.deal_id = c.deal_id"
            )
        if "currency" not in self.clean[name]:
            return sql
        if name == schema.DEALS.name:
            self.run(f"CREATE OR REPLACE VIEW {SCHEMA}.currency_of_deals AS SELECT deal_id, currency FROM ({sql})")
        amount = self._in_one_currency("amount", "currency")
        return f"SELECT * REPLACE ({amount} AS amount, {literal(self.currency.to)} AS currency) FROM ({sql})"

    def _in_one_currency(self, amount: str, currency: str) -> str:
        rule = self.currency
        rates = {} if rule is None else {code: rate for code, rate in rule.rates.items() if code != rule.to}
        cases = "".join(f" WHEN {literal(code)} THEN {float(rate)!r}::DOUBLE" for code, rate in sorted(rates.items()))
        return f"{amount} * CASE {currency}{cases} ELSE 1.0::DOUBLE END" if cases else amount

    def _currencies(self) -> None:
        """Refuse amounts in several currencies without rates, and currencies without a rate."""
        found = {code for amounts in self._amounts.values() for code in amounts}
        if self.currency is None:
            strange, rule = (found if len(found) > 1 else set()), "mixed_currencies"
            names = ", ".join(sorted(found))
            remedy = f"Amounts come in {names}; name one and the rates of the others: data.currency: {{to, rates}}"
        else:
            strange, rule = {code for code in found if self.currency.rate(code) is None}, "missing_rate"
            names = ", ".join(sorted(strange))
            remedy = f"data.currency.rates has no rate of {names} to {self.currency.to}"
        for table, amounts in self._amounts.items():
            here = {code: count for code, count in amounts.items() if code in strange}
            if here:
                first = tuple({"currency": code, "rows": count} for code, count in list(here.items())[:_FIRST])
                self.violations.append(
                    Violation(table, "currency", rule, "error", sum(here.values()), self.rows[table], first, remedy)
                )
