"""Many leads at once: what each would be worth with whom, one auction for all, and the decisions that follow.

The candidates are found and scored as things stand when the batch begins; while that goes on the ledger is free for
others. Each decision is then written in a turn in which capacity, duplicates and deals are looked at once more: a lead
whose partner has no room any more, or that has become somebody's, is decided by itself as if it had come alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.errors import ConfigError
from partnerml.progress import Progress
from partnerml.routing._assign import assign
from partnerml.routing._decide import (
    Case,
    Considered,
    Outcome,
    alternatives,
    considered,
    engaged,
    nobody,
    ranked,
    reasoned,
)
from partnerml.routing._decision import ASSIGNED, Decision, Removed
from partnerml.routing._eligibility import eligible
from partnerml.routing._precedence import precedence
from partnerml.routing._shares import Group, Share
from partnerml.routing._standing import follow, standing

if TYPE_CHECKING:
    import datetime as dt

    from partnerml.pairs._arrays import Floats, Ints
    from partnerml.routing._decide import Way
    from partnerml.routing._lead import Lead
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._opened import Opened
    from partnerml.routing._pricing import PriceBook
    from partnerml.routing._situation import Load, Situation
    from partnerml.routing._turn import Turn

POLICY = "batch"
# so many decisions are written in one transaction: others get in between
_TOGETHER = 200


@dataclasses.dataclass(frozen=True)
class Batch:
    """What became of many leads.

    Attributes
    ----------
    decisions : tuple of Decision
        In the order of the leads.
    given : int
        How many leads the auction gave out.
    total, gap : float
        The sum of their utilities before prices, and by how much of the best possible sum it falls short at most.
    shares : tuple of Share
        What became of the groups of ``routing.batch.shares``.
    price_of_fairness : float
        What these shares cost of the sum.
    prices : mapping of str to float
        What a unit of the capacity of those partners is worth that are full, by their ids.
    """

    decisions: tuple[Decision, ...]
    given: int
    total: float
    gap: float
    shares: tuple[Share, ...]
    price_of_fairness: float
    prices: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """Return all but the decisions, as plain values."""
        counts: dict[str, int] = {}
        for decision in self.decisions:
            counts[decision.status] = counts.get(decision.status, 0) + 1
        return {
            "leads": len(self.decisions),
            "statuses": dict(sorted(counts.items())),
            "given": self.given,
            "total": self.total,
            "gap": self.gap,
            "shares": [dataclasses.asdict(share) for share in self.shares],
            "price_of_fairness": self.price_of_fairness,
            "full_partners": len(self.prices),
        }


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was found of one lead before the auction."""

    n_eligible: int
    funnel: tuple[Removed, ...]
    found: Considered


class _Candidates:
    """Who may get the leads, and what that is worth before prices."""

    def __init__(self, opened: Opened, leads: Sequence[Lead], load: Load, *, moment: dt.datetime) -> None:
        self.opened, self.leads, self.load, self.moment = opened, leads, load, moment
        self.width = opened.config.batch.candidates
        self.looked: list[Looked] = []

    def __call__(self, part: slice) -> tuple[Ints, Floats]:
        """Return rows of partners (-1 = none) and utilities of some leads, both of shape (n, candidates)."""
        leads = self.leads[part]
        cols = np.full((len(leads), self.width), -1, dtype=np.int64)
        scores = np.zeros(cols.shape)
        for place, lead in enumerate(leads):
            seen = looked_at(self.opened.situation(lead, self.moment, self.load), self.opened.way)
            self.looked.append(seen)
            n = len(seen.found.rows)
            cols[place, :n], scores[place, :n] = seen.found.rows, seen.found.worth
        return cols, scores


def looked_at(situation: Situation, way: Way) -> Looked:
    """Return who may get a lead, and the best of them."""
    allowed = eligible(situation, way.rules)
    found = considered(situation, way, allowed.rows)
    best = np.argsort(-found.worth, kind="stable")[: situation.config.batch.candidates]
    return Looked(len(allowed.rows), tuple(Removed(*step) for step in allowed.funnel), found.only(best))


