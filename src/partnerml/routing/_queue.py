"""The leads that a person must decide: those whose latest decision is that nobody gets them.

Also those that repeat a lead which no partner has, where that one is known from the tables alone and was never routed:
nobody else would see to either.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa

from partnerml.routing import _schema as tables
from partnerml.routing._decision import DUPLICATE, FALLBACK, Decision
from partnerml.routing._history import moments
from partnerml.routing._queries import was_last

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("lead_id", "since", "why", "waits", "asked", "decision_id"),
    *("created_at", "account_id", "account_name", "country", "amount"),
)
_OF_LEAD = ("account_id", "account_name", "country", "amount")

leads, decisions, offers = tables.leads.c, tables.decisions.c, tables.offers.c
_ASKED = (
    sa.select(sa.func.count(sa.distinct(offers.partner_id)))
    .where(offers.lead == decisions.lead, offers.seq < decisions.seq)
    .correlate(tables.decisions)
    .scalar_subquery()
)
_original = tables.leads.alias()
_REPEATS_NOTHING_ROUTED = sa.and_(
    decisions.status == DUPLICATE,
    decisions.partner_id.is_(None),
    ~sa.exists().where(_original.c.lead_id == decisions.duplicate_of).correlate(tables.decisions),
)
_QUEUE = (
    sa.select(
        decisions.document, decisions.decided_at, leads.lead_id, leads.payload, leads.created_at, _ASKED.label("asked")
    )
    .select_from(tables.decisions.join(tables.leads))
    .where(
        sa.or_(decisions.status == FALLBACK, _REPEATS_NOTHING_ROUTED),
        leads.forgotten == 0,
        was_last(sa.bindparam("by_then")),
    )
    .order_by(decisions.decided_at, decisions.seq)
)


def queue(connection: sa.Connection, *, by_then: int) -> pd.DataFrame:
    """Return the leads that nobody had and nobody was asked about at a moment in microseconds, the longest first."""
    import pandas as pd

    rows = []
    for row in connection.execute(_QUEUE, {"by_then": by_then}):
        decision, payload = Decision.from_json(row.document), json.loads(row.payload)
        rows.append(
            {
                "lead_id": row.lead_id,
                "since": row.decided_at,
                "why": decision.why,
                "waits": decision.waits,
                "asked": row.asked,
                "decision_id": decision.decision_id,
                "created_at": row.created_at,
                **{name: payload.get(name) for name in _OF_LEAD},
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("since", "created_at"):
        frame[name] = moments(frame[name])
    return frame.astype({"waits": "bool", "asked": "int64", "amount": "float64"})
