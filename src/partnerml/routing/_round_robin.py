"""Weighted round robin: whose turn it is, from what each partner has been owed and has got.

A partner's *credit* is how many leads it is owed: at each lead, everybody who may get it is owed its share of it, by
weight, and who gets it pays one. A partner that may not get a lead (on leave, full, elsewhere) is owed nothing of it,
so nobody comes back to a pile of arrears; and no credit grows beyond `catch_up`, nor falls below its negative. At least
one lead is always made good: else those with a small share would never have their turn.

Of those that are owed something, the one that would soonest be a whole lead behind has its turn. This is the quota
method of apportionment, with leads for seats and weights for populations: while the same partners with the same weights
may get the leads, each of them has at any time received its exact share of the leads, rounded down or up, and is never
a whole lead off. Where the partners change, what those who are there are owed as a group, because others are away with
more or less than their share, is set aside by weight, so that they are even among themselves.

References
----------
Balinski and Young (1975), The quota method of apportionment. American Mathematical Monthly 82. No method without
knowledge of the future can promise as much where others than the same partners come and go: Ajtai et al. (1998),
Fairness in scheduling.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from partnerml.pairs._arrays import Floats

RETURNED = ("declined", "withdrawn")  # answers after which a lead was not received: a whole lead is owed again
_ROUNDING = 1e-9


def shares(weight: Floats) -> Floats:
    """Return what each of those present is owed of one lead: by weight, equally if all weights are 0."""
    total = weight.sum()
    return np.full(len(weight), 1.0 / len(weight)) if total <= 0 else weight / total


def patience(share: Floats, credit: Floats) -> Floats:
    """Return for how many leads each can wait until it is a whole lead behind: the least has its turn.

    Parameters
    ----------
    share : array of shape (m,)
        Of the lead, as `shares` gives them.
    credit : array of shape (m,)
        What each was owed before this lead.

    Returns
    -------
    array of shape (m,)
        ``(1 - owed) / share``, this lead included in what is owed; infinite for those that are owed nothing.
    """
    taking = share > 0
    held = np.where(taking, credit, 0.0)
    owed = held - share * held.sum() + share
    waits: Floats = np.full(len(share), np.inf)
    due = taking & (owed > _ROUNDING)
    waits[due] = (1.0 - owed[due]) / share[due]
    return waits


def after(share: Floats, credit: Floats, place: int, *, catch_up: float) -> Floats:
    """Return what each is owed once the partner at a place has got the lead."""
    owed = credit + share
    owed[place] -= 1.0
    kept: Floats = bounded(owed, catch_up=catch_up)
    return kept


def bounded(credit: Any, *, catch_up: float) -> Any:
    """Return credits within what is made good: `catch_up` leads (at least one) behind, and as many ahead."""
    reach = max(catch_up, 1.0)
    return np.clip(credit, -reach, reach)


def returned(credit: float, *, catch_up: float) -> float:
    """Return what a partner is owed that has given a lead back (see `RETURNED`)."""
    return float(bounded(credit + 1.0, catch_up=catch_up))
