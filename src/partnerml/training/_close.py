"""The recipe of close: assigned pairs; trees, a logistic regression, and the shrunken rate of a partner's peers.

Rows have moments of their own, and the pairs of one lead go together: no lead is on both sides of a fold, and the
bootstrap draws leads. A horizon of half a year would leave calibration half a year behind: pairs that are not mature
are judged on too, each for those of its age that end as it did, or stay open.

Two things are tried on the backtest before it: whether pairs that are not mature help to learn from, each with the
chance that it has, and whether weights that undo past routing do. Either is used only if it is surely better.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.errors import NotEnoughDataError
from partnerml.features import RECORD, PairOutcomes, build_assigned, pair_outcomes
from partnerml.training._close_parts import Parts, decided, logged_weights
from partnerml.training._close_rates import Reference
from partnerml.training._columns import check_traits, select_columns
from partnerml.training._peers_only import PeersOnly
from partnerml.training._recipe import (
    MIN_FOLDS,
    MIN_MINORITY,
    Recipe,
    Simplest,
    Trainable,
    rarer,
)

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Fold
    from partnerml.tasks import Task

_logger = logging.getLogger("partnerml")

# More pairs cost time and tell a model of this size next to nothing: leads are drawn, all their pairs with them.
MAX_PAIRS = 60_000
# the fewest pairs whose outcome is known, and of each label among them, that the rates of peers are made of
LEAST_PAIRS, LEAST_OF_EACH = 20, 3
# On how many pairs a line of calibration is fitted: its middle has a standard error of .03 in log-odds by 5,000,
# of .017 by 15,000. On backtests lines of single origins lay no further apart than that, and lost as much.
CALIBRATION_PAIRS = 15_000
# How many months of pairs an origin is judged on: one for each so many days until outcomes are known. Every origin that
# is replayed needs the outcomes of an earlier one, and only so many origins are fitted.
_DAYS_OF_GAP_TO_A_MONTH, _MOST_MONTHS = 90, 3


def recipe(eco: Ecosystem, task: Task, *, until: dt.datetime, seed: int, origins: int) -> Trainable:
    """Build the pairs and say how a model of close is made; where they are too few for one, a model of rates.

    Raises
    ------
    NotEnoughDataError
        If there are too few outcomes even for rates.
    """
    outcomes = pair_outcomes(eco)
    chosen = _chosen(outcomes, task, until, seed)
    labels = outcomes.labels(task.label, until)["y"].to_numpy()
    _check_any(task, labels[chosen], until)
    gap = dt.timedelta(days=task.horizon_days) + outcomes.lag
    folds = _folds(outcomes, chosen, task=task, gap=gap)
    # a model must not depend on what its first origin could not know
    before = folds[0].cut.to_pydatetime() if folds else until
    catalogue = task.kind.catalogue(eco, task, before)
    data = build_assigned(eco, outcomes, catalogue=catalogue, label=task.label, until=until, rows=chosen)
    check_traits(data)
    columns, twins = select_columns(data.X[[name for name in catalogue.names if name != RECORD[0]]])
    parts = Parts.of(task, data, outcomes, columns, catalogue=catalogue, gap=gap, until=until, seed=seed)
    judging = _Judging.of(parts, folds, origins=origins)
    if len(judging.folds) < MIN_FOLDS:
        why = _why(data, judging.folds)
        return PeersOnly(task, catalogue, data, parts, twins, until, seed, why)
    reference = Reference(eco, parts, catalogue, until=until, seed=seed)
    parts, findings = decided(
        parts,
        judging.folds,
        judging.known,
        judged=(judging.y, judging.weight),
        estimated=lambda: reference.estimated,
    )
    return Recipe(
        task=task,
        catalogue=catalogue,
        data=dataclasses.replace(data, y=judging.y),
        columns=columns,
        twins=twins,
        gap=gap,
        until=until,
        seed=seed,
        folds=judging.folds,
        cluster="lead_id",
        known=judging.known,
        make=parts.learners,
        baselines=parts.baselines(),
        simplest=Simplest("peers", "the rate of a partner's peers and its record alone"),
        weights=judging.weight,
        known_weights=judging.known_weights,
        calibrated_on=CALIBRATION_PAIRS,
        ceiling=judging.ceiling,
        maturity=judging.maturity,
        documents=lambda model: {
            "peers": parts.peers().to_state(),
            "win_rates": reference.rates(model, logged_weights(parts) or reference.estimated),
        },
        # of the mature pairs: those that are judged early are weighted
        told={"base_rate": float(labels[chosen][~np.isnan(labels[chosen])].mean())},
        findings={**findings, "judged_after_days": judging.least_days},
    )


@dataclasses.dataclass(frozen=True)
class _Judging:
    """On which rows a model is judged and calibrated, by what was known when.

    Attributes
    ----------
    folds : tuple of Fold
    known, known_weights : mapping of Timestamp to Series of shape (n,)
        For the cut of each fold, labels and weights as they were known then.
    y, weight : Series of shape (n,)
        The same as known at `until`.
    least_days : float
        How long a pair that is not mature must have been followed to be judged on.
    maturity : timedelta
        The same with the lag.
    ceiling : float
        The share of pairs that are won or lost within the horizon: of the others none is won.
    """

    folds: tuple[Fold, ...]
    known: Mapping[pd.Timestamp, pd.Series]
    known_weights: Mapping[pd.Timestamp, pd.Series]
    y: pd.Series
    weight: pd.Series
    least_days: float
    maturity: dt.timedelta
    ceiling: float

    @classmethod
    def of(cls, parts: Parts, folds: tuple[Fold, ...], *, origins: int) -> _Judging:
        """Take the latest folds that have rows of both labels to judge on."""
        horizon = float(parts.task.horizon_days)
        # by what was known at the first origin: the days by which half of the wins, and of the rest, have come
        curves = parts.curves(folds[0].cut) if folds else None
        least = horizon if curves is None else curves.half_days()
        y, weight = parts.judged(pd.Timestamp(parts.until), least_days=least)
        told = y.notna().to_numpy()
        tested = (dataclasses.replace(fold, test=fold.test[told[fold.test]]) for fold in folds)
        kept = tuple(fold for fold in tested if rarer(y.iloc[fold.test]))[-origins:]
        found = {fold.cut: parts.judged(fold.cut, least_days=least) for fold in kept}
        return cls(
            folds=kept,
            known={cut: labels for cut, (labels, _) in found.items()},
            known_weights={cut: weights for cut, (_, weights) in found.items()},
            y=y,
            weight=weight,
            least_days=least,
            maturity=parts.gap - dt.timedelta(days=horizon - least),
            ceiling=1.0 if curves is None else curves.decided(),
        )


def _chosen(outcomes: PairOutcomes, task: Task, until: dt.datetime, seed: int) -> npt.NDArray[np.bool_]:
    """Mark the pairs to train on: not refused, not too old, and of at most so many leads as `MAX_PAIRS` allows."""
    chosen = outcomes.known(until)
    if task.train_from is not None:
        chosen &= (outcomes.pairs["assigned_at"] >= task.train_from.replace(tzinfo=None)).to_numpy()
    many = int(chosen.sum())
    if many <= MAX_PAIRS:
        return chosen
    leads = np.unique(outcomes.pairs["lead_id"][chosen].to_numpy(dtype=object))
    drawn = np.random.default_rng(seed).random(len(leads)) < MAX_PAIRS / many
    kept: npt.NDArray[np.bool_] = chosen & outcomes.pairs["lead_id"].isin(leads[drawn]).to_numpy()
    _logger.info("%s: %d of %d pairs are trained on, those of leads drawn at random", task.name, kept.sum(), many)
    return kept


def _check_any(task: Task, labels: npt.NDArray[np.float64], until: dt.datetime) -> None:
    told = labels[~np.isnan(labels)]
    won = int(told.sum())
    if len(told) < LEAST_PAIRS or min(won, len(told) - won) < LEAST_OF_EACH:
        raise NotEnoughDataError(
            f"{task.name} needs at least {LEAST_PAIRS} assigned pairs whose outcome is known, {LEAST_OF_EACH} of them "
            f"won and as many not, even for rates of peers; of {len(labels)} pairs known until {until:%Y-%m-%d}, "
            f"{len(told)} are mature and {won} of these were won. More history is needed, or a shorter horizon_days"
        )


def _why(data: Dataset, folds: tuple[Fold, ...]) -> str:
    labels = data.labels.dropna()
    return (
        f"too few outcomes for a model: {len(labels):,} pairs are mature and {int(labels.sum()):,} of them won, which "
        f"leaves {len(folds)} of the {MIN_FOLDS} origins that it would be judged at"
    )


def _folds(outcomes: PairOutcomes, chosen: npt.NDArray[np.bool_], *, task: Task, gap: dt.timedelta) -> tuple[Fold, ...]:
    """Return the origins that have enough mature rows of both labels before them.

    A lead that is to be judged on, in whole or in part, is not learnt from.
    """
    from partnerml.models import rolling_origin

    rows = outcomes.pairs[chosen].reset_index(drop=True)
    as_of = rows["assigned_at"].dt.tz_localize("UTC")
    lead, _ = pd.factorize(rows["lead_id"])  # ids are slow to look up
    folds = []
    for fold in rolling_origin(as_of, gap=pd.Timedelta(gap), periods=_periods(as_of, gap)):
        known = outcomes.labels(task.label, fold.cut.to_pydatetime())["y"].to_numpy()[chosen]
        train = fold.train[~np.isnan(known[fold.train]) & ~np.isin(lead[fold.train], lead[fold.test])]
        if rarer(known[train]) >= MIN_MINORITY:
            folds.append(dataclasses.replace(fold, train=train))
    return tuple(folds)


def _periods(as_of: pd.Series, gap: dt.timedelta) -> pd.Series:
    """Return the start of the period of each row: one to three calendar months, by how long outcomes take."""
    width = int(np.clip(round(gap.days / _DAYS_OF_GAP_TO_A_MONTH), 1, _MOST_MONTHS))
    naive = as_of.dt.tz_localize(None)
    number = naive.dt.year * 12 + naive.dt.month - 1
    first = number - number % width
    starts = pd.to_datetime(pd.DataFrame({"year": first // 12, "month": first % 12 + 1, "day": 1}))
    return starts.astype("datetime64[us]").dt.tz_localize("UTC")
