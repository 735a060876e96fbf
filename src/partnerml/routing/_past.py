"""Past decisions: what they were made of, read from the ledger, and the snapshot and prices of then."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from partnerml.errors import InputError, SourceError
from partnerml.routing._decision import BATCH, PRICES, Decision
from partnerml.routing._lead import Lead
from partnerml.routing._opened import Opened
from partnerml.routing._snapshot import Snapshot

if TYPE_CHECKING:
    from partnerml.routing._in_use import InUse
    from partnerml.routing._ledger import Ledger, State
    from partnerml.routing._situation import Situation


class Past:
    """Finds past decisions again as they were made.

    Parameters
    ----------
    ledger : Ledger
    in_use : InUse
        Its snapshot may be that of then; the others lie beside it, and so do prices.

    Attributes
    ----------
    ledger : Ledger
    book : PriceBook
    """

    def __init__(self, ledger: Ledger, in_use: InUse) -> None:
        self.ledger, self.book = ledger, in_use.book
        self._opened, self._source = in_use.opened, in_use.source

    def read(self, decision_id: str) -> tuple[State, Decision]:
        """Return what a decision was made of, and the decision.

        Raises
        ------
        InputError
            If there is no such decision, or its lead has been forgotten.
        """
        state = self.ledger.state_at(decision_id)
        return state, Decision.from_json(state.text)

    def as_it_was(self, state: State, past: Decision) -> tuple[Opened, Situation]:
        """Return what a decision was made with, and the lead as it stood then.

        Raises
        ------
        InputError
            If the snapshot or the prices of then are not there.
        """
        then = self._then(past)
        lead, load = Lead.of_payload(state.payload), state.load(then.way.capacity)
        return then, then.situation(lead, state.moment, load, had=state.had, matches=state.matches)

    def _then(self, past: Decision) -> Opened:
        """Return the snapshot that a decision was made with, at the prices of then."""
        then = self._opened if self._opened.way.snapshot_id == past.snapshot_id else self._opened_again(past)
        # a batch has prices of its own, which come off later
        prices_id = None if past.policy == BATCH else past.prices_id
        told = past.evidence.get(PRICES)
        if (prices_id, told) != (then.way.prices_id, then.way.prices_told):
            then = then.as_published() if prices_id is None else then.priced(self.book.find(prices_id), prices_id, told)
        # whether reasons were told is seen from the decision itself
        return dataclasses.replace(then, way=dataclasses.replace(then.way, reasons=bool(past.reasons)))

    def _opened_again(self, past: Decision) -> Opened:
        """Open the snapshot that a decision was made with."""
        # both the file `current` and a snapshot's folder lie beside the others
        folder = None if self._source is None else self._source.parent / past.snapshot_id
        if folder is None or not folder.is_dir():
            where = "no folder of snapshots is known" if folder is None else f"{folder} is not there"
            raise InputError(
                f"decision {past.decision_id} was made with snapshot {past.snapshot_id}, and {where}; restore it to "
                "replay"
            )
        try:
            return Opened.of(Snapshot.open(folder))
        except SourceError as error:
            raise InputError(f"decision {past.decision_id} cannot be made again: {error}") from error
