"""Windows of every row of the spine in one pass, exact and never looking ahead.

1. Each partner's rows are folded into cells (`Calendar`), one set of sums for each (partner, cell, step), where step
   is the first as_of at which a row can be seen: a row that was recorded late keeps a fold of its own.
2. Cells are folded into disjoint rings: ring 0 = the shortest window, ring i = what window i adds to it.
3. Window i = ring 0 + ... + ring i. Nothing is subtracted, so every mergeable fold works: counts, sums, first and
   last moments, and sets of days or types as bits of an integer.

What reaches back for ever is a running fold over the steps instead, since what has been seen stays seen.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import ibis
from ibis import _

from partnerml.features._calendar import EVER, Calendar
from partnerml.features._stream import Codes, Stream


class Request(NamedTuple):
    """One number for each row of the spine.

    Parameters
    ----------
    atom : str
        ``n`` rows, ``v`` sum of values, ``last`` and ``first`` moment, ``days`` distinct UTC dates, ``types``
        distinct kinds, ``nw`` sum over the rows of the week's number (0 = the last seven days), ``gaps`` between
        active days: their number, sum, sum of squares and maximum in four columns.
    source, kind : str
        The rows it is about.
    window : int
        In days; `EVER` for all of history.
    """

    atom: str
    source: str
    kind: str
    window: int

    @property
    def column(self) -> str:
        """Name of its column."""
        return f"{self.series}__{self.window}"

    @property
    def series(self) -> str:
        """Name of what is folded, whatever the window."""
        return "__".join((self.atom, self.source, self.kind))


class _Fold(NamedTuple):
    """How rows become a cell, cells a ring, rings a window, and steps a history."""

    rows: Callable[[Any], Any]  # given the condition on a row
    merge: Callable[[Any], Any]  # given a column
    add: Callable[[Any, Any], Any]  # given the window so far and the ring before it
    empty: int | None  # what no rows fold to


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def bit_count(bits: int) -> int:  # type: ignore[empty-body]
    """Return the number of bits that are set."""


def _count(if_: Any) -> Any:
    # whole numbers add up exactly as float64, in any order; DuckDB would sum integers to 128 bits, which is slower
    return _.count(where=if_).cast("float64")


_FOLDS: Mapping[str, _Fold] = MappingProxyType(
    {
        "n": _Fold(_count, lambda column: column.sum(), operator.add, 0),
        "nw": _Fold(_count, lambda column: column.sum(), operator.add, 0),
        "v": _Fold(lambda if_: _.value.sum(where=if_), lambda column: column.sum(), operator.add, 0),
        "last": _Fold(lambda if_: _.moment.max(where=if_), lambda column: column.max(), ibis.coalesce, None),
        "first": _Fold(lambda if_: _.moment.min(where=if_), lambda column: column.min(), ibis.least, None),
        "days": _Fold(lambda if_: _.bit.bit_or(where=if_), lambda column: column.sum(), operator.add, 0),
        "types": _Fold(lambda if_: _.type_bit.bit_or(where=if_), lambda column: column.bit_or(), operator.or_, 0),
    }
)
GAP_COLUMNS = ("m", "s", "q", "max")


def bits(n: int) -> int:
    """Return how many bits hold the numbers below n."""
    return max(n - 1, 1).bit_length()


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of the stream with the number of their partner, their cell and their step.

    Attributes
    ----------
    table : ibis.Table
        ``pid``, ``cell``, ``number`` (of the day), ``moment``, ``code``, ``qualifies``, ``value``, ``bit`` (of the
        day), ``type_bit``; ``step`` if some row can be seen later than it happened.
    late : bool
    calendar : Calendar
    codes : Codes
    """

    table: ibis.Table
    late: bool
    calendar: Calendar
    codes: Codes

    @classmethod
    def place(cls, stream: Stream, *, partners: ibis.Table, calendar: Calendar, codes: Codes) -> Rows:
        """Find the partner, the cell and the step of each row that some as_of can see.

        Parameters
        ----------
        stream : Stream
        partners : ibis.Table
            ``partner_id`` and its number ``pid``; rows of other partners are left out.
        calendar : Calendar
        codes : Codes
        """
        last = ibis.literal(calendar.as_of[-1].item(), type="timestamp(6)")
        rows = stream.table.filter(_.seen_at < last).mutate(day=_.moment.date())
        rows = rows.inner_join(partners.select("partner_id", "pid"), "partner_id")
        days = calendar.days()
        rows = _on_day(rows, days.drop("step"), "moment", calendar.at_midnight)
        kept = ["pid", "cell", "number", "moment", "code", "qualifies", "value", "bit", "type_bit"]
        if stream.late:
            seen = days.select(seen_day="day", lo="lo", hi="hi", step="step")
            rows = _on_day(rows.mutate(seen_day=_.seen_at.date()), seen, "seen_at", calendar.at_midnight)
            kept.append("step")
        # only events have a bit of their own; what comes after them in the codes must merely not overflow
        type_bit = ibis.literal(1, type="int64") << ibis.least(rows.code, codes.other).cast("int64")
        return cls(rows.mutate(type_bit=type_bit).select(*kept), stream.late, calendar, codes)

    def of(self, source: str, kind: str) -> Any:
        """Return the condition on a row to belong to a series."""
        if source == "activity":
            return _.qualifies
        codes = self.codes.of(source, kind)
        return _.code == codes[0] if len(codes) == 1 else _.code.between(codes[0], codes[-1])

    def seen(self, folded: ibis.Table) -> ibis.Table:
        """Pair folded rows with every as_of that sees them in its longest window."""
        pairs = folded.inner_join(self.calendar.rings(), "cell")
        pairs = pairs.filter(_.step <= _.k) if self.late else pairs
        return pairs.mutate(slot=slot(_.pid, _.k, self.calendar))


