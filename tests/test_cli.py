import json
import logging
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from partnerml import outputs
from partnerml.cli import app
from partnerml.cli._app import _logging
from partnerml.errors import InternalError, NotEnoughDataError
from partnerml.progress import Progress

COMMANDS = (
    "card",
    "demo",
    "expire",
    "export",
    "features",
    "for-partner",
    "forget",
    "history",
    "init",
    "nightly",
    "outcomes",
    "outreach",
    "override",
    "publish",
    "queue",
    "replay",
    "report",
    "reprice",
    "respond",
    "rollback",
    "route",
    "score",
    "simulate",
    "train",
    "validate",
    "why-not",
    "withdraw",
)
AS_OF = ("--as-of", "2026-06-01")
WHOLE = {
    "card": ("churn",),
    "expire": (),
    "export": ("assignments", "--out", "assignments.csv"),
    "features": ("churn", *AS_OF),
    "for-partner": ("l1", "p1"),
    "forget": ("l1",),
    "history": ("l1",),
    "nightly": AS_OF,
    "outcomes": ("--from", "closed.csv"),
    "outreach": AS_OF,
    "override": ("l1", "p1", "--by", "Ada", "--reason", "so"),
    "publish": AS_OF,
    "queue": (),
    "replay": ("decision-1",),
    "report": AS_OF,
    "reprice": (),
    "respond": ("offer-1", "accepted"),
    "rollback": ("churn",),
    "route": ("--leads", "leads.csv", "--out", "decisions.csv"),
    "score": ("churn", *AS_OF),
    "simulate": ("2026-06-01",),
    "train": ("churn",),
    "validate": (),
    "why-not": ("l1", "p1"),
    "withdraw": ("offer-1",),
}


def partnerml(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tables(**changed: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """A handful of rows: enough to validate, too few to train."""
    days = pd.date_range("2026-01-01", periods=60, freq="D")
    found = {
        "partners": pd.DataFrame({"partner_id": ["p1", "p2"], "joined_at": ["2025-01-01"] * 2, "name": ["Ada", "Bo"]}),
        "events": pd.DataFrame(
            {"partner_id": ["p1", "p2"] * 30, "occurred_at": days.astype(str), "event_type": ["portal_login"] * 60}
        ),
    }
    return {name: table for name, table in (found | changed).items() if table is not None}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path, **tables())


def write(folder: Path, **frames: pd.DataFrame) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / "data" / f"{name}.csv", index=False)
    path = folder / "partnerml.yaml"
    path.write_text("data: {source: data/}\n")
    return path


def test_every_command_is_there_and_teaches_with_an_example():
    listed = partnerml("--help")
    assert listed.exit_code == 0
    assert tuple(sorted(app.commands)) == COMMANDS
    for name in COMMANDS:
        assert f"\n  {name} " in listed.stdout
        shown = partnerml(name, "--help")
        assert shown.exit_code == 0
        assert "Example" in shown.stdout
        assert f"\n    partnerml {name}" in shown.stdout
        assert "--quiet" in shown.stdout
        assert "--json" in shown.stdout
        assert shown.stdout == partnerml(name, "-h").stdout


