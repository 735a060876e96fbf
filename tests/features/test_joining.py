"""Traits at joining: from recruits as known at signing, else from the history, else from partners."""

from __future__ import annotations

import contextlib
import datetime as dt

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import traits as oracle

from partnerml.cli._features import _described
from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, dictionary
from partnerml.features._joining import build_joining, joining_features

DAY, START = made.DAY, made.START
ASKED = START + 10 * DAY
COLUMNS = ("country", "latitude", "verticals")


def joined(backend, tables, *, as_of=ASKED, lags=None, names=None):
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        features, vocabularies = joining_features(eco, before=as_of)
        if names is not None:
            features = tuple(map(Feature.parse, names))
        return build_joining(eco, catalogue=Catalogue(features, vocabularies=vocabularies), as_of=as_of)


@st.composite
def programmes(draw):
    """Draw partners and recruits that overlap, with and without joining dates and histories."""

    def row(name):
        return {
            "partner_id": name,
            "joined_at": draw(st.sampled_from([None, START - 9 * DAY, START, ASKED - made.TICK, ASKED, ASKED + DAY])),
            "country": draw(st.sampled_from([None, "DE", "FR"])),
            "latitude": draw(st.sampled_from([None, 1.5, -3.0])),
            "verticals": draw(st.sampled_from([None, [], ["retail"], ["Retail.Grocery", "health"]])),
        }

    tables = {"partners": [row(name) for name in "ABCDE"]}
    if draw(st.integers(0, 3)):
        tables["recruits"] = [row(name) for name in draw(st.sets(st.sampled_from("CDEFGH")))]
    if draw(st.booleans()):
        moments = st.sampled_from([START - 9 * DAY, START - 9 * DAY + made.TICK, START, START + DAY])
        past = st.tuples(st.sampled_from("ABCDE"), moments)
        tables["partner_history"] = [
            row(name) | {"partner_id": name, "valid_from": moment}
            for name, moment in draw(st.lists(past, min_size=1, max_size=6, unique=True))
        ]
    return tables


@settings(max_examples=4, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))
@given(tables=programmes())
def test_equal_to_the_oracle(backend, tables):
    names = ("partners__country__trait__asof", "partners__latitude__trait__asof", "partners__verticals__items__asof")
    data = joined(backend, tables, names=names)
    dates = {row["partner_id"]: row["joined_at"] for row in tables.get("recruits", [])}
    recruits = set(dates)
    for row in tables["partners"]:
        dates[row["partner_id"]] = row["joined_at"] or dates.get(row["partner_id"])
    rows = [(who, at or ASKED) for who, at in dates.items() if (at is None and who in recruits) or (at and at < ASKED)]
    rows.sort(key=lambda row: (row[1], row[0]))
    assert [(who, at.to_pydatetime().replace(tzinfo=None)) for who, at in data.keys.itertuples(index=False)] == rows
    for i, (who, at) in enumerate(rows):
        for name in names:
            column = name.split("__")[1]
            found = oracle.at_joining(column, who, at, tables, static=COLUMNS)
            expected, value = oracle.feature(name, found, at), data.X[name].iloc[i]
            assert pd.isna(value) if expected is None else value == expected, (name, who, value, expected)


def test_a_recruit_has_the_traits_it_was_signed_with(backend):
    tables = {
        "partners": [{"partner_id": p, "joined_at": START, "country": "DE", "region": "DE-BE"} for p in "AB"],
        "partner_history": [{"partner_id": p, "valid_from": START, "country": "FR"} for p in "AB"],
        "recruits": [{"partner_id": "A", "country": None}, {"partner_id": "Z", "country": "ES"}],
    }
    data = joined(backend, tables)
    assert data.keys["partner_id"].tolist() == ["A", "B", "Z"]
    assert data.keys["as_of"].tolist()[2] == pd.Timestamp(ASKED, tz="UTC")
    country, region = (data.X[f"partners__{c}__trait__asof"] for c in ("country", "region"))
    # what was not known at signing stays unknown, whatever became known later
    assert country.isna().tolist() == [True, False, False]
    assert country.tolist()[1:] == ["FR", "ES"]
    # a column that recruits lack is unknown for all of them
    assert region.isna().tolist() == [True, False, True]
    assert data.dictionary[0].table == "recruits+partner_history+partners"


def test_what_is_told_of_traits_at_joining_is_what_the_rows_are_built_with(backend):
    tables = {
        "partners": [{"partner_id": "A", "joined_at": START, "latitude": 1.5}],
        "recruits": [{"partner_id": "Z", "country": "ES", "verticals": ["retail"]}],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        features, vocabularies = joining_features(eco, before=ASKED)
        catalogue = Catalogue(features, vocabularies=vocabularies)
        built = build_joining(eco, catalogue=catalogue, as_of=ASKED).dictionary
        assert dictionary(eco, catalogue, at_joining=True) == built
        assert _described(eco, "fit", catalogue).document["dictionary"] == [info.to_dict() for info in built]
    told = {info.name: (info.table, info.unit) for info in built}
    assert told["partners__country__trait__asof"] == ("recruits+partners", "category")
    assert told["partners__latitude__trait__asof"] == ("recruits+partners", "degrees")


def test_one_column_of_two_types_is_refused(backend):
    tables = {
        "partners": [{"partner_id": "A", "joined_at": START, "max_open_leads": 3}],
        "recruits": [{"partner_id": "Z", "max_open_leads": "few"}],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        catalogue = Catalogue((Feature.parse("partners__max_open_leads__trait__asof"),))
        with pytest.raises(ConfigError, match="max_open_leads is number in partners, text in recruits; map it to"):
            dictionary(eco, catalogue, at_joining=True)


def test_only_the_list_of_traits_counts_and_tenure_is_none(backend):
    tables = {
        "partners": [{"partner_id": "A", "joined_at": START, "country": "DE", "tier": "gold"}],
        "partner_history": [{"partner_id": "A", "valid_from": START, "tier": "gold", "partner_type": "isv"}],
    }
    data = joined(backend, tables)
    assert list(data.X.columns) == ["partners__partner_type__trait__asof", "partners__country__trait__asof"]
    with pytest.raises(ConfigError, match="tenure_days__asof: at joining a partner has traits and no history"):
        joined(backend, tables, names=["partners__all__tenure_days__asof"])
    with pytest.raises(ConfigError, match="the trait 'region' is a usable column of none of partners, partner_history"):
        joined(backend, tables, names=["partners__region__trait__asof"])


def test_who_joined_later_than_was_known_is_left_out(backend):
    tables = {"partners": [{"partner_id": "A", "joined_at": ASKED - DAY, "country": "DE"}]}
    assert len(joined(backend, tables)) == 1
    assert len(joined(backend, tables, lags={"partners": DAY})) == 0
    assert len(joined(backend, tables, as_of=dt.datetime(2024, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None))) == 0


def test_lists_have_the_items_of_those_who_had_joined(backend):
    tables = {
        "partners": [{"partner_id": "A", "joined_at": START, "verticals": ["retail"]}],
        "recruits": [
            {"partner_id": "B", "joined_at": START, "verticals": ["Retail", "health"]},
            {"partner_id": "C", "joined_at": ASKED, "verticals": ["future"]},
        ],
    }
    data = joined(backend, tables)
    assert list(data.X.columns) == [
        "partners__verticals.retail__has__asof",
        "partners__verticals.health__has__asof",
        "partners__verticals__items__asof",
    ]
    assert data.X.to_numpy().tolist() == [[1, 0, 1], [1, 1, 2]]
