"""From an ecosystem to a `Dataset`: the spine, its features in one expression, its labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd

from partnerml.dataset import Dataset, FeatureInfo, fingerprint
from partnerml.features._calendar import EVER, Calendar
from partnerml.features._catalog import GAP_MEASURES, Catalogue, Feature
from partnerml.features._labels import ChurnLabel, churn_labels
from partnerml.features._spine import Population, first_row, keys_table, moments, naive_utc, spine_from, spine_of
from partnerml.features._stream import Codes, stream
from partnerml.features._traits import historic_traits, with_traits
from partnerml.features._windows import GAP_COLUMNS, Request, Rows, Windows, windows
from partnerml.features._words import describe
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_DAY_US = 86_400_000_000.0


def build(
    eco: Ecosystem,
    *,
    population: Population,
    label: ChurnLabel | None,
    catalogue: Catalogue,
    as_of: Sequence[Moment] | Moment,
    until: Moment | None = None,
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
    known_until = None
    if label is not None:
        known_until = eco.default_until() if until is None else naive_utc(until)
    with _kept(eco, spine_of(eco, population, points)) as spine:
        rows = spine
        if label is not None and known_until is not None:
            labels = churn_labels(eco, label, spine=spine, as_of=points, until=known_until)
            rows = spine.left_join(labels, "slot").drop("slot_right")
        table = feature_columns(eco, catalogue, spine=rows, as_of=points)
        frame = _frame(eco, table)
    spec = {
        "population": population.to_dict(),
        "label": None if label is None else label.to_dict(),
        "catalogue": catalogue.to_dict(),
        "as_of": [point.isoformat() for point in points],
        "until": None if known_until is None else known_until.isoformat(),
    }
    return _dataset(eco, frame, catalogue, spec, labelled=label is not None)


def build_rows(eco: Ecosystem, keys: pd.DataFrame, *, catalogue: Catalogue) -> Dataset:
    """Build the features of given rows.

    Parameters
    ----------
    eco : Ecosystem
    keys : DataFrame
        ``partner_id`` and ``as_of``.
    catalogue : Catalogue

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
    with _kept(eco, spine_from(eco, keys_table(keys), points)) as spine:
        table = feature_columns(eco, catalogue, spine=spine, as_of=points)
        frame = _frame(eco, table)
    return _dataset(eco, frame, catalogue, {"catalogue": catalogue.to_dict()}, labelled=False)


def write_rows(eco: Ecosystem, keys: ibis.Table, path: Path, *, catalogue: Catalogue, as_of: Sequence[Moment]) -> None:
    """Write the features of given rows to Parquet without passing them through Python.

    Parameters
    ----------
    eco : Ecosystem
    keys : ibis.Table
        ``partner_id`` and ``as_of`` (naive UTC) on the backend of the ecosystem.
    path : Path
        In a folder that the ecosystem may write to.
    catalogue : Catalogue
    as_of : moments
        All moments of the keys.
    """
    points = moments(as_of)
    with _kept(eco, spine_from(eco, keys, points)) as spine:
        table = feature_columns(eco, catalogue, spine=spine, as_of=points)
        zoned = table.as_of.cast("timestamp('UTC', 6)")
        eco.backend.to_parquet(table.select("partner_id", zoned.name("as_of"), *catalogue.names), path)


