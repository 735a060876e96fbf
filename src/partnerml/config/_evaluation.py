"""How strictly models are judged."""

from __future__ import annotations

from pydantic import Field

from partnerml.config._base import Model


class EvaluationConfig(Model):
    """How strictly models are judged, beyond the gap that labels need to mature."""

    embargo_days: int = Field(
        default=0,
        ge=0,
        le=3650,
        description="days left out between the latest row trained on and the gap before the rows it is judged on",
    )
    by_groups: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="judge partners by models that never saw them, in so many groups; null = partners are seen again",
    )
