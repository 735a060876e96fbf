"""The database of the ledger: how it is opened, how a transaction begins, and what its errors mean.

SQLite: one file in write-ahead mode, forced to disk at every commit; a turn begins with ``BEGIN IMMEDIATE`` and so is
the only writer. Without a file it lives in memory. PostgreSQL: a turn takes an advisory lock that ends with its
transaction; every statement in it sees what was committed before the lock was had.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool

from partnerml import outputs
from partnerml.errors import BusyError, ConfigError, InternalError, MissingExtraError, PartnermlError, SourceError

WAIT = 30.0  # seconds for which a writer waits for another
_LOOK = 0.0005  # seconds between two looks whether it is its turn
_READING = "partnerml_reading"
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7203648121)")
_SILENT = "25P03"  # what PostgreSQL calls it when it has ended an idle transaction
_SETTINGS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # what has been answered survives a loss of power
    "PRAGMA secure_delete = ON",  # what is forgotten is overwritten
    # pages between two copies of the log into the file, which the commit that is due waits for: a decision writes more
    # than twenty, so at 12,000 that is one commit in some five hundred; the log then holds 48 MB
    "PRAGMA wal_autocheckpoint = 12000",
)
_OF_PARENTS: list[sa.Connection] = []  # of processes that forked into this one, which must not close them
_KNOWN = "sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


class NoLedgerError(SourceError):
    """There is no ledger at an address, and none is to be begun."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no ledger in {place}: correct its address (routing.ledger), or route leads, which begins one"
        )


