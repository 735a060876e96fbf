"""One lead at a time, encoded from what was encoded before: leads share places, verticals and lists."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from partnerml.pairs import _columns as clean
from partnerml.pairs._arrays import NOTHING, Bools, Floats, Ints
from partnerml.pairs._columns import Columns
from partnerml.pairs._facts import PartnerFacts, place_codes
from partnerml.pairs._leads import Leads, Wants, _beginnings, _related, cell_values, source_codes
from partnerml.pairs._maths import SIZE_EDGES, unit_vectors

_REMEMBERED = 1 << 12  # of each kind; those that were not asked for longest go first


class OneLead:
    """Encodes leads as `Leads.of` does, one by one; it may be used from several threads.

    Parameters
    ----------
    facts : PartnerFacts
        That the leads will meet.
    """

    def __init__(self, facts: PartnerFacts) -> None:
        self.facts = facts
        # of a postal code no more is ever looked at
        self._longest = max(int(facts.territories.length.max(initial=0)), clean.POSTAL_CHARACTERS)
        remembered = functools.lru_cache(_REMEMBERED)
        self._place, self._vertical = remembered(self._place_of), remembered(self._vertical_of)
        self._languages, self._required = remembered(self._languages_of), remembered(self._required_of)
        self._size = remembered(self._size_of)

    def encode(self, lead: Mapping[str, Any]) -> Leads:
        """Return one lead, encoded.

        Parameters
        ----------
        lead : mapping
            Columns of ``leads`` as `partnerml.routing.Lead` has them: clean, lists as tuples; others are not looked at.
        """
        get = lead.get
        postal = clean.postal(get("postal_code"))
        place = self._place(get("country"), get("region"), None if postal is None else postal[: self._longest])
        country, region, area, beginnings, of_country = place
        similarity, covered, of_vertical = self._vertical(get("vertical"))
        amount = _number(get("amount"))
        return Leads(
            point=_point(get("latitude"), get("longitude")),
            country=country,
            region=region,
            area=area,
            postal=beginnings,
            vertical=_FIRST,
            similarity=similarity,
            covered=covered,
            languages=self._languages(get("languages")),
            required=self._required(get("required_certifications")),
            cells={"vertical": of_vertical, "country": of_country, "size": self._size(band_of(amount))},
            amount=np.array([amount if amount > 0 else np.nan]),
            source=source_codes([clean.plain(get("source_partner_id"))], self.facts),
        )

    def _place_of(self, country: Any, region: Any, postal: Any) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        given = {"country": [country], "region": [region], "postal_code": [postal]}
        columns = Columns(given, 1)
        codes = place_codes(columns, self.facts.vocabularies)
        return codes[0], codes[1], codes[2], _beginnings(columns, self.facts), self._cells("country", given)

    def _vertical_of(self, vertical: Any) -> tuple[Floats, Bools, Ints]:
        similarity, covered = _related([clean.vertical(vertical)], self.facts)
        return similarity, covered, self._cells("vertical", {"vertical": [vertical]})

    def _languages_of(self, languages: Any) -> Wants:
        return self._wants("languages", clean.language, languages, "languages")

    def _required_of(self, required: Any) -> Wants:
        return self._wants("required_certifications", clean.plain, required, "certifications")

    def _wants(self, name: str, cleaned: clean.Cleaner, texts: Any, words: str) -> Wants:
        return Wants.of(Columns({name: [texts]}, 1).lists(name, cleaned), self.facts.vocabularies[words])

    def _size_of(self, band: int) -> Ints:
        text = None if band == NOTHING else str(band)
        return self.facts.record.cells["size"].values.codes([text])[:, None]

    def _cells(self, dimension: str, given: Mapping[str, Any]) -> Ints:
        values = self.facts.record.cells[dimension].values
        return np.stack([values.codes(level) for level in cell_values(given, 1)[dimension]], axis=1)


def band_of(amount: float | None) -> int:
    """Return the number of the band of one amount, as `size_band` has it: much quicker than an array of one."""
    return NOTHING if amount is None or amount != amount else int(_EDGES.searchsorted(amount, side="right"))


_FIRST, _EDGES = np.zeros(1, dtype=np.int64), np.array(SIZE_EDGES)


@functools.lru_cache(_REMEMBERED)
def _point(latitude: float | None, longitude: float | None) -> Floats:
    """Return where a lead is, shape (3, 1); not to be written to."""
    point = unit_vectors([_number(latitude)], [_number(longitude)])
    point.flags.writeable = False
    return point


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
