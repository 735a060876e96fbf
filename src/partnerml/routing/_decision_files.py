"""Decisions, and what a ledger exports, as files: Parquet and CSV; JSON lines with all that a decision tells."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from partnerml import outputs
from partnerml.errors import ConfigError, SourceError
from partnerml.routing._decision import Decision

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = (
    *("decision_id", "lead_id", "status", "partner_id", "offer_id", "duplicate_of", "rank", "p_win", "price"),
    *("utility", "propensity", "explores", "n_eligible", "funnel", "alternatives", "reasons", "policy"),
    *("model_version", "snapshot_id", "decided_at", "seed"),
)
_LISTS = ("probability", "p_win", "utility", "free")  # of vectors, beside the partners


def check_ending(path: str | Path) -> None:
    """Refuse a file that decisions cannot be written to, before any is made.

    Raises
    ------
    ConfigError
        If its name does not end as it must.
    """
    if _ending(Path(path)) is None:
        raise ConfigError(f"{path}: decisions are written to {', '.join(_WRITERS)}; give the file one of these endings")


def check_writable(path: Path, *, read: Path) -> None:
    """Refuse a file to write that cannot be, or that is the one the leads are read from, before any lead is routed.

    Raises
    ------
    ConfigError
        If it would take the place of the leads.
    SourceError
        If the folder cannot be written.
    """
    if path.exists() and read.exists() and path.samefile(read):
        raise ConfigError(f"{path} holds the leads, and what is written would take their place; name another file")
    if not path.parent.exists():
        return  # it is made when the decisions are written
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SourceError(
            f"{path} cannot be written: {error.strerror}; check the rights of {path.parent}, or name another file"
        ) from error


def write_decisions(decisions: Sequence[Decision], path: str | Path) -> Path:
    """Write decisions to a file, whole or not at all, in the order given.

    Parameters
    ----------
    decisions : sequence of Decision
    path : str or Path
        ``.parquet`` and ``.csv`` hold a row for each with the columns of decisions (in CSV, lists are JSON);
        ``.jsonl`` holds the whole text of each, the words and evidence with it.

    Raises
    ------
    ConfigError
        If the name of the file has another ending.
    """
    check_ending(path)
    file = Path(path)
    _WRITERS[str(_ending(file))](decisions, file)
    return file


def write_export(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write what a ledger exports, whole or not at all, with types that do not hang on which values there are.

    Parameters
    ----------
    frame : DataFrame
        Of `Ledger.export`.
    path : str or Path
        ``.parquet``, or ``.csv``, in which lists are JSON, and null stands for a number without end.

    Raises
    ------
    ConfigError
        If the name of the file has another ending.
    """
    import pyarrow as pa

    file = Path(path)
    check_export(file)
    types = _types_of(frame)
    rows = [{name: _plain(row[name], types[name]) for name in types} for row in frame.to_dict("records")]
    if file.name.lower().endswith(".parquet"):
        return outputs.write_parquet(pa.Table.from_pylist(rows, schema=pa.schema(types)), file)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(types)
    writer.writerows([_cell(_ended(value)) for value in row.values()] for row in rows)
    return outputs.write_text(file, buffer.getvalue())


def check_export(file: Path) -> None:
    """Refuse a file that an export cannot be written to.

    Raises
    ------
    ConfigError
        If its name does not end as it must.
    """
    if not file.name.lower().endswith((".parquet", ".csv")):
        raise ConfigError(f"{file}: an export is written to .parquet or .csv; give the file one of these endings")


def _types_of(frame: pd.DataFrame) -> dict[str, pa.DataType]:
    """Return the type of each column: that of decisions, of vectors, or what the column itself says."""
    import pyarrow as pa

    kinds = {"f": pa.float64(), "i": pa.int64(), "b": pa.bool_(), "M": pa.timestamp("us", tz="UTC")}
    found = {str(name): kinds.get(frame[name].dtype.kind, pa.string()) for name in frame.columns}
    of_decisions, numbers = _schema(), pa.list_(pa.float64())
    if "number" in found:
        return {
            name: of_decisions.field(name).type if name in of_decisions.names else kind for name, kind in found.items()
        } | {"number": pa.int64(), "forgotten": pa.bool_()}
    if "free" in found:
        return found | {"partner_id": pa.list_(pa.string())} | dict.fromkeys(_LISTS, numbers)
    return found


def _plain(value: Any, type_: pa.DataType) -> Any:
    """Return a value of a table as Arrow and JSON have it."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_list(type_):
        return list(value)
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return int(value) if pa.types.is_integer(type_) else value


def _ended(value: Any) -> Any:
    """Return a value for JSON, which has no word for a number without end."""
    if not isinstance(value, list):
        return value
    return [None if isinstance(item, float) and math.isinf(item) else item for item in value]


def write_rejects(rows: Iterable[tuple[Mapping[str, Any], str]], path: str | Path) -> Path | None:
    """Write rows that were set aside as CSV, as they came, each with its reason; where there are none, no file stays.

    Parameters
    ----------
    rows : iterable of (mapping, str)
        A row, and why it was set aside.
    path : str or Path
    """
    file, found = Path(path), list(rows)
    if not found:
        file.unlink(missing_ok=True)
        return None
    names = list(dict.fromkeys(str(name) for row, _ in found for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*names, "reason"])
    for row, reason in found:
        told = {str(name): value for name, value in row.items()}
        writer.writerow([*(_cell(told.get(name)) for name in names), reason])
    # whatever came is written: half a character of Unicode too, as its escape
    return outputs.write_text(file, buffer.getvalue().encode("utf-8", "backslashreplace").decode())


def _ending(file: Path) -> str | None:
    return next((ending for ending in _WRITERS if file.name.lower().endswith(ending)), None)


def _rows(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    whole = ({**decision.to_dict(), "decided_at": decision.decided_at} for decision in decisions)
    return [{name: row[name] for name in COLUMNS} for row in whole]


def _parquet(decisions: Sequence[Decision], file: Path) -> None:
    import pyarrow as pa

    outputs.write_parquet(pa.Table.from_pylist(_rows(decisions), schema=_schema()), file)


def _csv(decisions: Sequence[Decision], file: Path) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(decisions):
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    outputs.write_text(file, buffer.getvalue())


def _json_lines(decisions: Sequence[Decision], file: Path) -> None:
    outputs.write_text(file, "".join(decision.to_json() + "\n" for decision in decisions))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    step = pa.struct([("rule", text), ("removed", count), ("left", count)])
    numbers = ("p_win", "price", "utility", "propensity")
    other = pa.struct([("partner_id", text), ("rank", count), *((name, number) for name in (*numbers, "behind"))])
    reason = pa.struct([("feature", text), ("value", number), ("effect", number), ("text", text)])
    types: dict[str, pa.DataType] = dict.fromkeys(COLUMNS, text)
    types |= dict.fromkeys(numbers, number) | dict.fromkeys(("rank", "n_eligible", "seed"), count)
    types |= {"explores": pa.bool_(), "decided_at": pa.timestamp("us", tz="UTC")}
    types |= {"funnel": pa.list_(step), "alternatives": pa.list_(other), "reasons": pa.list_(reason)}
    return pa.schema(types)


_WRITERS: Mapping[str, Callable[[Sequence[Decision], Path], None]] = MappingProxyType(
    {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}
)
