"""What became of assigned leads is what the oracle says, as known at any moment; the future changes none of it."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import won as oracle

from partnerml.ecosystem import Ecosystem
from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, WonLabel, build_assigned, pair_outcomes
from partnerml.features._won import won_tables
from partnerml.synthetic import simulate

DAY, TICK = made.DAY, made.TICK
UNTIL = made.START + 40 * DAY
HORIZON = 30
TIMES = made.moments((made.START, made.START + 9 * DAY, UNTIL - HORIZON * DAY, UNTIL), before=20)
SPANS = st.sampled_from([dt.timedelta(0), TICK, DAY, HORIZON * DAY - TICK, HORIZON * DAY, 60 * DAY])
PARTNERS, LEADS = ("A", "B"), ("L1", "L2")
RESPONSES = st.sampled_from([None, "accepted", "accepted", "declined", "expired", "withdrawn"])


def _rows(count, columns, least=0):
    return st.integers(least, count).flatmap(lambda n: st.lists(st.fixed_dictionaries(columns), min_size=n, max_size=n))


def _closed(row, begin, outcomes):
    """Turn the drawn span and delay into the moments of an end."""
    span, delay = row.pop("span"), row.pop("delay")
    over = row["outcome"] in outcomes
    row["closed_at"] = row[begin] + span if over and span is not None else None
    row["closed_recorded_at"] = None if delay is None or row["closed_at"] is None else row["closed_at"] + delay
    return row


@st.composite
def worlds(draw):
    """Draw (tables, lags): assignments with awkward ends, and deals that came of leads."""
    ends = {"outcome": st.sampled_from([None, "open", "won", "won", "lost", "cancelled"]), "delay": made.DELAYS}
    one, lead = st.sampled_from(PARTNERS), st.sampled_from(LEADS)
    columns = {"lead_id": lead, "partner_id": one, "assigned_at": TIMES, "response": RESPONSES, "wait": made.DELAYS}
    assignments = draw(_rows(6, columns | ends | {"span": st.one_of(st.none(), SPANS)}, least=1))
    for row in assignments:
        wait = row.pop("wait")
        row["responded_at"] = None if row["response"] is None or wait is None else row["assigned_at"] + wait
        _closed(row, "assigned_at", oracle.OVER)
    assignments = list({(r["lead_id"], r["partner_id"], r["assigned_at"]): r for r in assignments}.values())
    columns = {"lead_id": st.one_of(st.none(), lead), "partner_id": st.one_of(st.none(), one), "registered_at": TIMES}
    columns |= ends | {"outcome": st.sampled_from(["open", "won", "lost"]), "span": SPANS, "recorded": made.DELAYS}
    deals = draw(_rows(5, columns))
    for i, row in enumerate(deals):
        delay = row.pop("recorded")
        row |= {"deal_id": f"D{i}", "recorded_at": None if delay is None else row["registered_at"] + delay}
        _closed(row, "registered_at", oracle.OVER)
    tables = {"partners": [{"partner_id": name} for name in PARTNERS], "assignments": assignments}
    if draw(st.booleans()):
        tables["deals"] = deals
        if deals and draw(st.booleans()):
            found = draw(made.shares(deals))
            tables["deal_partners"] = [row for row in found if row["partner_id"] in PARTNERS]
    lag = st.sampled_from([dt.timedelta(0), dt.timedelta(0), TICK, dt.timedelta(hours=12), 2 * DAY])
    return tables, {name: draw(lag) for name in ("assignments", "deals")}


def outcomes_of(backend, tables, lags=None):
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        return pair_outcomes(eco)


def told(outcomes, until, horizon=HORIZON):
    """All that is said of each pair at a moment, by key."""
    labels = outcomes.labels(WonLabel(horizon), until)
    keys = outcomes.pairs[["lead_id", "partner_id", "assigned_at"]].itertuples(index=False, name=None)
    rows = zip(outcomes.known(until), *(labels[name] for name in labels), strict=True)
    return {(lead, partner, at.to_pydatetime()): row for (lead, partner, at), row in zip(keys, rows, strict=True)}


@settings(max_examples=10, **made.quick)
@given(worlds(), st.sampled_from([UNTIL, UNTIL - TICK, UNTIL + TICK, UNTIL + 2 * DAY]))
def test_equal_to_the_oracle(backend, drawn, until):
    tables, lags = drawn
    outcomes = outcomes_of(backend, tables, lags)
    found = told(outcomes, until)
    assert len(found) == len(tables["assignments"])
    for pair in tables["assignments"]:
        kept, *label = found[pair["lead_id"], pair["partner_id"], pair["assigned_at"]]
        assert kept == oracle.known(pair, until, lags)
        expected = oracle.label(pair, HORIZON, until, tables, lags)
        for value, wanted in zip(label, expected, strict=True):
            assert made.same(value, None if wanted is None else float(wanted), tolerance=1e-9), (pair, label, expected)
    live = outcomes.live(WonLabel(HORIZON), until)
    keys = zip(live["lead_id"], live["partner_id"], live["assigned_at"].dt.to_pydatetime(), strict=True)
    assert {(lead, partner): at for lead, partner, at in keys} == oracle.live(HORIZON, until, tables, lags)


@settings(max_examples=5, **made.quick)
@given(worlds())
def test_what_is_known_later_changes_nothing(backend, drawn):
    tables, lags = drawn
    before = told(outcomes_of(backend, tables, lags), UNTIL)
    later = copy.deepcopy(tables)
    lag = lags["assignments"]
    for pair in later["assignments"]:
        seen = [end for end in oracle.ends(pair, {}, lags) if end[1] < UNTIL]
        if pair["closed_at"] is None and pair["outcome"] not in oracle.OVER:
            pair |= {"outcome": "won", "closed_at": UNTIL, "closed_recorded_at": UNTIL}
        elif pair["closed_at"] is not None and not seen:
            pair |= {"outcome": "lost" if pair["outcome"] == "won" else "won", "closed_recorded_at": UNTIL + DAY}
        if pair["response"] in (None, "accepted") or not (pair["responded_at"] or UNTIL) + lag < UNTIL:
            pair |= {"response": "declined", "responded_at": max(UNTIL, pair["assigned_at"])}
    extra = {"lead_id": "L1", "partner_id": "A", "assigned_at": UNTIL + DAY, "response": None, "outcome": None}
    later["assignments"].append(extra)
    after = told(outcomes_of(backend, later, lags), UNTIL)
    refused_at_once = {
        key
        for key in before
        for pair in tables["assignments"]
        if (pair["lead_id"], pair["partner_id"], pair["assigned_at"]) == key
        and pair["response"] in ("declined", "expired", "withdrawn")
        and pair["responded_at"] is None
    }
    for key, row in before.items():
        if key not in refused_at_once:
            np.testing.assert_equal(after[key], row, err_msg=str(key))


def pair(**columns):
    return {"lead_id": "L1", "partner_id": "A", "assigned_at": made.START, **columns}


def one(backend, until, *rows, lags=None, **tables):
    """The label of the only pair."""
    tables = {"partners": [{"partner_id": "A"}], "assignments": list(rows), **tables}
    return told(outcomes_of(backend, tables, lags), until)["L1", "A", made.START]


END = made.START + HORIZON * DAY


@pytest.mark.parametrize(("closed", "y"), [(END - TICK, 1.0), (END, 0.0), (made.START, 1.0)])
def test_the_horizon_is_half_open(backend, closed, y):
    row = pair(outcome="won", closed_at=closed, closed_recorded_at=closed)
    assert one(backend, END + DAY, row)[1] == y


@pytest.mark.parametrize(("until", "mature"), [(END + DAY, True), (END + DAY - TICK, False)])
def test_immature_is_null_and_never_zero_however_clear_the_end(backend, until, mature):
    """A win that is known already would be counted, and those that take longer not."""
    row = pair(outcome="won", closed_at=made.START + DAY)
    kept, y, days, observed, _ = one(backend, until, row, lags={"assignments": DAY})
    assert kept
    assert (y == 1.0) if mature else np.isnan(y)
    assert (days, observed) == (1.0, True)


def test_won_by_a_deal_that_names_the_lead(backend):
    deal = {"deal_id": "D", "partner_id": "A", "lead_id": "L1", "registered_at": made.START, "outcome": "won"}
    deal["closed_at"] = made.START + 3 * DAY
    lost = pair(outcome="lost", closed_at=made.START + DAY)
    _, y, days, observed, lost_days = one(backend, END, lost, deals=[deal])
    assert (y, days, observed) == (1.0, 3.0, True)
    assert np.isnan(lost_days)
    # of somebody else's deal, and of one that had closed before, nothing is said
    for change in ({"partner_id": "B"}, {"lead_id": "L2"}, {"closed_at": made.START - TICK}):
        assert one(backend, END, lost, deals=[deal | change])[1] == 0.0


def test_won_without_a_date_is_never_known(backend):
    dated = pair(lead_id="L2", outcome="lost", closed_at=made.START)
    row = one(backend, END + 300 * DAY, pair(outcome="won"), dated)
    assert np.isnan(row[1])


@pytest.mark.parametrize("outcome", ["lost", "cancelled"])
def test_lost_without_a_date_is_not_won(backend, outcome):
    """Sources that date their wins alone would have no losses, and a base rate of one."""
    won = pair(lead_id="L2", outcome="won", closed_at=made.START)
    rows = [pair(outcome=outcome), won]
    outcomes = outcomes_of(backend, {"partners": [{"partner_id": "A"}], "assignments": rows})
    for until, y in ((END + 300 * DAY, 0.0), (END - TICK, np.nan)):
        kept, *label = told(outcomes, until)["L1", "A", made.START]
        followed = (until - made.START) / DAY
        assert kept
        np.testing.assert_array_equal(label, [y, followed, False, np.nan])
    # nobody works on it
    assert outcomes.live(WonLabel(HORIZON), made.START + DAY).empty


def test_what_is_wrong_is_said(backend):
    partners = [{"partner_id": "A"}]
    for tables, problem in (
        ({"partners": partners}, "needs the table assignments"),
        ({"partners": partners, "assignments": [pair(response="accepted")]}, "what was won and when: map assignments"),
    ):
        with pytest.raises(ConfigError, match=problem):
            outcomes_of(backend, tables)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        WonLabel(0)


def test_maturity_waits_for_the_largest_lag_of_the_tables_that_tell(backend):
    deal = {"deal_id": "D", "partner_id": "A", "registered_at": made.START, "outcome": "open", "closed_at": None}
    lags = {"assignments": DAY, "deals": 5 * DAY}
    tables = {"partners": [{"partner_id": "A"}], "assignments": [pair(outcome=None, closed_at=None)]}
    for deals, names, lag in (([deal], ("assignments",), DAY), ([deal | {"lead_id": None}], None, 5 * DAY)):
        with contextlib.closing(made.Tables(backend, {**tables, "deals": deals}, lags)) as eco:
            assert won_tables(eco) == (names or ("assignments", "deals"))
            assert pair_outcomes(eco).lag == lag


@pytest.fixture(scope="module")
def eco():
    world = simulate(partners=60, start="2025-01-01", months=7, seed=5)
    with Ecosystem.from_frames(now=world.end, **world.tables) as opened:
        yield opened


def test_rows_with_labels_and_features(eco):
    outcomes, label, until = pair_outcomes(eco), WonLabel(60), dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
    catalogue = Catalogue((Feature.parse("pair__place__level__asof"),))
    late = (outcomes.pairs["assigned_at"] >= "2025-02-01").to_numpy()
    data = build_assigned(eco, outcomes, catalogue=catalogue, label=label, until=until, rows=late)
    known = outcomes.labels(label, until)
    places = outcomes.places(data.keys)
    assert np.all(np.diff(places) > 0)
    pd.testing.assert_series_equal(data.y, known["y"].iloc[places].reset_index(drop=True))
    refused = outcomes.pairs.index[~outcomes.known(until)]
    assert not set(places) & set(refused)
    assert len(refused) > 0
    assert data.keys["as_of"].min() >= pd.Timestamp("2025-02-01", tz="UTC")
    assert 0.05 < data.y.mean() < 0.6
    assert data.y.isna().any()
    assert np.array_equal(data.y.isna(), data.as_of + pd.Timedelta(days=60) > pd.Timestamp(until))
    other = build_assigned(eco, outcomes, catalogue=catalogue, label=WonLabel(61), until=until, rows=late)
    assert other.fingerprint != data.fingerprint


def test_most_live_pairs_of_the_past_end(eco):
    outcomes = pair_outcomes(eco)
    live = outcomes.live(WonLabel(60), "2025-05-01")
    assert len(live) > 10
    won, _ = outcomes.ended("2025-08-01")
    assert np.isin(outcomes.places(live), np.flatnonzero(won < won.max())).mean() > 0.05
    assert live["assigned_at"].between(pd.Timestamp("2025-03-02"), pd.Timestamp("2025-05-01")).all()
