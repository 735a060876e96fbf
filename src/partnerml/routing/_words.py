"""A partner and a lead in words: how far it is, what the partner has won, what it holds, how busy it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.pairs import Pairing
from partnerml.routing._remembered import FEW_ENOUGH

if TYPE_CHECKING:
    from partnerml.routing._situation import Situation

_DISTANCE, _LEVEL = "pair__place__distance_km__asof", "pair__place__level__asof"
_WON, _CLOSED = "pair__vertical__won__ever", "pair__vertical__count__ever"
_SPOKEN = "pair__language__coverage__asof"
_SOURCE = "pair__source__own__asof"
_PLACES = {3.0: "in the same postal area", 2.0: "in the same region", 1.0: "in the same country", 0.0: "abroad"}


def facts(situation: Situation, row: int) -> tuple[str, ...]:
    """Return what speaks of a partner and a lead, in words: its own facts, none of others.

    Parameters
    ----------
    situation : Situation
    row : int
        Of the partner.
    """
    lead, pair = situation.lead, Pairing(situation.encoded, situation.snapshot.facts, 0, np.array([row]))
    # only what is told of, since each takes time
    names = [_DISTANCE if lead.get("latitude") is not None else _LEVEL]
    names += [] if lead.get("source_partner_id") is None else [_SOURCE]
    value = dict(zip(names, pair.features(names)[0].tolist(), strict=True))
    value |= _kept(situation, row, "vertical", _CLOSED, _WON) | _kept(situation, row, "languages", _SPOKEN)
    told = (
        _near(pair, value),
        _record(situation, value, row),
        _certified(situation),
        _speaks(situation, value),
        "handed the lead in itself" if value.get(_SOURCE) == 1.0 else "",
        *_busy(situation, row),
    )
    return tuple(words for words in told if words)


def about_itself(situation: Situation, row: int) -> tuple[str, ...]:
    """Return facts of a partner that say nothing of the lead: what it has won of all, and how busy it is."""
    return (_own_record(situation, row), *_busy(situation, row))


def _kept(situation: Situation, row: int, column: str, *names: str) -> dict[str, float]:
    """Return features that depend on one column of the lead; none where it is null.

    Of few partners they are found for all at once, and kept for the next leads.
    """
    word, facts = situation.lead.get(column), situation.snapshot.facts
    if word is None:
        return {}

    def found(rows: Any) -> Any:
        return Pairing(situation.encoded, facts, 0, rows).features(names)

    if len(facts) > FEW_ENOUGH:
        (values,) = found(np.array([row]))
    else:
        values = situation.index.told.get((column, word), lambda: found(slice(None)))[row]
    return dict(zip(names, values.tolist(), strict=True))


def _near(pair: Pairing, value: Mapping[str, float]) -> str:
    km = value.get(_DISTANCE, np.nan)
    if not np.isnan(km):
        return f"{km:,.0f} km away"
    level = value[_LEVEL] if _LEVEL in value else float(pair.features([_LEVEL])[0, 0])
    return _PLACES.get(level, "")


def _record(situation: Situation, value: Mapping[str, float], row: int) -> str:
    if value.get(_CLOSED, 0.0) > 0:
        vertical = situation.lead.get("vertical")
        return f"won {value[_WON]:.0f} of {value[_CLOSED]:.0f} {vertical} deals and leads"
    return _own_record(situation, row)


def _own_record(situation: Situation, row: int) -> str:
    own = situation.snapshot.facts.record.own
    if own.closed[row] > 0:
        return f"won {own.won[row]:.0f} of {own.closed[row]:.0f} deals and leads"
    return "no closed deal or lead so far"


def _certified(situation: Situation) -> str:
    # only who holds all that is required is eligible
    required = situation.lead.get("required_certifications") or ()
    return f"certified for {', '.join(required)}" if required else ""


def _speaks(situation: Situation, value: Mapping[str, float]) -> str:
    spoken = situation.lead.get("languages") or ()
    return f"speaks {', '.join(spoken)}" if value.get(_SPOKEN) == 1.0 else ""


def _busy(situation: Situation, row: int) -> list[str]:
    partners, load = situation.snapshot.partners, situation.load
    told = [
        (partners.capacity_per_day, load.day, "leads today"),
        (partners.capacity_per_week, load.week, "leads this week"),
        (partners.max_open_leads, load.open, "open leads"),
    ]
    return [f"{used[row]:d} of {limit[row]:.0f} {words}" for limit, used, words in told if not np.isnan(limit[row])]
