"""More rows than a model learns from: who is drawn, what is built of them, and what is said of it."""

import logging

import numpy as np
import pandas as pd
import pytest
from tests.conftest import UNTIL

from partnerml import tasks
from partnerml.config import Config
from partnerml.errors import ConfigError
from partnerml.features import Catalogue, Feature, build, labels_as_known, rows_by_partner
from partnerml.training import _propensity, recipe_of
from partnerml.training._draw import Draw, draw, ones

AS_OF = ["2025-02-01", "2025-04-01"]
NAMES = (
    "activity__all__recency_days__ever",
    "deals__won__amount__365d",
    "events__all__count__90d",
    "peers__events__all__count__90d",
    "partners__country__trait__asof",
)


def drawn(rows, *, at_most=500, seed=0):
    return draw(rows, at_most=at_most, seed=seed, of="partners", task="churn")


@pytest.fixture
def rows():
    """How many rows each of 1,000 partners has: none, up to 20."""
    counts = np.random.default_rng(0).integers(0, 21, 1_000)
    return pd.Series(counts, index=[f"p{i}" for i in range(1_000)])


def test_all_rows_of_a_partner_go_together_and_there_are_no_more_than_allowed(rows):
    found = drawn(rows, at_most=2_000)
    kept = rows.loc[sorted(found.ids)].sum()
    assert 2_000 - 20 < kept <= 2_000
    assert found.told() == {"drawn_from": rows.sum()}


def test_everybody_is_trained_on_where_there_are_no_more_rows_than_allowed(rows):
    found = drawn(rows, at_most=int(rows.sum()))
    assert found == Draw()
    assert found.told() == {}


def test_who_is_drawn_depends_on_id_and_seed_alone(rows):
    assert drawn(rows).ids == drawn(rows.sample(frac=1.0, random_state=1)).ids
    assert drawn(rows).ids != drawn(rows, seed=1).ids
    others = pd.concat([rows, pd.Series(1, index=[f"q{i}" for i in range(1_000)])])
    both = drawn(others).ids
    # twice as many to draw from: who is left of them was among those drawn before
    assert {one for one in both if one.startswith("p")} < drawn(rows).ids


def test_a_larger_draw_holds_every_smaller_one(rows):
    assert drawn(rows, at_most=300).ids < drawn(rows, at_most=600).ids


def test_a_draw_does_not_move_the_rate(rows):
    label = pd.Series(np.random.default_rng(1).random(100_000) < 0.2, index=[f"p{i:06d}" for i in range(100_000)])
    kept = label.loc[sorted(drawn(pd.Series(1, index=label.index), at_most=20_000).ids)]
    assert len(kept) == 20_000
    assert abs(kept.mean() - label.mean()) < 4 * np.sqrt(0.16 / 20_000)


def test_the_log_says_how_many_rows_are_trained_on(rows, caplog):
    with caplog.at_level(logging.INFO, logger="partnerml"):
        drawn(pd.Series(1, index=rows.index), at_most=400)
    assert caplog.messages == ["churn: trained on 400 of 1,000 rows, those of partners drawn at random"]


def test_rows_of_some_are_what_they_are_among_all(eco):
    task, catalogue = tasks.churn(), Catalogue(tuple(map(Feature.parse, NAMES)))
    asked = {"population": task.population, "label": task.label, "catalogue": catalogue, "as_of": AS_OF}
    everybody = build(eco, **asked, until=UNTIL)
    some = set(sorted(everybody.keys["partner_id"].unique())[::3])
    of_some = build(eco, **asked, until=UNTIL, only=some)
    rest = everybody.where(everybody.keys["partner_id"].isin(some))
    assert 0 < len(of_some) < len(everybody)
    for part in ("keys", "y", "times"):
        compare = pd.testing.assert_series_equal if part == "y" else pd.testing.assert_frame_equal
        compare(getattr(of_some, part), getattr(rest, part))
    texts = dict.fromkeys(rest.X.select_dtypes("category"), "str")
    pd.testing.assert_frame_equal(of_some.X.astype(texts), rest.X.astype(texts))


