"""Whom to contact: beside every other choice that could have been made."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.errors import InputError
from partnerml.models import threshold_by_capacity, threshold_by_cost

CHANCE = st.floats(0, 1).map(lambda p: round(p, 3))
VALUE = st.integers(0, 5000).map(float)
ROWS = st.lists(st.tuples(CHANCE, VALUE, st.integers(0, 300).map(float), CHANCE), min_size=1, max_size=8)


def columns(rows):
    p, value, cost, rate = (np.array(column) for column in zip(*rows, strict=True))
    return p, {"value_saved": value, "cost_of_contact": cost, "success_rate": rate}


def worth(rows, subset):
    return sum(rows[k][0] * rows[k][1] * rows[k][3] - rows[k][2] for k in subset)


def subsets(n, at_most):
    return itertools.chain.from_iterable(itertools.combinations(range(n), size) for size in range(at_most + 1))


@settings(max_examples=40)
@given(ROWS)
def test_no_other_choice_is_worth_more(rows):
    p, options = columns(rows)
    found = threshold_by_cost(p, **options)
    best = max(worth(rows, subset) for subset in subsets(len(rows), len(rows)))
    assert found.expected_value == pytest.approx(best, abs=1e-6)
    assert found.missed_value == 0
    assert found.events + found.missed_events == pytest.approx(p.sum())
    assert found.events + found.idle == pytest.approx(found.chosen.sum())


@settings(max_examples=40)
@given(ROWS, st.integers(1, 9))
def test_no_other_choice_of_so_many_is_worth_more(rows, capacity):
    p, options = columns(rows)
    found = threshold_by_capacity(p, capacity=capacity, **options)
    allowed = subsets(len(rows), min(capacity, len(rows)))
    assert found.expected_value == pytest.approx(max(worth(rows, subset) for subset in allowed), abs=1e-6)
    assert found.chosen.sum() == len(found.ranked) <= capacity
    assert sorted(found.ranked.tolist()) == np.flatnonzero(found.chosen).tolist()
    assert (np.diff(found.gain[found.ranked]) <= 0).all()
    everybody = threshold_by_cost(p, **options)
    assert found.expected_value + found.missed_value == pytest.approx(everybody.expected_value, abs=1e-6)


@settings(max_examples=40)
@given(ROWS, st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, capacity, random):
    keys = [f"p{k}" for k in range(len(rows))]
    order = list(range(len(rows)))
    random.shuffle(order)
    p, options = columns(rows)
    first = threshold_by_capacity(p, capacity=capacity, keys=keys, **options)
    p, options = columns([rows[k] for k in order])
    second = threshold_by_capacity(p, capacity=capacity, keys=[keys[k] for k in order], **options)
    assert [keys[k] for k in first.ranked] == [keys[order[k]] for k in second.ranked]
    assert first.to_dict() == second.to_dict()


def test_one_value_for_all_is_a_threshold():
    p = np.linspace(0, 1, 101)
    found = threshold_by_cost(p, cost_of_contact=50, value_saved=1000, success_rate=0.25)
    assert found.threshold == pytest.approx(0.2)
    assert found.chosen.tolist() == (p >= 0.2).tolist()
    assert found.cost == 81 * 50
    never = threshold_by_cost(p, cost_of_contact=50, value_saved=10)
    assert (never.threshold, never.chosen.sum(), never.expected_value, never.low) == (5, 0, 0, 0)
    free = threshold_by_cost(p, cost_of_contact=0, value_saved=0)
    assert (free.threshold, free.chosen.all()) == (None, True)


def test_a_score_alone_does_not_decide_where_values_differ():
    found = threshold_by_cost([0.9, 0.1], cost_of_contact=50, value_saved=[10, 10_000])
    assert found.threshold is None
    assert found.chosen.tolist() == [False, True]


def test_forty_calls_a_week():
    p = np.random.default_rng(0).beta(1, 4, 500)
    found = threshold_by_capacity(p, capacity=40)
    assert found.chosen.sum() == 40
    assert found.threshold == np.sort(p)[-40]
    assert found.events == pytest.approx(np.sort(p)[-40:].sum())
    assert found.missed_events == pytest.approx(np.sort(p)[:-40].sum())
    assert threshold_by_capacity(p, capacity=1000).chosen.all()


def test_of_equals_the_smaller_key_is_taken():
    found = threshold_by_capacity([0.5, 0.5, 0.5], capacity=2, keys=["c", "a", "b"])
    assert found.ranked.tolist() == [1, 2]
    assert threshold_by_capacity([0.5, 0.5, 0.5], capacity=2).ranked.tolist() == [0, 1]


def test_the_range_is_that_of_all_outcomes():
    p, value = np.array([0.5, 0.3, 0.2, 0.9, 0.6]), np.array([100.0, 2000, 500, 400, 700])
    outcomes = []
    for came in itertools.product([0, 1], repeat=5):
        chance = np.prod([q if yes else 1 - q for q, yes in zip(p * 0.8, came, strict=True)])
        outcomes.append((np.dot(came, value) - 5 * 10, chance))
    outcomes.sort()
    cumulated = np.cumsum([chance for _, chance in outcomes])
    found = threshold_by_cost(p, cost_of_contact=10, value_saved=value, success_rate=0.8)
    for share, told in ((0.025, found.low), (0.975, found.high)):
        # the shares that 2,000 draws can be off by
        near = [outcomes[np.searchsorted(cumulated, share + off)][0] for off in (-0.012, 0.012)]
        assert near[0] <= told <= near[1]
    assert found.expected_value == pytest.approx(sum(total * chance for total, chance in outcomes))


def test_the_range_holds_what_comes_of_it():
    generator = np.random.default_rng(3)
    p, value = generator.beta(1, 3, 300), generator.lognormal(6, 1, 300)
    found = threshold_by_capacity(p, capacity=60, value_saved=value, cost_of_contact=20)
    came = generator.random((4000, 300)) < p
    realised = (came * value)[:, found.chosen].sum(axis=1) - 60 * 20
    assert np.mean((realised >= found.low) & (realised <= found.high)) == pytest.approx(0.95, abs=0.02)
    assert realised.mean() == pytest.approx(found.expected_value, rel=0.02)


def test_more_rows_than_are_drawn_at_once():
    found = threshold_by_cost(np.full(2500, 0.5), cost_of_contact=0, value_saved=1)
    # binomial: two standard deviations of 25
    assert (found.low, found.high) == (pytest.approx(1201, abs=6), pytest.approx(1299, abs=6))
    assert json.loads(json.dumps(found.to_dict()))["contacts"] == 2500


def test_nobody_is_no_error():
    found = threshold_by_cost([], cost_of_contact=5, value_saved=1)
    assert (found.expected_value, found.low, found.high, found.threshold) == (0, 0, 0, None)
    assert threshold_by_capacity([], capacity=3).ranked.tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scores": [0.5, 1.5]},
            "scores must be between 0 and 1 in every row; 1 of 2 are not, the first is 1.5 at pos",
        ),
        ({"scores": [0.5, np.nan]}, "the first is nan at position 1"),
        ({"scores": [[0.5]]}, r"scores must have one entry a row, shape \(n,\); got shape \(1, 1\)"),
        ({"value_saved": -1}, "value_saved must be 0 or more in every row; 2 of 2 are not, the first is -1.0"),
        ({"value_saved": [1, 2, 3]}, r"value_saved must be one number, or one for each of 2 rows; got shape \(3,\)"),
        ({"cost_of_contact": np.inf}, "cost_of_contact must be 0 or more"),
        ({"success_rate": 1.2}, "success_rate must be between 0 and 1"),
        ({"capacity": 0}, "capacity must be a whole number of contacts, 1 or more; got 0"),
        ({"capacity": 1.5}, "capacity must be a whole number"),
        ({"keys": ["a"]}, r"keys must have one entry a row, 2 in all; got shape \(1,\)"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    options = {"capacity": 3, "scores": [0.5, 0.2]} | options
    with pytest.raises(InputError, match=message):
        threshold_by_capacity(options.pop("scores"), **options)
