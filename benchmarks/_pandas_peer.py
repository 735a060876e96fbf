"""The features of the benchmark in pandas, one cut-off at a time.

    python benchmarks/_pandas_peer.py FOLDER OUT [--cut-offs 12] [--recorded] [--style texts|categories|tuned]

Three styles. In all of them a window is a mask or a slice, every figure a vectorised group-by, and nothing is applied
row by row. ``texts`` takes the table as `read_parquet` gives it, ``categories`` turns partners and types into
categories first. ``tuned`` is the best that we could write for this very benchmark: events are sorted by time, so a
window is a slice; partner, type and day are integers made once for all cut-offs, and a pair of them is one integer, so
that a group-by hashes one column; distinct days are found once for the longest window and counted for all. It takes
cut-offs at midnight for granted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _harness as harness
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

DAY = pd.Timedelta(days=1)
SPAN = 100_000  # days since 1970 lie below it


def read(folder: Path, *, recorded: bool, categories: bool) -> pd.DataFrame:
    """Return the events in order of time, moments without their zone: they are UTC."""
    texts = ["partner_id", "event_type"]
    columns = [*texts, "occurred_at", "value", *(["recorded_at"] if recorded else [])]
    table = pq.read_table(folder / "events.parquet", columns=columns, read_dictionary=texts if categories else None)
    events = table.to_pandas()
    return events.assign(**{name: events[name].dt.tz_localize(None) for name in columns if name.endswith("_at")})


def plain(events: pd.DataFrame, as_of: pd.Timestamp, partners: pd.Index, types: list[str]) -> pd.DataFrame:
    """Return the 68 features of every partner at one moment, by masks and group-bys; ``day`` is added to the events."""
    past = events[events["occurred_at"] < as_of]
    if "recorded_at" in past:
        past = past[past["recorded_at"] < as_of]
    last = past.groupby("partner_id", observed=False)["occurred_at"].max()
    found = {}
    for window in harness.WINDOWS:
        rows = past[past["occurred_at"] >= as_of - window * DAY]
        by_type = rows.groupby(["partner_id", "event_type"], observed=False).size().unstack(fill_value=0)
        by_type = by_type.reindex(columns=types, fill_value=0)
        found |= {f"events__{kind}__count__{window}d": by_type[kind] for kind in types}
        partner = rows.groupby("partner_id", observed=False)
        found[f"events__all__count__{window}d"] = partner.size()
        found[f"events__all__value__{window}d"] = partner["value"].sum()
        found[f"events__all__active_days__{window}d"] = partner["day"].nunique()
        found[f"events__all__distinct_types__{window}d"] = (by_type > 0).sum(axis=1)
    features = pd.DataFrame(found).reindex(partners).fillna(0.0)
    features["events__all__recency_days__ever"] = (as_of - last.reindex(partners)) / DAY
    return with_ratios(features)


def with_ratios(features: pd.DataFrame) -> pd.DataFrame:
    """Return the features with the ratios of daily rates."""
    for a, b in harness.RATIOS:
        short, long = (features[f"events__all__count__{days}d"] / days for days in (a, b))
        features[f"events__all__count_ratio__{a}d_{b}d"] = short / long.replace(0.0, np.nan)
    return features


def tuned(events: pd.DataFrame, as_of: pd.Timestamp, partners: pd.Index, types: list[str]) -> pd.DataFrame:
    """Return what `plain` does, from events to which `integers` were added."""
    n = len(partners)
    past = events.iloc[: events["occurred_at"].searchsorted(as_of)]
    if "recorded_at" in past:
        past = past[past["recorded_at"] < as_of]
    last = past.groupby("partner", sort=False)["occurred_at"].max().reindex(range(n))
    found: dict[str, pd.Series | np.ndarray] = {"events__all__recency_days__ever": (as_of - last) / DAY}
    longest = past.iloc[past["occurred_at"].searchsorted(as_of - max(harness.WINDOWS) * DAY) :]
    days = longest["partner_day"].drop_duplicates()
    for window in harness.WINDOWS:
        start = as_of - window * DAY
        rows = longest.iloc[longest["occurred_at"].searchsorted(start) :]
        pairs = rows.groupby("pair", sort=False).size().reindex(range(n * len(types)), fill_value=0)
        counts = pairs.to_numpy().reshape(n, len(types))
        found |= {f"events__{kind}__count__{window}d": counts[:, j] for j, kind in enumerate(types)}
        found[f"events__all__count__{window}d"] = counts.sum(axis=1)
        value = rows.groupby("partner", sort=False)["value"].sum()
        found[f"events__all__value__{window}d"] = value.reindex(range(n), fill_value=0.0).to_numpy()
        active = days[days % SPAN >= (start - pd.Timestamp(0)) // DAY] // SPAN
        found[f"events__all__active_days__{window}d"] = active.value_counts().reindex(range(n), fill_value=0).to_numpy()
        found[f"events__all__distinct_types__{window}d"] = (counts > 0).sum(axis=1)
    return with_ratios(pd.DataFrame(found))


def integers(events: pd.DataFrame, partners: pd.Index, types: list[str]) -> pd.DataFrame:
    """Return the events with partner, pair of partner and type, and pair of partner and day as integers."""
    assert events["occurred_at"].is_monotonic_increasing
    partner = events["partner_id"].cat.set_categories(partners).cat.codes.astype("int32")
    code = events["event_type"].cat.set_categories(types).cat.codes
    day = events["occurred_at"].to_numpy().astype("datetime64[D]").astype("int64")
    return events.assign(
        partner=partner,
        pair=partner * len(types) + code,
        partner_day=partner.astype("int64") * SPAN + day,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cut-offs", type=int, default=len(harness.AS_OF))
    parser.add_argument("--recorded", action="store_true")
    parser.add_argument("--style", choices=("texts", "categories", "tuned"), default="categories")
    args = parser.parse_args()
    clock = harness.Clock()
    partners = pd.Index(pd.read_parquet(args.folder / "partners.parquet")["partner_id"])
    events = read(args.folder, recorded=args.recorded, categories=args.style != "texts")
    types = sorted(events["event_type"].unique())
    if args.style == "tuned":
        events, build = integers(events, partners, types), tuned
    else:
        events, build = events.assign(day=events["occurred_at"].dt.floor("D")), plain
    parts = []
    for moment in map(pd.Timestamp, harness.AS_OF[: args.cut_offs]):
        features = build(events, moment.tz_localize(None), partners, types).reset_index(drop=True)
        parts.append(features.assign(partner_id=partners, as_of=moment))
    whole = pd.concat(parts, ignore_index=True)
    whole.to_parquet(args.out)
    print(clock.told(whole.shape[1] - 2))


if __name__ == "__main__":
    main()
