"""The rules of the house that a tool can hold: imports go down, locks name names and versions, no machine leaks."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".sh", ".html", ""}


@pytest.mark.slow
def test_imports_go_down_only():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_constraints_lock_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 50
    assert [line for line in lines if re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) is None] == []


def test_every_dependency_has_a_range_and_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(item for name in ("mlflow", "report", "shap", "tuning", "docs") for item in extras[name]),
    ]
    locked = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for requirement in asked:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")
        assert ">=" in requirement, requirement
        assert name in locked, requirement


def test_no_file_names_a_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    places = [str(place) for place in (ROOT, Path.home()) if len(str(place)) > 2]
    named = re.compile("|".join(rf"(?<![\w.]){re.escape(place)}/" for place in places))
    found = [
        name
        for name in listed.stdout.splitlines()
        if (path := ROOT / name).is_file()
        and path.suffix in TEXT
        and path.stat().st_size < 400_000
        and named.search(path.read_text(errors="ignore"))
    ]
    assert found == []


def test_a_folder_of_tests_is_one_node_whatever_the_command_names(request):
    """Else the fixtures of its conftest are lost to the files that are named after another's beside the folder."""
    tests = request.node.getparent(pytest.Dir)
    assert tests.path == ROOT / "tests"
    first, second = (tests.ihook.pytest_collect_directory(path=tests.path / "routing", parent=tests) for _ in range(2))
    assert first is second
