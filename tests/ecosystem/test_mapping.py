from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pytest

from partnerml.config import Config
from partnerml.ecosystem._engine import open_engine
from partnerml.ecosystem._mapping import MappedTable, Mapper
from partnerml.ecosystem._sources import Sources, find_files
from partnerml.errors import MappingError, SourceError

OPPORTUNITIES = """Id,CreatedDate,Amount,Industry,IsWon,IsClosed,IsDeleted
a,2024-01-01,1.5,Automotive ,true,true,false
b,2024-01-02,,AUTOMOTIVE,false,true,false
c,2024-01-03,3,Retail,false,false,false
d,2024-01-04,4,,false,false,true
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Return a function that maps one table of a folder by a block of the configuration."""
    backends = []

    def call(
        block: Any, table: str = "deals", *, remote: Any = None, sources: dict[str, str] | None = None
    ) -> MappedTable:
        data = {"source": str(tmp_path), "sources": sources or {}, "tables": {table: block}}
        tree = {"data": data, "output": str(tmp_path / "out")}
        config = Config.from_dict(tree, base=tmp_path)
        files = {} if remote is not None else find_files(config)
        backend = open_engine(config, folders=[tmp_path])
        backends.append(backend)
        blocks = config.data.tables[table]
        assert blocks is not None
        return Mapper(backend, Sources(backend, files=files, remote=remote)).map(table, blocks)

    (tmp_path / "opp.csv").write_text(OPPORTUNITIES)
    yield call
    for backend in backends:
        backend.disconnect()


def rows(mapped: MappedTable, *columns: str) -> list[tuple[Any, ...]]:
    found = mapped.table.select(*columns).to_pyarrow().to_pylist()
    return sorted((tuple(row[name] for name in columns) for row in found), key=repr)


def refusal(run: Any, block: Any, table: str = "deals") -> str:
    with pytest.raises(MappingError) as caught:
        run(block, table)
    return str(caught.value)


def test_rename_constant_expression_and_where(run: Any) -> None:
    mapped = run(
        {
            "from": "opp",
            "columns": {
                "deal_id": "id",  # SQL does not mind capitals, nor do we
                "amount": {"expr": "try_cast(Amount as double) * 2"},
                "role": {"const": "sourced"},
                "product": {"const": None},
                "outcome": {
                    "expr": "case when IsWon = 'true' then 'won' when opp.IsClosed = 'true' then 'lost' else 'open' end"
                },
            },
            "where": "not cast(IsDeleted as boolean) -- soft deletes",
        }
    )
    assert mapped.violations == ()
    assert rows(mapped, "deal_id", "amount", "role", "product", "outcome") == [
        ("a", 3.0, "sourced", None, "won"),
        ("b", None, "sourced", None, "lost"),
        ("c", 6.0, "sourced", None, "open"),
    ]


def test_values_compare_trimmed_and_without_case(run: Any) -> None:
    column = {"from": "Industry", "values": {" automotive": "manufacturing.automotive", "RETAIL": "retail"}}
    mapped = run({"from": "opp", "columns": {"deal_id": "Id", "vertical": column}})
    assert mapped.violations == ()
    assert rows(mapped, "deal_id", "vertical") == [
        ("a", "manufacturing.automotive"),
        ("b", "manufacturing.automotive"),
        ("c", "retail"),
        ("d", None),
    ]


def test_values_compare_without_any_blanks_around(run: Any, tmp_path: Path) -> None:
    (tmp_path / "blanks.csv").write_text(
        'Id,Industry\na,"\tRetail\n"\nb,\u00a0retail\u00a0\nc,"\t"\n', encoding="utf-8"
    )
    column = {"from": "Industry", "values": {"retail": "r"}}
    mapped = run({"from": "blanks", "columns": {"deal_id": "Id", "vertical": column}})
    assert mapped.violations == ()  # a field of blanks is an empty field
    assert rows(mapped, "deal_id", "vertical") == [("a", "r"), ("b", "r"), ("c", None)]