def feature_columns(
    eco: Ecosystem, catalogue: Catalogue, *, spine: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Return one expression for all features: the spine with a column for each.

    Parameters
    ----------
    eco : Ecosystem
    catalogue : Catalogue
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.
    """
    spine = with_traits(eco, catalogue, spine=spine)
    windowed = [feature for feature in catalogue.features if feature.source != "partners"]
    if not windowed:
        return spine
    requests = {request for feature in windowed for request in _requests(feature)}
    sources = _sources(requests)
    calendar = Calendar.of(
        as_of,
        {r.window for r in requests if r.window != EVER},
        weeks=max((r.window // 7 for r in requests if r.atom == "nw"), default=0),
        first_row=first_row(eco, sources) if any(r.window == EVER for r in requests) else None,
    )
    codes = Codes(catalogue.event_types)
    seen = stream(eco, sources=sources, codes=codes, activity=catalogue.activity)
    partners = spine.select("partner_id", "pid").distinct()
    rows = Rows.place(seen, partners=partners, calendar=calendar, codes=codes)
    found = windows(rows, requests, spine=spine)
    values = {feature.name: _VALUES[feature.measure](feature, found) for feature in windowed}
    return found.table.select(*spine.columns, **values)


def _requests(feature: Feature) -> Iterator[Request]:
    """Return the numbers that a feature is made of."""
    source, kind = feature.series
    days = feature.days or (EVER,)
    atom = _ATOMS.get(feature.measure)
    if atom is not None:
        yield Request(atom, source, kind, days[0])
        return
    if feature.measure in GAP_MEASURES:
        yield Request("gaps", source, kind, days[0])
        if feature.measure == "recency_over_gap":
            yield Request("last", source, kind, days[0])
        return
    yield Request("n", source, kind, days[0])
    if feature.measure == "count_ratio":
        yield Request("n", source, kind, days[1])
    elif feature.measure == "prior_ratio":
        yield Request("n", source, kind, 2 * days[0])
    elif feature.measure == "count_trend":
        yield Request("nw", source, kind, days[0])


_ATOMS: Mapping[str, str] = MappingProxyType(
    {
        "count": "n",
        "value": "v",
        "amount": "v",
        "active_days": "days",
        "distinct_types": "types",
        "recency_days": "last",
        "age_days": "first",
    }
)


def _sources(requests: set[Request]) -> tuple[str, ...]:
    named = {request.source for request in requests}
    return tuple(
        source
        for source in ("events", "deals", "certifications")
        if source in named or (source != "certifications" and "activity" in named)
    )


def _plain(feature: Feature, found: Windows) -> Any:
    (request,) = _requests(feature)
    return found.numbers[request]


def _money(feature: Feature, found: Windows) -> Any:
    return _plain(feature, found).cast("float64")


def _days_since(feature: Feature, found: Windows) -> Any:
    return _days_from(_plain(feature, found), found.table.as_of)


def _days_from(moment: Any, as_of: Any) -> Any:
    return as_of.delta(moment, unit="microsecond").cast("float64") / _DAY_US


def _count_ratio(feature: Feature, found: Windows) -> Any:
    """Ratio of daily rates; numerators are cast first, since Spark divides integers into decimals."""
    short, long = (found.numbers[request].cast("float64") for request in _requests(feature))
    a, b = feature.days
    return (short / float(a)) / (long / float(b)).nullif(0.0)


def _prior_ratio(feature: Feature, found: Windows) -> Any:
    now, both = (found.numbers[request].cast("float64") for request in _requests(feature))
    return now / (both - now).nullif(0.0)


def _count_trend(feature: Feature, found: Windows) -> Any:
    """Slope of the least squares line through weekly counts, in rows per week and week."""
    n, nw = (found.numbers[request].cast("float64") for request in _requests(feature))
    m = feature.days[0] // 7
    return ((m - 1.0) * n - 2.0 * nw) / (m * (m * m - 1.0) / 6.0)


def _gap(feature: Feature, found: Windows) -> Any:
    request, *last = _requests(feature)
    m, s, q, longest = (found.gaps[request][name].cast("float64") for name in GAP_COLUMNS)
    if feature.measure == "gap_max":
        return longest
    if feature.measure == "gap_sd":
        return (m * q - s * s).sqrt() / m
    if feature.measure == "gap_mean":
        return s / m
    return _days_from(found.numbers[last[0]], found.table.as_of) / (s / m)


_VALUES: Mapping[str, Callable[[Feature, Windows], Any]] = MappingProxyType(
    {
        "count": _plain,
        "value": _money,
        "amount": _money,
        "active_days": _plain,
        "distinct_types": _plain,
        "recency_days": _days_since,
        "age_days": _days_since,
        "count_ratio": _count_ratio,
        "prior_ratio": _prior_ratio,
        "count_trend": _count_trend,
        **dict.fromkeys(GAP_MEASURES, _gap),
    }
)


@contextlib.contextmanager
def _kept(eco: Ecosystem, spine: ibis.Table) -> Iterator[ibis.Table]:
    """Compute the spine once: its features and its labels read it many times."""
    name = ibis.util.gen_name("partnerml_spine")
    eco.backend.create_table(name, spine, temp=True)
    try:
        yield eco.backend.table(name)
    finally:
        eco.backend.drop_table(name)


def _frame(eco: Ecosystem, table: ibis.Table) -> pd.DataFrame:
    """Return the rows in order of (as_of, partner_id): numbers of partners are in the order of their ids."""
    frame = eco.backend.to_pyarrow(table).to_pandas(date_as_object=False)
    return frame.take(np.lexsort((frame["pid"], frame["k"]))).reset_index(drop=True)


def _dataset(
    eco: Ecosystem, frame: pd.DataFrame, catalogue: Catalogue, spec: Mapping[str, Any], *, labelled: bool
) -> Dataset:
    keys = pd.DataFrame(
        {"partner_id": frame["partner_id"].astype("str"), "as_of": frame["as_of"].astype("datetime64[us]")}
    )
    keys["as_of"] = keys["as_of"].dt.tz_localize("UTC")
    X = frame[list(catalogue.names)]
    texts = [name for name in X.columns if not pd.api.types.is_numeric_dtype(X[name].dtype)]
    # a cast by column leaves one block a column, which every later copy pays for: copy once, together
    X = X.astype({name: "category" if name in texts else "float64" for name in X.columns}).copy()
    y = frame["y"].astype("float64") if labelled else None
    times = frame[["duration_days", "observed"]].astype({"observed": bool}) if labelled else None
    weights = pd.Series(1.0, index=frame.index, name="weight")
    dictionary = tuple(_info(eco, feature, feature.name in texts) for feature in catalogue.features)
    labels = None if times is None or y is None else times.assign(y=y)
    return Dataset(keys, X, y, times, weights, dictionary, fingerprint(spec, [keys, X, labels]))


def _info(eco: Ecosystem, feature: Feature, is_text: bool) -> FeatureInfo:
    table = None
    if feature.measure == "trait" and feature.kind in historic_traits(eco):
        table = "partner_history"
    return describe(feature, table=table, unit="category" if is_text else "number")
