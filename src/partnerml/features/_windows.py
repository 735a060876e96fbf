"""Windows of every row of the spine in one pass, exact and never looking ahead.

1. Each partner's rows are folded into cells (`Calendar`), one set of folds for each (partner, cell, step), where step
   is the first as_of at which a row can be seen: a row that was recorded late keeps a fold of its own.
2. Cells are folded into disjoint rings: ring 0 = the shortest window, ring i = what window i adds to it.
3. Window i = ring 0 + ... + ring i. Nothing is subtracted, so everything that can be put together works (`ATOMS`).

What reaches back for ever is a running fold over the steps instead, since what has been seen stays seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ibis
from ibis import _

from partnerml.features._calendar import EVER, Calendar
from partnerml.features._days import count_days, gaps, split_days
from partnerml.features._folds import ATOMS, FOLDS, GAP_COLUMNS, Request
from partnerml.features._joined import Joined, project
from partnerml.features._rows import Rows, bits


@dataclasses.dataclass(frozen=True)
class Windows:
    """The spine with what was asked for beside it; nothing is computed until the numbers are selected.

    Attributes
    ----------
    table : ibis.Table or Joined
        All columns of the spine, and columns of its own.
    numbers : mapping of Request to ibis.Value
        Over the columns of `table`.
    gaps : mapping of Request to mapping of str to ibis.Value
        For each request for gaps: ``m``, ``s``, ``q`` and ``max``.
    """

    table: ibis.Table | Joined
    numbers: Mapping[Request, Any]
    gaps: Mapping[Request, Mapping[str, Any]]


def windows(rows: Rows, requests: Collection[Request], *, spine: ibis.Table) -> Windows:
    """Return the numbers of the requests for every row of the spine.

    Parameters
    ----------
    rows : Rows
    requests : collection of Request
        Their windows are among those of the calendar.
    spine : ibis.Table
        ``pid``, ``k`` (the number of the as_of) and ``slot`` (both in one integer); other columns stay.
    """
    ordered = sorted(set(requests))
    between = [r for r in ordered if r.atom == "gaps"]
    # where edges lie inside days, the days of cells do not add up
    split = [r for r in ordered if r.atom == "days" and not rows.calendar.at_midnight]
    plain = [r for r in ordered if r not in between and r not in split]
    near = [r for r in plain if r.window != EVER]
    ever = [r for r in plain if r.window == EVER]
    table = Joined(spine)
    folded = [*plain, *(between if rows.calendar.at_midnight else ())]
    cells = _cells(rows, folded) if folded else None
    if cells is not None and plain:
        for i, ring in _rings(rows, cells, near, spine) if near else ():
            table.add(ring, suffix=f"__ring{i}")
        if ever:
            table.add(_ever(rows, cells, ever, spine))
    for of_series in _by_series(split):
        for part in split_days(rows, of_series, spine):
            table.add(part)
    for of_series in _by_series(between):
        table.add(gaps(rows, of_series, spine, cells=cells))
    numbers = _added(table, near, rows.calendar)
    for r in (*ever, *split):
        atom = ATOMS[r.atom]
        numbers[r] = atom.value(table[r.column] if atom.empty is None else table[r.column].fill_null(atom.empty))
    parts = {r: {name: table[f"{r.column}__{name}"] for name in GAP_COLUMNS} for r in between}
    return Windows(table, MappingProxyType(numbers), MappingProxyType(parts))


def _by_series(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    for series in sorted({r.series for r in requests}):
        yield [r for r in requests if r.series == series]


def _added(table: Joined, requests: Sequence[Request], calendar: Calendar) -> dict[Request, Any]:
    """Add rings up to windows, each window from the one before it: Ibis then compiles each sum once."""
    so_far: dict[tuple[str, int], Any] = {}
    for r in requests:
        atom = ATOMS[r.atom]
        for i in range(calendar.windows.index(r.window) + 1):
            if (r.series, i) in so_far:
                continue
            ring = table[f"{r.series}__ring{i}"]
            ring = ring if atom.empty is None else ring.fill_null(atom.empty)
            so_far[r.series, i] = ring if i == 0 else atom.add(so_far[r.series, i - 1], ring)
    return {r: ATOMS[r.atom].value(so_far[r.series, calendar.windows.index(r.window)]) for r in requests}


def _cells(rows: Rows, requests: Sequence[Request]) -> ibis.Table:
    """Fold rows to (partner, cell, step): each fold, with ``pid``, ``cell`` and ``step`` if late."""
    folds = {r.fold: FOLDS[r.fold.partition("__")[0]](rows.of(r.source, r.kind)) for r in requests}
    cell, step = (bits(len(rows.calendar.edges) + 1), bits(len(rows.calendar.as_of)) if rows.late else 0)
    key = (rows.table.pid.cast("int64") << cell) | rows.table.cell
    # one integer as the key: a third of the time of three columns
    key = (key << step) | rows.table.step if rows.late else key
    folded = rows.table.group_by(key=key).aggregate(**folds)
    parts = {"pid": folded.key >> (cell + step), "cell": (folded.key >> step) & (2**cell - 1)}
    if rows.late:
        parts["step"] = folded.key & (2**step - 1)
    return rows.keep(project(folded, *folds, **{name: part.cast("int32") for name, part in parts.items()}))


def _rings(
    rows: Rows, cells: ibis.Table, requests: Sequence[Request], spine: ibis.Table
) -> Iterator[tuple[int, ibis.Table]]:
    """Fold cells to the rings of each row of the spine; yield the number of each ring and what is in it.

    A join for each ring takes a quarter of the time of one aggregation with a condition for each column.
    """
    ring = bits(len(rows.calendar.windows))
    turns = [cells.filter(cells.pid % rows.turns == i) for i in range(rows.turns)] if rows.turns > 1 else [cells]
    parts = []
    for turn in turns:
        pairs = rows.seen(_counted(rows, turn, requests), spine)
        folds = {r.series: ATOMS[r.atom].merge(ATOMS[r.atom].of_cell(pairs[r.fold], pairs)) for r in requests}
        folded = pairs.group_by(key=(pairs.slot << ring) | pairs.ring).aggregate(**folds)
        number = (folded.key & (2**ring - 1)).cast("int8")
        parts.append(project(folded, *folds, slot=folded.key >> ring, ring=number))
    rings = rows.keep(*parts)
    for i, window in enumerate(rows.calendar.windows):
        if any(r.window >= window for r in requests):
            yield i, rings.filter(rings.ring == i)


def _counted(rows: Rows, cells: ibis.Table, requests: Sequence[Request]) -> ibis.Table:
    """Return the folds of the requests, with sets of days as numbers that add up."""
    folds = sorted({r.fold for r in requests})
    return count_days(rows, cells, folds, sorted({r.fold for r in requests if r.atom == "days"}))


def _ever(rows: Rows, cells: ibis.Table, requests: Sequence[Request], spine: ibis.Table) -> ibis.Table:
    """Fold cells to the steps at which they can be seen, and run over the steps."""
    cells = _counted(rows, cells, requests)
    folds = sorted({r.fold for r in requests})
    if not rows.late:
        placed = Joined(cells).add(rows.cells.select("cell", "step"), on=("cell",), how="inner")
        cells = placed.select("pid", "step", *folds)
    merges = {r: ATOMS[r.atom].merge for r in requests}
    steps = cells.group_by("pid", "step").aggregate(**{r.fold: merge(cells[r.fold]) for r, merge in merges.items()})
    return rows.so_far(steps, {r.column: merge(_[r.fold]) for r, merge in merges.items()}, spine)
