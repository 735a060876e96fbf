"""The auction against every assignment there is, a linear program and minimum-cost flow; its certificate and limits."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import assignment as oracle

from partnerml.errors import DataError, InternalError, MissingExtraError
from partnerml.routing import _auction
from partnerml.routing._auction import solve, solve_for_coverage
from partnerml.routing._certificate import Certificate, Problem, gives_out_most

EXACT = 1e-10
# few values, so that ties are common; scores below zero are worse than nobody
SCORES = st.one_of(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0]), st.floats(-1, 1).map(lambda score: round(score, 3)))
CAPACITIES = st.sampled_from([0, 0, 1, 1, 2, 3, np.inf])


@st.composite
def problems(draw, most_leads=5, scores=SCORES):
    """Small cases: zero capacities, padding anywhere, leads without candidates, single leads, none at all."""
    partners = draw(st.integers(1, 4))
    leads = draw(st.integers(0, most_leads))
    width = draw(st.integers(1, 4))
    cols = np.full((leads, width), -1)
    worth = np.full((leads, width), np.nan)
    for lead in range(leads):
        known = draw(st.permutations(range(partners)))[: draw(st.integers(0, width))]
        places = draw(st.permutations(range(width)))[: len(known)]
        for place, partner in zip(places, known, strict=False):
            cols[lead, place], worth[lead, place] = partner, draw(scores)
    return cols, worth, np.array([draw(CAPACITIES) for _ in range(partners)], dtype=float)


def made_up(leads=400, partners=60, width=8, fill=1.0, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    cols = np.array([rng.choice(partners, width, replace=False) for _ in range(leads)])
    log_odds = rng.normal(0, 0.5, partners)[cols] + rng.normal(0, 0.7, cols.shape) - 1
    scores = 1 / (1 + np.exp(-log_odds))
    cols[rng.random(cols.shape) < 0.1] = -1
    return cols, scores if decimals is None else scores.round(decimals), rng.poisson(leads / partners * fill, partners)


def checked(problem, found, capacity):
    """Prices and assignment hold what they promise, whatever the total."""
    assert (problem.counts(found.slot) <= capacity).all()
    assert (found.price >= 0).all()
    unfilled = problem.counts(found.slot) < np.asarray(capacity)
    assert (found.price[unfilled] == 0).all()
    return found.certificate


@settings(max_examples=300)
@given(problems())
def test_the_total_is_the_highest_there_is(case):
    cols, scores, capacity = case
    problem = Problem.of(cols, scores, capacity)
    found = solve(problem, gap=EXACT)
    certificate = checked(problem, found, capacity)
    best = max(total for total, _, _ in oracle.everything(oracle.rows(cols, scores), capacity))
    assert certificate.total == pytest.approx(best, abs=1e-8)
    assert certificate.bound >= best - 1e-8
    assert oracle.linear_program(cols, np.nan_to_num(scores), capacity) == pytest.approx(best, abs=1e-7)


@settings(max_examples=100)
@given(problems(), st.floats(0, 2), st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_the_bound_holds_with_any_bonus_and_subsidies(case, bonus, amounts):
    """No assignment that does as the certificate says it must is worth more."""
    cols, scores, capacity = case
    problem = Problem.of(cols, scores, capacity)
    subsidy = np.array(amounts[: len(capacity)])
    found = solve(problem, gap=EXACT, subsidy=subsidy, bonus=bonus)
    counts = problem.counts(found.slot)
    for total, given_out, partners in oracle.everything(oracle.rows(cols, scores), capacity):
        others = np.bincount([partner for partner in partners if partner >= 0], minlength=len(capacity))
        as_much = (others[subsidy > 0] >= counts[subsidy > 0]).all() and (others <= counts)[subsidy < 0].all()
        if given_out >= found.certificate.given and as_much:
            assert total <= found.certificate.bound + 1e-8
            assert total <= found.certificate.total + 1e-6


@settings(max_examples=200)
@given(problems())
def test_coverage_first_gives_out_the_most_and_of_these_the_best(case):
    cols, scores, capacity = case
    problem = Problem.of(cols, scores, capacity)
    found = solve_for_coverage(problem, gap=EXACT)
    assignments = oracle.everything(oracle.rows(cols, scores), capacity)
    most = max(given_out for _, given_out, _ in assignments)
    assert found.most
    assert found.certificate.given == most
    best = max(total for total, given_out, _ in assignments if given_out == most)
    assert found.certificate.total == pytest.approx(best, abs=1e-6)


@settings(max_examples=200)
@given(problems(scores=st.floats(0.01, 1)), st.randoms(use_true_random=False))
def test_whether_more_leads_could_be_given_out_is_seen(case, random):
    cols, scores, capacity = case
    problem = Problem.of(cols, scores, capacity)
    assignments = oracle.everything(oracle.rows(cols, scores), capacity)
    _, given_out, partners = random.choice(assignments)
    slot = np.array([-1 if p < 0 else list(cols[lead]).index(p) for lead, p in enumerate(partners)], dtype=np.int64)
    assert gives_out_most(problem, slot) == (given_out == max(count for _, count, _ in assignments))


@pytest.mark.parametrize("fill", [0.4, 1.0, 2.0], ids=["scarce", "even", "ample"])
@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "tied"])
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_minimum_cost_flow_and_a_linear_program(fill, decimals, seed):
    cols, scores, capacity = made_up(fill=fill, decimals=decimals, seed=seed)
    problem = Problem.of(cols, scores, capacity)
    found = solve(problem, gap=1e-9)
    total, _ = oracle.minimum_cost_flow(cols, scores, capacity, scale=10**9)
    certificate = checked(problem, found, capacity)
    assert certificate.total == pytest.approx(total, rel=1e-8)
    assert certificate.total == pytest.approx(oracle.linear_program(cols, scores, capacity), rel=1e-8)
    assert certificate.total > oracle.best_first(cols, scores, capacity) - 1e-9
    assert certificate.gap <= 1e-9


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_the_unit_of_scores_does_not_matter(scale):
    cols, scores, capacity = made_up()
    plain = solve(Problem.of(cols, scores, capacity), gap=1e-4)
    scaled = solve(Problem.of(cols, scores * scale, capacity), gap=1e-4)
    assert scaled.certificate.gap <= 1e-4
    assert scaled.certificate.total == pytest.approx(plain.certificate.total * scale, rel=1e-4)


def test_a_looser_gap_is_kept_too():
    for gap in (1e-1, 1e-2, 1e-3):
        certificate = solve(Problem.of(*made_up()), gap=gap).certificate
        assert 0 <= certificate.gap <= gap


def test_the_same_comes_out_again():
    first, second = (solve(Problem.of(*made_up(decimals=1)), gap=1e-6) for _ in range(2))
    np.testing.assert_array_equal(first.slot, second.slot)
    np.testing.assert_array_equal(first.price, second.price)


def test_nothing_to_give_out():
    for cols, scores, capacity in (
        (np.zeros((0, 3), int), np.zeros((0, 3)), [1, 2]),
        (np.full((2, 3), -1), np.zeros((2, 3)), [1]),
        (np.zeros((2, 1), int), np.ones((2, 1)), [0]),
        (np.zeros((2, 1), int), -np.ones((2, 1)), [5]),
        (np.full((1, 1), -1), np.zeros((1, 1)), []),
    ):
        found = solve(Problem.of(cols, scores, capacity), gap=1e-4)
        assert (found.slot == -1).all()
        assert (found.certificate.total, found.certificate.given, found.certificate.gap) == (0.0, 0, 0.0)


def test_a_partner_with_capacity_to_spare_has_no_price():
    found = solve(Problem.of(np.zeros((3, 1), int), np.ones((3, 1)), [4]), gap=1e-4)
    assert found.certificate.given == 3
    assert found.price.tolist() == [0.0]


def test_a_price_is_what_the_next_lead_would_have_paid():
    scores = np.array([[0.9], [0.5], [0.3]])
    found = solve(Problem.of(np.zeros((3, 1), int), scores, [1]), gap=1e-9)
    assert found.slot.tolist() == [0, -1, -1]
    assert 0.5 - 1e-6 <= found.price[0] <= 0.9 + 1e-6


def test_a_stopped_auction_is_within_capacity_and_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(_auction, "_BIDS_PER_LEAD", 0)
    monkeypatch.setattr(_auction, "_BIDS_AT_LEAST", 150)
    cols, scores, capacity = made_up()
    problem = Problem.of(cols, scores, capacity)
    found = solve(problem, gap=1e-6)
    assert (problem.counts(found.slot) <= capacity).all()
    assert 0.01 < found.certificate.gap < 1
    assert found.certificate.bound >= oracle.linear_program(cols, scores, capacity) - 1e-6


def test_an_impossible_assignment_is_not_certified():
    problem = Problem.of([[0, -1], [0, -1]], [[0.5, 0], [0.4, 0]], [1])
    for slot in ([0, 0], [1, -1]):
        with pytest.raises(InternalError, match="more than its capacity"):
            Certificate.of(problem, np.array(slot), np.zeros(1), subsidy=np.zeros(1), bonus=0.0)


def test_what_is_wrong_is_told():
    with pytest.raises(DataError, match=r"capacity of partner 1 .*got -1"):
        Problem.of([[0]], [[1.0]], [1, -1])
    with pytest.raises(DataError, match=r"capacity of partner 0 .*got nan"):
        Problem.of([[0]], [[1.0]], [np.nan])
    with pytest.raises(DataError, match=r"score of lead 1 .*no number"):
        Problem.of([[0], [0]], [[1.0], [np.nan]], [1])
    with pytest.raises(InternalError, match="candidate is partner 3 of 2"):
        Problem.of([[3]], [[1.0]], [1, 1])
    with pytest.raises(InternalError, match=r"shape \(1, 2\)"):
        Problem.of([[0, 1]], [[1.0]], [1, 1])


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtraError, match=r'pip install "partnerml\[routing\]"'):
        _auction._compiled(len)


def test_it_runs_where_nothing_can_be_kept(monkeypatch):
    numba = pytest.importorskip("numba")

    def njit(*, cache=False, **settings):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**settings)

    plain = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    assert _auction._compiled(lambda number: number + 1)(1) == 2


def test_preparing_is_said_once(caplog):
    _auction._prepare.cache_clear()
    problem = Problem.of([[0]], [[1.0]], [1])
    with caplog.at_level(logging.INFO, logger="partnerml"):
        solve(problem, gap=1e-4)
        solve(problem, gap=1e-4)
    assert [record.message[:21] for record in caplog.records] == ["preparing the auction"]


@pytest.mark.parametrize("module", ["_assign", "_shares", "_prices", "_certificate", "_policy"])
def test_numba_comes_only_with_the_auction(module):
    code = f"import sys, partnerml.routing.{module}; assert not {{'numba', 'ortools', 'highspy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
