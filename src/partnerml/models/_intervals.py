"""How sure a score is: intervals for groups of rows that score alike, from how far earlier forecasts were off.

Whether one partner churns shows once and says little of its probability. Of a few hundred partners with about the same
score, the share that churns shows it; and what is uncertain about the next few hundred is how far the model will be off
there. Earlier forecasts that were made the same way, out of time, say how far off it has been: fold by fold, because
base rates drift between the moment that a model is calibrated for and the moment that it is used at. What follows from
that for a fold that has not come yet is `partnerml.models._fold_effects`: the interval is a prediction interval of the
mean probability of the group in a new fold, wider than one of its mean in past folds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from partnerml.errors import InputError
from partnerml.models._fold_effects import Ahead, Cells, Rows
from partnerml.models._metrics import FloatArray, checked

LEVEL = 0.9
MIN_ROWS = 200  # fewer say too little of their mean probability
MAX_GROUPS = 10
MIN_EVENTS = 20  # of either label in a group, or its log-odds are not told at all
# what never matures tells nothing of how far the world drifts until it does
MAX_GAP = pd.Timedelta(days=730)
_CLIP = 1e-6


@dataclasses.dataclass(frozen=True)
class ScoreGroup:
    """Rows that score alike, and how far their mean probability may lie from their scores.

    Attributes
    ----------
    above, up_to : float
        The scores of the group: above the one (from 0 on in the lowest group), up to the other.
    rows : int
        Out-of-time rows behind it.
    mean_prediction, observed : float
        Of those rows: mean score, and share of label 1.
    low, high : float
        The interval of the mean probability of rows that score as these did.
    shift_low, shift_high : float
        The same in log-odds, as a distance from the score.
    """

    above: float
    up_to: float
    rows: int
    mean_prediction: float
    observed: float
    low: float
    high: float
    shift_low: float
    shift_high: float


@dataclasses.dataclass(frozen=True)
class GroupIntervals:
    """Intervals for the mean probability of groups of similar rows.

    Attributes
    ----------
    level : float
        Nominal coverage, such as .9.
    groups : tuple of ScoreGroup
        In ascending order of the score; together they hold every score in [0, 1].
    spread : mapping of str to float
        Posterior means of standard deviations in log-odds: by how much ``level``, ``slope`` and each ``group`` drift
        between calibration and use, and by how much the ``shape`` is off for good.
    """

    level: float
    groups: tuple[ScoreGroup, ...]
    spread: Mapping[str, float]

    def group_of(self, scores: ArrayLike) -> NDArray[np.intp]:
        """Return the place in `groups` of each score, shape (n,)."""
        edges = [group.up_to for group in self.groups[:-1]]
        return np.searchsorted(np.asarray(edges), np.asarray(scores, dtype=np.float64), side="left")

    def interval(self, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the interval of each row, as a row of its group: the score moved by the group's two distances.

        Parameters
        ----------
        scores : array-like of shape (n,)

        Returns
        -------
        low, high : arrays of shape (n,)
            Their means over the rows of a group are the interval of the group's mean probability. They are no
            statement about the one row: what sets it apart from rows with the same score, the model does not know.
        """
        log_odds = logit(np.clip(np.asarray(scores, dtype=np.float64), _CLIP, 1 - _CLIP))
        places = self.group_of(scores)
        shifts = np.array([(group.shift_low, group.shift_high) for group in self.groups])[places]
        return np.asarray(expit(log_odds + shifts[:, 0])), np.asarray(expit(log_odds + shifts[:, 1]))

    def table(self, scores: ArrayLike) -> pd.DataFrame:
        """Return the interval of each group of scored rows.

        Returns
        -------
        DataFrame
            One row a group that holds scores, ascending: ``above``, ``up_to``, ``rows``, ``mean_score``, ``low`` and
            ``high`` (of the mean probability of these rows). With fewer than 200 rows in a group the rows differ from
            their group by more than the interval says.
        """
        score = np.asarray(scores, dtype=np.float64)
        low, high = self.interval(score)
        frame = pd.DataFrame({"group": self.group_of(score), "mean_score": score, "low": low, "high": high})
        means = frame.groupby("group", sort=True).agg(
            rows=("mean_score", "size"), mean_score=("mean_score", "mean"), low=("low", "mean"), high=("high", "mean")
        )
        held = [self.groups[place] for place in means.index]
        means.insert(0, "above", [group.above for group in held])
        means.insert(1, "up_to", [group.up_to for group in held])
        return means.reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "level": self.level,
            "groups": [dataclasses.asdict(group) for group in self.groups],
            "spread": dict(self.spread),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        groups = tuple(ScoreGroup(**group) for group in state["groups"])
        return cls(float(state["level"]), groups, dict(state["spread"]))