def test_labels_of_some_are_what_they_are_among_all(eco):
    task = tasks.churn()
    asked = {"population": task.population, "label": task.label, "as_of": AS_OF, "untils": ["2025-06-01", UNTIL]}
    order = ["as_of", "partner_id"]
    for known in labels_as_known(eco, **asked):
        some = set(sorted(known["partner_id"].unique())[::3])
        break
    pairs = zip(labels_as_known(eco, **asked), labels_as_known(eco, **asked, only=some), strict=True)
    for everybody, of_some in pairs:
        rest = everybody[everybody["partner_id"].isin(some)].sort_values(order, ignore_index=True)
        pd.testing.assert_frame_equal(of_some.sort_values(order, ignore_index=True), rest)


def test_rows_are_counted_of_everybody(eco):
    task = tasks.churn()
    counts = rows_by_partner(eco, task.population, AS_OF)
    built = build(
        eco, population=task.population, label=None, catalogue=Catalogue((Feature.parse(NAMES[0]),)), as_of=AS_OF
    )
    expected = built.keys["partner_id"].value_counts().reindex(counts.index, fill_value=0)
    assert counts.to_dict() == expected.to_dict()
    assert (counts == 0).any()


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_churn_is_trained_on_the_rows_of_some(eco, recipe):
    few = recipe_of(eco, tasks.churn(max_rows=5_000), until=UNTIL, seed=1)
    assert 4_900 < len(few.data) <= 5_000 < len(recipe.data)
    assert few.facts()["drawn_from"] == len(recipe.data)
    some = set(few.data.keys["partner_id"])
    rest = recipe.data.where(recipe.data.keys["partner_id"].isin(some))
    pd.testing.assert_frame_equal(few.data.keys, rest.keys)
    pd.testing.assert_series_equal(few.data.y, rest.y)
    numbers = list(rest.X.select_dtypes("number"))
    pd.testing.assert_frame_equal(few.data.X[numbers], rest.X[numbers])
    for cut, labels in few.known.items():
        expected = recipe.known[cut][recipe.data.keys["partner_id"].isin(some)]
        pd.testing.assert_series_equal(labels, expected.reset_index(drop=True))


@pytest.mark.slow
def test_fit_is_trained_on_some_partners(eco):
    everybody = recipe_of(eco, tasks.fit(), until=UNTIL, seed=1)
    few = recipe_of(eco, tasks.fit(max_rows=1_000), until=UNTIL, seed=1)
    assert len(few.data) == 1_000 < len(everybody.data)
    assert few.facts()["drawn_from"] == len(everybody.data)
    assert "drawn_from" not in everybody.facts()


def test_accounts_are_drawn_unless_few_are_of_one_label(monkeypatch):
    class Data:
        keys = pd.DataFrame({"account_id": [f"a{i}" for i in range(2_000)]})
        labels = pd.Series(np.arange(2_000) % 20 == 0).astype(float)

        def __len__(self):
            return 2_000

    task = tasks.propensity(max_rows=1_000)
    assert _propensity._drawn(task, Data(), 0) == Draw()
    monkeypatch.setattr(_propensity, "LEAST_OF_RARER", 80)
    assert len(_propensity._drawn(task, Data(), 0).ids) == 1_600
    monkeypatch.setattr(_propensity, "LEAST_OF_RARER", 10)
    assert len(_propensity._drawn(task, Data(), 0).ids) == 1_000
    assert ones(Data(), "account_id").sum() == 2_000


@pytest.mark.parametrize("name", ["churn", "fit", "propensity"])
def test_max_rows_is_part_of_a_task_where_it_is_given(name):
    make = getattr(tasks, name)
    assert "max_rows" not in make().to_dict()
    task = make(max_rows=5_000)
    assert tasks.Task.from_dict(task.to_dict()) == task
    config = Config.from_dict({"tasks": {name: {"max_rows": 5_000}}})
    assert tasks.configured(config, name).max_rows == 5_000
    with pytest.raises(ConfigError, match="max_rows must be at least 1,000"):
        make(max_rows=999)
