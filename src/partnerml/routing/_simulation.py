"""A past day by other rules: made anew by those that were published and by those that are tried, and compared.

What happened cannot be set against what is made up: answers, and what followed them, are only known of those who were
asked. So both sides are made up, in the same way, and what differs between them is due to the rules alone.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from partnerml.errors import InputError
from partnerml.routing._decision import BATCH, Decision
from partnerml.routing._lead import Lead
from partnerml.routing._offers import CLOSED
from partnerml.routing._rehearsal import Rehearsal, matches_then

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.progress import Progress
    from partnerml.routing._capacity import Entry
    from partnerml.routing._ledger import Ledger, State
    from partnerml.routing._opened import Opened
    from partnerml.routing._queries import Then

_logger = logging.getLogger("partnerml")
_SIDES = ("was", "published", "would")
_TOLD = ("status", "partner_id", "p_win", "why")


def simulated(
    ledger: Ledger,
    published: Opened,
    tried: Opened,
    *,
    start: dt.datetime,
    end: dt.datetime,
    progress: Progress,
) -> pd.DataFrame:
    """Return what would have been decided in ``[start, end)`` by two sets of rules, beside what was.

    Parameters
    ----------
    ledger : Ledger
    published, tried : Opened
        The snapshot by its own rules, and by others; where they are one object, it is asked once.
    start, end : datetime
    progress : Progress

    Returns
    -------
    DataFrame
        A row a lead: ``lead_id``, ``changed`` (another partner or status by one than by the other), and status,
        partner, chance to win and sentence as ``was_…``, ``published_…`` and ``would_…``. ``attrs`` counts what came
        in a batch (``of_batch``), and what goes otherwise by the published rules than it did (``differs``).
    """
    day = _Day.of(ledger, start, end)
    again = day.decided_by(published, ledger, progress=progress)
    would = again if tried is published else day.decided_by(tried, ledger, progress=progress)
    was = [decision for decision, _, _ in day.leads]
    found = _beside(was, again, would)
    batched = sum(decision.policy == BATCH for decision in was)
    differs = sum(_differ(*pair) for pair in zip(was, again, strict=True))
    found.attrs.update(of_batch=batched, differs=differs)
    _tell(was, batched=batched, differs=differs)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Day:
    """What is known of the leads of some days.

    Attributes
    ----------
    leads : sequence of (Decision, Lead, Then)
        What was first decided of each, in order, and when.
    state : State
        How things stood at the first of them.
    later : frozenset of str
        These leads, and those that came later.
    given : frozenset of str
        Those of them that nobody had by the tables: what a snapshot of a later day says of them came after.
    meanwhile : sequence of (Entry, str)
        Units that were taken and given back from the first decision to the last, with the steps.
    """

    leads: Sequence[tuple[Decision, Lead, Then]]
    state: State
    later: frozenset[str]
    given: frozenset[str]
    meanwhile: Sequence[tuple[Entry, str]]

    @classmethod
    def of(cls, ledger: Ledger, start: dt.datetime, end: dt.datetime) -> Self:
        """Read it from a ledger.

        Raises
        ------
        InputError
            If there were no leads.
        """
        rows = ledger.decided(start, end)
        if not rows:
            raise InputError(
                f"no lead was decided from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: there is nothing to "
                "simulate"
            )
        leads = [(Decision.from_json(text), Lead.of_payload(payload), then) for text, payload, then in rows]
        # those of the period are decided anew, and of later ones nobody knew, whenever they came
        later, state = ledger.decided_since(start), ledger.state_at(leads[0][0].decision_id)
        meanwhile = ledger.entries_between(leads[0][2].entry, leads[-1][2].entry)
        return cls(leads, state, later, later - ledger.stayed_since(start), meanwhile)

    def decided_by(self, opened: Opened, ledger: Ledger, *, progress: Progress) -> list[Decision]:
        """Return what would have been decided by some rules."""
        opened = opened.without_held(self.given)
        rehearsal = Rehearsal(opened, copy.deepcopy(self.state.fold), dict(self.state.credit))
        meanwhile, found = collections.deque(self.meanwhile), []
        for was, lead, then in progress.track(self.leads, "leads", total=len(self.leads)):
            while meanwhile and meanwhile[0][0].seq <= then.entry:
                self._follow(rehearsal, *meanwhile.popleft())
            behind = matches_then(ledger, opened, lead, moment=was.decided_at, then=then)
            known = [match for match in behind if match.lead_id not in self.later]
            found.append(rehearsal.route(lead, was.decided_at, matches=known))
        return found

    def _follow(self, rehearsal: Rehearsal, entry: Entry, step: str) -> None:
        """Let happen what did: to leads from before all of it, to those of the day that they were closed."""
        if entry.lead_id not in self.own:
            rehearsal.count([entry])
        elif step == CLOSED:
            rehearsal.close(entry.lead_id)

    @functools.cached_property
    def own(self) -> frozenset[str]:
        """The ids of the leads."""
        return frozenset(lead.lead_id for _, lead, _ in self.leads)


def _tell(was: Sequence[Decision], *, batched: int, differs: int) -> None:
    """Warn of what was and is not made up again: nobody is to take it for an effect of rules."""
    n = f"{len(was):,}"
    if batched:
        _logger.warning(
            "%s of %s decisions were of a batch, which gave out many leads at once: here they come one by one, by the "
            "published rules too",
            f"{batched:,}",
            n,
        )
    priced = sum(decision.prices_id is not None and decision.policy != BATCH for decision in was)
    if priced:
        _logger.warning(
            "%s of %s decisions were made at prices that had been found then (partnerml reprice): here there are none, "
            "by the published rules neither",
            f"{priced:,}",
            n,
        )
    if differs:
        _logger.warning(
            "%s of %s leads go otherwise by the published rules, made anew, than they did: refusals and what followed "
            "them, overrides, batches, prices and the snapshot of the day are not there again. None of that counts as "
            "a change: changes are between the published rules and those tried, both made anew",
            f"{differs:,}",
            n,
        )


def _differ(one: Decision, other: Decision) -> bool:
    return (one.status, one.partner_id) != (other.status, other.partner_id)


def _beside(*sides: Sequence[Decision]) -> pd.DataFrame:
    """Return what was, what is made anew, and what is tried, a row a lead."""
    import pandas as pd

    rows = []
    for each in zip(*sides, strict=True):
        row: dict[str, Any] = {"lead_id": each[0].lead_id, "changed": _differ(*each[1:])}
        for side, decision in zip(_SIDES, each, strict=True):
            row |= {f"{side}_{name}": getattr(decision, name) for name in _TOLD}
        rows.append(row)
    return pd.DataFrame(rows).astype({"changed": "bool"} | {f"{side}_p_win": "float64" for side in _SIDES})
