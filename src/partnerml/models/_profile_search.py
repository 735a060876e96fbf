"""Finds the ideal partner profile: which traits, and which two together, go with success, and how sure that is.

Each trait splits the partners in two, and success by `success_days` of those that have it is set beside that of all
others, with censoring respected (`_group_survival`). Many splits are looked at, and some look good by luck: p-values
are corrected for their number (Benjamini and Hochberg 1995, "Controlling the false discovery rate"), within single
traits and within combinations. And what holds once should hold again: the direction is checked in periods of joining.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partnerml.dataset import FeatureInfo
from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models._binary import Array
from partnerml.models._conditions import Condition, Mask, conditions
from partnerml.models._group_survival import Contrast, Counts, Timeline, contrast, direction, effective, wilson
from partnerml.models._profile import Lift, Period, Profile

FALSE_DISCOVERIES = 0.05
AT_LEAST = 30  # partners on either side of a split
PERIODS = 4
MAX_COMBINATIONS = 2000  # those of the most partners
FOLLOWED = 10.0  # effective partners on either side, below which nothing is told
EXPECTED = 2.0  # successes on either side, below which a period has no say


def ideal_profile(
    X: pd.DataFrame,
    times: pd.DataFrame,
    joined: pd.Series,
    *,
    success_days: int,
    dictionary: Sequence[FeatureInfo],
    at_least: int = AT_LEAST,
    periods: int = PERIODS,
    false_discoveries: float = FALSE_DISCOVERIES,
) -> Profile:
    """Find the traits, and the combinations of two, that go with more success or with less.

    Parameters
    ----------
    X : DataFrame of shape (n, p)
        Traits at joining, one row a partner.
    times : DataFrame of shape (n, 2)
        ``duration_days`` from joining to the first success or to the end of what was seen, and ``observed``.
    joined : Series of shape (n,)
        When each partner joined.
    success_days : int
        By when a success counts.
    dictionary : sequence of FeatureInfo
        What each column means.
    at_least : int
        Partners on either side of a split; for a combination also of each part without the other.
    periods : int
        Into how many periods of joining, of about as many partners each, the rows are divided to see what holds again.
    false_discoveries : float
        The share of false discoveries that is accepted, among single traits and among combinations.

    Returns
    -------
    Profile

    Raises
    ------
    NotEnoughDataError
        If there are too few partners, nobody was followed to success_days, or nobody (or everybody) succeeded.

    Notes
    -----
    A combination is found only if it adds to its parts: partners with both traits succeed more often (or less often)
    than the others, than those with the first alone and than those with the second alone. Its p-value is the largest
    of the three, which needs no correction for their number (Berger 1982, "Multiparameter hypothesis testing and
    acceptance sampling").
    """
    if not 0 < false_discoveries < 1:
        raise ConfigError(f"false_discoveries must lie between 0 and 1, got {false_discoveries}")
    search = _Search.of(X, times, joined, success_days=success_days, at_least=at_least, periods=periods)
    known, masks = conditions(X, dictionary, at_least=at_least)
    singles = [search.split((condition,), mask) for condition, mask in zip(known, masks, strict=True)]
    pairs = _candidates(known, masks, at_least=at_least)
    tested = _told([search.combination(singles[a], singles[b], masks[a], masks[b]) for a, b in pairs])
    rate, low, high = search.overall()
    return Profile(
        success_days=success_days,
        partners=len(X),
        successes=search.whole.successes,
        rate=rate,
        low=low,
        high=high,
        traits=search.lifts(_told(singles), X),
        combinations=search.lifts(tested, X, at_most=false_discoveries),
        tested=len(tested),
        false_discoveries=false_discoveries,
    )


@dataclasses.dataclass(frozen=True)
class _Split:
    """A group, how it compares with all others, and the p-value that it is judged by."""

    conditions: tuple[Condition, ...]
    counts: Counts
    contrast: Contrast
    p_value: float
    followed: bool
    alone: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Search:
    """The rows of a search for splits, sorted once: all of them, and those of each period of joining."""

    timeline: Timeline
    whole: Counts
    periods: tuple[tuple[str, str, Mask, Timeline, Counts], ...]

    @classmethod
    def of(
        cls, X: pd.DataFrame, times: pd.DataFrame, joined: pd.Series, *, success_days: int, at_least: int, periods: int
    ) -> _Search:
        duration = times["duration_days"].to_numpy(dtype=np.float64)
        observed = times["observed"].to_numpy(dtype=bool)
        _check(X, duration, observed, joined, success_days=success_days, at_least=at_least)
        timeline = Timeline.of(duration, observed, horizon=success_days)
        moments = pd.to_datetime(joined, utc=True).reset_index(drop=True)
        # who joined at the same moment stays together
        number = ((moments.rank(method="min") - 1) * periods // len(X)).astype(int).to_numpy()
        found = []
        for k in np.unique(number):
            inside = number == k
            days = moments[inside]
            span = f"{days.min():%Y-%m-%d}", f"{days.max():%Y-%m-%d}"
            part = Timeline.of(duration[inside], observed[inside], horizon=success_days)
            found.append((*span, inside, part, part.counts()))
        return cls(timeline, timeline.counts(), tuple(found))

    def overall(self) -> tuple[float, float, float]:
        """Return the share of all that succeeds, with its interval."""
        curve = self.whole.curve()
        rate = 1.0 - float(curve[-1])
        low, high = wilson(rate, effective(self.whole, curve, curve))
        return rate, low, high

    def split(self, of: tuple[Condition, ...], mask: Mask) -> _Split:
        """Compare a group with all others."""
        counts = self.timeline.counts(mask)
        found = contrast(counts, self.whole - counts)
        return _Split(of, counts, found, found.p_value, found.told(FOLLOWED))

    def combination(self, first: _Split, second: _Split, one: Mask, other: Mask) -> _Split:
        """Compare those that fulfil both with all others, and with those that fulfil one of the two alone."""
        both = self.split((*first.conditions, *second.conditions), one & other)
        alone = [contrast(both.counts, part.counts - both.counts) for part in (first, second)]
        found = (both.contrast, *alone)
        one_way = len({np.sign(each.rate - each.rest_rate) for each in found}) == 1
        return dataclasses.replace(
            both,
            # each of the three has to hold, so the largest counts
            p_value=max(each.p_value for each in found) if one_way else 1.0,
            followed=all(each.told(FOLLOWED) for each in found),
            alone=tuple(each.rest_rate for each in alone),
        )

    def lifts(self, splits: Sequence[_Split], X: pd.DataFrame, *, at_most: float = 1.0) -> tuple[Lift, ...]:
        """Tell the splits whose corrected p-value is at most so much, surest first."""
        told = [
            self._lift(split, q_value, np.all([condition.holds(X) for condition in split.conditions], axis=0))
            for split, q_value in zip(splits, corrected([split.p_value for split in splits]), strict=True)
            if q_value <= at_most
        ]
        return tuple(sorted(told, key=lambda lift: (lift.q_value, lift.contrast.p_value, lift.words)))

    def _lift(self, split: _Split, q_value: float, mask: Mask) -> Lift:
        return Lift(
            conditions=split.conditions,
            partners=int(mask.sum()),
            successes=split.counts.successes,
            share=float(mask.mean()),
            contrast=dataclasses.replace(split.contrast, p_value=split.p_value),
            q_value=q_value,
            periods=tuple(self._in_periods(mask)),
            alone=split.alone,
        )

    def _in_periods(self, mask: Mask) -> Iterator[Period]:
        for start, end, inside, timeline, whole in self.periods:
            seen = direction(timeline.counts(mask[inside]), whole, at_least=EXPECTED)
            yield Period(start, end, None if seen is None else _ratio(*seen, whole.successes))


def _ratio(seen: float, expected: float, total: int) -> float:
    """Return how often a group succeeded relative to the others, each by successes seen over those expected."""
    others = (total - seen) / (total - expected)
    # where none of the others succeeded, the group did no worse than this
    return seen / expected / others if others > 0 else seen / expected


def _told(splits: Sequence[_Split]) -> list[_Split]:
    """Return the splits that were followed enough: how they came out plays no part."""
    return [split for split in splits if split.followed]


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return the q-value of each p-value, by Benjamini and Hochberg."""
    p = np.asarray(p_values, dtype=np.float64)
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    raised = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return [float(value) for value in q]


def _candidates(known: Sequence[Condition], masks: NDArray[np.bool_], *, at_least: int) -> list[tuple[int, int]]:
    """Return the pairs of conditions on two columns that leave enough partners everywhere, the largest first."""
    # whole numbers below 2^24 are exact in float32
    sizes = masks.astype(np.float32) @ masks.astype(np.float32).T
    total = np.diag(sizes)
    pairs = [
        (-int(sizes[a, b]), a, b)
        for a in range(len(known))
        for b in range(a + 1, len(known))
        if known[a].feature != known[b].feature
        and sizes[a, b] >= at_least
        and min(total[a], total[b]) - sizes[a, b] >= at_least
    ]
    return [(a, b) for _, a, b in sorted(pairs)[:MAX_COMBINATIONS]]


def _check(
    X: pd.DataFrame,
    duration: Array,
    observed: NDArray[np.bool_],
    joined: pd.Series,
    *,
    success_days: int,
    at_least: int,
) -> None:
    if not len(X) == len(duration) == len(joined):
        raise ModelError(f"X, times and joined must have as many rows; got {len(X)}, {len(duration)} and {len(joined)}")
    wrong = ~(duration >= 0) | joined.isna().to_numpy()
    if wrong.any():
        raise ModelError(
            f"a profile needs a duration of 0 days or more and a moment of joining in every row; {int(wrong.sum())} of "
            f"{len(X)} rows lack one, the first at position {int(np.argmax(wrong))}: leave them out"
        )
    if len(X) < 2 * at_least:
        raise NotEnoughDataError(
            f"a profile needs {2 * at_least} partners, {at_least} on either side of a split; there are {len(X)}"
        )
    if not (duration >= success_days).any() and not observed.all():
        raise NotEnoughDataError(
            f"no partner has been followed for success_days ({success_days}) yet; the longest was followed for "
            f"{duration.max():.0f} days. Lower success_days, or wait"
        )
    succeeded = int((observed & (duration <= success_days)).sum())
    if succeeded in (0, len(X)):
        nobody = "nobody" if succeeded == 0 else "everybody"
        raise NotEnoughDataError(f"{nobody} of {len(X)} partners succeeded within {success_days} days: no trait tells")
