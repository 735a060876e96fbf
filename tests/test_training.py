"""Training, end to end: honest evaluation, no leak, the same bytes again, and refusals that say what is missing."""

import dataclasses
import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.conftest import END, FOLDS, UNTIL

from partnerml import Ecosystem, outputs, tasks, train
from partnerml.errors import DataError, NotEnoughDataError
from partnerml.models import Registry, load_model, metrics
from partnerml.training import _recipe, _train, check_traits, judge, run, select_columns

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trained")]


SCRIPT = """
import sys
from partnerml import Ecosystem, score, tasks, train
from partnerml.training import _recipe
_recipe.MAX_FOLDS = int(sys.argv[3])
with Ecosystem.open(sys.argv[1], overrides=["engine.threads=1"]) as eco:
    model = train(eco, tasks.churn(), until="2025-09-01", seed=1)
    model.save(sys.argv[2] + "/model")
    score(eco, model, as_of="2025-09-01").write(sys.argv[2])
"""


@pytest.fixture(scope="module")
def elsewhere(world, tmp_path_factory):
    """What another process writes, with one thread, from files of a world that went on otherwise after `UNTIL`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    data = folder / "data"
    data.mkdir()
    for name, table in _went_on_otherwise(world).items():
        pq.write_table(outputs.arrow_table(table), data / f"{name}.parquet")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    arguments = [str(data), str(folder / "out"), str(FOLDS)]
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], env=environment, check=True)
    return folder / "out"


def _went_on_otherwise(world):
    """Change whatever is recorded at or after `UNTIL`."""
    cut = pd.Timestamp(UNTIL)
    tables = {name: table.to_pandas() for name, table in world.tables.items()}
    events = tables["events"]
    late = events["recorded_at"] >= cut
    assert late.any()
    tables["events"] = events[~late | (np.arange(len(events)) % 3 == 0)]
    deals = tables["deals"]
    closing = deals["closed_recorded_at"] >= cut
    deals.loc[closing & (deals["outcome"] == "won"), "outcome"] = "lost"
    deals.loc[closing, "amount"] = 1.0
    tables["deals"] = deals[~(deals["recorded_at"] >= cut)]
    kept = set(tables["deals"]["deal_id"])
    for name in ("deal_partners", "deal_history"):
        tables[name] = tables[name][tables[name]["deal_id"].isin(kept)]
    del tables["assignments"], tables["leads"]
    return tables


def test_the_model_is_judged_beside_every_baseline(model):
    said = model.evaluation["models"]
    assert set(said) == {"model", "trees", "logistic", "bgnbd", "base_rate", "recency"}
    ours, base = said["model"], said["base_rate"]
    assert ours["brier"]["estimate"] < base["brier"]["estimate"] - 0.005
    assert ours["log_loss"]["estimate"] < base["log_loss"]["estimate"] - 0.02
    assert abs(ours["mean_prediction"]["estimate"] - ours["base_rate"]["estimate"]) < 0.03
    assert ours["auc"]["low"] < ours["auc"]["estimate"] < ours["auc"]["high"]
    assert model.evaluation["verdict"]["promoted"]
    assert sum(model.evaluation["weights"].values()) == pytest.approx(1.0)


def test_scores_hold_up_on_months_that_training_never_saw(eco, world, model):
    later = [dt.datetime(2025, 9, 1, tzinfo=dt.UTC), dt.datetime(2025, 10, 1, tzinfo=dt.UTC)]
    rows = tasks.build_dataset(eco, tasks.churn(), as_of=later, until=END, catalogue=model.catalogue)
    found = metrics(rows.y.to_numpy(), model.predict_proba(rows.X))
    oracle = pd.concat([world.truth.churn_probability(as_of) for as_of in later])
    assert len(oracle) == len(rows)
    best = metrics(rows.y.to_numpy(), oracle.to_numpy())
    constant = metrics(rows.y.to_numpy(), np.full(len(rows), rows.y.mean()))
    # 900 rows: an AUC has a standard error of .02 here, so the bar of the benchmark (.02) is not asked for
    assert found["auc"] > best["auc"] - 0.05
    assert found["brier"] < constant["brier"]
    assert abs(found["mean_prediction"] - rows.y.mean()) < 0.04


def test_shuffled_labels_hold_no_signal_and_are_not_promoted(recipe, monkeypatch):
    monkeypatch.setattr(_recipe, "MAX_FOLDS", FOLDS)
    labels = recipe.data.y.to_numpy(copy=True)
    np.random.default_rng(0).shuffle(labels)
    y = pd.Series(labels, index=recipe.data.y.index)
    data = dataclasses.replace(recipe.data, y=y)
    shuffled = dataclasses.replace(recipe, data=data, known=dict.fromkeys(recipe.known, y))
    evaluation, _, _ = judge(shuffled.backtest(), simplest=recipe.simplest, seed=0)
    assert not evaluation["verdict"]["promoted"]
    assert evaluation["verdict"]["reason"].startswith("no signal")


def test_training_sees_nothing_from_until_on(elsewhere, model):
    """Whatever is recorded at or after `until` may change: the model stays the same, byte for byte."""
    assert load_model(elsewhere / "model").version == model.version


def test_columns_that_say_nothing_new_are_left_out():
    X = pd.DataFrame(
        {
            "a": [1.0, 2.0, np.nan],
            "constant": [5.0, 5.0, 5.0],
            "twin": [1.0, 2.0, np.nan],
            "empty": [np.nan] * 3,
            "text": pd.Categorical(["x", "y", "x"]),
            "b": [2.0, 1.0, np.nan],
        }
    )
    assert select_columns(X) == (["a", "text", "b"], {"twin": "a"})


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("2024-03-01", "no month whose labels are mature"),
        ("2024-08-15", "needs 2 snapshots to validate on"),
    ],
)
def test_too_short_a_history_says_how_much_is_needed(eco, until, message):
    with pytest.raises(NotEnoughDataError, match=message):
        train(eco, tasks.churn(), until=until)


def test_too_few_of_a_label_says_how_many_are_needed(world):
    few = set(world.tables["partners"]["partner_id"].to_pylist()[:60])
    tables = {
        name: world.tables[name].filter(pc.is_in(world.tables[name]["partner_id"], pa.array(sorted(few))))
        for name in ("partners", "events")
    }
    with (
        Ecosystem.from_frames(now=END, **tables) as small,
        pytest.raises(
            NotEnoughDataError, match=r"at least 50 rows of each label that were mature by then; \d+ snapshots from"
        ),
    ):
        train(small, tasks.churn(), until=UNTIL)


def test_a_saved_model_predicts_the_same_and_tells_what_it_was_trained_on(model, eco, tmp_path):
    loaded = load_model(model.save(tmp_path / "model"))
    rows = tasks.build_dataset(eco, tasks.churn(), as_of=UNTIL, catalogue=loaded.catalogue, labels=False)
    assert loaded.version == model.version
    assert (loaded.predict_proba(rows.X) == model.predict_proba(rows.X)).all()
    assert loaded.training["until"] == UNTIL.isoformat()
    assert loaded.training["data_fingerprint"]
    assert tasks.Task.from_dict(loaded.task) == tasks.churn()


def test_same_seed_same_bytes_with_one_thread_and_with_two(elsewhere, model, scores, tmp_path):
    model.save(tmp_path / "model")
    scores.write(tmp_path)
    written = [
        {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (elsewhere, tmp_path)
    ]
    assert len(written[0]) > 5
    assert written[0] == written[1]


def test_run_registers_and_promotes(world, trained, tmp_path, monkeypatch):
    data = world.write(tmp_path / "data")
    out = tmp_path / "out"
    monkeypatch.setattr(_train, "trained", lambda *args, **settings: trained)
    with Ecosystem.open(data, overrides=[f"output={out}"]) as opened:
        task = tasks.configured(opened.config, "churn")
        outcome = run(opened, task, until=UNTIL, seed=1)
        assert outcome.promoted
        champion = Registry(opened.config.tracking_uri).champion("churn")
    assert champion.version == outcome.version
    again = load_model("models:/churn@champion", store=out / "mlflow.db")
    assert again.version == outcome.version
    assert Path(out / "mlartifacts").is_dir()


def test_beyond_the_end_of_the_data_nothing_is_trained(eco):
    with pytest.raises(NotEnoughDataError, match="the data end on 2026-01-01, 90 days before 2026-04-01"):
        train(eco, tasks.churn(), until="2026-04-01")


def test_a_trait_that_is_filled_for_one_label_only_is_refused(recipe):
    name = "partners__country__trait__asof"
    X = recipe.data.X.copy()
    X[name] = X[name].where(recipe.data.y == 1)
    with pytest.raises(DataError, match=r"the trait country .* is null in all .* rows of label 0"):
        check_traits(dataclasses.replace(recipe.data, X=X))
    check_traits(recipe.data)


def test_who_has_left_still_teaches_how_activity_ends(world):
    """BG/NBD must see the drop-outs: a leaving date takes nobody out of what it is fitted on."""
    moment = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
    tables = {name: world.tables[name] for name in ("events", "deals")}
    partners = world.tables["partners"]
    assert pc.sum(pc.is_valid(partners["left_at"])).as_py() > 20
    found = []
    for table in (partners, partners.drop_columns(["left_at"])):
        with Ecosystem.from_frames(now=END, partners=table, **tables) as opened:
            found.append(tasks.transactions(opened, tasks.churn(), [moment]))
    pd.testing.assert_frame_equal(found[0].X, found[1].X)


def test_labels_of_a_fold_are_those_known_at_its_cut(eco, recipe):
    cut = min(recipe.known)
    known = recipe.known[cut]
    mature = recipe.data.as_of + pd.Timedelta(days=90) <= cut
    assert known[mature].notna().all()
    assert known[~mature].isna().all()
    assert (known[mature] >= recipe.data.y[mature]).all()  # what is recorded late can only undo a silence


def test_a_history_too_short_to_replay_ships_what_was_judged(recipe, backtest):
    first = backtest.cuts[:1]
    rows = backtest.at(first)
    short = dataclasses.replace(
        backtest, rows=backtest.rows[rows], cut=backtest.cut[rows].reset_index(drop=True), y=backtest.y[rows],
        as_of=backtest.as_of[rows].reset_index(drop=True), cluster=backtest.cluster[rows],
        log_odds=backtest.log_odds[rows].reset_index(drop=True),
        baselines=backtest.baselines[rows].reset_index(drop=True),
        known={cut: labels[rows] for cut, labels in backtest.known.items()},
    )  # fmt: skip
    evaluation, choice, _ = judge(short, simplest=recipe.simplest, seed=0)
    assert not evaluation["replayed"]
    assert set(choice.weights.values()) == {1 / 3}
    assert choice.calibration.slope == 1.0
