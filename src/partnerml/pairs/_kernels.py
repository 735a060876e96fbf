"""The features of pairs: one kernel each, for one lead with many partners or for many pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from partnerml.errors import ConfigError
from partnerml.pairs._arrays import NOTHING, Bools, Floats, Lists, Tally
from partnerml.pairs._facts import DIMENSIONS, PartnerFacts, Territories
from partnerml.pairs._leads import Leads, Wants
from partnerml.pairs._maths import chord, distance_km, shrunken


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Which lead meets which row of the facts.

    Parameters
    ----------
    leads : Leads
    facts : PartnerFacts
    lead : int or array of int
        One lead for all rows, or one for each.
    row : array of int or slice
    open_leads : array of shape (n,), or None
        How many leads the partner of each pair holds open at that moment; only the load needs it.
    """

    leads: Leads
    facts: PartnerFacts
    lead: Any
    row: Any
    open_leads: Floats | None = None

    @property
    def n(self) -> int:
        """How many pairs there are."""
        return len(self.facts) if isinstance(self.row, slice) else len(self.row)

    def features(self, names: Sequence[str]) -> Floats:
        """Return the features by name, shape (n, p).

        Raises
        ------
        ConfigError
            If there is no such feature, or the open leads that it needs were not given.
        """
        unknown = [name for name in names if name not in FEATURES]
        if unknown:
            raise ConfigError(f"pairs: no feature {unknown[0]!r}; there are {', '.join(FEATURES)}")
        found = np.empty((self.n, len(names)))
        for i, name in enumerate(names):
            found[:, i] = FEATURES[name](self)
        return found

    @functools.cached_property
    def distance_km(self) -> Floats:
        """How far partners are from customers, shape (n,): two features tell it, and it is found once."""
        return distance_km(self.facts.point[:, self.row], _lead_point(self))

    def tallies(self, dimension: str) -> tuple[Tally, ...]:
        """Return the tallies in a dimension, from the general to the particular; looked up once."""
        if dimension not in self._looked_up:
            codes, cells = self.leads.cells[dimension][self.lead], self.facts.record.cells[dimension]
            levels = range(codes.shape[-1])
            self._looked_up[dimension] = tuple(cells.at(codes[..., level], self.row) for level in levels)
        return self._looked_up[dimension]

    @functools.cached_property
    def _looked_up(self) -> dict[str, tuple[Tally, ...]]:
        return {}


def routing_pairs(
    lead: Mapping[str, Any], facts: PartnerFacts, open_leads: Any, names: Sequence[str], *, rows: Any = slice(None)
) -> Floats:
    """Return the features of one lead with partners, as training would have built them.

    Parameters
    ----------
    lead : mapping
        Columns of ``leads``; what is absent is unknown.
    facts : PartnerFacts
        All partners at 00:00 UTC of the day.
    open_leads : array of shape (n,), or None
        How many leads each of those partners holds open now; None if no name is about the load.
    names : sequence of str
        Of `FEATURES`.
    rows : array of int, shape (n,), optional
        Which rows of the facts; all by default.

    Returns
    -------
    array of float64, shape (n, len(names))
    """
    encoded = Leads.of({name: [value] for name, value in lead.items()}, facts, n=1)
    held = None if open_leads is None else np.asarray(open_leads, dtype=np.float64)
    return Pairing(encoded, facts, 0, rows, held).features(names)


def _lead_point(p: Pairing) -> Floats:
    point: Floats = p.leads.point[:, p.lead]
    return point[:, None] if point.ndim == 1 else point


def _place_level(p: Pairing) -> Any:
    lead, facts = p.leads, p.facts
    country, region, area = (codes[p.row] for codes in (facts.country, facts.region, facts.area))
    near = np.where((region >= 0) & (region == lead.region[p.lead]), 2.0, 1.0)
    near = np.where((area >= 0) & (area == lead.area[p.lead]), 3.0, near)
    level = np.where(country == lead.country[p.lead], near, 0.0)
    return np.where((country == NOTHING) | (lead.country[p.lead] == NOTHING), np.nan, level)


def areas_hold(leads: Leads, areas: Territories, lead: Any, at: Any) -> Bools:
    """Return which rows of territories hold a lead: one lead for all of them, or one for each."""
    holds: Bools = (areas.country[at] == NOTHING) | (areas.country[at] == leads.country[lead])
    holds &= (areas.region[at] == NOTHING) | (areas.region[at] == leads.region[lead])
    holds &= (areas.prefix[at] == NOTHING) | (areas.prefix[at] == leads.postal[lead, areas.length[at]])
    point = leads.point[:, lead]
    near = chord(areas.point[:, at], point[:, None] if point.ndim == 1 else point) <= areas.chord[at]
    holds &= ~areas.circle[at] | near
    inner = areas.verticals.rows.at(at)
    asked = leads.covered[inner.each(leads.vertical[lead]), areas.verticals.item[inner.position]]
    holds &= inner.fold(asked, np.logical_or, empty=True)
    return holds


