"""Where a partner stands among its peers: percentiles of features in the programme as it was at the time.

Peers are the members of the programme (joined and not left, as far as was known) that had the same values in some
columns. The programme is what a partner is compared with, never the rows that happen to be asked for, so one partner
that is looked at alone has the percentile that it has among all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._calendar import Calendar
from partnerml.features._catalog import Catalogue, Feature, Peers
from partnerml.features._rows import slot
from partnerml.features._spine import joined_and_left, partners_table
from partnerml.features._traits import form, historic_traits, known

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem


def known_peers(eco: Ecosystem, static_traits: Sequence[str], peers: Peers | None = None) -> Peers:
    """Return whom to compare with: of the columns of the default, those that may be known at the time.

    Raises
    ------
    ConfigError
        If any other column is not among the traits of partners.
    """
    wanted, usual = peers or Peers(), Peers().by
    at_hand = {*static_traits, *historic_traits(eco)}
    strange = [name for name in wanted.by if name not in at_hand and name not in usual]
    if strange:
        raise ConfigError(
            f"peers.by: {strange[0]!r} is neither in partner_history nor among the traits of partners "
            f"({', '.join(sorted(at_hand)) or 'none'}); add it to traits.partners if it is known at any time"
        )
    return Peers(tuple(name for name in wanted.by if name in at_hand), wanted.at_least)


def programme(eco: Ecosystem, *, spine: ibis.Table, as_of: Sequence[datetime]) -> ibis.Table:
    """Return every partner at every moment of a spine.

    Parameters
    ----------
    eco : Ecosystem
    spine : ibis.Table
        ``as_of`` and its number ``k``.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.

    Returns
    -------
    ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``, and ``member``: joined (or without a joining date) and
        not left, as it was known before as_of.
    """
    grid = partners_table(eco).cross_join(spine.select("as_of", "k").distinct())
    joined, left = joined_and_left(eco, grid)
    grid = grid.mutate(slot=slot(grid.pid, grid.k, Calendar.of(as_of, ())), member=joined & ~left)
    return grid.select("partner_id", "as_of", "pid", "k", "slot", "member")


def peer_groups(eco: Ecosystem, peers: Peers, *, static_traits: Sequence[str], rows: ibis.Table) -> ibis.Table:
    """Return the group of peers that each row belongs to, by its traits as they were known before as_of.

    Parameters
    ----------
    eco : Ecosystem
    peers : Peers
    static_traits : sequence of str
        Columns of ``partners`` that are known at any time.
    rows : ibis.Table
        ``slot``, ``partner_id``, ``as_of``.

    Returns
    -------
    ibis.Table
        ``slot`` and ``peer_group``: a text that is never null. An unknown trait is a value of its own.

    Raises
    ------
    ConfigError
        If a column is not in the tables, or is a list or a moment.
    """
    table = known(eco, peers.by, static=static_traits, rows=rows.select("slot", "partner_id", "as_of"))
    group: Any = ibis.literal("")
    for column in peers.by:
        value = table[f"known__{column}"]
        if form(value.type()) not in ("text", "number"):
            raise ConfigError(
                f"peers.by: {column!r} holds {value.type()}; peers share texts, numbers or true and false"
            )
        text = value.cast("string")
        # its length goes before each value, so that no two lists of values read alike
        part = text.length().cast("string") + ":" + text
        group = group + part.fill_null("-") + ";"
    return table.select("slot", peer_group=group)


def peer_spine(
    eco: Ecosystem, peers: Peers, *, static_traits: Sequence[str], spine: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Return the rows that the percentiles of a spine need: its own, and the members of their groups at those moments.

    Returns
    -------
    ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``, ``peer_group``, ``member``, and ``asked``: whether the
        spine holds the row.
    """
    everyone = programme(eco, spine=spine, as_of=as_of)
    groups = peer_groups(eco, peers, static_traits=static_traits, rows=everyone)
    everyone = everyone.inner_join(groups, "slot")
    asked = spine.select("slot", asked=ibis.literal(True))
    everyone = everyone.left_join(asked, "slot").drop("slot_right").mutate(asked=_.asked.fill_null(False))
    needed = everyone.group_by("k", "peer_group").mutate(needed=_.asked.max())
    return needed.filter(needed.needed & (needed.member | needed.asked)).drop("needed")


def peer_columns(
    eco: Ecosystem,
    features: Sequence[Feature],
    *,
    catalogue: Catalogue,
    spine: ibis.Table,
    as_of: Sequence[datetime],
    base: Callable[[ibis.Table], ibis.Table],
) -> ibis.Table:
    """Return the percentiles of features among the peers of each row of a spine.

    A percentile is 100 times the share of the *other* peers with a value that lie below, those with the same value
    counted half: 100 (average rank - 1) / (n - 1) for a member among the n members of its group that have a value. A
    partner that is no member (it has left, or not joined) is placed among the members the same way.

    Parameters
    ----------
    eco : Ecosystem
    features : sequence of Feature
        Relative ones.
    catalogue : Catalogue
        Names the peers, and the traits that are known at any time.
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``pid``, ``k``, ``slot``.
    as_of : sequence of datetime
        The moments that ``k`` numbers, naive UTC.
    base : callable
        Takes a spine, with a few columns more, and returns it with a column for the `Feature.base` of each feature.

    Returns
    -------
    ibis.Table
        ``slot`` and a float64 column for each feature, in [0, 100]; null where the partner has no value itself, or
        fewer than `Peers.at_least` members of its group have one.

    Raises
    ------
    ConfigError
        If a feature is a text.
    """
    union = peer_spine(eco, catalogue.peers, static_traits=catalogue.static_traits, spine=spine, as_of=as_of)
    table = base(union)
    for feature in features:
        if table[feature.base.name].type().is_string():
            raise ConfigError(f"feature {feature.name}: {feature.base.name} is a text, and texts have no rank")
    table = table.select(
        "slot", "k", "peer_group", "member", "asked", **{f.name: table[f.base.name].cast("float64") for f in features}
    )
    ranked = table.select(
        "slot", "asked", **{f.name: _percentile(table, table[f.name], catalogue.peers.at_least) for f in features}
    )
    return ranked.filter(ranked.asked).drop("asked")


def _percentile(table: ibis.Table, value: Any, at_least: int) -> Any:
    """Return the percentile of values among those of the members of the group; ties count half."""
    counts = (table.member & value.notnull()).cast("int64")
    frame = {"group_by": [table.k, table.peer_group], "order_by": value}
    # RANGE frames hold all equal values at once
    up_to = counts.sum().over(ibis.range_window(preceding=None, following=0, **frame))
    from_on = counts.sum().over(ibis.range_window(preceding=0, following=None, **frame))
    everyone = counts.sum().over(group_by=[table.k, table.peer_group])
    # below = all - from_on; the same = up_to + from_on - all: below and half of the others that are the same
    twice = (everyone + up_to - from_on - counts).cast("float64")
    others = (everyone - counts).cast("float64").nullif(0.0)
    percentile = 100.0 * twice / (2.0 * others)
    return (value.notnull() & (everyone >= at_least)).ifelse(percentile, ibis.null("float64"))
