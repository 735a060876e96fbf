"""Tuning, and what it gains over the defaults: searched on earlier origins, judged on later ones.

The search sees only origins whose labels were all known at the first origin that is reported, and sees them as they
were known then. Whether the settings that it finds are worth having is judged on the origins from there on, row by row
beside the defaults; where the gain may be noise, the defaults are kept.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.progress import Progress
from partnerml.training._recipe import MAX_FOLDS, PRIOR_VARIANCE

if TYPE_CHECKING:
    from partnerml.models import Backtest, Difference, Fold, Learner, Parameter, Search
    from partnerml.training._recipe import Recipe, Settings

_logger = logging.getLogger("partnerml")

# The search sees the latest origins that it may: more make a trial dearer, and older months say less about now.
MAX_SEEN = 5
# With fewer, settings that fit one odd month would win; later origins are then given to the search as well.
WANTED_SEEN = 3
MIN_SEEN, MIN_JUDGED = 2, 2
_MONTH = dt.timedelta(days=30)


def origins_for(trials: int, gap: dt.timedelta) -> int:
    """Return how many of the latest origins a recipe has to keep at hand.

    Tuning wants some of its own before those that a model without tuning is judged on. A month (or more) lies between
    two of them, and their labels take the gap until they are known.
    """
    return MAX_FOLDS + MAX_SEEN + math.ceil(gap / _MONTH) if trials else MAX_FOLDS


def space_of(components: Sequence[str]) -> tuple[Parameter, ...]:
    """Return what is searched for a model with these components: their parameters, and how they are blended.

    Parameters
    ----------
    components : sequence of str
        ``trees`` and ``logistic`` have parameters; any other has none.
    """
    from partnerml.models import SPREAD, Parameter

    by_component = {
        "trees": (
            Parameter("trees", "n_estimators", 40, 500, 120),
            Parameter("trees", "num_leaves", 3, 40, 7),
            Parameter("trees", "learning_rate", 0.008, 0.15, 0.03),
            Parameter("trees", "min_child_samples", 10, 400, 60),
            Parameter("trees", "subsample", 0.5, 1.0, 0.8, log=False),
            Parameter("trees", "colsample", 0.1, 1.0, 0.5, log=False),
            Parameter("trees", "reg_lambda", 0.1, 100.0, 5.0),
        ),
        "logistic": (Parameter("logistic", "prior_variance", 0.02, 20.0, PRIOR_VARIANCE),),
    }
    found = [parameter for name, parameters in by_component.items() if name in components for parameter in parameters]
    if found and len(components) > 1:
        found.append(Parameter("blend", "spread", 0.02, 2.0, SPREAD))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Split:
    """Which origins the search sees, and from which one on its result is judged.

    Attributes
    ----------
    seen : tuple of Fold
        All labels of their rows were known at `since`.
    since : Timestamp
        The first origin that is judged.
    judged : tuple of Timestamp
        All of them.
    """

    seen: tuple[Fold, ...]
    since: pd.Timestamp
    judged: tuple[pd.Timestamp, ...]


def split(
    folds: Sequence[Fold], reported: Sequence[pd.Timestamp], as_of: pd.Series, maturity: pd.Timedelta
) -> Split | None:
    """Give earlier origins to the search and later ones to its judgement; None if there are too few.

    As much as can be is judged: the first of the reported origins at which the search has `WANTED_SEEN`, or else the
    first at which it has the most.

    Parameters
    ----------
    folds : sequence of Fold
        In order of time.
    reported : sequence of Timestamp
        The cuts at which a replay is possible, in order of time.
    as_of : Series of shape (n,)
        The moment of each row.
    maturity : Timedelta
        From a row's moment until its label is known.
    """
    ends = [as_of.iloc[fold.test].max() + maturity for fold in folds]
    possible = []
    for place, since in enumerate(reported):
        seen = tuple(fold for fold, end in zip(folds, ends, strict=True) if end <= since)[-MAX_SEEN:]
        if len(seen) >= MIN_SEEN and len(reported) - place >= MIN_JUDGED:
            possible.append(Split(seen, since, tuple(reported[place:])))
    return max(possible, key=lambda one: min(len(one.seen), WANTED_SEEN), default=None)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What came of tuning.

    Attributes
    ----------
    recipe : Recipe
        With the settings that are kept.
    backtest : Backtest
        Of that recipe.
    since : Timestamp or None
        Where the tuned settings are kept, the first origin that may be reported: the search saw earlier ones.
    document : mapping
        What tuning tried, chose and gained, as JSON values.
    """

    recipe: Recipe
    backtest: Backtest
    since: pd.Timestamp | None
    document: Mapping[str, Any]


