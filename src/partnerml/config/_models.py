"""The sections of a configuration: frozen, strict, each key with its default and meaning."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from partnerml import schema
from partnerml.config._reading import absolute, apply_override, explain, nearest, parse_yaml
from partnerml.errors import ConfigError

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

# known to the contract, not to this version: refused by name, so that nobody takes the silence for a result
_LATER_TASKS = ("fit", "propensity", "close")
_LATER_SECTIONS = ("routing", "outreach", "monitoring")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_DURATION = re.compile(r"(\d+)\s*([wdhm])")
_UNITS = {
    "w": dt.timedelta(weeks=1),
    "d": dt.timedelta(days=1),
    "h": dt.timedelta(hours=1),
    "m": dt.timedelta(minutes=1),
}


def parse_duration(value: object) -> dt.timedelta:
    """Read a duration such as ``2d``, ``12h``, ``30m`` (minutes) or ``1w``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if isinstance(value, dt.timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration is a number and w, d, h or m (minutes), such as 2d or 12h; got {value!r}")
    return int(match[1]) * _UNITS[match[2]]


def _duration_text(value: dt.timedelta) -> str:
    for unit, length in _UNITS.items():
        if value and value % length == dt.timedelta(0):
            return f"{value // length}{unit}"
    return "0d"


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _value_map(value: object) -> object:
    """Keys and values of an inline `values:` as text: what comes from the source is compared as text."""
    if isinstance(value, Mapping):
        return {"" if key is None else _text(key): _text(item) for key, item in value.items()}
    return value


Duration = Annotated[dt.timedelta, BeforeValidator(parse_duration), PlainSerializer(_duration_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


def _problem(message: str, key: str = "") -> PydanticCustomError:
    # the message travels as context, so that braces in it are not taken for placeholders
    return PydanticCustomError("partnerml", "{message}", {"message": message, "key": key})


class Model(pydantic.BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)

    later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            return value
        known = cls.keys()
        for key in value:
            if key in cls.later:
                raise _problem(f"not available in this version of partnerml (known: {', '.join(known)})", key)
            if key not in known and key not in cls.model_fields:
                raise _problem(f"unknown key{nearest(str(key), known)} (known: {', '.join(known)})", str(key))
        return value


class _Sparse(Model):
    """Written as it was given: in these, a key that is absent and one that is null differ."""

    @pydantic.model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        given = {fields[name].alias or name for name in self.model_fields_set} | self.model_fields_set
        return {key: value for key, value in handler(self).items() if key in given}


class ColumnConfig(_Sparse):
    """Where one canonical column comes from: a column, a constant or an expression."""

    source: str | None = Field(default=None, alias="from", description="a column of the raw table")
    const: Annotated[str | int | float | bool | None, "scalar"] = Field(
        default=None, description="the same value in every row"
    )
    expr: str | None = Field(default=None, description="a scalar expression over the raw columns, in DuckDB's SQL")
    values: Annotated[Mapping[str, str | None] | str | None, BeforeValidator(_value_map)] = Field(
        default=None, description="raw value to canonical value: a mapping, or a CSV file with these two columns"
    )
    default: Annotated[str | None, BeforeValidator(_text)] = Field(
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
            raise _problem("give exactly one of from, const and expr")
        if self.values is not None and given == ["const"]:
            raise _problem("values needs from or expr, not const")
        if "default" in self.model_fields_set and self.values is None:
            raise _problem("default belongs to values: it says what an unnamed value becomes", "default")
        return self

    @property
    def has_default(self) -> bool:
        """Whether `default` was given (null counts)."""
        return "default" in self.model_fields_set


class BlockConfig(_Sparse):
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
                raise _problem(f"{value!r} is not an IANA time zone such as Europe/Berlin") from None
        return value

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.sql is not None:
            for key, other in (("from", self.source), ("columns", self.columns), ("where", self.where)):
                if other is not None:
                    raise _problem(f"sql says it all: move {key} into the SELECT", key)
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

    @pydantic.field_validator("rates")
    @classmethod
    def _positive(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for code, rate in value.items():
            if not 0 < rate < float("inf"):
                raise _problem(f"the rate of {code} must be above 0, got {rate}", code)
        return value


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
                raise _problem(f"unknown table{nearest(str(name), tuple(schema.TABLES))}", str(name))
        return value

    @pydantic.field_validator("tables")
    @classmethod
    def _canonical_columns(cls, value: Mapping[str, Blocks]) -> Mapping[str, Blocks]:
        for name, blocks in value.items():
            if blocks == ():
                raise _problem("an empty list of blocks; write null to leave the table out", name)
            for block in blocks or ():
                for column in block.columns or ():
                    problem = unknown_column(schema.TABLES[name], column)
                    if problem:
                        raise _problem(problem, f"{name}.columns.{column}")
            for key in ("lag", "timezone"):
                if len({getattr(block, key) for block in blocks or ()} - {None}) > 1:
                    raise _problem(f"the blocks of one table must agree on {key}", name)
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
                raise _problem(
                    f"{name} changes with what is predicted, and `partners` holds it as it is now; it becomes a "
                    "feature from partner_history only, without being named here"
                )
        return value


class ActivityConfig(Model):
    """Which activity qualifies; both empty means all of it."""

    include: Texts = Field(default=(), description="only these event types (and `deals`)")
    exclude: Texts = Field(default=(), description="all but these event types (and `deals`)")


class ChurnConfig(Model):
    """Which active partner is about to go quiet."""

    horizon_days: int = Field(default=90, ge=1, le=3650, description="how far ahead the risk is read")
    inactivity_days: int = Field(
        default=90, ge=1, le=3650, description="the silence that counts as churn; at most the horizon"
    )
    active_within_days: int | None = Field(
        default=90, ge=1, le=3650, description="only partners active in these last days are scored; null = active ever"
    )
    activity: ActivityConfig = Field(default_factory=ActivityConfig, description="which activity qualifies")
    train_from: Annotated[str | None, BeforeValidator(_text)] = Field(
        default=None,
        description="the earliest monthly snapshot to train on, as a date; null = the first with its full history",
    )

    @pydantic.field_validator("train_from")
    @classmethod
    def _a_date(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                dt.date.fromisoformat(value)
            except ValueError:
                raise _problem(f"{value!r} is not a date such as 2026-01-01") from None
        return value

    @pydantic.model_validator(mode="after")
    def _horizon_holds_a_silence(self) -> Self:
        if self.horizon_days < self.inactivity_days:
            raise _problem(
                f"horizon_days ({self.horizon_days}) is below inactivity_days ({self.inactivity_days}): "
                "no silence of that length can end within the horizon; raise the one or lower the other"
            )
        return self


class TasksConfig(Model):
    """The tasks that `all` trains and scores."""

    later: ClassVar[tuple[str, ...]] = _LATER_TASKS

    churn: ChurnConfig | None = Field(default=None, description="churn risk; `churn: {}` takes every default")

    @pydantic.field_validator("churn", mode="before")
    @classmethod
    def _named_is_wanted(cls, value: object) -> object:
        # `churn:` with nothing behind it is YAML's null: the task is listed, so it is wanted
        return {} if value is None else value


class ValidationConfig(Model):
    """How much may be wrong."""

    max_rejected: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of a table that may be set aside before the warnings become an error",
    )


class EngineConfig(Model):
    """Limits of the embedded DuckDB."""

    threads: int | None = Field(default=None, ge=1, description="null = all cores; results do not depend on it")
    memory_limit: str | None = Field(default=None, description="such as 2GB; null = DuckDB's own, 80 % of the memory")
    spill: str | None = Field(default=None, description="folder for what does not fit into memory; null = OUT/.spill")

    @pydantic.field_validator("memory_limit")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B)", value) is None:
            raise _problem(f"a size such as 512MB or 2GB is needed, got {value!r}")
        return value


class MlflowConfig(Model):
    """Where runs are logged and models registered."""

    tracking_uri: str | None = Field(default=None, description="null = sqlite database OUT/mlflow.db")


class ReportConfig(Model):
    """How scores are shown."""

    bands: Annotated[tuple[float, float, float], BeforeValidator(_tuple)] = Field(
        default=(0.25, 0.5, 0.75),
        description="cuts between low, medium, high and critical; a cut belongs to the band above",
    )

    @pydantic.field_validator("bands")
    @classmethod
    def _increasing(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not 0 < value[0] < value[1] < value[2] < 1:
            raise _problem(f"three increasing cuts between 0 and 1 are needed, got {list(value)}")
        return value


class Config(Model):
    """A whole configuration.

    Build one with `Config.load` (a YAML file), `Config.of_source` (a folder, a .duckdb file or a URL) or
    `Config.from_dict`.
    """

    later: ClassVar[tuple[str, ...]] = _LATER_SECTIONS

    data: DataConfig = Field(default_factory=DataConfig, description="where the tables come from")
    traits: TraitsConfig = Field(default_factory=TraitsConfig, description="columns that may become features, by table")
    output: str = Field(default="out", description="OUT: where scores, models, rejects and reports go")
    tasks: TasksConfig = Field(
        default_factory=lambda: TasksConfig(churn=ChurnConfig()),
        description="without it, every task whose tables exist; a task that is not listed is not trained by `all`",
    )
    validation: ValidationConfig = Field(default_factory=ValidationConfig, description="how much may be wrong")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="limits of the embedded DuckDB")
    mlflow: MlflowConfig = Field(default_factory=MlflowConfig, description="where models are registered")
    report: ReportConfig = Field(default_factory=ReportConfig, description="how scores are shown")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of everything drawn; same input and seed, same bytes")

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Config:
        """Read a YAML file.

        Parameters
        ----------
        path : str or Path
        overrides : sequence of str
            ``KEY=VALUE`` with a dotted key, such as ``"data.source=exports/"``; the value is YAML.

        Raises
        ------
        ConfigError
            Names the file, the dotted key, what is allowed and what came.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: the configuration cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: the configuration is not UTF-8 text (byte {error.start})") from None
        tree = parse_yaml(text, str(path))
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: a mapping of keys is needed at the top, got {type(tree).__name__}")
        return cls.from_dict(tree, overrides=overrides, base=path.absolute().parent, name=str(path))

    @classmethod
    def of_source(cls, source: str | Path | None, overrides: Sequence[str] = ()) -> Config:
        """Build the smallest configuration: a folder, .duckdb file or Ibis URL (None: frames); paths start here."""
        tree: dict[str, Any] = {} if source is None else {"data": {"source": str(source)}}
        return cls.from_dict(tree, overrides=overrides, base=Path.cwd(), name="configuration")

    @classmethod
    def from_dict(
        cls,
        tree: Mapping[str, Any],
        *,
        overrides: Sequence[str] = (),
        base: str | Path | None = None,
        name: str = "configuration",
    ) -> Config:
        """Build a configuration from a plain mapping, such as `resolved` returned.

        Parameters
        ----------
        tree : mapping
        overrides : sequence of str
            As in `load`.
        base : str or Path, optional
            Where relative paths of `tree` start; the working directory by default.
        name : str
            What messages call it.
        """
        here = Path(base) if base is not None else Path.cwd()
        merged: dict[str, Any] = absolute({"output": "out", **tree}, here.absolute())
        for override in overrides:
            apply_override(merged, override)
        try:
            return cls.model_validate(merged)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(error, merged, name)) from None

    @property
    def out(self) -> Path:
        """The output folder."""
        return Path(self.output)

    @property
    def spill(self) -> Path:
        """The folder for what does not fit into memory."""
        return Path(self.engine.spill) if self.engine.spill else self.out / ".spill"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store."""
        return self.mlflow.tracking_uri or f"sqlite:///{self.out / 'mlflow.db'}"

    def resolved(self) -> dict[str, Any]:
        """Return every key with its value, as plain JSON values; `from_dict` reads it back."""
        tree = self.model_dump(mode="json", by_alias=True)
        # a task that is null would read as one that is listed
        tree["tasks"] = {name: task for name, task in tree["tasks"].items() if task is not None}
        return tree
