"""From calibrated probabilities to a choice: whom to contact, by what it costs or by how many can be contacted.

Contacting a partner is worth ``p x value x success_rate - cost``: the chance that the event would come, what is saved
if it does not, and how often a contact prevents it (Elkan 2001, "The foundations of cost-sensitive learning"). Where
all are worth the same, that is a threshold on the probability; where they are not, a score alone does not decide.
A threshold is worth as much as the calibration of the probabilities that it is put to.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partnerml.errors import InputError
from partnerml.models._binary import Array

LEVEL = 0.95
DRAWS = 2000
_BLOCK = 1024  # rows drawn at once


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Who is contacted, what that is expected to bring, and what is given up.

    Attributes
    ----------
    chosen : array of bool of shape (n,)
    ranked : array of int of shape (n_chosen,)
        Positions of the chosen rows, those worth most first.
    threshold : float or None
        By cost, the probability from which a contact pays; by capacity, the lowest that is chosen (of those at it maybe
        not all are). None where rows differ in value, cost or success rate, since a probability alone does not decide,
        and where there is none.
    expected_value, low, high : float
        Expected value of all contacts after their cost, and the range that holds what comes of them in 95 of 100
        cases, if the probabilities are right: for single partners the event comes or does not.
    cost : float
        Of all contacts.
    events : float
        Expected number of events among the chosen; their precision is ``events / len(ranked)``.
    idle : float
        Expected number of contacts with partners to whom the event would not have come.
    missed_events : float
        Expected number of events among those who are not contacted.
    missed_value : float
        What contacting all others that are worth it would bring: the price of the capacity.
    gain : array of shape (n,)
        Expected value of contacting each row, after its cost.
    """

    chosen: NDArray[np.bool_]
    ranked: NDArray[np.intp]
    threshold: float | None
    expected_value: float
    low: float
    high: float
    cost: float
    events: float
    idle: float
    missed_events: float
    missed_value: float
    gain: Array

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the rows."""
        rows = ("chosen", "ranked", "gain")
        figures = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in rows}
        return {"rows": len(self.chosen), "contacts": len(self.ranked), **figures}


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Checked input, one entry a row."""

    p: Array
    value: Array
    cost: Array
    rate: Array

    @classmethod
    def of(cls, scores: ArrayLike, value: ArrayLike, cost: ArrayLike, rate: ArrayLike) -> _Rows:
        p = np.asarray(scores, dtype=np.float64)
        if p.ndim != 1:
            raise InputError(f"scores must have one entry a row, shape (n,); got shape {p.shape}")
        return cls(
            p=_within("scores", p, 0.0, 1.0, len(p)),
            value=_within("value_saved", value, 0.0, np.inf, len(p)),
            cost=_within("cost_of_contact", cost, 0.0, np.inf, len(p)),
            rate=_within("success_rate", rate, 0.0, 1.0, len(p)),
        )

    @property
    def saves(self) -> Array:
        """The chance that a contact prevents an event that would have come."""
        return self.p * self.rate

    @property
    def gain(self) -> Array:
        return self.saves * self.value - self.cost

    @property
    def alike(self) -> bool:
        """Whether all rows have the same value, cost and success rate."""
        return all(len(np.unique(column)) <= 1 for column in (self.value, self.cost, self.rate))

    @property
    def break_even(self) -> float | None:
        """The probability from which a contact pays, where there is one for all."""
        if not self.alike or not len(self.p) or self.value[0] * self.rate[0] == 0:
            return None
        return float(self.cost[0] / (self.value[0] * self.rate[0]))


def threshold_by_cost(
    scores: ArrayLike,
    *,
    cost_of_contact: ArrayLike,
    value_saved: ArrayLike,
    success_rate: ArrayLike = 1.0,
    seed: int = 0,
) -> Selection:
    """Contact everybody with whom a contact is worth its cost.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Calibrated probabilities of what a contact may prevent.
    cost_of_contact : float or array-like of shape (n,)
        Of one contact, in the currency of the values.
    value_saved : float or array-like of shape (n,)
        What is saved where the event is prevented.
    success_rate : float or array-like of shape (n,)
        How often a contact prevents an event that would have come. The default of 1 is an upper limit.
    seed : int
        Of the draws behind the range; the order of the rows does not matter.

    Raises
    ------
    InputError
        If an argument is out of its range or has another number of rows.

    Examples
    --------
    A call for 50 that saves 1,000 in one case of four pays from a probability of .2 on:

    >>> from partnerml.models import threshold_by_cost
    >>> found = threshold_by_cost([0.1, 0.2, 0.5], cost_of_contact=50, value_saved=1000, success_rate=0.25)
    >>> found.chosen.tolist(), found.threshold, found.expected_value
    ([False, True, True], 0.2, 75.0)
    """
    rows = _Rows.of(scores, value_saved, cost_of_contact, success_rate)
    return _selection(rows, np.flatnonzero(rows.gain >= 0), np.arange(len(rows.p)), rows.break_even, seed)


