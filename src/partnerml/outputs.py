"""Outputs that appear whole or not at all, with the same bytes every time, under one lock.

A file or folder is written aside, in a hidden neighbour ``.NAME.TOKEN.partial``, forced to disk and renamed. The
writer holds a lock on that neighbour; the kernel drops it when the process dies, so the next writer of the same
name can tell what a killed run left behind from what another process is writing at this moment, and clears it.
Files are locked as POSIX systems do it (``flock``).
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.errors import BusyError, SourceError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_FORMER = "former"
_LOCK = ".partnerml.lock"
_ROW_GROUP = 131_072


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write one file aside and rename it into place at the end.

    Parameters
    ----------
    path : str or Path
        Where the file shall be; its folder is made where it is missing.

    Yields
    ------
    Path
        The file to write: the same name in another folder of the same file system. If the block raises, `path`
        stays as it was.

    Raises
    ------
    SourceError
        If the folder cannot be written, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise SourceError(f"{target} is a folder, and a file is to be written there; move it away or name another path")
    with _aside(target) as aside:
        fresh = aside / target.name
        yield fresh
        _force(fresh)
        fresh.replace(target)
        _force_entry(target.parent)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder aside and rename it into place at the end, in the place of the one that was there.

    Parameters
    ----------
    path : str or Path
        Where the folder shall be. All of its former content goes; a caller that does not own it checks that first.

    Yields
    ------
    Path
        An empty folder to fill. If the block raises, `path` stays as it was; if the process is killed between the
        two renames at the end, the next writer of the same name puts the former folder back.

    Raises
    ------
    SourceError
        If the parent folder cannot be written, or `path` is a file.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise SourceError(f"{target} is a file, and a folder is to be written there; move it away or name another path")
    with _aside(target) as aside:
        fresh = aside / target.name
        fresh.mkdir()
        yield fresh
        _force_tree(fresh)
        if target.exists():
            target.rename(aside / _FORMER)
        fresh.rename(target)
        _force_entry(target.parent)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text as UTF-8 with line feeds, whole or not at all."""
    with whole_file(path) as fresh:
        fresh.write_bytes(text.encode("utf-8"))
    return Path(path)


def write_json(path: str | Path, value: Mapping[str, Any] | Sequence[Any]) -> Path:
    """Write canonical JSON (sorted keys, no NaN), whole or not at all."""
    return write_text(path, canonical_json(value))


def canonical_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return the one JSON text of a value: sorted keys, two spaces, a line feed at the end.

    Raises
    ------
    ValueError
        If a number is not finite: JSON has no word for it.
    """
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_parquet(frame: pd.DataFrame | pa.Table, path: str | Path) -> Path:
    """Write a table as Parquet with the same bytes for the same rows, whole or not at all.

    Parameters
    ----------
    frame : DataFrame or pyarrow.Table
        The rows, in the order to be kept. A DataFrame's index is dropped.
    path : str or Path
        The file.

    Notes
    -----
    What could differ between two runs is fixed: chunks (threads cut them where they please) are joined, metadata of
    pandas is left out, row groups have 131,072 rows, and the compression is zstandard level 3.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = frame if isinstance(frame, pa.Table) else arrow_table(frame)
    table = table.replace_schema_metadata(None).unify_dictionaries().combine_chunks()
    with whole_file(path) as fresh:
        pq.write_table(
            table,
            fresh,
            version="2.6",
            row_group_size=_ROW_GROUP,
            compression="zstd",
            compression_level=3,
            use_dictionary=True,
            write_statistics=True,
        )
    return Path(path)


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Return a DataFrame as an Arrow table, without its index; zoned moments stay zoned."""
    import pyarrow as pa

    return pa.table({str(name): _arrow(frame[name]) for name in frame.columns})


def _arrow(column: pd.Series[Any]) -> pa.Array:
    import pandas as pd
    import pyarrow as pa

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # pyarrow's own conversion goes through Series.values, which pandas 3.1 deprecates for zoned moments
        moments = pa.array(column.dt.tz_convert(None).to_numpy(), from_pandas=True)
        return moments.cast(pa.timestamp(column.dtype.unit, tz="UTC"))
    array = pa.array(column, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


@contextlib.contextmanager
def lock(out: str | Path, *, purpose: str) -> Iterator[None]:
    """Hold an output folder, so that two runs never write it at once.

    Parameters
    ----------
    out : str or Path
        The folder; made where it is missing.
    purpose : str
        What holds it, in words for the message that the other run gets, such as ``"partnerml nightly"``.

    Raises
    ------
    BusyError
        If another process (or another block of this one) holds it; the message names its purpose, number and start.
    """
    folder = Path(out)
    _make(folder)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not seize(descriptor):
            raise BusyError(
                f"output folder {folder} is in use by {_holder(descriptor)}; "
                "wait until that run has ended, or give this one another `output:`"
            )
        started = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"purpose": purpose, "pid": os.getpid(), "started": started}).encode(), 0)
        try:
            yield
        finally:
            # the file stays: removing it would let a third run lock a file that no longer has a name
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        held = json.loads(os.pread(descriptor, 4096, 0))
        return f"`{held['purpose']}` (process {held['pid']}, since {held['started']})"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not written its name yet
        return "another run"


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield a locked hidden folder beside `target`; it and what killed runs left are gone at the end."""
    _make(target.parent)
    _clear_leftovers(target)
    folder, descriptor = _new_aside(target)
    try:
        yield folder
    finally:
        former = folder / _FORMER
        if former.exists() and not target.exists():
            former.rename(target)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new_aside(target: Path) -> tuple[Path, int]:
    for _ in range(100):
        folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
        folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another writer took it for a leftover before it was locked
            continue
        if seize(descriptor) and folder.exists():
            return folder, descriptor
        os.close(descriptor)
    raise SourceError(f"cannot write beside {target}: other processes keep removing the folder; run one at a time")


def _clear_leftovers(target: Path) -> None:
    for leftover in sorted(target.parent.glob(f".{_literal(target.name)}.????????.partial")):
        try:
            descriptor = os.open(leftover, os.O_RDONLY)
        except OSError:
            continue
        try:
            if seize(descriptor):
                former = leftover / _FORMER
                if former.exists() and not target.exists():
                    former.rename(target)
                shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(descriptor)


def _literal(name: str) -> str:
    """Escape what a glob pattern would take for a wildcard."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def seize(descriptor: int) -> bool:
    """Take the lock of an open file if nobody has it, and tell whether that is so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(descriptor: int) -> None:
    """Give the lock of an open file back, also where a process that was forked meanwhile holds the file open too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"cannot make the folder {folder}: {error.strerror}; check the path and its rights"
        ) from error
    if not os.access(folder, os.W_OK):
        raise SourceError(f"cannot write into the folder {folder}; check its rights, or name another one")


def _force(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _force_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _force(path)


def _force_entry(folder: Path) -> None:
    """Force the renaming itself to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
