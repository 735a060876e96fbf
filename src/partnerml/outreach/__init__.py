"""Outreach: whom to call first, about what, and what that is worth."""

from __future__ import annotations

from partnerml.outreach._kinds import KINDS, Kind, kind_of
from partnerml.outreach._recommend import COLUMNS, Outreach, recommend_outreach

__all__ = ["COLUMNS", "KINDS", "Kind", "Outreach", "kind_of", "recommend_outreach"]
