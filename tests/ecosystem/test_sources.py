from __future__ import annotations

import datetime as dt
import gzip
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partnerml.config import Config
from partnerml.ecosystem._engine import open_engine
from partnerml.ecosystem._files import read_header
from partnerml.ecosystem._sources import Sources, find_files, to_arrow
from partnerml.errors import DataError, MappingError, SourceError


@pytest.fixture
def opened() -> Iterator[Any]:
    """Return a function that opens the raw tables of a folder."""
    backends = []

    def run(folder: Path, **sources: str) -> Sources:
        tree = {"data": {"source": str(folder), "sources": sources}, "output": str(folder / "out")}
        files = find_files(Config.from_dict(tree))
        backend = open_engine(
            Config.from_dict(tree), folders={path.parent for item in files.values() for path in item.paths}
        )
        backends.append(backend)
        return Sources(backend, files=files)

    yield run
    for backend in backends:
        backend.disconnect()


def rows(sources: Sources, name: str) -> list[tuple[Any, ...]]:
    # zoned moments as text: fetching them takes a package that nothing else needs
    select = f"SELECT * REPLACE ({{}}) FROM {sources.open(name).relation}"
    described = sources._backend.con.execute(f"DESCRIBE {sources.open(name).relation}").fetchall()
    zoned = ", ".join(f'"{row[0]}"::VARCHAR AS "{row[0]}"' for row in described if "ZONE" in row[1])
    select = select.format(zoned) if zoned else f"SELECT * FROM {sources.open(name).relation}"
    return sources._backend.con.execute(select).fetchall()


def test_csv_is_text_and_only_the_empty_field_is_null(tmp_path: Path, opened: Any) -> None:
    text = 'id,country,amount\n007,NA,1.50\n 8 ,"NA",\n9,null,""\n10,"a, ""b""\nc",NaN\n'
    (tmp_path / "raw.csv").write_text(text)
    found = rows(opened(tmp_path), "raw")
    assert found == [
        ("007", "NA", "1.50"),
        (" 8 ", "NA", None),
        ("9", "null", None),
        ("10", 'a, "b"\nc', "NaN"),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_line_ends(tmp_path: Path, opened: Any, separator: str, end: str) -> None:
    lines = [separator.join(['"a,b;c"', "x"]), separator.join(["1", "2"]), separator.join(["3", ""])]
    (tmp_path / "raw.csv").write_bytes(("\ufeff" + end.join(lines) + end).encode())
    sources = opened(tmp_path)
    assert sources.columns("raw") == ("a,b;c", "x")
    assert rows(sources, "raw") == [("1", "2"), ("3", None)]


def test_one_column_and_no_rows(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "one.csv").write_text("only\na\nb\n")
    (tmp_path / "none.csv").write_text("a,b\n")
    sources = opened(tmp_path)
    assert rows(sources, "one") == [("a",), ("b",)]
    assert rows(sources, "none") == []
    assert sources.columns("none") == ("a", "b")


def test_gzip(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "raw.csv.gz").write_bytes(gzip.compress(b"a,b\n1,NA\n"))
    assert rows(opened(tmp_path), "raw") == [("1", "NA")]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"a,b\n1,2\n1,2,3\n", ("line 3", "3 fields where the header has 2")),
        (b"a,b\n1,2\n\n1\n", ("line 4", "1 fields where the header has 2")),
        (b"a,b\n1,2\n3,caf\xe9\n", ("line 3", "UTF-8")),
        (b'a,b\n1,"x\n2,3\n', ("line 2", "never closed")),
        (b"", ("line 1", "header")),
        (b"\n1,2\n", ("line 1", "header")),
        (b"a,A\n1,2\n", ("line 1", "A is there twice")),
    ],
)
def test_a_broken_csv_is_refused_with_file_and_line(
    tmp_path: Path, opened: Any, content: bytes, parts: tuple[str, ...]
) -> None:
    from partnerml.ecosystem._engine import explained

    (tmp_path / "raw.csv").write_bytes(content)
    with pytest.raises(SourceError) as caught, explained("raw"):
        rows(opened(tmp_path), "raw")
    for part in (str(tmp_path / "raw.csv"), *parts):
        assert part in str(caught.value)


