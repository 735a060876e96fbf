"""Outcomes of a file: written where they can be, and none of a file that has too many that cannot."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router
from partnerml.routing._outcomes import write_outcomes

NOW = AS_OF + dt.timedelta(hours=10)
ROWS = [
    {"lead_id": "l0", "outcome": "won", "amount": 5},
    {"lead_id": "l9", "outcome": "won"},
    {"lead_id": "l1", "outcome": "lost"},
    {"lead_id": "l2", "outcome": "lost"},  # asked, and not accepted
    {"lead_id": "l1", "outcome": "gone"},
]


@pytest.fixture
def router():
    with Router.open(snapshot(3)) as router:
        for number in range(3):
            made = router.route({"lead_id": f"l{number}", "created_at": AS_OF.isoformat()}, now=NOW)
            if number < 2:
                router.respond(made.offer_id, "accepted", now=NOW)
        yield router


@pytest.mark.parametrize(("most", "written"), [(1.0, 2), (0.6, 2), (0.5, 0)])
def test_of_a_file_with_too_many_that_cannot_be_nothing_is_written(router, most, written):
    told = write_outcomes(router.ledger, ROWS, now=NOW, most=most)
    assert told.written == written
    assert [row["lead_id"] for row, _ in told.refused] == ["l9", "l2", "l1"]
    for words, (_, reason) in zip(("there is no lead 'l9'", "l2", "got 'gone'"), told.refused, strict=True):
        assert words in reason
    closed = router.ledger.export("assignments").set_index("lead_id")["outcome"]
    assert closed[["l0", "l1"]].tolist() == (["won", "lost"] if written else ["open", "open"])


@pytest.mark.parametrize(("most", "written"), [(0.75, 1), (0.7, 0)])
def test_what_cannot_be_is_counted_before_anything_is_written(router, most, written):
    rows = [
        {"lead_id": "l0", "outcome": "won", "closed_at": NOW.isoformat()},
        {"lead_id": "l1", "outcome": "won", "closed_at": (NOW + dt.timedelta(days=9)).isoformat()},
        {"lead_id": "l1", "outcome": "won", "closed_at": (NOW - dt.timedelta(days=9)).isoformat()},
        {"lead_id": "l1", "outcome": "won", "amount": -1},
    ]
    told = write_outcomes(router.ledger, rows, now=NOW, most=most)
    assert told.written == written
    for words, (_, reason) in zip(("later than now", "before partner", "zero or more"), told.refused, strict=True):
        assert words in reason
    closed = router.ledger.export("assignments").set_index("lead_id")["outcome"]
    assert closed[["l0", "l1"]].tolist() == (["won", "open"] if written else ["open", "open"])
