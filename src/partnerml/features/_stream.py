"""One long stream of what partners did: events, deals registered, won and lost, certifications earned.

Every row has the moment it happened and the moment from which it could be *seen*: it is visible at as_of if and
only if ``seen_at < as_of``, where seen_at is the later of the moment and of when it was recorded (else the moment
plus the table's declared lag).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ibis
from ibis import _

from partnerml.errors import ConfigError

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

KINDS: Mapping[str, tuple[str, ...]] = {
    "deals": ("registered", "won", "lost"),
    "certifications": ("earned",),
    "activity": (),
    "partners": (),
}
OTHER = "other"
MONEY = "decimal(38, 6)"  # sums of decimals do not depend on the order of the rows, nor on the threads
_QUALIFYING_DEALS = ("registered", "won")


@dataclasses.dataclass(frozen=True)
class Activity:
    """What counts as qualifying activity: the partner's own events, deals registered and deals won, narrowed.

    Parameters
    ----------
    include : tuple of str
        Only these; empty means all of them. An item is a source (``events``, ``deals``), a kind of a source
        (``events.portal_login``, ``deals.won``), or an event type (``portal_login``).
    exclude : tuple of str
        Not these; wins over `include`.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "include", tuple(self.include))
        object.__setattr__(self, "exclude", tuple(self.exclude))
        for item in (*self.include, *self.exclude):
            source, dot, kind = item.partition(".")
            if dot and (source not in ("events", "deals") or not kind):
                raise ConfigError(f"activity: {item!r} is not known; write events.TYPE, deals.registered or deals.won")
            if source == "deals" and dot and kind not in _QUALIFYING_DEALS:
                raise ConfigError(f"activity: {item!r} never qualifies; of deals, registered and won do")

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {"include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Activity:
        """Return the value that `to_dict` was made from."""
        return cls(tuple(state.get("include", ())), tuple(state.get("exclude", ())))

    def deals(self) -> tuple[str, ...]:
        """Return the kinds of deals that qualify."""
        return tuple(kind for kind in _QUALIFYING_DEALS if self._takes("deals", kind))

    def all_events(self) -> bool:
        """Whether events qualify unless their type is excluded by name."""
        return not self.include or "events" in self.include

    def events(self, type_: ibis.Value) -> ibis.Value:
        """Return the condition on the type of an event; who acted is the stream's business."""
        if "events" in self.exclude:
            return ibis.literal(False)
        named = _event_types(self.include)
        excluded = _event_types(self.exclude)
        included = ibis.literal(True) if self.all_events() else _isin(type_, named)
        return included & ~_isin(type_, excluded) if excluded else included

    def _takes(self, source: str, kind: str) -> bool:
        both = (source, f"{source}.{kind}")
        return (not self.include or any(item in self.include for item in both)) and not any(
            item in self.exclude for item in both
        )


def _event_types(items: Sequence[str]) -> tuple[str, ...]:
    """Return the event types that items name."""
    types = (item.removeprefix("events.") for item in items if item not in ("events", "deals"))
    return tuple(type_ for type_ in types if not type_.startswith("deals."))


def _isin(type_: ibis.Value, types: Sequence[str]) -> ibis.Value:
    return type_.isin(types) if types else ibis.literal(False)


@dataclasses.dataclass(frozen=True)
class Codes:
    """The small integers that stand for the kinds of rows: one byte in the stream instead of a text.

    Parameters
    ----------
    event_types : tuple of str
        Event types 0, 1, ...; all other types share the number after the last.
    """

    event_types: tuple[str, ...] = ()

    @property
    def other(self) -> int:
        """The code of every event type that is not in the list."""
        return len(self.event_types)

    def of(self, source: str, kind: str) -> tuple[int, ...]:
        """Return the codes of a series; ``activity`` has none, it is a flag."""
        if source == "events":
            if kind == "all":
                return tuple(range(self.other + 1))
            return (self.other if kind == OTHER else self.event_types.index(kind),)
        names = [(s, k) for s in ("deals", "certifications") for k in KINDS[s]]
        return tuple(self.other + 1 + i for i, (s, k) in enumerate(names) if s == source and kind in ("all", k))


@dataclasses.dataclass(frozen=True)
class Stream:
    """The rows, and whether any of them can be seen later than it happened.

    Attributes
    ----------
    table : ibis.Table
        ``partner_id``, ``moment``, ``seen_at`` (naive UTC), ``code`` (int8), ``qualifies`` (boolean), ``value``.
    late : bool
        False if seen_at is always the moment.
    sources : tuple of str
        What it is made of.
    """

    table: ibis.Table
    late: bool
    sources: tuple[str, ...] = ()


def stream(eco: Ecosystem, *, sources: Sequence[str], codes: Codes, activity: Activity) -> Stream:
    """Return one table of what partners did, over the sources that exist.

    Parameters
    ----------
    eco : Ecosystem
    sources : sequence of str
        Of ``events``, ``deals``, ``certifications``; those that the ecosystem lacks are left out.
    codes : Codes
    activity : Activity
    """
    makers = {"events": _events, "deals": _deals, "certifications": _certifications}
    parts: list[ibis.Table] = []
    late = False
    there = tuple(source for source in dict.fromkeys(sources) if eco.has(source))
    for source in there:
        parts.extend(makers[source](eco, codes, activity))
        late = late or eco.lag(source) > timedelta(0) or eco.has(source, "recorded_at")
        late = late or (source == "deals" and eco.has(source, "closed_recorded_at"))
    if not parts:
        return Stream(_empty(), late=False)
    return Stream(parts[0] if len(parts) == 1 else ibis.union(*parts), late, there)


def _events(eco: Ecosystem, codes: Codes, activity: Activity) -> list[ibis.Table]:
    events = eco.table("events")
    type_ = events.event_type
    branches = [(type_ == name, i) for i, name in enumerate(codes.event_types)]
    code = ibis.cases(*branches, else_=codes.other) if branches else ibis.literal(codes.other)
    qualifies = activity.events(type_)
    if eco.has("events", "actor"):
        qualifies = qualifies & (events.actor.fill_null("partner") == "partner")
    value = events.value if eco.has("events", "value") else ibis.null("float64")
    return [_rows(events, events.occurred_at, seen_at(eco, "events", events, "occurred_at"), code, qualifies, value)]


def _certifications(eco: Ecosystem, codes: Codes, activity: Activity) -> list[ibis.Table]:
    rows = eco.table("certifications")
    (code,) = codes.of("certifications", "earned")
    seen = seen_at(eco, "certifications", rows, "earned_at")
    return [_rows(rows, rows.earned_at, seen, ibis.literal(code), ibis.literal(False), ibis.null("float64"))]


def _deals(eco: Ecosystem, codes: Codes, activity: Activity) -> list[ibis.Table]:
    deals = deal_shares(eco)
    deals = deals.mutate(seen_registered=seen_at(eco, "deals", deals, "registered_at"))
    nothing = ibis.null("float64")
    kinds = KINDS["deals"]
    parts = []
    if eco.has("deals", "closed_at"):
        closed = deals.filter(~deals.closed_at.isnull())
        seen_closed = seen_at(eco, "deals", closed, "closed_at", "closed_recorded_at")
        # a deal that was entered after it closed cannot be seen as closed before it was entered
        closed = closed.mutate(seen_closed=ibis.greatest(closed.seen_registered, seen_closed))
        for kind in kinds[1:]:
            rows = closed.filter(_.outcome == kind)
            amount = rows.amount * rows.share if eco.has("deals", "amount") else nothing
            parts.append((kind, rows, rows.closed_at, rows.seen_closed, amount))
    parts.insert(0, (kinds[0], deals, deals.registered_at, deals.seen_registered, nothing))
    qualifying = activity.deals()
    return [
        _rows(rows, moment, seen, ibis.literal(codes.of("deals", kind)[0]), ibis.literal(kind in qualifying), value)
        for kind, rows, moment, seen, value in parts
    ]


def deal_shares(eco: Ecosystem) -> ibis.Table:
    """Return one row for each deal and partner on it, with the partner's ``share`` of its revenue.

    By share where any row of the deal has one, else all to the primary, else equally; a deal without rows in
    ``deal_partners`` has the one partner of ``deals``. Direct deals have no row.
    """
    deals = eco.table("deals")
    own = deals if eco.has("deals", "partner_id") else deals.mutate(partner_id=ibis.null("string"))
    if not eco.has("deal_partners"):
        return own.filter(own.partner_id.notnull()).mutate(share=1.0)
    pairs = eco.table("deal_partners")
    zero = ibis.literal(0.0)
    given = pairs.share if eco.has("deal_partners", "share") else ibis.null("float64")
    primary = pairs.is_primary if eco.has("deal_partners", "is_primary") else ibis.null("boolean")
    pairs = pairs.select("deal_id", "partner_id", given=given, primary=primary.fill_null(False))
    of_deal = ibis.window(group_by="deal_id")
    pairs = pairs.mutate(
        any_given=_.given.count().over(of_deal) > 0,
        primaries=_.count(where=_.primary).over(of_deal),
        rows=_.count().over(of_deal),
    )
    weight = ibis.cases(
        (pairs.any_given, pairs.given.fill_null(zero)),
        (pairs.primaries > 0, pairs.primary.ifelse(1.0 / pairs.primaries.cast("float64"), zero)),
        else_=1.0 / pairs.rows.cast("float64"),
    )
    pairs = pairs.select("deal_id", "partner_id", share=weight.cast("float64"))
    shared = deals.drop("partner_id") if "partner_id" in deals.columns else deals
    shared = shared.inner_join(pairs, "deal_id").select(*own.columns, "share")
    alone = own.filter(own.partner_id.notnull()).anti_join(pairs, "deal_id").mutate(share=1.0)
    return ibis.union(shared, alone.select(shared.columns))


def seen_at(eco: Ecosystem, source: str, rows: ibis.Table, moment: str, recorded: str = "recorded_at") -> ibis.Value:
    """Return from when a row can be seen: its recording, else its moment plus the lag; never before its moment."""
    lag = eco.lag(source)
    known = rows[moment] + interval(lag) if lag else rows[moment]
    if eco.has(source, recorded):
        known = ibis.greatest(rows[moment], rows[recorded].fill_null(known))
    return known


def microseconds(span: timedelta) -> int:
    """Return a span in whole microseconds."""
    return span // timedelta(microseconds=1)


def interval(span: timedelta) -> Any:
    """Return a span, such as the lag of a table, as the engine adds it to moments."""
    return ibis.interval(microseconds=microseconds(span))


def days_between(begin: Any, end: Any) -> Any:
    """Return the days, with their fraction, from one moment to another."""
    return end.delta(begin, unit="microsecond").cast("float64") / 86_400_000_000.0


def _rows(
    rows: ibis.Table, moment: ibis.Value, seen: ibis.Value, code: ibis.Value, qualifies: ibis.Value, value: ibis.Value
) -> ibis.Table:
    return rows.select(
        partner_id=rows.partner_id,
        moment=moment,
        seen_at=seen,
        code=code.cast("int8"),
        qualifies=qualifies.cast("boolean"),
        value=value.cast(MONEY),
    )


def _empty() -> ibis.Table:
    schema = {
        "partner_id": "string",
        "moment": "timestamp(6)",
        "seen_at": "timestamp(6)",
        "code": "int8",
        "qualifies": "boolean",
        "value": MONEY,
    }
    return ibis.memtable([], schema=schema)
