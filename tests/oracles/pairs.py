"""Features of pairs of lead and partner one by one, in plain Python over lists of dicts: slow and obvious.

It shares no code with `partnerml.pairs` or `partnerml.features`. Moments are naive UTC; a missing column is a missing
key.
"""

from __future__ import annotations

import math
from datetime import timedelta

EARTH_KM = 6371.0088
WEIGHT = 10
EDGES = (1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8)
NO_LAG = timedelta(0)
STATIC = ("country", "region", "postal_code", "latitude", "longitude", "verticals", "languages")
OVER = ("won", "lost", "cancelled")


def feature(name, lead_id, partner_id, assigned_at, tables, lags=None):
    """One feature of one pair: a float, or None."""
    lags = lags or {}
    _, kind, measure, _ = name.split("__")
    lead = next(row for row in tables["leads"] if row["lead_id"] == lead_id)
    midnight = assigned_at.replace(hour=0, minute=0, second=0, microsecond=0)
    state = known_state(partner_id, midnight, tables, lags)
    if measure in ("win_rate", "cycle_days", "count", "won"):
        return _record(kind, measure, lead, partner_id, midnight, tables, lags)
    if kind == "load":
        held = sum(_holds(row, partner_id, assigned_at, tables, lags) for row in tables.get("assignments", []))
        limit = state.get("max_open_leads")
        return float(held) if measure == "open_leads" else (held / limit if limit else None)
    if kind == "certification":
        wanted = {text.strip() for text in lead.get("required_certifications") or ()}
        return len(wanted & _certified(partner_id, midnight, tables, lags)) / len(wanted) if wanted else None
    if measure == "log_ratio":
        won = _amounts(partner_id, midnight, tables, lags)
        return math.log(lead["amount"] / (sum(won) / len(won))) if lead.get("amount") and sum(won) else None
    if measure == "tenure_days":
        partner = next(row for row in tables["partners"] if row["partner_id"] == partner_id)
        joined = partner.get("joined_at")
        return None if joined is None else (midnight - joined) / timedelta(days=1)
    own = (lead.get("source_partner_id") or "").strip() == partner_id
    if kind == "source":
        return float(own)
    if measure == "given_km":
        return None if own else _distance(lead, state)
    if kind == "territory":
        return _territory(lead, partner_id, midnight, tables, lags)
    return {
        ("place", "distance_km"): _distance,
        ("place", "level"): _seat,
        ("vertical", "similarity"): _similarity,
        ("language", "coverage"): _languages,
    }[kind, measure](lead, state)


def known_state(partner_id, moment, tables, lags):
    """The columns of a partner as they were known before a moment."""
    history = tables.get("partner_history", [])
    historic = {column for row in history for column in row}
    past = [row for row in history if row["partner_id"] == partner_id]
    past = [row for row in past if row["valid_from"] + lags.get("partner_history", NO_LAG) < moment]
    partner = next(row for row in tables["partners"] if row["partner_id"] == partner_id)
    if not past:
        return {name: partner.get(name) for name in STATIC}
    last = max(past, key=lambda row: row["valid_from"])
    return {name: last.get(name) if name in historic else partner.get(name) for name in (*STATIC, "max_open_leads")}


def _seen(moment, recorded, lag):
    return max(moment, recorded if recorded is not None else moment + lag)


def _owners(deal, tables):
    pairs = [row["partner_id"] for row in tables.get("deal_partners", []) if row["deal_id"] == deal["deal_id"]]
    return pairs or ([deal["partner_id"]] if deal.get("partner_id") else [])


def _closed_deals(tables, lags):
    lag = lags.get("deals", NO_LAG)
    for deal in tables.get("deals", []):
        if deal["outcome"] in OVER and deal.get("closed_at") is not None:
            registered = _seen(deal["registered_at"], deal.get("recorded_at"), lag)
            seen = max(registered, _seen(deal["closed_at"], deal.get("closed_recorded_at"), lag))
            for partner_id in _owners(deal, tables):
                yield {
                    **{name: deal.get(name) for name in ("lead_id", "outcome", "vertical", "country", "amount")},
                    "partner_id": partner_id,
                    "seen": seen,
                    "days": deal["closed_at"] - deal["registered_at"],
                    "order": (seen, 0, deal["outcome"], deal["deal_id"]),
                }


