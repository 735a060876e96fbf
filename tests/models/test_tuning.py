"""A search: the same trials whatever broke it off, given up only where it should be, and better than chance."""

import contextlib
import math
import signal
import sqlite3
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

import partnerml.errors
from partnerml.errors import ConfigError, InternalError, MissingExtraError, SourceError
from partnerml.models import PlattCalibrator, choose_weights, metrics
from partnerml.models._crossfit import cluster_groups, cross_fitted_loss
from partnerml.models._tuning import RANDOM_TRIALS, UNPRUNED_TRIALS, Parameter, search

SPACE = (
    Parameter("trees", "learning_rate", 0.01, 0.2, 0.03),
    Parameter("trees", "num_leaves", 4, 31, 7),
    Parameter("blend", "spread", 0.0, 1.0, 0.5, log=False),
)
FOLDS = 3
TRIALS = 13


def bowl(found):
    """Losses after each fold, lowest at a rate of .1 and 20 leaves; the first fold is the easiest of all."""
    trees = {"learning_rate": 0.03, "num_leaves": 7} | dict(found.get("trees", {}))
    spread = found.get("blend", {"spread": 0.5})["spread"]
    away = math.log(trees["learning_rate"] / 0.1) ** 2 + (trees["num_leaves"] - 20) ** 2 / 100 + (spread - 0.3) ** 2
    for fold in range(FOLDS):
        yield fold + away * (1 + 0.1 * math.sin(7 * fold + 50 * away))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """An unbroken search."""
    return search(bowl, SPACE, trials=TRIALS, database=tmp_path_factory.mktemp("found") / "t.db", study="s", seed=1)


def test_the_first_trial_is_the_defaults_and_the_best_is_better(found):
    first = found.trials[0]
    assert first.settings == {}
    assert list(first.losses) == list(bowl({}))
    assert found.best.loss < first.loss
    assert len(found.trials) == TRIALS
    assert found.best.loss == min(list(bowl(trial.settings))[-1] for trial in found.trials if not trial.pruned)


def test_settings_lie_within_bounds_by_component_and_whole_numbers_stay_whole(found):
    for trial in found.trials[1:]:
        assert list(trial.settings) == ["blend", "trees"]
        assert 0.01 <= trial.settings["trees"]["learning_rate"] <= 0.2
        assert isinstance(trial.settings["trees"]["num_leaves"], int)
        assert 4 <= trial.settings["trees"]["num_leaves"] <= 31
        assert 0.0 <= trial.settings["blend"]["spread"] <= 1.0


def test_it_learns_from_its_trials(tmp_path):
    """What is proposed after the random trials lies nearer to the lowest point than they do."""
    trials = search(bowl, SPACE, trials=22, database=tmp_path / "t.db", study="s", seed=5).trials
    away = [list(bowl(trial.settings))[-1] for trial in trials]
    assert np.median(away[-8:]) < np.median(away[1 : RANDOM_TRIALS + 1]) - 0.2


def test_a_trial_is_given_up_where_its_loss_lies_above_the_median_of_those_that_ended(found):
    ended: list[list[float]] = []
    pruned = 0
    for trial in found.trials:
        losses = list(bowl(trial.settings))
        hopeless = [
            len(ended) >= UNPRUNED_TRIALS and losses[step] > statistics.median(one[step] for one in ended)
            for step in range(FOLDS - 1)
        ]
        assert trial.pruned == any(hopeless)
        assert list(trial.losses) == (losses[: hopeless.index(True) + 1] if trial.pruned else losses)
        pruned += trial.pruned
        if not trial.pruned:
            ended.append(losses)
    assert 0 < pruned < TRIALS


class Broken(Exception):
    """The process is gone."""


@settings(max_examples=2)
@given(place=st.integers(0, TRIALS - 1), fold=st.integers(0, FOLDS - 1), at_first=st.integers(1, TRIALS))
def test_broken_off_anywhere_and_taken_up_again_it_ends_the_same(found, tmp_path_factory, place, fold, at_first):
    database = tmp_path_factory.mktemp("broken") / "t.db"
    left = iter(range(place * FOLDS + fold + 1))

    def failing(chosen):
        for loss in bowl(chosen):
            if next(left, None) is None:
                raise Broken
            yield loss

    with contextlib.suppress(Broken):
        search(failing, SPACE, trials=at_first, database=database, study="s", seed=1)
    assert search(bowl, SPACE, trials=TRIALS, database=database, study="s", seed=1) == found
    # what is there already is not tried again
    shorter = search(None, SPACE, trials=5, database=database, study="s", seed=1)
    assert shorter.trials == found.trials[:5]


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from test_tuning import SPACE, TRIALS, bowl, search
calls = iter(range({calls}))
def deadly(chosen):
    for loss in bowl(chosen):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        yield loss
