import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import expit
from tests.oracles.bgnbd import CDNOW, FROZEN, simulate

from partnerml.errors import ModelError, NotEnoughDataError
from partnerml.models import BuyTillYouDie, Transactions
from partnerml.models._buy_till_you_die import COLUMNS, _log_likelihood


def with_parameters(parameters, background=None, **options):
    model = BuyTillYouDie(**options)
    model.parameters_ = tuple(parameters)
    model.background_ = np.array([[1.0, 50.0, 50.0]]) if background is None else np.asarray(background, dtype=float)
    return model


@pytest.fixture(scope="module")
def world():
    """One partner a row, age 26 to 78 weeks, and whether it acts in the 13 weeks after."""
    return simulate(CDNOW, n=40_000, horizon=13.0, seed=0)


@pytest.mark.parametrize(("frequency", "recency", "age", "alive", "negative_log_likelihood"), FROZEN)
def test_equals_lifetimes(frequency, recency, age, alive, negative_log_likelihood):
    x, tx, T = (np.array([float(value)]) for value in (frequency, recency, age))
    assert with_parameters(CDNOW).p_alive(x, tx, T)[0] == pytest.approx(alive, abs=1e-12)
    assert -_log_likelihood(np.array(CDNOW), x, tx, T)[0][0] == pytest.approx(negative_log_likelihood, rel=1e-10)


@settings(max_examples=50)
@given(st.tuples(*[st.floats(0.1, 8)] * 4), st.integers(0, 40), st.floats(0, 1), st.floats(0.5, 100))
def test_the_gradient_is_that_of_the_likelihood(parameters, x, share, T):
    row = np.array([float(x)]), np.array([share * T if x else 0.0]), np.array([T])
    numeric = approx_fprime(np.array(parameters), lambda theta: _log_likelihood(theta, *row)[0][0], 1e-7)
    analytic = [part[0] for part in _log_likelihood(np.array(parameters), *row)[1]]
    np.testing.assert_allclose(analytic, numeric, rtol=2e-3, atol=2e-4)


def test_recovers_the_parameters_of_a_simulated_world(world):
    fitted = BuyTillYouDie().fit(world.frequency, world.recency, world.age).parameters_
    r, alpha, a, b = fitted
    assert r == pytest.approx(CDNOW[0], rel=0.1)
    assert alpha == pytest.approx(CDNOW[1], rel=0.1)
    assert a / (a + b) == pytest.approx(CDNOW[2] / (CDNOW[2] + CDNOW[3]), rel=0.1)


def test_p_active_is_the_simulated_share(world):
    p = with_parameters(CDNOW).p_active(world.frequency, world.recency, world.age, 13.0)
    acts = world.acts
    assert p.mean() == pytest.approx(acts.mean(), abs=0.005)
    # within narrow groups of equal prediction too: four standard errors
    for rows in np.array_split(np.argsort(p, kind="stable"), 12):
        error = np.sqrt(acts[rows].mean() * (1 - acts[rows].mean()) / len(rows)) + 1e-3
        assert abs(p[rows].mean() - acts[rows].mean()) < 4 * error
    assert np.mean((p - acts) ** 2) < np.mean((acts.mean() - acts) ** 2) * 0.85


def test_time_has_no_unit_of_its_own(world):
    rows = slice(0, 5_000)
    weeks = BuyTillYouDie(penalty=0).fit(world.frequency[rows], world.recency[rows], world.age[rows]).parameters_
    years = (
        BuyTillYouDie(penalty=0).fit(world.frequency[rows], world.recency[rows] / 52, world.age[rows] / 52).parameters_
    )
    np.testing.assert_allclose(weeks, np.array(years) * [1, 52, 1, 1], rtol=1e-3)


def test_partners_that_never_leave_keep_finite_parameters():
    rng = np.random.default_rng(0)
    x = rng.poisson(20, 500) + 1.0
    fitted = BuyTillYouDie().fit(x, np.full(500, 49.9), np.full(500, 50.0))
    assert np.all(np.isfinite(fitted.parameters_))
    assert np.all(fitted.p_alive(x, np.full(500, 49.9), np.full(500, 50.0)) > 0.95)


def test_a_weight_is_a_number_of_rows(world):
    rows = np.arange(300)
    times = 1 + rows % 3
    columns = [values[:300] for values in (world.frequency, world.recency, world.age)]
    weighted = BuyTillYouDie().fit(*columns, sample_weight=times).parameters_
    copied = BuyTillYouDie().fit(*[np.repeat(values, times) for values in columns]).parameters_
    np.testing.assert_allclose(weighted, copied, rtol=1e-4)


def frame(active, recency, age):
    return pd.DataFrame(dict(zip(COLUMNS, (active, recency, age), strict=True)), dtype="float64")


def test_features_become_calendar_days_and_weeks():
    # first activity on day 0 at 18:00, last on day 70 at 06:00, scored at the midnight that starts day 84
    seen = Transactions.from_features(frame([4.0], [13.75], [83.25]))
    assert (seen.frequency[0], seen.recency[0], seen.age[0]) == (3.0, 10.0, 12.0)


