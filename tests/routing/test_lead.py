"""Leads from outside: a clear refusal or a clean value whatever comes, and one text for all that means the same."""

import datetime as dt
import decimal
import gzip
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml import schema
from partnerml.errors import DataError, SourceError
from partnerml.routing._lead import Lead, LeadTable
from partnerml.routing._lead_files import read_leads

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
NAMES = (*schema.LEADS.names, "industry", "employees", "x" * 201, "", "a\x00b", "name; drop table leads")
NASTY = (
    *(
        "",
        " ",
        "NaN",
        "nan",
        "NULL",
        "1e999",
        "-0",
        "1_000",
        "5",
        "\u0665",
        "true",
        "DE",
        "de ",
        "uk",
        "US-CA",
        "us-ca",
    ),
    *("2026-02-30", "2026-06-01T12:00:00Z", "0001-01-01", "9999-12-31T23:59:59-14:00", "20260601", "12:00"),
    *("'; DROP TABLE leads; --", "\x00", "a\x00b", "\ud800", "\u202e", "é" * 300, "a" * 10_001, "[" * 9_000, '["a",'),
    *('["a", null, 5, ["b"]]', '{"a": 1}', ";;;|", "a;b|c", "retail.Food", "1" * 5_000),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=40),
    st.text(alphabet=st.characters(), max_size=20),
    st.sampled_from(NASTY),
    st.binary(max_size=10),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=14))])),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.decimals(allow_nan=False).map(lambda number: number.scaleb(1000) if number.adjusted() < 999 else number),
    st.complex_numbers(),
    st.sampled_from([pd.NaT, pd.NA, pd.Timestamp("2026-06-01"), pd.Timestamp("2026-06-01", tz="Asia/Tokyo")]),
    st.sampled_from(
        [np.float64("nan"), np.float32(1.5), np.int64(-3), np.str_("x"), np.bool_(True), np.float64("inf")]
    ),
    st.sampled_from([np.datetime64("NaT"), np.datetime64("2026-06-01"), np.datetime64(2**62, "s"), np.bytes_(b"x")]),
    st.sampled_from(
        [np.datetime64(-(2**62), "us"), np.timedelta64(3, "D"), object(), len, Lead, decimal.Decimal("sNaN")]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.none()), inner, max_size=3),
        st.frozensets(st.text(max_size=5), max_size=3),
        st.lists(st.floats(), max_size=3).map(np.array),
        st.lists(st.text(max_size=3), max_size=3).map(lambda texts: np.array(texts, dtype=object)),
    ),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8), st.integers()), VALUES, max_size=6)


def check(payload, lead_id):
    try:
        lead = Lead.of({"lead_id": lead_id, **payload})
    except DataError as error:
        message = str(error)
        assert len(message) < 2_000
        message.encode()
        return
    assert 1 <= len(lead.lead_id) <= 200
    # a database takes it, and it is read again as it was
    assert "\\u0000" not in lead.payload
    lead.payload.encode()
    other = pickle.loads(pickle.dumps(lead))
    assert (other, dict(other.values), type(other.values)) == (lead, dict(lead.values), type(lead.values))
    again = Lead.of_payload(lead.payload)
    assert again == lead
    assert again.differs(lead.payload) == []
    assert json.loads(lead.payload)["lead_id"] == lead.lead_id
    assert dict(lead.values).keys() == json.loads(lead.payload).keys()


@settings(max_examples=500)
@given(PAYLOADS, st.one_of(VALUES, st.just("L1")))
def test_whatever_comes_is_a_lead_or_is_refused(payload, lead_id):
    check(payload, lead_id)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(PAYLOADS, st.one_of(VALUES, st.just("L1")))
def test_of_thousands_of_leads_none_is_anything_else(payload, lead_id):
    check(payload, lead_id)


@pytest.mark.parametrize(
    "payload",
    [
        {"country": "DE", "amount": 5.0, "lead_id": "7"},
        {"lead_id": 7, "country": " de", "amount": 5, "region": None, "vertical": "", "latitude": float("nan")},
        {"lead_id": np.int64(7), "country": np.str_("De"), "amount": np.float32(5), "created_at": pd.NaT},
        {"lead_id": "7 ", "country": "dE", "amount": "5.00", "languages": [], "x": pd.NA, "consent": None},
        {"lead_id": "7", "country": "DE", "amount": decimal.Decimal(5), "excluded_partners": np.array([])},
    ],
)
def test_what_means_the_same_is_one_text(payload):
    lead = Lead.of(payload)
    assert lead.payload == '{"amount":5.0,"country":"DE","lead_id":"7"}'
    assert lead.differs(Lead.of({"lead_id": 7, "country": "de", "amount": 5}).payload) == []


