from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partnerml import tasks
from partnerml.config import DEFAULT_TRAITS, FEATURE_SOURCES, Config, EvaluationConfig, describe, parse_duration
from partnerml.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def write(folder: Path, text: str) -> Path:
    path = folder / "partnerml.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tree: dict, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(tree, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "task", "days"),
    [("olist", "churn", 90), ("olist_routing", "close", 21), ("nightly", "churn", 90), ("synthetic", "churn", 90)],
)
def test_shipped_configurations_load_and_read_back(name: str, task: str, days: int) -> None:
    config = Config.load(CONFIGS / f"{name}.yaml")
    assert tasks.configured(config, task).horizon_days == days
    assert Config.from_dict(json.loads(json.dumps(config.resolved()))) == config


def test_the_smallest_configuration_has_the_documented_defaults(tmp_path: Path) -> None:
    config = Config.load(write(tmp_path, "data: {source: data/}"))
    assert config.data.source == str(tmp_path / "data")
    assert config.out == tmp_path / "out"
    assert config.spill == tmp_path / "out" / ".spill"
    assert config.tracking_uri == f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}"
    assert config.tasks is None
    assert tasks.configured(config, "churn") == tasks.churn(horizon_days=90, inactivity_days=90, active_within_days=90)
    assert config.traits.partners == DEFAULT_TRAITS
    assert config.validation.max_rejected == 0.01
    assert config.report.bands == (0.25, 0.5, 0.75)
    assert config.seed == 0
    assert config.data.lag("events") == dt.timedelta(0)
    assert config.data.timezone("events") == "UTC"


def test_an_unknown_key_is_refused_with_path_file_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: {churn: {horizon_day: 30}}")
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: tasks.churn.horizon_day: unknown key; did you mean horizon_days?")


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"data": {"sorce": "x"}}, ("data.sorce", "did you mean source")),
        ({"data": {"tables": {"deal": {"from": "x"}}}}, ("data.tables.deal", "did you mean deals")),
        (
            {"data": {"tables": {"deals": {"columns": {"outcom": "x"}}}}},
            ("data.tables.deals.columns.outcom", "did you mean outcome"),
        ),
        (
            {"data": {"tables": {"deals": [{}, {"columns": {"amount": {"exp": "x"}}}]}}},
            ("data.tables.deals.1.columns.amount.exp", "did you mean expr"),
        ),
        (
            {"data": {"tables": {"partners": {"columns": {"a__b": "x"}}}}},
            ("partners.columns.a__b", "single underscores"),
        ),
        ({"data": {"tables": {"deals": {"columns": {"amount": {}}}}}}, ("exactly one of from, const and expr",)),
        (
            {"data": {"tables": {"deals": {"columns": {"amount": {"from": "a", "default": "b"}}}}}},
            ("default belongs to values",),
        ),
        (
            {"data": {"tables": {"deals": {"columns": {"role": {"const": "a", "values": {"a": "b"}}}}}}},
            ("values needs from or expr",),
        ),
        ({"data": {"tables": {"deals": {"sql": "select 1", "where": "x"}}}}, ("move where into the SELECT",)),
        ({"data": {"tables": {"deals": []}}}, ("data.tables.deals", "null to leave the table out")),
        ({"data": {"tables": {"deals": {"lag": "2 weeks"}}}}, ("data.tables.deals.lag", "such as 2d", "'2 weeks'")),
        ({"data": {"tables": {"deals": [{"lag": "2d"}, {"lag": "3d"}]}}}, ("must agree on lag",)),
        ({"data": {"tables": {"deals": {"timezone": "Berlin"}}}}, ("'Berlin' is not an IANA time zone",)),
        ({"data": {"currency": {"to": "EUR", "rates": {"USD": -1.0}}}}, ("data.currency.rates", "USD", "above 0")),
        ({"data": {"currency": {}}}, ("data.currency.to",)),
        ({"tasks": {"churn": {"horizon_days": "90"}}}, ("tasks.churn.horizon_days", "integer", "'90'")),
        ({"tasks": {"churn": {"horizon_days": 30}}}, ("horizon_days (30) is below inactivity_days (90)",)),
        ({"traits": {"partners": "tier"}}, ("traits.partners", "'tier'")),
        ({"features": {"event_type": []}}, ("features.event_type", "did you mean event_types")),
        ({"features": {"event_types": "login"}}, ("features.event_types", "'login'")),
        ({"features": {"event_types": ["Portal Login"]}}, ("features.event_types", "'Portal Login'", "slugs")),
        ({"features": {"event_types": ["all"]}}, ("'all' is not an event type", "every type")),
        ({"features": {"event_types": [f"t{n}" for n in range(61)]}}, ("61 event types", "at most 60")),
        ({"features": {"include": []}}, ("features.include", "leaves no feature")),
        ({"features": {"include": ["event__*"]}}, ("no feature can match 'event__*'", "did you mean events?")),
        ({"features": {"exclude": ["peers__evnts__*"]}}, ("features.exclude", "'peers__evnts__*'", "events?")),
        ({"features": {"peers": {"at_least": 1}}}, ("features.peers.at_least", "2", "got 1")),
        ({"features": {"peers": {"by": ["joined_at"]}}}, ("features.peers.by", "joined_at", "type timestamp")),
        ({"features": {"peers": {"by": ["a b"]}}}, ("features.peers.by", "'a b' cannot name a trait")),
        ({"features": {"cells": "yes"}}, ("features.cells", "boolean", "'yes'")),
        ({"report": {"bands": [0.5, 0.25, 0.75]}}, ("report.bands", "increasing")),
        ({"engine": {"memory_limit": "lots"}}, ("engine.memory_limit", "2GB", "'lots'")),
        ({"engine": {"threads": 0}}, ("engine.threads",)),
        ({"validation": {"max_rejected": 2}}, ("validation.max_rejected",)),
        ({"seed": -1}, ("seed",)),
        ({"data": {"tables": {"events": {"where": "a {b} c", "sql": "x"}}}}, ("move where",)),
    ],
)
def test_what_is_wrong_is_refused_by_name(tree: dict, parts: tuple[str, ...]) -> None:
    message = refusal(tree)
    for part in parts:
        assert part in message


