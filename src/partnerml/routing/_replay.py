"""Past decisions made again, from what the ledger kept of them and the snapshot that they were made with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partnerml.errors import InputError, InternalError
from partnerml.routing._batch import Chosen, Together, given, nobody_may
from partnerml.routing._decide import Case
from partnerml.routing._decision import BATCH, OVERRIDDEN, Decision
from partnerml.routing._left_over import SHARES, within
from partnerml.routing._looked import looked_at
from partnerml.routing._opened import groups_of
from partnerml.routing._shares import Limits

if TYPE_CHECKING:
    from partnerml.routing._ledger import State
    from partnerml.routing._opened import Opened
    from partnerml.routing._past import Past
    from partnerml.routing._situation import Situation

_logger = logging.getLogger("partnerml")
_WORDS = ("why", "facts", "objective")  # the last one is what words are told by; early versions did not write it


def replayed(archive: Past, decision_id: str) -> Decision:
    """Make a decision again.

    Parameters
    ----------
    archive : Past
    decision_id : str

    Raises
    ------
    InputError
        If it was a person's, or its snapshot or prices are not there.
    InternalError
        If it does not come out the same. Where only its words differ it is returned as it would be told now, with a
        warning.
    """
    state, past = archive.read(decision_id)
    if past.policy == OVERRIDDEN:
        raise InputError(
            f"decision {past.decision_id} was a person's: {past.why}. Only what a policy decided is replayed"
        )
    then, situation = archive.as_it_was(state, past)
    found = _again(archive, state, past, then, situation)
    if _differs(past, found):
        before = dataclasses.replace(then, way=dataclasses.replace(then.way, formerly=True))
        # who had the lead by the tables was not asked either
        former = _again(archive, state, past, before, dataclasses.replace(situation, holders=()))
        found = found if _differs(past, former) else former
    _check_same(past, found)
    return found


def _again(archive: Past, state: State, past: Decision, then: Opened, situation: Situation) -> Decision:
    """Make a decision again as it was made: in a batch, of what a batch left over, or of a lead that came alone."""
    if past.policy == BATCH:
        return _in_batch(past, Case(situation, then.way, state.number), archive)
    if SHARES in past.evidence:
        case, limits = Case(situation, then.way, state.number), Limits.of(past.evidence[SHARES])
        return within(case, limits, groups_of(then.snapshot), credit=state.credit).decision
    # what a rule or a score was at fault for waits, and only then
    decide = then.decide_next if past.waits else then.decide
    return decide(situation, number=state.number, credit=state.credit).decision


def _differs(past: Decision, found: Decision) -> bool:
    """Tell whether a decision comes out otherwise than it was, its words aside."""
    return _without_words(past.to_dict()) != _without_words(found.to_dict())


def _in_batch(past: Decision, case: Case, archive: Past) -> Decision:
    """Make a decision of a batch again: who might get the lead, at what worth and price; the auction chose of them."""
    situation, way = case.situation, case.way
    after, prices_id = int(past.evidence["after_entry"]), str(past.prices_id)
    together = Together(after, int(past.evidence["batch_of"]), archive.book.find(prices_id), prices_id)
    fold = archive.ledger.fold_until(after, moment=situation.moment)
    before: Situation = dataclasses.replace(situation, load=fold.load(way.capacity, situation.moment))
    looked = looked_at(before, way)
    row = -1 if past.partner_id is None else situation.snapshot.partners.row(past.partner_id)
    if row is None or (row >= 0 and row not in looked.rows):
        raise InternalError(f"decision {past.decision_id}: {past.partner_id} is not among its candidates any more")
    chosen = Chosen(row, looked, together)
    return nobody_may(case, chosen) if row < 0 else given(case, chosen).decision


def _check_same(past: Decision, found: Decision) -> None:
    """Refuse a decision that differs from what it was, and warn of one that is only told in other words."""
    was, now = past.to_dict(), found.to_dict()
    differ = [name for name in now if was[name] != now[name]]
    if not differ:
        return
    if not _differs(past, found):
        _logger.warning(
            "decision %s comes out the same, and is told in other words (%s): another version of partnerml made it",
            past.decision_id,
            ", ".join(differ),
        )
        return
    name = next(name for name in differ if name not in _WORDS)
    raise InternalError(
        f"decision {past.decision_id} does not come out as it was: {', '.join(differ)} differ ({name} was "
        f"{was[name]!r:.120}, and is {now[name]!r:.120}). Was it made by another version of partnerml, with rules of "
        "one's own that have changed since, or while a partner held a lead from before the ledger that has been "
        "forgotten?"
    )


def _without_words(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision without its sentences, which a later version may improve."""
    reasons = [{name: value for name, value in reason.items() if name != "text"} for reason in document["reasons"]]
    return {**{name: value for name, value in document.items() if name not in _WORDS}, "reasons": reasons}
