"""Who may get the leads of a batch and what that is worth before prices: found here, or by processes beside this one.

Each process opens the same snapshot and looks at leads as things stood when the batch began, so what is found is the
same to the last bit, whoever looked.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.errors import ConfigError, InputError
from partnerml.processes import BrokenProcessPool, check_jobs, workers
from partnerml.routing._assign import CHUNK
from partnerml.routing._looked import Finds, Looked, Looking
from partnerml.routing._opened import Opened
from partnerml.routing._rule import Rule
from partnerml.routing._rules import register_rule, registered
from partnerml.routing._snapshot import Snapshot

if TYPE_CHECKING:
    import datetime as dt

    from partnerml.pairs._arrays import Floats
    from partnerml.routing._lead import Lead
    from partnerml.routing._situation import Load

# a process takes seconds to open the snapshot, in which one alone looks at as many leads as this
LEADS_EACH = 4_096
_AHEAD = 2  # chunks for each process that are asked for before they are needed


class Candidates:
    """Who may get the leads, and what that is worth before prices.

    Parameters
    ----------
    found_of : callable
        Takes a slice of the leads and returns what was found of them.
    """

    def __init__(self, found_of: Callable[[slice], Finds]) -> None:
        self._found_of = found_of
        self._finds: list[Finds] = []

    def __call__(self, part: slice) -> tuple[Any, Floats]:
        """Return rows of partners (-1 = none) and utilities of some leads, both of shape (n, candidates)."""
        found = self._found_of(part)
        self._finds.append(found)
        return found.rows, found.worth

    def __iter__(self) -> Iterator[Looked]:
        """Return what was found of each lead, in their order."""
        return itertools.chain.from_iterable(self._finds)


@contextlib.contextmanager
def candidates(
    opened: Opened, load: Load, leads: Sequence[Lead], *, moment: dt.datetime, jobs: int = 1, chunk: int = CHUNK
) -> Iterator[Candidates]:
    """Look at leads, chunk by chunk in their order; several processes do where there is enough for each.

    Parameters
    ----------
    opened : Opened
    load : Load
        What partners hold.
    leads : sequence of Lead
    moment : datetime
    jobs : int
        How many processes look, each with a snapshot in memory of its own: at most so many, and no more than one for
        each `LEADS_EACH` leads.
    chunk : int
        How many leads are asked for together; the last time there may be fewer.

    Raises
    ------
    ConfigError
        If `jobs` is below 1, or other processes cannot score as this one does: by a function of one's own, or rules
        that only this process has registered.
    InputError
        If a process was killed, by the system for want of memory, say, or could not begin.
    """
    check_jobs(jobs)
    width, jobs = opened.config.batch.candidates, min(jobs, len(leads) // LEADS_EACH)
    if jobs <= 1:
        looking = Looking(opened, load, moment=moment)
        yield Candidates(lambda part: Finds(looking.at(leads[part]), width))
        return
    with tempfile.TemporaryDirectory(prefix="partnerml-") as folder:
        try:
            asked = _Asked(opened.snapshot.write(folder), load, moment, _sendable(registered(opened.config)))
        except ConfigError as error:
            raise ConfigError(f"jobs: other processes cannot look at these leads: {error}; or use jobs=1") from error
        with workers(jobs) as pool:
            yield Candidates(_Ahead(pool, asked, leads, chunk=chunk, most=_AHEAD * jobs))


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """What another process looks at leads by."""

    snapshot: Path
    load: Load
    moment: dt.datetime
    rules: Mapping[str, bytes]

    def own_rules(self) -> Iterator[Rule]:
        """Return the rules that users added, in the process that looks."""
        for name, rule in self.rules.items():
            try:
                yield pickle.loads(rule)
            except (ImportError, AttributeError) as error:
                raise _not_sent(name, error) from error


def _sendable(rules: Sequence[Rule]) -> Mapping[str, bytes]:
    """Return rules that users added, by their names, as they can be given to other processes."""
    found = {}
    for rule in rules:
        try:
            found[rule.name] = pickle.dumps(rule)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise _not_sent(rule.name, error) from error
    return found


def _not_sent(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"rule {name!r} cannot be given to other processes ({error}): make it of functions that a module defines by "
        "name, neither lambdas nor functions of a notebook or of a script's main part"
    )


class _Ahead:
    """What processes found of chunks of leads, in their order; some are asked for before they are needed."""

    def __init__(self, pool: Executor, asked: _Asked, leads: Sequence[Lead], *, chunk: int, most: int) -> None:
        self._pool, self._asked, self._leads, self._most = pool, asked, leads, most
        self._parts = (slice(start, start + chunk) for start in range(0, len(leads), chunk))
        self._waiting: collections.deque[Future[Finds]] = collections.deque()

    def __call__(self, part: slice) -> Finds:
        for ahead in itertools.islice(self._parts, self._most - len(self._waiting)):
            self._waiting.append(self._pool.submit(_found, self._asked, self._leads[ahead]))
        future = self._waiting.popleft()
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a process that looked for candidates was killed: probably there was too little memory for so many "
                "jobs; try fewer. Nothing of the batch was written"
            ) from error


_LOOKING: dict[Path, Looking] = {}  # of a process, by the snapshot of its batch


def _found(asked: _Asked, leads: Sequence[Lead]) -> Finds:
    """Look at some leads in a process of its own."""
    if asked.snapshot not in _LOOKING:
        for rule in asked.own_rules():
            register_rule(rule, replace=True)
        opened = Opened.of(Snapshot.open(asked.snapshot), reasons=False)
        _LOOKING[asked.snapshot] = Looking(opened, asked.load, moment=asked.moment)
    looking = _LOOKING[asked.snapshot]
    return Finds(looking.at(leads), looking.opened.config.batch.candidates)
