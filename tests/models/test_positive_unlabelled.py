import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests import made_up_accounts as made

from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models import BaggedPositiveUnlabelled, ClassPrior, balanced_weights, metrics, prior_range

FAST = {"n_bags": 4, "n_estimators": 40, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def sample():
    """1,500 companies, a third of the good ones labelled, and bags fitted on them."""
    frame, log_odds = made.companies(1500)
    positive = made.drawn(log_odds)
    labelled = made.some(positive, 1 / 3)
    X = made.features(frame)
    return X, labelled, log_odds, BaggedPositiveUnlabelled(**FAST).fit(X, labelled)


@parametrize_with_checks([BaggedPositiveUnlabelled(n_bags=2, n_estimators=8, min_child_samples=3)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_it_ranks_by_what_makes_a_company_a_partner(sample):
    X, _, _, _ = sample
    frame, log_odds = made.companies(3000, seed=5)
    y = made.drawn(log_odds, seed=5).astype(float)
    said = sample[3].decision_function(made.features(frame))
    best, ours = (metrics(y, expit(one))["auc"] for one in (log_odds, said))
    assert best - 0.03 < ours <= best + 0.005
    assert list(sample[3].feature_names_in_) == list(X.columns)


def test_log_odds_are_the_density_ratio_of_labelled_and_unlabelled(sample):
    """Two groups of companies: the ratio of how frequent they are on both sides is known exactly."""
    rng = np.random.default_rng(0)
    kind = np.where(rng.random(4000) < 0.3, "a", "b")
    labelled = (rng.random(4000) < np.where(kind == "a", 0.3, 0.05)).astype(float)
    X = pd.DataFrame({"kind": pd.Categorical(kind)})
    fitted = BaggedPositiveUnlabelled(n_bags=6, n_estimators=200, learning_rate=0.1, reg_lambda=0.0).fit(X, labelled)
    said = fitted.decision_function(X)
    for group in "ab":
        share = [(kind[labelled == side] == group).mean() for side in (1, 0)]
        assert said[kind == group].mean() == pytest.approx(np.log(share[0] / share[1]), abs=0.15)


def test_contributions_add_up_and_the_state_is_text(sample):
    X, _, _, fitted = sample
    said = fitted.decision_function(X)
    np.testing.assert_allclose(fitted.contributions(X).sum(axis=1), said, atol=1e-9)
    np.testing.assert_allclose(fitted.by_bag(X).mean(axis=1), said, atol=1e-12)
    assert fitted.by_bag(X).std(axis=1).min() > 0
    again = BaggedPositiveUnlabelled.from_state(json.loads(json.dumps(fitted.to_state())))
    np.testing.assert_array_equal(again.decision_function(X[reversed(X.columns)]), said)
    assert again.to_state() == fitted.to_state()


def test_the_same_rows_and_seed_give_the_same_bags_whatever_the_threads(sample):
    X, labelled, _, _ = sample
    few = {"n_bags": 2, "n_estimators": 8}
    fitted, threads, other = (
        BaggedPositiveUnlabelled(**few, **more).fit(X, labelled).to_state()
        for more in ({}, {"n_jobs": 2}, {"random_state": 1})
    )
    assert threads == fitted
    assert other["bags"] != fitted["bags"]


def test_out_of_bag_scores_are_of_bags_that_have_not_seen_the_row(sample):
    X, labelled, _, fitted = sample
    held = fitted.out_of_bag(X)
    assert np.isnan(held[labelled == 1]).all()
    by_bag = fitted.by_bag(X)
    for row in np.flatnonzero(labelled == 0)[:50]:
        unseen = fitted.outside_[:, row]
        expected = by_bag[row, unseen].mean() if unseen.any() else np.nan
        assert held[row] == pytest.approx(expected, nan_ok=True)
    # a bag holds all labelled rows, and twice as many of the others
    inside = ~fitted.outside_
    assert inside[:, labelled == 1].all()
    assert (inside[:, labelled == 0].sum(axis=1) == 2 * labelled.sum()).all()
    with pytest.raises(ModelError, match="not of these 10"):
        fitted.out_of_bag(X.head(10))


def test_some_unlabelled_rows_stay_outside_however_few_there_are():
    frame, _ = made.companies(60)
    fitted = BaggedPositiveUnlabelled(n_bags=3, n_estimators=3).fit(made.features(frame), np.arange(60) >= 6)
    assert (fitted.outside_.sum(axis=1) == 2).all()


def test_wrong_input_is_refused(sample):
    X, labelled, _, _ = sample
    with pytest.raises(NotEnoughDataError, match="two classes are needed"):
        BaggedPositiveUnlabelled(**FAST).fit(X, np.zeros(len(X)))
    with pytest.raises(ConfigError, match="n_bags must be at least 1 and ratio above 0; got 0 and 2"):
        BaggedPositiveUnlabelled(n_bags=0).fit(X, labelled)


def test_balanced_weights_make_both_sides_count_alike():
    weight = balanced_weights(np.array([1, 0, 0, 0, 1, 0]))
    assert weight.tolist() == [1, 0.5, 0.5, 0.5, 1, 0.5]


@settings(max_examples=25)
@given(prior=st.floats(0.01, 0.9), scale=st.floats(0.3, 3.0), shift=st.floats(-2.0, 2.0), seed=st.integers(0, 2**16))
def test_the_mean_probability_is_the_class_prior(prior, scale, shift, seed):
    ratio = np.random.default_rng(seed).normal(shift, scale, 400)
    line = ClassPrior.fit(ratio * 1.7 - 0.4, ratio, prior)
    assert line.mean == pytest.approx(prior, abs=5e-3)
    assert line.line.slope > 0
    assert line.to_dict()["prior"] == prior


def test_under_random_labels_the_line_gives_the_true_probability():
    """Labels at random and densities known: the line finds P(positive | x, unlabelled)."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, 40_000)
    p = expit(1.5 * x - 1.5)
    positive = rng.random(len(x)) < p
    labelled = positive & (rng.random(len(x)) < 0.2)
    others = ~labelled
    prior = positive[others].mean()
    # the ratio of densities, from the truth
    log_ratio = np.log(p * 0.2 / labelled.mean()) - np.log((1 - 0.2 * p) / others.mean())
    line = ClassPrior.fit(log_ratio[others], log_ratio[others], prior).line
    said, true = expit(line.apply(log_ratio[others])), 0.8 * p[others] / (1 - 0.2 * p[others])
    assert np.abs(said - true).mean() < 0.03
    # moving the intercept alone, as is often done, is further off: the slope has to change as well
    shifted = _shifted_to(log_ratio[others], prior)
    assert np.abs(shifted - true).mean() > 1.5 * np.abs(said - true).mean()


def _shifted_to(log_ratio, prior):
    low, high = -20.0, 20.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(log_ratio + middle).mean() < prior else (low, middle)
    return expit(log_ratio + low)


def test_a_range_of_priors_is_told_at_both_ends_and_in_the_middle():
    low, middle, high = prior_range(0.1, 0.3)
    assert (low, high) == (0.1, 0.3)
    assert logit(middle) == pytest.approx((logit(0.1) + logit(0.3)) / 2)
    assert tuple(prior_range(0.2, 0.2)) == (0.2,)
    with pytest.raises(ConfigError, match="class_prior must lie between 0 and 1; got 1"):
        ClassPrior.fit([0.0, 1.0], [0.0, 1.0], 1.0)
