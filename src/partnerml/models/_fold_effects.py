"""How far forecasts are off in a fold that has not come yet, learnt from the folds behind it.

In fold k the rows of score group b are off, on the log-odds scale and to first order about the group's mean a_b, by

    d_kb = a_b + sum(w (y - q)) / sum(w q (1 - q)),    logit q = logit p + a_b,    a_b: sum(w q) = sum(w y) over folds

and that has these sources. With z_b the log-odds of the group, and c(k) the earlier fold that the model of fold k was
calibrated on,

    d_kb = S(k) - S(c(k)) + (G(k) - G(c(k))) z_b + B_b(k) - B_b(c(k)) + omega_b + e_kb - H e_c(k)

S and G are the level and the slope of the world, and B_b what is particular to a group. They drift: a calibration
catches level and slope where it is fitted, and they move on. They are Gaussian processes in time whose timescale is
not known, from shocks that pass to trends that last; seen against its calibration a level that came up is likely to
come down, and the differences of a trend are likely to go on. omega_b is what the model gets wrong for good, but for
the line that calibration takes out; e_kb is the luck of the labels, and H e_c(k) what of it went into the calibration
line. Everything is normal given the standard deviations, which are integrated over by their likelihood under weak
priors, as in a random-effects meta-analysis (Higgins, Thompson and Spiegelhalter 2009, "A re-evaluation of
random-effects meta-analysis"; Gelman 2006, "Prior distributions for variance parameters in hierarchical models").
Nothing in it is drawn at random.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, stdtrit

from partnerml.models._metrics import FloatArray

# Scales of the half-t priors in log-odds: how far level, slope and each group drift over one gap, and the shape. A base
# rate that moves from 20 to 24 % within a gap moves by .23; the tails leave it to the folds.
LEVEL_SCALE, SLOPE_SCALE, GROUP_SCALE, SHAPE_SCALE = 0.3, 0.2, 0.15, 0.15
UNCALIBRATED = 3.0  # times that, where no calibration has caught level and slope yet
_LINE_SLOPE = 0.1  # prior sd of a calibration slope's luck: groups that hardly differ leave it as it is
_TAIL = 3  # degrees of freedom of the half-t
_NODES = (6, 3, 3, 3)  # of the four, at the middles of equal masses
_TIMESCALES = (0.7, 2.0, 6.0)  # in gaps
_PLACES = 9  # decimals kept: the last bits of a product of matrices depend on the number of threads
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Rows:
    """Weighted rows with the number of their fold, group and cluster.

    Attributes
    ----------
    y, p, weight : arrays of shape (n,)
        Predictions lie inside (0, 1), weights above 0.
    fold, group, cluster : arrays of int, shape (n,)
    moments : DatetimeIndex of shape (n_folds,)
        When each fold stands, in order.
    """

    y: FloatArray
    p: FloatArray
    weight: FloatArray
    fold: NDArray[np.intp]
    group: NDArray[np.intp]
    cluster: NDArray[np.intp]
    moments: pd.DatetimeIndex


@dataclasses.dataclass(frozen=True)
class Cells:
    """How far each group was off in each fold, and what that has in common with a new fold.

    Attributes
    ----------
    off : array of shape (n_cells,)
    fold, group : arrays of int, shape (n_cells,)
    z : array of shape (n_groups,)
        Log-odds of each group, about the mean.
    luck, luck_ahead, luck_new : arrays of shape (n_cells, n_cells), (n_groups, n_cells), (n_groups,)
        Covariance of what is off by the luck of labels: of the cells, of the new fold with them, variance of the new.
    shape, shape_new : arrays of shape (n_cells, n_groups), (n_groups, n_groups)
        How much of each group's omega shows after calibration.
    drift : array of shape (n_timescales, n_folds + 1, n_folds + 1)
        Covariance of the drift since calibration, the new fold last, where the drift over one gap has variance 1.
    scale : float
        Factor of the prior scales of level and slope.
    """

    off: FloatArray
    fold: NDArray[np.intp]
    group: NDArray[np.intp]
    z: FloatArray
    luck: FloatArray
    luck_ahead: FloatArray
    luck_new: FloatArray
    shape: FloatArray
    shape_new: FloatArray
    drift: FloatArray
    scale: float

    @classmethod
    def of(cls, rows: Rows, *, gap: pd.Timedelta, calibrated: bool) -> Cells:
        """Sum rows to cells.

        Parameters
        ----------
        rows : Rows
        gap : Timedelta
            From a fold to the moment its labels are known; the new fold is one gap after the last.
        calibrated : bool
            Whether each fold was predicted by a model that was calibrated on the latest fold known by then.
        """
        n_groups, n_folds = int(rows.group.max()) + 1, len(rows.moments)
        cell = rows.fold * n_groups + rows.group
        z_row = logit(rows.p)
        means = np.array([_mean_off(rows, number) for number in range(n_groups)])
        # moved by its group's mean, a forecast far off is near enough for the first order
        rows = dataclasses.replace(rows, p=expit(logit(rows.p) + means[rows.group]))
        variance = rows.weight * rows.p * (1 - rows.p)
        information = np.asarray(np.bincount(cell, weights=variance, minlength=n_folds * n_groups), dtype=np.float64)
        excess = np.bincount(cell, weights=rows.weight * (rows.y - rows.p), minlength=n_folds * n_groups)
        mean = np.bincount(rows.group, weights=variance * z_row, minlength=n_groups)
        of_group = information.reshape(n_folds, n_groups).sum(axis=0)
        z = mean / of_group - mean.sum() / of_group.sum()
        held = np.flatnonzero(information > 0)
        luck = _luck(rows, cell, n_folds, n_groups)[np.ix_(held, held)]
        luck = _covariance(luck / np.outer(information[held], information[held]))
        fold, group = held // n_groups, held % n_groups
        times = ((rows.moments - rows.moments[0]) / gap).to_numpy(dtype=np.float64)
        lines = _Lines(information[held], fold, group, z)
        luck, ahead, new, shape, shape_new = lines.carried(luck, times, calibrated=calibrated)
        return cls(
            off=means[group] + excess[held] / information[held],
            fold=fold,
            group=group,
            z=z,
            luck=luck,
            luck_ahead=ahead,
            luck_new=new,
            shape=shape,
            shape_new=shape_new,
            drift=np.array([_drift(times, scale, calibrated=calibrated) for scale in _TIMESCALES]),
            scale=1.0 if calibrated else UNCALIBRATED,
        )


def _mean_off(rows: Rows, number: int) -> float:
    """Return what the rows of a group are off by over all folds, in log-odds; one half row of either label is added."""
    inside = rows.group == number
    weight, log_odds = rows.weight[inside], logit(rows.p[inside])
    target = (float((weight * rows.y[inside]).sum()) + 0.5) / (float(weight.sum()) + 1.0) * float(weight.sum())
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        if float((weight * expit(log_odds + middle)).sum()) < target:
            low = middle
        else:
            high = middle
    return float(np.round((low + high) / 2, _PLACES))


def calibrated_on(times: FloatArray) -> list[int | None]:
    """Return for each fold, and for a new one a gap after the last, the latest fold at least a gap (1.0) before it."""
    found: list[int | None] = []
    for moment in [*times, times[-1] + 1.0]:
        known = np.flatnonzero(times <= moment - 1.0 + 1e-9)
        found.append(int(known[-1]) if len(known) else None)
    return found


def _drift(times: FloatArray, timescale: float, *, calibrated: bool) -> FloatArray:
    """Covariance of ``S(k) - S(c(k))`` over folds and a new one, times in gaps, by a Matern kernel of order 3/2."""
    here = np.append(times, times[-1] + 1.0)
    if not calibrated:
        return _kernel(np.subtract.outer(here, here), timescale)
    lines = [moment - 1.0 if c is None else times[c] for moment, c in zip(here, calibrated_on(times), strict=True)]
    there = np.array(lines)
    both = np.concatenate([here, there])
    covariance = _kernel(np.subtract.outer(both, both), timescale)
    n = len(here)
    steps = np.hstack([np.eye(n), -np.eye(n)])
    one_gap = 2 * (1 - _kernel(np.ones(1), timescale)[0])
    return np.asarray(steps @ covariance @ steps.T / one_gap)


def _kernel(apart: FloatArray, timescale: float) -> FloatArray:
    scaled = np.sqrt(3.0) * np.abs(apart) / timescale
    return np.asarray((1 + scaled) * np.exp(-scaled))


@dataclasses.dataclass(frozen=True)
class _Lines:
    """The calibration line of a fold, as a linear function of how far its cells are off."""

    information: FloatArray
    fold: NDArray[np.intp]
    group: NDArray[np.intp]
    z: FloatArray

    def of(self, number: int) -> FloatArray:
        """Return the matrix of shape (n_groups, n_cells) from what cells are off to the line of fold `number`."""
        inside = self.fold == number
        line = np.column_stack([np.ones(len(self.z)), self.z])
        design, weight = line[self.group[inside]], self.information[inside]
        precision = (design.T * weight) @ design + np.diag([0.0, 1.0 / _LINE_SLOPE**2])
        matrix = np.zeros((len(self.z), len(self.fold)))
        matrix[:, inside] = line @ np.linalg.solve(precision, design.T * weight)
        return matrix

    def carried(
        self, luck: FloatArray, times: FloatArray, *, calibrated: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Take calibration into account: of the luck of labels, and of the shape; see `Cells`."""
        n_cells, n_groups = len(self.fold), len(self.z)
        of_group = np.eye(n_groups)[self.group]
        if not calibrated:
            return luck, np.zeros((n_groups, n_cells)), np.zeros(n_groups), of_group, np.eye(n_groups)
        carried, shape, apart = np.eye(n_cells), of_group.copy(), np.zeros((n_cells, n_cells))
        sources = calibrated_on(times)
        for number, source in enumerate(sources[:-1]):
            inside = np.flatnonzero(self.fold == number)
            line = self.of(number if source is None else source)[self.group[inside]]
            shape[inside] -= line @ of_group
            if source is None:
                # calibrated on a fold that is not at hand: as much luck as its own, and independent of it
                apart[np.ix_(inside, inside)] += line @ luck @ line.T
            else:
                carried[inside] -= line
        latest = self.of(int(self.fold.max()) if sources[-1] is None else sources[-1])
        new = -latest
        return (
            carried @ luck @ carried.T + apart,
            new @ luck @ carried.T,
            np.einsum("gc,cd,gd->g", new, luck, new),
            shape,
            np.eye(n_groups) - latest @ of_group,
        )


