"""Prices found from the ledger, and how they come to all who route: beside snapshots, by the ids of partners."""

import dataclasses
import datetime as dt
import json

import numpy as np
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.config import RoutingConfig
from partnerml.errors import ConfigError, InputError
from partnerml.routing import Prices, Router
from partnerml.routing._demand import demand
from partnerml.routing._lead import Lead
from partnerml.routing._prices import prices
from partnerml.routing._pricing import PriceBook
from partnerml.routing._snapshot_files import publish_current

pytest.importorskip("numba")
NOW = AS_OF + dt.timedelta(hours=9)
P = {"p0": 0.6, "p1": 0.5, "p2": 0.4, "p3": 0.3}
CELLS = [
    {"partner_id": f"p{i}", "dimension": "all", "value": "all", "closed": 20, "won": 12 - 4 * i, "days": 90}
    for i in range(3)
]


def leads(n, prefix="l", **values):
    return [{"lead_id": f"{prefix}{i}", "created_at": NOW.isoformat(), "amount": 100.0 * i, **values} for i in range(n)]


def route(router, some, now=NOW):
    return [router.route(lead, now=now) for lead in some]


def scarce(rooms=(5, 40, 40), **more):
    """Return a snapshot that can be written, whose best partner has little room."""
    return snapshot([{"max_open_leads": room} for room in rooms], cells=CELLS, **more)


def put(folder, snap):
    publish_current(folder, snap.write(folder).name)


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, scarce())
    return tmp_path


def following(folder):
    return Router.open(folder / "current", ledger=f"sqlite:///{folder / 'ledger.db'}")


@pytest.mark.parametrize("objective", ["win", "value", "accept_and_win"])
def test_demand_is_what_every_lead_of_those_days_was_worth_with_each_partner(objective, tmp_path):
    """Held against the ledger's exports, a row at a time: alone, in a batch, at prices, by two processes."""
    partners = [{"max_open_leads": room} for room in (3, 30, 30, 30)]
    made = [
        {"lead_id": f"old{i}", "partner_id": f"p{i % 4}", "assigned_at": AS_OF - dt.timedelta(days=9), "response": said}
        for i, said in enumerate(["accepted", "declined"] * 3 + ["accepted"] * 3)
    ]
    snap = snapshot(partners, p=P, assignments=made, config={"objective": objective})
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Router.open(snap, ledger=url) as router, Router.open(snap, ledger=url) as other:
        route(router, leads(3, "early"), now=NOW - dt.timedelta(days=8))
        first = route(router, leads(4))
        router.reprice(expected=20, now=NOW)
        route(router, leads(3, "priced"))
        other.assign(leads(5, "batch"), now=NOW)
        router.respond(first[0].offer_id, "declined", now=NOW)  # the next decision is on the same lead
        fewer = snapshot(partners[:3], p=P, config={"objective": objective})
        for opened in (other._in_use.opened, dataclasses.replace(router._in_use.opened, snapshot=fewer)):
            window = demand(router.ledger, opened, start=NOW - dt.timedelta(days=7), end=NOW)
            ids, acceptance = list(opened.snapshot.partners.partner_id), opened.snapshot.acceptance
            decisions, vectors = (router.ledger.export(what) for what in ("decisions", "vectors"))
            expected = []
            for row in decisions[(decisions.number == 0) & ~decisions.lead_id.str.startswith("early")].itertuples():
                vector = vectors[vectors.decision_id == row.decision_id].iloc[0]
                worth = {}
                for partner, p_win in zip(vector.partner_id, vector.p_win, strict=True):
                    if partner in ids:
                        amount = 100.0 * int(row.lead_id[-1]) or 1.0
                        of = {"win": 1.0, "value": amount, "accept_and_win": acceptance[ids.index(partner)]}
                        worth[ids.index(partner)] = p_win * of[objective]
                expected.append(worth)
            found = [dict(zip(cols.tolist(), scores.tolist(), strict=True)) for cols, scores in window._leads]
            assert len(found) == 12
            assert found == [pytest.approx(each) for each in expected]


def test_prices_are_those_of_the_auction_for_what_is_left():
    with Router.open(snapshot([{"max_open_leads": room} for room in (3, 30)], p={"p0": 0.6, "p1": 0.5})) as router:
        assert router.reprice(now=NOW) == {}  # nobody has come
        route(router, leads(2))
        found = router.reprice(expected=9, now=NOW)
        cols, scores = [[0, 1]] * 2, [[0.6, 0.5]] * 2
        np.testing.assert_allclose([found["p0"], 0.0], prices(cols, scores, [1.0, 30.0], expected=9))
        assert found == {"p0": pytest.approx(0.1, abs=2e-3)}
        assert router.reprice(now=NOW + dt.timedelta(days=8)) == {}  # they came too long ago
        for wrong in (0, -1, float("nan"), 1e9):
            with pytest.raises(ConfigError, match="days must be more than 0"):
                router.reprice(days=wrong, now=NOW)
        with pytest.raises(InputError, match="snapshot was opened in memory"):
            router.reprice(now=NOW, publish=True)


