"""How often the intervals of score groups hold the truth: small worlds with known probabilities, trained and scored.

    python benchmarks/interval_coverage.py [--worlds 50] [--first 2000] [--trees] [--partners N] [--drift SD]
    python benchmarks/interval_coverage.py --simulated [--worlds 50] [--first 2000]

Each world is backtested as `train` does it (rolling origin with a gap, replayed blend and calibration), a model is
fitted on all mature rows and scores the next snapshot. A bin is a score group with at least 200 scored rows; it is
covered if its interval holds the mean true probability of those rows. Bins of a world go together, so the standard
error is clustered by world. Beside it, on the same bins: the interval that forgets time (Wilson's, of the share in all
earlier rows of the bin). The worlds that the priors were chosen on have numbers below 2000. With `--simulated` the
worlds are those of `partnerml.synthetic`, of 1,500 to 3,500 partners, on few features: a minute or so each.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from _coverage_worlds import GAP, World, draw
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit

from partnerml import Ecosystem, tasks
from partnerml.config import Config
from partnerml.models import (
    Backtest,
    BaseRate,
    BoostedTrees,
    LogLogistic,
    backtest,
    choose,
    group_intervals,
    replay,
    rolling_origin,
)
from partnerml.synthetic import simulate
from partnerml.training import recipe_of

FOLDS = 8
MIN_ROWS = 200
FEATURES = [
    *(f"activity__all__{measure}__*" for measure in ("active_days", "recency_days", "age_days")),
    "events__all__count__*",
    "deals__won__count__*",
]
NORMAL_90 = 1.6448536269514722


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=50)
    parser.add_argument("--first", type=int, default=2000, help="number of the first world")
    parser.add_argument("--trees", action="store_true", help="boosted trees beside the logistic regression")
    parser.add_argument("--simulated", action="store_true", help="worlds of partnerml.synthetic")
    parser.add_argument("--partners", type=int, help="in every world; drawn from 1,000 to 6,000 by default")
    parser.add_argument("--drift", type=float, help="of the market, sd of a month in log-odds; drawn from 0 to .06")
    arguments = parser.parse_args()
    console = Console(width=130)
    found = []
    for number in track(range(arguments.first, arguments.first + arguments.worlds), console=console, transient=True):
        if arguments.simulated:
            bins = simulated_bins_of(number)
        else:
            world = draw(number, partners=arguments.partners, drift=arguments.drift)
            bins = bins_of(world, trees=arguments.trees)
        found.append(bins.assign(world=number))
    show(pd.concat(found, ignore_index=True), console)


def learners(trees: bool) -> dict:
    """Return what the components are fitted by."""
    fitted = {"logistic": lambda X, y, cut: LogLogistic().fit(X, y)}
    if trees:
        fitted["trees"] = lambda X, y, cut: BoostedTrees(n_estimators=80, n_seeds=1, n_jobs=1).fit(X, y)
    return fitted


def bins_of(world: World, *, trees: bool) -> pd.DataFrame:
    """Train on what was known, score the last snapshot, and hold each group's interval against the truth."""
    rows, X = world.rows, world.X
    now = pd.Timestamp(rows.loc[rows["month"] == world.scored, "as_of"].iloc[0])
    mature = (rows["as_of"] + GAP <= now).to_numpy()
    past, features = rows[mature].reset_index(drop=True), X[mature].reset_index(drop=True)
    tested = backtest(
        features,
        past["y"],
        past["partner"],
        as_of=past["as_of"],
        folds=rolling_origin(past["as_of"], gap=GAP, at_most=FOLDS),
        gap=GAP,
        learners=learners(trees),
        baselines={"base_rate": BaseRate.learn},
    )
    choice = choose(tested, tested.cuts, tested.y)
    asked = (rows["month"] == world.scored).to_numpy()
    parts = {name: learn(features, past["y"], now) for name, learn in learners(trees).items()}
    log_odds = pd.DataFrame({name: part.decision_function(X[asked]) for name, part in parts.items()})
    score = expit(choice.log_odds(log_odds))
    return held_against(tested, score, rows.loc[asked, "truth"].to_numpy())


