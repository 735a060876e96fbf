"""Processes that work beside this one, for what takes minutes: what they log is told here, and none is left behind."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from partnerml.errors import ConfigError, InputError

__all__ = ["BrokenProcessPool", "check_jobs", "workers"]

_logger = logging.getLogger("partnerml")


def check_jobs(jobs: int) -> None:
    """Refuse a number of jobs that there cannot be.

    Raises
    ------
    ConfigError
        If it is below 1.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")


@contextlib.contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Open processes that take calls; where the block ends by an error they are killed.

    A script must guard what it runs by ``if __name__ == "__main__":``, since each process imports it.

    Parameters
    ----------
    jobs : int
        How many.

    Raises
    ------
    InputError
        If no process could be begun.
    """
    # not forked: DuckDB and OpenMP have threads, which a fork leaves in no state to go on
    context = multiprocessing.get_context("spawn")
    with _handed_on(context) as records:
        before = set(multiprocessing.active_children())
        about = records, _logger.getEffectiveLevel()
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=about) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in set(multiprocessing.active_children()) - before:
                    child.kill()
                raise


@contextlib.contextmanager
def _handed_on(context: Any) -> Iterator[Any]:
    """Give a queue of log records for other processes, and log here what comes."""
    try:
        manager = context.Manager()
    except EOFError as error:
        raise InputError(
            "jobs: no process could be begun; a script that asks for several jobs must do so below "
            '`if __name__ == "__main__":`, since each process imports it'
        ) from error
    # a queue that others write through a process of its own: one that is killed while it writes would lock it for all
    with manager:
        records = manager.Queue()
        listener = logging.handlers.QueueListener(records, _Told())
        listener.start()
        try:
            yield records
        finally:
            # the process that hands records on may have been killed too: what is to be told is why the work ended
            with contextlib.suppress(OSError, EOFError):
                listener.stop()


class _Told(logging.Handler):
    """Hands on what other processes log."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Log it here."""
        logging.getLogger(record.name).handle(record)
        return True


def _begin(records: Any, level: int) -> None:
    """Prepare a process: what it logs is told by the one that started it, which also ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logger = logging.getLogger("partnerml")
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(records))
