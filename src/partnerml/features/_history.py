"""What partners did before one midnight, put together from stored pieces.

Segments of time are taken in from the midnight backwards, each from the coarsest pieces that no edge cuts. Every piece
is stored twice: by kind, and as totals over the kinds, which have far fewer rows; what is asked for says what is read.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from partnerml.features._calendar import EVER
from partnerml.features._cover import Piece, Segment, Span, needed, outside, segments
from partnerml.features._folded import BLOCK_DAYS, KEYS, TOTALS, WHEN, Columns, counted, merged, taken, without
from partnerml.features._folds import Request
from partnerml.features._sums import Kinds, Sums, Totals, columns

if TYPE_CHECKING:
    from partnerml.features._store import CellStore

Array: TypeAlias = np.ndarray[Any, Any]
# what is read: rows for some sums (None: late rows, for all of them), or no rows where a segment begins
Job: TypeAlias = tuple[Segment | None, Sums | None, Callable[[], Columns | None]]

_AHEAD = 6  # pieces that are read while others are added up
_THREADS = 2


class History:
    """The stored events of some partners, as they were known at a midnight.

    Parameters
    ----------
    store : CellStore
    kinds : Kinds
    requests : sequence of Request
    as_of : int
        The midnight, in days since 1970.
    partner : array of int, shape (n,)
        The numbers of the partners in the store.
    """

    def __init__(
        self, store: CellStore, kinds: Kinds, requests: Sequence[Request], as_of: int, *, partner: Array
    ) -> None:
        self.store, self.requests, self.as_of = store, requests, as_of
        self.index = store.index
        self.windows = sorted({r.window for r in requests if r.window != EVER})
        self.place = np.full(len(store.partners), -1, dtype="int64")
        self.place[partner] = np.arange(len(partner))
        self.as_stored = bool((self.place == np.arange(len(self.place))).all())  # all of them, in their order
        self.sums: list[Sums] = []
        left = list(requests)
        order: tuple[Totals | Kinds, ...] = (*map(Totals, TOTALS), kinds)  # every request to the first that holds it
        for places in order:
            held = [r for r in left if places.hold(r, kinds.activity)]
            left = [r for r in left if r not in held]
            if held:
                self.sums.append(Sums(places, held, self.windows, len(partner)))

    def fold(self, deals: Columns | None) -> dict[str, Any]:
        """Return a column for each request (four for gaps), in the order of the partners.

        Parameters
        ----------
        deals : Columns or None
            Qualifying deals: ``partner`` (by the order of the partners), ``day``, ``n``, ``first``, ``last``, ``bits``.
        """
        ring, late = 0, None
        found: dict[str, Any] = {}
        for segment, sums, rows in _ahead(self._jobs(self._first_day(deals))):
            if segment is None:
                late = rows
            elif sums is not None and rows is not None:
                sums.add(rows, segment)
            else:
                for done in range(ring, segment.ring):
                    found.update(self._read_out(done))
                ring = segment.ring
                self._begin(segment, late, deals)
        for done in range(ring, len(self.windows) + 1):
            found.update(self._read_out(done))
        return {name: found[name] for r in self.requests for name in columns(r)}

    def _read_out(self, ring: int) -> dict[str, Any]:
        return {name: column for sums in self.sums for name, column in sums.read_out(ring).items()}

    def _begin(self, segment: Segment, late: Columns | None, deals: Columns | None) -> None:
        """Begin a segment: with its late rows, and the deals of its days."""
        for sums in self.sums:
            sums.enter(segment.start // BLOCK_DAYS)
            if late is not None:
                rows = counted(_of_days(late, segment), sums.totals)
                sums.add(sums.places.put(rows), segment, repeated=True)
            if deals is not None:
                rows = _of_days(deals, segment)
                sums.add(merged([{**rows, "kind": np.full(len(rows["partner"]), sums.places.deals)}]), segment)

    # --- reading ---

    def _jobs(self, first: int | None) -> Iterator[Job]:
        """Yield what is to be read, in order: the late rows of a block, then its segments and their pieces."""
        weeks = max((r.window // 7 for r in self.requests if r.atom in ("nw", "weeks")), default=0)
        cut = segments(self.as_of, self.windows, weeks=weeks, first=first)
        for block, grouped in itertools.groupby(cut, key=lambda segment: segment.start // BLOCK_DAYS):
            of_block = list(grouped)
            spans = {segment: self.index.spans(segment.start, segment.stop, self.as_of) for segment in of_block}
            ascending = [span for segment in reversed(of_block) for span in spans[segment]]
            names = {name for sums in self.sums for name in sums.names(of_block[0].ring)}
            yield None, None, _later(self._late, block, ascending, sorted(names))
            for segment in of_block:
                yield segment, None, lambda: None
                reading = [sums for sums in self.sums if sums.adds[segment.ring]]
                for span, sums in itertools.product(spans[segment], reading):
                    if span.piece is not None:
                        yield segment, sums, _later(self._piece, span.piece, sums, sorted(sums.names(segment.ring)))

    def _first_day(self, deals: Columns | None) -> int | None:
        """Return the first day with a row, where all of history is wanted."""
        if all(r.window != EVER for r in self.requests):
            return None
        days = [] if self.store.first_day is None else [self.store.first_day]
        return min([*days, *(deals["day"][:1].tolist() if deals else ())], default=None)

    def _piece(self, piece: Piece, sums: Sums, names: Sequence[str]) -> Columns:
        rows = self.store.read(piece, (*KEYS, *names), totals=sums.totals)
        return sums.places.put(self._known(rows))

    def _late(self, block: int, spans: Sequence[Span], names: Sequence[str]) -> Columns | None:
        """Return the late rows that the pieces lack, in order of their days."""
        parts = []
        for part in self.index.late_of(block):
            if needed(part, spans, self.as_of):
                rows = self.store.read(part, (*KEYS, *names, *WHEN))
                parts.append(without(taken(rows, outside(rows, spans, self.as_of)), ("seen", "revision")))
        if not parts:
            return None
        rows = self._known({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        return taken(rows, np.argsort(rows["day"], kind="stable"))

    def _known(self, rows: Columns) -> Columns:
        """Return the rows of the partners, with their order in the place of their numbers."""
        if self.as_stored:
            return rows
        partner = self.place[rows["partner"]]
        return taken({**rows, "partner": partner}, partner >= 0)


def _of_days(rows: Columns, segment: Segment) -> Columns:
    """Return the rows of a segment's days; they are in order of their days."""
    low, high = np.searchsorted(rows["day"], [segment.start, segment.stop])
    return {name: column[low:high] for name, column in rows.items() if name != "day"}


def _later(function: Callable[..., Columns | None], *args: Any) -> Callable[[], Columns | None]:
    return lambda: function(*args)


def _ahead(jobs: Iterable[Job]) -> Iterator[tuple[Segment | None, Sums | None, Columns | None]]:
    """Run jobs on a few threads, some of them ahead, and yield their results in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: collections.deque[tuple[Segment | None, Sums | None, Future[Columns | None]]] = collections.deque()
        left = iter(jobs)
        while True:
            for segment, sums, job in itertools.islice(left, _AHEAD - len(waiting)):
                waiting.append((segment, sums, pool.submit(job)))
            if not waiting:
                return
            segment, sums, result = waiting.popleft()
            yield segment, sums, result.result()
