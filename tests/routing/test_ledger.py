"""The ledger on each database: one transaction, the same answer again, what the database refuses, replay and export."""

import contextlib
import datetime as dt
import json
import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from tests.routing.made_up_ledger import (
    DAY,
    HOUR,
    NOW,
    answer,
    capacity,
    decide,
    document,
    give,
    load_of,
    offer_id,
    route,
    route_many,
)

from partnerml import Ecosystem, schema
from partnerml.errors import BusyError, ConfigError, DataError, InputError, InternalError, SourceError
from partnerml.routing import _database, _queue
from partnerml.routing import _queries as queries
from partnerml.routing import _schema as tables
from partnerml.routing._capacity import PartnerCapacity
from partnerml.routing._ledger import Ledger
from partnerml.routing._matches import Keys
from partnerml.routing._vectors import Vector

ROOM = capacity((3, 5, 4), (3, 5, 4), (None, None, None))
FREE = capacity(*[(None, None, None)] * 3)
SINCE = NOW - 90 * DAY


@pytest.fixture
def ledger(ledger_url):
    with Ledger.open(ledger_url) as opened:
        yield opened
        assert opened.audit() == []


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def raw(sqlite_url):
    """A connection that goes past partnerml, to a ledger with an accepted lead A, a live one L and a closed one C."""
    with Ledger.open(sqlite_url) as opened:
        for lead in "ALC":
            route(opened, lead, ROOM, NOW)
        for lead in "AC":
            answer(opened, offer_id(lead, 0), "accepted", ROOM, NOW)
        with opened.turn(moment=NOW) as turn:
            turn.close("C", "won")
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    yield connection
    connection.close()


def test_the_same_steps_come_to_the_same_on_every_database(ledger):
    first = route(ledger, "L1", ROOM, NOW)
    assert route(ledger, "L1", ROOM, NOW + HOUR) == first
    second = answer(ledger, offer_id("L1", 0), "declined", ROOM, NOW + HOUR, by="portal", reason="no time: ☃")
    route(ledger, "L2", ROOM, NOW)
    give(ledger, "L2", "P2", ROOM, NOW, by="Ann", reason="asked for")
    assert (json.loads(first)["partner_id"], json.loads(second)["partner_id"]) == ("P0", "P1")
    assert load_of(ledger, ROOM, NOW) == [(2, 0, 0), (1, 1, 1), (0, 0, 1)]
    assert [(offer.lead_id, offer.partner_id, offer.status) for offer in ledger.offers()] == [
        ("L1", "P0", "declined"),
        ("L1", "P1", "offered"),
        ("L2", "P0", "withdrawn"),
        ("L2", "P2", "accepted"),
    ]
    assert ledger.text(json.loads(second)["decision_id"]) == second
    happened = ledger.history("L1")
    assert happened.what.tolist() == ["decided", "offered", "declined", "decided", "offered"]
    assert happened.reason.dropna().tolist() == ["no time: ☃"]
    assert ledger.history().lead_id.tolist().count("L2") == 6
    assert [offer.lead_id for offer in ledger.offers(partner_id="P0", lead_id="L2")] == ["L2"]


def test_what_was_answered_is_there_when_it_is_opened_again(sqlite_url):
    with Ledger.open(sqlite_url) as opened:
        text = route(opened, "L", ROOM, NOW)
    with Ledger.open(sqlite_url) as opened:
        assert route(opened, "L", ROOM, NOW + DAY) == text
        assert load_of(opened, ROOM, NOW) == [(1, 1, 1), (0, 0, 0), (0, 0, 0)]


def test_what_another_process_writes_is_read_before_the_next_decision(ledger_url):
    if ledger_url is None:
        pytest.skip("a ledger in memory has one process")
    with Ledger.open(ledger_url) as one, Ledger.open(ledger_url) as other:
        for i in range(6):
            route(one if i % 2 else other, f"L{i}", ROOM, NOW, keys=Keys(account_id="A"))
            assert load_of(one, ROOM, NOW) == load_of(other, ROOM, NOW)
        answer(one, offer_id("L0", 0), "declined", ROOM, NOW)
        assert load_of(other, ROOM, NOW) == [(3, 2, 2), (3, 3, 3), (1, 1, 1)]
        with other.turn("M", moment=NOW) as turn:
            assert len(turn.matches(Keys(account_id="A"), since=SINCE)) == 6


def test_the_load_follows_days_weeks_zones_and_partners():
    """What is followed from turn to turn is what somebody finds who reads it for the first time."""
    rng = np.random.default_rng(5)
    zones = ("UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York")
    rooms = [capacity(*[(4, 9, 9)] * count, zones=zones[:most]) for count, most in ((7, 5), (12, 5), (7, 3))]
    with Ledger.open(None) as ledger:
        now = NOW
        for i in range(150):
            now += dt.timedelta(minutes=int(rng.integers(0, 600))) if rng.random() < 0.95 else -40 * DAY
            room = rooms[int(rng.integers(len(rooms)))]
            route(ledger, f"L{i}", room, now, choose=rng.choice)
            if rng.random() < 0.5:
                with ledger.turn(moment=now) as turn:
                    turn.withdraw(str(rng.choice([offer.offer_id for offer in ledger_offers(turn)])))
            for each in rooms:
                followed = load_of(ledger, each, now)
                ledger._memory.forget()
                assert load_of(ledger, each, now) == followed
        assert ledger.audit() == []


