"""Reasons tell the largest effects, once each, in the partner's own figures."""

import numpy as np
import pandas as pd
import pytest

from partnerml.dataset import FeatureInfo
from partnerml.models._explain import explain, figures


def info(name, *, words, subject, unit="count"):
    source, kind, measure, window = name.split("__")
    days = int(window[:-1]) if window.endswith("d") and "_" not in window else None
    return FeatureInfo(
        name=name, definition=words, table=source, columns=(), window_days=days, null_rule="", words=words,
        subject=subject, measure=measure, group=f"{source}__{kind}", unit=unit,
    )  # fmt: skip


LOGINS = "portal logins"
DICTIONARY = (
    info("events__login__count__30d", words="portal logins in the last 30 days", subject=LOGINS),
    info("events__login__count__60d", words="portal logins in the last 60 days", subject=LOGINS),
    info("events__login__count__90d", words="portal logins in the last 90 days", subject=LOGINS),
    info("events__login__count__180d", words="portal logins in the last 180 days", subject=LOGINS),
    info("deals__won__amount__30d", words="won revenue in the last 30 days", subject="won revenue", unit="money"),
    info("deals__won__amount__60d", words="won revenue in the last 60 days", subject="won revenue", unit="money"),
    info("activity__all__recency_days__ever", words="days since the last activity", subject="activity", unit="days"),
    info("activity__all__gap_mean__365d", words="mean gap between active days", subject="activity", unit="days"),
    info("partners__country__trait__asof", words="country", subject="country", unit="category"),
    info("pair__source__own__asof", words="whether it handed the lead in", subject="source", unit="flag"),
)
SAME_INDUSTRY = "works in the lead's own industry (typical: another industry than the lead's)"
OFFICE, TERRITORY, NEAR = "its office is in", "its territory ", "an industry near the lead's"
NAMES = [entry.name for entry in DICTIONARY]


def told(row, effects, *, typical=None, top=3):
    X = pd.DataFrame([{name: row.get(name, np.nan) for name in NAMES}])
    contributions = pd.DataFrame([{**{name: effects.get(name, 0.0) for name in NAMES}, "base": -1.0}])
    return explain(contributions, X, dictionary=DICTIONARY, typical=typical or {}, top=top)[0]


def test_windows_of_one_thing_are_one_reason_with_their_effects_summed():
    row = {"events__login__count__30d": 3.0, "events__login__count__60d": 17.0}
    reasons = told(row, {"events__login__count__30d": 0.5, "events__login__count__60d": 0.25})
    assert reasons[0].effect == pytest.approx(0.75)
    assert reasons[0].feature == "events__login__count__30d"
    assert reasons[0].value == 3.0
    assert reasons[0].text == "portal logins fell from 14 to 3 in 30 days"
    assert [reason.effect for reason in reasons[1:]] == [0.0, 0.0]


def test_the_span_that_goes_the_way_of_the_effect_is_told():
    row = {
        "events__login__count__30d": 8.0, "events__login__count__60d": 14.0,  # rose from 6 to 8
        "events__login__count__90d": 20.0, "events__login__count__180d": 90.0,  # fell from 70 to 20
    }  # fmt: skip
    assert told(row, {"events__login__count__90d": 1.0})[0].text == "portal logins fell from 70 to 20 in 90 days"
    assert told(row, {"events__login__count__90d": -1.0})[0].text == "portal logins rose from 6 to 8 in 30 days"


def test_largest_effects_come_first_whatever_their_sign():
    reasons = told(
        {"deals__won__amount__30d": 1200.0, "deals__won__amount__60d": 1500.0, "partners__country__trait__asof": "BR"},
        {"deals__won__amount__30d": -2.0, "partners__country__trait__asof": 1.0},
        typical={"deals__won__amount__30d": 100.0},
    )
    assert [reason.effect for reason in reasons[:2]] == [-2.0, 1.0]
    assert reasons[0].text == "won revenue rose from 300 to 1,200 in 30 days (typical: 100)"
    assert reasons[1].text == "country: BR"
    assert reasons[1].to_dict()["value"] is None


def test_silence_is_told_with_the_usual_rhythm():
    row = {"activity__all__recency_days__ever": 45.2, "activity__all__gap_mean__365d": 6.0}
    assert (
        told(row, {"activity__all__recency_days__ever": 1.0})[0].text
        == "last activity 45 days ago, usually every 6 days"
    )
    assert told({}, {"activity__all__recency_days__ever": 1.0})[0].text == "no activity on record"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "handed the lead in itself"),
        (0.0, "did not hand the lead in"),
    ],
)
def test_who_handed_the_lead_in_is_told_in_words(value, words):
    name = "pair__source__own__asof"
    (reason,) = told({name: value}, {name: 0.5}, typical={name: 1.0}, top=1)
    assert reason.text == words


