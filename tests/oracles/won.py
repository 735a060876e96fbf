"""What became of assigned leads, one pair at a time, in plain Python over lists of dicts: slow and obvious.

It shares no code with `partnerml.features`. Moments are naive UTC; a missing column is a missing key.
"""

from __future__ import annotations

from datetime import timedelta

DAY = timedelta(days=1)
NO_LAG = timedelta(0)
OVER = ("won", "lost", "cancelled")


def known(pair, until, lags):
    """Whether the pair was known before a moment, and not as refused."""
    lag = lags.get("assignments", NO_LAG)
    if not pair["assigned_at"] + lag < until:
        return False
    if pair.get("response") not in ("declined", "expired", "withdrawn"):
        return True
    answered = max(pair["assigned_at"], pair.get("responded_at") or pair["assigned_at"])
    return not answered + lag < until


def ends(pair, tables, lags):
    """All that ended the pair: when, from when that is known, and whether it was won."""
    lag = lags.get("assignments", NO_LAG)
    if pair.get("outcome") in OVER and pair.get("closed_at") is not None:
        closed = max(pair["closed_at"], pair["assigned_at"])
        recorded = pair.get("closed_recorded_at")
        seen = max(pair["closed_at"], recorded if recorded is not None else pair["closed_at"] + lag)
        yield closed, max(pair["assigned_at"], seen), pair["outcome"] == "won"
    lag = lags.get("deals", NO_LAG)
    for deal in tables.get("deals", []):
        owners = [row["partner_id"] for row in tables.get("deal_partners", []) if row["deal_id"] == deal["deal_id"]]
        owners = owners or [deal.get("partner_id")]
        came_of_it = deal.get("lead_id") == pair["lead_id"] and pair["partner_id"] in owners
        if not came_of_it or deal["outcome"] not in OVER or deal.get("closed_at") is None:
            continue
        if deal["closed_at"] < pair["assigned_at"]:
            continue
        recorded, closed_recorded = deal.get("recorded_at"), deal.get("closed_recorded_at")
        registered = max(deal["registered_at"], recorded if recorded is not None else deal["registered_at"] + lag)
        closed = max(deal["closed_at"], closed_recorded if closed_recorded is not None else deal["closed_at"] + lag)
        yield deal["closed_at"], max(registered, closed), deal["outcome"] == "won"


def label(pair, horizon_days, until, tables, lags):
    """(y, days to the win or followed, whether the win was seen, days to the loss or None)."""
    tells = any("lead_id" in deal for deal in tables.get("deals", []))
    lag = max(lags.get("assignments", NO_LAG), lags.get("deals", NO_LAG) if tells else NO_LAG)
    seen = [(at, won) for at, from_, won in ends(pair, tables, lags) if from_ < until]
    wins, losses = ([at for at, won in seen if won is kind] for kind in (True, False))
    horizon = pair["assigned_at"] + horizon_days * DAY
    undated = pair.get("outcome") == "won" and not list(ends(pair, tables, lags))
    mature = horizon + lag <= until and not undated
    y = float(bool(wins) and min(wins) < horizon) if mature else None
    follow = max(pair["assigned_at"], until - lag)
    stop = min(wins) if wins else follow
    lost = (min(losses) - pair["assigned_at"]) / DAY if losses and not wins else None
    return y, (stop - pair["assigned_at"]) / DAY, bool(wins), lost


def live(horizon_days, as_of, tables, lags):
    """The pairs that are being worked on: (lead_id, partner_id) and when it was assigned last."""
    made = tables["assignments"]
    ended = {i: [won for _, from_, won in ends(pair, tables, lags) if from_ < as_of] for i, pair in enumerate(made)}
    taken = {pair["lead_id"] for i, pair in enumerate(made) if any(ended[i])}
    found = {}
    for i, pair in enumerate(made):
        undated = pair.get("outcome") in OVER and not list(ends(pair, tables, lags))
        open_ = known(pair, as_of, lags) and not ended[i] and pair["lead_id"] not in taken and not undated
        if open_ and pair["assigned_at"] + horizon_days * DAY > as_of:
            key = pair["lead_id"], pair["partner_id"]
            found[key] = max(pair["assigned_at"], found.get(key, pair["assigned_at"]))
    return found
