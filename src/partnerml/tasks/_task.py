"""What a task is: one frozen type, and beside it what is particular about each of the tasks."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from partnerml.errors import ConfigError
from partnerml.features import Catalogue
from partnerml.moments import moment as moment_of

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore


class Members(Protocol):
    """Who has a row: the population of a task."""

    @property
    def words(self) -> str:
        """Who has a row, in words."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""


class Label(Protocol):
    """What is predicted."""

    @property
    def horizon_days(self) -> int:
        """How far ahead the score looks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted, for whom.

    Build one with a function of this package, such as `churn`, rather than directly.

    Attributes
    ----------
    name : str
    key : tuple of str
        The columns that identify a row.
    population : Population, or what stands for it in another task
        Who has a row at a moment.
    label : ChurnLabel, or what stands for it in another task
        What is predicted.
    train_from : datetime or None
        The earliest rows to train on; None for the first that have their full history.
    max_rows : int or None
        Train on at most so many rows, those of partners (accounts for propensity) drawn at random; None for as many as
        a model of the task learns from.
    """

    name: str
    key: tuple[str, ...]
    population: Any
    label: Any
    train_from: dt.datetime | None = None
    max_rows: int | None = None

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1_000:
            raise ConfigError(f"max_rows must be at least 1,000 (or null: the default), not {self.max_rows}")

    @property
    def horizon_days(self) -> int:
        """How far ahead the score looks."""
        return int(self.label.horizon_days)

    @property
    def words(self) -> str:
        """Who has a row, in words."""
        return str(self.population.words)

    @property
    def kind(self) -> Kind:
        """What is particular about tasks of this name."""
        from partnerml.tasks._kinds import kind_of

        return kind_of(self.name)

    def gap(self, eco: Ecosystem) -> dt.timedelta:
        """Return the time from a row's moment until its label is known: the horizon and the declared lag."""
        return dt.timedelta(days=self.horizon_days) + self.kind.lag(eco)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "key": list(self.key),
            "population": self.population.to_dict(),
            "label": self.label.to_dict(),
            "train_from": None if self.train_from is None else self.train_from.isoformat(),
            # the default is told by nothing: it is the program's own, and which one that was the lineage knows
            **({} if self.max_rows is None else {"max_rows": self.max_rows}),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Task:
        """Rebuild from `to_dict`.

        Raises
        ------
        ConfigError
            If the task is one that this version does not know.
        """
        from partnerml.tasks._kinds import kind_of

        kind = kind_of(str(state.get("name")))
        train_from = state.get("train_from")
        return cls(
            name=kind.name,
            key=tuple(state["key"]),
            population=kind.population(state["population"]),
            label=kind.label(state["label"]),
            train_from=None if train_from is None else moment_of(train_from, name="train_from"),
            max_rows=state.get("max_rows"),
        )


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows of a task are to be built, and how.

    Attributes
    ----------
    moments : tuple of datetime
        In order (UTC).
    catalogue : Catalogue
    until : datetime or None
        Labels are as they were known at it; None: without labels.
    cells : CellStore or None
        Stands for the events where it can.
    """

    moments: tuple[dt.datetime, ...]
    catalogue: Catalogue
    until: dt.datetime | None = None
    cells: CellStore | None = None


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is particular about one of the tasks.

    Attributes
    ----------
    name : str
    configured : callable
        Returns the task of a section of the configuration, such as that of `ChurnConfig`.
    population, label : callable
        Rebuild these values of a task from their JSON.
    lag : callable
        Returns how long after they happened the outcomes of the label are known: the largest declared lag of the
        tables that make it.
    build : callable
        Builds rows and features, and labels where they are asked for.
    catalogue : callable
        Returns the features that the task takes by default, by what was known before a moment.
    missing : callable
        Returns what the tables lack for the task to be trained, in words; None if they lack nothing.
    snapshots : bool
        Whether rows stand for the moments that are asked for, as at a night, and not each for a moment of its own.
    resolved : callable
        Returns the task with what it leaves to the tables decided by them.
    timeless : callable
        Whether a task is learnt from what things are like and not from what became of them: it does not grow stale as
        a silence does.
    """

    name: str
    configured: Callable[[Any], Task]
    population: Callable[[Mapping[str, Any]], Members]
    label: Callable[[Mapping[str, Any]], Label]
    lag: Callable[[Ecosystem], dt.timedelta]
    build: Callable[[Ecosystem, Task, Rows], Dataset]
    catalogue: Callable[[Ecosystem, Task, dt.datetime], Catalogue]
    missing: Callable[[Ecosystem], str | None]
    snapshots: bool = False
    resolved: Callable[[Ecosystem, Task], Task] = lambda eco, task: task
    timeless: Callable[[Ecosystem, Task], bool] = lambda eco, task: False
