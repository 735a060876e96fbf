"""How one of the eligible partners is chosen: the probabilities of all of them first, then a draw from just these.

What is logged as the propensity of a choice is therefore exact, whatever a policy does to find its probabilities.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from partnerml.config import PolicyConfig, SplitConfig
from partnerml.errors import ConfigError, DataError, InternalError, ModelError
from partnerml.pairs._arrays import Bools, Floats, Ints
from partnerml.routing import _round_robin
from partnerml.routing._draw import drawn, fraction
from partnerml.routing._thompson import chances_of_best

CHAMPION, CHALLENGER = "champion", "challenger"
# Scores of equal partners may differ in their last bits, since sums of vectors depend on how they are aligned.
TIE = 1e-12
_RANDOM = ("softmax", "epsilon", "thompson")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """What policies see of the m partners that may get a lead.

    Attributes
    ----------
    partner_id : sequence of str
    p : array of shape (m,)
        Chance to win.
    value : float or array of shape (m,)
        What a win is worth: 1, or the lead's amount; times the chance to accept, where that counts.
    price : float or array of shape (m,)
        What a unit of the partner's capacity is worth elsewhere.
    spread : array of shape (m,), optional
        Deviation of the log-odds of `p`: how little is known. Thompson sampling needs it.
    load : array of shape (m,), optional
        Share that a partner has used of the leads that it may hold open, by which ties are broken; 0 without a limit.
    held : array of shape (m,), optional
        How many leads it holds open, which breaks ties that are left.
    weight : array of shape (m,), optional
        Weights of round robin, NaN = 0; by default they are equal.
    credit : array of shape (m,), optional
        What round robin owes each of them, by default nothing (see `partnerml.routing._round_robin`).
    """

    partner_id: Sequence[str]
    p: Floats
    value: Floats | float = 1.0
    price: Floats | float = 0.0
    spread: Floats | None = None
    load: Floats | None = None
    held: Ints | None = None
    weight: Floats | None = None
    credit: Floats | None = None

    def __len__(self) -> int:
        return len(self.p)

    @functools.cached_property
    def utility(self) -> Floats:
        """What is maximised: value x chance to win, less the price."""
        return np.asarray(self.value * self.p - self.price, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The partner that gets the lead, and how likely it was to.

    Attributes
    ----------
    place : int
        Which of the candidates.
    probabilities : array of shape (m,)
        Of all candidates; of a split the mixture over its arms, by their shares.
    propensity : float
        That of the one chosen.
    explores : bool
        Whether a policy that draws has drawn another than the one with the highest utility.
    arm : str
        Who decided: ``champion`` or ``challenger``.
    credit : array of shape (m,), optional
        What round robin owes each candidate from now on; None if it did not decide.
    """

    place: int
    probabilities: Floats
    propensity: float
    explores: bool
    arm: str
    credit: Floats | None = None


def wants_spread(config: PolicyConfig, split: SplitConfig | None = None) -> bool:
    """Tell whether a policy asks how sure a score is: finding out takes time."""
    return config.kind == "thompson" or (split is not None and split.policy.kind == "thompson")


def choose(
    config: PolicyConfig, candidates: Candidates, *, lead_id: str, seed: int, split: SplitConfig | None = None
) -> Choice:
    """Choose the partner that gets a lead.

    Parameters
    ----------
    config : PolicyConfig
    candidates : Candidates
        At least one.
    lead_id : str
        Decides the arm of a split, and ties.
    seed : int
        Of this decision (see `partnerml.routing._decision.seed_of`).
    split : SplitConfig, optional
        A challenger that decides a share of the leads.

    Raises
    ------
    ConfigError
        If Thompson sampling is asked for, and the scorer does not say how sure it is.
    ModelError
        If a utility is not a number.
    DataError
        If a weight of round robin is infinite or negative.
    """
    _check(candidates)
    acting, arm = config, CHAMPION
    vector = logged = probabilities(config, candidates, lead_id=lead_id)
    if split is not None:
        other = probabilities(split.policy, candidates, lead_id=lead_id)
        logged = (1.0 - split.share) * vector + split.share * other
        if fraction("arm", lead_id) < split.share:
            acting, arm, vector = split.policy, CHALLENGER, other
    place = drawn(vector, fraction("draw", seed))
    return Choice(
        place=place,
        probabilities=logged,
        propensity=float(logged[place]),
        explores=acting.kind in _RANDOM and place not in _tied(candidates.utility),
        arm=arm,
        credit=_credit_after(acting, candidates, place),
    )


