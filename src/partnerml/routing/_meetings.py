"""What partners have to do with a lead: the features of pairs, with what depends on one word of the lead remembered."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from partnerml.pairs import FEATURES, Leads, OneLead, Pairing, PartnerFacts, areas_hold, band_of, chord
from partnerml.routing._index import Postings, place_code
from partnerml.routing._remembered import Memory, Sized
from partnerml.routing._situation import lead_columns

if TYPE_CHECKING:
    from partnerml.routing._situation import Situation

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = Mapping[str, Any]
Made = TypeVar("Made", bound=Sized)

# kinds of features that depend on few columns of the lead, each with few values
_OF_WORDS: Mapping[str, tuple[str, ...]] = {
    "vertical": ("vertical",),
    "country": ("country", "region"),
    "size": ("amount",),
    "language": ("languages",),
    "certification": ("required_certifications",),
}
_TERRITORY = "pair__territory__level__asof"
_SOURCE, _GIVEN = "pair__source__own__asof", "pair__place__given_km__asof"
_SIZES = "pair__size__log_ratio__ever"  # of the amount itself, not of its band


class _Areas:
    """The territories of known partners, by their places."""

    def __init__(self, known: PartnerFacts) -> None:
        areas, count = known.territories, known.territories.rows.everything.count
        self.n, self._areas, self._but_circles = len(known), areas, areas.without_circles()
        self._by_place = Postings.of(place_code(areas.country, areas.region))
        self._partner = np.repeat(np.arange(self.n), count)
        self.without = count == 0

    def levels(self, lead: Leads) -> _Levels:
        """Return the levels of the rows that hold the leads of a place and a vertical."""
        rows = self._by_place.of_place(int(lead.country[0]), int(lead.region[0]))
        rows = rows[areas_hold(lead, self._but_circles, 0, rows)]
        circle = self._areas.circle[rows]
        circles = rows[circle]
        apart, level = rows[~circle], self._areas.level
        return _Levels(
            partner=self._partner[apart],
            level=level[apart],
            around=self._partner[circles],
            level_around=level[circles],
            point=self._areas.point[:, circles],
            chord=self._areas.chord[circles],
        )


class _Levels(NamedTuple):
    """What territories are to the leads of a place and a vertical: partners and levels, those of circles apart.

    Attributes
    ----------
    partner, around : array of int
        Of rows that hold such leads, and of circles that hold those that lie within them.
    level, level_around, chord : array
    point : array, shape (3, c)
        Of the circles.
    """

    partner: Ints
    level: Floats
    around: Ints
    level_around: Floats
    point: Floats
    chord: Floats

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(part.size for part in self)


class Meetings:
    """Features of pairs of a lead and known partners.

    Parameters
    ----------
    known : PartnerFacts
    names : sequence of str
        Features of pairs that are not the same for all leads.

    Attributes
    ----------
    kinds : mapping of str to list of int
        Positions of the names that depend on one word of the lead, by the kind of word.
    here : list of int
        Positions of the others.
    """

    def __init__(self, known: PartnerFacts, names: Sequence[str]) -> None:
        self.known, self.names = known, names
        of_kind = [_kind_of(name) for name in names]
        self.kinds = {
            kind: [place for place, its in enumerate(of_kind) if its == kind] for kind in _OF_WORDS if kind in of_kind
        }
        self.here = [place for place, its in enumerate(of_kind) if its is None]
        self._memory = Memory[Any]()
        self._one = OneLead(known)

    def values(self, situation: Situation, rows: Ints) -> Floats:
        """Return all of the features, shape (m, len(names))."""
        found = np.empty((len(rows), len(self.names)))
        for kind, places in self.kinds.items():
            found[:, places] = np.take(self.block(kind, situation), rows, axis=0)
        found[:, self.here] = self.values_here(situation, rows, self.here)
        return found

    def values_of_many(self, situations: Sequence[Situation], rows: Sequence[Ints]) -> Floats:
        """Return the features of several leads, each with rows of its own, one after the other."""
        every, ends = np.concatenate(rows), np.cumsum([len(some) for some in rows])
        found = np.empty((len(every), len(self.names)))
        for situation, some, end in zip(situations, rows, ends.tolist(), strict=True):
            mine = found[end - len(some) : end]
            for kind, places in self.kinds.items():
                mine[:, places] = np.take(self.block(kind, situation), some, axis=0)
        names = [self.names[place] for place in self.here]
        leads = Leads.of(lead_columns([s.lead for s in situations], _asked(names)), self.known, n=len(situations))
        held = np.concatenate([s.load.open[some] for s, some in zip(situations, rows, strict=True)])
        which = np.repeat(np.arange(len(rows)), [len(some) for some in rows])
        pairing = Pairing(leads, self.known, which, every, held.astype(np.float64))
        found[:, self.here] = pairing.features(names)
        return found

    def block(self, kind: str, situation: Situation) -> Floats:
        """Return the features of a kind for all partners, shape (n, k)."""
        key, words = _words(kind, situation.lead.values)
        names = [self.names[place] for place in self.kinds[kind]]
        found: Floats = self._memory.get((kind, key), lambda: self._pairs(words, slice(None), None, names))
        return found

    def remembered(self, what: str, kind: str, situation: Situation, make: Callable[[Floats], Made]) -> Made:
        """Return what is made of the features of a kind, made once for each value of the word."""
        key, _ = _words(kind, situation.lead.values)
        found: Made = self._memory.get((what, kind, key), lambda: make(self.block(kind, situation)))
        return found

    def values_here(self, situation: Situation, rows: Ints, places: Sequence[int]) -> Floats:
        """Return some of the features that depend on the whole of the lead and the moment, shape (m, len(places))."""
        names = [self.names[place] for place in places]
        held = situation.load.open[rows].astype(np.float64)
        beforehand = situation.beforehand
        if beforehand is not None and situation.snapshot.known is self.known:
            return Pairing(beforehand.known, self.known, beforehand.place, rows, held).features(names)
        lead = self._one.encode(situation.lead.values)
        found = np.empty((len(rows), len(names)))
        rest = [j for j, name in enumerate(names) if name != _TERRITORY]
        found[:, rest] = Pairing(lead, self.known, 0, rows, held).features([names[j] for j in rest])
        if _TERRITORY in names:
            found[:, names.index(_TERRITORY)] = self._territory_level(lead, rows)
        return found

    def _territory_level(self, lead: Leads, rows: Ints) -> Floats:
        """Return the level of territories, shape (m,): looked up but for circles, which ask where a lead is exactly."""
        covered, areas = lead.covered[lead.vertical[0]], self._areas
        key = "areas", int(lead.country[0]), int(lead.region[0]), lead.postal.tobytes(), covered.tobytes()
        levels: _Levels = self._memory.get(key, lambda: areas.levels(lead))
        highest = np.zeros(areas.n)
        np.maximum.at(highest, levels.partner, levels.level)
        if len(levels.around):
            within = chord(levels.point, lead.point) <= levels.chord
            np.maximum.at(highest, levels.around[within], levels.level_around[within])
        found: Floats = highest.take(rows)
        found[areas.without.take(rows)] = np.nan
        return found

    @functools.cached_property
    def _areas(self) -> _Areas:
        return _Areas(self.known)

    def _pairs(self, lead: Words, rows: Any, held: Floats | None, names: Sequence[str]) -> Floats:
        return Pairing(self._one.encode(lead), self.known, 0, rows, held).features(names)


def varies(name: str) -> bool:
    """Tell whether a column is a feature of pairs that is not the same for all leads of a day."""
    return name in FEATURES and not name.startswith("pair__all__")


def _kind_of(name: str) -> str | None:
    kind = name.split("__")[1]
    return kind if kind in _OF_WORDS and name != _SIZES else None


def _words(kind: str, lead: Mapping[str, Any]) -> tuple[Any, Words]:
    """Return what tells values of a word apart, and the columns of the lead that say it."""
    columns = {name: lead[name] for name in _OF_WORDS[kind] if name in lead}
    if kind == "size":
        return band_of(lead.get("amount")), columns
    return tuple(lead.get(name) for name in _OF_WORDS[kind]), columns


def _asked(names: Sequence[str]) -> list[str]:
    """Return the columns of a lead that features ask for: few, since each takes time to encode."""
    found = []
    if any(name.startswith(("pair__place__", "pair__territory__")) for name in names):
        found += ["country", "region", "postal_code", "latitude", "longitude"]
    if any(name.startswith("pair__territory__") for name in names):
        found.append("vertical")
    if any(name in (_SOURCE, _GIVEN) for name in names):
        found.append("source_partner_id")
    return [*found, "amount"] if _SIZES in names else found
