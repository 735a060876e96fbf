"""The features of a partner: the same from the nightly batch and for one partner at one moment.

    python examples/features.py [--partners 300]

Takes a catalogue that is written as YAML, builds it for every active partner of a made-up programme, asks for one
partner alone as a service would, and shows that the two are equal. The catalogue that churn takes by default is
counted for comparison.
"""

from __future__ import annotations

import argparse

import pandas as pd
import yaml

from partnerml import Dataset, Ecosystem, build_dataset, tasks
from partnerml.features import Catalogue, build_rows
from partnerml.synthetic import simulate

CATALOGUE = """
features:
  - events__portal_login__count__30d
  - events__portal_login__streak_weeks__26w
  - deals__won__amount__365d
  - deals__all__win_rate__365d
  - certifications__valid__count__asof
  - partners__partner_type__trait__asof
  - partners__verticals__items__asof
  - peers__events__all__count__90d
event_types: [portal_login, training]
static_traits: [country, partner_type, verticals]
peers: {by: [partner_type], at_least: 10}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=300)
    world = simulate(partners=parser.parse_args().partners, months=18, seed=0)
    catalogue = Catalogue.from_dict(yaml.safe_load(CATALOGUE))
    with Ecosystem.from_frames(now=world.end, **world.tables) as eco:
        default = tasks.feature_catalogue(eco, "churn", before=world.end)
        print(f"{len(catalogue.features)} features; churn takes {len(default.features)} of these tables by default")
        batch = build_dataset(eco, tasks.churn(), as_of=[world.end], catalogue=catalogue, labels=False)
        print(f"batch: {len(batch):,} active partners as of {world.end:%Y-%m-%d}")
        # what a service asks: one partner, one moment, the same catalogue through the same engine
        one = build_rows(eco, batch.keys.tail(1), catalogue=catalogue)
    tell(batch, one)


def tell(batch: Dataset, one: Dataset) -> None:
    """Print the features of the one partner, and whether they are those of the batch."""
    partner = one.keys["partner_id"].iloc[0]
    for info in one.dictionary:
        value = one.X[info.name].iloc[0]
        shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
        print(f"{shown:>14}  {info.words}")
    theirs = batch.X[batch.keys["partner_id"] == partner].reset_index(drop=True)
    # the categories of a batch are all that occur in it, those of one row its own: compare the texts
    equal = pd.DataFrame.equals(theirs.astype(object), one.X.astype(object))
    print(f"{partner} alone equals the batch: {equal}")


if __name__ == "__main__":
    main()
