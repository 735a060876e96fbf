"""Features, population and label row by row, in plain Python over lists of dicts: slow and obvious.

It shares no code with `partnerml.features`. Moments are naive UTC; tables are lists of dicts with the canonical
columns; a missing column is a missing key.
"""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from decimal import Decimal

DAY = timedelta(days=1)


def stream(tables, lags):
    """Every row of what partners did: (partner_id, source, kind, moment, seen_at, qualifies, value)."""
    rows = []
    for event in tables.get("events", []):
        seen = _known(event["occurred_at"], event.get("recorded_at"), lags.get("events"))
        partner = (event.get("actor") or "partner") == "partner"
        value = event.get("value")
        rows.append((event["partner_id"], "events", event["event_type"], event["occurred_at"], seen, partner, value))
    for deal in tables.get("deals", []):
        registered = _known(deal["registered_at"], deal.get("recorded_at"), lags.get("deals"))
        for partner_id, share in _shares(deal, tables):
            rows.append((partner_id, "deals", "registered", deal["registered_at"], registered, True, None))
            if deal["outcome"] in ("won", "lost") and deal.get("closed_at") is not None:
                closed = _known(deal["closed_at"], deal.get("closed_recorded_at"), lags.get("deals"))
                amount = None if deal.get("amount") is None else deal["amount"] * share
                won = deal["outcome"] == "won"
                seen = max(registered, closed)
                rows.append((partner_id, "deals", deal["outcome"], deal["closed_at"], seen, won, amount))
    for row in tables.get("certifications", []):
        seen = _known(row["earned_at"], row.get("recorded_at"), lags.get("certifications"))
        rows.append((row["partner_id"], "certifications", "earned", row["earned_at"], seen, False, None))
    return rows


def _known(moment, recorded, lag):
    known = recorded if recorded is not None else moment + (lag or timedelta(0))
    return max(moment, known)


def _shares(deal, tables):
    pairs = [row for row in tables.get("deal_partners", []) if row["deal_id"] == deal["deal_id"]]
    if not pairs:
        return [] if deal.get("partner_id") is None else [(deal["partner_id"], 1.0)]
    if any(row.get("share") is not None for row in pairs):
        return [(row["partner_id"], row.get("share") or 0.0) for row in pairs]
    primaries = [row for row in pairs if row.get("is_primary")]
    if primaries:
        return [(row["partner_id"], 1.0 / len(primaries) if row.get("is_primary") else 0.0) for row in pairs]
    return [(row["partner_id"], 1.0 / len(pairs)) for row in pairs]


def _qualifies(row, include, exclude):
    _, source, kind, _, _, qualifies, _ = row
    names = {source, f"{source}.{kind}"} | ({kind} if source == "events" else set())
    return qualifies and (not include or bool(names & set(include))) and not names & set(exclude)


def _series(rows, source, kind, event_types, include, exclude):
    if source == "activity":
        return [row for row in rows if _qualifies(row, include, exclude)]
    rows = [row for row in rows if row[1] == source]
    if kind == "all":
        return rows
    if source == "events" and kind == "other":
        return [row for row in rows if row[2] not in event_types]
    return [row for row in rows if row[2] == kind]


def feature(name, partner_id, as_of, tables, *, lags=None, event_types=(), include=(), exclude=(), static=()):
    """One feature of one partner at one moment: a float, a text, or None."""
    lags = lags or {}
    head, measure, window = name.rsplit("__", 2)
    source, kind = head.split("__", 1)
    if source == "partners":
        return _of_partner(kind, measure, partner_id, as_of, tables, lags, static)
    rows = [row for row in stream(tables, lags) if row[0] == partner_id and row[3] < as_of and row[4] < as_of]
    everything = rows
    rows = _series(rows, source, kind, event_types, include, exclude)
    if measure in ("count_ratio", "value_ratio", "amount_ratio", "prior_ratio", "count_trend", "streak_weeks"):
        return _compared(measure, window, rows, as_of)
    if measure == "share":
        days = int(window[:-1])
        total = len(_within([row for row in everything if row[1] == source], days, as_of))
        return len(_within(rows, days, as_of)) / total if total else None
    seen = rows if window == "ever" else _within(rows, int(window[:-1]), as_of)
    moments = [row[3] for row in seen]
    if measure.startswith("gap") or measure == "recency_over_gap":
        return _gap(measure, sorted({moment.date() for moment in moments}), moments, as_of)
    if measure.startswith(("value_", "amount_")):
        return _of_values(measure, [(row[3], _decimal(row[6])) for row in seen if row[6] is not None])
    total = _total(seen)
    return {
        "count": float(len(seen)),
        "value": float(total),
        "amount": float(total),
        "active_days": float(len({moment.date() for moment in moments})),
        "distinct_types": float(len({row[2] if row[2] in event_types else None for row in seen})),
        "recency_days": _days(as_of - max(moments)) if moments else None,
        "age_days": _days(as_of - min(moments)) if moments else None,
    }[measure]


