"""The ledger: every decision, every offer and every unit of capacity, in one database and one transaction each."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from partnerml import __version__
from partnerml.errors import BusyError, ConfigError, InputError, SourceError
from partnerml.moments import Moment
from partnerml.moments import moment as zoned
from partnerml.routing import _queries as queries
from partnerml.routing import _schema as tables
from partnerml.routing._capacity import Entry, Fold, PartnerCapacity
from partnerml.routing._database import Database, NoLedgerError
from partnerml.routing._decision import Decision
from partnerml.routing._memory import Memory
from partnerml.routing._offers import STATES, Offer
from partnerml.routing._schema import micros, moment_of, prepare
from partnerml.routing._situation import Load, Match
from partnerml.routing._turn import Latest, Turn, match_of
from partnerml.routing._vectors import Vector

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.routing._queue import Left

_logger = logging.getLogger("partnerml")
_EVER = 2**62  # later than any moment
__all__ = ["Latest", "Ledger", "State", "Turn"]


@dataclasses.dataclass(frozen=True)
class State:
    """What a decision was made of, as it was then; with its snapshot it can be made again.

    Attributes
    ----------
    decision_id, lead_id : str
    number : int
        How many decisions the lead had had.
    moment : datetime
    text : str
        The decision as JSON.
    payload : str
        Of the lead.
    had : frozenset of str
    matches : sequence of Match
    credit : mapping of str to float
    fold : Fold
        Units of all partners.
    vector : Vector or None
        What the policy chose from.
    """

    decision_id: str
    lead_id: str
    number: int
    moment: dt.datetime
    text: str
    payload: str
    had: frozenset[str]
    matches: Sequence[Match]
    credit: Mapping[str, float]
    fold: Fold
    vector: Vector | None

    @property
    def document(self) -> dict[str, Any]:
        """The decision as plain values."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    def load(self, capacity: PartnerCapacity) -> Load:
        """Return what the partners of its snapshot had been given."""
        return self.fold.load(capacity, self.moment)


