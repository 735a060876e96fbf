"""The features on Spark are those of DuckDB, and those of the row-by-row oracle."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import gc
import math
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.features.tables import check_rows
from tests.oracles import point_in_time as oracle
from tests.spark import awkward

from partnerml import Ecosystem
from partnerml import spark as on_spark
from partnerml.errors import ConfigError
from partnerml.features import ChurnLabel, Feature, Population, build, build_rows, default_catalogue, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

# beside the default catalogue: what is late, split over partners, or without an end
MORE = (
    *(f"events__all__{measure}__ever" for measure in ("count", "value", "active_days", "value_mean", "value_last")),
    *(f"events__all__{measure}__90d" for measure in ("value_min", "value_max", "value_mean", "value_last", "gap_sd")),
    *(f"deals__{kind}__count__90d" for kind in ("all", "lost")),
    *(f"deals__won__{measure}__365d" for measure in ("amount", "amount_mean", "active_days")),
    *("certifications__earned__count__90d", "events__all__streak_weeks__12w", "events__survey__share__90d"),
    *("partners__country__trait__asof", "partners__tier__trait__asof", "partners__latitude__trait__asof"),
)


@pytest.fixture(scope="module")
def world():
    return awkward.tables()


@pytest.fixture(scope="module")
def on_duckdb(world):
    arrow = {name: awkward.arrow(rows) for name, rows in world.items()}
    with Ecosystem.from_frames(**arrow, lags=awkward.LAGS) as eco:
        assert eco.validate().violations == (), "the same rows on both engines"
        yield eco


@pytest.fixture(scope="module")
def folder(on_duckdb, tmp_path_factory):
    """The canonical tables, written once as docs/spark.md says."""
    path = tmp_path_factory.mktemp("canonical")
    for name in on_duckdb.tables:
        pq.write_table(on_duckdb.table(name).to_pyarrow(), path / f"{name}.parquet")
    return path


@pytest.fixture(scope="module")
def eco(spark, folder):
    tables = {path.stem: path for path in folder.glob("*.parquet")}
    with on_spark.ecosystem(tables, session=spark, lags=awkward.LAGS) as found:
        yield found


@pytest.fixture(scope="module")
def catalogue(on_duckdb):
    usual = default_catalogue(on_duckdb, before=awkward.AS_OF[0])
    more = tuple(Feature.parse(name) for name in MORE if name not in usual.names)
    # a group of eight partners is small
    return dataclasses.replace(
        usual, features=(*usual.features, *more), peers=dataclasses.replace(usual.peers, at_least=2)
    )


@pytest.fixture(scope="module")
def built(on_duckdb, eco, catalogue):
    """The features of every partner at every moment, on both engines."""
    keys = pd.DataFrame(
        [(partner, moment) for partner in awkward.PARTNERS for moment in awkward.AS_OF],
        columns=["partner_id", "as_of"],
    )
    return build_rows(on_duckdb, keys, catalogue=catalogue), build_rows(eco, keys, catalogue=catalogue)


def same(found, expected):
    if expected is None or pd.isna(expected) or pd.isna(found):
        return (expected is None or pd.isna(expected)) and pd.isna(found)
    if isinstance(expected, str):
        return found == expected
    return math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-12)


def test_equal_to_duckdb(built):
    duckdb, spark = built
    pd.testing.assert_frame_equal(duckdb.keys, spark.keys)
    assert list(duckdb.X.columns) == list(spark.X.columns)
    assert (duckdb.X.dtypes == spark.X.dtypes).all()
    wrong = [
        (name, *duckdb.keys.iloc[i], a, b)
        for name in duckdb.X.columns
        for i, (a, b) in enumerate(zip(duckdb.X[name], spark.X[name], strict=True))
        if not same(b, a)
    ]
    assert wrong == []


def test_the_world_tells_features_apart(built, catalogue):
    """A comparison of columns that hold one value each would compare nothing."""
    _, spark = built
    flat = [name for name in spark.X.columns if spark.X[name].nunique(dropna=False) < 2]
    assert len(flat) < len(catalogue.names) / 20, flat


def test_equal_to_the_oracle(built, world, catalogue, on_duckdb):
    _, spark = built
    sources = ("events", "activity", "certifications", "deals", "partners")
    known = [
        feature.name
        for feature in catalogue.features
        if feature.source in sources and not feature.relative and _in_oracle(feature)
    ]
    assert len(known) > 100
    lags = {name: on_duckdb.lag(name) for name in on_duckdb.tables}

    def expected(name, partner_id, moment):
        return oracle.feature(
            name,
            partner_id,
            moment,
            world,
            lags=lags,
            event_types=catalogue.event_types,
            static=catalogue.static_traits,
        )

    check_rows(spark, known, expected)


def _in_oracle(feature):
    """Whether `tests.oracles.point_in_time` knows a feature: streams over windows, and plain traits."""
    if feature.source == "partners":
        return feature.measure == "tenure_days" or (
            feature.measure == "trait"
            and feature.kind in ("country", "tier", "latitude", "partner_type", "postal_code")
        )
    return feature.entry.family.name == "WINDOWS"


def test_population_and_labels(eco, on_duckdb, catalogue):
    few = catalogue.only(["activity__all__recency_days__ever", "events__all__count__30d"])
    arguments = {
        "population": Population(active_within_days=90),
        "label": ChurnLabel(horizon_days=60, inactivity_days=30),
        "catalogue": few,
        "as_of": awkward.AS_OF[:2],
        "until": awkward.AS_OF[2],
    }
    expected, found = build(on_duckdb, **arguments), build(eco, **arguments)
    assert 5 < len(found) < 16
    assert found.y.nunique() == 2
    pd.testing.assert_frame_equal(expected.keys, found.keys)
    pd.testing.assert_series_equal(expected.y, found.y)
    pd.testing.assert_frame_equal(expected.times, found.times)
    assert expected.fingerprint == found.fingerprint


def test_written_without_passing_through_python(spark, eco, on_duckdb, catalogue, tmp_path):
    """And nothing is left behind."""
    few = catalogue.only(["activity__all__recency_days__ever", "partners__country__trait__asof"])
    moment = awkward.AS_OF[0]
    keys = eco.table("partners").mutate(as_of=_literal(moment)).select("partner_id", "as_of")
    before = _temporary(spark)
    write_rows(eco, keys, tmp_path / "features", catalogue=few, as_of=[moment])
    assert _temporary(spark) == before
    _wait_until_rows_are_free(spark)
    found = pq.read_table(tmp_path / "features").to_pandas().sort_values("partner_id", ignore_index=True)
    frame = pd.DataFrame({"partner_id": awkward.PARTNERS, "as_of": moment})
    expected = build_rows(on_duckdb, frame, catalogue=few)
    assert list(found["partner_id"]) == list(awkward.PARTNERS)
    assert found["as_of"].eq(pd.Timestamp(moment, tz="UTC")).all()
    for name in few.names:
        assert all(same(a, b) for a, b in zip(found[name], expected.X[name], strict=True)), name


def _literal(moment):
    import ibis

    return ibis.literal(moment, type="timestamp(6)")


def test_end_of_dense_data(eco, on_duckdb):
    assert eco.default_until() == on_duckdb.default_until()


def _wait_until_rows_are_free(spark):
    """Executors free rows when nobody refers to them, which the garbage collectors of both processes find out."""
    for _ in range(100):
        gc.collect()
        spark.sparkContext._jvm.System.gc()
        if not spark.sparkContext._jsc.getPersistentRDDs():
            return
        time.sleep(0.1)
    pytest.fail("rows are still held")


def _temporary(spark):
    return {view.name for view in spark.catalog.listTables() if "memtable" not in view.name}


def test_an_as_of_off_midnight_is_refused(eco, catalogue):
    few = catalogue.only(["events__all__count__30d"])
    noon = awkward.START + dt.timedelta(hours=12)
    refused = r"as_of: 2025-03-01 12:00:00 is no midnight \(UTC\).*DuckDB"
    with pytest.raises(ConfigError, match=refused):
        build_rows(eco, pd.DataFrame({"partner_id": ["A"], "as_of": [noon]}), catalogue=few)
    with pytest.raises(ConfigError, match=refused):
        build(eco, population=Population(), label=None, catalogue=few, as_of=[awkward.START, noon])


def test_zone_of_the_session_becomes_utc(spark, folder):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    with contextlib.closing(on_spark.ecosystem({"partners": folder / "partners.parquet"}, session=spark)):
        assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
