"""Rolling-origin backtest: what would have been predicted at each as-of, by models that knew nothing later.

At every cut the components are fitted on the rows whose labels had matured by then, and predict the rows of the cut: a
snapshot, or all rows of the month that it begins. How they are blended and calibrated is replayed too: at each cut only
from the cuts whose labels had matured by then, so that the choice is judged on rows that it has not seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from partnerml.errors import InputError
from partnerml.models._blend import SPREAD, blended, choose_weights
from partnerml.models._calibration import PlattCalibrator
from partnerml.models._crossfit import both_labels, cluster_groups

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
        The as-of of the rows that are predicted, or the start of their period.
    train, test : arrays of int
        Positions of the rows to fit on, and of those to predict.
    """

    cut: pd.Timestamp
    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]


def months(as_of: pd.Series) -> pd.Series:
    """Return the first of the month of each moment (UTC): the periods of rows that have moments of their own."""
    naive = as_of.dt.tz_convert("UTC").dt.tz_localize(None)
    return naive.dt.to_period("M").dt.start_time.astype("datetime64[us]").dt.tz_localize("UTC")


def rolling_origin(
    as_of: pd.Series, *, gap: pd.Timedelta, periods: pd.Series | None = None, at_most: int | None = None
) -> tuple[Fold, ...]:
    """Split rows by time: at each as-of, fit on what had matured, test on the snapshot.

    Parameters
    ----------
    as_of : Series of shape (n,)
        The moment of each row.
    gap : Timedelta
        From an as-of to the moment its labels are known (horizon and lag).
    periods : Series of shape (n,), optional
        The start of the period of each row, such as `months` returns, where rows have moments of their own: rows of a
        period are predicted together, by what had matured at its start. By default each as-of is its own period.
    at_most : int, optional
        Keep only that many folds, the latest.

    Returns
    -------
    tuple of Fold
        In order of time; as-ofs with nothing to fit on are left out.
    """
    folds = []
    starts = as_of if periods is None else periods
    for cut in sorted(starts.unique()):
        train = np.flatnonzero((as_of + gap <= cut).to_numpy())
        if len(train):
            folds.append(Fold(pd.Timestamp(cut), train, np.flatnonzero((starts == cut).to_numpy())))
    return tuple(folds[-at_most:] if at_most else folds)


def embargoed(folds: Iterable[Fold], as_of: pd.Series, *, gap: pd.Timedelta, embargo: pd.Timedelta) -> tuple[Fold, ...]:
    """Leave out the training rows next to the test rows: what lasts beyond the gap is not carried over.

    Parameters
    ----------
    folds : iterable of Fold
    as_of : Series of shape (n,)
        The moment of each row.
    gap : Timedelta
        From an as-of to the moment its labels are known.
    embargo : Timedelta
        Rows are fitted on if ``as_of + gap + embargo <= cut``; where a task fits on rows whose label is not known yet,
        as what they are, if ``as_of + embargo <= cut``.

    Returns
    -------
    tuple of Fold
        Those that have something left to fit on.
    """
    kept = []
    for fold in folds:
        moments = as_of.iloc[fold.train]
        reach = gap if (moments + gap <= fold.cut).all() else pd.Timedelta(0)
        train = fold.train[(moments + reach + embargo <= fold.cut).to_numpy()]
        if len(train):
            kept.append(dataclasses.replace(fold, train=train))
    return tuple(kept)


def by_groups(folds: Iterable[Fold], owner: pd.Series, *, n_groups: int, seed: int = 0) -> tuple[Fold, ...]:
    """Split each fold so that nobody is predicted by a model that was fitted on rows of its own.

    It tells how a model does on partners that it has never seen, which is less than it knows of partners that come
    again. The same partner lies in the same group in every fold. What chooses weights and calibrates, two or three
    numbers, is still shared by all groups.

    Parameters
    ----------
    folds : iterable of Fold
    owner : Series of shape (n,)
        The partner of each row.
    n_groups : int
        How many groups: each partner is left out of 1 in so many fits. At least 2, and no more than there are partners.
    seed : int
        Deals partners into groups, in the order of their ids.

    Returns
    -------
    tuple of Fold
        Up to `n_groups` for each fold, of the same cut; together they predict each of its rows once.
    """
    known = owner.nunique(dropna=False)
    if not 2 <= n_groups <= known:
        raise InputError(
            f"groups must be at least 2 and at most one a partner, {known}; got {n_groups} (evaluation.by_groups)"
        )
    group = cluster_groups(owner, n_groups=n_groups, seed=seed)
    parts = []
    for fold in folds:
        for number in range(n_groups):
            train, test = fold.train[group[fold.train] != number], fold.test[group[fold.test] == number]
            if len(train) and len(test):
                parts.append(Fold(fold.cut, train, test))
    return tuple(parts)


