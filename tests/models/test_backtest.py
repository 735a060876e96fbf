"""The backtest never looks ahead: neither in fitting, nor in choosing weights, nor in calibrating."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.errors import InputError
from partnerml.models import LogLogistic, metrics
from partnerml.models._backtest import BaseRate, backtest, blended, by_groups, choose, embargoed, replay, rolling_origin
from partnerml.models._calibration import PlattCalibrator

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


def backtested(rows, folds=None, **more):
    return backtest(
        rows[["x", "noise"]],
        rows["y"],
        rows["partner"],
        as_of=rows["as_of"],
        folds=rolling_origin(rows["as_of"], gap=GAP) if folds is None else folds,
        gap=GAP,
        learners={
            "good": lambda X, y, cut: LogLogistic().fit(X[["x"]], y),
            "bad": lambda X, y, cut: LogLogistic().fit(X[["noise"]], y),
        },
        baselines={"base_rate": BaseRate.learn},
        **more,
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


@pytest.mark.parametrize(("calibrated_on", "cuts"), [(None, 1), (350, 1), (351, 2), (10**9, 99)])
def test_a_line_is_fitted_on_as_many_of_the_latest_cuts_as_it_takes_rows(calibrated_on, cuts):
    more = {} if calibrated_on is None else {"calibrated_on": calibrated_on}
    seen = backtested(world(partners=350), **more)
    choice, default = choose(seen, seen.cuts, seen.y), choose(backtested(world(partners=350)), seen.cuts, seen.y)
    assert choice.weights == default.weights  # which are chosen on cuts of their own number
    latest = seen.at(seen.cuts[-cuts:])
    raw = blended({name: seen.log_odds[name].to_numpy()[latest] for name in seen.log_odds}, choice.weights)
    assert choice.calibration == PlattCalibrator.fit(raw, seen.y[latest])


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


@settings(max_examples=50)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=40), st.integers(1, 60), st.integers(0, 90), st.booleans())
def test_an_embargo_keeps_training_rows_further_away(days, gap, embargo, censored):
    as_of = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(days, unit="D"))
    # a task that takes censored rows for what they are fits on all that came before the cut
    reach = 0 if censored else gap
    folds = rolling_origin(as_of, gap=pd.Timedelta(days=reach))
    found = embargoed(folds, as_of, gap=pd.Timedelta(days=gap), embargo=pd.Timedelta(days=embargo))
    told = {fold.cut: fold for fold in found}
    for fold in folds:
        cut = (fold.cut - pd.Timestamp("2024-01-01", tz="UTC")).days
        rule = gap if all(days[k] + gap <= cut for k in fold.train) else 0
        expected = [k for k in fold.train if days[k] + rule + embargo <= cut]
        assert (told[fold.cut].train.tolist() if fold.cut in told else []) == expected
        assert fold.cut not in told or told[fold.cut].test.tolist() == fold.test.tolist()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=8, max_size=60), st.integers(2, 4))
def test_by_groups_nobody_is_predicted_by_a_model_that_saw_it_and_every_row_is_predicted_once(drawn, n_groups):
    owner = pd.Series([f"P{who}" for who, _ in drawn])
    as_of = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta([30 * k for _, k in drawn], unit="D"))
    folds = rolling_origin(as_of, gap=pd.Timedelta(days=30))
    if owner.nunique() < n_groups:
        with pytest.raises(InputError, match=rf"at most one a partner, {owner.nunique()}; got {n_groups}"):
            by_groups(folds, owner, n_groups=n_groups)
        return
    parts = by_groups(folds, owner, n_groups=n_groups, seed=3)
    group = dict(
        zip(sorted(owner.unique()), np.random.default_rng(3).permutation(owner.nunique()) % n_groups, strict=True)
    )
    assert np.ptp(np.bincount(list(group.values()))) <= 1
    expected = []
    for fold in folds:
        for number in range(n_groups):
            train = [k for k in fold.train if group[owner[k]] != number]
            test = [k for k in fold.test if group[owner[k]] == number]
            if train and test:
                expected.append((fold.cut, train, test))
    assert [(part.cut, part.train.tolist(), part.test.tolist()) for part in parts] == expected
    assert all(not set(owner[part.train]) & set(owner[part.test]) for part in parts)


def test_a_replay_by_groups_judges_the_same_rows_and_does_not_reward_knowing_a_partner():
    rows = world(months=8, partners=150)
    # a partner's own level, which its name gives away to whoever saw it
    level = np.random.default_rng(1).normal(0, 2, size=150)
    rows["noise"] = np.tile(np.arange(150.0), 8)
    y = np.random.default_rng(2).random(len(rows)) < 1 / (1 + np.exp(-level[rows["noise"].astype(int)]))
    rows["y"] = y.astype(float)

    def learn(X, y, cut):
        return _Memory(y.groupby(X["noise"]).mean())

    folds = rolling_origin(rows["as_of"], gap=GAP)
    common = {"as_of": rows["as_of"], "gap": GAP, "learners": {"memory": learn}, "baselines": {"b": BaseRate.learn}}
    found = {}
    for name, chosen in (("again", folds), ("never", by_groups(folds, rows["partner"], n_groups=5))):
        seen = backtest(rows[["noise"]], rows["y"], rows["partner"], folds=chosen, **common)
        judged, said = replay(seen)
        found[name] = metrics(seen.y[judged], said["model"].to_numpy())
    assert found["again"]["n"] == found["never"]["n"]
    assert found["again"]["auc"] > 0.7
    assert abs(found["never"]["auc"] - 0.5) < 0.08


class _Memory:
    """Gives each partner its share in training, and a stranger the mean."""

    def __init__(self, shares):
        self.shares = shares

    def decision_function(self, X):
        known = X["noise"].map(self.shares).fillna(self.shares.mean())
        return np.log((known + 0.1) / (1.1 - known)).to_numpy()
