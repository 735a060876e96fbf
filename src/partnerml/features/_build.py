"""From an ecosystem to a `Dataset`: the spine, its features in one expression, its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import ibis
import numpy as np
import pandas as pd

from partnerml.dataset import Dataset
from partnerml.features._assemble import dataset_from, zoned
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._certifications import certification_columns
from partnerml.features._deals import deal_columns
from partnerml.features._dialect import check_moments
from partnerml.features._dictionary import dictionary
from partnerml.features._joined import Joined
from partnerml.features._labels import ChurnLabel, churn_labels
from partnerml.features._measure import Family
from partnerml.features._peers import peer_columns
from partnerml.features._scratch import Scratch
from partnerml.features._spine import (
    ACTIVITY_SOURCES,
    Population,
    chosen,
    first_row,
    keys_table,
    moments,
    naive_utc,
    refuse_unknown,
    spine_from,
    spine_of,
)
from partnerml.features._traits import trait_columns
from partnerml.features._values import window_columns
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features._store import CellStore


def build(
    eco: Ecosystem,
    *,
    population: Population,
    label: ChurnLabel | None,
    catalogue: Catalogue,
    as_of: Sequence[Moment] | Moment,
    until: Moment | None = None,
    cells: CellStore | None = None,
    only: Collection[str] | None = None,
) -> Dataset:
    """Build the rows of a population with what was known of them, and what became of them.

    Parameters
    ----------
    eco : Ecosystem
    population : Population
        Who has a row at each moment.
    label : ChurnLabel or None
        None for scoring: y and times are None.
    catalogue : Catalogue
        The features.
    as_of : moments
        Zoned, or naive and taken as UTC; a date is its midnight.
    until : moment, optional
        Labels use what was known before it; by default `Ecosystem.default_until`.
    cells : CellStore, optional
        Stored cells of events, read in the place of the raw rows where that gives the same.
    only : collection of str, optional
        The partners whose rows are built; by default all of the population. Percentiles among peers are of the whole
        programme either way.

    Returns
    -------
    Dataset
        Rows sorted by (as_of, partner_id).

    Raises
    ------
    ConfigError
        If there is no as_of, or a trait of the catalogue is not in the tables.
    """
    points = moments(as_of)
    check_moments(eco, points)
    known_until = None
    if label is not None:
        known_until = eco.default_until() if until is None else naive_utc(until)
    with Scratch(eco, cells=cells) as scratch:
        own = _with_events_of(eco, only, scratch)
        spine = scratch.keep(spine_of(own, population, points, scratch=scratch, only=only))
        table = feature_columns(own, catalogue, spine=spine, as_of=points, scratch=scratch, everybody=eco)
        if label is not None and known_until is not None:
            labels = churn_labels(own, label, spine=spine, as_of=points, until=known_until)
            known = scratch.keep(labels)
            outcome = [name for name in known.columns if name != "slot"]
            table = Joined(table).add(known).select(*table.columns, *outcome)
        frame = _frame(eco, table)
    spec = {
        "population": population.to_dict(),
        "label": None if label is None else label.to_dict(),
        "catalogue": catalogue.to_dict(),
        "as_of": [point.isoformat() for point in points],
        "until": None if known_until is None else known_until.isoformat(),
    }
    told = dictionary(eco, catalogue)
    return dataset_from(frame, catalogue, key="partner_id", dictionary=told, spec=spec, labelled=label is not None)


def labels_as_known(
    eco: Ecosystem,
    *,
    population: Population,
    label: ChurnLabel,
    as_of: Sequence[Moment] | Moment,
    untils: Sequence[Moment],
    only: Collection[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the labels of the rows of a population as they were known at several moments, one after the other.

    Parameters
    ----------
    eco : Ecosystem
    population : Population
    label : ChurnLabel
    as_of : moments
    untils : sequence of moments
        Labels use what was known before each of them. Who has a row does not depend on it, and is found once.
    only : collection of str, optional
        The partners whose labels are asked for; by default all of the population.

    Yields
    ------
    DataFrame
        ``partner_id``, ``as_of`` (UTC) and ``y``, null where the label was not mature; in no order.
    """
    points = moments(as_of)
    check_moments(eco, points)
    with Scratch(eco) as scratch:
        own = _with_events_of(eco, only, scratch)
        spine = scratch.keep(spine_of(own, population, points, scratch=scratch, only=only))
        for until in untils:
            labels = churn_labels(own, label, spine=spine, as_of=points, until=naive_utc(until))
            rows = spine.left_join(labels, "slot").select("partner_id", "as_of", "y")
            frame = eco.backend.to_pyarrow(rows).to_pandas(date_as_object=False)
            yield frame.astype({"partner_id": "str"}).assign(as_of=zoned(frame["as_of"]))


