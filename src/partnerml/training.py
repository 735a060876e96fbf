"""From a task and an ecosystem to a model that has been judged out of time, and on to the registry."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml import tasks
from partnerml.errors import ConfigError, DataError, NotEnoughDataError
from partnerml.features import Catalogue, default_catalogue, first_activity, labels_as_known
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Backtest, Choice, Component, Fold, Learner, Model
    from partnerml.tasks import Task

_logger = logging.getLogger("partnerml")

# Below these a model is noise: fifty of the rarer label give an AUC a standard error of about .04.
MIN_MINORITY = 50
MIN_FOLDS = 2
# Older snapshots say little about now, and older origins little about how well a model does now.
MAX_SNAPSHOTS = 36
MAX_FOLDS = 8
# Of the linear predictor under the prior that the L2 penalty stands for, whatever the number of columns. Chosen on
# backtests: with C fixed at .05 the 200 features of a rich ecosystem overfit, at .002 the 40 of Olist underfit.
PRIOR_VARIANCE = 0.8
THREADED_CELLS = 20_000_000

_RECENCY = "activity__all__recency_days__ever"


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

    Monthly snapshots whose labels are mature at `until` are the rows. A rolling-origin backtest with a gap of horizon
    and lag fits boosted trees, a logistic regression on log features and BG/NBD at every origin; weights that minimise
    the log loss out of time blend them in log-odds, and a line fitted on the latest mature snapshot calibrates the
    blend. What is reported is a replay: at each origin only what was known then chose the weights and the line.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
        Such as ``tasks.churn(horizon_days=90)``.
    until : datetime or str, optional
        What was known before this moment is used. Default: the last midnight after which fewer than 0.1 % of the
        dated rows lie.
    trials : int
        Tuning trials; above 0 is not available in this version.
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
    """
    if trials:
        raise ConfigError(
            f"tuning is not available in this version: trials must be 0, got {trials}; the defaults are what is trained"
        )
    progress = progress or Progress.silent()
    last = moment_of(eco.default_until() if until is None else until, name="until")
    if (stale := tasks.staleness(eco, last)) is not None:
        # a champion that learnt silence from missing rows would be wrong every night from now on
        raise NotEnoughDataError(f"{task.name} is not trained until {last:%Y-%m-%d}: {stale}")
    with progress.stage(f"{task.name}: features and labels until {last:%Y-%m-%d}"):
        recipe = Recipe.of(eco, task, until=last, seed=seed)
    backtest = recipe.backtest(progress)
    with progress.stage(f"{task.name}: evaluation"):
        evaluation, choice = judge(backtest, seed=seed)
    with progress.stage(f"{task.name}: final fit"):
        return recipe.model(choice, evaluation)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of training a task.

    Attributes
    ----------
    task : str
    version : str
        Of the model: 12 hex digits.
    registered : str
        Address in the registry, such as ``models:/churn/3``.
    promoted : bool
        Whether it became champion.
    verdict : str
        Why, in figures.
    metrics : mapping
        The evaluation of the model, beside the baselines'.
    until : datetime
        What was known before this moment was used.
    run_id : str
        The run in MLflow.
    """

    task: str
    version: str
    registered: str
    promoted: bool
    verdict: str
    metrics: Mapping[str, Any]
    until: dt.datetime
    run_id: str


def run(
    eco: Ecosystem,
    task: Task,
    *,
    until: Moment | None = None,
    trials: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Train a task, log the run, register the model, and promote it if it earns it.

    A model that is not surely better than the base rate and than recency alone is registered as challenger and never
    becomes champion: "no signal" is a result. Takes the parameters of `train`.

    Raises
    ------
    MissingExtraError
        If MLflow is not installed; before anything is trained.
    """
    from partnerml.models import Registry

    registry = Registry(eco.config.tracking_uri)
    registry.check()
    progress = progress or Progress.silent()
    model = train(eco, task, until=until, trials=trials, seed=seed, progress=progress)
    verdict = model.evaluation["verdict"]
    with progress.stage(f"{task.name}: registry"):
        run_id = registry.log_run(task.name, model, parameters=_settings(task))
        registered = registry.register(task.name, run_id, alias=None if verdict["promoted"] else "challenger")
        if verdict["promoted"]:
            registry.promote(task.name, registered.version)
        else:
            _logger.warning("%s: %s. It is registered as challenger and not promoted", task.name, verdict["reason"])
    return Outcome(
        task=task.name,
        version=model.version,
        registered=registered.uri,
        promoted=verdict["promoted"],
        verdict=verdict["reason"],
        metrics=model.evaluation,
        until=moment_of(model.training["until"]),
        run_id=run_id,
    )


