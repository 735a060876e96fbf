"""Scores of fit: who has not succeeded yet, judged by what it was when it joined, and how long success will take."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.features import Catalogue, waiting_at
from partnerml.progress import Progress
from partnerml.scoring._scores import TREND_DAYS, check_traits, common, percentile, ranked, trend

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model


def frame(
    eco: Ecosystem,
    model: Model,
    task: tasks.Task,
    moment: dt.datetime,
    *,
    cuts: Sequence[float],
    top: int,
    cells: CellStore | None,
    progress: Progress,
) -> pd.DataFrame:
    """Return the scores of recruits and of partners whose success is still open.

    Raises
    ------
    NotEnoughDataError
        If there are none.
    """
    with progress.stage(f"traits of who waits for success at {moment:%Y-%m-%d}"):
        rows = _waiting(eco, model, task, moment)
        earlier = _waiting(eco, model, task, moment - dt.timedelta(days=TREND_DAYS))
    if not len(rows):
        raise NotEnoughDataError(
            f"nobody is scored for fit at {moment:%Y-%m-%d}: no recruit, and no partner that joined less than "
            f"{task.label.success_days} days before and had not succeeded. Check partners.joined_at, recruits and deals"
        )
    check_traits(model, rows.X, who="partners and recruits", remedy="traits.partners")
    with progress.stage(f"scores of {len(rows):,} partners and recruits"):
        found = common(model, rows, task=task.name, as_of=moment, cuts=cuts, top=top)
        found["trend"] = _trend(found, earlier, model)
        found = found.assign(**_times(model, rows.X, found["score"]))
    return ranked(found, ["partner_id"], "median_days_to_success", "restricted_mean_days")


def _waiting(eco: Ecosystem, model: Model, task: tasks.Task, moment: dt.datetime) -> Dataset:
    catalogue = Catalogue.from_dict(model.catalogue).only(model.features)
    everybody = tasks.build_dataset(eco, task, as_of=moment, catalogue=catalogue, labels=False)
    return everybody.where(everybody.keys["partner_id"].isin(waiting_at(eco, task.label, as_of=moment)))


def _trend(found: pd.DataFrame, earlier: Dataset, model: Model) -> np.ndarray:
    """Compare with the same model earlier: a score stays as at joining, the others that it is ranked among do not."""
    said = model.predict_proba(earlier.X) if len(earlier) else np.empty(0)
    then = pd.Series(percentile(said), index=earlier.keys["partner_id"].to_numpy())
    return trend(found.set_index("partner_id")["percentile"], then).to_numpy()


def _times(model: Model, X: pd.DataFrame, scores: pd.Series) -> dict[str, np.ndarray]:
    """Return the day by which success is as likely as not, and the mean days to it, none counted beyond the last."""
    from partnerml.models import median_days, restricted_mean_days

    assert model.hazard is not None, "a model of fit has a curve over time"
    days = model.hazard.grid_days
    curve = model.risk_curve(X, days, scores.to_numpy())
    return {
        "median_days_to_success": median_days(days, curve),
        "restricted_mean_days": restricted_mean_days(days, curve),
    }