def test_who_follows_takes_up_what_is_published_and_all_is_made_again(folder):
    with following(folder) as router, following(folder) as other:
        first = route(router, leads(3))
        assert not other.refresh()
        found = router.reprice(expected=30, now=NOW, publish=True)
        assert found["p0"] > 0.05
        assert (other.refresh(), other.refresh()) == (True, False)
        with following(folder) as late:
            for each in (router, other, late):
                prices_now = dict(zip(each.snapshot.partners.partner_id, each.snapshot.prices, strict=True))
                assert {partner: price for partner, price in prices_now.items() if price} == found
        decision = other.route({"lead_id": "priced"}, now=NOW)
        assert decision.prices_id
        assert decision.price == found.get(decision.partner_id, 0.0)
        # without a word about it nobody else sees them
        own = router.reprice(expected=2, now=NOW)
        assert own != found
        assert not other.refresh()
        assert not router.refresh()
        for each in (*first, decision):
            assert other.replay(each.decision_id).to_json() == each.to_json()
            assert router.replay(each.decision_id).to_json() == each.to_json()


@pytest.mark.parametrize("publish", [True, False])
def test_prices_stay_with_partners_when_another_snapshot_comes(folder, publish):
    with following(folder) as router:
        route(router, leads(3))
        found = router.reprice(expected=30, now=NOW, publish=publish)
        before = router.route({"lead_id": "before"}, now=NOW)
        partners = [{"partner_id": "new"}, {"partner_id": "p0", "max_open_leads": 5}, {"partner_id": "p2"}]
        put(folder, snapshot(partners, cells=CELLS))
        assert router.refresh()
        assert router.snapshot.partners.partner_id.tolist() == ["new", "p0", "p2"]
        assert router.snapshot.prices.tolist() == [0.0, found["p0"], found.get("p2", 0.0)]
        after = router.route({"lead_id": "after"}, now=NOW)
        for decision in (before, after):
            assert router.replay(decision.decision_id).to_json() == decision.to_json()
        with following(folder) as other:
            assert bool(other.snapshot.prices.any()) == publish
            assert other.replay(after.decision_id) == after


def test_a_snapshot_with_just_these_prices_needs_no_others(folder):
    with following(folder) as router:
        route(router, leads(3))
        found = router.reprice(expected=30, now=NOW, publish=True)
        put(folder, scarce(prices=found, as_of=AS_OF + dt.timedelta(hours=0), config={"flags": []}))
        assert router.refresh()
        decision = router.route({"lead_id": "next"}, now=NOW)
        assert decision.prices_id is None
        assert router.snapshot.prices[0] == found["p0"]
        assert router.replay(decision.decision_id) == decision


def test_a_damaged_file_of_prices_is_told_and_stops_nobody(folder, caplog):
    with following(folder) as router:
        route(router, leads(3))
        router.reprice(expected=30, now=NOW, publish=True)
        file = folder / "prices" / "current.json"
        whole = file.read_text()
        unit_unknown = json.dumps({key: value for key, value in json.loads(whole).items() if key != "objective"})
        for text in ("{", "[]", whole.replace('"by_partner": {', '"by_partner": {"p1": NaN, '), unit_unknown):
            file.write_text(text)
            assert router.refresh()
            assert not router.refresh()
            with following(folder) as late:
                for each in (router, late):
                    assert not each.snapshot.prices.any()
            assert caplog.text.count("current.json holds no prices") == 2  # each router tells once
            assert "run partnerml reprice again, or delete it to do without" in caplog.text
            assert not router.rank({"lead_id": "next"}, now=NOW)["price"].any()
            caplog.clear()
            # which is what the words say: found anew they take its place
            assert router.reprice(expected=30, now=NOW, publish=True)
            assert router.snapshot.prices.any()
            assert PriceBook(folder).published().by_partner == router.reprice(expected=30, now=NOW)
            assert caplog.text == ""


def test_who_deletes_the_file_does_without_prices(folder):
    with following(folder) as router:
        route(router, leads(3))
        router.reprice(expected=30, now=NOW, publish=True)
        (folder / "prices" / "current.json").unlink()
        assert router.refresh()
        assert not router.snapshot.prices.any()
        assert PriceBook(folder).published() is None


