"""Which lead may go to whom and what that is worth, and how far at most an assignment is from the best one."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from partnerml.errors import DataError, InternalError
from partnerml.pairs._arrays import Bools, Floats, Ints

NOBODY = -1
_NEVER = -np.inf
_ROUNDING = 2.0**-40  # of what was summed
Columns = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Problem:
    """L leads with at most k candidates each, of P partners.

    Attributes
    ----------
    cols : array of int32 of shape (L, k)
        Rows of the partners; 0 where there is no candidate.
    scores : array of shape (L, k)
        What giving the lead to the partner is worth; minus infinity where it cannot be given.
    capacity : array of int64 of shape (P,)
        How many leads a partner may get.
    """

    cols: Columns
    scores: Floats
    capacity: Ints

    @classmethod
    def of(cls, cols: Any, scores: Any, capacity: Any) -> Self:
        """Take candidates as they come.

        Parameters
        ----------
        cols : array of int of shape (L, k)
            -1 = no candidate.
        scores : array of shape (L, k)
        capacity : array of shape (P,)
            Infinite = unlimited.

        Raises
        ------
        DataError
            If a score is no number, or a capacity none or negative.
        InternalError
            If shapes do not fit, or a candidate is no row of the partners.
        """
        limits = _limits(np.asarray(capacity, dtype=np.float64))
        given, worth = np.asarray(cols), np.asarray(scores, dtype=np.float64)
        if given.shape != worth.shape or given.ndim != 2:
            raise InternalError(f"candidates of shape {given.shape} have scores of shape {worth.shape}")
        some = given >= 0
        if some.any() and int(given.max()) >= len(limits):
            raise InternalError(f"a candidate is partner {int(given.max())} of {len(limits)}")
        if not np.isfinite(worth[some]).all():
            lead = int(np.argwhere(some & ~np.isfinite(worth))[0][0])
            raise DataError(f"a score of lead {lead} (counted from 0) is no number; the scorer is at fault")
        places = np.where(some, given, 0).astype(np.int32)
        if len(limits):
            some &= limits[places] > 0
        return cls(places, np.where(some, worth, _NEVER), limits)

    def __len__(self) -> int:
        return len(self.cols)

    @functools.cached_property
    def best(self) -> Floats:
        """The highest score of each lead, shape (L,); minus infinity without candidates."""
        return np.asarray(self.scores.max(axis=1, initial=_NEVER))

    @functools.cached_property
    def useful(self) -> Ints:
        """How many leads each partner could possibly get: one more than wanted if that is below its capacity.

        The one more is never used, so that a partner with capacity to spare is never full, and has no price.
        """
        wanted = np.bincount(self.cols[self.scores > _NEVER], minlength=len(self.capacity))
        return np.minimum(self.capacity, wanted + 1)

    def offers(self, subsidy: Floats, bonus: float) -> Floats:
        """Return what leads bid by, shape (L, k): scores, a subsidy for the partner, a bonus for any partner at all."""
        return self.scores + (subsidy + bonus)[self.cols] if len(self.capacity) else self.scores

    def taken(self, slot: Ints) -> tuple[Ints, Floats]:
        """Return partner and score of each lead that is given out."""
        leads = np.flatnonzero(slot >= 0)
        return self.cols[leads, slot[leads]].astype(np.int64), self.scores[leads, slot[leads]]

    def partner(self, slot: Ints) -> Ints:
        """Return the partner of each lead, shape (L,); `NOBODY` for those that are not given out."""
        found = np.full(len(self), NOBODY, dtype=np.int64)
        found[slot >= 0] = self.taken(slot)[0]
        return found

    def counts(self, slot: Ints) -> Ints:
        """Return how many leads each partner gets, shape (P,)."""
        return np.bincount(self.taken(slot)[0], minlength=len(self.capacity)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far from the best an assignment is at most, by linear duality: it can be checked without trusting a solver.

    Attributes
    ----------
    total : float
        Sum of the scores of what is given out.
    bound : float
        No assignment within capacity has a higher sum (with a bonus: none that gives out at least as many leads; with
        subsidies: none that gives those with a subsidy at least as many leads, and those with a levy at most as many).
    given : int
        How many leads are given out.
    rounding : float
        A smaller difference between the two means nothing.
    """

    total: float
    bound: float
    given: int
    rounding: float = 0.0

    @property
    def excess(self) -> float:
        """By how much another assignment could be better, at most."""
        return max(self.bound - self.total, 0.0)

    @property
    def gap(self) -> float:
        """The same as a share of the bound; 0 = nothing is better, as far as numbers tell."""
        return self.excess / abs(self.bound) if self.excess > self.rounding else 0.0

    @classmethod
    def of(cls, problem: Problem, slot: Ints, price: Floats, *, subsidy: Floats, bonus: float) -> Self:
        """Check an assignment, and bound what others are worth.

        For any prices ``p >= 0``, by weak duality, every assignment x within capacity has

            sum of offers of x  <=  sum_i max(0, max_j offer_ij - p_j)  +  sum_j p_j capacity_j.

        What bonus and subsidies make of x is taken off both sides, which leaves sums of scores.

        Parameters
        ----------
        problem : Problem
        slot : array of int of shape (L,)
            Which of its candidates each lead goes to; -1 = none.
        price : array of shape (P,)
        subsidy : array of shape (P,)
        bonus : float

        Raises
        ------
        InternalError
            If a partner gets more than its capacity, or a lead goes to no candidate of its own.
        """
        partner, scores = problem.taken(slot)
        if not np.isfinite(scores).all() or (problem.counts(slot) > problem.capacity).any():
            raise InternalError("an assignment gives a lead to nobody's candidate, or a partner more than its capacity")
        offers = problem.offers(subsidy, bonus)
        left = offers - price[problem.cols] if len(price) else offers
        dual = float(left.max(axis=1, initial=0.0).sum() + (price * problem.useful).sum())
        added = float(subsidy[partner].sum()) + bonus * len(partner)
        rounding = _ROUNDING * (dual + abs(added))
        return cls(total=float(scores.sum()), bound=dual - added, given=len(partner), rounding=rounding)


def gives_out_most(problem: Problem, slot: Ints) -> bool:
    """Tell whether no assignment gives out more leads.

    That is so if no lead that is left out reaches a partner with capacity to spare by moving others aside (Berge 1957).
    """
    partner = problem.partner(slot)
    spare = problem.counts(slot) < problem.capacity
    possible = problem.scores > _NEVER
    reached = np.zeros(len(problem.capacity), dtype=bool)
    leads: Bools = partner == NOBODY
    while leads.any():
        found = np.zeros_like(reached)
        found[problem.cols[leads][possible[leads]]] = True
        new = found & ~reached
        if (new & spare).any():
            return False
        reached |= new
        leads = (partner >= 0) & new[partner] if len(new) else np.zeros_like(leads)
    return True


def _limits(capacity: Floats) -> Ints:
    wrong = np.isnan(capacity) | (capacity < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"the capacity of partner {row} (counted from 0) must be a number of leads, 0 or more; got {capacity[row]}"
        )
    return np.minimum(np.floor(capacity), np.iinfo(np.int32).max).astype(np.int64)
