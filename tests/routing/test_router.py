"""The router: one decision a lead, answers and deadlines, overrides and outcomes, and every decision made again."""

import concurrent.futures
import datetime as dt
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import ConfigError, DataError, InputError, InternalError, ModelError, SourceError
from partnerml.routing import Lead, Router
from partnerml.routing._snapshot_files import publish_current

NOW = AS_OF + dt.timedelta(hours=9)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
P = {"p0": 0.6, "p1": 0.5, "p2": 0.4, "p3": 0.3}


def lead(number: int = 1, **values: object) -> dict[str, object]:
    return {"lead_id": f"l{number}", "created_at": "2026-06-01T08:00:00Z", **values}


@pytest.fixture
def router(ledger_url):
    """Four partners, the first the best, on every kind of ledger."""
    with Router.open(snapshot([{"max_open_leads": 2}] * 4, p=P), ledger=ledger_url) as opened:
        yield opened


@pytest.fixture
def patient(ledger_url):
    """The same, by a snapshot that may be old: for what happens days later."""
    world = snapshot([{"max_open_leads": 2}] * 4, p=P, config={"max_snapshot_age": "60d"})
    with Router.open(world, ledger=ledger_url) as opened:
        yield opened


# made again


def test_other_words_are_no_other_decision_and_other_figures_are(router, monkeypatch, caplog):
    first = router.route(lead(), now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr("partnerml.routing._decide._why", lambda *_: "told by a later version")
        patch.setattr("partnerml.routing._decide.facts", lambda *_: ("near",))
        again = router.replay(first.decision_id)
    assert (again.why, again.facts) == ("told by a later version", ("near",))
    assert (again.partner_id, again.p_win, again.decision_id) == (first.partner_id, first.p_win, first.decision_id)
    assert "comes out the same, and is told in other words (facts, why)" in caplog.text
    monkeypatch.setattr(router.snapshot.scorer, "function", lambda situation, rows: np.full(len(rows), 0.25))
    with pytest.raises(InternalError, match=r"p_win, .* differ \(partner_id was 'p0', and is 'p\d'\)"):
        router.replay(first.decision_id)


# one decision a lead


def test_the_same_lead_gets_the_same_decision_byte_for_byte(router):
    first = router.route(lead(), now=NOW)
    # as it may come again: from a file, later, with columns in another order and values that mean the same
    again = router.route({"created_at": "2026-06-01 10:00:00+02:00", "lead_id": " l1 ", "amount": None}, now=NOW + HOUR)
    assert again.to_json() == first.to_json()
    assert router.route(Lead.of(lead()), now=NOW + HOUR).to_json() == first.to_json()
    assert len(router.ledger.offers()) == 1
    assert router.decision(first.decision_id) == first


def test_a_lead_that_has_changed_is_refused_with_what_differs(router):
    first = router.route(lead(amount=5), now=NOW)
    with pytest.raises(DataError, match=r"lead 'l1' was routed before with other values of amount, country;"):
        router.route(lead(amount=6, country="DE"), now=NOW)
    assert router.route(lead(amount=5.0), now=NOW) == first


def test_what_is_no_lead_leaves_no_trace(router):
    with pytest.raises(DataError, match="latitude must be degrees"):
        router.route(lead(latitude=91), now=NOW)
    assert router.ledger.history().empty


def test_rank_tells_what_route_does_and_writes_nothing(router):
    told = router.rank(lead(), top=2, now=NOW)
    assert list(told.columns) == ["rank", "partner_id", "p_win", "price", "utility", "propensity", "free"]
    assert told["partner_id"].tolist() == ["p0", "p1"]
    assert told["propensity"].tolist() == [1.0, 0.0]
    assert told["free"].tolist() == [2.0, 2.0]
    assert router.ledger.history().empty
    assert router.route(lead(), now=NOW).partner_id == "p0"
    with pytest.raises(ConfigError, match="top must be at least 1, got 0"):
        router.rank(lead(), top=0)


DEAL = {
    "deal_id": "d1",
    "partner_id": "p3",
    "registered_at": "2026-05-20",
    "registration_status": "approved",
    "outcome": "open",
}
ENGAGED = {
    "registered_deal": {"deals": [{**DEAL, "account_id": "a1"}]},
    "existing_owner": {"accounts": [{"account_id": "a1", "owner_partner_id": "p3"}]},
    "duplicate": {"leads": [{"lead_id": "l0", "created_at": "2026-05-30", "account_id": "a1", "partner_id": "p1"}]},
    "fallback": {"config": {"offers": {"limit": 1}}},
    "assigned": {},
    "held_back": {"config": {"hold_back": True}, "prices": {"p0": 9.0, "p1": 9.0, "p2": 9.0, "p3": 9.0}},
}


@pytest.mark.parametrize("kind", ENGAGED)
def test_rank_is_of_those_that_route_chooses_from(kind):
    with Router.open(snapshot(4, p=P, **ENGAGED[kind])) as router:
        if kind == "fallback":  # as many partners have had it as may
            first = router.route(lead(account_id="a1"), now=NOW)
            with router.ledger.turn(moment=NOW) as turn:
                turn.respond(first.offer_id, "declined")
        told = router.rank(lead(account_id="a1"), now=NOW)
        decision = router.route(lead(account_id="a1"), now=NOW)
    assert told.attrs == {"status": decision.status, "why": decision.why}
    partners = told["partner_id"].tolist()
    if kind in ("registered_deal", "existing_owner"):
        assert (decision.status, partners) == (kind, [decision.partner_id])
        assert told[["p_win", "utility", "propensity"]].isna().all(axis=None)
    elif kind == "assigned":
        assert partners == ["p0", "p1", "p2", "p3"]
        assert told["propensity"].tolist() == [1.0, 0.0, 0.0, 0.0]
    elif kind == "held_back":
        assert decision.status == "fallback"
        assert told["propensity"].tolist() == [0.0] * 4
    else:
        assert (decision.status, partners) == (kind, [])


def test_rank_of_a_lead_that_has_a_decision_tells_it_and_who_would_follow(router):
    decision = router.route(lead(), now=NOW)
    told = router.rank(lead(), now=NOW)
    assert told.attrs == {"status": "assigned", "why": decision.why, "decision_id": decision.decision_id}
    assert told["partner_id"].tolist() == ["p1", "p2", "p3"]
    with pytest.raises(DataError, match="routed before with other values of amount"):
        router.rank(lead(amount=5), now=NOW)
    assert router.respond(decision.offer_id, "declined", now=NOW).partner_id == "p1"


def test_rank_of_a_lead_that_nobody_may_get_is_empty():
    with Router.open(snapshot([{"min_deal_amount": 100.0}])) as router:
        assert router.rank(lead(amount=5), now=NOW).empty


# answers


def test_a_decline_returns_the_next_partner_in_the_same_transaction(router):
    first = router.route(lead(), now=NOW)
    second = router.respond(first.offer_id, "declined", now=NOW + HOUR, by="Ada", reason="busy")
    assert (first.partner_id, second.partner_id) == ("p0", "p1")
    assert second.lead_id == "l1"
    told = router.ledger.history("l1")
    assert told["what"].tolist() == ["decided", "offered", "declined", "decided", "offered"]
    assert told["at"].iloc[2] == told["at"].iloc[4]
    # the same answer again changes nothing, and the first offer cannot be accepted any more
    assert router.respond(first.offer_id, "declined", now=NOW + HOUR) == second
    with pytest.raises(InputError, match="is declined"):
        router.respond(first.offer_id, "accepted", now=NOW + HOUR)


def test_an_accepted_offer_stands(router):
    first = router.route(lead(), now=NOW)
    assert router.respond(first.offer_id, "accepted", now=NOW + HOUR) == first
    assert router.route(lead(), now=NOW + 2 * HOUR) == first
    assert router.expire(now=NOW + DAY) == []


def test_after_as_many_offers_as_are_allowed_a_person_decides(router):
    decision = router.route(lead(), now=NOW)
    asked = [decision.partner_id]
    while decision.offer_id is not None:
        decision = router.respond(decision.offer_id, "declined", now=NOW + HOUR)
        asked.append(decision.partner_id)
    assert asked == ["p0", "p1", "p2", None]
    assert (decision.status, decision.why) == (
        "fallback",
        "it was offered to 3 partners, as many as routing.offers.limit allows; a person decides",
    )
    assert router.route(lead(), now=NOW + 2 * HOUR) == decision


def test_a_withdrawn_offer_goes_on(router):
    first = router.route(lead(), now=NOW)
    assert router.withdraw(first.offer_id, now=NOW, by="Ada", reason="a mistake").partner_id == "p1"


def test_an_unknown_offer_is_refused(router):
    with pytest.raises(InputError, match="there is no offer 'offer-x'"):
        router.respond("offer-x", "accepted", now=NOW)


# deadlines


def test_an_overdue_offer_expires_when_its_lead_is_touched(router):
    first = router.route(lead(), now=NOW)
    # 24 business hours of eight a day: three working days
    late = NOW + 3 * DAY + HOUR
    old = snapshot([{"max_open_leads": 2}] * 4, p=P, config={"max_snapshot_age": "30d"})
    with pytest.raises(ModelError, match=r"routing.max_snapshot_age allows 36"):
        router.route(lead(), now=late)
    router._in_use.opened = type(router._in_use.opened).of(old)
    second = router.route(lead(), now=late)
    assert second.partner_id == "p1"
    assert [offer.status for offer in router.ledger.offers()] == ["expired", "offered"]
    with pytest.raises(InputError, match="is expired"):
        router.respond(first.offer_id, "accepted", now=late)


def test_a_late_answer_does_not_count_and_the_lead_goes_on(patient):
    first = patient.route(lead(), now=NOW)
    late = NOW + 4 * DAY
    with pytest.raises(InputError, match=r"could be answered until .* and has expired"):
        patient.respond(first.offer_id, "accepted", now=late)
    offers = patient.ledger.offers()
    assert [(offer.partner_id, offer.status) for offer in offers] == [("p0", "expired"), ("p1", "offered")]


def test_expire_gives_all_overdue_leads_on(patient):
    for number in range(3):
        patient.route(lead(number), now=NOW + number * HOUR)
    assert patient.expire(now=NOW + DAY) == []
    moved = patient.expire(now=NOW + 3 * DAY + HOUR / 2)
    # an hour later the second and the third are overdue too
    assert [decision.lead_id for decision in moved] == ["l0"]
    assert [decision.lead_id for decision in patient.expire(now=NOW + 4 * DAY)] == ["l1", "l2"]
    assert patient.ledger.audit() == []


# what persons decide, and what becomes of leads


def test_an_override_is_a_decision_with_its_reason(router):
    first = router.route(lead(), now=NOW)
    given_to = router.override("l1", "p3", by="Ada", reason="knows the customer", now=NOW + HOUR)
    assert (given_to.status, given_to.partner_id, given_to.policy) == ("assigned", "p3", "override")
    assert given_to.propensity is None
    assert given_to.evidence == {"by": "Ada", "reason": "knows the customer", "instead_of": "p0"}
    assert given_to.why == "Ada gave it to this partner: knows the customer"
    assert router.override("l1", "p3", by="Ada", reason="again", now=NOW + HOUR) == given_to
    assert router.route(lead(), now=NOW + HOUR) == given_to
    assert [offer.status for offer in router.ledger.offers()] == ["withdrawn", "accepted"]
    with pytest.raises(InputError, match="was a person's"):
        router.replay(given_to.decision_id)
    assert router.replay(first.decision_id) == first


@pytest.mark.parametrize(
    ("lead_id", "partner_id", "by", "reason", "told"),
    [
        ("l9", "p1", "Ada", "why", "lead 'l9' was never routed"),
        ("l1", "p9", "Ada", "why", "there is no partner 'p9' in snapshot"),
        ("l1", "p1", " ", "why", "give by= and reason="),
        ("l1", "p1", "Ada", "", "give by= and reason="),
    ],
)
def test_an_override_that_cannot_be_is_refused(router, lead_id, partner_id, by, reason, told):
    router.route(lead(), now=NOW)
    with pytest.raises(InputError, match=told):
        router.override(lead_id, partner_id, by=by, reason=reason, now=NOW)


def test_an_outcome_makes_room_for_another_lead(router):
    for number in range(2):
        router.respond(router.route(lead(number), now=NOW).offer_id, "accepted", now=NOW)
    assert router.route(lead(2), now=NOW).partner_id == "p1"
    closed = router.outcome("l0", "won", amount=900.0, now=NOW + HOUR)
    assert (closed.outcome, closed.amount, closed.partner_id) == ("won", 900.0, "p0")
    assert router.route(lead(3), now=NOW + HOUR).partner_id == "p0"
    assert router.outcome("l0", "won", amount=900.0, now=NOW + 2 * HOUR) == closed
    exported = router.ledger.export("assignments").set_index("lead_id")
    assert exported.loc["l0", "outcome"] == "won"
    assert router.ledger.audit() == []


# why not


def test_why_not_tells_what_keeps_a_partner_out(router):
    first = router.route(lead(), now=NOW)
    router.respond(first.offer_id, "declined", now=NOW)
    (failed,) = router.why_not("l1", "p0", now=NOW)
    assert failed.rule == "had_before"
    assert router.why_not(lead(7), "p0", now=NOW) == ()
    with pytest.raises(InputError, match="there is no partner 'x'"):
        router.why_not(lead(), "x", now=NOW)
    with pytest.raises(InputError, match="was never routed"):
        router.why_not("l9", "p0", now=NOW)


def test_why_not_of_a_lead_that_is_another_one_come_again(router):
    router.route(lead(1, domain="acme.com"), now=NOW)
    second = lead(2, domain="www.acme.com")
    (failed,) = router.why_not(second, "p1", now=NOW)
    assert (failed.rule, failed.words) == ("duplicate", "the lead is free")
    decision = router.route(second, now=NOW)
    assert (decision.status, decision.duplicate_of, decision.partner_id) == ("duplicate", "l1", "p0")
    assert decision.offer_id is None


# forgetting


def test_what_is_forgotten_is_routed_anew_and_not_replayed(router):
    first = router.route(lead(account_id="a1"), now=NOW)
    assert router.forget("a1", now=NOW) == 1
    with pytest.raises(InputError):
        router.replay(first.decision_id)
    kept = router.decision(first.decision_id)
    assert (kept.status, kept.partner_id, kept.p_win) == (first.status, first.partner_id, first.p_win)
    assert kept.why == "what this decision was made of has been forgotten"
    assert "l1" not in kept.to_json()
    assert router.ledger.audit() == []


def test_a_decision_is_read_without_what_it_was_made_of(router, monkeypatch):
    first = router.route(lead(), now=NOW)
    monkeypatch.setattr(type(router.ledger), "state_at", None)  # which folds the whole ledger
    assert router.decision(first.decision_id) == first
    with pytest.raises(InputError, match="there is no decision 'decision-x'"):
        router.decision("decision-x")


def test_what_was_decided_later_is_not_replayed(router):
    first = router.route(lead(), now=NOW)
    assert router.replay(first.decision_id, now=NOW) == first
    with pytest.raises(InputError, match="after 2026-06-01T08:00:00"):
        router.replay(first.decision_id, now=NOW - HOUR)


# snapshots


def test_a_snapshot_that_is_too_old_is_refused(router):
    with pytest.raises(ModelError, match=r"37 hours before 2026-06-02 13:00 UTC; routing.max_snapshot_age allows 36"):
        router.route(lead(), now=AS_OF + 37 * HOUR)
    with pytest.raises(ModelError, match="partnerml publish"):
        router.rank(lead(), now=AS_OF + 37 * HOUR)
    assert router.ledger.history().empty


def test_a_snapshot_in_memory_has_nothing_to_follow(router):
    assert router.refresh() is False


@pytest.fixture
def published(tmp_path):
    """Two snapshots in a folder, the first of them current."""
    folder = tmp_path / "snapshots"
    ids = [snapshot(n).write(folder).name for n in (2, 3)]
    publish_current(folder, ids[0])
    return folder, ids


def test_refresh_follows_current(published):
    folder, (first, second) = published
    with Router.open(folder / "current") as router:
        was = router.route(lead(1), now=NOW)
        assert was.snapshot_id == first
        assert not router.refresh()
        publish_current(folder, second)
        assert router.refresh()
        assert router.route(lead(2), now=NOW).snapshot_id == second
        # what was decided stands, and is made again with the snapshot of then
        assert router.route(lead(1), now=NOW) == was
        assert router.replay(was.decision_id) == was


@pytest.mark.parametrize("damage", ["prices.npy", "manifest.json", "folder"])
def test_a_damaged_new_snapshot_leaves_the_old_one_in_use(published, damage):
    folder, (first, second) = published
    with Router.open(folder / "current") as router:
        publish_current(folder, second)
        if damage == "folder":
            shutil.rmtree(folder / second)
        else:
            (folder / second / damage).write_bytes(b"{}")
        with pytest.raises((ModelError, SourceError), match=second):
            router.refresh()
        assert router.snapshot.id == first
        assert router.route(lead(), now=NOW).snapshot_id == first


def test_a_decision_whose_snapshot_is_gone_cannot_be_made_again(published):
    folder, (first, second) = published
    with Router.open(folder / "current") as router:
        decision = router.route(lead(), now=NOW)
        publish_current(folder, second)
        router.refresh()
        shutil.rmtree(folder / first)
        with pytest.raises(InputError, match="restore it to replay"):
            router.replay(decision.decision_id)


def test_where_there_is_no_snapshot(tmp_path):
    with pytest.raises(SourceError, match="run partnerml publish"):
        Router.open(tmp_path / "current")


# threads


def test_threads_give_no_lead_twice_and_nobody_too_much(ledger_url):
    world = snapshot([{"max_open_leads": 5}] * 6, p=lambda situation, rows: 0.2 + 0.1 * rows)
    with Router.open(world, ledger=ledger_url) as router:
        numbers = [number % 40 for number in np.random.default_rng(0).permutation(80)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda number: router.route(lead(number), now=NOW), numbers))
        texts: dict[str, set[str]] = {}
        for decision in found:
            texts.setdefault(decision.lead_id, set()).add(decision.to_json())
        assert len(texts) == 40
        assert all(len(same) == 1 for same in texts.values())
        held = [offer.partner_id for offer in router.ledger.offers(status="offered")]
        assert sorted(held) == sorted(f"p{i}" for i in range(6) for _ in range(5))
        assert router.ledger.audit() == []