def ledger_offers(turn):
    turn.look_at(turn.connection.execute(sa.select(tables.leads.c.lead_id).order_by(sa.desc("lead"))).scalars().first())
    return turn.offers


def test_a_load_that_was_handed_out_does_not_change():
    with Ledger.open(None) as ledger, ledger.turn("L", moment=NOW) as turn:
        before = turn.load(ROOM)
        decide(turn, ROOM)
        assert before.open.sum() == 0
        assert turn.load(ROOM).open.sum() == 1


def test_the_room_of_partners_is_the_least_of_their_limits():
    room = capacity((3, 2, None), (None, None, None), (1, 9, 9))
    with Ledger.open(None) as ledger, ledger.turn("L", moment=NOW) as turn:
        assert room.free(turn.load(room), np.arange(3)).tolist() == [2, np.inf, 1]


def test_capacity_is_taken_from_the_partners_of_a_snapshot():
    class Partners:
        partner_id = np.array(["A", "B"], dtype=object)
        time_zones, time_zone = ("Asia/Tokyo",), np.array([0, -1])
        capacity_per_day, capacity_per_week, max_open_leads = (np.array([1.0, np.nan]) for _ in range(3))

    found = PartnerCapacity.of(Partners(), time_zone="America/New_York")
    moment = dt.datetime(2026, 11, 23, 1, tzinfo=dt.UTC)
    assert [found.local(row, moment) for row in (0, 1)] == [(20261123, 202648), (20261122, 202647)]
    assert [tuple(found.limits(row)) for row in (0, 1)] == [(1, 1, 1), (None, None, None)]


# what the database refuses


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE offers SET status = 'declined' WHERE status = 'accepted'", "an offer that is not live is answered"),
        ("UPDATE offers SET status = 'offered' WHERE status = 'accepted'", "an offer that is not live is answered"),
        ("UPDATE offers SET status = 'lost'", "CHECK constraint failed|an offer that is not live"),
        ("UPDATE offers SET partner_id = 'P9'", "rows of offers are never changed"),
        ("UPDATE offers SET offer_id = 'O'", "without its lead being forgotten"),
        ("DELETE FROM offers", "rows of offers are never changed"),
        ("UPDATE offers SET closed_at = 1 WHERE outcome IS NULL", "closed_with_an_outcome"),
        ("UPDATE entries SET d_open = 0", "rows of entries are never changed"),
        ("DELETE FROM entries", "rows of entries are never changed"),
        ("DELETE FROM history", "rows of history are never changed"),
        ("UPDATE history SET what = 'won'", "rows of history are never changed"),
        ("UPDATE history SET reason = 'other'", "history is rewritten"),
        ("UPDATE decisions SET document = '{}'", "a decision is changed without being forgotten"),
        ("UPDATE decisions SET number = 7, forgotten = 1", "rows of decisions are never changed"),
        ("DELETE FROM decisions", "rows of decisions are never changed"),
        ("UPDATE leads SET payload = '{}'", "a lead is changed without being forgotten"),
        ("DELETE FROM leads", "rows of leads are never changed"),
        ("DELETE FROM vectors", "rows of vectors are never changed"),
        ("UPDATE ledger SET one = 2", "CHECK constraint failed"),
        ("UPDATE counters SET units = -1", "never_below_zero"),
        ("INSERT INTO leads (lead_id, created_at, payload) VALUES ('L', 1, '{}')", "UNIQUE constraint failed"),
        (
            "INSERT INTO offers (offer_id, seq, lead, partner_id, way, offered_at, deadline, day, week, status) "
            "SELECT 'second', seq + 100, lead, 'P2', way, offered_at + 1, deadline, day, week, 'offered' FROM offers "
            "WHERE status = 'offered'",
            "UNIQUE constraint failed: offers.lead",
        ),
        (
            "INSERT INTO offers (offer_id, seq, lead, partner_id, way, offered_at, deadline, day, week, status) "
            "SELECT 'begun', seq + 100, lead, 'P2', way, offered_at + 1, deadline, day, week, 'declined' FROM offers "
            "WHERE status = 'offered'",
            "an offer begins with an answer",
        ),
        (
            "INSERT INTO decisions (decision_id, lead, number, decided_at, status, document, after_entry, after_credit) "  # noqa: E501
            "SELECT 'second', lead, number, decided_at, status, document, 0, 0 FROM decisions",
            "UNIQUE constraint failed: decisions.lead, decisions.number",
        ),
    ],
)
def test_the_database_refuses_what_must_not_be(raw, statement, message):
    with pytest.raises(sqlite3.IntegrityError, match=message), raw:
        raw.execute(statement)


