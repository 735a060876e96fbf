"""What became of leads, as a file tells it: rows that are read strictly and written into the ledger one by one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from partnerml import schema
from partnerml.errors import BusyError, ConfigError, DataError, InputError, SourceError
from partnerml.moments import Moment, moment
from partnerml.progress import Progress
from partnerml.routing._lead_values import RefusedError, shown, value_of
from partnerml.routing._offers import ACCEPTED, OUTCOMES, Offer, closing

if TYPE_CHECKING:
    from partnerml.routing._ledger import Ledger

_COLUMNS = ("lead_id", "outcome", "closed_at", "amount")


@dataclasses.dataclass(frozen=True)
class LeadOutcome:
    """What became of a lead.

    Attributes
    ----------
    lead_id, outcome : str
        ``won``, ``lost`` or ``cancelled``.
    closed_at : datetime or None
    amount : float or None
    """

    lead_id: str
    outcome: str
    closed_at: dt.datetime | None = None
    amount: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read a row.

        Raises
        ------
        DataError
            That names the lead, the column, what came and what is allowed.
        """
        try:
            found = {name: value_of(name, row.get(name), schema.ASSIGNMENTS) for name in _COLUMNS}
        except RefusedError as error:
            raise DataError(f"outcome of lead {shown(row.get('lead_id'))}: {error}") from error
        lead_id, outcome = found["lead_id"], found["outcome"]
        if lead_id is None:
            raise DataError("lead_id is missing; say whose outcome it is")
        if outcome is None or outcome.lower() not in OUTCOMES:
            raise DataError(
                f"outcome of lead {lead_id!r}: it must be one of {', '.join(OUTCOMES)}, got {shown(outcome)}"
            )
        return cls(lead_id, outcome.lower(), found["closed_at"], found["amount"])


@dataclasses.dataclass(frozen=True)
class Told:
    """What came of a file of outcomes.

    Attributes
    ----------
    written : int
        How many outcomes the ledger has now, those that it had before included.
    refused : tuple of (mapping, str)
        Rows that are none, that are of no lead that a partner has accepted, or that cannot be; each with the reason.
    """

    written: int
    refused: tuple[tuple[Mapping[str, Any], str], ...]


def write_outcomes(
    ledger: Ledger,
    rows: Iterable[Mapping[str, Any]],
    *,
    now: Moment,
    by: str | None = None,
    progress: Progress | None = None,
    most: float = 1.0,
) -> Told:
    """Write outcomes of leads, each in a transaction of its own; the same again changes nothing.

    Which rows are none, or cannot be true of the lead, is found first: of a file with too many of them nothing is
    written.

    Parameters
    ----------
    ledger : Ledger
    rows : iterable of mapping
        ``lead_id``, ``outcome``, ``closed_at`` and ``amount``; other columns are not read.
    now : moment
    by : str, optional
        Who tells.
    progress : Progress, optional
    most : float
        Which share of the rows may be refused.
    """
    every, at = list(rows), moment(now, name="now")
    accepted = {offer.lead_id: offer for offer in ledger.offers(status=ACCEPTED)}
    # places of rows, so that what is refused stays in the order of the file
    refused: dict[int, str] = {}
    later: list[tuple[int, LeadOutcome]] = []
    for place, row in enumerate(every):
        try:
            found = LeadOutcome.of(row)
        except DataError as error:
            refused[place] = str(error)
            continue
        offer = accepted.get(found.lead_id)
        told = _closed(ledger, found, at, by) if offer is None else _fault(offer, found, at)
        if told is not None:
            refused[place] = told
        elif offer is not None:
            later.append((place, found))
    written = len(every) - len(refused) - len(later)
    if len(refused) <= most * len(every):
        for place, found in (progress or Progress.silent()).track(later, "outcomes"):
            told = _closed(ledger, found, at, by)
            written += told is None
            refused |= {} if told is None else {place: told}
    return Told(written, tuple((every[place], refused[place]) for place in sorted(refused)))


def _fault(offer: Offer, found: LeadOutcome, at: dt.datetime) -> str | None:
    """Return why an outcome cannot be that of an offer that a partner has accepted; None if it can."""
    try:
        closing(offer, found.closed_at, moment=at)
    except DataError as error:
        return str(error)
    return None


def _closed(ledger: Ledger, found: LeadOutcome, at: dt.datetime, by: str | None) -> str | None:
    """Write an outcome; return why it cannot be, where that is the row's fault."""
    try:
        with ledger.turn(moment=at) as turn:
            turn.close(found.lead_id, found.outcome, closed_at=found.closed_at, amount=found.amount, by=by)
    except (BusyError, ConfigError, SourceError):
        raise
    except InputError as error:
        return str(error)
    return None
