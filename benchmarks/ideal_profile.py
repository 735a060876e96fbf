"""The ideal partner profile in made-up programmes whose truth is known: what is found, and what should not be.

    python benchmarks/ideal_profile.py [--worlds 200] [--partners 100000]

In each world partners have two traits with four values each and two numbers, joined over four years, and are followed
for 0 to 4 years, so that a quarter of them is younger than the 365 days of success. Printed are

- without any effect, how often anything at all is found, among single traits, among combinations, in the profile
  (stable in all periods as well), and how often it would be without a correction for the number of splits;
- with 45 % of one value succeeding against 30 % of the others, how often that is found, how often the 95 % interval of
  its lift holds the true one, and the mean rate told for it, beside what counting only partners that were followed to
  the end (or had succeeded) would tell;
- with 60 % of one combination succeeding against 30 %, how often it is found, and how often another one is;
- the time that a large programme takes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from partnerml.dataset import FeatureInfo
from partnerml.models import Profile, ideal_profile

DAYS, YEARS = 365, 4
TEXTS, NUMBERS = ("type", "country"), ("employees", "locations")
WORDS = "type is a"
BOTH = {"type is a", "country is b"}


def names(trait: str) -> str:
    return f"partners__{trait}__trait__asof"


DICTIONARY = tuple(
    FeatureInfo(names(trait), f"{trait}.", "partners", (trait,), None, "null", trait, trait, "trait", trait, unit)
    for traits, unit in ((TEXTS, "category"), (NUMBERS, "number"))
    for trait in traits
)


def world(n: int, seed: int, effect: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Make traits, times and moments of joining; 30 % succeed within the days but where the effect says more."""
    generator = np.random.default_rng(seed)
    traits = {trait: generator.choice(list("abcd"), n) for trait in TEXTS}
    X = pd.DataFrame({names(trait): pd.Categorical(values) for trait, values in traits.items()})
    for trait in NUMBERS:
        X[names(trait)] = generator.lognormal(3, 1, n).round()
    chance = np.full(n, 0.3)
    if effect == "single":
        chance[traits["type"] == "a"] = 0.45
    if effect == "both":
        chance[(traits["type"] == "a") & (traits["country"] == "b")] = 0.6
    success = generator.exponential(-DAYS / np.log1p(-chance))
    followed = generator.uniform(0, YEARS * DAYS, n)
    times = pd.DataFrame({"duration_days": np.minimum(success, followed), "observed": success <= followed})
    return X, times, pd.Series(pd.Timestamp("2026-01-01", tz="UTC") - pd.to_timedelta(followed, unit="D"))


def profiles(n: int, worlds: int, effect: str) -> list[Profile]:
    return [ideal_profile(*world(n, seed, effect), success_days=DAYS, dictionary=DICTIONARY) for seed in range(worlds)]


def share(hits: list[bool]) -> str:
    rate = float(np.mean(hits))
    return f"{100 * rate:5.1f} +- {100 * np.sqrt(rate * (1 - rate) / len(hits)):.1f} %"


def without_effect(n: int, worlds: int) -> None:
    found = profiles(n, worlds, "none")
    rows = {
        "a single trait": [any(lift.q_value <= 0.05 for lift in p.traits) for p in found],
        "a combination": [bool(p.combinations) for p in found],
        "anything, and stable": [bool(p.found) for p in found],
        "a single trait, uncorrected": [any(lift.contrast.p_value <= 0.05 for lift in p.traits) for p in found],
    }
    for name, hits in rows.items():
        print(f"{n:8,}  no effect: worlds that find {name:<32} {share(hits)}")


def with_a_trait(n: int, worlds: int) -> None:
    found = profiles(n, worlds, "single")
    lifts = [next(lift for lift in p.traits if lift.words == WORDS) for p in found]
    covered = [lift.contrast.lift_low <= 0.45 / 0.3 <= lift.contrast.lift_high for lift in lifts]
    naive = []
    for seed in range(worlds):
        X, times, _ = world(n, seed, "single")
        seen = (times["observed"] & (times["duration_days"] <= DAYS)).to_numpy()
        ended = seen | (times["duration_days"] >= DAYS).to_numpy()
        naive.append(seen[ended & (X[names("type")] == "a")].mean())
    print(
        f"{n:8,}  45 % against 30 %: found in {share([lift in p.found for lift, p in zip(lifts, found, strict=True)])}"
    )
    print(f"{n:8,}  45 % against 30 %: interval of the lift holds the true one in {share(covered)}")
    told = float(np.mean([lift.contrast.rate for lift in lifts]))
    print(
        f"{n:8,}  45 % against 30 %: mean rate told {told:.3f}, by those whose end is known alone {np.mean(naive):.3f}"
    )


def with_a_combination(n: int, worlds: int) -> None:
    found = [{lift.words for lift in p.combinations} for p in profiles(n, worlds, "both")]
    right = [any(set(words.split(" and ")) == BOTH for words in each) for each in found]
    wrong = [any(not set(words.split(" and ")) & BOTH for words in each) for each in found]
    print(f"{n:8,}  60 % of one combination: found in {share(right)}, another one, no part of it, in {share(wrong)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--partners", type=int, default=100_000, help="of the programme that is timed")
    options = parser.parse_args()
    for n in (500, 2000):
        without_effect(n, options.worlds)
    for n in (500, 1000, 2000):
        with_a_trait(n, options.worlds)
        with_a_combination(n, options.worlds)
    made = world(options.partners, 0, "both")
    start = time.perf_counter()
    found = ideal_profile(*made, success_days=DAYS, dictionary=DICTIONARY)
    splits = len(found.traits) + found.tested
    print(f"{options.partners:8,}  {splits} splits in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
