"""Columns of leads that nobody reads, since they are called otherwise: told before anything is routed."""

import datetime as dt
import logging

import pandas as pd
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml import schema
from partnerml.errors import DataError
from partnerml.routing import Router
from partnerml.routing._lead import Lead, check_ids, doubts

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)


def told(**columns):
    lead = Lead.of({"lead_id": "1", "created_at": NOON, **columns})
    return doubts([lead, Lead.of({"lead_id": "2", "created_at": NOON})], NOON)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("postcode", "postal_code"),
        ("Zip Code", "postal_code"),
        ("industry", "vertical"),
        ("Country", "country"),
        ("company_name", "account_name"),
        ("domain_name", "domain"),
        ("Amount ", "amount"),
        ("lng", "longitude"),
    ],
)
def test_a_column_of_nearly_the_name_is_told(name, wanted):
    (words,) = told(**{name: "x"})
    assert f"the column {name!r} is none of the table leads" in words
    assert f"did you mean {wanted}?" in words
    assert "rename the column first" in words


@pytest.mark.parametrize("name", ["notes", "campaign", "account_type", "segment", "city", "email", "priority"])
def test_columns_of_ones_own_are_not_told(name):
    assert told(**{name: "x"}) == []


def test_nor_is_one_beside_the_column_that_it_resembles():
    assert told(postcode="10115", postal_code="10115", amount_eur=5, amount=5) == []


def test_no_column_of_the_table_is_told():
    values = {"latitude": 1, "longitude": 1, "country": "DE", "region": "DE-BE", "currency": "EUR", "consent": "yes"}
    assert (
        told(**{name: values.get(name, "5") for name in schema.LEADS.names if name not in ("lead_id", "created_at")})
        == []
    )


def test_a_frame_of_leads_is_looked_at_too(caplog):
    frame = pd.DataFrame([{"lead_id": "1", "created_at": AS_OF, "postcode": "10115", "country": "DE"}])
    with Router.open(snapshot(2)) as router, caplog.at_level(logging.WARNING, logger="partnerml"):
        router.dry_run(frame, now=AS_OF)
        assert "leads: the column 'postcode' is none of the table leads" in caplog.text
        caplog.clear()
        router.dry_run(frame.rename(columns={"postcode": "postal_code"}), now=AS_OF)
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["lead_id;created_at;country"], "the header has ';' between names, and a CSV file is split at commas"),
        (["lead_id\tcountry"], "the header has '\\t' between names"),
        (["Lead_ID", "country"], "is it the one that is called 'Lead_ID' here?"),
        (["country", "leadid"], "is it the one that is called 'leadid' here?"),
        (["country", "amount"], "; rename or add it"),
    ],
)
def test_without_ids_it_is_told_what_may_be_wrong_with_the_header(columns, words):
    with pytest.raises(DataError) as caught:
        check_ids([dict.fromkeys(columns, "1")], "a.csv")
    assert words in str(caught.value)
