"""Everything that happened in a ledger, told in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml.routing import _schema as tables
from partnerml.routing._offers import ASKED, HELD, OFFERED

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("at", "lead_id", "what", "status", "decision_id", "offer_id", "partner_id"),
    *("by", "reason", "closed_at", "amount"),
)
_DECIDED = "decided"
# of one decision on a lead: it comes first, then its offer, then what became of that
_FIRST, _SECOND, _THIRD = range(3)

leads, decisions, offers, history = (
    table.c for table in (tables.leads, tables.decisions, tables.offers, tables.history)
)
_ABOUT_OFFER = tables.offers.join(tables.leads).join(tables.decisions, decisions.seq == offers.seq)


def told(connection: sa.Connection, lead_id: str | None, *, by_then: int | None = None) -> pd.DataFrame:
    """Return what happened, or what happened to one lead; until a moment in microseconds, where one is given."""
    import pandas as pd

    events = [*_decided(connection, lead_id), *_offered(connection, lead_id), *_others(connection, lead_id)]
    if by_then is not None:
        events = [event for event in events if event[1]["at"] <= by_then]
    events.sort(key=lambda event: event[0])
    frame = pd.DataFrame([values for _, values in events], columns=list(COLUMNS))
    for name in ("at", "closed_at"):
        frame[name] = moments(frame[name])
    return frame.astype({"amount": "float64"})


def moments(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return stored moments, of which some may be null, as zoned timestamps."""
    import pandas as pd

    return pd.to_datetime(values.astype("Int64").astype("object"), unit="us", utc=True).astype("datetime64[us, UTC]")


def _of(query: Any, lead_id: str | None) -> Any:
    return query if lead_id is None else query.where(leads.lead_id == lead_id)


def _decided(connection: sa.Connection, lead_id: str | None) -> list[Any]:
    query = sa.select(tables.decisions, leads.lead_id).select_from(tables.decisions.join(tables.leads))
    return [
        (
            (row.decided_at, row.lead, row.number, _FIRST, 0),
            {
                **{name: getattr(row, name) for name in ("lead_id", "status", "decision_id", "partner_id")},
                "at": row.decided_at,
                "what": _DECIDED,
            },
        )
        for row in connection.execute(_of(query, lead_id))
    ]


def _offered(connection: sa.Connection, lead_id: str | None) -> list[Any]:
    columns = (leads.lead_id, decisions.decided_at, decisions.number, decisions.decision_id)
    query = sa.select(tables.offers, *columns).select_from(_ABOUT_OFFER)
    return [
        (
            (row.decided_at, row.lead, row.number, _SECOND, 0),
            {
                **{name: getattr(row, name) for name in ("lead_id", "decision_id", "offer_id", "partner_id")},
                "at": row.decided_at,
                "what": OFFERED if row.way == ASKED else HELD,
            },
        )
        for row in connection.execute(_of(query, lead_id))
    ]


def _others(connection: sa.Connection, lead_id: str | None) -> list[Any]:
    about = (leads.lead_id, decisions.decision_id, decisions.number, offers.offer_id, offers.partner_id)
    query = sa.select(tables.history, *about).select_from(
        tables.history.join(tables.leads, leads.lead == history.lead)
        .outerjoin(tables.offers, offers.offer == history.offer)
        .outerjoin(tables.decisions, decisions.seq == offers.seq)
    )
    names = ("at", "lead_id", "what", "decision_id", "offer_id", "partner_id", "by", "reason", "closed_at", "amount")
    return [
        (
            (row.at, row.lead, row.number or 0, _THIRD, row.event),
            {name: getattr(row, name) for name in names},
        )
        for row in connection.execute(_of(query, lead_id))
    ]
