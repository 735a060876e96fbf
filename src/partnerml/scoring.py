"""Scores: one row a partner, calibrated, with a risk curve, a trend and reasons in words."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import outputs, tasks
from partnerml.errors import ConfigError, ModelError
from partnerml.features import Catalogue, Feature, build_rows
from partnerml.moments import is_midnight
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model

_logger = logging.getLogger("partnerml")

BANDS = ("low", "medium", "high", "critical")
DEFAULT_CUTS = (0.25, 0.5, 0.75)
RISK_DAYS = (30, 60, 90, 180)
TREND_DAYS = 30
TREND_POINTS = 5.0

_REVENUE = "deals__won__amount__365d"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one task at one moment.

    Attributes
    ----------
    task : str
    as_of : datetime
        Zoned, UTC.
    model_version : str
        First 12 hex digits of the hash of the model's content.
    frame : DataFrame
        One row a partner, highest score first; the columns are described on the docs page of the scores.
    """

    task: str
    as_of: dt.datetime
    model_version: str
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def write(self, out: Path | str) -> Path:
        """Write ``OUT/scores/TASK/date=YYYY-MM-DD/scores.parquet``, whole or not at all, and return its path.

        Rows are in order of the key, so that a re-run gives the same bytes.
        """
        if not is_midnight(self.as_of):
            raise ConfigError(
                f"scores are written by day: as_of must be 00:00 UTC of one, got {self.as_of.isoformat()}"
            )
        path = Path(out) / "scores" / self.task / f"date={self.as_of:%Y-%m-%d}" / "scores.parquet"
        outputs.write_parquet(self.frame.sort_values(["partner_id"], ignore_index=True), path)
        return path


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
    """Score every partner of the task's population.

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
        How many reasons to tell for each partner.
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
    progress = progress or Progress.silent()
    task = tasks.Task.from_dict(model.task)
    moment = moment_of(as_of)
    earlier = moment - dt.timedelta(days=TREND_DAYS)
    if (stale := tasks.staleness(eco, moment)) is not None:
        _logger.warning("%s", stale)
    with progress.stage(f"features as of {moment:%Y-%m-%d}"):
        data = tasks.build_dataset(
            eco, task, as_of=[earlier, moment], catalogue=needed(model), labels=False, cells=cells
        )
    now, before = _at(data, moment), _at(data, earlier)
    if not now.any():
        raise tasks.nobody(eco, task, moment)
    _check_traits(model, data.X[now])
    with progress.stage(f"scores of {int(now.sum()):,} partners"):
        frame = _frame(task, model, data, now, before, moment, cuts)
        frame["revenue_at_risk"] = frame["score"] * _won_revenue(eco, data, now)
    with progress.stage("reasons"):
        frame["reasons"] = pd.Series(_reasons(model, data, now, top=reasons), index=frame.index, dtype=object)
    frame = frame[list(_columns(task))].sort_values(
        ["score", "partner_id"], ascending=[False, True], ignore_index=True, kind="stable"
    )
    return Scores(task.name, moment, model.version, frame)


def needed(model: Model) -> Catalogue:
    """Return what scores need of a model's catalogue: what it reads, what its reasons tell, and the won revenue."""
    catalogue = Catalogue.from_dict(model.catalogue)
    wanted = {*model.features, _REVENUE}
    return catalogue.only(name for name in catalogue.names if name in wanted)


def _at(data: Dataset, moment: dt.datetime) -> npt.NDArray[np.bool_]:
    return (data.keys["as_of"] == pd.Timestamp(moment)).to_numpy()


def _columns(task: tasks.Task) -> tuple[str, ...]:
    return (
        *("partner_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread"),
        *(f"risk_{days}d" for days in RISK_DAYS),
        *("revenue_at_risk", "model_version"),
    )


def _frame(
    task: tasks.Task,
    model: Model,
    data: Dataset,
    now: npt.NDArray[np.bool_],
    before: npt.NDArray[np.bool_],
    moment: dt.datetime,
    cuts: Sequence[float],
) -> pd.DataFrame:
    X = data.X[now].reset_index(drop=True)
    probability = model.predict_proba(X)
    frame = pd.DataFrame({"partner_id": data.keys["partner_id"][now].to_numpy(), "score": probability})
    frame["as_of"] = pd.Timestamp(moment)
    frame["task"] = task.name
    frame["percentile"] = percentile(probability)
    frame["band"] = band(probability, cuts)
    then = model.predict_proba(data.X[before]) if before.any() else np.empty(0)
    frame["trend"] = _trend(frame, data.keys["partner_id"][before], then)
    frame["spread"] = model.spread(X)
    curve = risk_curve(task, model, X, probability)
    frame = frame.assign(**curve)
    frame["model_version"] = model.version
    return frame


