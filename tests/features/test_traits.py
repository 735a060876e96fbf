"""Traits are those that were known at the time."""

from __future__ import annotations

import contextlib
import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import traits as oracle

from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, build_rows, default_catalogue
from partnerml.features._lists import MAX_ITEMS, item_names, vocabulary
from partnerml.features._traits import trait_features

DAY, START = made.DAY, made.START


def trait(backend, tables, column, *, static=("country", "latitude"), lags=None):
    catalogue = Catalogue((Feature("partners", column, "trait", "asof"),), static_traits=static)
    keys = pd.DataFrame({"partner_id": ["A"], "as_of": [START]})
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build_rows(eco, keys, catalogue=catalogue)
    return data.X.iloc[0, 0], data


def history(*rows, **columns):
    return [
        {"partner_id": "A", "valid_from": START + days * DAY, **columns, column: value} for days, column, value in rows
    ]


def test_the_last_row_before_as_of_counts(backend):
    past = history((-90, "tier", "silver"), (-30, "tier", "gold"), (0, "tier", "platinum"), (9, "tier", "bronze"))
    tables = {"partners": [{"partner_id": "A", "tier": "bronze"}], "partner_history": past}
    value, data = trait(backend, tables, "tier")
    assert value == "gold"
    assert data.dictionary[0].table == "partner_history"
    assert trait(backend, tables, "tier", lags={"partner_history": 40 * DAY})[0] == "silver"


def test_without_a_row_in_time_a_declared_trait_is_that_of_partners(backend):
    past = history((5, "country", "FR"))
    tables = {"partners": [{"partner_id": "A", "country": "DE", "tier": "gold"}], "partner_history": past}
    assert trait(backend, tables, "country")[0] == "DE"
    assert pd.isna(trait(backend, tables, "country", static=())[0])


def test_a_null_in_the_history_is_a_null(backend):
    past = [{"partner_id": "A", "valid_from": START - DAY, "country": None}]
    tables = {"partners": [{"partner_id": "A", "country": "DE"}], "partner_history": past}
    assert pd.isna(trait(backend, tables, "country")[0])


def test_a_column_that_is_not_declared_is_refused(backend):
    tables = {"partners": [{"partner_id": "A", "tier": "gold"}]}
    with pytest.raises(ConfigError, match="'tier' is neither in partner_history nor among the traits of partners"):
        trait(backend, tables, "tier")


def test_numbers_are_numbers_and_texts_are_categories(backend):
    tables = {"partners": [{"partner_id": "A", "country": "DE", "latitude": 52.5}]}
    value, data = trait(backend, tables, "latitude")
    assert value == 52.5
    assert data.X.dtypes.iloc[0] == "float64"
    assert data.dictionary[0].unit == "degrees"
    value, data = trait(backend, tables, "country")
    assert value == "DE"
    assert isinstance(data.X.dtypes.iloc[0], pd.CategoricalDtype)


def names_of(backend, tables, *, before=START, lags=None):
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        features, vocabularies = trait_features(eco, before=before)
    return [feature.name.removeprefix("partners__").removesuffix("__asof") for feature in features], vocabularies


def test_tiers_capacities_and_flags_are_traits_only_from_history(backend):
    columns = {"tier": "gold", "capacity_per_day": 3, "left_at": None, "country": "DE", "name": "Acme"}
    now = [{"partner_id": "A", "joined_at": START - DAY, **columns}]
    assert names_of(backend, {"partners": now})[0] == ["country__trait"]
    past = [{"partner_id": "A", "valid_from": START - DAY, "tier": "gold", "flags": ["esg"], "left_at": None}]
    assert names_of(backend, {"partners": now, "partner_history": past})[0] == [
        "country__trait",
        "left_at__since_days",
        "tier__trait",
        "flags.esg__has",
        "flags__items",
    ]


def test_ids_names_and_what_cannot_be_named_are_no_traits(backend):
    columns = {"name": "Acme", "parent_id": "P1", "size band": "S", "a.b": "x", "employees": "12", "joined_at": START}
    past = [{"partner_id": "A", "valid_from": START - DAY, **columns}]
    assert names_of(backend, {"partners": [{"partner_id": "A"}], "partner_history": past})[0] == ["employees__trait"]


