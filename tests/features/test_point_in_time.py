"""The features are those of the row-by-row oracle, on awkward tables."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import point_in_time as oracle

from partnerml.features import Activity, Catalogue, Feature, build_rows

NAMES = (
    *(f"events__all__{m}__{d}d" for m in ("count", "value", "active_days", "distinct_types") for d in made.WINDOWS),
    *(f"events__{kind}__count__30d" for kind in (*made.EVENT_TYPES, "other")),
    *(f"events__{kind}__active_days__90d" for kind in (*made.EVENT_TYPES, "other")),
    *(f"events__login__{m}__ever" for m in ("count", "value", "active_days", "recency_days", "age_days")),
    *(f"activity__all__{m}__ever" for m in ("count", "active_days", "recency_days", "age_days")),
    *(f"activity__all__{m}__{d}d" for m in ("count", "active_days", "recency_days") for d in (1, 30, 90)),
    *(f"activity__all__{m}__{d}d" for m in ("gap_mean", "gap_max", "gap_sd", "recency_over_gap") for d in (30, 90)),
    *(f"deals__{kind}__{m}__90d" for kind in ("all", "registered", "won", "lost") for m in ("count", "recency_days")),
    *(f"deals__won__{m}__{w}" for m in ("amount", "active_days") for w in ("30d", "90d", "ever")),
    *("certifications__all__count__90d", "certifications__earned__recency_days__ever"),
    *("activity__all__count_ratio__7d_30d", "events__all__count_ratio__30d_90d", "deals__won__count_ratio__30d_90d"),
    *("activity__all__prior_ratio__30d", "events__login__prior_ratio__7d"),
    *("activity__all__count_trend__2w", "activity__all__count_trend__12w", "events__all__count_trend__26w"),
    *("partners__all__tenure_days__asof", "partners__country__trait__asof", "partners__latitude__trait__asof"),
)
ACTIVITIES = (
    Activity(),
    Activity(include=("events",)),
    Activity(include=("login", "deals.won")),
    Activity(exclude=("events.survey", "deals.registered")),
    Activity(exclude=("deals",)),
)
# an example compiles and runs a query: shrinking a failure would take minutes
quick = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}
few = settings(max_examples=8, **quick)


def check(backend, tables, lags, as_of, names, activity):
    """Compare every feature of every partner at every moment."""
    catalogue = Catalogue(
        tuple(Feature.parse(name) for name in names),
        event_types=made.EVENT_TYPES,
        activity=activity,
        static_traits=("country", "latitude"),
    )
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        keys = pd.DataFrame(itertools.product(made.PARTNERS, as_of), columns=["partner_id", "as_of"])
        data = build_rows(eco, keys, catalogue=catalogue)
    for i, (partner_id, moment) in enumerate(data.keys.itertuples(index=False)):
        for name in names:
            expected = oracle.feature(
                name,
                partner_id,
                moment.to_pydatetime().replace(tzinfo=None),
                tables,
                lags=lags,
                event_types=made.EVENT_TYPES,
                include=activity.include,
                exclude=activity.exclude,
                static=catalogue.static_traits,
            )
            assert same(data.X[name].iloc[i], expected), (name, partner_id, moment, data.X[name].iloc[i], expected)


def same(found, expected):
    if expected is None or pd.isna(found):
        return expected is None and pd.isna(found)
    return (
        found == expected if isinstance(expected, str) else math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-12)
    )


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
@settings(max_examples=3, **quick)
@given(drawn=made.ecosystems(made.MIDNIGHTS))
def test_all_features_at_once(backend, drawn):
    check(backend, *drawn, made.MIDNIGHTS, NAMES, Activity())


@pytest.mark.slow
@settings(max_examples=30, **quick)
@given(
    drawn=made.ecosystems(made.MIDNIGHTS),
    as_of=st.sampled_from([made.MIDNIGHTS, made.OFF_MIDNIGHT, made.MIDNIGHTS[1:2], made.OFF_MIDNIGHT[1:2]]),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True),
    activity=st.sampled_from(ACTIVITIES),
)
def test_many_worlds(backend, drawn, as_of, names, activity):
    check(backend, *drawn, as_of, names, activity)
