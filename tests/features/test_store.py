"""Features from stored cells are those of the raw tables, however the cells came about."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made

from partnerml.errors import BusyError, ConfigError, SourceError
from partnerml.features import Activity, Catalogue, Feature
from partnerml.features import _folded as folded
from partnerml.features import _manifest as manifest
from partnerml.features import _sums as sums
from partnerml.features import _update as updating
from partnerml.features._cover import LEVELS, Segment, aligned, completed, segments
from partnerml.features._folds import Request
from partnerml.features._recall import recall, serves
from partnerml.features._scratch import Scratch
from partnerml.features._spine import keys_table, spine_from
from partnerml.features._store import CellStore
from partnerml.features._values import requests_of, window_columns, window_values
from partnerml.outputs import lock

AS_OF = made.MIDNIGHTS
LAST = AS_OF[-1]
VALUES = ("value", "value_mean", "value_min", "value_max", "value_last")
GAPS = ("gap_mean", "gap_max", "gap_sd", "recency_over_gap")
NAMES = (
    *(f"events__all__{m}__{w}" for m in ("count", "active_days", *VALUES) for w in ("1d", "7d", "60d", "90d", "ever")),
    *(f"events__{kind}__{m}__30d" for kind in (*made.EVENT_TYPES, "other") for m in ("count", "active_days", "share")),
    *(f"events__login__{m}__ever" for m in ("count", "active_days", "recency_days", "age_days", "value_last")),
    *(f"events__{kind}__{m}__90d" for kind in ("all", "login") for m in GAPS),
    *(f"activity__all__{m}__ever" for m in ("count", "active_days", "recency_days", "age_days")),
    *(f"activity__all__{m}__{w}" for m in ("count", "active_days", "recency_days") for w in ("1d", "30d", "90d")),
    *(f"activity__all__{m}__90d" for m in GAPS),
    *(f"events__all__{m}__{w}" for m in ("distinct_types", "prior_ratio") for w in ("7d", "30d")),
    *(f"{source}__all__{m}__{w}" for source in ("events", "activity") for m, w in (("count_ratio", "7d_30d"),)),
    *(f"{s}__all__{m}__12w" for s in ("events", "activity") for m in ("count_trend", "streak_weeks")),
    *("events__all__value_ratio__7d_90d", "events__survey__count_trend__26w", "events__survey__streak_weeks__4w"),
)
OF_DEALS = ("deals__won__amount__90d", "deals__all__count__ever")


def catalogue(names, activity=None):
    features = tuple(Feature.parse(name) for name in names)
    return Catalogue(features, event_types=made.EVENT_TYPES, activity=activity or Activity())


@contextlib.contextmanager
def spine(eco, as_of, partners=made.PARTNERS):
    keys = pd.DataFrame(itertools.product(partners, as_of), columns=["partner_id", "as_of"])
    with Scratch(eco) as scratch:
        yield scratch.keep(spine_from(eco, keys_table(keys), as_of))


def frame(eco, table, names):
    found = eco.backend.to_pyarrow(table.select("slot", *names)).to_pandas().sort_values("slot")
    return found.reset_index(drop=True).astype("float64")


def from_raw(eco, rows, wanted, as_of=AS_OF):
    table = window_columns(eco, wanted.features, catalogue=wanted, spine=rows, as_of=as_of)
    return frame(eco, table, wanted.names)


def from_cells(eco, store, rows, wanted, as_of=AS_OF):
    requests = requests_of(wanted.features)
    assert serves(store, eco, as_of)
    found = recall(
        store, eco, requests, spine=rows, as_of=as_of, event_types=wanted.event_types, activity=wanted.activity
    )
    return frame(eco, found.table.select("slot", **window_values(wanted.features, found)), wanted.names)


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=0)


def event(day, *, partner="A", type_="login", value=None, hours=1.0, recorded=None):
    moment = made.START + day * made.DAY + dt.timedelta(hours=hours)
    seen = None if recorded is None else made.START + recorded * made.DAY + dt.timedelta(hours=hours)
    return {
        "partner_id": partner,
        "occurred_at": moment,
        "event_type": type_,
        "value": value,
        "actor": None,
        "recorded_at": seen,
    }


def world(backend, events, **others):
    tables = {"partners": [{"partner_id": name} for name in made.PARTNERS], "events": events, **others}
    return made.Tables(backend, tables)


def check(backend, tables, lags, marks, names, activity, folder):
    wanted = catalogue(names, activity)
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco, spine(eco, AS_OF) as rows:
        expected = from_raw(eco, rows, wanted)
        for name, steps in (("step by step", marks), ("at once", (LAST,))):
            store = CellStore.open(folder / name)
            for mark in steps:
                store.update(eco, mark)
            same(from_cells(eco, CellStore.open(folder / name), rows, wanted), expected)


def with_duplicates(drawn):
    tables, lags = drawn
    if not tables.get("events"):
        tables = {**tables, "events": [event(3)]}
    return {**tables, "events": [*tables["events"], *tables["events"][:5]]}, lags


MARKS = st.lists(st.integers(-60, 119), max_size=5).map(
    lambda days: (*(made.START + day * made.DAY for day in sorted(days)), LAST)
)
ACTIVITIES = st.sampled_from(
    [Activity(), Activity(include=("login", "deals.won")), Activity(exclude=("events.survey",))]
)


@settings(max_examples=3, **made.quick)
@given(
    drawn=made.ecosystems(AS_OF).map(with_duplicates),
    marks=MARKS,
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True),
    activity=ACTIVITIES,
)
def test_cells_give_what_raw_rows_give(backend, tmp_path_factory, drawn, marks, names, activity):
    check(backend, *drawn, marks, names, activity, tmp_path_factory.mktemp("cells"))


@pytest.mark.slow
@settings(max_examples=2, **made.quick)
@given(
    drawn=made.ecosystems(AS_OF).map(with_duplicates),
    marks=MARKS,
    names=st.lists(st.sampled_from(NAMES), min_size=20, max_size=30, unique=True),
    activity=ACTIVITIES,
)
def test_many_measures_with_small_parts(backend, tmp_path_factory, drawn, marks, names, activity):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_LATE_PARTS", 2), ("_LATE_ROWS", 2), ("_ROWS_AT_ONCE", 7)):
            patch.setattr(updating, name, value)
        patch.setattr(sums, "_MOST_TYPES", 2)
        patch.setattr(sums, "_GAPS_AT_ONCE", 4)
        check(backend, *drawn, marks, names, activity, tmp_path_factory.mktemp("cells"))


def test_blocks_are_made_again_and_late_parts_put_together(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "_LATE_PARTS", 2)
    monkeypatch.setattr(updating, "_LATE_ROWS", 2)
    # a row a day for 120 days, each of them seen up to 40 days later
    events = [event(day, partner=p, recorded=day + (7 * day) % 40) for day in range(-30, 90) for p in "AB"]
    wanted = catalogue(("events__all__count__90d", "events__all__active_days__ever", "events__all__gap_max__90d"))
    with contextlib.closing(world(backend, events)) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path)
        for day in range(-20, 121, 10):
            store.update(eco, made.START + day * made.DAY)
        blocks = [piece for piece in store.index.pieces if piece.level == LEVELS[0]]
        assert any(piece.seal > piece.start + piece.level for piece in blocks)
        assert max(len(store.index.late_of(block)) for block in range(20_000, 20_500)) < 15
        same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))


def test_deals_come_raw_beside_the_cells(backend, tmp_path):
    won = {"deal_id": "D1", "partner_id": "A", "registered_at": made.START - 500 * made.DAY, "outcome": "won"}
    won |= {"closed_at": made.START - made.DAY, "amount": 7.5}
    wanted = catalogue(("activity__all__count__ever", "events__all__count__30d", *OF_DEALS))
    with contextlib.closing(world(backend, [event(-1, hours=2.0)], deals=[won])) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path)
        store.update(eco, LAST)
        table = window_columns(eco, wanted.features, catalogue=wanted, spine=rows, as_of=AS_OF, cells=store)
        same(frame(eco, table, wanted.names), from_raw(eco, rows, wanted))
        nobody = rows.filter(rows.k < 0)
        assert from_cells(eco, store, nobody, catalogue(NAMES)).shape == (0, len(NAMES) + 1)


def test_an_update_reads_what_is_new(backend, tmp_path):
    events = [event(day, recorded=day + late) for day in range(20) for late in (0, 3)]
    with contextlib.closing(world(backend, events)) as eco:
        store = CellStore.open(tmp_path)
        first = store.update(eco, made.START + 10 * made.DAY)
        assert (first.rows_read, first.late_rows) == (17, 7)
        assert store.watermark == made.START + 10 * made.DAY
        again = store.update(eco, made.START + 11 * made.DAY)
        assert (again.rows_read, again.late_rows, again.went_back_to) == (2, 1, None)
        assert store.update(eco, made.START + 11 * made.DAY).rows_read == 0
        assert store.update(eco, made.START).watermark == made.START + 11 * made.DAY


def test_a_partner_that_enters_later_brings_its_rows(backend, tmp_path):
    events = [event(day, partner=partner, recorded=day) for day in range(0, 60, 7) for partner in "AF"]
    wanted = catalogue(("events__all__count__30d", "events__all__active_days__ever"))
    store = CellStore.open(tmp_path)
    with contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A"}], "events": events})) as eco:
        store.update(eco, AS_OF[1])
        store.update(eco, AS_OF[2])
        with spine(eco, AS_OF[1:3], ("A",)) as rows:
            same(from_cells(eco, store, rows, wanted, AS_OF[1:3]), from_raw(eco, rows, wanted, AS_OF[1:3]))
    with contextlib.closing(world(backend, events)) as eco:
        with spine(eco, AS_OF[1:3]) as rows, pytest.raises(ConfigError, match=r"5 partner\(s\) are not in them"):
            from_cells(eco, store, rows, wanted, AS_OF[1:3])
        assert store.update(eco, AS_OF[2]).rows_read == 5  # those of F
        assert store.update(eco, LAST).went_back_to is None
        with spine(eco, AS_OF) as rows:
            same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_a_change_of_the_last_week_is_noticed(backend, tmp_path, change):
    events = [event(day) for day in range(-40, 100)]
    gone = [row for row in events if row["occurred_at"].date() != (LAST - 23 * made.DAY).date()]
    before, after = (gone, events) if change == "more" else (events, gone)
    mark = LAST - 20 * made.DAY
    store = CellStore.open(tmp_path)
    wanted = catalogue(("events__all__count__30d", "events__all__gap_max__90d"))
    with contextlib.closing(world(backend, before)) as eco:
        store.update(eco, mark)
    with contextlib.closing(world(backend, after)) as eco, spine(eco, AS_OF) as rows:
        assert store.update(eco, LAST).went_back_to == LAST - 23 * made.DAY
        same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))


def test_deletions_are_announced_by_a_rebuild(backend, tmp_path):
    events = [event(day) for day in range(-40, 100)]
    wanted = catalogue(("events__all__count__90d",))
    store = CellStore.open(tmp_path)
    with contextlib.closing(world(backend, events)) as eco:
        store.update(eco, LAST)
    with contextlib.closing(world(backend, events[::2])) as eco, spine(eco, AS_OF) as rows:
        assert store.update(eco, LAST, rebuild=True).rows_read == 70
        same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))
        store.update(eco, LAST + made.DAY)
        assert {path.name for path in tmp_path.glob("*.arrow")} == {
            *store.index.files(),
            manifest.load(tmp_path).partners,
        }


@pytest.mark.parametrize("broken", ["save", "write_groups"])
def test_a_killed_update_leaves_the_old_state(backend, tmp_path, monkeypatch, broken):
    events = [event(day) for day in range(100)]
    wanted = catalogue(("events__all__count__90d",))

    def killed(*_):
        raise KeyboardInterrupt

    with contextlib.closing(world(backend, events)) as eco, spine(eco, AS_OF[:2]) as rows:
        store = CellStore.open(tmp_path)
        store.update(eco, AS_OF[1])
        before = (tmp_path / "manifest.json").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(updating, broken, killed)
            with pytest.raises(KeyboardInterrupt):
                store.update(eco, LAST)
        assert (tmp_path / "manifest.json").read_bytes() == before
        store = CellStore.open(tmp_path)
        assert store.watermark == AS_OF[1]
        same(from_cells(eco, store, rows, wanted, AS_OF[:2]), from_raw(eco, rows, wanted, AS_OF[:2]))
        store.update(eco, LAST)
        named = {*store.index.files(), manifest.load(tmp_path).partners}
        assert {path.name for path in tmp_path.glob("*.arrow")} == named
        with spine(eco, AS_OF) as all_rows:
            same(from_cells(eco, store, all_rows, wanted), from_raw(eco, all_rows, wanted))


def test_a_rare_type_has_its_place_where_it_shares_none(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "_MOST_TYPES", 2)
    types = ("login", "rare", "survey", "survey")
    events = [event(day, partner=p, type_=type_) for day in range(-9, 90, 9) for p in "AC" for type_ in types]
    wanted = catalogue(f"events__{kind}__count__30d" for kind in ("login", "survey", "other", "all"))
    with contextlib.closing(world(backend, events)) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path)
        store.update(eco, LAST)
        same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))


def test_sums_beyond_64_bits_are_exact(backend, tmp_path):
    events = [event(day, value=(-1) ** (day // 50) * 4e12 + day / 8) for day in range(-60, 100)]
    wanted = catalogue(("events__all__value__30d", "events__all__value__ever", "events__all__value_min__90d"))
    with contextlib.closing(world(backend, events)) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path)
        with pytest.raises(SourceError, match=r"events\.value: sums above 4\.6e12"):
            store.update(eco, LAST)
    events = [event(day, value=7e10 + day / 8) for day in range(-300, 100)]  # a block fits, all of them do not
    with contextlib.closing(world(backend, events)) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path / "smaller")
        store.update(eco, LAST)
        same(from_cells(eco, store, rows, wanted), from_raw(eco, rows, wanted))


def test_another_source_is_refused(backend, tmp_path):
    rows = [event(0)]
    with contextlib.closing(world(backend, rows)) as eco:
        store = CellStore.open(tmp_path, fingerprint="a")
        assert not serves(store, eco, AS_OF[:1])
        store.update(eco, LAST)
        assert serves(store, eco, AS_OF)
        assert not serves(store, eco, (*AS_OF, LAST + made.DAY))
        assert not serves(store, eco, (LAST - made.TICK,))
        other = CellStore.open(tmp_path, fingerprint="b")
        assert not serves(other, eco, AS_OF)
        with pytest.raises(ConfigError, match=r"fingerprint was 'a' and is 'b'; build the cells anew"):
            other.update(eco, LAST)
        eco.lags["events"] = made.DAY
        with pytest.raises(ConfigError, match=r"lag_us was 0 and is 86400000000"):
            store.update(eco, LAST)
        store.update(eco, LAST, rebuild=True)
        with pytest.raises(ConfigError, match="cells are kept to a midnight"):
            store.update(eco, LAST + made.TICK)
    with contextlib.closing(world(backend, [{k: v for k, v in rows[0].items() if k != "actor"}])) as eco:
        eco.lags["events"] = made.DAY
        assert "columns was" in store.refusal(eco)
    with (
        contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A"}]})) as eco,
        pytest.raises(ConfigError, match="no table events"),
    ):
        store.update(eco, LAST)


def test_what_cannot_be_read_says_so(backend, tmp_path):
    with contextlib.closing(world(backend, [event(0)])) as eco, spine(eco, AS_OF) as rows:
        store = CellStore.open(tmp_path)
        store.update(eco, LAST)
        with lock(tmp_path, purpose="a test"), pytest.raises(BusyError, match="a test"):
            store.update(eco, LAST)
        for path in tmp_path.glob("cells-*.arrow"):
            path.write_bytes(b"PAR1")
        with pytest.raises(SourceError, match=r"cells-.*cannot be read.*build the cells anew"):
            from_cells(eco, store, rows, catalogue(("events__all__count__ever",)))
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(SourceError, match="cells of format 99"):
        CellStore.open(tmp_path)
    path.write_text("{")
    with pytest.raises(SourceError, match="not a manifest of cells"):
        CellStore.open(tmp_path)


@given(start=st.integers(19_000, 21_000), length=st.integers(0, 400))
def test_aligned_spans_tile_the_days(start, length):
    days = []
    for level, day in aligned(start, start + length):
        assert day % level == 0
        days += range(day, day + level)
    assert days == list(range(start, start + length))
    made_once = list(completed(start, start + length))
    middle = start + length // 2
    assert sorted(made_once) == sorted([*completed(start, middle), *completed(middle, start + length)])


@given(
    windows=st.lists(st.integers(1, 400), max_size=4, unique=True).map(sorted),
    weeks=st.integers(0, 30),
    first=st.one_of(st.none(), st.integers(19_000, 20_100)),
)
def test_segments_are_cut_at_every_edge(windows, weeks, first):
    as_of = 20_088
    found = segments(as_of, windows, weeks=weeks, first=first)
    oldest = min([as_of, *(as_of - days for days in windows), *([] if first is None else [first])])
    assert [day for s in found for day in reversed(range(s.start, s.stop))] == list(range(as_of - 1, oldest - 1, -1))
    for segment in found:
        for day in range(segment.start, segment.stop):
            assert segment.ring == sum(day < as_of - length for length in windows)
            assert day // LEVELS[0] == segment.start // LEVELS[0]
            if day >= as_of - 7 * weeks:
                assert segment.week == (as_of - 1 - day) // 7


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 3), st.one_of(st.none(), st.integers(-999, 999)), st.integers(0, 99)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_folded_rows_survive_the_disk_and_add_up(rows):
    value = pa.array([None if v is None else v / 4 for *_, v, _t in rows], pa.float64()).cast(pa.decimal128(38, 6))
    moment = np.asarray([t * folded.DAY_US // 30 for *_, t in rows])
    raw = {
        "kind": np.asarray([row[0] for row in rows]),
        "partner": np.asarray([row[1] for row in rows]),
        "moment": moment,
        "seen": moment,
    }
    whole = folded.merged([folded.without(folded.fold_raw(**raw, value=value), folded.WHEN)])
    halves = []
    for part in (slice(0, len(rows) // 2), slice(len(rows) // 2, None)):
        if len(moment[part]):
            some = folded.fold_raw(**{name: column[part] for name, column in raw.items()}, value=value[part])
            halves.append(folded.without(folded.from_arrow(folded.to_arrow(some), tuple(some)), folded.WHEN))
    again = folded.merged(halves)
    for name, column in whole.items():
        assert column.tolist() == again[name].tolist(), name
    for i, (kind, partner) in enumerate(zip(whole["kind"], whole["partner"], strict=True)):
        mine = [(t, v) for k, p, v, t in rows if (k, p) == (kind, partner)]
        valued = [(t * folded.DAY_US // 30, v * 250_000) for t, v in mine if v is not None]
        assert (whole["n"][i], whole["nv"][i]) == (len(mine), len(valued))
        assert whole["v"][i] == sum(v for _, v in valued)
        if valued:
            assert (whole["vlast_at"][i], whole["vlast"][i]) == max(valued)
            assert (whole["vmin"][i], whole["vmax"][i]) == (min(v for _, v in valued), max(v for _, v in valued))


ADDED = ("n", "v", "nv", "vmin", "vmax", "first", "last", "days", "nw", "weeks")


def one_large_value(row):
    """Of each kind and partner: a sum of two is refused."""
    return row[:2] if row[2] < -9 else row


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from((-(3 * 2**60), -8, 0, 5)), st.integers(0, 9)),
        min_size=1,
        max_size=8,
        unique_by=one_large_value,
    ),
    last=st.booleans(),
)
def test_repeated_rows_add_up_as_they_do_one_by_one(rows, last):
    kind, partner, value, day = (np.asarray(column, dtype="int64") for column in zip(*rows, strict=True))
    value = np.where(value < -9, (-1) ** partner * value, value)
    moment, ones = day * folded.DAY_US, np.ones(len(rows), dtype="int32")
    late = {"kind": kind.astype("int32"), "partner": partner.astype("int32"), "n": ones, "nv": ones, "bits": 1 << day}
    late |= {
        "first": moment,
        "last": moment,
        "vlast_at": moment,
        **dict.fromkeys(("v", "vmin", "vmax", "vlast"), value),
    }
    places = sums.Kinds.of(("a", "b", "c"), ("a", "c"), Activity())
    atoms = (*ADDED, "vlast") if last else ADDED
    requests = [Request(atom, *series, 30) for atom in atoms for series in (("events", "all"), ("activity", "all"))]
    segment = Segment(0, 10, 0, 3)
    found = []
    for parts, repeated in (([late], True), ([folded.taken(late, np.asarray([i])) for i in range(len(rows))], False)):
        whole = sums.Sums(places, requests, (30,), 3)
        whole.enter(0)
        for part in parts:
            whole.add(part, segment, repeated=repeated)
        found.append({name: column.to_pylist() for name, column in whole.read_out(0).items()})
    assert found[0] == found[1]


WIDE = st.sampled_from((-(2**40), 0, 7, 2**40))


@given(st.lists(st.tuples(WIDE, WIDE, st.integers(1, 9)), min_size=1, max_size=20))
def test_keys_of_any_width_are_put_together(rows):
    parts = [{"kind": kind, "partner": partner, "n": n} for kind, partner, n in rows]
    found = folded.merged([{name: np.asarray([value]) for name, value in part.items()} for part in parts])
    expected = collections.Counter()
    for kind, partner, n in rows:
        expected[kind, partner] += n
    assert list(zip(*(found[name].tolist() for name in ("kind", "partner")), strict=True)) == sorted(expected)
    assert found["n"].tolist() == [expected[key] for key in sorted(expected)]


@given(st.lists(st.integers(-(2**90), 2**90), min_size=1, max_size=5))
def test_words_make_decimals(numbers):
    high, low = (np.asarray(words) for words in zip(*(divmod(n, 2**32) for n in numbers), strict=True))
    found = folded.decimals(high.astype("int64"), low.astype("int64"))
    assert [int(value.scaleb(6)) for value in found.to_pylist()] == numbers
