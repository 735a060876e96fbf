"""From an Ibis expression to SQL in one pass.

Ibis 12 first rewrites an expression until every relation is a selection, five times from end to end, and makes each
node anew that stands on a rewritten one. For the features of a build that is seconds, more than the queries take. But
a projection, a filter or a sort can be written as it stands: here each node is visited once, by Ibis's own rules of
how it is written, and what comes out is what Ibis would write without fusing selections.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import ibis.expr.operations as ops
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers._compat import WITH_ARG
from ibis.common.patterns import NoMatch

# written as selections of their parent
_SELECTIONS = (ops.Project, ops.Filter, ops.Sort, ops.Distinct)
_KNOWN = (
    *_SELECTIONS,
    ops.DropColumns,
    ops.JoinChain,
    ops.JoinReference,
    ops.SelfReference,
    ops.Aggregate,
    ops.Set,
    ops.Limit,
    ops.PhysicalTable,
    ops.DummyTable,
    ops.SQLQueryResult,
)
# what Ibis's rules for an engine replace, each by something else
_RANKS = (ops.RankBase, ops.NTile)
_REPLACED = (
    ops.NthValue,
    ops.StringFind,
    ops.FindInSet,
    ops.ArrayPosition,
    ops.ArrayMap,
    ops.ArrayFilter,
)
# by name, those rules: one that was not read could replace what is written here as it stands
_RULES = (
    "subtract_one_from_array_map_filter_index",
    "Literal(False, dtype=Boolean(nullable=True))",
    "add_order_by_to_empty_ranking_window_functions",
    "one_to_zero_index",
    "add_one_to_nth_value_input",
)
_OTHERWISE = (ops.ScalarParameter, ops.First, ops.Last)
# these name a relation without reading it
_NAMES = (ops.Field, ops.CountStar, ops.CountDistinctStar)


class DirectCompiler:
    """What makes a compiler of Ibis write relations as they stand; what it does not know it leaves to Ibis.

    Goes before the compiler in the bases of a class. Selections are not merged: DuckDB does that too, and in no time.
    """

    __slots__ = ()

    def translate(self: Any, op: ops.Node, *, params: Mapping[Any, Any]) -> sge.Expression:
        """Return the SQL of a relation, as a tree."""
        if not _rules_are_those_read(self.__class__):
            return self._by_ibis(op, params)
        order = _children_first(op)
        if params or isinstance(op, ops.AliasedRelation) or not all(map(_is_known, order)):
            return self._by_ibis(op, params)
        if any(isinstance(node, tuple(self.lowered_ops)) for node in order):
            return self._by_ibis(op, params)
        return _Translation(self, order).sql()

    def _by_ibis(self, op: ops.Node, params: Mapping[Any, Any]) -> sge.Expression:
        return super().translate(op, params=params)  # type: ignore[misc]


@functools.cache
def _rules_are_those_read(kind: type[Any]) -> bool:
    """Whether Ibis rewrites expressions for a compiler by the rules that `_REPLACED` and `_RANKS` stand for."""
    makers = (getattr(rule, "replacer", rule) for rule in kind.rewrites)
    names = tuple(getattr(getattr(maker, "func", None), "__name__", None) or str(maker) for maker in makers)
    return names == _RULES and not kind.post_rewrites


class _Selection:
    """What Ibis's rule for selections asks of a node."""

    def __init__(self, *, star: bool) -> None:
        self._star = star

    def is_star_selection(self) -> bool:
        return self._star