def test_help_imports_nothing_heavy():
    code = """
import sys
from partnerml.cli import app
app.main(["train", "--help"], standalone_mode=False)
heavy = {"pandas", "numpy", "pyarrow", "rich", "duckdb", "ibis", "sklearn", "lightgbm", "mlflow", "pydantic", "yaml"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_the_module_runs_too():
    done = subprocess.run([sys.executable, "-m", "partnerml", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("partnerml, version ")


def test_validate_tells_what_is_there(config):
    done = partnerml("validate", "-c", config)
    assert done.exit_code == 0, done.stderr
    assert "events" in done.stdout
    assert "60" in done.stdout
    assert "0 errors" in done.stdout


def test_validate_in_json_is_one_document(config):
    done = partnerml("validate", "-c", config, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["ok"] is True
    assert document["rows"] == {"partners": 2, "events": 60}


def test_quiet_prints_nothing(config):
    done = partnerml("validate", "-c", config, "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", WHOLE)
def test_a_missing_configuration_is_told_in_one_message(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = partnerml(command, *WHOLE[command])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "the configuration partnerml.yaml does not exist. Name one with -c FILE" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_configuration(tmp_path):
    done = partnerml("validate", "-c", tmp_path)
    assert done.exit_code == 2
    assert "is a folder, not a file" in done.stderr


@pytest.mark.parametrize(
    ("command", "wrong"),
    [("validate", ("--set", "data.sorce=x")), ("score", ("churn", *AS_OF, "--set", "tasks.churn.horizont_days=3"))],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(config, command, wrong):
    done = partnerml(command, *wrong, "-c", config)
    assert done.exit_code == 2
    assert "unknown key; did you mean" in done.stderr


def test_a_missing_column_is_an_error_that_names_it(tmp_path):
    config = write(tmp_path, **tables(events=tables()["events"].drop(columns="occurred_at")))
    done = partnerml("validate", "-c", config)
    assert done.exit_code == 2
    assert "occurred_at" in done.stderr
    assert "events" in done.stderr
    assert done.stderr.count("error:") == 1


def test_errors_of_validate_stand_beside_the_report_in_json(tmp_path):
    twice = pd.concat([tables()["partners"]] * 2)
    done = partnerml("validate", "-c", write(tmp_path, **tables(partners=twice)), "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 2
    assert document["ok"] is False
    assert {"table": "partners", "severity": "error"}.items() <= document["violations"][0].items()
    assert document["error"]["exit_code"] == 2
    assert "partners.partner_id" in document["error"]["message"]


def test_a_table_without_rows(tmp_path):
    config = write(tmp_path, **tables(events=tables()["events"].iloc[:0]))
    assert partnerml("validate", "-c", config).exit_code == 0
    done = partnerml("train", "churn", "-c", config)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_too_little_data_to_train_says_how_much_is_needed(config):
    done = partnerml("train", "churn", "-c", config)
    assert done.exit_code == 2
    assert "churn" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["score", "features", "train", "rollback"])
def test_an_unknown_task_is_refused_with_the_nearest_one(config, command):
    rest = [word for word in WHOLE[command] if word != "churn"]
    done = partnerml(command, "chrun", *rest, "-c", config)
    assert done.exit_code == 2
    assert "there is no task 'chrun'; did you mean churn?" in done.stderr


@pytest.mark.parametrize("command", ["score", "features", "nightly", "report"])
def test_a_bad_date_is_refused_by_name(config, command):
    words = [word if word != "2026-06-01" else "2026-02-30" for word in WHOLE[command]]
    done = partnerml(command, *words, "-c", config)
    assert done.exit_code == 2
    assert "--as-of must be a date" in done.stderr
    assert "'2026-02-30'" in done.stderr


def test_a_night_is_of_a_date(config):
    done = partnerml("nightly", "--as-of", "2026-06-01T03:00", "-c", config)
    assert done.exit_code == 2
    assert "which is not 00:00 UTC" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("score", "churn"), "MissingParameter"),
        (("validate", "-c", "nowhere.yaml"), "ConfigError"),
        (("no-such-command",), "NoSuchCommand"),
        (("validate", "--no-such-option"), "NoSuchOption"),
    ],
)
def test_errors_in_json(arguments, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = partnerml(*arguments, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 2
    assert list(document) == ["error"]
    assert document["error"]["exit_code"] == 2
    assert document["error"]["type"] == kind
    assert document["error"]["message"]


def test_without_a_champion_score_ends_with_2_and_score_all_skips(config):
    done = partnerml("score", "churn", *AS_OF, "-c", config)
    assert done.exit_code == 2
    assert "run partnerml train churn" in done.stderr
    done = partnerml("score", "all", *AS_OF, "-c", config, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"scores": []}
    assert "churn is not scored" in done.stderr


@pytest.mark.parametrize(
    ("asked", "configured", "tried"), [((), 0, 0), ((), 7, 7), (("--trials", "5"), 7, 5), (("--trials", "0"), 7, 0)]
)
def test_trials_are_those_asked_for_or_else_configured(config, monkeypatch, asked, configured, tried):
    seen = []

    def run_all(eco, chosen, *, trials, **others):
        seen.append(trials)
        raise NotEnoughDataError("that is all")

    monkeypatch.setattr("partnerml.training.run_all", run_all)
    done = partnerml("train", "churn", *asked, "-c", config, "--set", f"tuning.trials={configured}")
    assert done.exit_code == 2
    assert "that is all" in done.stderr
    assert seen == [tried]


def test_nothing_to_report_and_nothing_to_roll_back(config):
    done = partnerml("report", "-c", config)
    assert done.exit_code == 2
    assert "there are no scores" in done.stderr
    done = partnerml("rollback", "churn", "-c", config)
    assert done.exit_code == 2
    assert "error: " in done.stderr


@pytest.mark.parametrize("command", ["validate", "nightly", "train", "score", "report", "rollback"])
def test_a_folder_in_use_is_told(config, command):
    with outputs.lock(config.parent / "out", purpose="partnerml nightly"):
        done = partnerml(command, *WHOLE[command], "-c", config)
    assert done.exit_code == 2
    assert "is in use by `partnerml nightly` (process " in done.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("oh [red]no[/red]"), "that is our fault: RuntimeError: oh [red]no[/red]"),
        (InternalError("the sums differ"), "that is our fault: the sums differ"),
        (OSError(28, "No space left on device"), "the system refused: [Errno 28] No space left on device"),
    ],
)
def test_our_fault_is_1_and_says_how_to_get_the_traceback(config, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("partnerml.ecosystem.Ecosystem.open", fail)
    monkeypatch.delenv("PARTNERML_DEBUG", raising=False)
    done = partnerml("validate", "-c", config)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    for more, environment in ((("--debug",), {}), ((), {"PARTNERML_DEBUG": "1"})):
        shown = CliRunner(env=environment).invoke(app, ["validate", "-c", str(config), *more])
        assert shown.exit_code == 1
        assert "Traceback (most recent call last)" in shown.stderr
    document = json.loads(partnerml("validate", "-c", config, "--json").stdout)
    assert document["error"]["exit_code"] == 1


def test_an_interrupted_command_says_so(config, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("partnerml.ecosystem.Ecosystem.open", interrupt)
    done = partnerml("validate", "-c", config)
    assert done.exit_code == 130
    assert "interrupted" in done.stderr


def test_the_logger_is_left_as_it_was(config):
    logger = logging.getLogger("partnerml")
    before = (logger.level, logger.propagate, list(logger.handlers))
    partnerml("validate", "-c", config)
    partnerml("score", "churn", *AS_OF, "-c", config)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_what_is_told_while_a_command_runs_is_not_told_after_it():
    logger = logging.getLogger("partnerml")
    assert not logger.isEnabledFor(logging.INFO)
    with _logging(Progress.silent(), quiet=False):
        assert logger.isEnabledFor(logging.INFO)  # which a logger remembers
    assert not logger.isEnabledFor(logging.INFO)


def test_init_refuses_a_folder_with_something_in_it_and_deletes_nothing(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = partnerml("init", tmp_path)
    assert done.exit_code == 2
    assert "is not empty (1 entries, the first is mine.txt)" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
    assert partnerml("init", tmp_path, "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "partnerml.yaml"]


def test_what_init_writes_is_a_configuration_with_the_defaults(tmp_path):
    from partnerml.config import Config

    assert partnerml("init", tmp_path / "crm").exit_code == 0
    written = Config.load(tmp_path / "crm" / "partnerml.yaml")
    (tmp_path / "small.yaml").write_text("data: {source: crm/data/}\noutput: crm/out/\ntasks: {churn: {}}")
    assert written.resolved() == Config.load(tmp_path / "small.yaml").resolved()


def test_a_sample_is_ready_to_run(tmp_path):
    done = partnerml("init", tmp_path / "trial", "--sample", "synthetic", "--partners", "60", "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["tables"]["partners"] == 60
    checked = partnerml("validate", "-c", document["config"], "--json")
    assert json.loads(checked.stdout)["violations"] == []
    assert checked.exit_code == 0


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A configuration with a sample of sixty partners."""
    made = partnerml(
        "init", tmp_path_factory.mktemp("cli") / "trial", "--sample", "synthetic", "--partners", "60", "--json"
    )
    return Path(json.loads(made.stdout)["config"])


