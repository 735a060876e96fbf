"""Close: whether a partner wins a lead that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partnerml.features import (
    Assigned,
    WonLabel,
    build_assigned,
    build_pairs,
    default_catalogue,
    largest_lag,
    pair_outcomes,
    won_tables,
)
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.tasks._task import Kind, Rows, Task

if TYPE_CHECKING:
    from partnerml.config import CloseConfig
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem


def close(*, horizon_days: int = 180, train_from: Moment | None = None) -> Task:
    """Whether a partner wins a lead within `horizon_days` of its assignment, given that it keeps the lead.

    Parameters
    ----------
    horizon_days : int
        A lead that is won later counts as not won.
    train_from : datetime or str, optional
        The earliest assignments to train on, where older ones were made in another way.

    Raises
    ------
    ConfigError
        If the horizon is not at least a day.
    """
    return Task(
        name="close",
        key=("lead_id", "partner_id", "as_of"),
        population=Assigned(),
        label=WonLabel(horizon_days),
        train_from=None if train_from is None else moment_of(train_from, name="train_from"),
    )


def _configured(settings: CloseConfig) -> Task:
    return close(horizon_days=settings.horizon_days, train_from=settings.train_from)


def _build(eco: Ecosystem, task: Task, rows: Rows) -> Dataset:
    """Build the pairs that were assigned up to the last moment: each as it was when it was assigned."""
    if rows.until is None:
        return build_pairs(eco, catalogue=rows.catalogue, until=rows.moments[-1])
    outcomes = pair_outcomes(eco)
    early = (outcomes.pairs["assigned_at"] <= rows.moments[-1].replace(tzinfo=None)).to_numpy()
    return build_assigned(eco, outcomes, catalogue=rows.catalogue, label=task.label, until=rows.until, rows=early)


def _missing(eco: Ecosystem) -> str | None:
    """Return what the tables lack."""
    for table in ("leads", "assignments"):
        if not eco.has(table):
            return f"the table {table}"
    if eco.has("assignments", "outcome", "closed_at") or eco.has("deals", "lead_id", "closed_at"):
        return None
    return "outcomes: there is neither assignments.outcome with closed_at nor deals.lead_id with closed_at"


KIND = Kind(
    name="close",
    configured=_configured,
    population=Assigned.from_dict,
    label=WonLabel.from_dict,
    lag=lambda eco: largest_lag(eco, won_tables(eco)),
    build=_build,
    catalogue=lambda eco, task, before: default_catalogue(eco, before=before, task="close"),
    missing=_missing,
)
