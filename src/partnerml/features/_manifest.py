"""Stored cells on disk: a manifest, and Parquet files that never change.

A file is complete before the manifest names it, and the manifest is replaced as a whole: a run that is killed leaves
the former state, and files that nobody names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from partnerml.errors import SourceError
from partnerml.features._cover import LatePart, Piece
from partnerml.features._folded import Columns, from_arrow, stored_names
from partnerml.features._folded import totals as summed
from partnerml.outputs import whole_file, write_json

FORMAT = 1
REBUILD = "build the cells anew: `--rebuild`, or CellStore.update(..., rebuild=True)"
_MANIFEST = "manifest.json"


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
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT:
            return State.from_dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not a manifest of cells ({error}); remove {folder}") from None
    raise SourceError(
        f"{path}: cells of format {found['format']}, this version reads {FORMAT}; remove {folder}, the next update "
        "builds it anew"
    )


def save(folder: Path, state: State) -> None:
    """Make a state the one that counts."""
    write_json(folder / _MANIFEST, state.to_dict())


def clear_orphans(folder: Path, state: State) -> None:
    """Remove the files that a state does not name."""
    known = {state.partners, *(piece.file for piece in state.pieces), *(part.file for part in state.late)}
    for path in folder.glob("*.parquet"):
        if path.name not in known:
            path.unlink()


class Shelf:
    """Reads the files of a folder; each footer once, since it tells of all row groups and takes its time.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._footers: dict[str, Any] = {}

    def read(self, part: Piece | LatePart, names: Sequence[str], *, totals: int | None = None) -> Columns:
        """Return columns of a piece or late part; of a piece, totals of one kind if asked for.

        Raises
        ------
        SourceError
            If the file is not there or damaged.
        """
        path = self.folder / part.file
        following = 0 if totals is None or isinstance(part, LatePart) else min(1 + totals, part.totals)
        try:
            with pq.ParquetFile(path, memory_map=True, metadata=self._footers.get(part.file)) as stored:
                self._footers[part.file] = stored.metadata
                table = stored.read_row_group(part.group + following, columns=stored_names(names), use_threads=False)
        except (OSError, pa.ArrowInvalid, IndexError) as error:
            raise SourceError(f"{path}: cannot be read ({error}); {REBUILD}") from None
        rows = from_arrow(table, names)
        return rows if totals is None or following else summed(rows, totals)


def read_partners(folder: Path, state: State) -> pa.Array:
    """Return the ids of the partners, in the order of their numbers."""
    if state.partners is None:
        return pa.array([], pa.string())
    path = folder / state.partners
    try:
        with pq.ParquetFile(path) as stored:
            return texts(stored.read()["partner_id"])
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path}: cannot be read ({error}); {REBUILD}") from None


def texts(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of texts in one piece."""
    whole = column.cast(pa.string()).combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def write_groups(folder: Path, groups: Sequence[pa.Table], what: str) -> str:
    """Write tables of one schema as row groups of one file that is named after its content."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, groups[0].schema, version="2.6", compression="zstd", compression_level=1, use_dictionary=False
    ) as writer:
        for table in groups:
            writer.write_table(table, row_group_size=max(len(table), 1))
    content = sink.getvalue()
    name = f"{what}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
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
