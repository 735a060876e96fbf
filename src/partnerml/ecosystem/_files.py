"""Files as relations of DuckDB: CSV as text, Parquet, and JSON lines.

CSV is read with a dialect that we fix from the header line, never by DuckDB's sampling: all columns are text, only the
empty field is null, and a line that does not fit the header is an error with its number.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from partnerml.ecosystem._sql import literal, quote
from partnerml.errors import SourceError

Format = Literal["csv", "parquet", "jsonl"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
}
SUFFIXES = "csv, csv.gz, parquet and jsonl"
_SEPARATORS = ",;\t|"
_HEADER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Files:
    """One raw table in one or more files of one format."""

    paths: tuple[Path, ...]
    format: Format

    @property
    def text(self) -> str:
        """What messages call it."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"


def split_name(path: Path) -> tuple[str, Format] | None:
    """Return the stem and the format of a data file, or None for any other file."""
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], _SUFFIXES[suffix]
    return None


def relation(connection: Any, files: Files) -> str:
    """Return the SELECT that reads the files; only headers (and JSON's structure) are read now.

    Raises
    ------
    SourceError
        If a header cannot be read.
    """
    if files.format == "csv":
        return _csv(files.paths)
    paths = _list(files.paths)
    if files.format == "parquet":
        return f"SELECT * FROM read_parquet({paths}, union_by_name=true)"
    return _json_lines(connection, files, paths)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Parquet files of one raw table that have the same columns of the same types, which are named in lower case."""

    paths: tuple[Path, ...]
    kinds: Mapping[str, str]

    @property
    def select(self) -> str:
        """SQL that reads these files alone."""
        return f"SELECT * FROM read_parquet({_list(self.paths)})"


def layouts(connection: Any, files: Files) -> list[Layout]:
    """Return the layouts of files that bring their own types; none where they cannot differ.

    One look at the footers tells which files are alike, so that the types are asked once a layout and not once a file.
    """
    if files.format != "parquet" or len(files.paths) == 1:
        return []
    shapes = (
        "SELECT file_name, list((name, type, converted_type, logical_type, num_children) ORDER BY column_id) AS shape "
        f"FROM parquet_schema({_list(files.paths)}) GROUP BY file_name"
    )
    rows = connection.execute(f"SELECT list(file_name ORDER BY file_name) FROM ({shapes}) GROUP BY shape").fetchall()
    return [_layout(connection, tuple(map(Path, names))) for names in sorted(row[0] for row in rows)]


def _layout(connection: Any, paths: tuple[Path, ...]) -> Layout:
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_list(paths[:1])})").fetchall()
    return Layout(paths, {str(row[0]).casefold(): str(row[1]) for row in described})


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join(literal(str(path)) for path in paths) + "]"


def _csv(paths: Sequence[Path]) -> str:
    # files of one header are scanned together; others are joined by name
    groups: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    for path in paths:
        groups.setdefault(read_header(path), []).append(path)
    return " UNION ALL BY NAME ".join(
        f"SELECT * FROM read_csv({_list(group)}, columns={_columns(names)}, header=true, auto_detect=false, "
        f"delim={literal(separator)}, quote='\"', escape='\"', nullstr='', strict_mode=true)"
        for (separator, names), group in groups.items()
    )


def _columns(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"


def read_header(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the separator and the column names of a CSV file.

    Raises
    ------
    SourceError
        If the file is empty, not UTF-8, or names a column twice.
    """
    try:
        opener = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        # the head may end inside a character; whatever is wrong in the header itself still shows
        text = head.decode("utf-8-sig", errors="strict" if len(head) < _HEADER_BYTES else "ignore")
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from None
    first = text.split("\n", maxsplit=1)[0]
    if not first.strip():
        raise SourceError(f"{path}: line 1: a header with the names of the columns is needed")
    separator = _separator(first)
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    cleaned = tuple(name.strip() or f"column_{i}" for i, name in enumerate(names, start=1))
    return separator, _distinct(cleaned, f"{path}: line 1")


def _separator(line: str) -> str:
    bare = "".join(line.split('"')[::2])  # what lies outside quotes
    return max(_SEPARATORS, key=bare.count)


def _distinct(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise SourceError(f"{where}: the column {name} is there twice (capitals do not count); rename one")
        seen.add(name.casefold())
    return names


def _json_lines(connection: Any, files: Files, paths: str) -> str:
    # DuckDB's own detection turns text that looks like a moment or a UUID into one, and so loses zones
    structure = f"SELECT json_group_structure(json) FROM read_json_objects({paths}, format='newline_delimited')"
    found = connection.execute(structure).fetchall()[0][0]
    names = json.loads(found) if found else {}
    if not isinstance(names, dict) or not names:
        raise SourceError(f"{files.text}: one JSON object with named values a line is needed")
    _distinct(tuple(names), files.text)
    columns = "{" + ", ".join(f"{literal(name)}: {literal(_json_type(kind))}" for name, kind in names.items()) + "}"
    return f"SELECT * FROM read_json({paths}, format='newline_delimited', columns={columns})"


def _json_type(kind: Any) -> str:
    if isinstance(kind, list):
        return f"{_json_type(kind[0])}[]"
    if isinstance(kind, dict):
        fields = ", ".join(f"{quote(name)} {_json_type(inner)}" for name, inner in kind.items())
        return f"STRUCT({fields})" if fields else "VARCHAR"
    return {"UBIGINT": "BIGINT", "BIGINT": "BIGINT", "HUGEINT": "BIGINT", "DOUBLE": "DOUBLE", "BOOLEAN": "BOOLEAN"}.get(
        kind, "VARCHAR"
    )
