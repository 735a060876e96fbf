"""Deals and certifications as they stood, row by row, in plain Python over lists of dicts: slow and obvious.

It shares no code with `partnerml.features`. Moments are naive UTC; tables are lists of dicts with the canonical
columns; a missing column is a missing key.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from fractions import Fraction

DAY = timedelta(days=1)
PRIOR = 10


def known(moment, recorded, lag):
    return max(moment, recorded if recorded is not None else moment + lag)


def sides(deal, tables):
    """(partner_id, share of the revenue, role, number of partners) of everybody on a deal."""
    rows = [row for row in tables.get("deal_partners", []) if row["deal_id"] == deal["deal_id"]]
    if not rows:
        alone = deal.get("partner_id")
        return [] if alone is None else [(alone, Fraction(1), deal.get("role"), 1)]
    if any(row.get("share") is not None for row in rows):
        shares = [Fraction(row.get("share") or 0) for row in rows]
    elif any(row.get("is_primary") for row in rows):
        primaries = sum(1 for row in rows if row.get("is_primary"))
        shares = [Fraction(1, primaries) if row.get("is_primary") else Fraction(0) for row in rows]
    else:
        shares = [Fraction(1, len(rows))] * len(rows)
    roles = [row.get("role") if row.get("role") is not None else deal.get("role") for row in rows]
    return [(row["partner_id"], share, role, len(rows)) for row, share, role in zip(rows, shares, roles, strict=True)]


def deals_at(as_of, tables, lags):
    """Every deal and partner on it as it read at a moment: what is not to be known then is not in it."""
    lag = lags.get("deals", timedelta(0))
    for deal in tables.get("deals", []):
        seen = known(deal["registered_at"], deal.get("recorded_at"), lag)
        if not seen < as_of:
            continue
        state = {"outcome": "open"}
        closed_at = deal.get("closed_at")
        if deal["outcome"] != "open" and closed_at is not None:
            closing = max(seen, known(closed_at, deal.get("closed_recorded_at"), lag))
            if closing < as_of:
                state = {"outcome": deal["outcome"], "closed_at": closed_at, "amount": deal.get("amount")}
        if state["outcome"] == "open":
            state |= standing(deal["deal_id"], as_of, tables, lags)
        for name in ("registered_at", "account_id", "vertical", "country"):
            state[name] = deal.get(name)
        for partner_id, share, role, partners in sides(deal, tables):
            yield {**state, "partner_id": partner_id, "share": share, "role": role, "partners": partners}


def standing(deal_id, as_of, tables, lags):
    """What the history of a deal had on record at a moment."""
    lag = lags.get("deal_history", timedelta(0))
    rows = [row for row in tables.get("deal_history", []) if row["deal_id"] == deal_id]
    rows = [row for row in rows if row["valid_from"] + lag < as_of]
    if not rows:
        return {}
    last = max(rows, key=lambda row: row["valid_from"])
    return {"amount": last.get("amount"), "expected_close_at": last.get("expected_close_at")}


def deal_feature(name, partner_id, as_of, tables, *, lags, groups=None):
    """One feature of one partner at one moment; groups: the peer group of every partner then."""
    _, kind, measure, window = name.split("__")
    everybody = list(deals_at(as_of, tables, lags))
    if kind == "open":
        return open_feature(measure, [d for d in everybody if d["partner_id"] == partner_id], as_of)
    closed = [d for d in everybody if d["outcome"] in ("won", "lost")]
    if window != "ever":
        closed = [d for d in closed if d["closed_at"] >= as_of - int(window[:-1]) * DAY]
    if measure == "win_rate":
        return win_rate(closed, partner_id, groups)
    own = [d for d in closed if d["partner_id"] == partner_id and d["outcome"] == kind]
    return at_close(measure, own)


def open_feature(measure, own, as_of):
    own = [d for d in own if d["outcome"] == "open"]
    if measure == "count":
        return float(len(own))
    if measure == "amount":
        return float(sum(cents(d["amount"], d["share"]) for d in own if d.get("amount") is not None))
    if measure == "overdue":
        return float(sum(1 for d in own if d.get("expected_close_at") is not None and d["expected_close_at"] < as_of))
    assert measure == "age_days"
    return mean([(as_of - d["registered_at"]) / DAY for d in own])


def at_close(measure, own):
    joint = [d for d in own if d["partners"] > 1]
    if measure == "cycle_days":
        return mean([(d["closed_at"] - d["registered_at"]) / DAY for d in own])
    if measure == "joint_rate":
        return len(joint) / len(own) if own else None
    if measure == "joint_share":
        return mean([float(d["share"]) for d in joint])
    if measure in ("verticals", "countries", "accounts"):
        column = {"verticals": "vertical", "countries": "country", "accounts": "account_id"}[measure]
        return float(len({d[column] for d in own if d[column] is not None}))
    paid = [d for d in own if d["amount"] is not None]
    if measure == "sourced_share":
        told = sum(cents(d["amount"], d["share"]) for d in paid if d["role"] is not None)
        brought = sum(cents(d["amount"], d["share"]) for d in paid if d["role"] == "sourced")
        return float(brought / told) if told else None
    assert measure == "concentration"
    spent = defaultdict(Fraction)
    for d in paid:
        if d["account_id"] is not None:
            spent[d["account_id"]] += cents(d["amount"], d["share"])
    total = sum(spent.values())
    return float(sum((part / total) ** 2 for part in spent.values())) if total else None


def win_rate(closed, partner_id, groups):
    """Won of closed, with ten more deals at the rate of the peers, whose rate has ten more at that of all."""
    if not closed:
        return None
    mates = [d for d in closed if groups[d["partner_id"]] == groups[partner_id]]
    own = [d for d in closed if d["partner_id"] == partner_id]
    rate = Fraction(wins(closed), len(closed))
    for rows in (mates, own):
        rate = (wins(rows) + PRIOR * rate) / (len(rows) + PRIOR)
    return float(rate)


def wins(rows):
    return sum(1 for d in rows if d["outcome"] == "won")


def groups_at(by, as_of, tables, *, lags, static):
    """The peer group of every partner at a moment: its traits as they were known."""
    lag = lags.get("partner_history", timedelta(0))
    found = {}
    for partner in tables["partners"]:
        past = [row for row in tables.get("partner_history", []) if row["partner_id"] == partner["partner_id"]]
        past = [row for row in past if row["valid_from"] + lag < as_of]
        last = max(past, key=lambda row: row["valid_from"]) if past else None
        traits = []
        for column in by:
            historic = any(column in row for row in tables.get("partner_history", []))
            fallback = partner.get(column) if column in static else None
            traits.append(last.get(column) if historic and last is not None else fallback)
        found[partner["partner_id"]] = tuple(traits)
    return found


def cents(amount, share):
    """An amount's part, rounded to a millionth as sums of money are."""
    return Fraction(round(float(amount) * float(share) * 1_000_000), 1_000_000)


