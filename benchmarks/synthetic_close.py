"""Close probability on the synthetic ecosystem, beside an oracle that knows its laws but only the recorded history.

    python benchmarks/synthetic_close.py [--partners 9000] [--months 36] [--seed 0]

Trains on what was known a year before the end, scores the pairs of the next six months (20,000 and more), and prints
metrics beside the oracle's. Then the win rates of partners, as they are and standardised, beside the truth: the policy
of the simulator gives leads to whom it likes.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.special import logit

from partnerml import Ecosystem, tasks
from partnerml.features import Catalogue, build_assigned, pair_outcomes
from partnerml.models import Model, evaluate
from partnerml.progress import Progress
from partnerml.synthetic import SyntheticEcosystem, simulate
from partnerml.synthetic._deals import WON, create_accounts
from partnerml.synthetic._leads import create_leads, distance_km, lead_place
from partnerml.synthetic._truth import Truth
from partnerml.synthetic._world import (
    DAY,
    LEAD_WIN_BASE,
    LEAD_WIN_KM,
    LEAD_WIN_LOAD,
    NEVER,
    SKILL_GRID,
    SKILL_PRIOR,
    WIN_MATCH,
    Floats,
    closing,
    microseconds,
    sigmoid,
)
from partnerml.training._close_parts import logged_weights
from partnerml.training._close_rates import Reference
from partnerml.training._recipe import Recipe, recipe_of

START = dt.date(2024, 1, 1)
HALF_A_YEAR = dt.timedelta(days=183)  # to test on, and as long again until its outcomes are known
HORIZON = 180
SHOWN = ("auc", "brier", "log_loss", "ece", "mean_prediction", "base_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=9_000)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="where to keep the model")
    arguments = parser.parse_args()
    world = simulate(partners=arguments.partners, start=START, months=arguments.months, seed=arguments.seed)
    until = world.end - 2 * HALF_A_YEAR
    with Ecosystem.from_frames(**world.tables, now=world.end) as eco:
        started = time.perf_counter(), time.process_time()
        recipe = recipe_of(eco, tasks.close(horizon_days=HORIZON), until=until, seed=arguments.seed)
        model = recipe.train(Progress.on()).model
        spent = time.perf_counter() - started[0], time.process_time() - started[1]
        print(f"trained on {len(recipe.data):,} pairs in {spent[0]:.0f} s ({spent[1]:.0f} s of one core)")
        if arguments.save is not None:
            model.save(arguments.save)
        show("backtest", model.evaluation)
        for question in ("immature", "selection"):
            print(f"{question}: {model.evaluation[question]['reason']}")
        tested(model, world, eco, until, seed=arguments.seed)
        rates(recipe, model, world, eco, until, seed=arguments.seed)


def tested(model: Model, world: SyntheticEcosystem, eco: Ecosystem, until: dt.datetime, *, seed: int) -> None:
    """Score the pairs of half a year after the training ended, beside the oracle."""
    outcomes, label = pair_outcomes(eco), tasks.close(horizon_days=HORIZON).label
    assigned = outcomes.pairs["assigned_at"].dt.tz_localize("UTC")
    later = (assigned >= until) & (assigned < until + HALF_A_YEAR)
    catalogue = Catalogue.from_dict(model.catalogue)
    data = build_assigned(eco, outcomes, catalogue=catalogue, label=label, until=world.end, rows=later.to_numpy())
    data = data.where(data.mature)
    best = data.keys.merge(oracle(world.truth), on=["lead_id", "partner_id", "as_of"], how="left")
    said = {"model": model.predict_proba(data.X), "oracle": best["oracle"].to_numpy()}
    said |= {"truth": best["win_probability"].to_numpy()}
    report = evaluate(data.y.to_numpy(), said, data.keys["lead_id"].to_numpy(), n_boot=300, seed=seed)
    show(f"test: {report['rows']:,} pairs of half a year", report)
    ours, oracles = report["models"]["model"], report["models"]["oracle"]
    behind = oracles["auc"]["estimate"] - ours["auc"]["estimate"]
    perfect = report["perfect_ece"]
    print(f"AUC behind the oracle by {behind:.4f} (bar .02)")
    print(f"ECE {ours['ece']['estimate']:.4f}; of a perfect model {perfect}")


def show(title: str, report: dict) -> None:
    """Print the metrics of a report."""
    table = Table("", *SHOWN, title=title)
    for name, values in report["models"].items():
        table.add_row(name, *(f"{values[metric]['estimate']:.4f}" for metric in SHOWN))
    Console(width=150).print(table)


def oracle(truth: Truth) -> pd.DataFrame:
    """Return for each assignment its true chance, and the best that the records of before its day allow.

    All but the part of a partner's skill that no trait shows is known to the oracle; of that it has a posterior, from
    the deals and leads that were known to have ended before 00:00 UTC of the day.
    """
    world, deals, made = truth.world, truth.deals, truth.assignments
    base = logit(made.win_probability) - SKILL_GRID[world.skill_index][made.partner]
    of_deals = (deals.partner >= 0) & (deals.closed < NEVER)
    # a lead that a partner handed in ends as its deal does, and counts there
    of_leads = ~np.isnan(made.propensity) & (made.result > 0) & (made.closed < NEVER)
    partner = np.concatenate([deals.partner[of_deals], made.partner[of_leads]])
    seen = np.concatenate([np.maximum(deals.closed_recorded, deals.recorded)[of_deals], made.closed_recorded[of_leads]])
    won = np.concatenate([deals.result[of_deals], made.result[of_leads]]) == WON
    chance = sigmoid(np.concatenate([deals.trait_logit[of_deals], base[of_leads]])[:, None] + SKILL_GRID)
    told = np.where(won[:, None], np.log(chance), np.log1p(-chance))
    belief = np.log(SKILL_PRIOR) + _so_far(partner, seen, told, asked=made.partner, at=made.assigned // DAY * DAY)
    belief = np.exp(belief - belief.max(axis=1, keepdims=True))
    belief /= belief.sum(axis=1, keepdims=True)
    expected = (belief * sigmoid(base[:, None] + SKILL_GRID)).sum(axis=1)
    true = truth.win_probability(horizon_days=HORIZON).rename(columns={"assigned_at": "as_of"})
    in_time = true["win_probability"].to_numpy() / made.win_probability
    return true.assign(oracle=expected * in_time)


def _so_far(partner: np.ndarray, seen: np.ndarray, told: Floats, *, asked: np.ndarray, at: np.ndarray) -> Floats:
    """Return for each question (a partner, a moment) the sum of what was told of the partner before the moment."""
    n, m = len(partner), len(asked)
    key = np.lexsort((np.repeat([1, 0], [n, m]), np.concatenate([seen, at]), np.concatenate([partner, asked])))
    rows = np.concatenate([told, np.zeros((m, told.shape[1]))])[key]
    begins = np.flatnonzero(np.diff(np.concatenate([partner, asked])[key], prepend=-1))
    sums = np.cumsum(rows, axis=0)
    before = np.repeat(sums[begins] - rows[begins], np.diff(np.append(begins, n + m)), axis=0)
    found = np.empty_like(rows)
    found[key] = sums - before
    return found[n:]


def rates(
    recipe: Recipe, model: Model, world: SyntheticEcosystem, eco: Ecosystem, until: dt.datetime, *, seed: int
) -> None:
    """Print how far win rates of partners lie from the truth, over the leads that each is compared on."""
    parts = dataclasses.replace(recipe.make.__self__, weighting=None, fitted={})
    reference = Reference(eco, parts, Catalogue.from_dict(model.catalogue), until=until, seed=seed)
    table = pd.DataFrame(reference.rates(model, logged_weights(parts))["table"]).set_index("partner_id")
    pairs = reference.pairs
    true = pairs[["partner_id"]].assign(p=true_chances(world.truth, pairs, until, seed=seed))
    alike = reference.overlap.overlaps(pairs[reference.columns])
    table["truth"] = true[alike].groupby("partner_id")["p"].mean()
    told = table[table["comparable"]]
    shown = Table(
        "win rate", "mean error", "bias", title=f"{len(told)} partners, {told['rows'].median():.0f} leads each"
    )
    errors = {}
    for name in ("raw", "model", "doubly_robust", "standardised"):
        off = told[name] - told["truth"]
        errors[name] = off.abs().mean()
        shown.add_row(name, f"{errors[name]:.4f}", f"{off.mean():+.4f}")
    Console(width=150).print(shown)
    inside = ((told["low"] <= told["truth"]) & (told["truth"] <= told["high"])).mean()
    less = 100 * (1 - errors["standardised"] / errors["raw"])
    print(f"standardised: {less:.0f} % less error than raw (bar 30 %); 95 % intervals hold the truth in {inside:.0%}")


def true_chances(truth: Truth, pairs: pd.DataFrame, until: dt.datetime, *, seed: int) -> Floats:
    """Return the true chance that each pair is won in time, were it made at a moment."""
    world = truth.world
    # drawn again: the truth holds what became of leads, and not where they are
    leads, _ = create_leads(world, create_accounts(world, seed=seed), truth.deals, seed=seed)
    day = microseconds(until) // DAY - world.calendar.first
    partner = pd.Index(np.asarray(truth.partner_ids)).get_indexer(pairs["partner_id"])
    lead = pd.Index(np.asarray(truth.lead_ids)).get_indexer(pairs["lead_id"])
    distance = distance_km(*lead_place(leads, lead), *world.place_at(partner, day))
    match = (world.verticals_at(partner, day) >> leads.vertical[lead]) & 1
    load = pairs["pair__load__open_leads__live"].to_numpy()
    chance = LEAD_WIN_BASE + world.skill[partner] + WIN_MATCH * match
    chance = chance + LEAD_WIN_KM * np.minimum(distance, 900) + LEAD_WIN_LOAD * np.minimum(load, 8)
    found: Floats = sigmoid(chance) * np.cumsum(closing())[HORIZON - 1]
    return found


if __name__ == "__main__":
    main()
