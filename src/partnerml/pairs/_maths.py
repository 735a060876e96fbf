"""Distances, shrunken means and bands of sizes: elementwise, on arrays of any shapes that broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from partnerml.pairs._arrays import NOTHING, Floats, Ints

EARTH_KM = 6371.0088  # mean radius (IUGG)
# Of partners whose true win rates spread by .15 around .35, beta-binomial moments give p (1 - p) / .15^2 - 1, about 9.
PSEUDO_COUNT = 10.0
# Sizes of deals, in major units: the first band lies below 100, the last has no end.
SIZE_EDGES = tuple(float(digit * 10**power) for power in range(2, 9) for digit in (1, 3))


def unit_vectors(latitude: Any, longitude: Any) -> Floats:
    """Return points in degrees as unit vectors, shape (3, n); NaN where a coordinate is unknown."""
    phi, theta = (np.radians(np.asarray(degrees, dtype=np.float64)) for degrees in (latitude, longitude))
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)])


def distance_km(points: Floats, others: Floats) -> Floats:
    """Return great-circle distances between unit vectors of shapes (3, n) or (3, 1).

    By the chord: 2 R arcsin(|a - b| / 2), which is the haversine formula without its trigonometry for each pair.
    """
    half: Floats = np.minimum(np.sqrt(chord(points, others)) / 2.0, 1.0)
    return 2.0 * EARTH_KM * np.arcsin(half)


def chord(points: Floats, others: Floats) -> Floats:
    """Return squared distances through the earth, in radii."""
    x, y, z = points - others
    chord: Floats = x * x + y * y + z * z
    return chord


def shrunken(total: Any, count: Any, prior: Any, *, pseudo_count: float = PSEUDO_COUNT) -> Any:
    """Return means drawn toward a prior that weighs as much as `pseudo_count` observations.

    For a rate this is the mean of the beta posterior (empirical Bayes, Efron and Morris 1975); null without a prior.
    """
    return (total + pseudo_count * prior) / (count + pseudo_count)


def size_band(amount: Any) -> Ints:
    """Return the numbers of the bands of amounts; -1 where an amount is unknown."""
    known = np.asarray(amount, dtype=np.float64)
    return np.where(np.isnan(known), NOTHING, np.searchsorted(SIZE_EDGES, known, side="right")).astype(np.int64)
