"""Who holds a lead: territories that are valid at its moment, exclusive ones among them.

The conditions of a row all apply; of several rows one is enough. A partner without rows may go anywhere; one whose rows
have all expired, or are yet to begin, nowhere: it was given places, and these are not its own any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from partnerml.pairs import Lists, areas_hold, chord
from partnerml.routing._index import Near

if TYPE_CHECKING:
    from partnerml.pairs._facts import Territories
    from partnerml.routing._situation import Situation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_NOTHING = -1  # of a code: the lead does not say, or a row of territories does not ask
_NOTHING_UNKNOWN: frozenset[str] = frozenset()
_COUNTRY, _REGION, _POSTAL, _POINT, _VERTICAL = "country", "region", "postal code", "coordinates", "vertical"


@dataclasses.dataclass(frozen=True)
class Held:
    """Whose territories hold a lead at a moment.

    Attributes
    ----------
    anywhere : array of bool, shape (n,)
        Partners without rows, valid or not.
    by_any : array of bool, shape (n,)
        Partners of whom a valid row holds the lead.
    exclusively : array of bool, shape (n,)
        Partners of whom a valid and exclusive row does.
    """

    anywhere: Bools
    by_any: Bools
    exclusively: Bools


def held(situation: Situation) -> Held:
    """Return whose territories hold the lead."""
    index = situation.index
    holds = _holding(situation, _NOTHING_UNKNOWN)
    alone = holds[index.exclusive[holds]]
    return Held(
        anywhere=index.anywhere,
        by_any=_partners(situation, holds),
        exclusively=_partners(situation, alone) if len(alone) else index.nobody,
    )


def covers(situation: Situation, *, lenient: bool) -> Bools:
    """Return which partners may take a lead from its place, shape (n,).

    Parameters
    ----------
    situation : Situation
    lenient : bool
        Whether what the lead does not say counts as met.
    """
    passes = situation.territory.anywhere | situation.territory.by_any
    unknown = unsaid(situation) if lenient else _NOTHING_UNKNOWN
    return passes | _partners(situation, _holding(situation, unknown)) if unknown else passes


def lacks_coordinates(situation: Situation) -> Bools:
    """Return the partners who fail for want of coordinates alone, the lead's or those of a circle; shape (n,)."""
    near, blind = _near(situation), bool(np.isnan(situation.encoded.point[0, 0]))
    unknown = near.circles if blind else near.circles[np.isnan(near.point[0])]
    return _partners(situation, unknown) & ~situation.territory.by_any if len(unknown) else situation.index.nobody


def unsaid(situation: Situation) -> frozenset[str]:
    """Return what territories may ask for and the lead does not say."""
    lead = situation.encoded
    return frozenset(
        name
        for name, missing in (
            (_COUNTRY, lead.country[0] == _NOTHING),
            (_REGION, lead.region[0] == _NOTHING),
            (_POSTAL, situation.lead.get("postal_code") is None),
            (_POINT, bool(np.isnan(lead.point).any())),
            (_VERTICAL, situation.lead.get("vertical") is None),
        )
        if missing
    )


def place_words(situation: Situation) -> str:
    """Return where a lead is and what it is about, in words."""
    get = situation.lead.get
    told = [*_spots(situation.lead.values), *([get("vertical")] if get("vertical") else [])]
    if get("latitude") is not None and get("longitude") is not None:
        told.append(f"at {get('latitude'):g}, {get('longitude'):g}")
    return ", ".join(told) or "of no known place"


def territory_words(situation: Situation, row: int) -> list[str]:
    """Return the valid territories of one partner in words."""
    import pyarrow.compute as pc

    snapshot, now = situation.snapshot, situation.now
    table = snapshot.tables["territories"]
    own = table.filter(pc.equal(table["partner_id"], snapshot.partners.partner_id[row])).to_pylist()
    return [
        _area_words(area)
        for area in own
        if (area["valid_from"] is None or np.datetime64(area["valid_from"], "us") <= now)
        and (area["valid_to"] is None or np.datetime64(area["valid_to"], "us") > now)
    ]


