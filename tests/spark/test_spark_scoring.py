"""A saved model scores on executors as it does here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.models.made_up_models import ACTIVE, COUNTRY, WON, frame, made_up

from partnerml import spark as on_spark
from partnerml import tasks
from partnerml.errors import ConfigError, ModelError
from partnerml.models._blend import Blend
from partnerml.models._calibration import PlattCalibrator
from partnerml.models._logistic import LogLogistic

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]


@pytest.fixture(scope="module")
def rows():
    """Features and keys, in an order of columns that is not the model's, with a country that training did not know."""
    X, _ = frame(200, seed=3)
    X[COUNTRY] = X[COUNTRY].astype(object).where(X[COUNTRY].notna(), None)
    X.loc[X.index[::7], COUNTRY] = "XX"
    X = X[X.columns[::-1]]
    X.insert(0, "partner_id", [f"p{i:03d}" for i in range(len(X))])
    X.insert(1, "as_of", pd.Timestamp("2026-03-01", tz="UTC"))
    return X.assign(unused="x")


@pytest.fixture(scope="module")
def on_executors(spark, rows):
    table = pa.Table.from_pandas(rows.assign(as_of=rows["as_of"].dt.tz_localize(None)), preserve_index=False)
    column = table.column("as_of").cast(pa.timestamp("us", tz="UTC"))
    table = table.set_column(table.column_names.index("as_of"), "as_of", column)
    return spark.createDataFrame(table).repartition(3)


@pytest.mark.parametrize("given", ["model", "folder"])
def test_equal_to_the_model(on_executors, rows, tmp_path, given):
    model = made_up()
    scored = on_spark.score(on_executors, model if given == "model" else model.save(tmp_path / "model"))
    assert scored.columns == ["partner_id", "as_of", "task", "score", "spread", "model_version"]
    found = scored.toArrow().to_pandas().sort_values("partner_id", ignore_index=True)
    X = rows.assign(**{COUNTRY: pd.Categorical(rows[COUNTRY])})
    np.testing.assert_array_equal(found["score"], model.predict_proba(X))
    np.testing.assert_array_equal(found["spread"], model.spread(X))
    assert found["score"].nunique() > 100
    assert list(found["partner_id"]) == list(rows["partner_id"])
    assert (found["as_of"] == rows["as_of"]).all()
    assert set(found["task"]) == {"churn"}
    assert set(found["model_version"]) == {model.version}


def test_a_dot_in_the_name_of_a_feature(spark):
    """Lists have such names; Spark takes a dot for a field of a struct."""
    dotted = "partners__verticals.retail__has__asof"
    X, y = frame(120, seed=1)
    X = X.rename(columns={WON: dotted})
    blend = Blend({"logistic": LogLogistic().fit(X, y)}, {"logistic": 1.0}, PlattCalibrator(1.0, 0.0))
    model = dataclasses.replace(made_up(), blend=blend, hazard=None, columns=tuple(X.columns))
    X[COUNTRY] = X[COUNTRY].astype(object).where(X[COUNTRY].notna(), None)
    rows = spark.createDataFrame(pa.Table.from_pandas(X.assign(id=range(len(X))), preserve_index=False))
    found = on_spark.score(rows, model, keys=["id"]).toArrow().to_pandas().sort_values("id")
    np.testing.assert_array_equal(
        found["score"], model.predict_proba(X.assign(**{COUNTRY: pd.Categorical(X[COUNTRY])}))
    )


def test_other_keys_and_no_rows(on_executors):
    nobody = on_executors.where("partner_id = 'nobody'").withColumnRenamed("partner_id", "reseller")
    found = on_spark.score(nobody, made_up(), keys=["reseller"]).toArrow()
    assert found.column_names == ["reseller", "task", "score", "spread", "model_version"]
    assert len(found) == 0


def test_features_of_another_task_are_refused(tmp_path):
    model = made_up()
    fit = dataclasses.replace(model, task=tasks.fit().to_dict())
    with pytest.raises(ConfigError, match=r"built on Spark for churn alone, and this is a model of fit: .*partner_id"):
        on_spark.write_features(None, fit, tmp_path / "features", as_of="2026-01-01")


def test_a_missing_feature_is_named_before_anything_runs(on_executors):
    with pytest.raises(
        ModelError, match=rf"1 of 8 column\(s\) that churn [0-9a-f]{{12}} reads are missing, first {ACTIVE}"
    ):
        on_spark.score(on_executors.drop(ACTIVE), made_up())
