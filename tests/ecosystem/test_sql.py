from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from partnerml.ecosystem._functions import EXTRA_FUNCTIONS, register
from partnerml.ecosystem._sql import ALLOWED_FUNCTIONS, check_expression, check_select, simple_condition
from partnerml.errors import MappingError

COLUMNS = ["IsWon", "IsClosed", "a", "b", "l", "user"]
SOURCES = ["logins", "opp", "events"]


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with duckdb.connect() as opened:
        register(opened)
        yield opened


def check(connection: Any, text: str, *, scalar: bool) -> Any:
    if scalar:
        return check_expression(connection, text, columns=COLUMNS, where="HERE", source="opp")
    return check_select(connection, text, sources=SOURCES, columns=["user"], where="HERE")


def refusal(connection: Any, text: str, *, scalar: bool) -> str:
    with pytest.raises(MappingError) as caught:
        check(connection, text, scalar=scalar)
    assert str(caught.value).startswith("HERE: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("case when iswon then 'won' when isclosed then 'lost' else 'open' end", {"IsWon", "IsClosed"}),
        ("a + 1 -- a comment", {"a"}),
        ("/* ; */ a", {"a"}),
        ("opp.a || 'x'", {"a"}),
        ('"a"', {"a"}),
        ("l.field", {"l"}),
        ("user", {"user"}),
        ("list_transform(l, x -> x + b)", {"l", "b"}),
        ("[upper(x) for x in l if x > 'a']", {"l"}),
        ("try_cast(a as double) / 100", {"a"}),
        ("a::date + interval 3 day", {"a"}),
        ("extract(year from a::timestamp)", {"a"}),
        (
            "not cast(IsWon as boolean) and a in ('x', 'y') and b between 1 and 2 and l is not null",
            {"IsWon", "a", "b", "l"},
        ),
        ("a ->> '$.x'", {"a"}),
        ("substring(trim(a) from 1 for 2)", {"a"}),
        ("region(country(a), b)", {"a", "b"}),
        ("'a''); drop table x --'", set()),
        ("$$ getenv('HOME') $$", set()),
        ("coalesce(nullif(a, ''), strftime(to_timestamp(b), '%Y'))", {"a", "b"}),
    ],
)
def test_scalar_expressions_pass(connection: Any, text: str, columns: set[str]) -> None:
    fenced = check_expression(connection, text, columns=COLUMNS, where="HERE", source="opp")
    assert set(fenced.columns) == columns
    assert fenced.text == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("--", "one scalar expression"),
        ("a, b", "one scalar expression"),
        ("a as b", "HERE"),
        ("a b", "HERE"),
        ("a; select 1", "one expression"),
        ("a) from x --", "not readable"),
        ("a) as x, (b", "HERE"),
        ("a limit 1", "one scalar expression"),
        ("a from opp", "one scalar expression"),
        ("a where b", "one scalar expression"),
        ("distinct a", "one scalar expression"),
        ("a union select 1", "one scalar expression"),
        ("(select 1)", "subquery"),
        ("(select max(a) from opp)", "subquery"),
        ("a in (select 1)", "subquery"),
        ("exists (from opp)", "subquery"),
        ("max(a)", "max(...)"),
        ("count(*)", "use `sql:`"),
        ("row_number() over ()", "row_number"),
        ("unnest(l)", "unnest"),
        ("*", "not allowed"),
        ("columns(*)", "not allowed"),
        ("$1", "parameter"),
        ("?", "parameter"),
        ("iswom", "did you mean IsWon"),
        ("other.a", "no column other"),
        ("current_date", "when or by whom"),
        ("now()", "the function now"),
        ("random()", "the function random"),
        ("getenv('HOME')", "the function getenv"),
        ("GeTeNv('HOME')", "the function getenv"),
        ("\"getenv\"('HOME')", "the function getenv"),
        ("'x'.getenv()", "HERE"),
        ("a.upper()", "without a qualifier"),
        ("upper(getenv('HOME'))", "the function getenv"),
        ("upper(a).getenv()", "the function getenv"),
        ("main.upper(a)", "without a qualifier"),
        ("system.main.read_text(a)", "without a qualifier"),
        ("E'\\'' || getenv('x')", "the function getenv"),
        ("'' || getenv('x') || ''", "the function getenv"),
        ("case when true then getenv('x') end", "the function getenv"),
        ("{'k': getenv('x')}", "the function getenv"),
        ("list_transform(l, x -> getenv(x))", "the function getenv"),
        ("/* 'quoted */ getenv('x') /* ' */", "the function getenv"),
        ("current_setting('x')", "current_setting"),
        ("nextval('s')", "nextval"),
        ("query('select 1')", "the function query"),
        ("read_text('/etc/passwd')", "read_text"),
        ("write_log('x')", "write_log"),
        ("sleep_ms(100000)", "sleep_ms"),
        ("json_execute_serialized_sql('x')", "json_execute_serialized_sql"),
    ],
)
def test_other_expressions_are_refused(connection: Any, text: str, part: str) -> None:
    assert part in refusal(connection, text, scalar=True)


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("select * from logins", {"logins"}),
        ("from logins select a;", {"logins"}),
        ("select * from LOGINS l left join opp o using (a)", {"logins", "opp"}),
        ("with x as (select * from logins) select * from x join opp using (a)", {"logins", "opp"}),
        ("with logins as (select * from logins where a > 1) select * from logins", {"logins"}),
        ("select * from logins union all by name select * from opp", {"logins", "opp"}),
        ("select a, sum(b) over w from logins window w as (partition by a) qualify rank() over w = 1", {"logins"}),
        (
            "select a, count(*) filter (where b) from logins group by all having max(b) > 1 order by 1",
            {"logins"},
        ),
        ("select * from events e where exists (select 1 from opp where opp.a = e.a)", {"events", "opp"}),
        ("select unnest(l) as x from logins", {"logins"}),
        ("select u.x from logins, unnest(l) as u(x)", {"logins"}),
        ("select q.x from logins, lateral (select logins.a as x) q", {"logins"}),
        ("select * exclude (a) replace (b + 1 as b) from logins", {"logins"}),
        ("select * from logins asof join opp on logins.a >= opp.a", {"logins", "opp"}),
        ("select * from (values (1), (2)) v(x)", set()),
        ("select user from logins -- ; drop table logins", {"logins"}),
    ],
)
def test_selects_over_named_tables_pass(connection: Any, text: str, tables: set[str]) -> None:
    assert set(check_select(connection, text, sources=SOURCES, columns=["user"], where="HERE").tables) == tables


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("select 1; select 2", "one SELECT is needed"),
        ("select 1; drop table logins", "one SELECT is needed"),
        ("copy logins to 'x.csv'", "COPY"),
        ("copy (select 1) to 'x.csv'", "COPY"),
        ("insert into logins select 1", "INSERT"),
        ("update logins set a = 1", "UPDATE"),
        ("delete from logins", "DELETE"),
        ("create table x as select 1", "CREATE"),
        ("create macro upper(x) as getenv(x)", "CREATE"),
        ("attach 'x.duckdb'", "ATTACH"),
        ("install httpfs", "HERE"),
        ("load httpfs", "HERE"),
        ("set threads = 1", "SET"),
        ("pragma version", "PRAGMA"),
        ("call pragma_version()", "HERE"),
        ("export database 'x'", "HERE"),
        ("describe logins", "DESCRIBE"),
        ("summarize logins", "SUMMARIZE"),
        ("pivot logins on a using sum(b)", "PIVOT"),
        ("explain select 1", "HERE"),
        ("select * from 'x.csv'", "no raw table 'x.csv'"),
        ('select * from "/etc/passwd"', "no raw table '/etc/passwd'"),
        ("select * from 's3://bucket/x.parquet'", "no raw table"),
        ("select * from logns", "did you mean logins"),
        ("select * from read_csv('x')", "read_csv"),
        ("select * from read_text('/etc/passwd')", "read_text"),
        ("select * from glob('*')", "glob"),
        ("select * from parquet_scan('x')", "parquet_scan"),
        ("select * from sniff_csv('x')", "sniff_csv"),
        ("select * from range(10)", "table functions"),
        ("select * from duckdb_settings()", "duckdb_settings"),
        ("select * from query('select 1')", "query"),
        ("select * from query_table('logins')", "query_table"),
        ("select * from duckdb_tables", "no raw table"),
        ("select * from sqlite_master", "no raw table"),
        ("select * from information_schema.tables", "no schema"),
        ("select * from main.logins", "no schema"),
        ("select * from memory.source.logins", "no schema"),
        ("select * from pg_catalog.pg_settings", "no schema"),
        ("select * from (with x as (select 1) select * from x), x", "no raw table 'x'"),
        ("with recursive x as (select 1 union all select 1 from x) select * from x", "recursive"),
        ("with x as (from read_csv('y')) from x", "read_csv"),
        ("with x as (insert into logins values (1) returning *) select * from x", "HERE"),
        ("select * from logins) union all (select * from opp", "not readable"),
        ("select 1) t, (select * from read_text('/etc/passwd')", "HERE"),
        ("select * from logins l, lateral (select * from read_text(l.a))", "read_text"),
        ("select (select getenv('x')) from logins", "getenv"),
        ("select * from logins where a in (select a from 'y.parquet')", "no raw table"),
        ("select * from logins order by getenv('x')", "getenv"),
        ("select * from logins limit (select getenv('x'))", "getenv"),
        ("select a from logins group by getenv('x')", "getenv"),
        ("select * from logins join opp on getenv('x') = 'y'", "getenv"),
        ("select max(a) filter (where getenv('x') = 'y') from logins", "getenv"),
        ("select sum(a) over (order by getenv('x')) from logins", "getenv"),
        ("select * replace (getenv('x') as a) from logins", "getenv"),
        ("select * from (values (getenv('x'))) v(x)", "getenv"),
        ("select * from unnest([getenv('x')])", "getenv"),
        ("select * from logins at (version => 1)", "AT"),
        ("select * from logins positional join opp", "POSITIONAL JOIN"),
        ("select * from logins tablesample 10%", "TABLESAMPLE"),
        ("select * from logins using sample 10", "SAMPLE"),
        ("select current_timestamp from logins", "when or by whom"),
        ("select current_user", "when or by whom"),
        ("select getvariable('x')", "getvariable"),
        ("select $1", "parameter"),
        ("select a from", "not readable"),
        ("", "empty"),
    ],
)
def test_other_texts_are_refused(connection: Any, text: str, part: str) -> None:
    assert part in refusal(connection, text, scalar=False)


