from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partnerml.config import Config
from partnerml.ecosystem import Ecosystem
from partnerml.errors import ConfigError, DataError, NotEnoughDataError, SourceError

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests" / "samples" / "olist"
OLIST = ROOT.parent / "shared" / "data" / "olist"


def day(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def frames(**changes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    partners = pd.DataFrame({"partner_id": ["a", "b"], "country": ["DE", "NA"], "left_at": [None, day("2024-02-01")]})
    events = pd.DataFrame(
        {
            "partner_id": ["a", "b", "a"],
            "occurred_at": [day("2024-01-01"), day("2024-01-15"), day("2024-03-01T10:00")],
            "event_type": ["login"] * 3,
            "value": [1, 2, None],
        }
    )
    return {"partners": partners, "events": events, **changes}


def test_frames_become_typed_tables() -> None:
    with Ecosystem.from_frames(**frames(), lags={"events": "2d"}) as eco:
        assert eco.tables == ("partners", "events")
        assert eco.has("events", "value")
        assert not eco.has("events", "recorded_at")
        assert not eco.has("deals")
        assert eco.lag("events") == dt.timedelta(days=2)
        assert eco.lag("partners") == dt.timedelta(0)
        schema = eco.table("events").schema()
        assert schema["occurred_at"] == ibis.dtype("timestamp(6)")
        assert schema["value"] == ibis.dtype("float64")
        assert eco.validate().ok
        frame = eco.table("partners").order_by("partner_id").to_pandas()
        assert list(frame["country"]) == ["DE", "NA"]


def test_a_folder_a_file_and_frames_say_the_same(tmp_path: Path) -> None:
    tables = frames()
    (tmp_path / "csv").mkdir()
    (tmp_path / "parquet").mkdir()
    for name, frame in tables.items():
        frame.to_csv(tmp_path / "csv" / f"{name}.csv", index=False)
        frame.to_parquet(tmp_path / "parquet" / f"{name}.parquet")
    with duckdb.connect(str(tmp_path / "all.duckdb")) as connection:
        for name in tables:
            connection.execute(f"CREATE TABLE {name} AS FROM '{tmp_path / 'parquet' / name}.parquet'")
    remote = ibis.duckdb.connect(str(tmp_path / "all.duckdb"), read_only=True)
    (tmp_path / "partnerml.yaml").write_text("data: {source: csv/}")
    config = Config.load(tmp_path / "partnerml.yaml")
    sources: list[Any] = [
        tmp_path / "csv",
        str(tmp_path / "parquet"),
        tmp_path / "partnerml.yaml",
        config,
        remote,
    ]
    with Ecosystem.from_frames(**tables) as eco:
        expected = {name: eco.table(name).to_pyarrow().sort_by("partner_id").to_pylist() for name in eco.tables}
    for source in sources:
        with Ecosystem.open(source) as eco:
            found = {name: eco.table(name).to_pyarrow().sort_by("partner_id").to_pylist() for name in eco.tables}
            assert _sorted(found) == _sorted(expected), source
    remote.disconnect()
    with Ecosystem.open(tmp_path / "all.duckdb") as eco:
        assert eco.table("events").count().execute() == 3


def _sorted(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    return {name: sorted(repr(sorted(row.items())) for row in rows) for name, rows in tables.items()}


def test_errors_stop_at_the_table_and_are_all_in_the_report() -> None:
    broken = frames(partners=pd.DataFrame({"partner_id": ["a", "a", "b"]}))
    with Ecosystem.from_frames(**broken) as eco:
        with pytest.raises(DataError, match=r"partners\.partner_id") as caught:
            eco.table("events")
        assert caught.value.violations
        report = eco.validate()
        assert not report.ok
        with pytest.raises(DataError):
            eco.has("partners", "country")


def test_a_missing_column_is_named() -> None:
    with (
        Ecosystem.from_frames(**frames(events=pd.DataFrame({"partner_id": ["a"]}))) as eco,
        pytest.raises(DataError, match=r"events\.(occurred_at|event_type): missing column"),
    ):
        eco.table("events")


def test_what_a_value_map_does_not_name_is_in_the_report() -> None:
    tree = {
        "data": {
            "tables": {
                "partners": {"columns": {"partner_id": "partner_id", "tier": {"from": "t", "values": {"g": "gold"}}}}
            }
        }
    }
    partners = pd.DataFrame({"partner_id": [str(i) for i in range(200)], "t": ["g"] * 199 + ["silver"]})
    with Ecosystem.from_frames(config=Config.from_dict(tree), partners=partners) as eco:
        (violation,) = [v for v in eco.validate().violations if v.rule == "unmapped_value"]
        assert (violation.severity, violation.count) == ("warning", 1)
        assert eco.table("partners").tier.count().execute() == 199
    tree["data"]["tables"]["partners"]["columns"]["tier"] = {"from": "t", "values": {"silver": "s"}}  # type: ignore[dict-item]
    with Ecosystem.from_frames(config=Config.from_dict(tree), partners=partners) as eco:
        # nearly all of them: past max_rejected a warning is an error
        assert [v.rule for v in eco.validate().errors] == ["unmapped_value"]


def test_an_unknown_table_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean events"):
        Ecosystem.from_frames(partners=frames()["partners"], event=frames()["events"])
    with pytest.raises(ConfigError, match="lags: there is no table deals"):
        Ecosystem.from_frames(**frames(), lags={"deals": "1d"})
    with Ecosystem.from_frames(**frames()) as eco, pytest.raises(ConfigError, match="there is no table deals"):
        eco.table("deals")


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        Ecosystem.open(tmp_path / "absent")
    with pytest.raises(SourceError, match="no such file"):
        Ecosystem.open(tmp_path / "absent.duckdb")
    with pytest.raises(ConfigError, match="cannot be read"):
        Ecosystem.open(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"data\.source"):
        Ecosystem.open(Config.from_dict({}))
    with pytest.raises(ConfigError, match="got int"):
        Ecosystem.open(3)
    with pytest.raises(ConfigError, match="a Config is complete"):
        Ecosystem.open(Config.from_dict({}), overrides=["seed=1"])
    with pytest.raises(SourceError, match="nosuch:// connection cannot be opened") as caught:
        Ecosystem.open("nosuch://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_only_validate_reads_the_clock() -> None:
    tomorrow = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(days=30)
    events = frames()["events"]
    many = pd.concat([events] * 100, ignore_index=True)
    late = pd.DataFrame({"partner_id": ["a"], "occurred_at": [tomorrow], "event_type": ["login"], "value": [1.0]})
    tables = frames(events=pd.concat([many, late], ignore_index=True))
    with Ecosystem.from_frames(**tables) as eco:
        assert eco.table("events").count().execute() == 301
        assert [v.rule for v in eco.validate().warnings if v.table == "events"] == ["future"]
        assert eco.table("events").count().execute() == 301
        assert not [v for v in eco.validate(now=tomorrow).violations if v.rule == "future"]
    with Ecosystem.from_frames(**tables, now=day("2024-03-05").replace(tzinfo=dt.UTC)) as eco:
        assert eco.table("events").count().execute() == 300


def test_rejects_are_written(tmp_path: Path) -> None:
    events = pd.concat([frames()["events"]] * 100, ignore_index=True)
    events.loc[len(events)] = ["nobody", day("2024-01-01"), "login", 1.0]
    with Ecosystem.from_frames(config=Config.from_dict({"output": str(tmp_path)}), **frames(events=events)) as eco:
        (path,) = eco.write_rejects()
    assert path == tmp_path / "rejects" / "events.csv"
    assert "nobody" in path.read_text()


def end_of_dense_days(moments: list[dt.datetime]) -> dt.datetime:
    """The oracle: every midnight in turn, counted row by row."""
    midnight = dt.datetime.combine(min(moments).date(), dt.time())
    while sum(moment >= midnight for moment in moments) * 1000 >= len(moments):
        midnight += dt.timedelta(days=1)
    return midnight


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 86399)), min_size=1, max_size=6),
    st.sampled_from([1, 400, 1200]),
)
def test_the_end_of_the_dense_data_equals_the_oracle(late: list[tuple[int, int]], bulk: int) -> None:
    start = day("2024-01-01")
    moments = [start + dt.timedelta(minutes=i) for i in range(bulk)]
    moments += [start + dt.timedelta(days=days, seconds=seconds) for days, seconds in late]
    events = pd.DataFrame({"partner_id": "a", "occurred_at": moments, "event_type": "login"})
    with Ecosystem.from_frames(partners=frames()["partners"], events=events) as eco:
        assert eco.default_until() == end_of_dense_days(moments)


