"""Least and most shares of groups of partners in a batch, by a subsidy or a levy, and what they cost.

A group that gets too little has the scores of all its partners raised by one amount, its *subsidy*; one that gets too
much has them lowered, its *levy*. Bisection finds the smallest that is enough. Leads still go where they are worth most
at these scores, so the shares are met in the cheapest places. What the assignment then lacks of the highest total is
the price of fairness, and is told.

With its subsidies an assignment has, up to the certified gap, the highest total among all that give each group with a
subsidy at least as many leads, and each with a levy at most as many, as it does (Everett 1963). It is not promised
that no assignment comes nearer to a share: where many scores are equal, a subsidy that is just enough may bring more
than was asked for, all at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from partnerml.config import ShareConfig
from partnerml.errors import ConfigError
from partnerml.pairs._arrays import Bools, Floats
from partnerml.routing._certificate import Problem

if TYPE_CHECKING:
    from partnerml.routing._auction import Solution

_HALVINGS = 12
_ROUNDS = 4
_FARTHEST = 4.0  # times the range of scores: by then every partner of a group comes before all others
Solve = Callable[[Floats], "Solution"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Partners that together get at least, or at most, a share of the leads that are given out.

    Attributes
    ----------
    name : str
    members : array of bool of shape (P,)
    least, most : float
        0 and 1 where nothing is asked.
    """

    name: str
    members: Bools
    least: float = 0.0
    most: float = 1.0

    @classmethod
    def of(cls, config: ShareConfig, values: Sequence[Any]) -> Self:
        """Take the partners that have a value in a column.

        Parameters
        ----------
        config : ShareConfig
        values : sequence of length P
            The column that it names, in the order of the partners.

        Raises
        ------
        ConfigError
            If no partner has the value, or more is asked for at least than at most.
        """
        name = f"{config.column}={config.value}"
        members = np.array([value is not None and str(value) == config.value for value in values], dtype=bool)
        least, most = config.least or 0.0, 1.0 if config.most is None else config.most
        if least > most:
            raise ConfigError(f"routing.batch.shares: {name} is to get at least {least:g} and at most {most:g}")
        if not members.any():
            known = sorted({str(value) for value in values if value is not None})[:10]
            raise ConfigError(
                f"routing.batch.shares: no partner has {name}; values of {config.column} are "
                f"{', '.join(known) or 'all null'}"
            )
        return cls(name, members, least, most)


@dataclasses.dataclass(frozen=True)
class Share:
    """What became of a group.

    Attributes
    ----------
    name : str
    leads : int
        How many it gets.
    share : float
        Of all that are given out.
    least, most : float
        What was asked for.
    subsidy : float
        What was added to its scores; a levy is negative.
    shortfall : int
        How many leads it lacks to its least share, because its partners are full or no candidates, or has beyond its
        most; 0 where the shares are met.
    """

    name: str
    leads: int
    share: float
    least: float
    most: float
    subsidy: float
    shortfall: int


@dataclasses.dataclass(frozen=True)
class Shared:
    """An assignment under shares.

    Attributes
    ----------
    solution : Solution
    groups : tuple of Share
    price : float
        What the shares cost, in scores: the total without them less the total with them.
    """

    solution: Solution
    groups: tuple[Share, ...]
    price: float


@dataclasses.dataclass(frozen=True)
class Limits:
    """Who may get one more lead without a share being missed.

    Attributes
    ----------
    closed : tuple of str
        Groups that have as much as they may: none of theirs.
    only : tuple of str
        Groups that would have too little if it went to anybody else.
    """

    closed: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def mask(self, groups: Sequence[Group], n: int) -> Bools:
        """Return which partners these are, shape (n,)."""
        passes = np.ones(n, dtype=bool)
        for group in groups:
            if group.name in self.closed:
                passes &= ~group.members
            if group.name in self.only:
                passes &= group.members
        return passes

    def told(self) -> dict[str, list[str]]:
        """Return what a decision says of it."""
        return {"closed": list(self.closed), "only": list(self.only)}

    @classmethod
    def of(cls, told: Mapping[str, Sequence[str]]) -> Self:
        """Read what `told` said."""
        return cls(tuple(told["closed"]), tuple(told["only"]))