def test_user_is_a_column_only_where_a_raw_table_has_it(connection: Any) -> None:
    assert check_select(connection, "select user from logins", sources=SOURCES, columns=["User"], where="HERE")
    with pytest.raises(MappingError, match="when or by whom"):
        check_select(connection, "select user from logins", sources=SOURCES, columns=[], where="HERE")


def test_allowed_functions_exist_and_touch_nothing(connection: Any) -> None:
    rows = connection.execute("SELECT function_name, function_type, stability FROM duckdb_functions()").fetchall()
    known = {row[0].lower() for row in rows}
    # what the parser turns into something else before it is a function of the catalogue
    parsed = {"coalesce", "ifnull", "try", "if", "cume_dist", "trim"}
    windows = {"dense_rank", "fill", "first_value", "lag", "last_value", "lead", "nth_value", "ntile"}
    assert set(ALLOWED_FUNCTIONS) - known - parsed - windows - {"rank_dense"} <= {"percent_rank", "rank", "row_number"}
    volatile = {name.lower() for name, _, stability in rows if stability == "VOLATILE"}
    assert not (set(ALLOWED_FUNCTIONS) - set(EXTRA_FUNCTIONS)) & volatile
    tables = {name.lower() for name, kind, _ in rows if kind in ("table", "table_macro", "pragma")}
    assert set(ALLOWED_FUNCTIONS) & tables <= {"unnest", "range", "generate_series", "repeat", "histogram", "summary"}


@pytest.mark.parametrize(
    ("text", "is_simple"),
    [
        ("a = 'x'", True),
        ("not IsWon and (a > 1 or b is null)", True),
        ("a in ('x', 'y') and b between 1 and 2", True),
        ("upper(a) = 'X'", False),
        ("a::date > '2020-01-01'", False),
        ("a + 1 > 2", False),
        ("a like 'x%'", False),
    ],
)
def test_simple_conditions(text: str, is_simple: bool) -> None:
    assert (simple_condition(text) is not None) == is_simple
