"""Fit: which recruit will succeed, judged by what it was when it joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partnerml.features import (
    Joining,
    SuccessLabel,
    build_joining,
    default_catalogue,
    largest_lag,
    success_tables,
)
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.tasks._task import Kind, Rows, Task

if TYPE_CHECKING:
    from partnerml.config import FitConfig
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem


def fit(
    *,
    success_days: int = 365,
    success_amount: float | None = None,
    train_from: Moment | None = None,
    max_rows: int | None = None,
) -> Task:
    """Whether a partner succeeds within `success_days` of joining.

    Parameters
    ----------
    success_days : int
    success_amount : float, optional
        Success is won revenue of this amount; by default the first won deal.
    train_from : datetime or str, optional
        The earliest joining date to train on. By default the first of the month of the first deal on record: who
        joined before the deals began may have had successes that nobody can see.
    max_rows : int, optional
        Train on at most so many partners, drawn at random; by default 50,000.

    Raises
    ------
    ConfigError
        If the days or the amount are not above 0, or `max_rows` is below 1,000.
    """
    return Task(
        name="fit",
        key=("partner_id", "as_of"),
        population=Joining(),
        label=SuccessLabel(success_days=success_days, success_amount=success_amount),
        train_from=None if train_from is None else moment_of(train_from, name="train_from"),
        max_rows=max_rows,
    )


def _configured(settings: FitConfig) -> Task:
    return fit(
        success_days=settings.success_days,
        success_amount=settings.success_amount,
        train_from=settings.train_from,
        max_rows=settings.max_rows,
    )


def _build(eco: Ecosystem, task: Task, rows: Rows) -> Dataset:
    """Build everybody that had joined, or was recruited, at the last moment: each as it was when it joined."""
    label = None if rows.until is None else task.label
    return build_joining(eco, catalogue=rows.catalogue, as_of=rows.moments[-1], label=label, until=rows.until)


def _missing(eco: Ecosystem) -> str | None:
    """Return what the tables lack."""
    if not any(eco.has(table, "joined_at") for table in ("partners", "recruits")):
        return "a joining date: neither partners.joined_at nor recruits.joined_at"
    if not eco.has("deals", "closed_at"):
        return "deals with closed_at, which say when a partner succeeded"
    return None


KIND = Kind(
    name="fit",
    configured=_configured,
    population=Joining.from_dict,
    label=SuccessLabel.from_dict,
    lag=lambda eco: largest_lag(eco, success_tables(eco)),
    build=_build,
    catalogue=lambda eco, task, before: default_catalogue(eco, before=before, task="fit"),
    missing=_missing,
)
