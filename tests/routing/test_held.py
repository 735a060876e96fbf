"""Leads that partners hold from before the ledger: they take room, once, until the ledger gives them to somebody."""

import datetime as dt
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router
from partnerml.routing._ledger import Ledger
from partnerml.routing._snapshot import Snapshot

NOW = AS_OF + dt.timedelta(hours=9)
BEFORE = AS_OF - dt.timedelta(days=20)
P = {"p0": 0.6, "p1": 0.5, "p2": 0.4}
IDS = list(P)


def lead(name: str = "l1") -> dict[str, object]:
    return {"lead_id": name, "created_at": "2026-06-01T08:00:00Z"}


def assigned(lead_id: str, partner_id: str, response: str | None = "accepted", outcome: str | None = "open") -> dict:
    return {
        "lead_id": lead_id,
        "partner_id": partner_id,
        "assigned_at": BEFORE,
        "response": response,
        "outcome": outcome,
    }


def world(held=(("old0", "p0"), ("old1", "p0")), limit: int = 2, **more) -> Snapshot:
    assignments = [assigned(*pair) for pair in held]
    return snapshot([{"max_open_leads": limit}] * 3, p=P, assignments=assignments, **more)


def test_a_partner_that_is_full_from_before_gets_no_lead(ledger_url):
    with Router.open(world(), ledger=ledger_url) as router:
        assert router.rank(lead(), now=NOW).partner_id.tolist() == ["p1", "p2"]
        (failed,) = router.why_not(lead(), "p0", now=NOW)
        assert failed.rule == "capacity"
        decision = router.route(lead(), now=NOW)
        assert decision.partner_id == "p1"
        assert router.replay(decision.decision_id) == decision
        (would,) = router.dry_run([lead("l2")], now=NOW)
        assert would.partner_id == "p1"
        assert router.ledger.audit() == []


def test_a_batch_leaves_those_full_that_are(ledger_url):
    pytest.importorskip("numba")
    with Router.open(world(), ledger=ledger_url) as router:
        batch = router.assign([lead(f"l{number}") for number in range(5)], now=NOW)
        assert Counter(decision.partner_id for decision in batch.decisions) == {"p1": 2, "p2": 2, None: 1}
        for decision in batch.decisions:
            assert router.replay(decision.decision_id) == decision


def test_what_is_refused_or_closed_takes_no_room():
    rows = [
        assigned("a", "p0", "declined", None),
        assigned("b", "p0", "expired", None),
        assigned("c", "p0", "withdrawn", None),
        assigned("d", "p0", "accepted", "won"),
        assigned("e", "p0", "accepted", "lost"),
        assigned("f", "p0", "accepted", "cancelled"),
        assigned("g", "p1", None, None),  # not yet answered
        assigned("h", "gone", "accepted", "open"),
    ]
    made = snapshot(3, assignments=rows)
    assert made.held == [("g", "p1"), ("h", "gone")]
    with Router.open(made) as router:
        assert router._in_use.opened.way.capacity.held_each.tolist() == [0, 1, 0]


def test_where_nothing_tells_how_leads_end_none_is_held():
    assert snapshot(3, assignments=[assigned("a", "p0", outcome=None), assigned("b", "p0", None, None)]).held == []


def test_a_lead_that_the_ledger_gives_to_another_is_counted_once(ledger_url):
    with Router.open(world(), ledger=ledger_url) as router:
        decision = router.route(lead("old0"), now=NOW)
        assert decision.partner_id == "p1"
        # its former partner has room again
        assert router.route(lead(), now=NOW).partner_id == "p0"
        assert router.route(lead("l2"), now=NOW).partner_id == "p1"
        assert router.ledger.audit() == []


def test_what_the_ledger_exported_is_not_counted_twice(ledger_url):
    with Router.open(snapshot([{"max_open_leads": 2}] * 3, p=P), ledger=ledger_url) as router:
        first = router.route(lead("l1"), now=NOW)
        router.respond(first.offer_id, "accepted", now=NOW)
        exported = router.ledger.export("assignments")
        rows = exported[["lead_id", "partner_id", "assigned_at", "response", "outcome"]].to_dict("records")
        again = snapshot([{"max_open_leads": 2}] * 3, p=P, assignments=rows, as_of=AS_OF + dt.timedelta(hours=12))
    assert again.held == [("l1", "p0")]
    with Router.open(again, ledger=ledger_url) as router:
        if ledger_url is None:  # that one is gone, and another begins
            assert router.rank(lead("l2"), now=NOW).free.tolist() == [1, 2, 2]
            return
        assert router.rank(lead("l2"), now=NOW).free.tolist() == [1, 2, 2]
        assert router.route(lead("l2"), now=NOW).partner_id == "p0"
        # a new ledger beside it counts it as well
        with Router.open(again) as other:
            assert other.rank(lead("l2"), now=NOW).free.tolist() == [1, 2, 2]


