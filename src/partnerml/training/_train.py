"""Training: rows, backtest, judgement, final fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress
from partnerml.training._documents import with_lineage
from partnerml.training._recipe import Trainable, Trained, configuration, recipe_of
from partnerml.training._tuning import origins_for

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model
    from partnerml.tasks import Task


def train(
    eco: Ecosystem,
    task: Task,
    *,
    until: Moment | None = None,
    trials: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Model:
    """Train a task, judge it out of time, calibrate it, and return the model.

    The rows are those of the task whose labels are mature at `until`: for churn, monthly snapshots. Fit learns from
    censored partners as well, and close from pairs that are not mature yet where they help. A rolling-origin backtest
    with a gap of horizon and lag fits the components of the task at every origin (for churn boosted trees, a logistic
    regression on log features and BG/NBD); weights that minimise the log loss out of time blend them in log-odds, and a
    line fitted on the latest mature rows calibrates the blend. What is reported is a replay: at each origin only what
    was known then chose the weights and the line. Propensity without dates, and the rates of peers that stand for close
    where there are too few outcomes, have no origins: they are judged on groups of rows that were left out.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
        Such as ``tasks.churn(horizon_days=90)``.
    until : datetime or str, optional
        What was known before this moment is used. Default: the last midnight after which fewer than 0.1 % of the
        dated rows lie.
    trials : int
        How many settings of the components and of their blend are tried on earlier origins, the defaults first; 0 for
        the defaults as they are. What is found is kept if it is surely better on the origins that are reported;
        ``evaluation["tuning"]`` says what it gained. Trials are kept in OUT/tuning.db: a run that was killed goes on
        where it ended.
    seed : int
        Seeds the trees and the bootstrap. The same data, task and seed give the same bytes.
    progress : Progress, optional
        Where to show progress; silent by default.

    Returns
    -------
    Model
        Its ``evaluation`` holds the metrics beside the baselines', and ``evaluation["verdict"]`` whether it may become
        champion.

    Raises
    ------
    NotEnoughDataError
        If there are too few months or labels; says how many are needed.
    MissingExtraError
        If there are trials, and Optuna is not installed.
    """
    last = end_of(eco, task, until)
    return trained(eco, task, until=last, trials=trials, seed=seed, progress=progress or Progress.silent()).model


def end_of(eco: Ecosystem, task: Task, until: Moment | None) -> dt.datetime:
    """Return the moment up to which a task is trained.

    Raises
    ------
    NotEnoughDataError
        If the tables are not there that the task needs.
    """
    lack = task.kind.missing(eco)
    if lack is not None:
        raise NotEnoughDataError(
            f"{task.name} cannot be trained: it lacks {lack}. Add it to the configuration, or do not list the task"
        )
    return moment_of(eco.default_until() if until is None else until, name="until")


def trained(eco: Ecosystem, task: Task, *, until: dt.datetime, trials: int, seed: int, progress: Progress) -> Trained:
    """Do what `train` does, and return what the model was judged on beside it."""
    if trials:
        from partnerml.models import optuna_module

        optuna_module()  # missing, it is to be told before the features are built
    if (stale := tasks.staleness(eco, task, until)) is not None:
        # a champion that learnt silence from missing rows would be wrong every night from now on
        raise NotEnoughDataError(f"{task.name} is not trained until {until:%Y-%m-%d}: {stale}")
    recipe = prepared(eco, task, until=until, trials=trials, seed=seed, progress=progress)
    return finished(recipe, eco, trials=trials, progress=progress)


def prepared(
    eco: Ecosystem, task: Task, *, until: dt.datetime, trials: int, seed: int, progress: Progress
) -> Trainable:
    """Build the rows and say how a model is made, with as many origins at hand as its tuning takes."""
    with progress.stage(f"{task.name}: features and labels until {until:%Y-%m-%d}"):
        return recipe_of(eco, task, until=until, seed=seed, origins=origins_for(trials, task.gap(eco)))


def finished(recipe: Trainable, eco: Ecosystem, *, trials: int, progress: Progress) -> Trained:
    """Train a recipe, and write into the model what made it."""
    made = recipe.train(progress, trials=trials, database=eco.config.out / "tuning.db")
    return dataclasses.replace(made, model=with_lineage(made.model, trials=trials, configuration=configuration(eco)))
