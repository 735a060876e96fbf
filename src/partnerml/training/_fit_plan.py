"""At which origins a model of fit is judged, and on success within how many days."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.training._recipe import MIN_FOLDS, MIN_MINORITY, days_followed

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.models import Fold

# Partners that succeeded, and partners that were followed to the horizon, before anything is learnt: a ridge on traits
# stands on few rows, and Kaplan and Meier's curve, which it falls back to, on fewer.
MIN_SUCCESSES = 20
MIN_FOLLOWED = 20
# of the rarer outcome among the rows that a model is judged on, where there are no more
MIN_JUDGED = 10


@dataclasses.dataclass(frozen=True)
class Plan:
    """At which origins a model of fit is judged, and on success within how many days.

    Attributes
    ----------
    days : int
    folds : tuple of Fold
    replayed : bool
        Whether the outcomes of some fold are known before a later one, so that components can be weighed and
        calibrated on it.
    """

    days: int
    folds: tuple[Fold, ...]
    replayed: bool


def plan_of(data: Dataset, until: dt.datetime, lag: dt.timedelta, *, success_days: int, at_most: int) -> Plan | None:
    """Return the origins for the longest horizon, at most `success_days`, that can be judged out of time.

    A model needs partners that were followed to the horizon before an origin, and others that were followed to it
    after the origin, to be judged on: a history of twice the horizon.
    """
    from partnerml.models import success_grid

    span = days_followed(data, until, lag)
    # where too few were followed to the horizon, those that were followed for half of it help to judge
    for least_followed, least_judged in ((1.0, MIN_MINORITY), (0.5, MIN_JUDGED)):
        for days in map(int, reversed(success_grid(success_days))):
            asked = span > least_followed * days
            folds = tuple(_folds(data, lag, asked, days=days, at_most=at_most))
            if len(folds) >= MIN_FOLDS and _judged(data, folds, days, span) >= least_judged:
                return Plan(days, folds, _is_replayed(data, folds, days, lag))
    return None


def _folds(
    data: Dataset, lag: dt.timedelta, asked: npt.NDArray[np.bool_], *, days: int, at_most: int
) -> Iterator[Fold]:
    """Yield origins at firsts of months; each is judged on who is asked for and joined from there to the next."""
    from partnerml.models import Fold, months

    times = data.known_times
    month = months(data.as_of)
    happened = data.as_of + pd.to_timedelta(times["duration_days"], unit="D")
    cuts = [
        cut
        for cut in sorted(month[asked].unique())
        if (days_followed(data, cut, lag) > days).sum() >= MIN_FOLLOWED
        and (times["observed"] & (happened < cut - pd.Timedelta(lag))).sum() >= MIN_SUCCESSES
    ]
    for starts in _windows(cuts, at_most):
        train = np.flatnonzero((data.as_of < starts[0]).to_numpy())
        yield Fold(pd.Timestamp(starts[0]), train, np.flatnonzero(month.isin(starts).to_numpy() & asked))


def _windows(cuts: Sequence[pd.Timestamp], at_most: int) -> list[list[pd.Timestamp]]:
    """Split months into at most so many runs of about equal length."""
    if not cuts:
        return []
    parts = np.array_split(np.arange(len(cuts)), min(at_most, len(cuts)))
    return [[cuts[j] for j in part] for part in parts]


def _judged(data: Dataset, folds: Sequence[Fold], days: int, span: npt.NDArray[np.float64]) -> int:
    """Return how many rows of the rarer outcome there are to judge on: success in time, or none though followed."""
    rows = np.concatenate([fold.test for fold in folds])
    times = data.known_times
    succeeded = times["observed"].to_numpy()[rows] & (times["duration_days"].to_numpy()[rows] <= days)
    without = ~succeeded & (span[rows] > days)
    return min(int(succeeded.sum()), int(without.sum()))


def _is_replayed(data: Dataset, folds: Sequence[Fold], days: int, lag: dt.timedelta) -> bool:
    known = data.as_of.iloc[folds[0].test].max() + pd.Timedelta(days=days) + pd.Timedelta(lag)
    return bool(known < folds[-1].cut)
