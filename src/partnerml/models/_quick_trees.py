"""Trees as tables of bits: which leaf a row ends in, found for all trees at once from the bins of its features.

Number the leaves of a tree from left to right and give a row one bit for each. A node whose test fails sends the row
to the right, and so rules out all leaves to its left below it: clear their bits. The leaf of the row is the lowest bit
that is left. What a feature clears depends on the bin of its value between the thresholds alone, so each feature has a
table of bins and trees; the tables of features that are known beforehand can be joined beforehand.

References
----------
Lucchese et al. (2015), QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from partnerml.models._binary import Array
from partnerml.models._classifier import BoostedTrees

Bits = NDArray[Any]  # unsigned integers
Bins = NDArray[np.intp]

_KINDS = (np.uint8, np.uint16, np.uint32, np.uint64)
_ZERO = float(np.float32(1e-35))
_AT_ONCE = 2_048  # rows whose bits fit into a cache
_SUMMED = 128  # rows whose leaves do, at eight bytes each
_BYTE = 256
_MOST = 1 << 14  # combinations of bins that are told apart: their bits fit into a few megabytes


@dataclasses.dataclass(frozen=True)
class Node:
    """A test of a tree.

    Attributes
    ----------
    tree, feature : int
    threshold : float, or frozenset of int
        A number goes left up to it, a code if it is one of them.
    missing_left : bool
        Where a missing value goes.
    below : int
        The bits of the leaves on its left.
    """

    tree: int
    feature: int
    threshold: float | frozenset[int]
    missing_left: bool
    below: int


@dataclasses.dataclass(frozen=True)
class Table:
    """Which leaves the value of one feature leaves over.

    Attributes
    ----------
    edges : array or None
        Thresholds, in order; None for codes.
    bits : array, shape (bins, trees)
        The last row is that of a missing value, the one before it that of the greatest values, or of unknown codes.
    """

    edges: Array | None
    bits: Bits

    @classmethod
    def of(cls, nodes: Sequence[Node], full: Bits) -> Self:
        """Take the nodes of one feature, and the bits of all leaves of each tree."""
        codes = [node.threshold for node in nodes if isinstance(node.threshold, frozenset)]
        numbers = np.unique([node.threshold for node in nodes if not isinstance(node.threshold, frozenset)])
        size = max(max(some, default=-1) for some in codes) + 1 if codes else len(numbers)
        bits = np.repeat(full[None], size + 2, axis=0)
        for node in nodes:
            left = np.zeros(size + 2, dtype=bool)
            if isinstance(node.threshold, frozenset):
                left[list(node.threshold)] = True
            else:
                left[:size] = numbers <= node.threshold
            left[-1] = node.missing_left
            bits[~left, node.tree] &= ~full.dtype.type(node.below)
        return cls(None if codes else numbers, bits)

    def bins(self, values: Array) -> Bins:
        """Return the rows of the table for values of the feature."""
        last = len(self.bits) - 1
        if self.edges is None:
            known = (values >= 0) & (values < last - 1)
            return np.where(known, values, np.where(np.isnan(values), last, last - 1)).astype(np.intp)
        found = self.edges.searchsorted(values, side="left")
        found[np.isnan(values)] = last
        return found


@dataclasses.dataclass(frozen=True)
class Joined:
    """Which leaves several features leave over together.

    Attributes
    ----------
    code : array of int, shape (n,)
        Of each row, which of the combinations it has.
    bits : array, shape (combinations, trees)
    """

    code: NDArray[np.uint16]
    bits: Bits

    @classmethod
    def of(cls, X: Array, tables: Mapping[int, Table], full: Bits) -> Self:
        """Join the tables of some columns of X."""
        code, size = np.zeros(len(X), dtype=np.intp), 1
        for column, table in tables.items():
            code = code * len(table.bits) + table.bins(X[:, column])
            size *= len(table.bits)
        there = np.zeros(size, dtype=bool)
        there[code] = True
        number = np.cumsum(there, dtype=np.intp) - 1
        left = np.flatnonzero(there)
        bits = np.repeat(full[None], len(left), axis=0)
        for table in reversed(list(tables.values())):
            left, bins = np.divmod(left, len(table.bits))
            bits &= table.bits.take(bins, axis=0)
        return cls(number[code].astype(np.uint16), bits)

    @property
    def size(self) -> int:
        """About as many numbers of eight bytes it holds."""
        return (self.code.nbytes + self.bits.nbytes) // 8

    def of_rows(self, rows: Bins) -> Bits:
        """Return what is left over of some rows, shape (m, trees)."""
        return self.bits.take(self.code.take(rows), axis=0)


class QuickTrees:
    """Boosted trees as tables.

    Parameters
    ----------
    tables : mapping of int to Table
        By the position of the feature.
    full : array, shape (trees,)
        The bits of all leaves.
    leaves : array, shape (trees, most leaves)
        Their values, from left to right.
    boosters : int
        How many boosters the trees are of: what they say is averaged.
    """

    def __init__(self, tables: Mapping[int, Table], full: Bits, leaves: Array, boosters: int) -> None:
        self.tables, self.full, self.boosters = tables, full, boosters
        self._leaves = leaves.ravel()
        self._first = (np.arange(len(full)) * leaves.shape[1]).astype(np.int32)
        # of small trees the leaf of any bits is looked up, which takes half the time
        self._of_bits = _leaf_of_bits(leaves).ravel() if full.dtype == np.uint8 else None
        self._first_bits = np.arange(len(full)) * _BYTE

    @classmethod
    def of(cls, trees: BoostedTrees) -> Self | None:
        """Take fitted trees; None if one has more leaves than a number has bits, or tests as no table can."""
        dumped = [booster.dump_model()["tree_info"] for booster in trees._boosters]
        roots = [info["tree_structure"] for infos in dumped for info in infos]
        leaves = [list(_leaves_of(root)) for root in roots]
        most = max(map(len, leaves))
        kind = next((kind for kind in _KINDS if most <= np.iinfo(kind).bits), None)
        nodes = [node for number, root in enumerate(roots) for node in _nodes_of(root, number, 0)]
        if kind is None or any(node is None for node in nodes):
            return None
        full = np.array([(1 << len(values)) - 1 for values in leaves], dtype=kind)
        padded = np.array([values + [0.0] * (most - len(values)) for values in leaves])
        by_feature: dict[int, list[Node]] = {}
        for node in nodes:
            if node is not None:
                by_feature.setdefault(node.feature, []).append(node)
        tables = {feature: Table.of(those, full) for feature, those in sorted(by_feature.items())}
        return cls(tables, full, padded, len(dumped))

    def left_over(self, X: Array, tables: Mapping[int, Table], before: Bits | None = None) -> Bits:
        """Return the bits of the leaves that some features leave over, shape (m, trees).

        Parameters
        ----------
        X : array, shape (m, p)
        tables : mapping of int to Table
            By the column of X.
        before : array, shape (m, trees), optional
            What others left over; it is changed.
        """
        bits = np.repeat(self.full[None], len(X), axis=0) if before is None else before
        for column, table in tables.items():
            bits &= table.bits.take(table.bins(X[:, column]), axis=0)
        return bits

    def joined(self, X: Array, tables: Mapping[int, Table]) -> list[Joined]:
        """Return what some features leave over together, by the combinations of their bins that there are.

        Parameters
        ----------
        X : array, shape (n, p)
        tables : mapping of int to Table
            By the column of X.
        """
        groups: list[dict[int, Table]] = []
        size = _MOST
        for column, table in tables.items():
            size *= len(table.bits)
            if size > _MOST:  # too many combinations
                groups.append({})
                size = len(table.bits)
            groups[-1][column] = table
        return [Joined.of(X, group, self.full) for group in groups]

    def prepared(self, X: Array, features: Sequence[int]) -> Bits:
        """Return what features that are known beforehand leave over, a row for each of many, shape (n, trees)."""
        tables = {feature: self.tables[feature] for feature in features if feature in self.tables}
        found = np.empty((len(X), len(self.full)), dtype=self.full.dtype)
        for begin in range(0, len(X), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            found[some] = self.left_over(X[some], tables)
        return found

    def log_odds(self, bits: Bits) -> Array:
        """Return the sum over trees of the lowest leaf that is left, shape (m,)."""
        total = np.empty(len(bits))
        for begin in range(0, len(bits), _SUMMED):
            some = slice(begin, begin + _SUMMED)
            total[some] = self._leaves_of_bits(bits[some]).sum(axis=1)
        return total / self.boosters

    def _leaves_of_bits(self, bits: Bits) -> Array:
        """Return the value of the lowest leaf that is left of each tree, shape (m, trees)."""
        if self._of_bits is not None:
            return self._of_bits.take(bits + self._first_bits)
        return self._leaves.take(_lowest(bits) + self._first)


def _lowest(bits: Bits) -> Bits:
    """Return the place of the lowest bit of each number that is not 0."""
    one = bits.dtype.type(1)
    return np.bitwise_count((bits & (~bits + one)) - one)


def _leaf_of_bits(leaves: Array) -> Array:
    """Return the values of the leaves that any bits stand for, shape (trees, 256)."""
    every = np.arange(1, _BYTE, dtype=np.uint8)
    # bits of leaves that a tree has not got are never set
    lowest = np.minimum(_lowest(every), leaves.shape[1] - 1)
    return np.concatenate([np.zeros((len(leaves), 1)), leaves[:, lowest]], axis=1)


def _leaves_of(node: Mapping[str, Any]) -> Iterator[float]:
    if "split_feature" in node:
        yield from _leaves_of(node["left_child"])
        yield from _leaves_of(node["right_child"])
    else:
        yield float(node["leaf_value"])


def _nodes_of(node: Mapping[str, Any], tree: int, first: int) -> Iterator[Node | None]:
    """Yield the tests of a tree whose leaves begin at a bit; None for one that no table holds."""
    if "split_feature" not in node:
        return
    left, right = node["left_child"], node["right_child"]
    size = sum(1 for _ in _leaves_of(left))
    yield _node(node, tree, ((1 << size) - 1) << first)
    yield from _nodes_of(left, tree, first)
    yield from _nodes_of(right, tree, first + size)


def _node(node: Mapping[str, Any], tree: int, below: int) -> Node | None:
    feature, missing = int(node["split_feature"]), node["missing_type"]
    if node["decision_type"] == "==":
        codes = frozenset(int(code) for code in str(node["threshold"]).split("||"))
        return Node(tree, feature, codes, False, below)
    if missing == "Zero":
        return None
    threshold = float(node["threshold"])
    # LightGBM takes values as near to 0 as its threshold just below 0 for 0
    threshold = float(np.nextafter(threshold, -np.inf)) if threshold == -_ZERO else threshold
    # where training had no missing value, one is taken for 0
    return Node(tree, feature, threshold, bool(node["default_left"]) if missing == "NaN" else threshold >= 0.0, below)
