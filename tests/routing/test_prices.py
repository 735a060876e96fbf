"""Prices online: nearly the optimum in hindsight on a stream, capacity kept, and sensible at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles import assignment as oracle

from partnerml.errors import InternalError
from partnerml.routing._auction import solve
from partnerml.routing._certificate import Problem
from partnerml.routing._prices import Window, prices, stand_ins


def stream(leads, partners=80, width=10, fill=1.0, seed=0):
    """Leads of two days that are alike, and what partners may get in each."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 0.6, partners)
    cols = np.array([rng.choice(partners, width, replace=False) for _ in range(2 * leads)])
    scores = 1 / (1 + np.exp(-(quality[cols] + rng.normal(0, 0.7, cols.shape) - 1)))
    return cols, scores, rng.poisson(leads / partners * fill, partners)


def routed(cols, scores, capacity, price_of, *, at_least=-np.inf):
    """Give each lead to the highest score less the price, as it comes; price_of(number, left) tells prices."""
    left, total = capacity.copy(), 0.0
    for number, (partners, worth) in enumerate(zip(cols, scores, strict=True)):
        price = price_of(number, left)
        utility = np.where(left[partners] > 0, worth - price[partners], -np.inf)
        best = int(utility.argmax())
        if utility[best] > at_least:
            left[partners[best]] -= 1
            total += worth[best]
    assert (left >= 0).all()
    return total


@pytest.mark.parametrize(("fill", "at_least"), [(1.1, -np.inf), (0.8, 0.0)], ids=["enough", "scarce"])
@pytest.mark.parametrize("seed", [0, 1])
def test_prices_come_near_the_optimum_in_hindsight_and_greedy_does_not(seed, fill, at_least):
    """Where capacity is scarce, some leads are better left to wait: those that are worth less than every price."""
    leads = 3000
    cols, scores, capacity = stream(leads, seed=seed, fill=fill)
    today = slice(leads, None)
    best = solve(Problem.of(cols[today], scores[today], capacity), gap=1e-5).certificate.bound
    window = Window(size=leads, width=10)
    for partners, worth in zip(cols[:leads], scores[:leads], strict=True):
        window.add(partners, worth)
    held = {}

    def price_of(number, left):
        if number % 250 == 0:
            held["price"] = window.prices(left, expected=leads - number)
        window.add(cols[leads + number], scores[leads + number])
        return held["price"]

    with_prices = routed(cols[today], scores[today], capacity, price_of, at_least=at_least)
    greedy = routed(cols[today], scores[today], capacity, lambda number, left: np.zeros(len(left)))
    assert greedy == pytest.approx(oracle.as_they_come(cols[today], scores[today], capacity))
    assert with_prices >= 0.95 * best
    assert greedy < 0.93 * best


def test_scarce_partners_have_prices_and_others_have_none():
    cols = np.tile([0, 1], (10, 1))
    scores = np.tile([0.9, 0.5], (10, 1))
    found = prices(cols, scores, [3, np.inf], expected=10)
    assert found[0] == pytest.approx(0.4, abs=0.01)
    assert found[1] == 0
    assert prices(cols, scores, [10, 10], expected=9).tolist() == [0.0, 0.0]


def test_fewer_leads_to_come_make_capacity_cheaper():
    cols, scores, capacity = stream(500)
    many, few = (prices(cols, scores, capacity, expected=expected).mean() for expected in (2000, 200))
    assert few < many


def test_without_leads_there_are_no_prices():
    assert prices(np.zeros((0, 3), int), np.zeros((0, 3)), [1, 2], expected=5).tolist() == [0.0, 0.0]
    assert prices([[0]], [[0.5]], [0], expected=0).tolist() == [0.0]
    assert Window().prices([1, 2, 3], expected=100).tolist() == [0.0, 0.0, 0.0]


def test_the_latest_leads_stand_for_those_to_come():
    assert stand_ins(5, 3).tolist() == [2, 3, 4]
    assert sorted(stand_ins(2, 5).tolist()) == [0, 0, 1, 1, 1]
    assert np.bincount(stand_ins(7, 700)).tolist() == [100] * 7


def test_a_window_forgets_the_leads_that_came_first():
    window = Window(size=3, width=2)
    window.add(np.array([0, 1, 2]), np.array([0.1, 0.3, 0.2]))
    window.add(np.array([1]), np.array([0.4]))
    for _ in range(5):
        window.add(np.array([2]), np.array([0.9]))
    assert len(window) == 3
    # one unit, and three leads who all want it: its price is what they would pay
    assert window.prices([1, 1, 1], expected=3).tolist() == [0, 0, pytest.approx(0.9, abs=0.05)]


def test_a_window_that_holds_nothing_is_refused():
    with pytest.raises(InternalError, match="window of 0 leads"):
        Window(size=0)