def simulated_bins_of(number: int) -> pd.DataFrame:
    """Do the same in a world of `partnerml.synthetic`, by the recipe of churn on few features."""
    generator = np.random.default_rng(number)
    months, partners = int(generator.integers(20, 31)), int(generator.integers(1_500, 3_500))
    world = simulate(partners=partners, start="2023-01-01", months=months, seed=number)
    task, until = tasks.churn(), (pd.Timestamp(world.start) + pd.DateOffset(months=months - 3)).to_pydatetime()
    config = Config.from_dict({"features": {"include": FEATURES}})
    with Ecosystem.from_frames(now=world.end, config=config, **world.tables) as eco:
        recipe = recipe_of(eco, task, until=until, seed=0)
        tested = recipe.backtest()
        model = recipe.model(choose(tested, tested.cuts, tested.y), {})
        rows = tasks.build_dataset(eco, task, as_of=until, catalogue=model.catalogue, labels=False)
    truth = rows.keys["partner_id"].map(world.truth.churn_probability(until)).to_numpy()
    known = ~np.isnan(truth)
    return held_against(tested, model.predict_proba(rows.X)[known], truth[known])


def held_against(tested: Backtest, score: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """Return the intervals of a backtest's groups, and Wilson's, beside the mean truth of the rows scored in each."""
    judged, said = replay(tested)
    forecast, cuts, gap = said["model"].to_numpy(), tested.cut[judged], tested.gap
    groups = group_intervals(tested.y[judged], forecast, cuts, tested.cluster[judged], gap=gap)
    table = groups.table(score)
    group = groups.group_of(score)
    table["truth"] = [truth[group == place].mean() for place in np.unique(group)]
    before = groups.group_of(forecast)
    spans = [wilson(tested.y[judged][before == place]) for place in np.unique(group)]
    table["wilson_low"], table["wilson_high"] = zip(*spans, strict=True)
    return table


def wilson(labels: np.ndarray) -> tuple[float, float]:
    """Return Wilson's 90 % interval of a share."""
    n, share, z = len(labels), labels.mean(), NORMAL_90
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def coverage(bins: pd.DataFrame, low: str = "low", high: str = "high") -> tuple[float, float]:
    """Return the share of bins whose interval holds the truth, and its standard error clustered by world."""
    inside = bins["truth"].between(bins[low], bins[high]).astype(float)
    share = float(inside.mean())
    off = (inside - share).groupby(bins["world"]).sum()
    worlds = len(off)
    return share, float(np.sqrt((off**2).sum() * worlds / max(worlds - 1, 1)) / len(bins))


def show(bins: pd.DataFrame, console: Console) -> None:
    """Print coverage and width, over all bins that count and apart by score."""
    large = bins[bins["rows"] >= MIN_ROWS]
    table = Table("bins", "n", "90 % interval covers", "s.e.", "mean width", "Wilson covers", "its width")
    parts = {
        f"at least {MIN_ROWS} rows": large,
        "  score below .2": large[large["mean_score"] < 0.2],
        "  score .2 to .5": large[large["mean_score"].between(0.2, 0.5)],
        "  score above .5": large[large["mean_score"] > 0.5],
        f"fewer than {MIN_ROWS} rows": bins[bins["rows"] < MIN_ROWS],
    }
    for name, part in parts.items():
        if not len(part):
            continue
        share, error = coverage(part)
        other, _ = coverage(part, "wilson_low", "wilson_high")
        width, narrow = ((part[h] - part[lo]).mean() for lo, h in (("low", "high"), ("wilson_low", "wilson_high")))
        table.add_row(
            name, f"{len(part)}", f"{share:.1%}", f"{error:.1%}", f"{width:.3f}", f"{other:.1%}", f"{narrow:.3f}"
        )
    console.print(table)
    below, above = (large["truth"] < large["low"]).mean(), (large["truth"] > large["high"]).mean()
    print(f"{bins['world'].nunique()} worlds; truth below the interval {below:.1%}, above {above:.1%}; bar 87 to 93 %")


if __name__ == "__main__":
    main()