def test_raw_columns_may_be_called_like_anything_beside_values(run: Any, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("k,v\na,Retail\n")
    columns = {"deal_id": {"expr": "k || '!'"}, "vertical": {"expr": "v", "values": {"retail": "r"}}}
    mapped = run({"from": "short", "columns": columns, "where": "v is not null"})
    assert rows(mapped, "deal_id", "vertical") == [("a!", "r")]


def test_a_value_that_is_not_mapped_is_a_violation_with_its_count(run: Any) -> None:
    mapped = run(
        {"from": "opp", "columns": {"deal_id": "Id", "vertical": {"from": "Industry", "values": {"retail": "r"}}}}
    )
    (violation,) = mapped.violations
    assert (violation.table, violation.column, violation.rule) == ("deals", "vertical", "unmapped_value")
    assert (violation.count, violation.total) == (2, 4)
    assert [dict(row) for row in violation.first] == [
        {"vertical": "AUTOMOTIVE", "rows": 1},
        {"vertical": "Automotive", "rows": 1},
    ]
    assert "data.tables.deals.columns.vertical.values" in violation.remedy
    assert rows(mapped, "vertical") == [("r",), (None,), (None,), (None,)]


def test_unmapped_values_are_counted_after_where(run: Any) -> None:
    column = {"from": "Industry", "values": {"retail": "r"}}
    mapped = run({"from": "opp", "columns": {"deal_id": "Id", "vertical": column}, "where": "Id <> 'b'"})
    assert [(violation.count, violation.total) for violation in mapped.violations] == [(1, 3)]


@pytest.mark.parametrize(("default", "expected"), [("other", "other"), (None, None)])
def test_a_default_takes_what_is_not_mapped(run: Any, default: str | None, expected: str | None) -> None:
    column = {"from": "Industry", "values": {"retail": None}, "default": default}
    mapped = run({"from": "opp", "columns": {"deal_id": "Id", "vertical": column}})
    assert mapped.violations == ()
    assert rows(mapped, "deal_id", "vertical") == [
        ("a", expected),
        ("b", expected),
        ("c", None),  # mapped to null on purpose
        ("d", None),  # null stays null
    ]


def test_values_of_a_file_and_of_an_expression(run: Any, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("\ufeffraw,canonical\nautomotive,auto\n\nretail,\n", encoding="utf-8")
    column = {"expr": "Industry || ''", "values": "map.csv"}
    (tmp_path / "sub").mkdir()
    mapped = run({"from": "opp", "columns": {"deal_id": "Id", "vertical": column}})
    assert mapped.violations == ()
    assert rows(mapped, "vertical") == [("auto",), ("auto",), (None,), (None,)]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a,b\n", "holds no values below its header"),
        ("a,b\nx\n", "line 2: two fields are needed, got 1"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_of_values_is_refused(run: Any, tmp_path: Path, content: str | None, part: str) -> None:
    if content is not None:
        (tmp_path / "map.txt").write_text(content)
    block = {"from": "opp", "columns": {"deal_id": "Id", "vertical": {"from": "Industry", "values": "map.txt"}}}
    message = refusal(run, block)
    assert message.startswith("data.tables.deals.columns.vertical.values")
    assert part in message


def test_values_that_contradict_are_refused(run: Any) -> None:
    column = {"from": "Industry", "values": {"Retail": "a", " retail ": "b"}}
    assert "'a' and to 'b'" in refusal(run, {"from": "opp", "columns": {"deal_id": "Id", "vertical": column}})


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"from": "oppp"}, ("data.tables.deals.from", "did you mean opp", "raw tables: opp")),
        (
            {"from": "opp", "columns": {"deal_id": "Idd", "amount": "Amount"}},
            ("data.tables.deals.columns.deal_id", "opp has no column Idd; did you mean Id", "Amount"),
        ),
        ({"from": "opp", "columns": {"amount": {"expr": "Amunt * 2"}}}, ("columns.amount.expr", "did you mean Amount")),
        ({"from": "opp", "columns": {"amount": {"expr": "max(Amount)"}}}, ("columns.amount.expr", "use `sql:`")),
        ({"from": "opp", "where": "IsDeletd"}, ("data.tables.deals.where", "did you mean IsDeleted")),
        ({"from": "opp", "where": "true) union (select 1"}, ("data.tables.deals.where",)),
        ({"from": "opp", "columns": {"amount": {"expr": "Amount::double + Industry::double"}}}, ("try_cast",)),
        (
            {"from": "opp", "columns": {"amount": {"expr": "lower(Amount, 1)"}}},
            ("data.tables.deals.columns.amount.expr", "number of provided arguments"),
        ),
        ([{"from": "opp"}, {"from": "x"}], ("data.tables.deals.1.from", "no raw table x")),
        ({"sql": "select * from op"}, ("data.tables.deals.sql", "did you mean opp")),
        ({"sql": "select Id as deal_id, 1 as amout from opp"}, ("data.tables.deals.sql", "did you mean amount")),
        ({"sql": "select Idd as deal_id from opp"}, ("data.tables.deals.sql", "Idd")),
        ({"sql": "select * from read_csv('opp.csv')"}, ("data.tables.deals.sql", "read_csv")),
    ],
)
def test_what_is_wrong_is_refused_by_place(run: Any, block: Any, parts: tuple[str, ...]) -> None:
    message = refusal(run, block)
    for part in parts:
        assert part in message


