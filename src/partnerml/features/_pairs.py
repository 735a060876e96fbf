"""The rows of the close task: assigned pairs of lead and partner, with the features of both.

The features of the partner are those of 00:00 UTC of the day of assignment, through the ordinary engine; those of the
pair come from `partnerml.pairs`, the same kernels that routing calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd

from partnerml.dataset import Dataset, FeatureInfo, fingerprint
from partnerml.errors import ConfigError, DataError
from partnerml.features._assemble import assembled
from partnerml.features._build import build_rows
from partnerml.features._catalog import Catalogue
from partnerml.features._measure import Family
from partnerml.features._pair_outcomes import open_leads
from partnerml.features._pair_statistics import OUTCOMES, facts_of
from partnerml.features._spine import naive_utc
from partnerml.features._traits import historic_traits, static_traits
from partnerml.features._won import PairOutcomes, WonLabel
from partnerml.features._words import describe
from partnerml.moments import Moment
from partnerml.pairs import (
    FEATURES,
    LEAD_COLUMNS,
    LIVE_FEATURES,
    OUTCOME_MEASURES,
    Leads,
    Pairing,
    cell_values,
)

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

KEYS = ("lead_id", "partner_id", "assigned_at")
# how many deals a partner has won: what its rate says already, but for a model of rates, which needs the counts
RECORD = ("pair__all__won__ever", "pair__all__count__ever")
_HOW_THEY_ENDED: Mapping[str, tuple[str, ...]] = {
    "all": (OUTCOMES,),
    "vertical": (OUTCOMES, "leads.vertical"),
    "country": (OUTCOMES, "leads.country"),
    "size": (OUTCOMES, "leads.amount"),
}
_POINTS = ("leads.latitude", "leads.longitude", "traits.latitude", "traits.longitude")
# what a feature reads, by the middle of its name: tables, their columns, traits of partners
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "place__distance_km": _POINTS,
    "place__given_km": ("leads.source_partner_id", *_POINTS),
    "place__level": ("leads.country", "traits.country"),
    "territory__level": ("territories",),
    "vertical__similarity": ("leads.vertical", "traits.verticals"),
    "language__coverage": ("leads.languages", "traits.languages"),
    "certification__coverage": ("leads.required_certifications", "certifications"),
    "source__own": ("leads.source_partner_id",),
    "all__tenure_days": ("partners.joined_at",),
    "size__log_ratio": (OUTCOMES, "leads.amount"),
    "load__open_leads": ("assignments",),
    "load__share": ("assignments", "partner_history.max_open_leads"),
    **{f"{kind}__{m}": needs for kind, needs in _HOW_THEY_ENDED.items() for m in OUTCOME_MEASURES},
}


def build_pairs(
    eco: Ecosystem, pairs: pd.DataFrame | None = None, *, catalogue: Catalogue, until: Moment | None = None
) -> Dataset:
    """Build the features of assigned pairs of lead and partner.

    Parameters
    ----------
    eco : Ecosystem
    pairs : DataFrame, optional
        ``lead_id``, ``partner_id``, ``assigned_at`` (zoned, or naive and taken as UTC); by default every row of
        ``assignments``.
    catalogue : Catalogue
        Features of partners, as of 00:00 UTC of the day of assignment, and of pairs.
    until : moment, optional
        Leave out what was assigned, or became known by the lag of ``assignments``, at or after it.

    Returns
    -------
    Dataset
        Without labels. Its keys are ``lead_id``, ``partner_id`` and ``as_of``, the moment of assignment; its rows are
        sorted by (as_of, lead_id, partner_id).

    Raises
    ------
    ConfigError
        If there is no table ``leads``, or a feature is about a table that is not there.
    DataError
        If a column is missing, a lead or partner is unknown, or a row comes twice.
    """
    if not eco.has("leads"):
        raise ConfigError("features of pairs need the table leads; add it to data.tables, or leave them out")
    rows = _rows(_assigned(eco) if pairs is None else pairs)
    if until is not None:
        known_at = rows["assigned_at"] + eco.lag("assignments")
        rows = rows[known_at < np.datetime64(naive_utc(until), "us")].reset_index(drop=True)
    _check_partners(eco, rows["partner_id"])
    days = pd.DataFrame({"partner_id": rows["partner_id"], "as_of": rows["assigned_at"].dt.floor("D")})
    names = [feature.name for feature in catalogue.of(Family.PAIRS)]
    of_partners, infos = _of_partners(eco, days, catalogue)
    X = pd.concat([of_partners, _of_pairs(eco, rows, days, names)], axis=1)[list(catalogue.names)].copy()
    dictionary = tuple(infos.get(feature.name) or describe(feature) for feature in catalogue.features)
    keys = rows.rename(columns={"assigned_at": "as_of"})
    keys["as_of"] = keys["as_of"].dt.tz_localize("UTC")
    return assembled(keys, X, dictionary=dictionary, spec={"catalogue": catalogue.to_dict(), "rows": "pairs"})


def build_assigned(
    eco: Ecosystem,
    outcomes: PairOutcomes,
    *,
    catalogue: Catalogue,
    label: WonLabel,
    until: Moment,
    rows: np.ndarray | None = None,
) -> Dataset:
    """Build the rows of the close task: the pairs that were assigned and not refused, with features and labels.

    Parameters
    ----------
    eco : Ecosystem
    outcomes : PairOutcomes
        What `pair_outcomes` read.
    catalogue : Catalogue
    label : WonLabel
    until : moment
        What was known before it is used: pairs, refusals and labels; a label that is not mature is null.
    rows : array of bool, optional
        Which of the pairs of `outcomes` to take at all, in their order.

    Returns
    -------
    Dataset
        As of `build_pairs`; its ``times`` hold the days to the win where it was seen, else the days followed, whether
        the lead is still open or was lost: what was lost is never won.
    """
    chosen = outcomes.known(until)
    if rows is not None:
        chosen &= rows
    data = build_pairs(eco, outcomes.pairs.loc[chosen, list(KEYS)], catalogue=catalogue)
    # both are in the order of (assigned_at, lead_id, partner_id)
    known = outcomes.labels(label, until)[chosen].reset_index(drop=True)
    y, times = known["y"].rename("y"), known[["duration_days", "observed"]]
    spec = {"pairs": data.fingerprint, "label": label.to_dict(), "until": naive_utc(until).isoformat()}
    digest = fingerprint(spec, [data.keys, times.assign(y=y)])
    return dataclasses.replace(data, y=y, times=times, fingerprint=digest)


def default_pair_features(eco: Ecosystem) -> tuple[str, ...]:
    """Return the names of those features of pairs that the tables allow, in the order of `partnerml.pairs.FEATURES`.

    How many deals a partner has won (``won``) is left to the catalogue of those who want it: the rate and the number
    that it is drawn from (``count``) say the same.
    """
    if not eco.has("leads"):
        return ()
    return tuple(name for name in FEATURES if not name.endswith("__won__ever") and _missing(eco, name) is None)


def _missing(eco: Ecosystem, name: str) -> str | None:
    """Return the first thing that a feature needs and the tables lack."""
    return next((need for need in _needs(name) if not _is_there(eco, need)), None)


def _needs(name: str) -> tuple[str, ...]:
    _, kind, measure, _ = name.split("__")
    return _NEEDS[f"{kind}__{measure}"]


def _is_there(eco: Ecosystem, need: str) -> bool:
    if need == OUTCOMES:
        return eco.has("deals", "closed_at") or eco.has("assignments", "outcome", "closed_at")
    table, _, column = need.partition(".")
    if table == "traits":
        return column in static_traits(eco) or column in historic_traits(eco)
    return eco.has(table, *([column] if column else []))


def _assigned(eco: Ecosystem) -> pd.DataFrame:
    if not eco.has("assignments"):
        raise ConfigError("there is no table assignments; add it to data.tables, or give the pairs")
    frame: pd.DataFrame = eco.backend.to_pyarrow(eco.table("assignments").select(*KEYS)).to_pandas()
    return frame


def _rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the keys as naive UTC, sorted, each once."""
    missing = [name for name in KEYS if name not in pairs.columns]
    if missing:
        raise DataError(f"pairs: there is no column {missing[0]}; {', '.join(KEYS)} are needed")
    moments = pd.to_datetime(pairs["assigned_at"], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    rows = pd.DataFrame(
        {
            "lead_id": pairs["lead_id"].astype("str").to_numpy(),
            "partner_id": pairs["partner_id"].astype("str").to_numpy(),
            "assigned_at": moments.to_numpy(),
        }
    )
    twice = rows.duplicated()
    if twice.any():
        first = tuple(str(value) for value in rows[twice].iloc[0])
        raise DataError(f"pairs: {int(twice.sum())} row(s) come twice, first {first}; list each once")
    return rows.sort_values(["assigned_at", "lead_id", "partner_id"], ignore_index=True)


def _of_partners(
    eco: Ecosystem, days: pd.DataFrame, catalogue: Catalogue
) -> tuple[pd.DataFrame, Mapping[str, FeatureInfo]]:
    """Return the features of the partners, as of the midnight before each row, and what they are."""
    names = [feature.name for feature in catalogue.features if feature.entry.family is not Family.PAIRS]
    distinct = days.drop_duplicates()
    if not names or not len(distinct):
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in names}, index=days.index), {}
    built = build_rows(eco, distinct, catalogue=catalogue.only(names))
    moments = built.keys["as_of"].dt.tz_localize(None).to_numpy()
    where = pd.MultiIndex.from_arrays([built.keys["partner_id"], moments])
    places = where.get_indexer(pd.MultiIndex.from_arrays([days["partner_id"], days["as_of"].to_numpy()]))
    return built.X.take(places).reset_index(drop=True), {info.name: info for info in built.dictionary}


