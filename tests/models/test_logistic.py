import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from partnerml.errors import NotEnoughDataError
from partnerml.models import LogLogistic


def make_rows(n, seed=0):
    """Rows that follow the model: log-odds linear in log1p, a text column, and nulls with an effect of their own."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "count": rng.negative_binomial(1, 0.05, n).astype(float),
            "recency": rng.exponential(30, n),
            "trend": rng.normal(0, 5, n),
            "tier": rng.choice(["gold", "silver", "bronze"], n),
        }
    )
    never = rng.random(n) < 0.2
    X.loc[never, "recency"] = np.nan
    log_odds = (
        0.8
        - 0.9 * np.log1p(X["count"].to_numpy())
        + 0.5 * np.where(never, 0.0, np.log1p(X["recency"].to_numpy()))
        + 2.5 * never
        - 0.4 * np.sign(X["trend"].to_numpy()) * np.log1p(np.abs(X["trend"].to_numpy()))
        + 0.8 * (X["tier"] == "gold").to_numpy()
    )
    y = (rng.random(n) < expit(log_odds)).astype(float)
    return X, y, log_odds


@parametrize_with_checks([LogLogistic(), LogLogistic(C=10.0, straight=("a",))])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_recovers_a_world_that_it_describes():
    X, y, _ = make_rows(20_000)
    X_new, y_new, truth = make_rows(5_000, seed=1)
    p = LogLogistic(C=1.0).fit(X, y).predict_proba(X_new)[:, 1]
    assert np.mean((p - expit(truth)) ** 2) < 2e-4
    assert abs(np.mean((p - y_new) ** 2) - np.mean((expit(truth) - y_new) ** 2)) < 0.002
    assert abs(p.mean() - expit(truth).mean()) < 0.01


def test_equals_scikit_learn_on_the_transformed_columns():
    X, y, _ = make_rows(2_000)
    numbers = X[["count", "trend"]]
    logged = (np.sign(numbers) * np.log1p(np.abs(numbers))).to_numpy()
    scaled = (logged - logged.mean(axis=0)) / logged.std(axis=0)
    oracle = LogisticRegression(C=0.05, solver="lbfgs", tol=1e-9).fit(scaled, y)
    np.testing.assert_allclose(
        LogLogistic(C=0.05).fit(numbers, y).decision_function(numbers), oracle.decision_function(scaled), atol=1e-5
    )


def test_numbers_may_be_read_as_they_are_beside_their_logarithm():
    X, y, _ = make_rows(2_000)
    median = X["recency"].quantile(0.5, interpolation="lower")
    filled = X["recency"].fillna(median)
    design = np.column_stack([np.log1p(filled), np.log1p(X["count"]), filled, X["recency"].isna()])
    scale = np.append(design[:, :3].std(axis=0), 1.0)  # an indicator is not scaled
    scaled = (design - design.mean(axis=0)) / scale
    oracle = LogisticRegression(C=0.05, solver="lbfgs", tol=1e-9).fit(scaled, y)
    # texts have no numbers, and what is not there is passed over
    numbers = X[["recency", "count"]]
    model = LogLogistic(C=0.05, straight=("recency", "tier", "absent")).fit(numbers, y)
    np.testing.assert_allclose(model.decision_function(numbers), oracle.decision_function(scaled), atol=1e-5)
    # both effects are those of the column
    effects = scaled * oracle.coef_[0]
    np.testing.assert_allclose(model.contributions(numbers)[:, 0], effects[:, [0, 2, 3]].sum(axis=1), atol=1e-5)
    again = LogLogistic.from_state(json.loads(json.dumps(model.to_state())))
    np.testing.assert_array_equal(again.contributions(numbers), model.contributions(numbers))
    np.testing.assert_array_equal(
        LogLogistic(straight=("tier",)).fit(X, y).decision_function(X), LogLogistic().fit(X, y).decision_function(X)
    )


def test_a_kilometre_costs_the_same_near_and_far_away():
    rng = np.random.default_rng(3)
    km = pd.DataFrame({"km": rng.exponential(250, 6_000)})
    truth = expit(0.5 - km["km"].to_numpy() / 300)
    y = (rng.random(6_000) < truth).astype(float)
    bent, straight = (LogLogistic(C=1.0, straight=names).fit(km, y) for names in ((), ("km",)))
    far = pd.DataFrame({"km": [900.0, 1_200.0]})
    assert (bent.predict_proba(far)[:, 1] > 0.1).all()
    np.testing.assert_allclose(straight.predict_proba(far)[:, 1], expit(0.5 - far["km"] / 300), atol=0.03)


def test_the_mean_prediction_is_the_base_rate_in_training():
    X, y, _ = make_rows(3_000)
    assert LogLogistic().fit(X, y).predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=1e-6)


def test_contributions_belong_to_the_columns_they_came_from():
    X, y, _ = make_rows(3_000)
    model = LogLogistic(C=1.0).fit(X, y)
    contributions = model.contributions(X)
    assert contributions.shape == (3_000, 5)
    np.testing.assert_array_equal(contributions.sum(axis=1), model.decision_function(X))
    # changing one column moves its own effect and no other
    changed = model.contributions(X.assign(recency=np.nan)) - contributions
    assert np.abs(changed[:, 1]).max() > 0.5
    assert np.abs(np.delete(changed, 1, axis=1)).max() == 0
    # and effects are relative to the mean row
    np.testing.assert_allclose(contributions[:, :-1].mean(axis=0), 0, atol=1e-9)


def test_an_unseen_value_counts_as_missing():
    X, y, _ = make_rows(2_000)
    model = LogLogistic(C=1.0).fit(X, y)
    unseen, missing = (model.decision_function(X.assign(tier=value)) for value in ("platinum", None))
    np.testing.assert_array_equal(unseen, missing)


def test_a_column_of_nulls_or_of_one_value_has_no_effect():
    X, y, _ = make_rows(500)
    model = LogLogistic().fit(X.assign(empty=np.nan, constant=0.1), y)
    contributions = model.contributions(X.assign(empty=5.0, constant=7.0))
    np.testing.assert_array_equal(contributions[:, 4:6], 0)
    without = LogLogistic().fit(X, y)
    np.testing.assert_allclose(contributions.sum(axis=1), without.decision_function(X), atol=1e-6)


def test_one_class_is_refused():
    X, _, _ = make_rows(40)
    with pytest.raises(NotEnoughDataError, match="two classes are needed to fit LogLogistic; all 40 labels"):
        LogLogistic().fit(X, np.zeros(40))


def test_the_state_is_plain_and_complete():
    X, y, _ = make_rows(800)
    model = LogLogistic().fit(X, y)
    again = LogLogistic.from_state(json.loads(json.dumps(model.to_state())))
    np.testing.assert_array_equal(again.contributions(X), model.contributions(X))
    assert again.to_state() == model.to_state()


def test_threads_and_batches_change_no_bit():
    X, y, _ = make_rows(4_000)
    states = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            states.append(json.dumps(LogLogistic().fit(X, y).to_state()))
    assert states[0] == states[1]
    model = LogLogistic().fit(X, y)
    one_by_one = [model.decision_function(X.iloc[[i]])[0] for i in range(20)]
    np.testing.assert_array_equal(one_by_one, model.decision_function(X)[:20])


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=60, max_size=60), st.integers(0, 10_000))
def test_a_weight_is_a_number_of_rows(weights, seed):
    X, y, _ = make_rows(60, seed)
    w = np.array(weights, dtype=float)
    y[:2], w[:2] = (0.0, 1.0), 1.0
    repeated = np.repeat(np.arange(60), w.astype(int))
    weighted = LogLogistic(C=0.5).fit(X, y, sample_weight=w)
    copied = LogLogistic(C=0.5).fit(X.iloc[repeated], y[repeated])
    seen = X[X["tier"].isin(copied.columns_.vocabulary["tier"])]
    np.testing.assert_allclose(weighted.decision_function(seen), copied.decision_function(seen), atol=1e-4)
