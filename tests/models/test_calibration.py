import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from partnerml.errors import NotEnoughDataError
from partnerml.models import PlattCalibrator
from partnerml.models._calibration import MIN_SLOPE


def draw(n, slope, intercept, seed=0):
    rng = np.random.default_rng(seed)
    raw = rng.normal(0.3, 1.5, n)
    return raw, (rng.random(n) < expit(slope * raw + intercept)).astype(float)


def test_recovers_slope_and_intercept():
    raw, y = draw(50_000, 0.6, -1.2)
    fitted = PlattCalibrator.fit(raw, y)
    assert fitted.slope == pytest.approx(0.6, abs=0.03)
    assert fitted.intercept == pytest.approx(-1.2, abs=0.04)


@settings(max_examples=20)
@given(
    st.integers(30, 400),
    st.floats(0.2, 3),
    st.floats(-2, 2),
    st.floats(0.01, 100),
    st.floats(-50, 50),
    st.integers(0, 99),
)
@example(n=239, slope=2.0, intercept=2.0, scale=88.0, offset=0.0, seed=55)
def test_equals_an_unpenalised_logistic_whatever_the_scale(n, slope, intercept, scale, offset, seed):
    raw, y = draw(n, slope, intercept, seed)
    y[:2], y[2:4] = 0.0, 1.0
    raw[:4] = 0.0, 1.0, 0.0, 1.0  # both labels at both ends: neither separable nor undetermined
    oracle = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(raw[:, None], y)
    fitted = PlattCalibrator.fit(scale * raw + offset, y)
    if oracle.coef_[0, 0] / scale > 2 * MIN_SLOPE:
        np.testing.assert_allclose(
            fitted.apply(scale * raw + offset), oracle.decision_function(raw[:, None]), atol=2e-4, rtol=1e-4
        )


@settings(max_examples=30)
@given(st.integers(20, 200), st.integers(0, 1_000))
def test_the_mean_prediction_is_the_base_rate(n, seed):
    raw, y = draw(n, 1.0, 0.0, seed)
    y[0], y[1] = 0.0, 1.0
    weight = np.random.default_rng(seed).uniform(0.1, 2, n)
    p = expit(PlattCalibrator.fit(raw, y, weight).apply(raw))
    assert np.average(p, weights=weight) == pytest.approx(np.average(y, weights=weight), abs=1e-6)


def test_never_turns_a_ranking_round():
    raw, y = draw(2_000, -1.0, 0.0)
    fitted = PlattCalibrator.fit(raw, y)
    assert fitted.slope > 0
    assert np.all(np.diff(fitted.apply(np.sort(raw))) >= 0)
    assert expit(fitted.apply(raw)).mean() == pytest.approx(y.mean(), abs=0.01)


def test_smoothing_keeps_separable_classes_moderate():
    raw = np.array([-2.0, -1.0, 1.0, 2.0])
    y = (raw > 0).astype(float)
    hard, soft = PlattCalibrator.fit(raw, y), PlattCalibrator.fit(raw, y, smoothing=True)
    assert np.isfinite(hard.slope)
    # Platt's targets with two rows of each label are 3/4 and 1/4
    assert 0.2 < expit(soft.apply(-2.0)) < 0.3
    assert hard.slope > 5 * soft.slope


def test_a_constant_score_becomes_the_base_rate():
    fitted = PlattCalibrator.fit(np.full(10, 3.0), [1.0] * 3 + [0.0] * 7)
    assert expit(fitted.apply(3.0)) == pytest.approx(0.3)


def test_one_label_is_refused():
    with pytest.raises(NotEnoughDataError, match="the 5 rows of the calibration slice hold 5 positives"):
        PlattCalibrator.fit(np.zeros(5), np.ones(5))


def test_the_state_is_plain_and_complete():
    fitted = PlattCalibrator.fit(*draw(500, 1.3, 0.2))
    assert PlattCalibrator.from_state(json.loads(json.dumps(fitted.to_state()))) == fitted


@settings(max_examples=30)
@given(st.floats(-20, 20), st.integers(2, 900), st.integers(2, 9))
@example(constant=-1.8405496, n=700, every=7)
def test_a_constant_says_the_base_rate(constant, n, every):
    y = (np.arange(n) % every == 0).astype(float)
    raw = np.full(n, constant)
    said = expit(PlattCalibrator.fit(raw, y, np.ones(n)).apply(raw))
    assert said == pytest.approx(np.full(n, y.mean()), abs=1e-8)