def test_stray_rows_far_behind_the_dense_data_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    moments = [day("2024-01-01") + dt.timedelta(hours=i) for i in range(2000)]
    events = pd.DataFrame({"partner_id": "a", "occurred_at": [*moments, day("2026-05-05")], "event_type": "login"})
    with (
        Ecosystem.from_frames(partners=frames()["partners"], events=events) as eco,
        caplog.at_level(logging.WARNING, logger="partnerml"),
    ):
        until = eco.default_until()
        eco.default_until()
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert str(until.date()) in message
    assert "2026-05-05" in message


def test_no_dated_rows_is_said() -> None:
    with (
        Ecosystem.from_frames(partners=frames()["partners"]) as eco,
        pytest.raises(NotEnoughDataError, match="no table holds a dated row"),
    ):
        eco.default_until()


def test_absent_optional_tables_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="partnerml"), Ecosystem.from_frames(**frames()) as eco:
        eco.table("events")
        eco.validate()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "deals" in message
    assert "events" not in message.split(":", maxsplit=1)[0]


@pytest.fixture
def fenced(tmp_path: Path) -> Any:
    (tmp_path / "data").mkdir()
    for name, frame in frames().items():
        frame.to_parquet(tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    tree = {"data": {"source": str(tmp_path / "data")}, "output": str(tmp_path / "out"), "engine": {"threads": 1}}
    with Ecosystem.open(Config.from_dict(tree)) as eco:
        yield eco


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('{folder}/secret.csv')",
        "SELECT * FROM '{folder}/secret.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT content FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '{folder}/written.csv'",
        "ATTACH '{folder}/x.duckdb'",
        "INSTALL httpfs",
        "SET threads = 2",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET allowed_directories",
    ],
)
def test_the_engine_itself_is_shut_in(fenced: Ecosystem, tmp_path: Path, text: str) -> None:
    with pytest.raises(duckdb.Error):
        fenced.backend.con.execute(text.format(folder=tmp_path))


