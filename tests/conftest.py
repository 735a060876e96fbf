"""One small synthetic ecosystem and the model trained on it, shared by the tests that need the whole path."""

import datetime as dt
import functools
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Workers share the processors, and few rows keep one thread busy: more of them would wait for each other. A thread that
# waits all the same lets go of its processor instead of spinning, which takes many times as long where there are more
# threads than processors. Read when the libraries load, so before they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from threadpoolctl import threadpool_limits

from partnerml import Ecosystem, score, tasks
from partnerml.config import Config
from partnerml.ecosystem._engine import EmbeddedDuckDB
from partnerml.models import Registry
from partnerml.progress import Progress
from partnerml.synthetic import simulate
from partnerml.training import _recipe, _train, recipe_of
from partnerml.training._recipe import Recipe
from partnerml.training._train import finished

UNTIL = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
END = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# of a backtest: half of the usual, to be done in half the time
FOLDS = 4
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


class Failures:
    """Tells what failed at once, the same once: a run that is cut short would not."""

    def __init__(self, config):
        self.written = config.pluginmanager.getplugin("terminalreporter")
        self.told = set()

    def pytest_runtest_logreport(self, report):
        if report.failed and report.longreprtext not in self.told:
            self.told.add(report.longreprtext)
            self.written.ensure_newline()
            self.written.write_line(f"{report.nodeid}, {report.when}:\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Failures(config))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """An engine has one thread where nothing says otherwise; see the top of this file."""
    connect = EmbeddedDuckDB.do_connect

    def do_connect(self, *args, **kwargs):
        connect(self, *args, **{"threads": 1, **kwargs})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedDuckDB, "do_connect", do_connect)
        yield


@pytest.fixture(scope="session", autouse=True)
def stores_are_copied(tmp_path_factory):
    """A new store of models is a copy of the first: MLflow takes seconds for what it does to an empty file."""
    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    make = Registry.__dict__["_client"].func

    def client(self):
        new = self._file is not None and not self._file.exists()
        if new and empty.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty, self._file)
        made = make(self)
        if new and not empty.exists():
            made.search_experiments(max_results=1)  # which makes the tables
            shutil.copyfile(self._file, empty)
        return made

    prop = functools.cached_property(client)
    prop.__set_name__(Registry, "_client")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "_client", prop)
        yield


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
    """The backtest of that recipe, with two threads: another process finds the same with one."""
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(2):
        patch.setattr(_recipe, "MAX_FOLDS", FOLDS)
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
