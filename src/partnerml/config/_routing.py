"""The section `routing`: who may get a lead, how one is chosen, and for how long it is offered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from partnerml.config._base import Duration, Model, Texts, as_tuple, refusal
from partnerml.config._reading import explain
from partnerml.errors import ConfigError

Missing = Literal["pass", "fail"]
PolicyKind = Literal["greedy", "softmax", "epsilon", "thompson", "round_robin"]
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class RuleConfig(Model):
    """One rule of eligibility."""

    enabled: bool | None = Field(default=None, description="whether it is asked; null = as the rule itself has it")
    missing: Missing = Field(
        default="fail",
        description="what a partner that is restricted does with a lead that lacks the attribute: pass or fail",
    )


class MatchingConfig(Model):
    """When a lead is another one come again."""

    enabled: bool = Field(default=True, description="whether duplicates are looked for")
    window: Duration = Field(default=dt.timedelta(days=90), description="how long ago the other lead may have come")
    name_threshold: float = Field(
        default=93.0, ge=50, le=100, description="how alike normalised company names must be, 0 to 100 (rapidfuzz)"
    )


class HoursConfig(Model):
    """Business hours, in the partner's time zone."""

    days: Texts = Field(default=_WEEK[:5], description="working days: mon, tue, wed, thu, fri, sat, sun")
    start: str = Field(default="09:00", pattern=_CLOCK, description="when the working day begins")
    end: str = Field(default="17:00", pattern=_CLOCK, description="when it ends")
    holidays: Texts = Field(default=(), description="countries (or COUNTRY-REGION) whose public holidays are kept")
    time_zone: str = Field(default="UTC", description="of partners that have none")

    @pydantic.field_validator("days")
    @classmethod
    def _known_days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(_WEEK):
            raise refusal(f"working days are some of {', '.join(_WEEK)}; got {', '.join(value) or 'none'}")
        return value

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> HoursConfig:
        if self.start >= self.end:
            raise refusal(f"the working day must begin before it ends, got {self.start} to {self.end}")
        return self


class OffersConfig(Model):
    """How long a partner has to answer, and how often a lead is offered."""

    answer_within: Duration = Field(
        default=dt.timedelta(hours=24), description="in business hours; after that the offer expires"
    )
    limit: int = Field(default=3, ge=1, description="how many partners a lead is offered to before it falls back")

    @pydantic.field_validator("answer_within")
    @classmethod
    def _some_time(cls, value: dt.timedelta) -> dt.timedelta:
        if value <= dt.timedelta(0):
            raise refusal("a partner needs some time to answer: give more than 0, such as 24h")
        return value


class PolicyConfig(Model):
    """How one of the eligible is chosen."""

    kind: PolicyKind = Field(default="greedy", description="greedy, softmax, epsilon, thompson or round_robin")
    temperature: float = Field(default=0.05, gt=0, description="of softmax, in units of utility")
    epsilon: float = Field(
        default=0.05, ge=0, le=1, description="share of leads that one of the eligible gets at random"
    )
    weights: str | None = Field(
        default=None, description="column of partners with the shares of weighted round robin; null = equal"
    )
    catch_up: float = Field(
        default=2.0, ge=1, description="the most leads by which round robin makes good what a partner is behind"
    )


class SplitConfig(Model):
    """A second policy for a share of the leads, by a hash of the lead."""

    share: float = Field(gt=0, lt=1, description="of the leads that the challenger decides")
    policy: PolicyConfig = Field(default_factory=PolicyConfig, description="what it decides by")


class FirstStageConfig(Model):
    """A cheap look before the model, where very many partners are eligible."""

    above: int = Field(default=300, ge=1, description="how many eligible partners are scored without a first stage")
    keep: int = Field(default=200, ge=1, description="how many of more than that are scored")


class ShareConfig(Model):
    """The least or the most that a group of partners gets of a batch."""

    column: str = Field(description="column of partners, such as tier")
    value: str = Field(description="its value, such as boutique")
    least: float | None = Field(default=None, ge=0, le=1, description="share of the leads that are given out, at least")
    most: float | None = Field(default=None, ge=0, le=1, description="share of the leads that are given out, at most")


