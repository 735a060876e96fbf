import dataclasses
import datetime as dt
import hashlib
import importlib
import json
import types
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests import made_up

from partnerml import nightly, outputs, publishing, scoring, tasks, training
from partnerml.config import Config
from partnerml.ecosystem import Ecosystem
from partnerml.errors import BusyError, ConfigError, DataError, ModelError, NoChampionError, NotEnoughDataError
from partnerml.models import Registry
from partnerml.routing._snapshot_files import current, publish_current

AS_OF = "2026-06-01"
OUTPUTS = ("scores/churn/date=2026-06-01/scores.parquet", "reports/2026-06-01/index.html", "runs/2026-06-01/state.json")


class Killed(BaseException):
    """What a killed process would be, as far as Python can be stopped from inside."""


@dataclasses.dataclass
class Office:
    """Stands for the registry, training and scoring: quick, and it counts what is asked of it."""

    champions: list[str] = dataclasses.field(default_factory=list)
    trained: list[dt.datetime] = dataclasses.field(default_factory=list)
    scored: list[str] = dataclasses.field(default_factory=list)
    train: Callable[[], training.Outcome] | None = None
    until: str = "2026-06-01T00:00:00+00:00"
    challengers: list[str] = dataclasses.field(default_factory=list)

    def current(self, task: str, *, alias: str = "champion") -> types.SimpleNamespace | None:
        versions = self.champions if alias == "champion" else self.challengers
        return types.SimpleNamespace(model_version=versions[-1]) if versions else None

    def champion(self, task: str) -> types.SimpleNamespace:
        if not self.champions:
            raise NoChampionError(f"no champion for {task}")
        model = made_up.model()
        model.version, model.training["until"] = self.champions[-1], self.until
        return model

    def run(self, eco, task, *, until, trials, seed, progress) -> training.Outcome:
        self.trained.append(until)
        if self.train is not None:
            return self.train()
        self.champions.append("a" * 12)
        return outcome(promoted=True)

    def score(self, eco, model, *, as_of, cuts, cells, progress) -> scoring.Scores:
        self.scored.append(model.version)
        frame = made_up.scores(40).assign(model_version=model.version, as_of=pd.Timestamp(as_of))
        return scoring.Scores("churn", as_of, model.version, frame)


def test_names_are_those_of_partners_accounts_and_leads():
    tables = {
        "partners": pd.DataFrame({"partner_id": ["p1", "p2", "x"], "name": ["Nord", None, "Partner"]}),
        "accounts": pd.DataFrame({"account_id": ["a1", "x"], "name": ["Hafen", "Account"]}),
        "leads": pd.DataFrame(
            {"lead_id": ["l1"], "created_at": pd.Timestamp("2026-01-01"), "account_name": ["Kontor"]}
        ),
    }
    with Ecosystem.from_frames(**tables) as eco:
        assert nightly.names_of(eco) == {"p1": "Nord", "a1": "Hafen", "l1": "Kontor", "x": "Partner"}
    with Ecosystem.from_frames(partners=tables["partners"][["partner_id"]]) as eco:
        assert nightly.names_of(eco) == {}


def outcome(*, promoted: bool) -> training.Outcome:
    given = {field.name: None for field in dataclasses.fields(training.Outcome)}
    return training.Outcome(
        **(given | {"promoted": promoted, "version": "a" * 12, "verdict": "no signal: as good as chance"})
    )


def install(office: Office, patch: pytest.MonkeyPatch) -> Office:
    patch.setattr(nightly, "registry_of", lambda config: office)
    patch.setattr(training, "run", office.run)
    patch.setattr(scoring, "score", office.score)
    return office


