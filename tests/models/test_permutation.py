import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import success as oracle

from partnerml.errors import ModelError
from partnerml.models import permutation_values


def curved(rows):
    """A score with an interaction, a jump and nulls: no sum of its columns."""
    rows = np.asarray(rows, dtype=float)
    x = np.where(np.isnan(rows), -1.5, rows)
    return np.log1p(np.exp(x[:, 0] * x[:, 1] - 0.5 * x[:, 2])) + (x[:, 1] > 0) * x[:, 2] - 1.0


values = st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan])
matrices = st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=5).map(np.array)


@settings(max_examples=60)
@given(matrices, matrices, st.integers(0, 5))
def test_effects_add_up_to_the_last_digit(X, background, seed):
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(3) for _ in background])
    found = permutation_values(curved, X, background, orders)
    np.testing.assert_allclose(found.sum(axis=1), curved(X), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[:, -1], curved(background).mean())
    # what is equal in all of the background has no effect
    for j in range(3):
        shared = np.all((background[:, j] == X[0, j]) | (np.isnan(background[:, j]) & np.isnan(X[0, j])))
        assert not shared or found[0, j] == 0


@settings(max_examples=30)
@given(matrices, matrices)
def test_over_all_orders_they_are_shapleys_values(X, background):
    every = np.array(list(itertools.permutations(range(3))))
    starts = np.repeat(background, len(every), axis=0)
    found = permutation_values(curved, X, starts, np.tile(every, (len(background), 1)))
    for row, effects in zip(X, found, strict=True):
        expected = oracle.shapley(lambda mixed: curved([mixed])[0], row.tolist(), background.tolist())
        np.testing.assert_allclose(effects[:-1], expected, atol=1e-12)


def test_of_a_sum_one_order_is_enough():
    rng = np.random.default_rng(0)
    X, background = rng.normal(size=(50, 4)), rng.normal(size=(6, 4))
    beta = np.array([1.0, -2.0, 0.0, 0.5])
    found = permutation_values(lambda rows: rows @ beta, X, background, np.tile([2, 0, 3, 1], (6, 1)))
    np.testing.assert_allclose(found[:, :-1], beta * (X - background.mean(axis=0)), atol=1e-12)


def test_one_column_has_it_all():
    found = permutation_values(lambda rows: rows[:, 0] ** 2, np.array([[3.0]]), np.array([[1.0]]), np.array([[0]]))
    assert found.tolist() == [[8.0, 1.0]]


def test_paths_of_other_columns_are_refused():
    with pytest.raises(ModelError, match=r"orders \(1, 2\)"):
        permutation_values(curved, np.zeros((1, 3)), np.zeros((1, 3)), np.zeros((1, 2), dtype=int))
