"""What becomes of rows that are open still: against a world in which both ends are known."""

from __future__ import annotations

import numpy as np
import pytest

from partnerml.models import Maturing

HORIZON = 180.0


def ends(n=20_000, seed=0):
    """Rows that end as a success with a chance of their own, at an age that does not depend on it."""
    rng = np.random.default_rng(seed)
    index = rng.normal(-0.5, 0.8, n)
    p = 1 / (1 + np.exp(-index))
    day = np.minimum(rng.lognormal(np.log(60), 0.7, n), 400)
    return rng, index, p, day, rng.random(n) < p


def test_the_chance_is_what_becomes_of_open_rows():
    rng, index, _, day, wins = ends()
    follow = rng.uniform(0, 400, len(index))
    seen = day <= follow
    won, lost = (np.where(seen & kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(index, won, lost, follow)
    young = follow < HORIZON
    open_ = young & ~seen
    said = model.chances(index[open_], follow[open_])
    true = (wins & (day <= HORIZON))[open_]
    assert np.all((said >= 0) & (said <= 1))
    assert said.mean() == pytest.approx(true.mean(), abs=0.015)
    for low, high in ((0, 30), (30, 90), (90, 150)):
        chosen = (follow[open_] >= low) & (follow[open_] < high)
        assert said[chosen].mean() == pytest.approx(true[chosen].mean(), abs=0.03)
    # and better than what the index says alone, which knows nothing of the age
    assert np.mean((said - true) ** 2) < np.mean((1 / (1 + np.exp(-index[open_])) - true) ** 2) - 0.002
    # taking those that have ended for the whole, or leaving out the losses, would be off
    settled = wins[young & seen].mean()
    assert abs(settled - (wins & (day <= HORIZON))[young].mean()) > 0.02
    without = Maturing(HORIZON).fit(index, won, np.full(len(index), np.nan), follow)
    assert without.chances(index[open_], follow[open_]).mean() < said.mean() - 0.03


def test_the_share_that_is_decided_by_the_horizon():
    rng, index, _, day, wins = ends()
    follow = rng.uniform(0, 400, len(index))
    won, lost = (np.where((day <= follow) & kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(np.zeros(len(index)), won, lost, follow)
    assert model.decided() == pytest.approx((day <= HORIZON).mean(), abs=0.01)
    # of what has ended so far, much less
    assert (day <= np.minimum(follow, HORIZON)).mean() < model.decided() - 0.1
    never = np.full(len(index), np.nan)
    assert Maturing(HORIZON).fit(np.zeros(len(index)), never, never, follow).decided() == 0


def test_at_the_horizon_nothing_is_left_and_before_it_all():
    _, index, p, day, wins = ends(4000, seed=1)
    follow = np.full(len(index), 400.0)
    won, lost = (np.where(kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(index, won, lost, follow)
    np.testing.assert_array_equal(model.chances(index, np.full(len(index), HORIZON)), 0.0)
    whole = model.chances(index, np.zeros(len(index)))
    assert whole.mean() == pytest.approx((wins & (day <= HORIZON)).mean(), abs=0.01)
    assert np.corrcoef(whole, p)[0, 1] > 0.98
    ages = np.linspace(0, HORIZON, 50)
    assert np.all(np.isfinite(model.chances(np.zeros(50), ages)))


def test_without_any_end_of_a_kind():
    rng = np.random.default_rng(2)
    index, follow = rng.normal(0, 1, 500), np.full(500, 365.0)
    days, never = rng.uniform(1, 100, 500), np.full(500, np.nan)
    only_lost = Maturing(HORIZON).fit(index, never, np.where(rng.random(500) < 0.5, days, np.nan), follow)
    np.testing.assert_array_equal(only_lost.chances(index, np.full(500, 10.0)), 0.0)
    only_won = Maturing(HORIZON).fit(index, np.where(rng.random(500) < 0.5, days, np.nan), never, follow)
    assert only_won.chances(index, np.full(500, 10.0)).mean() == pytest.approx(0.5, abs=0.1)


def test_nobody_may_be_left_to_ask_about():
    _, index, _, day, wins = ends(500, seed=3)
    won, lost = (np.where(kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(index, won, lost, np.full(len(index), 400.0))
    assert model.chances(np.zeros(0), np.zeros(0)).shape == (0,)


def test_rows_that_have_ended_stand_for_all_of_their_age():
    rng, _, _, day, wins = ends(30_000, seed=4)
    follow = rng.uniform(0, 400, len(day))
    seen = day <= follow
    zeros = np.zeros(len(day))
    won, lost = (np.where(seen & kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(zeros, won, lost, follow)
    weight = model.weights(zeros, follow, wins & seen, ~wins & seen)
    for low, high in ((30, 60), (60, 120), (120, HORIZON)):
        young = (follow >= low) & (follow < high)
        assert np.all(weight[young & seen] >= 1)
        # those that are open stand for those that stay open
        assert np.all((weight[young & ~seen] > 0) & (weight[young & ~seen] < 1))
        assert weight[young].sum() == pytest.approx(young.sum(), rel=0.05)
        truth = (wins & (day <= HORIZON))[young].mean()
        assert np.average((wins & seen)[young], weights=weight[young]) == pytest.approx(truth, abs=0.02)
    assert 30 <= model.half_days() <= 90
    assert model.half_days(0.99) == HORIZON


def test_rows_that_have_ended_stand_for_those_of_their_own_chance():
    rng, _, p, day, wins = ends(80_000, seed=5)
    young = rng.random(len(day)) < 0.75
    follow, zeros = np.where(young, rng.uniform(45, 135, len(day)), 300.0), np.zeros(len(day))
    seen = day <= follow
    won, lost = (np.where(seen & kind, day, np.nan) for kind in (wins, ~wins))
    model = Maturing(HORIZON).fit(zeros, won, lost, follow)
    weight = model.weights(zeros, follow, wins & seen, ~wins & seen)
    late = wins & (day <= HORIZON)
    steep, _ = np.polyfit(p[young], (wins & seen)[young], 1, w=np.sqrt(weight[young]))
    true, _ = np.polyfit(p[young], late[young], 1)
    assert steep == pytest.approx(true, abs=0.025)
    assert np.corrcoef(p[young], weight[young])[0, 1] == pytest.approx(0.0, abs=0.02)


def test_without_a_failure_no_success_is_told_by_rows_that_are_open():
    _, _, _, day, wins = ends(5000, seed=6)
    zeros, follow = np.zeros(len(day)), np.full(len(day), 300.0)
    model = Maturing(HORIZON).fit(zeros, np.where(wins, day, np.nan), np.full(len(day), np.nan), follow)
    assert model.half_days() == HORIZON
    weight = model.weights(zeros, np.full(len(day), 60.0), wins, ~wins)
    assert np.all(weight[~wins] == 0)