def _of_values(measure, dated):
    if not dated:
        return None
    values = [value for _, value in dated]
    if measure in ("value_mean", "amount_mean"):
        return float(sum(values, Decimal(0)) / len(values))
    if measure == "value_last":
        latest = max(moment for moment, _ in dated)
        return float(max(value for moment, value in dated if moment == latest))
    return float({"value_min": min, "value_max": max}[measure](values))


def _total(rows):
    return sum((_decimal(row[6]) for row in rows if row[6] is not None), Decimal(0))


def _within(rows, days, until):
    return [row for row in rows if until - days * DAY <= row[3] < until]


def _compared(measure, window, rows, as_of):
    if measure == "count_ratio":
        a, b = (int(part[:-1]) for part in window.split("_"))
        long = len(_within(rows, b, as_of))
        return (len(_within(rows, a, as_of)) / a) / (long / b) if long else None
    if measure in ("value_ratio", "amount_ratio"):
        a, b = (int(part[:-1]) for part in window.split("_"))
        long = float(_total(_within(rows, b, as_of)))
        return (float(_total(_within(rows, a, as_of))) / a) / (long / b) if long else None
    if measure == "streak_weeks":
        active = [bool(_within(rows, 7, as_of - 7 * week * DAY)) for week in range(int(window[:-1]))]
        return float(active.index(False) if False in active else len(active))
    if measure == "prior_ratio":
        days = int(window[:-1])
        before = len(_within(rows, days, as_of - days * DAY))
        return len(_within(rows, days, as_of)) / before if before else None
    weeks = reversed(range(int(window[:-1])))
    return _slope([len(_within(rows, 7, as_of - 7 * week * DAY)) for week in weeks])


def _gap(measure, days, moments, as_of):
    gaps = [(b - a).days for a, b in itertools.pairwise(days)]
    if not gaps:
        return None
    mean = sum(gaps) / len(gaps)
    if measure == "gap_mean":
        return mean
    if measure == "gap_max":
        return float(max(gaps))
    if measure == "gap_sd":
        return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert measure == "recency_over_gap"
    return _days(as_of - max(moments)) / mean


def _slope(counts):
    n = len(counts)
    t_mean, y_mean = (n - 1) / 2, sum(counts) / n
    top = sum((t - t_mean) * (y - y_mean) for t, y in enumerate(counts))
    return top / sum((t - t_mean) ** 2 for t in range(n))


def _of_partner(kind, measure, partner_id, as_of, tables, lags, static):
    (partner,) = (row for row in tables["partners"] if row["partner_id"] == partner_id)
    if measure == "tenure_days":
        joined = partner.get("joined_at")
        return None if joined is None else _days(as_of - joined)
    past = [
        row
        for row in tables.get("partner_history", [])
        if row["partner_id"] == partner_id
        and row["valid_from"] + lags.get("partner_history", timedelta(0)) < as_of
        and kind in row
    ]
    if past:
        return max(past, key=lambda row: row["valid_from"])[kind]
    return partner.get(kind) if kind in static else None


def _decimal(value):
    return Decimal(str(round(value, 6)))


def _days(span):
    return (span // timedelta(microseconds=1)) / 86_400_000_000


def in_population(partner_id, as_of, tables, *, active_within_days=90, lags=None, include=(), exclude=()):
    """Whether a partner has a row at a moment."""
    lags = lags or {}
    lag = lags.get("partners", timedelta(0))
    (partner,) = (row for row in tables["partners"] if row["partner_id"] == partner_id)
    joined, left = partner.get("joined_at"), partner.get("left_at")
    if joined is not None and not joined + lag < as_of:
        return False
    if left is not None and left + lag < as_of:
        return False
    rows = [row for row in stream(tables, lags) if row[0] == partner_id and row[3] < as_of and row[4] < as_of]
    active = [row[3] for row in rows if _qualifies(row, include, exclude)]
    if active_within_days is None:
        return bool(active)
    return any(moment >= as_of - active_within_days * DAY for moment in active)


def label(partner_id, as_of, tables, *, until, horizon_days=90, inactivity_days=90, lags=None, include=(), exclude=()):
    """(y or None, duration_days, observed) of a partner at a moment."""
    lags = lags or {}
    (partner,) = (row for row in tables["partners"] if row["partner_id"] == partner_id)
    makers = [table for table in ("events", "deals") if table in tables]
    if any("left_at" in row for row in tables["partners"]):
        makers.append("partners")
    lag = max((lags.get(table, timedelta(0)) for table in makers), default=timedelta(0))
    rows = [row for row in stream(tables, lags) if row[0] == partner_id and row[4] < until]
    after = sorted(row[3] for row in rows if row[3] >= as_of and _qualifies(row, include, exclude))
    silence = inactivity_days * DAY
    start = as_of
    for moment in after:
        if moment - start >= silence:
            break
        start = moment
    happens = start + silence
    left = partner.get("left_at")
    if left is not None and (left < as_of or not left + lags.get("partners", timedelta(0)) < until):
        left = None
    horizon = as_of + horizon_days * DAY
    churned = happens <= horizon or (left is not None and left < horizon)
    y = float(churned) if horizon + lag <= until else None
    if left is not None:
        happens = min(happens, left)
    observed = happens + lag <= until
    stop = happens if observed else max(as_of, until - lag)
    return y, _days(stop - as_of), observed
