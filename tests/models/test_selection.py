"""Weights that undo a choice, and win rates on equal terms: against brute force, and against a world that is known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from partnerml.errors import InputError
from partnerml.models import Overlap, effective_sample_size, inverse_propensity, standardised_rates

K = 8


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30), st.floats(1.5, 50.0))
def test_weights_of_propensities(propensities, at_most):
    found = inverse_propensity(propensities, at_most=at_most)
    assert found.weights.mean() == pytest.approx(1.0)
    assert 1.0 - 1e-9 <= found.effective <= len(propensities) + 1e-9
    assert found.weights.max() <= at_most * (1 + 1e-9)
    # those above the limit weigh as much as is allowed, and the others as one over their propensity
    raw = 1 / np.array(propensities)
    one = (found.weights / raw).max()
    limit = at_most / one
    np.testing.assert_allclose(found.weights, one * np.minimum(raw, limit))
    assert np.mean(raw > limit * (1 + 1e-9)) <= found.clipped <= np.mean(raw > limit * (1 - 1e-9))
    assert found.effective == pytest.approx(found.weights.sum() ** 2 / (found.weights**2).sum())


def test_unknown_propensities_weigh_as_the_mean():
    found = inverse_propensity([0.5, np.nan, 0.25])
    np.testing.assert_allclose(found.weights, [2 / 3, 1.0, 4 / 3])
    assert found.to_dict()["source"] == "logged"
    assert inverse_propensity([np.nan, np.nan]).weights.tolist() == [1.0, 1.0]
    assert effective_sample_size([]) == 0.0


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.1])
def test_impossible_propensities_are_refused(wrong):
    with pytest.raises(InputError, match=r"at most 1; 1 of 2 do not, the first is .* in row 1"):
        inverse_propensity([0.5, wrong])


def test_estimated_weights_make_the_chosen_look_like_the_reference():
    rng = np.random.default_rng(0)
    reference = pd.DataFrame({"x": rng.normal(0, 1, 6000), "z": rng.normal(0, 1, 6000)})
    chosen = reference[rng.random(6000) < expit(1.2 * reference["x"])].reset_index(drop=True)
    overlap = Overlap().fit(chosen, reference)
    found = overlap.weights(chosen)
    assert chosen["x"].mean() > 0.35
    assert abs(np.average(chosen["x"], weights=found.weights)) < 0.1
    assert 0.5 * len(chosen) < found.effective < 0.95 * len(chosen)
    assert overlap.overlaps(chosen).mean() == pytest.approx(0.99, abs=0.005)
    far = pd.DataFrame({"x": [-40.0], "z": [0.0]})
    assert not overlap.overlaps(far).any()


@functools.cache
def world(seed=0, n=6000):
    """Partners that get the leads that they are liked for; of every lead, what each of them would make of it."""
    rng = np.random.default_rng(seed)
    skill, taste = rng.normal(0, 0.3, K), rng.normal(0, 1.5, K)
    ease = rng.normal(0, 1, n)
    p = expit(-0.7 + skill + 0.9 * ease[:, None] + 0.2 * rng.normal(0, 1, (n, K)))
    policy = np.exp(taste * ease[:, None])
    policy = 0.95 * policy / policy.sum(axis=1, keepdims=True) + 0.05 / K
    chosen = (rng.random(n)[:, None] > np.cumsum(policy, axis=1)).sum(axis=1).clip(max=K - 1)
    rows = np.arange(n)
    y = (rng.random(n) < p[rows, chosen]).astype(float)
    return ease, p, chosen, policy[rows, chosen], y


def with_model(seed, *, knows_skill):
    ease, p, chosen, propensity, y = world(seed)
    design = np.column_stack([np.ones_like(ease), ease, *((np.eye(K)[chosen],) if knows_skill else ())])
    beta = np.zeros(design.shape[1])
    for _ in range(25):
        at = expit((design * beta).sum(axis=1))
        slope = (design * (y - at)[:, None]).sum(axis=0) - 0.01 * beta
        curve = (design.T * (at * (1 - at))) @ design + 0.01 * np.eye(len(beta))
        beta = beta + np.linalg.solve(curve, slope)
    own = beta[2:] if knows_skill else np.zeros(K)
    said = expit(beta[0] + own + beta[1] * ease[:, None])
    reference = pd.DataFrame({"partner_id": np.tile(np.arange(K), len(y)).astype(str), "expected": said.ravel()})
    table = standardised_rates(
        y,
        chosen.astype(str),
        said[np.arange(len(y)), chosen],
        weights=inverse_propensity(propensity, at_most=100).weights,
        reference=reference,
    )
    return table, p.mean(axis=0)


@pytest.mark.parametrize("knows_skill", [True, False])
def test_standardised_rates_have_a_third_of_the_error_taken_off_and_more(knows_skill):
    """Also where the model knows nothing of the partners: the weights make good for it."""
    errors = {name: [] for name in ("raw", "model", "doubly_robust", "standardised")}
    inside = []
    for seed in range(6):
        table, truth = with_model(seed, knows_skill=knows_skill)
        for name, collected in errors.items():
            collected.append(np.abs(table[name].to_numpy() - truth))
        inside.append((table["low"] <= truth) & (truth <= table["high"]))
    mean = {name: np.mean(collected) for name, collected in errors.items()}
    assert mean["raw"] > 0.08
    assert mean["standardised"] < 0.4 * mean["raw"]
    assert mean["doubly_robust"] < 0.5 * mean["raw"]
    assert (mean["model"] < 0.4 * mean["raw"]) or not knows_skill
    assert np.mean(inside) >= 0.9


def test_the_table_by_hand():
    rng = np.random.default_rng(2)
    n = 60
    partner = rng.choice(list("ab"), n)
    guess, y, weight = rng.uniform(0.1, 0.9, n), rng.integers(0, 2, n).astype(float), rng.uniform(0.2, 3.0, n)
    reference = pd.DataFrame({"partner_id": np.repeat(list("abc"), 20), "expected": rng.uniform(0.1, 0.6, 60)})
    reference["overlaps"] = np.tile([True, True, True, False], 15)
    table = standardised_rates(y, partner, guess, weights=weight, reference=reference).set_index("partner_id")
    assert list(table.index) == ["a", "b", "c"]
    ratios, precisions = [], []
    for name in "ab":
        mine = [i for i in range(n) if partner[i] == name]
        w = sum(weight[i] for i in mine)
        error = sum(weight[i] * (y[i] - guess[i]) for i in mine) / w
        noise = sum(weight[i] ** 2 * guess[i] * (1 - guess[i]) for i in mine) / w**2
        model = reference.loc[(reference["partner_id"] == name) & reference["overlaps"], "expected"].mean()
        assert table["rows"][name] == len(mine)
        assert table["effective"][name] == pytest.approx(w**2 / sum(weight[i] ** 2 for i in mine))
        assert table["raw"][name] == pytest.approx(np.mean([y[i] for i in mine]))
        assert table["model"][name] == pytest.approx(model)
        assert table["doubly_robust"][name] == pytest.approx(model + error)
        ratios.append((error, noise, model))
        precisions.append(1 / noise)
    missed = max(0.0, (sum(e * e / v for e, v, _ in ratios) - 2) / sum(precisions))
    for name, (error, noise, model) in zip("ab", ratios, strict=True):
        assert table["standardised"][name] == pytest.approx(model + error * missed / (missed + noise))
        assert table["low"][name] < table["standardised"][name] < table["high"][name]
    # who never had a lead has what the model says of it, and is not compared
    assert table.loc["c", ["rows", "effective"]].tolist() == [0, 0.0]
    assert math.isnan(table["raw"]["c"])
    assert table["standardised"]["c"] == table["model"]["c"]
    assert table["comparable"].tolist() == [True, True, False]
    assert table["overlap"].tolist() == [0.75] * 3
