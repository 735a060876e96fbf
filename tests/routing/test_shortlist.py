"""The first stage keeps those that the scorer would put first."""

import dataclasses

import numpy as np
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing._lead import Lead
from partnerml.routing._scorer import CallableScorer, log_odds
from partnerml.routing._shortlist import shortlist
from partnerml.routing._situation import Load, Situation

STAGE = {"above": 10, "keep": 4}


def case(n: int = 30, *, lead=None, **changes) -> Situation:
    p = {f"p{i}": (i * 7 % 31) / 40 for i in range(n)}
    config = {"first_stage": STAGE, **changes.pop("config", {})}
    made = snapshot(n, p=p, config=config, **changes)
    return Situation(Lead.of({"lead_id": "a", **(lead or {})}), AS_OF, made, Load.none(n), frozenset(), (), made.config)


def best(utility, rows, keep=4):
    """Return the best by utility, the first rows of equals, in their order."""
    return sorted(sorted(rows, key=lambda row: (-utility[row], row))[:keep])


def test_few_are_all_kept():
    rows = np.arange(3, 13)
    assert shortlist(case(), rows) is rows


def test_the_best_are_kept_in_their_order():
    situation, rows = case(), np.arange(1, 30, 2)
    p = situation.snapshot.scorer.score(situation, np.arange(30)).p
    assert shortlist(situation, rows).tolist() == best(p, rows.tolist())


def test_of_equals_the_first_rows():
    made = snapshot(30, p=dict.fromkeys((f"p{i}" for i in range(30)), 0.4), config={"first_stage": STAGE})
    situation = dataclasses.replace(case(), snapshot=made)
    assert shortlist(situation, np.arange(5, 30)).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("objective", ["win", "value", "accept_and_win"])
@pytest.mark.parametrize("amount", [None, 5_000.0])
def test_by_utility(objective, amount):
    prices = {f"p{i}": 0.3 for i in range(20, 30)}
    answers = [
        {"lead_id": "l", "partner_id": "p3", "assigned_at": f"2026-05-{day:02}", "response": "declined"}
        for day in range(1, 20)
    ]
    accepted = {"lead_id": "l", "partner_id": "p4", "assigned_at": "2026-05-01", "response": "accepted"}
    situation = case(
        config={"objective": objective},
        prices=prices,
        assignments=[*answers, accepted],
        lead={} if amount is None else {"amount": amount},
    )
    made, rows = situation.snapshot, np.arange(30)
    p = made.scorer.score(situation, rows).p
    value = {"win": 1.0, "value": amount or 1.0, "accept_and_win": made.acceptance}[objective]
    assert shortlist(situation, rows).tolist() == best(p * value - made.prices, rows.tolist())


class Under(CallableScorer):
    """Glances below a ceiling."""

    ceiling = 0.8

    def glance(self, situation, rows):
        return log_odds(self.score(situation, rows).p / self.ceiling)


def test_a_ceiling_counts_where_something_is_taken_off():
    situation, rows = case(prices={f"p{i}": 0.14 for i in range(20, 30)}), np.arange(30)
    p, prices = situation.snapshot.scorer.score(situation, rows).p, situation.snapshot.prices
    lower = dataclasses.replace(situation.snapshot, scorer=Under(lambda _, some: p[some]))
    kept = shortlist(dataclasses.replace(situation, snapshot=lower), rows).tolist()
    assert kept == best(p - prices, rows.tolist()) != best(p / Under.ceiling - prices, rows.tolist())


def test_whose_turn_it_is_depends_on_no_score():
    situation = case(config={"policy": {"kind": "round_robin"}})
    assert len(shortlist(situation, np.arange(30))) == 30
    situation = case(config={"split": {"share": 0.5, "policy": {"kind": "round_robin"}}})
    assert len(shortlist(situation, np.arange(30))) == 30
