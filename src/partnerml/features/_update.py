"""One update of the stored cells: what is new is read, folded and put into pieces."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from partnerml.features._cover import LEVELS, Index, LatePart, Piece, Span, completed, needed, outside
from partnerml.features._folded import (
    BLOCK_DAYS,
    DAY_US,
    FOLDS,
    KEYS,
    TOTALS,
    WHEN,
    Columns,
    fold_raw,
    merged,
    taken,
    to_arrow,
    totals,
    without,
)
from partnerml.features._manifest import Shelf, State, date_of, midnight, read_partners, save, texts, write_groups
from partnerml.features._memory import arrow_rows
from partnerml.features._stream import MONEY, seen_at

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

_RECOUNTED_DAYS = 7
_ROWS_AT_ONCE = 2_000_000
_LATE_PARTS = 6  # of a block, before they are put together
_LATE_SHARE = 0.02  # of a block, before it is made again
_LATE_ROWS = 1_000
_NO_LIMIT = 1 << 62


@dataclasses.dataclass(frozen=True)
class UpdateReport:
    """What an update did.

    Attributes
    ----------
    watermark : datetime
        All that was seen before it is stored (naive UTC, a midnight).
    rows_read : int
        Rows of events that were new.
    late_rows : int
        Those of them that were seen on a later day than they happened.
    cells_written : int
        Folded rows, in pieces of all levels and late parts.
    went_back_to : datetime or None
        The midnight from which rows were read again, since the source had changed behind the watermark.
    """

    watermark: datetime
    rows_read: int
    late_rows: int
    cells_written: int
    went_back_to: datetime | None = None


class Update:
    """From one state to the next, which is written at the end of each batch of days.

    Parameters
    ----------
    folder : Path
    eco : Ecosystem
    state : State
    """

    def __init__(self, folder: Path, eco: Ecosystem, state: State) -> None:
        self.folder, self.eco = folder, eco
        self.shelf = Shelf(folder)
        self.state = dataclasses.replace(state, revision=state.revision + 1)
        self.index = Index(state.pieces, state.late)
        self.partners = read_partners(folder, state)
        self.grown = False  # there are partners that no file holds
        self.made: dict[Piece | LatePart, Columns] = {}  # not on disk yet
        self.numbers = itertools.count()
        self.read = self.late = self.written = 0

    def run(self, until: int) -> UpdateReport:
        """Take in all that was seen before a day."""
        mark, back = self.state.watermark, None
        stop = until if mark is None else max(mark, min(until, mark + 1))
        # the last week is read together with the first new day: what costs is to find the place
        recent = () if mark is None else new_rows(self.eco, mark - _RECOUNTED_DAYS, stop)
        now, *parts = self._found([self.eco.table("partners").select("partner_id"), *recent])
        known, new = self._number_partners(texts(now["partner_id"]))
        if mark is not None:
            rows = pa.concat_tables(parts)
            seen = _micros(rows["seen"]) // DAY_US
            partner = pc.index_in(rows["partner_id"], value_set=self.partners)
            back = self._changed_since(partner, seen, known, mark)
            if back is not None:
                self._go_back(back)
            if new:
                # a partner that was not in the tables had no rows that count; now all of them do
                self._take_in(self._rows_of(new, back or mark), back or mark, back or mark)
            if back is not None or until > mark:
                fresh = pa.array(seen >= (back or mark))
                self._take_in(self._folded(rows.filter(fresh), partner.filter(fresh)), back or mark, stop)
        end = until if mark is None else max(until, mark)
        for start, stop in self._batches(end):
            since = None if self.state.watermark is None else start
            self._take_in(self._folded(self._fetched(new_rows(self.eco, since, stop))), start, stop)
        return UpdateReport(midnight(end), self.read, self.late, self.written, None if back is None else midnight(back))

    # --- the source ---

    def _number_partners(self, now: pa.Array) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
        """Give numbers to new partners; return which numbers were known before and are still there, and who is new."""
        number = pc.index_in(now, value_set=self.partners)
        new = tuple(sorted(now.filter(number.is_null()).to_pylist()))
        known = np.zeros(len(self.partners) + len(new), dtype=bool)
        known[number.drop_null().to_numpy()] = True
        if new:
            self.partners = pa.concat_arrays([self.partners, pa.array(new, pa.string())])
            self.grown = True
        return known, new

    def _changed_since(
        self, number: pa.ChunkedArray, seen: np.ndarray[Any, Any], known: np.ndarray[Any, Any], watermark: int
    ) -> int | None:
        """Return the first day of the last week before the watermark whose rows are no longer those stored."""
        since = watermark - _RECOUNTED_DAYS
        # new partners count neither here nor there
        kept = np.asarray(number.is_valid())
        kept[kept] = known[number.drop_null().to_numpy()]
        found = _by_day(seen[kept], np.ones(int(kept.sum())), since)
        stored = np.zeros(_RECOUNTED_DAYS, dtype="int64")
        for rows_of_day, seen_of_day in self._stored(since, watermark):
            kept = known[rows_of_day["partner"]]
            stored += _by_day(seen_of_day[kept], rows_of_day["n"][kept], since)
        differ = np.flatnonzero(found != stored)
        return since + int(differ[0]) if len(differ) else None

    def _stored(self, since: int, until: int) -> Iterator[tuple[Columns, np.ndarray[Any, Any]]]:
        """Yield what is stored of the days of seeing ``[since, until)``, with the day of each row."""
        for day in range(since, until):
            piece = self.index.piece(1, day, day + 1)
            if piece is not None:
                rows = self.shelf.read(piece, ("partner", "n"))
                yield rows, np.full(len(rows["n"]), day)
        for part in self.index.late:
            if part.last_seen >= since:
                rows = self.shelf.read(part, ("partner", "n", "seen"))
                yield rows, rows["seen"]

    def _go_back(self, day: int) -> None:
        """Forget what was seen on a day or after it."""
        _logger.warning(
            "events changed behind the watermark %s of the stored cells: reading again from %s on",
            date_of(self.state.watermark or 0),
            date_of(day),
        )
        kept = Index(piece for piece in self.index.pieces if piece.seal <= day)
        for part in self.index.late:
            if part.last_seen < day:
                kept.add_late(part)
            elif part.first_seen < day:
                rows = self.shelf.read(part, (*KEYS, *FOLDS, *WHEN))
                self._keep_late(kept, part.block, taken(rows, rows["seen"] < day))
        self.index = kept
        self.state = dataclasses.replace(self.state, watermark=day)

    def _batches(self, end: int) -> Iterator[tuple[int, int]]:
        """Cut the days of seeing that are new into batches of bounded size."""
        start = self.state.watermark
        if start is not None and start >= end:
            return
        counts = self._fetched(
            rows.group_by(day=_.seen.date()).aggregate(n=_.count()) for rows in new_rows(self.eco, start, end)
        )
        counts = counts.group_by("day").aggregate([("n", "sum")]).rename_columns(["day", "n"]).sort_by("day")
        days, sizes = counts["day"].cast(pa.int32()).to_pylist(), counts["n"].to_pylist()
        if start is None:
            start = min(days, default=end - 1)
        size = 0
        for day, n in zip(days, sizes, strict=True):
            if size and (size + n > _ROWS_AT_ONCE or day // BLOCK_DAYS != start // BLOCK_DAYS):
                yield start, day
                start, size = day, 0
            size += n
        yield start, end

    def _rows_of(self, partners: Sequence[str], until: int) -> Columns:
        """Return all rows of some partners that were seen before a day."""
        ids = arrow_rows(pa.table({"partner_id": pa.array(partners, pa.string())}))
        parts = (part.semi_join(ids, "partner_id") for part in new_rows(self.eco, None, until))
        rows = self._folded(self._fetched(parts))
        rows["revision"] = np.full(len(rows["kind"]), self.state.revision, dtype="int32")
        return rows

    def _fetched(self, parts: Iterable[ibis.Table]) -> pa.Table:
        return pa.concat_tables(self._found(list(parts)))

    def _found(self, tables: Sequence[ibis.Table]) -> list[pa.Table]:
        backend = self.eco.backend
        if backend.name == "duckdb":
            return backend.to_arrow_together(tables)
        return [backend.to_pyarrow(table) for table in tables]

    def _folded(self, table: pa.Table, partner: pa.ChunkedArray | None = None) -> Columns:
        """Fold rows to days; the numbers of their partners may be known already."""
        if partner is None:
            partner = pc.index_in(table["partner_id"], value_set=self.partners)
        table = table.filter(partner.is_valid())
        partner = partner.drop_null().to_numpy()
        types = table["event_type"].cast(pa.string())
        new = sorted(set(pc.unique(types).to_pylist()) - set(self.state.types))
        self.state = dataclasses.replace(self.state, types=(*self.state.types, *new))
        number = pc.index_in(types, value_set=pa.array(self.state.types, pa.string())).to_numpy()
        self.read += len(number)
        return fold_raw(
            kind=2 * number + table["own"].to_numpy(),
            partner=partner,
            moment=_micros(table["moment"]),
            seen=_micros(table["seen"]),
            value=table["value"],
        )

    # --- the pieces ---

    def _take_in(self, rows: Columns, start: int, stop: int) -> None:
        """Make the pieces and late parts of what was seen in ``[start, stop)``, and write them."""
        on_time = (rows["day"] == rows["seen"]) & (rows["revision"] == 0)
        late = taken(rows, ~on_time)
        self.late += int(late["n"].sum())
        daily = taken(rows, on_time)
        by_day = np.argsort(daily["day"], kind="stable")
        daily = taken(daily, by_day)
        days, starts = np.unique(daily["day"], return_index=True)
        for day, low, high in zip(days, starts, np.append(starts, len(by_day))[1:], strict=True):
            self._add(1, int(day), int(day) + 1, without(taken(daily, np.arange(low, high)), WHEN))
        for block in np.unique(late["day"] // BLOCK_DAYS):
            self._keep_late(self.index, int(block), taken(late, late["day"] // BLOCK_DAYS == block))
        for level, day in completed(start, stop):
            finer = LEVELS[LEVELS.index(level) + 1 :]
            self._add(level, day, day + level, self._gathered(day, day + level, day + level, finer))
        self._renew(stop)
        firsts = [] if self.state.first is None else [self.state.first]
        firsts += [int(rows["day"].min())] if len(rows["day"]) else []
        self._write(dataclasses.replace(self.state, watermark=stop, first=min(firsts, default=None)))

    def _add(self, level: int, start: int, seal: int, rows: Columns) -> None:
        if len(rows["kind"]):
            piece = Piece(level, start, seal, self.state.revision, len(rows["kind"]), "", next(self.numbers))
            self.made[piece] = rows
            self.index.add(piece)

    def _keep_late(self, index: Index, block: int, rows: Columns) -> None:
        """Add late rows of a block; many small parts become one, up to the last time the block was made again."""
        sealed = index.piece(BLOCK_DAYS, block * BLOCK_DAYS, 1 << 30)
        seal = 0 if sealed is None else sealed.seal
        parts = index.late_of(block)
        small = [part for part in parts if part.first_seen >= seal]
        if len(small) >= _LATE_PARTS:
            names = (*KEYS, *FOLDS, *WHEN)
            rows = merged([*(self._columns(part, names) for part in small), rows], by=(*KEYS, *WHEN))
            for part in small:
                self.made.pop(part, None)
            index.replace_late(block, [part for part in parts if part not in small])
        if len(rows["kind"]):
            seen, revision = rows["seen"], int(rows["revision"].max())
            part = LatePart(block, int(seen.min()), int(seen.max()), revision, len(seen), "", next(self.numbers))
            self.made[part] = rows
            index.add_late(part)

    def _renew(self, stop: int) -> None:
        """Make blocks again of which many rows came late."""
        for block in sorted({part.block for part in self.index.late}):
            start, end = block * BLOCK_DAYS, (block + 1) * BLOCK_DAYS
            if end > stop:
                continue
            piece = self.index.piece(BLOCK_DAYS, start, stop)
            span = Span(start, end, piece)
            rows = 0 if piece is None else piece.rows
            late = sum(p.rows for p in self.index.late_of(block) if p.first_seen >= span.seal)
            if late > max(_LATE_ROWS, _LATE_SHARE * rows):
                self._add(BLOCK_DAYS, start, stop, self._gathered(start, end, stop, LEVELS))

    def _gathered(self, start: int, stop: int, as_of: int, levels: Sequence[int]) -> Columns:
        """Return the rows of days within one block as they were known at a midnight, one per kind and partner."""
        names = (*KEYS, *FOLDS)
        spans = self.index.spans(start, stop, as_of, levels=levels)
        parts = [self._columns(span.piece, names) for span in spans if span.piece is not None]
        for part in self.index.late_of(start // BLOCK_DAYS):
            if needed(part, spans, as_of):
                rows = self._columns(part, (*names, *WHEN))
                parts.append(without(taken(rows, outside(rows, spans, as_of)), WHEN))
        return merged(parts) if parts else {name: np.empty(0, dtype="int64") for name in names}

    def _columns(self, part: Piece | LatePart, names: Sequence[str]) -> Columns:
        made = self.made.get(part)
        return self.shelf.read(part, names) if made is None else {name: made[name] for name in names}

    def _write(self, state: State) -> None:
        """Write what was made, then the manifest that names it."""
        placed = self._write_rows()
        if self.grown:
            name = write_groups(self.folder, [pa.record_batch({"partner_id": self.partners})], "partners")
            state, self.grown = dataclasses.replace(state, partners=name), False
        pieces = tuple(sorted(placed.get(piece, piece) for piece in self.index.pieces))
        late = tuple(sorted(placed.get(part, part) for part in self.index.late))
        self.state = dataclasses.replace(state, pieces=pieces, late=late)
        save(self.folder, self.state)
        self.index, self.made = Index(pieces, late), {}

    def _write_rows(self) -> dict[Any, Any]:
        """Write what was made as groups of rows of one file; return where each of them lies now."""
        if not self.made:
            return {}
        groups: list[Columns] = []
        placed: dict[Any, dict[str, Any]] = {}
        for part, rows in self.made.items():
            sums = _totals(part, rows)
            placed[part] = {"group": len(groups), **({"totals": len(sums)} if sums else {})}
            groups += [rows, *sums]
            self.written += len(rows["kind"])
        name = write_groups(self.folder, [to_arrow(rows) for rows in groups], "cells")
        return {part: dataclasses.replace(part, file=name, **place) for part, place in placed.items()}


def new_rows(eco: Ecosystem, since: int | None, until: int) -> tuple[ibis.Table, ...]:
    """Return the events that were first seen in ``[since, until)``, days since 1970; None: at any time before.

    Columns: ``partner_id``, ``event_type``, ``own`` (the partner itself acted), ``moment``, ``seen``, ``value``. There
    are two tables and not their union, of which an engine would keep all rows aside to read them twice.
    """
    events = eco.table("events")
    low = None if since is None else midnight(since)
    high = midnight(until)
    lag = eco.lag("events")
    if not eco.has("events", "recorded_at"):
        return (_selected(eco, _between(eco, events, "occurred_at", None if low is None else low - lag, high - lag)),)
    recorded = _between(eco, events, "recorded_at", low, high)
    recorded = recorded.filter(recorded.occurred_at <= recorded.recorded_at)
    # without a time of recording, or with one that cannot be: the moment or the lag says when it was seen
    others = _between(eco, events, "occurred_at", None if low is None else low - lag, high)
    others = others.filter(~(others.occurred_at <= others.recorded_at).fill_null(False))
    return _selected(eco, recorded), _between(eco, _selected(eco, others), "seen", low, high)


def _between(eco: Ecosystem, rows: ibis.Table, column: str, low: datetime | None, high: datetime) -> ibis.Table:
    """Return the rows of a span of time, so that the files' statistics tell which of their parts are not read."""
    rows = rows.filter(rows[column] < ibis.literal(high, type="timestamp(6)"))
    rows = rows if low is None else rows.filter(rows[column] >= ibis.literal(low, type="timestamp(6)"))
    # DuckDB asks the statistics about conditions on one column alone; the limit keeps others from joining them
    return rows.limit(_NO_LIMIT) if eco.backend.name == "duckdb" else rows


def _selected(eco: Ecosystem, events: ibis.Table) -> ibis.Table:
    own = events.actor.fill_null("partner") == "partner" if eco.has("events", "actor") else ibis.literal(True)
    value = events.value if eco.has("events", "value") else ibis.null("float64")
    return events.select(
        "partner_id",
        "event_type",
        own=own,
        moment=events.occurred_at,
        seen=seen_at(eco, "events", events, "occurred_at"),
        value=value.cast(MONEY),
    )


def _totals(part: Piece | LatePart, rows: Columns) -> list[Columns]:
    """Return the totals that are stored with a piece."""
    if isinstance(part, LatePart):
        return []
    differ = bool((rows["kind"] % 2 == 0).any())
    return [totals(rows, kind) for kind in (TOTALS if differ else TOTALS[:1])]


def _by_day(day: np.ndarray[Any, Any], n: np.ndarray[Any, Any], since: int) -> np.ndarray[Any, Any]:
    """Return the sums of n for each of the days that are counted again."""
    kept = (day >= since) & (day < since + _RECOUNTED_DAYS)
    return np.bincount(day[kept] - since, weights=n[kept], minlength=_RECOUNTED_DAYS).astype("int64")


def _micros(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())
