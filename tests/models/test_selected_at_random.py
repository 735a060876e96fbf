import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from partnerml.models import selected_at_random
from partnerml.models._selected_at_random import early_late_check

CLASS_PRIOR = 0.1


def world(seed, *, by_trait, n=6000):
    """A ranking, who is labelled, and the share of hidden positives; by_trait: labels favour one kind of positive."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(0, 1, n), rng.random(n) < 0.3
    p = expit(3 * x - 3.5)
    positive = rng.random(n) < p
    chance = np.where(z, 0.6, 0.05) if by_trait else 0.215
    labelled = positive & (rng.random(n) < chance)
    hidden = positive[~labelled].mean()
    # what a classifier of labelled against unlabelled would find, from the truth
    propensity = np.where(z, 0.6, 0.05) * p if by_trait else 0.215 * p
    return np.log(propensity / (1 - propensity)), labelled, hidden


def test_a_biased_draw_is_rejected_and_a_random_one_seldom():
    biased = [selected_at_random(*world(seed, by_trait=True)[:2], prior=CLASS_PRIOR) for seed in range(10)]
    assert all(found["rejected"] for found in biased)
    assert "were not drawn at random" in biased[0]["words"]
    fair = []
    for seed in range(60):
        raw, labelled, hidden = world(seed, by_trait=False, n=2500)
        fair.append(selected_at_random(raw, labelled, prior=hidden)["rejected"])
    # 5 % at most, and 60 draws: more than 8 would come once in 500 times
    assert sum(fair) <= 8


def test_the_largest_prior_that_fits_holds_the_true_one():
    found = [(world(seed, by_trait=False), seed) for seed in range(20)]
    limits = [selected_at_random(raw, labelled)["prior_at_most"]["high"] for (raw, labelled, _), _ in found]
    assert sum(limit >= hidden for limit, ((_, _, hidden), _) in zip(limits, found, strict=True)) >= 18
    # and is no more than a few times that
    assert np.mean(limits) < 5 * np.mean([hidden for (_, _, hidden), _ in found])


def test_without_dates_or_a_prior_nothing_is_claimed():
    raw, labelled, _ = world(0, by_trait=True)
    found = selected_at_random(raw, labelled)
    assert (found["rejected"], found["p_value"], found["tests"]) == (None, None, [])
    assert "cannot be told" in found["words"]


def partners_of(seed, *, drift, n=400):
    rng = np.random.default_rng(seed)
    since = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.random(n) * 700, unit="D"))
    late = (since > since.median()).to_numpy()
    industry = np.where(rng.random(n) < np.where(late & drift, 0.7, 0.4), "it", "retail")
    X = pd.DataFrame({"industry": pd.Categorical(industry), "size": rng.lognormal(3, 1, n)})
    return X, since


def test_early_and_late_partners_that_differ_are_told_apart():
    X, since = partners_of(1, drift=True)
    check = early_late_check(X, since)
    assert check.p_value < 0.01
    assert check.statistic > 0.58
    raw, labelled = np.r_[np.zeros(400), np.ones(800)], np.r_[np.ones(400), np.zeros(800)]
    told = selected_at_random(raw, labelled, X=X, since=since)
    assert told["rejected"] is True
    assert [test["name"] for test in told["tests"]] == ["early_late"]
    # two tests: the smaller p-value counts twice
    both = selected_at_random(raw, labelled, X=X, since=since, prior=0.01)
    assert both["p_value"] == pytest.approx(min(1.0, 2 * min(test["p_value"] for test in both["tests"])))


def test_partners_that_do_not_differ_seldom_are():
    rejected = [early_late_check(*partners_of(seed, drift=False)).p_value < 0.05 for seed in range(20)]
    # more than 4 of 20 would come once in 400 times
    assert sum(rejected) <= 4


def test_too_few_dates_tell_nothing():
    X, since = partners_of(0, drift=True)
    assert early_late_check(X, since.where(since.index < 30)) is None
    assert early_late_check(X, since.where(since.index < 0)) is None
    # all on one day: there is no later half
    assert early_late_check(X, pd.Series(pd.Timestamp("2024-01-01", tz="UTC"), index=X.index)) is None
