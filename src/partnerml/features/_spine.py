"""Which partners are looked at, and when: the rows of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
from ibis import _

from partnerml.errors import ConfigError, DataError
from partnerml.features._calendar import EVER, Calendar
from partnerml.features._folds import Request
from partnerml.features._joined import Joined
from partnerml.features._recall import recall, serves
from partnerml.features._rows import Rows, named, slot
from partnerml.features._stream import Activity, Codes, interval, stream
from partnerml.features._windows import Windows, windows
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features._scratch import Scratch

ACTIVITY_SOURCES = ("events", "deals")
_LAST = Request("last", "activity", "all", EVER)


@dataclasses.dataclass(frozen=True)
class Population:
    """The partners of the churn task: joined, not left, and active of late, all as known at as_of.

    Parameters
    ----------
    active_within_days : int or None
        Qualifying activity in ``[as_of - active_within_days, as_of)`` is asked for; None: at any time before.
    activity : Activity
        What qualifies.
    with_left : bool
        Keep those that have left: a model of how activity ends must see the ends.
    """

    active_within_days: int | None = 90
    activity: Activity = Activity()  # noqa: RUF009 (a frozen value)
    with_left: bool = False

    def __post_init__(self) -> None:
        if self.active_within_days is not None and self.active_within_days < 1:
            raise ConfigError(f"active_within_days must be at least 1 (or null: ever), not {self.active_within_days}")

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {
            "active_within_days": self.active_within_days,
            "activity": self.activity.to_dict(),
            "with_left": self.with_left,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Population:
        """Return the value that `to_dict` was made from."""
        return cls(
            state["active_within_days"],
            Activity.from_dict(state["activity"]),
            with_left=bool(state.get("with_left", False)),
        )

    @property
    def words(self) -> str:
        """Who belongs, in words."""
        if self.active_within_days is None:
            return "joined, not left, with qualifying activity at some time before"
        return f"joined, not left, with qualifying activity in the {self.active_within_days} days before"


def naive_utc(moment: Moment) -> datetime:
    """Return a moment as the engine has it: naive UTC; naive moments and dates are taken as UTC."""
    return moment_of(moment).replace(tzinfo=None)


def moments(as_of: Sequence[Moment] | Moment) -> tuple[datetime, ...]:
    """Return distinct naive UTC moments in order.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if isinstance(as_of, str | date):
        as_of = [as_of]
    if len(as_of) == 0:
        raise ConfigError("as_of: at least one moment is needed")
    return tuple(sorted({naive_utc(moment) for moment in as_of}))


def partners_table(eco: Ecosystem) -> ibis.Table:
    """Return ``partner_id``, its number ``pid``, ``joined_at`` and ``left_at`` (null where there is no such column)."""
    partners = eco.table("partners")
    null = ibis.null("timestamp(6)")
    return partners.select(
        "partner_id",
        pid=(ibis.row_number().over(order_by=partners.partner_id)).cast("int32"),
        joined_at=partners.joined_at if eco.has("partners", "joined_at") else null,
        left_at=partners.left_at if eco.has("partners", "left_at") else null,
    )


def spine_of(
    eco: Ecosystem,
    population: Population,
    as_of: Sequence[datetime],
    *,
    scratch: Scratch | None = None,
    only: Collection[str] | None = None,
) -> ibis.Table:
    """Return the rows of a population: ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``.

    Parameters
    ----------
    eco : Ecosystem
    population : Population
    as_of : sequence of datetime
        Naive UTC, distinct.
    scratch : Scratch, optional
        Holds what is read many times.
    only : collection of str, optional
        The partners that may have a row; their numbers are those that they have among all.
    """
    partners = partners_table(eco)
    if only is not None:
        partners = partners.semi_join(chosen(only), "partner_id")
    found = _last_activity(eco, population.activity, as_of, partners=partners, scratch=scratch)

    last = found.numbers[_LAST]
    grid = found.table.select("partner_id", "pid", "joined_at", "left_at", "as_of", "k", "slot", last=last)
    last = grid["last"]
    recent = last.notnull()  # noqa: PD004 (an Ibis column)
    if population.active_within_days is not None:
        recent = recent & (last >= grid.as_of - ibis.interval(days=population.active_within_days))
    joined, left = joined_and_left(eco, grid)
    kept = recent & joined
    if not population.with_left:
        kept = kept & ~left
    return grid.filter(kept).select("partner_id", "as_of", "pid", "k", "slot")


def chosen(only: Collection[str]) -> ibis.Table:
    """Return ids as a table of ``partner_id``."""
    return ibis.memtable(pd.DataFrame({"partner_id": sorted(only)}), schema={"partner_id": "string"})


def joined_and_left(eco: Ecosystem, rows: ibis.Table) -> tuple[Any, Any]:
    """Return whether a partner had joined, and whether it had left, as far as was known before as_of.

    Parameters
    ----------
    eco : Ecosystem
    rows : ibis.Table
        ``joined_at``, ``left_at``, ``as_of``. Without a joining date a partner has been there since ever.
    """
    lag = interval(eco.lag("partners"))
    joined = (rows.joined_at + lag < rows.as_of).fill_null(True)
    return joined, (rows.left_at + lag < rows.as_of).fill_null(False)


