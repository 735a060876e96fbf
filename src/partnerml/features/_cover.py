"""Which stored pieces make up a span of days, as it was known at a midnight.

Days are numbered from 1970. A *piece* holds the folded rows of an aligned span of 1, 4, 12 or 60 days, as they were
known at its *seal*: the end of its span, or later if it was made again. What came in after the seal lies in *late*
parts, one row for each day it happened and day it was seen. So any midnight can be put together exactly from the
coarsest pieces that no window edge cuts, and the late rows that they do not hold yet.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from partnerml.features._folded import BLOCK_DAYS, Columns

LEVELS = (BLOCK_DAYS, 12, 4, 1)  # days of a piece; each divides the one before it


@dataclasses.dataclass(frozen=True, order=True)
class Piece:
    """Folded rows of ``[start, start + level)`` that were seen before `seal`; one per partner and kind.

    Attributes
    ----------
    level, start, seal : int
        In days.
    revision : int
        The update that made it; it holds no row that was added in a later one.
    rows : int
    file : str
        Name of the file.
    group : int
        Number of its group of rows there.
    totals : int
        How many groups with totals over all event types follow it: two where some rows are not the partner's own,
        else one for both.
    """

    level: int
    start: int
    seal: int
    revision: int
    rows: int
    file: str
    group: int
    totals: int = 0


@dataclasses.dataclass(frozen=True, order=True)
class LatePart:
    """Rows that happened in a block and were seen on a later day: one per partner, kind, day and day seen.

    Attributes
    ----------
    block : int
        Number of the block of sixty days.
    first_seen, last_seen : int
        Range of the days on which they were seen.
    revision : int
        The largest number of an update that added rows seen before its own time (of partners that are new); 0 if none.
    rows : int
    file : str
    group : int
    """

    block: int
    first_seen: int
    last_seen: int
    revision: int
    rows: int
    file: str
    group: int


class Segment(NamedTuple):
    """Days that no edge cuts: ``[start, stop)`` in one ring, one week and one block."""

    start: int
    stop: int
    ring: int
    week: int


class Span(NamedTuple):
    """A part of a segment: an aligned span, the piece that holds it (None: nothing was stored), and its seal."""

    start: int
    stop: int
    piece: Piece | None

    @property
    def seal(self) -> int:
        """From which day on rows of this span are late."""
        return self.stop if self.piece is None else self.piece.seal

    @property
    def revision(self) -> int:
        """The last update whose rows it holds."""
        return 0 if self.piece is None else self.piece.revision


def aligned(start: int, stop: int, *, levels: Sequence[int] = LEVELS) -> Iterator[tuple[int, int]]:
    """Yield (level, start) of the coarsest aligned spans that make up ``[start, stop)``, in order."""
    day = start
    while day < stop:
        level = next(level for level in levels if day % level == 0 and day + level <= stop)
        yield level, day
        day += level


def completed(since: int, until: int) -> Iterator[tuple[int, int]]:
    """Yield (level, start) of the spans of more than a day that end in ``(since, until]``, finer ones first."""
    for level in reversed(LEVELS[:-1]):
        for end in range(since // level * level + level, until + 1, level):
            yield level, end - level


def segments(as_of: int, windows: Sequence[int], *, weeks: int, first: int | None) -> list[Segment]:
    """Cut time before a midnight at the edges of windows, of weeks and of blocks; the latest segment comes first.

    Parameters
    ----------
    as_of : int
        The midnight that begins this day.
    windows : sequence of int
        Lengths in days, in order. Ring i is what window i adds to those before it; after the last comes all else.
    weeks : int
        How many weeks back no segment may straddle the edge of a week.
    first : int or None
        The first day with rows, where all of history is wanted.
    """
    oldest = as_of - windows[-1] if windows else as_of
    oldest = oldest if first is None else min(oldest, first)
    cuts = {oldest, as_of, *(as_of - days for days in windows), *(as_of - 7 * week for week in range(1, weeks + 1))}
    cuts.update(range(oldest // BLOCK_DAYS * BLOCK_DAYS, as_of, BLOCK_DAYS))
    edges = sorted((cut for cut in cuts if cut >= oldest), reverse=True)
    found = []
    for stop, start in itertools.pairwise(edges):
        ring = sum(1 for days in windows if start < as_of - days)
        found.append(Segment(start, stop, ring, (as_of - 1 - start) // 7))
    return found


class Index:
    """The pieces and late parts of a store, by where they lie.

    Parameters
    ----------
    pieces : iterable of Piece
    late : iterable of LatePart
    """

    def __init__(self, pieces: Iterable[Piece] = (), late: Iterable[LatePart] = ()) -> None:
        self._pieces: dict[tuple[int, int], list[Piece]] = {}
        self._late: dict[int, list[LatePart]] = {}
        for piece in pieces:
            self.add(piece)
        for part in late:
            self.add_late(part)

    @property
    def pieces(self) -> list[Piece]:
        """All pieces, in order."""
        return sorted(piece for made in self._pieces.values() for piece in made)

    @property
    def late(self) -> list[LatePart]:
        """All late parts, in order."""
        return sorted(part for parts in self._late.values() for part in parts)

    def add(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.setdefault((piece.level, piece.start), []).append(piece)

    def add_late(self, part: LatePart) -> None:
        """Add a late part."""
        self._late.setdefault(part.block, []).append(part)

    def replace_late(self, block: int, parts: Sequence[LatePart]) -> None:
        """Put these late parts in the place of all those of a block."""
        self._late[block] = list(parts)

    def late_of(self, block: int) -> list[LatePart]:
        """Return the late parts of a block."""
        return self._late.get(block, [])

    def piece(self, level: int, start: int, as_of: int) -> Piece | None:
        """Return the latest piece of a span that holds nothing that was seen on `as_of` or after it."""
        usable = [piece for piece in self._pieces.get((level, start), ()) if piece.seal <= as_of]
        return max(usable, key=lambda piece: (piece.seal, piece.revision), default=None)

    def spans(self, start: int, stop: int, as_of: int, *, levels: Sequence[int] = LEVELS) -> list[Span]:
        """Return what makes up ``[start, stop)`` as it was known at a midnight not before `stop`."""
        return [
            Span(day, day + level, self.piece(level, day, as_of)) for level, day in aligned(start, stop, levels=levels)
        ]

    def files(self) -> set[str]:
        """Return the names of all files that hold something."""
        return {piece.file for piece in self.pieces} | {part.file for part in self.late}


def needed(part: LatePart, spans: Sequence[Span], as_of: int) -> bool:
    """Whether a late part can hold rows that these spans lack and that were seen before a midnight."""
    if part.first_seen >= as_of:
        return False
    return any(part.last_seen >= span.seal or part.revision > span.revision for span in spans)


def outside(rows: Columns, spans: Sequence[Span], as_of: int) -> np.ndarray[Any, Any]:
    """Return which late rows lie in the spans, were seen before a midnight, and are not in the spans' pieces."""
    day = rows["day"]
    inside = (day >= spans[0].start) & (day < spans[-1].stop) & (rows["seen"] < as_of)
    starts = np.asarray([span.start for span in spans])
    place = np.clip(np.searchsorted(starts, day, side="right") - 1, 0, None)
    seal = np.asarray([span.seal for span in spans])[place]
    revision = np.asarray([span.revision for span in spans])[place]
    return np.asarray(inside & ((rows["seen"] >= seal) | (rows["revision"] > revision)))
