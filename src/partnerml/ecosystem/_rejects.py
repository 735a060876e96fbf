"""Writes the rows that validation set aside.

One CSV file a table, ``OUT/rejects/TABLE.csv``: the columns as they came, as text, and ``rules``, what the row breaks.
CSV because the people who repair the source open it in a spreadsheet.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import ibis

from partnerml import outputs
from partnerml.ecosystem._sql import literal, quote


def write_rejects(rejects: Mapping[str, ibis.Table], out: str | Path) -> tuple[Path, ...]:
    """Write the rejects of all tables, whole or not at all.

    The folder ``OUT/rejects`` is replaced: what an earlier run set aside and this one did not is gone. Without rejects
    there is no folder. The same rows give the same bytes.

    Parameters
    ----------
    rejects : mapping of str to ibis.Table
        As in `CheckedTables`; all of one DuckDB backend, which may write to `out`.
    out : path
        The output folder.

    Returns
    -------
    tuple of Path
        The files, by table.
    """
    folder = Path(out) / "rejects"
    if rejects:
        with outputs.whole_folder(folder) as fresh:
            for name, table in sorted(rejects.items()):
                _write(table, fresh / f"{name}.csv")
    elif folder.exists():
        shutil.rmtree(folder)
    return tuple(folder / f"{name}.csv" for name in sorted(rejects))


def _write(table: ibis.Table, path: Path) -> None:
    backend = table.get_backend()
    columns = ", ".join(map(quote, table.columns))
    # a BOM-less UTF-8 file with quotes only where needed; sorted, so that the bytes do not depend on threads
    backend.raw_sql(
        f"COPY (SELECT {columns} FROM ({backend.compile(table)}) ORDER BY ALL NULLS FIRST) "
        f"TO {literal(str(path))} (FORMAT csv, HEADER true)"
    ).fetchall()