def _with_events_of(eco: Ecosystem, only: Collection[str] | None, scratch: Scratch) -> Ecosystem:
    """Return the ecosystem with the events of some partners alone, found once; all else is everybody's."""
    if only is None or not eco.has("events"):
        return eco
    # the build knows one beginning of time, and the percentiles among peers go back to that of everybody
    first_row(eco, ACTIVITY_SOURCES, scratch=scratch)
    return cast("Ecosystem", _WithEvents(eco, scratch.keep(eco.table("events").semi_join(chosen(only), "partner_id"))))


class _WithEvents:
    """An ecosystem with another table of events."""

    def __init__(self, eco: Ecosystem, events: ibis.Table) -> None:
        self._eco, self._events = eco, events

    def table(self, name: str) -> ibis.Table:
        """Return a table."""
        return self._events if name == "events" else self._eco.table(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._eco, name)


def rows_by_partner(eco: Ecosystem, population: Population, as_of: Sequence[Moment] | Moment) -> pd.Series:
    """Return how many rows of a population each partner has at some moments, by id; 0 for who has none."""
    points = moments(as_of)
    check_moments(eco, points)
    with Scratch(eco) as scratch:
        spine = spine_of(eco, population, points, scratch=scratch)
        counts = spine.group_by("partner_id").aggregate(rows=spine.count())
        found = eco.backend.to_pyarrow(counts).to_pandas().astype({"partner_id": "str"}).set_index("partner_id")["rows"]
        everyone = eco.backend.to_pyarrow(eco.table("partners").select("partner_id"))["partner_id"].to_pylist()
    return found.reindex(sorted(everyone), fill_value=0).astype("int64")


def build_rows(eco: Ecosystem, keys: pd.DataFrame, *, catalogue: Catalogue, cells: CellStore | None = None) -> Dataset:
    """Build the features of given rows.

    Parameters
    ----------
    eco : Ecosystem
    keys : DataFrame
        ``partner_id`` and ``as_of``.
    catalogue : Catalogue
    cells : CellStore, optional
        Stored cells of events, read in the place of the raw rows where that gives the same.

    Returns
    -------
    Dataset
        Without labels; rows sorted by (as_of, partner_id).

    Raises
    ------
    DataError
        If a partner is unknown, or a row comes twice.
    """
    points = moments(list(keys["as_of"]))
    check_moments(eco, points)
    with Scratch(eco, cells=cells) as scratch:
        spine = scratch.keep(spine_from(eco, keys_table(keys), points))
        refuse_unknown(eco, spine)
        table = feature_columns(eco, catalogue, spine=spine, as_of=points, scratch=scratch)
        frame = _frame(eco, table)
    told, spec = dictionary(eco, catalogue), {"catalogue": catalogue.to_dict()}
    return dataset_from(frame, catalogue, key="partner_id", dictionary=told, spec=spec, labelled=False)


