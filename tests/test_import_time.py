"""`import partnerml` costs next to nothing: what is heavy comes with the names that need it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import partnerml

HEAVY = (
    "numpy", "pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "ibis", "duckdb", "sqlglot", "mlflow", "matplotlib",
    "shap", "optuna", "pydantic", "jinja2", "pycountry", "rich",
)  # fmt: skip
TRAINED_WITH = {"mlflow", "shap", "optuna", "ibis", "duckdb", "sqlglot", "matplotlib", "jinja2"}


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a statement imports in a fresh interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_brings_nothing_heavy() -> None:
    assert not imported_by("import partnerml") & set(HEAVY)


def test_the_check_sees_what_is_imported() -> None:
    assert {"numpy", "pandas"} <= imported_by("import pandas") & set(HEAVY)


def test_a_first_route_brings_no_training() -> None:
    statement = """
import datetime as dt
from partnerml import Router
from partnerml.routing import Snapshot
known = Snapshot.of(as_of="2026-06-01", partners={"partner_id": ["p1"]})
with Router.open(known) as router:
    assert router.route({"lead_id": "l1"}, now="2026-06-01T09:00").partner_id == "p1"
"""
    assert not imported_by(statement) & TRAINED_WITH


def test_commands_on_the_ledger_bring_no_training(tmp_path: Path) -> None:
    statement = f"""
from pathlib import Path
from partnerml.cli import app
from partnerml.routing import Ledger, Snapshot
from partnerml.routing._snapshot_files import publish_current
folder = Path({str(tmp_path)!r})
(folder / "partnerml.yaml").write_text("data: {{source: .}}")
snapshots = folder / "out" / "snapshots"
publish_current(snapshots, Snapshot.of(as_of="2026-06-01", partners={{"partner_id": ["p1"]}}).write(snapshots).name)
Ledger.open(f"sqlite:///{{folder}}/out/ledger.db").close()
assert app.main(["expire", "-c", str(folder / "partnerml.yaml"), "--quiet"], standalone_mode=False) == 0
"""
    assert not imported_by(statement) & (TRAINED_WITH | {"lightgbm", "sklearn"})


def test_help_of_the_command_line_brings_nothing_heavy() -> None:
    heavy = imported_by("from partnerml.cli import app\napp.main(['--help'], standalone_mode=False)") & set(HEAVY)
    assert not heavy


# one process has loaded what others made, and each name comes first in a copy of it
EACH_FIRST = """
import os, sys
import duckdb, ibis, lightgbm, pandas, pydantic, scipy.stats, sklearn.linear_model, sqlalchemy
assert not any(name.startswith("partnerml") for name in sys.modules)
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            exec(f"from partnerml import {name}")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    failed += [name] * (os.waitpid(child, 0)[1] != 0)
print(*failed)
"""


def fail_when_first(names: list[str]) -> str:
    """Those names that cannot be imported before any other."""
    done = subprocess.run([sys.executable, "-c", EACH_FIRST, *names], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_each_public_name_can_come_first() -> None:
    # a name that only resolves after another one was used would be found by no other test
    names = [name for name in partnerml.__all__ if not name.startswith("__")]
    assert fail_when_first([*names, "no_such_name"]) == "no_such_name"