def test_active_once_has_no_recency():
    seen = Transactions.from_features(frame([1.0], [13.2], [13.2]))
    assert (seen.frequency[0], seen.recency[0], seen.age[0]) == (0.0, 0.0, 2.0)


def test_never_active_counts_as_new():
    never = frame([0.0, 1.0], [np.nan, 0.0], [np.nan, 0.0])
    log_odds = with_parameters(CDNOW).decision_function(never)
    assert log_odds[0] == log_odds[1]
    assert np.isfinite(log_odds).all()


def test_log_odds_are_those_of_silence():
    X = frame([3.0, 1.0], [20.0, 90.0], [200.0, 90.0])
    seen = Transactions.from_features(X)
    model = with_parameters(CDNOW, horizon_days=91)
    p = model.p_active(seen.frequency, seen.recency, seen.age, 13.0)
    np.testing.assert_allclose(expit(-model.decision_function(X)), p, rtol=1e-12)
    np.testing.assert_allclose(model.p_silent(X), 1 - p, rtol=1e-12)
    # bounded where the model is surer than data can make it
    long_gone = frame([200.0], [5_000.0], [5_200.0])
    assert model.p_silent(long_gone)[0] > 0.9999
    assert model.decision_function(long_gone)[0] == pytest.approx(4.0)


def brute_force_shapley(model, row):
    """Average a column's step over every order in which the columns become known."""

    def worth(known):
        mixed = model.background_.copy()
        for j in known:
            mixed[:, j] = row[j]
        mixed[:, 1] = np.minimum(mixed[:, 1], mixed[:, 2])  # the last activity is not before the first
        return model.decision_function(frame(*mixed.T)).mean()

    effects = np.zeros(3)
    orders = list(permutations(range(3)))
    for order in orders:
        for place, j in enumerate(order):
            effects[j] += (worth(order[: place + 1]) - worth(order[:place])) / len(orders)
    return [*effects, worth(())]


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(0, 400), st.integers(0, 400), st.integers(0, 100))
def test_contributions_are_shapley_values(active, recency, extra, seed):
    rng = np.random.default_rng(seed)
    age = rng.integers(1, 500, 9).astype(float)
    background = np.column_stack([rng.integers(1, 9, 9), np.floor(rng.random(9) * age), age])
    model = with_parameters((0.6, 8.0, 0.9, 3.0), background)
    row = np.array([active, recency, recency + extra], dtype=float)
    effects = model.contributions(frame(*row[:, None]))[0]
    np.testing.assert_allclose(effects, brute_force_shapley(model, row), atol=1e-10)
    assert effects.sum() == pytest.approx(model.decision_function(frame(*row[:, None]))[0], abs=1e-10)


def test_contributions_of_many_rows_do_not_depend_on_the_others(world):
    days = [world.frequency[:5_000] + 1, (world.age - world.recency)[:5_000] * 7, world.age[:5_000] * 7]
    X = frame(*days)
    model = BuyTillYouDie(n_background=4).fit_features(X)
    together = model.contributions(X)
    np.testing.assert_allclose(together.sum(axis=1), model.decision_function(X), atol=1e-10)
    np.testing.assert_array_equal(together[[0, 4_999]], model.contributions(X.iloc[[0, 4_999]]))
    assert model.contributions(X.iloc[:0]).shape == (0, 4)


def test_the_background_is_drawn_by_the_seed(world):
    columns = [values[:1_000] for values in (world.frequency, world.recency, world.age)]
    first, same, other = (BuyTillYouDie(random_state=s).fit(*columns).background_ for s in (0, 0, 1))
    assert first.shape == (64, 3)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_state_is_plain_and_complete(world):
    columns = [values[:1_000] for values in (world.frequency, world.recency, world.age)]
    model = BuyTillYouDie(horizon_days=60, n_background=5).fit(*columns)
    again = BuyTillYouDie.from_state(json.loads(json.dumps(model.to_state())))
    X = frame([1.0, 5.0], [30.0, 2.5], [30.0, 300.2])
    np.testing.assert_array_equal(again.contributions(X), model.contributions(X))
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    assert again.to_state() == model.to_state()


def test_nobody_active_twice_is_refused():
    with pytest.raises(NotEnoughDataError, match="active on more than one day; none of 3 was"):
        BuyTillYouDie().fit(np.zeros(3), np.zeros(3), np.ones(3))


def test_impossible_rows_are_refused():
    with pytest.raises(
        ModelError, match=r"1 of 2 rows break this, the first at position 1: frequency 2\.0, recency 9\.0"
    ):
        BuyTillYouDie().fit([1, 2], [1, 9], [5, 5])


def test_a_missing_column_is_named():
    with pytest.raises(ModelError, match="missing: activity__all__age_days__ever"):
        with_parameters(CDNOW).decision_function(frame([1.0], [1.0], [1.0]).drop(columns=COLUMNS[2]))
