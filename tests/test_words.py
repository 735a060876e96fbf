"""No reason and no card names a feature that its reader cannot understand: every feature of every task has words."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from partnerml import Ecosystem
from partnerml.config import Config
from partnerml.features import Catalogue, default_catalogue, dictionary
from partnerml.models import explain
from partnerml.synthetic import simulate

BEFORE = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
TASKS = ("churn", "fit", "propensity", "close")
# traits that nobody has written words for by hand
CONFIG = {
    "traits": {
        "partners": ["partner_type", "country", "latitude", "verticals", "languages", "head_count", "founded_at"],
        "accounts": ["industry", "annual_revenue_eur"],
    }
}


@pytest.fixture(scope="module")
def eco():
    world = simulate(partners=60, months=15, seed=5)
    tables = {name: table.to_pandas() for name, table in world.tables.items()}
    n = len(tables["partners"])
    tables["partners"] = tables["partners"].assign(
        head_count=np.arange(n, dtype=float), founded_at=pd.Timestamp("2019-01-01", tz="UTC")
    )
    many = range(40)
    tables["accounts"] = pd.DataFrame(
        {
            "account_id": [f"a{place}" for place in many],
            "created_at": pd.Timestamp("2024-06-01", tz="UTC"),
            "is_partner": [place % 4 == 0 for place in many],
            "industry": [f"i{place % 3}" for place in many],
            "annual_revenue_eur": np.arange(40.0),
        }
    )
    with Ecosystem.from_frames(config=Config.from_dict(CONFIG), **tables) as opened:
        yield opened


@pytest.fixture(params=TASKS, scope="module")
def infos(request, eco):
    catalogue: Catalogue = default_catalogue(eco, before=BEFORE, task=request.param)
    found = dictionary(eco, catalogue)
    assert len(found) >= 2, request.param
    return found


def told(text: str) -> None:
    """Words for people: no name of a column, nothing left to fill in."""
    assert text.strip()
    assert "_" not in text
    assert "{" not in text
    assert "  " not in text


def test_every_feature_has_words(infos):
    for info in infos:
        for text in (info.words, info.subject, info.definition.replace("as_of", "then")):
            told(text)
        assert info.null_rule
        assert info.unit
        assert info.definition.endswith(".")


@pytest.mark.parametrize("effect", [0.5, -0.5])
@pytest.mark.parametrize("value", [0.0, 37.5, np.nan, "texts"])
def test_a_reason_that_a_feature_leads_is_words(infos, value, effect):
    """One row a feature, which alone moves the score of that row."""
    n = len(infos)
    row = {info.name: np.nan if value == "texts" else value for info in infos}
    row |= {info.name: "alpha" for info in infos if info.unit == "category" and value == "texts"}
    X = pd.DataFrame([row] * n)
    effects = pd.DataFrame(np.eye(n) * effect, columns=list(row)).assign(base=0.0)
    reasons = explain(effects, X, dictionary=infos, typical=dict.fromkeys(row, 2.0), top=1)
    for info, (reason,) in zip(infos, reasons, strict=True):
        assert reason.feature == info.name
        told(reason.text)
        assert "nan" not in reason.text.split()


def test_features_of_one_aspect_are_told_apart_from_others(infos):
    from partnerml.models._explain import aspect
    from partnerml.models._importance import _words

    by_part: dict[tuple[str, str], list] = {}
    for info in infos:
        by_part.setdefault(aspect(info), []).append(info)
    said: dict[str, set[str]] = {}
    for (_, part), members in by_part.items():
        text = _words(members[0], part, len(members))
        told(text)
        said.setdefault(text, set()).add(members[0].measure)
    # two sources may know one fact: how long ago a partner joined is told of the partner and of the pair
    assert {text: measures for text, measures in said.items() if len(measures) > 1} == {}