search(deadly, SPACE, trials=TRIALS, database={database!r}, study="s", seed=1)
"""


def test_a_killed_search_leaves_a_running_trial_that_is_failed_and_repeated(found, tmp_path):
    database = tmp_path / "t.db"
    code = KILLED.format(folder=str(Path(__file__).parent), calls=20, database=str(database))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with sqlite3.connect(database) as connection:
        states = [state for (state,) in connection.execute("SELECT state FROM trials ORDER BY number")]
    connection.close()
    assert states[-1] == "RUNNING"
    assert search(bowl, SPACE, trials=TRIALS, database=database, study="s", seed=1) == found
    with sqlite3.connect(database) as connection:
        again = [state for (state,) in connection.execute("SELECT state FROM trials ORDER BY number")]
    connection.close()
    assert again[: len(states)] == [*states[:-1], "FAIL"]
    assert len(again) == TRIALS + 1


def test_another_seed_or_study_is_another_search(found, tmp_path):
    other = search(bowl, SPACE, trials=3, database=tmp_path / "t.db", study="s", seed=2)
    assert other.trials[0] == found.trials[0]
    assert other.trials[1] != found.trials[1]
    beside = search(bowl, SPACE, trials=2, database=tmp_path / "t.db", study="z", seed=1)
    assert beside.trials == found.trials[:2]


@pytest.mark.parametrize("content", ["hello" * 1000, None])
def test_a_file_that_is_no_database_of_trials_is_named(tmp_path, content):
    database = tmp_path / "t.db"
    if content is None:
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE studies (x INT)")
        connection.close()
    else:
        database.write_text(content)
    before = database.read_bytes()
    with pytest.raises(SourceError, match=r"t\.db cannot keep the trials of tuning .* Move it away or"):
        search(bowl, SPACE, trials=2, database=database, study="s")
    assert database.read_bytes().startswith(before[:16])


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one trial, got 0"):
        search(bowl, SPACE, trials=0, database=tmp_path / "t.db", study="s")
    with pytest.raises(InternalError, match="the loss of a trial is nan"):
        search(lambda chosen: [math.nan], SPACE, trials=1, database=tmp_path / "t.db", study="s")
    with pytest.raises(ConfigError, match=r"trees\.x needs bounds above 0 that hold its default; got 0 to 1 and 0\.5"):
        Parameter("trees", "x", 0, 1, 0.5)
    with pytest.raises(ConfigError, match=r"trees\.x needs bounds that hold its default; got 0 to 1 and 2"):
        Parameter("trees", "x", 0, 1, 2, log=False)


def test_without_optuna_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r'optuna is needed for tuning .* pip install "partnerml\[tuning\]"'):
        search(bowl, SPACE, trials=1, database=tmp_path / "t.db", study="s")
    assert not list(tmp_path.iterdir())
    assert partnerml.errors.require("json", extra="tuning", purpose="tuning")


@pytest.fixture(scope="module")
def rows():
    """Two components of which one knows nothing, of 150 partners that have eight rows each."""
    generator = np.random.default_rng(0)
    truth = generator.normal(size=1200)
    y = (generator.random(1200) < expit(truth)).astype(float)
    said = pd.DataFrame({"good": 2 * truth - 1, "noise": generator.normal(size=1200)})
    return said, y, np.repeat(np.arange(150), 8)


def test_groups_keep_clusters_together_and_are_even(rows):
    clusters = np.array([f"P{number:03d}" for number in rows[2]])
    groups = cluster_groups(clusters, seed=3)
    table = pd.DataFrame({"cluster": clusters, "group": groups}).drop_duplicates()
    assert len(table) == 150
    assert table["group"].value_counts().tolist() == [50] * 3
    shuffled = np.random.default_rng(1).permutation(len(clusters))
    assert (cluster_groups(clusters[shuffled], seed=3) == groups[shuffled]).all()


def test_the_cross_fitted_loss_is_that_of_choices_that_have_not_seen_the_rows(rows):
    said, y, clusters = rows
    groups = cluster_groups(clusters)
    weights = np.random.default_rng(2).uniform(0.5, 2, len(y))
    probability = np.empty(len(y))
    for group in range(3):
        here, rest = groups == group, groups != group
        shares = choose_weights({name: said[name][rest] for name in said}, y[rest], weights[rest], spread=0.3)
        blend = sum(shares[name] * said[name].to_numpy() for name in said)
        line = PlattCalibrator.fit(blend[rest], y[rest], weights[rest])
        probability[here] = expit(line.apply(blend[here]))
    expected = metrics(y, probability, weights)["log_loss"]
    assert cross_fitted_loss(said, y, groups, spread=0.3, weights=weights) == pytest.approx(expected, abs=1e-12)


def test_the_cross_fitted_loss_ranks_and_does_not_reward_scale(rows):
    said, y, clusters = rows
    groups = cluster_groups(clusters)
    both = cross_fitted_loss(said, y, groups, spread=0.25)
    good = cross_fitted_loss(said[["good"]], y, groups, spread=0.25)
    noise = cross_fitted_loss(said[["noise"]], y, groups, spread=0.25)
    entropy = -np.mean([np.log(rate) if one else np.log1p(-rate) for rate in [y.mean()] for one in y])
    assert good < both + 0.01 < noise
    assert noise > entropy  # an honest loss: what is fitted to noise costs
    assert cross_fitted_loss(3 * said[["good"]] + 1, y, groups, spread=0.25) == pytest.approx(good, abs=1e-6)


def test_too_few_of_a_label_for_groups_fits_on_all_rows():
    y = np.zeros(40)
    y[3] = 1
    said = pd.DataFrame({"a": np.linspace(-1, 1, 40)})
    groups = cluster_groups(np.arange(40))
    line = PlattCalibrator.fit(said["a"], y)
    expected = metrics(y, expit(line.apply(said["a"])))["log_loss"]
    assert cross_fitted_loss(said, y, groups, spread=0.25) == pytest.approx(expected)
    assert logit(expit(line.apply(said["a"]))) == pytest.approx(line.apply(said["a"]))
