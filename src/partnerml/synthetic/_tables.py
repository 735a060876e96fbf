"""Tables about what happened: events, deals, accounts, leads and assignments, as an extract at the end shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from partnerml import schema
from partnerml.synthetic import _arrow as arrow
from partnerml.synthetic._deals import APPROVED, EXPIRED, WON, Accounts, Deals
from partnerml.synthetic._engagement import Actions, Engagement
from partnerml.synthetic._leads import Assignments, Leads
from partnerml.synthetic._partner_tables import names, partner_ids, place
from partnerml.synthetic._world import (
    CERTIFICATIONS,
    CITIES,
    CITY_LATITUDE,
    CITY_LONGITUDE,
    CURRENCY,
    DAY,
    DEAL_MARK,
    EVENT_TYPES,
    NEVER,
    OTHER_ACTORS,
    OTHER_TYPES,
    PRODUCTS,
    VERTICALS,
    Bools,
    Floats,
    Ints,
    World,
    generator,
)

_OPEN = 0  # index into schema.OUTCOMES
_SUFFIXES = ("com", "net", "org", "io")
_INDUSTRIES = ("manufacturing", "finance", "health", "retail", "public", "technology")
_STAGES = ("qualified", "proposal", "negotiation", "closed")


def events_table(world: World, engagement: Engagement, *, seed: int) -> Any:
    """Return `events` in the order of their moments."""
    own, others = engagement.actions, engagement.others
    value = np.concatenate([_values(own, generator(seed, "values")), np.full(len(others.mark), np.nan)])
    mark = np.concatenate([own.mark, others.mark + len(EVENT_TYPES)])
    partner = np.concatenate([own.partner, others.partner])
    occurred = np.concatenate([own.occurred, others.occurred])
    recorded = np.concatenate([own.recorded, others.recorded])
    event = np.append(own.mark != DEAL_MARK, np.ones(len(others.mark), dtype=bool))
    rows = np.flatnonzero(event & (recorded < world.calendar.end))
    rows = rows[np.lexsort((mark[rows], partner[rows], occurred[rows]))]
    value, mark, partner, occurred, recorded = value[rows], mark[rows], partner[rows], occurred[rows], recorded[rows]
    actors = ("partner",) * len(EVENT_TYPES) + OTHER_ACTORS
    return arrow.table(
        "events",
        {
            "event_id": arrow.ids("E", arrow.arange(len(partner)), 9),
            "partner_id": partner_ids(partner),
            "occurred_at": arrow.moments(occurred),
            "event_type": arrow.pick(EVENT_TYPES + OTHER_TYPES, mark),
            "value": arrow.numbers(value, ~np.isnan(value)),
            "actor": arrow.pick(actors, mark),
            "recorded_at": arrow.moments(recorded),
        },
    )


def _values(actions: Actions, rng: np.random.Generator) -> Floats:
    """Draw minutes of logins and hours of training, what campaigns cost, and the marks of surveys; else NaN."""
    kind = np.minimum(actions.mark, DEAL_MARK)
    middle = np.array([12.0, np.nan, 2.0, 800.0, np.nan, 1.0, np.nan])[kind]
    value = (middle * rng.lognormal(0, 0.6, len(kind))).round(2)
    marks = rng.integers(0, 11, len(kind)).astype(np.float64)
    survey = kind == EVENT_TYPES.index("survey")
    return np.where(survey, marks, value)


def deal_ids(numbers: Ints) -> Any:
    """Return ids of deals; null where negative."""
    return arrow.ids("D", numbers, 8)


def lead_ids(numbers: Ints) -> Any:
    """Return ids of leads; null where negative."""
    return arrow.ids("L", numbers, 8)


def account_ids(numbers: Ints) -> Any:
    """Return ids of accounts; null where negative."""
    return arrow.ids("A", numbers, 8)


def on_record(world: World, deals: Deals) -> Bools:
    """Return which deals the extract shows."""
    shown: Bools = deals.recorded < world.calendar.end
    return shown


def deals_table(world: World, deals: Deals, lead_of: Ints) -> Any:
    """Return `deals`; `lead_of` is the lead that each came from, or -1."""
    end = world.calendar.end
    rows = np.flatnonzero(on_record(world, deals))
    ended = deals.closed_recorded < end
    status = deals.status_at(np.minimum(deals.closed_recorded, end - 1))
    protected = (status == APPROVED) | (status == EXPIRED)
    revised = revisions(deals) < end
    columns = {
        "deal_id": deal_ids(arrow.arange(deals.n)),
        "partner_id": partner_ids(deals.partner),
        "registered_at": arrow.moments(deals.registered),
        "outcome": arrow.pick(schema.OUTCOMES, np.where(ended, deals.result, _OPEN)),
        "closed_at": arrow.moments(np.where(ended, deals.closed, NEVER)),
        "expected_close_at": arrow.moments(deals.expected),
        "amount": arrow.numbers(np.where(ended, deals.amount, np.where(revised, _revised(deals), deals.estimate))),
        "currency": arrow.pick((CURRENCY,), np.zeros(deals.n, dtype=np.int64)),
        "account_id": account_ids(deals.account),
        "lead_id": lead_ids(lead_of),
        "vertical": arrow.pick(VERTICALS, deals.vertical),
        "country": arrow.pick([c.country for c in CITIES], deals.city),
        "region": arrow.pick([c.region for c in CITIES], deals.city),
        "product": arrow.pick(PRODUCTS, deals.product),
        "role": arrow.pick(schema.ROLES, np.where(deals.partner < 0, -1, deals.influenced)),
        "registration_status": arrow.pick(schema.REGISTRATION_STATUSES, status),
        "protected_until": arrow.moments(np.where(protected, deals.protected_until, NEVER)),
        "recorded_at": arrow.moments(deals.recorded),
        "closed_recorded_at": arrow.moments(np.where(ended, deals.closed_recorded, NEVER)),
    }
    return arrow.table("deals", columns).take(rows)


def revisions(deals: Deals) -> Ints:
    """Return when the amount of each deal is estimated anew: half-way to its end."""
    ends = np.minimum(deals.closed, deals.registered + 200 * DAY)
    return deals.decided + (ends - deals.decided) // 2


def _revised(deals: Deals) -> Floats:
    return ((deals.amount + deals.estimate) / 2).round(2)


def deal_history_table(world: World, deals: Deals) -> Any:
    """Return `deal_history`: registration, decision, a new estimate, the end of protection, and the end."""
    end = world.calendar.end
    owned = deals.partner >= 0
    lapse = np.where((deals.decision == APPROVED) & (deals.closed_recorded > deals.protected_until), 1, 0)
    stages = (
        (deals.registered, np.ones(deals.n, dtype=bool)),
        (deals.decided, owned & (deals.decision > 0)),
        (revisions(deals), np.ones(deals.n, dtype=bool)),
        (deals.protected_until, owned & (lapse == 1)),
        (deals.closed_recorded, deals.closed_recorded < NEVER),
    )
    everyone = arrow.arange(deals.n)
    parts = [(everyone[chosen], moments[chosen]) for moments, chosen in stages]
    deal, moment = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = (moment < end) & on_record(world, deals)[deal]
    # an end that is on record earlier than another change makes that change void
    keep &= moment <= deals.closed_recorded[deal]
    deal, moment = deal[keep], moment[keep]
    order = np.lexsort((moment, deal))
    deal, moment = deal[order], moment[order]
    first = np.ones(len(deal), dtype=bool)
    first[1:] = (deal[1:] != deal[:-1]) | (moment[1:] != moment[:-1])
    deal, moment = deal[first], moment[first]
    return _history_rows(deals, deal, moment)


def _history_rows(deals: Deals, deal: Ints, moment: Ints) -> Any:
    everything = np.full(deals.n, -1)
    status = np.full(len(deal), -1)
    for when in (deals.registered, deals.decided, revisions(deals), deals.protected_until, deals.closed_recorded):
        everything = deals.status_at(when)
        status = np.where(moment == when[deal], everything[deal], status)
    ended = moment == deals.closed_recorded[deal]
    revised = moment >= revisions(deals)[deal]
    amount = np.where(ended, deals.amount[deal], np.where(revised, _revised(deals)[deal], deals.estimate[deal]))
    decided = (moment >= deals.decided[deal]) & (deals.partner[deal] >= 0)
    stage = np.where(ended, 3, np.where(revised, 2, np.where(decided, 1, 0)))
    protected = (status == APPROVED) | (status == EXPIRED)
    return arrow.table(
        "deal_history",
        {
            "deal_id": deal_ids(deal),
            "valid_from": arrow.moments(moment),
            "amount": arrow.numbers(amount),
            "expected_close_at": arrow.moments(deals.expected[deal]),
            "stage": arrow.pick(_STAGES, stage),
            "registration_status": arrow.pick(schema.REGISTRATION_STATUSES, status),
            "protected_until": arrow.moments(np.where(protected, deals.protected_until[deal], NEVER)),
        },
    )


def deal_partners_table(world: World, deals: Deals) -> Any:
    """Return `deal_partners`: the owner of each deal, and a second partner with 30 % of some."""
    shown = on_record(world, deals)
    owned = np.flatnonzero(shown & (deals.partner >= 0))
    joint = np.flatnonzero(shown & (deals.joint >= 0))
    deal = np.concatenate([owned, joint])
    partner = np.concatenate([deals.partner[owned], deals.joint[joint]])
    primary = np.arange(len(deal)) < len(owned)
    share = np.where(primary, np.where(deals.joint[deal] >= 0, 0.7, 1.0), 0.3)
    order = np.lexsort((~primary, deal))
    return arrow.table(
        "deal_partners",
        {
            "deal_id": deal_ids(deal[order]),
            "partner_id": partner_ids(partner[order]),
            "role": arrow.pick(schema.ROLES, np.where(primary[order], deals.influenced[deal[order]], 1)),
            "is_primary": arrow.booleans(primary[order]),
            "share": arrow.numbers(share[order]),
        },
    )


def accounts_table(world: World, accounts: Accounts, deals: Deals, *, left: Ints, seed: int) -> Any:
    """Return `accounts`: customers, and the companies that are (or were) partners."""
    rng = generator(seed, "account details")
    customers, everyone = len(accounts.city), arrow.arange(world.n)
    n = customers + world.n
    joined = np.concatenate([np.full(customers, NEVER), world.joined])
    before = world.joined - rng.integers(10, 400, world.n) * DAY
    own = np.concatenate([np.full(customers, -1), everyone])
    owner = np.full(n, -1)
    ended = (deals.result == WON) & (deals.closed_recorded < world.calendar.end) & (deals.partner >= 0)
    owner[deals.account[ended][::-1]] = deals.partner[ended][::-1]  # the first to win keeps the customer
    gone = np.concatenate([np.zeros(customers, dtype=bool), left < world.calendar.end])
    city = np.concatenate([accounts.city, world.city])
    number = arrow.arange(n)
    return arrow.table(
        "accounts",
        {
            "account_id": account_ids(number),
            "created_at": arrow.moments(np.concatenate([accounts.created, before])),
            "is_partner": arrow.booleans((own >= 0) & ~gone),
            "partner_since": arrow.moments(joined),
            "partner_id": partner_ids(own),
            "owner_partner_id": partner_ids(owner),
            "name": account_names(number),
            "domain": account_domains(number),
            "country": arrow.pick([c.country for c in CITIES], city),
        },
    )


def account_names(number: Ints) -> Any:
    """Return the names of accounts."""
    return arrow.join(names(number * 7919 % 10**6), arrow.pick(_INDUSTRIES, number % len(_INDUSTRIES)), separator=" ")


def account_domains(number: Ints) -> Any:
    """Return the domains of accounts, each its own."""
    return arrow.join(arrow.ids("company-", number, 1), arrow.pick(_SUFFIXES, number % len(_SUFFIXES)), separator=".")


def leads_table(world: World, leads: Leads, assignments: Assignments, *, seed: int) -> Any:
    """Return `leads`."""
    rng = generator(seed, "lead details")
    n = leads.n
    latitude = CITY_LATITUDE[leads.city] + leads.shift[:, 0]
    longitude = CITY_LONGITUDE[leads.city] + leads.shift[:, 1]
    linked = np.where((rng.random(n) < 0.7) | (leads.source >= 0), leads.account, -1)
    excluded = np.where(rng.random(n) < 0.03, rng.integers(0, world.n, n), -1)
    tried = np.zeros(n, dtype=bool)
    tried[assignments.lead[excluded[assignments.lead] == assignments.partner]] = True
    excluded = np.where(tried | (excluded == leads.source), -1, excluded)
    located = rng.random(n) < 0.95
    return arrow.table(
        "leads",
        {
            "lead_id": lead_ids(arrow.arange(n)),
            "created_at": arrow.moments(leads.created),
            "account_id": account_ids(linked),
            "account_name": account_names(leads.account),
            "domain": account_domains(np.where(rng.random(n) < 0.9, leads.account, -1)),
            **place(leads.city, latitude, longitude),
            "latitude": arrow.numbers(latitude.round(4), located),
            "longitude": arrow.numbers(longitude.round(4), located),
            "vertical": arrow.pick(VERTICALS, leads.vertical),
            "product": arrow.pick(PRODUCTS, leads.product),
            "amount": arrow.numbers(leads.amount),
            "currency": arrow.pick((CURRENCY,), np.zeros(n, dtype=np.int64)),
            "languages": arrow.pick([[c.languages[0]] for c in CITIES], leads.city),
            "required_certifications": arrow.pick([[c] for c in CERTIFICATIONS], leads.required),
            "excluded_partners": _one_id_lists(excluded),
            "source_partner_id": partner_ids(leads.source),
            "consent": arrow.booleans(rng.random(n) < 0.97),
        },
    )


def _one_id_lists(partner: Ints) -> Any:
    import pyarrow as pa

    some = partner >= 0
    offsets = np.append(0, np.cumsum(some)).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), partner_ids(partner[some]).cast(pa.string()), mask=pa.array(~some)
    )


def assignments_table(world: World, assignments: Assignments, leads: Leads, deals: Deals, deal_of: Ints) -> Any:
    """Return `assignments`: what was offered before the end, with what is on record of it by then."""
    end = world.calendar.end
    made = assignments
    answered = made.responded < end
    accepted = made.result > 0
    ended = accepted & (made.closed_recorded < end)
    handed_in = leads.source[made.lead] >= 0
    policy = np.where(handed_in, -1, 0)
    outcome = np.where(ended, made.result, np.where(accepted & answered, _OPEN, -1))
    final = np.where(handed_in, deals.amount[np.maximum(deal_of[made.lead], 0)], leads.amount[made.lead])
    rows = np.flatnonzero(made.assigned < end)
    columns = {
        "lead_id": lead_ids(made.lead),
        "partner_id": partner_ids(made.partner),
        "assigned_at": arrow.moments(made.assigned),
        "propensity": arrow.numbers(made.propensity, ~handed_in),
        "explores": arrow.booleans(made.explores, ~handed_in),
        "response": arrow.pick(schema.RESPONSES, np.where(answered, made.response, -1)),
        "responded_at": arrow.moments(np.where(answered, made.responded, NEVER)),
        "outcome": arrow.pick(schema.OUTCOMES, outcome),
        "closed_at": arrow.moments(np.where(ended, made.closed, NEVER)),
        "amount": arrow.numbers(final, ended & (made.result == WON)),
        "closed_recorded_at": arrow.moments(np.where(ended, made.closed_recorded, NEVER)),
        "origin": arrow.pick(schema.ORIGINS, handed_in.astype(np.int64)),
        "policy": arrow.pick(("big-names-first",), policy),
    }
    return arrow.table("assignments", columns).take(rows)
