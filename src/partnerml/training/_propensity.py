"""The recipe of propensity: accounts at their creation where dates are known, else what partners look like."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.features import build_accounts, partner_accounts
from partnerml.training._columns import check_traits, select_columns
from partnerml.training._draw import Draw, draw, ones
from partnerml.training._look_alike import MAX_LEVELS, LookAlike
from partnerml.training._one_trait import WORDS, one_trait
from partnerml.training._recipe import Recipe, Settings, Simplest, check_folds, enough_folds, rarer, strength

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import Catalogue
    from partnerml.models import Fold, Learner, Model
    from partnerml.tasks import Task
    from partnerml.training._recipe import Maker

# with fewer months to judge on, weeks are taken
_MONTHS = 6
# More accounts cost time and tell a model of traits next to nothing, unless few of them became partners.
MAX_ROWS, LEAST_OF_RARER = 200_000, 5_000
# partners to compare an account with, and rows that tell what the model finds important
_MOST_PARTNERS, _ROWS = 300, 2_000


def recipe(eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int, origins: int) -> Recipe | LookAlike:
    """Build the rows and say how a model of propensity is made.

    Raises
    ------
    NotEnoughDataError
        If too few accounts are known to be partners, or too few are not.
    """
    task = task.kind.resolved(eco, task)
    catalogue = task.kind.catalogue(eco, task, until)
    data = tasks.build_dataset(eco, task, as_of=until, until=until, catalogue=catalogue)
    _check_anybody(task, data, until)
    # a look-alike is labelled or not, and never too young to tell
    data = data.where(data.mature)
    drawn = _drawn(task, data, seed)
    data = drawn.of(data, "account_id")
    check_traits(data)
    columns, twins = select_columns(data.X)
    if not columns:
        raise NotEnoughDataError(
            "propensity has no trait that differs between accounts: all that traits.accounts names are constant"
        )
    neighbours = _Neighbours(eco, task, catalogue, data, until)
    if not task.label.dated:
        return LookAlike(
            task,
            catalogue,
            data,
            columns,
            twins,
            until,
            seed,
            neighbours.facts,
            neighbours.documents,
            drawn.told(),
        )
    folds = _folds(task, data, task.gap(eco), origins=origins)
    parts = _Parts(task, data, columns, task.gap(eco), seed)
    return Recipe(
        task=task,
        catalogue=catalogue,
        data=data,
        columns=columns,
        twins=twins,
        gap=task.gap(eco),
        until=until,
        seed=seed,
        folds=folds,
        cluster="account_id",
        known={fold.cut: parts.labels_at(fold.cut) for fold in folds},
        make=parts.learners,
        baselines=parts.baselines(),
        simplest=Simplest("one_trait", WORDS),
        documents=neighbours.documents,
        told=drawn.told(),
    )


def _drawn(task: Task, data: Dataset, seed: int) -> Draw:
    """Draw accounts; as many more as it takes for enough of the rarer label to be among them."""
    enough = math.ceil(len(data) * LEAST_OF_RARER / max(rarer(data.labels), 1))
    at_most = max(task.max_rows or MAX_ROWS, enough)
    return draw(ones(data, "account_id"), at_most=at_most, seed=seed, of="accounts", task=task.name)


def _check_anybody(task: Task, data: Dataset, until: dt.datetime) -> None:
    if data.labels.sum() > 0:
        return
    if task.label.dated:
        raise NotEnoughDataError(
            f"no account became a partner within {task.horizon_days} days of its creation, of {len(data)} created "
            f"before {until:%Y-%m-%d}, {int(data.mature.sum())} of them long enough ago. Check accounts.partner_since, "
            "raise tasks.propensity.horizon_days, or learn from all partners whenever they joined (dated: false)"
        )
    what = (
        "has won revenue (accounts.partner_id must lead to partners that do)"
        if task.label.positives == "best"
        else ("is a partner (accounts.is_partner, partner_since or partner_id)")
    )
    raise NotEnoughDataError(
        f"nothing is labelled: none of the accounts known before {until:%Y-%m-%d} {what}; propensity learns from those"
    )


def _folds(task: Task, data: Dataset, gap: dt.timedelta, *, origins: int) -> tuple[Fold, ...]:
    """Return months to judge on, or weeks where the history is short."""
    from partnerml.models import months, rolling_origin

    found: tuple[Fold, ...] = ()
    for periods in (months(data.as_of), weeks(data.as_of)):
        rolled = rolling_origin(data.as_of, gap=pd.Timedelta(gap), periods=periods)
        found = enough_folds(rolled, {fold.cut: data.labels for fold in rolled}, origins=origins)
        if len(found) >= _MONTHS:
            break
    check_folds(
        task,
        data,
        found,
        origins="weeks",
        remedy="More accounts or more history are needed, or a shorter horizon_days; or learn from all partners "
        "whenever they joined (dated: false)",
    )
    return found


def weeks(as_of: pd.Series) -> pd.Series:
    """Return the Monday of the week of each moment (UTC)."""
    days: pd.Series = as_of.dt.normalize()
    monday: pd.Series = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    return monday


class _Parts:
    """How the parts of a model are fitted on accounts at their creation."""

    def __init__(self, task: Task, data: Dataset, columns: list[str], gap: dt.timedelta, seed: int) -> None:
        self.task, self.data, self.columns, self.gap, self.seed = task, data, columns, gap, seed

    def learners(self, settings: Settings) -> Mapping[str, Maker]:
        """How the components of the blend are fitted."""
        from partnerml.models import BoostedTrees, LogLogistic

        trees = {"random_state": self.seed, **settings.get("trees", {})}
        penalty = strength(self.columns, settings)
        return {
            "trees": lambda X, y, cut: BoostedTrees(**trees).fit(X[self.columns], y, known_rows=self.known_rows(X)),
            "logistic": lambda X, y, cut: LogLogistic(C=penalty, max_levels=MAX_LEVELS).fit(
                X[self.columns], y, known_rows=self.known_rows(X)
            ),
        }

    def baselines(self) -> Mapping[str, Learner]:
        """How the baselines are fitted that are not components already."""
        from partnerml.models import BaseRate

        return {"base_rate": BaseRate.learn, "one_trait": one_trait(self.columns)}

    def known_rows(self, X: pd.DataFrame) -> np.ndarray:
        """Return how many of these rows had a known label when each account was created, shape (n,)."""
        from partnerml.models import known_rows

        return known_rows(self.data.as_of.loc[X.index], pd.Timedelta(self.gap))

    def labels_at(self, cut: pd.Timestamp) -> pd.Series:
        """Return the labels as they were known at a cut: nothing of accounts is known later than their lag."""
        return self.data.labels.where(self.data.as_of + self.gap <= cut)


class _Neighbours:
    """The partners that accounts are compared with."""

    def __init__(self, eco: Ecosystem, task: Task, catalogue: Catalogue, data: Dataset, until: dt.datetime) -> None:
        population, share = task.population, task.label.best_share
        self.facts = partner_accounts(eco, population, until=until, best_share=share)
        self.partners = build_accounts(eco, catalogue=catalogue, population=population, as_of=until, partners=True)
        self.data = data

    def documents(self, model: Model) -> Mapping[str, Any]:
        """Return the best partners, and how important the model found each trait."""
        from partnerml.models import NearestPartners

        chosen = best_partners(self.facts)
        if not len(chosen):
            return {}
        rows = self.partners.keys["account_id"].isin(chosen["account_id"]).to_numpy()
        keys = self.partners.keys[rows][["account_id"]].merge(chosen[["account_id", "partner_id"]], on="account_id")
        places = np.unique(np.linspace(0, len(self.data) - 1, min(len(self.data), _ROWS)).astype(int))
        effects = model.contributions(self.data.X.iloc[places]).drop(columns="base").abs().mean()
        found = NearestPartners.of(
            self.partners.X[rows].reset_index(drop=True),
            keys,
            everyone=self.data.X,
            importance={str(name): float(value) for name, value in effects.items()},
            dictionary=self.data.dictionary,
        )
        return {"neighbours": found.to_state()}


def best_partners(facts: pd.DataFrame) -> pd.DataFrame:
    """Return the best partners, or all where nobody has won revenue: at most 300, those with the most.

    Parameters
    ----------
    facts : DataFrame
        As `partner_accounts` returns it.
    """
    chosen = facts[facts["best"]] if facts["best"].any() else facts
    order = chosen.sort_values(["revenue", "account_id"], ascending=[False, True], na_position="last")
    return order.head(_MOST_PARTNERS).sort_values("account_id", ignore_index=True)