# a handful of features: the whole catalogue is tested where it is built
FEW = ("--set", "features.include=[activity__*, partners__all__*, pair__place__*, pair__all__*]")


def built(task, config, *more):
    done = partnerml("features", task, "-c", config, "--json", *more)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_features_and_their_dictionary(trial, tmp_path):
    document = built("churn", trial, "--as-of", "2025-06-01", *FEW)
    (file,) = document["files"]
    place = Path(file["path"])
    frame = pd.read_parquet(place)
    dictionary = json.loads((place.parent / "dictionary.json").read_text())
    assert len(frame) == file["rows"] > 0
    assert list(frame.columns) == ["partner_id", "as_of", *(entry["name"] for entry in dictionary)]
    assert len(dictionary) == document["features"]
    assert place.parent == trial.parent / "out" / "features" / "churn" / "date=2025-06-01"
    assert sorted(path.name for path in place.parent.iterdir()) == ["dictionary.json", "features.parquet"]
    assert {"name", "definition", "table", "columns", "window_days", "null_rule", "words", "unit"} <= set(dictionary[0])
    before = place.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    for _ in range(2):
        (again,) = built("churn", trial, "--as-of", "2025-06-01", "--out", elsewhere, *FEW)["files"]
        assert Path(again["path"]) == elsewhere / "features.parquet"
        assert (elsewhere / "features.parquet").read_bytes() == before


