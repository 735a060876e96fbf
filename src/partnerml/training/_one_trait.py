"""The simplest ranking of what has traits alone: one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit

if TYPE_CHECKING:
    from partnerml.models import Learner

# enough to tell which trait says most
_ROWS = 5_000
WORDS = "its best single trait alone"


def one_trait(columns: Sequence[str]) -> Learner:
    """Return what learns from the one column that says most about the label.

    Which it is, is found on the training rows: fitted on every other one, judged by the log loss on the rest.
    """

    def learn(X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Any:
        from partnerml.models import LogLogistic

        return LogLogistic(C=1.0).fit(X[[best_trait(X, y, columns)]], y)

    return learn


def best_trait(X: pd.DataFrame, y: pd.Series, columns: Sequence[str]) -> str:
    """Return the column that says most about the label: fitted on every other row, judged on the rest.

    Parameters
    ----------
    X : DataFrame of shape (n, at least len(columns))
    y : Series of shape (n,)
        Labels 0 or 1, at least two of each.
    columns : sequence of str
    """
    from partnerml.models import LogLogistic, metrics

    places = np.unique(np.linspace(0, len(X) - 1, min(len(X), _ROWS)).astype(int))
    # every other one within each label, so that both sides hold both
    labels = y.to_numpy()[places]
    rank = np.empty(len(places), dtype=int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(int((labels == label).sum()))
    fitted, judged = places[rank % 2 == 0], places[rank % 2 == 1]
    losses = {}
    for name in columns:
        model = LogLogistic(C=1.0).fit(X[[name]].iloc[fitted], y.iloc[fitted])
        said = expit(model.decision_function(X[[name]].iloc[judged]))
        losses[name] = metrics(y.iloc[judged], said)["log_loss"]
    return min(losses, key=lambda name: (losses[name], name))
