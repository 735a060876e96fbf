"""Many leads to many partners at once, by an auction: leads bid for units of capacity until nobody wants to change.

A lead that has no partner bids for the candidate that is worth most to it after prices: the price, plus by how much
that candidate is better than its second choice (nobody at all being worth 0), plus epsilon. A full partner lets its
lowest bid go, and asks for as much as the lowest that is left.

Epsilon begins coarse and falls; each round begins with the prices of the one before, a little lowered, which saves
nearly all bids. But a partner with a unit to spare must ask for nothing, and with such prices some do. They then bid
for leads in their turn (the reverse auction): each lowers its price until it is full or free, taking leads from others
that may have to do the same. In the end every lead is within epsilon of its best choice, so the total is within
L epsilon of the highest; how far it really is, `partnerml.routing._certificate` finds from the prices alone.

References
----------
Bertsekas and Castanon (1989), The auction algorithm for the transportation problem. Annals of Operations Research 20.
Bertsekas, Castanon and Tsaknakis (1993), Reverse auction and the solution of inequality constrained assignment
problems. SIAM Journal on Optimization 3.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from partnerml.errors import require
from partnerml.pairs._arrays import Floats, Ints
from partnerml.routing._certificate import Certificate, Columns, Problem, gives_out_most

_F = TypeVar("_F", bound=Callable[..., Any])
_logger = logging.getLogger("partnerml")
_COARSE, _FINER = 0.05, 5.0  # the first epsilon, as a share of the mean of the best scores, and how it falls
_LOWERED = 4.0  # by how many epsilons of a round prices are lowered for the next: fewer leave more to the reverse
_PRECISION = 2.0**-44  # of the largest offer: below, a bid may not raise a price
_BIDS_PER_LEAD, _BIDS_AT_LEAST = 500, 1_000_000  # in one round
_RAISES = 6


def _compiled(function: _F) -> _F:
    numba = require("numba", "routing", "giving out many leads at once")
    try:
        return cast("_F", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither beside this file nor in the user's folder can anything be kept
        return cast("_F", numba.njit(nogil=True)(function))


@dataclasses.dataclass(frozen=True)
class Solution:
    """An assignment, the prices that made it, and how good it is.

    Attributes
    ----------
    slot : array of int64 of shape (L,)
        Which of its candidates each lead goes to; -1 = none.
    price : array of shape (P,)
        What a unit of a partner's capacity is worth; 0 where some is left.
    certificate : Certificate
    bonus : float
        What giving a lead out at all was taken to be worth.
    most : bool or None
        Whether no assignment gives out more leads; None where that was not asked.
    """

    slot: Ints
    price: Floats
    certificate: Certificate
    bonus: float = 0.0
    most: bool | None = None


def solve(problem: Problem, *, gap: float, subsidy: Floats | None = None, bonus: float = 0.0) -> Solution:
    """Give out leads so that the sum of scores is highest, within capacity.

    Parameters
    ----------
    problem : Problem
    gap : float
        How far from the best the sum may be at most, as a share of it. Epsilon falls until the certificate says so,
        or until prices are as fine as numbers, or bids too many; the certificate then says what was reached.
    subsidy : array of shape (P,), optional
        Added to the scores of a partner when leads bid (not to what they sum to).
    bonus : float
        Added to all scores when leads bid: a lead is left out only if giving it out costs others more than that.

    Raises
    ------
    MissingExtraError
        If numba is not installed.
    """
    added = np.zeros(len(problem.capacity)) if subsidy is None else subsidy
    offers = problem.offers(added, bonus)
    highest = offers.max(axis=1, initial=0.0)
    none = np.full(len(problem), -1, dtype=np.int64)
    price = np.zeros(len(problem.capacity))
    found = Solution(none, price, Certificate.of(problem, none, price, subsidy=added, bonus=bonus), bonus)
    if not highest.any():
        return found
    _prepare()
    budget = max(_BIDS_PER_LEAD * len(problem), _BIDS_AT_LEAST)
    finest = _PRECISION * float(highest.max())
    epsilon = max(_COARSE * float(np.maximum(problem.best, 0.0).mean() or highest.mean()), finest)
    by_partner = _by_partner(problem.cols, offers, len(price))
    while found.certificate.gap > gap and epsilon >= finest:
        slot, price, bids = _forward(problem.cols, offers, problem.useful, price, epsilon, budget)
        bids += _reverse(problem.cols, offers, problem.useful, *by_partner, slot, price, epsilon, budget)
        certificate = Certificate.of(problem, slot, price, subsidy=added, bonus=bonus)
        if certificate.excess < found.certificate.excess:
            found = Solution(slot, price, certificate, bonus)
        if bids >= budget:
            break
        price = np.maximum(price - _LOWERED * epsilon, 0.0)
        epsilon /= _FINER
    return found


def solve_for_coverage(problem: Problem, *, gap: float, subsidy: Floats | None = None) -> Solution:
    """Give out as many leads as possible, and of such assignments one with the highest sum of scores.

    The bonus for giving a lead out begins with nothing, which mostly is enough, and grows from above every score until
    no more leads can be given out, or six times; `Solution.most` says which.
    """
    above = 2.0 * float(np.abs(problem.scores[np.isfinite(problem.scores)]).max(initial=0.0)) or 1.0
    for bonus in (0.0, *(above * 4.0**power for power in range(_RAISES))):
        found = solve(problem, gap=gap, subsidy=subsidy, bonus=bonus)
        if gives_out_most(problem, found.slot):
            return dataclasses.replace(found, most=True)
    return dataclasses.replace(found, most=False)


@functools.cache
def _prepare() -> None:
    """Compile the auction, or read what was compiled before."""
    _logger.info("preparing the auction: the first time on a machine this takes some seconds")
    cols, offers, one = np.zeros((1, 1), dtype=np.int32), np.ones((1, 1)), np.ones(1, dtype=np.int64)
    slot, price, _ = _forward(cols, offers, one, np.zeros(1), 1.0, 1)
    _reverse(cols, offers, one, *_by_partner(cols, offers, 1), slot, price, 1.0, 1)


@_compiled
def _by_partner(cols: Columns, offers: Floats, partners: int) -> tuple[Ints, Ints]:
    """Return where the candidates of each partner begin, and these: places among all candidates of all leads."""
    width = cols.shape[1]
    begin = np.zeros(partners + 1, np.int64)
    for lead in range(cols.shape[0]):
        for candidate in range(width):
            begin[cols[lead, candidate] + 1] += offers[lead, candidate] > -np.inf
    begin = np.cumsum(begin)
    free, place = begin.copy(), np.empty(begin[-1], np.int64)
    for lead in range(cols.shape[0]):
        for candidate in range(width):
            if offers[lead, candidate] > -np.inf:
                partner = cols[lead, candidate]
                place[free[partner]] = lead * width + candidate
                free[partner] += 1
    return begin, place


@_compiled
def _forward(
    cols: Columns, offers: Floats, capacity: Ints, asked: Floats, epsilon: float, budget: int
) -> tuple[Ints, Floats, int]:
    """Let leads bid, beginning with prices; return which candidate each goes to, the prices, and how many bids."""
    start = np.zeros(len(capacity) + 1, np.int64)
    start[1:] = np.cumsum(capacity)
    bid, holder = np.empty(start[-1]), np.empty(start[-1], np.int64)  # a heap for each partner, the lowest bid first
    count, price = np.zeros(len(capacity), np.int64), asked.copy()
    slot = np.full(cols.shape[0], -1, np.int64)
    stack: Ints = np.arange(cols.shape[0])[::-1].copy()
    waiting, bids = cols.shape[0], 0
    while waiting > 0 and bids < budget:
        waiting -= 1
        bids += 1
        lead = int(stack[waiting])
        choice, first, second = _two_best(cols[lead], offers[lead], price)
        if choice < 0:
            continue  # nobody is worth having at these prices, and prices only rise
        partner = cols[lead, choice]
        begin, size = start[partner], capacity[partner]
        new = price[partner] + (first - second) + epsilon
        if count[partner] < size:
            _push(bid[begin:], holder[begin:], count[partner], new, lead)
            count[partner] += 1
        else:
            stack[waiting] = holder[begin]
            slot[holder[begin]] = -1
            waiting += 1
            _replace_lowest(bid[begin:], holder[begin:], size, new, lead)
        slot[lead] = choice
        if count[partner] == size:
            price[partner] = bid[begin]
    return slot, price, bids


@_compiled
def _reverse(
    cols: Columns,
    offers: Floats,
    capacity: Ints,
    begin: Ints,
    place: Ints,
    slot: Ints,
    price: Floats,
    epsilon: float,
    budget: int,
) -> int:
    """Let partners that have a unit to spare and a price lower it, in place; return how many did."""
    width = cols.shape[1]
    count = np.zeros(len(capacity), np.int64)
    for lead in range(len(slot)):
        if slot[lead] >= 0:
            count[cols[lead, slot[lead]]] += 1
    stack = [partner for partner in range(len(capacity)) if price[partner] > 0]
    bids = 0
    while len(stack) > 0 and bids < budget:
        partner = stack.pop()
        spare = capacity[partner] - count[partner]
        if price[partner] <= 0 or spare <= 0:
            continue
        bids += 1
        others = place[begin[partner] : begin[partner + 1]]
        gain = _gains(cols, offers, slot, price, others, partner)
        order = np.argsort(-gain)
        next_best = gain[order[spare]] if spare < len(order) else 0.0
        price[partner] = max(min(next_best - epsilon, price[partner]), 0.0)
        for candidate in order[:spare]:
            if gain[candidate] <= price[partner]:
                break
            lead = others[candidate] // width
            if slot[lead] >= 0:
                left = cols[lead, slot[lead]]
                count[left] -= 1
                stack.append(left)
            slot[lead] = others[candidate] % width
            count[partner] += 1
    return bids


@_compiled
def _gains(cols: Columns, offers: Floats, slot: Ints, price: Floats, others: Ints, partner: int) -> Floats:
    """Return up to which price each lead would rather go to a partner than stay where it is."""
    width = cols.shape[1]
    gain = np.full(len(others), -np.inf)
    for candidate in range(len(others)):
        lead = others[candidate] // width
        held = slot[lead]
        if held < 0:
            gain[candidate] = offers[lead, others[candidate] % width]
        elif cols[lead, held] != partner:
            stays = offers[lead, held] - price[cols[lead, held]]
            gain[candidate] = offers[lead, others[candidate] % width] - stays
    return gain


@_compiled
def _two_best(cols: Columns, offers: Floats, price: Floats) -> tuple[int, float, float]:
    """Return the place of the best offer after prices, what it is worth, and what the second is: nobody at least."""
    place, first, second = -1, 0.0, 0.0
    for candidate in range(len(cols)):
        if offers[candidate] == -np.inf:
            continue
        worth = offers[candidate] - price[cols[candidate]]
        if worth > first or (place < 0 and worth == first):
            place, first, second = candidate, worth, first
        elif worth > second:
            second = worth
    return place, first, second


@_compiled
def _push(bid: Floats, holder: Ints, size: int, new: float, lead: int) -> None:
    """Add a bid to a heap."""
    at = size
    while at > 0 and bid[(at - 1) // 2] > new:
        bid[at], holder[at] = bid[(at - 1) // 2], holder[(at - 1) // 2]
        at = (at - 1) // 2
    bid[at], holder[at] = new, lead


@_compiled
def _replace_lowest(bid: Floats, holder: Ints, size: int, new: float, lead: int) -> None:
    """Put a bid in the place of the lowest of a heap."""
    at, below = 0, 1
    while below < size:
        if below + 1 < size and bid[below + 1] < bid[below]:
            below += 1
        if bid[below] >= new:
            break
        bid[at], holder[at] = bid[below], holder[below]
        at, below = below, 2 * below + 1
    bid[at], holder[at] = new, lead
