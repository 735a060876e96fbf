"""Win rates, drawn toward those of the partner's peers: one deal won of one closed is no rate of 100 %."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis

from partnerml.features._calendar import Calendar
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._peers import peer_groups
from partnerml.features._stream import interval
from partnerml.features._traits import historic_traits

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

# A rate from n closed deals moves n / (n + 10) of the way from its peers' rate to what was counted. Ten deals are what
# a partner closes in some months: after those its own record weighs as much as that of its peers. In terms of a beta
# distribution, rates of .3 with this weight have a standard deviation of .14 between partners of one group.
PRIOR_DEALS = 10.0
_BEFORE_ALL = datetime(1900, 1, 1)  # noqa: DTZ001 (naive UTC, as inside the engine)


def win_rates(
    eco: Ecosystem,
    deals: ibis.Table,
    features: Sequence[Feature],
    *,
    catalogue: Catalogue,
    spine: ibis.Table,
    as_of: Sequence[datetime],
) -> ibis.Table:
    """Return the share of closed deals that were won, shrunk toward the peer group and the programme.

    With w won and l lost deals in a window, the programme's rate is r = w / (w + l), a group's
    r_g = (w_g + m r) / (w_g + l_g + m), and a partner's (w_p + m r_g) / (w_p + l_p + m), with m = `PRIOR_DEALS`: the
    posterior mean under a beta prior with that mean and weight, the empirical Bayes of Efron and Morris (1975).
    The group and the programme are all partners on record, those that have left included, whatever rows the spine
    holds: the features of one partner are those of the batch. A deal of two partners counts for each.

    Parameters
    ----------
    eco : Ecosystem
    deals : ibis.Table
        ``partner_id``, ``outcome``, ``closed_at``, ``seen_closed`` of every deal and partner on it.
    features : sequence of Feature
        Win rates over windows.
    catalogue : Catalogue
        Its `peers` make the groups.
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``k``, ``slot``.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.

    Returns
    -------
    ibis.Table
        ``slot`` and a column for each feature, for every row of the spine; null where nobody's deals closed.
    """
    versions = _versions(eco, catalogue)
    closed = deals.filter(deals.outcome.isin(("won", "lost")) & deals.seen_closed.notnull())
    closed = closed.select("partner_id", "closed_at", "seen_closed", won=(closed.outcome == "won").cast("float64"))
    of_group = _group_counts(closed, features, versions=versions, as_of=as_of)
    rows = spine.select("slot", "partner_id", "as_of", "k")
    rows = rows.left_join(_own_counts(closed, features, spine=spine), "slot").drop("slot_right")
    rows = rows.inner_join(versions, "partner_id")
    current = (rows.known_from < rows.as_of).fill_null(True) & (rows.known_to >= rows.as_of).fill_null(True)
    rows = rows.filter(current).inner_join(of_group, ["peer_group", "k"])
    return rows.select("slot", **{feature.name: _shrunk(rows, feature) for feature in features})


def _columns(feature: Feature) -> tuple[str, str]:
    """Names of the numbers of deals won and closed in the window of a feature."""
    return f"won__{feature.window}", f"closed__{feature.window}"


def _shrunk(rows: ibis.Table, feature: Feature) -> Any:
    won, closed = _columns(feature)
    rate = rows[f"all__{won}"] / rows[f"all__{closed}"].nullif(0.0)
    for part in ("group__", ""):
        wins, all_ = rows[part + won].fill_null(0.0), rows[part + closed].fill_null(0.0)
        rate = (wins + PRIOR_DEALS * rate) / (all_ + PRIOR_DEALS)
    return rate


def _versions(eco: Ecosystem, catalogue: Catalogue) -> ibis.Table:
    """Return which group each partner belonged to, and from when to when that was what was known.

    Columns: ``partner_id``, ``peer_group``, and ``known_from`` and ``known_to``, null where there is no end: the row
    holds at as_of if ``known_from < as_of <= known_to``. Every partner has a row at any moment.
    """
    partners = eco.table("partners")
    if set(catalogue.peers.by) & set(historic_traits(eco)):
        lag = interval(eco.lag("partner_history"))
        history = eco.table("partner_history")
        history = history.select("partner_id", known_from=history.valid_from + lag)
        first = partners.select("partner_id", known_from=ibis.null(history.known_from.type()))
        rows = ibis.union(first, history)
    else:
        rows = partners.select("partner_id", known_from=ibis.null("timestamp(6)"))
    # what is known changes right after a row became known, and nowhere else
    after = (rows.known_from + ibis.interval(microseconds=1)).fill_null(ibis.literal(_BEFORE_ALL, "timestamp(6)"))
    rows = rows.mutate(as_of=after, slot=ibis.row_number().over(order_by=[rows.partner_id, after]))
    groups = peer_groups(eco, catalogue.peers, static_traits=catalogue.static_traits, rows=rows)
    rows = rows.inner_join(groups, "slot").select("partner_id", "peer_group", "as_of", "known_from")
    of_partner = ibis.window(group_by="partner_id", order_by="as_of")
    rows = rows.mutate(before=rows.peer_group.lag(1).over(of_partner))
    # most rows of a history tell something else
    rows = rows.filter((rows.before != rows.peer_group).fill_null(True))
    return rows.select("partner_id", "peer_group", "known_from", known_to=rows.known_from.lead(1).over(of_partner))


def _own_counts(closed: ibis.Table, features: Sequence[Feature], *, spine: ibis.Table) -> ibis.Table:
    """Count the deals of each row's partner that were known to be won or lost."""
    pairs = spine.select("slot", "partner_id", "as_of").inner_join(closed, "partner_id")
    pairs = pairs.filter(pairs.seen_closed < pairs.as_of)
    counts = {}
    for feature in features:
        inside = ibis.literal(True)
        if feature.days:
            inside = pairs.closed_at >= pairs.as_of - ibis.interval(days=feature.days[0])
        won, all_ = _columns(feature)
        counts[won] = pairs.won.sum(where=inside)
        counts[all_] = pairs.count(where=inside).cast("float64")
    return pairs.group_by("slot").aggregate(**counts)


