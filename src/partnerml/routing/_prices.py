"""What a unit of each partner's capacity is worth to the leads that are still to come.

Whoever takes the best partner for each lead as it comes uses up good partners on leads that others could have won
nearly as well. Prices prevent that: they are those at which an auction gives out the leads of the recent past, as many
of them as are expected until capacity is renewed, among what capacity is left. A lead then goes where its score less
the price is highest. They are found anew every so many leads, as leads and capacity change.

References
----------
Agrawal, Wang and Ye (2014), A dynamic near-optimal algorithm for online linear programming. Operations Research 62.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from partnerml.errors import InternalError
from partnerml.pairs._arrays import Floats, Ints
from partnerml.routing._certificate import NOBODY

_GAP = 1e-3  # of prices: finer ones move no choice
WINDOW = 20_000


def prices(cols: Any, scores: Any, capacity: Any, *, expected: int, gap: float = _GAP) -> Floats:
    """Return the price of a unit of each partner's capacity, shape (P,); 0 where there is enough.

    Parameters
    ----------
    cols : array of int of shape (L, k)
        Candidates of recent leads, the latest last; -1 = none.
    scores : array of shape (L, k)
        What a lead is worth with each, before prices.
    capacity : array of shape (P,)
        What is left of each; infinite = unlimited.
    expected : int
        How many leads are to come until capacity is renewed. Of more recent leads the latest are taken, fewer are taken
        several times: the prices of a sample against a share of the capacity would be poor, since capacities are small
        whole numbers.
    gap : float
        See `partnerml.routing._auction.solve`.

    Raises
    ------
    MissingExtraError
        If numba is not installed.
    """
    from partnerml.routing._auction import solve
    from partnerml.routing._certificate import Problem

    rows = stand_ins(len(cols), expected)
    if not len(rows):
        return np.zeros(len(capacity))
    return solve(Problem.of(np.asarray(cols)[rows], np.asarray(scores)[rows], capacity), gap=gap).price


def stand_ins(known: int, expected: int) -> Ints:
    """Return which of the recent leads stand for those that are expected: the latest, evenly often."""
    if known == 0 or expected <= 0:
        return np.zeros(0, dtype=np.int64)
    return np.arange(known)[::-1][np.arange(expected) % known][::-1].astype(np.int64)


class Window:
    """The candidates of the latest leads.

    Parameters
    ----------
    size : int
        How many leads are remembered.
    width : int
        How many candidates of a lead are remembered: the best.
    """

    def __init__(self, *, size: int = WINDOW, width: int = 30) -> None:
        if min(size, width) < 1:
            raise InternalError(f"a window of {size} leads with {width} candidates is none")
        self._leads: deque[tuple[Ints, Floats]] = deque(maxlen=size)
        self._width = width

    def __len__(self) -> int:
        return len(self._leads)

    def add(self, cols: Ints, scores: Floats) -> None:
        """Remember the candidates of a lead, before prices."""
        best = np.argsort(-scores, kind="stable")[: self._width]
        self._leads.append((np.asarray(cols, dtype=np.int64)[best], np.asarray(scores, dtype=np.float64)[best]))

    def prices(self, capacity: Any, *, expected: int) -> Floats:
        """Return prices; see `prices`."""
        cols = np.full((len(self), self._width), NOBODY, dtype=np.int64)
        scores = np.zeros(cols.shape)
        for row, (partner, score) in enumerate(self._leads):
            cols[row, : len(partner)], scores[row, : len(partner)] = partner, score
        return prices(cols, scores, capacity, expected=expected)
