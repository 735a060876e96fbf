"""Point-in-time features and labels: what was known of a partner at a moment, and what became of it."""

from __future__ import annotations

from partnerml.features._build import build, build_rows, labels_as_known, write_rows
from partnerml.features._catalog import Catalogue, Feature, Peers
from partnerml.features._defaults import default_catalogue
from partnerml.features._dictionary import dictionary, missing
from partnerml.features._joining import build_joining, joining_features
from partnerml.features._labels import ChurnLabel, label_tables
from partnerml.features._measure import Measure
from partnerml.features._measures import MEASURES
from partnerml.features._pair_statistics import partner_facts
from partnerml.features._pairs import build_pairs, default_pair_features
from partnerml.features._spine import Population, first_activity, largest_lag, population_keys
from partnerml.features._store import CellStore
from partnerml.features._stream import Activity
from partnerml.features._update import UpdateReport
from partnerml.features._words import describe

__all__ = [
    "MEASURES",
    "Activity",
    "Catalogue",
    "CellStore",
    "ChurnLabel",
    "Feature",
    "Measure",
    "Peers",
    "Population",
    "UpdateReport",
    "build",
    "build_joining",
    "build_pairs",
    "build_rows",
    "default_catalogue",
    "default_pair_features",
    "describe",
    "dictionary",
    "first_activity",
    "joining_features",
    "label_tables",
    "labels_as_known",
    "largest_lag",
    "missing",
    "partner_facts",
    "population_keys",
    "write_rows",
]