def _luck(rows: Rows, cell: NDArray[np.intp], n_folds: int, n_groups: int) -> FloatArray:
    """Covariance of the sums of ``w (y - p)`` over cells, rows of one cluster correlated as they are on average.

    One correlation for each distance between folds is told surely by all rows, that of each pair of cells is not.
    """
    n_clusters, n_cells = int(rows.cluster.max()) + 1, n_folds * n_groups
    deviation = rows.weight * np.sqrt(rows.p * (1 - rows.p))
    residual = rows.weight * (rows.y - rows.p)
    own = np.bincount(cell, weights=deviation**2, minlength=n_cells)
    by_fold = rows.cluster * n_folds + rows.fold
    residuals, deviations = (
        np.bincount(by_fold, weights=values, minlength=n_clusters * n_folds).reshape(n_clusters, n_folds)
        for values in (residual, deviation)
    )
    seen = residuals.T @ residuals - np.diag(np.bincount(rows.fold, weights=residual**2, minlength=n_folds))
    possible = deviations.T @ deviations - np.diag(own.reshape(n_folds, n_groups).sum(axis=1))
    distance = np.abs(np.subtract.outer(np.arange(n_folds), np.arange(n_folds)))
    pairs = [(seen[distance == lag].sum(), possible[distance == lag].sum()) for lag in range(n_folds)]
    correlation = np.clip([found / most if most > _TINY else 0.0 for found, most in pairs], 0.0, 1.0)
    by_cell = np.bincount(rows.cluster * n_cells + cell, weights=deviation, minlength=n_clusters * n_cells)
    by_cell = by_cell.reshape(n_clusters, n_cells)
    of_fold = np.repeat(np.arange(n_folds), n_groups)
    together = correlation[np.abs(np.subtract.outer(of_fold, of_fold))]
    return np.asarray(np.diag(own) + together * (by_cell.T @ by_cell - np.diag(own)))


