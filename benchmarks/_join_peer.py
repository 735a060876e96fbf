"""The features of the benchmark in SQL as most people write it: every row of the spine joined to its events.

    python benchmarks/_join_peer.py FOLDER OUT [--cut-offs 12] [--recorded]

One range join and one aggregate with a filter for each feature, in DuckDB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _harness as harness
import duckdb


def query(folder: Path, types: list[str], *, recorded: bool, cut_offs: int) -> str:
    """Return the one statement."""
    seen = "e.occurred_at < s.as_of" + (" AND e.recorded_at < s.as_of" if recorded else "")
    columns, ratios = ["any_value(l.days) AS events__all__recency_days__ever"], []
    for days in harness.WINDOWS:
        inside = f"FILTER (e.occurred_at >= s.as_of - INTERVAL {days} DAY)"
        columns += [
            f"count(e.partner_id) {inside} AS events__all__count__{days}d",
            f"coalesce(sum(e.value) {inside}, 0) AS events__all__value__{days}d",
            f"count(DISTINCT e.occurred_at::DATE) {inside} AS events__all__active_days__{days}d",
            f"count(DISTINCT e.event_type) {inside} AS events__all__distinct_types__{days}d",
        ]
        for kind in types:
            of_kind = f"FILTER (e.occurred_at >= s.as_of - INTERVAL {days} DAY AND e.event_type = '{kind}')"
            columns.append(f"count(e.partner_id) {of_kind} AS events__{kind}__count__{days}d")
    for a, b in harness.RATIOS:
        rates = (f"events__all__count__{days}d / {days}.0" for days in (a, b))
        ratios.append(f"{next(rates)} / nullif({next(rates)}, 0) AS events__all__count_ratio__{a}d_{b}d")
    spine = f"SELECT * FROM '{folder}/spine.parquet' WHERE as_of <= '{harness.AS_OF[cut_offs - 1].isoformat()}'"
    return f"""
        WITH s AS ({spine}), e AS (SELECT * FROM '{folder}/events.parquet'),
        l AS (
            SELECT s.partner_id, s.as_of, (epoch_us(s.as_of) - max(epoch_us(e.occurred_at))) / 86400e6 AS days
            FROM s JOIN e ON e.partner_id = s.partner_id AND {seen}
            GROUP BY s.partner_id, s.as_of
        ),
        f AS (
            SELECT s.partner_id, s.as_of, {", ".join(columns)}
            FROM s
            LEFT JOIN l ON l.partner_id = s.partner_id AND l.as_of = s.as_of
            LEFT JOIN e ON e.partner_id = s.partner_id AND {seen}
                AND e.occurred_at >= s.as_of - INTERVAL {max(harness.WINDOWS)} DAY
            GROUP BY s.partner_id, s.as_of
        )
        SELECT *, {", ".join(ratios)} FROM f"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cut-offs", type=int, default=len(harness.AS_OF))
    parser.add_argument("--recorded", action="store_true")
    args = parser.parse_args()
    clock = harness.Clock()
    with duckdb.connect() as con:
        for setting in (f"threads={harness.THREADS}", "TimeZone='UTC'", "preserve_insertion_order=false"):
            con.execute(f"SET {setting}")
        con.execute(f"SET temp_directory='{args.out.parent / 'spill'}'")
        found = con.execute(f"SELECT DISTINCT event_type FROM '{args.folder}/events.parquet' ORDER BY 1").fetchall()
        statement = query(args.folder, [row[0] for row in found], recorded=args.recorded, cut_offs=args.cut_offs)
        con.execute(f"COPY ({statement}) TO '{args.out}' (FORMAT parquet)")
        columns = con.execute(f"DESCRIBE SELECT * FROM '{args.out}'").fetchall()
    print(clock.told(len(columns) - 2))


if __name__ == "__main__":
    main()
