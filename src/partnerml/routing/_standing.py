"""Where a lead stands in a turn: the decision that holds, or the next one, made and written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from partnerml.errors import DataError
from partnerml.routing._currency import no_rate
from partnerml.routing._decision import Decision
from partnerml.routing._lead import Lead
from partnerml.routing._precedence import keys_of
from partnerml.routing._round_robin import RETURNED, returned

if TYPE_CHECKING:
    from partnerml.config import CurrencyConfig
    from partnerml.routing._decide import Outcome
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._opened import Opened
    from partnerml.routing._turn import Latest, Turn


Item = TypeVar("Item")
TOGETHER = 200  # leads of one turn at most, where there are many: others get in between


def parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut many leads, or what stands for them, into what one turn takes."""
    for start in range(0, len(items), TOGETHER):
        yield items[start : start + TOGETHER]


def standing(turn: Turn, lead: Lead) -> Decision | None:
    """Return the latest decision on a lead; None if it has none yet, or the next one is due.

    It is due where the last offer has run out of time just now, or was ended before without a decision to follow, or
    where the lead waits for a snapshot: a lead that nobody has and nobody is asked about would be lost.

    Raises
    ------
    DataError
        If the lead came before with another payload.
    """
    latest = latest_of(turn, lead)
    if latest is None:
        return None
    if not is_due(latest, turn.moment):
        return Decision.from_json(latest.text)
    if latest.offer is not None:
        turn.expire(latest.offer.offer_id)
    return None


def latest_of(turn: Turn, lead: Lead) -> Latest | None:
    """Return the latest decision on a lead, whether it still holds or not; nothing is written.

    Raises
    ------
    DataError
        If the lead came before with another payload.
    """
    latest = turn.latest
    told = None if latest is None else _how_changed(lead, latest.payload)
    if told is not None:
        raise DataError(told)
    return latest


def changed(ledger: Ledger, leads: Sequence[Lead]) -> list[tuple[Lead, str]]:
    """Return the leads that came before with another payload, each with what is told of it; nothing is written."""
    known = ledger.payloads([lead.lead_id for lead in leads])
    told = ((lead, _how_changed(lead, known[lead.lead_id])) for lead in leads if lead.lead_id in known)
    return [(lead, words) for lead, words in told if words is not None]


def without_rate(ledger: Ledger, leads: Sequence[Lead], rule: CurrencyConfig | None) -> list[tuple[Lead, str]]:
    """Return the leads without a decision whose amount is in a currency without a rate, each with the reason."""
    told = [(lead, words) for lead in leads if (words := no_rate(lead, rule)) is not None]
    known = ledger.payloads([lead.lead_id for lead, _ in told]) if told else {}
    return [(lead, words) for lead, words in told if lead.lead_id not in known]


def _how_changed(lead: Lead, payload: str) -> str | None:
    names = lead.differs(payload)
    if not names:
        return None
    return (
        f"lead {lead.lead_id!r} was routed before with other values of {', '.join(names)}; a decision stands for "
        "the lead as it was. Send it as it was, or as a new lead with an id of its own"
    )


def is_due(latest: Latest, moment: dt.datetime) -> bool:
    """Tell whether a lead that has decisions is to have another one: its last offer came to nothing, or it waits."""
    offer = latest.offer
    if offer is None:
        return not latest.forgotten and Decision.from_json(latest.text).waits
    return offer.outcome is None and (not offer.holds or offer.overdue(moment))


def follow(turn: Turn, opened: Opened, lead: Lead, *, outcome: Outcome | None = None) -> Decision:
    """Decide, unless that is done, and write the decision.

    Parameters
    ----------
    turn : Turn
        That looks at the lead.
    opened : Opened
    lead : Lead
    outcome : Outcome, optional
        The decision, where it was made already.
    """
    first = turn.number == 0
    if outcome is None:
        outcome = opened.decide(opened.situation_in(turn, lead), number=turn.number, credit=opened.credit_in(turn))
    told = opened.written(outcome, moment=turn.moment)
    if first:
        told |= {"payload": lead.payload, "keys": keys_of(lead, opened.snapshot)}
    turn.record(**told)
    return outcome.decision


def after_answer(turn: Turn, opened: Opened) -> Decision:
    """Return where a lead stands after an answer: the next decision, if nobody has it now."""
    latest = turn.latest
    assert latest is not None, "an offer belongs to a decision"
    if turn.holder is not None or latest.offer is None or latest.offer.outcome is not None:
        return Decision.from_json(latest.text)
    if latest.forgotten:  # there is nothing left to decide by
        return Decision.from_json(latest.text)
    owe_again(turn, opened, Decision.from_json(latest.text), latest.offer.status)
    lead = Lead.of_payload(latest.payload)
    situation, credit = opened.situation_in(turn, lead), opened.credit_in(turn)
    return follow(turn, opened, lead, outcome=opened.decide_next(situation, number=turn.number, credit=credit))


def owe_again(turn: Turn, opened: Opened, decision: Decision, status: str) -> None:
    """Let round robin owe a lead again to a partner whose turn it was and who did not keep it."""
    acting = opened.config.policy_of(decision.policy)
    if status not in RETURNED or acting is None or acting.kind != "round_robin" or decision.partner_id is None:
        return
    owed = turn.credit().get(decision.partner_id, 0.0)
    turn.owe({decision.partner_id: returned(owed, catch_up=acting.catch_up)})
