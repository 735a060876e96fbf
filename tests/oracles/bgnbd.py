"""An independent BG/NBD: frozen values of the package `lifetimes` 0.11.3, and the process itself by simulation."""

import dataclasses

import numpy as np

# r, alpha, a, b in weeks, as published for the 1/10 sample of CDNOW (Fader, Hardie and Lee 2005)
CDNOW = (0.243, 4.414, 0.793, 2.426)

# frequency, recency, age, P(alive), negative log-likelihood: lifetimes 0.11.3 at the parameters above
FROZEN = [
    (0, 0.0, 38.86, 1.0, 0.5547132764381585),
    (1, 1.71, 38.86, 0.2121009853773791, 4.469093275032588),
    (2, 30.43, 38.86, 0.726578570080673, 9.45860630706627),
    (7, 29.43, 38.86, 0.6417563459461072, 21.86327627146352),
    (29, 38.0, 39.0, 0.9510033703376298, 44.53209686572333),
    (3, 0.5, 2.0, 0.7017216855780524, 6.357233440402775),
    (0, 0.0, 1.0, 1.0, 0.0496222726558882),
]


@dataclasses.dataclass
class World:
    frequency: np.ndarray
    recency: np.ndarray
    age: np.ndarray
    acts: np.ndarray


def simulate(parameters, *, n, horizon, seed):
    """Follow each partner from its first activity: wait, act, perhaps leave; until age + horizon weeks."""
    r, alpha, a, b = parameters
    rng = np.random.default_rng(seed)
    rate, leaves = rng.gamma(r, 1 / alpha, n), rng.beta(a, b, n)
    age = rng.uniform(26, 78, n)
    frequency, recency, now = np.zeros(n), np.zeros(n), np.zeros(n)
    acts, alive = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    while alive.any():
        with np.errstate(divide="ignore"):
            now = now + rng.exponential(1, n) / rate
        before = alive & (now <= age)
        frequency[before] += 1
        recency[before] = now[before]
        acts |= alive & (now > age) & (now <= age + horizon)
        alive &= (now <= age + horizon) & (rng.random(n) >= leaves)
    return World(frequency, recency, age, acts.astype(float))