def tuned(recipe: Recipe, backtest: Backtest, *, trials: int, database: Path, progress: Progress) -> Tuned:
    """Search for better settings, and keep them if they are surely better on origins that the search has not seen.

    Parameters
    ----------
    recipe : Recipe
        With the defaults.
    backtest : Backtest
        Of the latest origins, with the defaults.
    trials : int
        At least 1; the first is the defaults.
    database : Path
        Where trials are kept: a run that was killed is taken up again.
    progress : Progress
    """
    from partnerml.models import replay, search

    judged, said = replay(backtest)
    reported = [pd.Timestamp(cut) for cut in sorted(backtest.cut[judged].unique())]
    chosen = split(recipe.folds, reported, recipe.data.as_of, recipe.matured_after)
    space = space_of(tuple(recipe.learners()))
    if not space:
        return _kept(recipe, backtest, _nothing(trials), "none of the components has a parameter to tune")
    if chosen is None:
        why = (
            f"too few of the {len(recipe.folds)} origins were over, labels included, before those that a search "
            f"is judged on: at least {MIN_SEEN} to search on and {MIN_JUDGED} to judge are needed, so more months"
        )
        _logger.warning("%s was not tuned: %s", recipe.task.name, why)
        return _kept(recipe, backtest, _nothing(trials), why)
    objective = _Objective(recipe, chosen, frozenset(parameter.component for parameter in space))
    found = search(
        objective,
        space,
        trials=trials,
        database=database,
        study=f"{recipe.task.name} {_fingerprint(recipe, chosen, space)}",
        seed=recipe.seed,
        progress=progress,
        description=f"{recipe.task.name}: tuning",
    )
    document = _nothing(trials) | _told(found, chosen, space)
    if found.best is found.trials[0]:
        return _kept(recipe, backtest, document, "no trial was better than the defaults on the origins searched")
    candidate = recipe.with_settings(found.best.settings)
    again = candidate.backtest(progress)
    rows = judged & backtest.at(chosen.judged)
    difference = _difference(again, rows, replay(again)[1], said, seed=recipe.seed)
    document |= _gained(difference, rows, backtest)
    words = _gain_in_words(difference)
    if not difference.high < 0:
        what = "it fitted the searched origins alone" if difference.low > 0 else "that may be noise"
        return _kept(recipe, backtest, document, f"{words}: {what}")
    document |= {"kept": "tuned", "reason": f"{words}; the tuned settings are kept"}
    return Tuned(candidate, again, chosen.since, document)


class _Objective:
    """The loss of settings over the origins that the search sees, origin by origin."""

    def __init__(self, recipe: Recipe, chosen: Split, searched: frozenset[str]) -> None:
        from partnerml.models import cluster_groups

        self.recipe, self.folds, self.searched = recipe, recipe.grouped(chosen.seen), searched
        self.rows = np.concatenate([fold.test for fold in self.folds])
        # as they were known when the first judged origin came
        self.y = recipe.known[chosen.since].to_numpy(dtype=np.float64)[self.rows]
        self.weights = _weights(recipe, chosen.since)[self.rows]
        clusters = recipe.data.keys[recipe.cluster].to_numpy()[self.rows]
        self.groups = cluster_groups(clusters, seed=recipe.seed)
        # what no setting touches says the same in every trial
        self._said: dict[tuple[str, int], npt.NDArray[np.float64]] = {}

    def __call__(self, settings: Settings) -> Iterator[float]:
        """Yield the loss over the first origin, the first two, and so on."""
        from partnerml.models import SPREAD

        spread = settings.get("blend", {}).get("spread", SPREAD)
        learners = self.recipe.make(settings)
        parts: list[pd.DataFrame] = []
        for place in range(len(self.folds)):
            parts.append(pd.DataFrame({name: self._of(name, learn, place) for name, learn in learners.items()}))
            yield self._loss(pd.concat(parts, ignore_index=True), spread)

    def _of(self, name: str, learn: Learner, place: int) -> npt.NDArray[np.float64]:
        key = (name, place)
        if key in self._said:
            return self._said[key]
        fold, X = self.folds[place], self.recipe.data.X
        labels = self.recipe.known[fold.cut].iloc[fold.train]
        said = learn(X.iloc[fold.train], labels, fold.cut).decision_function(X.iloc[fold.test])
        if name not in self.searched:
            self._said[key] = said
        return said

    def _loss(self, log_odds: pd.DataFrame, spread: float) -> float:
        from partnerml.models import cross_fitted_loss

        n = len(log_odds)
        told = ~np.isnan(self.y[:n])
        return cross_fitted_loss(
            log_odds[told],
            self.y[:n][told],
            self.groups[:n][told],
            spread=spread,
            weights=self.weights[:n][told],
        )


