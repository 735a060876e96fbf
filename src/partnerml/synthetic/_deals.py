"""Deals: what becomes of the registrations, who takes part, and what the customer buys."""

from __future__ import annotations

import dataclasses

import numpy as np

from partnerml.synthetic._engagement import Actions
from partnerml.synthetic._world import (
    CANCELLED_SHARE,
    CITIES,
    CITY_COUNTRY,
    CLOSE_DAYS,
    COUNTRIES,
    DAY,
    DEAL_MARK,
    NEVER,
    OFFSETS,
    SECOND,
    VERTICAL_SHARES,
    WIN_BASE,
    WIN_MATCH,
    Bools,
    Floats,
    Ints,
    World,
    city_weights,
    closing,
    delays,
    draw,
    generator,
    sigmoid,
    times_of_day,
)

WON, LOST, CANCELLED = 1, 2, 3  # indices into schema.OUTCOMES
PENDING, APPROVED, DENIED, EXPIRED = range(4)  # indices into schema.REGISTRATION_STATUSES
PROTECTION = 90 * DAY
DIRECT_SHARE = 0.1  # deals without a partner, for each deal with one
JOINT_SHARE = 0.06  # registrations that join another partner's deal of the same day
SUBMITTED_SHARE = 0.1  # deals that a partner first hands in as a lead
ACCOUNTS_PER_PARTNER = 4
ACCOUNT_HISTORY = 1000  # days before the start over which customers were gathered
_CHOICES = 3  # customers a partner looks at: it takes the first that fits its verticals
_TYPE_AMOUNT: Floats = np.array([0.0, 0.7, 0.2, 0.3, -0.3])


@dataclasses.dataclass(frozen=True)
class Accounts:
    """Customers; those of a country stand together. `shift` moves them off the centre of their city, in degrees."""

    city: Ints
    vertical: Ints
    shift: Floats
    created: Ints
    first: Ints
    count: Ints

    def draw(self, rng: np.random.Generator, country: Ints) -> Ints:
        """Draw one account of each country."""
        return self.first[country] + (rng.random(len(country)) * self.count[country]).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Deals:
    """Deals in the order of registration; `partner` is -1 for direct ones.

    Attributes
    ----------
    registered, recorded, closed, closed_recorded : array of int
        Moments in microseconds; NEVER where a deal stays open for good.
    result : array of int
        What it ends as, whenever that is: WON, LOST or CANCELLED.
    win_probability : array of float
        The chance that it ends as won, given the partner's skill.
    trait_logit : array of float
        Its log-odds without the part of the skill that no trait shows.
    joint : array of int
        A second partner that takes part, or -1.
    decided : array of int
        When the registration was approved or denied.
    """

    partner: Ints
    registered: Ints
    recorded: Ints
    closed: Ints
    closed_recorded: Ints
    result: Ints
    win_probability: Floats
    trait_logit: Floats
    joint: Ints
    account: Ints
    vertical: Ints
    city: Ints
    product: Ints
    amount: Floats
    estimate: Floats
    expected: Ints
    decided: Ints
    decision: Ints
    submitted: Bools
    influenced: Bools

    @property
    def n(self) -> int:
        """How many deals there are."""
        return len(self.partner)

    def status_at(self, moments: Ints) -> Ints:
        """Return the status of each registration at moments (-1 for direct deals)."""
        status = np.where(moments >= self.decided, self.decision, PENDING)
        outlived = self.closed_recorded > self.protected_until
        lapsed = (status == APPROVED) & (moments >= self.protected_until) & outlived
        return np.where(self.partner < 0, -1, np.where(lapsed, EXPIRED, status))

    @property
    def protected_until(self) -> Ints:
        """Until when an approved registration is protected."""
        return self.decided + PROTECTION


def create_accounts(world: World, *, seed: int) -> Accounts:
    """Draw the customers, all of them older than the first day."""
    rng = generator(seed, "accounts")
    n = max(ACCOUNTS_PER_PARTNER * world.n, 20 * len(CITIES))
    city = np.sort(draw(rng, city_weights(), n))
    city[: len(CITIES)] = np.arange(len(CITIES))  # no country is empty
    city = np.sort(city)
    country = CITY_COUNTRY[city]
    first = np.searchsorted(country, np.arange(len(COUNTRIES)))
    age = rng.integers(86_400, ACCOUNT_HISTORY * 86_400, n) * SECOND
    return Accounts(
        city=city,
        vertical=draw(rng, VERTICAL_SHARES, n),
        shift=rng.normal(0, 0.25, (n, 2)).round(4),
        created=world.calendar.start - age,
        first=first,
        count=np.diff(np.append(first, n)),
    )


