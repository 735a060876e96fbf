"""Champion against challenger: the decision is that of the paired interval, and simplicity breaks a tie only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from tests.models.made_up_models import made_up

from partnerml.models import Blend
from partnerml.models._challenge import EQUAL, Contest, decide, enough, size_of
from partnerml.models._evaluate import paired_difference


def rows(n: int = 600, *, ours: float = 1.0, theirs: float = 1.0, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Labels of a logistic truth, and two models that know it with some sharpness."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=n)
    return pd.DataFrame(
        {
            "y": (generator.random(n) < expit(z)).astype(float),
            "score": expit(ours * z),
            "champion": expit(theirs * z + shift),
            "cluster": [f"p{place // 2:04d}" for place in range(n)],
            "weight": 1.0,
            "as_of": pd.Timestamp("2026-01-01", tz="UTC"),
        }
    )


def simpler():
    model = made_up()
    part = {"logistic": model.blend.components["logistic"]}
    return dataclasses.replace(model, blend=Blend(part, {"logistic": 1.0}), hazard=None)


def test_the_better_one_wins_either_way():
    found = decide(rows(theirs=-1.0), model=made_up(), champion=made_up(1), which="fresh", n_boot=300)
    assert (found.promoted, found.verdict) == (True, "better")
    assert found.champion == made_up(1).version
    assert found.difference.high < 0
    assert found.reason.startswith("better than the champion: log loss 0.")
    assert "on 600 rows of 2026-01-01 to 2026-01-01, after the champion's training ended" in found.reason
    assert found.rows == {
        "which": "fresh",
        "rows": 600,
        "clusters": 300,
        "first": "2026-01-01T00:00:00+00:00",
        "last": "2026-01-01T00:00:00+00:00",
    }
    lost = decide(rows(ours=-1.0), model=made_up(), champion=made_up(1), which="replayed", n_boot=300)
    assert (lost.promoted, lost.verdict) == (False, "worse")
    assert "(the replays of both)" in lost.reason


def test_equal_ones_change_places_only_for_simplicity():
    even = rows()
    assert size_of(simpler())["components"] == 1 < size_of(made_up())["components"] == 3
    for model, champion, promoted, verdict in (
        (simpler(), made_up(), True, "simpler"),
        (made_up(), simpler(), False, "undecided"),
        (made_up(), made_up(1), False, "undecided"),
    ):
        found = decide(even, model=model, champion=champion, which="fresh", n_boot=50)
        assert (found.promoted, found.verdict) == (promoted, verdict)
    assert (
        "1 components against 3, 6 columns against 6"
        in decide(even, model=simpler(), champion=made_up(), which="fresh", n_boot=50).reason
    )


def test_what_is_only_not_surely_worse_is_not_equal():
    """Few rows make every interval hold 0: that is ignorance, and no case for the simpler one."""
    found = decide(rows(80, ours=0.4, seed=3), model=simpler(), champion=made_up(), which="fresh", n_boot=400)
    assert found.difference.low < 0 < found.difference.high
    assert found.difference.high > EQUAL * found.difference.other
    assert (found.promoted, found.verdict) == (False, "undecided")
    assert found.reason.startswith("not surely better than the champion")


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(-1.5, 1.5), st.floats(-0.5, 0.5))
def test_the_decision_is_that_of_the_paired_interval(seed, sharp, shift):
    table = rows(200, ours=sharp, shift=shift, seed=seed)
    table["weight"] = np.random.default_rng(seed).uniform(0.5, 2.0, len(table))
    found = decide(table, model=made_up(), champion=simpler(), which="fresh", n_boot=60, seed=seed)
    expected = paired_difference(
        table["y"], table["score"], table["champion"], table["cluster"], weights=table["weight"], n_boot=60, seed=seed
    )
    assert found.difference == expected
    assert found.promoted == (expected.high < 0)  # the challenger is the larger one
    assert found.promoted == (found.verdict == "better")


def test_a_contest_is_logged_as_figures_and_as_json():
    import json

    found = decide(rows(), model=made_up(), champion=made_up(1), which="fresh", n_boot=20)
    assert found.metrics()["contest.difference"] == found.difference.difference
    assert found.metrics()["contest.rows"] == 600
    assert json.loads(json.dumps(found.to_dict()))["difference"]["low"] == found.difference.low
    without = Contest(True, "first", "the first")
    assert without.metrics() == {}
    assert without.to_dict()["difference"] is None


@pytest.mark.parametrize(("positives", "others", "told"), [(30, 30, True), (29, 400, False), (400, 29, False)])
def test_both_labels_are_needed_to_tell(positives, others, told):
    assert enough(np.repeat([1.0, 0.0], [positives, others])) is told
