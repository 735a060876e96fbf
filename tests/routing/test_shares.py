"""Shares of groups: met where they can be, at the lowest price there is, and what is lacking is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import assignment as oracle

from partnerml.config import ShareConfig
from partnerml.errors import ConfigError
from partnerml.routing._auction import solve
from partnerml.routing._certificate import Problem
from partnerml.routing._shares import Group, share_out

GAP = 1e-9


def made_up(leads=300, partners=30, width=6, fill=1.3, seed=0):
    rng = np.random.default_rng(seed)
    cols = np.array([rng.choice(partners, width, replace=False) for _ in range(leads)])
    scores = rng.beta(2, 3, cols.shape)
    small = np.arange(partners) < partners // 3
    scores[small[cols]] *= 0.6  # the first third of the partners wins less
    return cols, scores, rng.poisson(leads / partners * fill, partners), small


def shared(cols, scores, capacity, *groups, gap=GAP):
    problem = Problem.of(cols, scores, capacity)
    found = share_out(problem, groups, lambda added: solve(problem, gap=gap, subsidy=added))
    counts = problem.counts(found.solution.slot)
    assert (counts <= capacity).all()
    for group, told in zip(groups, found.groups, strict=True):
        assert told.leads == counts[group.members].sum()
        assert told.share == pytest.approx(told.leads / max(counts.sum(), 1))
    return found


@pytest.mark.parametrize("least", [0.2, 0.3, 0.4])
def test_a_least_share_is_met_at_a_price(least):
    cols, scores, capacity, small = made_up()
    (free,) = shared(cols, scores, capacity, Group("small", small)).groups
    found = shared(cols, scores, capacity, Group("small", small, least=least))
    (told,) = found.groups
    assert free.share < least <= told.share < least + 0.02
    assert told.subsidy > 0
    assert told.shortfall == 0
    assert found.price > 0


def test_it_costs_no_more_than_a_linear_program_with_the_share_as_a_constraint():
    from scipy.optimize import linprog
    from scipy.sparse import coo_array, vstack

    cols, scores, capacity, small = made_up()
    found = shared(cols, scores, capacity, Group("small", small, least=0.3))
    (told,) = found.groups
    lead = np.indices(cols.shape)[0].ravel()
    n, partner = cols.size, cols.ravel()
    limits = coo_array(
        (np.ones(2 * n), (np.concatenate([lead, len(cols) + partner]), np.tile(np.arange(n), 2)))
    ).tocsr()
    of_group = coo_array(-small[partner].astype(float)[None, :])
    exact = linprog(
        -scores.ravel(),
        A_ub=vstack([limits, of_group]),
        b_ub=np.concatenate([np.ones(len(cols)), capacity, [-told.leads]]),
        bounds=(0, 1),
        method="highs",
    )
    assert found.solution.certificate.total == pytest.approx(-exact.fun, rel=1e-6)


def test_a_most_share_is_kept_by_a_levy():
    cols, scores, capacity, small = made_up()
    found = shared(cols, scores, capacity, Group("large", ~small, most=0.6))
    (told,) = found.groups
    assert told.subsidy < 0
    assert 0.58 <= told.share <= 0.6
    assert told.shortfall == 0
    assert found.price > 0


def test_what_is_met_anyway_costs_nothing():
    cols, scores, capacity, small = made_up()
    found = shared(cols, scores, capacity, Group("small", small, least=0.01, most=0.9))
    assert found.price == 0
    assert found.groups[0].subsidy == 0


def test_a_share_that_cannot_be_reached_comes_as_near_as_it_can_and_the_rest_is_told():
    cols, scores, capacity, small = made_up()
    capacity[small] = 2
    found = shared(cols, scores, capacity, Group("small", small, least=0.5))
    (told,) = found.groups
    assert told.leads == capacity[small].sum() == 20
    assert told.shortfall == int(np.ceil(0.5 * found.solution.certificate.given)) - 20


def test_a_group_whose_partners_are_nobodys_candidates_lacks_everything():
    found = shared(
        np.array([[0], [0]]), np.full((2, 1), 0.5), [5, 5], Group("away", np.array([False, True]), least=0.5)
    )
    assert (found.groups[0].leads, found.groups[0].shortfall) == (0, 1)
    assert found.solution.certificate.given == 2


def test_several_groups_at_once():
    cols, scores, capacity, small = made_up(fill=1.6)
    middle = (np.arange(30) >= 10) & (np.arange(30) < 20)
    found = shared(
        cols, scores, capacity, Group("small", small, least=0.25), Group("middle", middle, least=0.3, most=0.35)
    )
    assert [told.shortfall for told in found.groups] == [0, 0]
    assert found.groups[0].share >= 0.25
    assert 0.3 <= found.groups[1].share <= 0.35


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_nobody_who_does_as_much_for_the_groups_has_a_higher_total(seed, first, second):
    rng = np.random.default_rng(seed)
    leads, partners = int(rng.integers(1, 6)), int(rng.integers(2, 4))
    cols = np.array([rng.permutation(partners)[:2] for _ in range(leads)])
    scores, capacity = rng.integers(1, 9, cols.shape) / 8, rng.integers(0, 4, partners)
    members = np.arange(partners) < 1
    least, most = sorted((first, second))
    problem = Problem.of(cols, scores, capacity)
    found = shared(cols, scores, capacity, Group("first", members, least=least, most=most))
    (told,) = found.groups
    for total, _, assigned in oracle.everything(oracle.rows(cols, scores), capacity):
        leads_of_group = sum(partner == 0 for partner in assigned)
        as_much = leads_of_group >= told.leads if told.subsidy > 0 else leads_of_group <= told.leads
        if told.subsidy == 0 or as_much:
            assert total <= found.solution.certificate.total + 1e-6
    assert found.price >= -1e-9
    assert len(problem) == leads


# what a group is


def test_a_group_is_who_has_the_value():
    group = Group.of(ShareConfig(column="tier", value="boutique", least=0.2), ["gold", "boutique", None, "boutique"])
    assert (group.name, group.least, group.most) == ("tier=boutique", 0.2, 1.0)
    assert group.members.tolist() == [False, True, False, True]
    assert Group.of(ShareConfig(column="certified", value="True", most=0.5), [True, False]).members.tolist() == [
        True,
        False,
    ]


def test_what_no_group_can_be_is_told():
    with pytest.raises(ConfigError, match="no partner has tier=boutik; values of tier are boutique, gold"):
        Group.of(ShareConfig(column="tier", value="boutik"), ["gold", "boutique"])
    with pytest.raises(ConfigError, match=r"values of tier are all null"):
        Group.of(ShareConfig(column="tier", value="gold"), [None, None])
    with pytest.raises(ConfigError, match=r"at least 0\.5 and at most 0\.4"):
        Group.of(ShareConfig(column="tier", value="gold", least=0.5, most=0.4), ["gold"])
