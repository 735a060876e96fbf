"""Traits are those that were known at the time."""

from __future__ import annotations

import contextlib

import pandas as pd
import pytest
from tests.features import tables as made

from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, build_rows, default_catalogue

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


def test_tiers_capacities_and_flags_are_traits_only_from_history(backend):
    columns = {"tier": "gold", "capacity_per_day": 3, "left_at": None, "country": "DE", "name": "Acme"}
    with contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A", **columns}]})) as eco:
        names = default_catalogue(eco, before=START).names
    assert [name for name in names if "__trait__" in name] == ["partners__country__trait__asof"]
    past = [{"partner_id": "A", "valid_from": START - DAY, "tier": "gold", "name": "Acme"}]
    tables = {"partners": [{"partner_id": "A", **columns}], "partner_history": past}
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        names = default_catalogue(eco, before=START).names
    assert [name for name in names if "__trait__" in name] == [
        "partners__country__trait__asof",
        "partners__tier__trait__asof",
    ]
