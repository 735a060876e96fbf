"""Who becomes champion: judged on rows that neither model has learnt from, and said in figures."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import types

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from tests.models.made_up_models import frame, made_up

from partnerml import tasks
from partnerml.errors import ConfigError, ModelError
from partnerml.features import Catalogue
from partnerml.models import Model, Registered
from partnerml.training import Trained, _challenge, _run, challenge, run

ENDED = pd.Timestamp("2026-03-01", tz="UTC")  # the champion's training
UNTIL = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
TASK = tasks.churn()
CATALOGUE = Catalogue(()).to_dict()
KEYS = ["partner_id", "as_of"]
YES = {"promoted": True, "reason": "the model's log loss of 0.3 is below all others"}
NO = {"promoted": False, "reason": "no signal: the model's log loss of 0.4 is not surely below that of recency alone"}


def model(seed: int = 0, *, until: pd.Timestamp = ENDED, verdict: dict[str, object] = YES, **changed) -> Model:
    plain = made_up(seed)
    given = {
        "task": TASK.to_dict(),
        "catalogue": CATALOGUE,
        "evaluation": {"verdict": verdict},
        "training": {**plain.training, "until": until.isoformat(), "seed": 3},
    }
    return dataclasses.replace(plain, **(given | changed))


def trained(
    n: int = 400, *, sharp: float = 4.0, months=("2026-01-01", "2026-03-01", "2026-05-01"), **changed
) -> Trained:
    """A new model whose replay knows the labels with some sharpness (0: nothing), on rows of some months."""
    X, y = frame(n, seed=8)
    noise = np.random.default_rng(1).normal(size=n)
    replay = pd.DataFrame(
        {
            "partner_id": [f"p{place % 150:03d}" for place in range(n)],
            "as_of": pd.to_datetime([months[place // 150 % len(months)] for place in range(n)], utc=True),
            "y": y,
            "weight": 1.0,
            "score": expit(sharp * (y - 0.5) + noise),
        }
    )
    replay["cluster"], replay["cut"] = replay["partner_id"], replay["as_of"]
    return Trained(model(1, until=pd.Timestamp(UNTIL), **changed), replay, X)


class FakeRegistry:
    """What `challenge` and `run` ask of a registry, and what they told it."""

    def __init__(self, champion: Model | None, replay: pd.DataFrame | None = None, broken: str = "") -> None:
        self._champion, self._replay, self._broken = champion, replay, broken
        self.said: dict[str, object] = {}

    def check(self) -> None:
        pass

    def current(self, task: str, *, alias: str = "champion") -> Registered | None:
        known = self._champion
        return None if known is None else Registered(task, 7, known.version, (alias,), "run7")

    def champion(self, task: str) -> Model:
        if self._broken:
            raise ModelError(self._broken)
        return self._champion

    def table(self, registered: Registered, name: str) -> pd.DataFrame | None:
        assert (registered.run_id, name) == ("run7", "replay")
        return self._replay

    def log_run(self, task, model, **said) -> str:
        self.said |= {"task": task, **said}
        return "run8"

    def register(self, task, run_id, *, alias=None) -> Registered:
        self.said["alias"] = alias
        return Registered(task, 8, "", (), run_id)

    def promote(self, task, version) -> None:
        self.said["promoted"] = version


def contest(made: Trained, registry: FakeRegistry):
    return challenge(None, TASK, made, registry, until=UNTIL)


def test_without_a_champion_the_baselines_decide():
    assert contest(trained(), FakeRegistry(None)).verdict == "first"
    lost = contest(trained(verdict=NO), FakeRegistry(model()))
    assert (lost.promoted, lost.verdict, lost.reason) == (False, "no signal", NO["reason"])


def test_the_champion_is_judged_only_on_rows_from_its_end_on():
    made = trained()
    found = contest(made, FakeRegistry(model()))
    fresh = made.replay["as_of"] >= ENDED
    assert fresh.any()
    assert not fresh.all()
    assert found.rows["which"] == "fresh"
    assert found.rows["rows"] == int(fresh.sum())
    assert found.rows["first"] == ENDED.isoformat()
    assert (found.promoted, found.verdict) == (True, "better")
    y, p = made.replay["y"][fresh], model().predict_proba(made.X[fresh])
    assert found.difference.other == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean())


def test_what_the_champion_has_seen_changes_nothing():
    made = trained()
    seen = (made.replay["as_of"] < ENDED).to_numpy()
    turned = made.replay.assign(y=np.where(seen, 1 - made.replay["y"], made.replay["y"]))
    X = made.X.copy()
    X.loc[seen, X.columns[1:]] = 0.0
    other = dataclasses.replace(made, replay=turned, X=X)
    assert contest(other, FakeRegistry(model())) == contest(made, FakeRegistry(model()))


def test_a_blunt_new_model_stays_challenger():
    found = contest(trained(sharp=0.0), FakeRegistry(model()))
    assert (found.promoted, found.verdict) == (False, "worse")


def test_without_rows_of_its_own_the_replays_are_compared_on_common_rows():
    made = trained()
    late = model(until=pd.Timestamp("2026-06-01", tz="UTC"))
    said = made.replay[KEYS].assign(score=0.5, y=np.nan)
    stranger = said.assign(partner_id="x" + said["partner_id"])
    found = contest(made, FakeRegistry(late, pd.concat([said.iloc[100:], stranger])))
    assert found.rows["which"] == "replayed"
    assert found.rows["rows"] == 300
    assert found.difference.other == pytest.approx(np.log(2))
    assert found.verdict == "better"
    for replay in (None, stranger, said.drop(columns="partner_id").iloc[:0]):
        lost = contest(made, FakeRegistry(late, replay))
        assert (lost.promoted, lost.verdict) == (False, "no rows")
        assert "0 rows with a known label lie after 2026-06-01" in lost.reason


def test_a_champion_of_another_label_or_one_that_cannot_be_read_makes_way():
    other = model(task={**TASK.to_dict(), "label": {"horizon_days": 180}})
    for registry, words in (
        (
            FakeRegistry(other),
            "the champion predicts another label than the task now asks for; on its own: the model's",
        ),
        (
            FakeRegistry(model(), broken="evaluation.json is damaged"),
            "cannot be asked (evaluation.json is damaged); on",
        ),
    ):
        found = contest(trained(), registry)
        assert (found.promoted, found.verdict) == (True, "incomparable")
        assert words in found.reason
    timeless = dataclasses.replace(trained(), replay=pd.DataFrame(), X=None)
    assert "rows without time leave nothing to compare" in contest(timeless, FakeRegistry(model())).reason


def test_the_same_model_again_is_the_champion():
    made = trained()
    found = contest(made, FakeRegistry(made.model))
    assert (found.promoted, found.verdict) == (True, "same")


def test_features_that_the_champion_defines_otherwise_are_built_anew(monkeypatch):
    made = trained()
    theirs = model(catalogue={**CATALOGUE, "event_types": ["login"]})
    asked = []

    class Built(types.SimpleNamespace):
        def __len__(self):
            return len(self.keys)

    def build(eco, task, *, as_of, until, catalogue):
        asked.append((task, as_of, until, catalogue.event_types))
        order = np.random.default_rng(0).permutation(len(made.X))
        return Built(
            **{n: t.iloc[order].reset_index(drop=True) for n, t in (("keys", made.replay[KEYS]), ("X", made.X))}
        )

    monkeypatch.setattr(_challenge.tasks, "build_dataset", build)
    found = contest(made, FakeRegistry(theirs))
    assert found.difference == contest(made, FakeRegistry(model())).difference
    ((task, as_of, until, types_of_events),) = asked
    assert (task, until, types_of_events) == (TASK, UNTIL, ("login",))
    assert as_of == [*(dt.datetime(2026, month, 1, tzinfo=dt.UTC) for month in (3, 5)), UNTIL]


def test_features_that_cannot_be_built_any_more_make_the_champion_incomparable(monkeypatch):
    def gone(*arguments, **named):
        raise ConfigError("there is no table events")

    monkeypatch.setattr(_challenge.tasks, "build_dataset", gone)
    theirs = model(catalogue={**CATALOGUE, "event_types": ["login"]})
    found = contest(trained(), FakeRegistry(theirs))
    assert "the champion's features cannot be built (there is no table events)" in found.reason
    assert (found.promoted, found.verdict) == (True, "incomparable")


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Run a training whose model is made up already."""

    def go(made: Trained, registry: FakeRegistry):
        config = types.SimpleNamespace(tracking_uri="", out=tmp_path / "out")
        monkeypatch.setattr("partnerml.models.Registry", lambda uri: registry)
        monkeypatch.setattr(_run._train, "trained", lambda *a, **k: made)
        return run(types.SimpleNamespace(config=config, has=lambda *_: True), TASK, until=UNTIL)

    return go


