"""Why a score that is no sum is what it is: Shapley values along paths from other rows to the one explained.

A path starts at a row of a stored background and takes over the values of the row to explain one after the other, in a
random order; what each step changes is credited to its column. The steps of a path add up to the difference of its ends
whatever the score is, so the mean over paths is additive to the last digit, however few paths there are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from partnerml.errors import ModelError
from partnerml.models._binary import Array

_CELLS = 4_000_000  # of a matrix of mixed rows held at once: 32 MB


def permutation_values(
    log_odds: Callable[[Array], Array], X: Array, background: Array, orders: NDArray[np.intp]
) -> Array:
    """Return what each column adds to the log-odds of each row.

    Parameters
    ----------
    log_odds : callable
        Takes rows of shape (m, p) and returns their log-odds, shape (m,). Called for the ends of paths and
        for the rows between them; not where a step changes nothing, because both ends share the value.
    X : array of shape (n, p)
        Rows to explain; NaN is a value like any other.
    background : array of shape (b, p)
        Rows where the paths start.
    orders : array of int of shape (b, p)
        For each of them the columns in the order in which they are taken over; each is walked in reverse too, because
        what errs in one direction errs in the other way in the opposite one.

    Returns
    -------
    array of shape (n, p + 1)
        The effects, and last the base: the mean log-odds of the background. A row sums to its log-odds.

    References
    ----------
    Štrumbelj and Kononenko (2014), Explaining prediction models and individual predictions with feature contributions.
    Mitchell, Cooper, Frank and Holmes (2022), Sampling permutations for Shapley value estimation (reversed orders).
    """
    b, p = background.shape
    if X.ndim != 2 or X.shape[1] != p or orders.shape != (b, p) or not b:
        raise ModelError(
            f"paths need rows of the same columns and an order for each row of the background; rows {X.shape}, "
            f"background {background.shape}, orders {orders.shape}"
        )
    starts = log_odds(background)
    effects = np.zeros((len(X), p + 1))
    effects[:, -1] = starts.mean()
    step = max(1, _CELLS // ((p + 1) * max(p, 1)))
    for begin in range(0, len(X), step):
        rows = X[begin : begin + step]
        ends = log_odds(rows)
        for start, said, order in zip(background, starts, orders, strict=True):
            for walked in (order, order[::-1]):
                effects[begin : begin + step, :-1] += _along(log_odds, rows, ends, start, float(said), walked)
    effects[:, :-1] /= 2 * b
    return effects


def _along(
    log_odds: Callable[[Array], Array], rows: Array, ends: Array, start: Array, said: float, order: NDArray[np.intp]
) -> Array:
    """Return what each step of one path changes, shape (n, p)."""
    n, p = rows.shape
    same = (rows == start) | (np.isnan(rows) & np.isnan(start))
    # after step j, the columns that come up to the j-th in the order are the row's own
    rank = np.empty(p, dtype=np.intp)
    rank[order] = np.arange(p)
    steps = np.arange(p - 1)[:, None]
    mixed = np.where(rank <= steps, rows[:, None, :], start)
    changed = ~same[:, order[:-1]]
    said_then = np.empty((n, p - 1))
    said_then[changed] = log_odds(mixed[changed]) if changed.any() else 0.0
    # an unchanged step says what the one before it said
    last = np.maximum.accumulate(np.where(changed, np.arange(p - 1), -1), axis=1)
    filled = np.where(last >= 0, np.take_along_axis(said_then, np.maximum(last, 0), axis=1), said)
    path = np.hstack([np.full((n, 1), said), filled, ends[:, None]])
    effects = np.empty((n, p))
    effects[:, order] = np.diff(path, axis=1)
    return effects
