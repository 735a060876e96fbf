"""Which model is better, and is that more than chance: intervals and paired differences by bootstrap over partners.

A partner appears at several as-of dates, and its rows go together. The bootstrap therefore draws partners, not rows
(Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference with clustered errors"): each draw takes
as many partners as there are, with replacement, and every row counts as often as its partner was drawn. Partners are
drawn in the order of their ids, so that the same seed gives the same interval whatever the order of the rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.errors import InputError, NotEnoughDataError
from partnerml.models._metrics import (
    _CELLS,
    METRICS,
    TOP_SHARES,
    FloatArray,
    Ranking,
    Simulation,
    checked,
    cluster_codes,
    design_effect,
    gain,
    lift_name,
    metrics,
    precision_at,
    score_counts,
)

LEVEL = 0.95
LIST_LENGTHS = (10, 20, 50, 100)  # of which a fold tells the precision: what a team calls in a day to a month


@dataclass(frozen=True)
class Interval:
    """An estimate and the percentile interval of its bootstrap.

    Attributes
    ----------
    estimate, low, high : float
        The metric on all rows, and the 2.5th and 97.5th percentile of the draws (NaN if it is undefined in all).
    """

    estimate: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """A metric of the model minus the same metric of another, on the same rows.

    Attributes
    ----------
    metric : str
        Which one.
    model, other : float
        The two values on all rows.
    difference, low, high : float
        ``model - other``, and its 95 % percentile interval over the draws.
    p_value : float
        Two-sided: twice the smaller share of draws on either side of 0, at least ``2 / (n_boot + 1)``.
    """

    metric: str
    model: float
    other: float
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """Whether a model may become champion, and why.

    Attributes
    ----------
    promoted : bool
        Both differences in log loss lie below 0, intervals included.
    reason : str
        The figures behind it, in one sentence.
    against_base_rate, against_simplest : Difference
        Log loss of the model minus that of the constant base rate, and of the simplest ranking alone.
    """

    promoted: bool
    reason: str
    against_base_rate: Difference
    against_simplest: Difference

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        return asdict(self)


def _cluster_codes(clusters: ArrayLike, n: int) -> tuple[NDArray[np.intp], int]:
    """Give each row the number of its cluster, in the order of the keys."""
    codes, known = cluster_codes(clusters, n)
    if len(known) < 2:
        raise NotEnoughDataError(
            f"an interval needs rows of at least 2 partners; the {n} rows are all of {str(known[0])!r}"
        )
    return codes, len(known)


def _draws(codes: NDArray[np.intp], n_clusters: int, *, n_boot: int, seed: int) -> Iterator[FloatArray]:
    """Row weights of the draws, in blocks of shape (block, n)."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // max(len(codes), n_clusters))
    for start in range(0, n_boot, step):
        block = min(step, n_boot - start)
        drawn = generator.integers(0, n_clusters, size=(block, n_clusters))
        flat = (drawn + np.arange(block)[:, None] * n_clusters).ravel()
        counts = np.bincount(flat, minlength=block * n_clusters).reshape(block, n_clusters)
        yield counts[:, codes].astype(np.float64)


def _resampled(
    rankings: Sequence[Ranking], names: Sequence[str], weights: FloatArray, blocks: Iterator[FloatArray]
) -> FloatArray:
    """Metrics of every ranking in every draw: (n_rankings, n_metrics, n_boot); the draws are common to all."""
    parts: list[list[list[FloatArray]]] = [[[] for _ in names] for _ in rankings]
    for block in blocks:
        block *= weights
        for ranking, collected in zip(rankings, parts, strict=True):
            tally = ranking.tally(block)
            for name, draws in zip(names, collected, strict=True):
                draws.append(METRICS[name](tally))
    return np.array([[np.concatenate(draws) for draws in collected] for collected in parts])


