import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partnerml import outputs
from partnerml.errors import BusyError, SourceError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError("half way")


def run_and_die(code: str, *arguments: object) -> None:
    """Run code that kills its own process in the middle."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_file_is_there_with_its_content(tmp_path):
    outputs.write_text(tmp_path / "deep" / "a.txt", "für\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "für\n".encode()
    assert names(tmp_path / "deep") == ["a.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_writer_that_raises_leaves_the_file_as_it_was(tmp_path, before):
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before)
    with pytest.raises(RuntimeError, match="half way"), outputs.whole_file(target) as fresh:
        write_half(fresh)
    assert names(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or target.read_text() == before


@pytest.mark.parametrize("before", [False, True])
def test_a_writer_that_raises_leaves_the_folder_as_it_was(tmp_path, before):
    target = tmp_path / "model"
    if before:
        target.mkdir()
        (target / "old.txt").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), outputs.whole_folder(target) as fresh:
        write_half(fresh / "new.txt")
    assert names(tmp_path) == (["model"] if before else [])
    assert not before or names(target) == ["old.txt"]


def test_a_folder_replaces_the_former_one_entirely(tmp_path):
    for name in ("one.txt", "two.txt"):
        with outputs.whole_folder(tmp_path / "model") as fresh:
            (fresh / "sub").mkdir()
            (fresh / "sub" / name).write_text(name)
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model" / "sub") == ["two.txt"]


def test_leftovers_of_a_killed_writer_are_cleared_by_the_next_one(tmp_path):
    target = tmp_path / "scores[1].txt"  # a name with the wildcards of a glob
    code = """
        import os, signal, sys
        from partnerml import outputs
        with outputs.whole_file(sys.argv[1]) as fresh:
            fresh.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run_and_die(code, target)
    assert len(names(tmp_path)) == 1
    assert not target.exists()
    outputs.write_text(target, "whole")
    assert names(tmp_path) == [target.name]


def test_a_folder_whose_writer_died_between_the_two_renames_comes_back(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.txt").write_text("old")
    code = """
        import os, pathlib, signal, sys
        from partnerml import outputs
        rename = pathlib.Path.rename
        def rename_and_die(self, other):
            rename(self, other)
            os.kill(os.getpid(), signal.SIGKILL)
        pathlib.Path.rename = rename_and_die
        with outputs.whole_folder(sys.argv[1]) as fresh:
            (fresh / "new.txt").write_text("new")
    """
    run_and_die(code, target)
    assert not target.exists()
    with pytest.raises(RuntimeError), outputs.whole_folder(target):
        raise RuntimeError
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["model"]


def test_what_another_writer_is_writing_is_no_leftover(tmp_path):
    target = tmp_path / "a.txt"
    with outputs.whole_file(target) as slow:
        slow.write_text("slow")
        outputs.write_text(target, "quick")
        assert slow.exists()
    assert target.read_text() == "slow"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="is a folder"):
        outputs.write_text(tmp_path / "folder", "x")
    with pytest.raises(SourceError, match="is a file"), outputs.whole_folder(tmp_path / "file"):
        pass
    with pytest.raises(SourceError, match="cannot make the folder"):
        outputs.write_text(tmp_path / "file" / "deeper" / "a.txt", "x")


def test_json_is_canonical(tmp_path):
    outputs.write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    0.1,\n    null\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        outputs.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert '"b": 1' in (tmp_path / "a.json").read_text()


@given(cuts=st.lists(st.integers(0, 500), max_size=5), seed=st.integers(0, 2**16))
def test_parquet_bytes_do_not_depend_on_how_the_rows_are_chunked(tmp_path_factory, cuts, seed):
    folder = tmp_path_factory.mktemp("parquet")
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "partner_id": [f"p{i:04d}" for i in range(500)],
            "score": rng.random(500),
            "band": pd.Categorical(rng.choice(["low", "high"], 500)),
            "as_of": pd.Timestamp("2026-06-01", tz="UTC").as_unit("us"),
        }
    )
    whole = outputs.arrow_table(frame)
    edges = [0, *sorted(cuts), 500]
    pieces = pa.concat_tables([whole.slice(a, b - a) for a, b in itertools.pairwise(edges)])
    one = outputs.write_parquet(frame, folder / "one.parquet").read_bytes()
    two = outputs.write_parquet(pieces, folder / "two.parquet").read_bytes()
    assert one == two
    back = pq.read_table(folder / "two.parquet")
    assert back.schema.metadata is None
    pd.testing.assert_frame_equal(back.to_pandas(), frame, check_categorical=False)
    assert back.schema.field("as_of").type == pa.timestamp("us", tz="UTC")


def test_an_index_is_not_written(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 8], name="row"))
    outputs.write_parquet(frame, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["a"]


def hold(folder: str, ready, go) -> None:
    with outputs.lock(folder, purpose="partnerml nightly"):
        ready.set()
        go.wait(60)


def test_a_second_run_is_told_who_holds_the_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), ready, go))
    other.start()
    try:
        assert ready.wait(60)
        pattern = rf"`partnerml nightly` \(process {other.pid}, since \d{{4}}-\d\d-\d\dT"
        with pytest.raises(BusyError, match=pattern), outputs.lock(tmp_path, purpose="partnerml train"):
            pass
    finally:
        go.set()
        other.join(60)
    with outputs.lock(tmp_path, purpose="partnerml train"):
        pass


def test_the_lock_of_a_killed_run_is_free(tmp_path):
    code = """
        import os, signal, sys
        from partnerml import outputs
        with outputs.lock(sys.argv[1], purpose="partnerml nightly"):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run_and_die(code, tmp_path)
    with outputs.lock(tmp_path, purpose="partnerml train"):
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), outputs.lock(tmp_path, purpose="a"):
        raise RuntimeError
    with outputs.lock(tmp_path, purpose="b"):
        pass


def test_a_read_only_folder_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(SourceError, match=f"cannot write into the folder {tmp_path}"):
        outputs.write_text(tmp_path / "a.txt", "x")
