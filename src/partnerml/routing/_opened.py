"""A snapshot that a router works with: its rules, limits and way of deciding, made once and swapped as a whole."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from partnerml.errors import ConfigError, DataError, InputError, ModelError, PartnermlError
from partnerml.routing._capacity import PartnerCapacity
from partnerml.routing._currency import in_one_currency, no_rate
from partnerml.routing._decide import Case, Outcome, Way, decide
from partnerml.routing._decision import ASSIGNED, FALLBACK, HELD, WAITING
from partnerml.routing._hours import check_hours, deadline, iso_week, local_day, zone
from partnerml.routing._index import index_of
from partnerml.routing._lead import Lead
from partnerml.routing._offers import Held, NewOffer
from partnerml.routing._precedence import keys_of
from partnerml.routing._rules import rules_of
from partnerml.routing._shares import Group
from partnerml.routing._situation import Beforehand, Load, Match, Situation, naive
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._vectors import Vector

if TYPE_CHECKING:
    from partnerml.config import RoutingConfig
    from partnerml.pairs._arrays import Floats
    from partnerml.routing._pricing import PriceBook, Prices
    from partnerml.routing._turn import Turn

_logger = logging.getLogger("partnerml")


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A snapshot, ready to decide by.

    Attributes
    ----------
    snapshot : Snapshot
    way : Way
    published : Snapshot or None
        The same with the prices that it was published with, where those in use are others.
    """

    snapshot: Snapshot
    way: Way
    published: Snapshot | None = None

    @classmethod
    def of(cls, snapshot: Snapshot, *, reasons: bool = True) -> Self:
        """Check what the snapshot is configured with, and prepare what every decision needs.

        Raises
        ------
        ConfigError
            If its configuration names rules, hours or columns that there are not.
        DataError
            If a partner has a time zone that there is not, or a weight below 0.
        """
        config = snapshot.config
        check_config(config)
        _check_weights(snapshot)
        _check_zones(snapshot)
        capacity = PartnerCapacity.of(snapshot.partners, time_zone=config.hours.time_zone, held=snapshot.held)
        seed = int(snapshot.versions.get("seed", 0))
        return cls(snapshot, Way(rules_of(config), capacity, snapshot.id, seed=seed, reasons=reasons))

    @property
    def config(self) -> RoutingConfig:
        """The configuration that the snapshot was published with."""
        return self.snapshot.config

    def priced(self, prices: Floats, prices_id: str, told: Mapping[str, Any] | None) -> Self:
        """Return the same with other prices, by the rows of partners, and when these were found."""
        way = dataclasses.replace(self.way, prices_id=prices_id, prices_told=told)
        first = self.published or self.snapshot
        return dataclasses.replace(self, snapshot=first.with_prices(prices), way=way, published=first)

    def priced_by(self, prices: Prices, book: PriceBook) -> Self:
        """Return the same with prices by the ids of partners, kept so that decisions can be made again."""
        found, published = prices.of(self.snapshot.partners.partner_id), (self.published or self.snapshot).prices
        if np.array_equal(found, published):
            return self if self.way.prices_id is None else self.as_published()
        prices_id = book.keep(found)
        told = prices.evidence()
        same = (prices_id, told) == (self.way.prices_id, self.way.prices_told)
        return self if same else self.priced(found, prices_id, told)

    def as_published(self) -> Self:
        """Return the same with the prices that the snapshot was published with."""
        way = dataclasses.replace(self.way, prices_id=None, prices_told=None)
        return dataclasses.replace(self, snapshot=self.published or self.snapshot, way=way, published=None)

    def without_reasons(self) -> Self:
        """Return the same, which does not tell what moved the score of whom it chooses."""
        return dataclasses.replace(self, way=dataclasses.replace(self.way, reasons=False))

    def without_held(self, leads: Collection[str]) -> Self:
        """Return the same, by which no partner has some leads from before the ledger."""
        capacity = self.way.capacity
        held = {lead_id: rows for lead_id, rows in capacity.held.items() if lead_id not in leads}
        way = dataclasses.replace(self.way, capacity=dataclasses.replace(capacity, held=held))
        return dataclasses.replace(self, way=way)

    def row(self, partner_id: str) -> int:
        """Return the row of a partner.

        Raises
        ------
        InputError
            If the snapshot has no such partner.
        """
        row = self.snapshot.partners.row(partner_id)
        if row is None:
            raise InputError(f"there is no partner {partner_id!r} in snapshot {self.way.snapshot_id}; check the id")
        return row

    def is_member(self, partner_id: str, moment: dt.datetime) -> bool:
        """Tell whether a partner has joined and not left at a moment."""
        return bool(index_of(self.snapshot).membership.hold(naive(moment), self.row(partner_id)))

    def check_age(self, moment: dt.datetime) -> None:
        """Refuse to decide by what is too old.

        Raises
        ------
        ModelError
            If it is older than ``routing.max_snapshot_age``.
        """
        told = self.too_old(moment)
        if told is not None:
            raise ModelError(f"{told}. Publish a new one (partnerml publish), or allow more")

    def too_old(self, moment: dt.datetime) -> str | None:
        """Return how the snapshot is older than ``routing.max_snapshot_age``, in words; None if it is not."""
        age, most = moment - self.snapshot.as_of, self.config.max_snapshot_age
        if age <= most:
            return None
        hours, allowed = (span.total_seconds() / 3600 for span in (age, most))
        return (
            f"snapshot {self.way.snapshot_id} is as of {self.snapshot.as_of:%Y-%m-%d}, {hours:.0f} hours "
            f"before {moment:%Y-%m-%d %H:%M} UTC; routing.max_snapshot_age allows {allowed:.0f}"
        )

    def situation(
        self,
        lead: Lead,
        moment: dt.datetime,
        load: Load,
        *,
        had: frozenset[str] = frozenset(),
        matches: Sequence[Match] = (),
        beforehand: Beforehand | None = None,
    ) -> Situation:
        """Return what a decision about a lead looks at."""
        lead = in_one_currency(lead, self.snapshot.currency)
        holders = self.way.capacity.held.get(lead.lead_id, ())
        return Situation(lead, moment, self.snapshot, load, had, matches, self.config, beforehand, holders)

    def situation_in(self, turn: Turn, lead: Lead, *, load: Load | None = None) -> Situation:
        """Return the same, as the ledger has it in this turn; `load` stands for the load where nobody asks for it.

        Raises
        ------
        DataError
            If the lead has no decision yet, and its amount is in a currency without a rate. Of one that has, which goes
            on by a later snapshot, the amount is unknown then.
        """
        unrated = no_rate(lead, self.snapshot.currency)
        if unrated is not None and turn.number == 0:
            raise DataError(unrated)
        found: Sequence[Match] = ()
        # a lead that has been with a partner is no duplicate: it was not when it came
        if self.config.duplicates.enabled and not turn.had:
            found = turn.matches(
                keys_of(lead, self.snapshot),
                since=turn.moment - self.config.duplicates.window,
                name_threshold=self.config.duplicates.name_threshold,
            )
        load = turn.load(self.way.capacity) if load is None else load
        return self.situation(lead, turn.moment, load, had=turn.had, matches=found)

    def credit_in(self, turn: Turn) -> Mapping[str, float]:
        """Return what round robin owes partners; nothing where it decides no leads."""
        return turn.credit() if self.config.takes_turns else {}

    def decide(self, situation: Situation, *, number: int, credit: Mapping[str, float]) -> Outcome:
        """Decide; where the snapshot is too old by now, nobody is chosen, and the lead waits for the next one."""
        told = self.too_old(situation.moment)
        if told is not None:
            why = f"nobody is chosen by what is too old: {told}. It goes on once a new one is there"
            return self._waits(situation, number, why)
        return decide(situation, way=self.way, number=number, credit=credit)

    def decide_next(self, situation: Situation, *, number: int, credit: Mapping[str, float]) -> Outcome:
        """Decide after an answer or a deadline, which is kept: where a rule or a score is at fault, the lead waits.

        So it does where the code of a rule or a score of one's own breaks; where, tells the log.
        """
        try:
            return self.decide(situation, number=number, credit=credit)
        except (ConfigError, DataError, ModelError) as error:
            wrong = str(error)
        except PartnermlError:
            raise
        except Exception as error:
            _logger.exception("lead %s waits: a rule or its score broke", situation.lead.lead_id)
            wrong = f"a rule or its score broke with {type(error).__name__}: {error}"
        return self._waits(situation, number, f"nobody can be chosen: {wrong}. It goes on once that is mended")

    def _waits(self, situation: Situation, number: int, why: str) -> Outcome:
        return Outcome(Case(situation, self.way, number).decision(FALLBACK, why, evidence=dict(WAITING)))

    def written(self, outcome: Outcome, *, moment: dt.datetime) -> dict[str, Any]:
        """Return what `Turn.record` is told of a decision: the offer or lead given with it, and who was considered."""
        decision, considered = outcome.decision, outcome.considered
        told: dict[str, Any] = {"document": decision.to_dict(), "credit": outcome.credit}
        if decision.status == ASSIGNED:
            told["offer"] = self._offer(str(decision.partner_id), str(decision.offer_id), moment)
        elif decision.status in HELD:
            told["held"] = self.held(str(decision.partner_id), str(decision.offer_id), decision.status, moment)
        if considered is not None:
            told["vector"] = Vector(
                partner_id=self.snapshot.partners.partner_id[considered.rows].tolist(),
                probability=considered.probability,
                p_win=considered.p,
                utility=considered.utility,
                free=considered.free,
            )
        return told

    def _offer(self, partner_id: str, offer_id: str, moment: dt.datetime) -> NewOffer:
        row, zone, country, region = self._place(partner_id)
        hours, within = self.config.hours, self.config.offers.answer_within
        until = deadline(hours, zone, country, moment, within, region=region)
        return self.way.capacity.offer(row, offer_id=offer_id, moment=moment, deadline=until)

    def held(self, partner_id: str, offer_id: str, way: str, moment: dt.datetime) -> Held:
        """Return a lead that a partner gets without being asked."""
        zone = self.config.hours.time_zone
        if self.snapshot.partners.row(partner_id) is not None:
            zone = self._place(partner_id)[1]
        return Held(offer_id, partner_id, way, local_day(zone, moment), iso_week(zone, moment))

    def _place(self, partner_id: str) -> tuple[int, str, str | None, str | None]:
        """Return the row of a partner, its time zone, country and region."""
        row = self.snapshot.partners.index[partner_id]
        partners, capacity = self.snapshot.partners, self.way.capacity
        return row, capacity.zones[capacity.zone[row]], partners.country[row], partners.region[row]


