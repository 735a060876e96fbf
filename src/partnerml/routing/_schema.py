"""The tables of the ledger, and what the database itself refuses.

What must never happen is refused by the database and not only by code: a second live offer of a lead, an offer beyond
a limit, units below zero, an answer to an offer that is not live, a decision that changes. Limits are those in force
when an offer is made and are stored with its entry: that a partner holds more than a limit that was lowered later is no
error, and it gets no more until it holds less.

Leads are numbered, and all other tables name the number: to forget a lead, its row alone is emptied, and what was
counted stays as it was. Moments are microseconds since 1970 in UTC; days are YYYYMMDD and ISO weeks YYYYWW, as they
are in the partner's time zone.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Index, Integer, LargeBinary, Table, Text

from partnerml.errors import SourceError
from partnerml.routing._decision import WAITING
from partnerml.routing._offers import ACCEPTED, HOLDING, OFFERED, OUTCOMES, STATES, WAYS, WITHDRAWN

VERSION = 1
OPEN, DAY, WEEK = "open", "day", "week"

_Serial = BigInteger().with_variant(Integer, "sqlite")
_logger = logging.getLogger("partnerml")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

metadata = sa.MetaData()


def _serial(name: str) -> Column[int]:
    return Column(name, _Serial, primary_key=True, autoincrement=True)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({_listed(values)})", name=f"known_{column}")


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


# one row: of which form the tables are, by which version of partnerml, and how many leads have been forgotten
ledger = Table(
    "ledger",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("forgets", Integer, nullable=False, server_default="0"),
)

leads = Table(
    "leads",
    metadata,
    _serial("lead"),
    Column("lead_id", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    # by what another lead may be the same, normalised
    Column("account_id", Text, index=True),
    Column("domain", Text),
    Column("name", Text),
    Column("country", Text),
    Column("forgotten", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

decisions = Table(
    "decisions",
    metadata,
    _serial("seq"),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("lead", ForeignKey("leads.lead"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("partner_id", Text),
    Column("duplicate_of", Text, index=True),
    Column("document", Text, nullable=False),
    # the state that it was made in: entries and changes of credit up to these, and the leads that were like this one
    Column("after_entry", BigInteger, nullable=False),
    Column("after_credit", BigInteger, nullable=False),
    Column("matches", Text),
    Column("forgotten", Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("lead", "number", name="one_decision_of_a_number"),
    sqlite_autoincrement=True,
)

# decisions after which a lead waits for a newer snapshot; few among very many, and looked for often
WAITS = sa.text(f"decisions.document LIKE '%{json.dumps(WAITING, separators=(',', ':'))}%'".replace(":", r"\:"))
Index("leads_that_wait", decisions.c.lead, sqlite_where=WAITS, postgresql_where=WAITS)

# what came in some days, and what a person must decide: else all others would be read as well, documents and all
Index("decisions_by_moment", decisions.c.decided_at, decisions.c.number, decisions.c.status)
Index("decisions_by_status", decisions.c.status, decisions.c.decided_at)

vectors = Table(
    "vectors",
    metadata,
    Column("seq", ForeignKey("decisions.seq"), primary_key=True, autoincrement=False),
    Column("vector", LargeBinary, nullable=False),
)

offers = Table(
    "offers",
    metadata,
    _serial("offer"),
    Column("offer_id", Text, nullable=False, unique=True),
    Column("seq", ForeignKey("decisions.seq"), nullable=False, unique=True),
    Column("lead", ForeignKey("leads.lead"), nullable=False),
    Column("partner_id", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("offered_at", BigInteger, nullable=False),
    Column("deadline", BigInteger),
    Column("day", Integer, nullable=False),
    Column("week", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("responded_at", BigInteger),
    Column("outcome", Text),
    Column("closed_at", BigInteger),
    Column("amount", Float(53)),
    Column("closed_recorded_at", BigInteger),
    _one_of("status", STATES),
    _one_of("way", WAYS),
    CheckConstraint(f"outcome IS NULL OR outcome IN ({_listed(OUTCOMES)})", name="known_outcome"),
    CheckConstraint("(outcome IS NULL) = (closed_at IS NULL)", name="closed_with_an_outcome"),
    CheckConstraint(f"outcome IS NULL OR status = '{ACCEPTED}'", name="closed_once_accepted"),
    CheckConstraint("(way = 'offer') = (deadline IS NOT NULL)", name="asked_with_a_deadline"),
    sa.UniqueConstraint("lead", "partner_id", "offered_at", name="one_offer_at_a_moment"),
    Index("offers_by_lead", "lead"),
    sqlite_autoincrement=True,
)
# the promise of the ledger: a lead is with one partner at most
Index(
    "one_partner_holds_a_lead",
    offers.c.lead,
    unique=True,
    sqlite_where=offers.c.status.in_(HOLDING) & offers.c.closed_at.is_(None),
    postgresql_where=offers.c.status.in_(HOLDING) & offers.c.closed_at.is_(None),
)
Index(
    "live_offers_by_deadline",
    offers.c.deadline,
    sqlite_where=offers.c.status == OFFERED,
    postgresql_where=offers.c.status == OFFERED,
)

# every unit that was ever taken or given back
entries = Table(
    "entries",
    metadata,
    _serial("seq"),
    Column("offer", ForeignKey("offers.offer"), nullable=False, index=True),
    Column("partner_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("step", Text, nullable=False),
    Column("day", Integer, nullable=False),
    Column("week", Integer, nullable=False),
    Column("d_day", Integer, nullable=False),
    Column("d_week", Integer, nullable=False),
    Column("d_open", Integer, nullable=False),
    Column("limit_day", Integer),
    Column("limit_week", Integer),
    Column("limit_open", Integer),
    sqlite_autoincrement=True,
)

# the sums of the entries, kept by the database itself
counters = Table(
    "counters",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("period", Integer, primary_key=True, autoincrement=False),
    Column("partner_id", Text, primary_key=True),
    Column("units", Integer, CheckConstraint("units >= 0", name="never_below_zero"), nullable=False),
)

# what people did, and what became of leads
history = Table(
    "history",
    metadata,
    _serial("event"),
    Column("at", BigInteger, nullable=False),
    Column("lead", ForeignKey("leads.lead"), nullable=False, index=True),
    Column("offer", ForeignKey("offers.offer")),
    Column("what", Text, nullable=False),
    Column("by", Text),
    Column("reason", Text),
    Column("closed_at", BigInteger),
    Column("amount", Float(53)),
    sqlite_autoincrement=True,
)

# how many leads each partner is owed by weighted round robin, and each change of it
owed = Table(
    "owed",
    metadata,
    Column("partner_id", Text, primary_key=True),
    Column("credit", Float(53), nullable=False),
)
owed_changes = Table(
    "owed_changes",
    metadata,
    _serial("change"),
    Column("credits", Text, nullable=False),
    sqlite_autoincrement=True,
)

# the columns of each table that may change after a row has been written; all others never do
_CHANGING = {
    leads: ("lead_id", "created_at", "payload", "account_id", "domain", "name", "country", "forgotten"),
    decisions: ("decision_id", "document", "duplicate_of", "forgotten"),
    vectors: (),
    offers: ("offer_id", "status", "responded_at", "outcome", "closed_at", "amount", "closed_recorded_at"),
    entries: (),
    history: ("by", "reason"),
    owed_changes: (),
}
# (name, table, when it is asked, the condition under which it is refused, what is said)
_REFUSALS = (
    ("leads_stay", "leads", "UPDATE", "NEW.forgotten = 0", "a lead is changed without being forgotten"),
    ("decisions_stay", "decisions", "UPDATE", "NEW.forgotten = 0", "a decision is changed without being forgotten"),
    ("history_stays", "history", "UPDATE", 'NEW."by" IS NOT NULL OR NEW.reason IS NOT NULL', "history is rewritten"),
    (
        "offers_move_on",
        "offers",
        "UPDATE OF status",
        f"NOT (OLD.status = '{OFFERED}' AND NEW.status <> '{OFFERED}' "
        f"OR OLD.status = '{ACCEPTED}' AND NEW.status = '{WITHDRAWN}' AND OLD.closed_at IS NULL)",
        "an offer that is not live is answered",
    ),
    (
        "offers_keep_their_names",
        "offers",
        "UPDATE OF offer_id",
        "(SELECT forgotten FROM leads WHERE lead = NEW.lead) = 0",
        "an offer is changed without its lead being forgotten",
    ),
    (
        "offers_begin",
        "offers",
        "INSERT",
        f"NEW.status <> CASE WHEN NEW.way = 'offer' THEN '{OFFERED}' ELSE '{ACCEPTED}' END",
        "an offer begins with an answer",
    ),
)
_PERIODS = ((DAY, "NEW.day", "d_day", "limit_day"), (WEEK, "NEW.week", "d_week", "limit_week"))
_COUNTED = (*_PERIODS, (OPEN, "0", "d_open", "limit_open"))


def micros(moment: dt.datetime) -> int:
    """Return a zoned moment as it is stored."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(value: int) -> dt.datetime:
    """Return a stored moment as zoned UTC."""
    return _EPOCH + value * _MICROSECOND