def threshold_by_capacity(
    scores: ArrayLike,
    *,
    capacity: int,
    value_saved: ArrayLike = 1.0,
    cost_of_contact: ArrayLike = 0.0,
    success_rate: ArrayLike = 1.0,
    keys: ArrayLike | None = None,
    seed: int = 0,
) -> Selection:
    """Contact as many as can be contacted, those first with whom it is worth most.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Calibrated probabilities of what a contact may prevent.
    capacity : int
        How many can be contacted. Fewer are where a contact with the others would be at a loss.
    value_saved, cost_of_contact, success_rate : float or array-like of shape (n,)
        As in `threshold_by_cost`. Without values, it is the number of events prevented that counts.
    keys : array-like of shape (n,), optional
        Who each row is: of rows worth the same, the one with the higher probability and then the smaller key is
        taken. By default the order of the rows decides.
    seed : int
        Of the draws behind the range.

    Raises
    ------
    InputError
        If an argument is out of its range or has another number of rows.
    """
    if isinstance(capacity, bool) or int(capacity) != capacity or capacity < 1:
        raise InputError(f"capacity must be a whole number of contacts, 1 or more; got {capacity!r}")
    rows = _Rows.of(scores, value_saved, cost_of_contact, success_rate)
    places = np.arange(len(rows.p))
    if keys is not None:
        given = np.asarray(keys)
        if given.shape != rows.p.shape:
            raise InputError(f"keys must have one entry a row, {len(rows.p)} in all; got shape {given.shape}")
        places = np.argsort(np.argsort(given, kind="stable"), kind="stable")
    worth = np.flatnonzero(rows.gain >= 0)
    order = np.lexsort((places[worth], -rows.p[worth], -rows.gain[worth]))
    taken = worth[order[: int(capacity)]]
    lowest = float(rows.p[taken].min()) if len(taken) and rows.alike else None
    return _selection(rows, taken, places, lowest, seed)


def _selection(
    rows: _Rows, taken: NDArray[np.intp], places: NDArray[np.intp], threshold: float | None, seed: int
) -> Selection:
    gain = rows.gain
    ranked = taken[np.lexsort((places[taken], -rows.p[taken], -gain[taken]))]
    chosen = np.zeros(len(rows.p), dtype=bool)
    chosen[ranked] = True
    # summed in the order of size: the order of the rows must not show in the last digit
    p, left = np.sort(rows.p[chosen]), np.sort(rows.p[~chosen])
    low, high = _range(rows.saves[chosen], rows.value[chosen], seed)
    cost = float(np.sort(rows.cost[chosen]).sum())
    return Selection(
        chosen=chosen,
        ranked=ranked,
        threshold=threshold,
        expected_value=float(np.sort(gain[chosen]).sum()),
        low=low - cost,
        high=high - cost,
        cost=cost,
        events=float(p.sum()),
        idle=float((1.0 - p).sum()),
        missed_events=float(left.sum()),
        missed_value=float(np.sort(np.maximum(gain[~chosen], 0.0)).sum()),
        gain=gain,
    )


def _range(chance: Array, value: Array, seed: int) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of what is saved: the sum of the values of independent events."""
    order = np.lexsort((value, chance))
    generator = np.random.default_rng(seed)
    total = np.zeros(DRAWS)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        came = generator.random((len(block), DRAWS)) < chance[block, None]
        # not by matrix product, whose last digit depends on the threads
        total += (came * value[block, None]).sum(axis=0)
    low, high = np.quantile(total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _within(name: str, given: ArrayLike, low: float, high: float, n: int) -> Array:
    try:
        values = np.broadcast_to(np.asarray(given, dtype=np.float64), (n,))
    except ValueError:
        raise InputError(
            f"{name} must be one number, or one for each of {n} rows; got shape {np.shape(given)}"
        ) from None
    wrong = ~((values >= low) & (values <= high)) | ~np.isfinite(values)
    if wrong.any():
        allowed = "0 or more" if np.isinf(high) else f"between {low:g} and {high:g}"
        first = int(np.argmax(wrong))
        raise InputError(
            f"{name} must be {allowed} in every row; {int(wrong.sum())} of {n} are not, the first is {values[first]} "
            f"at position {first}"
        )
    return values
