"""The `Ecosystem`: where the data lives, as canonical tables. The only place that knows."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import ibis
import pandas as pd
import pyarrow as pa

from partnerml import schema
from partnerml.config import BlockConfig, Config, CurrencyConfig, nearest
from partnerml.ecosystem._engine import explained, open_engine
from partnerml.ecosystem._files import Files
from partnerml.ecosystem._mapping import Mapper
from partnerml.ecosystem._rejects import write_rejects
from partnerml.ecosystem._sources import Sources, find_files, is_duckdb, to_arrow
from partnerml.ecosystem._validation import CheckedTables, CurrencyRule, ValidationReport, check_tables
from partnerml.errors import ConfigError, NotEnoughDataError, SourceError

log = logging.getLogger("partnerml")

# where only `validate` reads the clock, nothing lies in the future
_NO_CLOCK = dt.datetime(9000, 1, 1)  # noqa: DTZ001 (naive UTC, as every moment inside the engine)
_DENSE_SHARE = 0.001
_FAR_BEHIND = dt.timedelta(days=30)
# without these, features are missing; the other optional tables serve tasks of their own
_FEATURE_TABLES = ("partner_history", "events", "deals", "deal_history", "deal_partners", "certifications")


class Ecosystem:
    """The canonical tables of a partner ecosystem, in an embedded DuckDB.

    Open one with `Ecosystem.open` or `Ecosystem.from_frames`; close it, or use it as a context manager. Tables are
    mapped and validated when one is first asked for.

    Attributes
    ----------
    config : Config
    backend : ibis DuckDB backend
        Its session is in UTC, without access to files outside the source folders, the spill folder and OUT.
    """

    def __init__(self, config: Config, backend: Any, sources: Sources, *, now: dt.datetime | None = None) -> None:
        self.config = config
        self.backend = backend
        self._sources = sources
        self._now = _naive_utc(now)
        self._blocks = _blocks_by_table(config, sources)
        self._mapped: Mapping[str, ibis.Table] | None = None
        self._mapping_violations: tuple[Any, ...] = ()
        self._checked: tuple[dt.datetime, CheckedTables] | None = None
        self._until: dt.datetime | None = None
        self._notify_absent()

    @classmethod
    def open(
        cls, source: str | Path | Config | Any, *, overrides: Sequence[str] = (), now: dt.datetime | None = None
    ) -> Ecosystem:
        """Open an ecosystem.

        Parameters
        ----------
        source : str, Path, Config or ibis backend
            A YAML file, a folder of canonical tables, a .duckdb file, an Ibis URL, a configuration or a connection.
        overrides : sequence of str
            ``KEY=VALUE`` with a dotted key; refused with a `Config`, which is complete.
        now : datetime, optional
            The present, against which moments in the future are found (naive means UTC). Without it only `validate`
            looks at the clock.

        Raises
        ------
        ConfigError, SourceError
            If the configuration is wrong, or a source is not there.
        """
        config, remote = _configuration(source, overrides)
        url = config.data.source
        attach = None
        if url is not None and remote is None:
            if is_duckdb(url):
                attach = Path(url.removeprefix("duckdb://"))
            elif "://" in url:
                remote = _connect(url)
        files = find_files(config)
        if not files and remote is None and attach is None:
            raise ConfigError(
                "data.source: name a folder, a .duckdb file or an Ibis URL, or raw tables in data.sources"
            )
        return cls._with(config, files=files, remote=remote, attach=attach, now=now)

    @classmethod
    def from_frames(
        cls,
        *,
        now: dt.datetime | None = None,
        lags: Mapping[str, str] | None = None,
        config: Config | None = None,
        **tables: pd.DataFrame | pa.Table | ibis.Table,
    ) -> Ecosystem:
        """Open an ecosystem from canonical tables in memory.

        Parameters
        ----------
        now : datetime, optional
            As in `open`.
        lags : mapping of str to str, optional
            Declared lag of a table, such as ``{"events": "2d"}``.
        config : Config, optional
            Everything else; with `lags`, these are added to it.
        **tables : DataFrame, pyarrow Table or Ibis table
            By canonical name; with a `config` that maps them, by any name.

        Raises
        ------
        ConfigError
            If a name is no canonical table.
        DataError
            If a column mixes types.
        """
        config = _with_lags(config or Config.of_source(None), lags or {})
        named = {block.source for blocks in config.data.tables.values() for block in blocks or ()}
        uses_sql = any(block.sql for blocks in config.data.tables.values() for block in blocks or ())
        for name in tables:
            if name not in schema.TABLES and name not in named and not uses_sql:
                raise ConfigError(f"{name} is no canonical table{nearest(name, tuple(schema.TABLES))}")
        for name in lags or {}:
            if name not in tables:
                raise ConfigError(f"lags: there is no table {name} among {', '.join(tables) or 'none'}")
        frames = {name: to_arrow(name, table) for name, table in tables.items()}
        return cls._with(config, frames=frames, now=now)

    @classmethod
    def _with(
        cls,
        config: Config,
        *,
        files: Mapping[str, Files] | None = None,
        frames: Mapping[str, pa.Table] | None = None,
        remote: Any = None,
        attach: Path | None = None,
        now: dt.datetime | None = None,
    ) -> Ecosystem:
        folders = {path.parent for item in (files or {}).values() for path in item.paths}
        if attach is not None:
            folders.add(attach.parent)
        with explained("engine"):
            backend = open_engine(config, folders=folders, attach=attach)
        sources = Sources(backend, files=files, frames=frames, remote=remote, attached=attach is not None)
        return cls(config, backend, sources, now=now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ecosystem({', '.join(self.tables)})"

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the canonical tables that are there, in the order of the schema."""
        return tuple(self._blocks)

    def has(self, table: str, *columns: str) -> bool:
        """Whether a canonical table is there, with all of these columns."""
        if table not in self._blocks:
            return False
        return not columns or set(columns) <= set(self.table(table).columns)

    def table(self, name: str) -> ibis.Table:
        """Return a canonical table: typed, without the rows that validation set aside.

        Moments are naive UTC, numbers and amounts float64, ids text, lists arrays of text. Only columns that the
        source has are there.

        Raises
        ------
        ConfigError
            If there is no such table.
        DataError
            If validation found errors, in any table.
        """
        if name not in self._blocks:
            hint = nearest(name, self.tables) if name in schema.TABLES else nearest(name, tuple(schema.TABLES))
            raise ConfigError(f"there is no table {name}{hint} (tables: {', '.join(self.tables) or 'none'})")
        checked = self._check(self._now)
        checked.report.raise_for_errors()
        return checked.clean[name]

    def lag(self, table: str) -> dt.timedelta:
        """Return the declared lag of a table, 0 by default."""
        return self.config.data.lag(table)

    def validate(self, *, now: dt.datetime | None = None) -> ValidationReport:
        """Return every violation of every table.

        Parameters
        ----------
        now : datetime, optional
            Moments more than a day after it are set aside; by default the `now` that the ecosystem was opened with,
            else the clock.
        """
        moment = _naive_utc(now) or self._now or dt.datetime.now(dt.UTC).replace(tzinfo=None)
        return self._check(moment).report

    def write_rejects(self) -> tuple[Path, ...]:
        """Write the rows that were set aside to OUT/rejects, whole or not at all; return the files."""
        checked = self._checked[1] if self._checked else self._check(self._now)
        return write_rejects(checked.rejects, self.config.out)

    def default_until(self) -> dt.datetime:
        """Return the end of the dense data: the midnight (naive UTC) from which fewer than 0.1 % of dated rows lie.

        A dated row lies at its table's own moment (`schema.Table.event_time`). A few stray rows at the end, typing
        errors most often, would otherwise make every label immature or, worse, every partner silent.

        Raises
        ------
        NotEnoughDataError
            If no table holds a dated row.
        """
        if self._until is None:
            self._until = self._end_of_dense_data()
        return self._until

    def close(self) -> None:
        """Close the embedded DuckDB; tables that were handed out cannot be read any more."""
        self.backend.disconnect()

    def _end_of_dense_data(self) -> dt.datetime:
        days: dict[dt.date, int] = {}
        last: dt.datetime | None = None
        for name in self.tables:
            moment = schema.TABLES[name].event_time
            if moment is None or not self.has(name, moment):
                continue
            table = self.table(name)
            dated = table.filter(~table[moment].isnull())  # noqa: PD003 (an Ibis column)
            counted = dated.group_by(day=dated[moment].date())
            for row in counted.agg(n=dated.count(), last=dated[moment].max()).to_pyarrow().to_pylist():
                days[row["day"]] = days.get(row["day"], 0) + row["n"]
                last = row["last"] if last is None else max(last, row["last"])
        if last is None:
            raise NotEnoughDataError(
                f"no table holds a dated row (tables: {', '.join(self.tables)}); events or deals are needed"
            )
        after, total = 0, sum(days.values())
        day = max(days)
        for day in sorted(days, reverse=True):
            after += days[day]
            if after >= _DENSE_SHARE * total:
                break
        until = dt.datetime.combine(day, dt.time()) + dt.timedelta(days=1)
        if last - until > _FAR_BEHIND:
            log.warning(
                "the data is dense until %s, but the last row is of %s: rows from there on do not count; "
                "give --until if they should",
                until.date(),
                last.date(),
            )
        return until

    def _check(self, now: dt.datetime | None) -> CheckedTables:
        """Map and validate once for a present; None means without one."""
        wanted = now or _NO_CLOCK
        if self._checked is not None:
            known, checked = self._checked
            # without rows in the future, every later present finds the same
            finds_the_same = wanted >= known and not any(v.rule == "future" for v in checked.report.violations)
            if known == wanted or finds_the_same:
                return checked
        mapped = self._map()
        names = tuple(mapped)
        with explained("data"):
            checked = check_tables(
                self.backend,
                mapped,
                mapping_violations=self._mapping_violations,
                zones={name: self.config.data.timezone(name) for name in names},
                lags={name: self.lag(name) for name in names},
                now=wanted,
                max_rejected=self.config.validation.max_rejected,
                currency=_currency(self.config.data.currency),
            )
        self._checked = (wanted, checked)
        self._until = None
        return checked

    def _map(self) -> Mapping[str, ibis.Table]:
        if self._mapped is None:
            mapper = Mapper(self.backend, self._sources)
            mapped = {name: mapper.map(name, blocks) for name, blocks in self._blocks.items()}
            self._mapping_violations = tuple(item for table in mapped.values() for item in table.violations)
            self._mapped = MappingProxyType({name: table.table for name, table in mapped.items()})
        return self._mapped

    def _notify_absent(self) -> None:
        absent = [name for name in _FEATURE_TABLES if name not in self._blocks]
        if absent:
            log.info("no table %s: features of these are left out", ", ".join(absent))


