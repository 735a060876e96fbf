# ruff: noqa: DTZ001  (inside the engine every moment is naive UTC)
"""Every rule with a table that keeps it and one that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from partnerml import schema
from partnerml.codes import valid_codes
from partnerml.ecosystem._validation import CheckedTables, CurrencyRule, Violation
from partnerml.errors import DataError, MappingError
from partnerml.schema import Type

Check = Callable[..., CheckedTables]
PARTNERS = pd.DataFrame({"partner_id": ["p1", "p2", "p3"]})


def deals(**columns: Any) -> pd.DataFrame:
    """Return two sound deals, with columns replaced or added."""
    base = {
        "deal_id": ["d1", "d2"],
        "partner_id": ["p1", "p2"],
        "registered_at": ["2024-01-01", "2024-02-01"],
        "outcome": ["open", "won"],
        "closed_at": [None, "2024-03-01"],
    }
    return pd.DataFrame({**base, **columns})


def events(**columns: Any) -> pd.DataFrame:
    """Return two sound events, with columns replaced or added."""
    base = {
        "partner_id": ["p1", "p2"],
        "occurred_at": ["2024-01-01", "2024-02-01"],
        "event_type": ["portal_login", "portal_login"],
        "recorded_at": ["2024-01-02", "2024-02-02"],
    }
    return pd.DataFrame({**base, **columns})


def frame_of(table: ibis.Table) -> pd.DataFrame:
    """Return the rows of a table; by way of Arrow, because Ibis reads a deprecated option of pandas."""
    return table.to_pyarrow().to_pandas()


def found(checked: CheckedTables, rule: str) -> Violation:
    """Return the only violation of a rule."""
    (violation,) = (violation for violation in checked.report.violations if violation.rule == rule)
    return violation


def rules(checked: CheckedTables) -> set[str]:
    """Return the names of all rules but the notices that are broken."""
    return {v.rule for v in checked.report.violations if v.severity != "notice"}


def test_sound_tables_pass(check: Check) -> None:
    checked = check(partners=PARTNERS, deals=deals(), events=events())
    assert checked.report.ok
    assert rules(checked) == set()
    assert checked.report.rows == {"partners": 3, "events": 2, "deals": 2}
    assert checked.rejects == {}
    checked.report.raise_for_errors()


def test_clean_tables_have_the_types_of_the_schema(check: Check) -> None:
    checked = check(partners=PARTNERS, deals=deals(amount=["1.5", None], currency=["eur", "EUR"]))
    types = {name: str(dtype) for name, dtype in checked.clean["deals"].schema().items()}
    assert types == {
        "deal_id": "string",
        "partner_id": "string",
        "registered_at": "timestamp(6)",
        "outcome": "string",
        "closed_at": "timestamp(6)",
        "amount": "float64",
        "currency": "string",
    }
    assert frame_of(checked.clean["deals"].order_by("deal_id")).currency.tolist() == ["EUR", "EUR"]


def test_a_missing_table_of_partners_is_an_error(check: Check) -> None:
    violation = found(check(events=events()), "missing_table")
    assert (violation.table, violation.severity) == ("partners", "error")
    assert "partner_id" in violation.remedy


def test_a_missing_required_column_is_an_error(check: Check) -> None:
    violation = found(check(partners=PARTNERS, events=events().drop(columns="event_type")), "missing_column")
    assert (violation.table, violation.column, violation.severity) == ("events", "event_type", "error")


def test_a_value_of_the_wrong_type_is_an_error_that_shows_it(check: Check) -> None:
    checked = check(partners=PARTNERS, deals=deals(amount=["1,200", "5"]))
    violation = found(checked, "wrong_type")
    assert violation.severity == "error"
    assert (violation.count, violation.total) == (1, 2)
    assert violation.first == ({"deal_id": "d1", "amount": "1,200"},)
    assert violation.message == (
        "deals.amount: wrong type, 1 of 2 rows; first: {deal_id: d1, amount: 1,200}. The column came as VARCHAR; "
        "expected: a number below 1e15 in size with a decimal point and no thousands separators."
    )
    with pytest.raises(DataError, match=r"deals\.amount: wrong type, 1 of 2 rows") as caught:
        checked.report.raise_for_errors()
    assert caught.value.violations == (violation,)


def test_float_ids_are_refused(check: Check) -> None:
    checked = check(partners=pd.DataFrame({"partner_id": [1.0, 2.0]}), events=events())
    violation = found(checked, "wrong_type")
    assert (violation.table, violation.column, violation.count) == ("partners", "partner_id", 2)
    assert "came as DOUBLE" in violation.remedy
    # the events of unreadable partners are no news
    assert rules(checked) == {"wrong_type"}


def test_a_null_in_a_required_column_is_an_error(check: Check) -> None:
    checked = check(partners=PARTNERS, events=events(event_type=["portal_login", " "]))
    violation = found(checked, "null")
    assert (violation.column, violation.count, violation.severity) == ("event_type", 1, "error")
    assert violation.first == ({"partner_id": "p2", "occurred_at": "2024-02-01", "event_type": " "},)


def test_repeated_keys_are_an_error_that_names_them(check: Check) -> None:
    frame = pd.DataFrame({"partner_id": ["b", "a", "a ", "c", "b", "b"]})
    violation = found(check(partners=frame), "duplicate_key")
    assert (violation.severity, violation.count, violation.total) == ("error", 3, 6)
    assert violation.first == ({"partner_id": "a", "rows": 2}, {"partner_id": "b", "rows": 3})


def test_ids_that_differ_in_case_are_two(check: Check) -> None:
    # the 15-character ids of Salesforce tell records apart by case
    assert check(partners=pd.DataFrame({"partner_id": ["001A0000006VmAa", "001A0000006Vmaa"]})).report.ok


def test_keys_of_several_columns(check: Check) -> None:
    frame = pd.DataFrame({"deal_id": ["d1", "d1"], "partner_id": ["p1", "p2"]})
    assert check(partners=PARTNERS, deals=deals(), deal_partners=frame).report.ok
    frame = pd.DataFrame({"deal_id": ["d1", "d1"], "partner_id": ["p1", "p1"]})
    violation = found(check(partners=PARTNERS, deals=deals(), deal_partners=frame), "duplicate_key")
    assert violation.first == ({"deal_id": "d1", "partner_id": "p1", "rows": 2},)


def test_an_event_may_lack_its_id(check: Check) -> None:
    assert check(partners=PARTNERS, events=events(event_id=[None, None])).report.ok
    assert "duplicate_key" in rules(check(partners=PARTNERS, events=events(event_id=["e", "e"])))


@given(st.lists(st.text("ab\0é ", max_size=3), max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_duplicates_and_nulls_against_python(check: Check, texts: list[str]) -> None:
    ids = [text.replace("\0", "x") for text in texts]
    trimmed = [text.strip(" ") for text in ids if text.strip(" ")]
    checked = check(partners=pd.DataFrame({"partner_id": pd.Series(ids, dtype="str")}))
    counts = {violation.rule: violation.count for violation in checked.report.errors}
    expected = {"null": len(ids) - len(trimmed), "duplicate_key": len(trimmed) - len(set(trimmed))}
    assert counts == {rule: count for rule, count in expected.items() if count}
    assert sorted(frame_of(checked.clean["partners"]).partner_id.dropna()) == sorted(trimmed)


def test_zoned_and_naive_moments_in_one_column_are_an_error(check: Check) -> None:
    mixed = ["2024-01-01T10:00:00Z", "2024-02-01T10:00:00"]
    violation = found(check(partners=PARTNERS, events=events(occurred_at=mixed)), "mixed_zones")
    assert (violation.severity, violation.column, violation.count) == ("error", "occurred_at", 1)
    assert "1 values carry a time zone and 1 do not" in violation.remedy


@pytest.mark.parametrize(
    "moments",
    [
        ["2024-01-01T10:00:00Z", "2024-02-01"],
        ["2024-01-01T10:00:00Z", "2024-02-01T10:00:00+02:00"],
        ["2024-01-01 10:00", "2024-02-01T10:00:00"],
    ],
)
def test_dates_and_several_offsets_mix_no_zones(check: Check, moments: list[str]) -> None:
    assert "mixed_zones" not in rules(check(partners=PARTNERS, events=events(occurred_at=moments, recorded_at=None)))


def test_naive_moments_are_read_in_the_zone_of_their_table(check: Check) -> None:
    frame = events(occurred_at=["2024-07-01 10:00", "2024-01-01 10:00"], recorded_at=None)
    checked = check(
        partners=PARTNERS, events=frame, zones={"events": "Europe/Berlin"}, now=datetime(2024, 8, 1, tzinfo=UTC)
    )
    moments = frame_of(checked.clean["events"]).occurred_at.sort_values().tolist()
    assert moments == [pd.Timestamp("2024-01-01 09:00"), pd.Timestamp("2024-07-01 08:00")]


def test_an_unknown_zone_is_refused(check: Check) -> None:
    with pytest.raises(MappingError, match=r"data\.tables\.partners\.timezone: 'CET2' is no IANA name"):
        check(partners=PARTNERS, zones={"partners": "CET2"})


# --- rows that are set aside ------------------------------------------------------------------------------------------

ASIDE = [
    ("orphan", "events", events(partner_id=["p1", "p9"]), "p9"),
    ("closed_before_registered", "deals", deals(closed_at=[None, "2024-01-31"]), "2024-01-31"),
    ("occurred_after_recorded", "events", events(recorded_at=["2024-01-02", "2024-01-31"]), "2024-01-31"),
    ("occurred_after_recorded", "deals", deals(closed_recorded_at=[None, "2024-02-28"]), "2024-02-28"),
    ("future", "events", events(occurred_at=["2024-01-01", "2024-06-02T00:00:01"], recorded_at=None), "2024-06-02T00"),
    ("invalid_code", "deals", deals(country=["DE", "Germany"]), "Germany"),
    ("invalid_code", "deals", deals(region=["US-CA", "CA-US"]), "CA-US"),
    ("invalid_code", "deals", deals(currency=["EUR", "EURO"], amount=[None, None]), "EURO"),
    ("invalid_code", "deals", deals(role=["Sourced", "found"]), "found"),
    ("invalid_code", "events", events(event_type=["a_b", "a__b"]), "a__b"),
    ("invalid_code", "events", events(event_type=["a", "all"]), "all"),
    ("negative", "deals", deals(amount=["0", "-0.01"]), "-0.01"),
    ("closed_at_on_open_deal", "deals", deals(outcome=["won", "Open"], closed_at=["2024-03-01"] * 2), "Open"),
]


@pytest.mark.parametrize(("rule", "table", "frame", "shown"), ASIDE)
def test_bad_rows_are_set_aside_as_they_came(
    check: Check, rule: str, table: str, frame: pd.DataFrame, shown: str
) -> None:
    checked = check(partners=PARTNERS, **{table: frame}, max_rejected=0.5)
    violation = found(checked, rule)
    assert (violation.table, violation.severity, violation.count, violation.total) == (table, "warning", 1, 2)
    assert violation.sets_aside
    assert any(str(value).startswith(shown) for value in violation.first[0].values())
    assert checked.report.ok
    assert checked.report.set_aside[table] == 1
    assert len(frame_of(checked.clean[table])) == 1
    (row,) = frame_of(checked.rejects[table]).to_dict("records")
    assert row["rules"] == f"{rule}: {violation.column}"
    assert any(str(value).startswith(shown) for value in row.values())


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("latitude", "90.5", "invalid_coordinate"),
        ("longitude", "-181", "invalid_coordinate"),
        ("time_zone", "Berlin", "invalid_code"),
        ("capacity_per_day", "-1", "negative"),
        ("min_deal_amount", "-1", "negative"),
    ],
)
def test_bad_traits_set_the_partner_aside(check: Check, column: str, value: str, rule: str) -> None:
    frame = PARTNERS.assign(**{column: [value, None, None]})
    checked = check(partners=frame, max_rejected=0.5)
    assert found(checked, rule).first == ({"partner_id": "p1", column: value},)
    assert sorted(frame_of(checked.clean["partners"]).partner_id) == ["p2", "p3"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("latitude", "-90"),
        ("longitude", "180"),
        ("time_zone", "Europe/Berlin"),
        ("country", "na"),
        ("country", "XK"),
        ("region", "BR-SP"),
        ("paused_until", "2031-01-01"),
        ("left_at", "9999-12-31"),
    ],
)
def test_good_traits_pass(check: Check, column: str, value: str) -> None:
    assert rules(check(partners=PARTNERS.assign(**{column: [value, None, None]}))) == set()


def test_a_share_is_between_0_and_1(check: Check) -> None:
    frame = pd.DataFrame({"deal_id": ["d1", "d2"], "partner_id": ["p1", "p2"], "share": ["1", "50"]})
    checked = check(partners=PARTNERS, deals=deals(), deal_partners=frame, max_rejected=0.5)
    assert found(checked, "out_of_range").first == ({"deal_id": "d2", "partner_id": "p2", "share": "50"},)


def test_answers_before_the_assignment_are_set_aside(check: Check) -> None:
    frame = pd.DataFrame(
        {
            "lead_id": ["l1", "l2"],
            "partner_id": ["p1", "p1"],
            "assigned_at": ["2024-01-02 10:00", "2024-01-02 10:00"],
            "responded_at": ["2024-01-02 09:59", "2024-01-02 10:01"],
        }
    )
    checked = check(partners=PARTNERS, assignments=frame, max_rejected=0.5)
    assert found(checked, "responded_before_assigned").count == 1


def test_a_mere_date_means_any_moment_of_its_day(check: Check) -> None:
    # a CRM keeps the closing as a date and the creation as a moment: closed on the same day is no contradiction
    frame = deals(registered_at=["2024-01-01", "2024-03-01T15:30:00"])
    assert rules(check(partners=PARTNERS, deals=frame)) == set()
    frame = events(occurred_at=["2024-01-01", "2024-02-01T15:30:00"], recorded_at=["2024-01-01", "2024-02-01"])
    assert rules(check(partners=PARTNERS, events=frame)) == set()


def test_a_day_of_grace_after_now(check: Check) -> None:
    frame = events(occurred_at=["2024-01-01", "2024-06-02"], recorded_at=None)
    assert "future" not in rules(check(partners=PARTNERS, events=frame))


def test_now_in_another_zone_and_naive_now_are_the_same_moment(check: Check) -> None:
    frame = events(occurred_at=["2024-01-01", "2024-06-02T00:00:01"], recorded_at=None)
    for now in (datetime(2024, 6, 1), datetime.fromisoformat("2024-06-01T02:00:00+02:00")):
        assert "future" in rules(check(partners=PARTNERS, events=frame, now=now))
    assert "future" not in rules(check(partners=PARTNERS, events=frame, now=datetime(2024, 6, 1, 0, 0, 1)))


def test_direct_deals_are_no_orphans(check: Check) -> None:
    assert rules(check(partners=PARTNERS, deals=deals(partner_id=[None, "p2"]))) == set()


def test_orphans_follow_from_parents_that_were_set_aside(check: Check) -> None:
    partners = PARTNERS.assign(latitude=["100", "0", "0"])
    shares = pd.DataFrame({"deal_id": ["d1", "d2", "d2"], "partner_id": ["p3", "p2", "p3"]})
    history = pd.DataFrame({"deal_id": ["d1", "d2"], "valid_from": ["2024-01-01", "2024-02-01"]})
    checked = check(partners=partners, deals=deals(), deal_partners=shares, deal_history=history, max_rejected=0.5)
    # p1 is out, so its deal d1 is out, so what hangs on d1 is out
    assert checked.report.set_aside == {"partners": 1, "deals": 1, "deal_history": 1, "deal_partners": 1}
    assert frame_of(checked.clean["deal_partners"]).deal_id.tolist() == ["d2", "d2"]
    assert frame_of(checked.clean["deal_history"]).deal_id.tolist() == ["d2"]


def test_a_row_with_several_problems_is_set_aside_once(check: Check) -> None:
    frame = deals(partner_id=["p1", "p9"], amount=["1", "-5"], country=["DE", "??"])
    checked = check(partners=PARTNERS, deals=frame, max_rejected=0.5)
    assert checked.report.set_aside["deals"] == 1
    (row,) = frame_of(checked.rejects["deals"]).to_dict("records")
    assert row["rules"] == "invalid_code: country; negative: amount; orphan: partner_id"
    assert row["amount"] == "-5"


def test_too_many_rows_set_aside_are_an_error(check: Check) -> None:
    frame = deals(amount=["1", "-5"])
    violation = found(check(partners=PARTNERS, deals=frame, max_rejected=0.49), "negative")
    assert violation.severity == "error"
    assert "50 % of the table is concerned, more than validation.max_rejected allows (49 %)" in violation.remedy


def test_the_share_counts_all_rules_of_a_table_together(check: Check) -> None:
    frame = pd.concat([deals(deal_id=[f"a{i}", f"b{i}"]) for i in range(50)], ignore_index=True)
    frame["amount"] = ["-1"] + ["1"] * 99
    assert found(check(partners=PARTNERS, deals=frame), "negative").severity == "warning"
    frame["country"] = ["DE"] * 99 + ["?"]
    checked = check(partners=PARTNERS, deals=frame)
    assert {found(checked, rule).severity for rule in ("negative", "invalid_code")} == {"error"}


def test_violations_of_the_mapping_join_the_report(check: Check) -> None:
    few = Violation("deals", "vertical", "unmapped_value", "warning", 1, 100, ({"value": "x"},), "Name it")
    many = Violation("deals", "vertical", "unmapped_value", "warning", 2, 100, (), "Name it")
    checked = check(partners=PARTNERS, deals=deals(), mapping_violations=[few, many])
    assert [v.severity for v in checked.report.violations if v.rule == "unmapped_value"] == ["error", "warning"]


# --- currencies -------------------------------------------------------------------------------------------------------


def test_one_currency_needs_no_rule(check: Check) -> None:
    assert check(partners=PARTNERS, deals=deals(amount=["1", "2"], currency=["EUR", None])).report.ok


def test_several_currencies_without_rates_are_an_error(check: Check) -> None:
    checked = check(partners=PARTNERS, deals=deals(amount=["1", "2"], currency=["EUR", "USD"]))
    violation = found(checked, "mixed_currencies")
    assert (violation.severity, violation.count) == ("error", 2)
    assert violation.first == ({"currency": "EUR", "rows": 1}, {"currency": "USD", "rows": 1})
    assert "data.currency: {to, rates}" in violation.remedy


def test_currencies_are_compared_across_tables(check: Check) -> None:
    leads = pd.DataFrame({"lead_id": ["l"], "created_at": ["2024-01-01"], "amount": ["1"], "currency": ["USD"]})
    checked = check(partners=PARTNERS, deals=deals(amount=["1", "2"], currency=["EUR"] * 2), leads=leads)
    assert [v.table for v in checked.report.errors if v.rule == "mixed_currencies"] == ["deals", "leads"]


def test_a_currency_without_an_amount_mixes_nothing(check: Check) -> None:
    assert check(partners=PARTNERS, deals=deals(amount=["1", None], currency=["EUR", "USD"])).report.ok


def test_amounts_are_converted_by_the_rates(check: Check) -> None:
    rule = CurrencyRule("EUR", {"USD": 0.5})
    frame = deals(amount=["10", "10"], currency=["EUR", "usd"])
    history = pd.DataFrame({"deal_id": ["d1", "d2"], "valid_from": ["2024-01-01", "2024-02-01"], "amount": ["4", "4"]})
    checked = check(partners=PARTNERS, deals=frame, deal_history=history, currency=rule)
    assert checked.report.ok
    clean = frame_of(checked.clean["deals"].order_by("deal_id"))
    assert clean.amount.tolist() == [10.0, 5.0]
    assert clean.currency.tolist() == ["EUR", "EUR"]
    # the earlier amounts of a deal are in its currency
    assert frame_of(checked.clean["deal_history"].order_by("deal_id")).amount.tolist() == [4.0, 2.0]


def test_a_currency_without_a_rate_is_an_error(check: Check) -> None:
    rule = CurrencyRule("EUR", {"USD": 0.9})
    frame = deals(amount=["10", "10"], currency=["USD", "GBP"])
    violation = found(check(partners=PARTNERS, deals=frame, currency=rule), "missing_rate")
    assert violation.remedy == "data.currency.rates has no rate of GBP to EUR"


# --- signs of a wrong source ------------------------------------------------------------------------------------------


def timed(recorded: Any) -> pd.DataFrame:
    occurred = pd.date_range("2022-01-01", "2023-12-31", periods=100)
    return pd.DataFrame(
        {"partner_id": "p1", "occurred_at": occurred, "event_type": "login", "recorded_at": recorded(occurred)}
    )


def test_recording_times_that_cluster_at_the_end_are_named(check: Check) -> None:
    checked = check(partners=PARTNERS, events=timed(lambda t: t.where(np.arange(100) % 2 == 0, t[-1])))
    violation = found(checked, "recorded_at_clusters")
    assert (violation.severity, violation.sets_aside) == ("warning", False)
    assert "modification stamp" in violation.remedy
    assert checked.report.set_aside["events"] == 0


def test_constant_delays_do_not_cluster(check: Check) -> None:
    assert "recorded_at_clusters" not in rules(check(partners=PARTNERS, events=timed(lambda t: t + timedelta(days=45))))


def test_a_source_of_survivors_is_named(check: Check) -> None:
    frame = events(occurred_at=["2024-05-01", "2024-04-01"], recorded_at=None)
    two = PARTNERS.head(2)
    assert found(check(partners=two, events=frame), "survivors_only").severity == "warning"
    for partners, activity in (
        (PARTNERS, frame),  # p3 was never active
        (two.assign(left_at=["2024-05-02", None]), frame),
        (two, events(occurred_at=["2024-05-01", "2023-04-01"], recorded_at=None)),
        (two, frame.assign(actor=["partner", "vendor"])),  # what the vendor does is no activity of the partner
    ):
        assert "survivors_only" not in rules(check(partners=partners, events=activity))


def test_a_deal_is_activity_too(check: Check) -> None:
    frame = events(occurred_at=["2024-05-01", "2023-01-01"], recorded_at=None)
    late = deals(partner_id=[None, "p2"], registered_at=["2024-05-01"] * 2, closed_at=[None, "2024-05-02"])
    assert "survivors_only" in rules(check(partners=PARTNERS.head(2), events=frame, deals=late))


def test_closings_without_a_moment_are_named_and_kept(check: Check) -> None:
    checked = check(partners=PARTNERS, deals=deals(closed_at=[None, None]))
    violation = found(checked, "closed_without_moment")
    assert (violation.severity, violation.count, violation.sets_aside) == ("warning", 1, False)
    assert len(frame_of(checked.clean["deals"])) == 2
    assert checked.report.ok


def test_a_column_that_is_nearly_known_is_named(check: Check) -> None:
    violation = found(check(partners=PARTNERS.assign(contry=["DE", None, None])), "unknown_column")
    assert "did you mean country?" in violation.remedy
    assert "unknown_column" not in rules(check(partners=PARTNERS.assign(industry=["x", None, None])))


def test_the_absence_of_recording_times_and_lags_is_noted(check: Check) -> None:
    frame = events().drop(columns="recorded_at")
    assert found(check(partners=PARTNERS, events=frame), "unknown_recording").severity == "notice"
    noted = check(partners=PARTNERS, events=frame, lags={"events": timedelta(days=1)})
    assert not [v for v in noted.report.violations if v.rule == "unknown_recording"]


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_other_columns_ride_along_where_the_table_is_open(check: Check) -> None:
    partners = PARTNERS.assign(industry=[" a", "", "b"], employees=[1, 2, 3])
    checked = check(partners=partners, events=events(noise=[1, 2]))
    frame = frame_of(checked.clean["partners"].order_by("partner_id"))
    assert frame.industry.tolist()[::2] == ["a", "b"]
    assert pd.isna(frame.industry[1])
    assert frame.employees.dtype == "float64"
    assert "noise" not in checked.clean["events"].columns


def test_a_default_fills_nulls(check: Check) -> None:
    checked = check(partners=PARTNERS, events=events(actor=[None, "Vendor"]))
    assert sorted(frame_of(checked.clean["events"]).actor) == ["partner", "vendor"]


def test_a_sound_native_table_stays_a_view_of_its_source(check: Check, backend: Any) -> None:
    frame = events(occurred_at=pd.to_datetime(["2024-01-01", "2024-02-01"]), recorded_at=pd.NaT)
    check(partners=PARTNERS, events=frame)
    made = {name for (name,) in backend.raw_sql("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert "typed_events" not in made
    (definition,) = backend.raw_sql("SELECT sql FROM duckdb_views() WHERE view_name = 'events'").fetchone()
    assert "trim" not in definition
    assert "check__" not in definition


def test_expressions_are_checked_like_tables(check: Check, backend: Any) -> None:
    table = backend.create_table("raw_deals", pa.Table.from_pandas(deals()))
    checked = check(partners=PARTNERS, deals=table.filter(table.deal_id == "d2"))
    assert frame_of(checked.clean["deals"]).deal_id.tolist() == ["d2"]


def test_checking_twice_gives_the_same(check: Check) -> None:
    frame = deals(amount=["1", "-5"])
    first = check(partners=PARTNERS, deals=frame, max_rejected=0.5)
    again = check(partners=PARTNERS, deals=frame, max_rejected=0.5)
    assert first.report == again.report


def test_without_a_partner_the_rows_of_others_are_not_to_blame(check: Check) -> None:
    nobody = pd.DataFrame({"partner_id": pd.Series([], dtype="str")})
    report = check(partners=nobody, deals=deals()).report
    first = report.errors[0]
    assert (first.table, first.rule) == ("partners", "empty_table")
    assert "check that its export was not cut off" in first.message
    assert "orphan" in {violation.rule for violation in report.errors[1:]}


def test_every_table_of_the_schema_can_be_empty(check: Check) -> None:
    tables = {
        name: pd.DataFrame({column: pd.Series([], dtype="str") for column in table.names})
        for name, table in schema.TABLES.items()
    }
    checked = check(**tables)
    assert checked.report.ok, checked.report.text()
    named = [violation.table for violation in checked.report.warnings if violation.rule == "empty_table"]
    assert named == list(schema.TABLES)
    for name, table in schema.TABLES.items():
        assert checked.clean[name].columns == table.names
        assert frame_of(checked.clean[name]).empty


def test_a_memtable_is_accepted(check: Check) -> None:
    assert check(partners=ibis.memtable(pa.Table.from_pandas(PARTNERS))).report.ok


def test_the_report_in_its_three_forms(check: Check) -> None:
    report = check(partners=PARTNERS, deals=deals(amount=["1", "-5"], country=["DE", None]), max_rejected=0.5).report
    frame = report.to_frame()
    assert frame.loc[frame.rule == "negative", ["table", "column", "count", "total"]].to_numpy().tolist() == [
        ["deals", "amount", 1, 2]
    ]
    as_dict = report.to_dict()
    assert as_dict["ok"] is True
    assert as_dict["set_aside"] == {"partners": 0, "deals": 1}
    lines = report.text().splitlines()
    assert lines[:2] == ["partners: 3 rows", "deals: 2 rows, 1 set aside (50 %)"]
    assert lines[2].startswith("warning  deals.amount: negative, 1 of 2 rows; first: {deal_id: d2, amount: -5}.")
    assert lines[-1] == "ok: 0 errors, 1 warnings, 1 notices"


def test_an_empty_report_has_its_columns(check: Check) -> None:
    assert "rule" in check(partners=PARTNERS).report.to_frame().columns


@pytest.mark.parametrize(
    ("type", "code"),
    [(Type.COUNTRY, "NA"), (Type.REGION, "DE-BY"), (Type.CURRENCY, "EUR"), (Type.TIME_ZONE, "UTC")],
)
def test_the_codes_are_sorted_and_complete(type: Type, code: str) -> None:
    codes = valid_codes(type)
    assert code in codes
    assert list(codes) == sorted(set(codes))
