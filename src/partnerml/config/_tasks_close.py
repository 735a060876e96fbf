"""The section of the close task."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import pydantic
from pydantic import BeforeValidator, Field

from partnerml.config._base import Model, as_text, refusal


class CloseConfig(Model):
    """How likely a partner is to win a lead."""

    horizon_days: int = Field(
        default=180, ge=1, le=3650, description="won within so many days of the assignment; later counts as not won"
    )
    train_from: Annotated[str | None, BeforeValidator(as_text)] = Field(
        default=None, description="the earliest assignments to train on, as a date; null = all"
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
