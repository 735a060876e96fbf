"""Forgetting a lead: who it was goes, what was counted stays.

The id becomes a random text that nothing leads back from, keys and payload are emptied, and of the decisions on the
lead (and of those that called another lead its duplicate) there remain the figures. The row of the lead in the ledger
keeps its number, by which entries, offers and outcomes name it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from partnerml.errors import InputError
from partnerml.routing import _schema as tables

if TYPE_CHECKING:
    from partnerml.routing._turn import Turn

FORGOTTEN = "forgotten"
KINDS = ("lead", "account")
# what of a decision says nothing of the lead
_KEPT = (
    *("decision_id", "status", "partner_id", "offer_id", "rank", "p_win", "price", "utility", "propensity"),
    *("explores", "n_eligible", "funnel", "policy", "model_version", "snapshot_id", "decided_at", "objective"),
)
_KEPT_OF_ALTERNATIVES = ("partner_id", "rank", "p_win", "price", "utility", "propensity", "behind")
_EMPTY: Mapping[type, Any] = {str: "", bool: False, int: 0, float: 0.0, list: [], dict: {}}

leads, decisions = tables.leads.c, tables.decisions.c


def forget(turn: Turn, identifier: str, *, by: str | None, kind: str | None = None) -> int:
    """Forget a lead, or all leads of an account.

    Returns
    -------
    int
        How many.

    Raises
    ------
    InputError
        If there is none of that id, or a lead and the account of others have it: what is forgotten does not come back.
    """
    connection = turn.connection
    by_kind = dict(zip(KINDS, (leads.lead_id == identifier, leads.account_id == identifier), strict=True))
    named = by_kind[kind] if kind is not None else sa.or_(*by_kind.values())
    rows = connection.execute(sa.select(leads.lead, leads.lead_id).where(named, leads.forgotten == 0)).all()
    is_lead = [row.lead_id == identifier for row in rows]
    if kind is None and len(set(is_lead)) > 1:
        raise InputError(
            f"{identifier!r} is the id of a lead, and of the account of {is_lead.count(False)} other(s) in this "
            "ledger; say which of both is to be forgotten: kind lead or account (--kind)"
        )
    if not rows:
        raise InputError(
            f"there is no {kind or 'lead and no account'} {identifier!r} in this ledger; what has been forgotten is "
            "not found again"
        )
    for row in rows:
        _forget_lead(turn, row.lead, row.lead_id, by)
    ledger = tables.ledger
    connection.execute(ledger.update().values(forgets=ledger.c.forgets + len(rows)))
    turn.look_at(None)
    return len(rows)


def _forget_lead(turn: Turn, lead: int, lead_id: str, by: str | None) -> None:
    connection, pseudonym = turn.connection, f"{FORGOTTEN}-{secrets.token_hex(8)}"
    turn.look_at(lead_id)
    if (holder := turn.holder) is not None:  # nobody can work on what nobody knows any more
        turn.withdraw(holder.offer_id)
    connection.execute(tables.history.update().where(tables.history.c.lead == lead).values(by=None, reason=None))
    connection.execute(
        tables.leads.update().where(leads.lead == lead),
        {"lead_id": pseudonym, "payload": "{}", "forgotten": 1}
        | dict.fromkeys(("account_id", "domain", "name", "country")),
    )
    named = sa.or_(decisions.lead == lead, decisions.duplicate_of == lead_id)
    for row in connection.execute(sa.select(tables.decisions).where(named)).all():
        document = reduced(json.loads(row.document))
        names = {"lead_id": pseudonym} if row.lead == lead else {"lead_id": json.loads(row.document)["lead_id"]}
        # what called this lead a duplicate tells of the other one, which is not forgotten
        of = pseudonym if row.duplicate_of == lead_id else row.duplicate_of
        text = json.dumps(
            document | names | {"duplicate_of": of}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        connection.execute(
            tables.decisions.update().where(decisions.seq == row.seq),
            {"document": text, "duplicate_of": of, "forgotten": 1},
        )
    turn.note(lead, FORGOTTEN, by=by)


def reduced(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision without what tells of its lead: words, facts, evidence, and the seed, which is made of its id.

    Every key stays, so that what reads decisions reads this one too.
    """
    kept = {
        name: value if name in _KEPT else None if value is None else _EMPTY.get(type(value))
        for name, value in document.items()
    }
    kept["alternatives"] = [
        {name: value for name, value in other.items() if name in _KEPT_OF_ALTERNATIVES}
        for other in document.get("alternatives", ())
    ]
    return kept | {"why": "what this decision was made of has been forgotten"}
