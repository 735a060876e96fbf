"""Segments: figures against the metrics of their rows, errors against duplication of partners, flags against truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.models.made_up_models import COUNTRY

from partnerml.dataset import Dataset, FeatureInfo
from partnerml.errors import InputError
from partnerml.models import metrics, segment_labels, segments
from partnerml.models._segments import LESS, MISSING, OTHER, OVER, SURE, UNDER, _adjusted, _Sums

KINDS = ("country", "size", "type")
TESTS = ("bias", "excess_loss", "auc")


def world(seed=0, n=4000, partners=800, *, shift=0.0, blind=False):
    """Right probabilities of 800 partners; in AT the truth is moved by `shift`, in DE the forecast may be blind."""
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, partners, size=n)
    forecast = _sigmoid(generator.normal(size=partners)[owner] + 0.5 * generator.normal(size=n) - 0.7)
    country = generator.choice(["AT", "DE", "NA", "XX"], size=partners, p=[0.35, 0.35, 0.29, 0.01])[owner]
    labels = pd.DataFrame(
        {
            "country": country,
            "size": generator.choice(["small", "large"], size=partners)[owner],
            "type": generator.choice(list("abcd"), size=partners)[owner],
        }
    )
    truth = np.where(country == "AT", _sigmoid(np.log(forecast / (1 - forecast)) + shift), forecast)
    y = (generator.random(n) < truth).astype(float)
    return y, np.where(blind & (country == "DE"), forecast.mean(), forecast), labels, owner


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_every_row_is_in_one_segment_of_each_kind_and_measured_as_its_rows_are():
    y, p, labels, owner = world()
    found = segments(y, p, labels, owner, n_boot=50)
    assert found.groupby("segment")["rows"].sum().to_dict() == dict.fromkeys(KINDS, len(y))
    assert list(found["segment"].unique()) == list(KINDS)
    for row in found.itertuples():
        rows = (labels[row.segment] == row.value).to_numpy()
        expected = metrics(y[rows], p[rows])
        for name in ("base_rate", "mean_prediction", "auc", "log_loss", "ece"):
            assert getattr(row, name) == pytest.approx(expected[name]), (row.value, name)
        assert row.rows == rows.sum()
        assert row.partners == len(np.unique(owner[rows]))
        assert row.bias == pytest.approx(p[rows].mean() - y[rows].mean())
        entropy = -(p[rows] * np.log(p[rows]) + (1 - p[rows]) * np.log(1 - p[rows])).mean()
        assert row.excess_loss == pytest.approx(expected["log_loss"] - entropy)
        assert row.bias_low < row.bias < row.bias_high


def test_errors_are_those_of_a_bootstrap_that_draws_whole_partners():
    y, p, labels, owner = world(n=1500, partners=300)
    rows = (labels["country"] == "AT").to_numpy()
    sums = _Sums.of(y, p, np.ones(len(y)), owner, 300)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        counts = np.bincount(generator.integers(0, 300, 300), minlength=300)[owner].astype(float)
        resampled = _Sums.of(y, p, counts, owner, 300)
        drawn.append([resampled.against_rest(rows)[0], [getattr(resampled, name)(rows)[0] for name in TESTS]])
    against, alone = np.std(np.array(drawn), axis=0)
    estimated = np.sqrt((sums.against_rest(rows)[1] ** 2).sum(axis=0))
    assert estimated == pytest.approx(against, rel=0.12)
    estimated = [np.sqrt((getattr(sums, name)(rows)[1] ** 2).sum()) for name in TESTS]
    assert estimated == pytest.approx(alone, rel=0.12)


def test_with_nothing_there_a_flag_anywhere_is_as_rare_as_it_says():
    flagged = [bool((segments(*world(seed, n=1200), n_boot=200)["flag"] != "").any()) for seed in range(60)]
    assert sum(flagged) <= 8  # 3 expected; more than 8 has a chance of .2 %
    unadjusted = sum(
        bool((segments(*world(seed, n=1200), n_boot=200, alpha=0.6)["flag"] != "").any()) for seed in range(10)
    )
    assert unadjusted >= 3


@pytest.mark.parametrize(("shift", "flag"), [(0.9, UNDER), (-0.9, OVER)])
def test_a_segment_whose_base_rate_moved_is_flagged_and_the_others_are_not(shift, flag):
    found = segments(*world(shift=shift)).set_index(["segment", "value"])
    assert found.loc[("country", "AT"), "flag"] == flag
    assert (found["flag"] != "").sum() == 1
    assert f"{flag}, beyond chance (adjusted p below .001)" in found.loc[("country", "AT"), "words"]
    # the rest of the world is off because AT is in it: DE differs, and is served no worse
    assert found.loc[("country", "DE"), "p_bias"] <= 0.05
    assert found.loc[("country", "DE"), "words"].endswith("served no worse than the rest")


def test_a_segment_of_which_the_model_knows_nothing_is_flagged_though_it_is_right_on_average():
    found = segments(*world(blind=True)).set_index(["segment", "value"])
    assert found.loc[("country", "DE"), "flag"] == LESS
    assert found.loc[("country", "DE"), "p_bias"] > 0.05
    assert (found["flag"] != "").sum() == 1


def test_a_segment_whose_forecasts_are_too_extreme_is_flagged_though_it_is_right_on_average():
    generator = np.random.default_rng(6)
    z = generator.normal(0, 0.8, size=4000)
    y = (generator.random(4000) < _sigmoid(z)).astype(float)
    bold = np.arange(4000) % 2 == 0
    labels = pd.DataFrame({"kind": np.where(bold, "bold", "right")})
    found = segments(y, _sigmoid(np.where(bold, 2.5 * z, z)), labels, np.arange(4000)).set_index("value")
    assert found["flag"].to_dict() == {"bold": SURE, "right": ""}


def test_a_base_rate_near_one_half_is_no_blame():
    generator = np.random.default_rng(5)
    partner = np.arange(4000)
    half = partner % 2 == 0
    # as well told apart, by the same distance of log-odds, at a base rate of .5 and of .1
    p = _sigmoid(np.where(half, 0.0, -2.6) + generator.normal(0, 1.2, size=4000))
    y = (generator.random(4000) < p).astype(float)
    found = segments(y, p, pd.DataFrame({"kind": np.where(half, "half", "tenth")}), partner).set_index("value")
    assert found.loc["half", "log_loss"] > found.loc["tenth", "log_loss"] + 0.15
    assert (found["flag"] == "").all()


def test_small_values_go_together_and_are_told_and_not_tested():
    y, p, labels, owner = world()
    found = segments(y, p, labels, owner, n_boot=20).set_index(["segment", "value"])
    assert np.isnan(found.loc[("country", "XX"), "p_bias"])
    assert found.loc[("country", "XX"), "words"].endswith("too few to be told from chance")
    labels["country"] = labels["country"].where(labels["country"] != "XX", [f"X{k % 7}" for k in owner])
    found = segments(y, p, labels, owner, n_boot=20).set_index(["segment", "value"])
    assert ("country", OTHER) in found.index
    assert found.loc["country"]["rows"].sum() == len(y)
    labels["country"] = labels["country"].where(labels["country"] != "NA")
    assert ("country", MISSING) in segments(y, p, labels, owner, n_boot=20).set_index(["segment", "value"]).index


def test_segments_are_those_of_the_seed_whatever_the_row_order_and_weights_are_counts():
    y, p, labels, owner = world(n=1200, partners=300)
    order = np.random.default_rng(1).permutation(len(y))
    one = segments(y, p, labels, owner, n_boot=60, seed=4)
    other = segments(y[order], p[order], labels.iloc[order], owner[order], n_boot=60, seed=4)
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    counts = np.random.default_rng(2).integers(1, 3, size=len(y))
    weighted = segments(y, p, labels, owner, weights=counts, n_boot=60)
    repeated = segments(
        *(np.repeat(x, counts) for x in (y, p)),
        labels.loc[labels.index.repeat(counts)],
        np.repeat(owner, counts),
        n_boot=60,
    )
    for name in ("base_rate", "bias", "bias_low", "auc", "auc_high", "p_bias", "p_auc"):
        assert weighted[name].to_numpy() == pytest.approx(repeated[name].to_numpy(), nan_ok=True), name


def test_step_down_never_makes_a_larger_difference_less_sure():
    generator = np.random.default_rng(3)
    found = [(generator.normal(0, 0.2, size=3), generator.normal(0, 0.01, size=(200, 3))) for _ in range(4)]
    p_values = np.array(_adjusted(found, np.arange(200), 200, 300, 0)).ravel()
    errors = np.concatenate([np.sqrt((influence**2).sum(axis=0)) for _, influence in found])
    ratios = np.concatenate([estimate for estimate, _ in found]) / errors
    statistics = np.tile([1, 1, -1], 4) * np.where(np.arange(12) % 3 == 0, np.abs(ratios), ratios)
    assert (np.diff(p_values[np.argsort(-statistics)]) >= 0).all()
    assert ((p_values >= 1 / 301) & (p_values <= 1)).all()


def test_words_call_the_clusters_what_they_are():
    y, p, labels, owner = world(n=600, partners=200)
    for called in ("partners", "accounts"):
        found = segments(y, p, labels, owner, n_boot=20, **({} if called == "partners" else {"called": called}))
        assert all(f" for {row.partners:,} {called}, " in row.words for row in found.itertuples())


def test_labels_of_another_length_are_refused():
    y, p, labels, owner = world(n=200, partners=50)
    with pytest.raises(InputError, match="the segments of every row, 200; got 199 rows"):
        segments(y, p, labels.iloc[1:], owner)


def _info(name: str, measure: str) -> FeatureInfo:
    return FeatureInfo(name, f"{name}.", "partners", ("x",), None, "0", name, name, measure, name, "number")


def test_segments_of_a_dataset_come_from_its_traits_its_revenue_and_its_tenure():
    tier, won, tenure = "partners__tier__trait__asof", "deals__won__amount__365d", "partners__all__tenure_days__asof"
    X = pd.DataFrame(
        {
            won: [0.0, np.nan, 10.0, 20.0, 30.0, 40.0],
            tenure: [0.0, 365.0, 366.0, 1095.0, 1096.0, np.nan],
            COUNTRY: pd.Categorical(["AT", None, "NA", "AT", "DE", "DE"]),
            tier: [1.0, 2.0, np.nan, 1.0, 2.0, 3.0],
        }
    )
    kinds = {won: "amount", tenure: "tenure_days", COUNTRY: "trait", tier: "trait"}
    keys = pd.DataFrame({"partner_id": list("abcdef"), "as_of": pd.Timestamp("2026-01-01", tz="UTC")})
    dictionary = tuple(_info(name, kinds[name]) for name in X)
    data = Dataset(keys, X, None, None, pd.Series(np.ones(6)), dictionary, "0" * 16)
    found = segment_labels(data)
    assert list(found) == ["country", "tier", "size", "tenure"]
    assert found["country"].tolist() == ["AT", MISSING, "NA", "AT", "DE", "DE"]
    assert found["tier"].tolist() == ["1", "2", MISSING, "1", "2", "3"]
    none = "no won revenue"
    assert found["size"].tolist() == [none, none, "lower third", "lower third", "middle third", "upper third"]
    young, middle, old = "under 1 year", "1 to 3 years", "3 years and more"
    assert found["tenure"].tolist() == [young, young, middle, middle, old, MISSING]
