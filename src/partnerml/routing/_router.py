"""The router: leads in, decisions out, and all that is asked about them afterwards."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from partnerml.errors import ConfigError, DataError, InputError, ModelError, PartnermlError
from partnerml.moments import Moment
from partnerml.moments import moment as zoned
from partnerml.progress import Progress
from partnerml.routing._decision import ASSIGNED, DUPLICATE, OVERRIDDEN, Decision, id_of
from partnerml.routing._eligibility import Failed, why_not
from partnerml.routing._in_use import InUse
from partnerml.routing._lead import Lead, LeadTable
from partnerml.routing._lead_columns import misnamed
from partnerml.routing._ledger import Ledger
from partnerml.routing._not_free import Stand, not_free
from partnerml.routing._offers import EXPIRED, OVERRIDE, WITHDRAWN, Offer
from partnerml.routing._opened import Opened
from partnerml.routing._precedence import precedence
from partnerml.routing._queries import checked_words
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._standing import after_answer, follow, is_due, latest_of, owe_again, standing, without_rate

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.config import RoutingConfig
    from partnerml.routing._batch import Batch
    from partnerml.routing._past import Past
    from partnerml.routing._pricing import Prices
    from partnerml.routing._turn import Latest, Turn

_logger = logging.getLogger("partnerml")
Payload = Mapping[str, Any] | Lead
Leads = Any  # a DataFrame, or an iterable of payloads
_MOST_DAYS = 3660
_YEARS = (1900, 2199)  # those of leads: at the ends of the calendar there is no day before or after


class Router:
    """Routes leads to the partners most likely to close them, under the rules of engagement, and never twice.

    Make one with `Router.open`. It may be used from several threads; several processes share a ledger on PostgreSQL or
    on a SQLite file.

    Parameters
    ----------
    snapshot : Snapshot
    ledger : Ledger
    source : Path, optional
        Where the snapshot was opened; `refresh` looks there.
    reasons : bool
        Whether a decision tells what moved the model's score of the chosen partner.
    """

    def __init__(self, snapshot: Snapshot, ledger: Ledger, *, source: Path | None = None, reasons: bool = True) -> None:
        self.ledger, self._in_use = ledger, InUse(snapshot, source=source, reasons=reasons)

    @classmethod
    def open(
        cls,
        snapshot: str | Path | Snapshot,
        *,
        ledger: str | Ledger | None = None,
        reasons: bool = True,
        source: Path | None = None,
    ) -> Self:
        """Open a router.

        Parameters
        ----------
        snapshot : str, Path or Snapshot
            The file ``OUT/snapshots/current``, one snapshot's folder, or a snapshot in memory.
        ledger : str or Ledger, optional
            ``sqlite:///PATH`` or ``postgresql+psycopg://...``, begun where there is none; or one that is open. None =
            in memory, gone when the process ends.
        reasons : bool
            Whether a decision tells what moved the model's score of the chosen partner, which takes a few
            milliseconds. Facts in words are told always.
        source : Path, optional
            Where a snapshot in memory comes from: the file ``OUT/snapshots/current``, whose prices it takes up.

        Raises
        ------
        SourceError
            If there is no snapshot, or the ledger cannot be opened.
        ModelError
            If the snapshot is damaged.
        ConfigError
            If it is configured with a rule that there is not.
        """
        source = source if isinstance(snapshot, Snapshot) else Path(snapshot)
        found = snapshot if isinstance(snapshot, Snapshot) else Snapshot.open(Path(snapshot))
        kept = ledger if isinstance(ledger, Ledger) else Ledger.open(ledger)
        return cls(found, kept, source=source, reasons=reasons)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._in_use.opened.snapshot

    @property
    def snapshot_id(self) -> str:
        """The id of the snapshot in use, as it was published: prices that were found since do not change it."""
        return self._in_use.opened.way.snapshot_id

    @property
    def unpriced(self) -> bool:
        """Whether no prices were found for these snapshots and their objective: all are 0, and nothing is held back."""
        return self._in_use.unpriced

    @property
    def prices(self) -> Prices | None:
        """The prices that were found last, by this router or published; None if there are none."""
        return self._in_use.prices

    def refresh(self) -> bool:
        """Follow ``current``, and the prices beside it; a call that has begun ends with what it began with.

        Prices that were found before stay with those partners that are still there. A warning tells where their file is
        damaged, or they were found by another ``routing.objective``: leads are routed without prices then.

        Returns
        -------
        bool
            Whether another snapshot, or other prices, are in use now.

        Raises
        ------
        SourceError, ModelError, ConfigError
            If the new one cannot be used; the old one stays in use.
        """
        return self._in_use.refresh()

    # one lead

    def rank(self, lead: Payload, *, top: int = 5, now: Moment | None = None) -> pd.DataFrame:
        """Return whom `route` would choose from for a lead, as things stand; nothing is written.

        Parameters
        ----------
        lead : mapping or Lead
            Columns of the table ``leads``.
        top : int
            How many.
        now : moment, optional

        Returns
        -------
        DataFrame
            ``rank``, ``partner_id``, ``p_win``, ``price``, ``utility``, ``propensity`` (with what probability the
            policy chooses it) and ``free`` (how many leads more it may be offered), the best first. ``attrs`` tells
            ``status`` and ``why`` of the decision that `route` would return. Where a rule of engagement names the
            partner, it is the only row and was not scored; a lead that nobody would get has no rows, unless it would
            be held back for its price. Of a lead that has a decision, ``decision_id`` is in ``attrs`` too, and the rows
            are those that would follow.

        Raises
        ------
        DataError
            If the lead is not one, or came before with another payload.
        ModelError
            If the snapshot is too old.
        """
        from partnerml.routing._ranking import ranking

        if top < 1:
            raise ConfigError(f"top must be at least 1, got {top}")
        moment, asked = _moment(now), Lead.of(lead)
        opened = self._in_use.checked(moment)
        with self.ledger.turn(asked.lead_id, moment=moment) as turn:
            latest = latest_of(turn, asked)
            situation, number, credit = opened.situation_in(turn, asked), turn.number, opened.credit_in(turn)
        outcome = opened.without_reasons().decide(situation, number=number, credit=credit)
        stands = None if latest is None or is_due(latest, moment) else Decision.from_json(latest.text)
        return ranking(opened, situation, outcome, top=top, stands=stands)

    def route(self, lead: Payload, *, now: Moment | None = None) -> Decision:
        """Decide who gets a lead, make the offer, and write both into the ledger.

        The same lead again gets its latest decision, byte for byte; if the offer has expired meanwhile, the next one.

        Parameters
        ----------
        lead : mapping or Lead
            Columns of the table ``leads``.
        now : moment, optional
            The clock by default.

        Raises
        ------
        DataError
            If the lead is not one, or came before with another payload.
        ModelError
            If the snapshot is too old.
        """
        moment, asked = _moment(now), Lead.of(lead)
        opened = self._in_use.checked(moment)
        with self.ledger.turn(asked.lead_id, moment=moment) as turn:
            stands = standing(turn, asked)
            if stands is not None:
                return stands
            situation, credit = opened.situation_in(turn, asked), opened.credit_in(turn)
            outcome = opened.decide(situation, number=turn.number, credit=credit)
            return follow(turn, opened, asked, outcome=outcome)

    def respond(
        self,
        offer_id: str,
        response: str,
        *,
        now: Moment | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> Decision:
        """Write a partner's answer; a decline returns the next decision, made in the same transaction.

        An answer is kept however old the snapshot is. Nobody new is chosen by one that is older than
        ``routing.max_snapshot_age``: the next decision is a fallback then, and the lead goes on by a newer one
        (`expire` and `route` see to it).

        Parameters
        ----------
        offer_id : str
        response : str
            ``accepted`` or ``declined``.
        now : moment, optional
        by, reason : str, optional
            Who answered, and why.

        Returns
        -------
        Decision
            The one that made the offer if it was accepted; the lead's latest, where it was declined.

        Raises
        ------
        InputError
            If there is no such offer, it cannot be answered any more, or its deadline has passed: then it has expired,
            and the lead has gone on to the next partner.
        """
        moment = _moment(now)
        opened = self._in_use.unchecked(moment)
        with self.ledger.turn(moment=moment) as turn:
            answer = turn.respond(offer_id, response, by=by, reason=reason)
            decision = after_answer(turn, opened)
        answer.refuse_late()
        return decision

    def withdraw(
        self, offer_id: str, *, now: Moment | None = None, by: str | None = None, reason: str | None = None
    ) -> Decision:
        """Take an offer or a lead back from a partner, and return the next decision on the lead."""
        moment = _moment(now)
        opened = self._in_use.unchecked(moment)
        with self.ledger.turn(moment=moment) as turn:
            turn.withdraw(offer_id, by=by, reason=reason)
            return after_answer(turn, opened)

    def expire(self, *, now: Moment | None = None) -> list[Decision]:
        """Let offers expire whose deadline has passed, and return the next decisions on their leads.

        Leads that wait, since the snapshot was too old or a rule failed when their offer ended, are decided too if that
        is mended. What is wrong with one lead is told in the log and stops no other.
        """
        moment, found = _moment(now), []
        opened = self._in_use.unchecked(moment)
        for offer in self.ledger.overdue(moment):
            with self.ledger.turn(moment=moment) as turn:
                ended, latest = turn.expire(offer.offer_id), turn.latest
                # somebody else may have been faster
                due = latest is not None and latest.offer is not None and latest.offer.offer_id == offer.offer_id
                if ended.status == EXPIRED and due:
                    found.append(after_answer(turn, opened))
        if opened.too_old(moment) is None:
            for lead_id in self.ledger.waiting():
                try:
                    with self.ledger.turn(lead_id, moment=moment) as turn:
                        latest = turn.latest
                        if latest is not None and is_due(latest, moment):
                            found.append(follow(turn, opened, Lead.of_payload(latest.payload)))
                except (ConfigError, DataError, ModelError) as error:
                    _logger.error("lead %s still waits: %s", lead_id, error)
                except PartnermlError:
                    raise
                except Exception:  # of a rule or a score of one's own: no reason to keep others waiting
                    _logger.exception("lead %s still waits: a rule or its score broke", lead_id)
        return found

    def override(self, lead_id: str, partner_id: str, *, by: str, reason: str, now: Moment | None = None) -> Decision:
        """Give a lead that was routed to another partner, whatever rules and scores say; who did it and why is kept.

        A warning tells where the partner has left, or has not joined yet.

        Raises
        ------
        InputError
            If the lead was never routed, is closed, there is no such partner, or it is not said who did it and why.
        """
        _check_who_and_why(by, reason)
        moment, opened = _moment(now), self._in_use.opened
        opened.row(partner_id)
        with self.ledger.turn(lead_id, moment=moment) as turn:
            latest = _known(turn, lead_id)
            offer = latest.offer
            if offer is not None and offer.holds and (offer.way, offer.partner_id) == (OVERRIDE, partner_id):
                return Decision.from_json(latest.text)
            decision = _overridden(
                opened,
                Decision.from_json(latest.text),
                partner_id,
                number=turn.number,
                moment=moment,
                by=by,
                why=reason,
            )
            if not opened.is_member(partner_id, moment):
                _logger.warning(
                    "lead %s is given to %s, which is no partner at the time: it has left, or has not joined yet",
                    lead_id,
                    partner_id,
                )
            held = opened.held(partner_id, str(decision.offer_id), OVERRIDE, moment)
            text = turn.record(document=decision.to_dict(), held=held, by=by, reason=reason)
            # it was taken back from who held it; who let the deadline pass has had its turn
            if offer is not None and offer.holds and not offer.overdue(moment):
                owe_again(turn, opened, Decision.from_json(latest.text), WITHDRAWN)
            return Decision.from_json(text)

    def outcome(
        self,
        lead_id: str,
        outcome: str,
        *,
        closed_at: Moment | None = None,
        amount: float | None = None,
        now: Moment | None = None,
        by: str | None = None,
    ) -> Offer:
        """Write what became of a lead: ``won``, ``lost`` or ``cancelled``; its partner has room for another then."""
        closed = None if closed_at is None else zoned(closed_at, name="closed_at")
        with self.ledger.turn(moment=_moment(now)) as turn:
            return turn.close(lead_id, outcome, closed_at=closed, amount=amount, by=by)

    # questions

    def why_not(
        self, lead: Payload | str, partner_id: str, *, now: Moment | None = None, audience: str = "vendor"
    ) -> tuple[Failed, ...]:
        """Return which rules keep a partner from a lead, with its own facts; none if it is eligible and the lead free.

        A lead that goes to nobody else, whoever is eligible, is told as what it is: ``duplicate``,
        ``registered_deal`` or ``existing_owner``; where no rule fails, ``closed``, ``held`` (a partner has it or has
        yet to answer), ``offer_limit`` (``routing.offers.limit``) or ``held_back`` (``routing.hold_back``).

        Parameters
        ----------
        lead : mapping, Lead or str
            A lead, or the id of one that was routed.
        partner_id : str
        now : moment, optional
        audience : {"vendor", "partner"}
            Who reads it: a partner is told the first rule that it does not pass and its own facts, nothing about the
            lead or others.

        Raises
        ------
        InputError
            If there is no such partner or lead, or `now` is before what the ledger wrote last: what partners held is
            known as it is now. `for_partner` tells of past decisions.
        ConfigError
            If there is no such audience.
        """
        if audience not in ("vendor", "partner"):
            raise ConfigError(f"audience is vendor or partner, got {audience!r}")
        moment, opened = _moment(now), self._in_use.opened
        row = opened.row(partner_id)
        asked = None if isinstance(lead, str) else Lead.of(lead)
        lead_id = str(lead) if asked is None else asked.lead_id
        with self.ledger.turn(lead_id, moment=moment) as turn:
            if now is not None:
                _refuse_past(turn)
            situation = opened.situation_in(turn, asked or Lead.of_payload(_known(turn, lead_id).payload))
            stand = Stand(turn.closed, turn.holder, turn.number, opened.credit_in(turn))
        found = precedence(situation)
        # a lead that is another one come again is offered to nobody, not even who has the other
        if found is not None and (found.status == DUPLICATE or found.partner_id != partner_id):
            return (Failed(found.status, "the lead is free", found.words if audience == "vendor" else found.anonymous),)
        failed = why_not(situation, opened.way.rules, row, audience=audience)
        if failed:
            return failed
        taken = not_free(opened, situation, stand, named=found is not None, audience=audience)
        return () if taken is None else (taken,)

    def queue(self, *, now: Moment | None = None) -> pd.DataFrame:
        """Return the leads that a person must decide: those of `Ledger.queue`, and those of partners that have left.

        Such a partner accepted the lead, or got it without being asked, and will not work on it. Nothing is done about
        it here: `withdraw` lets the lead go on to the next partner, and `override` gives it to one that you name. An
        offer that such a partner has yet to answer is not listed: it expires.

        Parameters
        ----------
        now : moment, optional
            What was decided, answered and closed later is left out; by default all counts, and the clock says who has
            left.

        Returns
        -------
        DataFrame
            The columns of `Ledger.queue`; ``since`` is when the partner left, or got the lead after that.
            ``partner_id`` and ``offer_id`` tell who has the lead and what to withdraw; null where nobody has it.
        """
        from partnerml.routing._queue import left_by

        return self.ledger.queue(now=now, left=left_by(self.snapshot.partners, _moment(now)))

    def for_partner(self, lead_id: str, partner_id: str, *, now: Moment | None = None) -> dict[str, Any]:
        """Return what one partner may be told of the latest decision on a lead: about itself alone.

        What partners held then is added up from all that the ledger holds, anew for each call: ask it for one lead
        where somebody wants to know, not for all leads on a page.

        Parameters
        ----------
        lead_id : str
        partner_id : str
        now : moment, optional
            Decisions that were made later are left out; by default all count.

        Returns
        -------
        dict
            ``yours``, ``status``, ``offer_id``, ``rank`` (by utility, without names; None where it was not considered),
            ``n_eligible``, ``facts`` (of the lead too only where it has it), ``reasons``, and ``failed``: the first
            rule that it did not pass, or None.

        Raises
        ------
        InputError
            If there is no such partner, the lead was never routed or was forgotten, or the snapshot is not there.
        """
        from partnerml.routing._own_view import own_view

        decision_id = self.ledger.latest(lead_id, now=None if now is None else _moment(now))
        if decision_id is None:
            raise InputError(f"lead {lead_id!r} was never routed: there is nothing to tell of it")
        return own_view(self._past, decision_id, partner_id)

    @property
    def _past(self) -> Past:
        from partnerml.routing._past import Past

        return Past(self.ledger, self._in_use)

    def decision(self, decision_id: str) -> Decision:
        """Return a decision of the ledger, as it was given."""
        return Decision.from_json(self.ledger.text(decision_id))

    def replay(self, decision_id: str, *, now: Moment | None = None) -> Decision:
        """Make a past decision again, from what was known then, and return it.

        Parameters
        ----------
        decision_id : str
        now : moment, optional
            What was decided later is not past, and is refused.

        Raises
        ------
        InputError
            If there is no such decision, or it cannot be made again: it was a person's, its lead was forgotten, or its
            snapshot is not there.
        InternalError
            If it does not come out the same. Only its words may differ, with a warning: another version of partnerml
            may tell the same decision better.
        """
        from partnerml.routing._replay import replayed

        found = replayed(self._past, decision_id)
        if now is not None and found.decided_at > (moment := _moment(now)):
            raise InputError(f"decision {decision_id} is of {found.decided_at.isoformat()}, after {moment.isoformat()}")
        return found

    def forget(
        self, identifier: str, *, now: Moment | None = None, by: str | None = None, kind: str | None = None
    ) -> int:
        """Forget who a lead, or all leads of an account, were; see `Ledger.forget`."""
        return self.ledger.forget(identifier, moment=_moment(now), by=by, kind=kind)

    # many leads

    def assign(
        self,
        leads: Leads,
        *,
        now: Moment | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
        jobs: int = 1,
    ) -> Batch:
        """Give out many leads at once, so that the sum of their utilities is highest, and write the decisions.

        Each lead gets one decision, as by `route`; leads that have one keep it.

        Parameters
        ----------
        leads : DataFrame, or iterable of mapping or Lead
            Columns of the table ``leads``, a row a lead.
        now : moment, optional
        progress : Progress, optional
        dry_run : bool
            Whether to tell who would get what, and write nothing.
        jobs : int
            How many processes look for candidates at most, each with a snapshot of its own; what comes out is the
            same. They take seconds to begin, so that there is no more than one for each 4,096 leads. A script that asks
            for several must guard what it runs by ``if __name__ == "__main__":``, since each process imports it.

        Returns
        -------
        Batch
            The decisions in the order of the leads, and how good they are.

        Raises
        ------
        DataError
            If a row is no lead, an id comes twice, or a lead came before with another payload; nothing is written.
        ConfigError
            If `jobs` is below 1, or more than 1 with a scorer or rule that cannot be given to other processes.
        InputError
            If one of these processes was killed or could not begin; nothing is written.
        MissingExtraError
            If numba is not installed.
        """
        from partnerml.routing._batch import assign_all

        moment = _moment(now)
        opened = self._in_use.checked(moment, priced=False)
        return assign_all(
            self.ledger,
            opened,
            self._rated(opened, _leads(leads)),
            moment=moment,
            book=self._in_use.book,
            progress=progress,
            dry_run=dry_run,
            jobs=jobs,
        )

    def reprice(
        self, *, expected: int | None = None, days: float = 7, now: Moment | None = None, publish: bool = False
    ) -> Mapping[str, float]:
        """Find prices anew, by the leads of the last days and the capacity that is left.

        A lead then goes where its utility less the price is highest: partners that later leads need are spared. Call it
        every few hundred leads. Prices stay with partners when another snapshot comes by `refresh`, unless it is of
        another objective.

        Parameters
        ----------
        expected : int, optional
            How many leads are to come until capacity is renewed; by default as many as came in those days, given to
            somebody or not.
        days : float
            How far back leads of the ledger count, whoever routed them; of more than 20,000 the latest do.
        now : moment, optional
        publish : bool
            Whether all routers that follow these snapshots take them up at their next `refresh`, and commands at once.

        Returns
        -------
        mapping of str to float
            The prices of partners that have one, by their ids.

        Raises
        ------
        ConfigError
            If `expected` or `days` is none.
        InputError
            If they are to be published, and the snapshot was opened in memory.
        MissingExtraError
            If numba is not installed.
        """
        from partnerml.routing._demand import found_prices

        if expected is not None and expected < 1:
            raise ConfigError(f"expected must be at least 1 lead, got {expected}")
        if not 0 < days <= _MOST_DAYS:
            raise ConfigError(f"days must be more than 0 and at most {_MOST_DAYS:,}, got {days}")
        moment, within = _moment(now), dt.timedelta(days=days)
        found = found_prices(self.ledger, self._in_use.opened, moment=moment, within=within, expected=expected)
        self._in_use.take_up(found, publish=publish)
        return found.by_partner

    def dry_run(self, leads: Leads, *, now: Moment | None = None, progress: Progress | None = None) -> list[Decision]:
        """Return what leads would get if they were routed now, one after the other; nothing is written.

        Parameters
        ----------
        leads : DataFrame, or iterable of mapping or Lead
        now : moment, optional
        progress : Progress, optional
        """
        from partnerml.routing._rehearsal import dry_run

        moment = _moment(now)
        opened = self._in_use.checked(moment)
        read = self._rated(opened, _leads(leads))
        return dry_run(self.ledger, opened, read, moment=moment, progress=progress or Progress.silent())

    def simulate(
        self,
        day: Moment,
        *,
        config: RoutingConfig | Mapping[str, Any] | None = None,
        days: int = 1,
        now: Moment | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Return who would have got the leads of a day by other rules, beside who does by the published ones.

        Both are made anew in the same way, so that what differs is due to the rules: leads come one by one, in the
        order and at the moments in which they came, from what partners held when the day began. Partners are supposed
        to keep what they are offered; a lead that was closed in that time makes room for another with whoever has it,
        and what became of leads from before the day takes and gives room as it did. Refusals and overrides of the
        day's own leads, batches, prices and snapshots of the day are not made up again: what was is told beside, and
        a warning tells how many leads go otherwise by the published rules than they did.

        Parameters
        ----------
        day : moment
            When it begins.
        config : RoutingConfig or mapping, optional
            The rules to try, or the section ``routing`` as YAML has it; by default those of the snapshot in use, by
            which nothing changes.
        days : int
            How long it lasts.
        now : moment, optional
            Leads that were decided later are left out; by default all count.
        progress : Progress, optional

        Returns
        -------
        DataFrame
            A row a lead: ``lead_id``, ``changed`` (another partner or status by the rules tried than by the published
            ones), and ``status``, ``partner_id``, ``p_win`` and ``why`` as ``was_…`` (what happened), ``published_…``
            and ``would_…``. ``attrs`` has ``differs`` and ``of_batch``: how many leads go otherwise by the published
            rules than they did, and how many came in a batch.

        Raises
        ------
        InputError
            If no lead was decided on that day.
        ConfigError
            If `config` is no section routing, or names rules or columns that there are not.
        """
        from partnerml.config import RoutingConfig
        from partnerml.routing._simulation import simulated

        if not 1 <= days <= _MOST_DAYS:
            raise ConfigError(f"days must be from 1 to {_MOST_DAYS:,}, got {days}")
        # prices of now are for leads to come, and partners that are full now were not then
        start, published = _moment(day, "day"), self._in_use.opened.as_published().without_reasons()
        tried = published
        if config is not None:
            tried = Opened.of(published.snapshot.ruled_by(RoutingConfig.of(config)), reasons=False)
        end = start + dt.timedelta(days=days)
        if now is not None:
            end = min(end, _moment(now) + dt.timedelta(microseconds=1))
        given = progress or Progress.silent()
        return simulated(self.ledger, published, tried, start=start, end=end, progress=given)

    def _rated(self, opened: Opened, leads: tuple[Lead, ...]) -> tuple[Lead, ...]:
        """Return leads, or refuse those whose amount is in a currency without a rate."""
        told = without_rate(self.ledger, leads, opened.snapshot.currency)
        if told:
            raise DataError(f"leads: {len(told):,} of {len(leads):,} cannot be decided, first {told[0][1]}")
        return leads


