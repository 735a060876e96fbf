"""Metrics against scikit-learn, bootstraps against row duplication, promotion against simulated truth."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from partnerml.errors import InputError, NotEnoughDataError
from partnerml.models import _evaluate
from partnerml.models._evaluate import (
    METRICS,
    _cluster_codes,
    _draws,
    evaluate,
    fold_table,
    intervals,
    paired_difference,
    promotable,
)
from partnerml.models._metrics import calibration_curve, gain, metrics, perfect_ece, precision_at


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _world(n=1500, partners=400, seed=0, signal=1.0):
    generator = np.random.default_rng(seed)
    level = generator.normal(size=partners)
    owner = generator.integers(0, partners, size=n)
    truth = _sigmoid(signal * level[owner] + 0.5 * signal * generator.normal(size=n) - 0.7)
    y = (generator.random(n) < truth).astype(float)
    return y, truth, np.array([f"p{i:04d}" for i in owner])


def _ece_by_hand(y, p, weights, n_bins=10):
    """Row by row: the middle of each group of equal predictions decides its bin."""
    order = np.argsort(p, kind="stable")
    bins = {}
    below = 0.0
    for value in np.unique(p):
        held = [i for i in order if p[i] == value]
        mass = sum(weights[i] for i in held)
        number = min(int((below + mass / 2) * n_bins / weights.sum() + 1e-9), n_bins - 1)
        bins[number] = bins.get(number, 0.0) + sum(weights[i] * (y[i] - value) for i in held)
        below += mass
    return sum(abs(v) for v in bins.values()) / weights.sum()


rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20), st.integers(1, 4)), min_size=2, max_size=60
)


@settings(max_examples=80)
@given(rows)
def test_metrics_equal_scikit_learn_with_ties_and_weights(drawn):
    y, p, w = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    found = metrics(y, p, w)
    assert found["brier"] == pytest.approx(brier_score_loss(y, p, sample_weight=w), abs=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=w, labels=[0, 1]), rel=1e-9)
    assert found["ece"] == pytest.approx(_ece_by_hand(y, p, w), abs=1e-12)
    assert found["base_rate"] == pytest.approx(np.average(y, weights=w))
    assert found["mean_prediction"] == pytest.approx(np.average(p, weights=w))
    assert found["n"] == len(y)
    if 0 < y.sum() < len(y):
        assert found["auc"] == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
        assert found["average_precision"] == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)
    else:
        assert np.isnan(found["auc"])


@settings(max_examples=30)
@given(rows, st.randoms())
def test_metrics_do_not_depend_on_the_order_of_the_rows(drawn, random):
    shuffled = list(drawn)
    random.shuffle(shuffled)
    one, other = (
        metrics(np.array([row[0] for row in r], float), np.array([row[1] for row in r], float))
        for r in (drawn, shuffled)
    )
    np.testing.assert_equal(one, other)


def test_metrics_weighted_by_counts_equal_metrics_of_duplicated_rows():
    y, p, _ = _world(200)
    p = p.round(2)
    counts = np.random.default_rng(3).integers(0, 4, size=len(y))
    weighted, repeated = metrics(y, p, counts), metrics(np.repeat(y, counts), np.repeat(p, counts))
    for name in METRICS:
        assert weighted[name] == pytest.approx(repeated[name], abs=1e-12), name


def test_intervals_equal_a_bootstrap_that_duplicates_rows():
    y, p, clusters = _world(300, partners=60, seed=4)
    codes, n_clusters = _cluster_codes(clusters, len(y))
    draws = np.concatenate(list(_draws(codes, n_clusters, n_boot=40, seed=9))).astype(int)
    by_hand = [roc_auc_score(np.repeat(y, d), np.repeat(p, d)) for d in draws]
    found = intervals(y, p, clusters, names=["auc"], n_boot=40, seed=9)["auc"]
    assert found.estimate == pytest.approx(roc_auc_score(y, p))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_draws_take_whole_partners_as_many_as_there_are():
    clusters = np.array(["b", "a", "b", "c", "a", "b"])
    codes, n_clusters = _cluster_codes(clusters, 6)
    draws = np.concatenate(list(_draws(codes, n_clusters, n_boot=500, seed=0)))
    assert (draws[:, clusters == "b"] == draws[:, [0]]).all()
    assert (draws[:, 1] + draws[:, 0] + draws[:, 3] == 3).all()
    assert draws[:, 0].mean() == pytest.approx(1, abs=0.15)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(3 * (1 / 3) * (2 / 3)), abs=0.1)


def test_intervals_are_those_of_the_seed_whatever_the_row_order():
    y, p, clusters = _world(400)
    shuffled = np.random.default_rng(1).permutation(len(y))
    one = intervals(y, p, clusters, n_boot=50, seed=5)
    assert one == intervals(y[shuffled], p[shuffled], clusters[shuffled], n_boot=50, seed=5)
    assert one != intervals(y, p, clusters, n_boot=50, seed=6)


def test_clustered_intervals_are_wider_than_row_intervals_where_rows_go_together():
    y, p, _ = _world(300, partners=300, seed=2)
    y, p = np.repeat(y, 5), np.repeat(p, 5)
    partners, each = np.repeat(np.arange(300), 5), np.arange(1500)
    wide = intervals(y, p, partners, names=["log_loss"], n_boot=400)["log_loss"]
    narrow = intervals(y, p, each, names=["log_loss"], n_boot=400)["log_loss"]
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(5), rel=0.2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(120):
        p = generator.uniform(0.1, 0.9, size=200)
        y = (generator.random(200) < p).astype(float)
        expected = np.mean(p * (1 - p))  # the expected Brier score of right probabilities on these rows
        found = intervals(y, p, np.arange(200), names=["brier"], n_boot=200, seed=seed)["brier"]
        covered += found.low <= expected <= found.high
    assert covered >= 105


def test_paired_difference_is_signed_model_minus_other_and_surer_than_two_intervals():
    y, truth, clusters = _world(3000, partners=900, seed=7)
    worse = _sigmoid(np.log(truth / (1 - truth)) + np.random.default_rng(1).normal(0, 0.35, size=len(y)))
    found = paired_difference(y, truth, worse, clusters, metric="log_loss")
    assert found.difference == pytest.approx(log_loss(y, truth) - log_loss(y, worse))
    assert found.high < 0
    assert found.excludes_zero
    assert found.p_value < 0.05
    alone = [intervals(y, p, clusters, names=["log_loss"], n_boot=500)["log_loss"] for p in (truth, worse)]
    assert alone[0].high > alone[1].low
    assert found.high - found.low < (alone[0].high - alone[0].low) / 2
    mirrored = paired_difference(y, worse, truth, clusters, metric="log_loss")
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert mirrored.p_value == found.p_value


def test_paired_difference_of_a_model_with_itself_is_zero():
    y, p, clusters = _world(200)
    for metric in METRICS:
        found = paired_difference(y, p, p, clusters, metric=metric, n_boot=20)
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        assert not found.excludes_zero


def test_perfect_ece_is_what_right_probabilities_show():
    p = np.random.default_rng(0).beta(1, 4, size=3000)
    simulated = perfect_ece(p, seed=1)
    generator = np.random.default_rng(99)
    shown = [metrics((generator.random(3000) < p).astype(float), p)["ece"] for _ in range(300)]
    assert simulated.mean == pytest.approx(np.mean(shown), rel=0.05)
    assert simulated.p95 == pytest.approx(np.quantile(shown, 0.95), rel=0.08)
    assert np.mean(np.array(shown) <= simulated.p95) == pytest.approx(0.95, abs=0.04)
    assert simulated.draws.tolist() == perfect_ece(p[::-1], seed=1).draws.tolist()
    y = (generator.random(3000) < p).astype(float)
    assert metrics(y, np.clip(p + 0.1, 0, 1))["ece"] > simulated.p95


def _overlapping(seed, n=300, months=8, shift=0.0):
    """Monthly rows of partners, labelled by whether any of the next three months was quiet: right up to `shift`."""
    generator = np.random.default_rng(seed)
    chance = _sigmoid(generator.normal(-2.2, 1, size=n))
    quiet = generator.random((n, months + 2)) < chance[:, None]
    y = np.stack([quiet[:, month : month + 3].any(axis=1) for month in range(months)], axis=1)
    p = np.repeat(1 - (1 - chance) ** 3, months)
    return y.ravel().astype(float), _sigmoid(np.log(p / (1 - p)) + shift), np.repeat(np.arange(n), months)


def _called_off(seeds, *, clustered=True, **world):
    off = []
    for seed in seeds:
        y, p, partner = _overlapping(seed, **world)
        given = (y, partner) if clustered else ()
        off.append(metrics(y, p)["ece"] > perfect_ece(p, *given, n_sim=200, seed=seed).p95)
    return np.mean(off)


def test_rows_that_share_what_happened_do_not_make_a_right_model_one_that_is_off():
    assert _called_off(range(40)) <= 0.15
    assert _called_off(range(40), clustered=False) > 0.4
    assert _called_off(range(10), shift=0.5) == 1


def test_the_design_effect_is_that_of_the_clusters_whatever_the_order_of_the_rows():
    y, p, partner = _overlapping(0)
    found = perfect_ece(p, y, partner, n_sim=50)
    assert 1.8 < found.design_effect < 3.2
    assert found.draws == pytest.approx(perfect_ece(p, n_sim=50).draws * np.sqrt(found.design_effect))
    order = np.random.default_rng(1).permutation(len(y))
    assert perfect_ece(p[order], y[order], partner[order], n_sim=50).to_dict() == found.to_dict()
    # the same rows, every one a partner of its own, each eight times over, and where nothing is left to chance
    apart = (np.random.default_rng(2).random(len(p)) < p).astype(float)
    assert perfect_ece(p, apart, np.arange(len(p)), n_sim=5).design_effect == pytest.approx(1, abs=0.1)
    eight = (np.repeat(values, 8) for values in (p, apart, np.arange(len(p))))
    assert perfect_ece(*eight, n_sim=5).design_effect == pytest.approx(8, rel=0.1)
    assert perfect_ece([0.0, 1.0, 1.0], [0, 1, 0], ["a", "a", "b"], n_sim=5).design_effect == 1
    curve, narrow = calibration_curve(y, p, partner), calibration_curve(y, p)
    assert ((curve["high"] - curve["low"]) > 1.2 * (narrow["high"] - narrow["low"])).all()
    for half in ({"y": y}, {"clusters": partner}):
        with pytest.raises(InputError, match="give both, or neither"):
            perfect_ece(p, **half)


def test_calibration_curve_holds_every_row_and_the_band_of_a_perfect_model():
    y, truth, _ = _world(5000, seed=3)
    curve = calibration_curve(y, truth)
    assert curve["n"].sum() == 5000
    assert curve["n"].between(490, 510).all()
    assert curve["mean_prediction"].is_monotonic_increasing
    assert (curve["n"] * curve["observed"]).sum() == pytest.approx(y.sum())
    assert curve["observed"].between(curve["low"], curve["high"]).sum() >= 8
    off = calibration_curve(y, np.clip(truth * 1.4, 0, 1))
    assert off["observed"].between(off["low"], off["high"]).sum() <= 3
    ece = (curve["n"] * (curve["observed"] - curve["mean_prediction"]).abs()).sum() / 5000
    assert metrics(y, truth)["ece"] == pytest.approx(ece)


def test_calibration_curve_of_one_value_is_one_bin():
    curve = calibration_curve([0, 1, 1, 0], [0.5] * 4)
    assert curve[["n", "mean_prediction", "observed"]].to_numpy().tolist() == [[4, 0.5, 0.5]]


def test_the_calibration_curve_with_weights_and_ties_does_not_depend_on_the_order_of_the_rows():
    y, p, _ = _world(600, seed=4)
    weights = np.random.default_rng(4).choice([0.3, 0.7, 2.1], size=600)
    order = np.random.default_rng(5).permutation(600)
    found = calibration_curve(y, p.round(1), weights=weights)
    pd.testing.assert_frame_equal(calibration_curve(y[order], p.round(1)[order], weights=weights[order]), found)


def test_gain_counts_what_the_top_catches():
    y = np.array([1, 0, 1, 0, 0, 0, 0, 1, 0, 0], dtype=float)
    p = np.linspace(0.95, 0.05, 10)
    found = gain(y, p, shares=[0.1, 0.3, 1.0])
    assert found["gain"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert found["precision"].tolist() == pytest.approx([1, 2 / 3, 0.3])
    assert found["lift"].tolist() == pytest.approx([10 / 3, 20 / 9, 1])
    assert gain(y, np.full(10, 0.3), shares=[0.2])["lift"].tolist() == pytest.approx([1.0])


def test_promotion_of_a_model_with_signal():
    y, truth, clusters = _world(3000, partners=800, seed=5)
    weak = np.full(len(y), y.mean()) * 0.8 + 0.2 * truth
    verdict = promotable(y, truth, float(y.mean()), weak, clusters, n_boot=500)
    assert verdict.promoted
    assert verdict.against_base_rate.high < 0
    assert verdict.against_simplest.other == pytest.approx(log_loss(y, weak))
    assert re.search(r"is below the \d\.\d+ of the constant base rate .* and the \d\.\d+ of recency", verdict.reason)
    assert json.loads(json.dumps(verdict.to_dict()))["promoted"] is True


def test_no_promotion_without_signal_nor_over_an_equal_ranking():
    generator = np.random.default_rng(8)
    _, p, clusters = _world(2000, seed=8)
    y = (generator.random(2000) < 0.35).astype(float)
    noise = 0.35 + (p - p.mean()) * 0.1
    verdict = promotable(y, noise, 0.35, generator.permutation(noise), clusters, n_boot=300)
    assert not verdict.promoted
    assert verdict.reason.startswith("no signal")
    assert "constant base rate" in verdict.reason
    y, truth, clusters = _world(2000, seed=8)
    equal = promotable(y, truth, float(y.mean()), truth, clusters, simplest_name="days since", n_boot=300)
    assert not equal.promoted
    assert "of days since" in equal.reason
    assert "constant base rate" not in equal.reason


def test_a_verdict_holds_the_paired_differences(monkeypatch):
    y, truth, clusters = _world(900, seed=6)
    simplest, weights = np.clip(truth + 0.1, 0, 1), np.random.default_rng(6).uniform(0, 2, size=900)
    asked = {"weights": weights, "n_boot": 200, "seed": 3}
    expected = [paired_difference(y, truth, other, clusters, **asked) for other in (np.full(900, 0.4), simplest)]
    drawn = []
    monkeypatch.setattr(_evaluate, "_draws", lambda *given, **how: drawn.append(1) or _draws(*given, **how))
    verdict = promotable(y, truth, 0.4, simplest, clusters, **asked)
    assert [verdict.against_base_rate, verdict.against_simplest] == expected
    assert len(drawn) == 1


def test_evaluate_tells_of_the_calibration_what_its_parts_tell():
    y, truth, clusters = _world(900, seed=6)
    p, weights = truth.round(2), np.random.default_rng(6).uniform(0, 2, size=900)
    for asked in ({}, {"weights": weights}):
        found = evaluate(y, {"model": p}, clusters, n_boot=5, seed=3, **asked)
        assert found["perfect_ece"] == perfect_ece(p, y, clusters, seed=3, **asked).to_dict()
        assert found["calibration"] == calibration_curve(y, p, clusters, seed=3, **asked).to_dict("records")


def test_evaluate_reports_the_model_beside_its_baselines():
    y, truth, clusters = _world(800)
    found = evaluate(y, {"model": truth, "base rate": np.full(800, 0.4)}, clusters, n_boot=60, seed=2)
    assert found["rows"] == 800
    assert found["partners"] == len(set(clusters))
    alone = intervals(y, truth, clusters, n_boot=60, seed=2)
    assert found["models"]["model"]["brier"] == alone["brier"].to_dict()
    assert found["models"]["base rate"]["auc"]["estimate"] == 0.5
    paired = paired_difference(y, truth, np.full(800, 0.4), clusters, n_boot=60, seed=2).to_dict()
    assert found["differences"] == {"base rate": found["differences"]["base rate"]}
    assert found["differences"]["base rate"]["log_loss"] == paired
    assert [row["share"] for row in found["gain"]] == [0.05, 0.1, 0.2]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1, np.nan], [0.1, 0.2, 0.3], r"labels must be 0 or 1 \(leave immature.*1 of 3 are not, the first is nan"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "first is 2.0 in row 2"),
        ([0, 1, 1], [0.1, 1.2, np.nan], r"predictions must be probabilities in \[0, 1\]; 2 of 3 are not"),
        ([0, 1], [0.1], r"labels \(2,\), predictions \(1,\)"),
        ([], [], "at least one row"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(y, p, message):
    with pytest.raises(InputError, match=message):
        metrics(y, p)


def test_wrong_arguments_are_refused():
    y, p, clusters = _world(20)
    with pytest.raises(InputError, match="weights must be finite and not negative; 1 of 20"):
        metrics(y, p, np.r_[-1.0, np.ones(19)])
    with pytest.raises(InputError, match=r"no metric accuracy; known are auc, "):
        paired_difference(y, p, p, clusters, metric="accuracy")
    with pytest.raises(NotEnoughDataError, match="at least 2 partners; the 20 rows are all of 'p1'"):
        intervals(y, p, ["p1"] * 20)
    with pytest.raises(InputError, match="one partner a row, 20 in all"):
        intervals(y, p, clusters[:5])
    with pytest.raises(InputError, match=r"the subject 'model'; got logistic"):
        evaluate(y, {"logistic": p}, clusters)


@settings(max_examples=40)
@given(rows, st.sampled_from([0.05, 0.1, 0.2]))
def test_lift_is_that_of_the_gain_table_and_of_taking_ties_by_their_share(drawn, share):
    y, p, w = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    found = metrics(y, p, w)[f"lift_at_{100 * share:g}pct"]
    if not y.any():
        assert np.isnan(found)
        return
    left, caught = share * w.sum(), 0.0
    for value in np.unique(p)[::-1]:
        tied = p == value
        part = min(1.0, left / w[tied].sum())
        caught += part * (w * y)[tied].sum()
        left -= part * w[tied].sum()
    assert found == pytest.approx(caught / (share * (w * y).sum()))
    assert gain(y, p, [share], weights=w)["lift"].item() == pytest.approx(found)


def test_precision_at_k_is_the_share_among_the_first_k():
    y, p = np.array([1, 0, 1, 0, 0], dtype=float), np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    assert [precision_at(y, p, k) for k in (1, 2, 3, 5)] == pytest.approx([1, 1 / 2, 2 / 3, 2 / 5])
    assert np.isnan(precision_at(y, p, 6))
    # of four tied rows with one positive, two are taken: half of it is expected
    assert precision_at([1, 0, 0, 0], [0.5] * 4, 2) == pytest.approx(0.25)
    assert precision_at(y, p, 4, weights=[2, 1, 1, 0, 0]) == pytest.approx(3 / 4)
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        precision_at(y, p, 0)


def test_weights_are_counts_in_everything_that_is_reported():
    y, p, clusters = _world(300)
    counts = np.random.default_rng(1).integers(0, 3, size=300)
    said = {"model": p, "base_rate": np.full(300, 0.4)}
    weighted = evaluate(y, said, clusters, weights=counts, n_boot=40)
    repeated = evaluate(
        np.repeat(y, counts),
        {name: np.repeat(values, counts) for name, values in said.items()},
        np.repeat(clusters, counts),
        n_boot=40,
    )
    for name in METRICS:
        assert weighted["models"]["model"][name]["estimate"] == pytest.approx(
            repeated["models"]["model"][name]["estimate"]
        )
    for label in ("negative", "positive"):
        assert weighted["scores"][label] == pytest.approx(repeated["scores"][label])
    one, other = ([row["gain"] for row in found["gain_curves"]["model"]] for found in (weighted, repeated))
    assert one == pytest.approx(other)
    for one, other in zip(weighted["calibration"], repeated["calibration"], strict=True):
        assert (one["mean_prediction"], one["observed"]) == pytest.approx((other["mean_prediction"], other["observed"]))
    # a row that counts twice is one draw of luck, not two: the band is wider than that of rows apart
    assert perfect_ece(p, weights=counts).mean > 1.05 * perfect_ece(np.repeat(p, counts)).mean
    # and where both are rows of one partner, that is seen
    assert repeated["perfect_ece"]["design_effect"] > 1.1 * weighted["perfect_ece"]["design_effect"]
    assert weighted["perfect_ece"]["mean"] == pytest.approx(repeated["perfect_ece"]["mean"], rel=0.1)
    verdict = promotable(y, p, 0.4, p, clusters, weights=counts, n_boot=40)
    assert verdict.against_base_rate.to_dict() == weighted["differences"]["base_rate"]["log_loss"]


def test_weights_of_one_change_nothing():
    y, p, clusters = _world(300)
    said = {"model": p, "base_rate": np.full(300, 0.4)}
    one, other = (evaluate(y, said, clusters, weights=w, n_boot=20) for w in (None, np.ones(300)))
    assert one == other


def test_the_gain_tells_the_interval_of_its_lift():
    y, p, clusters = _world(800)
    found = evaluate(y, {"model": p}, clusters, n_boot=60)
    for row, name in zip(found["gain"], ("lift_at_5pct", "lift_at_10pct", "lift_at_20pct"), strict=True):
        interval = found["models"]["model"][name]
        assert (row["lift"], row["lift_low"], row["lift_high"]) == pytest.approx(tuple(interval.values()))
        assert row["lift_low"] < row["lift"] < row["lift_high"]


def test_folds_are_measured_one_by_one():
    y, p, _ = _world(300)
    cuts = pd.Series(pd.to_datetime(["2026-02-01", "2026-01-01", "2026-03-01"], utc=True)).repeat(100)
    order = np.random.default_rng(0).permutation(300)
    said = pd.DataFrame({"model": p, "base_rate": 0.4})
    table = fold_table(y[order], said.iloc[order], cuts.iloc[order], at=[5, 200])
    assert [row["as_of"] for row in table[::2]] == [f"2026-0{m}-01T00:00:00+00:00" for m in (1, 2, 3)]
    assert [row["model"] for row in table] == ["model", "base_rate"] * 3
    first = slice(100, 200)
    expected = metrics(y[first], p[first])
    assert {name: table[0][name] for name in expected} == pytest.approx(expected)
    assert table[0]["rows"] == 100
    assert table[0]["precision_at_5"] == y[first][np.argsort(-p[first])[:5]].mean()
    assert np.isnan(table[0]["precision_at_200"])