def check_config(config: RoutingConfig) -> None:
    """Refuse a configuration with rules or hours that there are not, before anything is made of it.

    Raises
    ------
    ConfigError
        That names the key.
    """
    check_hours(config.hours)
    rules_of(config)


def check_snapshot(snapshot: Snapshot) -> None:
    """Refuse a snapshot that leads cannot be routed by, one after the other or at once, before anybody follows it.

    Raises
    ------
    ConfigError, DataError
        If rules, hours, time zones, weights or groups of partners that it is configured with are not there.
    """
    check_config(snapshot.config)
    _check_weights(snapshot)
    _check_zones(snapshot)
    groups_of(snapshot)


def groups_of(snapshot: Snapshot) -> list[Group]:
    """Return the groups of partners that are to get a share of a batch.

    Raises
    ------
    ConfigError
        If partners have no such column, or nobody has the value.
    """
    groups = []
    for share in snapshot.config.batch.shares:
        values = snapshot.partners.column(share.column)
        if values is None:
            raise ConfigError(f"routing.batch.shares: the table partners has no column {share.column!r}")
        groups.append(Group.of(share, list(values)))
    return groups


def _check_weights(snapshot: Snapshot) -> None:
    name = snapshot.config.weights
    if name is None:
        return
    found = snapshot.partners.column(name)
    if found is None:
        raise ConfigError(f"routing.policy.weights: the table partners has no column {name!r}")
    if found.dtype.kind not in "fiu":
        raise ConfigError(f"routing.policy.weights: the column {name!r} of partners holds no numbers; name another")
    wrong = np.flatnonzero((found < 0) | np.isinf(found))
    if len(wrong):
        first = snapshot.partners.partner_id[wrong[0]]
        raise DataError(
            f"routing.policy.weights: {name} of {len(wrong)} partner(s), first {first}, is {found[wrong[0]]}; a weight "
            "is a number from 0 on, and an empty one counts as 0"
        )


def _check_zones(snapshot: Snapshot) -> None:
    """Refuse a time zone that there is not, before the first lead comes: no load could be found."""
    partners = snapshot.partners
    for code, name in enumerate(partners.time_zones):
        try:
            zone(name)
        except DataError as error:
            rows = (partners.time_zone == code).nonzero()[0]
            raise DataError(
                f"partners: time_zone of {len(rows)} partner(s), first {partners.partner_id[rows[0]]}: {error}"
            ) from error
