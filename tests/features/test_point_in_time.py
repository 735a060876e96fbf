"""The features are those of the row-by-row oracle, on awkward tables."""

from __future__ import annotations

import contextlib
import datetime as dt

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import point_in_time as oracle

from partnerml.features import Activity, Catalogue, Feature, build_rows

GAPS = ("gap_mean", "gap_max", "gap_sd", "recency_over_gap")
STREAM = made.stream_names()
NAMES = tuple(
    dict.fromkeys(
        (
            *STREAM,
            *(f"events__all__{m}__{d}d" for m in ("count", "value", "active_days") for d in made.WINDOWS),
            *(f"events__all__{m}__{d}d" for m in ("distinct_types", "value_last", "value_min") for d in made.WINDOWS),
            *(f"events__{kind}__count__30d" for kind in (*made.EVENT_TYPES, "other")),
            *(f"events__{kind}__active_days__90d" for kind in (*made.EVENT_TYPES, "other")),
            *(f"activity__all__{m}__{d}d" for m in ("count", "active_days", "recency_days") for d in (1, 30, 90)),
            *(f"activity__all__{m}__{d}d" for m in GAPS for d in (30, 90)),
            *(f"{series}__streak_weeks__{n}w" for series in ("activity__all", "deals__won") for n in (2, 59)),
            *("events__all__count_ratio__30d_90d", "events__all__count_trend__26w", "activity__all__count_trend__2w"),
            *("partners__all__tenure_days__asof", "partners__country__trait__asof", "partners__latitude__trait__asof"),
        )
    )
)
ACTIVITIES = (
    Activity(),
    Activity(include=("events",)),
    Activity(include=("login", "deals.won")),
    Activity(exclude=("events.survey", "deals.registered")),
    Activity(exclude=("deals",)),
)
few = settings(max_examples=5, **made.quick)


def check(backend, tables, lags, as_of, names, activity, *, keys=None):
    """Compare every feature of every partner at every moment, or of given keys."""
    catalogue = Catalogue(
        tuple(Feature.parse(name) for name in names),
        event_types=made.EVENT_TYPES,
        activity=activity,
        static_traits=("country", "latitude"),
    )
    keys = made.every_key(as_of) if keys is None else pd.DataFrame(keys, columns=["partner_id", "as_of"])
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build_rows(eco, keys, catalogue=catalogue)
    assert len(data.X) == len(keys)

    def expected(name, partner_id, moment):
        return oracle.feature(
            name,
            partner_id,
            moment,
            tables,
            lags=lags,
            event_types=made.EVENT_TYPES,
            include=activity.include,
            exclude=activity.exclude,
            static=catalogue.static_traits,
        )

    made.check_rows(data, names, expected)


@few
@given(
    drawn=made.ecosystems(made.MIDNIGHTS),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=12, unique=True),
    activity=st.sampled_from(ACTIVITIES),
)
def test_equal_to_the_oracle_at_midnight(backend, drawn, names, activity):
    check(backend, *drawn, made.MIDNIGHTS, names, activity)


@few
@given(
    drawn=made.ecosystems(made.OFF_MIDNIGHT),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=12, unique=True),
    activity=st.sampled_from(ACTIVITIES),
)
def test_equal_to_the_oracle_off_midnight(backend, drawn, names, activity):
    check(backend, *drawn, made.OFF_MIDNIGHT, names, activity)


@settings(max_examples=5, **made.quick)
@given(
    drawn=made.ecosystems(made.MIDNIGHTS),
    days=st.lists(st.integers(0, 120), min_size=9, max_size=14, unique=True),
    offset=st.sampled_from([0 * made.DAY, 0 * made.DAY, dt.timedelta(hours=12, minutes=30)]),
    names=st.lists(st.sampled_from(STREAM), min_size=1, max_size=10, unique=True),
    data=st.data(),
)
def test_a_sparse_spine_gets_what_its_rows_get_alone(backend, drawn, days, offset, names, data):
    as_of = [made.START + day * made.DAY + offset for day in days]
    # each moment is somebody's, and nobody has all of them
    keys = [(data.draw(st.sampled_from(made.PARTNERS)), moment) for moment in as_of]
    check(backend, *drawn, as_of, names, Activity(), keys=keys)


@settings(max_examples=3, **made.quick)
@given(drawn=made.ecosystems(made.MIDNIGHTS), names=st.lists(st.sampled_from(STREAM), min_size=2, max_size=6))
def test_partners_taken_in_turns(backend, drawn, names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("partnerml.features._values._AT_ONCE", 60)
        check(backend, *drawn, made.MIDNIGHTS, list(dict.fromkeys(names)), Activity())


def test_the_last_value_of_several_at_once_is_the_largest(backend):
    at = made.START - made.DAY
    values = [(at, 2.0), (at, 7.5), (at, -1.0), (at + made.TICK, None), (at - made.TICK, 90.0)]
    rows = [
        {"partner_id": "A", "occurred_at": moment, "event_type": "login", "value": value} for moment, value in values
    ]
    tables = {"partners": [{"partner_id": partner} for partner in made.PARTNERS], "events": rows}
    names = [f"events__login__value_last__{window}" for window in ("1d", "30d", "ever")]
    check(backend, tables, {}, (made.START, made.START + made.DAY), names, Activity())


def test_a_day_that_an_edge_cuts_counts_once(backend):
    as_of = made.START + dt.timedelta(hours=12, minutes=30)
    around = [as_of - 7 * made.DAY + dt.timedelta(hours=hours) for hours in (-1, 1)]
    late = as_of - made.DAY
    rows = [
        {"partner_id": "A", "occurred_at": moment, "event_type": "login", "recorded_at": moment + delay}
        for moment, delay in [*((m, 0 * made.DAY) for m in around), (late, 0 * made.DAY), (late, made.DAY - made.TICK)]
    ]
    tables = {"partners": [{"partner_id": partner} for partner in made.PARTNERS], "events": rows}
    names = tuple(f"events__all__active_days__{window}" for window in ("7d", "30d", "ever"))
    check(backend, tables, {}, (as_of, as_of + made.DAY), names, Activity())


@pytest.mark.slow
@pytest.mark.parametrize("as_of", [made.MIDNIGHTS[1:3], made.OFF_MIDNIGHT[1:2]], ids=["midnight", "off midnight"])
@settings(max_examples=1, **made.quick)
@given(data=st.data())
def test_all_features_at_once(backend, as_of, data):
    check(backend, *data.draw(made.ecosystems(as_of)), as_of, NAMES, Activity())


@pytest.mark.slow
@settings(max_examples=12, **made.quick)
@given(
    drawn=made.ecosystems(made.MIDNIGHTS),
    as_of=st.sampled_from([made.MIDNIGHTS, made.OFF_MIDNIGHT, made.MIDNIGHTS[1:2], made.OFF_MIDNIGHT[1:2]]),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True),
    activity=st.sampled_from(ACTIVITIES),
)
def test_many_worlds(backend, drawn, as_of, names, activity):
    check(backend, *drawn, as_of, names, activity)