class Database:
    """One database, used by one process and any number of its threads.

    Parameters
    ----------
    url : str or None
        None = in memory.
    begin : bool
        Whether a file of SQLite that is not there is made.

    Raises
    ------
    ConfigError
        If the address is none that is known.
    SourceError
        If it cannot be opened, or its folder is not there.
    """

    def __init__(self, url: str | None, *, begin: bool = True) -> None:
        parsed = _parsed(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.in_memory = self.sqlite and parsed.database in (None, "", ":memory:")
        self.place = "the ledger in memory" if self.in_memory else _told_of(sa.make_url(str(url)))
        self._lock, self._owner, self._pid = threading.Lock(), 0, os.getpid()
        if self.sqlite and not self.in_memory:
            self._check_place(Path(str(parsed.database)), begin=begin)
        self._engine = self._made(parsed)
        self._writer: sa.Connection | None = None
        self._line = Path(f"{parsed.database}-turn") if self.sqlite and not self.in_memory else None

    def _check_place(self, path: Path, *, begin: bool) -> None:
        """Refuse a folder that is not there: by a mistyped address, a ledger would begin that knows of nothing."""
        if not path.parent.is_dir():
            raise SourceError(
                f"the folder of the ledger {path} is not there: make it, or correct the address (routing.ledger)"
            )
        if not begin and not path.is_file():
            raise NoLedgerError(self.place)

    def _made(self, url: sa.URL) -> sa.Engine:
        try:
            if self.sqlite:
                return _sqlite(url, in_memory=self.in_memory)
            engine = sa.create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "psycopg is needed for a ledger on PostgreSQL and is not installed; install it with: "
                'pip install "partnerml[postgresql]"'
            ) from error
        event.listen(engine, "connect", _limit_waiting)
        return engine

    @contextlib.contextmanager
    def writing(self, *, undone: Callable[[], None] = lambda: None) -> Iterator[sa.Connection]:
        """Begin a transaction that no other writer can be in; it is committed at the end, or nothing of it.

        Parameters
        ----------
        undone : callable
            Called when nothing was committed, before another thread may write.

        Raises
        ------
        BusyError
            If another writer does not end.
        SourceError
            If the database cannot be reached or written.
        """
        with self._alone():
            try:
                with self._in_line(), self._told(), self._connected() as connection, connection.begin():
                    if not self.sqlite:
                        connection.execute(_LOCK)
                    yield connection
            except BaseException:
                undone()
                raise

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """Return the connection that writes: on SQLite one for all turns, since fetching one takes longer than BEGIN.

        On PostgreSQL it comes from the pool, which sees first whether the server is still there.
        """
        if not self.sqlite:
            with self._engine.connect() as connection:
                yield connection
            return
        writer = self._writer = self._writer or self._engine.connect()
        try:
            yield writer
        except BaseException:
            self._writer = None
            writer.close()
            raise

    @contextlib.contextmanager
    def _in_line(self) -> Iterator[None]:
        """Wait until no other process writes the file of SQLite.

        SQLite's own waiting sleeps ever longer between two looks, so that a process that writes one turn after the
        other would let no other in. Who waits for the turn holds the place next in line, which the one who has it must
        get first for another turn: so nobody is passed by one who has just had his.
        """
        if self._line is None:
            yield
            return
        until = time.monotonic() + WAIT
        place = self._seized(self._line.with_name(f"{self._line.name}-next"), until)
        try:
            turn = self._seized(self._line, until)
        finally:
            outputs.release(place)
        try:
            yield
        finally:
            outputs.release(turn)

    def _seized(self, path: Path, until: float) -> int:
        """Return the descriptor of a file that no other process has now; to release it lets the next one have it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise SourceError(
                f"{path} cannot be opened: {error.strerror}; processes that write {self.place} take turns by it: see "
                "that its folder is there and can be written, and ask again"
            ) from error
        try:
            while not outputs.seize(descriptor):
                if time.monotonic() > until:
                    raise self._busy()
                time.sleep(_LOOK)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Begin a transaction that reads what has been committed, and waits for no writer."""
        # in memory there is one connection alone, which a writer may be using
        alone = self._alone() if self.in_memory else contextlib.nullcontext()
        with alone, self._told(), self._engine.connect() as connection:
            options = {_READING: True} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
            with connection.execution_options(**options).begin():
                yield connection

    def settle(self) -> None:
        """Let no former content stay in the log of changes of a SQLite file."""
        if self.sqlite and not self.in_memory:
            with self._told(), contextlib.closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections; a ledger in memory is gone with them."""
        if self._writer is not None and self._pid == os.getpid():
            self._writer.close()
        self._writer = None
        self._engine.dispose()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._pid != os.getpid():  # a fork: the connections belong to the parent, and its threads are not here
            self._engine.dispose(close=False)
            if self._writer is not None:
                _OF_PARENTS.append(self._writer)
                self._writer = None
            self._lock, self._owner, self._pid = threading.Lock(), 0, os.getpid()
        if self._owner == threading.get_ident():
            raise InternalError("a turn of the ledger was begun within another one, which would wait for itself")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = 0

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PartnermlError:
            raise
        except OperationalError as error:
            raise self._failure(error) from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _SILENT:
                raise self._silent() from error
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise self._no_database() from error
            raise InternalError(f"{self.place} refused what partnerml asked of it: {error.orig}") from error

    def _failure(self, error: OperationalError) -> PartnermlError:
        told = " ".join(str(error.orig).split()) or type(error.orig).__name__
        if "locked" in told or "lock timeout" in told:
            return self._busy()
        return SourceError(
            f"{self.place} cannot be used: {told}; what has not been answered is not in the ledger: "
            "see that the database can be reached and written, and ask again"
        )

    def _no_database(self) -> SourceError:
        return SourceError(
            f"{self.place} is no ledger: the file is not a database of SQLite. Nothing in it was changed: correct the "
            "address (routing.ledger), or move the file away, and a new ledger begins"
        )

    def _silent(self) -> SourceError:
        return SourceError(
            f"{self.place} ended a turn in which it had heard nothing for {2 * WAIT:.0f} s, so that others can go on; "
            "nothing of the turn was kept: see what held this process up (a machine short of memory or processors, a "
            "scorer or a rule of your own that waits for something), and ask again"
        )

    def _busy(self) -> BusyError:
        return BusyError(
            f"{self.place} has been in use by another process for {WAIT:.0f} s; wait until it has ended and ask "
            "again, or use PostgreSQL where many processes write"
        )


def _parsed(url: str | None) -> sa.URL:
    if url is None:
        return sa.make_url("sqlite://")
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            return parsed.set(drivername="sqlite+pysqlite")
        if parsed.drivername in ("postgresql", "postgresql+psycopg"):
            return parsed.set(drivername="postgresql+psycopg")
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # the text may hold a password: it is not shown
        raise ConfigError(f"the address of the ledger cannot be read; it is {_KNOWN}") from error
    raise ConfigError(f"a ledger on {parsed.drivername} is not known; its address is {_KNOWN}")


def _told_of(url: sa.URL) -> str:
    """Return an address without its password, which may also stand among the settings behind the ``?``."""
    secret = {name: "***" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def _sqlite(url: sa.URL, *, in_memory: bool) -> sa.Engine:
    if in_memory:
        # one connection for all threads, which take turns
        engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        # threads give their connections back to one pool
        engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": WAIT})
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: Any) -> None:
    """Set up a connection to SQLite: transactions begin where we say."""
    connection.isolation_level = None
    for statement in _SETTINGS:
        connection.execute(statement)
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # for this one change SQLite does not wait by itself: several processes may open a new ledger at once
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get(_READING, False)
    words, driver = "BEGIN" if reads else "BEGIN IMMEDIATE", connection.connection.driver_connection
    assert driver is not None, "a transaction begins on an open connection"
    try:
        driver.execute(words)
    except sqlite3.Error as error:
        raise DBAPIError.instance(words, (), error, sqlite3.Error, dialect=connection.dialect) from error


def _limit_waiting(connection: Any, _: Any) -> None:
    """Set up a connection to PostgreSQL: who waits is told, and who hangs in a turn does not stop all others."""
    connection.autocommit = True
    connection.execute(f"SET lock_timeout = '{WAIT:.0f}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{2 * WAIT:.0f}s'")
    connection.autocommit = False
