"""Many leads at once: within capacity, as good as can be, the same when asked again, and made again one by one."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import ConfigError, DataError
from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
COUNTRIES = ("DE", "FR", "IT")


def scored(situation, rows):
    """Return a chance for each pair that depends on both."""
    return ((rows * 7919 + int(situation.lead.lead_id[1:]) * 31) % 97) / 100.0


def world(n=9, *, limit=2, **more):
    partners = [{"country": COUNTRIES[i % 3], "max_open_leads": limit, "tier": "ab"[i % 2]} for i in range(n)]
    territories = [{"partner_id": f"p{i}", "country": COUNTRIES[i % 3]} for i in range(n)]
    return snapshot(partners, territories=territories, p=more.pop("p", scored), **more)


def leads(n, *, prefix="l", country=None):
    return [
        {"lead_id": f"{prefix}{i}", "created_at": AS_OF.isoformat(), "country": country or COUNTRIES[i % 3]}
        for i in range(n)
    ]


def best_sum(snap, rows):
    """Return the highest sum of chances, by the Hungarian method over units of capacity."""
    router = Router.open(snap)
    chance = np.zeros((len(rows), 2 * len(snap)))
    for place, lead in enumerate(rows):
        ranked = router.rank(lead, top=1000, now=NOW)
        for partner, p in zip(ranked["partner_id"], ranked["p_win"], strict=True):
            row = snap.partners.row(partner)
            chance[place, [2 * row, 2 * row + 1]] = p
    lead, unit = linear_sum_assignment(-chance)
    return chance[lead, unit].sum()


@settings(max_examples=15)
@given(n_leads=st.integers(1, 24), n_partners=st.integers(3, 9))
def test_the_sum_is_the_best_there_is_and_nobody_gets_more_than_it_may(n_leads, n_partners):
    snap, rows = world(n_partners), leads(n_leads)
    with Router.open(snap) as router:
        batch = router.assign(rows, now=NOW)
        got = pd.Series([d.partner_id for d in batch.decisions if d.partner_id is not None]).value_counts()
        assert (got <= 2).all()
        chances = sum(d.p_win for d in batch.decisions if d.p_win is not None)
        assert chances == pytest.approx(batch.total)
        best = best_sum(snap, rows)
        assert best * (1 - batch.gap) - 1e-9 <= batch.total <= best + 1e-9
        assert batch.gap <= 1e-4 + 1e-12
        assert router.ledger.audit() == []


def test_asked_again_all_decisions_stand_and_nothing_is_written():
    with Router.open(world()) as router:
        first = router.assign(leads(12), now=NOW)
        written = len(router.ledger.history())
        again = router.assign(leads(12), now=NOW)
        assert [d.to_json() for d in again.decisions] == [d.to_json() for d in first.decisions]
        assert len(router.ledger.history()) == written
        assert router.route(leads(12)[0], now=NOW) == first.decisions[0]


def test_each_decision_is_made_again_byte_for_byte_also_beside_leads_that_came_alone():
    with Router.open(world()) as router:
        alone = [router.route(lead, now=NOW) for lead in leads(4, prefix="x")]
        router.reprice(expected=20, now=NOW)
        priced = [router.route(lead, now=NOW) for lead in leads(4, prefix="y")]
        batch = router.assign(leads(16), now=NOW)
        assert any(d.prices_id for d in priced)
        assert {d.status for d in batch.decisions} == {"assigned", "fallback"}
        for decision in (*alone, *priced, *batch.decisions):
            assert router.replay(decision.decision_id).to_json() == decision.to_json()


@pytest.mark.parametrize("kind", ["plain", "shares", "exclusive", "engaged"])
def test_a_dry_run_tells_what_a_batch_would_do_and_writes_nothing(kind, tmp_path):
    more = {
        "plain": {},
        "shares": {"config": {"batch": {"shares": [{"column": "tier", "value": "a", "most": 0.3}]}}},
        "exclusive": {},
        "engaged": {"accounts": [{"account_id": "a1", "owner_partner_id": "p3"}]},
    }[kind]
    rows = leads(24, country="DE" if kind == "exclusive" else None)
    rows[3] |= {"account_id": "a1"}
    rows[7] |= {"account_id": "a2"}
    rows[9] |= {"account_id": "a2"}
    with Router.open(world(**more), ledger=f"sqlite:///{tmp_path / 'ledger.db'}") as router:
        if kind == "plain":  # one has a decision, another is due
            for lead in rows[:2]:
                offered = router.route(lead, now=NOW)
            with router.ledger.turn(moment=NOW) as turn:
                turn.respond(offered.offer_id, "declined")
        before = router.ledger.history()
        would = router.assign(rows, now=NOW, dry_run=True)
        assert router.ledger.history().equals(before)
        batch = router.assign(rows, now=NOW)
        assert [decision.to_json() for decision in would.decisions] == [d.to_json() for d in batch.decisions]
        assert would.summary() == batch.summary()
        assert len({decision.status for decision in batch.decisions}) > 1
        assert router.ledger.audit() == []


def test_who_gets_nothing_is_told_why():
    with Router.open(world(3, limit=1)) as router:
        batch = router.assign(leads(4, country="DE"), now=NOW)
        without = [d for d in batch.decisions if d.partner_id is None]
        assert len(without) == 3
        assert all("2 by territory, 1 by capacity" in d.why for d in without)
        nobody = router.assign(leads(1, prefix="n", country="US"), now=NOW).decisions[0]
        assert nobody.status == "fallback"
        assert "3 by territory" in nobody.why


def test_a_lead_that_repeats_another_of_the_batch_makes_no_offer():
    rows = [{**lead, "domain": "acme.example"} for lead in leads(2, country="DE")]
    with Router.open(world()) as router:
        first, second = router.assign(rows, now=NOW).decisions
        assert (first.status, second.status) == ("assigned", "duplicate")
        assert (second.duplicate_of, second.partner_id) == (first.lead_id, first.partner_id)
        assert second.offer_id is None
        assert len(router.ledger.offers(status="offered")) == 1


def test_a_registered_deal_comes_before_the_auction():
    deal = {
        "deal_id": "d1",
        "partner_id": "p3",
        "account_id": "a1",
        "registered_at": AS_OF - dt.timedelta(days=3),
        "outcome": "open",
        "registration_status": "approved",
    }
    rows = [{**leads(1)[0], "account_id": "a1"}, *leads(3)[1:]]
    with Router.open(world(deals=[deal])) as router:
        decision = router.assign(rows, now=NOW).decisions[0]
        assert (decision.status, decision.partner_id) == ("registered_deal", "p3")


def test_shares_of_groups_are_met_and_priced():
    share = {"column": "tier", "value": "b", "least": 0.6}
    p = lambda situation, rows: np.where(rows % 2 == 0, 0.9, 0.3)  # noqa: E731
    with Router.open(world(12, p=p, config={"batch": {"shares": [share]}})) as router:
        batch = router.assign(leads(10), now=NOW)
        tiers = [int(d.partner_id[1:]) % 2 for d in batch.decisions if d.partner_id is not None]
        assert np.mean(tiers) >= 0.6
        assert batch.price_of_fairness > 0
        assert batch.summary()["shares"][0]["shortfall"] == 0


def test_a_share_of_a_column_that_is_not_there_is_refused():
    share = {"column": "size", "value": "b", "least": 0.6}
    with Router.open(world(config={"batch": {"shares": [share]}})) as router:
        with pytest.raises(ConfigError, match="no column 'size'"):
            router.assign(leads(3), now=NOW)
        assert router.ledger.history().empty


def test_bad_rows_are_refused_before_anything_is_written():
    with Router.open(world()) as router:
        with pytest.raises(DataError, match=r"2 row\(s\) are no leads, first row 2: .*latitude"):
            router.assign([leads(1)[0], {**leads(2)[1], "latitude": 91}, {**leads(3)[2], "amount": -1}], now=NOW)
        with pytest.raises(DataError, match="more than once"):
            router.assign(pd.DataFrame(leads(1) + leads(1)), now=NOW)
        with pytest.raises(DataError, match="no rows"):
            router.assign(pd.DataFrame(leads(1))[:0], now=NOW)
        assert router.ledger.history().empty


def test_capacity_that_went_meanwhile_is_looked_at_again(monkeypatch):
    from partnerml.routing import _batch

    solve = _batch.assign
    with Router.open(world(3, limit=1)) as router:

        def slow(*arguments, **more):
            found = solve(*arguments, **more)
            # another process is faster, and takes the partner
            router.route({**leads(1, prefix="z", country="DE")[0]}, now=NOW)
            return found

        monkeypatch.setattr(_batch, "assign", slow)
        decision = router.assign(leads(1, country="DE"), now=NOW).decisions[0]
        assert decision.status == "fallback"
        assert router.ledger.audit() == []
        assert router.replay(decision.decision_id) == decision


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        ({}, ["p0", "p1", "p1"]),
        ({"value": "b", "most": 1.0}, ["p0", "p1", "p1"]),
        ({"value": "b", "least": 0.6}, ["p0", "p1", "p1"]),  # cannot be met by the auction: nobody waits for it
        ({"value": "b", "most": 0.5}, ["", "p0", "p1"]),
        ({"value": "a", "least": 0.5}, ["", "p0", "p1"]),
    ],
)
def test_when_those_who_hold_leads_exclusively_are_full_others_get_the_rest(share, wanted):
    partners = [{"country": "DE", "max_open_leads": limit, "tier": tier} for limit, tier in ((1, "a"), (5, "b"))]
    exclusive = {"partner_id": "p0", "country": "DE", "exclusive": True}
    areas = [exclusive, {"partner_id": "p1", "country": "DE"}]
    config = {"batch": {"shares": [{"column": "tier", **share}] if share else []}}
    with Router.open(snapshot(partners, territories=areas, p={"p0": 0.2, "p1": 0.9}, config=config)) as router:
        rehearsed = router.assign(leads(3, country="DE"), now=NOW, dry_run=True)
        batch = router.assign(leads(3, country="DE"), now=NOW)
        assert sorted(d.partner_id or "" for d in batch.decisions) == wanted
        assert (batch.given, batch.given_after) == (1, len(wanted) - 1 - wanted.count(""))
        assert [d.to_json() for d in rehearsed.decisions] == [d.to_json() for d in batch.decisions]
        for decision in batch.decisions:
            assert router.replay(decision.decision_id) == decision


def test_another_who_keeps_the_shares_gets_what_is_left_over():
    """p0 holds the place exclusively and is full; p1 is best of the others, and its group has as much as it may."""
    rooms = ((1, "a"), (5, "b"), (5, "a"))
    partners = [{"country": "DE", "max_open_leads": room, "tier": tier} for room, tier in rooms]
    areas = [{"partner_id": f"p{i}", "country": "DE", "exclusive": i == 0} for i in range(3)]
    config = {"batch": {"shares": [{"column": "tier", "value": "b", "most": 0.4}]}}
    p = {"p0": 0.2, "p1": 0.9, "p2": 0.3}
    with Router.open(snapshot(partners, territories=areas, p=p, config=config)) as router:
        batch = router.assign(leads(5, country="DE"), now=NOW)
        assert sorted(d.partner_id for d in batch.decisions) == ["p0", "p1", "p1", "p2", "p2"]
        (share,) = batch.shares
        assert (share.leads, share.share, share.shortfall) == (2, 0.4, 0)
        kept = [d for d in batch.decisions if "shares" in d.evidence]
        assert kept
        assert all(d.funnel[-1].rule == "shares" for d in kept)
        assert kept[0].evidence["shares"] == {"closed": ["tier=b"], "only": []}
        for decision in batch.decisions:
            assert router.replay(decision.decision_id).to_json() == decision.to_json()


def test_what_was_not_given_counts_in_no_share():
    """The auction gives three leads out; two of them are one that came twice, and only one of those is given."""
    config = {"batch": {"shares": [{"column": "tier", "value": "b", "most": 0.5}]}}
    partners = [{"country": "DE", "max_open_leads": room, "tier": tier} for room, tier in ((2, "a"), (5, "b"))]
    areas = [{"partner_id": f"p{i}", "country": "DE", "exclusive": i == 0} for i in range(2)]
    rows = [{**lead, "domain": "acme.com"} if place < 2 else lead for place, lead in enumerate(leads(5, country="DE"))]
    with Router.open(snapshot(partners, territories=areas, p={"p0": 0.2, "p1": 0.9}, config=config)) as router:
        batch = router.assign(rows, now=NOW)
        given = [d.partner_id for d in batch.decisions if d.status == "assigned"]
        (share,) = batch.shares
        assert share.leads == given.count("p1")
        assert share.share == given.count("p1") / len(given) <= 0.5


def test_a_batch_that_is_refused_lets_no_offer_expire():
    later = NOW + dt.timedelta(days=30)
    config = {"max_snapshot_age": "60d"}
    with Router.open(world(config=config)) as router:
        router.assign(leads(6), now=NOW)
        before = router.ledger.history()
        with pytest.raises(DataError, match="other values of amount"):
            router.assign([*leads(6)[:5], {**leads(6)[5], "amount": 7.0}], now=later)
        assert router.ledger.history().equals(before)
