"""Many leads at once: what each would be worth with whom, one auction for all, and the decisions that follow.

The candidates are found and scored as things stand when the batch begins; while that goes on the ledger is free for
others. Each decision is then written in a turn in which capacity, duplicates and deals are looked at once more: a lead
whose partner has no room any more, or that has become somebody's, is decided by itself as if it had come alone. So are,
at the end, those that the auction left over, as far as the shares of groups stay met: their only candidates may have
been partners that hold them exclusively.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from partnerml.progress import Progress
from partnerml.routing._assign import CHUNK, assign
from partnerml.routing._candidates import candidates
from partnerml.routing._decide import (
    Case,
    Considered,
    Outcome,
    alternatives,
    engaged,
    nobody,
    ranked,
    reasoned,
)
from partnerml.routing._decision import ASSIGNED, BATCH, Decision, statuses
from partnerml.routing._left_over import within
from partnerml.routing._opened import groups_of
from partnerml.routing._precedence import precedence
from partnerml.routing._pricing import PriceBook, id_of_prices
from partnerml.routing._rehearsal import Behind, Rehearsal, in_ledger
from partnerml.routing._shares import Share, SoFar
from partnerml.routing._situation import Load
from partnerml.routing._standing import TOGETHER, follow, latest_of, parts, standing

if TYPE_CHECKING:
    import datetime as dt

    from partnerml.pairs._arrays import Floats
    from partnerml.routing._lead import Lead
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._looked import Looked
    from partnerml.routing._opened import Opened
    from partnerml.routing._turn import Turn


@dataclasses.dataclass(frozen=True)
class Batch:
    """What became of many leads.

    Attributes
    ----------
    decisions : tuple of Decision
        In the order of the leads.
    given : int
        How many leads the auction gave out.
    given_after : int
        How many of those that it left over were then given to somebody, one by one.
    total, gap : float
        The sum of the utilities before prices of what the auction gave out, without what was given after it, and by how
        much of the best possible sum it falls short at most.
    shares : tuple of Share
        What became of the groups of ``routing.batch.shares``, with what was given out after the auction.
    price_of_fairness : float
        What these shares cost of the auction's sum.
    prices : mapping of str to float
        What a unit of the capacity of those partners is worth that are full, by their ids.
    """

    decisions: tuple[Decision, ...]
    given: int
    given_after: int
    total: float
    gap: float
    shares: tuple[Share, ...]
    price_of_fairness: float
    prices: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """Return all but the decisions, as plain values."""
        return {
            "leads": len(self.decisions),
            "statuses": statuses(self.decisions),
            "given": self.given,
            "given_after": self.given_after,
            "total": self.total,
            "gap": self.gap,
            "shares": [dataclasses.asdict(share) for share in self.shares],
            "price_of_fairness": self.price_of_fairness,
            "full_partners": len(self.prices),
        }


def assign_all(
    ledger: Ledger,
    opened: Opened,
    leads: Sequence[Lead],
    *,
    moment: dt.datetime,
    book: PriceBook,
    progress: Progress | None = None,
    dry_run: bool = False,
    jobs: int = 1,
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
    dry_run : bool
        Whether nothing is written, neither decisions nor prices.
    jobs : int
        How many processes look for candidates.

    Raises
    ------
    ConfigError, InputError
        If several processes cannot look for candidates; see `partnerml.routing._candidates`.
    DataError
        If a lead came before with another payload.
    MissingExtraError
        If numba is not installed.
    """
    progress = progress or Progress.silent()
    # prices of the day are for leads that come one by one; the auction finds its own
    opened = opened.as_published()
    free = _free(ledger, opened, leads, moment=moment)
    fold, credit = ledger.standing(now=moment, capacity=opened.way.capacity)
    load = fold.load(opened.way.capacity, moment)
    room = opened.way.capacity.free(load, np.arange(len(opened.snapshot)))
    groups = groups_of(opened.snapshot)
    with candidates(opened, load, free, moment=moment, jobs=jobs, chunk=CHUNK) as looked:
        solved = assign(len(free), looked, room, opened.config.batch, groups=groups, progress=progress, chunk=CHUNK)
    prices_id = id_of_prices(solved.price) if dry_run else book.keep(solved.price)
    together = Together(fold.seq, len(free), solved.price, prices_id)
    # in the order of the leads, one at a time: what was found is kept in few bytes until then
    chosen = (Chosen(int(row), seen, together) for row, seen in zip(solved.partner, looked, strict=True))
    asked = {lead.lead_id for lead in free}
    each = [(lead, lead.lead_id in asked) for lead in leads]
    kept: _Kept = Written(ledger, opened, moment)
    if dry_run:
        kept = Rehearsed(ledger, Rehearsal(opened, fold, credit), moment)
    found: list[Decision | LeftOver] = []
    for part in progress.track(list(parts(each)), "decisions", total=-(-len(leads) // TOGETHER)):
        found += kept.decided([(lead, next(chosen) if is_asked else None) for lead, is_asked in part])
    so_far = SoFar(groups, _rows_given(opened, itertools.compress(found, [is_asked for _, is_asked in each])))
    decisions, given_after = _with_left_over(kept, found, so_far)
    ids = opened.snapshot.partners.partner_id
    return Batch(
        decisions=decisions,
        given=solved.given,
        given_after=given_after,
        total=solved.total,
        gap=solved.gap,
        shares=so_far.shares(solved.shares),
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
            "policy": BATCH,
            "prices_id": self.prices_id,
            "evidence": {"batch_of": self.leads, "after_entry": self.after_entry},
        }


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What the auction said of one lead: the row of a partner, or -1."""

    row: int
    looked: Looked
    together: Together


class LeftOver(NamedTuple):
    """A lead that the auction gave to nobody, and that others than its candidates may get later."""

    lead: Lead


class _Kept(Protocol):
    """What becomes of decisions."""

    def decided(self, leads: Sequence[tuple[Lead, Chosen | None]]) -> list[Decision | LeftOver]:
        """Decide some leads by the auction where it says something, else as if they came alone."""

    def at_last(self, leads: Sequence[LeftOver], so_far: SoFar) -> list[Decision]:
        """Decide leads that the auction left over as if they came alone, as far as shares stay met."""


def _free(ledger: Ledger, opened: Opened, leads: Sequence[Lead], *, moment: dt.datetime) -> list[Lead]:
    """Return the leads that have no decision yet and fall under no rule of engagement; nothing is written."""
    free = []
    # precedence asks for no capacity
    nothing = Load.none(len(opened.snapshot))
    for part in parts(leads):
        with ledger.turn(moment=moment) as turn:
            for lead in part:
                turn.look_at(lead.lead_id)
                if latest_of(turn, lead) is not None:
                    continue
                if precedence(opened.situation_in(turn, lead, load=nothing)) is None:
                    free.append(lead)
    return free


def _rows_given(opened: Opened, found: Iterable[Decision | LeftOver]) -> list[int]:
    """Return the rows of those who were given leads."""
    row = opened.snapshot.partners.index
    return [row[str(each.partner_id)] for each in found if isinstance(each, Decision) and each.status == ASSIGNED]


def _with_left_over(
    kept: _Kept, found: Sequence[Decision | LeftOver], so_far: SoFar
) -> tuple[tuple[Decision, ...], int]:
    """Decide the leads that the auction left over as if they came alone, once all others have their partners.

    Those who hold a lead exclusively were its only candidates; when they are full, others may get it.

    Returns
    -------
    tuple of Decision
        Of all leads.
    int
        How many of those that were left over somebody was given after all.
    """
    places = [place for place, each in enumerate(found) if isinstance(each, LeftOver)]
    last = [each for each in found if isinstance(each, LeftOver)]
    late = dict(zip(places, (decision for part in parts(last) for decision in kept.at_last(part, so_far)), strict=True))
    decisions = tuple(late[place] if isinstance(each, LeftOver) else each for place, each in enumerate(found))
    return decisions, sum(decision.status == ASSIGNED for decision in late.values())


class Written:
    """Decisions of a batch as the ledger keeps them."""

    def __init__(self, ledger: Ledger, opened: Opened, moment: dt.datetime) -> None:
        self._ledger, self._opened, self._moment = ledger, opened, moment

    def decided(self, leads: Sequence[tuple[Lead, Chosen | None]]) -> list[Decision | LeftOver]:
        with self._ledger.turn(moment=self._moment) as turn:
            return [self._decided(turn, lead, chosen) for lead, chosen in leads]

    def at_last(self, leads: Sequence[LeftOver], so_far: SoFar) -> list[Decision]:
        with self._ledger.turn(moment=self._moment) as turn:
            return [self._at_last(turn, each.lead, so_far) for each in leads]

    def _decided(self, turn: Turn, lead: Lead, chosen: Chosen | None) -> Decision | LeftOver:
        turn.look_at(lead.lead_id)
        stands = standing(turn, lead)
        if stands is not None:
            return stands
        if chosen is None or turn.number:
            return follow(turn, self._opened, lead)
        case = Case(self._opened.situation_in(turn, lead), self._opened.way, turn.number)
        if _is_left_over(case, chosen):
            return LeftOver(lead)
        return follow(turn, self._opened, lead, outcome=_by_auction(case, chosen))

    def _at_last(self, turn: Turn, lead: Lead, so_far: SoFar) -> Decision:
        turn.look_at(lead.lead_id)
        stands = standing(turn, lead)
        if stands is not None:
            return stands
        case = Case(self._opened.situation_in(turn, lead), self._opened.way, turn.number)
        credit = self._opened.credit_in(turn)
        return follow(turn, self._opened, lead, outcome=_counted(case, so_far, credit))


class Rehearsed:
    """Decisions of a batch that nobody keeps."""

    def __init__(self, ledger: Ledger, rehearsal: Rehearsal, moment: dt.datetime) -> None:
        self._ledger, self._rehearsal, self._moment = ledger, rehearsal, moment

    def decided(self, leads: Sequence[tuple[Lead, Chosen | None]]) -> list[Decision | LeftOver]:
        behind = self._behind([lead for lead, _ in leads])
        return [self._decided(*each, past) for each, past in zip(leads, behind, strict=True)]

    def at_last(self, leads: Sequence[LeftOver], so_far: SoFar) -> list[Decision]:
        behind = self._behind([each.lead for each in leads])
        return [self._at_last(each.lead, past, so_far) for each, past in zip(leads, behind, strict=True)]

    def _behind(self, leads: Sequence[Lead]) -> list[Behind]:
        return in_ledger(self._ledger, self._rehearsal.opened, leads, moment=self._moment)

    def _decided(self, lead: Lead, chosen: Chosen | None, behind: Behind) -> Decision | LeftOver:
        if behind.stands is not None:
            return behind.stands
        past = behind.past
        case = self._rehearsal.case(lead, self._moment, matches=behind.matches, past=past)
        if chosen is None or past.number:
            return self._rehearsal.take(case)
        if _is_left_over(case, chosen):
            return LeftOver(lead)
        return self._rehearsal.take(case, _by_auction(case, chosen))

    def _at_last(self, lead: Lead, behind: Behind, so_far: SoFar) -> Decision:
        if behind.stands is not None:
            return behind.stands
        case = self._rehearsal.case(lead, self._moment, matches=behind.matches, past=behind.past)
        return self._rehearsal.take(case, _counted(case, so_far, self._rehearsal.credit))


def _counted(case: Case, so_far: SoFar, credit: Mapping[str, float]) -> Outcome:
    """Decide a lead that was left over, within the shares, and count it."""
    outcome = within(case, so_far.limits(), so_far.groups, credit=credit)
    if outcome.decision.status == ASSIGNED:
        so_far.add(case.situation.snapshot.partners.index[str(outcome.decision.partner_id)])
    return outcome


def _is_left_over(case: Case, chosen: Chosen) -> bool:
    """Tell whether the auction gave a lead to nobody, and others than its candidates may get it later."""
    return chosen.row < 0 and chosen.looked.n_eligible > 0 and precedence(case.situation) is None


def _by_auction(case: Case, chosen: Chosen) -> Outcome | None:
    """Return what the auction says of a lead; None where that does not hold any more, and it is decided by itself."""
    situation = case.situation
    found = precedence(situation)
    if found is not None:
        return Outcome(engaged(case, found))
    if chosen.row < 0:
        return Outcome(nobody_may(case, chosen))
    if not case.way.capacity.free(situation.load, np.array([chosen.row]))[0]:
        return None
    return given(case, chosen)


def nobody_may(case: Case, chosen: Chosen) -> Decision:
    """Return the decision on a lead of a batch that has no candidates."""
    funnel = chosen.looked.funnel
    return case.decision("fallback", nobody(funnel), funnel=funnel, **chosen.together.told())


def given(case: Case, chosen: Chosen) -> Outcome:
    """Return the decision on a lead for the partner that the auction found."""
    seen, prices = chosen.looked, chosen.together.prices
    place = int(np.flatnonzero(seen.rows == chosen.row)[0])
    costs = prices[seen.rows]
    probability = np.zeros(len(costs))
    probability[place] = 1.0
    found = Considered(seen.rows, seen.p, seen.worth, seen.worth - costs, probability, seen.free)
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