def maybe_moment(value: int | None) -> dt.datetime | None:
    """Return a stored moment that may be null."""
    return None if value is None else moment_of(value)


def prepare(connection: sa.Connection, *, place: str, made_by: str) -> bool:
    """Make the tables in an empty database, or see that they are those that this version knows.

    To be called in a transaction that nobody else can be in.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    place : str
        Where the ledger is, for the message of an error; without its password.
    made_by : str
        The version of partnerml.

    Returns
    -------
    bool
        Whether there were none.

    Raises
    ------
    SourceError
        If the database holds another version of the tables, or others of the same names.
    """
    found = set(sa.inspect(connection).get_table_names())
    if ledger.name in found:
        _check_version(connection, place)
        _complete(connection, place)
        return False
    if taken := sorted(found & set(metadata.tables)):
        raise SourceError(
            f"{place} has a table {taken[0]!r} and is no ledger of partnerml; give the ledger a database of its own"
        )
    metadata.create_all(connection, checkfirst=False)
    for statement in _guards(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(ledger.insert().values(one=1, version=VERSION, made_by=made_by))
    return True


def _check_version(connection: sa.Connection, place: str) -> None:
    columns = {column["name"] for column in sa.inspect(connection).get_columns(ledger.name)}
    row = connection.execute(sa.select(ledger.c.version, ledger.c.made_by)).first() if "version" in columns else None
    if row is None:
        raise SourceError(
            f"{place} has a table {ledger.name!r} and is no ledger of partnerml; give the ledger a database of its own"
        )
    if row.version != VERSION:
        newer = row.version > VERSION
        raise SourceError(
            f"the ledger {place} was made by partnerml {row.made_by} with schema version {row.version}; this one reads "
            f"version {VERSION}: " + ("install a newer partnerml" if newer else "install that version, or name another")
        )


def _complete(connection: sa.Connection, place: str) -> None:
    """Make the indexes that a ledger lacks, since an earlier version made it: they change no answer, only its time.

    Where the database lets only somebody else make them, a warning tells.
    """
    inspected = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {index["name"] for index in inspected.get_indexes(table.name)}
        lacking = [index for index in table.indexes if index.name not in there and not index.unique]
        for index in sorted(lacking, key=lambda each: str(each.name)):
            try:
                with connection.begin_nested():
                    index.create(connection)
            except sa.exc.DBAPIError as error:
                _logger.warning(
                    "%s lacks the index %s, and it cannot be made (%s): what is asked of many decisions takes longer; "
                    "let the owner of the tables open the ledger once",
                    place,
                    index.name,
                    " ".join(str(error.orig).split()),
                )
            else:
                _logger.info("%s lacked the index %s, which is there now", place, index.name)


def _guards(dialect: str) -> Iterator[str]:
    """Yield the triggers of a database."""
    build = _sqlite if dialect == "sqlite" else _postgresql
    for table, changing in _CHANGING.items():
        fixed = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in changing)
        message = f"rows of {table.name} are never changed"
        yield from build(f"{table.name}_are_kept", table.name, "DELETE", None, message)
        yield from build(f"{table.name}_are_fixed", table.name, f"UPDATE OF {fixed}", None, message)
    for name, on, event, condition, message in _REFUSALS:
        yield from build(name, on, event, condition, message)
    yield from _counting(dialect)


