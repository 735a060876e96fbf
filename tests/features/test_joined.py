"""Joins that are made at once give what Ibis's own joins give."""

from __future__ import annotations

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made

from partnerml.features._joined import Joined, project

KEYS = st.lists(st.integers(0, 6), max_size=5, unique=True)


def table(keys, **columns):
    """One row for each key: columns are the key times a number."""
    rows = {"slot": keys, **{name: [key * by for key in keys] for name, by in columns.items()}}
    return ibis.memtable(rows, schema=dict.fromkeys(rows, "int64"))


def rows(backend, found):
    return sorted(backend.to_pyarrow(found).to_pylist(), key=str)


@settings(max_examples=15, **made.quick)
@given(first=KEYS, second=KEYS, third=KEYS, how=st.sampled_from(["left", "inner"]))
def test_as_joined_by_ibis(backend, first, second, third, how):
    a, b, c = table(first, x=1, y=2), table(second, z=3), table(third, z=5)
    joined = Joined(a).add(b, how=how).add(c, suffix="__c")
    assert joined.columns == ("slot", "x", "y", "z", "z__c")
    found = joined.select("slot", "z", w=joined["y"] + joined["z__c"].fill_null(0), x=joined["x"].name("other"))
    expected = a.join(b, "slot", how=how)[["slot", "x", "y", "z"]].left_join(c.rename(z__c="z"), "slot")
    expected = expected.select("slot", "z", w=expected.y + expected.z__c.fill_null(0), x=expected.x)
    assert rows(backend, found) == rows(backend, expected)
    assert found.columns == ("slot", "z", "w", "x")


@settings(max_examples=5, **made.quick)
@given(first=KEYS, second=KEYS)
def test_on_several_columns(backend, first, second):
    a, b = table(first, k=1, x=2), table(second, k=1, z=3)
    found = Joined(a).add(b, on=("slot", "k"), how="inner").select("slot", "k", "x", "z")
    assert rows(backend, found) == rows(backend, a.inner_join(b, ["slot", "k"]).select("slot", "k", "x", "z"))


def test_what_is_selected_can_be_read_on(backend):
    a = table([1, 2, 3], x=10)
    found = Joined(a).add(table([2], z=1)).select("slot", "x", "z")
    assert rows(backend, found.filter(found.z.notnull()).mutate(y=found.x + 1).select("slot", "y")) == [
        {"slot": 2, "y": 21}
    ]
    assert rows(backend, project(a, "slot", y=a.x * 2).filter(ibis._.y > 40)) == [{"slot": 3, "y": 60}]


def test_a_name_in_two_tables_is_refused():
    with pytest.raises(ValueError, match="x: in more than one of the tables"):
        Joined(table([1], x=1)).add(table([1], x=2))
    with pytest.raises(ValueError, match="one table alone"):
        Joined(table([1], x=1)).select("x")
