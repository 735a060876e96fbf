"""Who holds each of many leads at one moment: what `held` says of each, with what leads have in common remembered.

Leads share their country, region, postal prefix and vertical with many others, and only circles ask for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from partnerml.pairs import areas_hold
from partnerml.pairs._maths import chord
from partnerml.routing._index import index_of
from partnerml.routing._remembered import Memory
from partnerml.routing._territory import Held, marked

if TYPE_CHECKING:
    from partnerml.pairs import Leads
    from partnerml.routing._snapshot import Snapshot

Ints = npt.NDArray[np.int64]
_MOST = 1 << 22  # rows of territories that are remembered: 32 MB


class Holders:
    """Whose territories hold leads.

    Parameters
    ----------
    snapshot : Snapshot
    now : datetime64
        Naive UTC.
    """

    def __init__(self, snapshot: Snapshot, now: np.datetime64) -> None:
        self._now, self._n, self._index = now, len(snapshot), index_of(snapshot)
        self._areas = snapshot.facts.territories
        self._row: Ints = snapshot.territories["row"]
        self._memory = Memory[Ints](_MOST)

    def of(self, leads: Leads) -> list[Held]:
        """Return what `held` says of each lead, encoded against ``Snapshot.facts``."""
        verticals = [row.tobytes() for row in leads.covered]
        found = [self._but_for_circles(leads, place, verticals[v]) for place, v in enumerate(leads.vertical.tolist())]
        every = np.concatenate(found)
        which = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
        holds = ~self._areas.circle[every]
        around = np.flatnonzero(~holds)
        at = every[around]
        holds[around] = chord(self._areas.point[:, at], leads.point[:, which[around]]) <= self._areas.chord[at]
        every, which = every[holds], which[holds]
        ends = np.searchsorted(which, np.arange(len(found)), side="right")
        return [self._held(rows) for rows in np.split(every, ends[:-1])]

    def _but_for_circles(self, leads: Leads, place: int, vertical: bytes) -> Ints:
        """Return the valid rows that hold a lead if it lies in their circles."""
        country, region = int(leads.country[place]), int(leads.region[place])

        def rows() -> Ints:
            near = self._index.areas.of_place(country, region)
            near = near[self._index.valid.hold(self._now, near)]
            return near[areas_hold(leads, self._index.but_circles, place, near)]

        return self._memory.get((country, region, leads.postal[place].tobytes(), vertical), rows)

    def _held(self, rows: Ints) -> Held:
        alone = rows[self._index.exclusive[rows]]
        return Held(self._index.anywhere, marked(self._n, self._row[rows]), marked(self._n, self._row[alone]))