class SoFar:
    """What groups have been given, while leads that an auction left over are given out one by one.

    Parameters
    ----------
    groups : sequence of Group
    rows : sequence of int
        Of the partners that were given a lead, one for each lead.
    """

    def __init__(self, groups: Sequence[Group], rows: Sequence[int]) -> None:
        self.groups, self._given = groups, 0
        self._leads = [0] * len(groups)
        for row in rows:
            self.add(row)

    def add(self, row: int) -> None:
        """Count a lead that a partner was given."""
        self._given += 1
        self._leads = [count + int(group.members[row]) for group, count in zip(self.groups, self._leads, strict=True)]

    def limits(self) -> Limits:
        """Return who may get one more lead without missing a share that is met, or exceeding one more.

        A group that lacks leads already has nobody with room for them: others are not to wait for it.
        """
        closed, only = [], []
        for group, count in zip(self.groups, self._leads, strict=True):
            was = _missing(group, count, self._given)
            if was <= 0:
                inside, outside = (_missing(group, count + own, self._given + 1) for own in (1, 0))
                if inside > 0 or inside < was:
                    closed.append(group.name)
                if outside > 0 or outside < was:
                    only.append(group.name)
        return Limits(tuple(closed), tuple(only))

    def shares(self, told: Sequence[Share]) -> tuple[Share, ...]:
        """Return what was told of the groups with what they have been given by now."""
        return tuple(
            dataclasses.replace(
                share,
                leads=count,
                share=count / self._given if self._given else 0.0,
                shortfall=abs(_missing(group, count, self._given)),
            )
            for share, group, count in zip(told, self.groups, self._leads, strict=True)
        )


def share_out(problem: Problem, groups: Sequence[Group], solve: Solve) -> Shared:
    """Find the smallest subsidies and levies with which all shares are met, or nearly.

    Parameters
    ----------
    problem : Problem
    groups : sequence of Group
    solve : callable
        Takes what is added to the scores of each partner, shape (P,), and returns the `Solution`.
    """
    search = _Search(problem, groups, solve)
    free = search.at(np.zeros(len(groups)))
    amounts = np.zeros(len(groups))
    for _ in range(_ROUNDS if len(groups) > 1 else 1):
        before = amounts.copy()
        for place in range(len(groups)):
            # groups share leads and partners: what one is given moves the others, so they are looked at in turn
            amounts = search.enough(amounts, place)
        if np.array_equal(before, amounts):
            break
    found = search.at(amounts)
    given = found.certificate.given
    told = tuple(
        Share(
            name=group.name,
            leads=leads,
            share=leads / given if given else 0.0,
            least=group.least,
            most=group.most,
            subsidy=float(amount),
            shortfall=abs(_missing(group, leads, given)),
        )
        for group, amount in zip(groups, amounts, strict=True)
        for leads in [search.leads(found, group)]
    )
    return Shared(found, told, price=free.certificate.total - found.certificate.total)


class _Search:
    """Solves for subsidies of groups, and finds the smallest that is enough for one."""

    def __init__(self, problem: Problem, groups: Sequence[Group], solve: Solve) -> None:
        self._problem, self._groups, self._solve = problem, groups, solve
        scores = problem.scores[np.isfinite(problem.scores)]
        # nobody at all is worth 0
        reach = float(scores.max(initial=0.0) - scores.min(initial=0.0))
        self._farthest = _FARTHEST * reach if reach > 0 else 1.0
        self._known: dict[bytes, Solution] = {}

    def at(self, amounts: Floats) -> Solution:
        """Return the solution with these subsidies of the groups."""
        key = amounts.tobytes()
        if key not in self._known:
            members = np.array([group.members for group in self._groups], dtype=np.float64)
            self._known[key] = self._solve(amounts @ members)
        return self._known[key]

    def leads(self, found: Solution, group: Group) -> int:
        """Return how many leads a group gets."""
        return int(self._problem.counts(found.slot)[group.members].sum())

    def enough(self, amounts: Floats, place: int) -> Floats:
        """Return the subsidies with that of one group as small as its share allows."""
        group = self._groups[place]

        def missing(amount: float) -> int:
            found = self.at(_with(amounts, place, amount))
            return _missing(group, self.leads(found, group), found.certificate.given)

        lacks = missing(0.0)
        if lacks == 0:
            return _with(amounts, place, 0.0)
        sign = math.copysign(1.0, lacks)
        tolerated = max(int(sign) * missing(sign * self._farthest), 0)  # what no subsidy brings
        low, high = 0.0, self._farthest
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if sign * missing(sign * middle) > tolerated:
                low = middle
            else:
                high = middle
        return _with(amounts, place, sign * high)


def _with(amounts: Floats, place: int, amount: float) -> Floats:
    changed = amounts.copy()
    changed[place] = amount
    return changed


def _missing(group: Group, leads: int, given: int) -> int:
    """Return how many leads a group lacks to its least share; negative: how many it has beyond its most."""
    least, most = math.ceil(group.least * given - 1e-9), math.floor(group.most * given + 1e-9)
    return max(least - leads, 0) + min(most - leads, 0)
