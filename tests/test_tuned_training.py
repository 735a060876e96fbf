"""Tuning in training: it never sees what it is judged on, keeps what is surely better, and says what it gained."""

import dataclasses
import datetime as dt
import importlib
import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from partnerml import tasks, train
from partnerml.config import Config
from partnerml.dataset import Dataset, FeatureInfo
from partnerml.errors import ConfigError, MissingExtraError
from partnerml.models import BaseRate, BoostedTrees, Fold, Lineage, LogLogistic, replay, rolling_origin
from partnerml.models._crossfit import GROUPS
from partnerml.models._tuning import RANDOM_TRIALS
from partnerml.progress import Progress
from partnerml.training._recipe import PRIOR_VARIANCE, Recipe, Simplest
from partnerml.training._tuning import (
    MAX_SEEN,
    MIN_JUDGED,
    MIN_SEEN,
    WANTED_SEEN,
    Split,
    _fingerprint,
    _Objective,
    space_of,
    split,
    tuned,
)

# one process makes the search that most of these look at
pytestmark = pytest.mark.xdist_group("tuned")
GAP = pd.Timedelta(days=90)
TRIALS = 10


@dataclasses.dataclass(frozen=True)
class Said:
    """A scorer that says the signal of a row, and as much of its noise as its settings are bad."""

    noise: float

    def decision_function(self, X):
        return (X["signal"] + self.noise * X["noise"]).to_numpy()


def made(best, n_partners=150, months=18, seed=0):
    """A recipe over monthly snapshots whose `prior_variance` is best at a value that is not the default."""
    generator = np.random.default_rng(seed)
    moments = pd.date_range("2024-01-01", periods=months, freq="MS", tz="UTC").as_unit("us")
    n = n_partners * months
    X = pd.DataFrame({"signal": 1.5 * generator.normal(size=n), "noise": generator.normal(size=n)})
    y = pd.Series((generator.random(n) < expit(X["signal"] - 0.5)).astype(float))
    partners = [f"P{number:03d}" for number in range(n_partners)]
    keys = pd.DataFrame({"partner_id": partners * months, "as_of": moments.repeat(n_partners)})
    dictionary = tuple(
        FeatureInfo(name, name, "events", (), None, "0", name, name, "count", name, "count") for name in X
    )
    data = Dataset(keys, X, y, None, pd.Series(1.0, index=y.index), dictionary, "f" * 16)
    folds = rolling_origin(keys["as_of"], gap=GAP)

    def make(found):
        at = found.get("logistic", {}).get("prior_variance", PRIOR_VARIANCE)
        return {
            "logistic": lambda X, y, cut: Said(abs(math.log(at / best))),
            "rate": lambda X, y, cut: Said(9.0),
        }

    return Recipe(
        task=tasks.churn(),
        catalogue=None,
        data=data,
        columns=list(X),
        twins={},
        gap=dt.timedelta(days=90),
        until=moments[-1].to_pydatetime() + dt.timedelta(days=90),
        seed=3,
        folds=folds,
        cluster="partner_id",
        known={fold.cut: y.where(keys["as_of"] + GAP <= fold.cut) for fold in folds},
        make=make,
        baselines={"base_rate": lambda X, y, cut: Said(0.0), "simple": lambda X, y, cut: Said(2.0)},
        simplest=Simplest("simple", "the simple one"),
    )


def search_of(recipe, database, trials=TRIALS):
    return tuned(recipe, recipe.backtest(), trials=trials, database=database, progress=Progress.silent())


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    """A recipe with settings to be found, what came of tuning it, and the database."""
    recipe, database = made(best=6.0), tmp_path_factory.mktemp("better") / "t.db"
    return recipe, search_of(recipe, database), database


def test_what_is_surely_better_is_kept(better):
    recipe, found, _ = better
    document = found.document
    assert document["kept"] == "tuned"
    assert found.recipe.settings == document["chosen"]
    assert found.recipe.settings["logistic"]["prior_variance"] == pytest.approx(6.0, rel=0.7)
    assert 0 < document["interval"]["low"] < document["gain"] < document["interval"]["high"]
    assert document["losses"]["chosen"] < document["losses"]["defaults"]
    assert document["trials"] == len(document["history"]) == TRIALS
    assert document["pruned"] == sum(trial["pruned"] for trial in document["history"])
    assert "the tuned settings are kept" in document["reason"]
    assert f"{document['gain']:+.4f}" in document["reason"]
    assert recipe.settings == {}


