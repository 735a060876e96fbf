"""One small synthetic ecosystem and the model trained on it, shared by the tests that need the whole path."""

import datetime as dt
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Workers share the processors: a thread that waits for another lets go of its own instead of spinning, which takes
# many times as long where there are more threads than processors. Read when the libraries load, so before they do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from threadpoolctl import threadpool_limits

from partnerml import Ecosystem, score, tasks
from partnerml.config import Config
from partnerml.progress import Progress
from partnerml.synthetic import simulate
from partnerml.training import _train, recipe_of
from partnerml.training._recipe import Recipe
from partnerml.training._train import finished

UNTIL = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
END = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# No test is about time: the processors of whoever runs them are what they are
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

FOLDERS = pytest.StashKey[dict[Path, pytest.Dir]]()


def pytest_collection_modifyitems(items):
    """Begin with the tests that share a model or a session: the longest at the end would leave a worker idle."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path, parent):
    """Keep one node for each folder: pytest 9.1 ties the fixtures of a conftest to the first, and makes another for
    each file beside the folder that the command names."""
    nodes = parent.session.stash.setdefault(FOLDERS, {})
    if path not in nodes:
        nodes[path] = pytest.Dir.from_parent(parent, path=path)
    return nodes[path]


@pytest.fixture(scope="session")
def world():
    """1,300 partners over two years."""
    return simulate(partners=1300, start="2024-01-01", months=24, seed=3)


@pytest.fixture(scope="session")
def eco(world):
    """The records of that world; two threads look at them."""
    config = Config.of_source(None, ["engine.threads=2"])
    with Ecosystem.from_frames(now=END, config=config, **world.tables) as opened:
        yield opened


@pytest.fixture(scope="session")
def recipe(eco):
    """What churn is trained by, from what was known before `UNTIL`."""
    return recipe_of(eco, tasks.churn(), until=UNTIL, seed=1)


@pytest.fixture(scope="session")
def backtest(recipe):
    """The backtest of that recipe."""
    with threadpool_limits(2):
        return recipe.backtest()


@pytest.fixture(scope="session")
def trained(eco, recipe, backtest):
    """What `train` makes of that recipe, with the backtest that there is already."""
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(2):
        patch.setattr(Recipe, "backtest", lambda self, progress=None: backtest)
        return finished(recipe, eco, trials=0, progress=Progress.silent())


@pytest.fixture(scope="session")
def model(trained):
    """Churn, trained on what was known before `UNTIL`."""
    return trained.model


@pytest.fixture(scope="session")
def scores(eco, model):
    """The scores of that model at `UNTIL`."""
    return score(eco, model, as_of=UNTIL)


@pytest.fixture(scope="session")
def models_made():
    """Models that `shared_train` made, by what they were made from."""
    return {}


@pytest.fixture(scope="module")
def shared_train(models_made):
    """Train the same thing once: the demo, the commands and the pages of the docs share their models."""
    real = _train.trained

    def trained(eco, task, *, until, trials, seed, progress):
        rows = {name: int(eco.table(name).count().execute()) for name in eco.tables}
        key = f"{rows} {until} {task.to_dict()} {trials} {seed}"
        if key not in models_made:
            models_made[key] = real(eco, task, until=until, trials=trials, seed=seed, progress=progress)
        return models_made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train, "trained", trained)
        yield