def assign_all(
    ledger: Ledger,
    opened: Opened,
    leads: Sequence[Lead],
    *,
    moment: dt.datetime,
    book: PriceBook,
    progress: Progress | None = None,
) -> Batch:
    """Give out leads so that the sum of their utilities is highest, and write the decisions.

    Parameters
    ----------
    ledger : Ledger
    opened : Opened
    leads : sequence of Lead
    moment : datetime
        Now.
    book : PriceBook
        Keeps the prices that the auction finds.
    progress : Progress, optional

    Raises
    ------
    DataError
        If a lead came before with another payload.
    MissingExtraError
        If numba is not installed.
    """
    progress = progress or Progress.silent()
    # prices of the day are for leads that come one by one; the auction finds its own
    opened = opened.as_published()
    free = _free(ledger, opened, leads, moment=moment)
    fold, _ = ledger.standing(now=moment)
    load = fold.load(opened.way.capacity, moment)
    candidates = _Candidates(opened, free, load, moment=moment)
    room = opened.way.capacity.free(load, np.arange(len(opened.snapshot)))
    solved = assign(len(free), candidates, room, opened.config.batch, groups=_groups(opened), progress=progress)
    together = Together(fold.seq, len(free), solved.price, book.keep(solved.price))
    chosen = {
        lead.lead_id: Chosen(int(partner), seen, together)
        for lead, partner, seen in zip(free, solved.partner, candidates.looked, strict=True)
    }
    decisions: list[Decision] = []
    for part in progress.track(list(_parts(leads)), "decisions", total=-(-len(leads) // _TOGETHER)):
        with ledger.turn(moment=moment) as turn:
            decisions += [_written(turn, opened, lead, chosen.get(lead.lead_id)) for lead in part]
    ids = opened.snapshot.partners.partner_id
    return Batch(
        decisions=tuple(decisions),
        given=solved.given,
        total=solved.total,
        gap=solved.gap,
        shares=solved.shares,
        price_of_fairness=solved.price_of_fairness,
        prices={str(ids[row]): float(solved.price[row]) for row in np.flatnonzero(solved.price > 0)},
    )


@dataclasses.dataclass(frozen=True)
class Together:
    """What the decisions of one batch have in common.

    Attributes
    ----------
    after_entry : int
        The last entry of the ledger when it began: capacity was what it was then.
    leads : int
        How many leads the auction was about.
    prices : array of shape (P,)
    prices_id : str
    """

    after_entry: int
    leads: int
    prices: Floats
    prices_id: str

    def told(self) -> dict[str, Any]:
        """Return what a decision says of it."""
        return {
            "policy": POLICY,
            "prices_id": self.prices_id,
            "evidence": {"batch_of": self.leads, "after_entry": self.after_entry},
        }


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What the auction said of one lead: the row of a partner, or -1."""

    row: int
    looked: Looked
    together: Together


def _free(ledger: Ledger, opened: Opened, leads: Sequence[Lead], *, moment: dt.datetime) -> list[Lead]:
    """Return the leads that have no decision yet and fall under no rule of engagement."""
    free = []
    for part in _parts(leads):
        with ledger.turn(moment=moment) as turn:
            for lead in part:
                turn.look_at(lead.lead_id)
                if standing(turn, lead) is None and precedence(opened.situation_in(turn, lead)) is None:
                    free.append(lead)
    return free


def _parts(leads: Sequence[Lead]) -> Iterator[Sequence[Lead]]:
    for start in range(0, len(leads), _TOGETHER):
        yield leads[start : start + _TOGETHER]


def _groups(opened: Opened) -> list[Group]:
    groups = []
    for share in opened.config.batch.shares:
        values = opened.snapshot.partners.column(share.column)
        if values is None:
            raise ConfigError(f"routing.batch.shares: the table partners has no column {share.column!r}")
        groups.append(Group.of(share, list(values)))
    return groups


def _written(turn: Turn, opened: Opened, lead: Lead, chosen: Chosen | None) -> Decision:
    """Write the decision on one lead, as the auction has it where that still holds."""
    turn.look_at(lead.lead_id)
    stands = standing(turn, lead)
    if stands is not None:
        return stands
    if chosen is None or turn.number:
        return follow(turn, opened, lead)
    situation = opened.situation_in(turn, lead)
    case = Case(situation, opened.way, turn.number)
    found = precedence(situation)
    if found is not None:
        return follow(turn, opened, lead, outcome=Outcome(engaged(case, found)))
    if chosen.row < 0:
        return follow(turn, opened, lead, outcome=Outcome(left_over(case, chosen)))
    if not opened.way.capacity.free(situation.load, np.array([chosen.row]))[0]:
        return follow(turn, opened, lead)
    return follow(turn, opened, lead, outcome=given(case, chosen))


def left_over(case: Case, chosen: Chosen) -> Decision:
    """Return the decision on a lead that the auction gave to nobody."""
    seen = chosen.looked
    if not seen.n_eligible:
        return case.decision("fallback", nobody(seen.funnel), funnel=seen.funnel, **chosen.together.told())
    why = (
        f"{seen.n_eligible:,} partners may get it, and other leads of the batch are worth more with those that have "
        "room; a person decides"
    )
    return case.decision("fallback", why, funnel=seen.funnel, n_eligible=seen.n_eligible, **chosen.together.told())


def given(case: Case, chosen: Chosen) -> Outcome:
    """Return the decision on a lead for the partner that the auction found."""
    seen, prices = chosen.looked, chosen.together.prices
    place = int(np.flatnonzero(seen.found.rows == chosen.row)[0])
    costs = prices[seen.found.rows]
    probability = np.zeros(len(costs))
    probability[place] = 1.0
    found = dataclasses.replace(seen.found, utility=seen.found.worth - costs, probability=probability)
    ids = case.situation.snapshot.partners.partner_id
    decision = case.decision(
        ASSIGNED,
        f"the best use of the capacity of all over {chosen.together.leads:,} leads; {seen.n_eligible:,} eligible",
        partner_id=str(ids[chosen.row]),
        rank=ranked(found.utility, place)[0],
        p_win=float(found.p[place]),
        price=float(prices[chosen.row]),
        utility=float(found.utility[place]),
        propensity=1.0,
        n_eligible=seen.n_eligible,
        funnel=seen.funnel,
        alternatives=alternatives(list(ids[found.rows]), found, costs, place),
        **chosen.together.told(),
        **reasoned(case, chosen.row),
    )
    return Outcome(decision, found)
