"""The rules of engagement that partnerml has, as values in the order in which they are asked.

Each looks at all partners of a snapshot at once. Null rules are those of routing: a partner without the attribute is
unrestricted; one that is restricted fails where the lead lacks the attribute, unless ``routing.rules.NAME.missing``
says pass. Moments that are null (NaT) compare as false, which is what is wanted of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from partnerml.pairs import Lists
from partnerml.routing._hours import is_open
from partnerml.routing._partners import NO_ROW
from partnerml.routing._rule import Rule
from partnerml.routing._territory import covers, lacks_coordinates, place_words, territory_words, unsaid

if TYPE_CHECKING:
    from partnerml.routing._situation import Situation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# what a territory may ask for
_PLACE = ("country", "region", "postal_code", "latitude", "longitude", "vertical")


def _everybody(s: Situation) -> Bools:
    """Return all partners; not to be written to."""
    return s.index.everybody


def _is_lenient(s: Situation, name: str) -> bool:
    settings = s.config.rules.get(name)
    return settings is not None and settings.missing == "pass"


def _or_lenient(passes: Bools, s: Situation, name: str, *, known: bool) -> Bools:
    """Let everybody pass where the lead lacks the attribute and the configuration says so."""
    return passes if known or not _is_lenient(s, name) else _everybody(s)


def _date(moment: np.datetime64) -> str:
    return f"{moment.astype(dt.datetime):%Y-%m-%d %H:%M} UTC"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) if len(texts) < 9 else ", ".join(texts[:8]) + f" and {len(texts) - 8} more"


# membership, pauses, consent, exclusions, flags


def _is_member(s: Situation) -> Bools:
    found = s.index
    return found.kept("membership", found.membership.epoch(s.now), lambda: found.membership.hold(s.now))


def _membership_words(s: Situation, row: int) -> str:
    partners = s.snapshot.partners
    if partners.left_at[row] <= s.now:
        return f"it left on {_date(partners.left_at[row])}"
    return f"it joins on {_date(partners.joined_at[row])}"


def _is_active(s: Situation) -> Bools:
    found = s.index
    return found.kept("pause", found.pauses.epoch(s.now), lambda: ~(s.snapshot.partners.paused_until > s.now))


def _pause_words(s: Situation, row: int) -> str:
    return f"it is paused until {_date(s.snapshot.partners.paused_until[row])}"


def _has_consent(s: Situation) -> Bools:
    found = s.index
    return found.nobody if s.lead.get("consent") is False else found.everybody


def _is_not_excluded(s: Situation) -> Bools:
    return _not_among(s, s.lead.get("excluded_partners", ()))


def _had_not(s: Situation) -> Bools:
    return _not_among(s, s.had)


def _not_among(s: Situation, partners: Any) -> Bools:
    if not partners:
        return _everybody(s)
    passes, index = _everybody(s).copy(), s.snapshot.partners.index
    passes[[index[partner] for partner in partners if partner in index]] = False
    return passes


def _had_not_among(s: Situation, rows: Ints) -> Bools:
    passes, index = np.ones(len(rows), dtype=bool), s.snapshot.partners.index
    for partner in s.had:
        passes &= rows != index.get(partner, NO_ROW)
    return passes


def _has_no_flag(s: Situation) -> Bools:
    def without() -> Bools:
        flagged = s.snapshot.partners.flagged
        passes = _everybody(s).copy()
        for flag in s.config.flags:
            if flag in flagged:
                passes &= ~flagged[flag]
        return passes

    return s.index.kept("flags", s.config.flags, without)


def _flag_words(s: Situation, row: int) -> str:
    own = sorted(s.snapshot.partners.flags[row].intersection(s.config.flags))
    return f"it has the flag{'s' if len(own) > 1 else ''} {_listed(own)}"


# place, vertical, certifications, language


def _covers_place(s: Situation) -> Bools:
    return covers(s, lenient=_is_lenient(s, "territory"))


def _no_coordinates(s: Situation) -> Bools:
    lacking = lacks_coordinates(s)
    return lacking if lacking is s.index.nobody else lacking & ~_covers_place(s)


def _territory_words(s: Situation, row: int) -> str:
    lead = "the lead is " + place_words(s)
    missing = sorted(unsaid(s))
    lacking = f" and does not tell its {_listed(missing)}" if missing else ""
    blind = "; it fails for want of coordinates alone" if _no_coordinates(s)[row] else ""
    return f"{_own_territories(s, row)}; {lead}{lacking}{blind}"


def _own_territories(s: Situation, row: int) -> str:
    own = territory_words(s, row)
    return f"its territories are {_listed(own)}" if own else "none of its territories is valid at the time"


def _exclusive(s: Situation) -> Bools:
    return s.territory.exclusively


def _exclusive_words(s: Situation, row: int) -> str:
    return f"the lead is {place_words(s)}, which is held exclusively, and not by this partner"


def _takes_vertical(s: Situation) -> Bools:
    found, codes = s.index, s.encoded.covered[s.encoded.vertical[0]]
    passes = found.kept("vertical", codes.tobytes(), lambda: found.verticals.mark(codes, found.any_vertical))
    return _or_lenient(passes, s, "vertical", known="vertical" in s.lead.values)


def _vertical_words(s: Situation, row: int) -> str:
    return f"{_own_verticals(s, row)}; {_of_lead(s, 'vertical', 'vertical')}"


def _own_verticals(s: Situation, row: int) -> str:
    own = _names(s.snapshot.facts.verticals, s.snapshot.facts.vocabularies["verticals"].index, row)
    return f"it takes {_listed(own)}"


def _is_certified(s: Situation) -> Bools:
    held, found = s.snapshot.certifications, s.index
    required = s.lead.get("required_certifications", ())
    if not required:
        return found.everybody

    def certified() -> Bools:
        passes = found.everybody.copy()
        for name in required:
            has = np.zeros(len(passes), dtype=bool)
            if name in held.names:
                rows = found.certifications.of_one(held.names.index(name))
                has[held.row[rows[found.certified.hold(s.now, rows)]]] = True
            passes &= has
        return passes

    return found.kept("certifications", (required, found.certified.epoch(s.now)), certified)


def _certification_words(s: Situation, row: int) -> str:
    return "; ".join(filter(None, (_lacking(s, row, name) for name in s.lead.get("required_certifications", ()))))


def _own_certifications(s: Situation, row: int) -> str:
    held = s.snapshot.certifications
    own = np.flatnonzero(held.row == row)
    names = sorted({held.names[code] for code in held.code[own[s.index.certified.hold(s.now, own)]].tolist()})
    return f"it holds {_listed(names)}" if names else "it holds no certification at the time"


def _lacking(s: Situation, row: int, name: str) -> str:
    """Return why a partner has not got a certification, and nothing if it has."""
    held = s.snapshot.certifications
    own = np.flatnonzero((held.row == row) & (held.code == (held.names.index(name) if name in held.names else -1)))
    ends = []
    for place in own:
        span = held.earned_at[place], held.expires_at[place], held.revoked_at[place]
        if span[0] > s.now:
            ends.append(f"earned only on {_date(span[0])}")
        elif span[2] <= s.now:
            ends.append(f"revoked on {_date(span[2])}")
        elif span[1] <= s.now:
            ends.append(f"expired on {_date(span[1])}")
        else:
            return ""
    return f"{name}: {', '.join(ends) or 'never earned'}"


def _speaks(s: Situation) -> Bools:
    found, wants = s.index, s.encoded.languages
    codes = wants.wanted[wants.which[0]]
    passes = found.kept("language", codes.tobytes(), lambda: found.languages.mark(codes, found.any_language))
    return _or_lenient(passes, s, "language", known="languages" in s.lead.values)


def _language_words(s: Situation, row: int) -> str:
    return f"{_own_languages(s, row)}; {_of_lead(s, 'languages', 'language')}"


def _own_languages(s: Situation, row: int) -> str:
    own = _names(s.snapshot.facts.languages, s.snapshot.facts.vocabularies["languages"].index, row)
    return f"it speaks {_listed(own)}"


def _names(lists: Lists, index: Mapping[str, int], row: int) -> list[str]:
    start = lists.rows.start
    own = set(lists.item[start[row] : start[row + 1]].tolist())
    return [text for text, code in index.items() if code in own]


def _of_lead(s: Situation, column: str, called: str) -> str:
    value = s.lead.get(column)
    if value is None:
        return f"the lead does not tell its {called}"
    return f"the lead asks for {_listed(value) if isinstance(value, tuple) else value}"


# size, tier, hours, capacity


def _takes_size(s: Situation) -> Bools:
    return _takes_size_among(s, slice(None))


def _takes_size_among(s: Situation, rows: Any) -> Bools:
    partners, amount = s.snapshot.partners, s.lead.get("amount")
    low, high = partners.min_deal_amount[rows], partners.max_deal_amount[rows]
    passes: Bools
    if amount is None:
        passes = np.isnan(low) & np.isnan(high) | _is_lenient(s, "deal_size")
    else:
        passes = ~(low > amount) & ~(high < amount)
    return passes


def _size_words(s: Situation, row: int) -> str:
    return f"{_own_sizes(s, row)}; {_amount_words(s)}"


def _own_sizes(s: Situation, row: int) -> str:
    low, high = (limits[row] for limits in (s.snapshot.partners.min_deal_amount, s.snapshot.partners.max_deal_amount))
    limits = [f"{word} {limit:,.2f}" for word, limit in (("from", low), ("up to", high)) if not np.isnan(limit)]
    return f"it takes deals {' '.join(limits)}"


def _amount_words(s: Situation) -> str:
    amount = s.lead.get("amount")
    return "the lead does not tell its amount" if amount is None else f"the lead is worth {amount:,.2f}"


def _has_tier(s: Situation) -> Bools:
    tiers, amount = s.config.tiers, s.lead.get("amount")
    if not tiers:
        return _everybody(s)
    if amount is None and _is_lenient(s, "tier"):
        return _everybody(s)
    least = max((least for least in tiers.values() if amount is None or least <= amount), default=0.0)
    found = s.index

    def high_enough() -> Bools:
        own = [np.inf if name == "" else tiers.get(name, 0.0) for name in found.tiers]
        high = np.array([height >= least for height in own], dtype=bool)
        return np.asarray(high[found.tier])

    return found.kept("tier", (tuple(tiers.items()), least), high_enough)


def _tier_words(s: Situation, row: int) -> str:
    amount = s.lead.get("amount")
    asked = [least for least in s.config.tiers.values() if amount is None or least <= amount]
    those = [name for name, least in s.config.tiers.items() if least >= max(asked, default=0.0)]
    return f"{_own_tier(s, row)}; {_amount_words(s)}, and is for {_listed(sorted(those))}"


def _own_tier(s: Situation, row: int) -> str:
    return f"its tier is {s.snapshot.partners.tier[row]}"


def _is_at_work(s: Situation) -> Bools:
    found, hours = s.index, s.config.hours
    at_work = [is_open(hours, zone, country, s.moment, region=region) for zone, country, region in found.places]
    passes: Bools = np.array(at_work, dtype=bool)[found.place]
    return passes


def _hours_words(s: Situation, row: int) -> str:
    zone = s.snapshot.partners.time_zone[row]
    name = s.config.hours.time_zone if zone < 0 else s.snapshot.partners.time_zones[zone]
    hours = s.config.hours
    return f"it works {', '.join(hours.days)} from {hours.start} to {hours.end} ({name}), apart from public holidays"


def _limits(s: Situation) -> tuple[tuple[str, Any, Ints], ...]:
    partners, load = s.snapshot.partners, s.load
    return (
        ("today", partners.capacity_per_day, load.day),
        ("this week", partners.capacity_per_week, load.week),
        ("open", partners.max_open_leads, load.open),
    )


def _has_capacity(s: Situation) -> Bools:
    return _has_capacity_among(s, slice(None))


def _has_capacity_among(s: Situation, rows: Any) -> Bools:
    full = [given[rows] >= limit[rows] for _, limit, given in _limits(s)]
    passes: Bools = ~(full[0] | full[1] | full[2])
    return passes


def _capacity_words(s: Situation, row: int) -> str:
    full = [(given[row], limit[row], when) for when, limit, given in _limits(s) if given[row] >= limit[row]]
    return "it has " + ", ".join(f"{given} of {limit:g} leads {when}" for given, limit, when in full)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule(
                "membership",
                "is a partner at the time: has joined and not left",
                _is_member,
                _membership_words,
                _membership_words,
                reads=(),
            ),
            Rule("pause", "takes leads at the time: is not paused", _is_active, _pause_words, _pause_words, reads=()),
            Rule(
                "consent",
                "may be told of the lead: its consent is not refused",
                _has_consent,
                lambda s, row: "the lead says that it may not be passed on",
                reads=("consent",),
            ),
            Rule(
                "exclusions",
                "is not among those that the lead excludes",
                _is_not_excluded,
                lambda s, row: "the lead excludes it",
                reads=("excluded_partners",),
            ),
            Rule(
                "flags",
                "has none of the flags that keep partners out",
                _has_no_flag,
                _flag_words,
                _flag_words,
                reads=(),
            ),
            Rule(
                "territory",
                "covers the lead's place",
                _covers_place,
                _territory_words,
                _own_territories,
                apart={"territory_no_coordinates": _no_coordinates},
                reads=_PLACE,
            ),
            Rule(
                "vertical",
                "takes the lead's vertical, or one above it",
                _takes_vertical,
                _vertical_words,
                _own_verticals,
                reads=("vertical",),
            ),
            Rule(
                "certifications",
                "holds every certification that is asked for",
                _is_certified,
                _certification_words,
                _own_certifications,
                reads=("required_certifications",),
            ),
            Rule(
                "language",
                "speaks one of the lead's languages",
                _speaks,
                _language_words,
                _own_languages,
                reads=("languages",),
            ),
            Rule(
                "deal_size",
                "takes deals of the lead's amount",
                _takes_size,
                _size_words,
                _own_sizes,
                reads=("amount",),
                among=_takes_size_among,
            ),
            Rule(
                "tier",
                "has a tier for the lead's amount",
                _has_tier,
                _tier_words,
                _own_tier,
                reads=("amount",),
            ),
            Rule(
                "business_hours",
                "is at work at the time",
                _is_at_work,
                _hours_words,
                _hours_words,
                enabled=False,
                reads=(),
            ),
            Rule(
                "had_before",
                "has not had the lead before",
                _had_not,
                lambda s, row: "it has had this lead before",
                reads=(),
                among=_had_not_among,
            ),
            Rule(
                "capacity",
                "has room today, this week and among its open leads",
                _has_capacity,
                _capacity_words,
                _capacity_words,
                reads=(),
                among=_has_capacity_among,
            ),
            Rule(
                "exclusive_territory",
                "holds the lead's place exclusively, if one of those left does",
                _exclusive,
                _exclusive_words,
                narrows=True,
                reads=_PLACE,
            ),
        )
    }
)