def _settings(task: Task) -> dict[str, Any]:
    return {"max_snapshots": MAX_SNAPSHOTS, "max_folds": MAX_FOLDS, "task": task.to_dict()}


def _moments(eco: Ecosystem, task: Task, until: dt.datetime) -> list[dt.datetime]:
    moments = tasks.snapshots(eco, task, until)[-MAX_SNAPSHOTS:]
    if not moments:
        raise NotEnoughDataError(
            f"{task.name} has no month whose labels are mature at {until:%Y-%m-%d}: a snapshot needs "
            f"{task.history_days} days of activity before it and {task.gap(eco).days} days after it. "
            "More history is needed, or a shorter horizon_days"
        )
    return moments


def _folds(data: Dataset, gap: dt.timedelta) -> tuple[Fold, ...]:
    """Return the latest folds whose training rows hold enough of both labels."""
    from partnerml.models import rolling_origin

    labels = _labels(data)
    folds = rolling_origin(data.keys["as_of"], gap=pd.Timedelta(gap))
    enough = [fold for fold in folds if _rarer(labels.iloc[fold.train]) >= MIN_MINORITY]
    return tuple(enough[-MAX_FOLDS:])


def _rarer(labels: pd.Series) -> int:
    positives = int(labels.sum())
    return min(positives, len(labels) - positives)


def _check_enough(task: Task, data: Dataset, folds: tuple[Fold, ...]) -> None:
    if not len(data):
        raise NotEnoughDataError(
            f"nobody belongs to the population of {task.name} at any monthly snapshot: {task.words}. Check "
            "partners.joined_at and partners.left_at, and tasks.churn.activity"
        )
    if len(folds) >= MIN_FOLDS:
        return
    labels, months = _labels(data), data.as_ofs
    positives = int(labels.sum())
    raise NotEnoughDataError(
        f"{task.name} needs {MIN_FOLDS} snapshots to validate on, each with at least {MIN_MINORITY} rows of each label "
        f"that were mature by then; {len(months)} monthly snapshots from {months[0]:%Y-%m-%d} to {months[-1]:%Y-%m-%d} "
        f"with {positives} positive and {len(labels) - positives} negative rows give {len(folds)}. More months or more "
        "partners are needed, or a shorter horizon_days"
    )


def _labels_known(
    eco: Ecosystem, task: Task, data: Dataset, cuts: Sequence[pd.Timestamp]
) -> dict[pd.Timestamp, pd.Series]:
    """Return the labels of all rows as they were known at each cut: activity may have been recorded after it."""
    untils = [cut.to_pydatetime() for cut in cuts]
    found = labels_as_known(eco, population=task.population, label=task.label, as_of=data.as_ofs, untils=untils)
    keys = ["partner_id", "as_of"]
    return {cut: data.keys.merge(known, on=keys, how="left")["y"] for cut, known in zip(cuts, found, strict=True)}


def check_traits(data: Dataset) -> None:
    """Refuse a trait that is filled for one label only: it was filled in because of the outcome."""
    labels = _labels(data)
    for info in data.dictionary:
        if info.measure != "trait" or data.X[info.name].isna().all():
            continue
        for label in (0.0, 1.0):
            chosen = (labels == label).to_numpy()
            if chosen.any() and data.X[info.name][chosen].isna().all():
                raise DataError(
                    f"the trait {info.subject} (table {info.table}) is null in all {int(chosen.sum())} rows of label "
                    f"{label:g} and not in the others: it tells the outcome. Leave it out of traits.partners"
                )


def _labels(data: Dataset) -> pd.Series:
    assert data.y is not None, "training data is built with labels"
    return data.y


def _covered(eco: Ecosystem, task: Task, data: Dataset) -> list[str]:
    """Return the features whose window was ever full in training.

    A window longer than all the history reads as "ever" in training and falls behind it in scoring, when history has
    grown: a model would meet values that it has never seen.
    """
    first = first_activity(eco, task.activity)
    history = 0 if first is None else (data.as_of.max() - pd.Timestamp(first)).days
    return [info.name for info in data.dictionary if info.window_days is None or info.window_days <= history]


