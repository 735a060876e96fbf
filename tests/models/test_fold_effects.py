"""The algebra of being off, by brute force: every source a column of its own, every pair of rows by itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from partnerml.models import _fold_effects as inner

GAP = pd.Timedelta(days=60)
DAYS = np.array([0, 30, 60, 90])
GROUPS, N = 3, 240


def made_up_rows(seed=0):
    """Rows of four folds thirty days apart, three groups by score, and clusters that come again."""
    generator = np.random.default_rng(seed)
    group = np.arange(N) % GROUPS
    p = expit(np.array([-1.5, -0.2, 0.9])[group] + 0.2 * generator.normal(size=N))
    fold, cluster = generator.integers(0, 4, size=N), generator.integers(0, 40, size=N)
    y = (generator.random(N) < p).astype(float)
    moments = pd.DatetimeIndex(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(DAYS, unit="D"))
    return inner.Rows(y, p, generator.uniform(0.5, 2, size=N), fold, group, cluster, moments)


def moved(rows):
    """The rows with predictions moved by what their group is off by over all folds, and that."""
    p, means = rows.p.copy(), np.zeros(GROUPS)
    for g in range(GROUPS):
        inside = rows.group == g
        weight, z = rows.weight[inside], np.log(rows.p[inside] / (1 - rows.p[inside]))
        share = ((weight * rows.y[inside]).sum() + 0.5) / (weight.sum() + 1)
        means[g] = brentq(lambda a, w=weight, z=z, s=share: np.average(expit(z + a), weights=w) - s, -9, 9)
        p[inside] = expit(z + means[g])
    return dataclasses.replace(rows, p=p), means


def luck_by_hand(rows):
    """Covariance of what cells are off by, and what they are off by, row by row and pair by pair."""
    deviation, residual = rows.weight * np.sqrt(rows.p * (1 - rows.p)), rows.weight * (rows.y - rows.p)
    pairs = [(i, j) for i in range(N) for j in range(N) if i != j and rows.cluster[i] == rows.cluster[j]]
    correlation = []
    for lag in range(4):
        at_lag = [(i, j) for i, j in pairs if abs(rows.fold[i] - rows.fold[j]) == lag]
        ratio = sum(residual[i] * residual[j] for i, j in at_lag) / sum(deviation[i] * deviation[j] for i, j in at_lag)
        correlation.append(np.clip(ratio, 0, 1))
    cell = rows.fold * GROUPS + rows.group
    sums = np.zeros((4 * GROUPS, 4 * GROUPS))
    for i in range(N):
        sums[cell[i], cell[i]] += deviation[i] ** 2
    for i, j in pairs:
        sums[cell[i], cell[j]] += correlation[abs(rows.fold[i] - rows.fold[j])] * deviation[i] * deviation[j]
    information = np.array([(rows.weight * rows.p * (1 - rows.p))[cell == c].sum() for c in range(4 * GROUPS)])
    off = np.array([residual[cell == c].sum() for c in range(4 * GROUPS)]) / information
    return off, sums / np.outer(information, information), information


def by_hand(rows, timescale, sds, *, calibrated):
    """Mean and variance of the new fold, and the likelihood of the others, from one large normal."""
    close, means = moved(rows)
    off, luck, information = luck_by_hand(close)
    off = off + np.tile(means, 4)
    z = np.array(
        [
            np.average(np.log(rows.p / (1 - rows.p))[rows.group == g], weights=_information(close, g))
            for g in range(GROUPS)
        ]
    )
    z -= np.average(np.log(rows.p / (1 - rows.p)), weights=close.weight * close.p * (1 - close.p))
    times = [0.0, 0.5, 1.0, 1.5, 2.5]  # in gaps, the new fold last
    sources = [None, None, 0, 1, 3]
    moments = [*times, -1.0, -0.5]  # and when the first two were calibrated
    # latent: luck of the 12 cells, and of two folds that are not at hand; S, G and B of 3 groups at 7 moments; omega
    n_latent = 12 + 6 + 14 + 21 + 3
    variance = np.zeros((n_latent, n_latent))
    variance[:12, :12] = luck
    for k in (0, 1):
        variance[12 + 3 * k : 15 + 3 * k, 12 + 3 * k : 15 + 3 * k] = luck[3 * k : 3 * k + 3, 3 * k : 3 * k + 3]
    lag = np.sqrt(3) * np.abs(np.subtract.outer(moments, moments)) / timescale
    kernel = (1 + lag) * np.exp(-lag)
    one_gap = 2 * (1 - (1 + np.sqrt(3) / timescale) * np.exp(-np.sqrt(3) / timescale)) if calibrated else 1.0
    variance[18:25, 18:25] = sds[0] ** 2 / one_gap * kernel
    variance[25:32, 25:32] = sds[1] ** 2 / one_gap * kernel
    for g in range(GROUPS):
        variance[32 + 7 * g : 39 + 7 * g, 32 + 7 * g : 39 + 7 * g] = sds[2] ** 2 / one_gap * kernel
    variance[53:, 53:] = sds[3] ** 2 * np.eye(3)
    design = np.zeros((15, n_latent))
    for k in range(5):
        source = sources[k]
        at = source if source is not None else 4 + 1 + k
        weight = information[3 * (k if source is None else source) :][:3]
        line = np.column_stack([np.ones(3), z])
        fit = line @ np.linalg.inv(line.T @ np.diag(weight) @ line + np.diag([0, 100.0])) @ line.T @ np.diag(weight)
        for g in range(GROUPS):
            row = design[3 * k + g]
            if k < 4:
                row[3 * k + g] += 1
            row[18 + k] += 1
            row[25 + k] += z[g]
            row[32 + 7 * g + k] += 1
            row[53 + g] += 1
            if calibrated:
                start = 12 + 3 * k if source is None else 3 * source
                row[start : start + 3] -= fit[g]
                row[18 + at] -= 1
                row[25 + at] -= z[g]
                row[32 + 7 * g + at] -= 1
                row[53:] -= fit[g]
    joint = design @ variance @ design.T
    behind, ahead = joint[:12, :12], joint[12:, :12]
    gain = ahead @ np.linalg.inv(behind)
    likelihood = -0.5 * (off @ np.linalg.solve(behind, off) + np.linalg.slogdet(behind)[1])
    return gain @ off, np.diag(joint[12:, 12:] - gain @ ahead.T), likelihood


def _information(rows, g):
    return (rows.weight * rows.p * (1 - rows.p))[rows.group == g]


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("place", [0, 2])
def test_what_is_ahead_is_the_conditional_of_one_large_normal(calibrated, place):
    rows = made_up_rows()
    cells = inner.Cells.of(rows, gap=GAP, calibrated=calibrated)
    sds = (0.3, 0.2, 0.1, 0.15)
    (mean,), (sd,), (likelihood,) = inner.given(cells, cells.drift[place], np.array([sds]))
    expected = by_hand(rows, inner._TIMESCALES[place], sds, calibrated=calibrated)
    assert mean == pytest.approx(expected[0], rel=1e-6)
    assert sd**2 == pytest.approx(expected[1], rel=1e-6)
    assert likelihood == pytest.approx(expected[2], rel=1e-6)


def test_the_latest_fold_whose_labels_were_known_calibrates():
    assert inner.calibrated_on(np.array([0.0, 0.5, 1.0, 1.5])) == [None, None, 0, 1, 3]
    assert inner.calibrated_on(np.array([0.0, 0.3, 2.0])) == [None, None, 1, 2]


def test_a_level_that_came_up_is_likely_to_come_down_and_a_trend_to_go_on():
    times = np.arange(6) / 3
    short, _, long = (inner._drift(times, timescale, calibrated=True) for timescale in inner._TIMESCALES)
    assert short[-1, -2] < -0.2
    assert long[-1, -2] > 0.2
    for drift in (short, long):
        assert drift == pytest.approx(drift.T)
        assert np.diag(drift) == pytest.approx(np.ones(7))
        assert np.linalg.eigvalsh(drift).min() > -1e-9


def test_quantiles_are_those_of_the_mixture():
    generator = np.random.default_rng(2)
    mean, sd, weight = generator.normal(size=(5, 3)), generator.uniform(0.2, 1, size=(5, 3)), np.arange(1, 6) / 15
    found = inner.Ahead(mean, sd, weight, {}).quantiles(np.array([0.05, 0.95]))
    chosen = generator.choice(5, size=200_000, p=weight)
    drawn = mean[chosen] + sd[chosen] * generator.normal(size=(200_000, 3))
    assert found == pytest.approx(np.quantile(drawn, [0.05, 0.95], axis=0), abs=0.03)


def test_standard_deviations_are_learnt_from_the_folds():
    rows = made_up_rows()
    calm = inner.Ahead.of(inner.Cells.of(rows, gap=GAP, calibrated=True)).spread
    logit = np.log(rows.p / (1 - rows.p)) + np.array([1.5, -1.5, 1.5, -1.5])[rows.fold]
    moved = inner.Rows(rows.y, expit(logit), rows.weight, rows.fold, rows.group, rows.cluster, rows.moments)
    stormy = inner.Ahead.of(inner.Cells.of(moved, gap=GAP, calibrated=True)).spread
    assert stormy["level"] > 1.5 * calm["level"]
