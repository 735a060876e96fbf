"""The ledger held against itself: all entries are added up, and compared with what the database counts and promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa

from partnerml.routing import _schema as tables
from partnerml.routing._offers import HOLDING, OFFERED
from partnerml.routing._schema import DAY, OPEN, WEEK

entries, counters, offers, decisions = (
    table.c for table in (tables.entries, tables.counters, tables.offers, tables.decisions)
)
Units = Counter[tuple[str, int, str]]


def audit(connection: sa.Connection) -> list[str]:
    """Return what is not as it must be."""
    units: Units = Counter()
    found = list(_added_up(connection, units))
    found += _compared(connection, units)
    found += _held(connection, units)
    found += _twice(connection)
    return found


def _added_up(connection: sa.Connection, units: Units) -> Iterator[str]:
    """Add up the entries in order, and yield offers beyond the limits in force and units that never were."""
    for row in connection.execute(sa.select(tables.entries).order_by(entries.seq)):
        for kind, period, change, limit in (
            (DAY, row.day, row.d_day, row.limit_day),
            (WEEK, row.week, row.d_week, row.limit_week),
            (OPEN, 0, row.d_open, row.limit_open),
        ):
            key = (kind, period, row.partner_id)
            units[key] += change
            if units[key] < 0:
                yield f"entry {row.seq} gives back a unit ({kind}) that partner {row.partner_id} never had"
            if row.step == OFFERED and limit is not None and units[key] > limit:
                yield f"entry {row.seq} offers partner {row.partner_id} {units[key]} of {limit} ({kind})"


def _compared(connection: sa.Connection, units: Units) -> Iterator[str]:
    stored = {
        (row.kind, row.period, row.partner_id): row.units
        for row in connection.execute(sa.select(tables.counters).where(counters.units != 0))
    }
    for key in sorted(stored.keys() | {key for key, count in units.items() if count}):
        if stored.get(key, 0) != units[key]:
            yield f"the counter {key} says {stored.get(key, 0)}, and its entries {units[key]}"


def _held(connection: sa.Connection, units: Units) -> Iterator[str]:
    """Compare open-lead units with live offers and accepted leads that are open."""
    query = (
        sa.select(offers.partner_id, sa.func.count().label("leads"))
        .where(offers.status.in_(HOLDING), offers.closed_at.is_(None))
        .group_by(offers.partner_id)
    )
    holding = {row.partner_id: row.leads for row in connection.execute(query)}
    held = {partner: count for (kind, _, partner), count in units.items() if kind == OPEN and count}
    for partner in sorted(holding.keys() | held.keys()):
        if holding.get(partner, 0) != held.get(partner, 0):
            yield (
                f"partner {partner} holds {holding.get(partner, 0)} leads, and {held.get(partner, 0)} units are taken"
            )


def _twice(connection: sa.Connection) -> Iterator[str]:
    for what, those in (("live offers", offers.status == OFFERED), ("partners", offers.status.in_(HOLDING))):
        query = (
            sa.select(offers.lead)
            .where(those, offers.closed_at.is_(None))
            .group_by(offers.lead)
            .having(sa.func.count() > 1)
        )
        for lead in connection.execute(query).scalars():
            yield f"lead number {lead} has two {what}"
    numbered = sa.select(decisions.lead).group_by(decisions.lead)
    gaps = numbered.having(sa.func.count() != sa.func.max(decisions.number) + 1)
    for lead in connection.execute(gaps).scalars():
        yield f"the decisions on lead number {lead} are not numbered one after the other"
