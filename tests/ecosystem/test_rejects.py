from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from partnerml.ecosystem import _rejects
from partnerml.ecosystem._rejects import write_rejects
from partnerml.ecosystem._validation import CheckedTables

Check = Callable[..., CheckedTables]


def broken(seed: int, rows: int = 500) -> dict[str, pd.DataFrame]:
    """Return partners whose odd rows are broken, in an order that the seed shuffles."""
    ids = [f"p{i:04d}" for i in range(rows)]
    partners = pd.DataFrame(
        {"partner_id": ids, "latitude": ["99" if i % 2 else "1" for i in range(rows)], "name": ['a "b", c\nd'] * rows}
    )
    order = np.random.default_rng(seed).permutation(rows)
    return {"partners": partners.iloc[order].reset_index(drop=True)}


def test_rejects_are_written_as_they_came_with_their_rules(check: Check, tmp_path: Path) -> None:
    checked = check(**broken(0, rows=4), max_rejected=1)
    (path,) = write_rejects(checked.rejects, tmp_path)
    assert path == tmp_path / "rejects" / "partners.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"partner_id": key, "latitude": "99", "name": 'a "b", c\nd', "rules": "invalid_coordinate: latitude"}
        for key in ("p0001", "p0003")
    ]


def test_the_bytes_depend_on_neither_order_nor_threads(check: Check, backend: Any, tmp_path: Path) -> None:
    contents = set()
    for seed, threads in ((0, 1), (1, 2), (2, 2)):
        backend.raw_sql(f"SET threads={threads}")
        checked = check(**broken(seed), max_rejected=1)
        (path,) = write_rejects(checked.rejects, tmp_path / str(seed))
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_what_an_earlier_run_set_aside_is_gone(check: Check, tmp_path: Path) -> None:
    write_rejects(check(**broken(0), max_rejected=1).rejects, tmp_path)
    assert write_rejects({}, tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_behind_is_gone_with_the_next(check: Check, tmp_path: Path) -> None:
    half = tmp_path / ".rejects.0a1b2c3d.partial" / "rejects" / "partners.csv"
    half.parent.mkdir(parents=True)
    half.write_text("half a file")
    write_rejects(check(**broken(0), max_rejected=1).rejects, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rejects"]


def test_a_failure_leaves_the_former_files(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rejects = check(**broken(0), max_rejected=1).rejects
    (path,) = write_rejects(rejects, tmp_path)
    before = path.read_bytes()

    def fail(table: ibis.Table, path: Path) -> None:
        path.write_text("half a file")
        raise OSError("disk full")

    monkeypatch.setattr(_rejects, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_rejects(rejects, tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rejects"]
