"""Leads as arrays, encoded against the vocabularies of the partners that they will meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from partnerml.pairs import _columns as clean
from partnerml.pairs._arrays import NOTHING, Bools, Floats, Ints, Vocabulary
from partnerml.pairs._columns import Columns
from partnerml.pairs._facts import NO_LEVEL, PartnerFacts, place_codes
from partnerml.pairs._maths import size_band, unit_vectors

LEAD_COLUMNS = (  # of `leads`, that pairs are made of
    "country",
    "region",
    "postal_code",
    "latitude",
    "longitude",
    "vertical",
    "amount",
    "languages",
    "required_certifications",
    "source_partner_id",
)


@dataclasses.dataclass(frozen=True)
class Wants:
    """What lists of leads ask for: which list each lead has, and for each list the codes in it and their number."""

    which: Ints
    wanted: Bools
    count: Floats

    @classmethod
    def of(cls, lists: Sequence[Sequence[str]], vocabulary: Vocabulary) -> Wants:
        """Take a list of texts for each lead."""
        sets = [frozenset(texts) for texts in lists]
        number = {texts: i for i, texts in enumerate(dict.fromkeys(sets))}
        wanted = np.zeros((len(number), len(vocabulary)), dtype=bool)
        for texts, i in number.items():
            codes = vocabulary.codes(texts)
            wanted[i, codes[codes >= 0]] = True
        count = np.array([len(texts) or np.nan for texts in number], dtype=np.float64)
        return cls(np.array([number[texts] for texts in sets], dtype=np.int64), wanted, count)


@dataclasses.dataclass(frozen=True)
class Leads:
    """Leads, encoded against the vocabularies of the facts that they will meet.

    Attributes
    ----------
    point : array, shape (3, n)
    country, region, area : array of int, shape (n,)
    postal : array of int, shape (n, longest + 1)
        Codes of the beginnings of the postal code, by their length.
    vertical : array of int, shape (n,)
        Row of `similarity` and `covered`, which have a column for each vertical of the facts.
    languages, required : Wants
    cells : mapping of str to array of int, shape (n, levels)
        The values of each dimension, from the general to the particular.
    amount : array, shape (n,)
    source : array of int, shape (n,)
        The partner that handed it in, as `PartnerFacts.ids` numbers them.
    """

    point: Floats
    country: Ints
    region: Ints
    area: Ints
    postal: Ints
    vertical: Ints
    similarity: Floats
    covered: Bools
    languages: Wants
    required: Wants
    cells: Mapping[str, Ints]
    amount: Floats
    source: Ints

    @classmethod
    def of(cls, leads: Mapping[str, Sequence[Any]], facts: PartnerFacts, *, n: int) -> Leads:
        """Encode columns of ``leads``; any of them may be absent.

        Parameters
        ----------
        leads : mapping of str to sequence
        facts : PartnerFacts
        n : int
            How many leads there are.
        """
        columns, words = Columns(leads, n), facts.vocabularies
        country, region, area = place_codes(columns, words)
        verticals = columns.texts("vertical", clean.vertical)
        number = {code: i for i, code in enumerate(dict.fromkeys(verticals))}
        similarity, covered = _related(list(number), facts)
        amount = columns.numbers("amount")
        return cls(
            point=unit_vectors(columns.numbers("latitude"), columns.numbers("longitude")),
            country=country,
            region=region,
            area=area,
            postal=_beginnings(columns, facts),
            vertical=np.array([number[code] for code in verticals], dtype=np.int64),
            similarity=similarity,
            covered=covered,
            languages=Wants.of(columns.lists("languages", clean.language), words["languages"]),
            required=Wants.of(columns.lists("required_certifications", clean.plain), words["certifications"]),
            cells={
                name: np.stack([facts.record.cells[name].values.codes(level) for level in levels], axis=1)
                for name, levels in cell_values(leads, n).items()
            },
            amount=np.where(amount > 0, amount, np.nan),
            source=source_codes(columns.texts("source_partner_id", clean.plain), facts),
        )

    def one(self, place: int) -> Leads:
        """Return one of them, as if it had been encoded by itself."""
        own = slice(place, place + 1)
        return dataclasses.replace(
            self,
            point=self.point[:, own],
            country=self.country[own],
            region=self.region[own],
            area=self.area[own],
            postal=self.postal[own],
            vertical=self.vertical[own],
            languages=dataclasses.replace(self.languages, which=self.languages.which[own]),
            required=dataclasses.replace(self.required, which=self.required.which[own]),
            cells={name: codes[own] for name, codes in self.cells.items()},
            amount=self.amount[own],
            source=self.source[own],
        )


def cell_values(leads: Mapping[str, Sequence[Any]], n: int) -> Mapping[str, tuple[list[str | None], ...]]:
    """Return where leads belong in each dimension: for each level, from the general to the particular, a text a lead.

    The industry of a dotted vertical is the level above the vertical itself; a plain one has no level above it.
    """
    columns = Columns(leads, n)
    verticals = columns.texts("vertical", clean.vertical)
    industries = [None if code is None or "." not in code else code.partition(".")[0] for code in verticals]
    countries = [country for country, _, _ in columns.places]
    bands = [None if band == NOTHING else str(band) for band in size_band(columns.numbers("amount"))]
    return {"vertical": (industries, verticals), "country": (countries,), "size": (bands,)}


def source_codes(partners: Sequence[str | None], facts: PartnerFacts) -> Ints:
    """Return the numbers of the partners that handed leads in; one that is not among the facts is some other one."""
    if all(partner is None for partner in partners):
        return np.full(len(partners), NOTHING, dtype=np.int64)  # the ids of very many need not be numbered for that
    return facts.ids.codes(partners)


def _beginnings(columns: Columns, facts: PartnerFacts) -> Ints:
    codes, prefixes = columns.texts("postal_code", clean.postal), facts.vocabularies["prefixes"]
    sizes = range(int(facts.territories.length.max(initial=0)) + 1)
    return np.stack([prefixes.codes(clean.beginning(code, size) for code in codes) for size in sizes], axis=1)


def _related(verticals: Sequence[str | None], facts: PartnerFacts) -> tuple[Floats, Bools]:
    """Return the share of levels that codes of leads share with those of partners, and which lie under which."""
    chains = clean.levels([code or "" for code in verticals], facts.vocabularies["levels"], missing=NOTHING)
    depth = min(chains.shape[1], facts.levels.shape[1])
    shared = (chains[:, None, :depth] == facts.levels[None, :, :depth]).sum(axis=2)
    levels = np.array([np.nan if code is None else code.count(".") + 1 for code in verticals])[:, None]
    covered = (shared == (facts.levels != NO_LEVEL).sum(axis=1)) & ~np.isnan(levels)
    return shared / levels, covered
