"""A decision as a value: who gets a lead, why, and who else might have; as JSON, for people, and for one partner."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple, Self

from partnerml.errors import InternalError

ASSIGNED, REGISTERED, OWNER, DUPLICATE, FALLBACK = (
    "assigned",
    "registered_deal",
    "existing_owner",
    "duplicate",
    "fallback",
)
STATUSES = (ASSIGNED, REGISTERED, OWNER, DUPLICATE, FALLBACK)
# those that give the lead to a partner who need not be asked: it holds it from then on
HELD = (REGISTERED, OWNER)
LEVEL = 1e-9  # utilities that differ by less are the same
# what is compared where utilities are chances, by `routing.objective`; where they are money, it is a worth
_CHANCES = {"win": "chance to win", "accept_and_win": "chance to accept and win"}
# the policy of a decision that a person made
OVERRIDDEN = "override"
# and of those that a batch was given out by
BATCH = "batch"
PRICES = "prices"  # of the evidence: how old they are
# the evidence of a fallback where nobody could be chosen: the snapshot was too old, and a newer one decides; or a rule
# or a score failed, and the next `expire` decides once that is mended, by this snapshot or a newer one
WAITING = {"waits_for": "snapshot"}


class Removed(NamedTuple):
    """What one rule removed of the partners that came through the rules before it.

    Attributes
    ----------
    rule : str
    removed, left : int
        How many partners it removed, and how many were left after it.
    """

    rule: str
    removed: int
    left: int


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A partner who might have got the lead.

    Attributes
    ----------
    partner_id : str
    rank : int
        By utility; 1 is the best.
    p_win, price, utility : float
    propensity : float
        With what probability it would have been chosen.
    behind : float
        By how much more utility than it had it would have been first, or by how much it is ahead if negative.
    """

    partner_id: str
    rank: int
    p_win: float
    price: float
    utility: float
    propensity: float
    behind: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """Who gets a lead. What is not given is what holds where no policy chose anybody.

    Attributes
    ----------
    decision_id, lead_id : str
    status : str
        ``assigned``, ``registered_deal``, ``existing_owner``, ``duplicate`` or ``fallback``.
    partner_id, offer_id, duplicate_of : str or None
        The partner, if there is one; the offer that was made to it; the lead that came before.
    rank : int or None
        Of the partner by utility; 1 is the best.
    p_win, price, utility, propensity : float or None
        What was expected of the partner, what its capacity costs, what was maximised, and with what probability the
        policy chose it; None where no policy chose.
    explores : bool
        Whether it was chosen to learn from.
    n_eligible : int
        How many partners passed all rules.
    funnel : tuple of Removed
        What each rule removed, in order.
    alternatives : tuple of Alternative
        The next best.
    reasons : tuple of mapping
        ``feature``, ``value``, ``effect`` (log-odds) and ``text``: what moved the score of the partner most.
    facts : tuple of str
        The same partner and lead in words: how far, what was won, how busy.
    why : str
        The decision in one sentence.
    evidence : mapping
        What a rule of engagement went by: the deal, the owner, or how the lead matched another.
    policy : str
    model_version, snapshot_id : str
    prices_id : str or None
        Prices that were found after the snapshot was published; None = those of the snapshot, which are 0 where it was
        published.
    decided_at : datetime
        UTC.
    seed : int
        Of what was drawn.
    objective : str or None
        ``routing.objective``: in what utilities and prices are; None where a person decided, or a version that did not
        write it down.
    """

    decision_id: str
    lead_id: str
    status: str
    partner_id: str | None = None
    offer_id: str | None = None
    duplicate_of: str | None = None
    rank: int | None = None
    p_win: float | None = None
    price: float | None = None
    utility: float | None = None
    propensity: float | None = None
    explores: bool = False
    n_eligible: int = 0
    funnel: tuple[Removed, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    reasons: tuple[Mapping[str, Any], ...] = ()
    facts: tuple[str, ...] = ()
    why: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    policy: str
    model_version: str
    snapshot_id: str
    prices_id: str | None = None
    decided_at: dt.datetime
    seed: int
    objective: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise InternalError(f"a decision is one of {', '.join(STATUSES)}; got {self.status!r}")

    @property
    def waits(self) -> bool:
        """Whether nobody could be chosen by then: a newer snapshot decides, or the rule or score that failed."""
        return self.status == FALLBACK and self.evidence == WAITING

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        # `dataclasses.asdict` copies everything deeply, which takes longer than deciding
        return {
            **vars(self),
            "funnel": [step._asdict() for step in self.funnel],
            "alternatives": [vars(other) for other in self.alternatives],
            "reasons": [dict(reason) for reason in self.reasons],
            "facts": list(self.facts),
            "evidence": dict(self.evidence),
            "decided_at": self.decided_at.isoformat(),
        }

    def to_json(self) -> str:
        """Return the one JSON text of the decision: keys in order, one line."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        found = json.loads(text)
        return cls(
            **{
                **found,
                "funnel": tuple(Removed(**step) for step in found["funnel"]),
                "alternatives": tuple(Alternative(**other) for other in found["alternatives"]),
                "reasons": tuple(found["reasons"]),
                "facts": tuple(found["facts"]),
                "decided_at": dt.datetime.fromisoformat(found["decided_at"]),
            }
        )

    def words(self, names: Mapping[str, str] | None = None) -> str:
        """Return the decision for people: lines of text; what moved the score has its effect in log-odds in front.

        Parameters
        ----------
        names : mapping of str to str, optional
            Names of partners by their ids.
        """

        def called(partner_id: str) -> str:
            name = (names or {}).get(partner_id)
            return f"{name} ({partner_id})" if name else partner_id

        # where nobody has a price, nothing is told of it
        priced = any(price for price in (self.price, *(other.price for other in self.alternatives)))
        lines = [f"lead {self.lead_id}: {self.why}"]
        if self.partner_id is not None:
            cost = f", price {_amount(self.price)}" if priced and self.price is not None else ""
            lines.append(f"  partner {called(self.partner_id)}{_chance(self.p_win)}{cost}")
        lines += [f"  {fact}" for fact in self.facts]
        lines += [f"  {reason['effect']:+.2f} {reason['text']}" for reason in self.reasons]
        for other in self.alternatives:
            cost = f", price {_amount(other.price)}" if priced else ""
            lines.append(f"  next: {called(other.partner_id)}{_chance(other.p_win)}{cost}{self._what_lacked(other)}")
        funnel = told(self.funnel)
        if funnel and funnel not in self.why:
            lines.append(f"  {funnel}")
        lines.append(f"  {self.decision_id}, policy {self.policy}, model {self.model_version or 'none'}")
        return "\n".join(lines)

    def _what_lacked(self, other: Alternative) -> str:
        """Return in words what would have changed the choice in favour of another; nothing where turns are taken."""
        kind = self.policy.rpartition(":")[2]
        if kind == "round_robin":
            return ""
        if abs(other.behind) <= LEVEL * max(1.0, abs(other.utility)):
            return "; as good"
        if other.behind < 0.0:
            whose = "others of the batch needed it" if kind == BATCH else "the draw chose otherwise"
            return f"; {self._ahead(-other.behind)}, but {whose}"
        return f"; {'chosen' if kind == 'greedy' else 'level'} if {self._higher(other.behind)}"

    def _higher(self, utility: float) -> str:
        """Return in words what would have added so much to the utility of a partner."""
        what = _CHANCES.get(self.objective or "")
        return f"worth {_amount(utility)} more" if what is None else f"its {what} were {_points(utility)} higher"

    def _ahead(self, utility: float) -> str:
        """Return in words that the utility of a partner is so much higher; prices are taken off it."""
        what = _CHANCES.get(self.objective or "")
        return f"worth {_amount(utility)} more" if what is None else f"ahead by {_points(utility)} of {what}"

    def place_of(self, partner_id: str, *, audience: str = "vendor") -> str:
        """Return where a partner stood in the decision, in words: its rank, and what it lacked; empty if unknown.

        Parameters
        ----------
        partner_id : str
        audience : {"vendor", "partner"}
            Who reads it: a partner is told its rank alone, since what it lacked tells of the one that was chosen.
        """
        if self._gave(partner_id):
            return f"it has the lead: {self.why}" if audience == "vendor" else "it has the lead"
        other = next((other for other in self.alternatives if other.partner_id == partner_id), None)
        if other is None:
            return ""
        lacked = self._what_lacked(other) if audience == "vendor" else ""
        return f"rank {other.rank} of {self.n_eligible:,} eligible{lacked}"

    def _gave(self, partner_id: str) -> bool:
        """Tell whether the decision gave the lead to a partner; a duplicate names who had the other."""
        return self.offer_id is not None and partner_id == self.partner_id

    def for_partner(self, partner_id: str) -> dict[str, Any]:
        """Return what one partner may see: its own facts, and ranks without names.

        What another partner is, scored or has is left out. A decision holds the best that were not chosen alone, and
        does not know who is a partner: `Router.for_partner` tells the rank of others, the rule that a partner did not
        pass, and refuses an id that there is not.
        """
        chosen = self._gave(partner_id)
        own = next((other for other in self.alternatives if other.partner_id == partner_id), None)
        rank = self.rank if chosen else None if own is None else own.rank
        return {
            "lead_id": self.lead_id,
            "decided_at": self.decided_at.isoformat(),
            "yours": chosen,
            "status": self.status if chosen or self.offer_id is None else "given to another partner",
            "offer_id": self.offer_id if chosen else None,
            "rank": rank,
            "n_eligible": self.n_eligible,
            "facts": list(self.facts) if chosen else [],
            "reasons": [reason["text"] for reason in self.reasons] if chosen else [],
        }


def statuses(decisions: Iterable[Decision]) -> dict[str, int]:
    """Return how many decisions there are of each status, in the order of their names."""
    return dict(sorted(Counter(decision.status for decision in decisions).items()))


def told(funnel: Sequence[Removed]) -> str:
    """Return a funnel in words: how many partners each rule removed."""
    if not funnel:
        return ""
    start, left = funnel[0].removed + funnel[0].left, funnel[-1].left
    steps = [f"{step.removed:,} by {step.rule}" for step in funnel if step.removed]
    eligible = f"{left:,} are" if left > 1 else "1 is" if left else "none is"
    return f"of {counted(start, 'partner')} {eligible} eligible" + (f"; left out: {', '.join(steps)}" if steps else "")


def counted(count: int, what: str) -> str:
    """Return a count with its noun: 1 partner, 2 partners."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _amount(value: float) -> str:
    """Return a worth or a price in words: money to the cent, chances to three digits."""
    return f"{value:,.2f}" if abs(value) >= 100.0 else f"{value:.3g}"


def _points(chance: float) -> str:
    """Return a difference between two chances in words."""
    points = f"{100.0 * chance:.3g}"
    return f"{points} percentage point" + ("" if points == "1" else "s")


def _chance(p: float | None) -> str:
    return "" if p is None else f", {100.0 * p:.1f} % to win"


def id_of(kind: str, seed: int, lead_id: str, number: int) -> str:
    """Return the id of a decision or an offer: the same wherever the same lead is decided for the same time."""
    return f"{kind}-{_digest(seed, lead_id, number, kind)[:20]}"


def seed_of(seed: int, lead_id: str, number: int) -> int:
    """Return the seed of what is drawn for a decision: the same on every machine, and fit for a signed integer."""
    return int(_digest(seed, lead_id, number, "draw")[:16], 16) >> 1


def _digest(*parts: object) -> str:
    # as `json.dumps` writes a list of texts, which takes longer than the hash
    text = ", ".join(encode_basestring_ascii(str(part)) for part in parts)
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()