def _territory_level(p: Pairing) -> Any:
    """Return the level of the most particular row that holds the lead; 0 if none does, NaN without rows."""
    areas = p.facts.territories
    part = areas.rows.at(p.row)
    holds = areas_hold(p.leads, areas, part.each(p.lead), part.position)
    return part.fold(np.where(holds, areas.level[part.position], 0.0), np.maximum, empty=np.nan)


def _similarity(p: Pairing) -> Any:
    part = p.facts.verticals.rows.at(p.row)
    alike = p.leads.similarity[part.each(p.leads.vertical[p.lead]), p.facts.verticals.item[part.position]]
    return part.fold(alike, np.maximum, empty=np.nan)


def _coverage(lists: Lists, wants: Wants, p: Pairing) -> Any:
    """Return which share of what the lead asks for is in the list of the partner; NaN if it asks for nothing."""
    part, which = lists.rows.at(p.row), wants.which[p.lead]
    hits = wants.wanted[part.each(which), lists.item[part.position]].astype(np.float64)
    return part.fold(hits, np.add, empty=0.0) / wants.count[which]


def _languages(p: Pairing) -> Any:
    unknown = p.facts.languages.rows.at(p.row).count == 0
    return np.where(unknown, np.nan, _coverage(p.facts.languages, p.leads.languages, p))


def _certifications(p: Pairing) -> Any:
    return _coverage(p.facts.certifications, p.leads.required, p)


def _own(p: Pairing) -> Any:
    """Return 1 where the partner itself handed the lead in.

    Else 0, never NaN: where leads of partners went to nobody else, a model takes another partner for this one.
    """
    return p.facts.partner[p.row] == p.leads.source[p.lead]


def _given_km(p: Pairing) -> Any:
    """Return the distance of leads that partners did not hand in themselves, else NaN.

    Who brings a customer knows it already, however far away it is. Few pairs are so, and fewer of them far: without a
    column that says it, trees hardly find out that distance counts in all others alone.
    """
    return np.where(_own(p), np.nan, p.distance_km)


def _log_ratio(p: Pairing) -> Any:
    amount = p.facts.record.mean_amount[p.row]
    return np.log(p.leads.amount[p.lead] / np.where(amount > 0, amount, np.nan))


def _open_leads(p: Pairing) -> Any:
    if p.open_leads is None:
        raise ConfigError("pairs: the features of the load need the number of open leads of each partner; give it")
    return p.open_leads


def _load(p: Pairing) -> Any:
    limit = p.facts.limit[p.row]
    return _open_leads(p) / np.where(limit > 0, limit, np.nan)


def _of_everything(p: Pairing, measure: str) -> Any:
    record = p.facts.record
    values = {"win_rate": record.rate, "cycle_days": record.days, "count": record.own.closed, "won": record.own.won}
    return values[measure][p.row]


def _in(dimension: str, p: Pairing, measure: str) -> Any:
    """Return a measure of the partner's deals and leads in one dimension; NaN where the lead does not say."""
    tallies = p.tallies(dimension)
    if measure == "count":
        value = tallies[-1].closed
    elif measure == "won":
        value = tallies[-1].won
    elif measure == "win_rate":
        value = functools.reduce(lambda prior, t: shrunken(t.won, t.closed, prior), tallies, p.facts.record.rate[p.row])
    else:
        value = functools.reduce(lambda prior, t: shrunken(t.days, t.won, prior), tallies, p.facts.record.days[p.row])
    return np.where(p.leads.cells[dimension][p.lead, -1] == NOTHING, np.nan, value)


LIVE_FEATURES = ("pair__load__open_leads__live", "pair__load__share__live")
OUTCOME_MEASURES = ("win_rate", "cycle_days", "count", "won")
FEATURES: Mapping[str, Callable[[Pairing], Any]] = MappingProxyType(
    {
        "pair__place__distance_km__asof": lambda p: p.distance_km,
        "pair__place__given_km__asof": _given_km,
        "pair__place__level__asof": _place_level,
        "pair__territory__level__asof": _territory_level,
        "pair__vertical__similarity__asof": _similarity,
        "pair__language__coverage__asof": _languages,
        "pair__certification__coverage__asof": _certifications,
        "pair__source__own__asof": _own,
        "pair__all__tenure_days__asof": lambda p: p.facts.tenure[p.row],
        "pair__size__log_ratio__ever": _log_ratio,
        **{f"pair__all__{m}__ever": functools.partial(_of_everything, measure=m) for m in OUTCOME_MEASURES},
        **{f"pair__{d}__{m}__ever": functools.partial(_in, d, measure=m) for d in DIMENSIONS for m in OUTCOME_MEASURES},
        "pair__load__open_leads__live": _open_leads,
        "pair__load__share__live": _load,
    }
)