def _closed_assignments(tables, lags):
    leads = {row["lead_id"]: row for row in tables["leads"]}
    for row in tables.get("assignments", []):
        if row.get("outcome") in OVER and row.get("closed_at") is not None:
            lag = lags.get("assignments", NO_LAG)
            seen = max(row["assigned_at"], _seen(row["closed_at"], row.get("closed_recorded_at"), lag))
            lead = leads[row["lead_id"]]
            amount = lead.get("amount")
            yield {
                "partner_id": row["partner_id"],
                "lead_id": row["lead_id"],
                "outcome": row["outcome"],
                "seen": seen,
                "days": row["closed_at"] - row["assigned_at"],
                "amount": row.get("amount") if amount is None else amount,
                "vertical": lead.get("vertical"),
                "country": lead.get("country"),
                "order": (seen, 1, row["outcome"], row["assigned_at"]),
            }


def _ends(tables, lags):
    """What was won and lost; a lead counts once for a partner, as it was known first."""
    first, rest = {}, []
    for end in [*_closed_deals(tables, lags), *_closed_assignments(tables, lags)]:
        if end["lead_id"] is None:
            rest.append(end)
            continue
        key = end["partner_id"], end["lead_id"]
        if key not in first or end["order"] < first[key]["order"]:
            first[key] = end
    return [end for end in [*first.values(), *rest] if end["outcome"] != "cancelled"]


def _amounts(partner_id, moment, tables, lags):
    ends = [end for end in _ends(tables, lags) if end["partner_id"] == partner_id and end["seen"] < moment]
    return [end["amount"] for end in ends if end["outcome"] == "won" and end["amount"] is not None]


def _record(kind, measure, lead, partner_id, moment, tables, lags):
    ends = [end for end in _ends(tables, lags) if end["seen"] < moment]
    own = [end for end in ends if end["partner_id"] == partner_id]
    chain = [ends, own]
    if kind != "all":
        column = "amount" if kind == "size" else kind
        value = _country(lead) if kind == "country" else lead.get(column)
        if value is None:
            return None
        cells = _levels(kind, value)
        chain += [[end for end in own if cell in _levels(kind, end[column])] for cell in cells]
    if measure == "count":
        return float(len(chain[-1]))
    if measure == "won":
        return float(sum(end["outcome"] == "won" for end in chain[-1]))
    return _drawn(chain, measure)


def _drawn(chain, measure):
    """Each level toward the one before it; the first is taken as it is."""
    value = None
    for i, ends in enumerate(chain):
        won = [end for end in ends if end["outcome"] == "won"]
        if measure == "win_rate":
            total, n = len(won), len(ends)
        else:
            total, n = sum((end["days"] for end in won), timedelta(0)) / timedelta(days=1), len(won)
        if i == 0:
            if n == 0:
                return None
            value = total / n
        else:
            value = (total + WEIGHT * value) / (n + WEIGHT)
    return value


def _levels(kind, value):
    """The cells that a value belongs to, from the general to the particular."""
    if value is None:
        return []
    if kind == "size":
        return [sum(value >= edge for edge in EDGES)]
    if kind == "country":
        return [value]
    text = value.strip().lower()
    return [text.split(".")[0], text] if "." in text else [text]


def _holds(row, partner_id, moment, tables, lags):
    """Whether an assignment is among the leads that a partner holds open at a moment."""
    if row["partner_id"] != partner_id or not row["assigned_at"] < moment:
        return False
    ends = []
    if row.get("response") in ("declined", "expired", "withdrawn"):
        ends.append(row["assigned_at"] if row.get("responded_at") is None else row["responded_at"])
    if row.get("outcome") in OVER:
        closed = row.get("closed_at")
        lag = lags.get("assignments", NO_LAG)
        ends.append(row["assigned_at"] if closed is None else _seen(closed, row.get("closed_recorded_at"), lag))
    deals = [end for end in _closed_deals(tables, lags) if end["partner_id"] == partner_id]
    ends += [end["seen"] for end in deals if end["lead_id"] == row["lead_id"]]
    return not any(end < moment for end in ends)


