"""Population and label are those of the row-by-row oracle, and obey the rules of the contract at their edges."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import point_in_time as oracle

from partnerml.errors import ConfigError
from partnerml.features import (
    Activity,
    Catalogue,
    ChurnLabel,
    Population,
    build,
    first_activity,
    first_deal,
    largest_lag,
)
from partnerml.tasks import churn, snapshots

DAY, START, TICK = made.DAY, made.START, made.TICK
few = settings(
    max_examples=8,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
NOTHING = Catalogue(())


def check(backend, tables, lags, as_of, until, active_within_days, horizon, inactivity, activity):
    narrowed = {"include": activity.include, "exclude": activity.exclude}
    label = ChurnLabel(horizon_days=horizon, inactivity_days=inactivity, activity=activity)
    population = Population(active_within_days, activity)
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build(eco, population=population, label=label, catalogue=NOTHING, as_of=as_of, until=until)
    found = {
        (row.partner_id, row.as_of.to_pydatetime().replace(tzinfo=None)): i
        for i, row in enumerate(data.keys.itertuples())
    }
    assert list(found) == sorted(found, key=lambda key: (key[1], key[0]))
    for partner_id in made.PARTNERS:
        for moment in as_of:
            belongs = oracle.in_population(
                partner_id, moment, tables, active_within_days=active_within_days, lags=lags, **narrowed
            )
            assert belongs == ((partner_id, moment) in found), (partner_id, moment)
            if not belongs:
                continue
            i = found[partner_id, moment]
            y, duration, observed = oracle.label(
                partner_id,
                moment,
                tables,
                until=until,
                horizon_days=horizon,
                inactivity_days=inactivity,
                lags=lags,
                **narrowed,
            )
            assert (None if math.isnan(data.y[i]) else data.y[i]) == y, (partner_id, moment)
            assert data.times["observed"][i] == observed, (partner_id, moment)
            assert math.isclose(data.times["duration_days"][i], duration, abs_tol=1e-9), (partner_id, moment)


SPANS = st.sampled_from([(90, 90), (60, 30), (30, 30), (90, 7), (1, 1)])
UNTIL = st.sampled_from([START + 121 * DAY, START + 130 * DAY, START + 121 * DAY + TICK, START + 40 * DAY, START])
ACTIVITIES = st.sampled_from([Activity(), Activity(include=("deals",)), Activity(exclude=("login",))])


@few
@given(made.ecosystems(made.MIDNIGHTS), UNTIL, st.sampled_from([None, 7, 90]), SPANS, ACTIVITIES)
def test_equal_to_the_oracle_at_midnight(backend, drawn, until, active_within_days, spans, activity):
    check(backend, *drawn, made.MIDNIGHTS, until, active_within_days, *spans, activity)


@few
@given(made.ecosystems(made.OFF_MIDNIGHT), UNTIL, st.sampled_from([None, 30]), SPANS, ACTIVITIES)
def test_equal_to_the_oracle_off_midnight(backend, drawn, until, active_within_days, spans, activity):
    check(backend, *drawn, made.OFF_MIDNIGHT, until, active_within_days, *spans, activity)


def one(backend, activity_days, *, until=300, left=None, lags=None, **label):
    """Label of one partner at START; its activity in days after it."""
    days = [-5, *activity_days]
    tables = {
        "partners": [{"partner_id": "A", "left_at": None if left is None else START + left * DAY}],
        "events": [{"partner_id": "A", "occurred_at": START + day * DAY, "event_type": "login"} for day in days],
    }
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build(
            eco,
            population=Population(),
            label=ChurnLabel(**label),
            catalogue=NOTHING,
            as_of=[START],
            until=START + until * DAY,
        )
    assert len(data) == 1
    return data.y[0], data.times["duration_days"][0], bool(data.times["observed"][0])


def test_silent_throughout_is_churn(backend):
    assert one(backend, []) == (1.0, 90.0, True)


def test_activity_at_the_end_of_the_horizon_comes_too_late(backend):
    assert one(backend, [90]) == (1.0, 90.0, True)
    assert one(backend, [90 - 1e-6])[0] == 0.0


def test_a_silence_may_begin_after_activity(backend):
    assert one(backend, [5], horizon_days=90, inactivity_days=30) == (1.0, 35.0, True)
    assert one(backend, [5, 30, 50], horizon_days=90, inactivity_days=30) == (1.0, 80.0, True)
    assert one(backend, [5, 35], horizon_days=90, inactivity_days=30) == (1.0, 35.0, True)
    assert one(backend, [0, 35], horizon_days=90, inactivity_days=30) == (1.0, 30.0, True)


def test_a_silence_that_ends_after_the_horizon_is_no_churn_within_it(backend):
    assert one(backend, [5, 30, 60.5], horizon_days=90, inactivity_days=30)[0] == 1.0  # [30, 60) was one
    assert one(backend, [5, 30, 59, 61], horizon_days=90, inactivity_days=30) == (0.0, 91.0, True)


def test_leaving_counts_from_as_of_to_before_the_horizon(backend):
    busy = list(range(0, 200, 10))
    assert one(backend, busy, left=0) == (1.0, 0.0, True)
    assert one(backend, busy, left=89.5) == (1.0, 89.5, True)
    assert one(backend, busy, left=90) == (0.0, 90.0, True)


def test_immature_labels_are_null_and_their_times_censored(backend):
    busy = list(range(0, 200, 10))
    y, duration, observed = one(backend, busy, until=89)
    assert math.isnan(y)
    assert (duration, observed) == (89.0, False)
    assert one(backend, busy, until=90)[0] == 0.0


def test_the_largest_lag_delays_maturity_and_ends_observation(backend):
    lags = {"events": 2 * DAY}
    assert math.isnan(one(backend, [10, 50, 89], until=91, lags=lags)[0])
    y, duration, observed = one(backend, [10, 50, 89], until=92, lags=lags)
    assert (y, duration, observed) == (0.0, 90.0, False)


def test_what_is_recorded_at_until_is_unseen(backend):
    until = START + 90 * DAY
    row = {"partner_id": "A", "occurred_at": START + 50 * DAY, "event_type": "login"}
    before = {**row, "occurred_at": START - DAY}
    labels = []
    for recorded_at in (until - TICK, until):
        tables = {"partners": [{"partner_id": "A"}], "events": [before, {**row, "recorded_at": recorded_at}]}
        with contextlib.closing(made.Tables(backend, tables)) as eco:
            data = build(
                eco, population=Population(), label=ChurnLabel(), catalogue=NOTHING, as_of=[START], until=until
            )
        labels.append(data.y[0])
    assert labels == [0.0, 1.0]


def test_a_horizon_shorter_than_the_silence_is_refused():
    with pytest.raises(ConfigError, match=r"horizon_days \(30\) is shorter than inactivity_days \(90\)"):
        ChurnLabel(horizon_days=30, inactivity_days=90)


def test_days_below_one_are_refused():
    with pytest.raises(ConfigError, match="inactivity_days must be at least 1, not 0"):
        ChurnLabel(inactivity_days=0)
    with pytest.raises(ConfigError, match="active_within_days must be at least 1"):
        Population(0)


def test_specs_survive_json():
    population = Population(30, Activity(include=("login",), exclude=("deals",)))
    label = ChurnLabel(120, 60, population.activity)
    assert Population.from_dict(population.to_dict()) == population
    leavers = dataclasses.replace(population, with_left=True)
    assert Population.from_dict(leavers.to_dict()) == leavers
    assert ChurnLabel.from_dict(label.to_dict()) == label
    assert population.words == "joined, not left, with qualifying activity in the 30 days before"
    assert "at some time" in Population(None).words


def test_first_activity_is_the_first_that_qualifies(backend):
    rows = [
        {"partner_id": "A", "occurred_at": START, "event_type": "mail", "actor": "vendor"},
        {"partner_id": "A", "occurred_at": START + DAY, "event_type": "login", "actor": "partner"},
    ]
    with contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A"}], "events": rows})) as eco:
        assert first_activity(eco, Activity()) == (START + DAY).replace(tzinfo=dt.UTC)
        assert first_activity(eco, Activity(exclude=("login",))) is None
        assert largest_lag(eco, ["events", "deals"]) == dt.timedelta(0)


def test_first_activity_is_not_what_was_entered_later(backend):
    """A file of old rows that is imported today changes nothing that was trained until yesterday."""
    old, recorded = START - 400 * DAY, START + 500 * DAY
    event = {"partner_id": "A", "event_type": "login", "actor": "partner"}
    deal = {"deal_id": "D", "partner_id": "A", "outcome": "open"}
    tables = {
        "partners": [{"partner_id": "A"}],
        "events": [
            event | {"occurred_at": START + DAY, "recorded_at": START + DAY},
            event | {"occurred_at": old, "recorded_at": recorded},
        ],
        "deals": [
            deal | {"registered_at": START + 2 * DAY, "recorded_at": None},
            deal | {"deal_id": "E", "registered_at": old, "recorded_at": recorded},
        ],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        for until, activity, registered in (
            (recorded, START + DAY, START + 2 * DAY),
            (recorded + TICK, old, old),
            (START, None, None),
        ):
            found = first_activity(eco, Activity(), until=until), first_deal(eco, until=until)
            assert found == tuple(at and at.replace(tzinfo=dt.UTC) for at in (activity, registered))
        assert first_activity(eco, Activity()) == first_deal(eco) == old.replace(tzinfo=dt.UTC)
        known, later = (snapshots(eco, churn(), until.replace(tzinfo=dt.UTC)) for until in (recorded, recorded + DAY))
        assert known[0] >= (START + DAY).replace(tzinfo=dt.UTC) > later[0]
        assert later[-len(known) :] == known