def _area_words(area: Mapping[str, Any]) -> str:
    words = [" ".join(_spots({**area, "postal_code": area["postal_prefix"] and f"{area['postal_prefix']}..."}))]
    if area["radius_km"] is not None:
        known = area["latitude"] is not None and area["longitude"] is not None
        point = f"{area['latitude']:g}, {area['longitude']:g}" if known else "an unknown point"
        words.append(f"within {area['radius_km']:g} km of {point}")
    if area["verticals"]:
        words.append("for " + ", ".join(area["verticals"]))
    return " ".join(filter(None, words)) or "everywhere"


def _spots(values: Mapping[str, Any]) -> list[str]:
    # a region says its country
    place = values.get("region") or values.get("country")
    return [str(spot) for spot in (place, values.get("postal_code")) if spot]


def _holding(situation: Situation, unknown: frozenset[str]) -> Ints:
    """Return the valid rows that hold the lead, if they do not ask for what is unknown."""
    facts, lead, index = situation.snapshot.facts, situation.encoded, situation.index
    if not unknown:
        return _holding_all(situation)
    if unknown & {_COUNTRY, _REGION}:
        near = np.arange(len(facts.territories.country))
    else:
        near = index.areas.of_place(int(lead.country[0]), int(lead.region[0]))
    near = near[index.valid.hold(situation.now, near)]
    return near[areas_hold(lead, asking(facts.territories, unknown), 0, near)]


def _holding_all(situation: Situation) -> Ints:
    """Return the valid rows of which the lead meets all that they ask for."""
    near = _near(situation)
    if not len(near.circles):
        return near.rows
    return np.concatenate([near.rows, near.circles[chord(near.point, situation.encoded.point) <= near.chord]])


def _near(situation: Situation) -> Near:
    """Return the valid rows that hold the lead, but for their circles.

    What they ask of its country, region, postal code and vertical is looked up: many leads are alike in those.
    """
    areas, lead, index = situation.snapshot.facts.territories, situation.encoded, situation.index
    place, covered = (int(lead.country[0]), int(lead.region[0])), lead.covered[lead.vertical[0]]

    def near() -> Near:
        rows = index.areas.of_place(*place)
        rows = rows[index.valid.hold(situation.now, rows)]
        rows = rows[areas_hold(lead, index.but_circles, 0, rows)]
        circles = rows[areas.circle[rows]]
        return Near(rows[~areas.circle[rows]], circles, areas.point[:, circles], areas.chord[circles])

    epoch = index.valid.epoch(situation.now)
    return index.near.get((place, lead.postal.tobytes(), covered.tobytes(), epoch), near)


def _partners(situation: Situation, areas: Ints) -> Bools:
    """Return the partners that some rows of territories belong to, shape (n,)."""
    return marked(len(situation.snapshot), situation.snapshot.territories["row"][areas])


def marked(n: int, rows: Ints) -> Bools:
    """Return which of n partners are among some rows."""
    found = np.zeros(n, dtype=bool)
    found[rows] = True
    return found


def asking(areas: Territories, unknown: frozenset[str]) -> Territories:
    """Return territories that do not ask for what is unknown."""
    if not unknown:
        return areas
    n = len(areas.country)
    nobody_asks = np.full(n, _NOTHING, dtype=np.int64)
    asks: dict[str, Any] = {}
    if _COUNTRY in unknown:
        asks["country"] = nobody_asks
    if _REGION in unknown:
        asks["region"] = nobody_asks
    if _POSTAL in unknown:
        asks["prefix"] = nobody_asks
    if _VERTICAL in unknown:
        asks["verticals"] = Lists.of(nobody_asks[:0], nobody_asks[:0], n)
    return dataclasses.replace(areas.without_circles() if _POINT in unknown else areas, **asks)
