"""Rates of peers: each group lies between its own share and the wider group; who has no record has the peers' rate."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import betabinom

from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.models import Blend, PeerRate
from partnerml.models._shrinkage import Groups, precision_of

KIND, COUNTRY = "partners__partner_type__trait__asof", "partners__country__trait__asof"
WON, CLOSED = "pair__all__won__ever", "pair__all__count__ever"
GROUPS = (KIND, COUNTRY)


def world(partners=400, rows=12, *, seed=0, spread=20.0, record=8):
    """Partners of six groups whose rates differ, and within a group as Beta with a precision of `spread`."""
    rng = np.random.default_rng(seed)
    kind, country = rng.integers(0, 3, partners), rng.integers(0, 2, partners)
    of_group = np.array([[0.2, 0.3], [0.4, 0.5], [0.3, 0.15]])[kind, country]
    rate = rng.beta(spread * of_group, spread * (1 - of_group))
    closed = rng.integers(0, record + 1, partners)
    who = np.repeat(np.arange(partners), rows)
    X = pd.DataFrame(
        {
            KIND: pd.Categorical.from_codes(kind[who], ["isv", "msp", "reseller"]),
            COUNTRY: pd.Categorical.from_codes(country[who], ["DE", "FR"]),
            WON: rng.binomial(closed, rate)[who].astype(float),
            CLOSED: closed[who].astype(float),
        }
    )
    return X, (rng.random(len(who)) < rate[who]).astype(float), who, of_group[who], rate[who]


@pytest.fixture(scope="module")
def fitted():
    X, y, who, *_ = world()
    return PeerRate(GROUPS, won=WON, closed=CLOSED).fit(X, y, partner=who)


def by_hand(X, y, precision):
    """The rates of both levels, one group at a time."""
    base = (sum(y) + 0.5) / (len(y) + 1)
    rows = list(zip(X[KIND], X[COUNTRY], y, strict=True))

    def drawn(chosen, prior, weight):
        return (sum(chosen) + weight * prior) / (len(chosen) + weight)

    kinds = {k: drawn([v for a, _, v in rows if a == k], base, precision[0]) for k in set(X[KIND])}
    return {
        (k, c): drawn([v for a, b, v in rows if (a, b) == (k, c)], kinds[k], precision[1])
        for k, c in {(a, b) for a, b, _ in rows}
    }


def test_rates_are_those_computed_by_hand():
    X, y, who, *_ = world(partners=60)
    model = PeerRate(GROUPS).fit(X, y, partner=who)
    expected = by_hand(X, y, model.precision_)
    found = model.predict_proba(X)
    for p, kind, country in zip(found, X[KIND], X[COUNTRY], strict=True):
        assert math.isclose(p, expected[kind, country], rel_tol=1e-12)
    assert model.shift_ == 0.0


def group_of(row, seen):
    """The groups of one row, everybody first: its place among those of training, else the one for new members."""
    found = [0]
    for depth in range(1, len(row) + 1):
        level = sorted({tuple(other[:depth]) for other in seen})
        found.append(level.index(row[:depth]) if row[:depth] in level else len(level) + found[-1])
    return found


CODES = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 5.0])


@settings(max_examples=50)
@given(
    st.integers(0, 3).flatmap(
        lambda depth: st.tuples(*(st.lists(st.tuples(*[CODES] * depth), min_size=1, max_size=12) for _ in range(2)))
    )
)
def test_groups_are_those_of_a_search_one_row_at_a_time(drawn):
    seen, asked = drawn
    codes = [np.array(rows, dtype=float).reshape(len(rows), len(seen[0])) for rows in drawn]
    groups = Groups.learn(np.where(codes[0] < 0, np.nan, codes[0]))
    found = groups.members(np.where(codes[1] < 0, np.nan, codes[1]))
    np.testing.assert_array_equal(np.column_stack(found), [group_of(row, seen) for row in asked])
    again = Groups.of(groups.levels)
    assert all(np.array_equal(*parents) for parents in zip(groups.parents, again.parents, strict=True))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1)), min_size=1, max_size=40),
)
def test_a_rate_lies_between_its_own_share_and_that_of_the_wider_group(rows):
    X = pd.DataFrame({KIND: [kind for kind, _ in rows]})
    y = np.array([float(label) for _, label in rows])
    model = PeerRate([KIND]).fit(X, y)
    base = (y.sum() + 0.5) / (len(y) + 1)
    for kind, p in zip(X[KIND], model.predict_proba(X), strict=True):
        own = y[(X[KIND] == kind).to_numpy()].mean()
        assert min(own, base) - 1e-12 <= p <= max(own, base) + 1e-12
    assert np.all(np.isfinite(model.decision_function(X)))


def test_the_precision_is_the_mode_of_its_posterior():
    rng = np.random.default_rng(3)
    n, prior = rng.integers(2, 30, 300).astype(float), rng.uniform(0.2, 0.5, 300)
    s = betabinom.rvs(n.astype(int), 15 * prior, 15 * (1 - prior), random_state=rng).astype(float)
    found = precision_of(s, n, prior)
    assert 11 < found < 20

    def believed(m):
        return betabinom.logpmf(s, n, m * prior, m * (1 - prior)).sum() - 0.5 * (math.log(m / 20) / 1.5) ** 2

    step = math.exp(math.log(4096) / 120)
    assert believed(found) >= max(believed(found * step), believed(found / step))
    # groups that do not differ are drawn together, and single cases say nothing of how they differ
    alike = rng.binomial(40, 0.3, 300).astype(float)
    assert precision_of(alike, np.full(300, 40.0), np.full(300, 0.3)) > 150
    assert precision_of(np.array([0.0, 1.0] * 50), np.ones(100), np.full(100, 0.5)) == pytest.approx(20, rel=0.05)


def test_who_has_no_record_has_the_rate_of_its_peers(fitted):
    X, _, _, of_group, rate = world(seed=9)
    new = X.assign(**{WON: 0.0, CLOSED: 0.0})
    at = fitted.predict_proba(new)
    assert np.abs(at - of_group).max() < 0.06
    unknown = fitted.predict_proba(X.assign(**{WON: np.nan, CLOSED: np.nan}))
    np.testing.assert_array_equal(at, unknown)
    # and a record moves it toward what the partner really wins
    error, without = fitted.predict_proba(X) - rate, at - rate
    assert np.mean(error**2) < 0.9 * np.mean(without**2)


def test_the_spread_is_how_far_new_partners_lie_from_the_rate(fitted):
    X, _, _, _, rate = world(partners=4000, rows=1, seed=11)
    new = X.assign(**{WON: 0.0, CLOSED: 0.0})
    said = np.sqrt(np.mean(fitted.deviation(new) ** 2))
    there = np.sqrt(np.mean((rate - fitted.predict_proba(new)) ** 2))
    assert said == pytest.approx(there, rel=0.15)
    # with a record it is smaller, and still what it says
    many = (X[CLOSED] >= 6).to_numpy()
    said = np.sqrt(np.mean(fitted.deviation(X[many]) ** 2))
    there = np.sqrt(np.mean((rate[many] - fitted.predict_proba(X[many])) ** 2))
    assert said == pytest.approx(there, rel=0.2)
    assert said < 0.95 * np.sqrt(np.mean(fitted.deviation(new) ** 2))


def test_new_values_fall_back_on_the_wider_group(fitted):
    row = {WON: [0.0], CLOSED: [0.0]}
    strange = fitted.decision_function(pd.DataFrame({KIND: ["isv"], COUNTRY: ["JP"], **row}))
    base = logit(fitted.rates_[1][0]) + fitted.shift_  # "isv" comes first among the groups of the first column
    assert strange[0] == pytest.approx(base, abs=1e-12)
    nothing = fitted.decision_function(pd.DataFrame({KIND: ["other"], COUNTRY: [None], **row}))
    assert nothing[0] == pytest.approx(logit(fitted.rates_[0][0]) + fitted.shift_, abs=1e-12)
    assert fitted.peers(pd.DataFrame({KIND: ["isv"], COUNTRY: ["JP"], **row}))["rows"].item() == 0.0


def test_a_missing_value_is_a_group_of_its_own():
    X = pd.DataFrame({KIND: ["a"] * 40 + [None] * 40})
    model = PeerRate([KIND]).fit(X, np.repeat([0.0, 1.0], 40))
    low, high = model.predict_proba(pd.DataFrame({KIND: ["a", None]}))
    assert low < 0.3 < 0.7 < high


def test_a_record_that_tells_the_wrong_way_is_left_out_and_the_mean_stays():
    rng = np.random.default_rng(6)
    closed = rng.integers(5, 30, 2000).astype(float)
    won = rng.binomial(closed.astype(int), 0.7).astype(float)
    won[:1000] = closed[:1000] * 0.1
    # who won little before wins more now, and most rows have a record below the usual
    y = (rng.random(2000) < np.where(np.arange(2000) < 1000, 0.35, 0.05)).astype(float)
    model = PeerRate(won=WON, closed=CLOSED).fit(pd.DataFrame({WON: won, CLOSED: closed}), y)
    assert model.slope_ == 0.0
    assert model.predict_proba(pd.DataFrame({WON: won, CLOSED: closed})).mean() == pytest.approx(y.mean(), abs=0.002)


def test_effects_add_up_and_the_state_is_text(fitted):
    X, *_ = world(partners=50, seed=4)
    effects = fitted.contributions(X)
    assert effects.shape == (len(X), 5)
    np.testing.assert_array_equal(effects.sum(axis=1), fitted.decision_function(X))
    assert np.all(effects[:, 3] == 0)
    again = PeerRate.from_state(json.loads(json.dumps(fitted.to_state())))
    for made, loaded in ((fitted, again), (Blend({"p": fitted}, {"p": 1.0}), Blend({"p": again}, {"p": 1.0}))):
        np.testing.assert_array_equal(made.decision_function(X), loaded.decision_function(X))
    np.testing.assert_array_equal(fitted.deviation(X), again.deviation(X))
    assert json.dumps(again.to_state()) == json.dumps(fitted.to_state())
    blend = Blend({"p": fitted}, {"p": 1.0})
    state = json.loads(json.dumps(blend.to_state()))
    np.testing.assert_array_equal(Blend.from_state(state).decision_function(X), blend.decision_function(X))


def test_without_groups_and_records_it_is_the_base_rate():
    X = pd.DataFrame(index=range(9))
    model = PeerRate().fit(X, np.repeat([0.0, 1.0], [6, 3]))
    np.testing.assert_allclose(model.predict_proba(X), 0.35)
    # labels that are all the same leave it finite, and so does a single row
    only = PeerRate([KIND]).fit(pd.DataFrame({KIND: ["a"]}), [1.0])
    assert 0.5 < only.predict_proba(pd.DataFrame({KIND: ["a"]}))[0] < 1.0


def test_weights_count_rows():
    X, y, who, *_ = world(partners=40)
    twice = pd.concat([X, X.iloc[:100]], ignore_index=True)
    a = PeerRate(GROUPS).fit(twice, np.append(y, y[:100]), partner=np.append(who, who[:100]))
    b = PeerRate(GROUPS).fit(X, y, partner=who, sample_weight=np.where(np.arange(len(y)) < 100, 2.0, 1.0))
    np.testing.assert_allclose(a.decision_function(X), b.decision_function(X), rtol=1e-12)


def test_what_is_wrong_is_said():
    with pytest.raises(ConfigError, match="both columns, won and closed"):
        PeerRate(won=WON)
    with pytest.raises(NotEnoughDataError, match="at least one row whose outcome is known"):
        PeerRate([KIND]).fit(pd.DataFrame({KIND: []}), [])
