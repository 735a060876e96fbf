"""The section `outreach`: whom to call first, and what a call is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import pydantic
from pydantic import Field

from partnerml.config._base import Model, Texts, refusal
from partnerml.config._reading import nearest

ReasonKind = Literal["engagement", "enablement", "support", "pipeline", "performance", "profile"]
REASON_KINDS: tuple[str, ...] = get_args(ReasonKind)


class ActionabilityConfig(Model):
    """How much a call can do about each kind of reason, 0 to 1."""

    engagement: float = Field(default=1.0, ge=0, le=1, description="fewer logins, downloads, campaigns; long silence")
    enablement: float = Field(default=0.9, ge=0, le=1, description="training, and certifications that run out")
    support: float = Field(default=0.8, ge=0, le=1, description="tickets, complaints, bad marks in surveys")
    pipeline: float = Field(default=0.7, ge=0, le=1, description="registered and open deals")
    performance: float = Field(default=0.5, ge=0, le=1, description="won and lost deals, revenue")
    profile: float = Field(default=0.1, ge=0, le=1, description="traits and age, which no call changes; no reason told")


class OutreachConfig(Model):
    """Whom to call first."""

    capacity: int | None = Field(default=None, ge=1, description="how many partners can be called; null = all worth it")
    min_score: float | None = Field(
        default=None, ge=0, le=1, description="the lowest score to call at; null = where the band medium begins"
    )
    cost_of_contact: float = Field(default=0.0, ge=0, description="of one call, in the currency of the amounts")
    save_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of partners about to go quiet that a call keeps where the reason can be acted on fully; "
        "1 = an upper limit",
    )
    least_value: float = Field(
        default=0.0, ge=0, description="what a partner is worth at least, whatever it sold in the last 365 days"
    )
    contact_events: Texts = Field(default=(), description="event types that are a contact, such as account_call")
    pause_days: int = Field(default=14, ge=1, le=3650, description="who was contacted in these last days is left out")
    actionability: ActionabilityConfig = Field(
        default_factory=ActionabilityConfig, description="how much a call can do about each kind of reason"
    )
    events: Mapping[str, str] = Field(
        default_factory=dict,
        description="event type: the kind of reason that it is (a key of actionability), where its name does not tell",
    )

    @pydantic.field_validator("events")
    @classmethod
    def _known_kinds(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for event, kind in value.items():
            if kind not in REASON_KINDS:
                raise refusal(f"unknown kind{nearest(kind, REASON_KINDS)} (known: {', '.join(REASON_KINDS)})", event)
        return value
