"""Which partners may get a lead: the rules in their order, how many each removes, and why one partner may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from partnerml.routing._decision import Removed

if TYPE_CHECKING:
    from partnerml.routing._rule import Rule
    from partnerml.routing._situation import Situation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


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
    masks : mapping of str to array of bool, shape (n,)
        Who passes each rule alone.
    """

    rows: Ints
    funnel: tuple[Removed, ...]
    masks: Mapping[str, Bools]


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
    left = np.ones(len(situation.snapshot), dtype=bool)
    count = len(left)
    funnel: list[Removed] = []
    masks: dict[str, Bools] = {}
    for rule in rules:
        masks[rule.name] = mask = rule.mask(situation) if ask is None else ask(rule, situation)
        kept = left & mask
        n_kept = int(np.count_nonzero(kept))
        if rule.narrows and not n_kept:
            kept, n_kept = left, count
        funnel += _steps(situation, rule, left, kept, count - n_kept, n_kept)
        left, count = kept, n_kept
    return Eligible(np.flatnonzero(left), tuple(funnel), masks)


def why_not(situation: Situation, rules: Sequence[Rule], row: int) -> tuple[Failed, ...]:
    """Return every rule that keeps one partner out, in order; none if it is eligible.

    The evidence tells facts of that partner and of the lead only: the partner may read it.

    Parameters
    ----------
    situation : Situation
    rules : sequence of Rule
    row : int
        Of the partner in the snapshot.
    """
    masks = {rule.name: rule.mask(situation) for rule in rules}
    failed = [rule for rule in rules if not rule.narrows and not masks[rule.name][row]]
    if not failed:
        failed = _narrowed_out(rules, masks, row, len(situation.snapshot))
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


def _steps(situation: Situation, rule: Rule, before: Bools, after: Bools, count: int, left: int) -> list[Removed]:
    """Return what a rule did: the partners before and after it, how many it removed, and how many are left."""
    if not count or not rule.apart:
        return [Removed(rule.name, count, left)]
    removed = before & ~after
    apart = {name: int(np.count_nonzero(mask & removed)) for name, mask in rule.counted_apart(situation).items()}
    # who is counted apart is taken out of what the rule itself is said to remove
    own = count - sum(apart.values())
    steps, so_far = [Removed(rule.name, own, left + count - own)], left + count - own
    for name, taken in apart.items():
        if taken:
            so_far -= taken
            steps.append(Removed(name, taken, so_far))
    return steps
