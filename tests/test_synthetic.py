"""The synthetic ecosystem: its tables keep the contract, and the laws that it claims."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from partnerml import schema
from partnerml.ecosystem import Ecosystem
from partnerml.errors import ConfigError
from partnerml.synthetic import SyntheticEcosystem, _leads, simulate
from partnerml.synthetic._deals import create_accounts
from partnerml.synthetic._world import generator

ARROW_TYPES = {
    schema.Type.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    schema.Type.NUMBER: pa.float64(),
    schema.Type.AMOUNT: pa.float64(),
    schema.Type.SHARE: pa.float64(),
    schema.Type.LATITUDE: pa.float64(),
    schema.Type.LONGITUDE: pa.float64(),
    schema.Type.INTEGER: pa.int64(),
    schema.Type.BOOLEAN: pa.bool_(),
    schema.Type.LIST: pa.list_(pa.string()),
}


@pytest.fixture(scope="module")
def world() -> SyntheticEcosystem:
    return simulate(partners=1500, months=18, seed=7)


@pytest.fixture(scope="module")
def frames(world: SyntheticEcosystem) -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in world.tables.items()}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = digests(simulate(partners=60, months=6, seed=1).write(tmp_path / "a"))
    again = digests(simulate(partners=60, months=6, seed=1).write(tmp_path / "b"))
    other = digests(simulate(partners=60, months=6, seed=2).write(tmp_path / "c"))
    assert first == again
    assert set(first) == {f"{name}.parquet" for name in schema.TABLES}
    assert all(first[name] != other[name] for name in first)


def test_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    simulate(partners=20, months=3, seed=1).write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    expected = simulate(partners=30, months=3, seed=1)
    assert expected.write(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.parquet" for name in schema.TABLES} | {"notes.txt"}
    for name, table in expected.tables.items():
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"partners": 0}, "partners must be at least 1, got 0"),
        ({"months": 0}, "months must be from 1 to 120, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"start": "soon"}, "start must be a date such as 2024-01-01, got 'soon'"),
        ({"start": "2024-01-31"}, r"start must be on a day that every month has \(1 to 28\)"),
        ({"start": "2024-01-01T05:00:00"}, "start must be a day"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("partners", "months"), [(1, 1), (3, 2)])
def test_tiny_worlds_work(partners: int, months: int) -> None:
    tiny = simulate(partners=partners, months=months, start=dt.date(2024, 2, 1))
    assert tiny.tables["partners"].num_rows == partners
    assert tiny.end == dt.datetime(2024, 2 + months, 1, tzinfo=dt.UTC)


def test_every_declared_column_is_there_with_its_type_and_has_values(world: SyntheticEcosystem) -> None:
    assert set(world.tables) == set(schema.TABLES)
    for name, declared in schema.TABLES.items():
        table = world.tables[name]
        assert tuple(table.column_names) == declared.names
        for column in declared.columns:
            values = table[column.name]
            assert values.type == ARROW_TYPES.get(column.type, pa.string()), (name, column.name)
            assert values.null_count < table.num_rows, f"{name}.{column.name} is empty"
            if column.required:
                assert values.null_count == 0, (name, column.name)
            if column.values:
                assert set(values.drop_null().to_pylist()) <= set(column.values)
                assert len(set(values.drop_null().to_pylist())) > 1


def test_keys_are_unique_and_references_found(frames: dict[str, pd.DataFrame]) -> None:
    for name, declared in schema.TABLES.items():
        frame = frames[name]
        if declared.key:
            assert not frame.duplicated(list(declared.key)).any(), name
        for reference in declared.references:
            values = frame[reference.column].dropna()
            assert values.isin(frames[reference.table][reference.key]).all(), (name, reference.column)
    accounts, leads, partners = (set(frames[t].iloc[:, 0]) for t in ("accounts", "leads", "partners"))
    assert set(frames["deals"].account_id.dropna()) <= accounts
    assert set(frames["deals"].lead_id.dropna()) <= leads
    assert set(frames["leads"].account_id.dropna()) <= accounts
    assert set(frames["partners"].parent_id.dropna()) <= partners


def test_nothing_is_recorded_before_it_happened_or_after_the_extract(
    world: SyntheticEcosystem, frames: dict[str, pd.DataFrame]
) -> None:
    for name, declared in schema.TABLES.items():
        for moment, recorded in declared.recorded:
            rows = frames[name][[moment, recorded]].dropna()
            assert len(rows) > 0
            assert (rows[recorded] >= rows[moment]).all(), (name, moment)
            assert (rows[recorded] < world.end).all(), (name, recorded)
        if declared.event_time:
            assert (frames[name][declared.event_time] < world.end).all(), name


def test_the_times_of_deals_and_assignments_are_in_order(frames: dict[str, pd.DataFrame]) -> None:
    deals, assignments = frames["deals"], frames["assignments"]
    is_open = deals.outcome == "open"
    assert deals.closed_at.isna().equals(is_open)
    assert deals.closed_recorded_at.isna().equals(is_open)
    assert 0.05 < is_open.mean() < 0.5
    closed = deals[~is_open]
    assert (closed.closed_at > closed.registered_at).all()
    assert deals.partner_id.isna().any()
    assert deals.amount.gt(0).all()
    answered = assignments.dropna(subset=["responded_at"])
    assert (answered.responded_at >= answered.assigned_at).all()
    ended = assignments.dropna(subset=["closed_at"])
    assert (ended.closed_at > ended.responded_at).all()
    assert (ended.response == "accepted").all()
    created = assignments.merge(frames["leads"][["lead_id", "created_at"]], on="lead_id")
    assert (created.assigned_at > created.created_at).all()


def test_a_partner_does_nothing_before_it_joins_or_after_it_leaves(frames: dict[str, pd.DataFrame]) -> None:
    partners = frames["partners"].set_index("partner_id")
    assert 0.02 < partners.left_at.notna().mean() < 0.3
    for name, moment in (("events", "occurred_at"), ("deals", "registered_at"), ("assignments", "assigned_at")):
        rows = frames[name].dropna(subset=["partner_id"]).join(partners[["joined_at", "left_at"]], on="partner_id")
        assert (rows[moment] > rows.joined_at).all(), name
        assert (rows.left_at.isna() | (rows[moment] < rows.left_at)).all(), name


def test_one_row_in_fifty_is_late_by_days_and_most_by_hours(frames: dict[str, pd.DataFrame]) -> None:
    events = frames["events"]
    events = events[events.occurred_at < events.occurred_at.max() - pd.Timedelta(days=20)]
    days = (events.recorded_at - events.occurred_at) / pd.Timedelta(days=1)
    late = (days >= 1).mean()
    assert abs(late - 0.02) < 4 * np.sqrt(0.02 * 0.98 / len(days)) + 0.001
    assert days.median() < 0.2
    assert days.max() < 15


def test_seasons_show(frames: dict[str, pd.DataFrame]) -> None:
    events = frames["events"]
    own = events[events.actor == "partner"]
    weekend = own.occurred_at.dt.day_of_week >= 5
    assert weekend.mean() < 0.12
    by_month = own[own.occurred_at.dt.year == 2024].groupby(own.occurred_at.dt.month).size()
    assert by_month[8] < 0.8 * (by_month[7] + by_month[9]) / 2


def test_history_ends_where_partners_are(frames: dict[str, pd.DataFrame]) -> None:
    history, partners = frames["partner_history"], frames["partners"]
    assert (history.groupby("partner_id").valid_from.min() == partners.set_index("partner_id").joined_at).all()
    last = history.groupby("partner_id").tail(1).set_index("partner_id").sort_index()
    now = partners.set_index("partner_id").sort_index()
    for column in ("tier", "country", "region", "postal_code", "capacity_per_week", "left_at"):
        pd.testing.assert_series_equal(last[column], now[column])
    assert last.verticals.map(list).equals(now.verticals.map(list))
    for column in ("tier", "postal_code", "capacity_per_week"):
        assert history.groupby("partner_id")[column].nunique().max() > 1, column


def test_deal_history_leads_to_the_deal(frames: dict[str, pd.DataFrame]) -> None:
    history = frames["deal_history"].sort_values(["deal_id", "valid_from"])
    deals = frames["deals"].set_index("deal_id")
    assert set(history.deal_id) == set(deals.index)
    last = history.groupby("deal_id").tail(1).set_index("deal_id").sort_index()
    deals = deals.sort_index()
    for column in ("amount", "registration_status", "protected_until"):
        pd.testing.assert_series_equal(last[column], deals[column])
    assert (last.stage[deals.outcome != "open"] == "closed").all()
    first = history.groupby("deal_id").head(1).set_index("deal_id").sort_index()
    assert (first.valid_from == deals.registered_at).all()
    assert set(first.registration_status.dropna()) == {"pending"}


def test_shares_of_a_deal_sum_to_one(frames: dict[str, pd.DataFrame]) -> None:
    parts = frames["deal_partners"]
    assert np.allclose(parts.groupby("deal_id").share.sum(), 1.0)
    assert (parts.groupby("deal_id").is_primary.sum() == 1).all()
    assert parts.groupby("deal_id").size().max() == 2
    primary = parts[parts.is_primary].set_index("deal_id").partner_id
    owners = frames["deals"].set_index("deal_id").partner_id.dropna()
    pd.testing.assert_series_equal(primary.sort_index(), owners.sort_index())


def test_recruits_are_partners_as_they_joined_and_some_more(frames: dict[str, pd.DataFrame]) -> None:
    recruits, history = frames["recruits"], frames["partner_history"]
    prospects = ~recruits.partner_id.isin(frames["partners"].partner_id)
    assert recruits.joined_at.isna().equals(prospects)
    assert prospects.any()
    signed = recruits[~prospects].merge(history.groupby("partner_id").head(1), on="partner_id", suffixes=("", "_then"))
    assert (signed.postal_code == signed.postal_code_then).all()
    assert (signed.verticals.map(list) == signed.verticals_then.map(list)).all()


def test_logged_propensities_are_the_chances_of_being_chosen(world: SyntheticEcosystem) -> None:
    assignments = world.tables["assignments"]
    routed = assignments.filter(pc.equal(assignments["origin"], "routed")).to_pandas()
    assert routed.propensity.between(0, 1, inclusive="right").all()
    assert (routed.propensity >= 0.1 / 16 - 1e-12).all()  # the uniform arm reaches everybody on the shortlist
    n = len(routed)
    assert abs(routed.explores.mean() - 0.1) < 4 * np.sqrt(0.09 / n)
    # the mean of 1 / propensity over the chosen is the mean number eligible
    eligible = (1 / routed.propensity).mean()
    assert 8 < eligible < 16
    handed = assignments.filter(pc.equal(assignments["origin"], "partner_submitted"))
    assert handed["propensity"].null_count == handed.num_rows > 0


def test_shares_of_the_chosen_match_their_propensities() -> None:
    """Route equal leads many times: each candidate is chosen as often as its propensity says."""
    small = simulate(partners=200, months=6, seed=3)
    truth = small.truth
    rng = generator(0, "test")
    leads_made = truth.assignments.lead[truth.assignments.propensity > 0]
    certificates = _leads.create_certificates(truth.world, left=truth.engagement.left, seed=3)
    accounts = create_accounts(truth.world, seed=3)
    leads, _ = _leads.create_leads(truth.world, accounts, truth.deals, seed=3)
    router = _leads._Router(truth.world, leads, certificates, truth.engagement.left, rng=rng)
    lead = np.full(20_000, leads_made[len(leads_made) // 2])
    part = router.choose(lead, np.zeros(len(lead), dtype=np.int64), 150)
    frame = pd.DataFrame({"partner": part["partner"], "propensity": part["propensity"]})
    grouped = frame.groupby("partner").propensity.agg(["size", "first", "nunique"])
    assert (grouped["nunique"] == 1).all()
    assert len(grouped) > 5
    share = grouped["size"] / len(lead)
    error = np.sqrt(grouped["first"] * (1 - grouped["first"]) / len(lead))
    assert (abs(share - grouped["first"]) < 4.5 * error).all()
    assert abs(grouped["first"].sum() - 1) < 0.01


def test_the_ecosystem_opens_it_without_any_violation(world: SyntheticEcosystem, tmp_path: Path) -> None:
    with Ecosystem.open(world.write(tmp_path)) as ecosystem:
        report = ecosystem.validate(now=world.end)
        assert not report.violations, report
        assert set(ecosystem.tables) == set(schema.TABLES)


def test_paused_partners_get_no_leads(world: SyntheticEcosystem, frames: dict[str, pd.DataFrame]) -> None:
    history = frames["partner_history"].dropna(subset=["paused_until"])
    pauses = history.groupby("partner_id").agg(begin=("valid_from", "min"), end=("paused_until", "max"))
    routed = frames["assignments"].query("origin == 'routed'").join(pauses, on="partner_id", how="inner")
    assert len(routed) > 100
    within = (routed.assigned_at >= routed.begin) & (routed.assigned_at < routed.end)
    assert not within.any()
