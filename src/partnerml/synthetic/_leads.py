"""Leads, and whom the vendor gave them to: a biased policy that logs its true propensities."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from partnerml.synthetic._deals import Accounts, Deals, draw_outcomes
from partnerml.synthetic._world import (
    CERTIFICATIONS,
    CITIES,
    CITY_COUNTRY,
    CITY_LATITUDE,
    CITY_LONGITUDE,
    COUNTRIES,
    DAY,
    HOUR,
    LEAD_WIN_BASE,
    LEAD_WIN_KM,
    LEAD_WIN_LOAD,
    NEVER,
    NO_DAY,
    OFFSETS,
    SECOND,
    WIN_MATCH,
    Bools,
    Floats,
    Ints,
    World,
    draw,
    draw_rows,
    generator,
    sigmoid,
)

LEADS_PER_PARTNER_MONTH = 0.4
EXPLORATION = 0.1  # the share of decisions that the uniform arm takes
SHORTLIST = 16  # half from the lead's city, half from its country, in rotation
OFFERS = 3  # how often a lead is offered before it is given up
ACCEPTED, DECLINED, LAPSED, WITHDRAWN = range(4)  # indices into schema.RESPONSES
_NEEDS_CERTIFICATE = 0.08
_EARTH_KM = 6371.0088


@dataclasses.dataclass(frozen=True)
class Certificates:
    """One row each: partner, index into CERTIFICATIONS, and moments (NEVER where there is none)."""

    partner: Ints
    certification: Ints
    earned: Ints
    expires: Ints
    revoked: Ints

    def held(self, n: int, calendar_first: int) -> tuple[Ints, Ints]:
        """Return from which day and until which day each partner holds each certificate, shape (n, kinds)."""
        begin = np.full((n, len(CERTIFICATIONS)), NO_DAY)
        end = np.full((n, len(CERTIFICATIONS)), -NO_DAY)
        begin[self.partner, self.certification] = self.earned // DAY + 1 - calendar_first
        end[self.partner, self.certification] = np.minimum(self.expires, self.revoked) // DAY - calendar_first
        return begin, end


@dataclasses.dataclass(frozen=True)
class Leads:
    """Leads in the order of creation; `required` is an index into CERTIFICATIONS, or -1; `source` a partner, or -1."""

    created: Ints
    city: Ints
    shift: Floats
    vertical: Ints
    account: Ints
    product: Ints
    amount: Floats
    required: Ints
    source: Ints

    @property
    def n(self) -> int:
        """How many leads there are."""
        return len(self.created)


@dataclasses.dataclass(frozen=True)
class Assignments:
    """Offers of leads to partners in the order of time; NaN propensity where no policy chose.

    `win_probability` is the chance that the partner wins the lead, given that it accepts and keeps it.
    """

    lead: Ints
    partner: Ints
    assigned: Ints
    propensity: Floats
    explores: Bools
    response: Ints
    responded: Ints
    result: Ints
    closed: Ints
    closed_recorded: Ints
    win_probability: Floats
    load: Ints


def create_certificates(world: World, *, left: Ints, seed: int) -> Certificates:
    """Draw certificates: more for integrators and service providers, none by engagement."""
    rng = generator(seed, "certificates")
    chance = np.array([0.4, 0.6, 0.5, 0.35, 0.1])[world.kind]
    partner, certification = np.nonzero(rng.random((world.n, len(CERTIFICATIONS))) < chance[:, None] / 1.5)
    earned = world.joined[partner] + rng.exponential(120, len(partner)).astype(np.int64) * DAY + 9 * HOUR
    kept = (earned < world.calendar.end) & (earned < left[partner])
    partner, certification, earned = partner[kept], certification[kept], earned[kept]
    expires = earned // DAY * DAY + 730 * DAY
    withdrawn = earned + rng.integers(30, 700, len(earned)) * DAY
    revoked = np.where((rng.random(len(earned)) < 0.02) & (withdrawn < world.calendar.end), withdrawn, NEVER)
    return Certificates(partner, certification, earned, expires, revoked)


def create_leads(world: World, accounts: Accounts, deals: Deals, *, seed: int) -> tuple[Leads, Ints]:
    """Draw the vendor's leads, and add those that partners hand in before they register the deal.

    Returns
    -------
    Leads
    array of int
        For each lead the deal it became (those handed in), or -1.
    """
    rng = generator(seed, "leads")
    calendar = world.calendar
    n = max(20, round(LEADS_PER_PARTNER_MONTH * world.n * calendar.days / 30.44))
    day = draw(rng, calendar.season(0, calendar.days), n)
    created = (calendar.first + day) * DAY + rng.integers(0, 23 * 3600, n) * SECOND
    account = rng.integers(0, len(accounts.city), n)
    handed = np.flatnonzero(deals.submitted)
    moment = deals.registered[handed] - rng.integers(3600, 48 * 3600, len(handed)) * SECOND
    required = np.where(rng.random(n) < _NEEDS_CERTIFICATE, rng.integers(0, len(CERTIFICATIONS), n), -1)
    account = np.concatenate([account, deals.account[handed]])
    leads = Leads(
        created=np.concatenate([created, moment]),
        city=accounts.city[account],
        shift=accounts.shift[account],
        vertical=accounts.vertical[account],
        account=account,
        product=np.concatenate([draw(rng, np.array([0.4, 0.25, 0.2, 0.15]), n), deals.product[handed]]),
        amount=np.concatenate([rng.lognormal(np.log(9000), 0.8, n).round(2), deals.estimate[handed]]),
        required=np.concatenate([required, np.full(len(handed), -1)]),
        source=np.concatenate([np.full(n, -1), deals.partner[handed]]),
    )
    order = np.argsort(leads.created, kind="stable")
    sorted_leads = Leads(*(getattr(leads, field.name)[order] for field in dataclasses.fields(Leads)))
    return sorted_leads, np.concatenate([np.full(n, -1), handed])[order]


def distance_km(latitude: Any, longitude: Any, other_latitude: Any, other_longitude: Any) -> Any:
    """Return the great-circle distance between points in degrees (haversine)."""
    phi, psi = np.radians(latitude), np.radians(other_latitude)
    chord = np.sin((psi - phi) / 2) ** 2
    chord = chord + np.cos(phi) * np.cos(psi) * np.sin(np.radians(other_longitude - longitude) / 2) ** 2
    return 2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0)))


class _Router:
    """The vendor's policy, day by day: a rotating shortlist, a favour for big names, some exploration.

    What it sees of a partner is what was so at 00:00 UTC; only the open leads (load) and who holds the lead matter
    beyond that, and those too are counted at 00:00.
    """

    def __init__(
        self, world: World, leads: Leads, certificates: Certificates, left: Ints, *, rng: np.random.Generator
    ) -> None:
        self.world, self.leads, self.rng = world, leads, rng
        self.left_day = np.where(left < NEVER, world.calendar.day_of(left), NO_DAY)
        self.favour = 0.5 * world.skill + 0.15 * world.level + rng.normal(0, 0.5, world.n)
        self.holds_from, self.holds_to = certificates.held(world.n, world.calendar.first)
        self.rotation = rng.integers(0, 2**31, leads.n)
        self.tried = np.full((leads.n, OFFERS), -1)
        self.load = np.zeros(world.n, dtype=np.int64)
        shuffled = rng.permutation(world.n)
        self.by_city, self.city_first, self.city_count = _grouped(world.city, shuffled, len(CITIES))
        country = CITY_COUNTRY[world.city]
        self.by_country, self.country_first, self.country_count = _grouped(country, shuffled, len(COUNTRIES))

    def shortlist(self, lead: Ints, attempt: Ints) -> Ints:
        """Return candidates, shape (leads, SHORTLIST); -1 where there are none."""
        half = SHORTLIST // 2
        turn = (self.rotation[lead] + attempt * half)[:, None] + np.arange(half)
        city = self.leads.city[lead]
        country = CITY_COUNTRY[city]
        near = _rotate(self.by_city, self.city_first[city], self.city_count[city], turn)
        far = _rotate(self.by_country, self.country_first[country], self.country_count[country], turn)
        return np.hstack([near, far])

    def eligible(self, lead: Ints, candidates: Ints, day: int) -> Bools:
        """Return who may get the lead: in the programme, not paused, certified, not yet tried, and each once."""
        who = np.maximum(candidates, 0)
        allowed = (candidates >= 0) & (self.world.first_day[who] <= day) & (self.left_day[who] > day)
        allowed &= (day < self.world.paused_day[who]) | (day >= self.world.resumed_day[who])
        allowed &= ~(candidates[:, :, None] == self.tried[lead][:, None, :]).any(axis=2)
        repeated = np.tril(candidates[:, :, None] == candidates[:, None, :], k=-1).any(axis=2)
        required = self.leads.required[lead][:, None]
        held = (self.holds_from[who, required] <= day) & (day < self.holds_to[who, required])
        result: Bools = allowed & ~repeated & ((required < 0) | held)
        return result

    def choose(self, lead: Ints, attempt: Ints, day: int) -> dict[str, Any]:
        """Route leads on a day; those for whom nobody is eligible get no offer."""
        candidates = self.shortlist(lead, attempt)
        allowed = self.eligible(lead, candidates, day)
        some = allowed.any(axis=1)
        lead, attempt, candidates, allowed = lead[some], attempt[some], candidates[some], allowed[some]
        who = np.maximum(candidates, 0)
        distance = self._distance(lead, who, day)
        match = (self.world.verticals_at(who, day) >> self.leads.vertical[lead][:, None]) & 1
        utility = np.where(allowed, self.favour[who] - distance / 250 + 0.8 * match, -np.inf)
        weight = np.exp(utility - utility.max(axis=1, keepdims=True))
        greedy = weight / weight.sum(axis=1, keepdims=True)
        uniform = allowed / allowed.sum(axis=1, keepdims=True)
        # what is logged is the mixture over both arms, and the arm that acted
        explores = self.rng.random(len(lead)) < EXPLORATION
        chosen = draw_rows(self.rng, np.where(explores[:, None], uniform, greedy))
        mixture = (1 - EXPLORATION) * greedy + EXPLORATION * uniform
        rows = np.arange(len(lead))
        partner, load = who[rows, chosen], self.load[who[rows, chosen]]
        logit = pair_log_odds(self.world, self.leads, lead, partner, day=day, load=load)
        self.tried[lead, attempt] = partner
        return {
            "lead": lead,
            "attempt": attempt,
            "partner": partner,
            "propensity": np.minimum(mixture[rows, chosen], 1.0),
            "explores": explores,
            "win_probability": sigmoid(logit),
            "load": load,
        }

    def _distance(self, lead: Ints, who: Ints, day: int) -> Floats:
        return _apart(self.world, self.leads, lead[:, None], who, day=day)


def pair_log_odds(world: World, leads: Leads, lead: Ints, partner: Ints, *, day: int, load: Ints) -> Floats:
    """Return the log-odds that partners win leads that they keep, by the load that they have, shape (n,)."""
    match = (world.verticals_at(partner, day) >> leads.vertical[lead]) & 1
    near = LEAD_WIN_KM * np.minimum(_apart(world, leads, lead, partner, day=day), 900)
    logit = LEAD_WIN_BASE + world.skill[partner] + WIN_MATCH * match
    result: Floats = logit + near + LEAD_WIN_LOAD * np.minimum(load, 8)
    return result


def _apart(world: World, leads: Leads, lead: Ints, partner: Ints, *, day: int) -> Floats:
    """Return how far partners are from leads on a day, in kilometres."""
    latitude, longitude = world.place_at(partner, day)
    at_latitude, at_longitude = lead_place(leads, lead)
    result: Floats = distance_km(at_latitude, at_longitude, latitude, longitude)
    return result


def lead_place(leads: Leads, lead: Ints) -> tuple[Floats, Floats]:
    """Return latitude and longitude of leads, in degrees."""
    city, shift = leads.city[lead], leads.shift[lead]
    return CITY_LATITUDE[city] + shift[..., 0], CITY_LONGITUDE[city] + shift[..., 1]


def _grouped(group: Ints, order: Ints, groups: int) -> tuple[Ints, Ints, Ints]:
    """Return members by group (in `order`), where each group begins, and its size."""
    members = order[np.argsort(group[order], kind="stable")]
    first = np.searchsorted(group[members], np.arange(groups))
    return members, first, np.diff(np.append(first, len(members)))


def _rotate(members: Ints, first: Ints, count: Ints, turn: Ints) -> Ints:
    """Return members of groups at positions that wrap around; -1 for an empty group."""
    position = first[:, None] + turn % np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, members[np.minimum(position, len(members) - 1)], -1)


def simulate_assignments(
    world: World, leads: Leads, certificates: Certificates, *, left: Ints, deals: Deals, deal_of: Ints, seed: int
) -> Assignments:
    """Offer every lead of the vendor until it is accepted, up to OFFERS times, and play the accepted ones out."""
    rng = generator(seed, "assignments")
    router = _Router(world, leads, certificates, left, rng=rng)
    days = world.calendar.days
    waiting: list[list[tuple[Ints, Ints]]] = [[] for _ in range(days + 5)]
    ending: list[list[Ints]] = [[] for _ in range(days + 1)]
    routed = np.flatnonzero(deal_of < 0)
    edges = np.searchsorted(world.calendar.day_of(leads.created[routed]), np.arange(days + 1))
    parts: list[dict[str, Any]] = []
    for day in range(days):
        for partner in ending[day]:
            np.subtract.at(router.load, partner, 1)
        fresh = routed[edges[day] : edges[day + 1]]
        queue = [(fresh, np.zeros(len(fresh), dtype=np.int64)), *waiting[day]]
        lead, attempt = (np.concatenate(column) for column in zip(*queue, strict=True))
        if not len(lead):
            continue
        part = router.choose(lead, attempt, day)
        _respond(world, leads, part, day=day, rng=rng)
        _settle(router, part, day=day, waiting=waiting, ending=ending)
        parts.append(part)
    parts.append(_handed_in(leads, deals, deal_of))
    names = [field.name for field in dataclasses.fields(Assignments)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    order = np.lexsort((columns["lead"], columns["assigned"]))
    return Assignments(**{name: column[order] for name, column in columns.items()})


def _respond(world: World, leads: Leads, part: dict[str, Any], *, day: int, rng: np.random.Generator) -> None:
    """Draw what the partners answer and, where they accept, how the lead ends.

    The answer depends on the load alone: it tells nothing about engagement that the events do not.
    """
    n, midnight = len(part["lead"]), (world.calendar.first + day) * DAY
    created = np.where(
        part["attempt"] == 0, leads.created[part["lead"]], midnight + rng.integers(0, 23 * 3600, n) * SECOND
    )
    assigned = created + rng.integers(60, 1800, n) * SECOND
    accepts = rng.random(n) < sigmoid(1.5 - 0.2 * part["load"])
    response = np.where(accepts, ACCEPTED, 1 + draw(rng, np.array([0.6, 0.3, 0.1]), n))
    wait = np.where(response == LAPSED, 48 * HOUR, rng.integers(3600, 47 * 3600, n) * SECOND)
    hours = OFFSETS[world.offset[part["partner"]]]
    closed, closed_recorded, result = draw_outcomes(rng, assigned, part["win_probability"], hours)
    part |= {
        "assigned": assigned,
        "response": response,
        "responded": assigned + wait,
        "result": np.where(accepts, result, -1),
        "closed": np.where(accepts, closed, NEVER),
        "closed_recorded": np.where(accepts, closed_recorded, NEVER),
    }


def _settle(
    router: _Router,
    part: dict[str, Any],
    *,
    day: int,
    waiting: list[list[tuple[Ints, Ints]]],
    ending: list[list[Ints]],
) -> None:
    """Count the accepted leads as load until they end, and queue the declined ones for another offer."""
    calendar = router.world.calendar
    accepted = part["response"] == ACCEPTED
    np.add.at(router.load, part["partner"][accepted], 1)
    closed_day = calendar.day_of(part["closed"]) + 1  # counted at 00:00 of the day after
    soon = accepted & (closed_day <= calendar.days)
    for end in np.unique(closed_day[soon]):
        ending[end].append(part["partner"][soon & (closed_day == end)])
    again = ((part["response"] == DECLINED) | (part["response"] == LAPSED)) & (part["attempt"] + 1 < OFFERS)
    retry_day = calendar.day_of(part["responded"]) + 1
    for when in np.unique(retry_day[again]):
        chosen = again & (retry_day == when)
        waiting[min(when, len(waiting) - 1)].append((part["lead"][chosen], part["attempt"][chosen] + 1))


def _handed_in(leads: Leads, deals: Deals, deal_of: Ints) -> dict[str, Any]:
    """Return the leads that partners handed in: accepted at once, and ending as their deal does."""
    lead = np.flatnonzero(deal_of >= 0)
    deal = deal_of[lead]
    return {
        "lead": lead,
        "partner": leads.source[lead],
        "assigned": deals.registered[deal],
        "propensity": np.full(len(lead), np.nan),
        "explores": np.zeros(len(lead), dtype=bool),
        "response": np.full(len(lead), ACCEPTED),
        "responded": deals.registered[deal],
        "result": deals.result[deal],
        "closed": deals.closed[deal],
        "closed_recorded": deals.closed_recorded[deal],
        "win_probability": deals.win_probability[deal],
        "load": np.zeros(len(lead), dtype=np.int64),
    }