def select_columns(X: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """Leave out columns that say nothing, or what another column says already.

    Parameters
    ----------
    X : DataFrame of shape (n, p)

    Returns
    -------
    kept : list of str
        In the order of `X`: neither constant nor equal to an earlier column in every row.
    twins : dict of str to str
        For each column left out as equal, the one that is kept.
    """
    kept: list[str] = []
    twins: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name in X.columns:
        column = X[name]
        if column.nunique(dropna=False) < 2:
            continue
        digest = _digest(column)
        if digest in seen:
            twins[name] = seen[digest]
        else:
            seen[digest] = name
            kept.append(name)
    return kept, twins


def _digest(column: pd.Series) -> str:
    import hashlib

    values = column.astype(str) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return hashlib.sha256(pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a model is made from: the rows, the columns that say something, and how each component is fitted."""

    task: Task
    catalogue: Catalogue
    data: Dataset
    known: Mapping[pd.Timestamp, pd.Series]
    everyone: Dataset
    columns: list[str]
    twins: dict[str, str]
    gap: dt.timedelta
    until: dt.datetime
    seed: int

    @classmethod
    def of(cls, eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int) -> Recipe:
        """Build the rows.

        Raises
        ------
        NotEnoughDataError
            If there are too few months or labels.
        """
        gap = task.gap(eco)
        moments = _moments(eco, task, until)
        catalogue = default_catalogue(eco, before=moments[0], activity=task.activity)
        data = tasks.build_dataset(eco, task, as_of=moments, until=until, catalogue=catalogue)
        folds = _folds(data, gap)
        _check_enough(task, data, folds)
        check_traits(data)
        everyone = tasks.transactions(eco, task, as_of=[*(fold.cut for fold in folds), until])
        columns, twins = select_columns(data.X[_covered(eco, task, data)])
        known = _labels_known(eco, task, data, [fold.cut for fold in folds])
        return cls(task, catalogue, data, known, everyone, columns, twins, gap, until, seed)

    @property
    def strength(self) -> float:
        """Inverse strength of the logistic's penalty: more columns must not make a bolder model."""
        return PRIOR_VARIANCE / max(len(self.columns), 1)

    def learners(self) -> dict[str, Callable[[pd.DataFrame, pd.Series, pd.Timestamp], Component]]:
        """How the components of the blend are fitted."""
        from partnerml.models import BoostedTrees, LogLogistic

        # below that, threads cost more than they save; they never change a result
        threads = 1 if self.data.X.size < THREADED_CELLS else None
        return {
            "trees": lambda X, y, cut: BoostedTrees(random_state=self.seed, n_jobs=threads).fit(
                X[self.columns], y, known_rows=self.known_rows(X)
            ),
            "logistic": lambda X, y, cut: LogLogistic(C=self.strength).fit(
                X[self.columns], y, known_rows=self.known_rows(X)
            ),
            "bgnbd": lambda X, y, cut: self.bgnbd(cut),
        }

    def known_rows(self, X: pd.DataFrame) -> np.ndarray:
        """Return how many of these rows had a known label when each was looked at, shape (n,)."""
        from partnerml.models import known_rows

        return known_rows(self.data.as_of.loc[X.index], pd.Timedelta(self.gap))

    def baselines(self) -> dict[str, Learner]:
        """How the baselines are fitted that are not components already."""
        from partnerml.models import BaseRate, LogLogistic

        return {
            "base_rate": BaseRate.learn,
            "recency": lambda X, y, cut: LogLogistic(C=1e3).fit(X[[_RECENCY]], y),
        }

    def labels_at(self, cut: pd.Timestamp) -> pd.Series:
        """Return the labels as they were known at a cut, NaN where they were not mature."""
        return self.known[cut]

    def bgnbd(self, cut: pd.Timestamp) -> Any:
        """Fit BG/NBD on everybody ever active, as seen at the cut: it needs no labels."""
        from partnerml.models import BuyTillYouDie

        rows = (self.everyone.keys["as_of"] == cut).to_numpy()
        return BuyTillYouDie(horizon_days=self.task.label.inactivity_days, random_state=self.seed).fit_features(
            self.everyone.X[rows]
        )

    def backtest(self, progress: Progress | None = None) -> Backtest:
        """Predict every fold by what was known at its origin."""
        from partnerml.models import backtest

        shown = progress or Progress.silent()

        def tracked() -> Iterator[Fold]:
            yield from shown.track(_folds(self.data, self.gap), f"{self.task.name}: backtest")

        return backtest(
            self.data.X,
            _labels(self.data),
            self.data.keys["partner_id"],
            folds=tracked(),
            gap=pd.Timedelta(self.gap),
            learners=self.learners(),
            baselines=self.baselines(),
            labels_at=self.labels_at,
        )

    def model(self, choice: Choice, evaluation: Mapping[str, Any]) -> Model:
        """Fit the chosen components on all mature rows and put the model together."""
        from partnerml.models import Blend, Model

        X, y, cut = self.data.X, _labels(self.data), pd.Timestamp(self.until)
        learners = self.learners()
        used = {name: learners[name](X, y, cut) for name, weight in choice.weights.items() if weight > 0}
        blend = Blend(used, {name: choice.weights[name] for name in used}, choice.calibration)
        return Model.of(
            task=self.task.to_dict(),
            catalogue=self.catalogue,
            dictionary=self.data.dictionary,
            blend=blend,
            hazard=self.hazard(),
            evaluation=evaluation,
            training=self.facts(),
        )

    def hazard(self) -> Any:
        """Fit the time to churn beyond the horizons that scores tell."""
        from partnerml.models import DiscreteTimeHazard, LogLogistic

        assert self.data.times is not None, "training data is built with labels"
        lag = self.gap - dt.timedelta(days=self.task.horizon_days)
        followed = (pd.Timestamp(self.until - lag) - self.data.as_of).dt.total_seconds().to_numpy() / 86_400.0
        horizons = sorted({*tasks.RISK_DAYS, self.task.horizon_days})
        grid = [days for days in horizons if self.task.label.inactivity_days <= days <= followed.max()]
        times = self.data.times
        return DiscreteTimeHazard(grid, base=LogLogistic(C=self.strength)).fit(
            self.data.X[self.columns],
            times["duration_days"],
            times["observed"],
            follow_up_days=followed,
            known_rows=self.known_rows(self.data.X),
        )

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the model asks: until when, on what, how."""
        moments = sorted(self.data.keys["as_of"].unique())
        numeric = self.data.X.select_dtypes("number")
        return {
            "until": self.until.isoformat(),
            "as_of": [pd.Timestamp(moment).isoformat() for moment in moments],
            "rows": len(self.data.X),
            "partners": int(self.data.keys["partner_id"].nunique()),
            "base_rate": float(_labels(self.data).mean()),
            "gap_days": self.gap.total_seconds() / 86_400,
            "data_fingerprint": self.data.fingerprint,
            "seed": self.seed,
            "twins": self.twins,
            "typical": {name: float(value) for name, value in numeric.median().items() if not np.isnan(value)},
        }


def judge(backtest: Backtest, *, seed: int) -> tuple[dict[str, Any], Choice]:
    """Measure the replay beside the baselines, and choose weights and calibration for the final model on all folds."""
    from partnerml.models import Choice, choose, evaluate, promotable, replay

    judged, said = replay(backtest)
    y, partner = backtest.y[judged], backtest.partner[judged]
    verdict = promotable(
        y,
        said["model"].to_numpy(),
        said["base_rate"].to_numpy(),
        said["recency"].to_numpy(),
        partner,
        simplest_name="recency alone",
        seed=seed,
    )
    report = evaluate(y, {str(name): column.to_numpy() for name, column in said.items()}, partner, seed=seed)
    # what ships is what was judged: where no choice could be replayed, none is made. The first cut has none before it,
    # so a replay never judges every row
    replayed = not judged.all()
    choice = (
        choose(backtest, backtest.cuts, backtest.y)
        if replayed
        else Choice.equal([str(name) for name in backtest.log_odds])
    )
    evaluation = {
        **report,
        "verdict": verdict.to_dict(),
        "weights": dict(choice.weights),
        "replayed": replayed,
        "folds": _fold_table(backtest, judged, said),
    }
    return evaluation, choice


def _fold_table(backtest: Backtest, judged: np.ndarray, said: pd.DataFrame) -> list[dict[str, Any]]:
    from partnerml.models import metrics

    cuts = backtest.cut[judged].reset_index(drop=True)
    labels = backtest.y[judged]
    table = []
    for cut in sorted(cuts.unique()):
        rows = (cuts == cut).to_numpy()
        for name in said:
            values = metrics(labels[rows], said[name].to_numpy()[rows])
            table.append({"as_of": pd.Timestamp(cut).isoformat(), "model": name, "rows": int(rows.sum()), **values})
    return table