@pytest.mark.parametrize("publish", [True, False])
def test_prices_in_the_unit_of_another_objective_are_not_taken_up(folder, publish, caplog):
    """A price in money, held against a chance to win, would keep the partner from every lead."""
    put(folder, scarce(config={"objective": "value"}))
    with following(folder) as router:
        route(router, [{**lead, "amount": 20_000.0} for lead in leads(3)])
        found = router.reprice(expected=30, now=NOW, publish=publish)
        assert found["p0"] > 100.0
        assert caplog.text == ""
        put(folder, scarce(config={"objective": "win", "hold_back": True}))
        assert (router.refresh(), router.refresh()) == (True, False)
        assert caplog.text.count("in the unit of routing.objective: value, and leads are routed by win") == 1
        assert router.unpriced
        decision = router.route({"lead_id": "by win"}, now=NOW)
        assert (decision.partner_id, decision.price, decision.prices_id) == ("p0", 0.0, None)
        with following(folder) as late:
            assert not late.snapshot.prices.any()
        put(folder, scarce(config={"objective": "value"}))
        assert router.refresh()
        assert router.snapshot.prices[0] == found["p0"]


def test_other_rules_keep_the_prices_of_a_snapshot_unless_their_unit_is_another():
    made = scarce(prices={"p0": 0.25})
    kept, other = (RoutingConfig.of({"objective": objective, "hold_back": True}) for objective in ("win", "value"))
    assert made.ruled_by(kept).prices.tolist() == [0.25, 0.0, 0.0]
    assert made.ruled_by(other).prices.tolist() == [0.0, 0.0, 0.0]
    assert made.ruled_by(other).config == other


@pytest.mark.parametrize("way", ["one by one", "batch"])
def test_as_many_leads_are_expected_as_came_those_too_that_nobody_had_room_for(way):
    partners = [{"capacity_per_day": 3, "country": "DE"}, {"capacity_per_day": 3, "country": "FR"}]
    deals = [{"lead_id": f"deal{n}", "domain": "same.example"} for n in range(4)]
    with Router.open(snapshot(partners, p={"p0": 0.6, "p1": 0.3})) as router:
        decisions = router.assign(leads(12), now=NOW).decisions if way == "batch" else route(router, leads(12))
        assert [decision.status for decision in decisions].count("fallback") == 6
        tomorrow = NOW + dt.timedelta(days=1)
        assert [d.status for d in route(router, deals, now=tomorrow)[1:]] == ["duplicate"] * 3  # which take no room
        router.route({"lead_id": "long ago"}, now=NOW - dt.timedelta(days=20))
        assert router.ledger.came(NOW - dt.timedelta(days=1), tomorrow) == 13
        found = router.reprice(now=tomorrow)
        assert found == router.reprice(now=tomorrow, expected=13)
        assert found == pytest.approx({"p0": 0.6, "p1": 0.3}, abs=2e-3)


def test_a_day_by_the_same_rules_is_the_day_that_was_whatever_prices_were_found_since(caplog):
    partners = [{"max_open_leads": 30}, {"max_open_leads": 90}]
    with Router.open(snapshot(partners, p={"p0": 0.6, "p1": 0.55})) as router:
        route(router, leads(20))
        assert router.reprice(expected=80, now=NOW)["p0"] > 0.04
        for config in (None, {"hold_back": True}):
            found = router.simulate(AS_OF, config=config)
            assert (found["changed"].sum(), found.attrs["differs"]) == (0, 0)
        assert caplog.text == ""
        # what was decided at prices may come out otherwise, which is told
        assert {d.partner_id for d in route(router, leads(5, "priced"))} == {"p1"}
        found = router.simulate(AS_OF, config={"hold_back": True})
        assert (found["changed"].sum(), found.attrs["differs"]) == (0, 5)
        assert "5 of 25 decisions were made at prices that had been found then" in caplog.text


