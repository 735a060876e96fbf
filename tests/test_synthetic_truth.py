"""The truth of the synthetic ecosystem: the filter against a row-by-row version, and against what then happens."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pytest

from partnerml.errors import InputError
from partnerml.synthetic import SyntheticEcosystem, _world, simulate
from partnerml.synthetic._truth import _ends_in_time

# the world of four thousand partners is made once
pytestmark = pytest.mark.xdist_group("truth")

AS_OF = tuple(
    dt.datetime(year, month, 1, tzinfo=dt.UTC) for year, month in ((2024, 11), (2025, 2), (2025, 5), (2025, 8))
)


@pytest.fixture(scope="module")
def world() -> SyntheticEcosystem:
    return simulate(partners=4000, months=22, seed=11)


@pytest.fixture(scope="module")
def predicted(world: SyntheticEcosystem) -> pd.DataFrame:
    """Return predictions and labels; the labels from the tables, independently of the simulator."""
    parts = []
    for as_of in AS_OF:
        probability = world.truth.churn_probability(as_of)
        label = labels_from_tables(world, as_of).reindex(probability.index)
        parts.append(pd.DataFrame({"p": probability, "y": label, "as_of": as_of}))
    return pd.concat(parts).reset_index()


def activity_from_tables(world: SyntheticEcosystem) -> pd.DataFrame:
    events = world.tables["events"].to_pandas()
    deals = world.tables["deals"].to_pandas().drop(columns="partner_id")
    deals = deals.merge(world.tables["deal_partners"].to_pandas(), on="deal_id")
    own = events[events.actor == "partner"]
    won = deals[deals.outcome == "won"]
    columns = ["partner_id", "moment", "known"]
    return pd.concat(
        [
            own[["partner_id", "occurred_at", "recorded_at"]].set_axis(columns, axis=1),
            deals[["partner_id", "registered_at", "recorded_at"]].set_axis(columns, axis=1),
            won[["partner_id", "closed_at", "closed_recorded_at"]].set_axis(columns, axis=1),
        ]
    )


def labels_from_tables(world: SyntheticEcosystem, as_of: dt.datetime) -> pd.Series:
    begin = pd.Timestamp(as_of)
    end = begin + pd.Timedelta(days=90)
    activity, partners = activity_from_tables(world), world.tables["partners"].to_pandas().set_index("partner_id")
    before = activity[(activity.moment < begin) & (activity.known < begin)]
    active = before[before.moment >= begin - pd.Timedelta(days=90)].partner_id.unique()
    chosen = partners.loc[np.sort(active)]
    chosen = chosen[(chosen.joined_at < begin) & ~(chosen.left_at < begin)]
    heard = activity[(activity.moment >= begin) & (activity.moment < end)].partner_id.unique()
    silent = ~chosen.index.isin(heard)
    return pd.Series((silent | (chosen.left_at < end)).astype(float), index=chosen.index)


def test_the_population_and_labels_are_those_of_the_tables(world: SyntheticEcosystem) -> None:
    for as_of in AS_OF[:2]:
        told = world.truth.churned(as_of)
        pd.testing.assert_series_equal(told, labels_from_tables(world, as_of), check_names=False)


def test_the_base_rate_is_realistic_and_the_task_neither_easy_nor_hopeless(predicted: pd.DataFrame) -> None:
    from sklearn.metrics import roc_auc_score

    assert not predicted.y.isna().any()
    assert 0.08 < predicted.y.mean() < 0.20
    assert 0.80 < roc_auc_score(predicted.y, predicted.p) < 0.90


def test_the_filter_is_calibrated(predicted: pd.DataFrame) -> None:
    assert abs(predicted.p.mean() - predicted.y.mean()) < 0.01
    base = predicted.y.mean() * (1 - predicted.y.mean())
    brier = ((predicted.p - predicted.y) ** 2).mean()
    assert brier < 0.85 * base
    # a calibrated forecast's Brier score is the mean of p (1 - p)
    assert abs(brier - (predicted.p * (1 - predicted.p)).mean()) < 0.006
    bins = predicted.groupby(pd.qcut(predicted.p, 10))
    mean, rate, n = bins.p.mean(), bins.y.mean(), bins.size()
    assert (abs(mean - rate) < 4 * np.sqrt(mean * (1 - mean) / n) + 0.005).all()


@pytest.mark.parametrize("horizon", [30, 180])
def test_other_horizons_are_calibrated_too(world: SyntheticEcosystem, horizon: int) -> None:
    probability = world.truth.churn_probability(AS_OF[2], horizon_days=horizon)
    label = world.truth.churned(AS_OF[2], horizon_days=horizon)
    assert probability.index.equals(label.index)
    error = np.sqrt((probability * (1 - probability)).sum()) / len(label)
    assert abs(probability.mean() - label.mean()) < 4 * error


def test_the_filter_equals_a_row_by_row_one(world: SyntheticEcosystem) -> None:
    """The textbook forward pass of one partner at a time, from the tables, over all (state, level) pairs."""
    as_of = pd.Timestamp(AS_OF[0])
    truth, calendar = world.truth, world.truth.world.calendar
    today = (as_of - world.start).days
    belief = truth._filter(today, int(as_of.timestamp()) * 1_000_000)
    actions = truth.engagement.actions
    visible, season = _world.visibility(), calendar.season(0, today)
    members = np.flatnonzero(truth.population(AS_OF[0]))
    for partner in members[[0, 5, 17, 123, -1]]:
        mine = (actions.partner == partner) & (actions.recorded < as_of.timestamp() * 1e6)
        marks = actions.mark[mine]
        days = (actions.occurred[mine] // 86_400_000_000) - calendar.first
        prior = _world.LEVEL_PRIOR[truth.world.kind[partner]]
        state = {(s, level): _world.START[s] * prior[level] for s in range(3) for level in range(6)}
        first = truth.world.first_day[partner]
        for day in range(first, today):
            if day > first:
                state = {
                    (t, level): sum(state[s, level] * _world.TRANSITIONS[s, t] for s in range(3))
                    for t in range(3)
                    for level in range(6)
                }
            seen = visible[truth.world.offset[partner], min(today - day, 16)]
            for s, level in state:
                rate = _world.STATE_ACTIVITY[s] * _world.LEVEL_RATES[level] * season[day] * seen
                state[s, level] *= np.exp(-rate)
                for mark in marks[days == day]:
                    state[s, level] *= rate * _world.MARKS[s, mark]
            total = sum(state.values())
            state = {key: value / total for key, value in state.items()}
        expected = np.array([[state[s, level] for level in range(6)] for s in range(3)])
        np.testing.assert_allclose(belief[:, partner], expected, atol=1e-10)


def test_the_oracle_sees_only_what_was_on_record() -> None:
    """Delaying what is recorded at or after as_of changes nothing; delaying what was on record does."""
    truth = simulate(partners=300, months=8, seed=5).truth
    as_of = dt.datetime(2024, 8, 1, tzinfo=dt.UTC)
    moment = int(as_of.timestamp()) * 1_000_000
    probability = truth.churn_probability(as_of)

    def delayed(known_from: int) -> pd.Series:
        actions, deals = truth.engagement.actions, truth.deals
        late = actions.recorded + np.where(actions.recorded >= known_from, 10**12, 0)
        closed = deals.closed_recorded + np.where(deals.closed_recorded >= known_from, 10**12, 0)
        engagement = dataclasses.replace(truth.engagement, actions=dataclasses.replace(actions, recorded=late))
        changed = dataclasses.replace(
            truth, engagement=engagement, deals=dataclasses.replace(deals, closed_recorded=closed)
        )
        return changed.churn_probability(as_of)

    pd.testing.assert_series_equal(delayed(moment), probability)
    before = delayed(moment - 5 * _world.DAY)
    assert not before.equals(probability)


def test_visibility_is_the_share_on_record() -> None:
    rng = np.random.default_rng(0)
    visible = _world.visibility()
    for index, hours in enumerate(_world.OFFSETS):
        moments = _world.times_of_day(rng, np.full(100_000, hours)) + _world.delays(rng, 100_000)
        for lag in (0, 1, 2, 5, 16):
            share = (moments < lag * _world.DAY).mean()
            assert abs(share - visible[index, lag]) < 0.006, (hours, lag)


def test_an_open_deal_ends_in_time_as_often_as_it_does() -> None:
    """Against a simulation: of the deals with no end on record at an age, how many end in the horizon."""
    from partnerml.synthetic._deals import draw_outcomes

    rng = np.random.default_rng(1)
    n = 400_000
    begin = np.zeros(n, dtype=np.int64)
    closed, recorded, _ = draw_outcomes(rng, begin, np.full(n, 0.5), np.zeros(n))
    offset = int(np.searchsorted(_world.OFFSETS, 0.0))
    for age in (1, 10, 45, 200):
        live = recorded >= age * _world.DAY
        ends = (closed[live] >= age * _world.DAY) & (closed[live] < (age + 90) * _world.DAY)
        expected = _ends_in_time(np.array([age]), np.array([offset]), 90)[0]
        assert abs(ends.mean() - expected) < 0.006


def test_engagement_declines_before_churn(world: SyntheticEcosystem) -> None:
    """Of partners equally active half a year before, those about to churn did less in the last two months."""
    as_of = AS_OF[2]
    label = world.truth.churned(as_of)
    begin = pd.Timestamp(as_of)
    activity = activity_from_tables(world)
    age = (begin - activity.moment) / pd.Timedelta(days=1)
    recent = activity[(age > 0) & (age <= 60)].groupby("partner_id").size().reindex(label.index, fill_value=0)
    earlier = activity[(age > 120) & (age <= 180)].groupby("partner_id").size().reindex(label.index, fill_value=0)
    busy = earlier >= 10
    ratio = recent[busy] / earlier[busy]
    churned, stayed = ratio[label[busy] == 1], ratio[label[busy] == 0]
    assert len(churned) > 30
    error = np.sqrt(churned.var() / len(churned) + stayed.var() / len(stayed))
    assert (stayed.mean() - churned.mean()) / error > 5
    assert churned.median() < 0.5


def test_paths_hold_what_the_filter_guesses(world: SyntheticEcosystem) -> None:
    path = world.truth.path()
    assert set(path.state) == {"engaged", "declining", "dormant", "left"}
    partners = world.tables["partners"].to_pandas().set_index("partner_id")
    left = path[path.state == "left"].set_index("partner_id").since
    assert set(left.index) == set(partners.index[partners.left_at.notna()])
    assert (left == partners.left_at.dropna().dt.floor("D").reindex(left.index)).all()
    first = path.groupby("partner_id").since.min()
    joined = partners.joined_at.reindex(first.index)
    assert (first == joined.dt.floor("D") + pd.Timedelta(days=1)).all()


def test_assigned_leads_are_won_as_often_as_the_truth_says(world: SyntheticEcosystem) -> None:
    truth = world.truth.win_probability(horizon_days=180)
    assignments = world.tables["assignments"].to_pandas()
    both = assignments.merge(truth, on=["lead_id", "partner_id", "assigned_at"], validate="one_to_one")
    assert len(both) == len(assignments)
    mature = both[
        (both.response == "accepted")
        & (both.assigned_at + pd.Timedelta(days=200) < world.end)
        & (both.origin == "routed")
    ]
    in_time = mature.closed_at < mature.assigned_at + pd.Timedelta(days=180)
    won = ((mature.outcome == "won") & in_time).astype(float)
    bins = pd.qcut(mature.win_probability, 5)
    mean, rate = mature.win_probability.groupby(bins).mean(), won.groupby(bins).mean()
    n = won.groupby(bins).size()
    assert (abs(mean - rate) < 4 * np.sqrt(mean * (1 - mean) / n)).all()
    assert mean.iloc[-1] - mean.iloc[0] > 0.3
    assert (world.truth.win_probability(horizon_days=None).win_probability >= truth.win_probability).all()


def test_success_comes_as_often_as_the_truth_says(world: SyntheticEcosystem) -> None:
    probability = world.truth.success_probability(days=365)
    partners = world.tables["partners"].to_pandas().set_index("partner_id")
    deals = world.tables["deals"].to_pandas().drop(columns="partner_id")
    deals = deals.merge(world.tables["deal_partners"].to_pandas(), on="deal_id")
    first = deals[deals.outcome == "won"].groupby("partner_id").closed_at.min().reindex(partners.index)
    mature = partners.joined_at + pd.Timedelta(days=385) < world.end
    success = (first < partners.joined_at + pd.Timedelta(days=365))[mature].astype(float)
    probability = probability[mature]
    error = np.sqrt((probability * (1 - probability)).sum()) / len(probability)
    assert abs(success.mean() - probability.mean()) < 4 * error
    bins = pd.qcut(probability, 4)
    assert success.groupby(bins).mean().is_monotonic_increasing


@pytest.mark.parametrize(
    "as_of",
    [
        dt.datetime(2024, 11, 1, 6, tzinfo=dt.UTC),
        dt.datetime(2023, 12, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    ],
)
def test_moments_outside_the_simulation_are_refused(world: SyntheticEcosystem, as_of: dt.datetime) -> None:
    with pytest.raises(InputError, match="as_of must be a midnight UTC from 2024-01-01 to 2025-11-01"):
        world.truth.churn_probability(as_of)


def test_labels_beyond_the_end_are_refused(world: SyntheticEcosystem) -> None:
    with pytest.raises(InputError, match="reach beyond the simulated days"):
        world.truth.churned(dt.datetime(2025, 9, 1, tzinfo=dt.UTC))


def test_the_chance_of_a_pair_is_that_of_the_assignment_that_was_made():
    world = simulate(partners=300, months=10, seed=4)
    truth = world.truth
    made = truth.assignments
    day = made.assigned // _world.DAY
    for start in np.unique(day[np.isfinite(made.propensity)])[[20, 120, 250]]:
        rows = np.flatnonzero(np.isfinite(made.propensity) & (day == start))
        # offers that go on to the next partner are decided the day before some of them are made
        rows = rows[truth.leads.created[made.lead[rows]] // _world.DAY == start]
        found = truth.pair_probability(
            truth.lead_ids[made.lead[rows]],
            truth.partner_ids[made.partner[rows]],
            at=dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=int(start)),
            open_leads=made.load[rows],
            horizon_days=10_000,
        )
        ever = truth.win_probability(horizon_days=None)["win_probability"].to_numpy()[rows]
        assert found == pytest.approx(ever, abs=1e-12)


def test_a_pair_of_nobody_is_refused():
    truth = simulate(partners=20, months=2, seed=0).truth
    with pytest.raises(InputError, match="none of this world"):
        truth.pair_probability(
            ["nobody"], [truth.partner_ids[0]], at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC), open_leads=[0]
        )
