"""Close from end to end: folds that keep leads apart, a model that says what it went by, scores of live pairs."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pytest

from partnerml import Ecosystem, load_model, score, tasks
from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.features import pair_outcomes
from partnerml.models import PeerRate
from partnerml.progress import Progress
from partnerml.synthetic import simulate
from partnerml.training import _close_parts
from partnerml.training._close_parts import logged_weights
from partnerml.training._judging import judge
from partnerml.training._peers_only import PeersOnly
from partnerml.training._recipe import recipe_of

pytestmark = [pytest.mark.xdist_group("close"), pytest.mark.slow]

UNTIL = dt.datetime(2025, 10, 1, tzinfo=dt.UTC)
EARLY = dt.datetime(2024, 10, 1, tzinfo=dt.UTC)
TABLES = ("partners", "leads", "assignments")


@pytest.fixture(scope="module")
def world():
    return simulate(partners=250, start="2024-01-01", months=24, seed=8)


@pytest.fixture(scope="module")
def eco(world):
    tables = {name: world.tables[name] for name in TABLES}
    with Ecosystem.from_frames(now=world.end, **tables) as opened:
        yield opened


@pytest.fixture(scope="module")
def recipe(eco):
    return recipe_of(eco, tasks.close(horizon_days=120), until=UNTIL, seed=0)


@pytest.fixture(scope="module")
def trained(recipe):
    return recipe.train(Progress.silent())


@pytest.fixture(scope="module")
def model(trained):
    return trained.model


def test_no_lead_is_on_both_sides_of_a_fold(recipe):
    lead, as_of = recipe.data.keys["lead_id"].to_numpy(), recipe.data.as_of
    assert len(recipe.folds) >= 3
    for fold in recipe.folds:
        assert not set(lead[fold.train]) & set(lead[fold.test])
        assert (as_of.iloc[fold.train] + pd.Timedelta(recipe.gap) <= fold.cut).all()
        assert (as_of.iloc[fold.test] >= fold.cut).all()
        assert recipe.known[fold.cut].iloc[fold.train].notna().all()
        assert recipe.labels.iloc[fold.test].notna().all()
    assert recipe.cluster == "lead_id"
    # each row is judged once
    tested = np.concatenate([fold.test for fold in recipe.folds])
    assert len(tested) == len(set(tested))


def test_pairs_that_have_ended_stand_for_those_of_their_age(recipe, model):
    mature = recipe.make.__self__.data.y
    early = (recipe.data.as_of + pd.Timedelta(recipe.gap) > pd.Timestamp(UNTIL)).to_numpy()
    assert not early[mature.notna()].any()
    assert (recipe.weights[mature.notna()] == 1).all()
    judged, parts = early & recipe.labels.notna().to_numpy(), recipe.make.__self__
    ends = (moments[parts.places] < np.iinfo(np.int64).max for moments in parts.outcomes.ended(UNTIL))
    ended = judged & np.logical_or(*ends)
    assert ended.sum() > 50
    assert (recipe.weights[ended] >= 1).all()
    # those that are open stand for those that will be open still, which are not won
    open_ = judged & ~ended
    assert open_.any()
    assert (recipe.labels[open_] == 0).all()
    assert (recipe.weights[open_] < 1).all()
    followed = early & (recipe.data.as_of + pd.Timedelta(recipe.maturity) <= pd.Timestamp(UNTIL)).to_numpy()
    assert not judged[early & ~followed].any()
    # together they stand for about all pairs that were followed so long
    assert recipe.weights[judged].sum() == pytest.approx(followed.sum(), rel=0.15)
    assert model.training["base_rate"] == pytest.approx(mature.mean())
    assert model.evaluation["judged_after_days"] < 120


def test_immature_pairs_of_a_cut_weigh_as_one_and_are_not_from_later(recipe):
    fold = recipe.folds[-1]
    parts = dataclasses.replace(recipe.make.__self__, immature=True, fitted={})
    rows = parts.rows(recipe.data.X.iloc[fold.train], recipe.known[fold.cut].iloc[fold.train], fold.cut)
    assert np.all(np.diff(rows.places) >= 0)
    weight = np.bincount(rows.places, weights=rows.weight)
    np.testing.assert_allclose(weight[np.unique(rows.places)], 1.0, atol=1e-9)
    assert (recipe.data.as_of.iloc[rows.places] < fold.cut).all()
    more = set(rows.places) - set(fold.train)
    assert len(more) > 0.2 * len(fold.train)
    lead = recipe.data.keys["lead_id"]
    assert not set(lead.iloc[rows.places]) & set(lead.iloc[fold.test])


def test_trees_grow_in_number_with_the_pairs(recipe, monkeypatch):
    fold, pairs = recipe.folds[0], len(recipe.data)
    X, y = recipe.data.X.iloc[fold.train], recipe.known[fold.cut].iloc[fold.train]

    def grown(settings):
        return recipe.make(settings)["trees"](X, y, fold.cut).n_estimators

    assert pairs // 100 < 120 == grown({})
    monkeypatch.setattr(_close_parts, "PAIRS_A_TREE", 10)
    # of all origins alike: what is judged is what ships
    assert grown({}) == pairs // 10 > 120
    assert grown({"trees": {"n_estimators": 11}}) == 11


@pytest.mark.parametrize("immature", [False, True])
def test_folds_of_one_cut_are_fitted_on_their_own_rows_however_many(recipe, immature):
    fold = recipe.folds[-1]
    parts = dataclasses.replace(recipe.make.__self__, immature=immature, weighting=None, fitted={}, open={})
    many = len(fold.train) // 2
    halves = [fold.train[start::2][:many] for start in (0, 1)]
    found = [parts.rows(recipe.data.X.iloc[half], recipe.known[fold.cut].iloc[half], fold.cut) for half in halves]
    for half, rows in zip(halves, found, strict=True):
        assert set(rows.places) & set(fold.train) == set(half)
    again = parts.rows(recipe.data.X.iloc[halves[0]], recipe.known[fold.cut].iloc[halves[0]], fold.cut)
    assert again is found[0]


def test_a_pair_that_was_won_nobody_knows_when_is_neither_open_nor_followed(recipe):
    fold, parts = recipe.folds[-1], recipe.make.__self__
    marked = fold.train[::3]
    there = np.isin(np.arange(len(parts.outcomes.pairs)), parts.places[marked])
    ends = parts.outcomes.ends
    left = ends[~ends["row"].isin(np.flatnonzero(there))]
    dateless = dataclasses.replace(parts.outcomes, undated=there, undated_wins=there, ends=left)
    refused = dataclasses.replace(dateless, refused_at=np.where(there, 0, dateless.refused_at))
    one, other = (
        dataclasses.replace(parts, outcomes=told, immature=True, weighting=None, fitted={}, open={})
        for told in (dateless, refused)
    )
    labels = recipe.known[fold.cut].mask(recipe.data.X.index.isin(marked)).iloc[fold.train]
    places = one.rows(recipe.data.X.iloc[fold.train], labels, fold.cut).places
    assert not set(places) & set(marked)
    assert set(places) - set(fold.train)
    ages, won = np.linspace(20, 120, 6), np.arange(6) % 2 == 0
    np.testing.assert_array_equal(
        one.curves(fold.cut).weights(np.zeros(6), ages, won, ~won),
        other.curves(fold.cut).weights(np.zeros(6), ages, won, ~won),
    )


def test_the_evaluation_says_what_was_tried(model):
    found = model.evaluation
    assert set(found["weights"]) == {"trees", "logistic", "peers"}
    for name in ("immature", "selection"):
        difference = found[name]["difference"]
        assert found[name]["used"] == (difference["high"] < 0)
        assert found[name]["choice"] in found[name]["reason"]
    selection = found["selection"]
    assert selection["source"] == "logged"
    assert 0 < selection["effective"] < selection["rows"]
    assert set(found["models"]) == {"model", "trees", "logistic", "peers", "base_rate"}
    assert "peers and its record alone" in found["verdict"]["reason"]


def test_segments_are_told_and_tested_by_partner(model, trained):
    """Many leads of one partner say nothing of its kind."""
    told, found = trained.replay, pd.DataFrame(model.evaluation["segments"])
    assert told["lead_id"].nunique() > 1.5 * told["partner_id"].nunique()
    assert (found.groupby("segment")["partners"].sum() >= told["partner_id"].nunique()).all()
    assert (found["partners"] <= told["partner_id"].nunique()).all()
    assert found["words"].str.contains(r" forecasts for [\d,]+ partners, ").all()


def test_rates_of_peers_are_part_of_the_blend_where_pairs_are_few(recipe, monkeypatch):
    parts = recipe.make.__self__
    assert (set(parts.learners({})), set(parts.baselines())) == ({"trees", "logistic", "peers"}, {"base_rate"})
    monkeypatch.setattr(_close_parts, "PEERS_BELOW", len(parts.data))
    assert (set(parts.learners({})), set(parts.baselines())) == ({"trees", "logistic"}, {"base_rate", "peers"})
    judged = dataclasses.replace(recipe, make=parts.learners, baselines=parts.baselines()).backtest()
    assert list(judged.log_odds) == ["trees", "logistic"]
    assert set(judge(judged, simplest=recipe.simplest, seed=0)[0]["models"]) == {
        *("model", "trees", "logistic", "peers", "base_rate"),
    }


def test_the_logistic_reads_kilometres_as_they_are_too(model):
    straight = model.blend.components["logistic"].straight
    assert set(straight) == {"pair__place__distance_km__asof", "pair__place__given_km__asof"}


def test_win_rates_on_equal_terms(model, recipe, world):
    found = model.documents["win_rates"]
    table = pd.DataFrame(found["table"]).set_index("partner_id")
    assert list(table.index) == sorted(table.index)
    assert found["weights"] == "logged"
    data = recipe.make.__self__.data  # with the labels of mature pairs alone
    keys, y = data.keys[data.mature], data.y[data.mature]
    partner = table["rows"].idxmax()
    assert table["rows"][partner] == (keys["partner_id"] == partner).sum()
    assert table["raw"][partner] == pytest.approx(y[(keys["partner_id"] == partner).to_numpy()].mean())
    apart = set(found["without_overlap"]["first"])
    assert apart <= set(table.index[~table["comparable"]])
    assert found["without_overlap"]["number"] == (~table["comparable"]).sum()
    # who refused all of its leads was given some
    made = world.tables["assignments"].to_pandas()
    given = made.loc[pd.to_datetime(made["assigned_at"], utc=True) < UNTIL, "partner_id"]
    assert found["never_assigned"] == world.tables["partners"].num_rows - given.nunique()
    told = table.dropna(subset=["standardised", "low"])
    assert ((told["low"] <= told["standardised"]) & (told["standardised"] <= told["high"])).all()
    # rates of partners with a handful of leads are drawn together
    assert told["standardised"].std() < 0.7 * told["raw"].std()


@pytest.fixture(scope="module")
def scores(eco, model):
    return score(eco, model, as_of=UNTIL)


def test_scores_are_of_live_pairs(eco, scores):
    frame = scores.frame
    assert list(frame) == [
        *("lead_id", "partner_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread"),
        "model_version",
    ]
    live = pair_outcomes(eco).live(tasks.close(horizon_days=120).label, UNTIL)
    assert set(zip(frame["lead_id"], frame["partner_id"], strict=True)) == set(
        zip(live["lead_id"], live["partner_id"], strict=True)
    )
    assert len(frame) > 50
    assert frame["trend"].isna().all()
    assert frame["score"].between(0, 1).all()
    assert (frame["as_of"] == pd.Timestamp(UNTIL)).all()
    assert frame["reasons"].map(len).eq(3).all()


def test_the_spread_holds_what_is_not_known_of_the_partner(eco, model, scores):
    peers = PeerRate.from_state(model.documents["peers"])
    assert (scores.frame["spread"] > 0.01).all()
    assert scores.frame["spread"].max() < 0.3
    assert list(peers.feature_names_in_[:2]) == [
        "partners__partner_type__trait__asof",
        "partners__country__trait__asof",
    ]


def test_scores_are_written_by_key_and_a_loaded_model_is_the_same(model, scores, tmp_path):
    again = load_model(model.save(tmp_path / "model"))
    assert again.version == model.version
    assert again.documents == model.documents
    written = pd.read_parquet(scores.write(tmp_path))
    assert list(zip(written["lead_id"], written["partner_id"], strict=True)) == sorted(
        zip(written["lead_id"], written["partner_id"], strict=True)
    )


def test_nothing_is_being_worked_on(eco, model):
    with pytest.raises(NotEnoughDataError, match=r"no lead is being worked on at 2024-01-01: .* the 120 days before"):
        score(eco, model, as_of="2024-01-01")


def test_too_few_outcomes_give_the_rate_of_peers(eco):
    short = recipe_of(eco, tasks.close(horizon_days=120), until=EARLY, seed=0)
    assert isinstance(short, PeersOnly)
    trained = short.train(Progress.silent())
    model = trained.model
    assert list(model.blend.components) == ["peers"]
    verdict = model.evaluation["verdict"]
    assert not verdict["promoted"]
    assert verdict["reason"].startswith("too few outcomes for a model: ")
    assert "of the 2 origins" in verdict["reason"]
    assert len(trained.replay) == short.data.mature.sum()
    assert model.training["partners"] == short.data.keys["lead_id"].nunique() > short.data.keys["partner_id"].nunique()
    # no lead has seen itself, and so the rates differ from those of the model
    assert not np.allclose(trained.replay["score"], model.predict_proba(trained.X))
    frame = score(eco, model, as_of=EARLY).frame
    first = [reasons[0]["text"] for reasons in frame["reasons"]]
    assert all(text.startswith("too few outcomes for a model: partners like it (") for text in first)
    assert all(" won " in text and " pairs)" in text for text in first)
    assert frame["spread"].gt(0.02).all()
    effects = model.contributions(short.data.X).sum(axis=1)
    np.testing.assert_allclose(effects, model.log_odds(short.data.X), atol=1e-12)


def test_too_few_even_for_rates(eco):
    with pytest.raises(NotEnoughDataError, match=r"at least 20 assigned pairs whose outcome is known, 3 of them won"):
        recipe_of(eco, tasks.close(horizon_days=120), until=dt.datetime(2024, 5, 1, tzinfo=dt.UTC), seed=0)


def test_weights_need_propensities_that_left_something_to_chance(recipe):
    parts = recipe.make.__self__
    assert logged_weights(parts).source == "logged"
    pairs = parts.outcomes.pairs
    before = pairs["propensity"].copy()
    try:
        pairs["propensity"] = np.where(before.notna(), 1.0, np.nan)
        assert logged_weights(parts) is None
        pairs["propensity"] = np.nan
        assert logged_weights(parts) is None
    finally:
        pairs["propensity"] = before


def test_the_task(eco, world):
    task = tasks.close(train_from="2024-06-01")
    assert tasks.Task.from_dict(task.to_dict()) == task
    assert task.gap(eco) == dt.timedelta(days=180)
    assert "decline" in task.words
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        tasks.close(horizon_days=0)
    assert task.kind.missing(eco) is None
    with Ecosystem.from_frames(partners=world.tables["partners"]) as few:
        assert task.kind.missing(few) == "the table leads"


def test_of_the_lists_of_partners_their_length_alone_is_a_feature(recipe):
    lists = [name for name in recipe.catalogue.names if name.split("__")[2] in ("items", "has")]
    assert lists == ["partners__verticals__items__asof", "partners__languages__items__asof"]


def test_rows_of_the_task_at_moments(eco):
    task = tasks.close(horizon_days=120)
    data = tasks.build_dataset(
        eco, task, as_of="2025-01-01", until=UNTIL, catalogue={"features": ["pair__place__level__asof"]}
    )
    assert data.as_of.max() < pd.Timestamp("2025-01-01", tz="UTC")
    assert data.y.notna().all()
    without = tasks.build_dataset(
        eco, task, as_of="2025-01-01", labels=False, catalogue={"features": ["pair__place__level__asof"]}
    )
    assert without.y is None
    assert len(without) > len(data)
