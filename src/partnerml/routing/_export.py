"""What training and evaluation learn from: assignments, decisions and what policies chose from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml import schema
from partnerml.routing import _schema as tables
from partnerml.routing._history import moments
from partnerml.routing._offers import ACCEPTED, ASKED, EXISTING_OWNER, OFFERED, OVERRIDE, REGISTERED_DEAL
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


def assignments(connection: sa.Connection) -> pd.DataFrame:
    """Return the canonical table of assignments: every lead that a partner was offered or given."""
    import pandas as pd

    query = (
        sa.select(tables.offers, leads.lead_id, decisions.document)
        .select_from(tables.offers.join(tables.leads).join(tables.decisions, decisions.seq == offers.seq))
        .order_by(offers.offer)
    )
    rows = [_assignment(row) for row in connection.execute(query)]
    frame = pd.DataFrame(rows, columns=list(schema.ASSIGNMENTS.names))
    for name in _ASSIGNED_MOMENTS:
        frame[name] = moments(frame[name])
    return frame.astype({"propensity": "float64", "amount": "float64", "explores": "boolean"})


def _assignment(row: Any) -> dict[str, Any]:
    document = json.loads(row.document)
    accepted = row.status == ACCEPTED
    return {
        "lead_id": row.lead_id,
        "partner_id": row.partner_id,
        "assigned_at": row.offered_at,
        "propensity": document.get("propensity") if row.way == ASKED else None,
        "explores": bool(document.get("explores")) if row.way == ASKED else None,
        "response": None if row.status == OFFERED else row.status,
        "responded_at": row.responded_at,
        "outcome": row.outcome or ("open" if accepted else None),
        "closed_at": row.closed_at,
        "amount": row.amount,
        "closed_recorded_at": row.closed_recorded_at,
        "origin": _ORIGINS[row.way],
        "policy": document.get("policy") or None,
    }


def all_decisions(connection: sa.Connection) -> pd.DataFrame:
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
        for row in connection.execute(query)
    ]
    frame = pd.DataFrame(rows, columns=list(DECISIONS))
    frame["decided_at"] = moments(frame["decided_at"])
    return frame.astype(dict.fromkeys(("p_win", "price", "utility", "propensity"), "float64"))


def all_vectors(connection: sa.Connection) -> pd.DataFrame:
    """Return one row for each decision of a policy, with a list for each column of its vector."""
    import pandas as pd

    query = (
        sa.select(tables.vectors.c.vector, decisions.decision_id, decisions.decided_at, leads.lead_id)
        .select_from(_ABOUT_DECISION.join(tables.vectors, tables.vectors.c.seq == decisions.seq))
        .order_by(decisions.seq)
    )
    rows = []
    for row in connection.execute(query):
        vector = Vector.unpacked(row.vector)
        lists = {name: getattr(vector, name) for name in VECTORS[3:]}
        rows.append({name: getattr(row, name) for name in VECTORS[:3]} | lists)
    frame = pd.DataFrame(rows, columns=list(VECTORS))
    frame["decided_at"] = moments(frame["decided_at"])
    return frame


FRAMES: Mapping[str, Callable[[sa.Connection], Any]] = {
    "assignments": assignments,
    "decisions": all_decisions,
    "vectors": all_vectors,
}
