"""A model is made again byte for byte from what it says of itself, or the reason why not is said."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types

import numpy as np
import pandas as pd
import pytest

import partnerml
from partnerml import Ecosystem, rebuild, tasks
from partnerml.config import Config
from partnerml.errors import ModelError
from partnerml.models import Lineage, load_model
from partnerml.synthetic import simulate
from partnerml.training import Trained, _rebuild, _train
from partnerml.training._look_alike import LookAlike
from partnerml.training._peers_only import PeersOnly
from partnerml.training._recipe import configuration

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rebuilt")]

NOW = dt.datetime(2025, 8, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2025, 5, 1, tzinfo=dt.UTC)
# a few months and features: enough to train on, quick to train
TASK = tasks.churn(train_from="2024-08-01")
FEATURES = ("activity__all__active_days__30d", "activity__all__*_days__ever", "partners__country__*")


def config(*features: str) -> Config:
    return Config.from_dict({"features": {"include": list(features)}})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    world = simulate(partners=700, start="2024-01-01", months=19, seed=3)
    return {name: world.tables[name].to_pandas() for name in ("partners", "events")}


@pytest.fixture(scope="module")
def model(tables, tmp_path_factory):
    """Trained when nothing beyond `UNTIL` was there, saved and loaded."""
    known = tables["events"][tables["events"]["recorded_at"] < pd.Timestamp(UNTIL)]
    with Ecosystem.from_frames(now=NOW, config=config(*FEATURES), partners=tables["partners"], events=known) as eco:
        trained = partnerml.train(eco, TASK, until=UNTIL, seed=5)
    return load_model(trained.save(tmp_path_factory.mktemp("model") / "m"))


@pytest.fixture(scope="module")
def eco(tables):
    """The same data three months later."""
    with Ecosystem.from_frames(now=NOW, config=config(*FEATURES), **tables) as opened:
        yield opened


def test_a_model_is_made_again_byte_for_byte_though_rows_have_come_since(model, eco, tmp_path):
    again = rebuild(model, eco)
    assert again.version == model.version
    first, second = model.save(tmp_path / "first"), again.save(tmp_path / "second")
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


def test_the_model_says_what_made_it_and_what_it_goes_by(model):
    lineage = model.training["lineage"]
    assert Lineage.from_dict(lineage) == Lineage.here()
    assert lineage["trials"] == 0
    assert lineage["configuration"]["features"]["include"] == list(FEATURES)
    assert set(model.documents) >= {"importance", "dependence", "baseline"}
    drivers = model.documents["importance"]["drivers"]
    assert {name for driver in drivers for name in driver["features"]} == set(model.blend.feature_names_in_)
    assert all(driver["low"] <= driver["importance"] <= driver["high"] for driver in drivers)
    assert set(model.documents["baseline"]["features"]) == set(model.columns)
    assert model.documents["baseline"]["scores"]["rows"] == model.evaluation["rows"]


def test_changed_rows_are_told_by_the_fingerprint(model, tables):
    """Rows of one partner that were deleted at the source; that is what an erasure leaves."""
    left = tables["partners"]["partner_id"] != model_partner(tables)
    partners = tables["partners"][left]
    events = tables["events"][tables["events"]["partner_id"].isin(partners["partner_id"])]
    with (
        Ecosystem.from_frames(now=NOW, config=config(*FEATURES), partners=partners, events=events) as other,
        pytest.raises(ModelError, match=r"the data are not those .* known before 2025-05-01 has fingerprint") as raised,
    ):
        rebuild(model, other)
    assert str(model.training["data_fingerprint"]) in str(raised.value)
    assert f"not {model.training['partners']:,}" in str(raised.value)


def model_partner(tables) -> str:
    """The partner with most events before the end."""
    events = tables["events"]
    return str(events.loc[events["recorded_at"] < pd.Timestamp(UNTIL), "partner_id"].value_counts().idxmax())


def test_another_choice_of_features_is_named(model, eco):
    settings = model.training["lineage"]["configuration"]
    shorter = {**settings, "features": {**settings["features"], "include": list(FEATURES[:2])}}
    lineage = model.training["lineage"] | {"configuration": shorter}
    other = dataclasses.replace(model, training=model.training | {"lineage": lineage, "data_fingerprint": "feed"})
    recipe = stand_in("beef")
    with pytest.raises(ModelError) as raised:
        _rebuild._check_data(other, recipe, _rebuild._changed(shorter, configuration(eco)), UNTIL)
    said = str(raised.value)
    assert f"has fingerprint beef, and was feed. Here: rows 3, not {model.training['rows']:,}; partners 2, not" in said
    assert f"features.include {list(FEATURES)!r}, not {list(FEATURES[:2])!r}" in said


@dataclasses.dataclass
class _Rows:
    keys: pd.DataFrame
    fingerprint: str

    def __len__(self) -> int:
        return len(self.keys)


def stand_in(fingerprint: str) -> types.SimpleNamespace:
    """What is checked of a recipe or of what stands for one."""
    rows = _Rows(pd.DataFrame({"partner_id": ["a", "a", "b"]}), fingerprint)
    return types.SimpleNamespace(data=rows, cluster="partner_id")


def test_another_program_is_refused_before_anything_is_built(model):
    lineage = {**model.training["lineage"], "code": "0" * 12, "libraries": {"numpy": "1.0"}}
    other = dataclasses.replace(model, training={**model.training, "lineage": lineage})
    with pytest.raises(
        ModelError, match=rf"was made by another program .*: code \w+, not 0{{12}};.*numpy {np.__version__}"
    ):
        rebuild(other, None)
    without = {name: value for name, value in model.training.items() if name != "lineage"}
    with pytest.raises(ModelError, match="says nothing of what made it"):
        rebuild(dataclasses.replace(model, training=without), None)


def test_what_comes_out_otherwise_is_refused_and_named(model, eco, tables, monkeypatch):
    blunt = dataclasses.replace(model, evaluation={}).with_documents({"importance": {}})
    monkeypatch.setattr(_train, "recipe_of", lambda *a, **k: stand_in(model.training["data_fingerprint"]))
    monkeypatch.setattr(_train, "finished", lambda *a, **k: Trained(blunt, pd.DataFrame()))
    with pytest.raises(
        ModelError, match=rf"came out as {blunt.version}: .*not the same are its documents; its evaluation\. Labels as"
    ):
        rebuild(model, eco)
    strict = {"features": {"include": list(FEATURES)}, "evaluation": {"embargo_days": 30}}
    with (
        Ecosystem.from_frames(now=NOW, config=Config.from_dict(strict), **tables) as other,
        pytest.raises(
            ModelError, match=r"The configuration is another one: evaluation.embargo_days 30, not 0\. Set it back"
        ),
    ):
        rebuild(model, other)


@pytest.mark.parametrize("kind", [LookAlike, PeersOnly])
def test_what_stands_for_a_recipe_has_its_rows_checked_too(model, eco, monkeypatch, kind):
    given = {field.name: None for field in dataclasses.fields(kind)} | {"data": stand_in("beef").data}
    given["data"].keys = given["data"].keys.assign(account_id=[1, 2, 3], lead_id=[1, 2, 3])
    monkeypatch.setattr(_train, "recipe_of", lambda *a, **k: kind(**given))
    with pytest.raises(ModelError, match=r"the data are not those that model .* has fingerprint beef, and was"):
        rebuild(model, eco)