@dataclasses.dataclass(frozen=True)
class Backtest:
    """Out-of-time predictions of every component and baseline, row by row.

    Attributes
    ----------
    rows : array of int, shape (n,)
        Position of each predicted row in the dataset.
    cut : Series of shape (n,)
        Its cut: its as-of, or the start of its period.
    as_of : Series of shape (n,)
        Its moment.
    y : array of shape (n,)
        Its label.
    cluster : array of shape (n,)
        Its cluster in the bootstrap, such as its partner.
    log_odds : DataFrame of shape (n, n_components)
        What the components of the model said.
    baselines : DataFrame of shape (n, n_baselines)
        What the baselines said, as log-odds.
    gap : Timedelta
        From a row's moment until its label is known.
    known : mapping of Timestamp to array of shape (n,)
        For each cut the labels as they were known then; NaN where they were not mature.
    weights : array of shape (n,) or None
        Weights of the rows where they are judged; None: all alike.
    known_weights : mapping of Timestamp to array of shape (n,), or None
        For each cut the weights of the labels that were known then.
    spread : float
        How far the weights of the components may lie apart; see `choose_weights`.
    calibrated_on : int
        On how many rows at least a line of calibration is fitted, where there are so many.
    ceiling : float
        Above which no chance can be; see `PlattCalibrator`.
    """

    rows: npt.NDArray[np.intp]
    cut: pd.Series
    as_of: pd.Series
    y: npt.NDArray[np.float64]
    cluster: npt.NDArray[Any]
    log_odds: pd.DataFrame
    baselines: pd.DataFrame
    gap: pd.Timedelta
    known: Mapping[pd.Timestamp, npt.NDArray[np.float64]]
    weights: npt.NDArray[np.float64] | None = None
    known_weights: Mapping[pd.Timestamp, npt.NDArray[np.float64]] | None = None
    spread: float = SPREAD
    calibrated_on: int = CALIBRATION_ROWS
    ceiling: float = 1.0

    @property
    def cuts(self) -> list[pd.Timestamp]:
        """The as-ofs, in order."""
        return [pd.Timestamp(cut) for cut in sorted(self.cut.unique())]

    def at(self, cuts: Iterable[pd.Timestamp]) -> npt.NDArray[np.bool_]:
        """Mark the rows of some cuts."""
        return self.cut.isin(list(cuts)).to_numpy()

    def known_at(self, moment: pd.Timestamp) -> list[pd.Timestamp]:
        """Return the cuts all of whose labels are known at a moment."""
        last = self.as_of.groupby(self.cut.to_numpy()).max()
        return [cut for cut in self.cuts if last[cut] + self.gap <= moment]

    def calibration_rows(
        self, cuts: list[pd.Timestamp], y: npt.NDArray[np.float64], *, at_least: int | None = None
    ) -> npt.NDArray[np.bool_]:
        """Mark the labelled rows of the latest of some cuts, and of as many before it as hold `at_least` rows.

        By default as many as a calibration needs.
        """
        enough = self.calibrated_on if at_least is None else at_least
        chosen: list[pd.Timestamp] = []
        for cut in reversed(cuts):
            chosen.append(cut)
            labels = y[self.at(chosen) & ~np.isnan(y)]
            if len(labels) >= enough and min(labels.sum(), (1 - labels).sum()) >= CALIBRATION_MINORITY:
                break
        return self.at(chosen) & ~np.isnan(y)