def test_lists_have_no_order_and_no_doubles():
    one = Lead.of({"lead_id": "L", "languages": ["en_GB", "DE", "de", None, " "], "excluded_partners": "p2;p1|p2"})
    other = Lead.of({"lead_id": "L", "languages": '["de", "EN-gb"]', "excluded_partners": {"p1", "p2"}})
    assert one.values["languages"] == ("de", "en-gb")
    assert one.values["excluded_partners"] == ("p1", "p2")
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(dt.timezone(dt.timedelta(hours=9))),
        "2026-06-01T14:00:00+02:00",
        "2026-06-01 12:00",
        "2026-06-01T12:00:00Z",
        pd.Timestamp("2026-06-01T12:00:00.000000001"),
        np.datetime64("2026-06-01T12:00:00", "ns"),
        1780315200000,
    ],
)
def test_moments_are_utc(moment):
    lead = Lead.of({"lead_id": "L", "created_at": moment})
    assert lead.values["created_at"] == NOON
    assert type(lead.values["created_at"]) is dt.datetime
    assert lead.payload == '{"created_at":"2026-06-01T12:00:00+00:00","lead_id":"L"}'


def test_other_columns_are_kept_as_json_has_them():
    lead = Lead.of(
        {
            "lead_id": "L",
            "score": np.float64(5),
            "day": dt.date(2026, 6, 1),
            "tags": ("a", {"b": float("nan"), "c": 2.5}),
        }
    )
    assert lead.get("score") == 5
    assert lead.get("day") == "2026-06-01T00:00:00+00:00"
    assert lead.get("tags") == ["a", {"c": 2.5}]
    assert lead.get("nothing", 3) == 3


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "lead_id is missing"),
        ({"lead_id": None, "country": "DE"}, "lead_id is missing"),
        (
            {"lead_id": 12.0},
            "lead_id must be a text or a whole number (a float would not join: 12.0 is not 12), got 12.0",
        ),
        ({"lead_id": True}, "lead_id must be a text or a whole number"),
        ({"lead_id": "x" * 201}, "lead_id has up to 200 characters, got 201"),
        (
            {"country": "UK"},
            "country must be a two-letter ISO 3166-1 code such as DE (the United Kingdom is GB), got 'UK'",
        ),
        ({"region": "Bavaria"}, "region must be an ISO 3166-2 code such as US-CA, got 'Bavaria'"),
        ({"currency": "euro"}, "currency must be a three-letter ISO 4217 code such as EUR, got 'euro'"),
        ({"amount": -1}, "amount must be an amount of zero or more"),
        ({"amount": float("inf")}, "got inf"),
        ({"amount": "1,000"}, "no thousands separators, got '1,000'"),
        ({"amount": 10**400}, "got an integer of 1,329 bits"),
        ({"latitude": 91}, "latitude must be degrees from -90 to 90, got 91"),
        ({"longitude": [4]}, "longitude must be degrees from -180 to 180, got list of 1"),
        ({"created_at": "yesterday"}, "created_at must be a date or a moment in ISO 8601"),
        ({"created_at": dt.datetime.max.replace(tzinfo=dt.UTC)}, "from 1900 to 2199"),
        ({"consent": "maybe"}, "consent must be true or false, yes or no, 1 or 0, got 'maybe'"),
        ({"vertical": ["retail"]}, "vertical must be a text, got list of 1"),
        ({"postal_code": 80331.0}, "postal_code must be a text, got 80331.0"),
        ({"languages": 5}, "languages must be a list of texts"),
        ({"languages": [5.5]}, "each entry of languages must be a text, got 5.5"),
        ({"languages": ["x"] * 1001}, "languages has up to 1,000 entries, got 1,001"),
        ({"account_name": "x" * 10_001}, "account_name has up to 10,000 characters, got 10,001"),
        ({"account_name": "a\x00"}, "account_name must be a text without NUL characters, got 'a\\x00'"),
        ({"account_name": "\ud800"}, "whole Unicode characters"),
        ({"account_name": b"x"}, "account_name must be a text, got bytes of 1"),
        ({"industry": object()}, "industry must be what JSON can hold"),
        ({"industry": [[[[[[1]]]]]]}, "industry is nested deeper than 5 levels"),
        ({5: 1}, "names of columns are texts, got 5"),
        ({f"x{i}": "y" * 9_000 for i in range(12)}, "leave out columns that routing does not need"),
        ({f"x{i}": 1 for i in range(600)}, "500 are allowed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_says_which_field_what_came_and_what_is_allowed(payload, told):
    given_id = {} if told.startswith("lead_id is missing") else {"lead_id": "L1"}
    with pytest.raises(DataError) as caught:
        Lead.of({**given_id, **payload})
    assert told in str(caught.value)
    assert str(caught.value).startswith("lead")


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(DataError, match=r"^lead 'L': country must .*; amount must .*; latitude must .*$"):
        Lead.of({"lead_id": "L", "country": "XX", "amount": -1, "latitude": 100})


@pytest.mark.parametrize("payload", [None, [], "lead", 5])
def test_a_lead_is_a_mapping(payload):
    with pytest.raises(DataError, match="a lead is a mapping"):
        Lead.of(payload)


def test_changes_are_named():
    lead = Lead.of({"lead_id": "L", "country": "DE", "amount": 5, "flag": True})
    assert lead.differs(Lead.of({"lead_id": "L", "country": "FR", "flag": 1, "region": "DE-BY"}).payload) == [
        "amount",
        "country",
        "flag",
        "region",
    ]
    assert Lead.of(lead) is lead


# files

ROWS = [{"lead_id": "1", "country": "de", "amount": 5.0}, {"lead_id": "2", "country": "FR", "amount": None}]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "jsonl"])
def test_a_file_gives_the_same_leads_in_every_format(tmp_path, ending):
    path, frame = tmp_path / f"leads.{ending}", pd.DataFrame(ROWS)
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    else:
        text = "\ufefflead_id,country,amount\n1,de,5.0\n2,FR,\n".encode()
        path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
    found = LeadTable.of(read_leads(path), name=str(path))
    assert [lead.payload for lead in found.leads] == [Lead.of(row).payload for row in ROWS]
    assert found.refused == ()


