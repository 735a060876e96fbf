"""Routing real leads to real sellers: the public Olist data, by the mapping in configs/olist_routing.yaml.

    python examples/olist_routing.py [FOLDER]

FOLDER holds Olist's files, as for examples/olist_churn.py, which says where to get them. Without the folder this does
nothing.

A partner is a seller on a marketplace, a lead an order that comes in: a category, an amount, and no place, since the
files do not tell where customers live. Trains and takes a snapshot by what was known on 2018-06-01, routes the orders
of six days one by one, and those of the next three as one batch.

What can be learnt from these files is whether a seller will sell anything of a category within three weeks; see the
mapping. That is checked here against what happened. What cannot be learnt is whether another seller would have won an
order: each was won by the one that sold it, and nobody knows who else was asked. So no figure here says how many more
orders would have been won by routing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partnerml import Ecosystem, Router, tasks, train
from partnerml.publishing import snapshot_of
from partnerml.routing import Decision

ROOT = Path(__file__).resolve().parents[1]
AS_OF = pd.Timestamp("2018-06-01", tz="UTC")
ALONE, TOGETHER = (AS_OF + pd.Timedelta(days=days) for days in (6, 9))
HORIZON = pd.Timedelta(days=21)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT.parent / "shared" / "data" / "olist")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        print(f"{folder} is not there. Get the files from kaggle.com/olistbr and name their folder:")
        print("    python examples/olist_routing.py FOLDER")
        return
    sales = sales_of(folder)
    orders = sales[sales["sold_at"] >= AS_OF].drop_duplicates("order_id")
    with tempfile.TemporaryDirectory() as out:
        snapshot = published(folder, Path(out))
        with Router.open(snapshot, ledger=f"sqlite:///{out}/ledger.db") as router:
            print(f"snapshot of {len(router.snapshot):,} sellers, as of {router.snapshot.as_of:%Y-%m-%d}")
            alone = one_by_one(router, orders[orders["sold_at"] < ALONE])
            explained(router, alone)
            at_once(router, orders[orders["sold_at"].between(ALONE, TOGETHER, inclusive="left")], now=TOGETHER)
            compared(router, alone, sales)


def sales_of(folder: Path) -> pd.DataFrame:
    """Return what was sold: ``order_id``, ``seller_id``, ``sold_at``, ``category`` and ``price``, in order of time."""
    items = pd.read_parquet(folder / "olist_order_items.parquet")
    categories = pd.read_csv(folder / "olist_products_category.csv.gz")
    english = pd.read_csv(folder / "product_category_name_translation.csv", encoding="utf-8-sig", index_col=0)
    sales = items.merge(categories, on="product_id")
    name = sales["product_category_name"]
    sales["category"] = name.map(english["product_category_name_english"]).fillna(name)
    sales["sold_at"] = sales["shipping_limit_date"].dt.tz_convert("UTC").dt.floor("s")
    sales = sales.dropna(subset="category").sort_values(["sold_at", "order_id", "order_item_id"])
    return sales[["order_id", "seller_id", "sold_at", "category", "price"]]


def published(folder: Path, out: Path) -> Path:
    """Train close on what was known, write a snapshot, and return its folder.

    `partnerml train close` and `partnerml publish` do the same, and keep the model in a registry.
    """
    overrides = [f"data.source={folder}", f"output={out}"]
    with Ecosystem.open(ROOT / "configs" / "olist_routing.yaml", overrides=overrides) as eco:
        eco.validate().raise_for_errors()
        model = train(eco, tasks.configured(eco.config, "close"), until=AS_OF)
        print(model.evaluation["verdict"]["reason"])
        return snapshot_of(eco, as_of=AS_OF, model=model).write(out / "snapshots")


def lead(order: Any) -> dict[str, Any]:
    """Return an order as a lead: as much as is known before anybody has it."""
    return {
        "lead_id": order.order_id,
        "created_at": order.sold_at,
        "country": "BR",
        "vertical": order.category,
        "amount": order.price,
        "currency": "BRL",
    }


def one_by_one(router: Router, orders: pd.DataFrame) -> list[Decision]:
    """Route orders as they come."""
    decisions = [router.route(lead(order), now=order.sold_at) for order in orders.itertuples()]
    given = [decision.partner_id for decision in decisions if decision.partner_id is not None]
    print(f"\none by one: {len(given):,} of {len(orders):,} orders go to {len(set(given)):,} sellers")
    return decisions


def explained(router: Router, decisions: list[Decision]) -> None:
    """Print one decision in words, and why others did not get the lead: one that was full, and one that has left."""
    crowded = [one for one in decisions if any(step.rule == "capacity" and step.removed for step in one.funnel)]
    last = crowded[-1]
    print(f"\n{last.words()}")
    others = dict.fromkeys([*(str(one.partner_id) for one in decisions), *router.snapshot.partners.partner_id])
    for rule in ("capacity", "membership"):
        for partner_id in others:
            failed = router.why_not(last.lead_id, partner_id, now=decisions[-1].decided_at)
            if failed and failed[0].rule == rule:
                print(f"why not {partner_id}: {failed[0].evidence}")
                break


def at_once(router: Router, orders: pd.DataFrame, *, now: pd.Timestamp) -> None:
    """Give out the orders of some days together."""
    batch = router.assign([lead(order) for order in orders.itertuples()], now=now)
    sellers = {decision.partner_id for decision in batch.decisions} - {None}
    given = batch.given + batch.given_after
    print(f"\nas a batch: {given:,} of {len(orders):,} orders go to {len(sellers):,} sellers")
    print(f"{len(batch.prices)} of them are full; at most {batch.gap:.1e} below the best that there is, certified")


def compared(router: Router, decisions: list[Decision], sales: pd.DataFrame) -> None:
    """Set what was said of sellers beside what they did, and beside others who might have had the orders."""
    ahead = sales[sales["sold_at"].between(AS_OF, AS_OF + HORIZON, inclusive="left")]
    sold = set(zip(ahead["seller_id"], ahead["category"], strict=True))
    orders = sales.drop_duplicates("order_id").set_index("order_id")
    vectors, routed = router.ledger.export("vectors"), {decision.decision_id for decision in decisions}
    rows = []
    for row in vectors[vectors["decision_id"].isin(routed)].itertuples():
        order = orders.loc[row.lead_id]
        did = np.array([(seller, order["category"]) in sold for seller in row.partner_id])
        best = np.argsort(-np.asarray(row.p_win), kind="stable")
        place = row.partner_id.index(order["seller_id"]) if order["seller_id"] in row.partner_id else None
        rows.append(
            {
                "said_of_chosen": row.p_win[best[0]],
                "chosen": did[best[0]],
                "said_of_any": np.mean(row.p_win),
                "any": did.mean(),
                "among_ten": np.nan if place is None else float(place in best[:10]),
                "by_chance": np.nan if place is None else min(10 / len(best), 1.0),
            }
        )
    mean = pd.DataFrame(rows).mean()
    print("\nthat a seller sells in the order's category within three weeks; said on 2018-06-01, and what happened:")
    print(f"  the seller with the best chance  {mean['said_of_chosen']:.3f}  {mean['chosen']:.3f}")
    print(f"  any that might have had it       {mean['said_of_any']:.3f}  {mean['any']:.3f}")
    print(f"the seller that did sell an order is among the best ten in {mean['among_ten']:.0%} of those that it might")
    print(f"have had; of ten drawn at random it would be one in {mean['by_chance']:.0%}")
    print("whether another seller would have won an order, these files cannot tell")


if __name__ == "__main__":
    main()
