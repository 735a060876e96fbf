"""Sets of days: how many, and how far apart.

At midnights a day lies in one cell, and the days of a cell are bits of an integer. Where an edge lies inside a day,
days are listed one by one, so that a day of two cells counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
from ibis import _

from partnerml.features._calendar import BLOCK_DAYS, EVER
from partnerml.features._folds import GAP_COLUMNS, Request, bit_count
from partnerml.features._joined import Joined, project
from partnerml.features._rows import Rows


def count_days(rows: Rows, cells: ibis.Table, folds: Sequence[str], names: Sequence[str]) -> ibis.Table:
    """Return folds of cells with some of them, sets of days, as numbers that add up: a day counts at its first step.

    Parameters
    ----------
    rows : Rows
    cells : ibis.Table
    folds : sequence of str
        What is kept, beside ``pid``, ``cell`` and, if late, ``step``.
    names : sequence of str
        Of the folds, the sets of days.
    """
    others = [name for name in folds if name not in names]
    if not rows.late:
        counts = {name: bit_count(cells[name]).cast("int32") for name in names}
        return project(cells, "pid", "cell", *others, **counts)
    if not names:
        return project(cells, "pid", "cell", "step", *others)
    on_time = rows.cells.select("cell", first_step="step")
    late = Joined(cells).add(on_time, on=("cell",), how="inner").select("pid", "cell", "step", "first_step")
    late = late.filter(_.step > _.first_step).drop("first_step")  # few
    earlier = cells.select("pid", "cell", *names, early="step")
    known = late.inner_join(earlier, ["pid", "cell"]).filter(_.early < _.step).group_by("pid", "cell", "step")
    known = known.aggregate(**{f"known_{name}": _[name].bit_or() for name in names})
    joined = Joined(cells).add(known, on=("pid", "cell", "step"))
    new = {}
    for name in names:
        before = joined[f"known_{name}"].fill_null(0)
        new[name] = (bit_count(joined[name].fill_null(0) | before) - bit_count(before)).cast("int32")
    return joined.select("pid", "cell", "step", *others, **new)


def split_days(rows: Rows, requests: Sequence[Request], spine: ibis.Table) -> list[ibis.Table]:
    """Count the days of one series where edges lie inside days: a day of two cells or rings counts once."""
    days = _listed_days(rows, requests[0])
    near = {r.column: r.window for r in requests if r.window != EVER}
    parts = []
    if near:
        rings = rows.seen(days, spine).group_by("slot", "number").aggregate(ring=_.ring.min())
        number = {w: i for i, w in enumerate(rows.calendar.windows)}
        counts = {name: _.count(where=_.ring <= number[w]).cast("int32") for name, w in near.items()}
        parts.append(rings.group_by("slot").aggregate(**counts))
    for ever in (r.column for r in requests if r.window == EVER):
        placed = days if rows.late else days.inner_join(rows.cells.select("cell", "step"), "cell")
        first = placed.group_by("pid", "number").aggregate(step=_.step.min())
        steps = first.group_by("pid", "step").aggregate(new=_.count())
        parts.append(rows.so_far(steps, {ever: _.new.sum().cast("int32")}, spine))
    return parts


def gaps(rows: Rows, requests: Sequence[Request], spine: ibis.Table, *, cells: ibis.Table | None) -> ibis.Table:
    """Fold the gaps between neighbouring active days of one series that lie in each window.

    Parameters
    ----------
    rows : Rows
    requests : sequence of Request
        Of one series.
    spine : ibis.Table
    cells : ibis.Table or None
        With the sets of days, where a day lies in one cell.
    """
    number = {r: rows.calendar.windows.index(r.window) for r in requests}
    if cells is None or not rows.calendar.at_midnight:
        days = _listed_days(rows, requests[0])
    else:
        days = _days_of_sets(rows, cells, requests[0].fold)
    pairs = rows.seen(days, spine).filter(_.ring <= max(number.values()))
    pairs = pairs if rows.sparse else pairs.semi_join(spine, "slot")
    # a day that an edge cuts is in a window if its later part is
    pairs = pairs.group_by("slot", "number").aggregate(ring=_.ring.min())
    before = ibis.window(group_by="slot", order_by="number")
    # what the earlier of two days is in, the later is in too
    between = pairs.mutate(gap=(_.number - _.number.lag(1).over(before)).cast("int64"), ring=_.ring.lag(1).over(before))
    between = between.filter(_.gap.notnull())
    folds: dict[str, Any] = {}
    for r, i in number.items():
        folds.update(zip((f"{r.column}__{name}" for name in GAP_COLUMNS), _gap_folds(_.ring <= i), strict=True))
    return between.group_by("slot").aggregate(**folds)


def _gap_folds(if_: Any) -> tuple[Any, ...]:
    folds = (_.gap.count(where=if_).nullif(0), _.gap.sum(where=if_), (_.gap * _.gap).sum(where=if_))
    return tuple(fold.cast("int64") for fold in (*folds, _.gap.max(where=if_)))


def _listed_days(rows: Rows, request: Request) -> ibis.Table:
    """Return the active days of a series: ``pid``, ``number``, ``cell``; the first ``step`` that sees each, if late."""
    condition = rows.of(request.source, request.kind)
    active = rows.table if condition is None else rows.table.filter(condition)
    return active.group_by("pid", "number", "cell").aggregate(**({"step": _.step.min()} if rows.late else {}))


def _days_of_sets(rows: Rows, cells: ibis.Table, name: str) -> ibis.Table:
    """Return the same from the sets of days of cells."""
    steps = ("step",) if rows.late else ()
    sets = cells.filter(cells[name].notnull()).select("pid", "cell", *steps, days=cells[name])
    sets = sets.inner_join(rows.cells.select("cell", "block"), "cell")
    places = rows.keep(ibis.memtable({"place": range(BLOCK_DAYS)}, schema={"place": "int64"}))
    days = sets.cross_join(places).filter((_.days >> _.place) & 1 == 1)
    days = days.select("pid", "cell", *steps, number=(_.block * BLOCK_DAYS + _.place).cast("int32"))
    return days.group_by("pid", "number", "cell").aggregate(step=_.step.min()) if rows.late else days
