"""How a model is judged: a replay out of time, beside its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
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
    from partnerml.models import Choice, choose, evaluate, fold_table, group_intervals, promotable, replay

    judged, said = replay(backtest)
    # what ships is what was judged: where no choice could be replayed, none is made. The first cut has none before it,
    # so a replay never judges every row
    replayed = not (judged | np.isnan(backtest.y)).all()
    if since is not None:
        late = (backtest.cut >= since).to_numpy()
        judged, said = judged & late, said[late[said.index]]
    y, cluster, cut = backtest.y[judged], backtest.cluster[judged], backtest.cut[judged]
    weights = None if backtest.weights is None else backtest.weights[judged]
    verdict = promotable(
        y,
        said["model"].to_numpy(),
        said["base_rate"].to_numpy(),
        said[simplest.baseline].to_numpy(),
        cluster,
        simplest_name=simplest.words,
        weights=weights,
        seed=seed,
    )
    named = {str(name): column.to_numpy() for name, column in said.items()}
    report = evaluate(y, named, cluster, weights=weights, seed=seed)
    groups = group_intervals(y, named["model"], cut, cluster, gap=backtest.gap, weights=weights, calibrated=replayed)
    choice = (
        choose(backtest, backtest.cuts, backtest.y, backtest.weights)
        if replayed
        else Choice.equal([str(name) for name in backtest.log_odds])
    )
    evaluation = {
        **report,
        "verdict": verdict.to_dict(),
        "weights": dict(choice.weights),
        "replayed": replayed,
        "folds": fold_table(y, named, cut, weights=weights),
        "groups": groups.to_dict(),
    }
    table = pd.DataFrame(
        {
            "row": backtest.rows[judged],
            "cut": cut.to_numpy(),
            "cluster": cluster,
            "y": y,
            "weight": 1.0 if weights is None else weights,
            "score": said["model"].to_numpy(),
        }
    )
    return evaluation, choice, table
