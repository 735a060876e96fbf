"""Does a group succeed more often than another by a certain day, where not everybody could be followed that long.

Success by day D is read off Kaplan and Meier's curve of each group. How sure that is depends on how many were followed:
a group of n partners, some censored, is worth an *effective number* of partners that were all followed to day D (Dorey
and Korn 1987, "Effective sample sizes for confidence intervals for survival probabilities"). It is the number whose
binomial variance is that of the group's curve if both groups had the curve of all. Without censoring it is n.

With it, everything is the well-known calculation for two shares: Wilson's interval for a rate, Walter's for a ratio
(1975, "The distribution of Levin's measure of attributable risk"; half an event is added, so that a group without
success has an interval too), and the pooled z-test for the difference.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from partnerml.models._binary import Array

LEVEL = 0.95
_Z = float(ndtri((1 + LEVEL) / 2))


@dataclasses.dataclass(frozen=True)
class Counts:
    """Who could succeed and who did, at each moment at which anybody of the whole did.

    Attributes
    ----------
    at_risk, events : array of shape (n_moments,)
        Members that had not succeeded before the moment and were followed to it, and those that succeeded at it.
    """

    at_risk: Array
    events: Array

    def __add__(self, other: Counts) -> Counts:
        """Both groups together; they share no member."""
        return Counts(self.at_risk + other.at_risk, self.events + other.events)

    def __sub__(self, other: Counts) -> Counts:
        """Return this group without a part of it."""
        return Counts(self.at_risk - other.at_risk, self.events - other.events)

    @property
    def successes(self) -> int:
        """How many were seen to succeed."""
        return int(self.events.sum())

    def curve(self) -> Array:
        """Return Kaplan and Meier's share without success after each moment, shape (n_moments,)."""
        stays = 1.0 - self.events / np.maximum(self.at_risk, 1.0)
        return np.asarray(np.cumprod(stays), dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Times to success in whole days, ready to be counted for any group.

    Attributes
    ----------
    code : array of int of shape (n,)
        Twice the day of each row, and one more where it succeeded. A day that has begun counts as a whole one; who was
        followed beyond the horizon has the day after it.
    moments : array of int of shape (n_moments,)
        The days, up to the horizon, at which anybody succeeded.
    horizon : int
        Days.
    """

    code: NDArray[np.int64]
    moments: NDArray[np.intp]
    horizon: int

    @classmethod
    def of(cls, duration: Array, observed: NDArray[np.bool_], *, horizon: int) -> Self:
        """Count days; successes after the horizon do not count."""
        day = np.minimum(np.ceil(duration), horizon + 1.0).astype(np.int64)
        success = observed & (day <= horizon)
        return cls(2 * day + success, np.unique(day[success]), horizon)

    def counts(self, chosen: NDArray[np.bool_] | None = None) -> Counts:
        """Count a group; `chosen` is a mask over the rows, None for all.

        Who is censored at the day of a success was still at risk of it.
        """
        code = self.code if chosen is None else self.code[chosen]
        tally = np.bincount(code, minlength=2 * self.horizon + 4).reshape(-1, 2)
        left = np.cumsum(tally.sum(axis=1))
        at_risk = len(code) - np.where(self.moments > 0, left[self.moments - 1], 0)
        return Counts(at_risk.astype(np.float64), tally[self.moments, 1].astype(np.float64))


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Success of a group beside that of another.

    Attributes
    ----------
    rate, low, high : float
        Share of the group that succeeds by the horizon, with its 95 % interval.
    rest_rate : float
        The same share of the other group.
    lift, lift_low, lift_high : float
        ``rate / rest_rate``, with its 95 % interval; infinite where nobody of the others succeeded.
    p_value : float
        Two-sided, of the difference.
    effective, rest_effective : float
        How many partners, all followed to the horizon, each group is worth; 0 where nobody was followed far enough.
    """

    rate: float
    low: float
    high: float
    rest_rate: float
    lift: float
    lift_low: float
    lift_high: float
    p_value: float
    effective: float
    rest_effective: float

    def told(self, at_least: float) -> bool:
        """Whether both groups were followed enough to say anything."""
        return min(self.effective, self.rest_effective) >= at_least


def contrast(group: Counts, rest: Counts) -> Contrast:
    """Compare success by the horizon of two groups without a common member.

    Parameters
    ----------
    group, rest : Counts
        Of the same moments.

    Returns
    -------
    Contrast
        Where one of the groups was not followed to the last success of the other, or nobody (or everybody) of both
        succeeded, its effective number is 0, its interval says nothing and the p-value is 1.
    """
    pooled = (group + rest).curve()
    both = 1.0 - float(pooled[-1]) if len(pooled) else 0.0
    curves = group.curve(), rest.curve()
    rate, rest_rate = (1.0 - float(curve[-1]) if len(curve) else 0.0 for curve in curves)
    worth = [effective(counts, curve, pooled) for counts, curve in zip((group, rest), curves, strict=True)]
    low, high = wilson(rate, worth[0])
    p_value = 1.0
    if min(worth) > 0:
        z = (rate - rest_rate) / np.sqrt(both * (1.0 - both) * (1.0 / worth[0] + 1.0 / worth[1]))
        p_value = float(2.0 * ndtr(-abs(z)))
    lift = rate / rest_rate if rest_rate > 0 else float("inf")
    lift_low, lift_high = _ratio_interval(rate, worth[0], rest_rate, worth[1])
    return Contrast(
        rate, low, high, rest_rate, lift, min(lift_low, lift), max(lift_high, lift), p_value, worth[0], worth[1]
    )


def effective(counts: Counts, curve: Array, pooled: Array) -> float:
    """Return how many partners that were all followed to the horizon a group is worth.

    At a moment t the number that had been followed so far, whether they had succeeded or not, is ``at_risk / S(t-)``
    (Kaplan and Meier's curves of success and of censoring multiply to the share at risk). With it, the variance that
    Greenwood's formula would give the group, had it the curve of both groups, does not depend on what happened in it.
    """
    if not len(pooled) or not 0.0 < pooled[-1] < 1.0:
        return 0.0
    before = np.concatenate([[1.0], curve[:-1]])
    alive = before > 0
    followed = np.where(alive, counts.at_risk / np.where(alive, before, 1.0), np.inf)
    # where all had succeeded nobody can be lost any more: the number stays what it was
    followed = np.minimum.accumulate(followed)
    if followed[-1] <= 0:
        return 0.0
    steps = np.diff(1.0 / pooled, prepend=1.0)
    return float((1.0 - pooled[-1]) / (pooled[-1] * np.sum(steps / followed)))


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of n (1927, "Probable inference"); all of [0, 1] for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    square = _Z**2 / n
    middle = (rate + square / 2) / (1 + square)
    half = np.sqrt(rate * (1 - rate) * square + square**2 / 4) / (1 + square)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _ratio_interval(rate: float, n: float, other: float, m: float) -> tuple[float, float]:
    if min(n, m) <= 0:
        return 0.0, float("inf")
    ours, theirs = rate * n + 0.5, other * m + 0.5
    middle = np.log(ours / (n + 0.5)) - np.log(theirs / (m + 0.5))
    # a share of 1 leaves no variance to a group, and both of 1 none at all
    spread = _Z * np.sqrt(max(1 / ours - 1 / (n + 0.5) + 1 / theirs - 1 / (m + 0.5), 0.0))
    return float(np.exp(middle - spread)), float(np.exp(middle + spread))


def direction(group: Counts, whole: Counts, *, at_least: float) -> tuple[float, float] | None:
    """Return successes seen in a group and those expected if all had the same curve, as a log-rank test counts them.

    Unlike a rate at the horizon, it can be told of groups that were followed for a part of the way.

    Parameters
    ----------
    group, whole : Counts
        The group, and all that it is a part of.
    at_least : float
        None is returned where fewer successes are expected, in the group or outside of it.
    """
    expected = float(np.sum(whole.events * group.at_risk / np.maximum(whole.at_risk, 1.0)))
    if expected < at_least or whole.successes - expected < at_least:
        return None
    return float(group.successes), expected
