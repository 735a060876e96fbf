"""Rates, ratios and p-values of groups that were followed for different times."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from tests.oracles.profile import greenwood, kaplan_meier, log_rank

from partnerml.models._group_survival import Timeline, contrast, direction, effective, wilson

ROWS = st.lists(st.tuples(st.integers(0, 12).map(float), st.booleans(), st.booleans()), min_size=4, max_size=40)
HORIZON = 9


def arrays(rows):
    days, seen, inside = (np.array(column) for column in zip(*rows, strict=True))
    return days.astype(float), seen.astype(bool), inside.astype(bool)


@settings(max_examples=40)
@given(ROWS)
def test_rates_are_those_of_kaplan_and_meier(rows):
    days, seen, inside = arrays(rows)
    timeline = Timeline.of(days, seen, horizon=HORIZON)
    group, rest = timeline.counts(inside), timeline.counts(~inside)
    found = contrast(group, rest)
    ours = [(d, s) for d, s, within in rows if within]
    theirs = [(d, s) for d, s, within in rows if not within]
    assert found.rate == pytest.approx(kaplan_meier(ours, HORIZON), abs=1e-12)
    assert found.rest_rate == pytest.approx(kaplan_meier(theirs, HORIZON), abs=1e-12)
    assert 0 <= found.low <= found.rate + 1e-12
    assert found.rate - 1e-12 <= found.high <= 1
    assert 0 <= found.p_value <= 1
    assert found.lift_low <= found.lift <= found.lift_high


@settings(max_examples=40)
@given(ROWS)
def test_counts_add_up(rows):
    days, seen, inside = arrays(rows)
    timeline = Timeline.of(days, seen, horizon=HORIZON)
    whole, group, rest = timeline.counts(), timeline.counts(inside), timeline.counts(~inside)
    for name in ("at_risk", "events"):
        assert getattr(whole, name).tolist() == getattr(group + rest, name).tolist()
        assert getattr(whole - group, name).tolist() == getattr(rest, name).tolist()


@settings(max_examples=40)
@given(ROWS)
def test_successes_expected_are_those_of_a_log_rank_test(rows):
    days, seen, inside = arrays(rows)
    timeline = Timeline.of(days, seen, horizon=HORIZON)
    found = direction(timeline.counts(inside), timeline.counts(), at_least=0.5)
    ours = [(d, s) for d, s, within in rows if within]
    theirs = [(d, s) for d, s, within in rows if not within]
    got, expected = log_rank(ours, theirs, HORIZON)
    total = sum(s and d <= HORIZON for d, s, _ in rows)
    if expected < 0.5 - 1e-9 or total - expected < 0.5 - 1e-9:
        assert found is None
    elif found is not None:
        assert found == pytest.approx((got, expected))


@settings(max_examples=40)
@given(ROWS)
def test_without_censoring_it_is_the_pooled_test_for_two_shares(rows):
    days, _, inside = arrays(rows)
    timeline = Timeline.of(days, np.ones(len(days), dtype=bool), horizon=HORIZON)
    found = contrast(timeline.counts(inside), timeline.counts(~inside))
    yes = days <= HORIZON
    table = np.array([[(yes & g).sum(), (~yes & g).sum()] for g in (inside, ~inside)])
    if (table.sum(axis=0) == 0).any() or (table.sum(axis=1) == 0).any():
        assert found.p_value == 1
        return
    assert found.effective == pytest.approx(inside.sum())
    assert found.rest_effective == pytest.approx((~inside).sum())
    assert found.p_value == pytest.approx(chi2_contingency(table, correction=False).pvalue, abs=1e-9)


def test_the_effective_number_of_all_gives_greenwoods_variance():
    generator = np.random.default_rng(5)
    for _ in range(20):
        success, censoring = generator.exponential(20, 60), generator.exponential(15, 60)
        days, seen = np.minimum(success, censoring).round(1), success <= censoring
        counts = Timeline.of(days, seen, horizon=HORIZON).counts()
        # a day that has begun counts
        rows = list(zip(np.ceil(days).tolist(), seen.tolist(), strict=True))
        rate = kaplan_meier(rows, HORIZON)
        n = effective(counts, counts.curve(), counts.curve())
        assert rate * (1 - rate) / n == pytest.approx(greenwood(rows, HORIZON), rel=1e-9)
        assert n < 60


def test_who_was_not_followed_far_enough_is_not_told():
    days = np.array([5.0, 5.0, 5.0, 9.0, 9.0, 8.0])
    seen = np.array([False, False, False, True, False, True])
    inside = np.array([True, True, True, False, False, False])
    timeline = Timeline.of(days, seen, horizon=HORIZON)
    found = contrast(timeline.counts(inside), timeline.counts(~inside))
    assert (found.effective, found.p_value, found.low, found.high) == (0, 1, 0, 1)
    assert not found.told(1)
    assert found.rest_effective > 0


def test_a_group_without_success_has_an_interval():
    days = np.concatenate([np.full(200, 20.0), np.full(70, 3.0), np.full(130, 20.0)])
    seen = np.concatenate([np.zeros(200, dtype=bool), np.ones(70, dtype=bool), np.zeros(130, dtype=bool)])
    inside = np.arange(400) < 200
    timeline = Timeline.of(days, seen, horizon=HORIZON)
    found = contrast(timeline.counts(inside), timeline.counts(~inside))
    assert (found.rate, found.low, found.lift, found.lift_low) == (0, 0, 0, 0)
    assert 0.01 < found.high < 0.03
    assert 0.01 < found.lift_high < 0.15
    assert found.p_value < 1e-12
    turned = contrast(timeline.counts(~inside), timeline.counts(inside))
    assert math.isinf(turned.lift)
    assert math.isinf(turned.lift_high)
    assert turned.lift_low > 5


def test_wilson_of_nothing_is_everything_and_it_narrows():
    assert wilson(0.3, 0) == (0, 1)
    # by hand, from the formula's closed form for 0 of 10: z^2 / (n + z^2)
    assert wilson(0.0, 10) == (0, pytest.approx(1.959964**2 / (10 + 1.959964**2)))
    (low, high), (lower, higher) = wilson(0.3, 1000), wilson(0.3, 50)
    assert lower < low < 0.3 < high < higher


def worlds(n, success, rest_success, seed, draws):
    """Groups of n and 2 n partners with exponential times, and censoring of its own in each."""
    generator = np.random.default_rng(seed)
    inside = np.arange(3 * n) < n
    scale = np.where(inside, -HORIZON / np.log1p(-success), -HORIZON / np.log1p(-rest_success))
    for _ in range(draws):
        times = generator.exponential(scale)
        censored = np.where(inside, generator.uniform(4, 20, 3 * n), generator.uniform(6, 30, 3 * n))
        timeline = Timeline.of(np.minimum(times, censored), times <= censored, horizon=HORIZON)
        yield contrast(timeline.counts(inside), timeline.counts(~inside))


def test_p_values_keep_their_word_where_there_is_no_difference():
    p = np.array([found.p_value for found in worlds(60, 0.25, 0.25, seed=1, draws=1500)])
    # three standard errors of 1,500 draws
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.017)
    assert (p < 0.2).mean() == pytest.approx(0.2, abs=0.031)


def test_intervals_cover():
    found = list(worlds(60, 0.4, 0.25, seed=2, draws=1500))
    assert np.mean([each.low <= 0.4 <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([each.lift_low <= 1.6 <= each.lift_high for each in found]) == pytest.approx(0.95, abs=0.02)
