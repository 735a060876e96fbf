"""A small world with everything that makes point-in-time features hard, the same at every run."""

from __future__ import annotations

import datetime as dt
import random

import pyarrow as pa

DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)
START = dt.datetime(2025, 3, 1)  # noqa: DTZ001 (naive UTC, as inside the engine)
AS_OF = (START, START + 9 * DAY, START + 120 * DAY)
PARTNERS = tuple("ABCDEFGH")
EVENT_TYPES = ("portal_login", "survey")
LAGS = {"events": "1d", "deals": "12h", "certifications": "2d", "partner_history": "3h"}


def tables(seed: int = 7) -> dict[str, list[dict]]:
    """Return the rows of each canonical table."""
    draw = random.Random(seed)
    made = {
        "partners": [_partner(draw, name) for name in PARTNERS],
        "events": [_event(draw, i) for i in range(160)],
        "deals": [_deal(draw, i) for i in range(40)],
    }
    made["deal_partners"] = _shares(draw, made["deals"])
    made["deal_history"] = _deal_history(draw, made["deals"])
    made["certifications"] = [_certification(draw) for _ in range(30)]
    made["partner_history"] = _history(draw)
    return made


def arrow(rows: list[dict]) -> pa.Table:
    """Return rows as an Arrow table; a column is there if any row has it."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: pa.array(values, _type(values)) for name, values in columns.items()})


def _type(values):
    moment = any(isinstance(value, dt.datetime) for value in values)
    return pa.timestamp("us") if moment else pa.infer_type(values)


def _moment(draw, before=400, after=150):
    """A moment that loves edges: as_ofs, the far edges of windows, midnights, and a microsecond beside them."""
    if draw.random() < 0.5:
        edge = draw.choice(AS_OF) - draw.choice((0, 7, 30, 60, 90, 180, 365)) * DAY
        return edge + draw.choice((-TICK, 0 * DAY, TICK))
    time = draw.choice((0 * DAY, dt.timedelta(hours=12, minutes=30), DAY - TICK))
    return START + draw.randint(-before, after) * DAY + time


def _later(draw, moment):
    delay = draw.choice((None, None, 0 * DAY, TICK, 13 * DAY / 24, DAY, 9 * DAY, 200 * DAY))
    return None if moment is None or delay is None else moment + delay


def _partner(draw, name):
    return {
        "partner_id": name,
        "joined_at": draw.choice((None, _moment(draw))),
        "left_at": START + 130 * DAY if name == "H" else None,
        "partner_type": draw.choice(("reseller", "integrator", None)),
        "country": draw.choice(("DE", "FR", None)),
        "latitude": draw.choice((None, 1.5, -3.0)),
        "postal_code": draw.choice(("01069", "80331", None)),
        "verticals": draw.choice((["manufacturing.automotive", "retail"], ["retail"], [], None)),
        "languages": draw.choice((["de", "en"], ["fr"], None)),
    }


def _event(draw, number):
    moment = _moment(draw)
    return {
        "event_id": f"E{number}",
        "partner_id": draw.choice(PARTNERS[:-1]),  # one partner never did anything
        "occurred_at": moment,
        # what is new since the first as_of is "other"
        "event_type": draw.choice((*EVENT_TYPES, "webinar") if moment > START else EVENT_TYPES),
        "value": draw.choice((None, draw.randint(-50_000, 50_000) / 100)),
        "actor": draw.choice((None, "partner", "partner", "vendor")),
        "recorded_at": _later(draw, moment),
    }


def _deal(draw, number):
    moment = _moment(draw)
    outcome = draw.choice(("open", "won", "won", "won", "lost", "cancelled"))
    closed = None if outcome == "open" else moment + draw.choice((0 * DAY, TICK, DAY, 30 * DAY, 200 * DAY))
    return {
        "deal_id": f"D{number:02}",
        "partner_id": draw.choice((*PARTNERS[:-1], None)),
        "registered_at": moment,
        "outcome": outcome,
        "closed_at": closed,
        "expected_close_at": draw.choice((None, moment + 60 * DAY)),
        "amount": draw.choice((None, draw.randint(0, 10_000_000) / 100)),
        "account_id": draw.choice((None, "acme", "globex", "initech")),
        "vertical": draw.choice((None, "retail", "manufacturing.automotive")),
        "country": draw.choice((None, "DE", "FR")),
        "role": draw.choice((None, "sourced", "influenced")),
        "recorded_at": _later(draw, moment),
        "closed_recorded_at": _later(draw, closed),
    }


def _shares(draw, deals):
    rows = []
    for deal in deals[::3]:
        way = draw.choice(("share", "primary", "equal"))
        for i, partner in enumerate(draw.sample(PARTNERS, draw.randint(1, 3))):
            rows.append(
                {
                    "deal_id": deal["deal_id"],
                    "partner_id": partner,
                    "role": draw.choice((None, "sourced", "influenced")),
                    "is_primary": (i == 0) if way == "primary" else None,
                    "share": draw.choice((0.25, 0.5)) if way == "share" else None,
                }
            )
    return rows


def _deal_history(draw, deals):
    rows = {}
    for deal in deals[::2]:
        for _ in range(draw.randint(0, 3)):
            moment = deal["registered_at"] + draw.choice((0, 1, 20, 90)) * DAY
            rows[deal["deal_id"], moment] = {
                "deal_id": deal["deal_id"],
                "valid_from": moment,
                "amount": draw.choice((None, draw.randint(0, 1_000_000) / 100)),
                "expected_close_at": draw.choice((None, moment + draw.choice((5, 30)) * DAY)),
                "registration_status": draw.choice((None, "pending", "approved")),
            }
    return list(rows.values())


def _certification(draw):
    moment = _moment(draw)
    return {
        "partner_id": draw.choice(PARTNERS[:-1]),
        "certification": draw.choice(("sales", "delivery", "security")),
        "earned_at": moment,
        "expires_at": draw.choice((None, moment + 30 * DAY, moment + 365 * DAY)),
        "revoked_at": draw.choice((None, None, None, moment + 40 * DAY)),
        "recorded_at": _later(draw, moment),
    }


def _history(draw):
    rows = {}
    for _ in range(14):
        partner, moment = draw.choice(PARTNERS[:5]), _moment(draw)
        rows[partner, moment] = {
            "partner_id": partner,
            "valid_from": moment,
            "country": draw.choice((None, "DE", "US")),
            "tier": draw.choice((None, "gold", "silver")),
            "verticals": draw.choice((None, ["retail"], ["manufacturing"])),
        }
    return list(rows.values())