def backtest(
    X: pd.DataFrame,
    y: pd.Series,
    cluster: pd.Series,
    *,
    as_of: pd.Series,
    folds: Iterable[Fold],
    gap: pd.Timedelta,
    learners: Mapping[str, Learner],
    baselines: Mapping[str, Learner],
    labels_at: Callable[[pd.Timestamp], pd.Series] | None = None,
    weights: pd.Series | None = None,
    weights_at: Callable[[pd.Timestamp], pd.Series] | None = None,
    spread: float = SPREAD,
    calibrated_on: int = CALIBRATION_ROWS,
    ceiling: float = 1.0,
) -> Backtest:
    """Fit and predict every fold.

    Parameters
    ----------
    X : DataFrame of shape (n, p)
    y : Series of shape (n,)
        Mature labels, 0 or 1.
    cluster : Series of shape (n,)
        What the bootstrap draws, such as the partner of each row.
    as_of : Series of shape (n,)
        The moment of each row.
    folds : iterable of Fold
    gap : Timedelta
        From an as-of to the moment its labels are known.
    learners, baselines : mapping of str to Learner
        By name.
    labels_at : callable, optional
        Returns the labels of all rows, shape (n,), as they were known at a cut: outcomes may be recorded late. By
        default what is known now.
    weights : Series of shape (n,), optional
        Weights of the rows where they are judged.
    weights_at : callable, optional
        Returns the weights of the labels that were known at a cut, shape (n,).
    spread : float
        How far the weights of the components may lie apart; see `choose_weights`.
    calibrated_on : int
        On how many rows at least a line of calibration is fitted, where there are so many.
    ceiling : float
        Above which no chance can be; see `PlattCalibrator`.
    """
    known: dict[pd.Timestamp, pd.Series] = {}
    said: list[pd.DataFrame] = []
    rows: list[npt.NDArray[np.intp]] = []
    cuts: list[pd.Series] = []
    for fold in folds:
        if fold.cut not in known:
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
        as_of=as_of.iloc[positions].reset_index(drop=True),
        y=y.to_numpy(dtype=np.float64)[positions],
        cluster=cluster.to_numpy()[positions],
        log_odds=table[list(learners)],
        baselines=table[list(baselines)],
        gap=gap,
        known={cut: labels.to_numpy(dtype=np.float64)[positions] for cut, labels in known.items()},
        weights=None if weights is None else weights.to_numpy(dtype=np.float64)[positions],
        known_weights=None
        if weights_at is None
        else {cut: weights_at(cut).to_numpy(dtype=np.float64)[positions] for cut in known},
        spread=spread,
        calibrated_on=calibrated_on,
        ceiling=ceiling,
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


def choose(
    backtest: Backtest,
    cuts: list[pd.Timestamp],
    y: npt.NDArray[np.float64],
    row_weights: npt.NDArray[np.float64] | None = None,
) -> Choice:
    """Choose weights on the latest `WEIGHT_CUTS` of some cuts, and calibrate on the very latest that have enough rows.

    Which component is best drifts as histories grow, and base rates drift faster: the line is fitted where it is
    freshest, on as many cuts as hold the rows that it needs, while weights need more rows than one cut has.
    """
    counts = np.ones(len(y)) if row_weights is None else row_weights
    latest = backtest.calibration_rows(cuts, y)
    # weights do not follow what a line is asked to be fitted on
    fewest = backtest.calibration_rows(cuts, y, at_least=CALIBRATION_ROWS)
    seen = (backtest.at(cuts[-WEIGHT_CUTS:]) & ~np.isnan(y)) | fewest
    components = backtest.log_odds
    log_odds = {str(name): column.to_numpy()[seen] for name, column in components.items()}
    weights = choose_weights(log_odds, y[seen], counts[seen], spread=backtest.spread)
    uncalibrated = Choice(weights, PlattCalibrator())
    said = uncalibrated.log_odds(components[latest])
    line = PlattCalibrator.fit(said, y[latest], counts[latest], ceiling=backtest.ceiling)
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
        if not known or not both_labels(y[backtest.at(known)]):
            continue
        counts = np.ones(len(y)) if backtest.known_weights is None else backtest.known_weights[cut]
        now, latest = backtest.at([cut]) & ~np.isnan(backtest.y), backtest.calibration_rows(known, y)
        said = {"model": choose(backtest, known, y, counts).log_odds(backtest.log_odds[now])}
        for name, column in alone.items():
            raw = column.to_numpy()
            line = PlattCalibrator.fit(raw[latest], y[latest], counts[latest], ceiling=backtest.ceiling)
            said[str(name)] = line.apply(raw[now])
        judged |= now
        parts.append(pd.DataFrame(said, index=np.flatnonzero(now)))
    if not parts:
        judged = ~np.isnan(backtest.y)
        parts.append(alone.assign(model=backtest.log_odds.mean(axis=1))[judged])
    log_odds = pd.concat(parts).sort_index()
    return judged, pd.DataFrame(expit(log_odds.to_numpy()), index=log_odds.index, columns=log_odds.columns)
