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
from partnerml.routing._offers import OUTCOMES

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
        Rows that are none, or that are of no lead that a partner has accepted; each with the reason.
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
) -> Told:
    """Write outcomes of leads, each in a transaction of its own; the same again changes nothing.

    Parameters
    ----------
    ledger : Ledger
    rows : iterable of mapping
        ``lead_id``, ``outcome``, ``closed_at`` and ``amount``; other columns are not read.
    now : moment
    by : str, optional
        Who tells.
    progress : Progress, optional
    """
    at, written, refused = moment(now, name="now"), 0, []
    for row in (progress or Progress.silent()).track(list(rows), "outcomes"):
        try:
            found = LeadOutcome.of(row)
            with ledger.turn(moment=at) as turn:
                turn.close(found.lead_id, found.outcome, closed_at=found.closed_at, amount=found.amount, by=by)
        except (BusyError, ConfigError, SourceError):
            # not this row's fault
            raise
        except InputError as error:
            refused.append((row, str(error)))
            continue
        written += 1
    return Told(written, tuple(refused))
