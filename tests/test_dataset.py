"""`Dataset` and `FeatureInfo` as values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from partnerml.dataset import Dataset, FeatureInfo, fingerprint
from partnerml.errors import InternalError

INFO = FeatureInfo(
    name="events__all__count__30d",
    definition="Events in the last 30 days.",
    table="events",
    columns=("occurred_at",),
    window_days=30,
    null_rule="0 if there are none",
    words="events in the last 30 days",
    subject="events",
    measure="count",
    group="events__all",
    unit="count",
)


def dataset():
    as_of = pd.to_datetime(["2025-01-01", "2025-01-01", "2025-02-01"], utc=True).as_unit("us")
    return Dataset(
        keys=pd.DataFrame({"partner_id": ["A", "B", "A"], "as_of": as_of}),
        X=pd.DataFrame({INFO.name: [1.0, 2.0, 3.0]}),
        y=pd.Series([1.0, 0.0, np.nan]),
        times=pd.DataFrame({"duration_days": [5.0, 90.0, 9.0], "observed": [True, True, False]}),
        weights=pd.Series([1.0, 1.0, 1.0]),
        dictionary=(INFO,),
        fingerprint="0123456789abcdef",
    )


def test_feature_info_survives_json():
    assert FeatureInfo.from_dict(json.loads(json.dumps(INFO.to_dict()))) == INFO


def test_mature_rows_are_those_with_a_label():
    assert dataset().mature.tolist() == [True, True, False]


def test_labels_and_times_are_asked_for_where_there_are_some():
    data = dataset()
    assert data.labels is data.y
    assert data.known_times is data.times
    bare = dataclasses.replace(data, y=None, times=None)
    with pytest.raises(InternalError, match="labels are asked for of a Dataset that was built without labels"):
        _ = bare.labels
    with pytest.raises(InternalError, match="times of events are asked for of a Dataset that was built without labels"):
        _ = bare.known_times


def test_a_part_keeps_its_rows_together():
    part = dataset().where([True, False, True])
    assert part.keys["partner_id"].tolist() == ["A", "A"]
    assert part.X[INFO.name].tolist() == [1.0, 3.0]
    assert part.times["observed"].tolist() == [True, False]
    assert part.fingerprint != dataset().fingerprint
    assert part.fingerprint == dataset().where([True, False, True]).fingerprint


def test_rows_of_a_moment():
    at = dataset().at(dt.datetime(2025, 1, 1))  # noqa: DTZ001 (naive is UTC)
    assert at.keys["partner_id"].tolist() == ["A", "B"]
    zoned = dt.datetime(2025, 2, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert dataset().at(zoned).keys["partner_id"].tolist() == ["A"]


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InternalError, match="weights has 2 rows, keys have 3"):
        Dataset(**{**vars(dataset()), "weights": pd.Series([1.0, 1.0])})
    with pytest.raises(InternalError, match="not those of its dictionary"):
        Dataset(**{**vars(dataset()), "dictionary": ()})


def frame(**columns):
    return pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None], **columns})


def test_the_fingerprint_is_that_of_the_content():
    base = fingerprint({"k": 1}, [frame(), None])
    assert fingerprint({"k": 1}, [frame().copy(), None]) == base
    assert fingerprint({"k": 1}, [frame().assign(a=frame()["a"] * -1 * -1), None]) == base
    assert fingerprint({"k": 2}, [frame(), None]) != base
    assert fingerprint({"k": 1}, [None, frame()]) != base
    assert fingerprint({"k": 1}, [frame(a=[1.0, 0.0]), None]) != base
    assert fingerprint({"k": 1}, [frame(b=["x", "y"]), None]) != base
    assert fingerprint({"k": 1}, [frame().rename(columns={"a": "c"}), None]) != base


def test_one_nan_and_one_zero():
    nan = np.float64(np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0])
    assert fingerprint({}, [frame(a=[1.0, nan])]) == fingerprint({}, [frame(a=[1.0, np.nan])])
    assert fingerprint({}, [frame(a=[1.0, -0.0])]) == fingerprint({}, [frame(a=[1.0, 0.0])])


def test_texts_categories_and_moments_count_by_value():
    moments = pd.to_datetime(["2025-01-01", "2025-01-02"], utc=True)
    first = fingerprint({}, [frame(m=moments.as_unit("us"), c=pd.Categorical(["u", "v"]))])
    assert fingerprint({}, [frame(m=moments.as_unit("us"), c=pd.Categorical(["u", "v"]))]) == first
    assert fingerprint({}, [frame(m=moments.as_unit("us"), c=pd.Categorical(["v", "u"]))]) != first
    assert (
        fingerprint({}, [frame(m=moments.as_unit("us") + pd.Timedelta("1us"), c=pd.Categorical(["u", "v"]))]) != first
    )
