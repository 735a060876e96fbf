"""Whom to call first, on real data: what lists of the same length would have found of the revenue that was lost.

    python benchmarks/olist_outreach.py [--data ../shared/data/olist] [--until 2018-05-01] [--test 2018-05-01 ...]

Trains churn on what was known before UNTIL, lists sellers at the later snapshots, and only then looks at who went
silent. Lost is the revenue of the last 365 days of those who did. Lists are ranked by the risk alone, by revenue
alone, by risk x revenue (`threshold_by_capacity`) and as `partnerml outreach` does it, which also weighs what can be
done about the reason and calls nobody below medium risk. Of the third, what was expected is printed beside what came.
"""

from __future__ import annotations

import _olist as olist
import numpy as np
import pandas as pd

from partnerml import Ecosystem, recommend_outreach, score, tasks, train
from partnerml.models import threshold_by_capacity

CAPACITIES = (50, 100, 200)
REVENUE = "deals__won__amount__365d"


def main() -> None:
    parser = olist.parser(__doc__, until="2018-05-01")
    parser.add_argument("--test", nargs="+", default=["2018-05-01", "2018-06-01"])
    arguments = olist.given(parser)
    if arguments is None:
        return
    with Ecosystem.open(olist.CONFIG, overrides=[f"data.source={arguments.data}"]) as eco:
        task = tasks.configured(eco.config, "churn")
        model = train(eco, task, until=arguments.until)
        for as_of in arguments.test:
            scores = score(eco, model, as_of=as_of, reasons=6)
            after = tasks.build_dataset(eco, task, as_of=as_of, catalogue=model.catalogue, until="2018-09-01")
            went = pd.Series(after.y.to_numpy(), index=after.keys["partner_id"].to_numpy())
            told = [recommend_outreach(eco, scores, capacity=n).frame["partner_id"] for n in CAPACITIES]
            show(as_of, scores.frame.set_index("partner_id"), went, dict(zip(CAPACITIES, told, strict=True)))


def show(as_of: str, frame: pd.DataFrame, went: pd.Series, outreach: dict[int, pd.Series]) -> None:
    """Print what each list found."""
    frame = frame.assign(went=went, revenue=frame["revenue_at_risk"] / frame["score"])
    lost = frame["went"] * frame["revenue"]
    print(f"\n{as_of}: {len(frame)} sellers, {frame['went'].sum():.0f} went silent with {lost.sum():,.0f} of revenue")
    print(f"{'calls':>6} {'ranked by':<22} {'went silent':>12} {'their revenue':>14} {'of all lost':>12}")
    for n in CAPACITIES:
        lists = {
            "risk": frame.nlargest(n, "score").index,
            "revenue": frame.nlargest(n, "revenue").index,
            "risk x revenue": frame.nlargest(n, "revenue_at_risk").index,
            "partnerml outreach": pd.Index(outreach[n]),
        }
        for name, listed in lists.items():
            found = lost[listed].sum()
            print(f"{n:>6} {name:<22} {frame['went'][listed].sum():>12.0f} {found:>14,.0f} {found / lost.sum():>12.1%}")
        selection = threshold_by_capacity(
            frame["score"], capacity=n, value_saved=frame["revenue"], keys=frame.index.to_numpy()
        )
        came = float(np.sort(lost[selection.chosen]).sum())
        print(
            f"{n:>6} risk x revenue: expected {selection.expected_value:,.0f} ({selection.low:,.0f} to "
            f"{selection.high:,.0f}), came {came:,.0f}"
        )


if __name__ == "__main__":
    main()