def test_the_gain_is_the_log_loss_saved_on_the_judged_rows(better):
    recipe, found, _ = better
    losses = []
    for backtest in (recipe.backtest(), found.backtest):
        judged, said = replay(backtest)
        late = judged & (backtest.cut >= found.since).to_numpy()
        p, y = said["model"][late[said.index]].to_numpy(), backtest.y[late]
        losses.append(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    assert found.document["gain"] == pytest.approx(losses[0] - losses[1], abs=1e-12)
    assert found.document["rows"] == late.sum()
    assert found.document["clusters"] == 150


def test_the_search_is_over_before_the_first_judged_origin(better):
    recipe, found, _ = better
    document = found.document
    assert found.since.isoformat() == document["judged"][0]
    assert len(document["seen"]) == MAX_SEEN
    assert all(pd.Timestamp(cut) + GAP <= found.since for cut in document["seen"])
    assert document["judged"][-1] == recipe.folds[-1].cut.isoformat()
    # all that is reported without tuning is judged: the search has origins of its own
    judged, _ = replay(recipe.backtest())
    assert len(document["judged"]) == recipe.backtest().cut[judged].nunique()


def test_whatever_was_not_known_at_the_first_judged_origin_changes_no_trial(better, tmp_path):
    recipe, found, _ = better
    late = (recipe.data.as_of + GAP > found.since).to_numpy()
    generator = np.random.default_rng(9)
    X, y = recipe.data.X.copy(), recipe.data.y.copy()
    X[late] = generator.normal(size=(late.sum(), 2))
    y[late] = 1 - y[late]
    known = {cut: labels.where(labels.isna() | ~late, y) for cut, labels in recipe.known.items()}
    other = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, X=X, y=y), known=known)
    again = search_of(other, tmp_path / "t.db").document
    for name in ("study", "history", "chosen", "losses", "seen"):
        assert again[name] == found.document[name]
    assert again["gain"] != found.document["gain"]


def test_what_the_database_holds_is_not_tried_again(better, monkeypatch):
    recipe, found, database = better
    monkeypatch.setattr("partnerml.training._tuning._Objective.__call__", None)
    assert search_of(recipe, database).document == found.document


def test_other_data_is_another_study(better):
    recipe, found, _ = better
    space = space_of(tuple(recipe.learners()))
    seen = tuple(fold for fold in recipe.folds if fold.cut.isoformat() in found.document["seen"])
    chosen = Split(seen, found.since, ())
    relabelled = dict(recipe.known)
    relabelled[found.since] = 1 - relabelled[found.since]
    others = [
        (dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, fingerprint="0" * 16)), chosen, space),
        (dataclasses.replace(recipe, known=relabelled), chosen, space),
        (dataclasses.replace(recipe, seed=4), chosen, space),
        (dataclasses.replace(recipe, by_groups=2), chosen, space),
        (recipe, dataclasses.replace(chosen, seen=seen[1:]), space),
        (recipe, chosen, space[1:]),
    ]
    names = {f"churn {_fingerprint(*other)}" for other in others}
    assert f"churn {_fingerprint(recipe, chosen, space)}" == found.document["study"]
    assert len(names | {found.document["study"]}) == 7


@pytest.mark.parametrize("changed", [{"code": "0" * 12}, {"libraries": {"lightgbm": "1.0"}}, {"python": "3.99"}])
def test_trials_of_another_program_are_not_handed_back(better, monkeypatch, changed):
    recipe, found, _ = better
    seen = tuple(fold for fold in recipe.folds if fold.cut.isoformat() in found.document["seen"])
    asked = recipe, Split(seen, found.since, ()), space_of(tuple(recipe.learners()))
    assert f"churn {_fingerprint(*asked)}" == found.document["study"]
    other = dataclasses.replace(Lineage.here(), **changed)
    monkeypatch.setattr(Lineage, "here", lambda: other)
    assert f"churn {_fingerprint(*asked)}" != found.document["study"]