def probabilities(config: PolicyConfig, candidates: Candidates, *, lead_id: str) -> Floats:
    """Return the probability of each candidate under a policy; they sum to 1."""
    vector = _POLICIES[config.kind](config, candidates, lead_id)
    total: float = vector.sum()
    return vector / total


def _greedy(config: PolicyConfig, candidates: Candidates, lead_id: str) -> Floats:
    return _certain(fairest(_tied(candidates.utility), candidates, lead_id=lead_id), candidates)


def _softmax(config: PolicyConfig, candidates: Candidates, lead_id: str) -> Floats:
    utility = candidates.utility
    weights: Floats = np.exp((utility - utility.max()) / config.temperature)
    return weights


def _epsilon(config: PolicyConfig, candidates: Candidates, lead_id: str) -> Floats:
    greedy = _greedy(config, candidates, lead_id)
    return (1.0 - config.epsilon) * greedy + config.epsilon / len(candidates)


def _thompson(config: PolicyConfig, candidates: Candidates, lead_id: str) -> Floats:
    if candidates.spread is None:
        raise ConfigError(
            "routing.policy.kind is thompson, which needs to know how sure a score is, and this scorer does not say; "
            "use a published model, or greedy, softmax, epsilon or round_robin"
        )
    return chances_of_best(candidates.p, candidates.spread, value=candidates.value, price=candidates.price)


def _in_turn(config: PolicyConfig, candidates: Candidates, lead_id: str) -> Floats:
    waits = _round_robin.patience(_shares(candidates), _credit(candidates))
    return _certain(fairest(_tied(-waits, within=1e-9), candidates, lead_id=lead_id), candidates)


_POLICIES: dict[str, Callable[[PolicyConfig, Candidates, str], Floats]] = {
    "greedy": _greedy,
    "softmax": _softmax,
    "epsilon": _epsilon,
    "thompson": _thompson,
    "round_robin": _in_turn,
}


def fairest(places: Ints, candidates: Candidates, *, lead_id: str) -> int:
    """Return which of equally good candidates gets the lead.

    The one that has used the smallest share of the leads that it may hold open; of several, such as those without a
    limit, the one that holds the fewest; of several again, the one whose id, hashed with that of the lead, comes first:
    which favours nobody over many leads, and is the same at every call.
    """
    for used in (candidates.load, candidates.held):
        if used is not None and len(places) > 1:
            places = places[used[places] == used[places].min()]
    if len(places) == 1:
        return int(places[0])
    return int(min(places, key=lambda place: fraction(lead_id, candidates.partner_id[place])))


def _tied(values: Floats, *, within: float = TIE) -> Ints:
    """Return the places of the highest values."""
    highest = values.max()
    return np.flatnonzero(values >= highest - within * max(1.0, abs(highest)))


def _certain(place: int, candidates: Candidates) -> Floats:
    vector = np.zeros(len(candidates))
    vector[place] = 1.0
    return vector


def _credit_after(acting: PolicyConfig, candidates: Candidates, place: int) -> Floats | None:
    if acting.kind != "round_robin":
        return None
    return _round_robin.after(_shares(candidates), _credit(candidates), place, catch_up=acting.catch_up)


def _credit(candidates: Candidates) -> Floats:
    return np.zeros(len(candidates)) if candidates.credit is None else candidates.credit


def _shares(candidates: Candidates) -> Floats:
    if candidates.weight is None:
        return _round_robin.shares(np.ones(len(candidates)))
    given = np.asarray(candidates.weight, dtype=np.float64)
    # one empty cell of a table must not stop the leads of everybody
    weight = np.where(np.isnan(given), 0.0, given)
    _refuse(
        ~np.isfinite(weight) | (weight < 0),
        candidates,
        lambda place: DataError(
            f"the weight of partner {candidates.partner_id[place]} in round robin must be a number, not negative; "
            f"got {weight[place]}: correct the column that routing.policy.weights names"
        ),
    )
    return _round_robin.shares(weight)


def _check(candidates: Candidates) -> None:
    if not len(candidates):
        raise InternalError("there is nobody to choose from: such a lead goes to the fallback queue before this")
    _refuse(
        ~np.isfinite(candidates.utility),
        candidates,
        lambda place: ModelError(
            f"the score of partner {candidates.partner_id[place]} is no number: chance {candidates.p[place]}, "
            f"utility {candidates.utility[place]}; the scorer is at fault"
        ),
    )


def _refuse(wrong: Bools, candidates: Candidates, error: Callable[[int], Exception]) -> None:
    if wrong.any():
        raise error(int(np.argmax(wrong)))
