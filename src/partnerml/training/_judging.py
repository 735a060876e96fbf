"""How a model is judged: a replay out of time, beside its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.training._recipe import Simplest

if TYPE_CHECKING:
    from partnerml.models import Backtest, Choice


def judge(
    backtest: Backtest, *, simplest: Simplest, seed: int, since: pd.Timestamp | None = None
) -> tuple[dict[str, Any], Choice, pd.DataFrame]:
    """Measure the replay beside the baselines, and choose weights and calibration for the final model on all folds.

    Parameters
    ----------
    backtest : Backtest
    simplest : Simplest
        The baseline that the model has to be better than.
    seed : int
        Of the bootstrap.
    since : Timestamp, optional
        Report the origins from this one on: earlier ones have been looked at, by tuning.

    Returns
    -------
    evaluation : dict
        JSON values.
    choice : Choice
    replay : DataFrame
        The judged rows: ``row`` (its position in the data), ``cut``, ``cluster``, ``y``, ``weight`` and ``score``, the
        probability out of time.
    """
    from partnerml.models import evaluate, fold_table, group_intervals, promotable, replay

    judged, said = replay(backtest)
    # what ships is what was judged: where no choice could be replayed, none is made. The first cut has none before it,
    # so a replay never judges every row
    replayed = not (judged | np.isnan(backtest.y)).all()
    if since is not None:
        late = (backtest.cut >= since).to_numpy()
        judged, said = judged & late, said[late[said.index]]
    y, cluster, cut = backtest.y[judged], backtest.cluster[judged], backtest.cut[judged]
    weights = None if backtest.weights is None else backtest.weights[judged]
    named = {str(name): column.to_numpy() for name, column in said.items()}
    verdict = promotable(
        y,
        named["model"],
        named["base_rate"],
        named[simplest.baseline],
        cluster,
        simplest_name=simplest.words,
        weights=weights,
        seed=seed,
    )
    groups = group_intervals(y, named["model"], cut, cluster, gap=backtest.gap, weights=weights, calibrated=replayed)
    choice = _choice(backtest, replayed=replayed)
    evaluation = {
        **evaluate(y, named, cluster, weights=weights, seed=seed),
        "verdict": verdict.to_dict(),
        "weights": dict(choice.weights),
        "replayed": replayed,
        "folds": fold_table(y, named, cut, weights=weights),
        "groups": groups.to_dict(),
    }
    return evaluation, choice, _judged_rows(backtest, judged, named["model"])


def _choice(backtest: Backtest, *, replayed: bool) -> Choice:
    """Choose weights and calibration on all folds; equal weights and no line where no choice could be replayed."""
    from partnerml.models import Choice, choose

    if not replayed:
        return Choice.equal([str(name) for name in backtest.log_odds])
    return choose(backtest, backtest.cuts, backtest.y, backtest.weights)


def _judged_rows(backtest: Backtest, judged: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": backtest.rows[judged],
            "cut": backtest.cut[judged].to_numpy(),
            "cluster": backtest.cluster[judged],
            "y": backtest.y[judged],
            "weight": 1.0 if backtest.weights is None else backtest.weights[judged],
            "score": score,
        }
    )
