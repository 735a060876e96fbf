"""Routing: leads to the partners most likely to close them, under the rules of engagement, and never twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from partnerml.errors import require

if TYPE_CHECKING:
    from partnerml.routing._decision import Alternative, Decision, Removed
    from partnerml.routing._lead import Lead
    from partnerml.routing._lead_files import read_leads
    from partnerml.routing._ledger import Ledger
    from partnerml.routing._pricing import Prices
    from partnerml.routing._router import Router
    from partnerml.routing._rule import Rule
    from partnerml.routing._rules import register_rule
    from partnerml.routing._situation import Situation
    from partnerml.routing._snapshot import Snapshot

# loaded on first use: who only opens a snapshot needs no database
_HOMES = {
    "Alternative": "_decision",
    "Decision": "_decision",
    "Lead": "_lead",
    "Ledger": "_ledger",
    "Prices": "_pricing",
    "Removed": "_decision",
    "Router": "_router",
    "Rule": "_rule",
    "Situation": "_situation",
    "Snapshot": "_snapshot",
    "read_leads": "_lead_files",
    "register_rule": "_rules",
}

_WITH_LEDGER = ("Ledger", "Router")

__all__ = [
    "Alternative",
    "Decision",
    "Lead",
    "Ledger",
    "Prices",
    "Removed",
    "Router",
    "Rule",
    "Situation",
    "Snapshot",
    "read_leads",
    "register_rule",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'partnerml.routing' has no attribute {name!r}")
    if name in _WITH_LEDGER:
        require("sqlalchemy", "routing", "the ledger of decisions")
    return getattr(importlib.import_module(f"partnerml.routing.{_HOMES[name]}"), name)
