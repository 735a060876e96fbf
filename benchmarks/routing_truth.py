"""Who gets the leads, held against the truth: on a made-up world the chance that each partner wins each lead is known.

    python benchmarks/routing_truth.py [--partners 6000] [--months 30] [--days 14] [--seed 0]

A model of close is trained on what was known two weeks before the end; then every new lead of these two weeks is routed
as it comes, each day by the snapshot of its midnight, once by each policy, each with a ledger of its own: by the model,
by the nearest partner, by the highest win rate, in turn, at random, and by an oracle that knows the truth. Printed is
the mean true chance of the partners that were chosen, with the load that they had by then, and how far that is on the
way from random to the oracle, with an interval by bootstrap over leads.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from partnerml import Ecosystem, Router, tasks
from partnerml.config import PolicyConfig, RoutingConfig
from partnerml.models import Model
from partnerml.pairs import Pairing
from partnerml.progress import Progress
from partnerml.publishing import snapshot_of
from partnerml.routing import Ledger, Snapshot
from partnerml.routing._scorer import CallableScorer, RateScorer
from partnerml.synthetic import SyntheticEcosystem, simulate
from partnerml.training import train

START = dt.date(2024, 1, 1)
DISTANCE = "pair__place__distance_km__asof"
REPLICATES = 2_000
BAR = 0.9
# of a lead, what routing reads
COLUMNS = (
    *("lead_id", "created_at", "account_id", "country", "region", "postal_code", "latitude", "longitude", "vertical"),
    *("product", "amount", "currency", "languages", "required_certifications"),
)
Changed = Callable[[Snapshot, SyntheticEcosystem, dt.datetime], Snapshot]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=6_000)
    parser.add_argument("--months", type=int, default=30)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    world = simulate(partners=arguments.partners, start=START, months=arguments.months, seed=arguments.seed)
    first = world.end - dt.timedelta(days=arguments.days)
    with Ecosystem.from_frames(**world.tables, now=world.end) as eco:
        model = train(eco, tasks.close(), until=first, seed=arguments.seed, progress=Progress.on())
        days = [first + dt.timedelta(days=day) for day in range(arguments.days)]
        found = routed(world, eco, model, days)
    show(found, seed=arguments.seed)


def routed(
    world: SyntheticEcosystem, eco: Ecosystem, model: Model, days: list[dt.datetime]
) -> Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return for each policy the true chance of the partner that each lead went to, 0 where nobody was eligible."""
    ledgers = {name: Ledger.open(None) for name in POLICIES}
    held: dict[str, Counter[str]] = {name: Counter() for name in POLICIES}
    chances: dict[str, list[float]] = {name: [] for name in POLICIES}
    for day in days:
        published = snapshot_of(eco, as_of=day, model=model)
        leads = arrived(world, day)
        for name, changed in POLICIES.items():
            router = Router(changed(published, world, day), ledgers[name], reasons=False)
            for lead in leads:
                decision = router.route(lead, now=lead["created_at"])
                partner = decision.partner_id
                if decision.status != "assigned" or partner is None:
                    chances[name].append(0.0)
                    continue
                load = held[name][partner]
                chance = world.truth.pair_probability([lead["lead_id"]], [partner], at=day, open_leads=[load])
                chances[name].append(float(chance[0]))
                held[name][partner] += 1
    return {name: np.array(values) for name, values in chances.items()}


def arrived(world: SyntheticEcosystem, day: dt.datetime) -> list[dict[str, Any]]:
    """Return the leads of a day that nobody handed in, in the order of their moments."""
    leads = world.tables["leads"].to_pandas()
    created = leads["created_at"].dt.tz_localize("UTC") if leads["created_at"].dt.tz is None else leads["created_at"]
    fresh = (created >= day) & (created < day + dt.timedelta(days=1)) & leads["source_partner_id"].isna()
    rows = leads.assign(created_at=created).loc[fresh].sort_values(["created_at", "lead_id"])
    return rows[[name for name in COLUMNS if name in rows.columns]].to_dict("records")


def by_model(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    return dataclasses.replace(snapshot, config=free())


def at_random(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    return dataclasses.replace(snapshot, config=free(PolicyConfig(kind="epsilon", epsilon=1.0)))


def in_turn(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    return dataclasses.replace(snapshot, config=free(PolicyConfig(kind="round_robin")))


def by_win_rate(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    return dataclasses.replace(snapshot, config=free(), scorer=RateScorer())


def nearest(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    def near(situation: Any, rows: Any) -> Any:
        km = Pairing(situation.encoded, situation.snapshot.facts, 0, rows).features([DISTANCE])[:, 0]
        return 1.0 / (1.0 + np.nan_to_num(km, nan=1e6))

    return dataclasses.replace(snapshot, config=free(), scorer=CallableScorer(near, version="nearest"))


def by_truth(snapshot: Snapshot, world: SyntheticEcosystem, day: dt.datetime) -> Snapshot:
    def true(situation: Any, rows: Any) -> Any:
        partners = situation.snapshot.partners.partner_id[rows]
        leads = [situation.lead.lead_id] * len(rows)
        return world.truth.pair_probability(leads, partners, at=day, open_leads=situation.load.open[rows])

    return dataclasses.replace(snapshot, config=free(), scorer=CallableScorer(true, version="truth"))


def free(policy: PolicyConfig | None = None) -> RoutingConfig:
    """Return the configuration: leads that look alike are many in a made-up world, so duplicates are not looked for."""
    routing = RoutingConfig.model_validate({"duplicates": {"enabled": False}})
    return routing if policy is None else routing.model_copy(update={"policy": policy})


POLICIES: Mapping[str, Changed] = {
    "by the model": by_model,
    "nearest": nearest,
    "win rate": by_win_rate,
    "in turn": in_turn,
    "at random": at_random,
    "oracle": by_truth,
}


def show(found: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]], *, seed: int) -> None:
    frame = pd.DataFrame(found)
    given = frame[(frame > 0).all(axis=1)]
    drawn = np.random.default_rng(seed).integers(0, len(given), (REPLICATES, len(given)))
    values = given.to_numpy()
    means = np.stack([values[rows].mean(axis=0) for rows in drawn])
    places = {name: place for place, name in enumerate(given.columns)}
    mean = dict(zip(given.columns, values.mean(axis=0), strict=True))
    low, high = places["at random"], places["oracle"]
    table = Table(
        "policy", "mean true chance", "on the way from random to the oracle", "95 % interval",
        title=f"{len(given):,} of {len(frame):,} leads that every policy could give to somebody",
    )  # fmt: skip
    for name, place in places.items():
        way = (means[:, place] - means[:, low]) / (means[:, high] - means[:, low])
        of_all = (values[:, place].mean() - values[:, low].mean()) / (values[:, high].mean() - values[:, low].mean())
        edges = np.quantile(way, (0.025, 0.975))
        table.add_row(
            name, f"{values[:, place].mean():.4f}", f"{100 * of_all:.1f} %",
            f"{100 * edges[0]:.1f} to {100 * edges[1]:.1f} %",
        )  # fmt: skip
    Console(width=120).print(table)
    share = (mean["by the model"] - mean["at random"]) / (mean["oracle"] - mean["at random"])
    print(f"{100 * share:.1f} % of the way (bar: at least 90): {'held' if share >= BAR else 'NOT HELD'}")
    beaten = all(mean["by the model"] > mean[name] for name in ("nearest", "win rate", "in turn"))
    print(f"better than nearest, win rate and in turn (bar): {'held' if beaten else 'NOT HELD'}")


if __name__ == "__main__":
    main()