def test_what_is_not_there_yet_is_refused_as_such() -> None:
    assert "monitoring: not available in this version" in refusal({"monitoring": {}})


def test_the_ledger_lies_in_the_output_or_where_the_configuration_says(tmp_path: Path) -> None:
    assert Config.load(write(tmp_path, "output: out")).ledger_url == f"sqlite:///{tmp_path / 'out' / 'ledger.db'}"
    for said, found in (
        ("sqlite:///kept/ledger.db", f"sqlite:///{tmp_path / 'kept' / 'ledger.db'}"),
        ("postgresql+psycopg://me@host/leads", "postgresql+psycopg://me@host/leads"),
    ):
        assert Config.load(write(tmp_path, f"routing: {{ledger: '{said}'}}")).ledger_url == found


@pytest.mark.parametrize("task", ["churn", "fit", "close"])
def test_a_date_needs_no_quotes(task: str, tmp_path: Path) -> None:
    for text in ("2026-01-01", "'2026-01-01'"):
        config = Config.load(write(tmp_path, f"tasks: {{{task}: {{train_from: {text}}}}}"))
        assert getattr(config.tasks, task).train_from == "2026-01-01"
    assert getattr(Config.from_dict({"tasks": {task: {"train_from": dt.date(2026, 1, 1)}}}).tasks, task).train_from
    assert "'January' is not a date such as 2026-01-01" in refusal({"tasks": {task: {"train_from": "January"}}})


def test_a_listed_task_is_wanted_and_an_unlisted_one_is_not() -> None:
    assert Config.from_dict({"tasks": {"churn": None}}).tasks.churn is not None
    assert Config.from_dict({}).tasks is None
    assert Config.from_dict({"tasks": {}}).tasks.churn is None


def test_all_problems_are_named_at_once() -> None:
    message = refusal({"seed": "x", "validation": {"max_rejected": "y"}})
    assert "seed" in message
    assert "validation.max_rejected" in message