def write_rows(
    eco: Ecosystem,
    keys: ibis.Table,
    path: Path | str,
    *,
    catalogue: Catalogue,
    as_of: Sequence[Moment],
    cells: CellStore | None = None,
) -> None:
    """Write the features of given rows to Parquet without passing them through Python.

    Parameters
    ----------
    eco : Ecosystem
    keys : ibis.Table
        ``partner_id`` and ``as_of`` (naive UTC) on the backend of the ecosystem.
    path : Path or str
        In a folder that the ecosystem may write to.
    catalogue : Catalogue
    as_of : moments
        All moments of the keys.
    cells : CellStore, optional
        Stored cells of events, read in the place of the raw rows where that gives the same.
    """
    points = moments(as_of)
    check_moments(eco, points)
    with Scratch(eco, cells=cells) as scratch:
        spine = scratch.keep(spine_from(eco, keys, points))
        refuse_unknown(eco, spine)
        table = feature_columns(eco, catalogue, spine=spine, as_of=points, scratch=scratch)
        zoned = table.as_of.cast("timestamp('UTC', 6)")
        eco.backend.to_parquet(table.select("partner_id", zoned.name("as_of"), *catalogue.names), path)


def feature_columns(
    eco: Ecosystem,
    catalogue: Catalogue,
    *,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    scratch: Scratch,
    everybody: Ecosystem | None = None,
) -> ibis.Table:
    """Return an expression for all features: the spine with a column for each.

    Parameters
    ----------
    eco : Ecosystem
    catalogue : Catalogue
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.
    scratch : Scratch
        Holds every family but the first, which is read once and may be large.
    everybody : Ecosystem, optional
        Holds the rows of all peers, where `eco` does not.
    """
    own = [feature for feature in catalogue.features if not feature.relative]
    relative = [feature for feature in catalogue.features if feature.relative]
    first, parts = spine, []
    for family, columns in _FAMILIES.items():
        wanted = [feature for feature in own if feature.entry.family is family]
        if wanted:
            kept = {"scratch": scratch, "cells": scratch.cells} if family is Family.WINDOWS else {}
            part = columns(eco, wanted, catalogue=catalogue, spine=spine, as_of=as_of, **kept)
            if family is Family.WINDOWS:
                # they bring the spine along: the largest family is read once, where the result is made
                first = part
            else:
                parts.append(scratch.keep(part))
    if relative:
        part = _relative(everybody or eco, relative, catalogue=catalogue, spine=spine, as_of=as_of, scratch=scratch)
        parts.append(scratch.keep(part))
    if not parts:
        return first.select(*spine.columns, *catalogue.names)
    table = Joined(first)
    for part in parts:
        table.add(part)
    return table.select(*spine.columns, *catalogue.names)


_FAMILIES: Mapping[Family, Callable[..., ibis.Table]] = MappingProxyType(
    {
        Family.WINDOWS: window_columns,
        Family.TRAITS: trait_columns,
        Family.DEALS: deal_columns,
        Family.CERTIFICATIONS: certification_columns,
    }
)


def _relative(
    eco: Ecosystem,
    features: Sequence[Feature],
    *,
    catalogue: Catalogue,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    scratch: Scratch,
) -> ibis.Table:
    """Return the percentiles among peers; what they rank is built for all of the peers."""
    ranked = dataclasses.replace(catalogue, features=tuple(dict.fromkeys(feature.base for feature in features)))

    def base(everyone: ibis.Table) -> ibis.Table:
        return feature_columns(eco, ranked, spine=scratch.keep(everyone), as_of=as_of, scratch=scratch)

    return peer_columns(eco, features, catalogue=catalogue, spine=spine, as_of=as_of, base=base)


def _frame(eco: Ecosystem, table: ibis.Table) -> pd.DataFrame:
    """Return the rows in order of (as_of, partner_id): numbers of partners are in the order of their ids."""
    frame = eco.backend.to_pyarrow(table).to_pandas(date_as_object=False)
    return frame.take(np.lexsort((frame["pid"], frame["k"]))).reset_index(drop=True)