def slot(pid: Any, k: Any, calendar: Calendar) -> Any:
    """Return the number of a row of the spine: partner and as_of in one integer."""
    return (pid.cast("int64") << bits(len(calendar.as_of))) | k


def _on_day(rows: ibis.Table, days: ibis.Table, moment: str, at_midnight: bool) -> ibis.Table:
    joined = rows.inner_join(days, days.columns[0])
    if not at_midnight:
        joined = joined.filter((joined[moment] >= joined.lo) & (joined[moment] < joined.hi))
    return joined.drop("lo", "hi")


@dataclasses.dataclass(frozen=True)
class Windows:
    """The spine with what was asked for beside it; nothing is computed until the numbers are selected.

    Attributes
    ----------
    table : ibis.Table
        All columns of the spine, and columns of its own.
    numbers : mapping of Request to ibis.Value
        Over the columns of `table`.
    gaps : mapping of Request to mapping of str to ibis.Value
        For each request for gaps: ``m``, ``s``, ``q`` and ``max``.
    """

    table: ibis.Table
    numbers: Mapping[Request, Any]
    gaps: Mapping[Request, Mapping[str, Any]]


class _Chain:
    """Joins the parts to the spine one after the other, so that Ibis sees one join and one selection."""

    def __init__(self, spine: ibis.Table) -> None:
        self.table = spine
        self._n = 0

    @property
    def key(self) -> str:
        """What the next part calls its slot."""
        return f"slot__{self._n}"

    def add(self, part: ibis.Table) -> None:
        """Put the columns of a part, found by its column `key`, beside the spine."""
        self.table = self.table.left_join(part, [("slot", self.key)])
        self._n += 1


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
    gaps = [r for r in ordered if r.atom == "gaps"]
    split = [r for r in ordered if r.atom == "days" and not rows.calendar.at_midnight]
    plain = [r for r in ordered if r not in gaps and r not in split]
    near = [r for r in plain if r.window != EVER]
    ever = [r for r in plain if r.window == EVER]
    chain = _Chain(spine)
    if plain:
        cells = _cells(rows, plain)
        if near:
            rings = _rings(rows, cells, near)
            names = sorted({r.series for r in near})
            # a join per ring: a quarter of the time of one aggregation with a condition for each column
            for i in range(len(rows.calendar.windows)):
                of_ring = {f"{name}__ring{i}": name for name in names}
                chain.add(rings.filter(rings.ring == i).select(**{chain.key: "slot", **of_ring}))
        if ever:
            chain.add(_ever(rows, cells, ever, spine).rename({chain.key: "slot"}))
    for series in sorted({r.series for r in split}):
        for part in _split_days(rows, [r for r in split if r.series == series], spine):
            chain.add(part.rename({chain.key: "slot"}))
    for r in gaps:
        chain.add(_gaps(rows, r, spine).rename({chain.key: "slot"}))
    table = chain.table
    numbers = _added(table, near, rows.calendar)
    for r in (*ever, *split):
        empty = _FOLDS[r.atom].empty
        numbers[r] = table[r.column] if empty is None else table[r.column].fill_null(empty)
    parts = {r: {name: table[f"{r.column}__{name}"] for name in GAP_COLUMNS} for r in gaps}
    return Windows(table, MappingProxyType(numbers), MappingProxyType(parts))