def _moment(now: Moment | None, name: str = "now") -> dt.datetime:
    moment = dt.datetime.now(dt.UTC) if now is None else zoned(now, name=name)
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ConfigError(f"{name} must lie in the years {_YEARS[0]} to {_YEARS[1]}; got {moment.isoformat()}")
    return moment


def _leads(leads: Leads) -> tuple[Lead, ...]:
    """Return the leads of a table, or refuse it."""
    if not isinstance(leads, Iterable) or isinstance(leads, str | bytes | Mapping):
        raise DataError(f"leads are a DataFrame or a list of mappings, one for each lead; got {type(leads).__name__}")
    rows = leads.to_dict("records") if hasattr(leads, "to_dict") else leads
    table = LeadTable.of(rows)
    if table.refused:
        first = table.refused[0]
        raise DataError(f"leads: {len(table.refused)} row(s) are no leads, first row {first.row}: {first.reason}")
    if rows is not leads:  # who gives a table may have named its columns otherwise
        for words in misnamed(table.leads):
            _logger.warning("leads: %s", words)
    return table.leads


def _check_who_and_why(by: object, reason: object) -> None:
    """Refuse an override without them before anything is decided: the decision tells them."""
    for name, value in (("by", by), ("reason", reason)):
        if value is None or not checked_words(value, name).strip():
            raise InputError("an override is kept with who did it and why: give by= and reason=")


