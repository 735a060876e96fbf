"""The recipe of fit: everybody that joined, censored or not; discrete-time hazards over the months since joining."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.errors import DataError, NotEnoughDataError
from partnerml.features import first_deal, successes_as_known
from partnerml.training._columns import check_traits, select_columns
from partnerml.training._draw import draw, ones
from partnerml.training._fit_plan import MIN_FOLLOWED, MIN_JUDGED, MIN_SUCCESSES, Plan, plan_of
from partnerml.training._one_trait import WORDS, best_trait
from partnerml.training._recipe import Recipe, Settings, Simplest, days_followed, rarer, strength

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import DiscreteTimeHazard, Learner, Model
    from partnerml.tasks import Task
    from partnerml.training._recipe import Maker

    Times = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64]]

_logger = logging.getLogger("partnerml")

# Trees find no more than a sum of effects on fewer successes, and cost the blend its clarity.
MIN_FOR_TREES = 300
# rows that reasons of trees compare with: each costs as many predictions as there are columns
_TREE_BACKGROUND = 8
# an origin is judged, not used: more rows cost time and hardly change how good it is
MAX_AT_ORIGIN = 10_000
# More partners cost time and tell a sum of effects next to nothing.
MAX_ROWS = 50_000
# of rows with a trait (or without), if it had nothing to do with success, before none of them is no chance
_EXPECTED = 10.0


def recipe(eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int, origins: int) -> Recipe:
    """Build the partners that had joined and say how a model of fit is made.

    Raises
    ------
    NotEnoughDataError
        If too few partners joined, were followed for `success_days`, or succeeded.
    DataError
        If joining dates were taken from first deals, or a trait tells the outcome.
    """
    catalogue = task.kind.catalogue(eco, task, until)
    data = tasks.build_dataset(eco, task, as_of=until, until=until, catalogue=catalogue)
    data = data.where((data.as_of >= pd.Timestamp(_start(eco, task, data, until))).to_numpy())
    # what is read of a partner are a few traits: all are read, and the fits are what takes long
    drawn = draw(ones(data, "partner_id"), at_most=task.max_rows or MAX_ROWS, seed=seed, of="partners", task=task.name)
    data = drawn.of(data, "partner_id")
    lag = task.kind.lag(eco)
    _check_enough(task, data, until - lag)
    _check_filled(data)
    plan = plan_of(data, until, lag, success_days=task.label.success_days, at_most=origins)
    if plan is None:
        raise _too_short(task, data, until)
    parts = _Parts(eco, task, data, plan, until, lag, seed)
    judged = dataclasses.replace(data, y=parts.judged[0])
    check_traits(judged)
    if plan.days < task.label.success_days:
        _tell_judged_early(plan, task)
    return Recipe(
        task=task,
        catalogue=catalogue,
        data=judged,
        columns=parts.columns,
        twins=parts.twins,
        gap=task.gap(eco),
        until=until,
        seed=seed,
        folds=plan.folds,
        cluster="partner_id",
        known={fold.cut: parts.labels_at(fold.cut) for fold in plan.folds},
        make=parts.learners,
        baselines=parts.baselines(),
        simplest=Simplest("one_trait", WORDS),
        curve=parts.curve,
        weights=parts.judged[1],
        maturity=_maturity(plan, task, lag),
        documents=parts.documents,
        told={
            "base_rate": parts.base_rate,
            "judged_days": plan.days,
            "from": data.as_of.min().isoformat(),
            "to": data.as_of.max().isoformat(),
            **drawn.told(),
        },
        findings=_judged_early(plan, task),
        as_scored=plan.days >= task.label.success_days,
    )


def _tell_judged_early(plan: Plan, task: Task) -> None:
    _logger.warning(
        "%s: the data are too short to judge success within %d days out of time; the model is judged on success "
        "within %d days, by the same recipe",
        task.name,
        task.label.success_days,
        plan.days,
    )


class _Parts:
    """How the parts of a fit model are fitted on these rows."""

    def __init__(
        self,
        eco: Ecosystem,
        task: Task,
        data: Dataset,
        plan: Plan,
        until: dt.datetime,
        lag: dt.timedelta,
        seed: int,
    ) -> None:
        self.task, self.data, self.plan, self.until, self.lag, self.seed = task, data, plan, until, lag, seed
        self.columns, self.twins = select_columns(data.X)
        if not self.columns:
            raise NotEnoughDataError(
                f"{task.name} has no trait that differs between partners: name columns that were known at signing in "
                "traits.partners"
            )
        cuts = [fold.cut for fold in plan.folds]
        found = successes_as_known(eco, task.label, as_of=until, untils=[cut.to_pydatetime() for cut in cuts])
        self._times = {cut: known.loc[data.keys["partner_id"]] for cut, known in zip(cuts, found, strict=True)}
        self._times[pd.Timestamp(until)] = data.known_times

    def days_at(self, cut: pd.Timestamp) -> int:
        """Return within how many days success is predicted: at an origin, as many as can be judged."""
        return int(self.task.label.success_days) if cut == pd.Timestamp(self.until) else self.plan.days

    def times_at(self, cut: pd.Timestamp) -> Times:
        """Return duration, whether success was seen, and follow-up of all rows as known at a cut, shape (n,) each."""
        times = self._times[cut]
        return times["duration_days"].to_numpy(), times["observed"].to_numpy(), days_followed(self.data, cut, self.lag)

    def times_of(self, X: pd.DataFrame, cut: pd.Timestamp) -> Times:
        """Return the same for the rows of a frame."""
        duration, observed, followed = self.times_at(cut)
        return duration[X.index], observed[X.index], followed[X.index]

    def labels_at(self, cut: pd.Timestamp) -> pd.Series:
        """Return success in time as known at a cut, null where it was not mature; shape (n,)."""
        duration, observed, followed = self.times_at(cut)
        succeeded = (observed & (duration <= self.plan.days)).astype(np.float64)
        # the last day counts, and what happens at its end is not seen yet
        return pd.Series(np.where(followed > self.plan.days, succeeded, np.nan), index=self.data.X.index)

    @functools.cached_property
    def judged(self) -> tuple[pd.Series, pd.Series]:
        """Success in time as known at `until`, and the weights that make up for the censored; shape (n,) each."""
        from partnerml.models import censoring_weights

        rows = np.sort(np.concatenate([fold.test for fold in self.plan.folds]))
        duration, observed, _ = self.times_at(pd.Timestamp(self.until))
        y, weights = np.full(len(duration), np.nan), np.zeros(len(duration))
        y[rows], weights[rows] = censoring_weights(duration[rows], observed[rows], self.plan.days)
        return pd.Series(y, index=self.data.X.index), pd.Series(weights, index=self.data.X.index)

    @property
    def base_rate(self) -> float:
        """The share that succeeds within `success_days`, by Kaplan and Meier's estimate."""
        from partnerml.models import KaplanMeier

        duration, observed, _ = self.times_at(pd.Timestamp(self.until))
        return KaplanMeier.of(duration, observed).event_rate(self.task.label.success_days)

    def learners(self, settings: Settings) -> Mapping[str, Maker]:
        """How the components of the blend are fitted."""
        from partnerml.models import LogLogistic, MonthlyTrees

        penalty = strength(self.columns, settings)
        trees = functools.partial(MonthlyTrees, **{"random_state": self.seed, **settings.get("trees", {})})

        def of_effects(X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Any:
            if cut == pd.Timestamp(self.until) and penalty == strength(self.columns, {}):
                return self.last
            return self.hazard(X[self.columns], cut, base=LogLogistic(C=penalty))

        made: dict[str, Maker] = {"logistic": of_effects}
        # what does not pay for itself is left out, and only a replay can tell
        if self.plan.replayed and self.times_at(pd.Timestamp(self.until))[1].sum() >= MIN_FOR_TREES:
            made["trees"] = lambda X, y, cut: self.hazard(
                X[self.columns], cut, base=trees(), background_rows=_TREE_BACKGROUND
            )
        return made

    def hazard(self, X: pd.DataFrame, cut: pd.Timestamp, **parameters: Any) -> Any:
        """Fit a hazard on what was known of these rows at a cut."""
        from partnerml.models import SuccessHazard, known_rows

        if cut < pd.Timestamp(self.until) and len(X) > MAX_AT_ORIGIN:
            # spread over the time of joining: the latest were followed for the shortest
            X = X.iloc[np.linspace(0, len(X) - 1, MAX_AT_ORIGIN).astype(np.intp)]
        duration, observed, followed = self.times_of(X, cut)
        days = self.days_at(cut)
        return SuccessHazard(days, random_state=self.seed, **parameters).fit(
            X,
            duration,
            observed,
            follow_up_days=np.maximum(followed, 0.0),
            # an outcome is whole when its partner has been followed to the horizon, and what was recorded is seen
            known_rows=known_rows(self.data.as_of.loc[X.index], pd.Timedelta(days=days) + pd.Timedelta(self.lag)),
        )

    def baselines(self) -> Mapping[str, Learner]:
        """How the baselines are fitted: Kaplan and Meier's rate, and the trait that says most."""
        from partnerml.models import LogLogistic

        def one_trait(X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Any:
            known = y.notna()
            # a trait may have been all alike among the first
            telling, _ = select_columns(X.loc[known, self.columns])
            name = best_trait(X[known], y[known], telling) if telling and rarer(y) >= 2 else self.columns[0]
            return self.hazard(X[[name]], cut, base=LogLogistic(C=1.0), background_rows=1)

        return {"base_rate": self.rate, "one_trait": one_trait}

    def rate(self, X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Any:
        """Take the share that succeeds in time; one that is all or nothing is kept a row away from certainty."""
        from partnerml.models import BaseRate, KaplanMeier

        duration, observed, _ = self.times_of(X, cut)
        rate = KaplanMeier.of(duration, observed).event_rate(self.days_at(cut))
        nearest = 1.0 / (len(X) + 1)
        clipped = float(np.clip(rate, nearest, 1.0 - nearest))
        return BaseRate(float(np.log(clipped) - np.log1p(-clipped)))

    @functools.cached_property
    def last(self) -> Any:
        """A sum of effects, fitted on all rows: a component, and the curve of every model."""
        from partnerml.models import LogLogistic

        base = LogLogistic(C=strength(self.columns, {}))
        return self.hazard(self.data.X[self.columns], pd.Timestamp(self.until), base=base)

    def curve(self) -> DiscreteTimeHazard:
        """Return the chance of success over the months since joining."""
        found: DiscreteTimeHazard = self.last.hazard_
        return found

    def documents(self, model: Model) -> Mapping[str, Any]:
        """Return the profile of the ideal partner; none where there are too few partners for one."""
        from partnerml.models import ideal_profile

        try:
            profile = ideal_profile(
                self.data.X,
                self.data.known_times,
                self.data.as_of,
                success_days=self.task.label.success_days,
                dictionary=self.data.dictionary,
            )
        except NotEnoughDataError as reason:
            _logger.warning("%s: no profile of the ideal partner: %s", self.task.name, reason)
            return {}
        return {"profile": profile.to_dict()}


def _start(eco: Ecosystem, task: Task, data: Dataset, until: dt.datetime) -> dt.datetime:
    """Return from when on joining partners are trained on."""
    if task.train_from is not None:
        return task.train_from
    first = first_deal(eco, until=until)
    if first is None:
        raise NotEnoughDataError(
            f"{task.name} needs deals and there is none: success is a won deal. Check the mapping of the table deals"
        )
    start = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before = int((data.as_of < pd.Timestamp(start)).sum())
    if before:
        _logger.warning(
            "%s: %d of %d partners joined before the month of the first deal on record (%s) and are left out: their "
            "first success may not be in the data. tasks.fit.train_from says otherwise",
            task.name,
            before,
            len(data),
            f"{start:%Y-%m}",
        )
    return start


def _check_enough(task: Task, data: Dataset, seen_until: dt.datetime) -> None:
    """Refuse rows that a model cannot be fitted on."""
    times = data.known_times
    days = task.label.success_days
    seen = times["observed"].to_numpy()
    succeeded = int((seen & (times["duration_days"] <= days)).sum())
    followed = int((days_followed(data, seen_until, dt.timedelta(0)) > days).sum())
    if succeeded < MIN_SUCCESSES or followed < MIN_FOLLOWED:
        raise NotEnoughDataError(
            f"{task.name} needs {MIN_SUCCESSES} partners that succeeded within {days} days of joining and "
            f"{MIN_FOLLOWED} that joined more than {days} days before the end of the data; of {len(data)} partners "
            f"{succeeded} did and {followed} are. More partners or more history are needed, or a shorter success_days"
        )
    at_once = int((seen & (times["duration_days"] == 0)).sum())
    if 2 * at_once > succeeded:
        raise DataError(
            f"{at_once} of the {succeeded} partners that succeeded did so on or before the day they joined (partners."
            "joined_at): the joining date seems to be taken from the first deal, which leaves nothing to predict. Map "
            "the day of signing, and leave joined_at null where it is not known"
        )


def _check_filled(data: Dataset) -> None:
    """Refuse a trait that was filled in because of success, or because there was none.

    Among partners that joined in one month, whether a trait is known says nothing about when it came to be asked for.
    If it has nothing to do with success either, as many of those that succeeded lack it as of their month.
    """
    from partnerml.models import months

    succeeded = data.known_times["observed"]
    month = months(data.as_of)
    for info in data.dictionary:
        missing = data.X[info.name].isna()
        of_month = missing.groupby(month).transform("mean")[succeeded]
        for lacks, share, what in ((missing, of_month, "known for"), (~missing, 1.0 - of_month, "null for")):
            if not lacks[succeeded].any() and share.sum() >= _EXPECTED:
                raise DataError(
                    f"the trait {info.subject} (table {info.table}) is {what} all {int(succeeded.sum())} partners that "
                    f"succeeded, and by the other partners that joined in the same months {share.sum():.0f} of them "
                    "would be otherwise: it was filled in because of the outcome. Leave it out of traits.partners, or "
                    "map it as it was at signing"
                )


def _maturity(plan: Plan, task: Task, lag: dt.timedelta) -> dt.timedelta:
    """Return when a fold helps to calibrate; never where the horizon that is judged is not that of the score."""
    if plan.days < task.label.success_days:
        return dt.timedelta(days=365_000)
    return dt.timedelta(days=plan.days) + lag


def _judged_early(plan: Plan, task: Task) -> dict[str, Any]:
    """Return what the evaluation says of a horizon that is shorter than that of the score."""
    if plan.days >= task.label.success_days:
        return {}
    return {
        "judged_days": plan.days,
        "judged_on": f"each made with what was known at the time and compared with success within {plan.days} days, "
        "the longest that the history allows",
    }


def _too_short(task: Task, data: Dataset, until: dt.datetime) -> NotEnoughDataError:
    return NotEnoughDataError(
        f"{task.name} cannot be judged: {len(data)} partners joined from {data.as_of.min():%Y-%m-%d} to "
        f"{data.as_of.max():%Y-%m-%d}, and at no first of a month before {until:%Y-%m-%d} had {MIN_SUCCESSES} of them "
        f"succeeded while {MIN_JUDGED} that joined later did, and {MIN_JUDGED} did not, within 30 days. More partners "
        "or more history are needed"
    )
