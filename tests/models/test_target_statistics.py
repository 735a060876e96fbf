"""Target statistics of text columns with many values: no row sees its own label, noise gains nothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from partnerml.errors import ModelError
from partnerml.models import BoostedTrees, DiscreteTimeHazard, LogLogistic
from partnerml.models._target_statistics import OrderedTargetStatistics, known_rows

TREES = {"n_estimators": 60, "learning_rate": 0.1, "min_child_samples": 20}


def row_by_row(codes, y, weight, known, a):
    """The definition, in plain Python."""
    found = []
    for i, code in enumerate(codes):
        before = range(known[i])
        total = sum(weight[j] for j in before)
        p = sum(weight[j] * y[j] for j in before) / total if total else 0.0
        same = [j for j in before if code is not None and codes[j] == code]
        n, s = sum(weight[j] for j in same), sum(weight[j] * y[j] for j in same)
        found.append((s + a * p) / (n + a) - p)
    return found


@settings(max_examples=60)
@given(st.data())
def test_equal_to_the_definition_row_by_row(data):
    n = data.draw(st.integers(1, 25))
    codes = data.draw(st.lists(st.sampled_from([None, 0, 1, 2, 7]), min_size=n, max_size=n))
    y = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    weight = data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=n, max_size=n))
    known = [data.draw(st.integers(0, i)) for i in range(n)]
    a = data.draw(st.sampled_from([0.5, 10.0]))
    column = np.array([[np.nan if code is None else code] for code in codes], dtype=float)
    encoder = OrderedTargetStatistics(strength=a)
    found = encoder.fit_transform(column, y, weight, known_rows=known)
    np.testing.assert_allclose(found[:, 0], row_by_row(codes, y, weight, known, a), atol=1e-12)
    # later rows see all rows of training
    asked = [*codes, 5, 99]
    later = encoder.transform([[np.nan if code is None else code] for code in asked])
    everyone = row_by_row([*codes, *asked], [*y, *[0] * len(asked)], [*weight, *[1] * len(asked)], [n] * (2 * n + 2), a)
    np.testing.assert_allclose(later[:, 0], everyone[n:], atol=1e-12)
    assert later[-1, 0] == later[-2, 0] == 0


@settings(max_examples=40)
@given(st.integers(0, 39), st.integers(0, 1000))
def test_a_label_enters_only_later_rows(changed, seed):
    rng = np.random.default_rng(seed)
    codes, y = rng.integers(0, 5, (40, 2)).astype(float), rng.integers(0, 2, 40).astype(float)
    other = y.copy()
    other[changed] = 1 - other[changed]
    before, after = (OrderedTargetStatistics().fit_transform(codes, labels) for labels in (y, other))
    np.testing.assert_array_equal(before[: changed + 1], after[: changed + 1])
    same = np.arange(40) > changed
    assert changed == 39 or not np.array_equal(before[same], after[same])


def test_rows_without_a_known_label_before_them_have_no_statistic():
    as_of = pd.Series(pd.to_datetime(["2026-01-01"] * 2 + ["2026-02-01"] * 2 + ["2026-04-01"] * 2, utc=True))
    known = known_rows(as_of, pd.Timedelta(days=59))
    np.testing.assert_array_equal(known, [0, 0, 0, 0, 4, 4])
    np.testing.assert_array_equal(known_rows(as_of, pd.Timedelta(days=60)), [0, 0, 0, 0, 2, 2])
    found = OrderedTargetStatistics(1.0).fit_transform([[0.0]] * 6, [1, 1, 0, 0, 1, 1], known_rows=known)
    np.testing.assert_array_equal(found[:, 0], 0)
    mixed = OrderedTargetStatistics(1.0).fit_transform([[0.0], [1.0]] * 3, [1, 0, 1, 0, 1, 1], known_rows=known)
    np.testing.assert_allclose(mixed[:, 0], [0, 0, 0, 0, 2.5 / 3 - 0.5, 0.5 / 3 - 0.5])
    with pytest.raises(ModelError, match="rows in the order of time"):
        known_rows(as_of[::-1], pd.Timedelta(days=60))


def test_what_is_wrong_is_named():
    encoder = OrderedTargetStatistics()
    with pytest.raises(ModelError, match="known_rows: row 1 cannot know the labels of 2 rows, only 1 come before it"):
        encoder.fit_transform([[0.0]] * 3, [0, 1, 1], known_rows=[0, 2, 0])
    with pytest.raises(ModelError, match=r"one number for each of the 3 rows; its shape is \(2,\)"):
        encoder.fit_transform([[0.0]] * 3, [0, 1, 1], known_rows=[0, 1])
    with pytest.raises(ModelError, match="codes 0, 1"):
        encoder.fit([[0.5]] * 3, [0, 1, 1])
    with pytest.raises(ModelError, match="strength must be above 0, not 0"):
        OrderedTargetStatistics(0).fit([[0.0]] * 3, [0, 1, 1])
    with pytest.raises(ModelError, match="max_levels must be at least 1, not 0"):
        LogLogistic(max_levels=0).fit([[0.0], [1.0]], [0, 1])


def places(n, *, signal, seed=0, values=400):
    """Rows with one weak number and a text of many values, whose own log-odds have the given spread."""
    rng = np.random.default_rng(seed)
    effects = np.random.default_rng(99).normal(0, signal, values)
    place = rng.integers(0, values, n)
    number = rng.normal(size=n)
    y = (rng.random(n) < expit(-0.8 + 0.5 * number + effects[place])).astype(float)
    return pd.DataFrame({"number": number, "place": pd.Series(place).map("Z{:04d}".format)}), y


MODELS = [LogLogistic(C=1.0), BoostedTrees(**TREES)]


@pytest.mark.parametrize("model", MODELS, ids=["logistic", "trees"])
def test_noise_looks_no_better_in_training_than_it_is(model):
    X, y = places(3_000, signal=0)
    X_new, y_new = places(3_000, signal=0, seed=1)
    scores = {}
    for name, columns in (("without", ["number"]), ("with", ["number", "place"])):
        model.fit(X[columns], y)
        scores[name] = [
            log_loss(labels, model.predict_proba(rows[columns])[:, 1]) for rows, labels in ((X, y), (X_new, y_new))
        ]
    # what it seems to gain, on the rows it was fitted on, and what it costs on new ones
    naive = X.assign(place=pd.Series(y).groupby(X["place"]).transform("mean"))
    means = pd.Series(y).groupby(X["place"]).mean()
    model.fit(naive, y)
    trap = [
        log_loss(y, model.predict_proba(naive)[:, 1]),
        log_loss(y_new, model.predict_proba(X_new.assign(place=X_new["place"].map(means).fillna(y.mean())))[:, 1]),
    ]
    assert scores["with"][1] < scores["without"][1] + 0.01
    # the test can fail: the plain mean of the labels seems to gain much, and costs as much
    assert trap[0] < scores["without"][0] - 0.05
    assert trap[1] > scores["without"][1] + 0.03


@pytest.mark.parametrize("model", MODELS, ids=["logistic", "trees"])
def test_what_tells_something_helps(model):
    X, y = places(6_000, signal=1.5)
    X_new, y_new = places(3_000, signal=1.5, seed=1)
    without = roc_auc_score(y_new, model.fit(X[["number"]], y).decision_function(X_new))
    found = roc_auc_score(y_new, model.fit(X, y).decision_function(X_new))
    assert found > without + 0.08


@pytest.mark.parametrize("model", MODELS, ids=["logistic", "trees"])
def test_a_replaced_column_keeps_its_name_in_contributions_and_survives_saving(model):
    X, y = places(2_000, signal=2.0)
    model.fit(X, y)
    assert model.replaced_ == [1]
    contributions = model.contributions(X)
    assert contributions.shape == (2_000, 3)
    np.testing.assert_allclose(contributions.sum(axis=1), model.decision_function(X), atol=1e-9)
    assert np.ptp(contributions[:, 1]) > 0.3
    again = type(model).from_state(json.loads(json.dumps(model.to_state())))
    np.testing.assert_array_equal(again.contributions(X), contributions)
    assert again.to_state() == model.to_state()
    # unseen and missing are average
    unseen, missing = (model.decision_function(X.assign(place=value)) for value in ("elsewhere", None))
    np.testing.assert_array_equal(unseen, missing)


@pytest.mark.parametrize("model", MODELS, ids=["logistic", "trees"])
def test_few_values_stay_values(model):
    X, y = places(2_000, signal=1.0, values=30)
    model.fit(X, y)
    assert model.replaced_ == []
    state = model.to_state()
    assert state["statistics"] is None
    # a state that an earlier version wrote
    for name in ("statistics", "replaced"):
        del state[name]
    del state["parameters"]["max_levels"]
    np.testing.assert_array_equal(type(model).from_state(state).decision_function(X), model.decision_function(X))


def test_an_earlier_version_kept_every_value():
    X, y = places(2_000, signal=1.0)
    every = LogLogistic(max_levels=1_000).fit(X, y)
    state = every.to_state()
    for name in ("statistics", "replaced"):
        del state[name]
    del state["parameters"]["max_levels"]
    again = LogLogistic.from_state(state)
    np.testing.assert_array_equal(again.decision_function(X), every.decision_function(X))


def test_rows_that_weigh_nothing_are_no_earlier_rows():
    X, y = places(1_500, signal=1.0)
    weight = np.tile([1.0, 0.0, 1.0], 500)
    known = np.maximum(np.arange(1_500) - 300, 0)
    kept = weight > 0
    known_of_kept = np.cumsum(np.concatenate([[0], kept]))[known][kept]
    weighted = LogLogistic().fit(X, y, sample_weight=weight, known_rows=known)
    alone = LogLogistic().fit(X[kept], y[kept], known_rows=known_of_kept)
    seen = X[X["place"].isin(X["place"][kept])]
    np.testing.assert_allclose(weighted.decision_function(seen), alone.decision_function(seen), atol=1e-9)


def test_a_hazard_lets_no_row_see_its_own_event():
    X, y = places(1_200, signal=1.0)
    duration = np.where(y == 1, 60.0, 200.0)
    known = np.maximum(np.arange(1_200) - 200, 0)

    def fitted(durations):
        return DiscreteTimeHazard([90.0, 180.0]).fit(X, durations, durations < 200, known_rows=known)

    hazard = fitted(duration)
    assert hazard.base_.replaced_ == [1]
    # whoever has a place of its own learns nothing about it from its own event
    own = X.assign(place=[f"Z{i}" for i in range(1_200)])
    alone = DiscreteTimeHazard([90.0, 180.0]).fit(own, duration, duration < 200, known_rows=known)
    np.testing.assert_array_equal(alone.base_.coef_[alone.base_.origin_ == 1], 0)
    assert hazard.base_.coef_[hazard.base_.origin_ == 1][0] > 0.1
