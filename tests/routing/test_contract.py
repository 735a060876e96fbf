"""What contract 7 promises at the edges: where an answer, a deadline, a batch, a forgotten lead and a race meet."""

import dataclasses
import datetime as dt
import threading
from collections import Counter

import numpy as np
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import ConfigError, DataError, InputError
from partnerml.routing import Router, Snapshot, _precedence
from partnerml.routing import _in_use as module
from partnerml.routing._database import Database
from partnerml.routing._decide import ranked
from partnerml.routing._opened import Opened
from partnerml.routing._snapshot_files import publish_current

NOW = AS_OF + dt.timedelta(hours=9)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
LATE = NOW + 10 * DAY  # after every deadline
P = {"p0": 0.6, "p1": 0.5, "p2": 0.4, "p3": 0.3}


def lead(number: int = 1, **values: object) -> dict[str, object]:
    return {"lead_id": f"l{number}", "created_at": "2026-06-01T08:00:00Z", **values}


def world(**tables: object) -> Snapshot:
    return snapshot([{"max_open_leads": 2}] * 4, p=P, config={"max_snapshot_age": "60d"}, **tables)


def deal(partner: str, *, registered_at: dt.datetime = AS_OF - DAY) -> dict[str, object]:
    return {
        "deal_id": f"d-{partner}",
        "partner_id": partner,
        "registered_at": registered_at,
        "outcome": "open",
        "registration_status": "approved",
        "account_id": "a1",
    }


@pytest.fixture
def router(ledger_url):
    with Router.open(world(), ledger=ledger_url) as opened:
        yield opened


def states(router: Router) -> list[tuple[str, str]]:
    return [(offer.partner_id, offer.status) for offer in router.ledger.offers()]


# deadlines


def test_a_lead_whose_offer_ended_without_another_decision_is_not_lost(router):
    first = router.route(lead(), now=NOW)
    # as by a process that was killed between two turns
    with router.ledger.turn(moment=LATE) as turn:
        turn.expire(first.offer_id)
    second = router.route(lead(), now=LATE)
    assert (second.status, second.partner_id) == ("assigned", "p1")
    assert router.route(lead(), now=LATE) == second
    assert router.replay(second.decision_id) == second
    assert router.ledger.audit() == []


def test_a_batch_gives_an_overdue_lead_on():
    with Router.open(world()) as router:
        router.route(lead(), now=NOW)
        (decision,) = router.assign([lead()], now=LATE).decisions
        assert decision.partner_id == "p1"
        assert states(router) == [("p0", "expired"), ("p1", "offered")]


def test_what_was_not_answered_in_time_expires_whoever_takes_it_back(router):
    router.route(lead(1), now=NOW)
    second = router.route(lead(2), now=NOW)
    router.override("l1", "p3", by="Ada", reason="so", now=LATE)
    router.withdraw(second.offer_id, now=LATE, by="Ada", reason="so")
    assert states(router)[:2] == [("p0", "expired"), ("p0", "expired")]
    told = router.ledger.history("l2")
    assert told.loc[told["what"] == "expired", "by"].isna().all()
    assert router.ledger.audit() == []


def test_expire_tells_only_of_what_it_let_expire(router, monkeypatch):
    first = router.route(lead(), now=NOW)
    seen = router.ledger.offer(first.offer_id)
    router.respond(first.offer_id, "accepted", now=NOW)
    # another process accepted it after this one had looked
    monkeypatch.setattr(router.ledger, "overdue", lambda now: [seen])
    assert router.expire(now=LATE) == []
    assert router.ledger.offer(first.offer_id).status == "accepted"


def test_a_dry_run_lets_overdue_offers_expire_and_writes_nothing(router):
    for number in range(4):
        router.route(lead(number), now=NOW)
    before = router.ledger.history()
    would = router.dry_run([lead(number) for number in range(6)], now=LATE)
    assert router.ledger.history().equals(before)
    did = [router.route(lead(number), now=LATE) for number in range(6)]
    assert [decision.to_json() for decision in would] == [decision.to_json() for decision in did]
    assert router.ledger.audit() == []


# precedence


