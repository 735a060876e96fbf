"""Leads that are entered long after they came: of one company, one partner is asked."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=9)
LONG_AGO = AS_OF - dt.timedelta(days=120)


def lead(name, *, created_at=LONG_AGO, **more):
    return {"lead_id": name, "account_name": "Acme Tools", "created_at": created_at, **more}


@pytest.fixture
def router(tmp_path):
    made = snapshot(3, p={"p1": 0.6}, config={"max_snapshot_age": "365d"})
    with Router.open(made, ledger=f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


def test_a_backlog_of_one_company_goes_to_one_partner(router):
    first = router.route(lead("l1"), now=NOW)
    assert (first.status, first.partner_id) == ("assigned", "p1")
    others = [lead("l2"), lead("l3", created_at=LONG_AGO - dt.timedelta(days=9)), lead("l4", created_at=NOW)]
    for number, row in enumerate(others):
        again = router.route(row, now=NOW + dt.timedelta(minutes=number))
        assert (again.status, again.partner_id) == ("duplicate", "p1")
        assert router.replay(again.decision_id).to_json() == again.to_json()


def test_the_window_begins_when_a_lead_was_entered(router):
    router.route(lead("l1"), now=NOW)
    for days, status in ((89, "duplicate"), (91, "assigned")):
        later = NOW + dt.timedelta(days=days)
        assert [d.status for d in router.dry_run([lead("l2", created_at=later)], now=later)] == [status]
        (batch,) = router.assign([lead("l3", created_at=later)], now=later, dry_run=True).decisions
        assert batch.status == status


def test_a_dry_run_of_a_backlog_says_the_same(router):
    rows = [lead("l1"), lead("l2")]
    assert [d.status for d in router.dry_run(rows, now=NOW)] == ["assigned", "duplicate"]


def test_a_lead_of_the_far_future_keeps_its_company_no_longer_than_others(router):
    """One digit that is wrong in a moment is not to cost a company its leads for decades."""
    router.route(lead("l1", created_at=NOW.replace(year=2062)), now=NOW)
    for days, status in ((89, "duplicate"), (91, "assigned")):
        later = NOW + dt.timedelta(days=days)
        (would,) = router.dry_run([lead("l2", created_at=later)], now=later)
        assert would.status == status