def test_prices_tell_when_they_were_found_and_by_which_leads(folder):
    with following(folder) as router, following(folder) as other:
        plain = route(router, leads(3))
        assert all("prices" not in decision.evidence for decision in plain)
        # the same prices, found again, are younger
        again = []
        for minutes in (0, 5):
            found = router.reprice(expected=30, days=3, now=NOW + dt.timedelta(minutes=minutes))
            again.append(router.dry_run(leads(1, "would"), now=NOW)[0])
        assert found
        assert again[0].prices_id == again[1].prices_id
        assert again[1].evidence["prices"]["found_at"] == (NOW + dt.timedelta(minutes=5)).isoformat()
        decisions, told = [], []
        for hours, came in ((0, 3), (2, 4)):
            found_at = NOW + dt.timedelta(hours=hours)
            found = router.reprice(expected=30, days=3, now=found_at, publish=True)
            assert other.refresh()
            since = found_at - dt.timedelta(days=3)
            for each in (router, other):
                assert (each.prices.found_at, each.prices.since, each.prices.leads) == (found_at, since, came)
            told.append({"found_at": found_at.isoformat(), "since": since.isoformat(), "leads": came, "expected": 30})
            decisions.append(other.dry_run([{"lead_id": f"at {hours}"}], now=found_at)[0])
            decisions.append(other.route({"lead_id": f"at {hours}"}, now=found_at))
            other.withdraw(decisions[-1].offer_id, now=found_at)
        assert [decision.evidence["prices"] for decision in decisions] == [told[0]] * 2 + [told[1]] * 2
        assert found
        for decision in decisions[1::2]:
            for each in (router, other):
                assert each.replay(decision.decision_id).to_json() == decision.to_json()
        # what is said of a price that holds a lead back
        put(folder, scarce(config={"hold_back": True, "max_snapshot_age": "9d"}))
        assert router.refresh()
        assert "prices" not in router.assign(leads(1, "batch"), now=NOW).decisions[0].evidence


def test_old_prices_are_told_of_once_and_used_still(folder, caplog):
    put(folder, scarce(config={"max_snapshot_age": "30d", "max_price_age": "12h"}))
    with following(folder) as router:
        route(router, leads(3))
        found = router.reprice(expected=30, now=NOW, publish=True)
        late = NOW + dt.timedelta(hours=12)
        router.route({"lead_id": "in time"}, now=late)
        router.assign([{"lead_id": "batch"}], now=late + dt.timedelta(days=1))  # which has prices of its own
        assert caplog.text == ""
        late += dt.timedelta(minutes=1)
        decision = router.route({"lead_id": "late"}, now=late)
        assert decision.price == found.get(decision.partner_id, 0.0)
        router.rank({"lead_id": "later"}, now=late)
        router.expire(now=late)
        assert caplog.text.count("older than routing.max_price_age (12 hours)") == 1
        assert "the prices of 2026-06-01 09:00 UTC, found by 3 leads that came from 2026-05-25 09:00 on" in caplog.text
        caplog.clear()
        router.reprice(expected=30, now=late, publish=True)
        router.route({"lead_id": "anew"}, now=late)
        assert caplog.text == ""
        router.expire(now=late + dt.timedelta(days=1))
        assert caplog.text.count("older than routing.max_price_age") == 1


@pytest.mark.parametrize("answer", ["respond", "withdraw"])
def test_old_prices_are_told_of_where_the_next_partner_is_chosen_by_them(folder, caplog, answer):
    put(folder, scarce(config={"max_snapshot_age": "30d", "max_price_age": "1h"}))
    with following(folder) as router:
        offer_id = route(router, leads(3))[-1].offer_id
        assert router.reprice(expected=30, now=NOW)
        assert isinstance(router.prices, Prices)
        late = NOW + dt.timedelta(hours=1, minutes=1)
        following_one = getattr(router, answer)(offer_id, *(["declined"] if answer == "respond" else []), now=late)
        assert following_one.evidence["prices"]["found_at"] == NOW.isoformat()
        assert caplog.text.count("older than routing.max_price_age (1 hours)") == 1


def test_prices_that_an_earlier_version_found_are_taken_up(folder):
    with following(folder) as router:
        route(router, leads(3))
        found = router.reprice(expected=30, now=NOW, publish=True)
    file = folder / "prices" / "current.json"
    told = json.loads(file.read_text())
    assert told.pop("since")
    file.write_text(json.dumps(told))
    with following(folder) as router:
        assert router.prices.by_partner == found
        assert router.prices.since is None
        assert "3 leads that came by then" in router.prices.words()
        decision = router.route({"lead_id": "next"}, now=NOW)
        assert decision.evidence["prices"]["since"] is None
        assert router.replay(decision.decision_id) == decision


def test_one_snapshot_that_is_named_keeps_its_own_prices(folder):
    with following(folder) as router:
        route(router, leads(3))
        router.reprice(expected=30, now=NOW, publish=True)
        snapshot_id = router.snapshot_id
    with Router.open(folder / snapshot_id) as pinned:
        assert not pinned.snapshot.prices.any()
        assert not pinned.refresh()


def test_leads_that_were_forgotten_do_not_count(folder):
    with following(folder) as router:
        route(router, leads(3))
        router.forget("l1", now=NOW)
        window = demand(router.ledger, router._in_use.opened, start=NOW - dt.timedelta(days=7), end=NOW)
        assert len(window) == 2
        assert Lead.of_payload(router.ledger.considered(AS_OF, NOW, most=1)[0][0]).lead_id == "l2"
