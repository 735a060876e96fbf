"""The features of the benchmark by featuretools, run by an interpreter that has it.

    PYTHON benchmarks/_featuretools_peer.py FOLDER OUT [--cut-offs 12]

One feature matrix for each window, since featuretools takes one training window at a time; only what is asked for is
computed. ``recorded_at`` is not looked at: featuretools knows when a row happened, and can hide columns until they were
recorded, not rows. Reading the tables and making the entity set are part of the time, as reading is for the others.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

WINDOWS = (7, 30, 90, 365)
RATIOS = ((7, 30), (30, 90), (90, 365))


def entities(folder: Path) -> tuple[Any, list[str]]:
    """Return the entity set, and the names of the event types."""
    import featuretools as ft
    import pandas as pd
    import pyarrow.parquet as pq

    columns = ["partner_id", "occurred_at", "event_type", "value"]
    table = pq.read_table(folder / "events.parquet", columns=columns, read_dictionary=["partner_id", "event_type"])
    events = table.to_pandas()
    events["occurred_at"] = events["occurred_at"].dt.tz_localize(None)
    events["day"] = events["occurred_at"].to_numpy().astype("datetime64[D]").astype("int64")
    events["event_id"] = range(len(events))
    es = ft.EntitySet("benchmark")
    partners = pd.read_parquet(folder / "partners.parquet")[["partner_id"]]
    es.add_dataframe(dataframe_name="partners", dataframe=partners, index="partner_id")
    es.add_dataframe(
        dataframe_name="events",
        dataframe=events,
        index="event_id",
        time_index="occurred_at",
        already_sorted=True,
        logical_types={"event_type": "Categorical", "day": "Categorical", "value": "Double"},
    )
    es.add_relationship("partners", "partner_id", "events", "partner_id")
    return es, sorted(events["event_type"].cat.categories)


def definitions(es: Any, types: list[str]) -> dict[str, Any]:
    """Return the features of a window, by name without the window."""
    import featuretools as ft
    from featuretools import primitives

    def feature(column: str, primitive: Any, where: Any = None) -> Any:
        base = ft.Feature(es["events"].ww[column])
        return ft.Feature(base, parent_dataframe_name="partners", primitive=primitive, where=where)

    type_ = ft.Feature(es["events"].ww["event_type"])
    return {
        "events__all__count": feature("event_id", primitives.Count),
        **{f"events__{kind}__count": feature("event_id", primitives.Count, where=type_ == kind) for kind in types},
        "events__all__value": feature("value", primitives.Sum),
        "events__all__active_days": feature("day", primitives.NumUnique),
        "events__all__distinct_types": feature("event_type", primitives.NumUnique),
    }


def matrix(es: Any, features: dict[str, Any], cut_offs: Any, window: int | None) -> Any:
    """Return the values, one row a partner and cut-off: rows before the cut-off and not before the window."""
    import featuretools as ft

    found = ft.calculate_feature_matrix(
        list(features.values()),
        entityset=es,
        cutoff_time=cut_offs,
        training_window=None if window is None else ft.Timedelta(window, "d"),
        include_cutoff_time=False,
        cutoff_time_in_index=True,
        n_jobs=1,
    )
    return found.set_axis([name if window is None else f"{name}__{window}d" for name in features], axis=1)


def build(folder: Path, cut_offs: int) -> Any:
    """Return the 68 features of every partner at every cut-off."""
    import featuretools as ft
    import pandas as pd
    from featuretools import primitives

    es, types = entities(folder)
    spine = pd.read_parquet(folder / "spine.parquet")
    spine["time"] = spine.pop("as_of").dt.tz_localize(None)
    spine = spine[spine["time"] <= sorted(spine["time"].unique())[cut_offs - 1]]
    last = ft.Feature(
        ft.Feature(es["events"].ww["occurred_at"]),
        parent_dataframe_name="partners",
        primitive=primitives.TimeSinceLast(unit="days"),
    )
    parts = [matrix(es, {"events__all__recency_days__ever": last}, spine, None)]
    wanted = definitions(es, types)
    parts += [matrix(es, wanted, spine, window).astype("float64").fillna(0.0) for window in WINDOWS]
    whole = pd.concat(parts, axis=1).rename_axis(index=["partner_id", "as_of"]).reset_index()
    for a, b in RATIOS:
        short, long = (whole[f"events__all__count__{days}d"] / days for days in (a, b))
        whole[f"events__all__count_ratio__{a}d_{b}d"] = short / long.where(long != 0)
    return whole.assign(partner_id=whole["partner_id"].astype(str), as_of=whole["as_of"].dt.tz_localize("UTC"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cut-offs", type=int, default=12)
    args = parser.parse_args()
    import featuretools  # noqa: F401 (imports are no part of the time)

    warnings.filterwarnings("ignore")  # of the pandas that it calls
    started, cpu = time.perf_counter(), time.process_time()
    whole = build(args.folder, args.cut_offs)
    whole.to_parquet(args.out)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(f"{seconds:.3f} s, {cpu:.3f} CPU s, {whole.shape[1] - 2} features")


if __name__ == "__main__":
    main()
