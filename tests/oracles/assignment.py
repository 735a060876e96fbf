"""Leads given out by definition, by a linear program and by minimum-cost flow; and by two rules that are worse."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Row = Sequence[tuple[int, float]]  # the candidates of a lead: partner and score


def rows(cols: Any, scores: Any) -> list[Row]:
    """The candidates of each lead, without what is none."""
    return [
        [(int(c), float(s)) for c, s in zip(lead, worth, strict=True) if c >= 0]
        for lead, worth in zip(cols, scores, strict=True)
    ]


def everything(leads: Sequence[Row], capacity: Sequence[float]) -> list[tuple[float, int, tuple[int, ...]]]:
    """Every assignment within capacity: its total, how many leads it gives out, and the partner of each (-1: none)."""
    found = []
    for choice in itertools.product(*([(-1, 0.0), *lead] for lead in leads)):
        partners = [partner for partner, _ in choice]
        if all(partners.count(partner) <= limit for partner, limit in enumerate(capacity)):
            given = sum(partner >= 0 for partner in partners)
            found.append((sum(score for _, score in choice), given, tuple(partners)))
    return found


def linear_program(cols: Any, scores: Any, capacity: Any) -> float:
    """The highest total by a linear program (its corners are whole numbers)."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    lead, place = np.nonzero(cols >= 0)
    if not len(lead):
        return 0.0
    n, partner = len(lead), cols[lead, place]
    limited = np.flatnonzero(np.isfinite(capacity))
    at = np.searchsorted(limited, partner)
    held = np.isin(partner, limited)
    row = np.concatenate([lead, len(cols) + at[held]])
    column = np.concatenate([np.arange(n), np.flatnonzero(held)])
    matrix = coo_array((np.ones(len(row)), (row, column)), shape=(len(cols) + len(limited), n))
    limits = np.concatenate([np.ones(len(cols)), np.asarray(capacity)[limited]])
    found = linprog(-scores[lead, place], A_ub=matrix.tocsr(), b_ub=limits, bounds=(0, 1), method="highs")
    assert found.status == 0
    return -float(found.fun)


def minimum_cost_flow(cols: Any, scores: Any, capacity: Any, *, scale: int = 10**6) -> tuple[float, np.ndarray]:
    """The highest total by OR-tools, which takes whole costs: scores are rounded to 1 / scale. And who gets what."""
    from ortools.graph.python import min_cost_flow

    leads, partners = len(cols), len(capacity)
    sink = leads + partners
    lead, place = np.nonzero(cols >= 0)
    partner, worth = cols[lead, place], scores[lead, place]
    flow = min_cost_flow.SimpleMinCostFlow()
    cost = -np.round(worth * scale).astype(np.int64)
    edges = flow.add_arcs_with_capacity_and_unit_cost(lead, leads + partner, np.ones(len(lead), np.int64), cost)
    limit = np.minimum(np.asarray(capacity, dtype=float), leads).astype(np.int64)
    flow.add_arcs_with_capacity_and_unit_cost(
        leads + np.arange(partners), np.full(partners, sink), limit, np.zeros(partners, np.int64)
    )
    flow.add_arcs_with_capacity_and_unit_cost(
        np.arange(leads), np.full(leads, sink), np.ones(leads, np.int64), np.zeros(leads, np.int64)
    )
    flow.set_nodes_supplies(np.arange(leads), np.ones(leads, np.int64))
    flow.set_nodes_supplies(np.array([sink]), np.array([-leads]))
    assert flow.solve() == flow.OPTIMAL
    taken = flow.flows(edges) > 0
    found = np.full(leads, -1)
    found[lead[taken]] = partner[taken]
    return float(worth[taken].sum()), found


def best_first(cols: Any, scores: Any, capacity: Any) -> float:
    """The total of taking the best pair that is left, again and again."""
    lead, place = np.nonzero(cols >= 0)
    order = np.argsort(-scores[lead, place], kind="stable")
    return _taken(zip(lead[order], cols[lead, place][order], scores[lead, place][order], strict=True), capacity)


def as_they_come(cols: Any, scores: Any, capacity: Any) -> float:
    """The total of giving each lead, in turn, to the best partner that has capacity left."""
    lead, place = np.nonzero(cols >= 0)
    order = np.lexsort([-scores[lead, place], lead])
    return _taken(zip(lead[order], cols[lead, place][order], scores[lead, place][order], strict=True), capacity)


def _taken(pairs: Any, capacity: Any) -> float:
    left, done, total = list(np.asarray(capacity, dtype=float)), set(), 0.0
    for lead, partner, score in pairs:
        if score > 0 and lead not in done and left[partner] >= 1:
            left[partner] -= 1
            done.add(lead)
            total += float(score)
    return total