def test_snapshots_are_swapped_between_calls_only(published):
    folder, ids = published
    with Router.open(folder / "current") as router, concurrent.futures.ThreadPoolExecutor(4) as pool:

        def swap(number: int) -> None:
            publish_current(folder, ids[number % 2])
            router.refresh()

        routed = [pool.submit(router.route, lead(number), now=NOW) for number in range(60)]
        swapped = [pool.submit(swap, number) for number in range(6)]
        decisions = [future.result() for future in routed]
        # writers of the one file may take turns; no call was dropped
        assert [future.exception() for future in swapped if future.exception() is not None] == []
        assert {decision.snapshot_id for decision in decisions} <= set(ids)
        assert all(router.replay(decision.decision_id) == decision for decision in decisions)


# every decision is made again


CONFIGS = {
    "greedy": {"policy": {"kind": "greedy"}},
    "softmax": {"policy": {"kind": "softmax", "temperature": 0.2}},
    "epsilon": {"policy": {"kind": "epsilon", "epsilon": 0.5}},
    "thompson": {"policy": {"kind": "thompson"}},
    "round_robin": {"policy": {"kind": "round_robin", "weights": "share"}},
    "split": {
        "policy": {"kind": "softmax", "temperature": 0.1},
        "split": {"share": 0.5, "policy": {"kind": "round_robin"}},
    },
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["route", "route", "route", "again", "accept", "decline", "decline", "wait", "expire", "override", "close"]
        ),
        st.integers(0, 10**6),
    ),
    max_size=30,
)


