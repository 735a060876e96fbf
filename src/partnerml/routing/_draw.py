"""Chance that anybody can repeat: numbers from hashes of names, and draws by them."""

from __future__ import annotations

import hashlib

import numpy as np

from partnerml.pairs._arrays import Floats

_FRACTION_BITS = 53  # what a float64 holds


def fraction(*names: object) -> float:
    """Return a number in [0, 1) that only depends on the names."""
    bits: int = _hashed("|".join(str(name) for name in names)) >> (64 - _FRACTION_BITS)
    return float(bits) / (1 << _FRACTION_BITS)


def drawn(probabilities: Floats, at: float) -> int:
    """Return the place that a number in [0, 1) falls on, by the inverse of the cumulated probabilities."""
    cumulated = np.cumsum(probabilities)
    # of equal sums the first is the one that grew, so what has probability 0 is never drawn
    place = int(np.searchsorted(cumulated, at * cumulated[-1], side="right"))
    return place if place < len(cumulated) else int(np.flatnonzero(probabilities)[-1])


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
