"""Scores of propensity: whether a score is a probability, and which of the best partners an account resembles."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.errors import NotEnoughDataError
from partnerml.features import created_at
from partnerml.scoring._asked import Asked

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model


def frame(asked: Asked) -> pd.DataFrame:
    """Return the scores of the accounts that are not partners.

    Raises
    ------
    NotEnoughDataError
        If there is no such account.
    """
    moment = asked.moment
    with asked.progress.stage(f"traits as of {moment:%Y-%m-%d}"):
        data = asked.rows(asked.earlier, moment)
    rows = data.at(moment)
    if not len(rows):
        raise NotEnoughDataError(
            f"no account belongs to the population of {asked.task.name} at {moment:%Y-%m-%d} ({asked.task.words}): all "
            "that are known by then are partners, are excluded, or were created later"
        )
    asked.check_traits(rows.X, who="accounts", remedy="traits.accounts")
    with asked.progress.stage(f"scores of {len(rows):,} accounts"):
        found = asked.common(rows)
        found["trend"] = asked.trend(found, data.at(asked.earlier))
        found["is_probability"] = _is_probability(asked.eco, asked.task, rows.keys["account_id"], moment)
    with asked.progress.stage("nearest partners"):
        found["nearest_partners"] = pd.Series(_nearest(asked.model, rows.X), index=found.index, dtype=object)
    return asked.ranked(found, "is_probability", "nearest_partners")


def _is_probability(
    eco: Ecosystem, task: tasks.Task, account_id: pd.Series, moment: dt.datetime
) -> npt.NDArray[np.bool_]:
    """Tell where a score is a probability.

    With dates it is that of becoming a partner within the horizon of the creation, as seen at the creation, and where
    that is over, a rank.
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
