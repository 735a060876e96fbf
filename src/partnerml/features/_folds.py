"""What windows are made of: how rows fold to cells, cells to rings and rings to windows.

Every fold can be put together from parts, and the parts may come in any order: counts, sums of decimals, extremes,
and sets of days, types or weeks as bits of an integer. So windows are the same bytes whatever the threads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import ibis
from ibis import _


class Request(NamedTuple):
    """One number for each row of the spine.

    Parameters
    ----------
    atom : str
        A key of `ATOMS`, or ``gaps`` between active days: their number, sum, sum of squares and maximum in four
        columns.
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
        """Name of what is added up, whatever the window."""
        return "__".join((self.atom, self.source, self.kind))

    @property
    def fold(self) -> str:
        """Name of the column of cells that it is made of."""
        fold = "days" if self.atom == "gaps" else ATOMS[self.atom].fold
        return "__".join((fold, self.source, self.kind))


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def bit_count(bits: int) -> int:  # type: ignore[empty-body]
    """Return the number of bits that are set."""


def _count(if_: Any) -> Any:
    # narrow, as there are millions of cells
    return _.count(where=if_).cast("int32")


def _count_values(if_: Any) -> Any:
    return _.value.count(where=if_).cast("int32")


def _last_value(if_: Any) -> Any:
    """Return the latest value with its moment: of pairs the greatest is the latest, of two at once the larger."""
    dated = _.value.notnull()
    pair = ibis.struct({"at": _.moment, "value": _.value})
    return pair.max(where=dated if if_ is None else dated & if_)


#: How rows fold to a cell, given the condition on a row, None for every row.
FOLDS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "n": _count,
        "v": lambda if_: _.value.sum(where=if_),
        "nv": _count_values,
        "vmin": lambda if_: _.value.min(where=if_),
        "vmax": lambda if_: _.value.max(where=if_),
        "vlast": _last_value,
        "last": lambda if_: _.moment.max(where=if_),
        "first": lambda if_: _.moment.min(where=if_),
        "days": lambda if_: _.bit.bit_or(where=if_),
        "types": lambda if_: _.type_bit.bit_or(where=if_),
    }
)


class Atom(NamedTuple):
    """How cells become a ring, rings a window, and steps a history.

    Parameters
    ----------
    fold : str
        The key of `FOLDS` that it is made of.
    merge : callable
        Given a column: the fold of its rows.
    add : callable
        Given the window so far and the ring before it.
    empty : int or None
        What no rows fold to.
    of_cell : callable
        Given the column of cells, and their table with its ``week`` and ``week_bit``: what a cell is worth.
    value : callable
        Given a finished window: the number asked for.
    """

    fold: str
    merge: Callable[[Any], Any]
    add: Callable[[Any, Any], Any]
    empty: int | None
    of_cell: Callable[[Any, Any], Any] = lambda column, cells: column
    value: Callable[[Any], Any] = lambda column: column


def _sum(column: Any) -> Any:
    return column.sum()


def _count_up(column: Any) -> Any:
    # whole numbers add up exactly as float64, in any order; DuckDB would sum integers to 128 bits, which is slower
    return column.cast("float64").sum().cast("int32")


def _max(column: Any) -> Any:
    return column.max()


def _min(column: Any) -> Any:
    return column.min()


def _bit_or(column: Any) -> Any:
    return column.bit_or()


def _week_of(n: Any, cells: Any) -> Any:
    return (n > 0).ifelse(cells.week_bit, 0).cast("int64")


#: ``n`` rows, ``v`` sum of values, ``nv`` rows with a value, ``vmin``, ``vmax`` and ``vlast`` of the values, ``last``
#: and ``first`` moment, ``days`` distinct UTC dates, ``types`` distinct kinds, ``nw`` sum over the rows of the week's
#: number (0 = the last seven days), ``weeks`` the set of the weeks with rows, as bits.
ATOMS: Mapping[str, Atom] = MappingProxyType(
    {
        "n": Atom("n", _count_up, operator.add, 0),
        "v": Atom("v", _sum, operator.add, 0),
        "nv": Atom("nv", _count_up, operator.add, 0),
        "vmin": Atom("vmin", _min, ibis.least, None),
        "vmax": Atom("vmax", _max, ibis.greatest, None),
        "vlast": Atom("vlast", _max, ibis.coalesce, None, value=lambda pair: pair["value"]),
        "last": Atom("last", _max, ibis.coalesce, None),
        "first": Atom("first", _min, ibis.least, None),
        "days": Atom("days", _count_up, operator.add, 0),
        "types": Atom("types", _bit_or, operator.or_, 0, value=bit_count),
        "nw": Atom("n", _sum, operator.add, 0, of_cell=lambda n, cells: n.cast("float64") * cells.week),
        "weeks": Atom("n", _bit_or, operator.or_, 0, of_cell=_week_of),
    }
)
GAP_COLUMNS = ("m", "s", "q", "max")