def test_a_union_is_by_name(run: Any, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("key,sum\nx,9\n")
    mapped = run(
        [
            {"from": "opp", "columns": {"deal_id": "Id", "amount": "Amount"}, "where": "Id = 'a'"},
            {"from": "old", "columns": {"amount": "sum", "deal_id": "key", "role": {"const": "sourced"}}},
        ]
    )
    assert rows(mapped, "deal_id", "amount", "role") == [("a", "1.5", None), ("x", "9", "sourced")]


def of_sql(path: Path, select: str) -> None:
    """Write the rows of a SELECT as a Parquet file."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}'")


ZONED = "SELECT 'a' AS id, TIMESTAMPTZ '2024-01-01 12:00:00+00' AS seen"
NAIVE = "SELECT 'b' AS id, TIMESTAMP '2024-01-01 12:00:00' AS seen"


def test_blocks_that_mix_zoned_and_naive_moments_are_refused(run: Any, tmp_path: Path) -> None:
    of_sql(tmp_path / "new.parquet", ZONED)
    of_sql(tmp_path / "old.parquet", NAIVE)
    columns = {"deal_id": "id", "registered_at": "seen"}
    message = refusal(run, [{"from": "new", "columns": columns}, {"from": "old", "columns": columns}])
    for part in ("data.tables.deals", "registered_at has a time zone in block 0 and none in block 1", "map the column"):
        assert part in message
    told = columns | {"registered_at": {"expr": "timezone('America/New_York', seen)"}}
    mapped = run([{"from": "new", "columns": columns}, {"from": "old", "columns": told}])
    assert mapped.table.registered_at.epoch_seconds().to_pyarrow().to_pylist() == [1704110400, 1704128400]


def test_a_block_whose_moments_are_all_missing_mixes_nothing(run: Any, tmp_path: Path) -> None:
    of_sql(tmp_path / "new.parquet", ZONED)
    of_sql(tmp_path / "old.parquet", "SELECT 'b' AS id, CAST(NULL AS TIMESTAMP) AS seen")
    columns = {"deal_id": "id", "registered_at": "seen"}
    mapped = run([{"from": "new", "columns": columns}, {"from": "old", "columns": columns}])
    assert mapped.table.count().to_pyarrow().as_py() == 2


@pytest.mark.parametrize("other", ["'x'", "7"])
def test_blocks_with_floating_ids_beside_others_are_refused(run: Any, tmp_path: Path, other: str) -> None:
    of_sql(tmp_path / "one.parquet", "SELECT 2.0::DOUBLE AS id, 1.5::DOUBLE AS n")
    of_sql(tmp_path / "two.parquet", f"SELECT {other} AS id, '2' AS n")
    columns = {"deal_id": "id", "amount": "n"}
    message = refusal(run, [{"from": "one", "columns": columns}, {"from": "two", "columns": columns}])
    for part in ("data.tables.deals: deal_id", "fractions in block 0 and none in block 1", "(12.0) as text"):
        assert part in message
    # of amounts a union changes nothing that counts
    as_text = columns | {"deal_id": {"expr": "cast(cast(id as bigint) as varchar)"}}
    mapped = run([{"from": "one", "columns": as_text}, {"from": "two", "columns": {"deal_id": {"const": "x"}}}])
    assert rows(mapped, "deal_id") == [("2",), ("x",)]


def test_files_that_mix_zoned_and_naive_moments_are_refused_where_they_are_used(run: Any, tmp_path: Path) -> None:
    of_sql(tmp_path / "part-1.parquet", ZONED)
    of_sql(tmp_path / "part-2.parquet", NAIVE)
    of_sql(tmp_path / "part-3.parquet", ZONED)
    sources = {"parts": "part-*.parquet"}
    for block in (
        {"from": "parts", "columns": {"deal_id": "id", "registered_at": "SEEN"}},
        {"from": "parts", "columns": {"deal_id": "id"}, "where": "seen > '2024-01-01'"},
        {"sql": "select id as deal_id, seen as registered_at from parts"},
    ):
        with pytest.raises(MappingError) as caught:
            run(block, sources=sources)
        message = str(caught.value)
        for part in ("data.tables.deals", "raw table parts: seen has", "part-1.parquet and 1 more", "data.sources"):
            assert part in message
        assert f"none in {tmp_path / 'part-2.parquet'}" in message
    assert rows(run({"from": "parts", "columns": {"deal_id": "id"}}, sources=sources), "deal_id") == [
        ("a",),
        ("a",),
        ("b",),
    ]


def test_files_with_floating_ids_beside_text_are_refused(run: Any, tmp_path: Path) -> None:
    of_sql(tmp_path / "part-1.parquet", "SELECT 2.0::DOUBLE AS deal_id, 1.5::DOUBLE AS amount")
    of_sql(tmp_path / "part-2.parquet", "SELECT 'x' AS deal_id, '2' AS amount")
    sources = {"parts": "part-*.parquet"}
    for block in ({"from": "parts"}, {"from": "parts", "columns": {"deal_id": "deal_id"}}):
        with pytest.raises(
            MappingError, match=r"deal_id must be text or whole numbers.*fractions in .*part-1\.parquet"
        ):
            run(block, sources=sources)
    mapped = run({"from": "parts", "columns": {"amount": "amount", "deal_id": {"const": "d"}}}, sources=sources)
    assert rows(mapped, "amount") == [("1.5",), ("2",)]


def test_sql_joins_named_tables(run: Any, tmp_path: Path) -> None:
    (tmp_path / "User Accounts.csv").write_text("UserId,Account\nu1,p1\nu2,p2\n")
    (tmp_path / "logins.jsonl").write_text('{"who": "u1", "at": "2024-01-01"}\n{"who": "u9", "at": "2024-01-02"}\n')
    text = """
        select u.Account as PARTNER_ID, l.at as occurred_at, 'login' as event_type
        from logins l join "User Accounts" u on u.UserId = l.who;
    """
    assert rows(run({"sql": text}, "events"), "partner_id", "occurred_at", "event_type") == [
        ("p1", "2024-01-01", "login")
    ]


def test_a_table_as_it_is_keeps_what_may_be_there(run: Any, tmp_path: Path) -> None:
    (tmp_path / "partners.csv").write_text("Partner_Id,employees,bad  name,a__b\nx,5,1,2\n")
    (tmp_path / "deal_partners.csv").write_text("deal_id,partner_id,note\nd,x,?\n")
    assert run({}, "partners").table.columns == ("partner_id", "employees")
    # what the schema does not know is for validation to name
    assert run({}, "deal_partners").table.columns == ("deal_id", "partner_id", "note")


def test_a_mere_renaming_stays_a_view(run: Any, tmp_path: Path) -> None:
    pd.DataFrame({"Id": ["a"], "Amount": [1.0]}).to_parquet(tmp_path / "big.parquet")

    def kind(block: Any) -> str:
        mapped = run(block)
        query = (
            "SELECT table_type FROM information_schema.tables WHERE table_schema = 'mapped' AND table_name = 'deals'"
        )
        found = mapped.table.get_backend().con.execute(query).fetchone()
        return str(found[0])

    columns = {"deal_id": "Id", "role": {"const": "sourced"}}
    assert kind({"from": "big", "columns": columns, "where": "Amount > 0"}) == "VIEW"
    assert kind({"from": "big", "columns": {"deal_id": {"expr": "id18(Id)"}}}) == "BASE TABLE"
    assert kind({"from": "opp", "columns": {"deal_id": "Id"}}) == "BASE TABLE"


def test_a_broken_file_is_refused_with_its_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "deals.csv").write_text("deal_id,amount\na,1\nb,2,3\n")
    with pytest.raises(SourceError, match=r"deals\.csv: line 3: 3 fields where the header has 2"):
        run({})


def test_names_and_constants_are_quoted(run: Any, tmp_path: Path) -> None:
    (tmp_path / "o'dd \"name.csv").write_text('"a ""b"" \'c",Amount\nx,1\n')
    mapped = run({"from": "o'dd \"name", "columns": {"deal_id": 'a "b" \'c', "role": {"const": "it's; --"}}})
    assert rows(mapped, "deal_id", "role") == [("x", "it's; --")]


def test_tables_of_a_connection_are_mapped_alike(run: Any) -> None:
    remote = ibis.duckdb.connect()
    remote.con.execute("CREATE TABLE opp AS SELECT 'd' || i AS id, i AS n, i % 2 = 0 AS gone FROM range(6) r(i)")
    block = {"from": "opp", "columns": {"deal_id": "ID", "amount": {"expr": "n * 10"}}, "where": "not gone"}
    assert rows(run(block, remote=remote), "deal_id", "amount") == [("d1", 10), ("d3", 30), ("d5", 50)]
    block = {"from": "opp", "columns": {"role": {"const": "sourced"}}}
    assert rows(run(block, remote=remote), "role") == [("sourced",)] * 6
    block = {"sql": "select id as deal_id, sum(n) as amount from opp where upper(id) > 'D3' group by all"}
    assert rows(run(block, remote=remote), "deal_id", "amount") == [("d4", 4), ("d5", 5)]
    remote.disconnect()


@pytest.mark.parametrize(
    "join",
    [
        "a join b using (acc, ORG)",
        "a natural join b",
        "a natural left outer join b",
        "a join b on a.acc = b.acc and a.org = b.org",
    ],
)
def test_joins_over_a_connection_see_every_column_that_they_are_on(run: Any, join: str) -> None:
    remote = ibis.duckdb.connect()
    remote.con.execute(
        "CREATE TABLE a AS SELECT * FROM (VALUES ('p1', 1, 1, 0), ('p2', 1, 2, 0)) t(pid, acc, org, acc2)"
    )
    remote.con.execute("CREATE TABLE b AS SELECT * FROM (VALUES ('one', 1, 1), ('two', 1, 2)) t(name, acc, org)")
    mapped = run({"sql": f"select a.pid as partner_id, b.name as name from {join}"}, "partners", remote=remote)
    assert rows(mapped, "partner_id", "name") == [("p1", "one"), ("p2", "two")]
    remote.disconnect()


def test_from_without_select_over_a_connection_takes_every_column(run: Any) -> None:
    remote = ibis.duckdb.connect()
    remote.con.execute("CREATE TABLE a AS SELECT 'p1' AS partner_id, 'one' AS name")
    assert rows(run({"sql": "from a"}, "partners", remote=remote), "partner_id", "name") == [("p1", "one")]
    remote.disconnect()
