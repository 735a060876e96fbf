"""Scores of churn: a risk curve, a trend, and the revenue at risk."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.features import Catalogue, Feature, build_rows
from partnerml.progress import Progress
from partnerml.scoring._scores import TREND_DAYS, check_traits, common, percentile, ranked, trend

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model

_REVENUE = "deals__won__amount__365d"


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
    """Return the scores of the active partners.

    Raises
    ------
    NotEnoughDataError
        If nobody belongs to the population.
    """
    earlier = moment - dt.timedelta(days=TREND_DAYS)
    with progress.stage(f"features as of {moment:%Y-%m-%d}"):
        data = tasks.build_dataset(
            eco, task, as_of=[earlier, moment], catalogue=needed(model), labels=False, cells=cells
        )
    now, before = _at(data, moment), _at(data, earlier)
    if not now.any():
        raise tasks.nobody(eco, task, moment)
    rows = data.where(now)
    check_traits(model, rows.X, who="partners", remedy="traits.partners")
    with progress.stage(f"scores of {len(rows):,} partners"):
        found = common(model, rows, task=task.name, as_of=moment, cuts=cuts, top=top)
        then = model.predict_proba(data.X[before]) if before.any() else np.empty(0)
        found["trend"] = _trend(found, data.keys["partner_id"][before], then)
        curve = risk_curve(task, model, rows.X, found["score"].to_numpy())
        found = found.assign(**curve, revenue_at_risk=found["score"] * _won_revenue(eco, rows))
    return ranked(found, ["partner_id"], *curve, "revenue_at_risk")


def needed(model: Model) -> Catalogue:
    """Return what scores need of a model's catalogue: what it reads, what its reasons tell, and the won revenue."""
    catalogue = Catalogue.from_dict(model.catalogue)
    wanted = {*model.features, _REVENUE}
    return catalogue.only(name for name in catalogue.names if name in wanted)


def _at(data: Dataset, moment: dt.datetime) -> npt.NDArray[np.bool_]:
    return (data.keys["as_of"] == pd.Timestamp(moment)).to_numpy()


def _won_revenue(eco: Ecosystem, data: Dataset) -> npt.NDArray[np.float64]:
    """Return the won revenue of the last 365 days, shape (n,), whether or not the model uses it; null without deals."""
    if _REVENUE in data.X:
        return data.X[_REVENUE].to_numpy()
    if not eco.has("deals", "closed_at", "amount"):
        return np.full(len(data), np.nan)
    revenue = build_rows(eco, data.keys, catalogue=Catalogue((Feature.parse(_REVENUE),)))
    return data.keys.merge(pd.concat([revenue.keys, revenue.X], axis=1))[_REVENUE].to_numpy()


def _trend(frame: pd.DataFrame, partners: pd.Series, scores: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    then = pd.Series(percentile(scores), index=partners.to_numpy())
    return trend(frame.set_index("partner_id")["percentile"], then).to_numpy()


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
