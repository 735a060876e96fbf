"""Which partners may get a lead: the rules in their order, how many each removes, and why one partner may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from partnerml.routing._decision import Removed

if TYPE_CHECKING:
    from partnerml.routing._rule import Rule
    from partnerml.routing._situation import Situation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_FEW = 8  # of so many partners one is left: rows are quicker than marks then


class Failed(NamedTuple):
    """A rule that keeps a partner out: what a partner does that passes, and why this one does not."""

    rule: str
    words: str
    evidence: str


@dataclasses.dataclass(frozen=True, eq=False)
class Eligible:
    """Who may get a lead.

    Attributes
    ----------
    rows : array of int, shape (m,)
        Of the partners who pass all rules, in order.
    funnel : tuple of Removed
        In the order of the rules; what a rule counts apart stands behind it, where there is any.
    """

    rows: Ints
    funnel: tuple[Removed, ...]


def eligible(
    situation: Situation, rules: Sequence[Rule], *, ask: Callable[[Rule, Situation], Bools] | None = None
) -> Eligible:
    """Ask the rules about all partners.

    Parameters
    ----------
    situation : Situation
    rules : sequence of Rule
        As `rules_of` returns them.
    ask : callable, optional
        Returns the mask of a rule, where it may be known already; by default each is asked.
    """
    left = _Left.all_of(situation.index.everybody)
    funnel: list[Removed] = []
    for rule in rules:
        kept = left.passing(rule, situation, ask)
        if rule.narrows and not kept.count:
            kept = left
        if kept is left:  # it removed nobody
            funnel.append(Removed(rule.name, 0, left.count))
            continue
        funnel += _steps(situation, rule, left, kept)
        left = kept
    return Eligible(left.rows, tuple(funnel))


class _Left:
    """Who has passed so far: a mark for each partner while they are many, and their rows once they are few."""

    def __init__(self, everybody: Bools, count: int, *, marks: Bools | None = None, rows: Ints | None = None) -> None:
        self._everybody, self.count, self._marks, self._rows = everybody, count, marks, rows

    @classmethod
    def all_of(cls, everybody: Bools) -> Self:
        return cls(everybody, len(everybody), marks=everybody)

    @property
    def rows(self) -> Ints:
        """The rows, in order."""
        if self._rows is None:
            assert self._marks is not None, "there are rows or marks"
            self._rows = np.flatnonzero(self._marks)
        return self._rows

    @property
    def marks(self) -> Bools:
        """Which partners they are, shape (n,)."""
        if self._marks is None:
            self._marks = np.zeros(len(self._everybody), dtype=bool)
            self._marks[self._rows] = True
        return self._marks

    def passing(self, rule: Rule, situation: Situation, ask: Callable[[Rule, Situation], Bools] | None) -> _Left:
        """Return those of them who pass a rule."""
        few = self.count * _FEW <= len(self._everybody)
        if few and ask is None and rule.among is not None:
            return self._of_rows(rule.mask_among(situation, self.rows))
        mask = rule.mask(situation) if ask is None else ask(rule, situation)
        if mask is self._everybody:  # as most rules say of most leads: nothing is to be counted
            return self
        if few:
            return self._of_rows(mask[self.rows])
        marks = self.marks & mask
        return _Left(self._everybody, int(np.count_nonzero(marks)), marks=marks)

    def _of_rows(self, found: Bools) -> _Left:
        rows = self.rows[found]
        return _Left(self._everybody, len(rows), rows=rows)


def why_not(situation: Situation, rules: Sequence[Rule], row: int, *, audience: str = "vendor") -> tuple[Failed, ...]:
    """Return every rule that keeps one partner out, in order; none if it is eligible.

    The evidence tells facts of that partner and of the lead only. The partner itself is told the first rule alone, with
    its own facts: the lead is none of its business.

    Parameters
    ----------
    situation : Situation
    rules : sequence of Rule
    row : int
        Of the partner in the snapshot.
    audience : {"vendor", "partner"}
        Who reads it.
    """
    masks = {rule.name: rule.mask(situation) for rule in rules}
    failed = [rule for rule in rules if not rule.narrows and not masks[rule.name][row]]
    if not failed:
        failed = _narrowed_out(rules, masks, row, len(situation.snapshot))
    if audience == "partner":
        return tuple(Failed(rule.name, rule.words, rule.own(situation, row)) for rule in failed[:1])
    return tuple(Failed(rule.name, rule.words, rule.failed(situation, row)) for rule in failed)


def _narrowed_out(rules: Sequence[Rule], masks: Mapping[str, Bools], row: int, n: int) -> list[Rule]:
    """Return the rule that leaves a partner out because others pass it, where there is one."""
    left = np.ones(n, dtype=bool)
    for rule in rules:
        narrowed = left & masks[rule.name]
        if rule.narrows and not narrowed.any():
            continue
        left = narrowed
        if not left[row]:
            return [rule]
    return []


def _steps(situation: Situation, rule: Rule, before: _Left, after: _Left) -> list[Removed]:
    """Return what a rule did to the partners that were left before it."""
    count, left = before.count - after.count, after.count
    if not count or not rule.apart:
        return [Removed(rule.name, count, left)]
    apart = {
        name: 0 if mask is situation.index.nobody else int(np.count_nonzero(mask & before.marks & ~after.marks))
        for name, mask in rule.counted_apart(situation).items()
    }
    # who is counted apart is taken out of what the rule itself is said to remove
    own = count - sum(apart.values())
    steps, so_far = [Removed(rule.name, own, left + count - own)], left + count - own
    for name, taken in apart.items():
        if taken:
            so_far -= taken
            steps.append(Removed(name, taken, so_far))
    return steps
