"""Several tasks trained one after the other, or some at the same time, each in a process of its own.

Models are the same either way. Only the rows and the model are made in other processes: comparing with the champion,
cards and the registry are one task after the other, in the order in which they were asked for.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.errors import ConfigError, InputError, NotEnoughDataError
from partnerml.moments import Moment
from partnerml.processes import BrokenProcessPool, check_jobs, workers
from partnerml.progress import Lines, Progress
from partnerml.training import _train
from partnerml.training._run import Outcome, entered, registry_of, run

if TYPE_CHECKING:
    import datetime as dt

    from partnerml.config import Config
    from partnerml.ecosystem import Ecosystem
    from partnerml.tasks import Task
    from partnerml.training._recipe import Trained

_logger = logging.getLogger("partnerml")


def run_all(
    eco: Ecosystem,
    tasks: Sequence[Task],
    *,
    until: Moment | None = None,
    trials: int = 0,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Do what `run` does for several tasks.

    Parameters
    ----------
    eco : Ecosystem
        Opened from a configuration, a folder or a file where several tasks are trained at the same time.
    tasks : sequence of Task
    until, trials, seed, progress
        See `train`.
    jobs : int
        How many tasks are trained at the same time, each in a process with memory of its own. With trials, or where
        features are kept in cells, tasks are trained one after the other: both write one store.

    Of several tasks, one with too little data is passed over: a warning tells why, and the others are trained.

    A script that asks for several jobs must guard what it runs by ``if __name__ == "__main__":``, since each process
    imports it.

    Raises
    ------
    ConfigError
        If `jobs` is below 1, or the tables of several jobs are in memory.
    InputError
        If a process was killed, by the system for want of memory, say, or could not begin.
    NotEnoughDataError
        If there is too little data for each of them.
    """
    check_jobs(jobs)
    progress = progress or Progress.silent()
    jobs = min(jobs, len(tasks))
    if jobs > 1 and (trials or eco.config.features.cells):
        progress.say("one task after the other: tuning trials, and features kept in cells, write one store")
        jobs = 1
    outcomes: list[Outcome] = []
    short: list[NotEnoughDataError] = []
    if jobs <= 1:
        for task in tasks:
            with _passing_over(task, short, others=len(tasks) > 1):
                outcomes.append(run(eco, task, until=until, trials=trials, seed=seed, progress=progress))
        return _some(outcomes, short)
    if eco.config.data.source is None and not eco.config.data.sources:
        raise ConfigError(
            "jobs: tables in memory cannot be given to other processes; write them to a folder, or jobs=1"
        )
    registry = registry_of(eco)
    with _apart(_shared(eco, jobs), jobs) as submit:
        futures = [submit(task, until=until, seed=seed) for task in tasks]
        for task, future in progress.track(list(zip(tasks, futures, strict=True)), f"training, {jobs} at a time"):
            with _passing_over(task, short, others=len(tasks) > 1):
                made, last = _of_process(future, task, jobs)
                outcomes.append(entered(eco, task, made, registry, until=last, progress=progress))
    return _some(outcomes, short)


@contextlib.contextmanager
def _passing_over(task: Task, short: list[NotEnoughDataError], *, others: bool) -> Iterator[None]:
    """Keep the error of a task with too little data, so that others are trained all the same."""
    try:
        yield
    except NotEnoughDataError as error:
        if not others:
            raise
        _logger.warning("%s is not trained: %s", task.name, error)
        short.append(error)


def _some(outcomes: list[Outcome], short: Sequence[NotEnoughDataError]) -> list[Outcome]:
    """Return what was trained, or refuse where nothing was."""
    if short and not outcomes:
        raise short[0]
    return outcomes


def _of_process(future: Any, task: Task, jobs: int) -> tuple[Trained, dt.datetime]:
    """Return what a process has made."""
    try:
        made: tuple[Trained, dt.datetime] = future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"a process that trained was killed while {task.name} was waited for: probably there was too little memory "
            f"for {jobs} tasks at a time; try fewer jobs, or a lower engine.memory_limit"
        ) from error
    return made


@contextlib.contextmanager
def _apart(config: Config, jobs: int) -> Iterator[Any]:
    """Open processes, and give a function that submits a task to them; none is left behind."""
    config.spill.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.spill, prefix="jobs-") as spill, workers(jobs) as pool:
        yield lambda task, **more: pool.submit(_made, _spilling(config, Path(spill) / task.name), task, **more)


def _shared(eco: Ecosystem, jobs: int) -> Config:
    """Return the configuration of one of several processes, with its share of the memory that there is."""
    engine = eco.config.engine
    if engine.memory_limit is not None:
        return eco.config
    (told,) = eco.backend.con.execute("SELECT current_setting('memory_limit')").fetchone()
    number, unit = str(told).split()
    share = {"memory_limit": f"{float(number) / jobs:.1f}{unit}"}
    return eco.config.model_copy(update={"engine": engine.model_copy(update=share)})


def _spilling(config: Config, folder: Path) -> Config:
    """Return a configuration with a spill folder of its own: what DuckDB spills has the same names in every process."""
    return config.model_copy(update={"engine": config.engine.model_copy(update={"spill": str(folder)})})


def _made(config: Config, task: Task, *, until: Moment | None, seed: int) -> tuple[Trained, dt.datetime]:
    """Train a task in a process of its own."""
    from partnerml.ecosystem import Ecosystem

    with Ecosystem.open(config) as eco:
        last = _train.end_of(eco, task, until)
        return _train.trained(eco, task, until=last, trials=0, seed=seed, progress=Lines()), last