def test_recovers_a_line_under_a_ceiling():
    raw = np.random.default_rng(0).normal(-0.3, 0.8, 200_000)
    y = (np.random.default_rng(1).random(len(raw)) < 0.93 * expit(1.1 * raw - 0.1)).astype(float)
    under, plain = PlattCalibrator.fit(raw, y, ceiling=0.93), PlattCalibrator.fit(raw, y)
    assert (under.slope, under.intercept) == pytest.approx((1.1, -0.1), abs=0.03)
    ends = np.quantile(raw, [0.001, 0.999])
    true = 0.93 * expit(1.1 * ends - 0.1)
    # without it both ends are too high
    assert (expit(plain.apply(ends)) > true + 0.004).all()
    np.testing.assert_allclose(expit(under.apply(ends)), true, atol=0.004)


@given(st.floats(0.05, 1.0), st.floats(0.01, 5), st.floats(-3, 3), st.integers(0, 1_000))
def test_effects_add_up_to_what_is_said_under_a_ceiling(ceiling, slope, intercept, seed):
    calibrator = PlattCalibrator(slope, intercept, ceiling)
    raw = np.random.default_rng(seed).normal(0, 1, (30, 5))
    raw[:, -1] = 0.4
    raw[0, :-1] = 0.0
    raw[1, :-1] = [1e-9, -3e-9, 1e-8, 0.0]
    effects, said = calibrator.effects(raw), calibrator.apply(raw.sum(axis=1))
    np.testing.assert_allclose(effects.sum(axis=1), said, atol=1e-9)
    np.testing.assert_allclose(expit(said), ceiling * expit(slope * raw.sum(axis=1) + intercept), rtol=1e-9)
    assert np.ptp(effects[:, -1]) == 0
    # each in its own direction, and one that is none stays none
    np.testing.assert_array_equal(np.sign(effects[:, :-1]), np.sign(raw[:, :-1]))


def test_effects_under_a_ceiling_are_those_of_the_straight_way():
    """Aumann and Shapley: the slope at each point between the base and the row, times what the effect is."""
    calibrator = PlattCalibrator(1.2, 0.1, 0.7)
    raw = np.random.default_rng(0).normal(0, 1, (20, 4))
    raw[:, -1] = -0.3
    base, moved = raw[:, -1], raw[:, :-1].sum(axis=1)
    step = 1e-5
    slopes = [
        (calibrator.apply(base + share * moved + step) - calibrator.apply(base + share * moved - step)) / (2 * step)
        for share in (np.arange(2_000) + 0.5) / 2_000
    ]
    np.testing.assert_allclose(
        calibrator.effects(raw)[:, :-1], raw[:, :-1] * np.mean(slopes, axis=0)[:, None], rtol=1e-5
    )


def test_without_a_ceiling_effects_are_those_of_the_line():
    raw = np.random.default_rng(0).normal(0, 1, (10, 4))
    effects = PlattCalibrator(1.3, -0.2).effects(raw)
    np.testing.assert_array_equal(effects[:, :-1], 1.3 * raw[:, :-1])
    np.testing.assert_array_equal(effects[:, -1], 1.3 * raw[:, -1] - 0.2)


def test_a_ceiling_that_the_rows_speak_against_is_none():
    more_than_can_be = np.array([1.0] * 19 + [0.0])
    assert PlattCalibrator.fit(np.linspace(-1, 1, 20), more_than_can_be, ceiling=0.9).ceiling == 1
    raw, y = draw(5_000, 1.5, 0.0)
    # among the best nearly all succeed
    assert y[raw > 2].mean() > 0.93
    without = PlattCalibrator.fit(raw, y)
    assert PlattCalibrator.fit(raw, y, ceiling=0.8) == without
    # one that is near enough to have no say is kept
    assert PlattCalibrator.fit(raw, y, ceiling=0.999).ceiling == 0.999


def test_without_a_ceiling_the_state_is_what_it_was_before_there_were_any():
    state = {"slope": 1.2, "intercept": -0.3}
    assert PlattCalibrator.from_state(state) == PlattCalibrator(1.2, -0.3)
    assert PlattCalibrator(1.2, -0.3).to_state() == state
    under = PlattCalibrator(1.0, 0.0, 0.9)
    assert PlattCalibrator.from_state(json.loads(json.dumps(under.to_state()))) == under
