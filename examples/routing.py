"""From a made-up partner programme to leads that are routed, answered, closed, and decided again.

    python examples/routing.py [--partners 300]

Trains close probability on what was known at the end of two years, takes a snapshot of the programme, and routes the
latest leads that no partner holds: by the best score, then as it would be with a little exploration.
"""

from __future__ import annotations

import argparse
import datetime as dt
from typing import Any

from partnerml import Ecosystem, Router, tasks, train
from partnerml.config import RoutingConfig
from partnerml.publishing import snapshot_of
from partnerml.synthetic import SyntheticEcosystem, simulate

REFUSED = ("declined", "expired", "withdrawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=300)
    partners = parser.parse_args().partners

    world = simulate(partners=partners, months=24, seed=0)
    with Ecosystem.from_frames(now=world.end, **world.tables) as eco:
        model = train(eco, tasks.close(), until=world.end)
        snapshot = snapshot_of(eco, as_of=world.end, model=model)
    print(f"snapshot {snapshot.id} of {len(snapshot):,} partners, model {model.version}")
    names = dict(zip(snapshot.partners.partner_id, snapshot.partners.name, strict=True))

    # in memory; a service names the file OUT/snapshots/current and a database
    with Router.open(snapshot) as router:
        leads = nobodys_leads(world, 30)
        morning = world.end + dt.timedelta(hours=9)
        would = router.dry_run(leads, now=morning)
        decisions = [router.route(lead, now=morning) for lead in leads]
        print("as in the dry run:", [one.partner_id for one in would] == [one.partner_id for one in decisions])
        for status in sorted({decision.status for decision in decisions}):
            print(f"{sum(decision.status == status for decision in decisions):4} {status}")

        first = next(decision for decision in decisions if decision.status == "assigned")
        print(first.words(names))
        print("for its partner:", first.for_partner(str(first.partner_id))["facts"])

        following = router.respond(
            str(first.offer_id), "declined", now=morning + dt.timedelta(hours=1), by="the partner"
        )
        print(f"declined; then: {following.status}, {following.partner_id}")
        for failed in router.why_not(first.lead_id, str(first.partner_id), now=morning + dt.timedelta(hours=1)):
            print(f"why not {first.partner_id} again: {failed.evidence}")
        print("decided again, the same:", all(router.replay(one.decision_id) == one for one in decisions))

        explores = RoutingConfig.model_validate({"policy": {"kind": "softmax", "temperature": 0.1}})
        beside = router.simulate(world.end, config=explores)
        print(f"with exploration {beside['changed'].sum()} of {len(beside)} leads would have gone elsewhere")

        assignments = router.ledger.export("assignments")
        print(f"{len(assignments)} rows to learn from, {len(router.ledger.audit())} remarks of the audit")


def nobodys_leads(world: SyntheticEcosystem, most: int) -> list[dict[str, Any]]:
    """Return the latest leads that no partner holds."""
    answers = world.tables["assignments"].select(["lead_id", "response"]).to_pylist()
    held = {answer["lead_id"] for answer in answers if answer["response"] not in REFUSED}
    leads = [lead for lead in world.tables["leads"].to_pylist() if lead["lead_id"] not in held]
    return sorted(leads, key=lambda lead: lead["created_at"])[-most:]


if __name__ == "__main__":
    main()
