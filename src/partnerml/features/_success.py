"""The first success of a partner after joining: the label of fit, its maturity, and the time to it.

A success is a won deal, whichever of its partners one is, or the won deal with which a partner's own share of won
revenue reaches an amount. What was won before joining counts as a success on day 0: there was nothing left to predict.
A partner that leaves without success never has one; it is followed on like any other and is not taken for censored,
because leaving is one of the ways not to succeed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._spine import largest_lag, naive_utc
from partnerml.features._stream import Activity, Codes, days_between, interval, seen_at, stream
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem


@dataclasses.dataclass(frozen=True)
class Joining:
    """The population of fit: partners with a joining date, and recruits, each once, as they were at joining."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON: there is nothing to choose."""
        return {}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Joining:
        """Return the value that `to_dict` was made from."""
        return cls(**state)

    @property
    def words(self) -> str:
        """Who belongs, in words."""
        return "partners with a joining date, and recruits"


@dataclasses.dataclass(frozen=True)
class SuccessLabel:
    """Fit: the first success at most `success_days` after joining.

    Parameters
    ----------
    success_days : int
        How long a partner has for it.
    success_amount : float or None
        None: any won deal is a success. Else the success is the won deal with which the partner's share of won
        revenue, summed up over all of its deals in order of closing, reaches this amount.

    Raises
    ------
    ConfigError
        If one of them is not above 0.
    """

    success_days: int = 365
    success_amount: float | None = None

    def __post_init__(self) -> None:
        if self.success_days < 1:
            raise ConfigError(f"success_days must be at least 1, not {self.success_days}")
        if self.success_amount is not None and not 0 < self.success_amount < math.inf:
            raise ConfigError(
                f"success_amount must be above 0, not {self.success_amount}; leave it out where any won deal counts"
            )

    @property
    def horizon_days(self) -> int:
        """How far ahead of joining the label looks."""
        return self.success_days

    @property
    def words(self) -> str:
        """What a success is, in words."""
        if self.success_amount is None:
            return f"a won deal within {self.success_days} days of joining"
        return f"won revenue of {self.success_amount:,.0f} within {self.success_days} days of joining"

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {"success_days": self.success_days, "success_amount": self.success_amount}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> SuccessLabel:
        """Return the value that `to_dict` was made from."""
        return cls(**state)


def success_tables(eco: Ecosystem) -> tuple[str, ...]:
    """Return the tables that make the label; the largest of their lags delays maturity."""
    return tuple(table for table in ("partners", "recruits", "deals", "deal_partners") if eco.has(table))


def first_deal(eco: Ecosystem, *, until: Moment | None = None) -> datetime | None:
    """Return the moment (zoned UTC) of the first registered deal, None if there is none.

    Who joined before the deals began may have had successes that are not on record.

    Parameters
    ----------
    eco : Ecosystem
    until : moment, optional
        What was recorded at or after it is unseen, however long ago it happened.
    """
    if not eco.has("deals"):
        return None
    deals = eco.table("deals")
    if until is not None:
        seen = seen_at(eco, "deals", deals, "registered_at")
        deals = deals.filter(seen < ibis.literal(naive_utc(until), type="timestamp(6)"))
    first = eco.backend.execute(deals.registered_at.min())
    return None if pd.isna(first) else pd.Timestamp(first).to_pydatetime().replace(tzinfo=UTC)


def success_labels(eco: Ecosystem, label: SuccessLabel, *, rows: ibis.Table, until: datetime) -> ibis.Table:
    """Return ``partner_id``, ``y``, ``duration_days`` and ``observed`` for each of some rows.

    Parameters
    ----------
    eco : Ecosystem
    label : SuccessLabel
    rows : ibis.Table
        ``partner_id`` and ``as_of``, the moment of joining.
    until : datetime
        Naive UTC. Rows known at or after it are unseen.
    """
    seen_until = ibis.literal(until, type="timestamp(6)") - interval(largest_lag(eco, success_tables(eco)))
    rows = rows.select("partner_id", "as_of")
    rows = rows.left_join(first_successes(eco, label, until=until), "partner_id").drop("partner_id_right")
    # of a null, `greatest` would say the other one
    happened = rows.success_at.isnull().ifelse(  # noqa: PD003 (an Ibis column)
        ibis.null("timestamp(6)"), ibis.greatest(rows.success_at, rows.as_of)
    )
    observed = (happened <= seen_until).fill_null(False)
    stops = observed.ifelse(happened, ibis.greatest(rows.as_of, seen_until))
    horizon = rows.as_of + ibis.interval(days=label.success_days)
    succeeded = (observed & (happened <= horizon)).fill_null(False)
    return rows.select(
        "partner_id",
        # the horizon counts, and what happens at seen_until is not seen yet
        y=(horizon < seen_until).ifelse(succeeded.cast("float64"), ibis.null("float64")),
        duration_days=days_between(rows.as_of, stops),
        observed=observed,
    )


def first_successes(eco: Ecosystem, label: SuccessLabel, *, until: datetime) -> ibis.Table:
    """Return ``partner_id`` and ``success_at`` of those whose success was seen before a moment."""
    codes = Codes()
    (won,) = codes.of("deals", "won")
    deals = stream(eco, sources=("deals",), codes=codes, activity=Activity()).table
    deals = deals.filter((_.code == won) & (_.seen_at < ibis.literal(until, type="timestamp(6)")))
    if label.success_amount is not None:
        # deals that close at one moment reach the amount together
        deals = deals.group_by("partner_id", "moment").aggregate(value=_.value.sum())
        so_far = ibis.window(group_by="partner_id", order_by="moment", preceding=None, following=0)
        deals = deals.mutate(total=_.value.sum().over(so_far).cast("float64"))
        deals = deals.filter(_.total >= label.success_amount)
    return deals.group_by("partner_id").aggregate(success_at=_.moment.min())
