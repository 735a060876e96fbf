"""Leads from files: CSV (plain or gzip), Parquet and JSON lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from partnerml.errors import SourceError
from partnerml.routing._lead import check_ids

Rows = list[Mapping[str, Any]]
_SHOWN = 5


def read_leads(path: str | Path) -> Rows:
    """Read the rows of a file of leads.

    What they hold is not looked at, apart from ``lead_id``: `LeadTable.of` sorts the leads from rows that are none.

    Parameters
    ----------
    path : str or Path
        CSV (``.csv``, ``.csv.gz``), Parquet or JSON lines (``.jsonl``), by the ending of its name.

    Returns
    -------
    list of mapping
        A row each, with the columns that it has; of a CSV file all values are texts.

    Raises
    ------
    SourceError
        If the file cannot be read as what its name says.
    DataError
        If there is no row or no column ``lead_id``, or an id comes twice.
    """
    file = Path(path)
    ending = next((ending for ending in _READERS if file.name.lower().endswith(ending)), None)
    if ending is None:
        raise SourceError(f"{file}: leads are read from {', '.join(_READERS)}; convert the file, or rename it")
    try:
        rows = _READERS[ending](file)
    except FileNotFoundError:
        raise SourceError(f"{file}: there is no such file; check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: it cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file}: it is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    check_ids(rows, str(file))
    return rows


def _csv(file: Path) -> Rows:
    # a byte order mark is what spreadsheets put in front
    return _csv_rows(file, file.read_bytes().decode("utf-8-sig"))


def _csv_gz(file: Path) -> Rows:
    return _csv_rows(file, gzip.decompress(file.read_bytes()).decode("utf-8-sig"))


def _csv_rows(file: Path, text: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise SourceError(f"{file}: the column {twice!r} is there twice; rename one of them")
        for fields in filter(None, reader):
            if len(fields) > len(header):
                raise SourceError(
                    f"{file}: line {reader.line_num} has {len(fields)} fields, and there are {len(header)} columns; "
                    "quote texts that hold commas"
                )
            # the empty field is null; a short line lacks its last columns
            rows.append({name: field for name, field in zip(header, fields, strict=False) if field != ""})
    except csv.Error as error:
        raise SourceError(f"{file}: line {reader.line_num} is not CSV: {error}") from error
    return [{**dict.fromkeys(header), **row} for row in rows]


def _parquet(file: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: Rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"{file}: it cannot be read as Parquet: {error}") from error
    return rows


def _json_lines(file: Path) -> Rows:
    rows: Rows = []
    wrong: list[int] = []
    for number, line in enumerate(file.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            wrong.append(number)
    if wrong:
        at = ", ".join(map(str, wrong[:_SHOWN])) + (", ..." if len(wrong) > _SHOWN else "")
        raise SourceError(f"{file}: {len(wrong)} line(s) are not JSON objects, at {at}; write one object a line")
    return rows


_READERS: Mapping[str, Callable[[Path], Rows]] = MappingProxyType(
    {".csv": _csv, ".csv.gz": _csv_gz, ".parquet": _parquet, ".jsonl": _json_lines}
)
