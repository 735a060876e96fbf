"""The first stage: where very many partners are eligible, a cheap score says which of them the model looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from partnerml.config import PolicyConfig, RoutingConfig
    from partnerml.pairs._arrays import Floats, Ints
    from partnerml.routing._situation import Situation


def shortlist(situation: Situation, rows: Ints) -> Ints:
    """Return the rows that are scored in full, in their order: all of them up to ``first_stage.above``.

    Of more, the ``first_stage.keep`` best by the scorer's glance, as utility: times the value of the lead, less the
    partner's price. Who is left out has no chance to be chosen: its propensity is 0. Under round robin nobody is left
    out: whose turn it is does not depend on any score.

    Parameters
    ----------
    situation : Situation
    rows : array of int, shape (m,)
        Of the eligible, ascending.
    """
    stage, kinds = situation.config.first_stage, [policy.kind for policy in _policies(situation.config)]
    if len(rows) <= stage.above or stage.keep >= len(rows) or "round_robin" in kinds:
        return rows
    utility = _utility(situation, rows)
    best = np.argpartition(-utility, stage.keep - 1)[: stage.keep]
    # of those that are as good as the last one, the first rows: what argpartition takes may differ between machines
    last = utility[best].min()
    ahead, level = np.flatnonzero(utility > last), np.flatnonzero(utility == last)
    return rows[np.sort(np.append(ahead, level[: stage.keep - len(ahead)]))]


def _policies(config: RoutingConfig) -> tuple[PolicyConfig, ...]:
    return (config.policy,) if config.split is None else (config.policy, config.split.policy)


def _utility(situation: Situation, rows: Ints) -> Floats:
    snapshot, objective = situation.snapshot, situation.config.objective
    glance, prices = snapshot.scorer.glance(situation, rows), snapshot.prices[rows]
    if objective == "win" and not prices.any():
        # the order of log-odds is that of probabilities
        return glance
    utility: Floats = snapshot.scorer.ceiling * expit(glance) * value_of(situation, rows) - prices
    return utility


def value_of(situation: Situation, rows: Ints) -> Floats | float:
    """Return what a win with each partner is worth, by the objective of the configuration."""
    objective = situation.config.objective
    if objective == "value":
        return float(situation.lead.get("amount") or 1.0)
    return situation.snapshot.acceptance[rows] if objective == "accept_and_win" else 1.0