def test_noise_is_not_kept_and_the_defaults_are_left_alone(tmp_path):
    recipe = made(best=6.0)

    def make(found):
        at = found.get("logistic", {}).get("prior_variance", PRIOR_VARIANCE)
        dice = np.random.default_rng(int(at * 1e6))

        class Lucky:
            def decision_function(self, X):
                return X["signal"].to_numpy() + 0.4 * dice.normal(size=len(X))

        return {"logistic": lambda X, y, cut: Lucky()}

    recipe = dataclasses.replace(recipe, make=make)
    backtest = recipe.backtest()
    found = tuned(recipe, backtest, trials=TRIALS, database=tmp_path / "t.db", progress=Progress.silent())
    assert found.document["kept"] == "defaults"
    assert found.document["losses"]["chosen"] < found.document["losses"]["defaults"]  # lucky where it looked
    assert found.document["interval"]["low"] <= 0
    assert "may be noise; the defaults are kept" in found.document["reason"]
    assert found.recipe is recipe
    assert found.backtest is backtest
    assert found.since is None


def test_where_nothing_is_better_the_first_trial_wins(tmp_path):
    found = search_of(made(best=PRIOR_VARIANCE), tmp_path / "t.db", trials=2)
    assert found.document["kept"] == "defaults"
    assert found.document["chosen"] == {}
    assert found.document["gain"] is None
    assert found.document["reason"].startswith("no trial was better than the defaults")


def test_what_no_setting_touches_is_fitted_once(tmp_path):
    recipe = made(best=6.0)
    fitted = []

    def make(found, real=recipe.make):
        learners = real(found)
        return {
            name: lambda X, y, cut, name=name, learn=learn: fitted.append((name, cut)) or learn(X, y, cut)
            for name, learn in learners.items()
        }

    recipe = dataclasses.replace(recipe, make=make)
    backtest = recipe.backtest()
    fitted.clear()
    document = tuned(recipe, backtest, trials=3, database=tmp_path / "t.db", progress=Progress.silent()).document
    seen = {pd.Timestamp(cut) for cut in document["seen"]}
    assert sum(name == "rate" and cut in seen for name, cut in fitted) == MAX_SEEN
    assert sum(name == "logistic" and cut in seen for name, cut in fitted) == 3 * MAX_SEEN


def test_weights_and_unknown_labels_are_heeded(better):
    recipe, found, _ = better
    seen = tuple(fold for fold in recipe.folds if fold.cut.isoformat() in found.document["seen"])

    def losses(**changed):
        return list(_Objective(dataclasses.replace(recipe, **changed), Split(seen, found.since, ()), frozenset())({}))

    generator = np.random.default_rng(1)
    weights = pd.Series(generator.uniform(0.2, 3, len(recipe.data)))
    plain = losses()
    assert plain[-1] == found.document["losses"]["defaults"]
    assert losses(weights=weights) == plain  # those of today were not known then
    assert losses(known_weights=dict.fromkeys(recipe.known, weights)) != plain
    holes = losses(known={cut: labels.where(weights > 1) for cut, labels in recipe.known.items()})
    counted = losses(known_weights=dict.fromkeys(recipe.known, (weights > 1).astype(float)))
    assert holes == pytest.approx(counted, abs=1e-6)


