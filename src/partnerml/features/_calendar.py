"""Time cut into cells: at every as_of, at every window's far edge and, for sets of days, every sixty days.

No window edge lies inside a cell, so whatever is folded to cells can be put together to windows. A row finds its
cell by the day it falls on (an equi-join, which every engine does well); only where an edge lies inside a day is
its time of day compared too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime

import ibis
import numpy as np
import pandas as pd

DAY = np.timedelta64(1, "D").astype("timedelta64[us]")
WEEK = 7 * DAY
BLOCK_DAYS = 60  # the days of a block share one 64-bit mask
_WEEKS = 60  # the weeks of a streak are bits of one integer, and all before them share one that no streak reaches
EVER = 0  # the window without a far edge


@dataclasses.dataclass(frozen=True)
class Calendar:
    """Where the cells lie, for given moments and windows.

    Parameters
    ----------
    as_of : array of datetime64[us], shape (K,)
        Distinct, in order.
    edges : array of datetime64[us], shape (C,)
        Cell c begins at ``edges[c - 1]``; cell 0 is all that lies before.
    start : datetime64[D]
        The first day that a row may fall on.
    windows : tuple of int
        Lengths in days, in order.
    """

    as_of: np.ndarray
    edges: np.ndarray
    start: np.datetime64
    windows: tuple[int, ...]

    @classmethod
    def of(
        cls, as_of: Sequence[datetime], windows: Collection[int], *, weeks: int = 0, first_row: datetime | None = None
    ) -> Calendar:
        """Cut time for these moments and windows.

        Parameters
        ----------
        as_of : sequence of datetime
            Naive UTC.
        windows : collection of int
            In days.
        weeks : int
            How many weeks back cells must not straddle the edge of a week.
        first_row : datetime or None
            The first moment of all rows, where all of history is wanted; else None.
        """
        moments = np.unique(np.asarray([np.datetime64(moment, "us") for moment in as_of]))
        lengths = tuple(sorted(set(windows)))
        cuts = [moments, *(moments - days * DAY for days in {*lengths, *range(7, 7 * weeks + 1, 7)})]
        start = min(cut.min() for cut in cuts).astype("datetime64[D]")
        if first_row is not None:
            start = min(start, np.datetime64(first_row, "D"))
        first_block = start.astype("int64") // BLOCK_DAYS * BLOCK_DAYS
        blocks = np.arange(first_block, moments.max().astype("datetime64[D]").astype("int64") + 1, BLOCK_DAYS)
        cuts.append(blocks.astype("datetime64[D]").astype("datetime64[us]"))
        return cls(moments, np.unique(np.concatenate(cuts)), start, lengths)

    @property
    def span(self) -> tuple[np.datetime64, np.datetime64]:
        """When rows count: from the first day, before the last as_of."""
        return self.start.astype("datetime64[us]"), self.as_of[-1]

    @property
    def at_midnight(self) -> bool:
        """Whether every edge is a midnight: then a day lies in one cell."""
        return bool(np.all(self.edges == self.edges.astype("datetime64[D]")))

    def days(self) -> ibis.Table:
        """Return one row per day; off midnight, one per piece of a day.

        Columns: ``day``; the piece ``[lo, hi)``; its ``cell``; ``step``, the number of the first as_of at which a row
        of that time can be seen; ``number``, the days since 1970; ``bit``, the day among those of its block.
        """
        midnights = np.arange(self.start, self.as_of[-1].astype("datetime64[D]") + 1).astype("datetime64[us]")
        starts = midnights if self.at_midnight else np.unique(np.concatenate([midnights, self.edges]))
        starts = starts[(starts < self.as_of[-1]) & (starts >= midnights[0])]
        day = starts.astype("datetime64[D]")
        frame = pd.DataFrame(
            {
                "day": day.astype("datetime64[s]"),
                "lo": starts,
                "hi": np.append(starts[1:], self.as_of[-1])[: len(starts)],
                "cell": np.searchsorted(self.edges, starts, side="right").astype("int32"),
                "step": np.searchsorted(self.as_of, starts, side="right").astype("int32"),
                "number": day.astype("int32"),
                "bit": np.left_shift(np.int64(1), day.astype("int64") % BLOCK_DAYS),
            }
        )
        schema = {
            "day": "date",
            "lo": "timestamp(6)",
            "hi": "timestamp(6)",
            "cell": "int32",
            "step": "int32",
            "number": "int32",
            "bit": "int64",
        }
        frame["day"] = frame["day"].dt.date
        return ibis.memtable(frame, schema=schema)

    def cells(self) -> ibis.Table:
        """Return one row per cell: ``cell``, its ``block`` of days and the ``step`` of its rows."""
        blocks = self.edges.astype("datetime64[D]").astype("int64") // BLOCK_DAYS
        frame = pd.DataFrame(
            {
                "cell": np.arange(len(self.edges) + 1, dtype="int32"),
                "block": np.insert(blocks, 0, blocks[0] - 1).astype("int32"),
                "step": np.insert(np.searchsorted(self.as_of, self.edges, side="right"), 0, 0).astype("int32"),
            }
        )
        return ibis.memtable(frame, schema={"cell": "int32", "block": "int32", "step": "int32"})

    def rings(self) -> ibis.Table:
        """Return which cells each as_of sees: ``cell``, ``k``, ``ring``, ``week``, ``week_bit``.

        Ring 0 is the shortest window, ring i is what window i adds to it. ``week`` 0 is the last seven days.
        """
        parts = []
        for k, moment in enumerate(self.as_of):
            seen = (self.edges < moment) & (self.edges >= moment - self.windows[-1] * DAY)
            starts = self.edges[seen]
            age = moment - starts
            limits = np.asarray(self.windows) * DAY
            week = (age - np.timedelta64(1, "us")) // WEEK
            parts.append(
                pd.DataFrame(
                    {
                        "cell": (np.flatnonzero(seen) + 1).astype("int32"),
                        "k": np.full(len(starts), k, dtype="int32"),
                        "ring": np.searchsorted(limits, age, side="left").astype("int32"),
                        "week": week.astype("int32"),
                        "week_bit": np.left_shift(np.int64(1), np.minimum(week, _WEEKS)),
                    }
                )
            )
        schema = {**dict.fromkeys(("cell", "k", "ring", "week"), "int32"), "week_bit": "int64"}
        return ibis.memtable(pd.concat(parts, ignore_index=True), schema=schema)

    def moments(self) -> ibis.Table:
        """Return the as_ofs: ``k`` and ``as_of``."""
        frame = pd.DataFrame({"k": np.arange(len(self.as_of), dtype="int32"), "as_of": self.as_of})
        return ibis.memtable(frame, schema={"k": "int32", "as_of": "timestamp(6)"})