@pytest.mark.slow
def test_several_dates_have_the_same_columns_and_a_folder_each(trial, tmp_path):
    dates = ("--as-of", "2025-06-01", "--as-of", "2025-04-01", "--as-of", "2025-06-01")
    files = built("churn", trial, *dates, "--out", tmp_path, *FEW)["files"]
    assert [file["as_of"][:10] for file in files] == ["2025-04-01", "2025-06-01"]
    assert [Path(file["path"]).parent.name for file in files] == ["date=2025-04-01", "date=2025-06-01"]
    frames = [pd.read_parquet(file["path"]) for file in files]
    assert list(frames[0].columns) == list(frames[1].columns)
    for file, frame in zip(files, frames, strict=True):
        assert frame["as_of"].dt.strftime("%Y-%m-%d").unique().tolist() == [file["as_of"][:10]]
        assert len(frame) == file["rows"]
    # columns that were found before the first date do not depend on the later one
    (alone,) = built("churn", trial, "--as-of", "2025-04-01", *FEW)["files"]
    pd.testing.assert_frame_equal(pd.read_parquet(alone["path"]), frames[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "key", "few"), [("fit", ["partner_id"], ()), ("close", ["lead_id", "partner_id"], FEW)]
)
def test_features_of_tasks_that_are_not_trained_yet(task, key, few, trial, tmp_path):
    dates = ("--as-of", "2024-09-01", "--as-of", "2025-06-01")
    earlier, later = built(task, trial, *dates, "--out", tmp_path, *few)["files"]
    assert 0 < earlier["rows"] < later["rows"]
    for file in (earlier, later):
        frame = pd.read_parquet(file["path"])
        assert list(frame.columns[: len(key) + 1]) == [*key, "as_of"]
        assert len(frame) == file["rows"]
        assert (frame["as_of"] <= pd.Timestamp(file["as_of"])).all()
        sources = {name.partition("__")[0] for name in frame.columns[len(key) + 1 :]}
        assert sources == ({"partners"} if task == "fit" else {"activity", "pair"})


def test_what_there_is_to_know_is_told_without_building_it(trial, monkeypatch):
    monkeypatch.setattr("partnerml.tasks._churn.build", lambda *_, **__: pytest.fail("nothing is to be built"))
    done = partnerml("features", "churn", "--as-of", "2025-06-01", "-c", trial, "--describe")
    assert done.exit_code == 0, done.stderr
    assert "portal_login" in done.stdout
    assert "left out" not in done.stdout
    assert len(done.stdout.splitlines()) < 200, "a line for each family of windows, not for each feature"
    document = built("churn", trial, "--as-of", "2025-06-01", "--describe")
    assert document["features"] == len(document["dictionary"]) == len(document["catalogue"]["features"]) > 200
    assert [entry["name"] for entry in document["dictionary"]] == document["catalogue"]["features"]
    numbers = [line.split() for line in done.stdout.splitlines() if line.rstrip().endswith(")")]
    told = [int(words[-1].strip("()")) for words in numbers if words[-1].strip("()").isdigit()]
    assert sum(told) == document["features"], "the subjects hold every feature once"
    assert not (trial.parent / "out" / "features" / "churn" / "date=2025-06-01" / ".partial").exists()