def test_what_the_engine_may_do_inside_the_fence(fenced: Ecosystem, tmp_path: Path) -> None:
    con = fenced.backend.con
    assert con.execute("SELECT current_setting('TimeZone'), current_setting('threads')").fetchone() == ("UTC", 1)
    stored = fenced.backend.create_table("mine", fenced.table("events"), temp=True)
    assert stored.count().execute() == 3
    assert "mine" in fenced.backend.list_tables()
    (tmp_path / "out").mkdir()
    fenced.table("events").to_parquet(tmp_path / "out" / "events.parquet")
    assert len(pd.read_parquet(tmp_path / "out" / "events.parquet")) == 3
    made = fenced.backend.create_table("held", ibis.memtable(stored.to_pyarrow()))
    assert made.value.sum().execute() == 3


def test_python_objects_are_out_of_reach(fenced: Ecosystem) -> None:
    here = pd.DataFrame({"a": [1]})
    with pytest.raises(duckdb.Error):
        fenced.backend.con.execute("SELECT * FROM here")
    assert len(here) == 1


def test_the_nightly_example_maps_exports(tmp_path: Path) -> None:
    exports = {
        "exports/Account.csv": "Id,PartnerSince__c,PartnerUntil__c,Name,Type,Tier__c,BillingCountry,BillingState,"
        "BillingPostalCode,Industries__c,NumberOfEmployees,IsDeleted,IsPartner\n"
        "0015000000Gv7qJ,2023-01-01,,Acme,Reseller,Gold,Germany,Bavaria,80331,Retail;Finance,50,false,true\n"
        "0015000000Gv7qK,2023-01-01,2024-01-01,Gone,Reseller,Gold,BRA,SP,01001,,7,false,true\n"
        "0015000000Gv7qL,,,Customer,,,France,,,,,false,false\n",
        "exports/Opportunity.csv": "Id,PartnerAccountId,CreatedDate,StageName,IsClosed,CloseDate,Amount,"
        "CurrencyIsoCode,IsDeleted\n"
        "006000000000001,0015000000Gv7qJAAR,2024-01-01,Closed Won,true,2024-02-01,100,USD,false\n"
        "006000000000002,0015000000Gv7qJ,2024-01-05,Negotiation,false,2024-09-01,100,EUR,false\n"
        "006000000000003,,2024-01-05,Closed Lost,true,2024-02-01,9,EUR,true\n",
        "exports/campaigns.csv": "account_id,responded_at\n0015000000Gv7qJ,2024-03-01\n",
        "exports/User.csv": "Id,AccountId\nu1,0015000000Gv7qJAAR\n",
        "exports/leads.csv": "anything\n1\n",
    }
    for name, text in exports.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "portal").mkdir()
    for month in (1, 2):
        logins = pd.DataFrame({"UserId": ["u1"], "LoginTime": [pd.Timestamp(2024, month, 3, tz="UTC")]})
        logins.to_parquet(tmp_path / "portal" / f"login-2024-{month:02d}.parquet")
    config = tmp_path / "nightly.yaml"
    config.write_text((ROOT / "configs" / "nightly.yaml").read_text())
    with Ecosystem.open(config) as eco:
        report = eco.validate()
        assert report.ok, report.text()
        assert eco.tables == ("partners", "events", "deals")
        partners = eco.table("partners").order_by("partner_id").to_pandas()
        deals = eco.table("deals").order_by("deal_id").to_pandas()
        events = eco.table("events").order_by("occurred_at").to_pandas()
        assert eco.lag("deals") == dt.timedelta(days=1)
    assert list(partners["country"]) == ["DE", "BR"]
    assert list(partners["region"]) == ["DE-BY", "BR-SP"]
    assert list(partners["verticals"].iloc[0]) == ["Retail", "Finance"]
    assert list(deals["outcome"]) == ["won", "open"]
    assert list(deals["closed_at"].isna()) == [False, True]
    assert deals["amount"].tolist() == pytest.approx([92.0, 100.0])
    assert list(events["event_type"]) == ["portal_login", "portal_login", "campaign_response"]
    assert set(events["partner_id"]) == {"0015000000Gv7qJAAR"}


