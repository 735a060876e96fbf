"""Point-in-time features and labels: what was known of a partner at a moment, and what became of it."""

from __future__ import annotations

from partnerml.features._build import build, build_rows, write_rows
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._defaults import default_catalogue
from partnerml.features._labels import ChurnLabel, label_tables
from partnerml.features._spine import Population, first_activity, largest_lag
from partnerml.features._stream import Activity
from partnerml.features._words import describe

__all__ = [
    "Activity",
    "Catalogue",
    "ChurnLabel",
    "Feature",
    "Population",
    "build",
    "build_rows",
    "default_catalogue",
    "describe",
    "first_activity",
    "label_tables",
    "largest_lag",
    "write_rows",
]