def _refuse_past(turn: Turn) -> None:
    """Refuse a moment before the last step of the ledger: leads that were given since would count as held then."""
    last = turn.last_step
    if turn.moment < last:
        raise InputError(
            f"who may get a lead is told as things stand, and the ledger was written at {last:%Y-%m-%d %H:%M:%S} UTC, "
            f"after {turn.moment:%Y-%m-%d %H:%M:%S}; give that moment or a later one. Of a past decision "
            "`partnerml for-partner LEAD_ID PARTNER_ID --now` tells which rule a partner did not pass"
        )


def _known(turn: Turn, lead_id: str) -> Latest:
    """Return the latest decision on a lead that was routed."""
    latest = turn.latest
    if latest is None:
        raise InputError(f"lead {lead_id!r} was never routed; route it first, or give the lead itself")
    if latest.forgotten:
        raise InputError(f"lead {lead_id!r} has been forgotten: nothing is decided about it any more")
    return latest


def _overridden(
    opened: Opened, former: Decision, partner_id: str, *, number: int, moment: dt.datetime, by: str, why: str
) -> Decision:
    seed = opened.way.seed
    return Decision(
        decision_id=id_of("decision", seed, former.lead_id, number),
        lead_id=former.lead_id,
        status=ASSIGNED,
        partner_id=partner_id,
        offer_id=id_of("offer", seed, former.lead_id, number),
        why=f"{by} gave it to this partner: {why}",
        evidence={"by": by, "reason": why, "instead_of": former.partner_id},
        policy=OVERRIDDEN,
        model_version=opened.snapshot.scorer.version,
        snapshot_id=opened.way.snapshot_id,
        decided_at=moment,
        seed=former.seed,
    )
