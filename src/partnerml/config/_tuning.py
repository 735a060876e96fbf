"""How much is spent on better settings of the models."""

from __future__ import annotations

from pydantic import Field

from partnerml.config._base import Model


class TuningConfig(Model):
    """How much is spent on better settings of the models."""

    trials: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="trials of tuning where `train` or `nightly` train a model; 0 = the defaults, as they are",
    )