def world_of(kind: str):
    zones = ("Europe/Berlin", "America/New_York", "Asia/Tokyo")
    partners = [
        {
            "time_zone": zones[i % 3],
            "max_open_leads": 2 + i % 2,
            "capacity_per_day": 3,
            "capacity_per_week": 5,
            "share": 1.0 + i,
            "country": "DE" if i % 2 else None,
        }
        for i in range(5)
    ]
    cells = [
        {"partner_id": f"p{i}", "dimension": "all", "value": "all", "closed": 4 * i, "won": 2 * i, "days": 50}
        for i in range(5)
    ]
    return snapshot(partners, cells=cells, config=CONFIGS[kind] | {"max_snapshot_age": "60d"})


def play(router: Router, steps) -> None:
    """Live through a history: each step does what its number picks among what can be done."""
    now, routed = NOW, 0
    for what, number in steps:
        offers = [offer for offer in router.ledger.offers() if offer.live and not offer.overdue(now)]
        if what == "route" or (what == "again" and not routed):
            router.route(lead(routed, **about(routed)), now=now)
            routed += 1
        elif what == "again":
            router.route(lead(number % routed, **about(number % routed)), now=now)
        elif what in ("accept", "decline") and offers:
            answer = "accepted" if what == "accept" else "declined"
            router.respond(offers[number % len(offers)].offer_id, answer, now=now)
        elif what == "wait":
            now += (1 + number % 30) * HOUR
        elif what == "expire":
            router.expire(now=now)
        elif what == "override" and open_leads(router, routed):
            chosen = open_leads(router, routed)[number % len(open_leads(router, routed))]
            router.override(chosen, f"p{number % 5}", by="Ada", reason="so", now=now)
        elif what == "close":
            taken = [offer for offer in router.ledger.offers(status="accepted") if offer.holds]
            if taken:
                router.outcome(taken[number % len(taken)].lead_id, "lost", now=now)