@pytest.mark.parametrize(("kind", "limits"), [("day", (1, 9, 9)), ("week", (9, 1, 9)), ("open", (9, 9, 1))])
def test_the_database_refuses_an_offer_beyond_a_limit(ledger, kind, limits):
    room = capacity(limits)
    route(ledger, "L1", room, NOW)
    offer = room.offer(0, offer_id="O2", moment=NOW, deadline=NOW + DAY)
    decided = document("L2", 0, "assigned", "P0", offer_id="O2")
    beyond = pytest.raises(InternalError, match=rf"goes beyond the limit of the partner \({kind}\)")
    with beyond, ledger.turn("L2", moment=NOW) as turn:
        turn.record(document=decided, payload="{}", offer=offer)
    assert load_of(ledger, room, NOW) == [(1, 1, 1)]
    # a limit that is lowered later makes nothing wrong of what was given, and leaves no room
    lower = capacity(tuple(0 for _ in limits))
    assert json.loads(route(ledger, "L3", lower, NOW))["status"] == "fallback"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET d_open = 0",
        "DELETE FROM decisions",
        "UPDATE offers SET status = 'declined' WHERE status = 'accepted'",
        "UPDATE offers SET offer_id = 'O'",
        "UPDATE decisions SET document = '{}'",
        "UPDATE counters SET units = -1",
        "INSERT INTO offers (offer_id, seq, lead, partner_id, way, offered_at, deadline, day, week, status) "
        "SELECT 'second', seq, lead, 'P2', way, offered_at + 1, deadline, day, week, 'offered' FROM offers",
    ],
)
def test_postgresql_refuses_the_same(postgres_url, statement):
    with Ledger.open(postgres_url) as ledger:
        for lead in "AL":
            route(ledger, lead, ROOM, NOW)
        answer(ledger, offer_id("A", 0), "accepted", ROOM, NOW)
        with pytest.raises(InternalError, match="refused what partnerml asked"), ledger.turn(moment=NOW) as turn:
            turn.connection.exec_driver_sql(statement)
        assert ledger.audit() == []


def test_the_audit_finds_what_somebody_else_has_written(raw, sqlite_url):
    for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        raw.execute(f"DROP TRIGGER {name}")
    raw.execute("DROP INDEX one_partner_holds_a_lead")
    raw.execute("UPDATE entries SET limit_day = 0, d_week = -1 WHERE seq = 1")
    raw.execute("UPDATE decisions SET number = 3 WHERE seq = 1")
    raw.execute("UPDATE offers SET lead = 2, status = 'offered', offered_at = 0 WHERE offer = 1")
    raw.execute("UPDATE offers SET partner_id = 'P7' WHERE offer = 2")
    raw.commit()
    with Ledger.open(sqlite_url) as ledger:
        told = "\n".join(ledger.audit())
    for words in (
        "entry 1 offers partner P0 1 of 0 (day)",
        "entry 1 gives back a unit (week) that partner P0 never had",
        "the counter ('week', 202647, 'P0') says",
        "partner P7 holds 1 leads, and 0 units are taken",
        "lead number 2 has two live offers",
        "lead number 2 has two partners",
        "the decisions on lead number 1 are not numbered",
    ):
        assert words in told


