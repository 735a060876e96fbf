"""The examples run, each in a process of its own, and say what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import FOLDS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
OLIST = ROOT / "../shared/data/olist"

# a model is judged on fewer origins than usual, to be done in half the time
FEW_ORIGINS = f"""
import runpy, sys
from partnerml.training import _recipe
_recipe.MAX_FOLDS = {FOLDS}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(name: str, *arguments: str, folder: Path, trains: bool = False) -> str:
    """Run an example with warnings as errors of ours, and return what it prints."""
    started = [sys.executable, *(["-c", FEW_ORIGINS] if trains else [])]
    environment = {**os.environ, "PYTHONWARNINGS": "error::FutureWarning,error::DeprecationWarning:partnerml"}
    done = subprocess.run(
        [*started, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    told = run("quickstart.py", "--partners", "600", folder=tmp_path, trains=True)
    assert "0 remarks" in told
    assert "model      AUC" in told
    assert "recency    AUC" in told
    assert "the ten with the most revenue at risk" in told
    reasons = [line for line in told.splitlines() if line.startswith("      ")]
    assert len(reasons) == 30


@pytest.mark.slow
def test_routing(tmp_path: Path) -> None:
    told = run("routing.py", "--partners", "200", folder=tmp_path, trains=True)
    assert "as in the dry run: True" in told
    assert "the most likely to close of" in told
    assert re.search(r"^why not P\d+ again: it has had this lead before$", told, re.MULTILINE)
    assert "decided again, the same: True" in told
    assert "rows to learn from, 0 remarks of the audit" in told


@pytest.mark.slow
def test_point_in_time(tmp_path: Path) -> None:
    told = run("point_in_time.py", folder=tmp_path)
    rows = {
        line.split()[0]: line.split()[-2:] for line in told.splitlines() if line.strip().startswith(("acme", "globex"))
    }
    assert rows == {"acme": ["2.0", "0.0"], "globex": ["1.0", "5000.0"]}
    assert "the features are the same: True" in told


@pytest.mark.slow
def test_features(tmp_path: Path) -> None:
    told = run("features.py", "--partners", "120", folder=tmp_path)
    assert re.search(r"^P\d+ alone equals the batch: True$", told, re.MULTILINE)
    assert re.search(r"^ +\d+\.00  portal logins in the last 30 days$", told, re.MULTILINE)
    assert re.search(r"^ +\d+\.\d\d  events in the last 90 days, as a percentile among", told, re.MULTILINE)


def test_spark_job(tmp_path: Path) -> None:
    # by itself it plans on Spark for minutes; what it calls is held by tests/spark
    pytest.importorskip("pyspark", reason="the extra spark is not installed")
    assert "spark-submit" in run("spark_job.py", "--help", folder=tmp_path)


@pytest.mark.slow
def test_crm_export(tmp_path: Path) -> None:
    told = run("crm_export.py", folder=tmp_path)
    assert "ok: 0 errors, 0 warnings" in told
    assert "Nordlicht Systeme GmbH" in told
    assert "001Gb000003KxQr " not in told, "15 characters became 18"
    assert "DE-BY" in told
    assert "2250.0" in told, "2,500 dollars are 2,250 euros"
    assert "Entered Twice Ltd" not in told
    assert told.count("portal_login") == 1, "neither the owner's login nor the failed one"


@pytest.mark.slow
def test_crm_export_leaves_its_files_where_asked(tmp_path: Path) -> None:
    run("crm_export.py", "--folder", "kept", folder=tmp_path)
    assert (tmp_path / "kept" / "partnerml.yaml").is_file()


def test_olist_without_the_data_says_where_to_get_it(tmp_path: Path) -> None:
    told = run("olist_churn.py", "no-such-folder", folder=tmp_path)
    assert "kaggle.com/olistbr" in told


@pytest.mark.slow
def test_olist(tmp_path: Path) -> None:
    if not OLIST.is_dir():
        pytest.skip("the Olist files are not beside the checkout")
    told = run("olist_churn.py", folder=tmp_path, trains=True)
    assert "active sellers as of 2018-05-01" in told
    assert "the five with the most revenue at risk" in told


def test_olist_routing_without_the_data_says_where_to_get_it(tmp_path: Path) -> None:
    told = run("olist_routing.py", "no-such-folder", folder=tmp_path)
    assert "kaggle.com/olistbr" in told


@pytest.mark.slow
def test_olist_routing(tmp_path: Path) -> None:
    if not OLIST.is_dir():
        pytest.skip("the Olist files are not beside the checkout")
    told = run("olist_routing.py", folder=tmp_path)
    assert re.search(r"^one by one: (\d+) of \1 orders go to \d+ sellers$", told, re.MULTILINE)
    assert re.search(r"^why not [0-9a-f]{32}: it has (\d+) of \1 leads this week$", told, re.MULTILINE)
    assert re.search(r"^why not [0-9a-f]{32}: it left on 201[78]-", told, re.MULTILINE)
    assert re.search(r"^as a batch: ([\d,]+) of \1 orders go to", told, re.MULTILINE)
    # that those with the best chance sell, and that this is no news of all who might have had the order
    (best, sold), (all_said, all_sold) = re.findall(r"  (0\.\d{3})  (0\.\d{3})$", told, re.MULTILINE)
    assert float(sold) > float(all_sold) + 0.3
    assert abs(float(best) - float(sold)) < 0.1
    assert abs(float(all_said) - float(all_sold)) < 0.1


def test_every_example_is_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in source] == []
