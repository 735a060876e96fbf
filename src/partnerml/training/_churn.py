"""The recipe of churn: monthly snapshots of active partners; trees, a logistic on log features, and BG/NBD."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.features import build, first_activity, labels_as_known, rows_by_partner
from partnerml.training._columns import check_traits, select_columns
from partnerml.training._draw import Draw, draw
from partnerml.training._recipe import Recipe, Settings, Simplest, check_folds, days_followed, enough_folds, strength

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import DiscreteTimeHazard, Learner
    from partnerml.tasks import Task
    from partnerml.training._recipe import Maker

# Older snapshots say little about now.
MAX_SNAPSHOTS = 36
# More rows cost time and tell a model of this size next to nothing: partners are drawn, all their rows with them.
MAX_ROWS = 60_000
THREADED_CELLS = 20_000_000

_RECENCY = "activity__all__recency_days__ever"


def recipe(eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int, origins: int) -> Recipe:
    """Build the snapshots and say how a model of churn is made.

    Raises
    ------
    NotEnoughDataError
        If there are too few months or labels.
    """
    from partnerml.models import rolling_origin

    gap = task.gap(eco)
    moments = _moments(eco, task, until)
    catalogue = task.kind.catalogue(eco, task, moments[0])
    drawn = _drawn(eco, task, moments, seed)
    data = build(
        eco,
        population=task.population,
        label=task.label,
        catalogue=catalogue,
        as_of=moments,
        until=until,
        only=drawn.ids,
    )
    _check_anybody(task, data)
    folds = rolling_origin(data.as_of, gap=pd.Timedelta(gap))
    # which folds are judged is not to depend on what is known late: the labels of today count their rows
    folds = enough_folds(folds, {fold.cut: data.labels for fold in folds}, origins=origins)
    check_folds(
        task,
        data,
        folds,
        origins="snapshots",
        remedy="More months or more partners are needed, or a shorter horizon_days",
    )
    check_traits(data)
    everyone = tasks.transactions(eco, task, as_of=[*(fold.cut for fold in folds), until], only=drawn.ids)
    columns, twins = select_columns(data.X[_covered(eco, task, data, until)])
    parts = _Parts(task, data, everyone, columns, gap, until, seed)
    return Recipe(
        task=task,
        catalogue=catalogue,
        data=data,
        columns=columns,
        twins=twins,
        gap=gap,
        until=until,
        seed=seed,
        folds=folds,
        cluster="partner_id",
        known=_labels_known(eco, task, data, [fold.cut for fold in folds], only=drawn.ids),
        make=parts.learners,
        baselines=parts.baselines(),
        simplest=Simplest("recency", "recency alone"),
        curve=parts.hazard,
        told=drawn.told(),
    )


class _Parts:
    """How the parts of a churn model are fitted on these rows."""

    def __init__(
        self,
        task: Task,
        data: Dataset,
        everyone: Dataset,
        columns: list[str],
        gap: dt.timedelta,
        until: dt.datetime,
        seed: int,
    ) -> None:
        self.task, self.data, self.everyone, self.columns = task, data, everyone, columns
        self.gap, self.until, self.seed = gap, until, seed

    def learners(self, settings: Settings) -> Mapping[str, Maker]:
        """How the components of the blend are fitted."""
        from partnerml.models import BoostedTrees, LogLogistic

        # below that, threads cost more than they save; they never change a result
        threads = 1 if self.data.X.size < THREADED_CELLS else None
        trees = {"random_state": self.seed, "n_jobs": threads, **settings.get("trees", {})}
        penalty = strength(self.columns, settings)
        return {
            "trees": lambda X, y, cut: BoostedTrees(**trees).fit(X[self.columns], y, known_rows=self.known_rows(X)),
            "logistic": lambda X, y, cut: LogLogistic(C=penalty).fit(X[self.columns], y, known_rows=self.known_rows(X)),
            "bgnbd": lambda X, y, cut: self.bgnbd(cut),
        }

    def baselines(self) -> Mapping[str, Learner]:
        """How the baselines are fitted that are not components already."""
        from partnerml.models import BaseRate, LogLogistic

        return {
            "base_rate": BaseRate.learn,
            "recency": lambda X, y, cut: LogLogistic(C=1e3).fit(X[[_RECENCY]], y),
        }

    def known_rows(self, X: pd.DataFrame) -> np.ndarray:
        """Return how many of these rows had a known label when each was looked at, shape (n,)."""
        from partnerml.models import known_rows

        return known_rows(self.data.as_of.loc[X.index], pd.Timedelta(self.gap))

    def bgnbd(self, cut: pd.Timestamp) -> Any:
        """Fit BG/NBD on everybody ever active, as seen at the cut: it needs no labels."""
        from partnerml.models import BuyTillYouDie

        rows = (self.everyone.keys["as_of"] == cut).to_numpy()
        return BuyTillYouDie(horizon_days=self.task.label.inactivity_days, random_state=self.seed).fit_features(
            self.everyone.X[rows]
        )

    def hazard(self) -> DiscreteTimeHazard:
        """Fit the time to churn beyond the horizons that scores tell."""
        from partnerml.models import DiscreteTimeHazard, LogLogistic

        lag = self.gap - dt.timedelta(days=self.task.horizon_days)
        followed = days_followed(self.data, self.until, lag)
        horizons = sorted({*tasks.RISK_DAYS, self.task.horizon_days})
        grid = [days for days in horizons if self.task.label.inactivity_days <= days <= followed.max()]
        times = self.data.known_times
        return DiscreteTimeHazard(grid, base=LogLogistic(C=strength(self.columns, {}))).fit(
            self.data.X[self.columns],
            times["duration_days"],
            times["observed"],
            follow_up_days=followed,
            known_rows=self.known_rows(self.data.X),
        )


def _moments(eco: Ecosystem, task: Task, until: dt.datetime) -> list[dt.datetime]:
    moments = tasks.snapshots(eco, task, until)[-MAX_SNAPSHOTS:]
    if not moments:
        raise NotEnoughDataError(
            f"{task.name} has no month whose labels are mature at {until:%Y-%m-%d}: a snapshot needs "
            f"{tasks.history_days(task)} days of activity before it and {task.gap(eco).days} days after it. "
            "More history is needed, or a shorter horizon_days"
        )
    return moments


def _drawn(eco: Ecosystem, task: Task, moments: Sequence[dt.datetime], seed: int) -> Draw:
    """Draw partners before anything is built: the features of others would be made for nothing."""
    at_most = task.max_rows or MAX_ROWS
    if len(moments) * eco.backend.execute(eco.table("partners").count()) <= at_most:
        return Draw()
    rows = rows_by_partner(eco, task.population, moments)
    return draw(rows, at_most=at_most, seed=seed, of="partners", task=task.name)


def _check_anybody(task: Task, data: Dataset) -> None:
    if not len(data):
        raise NotEnoughDataError(
            f"nobody belongs to the population of {task.name} at any monthly snapshot: {task.words}. Check "
            "partners.joined_at and partners.left_at, and tasks.churn.activity"
        )


def _labels_known(
    eco: Ecosystem, task: Task, data: Dataset, cuts: Sequence[pd.Timestamp], *, only: Collection[str] | None
) -> dict[pd.Timestamp, pd.Series]:
    """Return the labels of all rows as they were known at each cut: activity may have been recorded after it."""
    untils = [cut.to_pydatetime() for cut in cuts]
    found = labels_as_known(
        eco, population=task.population, label=task.label, as_of=data.as_ofs, untils=untils, only=only
    )
    keys = ["partner_id", "as_of"]
    return {cut: data.keys.merge(known, on=keys, how="left")["y"] for cut, known in zip(cuts, found, strict=True)}


def _covered(eco: Ecosystem, task: Task, data: Dataset, until: dt.datetime) -> list[str]:
    """Return the features whose window was ever full in training.

    A window longer than all the history reads as "ever" in training and falls behind it in scoring, when history has
    grown: a model would meet values that it has never seen.
    """
    first = first_activity(eco, task.population.activity, until=until)
    history = 0 if first is None else (data.as_of.max() - pd.Timestamp(first)).days
    return [info.name for info in data.dictionary if info.window_days is None or info.window_days <= history]