def _group_counts(
    closed: ibis.Table, features: Sequence[Feature], *, versions: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Count the deals of every group, and of all, that were known to be won or lost at every moment.

    A deal counts in a window from right after its closing is seen until the window has passed it, and in a group as
    long as its partner belongs there: one more at the start, one less at the end, and a running sum over both. The
    work grows with the deals, not with deals times moments. Whole numbers add up exactly as float64, in any order.

    Columns: ``peer_group``, ``k``, and for each number one with ``group__`` before its name and one with ``all__``.
    """
    spans = closed.inner_join(versions, "partner_id")
    spans = spans.mutate(start=ibis.greatest(spans.seen_closed, spans.known_from))
    changes = ibis.union(*(part for feature in features for part in _changes(spans, feature)))
    calendar = Calendar.of(as_of, (), first_row=min(as_of) - timedelta(days=1))
    seen = _first_seen(changes, calendar)
    sums = {}
    for feature in features:
        won, all_ = _columns(feature)
        sums[won] = seen.won.sum(where=seen.window == feature.window)
        sums[all_] = seen.closed.sum(where=seen.window == feature.window)
    steps = seen.group_by("peer_group", "k").aggregate(**sums)
    grid = versions.select("peer_group").distinct().cross_join(calendar.moments().select("k"))
    line = grid.left_join(steps, ["peer_group", "k"])
    so_far = ibis.window(group_by="peer_group", order_by="k", preceding=None, following=0)
    line = line.select("peer_group", "k", **{f"group__{n}": line[n].sum().over(so_far).fill_null(0.0) for n in sums})
    return line.mutate(**{f"all__{n}": line[f"group__{n}"].sum().over(group_by="k") for n in sums})


def _first_seen(changes: ibis.Table, calendar: Calendar) -> ibis.Table:
    """Find the number ``k`` of the first as_of after each change; what no as_of sees is left out."""
    start = ibis.literal(calendar.start.astype("datetime64[us]").item(), "timestamp(6)")
    dated = changes.mutate(at=ibis.greatest(changes["at"], start))
    days = calendar.days().select("day", "lo", "hi", k="step")
    pairs = dated.mutate(day=dated["at"].date()).inner_join(days, "day")
    return pairs.filter((pairs["at"] >= pairs.lo) & (pairs["at"] < pairs.hi)).drop("day", "lo", "hi", "at")


def _changes(spans: ibis.Table, feature: Feature) -> tuple[ibis.Table, ibis.Table]:
    """Return when deals enter and leave the window of a feature, and with which sign: one row for each."""
    stop = spans.known_to
    if feature.days:
        stop = ibis.least(stop, spans.closed_at + ibis.interval(days=feature.days[0]))
    parts = []
    stop = stop.cast(spans.start.type())
    for sign, at, where in ((1.0, spans.start, stop.isnull() | (spans.start < stop)), (-1.0, stop, spans.start < stop)):
        rows = spans.select("peer_group", at=at, won=spans.won * sign, closed=ibis.literal(sign), counts=where)
        parts.append(rows.filter(rows.counts).drop("counts").mutate(window=ibis.literal(feature.window)))
    return parts[0], parts[1]
