"""Scores of propensity: whether a score is a probability, and which of the best partners an account resembles."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.features import Catalogue, created_at
from partnerml.progress import Progress
from partnerml.scoring._scores import TREND_DAYS, check_traits, common, percentile, ranked, trend

if TYPE_CHECKING:
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
    """Return the scores of the accounts that are not partners.

    Raises
    ------
    NotEnoughDataError
        If there is no such account.
    """
    earlier = moment - dt.timedelta(days=TREND_DAYS)
    catalogue = Catalogue.from_dict(model.catalogue).only(model.features)
    with progress.stage(f"traits as of {moment:%Y-%m-%d}"):
        data = tasks.build_dataset(eco, task, as_of=[earlier, moment], catalogue=catalogue, labels=False)
    rows, before = data.at(moment), data.at(earlier)
    if not len(rows):
        raise NotEnoughDataError(
            f"no account belongs to the population of {task.name} at {moment:%Y-%m-%d} ({task.words}): all that are "
            "known by then are partners, are excluded, or were created later"
        )
    check_traits(model, rows.X, who="accounts", remedy="traits.accounts")
    with progress.stage(f"scores of {len(rows):,} accounts"):
        found = common(model, rows, task=task.name, as_of=moment, cuts=cuts, top=top)
        found["spread"] = spread(model, rows.X)
        then = model.predict_proba(before.X) if len(before) else np.empty(0)
        earlier_rank = pd.Series(percentile(then), index=before.keys["account_id"].to_numpy())
        found["trend"] = trend(found.set_index("account_id")["percentile"], earlier_rank).to_numpy()
        found["is_probability"] = _is_probability(eco, task, rows.keys["account_id"], moment)
    with progress.stage("nearest partners"):
        found["nearest_partners"] = pd.Series(_nearest(model, rows.X), index=found.index, dtype=object)
    return ranked(found, ["account_id"], "is_probability", "nearest_partners")


def spread(model: Model, X: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return how far the components, and the bags of one that has them, disagree about each row, shape (n,).

    The weighted standard deviation of the probabilities that each of them alone would give. It is no standard error.
    """
    aligned = model.aligned(X)
    total = sum(model.blend.weights.values())
    parts, shares = [], []
    for name, component in model.blend.components.items():
        bags = getattr(component, "by_bag", None)
        said = component.decision_function(aligned)[:, None] if bags is None else bags(aligned)
        parts.append(expit(model.blend.calibrator.apply(said * total)))
        shares += [model.blend.weights[name] / total / said.shape[1]] * said.shape[1]
    alone, share = np.concatenate(parts, axis=1), np.array(shares)
    centre = (alone * share).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt((share * (alone - centre) ** 2).sum(axis=1)))


def _is_probability(
    eco: Ecosystem, task: tasks.Task, account_id: pd.Series, moment: dt.datetime
) -> npt.NDArray[np.bool_]:
    """Tell where a score is a probability.

    With dates it is that of becoming a partner within the horizon of the creation, and where that is over, a rank.
    """
    if not task.label.dated:
        return np.full(len(account_id), task.label.class_prior is not None)
    created = created_at(eco).reindex(account_id.to_numpy())
    open_until = created + pd.Timedelta(days=task.horizon_days)
    return np.asarray((open_until > pd.Timestamp(moment)).to_numpy(), dtype=bool)


def _nearest(model: Model, X: pd.DataFrame) -> list[list[dict[str, Any]]]:
    from partnerml.models import NearestPartners

    state = model.documents.get("neighbours")
    if state is None:
        return [[] for _ in range(len(X))]
    found = NearestPartners.from_state(state).nearest(X.reset_index(drop=True))
    return [[partner.to_dict() for partner in row] for row in found]
