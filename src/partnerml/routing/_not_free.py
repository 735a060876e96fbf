"""Leads that go to nobody else, whoever is eligible: closed, held, offered often enough, or held back by prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def not_free(
    opened: Opened,
    situation: Situation,
    *,
    offers: Sequence[Offer],
    number: int,
    credit: Mapping[str, float],
    audience: str = "vendor",
) -> Failed | None:
    """Return why a lead that no rule of engagement names a partner for goes to nobody else; None if it may.

    Parameters
    ----------
    opened : Opened
    situation : Situation
    offers : sequence of Offer
        Those of the lead, in order.
    number : int
        How many decisions it has had.
    credit : mapping of str to float
        What round robin owes partners.
    audience : {"vendor", "partner"}
        Who reads it.
    """
    found = _given(situation, offers) or _held_back(opened, situation, number, credit)
    if found is None:
        return None
    name, words = found
    return Failed(name, _FREE, words if audience == "vendor" else _ANONYMOUS[name])


def _given(situation: Situation, offers: Sequence[Offer]) -> tuple[str, str] | None:
    """Return what the offers of a lead say of it."""
    closed = next((offer for offer in offers if offer.outcome is not None), None)
    if closed is not None:
        return CLOSED, f"partner {closed.partner_id} closed it as {closed.outcome}: it goes to nobody else"
    # what is overdue expires once anybody touches it
    holder = next((offer for offer in offers if offer.holds and not offer.overdue(situation.moment)), None)
    if holder is not None:
        has = "was offered it and has yet to answer" if holder.live else "has it"
        return HELD, f"partner {holder.partner_id} {has}; partnerml override gives it to another"
    enough = offered_enough(situation)
    return None if enough is None else (OFFER_LIMIT, enough)


def _held_back(
    opened: Opened, situation: Situation, number: int, credit: Mapping[str, float]
) -> tuple[str, str] | None:
    """Return that a lead is worth less than the capacity it would take, where it is."""
    if not situation.config.hold_back:
        return None
    outcome = opened.without_reasons().decide(situation, number=number, credit=credit)
    # nobody got it, though some were ranked
    is_held_back = outcome.decision.status == FALLBACK and outcome.considered is not None
    return (HELD_BACK, outcome.decision.why) if is_held_back else None
