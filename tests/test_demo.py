"""The demo, and the commands on what it leaves: everything real, from raw tables to the page."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from tests.conftest import FOLDS

from partnerml import demo
from partnerml.cli import app
from partnerml.errors import ConfigError
from partnerml.training import _recipe

AS_OF, MORNING = "2026-01-01", "2026-01-01T09:00"
# beside the docs, whose sample is the same programme
pytestmark = pytest.mark.xdist_group("docs")


def partnerml(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def digests(folder: Path) -> dict[str, str]:
    """All outputs but those that are exempt from being the same: the store of MLflow, the run record and the ledger."""
    exempt = ("mlflow.db", "mlartifacts/", "run.json", ".partnerml.lock", ".spill", "ledger.db")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(files.items())
        if not any(part in name for part in exempt)
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory, shared_train) -> tuple[Path, str]:
    """The folder of a demo and what it printed; fewer folds than usual, to be done in half the time."""
    folder = tmp_path_factory.mktemp("demo") / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recipe, "MAX_FOLDS", FOLDS)
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
    # with four folds close may not be promoted, and is not scored then; routing goes by it all the same
    assert [stage["name"] for stage in stages if not stage["repeated"] and stage["status"] == "done"] == ["validate"]
    assert {"publish", "report"} <= {stage["name"] for stage in stages if stage["repeated"]}
    assert digests(folder / "out") == before
    scored = partnerml("score", "churn", "-c", config, "--as-of", AS_OF, "--set", "engine.threads=2")
    assert scored.exit_code == 0, scored.stderr
    assert "whom to call first" in scored.stdout
    assert partnerml("report", "-c", config).exit_code == 0
    # a page by itself does not know why a task was skipped; the next night does
    page = f"reports/{AS_OF}/index.html"
    assert {name for name, found in digests(folder / "out").items() if found != before[name]} <= {page}
    assert partnerml("nightly", "-c", config, "--as-of", AS_OF).exit_code == 0
    assert digests(folder / "out") == before


def route(folder: Path, out: Path, *more: object) -> dict:
    command = ("route", "-c", folder / "partnerml.yaml", "--leads", folder / "new-leads.csv", "--out", out)
    done = partnerml(*command, "--now", MORNING, "--json", *more)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_leads_of_the_morning_are_routed(shown):
    folder, printed = shown
    assert "Who gets the leads of the morning" in printed
    assert "the most likely to close of" in printed
    assert "answer with: partnerml respond offer-" in printed
    frame = pd.read_parquet(folder / "out" / "decisions.parquet")
    assert len(frame) == 25
    # one who knows the truth of this world would find all of these as well
    assert {"assigned", "duplicate", "existing_owner", "registered_deal"} >= set(frame["status"])
    given = frame[frame["status"] == "assigned"]
    assert len(given) >= 3
    assert given["p_win"].between(0, 1).all()
    assert given["reasons"].map(len).eq(3).all()
    assert given["propensity"].eq(1.0).all()


@pytest.mark.slow
def test_the_same_leads_get_the_same_decisions_and_the_same_snapshot(shown, tmp_path):
    folder = shown[0]
    route(folder, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (folder / "out" / "decisions.parquet").read_bytes()
    current = folder / "out" / "snapshots" / "current"
    before = current.read_text().strip()
    done = partnerml(
        "publish", "-c", folder / "partnerml.yaml", "--as-of", AS_OF, "--set", "engine.threads=2", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["snapshot_id"] == before == current.read_text().strip()


@pytest.mark.slow
def test_a_decision_of_the_model_is_made_again_in_another_process(shown):
    folder = shown[0]
    frame = pd.read_parquet(folder / "out" / "decisions.parquet").set_index("status")
    decision = frame.loc[["assigned"], "decision_id"].iloc[0]
    again = subprocess.run(
        [sys.executable, "-m", "partnerml", "replay", decision, "-c", str(folder / "partnerml.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("comes out the same, byte for byte:")


@pytest.mark.slow
def test_other_rules_are_tried_without_an_offer(shown, tmp_path):
    folder = shown[0]
    anywhere = (
        "--dry-run",
        "--set",
        "routing.rules.territory.enabled=false",
        "--set",
        f"routing.ledger={tmp_path}/tried.db",
    )
    would = route(folder, tmp_path / "would.jsonl", *anywhere)
    assert would["dry_run"] is True
    texts = [json.loads(line) for line in (tmp_path / "would.jsonl").read_text().splitlines()]
    assert not any(step["rule"] == "territory" for text in texts for step in text["funnel"])


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
