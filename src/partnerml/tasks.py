"""The tasks: what a row is, who belongs, what is predicted. Four values of one type; churn is the first.

>>> from partnerml import tasks
>>> tasks.churn(horizon_days=90).horizon_days
90
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.config import nearest
from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.features import (
    Activity,
    Catalogue,
    CellStore,
    ChurnLabel,
    Feature,
    Population,
    build,
    build_joining,
    build_pairs,
    default_catalogue,
    first_activity,
    label_tables,
    largest_lag,
)
from partnerml.moments import Moment, month_starts
from partnerml.moments import moment as moment_of

if TYPE_CHECKING:
    from partnerml.config import Config
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

NAMES = ("churn",)
# whose features can be built; fit and close are not trained yet
FEATURE_TASKS = ("churn", "fit", "close")

# the days at which a risk curve is told
RISK_DAYS = (30, 60, 90, 180)
# a few days without a row are a holiday; more are a missing export
MAX_STALE_DAYS = 7


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted, for whom.

    Build one with a function of this module, such as `churn`, rather than directly.

    Attributes
    ----------
    name : str
    key : tuple of str
        The columns that identify a row.
    population : Population
        Who has a row at a moment.
    label : ChurnLabel
        What is predicted.
    train_from : datetime or None
        The earliest snapshot to train on; None for the first that has its full history.
    """

    name: str
    key: tuple[str, ...]
    population: Population
    label: ChurnLabel
    train_from: dt.datetime | None = None

    @property
    def horizon_days(self) -> int:
        """How far ahead the score looks."""
        return self.label.horizon_days

    @property
    def activity(self) -> Activity:
        """What counts as qualifying activity."""
        return self.population.activity

    @property
    def words(self) -> str:
        """Who has a row, in words."""
        days = self.population.active_within_days
        active = "active at any time before" if days is None else f"active in the {days} days before"
        return f"partners that had joined, had not left, and were {active}"

    def gap(self, eco: Ecosystem) -> dt.timedelta:
        """Return the time from a snapshot until its labels are known: the horizon and the declared lag."""
        return dt.timedelta(days=self.horizon_days) + largest_lag(eco, label_tables(eco))

    @property
    def history_days(self) -> int:
        """How much history a snapshot needs before it, so that its activity window is not cut short."""
        return self.population.active_within_days or self.label.inactivity_days

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "key": list(self.key),
            "population": self.population.to_dict(),
            "label": self.label.to_dict(),
            "train_from": None if self.train_from is None else self.train_from.isoformat(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Task:
        """Rebuild from `to_dict`.

        Raises
        ------
        ConfigError
            If the task is one that this version does not know.
        """
        if state.get("name") not in NAMES:
            raise ConfigError(f"there is no task {state.get('name')!r} in this version; known are {', '.join(NAMES)}")
        train_from = state.get("train_from")
        return cls(
            name=str(state["name"]),
            key=tuple(state["key"]),
            population=Population(**_with_activity(state["population"])),
            label=ChurnLabel(**_with_activity(state["label"])),
            train_from=None if train_from is None else moment_of(train_from, name="train_from"),
        )


def _with_activity(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "activity": Activity.from_dict(state["activity"])}


def churn(
    *,
    horizon_days: int = 90,
    inactivity_days: int = 90,
    active_within_days: int | None = 90,
    activity: Activity | None = None,
    train_from: Moment | None = None,
) -> Task:
    """Which active partner is about to go quiet.

    Parameters
    ----------
    horizon_days : int
        How far ahead: the label is a silence that ends (or a partner that leaves) within these days.
    inactivity_days : int
        The silence that counts as churn; at most `horizon_days`.
    active_within_days : int or None
        Only partners with qualifying activity in these last days have a row; None for those ever active.
    activity : Activity, optional
        Which activity qualifies; by default events of the partner's own, deals registered and deals won.
    train_from : datetime or str, optional
        The earliest snapshot to train on, where earlier history is too thin.

    Raises
    ------
    ConfigError
        If the horizon is shorter than the silence.
    """
    chosen = activity or Activity()
    return Task(
        name="churn",
        key=("partner_id", "as_of"),
        population=Population(active_within_days=active_within_days, activity=chosen),
        label=ChurnLabel(horizon_days=horizon_days, inactivity_days=inactivity_days, activity=chosen),
        train_from=None if train_from is None else moment_of(train_from, name="train_from"),
    )


def from_config(config: Config) -> tuple[Task, ...]:
    """Return the tasks that a configuration lists, in the order of the pipeline."""
    settings = config.tasks.churn
    if settings is None:
        return ()
    return (
        churn(
            horizon_days=settings.horizon_days,
            inactivity_days=settings.inactivity_days,
            active_within_days=settings.active_within_days,
            activity=Activity(include=settings.activity.include, exclude=settings.activity.exclude),
            train_from=settings.train_from,
        ),
    )


def build_dataset(
    eco: Ecosystem,
    task: Task,
    as_of: Sequence[Moment] | Moment,
    *,
    until: Moment | None = None,
    catalogue: Catalogue | Mapping[str, Any] | None = None,
    labels: bool = True,
    cells: CellStore | None = None,
) -> Dataset:
    """Build the rows of a task at some moments: features of what was known before, labels of what came after.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    as_of : moment or sequence of moments
        Features see ``[as_of - window, as_of)`` of what was recorded before as_of. A date is 00:00 UTC of it.
    until : moment, optional
        Labels see what was recorded before it; a label that is not mature by then is null. Default: the last midnight
        after which fewer than 0.1 % of the dated rows lie.
    catalogue : Catalogue, optional
        The features; by default those of the event types that were known before the first as_of.
    labels : bool
        Whether to build labels: False for scoring.
    cells : CellStore, optional
        What `cells_of` returned: stands for the events where it can.

    Returns
    -------
    Dataset
        Rows in order of as_of and partner.
    """
    moments = _moments(as_of)
    if catalogue is None:
        catalogue = default_catalogue(eco, before=moments[0], activity=task.activity)
    elif not isinstance(catalogue, Catalogue):
        catalogue = Catalogue.from_dict(catalogue)
    if not labels:
        return build(eco, population=task.population, label=None, catalogue=catalogue, as_of=moments, cells=cells)
    known = moment_of(eco.default_until() if until is None else until, name="until")
    return build(
        eco,
        population=task.population,
        label=task.label,
        catalogue=catalogue,
        as_of=moments,
        until=known,
        cells=cells,
    )


def _moments(as_of: Sequence[Moment] | Moment) -> list[dt.datetime]:
    """Return the distinct moments, in order."""
    several = [as_of] if isinstance(as_of, str | dt.date) else as_of
    moments = sorted({moment_of(value) for value in several})
    if not moments:
        raise ConfigError("as_of is empty: give at least one moment, such as 2026-06-01")
    return moments


def build_features(
    eco: Ecosystem,
    name: str,
    as_of: Sequence[Moment] | Moment,
    *,
    catalogue: Catalogue | Mapping[str, Any] | None = None,
    cells: CellStore | None = None,
) -> dict[dt.datetime, Dataset]:
    """Build the features that a task takes, without labels, at some moments.

    Parameters
    ----------
    eco : Ecosystem
    name : str
        ``churn``: the active partners at each moment, as the configuration says. ``fit``: partners and recruits with
        the traits that they had when they joined, all that joined before the moment. ``close``: the pairs of lead and
        partner that were assigned before it, each as it was when it was assigned.
    as_of : moment or sequence of moments
    catalogue : Catalogue, optional
        By default the one that `feature_catalogue` finds before the first moment: the same columns for all of them.
    cells : CellStore, optional
        What `cells_of` returned: stands for the events of ``churn`` where it can.

    Returns
    -------
    dict of datetime to Dataset
        In order of the moments (zoned, UTC).

    Raises
    ------
    ConfigError
        If there is no such task, or no moment.
    """
    moments = _moments(as_of)
    if catalogue is None:
        catalogue = feature_catalogue(eco, name, before=moments[0])
    elif not isinstance(catalogue, Catalogue):
        catalogue = Catalogue.from_dict(catalogue)
    if name == "fit":
        return {moment: build_joining(eco, catalogue=catalogue, as_of=moment) for moment in moments}
    if name == "close":
        return {moment: build_pairs(eco, catalogue=catalogue, until=moment) for moment in moments}
    task = configured(eco.config, name)
    data = build(eco, population=task.population, label=None, catalogue=catalogue, as_of=moments, cells=cells)
    return {moment: data if len(moments) == 1 else data.at(moment) for moment in moments}


def feature_catalogue(eco: Ecosystem, name: str, *, before: Moment) -> Catalogue:
    """Return the features that a task takes by default, by what was known before a moment.

    Raises
    ------
    ConfigError
        If there is no such task, or the configuration does not list it.
    """
    if name not in FEATURE_TASKS:
        raise ConfigError(
            f"there is no task {name!r}{nearest(name, FEATURE_TASKS)} (known: {', '.join(FEATURE_TASKS)})"
        )
    activity = configured(eco.config, name).activity if name in NAMES else None
    return default_catalogue(eco, before=moment_of(before), activity=activity, task=name)


def cells_of(eco: Ecosystem, *, until: Moment, rebuild: bool = False) -> CellStore | None:
    """Bring the stored cells of events up to date, if the configuration keeps them.

    Parameters
    ----------
    eco : Ecosystem
    until : moment
        What was seen before 00:00 UTC of its day is taken in.
    rebuild : bool
        Read everything anew: rows of the source were changed or deleted.

    Returns
    -------
    CellStore or None
        None if the configuration keeps no cells, or there are no events.

    Raises
    ------
    ConfigError
        If the cells were made by another mapping or lag, or if a rebuild is asked for and none are kept.
    """
    if not eco.config.features.cells:
        if rebuild:
            raise ConfigError("there are no cells to rebuild: write `features: {cells: true}` to keep them")
        return None
    if not eco.has("events"):
        return None
    store = CellStore.open(eco.config.out / "cells", fingerprint=_mapping_of_events(eco.config))
    report = store.update(eco, _midnight(until), rebuild=rebuild)
    _logger.info(
        "cells of events up to %s: %s new rows read, %s of them late",
        f"{report.watermark:%Y-%m-%d}",
        f"{report.rows_read:,}",
        f"{report.late_rows:,}",
    )
    return store


def _midnight(value: Moment) -> dt.datetime:
    return moment_of(value).replace(hour=0, minute=0, second=0, microsecond=0)


def _mapping_of_events(config: Config) -> str:
    """Return what identifies how events are mapped; where the files lie is no part of it, they may move every day."""
    blocks = config.resolved()["data"]["tables"].get("events") or []
    for block in blocks:
        for column in (block.get("columns") or {}).values():
            if isinstance(column.get("values"), str):
                column["values"] = hashlib.sha256(Path(column["values"]).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(blocks, sort_keys=True).encode()).hexdigest()[:16]


def configured(config: Config, name: str) -> Task:
    """Return a task as the configuration lists it.

    Raises
    ------
    ConfigError
        If there is no such task, or the configuration does not list it.
    """
    known = {task.name: task for task in from_config(config)}
    if name in known:
        return known[name]
    if name in NAMES:
        raise ConfigError(f"task {name} is not listed in the configuration; add `{name}: {{}}` under `tasks:`")
    listed = ", ".join(known) or "none"
    raise ConfigError(f"there is no task {name!r}{nearest(name, NAMES)} (in this configuration: {listed})")


def snapshots(eco: Ecosystem, task: Task, until: dt.datetime) -> list[dt.datetime]:
    """Return the firsts of the months that can be trained on: full history before them, mature labels after them.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    until : datetime
        What was known before it is used.

    Raises
    ------
    NotEnoughDataError
        If there is no qualifying activity at all.
    """
    first = first_activity(eco, task.activity)
    if first is None:
        raise NotEnoughDataError(
            f"{task.name} needs qualifying activity and there is none: the tables events and deals hold no row of "
            "partners that qualifies. Check the mapping of events.actor and tasks.churn.activity"
        )
    start = first + dt.timedelta(days=task.history_days) if task.train_from is None else task.train_from
    return month_starts(start, until - task.gap(eco))


def transactions(eco: Ecosystem, task: Task, as_of: Sequence[Moment]) -> Dataset:
    """Build what BG/NBD is fitted on: active days, recency and age of every partner ever active, left or not."""
    ever = Population(active_within_days=None, activity=task.activity, with_left=True)
    names = [f"activity__all__{measure}__ever" for measure in ("active_days", "recency_days", "age_days")]
    catalogue = Catalogue(tuple(Feature.parse(name) for name in names), activity=task.activity)
    moments = sorted({moment_of(value) for value in as_of})
    return build(eco, population=ever, label=None, catalogue=catalogue, as_of=moments)


def staleness(eco: Ecosystem, moment: dt.datetime) -> str | None:
    """Return why the data are too old for a moment, in words; None if they are not.

    Beyond the last rows everybody looks silent, and silence is what the label is made of.
    """
    end = moment_of(eco.default_until())
    behind = moment - end - largest_lag(eco, label_tables(eco))
    if behind <= dt.timedelta(days=MAX_STALE_DAYS):
        return None
    return (
        f"the data end on {end:%Y-%m-%d}, {behind.days} days before {moment:%Y-%m-%d}: after their end every partner "
        "looks silent. Check that the export is complete, or choose an earlier date"
    )


def nobody(eco: Ecosystem, task: Task, moment: dt.datetime) -> NotEnoughDataError:
    """Return the error that says why there is no row at a moment."""
    first = first_activity(eco, task.activity)
    span = "there is no qualifying activity at all"
    if first is not None:
        span = f"the data reach from {first:%Y-%m-%d} to {moment_of(eco.default_until()):%Y-%m-%d}"
    return NotEnoughDataError(
        f"no partner belongs to the population of {task.name} at {moment:%Y-%m-%d} ({task.words}); {span}"
    )
