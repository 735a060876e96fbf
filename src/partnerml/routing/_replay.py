"""Past decisions made again, from what the ledger kept of them and the snapshot that they were made with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.errors import InputError, InternalError, SourceError
from partnerml.routing._batch import Chosen, Together, given, nobody_may
from partnerml.routing._decide import Case
from partnerml.routing._decision import BATCH, OVERRIDDEN, Decision
from partnerml.routing._lead import Lead
from partnerml.routing._left_over import SHARES, within
from partnerml.routing._looked import looked_at
from partnerml.routing._opened import Opened, groups_of
from partnerml.routing._shares import Limits
from partnerml.routing._snapshot import Snapshot

if TYPE_CHECKING:
    from partnerml.routing._ledger import Ledger, State
    from partnerml.routing._pricing import PriceBook
    from partnerml.routing._situation import Situation

_logger = logging.getLogger("partnerml")
_WORDS = ("why", "facts")


def replayed(ledger: Ledger, decision_id: str, opened: Opened, *, source: Path | None, book: PriceBook) -> Decision:
    """Make a decision again.

    Parameters
    ----------
    ledger : Ledger
    decision_id : str
    opened : Opened
        The snapshot in use, which may be the one.
    source : Path or None
        Where snapshots lie.
    book : PriceBook

    Raises
    ------
    InputError
        If it was a person's, or its snapshot or prices are not there.
    InternalError
        If it does not come out the same. Where only its words differ it is returned as it would be told now, with a
        warning.
    """
    state = ledger.state_at(decision_id)
    past = Decision.from_json(state.text)
    if past.policy == OVERRIDDEN:
        raise InputError(
            f"decision {past.decision_id} was a person's: {past.why}. Only what a policy decided is replayed"
        )
    then, situation = as_it_was(state, past, opened, source=source, book=book)
    if past.policy == BATCH:
        found = _in_batch(past, Case(situation, then.way, state.number), ledger, book)
    elif SHARES in past.evidence:
        case, limits = Case(situation, then.way, state.number), Limits.of(past.evidence[SHARES])
        found = within(case, limits, groups_of(then.snapshot), credit=state.credit).decision
    else:
        # what a rule or a score was at fault for waits, and only then
        decide = then.decide_next if past.waits else then.decide
        found = decide(situation, number=state.number, credit=state.credit).decision
    _check_same(past, found)
    return found


def as_it_was(
    state: State, past: Decision, opened: Opened, *, source: Path | None, book: PriceBook
) -> tuple[Opened, Situation]:
    """Return what a decision was made with, and the lead as it stood then; see `replayed`."""
    then = _opened_then(past, opened, source, book)
    lead, load = Lead.of_payload(state.payload), state.load(then.way.capacity)
    return then, then.situation(lead, state.moment, load, had=state.had, matches=state.matches)


def _opened_then(past: Decision, opened: Opened, source: Path | None, book: PriceBook) -> Opened:
    """Return the snapshot that a decision was made with, at the prices of then."""
    then = opened if opened.way.snapshot_id == past.snapshot_id else _opened(past, source)
    # a batch has prices of its own, which come off later
    prices_id = None if past.policy == BATCH else past.prices_id
    if prices_id != then.way.prices_id:
        then = then.as_published() if prices_id is None else then.priced(book.find(prices_id), prices_id)
    # whether reasons were told is seen from the decision itself
    return dataclasses.replace(then, way=dataclasses.replace(then.way, reasons=bool(past.reasons)))


def _in_batch(past: Decision, case: Case, ledger: Ledger, book: PriceBook) -> Decision:
    """Make a decision of a batch again: who might get the lead, at what worth and price; the auction chose of them."""
    situation, way = case.situation, case.way
    after, prices_id = int(past.evidence["after_entry"]), str(past.prices_id)
    together = Together(after, int(past.evidence["batch_of"]), book.find(prices_id), prices_id)
    fold = ledger.fold_until(after, moment=situation.moment)
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
    if _without_words(was) == _without_words(now):
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


def _opened(past: Decision, source: Path | None) -> Opened:
    """Open the snapshot that a decision was made with."""
    # both the file `current` and a snapshot's folder lie beside the others
    folder = None if source is None else source.parent / past.snapshot_id
    if folder is None or not folder.is_dir():
        where = "no folder of snapshots is known" if folder is None else f"{folder} is not there"
        raise InputError(
            f"decision {past.decision_id} was made with snapshot {past.snapshot_id}, and {where}; restore it to replay"
        )
    try:
        return Opened.of(Snapshot.open(folder))
    except SourceError as error:
        raise InputError(f"decision {past.decision_id} cannot be made again: {error}") from error