def test_the_catalogue_of_churn_has_all_traits(backend):
    partner = {"partner_id": "A", "country": "DE", "postal_code": "10115", "languages": ["de"], "tier": "gold"}
    with contextlib.closing(made.Tables(backend, {"partners": [partner]})) as eco:
        catalogue = default_catalogue(eco, before=START)
        catalogue = catalogue.only(name for name in catalogue.names if name.startswith("partners__"))
        data = build_rows(eco, pd.DataFrame({"partner_id": ["A"], "as_of": [START]}), catalogue=catalogue)
    assert {name: data.X[name].iloc[0] for name in catalogue.names} == {
        "partners__country__trait__asof": "DE",
        "partners__postal_code__trait__asof": "10115",
        "partners__languages.de__has__asof": 1.0,
        "partners__languages__items__asof": 1.0,
    }
    assert Catalogue.from_dict(catalogue.to_dict()) == catalogue


AS_OF = made.OFF_MIDNIGHT
ITEMS = ("retail", "Retail.Grocery", "retailer", "health.it", "c++", "C#")
NAMES = (
    "partners__country__trait__asof",
    "partners__latitude__trait__asof",
    "partners__verticals__items__asof",
    "partners__verticals.retail__has__asof",
    "partners__verticals.health__has__asof",
    "partners__verticals.c__has__asof",
    "partners__verticals.c_2__has__asof",
    "partners__audited_at__since_days__asof",
    "partners__paused_until__since_days__asof",
)
VOCABULARY = ("retail", "health", "c++", "c#")


@st.composite
def worlds(draw):
    """Draw (tables, lags) of partners whose traits change, over columns of every form."""

    def row(name):
        moment = st.one_of(st.none(), made.moments(AS_OF))
        return {
            "partner_id": name,
            "country": draw(st.sampled_from([None, "DE", "FR"])),
            "latitude": draw(st.sampled_from([None, 1.5, -3.0])),
            "verticals": draw(st.one_of(st.none(), st.lists(st.sampled_from(ITEMS), max_size=3, unique=True))),
            "paused_until": draw(moment),
        }

    tables = {"partners": [row(name) for name in made.PARTNERS]}
    past = st.tuples(st.sampled_from(made.PARTNERS), made.moments(AS_OF))
    tables["partner_history"] = [
        row(name) | {"valid_from": moment} for name, moment in draw(st.lists(past, min_size=1, max_size=8, unique=True))
    ]
    lag = draw(st.sampled_from([0 * DAY, made.TICK, 2 * DAY]))
    return tables, {"partner_history": lag}


quick = {"suppress_health_check": list(HealthCheck), "phases": (Phase.explicit, Phase.generate)}


@settings(max_examples=4, **quick)
@given(drawn=worlds(), static=st.sampled_from([("country", "latitude", "verticals", "paused_until"), ("verticals",)]))
def test_equal_to_the_oracle(backend, drawn, static):
    tables, lags = drawn
    names = [name for name in NAMES if "audited" not in name]
    catalogue = Catalogue(
        tuple(map(Feature.parse, names)), static_traits=static, vocabularies={"verticals": VOCABULARY}
    )
    keys = made.every_key(AS_OF)
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        data = build_rows(eco, keys, catalogue=catalogue)
    items = {"verticals.c": "c++", "verticals.c_2": "c#"}
    for i, (partner_id, moment) in enumerate(data.keys.itertuples(index=False)):
        as_of = moment.to_pydatetime().replace(tzinfo=None)
        for name in names:
            column = name.split("__")[1].split(".")[0]
            known = oracle.value(column, partner_id, as_of, tables, lags=lags, static=static)
            expected, found = oracle.feature(name, known, as_of, items=items), data.X[name].iloc[i]
            if expected is None or isinstance(expected, str):
                assert (pd.isna(found) and expected is None) or found == expected, (name, partner_id, as_of)
            else:
                assert math.isclose(found, expected, abs_tol=1e-9), (name, partner_id, as_of, found, expected)


def test_a_date_is_told_as_its_age(backend):
    past = [{"partner_id": "A", "valid_from": START - DAY, "paused_until": START + 36 * DAY / 24}]
    tables = {"partners": [{"partner_id": "A"}], "partner_history": past}
    catalogue = Catalogue((Feature.parse("partners__paused_until__since_days__asof"),))
    keys = pd.DataFrame({"partner_id": "A", "as_of": [START, START + 9 * DAY]})
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        data = build_rows(eco, keys, catalogue=catalogue)
    # ahead is less than nothing
    assert data.X.iloc[:, 0].tolist() == [-1.5, 7.5]


