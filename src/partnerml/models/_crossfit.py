"""How good a blend can be on rows, without being judged on what its weights and its line were fitted to."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from partnerml.models._blend import blended, choose_weights
from partnerml.models._calibration import PlattCalibrator
from partnerml.models._metrics import FloatArray, metrics

# Two thirds of the rows are plenty for a handful of numbers.
GROUPS = 3


def cluster_groups(clusters: ArrayLike, *, n_groups: int = GROUPS, seed: int = 0) -> NDArray[np.intp]:
    """Deal clusters into groups of about equal number; the rows of a cluster go together.

    Parameters
    ----------
    clusters : array-like of shape (n,)
        The cluster of each row, such as its partner.
    n_groups : int
    seed : int
        Clusters are dealt in the order of their keys, so that the order of the rows does not matter.

    Returns
    -------
    ndarray of int, shape (n,)
        From 0 to ``n_groups - 1``.
    """
    keys, codes = np.unique(np.asarray(clusters), return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(keys)) % n_groups)[codes])


def cross_fitted_loss(
    log_odds: pd.DataFrame,
    y: ArrayLike,
    groups: ArrayLike,
    *,
    spread: float,
    weights: ArrayLike | None = None,
) -> float:
    """Return the log loss of a calibrated blend, its weights and line chosen for each group on the others.

    The groups share their months, so the drift of the base rate from one month to the next, which is noise to every
    choice of settings alike, does not blur which of them is better.

    Parameters
    ----------
    log_odds : DataFrame of shape (n, n_components)
        What each component said, out of time.
    y : array-like of shape (n,)
        Labels, 0 or 1.
    groups : array-like of int, shape (n,)
        Of `cluster_groups`. Where a label is missing among the rest of a group, all rows are the rest of every group.
    spread : float
        Of `choose_weights`.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    """
    label, group = np.asarray(y, dtype=np.float64), np.asarray(groups)
    weight = np.ones(len(label)) if weights is None else np.asarray(weights, dtype=np.float64)
    said = {str(name): column.to_numpy(dtype=np.float64) for name, column in log_odds.items()}
    known = [int(one) for one in np.unique(group)]
    if not all(both_labels(label[(group != one) & (weight > 0)]) for one in known):
        group, known = np.zeros(len(label), dtype=np.intp), [0]
    probability = np.empty(len(label))
    for one in known:
        now = group == one
        rest = now if len(known) == 1 else ~now
        probability[now] = _fitted(said, label, weight, rest=rest, now=now, spread=spread)
    return metrics(label, probability, weight)["log_loss"]


def _fitted(
    said: dict[str, FloatArray],
    label: FloatArray,
    weight: FloatArray,
    *,
    rest: NDArray[np.bool_],
    now: NDArray[np.bool_],
    spread: float,
) -> FloatArray:
    chosen = choose_weights({name: one[rest] for name, one in said.items()}, label[rest], weight[rest], spread=spread)
    raw = blended(said, chosen)
    line = PlattCalibrator.fit(raw[rest], label[rest], weight[rest])
    return np.asarray(expit(line.apply(raw[now])))


def both_labels(labels: FloatArray) -> bool:
    """Return whether either label is among those that are known; null is not known."""
    told = labels[~np.isnan(labels)]
    return bool(0 < told.sum() < len(told))
