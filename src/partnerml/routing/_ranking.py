"""Whom a lead would go to: the partners that a decision was made among, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from partnerml.routing._decide import Considered
from partnerml.routing._decision import HELD

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.routing._decide import Outcome
    from partnerml.routing._decision import Decision
    from partnerml.routing._opened import Opened
    from partnerml.routing._situation import Situation


def ranking(
    opened: Opened, situation: Situation, outcome: Outcome, *, top: int, stands: Decision | None = None
) -> pd.DataFrame:
    """Return who was considered, the best first, with what was decided in ``attrs``.

    Parameters
    ----------
    opened : Opened
    situation : Situation
    outcome : Outcome
        Of the decision that would be made.
    top : int
        How many.
    stands : Decision, optional
        That holds already; the outcome is then the one that would follow.
    """
    import pandas as pd

    found = _considered(opened, situation, outcome)
    best = np.argsort(-found.utility, kind="stable")[:top]
    rows = found.rows[best]
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(best) + 1),
            "partner_id": pd.array(opened.snapshot.partners.partner_id[rows].tolist(), dtype="str"),
            "p_win": found.p[best],
            "price": opened.snapshot.prices[rows],
            "utility": found.utility[best],
            "propensity": found.probability[best],
            "free": found.free[best],
        }
    )
    told = outcome.decision if stands is None else stands
    frame.attrs.update(status=told.status, why=told.why)
    if stands is not None:
        frame.attrs["decision_id"] = stands.decision_id
    return frame


def _considered(opened: Opened, situation: Situation, outcome: Outcome) -> Considered:
    """Return who was considered; a partner that gets a lead unasked was not scored."""
    if outcome.considered is not None:
        return outcome.considered
    decision = outcome.decision
    row = opened.snapshot.partners.row(str(decision.partner_id)) if decision.status in HELD else None
    rows = np.array([] if row is None else [row], dtype=np.int64)
    unknown = np.full(len(rows), np.nan)
    return Considered(rows, unknown, unknown, unknown, unknown, opened.way.capacity.free(situation.load, rows))
