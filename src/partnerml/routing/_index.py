"""What partners have, by what it is: of ten thousand a lead concerns a few hundred, and only those are looked at."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from partnerml.pairs import Lists, OneLead
from partnerml.routing._remembered import Memory

if TYPE_CHECKING:
    from partnerml.pairs._facts import Territories
    from partnerml.routing._partners import Partners
    from partnerml.routing._snapshot import Snapshot

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Moments = npt.NDArray[np.datetime64]
_REGIONS, _SHIFT = 1 << 32, 2  # more than any vocabulary has; codes begin at -2
_NOTHING = -1  # of a code: rows of territories do not ask for it
_INTEGERS = np.iinfo(np.int64)


@dataclasses.dataclass(frozen=True)
class Postings:
    """Places by their code.

    Attributes
    ----------
    code : array of int, shape (k,)
        In order.
    place : array of int, shape (k,)
    """

    code: Ints
    place: Ints

    @classmethod
    def of(cls, codes: Ints, places: Ints | None = None) -> Self:
        """Take the code of each place; by default the places are 0, 1, 2, ..."""
        order = np.argsort(codes, kind="stable")
        return cls(codes[order], order if places is None else places[order])

    @classmethod
    def of_lists(cls, lists: Lists) -> Self:
        """Take lists of codes, one for each place."""
        count = lists.rows.everything.count
        return cls.of(lists.item, np.repeat(np.arange(len(count)), count))

    def of_one(self, code: int) -> Ints:
        """Return the places of a code."""
        low, high = self.code.searchsorted((code, code + 1))
        return self.place[low:high]

    def of_any(self, codes: Iterable[int]) -> Ints:
        """Return the places of some codes, one code after the other."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(self.of_one(code) for code in dict.fromkeys(codes))])

    def of_place(self, country: int, region: int) -> Ints:
        """Return the places that are of a country and a region, or do not ask for one, by the codes of `place_code`."""
        every = itertools.product((_NOTHING, country), (_NOTHING, region))
        return self.of_any(place_code(*place) for place in every)

    def mark(self, codes: Bools, others: Bools) -> Bools:
        """Return which places have one of some codes, or are among others."""
        marked = others.copy()
        marked[self.of_any(np.flatnonzero(codes).tolist())] = True
        return marked


@dataclasses.dataclass(frozen=True)
class Spans:
    """From when and until when something holds, half-open; as integers, which compare faster than moments.

    Attributes
    ----------
    since, until : array of int, shape (k,)
        Microseconds since 1970.
    """

    since: Ints
    until: Ints

    @classmethod
    def of(cls, since: Moments, *until: Moments) -> Self:
        """Take moments, NaT where there is no beginning or no end; of several ends the first counts."""
        ends = [_integers(end, missing=_INTEGERS.max) for end in until]
        return cls(_integers(since, missing=_INTEGERS.min), np.minimum.reduce(ends))

    @functools.cached_property
    def changes(self) -> Ints:
        """The moments at which something begins or ends to hold, in order."""
        every = np.unique(np.concatenate([self.since, self.until]))
        changes: Ints = every[(every != _INTEGERS.min) & (every != _INTEGERS.max)]
        return changes

    def epoch(self, moment: np.datetime64) -> int:
        """Return how many changes there have been by a moment: between two changes, what holds is the same."""
        return int(self.changes.searchsorted(moment.astype(np.int64), side="right"))

    def hold(self, moment: np.datetime64, places: Any = slice(None)) -> Bools:
        """Return what holds at a moment."""
        now = moment.astype(np.int64)
        found: Bools = (self.since[places] <= now) & (self.until[places] > now)
        return found


def place_code(country: Any, region: Any) -> Any:
    """Return one code for a country and a region, each a code of its vocabulary, negative where there is none."""
    return (country + _SHIFT) * _REGIONS + region + _SHIFT


def _integers(moments: Moments, *, missing: int) -> Ints:
    return np.where(np.isnat(moments), missing, moments.astype("datetime64[us]").astype(np.int64))


class Near(NamedTuple):
    """Rows of territories that hold the leads of a place and a vertical at a time, but for their circles.

    Attributes
    ----------
    rows : array of int, shape (k,)
        Those without a circle.
    circles : array of int, shape (c,)
        Those that hold a lead if it lies in their circle.
    point : array, shape (3, c)
        Where those circles lie, as unit vectors.
    chord : array, shape (c,)
        The square of their longest chord.
    """

    rows: Ints
    circles: Ints
    point: Floats
    chord: Floats

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(part.size for part in self)


