"""Success after joining row by row, and times to an event by hand: slow and obvious.

It shares no code with `partnerml`. Moments are naive UTC; tables are lists of dicts; a missing column is a missing key.
"""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from fractions import Fraction

DAY = timedelta(days=1)


def joining_date(partner_id, tables):
    """When a partner joined: as partners say, else as recruits do."""
    for table in ("partners", "recruits"):
        for row in tables.get(table, []):
            if row["partner_id"] == partner_id and row.get("joined_at") is not None:
                return row["joined_at"]
    return None


def _shares(deal, tables):
    pairs = [row for row in tables.get("deal_partners", []) if row["deal_id"] == deal["deal_id"]]
    if not pairs:
        return {} if deal.get("partner_id") is None else {deal["partner_id"]: 1.0}
    if any(row.get("share") is not None for row in pairs):
        return {row["partner_id"]: row.get("share") or 0.0 for row in pairs}
    primaries = [row for row in pairs if row.get("is_primary")]
    chosen = primaries or pairs
    return {row["partner_id"]: 1.0 / len(chosen) if row in chosen else 0.0 for row in pairs}


def success_at(partner_id, tables, *, until, amount=None, lags=None):
    """The moment of the first success that was known before a moment."""
    lag = (lags or {}).get("deals", timedelta(0))
    won = []
    for deal in tables.get("deals", []):
        share = _shares(deal, tables).get(partner_id)
        if share is None or deal["outcome"] != "won" or deal.get("closed_at") is None:
            continue
        registered = max(deal["registered_at"], deal.get("recorded_at") or deal["registered_at"] + lag)
        closed = max(deal["closed_at"], deal.get("closed_recorded_at") or deal["closed_at"] + lag)
        if max(registered, closed) < until:
            won.append((deal["closed_at"], (deal.get("amount") or 0.0) * share))
    if amount is None:
        return min((moment for moment, _ in won), default=None)
    for moment in sorted({moment for moment, _ in won}):
        if math.fsum(value for closed, value in won if closed <= moment) >= amount - 1e-9:
            return moment
    return None


def label(partner_id, tables, *, until, success_days, amount=None, lags=None):
    """(y, duration in days, observed) of a partner that has joined."""
    lags = lags or {}
    made_of = [table for table in ("partners", "recruits", "deals", "deal_partners") if table in tables]
    seen_until = until - max((lags.get(table, timedelta(0)) for table in made_of), default=timedelta(0))
    joined = joining_date(partner_id, tables)
    moment = success_at(partner_id, tables, until=until, amount=amount, lags=lags)
    if moment is not None:
        moment = max(moment, joined)
    observed = moment is not None and moment <= seen_until
    stops = moment if observed else max(joined, seen_until)
    horizon = joined + success_days * DAY
    y = None if horizon >= seen_until else float(observed and moment <= horizon)
    return y, (stops - joined) / DAY, observed


def kaplan_meier(times, day):
    """The share without an event by a day, one moment at a time, exactly; times are (duration, observed)."""
    survival = Fraction(1)
    for moment in sorted({t for t, seen in times if seen and t <= day}):
        events = sum(1 for t, seen in times if seen and t == moment)
        at_risk = sum(1 for t, _ in times if t >= moment)
        survival *= 1 - Fraction(events, at_risk)
    return survival


def chance_of_follow_up(times, day):
    """P(C >= day): Kaplan and Meier with the roles exchanged; at a tie the event comes first."""
    chance = Fraction(1)
    for moment in sorted({t for t, seen in times if not seen and t < day}):
        ended = sum(1 for t, seen in times if not seen and t == moment)
        at_risk = sum(1 for t, seen in times if t > moment or (t == moment and not seen))
        chance *= 1 - Fraction(ended, at_risk)
    return chance


def shapley(log_odds, row, background):
    """Exact Shapley values of one row, averaged over the background: every order of the columns, one at a time."""
    p = len(row)
    effects = [0.0] * p
    orders = list(itertools.permutations(range(p)))
    for start in background:
        for order in orders:
            mixed = list(start)
            said = log_odds(mixed)
            for column in order:
                mixed[column] = row[column]
                then = log_odds(mixed)
                effects[column] += (then - said) / (len(orders) * len(background))
                said = then
    return effects
