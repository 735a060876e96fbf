"""Rows of the stream put in their places: the number of their partner, their cell, the as_of that first sees them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import ibis
from ibis import _

from partnerml.features._calendar import Calendar
from partnerml.features._joined import Joined
from partnerml.features._stream import Codes, Stream


def bits(n: int) -> int:
    """Return how many bits hold the numbers below n."""
    return max(n - 1, 1).bit_length()


def slot(pid: Any, k: Any, calendar: Calendar) -> Any:
    """Return the number of a row of the spine: partner and as_of in one integer."""
    return (pid.cast("int64") << bits(len(calendar.as_of))) | k


def named(table: ibis.Table, *more: ibis.Table) -> ibis.Table:
    """Return tables below each other as a common table expression: else each reader would compute them again."""
    whole = ibis.union(table, *more) if more else table
    return whole.alias(ibis.util.gen_name("partnerml"))


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of the stream with the number of their partner, their cell and their step.

    Attributes
    ----------
    table : ibis.Table
        ``pid``, ``cell``, ``number`` (of the day), ``moment``, ``code``, ``qualifies``, ``value``, ``bit`` (of the
        day), ``type_bit``; ``step`` if some row can be seen later than it happened.
    late : bool
        Whether it matters when a row was seen: with one as_of, what it does not see is left out at once.
    calendar : Calendar
    codes : Codes
    sources : tuple of str
        What the stream is made of.
    sparse : bool
        Whether most partners are looked at only at a few of the as_ofs.
    turns : int
        The cells of so many groups of partners are folded to rings one after the other, which takes less memory.
    keep : callable
        Returns a table that is read many times (or several below each other), computed or named.
    """

    table: ibis.Table
    late: bool
    calendar: Calendar
    codes: Codes
    sources: tuple[str, ...]
    sparse: bool = False
    turns: int = 1
    keep: Callable[..., ibis.Table] = named

    @classmethod
    def place(
        cls,
        stream: Stream,
        *,
        partners: ibis.Table,
        calendar: Calendar,
        codes: Codes,
        sparse: bool = False,
        turns: int = 1,
        keep: Callable[..., ibis.Table] = named,
    ) -> Rows:
        """Find the partner, the cell and the step of each row that some as_of can see.

        Parameters
        ----------
        stream : Stream
        partners : ibis.Table
            ``partner_id`` and its number ``pid``; rows of other partners are left out.
        calendar : Calendar
        codes : Codes
        sparse, turns
            See the attributes.
        keep : callable
            See the attribute. `Scratch.keep` is best: of a table in memory DuckDB does not know how small it is, and
            may then hash the rows of the stream instead, which takes three times the memory.
        """
        first, last = (ibis.literal(moment.item(), type="timestamp(6)") for moment in calendar.span)
        # on the moment too, not only on when it was seen: a file then need not be read whole
        rows = stream.table.filter((_.moment >= first) & (_.moment < last) & (_.seen_at < last))
        rows = rows.mutate(day=_.moment.date()).inner_join(keep(partners.select("partner_id", "pid")), "partner_id")
        days = keep(calendar.days())
        rows = _on_day(rows, days.drop("step"), "moment", calendar.at_midnight)
        kept = ["pid", "cell", "number", "moment", "code", "qualifies", "value", "bit", "type_bit"]
        late = stream.late and len(calendar.as_of) > 1
        if late:
            seen = days.select(seen_day="day", lo="lo", hi="hi", step="step")
            rows = _on_day(rows.mutate(seen_day=_.seen_at.date()), seen, "seen_at", calendar.at_midnight)
            kept.append("step")
        # only events have a bit of their own; what comes after them in the codes must merely not overflow
        type_bit = ibis.literal(1, type="int64") << ibis.least(rows.code, codes.other).cast("int64")
        table = rows.mutate(type_bit=type_bit).select(*kept)
        return cls(table, late, calendar, codes, stream.sources, sparse, turns, keep)

    def of(self, source: str, kind: str) -> Any:
        """Return the condition on a row to belong to a series, None if all rows do."""
        if source == "activity":
            return _.qualifies
        if kind == "all" and self.sources == (source,):
            return None
        codes = self.codes.of(source, kind)
        return _.code == codes[0] if len(codes) == 1 else _.code.between(codes[0], codes[-1])

    @functools.cached_property
    def cells(self) -> ibis.Table:
        """One row per cell: ``cell``, ``block``, ``step``."""
        return self.keep(self.calendar.cells())

    @functools.cached_property
    def rings(self) -> ibis.Table:
        """Which cells each as_of sees, and in which ring."""
        return self.keep(self.calendar.rings())

    def seen(self, folded: ibis.Table, spine: ibis.Table) -> ibis.Table:
        """Pair folded rows (``pid``, ``cell``; ``step`` if late) with the rows of the spine whose windows hold them.

        Unless the spine is sparse, as_ofs at which a partner has no row come along: they are cheaper than a join.
        """
        seen = self.rings
        if self.sparse:
            pairs = Joined(spine.select("slot", "pid", "k")).add(folded, on=("pid",), how="inner")
            pairs.add(seen, on=("cell", "k"), how="inner")
            number = pairs["slot"]
        else:
            pairs = Joined(folded).add(seen, on=("cell",), how="inner")
            number = slot(pairs["pid"], pairs["k"], self.calendar)
        kept = [name for name in pairs.columns if name not in ("slot", "pid", "cell")]
        table = pairs.select(*kept, slot=number)
        return table.filter(table.step <= table.k) if self.late else table

    def so_far(self, steps: ibis.Table, folds: dict[str, Any], spine: ibis.Table) -> ibis.Table:
        """Fold all that each row of the spine has seen, whenever it happened: what has been seen stays seen.

        Parameters
        ----------
        steps : ibis.Table
            ``pid``, ``step`` and columns: what came to be seen at each as_of, one row each.
        folds : dict of str to deferred expression
            Aggregations of the columns.
        spine : ibis.Table
        """
        if self.sparse:
            pairs = spine.select("slot", "pid", "k").inner_join(steps, "pid").filter(_.step <= _.k)
            return pairs.group_by("slot").aggregate(**folds)
        columns = [name for name in steps.columns if name not in ("pid", "step")]
        steps = steps.select(*columns, seen_in=slot(steps.pid, steps.step, self.calendar))
        moments = self.keep(self.calendar.moments().select("k"))
        grid = spine.select("pid").distinct().cross_join(moments)
        grid = grid.mutate(slot=slot(grid.pid, grid.k, self.calendar)).left_join(steps, [("slot", "seen_in")])
        until_k = ibis.window(group_by="pid", order_by="k", preceding=None, following=0)
        return grid.select("slot", **{name: fold.over(until_k) for name, fold in folds.items()})


def _on_day(rows: ibis.Table, days: ibis.Table, moment: str, at_midnight: bool) -> ibis.Table:
    joined = rows.inner_join(days, days.columns[0])
    if not at_midnight:
        joined = joined.filter((joined[moment] >= joined.lo) & (joined[moment] < joined.hi))
    return joined.drop("lo", "hi")
