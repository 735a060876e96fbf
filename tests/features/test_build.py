"""Datasets: order, types, fingerprint; the same bytes whatever the threads; the real `Ecosystem`."""

from __future__ import annotations

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from partnerml.config import Config
from partnerml.ecosystem import Ecosystem
from partnerml.errors import ConfigError, DataError
from partnerml.features import (
    Catalogue,
    ChurnLabel,
    Feature,
    Peers,
    Population,
    build,
    build_rows,
    default_catalogue,
    write_rows,
)
from partnerml.synthetic import simulate

AS_OF = [dt.datetime(2025, month, 1, tzinfo=dt.UTC) for month in (6, 7, 9)]


def frames(n=4000, partners=40, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"P{i:02d}" for i in range(partners)]
    start = pd.Timestamp("2024-01-01", tz="UTC")
    at = start + pd.to_timedelta(rng.integers(0, 700 * 86_400, n), unit="s")
    late = pd.to_timedelta(rng.integers(0, 20 * 86_400, n) * (rng.random(n) < 0.1), unit="s")
    events = pd.DataFrame(
        {
            "partner_id": rng.choice(ids, n),
            "occurred_at": at,
            "recorded_at": at + late,
            "event_type": rng.choice(["portal_login", "training"], n),
            "value": rng.random(n) * 1e6,
        }
    )
    partners_ = pd.DataFrame({"partner_id": ids, "joined_at": start, "country": rng.choice(["DE", "FR"], partners)})
    return {"events": events, "partners": partners_}


def dataset(tables, *, threads=2, **changes):
    config = Config.of_source(None, [f"engine.threads={threads}"])
    with Ecosystem.from_frames(config=config, **tables) as eco:
        catalogue = default_catalogue(eco, before=AS_OF[0])
        arguments = {"population": Population(), "label": ChurnLabel(), "catalogue": catalogue, "as_of": AS_OF}
        return build(eco, **{**arguments, **changes})


@pytest.fixture(scope="module")
def tables():
    return frames()


@pytest.fixture(scope="module")
def data(tables):
    return dataset(tables)


def test_rows_are_sorted_typed_and_zoned(data):
    assert data.keys["as_of"].dtype == pd.DatetimeTZDtype("us", "UTC")
    assert data.keys.equals(data.keys.sort_values(["as_of", "partner_id"], ignore_index=True))
    assert list(data.as_ofs) == AS_OF
    texts = [name for name in data.X if data.X[name].dtype != "float64"]
    assert texts == ["partners__country__trait__asof"]
    assert isinstance(data.X[texts[0]].dtype, pd.CategoricalDtype)
    assert set(data.y.dropna()) <= {0.0, 1.0}
    assert list(data.times) == ["duration_days", "observed"]
    assert (data.weights == 1.0).all()


def test_the_same_bytes_whatever_the_threads_and_the_order_of_rows(tables, data):
    shuffled = {name: frame.sample(frac=1.0, random_state=1) for name, frame in tables.items()}
    other = dataset(shuffled, threads=1)
    pd.testing.assert_frame_equal(other.X, data.X, check_exact=True)
    pd.testing.assert_frame_equal(other.times, data.times, check_exact=True)
    assert other.fingerprint == data.fingerprint
    assert len(data.fingerprint) == 16


def test_the_fingerprint_knows_the_data_and_the_specification(tables, data):
    changed = {**tables, "events": tables["events"].sort_values("occurred_at").iloc[:3000]}
    catalogue = Catalogue((Feature.parse("events__all__count__365d"),))
    few = dataset(tables, catalogue=catalogue)
    assert dataset(changed, catalogue=catalogue).fingerprint != few.fingerprint
    assert few.fingerprint != data.fingerprint
    assert dataset(tables, catalogue=catalogue, label=ChurnLabel(120, 90)).fingerprint != few.fingerprint