def _of_pairs(eco: Ecosystem, rows: pd.DataFrame, days: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the features of the pairs by name."""
    for name in names:
        need = _missing(eco, name)
        if need is not None:
            raise ConfigError(f"feature {name}: it needs {need}, which is not there; map it, or leave the feature out")
    leads, lead = _leads(eco, rows["lead_id"])
    if not names or not len(rows):
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in names}, index=rows.index)
    n = len(leads["lead_id"])
    distinct = days.drop_duplicates(ignore_index=True)
    row = pd.MultiIndex.from_frame(distinct).get_indexer(pd.MultiIndex.from_frame(days))
    reads = {need for name in names for need in _needs(name)}
    facts = facts_of(eco, distinct, _asked_cells(leads, n, lead=lead, row=row, names=names), reads=reads)
    held = open_leads(eco, rows) if set(names) & set(LIVE_FEATURES) else None
    found = Pairing(Leads.of(leads, facts, n=n), facts, lead, row, held).features(names)
    return pd.DataFrame(found, columns=list(names), index=rows.index)


def _check_partners(eco: Ecosystem, partner_id: pd.Series) -> None:
    known = eco.backend.to_pyarrow(eco.table("partners").select("partner_id"))["partner_id"].to_pandas()
    unknown = partner_id[~partner_id.isin(known)].unique()
    if len(unknown):
        raise DataError(f"pairs: {len(unknown)} partner(s) are not in partners, first {unknown[0]!r}; leave them out")


def _leads(eco: Ecosystem, lead_id: pd.Series) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Return the leads of the rows as columns, and the position of the lead of each row."""
    wanted = ibis.memtable(pd.DataFrame({"lead_id": lead_id.unique()}), schema={"lead_id": "string"})
    table = eco.table("leads")
    chosen = table.semi_join(wanted, "lead_id").order_by("lead_id").select("lead_id", *_about(table.columns))
    leads: dict[str, list[Any]] = eco.backend.to_pyarrow(chosen).to_pydict()
    position = pd.Index(leads["lead_id"], dtype="str").get_indexer(lead_id)
    unknown = lead_id[position < 0].unique()
    if len(unknown):
        raise DataError(f"pairs: {len(unknown)} lead(s) are not in leads, first {unknown[0]!r}; leave them out")
    return leads, position


def _about(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in LEAD_COLUMNS if name in columns)


def _asked_cells(
    leads: dict[str, list[Any]], n: int, *, lead: np.ndarray, row: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return which tallies the pairs ask for: distinct ``row``, ``dimension`` and ``value``."""
    kinds = {name.split("__")[1] for name in names if name.endswith("__ever")}
    parts = [pd.DataFrame({"row": [], "dimension": [], "value": []})]
    for dimension, levels in cell_values(leads, n).items():
        for level in levels if dimension in kinds else ():
            values = np.asarray(level, dtype=object)[lead]
            parts.append(pd.DataFrame({"row": row, "dimension": dimension, "value": values}).dropna())
    return pd.concat(parts[1:] or parts, ignore_index=True).drop_duplicates().astype({"row": "int64"})
