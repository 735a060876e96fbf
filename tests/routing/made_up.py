"""Made-up snapshots for the tests of routing: a few partners as dicts, and what else a test is about."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from partnerml.config import CurrencyConfig, RoutingConfig
from partnerml.routing._scorer import CallableScorer
from partnerml.routing._snapshot import Snapshot

AS_OF = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)  # a Monday
Rows = Sequence[Mapping[str, Any]] | None


def snapshot(
    partners: Sequence[Mapping[str, Any]] | int = 3,
    *,
    territories: Rows = None,
    certifications: Rows = None,
    deals: Rows = None,
    accounts: Rows = None,
    leads: Rows = None,
    assignments: Rows = None,
    cells: Rows = None,
    p: Mapping[str, float] | Callable[..., Any] | None = None,
    prices: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | RoutingConfig | None = None,
    as_of: dt.datetime = AS_OF,
    currency: CurrencyConfig | None = None,
) -> Snapshot:
    """Return a snapshot.

    Parameters
    ----------
    partners
        A dict a partner, ``partner_id`` p0, p1, ... where it is absent; or how many.
    territories, certifications, deals, accounts, leads, assignments, cells
        A dict a row, of the canonical columns.
    p
        P(won) by partner (.3 for those not named), or a function of situation and rows; by default the win rates.
    prices
        By partner; 0 for those not named.
    config
        The section `routing`.
    """
    rows = [{}] * partners if isinstance(partners, int) else partners
    named = [{"partner_id": f"p{i}", **row} for i, row in enumerate(rows)]
    ids = sorted(row["partner_id"] for row in named)
    tables = {
        "partners": named,
        "territories": territories,
        "certifications": certifications,
        "deals": deals,
        "accounts": accounts,
        "leads": leads,
        "assignments": assignments,
        "cells": cells,
    }
    return Snapshot.of(
        as_of=as_of,
        **{name: columns(given) for name, given in tables.items()},
        scorer=scorer(p, ids),
        prices=None if prices is None else [prices.get(partner, 0.0) for partner in ids],
        config=RoutingConfig.model_validate(config) if isinstance(config, dict) else config,
        currency=currency,
    )


def columns(rows: Rows) -> dict[str, list[Any]] | None:
    """Return rows as columns; what a row lacks is null."""
    if rows is None:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def scorer(p: Mapping[str, float] | Callable[..., Any] | None, ids: Sequence[str]) -> CallableScorer | None:
    """Return a scorer that gives each partner its own probability."""
    if p is None:
        return None
    if callable(p):
        return CallableScorer(p)
    said = np.array([p.get(partner, 0.3) for partner in ids])
    return CallableScorer(lambda situation, rows: said[rows])
