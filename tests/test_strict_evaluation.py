"""What the evaluation of a trained model holds beside its metrics, and the stricter protocols, plugged in."""

import dataclasses
import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from partnerml.models import GroupIntervals, LogLogistic, figures, replay

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trained")]


def test_a_model_knows_intervals_of_groups_of_its_scores(model, scores, trained):
    found = GroupIntervals.from_dict(model.evaluation["groups"])
    assert sum(group.rows for group in found.groups) == model.evaluation["rows"]
    low, high = model.interval(scores.frame["score"])
    assert ((low >= 0) & (low < high) & (high <= 1)).all()
    table = found.table(scores.frame["score"])
    assert table["rows"].sum() == len(scores.frame)
    group = found.group_of(scores.frame["score"])
    assert table["low"].tolist() == pytest.approx([low[group == place].mean() for place in np.unique(group)])
    # what was observed behind them is what the replay says
    before = found.group_of(trained.replay["score"])
    expected = trained.replay.groupby(before)["y"].mean().tolist()
    assert [group.observed for group in found.groups] == pytest.approx(expected)


def test_a_model_is_evaluated_by_segment(model, trained):
    table = pd.DataFrame(model.evaluation["segments"])
    assert {"partner_type", "country", "size", "tenure"} <= set(table["segment"])
    assert (table.groupby("segment")["rows"].sum() == len(trained.replay)).all()
    ours = table[table["segment"] == "country"]
    mean = np.average(ours["mean_prediction"], weights=ours["rows"])
    assert mean == pytest.approx(trained.replay["score"].mean())
    assert json.loads(json.dumps(model.evaluation)) == model.evaluation
    assert {"groups", "segments", "folds_lift"} <= set(figures(model.evaluation))


def test_folds_tell_the_precision_of_short_lists(model, trained):
    replayed = trained.replay
    for row in model.evaluation["folds"]:
        if row["model"] == "model":
            fold = replayed[replayed["cut"] == pd.Timestamp(row["as_of"])].sort_values("score", ascending=False)
            assert row["rows"] == len(fold)
            assert row["precision_at_50"] == pytest.approx(fold["y"].head(50).mean(), abs=0.021)


def test_partners_are_judged_by_models_that_never_saw_them_and_not_the_days_before(recipe):
    partner, moments = recipe.data.keys["partner_id"], recipe.data.as_of
    columns = recipe.columns[:6]
    seen = []

    def learn(X, y, cut):
        seen.append((cut, set(partner[X.index]), moments[X.index].max()))
        return LogLogistic().fit(X[columns], y)

    embargo = dt.timedelta(days=20)
    strict = dataclasses.replace(
        recipe,
        make=lambda settings: {"logistic": learn},
        baselines={"base_rate": recipe.baselines["base_rate"]},
        folds=recipe.folds[-5:],
        by_groups=2,
        embargo=embargo,
    )
    tested = strict.backtest()
    wanted = np.sort(np.concatenate([fold.test for fold in recipe.folds[-5:]]))
    assert np.sort(tested.rows).tolist() == wanted.tolist()
    assert len(seen) == 10
    for start in range(0, 10, 2):
        (cut, one, _), (same, other, _) = seen[start : start + 2]
        assert cut == same
        assert not one & other
    # calibration keeps the distance, too
    assert tested.gap == pd.Timedelta(recipe.gap + embargo)
    judged, _ = replay(tested)
    assert tested.cut[judged].min() >= tested.cuts[0] + tested.gap
