"""Signs that a source is not what it claims to be; they set nothing aside.

A recording time that is really a modification stamp, and a table of partners that lists survivors only, break no rule
of any row, but spoil what is learnt from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from partnerml import schema
from partnerml.ecosystem._report import Violation
from partnerml.ecosystem._sql import quote

Run = Callable[[str], list[tuple[Any, ...]]]

# a table with fewer rows can cluster by chance
_LEAST_ROWS = 20
_WINDOW_SHARE = 0.05
_EXCESS = 0.3
_SILENT_DAYS = 90


def clustered_recordings(run: Run, tables: Mapping[str, Collection[str]], database: str) -> list[Violation]:
    """Warn of recording times that cluster at the end, as modification stamps do.

    A column is named when the last 5 % of the time span (a day at least) holds at least 30 percentage points more of
    its values than of the moments that it dates.
    """
    found = []
    for name, columns in tables.items():
        for moment, recorded in schema.TABLES[name].recorded:
            if moment in columns and recorded in columns:
                count, total, share = _clustering(run, f"{database}.{quote(name)}", moment, recorded)
                if total >= _LEAST_ROWS and share >= _EXCESS:
                    remedy = (
                        f"{100 * count / total:.3g} % of the values lie in the last {100 * _WINDOW_SHARE:.3g} % of the "
                        f"time, far more than of {moment}: this looks like a modification stamp or a bulk load. "
                        f"{recorded} is when a row first entered the source; leave it out and declare a lag otherwise"
                    )
                    found.append(Violation(name, recorded, "recorded_at_clusters", "warning", count, total, (), remedy))
    return found


def _clustering(run: Run, relation: str, moment: str, recorded: str) -> tuple[int, int, float]:
    """Return how many values lie in the last window, of how many, and the excess over the moments' share."""
    m, r = quote(moment), quote(recorded)
    rows = f"SELECT {m} AS m, {r} AS r FROM {relation} WHERE {m} IS NOT NULL AND {r} IS NOT NULL"
    total, start, end, last_moment = run(
        f"SELECT count(*), epoch_us(min(m)), epoch_us(max(r)), epoch_us(max(m)) FROM ({rows})"
    )[0]
    if not total:
        return 0, 0, 0.0
    window = max(86_400_000_000, round(_WINDOW_SHARE * (end - start)))
    late, moments = run(
        f"SELECT count_if(epoch_us(r) > {end - window}), count_if(epoch_us(m) > {last_moment - window}) FROM ({rows})"
    )[0]
    return int(late), int(total), (late - moments) / total


def survivors_only(run: Run, tables: Mapping[str, Collection[str]], database: str) -> list[Violation]:
    """Warn when no partner has left and none is inactive, as in a source filtered to survivors.

    Inactive means no event by the partner and no deal in the 90 days before the last of either.
    """
    partners = tables.get("partners", ())
    activity = [
        f"SELECT partner_id, {moment} AS moment FROM {database}.{name}{where}"
        for name, moment, where in (
            ("events", "occurred_at", " WHERE actor = 'partner'" if "actor" in tables.get("events", ()) else ""),
            ("deals", "registered_at", ""),
        )
        if {"partner_id", moment} <= set(tables.get(name, ()))
    ]
    if "partner_id" not in partners or not activity:
        return []
    left = "count(left_at)" if "left_at" in partners else "0"
    total, gone, silent = run(
        f"WITH last AS (SELECT partner_id, max(moment) AS moment FROM ({' UNION ALL '.join(activity)}) GROUP BY 1), "
        f"ends AS (SELECT max(moment) - INTERVAL {_SILENT_DAYS} DAY AS start FROM last) "
        f"SELECT count(*), {left}, count_if(last.moment IS NULL OR last.moment < ends.start) "
        f"FROM {database}.partners AS p CROSS JOIN ends LEFT JOIN last ON p.partner_id = last.partner_id"
    )[0]
    if not total or gone or silent:
        return []
    remedy = (
        f"No partner has left and each was active in the last {_SILENT_DAYS} days: the source seems to list survivors "
        "only, and churn cannot be learnt from them; export former and inactive partners too"
    )
    return [Violation("partners", "", "survivors_only", "warning", int(total), int(total), (), remedy)]
