"""Features of windows: what each one asks of the stream, and how its value is made of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import ibis

from partnerml.features._calendar import EVER, Calendar
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._folds import GAP_COLUMNS, Request, bit_count
from partnerml.features._recall import SOURCES as HELD_SOURCES
from partnerml.features._recall import both, recall, serves
from partnerml.features._rows import Rows, named
from partnerml.features._spine import first_row
from partnerml.features._stream import Codes, days_between, stream
from partnerml.features._windows import Windows, windows

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features._scratch import Scratch
    from partnerml.features._store import CellStore

_OFTEN = 8
_AT_ONCE = 5_000_000  # numbers of rings that are folded at once: with what comes along some 200 MB


def window_columns(
    eco: Ecosystem,
    features: Sequence[Feature],
    *,
    catalogue: Catalogue,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    scratch: Scratch | None = None,
    cells: CellStore | None = None,
) -> ibis.Table:
    """Return the spine with a column for each feature of a window.

    Parameters
    ----------
    eco : Ecosystem
    features : sequence of Feature
    catalogue : Catalogue
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``; its columns stay.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.
    scratch : Scratch, optional
        Holds what is read many times.
    cells : CellStore, optional
        Stands for the events where it can.
    """
    requests = requests_of(features)
    if cells is None or not serves(cells, eco, as_of):
        found = _from_rows(eco, requests, catalogue=catalogue, spine=spine, as_of=as_of, scratch=scratch)
    else:
        held = {request for request in requests if request.source in HELD_SOURCES}
        types, activity = catalogue.event_types, catalogue.activity
        found = recall(cells, eco, held, spine=spine, as_of=as_of, event_types=types, activity=activity)
        if rest := requests - held:
            more = _from_rows(eco, rest, catalogue=catalogue, spine=found.table, as_of=as_of, scratch=scratch)
            found = both(found, more)
    return found.table.select(*spine.columns, **window_values(features, found))


def _from_rows(
    eco: Ecosystem,
    requests: Collection[Request],
    *,
    catalogue: Catalogue,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    scratch: Scratch | None,
) -> Windows:
    """Return the numbers of the requests from the rows of the tables."""
    sources = _sources(requests)
    calendar = Calendar.of(
        as_of,
        {r.window for r in requests if r.window != EVER},
        weeks=max((r.window // 7 for r in requests if r.atom in ("nw", "weeks")), default=0),
        first_row=first_row(eco, sources, scratch=scratch) if any(r.window == EVER for r in requests) else None,
    )
    codes = Codes(catalogue.event_types)
    shape = _shape(eco, spine)
    in_turns = scratch is not None and eco.backend.name == "duckdb"  # a cluster has its own way to share the work
    numbers = shape.rows * len(calendar.windows) * len({r.series for r in requests if r.window != EVER})
    rows = Rows.place(
        stream(eco, sources=sources, codes=codes, activity=catalogue.activity),
        partners=spine.select("partner_id", "pid").distinct(),
        calendar=calendar,
        codes=codes,
        # fewer as_ofs than that are cheaper folded for every partner
        sparse=len(as_of) >= _OFTEN and 2 * shape.rows < len(as_of) * shape.partners,
        turns=1 + numbers // _AT_ONCE if in_turns else 1,
        keep=named if scratch is None else scratch.keep,
    )
    return windows(rows, requests, spine=spine)


def requests_of(features: Iterable[Feature]) -> set[Request]:
    """Return the numbers that features of windows are made of."""
    return {request for feature in features for request in _MAKERS[feature.measure].requests(feature)}


def window_values(features: Iterable[Feature], found: Windows) -> dict[str, Any]:
    """Return the value of each feature, by its name, over the columns of what was found."""
    return {feature.name: _MAKERS[feature.measure].value(feature, found) for feature in features}


def _sources(requests: Collection[Request]) -> tuple[str, ...]:
    named_ = {request.source for request in requests}
    return tuple(
        source
        for source in ("events", "deals", "certifications")
        if source in named_ or (source != "certifications" and "activity" in named_)
    )


class _Shape(NamedTuple):
    rows: int
    partners: int


def _shape(eco: Ecosystem, spine: ibis.Table) -> _Shape:
    counts = spine.aggregate(rows=spine.count(), partners=spine.pid.nunique())
    return _Shape(**eco.backend.to_pyarrow(counts).to_pylist()[0])


class _Maker:
    """How a measure is made: of which numbers, and the value of them in the same order."""

    def __init__(self, value: Callable[..., Any], *parts: Callable[[Feature], Request]) -> None:
        self._value, self._parts = value, parts

    def requests(self, feature: Feature) -> list[Request]:
        """Return what it asks of the stream."""
        return [part(feature) for part in self._parts]

    def value(self, feature: Feature, found: Windows) -> Any:
        """Return its value."""
        parts = [found.gaps[r] if r.atom == "gaps" else found.numbers[r] for r in self.requests(feature)]
        return self._value(feature, found.table["as_of"], *parts)


def _ask(atom: str, *, window: int = 0, kind: str | None = None) -> Callable[[Feature], Request]:
    """Return what asks for an atom over one of the windows of a feature."""

    def request(feature: Feature) -> Request:
        days = feature.days[window] if feature.days else EVER
        return Request(atom, feature.source, feature.kind if kind is None else kind, days)

    return request


def _ask_twice(feature: Feature) -> Request:
    """Ask for the rows of a window and of the one before it."""
    return Request("n", feature.source, feature.kind, 2 * feature.days[0])


def _plain(feature: Feature, as_of: Any, number: Any) -> Any:
    return number.cast("float64")


def _days_since(feature: Feature, as_of: Any, moment: Any) -> Any:
    return days_between(moment, as_of)


def _over(feature: Feature, as_of: Any, top: Any, bottom: Any) -> Any:
    """Return a quotient; the parts are cast first, since Spark divides integers into decimals."""
    return top.cast("float64") / bottom.cast("float64").nullif(0.0)


def _rates(feature: Feature, as_of: Any, short: Any, long: Any) -> Any:
    """Return the ratio of daily rates."""
    a, b = feature.days
    return (short.cast("float64") / float(a)) / (long.cast("float64") / float(b)).nullif(0.0)


def _over_prior(feature: Feature, as_of: Any, now: Any, both: Any) -> Any:
    return now.cast("float64") / (both - now).cast("float64").nullif(0.0)


def _trend(feature: Feature, as_of: Any, n: Any, nw: Any) -> Any:
    """Slope of the least squares line through weekly counts, in rows per week and week."""
    m = feature.days[0] // 7
    return ((m - 1.0) * n.cast("float64") - 2.0 * nw.cast("float64")) / (m * (m * m - 1.0) / 6.0)


def _streak(feature: Feature, as_of: Any, weeks: Any) -> Any:
    """Length of the run of ones at the low end: adding one carries through the run and stops after it."""
    return (bit_count(weeks ^ (weeks + 1)) - 1).cast("float64")


def _gap_max(feature: Feature, as_of: Any, gaps: Mapping[str, Any]) -> Any:
    return gaps["max"].cast("float64")


def _gap_mean(feature: Feature, as_of: Any, gaps: Mapping[str, Any]) -> Any:
    return gaps["s"].cast("float64") / gaps["m"].cast("float64")


def _gap_sd(feature: Feature, as_of: Any, gaps: Mapping[str, Any]) -> Any:
    m, s, q, _ = (gaps[name].cast("float64") for name in GAP_COLUMNS)
    return (m * q - s * s).sqrt() / m


def _over_gap(feature: Feature, as_of: Any, gaps: Mapping[str, Any], last: Any) -> Any:
    return _days_since(feature, as_of, last) / _gap_mean(feature, as_of, gaps)


_MAKERS: Mapping[str, _Maker] = MappingProxyType(
    {
        "count": _Maker(_plain, _ask("n")),
        "value": _Maker(_plain, _ask("v")),
        "value_mean": _Maker(_over, _ask("v"), _ask("nv")),
        "value_min": _Maker(_plain, _ask("vmin")),
        "value_max": _Maker(_plain, _ask("vmax")),
        "value_last": _Maker(_plain, _ask("vlast")),
        "value_ratio": _Maker(_rates, _ask("v"), _ask("v", window=1)),
        "amount": _Maker(_plain, _ask("v")),
        "amount_mean": _Maker(_over, _ask("v"), _ask("nv")),
        "amount_ratio": _Maker(_rates, _ask("v"), _ask("v", window=1)),
        "active_days": _Maker(_plain, _ask("days")),
        "distinct_types": _Maker(_plain, _ask("types")),
        "share": _Maker(_over, _ask("n"), _ask("n", kind="all")),
        "recency_days": _Maker(_days_since, _ask("last")),
        "age_days": _Maker(_days_since, _ask("first")),
        "count_ratio": _Maker(_rates, _ask("n"), _ask("n", window=1)),
        "prior_ratio": _Maker(_over_prior, _ask("n"), _ask_twice),
        "count_trend": _Maker(_trend, _ask("n"), _ask("nw")),
        "streak_weeks": _Maker(_streak, _ask("weeks")),
        "gap_mean": _Maker(_gap_mean, _ask("gaps")),
        "gap_max": _Maker(_gap_max, _ask("gaps")),
        "gap_sd": _Maker(_gap_sd, _ask("gaps")),
        "recency_over_gap": _Maker(_over_gap, _ask("gaps"), _ask("last")),
    }
)
