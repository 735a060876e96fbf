"""The section of the fit task."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import pydantic
from pydantic import BeforeValidator, Field

from partnerml.config._base import Model, as_text, refusal


class FitConfig(Model):
    """Which recruit will succeed, judged by its traits."""

    success_days: int = Field(default=365, ge=1, le=3650, description="how long after joining a partner may take")
    success_amount: float | None = Field(
        default=None, gt=0, description="won revenue that counts as success; null = any won deal does"
    )
    train_from: Annotated[str | None, BeforeValidator(as_text)] = Field(
        default=None,
        description="the earliest joining date to train on, as a date; null = the month of the first deal on record",
    )

    @pydantic.field_validator("train_from")
    @classmethod
    def _a_date(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                dt.date.fromisoformat(value)
            except ValueError:
                raise refusal(f"{value!r} is not a date such as 2026-01-01") from None
        return value
