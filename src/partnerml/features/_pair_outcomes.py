"""What became of deals and of leads that partners were given: the outcomes, once each, and who holds what.

A lead counts once for a partner, with the outcome that was known first: where a deal names the lead it came from, the
assignment and the deal tell the same story.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
from ibis import _

from partnerml.features._stream import MONEY, deal_shares, seen_at
from partnerml.pairs import SIZE_EDGES

if TYPE_CHECKING:
    import pyarrow as pa

    from partnerml.ecosystem import Ecosystem

EXACT = "decimal(38, 0)"  # microseconds: sums of them in any order
MOMENT = "timestamp(6)"
PARTNER, EVERYBODY = "all", "everybody"  # the dimensions of all outcomes of a partner, and of everybody
SUMS = ("closed", "won", "days", "sized", "amount")
REFUSALS = ("declined", "expired", "withdrawn")  # of a lead by a partner
OVER = ("won", "lost", "cancelled")  # how a lead or a deal ends


def open_leads(eco: Ecosystem, pairs: pd.DataFrame) -> np.ndarray:
    """Return how many leads the partner of each pair held open just before it got this one.

    A lead is held from its assignment until it is declined, expires or is withdrawn, or until it is known to have
    closed, by the assignment or by a deal that came of it. An end that has no date is taken to be at once.

    Parameters
    ----------
    eco : Ecosystem
    pairs : DataFrame
        ``partner_id`` and ``assigned_at`` (naive UTC).
    """
    held = _held(eco)
    moved = ibis.union(
        held.select("partner_id", moment=_.assigned_at, number=-1, step=1),
        held.filter(_given(_.released_at)).select("partner_id", moment=_.released_at, number=-1, step=-1),
    )
    asked = asked_table(
        pd.DataFrame(
            {
                "partner_id": pairs["partner_id"].to_numpy(),
                "moment": pairs["assigned_at"].to_numpy(),
                "number": np.arange(len(pairs)),
            }
        ),
        {"partner_id": "string", "moment": MOMENT, "number": "int64"},
    )
    moved = moved.semi_join(asked, "partner_id").mutate(number=_.number.cast("int64"), step=_.step.cast("int64"))
    both = ibis.union(moved, asked.mutate(step=ibis.literal(0, type="int64")).select(moved.columns))
    both = both.mutate(asks=(_.number >= 0).ifelse(0, 1))  # what happens at that very moment is not known yet
    so_far = ibis.window(group_by="partner_id", order_by=["moment", "asks"], preceding=None, following=0)
    counted = both.mutate(held=_.step.sum().over(so_far).cast("float64")).filter(_.number >= 0)
    found = eco.backend.to_pyarrow(counted.select("number", "held")).to_pandas().sort_values("number")
    held_open: np.ndarray = found["held"].to_numpy()
    return held_open


def held_leads(eco: Ecosystem, *, as_of: datetime) -> pa.Table | None:
    """Return which leads partners hold open just before a moment, as `open_leads` counts them.

    Parameters
    ----------
    eco : Ecosystem
    as_of : datetime
        Naive UTC.

    Returns
    -------
    pyarrow.Table or None
        ``lead_id`` and ``partner_id``; None where no table tells how leads end: all of them would be held for ever.
    """
    if not eco.has("assignments", "outcome") and not eco.has("deals", "closed_at", "lead_id"):
        return None
    held = _held(eco)
    held = held.filter((_.assigned_at < as_of) & ~(_.released_at < as_of).fill_null(False))
    return eco.backend.to_pyarrow(held.select("lead_id", "partner_id").distinct())


def _held(eco: Ecosystem) -> ibis.Table:
    """Return ``lead_id``, ``partner_id``, ``assigned_at`` and ``released_at`` (null while open) of assignments."""
    rows = eco.table("assignments")
    rows = rows.select("lead_id", "partner_id", "assigned_at", *(c for c in _OF_HOLDING if c in rows.columns))
    never = ibis.null(MOMENT)
    ends = []
    if "response" in rows.columns:
        refused = rows.response.isin(REFUSALS)
        answered = rows.responded_at.coalesce(rows.assigned_at) if "responded_at" in rows.columns else rows.assigned_at
        ends.append(refused.fill_null(False).ifelse(answered, never))
    if "outcome" in rows.columns:
        closed = rows.outcome.isin(OVER).fill_null(False)
        known_at = rows.assigned_at
        if "closed_at" in rows.columns:
            known_at = seen_at(eco, "assignments", rows, "closed_at", "closed_recorded_at").coalesce(rows.assigned_at)
        ends.append(closed.ifelse(known_at, never))
    deals = _deals(eco)
    if deals is not None:
        first = deals.filter(_given(_.lead_id)).group_by("partner_id", "lead_id").aggregate(deal_at=_.seen_at.min())
        rows = rows.mutate(**{f"end_{i}": end for i, end in enumerate(ends)}).left_join(
            first, ["partner_id", "lead_id"]
        )
        ends = [*(rows[f"end_{i}"] for i in range(len(ends))), rows.deal_at]
    far = ibis.literal(datetime(9999, 1, 1), type=MOMENT)  # noqa: DTZ001 (naive UTC, as inside the engine)
    end = ibis.least(far, *(e.coalesce(far) for e in ends)) if ends else far
    # nothing is released before it was given
    end = ibis.greatest(end, rows.assigned_at)
    return rows.select("lead_id", "partner_id", "assigned_at", released_at=(end < far).ifelse(end, never))


_OF_HOLDING = ("response", "responded_at", "outcome", "closed_at", "closed_recorded_at")


def ended_deals(eco: Ecosystem) -> ibis.Table | None:
    """Return the deals that were won, lost or cancelled, one row for each partner on them; None if no date tells.

    ``seen_at`` is when both the deal and its end were on record.
    """
    if not eco.has("deals", "closed_at"):
        return None
    deals = deal_shares(eco)
    ended = deals.filter(_given(deals.closed_at) & deals.outcome.isin(OVER))
    registered = seen_at(eco, "deals", ended, "registered_at")
    closed = seen_at(eco, "deals", ended, "closed_at", "closed_recorded_at")
    return ended.mutate(seen_at=ibis.greatest(registered, closed))


def _deals(eco: Ecosystem) -> ibis.Table | None:
    """Return the ends of deals as those of assignments are told."""
    closed = ended_deals(eco)
    if closed is None:
        return None
    return closed.select(
        "partner_id",
        lead_id=column(closed, "lead_id", "string"),
        seen_at=closed.seen_at,
        source=ibis.literal(0, type="int8"),
        id=closed.deal_id,
        outcome=closed.outcome,
        time=_span(closed.registered_at, closed.closed_at),
        amount=column(closed, "amount", "float64"),
        vertical=column(closed, "vertical", "string"),
        country=column(closed, "country", "string"),
    )


def _assignments(eco: Ecosystem) -> ibis.Table | None:
    """Return the ends of assignments, with what the lead says of vertical, country and amount."""
    if not eco.has("assignments", "outcome", "closed_at"):
        return None
    made = eco.table("assignments")
    made = made.filter(_given(made.closed_at) & made.outcome.isin(OVER))
    seen = ibis.greatest(made.assigned_at, seen_at(eco, "assignments", made, "closed_at", "closed_recorded_at"))
    made = made.select(
        "partner_id",
        "lead_id",
        "outcome",
        seen_at=seen,
        id=made.assigned_at.cast("string"),
        time=_span(made.assigned_at, made.closed_at),
        final=column(made, "amount", "float64"),
    )
    if eco.has("leads"):
        leads = eco.table("leads")
        about = {"vertical": "string", "country": "string", "amount": "float64"}
        leads = leads.select("lead_id", **{name: column(leads, name, type_) for name, type_ in about.items()})
        made = made.left_join(leads, "lead_id")
    else:
        made = made.mutate(vertical=ibis.null("string"), country=ibis.null("string"), amount=ibis.null("float64"))
    source = ibis.literal(1, type="int8")
    # the size of a lead is what it said when it came, like that of the lead to be routed
    return made.select(
        "partner_id",
        "lead_id",
        "seen_at",
        source=source,
        id=made.id,
        outcome=made.outcome,
        time=made.time,
        amount=made.amount.coalesce(made.final),
        vertical=made.vertical,
        country=made.country,
    )


def _outcomes(eco: Ecosystem) -> ibis.Table | None:
    """Return what was won and lost, each lead of a partner once; None if no table tells."""
    parts = [part for part in (_deals(eco), _assignments(eco)) if part is not None]
    if not parts:
        return None
    ends = parts[0] if len(parts) == 1 else ibis.union(*parts)
    of_lead = ibis.window(group_by=["partner_id", "lead_id"], order_by=["seen_at", "source", "outcome", "id"])
    of_leads = ends.filter(_given(_.lead_id)).mutate(nth=ibis.row_number().over(of_lead)).filter(_.nth == 0)
    once = ibis.union(of_leads.drop("nth"), ends.filter(~_given(_.lead_id)))
    return once.filter(_.outcome != "cancelled")


def outcome_cells(eco: Ecosystem) -> ibis.Table | None:
    """Return the outcomes once for each cell that they count in, with what is summed."""
    ends = _outcomes(eco)
    if ends is None:
        return None
    won = ends.outcome == "won"
    ends = ends.mutate(
        vertical=ends.vertical.strip().lower(),
        closed=ibis.literal(1.0),
        won=won.cast("float64"),
        days=won.ifelse(ends.time, 0).cast(EXACT),
        sized=(won & _given(ends.amount)).cast("float64"),
        paid=won.ifelse(ends.amount.fill_null(0.0), 0.0).cast(MONEY),
    )
    kinds = ibis.memtable(
        pd.DataFrame(
            {"kind": np.arange(6), "dimension": [PARTNER, EVERYBODY, "vertical", "vertical", "country", "size"]}
        ),
        schema={"kind": "int64", "dimension": "string"},
    )
    ends = ends.cross_join(kinds)
    values = ibis.cases(
        (ends.kind <= 1, ibis.literal("")),
        (ends.kind == 2, ends.vertical.contains(".").ifelse(ends.vertical.split(".")[0], ibis.literal(""))),
        (ends.kind == 3, ends.vertical),
        (ends.kind == 4, ends.country),
        (_given(ends.amount), _band(ends.amount).cast("string")),
    )
    who = (ends.dimension == EVERYBODY).ifelse("", ends.partner_id)
    sums = {**{name: ends[name] for name in SUMS if name != "amount"}, "amount": ends.paid}
    cells = ends.select(
        partner_id=who, dimension=ends.dimension, value=values, seen_at=ends.seen_at, kind=ends.kind, **sums
    )
    # what a row does not say is in no cell
    return cells.filter((_.kind <= 1) | (_.value != "")).drop("kind")


def _band(amount: Any) -> Any:
    """Return the number of the band of sizes, as `partnerml.pairs.size_band` does."""
    return sum((amount >= edge).cast("int64") for edge in SIZE_EDGES)


def asked_table(frame: pd.DataFrame, types: Mapping[str, str]) -> ibis.Table:
    """Return rows in memory as a table."""
    return ibis.memtable(frame.reset_index(drop=True), schema=dict(types))


def column(rows: ibis.Table, name: str, type_: str) -> Any:
    """Return a column, null where the table lacks it."""
    return rows[name] if name in rows.columns else ibis.null(type_)


def _given(value: Any) -> Any:
    return value.notnull()  # noqa: PD004 (an Ibis column)


def _span(begin: Any, end: Any) -> Any:
    return end.delta(begin, unit="microsecond").cast("int64")
