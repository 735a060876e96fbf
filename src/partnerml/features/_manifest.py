"""Stored cells on disk: a manifest, and Arrow files that never change.

A file is complete before the manifest names it, and the manifest is replaced as a whole: a run that is killed leaves
the former state, and files that nobody names.

The files are in Arrow's own format with every column compressed by itself: a night reads a few columns of a hundred
small pieces, and of Parquet each of them takes several times as long.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from partnerml.errors import SourceError
from partnerml.features._cover import LatePart, Piece
from partnerml.features._folded import Columns, from_arrow, stored
from partnerml.features._folded import totals as summed
from partnerml.outputs import whole_file, write_json

FORMAT = 2
REBUILD = "build the cells anew: `--rebuild`, or CellStore.update(..., rebuild=True)"
_MANIFEST = "manifest.json"
_SUFFIX = ".arrow"


@dataclasses.dataclass(frozen=True)
class State:
    """What the manifest says.

    Attributes
    ----------
    watermark : int or None
        All that was seen before this day is stored (days since 1970, as all days here).
    first : int or None
        The first day with a row.
    revision : int
        Number of the last update.
    source : mapping
        What the cells depend on besides the rows.
    types : tuple of str
        The event types, in the order of their numbers.
    partners : str or None
        The file with the ids of the partners, in the order of their numbers.
    pieces : tuple of Piece
    late : tuple of LatePart
    """

    watermark: int | None = None
    first: int | None = None
    revision: int = 0
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    types: tuple[str, ...] = ()
    partners: str | None = None
    pieces: tuple[Piece, ...] = ()
    late: tuple[LatePart, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {
            "format": FORMAT,
            "watermark": None if self.watermark is None else date_of(self.watermark).isoformat(),
            "first": None if self.first is None else date_of(self.first).isoformat(),
            "revision": self.revision,
            "source": dict(self.source),
            "types": list(self.types),
            "partners": self.partners,
            "pieces": [_line(piece) for piece in self.pieces],
            "late": [_line(part) for part in self.late],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> State:
        """Return the state that `to_dict` was made from."""
        return cls(
            watermark=None if state["watermark"] is None else number_of(date.fromisoformat(state["watermark"])),
            first=None if state["first"] is None else number_of(date.fromisoformat(state["first"])),
            revision=int(state["revision"]),
            source=state["source"],
            types=tuple(state["types"]),
            partners=state["partners"],
            pieces=tuple(Piece(*_words(piece)) for piece in state["pieces"]),
            late=tuple(LatePart(*_words(part)) for part in state["late"]),
        )


def _line(part: Piece | LatePart) -> str:
    # a text each: a thousand of them are read and written every night
    return " ".join(str(value) for value in vars(part).values())


def _words(line: str) -> list[Any]:
    return [int(word) if word.isdecimal() else word for word in line.split(" ")]


def load(folder: Path) -> State:
    """Return the state of a folder; an empty one where there is no manifest.

    Raises
    ------
    SourceError
        If the manifest cannot be read, or another version of partnerml wrote it.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        return State()
    try:
        found = _parsed(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not a manifest of cells ({error}); remove {folder}") from None
    if isinstance(found, State):
        return found
    raise SourceError(
        f"{path}: cells of format {found}, this version reads {FORMAT}; remove {folder}, the next update builds it anew"
    )


@functools.lru_cache(maxsize=1)
def _parsed(content: bytes) -> State | Any:
    """Return the state that a manifest tells, or the format of one that cannot be read; an update reads it twice."""
    found = json.loads(content)
    return State.from_dict(found) if found["format"] == FORMAT else found["format"]


def save(folder: Path, state: State) -> None:
    """Make a state the one that counts."""
    write_json(folder / _MANIFEST, state.to_dict())


def clear_orphans(folder: Path, state: State) -> None:
    """Remove the files that a state does not name."""
    known = {state.partners, *(piece.file for piece in state.pieces), *(part.file for part in state.late)}
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.name not in known:
            path.unlink()


class Shelf:
    """Reads the files of a folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, part: Piece | LatePart, names: Sequence[str], *, totals: int | None = None) -> Columns:
        """Return columns of a piece or late part; of a piece, totals of one kind if asked for.

        Raises
        ------
        SourceError
            If the file is not there or damaged.
        """
        following = 0 if totals is None or isinstance(part, LatePart) else min(1 + totals, part.totals)
        rows = from_arrow(_read(self.folder / part.file, part.group + following, columns=stored(names)), names)
        return rows if totals is None or following else summed(rows, totals)


def read_partners(folder: Path, state: State) -> pa.Array:
    """Return the ids of the partners, in the order of their numbers."""
    return pa.array([], pa.string()) if state.partners is None else _read(folder / state.partners, 0).column(0)


def _read(path: Path, group: int, *, columns: Sequence[int] | None = None) -> pa.RecordBatch:
    """Return some columns of a group of a file, by their numbers; by default all."""
    options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source, options=options) as stored_:
            return stored_.get_batch(group)
    except (OSError, pa.ArrowInvalid, IndexError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); {REBUILD}") from None


def texts(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of texts in one piece."""
    whole = column.cast(pa.string()).combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def write_groups(folder: Path, groups: Sequence[pa.RecordBatch], what: str) -> str:
    """Write groups of rows with the same columns as one file that is named after its content."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, groups[0].schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for group in groups:
            writer.write_batch(group)
    content = sink.getvalue()
    name = f"{what}-{hashlib.sha256(content).hexdigest()[:16]}{_SUFFIX}"
    with whole_file(folder / name) as fresh, fresh.open("wb") as stream:
        stream.write(content)
    return name


def date_of(day: int) -> date:
    """Return the date of a day."""
    return date(1970, 1, 1) + timedelta(days=day)


def number_of(day: date) -> int:
    """Return the days since 1970."""
    return (day - date(1970, 1, 1)).days


def midnight(day: int) -> datetime:
    """Return the moment (naive UTC) at which a day begins."""
    return datetime.combine(date_of(day), datetime.min.time())
