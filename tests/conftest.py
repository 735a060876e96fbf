"""One small synthetic ecosystem and the model trained on it, shared by the tests that need the whole path."""

import datetime as dt

import pytest

from partnerml import Ecosystem, score, tasks, train
from partnerml.synthetic import simulate

UNTIL = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
END = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def pytest_collection_modifyitems(items):
    """Begin with the tests that share a model or a session: the longest at the end would leave a worker idle."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def world():
    """1,300 partners over two years."""
    return simulate(partners=1300, start="2024-01-01", months=24, seed=3)


@pytest.fixture(scope="session")
def eco(world):
    """The records of that world."""
    with Ecosystem.from_frames(now=END, **world.tables) as opened:
        yield opened


@pytest.fixture(scope="session")
def model(eco):
    """Churn, trained on what was known before `UNTIL`."""
    return train(eco, tasks.churn(), until=UNTIL, seed=1)


@pytest.fixture(scope="session")
def scores(eco, model):
    """The scores of that model at `UNTIL`."""
    return score(eco, model, as_of=UNTIL)
