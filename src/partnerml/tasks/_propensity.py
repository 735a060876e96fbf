"""Propensity: which company may become a partner, or looks like the best of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from partnerml.dataset import Dataset
from partnerml.features import (
    Accounts,
    PartnerLabel,
    build_accounts,
    build_labelled_accounts,
    default_catalogue,
    largest_lag,
    tell_idle_exclusions,
)
from partnerml.tasks._task import Kind, Rows, Task

if TYPE_CHECKING:
    from partnerml.config import PropensityConfig
    from partnerml.ecosystem import Ecosystem


def propensity(
    *,
    horizon_days: int = 90,
    dated: bool | None = None,
    positives: str = "partners",
    best_share: float = 0.25,
    class_prior: float | tuple[float, float] | None = None,
    exclude: Mapping[str, Sequence[str]] | None = None,
    max_rows: int | None = None,
) -> Task:
    """Which company may become a partner.

    Parameters
    ----------
    horizon_days : int
        With dates: the label is becoming a partner within these days of the creation of the account.
    dated : bool, optional
        Whether to learn from accounts at their creation. By default so if ``accounts`` has ``created_at`` and
        ``partner_since``; else from what partners look like among all accounts (positive-unlabelled learning).
    positives : str
        Without dates: ``partners`` learns from all partners, ``best`` from those with the most won revenue.
    best_share : float
        The share of the partners with won revenue that counts as the best: what `positives` learns from, and whom
        ``nearest_partners`` names.
    class_prior : float or (float, float), optional
        Without dates: the share of the accounts that are not labelled that are like those that are, or a range of it.
        Only then is a score a probability.
    exclude : mapping of str to sequence of str, optional
        Columns of ``accounts`` and values: who has one of them never has a row, such as
        ``{"relationship": ["competitor"]}``.
    max_rows : int, optional
        Train on about so many accounts, drawn at random; by default 200,000. More are taken where fewer than 5,000 of
        the rarer label would be left.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    prior = (class_prior, class_prior) if isinstance(class_prior, int | float) else class_prior
    return Task(
        name="propensity",
        key=("account_id", "as_of"),
        population=Accounts(tuple((column, tuple(values)) for column, values in (exclude or {}).items())),
        label=PartnerLabel(
            horizon_days=horizon_days, dated=dated, positives=positives, best_share=best_share, class_prior=prior
        ),
        max_rows=max_rows,
    )


def _configured(settings: PropensityConfig) -> Task:
    return propensity(
        horizon_days=settings.horizon_days,
        dated=settings.dated,
        positives=settings.positives,
        best_share=settings.best_share,
        class_prior=settings.class_prior,
        exclude=settings.exclude,
        max_rows=settings.max_rows,
    )


def _build(eco: Ecosystem, task: Task, rows: Rows) -> Dataset:
    """Build the accounts that are not partners at some moments; with labels, what the task is trained on before them.

    Labelled rows have moments of their own: those of accounts that were created before the last of the moments.
    """
    tell_idle_exclusions(eco, task.population)
    if rows.until is None:
        return build_accounts(eco, catalogue=rows.catalogue, population=task.population, as_of=rows.moments)
    data = build_labelled_accounts(
        eco, catalogue=rows.catalogue, population=task.population, label=task.label, until=rows.until
    )
    if task.label.resolved(eco).dated:
        return data.where(data.as_of < pd.Timestamp(rows.moments[-1]))
    return data


def _resolved(eco: Ecosystem, task: Task) -> Task:
    return dataclasses.replace(task, label=task.label.resolved(eco))


def _missing(eco: Ecosystem) -> str | None:
    if not eco.has("accounts"):
        return "the table accounts"
    if not any(eco.has("accounts", column) for column in ("is_partner", "partner_since", "partner_id")):
        return "who is a partner: accounts.is_partner, partner_since or partner_id"
    if not eco.config.traits.accounts:
        return "traits of accounts: name them in traits.accounts"
    return None


KIND = Kind(
    name="propensity",
    configured=_configured,
    population=Accounts.from_dict,
    label=PartnerLabel.from_dict,
    lag=lambda eco: largest_lag(eco, ("accounts",)),
    build=_build,
    catalogue=lambda eco, task, before: default_catalogue(eco, before=before, task="propensity"),
    missing=_missing,
    # who looks like a partner does not change for want of newer rows
    timeless=lambda eco, task: not task.label.resolved(eco).dated,
    resolved=_resolved,
    snapshots=True,
)