def _check_traits(model: Model, X: pd.DataFrame) -> None:
    """Refuse a trait that training knew and nobody to score has: the source has lost a column."""
    known = {*model.vocabulary, *model.training["typical"]}
    for info in model.dictionary:
        if info.measure == "trait" and info.name in model.columns and info.name in known and X[info.name].isna().all():
            raise ModelError(
                f"the trait {info.subject} (table {info.table}) is null for all {len(X)} partners to score and was "
                "known in training; check that the source still fills it, or train without it (traits.partners)"
            )


def _won_revenue(eco: Ecosystem, data: Dataset, now: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the won revenue of the last 365 days, shape (n,), whether or not the model uses it; null without deals."""
    if _REVENUE in data.X:
        return data.X[_REVENUE][now].to_numpy()
    if not eco.has("deals", "closed_at", "amount"):
        return np.full(int(now.sum()), np.nan)
    keys = data.keys[now].reset_index(drop=True)
    revenue = build_rows(eco, keys, catalogue=Catalogue((Feature.parse(_REVENUE),)))
    return keys.merge(pd.concat([revenue.keys, revenue.X], axis=1))[_REVENUE].to_numpy()


def percentile(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``100 (average rank - 1) / (n - 1)``: 100 is the highest score; a single row is at 100."""
    if len(scores) < 2:
        return np.full(len(scores), 100.0)
    ranks = pd.Series(scores).rank(method="average").to_numpy()
    return np.asarray(100.0 * (ranks - 1.0) / (len(scores) - 1.0), dtype=np.float64)


def band(scores: npt.NDArray[np.float64], cuts: Sequence[float] = DEFAULT_CUTS) -> npt.NDArray[np.str_]:
    """Return the band of each score; a cut belongs to the band above it."""
    return np.asarray(BANDS)[np.searchsorted(np.asarray(cuts), scores, side="right")]


def trend(now: pd.Series, then: pd.Series, *, points: float = TREND_POINTS) -> pd.Series:
    """Compare percentiles with those of an earlier run of the same model.

    Parameters
    ----------
    now, then : Series of float
        Percentiles by key.
    points : float
        Change from which a score is ``rising`` or ``falling``; less is ``steady``.

    Returns
    -------
    Series of str
        In the order of `now`; ``new`` where the key was not scored then.
    """
    change = now - then.reindex(now.index)
    told = np.select([change >= points, change <= -points, change.isna()], ["rising", "falling", "new"], "steady")
    return pd.Series(told, index=now.index)


def _trend(frame: pd.DataFrame, partners: pd.Series, scores: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    then = pd.Series(percentile(scores), index=partners.to_numpy())
    return trend(frame.set_index("partner_id")["percentile"], then).to_numpy()


def risk_curve(
    task: tasks.Task, model: Model, X: pd.DataFrame, scores: npt.NDArray[np.float64]
) -> Mapping[str, npt.NDArray[np.float64]]:
    """Return P(silent by as_of + h) for each h of `RISK_DAYS`.

    Null where the silence cannot be over by then, and beyond what training followed anybody for.
    """
    furthest = 0.0 if model.hazard is None else model.hazard.grid_days[-1]
    possible = [days for days in RISK_DAYS if task.label.inactivity_days <= days <= furthest]
    curve = model.risk_curve(X, possible, scores)
    missing = np.full(len(X), np.nan)
    return {f"risk_{days}d": curve[:, possible.index(days)] if days in possible else missing for days in RISK_DAYS}


def _reasons(model: Model, data: Dataset, now: npt.NDArray[np.bool_], *, top: int) -> list[list[dict[str, object]]]:
    from partnerml.models import explain

    X = data.X[now].reset_index(drop=True)
    told = explain(model.contributions(X), X, dictionary=data.dictionary, typical=model.training["typical"], top=top)
    return [[reason.to_dict() for reason in reasons] for reasons in told]