def test_another_snapshot_counts_its_own(ledger_url):
    with Router.open(world(), ledger=ledger_url) as router:
        assert router.route(lead(), now=NOW).partner_id == "p1"
        other = world((("old1", "p0"), ("old2", "p1")))
        router._in_use.opened = type(router._in_use.opened).of(other)
        assert router.rank(lead("l2"), now=NOW).partner_id.tolist() == ["p0", "p2"]
        assert router.ledger.audit() == []


def test_the_database_refuses_what_is_beyond_the_room_that_is_left(ledger_url):
    with Router.open(world((("old0", "p0"),)), ledger=ledger_url) as router:
        assert router.route(lead(), now=NOW).partner_id == "p0"
        with router.ledger._database.reading() as connection:
            limits = connection.exec_driver_sql("SELECT limit_open FROM entries").scalars().all()
        assert limits == [1]  # two, and one of them is held from before


def test_it_is_in_the_folder_and_older_folders_hold_nobody(tmp_path):
    made = snapshot(3, assignments=[assigned("a", "p0")], cells=[])
    folder = made.write(tmp_path)
    assert Snapshot.open(folder).held == [("a", "p0")]
    assert Snapshot.open(folder).id == made.id
    without = {name: table for name, table in made.tables.items() if name != "held"}
    object.__setattr__(made, "tables", without)
    assert made.held == []


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_open_leads_are_those_of_the_ledger_and_those_it_never_gave(data):
    """Held against a count by hand, whatever is routed, answered, closed and published meanwhile."""
    names = [f"l{number}" for number in range(6)]
    pairs = st.lists(st.tuples(st.sampled_from(names), st.sampled_from(IDS)), max_size=6, unique=True)
    with Router.open(world(data.draw(pairs), limit=3)) as router:
        decided = []
        for _ in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(["route", "accept", "decline", "close", "publish"]))
            live = router.ledger.offers(status="offered")
            if step == "route":
                decided.append(router.route(lead(data.draw(st.sampled_from(names))), now=NOW))
            elif step == "publish":
                router._in_use.opened = type(router._in_use.opened).of(world(data.draw(pairs), limit=3))
            elif step == "close" and (held := [o for o in router.ledger.offers(status="accepted") if o.holds]):
                router.outcome(held[0].lead_id, "won", now=NOW)
            elif step in ("accept", "decline") and live:
                answered = router.respond(live[0].offer_id, f"{step}{'d' if step[-1] == 'e' else 'ed'}", now=NOW)
                decided.append(answered)
            _check_open_leads(router)
        for decision in decided:
            if decision.snapshot_id == router._in_use.opened.way.snapshot_id:
                assert router.replay(decision.decision_id) == decision
        assert router.ledger.audit() == []


def _check_open_leads(router: Router) -> None:
    offers = router.ledger.offers()
    given_once = {offer.lead_id for offer in offers}
    counted = Counter(offer.partner_id for offer in offers if offer.holds)
    counted += Counter(partner for lead_id, partner in router.snapshot.held if lead_id not in given_once)
    capacity = router._in_use.opened.way.capacity
    with router.ledger.turn(moment=NOW) as turn:
        load = turn.load(capacity)
    fold, _ = router.ledger.standing(now=NOW, capacity=capacity)
    expected = [counted[partner] for partner in IDS]
    assert load.open.tolist() == expected
    np.testing.assert_array_equal(fold.load(capacity, NOW).open, expected)


def test_a_ledger_finds_out_again_who_was_given_what(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Router.open(world(), ledger=url) as router:
        router.route(lead("old0"), now=NOW)
    with Router.open(world(), ledger=url) as router:
        _check_open_leads(router)
        assert isinstance(router.ledger, Ledger)