class Ledger:
    """Decisions, offers and capacity; made by `Ledger.open`.

    Parameters
    ----------
    database : Database
        With the tables of the ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database, self._memory = database, Memory()

    @classmethod
    def open(cls, url: str | None = None, *, begin: bool = True) -> Self:
        """Open a ledger, and begin one where there is none; that is told in the log.

        Parameters
        ----------
        url : str or None
            ``sqlite:///PATH``, or ``postgresql+psycopg://USER@HOST/DATABASE`` for many processes; None = in memory.
        begin : bool
            Whether one is begun where there is none; where it is to be there, a mistyped address is told.

        Raises
        ------
        ConfigError
            If the address is none that is known.
        SourceError
            If the database cannot be opened, its folder is not there, its tables are of another version, or there is no
            ledger and none is to be begun.
        MissingExtraError
            If the driver of PostgreSQL is not installed.
        """
        database = Database(url, begin=begin)
        try:
            with database.writing() as connection:
                begun = prepare(connection, place=database.place, made_by=__version__)
                if begun and not begin:
                    raise NoLedgerError(database.place)  # which undoes the tables
        except BaseException:
            database.close()
            raise
        if begun and not database.in_memory:
            _logger.info("%s holds no leads yet: a new ledger begins", database.place)
        return cls(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; a ledger in memory is gone with them."""
        self._database.close()

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._database.place

    @contextlib.contextmanager
    def turn(self, lead_id: str | None = None, *, moment: Moment) -> Iterator[Turn]:
        """Begin one transaction, in which nobody else writes; an error in it undoes all of it.

        Parameters
        ----------
        lead_id : str or None
            The lead to look at; None where an offer leads to it.
        moment : datetime, date or str
            Now.

        Raises
        ------
        BusyError
            If another process does not end its turn.
        SourceError
            If the database cannot be reached or written. What was not answered is not in the ledger.
        """
        turns: list[Turn] = []

        def undone() -> None:
            # an answer that cannot be is refused before anything is written: what was read is so, and to read all anew
            # takes long
            error = sys.exception()
            refused = isinstance(error, InputError) and not isinstance(error, SourceError | BusyError)
            if any(turn.wrote for turn in turns) or not refused:
                self._memory.forget()

        with self._database.writing(undone=undone) as connection:
            turns.append(Turn(connection, self._memory, lead_id=lead_id, moment=zoned(moment, name="now")))
            yield turns[0]

    def offer(self, offer_id: str) -> Offer:
        """Return an offer.

        Raises
        ------
        InputError
            If there is none of that id.
        """
        with self._database.reading() as connection:
            return queries.find_offer(connection, offer_id)[1]

    def offers(
        self, *, status: str | None = None, lead_id: str | None = None, partner_id: str | None = None
    ) -> list[Offer]:
        """Return offers in the order in which they were made, all or some of them.

        Raises
        ------
        InputError
            If there is no such status.
        """
        if status is not None and status not in STATES:
            raise InputError(f"an offer is one of {', '.join(STATES)}; got {status!r:.80}")
        query = queries.OFFERS
        for column, value in (
            (tables.offers.c.status, status),
            (tables.leads.c.lead_id, lead_id),
            (tables.offers.c.partner_id, partner_id),
        ):
            query = query if value is None else query.where(column == queries.checked_text(value, column.name))
        with self._database.reading() as connection:
            return [queries.offer_of(row) for row in connection.execute(query)]

    def overdue(self, now: Moment) -> list[Offer]:
        """Return the live offers whose deadline has passed, the earliest first."""
        with self._database.reading() as connection:
            rows = connection.execute(queries.OVERDUE, {"now": micros(zoned(now, name="now"))}).all()
            return [queries.offer_of(row) for row in rows]

    def payloads(self, lead_ids: Sequence[str]) -> dict[str, str]:
        """Return the payloads of those of some leads that came before, by their ids."""
        with self._database.reading() as connection:
            return {row.lead_id: row.payload for row in queries.many(connection, queries.PAYLOADS, lead_ids)}

    def waiting(self) -> list[str]:
        """Return the leads whose last decision waits (`Decision.waits`): `Router.expire` decides them, in order."""
        with self._database.reading() as connection:
            return [str(lead_id) for lead_id in connection.execute(queries.WAITING).scalars()]

    def queue(self, *, now: Moment | None = None, left: Callable[[str], Left | None] | None = None) -> pd.DataFrame:
        """Return the leads that a person must decide: those whose latest decision is a fallback.

        Also those that repeat a lead which no partner has: one of the tables that was never routed, or one that has
        been forgotten since and that nobody closed. A lead leaves the queue once it is given to somebody
        (`Router.override`), or a newer snapshot decides it.

        Parameters
        ----------
        now : moment, optional
            Decisions that were made later are left out; by default all count.
        left : callable, optional
            Tells of a partner whether it has left, which no ledger knows: `Router.queue` gives one, and lists the leads
            of such partners as well.

        Returns
        -------
        DataFrame
            A row a lead, who waits longest first: ``lead_id``, ``since`` (when that was decided), ``why``, ``waits``
            (whether `Router.expire` decides it without anybody, once there is a newer snapshot or the rule or score
            that failed is mended), ``asked`` (how many partners have had it), ``decision_id``, and ``created_at``,
            ``account_id``, ``account_name``, ``country`` and ``amount`` of the lead.
        """
        from partnerml.routing._queue import queue

        with self._database.reading() as connection:
            return queue(connection, by_then=_until(now), left=left)

    def latest(self, lead_id: str, *, now: Moment | None = None) -> str | None:
        """Return the id of the latest decision on a lead, by a moment if that is given; None if it was never routed."""
        with self._database.reading() as connection:
            asked = {"of_lead_id": queries.checked_id(lead_id, "lead_id"), "by_then": _until(now)}
            found: str | None = connection.execute(queries.LATEST, asked).scalar()
            return found

    def text(self, decision_id: str) -> str:
        """Return a decision as it was given, byte for byte.

        Raises
        ------
        InputError
            If there is none of that id.
        """
        with self._database.reading() as connection:
            return str(queries.find_decision(connection, decision_id).document)

    def vector(self, decision_id: str) -> Vector | None:
        """Return who a policy chose from; None if nobody was ranked, or the lead has been forgotten.

        Raises
        ------
        InputError
            If there is no decision of that id.
        """
        with self._database.reading() as connection:
            row = queries.find_decision(connection, decision_id)
            return None if row.forgotten else _vector(connection, row.seq)

    def state_at(self, decision_id: str) -> State:
        """Return what a decision was made of, as it was then.

        Raises
        ------
        InputError
            If there is no such decision, or its lead has been forgotten.
        """
        with self._database.reading() as connection:
            row = queries.find_decision(connection, decision_id)
            if row.forgotten:
                raise InputError(
                    f"decision {decision_id} cannot be made again: what it was made of has been forgotten "
                    "(`partnerml forget`); what was counted is still there"
                )
            moment = moment_of(row.decided_at)
            had = connection.execute(queries.HAD, {"of_lead": row.lead, "before": row.number}).scalars()
            return State(
                decision_id=row.decision_id,
                lead_id=row.lead_id,
                number=row.number,
                moment=moment,
                text=row.document,
                payload=row.payload,
                had=frozenset(had),
                matches=_matches(connection, row.matches),
                credit=_credit(connection, row.after_credit),
                fold=queries.folded(connection, moment, last=row.after_entry),
                vector=_vector(connection, row.seq),
            )

    def history(self, lead_id: str | None = None, *, now: Moment | None = None) -> pd.DataFrame:
        """Return everything that happened, or what happened to one lead, in order.

        Parameters
        ----------
        lead_id : str, optional
        now : moment, optional
            What happened later is left out; by default nothing is.

        Returns
        -------
        DataFrame
            ``at``, ``lead_id``, ``what`` (``decided``, ``offered``, ``held``, an answer, an outcome, ``forgotten``),
            ``status`` of decisions, ``decision_id``, ``offer_id``, ``partner_id``, ``by``, ``reason``, ``closed_at``
            and ``amount``.
        """
        from partnerml.routing._history import told

        with self._database.reading() as connection:
            lead_id = None if lead_id is None else queries.checked_id(lead_id, "lead_id")
            return told(connection, lead_id, by_then=_until(now))

    def export(self, what: str = "assignments", *, now: Moment | None = None) -> pd.DataFrame:
        """Return what training and evaluation learn from.

        Parameters
        ----------
        what : str
            ``assignments``: the canonical table, with answers, outcomes and propensities. ``decisions``: each decision
            with what was expected. ``vectors``: who each policy chose from, with what probabilities and how much room.
        now : moment, optional
            Decisions, answers and outcomes that came later are left out; by default none are. A lead that has been
            forgotten since is told as one that is.

        Raises
        ------
        InputError
            If it is something else.
        """
        from partnerml.routing._export import FRAMES

        if what not in FRAMES:
            raise InputError(f"of a ledger one of {', '.join(FRAMES)} is exported; got {what!r:.80}")
        with self._database.reading() as connection:
            frame: pd.DataFrame = FRAMES[what](connection, None if now is None else _until(now))
            return frame

    def forget(self, identifier: str, *, moment: Moment, by: str | None = None, kind: str | None = None) -> int:
        """Forget a lead, or all leads of an account: who it was, not what was counted.

        Parameters
        ----------
        identifier : str
            A lead_id or an account_id.
        moment : datetime, date or str
            Now.
        by : str, optional
            Who asked for it.
        kind : {"lead", "account"}, optional
            Of which the id is; by default of either.

        Returns
        -------
        int
            How many leads have been forgotten.

        Raises
        ------
        InputError
            If there is none of that id, or a lead has it and the account of others too, and no kind is given.
        ConfigError
            If there is no such kind.
        """
        from partnerml.routing._forget import KINDS, forget

        if kind is not None and kind not in KINDS:
            raise ConfigError(f"kind is {' or '.join(KINDS)}, got {kind!r}")

        with self.turn(moment=moment) as turn:
            turn.wrote = True
            count = forget(turn, queries.checked_id(identifier, "the id to forget"), by=by, kind=kind)
            # what was read may hang on ids that are not there any more: this process is to see what others see
            self._memory.forget()
        self._database.settle()
        return count

    def standing(self, *, now: Moment, capacity: PartnerCapacity) -> tuple[Fold, dict[str, float]]:
        """Return what the partners of a snapshot have been given by a moment, and what round robin owes them."""
        with self._database.reading() as connection:
            credit = {row.partner_id: row.credit for row in connection.execute(queries.CREDITS)}
            return queries.counted(connection, zoned(now, name="now"), held=capacity.held), credit

    def fold_until(self, entry: int, *, moment: dt.datetime) -> Fold:
        """Return what partners had been given when an entry was the last, as of a moment."""
        with self._database.reading() as connection:
            return queries.folded(connection, moment, last=entry)

    def decided(self, start: dt.datetime, end: dt.datetime) -> list[tuple[str, str, queries.Then]]:
        """Return what was first decided of leads in ``[start, end)``, in order.

        Returns
        -------
        list of (str, str, Then)
            Decision and payload of the lead as texts, and when the decision was made.
        """
        with self._database.reading() as connection:
            rows = connection.execute(queries.FIRST_DECIDED, {"start": micros(start), "end": micros(end)})
            return [(row.document, row.payload, queries.Then(row.seq, row.after_entry, row.decided_at)) for row in rows]

    def decided_since(self, start: dt.datetime) -> frozenset[str]:
        """Return the ids of the leads that were first decided from a moment on."""
        with self._database.reading() as connection:
            return frozenset(connection.execute(queries.FIRST_DECIDED_SINCE, {"start": micros(start)}).scalars())

    def stayed_since(self, start: dt.datetime) -> frozenset[str]:
        """Return the ids of those of them that stayed with the partner that had them by the tables."""
        with self._database.reading() as connection:
            rows = connection.execute(queries.FIRST_OWNED_SINCE, {"start": micros(start)}).all()
        told = ((row.lead_id, Decision.from_json(row.document)) for row in rows)
        return frozenset(lead_id for lead_id, decision in told if decision.evidence.get("by") == "lead")

    def entries_between(self, after: int, last: int) -> list[tuple[Entry, str]]:
        """Return the entries after one of them, up to another, each with the step that wrote it, in order."""
        with self._database.reading() as connection:
            rows = connection.execute(queries.ENTRIES_BETWEEN, {"after": after, "last": last})
            return [(Entry(*units), step) for *units, step in rows]

    def considered(self, start: dt.datetime, end: dt.datetime, *, most: int) -> list[tuple[str, Vector]]:
        """Return payload and vector of the leads that were first decided in ``[start, end]``: the latest, in order."""
        with self._database.reading() as connection:
            query = queries.CONSIDERED.limit(most)
            rows = connection.execute(query, {"start": micros(start), "end": micros(end)}).all()
        return [(row.payload, Vector.unpacked(row.vector)) for row in reversed(rows)]

    def came(self, start: dt.datetime, end: dt.datetime) -> int:
        """Return how many leads that a policy was to choose for were first decided in ``[start, end]``."""
        with self._database.reading() as connection:
            asked = {"start": micros(start), "end": micros(end)}
            return int(connection.execute(queries.CAME, asked).scalar_one())

    def audit(self) -> list[str]:
        """Return what in the ledger is not as it must be: nothing, unless somebody else has written into it.

        All entries are added up and held against the counters, the offers and the limits in force at the time.
        """
        from partnerml.routing._audit import audit

        with self._database.reading() as connection:
            return audit(connection)


def _until(now: Moment | None) -> int:
    """Return a moment as the ledger stores it; later than all of them where none is given."""
    return _EVER if now is None else micros(zoned(now, name="now"))


def _vector(connection: Any, decision: int) -> Vector | None:
    packed = connection.execute(queries.VECTOR, {"of_decision": decision}).scalar()
    return None if packed is None else Vector.unpacked(packed)


def _matches(connection: Any, stored: str | None) -> list[Match]:
    if stored is None:
        return []
    pairs = json.loads(stored)
    rows = {row.lead: row for row in queries.many(connection, queries.LEADS_NUMBERED, [pair[0] for pair in pairs])}
    return [match_of(rows[lead], *who) for lead, *who in pairs]


def _credit(connection: Any, last: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for changed in connection.execute(queries.CREDITS_UNTIL, {"last": last}).scalars():
        found.update(json.loads(changed))
    return found