def check_olist(folder: Path) -> Ecosystem:
    eco = Ecosystem.open(ROOT / "configs" / "olist.yaml", overrides=[f"data.source={folder}"])
    report = eco.validate()
    assert report.ok, report.text()
    assert not report.warnings, report.text()
    assert eco.tables == ("partners", "events", "deals", "accounts", "recruits")
    return eco


def test_the_sample_of_olist_maps_as_the_real_files_do() -> None:
    items = pd.read_parquet(SAMPLE / "olist_order_items.parquet")
    dense = items[items["shipping_limit_date"] < pd.Timestamp("2018-09-01", tz="UTC")]
    sales = dense.groupby(["order_id", "seller_id"]).agg(
        amount=("price", "sum"), at=("shipping_limit_date", "max"), rows=("price", "size")
    )
    with check_olist(SAMPLE) as eco:
        deals = eco.table("deals").to_pandas().set_index("deal_id").sort_index()
        events = eco.table("events").to_pandas().set_index("event_id").sort_index()
        partners = eco.table("partners").to_pandas().set_index("partner_id")
        accounts = eco.table("accounts").to_pandas()
    assert sales["rows"].max() > 1  # the sample has orders of several items
    sales.index = [f"{order}:{seller}" for order, seller in sales.index]
    sales = sales.sort_index()
    assert list(deals.index) == list(sales.index) == list(events.index)
    assert deals["amount"].round(2).tolist() == sales["amount"].round(2).tolist() == events["value"].round(2).tolist()
    assert (deals["registered_at"] == sales["at"].dt.tz_localize(None).astype("datetime64[us]")).all()
    assert (deals["closed_at"] == deals["registered_at"]).all()
    assert set(deals["outcome"]) == {"won"}
    assert {"health_beauty", "pc_gamer"} <= set(deals["vertical"].dropna())
    assert deals["vertical"].isna().any()
    signed = pd.read_csv(SAMPLE / "olist_closed_deals_dataset.csv")
    sellers = pd.read_csv(SAMPLE / "olist_sellers_dataset.csv")
    assert set(partners.index) == set(signed["seller_id"]) | set(sellers["seller_id"])
    assert set(partners.index[partners["joined_at"].notna()]) == set(signed["seller_id"])
    assert set(partners.index[partners["country"].notna()]) == set(sellers["seller_id"])
    assert partners["region"].dropna().str.startswith("BR-").all()
    assert accounts["created_at"].min() >= day("2017-12-05")


@pytest.mark.skipif(not OLIST.is_dir(), reason="Olist's files are not beside the repository")
def test_the_real_files_of_olist_pass() -> None:
    with check_olist(OLIST) as eco:
        counts = {name: eco.table(name).count().execute() for name in eco.tables}
        assert counts["partners"] == 3095 + 842 - 380
        assert counts["deals"] == counts["events"]
        assert counts["recruits"] == 842
        late = eco.table("events").occurred_at.max().execute()
        assert late < day("2018-09-01")
        assert day("2018-08-30") <= eco.default_until() <= day("2018-09-01")