class BatchConfig(Model):
    """How many leads are given out at once."""

    candidates: int = Field(default=30, ge=1, description="how many of the best partners are considered for each lead")
    gap: float = Field(default=1e-4, gt=0, lt=1, description="the certified distance from the optimum that is enough")
    coverage_first: bool = Field(default=False, description="give out as many leads as possible, then maximise")
    shares: Annotated[tuple[ShareConfig, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="shares of groups of partners"
    )


class RoutingConfig(Model):
    """Who may get a lead, how one is chosen, and for how long it is offered."""

    objective: Literal["win", "value", "accept_and_win"] = Field(
        default="win",
        description="what is maximised: the chance to win, that chance times the lead's amount, or the chance that the "
        "partner accepts and wins",
    )
    ledger: str | None = Field(
        default=None,
        description="database of decisions, sqlite:///PATH or postgresql+psycopg://...; null = OUT/ledger.db",
    )
    max_snapshot_age: Duration = Field(
        default=dt.timedelta(hours=36), description="a snapshot that is older is refused"
    )
    max_price_age: Duration = Field(
        default=dt.timedelta(hours=36), description="of prices that are older (partnerml reprice) a warning tells"
    )
    duplicates: MatchingConfig = Field(default_factory=MatchingConfig, description="when a lead is another come again")
    protection: Duration = Field(
        default=dt.timedelta(days=90), description="how long a registered deal is protected that says no end"
    )
    order: Texts = Field(default=(), description="rules in the order in which they are asked; those not named follow")
    rules: Mapping[str, RuleConfig] = Field(default_factory=dict, description="settings of rules, by name")
    flags: Texts = Field(default=("compliance",), description="flags of partners that get no leads")
    tiers: Mapping[str, float] = Field(
        default_factory=dict, description="tier: the least amount of a lead from which only such tiers are asked"
    )
    policy: PolicyConfig = Field(default_factory=PolicyConfig, description="how one of the eligible is chosen")
    split: SplitConfig | None = Field(default=None, description="a second policy for a share of the leads")
    first_stage: FirstStageConfig = Field(
        default_factory=FirstStageConfig, description="where very many partners are eligible"
    )
    hold_back: bool = Field(
        default=False,
        description="whether a lead that is worth less than the capacity of everybody who may get it falls back, so "
        "that better leads to come find room; needs prices",
    )
    offers: OffersConfig = Field(default_factory=OffersConfig, description="how long a partner has to answer")
    hours: HoursConfig = Field(default_factory=HoursConfig, description="business hours")
    batch: BatchConfig = Field(default_factory=BatchConfig, description="many leads at once")

    @classmethod
    def of(cls, given: RoutingConfig | Mapping[str, Any]) -> RoutingConfig:
        """Return a section that is given as one, or as a mapping such as YAML has it.

        Raises
        ------
        ConfigError
            If it is neither, or a key or a value is not allowed.
        """
        if isinstance(given, RoutingConfig):
            return given
        if not isinstance(given, Mapping):
            raise ConfigError(f"the section routing is a RoutingConfig or a mapping; got {type(given).__name__}")
        try:
            return cls.model_validate(given)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(error, given, "routing")) from None

    @pydantic.model_validator(mode="after")
    def _one_set_of_weights(self) -> RoutingConfig:
        arms = [self.policy] if self.split is None else [self.policy, self.split.policy]
        named = {arm.weights for arm in arms if arm.kind == "round_robin"}
        if len(named) > 1:
            raise refusal("both arms of a split that take turns must name the same column of weights", "split")
        return self

    def policy_of(self, told: str) -> PolicyConfig | None:
        """Return the policy that a decision names: its kind, or ``champion:KIND``, ``challenger:KIND`` of a split."""
        arms = {self.policy.kind: self.policy, f"champion:{self.policy.kind}": self.policy}
        if self.split is not None:
            arms[f"challenger:{self.split.policy.kind}"] = self.split.policy
        return arms.get(told)

    @property
    def takes_turns(self) -> bool:
        """Whether round robin decides any leads."""
        return "round_robin" in {self.policy.kind, None if self.split is None else self.split.policy.kind}

    @property
    def weights(self) -> str | None:
        """The column of partners with the shares of round robin."""
        arms = [self.policy] if self.split is None else [self.policy, self.split.policy]
        return next((arm.weights for arm in arms if arm.kind == "round_robin"), None)
