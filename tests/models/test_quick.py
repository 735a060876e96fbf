"""Trees as tables of bits say what LightGBM says."""

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.dataset import FeatureInfo
from partnerml.models import Blend, BoostedTrees, LogLogistic, Model, _quick_trees, explain
from partnerml.models._quick import QuickModel, coded
from partnerml.models._quick_trees import QuickTrees


def rows(n: int, seed: int, *, missing: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    X["b"] = rng.integers(-3, 4, n).astype(float)
    X["d"] = np.where(rng.random(n) < 0.5, 0.0, X["d"])
    text = rng.choice(["north", "south", "east", "west", "far"], n).astype(object)
    text[rng.random(n) < missing] = None
    X["text"] = pd.Categorical(text)
    return X.mask(rng.random(X.shape) < missing)


def labels(X: pd.DataFrame, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    score = X["a"].fillna(1.0) + (X["text"] == "east") * 2.0 - X["d"].fillna(-1.0) * X["b"].fillna(0.0)
    return (score + rng.normal(size=len(X)) > 0.3).to_numpy(dtype=float)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    leaves=st.sampled_from([2, 3, 7, 8, 9, 31, 64]),
    seeds=st.integers(1, 2),
    missing=st.sampled_from([0.0, 0.2]),
    unseen=st.sampled_from([0.0, 0.3]),
)
def test_every_row_ends_in_its_leaf(seed, leaves, seeds, missing, unseen):
    X = rows(300, seed, missing=missing)
    trees = BoostedTrees(n_estimators=8, num_leaves=leaves, min_child_samples=3, n_seeds=seeds).fit(X, labels(X, seed))
    quick = QuickTrees.of(trees)
    # missing values that training did not have, and values beyond all thresholds
    asked = rows(_quick_trees._SUMMED + 9, seed + 1, missing=unseen)
    asked.loc[0, ["a", "b", "c", "d"]] = [1e300, -1e300, 0.0, -0.0]
    codes = trees.columns_.encode(asked)
    expected = trees.decision_function(asked)
    np.testing.assert_allclose(quick.log_odds(quick.left_over(codes, quick.tables)), expected, rtol=0, atol=1e-12)
    # on the thresholds themselves
    for feature, table in quick.tables.items():
        if table.edges is not None:
            on = np.repeat(codes[:1], len(table.edges), axis=0)
            on[:, feature] = table.edges
            said = quick.log_odds(quick.left_over(on, quick.tables))
            np.testing.assert_allclose(said, trees._predicted(on, raw_score=True), rtol=0, atol=1e-12)
    # beforehand in part
    some = [feature for feature in quick.tables if feature % 2]
    rest = {feature: table for feature, table in quick.tables.items() if feature not in some}
    bits = quick.prepared(codes, some)
    np.testing.assert_array_equal(
        quick.log_odds(quick.left_over(codes, rest, bits)), quick.log_odds(quick.left_over(codes, quick.tables))
    )


@pytest.mark.parametrize("most", [1, 500, 1 << 14])
def test_joined_tables_leave_over_what_each_of_them_leaves_over(most, monkeypatch):
    X = rows(300, 3, missing=0.1)
    trees = BoostedTrees(n_estimators=8, num_leaves=7, min_child_samples=3).fit(X, labels(X, 3))
    quick, codes = QuickTrees.of(trees), trees.columns_.encode(rows(90, 4, missing=0.3))
    monkeypatch.setattr(_quick_trees, "_MOST", most)
    joined = quick.joined(codes, quick.tables)
    assert (len(joined) == len(quick.tables)) is (most == 1)
    left = np.bitwise_and.reduce([each.of_rows(np.arange(len(codes))) for each in joined])
    np.testing.assert_array_equal(left, quick.left_over(codes, quick.tables))
    assert sum(each.size for each in joined) > 0


def test_what_no_table_holds():
    X = rows(600, 1, missing=0.0)
    noise = np.random.default_rng(2).integers(0, 2, len(X))
    large = BoostedTrees(n_estimators=2, num_leaves=120, min_child_samples=1, colsample=1.0, reg_lambda=0.0).fit(
        X, noise
    )
    assert QuickTrees.of(large.fit(X, noise)) is None
    numbers = X[["a", "b"]].to_numpy()
    data = lgb.Dataset(numbers, labels(X, 1), params={"zero_as_missing": True, "verbosity": -1})
    booster = lgb.train({"objective": "binary", "verbosity": -1, "zero_as_missing": True}, data, num_boost_round=2)
    small = BoostedTrees(n_estimators=2).fit(numbers, labels(X, 1))
    small._boosters = [booster]
    assert QuickTrees.of(small) is None


@pytest.mark.parametrize("n", [0, 1, 5_000])
def test_any_number_of_rows(n):
    X = rows(300, 2, missing=0.1)
    trees = BoostedTrees(n_estimators=3).fit(X, labels(X, 2))
    quick = QuickTrees.of(trees)
    codes = trees.columns_.encode(rows(n, 3, missing=0.1))
    bits = quick.prepared(codes, list(quick.tables))
    assert bits.shape == (n, 3)
    expected = trees._predicted(codes, raw_score=True) if n else np.empty(0)
    np.testing.assert_allclose(quick.log_odds(bits), expected, rtol=0, atol=1e-12)


def test_reasons_are_those_of_the_model_whatever_its_components_are():
    X = rows(800, 5, missing=0.1)
    y, noise = labels(X, 5), np.random.default_rng(1).integers(0, 2, len(X))
    components = {
        "known": BoostedTrees(n_estimators=5).fit(X[["b", "text"]], y),
        "trees": BoostedTrees(n_estimators=6, num_leaves=7).fit(X, y),
        "line": LogLogistic(straight=("a", "b")).fit(X, y),
        "framed": BoostedTrees(n_estimators=2, num_leaves=120, min_child_samples=1, reg_lambda=0.0).fit(
            X[["a"]], noise
        ),
    }
    names = tuple(X.columns)
    plain = {"columns": (), "window_days": None, "table": "", "null_rule": "", "unit": "number"}
    dictionary = tuple(
        FeatureInfo(name=n, definition=n, words=n, subject=n, measure=n, group=n, **plain) for n in names
    )
    model = Model(
        task={"name": "close"},
        catalogue={},
        dictionary=dictionary,
        columns=names,
        vocabulary={"text": components["line"].columns_.vocabulary["text"]},
        blend=Blend(components, {"known": 0.3, "trees": 0.5, "line": 0.4, "framed": 0.2}),
        hazard=None,
        evaluation={},
        training={"typical": {"a": 0.1, "b": 2.0}},
        documents={},
    )
    columns, asked = coded(model, None, names), rows(40, 6, missing=0.3)
    codes = columns.encode(asked)
    live = [names.index(name) for name in ("a", "c", "d")]
    quick = QuickModel(model, None, columns, codes, live)
    kinds = {name: type(part).__name__ for name, part in quick.parts.items()}
    assert kinds == {"known": "Known", "trees": "Trees", "line": "Linear", "framed": "Framed"}
    line, values = quick.parts["line"], codes[:, live]
    said = components["line"].decision_function(asked)
    np.testing.assert_allclose(line.log_odds(np.arange(len(asked)), values), said, rtol=0, atol=1e-12)
    # what a live column adds is how far what is said moves with it
    for effect in line.effects(np.arange(1), values[0]):
        moved = np.repeat(codes[:1], len(codes), axis=0)
        moved[:, live[effect.column]] = values[:, effect.column]
        steps = components["line"].effects(moved).sum(axis=1)
        np.testing.assert_allclose(np.diff(effect(values[:, effect.column])), np.diff(steps), rtol=0, atol=1e-12)
    told = quick.reasons(np.arange(len(asked)), codes[:, live], top=9)
    expected = explain(
        model.contributions(asked), asked, dictionary=dictionary, typical=model.training["typical"], top=9
    )
    for ours, theirs in zip(told, expected, strict=True):
        effect = {reason.feature: reason.effect for reason in theirs}
        assert {reason.text for reason in ours} == {reason.text for reason in theirs}
        assert {reason.feature: reason.effect for reason in ours} == pytest.approx(effect, abs=1e-12)
    assert [quick.reasons(np.array([i]), codes[i : i + 1, live], top=9)[0] for i in range(5)] == told[:5]
