"""A snapshot that is of later than now knows what cannot be known yet: that is told, once."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

TOLD = "is as of 2026-06-01, and it is 2024-03-01 09:00 UTC"
LONG_AGO = "2024-03-01T09:00"


def lead(number):
    return {"lead_id": f"l{number}", "created_at": "2024-03-01T08:00"}


@pytest.mark.parametrize(
    "call",
    [
        lambda router: router.route(lead(1), now=LONG_AGO),
        lambda router: router.rank(lead(1), now=LONG_AGO),
        lambda router: router.dry_run([lead(1)], now=LONG_AGO),
        lambda router: router.expire(now=LONG_AGO),
    ],
)
def test_it_is_told_once(call, caplog):
    with Router.open(snapshot(2)) as router:
        for _ in range(2):
            call(router)
    assert caplog.text.count(TOLD) == 1


def test_nothing_is_told_of_one_of_today_nor_where_the_past_is_meant(caplog):
    with Router.open(snapshot(2)) as router:
        decision = router.route(lead(1), now=AS_OF)
        router.route(lead(2), now=AS_OF + dt.timedelta(hours=9))
        router.replay(decision.decision_id)
        router.simulate(AS_OF)
    assert "and it is" not in caplog.text
