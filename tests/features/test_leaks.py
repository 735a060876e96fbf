"""Nothing that becomes known at or after as_of changes a feature; nothing known at or after until changes a label."""

from __future__ import annotations

import contextlib
import copy

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made

from partnerml.features import Catalogue, ChurnLabel, Feature, Population, build, build_rows

DAY = made.DAY
AS_OF = made.START + 31 * DAY
STREAM = made.stream_names()
TRAITS = ("partners__country__trait__asof", "partners__tier__trait__asof")


def known_at(row, moment, recorded, lag):
    at = row[moment]
    later = row.get(recorded)
    return max(at, later if later is not None else at + lag)


def with_another_future(tables, lags, cut, draw):
    """Change all that is known only from `cut` on: outcomes, values, whole rows; and add rows of that kind."""
    changed = copy.deepcopy(tables)
    zero = 0 * DAY
    for name, moment in (("events", "occurred_at"), ("certifications", "earned_at"), ("partner_history", "valid_from")):
        rows = changed.get(name, [])
        kept = [row for row in rows if known_at(row, moment, "recorded_at", lags.get(name, zero)) < cut]
        if name in changed:
            later = [dict(row, **{moment: cut + i * DAY}) for i, row in enumerate(rows[:3])]
            for row in later:
                if row.get("recorded_at") is not None:
                    row["recorded_at"] = row[moment]
                if name == "partner_history":
                    row["tier"] = "platinum"
            changed[name] = kept + later
    for row in changed.get("deals", []):
        registered = known_at(row, "registered_at", "recorded_at", lags.get("deals", zero))
        closed = row.get("closed_at")
        known = None if closed is None else known_at(row, "closed_at", "closed_recorded_at", lags.get("deals", zero))
        if registered >= cut or known is None or max(registered, known) >= cut:
            row["outcome"] = draw(st.sampled_from(["won", "lost", "open"]))
            row["closed_at"] = None if row["outcome"] == "open" else max(cut, row["registered_at"]) + DAY
            row["amount"] = 123456.0
            if "closed_recorded_at" in row:
                row["closed_recorded_at"] = row["closed_at"]
    for row in changed["partners"]:
        row["left_at"] = None
        row["tier"] = "platinum"
        row["capacity_per_day"] = 7
        row["flags"] = ["esg"]
    return changed


def check_future(backend, tables, lags, names, draw):
    names = [name for name in names if name != TRAITS[-1] or "partner_history" in tables]
    catalogue = Catalogue(
        tuple(Feature.parse(name) for name in names), event_types=made.EVENT_TYPES, static_traits=("country",)
    )
    keys = made.every_key([AS_OF])
    changed = with_another_future(tables, lags, AS_OF, draw)
    found = []
    for version in (tables, changed):
        with contextlib.closing(made.Tables(backend, version, lags)) as eco:
            found.append(build_rows(eco, keys, catalogue=catalogue))
    pd.testing.assert_frame_equal(found[0].X, found[1].X, check_categorical=False)


@settings(max_examples=3, **made.quick)
@given(
    drawn=made.ecosystems((AS_OF,)),
    names=st.lists(st.sampled_from(STREAM), min_size=1, max_size=12, unique=True),
    data=st.data(),
)
def test_the_future_changes_no_feature(backend, drawn, names, data):
    check_future(backend, *drawn, (*names, *TRAITS), data.draw)


@pytest.mark.slow
@settings(max_examples=1, **made.quick)
@given(drawn=made.ecosystems((AS_OF,)), data=st.data())
def test_the_future_changes_nothing_of_the_whole_catalogue(backend, drawn, data):
    check_future(backend, *drawn, (*STREAM, *TRAITS), data.draw)


@settings(max_examples=3, **made.quick)
@given(made.ecosystems((made.START,)), st.data())
def test_what_is_known_at_until_changes_no_label(backend, drawn, data):
    tables, lags = drawn
    until = made.START + 95 * DAY
    changed = with_another_future(tables, lags, until, data.draw)
    left = {row["partner_id"]: row.get("left_at") for row in tables["partners"]}
    for row in changed["partners"]:
        at = left[row["partner_id"]]
        row["left_at"] = at if at is not None and at + lags["partners"] < until else until + DAY
    label = ChurnLabel(60, 30)
    found = []
    for version in (tables, changed):
        with contextlib.closing(made.Tables(backend, version, lags)) as eco:
            data_ = build(
                eco,
                population=Population(None),
                label=label,
                catalogue=Catalogue(()),
                as_of=[made.START],
                until=until,
            )
            found.append(pd.concat([data_.keys, data_.y, data_.times], axis=1))
    pd.testing.assert_frame_equal(*found)


def test_the_leak_test_can_fail(backend):
    """A row known just before as_of does change a feature."""
    tables = {
        "partners": [{"partner_id": "A"}],
        "events": [{"partner_id": "A", "occurred_at": AS_OF - made.TICK, "event_type": "login"}],
    }
    keys = pd.DataFrame({"partner_id": ["A"], "as_of": [AS_OF]})
    catalogue = Catalogue((Feature.parse("events__all__count__30d"),))
    counts = []
    for version in (tables, {**tables, "events": []}):
        with contextlib.closing(made.Tables(backend, version)) as eco:
            counts.append(build_rows(eco, keys, catalogue=catalogue).X.iloc[0, 0])
    assert counts == [1.0, 0.0]
