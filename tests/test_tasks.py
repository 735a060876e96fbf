"""Which tasks there are, and which of them are wanted."""

import logging

import pandas as pd
import pytest

from partnerml import Ecosystem, tasks, train
from partnerml.errors import ConfigError, NotEnoughDataError

PARTNERS = pd.DataFrame({"partner_id": ["a", "b"]})
EVENTS = pd.DataFrame({"partner_id": ["a"], "occurred_at": ["2026-01-05"], "event_type": ["login"]})


def names(**frames: pd.DataFrame) -> list[str]:
    with Ecosystem.from_frames(partners=PARTNERS, **frames) as eco:
        return [task.name for task in tasks.wanted(eco)]


def test_without_a_list_those_are_wanted_whose_tables_are_there(caplog):
    with caplog.at_level(logging.INFO, logger="partnerml"):
        assert names(events=EVENTS) == ["churn"]
    told = [record.getMessage() for record in caplog.records]
    for name in ("fit", "propensity", "close"):
        assert any(text.startswith(f"{name} is left out; it lacks ") for text in told)
    assert names() == []


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_task_is_the_same_after_json(name):
    with Ecosystem.from_frames(partners=PARTNERS) as eco:
        task = tasks.configured(eco.config, name)
    assert task.name == name
    assert tasks.Task.from_dict(task.to_dict()) == task
    assert task.words
    assert task.horizon_days > 0


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("churn", "the tables events and deals"),
        ("fit", "a joining date"),
        ("propensity", "the table accounts"),
        ("close", "the table leads"),
    ],
)
def test_a_task_whose_tables_are_not_there_says_which(name, lacks):
    with (
        Ecosystem.from_frames(partners=PARTNERS) as eco,
        pytest.raises(NotEnoughDataError, match=f"{name} cannot be trained: it lacks {lacks}.*do not list the task"),
    ):
        train(eco, tasks.configured(eco.config, name))


def test_a_task_that_no_version_knows_is_refused():
    state = tasks.churn().to_dict() | {"name": "churm"}
    with pytest.raises(ConfigError, match=r"there is no task 'churm' in this version.*churn"):
        tasks.Task.from_dict(state)
