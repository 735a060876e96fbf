"""What a model is made from: the rows, the columns that say something, and how each component is fitted.

Each task has a module that writes its recipe; from there on all tasks are trained and judged in one way.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.errors import NotEnoughDataError
from partnerml.progress import Progress
from partnerml.training._documents import documented, training_facts

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import Catalogue
    from partnerml.models import Backtest, Choice, Component, DiscreteTimeHazard, Fold, Learner, Model
    from partnerml.tasks import Task

    # a learner whose scorer may be part of a blend
    Maker = Callable[[pd.DataFrame, pd.Series, pd.Timestamp], Component]

# Below these a model is noise: fifty of the rarer label give an AUC a standard error of about .04.
MIN_MINORITY = 50
MIN_FOLDS = 2
# Older origins say little about how well a model does now.
MAX_FOLDS = 8
# Of the linear predictor under the prior that the L2 penalty stands for, whatever the number of columns. Chosen on
# backtests of churn: with C fixed at .05 200 features of a rich ecosystem overfit, at .002 the 40 of Olist underfit.
PRIOR_VARIANCE = 0.8
# snapshots are told one by one; rows with moments of their own only from when to when
MAX_TOLD = 60

# of the learners, by component: parameters in the place of the defaults
Settings = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Simplest:
    """The simplest ranking that there is for a task: a model that is no better is not worth its running.

    Attributes
    ----------
    baseline : str
        Its name among the baselines.
    words : str
        What it is called, such as ``recency alone``.
    """

    baseline: str
    words: str


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model, and what it was judged on.

    Attributes
    ----------
    model : Model
    replay : DataFrame
        The judged rows: the key, ``cut``, ``cluster``, ``y``, ``weight`` and ``score``, the probability out of time.
        Empty where rows have no time.
    X : DataFrame or None
        The features of the judged rows, in the same order, where they are at hand.
    """

    model: Model
    replay: pd.DataFrame
    X: pd.DataFrame | None = None


