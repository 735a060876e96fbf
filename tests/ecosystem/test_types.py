# ruff: noqa: DTZ001  (inside the engine every moment is naive UTC)
"""Casts against Python's own reading of the same values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from partnerml.ecosystem._types import Cast, cast, cast_open
from partnerml.schema import Column, Type

BAD = object()


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        # no cast may depend on the session's zone
        opened.execute("SET TimeZone='America/New_York'")
        yield opened


def with_text(how: Cast, relation: str) -> str:
    """Return a relation with the trimmed text of its column x beside it."""
    return f"(SELECT *, {how.text or 'NULL'} AS text FROM {relation})"


def read(connection: Any, column: Column, values: list[Any], source: str = "VARCHAR", zone: str = "UTC") -> list[Any]:
    """Cast values of one DuckDB type; BAD where a value is given and cannot be read."""
    how = cast(column, "x", "text", source, zone)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE t (i INTEGER, x {source})")
    connection.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(values)))
    rows = connection.execute(f"SELECT {how.sql}, ({how.given}) FROM {with_text(how, 't')} ORDER BY i").fetchall()
    return [BAD if value is None and present else value for value, present in rows]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" 0017 ", "0017"),
        ("aB", "aB"),
        ("NA", "NA"),
        ("", None),
        ("  \t", None),
        ("\u00a0x\u00a0", "x"),
        ("001D000000IRFmaIAH", "001D000000IRFmaIAH"),
    ],
)
def test_ids_are_trimmed_and_never_folded(connection: Any, value: str, expected: str | None) -> None:
    assert read(connection, Column("id", Type.ID), [value]) == [expected]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
@settings(max_examples=25)
def test_integer_ids_become_decimal_text(connection: Any, integers: list[int]) -> None:
    assert read(connection, Column("id", Type.ID), integers, "BIGINT") == [str(i) for i in integers]


@pytest.mark.parametrize("source", ["DOUBLE", "FLOAT", "DECIMAL(10,2)"])
def test_ids_that_are_floats_are_refused(connection: Any, source: str) -> None:
    assert read(connection, Column("id", Type.ID), [12.0], source) == [BAD]


def test_a_column_of_missing_floats_is_no_wrong_id(connection: Any) -> None:
    # pandas makes a float column of an id column without a single value
    assert read(connection, Column("id", Type.ID), [math.nan, None], "DOUBLE") == [None, None]


def test_decimal_ids_without_fractions_are_integers(connection: Any) -> None:
    assert read(connection, Column("id", Type.ID), [12], "DECIMAL(18,0)") == ["12"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-05", datetime(2024, 1, 5)),
        ("2024-01-05 10:30", datetime(2024, 1, 5, 10, 30)),
        ("2024-01-05T10:30:01.250", datetime(2024, 1, 5, 10, 30, 1, 250000)),
        ("2024-01-05T10:30:01Z", datetime(2024, 1, 5, 10, 30, 1)),
        ("2024-01-05T10:30:01.000+0000", datetime(2024, 1, 5, 10, 30, 1)),
        ("2024-01-05T10:30:01+02:00", datetime(2024, 1, 5, 8, 30, 1)),
        ("2024-01-05 10:30:01+02", datetime(2024, 1, 5, 8, 30, 1)),
        ("2024-01-05 10:30:01 UTC", datetime(2024, 1, 5, 10, 30, 1)),
        ("2024-07-05 10:30:01 Europe/Berlin", datetime(2024, 7, 5, 8, 30, 1)),
        ("1704450601250", datetime(2024, 1, 5, 10, 30, 1, 250000)),
        ("", None),
        ("05/01/2024", BAD),
        ("2024-02-30", BAD),
        ("1704450601", BAD),
        ("20240105", BAD),
        ("1704450601250.5", BAD),
        ("infinity", BAD),
        ("epoch", BAD),
        ("now", BAD),
    ],
)
def test_timestamps_from_text(connection: Any, value: str, expected: Any) -> None:
    assert read(connection, Column("at", Type.TIMESTAMP), [value]) == [expected]


WITH_BLANKS = "(SELECT ' 007 ' AS x)"
MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2200, 1, 1))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.lists(st.tuples(MOMENTS, OFFSETS), min_size=1, max_size=10))
@settings(max_examples=40)
def test_zoned_text_round_trips_to_utc(connection: Any, pairs: list[tuple[datetime, timezone]]) -> None:
    texts = [moment.replace(tzinfo=offset).isoformat() for moment, offset in pairs]
    expected = [m.replace(tzinfo=o).astimezone(timezone.utc).replace(tzinfo=None) for m, o in pairs]  # noqa: UP017
    assert read(connection, Column("at", Type.TIMESTAMP), texts) == expected


@given(st.lists(MOMENTS, min_size=1, max_size=10), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
@settings(max_examples=40)
def test_naive_moments_are_read_in_the_zone_of_the_table(connection: Any, moments: list[datetime], zone: str) -> None:
    # times that a change of clocks skips or repeats have no single answer
    sure = [m for m in moments if abs(m.replace(tzinfo=ZoneInfo(zone)).utcoffset() - _offset(m, zone)) == timedelta(0)]
    expected = [m.replace(tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC")).replace(tzinfo=None) for m in sure]
    if not sure:
        return
    texts = [moment.isoformat(sep=" ", timespec="microseconds") for moment in sure]
    assert read(connection, Column("at", Type.TIMESTAMP), texts, zone=zone) == expected
    assert read(connection, Column("at", Type.TIMESTAMP), sure, "TIMESTAMP", zone=zone) == expected


def _offset(moment: datetime, zone: str) -> timedelta:
    near = {(moment + timedelta(hours=h)).replace(tzinfo=ZoneInfo(zone)).utcoffset() for h in (-3, 3)}
    return near.pop() if len(near) == 1 else timedelta(days=1)


def test_a_date_is_midnight_utc_whatever_the_zone(connection: Any) -> None:
    column = Column("at", Type.TIMESTAMP)
    assert read(connection, column, ["2024-01-05"], zone="Asia/Tokyo") == [datetime(2024, 1, 5)]
    assert read(connection, column, [datetime(2024, 1, 5)], "DATE", zone="Asia/Tokyo") == [datetime(2024, 1, 5)]


@pytest.mark.parametrize("source", ["TIMESTAMPTZ", "TIMESTAMPTZ_NS"])
def test_native_zoned_moments_become_utc(connection: Any, source: str) -> None:
    how = cast(Column("at", Type.TIMESTAMP), "x", "text", source, "Asia/Tokyo")
    row = connection.execute(f"SELECT {how.sql} FROM (SELECT '2024-01-05 10:00:00.5+02'::{source} AS x)").fetchone()
    assert row == (datetime(2024, 1, 5, 8, 0, 0, 500000),)


@pytest.mark.parametrize("source", ["TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP"])
def test_native_naive_moments_of_any_precision(connection: Any, source: str) -> None:
    assert read(connection, Column("at", Type.TIMESTAMP), [datetime(2024, 1, 5, 10)], source) == [
        datetime(2024, 1, 5, 10)
    ]


LAST = datetime(9999, 12, 31, 23, 59, 59, 999999)


@pytest.mark.parametrize(
    ("source", "value", "zone", "expected"),
    [
        ("VARCHAR", "9999-12-31 23:59:59", "UTC", datetime(9999, 12, 31, 23, 59, 59)),
        ("VARCHAR", "9999-12-31 23:59:59", "America/New_York", LAST),
        ("VARCHAR", "9999-12-31T23:59:59-05:00", "UTC", LAST),
        ("VARCHAR", "9999-12-31", "America/New_York", datetime(9999, 12, 31)),
        ("VARCHAR", "0001-01-01 00:00", "UTC", datetime(1, 1, 1)),
        ("VARCHAR", "0001-01-01 00:00", "Asia/Tokyo", BAD),
        ("VARCHAR", "0001-01-01T00:00+05:00", "UTC", BAD),
        ("VARCHAR", "0000-06-01", "UTC", BAD),
        ("TIMESTAMP", "9999-12-31 23:59:59", "America/New_York", LAST),
        ("TIMESTAMP", "9999-12-31 23:59:59", "Asia/Tokyo", datetime(9999, 12, 31, 14, 59, 59)),
        ("TIMESTAMP", "12000-01-01", "UTC", LAST),
        ("TIMESTAMP", "294247-01-10 04:00:54", "America/New_York", LAST),
        ("TIMESTAMP", "infinity", "UTC", LAST),
        ("TIMESTAMP", "infinity", "Asia/Tokyo", LAST),
        ("TIMESTAMP", "-infinity", "America/New_York", BAD),
        ("TIMESTAMP", "0044-03-15 (BC)", "UTC", BAD),
        ("TIMESTAMP_NS", "infinity", "UTC", LAST),
        ("TIMESTAMPTZ", "infinity", "UTC", LAST),
        ("TIMESTAMPTZ", "9999-12-31 23:59:59-05", "UTC", LAST),
        ("TIMESTAMPTZ", "-infinity", "UTC", BAD),
        ("DATE", "infinity", "UTC", LAST),
        ("DATE", "4000000-01-01", "America/New_York", LAST),
        ("DATE", "9999-12-31", "UTC", datetime(9999, 12, 31)),
        ("DATE", "0044-03-15 (BC)", "UTC", BAD),
        ("DATE", "-infinity", "UTC", BAD),
    ],
)
def test_moments_beyond_the_calendar_are_for_ever_or_wrong(
    connection: Any, source: str, value: str, zone: str, expected: Any
) -> None:
    assert read(connection, Column("at", Type.TIMESTAMP), [value], source, zone) == [expected]


@pytest.mark.parametrize("value", ["infinity", "10000-01-01", "0044-03-15 (BC)"])
def test_a_native_column_with_moments_beyond_the_calendar_is_not_taken_as_it_is(connection: Any, value: str) -> None:
    how = cast(Column("at", Type.TIMESTAMP), "x", "text", "TIMESTAMP")
    query = f"SELECT {how.altered} FROM (SELECT ?::TIMESTAMP AS x)"
    assert connection.execute(query, [value]).fetchone() == (True,)
    for unaltered in ("2024-01-05", None):
        assert connection.execute(query, [unaltered]).fetchone() == (False,)


def test_epoch_milliseconds_as_numbers(connection: Any) -> None:
    column = Column("at", Type.TIMESTAMP)
    assert read(connection, column, [1704450601250, 1704450601], "BIGINT") == [
        datetime(2024, 1, 5, 10, 30, 1, 250000),
        BAD,
    ]
    # pandas makes floats of integers with missing values
    assert read(connection, column, [1704450601250.0, math.nan], "DOUBLE") == [
        datetime(2024, 1, 5, 10, 30, 1, 250000),
        None,
    ]


def test_zoned_and_naive_text_are_told_apart(connection: Any) -> None:
    how = cast(Column("at", Type.TIMESTAMP), "x", "text", "VARCHAR")
    values = {
        "2024-01-05 10:00:00+02": "zoned",
        "2024-01-05T10:00:00.000-0500": "zoned",
        "2024-01-05T10:00Z": "zoned",
        "2024-01-05 10:00 UTC": "zoned",
        "2024-01-05 10:00:00.123": "naive",
        "2024-01-05T10:00": "naive",
        "2024-01-05": "neither",
        "1704450601250": "neither",
    }
    for value, expected in values.items():
        row = connection.execute(
            f"SELECT {how.zoned}, {how.naive} FROM {with_text(how, '(SELECT ? AS x)')}", [value]
        ).fetchone()
        assert row == (expected == "zoned", expected == "naive"), value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12", 12.0),
        (" -1.5e3 ", -1500.0),
        ("", None),
        ("1,200.50", BAD),
        ("1.200,50", BAD),
        ("12 EUR", BAD),
        ("NaN", BAD),
        ("inf", BAD),
        ("n/a", BAD),
    ],
)
def test_numbers_are_never_silently_null(connection: Any, value: str, expected: Any) -> None:
    assert read(connection, Column("n", Type.NUMBER), [value]) == [expected]


def test_native_numbers(connection: Any) -> None:
    column = Column("n", Type.AMOUNT)
    assert read(connection, column, [1.5, math.nan, math.inf, None], "DOUBLE") == [1.5, None, BAD, None]
    assert read(connection, column, [7], "INTEGER") == [7.0]
    assert read(connection, column, [7.25], "DECIMAL(10,2)") == [7.25]
    # beyond what exact sums hold
    assert read(connection, column, [1e15, 1e33, 999e12], "DOUBLE") == [BAD, BAD, 999e12]


@given(st.lists(st.floats(-1e15, 1e15, exclude_min=True, exclude_max=True), min_size=1, max_size=20))
@settings(max_examples=25)
def test_numbers_round_trip_through_text(connection: Any, numbers: list[float]) -> None:
    assert read(connection, Column("n", Type.NUMBER), [repr(x) for x in numbers]) == numbers


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("3.0", 3), ("2.5", BAD), ("x", BAD), ("", None)])
def test_integers_are_not_rounded(connection: Any, value: str, expected: Any) -> None:
    assert read(connection, Column("n", Type.INTEGER), [value]) == [expected]


def test_floats_with_fractions_are_no_integers(connection: Any) -> None:
    assert read(connection, Column("n", Type.INTEGER), [3.0, 2.5, math.nan], "DOUBLE") == [3, BAD, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("TRUE", True), ("yes", True), ("1", True), ("f", False), ("No", False), ("0", False), ("", None), ("2", BAD)],
)
def test_booleans(connection: Any, value: str, expected: Any) -> None:
    assert read(connection, Column("b", Type.BOOLEAN), [value]) == [expected]


def test_native_booleans_and_flags(connection: Any) -> None:
    assert read(connection, Column("b", Type.BOOLEAN), [True, None], "BOOLEAN") == [True, None]
    assert read(connection, Column("b", Type.BOOLEAN), [1, 0, 2], "BIGINT") == [True, False, BAD]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A; B ;;C", ["A", "B", "C"]),
        ("A|B", ["A", "B"]),
        ("one", ["one"]),
        ('["a", " b, c ", 3]', ["a", "b, c", "3"]),
        ("[]", []),
        ("", None),
        ("[broken", BAD),
        ('["open"', BAD),
    ],
)
def test_lists_from_text(connection: Any, value: str, expected: Any) -> None:
    assert read(connection, Column("l", Type.LIST), [value]) == [expected]


def test_native_lists(connection: Any) -> None:
    assert read(connection, Column("l", Type.LIST), [[" a", "b", ""], None], "VARCHAR[]") == [["a", "b"], None]
    assert read(connection, Column("l", Type.LIST), [[1, 2]], "INTEGER[]") == [["1", "2"]]


def test_codes_are_upper_cased_and_allowed_texts_lowered(connection: Any) -> None:
    assert read(connection, Column("c", Type.COUNTRY), [" de", "NA"]) == ["DE", "NA"]
    assert read(connection, Column("o", Type.TEXT, values=("won",)), ["Won"]) == ["won"]
    assert read(connection, Column("t", Type.TIME_ZONE), ["Europe/Berlin"]) == ["Europe/Berlin"]


@pytest.mark.parametrize("type", [Type.TIMESTAMP, Type.NUMBER, Type.INTEGER, Type.BOOLEAN, Type.ID, Type.TEXT])
def test_a_list_is_no_scalar(connection: Any, type: Type) -> None:
    assert read(connection, Column("x", type), [["a"], None], "VARCHAR[]") == [BAD, None]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("BIGINT", "DOUBLE"),
        ("DECIMAL(10,2)", "DOUBLE"),
        ("DATE", "TIMESTAMP"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
        ("BOOLEAN", "BOOLEAN"),
        ("VARCHAR", "VARCHAR"),
        ("VARCHAR[]", "VARCHAR[]"),
        ("ENUM('a', 'b')", "VARCHAR"),
    ],
)
def test_other_columns_keep_what_they_hold(source: str, target: str) -> None:
    assert cast_open("x", "text", source).target == target


def test_other_columns_of_text_stay_text(connection: Any) -> None:
    how = cast_open("x", "text", "VARCHAR")
    assert connection.execute(f"SELECT {how.sql} FROM {with_text(how, WITH_BLANKS)}").fetchone() == ("007",)


@pytest.mark.parametrize(
    ("type", "source", "clean", "dirty"),
    [
        (Type.ID, "VARCHAR", "a", " a"),
        (Type.TEXT, "VARCHAR", "a", ""),
        (Type.COUNTRY, "VARCHAR", "DE", "de"),
        (Type.NUMBER, "DOUBLE", 1.0, math.nan),
    ],
)
def test_a_column_that_needs_no_change_is_recognised(
    connection: Any, type: Type, source: str, clean: Any, dirty: Any
) -> None:
    how = cast(Column("c", type), "x", "text", source)
    query = f"SELECT {how.altered} FROM {with_text(how, f'(SELECT ?::{source} AS x)')}"
    assert connection.execute(query, [clean]).fetchone() == (False,)
    assert connection.execute(query, [dirty]).fetchone() == (True,)
