"""What made a model is told so that another program is recognised, and a reordering or a comment elsewhere is not."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.models.made_up_models import made_up

import partnerml
from partnerml.errors import InternalError
from partnerml.models import _lineage
from partnerml.models._lineage import LIBRARIES, Lineage, code_digest
from partnerml.training._documents import with_lineage


def test_lineage_names_the_program_and_what_its_arithmetic_comes_from():
    here = Lineage.here()
    assert here.program == partnerml.__version__
    assert set(here.libraries) == set(LIBRARIES)
    assert here.libraries["numpy"] == np.__version__
    assert Lineage.from_dict(here.to_dict()) == here
    assert here.differences(here) == ()


def test_differences_name_both_sides():
    here = Lineage.here()
    other = dataclasses.replace(here, code="0" * 12, python="3.99", libraries={**here.libraries, "numpy": "1.0"})
    assert here.differences(other) == (
        f"code {here.code}, not 000000000000",
        f"Python {here.python}, not 3.99",
        f"numpy {np.__version__}, not 1.0",
    )
    without = dataclasses.replace(here, libraries={"numpy": np.__version__})
    assert f"lightgbm {here.libraries['lightgbm']}, not none" in here.differences(without)


def test_a_library_of_an_extra_tells_only_of_what_was_made_with_it():
    here = dataclasses.replace(Lineage.here(), at_hand={"optuna": "4.0"})
    tuned = here.using("optuna")
    assert tuned.libraries == {**here.libraries, "optuna": "4.0"}
    assert Lineage.from_dict(tuned.to_dict()) == tuned
    assert here.differences(Lineage.from_dict(tuned.to_dict())) == ()
    later = dataclasses.replace(here, at_hand={"optuna": "5.0"})
    assert later.differences(tuned) == ("optuna 5.0, not 4.0",)
    assert dataclasses.replace(here, at_hand={}).differences(tuned) == ("optuna none, not 4.0",)
    # models that were not tuned, and those from before
    assert later.differences(Lineage.from_dict(here.to_dict())) == ()
    assert dataclasses.replace(here, at_hand={}).using("optuna") == here


def test_the_lineage_of_a_model_names_what_it_was_tuned_with():
    version = importlib.metadata.version("optuna")
    for trials, told in ((0, None), (3, version)):
        lineage = with_lineage(made_up(), trials=trials, configuration={}).training["lineage"]
        assert lineage["trials"] == trials
        assert lineage["libraries"].get("optuna") == told
        assert Lineage.here().differences(Lineage.from_dict(lineage)) == ()


def test_the_code_is_that_of_the_modules_that_a_training_runs_through():
    root = Path(partnerml.__file__).parent
    digest = hashlib.sha256()
    beside = (
        "cli/", "demo.py", "nightly.py", "outreach/", "publishing.py", "report/", "routing/", "scoring/", "spark.py",
        "synthetic/", "templates/",
    )  # fmt: skip
    modules = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for name in sorted(name for name in modules if not name.startswith(beside)):
        digest.update(name.encode() + b"\x00" + modules[name].read_bytes() + b"\x00")
    assert code_digest() == digest.hexdigest()[:12]


def test_what_is_left_out_of_the_code_is_there_and_makes_no_model():
    assert {path.name for path in Path(partnerml.__file__).parent.iterdir()} >= _lineage._BESIDE
    # cards are written beside a training; what is loaded for one that makes a model loads nothing else of them
    folders = ("training", "models", "features", "tasks", "ecosystem")
    modules = [f"partnerml.{folder}.{path.stem}" for folder in folders for path in parts_of(folder)]
    left_out = {name.removesuffix(".py") for name in _lineage._BESIDE} - {"report", "templates"}
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("partnerml.")}
    assert set(folders) <= loaded
    assert not loaded & left_out


def parts_of(folder: str) -> list[Path]:
    """The modules of a package that need no extra to be imported."""
    extra = ("_profile_plot.py", "_plots.py", "_importance_plots.py", "_pyfunc.py", "_spark.py")
    return [
        path
        for path in sorted((Path(partnerml.__file__).parent / folder).glob("*.py"))
        if path.name not in ("__init__.py", *extra)
    ]


def test_one_changed_letter_is_another_code(monkeypatch, tmp_path):
    def digest() -> str:
        code_digest.cache_clear()
        return code_digest()

    (tmp_path / "models").mkdir()
    (tmp_path / "cli").mkdir()
    for name in ("a.py", "models/b.py", "cli/c.py", "note.txt"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(_lineage.importlib.resources, "files", lambda package: tmp_path)
    try:
        before = digest()
        (tmp_path / "cli" / "c.py").write_text("x = 2\n")
        (tmp_path / "note.txt").write_text("y")
        assert digest() == before
        (tmp_path / "models" / "b.py").write_text("x = 2\n")
        assert digest() != before
        (tmp_path / "models" / "b.py").write_bytes(b"x = 1\r\n")  # as a checkout on Windows has it
        assert digest() == before
    finally:
        code_digest.cache_clear()


def test_a_library_that_is_gone_is_our_fault(monkeypatch):
    monkeypatch.setattr(_lineage, "LIBRARIES", ("no-such-library",))
    with pytest.raises(InternalError, match="no-such-library is a dependency of partnerml and is not installed"):
        Lineage.here()


def test_documents_are_saved_with_the_model_and_are_part_of_its_version(tmp_path):
    from partnerml.models import load_model

    plain = made_up()
    kept = plain.with_documents({"notes": {"a": [1, None, "x\ny"]}, "more": [np.float64(0.5)]})
    assert kept.version != plain.version
    loaded = load_model(kept.save(tmp_path / "m"))
    assert loaded.documents == kept.documents == {"notes": {"a": [1, None, "x\ny"]}, "more": [0.5]}
    assert loaded.version == kept.version
    assert load_model(plain.save(tmp_path / "p")).documents == {}
    again = kept.with_documents({"more": []})
    assert again.documents == {"notes": {"a": [1, None, "x\ny"]}, "more": []}


@pytest.mark.parametrize("name", ["model", "manifest", "evaluation", "a/b", "", "Ä"])
def test_a_document_does_not_take_the_place_of_a_file_of_the_model(name):
    with pytest.raises(InternalError, match="a document of a model is named by small letters"):
        made_up().with_documents({name: {}})
