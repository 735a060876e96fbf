"""Who may get a lead of a batch and what that is worth, before any auction: of one lead, or of many together.

Leads of a batch are alike in many ways, and are looked at as things stand at one moment. So a rule is asked once for
those that are alike in what it reads, leads are encoded together, and their pairs scored together; what is found is the
same to the last bit as for each lead alone, since replay makes decisions again one by one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from partnerml.pairs import Leads
from partnerml.routing._currency import in_one_currency
from partnerml.routing._decision import Removed
from partnerml.routing._eligibility import eligible
from partnerml.routing._remembered import Memory
from partnerml.routing._shortlist import shortlist, value_of
from partnerml.routing._situation import Beforehand, lead_columns, naive
from partnerml.routing._territory_of_many import Holders

if TYPE_CHECKING:
    from partnerml.pairs._arrays import Floats, Ints
    from partnerml.routing._decide import Way
    from partnerml.routing._lead import Lead
    from partnerml.routing._opened import Opened
    from partnerml.routing._rule import Bools, Rule
    from partnerml.routing._situation import Load, Situation

_TOGETHER = 256  # leads that are encoded and scored together
_REMEMBERED = 1 << 21  # partners in the masks that are kept of each rule: 2 MB
_NOBODY = -1


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was found of one lead before the auction.

    Attributes
    ----------
    n_eligible : int
        How many partners pass all rules.
    funnel : tuple of Removed
    rows : array of int, shape (m,)
        The best of them, the best first.
    p, worth, free : array of float, shape (m,)
        Chance to win, what that is worth before prices, and how many leads each can be offered.
    """

    n_eligible: int
    funnel: tuple[Removed, ...]
    rows: Ints
    p: Floats
    worth: Floats
    free: Floats


@runtime_checkable
class ScoresMany(Protocol):
    """A scorer that is quicker with many leads together."""

    def score_many(self, situations: Sequence[Situation], rows: Sequence[Ints]) -> list[Floats]:
        """Return what `score` says of each situation and its rows, to the last bit."""


def looked_at(situation: Situation, way: Way) -> Looked:
    """Return who may get a lead, and the best of them."""
    allowed = eligible(situation, way.rules)
    rows = shortlist(situation, allowed.rows)
    p = situation.snapshot.scorer.score(situation, rows).p if len(rows) else np.zeros(0)
    return _best(situation, way, len(allowed.rows), allowed.funnel, rows, p)


class Finds:
    """What was found of many leads, in few bytes: decisions are made of it after the auction.

    Parameters
    ----------
    found : sequence of Looked
    width : int
        How many partners are kept of each lead at most.

    Attributes
    ----------
    rows : array of int, shape (n, width)
        -1 = none.
    worth : array of float, shape (n, width)
    """

    def __init__(self, found: Sequence[Looked], width: int) -> None:
        shape = (len(found), width)
        self.rows = np.full(shape, _NOBODY, dtype=np.int32)
        self.worth, self._p, self._free = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for place, seen in enumerate(found):
            n = len(seen.rows)
            self.rows[place, :n], self.worth[place, :n] = seen.rows, seen.worth
            self._p[place, :n], self._free[place, :n] = seen.p, seen.free
        self._n_eligible = [seen.n_eligible for seen in found]
        # the rules are the same for all, apart from what some count apart
        self._rules = [tuple(step.rule for step in seen.funnel) for seen in found]
        known = {rules: rules for rules in self._rules}
        self._rules = [known[rules] for rules in self._rules]
        self._counts = [np.array([(s.removed, s.left) for s in seen.funnel], dtype=np.int32) for seen in found]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Looked]:
        return (self._one(place) for place in range(len(self)))

    def _one(self, place: int) -> Looked:
        n = int(np.count_nonzero(self.rows[place] >= 0))
        counts = self._counts[place].tolist()
        return Looked(
            n_eligible=self._n_eligible[place],
            funnel=tuple(Removed(rule, *count) for rule, count in zip(self._rules[place], counts, strict=True)),
            rows=self.rows[place, :n].astype(np.int64),
            p=self._p[place, :n],
            worth=self.worth[place, :n],
            free=self._free[place, :n],
        )


class Looking:
    """Looks at many leads as things stand at one moment.

    Parameters
    ----------
    opened : Opened
    load : Load
        What partners hold.
    moment : datetime
    """

    def __init__(self, opened: Opened, load: Load, *, moment: dt.datetime) -> None:
        self.opened, self.load, self.moment = opened, load, moment
        self._holders = Holders(opened.snapshot, naive(moment))
        self._masks = {rule.name: Memory[npt.NDArray[Any]](_REMEMBERED) for rule in opened.way.rules}

    def at(self, leads: Sequence[Lead]) -> list[Looked]:
        """Return what `looked_at` says of each lead."""
        found: list[Looked] = []
        for start in range(0, len(leads), _TOGETHER):
            found += self._together(leads[start : start + _TOGETHER])
        return found

    def _together(self, leads: Sequence[Lead]) -> list[Looked]:
        opened, way, snapshot = self.opened, self.opened.way, self.opened.snapshot
        leads = [in_one_currency(lead, snapshot.currency) for lead in leads]
        columns = lead_columns(leads)
        encoded, known = (Leads.of(columns, facts, n=len(leads)) for facts in (snapshot.facts, snapshot.known))
        territory = self._holders.of(encoded)
        situations, counts, rows = [], [], []
        for place, lead in enumerate(leads):
            beforehand = Beforehand(encoded.one(place), territory[place], known, place)
            situation = opened.situation(lead, self.moment, self.load, beforehand=beforehand)
            allowed = eligible(situation, way.rules, ask=self._asked)
            situations.append(situation)
            counts.append((len(allowed.rows), allowed.funnel))
            rows.append(shortlist(situation, allowed.rows))
        chances = _scored(situations, rows)
        return [
            _best(situation, way, *count, kept, p)
            for situation, count, kept, p in zip(situations, counts, rows, chances, strict=True)
        ]

    def _asked(self, rule: Rule, situation: Situation) -> Bools:
        """Return the mask of a rule, which other leads may have asked for."""
        if rule.reads is None:
            return rule.mask(situation)
        get = situation.lead.values.get
        key = situation.had, tuple(get(column) for column in rule.reads)
        return self._masks[rule.name].get(key, lambda: rule.mask(situation))


def _scored(situations: Sequence[Situation], rows: Sequence[Ints]) -> list[Floats]:
    scorer = situations[0].snapshot.scorer
    if isinstance(scorer, ScoresMany):
        return scorer.score_many(situations, rows)
    pairs = zip(situations, rows, strict=True)
    return [scorer.score(situation, some).p if len(some) else np.zeros(0) for situation, some in pairs]


def _best(
    situation: Situation, way: Way, n_eligible: int, funnel: tuple[Removed, ...], rows: Ints, p: Floats
) -> Looked:
    """Return the partners that are worth most, of equal ones the first."""
    value = value_of(situation, rows)
    worth = np.asarray(value * p, dtype=np.float64)
    best = np.argsort(-worth, kind="stable")[: situation.config.batch.candidates]
    kept = rows[best]
    return Looked(n_eligible, funnel, kept, p[best], worth[best], way.capacity.free(situation.load, kept))