def test_a_run_logs_cards_replay_and_contest_and_promotes_what_earned_it(ran, tmp_path):
    made, registry = trained(), FakeRegistry(model())
    outcome = ran(made, registry)
    assert (outcome.promoted, registry.said["alias"], registry.said["promoted"]) == (True, None, 8)
    assert outcome.verdict.startswith("better than the champion")
    assert outcome.card == tmp_path / "out" / "models" / "churn" / made.model.version
    written = {path.name: path.read_text() for path in outcome.card.iterdir()}
    assert written == {name.removeprefix("card/"): text for name, text in registry.said["texts"].items() if "/" in name}
    assert {"card.md", "card.html"} <= set(written)
    assert json.loads(registry.said["texts"]["promotion.json"]) == json.loads(json.dumps(outcome.contest))
    assert registry.said["metrics"]["contest.rows"] == outcome.contest["rows"]["rows"]
    assert registry.said["tables"]["replay"] is made.replay


def test_a_run_that_does_not_beat_the_champion_is_registered_as_challenger(ran, caplog):
    registry = FakeRegistry(model())
    outcome = ran(trained(sharp=0.0), registry)
    assert not outcome.promoted
    assert registry.said["alias"] == "challenger"
    assert "promoted" not in registry.said
    assert "worse than the champion" in caplog.text
    assert "It is registered as challenger and not promoted" in caplog.text


