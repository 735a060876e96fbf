"""Whatever is sent to the router: a clear error, or a decision that is whole in the ledger and stands."""

import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot
from tests.routing.test_lead import PAYLOADS

from partnerml.errors import InputError
from partnerml.routing import Decision, Router

NOW = AS_OF + dt.timedelta(hours=10)
pytestmark = pytest.mark.xdist_group("bad leads")


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    partners = [
        {"country": "DE", "latitude": 52.5, "longitude": 13.4, "verticals": ["retail"], "languages": ["de"]},
        {"country": "FR", "min_deal_amount": 100.0, "max_deal_amount": 1e6, "tier": "gold"},
        {"time_zone": "Asia/Tokyo", "flags": ["compliance"]},
        {},
    ]
    territories = [
        {"partner_id": "p0", "country": "DE", "postal_prefix": "10"},
        {"partner_id": "p1", "latitude": 48.8, "longitude": 2.3, "radius_km": 100.0, "exclusive": True},
    ]
    accounts = [{"account_id": "a", "name": "Acme GmbH", "domain": "acme.example", "owner_partner_id": "p1"}]
    snap = snapshot(
        partners,
        territories=territories,
        accounts=accounts,
        certifications=[{"partner_id": "p0", "certification": "x", "earned_at": AS_OF - dt.timedelta(days=9)}],
        config={"objective": "value", "policy": {"kind": "softmax"}},
    )
    with Router.open(snap, ledger=f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}") as router:
        yield router


@pytest.fixture(scope="module")
def acknowledged():
    return set()


@pytest.mark.slow
@settings(max_examples=1_000, suppress_health_check=list(HealthCheck))
@given(payload=PAYLOADS, lead_id=st.one_of(st.uuids().map(str), st.text(min_size=1, max_size=9)))
def test_a_clear_error_or_a_whole_decision(router, acknowledged, payload, lead_id):
    payload = {**payload, "lead_id": lead_id}
    try:
        decision = router.route(payload, now=NOW)
    except InputError:
        return
    acknowledged.add(decision.decision_id)
    assert Decision.from_json(decision.to_json()) == decision
    assert router.route(payload, now=NOW).to_json() == decision.to_json()


@pytest.mark.slow
def test_after_all_of_it_the_ledger_holds_what_was_answered_and_nothing_else(router, acknowledged):
    assert len(acknowledged) > 100
    assert set(router.ledger.export("decisions")["decision_id"]) == acknowledged
    assert router.ledger.audit() == []
