"""What a person decides is done, and what is odd about it is told."""

import datetime as dt
import logging

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
PARTNERS = [
    {},
    {"left_at": AS_OF},
    {"joined_at": AS_OF + dt.timedelta(days=1)},
    {"left_at": NOW + dt.timedelta(days=9)},
]


@pytest.mark.parametrize(("partner", "odd"), [("p0", False), ("p1", True), ("p2", True), ("p3", False)])
def test_a_lead_given_to_who_is_no_partner_is_warned_of(partner, odd, caplog):
    with Router.open(snapshot(PARTNERS)) as router:
        router.route({"lead_id": "l1", "created_at": AS_OF.isoformat()}, now=NOW)
        with caplog.at_level(logging.WARNING, logger="partnerml"):
            given = router.override("l1", partner, by="Ada", reason="so", now=NOW)
    assert given.partner_id == partner
    assert (f"lead l1 is given to {partner}, which is no partner at the time" in caplog.text) is odd
