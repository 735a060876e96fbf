"""A decision reads back as it was written, tells itself in words, and keeps others' names from a partner."""

import dataclasses
import datetime as dt
import json

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.errors import ConfigError, InputError, InternalError, ModelError
from partnerml.routing import Decision, Router
from partnerml.routing._decision import seed_of, told
from partnerml.routing._pricing import PriceBook

NOW = AS_OF + dt.timedelta(hours=10)


@pytest.fixture
def decision():
    partners = [{"name": f"Firm {i}", "country": "DE", "max_open_leads": 5} for i in range(4)]
    cells = [
        {"partner_id": "p1", "dimension": "all", "value": "all", "closed": 14, "won": 9, "days": 90},
        {"partner_id": "p1", "dimension": "vertical", "value": "telecom", "closed": 14, "won": 9, "days": 90},
    ]
    snap = snapshot(partners, p={"p0": 0.2, "p1": 0.6, "p2": 0.4, "p3": 0.1}, cells=cells)
    with Router.open(snap) as router:
        yield router.route(
            {"lead_id": "l1", "created_at": AS_OF.isoformat(), "country": "DE", "vertical": "telecom"}, now=NOW
        )


def test_reads_back_as_it_was_written(decision):
    assert Decision.from_json(decision.to_json()) == decision
    assert json.loads(decision.to_json())["decided_at"] == "2026-06-01T10:00:00+00:00"


def test_tells_itself_in_words(decision):
    words = decision.words({"p1": "Firm 1"})
    for part in (
        "lead l1: the most likely to close of 4 eligible",
        "partner Firm 1 (p1), 60.0 % to win",
        "won 9 of 14 telecom deals and leads",
        "0 of 5 open leads",
        "next: p2, 40.0 % to win; chosen if its chance to win were 20 percentage points higher\n",
        "of 4 partners 4 are eligible\n",
        "policy greedy",
    ):
        assert part in words


def test_alternatives_tell_how_far_they_were_behind(decision):
    assert [(other.partner_id, other.rank) for other in decision.alternatives] == [("p2", 2), ("p0", 3), ("p3", 4)]
    assert [other.behind for other in decision.alternatives] == pytest.approx([0.2, 0.4, 0.5])


def test_what_would_have_changed_the_choice_is_what_it_lacked():
    lead = {"lead_id": "l1", "created_at": AS_OF.isoformat()}
    chances, prices = {"p0": 0.3, "p1": 0.6, "p2": 0.58}, {"p1": 0.1, "p2": 0.05}
    with Router.open(snapshot(3, p=chances, prices=prices)) as router:
        decision = router.route(lead, now=NOW)
    assert decision.partner_id == "p2"
    words = decision.words()
    assert "  partner p2, 58.0 % to win, price 0.05\n" in words
    # .6 - .1 is .5, and .58 - .05 is .53
    lacked = "chosen if its chance to win were {} percentage points higher"
    assert f"  next: p1, 60.0 % to win, price 0.1; {lacked.format(3)}\n" in words
    assert f"  next: p0, 30.0 % to win, price 0; {lacked.format(23)}\n" in words
    assert decision.place_of("p1") == f"rank 2 of 3 eligible; {lacked.format(3)}"
    assert decision.place_of("p1", audience="partner") == "rank 2 of 3 eligible"
    assert decision.place_of("p2") == f"it has the lead: {decision.why}"
    assert decision.place_of("p9") == ""
    with Router.open(snapshot(3, p={**chances, "p1": 0.63}, prices=prices)) as router:
        assert router.route(lead, now=NOW).alternatives[0].behind == pytest.approx(0.0)
    with Router.open(snapshot(3, p={**chances, "p1": 0.65}, prices=prices)) as router:
        assert router.route(lead, now=NOW).partner_id == "p1"


