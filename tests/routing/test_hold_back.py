"""Leads that are worth less than the capacity they would take: held back where that is asked for, and only there."""

import datetime as dt

import numpy as np
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)


def scored(situation, rows):
    """Return the chance that the lead's id names, in percent, a little less for each next partner."""
    return int(situation.lead.lead_id.split("-")[1]) / 100.0 - 0.001 * rows


def lead(number, percent):
    return {"lead_id": f"l{number}-{percent}", "created_at": AS_OF.isoformat(), "country": "DE"}


def opened(**more):
    """Return a router whose partners have room for 8 leads more, and which has seen one poor and three good leads."""
    partners = [{"country": "DE", "max_open_leads": 6} for _ in range(2)]
    router = Router.open(snapshot(partners, p=scored, config=more))
    for number, percent in enumerate((20, 80, 81, 82)):
        router.route(lead(number, percent), now=NOW)
    return router


def test_a_poor_lead_falls_back_where_better_ones_need_the_capacity():
    with opened(hold_back=True) as router:
        prices = router.reprice(expected=16, now=NOW)
        assert min(prices.values()) > 0.2  # 16 such leads are to come, 4 of them poor, and there is room for 8
        poor, good = (router.route(lead(9, percent), now=NOW) for percent in (20, 83))
        assert (poor.status, poor.partner_id, poor.propensity) == ("fallback", None, None)
        assert "2 eligible, but better leads need the capacity: with p" in poor.why
        assert poor.n_eligible == 2
        assert good.status == "assigned"
        vector = router.ledger.export("vectors").query("decision_id == @poor.decision_id").iloc[0]
        assert list(vector["probability"]) == [0.0, 0.0]
        assert max(vector["utility"]) < 0
        for decision in (poor, good):
            assert router.replay(decision.decision_id).to_json() == decision.to_json()
        assert router.ledger.audit() == []


def test_without_it_every_lead_is_given_out_while_there_is_room():
    with opened() as router:
        router.reprice(expected=16, now=NOW)
        poor = router.route(lead(9, 20), now=NOW)
        assert poor.status == "assigned"
        assert poor.utility < 0


def test_without_prices_nothing_is_held_back():
    with opened(hold_back=True) as router:
        assert router.route(lead(9, 1), now=NOW).status == "assigned"


def test_a_lead_that_was_held_back_counts_when_prices_are_found_anew():
    with opened(hold_back=True) as router:
        router.reprice(expected=16, now=NOW)
        for number in range(20):
            router.route(lead(100 + number, 20), now=NOW)
        assert router.route(lead(8, 30), now=NOW).status == "fallback"
        # nearly all leads are poor by now: a little better is good enough
        router.reprice(expected=16, now=NOW)
        assert router.route(lead(9, 30), now=NOW).status == "assigned"


@pytest.mark.parametrize("policy", [{"kind": "greedy"}, {"kind": "softmax", "temperature": 0.001}])
def test_a_stream_wins_more_where_poor_leads_may_wait(policy):
    rng = np.random.default_rng(5)
    stream = rng.permutation([90] * 40 + [10] * 60)
    won = {}
    for held in (False, True):
        partners = [{"country": "DE", "max_open_leads": 10} for _ in range(4)]
        snap = snapshot(partners, p=scored, config={"hold_back": held, "policy": policy})
        with Router.open(snap) as router:
            total = 0.0
            for number, percent in enumerate(stream):
                decision = router.route(lead(number, percent), now=NOW)
                total += decision.p_win or 0.0
                if number % 10 == 9:
                    router.reprice(expected=100 - number, now=NOW)
            won[held] = total
    assert won[True] > 1.2 * won[False]
