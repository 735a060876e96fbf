"""The component of fit: censoring respected, levels that meet Kaplan and Meier's, reasons that add up."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from tests.oracles import success as oracle

from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.models import Blend, BoostedTrees, KaplanMeier, LogLogistic, MonthlyTrees, SuccessHazard, success_grid

DAYS = 180


def programme(n, seed, *, reach=240.0):
    """Partners whose monthly chance of success follows their traits, followed for 0 to `reach` days."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["reseller", "isv", "msp"], n)),
            "focus": rng.integers(1, 4, n).astype(float),
            "latitude": np.where(rng.random(n) < 0.2, np.nan, rng.normal(45, 10, n)),
        }
    )
    effect = 0.9 * (X["kind"] == "msp").to_numpy() - 0.6 * (X["focus"].to_numpy() - 2)
    monthly = expit(np.array([-3.2, -2.6, -2.4, -2.4, -2.5, -2.6]) + effect[:, None])
    truth = 1 - np.prod(1 - monthly, axis=1)
    month = np.where(rng.random(monthly.shape) < monthly, np.arange(6), 99).min(axis=1)
    event = np.where(month < 99, 30 * month + rng.uniform(0, 30, n), np.inf)
    follow_up = rng.uniform(0, reach, n)
    return X, truth, np.minimum(event, follow_up), event <= follow_up, follow_up


@pytest.mark.parametrize("base", [LogLogistic(C=0.5), MonthlyTrees(learning_rate=0.1, n_estimators=60)])
def test_with_half_of_the_partners_censored_the_mean_is_the_truth(base):
    X, _, duration, observed, follow_up = programme(6_000, 0, reach=270.0)
    censored = ~observed & (duration < DAYS)
    assert 0.5 < censored.mean() < 0.6
    model = SuccessHazard(DAYS, base=base).fit(X, duration, observed, follow_up_days=follow_up)
    fresh, truth_of_fresh, *_ = programme(3_000, 1)
    said = expit(model.decision_function(fresh))
    assert abs(said.mean() - truth_of_fresh.mean()) < 0.02
    # it tells partners apart, and not by chance
    assert np.corrcoef(said, truth_of_fresh)[0, 1] > 0.9
    # the test of the test: without the censored the same model is far off
    kept = ~censored
    dropped = SuccessHazard(DAYS, base=base).fit(X[kept], np.where(observed, duration, DAYS)[kept], observed[kept])
    assert expit(dropped.decision_function(fresh)).mean() - truth_of_fresh.mean() > 0.05


def test_a_strong_penalty_leaves_the_level_of_kaplan_and_meier():
    X, _, duration, observed, follow_up = programme(300, 2)
    model = SuccessHazard(DAYS, base=LogLogistic(C=1e-6)).fit(X, duration, observed, follow_up_days=follow_up)
    said = expit(model.decision_function(X))
    assert np.ptp(said) < 0.01
    # whole months lose what happened in a month that was not over; the rest is Kaplan and Meier's
    whole = np.where(observed, duration, 30 * np.floor(duration / 30))
    assert said.mean() == pytest.approx(KaplanMeier.of(whole, observed).event_rate(DAYS), abs=0.05)


@pytest.fixture(scope="module", params=["logistic", "trees"])
def fitted(request):
    base = LogLogistic(C=0.5) if request.param == "logistic" else MonthlyTrees(learning_rate=0.2, n_estimators=20)
    X, _, duration, observed, follow_up = programme(1_500, 3)
    model = SuccessHazard(DAYS, base=base, background_rows=3, random_state=7)
    return X, model.fit(X, duration, observed, follow_up_days=follow_up)


def test_the_score_is_the_end_of_the_curve(fitted):
    X, model = fitted
    curve = model.cumulative(X[:50], [30, 90, 100, DAYS])
    assert np.all(np.diff(curve, axis=1) > 0)
    np.testing.assert_allclose(curve[:, -1], expit(model.decision_function(X[:50])), rtol=1e-9)


