"""What is written in one pass is what Ibis writes in many: its own compiler is the oracle."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Any

import ibis
import ibis.expr.operations as ops
import pytest
from ibis import _
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.common.patterns import replace

from partnerml.ecosystem import _translation
from partnerml.ecosystem._engine import EmbeddedDuckDB

T = ibis.table({"a": "int64", "b": "float64", "s": "string", "at": "timestamp(6)", "l": "array<string>"}, name="T")
U = ibis.table({"a": "int64", "c": "decimal(38, 6)", "d": "string"}, name="U")
OWN = EmbeddedDuckDB.compiler


class Usual(DuckDBCompiler):
    """Ibis's compiler of DuckDB as it is."""


# what is left to Ibis whole
DELEGATED = ("first of a window", "nulls replaced", "sampled", "capitals")


def by_ibis(expr: ibis.Table, *, fused: bool = False) -> Any:
    usual = ibis.options.sql.fuse_selects
    ibis.options.sql.fuse_selects = fused
    try:
        return Usual().to_sqlglot(expr)
    finally:
        ibis.options.sql.fuse_selects = usual


def canonical(tree: Any) -> str:
    """Return SQL in which nothing is left of how subqueries are numbered, nor of the order of common tables."""
    shared: dict[str, str] = {}

    def plain(text: str) -> str:
        local: dict[str, str] = {}
        return re.sub(r'"t\d+"', lambda m: shared.get(m[0]) or local.setdefault(m[0], f"<{len(local)}>"), text)

    tree = tree.copy()
    for cte in tree.ctes:
        shared[f'"{cte.alias}"'] = hashlib.sha256(plain(cte.this.sql("duckdb")).encode()).hexdigest()
    for name in ("with", "with_"):
        tree.args.pop(name, None)
    return plain(tree.sql("duckdb"))


def same(expr: ibis.Table, *, fused: bool = False) -> None:
    assert canonical(OWN.to_sqlglot(expr)) == canonical(by_ibis(expr, fused=fused))


def joined(how: str = "left_join") -> ibis.Table:
    return getattr(T, how)(U, "a")