@pytest.mark.parametrize(
    ("given", "distance", "effects", "words"),
    [
        (350.0, 350.0, (-0.3, -0.6), "350 km from the customer (typical: 40 km)"),
        (350.0, 350.0, (-0.6, -0.3), "350 km from the customer (typical: 45 km)"),
        (np.nan, 350.0, (-0.3, 0.6), "handed the lead in itself, 350 km from the customer"),
        (np.nan, np.nan, (-0.3, 0.6), "distance to the customer: not known"),
    ],
)
def test_both_features_of_distance_are_one_reason(given, distance, effects, words):
    near, far = "pair__place__given_km__asof", "pair__place__distance_km__asof"
    dictionary = [
        info(near, words="km of a lead that it was given", subject="", unit="km"),
        info(far, words="km", subject="", unit="km"),
    ]
    said = pd.DataFrame([{far: effects[0], near: effects[1], "base": 0.0}])
    row = pd.DataFrame([{far: distance, near: given}])
    ((reason,),) = explain(said, row, dictionary=dictionary, typical={near: 40.0, far: 45.0})
    assert reason.text == words
    assert reason.effect == pytest.approx(sum(effects))
    assert far in figures(dictionary[0])


@pytest.mark.parametrize(
    ("feature", "value", "typical", "text"),
    [
        ("pair__place__level__asof", 0.0, 3.0, f"{OFFICE} another country (typical: the customer's postal area)"),
        ("pair__place__level__asof", 2.0, 1.5, f"{OFFICE} the customer's region (typical: the customer's country)"),
        (
            "pair__territory__level__asof",
            1.0,
            1.0,
            f"{TERRITORY}holds the lead, by country or more widely (as is typical)",
        ),
        (
            "pair__territory__level__asof",
            0.0,
            3.0,
            f"{TERRITORY}does not hold the lead (typical: holds the lead by postal area)",
        ),
        ("pair__vertical__similarity__asof", 1.0, 0.0, SAME_INDUSTRY),
        ("pair__vertical__similarity__asof", 0.5, 0.5, f"works in {NEAR} (50 % of its code) (as is typical)"),
        (
            "pair__vertical__similarity__asof",
            0.67,
            0.33,
            f"works in {NEAR} (67 % of its code) (typical: {NEAR} (33 % of its code))",
        ),
        ("events__logins__count__30d", 4.0, 4.5, "logins: 4 (typical: 4.5)"),
        ("events__surveys__value_last__365d", 4.5, 3.6, "value of surveys: 4.50 (typical: 3.60)"),
        ("events__share__other__30d", 3.0, 3.0, "share of voice reports: 3 (as is typical)"),
        ("peers__share__percentile__30d", 87.25, 50.0, "share of wins, among its peers: 87 (typical: 50)"),
        ("deals__open__age_days__asof", 40.0, 30.5, "mean age of open deals: 40 (typical: 30)"),
        ("events__login__recency_days__90d", 12.0, 12.0, "days since the last login: 12 (as is typical)"),
        ("pair__place__distance_km__asof", 15_565.2, 39.9, "15,565 km from the customer (typical: 40 km)"),
        ("partners__latitude__trait__asof", -23.96, 41.87, "latitude: -24.0° (typical: 41.9°)"),
        ("pair__language__coverage__asof", 0.5, 1.0, "share of its languages: 50 % (typical: 100 %)"),
        ("partners__verticals__trait__asof", 1.0, 1.0, "number of verticals: 1 (as is typical)"),
        ("partners__certified__trait__asof", 1.0, 0.0, "certified: yes (typical: no)"),
        ("partners__certified__trait__asof", 0.0, 0.5, "certified: no (typical: 0.50)"),
    ],
)
def test_what_a_number_stands_for_is_told(feature, value, typical, text):
    told_as = {
        "latitude": ("latitude", "degrees"),
        "km": ("distance", "km"),
        "verticals": ("number of verticals", "count"),
        "certified": ("certified", "yes or no"),
        "logins": ("logins", "count"),
        "surveys": ("value of surveys", "value"),
        "events__share": ("share of voice reports", "count"),
        "peers": ("share of wins, among its peers", "percentile"),
        "open": ("mean age of open deals", "days"),
        "recency": ("days since the last login", "days"),
    }
    words, unit = next((told_as[part] for part in told_as if part in feature), ("share of its languages", "ratio"))
    entry = info(feature, words=words, subject="", unit=unit)
    effects = pd.DataFrame([{feature: 0.5, "base": 0.0}])
    rows = explain(effects, pd.DataFrame([{feature: value}]), dictionary=[entry], typical={feature: typical}, top=1)
    assert rows[0][0].text == text


def test_nothing_at_all_is_told_as_a_level():
    row = {"events__login__count__30d": 0.0, "events__login__count__60d": 0.0}
    reason = told(row, {"events__login__count__30d": 0.4}, typical={"events__login__count__30d": 5.0})[0]
    assert reason.text == "portal logins in the last 30 days: 0 (typical: 5)"


def test_effects_of_all_reasons_add_up():
    rng = np.random.default_rng(0)
    effects = dict(zip(NAMES, rng.normal(size=len(NAMES)), strict=True))
    reasons = told(dict.fromkeys(NAMES[:-2], 1.0), effects, top=99)
    assert sum(reason.effect for reason in reasons) == pytest.approx(sum(effects.values()))
    assert len({reason.text for reason in reasons}) == len(reasons)