def _certified(partner_id, moment, tables, lags):
    lag = lags.get("certifications", NO_LAG)
    held = set()
    for row in tables.get("certifications", []):
        earned = _seen(row["earned_at"], row.get("recorded_at"), lag) < moment
        expired = row.get("expires_at") is not None and row["expires_at"] <= moment
        revoked = row.get("revoked_at") is not None and row["revoked_at"] + lag < moment
        if row["partner_id"] == partner_id and earned and not expired and not revoked:
            held.add(row["certification"])
    return held


def _haversine(a, b):
    if any(x is None for x in (*a, *b)):
        return None
    (phi, theta), (psi, eta) = ([math.radians(x) for x in point] for point in (a, b))
    h = math.sin((psi - phi) / 2) ** 2 + math.cos(phi) * math.cos(psi) * math.sin((eta - theta) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h)))


def _point(row):
    return row.get("latitude"), row.get("longitude")


def _distance(lead, state):
    return _haversine(_point(lead), _point(state))


def _postal(text):
    return None if text is None else text.upper().replace(" ", "").replace("-", "") or None


def _country(row):
    return row.get("country") or (row["region"].split("-")[0] if row.get("region") else None)


def _seat(lead, state):
    countries = _country(lead), _country(state)
    if None in countries:
        return None
    if countries[0] != countries[1]:
        return 0.0
    codes = [_postal(row.get("postal_code")) for row in (lead, state)]
    if all(code is not None and len(code) >= 2 for code in codes) and codes[0][:2] == codes[1][:2]:
        return 3.0
    return 2.0 if lead.get("region") is not None and lead.get("region") == state.get("region") else 1.0


def _parts(code):
    return code.strip().lower().split(".")


def _shared(one, other):
    n = 0
    for a, b in zip(_parts(one), _parts(other), strict=False):
        if a != b:
            break
        n += 1
    return n


def _similarity(lead, state):
    if lead.get("vertical") is None or not state.get("verticals"):
        return None
    return max(_shared(lead["vertical"], own) for own in state["verticals"]) / len(_parts(lead["vertical"]))


def _languages(lead, state):
    wanted = {tag.lower().replace("_", "-").split("-")[0] for tag in lead.get("languages") or ()}
    spoken = {tag.lower().replace("_", "-").split("-")[0] for tag in state.get("languages") or ()}
    return len(wanted & spoken) / len(wanted) if wanted and spoken else None


def _territory(lead, partner_id, moment, tables, lags):
    lag = lags.get("territories", NO_LAG)
    levels = []
    for row in tables.get("territories", []):
        begun = row.get("valid_from") is None or row["valid_from"] + lag <= moment
        ended = row.get("valid_to") is not None and row["valid_to"] <= moment
        if row["partner_id"] == partner_id and begun and not ended:
            levels.append(_level(row) if _inside(lead, row) else 0.0)
    return max(levels, default=None)


def _level(row):
    if _postal(row.get("postal_prefix")) is not None:
        return 3.0
    return 2.0 if row.get("region") is not None or row.get("radius_km") is not None else 1.0


def _inside(lead, row):
    if row.get("country") is not None and row["country"] != _country(lead):
        return False
    if row.get("region") is not None and row["region"] != lead.get("region"):
        return False
    if row.get("postal_prefix") and not (_postal(lead.get("postal_code")) or "").startswith(
        _postal(row["postal_prefix"])
    ):
        return False
    if row.get("radius_km") is not None:
        distance = _haversine(_point(lead), _point(row))
        if distance is None or distance > row["radius_km"]:
            return False
    if row.get("verticals"):
        if lead.get("vertical") is None:
            return False
        return any(_shared(lead["vertical"], own) == len(_parts(own)) for own in row["verticals"])
    return True