def test_what_the_tables_leave_out_is_told(config):
    done = partnerml("features", "churn", *AS_OF, "-c", config, "--describe")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "left out: everything about deals, for want of the table" in lines
    assert any(line.startswith("left out: value, value_mean") and "column events.value" in line for line in lines)


def test_the_configuration_chooses_features(config):
    chosen = ("--set", "features.include=[events__*]", "--set", "features.event_types=[portal_login]")
    document = built("churn", config, "--as-of", "2026-03-01", *chosen, "--set", "features.exclude=['*__7d']")
    (file,) = document["files"]
    names = list(pd.read_parquet(file["path"]).columns[2:])
    # what BG/NBD and the baselines read stays
    others = [name for name in names if not name.startswith("events__")]
    assert all(name.startswith("activity__all__") and name.endswith("__ever") for name in others)
    assert "events__portal_login__count__30d" in names
    assert not [name for name in names if name.endswith("__7d")]
    nothing = partnerml("features", "churn", *AS_OF, "-c", config, "--set", "features.exclude=['*']")
    assert nothing.exit_code == 2
    assert "leave none of the" in nothing.stderr
    idle = partnerml(
        "features", "churn", *AS_OF, "-c", config, "--set", "features.exclude=[deals__won__*]", "--describe"
    )
    assert "'deals__won__*' match" in idle.stderr


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ("churn", ("--as-of", "2030-01-01"), "no partner belongs to the population of churn at 2030-01-01"),
        ("churn", ("--as-of", "2026-03-01T06:00"), "features are filed by day"),
        ("close", AS_OF, "the table leads"),
        ("fit", AS_OF, "these tables give no feature of fit"),
        ("churn", (*AS_OF, "--set", "tasks={}"), "task churn is not listed in the configuration"),
        ("propensity", AS_OF, "features of accounts need the table accounts"),
        ("propensities", AS_OF, "there is no task 'propensities'; did you mean propensity?"),
    ],
)
def test_features_that_cannot_be_had_say_why(config, task, more, said):
    done = partnerml("features", task, *more, "-c", config)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not (config.parent / "out" / "features").exists()


def test_pairs_of_a_time_before_any_was_assigned(trial):
    done = partnerml("features", "close", "--as-of", "2020-01-01", "-c", trial, *FEW)
    assert done.exit_code == 2
    assert "no lead had been assigned to a partner before 2020-01-01" in done.stderr


def test_features_never_take_the_place_of_other_files(config, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = partnerml("features", "churn", "--as-of", "2026-03-01", "--out", tmp_path, "-c", config)
    assert done.exit_code == 2
    assert "other entries (the first is data)" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_cells_change_what_is_read_and_nothing_else(trial, tmp_path):
    few = ("--set", "features.include=[events__all__*, activity__*]")
    cells = (*few, "--set", "features.cells=true")
    raw = built("churn", trial, "--as-of", "2025-06-01", "--out", tmp_path / "raw", *few)
    built("churn", trial, "--as-of", "2025-05-01", "--out", tmp_path / "earlier", *cells)
    manifest = trial.parent / "out" / "cells" / "manifest.json"
    assert json.loads(manifest.read_text())["watermark"] == "2025-05-01"
    kept = built("churn", trial, "--as-of", "2025-06-01", "--out", tmp_path / "kept", *cells)
    assert json.loads(manifest.read_text())["watermark"] == "2025-06-01"
    before, after = (Path(found["files"][0]["path"]).read_bytes() for found in (raw, kept))
    assert before == after
    lag = ("--set", "data.tables.events={lag: 2d}")
    refused = partnerml("features", "churn", "--as-of", "2025-06-01", "-c", trial, *cells, *lag)
    assert refused.exit_code == 2
    assert "--rebuild" in refused.stderr
    built("churn", trial, "--as-of", "2025-06-01", "--out", tmp_path / "lag", "--rebuild", *cells, *lag)


def test_there_is_nothing_to_rebuild_where_no_cells_are_kept(config):
    done = partnerml("features", "churn", *AS_OF, "-c", config, "--rebuild")
    assert done.exit_code == 2
    assert "no cells to rebuild: write `features: {cells: true}`" in done.stderr


def test_features_are_whole_or_not_there(config, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("partnerml.outputs.write_parquet", fail)
    done = partnerml("features", "churn", "--as-of", "2026-03-01", "-c", config)
    assert done.exit_code == 1
    assert list((config.parent / "out" / "features").rglob("*.json")) == []
