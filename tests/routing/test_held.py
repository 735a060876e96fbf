"""Leads that partners hold from before the ledger: they take room, once, until the ledger gives them to somebody."""

import datetime as dt
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router
from partnerml.routing._lead import Lead
from partnerml.routing._ledger import Ledger
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._standing import follow

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


def test_a_lead_that_a_partner_has_stays_with_it_and_is_counted_once(ledger_url):
    with Router.open(world(), ledger=ledger_url) as router:
        assert router.rank(lead("old0"), now=NOW).partner_id.tolist() == ["p0"]
        (failed,) = router.why_not(lead("old0"), "p1", now=NOW)
        assert (failed.rule, failed.evidence) == (
            "existing_owner",
            "partner p0 has the lead already (table assignments)",
        )
        (would,) = router.dry_run([lead("old0")], now=NOW)
        decision = router.route(lead("old0"), now=NOW)
        assert would == decision
        assert (decision.status, decision.partner_id) == ("existing_owner", "p0")
        assert decision.evidence == {"by": "lead", "lead_id": "old0"}
        assert router.ledger.offer(decision.offer_id).status == "accepted"
        assert router.replay(decision.decision_id) == decision
        # it is the ledger's now, and p0 is as full as it was
        _check_open_leads(router)
        assert router.rank(lead(), now=NOW).partner_id.tolist() == ["p1", "p2"]
        # the former partner has room again
        assert router.override("old0", "p1", by="Ada", reason="so", now=NOW).partner_id == "p1"
        assert router.route(lead(), now=NOW).partner_id == "p0"
        assert router.route(lead("l2"), now=NOW).partner_id == "p1"
        _check_open_leads(router)
        assert router.ledger.audit() == []


def test_what_others_are_told_of_a_lead_that_a_partner_has_names_nobody():
    with Router.open(world()) as router:
        (failed,) = router.why_not(lead("old0"), "p1", now=NOW, audience="partner")
        assert failed.evidence == "the lead is with a partner already"
        router.route(lead("old0"), now=NOW)
        assert router.for_partner("old0", "p1")["failed"]["evidence"] == "the lead is with a partner already"


def test_a_lead_that_its_partner_gives_back_goes_on_to_others(ledger_url):
    with Router.open(world(), ledger=ledger_url) as router:
        first = router.route(lead("old0"), now=NOW)
        following = router.withdraw(first.offer_id, now=NOW)
        assert (following.status, following.partner_id) == ("assigned", "p1")
        assert router.replay(following.decision_id) == following


def test_who_has_a_lead_goes_before_duplicates_deals_and_owners():
    acme = {"account_id": "a1", "domain": "acme.example"}
    tables = {
        "leads": [{"lead_id": "other", "created_at": BEFORE, **acme}],
        "deals": [{"deal_id": "d1", "partner_id": "p1", "registered_at": BEFORE, "lead_id": "old0"}],
        "accounts": [{"account_id": "a1", "owner_partner_id": "p2"}],
    }
    tables["deals"][0] |= {"outcome": "open", "registration_status": "approved"}
    with Router.open(world((("old0", "p0"), ("other", "p1")), **tables)) as router:
        assert router.route({**lead("old0"), **acme}, now=NOW).partner_id == "p0"
        # of the others nobody has one yet
        assert router.route({**lead("l1"), **acme}, now=NOW).status == "duplicate"


def test_a_partner_that_has_left_has_no_lead_any_more():
    rows = [assigned("old0", "p0"), assigned("old1", "p0"), assigned("old1", "p2")]
    partners = [{"left_at": AS_OF}, {}, {}]
    with Router.open(snapshot(partners, p=P, assignments=rows)) as router:
        assert router.route(lead("old0"), now=NOW).status == "assigned"
        assert router.route(lead("old1"), now=NOW).partner_id == "p2"


