"""Scores of churn: a risk curve, a trend, and the revenue at risk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.features import Catalogue, Feature, build_rows
from partnerml.scoring._asked import Asked, needed_of

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model

_REVENUE = "deals__won__amount__365d"


def frame(asked: Asked) -> pd.DataFrame:
    """Return the scores of the active partners.

    Raises
    ------
    NotEnoughDataError
        If nobody belongs to the population.
    """
    moment = asked.moment
    with asked.progress.stage(f"features as of {moment:%Y-%m-%d}"):
        data = asked.rows(asked.earlier, moment, catalogue=needed(asked.model))
    rows = data.at(moment)
    if not len(rows):
        raise tasks.nobody(asked.eco, asked.task, moment)
    asked.check_traits(rows.X, who="partners", remedy="traits.partners")
    with asked.progress.stage(f"scores of {len(rows):,} partners"):
        found = asked.common(rows)
        found["trend"] = asked.trend(found, data.at(asked.earlier))
        curve = risk_curve(asked.task, asked.model, rows.X, found["score"].to_numpy())
        found = found.assign(**curve, revenue_at_risk=found["score"] * _won_revenue(asked.eco, rows))
    return asked.ranked(found, *curve, "revenue_at_risk")


def needed(model: Model) -> Catalogue:
    """Return what scores need of a model's catalogue: what it reads, what its reasons tell, and the won revenue."""
    return needed_of(model, _REVENUE)


def _won_revenue(eco: Ecosystem, data: Dataset) -> npt.NDArray[np.float64]:
    """Return the won revenue of the last 365 days, shape (n,), whether or not the model uses it; null without deals."""
    if _REVENUE in data.X:
        return data.X[_REVENUE].to_numpy()
    if not eco.has("deals", "closed_at", "amount"):
        return np.full(len(data), np.nan)
    revenue = build_rows(eco, data.keys, catalogue=Catalogue((Feature.parse(_REVENUE),)))
    return data.keys.merge(pd.concat([revenue.keys, revenue.X], axis=1))[_REVENUE].to_numpy()


def risk_curve(
    task: tasks.Task, model: Model, X: pd.DataFrame, scores: npt.NDArray[np.float64]
) -> Mapping[str, npt.NDArray[np.float64]]:
    """Return P(silent by as_of + h) for each h of `tasks.RISK_DAYS`.

    Null where the silence cannot be over by then, and beyond what training followed anybody for.
    """
    furthest = 0.0 if model.hazard is None else model.hazard.grid_days[-1]
    possible = [days for days in tasks.RISK_DAYS if task.label.inactivity_days <= days <= furthest]
    curve = model.risk_curve(X, possible, scores)
    missing = np.full(len(X), np.nan)
    return {
        f"risk_{days}d": curve[:, possible.index(days)] if days in possible else missing for days in tasks.RISK_DAYS
    }
