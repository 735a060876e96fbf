"""Route a stream of leads one by one with prices, without, and with those of hindsight, beside the optimum.

    python benchmarks/prices.py [--leads 20000] [--partners 1000] [--candidates 30] [--seeds 3]

Each seed makes two days that are alike: the first is the past that prices are learnt from, the second the stream.
Prices are found anew every 500 leads from the last day's worth of leads, with what capacity is left. The optimum in
hindsight sees the whole day at once (the bound that the auction certifies). Capacity is 1.1 and .8 of the leads; where
it is scarce, some leads are better not given out at all, and "may wait" leaves those that are worth less than every
price.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import _harness as harness
import numpy as np

BAR, EVERY = 0.95, 500
FILLS = {"enough": 1.1, "scarce": 0.8}


def days(leads: int, partners: int, candidates: int, fill: float, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return candidates and scores of two days, and what partners may get in each."""
    quality = rng.normal(0, 0.6, partners)
    cols = np.array([rng.choice(partners, candidates, replace=False) for _ in range(2 * leads)])
    scores = 1 / (1 + np.exp(1 - quality[cols] - rng.normal(0, 0.7, cols.shape)))
    return cols, scores, rng.poisson(leads / partners * fill, partners)


class Stream:
    """The second day, to be routed by one rule or another."""

    def __init__(self, cols: Any, scores: Any, capacity: Any) -> None:
        self.cols, self.scores, self.capacity = cols, scores, capacity
        self.leads = len(cols) // 2

    def optimum(self) -> tuple[float, Any]:
        """Return the optimum in hindsight, and its prices."""
        from partnerml.routing._auction import solve
        from partnerml.routing._certificate import Problem

        found = solve(Problem.of(self.cols[self.leads :], self.scores[self.leads :], self.capacity), gap=1e-5)
        return found.certificate.bound, found.price

    def routed(self, price: Any = None, *, learn: bool = False, may_wait: bool = False) -> float:
        """Return the total of giving each lead to the highest score less the price, as it comes."""
        from partnerml.routing._prices import prices

        left, total = self.capacity.copy(), 0.0
        price = np.zeros(len(left)) if price is None else price
        for number in range(self.leads):
            if learn and number % EVERY == 0:
                seen = slice(number, self.leads + number)
                price = prices(self.cols[seen], self.scores[seen], left, expected=self.leads - number)
            partner, score = self.cols[self.leads + number], self.scores[self.leads + number]
            utility = np.where(left[partner] > 0, score - price[partner], -np.inf)
            best = int(utility.argmax())
            if utility[best] > (0.0 if may_wait else -np.inf):
                left[partner[best]] -= 1
                total += float(score[best])
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=20_000)
    parser.add_argument("--partners", type=int, default=1_000)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows, said = [], []
    for name, fill in FILLS.items():
        for seed in range(arguments.seeds):
            rng = np.random.default_rng(seed)
            stream = Stream(*days(arguments.leads, arguments.partners, arguments.candidates, fill, rng))
            best, hindsight = stream.optimum()
            start = time.perf_counter()
            learnt = stream.routed(learn=True) / best
            seconds = time.perf_counter() - start
            waiting = stream.routed(learn=True, may_wait=True) / best
            greedy, known = stream.routed() / best, stream.routed(hindsight) / best
            figures = (learnt, waiting, known, greedy)
            rows.append([name, str(seed), *(f"{figure:.3f}" for figure in figures), f"{seconds:.1f}"])
            bar = learnt if name == "enough" else waiting
            said.append(harness.verdict(bar, BAR, f"of the optimum, {name}, seed {seed}", at_least=True))
    print(f"{arguments.leads:,} leads, {arguments.partners:,} partners, {arguments.candidates} candidates each")
    headings = ["capacity", "seed", "prices", "may wait", "prices of hindsight", "no prices", "seconds"]
    print(harness.table(headings, rows))
    print("\n".join(said))


if __name__ == "__main__":
    main()
