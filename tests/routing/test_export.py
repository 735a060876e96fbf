"""Exports as of a moment are those that were made at that moment."""

import datetime as dt

import pandas as pd
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

START = AS_OF + dt.timedelta(hours=9)
WHAT = ("assignments", "decisions", "vectors")


def steps(router):
    """Do all that may become of leads, one thing an hour, and yield each moment after it was done."""
    offers = {}

    def route(now):
        offers.update({lead: router.route({"lead_id": lead}, now=now).offer_id for lead in ("a", "b", "c", "d", "e")})

    yield from [
        route,
        lambda now: router.respond(offers["a"], "accepted", now=now),
        lambda now: router.respond(offers["b"], "declined", now=now),
        lambda now: router.respond(offers["c"], "accepted", now=now),
        lambda now: router.outcome("c", "won", amount=500.0, now=now),
        lambda now: router.outcome("c", "lost", closed_at=START, now=now),
        lambda now: router.withdraw(offers["a"], now=now),
        lambda now: router.override("d", "p3", by="Ada", reason="knows them", now=now),
        lambda now: router.outcome("d", "cancelled", now=now),
        lambda now: router.expire(now=now + dt.timedelta(days=3)),
    ]


@pytest.mark.parametrize("gone", [False, True])
def test_an_export_as_of_a_moment_is_what_was_exported_then(gone):
    with Router.open(snapshot(6, p={f"p{i}": 0.8 - 0.1 * i for i in range(6)})) as router:
        then = {}
        for number, step in enumerate(steps(router)):
            now = START + dt.timedelta(hours=number)
            step(now)
            then[now] = {what: router.ledger.export(what) for what in WHAT}
        last = router.ledger.history()["at"].max()
        then[last] = then.pop(now)
        assert {"won", "lost", "cancelled"} <= set(pd.concat(each["assignments"] for each in then.values())["outcome"])
        if gone:  # what is told of others does not change
            router.forget("e", now=last)
        for moment, frames in then.items():
            for what, frame in frames.items():
                found = router.ledger.export(what, now=moment)
                kept = [
                    each[each["lead_id"].isin(["a", "b", "c", "d"])].reset_index(drop=True) for each in (found, frame)
                ]
                pd.testing.assert_frame_equal(*kept if gone else (found, frame))
        for what in WHAT:
            assert router.ledger.export(what, now=START - dt.timedelta(minutes=1)).empty
