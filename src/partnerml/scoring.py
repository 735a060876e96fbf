"""Scores: one row a partner, calibrated, with a risk curve, a trend and reasons in words."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import outputs, tasks
from partnerml.errors import NotEnoughDataError
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model

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
    with progress.stage(f"features as of {moment:%Y-%m-%d}"):
        data = tasks.build_dataset(eco, task, as_of=[earlier, moment], catalogue=model.catalogue, labels=False)
    now, before = _at(data, moment), _at(data, earlier)
    if not now.any():
        raise NotEnoughDataError(
            f"no partner belongs to the population of {task.name} at {moment:%Y-%m-%d}: {task.words}. "
            "Check --as-of against the dates of the tables (partnerml validate shows them)"
        )
    with progress.stage(f"scores of {int(now.sum()):,} partners"):
        frame = _frame(task, model, data, now, before, moment, cuts)
    with progress.stage("reasons"):
        frame["reasons"] = pd.Series(_reasons(model, data, now, top=reasons), index=frame.index, dtype=object)
    frame = frame[list(_columns(task))].sort_values(
        ["score", "partner_id"], ascending=[False, True], ignore_index=True, kind="stable"
    )
    return Scores(task.name, moment, model.version, frame)


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
    frame["trend"] = _trend(frame, data.keys["partner_id"][before], model.predict_proba(data.X[before]))
    frame["spread"] = model.spread(X)
    curve = risk_curve(task, model, X, probability)
    frame = frame.assign(**curve)
    frame["revenue_at_risk"] = probability * X[_REVENUE].to_numpy() if _REVENUE in X else np.nan
    frame["model_version"] = model.version
    return frame


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