@dataclasses.dataclass(frozen=True)
class Index:
    """The lists of a snapshot's partners, by what is in them.

    Attributes
    ----------
    one : OneLead
        Encodes leads against the vocabularies of its partners.
    verticals, languages : Postings
        Partners by code.
    any_vertical, any_language : array of bool, shape (n,)
        Partners that name none.
    certifications, areas : Postings
        Rows of certifications by code, and rows of territories by country and region (`place_code`).
    membership, pauses, certified, valid : Spans
        Of partners, their pauses, rows of certifications, and rows of territories.
    masks : Memory
        Partners that pass a rule, by all that it goes by, as they are asked for; see `kept`.
    everybody, nobody : array of bool, shape (n,)
        All true, and all false.
    near : Memory
        Rows of territories by the place and the vertical of leads, and by the time; as they are asked for.
    told : Memory
        Features of pairs that are told of in words, shape (n, p), by the column of leads that they depend on.
    anywhere : array of bool, shape (n,)
        Partners without rows of territories, valid or not: one whose rows have all expired has no place left.
    but_circles : Territories
        Those of the snapshot, as if their circles held everything.
    exclusive : array of bool
        Which rows of territories are exclusive.
    tiers : list of str
        Those that partners have, "" for none.
    places : list of tuple
        Time zones, countries and regions that partners work in, None where unknown.
    tier, place : array of int, shape (n,)
        Position in `tiers` and `places`.
    """

    one: OneLead
    verticals: Postings
    languages: Postings
    any_vertical: Bools
    any_language: Bools
    certifications: Postings
    areas: Postings
    membership: Spans
    pauses: Spans
    certified: Spans
    valid: Spans
    masks: Memory[Bools]
    everybody: Bools
    nobody: Bools
    near: Memory[Near]
    told: Memory[Floats]
    anywhere: Bools
    but_circles: Territories
    exclusive: Bools
    tiers: list[str]
    tier: Ints
    places: list[tuple[str | None, str | None, str | None]]
    place: Ints

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Index a snapshot."""
        facts, partners, held = snapshot.facts, snapshot.partners, snapshot.certifications
        areas = facts.territories
        zones = [None if code < 0 else partners.time_zones[code] for code in partners.time_zone]
        tiers, tier = _coded([name or "" for name in partners.tier])
        places, place = _coded(list(zip(zones, partners.country, partners.region, strict=True)))
        return cls(
            one=OneLead(facts),
            verticals=Postings.of_lists(facts.verticals),
            languages=Postings.of_lists(facts.languages),
            any_vertical=facts.verticals.rows.everything.count == 0,
            any_language=facts.languages.rows.everything.count == 0,
            certifications=Postings.of(held.code),
            areas=Postings.of(place_code(areas.country, areas.region)),
            membership=Spans.of(partners.joined_at, partners.left_at),
            pauses=Spans.of(np.full_like(partners.paused_until, "NaT"), partners.paused_until),
            certified=Spans.of(held.earned_at, held.expires_at, held.revoked_at),
            valid=Spans.of(snapshot.territories["valid_from"], snapshot.territories["valid_to"]),
            masks=Memory(),
            everybody=_fixed(np.ones(len(partners), dtype=bool)),
            nobody=_fixed(np.zeros(len(partners), dtype=bool)),
            near=Memory(),
            told=Memory(),
            anywhere=areas.rows.everything.count == 0,
            but_circles=areas.without_circles(),
            exclusive=snapshot.territories["exclusive"].astype(bool),
            tiers=tiers,
            tier=tier,
            places=places,
            place=place,
        )

    def kept(self, rule: str, goes_by: Hashable, make: Callable[[], Bools]) -> Bools:
        """Return who passes a rule: worked out once for each value of all that it goes by, and not to be written to.

        Parameters
        ----------
        rule : str
        goes_by : hashable
            What the lead, the moment and the configuration say of it; the partners are always the same.
        make : callable
            Works it out.
        """

        def mask() -> Bools:
            made = make()
            return self.everybody if made.all() else _fixed(made)

        return self.masks.get((rule, goes_by), mask)


def _fixed(mask: Bools) -> Bools:
    mask.flags.writeable = False
    return mask


def _coded(values: Sequence[Any]) -> tuple[list[Any], Ints]:
    number = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return list(number), np.array([number[value] for value in values], dtype=np.int64)


# kept by the partners, which copies of a snapshot with other prices share
_MADE: weakref.WeakKeyDictionary[Partners, Index] = weakref.WeakKeyDictionary()


def index_of(snapshot: Snapshot) -> Index:
    """Return the index of a snapshot, made once."""
    found = _MADE.get(snapshot.partners)
    if found is None:
        found = _MADE[snapshot.partners] = Index.of(snapshot)
    return found
