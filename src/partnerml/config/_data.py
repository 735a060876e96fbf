"""The section `data`: where the tables come from, and how raw columns become canonical ones."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Self

import pydantic
from pydantic import BeforeValidator, Field

from partnerml import schema
from partnerml.config._base import Duration, Model, Sparse, as_text, refusal
from partnerml.config._reading import nearest

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def _value_map(value: object) -> object:
    """Keys and values of an inline `values:` as text: what comes from the source is compared as text."""
    if isinstance(value, Mapping):
        return {"" if key is None else as_text(key): as_text(item) for key, item in value.items()}
    return value


class ColumnConfig(Sparse):
    """Where one canonical column comes from: a column, a constant or an expression."""

    source: str | None = Field(default=None, alias="from", description="a column of the raw table")
    const: Annotated[str | int | float | bool | None, "scalar"] = Field(
        default=None, description="the same value in every row"
    )
    expr: str | None = Field(default=None, description="a scalar expression over the raw columns, in DuckDB's SQL")
    values: Annotated[Mapping[str, str | None] | str | None, BeforeValidator(_value_map)] = Field(
        default=None, description="raw value to canonical value: a mapping, or a CSV file with these two columns"
    )
    default: Annotated[str | None, BeforeValidator(as_text)] = Field(
        default=None,
        description="what a value that `values` does not name becomes; without it, such a value is a violation",
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        return {"from": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("source", "const", "expr") if key in self.model_fields_set]
        if len(given) != 1:
            raise refusal("give exactly one of from, const and expr")
        if self.values is not None and given == ["const"]:
            raise refusal("values needs from or expr, not const")
        if "default" in self.model_fields_set and self.values is None:
            raise refusal("default belongs to values: it says what an unnamed value becomes", "default")
        return self

    @property
    def has_default(self) -> bool:
        """Whether `default` was given (null counts)."""
        return "default" in self.model_fields_set


class BlockConfig(Sparse):
    """One block of rows of a canonical table: a raw table with columns, or one SELECT."""

    source: str | None = Field(default=None, alias="from", description="a raw table; default the canonical name itself")
    sql: str | None = Field(default=None, description="one SELECT over the raw tables, in DuckDB's SQL")
    columns: Mapping[str, ColumnConfig] | None = Field(
        default=None,
        description="canonical column: raw column, {const}, {expr} or {from, values, default}; "
        "without it the raw table is taken as it is",
    )
    where: str | None = Field(default=None, description="keep the rows for which this holds; a scalar expression")
    lag: Duration | None = Field(
        default=None, description="rows without recorded_at are known this long after they happen; 0d"
    )
    timezone: str | None = Field(default=None, description="IANA zone of moments without one; UTC")

    @pydantic.field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                zoneinfo.ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise refusal(f"{value!r} is not an IANA time zone such as Europe/Berlin") from None
        return value

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.sql is not None:
            for key, other in (("from", self.source), ("columns", self.columns), ("where", self.where)):
                if other is not None:
                    raise refusal(f"sql says it all: move {key} into the SELECT", key)
        return self


def _blocks(value: object) -> object:
    if isinstance(value, Mapping):
        return (value,)
    if isinstance(value, list):
        return tuple(value)
    return value


Blocks = Annotated[tuple[BlockConfig, ...] | None, BeforeValidator(_blocks)]


class CurrencyConfig(Model):
    """The currency that all amounts are converted to."""

    to: str = Field(description="ISO 4217 code of the one currency of all scores and reports")
    rates: Mapping[str, float] = Field(
        default_factory=dict, description="currency code: what one unit of it is worth in `to`"
    )

    @pydantic.field_validator("to")
    @classmethod
    def _as_codes_are_written(cls, value: str) -> str:
        return value.strip().upper()

    @pydantic.field_validator("rates")
    @classmethod
    def _positive(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for code, rate in value.items():
            if not 0 < rate < float("inf"):
                raise refusal(f"the rate of {code} must be above 0, got {rate}", code)
        return {code.strip().upper(): rate for code, rate in value.items()}


class DataConfig(Model):
    """Where the tables come from."""

    source: str | None = Field(
        default=None, description="a folder, a .duckdb file or an Ibis URL that holds the raw tables"
    )
    sources: Mapping[str, str] = Field(
        default_factory=dict, description="more raw tables by name: csv, csv.gz, parquet or jsonl; may be a glob"
    )
    tables: Mapping[str, Blocks] = Field(
        default_factory=dict,
        description="canonical table: a block, a list of blocks (their union), or null (leave it out)",
    )
    currency: CurrencyConfig | None = Field(default=None, description="needed where there is more than one currency")

    @pydantic.field_validator("tables", mode="before")
    @classmethod
    def _canonical_tables(cls, value: object) -> object:
        for name in value if isinstance(value, Mapping) else ():
            if name not in schema.TABLES:
                raise refusal(f"unknown table{nearest(str(name), tuple(schema.TABLES))}", str(name))
        return value

    @pydantic.field_validator("tables")
    @classmethod
    def _canonical_columns(cls, value: Mapping[str, Blocks]) -> Mapping[str, Blocks]:
        for name, blocks in value.items():
            if blocks == ():
                raise refusal("an empty list of blocks; write null to leave the table out", name)
            for block in blocks or ():
                for column in block.columns or ():
                    problem = unknown_column(schema.TABLES[name], column)
                    if problem:
                        raise refusal(problem, f"{name}.columns.{column}")
            for key in ("lag", "timezone"):
                if len({getattr(block, key) for block in blocks or ()} - {None}) > 1:
                    raise refusal(f"the blocks of one table must agree on {key}", name)
        return value

    def lag(self, table: str) -> dt.timedelta:
        """Return the declared lag of a table, 0 by default."""
        return next((block.lag for block in self.tables.get(table) or () if block.lag is not None), dt.timedelta(0))

    def timezone(self, table: str) -> str:
        """Return the zone of naive moments of a table, UTC by default."""
        return next((block.timezone for block in self.tables.get(table) or () if block.timezone), "UTC")


def unknown_column(table: schema.Table, column: str) -> str:
    """Return why a column cannot be one of a canonical table; empty if it can."""
    if table.column(column) is not None:
        return ""
    if not table.open_columns:
        return f"{table.name} has no column {column}{nearest(column, table.names)} (columns: {', '.join(table.names)})"
    if _NAME.fullmatch(column) is None:
        return f"{column!r} cannot name a trait: letters, digits and single underscores, such as employee_count"
    return ""