@pytest.mark.parametrize(
    ("policy", "objective", "behind", "words"),
    [
        ("greedy", "win", 0.0, "; as good"),
        ("champion:greedy", "win", 0.01, "; chosen if its chance to win were 1 percentage point higher"),
        ("greedy", "win", 0.00456, "; chosen if its chance to win were 0.456 percentage points higher"),
        ("softmax", "win", 0.25, "; level if its chance to win were 25 percentage points higher"),
        ("greedy", "accept_and_win", 0.1, "; chosen if its chance to accept and win were 10 percentage points higher"),
        ("challenger:softmax", "win", -0.25, "; ahead by 25 percentage points of chance to win, but the draw chose"),
        ("greedy", "value", 412.5, "; chosen if worth 412.50 more"),
        ("batch", "value", -1234.5, "; worth 1,234.50 more, but others of the batch needed it"),
        ("softmax", None, 0.25, "; level if worth 0.25 more"),  # of an early version
        ("round_robin", "win", 0.25, ""),
        ("challenger:round_robin", "win", 0.25, ""),
    ],
)
def test_how_it_is_told_hangs_on_the_policy_and_the_objective(decision, policy, objective, behind, words):
    assert decision.objective == "win"
    other = dataclasses.replace(decision.alternatives[0], behind=behind)
    told_of = dataclasses.replace(decision, policy=policy, objective=objective, alternatives=(other,))
    (line,) = (line for line in told_of.words().splitlines() if line.startswith("  next: p2"))
    assert line.startswith(f"  next: p2, 40.0 % to win{words}")
    assert bool(words) == (";" in line)


def test_a_funnel_is_told_once_and_one_partner_is_one():
    with Router.open(snapshot(1)) as router:
        lead = {"lead_id": "l1", "created_at": AS_OF.isoformat(), "excluded_partners": ["p0"]}
        words = router.route(lead, now=NOW).words()
    assert words.count("of 1 partner none is eligible; left out: 1 by exclusions") == 1


def test_a_partner_sees_its_own_facts_and_nobody_else(decision):
    for partner, own in (("p1", True), ("p2", False), ("p9", False)):
        shown = decision.for_partner(partner)
        text = json.dumps(shown)
        assert shown["yours"] == own
        assert bool(shown["facts"]) == own
        assert not any(other in text for other in ("p0", "p1", "p2", "p3", "Firm"))
    assert decision.for_partner("p2")["rank"] == 2
    assert decision.for_partner("p2")["offer_id"] is None


def test_seeds_differ_between_leads_and_decisions_and_fit_a_database():
    seeds = {seed_of(seed, lead, number) for seed in (0, 1) for lead in ("a", "b|0", "b") for number in (0, 1)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_status_that_there_is_not_is_our_fault(decision):
    document = {**json.loads(decision.to_json()), "status": "given"}
    with pytest.raises(InternalError, match="'given'"):
        Decision.from_json(json.dumps(document))


def test_an_empty_funnel_says_nothing():
    assert told(()) == ""


def test_prices_are_found_again_by_their_content(tmp_path):
    book = PriceBook(tmp_path)
    found = book.keep([0.0, 0.25])
    assert found == book.keep([0.0, 0.25]) == PriceBook(None).keep([0.0, 0.25])
    assert PriceBook(tmp_path).find(found).tolist() == [0.0, 0.25]
    with pytest.raises(InputError, match="restore the file"):
        book.find("0" * 12)
    with pytest.raises(InputError, match="another router"):
        PriceBook(None).find(found)
    path = tmp_path / "prices" / f"{found}.npy"
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(ModelError, match="damaged"):
        book.find(found)
    path.write_bytes(b"no array")
    with pytest.raises(ModelError, match="cannot be read"):
        book.find(found)


def test_what_a_partner_is_told_of_a_lead_that_is_not_free_names_nobody():
    account = {"account_id": "a1", "owner_partner_id": "p2"}
    lead = {"lead_id": "l1", "created_at": AS_OF.isoformat(), "account_id": "a1"}
    with Router.open(snapshot(3, accounts=[account])) as router:
        (vendor,) = router.why_not(lead, "p0", now=NOW)
        (partner,) = router.why_not(lead, "p0", now=NOW, audience="partner")
        assert "p2" in vendor.evidence
        assert "p2" not in json.dumps(partner)
        assert router.why_not(lead, "p2", now=NOW) == ()
        with pytest.raises(ConfigError, match="'owner'"):
            router.why_not(lead, "p0", now=NOW, audience="owner")


def test_a_lead_that_is_given_back_is_owed_again_in_turn():
    snap = snapshot(3, config={"policy": {"kind": "round_robin"}})
    with Router.open(snap) as router:
        lead = {"lead_id": "l1", "created_at": AS_OF.isoformat()}
        first = router.route(lead, now=NOW)
        room = router._in_use.opened.way.capacity
        before = router.ledger.standing(now=NOW, capacity=room)[1][first.partner_id]
        second = router.respond(first.offer_id, "declined", now=NOW)
        assert router.ledger.standing(now=NOW, capacity=room)[1][first.partner_id] == pytest.approx(before + 1.0)
        assert router.replay(second.decision_id) == second