def _added(table: ibis.Table, requests: Sequence[Request], calendar: Calendar) -> dict[Request, Any]:
    """Add rings up to windows, each window from the one before it: Ibis then compiles each sum once."""
    so_far: dict[tuple[str, int], Any] = {}
    for r in requests:
        fold = _FOLDS[r.atom]
        for i in range(calendar.windows.index(r.window) + 1):
            if (r.series, i) in so_far:
                continue
            ring = table[f"{r.series}__ring{i}"]
            ring = ring if fold.empty is None else ring.fill_null(fold.empty)
            so_far[r.series, i] = ring if i == 0 else fold.add(so_far[r.series, i - 1], ring)
    windows_of = {r: so_far[r.series, calendar.windows.index(r.window)] for r in requests}
    return {r: bit_count(value) if r.atom == "types" else value for r, value in windows_of.items()}


def _cells(rows: Rows, requests: Sequence[Request]) -> ibis.Table:
    """Fold rows to (partner, cell, step): the fold of each series, with ``pid``, ``cell`` and ``step`` if late."""
    folds = {r.series: _FOLDS[r.atom].rows(rows.of(r.source, r.kind)) for r in requests}
    cell, step = (bits(len(rows.calendar.edges) + 1), bits(len(rows.calendar.as_of)) if rows.late else 0)
    key = (_.pid.cast("int64") << cell) | _.cell
    # one integer as the key: a third of the time of three columns
    key = (key << step) | _.step if rows.late else key
    folded = rows.table.mutate(key=key).group_by("key").aggregate(**folds)
    parts = {"pid": _.key >> (cell + step), "cell": (_.key >> step) & (2**cell - 1)}
    if rows.late:
        parts["step"] = _.key & (2**step - 1)
    cells = folded.mutate(**{name: part.cast("int32") for name, part in parts.items()}).drop("key")
    # a name makes it a common table expression: else each of its readers would scan all rows again
    cells = cells.alias("partnerml_cells")
    names = [r.series for r in requests if r.atom == "days"]
    return _count_days(rows, cells, sorted(set(names))) if names else cells


def _count_days(rows: Rows, cells: ibis.Table, names: Sequence[str]) -> ibis.Table:
    """Turn sets of days into numbers that add up: a day counts at the first step that sees it."""
    if not rows.late:
        return cells.mutate(**{name: bit_count(cells[name]).cast("float64") for name in names})
    on_time = rows.calendar.cells().select("cell", first="step")
    late = cells.inner_join(on_time, "cell").filter(_.step > _.first).select("pid", "cell", "step")  # few
    earlier = cells.select("pid", "cell", *names, early="step")
    known = late.inner_join(earlier, ["pid", "cell"]).filter(_.early < _.step).group_by("pid", "cell", "step")
    known = known.aggregate(**{f"known_{name}": _[name].bit_or() for name in names})
    joined = cells.left_join(known, ["pid", "cell", "step"])
    new = {}
    for name in names:
        before = joined[f"known_{name}"].fill_null(0)
        new[name] = (bit_count(joined[name].fill_null(0) | before) - bit_count(before)).cast("float64")
    return joined.mutate(**new).select(*cells.columns)


