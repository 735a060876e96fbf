"""Churn of real sellers: the public Olist data, by the mapping in configs/olist.yaml.

    python examples/olist_churn.py [FOLDER]

FOLDER holds Olist's files (CC BY-NC-SA 4.0). They are on Kaggle, as "Brazilian E-Commerce Public Dataset by Olist"
and "Marketing Funnel by Olist": unpack both into one folder, and save order items as olist_order_items.parquet (or name
the files by data.sources; see configs/olist.yaml for the names that it reads). Without the folder this does nothing.

Here a partner is a seller on a marketplace, and its sales are its activity. Trains on what was known on 2018-05-01,
and scores that day.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from partnerml import Ecosystem, score, tasks, train

ROOT = Path(__file__).resolve().parents[1]
AS_OF = "2018-05-01"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT.parent / "shared" / "data" / "olist")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        print(f"{folder} is not there. Get the files from kaggle.com/olistbr and name their folder:")
        print("    python examples/olist_churn.py FOLDER")
        return
    with Ecosystem.open(ROOT / "configs" / "olist.yaml", overrides=[f"data.source={folder}"]) as eco:
        report = eco.validate()
        report.raise_for_errors()
        print(report.text())
        task = tasks.configured(eco.config, "churn")
        model = train(eco, task, until=AS_OF)
        scores = score(eco, model, as_of=AS_OF)
    print(f"\n{model.evaluation['verdict']['reason']}")
    shares = ", ".join(f"{name} {weight:.2f}" for name, weight in model.blend.weights.items())
    print(f"blend: {shares}")
    print(f"\n{len(scores):,} active sellers as of {AS_OF}; the five with the most revenue at risk:")
    for seller in scores.frame.sort_values("revenue_at_risk", ascending=False).head(5).itertuples():
        print(f"  {seller.partner_id[:8]}  {seller.score:4.0%}  {seller.revenue_at_risk:10,.0f} BRL")
        for reason in seller.reasons:
            print(f"      {reason['effect']:+.2f}  {reason['text']}")


if __name__ == "__main__":
    main()
