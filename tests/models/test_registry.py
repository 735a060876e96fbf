"""Runs, versions, aliases and rollback in a real MLflow store, and what MLflow itself makes of our models."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.models.made_up_models import LOGINS, frame, made_up

from partnerml.errors import ConfigError, MissingExtraError, ModelError, NoChampionError
from partnerml.models import _registry
from partnerml.models._artifact import load_model
from partnerml.models._registry import Registry
from partnerml.models._run_record import flat, run_metrics, run_parameters

pytestmark = pytest.mark.xdist_group("registry")


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """One MLflow store for all tests: making one takes seconds."""
    return tmp_path_factory.mktemp("out") / "mlflow.db"


@pytest.fixture(scope="session")
def trained(store) -> tuple[str, str]:
    """Two runs of two models."""
    registry = Registry(store)
    return registry.log_run("churn", made_up(0)), registry.log_run("churn", made_up(1), metrics={"extra": 0.5})


@pytest.fixture
def crowned(store, trained, request) -> Registry:
    """A task of its own with two versions, the first of which is champion."""
    registry = Registry(store)
    for run in trained:
        registry.register(request.node.name, run)
    registry.promote(request.node.name, 1)
    return registry


def _client(store):
    with _registry._quiet() as mlflow:
        address = f"sqlite:///{store}"
        return mlflow.MlflowClient(tracking_uri=address, registry_uri=address)


@pytest.mark.slow
def test_a_run_holds_parameters_metrics_with_intervals_folds_and_documents(store, trained, tmp_path):
    client, model = _client(store), made_up(1)
    run = client.get_run(trained[1])
    assert client.get_experiment(run.info.experiment_id).name == "churn"
    assert run.info.status == "FINISHED"
    assert run.data.tags["partnerml.version"] == model.version
    assert run.data.tags["partnerml.data_fingerprint"] == "0123456789abcdef"
    assert run.data.params["trees.n_estimators"] == "15"
    assert run.data.params["task.horizon_days"] == "90"
    assert float(run.data.params["weights.logistic"]) == 0.3
    assert not [name for name in run.data.params if name.startswith("training.typical")]
    interval = model.evaluation["models"]["model"]["log_loss"]
    assert run.data.metrics["log_loss"] == interval["estimate"]
    assert run.data.metrics["log_loss.low"] == interval["low"]
    assert run.data.metrics["base_rate.brier"] == model.evaluation["models"]["base_rate"]["brier"]["estimate"]
    assert run.data.metrics["extra"] == 0.5
    history = client.get_metric_history(trained[1], "fold.auc")
    folds = [fold["auc"] for fold in model.evaluation["folds"] if fold["model"] == "model"]
    assert [(metric.step, metric.value) for metric in history] == list(enumerate(folds))
    figures = {file.path for file in client.list_artifacts(trained[1], "figures")}
    assert {"figures/calibration.svg", "figures/gain.svg", "figures/folds_log_loss.svg"} <= figures
    written = client.download_artifacts(trained[1], "dictionary.json", dst_path=str(tmp_path))
    assert json.loads(Path(written).read_text()) == [info.to_dict() for info in model.dictionary]


@pytest.mark.slow
def test_a_run_holds_more_texts_and_tables_and_the_documents_of_the_model(store, tmp_path):
    client, registry = _client(store), Registry(store)
    importance = {"drivers": [{"direction": -1.0, "high": None, "importance": 1.0, "low": None, "words": "logins"}]}
    model = made_up(0).with_documents({"importance": importance})
    replay = pd.DataFrame(
        {"partner_id": ["p1", "p2"], "as_of": pd.Timestamp("2026-01-01", tz="UTC"), "score": [0.1, 0.9]}
    )
    run = registry.log_run("documents", model, texts={"card/card.md": "# ä\n"}, tables={"replay": replay})
    for name, text in (("card/card.md", "# ä\n"), ("documents/importance.json", json.dumps(importance, indent=2))):
        assert Path(client.download_artifacts(run, name, dst_path=str(tmp_path))).read_text() == text
    assert "figures/importance.svg" in {file.path for file in client.list_artifacts(run, "figures")}
    registered = registry.register("documents", run)
    pd.testing.assert_frame_equal(registry.table(registered, "replay"), replay, check_dtype=False)
    assert registry.table(registered, "nothing") is None
    assert load_model("models:/documents/1", store=store).documents == model.documents


@pytest.mark.slow
def test_files_lie_beside_the_store_and_the_process_stays_as_it_was(store, trained, monkeypatch, tmp_path):
    assert {path.name for path in store.parent.iterdir()} == {"mlflow.db", "mlartifacts"}
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    Registry(store).register("quiet", trained[0], alias="challenger")
    assert Registry(store).load("models:/quiet@challenger").version == made_up(0).version
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) == []
    with _registry._quiet() as mlflow:
        assert str(store) not in mlflow.get_tracking_uri()
        assert mlflow.active_run() is None


@pytest.mark.slow
def test_promotion_makes_a_champion_and_rollback_the_former_one(crowned, request):
    task = request.node.name
    assert crowned.champion(task).version == made_up(0).version
    with pytest.raises(NoChampionError, match=rf"{task} version 1 is the first champion in .*none to go back to"):
        crowned.rollback(task)
    assert crowned.promote(task, 2).aliases == ("champion",)
    assert crowned.champion(task).version == made_up(1).version
    assert [(each.version, each.aliases) for each in crowned.versions(task)] == [(2, ("champion",)), (1, ())]
    restored = crowned.rollback(task)
    assert (restored.version, restored.model_version, restored.uri) == (1, made_up(0).version, f"models:/{task}/1")
    assert crowned.champion(task).version == made_up(0).version
    assert crowned.current(task) == restored
    crowned.promote(task, 2)
    crowned.promote(task, 2)
    assert crowned.rollback(task).version == 1
    with pytest.raises(NoChampionError, match="is the first champion"):
        crowned.rollback(task)


@pytest.mark.slow
def test_rollback_passes_over_versions_that_are_gone_and_knows_champions_made_elsewhere(crowned, trained, request):
    task = request.node.name
    for run in trained:
        crowned.register(task, run)
    for version in (2, 3):
        crowned.promote(task, version)
    crowned._client.set_registered_model_alias(task, "champion", "4")
    crowned._client.delete_model_version(task, "3")
    assert crowned.rollback(task).version == 2
    crowned._client.set_registered_model_alias(task, "champion", "4")
    crowned.promote(task, 1)
    assert crowned.rollback(task).version == 4


@pytest.mark.slow
def test_a_promoted_challenger_is_one_no_longer(crowned, trained, request):
    task = request.node.name
    assert crowned.register(task, trained[1], alias="challenger").aliases == ("challenger",)
    assert crowned.current(task, alias="challenger").version == 3
    crowned.promote(task, 3)
    assert crowned.current(task, alias="challenger") is None


@pytest.mark.slow
def test_models_load_by_alias_and_version_through_the_public_door(crowned, request, store):
    task = request.node.name
    X, _ = frame(30, seed=3)
    loaded = load_model(f"models:/{task}@champion", store=store)
    assert (loaded.predict_proba(X) == made_up(0).predict_proba(X)).all()
    assert load_model(f"models:/{task}/2", store=f"sqlite:///{store}").version == made_up(1).version
    with pytest.raises(ModelError, match=r"models:/NAME@ALIAS or models:/NAME/VERSION; got 'models:/churn'"):
        load_model("models:/churn", store=store)
    with pytest.raises(NoChampionError, match=f"{task} has no version 9 in"):
        load_model(f"models:/{task}/9", store=store)
    with pytest.raises(NoChampionError, match=f"{task} has no alias 'challenger'"):
        load_model(f"models:/{task}@challenger", store=store)
    with pytest.raises(NoChampionError, match=r"no champion for fit in .*; run partnerml train fit"):
        load_model("models:/fit@champion", store=store)
    with pytest.raises(NoChampionError, match="fit has no version 1"):
        Registry(store).promote("fit", 1)
    assert Registry(store).versions("fit") == ()
    assert Registry(store).current("fit") is None


def test_questions_make_no_store(tmp_path):
    registry = Registry(tmp_path / "out" / "mlflow.db")
    assert registry.versions("churn") == ()
    assert registry.current("churn") is None
    for ask in (registry.champion, registry.rollback):
        with pytest.raises(NoChampionError, match=r"no model of churn has been trained: .*mlflow.db is not there; run"):
            ask("churn")
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_a_file_or_an_address(tmp_path):
    with pytest.raises(ConfigError, match=r"store must be an SQLite file such as .*mlflow\.db"):
        Registry(tmp_path)
    assert Registry("https://mlflow.example.org").artifacts is None
    assert Registry(tmp_path / "a.db").artifacts == tmp_path / "mlartifacts"


def test_without_mlflow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", None)
    registry = Registry(tmp_path / "mlflow.db")
    for ask in (registry.check, lambda: registry.log_run("churn", made_up())):
        with pytest.raises(MissingExtraError, match=r'pip install "partnerml\[mlflow\]"'):
            ask()


@pytest.mark.slow
def test_mlflow_is_imported_without_telemetry_and_leaves_logging_as_it_was(tmp_path):
    code = (
        "import logging, os, warnings\n"
        "warnings.simplefilter('error')\n"
        "from partnerml.models import Registry\n"
        "Registry('mlflow.db').check()\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
        "assert 'MLFLOW_DISABLE_TELEMETRY' not in os.environ\n"
        "assert logging.getLogger('mlflow').level == logging.INFO\n"
    )
    # what MLflow takes for a test run or a CI would silence it without us
    hidden = {"PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_files_that_are_gone_or_not_ours_are_told(crowned, request, trained, store):
    task = request.node.name
    found = crowned._client.get_model_version(task, "1")
    crowned._client.create_model_version(task, str(Path(found.source) / "nowhere"))
    with pytest.raises(ModelError, match=f"the files of {task} version 3 are gone: .*nowhere is not there"):
        crowned.load(f"models:/{task}/3")
    crowned._client.create_model_version(task, str(store.parent))
    with pytest.raises(ModelError, match=f"{task} version 4 was not registered by partnerml"):
        crowned.load(f"models:/{task}/4")
    crowned._client.create_model_version(task, found.source, tags={"partnerml.version": "abcdefabcdef"})
    with pytest.raises(ModelError, match=f"registered as abcdefabcdef, and its files are those of {made_up().version}"):
        crowned.load(f"models:/{task}/5")


@pytest.mark.slow
def test_a_run_that_breaks_is_marked_as_failed_and_cannot_be_registered(store, trained, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("disk full")

    registry = Registry(store)
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "_log_model", broken)
        with pytest.raises(OSError, match="disk full"):
            registry.log_run("broken", made_up())
    experiment = registry._client.get_experiment_by_name("broken")
    (run,) = registry._client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    with pytest.raises(ModelError, match=f"run {run.info.run_id} in .* has no model to register"):
        registry.register("broken", run.info.run_id)


@pytest.mark.slow
def test_mlflow_itself_loads_the_registered_model(crowned, request, store):
    task = request.node.name
    X, _ = frame(40, seed=8)
    with _registry._quiet() as mlflow:
        former = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{store}")
        try:
            served = mlflow.pyfunc.load_model(f"models:/{task}@champion")
        finally:
            mlflow.set_tracking_uri(former)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        expected = made_up(0).predict_proba(X)
        assert (served.predict(X)["score"].to_numpy() == expected).all()
        assert (served.predict(X[sorted(X.columns)].astype({X.columns[0]: object}))["score"] == expected).all()
        with pytest.raises(mlflow.exceptions.MlflowException, match="Can not safely convert int64 to float64"):
            served.predict(X.astype({LOGINS: "int64"}))
        with pytest.raises(ModelError, match=f"1 of 6 columns .* missing: {LOGINS}"):
            served.predict(X.drop(columns=LOGINS))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answer(port: int, payload: dict, process: subprocess.Popen, within: float) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    last = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.load(response)
        except OSError:
            if process.poll() is not None or time.monotonic() > last:
                raise
            time.sleep(0.3)


@pytest.mark.slow
def test_mlflow_serves_the_registered_model_over_http(crowned, request, store, tmp_path):
    X, _ = frame(12, seed=9)
    port = _free_port()
    # mlflow starts uvicorn by its name, as in an activated environment
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    address = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **address, "PATH": path}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{request.node.name}@champion"]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command + options, env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
        try:
            payload = {"dataframe_split": json.loads(X.astype({X.columns[0]: object}).to_json(orient="split"))}
            answer = _answer(port, payload, process, within=900)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
            process.wait(30)
    scores = [row["score"] for row in answer["predictions"]]
    np.testing.assert_allclose(scores, made_up(0).predict_proba(X), rtol=1e-12)


def test_what_is_logged_has_names_that_mlflow_takes():
    assert flat({"a": {"b": 1, "c d": [1, 2]}, "BG=NBD": "x", "long": "y" * 501}) == {
        "a.b": "1",
        "a.c d": "[1, 2]",
        "BG_NBD": "x",
    }
    known = run_parameters(made_up())
    assert known["logistic.C"] == "0.05"
    assert known["training.seed"] == "0"
    assert known["training.until"] == "2026-03-01T00:00:00+00:00"


def test_undefined_metrics_are_left_out_and_folds_are_steps_in_time():
    evaluation = {
        "models": {
            "model": {"auc": {"estimate": 0.7, "low": None, "high": 0.8}},
            "recency": {"auc": {"estimate": 0.6}},
        },
        "folds": [
            {"as_of": "2026-02-01", "model": "model", "auc": 0.5, "brier": None},
            {"as_of": "2026-01-01", "model": "recency", "auc": 0.4},
        ],
    }
    assert list(run_metrics(evaluation)) == [
        ("auc", 0.7, 0),
        ("auc.high", 0.8, 0),
        ("recency.auc", 0.6, 0),
        ("fold.auc", 0.5, 1),
        ("fold.recency.auc", 0.4, 0),
    ]
    assert list(run_metrics({})) == []


@pytest.mark.slow
def test_a_moved_store_is_told_by_its_missing_files(crowned, request, store, tmp_path):
    shutil.copy(store, tmp_path / "mlflow.db")
    found = crowned._client.get_model_version(request.node.name, "1")
    hidden = Path(found.source).rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(ModelError, match="are gone"):
            Registry(tmp_path / "mlflow.db").champion(request.node.name)
    finally:
        hidden.rename(found.source)
