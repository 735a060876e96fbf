"""Many leads at once: how long it takes to find who may get them and at what worth, to give them out, and to write it.

A synthetic world is simulated, a close model trained on it, and a snapshot made as publishing makes it. Its leads are
routed as if they all came the next day, without the accounts that would make some of them duplicates. In the second
world nobody holds a place exclusively, so that far more partners may get each lead. Candidates are looked for on one
thread, and by several processes; CPU seconds are what a busy machine changes least.

    python benchmarks/routing_batch.py [--partners 10000] [--leads 100000] [--written 5000] [--jobs 2] [--model FOLDER]
        [--snapshot FOLDER]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _harness import table, verdict
from routing_online import AS_OF, SEED, given, prepare

from partnerml.config import RuleConfig
from partnerml.progress import Progress
from partnerml.routing import Lead, Router, Snapshot
from partnerml.routing._assign import CHUNK, gathered
from partnerml.routing._auction import solve
from partnerml.routing._candidates import candidates
from partnerml.routing._certificate import Problem
from partnerml.routing._looked import looked_at
from partnerml.routing._opened import Opened
from partnerml.routing._situation import Load
from partnerml.synthetic import simulate

NOW = AS_OF + dt.timedelta(hours=10)
SECONDS, GAP, ALONE = 120.0, 1e-4, 500
WHO = ("account_id", "account_name", "domain")


class Took(NamedTuple):
    """Seconds on the clock and of the processor."""

    clock: float
    cpu: float

    def told(self, leads: int) -> tuple[str, str, str]:
        """Return both, and the milliseconds of the processor that each lead took."""
        return f"{self.clock:.1f}", f"{self.cpu:.1f}", f"{1e3 * self.cpu / leads:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=10_000)
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--written", type=int, default=5_000, help="how many decisions are written on SQLite")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes look for candidates")
    parser.add_argument("--model", type=Path, help="a saved model of this world, or where to save it")
    parser.add_argument("--snapshot", type=Path, help="a snapshot of this world")
    asked = parser.parse_args()
    snapshot = Snapshot.open(asked.snapshot) if asked.snapshot else prepare(asked.partners, asked.model)[0]
    leads = leads_of(asked.partners, asked.leads)
    print(f"seed {SEED}, {len(snapshot):,} partners, {len(leads):,} leads, one thread", flush=True)
    published = Opened.of(snapshot, reasons=False)
    off = {rule.name: RuleConfig(enabled=False) for rule in published.way.rules if rule.narrows}
    config = snapshot.config.model_copy(update={"rules": {**snapshot.config.rules, **off}})
    open_to_all = Opened.of(snapshot.ruled_by(config), reasons=False)
    rows, said = [], []
    for name, opened in (("as published", published), ("nobody exclusive", open_to_all)):
        more, words = compare(name, opened, leads, asked.jobs)
        rows += more
        said += words
        print(table(("what", "seconds", "CPU", "CPU ms a lead"), more), flush=True)
    rows.append(written(snapshot, leads[: asked.written]))
    print(table(("world: what", "seconds", "CPU", "CPU ms a lead"), rows))
    print("\n".join(said))


def leads_of(partners: int, n: int) -> list[Lead]:
    """Return leads of the world, as many as asked for or there are."""
    found = simulate(partners=partners, start="2024-01-01", months=24, seed=SEED).tables["leads"].to_pandas()
    return [
        Lead.of({name: value for name, value in row.items() if name not in WHO and given(value)})
        for row in found.tail(n).to_dict("records")
    ]


def compare(name: str, opened: Opened, leads: Sequence[Lead], jobs: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return rows of the table for one world, and what is said of it."""
    load, config = Load.none(len(opened.snapshot)), opened.config.batch
    few = leads[:: max(1, len(leads) // ALONE)]
    alone, _ = timed(lambda: [looked_at(opened.situation(lead, NOW, load), opened.way) for lead in few])
    before = peak()
    one, (cols, worth, eligible) = timed(lambda: found_of(opened, load, leads, 1))
    grown = peak() - before
    many, again = timed(lambda: found_of(opened, load, leads, jobs))
    for ours, theirs in zip((cols, worth, eligible), again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    room = opened.way.capacity.free(load, np.arange(len(opened.snapshot)))
    auction, solved = timed(lambda: solve(Problem.of(cols, worth, room), gap=config.gap))
    rows = [
        (f"{name}: candidates, {len(few):,} leads alone", *alone.told(len(few))),
        (f"{name}: candidates, {len(leads):,} leads together", *one.told(len(leads))),
        (f"{name}: the same by {jobs} processes", *many.told(len(leads))),
        (f"{name}: auction", *auction.told(len(leads))),
    ]
    said = [
        f"{name}: {np.mean(eligible):,.0f} eligible (mean), {np.median(eligible):,.0f} (median), {eligible.max():,} at "
        f"most; memory grew by {grown:.2f} GB; {verdict(one.clock, SECONDS, 's of candidates and scores')}; "
        f"{verdict(many.clock, SECONDS, f's by {jobs} processes')}; "
        f"{solved.certificate.given:,} given out, gap {solved.certificate.gap:.1e}"
    ]
    return rows, said


def found_of(opened: Opened, load: Load, leads: Sequence[Lead], jobs: int) -> tuple[Any, Any, Any]:
    """Return candidates of leads, their worth, and how many are eligible."""
    silent, width = Progress.silent(), opened.config.batch.candidates
    with candidates(opened, load, leads, moment=NOW, jobs=jobs) as looked:
        cols, worth = gathered(len(leads), looked, width=width, chunk=CHUNK, progress=silent)
    return cols, worth, np.array([seen.n_eligible for seen in looked])


def written(snapshot: Snapshot, leads: Sequence[Lead]) -> tuple[str, ...]:
    """Return how long it takes to assign leads and write the decisions on SQLite."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Router.open(snapshot, ledger=f"sqlite:///{folder}/ledger.db", reasons=False) as router,
    ):
        took, _ = timed(lambda: router.assign(leads, now=NOW))
    return f"as published: all of it with a ledger on SQLite, {len(leads):,} leads", *took.told(len(leads))


def timed(work: Callable[[], Any]) -> tuple[Took, Any]:
    """Return what something took, processes that it started and ended included, and what it returned."""
    clock, used = time.perf_counter(), cpu()
    found = work()
    return Took(time.perf_counter() - clock, cpu() - used), found


def cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak() -> float:
    """Return the most memory that the process has held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
