"""A stand-in for the router: partners with room, and decisions on leads that look at nothing else."""

import datetime as dt
import json
import time

import numpy as np

from partnerml.routing._capacity import PartnerCapacity
from partnerml.routing._hours import zone
from partnerml.routing._ledger import Ledger
from partnerml.routing._matches import Keys
from partnerml.routing._offers import Held
from partnerml.routing._vectors import Vector

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)  # a Friday
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def capacity(*limits, zones=("UTC",)):
    """Partners P0, P1, ... with limits (day, week, open; None = unlimited), in turn in the zones."""
    for name in zones:
        zone(name)
    per = np.array([[np.nan if limit is None else limit for limit in each] for each in limits], dtype=np.float64)
    return PartnerCapacity(
        partner_id=[f"P{i}" for i in range(len(limits))],
        zones=tuple(zones),
        zone=np.arange(len(limits)) % len(zones),
        per_day=per[:, 0],
        per_week=per[:, 1],
        max_open=per[:, 2],
    )


def document(lead_id, number, status, partner_id=None, **more):
    """A decision with the keys that every one has."""
    return {
        "decision_id": f"decision-{lead_id}-{number}",
        "lead_id": lead_id,
        "status": status,
        "partner_id": partner_id,
        "offer_id": None if partner_id is None else offer_id(lead_id, number),
        "duplicate_of": None,
        "propensity": None,
        "explores": False,
        "policy": "greedy",
        "alternatives": [],
        **more,
    }


def offer_id(lead_id, number):
    return f"offer-{lead_id}-{number}"


def decide(turn, room, *, choose=None, within=24 * HOUR, payload="{}", keys=None):
    """Offer the lead to a partner that has room and did not have it; to nobody, if there is none."""
    load = turn.load(room)
    free = room.free(load, np.arange(len(room.partner_id)))
    rows = [row for row in np.flatnonzero(free > 0) if room.partner_id[row] not in turn.had]
    first = turn.number == 0
    told = {"payload": payload if first else None, "keys": keys if first else None}
    if not rows:
        return turn.record(document=document(turn.lead_id, turn.number, "fallback"), **told)
    row = int(rows[0] if choose is None else choose(rows))
    offer = room.offer(
        row, offer_id=offer_id(turn.lead_id, turn.number), moment=turn.moment, deadline=turn.moment + within
    )
    partners = [room.partner_id[row] for row in rows]
    chance = np.full(len(rows), 1 / len(rows))
    decided = document(turn.lead_id, turn.number, "assigned", offer.partner_id, propensity=1 / len(rows), explores=True)
    vector = Vector(partners, chance, chance, chance, free[rows])
    return turn.record(document=decided, offer=offer, vector=vector, **told)


def route(ledger, lead_id, room, now, **more):
    """Decide a lead once; the same again gets the same text."""
    with ledger.turn(lead_id, moment=now) as turn:
        return decide(turn, room, **more) if turn.latest is None else turn.latest.text


def route_many(url, name, start, n):
    """Decide so many leads in a process of its own, which loads this module alone and not that of a test."""
    room = capacity(*[(None, None, None)] * 3)
    with Ledger.open(url) as ledger:
        start.wait()
        for i in range(n):
            with ledger.turn(f"{name}{i}", moment=NOW) as turn:
                decide(turn, room)
                time.sleep(0.01)  # as long as a real decision takes


def answer(ledger, offer, response, room, now, **more):
    """Answer an offer; a decline has the next decision in the same turn."""
    with ledger.turn(moment=now) as turn:
        found = turn.respond(offer, response, **more)
        if not found.repeated and found.offer.status != "accepted":
            decide(turn, room)
        text = turn.latest.text
    found.refuse_late()
    return text


def give(ledger, lead_id, partner_id, room, now, *, way="override", **more):
    """Give a lead to a partner without asking."""
    with ledger.turn(lead_id, moment=now) as turn:
        day, week = room.local(room.rows[partner_id], now)
        status = "assigned" if way == "override" else way
        held = Held(offer_id(lead_id, turn.number), partner_id, way, day, week)
        first = {"payload": "{}", "keys": Keys()} if turn.number == 0 else {}
        decided = document(lead_id, turn.number, status, partner_id)
        return json.loads(turn.record(document=decided, held=held, **first, **more))


def load_of(ledger, room, now):
    """Units of the day, the week and open leads, of each partner."""
    with ledger.turn(moment=now) as turn:
        load = turn.load(room)
    return list(zip(load.day.tolist(), load.week.tolist(), load.open.tolist(), strict=True))
