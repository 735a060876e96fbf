import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import log_loss

from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models import Blend, BoostedTrees, BuyTillYouDie, LogLogistic, PlattCalibrator, blended, choose_weights
from partnerml.models._buy_till_you_die import COLUMNS


def make_rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(30, 700, n).astype(float)
    recency = np.floor(rng.uniform(0, 1, n) * age)
    active = 1.0 + rng.poisson(3, n) * (recency < age)
    X = pd.DataFrame({COLUMNS[0]: active, COLUMNS[1]: recency, COLUMNS[2]: age, "value": rng.exponential(10, n)})
    y = (rng.random(n) < expit(0.02 * recency - 0.4 * active - 0.5)).astype(float)
    return X, y


@pytest.fixture(scope="module")
def blend():
    X, y = make_rows()
    components = {
        "trees": BoostedTrees(n_estimators=20, n_seeds=1, min_child_samples=20).fit(X, y),
        "logistic": LogLogistic().fit(X[["value", COLUMNS[1]]], y),
        "bgnbd": BuyTillYouDie(n_background=16).fit_features(X),
    }
    return Blend(components, {"trees": 0.5, "logistic": 0.2, "bgnbd": 0.3}, PlattCalibrator(0.8, -0.3))


def test_is_the_calibrated_weighted_sum(blend):
    X, _ = make_rows(seed=1)
    by_hand = sum(blend.weights[name] * blend.components[name].decision_function(X) for name in blend.weights)
    np.testing.assert_allclose(blend.decision_function(X), 0.8 * by_hand - 0.3, atol=1e-12)
    np.testing.assert_array_equal(blend.predict_proba(X), expit(blend.decision_function(X)))


def test_contributions_sum_to_the_log_odds(blend):
    X, _ = make_rows(seed=2)
    contributions = blend.contributions(X)
    assert list(blend.feature_names_in_) == [*COLUMNS, "value"]
    assert contributions.shape == (400, 5)
    np.testing.assert_allclose(contributions.sum(axis=1), blend.decision_function(X), atol=1e-9)
    # the logistic reads recency as its second column: its effect must land there and not on the first
    only = Blend(
        {"logistic": blend.components["logistic"], "bgnbd": blend.components["bgnbd"]}, {"logistic": 1, "bgnbd": 0}
    )
    assert list(only.feature_names_in_) == ["value", COLUMNS[1]]
    np.testing.assert_array_equal(only.contributions(X), blend.components["logistic"].contributions(X))


def test_a_component_of_weight_0_is_dropped(blend):
    lighter = Blend(blend.components, {"trees": 0.0, "logistic": 1.0, "bgnbd": 0.0})
    assert list(lighter.components) == ["logistic"] == list(lighter.weights)
    assert list(lighter.to_state()["components"]) == ["logistic"]


def test_the_state_is_plain_and_complete(blend):
    X, _ = make_rows(seed=3)
    again = Blend.from_state(json.loads(json.dumps(blend.to_state())))
    np.testing.assert_array_equal(again.decision_function(X), blend.decision_function(X))
    np.testing.assert_array_equal(again.contributions(X), blend.contributions(X))
    assert again.to_state() == blend.to_state()


def test_a_state_cannot_name_other_code(blend):
    state = blend.to_state()
    state["components"]["trees"]["type"] = "Popen"
    with pytest.raises(ModelError, match="component of type 'Popen'; known: BaggedPositiveUnlabelled, BoostedTrees"):
        Blend.from_state(state)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"trees": 1.0}, "one weight for each component"),
        ({"trees": 1.0, "logistic": -0.1, "bgnbd": 0.0}, "0 or more"),
        ({"trees": 0.0, "logistic": 0.0, "bgnbd": 0.0}, "one is above 0"),
        ({"trees": float("nan"), "logistic": 1.0, "bgnbd": 0.0}, "0 or more"),
    ],
)
def test_wrong_weights_are_refused(blend, weights, message):
    with pytest.raises(ConfigError, match=message):
        Blend(blend.components, weights)


def draw(n, weights, noise, seed=0):
    """Log-odds that are exactly right as a weighted sum, each seen with noise of its own."""
    rng = np.random.default_rng(seed)
    parts = {name: rng.normal(0, 1.5, n) for name in weights}
    truth = sum(weights[name] * parts[name] for name in weights)
    seen = {name: parts[name] + noise * rng.normal(size=n) for name in parts}
    return seen, (rng.random(n) < expit(truth)).astype(float)


def test_weights_are_recovered():
    seen, y = draw(40_000, {"a": 0.9, "b": 0.3, "c": 0.0}, 0.0)
    chosen = choose_weights(seen, y)
    assert chosen["a"] == pytest.approx(0.75, abs=0.03)
    assert chosen["b"] == pytest.approx(0.25, abs=0.03)
    assert chosen["c"] == 0.0


def test_weights_are_the_best_on_a_brute_force_grid():
    seen, y = draw(1_500, {"a": 0.6, "b": 0.3, "c": 0.2}, 0.3, seed=4)
    chosen = choose_weights(seen, y, spread=1e3, min_share=0.0)

    def loss(weights):
        raw = blended(seen, weights)
        return log_loss(y, expit(PlattCalibrator.fit(raw, y).apply(raw)))

    grid = [{"a": i / 10, "b": j / 10, "c": 1 - (i + j) / 10} for i in range(11) for j in range(11 - i)]
    assert loss(chosen) <= min(loss(weights) for weights in grid) + 1e-7
    assert sum(chosen.values()) == pytest.approx(1.0)


def test_noise_alone_leaves_weights_equal():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 200)
    y = (rng.random(200) < expit(truth)).astype(float)
    twins = {name: truth + 0.05 * rng.normal(size=200) for name in ("a", "b")}
    free = minimize(
        lambda v: log_loss(y, expit(v[0] * twins["a"] + v[1] * twins["b"] + v[2])),
        [0.5, 0.5, 0.0],
        bounds=[(0, None)] * 2 + [(None, None)],
    ).x
    assert abs(free[0] - free[1]) > 0.5  # without the pull noise decides
    assert choose_weights(twins, y)["a"] == pytest.approx(0.5, abs=0.05)


def test_a_component_against_the_truth_gets_no_weight():
    seen, y = draw(3_000, {"a": 1.0}, 0.0)
    chosen = choose_weights({"a": seen["a"], "wrong": -seen["a"]}, y)
    assert chosen == {"a": 1.0, "wrong": 0.0}


def test_nothing_but_wrong_components_share_the_weight():
    seen, y = draw(3_000, {"a": 1.0}, 0.0)
    assert sum(choose_weights({"x": -seen["a"], "y": -2 * seen["a"]}, y).values()) == pytest.approx(1.0)


def test_rows_of_weight_0_do_not_count():
    seen, y = draw(2_000, {"a": 0.7, "b": 0.4}, 0.2)
    half = np.arange(2_000) < 1_000
    weighted = choose_weights(seen, y, half.astype(float))
    alone = choose_weights({name: values[half] for name, values in seen.items()}, y[half])
    assert weighted == pytest.approx(alone, abs=1e-5)


def test_one_label_is_refused():
    with pytest.raises(NotEnoughDataError, match="the 3 out-of-time rows hold 0 positives"):
        choose_weights({"a": np.zeros(3)}, np.zeros(3))