def test_a_partner_that_had_the_lead_does_not_get_it_by_its_deal_or_account_again():
    deals = [deal("p2"), deal("p1", registered_at=AS_OF - HOUR)]
    accounts = [{"account_id": "a1", "owner_partner_id": "p3"}]
    with Router.open(world(deals=deals, accounts=accounts)) as router:
        decision = router.route(lead(account_id="a1"), now=NOW)
        got = [(decision.status, decision.partner_id)]
        for _ in range(2):
            decision = router.withdraw(str(decision.offer_id), now=NOW)
            got.append((decision.status, decision.partner_id))
            assert router.replay(decision.decision_id) == decision
    assert got == [("registered_deal", "p2"), ("registered_deal", "p1"), ("existing_owner", "p3")]


def test_a_lead_that_was_offered_is_no_duplicate_and_its_deal_still_counts():
    leads = [{"lead_id": "l0", "created_at": AS_OF - DAY, "account_id": "a1"}]
    given = [{"lead_id": "l0", "partner_id": "p2", "assigned_at": AS_OF - DAY, "response": "accepted"}]
    with Router.open(world()) as router:
        first = router.route(lead(account_id="a1"), now=NOW)
        # the next snapshot knows another lead of the account, and a deal
        router._in_use.opened = Opened.of(world(deals=[deal("p3")], leads=leads, assignments=given))
        second = router.respond(str(first.offer_id), "declined", now=NOW)
        assert (second.status, second.partner_id) == ("registered_deal", "p3")


def test_a_duplicate_is_with_whoever_has_the_first_lead_now(router):
    first = router.route(lead(1, domain="a.com"), now=NOW)
    router.route(lead(2, domain="a.com", account_id="x"), now=NOW)
    second = router.respond(first.offer_id, "declined", now=NOW)
    # the third is only like the second, which is the first come again
    third = router.route(lead(3, account_id="x"), now=NOW)
    assert (third.status, third.duplicate_of, third.partner_id) == ("duplicate", "l2", second.partner_id)
    assert router.replay(third.decision_id) == third
    router.withdraw(router.respond(second.offer_id, "declined", now=NOW).offer_id, now=NOW)
    fourth = router.route(lead(4, domain="a.com"), now=NOW)
    assert (fourth.status, fourth.duplicate_of, fourth.partner_id) == ("duplicate", "l1", None)


def test_a_copy_of_a_forgotten_lead_keeps_no_other_from_being_routed(router):
    router.route(lead(1, domain="a.com"), now=NOW)
    router.route(lead(2, domain="a.com"), now=NOW)
    router.forget("l1", now=NOW)
    again = router.route(lead(3, domain="a.com"), now=NOW)
    assert again.status == "assigned"
    assert router.replay(again.decision_id) == again


def test_two_leads_that_are_copies_of_each_other_are_with_the_partner_of_then():
    leads = [{"lead_id": "l0", "created_at": AS_OF - DAY, "domain": "a.com"}]
    given = [{"lead_id": "l0", "partner_id": "p2", "assigned_at": AS_OF - DAY, "response": "accepted"}]
    with Router.open(world(leads=leads, assignments=given)) as router:
        assert router.route(lead(1, domain="a.com"), now=NOW).duplicate_of == "l0"
        assert router.route(lead(0, domain="a.com"), now=NOW).duplicate_of == "l1"
        third = router.route(lead(2, domain="a.com"), now=NOW)
        assert (third.status, third.partner_id) == ("duplicate", "p2")


def test_nobody_may_get_a_lead_that_came_before(router):
    router.route(lead(1, domain="a.com"), now=NOW)
    router.route(lead(2, domain="a.com"), now=NOW)
    for asked in ("l2", lead(2, domain="a.com"), lead(3, domain="a.com")):
        for partner in ("p0", "p1"):
            (failed,) = router.why_not(asked, partner, now=NOW, audience="partner")
            assert (failed.rule, failed.evidence) == ("duplicate", "it is another lead come again")


# forgetting