def test_the_same_model_is_not_registered_twice(ran):
    made = trained()
    registry = FakeRegistry(made.model)
    outcome = ran(made, registry)
    assert (outcome.promoted, outcome.registered) == (True, "models:/churn/7")
    assert "alias" not in registry.said


FIT = tasks.fit(success_days=180)


def of_fit(*, judged_days: int, **changed) -> Model:
    """A model of success within 180 days, judged on success within some."""
    plain = made_up(0)
    training = {**plain.training, "until": ENDED.isoformat(), "seed": 3, "judged_days": judged_days}
    given = {"task": FIT.to_dict(), "catalogue": CATALOGUE, "evaluation": {"verdict": YES}, "training": training}
    return dataclasses.replace(plain, **(given | changed))


def judged_at(days: int, said: Model) -> Trained:
    """A model that says at its horizon what another one does, judged on success within some days."""
    made = trained()
    model = of_fit(judged_days=days, evaluation={"verdict": YES, "again": True})
    score = said.risk_curve(made.X, [days])[:, 0] if days < 180 else said.predict_proba(made.X)
    return Trained(model, made.replay.assign(score=score), made.X)


@pytest.mark.parametrize("days", [90, 180])
def test_a_model_does_not_beat_its_own_copy_where_fewer_days_are_judged_than_scored(days):
    champion = of_fit(judged_days=days)
    found = challenge(None, FIT, judged_at(days, champion), FakeRegistry(champion), until=UNTIL)
    assert found.rows["which"] == "fresh"
    assert found.difference.difference == pytest.approx(0.0, abs=1e-12)
    assert (found.promoted, found.verdict) == (False, "undecided")


