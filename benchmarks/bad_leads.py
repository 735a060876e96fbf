"""Leads that are wrong in every way that hypothesis can think of: each is refused clearly, or decided and whole.

    python benchmarks/bad_leads.py [--leads 10000]

Routes them on a ledger in a SQLite file, each of them twice, and prints what became of them; anything but a clear error
or a decision that stands stops the run. At the end the ledger is held against what was answered.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.routing.made_up import AS_OF, snapshot
from tests.routing.test_lead import PAYLOADS

from partnerml.errors import InputError
from partnerml.routing import Router

IDS = st.one_of(st.uuids().map(str), st.text(min_size=1, max_size=9))
NOW = AS_OF + dt.timedelta(hours=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=10_000)
    arguments = parser.parse_args()
    partners = [{"country": "DE", "verticals": ["retail"]}, {"max_deal_amount": 1e6}, {"languages": ["de"]}, {}]
    snap = snapshot(partners, config={"objective": "value", "policy": {"kind": "softmax"}})
    with tempfile.TemporaryDirectory() as folder, Router.open(snap, ledger=f"sqlite:///{folder}/ledger.db") as router:
        began = time.perf_counter()
        found, answered = routed(router, arguments.leads)
        seconds = time.perf_counter() - began
        print(f"{sum(found.values()):,} leads in {seconds:.0f} s: " + ", ".join(f"{n:,} {k}" for k, n in found.items()))
        same = set(router.ledger.export("decisions")["decision_id"]) == answered
        wrong = router.ledger.audit() or "nothing"
        print(f"the ledger holds what was answered and nothing else: {same}; not as it must be: {wrong}")


def routed(router: Router, leads: int) -> tuple[Counter[str], set[str]]:
    """Return what became of the leads, and the decisions that were answered."""
    found: Counter[str] = Counter()
    answered: set[str] = set()

    @settings(max_examples=leads, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(payload=PAYLOADS, lead_id=IDS)
    def one(payload: dict[Any, Any], lead_id: str) -> None:
        try:
            decision = router.route({**payload, "lead_id": lead_id}, now=NOW)
        except InputError:
            found["refused"] += 1
            return
        assert router.route({**payload, "lead_id": lead_id}, now=NOW).to_json() == decision.to_json()
        answered.add(decision.decision_id)
        found[decision.status] += 1

    one()
    return found, answered


if __name__ == "__main__":
    main()
