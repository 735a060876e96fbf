"""Stored cells in the place of raw events: the numbers that `windows` finds, for as_ofs at midnight.

Events come from the cells (`partnerml.features._history`). Deals are few and change, so those that qualify as activity
are read raw and put beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._folded import BLOCK_DAYS, DAY_US, Columns, merged
from partnerml.features._folds import GAP_COLUMNS, Request
from partnerml.features._history import History
from partnerml.features._memory import arrow_rows
from partnerml.features._stream import Activity, Codes, stream
from partnerml.features._sums import Kinds, columns
from partnerml.features._windows import Windows

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features._store import CellStore

SOURCES = ("events", "activity")
_MOST_AS_OFS = 36  # more of them are faster from raw rows, in one pass
_BATCH = 8_192  # rows: a fair share of them for each thread
_PLACES_AT_ONCE = 16_000_000  # of kinds and partners, in one array


def serves(store: CellStore, eco: Ecosystem, as_of: Sequence[datetime]) -> bool:
    """Whether cells can stand for the events of an ecosystem at these moments (naive UTC), and pay."""
    mark = store.watermark
    if mark is None or not eco.has("events") or len(as_of) > _MOST_AS_OFS or max(as_of) > mark:
        return False
    at_midnight = all(moment == datetime.combine(moment.date(), datetime.min.time()) for moment in as_of)
    return at_midnight and store.refusal(eco) is None


def recall(
    store: CellStore,
    eco: Ecosystem,
    requests: Collection[Request],
    *,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    event_types: Sequence[str],
    activity: Activity,
) -> Windows:
    """Return the numbers of the requests for every row of the spine.

    Parameters
    ----------
    store : CellStore
        One that `serves` these moments.
    eco : Ecosystem
        Its deals, where activity is asked for.
    requests : collection of Request
        About ``events`` or ``activity``.
    spine : ibis.Table
        ``partner_id``, ``pid``, ``k`` and ``slot``; other columns stay.
    as_of : sequence of datetime
        The midnights that ``k`` numbers, naive UTC.
    event_types : sequence of str
        The types that are not ``other``.
    activity : Activity

    Raises
    ------
    ConfigError
        If a partner is not known to the cells.
    """
    ordered = sorted(set(requests))
    rows = eco.backend.to_pyarrow(spine)
    pid, number = (rows[name].to_numpy() for name in ("pid", "k"))
    partner = _numbers(store, rows["partner_id"])
    deals = _Deals.read(eco, spine, activity) if any(r.source == "activity" for r in ordered) else None
    kinds = Kinds.of(store.types, event_types, activity)
    size = max(1, _PLACES_AT_ONCE // kinds.count)
    order, parts = [], []
    for k in np.unique(number) if len(number) else (0,):  # without rows there are columns all the same
        day = (as_of[k].date() - date(1970, 1, 1)).days
        at = np.flatnonzero(number == k)
        at = at[np.argsort(partner[at])]
        for chosen in np.split(at, range(size, len(at), size)):
            history = History(store, kinds, ordered, day, partner=partner[chosen])
            found = history.fold(None if deals is None else deals.before(day, pid[chosen]))
            order.append(chosen)
            parts.append(pa.table(found))
    return _beside(rows.take(np.concatenate(order)), ordered, pa.concat_tables(parts))


def both(held: Windows, more: Windows) -> Windows:
    """Return two answers as one; the second was found beside the table of the first."""
    table = more.table
    numbers = {r: table[r.column] for r in held.numbers}
    gaps = {r: {name: table[column.get_name()] for name, column in parts.items()} for r, parts in held.gaps.items()}
    return Windows(table, MappingProxyType({**more.numbers, **numbers}), MappingProxyType({**more.gaps, **gaps}))


def _numbers(store: CellStore, ids: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    partner = pc.index_in(ids, value_set=store.partners)
    if partner.null_count:
        unknown = ids.filter(partner.is_null()).unique()
        raise ConfigError(
            f"cells in {store.folder}: {len(unknown)} partner(s) are not in them, first {unknown[0].as_py()!r}; "
            "update the cells first"
        )
    return np.asarray(partner.to_numpy())


def _beside(spine: pa.Table, requests: Sequence[Request], found: pa.Table) -> Windows:
    """Put what was found beside the spine, row by row, in batches that an engine reads side by side."""
    whole = pa.table([*spine.columns, *found.columns], names=[*spine.column_names, *found.column_names])
    batches = whole.combine_chunks().to_batches(max_chunksize=_BATCH)
    table = arrow_rows(pa.Table.from_batches(batches, whole.schema))
    numbers = {r: table[r.column] for r in requests if r.atom != "gaps"}
    gaps = {
        r: {name: table[column] for name, column in zip(GAP_COLUMNS, columns(r), strict=True)}
        for r in requests
        if r.atom == "gaps"
    }
    return Windows(table, MappingProxyType(numbers), MappingProxyType(gaps))


@dataclasses.dataclass(frozen=True)
class _Deals:
    """Deals that qualify as activity: number of the partner, moment and moment of seeing, in microseconds."""

    pid: np.ndarray[Any, Any]
    moment: np.ndarray[Any, Any]
    seen: np.ndarray[Any, Any]

    @classmethod
    def read(cls, eco: Ecosystem, spine: ibis.Table, activity: Activity) -> _Deals | None:
        """Read those of the partners of a spine; None where no deal can qualify."""
        if not eco.has("deals") or not activity.deals():
            return None
        rows = stream(eco, sources=("deals",), codes=Codes(), activity=activity).table.filter(_.qualifies)
        partners = spine.select("partner_id", "pid").distinct()
        table = eco.backend.to_pyarrow(rows.inner_join(partners, "partner_id").select("pid", "moment", "seen_at"))
        moments = (table[name].cast(pa.timestamp("us")).cast(pa.int64()) for name in ("moment", "seen_at"))
        return cls(table["pid"].to_numpy(), *(moment.to_numpy() for moment in moments))

    def before(self, as_of: int, pid: np.ndarray[Any, Any]) -> Columns:
        """Return what was seen of some partners before a midnight, one row a day, in order of the days."""
        by_pid = np.argsort(pid)
        at = np.searchsorted(pid, self.pid, sorter=by_pid)
        known = at < len(pid)
        at[known] = by_pid[at[known]]
        known[known] = pid[at[known]] == self.pid[known]
        known &= (self.moment < as_of * DAY_US) & (self.seen < as_of * DAY_US)
        moment = self.moment[known]
        day = moment // DAY_US
        rows = {
            "partner": at[known],
            "n": np.ones(len(moment), dtype="int32"),
            "first": moment,
            "last": moment,
            "bits": np.left_shift(np.int64(1), day % BLOCK_DAYS),
            "day": day,
        }
        return merged([rows], by=("day", "partner"))