def test_paths_start_at_the_file_and_those_of_overrides_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "work").mkdir()
    text = """
    data:
      source: data/
      sources: {a: ../x/*.csv}
      tables: {deals: {columns: {vertical: {from: v, values: maps/v.csv}}}}
    mlflow: {tracking_uri: "sqlite:///store.db"}
    """
    path = write(tmp_path / "etc", text)
    monkeypatch.chdir(tmp_path / "work")
    config = Config.load(os.path.relpath(path), ["output=results", "engine.spill=/tmp/s"])
    assert config.data.source == str(tmp_path / "etc" / "data")
    assert config.data.sources["a"] == str(tmp_path / "x" / "*.csv")
    assert config.out == tmp_path / "work" / "results"
    assert config.engine.spill == "/tmp/s"
    assert config.tracking_uri == f"sqlite:///{tmp_path / 'etc' / 'store.db'}"
    blocks = config.data.tables["deals"]
    assert blocks is not None
    assert blocks[0].columns is not None
    assert blocks[0].columns["vertical"].values == str(tmp_path / "etc" / "maps" / "v.csv")


def test_features_are_all_there_unless_told_otherwise() -> None:
    features = Config.from_dict({}).features
    assert (features.event_types, features.include, features.exclude) == (None, ("*",), ())
    assert (features.peers.by, features.peers.at_least) == (("partner_type", "country"), 20)
    assert features.cells is False
    named = Config.from_dict({"features": {"event_types": ["b", "a", "b"], "peers": {"by": ["segment"]}}})
    assert named.features.event_types == ("a", "b"), "each once, in order: what is listed is a set"
    assert named.features.peers.by == ("segment",), "a trait of one's own"
    assert Config.from_dict(json.loads(json.dumps(named.resolved()))) == named


def test_patterns_choose_names_and_those_that_match_none_are_told() -> None:
    names = [
        "events__login__count__7d",
        "events__all__count__7d",
        "peers__events__all__count__7d",
        "deals__won__count__7d",
    ]
    features = Config.from_dict(
        {"features": {"include": ["events__*", "peers__*", "pair__*"], "exclude": ["events__[lm]*", "*__90d"]}}
    ).features
    assert features.choose(names) == ((names[1], names[2]), ("pair__*", "*__90d"))
    assert Config.from_dict({}).features.choose(names) == (tuple(names), ())


def test_sources_of_features_are_those_of_the_measures() -> None:
    from partnerml.features import MEASURES

    assert set(FEATURE_SOURCES) == {source for entry in MEASURES for source in entry.on}


@given(st.sampled_from(FEATURE_SOURCES), st.booleans(), st.integers(0, 20))
def test_a_pattern_that_could_match_is_never_refused(source: str, relative: bool, cut: int) -> None:
    name = f"{'peers__' if relative else ''}{source}__all__count__30d"
    for pattern in (name[:cut] + "*", name[:cut] + "[" + name[cut] + "]" + name[cut + 1 :], "*" + name[cut:]):
        features = Config.from_dict({"features": {"include": [pattern]}}).features
        assert features.choose([name])[0] == (name,)


def test_a_url_stays_as_it_is() -> None:
    assert Config.of_source("postgres://host/db").data.source == "postgres://host/db"


def test_overrides_are_yaml_and_replace() -> None:
    config = Config.from_dict(
        {"tasks": {"churn": {"horizon_days": 120}}},
        overrides=["tasks.churn.active_within_days=null", "traits.partners=[partner_type, country]", "data.source=a=b"],
    )
    assert config.tasks.churn is not None
    assert (config.tasks.churn.horizon_days, config.tasks.churn.active_within_days) == (120, None)
    assert config.traits.partners == ("partner_type", "country")
    assert config.data.source is not None
    assert config.data.source.endswith("a=b")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("seed", "KEY=VALUE is needed"),
        ("=1", "KEY=VALUE is needed"),
        ("a..b=1", "KEY=VALUE is needed"),
        ("seed.x=1", "seed is a single value"),
        ("data.tables.deals.0.from=x", "data.tables.deals is a list, so nothing lies below it"),
        ("seed=[1", "not valid YAML"),
        ("sed=1", "did you mean seed"),
    ],
)
def test_a_wrong_override_is_refused(override: str, part: str) -> None:
    assert part in refusal({"seed": 1, "data": {"tables": {"deals": [{"from": "a"}]}}}, override)


