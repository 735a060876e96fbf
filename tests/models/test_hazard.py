import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models import BoostedTrees, DiscreteTimeHazard, LogLogistic, person_periods, shifted

GRID = (90.0, 120.0, 180.0)


def make_world(n=12_000, seed=0):
    """Events at known discrete hazards inside the intervals of GRID; each row followed for 0 to 250 days."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"count": rng.poisson(4, n).astype(float), "tier": rng.choice(["gold", "silver"], n)})
    effect = -0.8 * (np.log1p(X["count"].to_numpy()) - 1.5) + 0.5 * (X["tier"] == "gold").to_numpy()
    hazard = expit(np.array([-0.6, -1.4, -0.9]) + effect[:, None])
    truth = 1 - np.cumprod(1 - hazard, axis=1)
    which = np.where(rng.random((n, 3)) < hazard, np.arange(3), 3).min(axis=1)
    edges = np.array([0.0, *GRID, 1_000.0])
    event = edges[which] + rng.uniform(0.0, 1.0, n) * (edges[which + 1] - edges[which])
    follow_up = rng.uniform(0, 250, n)
    return X, truth, np.minimum(event, follow_up), event <= follow_up, follow_up


@pytest.mark.parametrize("known_follow_up", [True, False])
@pytest.mark.parametrize("base", [LogLogistic(C=1.0), BoostedTrees(n_estimators=60, n_seeds=1, learning_rate=0.1)])
def test_recovers_simulated_risks_under_censoring(base, known_follow_up):
    X, truth, duration, observed, follow_up = make_world()
    model = DiscreteTimeHazard(GRID, base=base).fit(
        X, duration, observed, follow_up_days=follow_up if known_follow_up else None
    )
    X_new, truth_new, *_ = make_world(4_000, seed=1)
    curve = model.cumulative(X_new, GRID)
    np.testing.assert_allclose(curve.mean(axis=0), truth_new.mean(axis=0), atol=0.02)
    assert np.mean((curve - truth_new) ** 2) < 0.002
    # where rows without an event in sight are dropped, the same risks come out too high
    for j, day in enumerate(GRID):
        kept = observed | (duration >= day)
        dropped = np.mean((duration <= day)[kept])
        assert dropped - truth[:, j].mean() > 0.05


def test_without_censoring_the_mean_is_the_share_of_events():
    X, _, duration, *_ = make_world(3_000)
    duration = duration + 200 * (duration > 180)
    model = DiscreteTimeHazard((400.0,), base=LogLogistic(C=1e6)).fit(X, duration, duration <= 300)
    assert model.cumulative(X, [400.0]).mean() == pytest.approx((duration <= 300).mean(), abs=1e-4)


durations = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=60)
@given(durations, st.lists(st.integers(0, 12), min_size=40, max_size=40))
def test_person_periods_row_by_row(times, extra):
    grid = (3.0, 6.0, 10.0)
    duration = [float(d) for d, _ in times]
    observed = [o for _, o in times]
    limit = [d + (e if o else 0) for (d, o), e in zip(times, extra, strict=False)]
    got = person_periods(duration, observed, grid, follow_up_days=limit)
    expected = set()
    for i, (time, event) in enumerate(times):
        for j, (start, end) in enumerate(zip((-1, 3, 6), (3, 6, 10), strict=True)):
            reached = time > start
            seen_through = limit[i] >= end
            if reached and seen_through:
                expected.add((i, j, float(event and time <= end)))
    assert set(zip(got.rows.tolist(), got.interval.tolist(), got.event.tolist(), strict=True)) == expected
    assert set(got.weight) <= {1.0}


@settings(max_examples=60)
@given(durations)
def test_the_weight_of_an_event_is_the_chance_of_follow_up(times):
    end = 6.0
    got = person_periods([float(d) for d, _ in times], [o for _, o in times], (end,))
    weight = dict(zip(got.rows.tolist(), got.weight.tolist(), strict=True))
    for i, (time, observed) in enumerate(times):
        if time > end or not observed:
            assert weight.get(i, 1.0) == 1.0
            continue
        chance = 1.0
        for moment in range(time, 6):  # Kaplan and Meier, one day at a time
            at_risk = sum(d > moment or (d == moment and not o) for d, o in times)
            leaving = sum(d == moment and not o for d, o in times)
            chance *= 1 - leaving / at_risk if at_risk else 1.0
        assert weight.get(i, 0.0) == pytest.approx(chance)


@pytest.fixture(scope="module")
def fitted():
    X, _, duration, observed, _ = make_world(2_000)
    return X, DiscreteTimeHazard(GRID).fit(X, duration, observed)


def test_the_curve_never_decreases(fitted):
    X, model = fitted
    days = [0, 1, 30, 89.9, 90, 90.1, 119, 120, 150, 180]
    curve = model.cumulative(X, days)
    assert np.all(np.diff(curve, axis=1) >= 0)
    assert np.all(curve[:, 0] == 0)
    assert curve.max() < 1


def test_grid_days_are_products_of_hazards(fitted):
    X, model = fitted
    by_hand = 1 - np.cumprod(1 - expit(model.hazards(X)), axis=1)
    np.testing.assert_allclose(model.cumulative(X, GRID), by_hand, atol=1e-12)


def test_columns_are_found_by_name(fitted):
    X, model = fitted
    shuffled = X[["tier", "count"]].assign(other=1.0)
    np.testing.assert_array_equal(model.cumulative(shuffled, GRID), model.cumulative(X, GRID))
    with pytest.raises(ModelError, match="missing: count"):
        model.cumulative(X[["tier"]], GRID)


@pytest.mark.parametrize("base", [None, BoostedTrees(n_estimators=10, n_seeds=1)])
def test_the_state_is_plain_and_complete(base):
    X, _, duration, observed, _ = make_world(800)
    model = DiscreteTimeHazard(GRID, base=base).fit(X, duration, observed)
    again = DiscreteTimeHazard.from_state(json.loads(json.dumps(model.to_state())))
    np.testing.assert_array_equal(again.cumulative(X, [100.0, 180.0]), model.cumulative(X, [100.0, 180.0]))
    assert again.to_state() == model.to_state()


def test_a_state_cannot_name_other_code(fitted):
    state = fitted[1].to_state()
    state["base"] = {"type": "Popen", "state": {}}
    with pytest.raises(ModelError, match="base of type 'Popen'"):
        DiscreteTimeHazard.from_state(state)


def test_days_outside_of_the_grid_are_refused(fitted):
    X, model = fitted
    with pytest.raises(ModelError, match=r"0 to 180 days; asked for \[181\]"):
        model.cumulative(X, [90, 181])


def test_an_interval_that_nobody_was_followed_through_is_refused():
    X, _, duration, observed, _ = make_world(500)
    short = np.minimum(duration, 130.0)
    with pytest.raises(NotEnoughDataError, match="no row was followed from day 120 to day 180; end the hazard grid"):
        DiscreteTimeHazard(GRID).fit(X, short, observed & (duration <= 110))


@pytest.mark.parametrize("grid", [(), (0.0, 90.0), (90.0, 90.0), (120.0, 90.0)])
def test_a_grid_must_increase(grid):
    with pytest.raises(ConfigError, match="positive and increase"):
        DiscreteTimeHazard(grid)


chance = st.floats(0, 1)


@settings(max_examples=200)
@given(st.lists(chance, min_size=2, max_size=6), st.integers(0, 5), st.floats(0, 1))
def test_a_shifted_curve_meets_the_score_and_never_decreases(values, place, score):
    curve = np.sort(values)[None]
    at = curve[:, place % len(values)]
    moved = shifted(curve, at, [score])
    assert np.all((moved >= 0) & (moved <= 1))
    assert np.all(np.diff(moved) >= 0)
    assert np.all(moved[curve == at] == score)


def test_a_shift_is_one_step_in_log_odds():
    curve = np.array([[0.1, 0.3, 0.5]])
    moved = shifted(curve, [0.3], [0.6])
    np.testing.assert_allclose(logit(moved) - logit(curve), logit(0.6) - logit(0.3), atol=1e-9)


def test_a_horizon_between_the_days_bounds_them():
    moved = shifted([[0.2, 0.4]], [0.3], [0.7])
    assert moved[0, 0] < 0.7 < moved[0, 1]


def test_free_levels_have_the_events_that_were_seen():
    X, _, duration, observed, follow_up = make_world(2_000)
    tight = LogLogistic(C=1e-4)
    drawn, free = (
        DiscreteTimeHazard(GRID, base=tight, free_levels=freed).fit(X, duration, observed, follow_up_days=follow_up)
        for freed in (False, True)
    )
    periods = person_periods(duration, observed, GRID, follow_up_days=follow_up)
    for model, far in ((drawn, True), (free, False)):
        said = expit(model.hazards(X))[periods.rows, periods.interval]
        off = [abs(said[periods.interval == j].sum() - periods.event[periods.interval == j].sum()) for j in range(3)]
        assert (max(off) > 20) == far
        assert far or max(off) < 0.5
    assert not drawn.levels_.any()
    assert "levels" not in drawn.to_state()
    again = DiscreteTimeHazard.from_state(json.loads(json.dumps(free.to_state())))
    np.testing.assert_array_equal(again.hazards(X[:20]), free.hazards(X[:20]))


def test_an_interval_without_an_event_keeps_a_finite_level():
    X = pd.DataFrame({"count": np.arange(40.0)})
    duration = np.where(np.arange(40) < 10, 20.0, 200.0)
    model = DiscreteTimeHazard((90.0, 180.0), free_levels=True).fit(X, duration, duration < 90)
    curve = model.cumulative(X, [90.0, 180.0]).mean(axis=0)
    assert curve[0] == pytest.approx(0.25, abs=0.01)
    assert 0 < curve[1] - curve[0] < 0.02
