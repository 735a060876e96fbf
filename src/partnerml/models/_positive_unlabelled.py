"""Learning from positives and unlabelled rows: bags of trees, each against another draw of the unlabelled.

Where nobody knows when an account could have become a partner, those that are not partners are no negatives: some are
as good as any partner, and nobody has asked them yet. A classifier of labelled against unlabelled still ranks rightly
if the labelled are a random sample of the positives (Elkan and Noto 2008, Learning classifiers from only positive and
unlabeled data). Bagging makes it stable: the hidden positives differ from bag to bag (Mordelet and Vert 2014, A bagging
SVM to learn from positive and unlabeled examples).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from partnerml.errors import ConfigError, ModelError
from partnerml.models._binary import Array, BinaryScorer, State
from partnerml.models._calibration import PlattCalibrator
from partnerml.models._classifier import BoostedTrees

# Of the unlabelled at most this share is drawn for one bag: the others are judged by who has not seen them.
_MOST = 2 / 3
_CERTAIN = 1e-4


class BaggedPositiveUnlabelled(BinaryScorer):
    """Boosted trees of all labelled rows against draws of the unlabelled, averaged in log-odds.

    A bag holds every labelled row and `ratio` times as many unlabelled ones (at least `min_drawn`, as far as they go),
    drawn without replacement; both sides weigh the same. Log-odds are therefore those of a world where labelled and
    unlabelled rows are equally frequent: they estimate ``log p(x | labelled) / p(x | unlabelled)``. Being a mean of
    log-odds, their TreeSHAP values add up.

    Parameters
    ----------
    n_bags : int
    ratio : float
        Unlabelled rows in a bag for each labelled one.
    min_drawn : int
        Unlabelled rows in a bag, at least: LightGBM sets aside values of a text that fewer than a hundred rows have,
        and in small bags that would be all of them.
    n_estimators, num_leaves, learning_rate, min_child_samples, subsample, colsample, reg_lambda
        Of the trees of a bag; see `BoostedTrees`.
    max_levels : int
        Values that a text column may have; one of more is replaced by its target statistic.
    random_state : int
    n_jobs : int or None
        Threads; never changes a result.

    Attributes
    ----------
    classes_ : array of shape (2,)
        Unlabelled and labelled.
    bags_ : tuple of BoostedTrees
    outside_ : array of bool, shape (n_bags, n)
        Which training rows each bag has not seen; not part of the state.
    """

    def __init__(
        self,
        *,
        n_bags: int = 16,
        ratio: float = 2.0,
        min_drawn: int = 300,
        n_estimators: int = 50,
        num_leaves: int = 7,
        learning_rate: float = 0.08,
        min_child_samples: int = 20,
        subsample: float = 0.8,
        colsample: float = 0.7,
        reg_lambda: float = 5.0,
        max_levels: int = 30,
        random_state: int = 0,
        n_jobs: int | None = 1,
    ) -> None:
        self.n_bags = n_bags
        self.ratio = ratio
        self.min_drawn = min_drawn
        self.n_estimators = n_estimators
        self.num_leaves = num_leaves
        self.learning_rate = learning_rate
        self.min_child_samples = min_child_samples
        self.subsample = subsample
        self.colsample = colsample
        self.reg_lambda = reg_lambda
        self.max_levels = max_levels
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> Self:
        """Grow the bags.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            NaN is a missing value; infinity is refused.
        y : array-like of shape (n,)
            Two classes; the second in sorted order is the labelled one, the first is unlabelled.

        Raises
        ------
        ConfigError
            If `n_bags` or `ratio` is out of range.
        OneClassError
            If nothing is labelled, or everything.
        """
        if self.n_bags < 1 or not self.ratio > 0:
            raise ConfigError(f"n_bags must be at least 1 and ratio above 0; got {self.n_bags} and {self.ratio}")
        X, labelled, _ = self._check_fit(X, y, None, None)
        unlabelled = np.flatnonzero(labelled == 0)
        wanted = max(round(self.ratio * labelled.sum()), self.min_drawn, 1)
        size = max(1, min(wanted, int(_MOST * len(unlabelled))))
        generator = np.random.default_rng(self.random_state)
        weights = np.tile(labelled, (self.n_bags, 1))
        for weight in weights:
            weight[generator.choice(unlabelled, size=size, replace=False)] = labelled.sum() / size
        # small enough for what is made of them: LightGBM takes seeds of 31 bits
        seeds = generator.integers(0, 2**20, self.n_bags).tolist()
        self.bags_ = tuple(self._bag(seed, X, labelled, w) for seed, w in zip(seeds, weights, strict=True))
        self.outside_ = weights == 0
        return self

    def out_of_bag(self, X: Any) -> Array:
        """Return the log-odds of the training rows by the bags that have not seen them, shape (n,).

        NaN for the labelled, which are in every bag, and for a row that every bag happens to hold.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            The rows that it was fitted on, in their order.

        Raises
        ------
        ModelError
            If these are not as many rows, or the model was loaded.
        """
        outside = getattr(self, "outside_", None)
        if outside is None or outside.shape[1] != len(X):
            raise ModelError(f"out-of-bag scores are those of the rows that it was fitted on, not of these {len(X)}")
        X, total = self._check_predict(X), np.zeros(len(X))
        for bag, rows in zip(self.bags_, outside, strict=True):
            total[rows] += bag._predicted(bag._replaced(X[rows]), raw_score=True)
        seen = outside.sum(axis=0)
        return np.divide(total, seen, out=np.full(len(total), np.nan), where=seen > 0)

    def decision_function(self, X: Any) -> Array:
        """Return the mean log-odds of the bags, shape (n,)."""
        return np.asarray(self.by_bag(X).mean(axis=1))

    def by_bag(self, X: Any) -> Array:
        """Return the log-odds that each bag gives, shape (n, n_bags)."""
        # encoded once for all bags
        X = self._check_predict(X)
        return np.column_stack([bag._predicted(bag._replaced(X), raw_score=True) for bag in self.bags_])

    def contributions(self, X: Any) -> Array:
        """Return TreeSHAP values in log-odds, shape (n, p + 1): one per column, the base last.

        A row sums to its `decision_function`.
        """
        X = self._check_predict(X)
        said = [bag._predicted(bag._replaced(X), pred_contrib=True) for bag in self.bags_]
        return np.asarray(np.mean(np.stack(said), axis=0))

    def to_state(self) -> State:
        """Return plain values for JSON; the number of threads is left out, so that it cannot change a byte."""
        state = self._base_state()
        state["parameters"].pop("n_jobs")
        return state | {"bags": [bag.to_state() for bag in self.bags_]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        estimator = cls._from_base_state(state)
        estimator.bags_ = tuple(BoostedTrees.from_state(bag) for bag in state["bags"])
        return estimator

    def _learn_statistics(self, X: Array, target: Array, weight: Array, known_rows: Any) -> Array:
        # texts of many values are replaced by each bag, by its own labels
        self.statistics_, self.replaced_ = None, []
        return X

    def _bag(self, seed: int, X: Array, labelled: Array, weight: Array) -> BoostedTrees:
        """Fit the trees of a bag on the rows that weigh anything."""
        bag, rows = self._trees(seed), weight > 0
        bag.columns_, bag.n_features_in_, bag.classes_ = self.columns_, self.n_features_in_, self.classes_
        if self.columns_ is not None:
            bag.feature_names_in_ = self.feature_names_in_
        X, labelled, weight = X[rows], labelled[rows], weight[rows]
        return bag._grow(bag._learn_statistics(X, labelled, weight, None), labelled, weight)

    def _trees(self, seed: int) -> BoostedTrees:
        own = ("n_bags", "ratio", "min_drawn", "random_state")
        of_trees = {name: value for name, value in self.get_params(deep=False).items() if name not in own}
        return BoostedTrees(**of_trees, random_state=seed)


def balanced_weights(labelled: ArrayLike) -> Array:
    """Return weights that make both sides of a sample count as much as the labelled rows, shape (n,)."""
    positive = np.asarray(labelled, dtype=np.float64)
    return np.where(positive > 0, 1.0, positive.sum() / max(float((1 - positive).sum()), 1.0))


@dataclasses.dataclass(frozen=True)
class ClassPrior:
    """How a ranking of unlabelled rows becomes a probability, for a given share of positives among them.

    If the labelled are a random sample of the positives, ``P(positive | x, unlabelled) = prior * ratio(x)`` with the
    ratio of the densities of labelled and unlabelled rows (Elkan and Noto 2008). The mean of that over the unlabelled
    rows is the prior; where it would exceed 1, the rest is spread over the other rows. A line in log-odds is drawn
    through these probabilities, so that reasons stay additive and the mean stays the prior.

    Attributes
    ----------
    prior : float
        The share of positives among the unlabelled.
    line : PlattCalibrator
        Takes the log-odds of the ranking to those of the probability.
    mean : float
        Mean probability of the unlabelled rows.
    above_half : float
        Share of the unlabelled rows with a probability above .5.
    quantiles : mapping of str to float
        Probabilities at quantiles of the unlabelled rows.
    """

    prior: float
    line: PlattCalibrator
    mean: float
    above_half: float
    quantiles: Mapping[str, float]

    @classmethod
    def fit(cls, log_odds: ArrayLike, log_ratio: ArrayLike, prior: float) -> Self:
        """Fit the line on unlabelled rows that the scorer has not seen.

        Parameters
        ----------
        log_odds : array-like of shape (n,)
            What the line will be applied to.
        log_ratio : array-like of shape (n,)
            The log of the density ratio: log-odds between the labelled and these rows if both were equally frequent.
        prior : float
            Above 0 and below 1.

        Raises
        ------
        ConfigError
            If the prior is no share.
        """
        if not 0 < prior < 1:
            raise ConfigError(f"class_prior must lie between 0 and 1; got {prior}")
        raw = np.asarray(log_odds, dtype=np.float64)
        target = _to_mean(np.exp(np.asarray(log_ratio, dtype=np.float64)), prior)
        labels = np.repeat([1.0, 0.0], len(raw))
        line = PlattCalibrator.fit(np.tile(raw, 2), labels, np.concatenate([target, 1.0 - target]))
        p = expit(line.apply(raw))
        levels = {name: float(np.quantile(p, q)) for name, q in (("50", 0.5), ("90", 0.9), ("99", 0.99))}
        return cls(float(prior), line, float(p.mean()), float((p > 0.5).mean()), levels)

    def to_dict(self) -> dict[str, Any]:
        """Return what is reported, as JSON values."""
        return {
            "prior": self.prior,
            "mean_score": self.mean,
            "share_above_half": self.above_half,
            "score_quantiles": dict(self.quantiles),
        }


def prior_range(low: float, high: float) -> Sequence[float]:
    """Return the low end, the middle (in log-odds) and the high end of a range of priors; one value if they agree."""
    if low == high:
        return (low,)
    return (low, float(expit((logit(low) + logit(high)) / 2)), high)


def _to_mean(ratio: Array, prior: float) -> Array:
    """Return ``min(c ratio, 1)`` with the c that makes its mean the prior, a little short of 0 and 1."""
    low, high = 0.0, 1.0 / max(float(ratio.min()), 1e-12)
    for _ in range(200):
        middle = (low + high) / 2
        if float(np.minimum(middle * ratio, 1.0).mean()) < prior:
            low = middle
        else:
            high = middle
    return np.clip(np.minimum(high * ratio, 1.0), _CERTAIN, 1.0 - _CERTAIN)
