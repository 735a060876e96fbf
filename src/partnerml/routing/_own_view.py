"""What one partner may be told of a decision: where it stood and why, and nothing about the lead or others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.routing._decide import ranked
from partnerml.routing._decision import ASSIGNED, FALLBACK, Decision
from partnerml.routing._eligibility import Failed, why_not
from partnerml.routing._precedence import precedence
from partnerml.routing._words import about_itself

if TYPE_CHECKING:
    from partnerml.routing._opened import Opened
    from partnerml.routing._past import Past
    from partnerml.routing._situation import Situation
    from partnerml.routing._vectors import Vector


def own_view(archive: Past, decision_id: str, partner_id: str) -> dict[str, Any]:
    """Return what a partner may see of a decision (`Decision.for_partner`), with its rank however far down.

    A partner that did not get the lead is told facts of itself as they were, and the first rule that it did not pass
    (``failed``, else None).

    Parameters
    ----------
    archive : Past
    decision_id, partner_id : str

    Raises
    ------
    InputError
        If there is no such decision or partner, the lead was forgotten, or the snapshot of then is not there.
    """
    state, past = archive.read(decision_id)
    then, situation = archive.as_it_was(state, past)
    row = then.row(partner_id)
    found = {**past.for_partner(partner_id), "failed": None}
    if found["yours"]:
        return found
    failed = _failed(past, situation, row, then)
    return found | {
        "rank": rank_of(past, state.vector, partner_id),
        "facts": list(about_itself(situation, row)),
        "failed": None if failed is None else failed._asdict(),
    }


def _failed(past: Decision, situation: Situation, row: int, then: Opened) -> Failed | None:
    """Return what kept a partner from a lead: that it was not free, or the first rule."""
    engaged = None if past.status in (ASSIGNED, FALLBACK) else precedence(situation)
    if engaged is not None:
        return Failed(past.status, "the lead is free", engaged.anonymous)
    return next(iter(why_not(situation, then.way.rules, row, audience="partner")), None)


def rank_of(past: Decision, vector: Vector | None, partner_id: str) -> int | None:
    """Return the place of a partner by utility among those that a policy chose from; None if it was not among them."""
    if vector is None or partner_id not in vector.partner_id:
        return None
    ids = list(vector.partner_id)
    if past.partner_id is None:  # nobody was chosen: it was held back
        return int(np.argsort(-vector.utility, kind="stable").tolist().index(ids.index(partner_id))) + 1
    _, others = ranked(vector.utility, ids.index(past.partner_id), most=len(ids))
    return next(rank for rank, place in others if ids[place] == partner_id)
