"""Amounts of leads are read in the currency of the tables; where there is no rate, that is said."""

import datetime as dt
import json

import pandas as pd
import pytest
from tests.routing.made_up import AS_OF, snapshot

from partnerml import Ecosystem, publishing
from partnerml.config import Config, CurrencyConfig
from partnerml.errors import DataError
from partnerml.routing import Router
from partnerml.routing._snapshot import Snapshot

NOW = AS_OF + dt.timedelta(hours=9)
RULE = CurrencyConfig(to="EUR", rates={"JPY": 0.006, "USD": 0.9})


def lead(name="l1", amount=6000.0, currency="EUR", **more):
    row = {"lead_id": name, "created_at": "2026-06-01T08:00:00Z", "amount": amount, "currency": currency, **more}
    return {column: value for column, value in row.items() if value is not None}


def world(rule=RULE, **more) -> Snapshot:
    """The first partner takes deals from 5,000 on, and wins more of them."""
    return snapshot([{"min_deal_amount": 5_000.0}, {}], p={"p0": 0.6, "p1": 0.5}, currency=rule, **more)


@pytest.mark.parametrize(
    ("amount", "currency", "chosen"),
    [
        (6000.0, "EUR", "p0"),
        (6000.0, "USD", "p0"),  # 5,400
        (5500.0, "USD", "p1"),  # 4,950
        (6000.0, "JPY", "p1"),  # 36
        (900_000.0, "JPY", "p0"),
        (6000.0, None, "p0"),  # is in the currency of the others
        (None, "CHF", "p1"),
        (0.0, "CHF", "p1"),
    ],
)
def test_a_rule_reads_the_amount_in_the_currency_of_the_tables(amount, currency, chosen):
    with Router.open(world()) as router:
        asked = lead(amount=amount, currency=currency)
        assert router.rank(asked, now=NOW).partner_id[0] == chosen
        assert bool(router.why_not(asked, "p0", now=NOW)) == (chosen == "p1")
        assert router.dry_run([asked], now=NOW)[0].partner_id == chosen
        decision = router.route(asked, now=NOW)
        assert decision.partner_id == chosen
        # the payload stays as it came
        assert router.route(asked, now=NOW) == decision
        assert router.replay(decision.decision_id) == decision
        (payload,) = router.ledger.payloads(["l1"]).values()
        assert json.loads(payload).get("amount") == amount


def test_a_batch_weighs_leads_by_what_they_are_worth():
    pytest.importorskip("numba")
    made = snapshot([{"max_open_leads": 1}] * 2, p={"p0": 0.6, "p1": 0.5}, currency=RULE, config={"objective": "value"})
    leads = [lead("yen", 20_000.0, "JPY"), lead("euro", 10_000.0), lead("dollar", 9_000.0, "USD")]
    with Router.open(made) as router:
        found = {decision.lead_id: decision.partner_id for decision in router.assign(leads, now=NOW).decisions}
    assert found == {"yen": None, "euro": "p0", "dollar": "p1"}


def test_without_a_rate_nothing_is_decided_and_it_is_said_what_to_do(ledger_url):
    told = "amount is in CHF, and amounts here are in EUR; name the rate in data.currency.rates and publish again"
    with Router.open(world(), ledger=ledger_url) as router:
        for ask in (router.route, router.rank, lambda lead, now: router.why_not(lead, "p0", now=now)):
            with pytest.raises(DataError, match=f"lead 'l1': its {told}"):
                ask(lead(currency="CHF"), now=NOW)
        for ask in (router.assign, router.dry_run):
            with pytest.raises(DataError, match=f"leads: 1 of 2 cannot be decided, first lead 'l1': its {told}"):
                ask([lead("l0"), lead(currency="CHF")], now=NOW)
        assert router.ledger.payloads(["l0", "l1"]) == {}


def test_a_lead_goes_on_though_a_later_snapshot_has_no_rate():
    with Router.open(world()) as router:
        first = router.route(lead(currency="USD"), now=NOW)
        assert first.partner_id == "p0"
        router._in_use.opened = type(router._in_use.opened).of(world(CurrencyConfig(to="EUR")))
        assert router.route(lead(currency="USD"), now=NOW) == first
        following = router.respond(first.offer_id, "declined", now=NOW)
        assert following.partner_id == "p1"
        assert router.assign([lead(currency="USD")], now=NOW).decisions == (following,)


def test_where_nobody_says_a_currency_amounts_are_taken_as_they_come():
    with Router.open(world(None)) as router:
        assert router.route(lead(currency="CHF"), now=NOW).partner_id == "p0"


def test_it_is_published_with_the_snapshot(tmp_path):
    made, without = snapshot(2, cells=[], currency=RULE), snapshot(2, cells=[])
    assert Snapshot.open(made.write(tmp_path)).currency == RULE
    assert Snapshot.open(without.write(tmp_path)).currency is None
    assert made.id != without.id


@pytest.mark.parametrize(
    ("settings", "codes", "found"),
    [
        ([], ["EUR", "EUR"], CurrencyConfig(to="EUR")),
        ([], [None, "USD"], CurrencyConfig(to="USD")),
        ([], [None, None], None),
        (
            ["data.currency.to=EUR", "data.currency.rates.USD=0.9"],
            ["EUR", "USD"],
            RULE.model_copy(update={"rates": {"USD": 0.9}}),
        ),
    ],
)
def test_the_currency_is_that_of_the_tables(settings, codes, found):
    deals = {
        "deal_id": ["d1", "d2"],
        "partner_id": ["p0", "p0"],
        "registered_at": ["2026-01-01", "2026-01-02"],
        "outcome": ["open", "open"],
        "amount": [10.0, 20.0],
        "currency": codes,
    }
    partners = {"partner_id": ["p0"], "joined_at": ["2025-01-01"]}
    config = Config.of_source(None, settings)
    with Ecosystem.from_frames(config=config, partners=pd.DataFrame(partners), deals=pd.DataFrame(deals)) as eco:
        assert publishing._currency(eco) == found
