"""Propensity without dates: what tells partners from all other accounts, judged by partners that were left out.

Nobody knows when an account was still no partner, so there is no origin to predict from, and an account that is no
partner may be one tomorrow. The rows are dealt into groups; models that have not seen a group rank it, and what is
measured is how far up they put its partners. That is a lower bound of how well they rank: the unlabelled that are like
partners count as mistakes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from partnerml.errors import NotEnoughDataError
from partnerml.progress import Progress
from partnerml.training._documents import documented, training_facts
from partnerml.training._one_trait import WORDS, one_trait
from partnerml.training._recipe import MIN_MINORITY, Trained, strength

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.features import Catalogue
    from partnerml.models import Component, Model, PlattCalibrator
    from partnerml.tasks import Task

_logger = logging.getLogger("partnerml")

Array = npt.NDArray[np.float64]

GROUPS = 5
BAGS = 16
# Texts of accounts (where a lead came from, its industry) are few and each says something of its own: indicators, whose
# effects the penalty shrinks, rank better than one target statistic (Olist, 412 landing pages).
MAX_LEVELS = 1_000
_BASELINES = ("base_rate", "one_trait")


@dataclasses.dataclass(frozen=True)
class LookAlike:
    """What a model of look-alikes is made from.

    Attributes
    ----------
    task : Task
        With an undated label.
    catalogue : Catalogue
    data : Dataset
        All accounts at `until`: y is 1 for a labelled one and 0 for an unlabelled one.
    columns : list of str
    twins : mapping of str to str
    until : datetime
    seed : int
    facts : DataFrame
        ``account_id`` and ``since`` of the accounts that are partners.
    documents : callable
        Returns what else is saved with the model.
    told : mapping
        What else to tell of the training, as JSON values.
    """

    task: Task
    catalogue: Catalogue
    data: Dataset
    columns: list[str]
    twins: Mapping[str, str]
    until: dt.datetime
    seed: int
    facts: pd.DataFrame
    documents: Callable[[Model], Mapping[str, Any]]
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def train(self, progress: Progress, *, trials: int = 0, database: Path | None = None) -> Trained:
        """Judge on left-out groups, and fit on all accounts.

        Parameters
        ----------
        progress : Progress
        trials : int
            Not used: without dates there are no later rows to tell a gain from luck.
        database : Path, optional
            Not used.

        Raises
        ------
        NotEnoughDataError
            If too few accounts are labelled, or too few are not.
        """
        self._check_enough()
        if trials:
            _logger.warning("propensity without dates is not tuned: the defaults are trained")
        groups = self.groups()
        held = self.held_out(groups, progress)
        with progress.stage(f"{self.task.name}: evaluation"):
            said = self.replayed(held, groups)
            weights = self.weights(held, np.ones(len(held), dtype=bool))
            calibrator, prior = self.calibration(self.blended(held, weights))
            evaluation = self.evaluation(said, self.blended(held, weights)) | {
                "weights": weights,
                "class_prior": prior,
            }
        with progress.stage(f"{self.task.name}: final fit"):
            model = self.model(weights, calibrator, evaluation)
            # left-out rows are no later ones: there is nothing that a challenger could be compared on
            nothing = self.data.keys.iloc[:0].assign(cut=None, cluster=None, y=None, weight=None, score=None)
        return Trained(documented(model, self.data, self.data.keys[self.cluster], seed=self.seed), nothing)

    @property
    def cluster(self) -> str:
        """The key column whose values are one each."""
        return "account_id"

    @property
    def labelled(self) -> Array:
        """1 for a labelled account, 0 for an unlabelled one, shape (n,)."""
        return self.data.labels.to_numpy(dtype=np.float64)

    def learners(self) -> Mapping[str, Callable[[pd.DataFrame, pd.Series], Component]]:
        """How the components are fitted: both sides weigh the same, so log-odds are those of equal numbers."""
        from partnerml.models import BaggedPositiveUnlabelled, LogLogistic, balanced_weights

        penalty = strength(self.columns, {})
        return {
            "bags": lambda X, y: BaggedPositiveUnlabelled(n_bags=BAGS, random_state=self.seed).fit(X[self.columns], y),
            "logistic": lambda X, y: LogLogistic(C=penalty, max_levels=MAX_LEVELS).fit(
                X[self.columns], y, balanced_weights(y)
            ),
        }

    def groups(self) -> npt.NDArray[np.intp]:
        """Deal the accounts, labelled and unlabelled alike, into groups of equal size, shape (n,)."""
        generator = np.random.default_rng(self.seed)
        found = np.zeros(len(self.data), dtype=np.intp)
        for side in (1.0, 0.0):
            rows = np.flatnonzero(self.labelled == side)
            found[generator.permutation(rows)] = np.arange(len(rows)) % GROUPS
        return found

    def held_out(self, groups: npt.NDArray[np.intp], progress: Progress) -> pd.DataFrame:
        """Return the log-odds of each component and baseline for rows that it has not seen, shape (n, 4)."""
        from partnerml.models import BaseRate

        X, y, cut = self.data.X, self.data.labels, pd.Timestamp(self.until)
        learners = self.learners()
        simplest = one_trait(self.columns)
        held = pd.DataFrame(np.nan, index=X.index, columns=[*learners, *_BASELINES])
        for group in progress.track(range(GROUPS), f"{self.task.name}: left-out groups"):
            now = groups == group
            seen, labels = X.loc[~now], y.loc[~now]
            for name, learn in learners.items():
                held.loc[now, name] = learn(seen, labels).decision_function(X.loc[now])
            held.loc[now, "base_rate"] = BaseRate.learn(seen, labels, cut).decision_function(X.loc[now])
            held.loc[now, "one_trait"] = simplest(seen, labels, cut).decision_function(X.loc[now])
        return held

    def weights(self, held: pd.DataFrame, rows: npt.NDArray[np.bool_]) -> dict[str, float]:
        """Choose the weights of the components on some of the left-out rows."""
        from partnerml.models import balanced_weights, choose_weights

        log_odds = {name: held[name].to_numpy()[rows] for name in self.learners()}
        labelled = self.labelled[rows]
        return choose_weights(log_odds, labelled, balanced_weights(labelled))

    def blended(self, held: pd.DataFrame, weights: Mapping[str, float]) -> Array:
        """Return the weighted log-odds, shape (n,)."""
        from partnerml.models import blended

        return blended({name: held[name].to_numpy() for name in weights}, weights)

    def replayed(self, held: pd.DataFrame, groups: npt.NDArray[np.intp]) -> pd.DataFrame:
        """Return the probability of being labelled; weights and lines of a group are chosen on the others."""
        from partnerml.models import PlattCalibrator

        said = pd.DataFrame(np.nan, index=held.index, columns=["model", *held.columns])
        for group in range(GROUPS):
            now = groups == group
            parts = {name: held[name].to_numpy() for name in held.columns}
            parts["model"] = self.blended(held, self.weights(held, ~now))
            for name, raw in parts.items():
                line = PlattCalibrator.fit(raw[~now], self.labelled[~now])
                said.loc[now, name] = expit(line.apply(raw[now]))
        return said

    def calibration(self, raw: Array) -> tuple[PlattCalibrator, dict[str, Any] | None]:
        """Return the line from the blend to the score, and what is reported of the class prior.

        Without one, a score says how much likelier the account is among the labelled than among the others, were both
        equally frequent: a rank.
        """
        from partnerml.models import ClassPrior, PlattCalibrator, balanced_weights, prior_range

        labelled = self.labelled
        even = PlattCalibrator.fit(raw, labelled, balanced_weights(labelled))
        given = self.task.label.class_prior
        if given is None:
            return even, None
        others = raw[labelled == 0]
        lines = [ClassPrior.fit(others, even.apply(others), prior) for prior in prior_range(*given)]
        used = lines[len(lines) // 2]
        return used.line, {
            "low": given[0],
            "high": given[1],
            "used": used.prior,
            "sensitivity": [line.to_dict() for line in lines],
        }

    def evaluation(self, said: pd.DataFrame, raw: Array) -> dict[str, Any]:
        """Measure the model beside its baselines, and check what it assumes."""
        from partnerml.models import evaluate, promotable, selected_at_random

        labelled, cluster = self.labelled, self.data.keys["account_id"].to_numpy()
        columns = {str(name): said[name].to_numpy() for name in said}
        verdict = promotable(
            labelled,
            columns["model"],
            columns["base_rate"],
            columns["one_trait"],
            cluster,
            simplest_name=WORDS,
            seed=self.seed,
        )
        prior = self.task.label.class_prior
        positives = self.data.keys.loc[labelled == 1, ["account_id"]].reset_index(drop=True)
        check = selected_at_random(
            raw,
            labelled,
            prior=None if prior is None else prior[0],
            X=self.data.X.loc[labelled == 1, self.columns].reset_index(drop=True),
            since=positives.merge(self.facts, on="account_id", how="left")["since"],
            seed=self.seed,
        )
        return {
            **evaluate(labelled, columns, cluster, seed=self.seed),
            "verdict": verdict.to_dict(),
            "replayed": True,
            "folds": [],
            "judged_on": f"accounts left out in {GROUPS} groups: labelled against unlabelled, not positive against "
            "negative",
            "labelled": int(labelled.sum()),
            "unlabelled": int(len(labelled) - labelled.sum()),
            "positives": self.task.label.positives,
            "selected_at_random": check,
        }

    def model(self, weights: Mapping[str, float], calibrator: PlattCalibrator, evaluation: Mapping[str, Any]) -> Model:
        """Fit the chosen components on all accounts and put the model together."""
        from partnerml.models import Blend, Model

        X, y = self.data.X, self.data.labels
        used = {name: learn(X, y) for name, learn in self.learners().items() if weights[name] > 0}
        model = Model.of(
            task=self.task.to_dict(),
            catalogue=self.catalogue,
            dictionary=self.data.dictionary,
            blend=Blend(used, {name: weights[name] for name in used}, calibrator),
            evaluation=evaluation,
            training=self.facts_of_training(),
        )
        return model.with_documents(self.documents(model))

    def facts_of_training(self) -> dict[str, Any]:
        """Return what a reader of the model asks: until when, on what, how."""
        moment = self.until.isoformat()
        return training_facts(
            self.data,
            cluster=self.cluster,
            until=self.until,
            seed=self.seed,
            gap=dt.timedelta(0),
            twins=self.twins,
            base_rate=float(self.labelled.mean()),
            settings={},
            **{"as_of": [moment], "from": moment, "to": moment},
            **self.told,
        )

    def _check_enough(self) -> None:
        labelled, unlabelled = int(self.labelled.sum()), int((1 - self.labelled).sum())
        if min(labelled, unlabelled) < MIN_MINORITY:
            raise NotEnoughDataError(
                f"{self.task.name} learns from at least {MIN_MINORITY} accounts that are labelled and as many that are "
                f"not; {labelled} are, {unlabelled} are not. Map more accounts, or more of those that are partners"
            )
