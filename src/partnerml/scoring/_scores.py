"""Scores as a value, and the columns that all tasks have alike."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import outputs
from partnerml.errors import ConfigError, ModelError
from partnerml.moments import is_midnight

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.models import Model

BANDS = ("low", "medium", "high", "critical")
DEFAULT_CUTS = (0.25, 0.5, 0.75)
TREND_DAYS = 30
TREND_POINTS = 5.0

# of every task, in this order, between the key and what the task adds; model_version comes last
COMMON = ("as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread")


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
        One row for each key, highest score first; the columns are described on the docs page of the scores.
    key : tuple of str
        The columns that identify a row.
    """

    task: str
    as_of: dt.datetime
    model_version: str
    frame: pd.DataFrame
    key: tuple[str, ...] = ("partner_id",)

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
        outputs.write_parquet(self.frame.sort_values(list(self.key), ignore_index=True), path)
        return path


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


def reasons(model: Model, X: pd.DataFrame, dictionary: Sequence[Any], *, top: int) -> list[list[dict[str, object]]]:
    """Return the reasons of each row: what moved its score most, in words.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, p)
    dictionary : sequence of FeatureInfo
        What the columns mean.
    top : int
        How many reasons to tell.
    """
    from partnerml.models import explain

    told = explain(model.contributions(X), X, dictionary=dictionary, typical=model.training["typical"], top=top)
    return [[reason.to_dict() for reason in row] for row in told]


def common(
    model: Model, data: Dataset, *, task: str, as_of: dt.datetime, cuts: Sequence[float], top: int
) -> pd.DataFrame:
    """Return the key and the columns of every task for some rows, without ``trend``, in the order of the rows.

    Parameters
    ----------
    model : Model
    data : Dataset
        The rows to score.
    task : str
    as_of : datetime
        When they are scored (UTC).
    cuts : sequence of three floats
        Where the bands begin.
    top : int
        How many reasons to tell.
    """
    X = data.X.reset_index(drop=True)
    probability = model.predict_proba(X)
    frame = data.keys.drop(columns="as_of").reset_index(drop=True)
    frame["as_of"] = pd.Timestamp(as_of)
    frame["task"] = task
    frame["score"] = probability
    frame["percentile"] = percentile(probability)
    frame["band"] = band(probability, cuts)
    frame["reasons"] = pd.Series(reasons(model, X, data.dictionary, top=top), index=frame.index, dtype=object)
    frame["spread"] = model.spread(X)
    frame["model_version"] = model.version
    return frame


def ranked(frame: pd.DataFrame, key: Sequence[str], *extra: str) -> pd.DataFrame:
    """Return the columns of a task in their order, rows with the highest score first.

    Parameters
    ----------
    frame : DataFrame
    key : sequence of str
        The columns that identify a row, without ``as_of``.
    *extra : str
        The columns that the task adds.
    """
    columns = [*key, *COMMON, *extra, "model_version"]
    order = ["score", *key]
    return frame[columns].sort_values(order, ascending=[False, *(True for _ in key)], ignore_index=True, kind="stable")


def check_traits(model: Model, X: pd.DataFrame, *, who: str, remedy: str) -> None:
    """Refuse a trait that training knew and no row to score has: the source has lost a column.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, p)
    who : str
        What a row is, such as ``partners``.
    remedy : str
        The key of the configuration that names the traits, such as ``traits.partners``.
    """
    known = {*model.vocabulary, *model.training["typical"]}
    for info in model.dictionary:
        if info.measure == "trait" and info.name in model.columns and info.name in known and X[info.name].isna().all():
            raise ModelError(
                f"the trait {info.subject} (table {info.table}) is null for all {len(X)} {who} to score and was "
                f"known in training; check that the source still fills it, or train without it ({remedy})"
            )
