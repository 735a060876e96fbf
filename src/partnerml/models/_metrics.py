"""How good a probability is: ranking, accuracy and calibration, each order-free and without surprises at ties.

Every metric here is a function of the same table: the distinct predictions in ascending order, and the weight of the
positive and of the negative rows at each (`Tally`). A bootstrap is then the same table with a leading axis of draws,
which is why the resampling in `partnerml.models._evaluate` costs little more than the metrics themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.errors import InputError

FloatArray = NDArray[np.float64]

N_BINS = 10
TOP_SHARES = (0.05, 0.1, 0.2)  # of the rows, by descending score: whom a team gets round to
_EPSILON = float(np.finfo(np.float64).eps)
_CELLS = 1 << 18  # of a draws x rows matrix held at once: 2 MB, which stay in the cache of a processor
_PLACES = 1e-9  # bin edges closer than this, relative to one bin, are taken as met


@dataclass(frozen=True)
class Tally:
    """The weights of positives and negatives at each distinct prediction.

    Attributes
    ----------
    value : ndarray of shape (n_values,)
        The distinct predictions, ascending.
    positive, negative : ndarray of shape (n_draws, n_values)
        The weight of the rows with label 1 and 0 that have this prediction.
    """

    value: FloatArray
    positive: FloatArray
    negative: FloatArray

    @property
    def weight(self) -> FloatArray:
        """The weight at each prediction, shape (n_draws, n_values)."""
        return self.positive + self.negative

    @functools.cached_property
    def taken(self) -> FloatArray:
        """The weight of the rows at a prediction and above, from the highest down, shape (n_draws, n_values)."""
        return np.cumsum(self.weight[:, ::-1], axis=1)

    @functools.cached_property
    def found(self) -> FloatArray:
        """The weight of the positives among `taken`."""
        return np.cumsum(self.positive[:, ::-1], axis=1)


@dataclass(frozen=True)
class Ranking:
    """Labels and predictions in ascending order of the prediction, ready to be tallied under any weights."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    value: FloatArray
    label: FloatArray

    @classmethod
    def of(cls, y: FloatArray, p: FloatArray) -> Ranking:
        """Rank ``n`` rows; rows with the same prediction form one group."""
        order = np.lexsort((y, p))
        ranked = p[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        return cls(order, starts, ranked[starts], y[order])

    def tally(self, weights: FloatArray) -> Tally:
        """Sum weights of shape (n_draws, n), in the caller's row order, at each distinct prediction."""
        ranked = weights[:, self.order]
        positive = ranked * self.label
        negative = ranked - positive
        if len(self.starts) < len(self.order):
            positive = np.add.reduceat(positive, self.starts, axis=1)
            negative = np.add.reduceat(negative, self.starts, axis=1)
        return Tally(self.value, positive, negative)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, null where the denominator is 0."""
    empty = denominator == 0
    return np.where(empty, np.nan, numerator / np.where(empty, 1.0, denominator))


def _mean(tally: Tally, if_positive: FloatArray, if_negative: FloatArray) -> FloatArray:
    total = (tally.positive * if_positive).sum(axis=1) + (tally.negative * if_negative).sum(axis=1)
    return _ratio(total, tally.weight.sum(axis=1))


def _auc(tally: Tally) -> FloatArray:
    below = np.cumsum(tally.negative, axis=1) - tally.negative / 2
    pairs = tally.positive.sum(axis=1) * tally.negative.sum(axis=1)
    return _ratio((tally.positive * below).sum(axis=1), pairs)


def _average_precision(tally: Tally) -> FloatArray:
    # the prediction is walked from the top: precision at each distinct threshold, weighted by the recall it adds
    precision = tally.found / np.where(tally.taken == 0, 1.0, tally.taken)
    return _ratio((tally.positive[:, ::-1] * precision).sum(axis=1), tally.positive.sum(axis=1))


def _brier(tally: Tally) -> FloatArray:
    return _mean(tally, (1 - tally.value) ** 2, tally.value**2)


def _log_loss(tally: Tally) -> FloatArray:
    value = np.clip(tally.value, _EPSILON, 1 - _EPSILON)
    return _mean(tally, -np.log(value), -np.log1p(-value))


def _mean_prediction(tally: Tally) -> FloatArray:
    return _mean(tally, tally.value, tally.value)


def _base_rate(tally: Tally) -> FloatArray:
    return _ratio(tally.positive.sum(axis=1), tally.weight.sum(axis=1))


def _bins(weight: FloatArray, n_bins: int) -> NDArray[np.intp]:
    """Bin numbers of equal mass, shape of `weight`: a group of ties lies whole in the bin that holds its middle."""
    middle = np.cumsum(weight, axis=1) - weight / 2
    total = weight.sum(axis=1, keepdims=True)
    share = middle * n_bins / np.where(total == 0, 1.0, total)
    return np.clip(np.floor(share + _PLACES), 0, n_bins - 1).astype(np.intp)


def _by_bin(values: FloatArray, bins: NDArray[np.intp], n_bins: int) -> FloatArray:
    """Sum `values` (n_draws, n_values) over bins: (n_draws, n_bins)."""
    flat = (np.arange(len(values))[:, None] * n_bins + bins).ravel()
    sums = np.bincount(flat, weights=values.ravel(), minlength=len(values) * n_bins)
    return np.asarray(sums, dtype=np.float64).reshape(len(values), n_bins)


def _ece(tally: Tally, n_bins: int = N_BINS) -> FloatArray:
    weight = tally.weight
    excess = _by_bin(tally.positive - weight * tally.value, _bins(weight, n_bins), n_bins)
    return _ratio(np.abs(excess).sum(axis=1), weight.sum(axis=1))


def lift_name(share: float) -> str:
    """Return the name of the metric that is the lift of the highest scores, such as ``lift_at_5pct``."""
    return f"lift_at_{100 * share:g}pct"


def _lift(tally: Tally, *, share: float) -> FloatArray:
    # rows tied at the cut count by the share of them that fits: the mean over every way to break the tie
    total, positives = tally.taken[:, -1], tally.found[:, -1]
    wanted = share * total
    rows = np.arange(len(total))
    last = np.minimum((tally.taken < wanted[:, None]).sum(axis=1), tally.taken.shape[1] - 1)
    above = np.where(last > 0, last - 1, 0)
    taken, found = (np.where(last > 0, sums[rows, above], 0.0) for sums in (tally.taken, tally.found))
    part = _ratio(wanted - taken, tally.taken[rows, last] - taken)
    caught = found + np.nan_to_num(part) * (tally.found[rows, last] - found)
    return _ratio(caught, share * positives)


METRICS: Mapping[str, Callable[[Tally], FloatArray]] = MappingProxyType(
    {
        "auc": _auc,
        "average_precision": _average_precision,
        "brier": _brier,
        "log_loss": _log_loss,
        "ece": _ece,
        "mean_prediction": _mean_prediction,
        "base_rate": _base_rate,
        **{lift_name(share): functools.partial(_lift, share=share) for share in TOP_SHARES},
    }
)
HIGHER_IS_BETTER = frozenset({"auc", "average_precision", *(lift_name(share) for share in TOP_SHARES)})


def checked(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Labels, predictions and weights as float64 of shape (n,), or an error that says which one is wrong.

    Raises
    ------
    InputError
        If the lengths differ, nothing is given, a label is not 0 or 1 (a null label is immature and has no place in
        an evaluation), a prediction lies outside [0, 1], or a weight is negative or null.
    """
    label = np.asarray(y, dtype=np.float64)
    score = np.asarray(p, dtype=np.float64)
    weight = np.ones(len(label)) if weights is None else np.asarray(weights, dtype=np.float64)
    if label.ndim != 1 or label.shape != score.shape or label.shape != weight.shape or not len(label):
        shapes = f"labels {label.shape}, predictions {score.shape} and weights {weight.shape}"
        raise InputError(f"an evaluation needs one label, prediction and weight a row, at least one row; got {shapes}")
    rules = (
        ("labels", label, (label == 0) | (label == 1), "0 or 1 (leave immature rows out)"),
        ("predictions", score, (score >= 0) & (score <= 1), "probabilities in [0, 1]"),
        ("weights", weight, (weight >= 0) & np.isfinite(weight), "finite and not negative"),
    )
    for name, values, fine, allowed in rules:
        if not fine.all():
            wrong = np.flatnonzero(~fine)
            first = f"the first is {values[wrong[0]]} in row {wrong[0]}"
            raise InputError(f"{name} must be {allowed}; {len(wrong)} of {len(values)} are not, {first}")
    return label, score, weight


def metrics(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """Say how good probabilities are against what happened.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, 0 or 1.
    p : array-like of shape (n,)
        Predicted probabilities.
    weights : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    dict of str to float
        ``auc`` (ties count one half), ``average_precision`` (step-wise, as in scikit-learn), ``brier`` (mean squared
        error), ``log_loss`` (nats; predictions clipped to [eps, 1 - eps]), ``ece`` (expected calibration error over
        ten bins of equal mass: the mean distance between prediction and share; rows with the same prediction share a
        bin, so the order of the rows does not matter), ``mean_prediction``, ``base_rate``, ``lift_at_5pct``,
        ``lift_at_10pct``, ``lift_at_20pct`` (share of positives among the highest scores over the base rate, as in
        `gain`) and ``n`` (rows). With one class only, ``auc`` is NaN; if nothing is positive, ``average_precision``
        and the lifts are.
    """
    label, score, weight = checked(y, p, weights)
    tally = Ranking.of(label, score).tally(weight[None, :])
    return {name: float(metric(tally)[0]) for name, metric in METRICS.items()} | {"n": len(label)}


def gain(
    y: ArrayLike, p: ArrayLike, shares: Sequence[float] = TOP_SHARES, *, weights: ArrayLike | None = None
) -> pd.DataFrame:
    """Say what the highest scores catch: a list of the top 5 % finds how many of the positives.

    Ties at the cut count by the share of them that fits, so the result is the mean over every way to break them.

    Returns
    -------
    DataFrame
        One row a share: ``share`` of the rows taken, ``gain`` (share of all positives among them), ``precision``
        (share of positives among those taken) and ``lift`` (precision over base rate). Null if nothing is positive.
    """
    label, score, weight = checked(y, p, weights)
    tally = Ranking.of(label, score).tally(weight[None, :])
    taken = np.concatenate(([0.0], tally.taken[0]))
    found = np.concatenate(([0.0], tally.found[0]))
    share = np.asarray(shares, dtype=np.float64)
    caught = np.interp(share * taken[-1], taken, found)
    gained = _ratio(caught, np.full_like(caught, found[-1]))
    return pd.DataFrame(
        {
            "share": share,
            "gain": gained,
            "precision": _ratio(caught, share * taken[-1]),
            "lift": _ratio(gained, share),
        }
    )


def precision_at(y: ArrayLike, p: ArrayLike, k: int, *, weights: ArrayLike | None = None) -> float:
    """Return the share of positives among the k rows of the highest scores.

    Ties at the cut count by the share of them that fits.

    Parameters
    ----------
    y, p : array-like of shape (n,)
        Labels (0 or 1) and predicted probabilities, of one moment: k of several months together is nobody's list.
    k : int
        How many rows are taken, at least 1.
    weights : array-like of shape (n,), optional
        Weights of the rows, such as those for censoring: a row of weight 2 stands for two.

    Returns
    -------
    float
        NaN if the rows weigh less than k.
    """
    label, score, weight = checked(y, p, weights)
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    total = float(weight.sum())
    if total < k:
        return float("nan")
    return float(gain(label, score, [k / total], weights=weight)["precision"].iloc[0])


def score_counts(
    y: ArrayLike, p: ArrayLike, *, weights: ArrayLike | None = None, n_bins: int = 40
) -> dict[str, list[float]]:
    """Count rows by score in bins of equal width over [0, 1], those of label 0 and those of label 1.

    Returns
    -------
    dict of str to list
        ``edges`` (n_bins + 1), ``negative`` and ``positive`` (n_bins counts each, or sums of the weights).
    """
    label, score, weight = checked(y, p, weights)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    masses = None if weights is None else weight
    counts = [
        np.histogram(score[label == value], bins=edges, weights=None if masses is None else masses[label == value])[0]
        for value in (0, 1)
    ]
    return {"edges": edges.tolist(), "negative": counts[0].tolist(), "positive": counts[1].tolist()}


@dataclass(frozen=True)
class PerfectEce:
    """The calibration error that a perfectly calibrated model shows by chance alone.

    Attributes
    ----------
    mean, p95 : float
        Mean and 95th percentile over the simulations.
    draws : ndarray of shape (n_sim,)
        The calibration errors, ascending.
    design_effect : float
        How much larger the variance of chance was taken than that of independent rows; 1 for those.
    """

    mean: float
    p95: float
    draws: FloatArray
    design_effect: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Mean, percentile, number of simulations and design effect, without the draws."""
        return {"mean": self.mean, "p95": self.p95, "n_sim": len(self.draws), "design_effect": self.design_effect}


def perfect_ece(
    p: ArrayLike,
    y: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    n_bins: int = N_BINS,
    n_sim: int = 2000,
    seed: int = 0,
) -> PerfectEce:
    """Simulate the calibration error of a model whose every probability is right.

    Labels are drawn from the predictions, row by row and independently, and the error is computed as in `metrics`.
    Rows of one partner at several as-of dates share most of what happened, and chance goes further than with
    independent rows: with labels and clusters, each draw is that much wider (`design_effect`).

    Parameters
    ----------
    p : array-like of shape (n,)
        Predicted probabilities.
    y, clusters : array-like of shape (n,), optional
        Labels (0 or 1) and the partner of each row, both or neither; without them, rows are taken as independent.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    n_bins : int
        Bins of equal mass.
    n_sim : int
        Simulations.
    seed : int
        Seed; the order of the rows does not matter.
    """
    if (y is None) != (clusters is None):
        raise InputError("how far rows go together is seen in labels and clusters; give both, or neither")
    label, score, weight = checked(np.zeros(np.shape(p)) if y is None else y, p, weights)
    effect = _asked_effect(label, score, weight, clusters, n_bins)
    return Simulation.of(score, weight, n_bins=n_bins, n_sim=n_sim, seed=seed, design_effect=effect).ece()


def cluster_codes(clusters: ArrayLike, n: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Give each of n rows the number of its cluster, in the order of the keys, and return the keys."""
    keys = np.asarray(clusters)
    if keys.shape != (n,):
        raise InputError(f"clusters must hold one partner a row, {n} in all; got shape {keys.shape}")
    if pd.isna(keys).any():
        raise InputError(f"clusters must name a partner in every row; {int(pd.isna(keys).sum())} of {n} are null")
    known, codes = np.unique(keys, return_inverse=True)
    return codes, known


def design_effect(
    label: FloatArray, score: FloatArray, weight: FloatArray, codes: NDArray[np.intp], *, n_bins: int = N_BINS
) -> float:
    """Return how much larger the variance of chance is than with independent rows, pooled over bins of equal mass.

    The variance over clusters of the sums of residuals in a bin, without the bin's mean (which is no chance but a
    model that is off), over what right and independent predictions give: ``sum_b sum_c e_cb^2 / sum_i w_i^2 p_i
    (1 - p_i)`` (the design effect of Kish 1965, "Survey Sampling", for a total). At least 1: rows that go together
    make chance no smaller.

    Parameters
    ----------
    label, score, weight : ndarray of shape (n,)
        Checked rows.
    codes : ndarray of int, shape (n,)
        Numbers of the clusters, from `cluster_codes`.
    n_bins : int
        Bins of equal mass.
    """
    # rows that tie in all of these are alike: the sums are the same to the last digit whatever the order of the rows
    order = np.lexsort((codes, label, weight, score))
    label, score, weight, codes = label[order], score[order], weight[order], codes[order]
    bins = _row_bins(score, weight, n_bins)
    off = weight * (label - score)
    bias = _ratio(*(_by_bin(values[None, :], bins[None, :], n_bins)[0] for values in (off, weight)))
    off -= weight * np.nan_to_num(bias)[bins]
    sums = np.bincount(codes * n_bins + bins, weights=off)
    independent = float((weight**2 * score * (1 - score)).sum())
    return max(1.0, float((sums**2).sum()) / independent) if independent > 0 else 1.0


def _asked_effect(
    label: FloatArray, score: FloatArray, weight: FloatArray, clusters: ArrayLike | None, n_bins: int
) -> float:
    """Return the design effect of clusters; 1 without any."""
    if clusters is None:
        return 1.0
    return design_effect(label, score, weight, cluster_codes(clusters, len(label))[0], n_bins=n_bins)


@dataclass(frozen=True)
class Simulation:
    """What happens to probabilities that are all right, by chance alone; the costly part of what is told of it.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
        Places of the rows by ascending prediction.
    score, weight : ndarray of shape (n,)
        Predictions and weights in that order.
    bins : ndarray of int, shape (n,)
        The bin of each.
    excess : ndarray of shape (n_sim, n_bins)
        Weight of the positives above expectation in each bin.
    design_effect : float
        By how much rows that go together make the variance of `excess` larger.
    """

    order: NDArray[np.intp]
    score: FloatArray
    weight: FloatArray
    bins: NDArray[np.intp]
    excess: FloatArray
    design_effect: float = 1.0

    @classmethod
    def of(
        cls,
        score: FloatArray,
        weight: FloatArray,
        *,
        n_bins: int = N_BINS,
        n_sim: int = 2000,
        seed: int = 0,
        design_effect: float = 1.0,
    ) -> Simulation:
        """Draw the labels of checked rows from their predictions, and let chance go as far as their clusters do."""
        order = np.lexsort((weight, score))
        score, weight = score[order], weight[order]
        generator = np.random.default_rng(seed)
        bins = _row_bins(score, weight, n_bins)
        edges = np.flatnonzero(np.concatenate(([True], bins[1:] != bins[:-1])))
        excess = np.zeros((n_sim, n_bins))
        step = max(1, _CELLS // len(score))
        for start in range(0, n_sim, step):
            drawn = generator.random((min(step, n_sim - start), len(score))) < score
            excess[start : start + step, bins[edges]] = np.add.reduceat((drawn - score) * weight, edges, axis=1)
        return cls(order, score, weight, bins, excess * np.sqrt(design_effect), design_effect)

    def ece(self) -> PerfectEce:
        """Return the calibration error that chance alone shows."""
        draws = np.sort(np.abs(self.excess).sum(axis=1) / self.weight.sum())
        return PerfectEce(float(draws.mean()), float(np.quantile(draws, 0.95)), draws, self.design_effect)

    def curve(self, y: FloatArray) -> pd.DataFrame:
        """Return prediction against share, as `calibration_curve` does, for labels in the order of the caller."""
        n_bins = self.excess.shape[1]
        masses = np.bincount(self.bins, weights=self.weight, minlength=n_bins)
        held = masses > 0

        def mean(values: FloatArray) -> FloatArray:
            sums = np.bincount(self.bins, weights=self.weight * values, minlength=n_bins)
            return np.asarray(sums[held] / masses[held])

        predicted = mean(self.score)
        low, high = np.quantile(self.excess[:, held] / masses[held], [0.025, 0.975], axis=0)
        return pd.DataFrame(
            {
                "bin": np.flatnonzero(held),
                "n": np.bincount(self.bins, minlength=n_bins)[held],
                "mean_prediction": predicted,
                # rows of one prediction and weight may lie in any order: their sum is the same to the last digit
                "observed": mean(y[self.order]),
                "low": np.clip(predicted + low, 0.0, 1.0),
                "high": np.clip(predicted + high, 0.0, 1.0),
            }
        )


def _row_bins(score: FloatArray, weight: FloatArray, n_bins: int) -> NDArray[np.intp]:
    """Bin of each row of an ascending `score`."""
    starts = np.flatnonzero(np.concatenate(([True], score[1:] != score[:-1])))
    sizes = np.diff(np.append(starts, len(score)))
    return np.repeat(_bins(np.add.reduceat(weight, starts)[None, :], n_bins)[0], sizes)


def calibration_curve(
    y: ArrayLike,
    p: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    n_bins: int = N_BINS,
    n_sim: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Prediction against share in bins of equal mass, with the band that a perfect model would keep to.

    With the partner of each row as its cluster, the band allows for rows that go together, as `perfect_ece` does.

    Returns
    -------
    DataFrame
        One row a bin that holds rows of some weight, ascending: ``bin``, ``n`` (rows), ``mean_prediction``,
        ``observed`` (share of label 1), and ``low``, ``high``: the 95 % range of the share if every prediction of the
        bin were right. All but ``n`` are weighted.
    """
    label, score, weight = checked(y, p, weights)
    effect = _asked_effect(label, score, weight, clusters, n_bins)
    return Simulation.of(score, weight, n_bins=n_bins, n_sim=n_sim, seed=seed, design_effect=effect).curve(label)
