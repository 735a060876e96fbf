"""Scores of fit: who has not succeeded yet, judged by what it was when it joined, and how long success will take."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from partnerml.errors import NotEnoughDataError
from partnerml.features import waiting_at
from partnerml.scoring._asked import Asked

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.models import Model


def frame(asked: Asked) -> pd.DataFrame:
    """Return the scores of recruits and of partners whose success is still open.

    Raises
    ------
    NotEnoughDataError
        If there are none.
    """
    moment = asked.moment
    with asked.progress.stage(f"traits of who waits for success at {moment:%Y-%m-%d}"):
        rows, earlier = _waiting(asked, moment), _waiting(asked, asked.earlier)
    if not len(rows):
        raise NotEnoughDataError(
            f"nobody is scored for fit at {moment:%Y-%m-%d}: no recruit, and no partner that joined less than "
            f"{asked.task.label.success_days} days before and had not succeeded. Check partners.joined_at, recruits "
            "and deals"
        )
    asked.check_traits(rows.X, who="partners and recruits", remedy="traits.partners")
    with asked.progress.stage(f"scores of {len(rows):,} partners and recruits"):
        found = asked.common(rows)
        # a score stays as at joining; the others that it is ranked among do not
        found["trend"] = asked.trend(found, earlier)
        found = found.assign(**_times(asked.model, rows.X, found["score"]))
    return asked.ranked(found, "median_days_to_success", "restricted_mean_days")


def _waiting(asked: Asked, moment: dt.datetime) -> Dataset:
    everybody = asked.rows(moment)
    waiting = waiting_at(asked.eco, asked.task.label, as_of=moment)
    return everybody.where(everybody.keys["partner_id"].isin(waiting))


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
