"""Exports of three products, mapped by YAML alone: a test per trap, against Python's own reading of the files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from partnerml.ecosystem import Ecosystem
from partnerml.errors import DataError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
NOW = datetime(2024, 6, 1, tzinfo=UTC)
PRODUCTS = ("salesforce", "hubspot", "partnerstack")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def open_export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ecosystem]]:
    opened: list[Ecosystem] = []

    def run(product: str, *overrides: str) -> Ecosystem:
        out = tmp_path_factory.mktemp(product)
        eco = Ecosystem.open(FIXTURES / product / "partnerml.yaml", overrides=[f"output={out}", *overrides], now=NOW)
        opened.append(eco)
        return eco

    yield run
    for eco in opened:
        eco.close()


@pytest.fixture(scope="module")
def salesforce(open_export: Callable[..., Ecosystem]) -> Ecosystem:
    return open_export("salesforce")


@pytest.fixture(scope="module")
def hubspot(open_export: Callable[..., Ecosystem]) -> Ecosystem:
    return open_export("hubspot")


@pytest.fixture(scope="module")
def partnerstack(open_export: Callable[..., Ecosystem]) -> Ecosystem:
    return open_export("partnerstack")


def rows(eco: Ecosystem, table: str) -> list[Row]:
    return eco.table(table).to_pyarrow().to_pylist()


def by(key: str, found: list[Row]) -> dict[Any, Row]:
    return {row[key]: row for row in found}


def raw_csv(product: str, name: str) -> list[dict[str, str]]:
    with (FIXTURES / product / "exports" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def raw_jsonl(product: str, name: str) -> list[Row]:
    text = (FIXTURES / product / "exports" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def from_ms(milliseconds: str | int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).replace(tzinfo=None)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_export_passes_and_loses_no_row(product: str, request: pytest.FixtureRequest) -> None:
    eco: Ecosystem = request.getfixturevalue(product)
    report = eco.validate(now=NOW)
    assert report.ok, report.text()
    assert [violation.message for violation in report.warnings] == []
    assert set(report.set_aside.values()) == {0}
    assert all(report.rows.values())
    assert eco.write_rejects() == ()


# --- Salesforce -------------------------------------------------------------------------------------------------------


def test_ids_of_15_and_18_characters_meet(salesforce: Ecosystem) -> None:
    partners = by("partner_id", rows(salesforce, "partners"))
    raw = by("Id", raw_csv("salesforce", "Opportunity"))
    deals = rows(salesforce, "deals")
    assert {len(row["PartnerAccountId"]) for row in raw.values()} == {0, 15}
    for deal in deals:
        short = raw[deal["deal_id"]]["PartnerAccountId"]
        assert (deal["partner_id"] or "")[:15] == short
        assert deal["partner_id"] is None or deal["partner_id"] in partners
    assert {row["partner_id"] for row in rows(salesforce, "deal_partners")} <= set(partners)


def test_ids_that_differ_in_case_stay_two_partners(salesforce: Ecosystem) -> None:
    partners = by("partner_id", rows(salesforce, "partners"))
    names = {partners[key]["name"] for key in ("001Gb000003KxQrIAK", "001Gb000003kxqRIAQ")}
    assert names == {"Nordlicht Systeme GmbH", "Summit Integrators, Inc."}


def test_multi_select_fields_become_lists(salesforce: Ecosystem) -> None:
    partners = by("name", rows(salesforce, "partners"))
    assert partners["Nordlicht Systeme GmbH"]["verticals"] == ["manufacturing", "healthcare"]
    assert partners["Nordlicht Systeme GmbH"]["languages"] == ["de", "en"]
    assert partners["Summit Integrators, Inc."]["verticals"] == ["healthcare", "public sector"]
    assert partners['Keurig "KX" Consulting']["verticals"] is None


@pytest.mark.parametrize(
    ("table", "key", "raw", "raw_key"),
    [
        ("deals", "deal_id", "Opportunity", "Id"),
        ("deal_partners", "deal_id", "OpportunityPartner", "OpportunityId"),
        ("leads", "lead_id", "Lead", "Id"),
        ("accounts", "account_id", "Account", "Id"),
    ],
)
def test_deleted_rows_are_left_out(salesforce: Ecosystem, table: str, key: str, raw: str, raw_key: str) -> None:
    exported = raw_csv("salesforce", raw)
    assert any(row["IsDeleted"] == "true" for row in exported)
    kept = Counter(row[raw_key] for row in exported if row["IsDeleted"] == "false")
    assert Counter(row[key] for row in rows(salesforce, table)) == kept


def test_the_close_date_of_an_open_opportunity_is_expected(salesforce: Ecosystem) -> None:
    raw = by("Id", raw_csv("salesforce", "Opportunity"))
    outcomes = Counter()
    for deal in rows(salesforce, "deals"):
        date = datetime.fromisoformat(raw[deal["deal_id"]]["CloseDate"])
        outcomes[deal["outcome"]] += 1
        assert deal["closed_at"] == (None if deal["outcome"] == "open" else date)
        assert deal["expected_close_at"] == (date if deal["outcome"] == "open" else None)
    assert set(outcomes) == {"open", "won", "lost"}


def test_an_open_opportunity_with_closed_at_would_be_refused(open_export: Callable[..., Ecosystem]) -> None:
    eco = open_export("salesforce", "data.tables.deals.columns.closed_at=CloseDate")
    (violation,) = (v for v in eco.validate(now=NOW).errors if v.rule == "closed_at_on_open_deal")
    assert "map an expected date to expected_close_at" in violation.remedy


def test_closing_on_the_day_of_creation_is_no_contradiction(salesforce: Ecosystem) -> None:
    same_day = [d for d in rows(salesforce, "deals") if d["closed_at"] and d["closed_at"] < d["registered_at"]]
    assert same_day
    assert all(deal["closed_at"].date() == deal["registered_at"].date() for deal in same_day)


def test_a_mass_updated_modification_stamp_is_recognised(open_export: Callable[..., Ecosystem]) -> None:
    assert len({row["SystemModstamp"] for row in raw_csv("salesforce", "Opportunity")}) == 1
    eco = open_export("salesforce", "data.tables.deals.columns.recorded_at=SystemModstamp")
    (violation,) = (v for v in eco.validate(now=NOW).warnings if v.rule == "recorded_at_clusters")
    assert (violation.table, violation.column, violation.sets_aside) == ("deals", "recorded_at", False)


def test_country_names_become_codes_and_namibia_is_not_missing(salesforce: Ecosystem) -> None:
    partners = rows(salesforce, "partners")
    assert sorted(partner["country"] for partner in partners) == ["DE", "FR", "NA", "US"]
    assert {partner["region"] for partner in partners} == {"DE-BY", "US-CA", None}
    leads = rows(salesforce, "leads")
    assert sorted(lead["country"] for lead in leads) == ["AT", "US"]


def test_country_names_that_are_not_mapped_are_refused(open_export: Callable[..., Ecosystem]) -> None:
    eco = open_export("salesforce", "data.tables.partners.columns.country=BillingCountry")
    (violation,) = (v for v in eco.validate(now=NOW).errors if v.rule == "invalid_code" and v.table == "partners")
    assert violation.count == 3  # "NA" is a code
    assert "{expr: country(COLUMN)}" in violation.remedy


def test_two_currencies_become_one(salesforce: Ecosystem) -> None:
    raw = by("Id", raw_csv("salesforce", "Opportunity"))
    rates = {"EUR": 1.0, "USD": 0.9}
    deals = rows(salesforce, "deals")
    assert {raw[deal["deal_id"]]["CurrencyIsoCode"] for deal in deals} == set(rates)
    for deal in deals:
        given = raw[deal["deal_id"]]
        expected = float(given["Amount"]) * rates[given["CurrencyIsoCode"]] if given["Amount"] else None
        assert deal["amount"] == expected
        assert deal["currency"] == "EUR"
    for step in rows(salesforce, "deal_history"):
        matches = [
            float(row["Amount"]) * rates[raw[step["deal_id"]]["CurrencyIsoCode"]]
            for row in raw_csv("salesforce", "OpportunityHistory")
            if row["OpportunityId"] == step["deal_id"] and row["StageName"] == step["stage"] and row["Amount"]
        ]
        assert step["amount"] in matches


def test_two_currencies_without_rates_stop_the_run(open_export: Callable[..., Ecosystem]) -> None:
    eco = open_export("salesforce", "data.currency=null")
    with pytest.raises(DataError, match=r"mixed currencies.*EUR.*USD.*data\.currency"):
        eco.table("deals")


def test_several_partners_share_a_deal(salesforce: Ecosystem) -> None:
    per_deal = Counter(row["deal_id"] for row in rows(salesforce, "deal_partners"))
    assert max(per_deal.values()) == 2
    shared = [row for row in rows(salesforce, "deal_partners") if per_deal[row["deal_id"]] == 2]
    assert Counter(row["is_primary"] for row in shared) == {True: len(shared) / 2, False: len(shared) / 2}
    assert {row["role"] for row in shared} == {"sourced", "influenced"}


def test_logins_reach_the_partner_through_the_user(salesforce: Ecosystem) -> None:
    users = {row["Id"]: row for row in raw_csv("salesforce", "User")}
    expected = Counter(
        users[row["UserId"]]["AccountId"]
        for row in raw_csv("salesforce", "LoginHistory")
        if row["Status"] == "Success" and users[row["UserId"]]["UserType"] == "PowerPartner"
    )
    events = rows(salesforce, "events")
    assert Counter(event["partner_id"] for event in events) == expected
    assert {event["event_type"] for event in events} == {"portal_login"}
    assert len(events) < len(raw_csv("salesforce", "LoginHistory"))


def test_domains_come_from_sites_and_addresses(salesforce: Ecosystem) -> None:
    leads = by("account_name", rows(salesforce, "leads"))
    assert leads["Tirol Stahl GmbH"]["domain"] == "tirolstahl.at"
    assert leads["Golden Gate Labs"]["domain"] == "goldengatelabs.co.uk"
    assert leads["Golden Gate Labs"]["consent"] is False
    assert by("name", rows(salesforce, "accounts"))["Nordlicht Systeme GmbH"]["domain"] == "nordlicht-systeme.de"


def test_who_created_a_lead_handed_it_in_whoever_owns_it_now(salesforce: Ecosystem) -> None:
    leads = by("account_name", rows(salesforce, "leads"))
    assert leads["Tirol Stahl GmbH"]["source_partner_id"] == "001Gb000003KxQrIAK"
    assert leads["Golden Gate Labs"]["source_partner_id"] is None  # the vendor's own


# --- HubSpot ----------------------------------------------------------------------------------------------------------


def test_milliseconds_as_text_are_moments(hubspot: Ecosystem) -> None:
    raw = by("hs_object_id", raw_csv("hubspot", "deals"))
    for deal in rows(hubspot, "deals"):
        given = raw[deal["deal_id"]]
        assert deal["registered_at"] == from_ms(given["createdate"])
        is_closed = given["hs_is_closed"] == "true"
        assert deal["closed_at"] == (from_ms(given["closedate"]) if is_closed else None)
        assert deal["expected_close_at"] == (None if is_closed else from_ms(given["closedate"]))


def test_stages_become_outcomes(hubspot: Ecosystem) -> None:
    raw = by("hs_object_id", raw_csv("hubspot", "deals"))
    outcomes = {"closedwon": "won", "closedlost": "lost", "presentationscheduled": "open", "contractsent": "open"}
    deals = rows(hubspot, "deals")
    assert {raw[deal["deal_id"]]["dealstage"] for deal in deals} == set(outcomes)
    assert all(deal["outcome"] == outcomes[raw[deal["deal_id"]]["dealstage"]] for deal in deals)


def test_what_the_app_writes_is_in_the_zone_of_the_portal(hubspot: Ecosystem) -> None:
    raw = by("hs_object_id", raw_csv("hubspot", "companies"))
    for partner in rows(hubspot, "partners"):
        local = datetime.strptime(raw[partner["partner_id"]]["createdate"], "%Y-%m-%d %H:%M")  # noqa: DTZ007
        expected = local.replace(tzinfo=ZoneInfo("America/New_York")).astimezone(UTC).replace(tzinfo=None)
        assert partner["joined_at"] == expected


def test_archived_companies_and_deals_are_left_out(hubspot: Ecosystem) -> None:
    partners = {row["partner_id"] for row in rows(hubspot, "partners")}
    assert partners == {"9000000101", "9000000102", "9000000103"}
    archived = {row["hs_object_id"] for row in raw_csv("hubspot", "deals") if row["archived"] == "true"}
    assert archived
    assert not archived & {row["deal_id"] for row in rows(hubspot, "deals")}
    assert not archived & {row["deal_id"] for row in rows(hubspot, "deal_partners")}


def test_associations_give_a_deal_several_partners(hubspot: Ecosystem) -> None:
    per_deal = Counter(row["deal_id"] for row in rows(hubspot, "deal_partners"))
    assert set(per_deal.values()) == {1, 2}
    assert {(row["is_primary"], row["role"]) for row in rows(hubspot, "deal_partners")} == {
        (True, "sourced"),
        (False, "influenced"),
    }


def test_engagements_reach_the_partner_through_contacts(hubspot: Ecosystem) -> None:
    company = {row["hs_object_id"]: row["associatedcompanyid"] for row in raw_csv("hubspot", "contacts")}
    partners = {row["partner_id"] for row in rows(hubspot, "partners")}
    expected = Counter()
    for engagement in raw_jsonl("hubspot", "engagements"):
        # two contacts of one company make one event
        for partner in {company[str(contact)] for contact in engagement["contactIds"]} & partners:
            actor = "partner" if engagement["type"] == "INCOMING_EMAIL" else "vendor"
            expected[partner, from_ms(engagement["timestamp"]), engagement["type"].lower(), actor] += 1
    events = rows(hubspot, "events")
    found = Counter((e["partner_id"], e["occurred_at"], e["event_type"], e["actor"]) for e in events)
    assert found == expected
    assert all(event["recorded_at"] > event["occurred_at"] for event in events)


def test_country_aliases_and_checkboxes(hubspot: Ecosystem) -> None:
    partners = by("partner_id", rows(hubspot, "partners"))
    assert [partners[key]["country"] for key in sorted(partners)] == ["US", "CA", "GB"]
    assert partners["9000000101"]["verticals"] == ["managed_services", "security"]
    assert partners["9000000101"]["region"] == "US-NC"
    assert partners["9000000102"]["region"] == "CA-ON"


def test_the_last_modification_is_recognised(open_export: Callable[..., Ecosystem]) -> None:
    eco = open_export("hubspot", "data.tables.deals.columns.recorded_at=hs_lastmodifieddate")
    assert "recorded_at_clusters" in {violation.rule for violation in eco.validate(now=NOW).warnings}


# --- PartnerStack -----------------------------------------------------------------------------------------------------


def test_milliseconds_as_numbers_are_moments(partnerstack: Ecosystem) -> None:
    joined = {row["partner_key"]: row["joined_at"] for row in raw_jsonl("partnerstack", "partnerships")}
    assert None in joined.values()  # has never joined
    for partner in rows(partnerstack, "partners"):
        given = joined[partner["partner_id"]]
        assert partner["joined_at"] == (None if given is None else from_ms(given))


def test_nested_objects_and_native_lists(partnerstack: Ecosystem) -> None:
    raw = by("partner_key", raw_jsonl("partnerstack", "partnerships"))
    for partner in rows(partnerstack, "partners"):
        given = raw[partner["partner_id"]]
        assert partner["partner_type"] == given["group"]["slug"]
        assert partner["programme_tags"] == given["tags"]
        assert partner["name"] == given["team"]["name"]
    assert by("partner_id", rows(partnerstack, "partners"))["quietone"]["country"] == "NA"


def test_cents_become_major_units(partnerstack: Ecosystem) -> None:
    raw = by("key", raw_jsonl("partnerstack", "deals"))
    for deal in rows(partnerstack, "deals"):
        cents = raw[deal["deal_id"]]["amount"]
        assert deal["amount"] == (None if cents is None else cents / 100)


def test_transactions_reach_the_partner_through_the_customer(partnerstack: Ecosystem) -> None:
    customers = by("customer_key", raw_jsonl("partnerstack", "customers"))
    expected = {
        row["key"]: (customers[row["customer_key"]]["partner_key"], row["amount_usd"] / 100)
        for row in raw_jsonl("partnerstack", "transactions")
        if row["approved"] and not customers[row["customer_key"]]["test"]
    }
    events = [event for event in rows(partnerstack, "events") if event["event_type"] == "transaction"]
    assert {event["event_id"]: (event["partner_id"], event["value"]) for event in events} == expected
    assert min(value for _, value in expected.values()) < 0  # a refund is a value, not an amount


def test_two_sources_of_events_are_united(partnerstack: Ecosystem) -> None:
    types = Counter(event["event_type"] for event in rows(partnerstack, "events"))
    assert types["lead_submitted"] == len(raw_jsonl("partnerstack", "leads"))
    assert set(types) == {"lead_submitted", "transaction"}


def test_the_close_date_of_an_open_deal_is_expected(partnerstack: Ecosystem) -> None:
    for deal in rows(partnerstack, "deals"):
        is_open = deal["outcome"] == "open"
        assert (deal["closed_at"] is None) == is_open
        assert (deal["expected_close_at"] is None) != is_open
