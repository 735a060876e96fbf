"""Time the batch auction on leads to give out at once, beside OR-tools' minimum-cost flow and two simple rules.

    python benchmarks/assignment.py [--leads 100000] [--partners 10000] [--candidates 30] [--seed 0]

Candidates and scores are made up: partners differ in quality, and fit leads more or less well. Capacity is half of the
leads, as many as leads, and half as many again. The auction runs until its gap is certified; OR-tools takes whole costs
only, so its scores are millionths, and it is exact on these. All run in one thread; CPU seconds are what a busy machine
changes little. The first use on a machine compiles the auction, which is told apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _harness as harness
import numpy as np

GAP, SECONDS = 1e-4, 2.0
FILLS = {"scarce": 0.5, "even": 1.0, "ample": 1.5}


def made_up(leads: int, partners: int, candidates: int, fill: float, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return candidates, scores in (0, 1), and capacities."""
    quality = rng.normal(0, 0.5, partners)
    cols = rng.integers(0, partners, (leads, candidates))
    again = (np.sort(cols, axis=1)[:, 1:] == np.sort(cols, axis=1)[:, :-1]).any(axis=1)
    for lead in np.flatnonzero(again):
        cols[lead] = rng.choice(partners, candidates, replace=False)
    scores = 1 / (1 + np.exp(1 - quality[cols] - rng.normal(0, 0.7, cols.shape)))
    return cols, scores, rng.poisson(leads / partners * fill, partners)


class Took(NamedTuple):
    """Seconds on the clock and of the processor."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f}"


def timed(work: Callable[[], Any]) -> tuple[Took, Any]:
    """Return what something took, and what it returned."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = work()
    return Took(time.perf_counter() - clock, time.process_time() - cpu), found


def compare(name: str, arguments: argparse.Namespace, rng: np.random.Generator) -> tuple[list[list[str]], list[str]]:
    """Return rows of the table for one supply of capacity, and what is said of the bars."""
    from tests.oracles import assignment as oracle

    from partnerml.routing._auction import solve, solve_for_coverage
    from partnerml.routing._certificate import Problem

    cols, scores, capacity = made_up(arguments.leads, arguments.partners, arguments.candidates, FILLS[name], rng)
    took, found = timed(lambda: solve(Problem.of(cols, scores, capacity), gap=GAP))
    problem = Problem.of(cols, scores, capacity)
    covered_took, covered = timed(lambda: solve_for_coverage(problem, gap=GAP))
    flow_took, (flow, _) = timed(lambda: oracle.minimum_cost_flow(cols, scores, capacity))
    sorted_took, best_first = timed(lambda: oracle.best_first(cols, scores, capacity))
    come_took, as_they_come = timed(lambda: oracle.as_they_come(cols, scores, capacity))
    bound = found.certificate.bound
    figures = {
        "auction": (took, found.certificate.total),
        "auction, coverage first": (covered_took, covered.certificate.total),
        "OR-tools minimum-cost flow": (flow_took, flow),
        "best pair first": (sorted_took, best_first),
        "each lead as it comes": (come_took, as_they_come),
    }
    rows = [
        [f"{name}: {rule}", str(took), f"{took.cpu:.2f}", f"{total / bound:.6f}"]
        for rule, (took, total) in figures.items()
    ]
    counts = problem.counts(found.slot)
    gap = found.certificate.gap
    said = [
        f"{name}: {harness.verdict(took.seconds, SECONDS, 's')}; gap {gap:.1e} (bar: at most {GAP:g}): "
        f"{'held' if gap <= GAP else 'NOT HELD'}; over capacity: {int((counts > capacity).sum())}; "
        f"{found.certificate.given:,} leads given out, {covered.certificate.given:,} with coverage first"
    ]
    return rows, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--partners", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from partnerml.routing._auction import _prepare

    prepared, _ = timed(_prepare)
    rng = np.random.default_rng(arguments.seed)
    rows, said = [], []
    for name in FILLS:
        more, words = compare(name, arguments, rng)
        rows += more
        said += words
    print(
        f"{arguments.leads:,} leads, {arguments.partners:,} partners, {arguments.candidates} candidates each, "
        f"seed {arguments.seed}; compiling or reading the auction took {prepared} s"
    )
    print(harness.table(["capacity: rule", "seconds", "CPU", "of the bound"], rows))
    print("\n".join(said))


if __name__ == "__main__":
    main()
