"""How likely each partner is the best one, where it is not known for sure how good they are."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, ndtr

from partnerml.pairs._arrays import Floats

# Beyond eight deviations lie 6e-16 of a normal distribution.
_REACH = 8.0
_COARSE = np.linspace(-_REACH, _REACH, 65)
# evenly, and more closely in the tails
_QUANTILES = np.concatenate([np.linspace(0, 1, 81), ndtr(np.linspace(-5, 5, 48))])
_NARROWEST = 1e-6  # deviation in log-odds of a partner that is known for sure
_NEARLY_NOTHING = 1e-300
_CERTAIN = 1e-12


def chances_of_best(p: Floats, spread: Floats, *, value: Floats | float = 1.0, price: Floats | float = 0.0) -> Floats:
    """Return for each partner the probability that its utility is the highest of all.

    The log-odds of partner i are normal around ``logit(p_i)`` with deviation ``spread_i``, independently of each other,
    and its utility is ``u_i = value_i p_i - price_i``. With F_i the distribution of u_i, the probability is

        P(i is best) = integral of  prod_{j != i} F_j(x)  dF_i(x).

    The integral is a sum over cells: the growth of F_i in a cell times the mean of the product at its two ends. Cells
    are cut along the highest of the partners' quantiles, below which the maximum hardly ever lies, and then again so
    that each holds at most about a hundredth of the maximum's distribution. The sum is then scaled to be 1.

    Parameters
    ----------
    p : array of shape (m,)
        Means, in (0, 1).
    spread : array of shape (m,)
        Deviations in log-odds; 0 = known for sure.
    value, price : float or array of shape (m,)
        What a win is worth (not negative), and what is taken off.

    Returns
    -------
    array of shape (m,)
        Sums to 1.

    References
    ----------
    Thompson (1933), On the likelihood that one unknown probability exceeds another in view of the evidence of two
    samples. A draw from these probabilities is Thompson sampling.
    """
    m = len(p)
    mean = logit(np.clip(p, _CERTAIN, 1 - _CERTAIN))
    deviation = np.maximum(spread, _NARROWEST)
    worth = np.broadcast_to(np.asarray(value, dtype=np.float64), m)
    taken = np.broadcast_to(np.asarray(price, dtype=np.float64), m)
    # a win that is worth nothing leaves the price alone, which is known for sure
    worth = np.maximum(worth, _NARROWEST * (max(float(worth.max()), float(np.abs(taken).max())) or 1.0))
    of_each = worth * expit(mean + np.multiply.outer(_COARSE, deviation)) - taken
    coarse = of_each.max(axis=1)
    rows = np.flatnonzero(of_each[-1] >= coarse[0])  # the others never come near the best
    if len(rows) == 1:
        return np.bincount(rows, minlength=m).astype(np.float64)

    differ = np.ptp(worth[rows]) > 0 or np.ptp(taken[rows]) > 0
    kinds = rows if differ else rows[:1]  # mostly there are no prices, and one lead has one value

    def below(x: Floats) -> Floats:
        won = np.clip((x[:, None] + taken[kinds]) / worth[kinds], 0.0, 1.0)
        return np.asarray(ndtr((logit(won) - mean[rows]) / deviation[rows]))

    points = np.sort(np.interp(_QUANTILES, below(coarse).prod(axis=1), coarse))
    chances = np.zeros(m)
    chances[rows] = _integrated(below(points))
    total: float = chances.sum()
    return chances / total


def _integrated(below: Floats) -> Floats:
    """Return the integrals from all F_i at rising points, shape (points, m)."""
    logs = np.log(np.maximum(below, _NEARLY_NOTHING))
    others = np.exp(logs.sum(axis=1, keepdims=True) - logs)
    means = (others[1:] + others[:-1]) / 2
    integrals: Floats = (np.diff(below, axis=0) * means).sum(axis=0)
    return integrals
