"""The sections of the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field

from partnerml.config._base import Date, Model, Texts, as_text, as_tuple, refusal


def _prior(value: object) -> object:
    """Take one share as a range of itself."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return as_tuple(value)


def _values(value: object) -> object:
    """Take one value as a list of itself, and true and false as their texts."""
    if not isinstance(value, Mapping):
        return value
    listed = {key: values if isinstance(values, list | tuple) else [values] for key, values in value.items()}
    return {key: as_tuple([as_text(one) for one in values]) for key, values in listed.items()}


class ActivityConfig(Model):
    """Which activity qualifies; both empty means all of it."""

    include: Texts = Field(default=(), description="only these event types (and `deals`)")
    exclude: Texts = Field(default=(), description="all but these event types (and `deals`)")


class ChurnConfig(Model):
    """Which active partner is about to go quiet."""

    horizon_days: int = Field(default=90, ge=1, le=3650, description="how far ahead the risk is read")
    inactivity_days: int = Field(
        default=90, ge=1, le=3650, description="the silence that counts as churn; at most the horizon"
    )
    active_within_days: int | None = Field(
        default=90, ge=1, le=3650, description="only partners active in these last days are scored; null = active ever"
    )
    activity: ActivityConfig = Field(default_factory=ActivityConfig, description="which activity qualifies")
    train_from: Date = Field(
        default=None,
        description="the earliest monthly snapshot to train on, as a date; null = the first with its full history",
    )
    max_rows: int | None = Field(
        default=None,
        ge=1_000,
        description="train on at most so many rows, those of partners drawn at random; null = 60000",
    )

    @pydantic.model_validator(mode="after")
    def _horizon_holds_a_silence(self) -> Self:
        if self.horizon_days < self.inactivity_days:
            raise refusal(
                f"horizon_days ({self.horizon_days}) is below inactivity_days ({self.inactivity_days}): "
                "no silence of that length can end within the horizon; raise the one or lower the other"
            )
        return self


class FitConfig(Model):
    """Which recruit will succeed, judged by its traits."""

    success_days: int = Field(default=365, ge=1, le=3650, description="how long after joining a partner may take")
    success_amount: float | None = Field(
        default=None, gt=0, description="won revenue that counts as success; null = any won deal does"
    )
    train_from: Date = Field(
        default=None,
        description="the earliest joining date to train on, as a date; null = the month of the first deal on record",
    )
    max_rows: int | None = Field(
        default=None, ge=1_000, description="train on at most so many partners, drawn at random; null = 50000"
    )


class PropensityConfig(Model):
    """Which company may become a partner, or looks like the best of them."""

    horizon_days: int = Field(
        default=90, ge=1, le=3650, description="with dates: how soon after its creation an account becomes a partner"
    )
    dated: bool | None = Field(
        default=None,
        description="learn from accounts at their creation (created_at, partner_since); false = from what partners "
        "look like among all accounts; null = as the columns allow",
    )
    positives: Literal["partners", "best"] = Field(
        default="partners", description="without dates: learn from all partners, or from the best by won revenue"
    )
    best_share: float = Field(
        default=0.25, gt=0, le=1, description="share of the partners with won revenue that are the best"
    )
    class_prior: Annotated[tuple[float, float] | None, BeforeValidator(_prior)] = Field(
        default=None,
        description="without dates: share of the other accounts that are like partners, or a range such as "
        "[0.02, 0.1]; null = a score is a rank and no probability",
    )
    exclude: Annotated[Mapping[str, tuple[str, ...]], BeforeValidator(_values)] = Field(
        default_factory=dict,
        description="columns of accounts and values; who has one is never scored, such as {relationship: [competitor]}",
    )
    max_rows: int | None = Field(
        default=None,
        ge=1_000,
        description="train on about so many accounts, drawn at random; null = 200000",
    )

    @pydantic.field_validator("class_prior")
    @classmethod
    def _shares(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] < 1:
            raise refusal(f"a share between 0 and 1 is needed, or a range such as [0.02, 0.1]; got {list(value)}")
        return value

    @pydantic.field_validator("exclude")
    @classmethod
    def _something(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for column, values in value.items():
            if not values or not all(one.strip() for one in values):
                raise refusal(f"{column}: list the values whose accounts are left out")
        return value

    @pydantic.model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        undated = {"positives: best": self.positives == "best", "class_prior": self.class_prior is not None}
        given = [key for key, is_given in undated.items() if is_given]
        if self.dated and given:
            raise refusal(f"{given[0]} is about accounts without dates, and dated is true; leave one of them out")
        return self


class CloseConfig(Model):
    """How likely a partner is to win a lead."""

    horizon_days: int = Field(
        default=180, ge=1, le=3650, description="won within so many days of the assignment; later counts as not won"
    )
    train_from: Date = Field(default=None, description="the earliest assignments to train on, as a date; null = all")


class TasksConfig(Model):
    """The tasks that `all` trains and scores."""

    churn: ChurnConfig | None = Field(default=None, description="churn risk; `churn: {}` takes every default")
    fit: FitConfig | None = Field(default=None, description="which recruit will succeed, by its traits")
    propensity: PropensityConfig | None = Field(default=None, description="propensity of accounts to become partners")
    close: CloseConfig | None = Field(default=None, description="how likely a partner is to win a lead")

    @pydantic.field_validator("churn", "fit", "propensity", "close", mode="before")
    @classmethod
    def _named_is_wanted(cls, value: object) -> object:
        # `churn:` with nothing behind it is YAML's null: the task is listed, so it is wanted
        return {} if value is None else value