def test_rows_that_are_no_leads_are_set_apart():
    rows = [{"lead_id": "1"}, {"lead_id": "2", "country": "Germany"}, {"lead_id": None}, {"lead_id": "4"}]
    found = LeadTable.of(rows)
    assert [lead.lead_id for lead in found.leads] == ["1", "4"]
    assert [(refused.row, refused.lead_id) for refused in found.refused] == [(2, "2"), (3, None)]
    assert "country must be" in found.refused[0].reason


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "", "there are no rows"),
        ("a.csv", "lead_id,country\n", "there are no rows"),
        ("a.csv", "id,country\n1,DE\n", "the column lead_id is missing (there are id, country); rename or add it"),
        ("a.csv", "lead_id\n1\n2\n1\n", "column lead_id: 1 id comes more than once, first '1' in rows 1, 3"),
        ("a.csv", "lead_id\n1\n1\n2\n2\n", "2 ids come more than once, first '1' in rows 1, 2"),
        ("a.csv", "lead_id,country\n1,DE,x\n", "line 2 has 3 fields, and there are 2 columns"),
        ("a.csv", "lead_id,lead_id\n1,2\n", "the column 'lead_id' is there twice"),
        ("a.csv", 'lead_id,name\n1,"x\n', "is not CSV"),
        ("a.csv", b"lead_id\n\xff\n", "it is not UTF-8"),
        ("a.csv.gz", b"lead_id\n1\n", "it cannot be read"),
        ("a.parquet", b"PAR1 no", "it cannot be read as Parquet"),
        ("a.jsonl", '{"lead_id": 1}\nx\n[1]\n', "2 line(s) are not JSON objects, at 2, 3"),
        ("a.jsonl", "[" * 100_000, "1 line(s) are not JSON objects, at 1"),
        ("a.jsonl", '{"lead_id": ' + "1" * 5_000 + "}", "1 line(s) are not JSON objects"),
        ("a.xlsx", "x", "leads are read from .csv, .csv.gz, .parquet, .jsonl"),
        ("none.csv", None, "there is no such file"),
    ],
    ids=range(16),
)
def test_a_file_that_is_wrong_is_named_with_what_is_wrong(tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((DataError, SourceError)) as caught:
        read_leads(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_duplicates_of_any_writing_are_found():
    with pytest.raises(DataError, match=r"leads: column lead_id: 1 id comes more than once, first '7' in rows 1, 2"):
        LeadTable.of([{"lead_id": 7}, {"lead_id": " 7"}])
