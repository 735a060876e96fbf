"""Point-in-time features and labels: what was known of a partner at a moment, and what became of it."""

from __future__ import annotations

from partnerml.features._accounts import (
    Accounts,
    account_features,
    build_accounts,
    created_at,
    tell_idle_exclusions,
)
from partnerml.features._build import build, build_rows, labels_as_known, rows_by_partner, write_rows
from partnerml.features._catalog import Catalogue, Feature, Peers
from partnerml.features._defaults import default_catalogue
from partnerml.features._dictionary import dictionary, missing
from partnerml.features._joining import build_joining, joining_features, successes_as_known, waiting_at
from partnerml.features._labels import ChurnLabel, label_tables
from partnerml.features._measure import Measure
from partnerml.features._measures import MEASURES
from partnerml.features._pair_statistics import partner_facts
from partnerml.features._pairs import RECORD, build_assigned, build_pairs, default_pair_features
from partnerml.features._partner_labels import PartnerLabel, build_labelled_accounts, partner_accounts
from partnerml.features._spine import Population, first_activity, largest_lag, population_keys
from partnerml.features._store import CellStore
from partnerml.features._stream import Activity
from partnerml.features._success import Joining, SuccessLabel, first_deal, success_tables
from partnerml.features._update import UpdateReport
from partnerml.features._won import Assigned, PairOutcomes, WonLabel, pair_outcomes, won_tables
from partnerml.features._words import describe

__all__ = [
    "MEASURES",
    "RECORD",
    "Accounts",
    "Activity",
    "Assigned",
    "Catalogue",
    "CellStore",
    "ChurnLabel",
    "Feature",
    "Joining",
    "Measure",
    "PairOutcomes",
    "PartnerLabel",
    "Peers",
    "Population",
    "SuccessLabel",
    "UpdateReport",
    "WonLabel",
    "account_features",
    "build",
    "build_accounts",
    "build_assigned",
    "build_joining",
    "build_labelled_accounts",
    "build_pairs",
    "build_rows",
    "created_at",
    "default_catalogue",
    "default_pair_features",
    "describe",
    "dictionary",
    "first_activity",
    "first_deal",
    "joining_features",
    "label_tables",
    "labels_as_known",
    "largest_lag",
    "missing",
    "pair_outcomes",
    "partner_accounts",
    "partner_facts",
    "population_keys",
    "rows_by_partner",
    "success_tables",
    "successes_as_known",
    "tell_idle_exclusions",
    "waiting_at",
    "won_tables",
    "write_rows",
]