def _last_activity(
    eco: Ecosystem, activity: Activity, as_of: Sequence[datetime], *, partners: ibis.Table, scratch: Scratch | None
) -> Windows:
    """Return these partners at every moment, beside their last qualifying activity."""
    if scratch is not None and scratch.cells is not None and serves(scratch.cells, eco, as_of):
        calendar = Calendar.of(as_of, ())
        grid = partners.cross_join(calendar.moments())
        grid = scratch.keep(grid.mutate(slot=slot(grid.pid, grid.k, calendar)))
        return recall(scratch.cells, eco, [_LAST], spine=grid, as_of=as_of, event_types=(), activity=activity)
    keep = named if scratch is None else scratch.keep
    calendar = Calendar.of(as_of, (), first_row=first_row(eco, ACTIVITY_SOURCES, scratch=scratch))
    codes = Codes()
    found = stream(eco, sources=ACTIVITY_SOURCES, codes=codes, activity=activity)
    active = dataclasses.replace(found, table=found.table.filter(_.qualifies))
    grid = partners.cross_join(calendar.moments())
    grid = grid.mutate(slot=slot(grid.pid, grid.k, calendar))
    rows = Rows.place(active, partners=partners, calendar=calendar, codes=codes, keep=keep)
    return windows(rows, [_LAST], spine=grid)


def population_keys(eco: Ecosystem, population: Population, as_of: Sequence[Moment] | Moment) -> ibis.Table:
    """Return ``partner_id`` and ``as_of`` (naive UTC) of a population, on the backend of the ecosystem."""
    return spine_of(eco, population, moments(as_of)).select("partner_id", "as_of")


def keys_table(keys: pd.DataFrame) -> ibis.Table:
    """Return given rows as a table.

    Raises
    ------
    DataError
        If a row comes twice.
    """
    frame = pd.DataFrame(
        {"partner_id": keys["partner_id"].astype("str"), "as_of": [naive_utc(moment) for moment in keys["as_of"]]}
    ).astype({"as_of": "datetime64[us]"})
    twice = frame.duplicated()
    if twice.any():
        partner_id, as_of = frame[twice].iloc[0]
        raise DataError(f"keys: {int(twice.sum())} row(s) come twice, first ({partner_id!r}, {as_of}); list each once")
    return ibis.memtable(frame, schema={"partner_id": "string", "as_of": "timestamp(6)"})


def spine_from(eco: Ecosystem, keys: ibis.Table, as_of: Sequence[datetime]) -> ibis.Table:
    """Return given rows as a spine; the number of a partner that is unknown is null.

    Parameters
    ----------
    eco : Ecosystem
    keys : ibis.Table
        ``partner_id`` and ``as_of``, each pair once.
    as_of : sequence of datetime
        Naive UTC, all moments of the keys.
    """
    known = partners_table(eco).select("partner_id", "pid")
    calendar = Calendar.of(as_of, ())
    joined = Joined(keys).add(known, on=("partner_id",)).add(calendar.moments(), on=("as_of",), how="inner")
    return joined.select("partner_id", "as_of", "pid", "k", slot=slot(joined["pid"], joined["k"], calendar))


def refuse_unknown(eco: Ecosystem, spine: ibis.Table) -> None:
    """Refuse a spine with partners that are not in the tables.

    Raises
    ------
    DataError
        That says how many there are.
    """
    unknown = spine.filter(spine.pid.isnull()).select("partner_id").distinct().order_by("partner_id")  # noqa: PD003
    missing = eco.backend.to_pyarrow(unknown)["partner_id"].to_pylist()
    if missing:
        raise DataError(f"keys: {len(missing)} partner(s) are not in partners, first {missing[0]!r}; leave them out")


def first_row(eco: Ecosystem, sources: Sequence[str], *, scratch: Scratch | None = None) -> datetime | None:
    """Return the first moment of all rows of the sources, None if there are no rows; a build looks once a source."""
    known = {} if scratch is None else scratch.first_rows
    for source in sources:
        if source not in known:
            rows = stream(eco, sources=(source,), codes=Codes(), activity=Activity()).table
            first = eco.backend.execute(rows.moment.min())
            known[source] = None if pd.isna(first) else pd.Timestamp(first).to_pydatetime()
    return min((first for source in sources if (first := known[source]) is not None), default=None)


def first_activity(eco: Ecosystem, activity: Activity, *, until: Moment | None = None) -> datetime | None:
    """Return the moment (zoned UTC) of the first qualifying activity of any partner, None if there is none.

    Parameters
    ----------
    eco : Ecosystem
    activity : Activity
    until : moment, optional
        What was recorded at or after it is unseen, however long ago it happened.
    """
    rows = stream(eco, sources=ACTIVITY_SOURCES, codes=Codes(), activity=activity).table.filter(_.qualifies)
    if until is not None:
        rows = rows.filter(_.seen_at < ibis.literal(naive_utc(until), type="timestamp(6)"))
    first = eco.backend.execute(rows.moment.min())
    return None if pd.isna(first) else pd.Timestamp(first).to_pydatetime().replace(tzinfo=UTC)


def largest_lag(eco: Ecosystem, tables: Sequence[str]) -> timedelta:
    """Return the largest declared lag of those tables that exist."""
    return max((eco.lag(table) for table in tables if eco.has(table)), default=timedelta(0))
