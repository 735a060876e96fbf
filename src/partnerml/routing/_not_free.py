"""Leads that go to nobody else, whoever is eligible: closed, held, offered often enough, or held back by prices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from partnerml.routing._decide import offered_enough
from partnerml.routing._decision import FALLBACK
from partnerml.routing._eligibility import Failed

if TYPE_CHECKING:
    from partnerml.routing._offers import Offer
    from partnerml.routing._opened import Opened
    from partnerml.routing._situation import Situation

CLOSED, HELD, OFFER_LIMIT, HELD_BACK = "closed", "held", "offer_limit", "held_back"
NOT_FREE = (CLOSED, HELD, OFFER_LIMIT, HELD_BACK)
_FREE = "the lead is free"
# for a partner, which is told nothing of others
_ANONYMOUS = {
    CLOSED: "it is closed",
    HELD: "it has been given out",
    OFFER_LIMIT: "it is offered to nobody else",
    HELD_BACK: "it is held back for now",
}


@dataclasses.dataclass(frozen=True)
class Stand:
    """How a lead stood when it was asked about.

    Attributes
    ----------
    closed, holder : Offer or None
        By which it was closed, and by which a partner holds it.
    number : int
        How many decisions it has had.
    credit : mapping of str to float
        What round robin owes partners.
    """

    closed: Offer | None
    holder: Offer | None
    number: int
    credit: Mapping[str, float]


def not_free(
    opened: Opened, situation: Situation, stand: Stand, *, named: bool, audience: str = "vendor"
) -> Failed | None:
    """Return why a lead goes to nobody else; None if it may.

    Parameters
    ----------
    opened : Opened
    situation : Situation
    stand : Stand
    named : bool
        Whether a rule of engagement names the partner that is asked for: it gets the lead then, whatever its price and
        to however many the lead was offered, but for one that somebody has.
    audience : {"vendor", "partner"}
        Who reads it.
    """
    found = _given(situation, stand)
    if found is None and not named:
        found = _offered_enough(situation) or _held_back(opened, situation, stand)
    if found is None:
        return None
    name, words = found
    return Failed(name, _FREE, words if audience == "vendor" else _ANONYMOUS[name])


def _given(situation: Situation, stand: Stand) -> tuple[str, str] | None:
    """Return who has a lead, or had it to the end."""
    closed, holder = stand.closed, stand.holder
    if closed is not None:
        return CLOSED, f"partner {closed.partner_id} closed it as {closed.outcome}: it goes to nobody else"
    # what is overdue expires once anybody touches it
    if holder is None or holder.overdue(situation.moment):
        return None
    has = "was offered it and has yet to answer" if holder.live else "has it"
    return HELD, f"partner {holder.partner_id} {has}; partnerml override gives it to another"


def _offered_enough(situation: Situation) -> tuple[str, str] | None:
    enough = offered_enough(situation)
    return None if enough is None else (OFFER_LIMIT, enough)


def _held_back(opened: Opened, situation: Situation, stand: Stand) -> tuple[str, str] | None:
    """Return that a lead is worth less than the capacity it would take, where it is."""
    if not situation.config.hold_back:
        return None
    outcome = opened.without_reasons().decide(situation, number=stand.number, credit=stand.credit)
    # nobody got it, though some were ranked
    is_held_back = outcome.decision.status == FALLBACK and outcome.considered is not None
    return (HELD_BACK, outcome.decision.why) if is_held_back else None