def test_of_several_that_have_a_lead_it_is_with_who_was_given_it_last():
    acme = {"account_id": "a1", "created_at": BEFORE}
    rows = [assigned("old0", "p0"), assigned("old0", "p2") | {"assigned_at": BEFORE + dt.timedelta(days=3)}]
    for first, second in (("old0", "l1"), ("l1", "old0")):
        with Router.open(snapshot(3, p=P, assignments=rows, leads=[{"lead_id": "old0", **acme}])) as router:
            found = [router.route({**lead(name), "account_id": "a1"}, now=NOW) for name in (first, second)]
            assert {decision.lead_id: (decision.status, decision.partner_id) for decision in found} == {
                "old0": ("existing_owner", "p2"),
                "l1": ("duplicate", "p2"),
            }


def test_a_lead_that_waited_for_a_snapshot_stays_with_its_partner():
    late = NOW + dt.timedelta(days=3)
    with Router.open(world((("old0", "p0"),), limit=1)) as router:
        waits = router._in_use.opened.decide
        with router.ledger.turn("old0", moment=late) as turn:
            asked = Lead.of(lead("old0"))
            outcome = waits(router._in_use.opened.situation_in(turn, asked), number=0, credit={})
            assert follow(turn, router._in_use.opened, asked, outcome=outcome).waits
        router._in_use.opened = type(router._in_use.opened).of(world((("old0", "p0"),), as_of=late))
        (decision,) = router.expire(now=late)
        assert (decision.status, decision.partner_id) == ("existing_owner", "p0")


def test_a_batch_leaves_leads_with_the_partners_that_have_them(ledger_url):
    pytest.importorskip("numba")
    leads = [lead("old1"), *(lead(f"l{number}") for number in range(3)), lead("old0")]
    with Router.open(world(), ledger=ledger_url) as router:
        would = router.assign(leads, now=NOW, dry_run=True).decisions
        found = router.assign(leads, now=NOW).decisions
        assert [decision.partner_id for decision in would] == [decision.partner_id for decision in found]
        assert [found[place].status for place in (0, 4)] == ["existing_owner", "existing_owner"]
        assert Counter(decision.partner_id for decision in found) == {"p0": 2, "p1": 2, "p2": 1}
        _check_open_leads(router)
        for decision in found:
            assert router.replay(decision.decision_id) == decision


def test_a_day_made_anew_knows_who_had_its_leads_and_nothing_that_came_after():
    day = dt.timedelta(days=1)
    with Router.open(world(limit=3)) as router:
        for name in ("old0", "l1", "l2"):
            router.route(lead(name), now=NOW)
        was = router.ledger.offers()
        assert [offer.partner_id for offer in was] == ["p0", "p0", "p1"]
        # the next night's tables tell of them all
        held = [("old1", "p0"), *((offer.lead_id, offer.partner_id) for offer in was)]
        router._in_use.opened = type(router._in_use.opened).of(world(held, limit=3, as_of=AS_OF + day))
        found = router.simulate(AS_OF)
        assert found["published_status"].tolist() == ["existing_owner", "assigned", "assigned"]
        assert found["published_partner_id"].tolist() == ["p0", "p0", "p1"]
        assert found["would_partner_id"].tolist() == ["p0", "p0", "p1"]


def test_leads_of_later_days_take_no_room_in_a_past_one():
    day = dt.timedelta(days=1)
    accounts = [{"account_id": "a1", "owner_partner_id": "p0"}]
    with Router.open(snapshot([{"max_open_leads": 1}] * 3, p=P, accounts=accounts, assignments=[])) as router:
        first = router.route(lead("l1"), now=NOW)
        assert first.partner_id == "p0"
        owned = router.route({**lead("x"), "account_id": "a1"}, now=NOW + day)
        assert (owned.status, owned.partner_id) == ("existing_owner", "p0")
        held = [assigned(offer.lead_id, offer.partner_id) for offer in router.ledger.offers()]
        tables = {"accounts": accounts, "assignments": held, "as_of": AS_OF + 2 * day}
        router._in_use.opened = type(router._in_use.opened).of(snapshot([{"max_open_leads": 1}] * 3, p=P, **tables))
        assert router.simulate(AS_OF)["published_partner_id"].tolist() == ["p0"]


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
