"""Rows become a dataset: types, labels, weights of one, and a fingerprint of all that a model is trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from partnerml.dataset import fingerprint
from partnerml.features import Catalogue, Feature, describe
from partnerml.features._assemble import assembled, dataset_from, zoned

NAMES = ("partners__country__trait__asof", "partners__latitude__trait__asof")
CATALOGUE = Catalogue(tuple(map(Feature.parse, NAMES)))
TOLD = tuple(map(describe, CATALOGUE.features))
SPEC = {"catalogue": CATALOGUE.to_dict()}


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "partner_id": ["B", "A"],
            "as_of": pd.to_datetime(["2025-01-01", "2025-02-01"]),
            NAMES[0]: ["DE", None],
            NAMES[1]: [1, 2],
            "y": [1.0, np.nan],
            "duration_days": [3.0, 4.5],
            "observed": [True, False],
        }
    )


def test_rows_keep_their_order_and_have_the_types_of_a_dataset() -> None:
    data = dataset_from(frame(), CATALOGUE, key="partner_id", dictionary=TOLD, spec=SPEC, labelled=True)
    assert data.keys["partner_id"].tolist() == ["B", "A"]
    assert str(data.as_of.dtype) == "datetime64[us, UTC]"
    assert [str(dtype) for dtype in data.X.dtypes] == ["category", "float64"]
    assert data.y.tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert data.times["observed"].tolist() == [True, False]
    assert data.weights.tolist() == [1.0, 1.0]
    assert data.dictionary == TOLD


def test_the_fingerprint_covers_the_labels_as_far_as_there_are_any() -> None:
    data = dataset_from(frame(), CATALOGUE, key="partner_id", dictionary=TOLD, spec=SPEC, labelled=True)
    keys, X, y, times = data.keys, data.X, data.y, data.times
    told = {"dictionary": TOLD, "spec": SPEC}
    bare = dataset_from(frame(), CATALOGUE, key="partner_id", labelled=False, **told)
    assert (bare.y, bare.times) == (None, None)
    assert bare.fingerprint == assembled(keys, X, **told).fingerprint == fingerprint(SPEC, [keys, X, None])
    assert assembled(keys, X, y, **told).fingerprint == fingerprint(SPEC, [keys, X, y.to_frame()])
    assert data.fingerprint == fingerprint(SPEC, [keys, X, times.assign(y=y)])


def test_zoned_moments_stay_what_they_are() -> None:
    naive = pd.Series(pd.to_datetime(["2025-01-01 12:00", None]))
    assert zoned(zoned(naive)).equals(zoned(naive))
    assert zoned(naive)[0] == pd.Timestamp("2025-01-01 12:00", tz="UTC")
