"""Tables about partners: who they are, were, can do, and where they work."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from partnerml.synthetic import _arrow as arrow
from partnerml.synthetic._deals import WON, Deals
from partnerml.synthetic._leads import Certificates
from partnerml.synthetic._world import (
    CERTIFICATIONS,
    CITIES,
    DAY,
    HOUR,
    NEVER,
    NO_DAY,
    PARTNER_TYPES,
    TIER_REVENUE,
    TIERS,
    VERTICALS,
    Ints,
    World,
    change_days,
    delays,
    generator,
)

_FIRST_NAMES = ("Alder", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo", "Juniper")
_SECOND_NAMES = ("bridge", "field", "gate", "light", "mark", "point", "stone", "ware", "works", "yard")
_LEGAL_FORMS = ("Ltd", "Inc", "GmbH", "SA", "BV", "KK")
_FLAGS: tuple[tuple[str, ...], ...] = ((), ("esg",), ("compliance",), ("compliance", "esg"))
_CAPACITY = (2, 3, 5, 8, 12, 20)  # leads a week, by level
_REVIEW_DAYS = 91
_RECRUITED_SHARE = 0.7  # partners whose signing is on file
_PROSPECT_SHARE = 0.05  # recruits that have not joined, for each partner


@dataclasses.dataclass(frozen=True)
class Profiles:
    """What no other part of the simulation looks at."""

    name: Ints
    parent: Ints
    capacity: Ints
    resized_day: Ints
    resized: Ints
    smallest: Ints
    largest: Ints
    flags: Ints


def create_profiles(world: World, *, seed: int) -> Profiles:
    """Draw names, capacities, limits and the like."""
    rng = generator(seed, "profiles")
    n, calendar = world.n, world.calendar
    joined_day = world.first_day - 1
    parent = np.where(rng.random(n) < 0.04, (rng.random(n) * np.arange(n)).astype(np.int64), -1)
    parent[:1] = -1
    capacity = np.array(_CAPACITY)[np.clip(world.level + rng.integers(-1, 2, n), 0, len(_CAPACITY) - 1)]
    return Profiles(
        name=rng.integers(0, 10**6, n),
        parent=parent,
        capacity=capacity,
        resized_day=change_days(rng, joined_day, calendar.days, yearly=0.15),
        resized=np.maximum(1, capacity + rng.choice([-2, -1, 1, 2, 3], n)),
        smallest=np.where(rng.random(n) < 0.2, 1000 * rng.integers(1, 6, n), -1),
        largest=np.where(rng.random(n) < 0.2, 10_000 * rng.integers(3, 30, n), -1),
        flags=rng.choice(4, n, p=[0.8, 0.1, 0.07, 0.03]),
    )


def names(numbers: Ints) -> Any:
    """Return made-up company names; several companies may share one."""
    first = arrow.pick(_FIRST_NAMES, numbers % 10)
    second = arrow.pick(_SECOND_NAMES, numbers // 10 % 10)
    return arrow.join(
        arrow.join(first, second), arrow.pick(_LEGAL_FORMS, numbers // 100 % len(_LEGAL_FORMS)), separator=" "
    )


def tiers(world: World, deals: Deals) -> Ints:
    """Return the tier of each partner at each quarterly review, shape (partners, reviews).

    A tier follows from the revenue won on record in the year before: it tells nothing that the deals do not.
    """
    calendar = world.calendar
    reviews = max(1, calendar.days // _REVIEW_DAYS)
    revenue = np.zeros((world.n, reviews + 1), dtype=np.int64)
    rows = (deals.partner >= 0) & (deals.result == WON) & (deals.closed_recorded < calendar.end)
    quarter = np.maximum(calendar.day_of(deals.closed_recorded[rows]), 0) // _REVIEW_DAYS
    # in hundredths: sums of integers do not depend on their order
    cents = np.round(deals.amount[rows] * 100).astype(np.int64)
    np.add.at(revenue, (deals.partner[rows], quarter), cents)
    running = np.cumsum(revenue, axis=1)
    year = running.copy()
    year[:, 4:] -= running[:, :-4]
    return np.searchsorted(TIER_REVENUE * 100, year[:, :reviews], side="right")


@dataclasses.dataclass(frozen=True)
class Snapshots:
    """States of partners, one a row, in the order of (partner, valid_from)."""

    partner: Ints
    valid_from: Ints
    tier: Ints
    city: Ints
    verticals: Ints
    capacity: Ints
    left: Ints
    paused: Ints


def history(world: World, deals: Deals, profiles: Profiles, *, left: Ints) -> Snapshots:
    """Return the partners as they were: at joining, and from each change on."""
    calendar = world.calendar
    everyone = arrow.arange(world.n)
    grades = tiers(world, deals)
    changed = grades != np.hstack([np.zeros((world.n, 1), dtype=np.int64), grades[:, :-1]])
    who, review = np.nonzero(changed)
    review_day = (review + 1) * _REVIEW_DAYS
    rows = [(everyone, world.joined)]
    rows.append((who, (calendar.first + review_day) * DAY + 6 * HOUR))
    changes = (world.moved_day, world.widened_day, profiles.resized_day, world.paused_day)
    for hour, days in enumerate(changes, start=7):
        some = np.flatnonzero(days < NO_DAY)
        rows.append((some, (calendar.first + days[some]) * DAY + hour * HOUR))
    rows.append((np.flatnonzero(left < NEVER), left[left < NEVER]))
    partner, moment = (np.concatenate(column) for column in zip(*rows, strict=True))
    keep = (moment >= world.joined[partner]) & (moment <= left[partner]) & (moment < calendar.end)
    partner, moment = partner[keep], moment[keep]
    order = np.lexsort((moment, partner))
    return snapshots_at(world, profiles, grades, partner=partner[order], moment=moment[order], left=left)


def snapshots_at(
    world: World, profiles: Profiles, grades: Ints, *, partner: Ints, moment: Ints, left: Ints
) -> Snapshots:
    """Return how partners were at moments."""
    calendar = world.calendar
    day = calendar.day_of(moment)
    reviews = np.minimum(moment - 6 * HOUR - calendar.start, calendar.end) // DAY // _REVIEW_DAYS
    tier = np.where(reviews > 0, grades[partner, np.minimum(reviews, grades.shape[1]) - 1], 0)
    resized = day >= profiles.resized_day[partner]
    gone = left[partner] <= moment
    return Snapshots(
        partner=partner,
        valid_from=moment,
        tier=tier,
        city=world.city_at(partner, day),
        verticals=world.verticals_at(partner, day),
        capacity=np.where(resized, profiles.resized[partner], profiles.capacity[partner]),
        left=np.where(gone, left[partner], NEVER),
        paused=np.where(day >= world.paused_day[partner], (calendar.first + world.resumed_day[partner]) * DAY, NEVER),
    )


def current(world: World, profiles: Profiles, deals: Deals, *, left: Ints) -> Snapshots:
    """Return how all partners are in the extract."""
    everyone = arrow.arange(world.n)
    moment = np.minimum(left, world.calendar.end - 1)  # who has left stays as it was then
    return snapshots_at(world, profiles, tiers(world, deals), partner=everyone, moment=moment, left=left)


def place(city: Ints, latitude: Any, longitude: Any) -> dict[str, Any]:
    """Return the columns that say where something is."""
    return {
        "country": arrow.pick([c.country for c in CITIES], city),
        "region": arrow.pick([c.region for c in CITIES], city),
        "postal_code": arrow.pick([c.postal for c in CITIES], city),
        "latitude": arrow.numbers(latitude.round(4)),
        "longitude": arrow.numbers(longitude.round(4)),
    }


def traits(world: World, profiles: Profiles, state: Snapshots) -> dict[str, Any]:
    """Return the columns that `partners`, `partner_history` and `recruits` share."""
    who, city = state.partner, state.city
    shift = world.shift[who]
    latitude = np.array([c.latitude for c in CITIES])[city] + shift[:, 0]
    longitude = np.array([c.longitude for c in CITIES])[city] + shift[:, 1]
    return {
        "partner_id": partner_ids(who),
        "joined_at": arrow.moments(world.joined[who]),
        "name": names(profiles.name[who]),
        "partner_type": arrow.pick(PARTNER_TYPES, world.kind[who]),
        **place(city, latitude, longitude),
        "verticals": arrow.pick(arrow.subsets(VERTICALS), state.verticals),
        "languages": arrow.pick([list(c.languages) for c in CITIES], city),
    }


def partner_columns(world: World, profiles: Profiles, state: Snapshots) -> dict[str, Any]:
    """Return the columns of `partners`."""
    who, city = state.partner, state.city
    return {
        **traits(world, profiles, state),
        "left_at": arrow.moments(state.left),
        "tier": arrow.pick(TIERS, state.tier),
        "parent_id": partner_ids(profiles.parent[who]),
        "time_zone": arrow.pick([c.time_zone for c in CITIES], city),
        "capacity_per_day": arrow.integers((state.capacity + 2) // 3),
        "capacity_per_week": arrow.integers(state.capacity),
        "max_open_leads": arrow.integers(3 * state.capacity),
        "paused_until": arrow.moments(state.paused),
        "min_deal_amount": arrow.integers(profiles.smallest[who]),
        "max_deal_amount": arrow.integers(profiles.largest[who]),
        "flags": arrow.pick([list(flags) for flags in _FLAGS], profiles.flags[who]),
    }


def partner_ids(numbers: Ints) -> Any:
    """Return ids of partners; null where negative."""
    return arrow.ids("P", numbers, 7)


def partners_table(world: World, profiles: Profiles, state: Snapshots) -> Any:
    """Return `partners`, as they are at the end."""
    return arrow.table("partners", partner_columns(world, profiles, state))


def history_table(world: World, profiles: Profiles, state: Snapshots) -> Any:
    """Return `partner_history`."""
    columns = partner_columns(world, profiles, state) | {"valid_from": arrow.moments(state.valid_from)}
    return arrow.table("partner_history", columns)


def recruits_table(world: World, profiles: Profiles, *, seed: int) -> Any:
    """Return `recruits`: partners whose signing is on file, as they were then, and some that have not joined."""
    import pyarrow as pa

    rng = generator(seed, "recruits")
    signed = np.flatnonzero(rng.random(world.n) < _RECRUITED_SHARE)
    prospects = rng.integers(0, world.n, max(3, round(_PROSPECT_SHARE * world.n)))  # they look like partners
    parts = []
    for rows, known in ((signed, True), (prospects, False)):
        state = _at_joining(world, profiles, rows)
        columns = traits(world, profiles, state)
        if not known:
            columns["partner_id"] = arrow.ids("R", arrow.arange(len(rows)), 7)
            columns["joined_at"] = arrow.nulls(len(rows))
            columns["name"] = names(rng.integers(0, 10**6, len(rows)))
        parts.append(arrow.table("recruits", columns))
    return pa.concat_tables(parts)


def _at_joining(world: World, profiles: Profiles, rows: Ints) -> Snapshots:
    never = np.full(len(rows), NEVER)
    return Snapshots(
        partner=rows,
        valid_from=world.joined[rows],
        tier=np.zeros(len(rows), dtype=np.int64),
        city=world.city[rows],
        verticals=world.verticals[rows],
        capacity=profiles.capacity[rows],
        left=never,
        paused=never,
    )


def certifications_table(world: World, certificates: Certificates, *, seed: int) -> Any:
    """Return `certifications`."""
    rng = generator(seed, "certification records")
    recorded = certificates.earned + delays(rng, len(certificates.earned))
    order = np.lexsort((certificates.certification, certificates.partner, certificates.earned))
    order = order[recorded[order] < world.calendar.end]
    return arrow.table(
        "certifications",
        {
            "partner_id": partner_ids(certificates.partner[order]),
            "certification": arrow.pick(CERTIFICATIONS, certificates.certification[order]),
            "earned_at": arrow.moments(certificates.earned[order]),
            "expires_at": arrow.moments(certificates.expires[order]),
            "revoked_at": arrow.moments(certificates.revoked[order]),
            "recorded_at": arrow.moments(recorded[order]),
        },
    )


def territories_table(world: World, *, seed: int) -> Any:
    """Return `territories`: half of the partners have one: a country, a region, or a circle around their office."""
    rng = generator(seed, "territories")
    rows = np.flatnonzero(rng.random(world.n) < 0.5)
    n = len(rows)
    form = rng.integers(0, 4, n)  # country, region, postal prefix, circle
    city = world.city[rows]
    latitude, longitude = world.place_at(rows, world.first_day[rows])
    circle = form == 3
    radius = 50 * rng.integers(2, 12, n)
    ends = world.joined[rows] + 365 * DAY
    closed = (rng.random(n) < 0.1) & (ends < world.calendar.end)
    prefixes = [c.postal[:2] for c in CITIES]
    return arrow.table(
        "territories",
        {
            "partner_id": partner_ids(rows),
            "country": arrow.pick([c.country for c in CITIES], np.where(circle, -1, city)),
            "region": arrow.pick([c.region for c in CITIES], np.where(form == 1, city, -1)),
            "postal_prefix": arrow.pick(prefixes, np.where(form == 2, city, -1)),
            "latitude": arrow.numbers(latitude.round(4), circle),
            "longitude": arrow.numbers(longitude.round(4), circle),
            "radius_km": arrow.numbers(radius.astype(np.float64), circle),
            "verticals": arrow.pick(arrow.subsets(VERTICALS), np.where(rng.random(n) < 0.2, world.verticals[rows], -1)),
            "exclusive": arrow.booleans(rng.random(n) < 0.05),
            "valid_from": arrow.moments(world.joined[rows]),
            "valid_to": arrow.moments(np.where(closed, ends, NEVER)),
        },
    )
