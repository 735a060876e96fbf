"""The saved model: same bytes, same predictions, and every kind of damage named."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from tests.models.made_up_models import ACTIVE, AGE, COUNTRY, LOGINS, RECENCY, WON, frame, made_up

from partnerml.errors import InternalError, ModelError
from partnerml.features import Feature, describe
from partnerml.models._artifact import Model, load_model
from partnerml.models._binary import Columns
from partnerml.models._blend import Blend
from partnerml.models._explain import BASE, explain
from partnerml.models._logistic import LogLogistic
from partnerml.models._storage import decode, encode, plain


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return made_up().save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_loaded_model_predicts_to_the_last_bit_what_the_trained_one_does(saved):
    model, loaded = made_up(), load_model(saved)
    X, _ = frame(300, seed=5)
    assert (loaded.predict_proba(X) == model.predict_proba(X)).all()
    pd.testing.assert_frame_equal(loaded.contributions(X), model.contributions(X), check_exact=True)
    assert (loaded.risk_curve(X, [90, 120, 180]) == model.risk_curve(X, [90, 120, 180])).all()
    assert (loaded.spread(X) == model.spread(X)).all()
    for name in ("version", "task", "catalogue", "dictionary", "columns", "vocabulary", "evaluation", "training"):
        assert getattr(loaded, name) == getattr(model, name), name


def test_the_same_model_is_the_same_bytes_wherever_and_whenever_it_is_saved(saved, tmp_path):
    made_up.cache_clear()
    again = made_up().save(tmp_path / "again")
    assert _bytes(again) == _bytes(saved)
    assert _bytes(load_model(saved).save(tmp_path / "a" / "third")) == _bytes(saved)
    assert made_up(1).version != made_up().version


def test_the_version_is_that_of_the_content(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    files = {name: content for name, content in _bytes(saved).items() if name != "manifest.json"}
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["version"] == load_model(saved).version == made_up().version
    assert len(manifest["version"]) == 12
    assert int(manifest["version"], 16) >= 0
    other = dataclasses.replace(made_up(), training={**made_up().training, "seed": 7})
    assert other.version != manifest["version"]


def test_a_saved_model_is_text_and_boosters_have_files_of_their_own(saved):
    for name, content in _bytes(saved).items():
        assert content.decode().replace("\n", "").isprintable(), name
    boosters = sorted(saved.glob("blend.components.trees.*.txt"))
    assert len(boosters) == 2
    assert all(path.read_text().startswith("tree\n") for path in boosters)
    assert "tree_sizes" not in (saved / "blend.json").read_text()


def test_columns_are_found_by_name_in_any_order_of_any_number_type():
    model = made_up()
    X, _ = frame(60, seed=2)
    expected = model.predict_proba(X)
    shuffled = X[sorted(X.columns, reverse=True)].assign(other=1.0)
    assert (model.predict_proba(shuffled) == expected).all()
    assert (model.predict_proba(X.astype({LOGINS: "int64", ACTIVE: "Int64", AGE: "float32"})) == expected).all()
    assert (model.predict_proba(X.astype({COUNTRY: object})) == expected).all()
    assert (model.predict_proba(X.astype({COUNTRY: "str"})) == expected).all()


def test_columns_are_decoded_to_what_was_encoded():
    X = pd.DataFrame(
        {"n": [1.5, None, 3.0], "t": pd.Categorical(["b", None, "a"]), "empty": pd.Series([None] * 3, dtype="str")},
        index=[7, 3, 5],
    )
    columns = Columns.learn(X)
    again = columns.decode(columns.encode(X), X.index)
    assert again.index.tolist() == [7, 3, 5]
    assert again["n"].dtype == np.float64
    assert again["t"].cat.categories.tolist() == ["a", "b"]
    assert again["empty"].isna().all()
    np.testing.assert_array_equal(columns.encode(again), columns.encode(X))
    assert columns.decode(columns.encode(X)).index.tolist() == [0, 1, 2]


def test_an_unseen_value_is_a_missing_one():
    model = made_up()
    X, _ = frame(40, seed=3)
    missing = X.assign(**{COUNTRY: pd.Categorical([None] * 40, categories=["AT"])})
    unseen = X.assign(**{COUNTRY: ["Atlantis"] * 40})
    assert (model.predict_proba(unseen) == model.predict_proba(missing)).all()
    assert not (model.predict_proba(unseen) == model.predict_proba(X.assign(**{COUNTRY: "AT"}))).all()


def test_columns_that_do_not_fit_are_named():
    model = made_up()
    X, _ = frame(5)
    with pytest.raises(ModelError, match=rf"2 of 6 columns .* missing: {LOGINS}, {WON};"):
        model.predict_proba(X.drop(columns=[LOGINS, WON]))
    with pytest.raises(ModelError, match=f"'{LOGINS}' held numbers in training and now holds"):
        model.contributions(X.assign(**{LOGINS: "many"}))
    with pytest.raises(ModelError, match=f"'{COUNTRY}' held text in training and now holds float64"):
        model.risk_curve(X.assign(**{COUNTRY: 1.0}), [90])


def test_contributions_sum_to_the_log_odds_of_the_score():
    model = made_up()
    X, _ = frame(200, seed=4)
    effects = model.contributions(X)
    assert list(effects.columns[:-1]) == list(model.blend.feature_names_in_)
    assert effects.columns[-1] == "base"
    np.testing.assert_allclose(effects.sum(axis=1), logit(model.predict_proba(X)), atol=1e-9)
    assert effects["base"].nunique() == 1
    selected = X.iloc[[3, 1]].set_axis(["x", "y"])
    assert list(model.contributions(selected).index) == ["x", "y"]


def test_the_risk_curve_meets_the_score_at_the_horizon_and_never_falls():
    model = made_up()
    X, _ = frame(200, seed=6)
    curve = model.risk_curve(X, [90, 100, 130, 180])
    assert (curve[:, 0] == model.predict_proba(X)).all()
    assert (np.diff(curve, axis=1) >= 0).all()
    assert ((curve >= 0) & (curve <= 1)).all()
    given = np.full(len(X), 0.25)
    assert (model.risk_curve(X, [90, 180], given)[:, 0] == 0.25).all()
    with pytest.raises(ModelError, match="fitted for 0 to 180 days; asked for"):
        model.risk_curve(X, [365])
    with pytest.raises(ModelError, match="the model of churn has no curve over time"):
        dataclasses.replace(model, hazard=None).risk_curve(X, [90])


def test_the_spread_is_the_disagreement_of_the_components():
    model = made_up()
    X, _ = frame(50, seed=7)
    alone = {
        name: Blend({name: part}, {name: 1.0}, model.blend.calibrator).predict_proba(model.aligned(X))
        for name, part in model.blend.components.items()
    }
    expected = [
        math.sqrt(np.cov([alone[k][i] for k in alone], aweights=[model.blend.weights[k] for k in alone], ddof=0))
        for i in range(50)
    ]
    np.testing.assert_allclose(model.spread(X), expected, rtol=1e-9)
    single = Blend({"logistic": model.blend.components["logistic"]}, {"logistic": 1.0})
    assert (dataclasses.replace(model, blend=single, hazard=None).spread(X) == 0).all()


def test_a_model_without_a_hazard_or_trees_survives_too(tmp_path):
    model = made_up()
    single = Blend({"logistic": model.blend.components["logistic"]}, {"logistic": 1.0})
    plainer = Model.of(
        task=model.task,
        catalogue={},
        dictionary=model.dictionary,
        blend=single,
        evaluation={"auc": float("nan")},
        training={},
    )
    loaded = load_model(plainer.save(tmp_path / "m"))
    X, _ = frame(10)
    assert (loaded.predict_proba(X) == plainer.predict_proba(X)).all()
    assert loaded.hazard is None
    assert loaded.evaluation == {"auc": None} == plainer.evaluation


def test_damage_is_named(copy):
    booster = next(copy.glob("*.txt"))
    intact = booster.read_bytes()
    booster.write_bytes(intact.replace(b"leaf_value", b"leaf_valve", 1))
    with pytest.raises(ModelError, match=rf"is damaged: {booster.name} changed since it was written"):
        load_model(copy)
    booster.unlink()
    with pytest.raises(ModelError, match=rf"1 file\(s\) missing: {booster.name}; copy the model again"):
        load_model(copy)
    booster.write_bytes(intact)
    (copy / "sub").mkdir()
    (copy / "sub" / "run_me.py").write_text("print()")
    with pytest.raises(ModelError, match=r"1 file\(s\) that are not part of the model: sub/run_me.py"):
        load_model(copy)


@pytest.mark.parametrize("name", ["blend.json", "evaluation.json", "dictionary.json", "hazard.json", "model.json"])
@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:9] + b"\x00" + b[10:], lambda b: b + b"\n"])
def test_no_byte_of_any_document_changes_unnoticed(copy, name, damage):
    path = copy / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=name):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"written by a newer partnerml \(format 2, this one reads 1\)"),
        ({"format": 0}, "written by an older partnerml"),
        ({"kind": "other"}, "its kind is 'other', not 'partnerml model'"),
        ({"version": "000000000000"}, r"manifest.json is damaged: its version"),
        ({"files": None}, "not that of a saved model"),
        ({"format": "x"}, r"manifest.json is damaged \(ValueError"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copy, change, message):
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        load_model(copy)


def test_what_is_no_model_is_refused(tmp_path, copy):
    with pytest.raises(ModelError, match=r"nowhere is not there: it is not a saved model; name the folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"has no manifest.json"):
        load_model(tmp_path)
    (copy / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(ModelError, match=r"manifest.json is damaged"):
        load_model(copy)
    with pytest.raises(ModelError, match=r"models:/churn@champion is a model of the registry; say which with store="):
        load_model("models:/churn@champion")


def _forge(folder: Path, name: str, document: object) -> None:
    """Change a file and its hashes alike, as a bug or a newer version might."""
    (folder / name).write_text(json.dumps(document))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = json.dumps(manifest["files"], sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    manifest["version"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_loading_reaches_no_code_that_the_files_name(copy):
    state = json.loads((copy / "blend.json").read_text())
    state["components"]["logistic"]["type"] = "os.system"
    _forge(copy, "blend.json", state)
    with pytest.raises(
        ModelError, match=r"cannot hold a component of type 'os.system'; known: BaggedPositiveUnlabelled, BoostedTrees"
    ):
        load_model(copy)


def test_a_document_of_another_shape_is_refused_with_the_advice_to_train_again(copy):
    _forge(copy, "model.json", {"task": {}})
    with pytest.raises(ModelError, match=r"cannot be read by this version of partnerml \(KeyError.*train it again"):
        load_model(copy)


def test_saving_replaces_a_model_and_nothing_else(copy, tmp_path):
    other = made_up(1)
    other.save(copy)
    assert load_model(copy).version == other.version
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"files that are no part of a model: notes.txt; name another folder"):
        made_up().save(copy)
    assert (copy / "notes.txt").read_text() == "mine"
    full = tmp_path / "documents"
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    with pytest.raises(ModelError, match="holds files and is not a saved model"):
        made_up().save(full)
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert load_model(made_up().save(tmp_path / "empty")).version == made_up().version


def test_components_whose_columns_the_model_does_not_list_are_our_fault():
    model = made_up()
    with pytest.raises(InternalError, match=f"columns that the model does not list: {RECENCY}"):
        dataclasses.replace(model, columns=tuple(name for name in model.columns if name != RECENCY))


SERIES = ("events__portal_login", "events__a__b", "events__all", "deals__won", "activity__all")
KNOWN = tuple(
    describe(Feature.parse(name))
    for name in (
        *(f"{series}__count__{days}d" for series in SERIES for days in (30, 60, 90, 180)),
        *(f"{series}__active_days__{days}d" for series in SERIES for days in (7, 30, 60, 90, 180, 365)),
        *(f"{series}__recency_days__ever" for series in SERIES),
        *(f"events__a__b__value__{days}d" for days in (30, 60, 90, 180, 365)),
        *(f"deals__won__amount__{days}d" for days in (30, 60, 90, 180, 365)),
        "events__all__count_ratio__30d_90d",
        "events__all__prior_ratio__90d",
        "deals__won__count_trend__12w",
        "activity__all__gap_mean__365d",
        "activity__all__gap_mean__90d",
        "activity__all__recency_over_gap__365d",
        "activity__all__age_days__ever",
        "partners__all__tenure_days__asof",
        "partners__latitude__trait__asof",
    )
)
NAMES = [info.name for info in KNOWN]


@functools.cache
def _reading(*columns: str) -> Model:
    """A model that reads a few columns of a wide dictionary."""
    X = pd.DataFrame(np.random.default_rng(0).random((20, len(columns))), columns=list(columns))
    blend = Blend({"logistic": LogLogistic().fit(X, np.arange(20) % 2)}, {"logistic": 1.0})
    return Model.of(task={}, catalogue={}, dictionary=KNOWN, blend=blend, evaluation={}, training={})


@settings(max_examples=40)
@given(st.data())
def test_reasons_are_the_same_from_the_features_that_the_model_says_it_needs(data):
    read = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    X = pd.DataFrame(generator.choice([0.0, 1.0, 3.0, 40.0, np.nan], size=(8, len(NAMES))), columns=NAMES)
    contributions = pd.DataFrame(generator.normal(size=(8, len(read))), columns=read).assign(**{BASE: 0.5})
    told = {"dictionary": KNOWN, "typical": dict.fromkeys(NAMES, 2.0)}
    enough = list(_reading(*read).features)
    assert set(read) <= set(enough)
    assert explain(contributions, X[enough], **told) == explain(contributions, X, **told)


def test_a_model_needs_what_it_reads_and_what_its_reasons_tell_and_nothing_else():
    recent, silence = "events__portal_login__active_days__7d", "activity__all__recency_days__ever"
    told = {f"events__portal_login__count__{days}d" for days in (30, 60, 90, 180)}
    assert set(_reading(recent).features) == {recent, *told}
    assert set(_reading(silence).features) == {silence, "activity__all__gap_mean__365d"}
    assert _reading("partners__latitude__trait__asof").features == ("partners__latitude__trait__asof",)
    assert list(_reading(silence, recent).features) == [n for n in NAMES if n in _reading(silence, recent).features]


def test_the_history_that_a_model_needs_is_that_of_its_longest_window():
    assert _reading("events__all__active_days__7d").history_days == 180  # a change is told from as far back
    assert _reading("partners__all__tenure_days__asof").history_days == 0
    wide = _reading("deals__won__amount__365d", "activity__all__age_days__ever", "events__all__recency_days__ever")
    assert wide.history_days == 365
    assert wide.lifelong == ("events__all__recency_days__ever", "activity__all__age_days__ever")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_documents_come_back_as_they_were_with_texts_of_any_length(document):
    files = encode({"blend": document})
    assert decode(files, "blend") == document
    assert all("/" not in name and name.endswith((".json", ".txt")) for name in files)
    assert files == encode({"blend": dict(reversed(document.items()))})


def test_two_places_with_one_file_name_stay_apart():
    document = {"BG/NBD": "a\n", "BG:NBD": "b\n", "BG NBD": "c\n"}
    assert decode(encode({"x": document}), "x") == document


def test_a_number_without_json_form_in_a_state_is_our_fault():
    with pytest.raises(InternalError, match="the blend of the model has no JSON form"):
        encode({"blend": {"slope": float("nan")}})
    with pytest.raises(InternalError, match=r"training.a.0 of the model is a set, which has no JSON form"):
        plain({"a": [{1}]}, "training")


def test_plain_values_are_those_that_come_back():
    given = {
        "b": np.float64(0.1),
        "a": np.int64(3),
        "n": np.nan,
        "t": pd.Timestamp("2026-01-02", tz="UTC"),
        "x": np.array([1.5, np.inf]),
        "f": np.bool_(True),
    }
    found = plain(given, "training")
    assert found == {"b": 0.1, "a": 3, "n": None, "t": "2026-01-02T00:00:00+00:00", "x": [1.5, None], "f": True}
    assert list(found) == sorted(found)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow
def test_loading_a_folder_imports_no_mlflow_and_predicts_the_same_in_another_process(saved):
    code = (
        "import sys, json; from tests.models.made_up_models import frame; from partnerml.models import load_model\n"
        f"model = load_model({str(saved)!r}); X, _ = frame(20, seed=9)\n"
        "assert not {'mlflow', 'shap', 'optuna', 'matplotlib', 'duckdb', 'ibis'} & set(sys.modules)\n"
        "print(json.dumps(model.predict_proba(X).tolist()))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert json.loads(done.stdout) == made_up().predict_proba(frame(20, seed=9)[0]).tolist()
