"""Scores as a value, and how a score is placed among the others: percentile, band, trend."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import outputs
from partnerml.errors import ConfigError
from partnerml.moments import is_midnight

BANDS = ("low", "medium", "high", "critical")
DEFAULT_CUTS = (0.25, 0.5, 0.75)
TREND_DAYS = 30
TREND_POINTS = 5.0


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
