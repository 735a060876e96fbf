"""Scores of close: the pairs that are being worked on, each as it was when it was assigned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml.errors import NotEnoughDataError
from partnerml.features import build_pairs, pair_outcomes
from partnerml.scoring._asked import Asked, needed_of

if TYPE_CHECKING:
    from partnerml.models import Model, PeerRate


def frame(asked: Asked) -> pd.DataFrame:
    """Return the scores of the live pairs of open leads.

    Raises
    ------
    NotEnoughDataError
        If there is none.
    """
    model, moment = asked.model, asked.moment
    live = pair_outcomes(asked.eco).live(asked.task.label, moment)
    if live.empty:
        raise NotEnoughDataError(
            f"no lead is being worked on at {moment:%Y-%m-%d}: of the pairs that were assigned in the "
            f"{asked.task.horizon_days} days before, all were refused, won or lost. Check the table assignments"
        )
    peers = _peers(model)
    catalogue = needed_of(model, *(() if peers is None else peers.feature_names_in_))
    with asked.progress.stage(f"features of {len(live):,} pairs, each as of its assignment"):
        data = build_pairs(asked.eco, live, catalogue=catalogue)
    asked.check_traits(data.X, who="pairs", remedy="traits.partners")
    with asked.progress.stage(f"scores of {len(live):,} pairs"):
        found = asked.common(data)
        found["trend"] = pd.array([None] * len(found), dtype="str")
        if peers is not None:
            found["spread"] = np.hypot(found["spread"], peers.deviation(data.X))
            if "fallback" in model.evaluation:
                found["reasons"] = _told(found["reasons"], peers, data.X, top=asked.top)
    return asked.ranked(found)


def _peers(model: Model) -> PeerRate | None:
    """Return the rates of peers that every model of close is saved with."""
    from partnerml.models import PeerRate

    state = model.documents.get("peers")
    return None if state is None else PeerRate.from_state(state)


def _told(reasons: pd.Series, peers: PeerRate, X: pd.DataFrame, *, top: int) -> pd.Series:
    """Put before the reasons of rates alone what they are: the rate of the peers, and of how many pairs."""
    of_peers = peers.peers(X)
    who = [_who(row) for row in X[list(peers.groups)].astype(object).itertuples(index=False)] if peers.groups else []
    told: list[list[dict[str, Any]]] = []
    for i, (row, rate, rows) in enumerate(zip(reasons, of_peers["rate"], of_peers["rows"], strict=True)):
        of_whom = f"partners like it ({who[i]})" if who and who[i] else "all partners"
        text = f"too few outcomes for a model: {of_whom} won {100 * rate:.0f} % (on {rows:,.0f} pairs)"
        feature = peers.groups[0] if peers.groups else str(row[0]["feature"]) if row else ""
        effect = sum(reason["effect"] for reason in row if reason["feature"] in peers.groups)
        rest = [reason for reason in row if reason["feature"] not in peers.groups]
        told.append([{"feature": feature, "value": None, "effect": float(effect), "text": text}, *rest][:top])
    return pd.Series(told, index=reasons.index, dtype=object)


def _who(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values if isinstance(value, str))
