"""Importance is the mean size of effects that add up; dependence asks the model about rows that could be."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from tests.models.made_up_models import ACTIVE, AGE, COUNTRY, LOGINS, RECENCY, WON, frame, made_up

from partnerml.dataset import FeatureInfo
from partnerml.errors import InputError, InternalError
from partnerml.features import Feature, describe
from partnerml.models import Blend, LogLogistic, Model, PlattCalibrator
from partnerml.models._drift import QUANTILES, drift_baseline
from partnerml.models._importance import (
    BACKGROUND_ROWS,
    EXPLAINED_ROWS,
    Driver,
    dependence,
    explanation,
    importance,
    latest,
)
from partnerml.models._importance_plots import importance_figures
from partnerml.models._plots import svg


def clusters(n: int) -> np.ndarray:
    return np.array([f"p{place % 90:03d}" for place in range(n)])


def windows_model(*, slopes: dict[str, float]) -> tuple[Model, pd.DataFrame]:
    """A logistic on windows of logins, and one of won deals; its coefficients are what is asked for."""
    names = ["events__portal_login__count__30d", "events__portal_login__count__90d", "deals__won__amount__365d"]
    X = pd.DataFrame(np.random.default_rng(5).gamma(2.0, 3.0, size=(300, 3)).round(), columns=names)
    X[names[1]] = X[names[0]] * 3.0
    base = LogLogistic().fit(X, np.arange(300) % 2)
    for name, slope in slopes.items():
        base.coef_[names.index(name)] = slope
    infos = tuple(describe(Feature.parse(name)) for name in names)
    blend = Blend({"logistic": base}, {"logistic": 1.0})
    return Model.of(task={}, catalogue={}, dictionary=infos, blend=blend, evaluation={}, training={}), X


def brute_importance(model: Model, X: pd.DataFrame, features: tuple[str, ...]) -> float:
    effects = model.contributions(X)
    return math.fsum(abs(math.fsum(effects[name].iloc[i] for name in features)) for i in range(len(X))) / len(X)


def test_importance_is_the_mean_size_of_the_summed_effects():
    model, (X, _) = made_up(), frame(250, seed=2)
    drivers = importance(model, X, clusters(250), n_boot=50)
    assert sorted(name for driver in drivers for name in driver.features) == sorted(model.blend.feature_names_in_)
    for driver in drivers:
        assert driver.importance == pytest.approx(brute_importance(model, X, driver.features), rel=1e-12)
        assert driver.low <= driver.importance <= driver.high
    assert [d.importance for d in drivers] == sorted((d.importance for d in drivers), reverse=True)
    assert math.fsum(driver.share for driver in drivers) == pytest.approx(1.0)
    assert {driver.lead for driver in drivers[:3]} >= {LOGINS, RECENCY}  # what the made-up labels are made of
    assert next(d for d in drivers if d.lead == LOGINS).direction < -0.9  # who logs in often stays
    assert next(d for d in drivers if d.lead == COUNTRY).direction is None


def test_windows_of_one_thing_are_one_driver_and_opposite_effects_cancel():
    short, long = "events__portal_login__count__30d", "events__portal_login__count__90d"
    model, X = windows_model(slopes={short: 0.0, long: 0.0})
    drivers = importance(model, X, clusters(300), n_boot=10)
    assert [set(driver.features) for driver in drivers] == [{"deals__won__amount__365d"}, {short, long}]
    assert drivers[1].importance == 0.0
    assert drivers[1].words == "portal logins: how many"
    assert drivers[0].words == "revenue of won deals in the last 365 days"


def test_intervals_are_those_of_a_bootstrap_over_clusters():
    model, (X, _) = made_up(), frame(120, seed=3)
    keys = clusters(120) + np.where(np.arange(120) < 90, "", "")  # 90 partners, 30 of them twice
    (driver, *_), seed = importance(model, X, keys, n_boot=40, seed=7), 7
    effects = model.contributions(X)[list(driver.features)].sum(axis=1).abs().to_numpy()
    known = np.unique(keys)
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(40):
        rows = [i for k in generator.integers(0, len(known), len(known)) for i in np.flatnonzero(keys == known[k])]
        draws.append(effects[rows].mean())
    assert (driver.low, driver.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), rel=1e-9)
    alone = importance(model, X, np.full(120, "p1"))
    assert {(each.low, each.high) for each in alone} == {(None, None)}


@settings(max_examples=6)
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_the_order_of_the_rows_changes_nothing_but_the_last_bits(seed, n):
    model, (X, _) = made_up(), frame(n, seed=seed % 50)
    keys, order = clusters(n), np.random.default_rng(seed).permutation(n)
    one = importance(model, X, keys, n_boot=10)
    other = importance(model, X.iloc[order], keys[order], n_boot=10)
    found = {driver.lead: driver for driver in other}
    for driver in one:
        if driver.importance > 1e-9:
            assert found[driver.lead].importance == pytest.approx(driver.importance, rel=1e-9)
            assert found[driver.lead].low == pytest.approx(driver.low, rel=1e-9) if driver.low else True


def test_effects_that_do_not_add_up_are_our_fault(monkeypatch):
    model, (X, _) = made_up(), frame(30)
    honest = Model.contributions
    monkeypatch.setattr(Model, "contributions", lambda self, X: honest(self, X) + 1e-4)
    with pytest.raises(InternalError, match=r"effects do not sum to the log-odds of the score: they are 0\.000"):
        importance(model, X, clusters(30))


def test_without_rows_or_clusters_nothing_is_said():
    model, (X, _) = made_up(), frame(30)
    for rows, keys in ((X.iloc[:0], np.empty(0)), (X, clusters(29))):
        with pytest.raises(InputError, match="importance needs rows and one cluster for each"):
            importance(model, rows, keys)


def test_a_driver_comes_back_from_json():
    driver = importance(made_up(), frame(40)[0], clusters(40), n_boot=5)[0]
    assert Driver.from_dict(driver.to_dict()) == driver


def test_dependence_is_the_mean_score_with_one_driver_moved():
    model, (X, _) = made_up(), frame(200, seed=4)
    drivers = importance(model, X, clusters(200), n_boot=5)
    told = {entry["lead"]: entry for entry in dependence(model, X, drivers)}
    assert len(told) == len(drivers) == 6
    for point in told[LOGINS]["points"]:
        moved = X.assign(**{LOGINS: point["value"]})
        assert point["score"] == pytest.approx(model.predict_proba(moved).mean(), rel=1e-12)
        assert point["share"] == pytest.approx((X[LOGINS] <= point["value"]).mean())
    scores = [point["score"] for point in told[LOGINS]["points"]]
    assert scores[0] > scores[-1]
    values = [point["value"] for point in told[COUNTRY]["points"]]
    assert set(values) == {"AT", "DE", "NA", None}
    unknown = next(point for point in told[COUNTRY]["points"] if point["value"] is None)
    blank = X.assign(**{COUNTRY: pd.Categorical([None] * 200, categories=["AT"])})
    assert unknown["score"] == pytest.approx(model.predict_proba(blank).mean(), rel=1e-12)
    assert [point["value"] for point in told[WON]["points"]][-1] is None


def test_windows_of_a_driver_move_together():
    """Forty logins in a month and three in the quarter around it would be a row that cannot be."""
    short, long = "events__portal_login__count__30d", "events__portal_login__count__90d"
    model, X = windows_model(slopes={})
    drivers = [driver for driver in importance(model, X, clusters(300), n_boot=5) if long in driver.features]
    (entry,) = dependence(model, X, drivers)
    other = {short: long, long: short}[entry["lead"]]
    factor = {short: 3.0, long: 1 / 3.0}[entry["lead"]]
    for point in entry["points"]:
        moved = X.assign(**{entry["lead"]: point["value"], other: point["value"] * factor})
        assert point["score"] == pytest.approx(model.predict_proba(moved).mean(), rel=1e-9)


def test_levels_that_cannot_be_are_no_points(monkeypatch):
    """A component may have no score for a row that cannot be, such as one with more won than closed."""
    model, (X, _) = made_up(), frame(200, seed=4)
    drivers = [driver for driver in importance(model, X, clusters(200), n_boot=5) if driver.lead in (LOGINS, AGE)]
    honest = Model.predict_proba
    limit = X[LOGINS].quantile(0.5)
    monkeypatch.setattr(
        Model, "predict_proba", lambda self, rows: np.where(rows[LOGINS] > limit, np.nan, honest(self, rows))
    )
    (entry,) = dependence(model, X, drivers)
    assert entry["lead"] == LOGINS
    assert [point["value"] <= limit for point in entry["points"]] == [True] * len(entry["points"])
    assert len(entry["points"]) >= 2


def test_dependence_of_a_single_logistic_is_its_own_curve():
    names = [LOGINS]
    X = pd.DataFrame({LOGINS: np.arange(100.0)})
    base = LogLogistic().fit(X, (np.arange(100) % 3 == 0).astype(float))
    blend = Blend({"logistic": base}, {"logistic": 1.0}, PlattCalibrator(2.0, 0.5))
    infos = tuple(describe(Feature.parse(name)) for name in names)
    model = Model.of(task={}, catalogue={}, dictionary=infos, blend=blend, evaluation={}, training={})
    (entry,) = dependence(model, X, importance(model, X, clusters(100), n_boot=5))
    for point in entry["points"]:
        alone = base.decision_function(pd.DataFrame({LOGINS: [point["value"]]}))[0]
        assert logit(point["score"]) == pytest.approx(2.0 * alone + 0.5)


def test_the_latest_rows_speak_and_the_rest_is_drawn():
    as_of = pd.Series(pd.to_datetime(["2026-01-01"] * 5 + ["2026-03-01"] * 4 + ["2026-02-01"] * 6, utc=True))
    assert list(latest(as_of, 4)) == [5, 6, 7, 8]
    assert list(latest(as_of, 99)) == list(range(15))
    found = latest(as_of, 7, seed=1)
    assert len(found) == 7
    assert set(found) >= {5, 6, 7, 8}
    assert set(found) - {5, 6, 7, 8} <= set(range(9, 15))
    assert list(found) == sorted(found)
    assert list(found) == list(latest(as_of, 7, seed=1))


def test_the_documents_of_a_model_have_a_json_form_and_figures(tmp_path):
    model, (X, _) = made_up(), frame(400)
    as_of = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(400) % 3 * 30, unit="D"))
    documents = explanation(model, X, clusters(400), as_of, seed=3)
    documents |= {"baseline": drift_baseline(model, X, model.predict_proba(X))}
    kept = model.with_documents(documents)
    assert kept.documents["importance"]["rows"] == min(400, EXPLAINED_ROWS)
    assert kept.documents["importance"]["last"] == "2026-03-02T00:00:00+00:00"
    assert (
        kept.documents
        == model.with_documents(explanation(model, X, clusters(400), as_of, seed=3))
        .with_documents({"baseline": documents["baseline"]})
        .documents
    )
    assert BACKGROUND_ROWS < 400
    drawn = importance_figures(kept.documents)
    assert list(drawn) == ["importance", "dependence"]
    written = svg(drawn["importance"]).decode()
    assert written == svg(importance_figures(kept.documents)["importance"]).decode()
    for driver in kept.documents["importance"]["drivers"]:
        assert driver["words"].split()[0] in written
    titles = [axes.get_title(loc="left").replace("\n", " ") for axes in drawn["dependence"].axes]
    assert len(titles) == 6
    assert importance_figures({}) == {}


def test_the_drift_baseline_holds_what_the_rows_hold():
    model, (X, _) = made_up(), frame(400, seed=9)
    found = drift_baseline(model, X, np.linspace(0, 1, 101))
    assert found["rows"] == 400
    assert set(found["features"]) == set(model.columns)
    won = found["features"][WON]
    assert won["missing"] == pytest.approx(X[WON].isna().mean())
    known = X[WON].dropna().to_numpy()
    assert won["quantiles"] == {f"{q:g}": pytest.approx(np.quantile(known, q)) for q in QUANTILES}
    edges = [-math.inf, *won["edges"], math.inf]
    counted = [((known > low) & (known <= high)).mean() for low, high in itertools.pairwise(edges)]
    assert won["shares"] == pytest.approx(counted)
    assert math.fsum(won["shares"]) == pytest.approx(1.0)
    country = found["features"][COUNTRY]
    assert country["values"] == {v: pytest.approx((X[COUNTRY].dropna() == v).mean()) for v in ("AT", "DE", "NA")}
    assert found["scores"]["rows"] == 101
    assert found["scores"]["quantiles"]["0.5"] == pytest.approx(0.5)
    assert drift_baseline(model, X)["scores"] is None


def test_the_drift_baseline_of_columns_with_ties_and_without_values():
    model, (X, _) = made_up(), frame(60, seed=9)
    X = X.assign(**{ACTIVE: 1.0, RECENCY: np.nan, AGE: [0.0] * 55 + [5.0] * 5})
    found = drift_baseline(model, X)["features"]
    assert (found[ACTIVE]["edges"], found[ACTIVE]["shares"]) == ([1.0], [1.0, 0.0])
    assert found[RECENCY] == {"missing": 1.0, "quantiles": {}, "edges": [], "shares": []}
    assert found[AGE]["edges"][0] == 0.0
    assert found[AGE]["shares"][0] == pytest.approx(55 / 60)
    assert sum(found[AGE]["shares"]) == pytest.approx(1.0)


def test_many_values_are_cut_to_the_frequent_ones():
    model, (X, _) = made_up(), frame(400)
    X[COUNTRY] = pd.Categorical([f"c{min(place, 180)}" for place in range(400)])
    values = drift_baseline(model, X)["features"][COUNTRY]["values"]
    assert len(values) == 50
    assert values["c180"] == pytest.approx(220 / 400)


def test_words_of_a_driver_of_several_windows_without_a_name_of_their_own():
    names = ["events__portal_login__share__30d", "events__portal_login__share__90d"]
    infos = tuple(describe(Feature.parse(name)) for name in names)
    X = pd.DataFrame(np.random.default_rng(0).random((40, 2)), columns=names)
    base = LogLogistic().fit(X, np.arange(40) % 2)
    blend = Blend({"logistic": base}, {"logistic": 1.0})
    model = Model.of(task={}, catalogue={}, dictionary=infos, blend=blend, evaluation={}, training={})
    (driver,) = importance(model, X, clusters(40), n_boot=5)
    assert driver.words.startswith("share of portal logins in all events in the last ")
    assert driver.words.endswith(", and 1 like it")


def test_the_info_of_a_feature_is_found_by_its_name():
    model, (X, _) = made_up(), frame(40)
    renamed = tuple(
        FeatureInfo(**{**info.to_dict(), "words": f"the {info.subject}", "columns": ()}) for info in model.dictionary
    )
    told = importance(dataclasses.replace(model, dictionary=renamed), X, clusters(40), n_boot=5)
    assert {driver.words for driver in told} == {f"the {name}" for name in model.blend.feature_names_in_}
