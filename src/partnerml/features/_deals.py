"""Deals as they stood: what was open at as_of and what had been won and lost by then, as it was known then.

Deals are few against events, so the rows of the spine are joined to the deals of their partner and folded at once,
each family of measures over no more deals than it is about: the open ones, or the closed ones of the widest window.

A deal is there from when its registration can be seen. It is open until its closing can be seen, and then it is what
it became: how it ends, when and for how much is nowhere read before. What an open deal was thought to bring, and
when, comes from ``deal_history`` as it was known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ibis

from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._stream import MONEY, deal_shares, interval, seen_at
from partnerml.features._win_rates import win_rates

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_DAY_US = 86_400_000_000.0
_FRACTION = "decimal(38, 18)"  # sums of numbers in [0, 1] that do not depend on the order of the rows
_ZERO_IF_NONE = frozenset({"count", "amount", "overdue", "verticals", "countries", "accounts"})
_STANDING = ("amount", "overdue")


def deal_columns(
    eco: Ecosystem, features: Sequence[Feature], *, catalogue: Catalogue, spine: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Return what is said of the deals of each partner as they stood at as_of.

    Parameters
    ----------
    eco : Ecosystem
        Without ``deals``, counts and sums are 0 and the rest is null.
    features : sequence of Feature
        Of the family of deals.
    catalogue : Catalogue
        Says who the peers are that win rates are drawn toward.
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``k``, ``slot``.
    as_of : sequence of datetime
        All moments of the spine.

    Returns
    -------
    ibis.Table
        ``slot`` and a float64 column for each feature under its name, one row for every row of the spine.
    """
    if not eco.has("deals"):
        return _beside(spine, (), features)
    deals = _deals(eco)

    makers: Mapping[str, Callable[[Sequence[Feature]], ibis.Table]] = {
        "open": lambda wanted: _open(deals, wanted, spine=spine),
        "standing": lambda wanted: _standing(eco, deals, wanted, spine=spine),
        "closed": lambda wanted: _closed(deals, wanted, spine=spine),
        "concentration": lambda wanted: _concentration(deals, wanted, spine=spine),
        "win_rate": lambda wanted: win_rates(eco, deals, wanted, catalogue=catalogue, spine=spine, as_of=as_of),
    }
    wanted = {name: [feature for feature in features if _part(feature) == name] for name in makers}
    return _beside(spine, [makers[name](some) for name, some in wanted.items() if some], features)


def _part(feature: Feature) -> str:
    """Name what builds a feature: each part reads the deals that it is about, and no others."""
    if feature.kind == "open":
        return "standing" if feature.measure in _STANDING else "open"
    return feature.measure if feature.measure in ("concentration", "win_rate") else "closed"


def _beside(spine: ibis.Table, parts: Iterable[ibis.Table], features: Sequence[Feature]) -> ibis.Table:
    """Put parts beside the slots of the spine, with what no row means where a part has none."""
    table = spine.select("slot")
    for part in parts:
        table = table.left_join(part, "slot").drop("slot_right")
    columns = {}
    for feature in features:
        value = table[feature.name] if feature.name in table.columns else ibis.null("float64")
        columns[feature.name] = value.fill_null(0.0) if feature.measure in _ZERO_IF_NONE else value
    return table.select("slot", **columns)


def _deals(eco: Ecosystem) -> ibis.Table:
    """Return one row for each deal and partner on it, with what the measures read; null where there is no column.

    ``seen_from`` and ``seen_closed`` say from when its registration and its closing can be seen; ``partners`` is the
    number of partners on the deal, ``revenue`` the partner's share of the amount it was closed at. A role that
    ``deal_partners`` leaves open is that of the deal.
    """
    deals = deal_shares(eco)
    null = ibis.null("timestamp(6)")
    seen_from = seen_at(eco, "deals", deals, "registered_at")
    closed_at = seen_closed = null
    if eco.has("deals", "closed_at"):
        closed_at = deals.closed_at
        # a deal that was entered after it closed cannot be seen as closed before it was entered; without a moment a
        # closing is never seen
        known = ibis.greatest(seen_from, seen_at(eco, "deals", deals, "closed_at", "closed_recorded_at"))
        seen_closed = ((deals.outcome != "open") & closed_at.notnull()).ifelse(known, null)
    rows = deals.select(
        "deal_id",
        "partner_id",
        "share",
        "registered_at",
        "outcome",
        seen_from=seen_from,
        closed_at=closed_at,
        seen_closed=seen_closed,
        revenue=((_given(eco, deals, "amount", "float64") * deals.share).cast(MONEY)),
        account_id=_given(eco, deals, "account_id", "string"),
        vertical=_given(eco, deals, "vertical", "string"),
        country=_given(eco, deals, "country", "string"),
        role=_given(eco, deals, "role", "string"),
    )
    if not eco.has("deal_partners"):
        return rows.mutate(partners=ibis.literal(1, "int64"))
    pairs = eco.table("deal_partners")
    role = pairs.role if eco.has("deal_partners", "role") else ibis.null("string")
    sides = pairs.select(
        "deal_id", "partner_id", side=role, partners=pairs.deal_id.count().over(group_by=pairs.deal_id)
    )
    joined = rows.left_join(sides, ["deal_id", "partner_id"])
    return joined.select(
        *(name for name in rows.columns if name != "role"),
        role=ibis.coalesce(joined.side, joined.role),
        partners=joined.partners.fill_null(1),
    )