TWICE = T.group_by("a").aggregate(n=_.count(), top=_.b.max(where=_.s == "x"))
AGAIN = T.mutate(x=_.a + 1)
WIDE = ibis.table({f"c{i}": "int64" for i in range(9)}, name="W")
EXPRESSIONS = {
    "table": T,
    "project": T.select("a", x=_.b * 2, y=_.s.upper()),
    "the same columns": T.select(*T.columns).select("b"),
    "columns in another order": T.select(*reversed(T.columns)),
    "renamed": T.rename(z="a"),
    "filter": T.filter((_.a > 1) & (_.s == "x") | _.b.isnull()),
    "filter of a window": T.filter(_.b == _.b.max().over(group_by="s"), _.a > 0).select("a"),
    "filter of nothing": T.filter(_.s.isin([])),
    "sort": T.order_by(_.a.desc(), "b").limit(3, offset=1),
    "distinct": T.select("a", "s").distinct(),
    "drop few": WIDE.drop("c0"),
    "drop most": WIDE.drop(*WIDE.columns[:7]),
    "aggregate": TWICE,
    "aggregate of all": T.aggregate(n=_.count(), k=_.s.nunique(), m=_.b.mean()),
    "left join": joined().drop("a_right"),
    "inner join on more": T.inner_join(U, ["a", T.s == U.d]),
    "semi join": joined("semi_join"),
    "anti join": joined("anti_join").select("s"),
    "cross join": T.cross_join(U.select("d")),
    "chain": T.left_join(U, "a").drop("a_right").left_join(U.rename(e="a"), [("a", "e")]),
    "with itself": AGAIN.inner_join(AGAIN.view(), "a"),
    "read twice": TWICE.left_join(TWICE.select("a", m="n"), "a").drop("a_right"),
    "read twice inside": ibis.union(TWICE, TWICE.filter(_.n > 1), TWICE.order_by("a").limit(2)),
    "named": T.left_join(TWICE.alias("once"), "a").left_join(TWICE.alias("once").select(b2="a", n2="n"), [("a", "b2")]),
    "union": ibis.union(T.select("a", x="s"), U.select("a", x="d")),
    "intersection": ibis.intersect(T.select("a"), U.select("a")),
    "windows": T.mutate(
        k=ibis.row_number().over(order_by="a"),
        lag=_.b.lag(1).over(group_by="s", order_by="at"),
        run=_.b.sum().over(ibis.window(group_by="s", order_by="a", preceding=None, following=0)),
        near=_.a.count().over(ibis.range_window(group_by="s", order_by="b", preceding=0, following=None)),
        rank=ibis.rank().over(order_by="b"),
        third=ibis.ntile(3).over(order_by="b"),
    ).filter(_.k > 1),
    "first of a window": T.mutate(x=_.b.first().over(group_by="s", order_by="a")),
    "in a table": T.filter(_.a.isin(U.a)),
    "a value of another table": T.mutate(x=_.b - U.c.max().as_scalar()),
    "rows of another": T.filter((U.a == 3).any()),
    "cases": T.mutate(x=ibis.cases((_.a > 1, "x"), (_.b > 2, "y"), else_=None), z=_.s.fill_null("-"), i=_.a.nullif(0)),
    "moments": T.mutate(d=_["at"].date(), e=_["at"] + ibis.interval(days=3), f=_["at"] < ibis.timestamp("2025-01-01")),
    "lists": T.mutate(x=_["l"].length(), y=_["l"].unnest(), z=_["l"].map(lambda item: item.upper())),
    "bits": T.aggregate(x=_.a.bit_or(), y=(_.a << 3).max(), z=(_.a & 7).sum(where=_.b > 0)),
    "struct": T.aggregate(x=ibis.struct({"at": _["at"], "b": _.b}).max())["x"].as_table().select(y=_.x["b"]),
    "named values": T.select(_.a.name("x"), (_.b.name("y") + 1).name("z")),
    "nulls replaced": T.fill_null({"b": 0.0}).drop_null(["a"]),
    "sampled": T.sample(0.5),
    "texts": T.mutate(x=_.s[1:3], y=_.s.find("x"), z=_["l"].index("x"), w=_.s.isin([])),
    "capitals": T.mutate(z=_.s.capitalize()),
    "memory": ibis.memtable({"a": [1, 2]}, schema={"a": "int64"}).left_join(T, "a"),
    "values": ibis.range(3).unnest().name("x").as_table(),
    "deep": T.mutate(x=_.a).filter(_.x > 0).mutate(y=_.x).distinct().order_by("y").drop("y", "x", "b").select("a", "s"),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_as_ibis_writes_it(name: str) -> None:
    same(EXPRESSIONS[name], fused=name in DELEGATED)


def test_a_parameter_is_left_to_ibis() -> None:
    limit = ibis.param("int64")
    expr = T.filter(_.a > limit)
    found = OWN.to_sqlglot(expr, params={limit: 3})
    assert found.sql("duckdb") == Usual().to_sqlglot(expr, params={limit: 3}).sql("duckdb")


def test_most_of_it_is_written_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the comparison would be of Ibis with itself."""

    def refuse(self: Any, op: Any, params: Any) -> Any:
        raise LookupError

    monkeypatch.setattr(_translation.DirectCompiler, "_by_ibis", refuse)
    left = []
    for name, expr in EXPRESSIONS.items():
        try:
            OWN.to_sqlglot(expr)
        except LookupError:
            left.append(name)
    assert left == list(DELEGATED)


def test_what_is_left_to_ibis_touches_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are the process's: another thread would write by them meanwhile."""
    seen = []
    usual = DuckDBCompiler.translate

    def watched(self: Any, op: Any, *, params: Any) -> Any:
        seen.append(ibis.options.sql.fuse_selects)
        return usual(self, op, params=params)

    monkeypatch.setattr(DuckDBCompiler, "translate", watched)
    for name in DELEGATED:
        OWN.to_sqlglot(EXPRESSIONS[name])
    assert seen == [True] * len(DELEGATED)


def test_the_rules_of_ibis_are_those_that_were_read() -> None:
    """Another rule would have to be looked at: `_REPLACED` names what these replace."""
    assert _translation._rules_are_those_read(type(OWN))
    assert _translation._rules_are_those_read(Usual)


@pytest.mark.parametrize("where", ["rewrites", "post_rewrites"])
def test_a_rule_that_was_not_read_is_left_to_ibis(where: str) -> None:
    @replace(ops.Uppercase)
    def lowered(_: Any) -> Any:
        return ops.Lowercase(_.arg)

    rules = (*getattr(DuckDBCompiler, where), lowered)
    later = type("Later", (DuckDBCompiler,), {where: rules})
    own = type("Own", (_translation.DirectCompiler, later), {})()
    assert not _translation._rules_are_those_read(type(own))
    expr = EXPRESSIONS["project"]
    assert own.to_sqlglot(expr).sql("duckdb") == later().to_sqlglot(expr).sql("duckdb")
    assert "LOWER" in own.to_sqlglot(expr).sql("duckdb")


def test_a_temporary_table_holds_what_was_asked_for() -> None:
    backend = EmbeddedDuckDB().connect()
    source = ibis.memtable({"a": [1, 2, None], "s": ["x", None, "y"]}, schema={"a": "int64", "s": "string"})
    rows = source.filter(_.s.notnull())
    made = backend.create_table('a "table"', rows.select(x=_.a.fill_null(7).cast("int8"), s="s"), temp=True)
    assert made.schema() == ibis.schema({"x": "int8", "s": "string"})
    assert backend.to_pyarrow(made.order_by("x")).to_pylist() == [{"x": 1, "s": "x"}, {"x": 7, "s": "y"}]
    backend.drop_table('a "table"')
    assert not [name for name in backend.list_tables() if "table" in name and "memtable" not in name]
    backend.disconnect()


def test_tables_found_side_by_side_are_those_found_alone() -> None:
    backend = EmbeddedDuckDB().connect()
    backend.con.execute("SET GLOBAL TimeZone='UTC'")
    backend.con.execute("CREATE VIEW numbers AS SELECT range AS a, range::decimal(38, 6) AS d FROM range(10)")
    numbers = backend.table("numbers")
    parts = [numbers.filter(_.a % 3 == i) for i in range(3)]
    temporary = backend.create_table("kept", numbers, temp=True)
    in_memory = ibis.memtable({"a": [1, 2]}, schema={"a": "int64"})
    for tables in (parts, [*parts, temporary], [*parts, in_memory]):
        sessions = [backend.con.cursor() for _ in tables]
        assert (backend._by_sessions(sessions, tables) is None) is (tables is not parts)
        alone = [backend.to_pyarrow(table) for table in tables]
        assert backend.to_arrow_together(tables) == alone
        assert [table.schema for table in backend.to_arrow_together(tables)] == [table.schema for table in alone]
    backend.disconnect()


def test_tables_found_side_by_side_see_the_zone_of_the_session() -> None:
    backend = EmbeddedDuckDB().connect()
    backend.con.execute("SET GLOBAL TimeZone='Asia/Tokyo'")
    backend.con.execute("SET TimeZone='UTC'")
    backend.con.execute("CREATE VIEW moments AS SELECT '2025-01-01 00:00:00+00'::timestamptz::timestamp AS at")
    assert backend._by_sessions([backend.con.cursor()], [backend.table("moments")]) is None
    (found,) = backend.to_arrow_together([backend.table("moments")])
    assert found["at"].to_pylist() == [dt.datetime(2025, 1, 1)]  # noqa: DTZ001
    backend.disconnect()
