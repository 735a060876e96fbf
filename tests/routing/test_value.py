"""Utilities in money, as the documentation of the objective `value` tells them."""

import datetime as dt

import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml.routing import Router

NOW = AS_OF + dt.timedelta(hours=10)
CHANCES = {"p0": 0.50, "p1": 0.48}


def routed(policy, **lead):
    config = {"objective": "value", "policy": policy}
    with Router.open(snapshot(2, p=CHANCES, config=config)) as router:
        return router.rank({"lead_id": "l1", "created_at": AS_OF.isoformat(), **lead}, now=NOW)


@pytest.mark.parametrize("amount", [None, 0, 20_000])
def test_a_lead_without_amount_counts_as_one_and_goes_to_the_same(amount):
    found = routed({"kind": "greedy"}, amount=amount)
    assert found["partner_id"].tolist() == ["p0", "p1"]
    assert found["utility"].tolist() == pytest.approx([p * (amount or 1.0) for p in CHANCES.values()])
    assert found["propensity"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("temperature", "amount", "best"),
    [(0.05, 20_000, 1.0), (200.0, 20_000, 0.881), (200.0, None, 0.5)],
)
def test_the_temperature_is_in_money(temperature, amount, best):
    # 400 apart, at 200: 1 / (1 + exp(-2))
    found = routed({"kind": "softmax", "temperature": temperature}, amount=amount)
    assert found["propensity"][0] == pytest.approx(best, abs=1e-3)