def _weights(recipe: Recipe, moment: pd.Timestamp) -> npt.NDArray[np.float64]:
    """Return what rows counted at a moment; weights of today would tell what became known later."""
    if recipe.known_weights is None:
        return np.ones(len(recipe.data))
    return recipe.known_weights[moment].to_numpy(dtype=np.float64)


def _difference(
    candidate: Backtest, rows: npt.NDArray[np.bool_], ours: pd.DataFrame, defaults: pd.DataFrame, *, seed: int
) -> Difference:
    """Return the log loss of the tuned model minus that of the defaults, each replayed, on the same rows."""
    from partnerml.models import paired_difference

    places = np.flatnonzero(rows)
    return paired_difference(
        candidate.y[rows],
        ours.loc[places, "model"].to_numpy(),
        defaults.loc[places, "model"].to_numpy(),
        candidate.cluster[rows],
        weights=None if candidate.weights is None else candidate.weights[rows],
        seed=seed,
    )


def _fingerprint(recipe: Recipe, chosen: Split, space: Sequence[Parameter]) -> str:
    """Return what makes a search another one: data, task, origins, space, seed and the program with its libraries."""
    from partnerml.models import Lineage

    facts = {
        # trials of other code would be handed back under a lineage that names this one
        "program": Lineage.here().using("optuna").to_dict(),
        "task": recipe.task.to_dict(),
        "data": recipe.data.fingerprint,
        "columns": list(recipe.columns),
        "origins": [[fold.cut.isoformat(), len(fold.train), len(fold.test)] for fold in recipe.grouped(chosen.seen)],
        "since": chosen.since.isoformat(),
        "space": [parameter.to_dict() for parameter in space],
        "seed": recipe.seed,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for cut in (*(fold.cut for fold in chosen.seen), chosen.since):
        digest.update(np.nan_to_num(recipe.known[cut].to_numpy(dtype="<f8"), nan=-1.0).tobytes())
    return digest.hexdigest()[:16]


def _nothing(trials: int) -> dict[str, Any]:
    return {"trials": trials, "metric": "log_loss", "chosen": {}, "gain": None, "interval": None}


def _told(found: Search, chosen: Split, space: Sequence[Parameter]) -> dict[str, Any]:
    best = found.best
    return {
        "pruned": sum(trial.pruned for trial in found.trials),
        "study": found.study,
        "space": [parameter.to_dict() for parameter in space],
        "seen": [fold.cut.isoformat() for fold in chosen.seen],
        "judged": [cut.isoformat() for cut in chosen.judged],
        "chosen": {component: dict(values) for component, values in best.settings.items()},
        "losses": {"defaults": found.trials[0].loss, "chosen": best.loss},
        "history": [{"loss": trial.loss, "pruned": trial.pruned} for trial in found.trials],
    }


def _gained(difference: Difference, rows: npt.NDArray[np.bool_], backtest: Backtest) -> dict[str, Any]:
    return {
        "gain": -difference.difference,
        "interval": {"low": -difference.high, "high": -difference.low},
        "log_loss": {"defaults": difference.other, "tuned": difference.model},
        "rows": int(rows.sum()),
        "clusters": len(np.unique(backtest.cluster[rows])),
    }


def _gain_in_words(difference: Difference) -> str:
    span = f"95 % interval {-difference.high:+.4f} to {-difference.low:+.4f}"
    return (
        f"tuning gained {-difference.difference:+.4f} of log loss ({difference.model:.4f} against "
        f"{difference.other:.4f} of the defaults, {span}) where the search had not looked"
    )


def _kept(recipe: Recipe, backtest: Backtest, document: dict[str, Any], why: str) -> Tuned:
    """Return the defaults, and say why they are kept."""
    return Tuned(recipe, backtest, None, document | {"kept": "defaults", "reason": f"{why}; the defaults are kept"})
