"""The decision itself: a pure function of what is known at the moment, so that it can be repeated exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.routing import _decision as kinds
from partnerml.routing._decision import PRICES, Alternative, Decision, Removed, id_of, seed_of, told
from partnerml.routing._eligibility import eligible
from partnerml.routing._policy import CHAMPION, TIE, Candidates, Choice, choose, wants_spread
from partnerml.routing._precedence import precedence
from partnerml.routing._shortlist import shortlist, value_of
from partnerml.routing._words import facts

if TYPE_CHECKING:
    from partnerml.config import PolicyConfig, RoutingConfig
    from partnerml.pairs._arrays import Floats, Ints
    from partnerml.routing._capacity import PartnerCapacity
    from partnerml.routing._eligibility import Eligible
    from partnerml.routing._precedence import Precedence
    from partnerml.routing._rules import Rule
    from partnerml.routing._situation import Situation

RUNNERS_UP, REASONS = 3, 3


@dataclasses.dataclass(frozen=True)
class Way:
    """How decisions are made, the same for all leads of a router.

    Attributes
    ----------
    rules : sequence of Rule
        Of eligibility, in order.
    capacity : PartnerCapacity
        Limits of the partners of the snapshot.
    snapshot_id : str
    prices_id : str or None
        Of prices that are not those that the snapshot was published with.
    prices_told : mapping or None
        When these were found and by which leads, as decisions tell it.
    seed : int
        Of the configuration.
    reasons : bool
        Whether to tell what moved the model's score of the chosen partner: a few milliseconds.
    formerly : bool
        Whether ties go as they did when open leads of a partner without a limit were taken for a share: to make
        decisions of then again.
    """

    rules: Sequence[Rule]
    capacity: PartnerCapacity
    snapshot_id: str
    prices_id: str | None = None
    prices_told: Mapping[str, Any] | None = None
    seed: int = 0
    reasons: bool = True
    formerly: bool = False


@dataclasses.dataclass(frozen=True)
class Considered:
    """Who was considered, and how likely each was to be chosen: what off-policy evaluation needs.

    Attributes
    ----------
    rows : array of int, shape (m,)
        Of the snapshot.
    p, worth, utility, probability, free : array of shape (m,)
        Chance to win, what that is worth before prices and after them, chance to be chosen, and how many leads each
        could still be offered.
    """

    rows: Ints
    p: Floats
    worth: Floats
    utility: Floats
    probability: Floats
    free: Floats

    def only(self, places: Ints) -> Considered:
        """Return some of them."""
        return Considered(*(getattr(self, field.name)[places] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A decision, and what is kept beside it.

    Attributes
    ----------
    decision : Decision
    considered : Considered or None
        None where no policy chose.
    credit : mapping of str to float, or None
        What round robin owes partners from now on.
    """

    decision: Decision
    considered: Considered | None = None
    credit: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One lead, which has been decided so many times already."""

    situation: Situation
    way: Way
    number: int

    def decision(self, status: str, why: str, **more: Any) -> Decision:
        """Return a decision; what `more` does not say is that nobody was chosen."""
        situation = self.situation
        lead_id, seed = situation.lead.lead_id, self.way.seed
        offered = status == kinds.ASSIGNED or status in kinds.HELD
        snapshot = situation.snapshot
        held: dict[str, Any] = {"policy": situation.config.policy.kind, "prices_id": self.way.prices_id}
        return Decision(
            decision_id=id_of("decision", seed, lead_id, self.number),
            lead_id=lead_id,
            status=status,
            offer_id=id_of("offer", seed, lead_id, self.number) if offered else None,
            why=why,
            model_version=snapshot.scorer.version,
            snapshot_id=self.way.snapshot_id,
            decided_at=situation.moment,
            seed=seed_of(seed, lead_id, self.number),
            objective=situation.config.objective,
            **{**held, **more},
        )

    def priced(self) -> dict[str, Any]:
        """Return the evidence of a decision that goes by prices: how old they are."""
        return {} if self.way.prices_told is None else {PRICES: dict(self.way.prices_told)}


def decide(situation: Situation, *, way: Way, number: int = 0, credit: Mapping[str, float] | None = None) -> Outcome:
    """Decide who gets a lead.

    Parameters
    ----------
    situation : Situation
    way : Way
    number : int
        How many decisions the lead has had before.
    credit : mapping of str to float, optional
        What round robin owes partners.
    """
    case = Case(situation, way, number)
    found = precedence(situation)
    if found is not None:
        return Outcome(engaged(case, found))
    why = offered_enough(situation)
    if why is not None:
        return Outcome(case.decision(kinds.FALLBACK, why, evidence={"offered_to": sorted(situation.had)}))
    allowed = eligible(situation, way.rules)
    if not len(allowed.rows):
        return Outcome(case.decision(kinds.FALLBACK, nobody(allowed.funnel), funnel=allowed.funnel))
    return _chosen(case, allowed, credit or {})


def engaged(case: Case, found: Precedence) -> Decision:
    """Return the decision of a rule of engagement, which comes before any score."""
    return case.decision(
        found.status,
        found.words,
        partner_id=found.partner_id,
        duplicate_of=found.duplicate_of,
        evidence=dict(found.evidence),
    )


def nobody(funnel: tuple[Removed, ...]) -> str:
    """Return why nobody gets a lead that nobody may get."""
    return f"nobody may get it: {told(funnel)}; a person decides"


def reasoned(case: Case, row: int) -> dict[str, Any]:
    """Return what speaks for a partner: what moved its score, where that is asked for, and its facts in words."""
    scorer = case.situation.snapshot.scorer
    reasons = tuple(scorer.reasons(case.situation, row, REASONS)) if case.way.reasons else ()
    return {"reasons": reasons, "facts": facts(case.situation, row)}


def offered_enough(situation: Situation) -> str | None:
    """Return that a lead was offered to as many partners as may be asked, in words; None if it was not."""
    if len(situation.had) < situation.config.offers.limit:
        return None
    asked = kinds.counted(len(situation.had), "partner")
    return f"it was offered to {asked}, as many as routing.offers.limit allows; a person decides"


def _chosen(case: Case, allowed: Eligible, credit: Mapping[str, float]) -> Outcome:
    """Return the decision for one of the eligible."""
    situation = case.situation
    rows, candidates, choice = _choice(case, allowed.rows, credit)
    if situation.config.hold_back and candidates.utility.max() < 0.0:
        return _held_back(case, allowed, rows, candidates)
    rank, _ = ranked(candidates.utility, choice.place)
    found = _considered(case, rows, candidates, choice.probabilities)
    row = int(rows[choice.place])
    decision = case.decision(
        kinds.ASSIGNED,
        _why(choice, rank, len(allowed.rows), _acting(situation.config, choice), candidates.p),
        partner_id=str(candidates.partner_id[choice.place]),
        rank=rank,
        p_win=float(candidates.p[choice.place]),
        price=float(situation.snapshot.prices[row]),
        utility=float(candidates.utility[choice.place]),
        propensity=choice.propensity,
        explores=choice.explores,
        n_eligible=len(allowed.rows),
        funnel=allowed.funnel,
        evidence=case.priced(),
        alternatives=alternatives(candidates.partner_id, found, situation.snapshot.prices[rows], choice.place),
        policy=_policy(situation.config, choice),
        **reasoned(case, row),
    )
    owed = None if choice.credit is None else dict(zip(candidates.partner_id, choice.credit.tolist(), strict=True))
    return Outcome(decision, found, owed)


def _held_back(case: Case, allowed: Eligible, rows: Ints, candidates: Candidates) -> Outcome:
    """Return the decision on a lead that is worth less than the capacity it would take: bid-price control."""
    # nobody had a chance, and that is what is logged; the lead still counts when prices are found anew
    found = _considered(case, rows, candidates, np.zeros(len(rows)))
    best = int(found.utility.argmax())
    why = (
        f"{len(allowed.rows):,} eligible, but better leads need the capacity: with {candidates.partner_id[best]}, who "
        f"comes nearest, it is worth {found.worth[best]:.3g}, and the price is "
        f"{found.worth[best] - found.utility[best]:.3g}; a person decides"
    )
    told = {"funnel": allowed.funnel, "n_eligible": len(allowed.rows), "evidence": case.priced()}
    return Outcome(case.decision(kinds.FALLBACK, why, **told), found)


def _choice(case: Case, rows: Ints, credit: Mapping[str, float]) -> tuple[Ints, Candidates, Choice]:
    """Return who is scored in full, what the policy sees of them, and whom it takes."""
    config, lead_id = case.situation.config, case.situation.lead.lead_id
    kept = shortlist(case.situation, rows)
    candidates = _candidates(case, kept, credit)
    seed = seed_of(case.way.seed, lead_id, case.number)
    return kept, candidates, choose(config.policy, candidates, lead_id=lead_id, seed=seed, split=config.split)


def _considered(case: Case, rows: Ints, candidates: Candidates, probabilities: Floats) -> Considered:
    free = case.way.capacity.free(case.situation.load, rows)
    worth = np.asarray(candidates.value * candidates.p, dtype=np.float64)
    return Considered(rows, candidates.p, worth, candidates.utility, probabilities, free)


def _candidates(case: Case, rows: Ints, credit: Mapping[str, float]) -> Candidates:
    """Return what the policy sees of some partners."""
    situation, config = case.situation, case.situation.config
    snapshot = situation.snapshot
    scored = snapshot.scorer.score(situation, rows)
    partner_id: list[str] = snapshot.partners.partner_id[rows].tolist()
    weights = None if config.weights is None else snapshot.partners.column(config.weights)
    held, limit = situation.load.open[rows], snapshot.partners.max_open_leads[rows]
    return Candidates(
        partner_id=partner_id,
        p=scored.p,
        value=value_of(situation, rows),
        price=snapshot.prices[rows],
        spread=_log_odds_spread(scored.p, scored.spread) if wants_spread(config.policy, config.split) else None,
        load=_share_used(held, limit, unlimited=held if case.way.formerly else np.zeros(len(rows))),
        held=None if case.way.formerly else held,
        weight=None if weights is None else np.asarray(weights[rows], dtype=np.float64),
        credit=np.array([credit.get(partner, 0.0) for partner in partner_id]) if credit else None,
    )


def _share_used(held: Ints, limit: Floats, *, unlimited: Ints | Floats) -> Floats:
    """Return the share of the leads that partners may hold open which they hold; of those without a limit as given."""
    share: Floats = np.where(limit > 0, held / np.where(limit > 0, limit, 1.0), unlimited)
    return share


def _log_odds_spread(p: Floats, spread: Floats) -> Floats:
    """Return the deviation of the log-odds of probabilities with some deviation, to first order."""
    kept = np.clip(p, 1e-6, 1.0 - 1e-6)
    deviation: Floats = spread / (kept * (1.0 - kept))
    return deviation


def ranked(utility: Floats, place: int, *, most: int = 0) -> tuple[int, list[tuple[int, int]]]:
    """Return the rank of the one chosen by utility, and rank and place of so many others, the best first.

    Of those that are as good as the one chosen it comes first.
    """
    rank = int((utility > utility[place] + TIE * max(1.0, abs(utility[place]))).sum()) + 1
    if not most:
        return rank, []
    best = np.argsort(-utility, kind="stable")[: most + 1].tolist()
    others = [other for other in best if other != place][:most]
    return rank, [(number + (number >= rank), other) for number, other in enumerate(others, start=1)]


def alternatives(partner_id: Sequence[str], found: Considered, prices: Floats, place: int) -> tuple[Alternative, ...]:
    """Return the best that were not chosen.

    Parameters
    ----------
    partner_id : sequence of str
        Of those considered.
    found : Considered
    prices : array of shape (m,)
    place : int
        Of the one chosen.
    """
    return tuple(
        Alternative(
            partner_id=str(partner_id[other]),
            rank=rank,
            p_win=float(found.p[other]),
            price=float(prices[other]),
            utility=float(found.utility[other]),
            propensity=float(found.probability[other]),
            behind=float(found.utility[place] - found.utility[other]),
        )
        for rank, other in ranked(found.utility, place, most=RUNNERS_UP)[1]
    )


def _why(choice: Choice, rank: int, n: int, policy: PolicyConfig, p: Floats) -> str:
    # of those that the first stage left out nobody knows as much
    among = f"{n:,}" if len(p) == n else f"the {len(p):,} scored in full, of {n:,}"
    if choice.explores:
        told = f"drawn by {policy.kind} with probability {choice.propensity:.3f} to learn"
        return f"rank {rank} of {among} eligible, {told}"
    if policy.kind == "round_robin":
        return f"its turn among {n:,} eligible"
    if p[choice.place] >= p.max() - TIE:
        return f"the most likely to close of {among} eligible"
    # value, acceptance or prices have a say
    return f"the best for the objective of {among} eligible" if rank == 1 else f"rank {rank} of {among} eligible"


def _acting(config: RoutingConfig, choice: Choice) -> PolicyConfig:
    """Return the policy that decided."""
    return config.policy if config.split is None or choice.arm == CHAMPION else config.split.policy


def _policy(config: RoutingConfig, choice: Choice) -> str:
    acting = _acting(config, choice)
    return acting.kind if config.split is None else f"{choice.arm}:{acting.kind}"