def test_an_answer_that_comes_again_after_forgetting_changes_nothing(router):
    first = router.route(lead(), now=NOW)
    second = router.respond(first.offer_id, "declined", now=NOW)
    router.forget("l1", now=NOW)
    before = states(router)
    again = [router.respond(first.offer_id, "declined", now=NOW), router.withdraw(second.offer_id, now=NOW)]
    assert {decision.decision_id for decision in again} == {second.decision_id}
    assert states(router) == before
    with pytest.raises(InputError, match="has been forgotten"):
        router.override(again[0].lead_id, "p2", by="Ada", reason="so", now=NOW)
    assert router.ledger.audit() == []


# races


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_nobody_decides_by_what_an_undone_turn_had_read(kind, tmp_path, monkeypatch):
    fails = threading.Event()

    def scored(situation, rows):
        if situation.lead.lead_id == "l1" and fails.is_set():
            raise KeyboardInterrupt  # what a rule or a score is at fault for undoes nothing
        return (10 - rows) / 20

    url = None if kind == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with Router.open(snapshot([{"max_open_leads": 1}, {}, {}], p=scored), ledger=url) as router:
        first = router.route(lead(1), now=NOW)
        fails.set()
        begun, go_on = threading.Event(), threading.Event()
        forget = router.ledger._memory.forget

        def slowly():
            begun.set()
            go_on.wait(0.5)
            forget()

        monkeypatch.setattr(router.ledger._memory, "forget", slowly)

        def decline():
            with pytest.raises(KeyboardInterrupt):
                router.respond(first.offer_id, "declined", now=NOW)

        thread = threading.Thread(target=decline)
        thread.start()
        assert begun.wait(600)
        # the decline was undone, so the first partner is still full
        assert router.route(lead(2), now=NOW).partner_id == "p1"
        go_on.set()
        thread.join()
        assert router.ledger.audit() == []


def test_leads_are_routed_while_a_snapshot_is_looked_for(tmp_path, monkeypatch):
    folder = tmp_path / "snapshots"
    ids = [snapshot(n).write(folder).name for n in (2, 3)]
    publish_current(folder, ids[0])
    with Router.open(folder / "current") as router:
        publish_current(folder, ids[1])
        looking, go_on = threading.Event(), threading.Event()
        was = Snapshot.open

        class Slow(Snapshot):
            @classmethod
            def open(cls, path):
                looking.set()
                assert go_on.wait(600)
                return was(path)

        monkeypatch.setattr(module, "Snapshot", Slow)
        thread = threading.Thread(target=router.refresh)
        thread.start()
        assert looking.wait(600)
        assert router.route(lead(1), now=NOW).snapshot_id == ids[0]
        go_on.set()
        thread.join()
        assert router.route(lead(2), now=NOW).snapshot_id == ids[1]


def test_a_snapshot_that_is_in_use_is_not_opened_again(tmp_path, monkeypatch):
    folder = tmp_path / "snapshots"
    publish_current(folder, snapshot(2).write(folder).name)
    with Router.open(folder / "current") as router:
        monkeypatch.setattr(module, "Snapshot", None)
        assert not router.refresh()


# simulation


def test_a_simulated_day_knows_no_lead_that_came_later():
    with Router.open(world()) as router:
        day = AS_OF + DAY
        # the one that came first was decided last
        router.route(
            {"lead_id": "l2", "created_at": (day + 8 * HOUR).isoformat(), "domain": "a.com"}, now=day + 9 * HOUR
        )
        router.route({"lead_id": "l1", "created_at": (day - HOUR).isoformat(), "domain": "a.com"}, now=day + 10 * HOUR)
        found = router.simulate(day)
        assert found["would_status"].tolist() == ["assigned", "duplicate"]
        assert not found["changed"].any()
        with pytest.raises(ConfigError, match="days must be from 1"):
            router.simulate(day, days=10**7)


# odd input


@pytest.mark.parametrize("now", ["0001-01-01", "1899-12-31", "2200-01-01", "9999-12-31T23:59:59"])
def test_moments_at_the_ends_of_the_calendar_are_refused(now):
    with Router.open(snapshot([{"time_zone": "Asia/Tokyo"}])) as router:
        calls = (
            lambda: router.route(lead(), now=now),
            lambda: router.rank(lead(), now=now),
            lambda: router.why_not(lead(), "p0", now=now),
            lambda: router.dry_run([lead()], now=now),
            lambda: router.expire(now=now),
            lambda: router.simulate(now),
        )
        for call in calls:
            with pytest.raises(ConfigError, match="must lie in the years 1900 to 2199"):
                call()


