import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.oracles import success as oracle

from partnerml.errors import InputError
from partnerml.models import KaplanMeier, censoring_weights, median_days, restricted_mean_days

times_to_event = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40)


def apart(times):
    return [float(t) for t, _ in times], [seen for _, seen in times]


# 4/5 3/4 5/6 is one half, and a hair more in binary
A_HALF = [(0, True)] * 2 + [(1, True)] * 2 + [(2, True)] + [(2, False)] * 5


@settings(max_examples=60)
@example(A_HALF)
@given(times_to_event)
def test_the_curve_is_that_of_the_textbook(times):
    curve = KaplanMeier.of(*apart(times))
    for day in range(14):
        assert curve.at(day) == pytest.approx(float(oracle.kaplan_meier(times, day)))
        assert curve.before(day) == pytest.approx(float(oracle.kaplan_meier(times, day - 0.5)))
    half = [day for day in range(14) if oracle.kaplan_meier(times, day) <= 0.5]
    assert curve.median == (half[0] if half else pytest.approx(np.nan, nan_ok=True))


@settings(max_examples=60)
@given(times_to_event, st.integers(1, 12))
def test_the_weights_are_the_inverse_chance_of_follow_up(times, horizon):
    y, weights = censoring_weights(*apart(times), horizon)
    for i, (time, seen) in enumerate(times):
        if seen and time <= horizon:
            assert y[i] == 1
            assert weights[i] == pytest.approx(1 / float(oracle.chance_of_follow_up(times, time)))
        elif time > horizon:
            assert y[i] == 0
            assert weights[i] == pytest.approx(1 / float(oracle.chance_of_follow_up(times, horizon + 0.5)))
        else:
            assert np.isnan(y[i])
            assert weights[i] == 0


@settings(max_examples=60)
@given(times_to_event, st.integers(1, 12))
def test_the_weighted_share_of_events_is_that_of_kaplan_and_meier(times, horizon):
    """Satten and Datta (2001): the two ways to make up for censoring are one, as long as anybody is followed."""
    y, weights = censoring_weights(*apart(times), horizon)
    share = float(np.sum(weights * np.nan_to_num(y)) / len(times))
    assert share == pytest.approx(float(1 - oracle.kaplan_meier(times, horizon)))


@settings(max_examples=60)
@given(times_to_event, st.integers(1, 12))
def test_who_is_known_stands_for_everybody(times, horizon):
    _, weights = censoring_weights(*apart([*times, (horizon + 1, False)]), horizon)
    assert weights.sum() == pytest.approx(len(times) + 1)


def test_of_who_was_followed_to_the_very_horizon_nothing_is_known():
    y, weights = censoring_weights([6.0, 6.0, 6.5, 7.0], [False, True, False, True], 6.0)
    np.testing.assert_array_equal(y, [np.nan, 1.0, 0.0, 0.0])
    assert weights.tolist() == pytest.approx([0.0, 1.0, 1.5, 1.5])


def test_without_censoring_everybody_counts_once():
    y, weights = censoring_weights([1.0, 5.0, 9.0], [True, True, True], 6.0)
    assert y.tolist() == [1, 1, 0]
    assert weights.tolist() == [1, 1, 1]


def test_weighting_undoes_censoring_that_dropping_does_not():
    rng = np.random.default_rng(0)
    event, follow_up = rng.exponential(300, 40_000), rng.uniform(0, 250, 40_000)
    duration, observed = np.minimum(event, follow_up), event <= follow_up
    truth = 1 - np.exp(-180 / 300)
    y, weights = censoring_weights(duration, observed, 180.0)
    known = ~np.isnan(y)
    assert np.average(y[known], weights=weights[known]) == pytest.approx(truth, abs=0.01)
    assert y[known].mean() - truth > 0.1


risks = st.lists(st.floats(0, 0.99), min_size=1, max_size=6).map(sorted)


@settings(max_examples=100)
@given(risks)
def test_median_and_mean_are_those_of_the_curve_day_by_day(risk):
    days = np.cumsum(np.arange(1, len(risk) + 1)) * 10.0
    knots, hazard = np.append(0.0, days), np.append(0.0, -np.log1p(-np.array(risk)))
    fine = np.linspace(0, days[-1], 20_001)
    survival = np.exp(-np.interp(fine, knots, hazard))
    mean, median = restricted_mean_days(days, [risk])[0], median_days(days, [risk])[0]
    assert mean == pytest.approx(np.trapezoid(survival, fine), abs=0.02 * days[-1] / 10)
    if risk[-1] < 0.5:
        assert np.isnan(median)
    else:
        assert np.interp(median, knots, hazard) == pytest.approx(np.log(2))


def test_of_a_sure_event_nothing_is_left():
    assert restricted_mean_days([30.0, 60.0], [[1.0, 1.0], [0.0, 0.0]]).tolist() == [0.0, 60.0]
    assert median_days([30.0, 60.0], [[0.0, 1.0]]).tolist() == [30.0]


@pytest.mark.parametrize(
    ("duration", "observed", "message"),
    [([], [], "at least one row"), ([1.0, -2.0], [True, False], "1 of 2 are not, the first is -2.0 in row 1")],
)
def test_times_that_are_none_are_refused(duration, observed, message):
    with pytest.raises(InputError, match=message):
        KaplanMeier.of(duration, observed)
