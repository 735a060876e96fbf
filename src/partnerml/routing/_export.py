"""What training and evaluation learn from: assignments, decisions and what policies chose from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml import schema
from partnerml.routing import _schema as tables
from partnerml.routing._history import moments
from partnerml.routing._offers import (
    ACCEPTED,
    ASKED,
    EXISTING_OWNER,
    OFFERED,
    OUTCOMES,
    OVERRIDE,
    REGISTERED_DEAL,
    STATES,
)
from partnerml.routing._vectors import Vector

if TYPE_CHECKING:
    import pandas as pd

# columns of decisions, in the order of the documentation
DECISIONS = (
    *("decision_id", "lead_id", "number", "status", "partner_id", "offer_id", "duplicate_of", "rank", "p_win"),
    *("price", "utility", "propensity", "explores", "n_eligible", "funnel", "alternatives", "reasons", "policy"),
    *("model_version", "snapshot_id", "decided_at", "seed", "forgotten"),
)
VECTORS = ("decision_id", "lead_id", "decided_at", "partner_id", "probability", "p_win", "utility", "free")
_ORIGINS = {ASKED: "routed", REGISTERED_DEAL: "partner_submitted", EXISTING_OWNER: "routed", OVERRIDE: "manual"}
_ASSIGNED_MOMENTS = ("assigned_at", "responded_at", "closed_at", "closed_recorded_at")

leads, decisions, offers = tables.leads.c, tables.decisions.c, tables.offers.c
_ABOUT_DECISION = tables.decisions.join(tables.leads)


def assignments(connection: sa.Connection, by_then: int | None = None) -> pd.DataFrame:
    """Return the canonical table of assignments: every lead that a partner was offered or given.

    By a moment in microseconds, where one is given: with the answers and outcomes that the ledger had by then.
    """
    import pandas as pd

    query = (
        sa.select(tables.offers, leads.lead_id, decisions.document)
        .select_from(tables.offers.join(tables.leads).join(tables.decisions, decisions.seq == offers.seq))
        .order_by(offers.offer)
    )
    if by_then is None:
        rows = [_assignment(row, row._asdict()) for row in connection.execute(query)]
    else:
        became = _became(connection, by_then)
        found = connection.execute(query.where(offers.offered_at <= by_then))
        rows = [_assignment(row, {**_begun(row), **became.get(row.offer, {})}) for row in found]
    frame = pd.DataFrame(rows, columns=list(schema.ASSIGNMENTS.names))
    for name in _ASSIGNED_MOMENTS:
        frame[name] = moments(frame[name])
    return frame.astype({"propensity": "float64", "amount": "float64", "explores": "boolean"})


def _begun(row: Any) -> dict[str, Any]:
    """Return what an offer is when it is made."""
    nothing = dict.fromkeys(("responded_at", "outcome", "closed_at", "amount", "closed_recorded_at"))
    return nothing | ({"status": OFFERED} if row.way == ASKED else _answered(row.offered_at, ACCEPTED))


def _answered(at: int, status: str) -> dict[str, Any]:
    return {"status": status, "responded_at": at}


def _became(connection: sa.Connection, by_then: int) -> dict[int, dict[str, Any]]:
    """Return what had become of offers by a moment, by their numbers: their last answer and outcome of the history."""
    note = tables.history.c
    query = (
        sa.select(note.offer, note.at, note.what, note.closed_at, note.amount, offers.offered_at)
        .select_from(tables.history.join(tables.offers, offers.offer == note.offer))
        .where(note.at <= by_then)
        .order_by(note.event)
    )
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(query):
        became = found.setdefault(row.offer, {})
        if row.what in STATES:
            became |= _answered(max(row.at, row.offered_at), row.what)
        elif row.what in OUTCOMES:
            closed = {"closed_at": row.closed_at, "amount": row.amount, "closed_recorded_at": row.at}
            became |= {"outcome": row.what, **closed}
    return found


def _assignment(row: Any, offer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an offer as it stood: ``offer`` tells its status, answer and outcome."""
    document = json.loads(row.document)
    accepted = offer["status"] == ACCEPTED
    return {
        "lead_id": row.lead_id,
        "partner_id": row.partner_id,
        "assigned_at": row.offered_at,
        "propensity": document.get("propensity") if row.way == ASKED else None,
        "explores": bool(document.get("explores")) if row.way == ASKED else None,
        "response": None if offer["status"] == OFFERED else offer["status"],
        "responded_at": offer["responded_at"],
        "outcome": offer["outcome"] or ("open" if accepted else None),
        "closed_at": offer["closed_at"],
        "amount": offer["amount"],
        "closed_recorded_at": offer["closed_recorded_at"],
        "origin": _ORIGINS[row.way],
        "policy": document.get("policy") or None,
    }


def _made(query: Any, by_then: int | None) -> Any:
    """Return a query of decisions, of those alone that were made by a moment where one is given."""
    return query if by_then is None else query.where(decisions.decided_at <= by_then)


def all_decisions(connection: sa.Connection, by_then: int | None = None) -> pd.DataFrame:
    """Return every decision: columns of the documentation, lists as they are."""
    import pandas as pd

    query = (
        sa.select(decisions.document, decisions.number, decisions.forgotten, decisions.decided_at, leads.lead_id)
        .select_from(_ABOUT_DECISION)
        .order_by(decisions.seq)
    )
    rows = [
        json.loads(row.document)
        | {"number": row.number, "decided_at": row.decided_at, "forgotten": bool(row.forgotten)}
        for row in connection.execute(_made(query, by_then))
    ]
    frame = pd.DataFrame(rows, columns=list(DECISIONS))
    frame["decided_at"] = moments(frame["decided_at"])
    return frame.astype(dict.fromkeys(("p_win", "price", "utility", "propensity"), "float64"))


def all_vectors(connection: sa.Connection, by_then: int | None = None) -> pd.DataFrame:
    """Return one row for each decision of a policy, with a list for each column of its vector."""
    import pandas as pd

    query = (
        sa.select(tables.vectors.c.vector, decisions.decision_id, decisions.decided_at, leads.lead_id)
        .select_from(_ABOUT_DECISION.join(tables.vectors, tables.vectors.c.seq == decisions.seq))
        .order_by(decisions.seq)
    )
    rows = []
    for row in connection.execute(_made(query, by_then)):
        vector = Vector.unpacked(row.vector)
        lists = {name: getattr(vector, name) for name in VECTORS[3:]}
        rows.append({name: getattr(row, name) for name in VECTORS[:3]} | lists)
    frame = pd.DataFrame(rows, columns=list(VECTORS))
    frame["decided_at"] = moments(frame["decided_at"])
    return frame


FRAMES: Mapping[str, Callable[[sa.Connection, int | None], Any]] = {
    "assignments": assignments,
    "decisions": all_decisions,
    "vectors": all_vectors,
}
