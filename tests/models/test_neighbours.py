import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.errors import InternalError, ModelError
from partnerml.features import Feature, describe
from partnerml.models import NearestPartners

INDUSTRY = "accounts__industry__trait__asof"
SIZE = "accounts__employees__trait__asof"
GERMAN = "accounts__languages.de__has__asof"
NAMES = (INDUSTRY, SIZE, GERMAN)
DICTIONARY = tuple(describe(Feature.parse(n), unit="category" if n == INDUSTRY else "number") for n in NAMES)

ROW = st.tuples(
    st.sampled_from([None, "it", "retail", "health"]),
    st.sampled_from([None, 1.0, 10.0, 10.0, 50.0, 1000.0]),
    st.sampled_from([None, 0.0, 1.0]),
)


def frame(rows):
    X = pd.DataFrame(rows, columns=list(NAMES))
    return X.astype({INDUSTRY: "category", SIZE: "float64", GERMAN: "float64"})


def partners(rows, everyone, importance=(1.0, 1.0, 1.0)):
    keys = pd.DataFrame(
        {"account_id": [f"a{i}" for i in range(len(rows))], "partner_id": [None, *"BCDEFGHIJ"][: len(rows)]}
    )
    weights = dict(zip(NAMES, importance, strict=True))
    return NearestPartners.of(frame(rows), keys, everyone=everyone, importance=weights, dictionary=DICTIONARY)


def gower(one, other, weights):
    """The similarity of two companies by definition, where the numbers are equal or one of them is not known."""
    total = weight = 0.0
    for w, a, b, is_item in zip(weights, one, other, (False, False, True), strict=True):
        nothing = (None, 0.0) if is_item else (None,)
        if a in nothing and b in nothing:
            continue
        weight += w
        total += w * float(a is not None and a == b)
    return total / weight if weight else 0.0


@settings(max_examples=25)
@given(rows=st.lists(ROW, min_size=1, max_size=5), others=st.lists(ROW, min_size=2, max_size=8))
def test_similarity_is_gowers(rows, others):
    everyone = frame([("it", 1.0, 0.0), ("retail", 10.0, 1.0), ("health", 1000.0, 0.0), *others])
    found = partners(rows, everyone, (3.0, 2.0, 1.0)).similarities(frame(others))
    assert found.shape == (len(others), len(rows))
    assert ((found >= 0) & (found <= 1)).all()
    for i, one in enumerate(others):
        for j, other in enumerate(rows):
            if one[1] is None or other[1] is None or one[1] == other[1]:
                assert found[i, j] == pytest.approx(gower(one, other, (3.0, 2.0, 1.0))), (one, other)


def test_numbers_are_as_alike_as_few_companies_lie_between_them():
    sizes = np.r_[np.arange(1.0, 101.0), 1e6]
    everyone = frame([(None, size, None) for size in sizes])
    found = partners([(None, 50.0, None), (None, 1e6, None)], everyone, (0.0, 1.0, 0.0))
    said = found.similarities(frame([(None, 60.0, None), (None, 1e6, None), (None, 50.0, None)]))
    # a tenth of all lies between 50 and 60; the largest is as far from 50 as half of them, however large it is
    assert said[:, 0].tolist() == pytest.approx([0.9, 0.5, 1.0], abs=0.02)
    assert said[1, 1] == 1.0


def test_the_nearest_come_first_and_ties_go_by_id():
    everyone = frame([("it", 10.0, 1.0), ("retail", 20.0, 0.0), ("health", 30.0, 0.0)])
    found = partners([("it", 10.0, 1.0), ("retail", 20.0, 0.0), ("it", 10.0, 1.0)], everyone)
    (row,) = found.nearest(frame([("it", 10.0, 1.0)]), top=2)
    assert [(one.account_id, one.partner_id, one.similarity) for one in row] == [("a0", None, 1.0), ("a2", "C", 1.0)]
    shuffled = partners([("it", 10.0, 1.0), ("it", 10.0, 1.0), ("retail", 20.0, 0.0)], everyone)
    assert [one.account_id for one in shuffled.nearest(frame([("it", 10.0, 1.0)]))[0]] == ["a0", "a1", "a2"]


def test_shared_traits_are_told_in_words_the_most_important_first():
    everyone = frame([("it", float(size), size % 2) for size in range(100)])
    found = partners([("it", 50.0, 1.0)], everyone, (1.0, 3.0, 2.0))
    (row,) = found.nearest(frame([("it", 53.0, 1.0)]))
    assert row[0].shared == ("employees: 53 (its 50)", "languages include de", "industry: it")
    assert row[0].to_dict() == {
        "account_id": "a0",
        "partner_id": None,
        "similarity": row[0].similarity,
        "shared": list(row[0].shared),
    }
    # what differs is not shared, and what neither has is no likeness
    (row,) = found.nearest(frame([("retail", 50.0, 0.0)]), shared=1)
    assert row[0].shared == ("employees: 50",)


def test_a_trait_without_importance_does_not_count():
    everyone = frame([("it", 10.0, 1.0), ("retail", 20.0, 0.0)])
    found = partners([("it", 10.0, 1.0), ("retail", 10.0, 0.0)], everyone, (0.0, 1.0, 0.0))
    assert found.columns.names == (SIZE,)
    assert found.similarities(frame([("health", 10.0, 0.0)])).tolist() == [[1.0, 1.0]]
    # nothing is important: all count alike
    assert partners([("it", 10.0, 1.0)], everyone, (0.0, 0.0, 0.0)).weights.tolist() == [1 / 3] * 3


def test_saved_and_loaded_it_says_the_same():
    everyone = frame([("it", 10.0, 1.0), ("retail", None, 0.0), (None, 5.0, None)])
    found = partners([("it", None, 1.0), ("new", 7.0, None)], everyone)
    again = NearestPartners.from_state(json.loads(json.dumps(found.to_state())))
    assert again.to_state() == found.to_state()
    assert again.nearest(everyone) == found.nearest(everyone)
    assert len(again) == 2
    with pytest.raises(ModelError, match="hold 1 ids and 2 rows"):
        NearestPartners.from_state({**found.to_state(), "account_id": ["a0"]})
    with pytest.raises(InternalError, match="one key a row"):
        NearestPartners.of(
            everyone,
            pd.DataFrame({"account_id": ["x"]}),
            everyone=everyone,
            importance={SIZE: 1.0},
            dictionary=DICTIONARY,
        )


def test_many_rows_are_compared_in_blocks(monkeypatch):
    everyone = frame([("it", float(size), 1.0) for size in range(30)])
    found = partners([("it", 3.0, 1.0), ("it", 20.0, 0.0)], everyone)
    whole = found.nearest(everyone)
    monkeypatch.setattr("partnerml.models._neighbours._CELLS", 12)
    assert found.nearest(everyone) == whole