def mean(values):
    return sum(values) / len(values) if values else None


def certification_feature(name, partner_id, as_of, tables, *, lags):
    """How many names of certifications a partner has in a state at a moment."""
    _, kind, _, window = name.split("__")
    lag = lags.get("certifications", timedelta(0))
    by_name = defaultdict(list)
    for row in tables.get("certifications", []):
        if row["partner_id"] == partner_id and known(row["earned_at"], row.get("recorded_at"), lag) < as_of:
            by_name[row["certification"]].append(validity(row, as_of, lag))
    states = [state(rows, as_of) for rows in by_name.values()]
    if kind == "valid":
        return float(sum(1 for is_valid, _ in states if is_valid))
    days = int(window[:-1])
    if kind == "expiring":
        until = as_of + days * DAY
        return float(sum(1 for is_valid, end in states if is_valid and end is not None and as_of <= end < until))
    assert kind == "lapsed"
    return float(sum(1 for is_valid, end in states if not is_valid and as_of - days * DAY <= end <= as_of))


def validity(row, as_of, lag):
    """(was it taken away, when does or did it end or None): as far as a moment knows."""
    revoked = row.get("revoked_at")
    if revoked is not None and not revoked + lag < as_of:
        revoked = None
    ends = [end for end in (row.get("expires_at"), revoked) if end is not None]
    return revoked is not None, min(ends) if ends else None


def state(rows, as_of):
    """(is the certification valid, the latest end of what is valid, else of what was; None is never)."""
    valid = [end for revoked, end in rows if not revoked and (end is None or end > as_of)]
    if valid:
        return True, None if None in valid else max(valid)
    return False, max(end for _, end in rows)