# opening


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ledger.db", "address of the ledger cannot be read; it is sqlite:///PATH or postgresql"),
        ("mysql://root:secret@host/db", "a ledger on mysql is not known"),
        ("nonsense://root:secret@host/db", "not known|cannot be read"),
        ("postgresql+asyncpg://root:secret@host/db", "not known"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Ledger.open(url)
    assert "secret" not in str(caught.value)


def test_an_address_is_told_as_it_was_written(sqlite_url, caplog):
    caplog.set_level("INFO", logger="partnerml")
    with Ledger.open(sqlite_url) as ledger:
        assert ledger.place == sqlite_url
    assert f"{sqlite_url} holds no leads yet" in caplog.text
    with pytest.raises(SourceError) as caught:
        Ledger.open("postgresql://me:secret@/db?host=/nowhere")
    assert str(caught.value).startswith("postgresql://me:***@/db?host=")


def test_a_server_that_is_not_there_is_told_without_its_password(tmp_path):
    with pytest.raises(SourceError, match=r"cannot be used: .*see that the database can be reached") as caught:
        Ledger.open(f"postgresql+psycopg://me:secret@/db?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("no database, but a text that is long enough to be taken for one" * 20)
    with pytest.raises(SourceError, match=r"is no ledger: the file is not a database of SQLite\..*routing\.ledger"):
        Ledger.open(f"sqlite:///{text}")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE offers (id)")
    connection.close()
    with pytest.raises(SourceError, match=r"has a table 'offers' and is no ledger of partnerml; give the ledger a"):
        Ledger.open(f"sqlite:///{other}")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE ledger (id)")
    connection.close()
    with pytest.raises(SourceError, match="has a table 'ledger' and is no ledger"):
        Ledger.open(f"sqlite:///{other}")
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"the folder of the ledger .* is not there: make it"):
        Ledger.open(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")


@pytest.mark.parametrize(("version", "advice"), [(2, "install a newer partnerml"), (0, "install that version")])
def test_tables_of_another_version_are_refused(raw, sqlite_url, version, advice):
    raw.execute(f"UPDATE ledger SET version = {version}")
    raw.commit()
    with pytest.raises(SourceError, match=rf"schema version {version}; this one reads version 1: {advice}"):
        Ledger.open(sqlite_url)


# what every version made that wrote this form of the tables
_FROM_THE_BEGINNING = {"one_partner_holds_a_lead", "offers_by_lead", "live_offers_by_deadline"}


def _indexes(url):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    found = sa.inspect(engine)
    return {index["name"] for table in tables.metadata.tables for index in found.get_indexes(table)}


def _past_partnerml(url, *statements):
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
def test_a_ledger_of_an_earlier_version_gets_the_indexes_that_it_lacks(kind, request, caplog):
    url = request.getfixturevalue(kind)
    with Ledger.open(url) as ledger:
        for lead in "LM":
            route(ledger, lead, ROOM, NOW)
    whole = _indexes(url)
    late = {index.name for table in tables.metadata.tables.values() for index in table.indexes} - _FROM_THE_BEGINNING
    assert late <= whole
    _past_partnerml(url, *(f"DROP INDEX {name}" for name in late))
    caplog.set_level("INFO", logger="partnerml")
    with Ledger.open(url) as ledger:
        assert len(ledger.offers()) == 2
        assert ledger.audit() == []
    assert _indexes(url) == whole
    assert all(f"lacked the index {name}, which is there now" in caplog.text for name in late)
    caplog.clear()
    Ledger.open(url).close()
    assert caplog.text == ""


def test_an_index_that_cannot_be_made_is_told_of_and_stops_nobody(sqlite_url, caplog):
    with Ledger.open(sqlite_url) as ledger:
        route(ledger, "L", ROOM, NOW)
    _past_partnerml(sqlite_url, "DROP INDEX decisions_by_moment", "CREATE TABLE decisions_by_moment (a)")
    with Ledger.open(sqlite_url) as ledger:
        route(ledger, "M", ROOM, NOW)
        assert len(ledger.offers()) == 2
    assert "lacks the index decisions_by_moment, and it cannot be made (there is already a table named" in caplog.text


def test_what_is_asked_of_some_days_reads_no_other_decisions(sqlite_url):
    with Ledger.open(sqlite_url) as ledger, ledger._database.reading() as connection:
        for query in (queries.CAME, queries.CONSIDERED, _queue._WITH_NOBODY):
            asked = query.params(dict.fromkeys(query.compile().params.keys() & {"start", "end", "by_then"}, 2))
            compiled = asked.compile(connection, compile_kwargs={"literal_binds": True})
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
            assert not [row.detail for row in plan if row.detail.startswith("SCAN")]


def test_who_waits_too_long_is_told_and_who_reads_does_not_wait(ledger_url, monkeypatch):
    if ledger_url is None:
        pytest.skip("a ledger in memory has one process")
    with contextlib.ExitStack() as opened:
        one = opened.enter_context(Ledger.open(ledger_url))
        # whoever has the turn keeps its patience: the server ends who says nothing for twice as long as others wait
        monkeypatch.setattr(_database, "WAIT", 1.0)
        other = opened.enter_context(Ledger.open(ledger_url))
        with one.turn("L", moment=NOW) as turn:
            decide(turn, ROOM)
            with pytest.raises(BusyError, match="has been in use by another process"), other.turn("L", moment=NOW):
                pass
            assert other.offers() == []
        assert len(other.offers()) == 1
        assert json.loads(route(other, "M", ROOM, NOW))["partner_id"] == "P0"


def test_a_turn_that_postgresql_ended_for_its_silence_is_told_and_kept_nothing(postgres_url, monkeypatch):
    monkeypatch.setattr(_database, "WAIT", 0.5)
    told = pytest.raises(SourceError, match=r"heard nothing for 1 s.* nothing of the turn was kept: see .* ask again")
    with Ledger.open(postgres_url) as ledger:
        with told, ledger.turn("L", moment=NOW) as turn:
            decide(turn, ROOM)
            time.sleep(3.0)
        assert ledger.offers() == []
        assert json.loads(route(ledger, "M", ROOM, NOW))["partner_id"] == "P0"


def test_a_turn_within_a_turn_is_our_fault(ledger):
    refused = pytest.raises(InternalError, match="within another one")
    with refused, ledger.turn("L", moment=NOW), ledger.turn("M", moment=NOW):
        pass
    route(ledger, "L", ROOM, NOW)


def test_threads_take_turns(ledger):
    room = capacity((None, None, 40))

    def work(name):
        for i in range(20):
            route(ledger, f"{name}-{i}", room, NOW)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.offers()) == 40
    assert load_of(ledger, room, NOW) == [(40, 40, 40)]


def test_no_process_keeps_another_from_its_turn(sqlite_url):
    context, n = multiprocessing.get_context("spawn"), 80
    start = context.Barrier(2)
    children = [context.Process(target=route_many, args=(sqlite_url, name, start, n)) for name in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    with Ledger.open(sqlite_url) as ledger:
        order = "".join(lead_id[0] for lead_id in ledger.export("decisions")["lead_id"])
    assert len(order) == 2 * n
    # both are at it from the start: among the first n turns each has a good part of them
    assert min(order[:n].count("a"), order[:n].count("b")) >= n // 4


def _route_in_child(ledger):
    route(ledger, "child", FREE, NOW)


def test_a_process_that_forks_has_connections_of_its_own(ledger_url):
    if ledger_url is None:
        pytest.skip("a ledger in memory has one process")
    with Ledger.open(ledger_url) as ledger:
        route(ledger, "parent", FREE, NOW)
        child = multiprocessing.get_context("fork").Process(target=_route_in_child, args=(ledger,))
        child.start()
        child.join()
        assert child.exitcode == 0
        route(ledger, "again", FREE, NOW)
        assert [offer.lead_id for offer in ledger.offers()] == ["parent", "child", "again"]


def test_a_process_that_is_forked_during_a_turn_does_not_keep_the_turn(sqlite_url):
    with Ledger.open(sqlite_url) as ledger:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        with ledger.turn(moment=NOW):
            child.start()
        try:
            route(ledger, "parent", FREE, NOW)
        finally:
            child.kill()
            child.join()
        assert len(ledger.offers()) == 1


def test_a_ledger_whose_folder_is_gone_is_told(tmp_path):
    (tmp_path / "there").mkdir()
    with Ledger.open(f"sqlite:///{tmp_path / 'there' / 'ledger.db'}") as ledger:
        route(ledger, "before", FREE, NOW)
        (tmp_path / "there").rename(tmp_path / "elsewhere")
        with pytest.raises(SourceError, match=r"ledger.db-turn.* cannot be opened: No such file.*ask again"):
            route(ledger, "after", FREE, NOW)


# what decisions are made of


def test_leads_that_may_be_the_same_are_found_by_account_domain_and_name(ledger):
    told = {
        "account": Keys(account_id="A1", created_at=NOW - 10 * DAY),
        "domain": Keys(domain="acme.com", country="DE"),
        "name": Keys(name="acme robotics"),
        "old": Keys(account_id="A1", created_at=NOW - 91 * DAY),
        "other": Keys(account_id="A2", domain="other.com", name="entirely different"),
        "nothing": Keys(),
    }
    route(ledger, "old", FREE, NOW - 91 * DAY, keys=told["old"])
    for name, keys in told.items():
        route(ledger, name, FREE, NOW, keys=keys)

    def found(keys, **more):
        with ledger.turn("new", moment=NOW) as turn:
            return [match.lead_id for match in turn.matches(keys, since=SINCE, **more)]

    assert found(Keys(account_id="A1")) == ["account"]
    # it came long ago, and is entered today: from now on it counts
    route(ledger, "late", FREE, NOW, keys=Keys(account_id="A3", created_at=NOW - 91 * DAY))
    assert found(Keys(account_id="A3")) == ["late"]
    assert found(Keys("A1", "acme.com", "robotics acme")) == ["account", "domain", "name"]
    assert found(Keys(name="acme robotic")) == ["name"]
    assert found(Keys(name="acme robotic"), name_threshold=99) == []
    assert found(Keys()) == []
    with ledger.turn("domain", moment=NOW) as turn:
        assert turn.matches(told["domain"], since=SINCE) == []
        (match,) = turn.matches(Keys(account_id="A1"), since=SINCE)
        assert (match.partner_id, match.created_at) == ("P0", NOW - 10 * DAY)
        assert len(turn.matches(Keys(account_id="A1"), since=NOW - 100 * DAY)) == 2


def test_the_partner_of_an_earlier_lead_is_who_has_it_by_now(ledger):
    keys = Keys(account_id="A")

    def partner():
        with ledger.turn("new", moment=NOW) as turn:
            return turn.matches(keys, since=SINCE)[0].partner_id

    route(ledger, "L", ROOM, NOW, keys=keys)
    assert partner() == "P0"
    answer(ledger, offer_id("L", 0), "declined", ROOM, NOW)
    assert partner() == "P1"
    with ledger.turn(moment=NOW) as turn:
        turn.withdraw(offer_id("L", 1))
    assert partner() is None
    give(ledger, "L", "P2", ROOM, NOW)
    assert partner() == "P2"


def test_what_round_robin_owes_is_kept_and_what_it_was_too(ledger):
    seen = []
    for i, credit in enumerate(({"P0": -0.5, "P1": 0.1 + 0.2}, {}, {"P1": -1.0, "é": 1e-300})):
        with ledger.turn(f"L{i}", moment=NOW) as turn:
            seen.append(turn.credit())
            turn.load(FREE)
            turn.record(document=document(f"L{i}", 0, "fallback"), payload="{}", credit=credit)
            turn.owe({"P2": float(i)})
    assert seen[1] == {"P0": -0.5, "P1": 0.1 + 0.2, "P2": 0.0}
    assert seen[2] == {"P0": -0.5, "P1": 0.1 + 0.2, "P2": 1.0}
    assert [ledger.state_at(f"decision-L{i}-0").credit for i in range(3)] == seen
    ledger._memory.forget()
    with ledger.turn(moment=NOW) as turn:
        assert turn.credit() == {"P0": -0.5, "P1": -1.0, "P2": 2.0, "é": 1e-300}


def test_the_state_of_every_decision_is_found_again_as_it_was(ledger):
    """The load, who had the lead, and the leads that were like it: read within the turn, and again at the end."""
    rng = np.random.default_rng(11)
    room = capacity(*[(2, 4, 3)] * 6, zones=("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"))
    seen, now = {}, NOW
    for i in range(60):
        now += dt.timedelta(hours=int(rng.integers(0, 9)))
        live = ledger.offers(status="offered")
        step = rng.random()
        with ledger.turn(f"L{i}", moment=now) as turn:
            if live and step < 0.5:
                turn.withdraw(str(rng.choice([offer.offer_id for offer in live])))
            elif live and step < 0.7:
                turn.expire(live[0].offer_id)
            if turn.holder is not None:
                continue
            keys = Keys(account_id=f"A{rng.integers(5)}")
            matches = turn.matches(keys, since=SINCE) if turn.number == 0 else []
            load, had, number = turn.load(room), turn.had, turn.number
            decide(turn, room, choose=rng.choice, keys=keys)
            seen[turn.latest.decision_id] = (load, had, number, matches, now, turn.latest.text)
    assert len(seen) > 40
    assert any(had for _, had, *_ in seen.values())
    assert any(matches for _, _, _, matches, *_ in seen.values())
    for name, (load, had, number, matches, moment, text) in seen.items():
        state = ledger.state_at(name)
        again = state.load(room)
        for field in ("day", "week", "open"):
            np.testing.assert_array_equal(getattr(again, field), getattr(load, field))
        assert (state.had, state.number, list(state.matches)) == (had, number, matches)
        assert (state.moment, state.text, state.payload) == (moment, text, "{}")
        assert (state.vector is None) == (state.document["partner_id"] is None)


def test_a_decision_that_is_not_there_is_told(ledger):
    for ask in (ledger.state_at, ledger.text):
        with pytest.raises(InputError, match="there is no decision 'D' in this ledger"):
            ask("D")


def test_a_vector_comes_back_to_the_last_bit():
    rng = np.random.default_rng(1)
    names = [f"P{i} é☃" for i in range(50)]
    numbers = rng.random((4, 50))
    numbers[3, :3] = np.inf
    found = Vector.unpacked(Vector(names, *numbers).packed())
    assert found.partner_id == names
    for name, values in zip(("probability", "p_win", "utility", "free"), numbers, strict=True):
        np.testing.assert_array_equal(getattr(found, name), values)


# export


@pytest.fixture
def worked(ledger):
    """A ledger in which each thing has happened once."""
    for i in range(6):
        route(ledger, f"L{i}", FREE, NOW + i * HOUR)
    answer(ledger, offer_id("L0", 0), "declined", FREE, NOW + 10 * HOUR)
    for lead in ("L1", "L2"):
        answer(ledger, offer_id(lead, 0), "accepted", FREE, NOW + 10 * HOUR)
    with ledger.turn(moment=NOW + DAY) as turn:
        turn.close("L1", "won", amount=99.5, closed_at=NOW + 20 * HOUR)
    with ledger.turn(moment=NOW + 28 * HOUR) as turn:
        turn.expire(offer_id("L4", 0))
    give(ledger, "L5", "P1", FREE, NOW + DAY, by="Ann", reason="asked")
    give(ledger, "D", "P2", FREE, NOW + DAY, way="registered_deal")
    give(ledger, "E", "P2", FREE, NOW + DAY, way="existing_owner")
    return ledger


def test_assignments_are_the_canonical_table(worked):
    found = worked.export()
    assert tuple(found.columns) == schema.ASSIGNMENTS.names
    told = found[["lead_id", "partner_id", "response", "outcome", "origin", "propensity"]].astype("object")
    assert told.where(told.notna(), None).values.tolist() == [
        ["L0", "P0", "declined", None, "routed", 1 / 3],
        ["L1", "P0", "accepted", "won", "routed", 1 / 3],
        ["L2", "P0", "accepted", "open", "routed", 1 / 3],
        ["L3", "P0", None, None, "routed", 1 / 3],
        ["L4", "P0", "expired", None, "routed", 1 / 3],
        ["L5", "P0", "withdrawn", None, "routed", 1 / 3],
        ["L0", "P1", None, None, "routed", 1 / 2],
        ["L5", "P1", "accepted", "open", "manual", None],
        ["D", "P2", "accepted", "open", "partner_submitted", None],
        ["E", "P2", "accepted", "open", "routed", None],
    ]
    won = found.iloc[1]
    assert (won.closed_at, won.closed_recorded_at, won.amount) == (NOW + 20 * HOUR, NOW + DAY, 99.5)


def test_assignments_pass_the_validation_of_an_ecosystem(worked):
    partners = pd.DataFrame({"partner_id": ["P0", "P1", "P2"]})
    leads = pd.DataFrame({"lead_id": [*(f"L{i}" for i in range(6)), "D", "E"], "created_at": pd.Timestamp(NOW)})
    with Ecosystem.from_frames(partners=partners, leads=leads, assignments=worked.export(), now=NOW + 3 * DAY) as eco:
        report = eco.validate(now=NOW + 3 * DAY)
        about = [violation for violation in report.violations if violation.table == "assignments"]
    assert about == []


def test_an_empty_ledger_exports_empty_tables(ledger):
    assert [len(ledger.export(what)) for what in ("assignments", "decisions", "vectors")] == [0, 0, 0]
    assert ledger.history().empty
    with pytest.raises(InputError, match="one of assignments, decisions, vectors is exported; got 'leads'"):
        ledger.export("leads")


def test_decisions_and_vectors_say_what_was_chosen_from(worked):
    decisions, vectors = worked.export("decisions"), worked.export("vectors")
    assert len(decisions) == 10
    assert decisions.decided_at[0] == NOW
    assert decisions.number.tolist().count(1) == 2
    row = vectors[vectors.decision_id == "decision-L0-1"].iloc[0]
    assert (list(row.partner_id), row.probability.tolist(), row.free.tolist()) == (
        ["P1", "P2"],
        [0.5] * 2,
        [np.inf] * 2,
    )
    joined = decisions[decisions.status == "assigned"].merge(vectors, on="decision_id", suffixes=("", "_chosen"))
    for row in joined[joined.propensity.notna()].itertuples():
        assert dict(zip(row.partner_id_chosen, row.probability, strict=True))[row.partner_id] == row.propensity


# forgetting

SECRET = ("Jane Doe Ltd", "doe.example", "ACC-77", "lead-jane", "note about Jane")


@pytest.fixture
def known(ledger):
    """A lead with everything that tells who it is, and another that was called its duplicate."""
    keys = Keys("ACC-77", "doe.example", "jane doe ltd", created_at=NOW)
    payload = json.dumps({"account_name": "Jane Doe Ltd", "domain": "doe.example"})
    with ledger.turn("lead-jane", moment=NOW) as turn:
        offer = FREE.offer(0, offer_id="O", moment=NOW, deadline=NOW + DAY)
        decided = document("lead-jane", 0, "assigned", "P0", offer_id="O", seed=77, p_win=0.25) | {
            "reasons": [{"text": "near Jane Doe Ltd"}],
            "evidence": {"name": "Jane Doe Ltd"},
            "alternatives": [{"partner_id": "P1", "p_win": 0.1, "note": "Jane Doe Ltd"}],
        }
        turn.record(document=decided, payload=payload, keys=keys, offer=offer)
    with ledger.turn("copy", moment=NOW) as turn:
        assert len(turn.matches(keys, since=SINCE)) == 1
        decided = document("copy", 0, "duplicate", duplicate_of="lead-jane", evidence={"name": "Jane Doe Ltd"})
        turn.record(document=decided, payload="{}", keys=Keys(account_id="ACC-other"))
    with ledger.turn(moment=NOW + HOUR) as turn:
        turn.respond("O", "accepted", by="Jane Doe Ltd", reason="note about Jane")
    return ledger


def everything(ledger):
    with ledger._database.reading() as connection:
        rows = [tuple(row) for table in tables.metadata.sorted_tables for row in connection.execute(table.select())]
    return repr(rows)


@pytest.mark.parametrize("name", ["lead-jane", "ACC-77"])
def test_who_a_lead_was_is_forgotten_and_what_was_counted_stays(known, name):
    before = known.export("assignments")
    # the offer and decision ids that the router makes do not name the lead; this stand-in's do
    assert all(secret in everything(known).replace("jane doe ltd", "") for secret in SECRET)
    assert known.forget(name, moment=NOW + 2 * HOUR, by="privacy desk") == 1
    left = everything(known).replace("decision-lead-jane-0", "").casefold()
    assert [secret for secret in SECRET if secret.casefold() in left] == []
    after = known.export("assignments")
    assert after.lead_id[0].startswith("forgotten-")
    same = ["partner_id", "assigned_at", "propensity", "origin", "policy"]
    pd.testing.assert_frame_equal(after[same], before[same])
    # nobody works on what nobody knows: the unit is free
    assert after.response.tolist() == ["withdrawn"]
    assert load_of(known, FREE, NOW)[0] == (1, 0, 0)
    decisions = known.export("decisions")
    assert decisions.forgotten.tolist() == [True, True]
    assert decisions.p_win[0] == 0.25
    assert decisions.alternatives[0] == [{"partner_id": "P1", "p_win": 0.1}]
    assert decisions.lead_id.tolist() == [after.lead_id[0], "copy"]
    assert decisions.duplicate_of[1] == after.lead_id[0]
    for decision_id in decisions.decision_id:
        with pytest.raises(InputError, match="cannot be made again: what it was made of has been forgotten"):
            known.state_at(decision_id)
    with pytest.raises(InputError, match="there is no lead and no account"):
        known.forget(name, moment=NOW)
    with known.turn("new", moment=NOW) as turn:
        assert turn.matches(Keys("ACC-77", "doe.example", "jane doe ltd"), since=SINCE) == []


def test_where_a_lead_and_an_account_have_one_id_who_forgets_says_which(ledger):
    for lead_id, account in (("123", "9"), ("500", "123"), ("501", "123")):
        with ledger.turn(lead_id, moment=NOW) as turn:
            turn.record(document=document(lead_id, 0, "fallback"), payload="{}", keys=Keys(account))
    with pytest.raises(InputError, match=r"'123' is the id of a lead, and of the account of 2 other\(s\).*--kind"):
        ledger.forget("123", moment=NOW)
    with pytest.raises(ConfigError, match="kind is lead or account"):
        ledger.forget("123", moment=NOW, kind="leads")
    assert ledger.forget("123", moment=NOW, kind="lead") == 1
    assert ledger.forget("123", moment=NOW) == 2
    # of its own account too, which others are of
    for lead_id in ("77", "78"):
        with ledger.turn(lead_id, moment=NOW) as turn:
            turn.record(document=document(lead_id, 0, "fallback"), payload="{}", keys=Keys("77"))
    with pytest.raises(InputError, match=r"'77' is the id of a lead, and of the account of 1 other\(s\)"):
        ledger.forget("77", moment=NOW)
    assert ledger.forget("77", moment=NOW, kind="account") == 2


def test_a_lead_that_was_forgotten_may_come_again(known):
    known.forget("lead-jane", moment=NOW + HOUR)
    text = route(known, "lead-jane", FREE, NOW + 2 * HOUR)
    assert json.loads(text)["decision_id"] == "decision-lead-jane-0"
    assert known.text("decision-lead-jane-0") == text
    give(known, "lead-jane", "P1", FREE, NOW + 2 * HOUR)
    assert known.forget("lead-jane", moment=NOW + 3 * HOUR) == 1
    assert route(known, "lead-jane", FREE, NOW + 4 * HOUR) == text


def test_nothing_of_it_is_left_in_the_file(sqlite_url):
    path = sqlite_url.removeprefix("sqlite:///")
    with Ledger.open(sqlite_url) as ledger:
        payload = json.dumps({"name": "Zaphod Beeblebrox " * 300})
        route(ledger, "zaphod-1", FREE, NOW, payload=payload, keys=Keys(name="zaphod beeblebrox"))
        ledger.forget("zaphod-1", moment=NOW)
        for suffix in ("", "-wal"):
            assert b"aphod" not in Path(path + suffix).read_bytes().replace(b"zaphod-1-0", b"")


def test_words_that_no_database_holds_are_refused(ledger):
    route(ledger, "L", FREE, NOW)
    for reason in ("\0", "\ud800", "x" * 10_001, 5):
        with pytest.raises(DataError, match="reason"), ledger.turn(moment=NOW) as turn:
            turn.respond(offer_id("L", 0), "declined", reason=reason)
    assert ledger.offer(offer_id("L", 0)).live


def test_an_error_before_anything_is_written_reads_nothing_anew(ledger_url, monkeypatch):
    """Answers that cannot be are common, and reading a large ledger anew takes long; what was undone is forgotten."""
    room = capacity((None, None, 3), (None, None, 3))
    with Ledger.open(ledger_url) as ledger:
        first = json.loads(route(ledger, "L1", room, NOW))
        counted, asked = queries.counted, []
        monkeypatch.setattr(queries, "counted", lambda *given, **more: asked.append(1) or counted(*given, **more))
        for number in range(3):
            with pytest.raises(InputError):
                _undone(ledger, room, "offer-x")
            route(ledger, f"L{number + 2}", room, NOW)
        assert asked == []
        with pytest.raises(InputError):
            _undone(ledger, room, first["offer_id"])
        with ledger.turn(moment=NOW) as turn:
            assert turn.load(room).open.sum() == 4
        assert asked == [1]


def _undone(ledger, room, offer_id):
    """Read the load before and after an answer, and undo it."""
    with ledger.turn(moment=NOW) as turn:
        before = turn.load(room).open.sum()
        turn.respond(offer_id, "declined")
        assert turn.load(room).open.sum() == before - 1
        raise InputError("for some reason")
