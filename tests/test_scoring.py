"""Scores: the columns of the contract, reasons that add up, one risk and never two, nothing from the future."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from tests.conftest import END, UNTIL

from partnerml import Ecosystem, score, scoring, tasks
from partnerml.errors import ModelError, NotEnoughDataError
from partnerml.features import Catalogue
from partnerml.models import Blend, DiscreteTimeHazard, LogLogistic, Model
from partnerml.scoring import band, percentile, trend

COLUMNS = [
    "partner_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread",
    "risk_30d", "risk_60d", "risk_90d", "risk_180d", "revenue_at_risk", "model_version",
]  # fmt: skip


READ = (
    "activity__all__active_days__90d",
    "activity__all__recency_days__ever",
    "partners__country__trait__asof",
)


def _frugal(eco, model):
    """Return a model of three features, with the catalogue and the dictionary of one of two hundred."""
    features = Catalogue.from_dict(model.catalogue).only(READ)
    rows = tasks.build_dataset(eco, tasks.churn(), as_of="2025-03-01", until=UNTIL, catalogue=features)
    return Model.of(
        task=model.task,
        catalogue=model.catalogue,
        dictionary=model.dictionary,
        blend=Blend({"logistic": LogLogistic().fit(rows.X, rows.y)}, {"logistic": 1.0}),
        hazard=DiscreteTimeHazard([90.0, 180.0], base=LogLogistic()).fit(
            rows.X, rows.times["duration_days"], rows.times["observed"]
        ),
        evaluation={},
        training=model.training,
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_percentile_is_the_average_rank(values):
    values = np.array(values)
    found = percentile(values)
    below = np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])
    assert found == pytest.approx(100 * (below - 1) / (len(values) - 1))


def test_a_cut_belongs_to_the_band_above():
    assert band(np.array([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1.0])).tolist() == [
        "low", "low", "medium", "high", "high", "critical", "critical",
    ]  # fmt: skip


def test_trend_compares_percentiles_by_partner():
    now = pd.Series({"a": 60.0, "b": 50.0, "c": 10.0, "d": 99.0, "e": 54.9})
    then = pd.Series({"e": 50.0, "a": 55.0, "b": 50.0, "c": 15.0})
    assert trend(now, then).to_dict() == {"a": "rising", "b": "steady", "c": "falling", "d": "new", "e": "steady"}


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
class TestScores:
    def test_columns_and_types(self, scores, model):
        frame = scores.frame
        assert list(frame) == COLUMNS
        assert frame["score"].between(0, 1).all()
        assert frame["partner_id"].is_unique
        assert str(frame["as_of"].dtype) == "datetime64[us, UTC]"
        assert (frame["as_of"] == UNTIL).all()
        assert (frame["model_version"] == model.version).all()
        assert set(frame["trend"]) <= {"rising", "steady", "falling", "new"}
        assert frame["score"].is_monotonic_decreasing

    def test_everybody_of_the_population_is_scored(self, scores, world):
        expected = world.truth.churn_probability(UNTIL).index
        assert set(scores.frame["partner_id"]) == set(expected)

    def test_one_risk_never_two(self, scores):
        frame = scores.frame
        assert frame["risk_30d"].isna().all()
        assert frame["risk_60d"].isna().all()
        assert (frame["risk_90d"] == frame["score"]).all()
        assert (frame["risk_180d"] >= frame["risk_90d"]).all()
        assert (frame["risk_180d"] > frame["risk_90d"]).mean() > 0.9

    def test_three_reasons_largest_first(self, scores):
        for reasons in scores.frame["reasons"]:
            assert len(reasons) == 3
            effects = [abs(reason["effect"]) for reason in reasons]
            assert effects == sorted(effects, reverse=True)
            assert all(reason["text"] and "__" not in reason["text"] for reason in reasons)

    def test_effects_of_all_reasons_and_the_base_sum_to_the_score(self, eco, model):
        everything = score(eco, model, as_of=UNTIL, reasons=10_000).frame
        rows = tasks.build_dataset(eco, tasks.churn(), as_of=UNTIL, catalogue=model.catalogue, labels=False)
        base = dict(zip(rows.keys["partner_id"], model.contributions(rows.X)["base"], strict=True))
        summed = [sum(reason["effect"] for reason in reasons) for reasons in everything["reasons"]]
        assert np.array(summed) + everything["partner_id"].map(base).to_numpy() == pytest.approx(
            logit(everything["score"].to_numpy()), abs=1e-9
        )

    def test_a_change_told_in_a_reason_goes_the_way_of_its_effect(self, scores):
        told = [reason for reasons in scores.frame["reasons"] for reason in reasons]
        fell = [reason for reason in told if " fell from " in reason["text"]]
        rose = [reason for reason in told if " rose from " in reason["text"]]
        assert len(fell) > 20
        assert len(rose) > 20
        assert all(reason["effect"] > 0 for reason in fell)
        assert all(reason["effect"] < 0 for reason in rose)

    def test_revenue_at_risk_is_the_score_times_the_last_years_won_revenue(self, scores, eco, world):
        deals = world.tables["deals"].to_pandas()
        shares = world.tables["deal_partners"].to_pandas()
        seen = deals["closed_recorded_at"].fillna(deals["closed_at"])
        won = deals[
            (deals["outcome"] == "won")
            & (deals["closed_at"] >= pd.Timestamp(UNTIL) - pd.Timedelta(days=365))
            & (deals["closed_at"] < UNTIL)
            & (seen < UNTIL)
        ]
        joined = won.merge(shares, on="deal_id", suffixes=("", "_of"))
        revenue = (joined["amount"] * joined["share"]).groupby(joined["partner_id_of"]).sum()
        frame = scores.frame.set_index("partner_id")
        expected = frame["score"] * revenue.reindex(frame.index).fillna(0.0)
        assert frame["revenue_at_risk"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0.01)

    def test_nothing_known_later_changes_a_score(self, scores, world, model):
        tables = dict(world.tables)
        events = tables["events"].to_pandas()
        known = events["recorded_at"] < UNTIL
        assert not known.all()
        tables["events"] = events[known]
        deals = tables["deals"].to_pandas()
        later = deals["closed_recorded_at"] >= UNTIL
        deals.loc[later, ["outcome", "amount"]] = ["lost", 9e6]
        tables["deals"] = deals
        with Ecosystem.from_frames(now=END, **tables) as other:
            again = score(other, model, as_of=UNTIL)
        pd.testing.assert_frame_equal(again.frame, scores.frame)

    def test_only_what_a_model_uses_is_built_and_scores_do_not_tell(self, eco, model, tmp_path, monkeypatch):
        frugal = _frugal(eco, model)
        built = []
        build_dataset = tasks.build_dataset
        monkeypatch.setattr(
            tasks, "build_dataset", lambda *a, **k: built.append(k["catalogue"].names) or build_dataset(*a, **k)
        )
        lean = score(eco, frugal, as_of=UNTIL).write(tmp_path / "lean").read_bytes()
        assert set(built.pop()) == {
            *READ,
            *(f"activity__all__active_days__{days}d" for days in (30, 60, 90, 180)),  # a change is told from these
            "activity__all__gap_mean__365d",  # and the rhythm from this
            "deals__won__amount__365d",
        }
        monkeypatch.setattr("partnerml.scoring._churn.needed", lambda model: Catalogue.from_dict(model.catalogue))
        assert score(eco, frugal, as_of=UNTIL).write(tmp_path / "whole").read_bytes() == lean
        assert len(built.pop()) == len(model.catalogue["features"]) > 100

    def test_what_a_model_does_not_use_is_left_out(self, model):
        wanted = set(scoring.needed(model).names)
        assert set(model.columns) <= wanted < set(model.catalogue["features"])

    def test_written_whole_and_the_same_again(self, scores, tmp_path):
        path = scores.write(tmp_path)
        first = path.read_bytes()
        assert path.relative_to(tmp_path).as_posix() == "scores/churn/date=2025-09-01/scores.parquet"
        assert scores.write(tmp_path).read_bytes() == first
        again = pd.read_parquet(path)
        assert list(again) == COLUMNS
        assert again["partner_id"].is_monotonic_increasing
        assert len(again) == len(scores)

    def test_nobody_to_score_says_who_would_have_been(self, eco, model):
        with pytest.raises(NotEnoughDataError, match="no partner belongs to the population of churn at 2020-01-01"):
            score(eco, model, as_of=dt.date(2020, 1, 1))

    def test_everybody_is_new_where_nobody_was_scored_before(self, world, model):
        early = dt.datetime(2024, 1, 20, tzinfo=dt.UTC)
        with Ecosystem.from_frames(now=END, **world.tables) as opened:
            frame = score(opened, model, as_of=early).frame
        assert (frame["trend"] == "new").all()

    def test_a_trait_that_the_source_lost_is_named(self, world, model):
        tables = dict(world.tables)
        tables["partners"] = tables["partners"].set_column(
            tables["partners"].schema.get_field_index("country"), "country", pa.nulls(len(tables["partners"]), "string")
        )
        tables["partner_history"] = tables["partner_history"].drop_columns(["country"])
        with (
            Ecosystem.from_frames(now=END, **tables) as opened,
            pytest.raises(ModelError, match=r"the trait country .* is null for all"),
        ):
            score(opened, model, as_of=UNTIL)