@pytest.fixture
def office(monkeypatch) -> Office:
    return install(Office(), monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """Digests of the outputs of a night that nobody killed."""
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        install(Office(), patch)
        night(out)
    return digests(out)


def open_tables(out: Path, *, logins: int = 60, **settings: object) -> Ecosystem:
    frame = made_up.partners(made_up.scores(40))
    partners = frame.assign(joined_at="2025-01-01", tier=frame["tier"].fillna("none"))
    days = pd.date_range("2026-01-01", periods=logins, freq="D", tz="UTC").as_unit("us")
    events = pd.DataFrame({"partner_id": "p0001", "occurred_at": days, "event_type": "portal_login"})
    config = Config.from_dict({"output": str(out), **settings})
    return Ecosystem.from_frames(config=config, partners=partners, events=outputs.arrow_table(events))


def night(out: Path, as_of: str = AS_OF, **tables: object) -> nightly.Night:
    with open_tables(out, **tables) as eco:
        return nightly.run(eco, as_of=as_of)


def digests(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in OUTPUTS}


def statuses(done: nightly.Night) -> dict[str, tuple[str, bool]]:
    return {stage.name: (stage.status, stage.repeated) for stage in done.stages}


def test_the_stages_in_order_and_what_they_leave(tmp_path, office):
    done = night(tmp_path)
    assert statuses(done) == {
        "validate": ("done", False),
        "train:churn": ("done", False),
        "score:churn": ("done", False),
        "report": ("done", False),
    }
    assert done.report == tmp_path / "reports" / AS_OF / "index.html"
    assert done.scores == {"churn": tmp_path / OUTPUTS[0]}
    assert office.trained == [dt.datetime(2026, 6, 1, tzinfo=dt.UTC)]
    assert "p0001" in done.report.read_text()
    record = json.loads((tmp_path / "runs" / AS_OF / "run.json").read_text())
    assert record["failure"] is None
    assert [stage["name"] for stage in record["stages"]] == list(statuses(done))


def test_a_second_run_repeats_nothing_and_changes_no_byte(tmp_path, office):
    night(tmp_path)
    before = digests(tmp_path)
    done = night(tmp_path)
    assert digests(tmp_path) == before
    assert (len(office.trained), len(office.scored)) == (1, 1)
    assert [repeated for _, repeated in statuses(done).values()] == [False, True, True, True]


@pytest.mark.parametrize(
    "where",
    [
        ("partnerml.ecosystem.Ecosystem", "validate"),
        ("partnerml.training", "run"),
        ("partnerml.scoring", "score"),
        ("partnerml.scoring.Scores", "write"),
        ("partnerml.nightly", "write_report"),
    ],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_killed_night_continues_and_ends_with_the_same_bytes(
    tmp_path, office, undisturbed, monkeypatch, where, after
):
    home, name = where
    target = _attribute(home)
    work = getattr(target, name)

    def killed(*arguments, **named):
        if after:
            work(*arguments, **named)
        raise Killed

    with open_tables(tmp_path) as eco:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, killed)
            with pytest.raises(Killed):
                nightly.run(eco, as_of=AS_OF)
        assert (tmp_path / OUTPUTS[1]).exists() == (name == "write_report" and after)
        nightly.run(eco, as_of=AS_OF)
    assert digests(tmp_path) == undisturbed
    assert len(office.trained) == 1
    assert len(office.scored) <= 2


def _attribute(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_record_of_a_failed_night_names_the_error(tmp_path, office, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(scoring, "score", fail)
    with pytest.raises(RuntimeError):
        night(tmp_path)
    record = json.loads((tmp_path / "runs" / AS_OF / "run.json").read_text())
    assert record["failure"] == "RuntimeError: out of luck"
    assert [stage["name"] for stage in record["stages"]] == ["validate", "train:churn"]


def test_changed_data_are_scored_again_and_a_new_champion_too(tmp_path, office):
    night(tmp_path)
    assert statuses(night(tmp_path, logins=61))["score:churn"] == ("done", False)
    assert statuses(night(tmp_path, logins=61))["score:churn"] == ("done", True)
    office.champions.append("b" * 12)
    assert statuses(night(tmp_path, logins=61))["score:churn"] == ("done", False)
    assert office.scored == ["a" * 12, "a" * 12, "b" * 12]


def test_what_cannot_change_a_result_repeats_nothing(tmp_path, office):
    night(tmp_path)
    assert statuses(night(tmp_path, engine={"threads": 1}))["score:churn"] == ("done", True)
    assert statuses(night(tmp_path, report={"bands": [0.1, 0.2, 0.3]}))["score:churn"] == ("done", False)


def test_an_output_that_is_gone_or_damaged_is_made_again(tmp_path, office):
    night(tmp_path)
    before = digests(tmp_path)
    (tmp_path / OUTPUTS[0]).write_bytes(b"damaged")
    (tmp_path / OUTPUTS[1]).unlink()
    night(tmp_path)
    assert digests(tmp_path) == before
    assert len(office.scored) == 2


def test_a_damaged_state_is_no_state(tmp_path, office):
    night(tmp_path)
    before = digests(tmp_path)
    (tmp_path / "runs" / AS_OF / "state.json").write_text('{"stages": [1')
    night(tmp_path)
    assert digests(tmp_path) == before


@pytest.fixture
def published(monkeypatch) -> list[dt.datetime]:
    """When snapshots were published; publishing itself is quick."""
    calls: list[dt.datetime] = []

    def publish(eco, *, as_of, progress) -> Path:
        calls.append(as_of)
        folder = publishing.snapshots_folder(eco.config) / f"snapshot{len(calls)}"
        outputs.write_text(folder / "manifest.json", "{}")
        return folder

    monkeypatch.setattr(publishing, "publish", publish)
    return calls


CLOSE = {"tasks": {"close": {}}}


def test_what_routing_goes_by_is_published_once(tmp_path, office, published):
    done = night(tmp_path, **CLOSE)
    assert list(statuses(done)) == ["validate", "train:close", "score:close", "publish", "report"]
    assert done.snapshot == tmp_path / "snapshots" / "snapshot1"
    assert dict(done.stages[3].facts)["snapshot_id"] == "snapshot1"
    # where decisions are kept, and how fast, is no matter of the snapshot
    for same in ({}, {"routing": {"ledger": "other.db"}}):
        again = night(tmp_path, **CLOSE, **same)
        assert statuses(again)["publish"] == ("done", True)
        assert again.snapshot == done.snapshot
    assert published == [dt.datetime(2026, 6, 1, tzinfo=dt.UTC)]
    assert night(tmp_path, **CLOSE, routing={"offers": {"limit": 5}}).snapshot == tmp_path / "snapshots" / "snapshot2"
    assert len(office.trained) == len(office.scored) == 1, "rules are no reason to train or score"
    (tmp_path / "snapshots" / "snapshot2" / "manifest.json").write_text("damaged")
    assert night(tmp_path, **CLOSE, routing={"offers": {"limit": 5}}).snapshot == tmp_path / "snapshots" / "snapshot3"


def test_a_night_of_the_past_leaves_routing_where_it_is_and_the_last_one_again_puts_it_back(
    tmp_path, office, published
):
    def put(name: str, as_of: str) -> None:
        outputs.write_json(tmp_path / "snapshots" / name / "snapshot.json", {"as_of": as_of})
        publish_current(tmp_path / "snapshots", name)

    done = night(tmp_path, **CLOSE)
    assert done.snapshot == tmp_path / "snapshots" / "snapshot1"
    put("snapshot1", f"{AS_OF}T00:00:00+00:00")
    outputs.write_text(tmp_path / "snapshots" / "later" / "manifest.json", "{}")
    put("later", "2026-06-02T00:00:00+00:00")
    # done before, and not to be gone back to
    assert night(tmp_path, **CLOSE).snapshot == done.snapshot
    assert current(tmp_path / "snapshots") == "later"
    # somebody went back by hand
    outputs.write_text(tmp_path / "snapshots" / "older" / "manifest.json", "{}")
    put("older", "2026-05-31T00:00:00+00:00")
    night(tmp_path, **CLOSE)
    assert current(tmp_path / "snapshots") == "snapshot1"
    # never done: scores are wanted, routing is not taken back
    put("later", "2026-06-02T00:00:00+00:00")
    again = night(tmp_path, **CLOSE, routing={"offers": {"limit": 5}})
    assert (again.snapshot, published) == (None, [dt.datetime(2026, 6, 1, tzinfo=dt.UTC)])
    assert "as of 2026-06-02, which is later than this night and stays" in again.stages[3].reason


def test_the_record_holds_no_password(tmp_path, office, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("postgresql+psycopg://ada:s3cret@db/leads?password=s3cret is not there")

    monkeypatch.setattr(scoring, "score", fail)
    with pytest.raises(RuntimeError):
        night(tmp_path, routing={"ledger": "postgresql+psycopg://ada:s3cr@/t@db:5432/leads"})
    text = (tmp_path / "runs" / AS_OF / "run.json").read_text()
    assert "s3cr" not in text
    assert json.loads(text)["config"]["routing"]["ledger"] == "postgresql+psycopg://ada:***@db:5432/leads"


def test_rates_that_were_not_promoted_are_published(tmp_path, office, published):
    def rates() -> training.Outcome:
        office.challengers.append("c" * 12)
        return outcome(promoted=False)

    office.train = rates
    done = night(tmp_path, **CLOSE)
    assert statuses(done)["score:close"] == ("skipped", False)
    assert done.snapshot is not None
    assert done.stages[3].facts["model_version"] == "c" * 12


def test_without_a_model_nothing_is_published_and_the_reason_told(tmp_path, office, published):
    office.train = lambda: outcome(promoted=False)
    done = night(tmp_path, **CLOSE)
    assert statuses(done)["publish"] == ("skipped", False)
    assert "no signal" in done.stages[3].reason
    assert (done.snapshot, published) == (None, [])


@pytest.mark.parametrize("kind", ["little", "no signal"])
def test_a_skipped_task_fails_no_night_and_waits_for_other_data(tmp_path, office, caplog, kind):
    def skip() -> training.Outcome:
        if kind == "little":
            raise NotEnoughDataError("churn needs at least 50 rows of each label")
        return outcome(promoted=False)

    office.train = skip
    done = night(tmp_path)
    assert statuses(done)["train:churn"] == statuses(done)["score:churn"] == ("skipped", False)
    reason = "churn needs at least 50 rows" if kind == "little" else "no signal: as good as chance"
    assert reason in done.stages[1].reason
    assert reason in " ".join(record.getMessage() for record in caplog.records)
    assert reason in done.report.read_text()
    assert done.scores == {}
    night(tmp_path)
    night(tmp_path, as_of="2026-06-02")
    assert len(office.trained) == 1
    assert night(tmp_path, as_of="2026-06-02", logins=61).stages[1].repeated is False
    assert len(office.trained) == 2


def test_nobody_to_score_is_no_failure(tmp_path, office, monkeypatch):
    def nobody(*_, **__):
        raise NotEnoughDataError("no partner belongs to the population")

    monkeypatch.setattr(scoring, "score", nobody)
    done = night(tmp_path)
    assert statuses(done)["score:churn"] == ("skipped", False)
    assert "no partner belongs to the population" in done.report.read_text()


def test_scores_from_before_the_model_was_trained_are_warned_of(tmp_path, office, caplog):
    office.champions.append("a" * 12)
    night(tmp_path, as_of="2026-05-31")
    assert "trained on what was known until 2026-06-01" in caplog.text
    caplog.clear()
    night(tmp_path, as_of="2026-06-01")
    assert "trained on" not in caplog.text


def test_a_second_night_at_once_is_busy(tmp_path, office):
    with outputs.lock(tmp_path, purpose="partnerml nightly"), pytest.raises(BusyError, match="`partnerml nightly`"):
        night(tmp_path)
    assert office.trained == []


def test_a_night_is_of_a_midnight(tmp_path, office):
    with pytest.raises(ConfigError, match="which is not 00:00 UTC"):
        night(tmp_path, as_of="2026-06-01T12:00")


def test_errors_in_the_tables_end_the_night(tmp_path, office):
    twice = pd.DataFrame({"partner_id": ["p1", "p1"]})
    config = Config.from_dict({"output": str(tmp_path)})
    with Ecosystem.from_frames(config=config, partners=twice) as eco, pytest.raises(DataError, match="partner_id"):
        nightly.run(eco, as_of=AS_OF)
    assert office.trained == []


def test_a_report_of_another_champion_is_refused(tmp_path, office):
    night(tmp_path)
    office.champions.append("b" * 12)
    with open_tables(tmp_path) as eco, pytest.raises(ModelError, match="run partnerml score churn"):
        nightly.write_report(eco, as_of=dt.datetime(2026, 6, 1, tzinfo=dt.UTC))


def test_the_newest_scores(tmp_path, office):
    with pytest.raises(NoChampionError, match="there are no scores"):
        nightly.latest_scores(tmp_path)
    night(tmp_path, as_of="2026-06-09")
    night(tmp_path, as_of="2026-06-10")
    assert nightly.latest_scores(tmp_path) == dt.datetime(2026, 6, 10, tzinfo=dt.UTC)


def test_the_fingerprint_of_the_data_knows_content_and_not_order():
    frame = made_up.partners(made_up.scores(40))
    about = {"joined_at": "2025-01-01", "left_at": "2025-01-01"}

    def found(partners: pd.DataFrame) -> str:
        with Ecosystem.from_frames(partners=partners.assign(**about)) as eco:
            return nightly.data_fingerprint(eco)

    same = found(frame)
    assert found(frame.sample(frac=1, random_state=1)) == same
    swapped = frame.assign(name=[frame["name"][1], frame["name"][0], *frame["name"][2:]])
    assert found(swapped) != same
    assert found(frame.iloc[:-1]) != same
    assert found(frame.drop(columns="tier")) != same
    assert found(frame.rename(columns={"tier": "level"})) != same


def test_the_registry_is_that_of_the_configuration(tmp_path):
    config = Config.from_dict({"output": str(tmp_path)})
    assert isinstance(nightly.registry_of(config), Registry)
    assert nightly.registry_of(config).versions("churn") == ()
    assert tasks.from_config(config)[0].name == "churn"
