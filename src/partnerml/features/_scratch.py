"""Tables that live as long as one build: what is read many times is computed once."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import ibis

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features._store import CellStore


class Scratch:
    """Temporary tables of a build, dropped when it ends.

    Each step that is kept is compiled and run by itself: a step that many others read is not computed for each of
    them, and Ibis never has to see the whole build as one expression, which takes it more than its parts.

    Parameters
    ----------
    eco : Ecosystem
    cells : CellStore, optional
        Stands for the events where it can.
    """

    def __init__(self, eco: Ecosystem, *, cells: CellStore | None = None) -> None:
        self.cells = cells
        self.first_rows: dict[str, datetime | None] = {}
        self._backend = eco.backend
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._names):
            self._backend.drop_table(name)

    def keep(self, table: ibis.Table, *more: ibis.Table) -> ibis.Table:
        """Return the table, computed, and below it the others, computed one after the other to take less memory."""
        name = ibis.util.gen_name("partnerml_scratch")
        self._backend.create_table(name, table, temp=True)
        self._names.append(name)
        for part in more:
            self._backend.insert(name, part)
        return self._backend.table(name)
