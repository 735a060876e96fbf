"""The tasks that a configuration lists, and whether the data reach far enough for one."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

from partnerml.config import TasksConfig, nearest
from partnerml.errors import ConfigError
from partnerml.moments import moment as moment_of
from partnerml.tasks._kinds import KINDS, NAMES
from partnerml.tasks._task import Task

if TYPE_CHECKING:
    from partnerml.config import Config
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

_EVERY = TasksConfig.model_validate({name: {} for name in NAMES})
# a few days without a row are a holiday; more are a missing export
MAX_STALE_DAYS = 7


def from_config(config: Config) -> tuple[Task, ...]:
    """Return the tasks that a configuration lists, in the order of the pipeline; without a list, all of them."""
    listed = _EVERY if config.tasks is None else config.tasks
    sections = {name: getattr(listed, name) for name in NAMES}
    return tuple(KINDS[name].configured(section) for name, section in sections.items() if section is not None)


def wanted(eco: Ecosystem) -> tuple[Task, ...]:
    """Return the tasks to train and score: those listed, or without a list those whose tables and labels there are."""
    known = from_config(eco.config)
    if eco.config.tasks is not None:
        return known
    lacking = {task.name: task.kind.missing(eco) for task in known}
    for name, lack in lacking.items():
        if lack is not None:
            _logger.info("%s is left out; it lacks %s", name, lack)
    return tuple(task for task in known if lacking[task.name] is None)


def configured(config: Config, name: str) -> Task:
    """Return a task as the configuration lists it.

    Raises
    ------
    ConfigError
        If there is no such task, or the configuration does not list it.
    """
    known = {task.name: task for task in from_config(config)}
    if name in known:
        return known[name]
    if name in NAMES:
        raise ConfigError(f"task {name} is not listed in the configuration; add `{name}: {{}}` under `tasks:`")
    listed = ", ".join(known) or "none"
    raise ConfigError(f"there is no task {name!r}{nearest(name, NAMES)} (in this configuration: {listed})")


def described(config: Config, name: str) -> Task:
    """Return a task whose features are asked for: as the configuration lists it, else with its defaults.

    Raises
    ------
    ConfigError
        If there is no such task, or it is churn and not listed: whom it is about is a matter of its activity.
    """
    if name == "churn" or name not in NAMES or name in {task.name for task in from_config(config)}:
        return configured(config, name)
    return KINDS[name].configured(getattr(_EVERY, name))


def staleness(eco: Ecosystem, task: Task, moment: dt.datetime) -> str | None:
    """Return why the data are too old for a moment, in words; None if they are not.

    Beyond the last rows everybody looks silent and nothing succeeds, and that is what labels are made of.
    """
    if task.kind.timeless(eco, task):
        return None
    end = moment_of(eco.default_until())
    behind = moment - end - task.kind.lag(eco)
    if behind <= dt.timedelta(days=MAX_STALE_DAYS):
        return None
    return (
        f"the data end on {end:%Y-%m-%d}, {behind.days} days before {moment:%Y-%m-%d}: after their end nothing "
        "happens any more, and everybody looks silent. Check that the export is complete, or choose an earlier date"
    )