def test_replays_are_compared_only_where_they_judge_the_same_days():
    late = {"until": pd.Timestamp("2026-06-01", tz="UTC").isoformat()}
    for days, which in ((90, "replayed"), (60, None), (180, None), (None, None)):
        champion = of_fit(judged_days=90)
        champion = dataclasses.replace(champion, training=champion.training | late | {"judged_days": days})
        made = judged_at(90, champion)
        found = challenge(None, FIT, made, FakeRegistry(champion, made.replay), until=UNTIL)
        assert found.rows.get("which") == which
        assert found.promoted is False
        assert (found.verdict == "no rows") == (which is None)


def judged_by(**protocol) -> dict[str, object]:
    """The evaluation of a model that was judged so strictly; nothing of a model from before."""
    return {"verdict": YES, **({"protocol": protocol} if protocol else {})}


GROUPS, EMBARGO = {"embargo_days": 0, "by_groups": 5}, {"embargo_days": 40, "by_groups": None}
LATE = pd.Timestamp("2026-06-01", tz="UTC")


@pytest.mark.parametrize(
    ("ours", "theirs", "which"),
    [
        ({}, {}, "replayed"),
        ({}, {"embargo_days": 0, "by_groups": None}, "replayed"),
        (GROUPS, GROUPS, "replayed"),
        (EMBARGO, EMBARGO, "replayed"),
        (GROUPS, {}, None),
        ({}, GROUPS, None),
        (GROUPS, {**GROUPS, "by_groups": 2}, None),
        (EMBARGO, {}, None),
        ({}, EMBARGO, None),
    ],
)
def test_replays_are_compared_only_where_both_are_judged_as_strictly(ours, theirs, which):
    made = trained(evaluation=judged_by(**ours))
    late = model(until=LATE, evaluation=judged_by(**theirs))
    found = contest(made, FakeRegistry(late, made.replay[KEYS].assign(score=0.5)))
    assert found.rows.get("which") == which
    if which is None:
        assert (found.promoted, found.verdict) == (False, "no rows")
        assert "the backtests of both are not judged alike" in found.reason
        assert "promote the new one by hand" in found.reason


def test_a_replay_that_never_saw_the_partner_is_not_held_against_a_champion_that_did():
    made = trained(evaluation=judged_by(**GROUPS))
    found = contest(made, FakeRegistry(model(evaluation=judged_by(embargo_days=0, by_groups=None))))
    assert (found.promoted, found.verdict) == (False, "no rows")
    assert found.reason.startswith("rows after 2026-03-01, when the champion's training ended, do not tell: the new")
    assert "embargo_days 0 and by_groups 5 against embargo_days 0 and no by_groups of the champion" in found.reason
    # the other way round what the champion was judged by says nothing of what it says now
    other = contest(trained(), FakeRegistry(model(evaluation=judged_by(**GROUPS))))
    assert (other.rows["which"], other.verdict) == ("fresh", "better")
    # both by groups, and nothing in common
    alike = contest(made, FakeRegistry(model(evaluation=judged_by(**GROUPS))))
    assert "has 0 in common, judged alike: too few to tell" in alike.reason


def test_with_an_embargo_rows_count_as_fresh_so_many_days_later():
    made = trained(evaluation=judged_by(**EMBARGO))
    found = contest(made, FakeRegistry(model()))
    assert found.rows["which"] == "fresh"
    assert pd.Timestamp(found.rows["first"]) == pd.Timestamp("2026-05-01", tz="UTC") > ENDED + pd.Timedelta(days=40)
    few = contest(trained(evaluation=judged_by(**EMBARGO)), FakeRegistry(model(until=LATE)))
    assert "2026-06-01, when the champion's training ended (and the embargo of 40 days over), and the" in few.reason


def test_without_a_column_of_the_key_there_are_no_rows_in_common():
    made = trained()
    late = model(until=pd.Timestamp("2026-06-01", tz="UTC"))
    # every row of a month would meet every other one
    found = contest(made, FakeRegistry(late, made.replay.drop(columns="partner_id")))
    assert found.verdict == "no rows"
    assert "its own backtest has 0 in common" in found.reason