def test_what_the_configuration_cannot_work_with_is_refused_at_once():
    turns = {"policy": {"kind": "round_robin", "weights": "tier"}}
    with pytest.raises(ConfigError, match="the column 'tier' of partners holds no numbers"):
        Router.open(snapshot([{"tier": "gold"}], config=turns))
    with pytest.raises(DataError, match=r"time_zone of 1 partner.*first p1: 'Mars/X' is not a time zone"):
        Router.open(snapshot([{}, {"time_zone": "Mars/X"}]))


@pytest.mark.parametrize("leads", [5, "l1", {"lead_id": "l1"}])
def test_what_is_no_table_of_leads_is_refused(leads):
    with Router.open(snapshot(1)) as router, pytest.raises(DataError, match="leads are a DataFrame or a list"):
        router.dry_run(leads, now=NOW)


def test_no_password_of_a_ledger_is_told():
    told = Database("postgresql+psycopg://ada:geheim@localhost/ledger?password=geheim&host=/tmp").place
    assert "geheim" not in told
    assert "ada" in told


def test_ties_of_large_utilities_are_ties():
    first = 123456.789 * 0.3
    assert ranked(np.array([first, np.nextafter(first, np.inf)]), 0)[0] == 1


def test_an_override_names_the_model_of_its_own_snapshot():
    with Router.open(world()) as router:
        router.route(lead(), now=NOW)
        router._in_use.opened = Opened.of(snapshot(4))
        given = router.override("l1", "p2", by="Ada", reason="so", now=NOW)
        assert (given.snapshot_id, given.model_version) == (router.snapshot.id, "rates")


def test_a_partner_without_a_limit_has_used_none_of_it_and_such_partners_take_turns():
    """By hand: of equals the smallest share of the leads that may be open, then the fewest open leads."""
    limits = {"p0": 10, "p1": None, "p2": None, "p3": 2}
    rows = [{"partner_id": name, "max_open_leads": limit} for name, limit in limits.items()]
    with Router.open(snapshot(rows, p=dict.fromkeys(limits, 0.5))) as router:
        held, decided = Counter(), []
        for number in range(40):
            decision = router.route(lead(number), now=NOW)
            used = {name: (held[name] / limit if limit else 0.0, held[name]) for name, limit in limits.items()}
            assert used[decision.partner_id] == min(used.values())
            held[decision.partner_id] += 1
            decided.append(decision)
        # those with a limit have a lead each, since then all go to the others
        assert (held["p0"], held["p3"]) == (1, 1)
        assert abs(held["p1"] - held["p2"]) <= 1
        for decision in decided:
            assert router.replay(decision.decision_id) == decision


def test_what_ties_and_tables_decided_in_earlier_versions_is_made_again_as_it_was(monkeypatch):
    rows = [{"max_open_leads": 10}, {}]
    assignments = [{"lead_id": "l9", "partner_id": "p0", "assigned_at": AS_OF, "response": "accepted"}]
    tables = {"assignments": [{**row, "outcome": "open"} for row in assignments]}
    with Router.open(snapshot(rows, p={"p0": 0.5, "p1": 0.5}, **tables)) as router:
        opened = router._in_use.opened
        former = dataclasses.replace(opened, way=dataclasses.replace(opened.way, formerly=True))
        monkeypatch.setattr(router._in_use, "opened", former)
        monkeypatch.setattr(_precedence, "_held", lambda situation: None)
        decided = [router.route(lead(number), now=NOW) for number in (0, 1, 2, 9)]
        monkeypatch.undo()
        # one open lead of two partners was more than a tenth
        assert [decision.partner_id for decision in decided[1:]] == ["p0"] * 3
        for decision in decided:
            assert router.replay(decision.decision_id) == decision
        assert router.route(lead(3), now=NOW).partner_id == "p1"