def test_an_item_holds_for_all_above_it_and_for_no_namesake(backend):
    partners = [
        {"partner_id": "A", "verticals": ["manufacturing.automotive"]},
        {"partner_id": "B", "verticals": ["Manufacturing"]},
        {"partner_id": "C", "verticals": ["manufacturing_services", "automotive"]},
        {"partner_id": "D", "verticals": []},
        {"partner_id": "E", "verticals": None},
    ]
    names = ("manufacturing", "manufacturing.automotive")
    catalogue = Catalogue(
        tuple(Feature("partners", f"verticals.{name}", "has", "asof") for name in names),
        static_traits=("verticals",),
        vocabularies={"verticals": names},
    )
    with contextlib.closing(made.Tables(backend, {"partners": partners})) as eco:
        data = build_rows(eco, pd.DataFrame({"partner_id": list("ABCDE"), "as_of": START}), catalogue=catalogue)
    assert data.X.iloc[:4].to_numpy().tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    assert data.X.iloc[4].isna().all()


def test_items_are_those_known_before(backend):
    tables = {
        "partners": [
            {"partner_id": "A", "joined_at": START - DAY, "languages": ["DE", "en"]},
            {"partner_id": "B", "joined_at": START - DAY, "languages": ["today"]},
            {"partner_id": "C", "joined_at": START, "languages": ["later"]},
        ],
        "partner_history": [
            {"partner_id": "B", "valid_from": START - DAY, "languages": ["de", "fr"]},
            {"partner_id": "B", "valid_from": START, "languages": ["it"]},
        ],
    }
    assert names_of(backend, tables)[1] == {"languages": ("de", "en", "fr")}
    assert names_of(backend, tables, before=START + made.TICK)[1] == {"languages": ("de", "en", "it", "later")}
    late = {"partner_history": DAY, "partners": 2 * DAY}
    assert names_of(backend, tables, lags=late)[1] == {"languages": ()}


def test_the_most_frequent_items_come_first_and_codes_count_for_those_above():
    held = [("A", "a.b"), ("A", "a.c"), ("B", "a.c"), ("C", "d"), ("C", "."), ("D", ".a..b.")]
    # A, B and D are in a; A has it once, although by two codes
    assert vocabulary(held) == ("a", "a.c", "a..b", "a.b", "d")
    many = [(f"P{i}", f"x{k:02d}") for k in range(30) for i in range(k + 1)]
    assert vocabulary(many) == tuple(f"x{k:02d}" for k in range(29, 29 - MAX_ITEMS, -1))


@settings(max_examples=100)
@given(st.lists(st.text("aAbB.+_# é北", max_size=4), max_size=8))
def test_names_of_items_are_safe_and_no_two_are_one(items):
    named = item_names(items)
    assert set(named.values()) == {item.lower() for item in items}
    for name in named:
        feature = Feature("partners", f"verticals.{name}", "has", "asof")
        assert Feature.parse(feature.name) == feature
    # what comes later takes no name away
    assert item_names(items[:3]).items() <= named.items()


def test_an_item_that_the_catalogue_does_not_know_is_refused(backend):
    tables = {"partners": [{"partner_id": "A", "verticals": ["retail"], "country": "DE"}]}
    keys = pd.DataFrame({"partner_id": ["A"], "as_of": [START]})
    for name, message in (
        ("partners__verticals.health__has__asof", "'health' is not among the items of verticals .*: retail"),
        ("partners__verticals__trait__asof", "the column 'verticals' holds array<string>, and trait needs a text or"),
        ("partners__country__since_days__asof", "the column 'country' holds string, and since_days needs a moment"),
    ):
        catalogue = Catalogue(
            (Feature.parse(name),), static_traits=("verticals", "country"), vocabularies={"verticals": ("retail",)}
        )
        with (
            contextlib.closing(made.Tables(backend, tables)) as eco,
            pytest.raises(ConfigError, match=message),
        ):
            build_rows(eco, keys, catalogue=catalogue)


def test_a_column_of_two_types_is_refused(backend):
    tables = {
        "partners": [{"partner_id": "A", "latitude": 1.0}],
        "partner_history": [{"partner_id": "A", "valid_from": START - DAY, "latitude": 2.0}],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        texts = eco.table("partner_history").mutate(latitude=eco.table("partner_history").latitude.cast("string"))
        plain = eco.table
        eco.table = lambda name: texts if name == "partner_history" else plain(name)
        catalogue = Catalogue((Feature.parse("partners__latitude__trait__asof"),), static_traits=("latitude",))
        with pytest.raises(ConfigError, match="latitude holds float64 in partners and string in partner_history"):
            build_rows(eco, pd.DataFrame({"partner_id": ["A"], "as_of": [START]}), catalogue=catalogue)
