"""From a task and moments to rows: features of what was known before, labels of what came after."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.errors import ConfigError
from partnerml.features import Catalogue, CellStore
from partnerml.manifests import hash_of
from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.tasks._choosing import described
from partnerml.tasks._task import Rows, Task

if TYPE_CHECKING:
    from partnerml.config import Config
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")


def build_dataset(
    eco: Ecosystem,
    task: Task,
    as_of: Sequence[Moment] | Moment,
    *,
    until: Moment | None = None,
    catalogue: Catalogue | Mapping[str, Any] | None = None,
    labels: bool = True,
    cells: CellStore | None = None,
) -> Dataset:
    """Build the rows of a task at some moments: features of what was known before, labels of what came after.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    as_of : moment or sequence of moments
        Features see ``[as_of - window, as_of)`` of what was recorded before as_of. A date is 00:00 UTC of it.
    until : moment, optional
        Labels see what was recorded before it; a label that is not mature by then is null. Default: the last midnight
        after which fewer than 0.1 % of the dated rows lie.
    catalogue : Catalogue, optional
        The features; by default those of the event types that were known before the first as_of.
    labels : bool
        Whether to build labels: False for scoring.
    cells : CellStore, optional
        What `cells_of` returned: stands for the events where it can.

    Returns
    -------
    Dataset
        Rows in order of as_of and key. Rows of fit and close, and labelled ones of propensity, have moments of their
        own: those up to the last as_of.
    """
    moments = _moments(as_of)
    if catalogue is None:
        catalogue = task.kind.catalogue(eco, task, moments[0])
    elif not isinstance(catalogue, Catalogue):
        catalogue = Catalogue.from_dict(catalogue)
    known = None
    if labels:
        known = moment_of(eco.default_until() if until is None else until, name="until")
    return task.kind.build(eco, task, Rows(tuple(moments), catalogue, known, cells))


def _moments(as_of: Sequence[Moment] | Moment) -> list[dt.datetime]:
    """Return the distinct moments, in order."""
    several = [as_of] if isinstance(as_of, str | dt.date) else as_of
    moments = sorted({moment_of(value) for value in several})
    if not moments:
        raise ConfigError("as_of is empty: give at least one moment, such as 2026-06-01")
    return moments


def build_features(
    eco: Ecosystem,
    name: str,
    as_of: Sequence[Moment] | Moment,
    *,
    catalogue: Catalogue | Mapping[str, Any] | None = None,
    cells: CellStore | None = None,
) -> dict[dt.datetime, Dataset]:
    """Build the features that a task takes, without labels, at some moments.

    Parameters
    ----------
    eco : Ecosystem
    name : str
        ``churn``: the active partners at each moment, as the configuration says. ``fit``: partners and recruits with
        the traits that they had when they joined, all that joined before the moment. ``close``: the pairs of lead and
        partner that were assigned before it, each as it was when it was assigned. ``propensity``: the accounts that
        are not partners at each moment.
    as_of : moment or sequence of moments
    catalogue : Catalogue, optional
        By default the one that `feature_catalogue` finds before the first moment: the same columns for all of them.
    cells : CellStore, optional
        What `cells_of` returned: stands for the events of ``churn`` where it can.

    Returns
    -------
    dict of datetime to Dataset
        In order of the moments (zoned, UTC).

    Raises
    ------
    ConfigError
        If there is no such task, or no moment.
    """
    moments = _moments(as_of)
    if catalogue is None:
        catalogue = feature_catalogue(eco, name, before=moments[0])
    elif not isinstance(catalogue, Catalogue):
        catalogue = Catalogue.from_dict(catalogue)
    task = described(eco.config, name)
    if not task.kind.snapshots:
        return {moment: task.kind.build(eco, task, Rows((moment,), catalogue)) for moment in moments}
    data = task.kind.build(eco, task, Rows(tuple(moments), catalogue, cells=cells))
    return {moment: data if len(moments) == 1 else data.at(moment) for moment in moments}


def feature_catalogue(eco: Ecosystem, name: str, *, before: Moment) -> Catalogue:
    """Return the features that a task takes by default, by what was known before a moment.

    Raises
    ------
    ConfigError
        If there is no such task, or the configuration does not list it.
    """
    task = described(eco.config, name)
    return task.kind.catalogue(eco, task, moment_of(before))


def cells_of(eco: Ecosystem, *, until: Moment, rebuild: bool = False) -> CellStore | None:
    """Bring the stored cells of events up to date, if the configuration keeps them.

    Parameters
    ----------
    eco : Ecosystem
    until : moment
        What was seen before 00:00 UTC of its day is taken in.
    rebuild : bool
        Read everything anew: rows of the source were changed or deleted.

    Returns
    -------
    CellStore or None
        None if the configuration keeps no cells, or there are no events.

    Raises
    ------
    ConfigError
        If the cells were made by another mapping or lag, or if a rebuild is asked for and none are kept.
    """
    if not eco.config.features.cells:
        if rebuild:
            raise ConfigError("there are no cells to rebuild: write `features: {cells: true}` to keep them")
        return None
    if not eco.has("events"):
        return None
    store = CellStore.open(eco.config.out / "cells", fingerprint=_mapping_of_events(eco.config))
    report = store.update(eco, _midnight(until), rebuild=rebuild)
    _logger.info(
        "cells of events up to %s: %s new rows read, %s of them late",
        f"{report.watermark:%Y-%m-%d}",
        f"{report.rows_read:,}",
        f"{report.late_rows:,}",
    )
    return store


def _midnight(value: Moment) -> dt.datetime:
    return moment_of(value).replace(hour=0, minute=0, second=0, microsecond=0)


def _mapping_of_events(config: Config) -> str:
    """Return what identifies how events are mapped; where the files lie is no part of it, they may move every day."""
    blocks = config.resolved()["data"]["tables"].get("events") or []
    for block in blocks:
        for column in (block.get("columns") or {}).values():
            if isinstance(column.get("values"), str):
                column["values"] = hash_of(Path(column["values"]))
    return hashlib.sha256(json.dumps(blocks, sort_keys=True).encode()).hexdigest()[:16]
