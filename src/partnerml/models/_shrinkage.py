"""Rates of groups of peers, each drawn toward the wider group that holds it: what is known of who has no history.

A partner without a record has the rate of its peers, and with it a spread: partners of one group differ, and by how
much they do is estimated from those that have records. As its own record grows, the rate moves toward it and the
spread shrinks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, expit, logit

from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.models._binary import Array, Columns, State

# precisions that are tried: how many rows a prior weighs as much as
_GRID: Array = np.exp(np.linspace(np.log(1.0), np.log(4096.0), 121))
# few groups say little of how much groups differ: a log-normal prior over the precision, wide, around a usual value
_USUAL, _WIDTH = 20.0, 1.5
# slope of the own record, and shift: Gaussian priors around "as it stands"
_SLOPE_SD, _SHIFT_SD = 0.5, 1.0
_STEPS = 50
Indices = NDArray[np.intp]


@dataclasses.dataclass(frozen=True)
class Groups:
    """Nested groups: everybody, those that share the first code, those that share the first two, and so on.

    At each level the combinations that training saw come first, and after them one group for each group of the level
    above: for those of its members whose combination is new.

    Attributes
    ----------
    levels : tuple of array
        For each number of codes the distinct combinations of training, in order, shape (groups, codes); -1 is a
        missing value.
    parents : tuple of array of int
        For each level below everybody, the place of the group above of each of its groups.
    """

    levels: tuple[Array, ...]
    parents: tuple[Indices, ...]

    @classmethod
    def learn(cls, codes: Array) -> Self:
        """Take the combinations of codes of shape (n, depth)."""
        known = np.nan_to_num(codes, nan=-1.0)
        return cls.of([np.unique(known[:, : depth + 1], axis=0) for depth in range(codes.shape[1])])

    @classmethod
    def of(cls, levels: Sequence[Array]) -> Self:
        """Take the combinations of each level."""
        parents: list[Indices] = []
        for depth, level in enumerate(levels):
            above = cls(tuple(levels[:depth]), tuple(parents)).members(level[:, :depth])[-1]
            size = 1 if depth == 0 else len(parents[-1])
            parents.append(np.concatenate([above, np.arange(size)]).astype(np.intp))
        return cls(tuple(levels), tuple(parents))

    def members(self, codes: Array) -> list[Indices]:
        """Return for each level, everybody first, the group of each row."""
        # 0 is a missing value
        known = np.nan_to_num(codes, nan=-1.0).astype(np.intp) + 1
        found = [np.zeros(len(codes), dtype=np.intp)]
        for depth, (level, parent) in enumerate(zip(self.levels, self.parents, strict=True)):
            own = level[:, depth].astype(np.intp) + 1
            size = max(int(own.max()), int(known[:, depth].max(initial=0))) + 1
            # groups are in order, so that the group above and the last code together are, too
            keys, wanted = parent[: len(level)] * size + own, found[-1] * size + known[:, depth]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found.append(np.where(keys[place] == wanted, place, len(level) + found[-1]))
        return found

    def rates(self, members: Sequence[Indices], ones: Array, rows: Array) -> tuple[list[Array], list[float]]:
        """Return the rates of all groups, each drawn toward that of the group above it, and how strongly.

        Parameters
        ----------
        members : sequence of array of int, each of shape (n,)
            From `members`.
        ones, rows : array of shape (n,)
            How many cases of label 1 each entry stands for, and how many cases in all.

        Returns
        -------
        rates : list of array
            For each level, everybody first.
        precision : list of float
            For each level below everybody, how many cases the rate of the group above weighs as much as.
        """
        # Jeffreys' prior for everybody: finite where all labels are the same
        rates = [np.array([(ones.sum() + 0.5) / (rows.sum() + 1.0)])]
        precision: list[float] = []
        for parent, member in zip(self.parents, members[1:], strict=True):
            s, n = (_sums(member, part, len(parent)) for part in (ones, rows))
            prior = rates[-1][parent]
            weight = precision_of(s, n, prior)
            rates.append((s + weight * prior) / (n + weight))
            precision.append(weight)
        return rates, precision


class PeerRate:
    """P(label 1) of the group of peers of a row, shrunken, moved by the record of the row's own partner.

    Groups are nested: everybody, those that share the first column, those that share the first two, and so on. The
    rate of a group is the mean of its beta posterior under a prior at the rate of the group above it, and how much that
    prior weighs is estimated from how much the groups differ (empirical Bayes, by the marginal beta-binomial
    likelihood). The record of a partner, `won` of `closed`, moves the log-odds by how far its own shrunken share of
    wins lies from that of its group.

    It is a component of a blend like others, and what there is where the data do not carry a model.

    Parameters
    ----------
    groups : sequence of str
        Text columns that make peers, from the general to the particular; may be empty.
    won, closed : str or None
        Columns that hold how many of its earlier cases the partner won, and how many were decided; None if unknown.

    Attributes
    ----------
    rates_ : list of array
        For each level, from everybody down, the rate of each of its groups.
    precision_ : list of float
        For each level below everybody, how many rows the rate of the group above weighs as much as.
    between_ : float
        Of the partners of a group: their rates have the variance ``p (1 - p) / (between_ + 1)``.
    slope_, shift_ : float
        How far the own record counts, and what its use adds to all log-odds.
    feature_names_in_ : array of str

    References
    ----------
    Efron and Morris (1975), Data analysis using Stein's estimator and its generalizations. Casella (1985), An
    introduction to empirical Bayes data analysis.
    """

    def __init__(self, groups: Sequence[str] = (), *, won: str | None = None, closed: str | None = None) -> None:
        self.groups = tuple(groups)
        self.won, self.closed = won, closed
        if (won is None) != (closed is None):
            raise ConfigError("a record of peers needs both columns, won and closed, or neither")

    @property
    def _names(self) -> list[str]:
        return [*self.groups, *(name for name in (self.won, self.closed) if name is not None)]

    def fit(
        self, X: pd.DataFrame, y: ArrayLike, *, partner: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Estimate the rates of all groups, and how much groups and partners differ.

        Parameters
        ----------
        X : DataFrame of shape (n, p)
            Holds the columns of `groups`, `won` and `closed`.
        y : array-like of shape (n,)
            0 or 1; they may all be the same.
        partner : array-like of shape (n,), optional
            Whose row it is. Without it every row is a partner of its own.
        sample_weight : array-like of shape (n,), optional

        Raises
        ------
        NotEnoughDataError
            If there are no rows.
        """
        target = np.asarray(y, dtype=np.float64)
        if not len(target):
            raise NotEnoughDataError("the rate of peers needs at least one row whose outcome is known; there is none")
        weight = np.ones_like(target) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        who = np.arange(len(target)) if partner is None else pd.factorize(np.asarray(partner), sort=True)[0]
        self.columns_ = Columns.learn(X[self._names])
        self.feature_names_in_ = np.array(self._names, dtype=object)
        codes = self._codes(X)
        self.groups_ = Groups.learn(codes)
        members = self.groups_.members(codes)
        self.rates_, self.precision_ = self.groups_.rates(members, weight * target, weight)
        self.counts_ = _sums(members[-1], weight, len(self.rates_[-1]))
        self.between_ = _between(who, weight * target, weight, self.rates_[-1][members[-1]])
        self._learn_record(X, target, weight, who, members)
        return self

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Return the log-odds, shape (n,)."""
        return np.asarray(self.contributions(X).sum(axis=1))

    def contributions(self, X: pd.DataFrame) -> Array:
        """Return what each column adds to the log-odds, shape (n, p + 1), the base last; rows sum to the log-odds.

        A column of `groups` adds what its group lies above the group before it; the record adds its whole effect
        under `won`, and `closed` adds 0.
        """
        return self._effects(X, self.groups_.members(self._codes(X)))

    def predict_proba(self, X: pd.DataFrame) -> Array:
        """Return P(label 1), shape (n,)."""
        return np.asarray(expit(self.decision_function(X)))

    def deviation(self, X: pd.DataFrame) -> Array:
        """Return the posterior standard deviation of each row's rate, shape (n,).

        What is not known of the rate of the group, and of how the partner differs from its group. For a partner
        without a record the latter is how much partners of a group differ; with n decided cases it is down to
        ``(m + 1) / (m + n + 1)`` of that variance, m the precision of the record's prior.
        """
        members = self.groups_.members(self._codes(X))
        p = expit(self._effects(X, members).sum(axis=1))
        below = self.counts_[members[-1]] + (self.precision_[-1] if self.precision_ else 0.0)
        left = np.ones(len(X))
        if self.closed is not None:
            prior = self.record_between_ + 1.0
            left = prior / (prior + _numbers(X[self.closed]))
        return np.asarray(np.sqrt(p * (1 - p) * (1 / (below + 1.0) + left / (self.between_ + 1.0))))

    def peers(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return of each row's group of peers its ``rate`` and how many ``rows`` of training it had."""
        group = self.groups_.members(self._codes(X))[-1]
        return pd.DataFrame({"rate": self.rates_[-1][group], "rows": self.counts_[group]}, index=X.index)

    def to_state(self) -> State:
        """Return plain values for JSON."""
        return {
            "groups": list(self.groups),
            "won": self.won,
            "closed": self.closed,
            "columns": self.columns_.to_state(),
            "levels": [level.tolist() for level in self.groups_.levels],
            "rates": [rates.tolist() for rates in self.rates_],
            "counts": self.counts_.tolist(),
            "precision": self.precision_,
            "between": self.between_,
            "records": self.records_.tolist(),
            "record_between": self.record_between_,
            "slope": self.slope_,
            "shift": self.shift_,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`."""
        model = cls(tuple(state["groups"]), won=state["won"], closed=state["closed"])
        model.columns_ = Columns.from_state(state["columns"])
        model.feature_names_in_ = np.array(model._names, dtype=object)
        levels = [np.asarray(level, dtype=np.float64) for level in state["levels"]]
        model.groups_ = Groups.of([level.reshape(-1, depth) for depth, level in enumerate(levels, start=1)])
        model.rates_ = [np.asarray(rates, dtype=np.float64) for rates in state["rates"]]
        model.counts_ = np.asarray(state["counts"], dtype=np.float64)
        model.precision_ = [float(value) for value in state["precision"]]
        model.between_ = float(state["between"])
        model.records_ = np.asarray(state["records"], dtype=np.float64)
        model.record_between_ = float(state["record_between"])
        model.slope_, model.shift_ = float(state["slope"]), float(state["shift"])
        return model

    def _codes(self, X: pd.DataFrame) -> Array:
        """Return the values of the columns of `groups` as numbers, shape (n, len(groups))."""
        return self.columns_.encode(X)[:, : len(self.groups)]

    def _effects(self, X: pd.DataFrame, members: list[Indices]) -> Array:
        at = np.column_stack([logit(rates[m]) for rates, m in zip(self.rates_, members, strict=True)])
        effects = np.zeros((len(X), len(self._names) + 1))
        effects[:, : len(self.groups)] = np.diff(at, axis=1)
        effects[:, -1] = at[:, 0] + self.shift_
        if self.won is not None:
            effects[:, len(self.groups)] = self.slope_ * self._record(X, members)
        return effects

    def _learn_record(
        self, X: pd.DataFrame, target: Array, weight: Array, who: Indices, members: list[Indices]
    ) -> None:
        """Estimate the usual record of each group, and how far records tell the label."""
        self.records_, self.record_between_ = np.full(len(self.rates_[-1]), 0.5), _USUAL
        self.slope_, self.shift_ = 1.0, 0.0
        if self.won is None or self.closed is None:
            return
        won, closed = _numbers(X[self.won]), _numbers(X[self.closed])
        # the fullest record of each partner; of equal ones the last
        order = np.lexsort((closed, who))
        last = order[np.append(np.diff(who[order]) != 0, True)]
        self.records_ = self.groups_.rates([m[last] for m in members], won[last], closed[last])[0][-1]
        self.record_between_ = precision_of(won[last], closed[last], self.records_[members[-1][last]])
        offset = logit(self.rates_[-1][members[-1]])
        self.slope_, self.shift_ = _slope(offset, self._record(X, members), target, weight)

    def _record(self, X: pd.DataFrame, members: list[Indices]) -> Array:
        """Return how far each row's shrunken share of wins lies from that of its group, in log-odds."""
        assert self.won is not None, "asked for only where there are records"
        assert self.closed is not None, "asked for only where there are records"
        usual, m = self.records_[members[-1]], self.record_between_
        own = (m * usual + _numbers(X[self.won])) / (m + _numbers(X[self.closed]))
        return np.asarray(logit(own) - logit(usual))


def _numbers(column: pd.Series) -> Array:
    """Return counts; what is not known is no record."""
    return np.nan_to_num(column.to_numpy(dtype=np.float64, na_value=np.nan), nan=0.0)


def _sums(member: Indices, values: Array, size: int) -> Array:
    """Return the sum of values for each group."""
    return np.asarray(np.bincount(member, weights=values, minlength=size), dtype=np.float64)


def precision_of(ones: Array, rows: Array, prior: Array) -> float:
    """Return how many cases a prior weighs as much as, from how far groups lie around theirs.

    The mode of the posterior of the precision m of ``Beta(m prior, m (1 - prior))``, from the beta-binomial likelihood
    of `ones` of `rows` in each group, under a wide log-normal prior. Groups of one case or none do not tell.
    """
    told = rows > 1.0
    s, n, p = ones[told], rows[told], prior[told]
    a, b = (np.multiply.outer(_GRID, part) for part in (p, 1 - p))
    likelihood = (betaln(a + s, b + n - s) - betaln(a, b)).sum(axis=1)
    believed = likelihood - 0.5 * ((np.log(_GRID) - np.log(_USUAL)) / _WIDTH) ** 2
    return float(_GRID[int(np.argmax(believed))])


def _between(who: Indices, ones: Array, rows: Array, rate: Array) -> float:
    """Return the precision of the rates of partners around those of their groups.

    A partner whose traits changed has rows in several groups; it counts around their mean.
    """
    s, n, expected = (_sums(who, part, int(who.max()) + 1) for part in (ones, rows, rows * rate))
    there = n > 0
    return precision_of(s[there], n[there], expected[there] / n[there])


def _slope(offset: Array, record: Array, target: Array, weight: Array) -> tuple[float, float]:
    """Return the slope of the record, at least 0, and the shift that fit the labels best, by Newton's method."""
    design = np.column_stack([record, np.ones_like(record)])
    centre, tight = np.array([1.0, 0.0]), 1.0 / np.array([_SLOPE_SD, _SHIFT_SD]) ** 2
    theta = centre.copy()
    for _ in range(_STEPS):
        p = expit(offset + (design * theta).sum(axis=1))
        slope = (design * (weight * (target - p))[:, None]).sum(axis=0) - tight * (theta - centre)
        curve = weight * p * (1 - p)
        (aa, ab), bb = ((curve * record * record).sum(), (curve * record).sum()), curve.sum()
        step = np.linalg.solve(np.array([[aa, ab], [ab, bb]]) + np.diag(tight), slope)
        theta = theta + step
        if np.abs(step).max() < 1e-10:
            break
    if theta[0] < 0.0:
        # the best slope of those allowed is 0, and its shift is not that of a slope below
        return 0.0, _slope(offset, np.zeros_like(record), target, weight)[1]
    return float(theta[0]), float(theta[1])