def _rings(rows: Rows, cells: ibis.Table, requests: Sequence[Request]) -> ibis.Table:
    """Fold cells to the rings of each row of the spine: ``slot``, ``ring`` and the fold of each series."""
    folds = {}
    for r in requests:
        column = _[r.series] * _.week if r.atom == "nw" else _[r.series]
        folds[r.series] = _FOLDS[r.atom].merge(column)
    ring = bits(len(rows.calendar.windows))
    keyed = rows.seen(cells).mutate(key=(_.slot << ring) | _.ring)
    rings = keyed.group_by("key").aggregate(**folds)
    return rings.select(*folds, slot=rings.key >> ring, ring=(rings.key & (2**ring - 1)).cast("int32"))


def _ever(rows: Rows, cells: ibis.Table, requests: Sequence[Request], spine: ibis.Table) -> ibis.Table:
    """Fold cells to the steps at which they can be seen, and run over the steps."""
    calendar = rows.calendar
    placed = cells if rows.late else cells.inner_join(calendar.cells(), "cell")
    folds = {r.series: _FOLDS[r.atom].merge(_[r.series]) for r in requests}
    steps = placed.mutate(slot=slot(_.pid, _.step, calendar)).group_by("slot").aggregate(**folds)
    return _run(steps, {r.column: _running(r) for r in requests}, spine, calendar)


def _running(request: Request) -> Any:
    column = _[request.series]
    return {"last": column.max, "first": column.min}.get(request.atom, column.sum)()


def _run(steps: ibis.Table, folds: Mapping[str, Any], spine: ibis.Table, calendar: Calendar) -> ibis.Table:
    """Run folds over the steps of each partner: what has been seen stays seen."""
    grid = spine.select("pid").distinct().cross_join(calendar.moments().select("k"))
    grid = grid.mutate(slot=slot(_.pid, _.k, calendar)).left_join(steps, "slot").drop("slot_right")
    so_far = ibis.window(group_by="pid", order_by="k", preceding=None, following=0)
    return grid.select("slot", **{name: fold.over(so_far) for name, fold in folds.items()})


def _split_days(rows: Rows, requests: Sequence[Request], spine: ibis.Table) -> list[ibis.Table]:
    """Count the days of one series where edges lie inside days: a day of two cells or rings counts once."""
    r = requests[0]
    days = _active_days(rows, r)
    near = {r.column: r.window for r in requests if r.window != EVER}
    parts = []
    if near:
        rings = rows.seen(days).group_by("slot", "number").aggregate(ring=_.ring.min())
        number = {w: i for i, w in enumerate(rows.calendar.windows)}
        counts = {name: _.count(where=_.ring <= number[w]).cast("int32") for name, w in near.items()}
        parts.append(rings.group_by("slot").aggregate(**counts))
    for ever in (r.column for r in requests if r.window == EVER):
        placed = days if rows.late else days.inner_join(rows.calendar.cells(), "cell")
        first = placed.group_by("pid", "number").aggregate(step=_.step.min())
        steps = first.mutate(slot=slot(_.pid, _.step, rows.calendar)).group_by("slot").aggregate(new=_.count())
        parts.append(_run(steps, {ever: _.new.sum().cast("int32")}, spine, rows.calendar))
    return parts


def _active_days(rows: Rows, request: Request) -> ibis.Table:
    """Return the active days of a series: ``pid``, ``number``, ``cell``; the first ``step`` that sees each, if late."""
    active = rows.table.filter(rows.of(request.source, request.kind)).group_by("pid", "number", "cell")
    return active.aggregate(**({"step": _.step.min()} if rows.late else {}))


def _gaps(rows: Rows, request: Request, spine: ibis.Table) -> ibis.Table:
    """Fold the gaps between neighbouring active days that lie in one window."""
    pairs = rows.seen(_active_days(rows, request)).filter(_.ring <= rows.calendar.windows.index(request.window))
    pairs = pairs.semi_join(spine, "slot").select("slot", "number")
    if not rows.calendar.at_midnight:
        pairs = pairs.distinct()
    before = ibis.window(group_by="slot", order_by="number")
    gaps = pairs.mutate(gap=(_.number - _.number.lag(1).over(before)).cast("int64")).filter(_.gap.notnull())
    folds = (_.gap.count(), _.gap.sum(), (_.gap * _.gap).sum(), _.gap.max())
    return gaps.group_by("slot").aggregate(
        **{f"{request.column}__{name}": fold.cast("int64") for name, fold in zip(GAP_COLUMNS, folds, strict=True)}
    )
