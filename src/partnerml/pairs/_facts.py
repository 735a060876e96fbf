"""What was known of partners at 00:00 UTC, as arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from partnerml.pairs import _columns as clean
from partnerml.pairs._arrays import NOTHING, Bools, Cells, Floats, Ints, Lists, Ragged, Tally, Vocabulary
from partnerml.pairs._columns import Columns
from partnerml.pairs._maths import EARTH_KM, shrunken, unit_vectors

DIMENSIONS = ("vertical", "country", "size")  # what the tallies of past deals and leads are kept for
NO_LEVEL = -3  # of a code that ends above that level
_DAY = np.timedelta64(1, "D")


@dataclasses.dataclass(frozen=True)
class Territories:
    """Rows of ``territories`` by the row of their partner; a code of -1 means that a row does not ask for it."""

    rows: Ragged
    country: Ints
    region: Ints
    prefix: Ints
    length: Ints
    circle: Bools
    point: Floats
    chord: Floats  # the square of the longest chord
    verticals: Lists
    level: Floats

    def without_circles(self) -> Territories:
        """Return rows that hold what lies around a point wherever it is."""
        return dataclasses.replace(self, circle=np.zeros_like(self.circle))


@dataclasses.dataclass(frozen=True)
class Record:
    """What became of a partner's deals and leads.

    Attributes
    ----------
    own : Tally of arrays of shape (n,)
    rate, days : array, shape (n,)
        The win rate and the mean days to win over all of them, drawn toward everybody's; NaN if nobody has any.
    mean_amount : array, shape (n,)
        Of those won; NaN if none has an amount.
    cells : mapping of str to Cells
        For each of `DIMENSIONS`.
    """

    own: Tally
    rate: Floats
    days: Floats
    mean_amount: Floats
    cells: Mapping[str, Cells]


@dataclasses.dataclass(frozen=True)
class PartnerFacts:
    """What was known of partners at 00:00 UTC: one row for each partner and midnight.

    Make one with `PartnerFacts.of`; `partnerml.features` reads its arguments from the tables.

    Attributes
    ----------
    partner_id : array of str, shape (n,)
    as_of : array of datetime64[us], shape (n,)
    point : array, shape (3, n)
        Where its office is, as a unit vector.
    country, region, area : array of int, shape (n,)
        Codes; the area is the country and the beginning of the postal code.
    verticals, languages, certifications : Lists
    limit, tenure : array, shape (n,)
        ``max_open_leads`` and days since joining, NaN if unknown.
    record : Record
    territories : Territories
    vocabularies : mapping of str to Vocabulary
    levels : array of int, shape (verticals, depth)
        For each vertical the codes of itself and of those above it.
    """

    partner_id: npt.NDArray[Any]
    as_of: npt.NDArray[np.datetime64]
    point: Floats
    country: Ints
    region: Ints
    area: Ints
    verticals: Lists
    languages: Lists
    certifications: Lists
    limit: Floats
    tenure: Floats
    record: Record
    territories: Territories
    vocabularies: Mapping[str, Vocabulary]
    levels: Ints

    def __len__(self) -> int:
        return len(self.partner_id)

    @functools.cached_property
    def ids(self) -> Vocabulary:
        """The partners by number."""
        return Vocabulary.of(self.partner_id.tolist())

    @functools.cached_property
    def partner(self) -> Ints:
        """The number of the partner of each row, shape (n,)."""
        return self.ids.codes(self.partner_id.tolist())

    @classmethod
    def of(
        cls,
        partners: Mapping[str, Sequence[Any]],
        *,
        certifications: Mapping[str, Sequence[Any]],
        territories: Mapping[str, Sequence[Any]],
        cells: Mapping[str, Sequence[Any]],
    ) -> Self:
        """Encode columns; a column of the canonical tables may be left out, then it is unknown.

        Parameters
        ----------
        partners : mapping of str to sequence
            One entry a row: ``partner_id``, ``as_of``, the columns of ``partners`` as known then, and the tallies:
            ``closed``, ``won``, ``days`` (the sum), ``sized`` and ``amount`` (how many won amounts are known, and
            their sum), and everybody's ``all_closed``, ``all_won``, ``all_days``.
        certifications : mapping of str to sequence
            ``row`` and ``certification``: those valid then.
        territories : mapping of str to sequence
            ``row`` and the columns of ``territories``: those valid then.
        cells : mapping of str to sequence
            ``row``, ``dimension``, ``value``, ``closed``, ``won``, ``days``.
        """
        n = len(partners["partner_id"])
        seats, areas = Columns(partners, n), Columns(territories, len(territories["row"]))
        areas = areas.take(np.argsort(np.asarray(territories["row"], dtype=np.int64), kind="stable"))
        words = dict(_vocabularies(seats, areas, certifications["certification"]))
        held = words["certifications"].codes(map(clean.plain, certifications["certification"]))
        as_of = np.asarray(partners["as_of"], dtype="datetime64[us]")
        joined = np.asarray(seats.column("joined_at"), dtype="datetime64[us]")
        country, region, area = place_codes(seats, words)
        return cls(
            partner_id=np.asarray(partners["partner_id"], dtype=object),
            as_of=as_of,
            point=unit_vectors(seats.numbers("latitude"), seats.numbers("longitude")),
            country=country,
            region=region,
            area=area,
            verticals=Lists.of_texts(seats.lists("verticals", clean.vertical), words["verticals"]),
            languages=Lists.of_texts(seats.lists("languages", clean.language), words["languages"]),
            certifications=Lists.of(certifications["row"], held, n),
            limit=seats.numbers("max_open_leads"),
            tenure=(as_of - joined) / _DAY,
            record=_record(seats, cells),
            territories=_territories(areas, words, n),
            vocabularies=MappingProxyType(words),
            levels=clean.levels(words["verticals"].index, words["levels"], missing=NO_LEVEL),
        )


def place_codes(columns: Columns, words: Mapping[str, Vocabulary]) -> list[Ints]:
    """Return the codes of countries, regions and postal areas."""
    places = columns.places
    names = ("countries", "regions", "areas")
    return [words[name].codes(place[i] for place in places) for i, name in enumerate(names)]


def _vocabularies(seats: Columns, areas: Columns, certifications: Sequence[Any]) -> Iterator[tuple[str, Vocabulary]]:
    places = seats.places
    lists = (columns.lists("verticals", clean.vertical) for columns in (seats, areas))
    verticals = Vocabulary.of(code for column in lists for codes in column for code in codes)
    yield "verticals", verticals
    yield "levels", Vocabulary.of(level for code in verticals.index for level in clean.above(code))
    yield "languages", Vocabulary.of(tag for tags in seats.lists("languages", clean.language) for tag in tags)
    yield "certifications", Vocabulary.of(map(clean.plain, certifications))
    yield "countries", Vocabulary.of([*(place[0] for place in places), *areas.texts("country", clean.upper)])
    yield "regions", Vocabulary.of([*(place[1] for place in places), *areas.texts("region", clean.upper)])
    yield "areas", Vocabulary.of(place[2] for place in places)
    yield "prefixes", Vocabulary.of(areas.texts("postal_prefix", clean.postal))


def _record(seats: Columns, cells: Mapping[str, Sequence[Any]]) -> Record:
    own, everybody = (Tally(*(seats.numbers(p + name) for name in Tally._fields)) for p in ("", "all_"))
    sized = seats.numbers("sized")
    rate, days = _ratio(everybody.won, everybody.closed), _ratio(everybody.days, everybody.won)
    return Record(
        own=own,
        rate=shrunken(own.won, own.closed, rate),
        days=shrunken(own.days, own.won, days),
        mean_amount=_ratio(seats.numbers("amount"), sized),
        cells=MappingProxyType({name: _cells(name, cells, seats.n) for name in DIMENSIONS}),
    )


def _ratio(total: Floats, count: Floats) -> Floats:
    ratio: Floats = total / np.where(count > 0, count, np.nan)
    return ratio


def _cells(dimension: str, cells: Mapping[str, Sequence[Any]], n: int) -> Cells:
    here = np.flatnonzero(np.asarray(cells["dimension"], dtype=object) == dimension)
    tally = Tally(*(np.asarray(cells[name], dtype=np.float64)[here] for name in Tally._fields))
    values = np.asarray(cells["value"], dtype=object)[here]
    return Cells.of(np.asarray(cells["row"], dtype=np.int64)[here], list(values), tally, n)


def _territories(areas: Columns, words: Mapping[str, Vocabulary], n: int) -> Territories:
    prefixes = areas.texts("postal_prefix", clean.postal)
    radius = areas.numbers("radius_km")
    region = words["regions"].codes(areas.texts("region", clean.upper))
    prefix, circle = words["prefixes"].codes(prefixes), ~np.isnan(radius)
    half = np.clip(radius / (2.0 * EARTH_KM), 0.0, np.pi / 2.0)
    return Territories(
        rows=Ragged.of(np.asarray(areas.column("row"), dtype=np.int64), n),
        country=words["countries"].codes(areas.texts("country", clean.upper)),
        region=region,
        prefix=prefix,
        length=np.array([len(code or "") for code in prefixes], dtype=np.int64),
        circle=circle,
        point=unit_vectors(areas.numbers("latitude"), areas.numbers("longitude")),
        chord=4.0 * np.sin(half) ** 2,
        verticals=Lists.of_texts(areas.lists("verticals", clean.vertical), words["verticals"]),
        level=np.where(prefix != NOTHING, 3.0, np.where((region != NOTHING) | circle, 2.0, 1.0)),
    )
