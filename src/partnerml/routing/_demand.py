"""What the leads of the last days were worth to whom, from the ledger: by this, prices are found."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np

from partnerml.routing._lead import Lead
from partnerml.routing._prices import WINDOW, Window
from partnerml.routing._pricing import Prices
from partnerml.routing._shortlist import value_of
from partnerml.routing._situation import Load

if TYPE_CHECKING:
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._opened import Opened


def found_prices(
    ledger: Ledger, opened: Opened, *, moment: dt.datetime, within: dt.timedelta, expected: int | None
) -> Prices:
    """Find prices by the leads of late and the capacity that is left at a moment.

    Parameters
    ----------
    ledger : Ledger
    opened : Opened
    moment : datetime
        Zoned.
    within : timedelta
        How far back leads count.
    expected : int or None
        How many are to come until capacity is renewed; None = as many as came, those too that nobody had room for.
    """
    since = moment - within
    window, capacity = demand(ledger, opened, start=since, end=moment), opened.way.capacity
    fold, _ = ledger.standing(now=moment, capacity=capacity)
    room = capacity.free(fold.load(capacity, moment), np.arange(len(opened.snapshot)))
    expected = expected or ledger.came(since, moment)
    price, ids = window.prices(room, expected=expected), opened.snapshot.partners.partner_id
    by_partner = {str(ids[row]): float(price[row]) for row in np.flatnonzero(price > 0)}
    return Prices(moment, len(window), expected, opened.config.objective, by_partner, since)


def demand(ledger: Ledger, opened: Opened, *, start: dt.datetime, end: dt.datetime) -> Window:
    """Return the candidates of the leads that were first decided in ``[start, end]``, by the rows of a snapshot.

    Whoever decided them: all processes and batches that share the ledger. A partner is worth the chance to win that was
    logged, times what a win is worth by the objective in force now, before prices. Partners that have left the
    snapshot, and leads that have been forgotten, do not count; of more than 20,000 leads the latest do.

    Parameters
    ----------
    ledger : Ledger
    opened : Opened
    start, end : datetime
        Zoned.
    """
    window, place = Window(size=WINDOW), opened.snapshot.partners.index
    nothing = Load.none(len(opened.snapshot))
    for payload, vector in ledger.considered(start, end, most=WINDOW):
        rows = np.array([place.get(partner, -1) for partner in vector.partner_id], dtype=np.int64)
        here = rows >= 0
        if here.any():
            situation = opened.situation(Lead.of_payload(payload), end, nothing)
            window.add(rows[here], vector.p_win[here] * value_of(situation, rows[here]))
    return window