def group_intervals(
    y: ArrayLike,
    p: ArrayLike,
    cuts: ArrayLike,
    clusters: ArrayLike,
    *,
    gap: pd.Timedelta,
    weights: ArrayLike | None = None,
    calibrated: bool = True,
    level: float = LEVEL,
    min_rows: int = MIN_ROWS,
    max_groups: int = MAX_GROUPS,
) -> GroupIntervals:
    """Learn from out-of-time forecasts how far the mean probability of similar rows may lie from their scores.

    Parameters
    ----------
    y, p : array-like of shape (n,)
        Labels (0 or 1), and the probabilities that were forecast without them, as `replay` gives them.
    cuts : array-like of shape (n,)
        The cut of each row: the moment that its fold stands at.
    clusters : array-like of shape (n,)
        The partner of each row: what rows go together.
    gap : Timedelta
        From a cut to the moment that its labels are known. Folds closer than that look at the same days.
    weights : array-like of shape (n,), optional
        Weights of the rows, such as those for censoring.
    calibrated : bool
        Whether each fold was forecast by a model calibrated on the latest fold known by then, as the next one will be.
    level : float
        Nominal coverage.
    min_rows, max_groups : int
        Groups are of equal numbers of rows, as many as hold `min_rows` and twenty rows of either label each, up to
        `max_groups`.

    Returns
    -------
    GroupIntervals
        Nothing in it is random: equal rows in any order give equal values.
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}")
    rows = _rows(y, p, cuts, clusters, weights)
    edges = _edges(rows, min_rows=min_rows, max_groups=max_groups)
    rows = dataclasses.replace(rows, group=np.searchsorted(edges, rows.p, side="left"))
    ahead = Ahead.of(Cells.of(rows, gap=min(gap, MAX_GAP), calibrated=calibrated))
    shifts = ahead.quantiles(np.array([(1 - level) / 2, (1 + level) / 2]))
    bounds = [0.0, *edges.tolist(), 1.0]
    groups = [
        _group(rows, place, above=bounds[place], up_to=bounds[place + 1], shift=(low, high))
        for place, (low, high) in enumerate(shifts.T.tolist())
    ]
    return GroupIntervals(level, tuple(groups), ahead.spread)


def _group(rows: Rows, place: int, *, above: float, up_to: float, shift: tuple[float, float]) -> ScoreGroup:
    inside = rows.group == place
    mass, p = rows.weight[inside], rows.p[inside]
    low, high = (float(np.average(expit(logit(p) + distance), weights=mass)) for distance in shift)
    return ScoreGroup(
        above=above,
        up_to=up_to,
        rows=int(inside.sum()),
        mean_prediction=float(np.average(p, weights=mass)),
        observed=float(np.average(rows.y[inside], weights=mass)),
        low=low,
        high=high,
        shift_low=shift[0],
        shift_high=shift[1],
    )


def _rows(y: ArrayLike, p: ArrayLike, cuts: ArrayLike, clusters: ArrayLike, weights: ArrayLike | None) -> Rows:
    """Rows in an order of their own, so that sums do not depend on the caller's; all in one group yet."""
    label, score, weight = checked(y, p, weights)
    moment, owner = pd.DatetimeIndex(pd.Series(cuts)), np.asarray(clusters)
    if moment.shape != label.shape or owner.shape != label.shape:
        raise InputError(f"a cut and a cluster a row are needed, {len(label)}; got {len(moment)} and {len(owner)}")
    kept = weight > 0
    if not kept.any():
        raise InputError(f"none of the {len(label)} rows has a weight above 0")
    label, score, weight, owner = label[kept], np.clip(score[kept], _CLIP, 1 - _CLIP), weight[kept], owner[kept]
    weight = weight / weight.mean()
    known, fold = np.unique(moment[kept].to_numpy(), return_inverse=True)
    cluster = np.unique(owner, return_inverse=True)[1]
    order = np.lexsort((weight, label, score, cluster, fold))
    group = np.zeros(len(order), dtype=np.intp)
    moments = pd.DatetimeIndex(known)
    return Rows(label[order], score[order], weight[order], fold[order], group, cluster[order], moments)


def _edges(rows: Rows, *, min_rows: int, max_groups: int) -> FloatArray:
    """Upper scores of all groups but the last: equal numbers of rows, and enough of either label in each."""
    wanted = max(1, min(max_groups, len(rows.y) // min_rows))
    order = np.lexsort((rows.y, rows.p))
    ranked = rows.p[order]
    positives = np.concatenate(([0.0], np.cumsum(rows.y[order])))
    # a group ends where a score ends, so that equal scores are never told apart
    ends = np.searchsorted(ranked, ranked[np.arange(1, wanted) * len(ranked) // wanted - 1], side="right")
    edges: list[float] = []
    start, n = 0, len(ranked)
    for end in ends:
        if _enough(positives, start, int(end), min_rows) and _enough(positives, int(end), n, min_rows):
            edges.append(float(ranked[end - 1]))
            start = int(end)
    return np.asarray(edges, dtype=np.float64)


def _enough(positives: FloatArray, start: int, end: int, min_rows: int) -> bool:
    n, found = end - start, positives[end] - positives[start]
    return bool(n >= min_rows and min(found, n - found) >= MIN_EVENTS)
