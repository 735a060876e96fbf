"""What kind of reason a feature is: how much a call can do about it, and what the call should be about."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any

from partnerml.config import ActionabilityConfig
from partnerml.errors import ConfigError
from partnerml.features import Feature


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of reason.

    Attributes
    ----------
    name : str
        As the configuration names it.
    about : str
        What belongs to it.
    action : str
        What to do about it, in words.
    """

    name: str
    about: str
    action: str


KINDS: Mapping[str, Kind] = types.MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                "engagement",
                "events that are none of the below, and all activity: logins, downloads, campaigns, silence",
                "call and ask what keeps them away; agree on one next step",
            ),
            Kind(
                "enablement",
                "certifications; events about training, courses, webinars, exams",
                "offer a date for training, and help to renew what runs out",
            ),
            Kind(
                "support",
                "events about tickets, cases, complaints, incidents; surveys",
                "settle the open tickets or the complaint first, then call",
            ),
            Kind(
                "pipeline",
                "registered and open deals; events about quotes, leads and opportunities",
                "go through the open deals together, and help to register the next one",
            ),
            Kind(
                "performance",
                "won and lost deals and their amounts; events about sales and orders",
                "hold a business review: what was lost and why, and where to help",
            ),
            Kind(
                "profile",
                "traits, and how long ago a partner joined; no reason that raises the risk",
                "nothing in the reasons to act on; ask how the partnership is going",
            ),
        )
    }
)

# words in the name of an event type, in the singular
_EVENTS: Mapping[str, frozenset[str]] = types.MappingProxyType(
    {
        "support": frozenset(
            {"ticket", "case", "complaint", "incident", "escalation", "support", "outage"}
            | {"survey", "feedback", "nps", "psat", "csat"}
        ),
        "enablement": frozenset(
            {"training", "course", "certification", "exam", "webinar", "lesson", "enablement", "workshop"}
        ),
        "pipeline": frozenset({"deal", "quote", "lead", "opportunity", "registration", "proposal", "pipeline"}),
        "performance": frozenset({"sale", "order", "invoice", "purchase", "revenue", "renewal", "payment"}),
    }
)
_SOURCES = {"activity": "engagement", "certifications": "enablement", "partners": "profile"}
_PIPELINE_DEALS = ("registered", "open")


def kind_of(feature: str, events: Mapping[str, str] | None = None) -> str:
    """Return the kind of reason that a feature is.

    Parameters
    ----------
    feature : str
        Its name, such as ``events__portal_login__count__30d``.
    events : mapping of str to str, optional
        The kind of event types whose name does not tell it (`outreach.events`).

    Returns
    -------
    str
        A key of `KINDS`; ``profile`` for a name that is none of a feature.

    Examples
    --------
    >>> kind_of("events__support_tickets__count__30d"), kind_of("deals__won__amount__365d")
    ('support', 'performance')
    """
    try:
        found = Feature.parse(feature)
    except ConfigError:
        return "profile"
    if found.source == "events":
        return (events or {}).get(found.kind) or _kind_of_event(found.kind)
    if found.source == "deals":
        return "pipeline" if found.kind in _PIPELINE_DEALS else "performance"
    return _SOURCES.get(found.source, "profile")


def _kind_of_event(event_type: str) -> str:
    words = {word for part in event_type.split("_") for word in (part, part.removesuffix("s"))}
    return next((kind for kind, known in _EVENTS.items() if words & known), "engagement")


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the reasons of one score say about a call.

    Attributes
    ----------
    actionability : float
        How much a call can do, 0 to 1: that of the kinds of the reasons that raise the risk, by their effects.
    kind, action : str
        The kind of the reason to act on, and what to do.
    reason : str
        That reason in words; empty where none raises the risk.
    """

    actionability: float
    kind: str
    action: str
    reason: str


def advice(
    reasons: Iterable[Mapping[str, Any]], weights: ActionabilityConfig, events: Mapping[str, str] | None = None
) -> Advice:
    """Weigh the reasons of a score by what can be done about them.

    Parameters
    ----------
    reasons : iterable of mappings
        With ``feature``, ``effect`` (log-odds) and ``text``, as scores hold them.
    weights : ActionabilityConfig
        How much a call can do about each kind.
    events : mapping of str to str, optional
        As in `kind_of`.
    """
    raising = [
        (float(reason["effect"]), kind_of(str(reason["feature"]), events), str(reason["text"]))
        for reason in reasons
        if reason["effect"] > 0
    ]
    if not raising:
        return Advice(weights.profile, "profile", KINDS["profile"].action, "")
    effects = sum(effect for effect, _, _ in raising)
    weighed = [(effect * float(getattr(weights, kind)), effect, kind, text) for effect, kind, text in raising]
    # the reason that a call can do most about: a large one of which nothing can be changed is no subject for a call
    _, _, kind, text = max(weighed)
    return Advice(sum(share for share, *_ in weighed) / effects, kind, KINDS[kind].action, text)