def test_partners_left_out_are_left_out_of_the_search_too(tmp_path):
    recipe = made(best=6.0)
    fitted = []

    def make(found, real=recipe.make):
        def learn(X, y, cut):
            fitted.append(set(recipe.data.keys["partner_id"].loc[X.index]))
            return real(found)["logistic"](X, y, cut)

        return {"logistic": learn}

    recipe = dataclasses.replace(recipe, make=make, by_groups=3, embargo=dt.timedelta(days=40))
    backtest = recipe.backtest()
    fitted.clear()
    document = tuned(recipe, backtest, trials=1, database=tmp_path / "t.db", progress=Progress.silent()).document
    assert len(fitted) == 3 * len(document["seen"])
    assert all(len(partners) == 100 for partners in fitted)
    ends = [pd.Timestamp(cut) + GAP + pd.Timedelta(days=40) for cut in document["seen"]]
    assert max(ends) <= pd.Timestamp(document["judged"][0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"folds": 6}, r"too few of the 6 origins were over, labels included"),
        ({"make": lambda found: {"other": lambda X, y, cut: Said(0.0)}}, "none of the components has a parameter"),
    ],
)
def test_what_cannot_be_tuned_keeps_the_defaults_and_says_why(tmp_path, change, why):
    recipe = made(best=6.0)
    change = {"folds": recipe.folds[-change["folds"] :]} if "folds" in change else change
    recipe = dataclasses.replace(recipe, **change)
    found = search_of(recipe, tmp_path / "t.db")
    assert found.document["kept"] == "defaults"
    assert found.recipe is recipe
    assert re.search(why, found.document["reason"])
    assert not (tmp_path / "t.db").exists()


@settings(max_examples=60)
@given(n_folds=st.integers(1, 20), gap=st.integers(0, 400), reported=st.integers(1, 8), offset=st.integers(0, 27))
def test_a_split_is_disjoint_in_time_and_judges_as_much_as_it_can(n_folds, gap, reported, offset):
    """Against the plain search over all first origins."""
    cuts = pd.date_range("2022-01-01", periods=n_folds, freq="MS", tz="UTC")
    as_of = pd.Series(cuts + pd.Timedelta(days=offset))
    folds = [Fold(cut, np.arange(0), np.array([place])) for place, cut in enumerate(cuts)]
    maturity = pd.Timedelta(days=gap)
    late = list(cuts[-reported:])
    found = split(folds, late, as_of, maturity)
    counts = {
        cut: min(sum(cut_of + pd.Timedelta(days=offset) + maturity <= cut for cut_of in cuts), MAX_SEEN)
        for place, cut in enumerate(late)
        if len(late) - place >= MIN_JUDGED
    }
    counts = {cut: count for cut, count in counts.items() if count >= MIN_SEEN}
    if not counts:
        assert found is None
        return
    enough = [cut for cut, count in counts.items() if count >= WANTED_SEEN]
    expected = enough[0] if enough else max(counts, key=lambda cut: counts[cut])
    assert found.since == expected
    assert found.judged == tuple(cut for cut in late if cut >= expected)
    assert len(found.seen) == counts[expected]
    assert max(as_of.iloc[fold.test].max() for fold in found.seen) + maturity <= found.since
    later = [fold.cut for fold in folds if fold.cut > found.seen[-1].cut]
    assert all(cut + pd.Timedelta(days=offset) + maturity > found.since for cut in later)


@pytest.mark.parametrize(
    ("cluster", "beside", "many", "told"),
    [
        ("partner_id", {}, 150, "150 partners"),
        ("account_id", {}, 150, "150 accounts"),
        # leads of one partner go together
        ("lead_id", {"partner_id": 7}, 7, "7 partners"),
    ],
)
def test_segments_go_by_the_partner_or_else_by_what_the_rows_are_of(monkeypatch, cluster, beside, many, told):
    recipe = made(best=6.0)
    keys = recipe.data.keys.rename(columns={"partner_id": cluster})
    keys = keys.assign(**{name: np.arange(len(keys)) % few for name, few in beside.items()})
    recipe = dataclasses.replace(recipe, cluster=cluster, data=dataclasses.replace(recipe.data, keys=keys))
    monkeypatch.setattr("partnerml.models.segment_labels", lambda data: pd.DataFrame({"tier": ["a"] * len(data)}))
    rows = pd.DataFrame({"row": np.arange(len(keys)), "cluster": keys[cluster], "y": recipe.labels})
    rows = rows.assign(score=0.4, weight=1.0)
    (found,) = recipe._segments(rows)
    assert found["partners"] == many
    assert f" forecasts for {told}, " in found["words"]
    alone = dataclasses.replace(recipe.data, keys=keys.assign(**dict.fromkeys(beside or {cluster: 0}, 0)))
    assert dataclasses.replace(recipe, data=alone)._segments(rows) == []


