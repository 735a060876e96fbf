"""One lead at a time: how long a decision takes, and how often the first stage loses the best partner.

A synthetic world is simulated, a close model trained on it, and a snapshot made as publishing makes it. Leads that
came after the snapshot are routed, one by one, on one thread. A world of ten times the partners is the same one ten
times over, with offices moved and features swapped among partners.

The first stage needs no clock: it is tried on leads of the whole world, until a thousand have reached it.

    python benchmarks/routing_online.py [--partners 10000] [--leads 1000] [--times 10] [--model FOLDER] [--world FOLDER]
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pyarrow as pa
from _harness import table, verdict
from _routing_peer import Plain

from partnerml import Ecosystem, load_model, tasks, train
from partnerml.publishing import snapshot_of
from partnerml.routing import Lead, Router, Snapshot
from partnerml.routing._eligibility import eligible
from partnerml.routing._opened import Opened
from partnerml.routing._scorer import ModelScorer
from partnerml.routing._shortlist import shortlist
from partnerml.routing._situation import Load, Situation
from partnerml.synthetic import simulate

AS_OF = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
UNTIL = dt.datetime(2025, 10, 1, tzinfo=dt.UTC)
WARM = 200
SEED = 8
WHO = ("account_id", "account_name", "domain")
BARS = {"p50": 2.0, "p99": 10.0, "sqlite": 15.0, "large": 25.0, "recall": 0.99, "pandas": 50.0}
_PLAIN = 100  # leads that plain pandas decides
_REACHED = 1_000  # leads that are to reach the first stage
_EARLIER = 40_000  # leads at most that are looked at for it, the latest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=10_000)
    parser.add_argument("--leads", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=10, help="how many times the partners of the large world")
    parser.add_argument("--model", type=Path, help="a saved model of this world, or where to save it")
    parser.add_argument(
        "--world", type=Path, help="the snapshot and leads that were saved there, or where to save them"
    )
    asked = parser.parse_args()
    print(f"seed {SEED}, {asked.partners:,} partners, {asked.leads:,} leads, one thread", flush=True)
    snapshot, leads, earlier = prepared(asked.partners, asked.model, asked.world)
    leads = leads[: asked.leads + WARM]
    large = enlarged(snapshot, asked.times)
    # most leads of this world are of companies that came before: those are decided before any score
    unknown = [without_company(lead) for lead in leads]
    rows = [
        ("leads as they came: decision alone", timed(decider(snapshot), leads)),
        ("leads as they came: ledger in memory", routed(snapshot, leads, None)),
        ("all scored: decision alone", timed(decider(snapshot), unknown)),
        ("all scored: ledger in memory", routed(snapshot, unknown, None)),
        ("all scored: ledger on SQLite", routed(snapshot, unknown, "sqlite")),
        (f"all scored, {len(large):,} partners: decision alone", timed(decider(large), unknown)),
        (f"all scored, {len(large):,} partners: ledger in memory", routed(large, unknown, None)),
        ("all scored: decision alone, with reasons", timed(decider(snapshot, reasons=True), unknown)),
    ]
    told = [
        (name, *(f"{value:.2f}" for times in both for value in quantiles(times)), f"{np.mean(both.wall):.2f}")
        for name, both in rows
    ]
    print(table(("one decision, ms", "p50", "p99", "CPU p50", "CPU p99", "mean"), told))
    print(against_pandas(snapshot, unknown))
    for made in (snapshot, large):
        print(first_stage(made, [*leads, *earlier]), flush=True)
    alone, sqlite, far, farther = (quantiles(rows[place][1].wall) for place in (2, 4, 5, 6))
    print(verdict(alone[0], BARS["p50"], "ms p50 of a decision, all scored"))
    print(verdict(alone[1], BARS["p99"], "ms p99 of a decision, all scored"))
    print(verdict(sqlite[1], BARS["sqlite"], "ms p99 with the ledger on SQLite"))
    print(verdict(far[1], BARS["large"], f"ms p99 of a decision, {len(large):,} partners"))
    print(verdict(farther[1], BARS["large"], f"ms p99 with the ledger in memory, {len(large):,} partners"))


def prepared(partners: int, model: Path | None, folder: Path | None) -> tuple[Snapshot, list[Lead], list[Lead]]:
    """Return a snapshot, the leads that came after it in their order, and those before it, the latest first.

    They are read where they were saved before: to simulate takes minutes.
    """
    if folder is None or not folder.is_dir():
        snapshot, rows = prepare(partners, model)
        rows = rows.sort_values("created_at", kind="stable")
        is_later = rows["created_at"] >= AS_OF
        leads = leads_of(rows[is_later]), leads_of(rows[~is_later].iloc[: -_EARLIER - 1 : -1])
        if folder is None:
            return snapshot, *leads
        folder.mkdir(parents=True)
        for name, some in zip(("after", "earlier"), leads, strict=True):
            (folder / f"{name}.jsonl").write_text("".join(f"{lead.payload}\n" for lead in some))
        (folder / "snapshot").write_text(snapshot.write(folder).name)
    read = (folder / f"{name}.jsonl" for name in ("after", "earlier"))
    after, earlier = ([Lead.of_payload(text) for text in path.read_text().splitlines()] for path in read)
    return Snapshot.open(folder / (folder / "snapshot").read_text()), after, earlier


def prepare(partners: int, model: Path | None) -> tuple[Snapshot, pd.DataFrame]:
    """Return a snapshot, and all leads of its world."""
    world = simulate(partners=partners, start="2024-01-01", months=24, seed=SEED)
    with Ecosystem.from_frames(now=world.end, **world.tables) as eco:
        if model is not None and model.is_dir():
            close = load_model(model)
        else:
            close = train(eco, tasks.close(horizon_days=120), until=UNTIL, seed=0)
            if model is not None:
                close.save(model)
        print(f"components: {', '.join(close.blend.components)}; {len(close.columns)} features", flush=True)
        snapshot = snapshot_of(eco, as_of=AS_OF, model=close)
    return snapshot, world.tables["leads"].to_pandas()


def leads_of(rows: pd.DataFrame) -> list[Lead]:
    return [Lead.of({k: v for k, v in row.items() if given(v)}) for row in rows.to_dict("records")]


def without_company(lead: Lead) -> Lead:
    return Lead.of({k: v for k, v in lead.values.items() if k not in WHO})


def given(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def enlarged(snapshot: Snapshot, times: int) -> Snapshot:
    """Return the same partners so many times, each time at other places and with the features of another."""
    rng, n = np.random.default_rng(SEED), len(snapshot)
    scorer = snapshot.scorer
    assert isinstance(scorer, ModelScorer)
    places = np.concatenate([np.arange(n), *(rng.permutation(n) for _ in range(times - 1))])
    made = Snapshot.of(
        as_of=snapshot.as_of,
        **{name: copies(snapshot.tables[name], times, rng) for name in ("partners", "territories", "certifications")},
        accounts=snapshot.tables["accounts"].set_column(
            4, "owner_partner_id", pa.nulls(len(snapshot.accounts), pa.string())
        ),
        cells=cells_of(snapshot, times),
        config=snapshot.config,
    )
    # the ids of copies sort with those of their originals
    place = {partner: row for row, partner in enumerate(made.partners.partner_id)}
    order = np.argsort([place[f"{p}~{k}"] for k in range(times) for p in snapshot.partners.partner_id])
    codes = np.take(np.asarray(scorer.codes), places, axis=0)[order]
    return Snapshot.of_tables(
        made.tables,
        as_of=made.as_of,
        known=made.facts,
        cells=None,
        scorer=ModelScorer(scorer.model, made.facts, codes),
        prices=None,
        acceptance=made.acceptance,
        config=made.config,
        versions={},
    )


def copies(rows: pa.Table, times: int, rng: np.random.Generator) -> pa.Table:
    """Return rows so many times, of partners with ids of their own and moved by about 50 km."""
    parts = []
    for k in range(times):
        part = rows.set_column(
            rows.schema.get_field_index("partner_id"),
            "partner_id",
            pa.array([f"{partner}~{k}" for partner in rows["partner_id"].to_pylist()], type=pa.string()),
        )
        for name in ("latitude", "longitude"):
            if k and name in rows.column_names:
                moved = rows[name].to_numpy() + rng.normal(0.0, 0.4, rows.num_rows)
                moved = np.clip(moved, -89.0, 89.0) if name == "latitude" else np.clip(moved, -179.0, 179.0)
                part = part.set_column(rows.schema.get_field_index(name), name, pa.array(moved, from_pandas=True))
        parts.append(part)
    return pa.concat_tables(parts)


def cells_of(snapshot: Snapshot, times: int) -> Mapping[str, Sequence[Any]]:
    """Return what is known of past deals and leads as a table again, so many times."""
    record, ids = snapshot.known.record, snapshot.known.partner_id
    own, n = record.own, len(ids)
    size = np.where(own.won > 0, own.won, 0.0)
    found = [
        (
            ids,
            "all",
            np.full(n, "", dtype=object),
            own.closed,
            own.won,
            own.days,
            size,
            size * np.nan_to_num(record.mean_amount),
        )
    ]
    for dimension, cells in record.cells.items():
        texts = np.array(sorted(cells.values.index, key=cells.values.index.__getitem__), dtype=object)
        zeros = np.zeros(len(cells.key))
        found.append((ids[cells.key % n], dimension, texts[cells.key // n], *cells.tally, zeros, zeros))
    names = ("partner_id", "dimension", "value", "closed", "won", "days", "sized", "amount")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for k in range(times):
        for who, dimension, *values in found:
            columns["partner_id"] += [f"{partner}~{k}" for partner in who]
            columns["dimension"] += [dimension] * len(who)
            for name, part in zip(names[2:], values, strict=True):
                columns[name] += list(part)
    return columns


def decider(snapshot: Snapshot, *, reasons: bool = False) -> Callable[[Lead, dt.datetime], Any]:
    """Return what decides without any ledger."""
    opened, load = Opened.of(snapshot, reasons=reasons), Load.none(len(snapshot))
    return lambda lead, now: opened.decide(situation(snapshot, lead, now, load), number=0, credit={})


def situation(snapshot: Snapshot, lead: Lead, now: dt.datetime, load: Load | None = None) -> Situation:
    held = Load.none(len(snapshot)) if load is None else load
    return Situation(lead, now, snapshot, held, frozenset(), (), snapshot.config)


class Times(NamedTuple):
    """The ms of each call, by the clock, and of the processor: the same on a machine that does nothing else."""

    wall: list[float]
    cpu: list[float]


def routed(snapshot: Snapshot, leads: Sequence[Lead], ledger: str | None) -> Times:
    """Return how long each lead takes the router."""
    with tempfile.TemporaryDirectory() as folder:
        url = None if ledger is None else f"sqlite:///{folder}/ledger.db"
        with Router.open(snapshot, ledger=url, reasons=False) as router:
            return timed(lambda lead, now: router.route(lead, now=now), leads)


def timed(call: Callable[[Lead, dt.datetime], Any], leads: Sequence[Lead]) -> Times:
    """Return how long each call took, after some to warm up."""
    wall, cpu = [], []
    for number, lead in enumerate(leads):
        now = AS_OF + dt.timedelta(hours=8, seconds=number)
        begin, used = time.perf_counter(), time.thread_time()
        call(lead, now)
        cpu.append(1e3 * (time.thread_time() - used))
        wall.append(1e3 * (time.perf_counter() - begin))
    return Times(wall[WARM:], cpu[WARM:])


def against_pandas(snapshot: Snapshot, leads: Sequence[Lead]) -> str:
    """Decide some leads both ways, one after the other, and say how much quicker ours is; both decide the same."""
    plain, ours = Plain(snapshot), decider(snapshot)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for number, lead in enumerate(leads[: 2 * _PLAIN]):
        now = AS_OF + dt.timedelta(hours=8, seconds=number)
        used = time.thread_time()
        decision = ours(lead, now).decision
        took = time.thread_time() - used
        if number < _PLAIN or decision.status not in ("assigned", "fallback"):
            continue  # to warm up; or what a rule of engagement decides
        begin = time.thread_time()
        found = plain.decide(lead, now)
        times["plain"].append(1e3 * (time.thread_time() - begin))
        times["ours"].append(1e3 * took)
        assert found.n_eligible == decision.n_eligible, f"{lead.lead_id}: {found.n_eligible}, {decision.n_eligible}"
        if 0 < found.n_eligible <= snapshot.config.first_stage.above:
            np.testing.assert_allclose(found.best, decision.p_win, rtol=0.0, atol=1e-9, err_msg=lead.lead_id)
    half = {name: float(np.median(each)) for name, each in times.items()}
    told = ", ".join(f"{name} {value:.2f} ms" for name, value in half.items())
    ratio = half["plain"] / half["ours"]
    return f"plain pandas, CPU, median of {len(times['plain'])} leads: {told}; " + verdict(
        ratio, BARS["pandas"], "times as quick as plain pandas", at_least=True
    )


def quantiles(times: Sequence[float]) -> tuple[float, float]:
    return float(np.quantile(times, 0.5)), float(np.quantile(times, 0.99))


def first_stage(snapshot: Snapshot, leads: Sequence[Lead]) -> str:
    """Say how many are eligible, and how often the best of them is among those that the first stage keeps."""
    rules, found, numbers = Opened.of(snapshot, reasons=False).way.rules, [], []
    for lead in leads:
        case = situation(snapshot, without_company(lead), AS_OF + dt.timedelta(hours=8))
        rows = eligible(case, rules).rows
        numbers.append(len(rows))
        kept = shortlist(case, rows)
        if len(kept) < len(rows):
            p = snapshot.scorer.score(case, rows).p
            found.append(bool(p[np.isin(rows, kept)].max() == p.max()))
            if len(found) == _REACHED:
                break
    some = f"{len(snapshot):,} partners: {np.median(numbers):,.0f} eligible (median), {max(numbers):,} at most; "
    if not found:
        return some + "no first stage"
    told = f"recall@1, {found.count(False)} missed of the {len(found):,} of {len(numbers):,} leads that reached it"
    return some + verdict(float(np.mean(found)), BARS["recall"], told, at_least=True)


if __name__ == "__main__":
    main()
