"""Offers of leads to partners: what may become of one, and what each step takes of a partner's capacity or gives back.

::

    offered -> accepted | declined | expired | withdrawn
    accepted -> withdrawn                     (another partner is named instead)

An offer takes one unit of the day, one of the week and one of the leads that a partner may hold open. When it is
declined, expires or is withdrawn, the open-lead unit and that of the week from which it was taken come back; the day's
never does, so that a partner who declines cannot be asked without end on one day. Closing gives back the open-lead
unit. A lead that a partner holds without having been asked (its registered deal, its account, or by override) is
accepted from the start: it takes an open-lead unit alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import numbers
from typing import NamedTuple

from partnerml.errors import DataError, InputError
from partnerml.routing._lead_values import shown

OFFERED, ACCEPTED, DECLINED, EXPIRED, WITHDRAWN = "offered", "accepted", "declined", "expired", "withdrawn"
STATES = (OFFERED, ACCEPTED, DECLINED, EXPIRED, WITHDRAWN)
# offers that hold an open-lead unit, until the lead is closed
HOLDING = (OFFERED, ACCEPTED)
ANSWERS = (ACCEPTED, DECLINED)
OUTCOMES = ("won", "lost", "cancelled")
# how a partner came by a lead
ASKED, REGISTERED_DEAL, EXISTING_OWNER, OVERRIDE = "offer", "registered_deal", "existing_owner", "override"
WAYS = (ASKED, REGISTERED_DEAL, EXISTING_OWNER, OVERRIDE)

_ONE_DAY = dt.timedelta(days=1)
# what is written of an offer besides its states
HELD, CLOSED = "held", "closed"
_MOVES = {
    OFFERED: frozenset({ACCEPTED, DECLINED, EXPIRED, WITHDRAWN}),
    ACCEPTED: frozenset({WITHDRAWN}),
}


class Limits(NamedTuple):
    """How many units a partner has; None = as many as it likes."""

    day: int | None = None
    week: int | None = None
    open: int | None = None


class Units(NamedTuple):
    """Units that a step takes (positive) or gives back (negative)."""

    day: int
    week: int
    open: int


@dataclasses.dataclass(frozen=True)
class NewOffer:
    """An offer about to be made.

    Attributes
    ----------
    offer_id, partner_id : str
    deadline : datetime
        By when the partner is to answer, UTC.
    day, week : int
        The local day (20261122) and ISO week (202647) of the partner, from which units are taken.
    limits : Limits
        Those in force at the moment; the database refuses what is beyond them.
    """

    offer_id: str
    partner_id: str
    deadline: dt.datetime
    day: int
    week: int
    limits: Limits

    def beside(self, held: int) -> NewOffer:
        """Return the offer with the limit of open leads that remains beside some that the ledger does not count."""
        if not held or self.limits.open is None:
            return self
        return dataclasses.replace(self, limits=self.limits._replace(open=self.limits.open - held))


@dataclasses.dataclass(frozen=True)
class Held:
    """A lead that a partner gets without being asked.

    Attributes
    ----------
    offer_id, partner_id : str
    way : str
        ``registered_deal``, ``existing_owner`` or ``override``.
    day, week : int
        The local day and ISO week of the partner, for the record: no unit of them is taken.
    """

    offer_id: str
    partner_id: str
    way: str
    day: int
    week: int


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a partner was offered, or holds.

    Attributes
    ----------
    offer_id, lead_id, partner_id : str
    way : str
        ``offer``, or how the partner came by the lead without being asked.
    status : str
        ``offered``, ``accepted``, ``declined``, ``expired`` or ``withdrawn``.
    offered_at : datetime
        UTC, as are the others.
    deadline, responded_at : datetime or None
    outcome : str or None
        ``won``, ``lost`` or ``cancelled``, once the lead is closed.
    closed_at : datetime or None
    amount : float or None
    number : int
        Which of the lead's decisions made it, from 0.
    """

    offer_id: str
    lead_id: str
    partner_id: str
    way: str
    status: str
    offered_at: dt.datetime
    deadline: dt.datetime | None
    responded_at: dt.datetime | None
    outcome: str | None
    closed_at: dt.datetime | None
    amount: float | None
    number: int

    @property
    def live(self) -> bool:
        """Whether the partner has yet to answer."""
        return self.status == OFFERED

    @property
    def holds(self) -> bool:
        """Whether it takes one of the partner's open-lead units."""
        return self.status in HOLDING and self.closed_at is None

    def overdue(self, moment: dt.datetime) -> bool:
        """Tell whether the partner has let the deadline pass: an answer is good until just before it."""
        return self.live and self.deadline is not None and moment >= self.deadline

    @property
    def told(self) -> str:
        """The offer in words."""
        words = f"offer {self.offer_id} of lead {self.lead_id} to partner {self.partner_id} is {self.status}"
        if self.responded_at is not None:
            words += f" since {self.responded_at.isoformat()}"
        return words + (f" and the lead {self.outcome}" if self.outcome else "")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of an answer to an offer.

    Attributes
    ----------
    offer : Offer
        As it is now.
    late : bool
        The deadline had passed: the offer has expired, and the answer does not count.
    repeated : bool
        The same had been answered before: nothing has changed.
    """

    offer: Offer
    late: bool = False
    repeated: bool = False

    def refuse_late(self) -> None:
        """Raise what the caller is told of an answer that came too late; to be asked after the turn has ended.

        Raises
        ------
        InputError
            If it did.
        """
        if self.late and self.offer.deadline is not None:
            raise InputError(
                f"offer {self.offer.offer_id} of lead {self.offer.lead_id} could be answered until "
                f"{self.offer.deadline.isoformat()} and has expired; the lead goes on to the next partner"
            )


def units_of(step: str, way: str) -> Units:
    """Return what a step takes from the partner's capacity.

    Parameters
    ----------
    step : str
        The new status, ``held`` or ``closed``.
    way : str
        How the partner came by the lead: what took no unit of a week gives none back.
    """
    if step == OFFERED:
        return Units(1, 1, 1)
    if step == HELD:
        return Units(0, 0, 1)
    if step == CLOSED:
        return Units(0, 0, -1)
    if step == ACCEPTED:
        return Units(0, 0, 0)
    return Units(0, -1 if way == ASKED else 0, -1)


def check_move(offer: Offer, step: str) -> None:
    """Refuse a step that an offer cannot take.

    Raises
    ------
    InputError
        That says what has become of the offer.
    """
    if step not in _MOVES.get(offer.status, ()) or offer.closed_at is not None:
        raise InputError(f"{offer.told}; it cannot be {step}; only a live offer can be answered")


def closing(offer: Offer, closed_at: dt.datetime | None, *, moment: dt.datetime) -> dt.datetime:
    """Return when a lead was closed; on the day on which it was given, not before it was.

    Parameters
    ----------
    offer : Offer
        By which the partner got the lead.
    closed_at : datetime or None
        None = now.
    moment : datetime
        Now.

    Raises
    ------
    DataError
        If it lies in the future, or before the day on which the lead was given.
    """
    if closed_at is None:
        return max(moment, offer.offered_at)
    if closed_at > moment + _ONE_DAY:
        raise DataError(
            f"closed_at of lead {offer.lead_id!r} is {closed_at.isoformat()}, later than now ({moment.isoformat()}); "
            "an outcome is what has happened"
        )
    if closed_at < offer.offered_at - _ONE_DAY:
        raise DataError(
            f"closed_at of lead {offer.lead_id!r} is {closed_at.isoformat()}, before partner {offer.partner_id} "
            f"got it ({offer.offered_at.isoformat()})"
        )
    return max(closed_at, offer.offered_at)


def checked_amount(value: object) -> float | None:
    """Return the amount of a deal, which may be unknown.

    Raises
    ------
    DataError
        If it is no number, not finite or negative.
    """
    if value is None:
        return None
    found = _as_float(value)
    if not math.isfinite(found) or found < 0:
        raise DataError(f"amount must be a number that is not negative; got {shown(value)}")
    return found


def _as_float(value: object) -> float:
    """Return a number, numpy's too, as Python's; NaN where it is none or too large."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