class Trainable(Protocol):
    """What a task is trained by: a recipe, or what stands for it where rows have no time."""

    @property
    def data(self) -> Dataset:
        """All rows."""

    @property
    def cluster(self) -> str:
        """The key column whose values are one each: the partner, the account or the lead of a row."""

    def train(self, progress: Progress, *, trials: int = 0, database: Path | None = None) -> Trained:
        """Judge and fit a model."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a model is made from.

    Attributes
    ----------
    task : Task
    catalogue : Catalogue
    data : Dataset
        All rows with their labels as known at `until`; null where they are not mature.
    columns : list of str
        The features that the components read.
    twins : mapping of str to str
        Features left out because another one says the same, and that one.
    gap : timedelta
        From a row's moment until its label is known.
    until : datetime
        What was known before it is used.
    seed : int
    folds : tuple of Fold
        The origins at hand, in order of time; a backtest takes the latest `MAX_FOLDS`.
    cluster : str
        The key column that the bootstrap draws, such as ``partner_id``.
    known : mapping of Timestamp to Series of shape (n,)
        For the cut of each fold, the labels as they were known then.
    make : callable
        Returns the learners of the components by name, for some settings.
    baselines : mapping of str to Learner
        Those that are not components; ``base_rate`` is among them.
    simplest : Simplest
    curve : callable
        Fits the time to the event; returns None for a task without a curve.
    weights : Series of shape (n,), optional
        Weights of the rows where they are judged, such as those for censoring; all alike by default.
    known_weights : mapping of Timestamp to Series of shape (n,), optional
        For the cut of each fold, the weights of the labels known then.
    calibrated_on : int, optional
        On how many rows at least a line of calibration is fitted, where there are so many; a few hundred by default.
    ceiling : float
        Above which no chance can be, whatever the features say; 1 where any can.
    maturity : timedelta, optional
        From the last row of a fold until it may help to choose and calibrate; `gap` by default.
    documents : callable
        Returns what else is saved with a model, as JSON documents by name.
    settings : mapping
        Parameters of the learners, and of the ``blend``, in the place of their defaults.
    told : mapping
        What else to tell of the training, as JSON values.
    findings : mapping
        What the evaluation says beside what is measured, as JSON values.
    as_scored : bool
        Whether what is judged is the chance that a score tells; False where it is that of fewer days.
    embargo : timedelta
        Kept free between the latest row trained on, with its gap, and the rows judged.
    by_groups : int, optional
        Judge rows by models that never saw their partner, in so many groups.
    """

    task: Task
    catalogue: Catalogue
    data: Dataset
    columns: list[str]
    twins: Mapping[str, str]
    gap: dt.timedelta
    until: dt.datetime
    seed: int
    folds: tuple[Fold, ...]
    cluster: str
    known: Mapping[pd.Timestamp, pd.Series]
    make: Callable[[Settings], Mapping[str, Maker]]
    baselines: Mapping[str, Learner]
    simplest: Simplest
    curve: Callable[[], DiscreteTimeHazard | None] = lambda: None
    weights: pd.Series | None = None
    known_weights: Mapping[pd.Timestamp, pd.Series] | None = None
    calibrated_on: int | None = None
    ceiling: float = 1.0
    maturity: dt.timedelta | None = None
    documents: Callable[[Model], Mapping[str, Any]] = lambda model: {}
    settings: Settings = dataclasses.field(default_factory=dict)
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    as_scored: bool = True
    embargo: dt.timedelta = dt.timedelta(0)
    by_groups: int | None = None

    @property
    def labels(self) -> pd.Series:
        """The labels as they are known at `until`."""
        return self.data.labels

    @property
    def matured_after(self) -> pd.Timedelta:
        """From the last row of a fold until it may help to choose, calibrate and tune, the embargo included."""
        return pd.Timedelta((self.gap if self.maturity is None else self.maturity) + self.embargo)

    @property
    def owner(self) -> str:
        """The key column of whom a row is about: the partner where it has one, be it one of several of a lead."""
        return "partner_id" if "partner_id" in self.data.keys else self.cluster

    def learners(self) -> Mapping[str, Maker]:
        """How the components of the blend are fitted."""
        return self.make(self.settings)

    def with_settings(self, settings: Settings) -> Recipe:
        """Return the recipe with other parameters of the learners."""
        return dataclasses.replace(self, settings=settings)

    def backtest(self, progress: Progress | None = None) -> Backtest:
        """Predict the rows of the latest folds by what was known at their origins."""
        from partnerml.models import backtest

        shown = progress or Progress.silent()
        folds = self.grouped(self.folds[-MAX_FOLDS:])

        def tracked() -> Iterator[Fold]:
            yield from shown.track(folds, f"{self.task.name}: backtest")

        return backtest(
            self.data.X,
            self.labels,
            self.data.keys[self.cluster],
            as_of=self.data.as_of,
            folds=tracked(),
            gap=self.matured_after,
            learners=self.learners(),
            baselines=self.baselines,
            labels_at=lambda cut: self.known[cut],
            weights=self.weights,
            weights_at=None if self.known_weights is None else self.known_weights.__getitem__,
            ceiling=self.ceiling,
            **({} if self.calibrated_on is None else {"calibrated_on": self.calibrated_on}),
            **self.settings.get("blend", {}),
        )

    def grouped(self, folds: tuple[Fold, ...]) -> tuple[Fold, ...]:
        """Return the folds, one for each group of partners left out where that is asked for."""
        from partnerml.models import by_groups

        if self.by_groups is None:
            return folds
        return by_groups(folds, self.data.keys[self.owner], n_groups=self.by_groups, seed=self.seed)

    def model(self, choice: Choice, evaluation: Mapping[str, Any]) -> Model:
        """Fit the chosen components on all rows and put the model together."""
        from partnerml.models import Blend, Model

        X, y, cut = self.data.X, self.labels, pd.Timestamp(self.until)
        learners = self.learners()
        used = {name: learners[name](X, y, cut) for name, weight in choice.weights.items() if weight > 0}
        blend = Blend(used, {name: choice.weights[name] for name in used}, choice.calibration)
        model = Model.of(
            task=self.task.to_dict(),
            catalogue=self.catalogue,
            dictionary=self.data.dictionary,
            blend=blend,
            hazard=self.curve(),
            evaluation=evaluation,
            training=self.facts(),
        )
        return model.with_documents(self.documents(model))

    def train(self, progress: Progress, *, trials: int = 0, database: Path | None = None) -> Trained:
        """Judge the recipe by a replay, and fit the model on all rows.

        Parameters
        ----------
        progress : Progress
        trials : int
            Tuning trials; 0 takes the defaults as they are.
        database : Path, optional
            Where trials are kept, so that tuning goes on after a kill.
        """
        from partnerml.training._tuning import tuned

        backtest = self.backtest(progress)
        if not trials:
            return self._finished(backtest, progress)
        assert database is not None, "tuning keeps its trials in a database"
        found = tuned(self, backtest, trials=trials, database=database, progress=progress)
        progress.say(f"{self.task.name}: {found.document['reason']}")
        return found.recipe._finished(found.backtest, progress, since=found.since, more={"tuning": found.document})

    def _finished(
        self,
        backtest: Backtest,
        progress: Progress,
        *,
        since: pd.Timestamp | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Trained:
        """Judge a backtest of this recipe from a cut on, fit on all rows, and add more to the evaluation."""
        from partnerml.training._judging import judge

        with progress.stage(f"{self.task.name}: evaluation"):
            evaluation, choice, replay = judge(backtest, simplest=self.simplest, seed=self.seed, since=since)
            evaluation["segments"] = self._segments(replay)
            evaluation["protocol"] = {"embargo_days": self.embargo.days, "by_groups": self.by_groups}
            if not self.as_scored:
                # how far forecasts of fewer days were off says nothing of a score
                del evaluation["groups"]
        with progress.stage(f"{self.task.name}: final fit"):
            model = documented(
                self.model(choice, {**evaluation, **self.findings, **(more or {})}),
                self.data,
                self.data.keys[self.cluster],
                scores=replay["score"] if self.as_scored else None,
                seed=self.seed,
            )
        keys, X = (part.iloc[replay["row"]].reset_index(drop=True) for part in (self.data.keys, self.data.X))
        return Trained(model, pd.concat([keys, replay.drop(columns="row")], axis=1), X)

    def _segments(self, replay: pd.DataFrame) -> list[dict[Hashable, Any]]:
        """Evaluate by segment, and flag those that are served worse than the rest."""
        from partnerml.models import segment_labels, segments

        labels = segment_labels(self.data).iloc[replay["row"]].reset_index(drop=True)
        # a segment of many leads may be one partner, whose leads go together: nothing is said of its kind by that
        owner = self.data.keys[self.owner].iloc[replay["row"]].reset_index(drop=True)
        if labels.empty or owner.nunique() < 2:
            return []
        y, score, weight = (replay[name] for name in ("y", "score", "weight"))
        called = f"{self.owner.removesuffix('_id')}s"
        return segments(y, score, labels, owner, weights=weight, seed=self.seed, called=called).to_dict("records")

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the model asks: until when, on what, how."""
        labelled = self.data.mature
        moments = [moment.isoformat() for moment in sorted(self.data.as_of[labelled].unique())]
        weights = None if self.weights is None else self.weights[labelled]
        facts = training_facts(
            self.data,
            cluster=self.cluster,
            until=self.until,
            seed=self.seed,
            gap=self.gap,
            twins=self.twins,
            base_rate=float(np.average(self.labels[labelled], weights=weights)),
            settings=self.settings,
            **{"as_of": moments if len(moments) <= MAX_TOLD else [], "from": moments[0], "to": moments[-1]},
        )
        return {**facts, **self.told}


def recipe_of(eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int, origins: int = MAX_FOLDS) -> Trainable:
    """Build the rows of a task and say how its model is made.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    until : datetime
        What was known before it is used.
    seed : int
    origins : int
        How many folds to keep at hand, the latest.

    Raises
    ------
    NotEnoughDataError
        If there are too few rows or labels.
    """
    module = importlib.import_module(f"partnerml.training._{task.name}")
    written: Trainable = module.recipe(eco, task, until=until, seed=seed, origins=origins)
    return _as_strict(written, eco) if isinstance(written, Recipe) else written


def _as_strict(recipe: Recipe, eco: Ecosystem) -> Recipe:
    """Return the recipe, judged as strictly as the configuration asks for."""
    from partnerml.models import embargoed

    asked = eco.config.evaluation
    if not asked.embargo_days and asked.by_groups is None:
        return recipe
    embargo = dt.timedelta(days=asked.embargo_days)
    folds = embargoed(recipe.folds, recipe.data.as_of, gap=pd.Timedelta(recipe.gap), embargo=pd.Timedelta(embargo))
    if len(folds) < MIN_FOLDS:
        raise NotEnoughDataError(
            f"{recipe.task.name} needs {MIN_FOLDS} origins to validate on, and evaluation.embargo_days of "
            f"{asked.embargo_days} leaves {len(folds)} of {len(recipe.folds)}; lower it, or give more months"
        )
    return dataclasses.replace(recipe, folds=folds, embargo=embargo, by_groups=asked.by_groups)


def configuration(eco: Ecosystem) -> dict[str, Any]:
    """Return what of the configuration makes rows and columns, and how models are judged, as JSON values."""
    resolved = eco.config.resolved()
    resolved["features"].pop("cells")  # how features are kept changes none of them
    return {name: resolved[name] for name in ("traits", "features", "evaluation")}


def strength(columns: Sequence[str], settings: Settings) -> float:
    """Return the inverse strength of the logistic's penalty: more columns must not make a bolder model."""
    variance = float(settings.get("logistic", {}).get("prior_variance", PRIOR_VARIANCE))
    return variance / max(len(columns), 1)


def days_followed(data: Dataset, cut: pd.Timestamp | dt.datetime, lag: dt.timedelta) -> npt.NDArray[np.float64]:
    """Return for how many days each row was followed as of a cut, shape (n,); below 0 for who joined later."""
    span = pd.Timestamp(cut) - pd.Timedelta(lag) - data.as_of
    return np.asarray(span.dt.total_seconds() / 86_400.0, dtype=np.float64)


def enough_folds(
    folds: tuple[Fold, ...], labels_at: Mapping[pd.Timestamp, pd.Series], *, origins: int
) -> tuple[Fold, ...]:
    """Return the latest folds whose training rows hold enough of both labels, as they were known at the cut."""
    kept = [fold for fold in folds if rarer(labels_at[fold.cut].iloc[fold.train]) >= MIN_MINORITY]
    return tuple(kept[-origins:])


def rarer(labels: pd.Series | npt.NDArray[np.float64]) -> int:
    """Return how many rows the rarer label has; rows without a label count for neither."""
    told = np.asarray(labels, dtype=np.float64)
    told = told[~np.isnan(told)]
    return int(min(told.sum(), len(told) - told.sum()))


def check_folds(task: Task, data: Dataset, folds: tuple[Fold, ...], *, origins: str, remedy: str) -> None:
    """Refuse to train where there are too few folds to judge a model on.

    Parameters
    ----------
    task : Task
    data : Dataset
    folds : tuple of Fold
        Those with enough rows of both labels.
    origins : str
        What the folds are, such as ``snapshots``.
    remedy : str
        What to do about it.

    Raises
    ------
    NotEnoughDataError
        Says how many rows and labels there are, and how many are needed.
    """
    if len(folds) >= MIN_FOLDS:
        return
    labels, months = data.labels.dropna(), data.as_ofs
    positives = int(labels.sum())
    raise NotEnoughDataError(
        f"{task.name} needs {MIN_FOLDS} {origins} to validate on, each with at least {MIN_MINORITY} rows of each label "
        f"that were mature by then; {len(months)} {origins} from {months[0]:%Y-%m-%d} to {months[-1]:%Y-%m-%d} "
        f"with {positives} positive and {len(labels) - positives} negative rows give {len(folds)}. {remedy}"
    )
