"""The demo, and the commands on what it leaves: everything real, from raw tables to the page."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from partnerml import demo
from partnerml.cli import app
from partnerml.errors import ConfigError
from partnerml.training import _recipe

AS_OF = "2026-01-01"
pytestmark = pytest.mark.xdist_group("demo")


def partnerml(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def digests(folder: Path) -> dict[str, str]:
    """All outputs but those that are exempt from being the same: the store of MLflow and the run record."""
    exempt = ("mlflow.db", "mlartifacts/", "run.json", ".partnerml.lock", ".spill")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(files.items())
        if not any(part in name for part in exempt)
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a demo and what it printed; fewer folds than usual, to be done in half the time."""
    folder = tmp_path_factory.mktemp("demo") / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recipe, "MAX_FOLDS", 4)
        done = partnerml("demo", "--dir", folder, "--partners", 1000)
    assert done.exit_code == 0, done.stderr
    return folder, done.stdout


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        demo.run(tmp_path, partners=10)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        demo.init(tmp_path / "file")


@pytest.mark.slow
def test_a_programme_too_small_to_learn_from_is_told(tmp_path):
    done = partnerml("demo", "--dir", tmp_path / "small", "--partners", 20)
    assert done.exit_code == 0, done.stderr
    assert "skipped" in done.stdout
    assert "report: " in done.stdout
    page = (tmp_path / "small" / "out" / "reports" / AS_OF / "index.html").read_text()
    assert "No churn scores." in page


@pytest.mark.slow
def test_the_demo_shows_data_model_partners_and_report(shown):
    folder, printed = shown
    assert "0 errors, 0 warnings" in printed
    assert "log loss" in printed
    assert "Whom to call first" in printed
    assert "activit" in printed  # the reasons
    assert f"report: {folder / 'out' / 'reports' / AS_OF / 'index.html'}" in printed


@pytest.mark.slow
def test_the_scores_are_those_of_the_contract(shown):
    frame = pd.read_parquet(shown[0] / "out" / "scores" / "churn" / f"date={AS_OF}" / "scores.parquet")
    assert list(frame.columns) == [
        *("partner_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread"),
        *("risk_30d", "risk_60d", "risk_90d", "risk_180d", "revenue_at_risk", "model_version"),
    ]
    assert frame["partner_id"].is_unique
    assert frame["score"].between(0, 1).all()
    assert (frame["risk_90d"] - frame["score"]).abs().max() < 1e-12
    assert (frame["risk_180d"] >= frame["risk_90d"]).all()
    assert frame["reasons"].map(len).eq(3).all()


@pytest.mark.slow
def test_the_commands_agree_with_the_night_byte_for_byte(shown):
    folder = shown[0]
    config = folder / "partnerml.yaml"
    before = digests(folder / "out")
    again = partnerml("nightly", "-c", config, "--as-of", AS_OF, "--json")
    assert again.exit_code == 0, again.stderr
    stages = json.loads(again.stdout)["stages"]
    assert [stage["repeated"] for stage in stages] == [False, True, True, True]
    assert digests(folder / "out") == before
    scored = partnerml("score", "churn", "-c", config, "--as-of", AS_OF, "--set", "engine.threads=1")
    assert scored.exit_code == 0, scored.stderr
    assert "whom to call first" in scored.stdout
    assert partnerml("report", "-c", config).exit_code == 0
    assert digests(folder / "out") == before


@pytest.mark.slow
def test_the_first_champion_cannot_be_rolled_back(shown):
    done = partnerml("rollback", "churn", "-c", shown[0] / "partnerml.yaml")
    assert done.exit_code == 2
    assert "there is none to go back to" in done.stderr


@pytest.mark.slow
def test_a_score_of_the_past_is_warned_of(shown):
    done = partnerml("score", "all", "-c", shown[0] / "partnerml.yaml", "--as-of", "2025-12-01", "--json")
    assert done.exit_code == 0, done.stderr
    assert "trained on what was known until 2026-01-01" in done.stderr
    assert json.loads(done.stdout)["scores"][0]["rows"] > 100