def test_reasons_add_up_over_all_traits(fitted):
    X, model = fitted
    rows = pd.concat([X[:40], X[:1].assign(kind="never seen", latitude=np.nan)])
    effects = model.contributions(rows)
    assert effects.shape == (41, 4)
    np.testing.assert_allclose(effects.sum(axis=1), model.decision_function(rows), rtol=0, atol=1e-10)


def test_reasons_are_steps_from_one_row_to_another(fitted):
    """The short way for sums gives what mixing whole rows gives."""
    X, model = fitted
    names = list(model.feature_names_in_)
    start = model._traits.decode(model.background_)
    row = X[names].astype({"kind": object}).iloc[5].tolist()

    @functools.cache
    def told(mixed):
        frame = pd.DataFrame([mixed], columns=names).astype({"focus": float, "latitude": float})
        return float(model.decision_function(frame)[0])

    def log_odds(mixed):
        return told(tuple(mixed))

    expected = np.zeros(len(names))
    for begin, order in zip(start.astype({"kind": object}).to_numpy().tolist(), model.orders_, strict=True):
        for walked in (order, order[::-1]):
            mixed, said = list(begin), log_odds(begin)
            for column in walked:
                mixed[column] = row[column]
                expected[column] += (log_odds(mixed) - said) / (2 * len(start))
                said = log_odds(mixed)
    np.testing.assert_allclose(model.contributions(X[5:6])[0, :-1], expected, atol=1e-9)


def test_reasons_come_near_shapleys_values(fitted):
    X, model = fitted
    codes = model._traits.encode(X[5:6])[0]

    @functools.cache
    def told(mixed):
        return float(model.decision_function(model._traits.decode(np.array([mixed])))[0])

    exact = oracle.shapley(lambda mixed: told(tuple(mixed)), codes.tolist(), model.background_.tolist())
    np.testing.assert_allclose(model.contributions(X[5:6])[0, :-1], exact, atol=0.15)


def test_saved_and_loaded_in_a_blend_it_is_the_same(fitted):
    X, model = fitted
    blend = Blend({"hazard": model}, {"hazard": 1.0})
    again = Blend.from_state(json.loads(json.dumps(blend.to_state(), allow_nan=False)))
    assert again.to_state() == blend.to_state()
    shuffled = X[["latitude", "kind", "focus"]].assign(other=0)
    np.testing.assert_array_equal(again.predict_proba(shuffled[:50]), blend.predict_proba(X[:50]))
    np.testing.assert_array_equal(again.contributions(shuffled[:9]), blend.contributions(X[:9]))


def test_the_same_seed_draws_the_same_background(fitted):
    X, _, duration, observed, _ = programme(400, 4)
    one, two, other = (
        SuccessHazard(DAYS, random_state=seed).fit(X, duration, observed).to_state() for seed in (1, 1, 2)
    )
    assert one == two
    assert one["background"] != other["background"]


def test_months_end_with_the_time_for_success():
    assert success_grid(365) == (*(30.0 * k for k in range(1, 12)), 365.0)
    assert success_grid(90) == (30.0, 60.0, 90.0)
    assert success_grid(100) == (30.0, 60.0, 100.0)
    assert success_grid(7) == (7.0,)


def test_nobody_followed_long_enough_is_refused():
    X, _, duration, observed, _ = programme(200, 5, reach=100.0)
    with pytest.raises(NotEnoughDataError, match="no row was followed from day 90 to day 120"):
        SuccessHazard(DAYS).fit(X, duration, observed)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="background_rows must be at least 1"):
        SuccessHazard(DAYS, background_rows=0)
    with pytest.raises(ConfigError, match="a month must add the same for everybody: BoostedTrees cannot be the base"):
        SuccessHazard(DAYS, base=BoostedTrees())