class _Translation:
    """One expression on its way to SQL."""

    def __init__(self, compiler: Any, order: Sequence[ops.Node]) -> None:
        self._compiler = compiler
        self._order = order
        self._written: MutableMapping[ops.Node, Any] = {}
        self._names = (f"t{n}" for n in itertools.count())
        self._shared = _read_twice(order)
        self._common: list[tuple[str, Any]] = []

    def sql(self) -> sge.Expression:
        """Write every node, children first."""
        root = self._order[-1]
        for node in self._order:
            if isinstance(node, ops.Alias):
                self._written[node] = self._written[node.arg]
            elif not isinstance(node, ops.Relation):
                self._written[node] = self._value(node)
            elif node is root:
                return self._whole(self._relation(node))
            else:
                self._written[node] = self._placed(node, self._relation(node))
        raise AssertionError("a relation comes last")

    def _whole(self, found: Any) -> sge.Expression:
        """Put the common tables in front of what was asked for."""
        if isinstance(found, sge.Table):
            found = sg.select(sge.Star(), copy=False).from_(found, copy=False)
        elif isinstance(found, sge.Subquery):
            found = found.this
        inner = [(cte.args["alias"], cte.this) for cte in found.ctes]
        found.args.pop(WITH_ARG, None)
        for name, table in (*self._common, *inner):
            alias = sg.to_identifier(name, quoted=self._compiler.quoted) if isinstance(name, str) else name
            found = found.with_(alias, as_=table, dialect=self._compiler.dialect, copy=False)
        return found

    def _placed(self, node: ops.Relation, found: Any) -> Any:
        """Return a relation as others read it: a subquery with a name, or the name of a common table."""
        name = node.name if isinstance(node, ops.AliasedRelation) else next(self._names)
        table = self._aliased(found, name)
        if node not in self._shared:
            return table
        self._common.append((name, table.this if "alias" in table.args else table))
        return self._aliased(self._table(name), next(self._names))

    def _table(self, name: str) -> sge.Table:
        return sge.Table(this=sg.to_identifier(name, quoted=self._compiler.quoted))

    def _aliased(self, found: Any, name: str) -> Any:
        alias = sg.to_identifier(name, quoted=self._compiler.quoted)
        if isinstance(found, sge.Subquery):
            # Ibis copies all that is inside
            return sge.Subquery(this=found.this, alias=sge.TableAlias(this=alias))
        if isinstance(found, sge.Table):
            return found.as_(alias, quoted=self._compiler.quoted, table=True)
        return found.subquery(alias, copy=False)

    def _value(self, node: ops.Node) -> Any:
        """Write a value, or what Ibis has in its place for this engine."""
        if not _is_replaced(node):
            return self._visit(node)
        new = functools.reduce(operator.or_, self._compiler.rewrites).match(node, {})
        if new is NoMatch:
            return self._visit(node)
        # the new value may hold the old one, which is then written as it stands
        known, self._written = self._written, ChainMap({}, self._written)
        for part in _children_first(new, known=known):
            self._written[part] = self._visit(part)
        found, self._written = self._written[new], known
        return found

    def _visit(self, node: ops.Node) -> Any:
        return self._compiler.visit_node(
            node, **{name: self._found(arg) for name, arg in zip(node.__argnames__, node.__args__, strict=True)}
        )

    def _found(self, arg: Any) -> Any:
        if isinstance(arg, ops.Node):
            return self._written[arg]
        if isinstance(arg, tuple):
            return tuple(map(self._found, arg))
        if isinstance(arg, Mapping):
            return {name: self._found(value) for name, value in arg.items()}
        return arg

    def _relation(self, node: ops.Relation) -> Any:
        if isinstance(node, _SELECTIONS):
            return self._selection(node)
        if isinstance(node, ops.DropColumns):
            if _drops_most(node):
                return self._select(node, values=dict(self._fields(node.parent, node.schema.names)))
            parent = self._written[node.parent]
            # Ibis copies the parent: a name stands for it
            named = self._table(parent.alias_or_name)
            found = self._compiler.visit_DropColumns(node, parent=named, columns_to_drop=node.columns_to_drop)
            return found.from_(parent, copy=False)
        return self._visit(node)

    def _selection(self, node: ops.Relation) -> Any:
        if isinstance(node, ops.Project):
            if _is_star(node):
                return self._select(node, star=True)
            return self._select(node, values={name: self._written[value] for name, value in node.values.items()})
        if isinstance(node, ops.Distinct):
            return self._select(node, star=True, distinct=True)
        if isinstance(node, ops.Sort):
            return self._select(node, star=True, sort_keys=[self._written[key] for key in node.keys])
        over = [bool(predicate.find(ops.WindowFunction, filter=ops.Value)) for predicate in node.predicates]
        plain, qualified = (
            [self._written[p] for p, windowed in zip(node.predicates, over, strict=True) if windowed is wanted]
            for wanted in (False, True)
        )
        # without QUALIFY, sqlglot writes a column of its own, which a star would take along
        values = dict(self._fields(node.parent, node.schema.names)) if qualified else {}
        return self._select(node, values=values, star=True, predicates=plain, qualified=qualified)

    def _fields(self, parent: ops.Relation, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for name in names:
            field = ops.Field(parent, name)
            yield name, self._compiler.visit_Field(field, rel=self._written[parent], name=name)

    def _select(
        self,
        node: Any,
        *,
        values: Mapping[str, Any] | None = None,
        star: bool = False,
        predicates: Sequence[Any] = (),
        qualified: Sequence[Any] = (),
        sort_keys: Sequence[Any] = (),
        distinct: bool = False,
    ) -> Any:
        return self._compiler.visit_Select(
            _Selection(star=star),
            parent=self._written[node.parent],
            selections=values or {"*": sge.Star()},
            predicates=predicates,
            qualified=qualified,
            sort_keys=sort_keys,
            distinct=distinct,
        )


def _children_first(root: ops.Node, *, known: Mapping[ops.Node, Any] | None = None) -> list[ops.Node]:
    """Return every node once, after all that it is made of; known ones are left out with theirs."""
    order: list[ops.Node] = []
    seen = {root, *(known or ())}
    stack = [(root, iter(root.__children__))]
    while stack:
        node, children = stack[-1]
        for child in children:
            if child not in seen:
                seen.add(child)
                stack.append((child, iter(child.__children__)))
                break
        else:
            order.append(node)
            stack.pop()
    return order


def _is_known(node: ops.Node) -> bool:
    if isinstance(node, ops.Relation):
        return isinstance(node, _KNOWN)
    return not isinstance(node, _OTHERWISE)


def _is_replaced(node: ops.Node) -> bool:
    if isinstance(node, ops.WindowFunction):
        return isinstance(node.func, _RANKS)
    return isinstance(node, _REPLACED) or (isinstance(node, ops.InValues) and not node.options)


def _is_star(node: ops.Project) -> bool:
    """Whether a projection takes all columns as they are."""
    parent = node.parent
    if tuple(node.values) != parent.schema.names:
        return False
    return all(
        isinstance(value, ops.Field) and value.name == name and value.rel == parent
        for name, value in node.values.items()
    )


def _read_twice(order: Sequence[ops.Node]) -> set[ops.Node]:
    """Return the relations to write once, in front: those with a name, and those that several others read."""
    readers: Counter[ops.Node] = Counter()
    for node in order:
        if not isinstance(node, _NAMES):
            readers.update(child for child in node.__children__ if isinstance(child, ops.Relation))
    work = (*_SELECTIONS, ops.Aggregate, ops.JoinChain, ops.Set, ops.Limit)
    return {
        node
        for node, count in readers.items()
        if isinstance(node, ops.AliasedRelation) or (count > 1 and (isinstance(node, work) or _drops_most(node)))
    }


def _drops_most(node: ops.Node) -> bool:
    """Whether a relation drops at least half of the columns: Ibis takes it for a selection of the others then."""
    return isinstance(node, ops.DropColumns) and len(node.columns_to_drop) >= len(node.schema) // 2