def test_an_as_of_of_its_own_gives_the_same_features(tables, data):
    catalogue = Catalogue(
        tuple(Feature.parse(name) for name in data.X.columns),
        event_types=("portal_login", "training"),
        static_traits=("country",),
        peers=Peers(by=("country",)),
    )
    names = [name for name in data.X if "__trait__" not in name]
    alone = dataset(tables, as_of=AS_OF[1:2], catalogue=catalogue.only(names))
    among = data.at(AS_OF[1])
    pd.testing.assert_frame_equal(alone.X, among.X[names], check_exact=True)
    pd.testing.assert_frame_equal(alone.keys, among.keys)


def test_for_scoring_there_is_no_label(tables):
    catalogue = Catalogue((Feature.parse("activity__all__count__30d"),))
    found = dataset(tables, label=None, catalogue=catalogue)
    assert found.y is None
    assert found.times is None
    assert not found.mature.any()


def test_an_empty_population_has_no_rows_and_all_columns(tables):
    catalogue = Catalogue(tuple(map(Feature.parse, ("activity__all__count__30d", "partners__all__tenure_days__asof"))))
    found = dataset(tables, as_of="2020-01-01", catalogue=catalogue)
    assert len(found) == 0
    assert list(found.X) == list(catalogue.names)


def test_rows_of_many_partners_on_many_dates():
    """DuckDB 2.0.0 breaks down on these two joins, with more than two chunks of rows, where it gathers small chunks."""
    world = simulate(partners=600, start="2024-01-01", months=24, seed=3)
    moments = [moment.to_pydatetime() for moment in pd.date_range("2024-05-01", periods=14, freq="MS", tz="UTC")]
    names = ("activity__all__gap_mean__365d", "peers__events__all__count__90d")
    catalogue = Catalogue(tuple(map(Feature.parse, names)), static_traits=("country",), peers=Peers(by=("country",)))
    config = Config.of_source(None, ["engine.threads=1"])
    with Ecosystem.from_frames(config=config, now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), **world.tables) as eco:
        rows = {"population": Population(active_within_days=90), "label": None, "catalogue": catalogue}
        found, alone = build(eco, as_of=moments, **rows), build(eco, as_of=moments[-1], **rows)
    assert len(found) > 4096
    pd.testing.assert_frame_equal(found.at(moments[-1]).X, alone.X, check_exact=True)


def test_no_as_of_is_refused(tables):
    with pytest.raises(ConfigError, match="as_of: at least one moment is needed"):
        dataset(tables, as_of=[])


def test_given_rows_must_be_known_and_distinct(tables):
    catalogue = Catalogue((Feature.parse("events__all__count__30d"),))
    with Ecosystem.from_frames(**tables) as eco:
        keys = pd.DataFrame({"partner_id": ["P01", "P01"], "as_of": ["2025-06-01", "2025-06-01T00:00Z"]})
        with pytest.raises(DataError, match="1 row\\(s\\) come twice, first \\('P01'"):
            build_rows(eco, keys, catalogue=catalogue)
        keys = pd.DataFrame({"partner_id": ["P01", "nobody"], "as_of": ["2025-06-01", "2025-06-01"]})
        with pytest.raises(DataError, match="1 partner\\(s\\) are not in partners, first 'nobody'"):
            build_rows(eco, keys, catalogue=catalogue)


def test_rows_can_be_written_without_passing_through_python(tables, tmp_path):
    catalogue = Catalogue((Feature.parse("events__all__count__30d"), Feature.parse("events__all__value__90d")))
    keys = pd.DataFrame({"partner_id": ["P01", "P02"], "as_of": [AS_OF[0], AS_OF[1]]})
    config = Config.of_source(None, [f"output={tmp_path}"])
    with Ecosystem.from_frames(config=config, **tables) as eco:
        given = ibis.memtable(
            keys.assign(as_of=keys["as_of"].dt.tz_localize(None)),
            schema={"partner_id": "string", "as_of": "timestamp(6)"},
        )
        write_rows(eco, given, tmp_path / "rows.parquet", catalogue=catalogue, as_of=AS_OF)
        expected = build_rows(eco, keys, catalogue=catalogue)
    found = pq.read_table(tmp_path / "rows.parquet").to_pandas().sort_values(["as_of", "partner_id"], ignore_index=True)
    np.testing.assert_array_equal(found[list(catalogue.names)], expected.X)
    assert found["partner_id"].tolist() == expected.keys["partner_id"].tolist()
