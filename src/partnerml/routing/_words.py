"""A partner and a lead in words: how far it is, what the partner has won, what it holds, how busy it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from partnerml.pairs import Pairing

if TYPE_CHECKING:
    from partnerml.routing._situation import Situation

_READ = (
    "pair__place__distance_km__asof",
    "pair__place__level__asof",
    "pair__vertical__won__ever",
    "pair__vertical__count__ever",
    "pair__all__won__ever",
    "pair__all__count__ever",
    "pair__language__coverage__asof",
)
_PLACES = {3.0: "in the same postal area", 2.0: "in the same region", 1.0: "in the same country", 0.0: "abroad"}


def facts(situation: Situation, row: int) -> tuple[str, ...]:
    """Return what speaks of a partner and a lead, in words: its own facts, none of others.

    Parameters
    ----------
    situation : Situation
    row : int
        Of the partner.
    """
    found = Pairing(situation.encoded, situation.snapshot.facts, 0, np.array([row])).features(_READ)[0]
    value = {name.split("__", 1)[1].rsplit("__", 1)[0]: float(x) for name, x in zip(_READ, found, strict=True)}
    told = (
        _near(value["place__distance_km"], value["place__level"]),
        _record(situation, value),
        _certified(situation),
        _speaks(situation, value["language__coverage"]),
        *_busy(situation, row),
    )
    return tuple(words for words in told if words)


def _near(km: float, level: float) -> str:
    return f"{km:,.0f} km away" if not np.isnan(km) else _PLACES.get(level, "")


def _record(situation: Situation, value: dict[str, float]) -> str:
    vertical = situation.lead.get("vertical")
    closed, won = value["vertical__count"], value["vertical__won"]
    if vertical is not None and closed > 0:
        return f"won {won:.0f} of {closed:.0f} {vertical} deals and leads"
    if value["all__count"] > 0:
        return f"won {value['all__won']:.0f} of {value['all__count']:.0f} deals and leads"
    return "no closed deal or lead so far"


def _certified(situation: Situation) -> str:
    # only who holds all that is required is eligible
    required = situation.lead.get("required_certifications") or ()
    return f"certified for {', '.join(required)}" if required else ""


def _speaks(situation: Situation, share: float) -> str:
    spoken = situation.lead.get("languages") or ()
    return f"speaks {', '.join(spoken)}" if spoken and share == 1.0 else ""


def _busy(situation: Situation, row: int) -> list[str]:
    partners, load = situation.snapshot.partners, situation.load
    told = [
        (partners.capacity_per_day, load.day, "leads today"),
        (partners.capacity_per_week, load.week, "leads this week"),
        (partners.max_open_leads, load.open, "open leads"),
    ]
    return [f"{used[row]:d} of {limit[row]:.0f} {words}" for limit, used, words in told if not np.isnan(limit[row])]
