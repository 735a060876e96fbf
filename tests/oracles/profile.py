"""Success by a day, partner by partner and moment by moment, and corrected p-values by their definition."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[float, bool]  # days, seen to succeed


def kaplan_meier(rows: Sequence[Row], horizon: float) -> float:
    """Share that succeeds by the horizon."""
    without = 1.0
    for moment in sorted({days for days, seen in rows if seen and days <= horizon}):
        at_risk = sum(days >= moment for days, _ in rows)
        succeeded = sum(days == moment and seen for days, seen in rows)
        without *= 1 - succeeded / at_risk
    return 1 - without


def greenwood(rows: Sequence[Row], horizon: float) -> float:
    """Variance of that share."""
    total = 0.0
    for moment in sorted({days for days, seen in rows if seen and days <= horizon}):
        at_risk = sum(days >= moment for days, _ in rows)
        succeeded = sum(days == moment and seen for days, seen in rows)
        total += succeeded / (at_risk * (at_risk - succeeded))
    return (1 - kaplan_meier(rows, horizon)) ** 2 * total


def log_rank(group: Sequence[Row], rest: Sequence[Row], horizon: float) -> tuple[int, float]:
    """Successes of the group, and those expected if its curve were that of all."""
    everybody = [*group, *rest]
    expected = 0.0
    for moment in sorted({days for days, seen in everybody if seen and days <= horizon}):
        succeeded = sum(days == moment and seen for days, seen in everybody)
        share = sum(days >= moment for days, _ in group) / sum(days >= moment for days, _ in everybody)
        expected += succeeded * share
    return sum(seen and days <= horizon for days, seen in group), expected


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The smallest level at which each would be rejected."""
    ranked = sorted(p_values)
    levels = [p * len(ranked) / (k + 1) for k, p in enumerate(ranked)]
    # a p-value is rejected at every level at which a larger one, or itself, is
    return [min(1.0, *(levels[k] for k in range(len(ranked)) if ranked[k] >= p)) for p in p_values]
