"""Of several tasks, one with too little data stops no other."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from partnerml import scoring
from partnerml.cli import app
from partnerml.errors import NotEnoughDataError
from partnerml.training import _together, run_all

LITTLE = "10 rows, and 50 are needed"


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The tasks that were trained; of `close` there is too little data."""
    seen: list[str] = []

    def run(eco, task, **_):
        if task.name == "close":
            raise NotEnoughDataError(LITTLE)
        seen.append(task.name)
        return task.name

    monkeypatch.setattr(_together, "run", run)
    return seen


def named(*names: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name) for name in names]


def test_the_others_are_trained(asked, caplog):
    assert run_all(None, named("churn", "close", "fit")) == ["churn", "fit"] == asked
    assert f"close is not trained: {LITTLE}" in caplog.text


def test_where_there_is_too_little_for_all_it_is_said(asked, caplog):
    with pytest.raises(NotEnoughDataError, match=LITTLE):
        run_all(None, named("close", "close"))
    caplog.clear()
    with pytest.raises(NotEnoughDataError, match=LITTLE):
        run_all(None, named("close"))
    assert caplog.text == ""


def test_the_others_are_scored(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "partners.csv").write_text("partner_id\nP1\n")
    (tmp_path / "partnerml.yaml").write_text("data: {source: data/}\ntasks: {churn: {}, fit: {}}\n")

    def score(*_, **__):
        raise NotEnoughDataError(LITTLE)

    registry = SimpleNamespace(champion=lambda task: SimpleNamespace(task={}, training={"until": "2026-01-01"}))
    monkeypatch.setattr("partnerml.nightly.registry_of", lambda config: registry)
    monkeypatch.setattr("partnerml.nightly.warn_if_task_changed", lambda *_: None)
    monkeypatch.setattr(scoring, "score", score)
    arguments = ["-c", str(tmp_path / "partnerml.yaml"), "--as-of", "2026-06-01"]
    done = CliRunner().invoke(app, ["score", "all", *arguments])
    assert done.exit_code == 0, done.stderr
    for task in ("churn", "fit"):
        assert f"{task} is not scored: {LITTLE}" in done.stderr
    done = CliRunner().invoke(app, ["score", "churn", *arguments])
    assert done.exit_code == 2
    assert LITTLE in done.stderr