def _given(eco: Ecosystem, deals: ibis.Table, column: str, type_: str) -> Any:
    return deals[column] if eco.has("deals", column) else ibis.null(type_)


def _open(deals: ibis.Table, features: Sequence[Feature], *, spine: ibis.Table) -> ibis.Table:
    rows = _is_open(spine.select("slot", "partner_id", "as_of").inner_join(deals, "partner_id"))
    age = rows.as_of.delta(rows.registered_at, unit="microsecond")
    values = {"count": rows.count().cast("float64"), "age_days": _mean_days(age, ibis.literal(True))}
    return rows.group_by("slot").aggregate(**{f.name: values[f.measure] for f in features})


def _is_open(pairs: ibis.Table) -> ibis.Table:
    """Keep pairs of a row of the spine and a deal that was on record and open then."""
    later = pairs.seen_closed.isnull() | (pairs.seen_closed >= pairs.as_of)
    return pairs.filter((pairs.seen_from < pairs.as_of) & later)


def _standing(eco: Ecosystem, deals: ibis.Table, features: Sequence[Feature], *, spine: ibis.Table) -> ibis.Table:
    """Fold what was on record about open deals: each row of their history holds until the next one is known."""
    if not eco.has("deal_history"):
        return spine.select("slot").limit(0)
    history = eco.table("deal_history")
    has = {name: eco.has("deal_history", name) for name in ("amount", "expected_close_at")}
    known = history.select(
        "deal_id",
        known_from=history.valid_from + interval(eco.lag("deal_history")),
        amount=history.amount if has["amount"] else ibis.null("float64"),
        expected=history.expected_close_at if has["expected_close_at"] else ibis.null("timestamp(6)"),
    )
    following = ibis.window(group_by="deal_id", order_by="known_from")
    known = known.mutate(known_to=known.known_from.lead(1).over(following))
    narrow = deals.select("deal_id", "partner_id", "share", "seen_from", "seen_closed")
    # most rows of a history belong to deals that are closed by now, and most of those to no row of the spine
    states = narrow.inner_join(known, "deal_id").drop("deal_id")
    pairs = _is_open(spine.select("slot", "partner_id", "as_of").inner_join(states, "partner_id"))
    latest = pairs.known_to.isnull() | (pairs.known_to >= pairs.as_of)
    rows = pairs.filter((pairs.known_from < pairs.as_of) & latest)
    values = {
        "amount": (rows.amount * rows.share).cast(MONEY).sum().cast("float64"),
        "overdue": rows.count(where=rows.expected < rows.as_of).cast("float64"),
    }
    return rows.group_by("slot").aggregate(**{f.name: values[f.measure] for f in features})


def _closed_before(spine: ibis.Table, deals: ibis.Table, features: Sequence[Feature], *columns: str) -> ibis.Table:
    """Join the spine to the deals won and lost that were known to be so, within the widest window of features.

    Returns ``slot``, ``as_of``, ``outcome``, ``closed_at`` and the columns asked for.
    """
    kinds = sorted({f.kind for f in features})
    closed = deals.filter(deals.outcome.isin(kinds) & deals.seen_closed.notnull())
    closed = closed.select("partner_id", "outcome", "closed_at", "seen_closed", *columns)
    pairs = spine.select("slot", "partner_id", "as_of").inner_join(closed, "partner_id")
    pairs = pairs.filter(pairs.seen_closed < pairs.as_of)
    if all(f.days for f in features):
        pairs = pairs.filter(pairs.closed_at >= pairs.as_of - ibis.interval(days=max(f.days[0] for f in features)))
    return pairs.drop("partner_id", "seen_closed")


