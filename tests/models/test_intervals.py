"""Intervals of score groups: coverage in worlds with known truth, the algebra by brute force, what must not matter."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, ndtr

from partnerml.errors import InputError
from partnerml.models import GroupIntervals, PlattCalibrator, group_intervals
from partnerml.models import _intervals as inner

GAP = pd.Timedelta(days=92)


def cuts_of(folds):
    return pd.date_range("2024-01-01", periods=folds, freq="MS", tz="UTC").as_unit("us")


def world(seed, *, folds=6, partners=500, drift=0.1, calibrated=True):
    """Monthly folds of a world whose level wanders, each forecast calibrated on the fold three months before; one more.

    Returns the rows of the folds, and scores and truth three months after the last.
    """
    generator = np.random.default_rng(seed)
    months = folds + 6
    wander = np.cumsum(generator.normal(0, drift, size=months))
    z = generator.normal(-1.2, 1.1, size=partners)[None, :] + 0.3 * generator.normal(size=(months, partners))
    truth = expit(z + wander[:, None])
    # a partner is much the same from one month to the next: its labels go together
    luck = ndtr(0.8 * generator.normal(size=partners)[None, :] + 0.6 * generator.normal(size=z.shape))
    y = (luck < truth).astype(float)
    lines = [PlattCalibrator.fit(z[k], y[k]) if calibrated else PlattCalibrator() for k in range(months - 3)]
    p = expit(np.array([lines[k - 3].apply(z[k]) for k in range(3, months)]))
    rows = {
        "y": y[3 : folds + 3].ravel(),
        "p": p[:folds].ravel(),
        "cuts": np.repeat(cuts_of(folds), partners),
        "clusters": np.tile(np.arange(partners), folds),
    }
    return rows, p[-1], truth[-1]


def learnt(rows, **settings_):
    return group_intervals(rows["y"], rows["p"], rows["cuts"], rows["clusters"], gap=GAP, **settings_)


def test_ninety_in_a_hundred_intervals_hold_the_mean_probability_of_their_group():
    held = []
    for seed in range(32):
        rows, scores, truth = world(seed)
        found = learnt(rows, max_groups=3)
        group = found.group_of(scores)
        table = found.table(scores)
        for place, low, high in zip(np.unique(group), table["low"], table["high"], strict=True):
            held.append((seed, low <= truth[group == place].mean() <= high))
    share = pd.DataFrame(held, columns=["seed", "held"]).groupby("seed")["held"].mean()
    assert len(held) >= 80
    assert share.mean() == pytest.approx(0.9, abs=3 * share.std() / np.sqrt(len(share)))
    assert 0.8 < share.mean() < 0.98


def test_drift_widens_the_interval_and_more_rows_narrow_it():
    def width(**changes):
        found = [learnt(world(seed, **changes)[0], max_groups=3) for seed in range(4)]
        return np.mean([group.high - group.low for one in found for group in one.groups])

    calm, stormy = width(drift=0.0), width(drift=0.4)
    assert stormy > 1.5 * calm
    assert width(drift=0.0, partners=2000) < 0.9 * calm
    rows, *_ = world(3)
    assert all(
        narrow.shift_low > wide.shift_low and narrow.shift_high < wide.shift_high
        for narrow, wide in zip(learnt(rows, level=0.5).groups, learnt(rows).groups, strict=True)
    )


def test_a_model_that_is_always_off_is_corrected():
    rows, scores, truth = world(1, folds=8, partners=1500, drift=0.0, calibrated=False)
    rows["p"] = expit(logit(rows["p"]) + 0.4)
    found = learnt(rows, max_groups=4, calibrated=False)
    low, high = found.interval(expit(logit(scores) + 0.4))
    assert low.mean() <= truth.mean() <= high.mean()
    assert all(group.shift_high < 0 for group in found.groups)
    assert all(group.observed < group.mean_prediction for group in found.groups)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=60, max_size=200), st.integers(5, 20))
def test_groups_hold_every_score_enough_rows_and_no_score_twice(drawn, min_rows):
    y, p = np.array([row[0] for row in drawn], float), np.array([row[1] / 12 for row in drawn])
    rows = inner._rows(y, p, cuts_of(3)[np.arange(len(y)) % 3], np.arange(len(y)) % 17, None)
    edges = inner._edges(rows, min_rows=min_rows, max_groups=10)
    group = np.searchsorted(edges, rows.p, side="left")
    assert (np.diff(edges) > 0).all()
    assert len(edges) < 10
    counts, positives = (np.bincount(group, weights=w, minlength=len(edges) + 1) for w in (None, rows.y))
    if len(edges):
        assert counts.min() >= min_rows
        assert np.minimum(positives, counts - positives).min() >= 20
    assert all(len(np.unique(group[rows.p == score])) == 1 for score in np.unique(rows.p))


def test_every_score_lies_in_one_group_and_certainty_that_was_wrong_is_survived():
    y, p = np.arange(300) % 2 * 1.0, np.repeat([0.0, 0.5, 1.0], 100)
    found = group_intervals(y, p, cuts_of(3)[np.arange(300) % 3], np.arange(300) % 17, gap=GAP, min_rows=50)
    groups = found.groups
    assert len(groups) == 3
    assert (groups[0].above, groups[-1].up_to) == (0, 1)
    assert [group.up_to for group in groups[:-1]] == [group.above for group in groups[1:]]
    assert all(0 < group.low < 0.5 < group.high < 1 for group in groups)
    scores = np.linspace(0, 1, 41)
    for score, at in zip(scores, found.group_of(scores), strict=True):
        assert at == 0 or groups[at].above < score
        assert score <= groups[at].up_to


def test_the_interval_of_a_group_is_the_mean_over_its_rows():
    rows, *_ = world(4)
    found = learnt(rows, max_groups=4)
    assert len(found.groups) == 4
    table = found.table(rows["p"])
    for name, other in (("above", "above"), ("up_to", "up_to"), ("rows", "rows"), ("low", "low"), ("high", "high")):
        assert table[name].tolist() == pytest.approx([getattr(group, other) for group in found.groups])
    assert table["mean_score"].tolist() == pytest.approx([group.mean_prediction for group in found.groups])
    low, high = found.interval([0.0, 0.2, 1.0])
    assert ((low >= 0) & (low < high) & (high <= 1)).all()
    assert len(found.table(np.array([0.99]))) == 1


def test_neither_order_nor_names_of_rows_matter_nor_rows_without_weight():
    rows, *_ = world(5, partners=150)
    one = learnt(rows)
    order = np.random.default_rng(0).permutation(len(rows["y"]))
    shuffled = {name: np.asarray(values)[order] for name, values in rows.items()}
    shuffled["clusters"] = np.array([f"p{name:04d}" for name in shuffled["clusters"]])
    assert learnt(shuffled) == one
    # a weight says how rows count beside each other, not how many there are
    assert learnt(rows, weights=np.full(len(rows["y"]), 2.0)) == one
    extra = {name: np.concatenate([values, values[:40]]) for name, values in rows.items()}
    ignored = learnt(extra, weights=np.r_[np.ones(len(rows["y"])), np.zeros(40)])
    assert ignored == one


def test_it_is_saved_as_plain_values():
    rows, *_ = world(6, partners=150)
    found = learnt(rows)
    assert GroupIntervals.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert set(found.spread) == {"level", "slope", "group", "shape"}


def test_one_fold_and_hardly_any_positives_still_give_an_honest_interval():
    y, p = np.zeros(400), np.full(400, 0.01)
    y[:3] = 1
    found = group_intervals(y, p, np.repeat(cuts_of(1), 400), np.arange(400), gap=GAP)
    (group,) = found.groups
    assert group.low < 0.0075 < group.high
    assert group.high / group.low > 1.8


def test_wrong_arguments_are_refused():
    rows, *_ = world(0, partners=20)
    with pytest.raises(InputError, match=r"level must lie between 0 and 1, got 90"):
        learnt(rows, level=90)
    with pytest.raises(InputError, match="a cut and a cluster a row are needed, 120; got 119 and 120"):
        group_intervals(rows["y"], rows["p"], rows["cuts"][1:], rows["clusters"], gap=GAP)
    with pytest.raises(InputError, match="none of the 120 rows has a weight above 0"):
        learnt(rows, weights=np.zeros(120))
