"""Who may get a lead, partner by partner in plain Python over dicts: slow and obvious.

It shares no code with `partnerml`. Moments are zoned; a missing column is a missing key.
"""

from __future__ import annotations

import math

EARTH_KM = 6371.0088
ORDER = (
    "membership",
    "pause",
    "consent",
    "exclusions",
    "flags",
    "territory",
    "vertical",
    "certifications",
    "language",
    "deal_size",
    "tier",
    "had_before",
    "capacity",
)
LAST = "exclusive_territory"


def route(world, lead, *, order=ORDER, exclusive=True):
    """The ids of the eligible, and the funnel as (rule, removed, left)."""
    left = sorted(partner["partner_id"] for partner in world["partners"])
    by_id = {partner["partner_id"]: partner for partner in world["partners"]}
    funnel = []
    for name in order:
        out = [i for i in left if not RULES[name](world, lead, by_id[i])]
        blind = [i for i in out if name == "territory" and only_coordinates_lack(world, lead, by_id[i])]
        left = [i for i in left if i not in out]
        funnel.append((name, len(out) - len(blind), len(left) + len(blind)))
        if blind:
            funnel.append(("territory_no_coordinates", len(blind), len(left)))
    if exclusive:
        holders = [i for i in left if holds_exclusively(world, lead, by_id[i])]
        kept = holders or left
        funnel.append((LAST, len(left) - len(kept), len(kept)))
        left = kept
    return left, funnel


def failing(world, lead, partner_id, *, order=ORDER):
    """The rules that one partner does not pass, without those that ask what others do."""
    partner = next(row for row in world["partners"] if row["partner_id"] == partner_id)
    return [name for name in order if not RULES[name](world, lead, partner)]


def _lenient(world, name):
    return world.get("missing", {}).get(name) == "pass"


def membership(world, lead, partner):
    now = world["now"]
    joined = partner.get("joined_at") is None or partner["joined_at"] <= now
    return joined and (partner.get("left_at") is None or partner["left_at"] > now)


def pause(world, lead, partner):
    return partner.get("paused_until") is None or partner["paused_until"] <= world["now"]


def consent(world, lead, partner):
    return lead.get("consent") is not False


def exclusions(world, lead, partner):
    return partner["partner_id"] not in (lead.get("excluded_partners") or [])


def flags(world, lead, partner):
    return not set(partner.get("flags") or []) & set(world.get("flags", ["compliance"]))


def vertical(world, lead, partner):
    if not partner.get("verticals"):
        return True
    if lead.get("vertical") is None:
        return _lenient(world, "vertical")
    return any(_under(lead["vertical"], own) for own in partner["verticals"])


def _under(code, above):
    code, above = code.lower(), above.lower()
    return code == above or code.startswith(above + ".")


def certifications(world, lead, partner):
    return all(_holds_valid(world, partner, name) for name in lead.get("required_certifications") or [])


def _holds_valid(world, partner, name):
    now = world["now"]
    for row in world.get("certifications", []):
        if row["partner_id"] != partner["partner_id"] or row["certification"] != name:
            continue
        expired = row.get("expires_at") is not None and row["expires_at"] <= now
        revoked = row.get("revoked_at") is not None and row["revoked_at"] <= now
        if row["earned_at"] <= now and not expired and not revoked:
            return True
    return False


def language(world, lead, partner):
    if not partner.get("languages"):
        return True
    if not lead.get("languages"):
        return _lenient(world, "language")
    spoken = {tag.lower()[:2] for tag in partner["languages"]}
    return bool(spoken & {tag.lower()[:2] for tag in lead["languages"]})


def deal_size(world, lead, partner):
    low, high = partner.get("min_deal_amount"), partner.get("max_deal_amount")
    if low is None and high is None:
        return True
    if lead.get("amount") is None:
        return _lenient(world, "deal_size")
    return (low is None or low <= lead["amount"]) and (high is None or lead["amount"] <= high)


def tier(world, lead, partner):
    tiers = world.get("tiers", {})
    if partner.get("tier") is None or not tiers:
        return True
    own = tiers.get(partner["tier"], 0)
    if lead.get("amount") is None:
        return own == max(tiers.values()) or _lenient(world, "tier")
    reached = [least for least in tiers.values() if least <= lead["amount"]]
    return not reached or own >= max(reached)


def had_before(world, lead, partner):
    return partner["partner_id"] not in world.get("had", [])


def capacity(world, lead, partner):
    load = world.get("load", {}).get(partner["partner_id"], (0, 0, 0))
    limits = (partner.get(name) for name in ("capacity_per_day", "capacity_per_week", "max_open_leads"))
    return all(limit is None or given < limit for given, limit in zip(load, limits, strict=True))


# territories


def territory(world, lead, partner):
    if all(area["partner_id"] != partner["partner_id"] for area in world.get("territories", [])):
        return True
    own = _own_areas(world, partner)
    return any(_inside(world, lead, area, lenient=_lenient(world, "territory")) for area in own)


def only_coordinates_lack(world, lead, partner):
    """Of those that fail: whether they would not, if no circle were asked for that cannot be measured."""
    for area in _own_areas(world, partner):
        if area.get("radius_km") is not None and _distance(lead, area) is None:
            elsewhere = {name: value for name, value in area.items() if name != "radius_km"}
            if _inside(world, lead, elsewhere, lenient=False):
                return True
    return False


def holds_exclusively(world, lead, partner):
    return any(
        area.get("exclusive") and _inside(world, lead, area, lenient=False) for area in _own_areas(world, partner)
    )


def _own_areas(world, partner):
    return [
        area
        for area in world.get("territories", [])
        if area["partner_id"] == partner["partner_id"]
        and (area.get("valid_from") is None or area["valid_from"] <= world["now"])
        and (area.get("valid_to") is None or area["valid_to"] > world["now"])
    ]


def _inside(world, lead, area, *, lenient):
    country = lead.get("country") or (lead["region"].split("-")[0] if lead.get("region") else None)
    checks = [
        (area.get("country"), country, lambda own, said: own == said),
        (area.get("region"), lead.get("region"), lambda own, said: own == said),
        (area.get("postal_prefix"), lead.get("postal_code"), lambda own, said: _squeezed(said).startswith(own)),
        (
            area.get("verticals") or None,
            lead.get("vertical"),
            lambda own, said: any(_under(said, code) for code in own),
        ),
    ]
    for asked, said, passes in checks:
        if asked is None or (said is None and lenient):
            continue
        if said is None or not passes(asked, said):
            return False
    unknown = lead.get("latitude") is None or lead.get("longitude") is None
    if area.get("radius_km") is None or (unknown and lenient):
        return True
    distance = _distance(lead, area)
    return distance is not None and distance <= area["radius_km"]


def _squeezed(code):
    return code.upper().replace(" ", "").replace("-", "")


def _distance(a, b):
    if any(row.get(name) is None for row in (a, b) for name in ("latitude", "longitude")):
        return None
    phi, psi = math.radians(a["latitude"]), math.radians(b["latitude"])
    theta = math.radians(b["longitude"] - a["longitude"])
    h = math.sin((psi - phi) / 2) ** 2 + math.cos(phi) * math.cos(psi) * math.sin(theta / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h)))


RULES = {
    rule.__name__: rule
    for rule in (
        membership,
        pause,
        consent,
        exclusions,
        flags,
        territory,
        vertical,
        certifications,
        language,
        deal_size,
        tier,
        had_before,
        capacity,
    )
}