def _within(rows: ibis.Table, features: Sequence[Feature]) -> ibis.Table:
    """Add whether a deal is of the kind and in the window of each feature, once for all features that share both."""
    masks = {}
    for f in features:
        of_kind = rows.outcome == f.kind
        near = rows.closed_at >= rows.as_of - ibis.interval(days=f.days[0]) if f.days else ibis.literal(True)
        masks[_mask(f)] = of_kind & near
    return rows.mutate(**masks)


def _mask(feature: Feature) -> str:
    return f"{feature.kind}__{feature.window}"


def _closed(deals: ibis.Table, features: Sequence[Feature], *, spine: ibis.Table) -> ibis.Table:
    columns = sorted({column for f in features for column in _READS[f.measure]})
    rows = _within(_closed_before(spine, deals, features, *columns), features)
    values = {f.name: _AT_CLOSE[f.measure](rows, rows[_mask(f)]) for f in features}
    return rows.group_by("slot").aggregate(**values)


def _mean_days(span: Any, where: Any) -> Any:
    """Mean of spans in microseconds, in days: whole numbers are summed, so the order of the rows does not matter."""
    return span.sum(where=where).cast("float64") / span.count(where=where).cast("float64").nullif(0.0) / _DAY_US


def _cycle_days(rows: ibis.Table, where: Any) -> Any:
    return _mean_days(rows.closed_at.delta(rows.registered_at, unit="microsecond"), where)


def _sourced_share(rows: ibis.Table, where: Any) -> Any:
    sourced = rows.revenue.sum(where=where & (rows.role == "sourced")).cast("float64").fill_null(0.0)
    return sourced / rows.revenue.sum(where=where & rows.role.notnull()).cast("float64").nullif(0.0)


def _joint_rate(rows: ibis.Table, where: Any) -> Any:
    joint = rows.count(where=where & (rows.partners > 1)).cast("float64")
    return joint / rows.count(where=where).cast("float64").nullif(0.0)


def _joint_share(rows: ibis.Table, where: Any) -> Any:
    where = where & (rows.partners > 1)
    return rows.share.cast(_FRACTION).sum(where=where).cast("float64") / rows.count(where=where).cast("float64").nullif(
        0.0
    )


def _distinct(column: str) -> Callable[[ibis.Table, Any], Any]:
    return lambda rows, where: rows[column].nunique(where=where).cast("float64")


_AT_CLOSE: Mapping[str, Callable[[ibis.Table, Any], Any]] = MappingProxyType(
    {
        "cycle_days": _cycle_days,
        "sourced_share": _sourced_share,
        "joint_rate": _joint_rate,
        "joint_share": _joint_share,
        "verticals": _distinct("vertical"),
        "countries": _distinct("country"),
        "accounts": _distinct("account_id"),
    }
)
_READS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cycle_days": ("registered_at",),
        "sourced_share": ("revenue", "role"),
        "joint_rate": ("partners",),
        "joint_share": ("partners", "share"),
        "verticals": ("vertical",),
        "countries": ("country",),
        "accounts": ("account_id",),
    }
)


def _concentration(deals: ibis.Table, features: Sequence[Feature], *, spine: ibis.Table) -> ibis.Table:
    """Herfindahl index of won revenue over customers: the sum of their squared shares; unnamed customers left out."""
    rows = _closed_before(spine, deals, features, "account_id", "revenue")
    rows = _within(rows.filter(rows.account_id.notnull()), features)
    spent = {f.name: rows.revenue.sum(where=rows[_mask(f)]) for f in features}
    customers = rows.group_by("slot", "account_id").aggregate(**spent)
    of_slot = ibis.window(group_by="slot")
    shares = {
        name: customers[name].cast("float64") / customers[name].sum().over(of_slot).cast("float64").nullif(0.0)
        for name in spent
    }
    shares = customers.select("slot", **shares)
    folds = {name: (shares[name] * shares[name]).cast(_FRACTION).sum().cast("float64") for name in spent}
    return shares.group_by("slot").aggregate(**folds)
