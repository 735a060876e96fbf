"""Leads that an auction left over: decided one by one, as if they came alone, by those only who keep the shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from partnerml.routing._decide import Outcome, decide
from partnerml.routing._rule import Rule
from partnerml.routing._shares import Limits

if TYPE_CHECKING:
    from partnerml.routing._decide import Case
    from partnerml.routing._shares import Group

SHARES = "shares"  # the name of the rule, and of what a decision says of it


def within(case: Case, limits: Limits, groups: Sequence[Group], *, credit: Mapping[str, float]) -> Outcome:
    """Decide a lead among those who may get one more without a share being missed.

    Parameters
    ----------
    case : Case
    limits : Limits
    groups : sequence of Group
        Those of ``routing.batch.shares``.
    credit : mapping of str to float
        What round robin owes partners.
    """
    situation = case.situation
    mask = limits.mask(groups, len(situation.snapshot))
    if mask.all():
        return decide(situation, way=case.way, number=case.number, credit=credit)
    # asked last: nobody gets a lead that somebody else holds exclusively, whatever the shares
    rule = Rule(SHARES, "keeps the shares of groups in the batch", lambda _: mask)
    way = dataclasses.replace(case.way, rules=(*case.way.rules, rule))
    outcome = decide(situation, way=way, number=case.number, credit=credit)
    evidence = {**outcome.decision.evidence, SHARES: limits.told()}
    return dataclasses.replace(outcome, decision=dataclasses.replace(outcome.decision, evidence=evidence))
