"""Tables beside each other, joined and selected from in one step.

Ibis traces every column through every join of a chain anew at each further join, and each value that is selected
through all of them: for a dozen joins of hundreds of columns that takes seconds. Here the links are collected, values
are made of the columns of the tables themselves, and one node holds the joins and the selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import ibis
import ibis.expr.operations as ops


class Joined:
    """A table with others beside its rows.

    Parameters
    ----------
    table : ibis.Table
    """

    def __init__(self, table: ibis.Table) -> None:
        self._tables = [ops.JoinReference(table.op(), identifier=0)]
        self._links: list[ops.JoinLink] = []
        self._places = {name: (self._tables[0], name) for name in table.columns}

    def add(
        self,
        other: ibis.Table,
        *,
        on: Sequence[str] = ("slot",),
        how: Literal["left", "inner"] = "left",
        suffix: str = "",
    ) -> Joined:
        """Put another table beside, where columns of the same name are equal; return all of it.

        Parameters
        ----------
        other : ibis.Table
            Without columns that are there already, but for those of `on`.
        on : sequence of str
        how : ``left`` or ``inner``
        suffix : str
            Behind the names of its columns from now on.
        """
        beside = ops.JoinReference(other.op(), identifier=len(self._tables))
        same = tuple(ops.Equals(self[name].op(), ops.Field(beside, name)) for name in on)
        self._tables.append(beside)
        self._links.append(ops.JoinLink(how, table=beside, predicates=same))
        new = {name + suffix: (beside, name) for name in other.columns if name not in on}
        if double := sorted(self._places.keys() & new.keys()):
            raise ValueError(f"{', '.join(double)}: in more than one of the tables")
        self._places |= new
        return self

    def __getitem__(self, name: str) -> Any:
        """Return a column."""
        return ops.Field(*self._places[name]).to_expr()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self._places)

    def select(self, *names: str, **values: Any) -> ibis.Table:
        """Return a table of columns, and of values over columns, of which no one reaches over rows."""
        nodes = {**{name: ops.Field(*self._places[name]) for name in names}, **_nodes(values)}
        if not self._links:
            raise ValueError("there is one table alone")
        return ibis.Table(ops.JoinChain(self._tables[0], rest=tuple(self._links), values=nodes))


def project(table: ibis.Table, *names: str, **values: Any) -> ibis.Table:
    """Return columns of a table, and values over its columns, of which no one reaches over rows."""
    node = table.op()
    return ibis.Table(ops.Project(node, {**{name: ops.Field(node, name) for name in names}, **_nodes(values)}))


def _nodes(values: dict[str, Any]) -> dict[str, ops.Value]:
    nodes = {name: value.op() for name, value in values.items()}
    return {name: node.arg if isinstance(node, ops.Alias) else node for name, node in nodes.items()}
