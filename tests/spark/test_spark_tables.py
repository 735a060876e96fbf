"""Tables on Spark: what is read as it is, what is cast, what is refused."""

from __future__ import annotations

import datetime as dt
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partnerml import spark as on_spark
from partnerml.config import Config
from partnerml.errors import ConfigError, DataError, MappingError, MissingExtraError, SourceError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]
NOON = dt.datetime(2025, 3, 1, 12, 0, 0, 1)  # noqa: DTZ001 (naive UTC)


def config(**tables):
    return Config.from_dict({"data": {"tables": tables}}, name="test")


def opened(spark, tables, **options):
    frames = {
        name: spark.createDataFrame(table) if isinstance(table, pa.Table) else table for name, table in tables.items()
    }
    return on_spark.ecosystem(frames, session=spark, **options)


def rows(eco, name):
    return eco.backend.to_pyarrow(eco.table(name)).to_pylist()


PARTNERS = pa.table({"partner_id": ["A", "B"]})


def test_types_become_those_of_the_schema(spark):
    partners = pa.table(
        {
            "partner_id": pa.array([1, 2], pa.int32()),
            "Country": ["de ", ""],
            "joined_at": pa.array([dt.date(2025, 3, 1), None], pa.date32()),
            "left_at": pa.array([None, NOON], pa.timestamp("us")),
            "latitude": pa.array([float("nan"), 1.5], pa.float32()),
            "max_open_leads": pa.array([2.0, float("nan")]),
            "verticals": [[" retail", ""], None],
            "employees": pa.array([10, None], pa.int16()),
            "no fit name": ["x", "y"],
        }
    )
    events = pa.table(
        {
            "partner_id": ["1", "2"],
            "occurred_at": pa.array([NOON, NOON], pa.timestamp("us", tz="Asia/Tokyo")),
            "event_type": ["login", "login"],
            "actor": ["Partner", None],
            "unknown": ["x", "y"],
        }
    )
    with opened(spark, {"partners": partners, "events": events}) as eco:
        assert eco.tables == ("partners", "events")
        first, second = sorted(rows(eco, "partners"), key=lambda row: row["partner_id"])
        assert first == {
            "partner_id": "1",
            "country": "DE",
            "joined_at": dt.datetime(2025, 3, 1),  # noqa: DTZ001
            "left_at": None,
            "latitude": None,
            "max_open_leads": 2,
            "verticals": ["retail"],
            "employees": 10.0,
        }
        assert (second["country"], second["left_at"], second["verticals"]) == (None, NOON, None)
        (event, _) = rows(eco, "events")
        assert event == {"partner_id": "1", "occurred_at": NOON, "event_type": "login", "actor": "partner"}
        assert eco.has("events", "actor")
        assert not eco.has("events", "recorded_at")
        assert not eco.has("deals")