def _sqlite(name: str, table: str, event: str, condition: str | None, message: str) -> Iterator[str]:
    when = f" WHEN {condition}" if condition else ""
    yield f"CREATE TRIGGER {name} BEFORE {event} ON {table}{when} BEGIN SELECT RAISE(ABORT, '{message}'); END"


def _postgresql(name: str, table: str, event: str, condition: str | None, message: str) -> Iterator[str]:
    body = f"RAISE EXCEPTION '{message}';"
    if condition:
        body = f"IF ({condition}) THEN {body} END IF; RETURN NEW;"
    yield f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    yield f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"


def _counting(dialect: str) -> Iterator[str]:
    """Yield what sums up the entries, and refuses an offer that goes beyond a limit.

    The sum is changed first and looked at then: whoever changes it holds its row, so that two writers who got past all
    locks could not both see room for one more.
    """
    steps = []
    for kind, period, change, limit in _COUNTED:
        at = f"kind = '{kind}' AND period = {period} AND partner_id = NEW.partner_id"
        # no upsert: the row that is proposed would have to pass the check against units below zero by itself
        steps.append(
            f"INSERT INTO counters (kind, period, partner_id, units) "
            f"SELECT '{kind}', {period}, NEW.partner_id, 0 WHERE NEW.{change} > 0 ON CONFLICT DO NOTHING;"
        )
        steps.append(f"UPDATE counters SET units = units + NEW.{change} WHERE NEW.{change} <> 0 AND {at};")
        beyond = f"NEW.step = '{OFFERED}' AND NEW.{limit} < (SELECT units FROM counters WHERE {at})"
        message = f"an offer goes beyond the limit of the partner ({kind})"
        if dialect == "sqlite":
            steps.append(f"SELECT RAISE(ABORT, '{message}') WHERE {beyond};")
        else:
            steps.append(f"IF {beyond} THEN RAISE EXCEPTION '{message}'; END IF;")
    body = " ".join(steps)
    if dialect == "sqlite":
        yield f"CREATE TRIGGER entries_are_counted AFTER INSERT ON entries BEGIN {body} END"
        return
    yield (
        f"CREATE FUNCTION entries_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    yield (
        "CREATE TRIGGER entries_are_counted AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION entries_are_counted()"
    )
