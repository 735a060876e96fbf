"""Daily cells of events, kept on disk with a watermark: tomorrow's run reads only what is new.

A folder holds ``manifest.json`` and Arrow files that never change: one for each update, with the pieces that it made
(`partnerml.features._cover`) and its late rows, and one with the ids of the partners. A file is complete before the
manifest names it, and the manifest is replaced as a whole: a run that is killed leaves the former state and files that
nobody names, which the next update removes.

What is new is what was first *seen* since the watermark, by the same rule as the engine's (`seen_at`). Rows are never
expected to change or to go; a source where they did is announced by a rebuild. Exports that come late are noticed: the
rows of the last week before the watermark are counted again, and where they differ the store goes back to that day.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from partnerml.errors import ConfigError
from partnerml.features._cover import Index, LatePart, Piece
from partnerml.features._folded import Columns
from partnerml.features._manifest import (
    REBUILD,
    Shelf,
    State,
    clear_orphans,
    load,
    midnight,
    number_of,
    read_partners,
)
from partnerml.features._stream import microseconds
from partnerml.features._update import Update, UpdateReport
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.outputs import lock

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_COLUMNS = ("event_type", "value", "actor", "recorded_at")  # whether they are there decides what is stored


class CellStore:
    """Folded events on disk.

    Open one with `CellStore.open`, bring it up to date with `update`.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path, state: State, *, fingerprint: str = "") -> None:
        self.folder = folder
        self._fingerprint = fingerprint
        self._take(state)

    def _take(self, state: State) -> None:
        self._state = state
        self._partners: Any = None
        self._shelf = Shelf(self.folder)
        self.index = Index(state.pieces, state.late)

    @classmethod
    def open(cls, folder: str | Path, *, fingerprint: str = "") -> CellStore:
        """Open the cells of a folder; without any, an empty store that the first update fills.

        Parameters
        ----------
        folder : str or Path
        fingerprint : str
            What identifies the source and its mapping: cells of another one are refused.

        Raises
        ------
        SourceError
            If the manifest cannot be read, or another version of partnerml wrote it.
        """
        return cls(Path(folder), load(Path(folder)), fingerprint=fingerprint)

    @property
    def watermark(self) -> datetime | None:
        """The midnight (naive UTC) before which all that was seen is stored; None for an empty store."""
        return None if self._state.watermark is None else midnight(self._state.watermark)

    @property
    def first_day(self) -> int | None:
        """The first day with a row, in days since 1970."""
        return self._state.first

    @property
    def types(self) -> tuple[str, ...]:
        """The event types, in the order of their numbers."""
        return self._state.types

    @property
    def partners(self) -> pa.Array:
        """The ids of the partners, in the order of their numbers."""
        if self._partners is None:
            self._partners = read_partners(self.folder, self._state)
        return self._partners

    def read(self, part: Piece | LatePart, names: Sequence[str], *, totals: int | None = None) -> Columns:
        """Return columns of a piece or late part; of a piece, totals over all event types if asked for."""
        return self._shelf.read(part, names, totals=totals)

    def refusal(self, eco: Ecosystem) -> str | None:
        """Return why the cells do not stand for the events of an ecosystem, in words; None if they do."""
        if self._state.watermark is None:
            return "there are no cells yet"
        now = _source(eco, self._fingerprint)
        changed = [name for name in now if now[name] != self._state.source.get(name)]
        if not changed:
            return None
        told = ", ".join(f"{name} was {self._state.source.get(name)!r} and is {now[name]!r}" for name in changed)
        return f"the source changed since they were built: {told}"

    def update(self, eco: Ecosystem, until: Moment, *, rebuild: bool = False) -> UpdateReport:
        """Add what was seen since the watermark and before a midnight.

        Parameters
        ----------
        eco : Ecosystem
        until : moment
            A midnight (UTC): the new watermark. An earlier one than the old watermark leaves it where it is.
        rebuild : bool
            Start anew: rows of the source were changed or deleted.

        Returns
        -------
        UpdateReport

        Raises
        ------
        ConfigError
            If `until` is no midnight; if the cells were built from another source, mapping or lag (rebuild then).
        BusyError
            If another update runs.
        """
        moment = moment_of(until, name="until").replace(tzinfo=None)
        if moment != datetime.combine(moment.date(), datetime.min.time()):
            raise ConfigError(f"until: cells are kept to a midnight (UTC), {moment} is none")
        if not eco.has("events"):
            raise ConfigError("cells: there is no table events to keep cells of")
        with lock(self.folder, purpose="an update of the cells of events"):
            found = load(self.folder)
            clear_orphans(self.folder, found)
            self._take(State(revision=found.revision) if rebuild else found)
            refused = self.refusal(eco)
            if refused and self._state.watermark is not None:
                raise ConfigError(f"cells in {self.folder}: {refused}; {REBUILD}")
            state = dataclasses.replace(self._state, source=_source(eco, self._fingerprint))
            update = Update(self.folder, eco, state)
            report = update.run(number_of(moment.date()))
            self._take(update.state)
            return report


def _source(eco: Ecosystem, fingerprint: str) -> dict[str, Any]:
    """Return what the cells depend on besides the rows."""
    return {
        "columns": [name for name in _COLUMNS if eco.has("events", name)],
        "lag_us": microseconds(eco.lag("events")),
        "fingerprint": fingerprint,
    }