def test_renamed_constant_and_filtered(spark, tmp_path):
    pq.write_table(
        pa.table({"Id": ["D1", "D2", "D3"], "Opened": [NOON] * 3, "Kind": ["won", "won", "lost"], "Gone": [0, 1, 0]}),
        tmp_path / "opp.parquet",
    )
    mapping = {
        "from": "opp",
        "columns": {"deal_id": "id", "registered_at": "Opened", "outcome": "Kind", "role": {"const": "sourced"}},
        "where": "Gone = 0 and Kind in ('won', 'lost')",
        "timezone": "Europe/Berlin",
    }
    tables = {"partners": PARTNERS, "opp": str(tmp_path / "opp.parquet")}
    with opened(spark, tables, config=config(deals=mapping), lags={"deals": dt.timedelta(hours=36)}) as eco:
        found = sorted(rows(eco, "deals"), key=lambda row: row["deal_id"])
        assert [row["deal_id"] for row in found] == ["D1", "D3"]
        assert {row["role"] for row in found} == {"sourced"}
        assert found[0]["registered_at"] == NOON - dt.timedelta(hours=1), "noon in Berlin"
        assert eco.lag("deals") == dt.timedelta(hours=36)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            {"columns": {"partner_id": {"expr": "upper(x)"}}},
            r"columns\.partner_id: expr is not read on Spark.*map once",
        ),
        (
            {"columns": {"partner_id": "x", "country": {"from": "y", "values": {"a": "DE"}}}},
            r"columns\.country: values",
        ),
        ({"sql": "select 1"}, r"data\.tables\.partners: sql is not read on Spark"),
        ({"where": "lower(partner_id) = 'a'"}, r"data\.tables\.partners\.where: .* is more than comparisons"),
        ({"columns": {"partner_id": "partner"}}, r"there is no column partner; did you mean partner_id\?"),
        ({"from": "partnerz"}, r"there is no table partnerz; did you mean partners\?"),
    ],
)
def test_more_than_renaming_is_refused(spark, block, said):
    with (
        pytest.raises(MappingError, match=said),
        opened(spark, {"partners": PARTNERS}, config=config(partners=block)) as eco,
    ):
        eco.table("partners")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"name": ["A"]}), r"partners: 1 required column\(s\) missing: partner_id \(there are name\)"),
        (pa.table({"partner_id": [1.5]}), r"partners\.partner_id: Spark has it as double, which does not read as id"),
        (
            pa.table({"partner_id": ["A", "A"]}),
            r"the key partner_id is null or comes twice, first \{'partner_id': 'A'\}",
        ),
        (pa.table({"partner_id": ["A", None]}), r"the key partner_id is null or comes twice"),
        (pa.table({"partner_id": ["A"], "joined_at": ["2025-03-01"]}), r"partners\.joined_at: Spark has it as string"),
    ],
)
def test_wrong_rows_are_refused(spark, table, said):
    with opened(spark, {"partners": table}) as eco, pytest.raises(DataError, match=said):
        eco.table("partners")


def test_two_currencies_are_refused(spark):
    deals = pa.table(
        {"deal_id": ["1", "2"], "registered_at": [NOON] * 2, "outcome": ["open"] * 2, "currency": ["EUR", "usd"]}
    )
    with (
        opened(spark, {"partners": PARTNERS, "deals": deals}) as eco,
        pytest.raises(DataError, match=r"deals\.currency: amounts are in EUR, USD; convert them: map once"),
    ):
        eco.table("deals")


def test_what_is_no_table(spark, tmp_path):
    with pytest.raises(SourceError, match=r"table partners: .*PATH_NOT_FOUND"):
        on_spark.ecosystem({"partners": tmp_path / "absent.parquet"}, session=spark)
    with pytest.raises(SourceError, match=r"table partners: .*TABLE_OR_VIEW_NOT_FOUND"):
        on_spark.ecosystem({"partners": "absent"}, session=spark)
    with pytest.raises(SourceError, match="a Spark DataFrame is needed, got Table"):
        on_spark.ecosystem({"partners": PARTNERS}, session=spark)
    with pytest.raises(ConfigError, match="partnerz is no canonical table; did you mean partners"):
        opened(spark, {"partners": PARTNERS, "partnerz": PARTNERS})
    with pytest.raises(ConfigError, match="tables: name at least partners"):
        on_spark.ecosystem({}, session=spark)


def test_rows_are_validated_where_they_are_mapped(spark):
    with opened(spark, {"partners": PARTNERS}) as eco:
        with pytest.raises(ConfigError, match="rows are not validated on Spark: map once with DuckDB"):
            eco.validate()
        assert eco.write_rejects() == ()


def test_the_running_session_is_taken_and_the_environment_left_alone(spark):
    before = dict(os.environ)
    assert on_spark.session() is spark
    with on_spark.ecosystem({"partners": spark.createDataFrame(PARTNERS)}):
        pass
    assert spark.sparkContext.defaultParallelism == 2, "closing an ecosystem leaves the session running"
    assert dict(os.environ) == before


def test_without_pyspark_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyspark", None)
    with pytest.raises(MissingExtraError, match=r'pyspark is needed for .* pip install "partnerml\[spark\]"'):
        on_spark.session()
