"""The worlds that intervals are measured in tell the truth of themselves, and coverage is counted as it says."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """The benchmark and its worlds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import _coverage_worlds
        import interval_coverage

        yield _coverage_worlds, interval_coverage
    for name in ("_coverage_worlds", "interval_coverage"):
        del sys.modules[name]


def test_what_a_world_says_is_true_of_it_is(modules):
    worlds, _ = modules
    rows = pd.concat([worlds.draw(seed, partners=900).rows.assign(world=seed) for seed in range(3)], ignore_index=True)
    rows["tenth"] = pd.qcut(rows["truth"], 10, labels=False)
    for _, part in [("all", rows), *rows.groupby("tenth"), *rows.groupby("world")]:
        # a partner's rows go together
        off = (part["y"] - part["truth"]).groupby([part["world"], part["partner"]]).sum()
        assert abs(off.sum()) < 4.5 * np.sqrt((off**2).sum())
    # not so of a truth that is a little off
    off = (rows["y"] - 1.1 * rows["truth"]).groupby([rows["world"], rows["partner"]]).sum()
    assert abs(off.sum()) > 4.5 * np.sqrt((off**2).sum())


def test_features_know_nothing_of_the_month_that_they_stand_at(modules):
    worlds, _ = modules
    world = worlds.draw(3, partners=300)
    month = world.rows["month"].to_numpy()
    assert (world.X["recency"] >= 1).all()
    assert (world.X["active_ever"] <= month).all()
    assert (world.X["active_1m"] == (world.X["recency"] == 1)).all()
    assert (world.X["active_3m"] > 0).all()


def test_coverage_is_a_share_of_bins_with_an_error_by_world(modules):
    _, benchmark = modules
    bins = pd.DataFrame(
        {
            "world": np.repeat(np.arange(20), 5),
            "truth": np.repeat(np.arange(20) % 4 == 0, 5) * 1.0,
            "low": -0.5,
            "high": 0.5,
        }
    )
    share, error = benchmark.coverage(bins)
    assert share == 0.75
    # all five bins of a world go together: twenty draws, not a hundred
    assert error == pytest.approx(np.sqrt(0.75 * 0.25 / 19))
    assert benchmark.wilson(np.array([1.0] * 10 + [0.0] * 30)) == pytest.approx((0.1557, 0.3760), abs=2e-4)
