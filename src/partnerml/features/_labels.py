"""When a partner goes quiet: the label of churn, its maturity, and the time to it for survival models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._calendar import Calendar
from partnerml.features._rows import slot
from partnerml.features._spine import ACTIVITY_SOURCES, largest_lag, partners_table
from partnerml.features._stream import Activity, Codes, days_between, interval, stream

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem


@dataclasses.dataclass(frozen=True)
class ChurnLabel:
    """Churn: a silence of `inactivity_days` that ends within `horizon_days`, or leaving within them.

    T is the first moment from ``as_of + inactivity_days`` on that ends `inactivity_days` without qualifying activity,
    all of them after as_of; or ``left_at`` if earlier.

    Parameters
    ----------
    horizon_days : int
    inactivity_days : int
        At most `horizon_days`.
    activity : Activity
        What qualifies.

    Raises
    ------
    ConfigError
        If the horizon is shorter than the silence: nobody could churn in time.
    """

    horizon_days: int = 90
    inactivity_days: int = 90
    activity: Activity = Activity()  # noqa: RUF009 (a frozen value)

    def __post_init__(self) -> None:
        if self.inactivity_days < 1:
            raise ConfigError(f"inactivity_days must be at least 1, not {self.inactivity_days}")
        if self.horizon_days < self.inactivity_days:
            raise ConfigError(
                f"horizon_days ({self.horizon_days}) is shorter than inactivity_days ({self.inactivity_days}): "
                "no silence could end in time; raise horizon_days or lower inactivity_days"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {
            "horizon_days": self.horizon_days,
            "inactivity_days": self.inactivity_days,
            "activity": self.activity.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ChurnLabel:
        """Return the value that `to_dict` was made from."""
        return cls(state["horizon_days"], state["inactivity_days"], Activity.from_dict(state["activity"]))


def label_tables(eco: Ecosystem) -> tuple[str, ...]:
    """Return the tables that make the label; the largest of their lags delays maturity."""
    tables = [table for table in ACTIVITY_SOURCES if eco.has(table)]
    if eco.has("partners", "left_at"):
        tables.append("partners")
    return tuple(tables)


def churn_labels(
    eco: Ecosystem, label: ChurnLabel, *, spine: ibis.Table, as_of: Sequence[datetime], until: datetime
) -> ibis.Table:
    """Return ``slot``, ``y``, ``duration_days`` and ``observed`` for each row of the spine.

    Parameters
    ----------
    eco : Ecosystem
    label : ChurnLabel
    spine : ibis.Table
    as_of : sequence of datetime
        The moments of the spine, naive UTC, in order.
    until : datetime
        Naive UTC. Rows known at or after it are unseen.
    """
    end = ibis.literal(until, type="timestamp(6)")
    rows = spine.select("slot", "pid", "as_of")
    silences = _silences(eco, label, spine=spine, as_of=as_of, until=until)
    rows = rows.left_join(silences, "slot").drop("slot_right")
    partners = partners_table(eco).select("pid", "left_at")
    rows = rows.left_join(partners, "pid").drop("pid_right")

    silence = ibis.interval(days=label.inactivity_days)
    quiet = rows.next_at.isnull() | (rows.next_at >= rows.as_of + silence)
    ends = quiet.ifelse(rows.as_of + silence, rows.ends_at)
    # leaving is known a lag later, like everything the table says
    left_known = rows.left_at + interval(eco.lag("partners")) < end
    left = (left_known & (rows.left_at >= rows.as_of)).ifelse(rows.left_at, ibis.null("timestamp(6)"))
    horizon = rows.as_of + ibis.interval(days=label.horizon_days)
    churned = (ends <= horizon) | (left < horizon).fill_null(False)
    seen_until = end - interval(largest_lag(eco, label_tables(eco)))
    happened = ibis.least(ends, left.coalesce(ends))
    observed = happened <= seen_until
    stops = ibis.greatest(rows.as_of, ibis.least(happened, seen_until))
    return rows.select(
        "slot",
        y=(horizon <= seen_until).ifelse(churned.cast("float64"), ibis.null("float64")),
        duration_days=days_between(rows.as_of, stops),
        observed=observed,
    )


def _silences(
    eco: Ecosystem, label: ChurnLabel, *, spine: ibis.Table, as_of: Sequence[datetime], until: datetime
) -> ibis.Table:
    """Return for each slot the next activity (``next_at``) and the end of the first silence after one (``ends_at``)."""
    calendar = Calendar.of([*as_of, max(until, as_of[-1])], ())
    known = stream(eco, sources=ACTIVITY_SOURCES, codes=Codes(), activity=label.activity).table
    first, end = (ibis.literal(moment, type="timestamp(6)") for moment in (as_of[0], until))
    known = known.filter(_.qualifies & (_.moment >= first) & (_.seen_at < end)).mutate(day=_.moment.date())
    # nobody else's silences are asked for
    known = known.inner_join(spine.select("partner_id", "pid").distinct(), "partner_id")
    days = calendar.days().select("day", "lo", "hi", "step")
    known = known.inner_join(days, "day")
    if not calendar.at_midnight:
        known = known.filter((_.moment >= _.lo) & (_.moment < _.hi))
    # a silence is at least a day long, so within a day only the first and the last moment matter
    daily = known.group_by("pid", "day", "step").aggregate(first=_.moment.min(), last=_.moment.max())
    order = ibis.window(group_by="pid", order_by="first")
    daily = daily.mutate(following=_.first.lead(1).over(order))
    ends = daily.last + ibis.interval(days=label.inactivity_days)
    daily = daily.mutate(
        ends=(daily.following.isnull() | (daily.following >= ends)).ifelse(ends, ibis.null(ends.type()))
    )
    steps = daily.group_by("pid", "step").aggregate(next_at=_.first.min(), ends_at=_.ends.min())
    # activity of step s lies in [as_of[s - 1], as_of[s]): it comes after the as_ofs below s
    numbers = calendar.moments().select("k")
    grid = daily.select("pid").distinct().cross_join(numbers)
    steps = steps.mutate(k=(_.step - 1).cast("int32"))
    grid = grid.left_join(steps, ["pid", "k"]).drop("pid_right", "k_right", "step")
    from_now_on = ibis.window(group_by="pid", order_by="k", preceding=0, following=None)
    of_spine = Calendar.of(as_of, ())
    grid = grid.mutate(next_at=_.next_at.min().over(from_now_on), ends_at=_.ends_at.min().over(from_now_on))
    grid = grid.filter(_.k < len(as_of))
    return grid.select("next_at", "ends_at", slot=slot(_.pid, _.k, of_spine))
