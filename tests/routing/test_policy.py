"""Policies: the vector is exact, the draw is from it, and what is logged evaluates other policies without bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm

from partnerml.config import PolicyConfig, SplitConfig
from partnerml.errors import ConfigError, DataError, InternalError, ModelError
from partnerml.routing import _round_robin
from partnerml.routing._draw import drawn, fraction
from partnerml.routing._policy import CHALLENGER, CHAMPION, Candidates, choose, probabilities, wants_spread
from partnerml.routing._thompson import chances_of_best

KINDS = ("greedy", "softmax", "epsilon", "thompson", "round_robin")
NEVER_NUMBERS = st.floats(0.01, 0.99)


def candidates(p, **given_too):
    p = np.asarray(p, dtype=float)
    return Candidates(partner_id=[f"P{i}" for i in range(len(p))], p=p, **given_too)


def vector(kind, known, lead_id="L1", **settings):
    return probabilities(PolicyConfig(kind=kind, **settings), known, lead_id=lead_id)


# draws


def test_fractions_are_even_and_the_same_everywhere():
    found = np.array([fraction("draw", seed) for seed in range(4000)])
    assert found.min() >= 0
    assert found.max() < 1
    assert abs(found.mean() - 0.5) < 0.02
    assert fraction("draw", 1) == 0.8128360107986727
    assert fraction("a|b", "c") != fraction("d", "c")


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=8).filter(any), st.floats(0, 1))
def test_what_has_no_probability_is_never_drawn(weights, at):
    weights = np.array(weights) / sum(weights)
    place = drawn(weights, min(at, math.nextafter(1, 0)))
    assert weights[place] > 0
    assert weights[:place].sum() <= at + 1e-9


# what holds for every policy


@settings(max_examples=150)
@given(st.data(), st.sampled_from(KINDS), st.integers(1, 6))
def test_every_vector_is_one_of_probabilities_and_the_choice_is_in_it(data, kind, m):
    floats = st.lists(NEVER_NUMBERS, min_size=m, max_size=m).map(np.array)
    known = candidates(
        data.draw(floats),
        value=data.draw(st.sampled_from([0.0, 1.0, 12_345.0])),
        price=data.draw(floats),
        spread=data.draw(floats),
        load=data.draw(floats),
        weight=data.draw(floats),
        credit=data.draw(floats),
    )
    found = vector(kind, known)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found >= 0).all()
    choice = choose(PolicyConfig(kind=kind), known, lead_id="L1", seed=data.draw(st.integers(0, 2**63 - 1)))
    assert choice.propensity == found[choice.place] > 0
    np.testing.assert_array_equal(choice.probabilities, found)
    if kind in ("greedy", "round_robin"):
        assert (choice.propensity, choice.explores) == (1.0, False)


def test_the_same_seed_chooses_the_same_and_others_do_not():
    known = candidates([0.3, 0.31, 0.32])
    config = PolicyConfig(kind="softmax")
    assert len({choose(config, known, lead_id="L", seed=7).place for _ in range(5)}) == 1
    assert {choose(config, known, lead_id="L", seed=seed).place for seed in range(30)} == {0, 1, 2}


def test_how_often_a_place_is_drawn_is_its_probability():
    known = candidates([0.3, 0.35, 0.2])
    config = PolicyConfig(kind="softmax", temperature=0.1)
    found = [choose(config, known, lead_id="L", seed=seed).place for seed in range(5000)]
    np.testing.assert_allclose(np.bincount(found) / 5000, vector("softmax", known, temperature=0.1), atol=0.025)


def test_nobody_to_choose_from_is_our_fault():
    with pytest.raises(InternalError, match="nobody to choose from"):
        choose(PolicyConfig(), candidates([]), lead_id="L", seed=0)


def test_a_score_that_is_no_number_is_told():
    with pytest.raises(ModelError, match="partner P1 is no number"):
        choose(PolicyConfig(), candidates([0.5, np.nan]), lead_id="L", seed=0)


# greedy and its ties


def test_the_highest_utility_wins_and_prices_count():
    assert vector("greedy", candidates([0.2, 0.5, 0.4])).tolist() == [0, 1, 0]
    assert vector("greedy", candidates([0.2, 0.5, 0.4], price=np.array([0, 0.3, 0]))).tolist() == [0, 0, 1]
    assert vector("greedy", candidates([0.2, 0.5], value=np.array([1000.0, 100.0]))).tolist() == [1, 0]


def test_of_equals_the_one_with_the_smallest_load_wins():
    assert vector("greedy", candidates([0.5, 0.5, 0.5], load=np.array([0.5, 0.2, 0.3]))).tolist() == [0, 1, 0]
    # sums of vectors differ in their last bits
    nearly = candidates([0.5, 0.5 + 1e-15, 0.5], load=np.array([0.5, 0.4, 0.3]))
    assert vector("greedy", nearly).tolist() == [0, 0, 1]


def test_of_equals_with_equal_loads_the_one_that_holds_the_fewest_leads_wins():
    load, held = np.array([0.0, 0.0, 0.2, 0.0]), np.array([7, 3, 1, 5])
    assert vector("greedy", candidates([0.5] * 4, load=load, held=held)).tolist() == [0, 1, 0, 0]


def test_of_equals_with_equal_loads_no_partner_is_favoured():
    known = candidates([0.5, 0.5, 0.5, 0.1], load=np.zeros(4))
    found = np.sum([vector("greedy", known, lead_id=f"L{i}") for i in range(3000)], axis=0)
    np.testing.assert_allclose(found / 3000, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)
    assert vector("greedy", known, lead_id="L5").tolist() == vector("greedy", known, lead_id="L5").tolist()


# exploration


def test_softmax_is_its_formula_and_never_overflows():
    p = np.array([0.3, 0.35, 0.2])
    np.testing.assert_allclose(
        vector("softmax", candidates(p), temperature=0.1), np.exp(p / 0.1) / np.exp(p / 0.1).sum()
    )
    extreme = vector("softmax", candidates([0.1, 0.9, 0.9], value=1e9), temperature=1e-3)
    np.testing.assert_allclose(extreme, [0, 0.5, 0.5])


def test_epsilon_is_a_mixture_and_says_when_it_left_the_best():
    known = candidates([0.2, 0.6, 0.4, 0.1])
    np.testing.assert_allclose(vector("epsilon", known, epsilon=0.2), [0.05, 0.85, 0.05, 0.05])
    config = PolicyConfig(kind="epsilon", epsilon=0.5)
    choices = [choose(config, known, lead_id="L", seed=seed) for seed in range(200)]
    assert {choice.explores for choice in choices} == {True, False}
    assert all(choice.explores == (choice.place != 1) for choice in choices)


# Thompson


def by_simulation(p, spread, value, price, n=100_000):
    drawn_odds = np.random.default_rng(1).normal(size=(n, len(p))) * spread + logit(p)
    best = (value * expit(drawn_odds) - price).argmax(axis=1)
    return np.bincount(best, minlength=len(p)) / n


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_chances_of_the_best_agree_with_a_simulation(seed):
    rng = np.random.default_rng(seed)
    m = int(rng.integers(2, 9))
    p = rng.uniform(0.02, 0.9, m)
    spread = rng.choice([0.0, 0.02, 0.3, 1.0, 2.5], m)
    value, price = rng.choice([1.0, 300.0]) * rng.uniform(0.5, 1, m), rng.uniform(0, 0.2, m)
    found = chances_of_best(p, spread, value=value, price=price)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, by_simulation(p, np.maximum(spread, 1e-6), value, price), atol=0.01)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, 2), st.floats(0.05, 2))
def test_chances_of_two_are_those_of_the_normal_distribution(first, second, wide, narrow):
    found = chances_of_best(expit(np.array([first, second])), np.array([wide, narrow]))
    assert found[0] == pytest.approx(norm.cdf((first - second) / math.hypot(wide, narrow)), abs=1e-3)


def test_those_that_are_known_for_sure_are_chosen_like_greedy_does():
    assert chances_of_best(np.array([0.2, 0.4, 0.3]), np.zeros(3)).tolist() == [0, 1, 0]
    np.testing.assert_allclose(chances_of_best(np.array([0.4, 0.4, 0.3]), np.zeros(3)), [0.5, 0.5, 0], atol=1e-9)
    assert chances_of_best(np.array([0.2, 0.4]), np.ones(2), value=0.0, price=np.array([0.0, 1.0])).tolist() == [1, 0]
    assert chances_of_best(np.array([0.7]), np.array([0.3])).tolist() == [1.0]


def test_equals_have_equal_chances_among_very_many():
    found = chances_of_best(np.full(300, 0.2), np.full(300, 0.8))
    np.testing.assert_allclose(found, 1 / 300, rtol=1e-9)


def test_a_new_partner_is_tried_more_often_than_one_that_is_known_as_well():
    known = candidates([0.4, 0.35, 0.35], spread=np.array([0.05, 0.05, 1.0]))
    found = vector("thompson", known)
    assert found[2] > 0.3 > 0.01 > found[1]


def test_thompson_needs_to_know_how_sure_a_score_is():
    with pytest.raises(ConfigError, match=r"routing\.policy\.kind is thompson"):
        vector("thompson", candidates([0.5]))
    thompson = PolicyConfig(kind="thompson")
    assert wants_spread(thompson)
    assert not wants_spread(PolicyConfig())
    assert wants_spread(PolicyConfig(), SplitConfig(share=0.1, policy=thompson))


# round robin


def played(weight, leads, *, credit=None, present=None, catch_up=2.0):
    """Give out leads in turn; return who got how many after each lead, what each was owed of them, and all credits."""
    m = len(weight)
    credit = np.zeros(m) if credit is None else np.array(credit, dtype=float)
    got, owed, history = np.zeros(m), np.zeros(m), []
    for number in range(leads):
        here = np.arange(m) if present is None else np.flatnonzero(present[number])
        known = Candidates(
            partner_id=[f"P{place}" for place in here],
            p=np.full(len(here), 0.5),
            weight=np.asarray(weight, dtype=float)[here],
            credit=credit[here],
        )
        config = PolicyConfig(kind="round_robin", catch_up=catch_up)
        choice = choose(config, known, lead_id=f"L{number}", seed=number)
        credit[here] = choice.credit
        got[here[choice.place]] += 1
        owed[here] += _round_robin.shares(known.weight)
        history.append((got.copy(), owed.copy(), credit.copy()))
    return history


@settings(max_examples=80)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 80))
def test_whoever_may_get_all_leads_is_never_a_lead_off_its_share(weight, leads):
    for number, (got, owed, _) in enumerate(played(weight, leads), start=1):
        assert got.sum() == number
        assert (np.abs(got - owed) < 1 + 1e-6).all()


def pools(most=5, leads=120):
    one = st.lists(st.booleans(), min_size=2, max_size=2)
    return st.integers(2, most).flatmap(
        lambda m: (
            st.lists(st.lists(st.booleans(), min_size=m, max_size=m).filter(any), min_size=1, max_size=leads)
            if m != 2
            else st.lists(one.filter(any), min_size=1, max_size=leads)
        )
    )


@settings(max_examples=60)
@given(pools(leads=60), st.sampled_from([1.0, 2.0, 5.0]), st.booleans())
def test_after_any_comings_and_goings_nobody_is_flooded(present, catch_up, equal):
    """Once all are there, nobody gets more beyond its share than it is owed, others are ahead, and one lead."""
    m, reach = len(present[0]), catch_up
    weight = np.ones(m) if equal else np.arange(1.0, m + 1)
    before = played(weight, len(present), present=present, catch_up=catch_up)
    owed_still = np.array([credit for _, _, credit in before])
    assert np.abs(owed_still).max() <= reach + 1e-9
    history = played(weight, 80, credit=owed_still[-1], catch_up=catch_up)
    beyond = np.array([got - owed for got, owed, _ in history])
    assert (beyond <= reach * (1 + m * weight / weight.sum()) + 1 + 1e-6).all()


@settings(max_examples=20)
@given(pools(most=4, leads=30), st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_those_who_stay_are_even_among_themselves_before_long(before, weight):
    m = len(before[0])
    weight = weight[:m]
    credit = played(weight, len(before), present=before)[-1][2]
    settled = 30 * m
    history = played(weight, settled + 60, credit=credit)
    got, owed = (history[-1][part] - history[settled][part] for part in (0, 1))
    assert (np.abs(got - owed) <= 2 + 1e-6).all()


def test_a_partner_back_from_leave_is_not_flooded():
    away = np.ones((200, 4), dtype=bool)
    away[20:120, 3] = False
    got = np.array([got for got, _, _ in played([1, 1, 1, 1], 200, present=away)])
    back = got[120:, 3] - got[119, 3]
    assert back[7] <= 3
    assert abs(back[79] - 20) <= 2


def test_a_lead_that_was_given_back_is_owed_again_up_to_a_limit():
    assert _round_robin.returned(0.25, catch_up=2.0) == 1.25
    assert _round_robin.returned(1.5, catch_up=2.0) == 2.0
    assert _round_robin.returned(0.5, catch_up=0.0) == 1.0
    assert _round_robin.RETURNED == ("declined", "withdrawn")
    credit = np.array([0.0, _round_robin.returned(0.0, catch_up=2.0), 0.0])
    assert played([1, 1, 1], 2, credit=credit)[-1][0][1] >= 1


def test_weights_that_are_no_numbers_are_told():
    with pytest.raises(DataError, match=r"weight of partner P1 in round robin .*got -1"):
        vector("round_robin", candidates([0.5, 0.5], weight=np.array([1.0, -1.0])))
    with pytest.raises(DataError, match=r"weight of partner P0 .*got inf"):
        vector("round_robin", candidates([0.5, 0.5], weight=np.array([np.inf, 1.0])))


def test_an_empty_weight_is_none_at_all():
    known = candidates([0.5, 0.5, 0.5], weight=np.array([np.nan, 1.0, 3.0]))
    assert vector("round_robin", known).tolist() == [0, 0, 1]
    equal = candidates([0.5, 0.5], weight=np.array([np.nan, np.nan]))
    assert vector("round_robin", equal).sum() == 1


def test_only_round_robin_changes_what_is_owed():
    known = candidates([0.4, 0.5])
    assert choose(PolicyConfig(), known, lead_id="L", seed=0).credit is None
    np.testing.assert_allclose(
        sorted(choose(PolicyConfig(kind="round_robin"), known, lead_id="L", seed=0).credit), [-0.5, 0.5]
    )


# champion and challenger


def test_a_split_logs_the_mixture_and_who_acted():
    known = candidates([0.2, 0.6, 0.4])
    split = SplitConfig(share=0.25, policy=PolicyConfig(kind="epsilon", epsilon=0.3))
    choices = [choose(PolicyConfig(), known, lead_id=f"L{i}", seed=i, split=split) for i in range(2000)]
    for choice in choices:
        np.testing.assert_allclose(choice.probabilities, [0.025, 0.95, 0.025])
        assert choice.propensity == choice.probabilities[choice.place]
        assert choice.explores == (choice.place != 1)
    acted = [choice.arm for choice in choices]
    assert set(acted) == {CHAMPION, CHALLENGER}
    assert acted.count(CHALLENGER) / 2000 == pytest.approx(0.25, abs=0.03)
    assert not any(choice.explores for choice in choices if choice.arm == CHAMPION)
    shown = np.bincount([choice.place for choice in choices], minlength=3) / 2000
    np.testing.assert_allclose(shown, [0.025, 0.95, 0.025], atol=0.015)


def test_a_lead_stays_with_its_arm():
    split = SplitConfig(share=0.5, policy=PolicyConfig(kind="softmax"))
    arms = {
        choose(PolicyConfig(), candidates([0.2, 0.6]), lead_id="L3", seed=seed, split=split).arm for seed in range(20)
    }
    assert len(arms) == 1


# what was logged evaluates another policy


@pytest.mark.parametrize("kind", ["softmax", "epsilon", "thompson", "split"])
def test_logged_propensities_tell_what_another_policy_would_have_won(kind):
    """Inverse propensity scoring of a target policy is within its standard error of the truth."""
    rng = np.random.default_rng(11)
    n, m = 3000, 5
    truth = rng.uniform(0.1, 0.7, (n, m))
    scored = np.clip(truth + rng.normal(0, 0.15, (n, m)), 0.02, 0.98)
    target = rng.dirichlet(np.ones(m), n)
    logging = PolicyConfig(kind="epsilon" if kind == "split" else kind, epsilon=0.4, temperature=0.2)
    split = SplitConfig(share=0.3, policy=PolicyConfig(kind="softmax", temperature=0.3)) if kind == "split" else None
    terms, ignoring = np.empty(n), np.empty(n)
    for row in range(n):
        known = candidates(scored[row], spread=np.full(m, 1.5))
        choice = choose(logging, known, lead_id=f"L{row}", seed=row, split=split)
        won = rng.random() < truth[row, choice.place]
        terms[row] = target[row, choice.place] / choice.propensity * won
        ignoring[row] = won
    value = (target * truth).sum(axis=1).mean()
    error = terms.std() / math.sqrt(n)
    assert abs(terms.mean() - value) < 3.5 * error
    assert abs(ignoring.mean() - value) > 3.5 * ignoring.std() / math.sqrt(n), (
        "a case in which propensities do not matter proves nothing"
    )
