"""Rolling-origin backtest: what would have been predicted at each as-of, by models that knew nothing later.

At every cut the components are fitted on the rows whose labels had matured by then, and predict the snapshot of the
cut. How they are blended and calibrated is replayed too: at each cut only from the cuts whose labels had matured by
then, so that the choice is judged on rows that it has not seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from partnerml.models._blend import blended, choose_weights
from partnerml.models._calibration import PlattCalibrator

# Fewer rows, or fewer of the rarer label, leave a calibration line too loose: earlier cuts are added until it holds.
CALIBRATION_ROWS = 300
CALIBRATION_MINORITY = 30
# On Olist's backtest a replay with the latest three lost less than one with all (log loss .4084 and .4087).
WEIGHT_CUTS = 3


class Scorer(Protocol):
    """Something fitted that gives log-odds."""

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return log-odds of shape (n,)."""


# fits a scorer on rows and labels whose outcome was known at the cut
Learner = Callable[[pd.DataFrame, pd.Series, pd.Timestamp], Scorer]


@dataclasses.dataclass(frozen=True)
class BaseRate:
    """The forecaster without features: the share of positives in training."""

    log_odds: float

    @classmethod
    def learn(cls, X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> BaseRate:
        """Take the share of positives; a label that is all one value is kept one row away from certainty."""
        n = len(y)
        return cls(float(logit(np.clip(y.mean(), 1 / (n + 1), n / (n + 1)))))

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the same log-odds for every row, shape (n,)."""
        return np.full(len(X), self.log_odds)


@dataclasses.dataclass(frozen=True)
class Fold:
    """One origin of the backtest.

    Attributes
    ----------
    cut : Timestamp
        The as-of of the rows that are predicted.
    train, test : arrays of int
        Positions of the rows to fit on, and of those to predict.
    """

    cut: pd.Timestamp
    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]


def rolling_origin(as_of: pd.Series, *, gap: pd.Timedelta, at_most: int | None = None) -> tuple[Fold, ...]:
    """Split rows by time: at each as-of, fit on what had matured, test on the snapshot.

    Parameters
    ----------
    as_of : Series of shape (n,)
        The moment of each row.
    gap : Timedelta
        From an as-of to the moment its labels are known (horizon and lag).
    at_most : int, optional
        Keep only that many folds, the latest.

    Returns
    -------
    tuple of Fold
        In order of time; as-ofs with nothing to fit on are left out.
    """
    folds = []
    for cut in sorted(as_of.unique()):
        train = np.flatnonzero((as_of + gap <= cut).to_numpy())
        if len(train):
            folds.append(Fold(pd.Timestamp(cut), train, np.flatnonzero((as_of == cut).to_numpy())))
    return tuple(folds[-at_most:] if at_most else folds)


@dataclasses.dataclass(frozen=True)
class Backtest:
    """Out-of-time predictions of every component and baseline, row by row.

    Attributes
    ----------
    rows : array of int, shape (n,)
        Position of each predicted row in the dataset.
    cut : Series of shape (n,)
        Its as-of.
    y : array of shape (n,)
        Its label.
    partner : array of shape (n,)
        Its partner: the cluster of the bootstrap.
    log_odds : DataFrame of shape (n, n_components)
        What the components of the model said.
    baselines : DataFrame of shape (n, n_baselines)
        What the baselines said, as log-odds.
    gap : Timedelta
    known : mapping of Timestamp to array of shape (n,)
        For each cut the labels as they were known then; NaN where they were not mature.
    """

    rows: npt.NDArray[np.intp]
    cut: pd.Series
    y: npt.NDArray[np.float64]
    partner: npt.NDArray[Any]
    log_odds: pd.DataFrame
    baselines: pd.DataFrame
    gap: pd.Timedelta
    known: Mapping[pd.Timestamp, npt.NDArray[np.float64]]

    @property
    def cuts(self) -> list[pd.Timestamp]:
        """The as-ofs, in order."""
        return [pd.Timestamp(cut) for cut in sorted(self.cut.unique())]

    def at(self, cuts: Iterable[pd.Timestamp]) -> npt.NDArray[np.bool_]:
        """Mark the rows of some cuts."""
        return self.cut.isin(list(cuts)).to_numpy()

    def known_at(self, moment: pd.Timestamp) -> list[pd.Timestamp]:
        """Return the cuts whose labels are known at a moment."""
        return [cut for cut in self.cuts if cut + self.gap <= moment]

    def calibration_rows(self, cuts: list[pd.Timestamp], y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Mark the latest of some cuts, and as many before it as a calibration needs by the labels y."""
        chosen: list[pd.Timestamp] = []
        for cut in reversed(cuts):
            chosen.append(cut)
            labels = y[self.at(chosen)]
            if len(labels) >= CALIBRATION_ROWS and min(labels.sum(), (1 - labels).sum()) >= CALIBRATION_MINORITY:
                break
        return self.at(chosen)


def backtest(
    X: pd.DataFrame,
    y: pd.Series,
    partner: pd.Series,
    *,
    folds: Iterable[Fold],
    gap: pd.Timedelta,
    learners: Mapping[str, Learner],
    baselines: Mapping[str, Learner],
    labels_at: Callable[[pd.Timestamp], pd.Series] | None = None,
) -> Backtest:
    """Fit and predict every fold.

    Parameters
    ----------
    X : DataFrame of shape (n, p)
    y : Series of shape (n,)
        Mature labels, 0 or 1.
    partner : Series of shape (n,)
    folds : iterable of Fold
    gap : Timedelta
        From an as-of to the moment its labels are known.
    learners, baselines : mapping of str to Learner
        By name.
    labels_at : callable, optional
        Returns the labels of all rows, shape (n,), as they were known at a cut: outcomes may be recorded late. By
        default what is known now.
    """
    known: dict[pd.Timestamp, pd.Series] = {}
    said: list[pd.DataFrame] = []
    rows: list[npt.NDArray[np.intp]] = []
    cuts: list[pd.Series] = []
    for fold in folds:
        known[fold.cut] = y if labels_at is None else labels_at(fold.cut)
        seen, asked = X.iloc[fold.train], X.iloc[fold.test]
        labels = known[fold.cut].iloc[fold.train]
        fitted = {name: learn(seen, labels, fold.cut) for name, learn in {**learners, **baselines}.items()}
        said.append(pd.DataFrame({name: scorer.decision_function(asked) for name, scorer in fitted.items()}))
        rows.append(fold.test)
        cuts.append(pd.Series(fold.cut, index=range(len(fold.test))))
    table = pd.concat(said, ignore_index=True)
    positions = np.concatenate(rows)
    return Backtest(
        rows=positions,
        cut=pd.concat(cuts, ignore_index=True),
        y=y.to_numpy(dtype=np.float64)[positions],
        partner=partner.to_numpy()[positions],
        log_odds=table[list(learners)],
        baselines=table[list(baselines)],
        gap=gap,
        known={cut: labels.to_numpy(dtype=np.float64)[positions] for cut, labels in known.items()},
    )


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the components are put together.

    Attributes
    ----------
    weights : mapping of str to float
        Of the components, in log-odds.
    calibration : PlattCalibrator
    """

    weights: Mapping[str, float]
    calibration: PlattCalibrator

    @classmethod
    def equal(cls, names: list[str]) -> Choice:
        """Return the choice of who knows nothing: equal weights, no calibration."""
        return cls(dict.fromkeys(names, 1.0 / len(names)), PlattCalibrator())

    def log_odds(self, components: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Blend the components and calibrate."""
        return self.calibration.apply(
            blended({name: components[name].to_numpy() for name in self.weights}, self.weights)
        )


def choose(backtest: Backtest, cuts: list[pd.Timestamp], y: npt.NDArray[np.float64]) -> Choice:
    """Choose weights on the latest `WEIGHT_CUTS` of some cuts, and calibrate on the very latest.

    Which component is best drifts as histories grow, and base rates drift faster: the line is fitted where it is
    freshest, while weights need more rows than one cut has.
    """
    latest = backtest.calibration_rows(cuts, y)
    seen = backtest.at(cuts[-WEIGHT_CUTS:]) | latest
    components = backtest.log_odds
    weights = choose_weights({str(name): column.to_numpy()[seen] for name, column in components.items()}, y[seen])
    uncalibrated = Choice(weights, PlattCalibrator())
    line = PlattCalibrator.fit(uncalibrated.log_odds(components[latest]), y[latest])
    return Choice(weights, line)


def replay(backtest: Backtest) -> tuple[npt.NDArray[np.bool_], pd.DataFrame]:
    """Predict each cut as it would have been predicted then: blend and calibration from labels known at the cut.

    Returns
    -------
    judged : array of bool, shape (n,)
        Rows of the cuts at which a choice could be made. With a history too short for any, all rows, by an equal
        blend without calibration.
    probabilities : DataFrame of shape (n_judged, 1 + n_components + n_baselines)
        Of ``model``, and of each component and baseline alone, all calibrated on the same rows.
    """
    parts: list[pd.DataFrame] = []
    judged = np.zeros(len(backtest.y), dtype=bool)
    alone = pd.concat([backtest.log_odds, backtest.baselines], axis=1)
    for cut in backtest.cuts:
        known = backtest.known_at(cut)
        y = backtest.known[cut]
        if not known or not _both_labels(y[backtest.at(known)]):
            continue
        now, latest = backtest.at([cut]), backtest.calibration_rows(known, y)
        said = {"model": choose(backtest, known, y).log_odds(backtest.log_odds[now])}
        for name, column in alone.items():
            line = PlattCalibrator.fit(column.to_numpy()[latest], y[latest])
            said[str(name)] = line.apply(column.to_numpy()[now])
        judged |= now
        parts.append(pd.DataFrame(said, index=np.flatnonzero(now)))
    if not parts:
        judged[:] = True
        parts.append(alone.assign(model=backtest.log_odds.mean(axis=1)))
    log_odds = pd.concat(parts).sort_index()
    return judged, pd.DataFrame(expit(log_odds.to_numpy()), index=log_odds.index, columns=log_odds.columns)


def _both_labels(labels: npt.NDArray[np.float64]) -> bool:
    return bool(0 < labels.sum() < len(labels))