def test_yaml_keeps_norway_postal_codes_and_dates_as_text(tmp_path: Path) -> None:
    text = """
    data:
      tables:
        partners:
          columns:
            partner_id: Id
            country: {from: c, values: {Norge: NO, yes: ON}}
            postal_code: {const: 01067}
            joined_at: {const: 2024-01-01}
            capacity_per_day: {const: 5}
    """
    blocks = Config.load(write(tmp_path, text)).data.tables["partners"]
    assert blocks is not None
    columns = blocks[0].columns
    assert columns is not None
    assert columns["country"].values == {"Norge": "NO", "yes": "ON"}
    assert columns["postal_code"].const == "01067"
    assert columns["joined_at"].const == "2024-01-01"
    assert columns["capacity_per_day"].const == 5


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1", "line 1"),
        ("seed: 1\nseed: 2", "'seed' is there twice"),
        ("- a", "a mapping of keys is needed at the top"),
        ("data: {tables: {? [a] : 1}}", "unhashable key"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=r"partnerml\.yaml") as caught:
        Config.load(write(tmp_path, text))
    assert part in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"output: caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Config.load(tmp_path / "latin.yaml")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Config.from_dict({}).seed = 1  # type: ignore[misc]


def test_resolved_keeps_the_difference_between_null_and_absent() -> None:
    columns = {
        "vertical": {"from": "v", "values": {"a": "b"}, "default": None},
        "product": {"from": "v", "values": {"a": "b"}},
        "role": {"const": None},
    }
    config = Config.from_dict({"data": {"tables": {"deals": {"from": "x", "columns": columns}, "leads": None}}})
    again = Config.from_dict(config.resolved())
    assert again == config
    blocks = again.data.tables["deals"]
    assert blocks is not None
    assert blocks[0].columns is not None
    assert blocks[0].columns["vertical"].has_default
    assert not blocks[0].columns["product"].has_default
    assert again.data.tables["leads"] is None


@given(st.integers(0, 520), st.sampled_from("wdhm"))
def test_durations_read_back(number: int, unit: str) -> None:
    config = Config.from_dict({"data": {"tables": {"events": {"lag": f"{number}{unit}"}}}})
    expected = number * {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60}[unit]
    assert config.data.lag("events").total_seconds() == expected
    assert Config.from_dict(config.resolved()).data.lag("events") == config.data.lag("events")


@pytest.mark.parametrize("value", ["2", "d", "-2d", "2y", 2, None, "1.5d"])
def test_other_durations_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="such as 2d"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["3661d", "523w", "9999999999999d", f"{'9' * 5000}m", dt.timedelta.max])
def test_a_duration_of_more_than_ten_years_is_refused(value: object) -> None:
    assert parse_duration("3660d") == parse_duration("000003660 d") == dt.timedelta(days=3660)
    with pytest.raises(ValueError, match=r"a duration is at most 3660d \(ten years\); got"):
        parse_duration(value)
    if isinstance(value, str):
        with pytest.raises(ConfigError, match=r"routing\.max_snapshot_age.*a duration is at most 3660d"):
            Config.from_dict({"routing": {"max_snapshot_age": value}})


def test_every_key_is_described() -> None:
    keys = {item.key: item for item in describe()}
    assert all(item.meaning for item in keys.values())
    assert keys["tasks.churn.horizon_days"].default == "90"
    assert keys["data.tables.NAME.columns.NAME.values"].type == "mapping or text or null"
    assert keys["engine.threads"].type == "integer or null"
    assert keys["data.currency.to"].default == "required"
    assert {"data.source", "output", "seed", "mlflow.tracking_uri", "report.bands"} <= set(keys)


@pytest.mark.parametrize("name", ["tier", "left_at", "capacity_per_day"])
def test_what_tells_the_outcome_is_no_trait(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} changes with what is predicted"):
        Config.from_dict({"traits": {"partners": ["country", name]}})


def test_how_strictly_models_are_judged_can_be_asked_for():
    found = Config.from_dict({"evaluation": {"embargo_days": 30, "by_groups": 5}}).evaluation
    assert (found.embargo_days, found.by_groups) == (30, 5)
    assert Config.from_dict({}).evaluation == EvaluationConfig(embargo_days=0, by_groups=None)
    with pytest.raises(ConfigError, match=r"evaluation\.by_groups"):
        Config.from_dict({"evaluation": {"by_groups": 1}})