def test_the_space_holds_the_defaults_of_what_it_tunes():
    space = space_of(("trees", "logistic", "bgnbd"))
    trees = BoostedTrees().get_params()
    assert {p.name: p.default for p in space if p.component == "trees"}.items() <= trees.items()
    assert {p.key for p in space if p.component != "trees"} == {"logistic.prior_variance", "blend.spread"}
    assert [p.key for p in space_of(("logistic",))] == ["logistic.prior_variance"]
    assert space_of(("bgnbd", "rates")) == ()
    for parameter in space:
        draws = {type(bound) for bound in (parameter.low, parameter.high, parameter.default)}
        assert len(draws) == 1, parameter.key


def test_the_budget_is_a_number_of_trials_in_the_configuration():
    assert Config.from_dict({}).tuning.trials == 0
    assert Config.from_dict({"tuning": {"trials": 30}}).tuning.trials == 30
    with pytest.raises(ConfigError, match=r"tuning\.trials"):
        Config.from_dict({"tuning": {"trials": -1}})
    with pytest.raises(ConfigError, match=r"tuning\.seconds: unknown key"):
        Config.from_dict({"tuning": {"seconds": 60}})


def test_a_model_is_trained_with_what_is_kept_and_tells_of_it(tmp_path):
    recipe = made(best=6.0, n_partners=70)

    def make(found):
        column = "signal" if "logistic" in found else "noise"  # the defaults look the wrong way
        return {"logistic": lambda X, y, cut: LogLogistic(C=1.0).fit(X[[column]], y)}

    baselines = {"base_rate": BaseRate.learn, "simple": BaseRate.learn}
    recipe = dataclasses.replace(recipe, make=make, baselines=baselines, catalogue={})
    found = []
    for database, trials in (("a.db", 2), ("b.db", 1), ("b.db", 2)):
        found.append(recipe.train(Progress.silent(), trials=trials, database=tmp_path / database).model)
    tuned_model, plain, again = found
    assert plain.evaluation["tuning"]["kept"] == "defaults"
    assert list(plain.columns) == ["noise"]
    assert plain.training["settings"] == {}
    assert tuned_model.evaluation["tuning"]["kept"] == "tuned"
    assert list(tuned_model.columns) == ["signal"]
    assert tuned_model.training["settings"] == tuned_model.evaluation["tuning"]["chosen"]
    assert tuned_model.evaluation["rows"] == tuned_model.evaluation["tuning"]["rows"]
    assert tuned_model.version == again.version != plain.version
    kept = recipe.data.as_of >= pd.Timestamp(again.evaluation["tuning"]["judged"][0])
    assert again.evaluation["rows"] == kept.sum()


def test_without_optuna_nothing_is_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r'pip install "partnerml\[tuning\]"'):
        train(types.SimpleNamespace(has=lambda *_: True), tasks.churn(), until="2025-01-01", trials=3)


def test_the_benchmark_tells_how_much_worse_than_the_defaults(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    automl = importlib.import_module("automl")
    # evaluate() says subject minus other: here the other's log loss is .01 above the subject's
    report = {"differences": {"other": {"log_loss": {"difference": -0.01, "low": -0.03, "high": 0.02}}}}
    assert automl.above(report, "other") == "+0.0100 [-0.0200, +0.0300]"
    assert automl.above(report, "subject") == ""


def test_numbers_in_the_text_are_those_of_the_code():
    page = Path(__file__).resolve().parents[1] / "docs" / "tuning.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    numerals = {2: "two", 3: "three", 5: "five", 10: "ten"}
    told = (
        f"the first {numerals[RANDOM_TRIALS]} are drawn at random",
        f"chosen on {numerals[GROUPS - 1]} thirds of the partners",
        f"the latest {numerals[MAX_SEEN]} origins all of whose labels were known",
        f"too short for {numerals[WANTED_SEEN]} such origins",
        f"too short for {numerals[MIN_SEEN]}, nothing is tuned",
    )
    assert [phrase for phrase in told if phrase not in text] == []
    assert GROUPS == 3
    components = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)[:3]
    assert set(components) == {parameter.component for parameter in space_of(("trees", "logistic"))}
    table = page.read_text(encoding="utf-8").partition("| `evaluation")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table.partition("\n")[2])) >= {"kept", "reason", "gain", "interval", "history"}
