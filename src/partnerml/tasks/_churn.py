"""Churn: which active partner is about to go quiet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partnerml.errors import NotEnoughDataError
from partnerml.features import (
    Activity,
    Catalogue,
    ChurnLabel,
    Feature,
    Population,
    build,
    default_catalogue,
    first_activity,
    label_tables,
    largest_lag,
)
from partnerml.moments import Moment, month_starts
from partnerml.moments import moment as moment_of
from partnerml.tasks._task import Kind, Rows, Task

if TYPE_CHECKING:
    from partnerml.config import ChurnConfig
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem

# the days at which a risk curve is told
RISK_DAYS = (30, 60, 90, 180)


def churn(
    *,
    horizon_days: int = 90,
    inactivity_days: int = 90,
    active_within_days: int | None = 90,
    activity: Activity | None = None,
    train_from: Moment | None = None,
    max_rows: int | None = None,
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
    max_rows : int, optional
        Train on at most so many rows, those of partners drawn at random; by default 60,000.

    Raises
    ------
    ConfigError
        If the horizon is shorter than the silence, or `max_rows` is below 1,000.
    """
    chosen = activity or Activity()
    return Task(
        name="churn",
        key=("partner_id", "as_of"),
        population=Population(active_within_days=active_within_days, activity=chosen),
        label=ChurnLabel(horizon_days=horizon_days, inactivity_days=inactivity_days, activity=chosen),
        train_from=None if train_from is None else moment_of(train_from, name="train_from"),
        max_rows=max_rows,
    )


def history_days(task: Task) -> int:
    """Return how much history a snapshot needs before it, so that its activity window is not cut short."""
    return int(task.population.active_within_days or task.label.inactivity_days)


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
    first = first_activity(eco, task.population.activity, until=until)
    if first is None:
        raise NotEnoughDataError(
            f"{task.name} needs qualifying activity and there is none: the tables events and deals hold no row of "
            "partners that qualifies. Check the mapping of events.actor and tasks.churn.activity"
        )
    start = first + dt.timedelta(days=history_days(task)) if task.train_from is None else task.train_from
    return month_starts(start, until - task.gap(eco))


def transactions(
    eco: Ecosystem, task: Task, as_of: Sequence[Moment], *, only: Collection[str] | None = None
) -> Dataset:
    """Build what BG/NBD is fitted on: active days, recency and age of every partner ever active, left or not.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    as_of : sequence of moments
    only : collection of str, optional
        The partners that are looked at; by default all.
    """
    activity = task.population.activity
    ever = Population(active_within_days=None, activity=activity, with_left=True)
    names = [f"activity__all__{measure}__ever" for measure in ("active_days", "recency_days", "age_days")]
    catalogue = Catalogue(tuple(Feature.parse(name) for name in names), activity=activity)
    moments = sorted({moment_of(value) for value in as_of})
    return build(eco, population=ever, label=None, catalogue=catalogue, as_of=moments, only=only)


def nobody(eco: Ecosystem, task: Task, moment: dt.datetime) -> NotEnoughDataError:
    """Return the error that says why there is no row at a moment."""
    first = first_activity(eco, task.population.activity)
    span = "there is no qualifying activity at all"
    if first is not None:
        span = f"the data reach from {first:%Y-%m-%d} to {moment_of(eco.default_until()):%Y-%m-%d}"
    return NotEnoughDataError(
        f"no partner belongs to the population of {task.name} at {moment:%Y-%m-%d} ({task.words}); {span}"
    )


def _configured(settings: ChurnConfig) -> Task:
    return churn(
        horizon_days=settings.horizon_days,
        inactivity_days=settings.inactivity_days,
        active_within_days=settings.active_within_days,
        activity=Activity(include=settings.activity.include, exclude=settings.activity.exclude),
        train_from=settings.train_from,
        max_rows=settings.max_rows,
    )


def _build(eco: Ecosystem, task: Task, rows: Rows) -> Dataset:
    return build(
        eco,
        population=task.population,
        label=None if rows.until is None else task.label,
        catalogue=rows.catalogue,
        as_of=rows.moments,
        until=rows.until,
        cells=rows.cells,
    )


def _with_activity(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "activity": Activity.from_dict(state["activity"])}


KIND = Kind(
    name="churn",
    configured=_configured,
    population=lambda state: Population(**_with_activity(state)),
    label=lambda state: ChurnLabel(**_with_activity(state)),
    lag=lambda eco: largest_lag(eco, label_tables(eco)),
    build=_build,
    catalogue=lambda eco, task, before: default_catalogue(eco, before=before, activity=task.population.activity),
    missing=lambda eco: (
        None if eco.has("events") or eco.has("deals") else "the tables events and deals: it needs one of them"
    ),
    snapshots=True,
)
