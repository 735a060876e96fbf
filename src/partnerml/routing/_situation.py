"""What a decision looks at: a lead at a moment, the snapshot, and what partners hold by then."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from partnerml.pairs import LEAD_COLUMNS, Leads
from partnerml.routing._index import Index, index_of
from partnerml.routing._lead import Lead
from partnerml.routing._territory import Held, held

if TYPE_CHECKING:
    from partnerml.config._routing import RoutingConfig
    from partnerml.pairs._arrays import Ints
    from partnerml.routing._snapshot import Snapshot


@dataclasses.dataclass(frozen=True)
class Load:
    """What partners have been given, by the rows of the snapshot.

    Attributes
    ----------
    day, week : array of int, shape (n,)
        Offers of the day and the ISO week that it is in the partner's time zone.
    open : array of int, shape (n,)
        Leads that the partner holds: live offers and accepted leads that are not closed.
    """

    day: Ints
    week: Ints
    open: Ints

    @classmethod
    def none(cls, n: int) -> Self:
        """Return the load of partners that have been given nothing."""
        return cls(*(np.zeros(n, dtype=np.int64) for _ in dataclasses.fields(cls)))


@dataclasses.dataclass(frozen=True)
class Match:
    """An earlier lead, which may be the same.

    Attributes
    ----------
    lead_id : str
    partner_id : str or None
        Who has it, or had it last.
    created_at : datetime
        When it came, zoned UTC.
    account_id, domain : str or None
    name : str or None
        Of the company, normalised (`partnerml.routing._names.normalised`).
    country : str or None
    outcome : str or None
        ``won``, ``lost`` or ``cancelled``, where the partner has closed it; of leads of the ledger.
    closed_at : datetime or None
    decided_at : datetime or None
        When it was decided first; of leads of the ledger.
    """

    lead_id: str
    partner_id: str | None
    created_at: dt.datetime
    account_id: str | None = None
    domain: str | None = None
    name: str | None = None
    country: str | None = None
    outcome: str | None = None
    closed_at: dt.datetime | None = None
    decided_at: dt.datetime | None = None

    @property
    def since(self) -> dt.datetime:
        """When it was decided first; of a lead that the ledger does not know, when it came.

        A backlog is routed long after it came, and of when it came only the lead itself tells, which may be wrong: one
        of the year 2062 would keep others of its company away until then.
        """
        return self.decided_at or self.created_at


class Beforehand(NamedTuple):
    """What was worked out for many leads together.

    Attributes
    ----------
    encoded : Leads
        The lead as `Situation.encoded` has it.
    territory : Held
        As `Situation.territory` has it.
    known : Leads
        All of those leads against the vocabularies of ``Snapshot.known``, which models read.
    place : int
        Which of them it is.
    """

    encoded: Leads
    territory: Held
    known: Leads
    place: int


@dataclasses.dataclass(frozen=True)
class Situation:
    """All that a decision about one lead depends on, apart from chance.

    Attributes
    ----------
    lead : Lead
    moment : datetime
        Of the decision, zoned UTC.
    snapshot : Snapshot
    load : Load
    had : frozenset of str
        Partners that have had the lead before.
    matches : sequence of Match
        Earlier leads of the ledger.
    config : RoutingConfig
    beforehand : Beforehand, optional
        What was worked out for many leads together.
    holders : tuple of int
        Rows of the partners that have the lead by the tables of the snapshot.
    """

    lead: Lead
    moment: dt.datetime
    snapshot: Snapshot
    load: Load
    had: frozenset[str]
    matches: Sequence[Match]
    config: RoutingConfig
    beforehand: Beforehand | None = None
    holders: tuple[int, ...] = ()

    @functools.cached_property
    def index(self) -> Index:
        """What partners have, by what it is."""
        return index_of(self.snapshot)

    @functools.cached_property
    def encoded(self) -> Leads:
        """The lead against the vocabularies of the snapshot's current values, which the rules read."""
        if self.beforehand is not None:
            return self.beforehand.encoded
        return self.index.one.encode(self.lead.values)

    @functools.cached_property
    def territory(self) -> Held:
        """Which territories hold the lead; more than one rule asks for it."""
        return held(self) if self.beforehand is None else self.beforehand.territory

    @functools.cached_property
    def now(self) -> np.datetime64:
        """The moment as it lies in arrays: naive UTC."""
        return naive(self.moment)


def naive(moment: dt.datetime) -> np.datetime64:
    """Return a moment as it lies in arrays: naive UTC."""
    return np.datetime64(moment.astimezone(dt.UTC).replace(tzinfo=None), "us")


def lead_columns(leads: Sequence[Lead], names: Iterable[str] = LEAD_COLUMNS) -> dict[str, list[object]]:
    """Return the columns of leads that pairs are made of, as far as any of the leads has them."""
    return {
        name: [lead.values.get(name) for lead in leads] for name in names if any(name in lead.values for lead in leads)
    }