def _covariance(matrix: FloatArray) -> FloatArray:
    """Return the nearest matrix that is a covariance: a mean correlation need not fit every pair."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    floor = 1e-6 * float(np.max(np.diag(matrix)))
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


@dataclasses.dataclass(frozen=True)
class Ahead:
    """What each group will be off by in a new fold: a mixture of normals over the standard deviations.

    Attributes
    ----------
    mean, sd : arrays of shape (n_mixture, n_groups)
    weight : array of shape (n_mixture,)
    spread : mapping of str to float
        Posterior means of the standard deviations, in log-odds: ``level``, ``slope`` and ``group`` (over one gap), and
        ``shape``.
    """

    mean: FloatArray
    sd: FloatArray
    weight: FloatArray
    spread: Mapping[str, float]

    @classmethod
    def of(cls, cells: Cells) -> Ahead:
        """Condition on what the folds behind were off by."""
        prior = (cells.scale * LEVEL_SCALE, cells.scale * SLOPE_SCALE, GROUP_SCALE, SHAPE_SCALE)
        scales = [
            scale * stdtrit(_TAIL, 0.5 + (np.arange(n) + 0.5) / (2 * n)) for scale, n in zip(prior, _NODES, strict=True)
        ]
        nodes = np.array(list(itertools.product(*scales)))
        # in parts, so that eight folds of ten groups need no more than some megabytes
        found = [given(cells, drift, part) for drift in cells.drift for part in np.split(nodes, _NODES[0])]
        mean, sd, likelihood = (np.concatenate(values) for values in zip(*found, strict=True))
        weight = np.exp(likelihood - likelihood.max())
        weight /= weight.sum()
        means = weight @ np.tile(nodes, (len(cells.drift), 1))
        spread = dict(zip(("level", "slope", "group", "shape"), np.round(means, _PLACES).tolist(), strict=True))
        return cls(mean, sd, weight, spread)

    def quantiles(self, levels: FloatArray) -> FloatArray:
        """Return quantiles of the mixture, shape (n_levels, n_groups), by bisection."""
        low = np.repeat((self.mean - 9 * self.sd).min(axis=0)[None, :], len(levels), axis=0)
        high = np.repeat((self.mean + 9 * self.sd).max(axis=0)[None, :], len(levels), axis=0)
        for _ in range(60):
            middle = (low + high) / 2
            below = np.einsum("m,mlg->lg", self.weight, ndtr((middle - self.mean[:, None]) / self.sd[:, None]))
            under = below < levels[:, None]
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return np.asarray(np.round((low + high) / 2, _PLACES))


def given(cells: Cells, drift: FloatArray, nodes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean and sd of each group in a new fold, and the log-likelihood, given standard deviations.

    Parameters
    ----------
    cells : Cells
    drift : array of shape (n_folds + 1, n_folds + 1)
        Of one timescale.
    nodes : array of shape (m, 4)
        Standard deviations of level, slope, groups and shape.

    Returns
    -------
    mean, sd : arrays of shape (m, n_groups)
    likelihood : array of shape (m,)
    """
    level, slope, group, shape = (nodes[:, place, None, None] ** 2 for place in range(4))
    z, new = cells.z[cells.group], len(drift) - 1
    together = drift[np.ix_(cells.fold, cells.fold)]
    onward = drift[new, cells.fold]
    same, of_group = np.equal.outer(cells.group, cells.group), np.equal.outer(np.arange(len(cells.z)), cells.group)
    covariance = cells.luck + together * (level + slope * np.outer(z, z) + group * same)
    covariance = covariance + shape * (cells.shape @ cells.shape.T)
    ahead = cells.luck_ahead + onward * (level + slope * np.outer(cells.z, z) + group * of_group)
    ahead = ahead + shape * (cells.shape_new @ cells.shape.T)
    root = np.linalg.cholesky(covariance)
    off = np.broadcast_to(cells.off[:, None], (len(nodes), len(cells.off), 1))
    white = np.linalg.solve(root, np.concatenate([off, np.swapaxes(ahead, 1, 2)], axis=2))
    told, reach = white[:, :, 0], white[:, :, 1:]
    mean = np.einsum("mc,mcg->mg", told, reach)
    prior = cells.luck_new + drift[new, new] * (level[:, :, 0] + slope[:, :, 0] * cells.z**2 + group[:, :, 0])
    prior = prior + shape[:, :, 0] * (cells.shape_new**2).sum(axis=1)
    sd = np.sqrt(np.maximum(prior - (reach**2).sum(axis=1), _TINY))
    determinant = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return mean, sd, -0.5 * (told**2).sum(axis=1) - determinant