def _configuration(source: Any, overrides: Sequence[str]) -> tuple[Config, Any]:
    """Return the configuration, and the connection where the source is one."""
    if isinstance(source, Config):
        if overrides:
            raise ConfigError("overrides belong to a file or a folder; a Config is complete, build another one")
        return source, None
    if isinstance(source, str | Path):
        if "://" not in str(source) and Path(source).suffix.lower() in (".yaml", ".yml"):
            return Config.load(source, overrides), None
        return Config.of_source(source, overrides), None
    if isinstance(source, ibis.BaseBackend):
        return Config.of_source(None, overrides), source
    raise ConfigError(
        f"a YAML file, a folder, a .duckdb file, an Ibis URL, a Config or an Ibis connection is needed, "
        f"got {type(source).__name__}"
    )


def _connect(url: str) -> Any:
    # the address may hold a password: only its scheme is repeated
    scheme = url.partition("://")[0]
    try:
        return ibis.connect(url)
    except Exception as error:  # any driver's own type
        raise SourceError(
            f"data.source: the {scheme}:// connection cannot be opened ({type(error).__name__}); is the address right, "
            f"and its driver installed (pip install 'ibis-framework[{scheme}]')?"
        ) from error


def _blocks_by_table(config: Config, sources: Sources) -> Mapping[str, tuple[BlockConfig, ...]]:
    """Return the blocks of each canonical table: as configured, else a raw table of that name as it is."""
    found: dict[str, tuple[BlockConfig, ...]] = {}
    for name in schema.TABLES:
        if name in config.data.tables:
            blocks = config.data.tables[name]
            if blocks is not None:
                found[name] = blocks
        elif name in sources.names:
            found[name] = (BlockConfig(),)
    return MappingProxyType(found)


def _with_lags(config: Config, lags: Mapping[str, str]) -> Config:
    if not lags:
        return config
    tree = config.resolved()
    for name, lag in lags.items():
        blocks = tree["data"]["tables"].get(name) or [{}]
        tree["data"]["tables"][name] = [{**block, "lag": lag} for block in blocks]
    return Config.from_dict(tree, name="lags")


def _currency(config: CurrencyConfig | None) -> CurrencyRule | None:
    return None if config is None else CurrencyRule(config.to, config.rates)


def _naive_utc(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(dt.UTC).replace(tzinfo=None)