def test_a_header_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(b"caf\xe9,b\n1,2\n")
    with pytest.raises(SourceError, match=r"raw\.csv: line 1: not UTF-8"):
        read_header(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_header(tmp_path / "absent.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(SourceError, match="cannot be read"):
        read_header(broken)


def test_a_glob_is_one_table_joined_by_name(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "login-1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "login-2.csv").write_text("b,a\n3,4\n")
    (tmp_path / "login-3.csv").write_text("a,b\n5,6\n")
    sources = opened(tmp_path, logins=str(tmp_path / "login-*.csv"))
    assert sorted(rows(sources, "logins")) == [("1", "2"), ("4", "3"), ("5", "6")]
    for i in (1, 2):
        pd.DataFrame({"a": [i]}).to_parquet(tmp_path / f"p{i}.parquet")
    assert sorted(rows(opened(tmp_path, many=str(tmp_path / "p*.parquet")), "many")) == [(1,), (2,)]


def test_parquet_keeps_its_types_and_zoned_nanoseconds_are_read(tmp_path: Path, opened: Any) -> None:
    moment = pa.array([1_500_000_000_000_000_000], pa.timestamp("ns", tz="UTC"))
    table = pa.table({"t": moment, "n": pa.array([1], pa.int32()), "l": pa.array([["x"]])})
    pq.write_table(table, tmp_path / "raw.parquet")
    sources = opened(tmp_path)
    assert rows(sources, "raw") == [("2017-07-14 02:40:00+00", 1, ["x"])]
    assert not sources.open("raw").needs_parsing
    assert str(sources._backend.table("raw", database="source").schema()["t"]) == "timestamp('UTC', 6)"


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "raw.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"raw\.parquet: not a readable Parquet file"):
        opened(tmp_path).open("raw")


def test_json_lines_keep_text_as_text(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "raw.jsonl").write_text(
        '{"id": 1, "at": "2024-01-01T00:00:00+02:00", "uid": "550e8400-e29b-41d4-a716-446655440000", "l": ["a"]}\n'
        '{"id": null, "at": "2024-01-01", "p": {"x": 1.5}, "m": "k"}\n'
        '{"id": 3, "m": 7, "none": null}\n'
    )
    sources = opened(tmp_path)
    assert sources.columns("raw") == ("id", "at", "uid", "l", "p", "m", "none")
    assert rows(sources, "raw") == [
        (1, "2024-01-01T00:00:00+02:00", "550e8400-e29b-41d4-a716-446655440000", ["a"], None, None, None),
        (None, "2024-01-01", None, None, {"x": 1.5}, "k", None),
        (3, None, None, None, None, "7", None),
    ]


def test_broken_json_is_refused_with_file_and_line(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "raw.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(SourceError, match=r"raw\.jsonl: line \d: not valid JSON"):
        opened(tmp_path).open("raw")


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    def find(**data: Any) -> Any:
        return find_files(Config.from_dict({"data": data}))

    with pytest.raises(SourceError, match="does not exist"):
        find(source=str(tmp_path / "absent"))
    with pytest.raises(SourceError, match="holds no data file"):
        find(source=str(tmp_path))
    (tmp_path / "a.csv").write_text("x\n")
    with pytest.raises(SourceError, match="is not a folder"):
        find(source=str(tmp_path / "a.csv"))
    with pytest.raises(SourceError, match=r"data\.sources\.b: no file matches"):
        find(sources={"b": str(tmp_path / "b*.csv")})
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(SourceError, match="same stem"):
        find(source=str(tmp_path))
    with pytest.raises(SourceError, match="one format"):
        find(sources={"b": str(tmp_path / "a.*")})
    (tmp_path / "c.xlsx").write_text("x")
    with pytest.raises(SourceError, match="no known kind"):
        find(sources={"b": str(tmp_path / "c.xlsx")})


def test_a_raw_table_is_found_by_name_in_any_case(tmp_path: Path, opened: Any) -> None:
    (tmp_path / "Opportunity.csv").write_text("Id\n1\n")
    sources = opened(tmp_path)
    assert sources.resolve("opportunity", "here") == "Opportunity"
    with pytest.raises(MappingError, match="here: there is no raw table Oportunity; did you mean Opportunity"):
        sources.resolve("Oportunity", "here")


def test_a_duckdb_file_is_read_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "crm.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE deals AS SELECT 1 AS id")
        connection.execute("CREATE VIEW won AS SELECT id + 1 AS id FROM deals")
    before = path.read_bytes()
    backend = open_engine(Config.of_source(str(path)), folders=[tmp_path], attach=path)
    sources = Sources(backend, attached=True)
    assert set(sources.names) == {"deals", "won"}
    assert rows(sources, "won") == [(2,)]
    with pytest.raises(duckdb.Error):
        backend.con.execute("CREATE TABLE attached.main.x AS SELECT 1")
    backend.disconnect()
    assert path.read_bytes() == before
    (tmp_path / "no.duckdb").write_text("x" * 5000)
    with pytest.raises(SourceError, match=r"no\.duckdb: not a DuckDB file"):
        open_engine(Config.of_source(None), folders=[], attach=tmp_path / "no.duckdb")


@pytest.fixture
def remote() -> Iterator[Any]:
    connection = ibis.duckdb.connect()
    connection.con.execute(
        "CREATE TABLE opp AS SELECT i AS id, i % 2 = 0 AS deleted, 'x' || i AS name, 'secret' AS note "
        "FROM range(10) r(i)"
    )
    yield connection
    connection.disconnect()


@pytest.fixture
def embedded() -> Iterator[Any]:
    backend = open_engine(Config.of_source(None), folders=[])
    yield backend
    backend.disconnect()


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (None, 10),
        ("not deleted", 5),
        ("deleted = false and id >= 4", 3),
        ("id in (1, 3) or name = 'x8'", 3),
        ("id between 2 and 4 and name is not null", 3),
        ("-id < -7", 2),
        ("id + 1 > 8", 10),  # arithmetic is left to the caller
        ("upper(name) = 'X1'", 10),
        ("name = 1", 10),  # text and number: engines differ in what this compares
    ],
)
def test_only_needed_columns_and_simple_conditions_leave_a_connection(
    embedded: Any, remote: Any, where: str | None, count: int
) -> None:
    sources = Sources(embedded, remote=remote)
    assert sources.columns("opp") == ("id", "deleted", "name", "note")
    raw = sources.open("opp", columns=["id", "deleted", "name"], where=where)
    assert raw.columns == ("id", "deleted", "name")
    assert embedded.con.execute(f"SELECT count(*) FROM {raw.relation}").fetchone() == (count,)


def test_frames_become_tables(embedded: Any) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", None],
            "tier": pd.Categorical(["x", "y"]),
            "at": pd.to_datetime(["2024-01-01", None]),
            "zoned": pd.to_datetime(["2024-01-01", None], utc=True),
            "n": [1.5, np.nan],
            "none": [None, None],
            "l": [["p", "q"], None],
        }
    )
    sources = Sources(embedded, frames={"partners": to_arrow("partners", frame)})
    assert rows(sources, "partners") == [
        ("a", "x", dt.datetime(2024, 1, 1), "2024-01-01 00:00:00+00", 1.5, None, ["p", "q"]),  # noqa: DTZ001
        (None, "y", None, None, None, None, None),
    ]
    assert to_arrow("x", ibis.memtable(pa.table({"id": ["a"]}))).to_pylist() == [{"id": "a"}]


