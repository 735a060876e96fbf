"""Numbers as the page writes them."""

from __future__ import annotations

import dataclasses
import math

UNKNOWN = "—"
# a figure and its unit stay on one line
JOINED = "\u00a0"
_STEPS = ((1e9, "bn"), (1e6, "M"), (1e3, "k"))


def percent(value: float | None, places: int = 0) -> str:
    """Return a share as per cent; a dash where it is not known."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{100 * value:.{places}f}{JOINED}%"


def whole(value: float | None) -> str:
    """Return a number without decimals, thousands apart."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:,.0f}"


@dataclasses.dataclass(frozen=True)
class Money:
    """Amounts in a currency (or none), three digits."""

    currency: str | None = None

    def text(self, value: float | None) -> str:
        """Return an amount such as EUR 1.25 M; a dash where it is not known."""
        if value is None or math.isnan(value):
            return UNKNOWN
        prefix = f"{self.currency}{JOINED}" if self.currency else ""
        for step, name in _STEPS:
            if round(abs(value)) >= step:
                scaled = value / step
                places = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
                return f"{prefix}{scaled:.{places}f}{JOINED}{name}"
        return f"{prefix}{value:.0f}"