def draw_outcomes(rng: np.random.Generator, begin: Ints, probability: Floats, hours: Floats) -> tuple[Ints, Ints, Ints]:
    """Draw when and how deals end.

    Returns
    -------
    closed, closed_recorded, result : array of int
        Moments (NEVER for the few that stay open for good), and WON, LOST or CANCELLED.
    """
    n = len(begin)
    chances = closing()
    offset = np.searchsorted(np.cumsum(chances), rng.random(n), side="right")
    ends = offset <= CLOSE_DAYS[-1]
    closed = (begin // DAY + offset) * DAY + times_of_day(rng, hours)
    recorded = closed + delays(rng, n)
    won = rng.random(n) < probability
    result = np.where(won, WON, np.where(rng.random(n) < CANCELLED_SHARE, CANCELLED, LOST))
    return np.where(ends, closed, NEVER), np.where(ends, recorded, NEVER), result


def simulate_deals(world: World, accounts: Accounts, actions: Actions, *, seed: int) -> tuple[Deals, Actions]:
    """Turn the registrations among the actions into deals, and add direct ones.

    Returns
    -------
    Deals
    Actions
        The actions again: a registration that joins another partner's deal takes over its moments.
    """
    rng = generator(seed, "deals")
    rows = np.flatnonzero(actions.mark == DEAL_MARK)
    host, actions = _join(world, actions, rows, rng=rng)
    own = rows[host < 0]
    joint = np.full(len(actions.mark), -1)
    joint[rows[host[host >= 0]]] = actions.partner[rows[host >= 0]]

    direct = rng.random(len(own)) < DIRECT_SHARE
    n_direct = int(direct.sum())
    partner = np.concatenate([actions.partner[own], np.full(n_direct, -1)])
    registered = np.concatenate([actions.occurred[own], actions.occurred[own][direct] // DAY * DAY])
    home = world.city[np.concatenate([actions.partner[own], actions.partner[own][direct]])]
    registered[len(own) :] += times_of_day(rng, np.zeros(n_direct))
    recorded = np.concatenate([actions.recorded[own], registered[len(own) :] + delays(rng, n_direct)])
    joint = np.concatenate([joint[own], np.full(n_direct, -1)])
    order = np.lexsort((partner, registered))
    deals = _describe(
        world,
        accounts,
        partner=partner[order],
        registered=registered[order],
        recorded=recorded[order],
        joint=joint[order],
        home=home[order],
        rng=rng,
    )
    return deals, actions


def _join(world: World, actions: Actions, rows: Ints, *, rng: np.random.Generator) -> tuple[Ints, Actions]:
    """Let some registrations join the one before them, if it is another partner's on the same UTC day.

    Returns
    -------
    host : array of int
        For each of `rows` the position among `rows` of the deal it joins, or -1.
    actions : Actions
        With the moments of the joined deal: the day, and with it all that the oracle sees, stays the same.
    """
    position = np.arange(len(rows))
    before = np.maximum(position - 1, 0)
    same_day = actions.occurred[rows] // DAY == actions.occurred[rows[before]] // DAY
    other = actions.partner[rows] != actions.partner[rows[before]]
    joins = (position % 2 == 1) & same_day & other & (rng.random(len(rows)) < 2 * JOINT_SHARE)
    host = np.where(joins, before, -1)
    occurred, recorded = actions.occurred.copy(), actions.recorded.copy()
    occurred[rows[joins]] = actions.occurred[rows[before[joins]]]
    recorded[rows[joins]] = actions.recorded[rows[before[joins]]]
    return host, Actions(actions.partner, occurred, recorded, actions.mark)


def _describe(
    world: World,
    accounts: Accounts,
    *,
    partner: Ints,
    registered: Ints,
    recorded: Ints,
    joint: Ints,
    home: Ints,
    rng: np.random.Generator,
) -> Deals:
    n, owner = len(partner), np.maximum(partner, 0)
    owned = partner >= 0
    day = world.calendar.day_of(registered)
    choices = np.stack([accounts.draw(rng, CITY_COUNTRY[home]) for _ in range(_CHOICES)])
    mask = world.verticals_at(owner, day)
    fits = (mask[None, :] >> accounts.vertical[choices]) & 1
    pick = fits.argmax(axis=0)  # the first that fits, else the first
    account = choices[pick, np.arange(n)]
    match = fits[pick, np.arange(n)] * owned

    trait_logit = WIN_BASE + WIN_MATCH * match + np.where(owned, world.trait_skill[owner], 0.0)
    latent = np.where(owned, world.skill[owner] - world.trait_skill[owner], 0.0)
    probability = sigmoid(trait_logit + latent)
    closed, closed_recorded, result = draw_outcomes(rng, registered, probability, OFFSETS[world.offset[owner]])
    amount = rng.lognormal(np.log(9000) + np.where(owned, _TYPE_AMOUNT[world.kind[owner]], 0.5), 0.9)
    decision = draw(rng, np.array([0.02, 0.9, 0.08]), n)  # a few stay pending
    return Deals(
        partner=partner,
        registered=registered,
        recorded=recorded,
        closed=closed,
        closed_recorded=closed_recorded,
        result=result,
        win_probability=probability,
        trait_logit=trait_logit,
        joint=joint,
        account=account,
        vertical=accounts.vertical[account],
        city=accounts.city[account],
        product=draw(rng, np.array([0.4, 0.25, 0.2, 0.15]), n),
        amount=amount.round(2),
        estimate=(amount * rng.lognormal(0, 0.25, n)).round(2),
        expected=registered // DAY * DAY + rng.integers(20, 120, n) * DAY,
        decided=registered + rng.integers(4 * 3600, 44 * 3600, n) * SECOND,
        decision=decision,
        submitted=owned & (rng.random(n) < SUBMITTED_SHARE),
        influenced=owned & (rng.random(n) < 0.12),
    )