def _percentiles(draws: FloatArray) -> tuple[float, float]:
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _checked_names(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(f"there is no metric {', '.join(unknown)}; known are {', '.join(METRICS)}")


def intervals(
    y: ArrayLike,
    p: ArrayLike,
    clusters: ArrayLike,
    *,
    names: Sequence[str] = tuple(METRICS),
    weights: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Metrics with their 95 % intervals by bootstrap over partners.

    Parameters
    ----------
    y, p : array-like of shape (n,)
        Labels (0 or 1) and predicted probabilities.
    clusters : array-like of shape (n,)
        The partner of each row.
    names : sequence of str
        Metrics, of those that `metrics` returns.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    n_boot : int
        Draws. A draw in which a metric is undefined (one class only) is left out of its interval.
    seed : int
        Seed of the draws.
    """
    _checked_names(names)
    label, score, weight = checked(y, p, weights)
    codes, n_clusters = _cluster_codes(clusters, len(label))
    blocks = _draws(codes, n_clusters, n_boot=n_boot, seed=seed)
    draws = _resampled([Ranking.of(label, score)], names, weight, blocks)[0]
    values = metrics(label, score, weight)
    return {name: Interval(values[name], *_percentiles(drawn)) for name, drawn in zip(names, draws, strict=True)}


def _difference(metric: str, model: float, other: float, draws: FloatArray) -> Difference:
    defined = draws[np.isfinite(draws)]
    low, high = _percentiles(draws)
    tail = min((defined <= 0).sum(), (defined >= 0).sum())
    p_value = min(1.0, 2 * (1 + float(tail)) / (1 + len(defined)))
    return Difference(metric, model, other, model - other, low, high, p_value)


def paired_difference(
    y: ArrayLike,
    p_model: ArrayLike,
    p_other: ArrayLike,
    clusters: ArrayLike,
    *,
    metric: str = "log_loss",
    weights: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same rows; the draws are shared, so what both find hard cancels.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, 0 or 1.
    p_model, p_other : array-like of shape (n,)
        Predicted probabilities of the two.
    clusters : array-like of shape (n,)
        The partner of each row.
    metric : str
        One of those that `metrics` returns.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    n_boot, seed : int
        Number of draws, and their seed.

    Returns
    -------
    Difference
        The metric of the model minus that of the other: below 0 is better for losses, above 0 for ``auc`` and
        ``average_precision``.
    """
    _checked_names([metric])
    label, score, weight = checked(y, p_model, weights)
    other = checked(y, p_other, weights)[1]
    return _differences(label, (score, other), weight, clusters, metric=metric, n_boot=n_boot, seed=seed)[0]


def _differences(
    label: FloatArray,
    scores: Sequence[FloatArray],
    weight: FloatArray,
    clusters: ArrayLike,
    *,
    metric: str,
    n_boot: int,
    seed: int,
) -> list[Difference]:
    """Compare the first of some scores with each of the others, on the same draws."""
    codes, n_clusters = _cluster_codes(clusters, len(label))
    blocks = _draws(codes, n_clusters, n_boot=n_boot, seed=seed)
    drawn = _resampled([Ranking.of(label, score) for score in scores], [metric], weight, blocks)[:, 0]
    values = [metrics(label, score, weight)[metric] for score in scores]
    return [
        _difference(metric, values[0], other, drawn[0] - draws)
        for other, draws in zip(values[1:], drawn[1:], strict=True)
    ]


def promotable(
    y: ArrayLike,
    model: ArrayLike,
    base_rate: ArrayLike,
    simplest: ArrayLike,
    clusters: ArrayLike,
    *,
    simplest_name: str = "recency alone",
    weights: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Say whether a model may become champion.

    It may if its log loss, out of time, lies below that of the constant base rate and below that of the simplest
    ranking alone, each by a paired 95 % interval that excludes 0. Otherwise there is no signal to speak of.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, 0 or 1.
    model : array-like of shape (n,)
        The model's probabilities.
    base_rate : float or array-like of shape (n,)
        The constant that a forecaster without features would have given (that of the training rows).
    simplest : array-like of shape (n,)
        The probabilities of the simplest ranking, as calibrated as the model's.
    clusters : array-like of shape (n,)
        The partner of each row.
    simplest_name : str
        What the simplest ranking is called in the reason.
    weights : array-like of shape (n,), optional
        Weights of the rows, such as those for censoring.
    n_boot, seed : int
        Number of draws, and their seed.
    """
    constant = np.broadcast_to(np.asarray(base_rate, dtype=np.float64), np.shape(y))
    label, score, weight = checked(y, model, weights)
    scores = (score, *(checked(y, other, weights)[1] for other in (constant, simplest)))
    to_base, to_simplest = _differences(label, scores, weight, clusters, metric="log_loss", n_boot=n_boot, seed=seed)
    named = (("the constant base rate", to_base), (simplest_name, to_simplest))
    failed = [(name, found) for name, found in named if not found.high < 0]
    if failed:
        words = " and ".join(_in_words(name, found) for name, found in failed)
        reason = f"no signal: the model's log loss of {to_base.model:.4f} is not surely below {words}"
    else:
        words = " and ".join(_in_words(name, found) for name, found in named)
        reason = f"the model's log loss of {to_base.model:.4f} is below {words}"
    return Verdict(not failed, reason, to_base, to_simplest)


def _in_words(name: str, found: Difference) -> str:
    span = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
    return f"the {found.other:.4f} of {name} (difference {found.difference:+.4f}, {span})"


def evaluate(
    y: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    clusters: ArrayLike,
    *,
    subject: str = "model",
    compared: Sequence[str] = ("auc", "average_precision", "brier", "log_loss"),
    weights: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that is reported of a model beside its baselines, as one JSON-able value.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, 0 or 1, out of time.
    predictions : mapping of str to array-like of shape (n,)
        Probabilities by name: the model and its baselines.
    clusters : array-like of shape (n,)
        The partner of each row.
    subject : str
        The name in `predictions` that the others are compared with.
    compared : sequence of str
        The metrics to compare.
    weights : array-like of shape (n,), optional
        Weights of the rows, such as those for censoring; everything but the numbers of rows is weighted.
    n_boot, seed : int
        Number of draws, and their seed; all models share the draws.

    Returns
    -------
    dict
        ``rows`` and ``partners``; ``models``: for each name its metrics as ``{estimate, low, high}``; ``differences``:
        for each baseline and metric a `Difference` as a mapping; ``gain_curves``: for each name what each twentieth of
        the list finds; and of the subject ``perfect_ece`` and ``calibration`` (records of `calibration_curve`), both
        with chance as far as rows of one partner go together, ``gain`` (records of `gain`, with the interval of the
        lift) and ``scores`` (`score_counts`).
        `partnerml.models._plots` draws them.
    """
    if subject not in predictions:
        raise InputError(f"predictions must hold the subject {subject!r}; got {', '.join(predictions) or 'none'}")
    _checked_names(compared)
    names = list(METRICS)
    rows = {name: checked(y, p, weights) for name, p in predictions.items()}
    label, score, weight = rows[subject]
    codes, n_clusters = _cluster_codes(clusters, len(label))
    blocks = _draws(codes, n_clusters, n_boot=n_boot, seed=seed)
    drawn = _resampled([Ranking.of(label, p) for _, p, _ in rows.values()], names, weight, blocks)
    draws = {name: dict(zip(names, of_model, strict=True)) for name, of_model in zip(rows, drawn, strict=True)}
    values = {name: metrics(label, p, weight) for name, (_, p, _) in rows.items()}
    models = {
        name: {m: Interval(values[name][m], *_percentiles(draws[name][m])).to_dict() for m in names} for name in rows
    }
    perfect = Simulation.of(score, weight, seed=seed, design_effect=design_effect(label, score, weight, codes))
    return {
        "rows": len(label),
        "partners": n_clusters,
        "models": models,
        "differences": _beside(values, draws, subject=subject, compared=compared),
        "perfect_ece": perfect.ece().to_dict(),
        "calibration": perfect.curve(label).to_dict("records"),
        "gain": _gain_records(label, score, weight, models[subject]),
        "gain_curves": {name: _gain_curve(label, p, weight) for name, (_, p, _) in rows.items()},
        "scores": score_counts(label, score, weights=weights),
    }


def _beside(
    values: Mapping[str, Mapping[str, float]],
    draws: Mapping[str, Mapping[str, FloatArray]],
    *,
    subject: str,
    compared: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return how the subject differs from each of the others in each metric, as plain values."""
    return {
        name: {
            m: _difference(m, values[subject][m], of_model[m], draws[subject][m] - draws[name][m]).to_dict()
            for m in compared
        }
        for name, of_model in values.items()
        if name != subject
    }


def _gain_records(
    y: FloatArray, p: FloatArray, weight: FloatArray, measured: Mapping[str, Mapping[str, float]]
) -> list[dict[Hashable, Any]]:
    records = gain(y, p, weights=weight).to_dict("records")
    spans = [measured[lift_name(share)] for share in TOP_SHARES]
    return [
        {**record, "lift_low": span["low"], "lift_high": span["high"]}
        for record, span in zip(records, spans, strict=True)
    ]


def _gain_curve(y: FloatArray, p: FloatArray, weight: FloatArray) -> list[dict[Hashable, Any]]:
    curve = gain(y, p, shares=np.linspace(0.0, 1.0, 21).round(2).tolist(), weights=weight)
    return curve[["share", "gain"]].to_dict("records")


def fold_table(
    y: ArrayLike,
    predictions: Mapping[Any, ArrayLike],
    cuts: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    at: Sequence[int] = LIST_LENGTHS,
) -> list[dict[str, Any]]:
    """Measure every model in every fold.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, 0 or 1, out of time.
    predictions : mapping or DataFrame of str to array-like of shape (n,)
        Probabilities by name: the model and its baselines.
    cuts : array-like of shape (n,)
        The cut of each row: the moment that its fold stands at.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    at : sequence of int
        Lengths of the lists of which the precision is told.

    Returns
    -------
    list of dict
        One record a fold and model, in order of time: ``as_of`` (text, ISO 8601), ``model``, ``rows``, the metrics of
        `metrics`, and ``precision_at_K`` for each length K (NaN where the fold has fewer rows).
    """
    said = {str(name): np.asarray(p, dtype=np.float64) for name, p in predictions.items()}
    checked_rows = {name: checked(y, p, weights) for name, p in said.items()}
    moments = pd.DatetimeIndex(np.asarray(cuts) if not isinstance(cuts, pd.Series) else cuts)
    table = []
    for cut in moments.unique().sort_values():
        inside = np.asarray(moments == cut)
        for name, (label, score, weight) in checked_rows.items():
            row = label[inside], score[inside]
            of_fold = weight[inside]
            short = {f"precision_at_{k}": precision_at(*row, k, weights=of_fold) for k in at}
            record = {"as_of": pd.Timestamp(cut).isoformat(), "model": name, "rows": int(inside.sum())}
            table.append({**record, **metrics(*row, of_fold), **short})
    return table
