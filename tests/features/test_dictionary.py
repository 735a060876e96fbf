"""What a catalogue says, and what tables leave out, is told without building anything."""

from __future__ import annotations

import contextlib
import datetime as dt

import pandas as pd
import pytest
from tests.features import tables as made

from partnerml import schema
from partnerml.cli._catalogue import lines
from partnerml.dataset import FeatureInfo
from partnerml.features import Catalogue, Feature, build_rows, default_catalogue, describe, dictionary, missing

START, DAY = made.START, made.DAY


@contextlib.contextmanager
def opened(backend, **tables):
    eco = made.Tables(backend, tables)
    try:
        yield eco
    finally:
        eco.close()


def everything():
    """One row in every table, with a value in every column that its type has one for."""
    moment = {"timestamp": START, "number": 1.0, "amount": 5.0, "integer": 1, "share": 1.0, "boolean": True}
    moment |= {"latitude": 1.0, "longitude": 2.0, "list": ["a.b", "c"], "country": "DE"}
    rows = {
        name: {column.name: moment.get(column.type.value, "x") for column in table.columns}
        for name, table in schema.TABLES.items()
    }
    return {name: [row] for name, row in rows.items()}


def test_nothing_is_missing_where_every_column_is_there(backend):
    with opened(backend, **everything()) as eco:
        assert [missing(eco, task) for task in ("churn", "fit", "close")] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("task", "table", "column", "measures"),
    [
        ("churn", "events", "value", {"value", "value_mean", "value_min", "value_max", "value_last", "value_ratio"}),
        ("churn", "deals", "account_id", {"accounts", "concentration"}),
        ("churn", "deals", "role", {"sourced_share"}),
        ("churn", "certifications", "expires_at", {"count"}),
        ("churn", "partners", "joined_at", {"tenure_days"}),
        ("close", "leads", "latitude", {"distance_km", "given_km"}),
        ("close", "partners", "longitude", {"distance_km", "given_km"}),
    ],
)
def test_an_absent_column_costs_what_reads_it_and_no_more(backend, task, table, column, measures):
    tables = everything()
    del tables[table][0][column]
    with opened(backend, **tables) as eco:
        assert {absent: set(names) for absent, names in missing(eco, task).items()} == {f"{table}.{column}": measures}


def test_an_absent_table_costs_what_is_about_it(backend):
    tables = everything()
    del tables["deal_partners"], tables["deal_history"], tables["territories"]
    with opened(backend, **tables) as eco:
        assert set(missing(eco, "churn")) == {"deal_partners", "deal_history"}
        assert set(missing(eco, "close")) == {"deal_partners", "deal_history", "territories"}
        assert missing(eco, "fit") == {}
    with opened(backend, partners=tables["partners"], events=tables["events"]) as eco:
        assert set(missing(eco, "churn")) == {"deals", "certifications"}, "activity can be had from events alone"


def test_certifications_without_an_end_are_still_valid(backend):
    tables = everything()
    del tables["certifications"][0]["revoked_at"]
    with opened(backend, **tables) as eco:
        assert missing(eco, "churn") == {}


def test_what_is_told_is_what_the_rows_are_built_with(backend):
    partners = [{"partner_id": "A", "joined_at": START - DAY, "country": "DE", "latitude": 1.5, "languages": ["de"]}]
    partners[0]["certified"] = True
    history = [{"partner_id": "A", "valid_from": START - DAY, "tier": "gold", "max_open_leads": 3}]
    events = [{"partner_id": "A", "occurred_at": START - DAY, "event_type": "login"}]
    with opened(backend, partners=partners, partner_history=history, events=events) as eco:
        catalogue = default_catalogue(eco, before=START)
        told = {info.name: info for info in dictionary(eco, catalogue)}
        keys = pd.DataFrame({"partner_id": ["A"], "as_of": [START.replace(tzinfo=dt.UTC)]})
        built = {info.name: info for info in build_rows(eco, keys, catalogue=catalogue).dictionary}
        (certified,) = dictionary(eco, Catalogue((Feature.parse("partners__certified__trait__asof"),)))
    assert told == built
    tier, country = (told[f"partners__{name}__trait__asof"] for name in ("tier", "country"))
    assert (tier.table, tier.unit, country.table, country.unit) == (
        "partner_history", "category", "partners", "category",
    )  # fmt: skip
    assert told["partners__max_open_leads__trait__asof"].unit == "number"
    assert certified.unit == "yes or no"


def infos(*names: str) -> tuple[FeatureInfo, ...]:
    return tuple(describe(Feature.parse(name)) for name in names)


def test_a_line_holds_what_differs_in_kind_and_window_alone():
    found = lines(
        infos(
            *(f"events__{kind}__count__{days}d" for kind in ("all", "a", "b", "c", "d") for days in (7, 30)),
            "events__all__count_ratio__7d_30d",
            "events__all__count__ever",
            "peers__events__all__count__30d",
            "partners__languages.de__has__asof",
            "partners__languages.fr__has__asof",
        )
    )
    assert [line.cells[:4] for line in found] == [
        ("count", "all", "7 30 d, ever", "3"),
        ("count", "4 event types", "7 30 d", "8"),
        ("count_ratio", "all", "7:30 d", "1"),
        ("has", "languages", "asof", "2"),
        ("count", "events all", "30 d", "1"),
    ]
    assert found[0].example == "events so far"


def test_every_feature_is_in_one_line(backend):
    with opened(backend, **everything()) as eco:
        catalogue: Catalogue = default_catalogue(eco, before=START + DAY, task="close")
        told = dictionary(eco, catalogue)
    assert sum(line.features for line in lines(told)) == len(told) == len(catalogue.features)
