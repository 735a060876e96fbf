"""The backtest never looks ahead: neither in fitting, nor in choosing weights, nor in calibrating."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.models import LogLogistic, metrics
from partnerml.models._backtest import BaseRate, backtest, replay, rolling_origin

GAP = pd.Timedelta(days=90)


def world(months=9, partners=200, seed=0, drift=0.0):
    """Rows whose label depends on x; the base rate drifts by `drift` in log-odds a month."""
    rng = np.random.default_rng(seed)
    as_of = pd.date_range("2024-01-01", periods=months, freq="MS", tz="UTC").as_unit("us")
    rows = pd.DataFrame(
        {
            "as_of": np.repeat(as_of, partners),
            "partner": np.tile([f"P{k:03d}" for k in range(partners)], months),
            "x": rng.normal(size=months * partners),
            "noise": rng.normal(size=months * partners),
        }
    )
    log_odds = -1.0 + 1.5 * rows["x"] + drift * np.repeat(np.arange(months), partners)
    rows["y"] = (rng.random(len(rows)) < 1 / (1 + np.exp(-log_odds))).astype(float)
    return rows


def backtested(rows):
    return backtest(
        rows[["x", "noise"]],
        rows["y"],
        rows["partner"],
        folds=rolling_origin(rows["as_of"], gap=GAP),
        gap=GAP,
        learners={
            "good": lambda X, y, cut: LogLogistic().fit(X[["x"]], y),
            "bad": lambda X, y, cut: LogLogistic().fit(X[["noise"]], y),
        },
        baselines={"base_rate": BaseRate.learn},
    )


@settings(max_examples=50)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(1, 120), st.integers(1, 5))
def test_folds_are_those_of_the_row_by_row_definition(days, gap, at_most):
    as_of = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(days, unit="D"))
    found = rolling_origin(as_of, gap=pd.Timedelta(days=gap), at_most=at_most)
    expected = []
    for cut in sorted(set(days)):
        train = [k for k, day in enumerate(days) if day + gap <= cut]
        if train:
            expected.append((train, [k for k, day in enumerate(days) if day == cut]))
    assert [(fold.train.tolist(), fold.test.tolist()) for fold in found] == expected[-at_most:]


def test_the_blend_is_as_good_as_its_best_component_and_calibrated():
    seen = backtested(world(drift=0.2))
    judged, said = replay(seen)
    y = seen.y[judged]
    ours, base = metrics(y, said["model"].to_numpy()), metrics(y, said["base_rate"].to_numpy())
    assert ours["brier"] < base["brier"] - 0.02
    assert ours["log_loss"] < base["log_loss"] - 0.05
    assert ours["log_loss"] < metrics(y, said["bad"].to_numpy())["log_loss"] - 0.05
    assert ours["log_loss"] < metrics(y, said["good"].to_numpy())["log_loss"] + 0.005
    # the base rate drifts by .2 a month and labels are known after three: no more may be missed than that drift
    assert abs(ours["mean_prediction"] - y.mean()) < 0.12


def test_what_is_said_at_a_cut_does_not_depend_on_anything_later():
    rows = world()
    judged, said = replay(backtested(rows))
    cut = sorted(rows["as_of"].unique())[-2]
    # labels of rows whose outcome is not known at the cut are turned round, later rows are thrown about
    later = (rows["as_of"] + GAP > cut).to_numpy()
    other = rows.copy()
    other.loc[later, "y"] = 1 - other.loc[later, "y"]
    other.loc[(rows["as_of"] > cut).to_numpy(), ["x", "noise"]] += 7.0
    judged_other, said_other = replay(backtested(other))
    assert (judged == judged_other).all()
    cuts = backtested(rows).cut[judged].reset_index(drop=True)
    until = (cuts <= cut).to_numpy()
    pd.testing.assert_frame_equal(said[until], said_other[until])
    assert not said[~until].equals(said_other[~until])


def test_first_cuts_without_known_cuts_are_not_judged():
    seen = backtested(world())
    judged, said = replay(seen)
    first = seen.cuts[0] + GAP
    assert (seen.cut[judged] >= first).all()
    assert len(said) == judged.sum()
    assert list(said) == ["model", "good", "bad", "base_rate"]


def test_a_short_history_is_judged_by_an_equal_blend():
    seen = backtested(world(months=5))
    judged, said = replay(seen)
    assert judged.all()
    mean = seen.log_odds.mean(axis=1).to_numpy()
    assert said["model"].to_numpy() == pytest.approx(1 / (1 + np.exp(-mean)))


def test_base_rate_is_the_share_of_positives():
    rows = world()
    fitted = BaseRate.learn(rows[["x"]], rows["y"], rows["as_of"].max())
    said = 1 / (1 + np.exp(-fitted.decision_function(rows[["x"]])))
    assert said == pytest.approx(np.full(len(rows), rows["y"].mean()))
    certain = BaseRate.learn(rows[["x"]], rows["y"] * 0, rows["as_of"].max())
    assert np.isfinite(certain.log_odds)
