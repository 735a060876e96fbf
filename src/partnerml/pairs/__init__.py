"""What a lead and a partner are to each other: kernels in numpy, one source for training and for routing.

`PartnerFacts` holds what was known of partners at 00:00 UTC, one row for each partner and midnight: for routing all
partners at the midnight of a snapshot, for training those that got a lead at the midnight of that day. `Leads` are
encoded against the same vocabularies. A `Pairing` says which lead meets which row; every kernel takes one, whether it
is one lead with ten thousand partners or a million assigned pairs, and works on whole arrays.
"""

from __future__ import annotations

from partnerml.pairs._arrays import Lists, Tally, Vocabulary
from partnerml.pairs._facts import DIMENSIONS, PartnerFacts
from partnerml.pairs._kernels import (
    FEATURES,
    LIVE_FEATURES,
    OUTCOME_MEASURES,
    Pairing,
    areas_hold,
    routing_pairs,
)
from partnerml.pairs._leads import LEAD_COLUMNS, Leads, cell_values
from partnerml.pairs._maths import (
    EARTH_KM,
    PSEUDO_COUNT,
    SIZE_EDGES,
    chord,
    distance_km,
    shrunken,
    size_band,
    unit_vectors,
)
from partnerml.pairs._one import OneLead, band_of

__all__ = [
    "DIMENSIONS",
    "EARTH_KM",
    "FEATURES",
    "LEAD_COLUMNS",
    "LIVE_FEATURES",
    "OUTCOME_MEASURES",
    "PSEUDO_COUNT",
    "SIZE_EDGES",
    "Leads",
    "Lists",
    "OneLead",
    "Pairing",
    "PartnerFacts",
    "Tally",
    "Vocabulary",
    "areas_hold",
    "band_of",
    "cell_values",
    "chord",
    "distance_km",
    "routing_pairs",
    "shrunken",
    "size_band",
    "unit_vectors",
]