def open_leads(router: Router, routed: int) -> list[str]:
    closed = {offer.lead_id for offer in router.ledger.offers() if offer.outcome is not None}
    return [f"l{number}" for number in range(routed) if f"l{number}" not in closed]


def about(number: int) -> dict[str, object]:
    """What a lead is like: some are others come again, some are of a country."""
    return {"account_id": f"a{number // 2}" if number % 5 == 1 else None, "country": (None, "DE", "FR")[number % 3]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@settings(max_examples=8)
@given(steps=STEPS)
def test_every_decision_of_a_history_is_made_again_byte_for_byte(kind, steps):
    with Router.open(world_of(kind)) as router:
        play(router, steps)
        for decision_id in router.ledger.history()["decision_id"].dropna().unique():
            past = router.decision(decision_id)
            if past.policy != "override":
                assert router.replay(decision_id).to_json() == past.to_json()
                assert past.status in ("assigned", "duplicate", "fallback")
        assert router.ledger.audit() == []


@pytest.mark.parametrize("kind", ["softmax", "round_robin", "split"])
def test_what_is_logged_is_what_was_drawn_from(kind):
    with Router.open(world_of(kind)) as router:
        decisions = [router.route(lead(number), now=NOW) for number in range(12)]
        for decision in decisions:
            vector = router.ledger.state_at(decision.decision_id).vector
            if decision.status != "assigned":
                assert (decision.propensity, vector) == (None, None)
                continue
            chances = dict(zip(vector.partner_id, vector.probability, strict=True))
            assert chances[decision.partner_id] == decision.propensity
            assert sum(chances.values()) == pytest.approx(1.0)
    assert json.loads(decisions[0].to_json())["explores"] in (True, False)
