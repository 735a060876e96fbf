"""Who is credited with what, and what qualifies."""

from __future__ import annotations

import contextlib

import pandas as pd
import pytest
from tests.features import tables as made

from partnerml.errors import ConfigError
from partnerml.features import Activity, Catalogue, Feature, build_rows

DAY, START = made.DAY, made.START


def values(backend, tables, names, *, activity=None, lags=None, as_of=START, partners=("A", "B")):
    """Features of partners at START, as one list for each partner."""
    tables = {"partners": [{"partner_id": partner} for partner in ("A", "B", "C")], **tables}
    catalogue = Catalogue(
        tuple(Feature.parse(name) for name in names), event_types=("login",), activity=activity or Activity()
    )
    keys = pd.DataFrame({"partner_id": list(partners), "as_of": [as_of] * len(partners)})
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build_rows(eco, keys, catalogue=catalogue)
    return data.X.astype(object).where(data.X.notna(), None).to_numpy().tolist()


def won(deal_id, partner_id, days_ago, amount=100.0, **columns):
    closed = START - days_ago * DAY
    return {
        "deal_id": deal_id,
        "partner_id": partner_id,
        "registered_at": closed - 40 * DAY,
        "outcome": "won",
        "closed_at": closed,
        "amount": amount,
        **columns,
    }


REVENUE = ("deals__won__count__30d", "deals__won__amount__30d")


def test_a_deal_belongs_to_its_partner_and_a_direct_deal_to_nobody(backend):
    tables = {"deals": [won("1", "A", 1), won("2", None, 1)]}
    assert values(backend, tables, REVENUE) == [[1.0, 100.0], [0.0, 0.0]]


def test_revenue_is_split_by_share(backend):
    pairs = [
        {"deal_id": "1", "partner_id": "A", "share": 0.25, "is_primary": False},
        {"deal_id": "1", "partner_id": "B", "share": 0.75, "is_primary": True},
    ]
    tables = {"deals": [won("1", "C", 1)], "deal_partners": pairs}
    assert values(backend, tables, REVENUE) == [[1.0, 25.0], [1.0, 75.0]]
    assert values(backend, tables, REVENUE, partners=("C",)) == [[0.0, 0.0]]


def test_without_shares_revenue_is_the_primarys(backend):
    pairs = [
        {"deal_id": "1", "partner_id": "A", "share": None, "is_primary": True},
        {"deal_id": "1", "partner_id": "B", "share": None, "is_primary": None},
    ]
    tables = {"deals": [won("1", "A", 1)], "deal_partners": pairs}
    assert values(backend, tables, REVENUE) == [[1.0, 100.0], [1.0, 0.0]]


def test_without_a_primary_revenue_is_split_equally(backend):
    pairs = [{"deal_id": "1", "partner_id": partner, "share": None, "is_primary": None} for partner in "AB"]
    tables = {"deals": [won("1", "A", 1), won("2", "A", 2, 7.0)], "deal_partners": pairs}
    # deal 2 has no rows there: it is its partner's alone
    assert values(backend, tables, REVENUE) == [[2.0, 57.0], [1.0, 50.0]]


def test_an_outcome_is_seen_when_it_was_recorded_and_never_before_the_deal(backend):
    late = won("1", "A", 5, closed_recorded_at=START)
    entered_late = won("2", "A", 5, recorded_at=START + DAY, closed_recorded_at=None)
    on_time = won("3", "A", 5, closed_recorded_at=START - DAY)
    names = ("deals__won__count__30d", "deals__registered__count__90d")
    assert values(backend, {"deals": [late]}, names, partners=("A",)) == [[0.0, 1.0]]
    assert values(backend, {"deals": [entered_late]}, names, partners=("A",)) == [[0.0, 0.0]]
    assert values(backend, {"deals": [on_time]}, names, partners=("A",)) == [[1.0, 1.0]]


def test_a_lag_stands_in_where_nothing_was_recorded(backend):
    rows = [{"partner_id": "A", "occurred_at": START - 2 * DAY, "event_type": "login"}]
    names = ("events__all__count__30d",)
    assert values(backend, {"events": rows}, names, lags={"events": 2 * DAY}, partners=("A",)) == [[0.0]]
    assert values(backend, {"events": rows}, names, lags={"events": 2 * DAY - made.TICK}, partners=("A",)) == [[1.0]]
    rows[0]["recorded_at"] = START - DAY
    assert values(backend, {"events": rows}, names, lags={"events": 9 * DAY}, partners=("A",)) == [[1.0]]


QUALIFYING = {
    "events": [
        {"partner_id": "A", "occurred_at": START - DAY, "event_type": "login", "actor": None},
        {"partner_id": "A", "occurred_at": START - DAY, "event_type": "survey", "actor": "partner"},
        {"partner_id": "A", "occurred_at": START - DAY, "event_type": "mail", "actor": "vendor"},
    ],
    "deals": [won("1", "A", 1)],
}


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        (Activity(), 4.0),
        (Activity(include=("events",)), 2.0),
        (Activity(include=("login",)), 1.0),
        (Activity(include=("events.login", "deals.won")), 2.0),
        (Activity(include=("events", "deals"), exclude=("survey",)), 3.0),
        (Activity(exclude=("deals",)), 2.0),
        (Activity(exclude=("deals.registered", "events")), 1.0),
    ],
)
def test_activity_narrows_what_qualifies(backend, activity, expected):
    names = ("activity__all__count__90d",)
    assert values(backend, QUALIFYING, names, activity=activity, partners=("A",)) == [[expected]]


@pytest.mark.parametrize(
    ("item", "message"),
    [("deals.lost", "never qualifies"), ("certifications.earned", "is not known"), ("events.", "is not known")],
)
def test_what_cannot_qualify_is_refused(item, message):
    with pytest.raises(ConfigError, match=message):
        Activity(include=(item,))


def test_sums_of_money_are_exact_whatever_the_order(backend):
    amounts = [1e9, 0.1, 0.2, -1e9, 0.3]
    rows = [{"partner_id": "A", "occurred_at": START - DAY, "event_type": "login", "value": value} for value in amounts]
    for ordered in (rows, rows[::-1], sorted(rows, key=lambda row: row["value"])):
        assert values(backend, {"events": ordered}, ("events__all__value__7d",), partners=("A",)) == [[0.6]]


def test_without_any_rows_counts_are_zero_and_the_rest_is_null(backend):
    names = (
        "events__all__count__30d",
        "events__all__value__30d",
        "events__all__active_days__ever",
        "events__all__recency_days__ever",
        "events__all__count_ratio__7d_30d",
        "events__all__prior_ratio__30d",
        "activity__all__gap_mean__90d",
        "activity__all__count_trend__12w",
    )
    expected = [[0.0, 0.0, 0.0, None, None, None, None, 0.0]]
    assert values(backend, {"events": []}, names, partners=("A",)) == expected
    assert values(backend, {}, names, partners=("A",)) == expected