def test_frames_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(DataError, match=r"partners\.id: values of one type are needed"):
        to_arrow("partners", pd.DataFrame({"id": ["a", 1.5]}, dtype=object))
    zoned = pd.Series([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], dtype=object)  # noqa: DTZ001
    with pytest.raises(DataError, match=r"events\.at: 1 moments have a time zone and 1 have none"):
        to_arrow("events", pd.DataFrame({"at": zoned}))
    with pytest.raises(DataError, match="names of columns are text"):
        to_arrow("events", pd.DataFrame({1: [1]}))
    with pytest.raises(DataError, match="twice"):
        to_arrow("events", pa.table({"a": [1], "A": [2]}))
    with pytest.raises(SourceError, match="DataFrame, Arrow table or Ibis table is needed, got list"):
        to_arrow("events", [1])  # type: ignore[arg-type]


def test_a_sqlite_connection_is_read(tmp_path: Path, embedded: Any) -> None:
    path = tmp_path / "crm.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE opp (id TEXT, n INTEGER)")
        connection.executemany("INSERT INTO opp VALUES (?, ?)", [("a", 1), ("b", 2)])
    connection.close()
    try:
        remote = ibis.sqlite.connect(path)
    except Exception as error:
        pytest.skip(f"no SQLite backend here: {error}")
    sources = Sources(embedded, remote=remote)
    assert rows(sources, "opp") == [("a", 1), ("b", 2)]
