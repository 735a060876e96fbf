"""Scoring: a model, an ecosystem and a moment give scores."""

from __future__ import annotations

import datetime as dt
import importlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from partnerml import tasks
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress
from partnerml.scoring._asked import Asked
from partnerml.scoring._scores import DEFAULT_CUTS, Scores

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model

_logger = logging.getLogger("partnerml")


def score(
    eco: Ecosystem,
    model: Model,
    *,
    as_of: dt.datetime | str,
    cuts: Sequence[float] = DEFAULT_CUTS,
    reasons: int = 3,
    cells: CellStore | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score everybody of the task's population.

    Parameters
    ----------
    eco : Ecosystem
    model : Model
        From `train` or `load_model`.
    as_of : datetime or str
        What was known before this moment is used, nothing later. A date is 00:00 UTC of it.
    cuts : sequence of three floats
        Scores from which a partner is in the band ``medium``, ``high`` and ``critical``.
    reasons : int
        How many reasons to tell for each row.
    cells : CellStore, optional
        What `tasks.cells_of` returned: stored cells, read in the place of the events where that gives the same.
    progress : Progress, optional
        Where to show progress; silent by default.

    Raises
    ------
    NotEnoughDataError
        If nobody belongs to the population at `as_of`.
    ModelError
        If the model does not fit the data.
    """
    task = tasks.Task.from_dict(model.task)
    moment = moment_of(as_of)
    if (stale := tasks.staleness(eco, task, moment)) is not None:
        _logger.warning("%s", stale)
    scored = importlib.import_module(f"partnerml.scoring._{task.name}")
    asked = Asked(eco, model, task, moment, cuts, reasons, cells, progress or Progress.silent())
    return Scores(task.name, moment, model.version, scored.frame(asked), tuple(asked.key))
