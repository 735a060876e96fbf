"""The whole simulation in order, and its result."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from partnerml.errors import ConfigError
from partnerml.synthetic import _arrow as arrow
from partnerml.synthetic import _partner_tables, _tables
from partnerml.synthetic._deals import create_accounts, simulate_deals
from partnerml.synthetic._engagement import simulate_engagement
from partnerml.synthetic._leads import create_certificates, create_leads, simulate_assignments
from partnerml.synthetic._truth import Truth
from partnerml.synthetic._world import DAY, Calendar, World, create_world, microseconds

_LAST_MONTH = 120


@dataclasses.dataclass(frozen=True, repr=False)
class SyntheticEcosystem:
    """A simulated ecosystem: what its records show, and what is true.

    Attributes
    ----------
    tables : mapping of str to pyarrow.Table
        All canonical tables, as an extract at `end` shows them.
    truth : Truth
        The latent side.
    start, end : datetime
        The simulated time, UTC; `end` is the moment of the extract.
    """

    tables: Mapping[str, Any]
    truth: Truth
    start: dt.datetime
    end: dt.datetime

    def write(self, folder: str | Path) -> Path:
        """Write each table to ``FOLDER/NAME.parquet``; equal simulations give equal bytes.

        The files are written aside first and then renamed, so that none of them is ever seen half-written.

        Returns
        -------
        Path
            The folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".partnerml-", dir=folder))
        try:
            for name, table in self.tables.items():
                pq.write_table(table, aside / f"{name}.parquet", compression="zstd")
            for name in self.tables:
                (aside / f"{name}.parquet").replace(folder / f"{name}.parquet")
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder


def simulate(
    *, partners: int = 1000, start: str | dt.date = "2024-01-01", months: int = 24, seed: int = 0
) -> SyntheticEcosystem:
    """Simulate a partner programme that starts with nobody and grows.

    Half of the partners join in the first 60 days, the others steadily. Engagement follows a hidden Markov chain
    by day (engaged, declining, dormant, left) times a level that never changes; actions are Poisson, given those.
    Routed leads end in `assignments` alone; those that partners hand in also become deals.

    Parameters
    ----------
    partners : int
        How many partners join in all.
    start : str or date
        The first day, UTC.
    months : int
        How many calendar months; the extract is taken at 00:00 of the day after them.
    seed : int
        Equal arguments give equal tables. Each part draws from its own stream.

    Returns
    -------
    SyntheticEcosystem

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    first = _first_day(start)
    _check(partners=partners, months=months, seed=seed)
    last = _months_later(first, months)
    calendar = Calendar(first=(first - dt.date(1970, 1, 1)).days, days=(last - first).days)
    world = create_world(partners, calendar=calendar, seed=seed)
    tables, truth = _play(world, seed=seed)
    begin, end = (dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC) for day in (first, last))
    return SyntheticEcosystem(tables=types.MappingProxyType(tables), truth=truth, start=begin, end=end)


def _play(world: World, *, seed: int) -> tuple[dict[str, Any], Truth]:
    engagement = simulate_engagement(world, seed=seed)
    left = engagement.left
    accounts = create_accounts(world, seed=seed)
    deals, actions = simulate_deals(world, accounts, engagement.actions, seed=seed)
    engagement = dataclasses.replace(engagement, actions=actions)
    certificates = create_certificates(world, left=left, seed=seed)
    leads, deal_of = create_leads(world, accounts, deals, seed=seed)
    assignments = simulate_assignments(world, leads, certificates, left=left, deals=deals, deal_of=deal_of, seed=seed)
    lead_of = np.full(deals.n, -1)
    lead_of[deal_of[deal_of >= 0]] = np.flatnonzero(deal_of >= 0)

    profiles = _partner_tables.create_profiles(world, seed=seed)
    current = _partner_tables.current(world, profiles, deals, left=left)
    past = _partner_tables.history(world, deals, profiles, left=left)
    tables = {
        "partners": _partner_tables.partners_table(world, profiles, current),
        "partner_history": _partner_tables.history_table(world, profiles, past),
        "events": _tables.events_table(world, engagement, seed=seed),
        "deals": _tables.deals_table(world, deals, lead_of),
        "deal_history": _tables.deal_history_table(world, deals),
        "deal_partners": _tables.deal_partners_table(world, deals),
        "certifications": _partner_tables.certifications_table(world, certificates, seed=seed),
        "accounts": _tables.accounts_table(world, accounts, deals, left=left, seed=seed),
        "leads": _tables.leads_table(world, leads, assignments, seed=seed),
        "assignments": _tables.assignments_table(world, assignments, leads, deals, deal_of),
        "recruits": _partner_tables.recruits_table(world, profiles, seed=seed),
        "territories": _partner_tables.territories_table(world, seed=seed),
    }
    ids = _partner_tables.partner_ids(arrow.arange(world.n)).to_numpy(zero_copy_only=False)
    names = _tables.lead_ids(arrow.arange(leads.n)).to_numpy(zero_copy_only=False)
    return tables, Truth(ids, names, world, engagement, deals, assignments, leads)


def _first_day(start: str | dt.date) -> dt.date:
    try:
        moment = dt.datetime.fromisoformat(start) if isinstance(start, str) else start
    except ValueError:
        raise ConfigError(f"start must be a date such as 2024-01-01, got {start!r}") from None
    if not isinstance(moment, dt.datetime):
        return moment
    if microseconds(moment) % DAY:
        raise ConfigError(f"start must be a day (00:00 UTC), got {start!r}")
    return moment.astimezone(dt.UTC).date() if moment.tzinfo else moment.date()


def _check(*, partners: int, months: int, seed: int) -> None:
    if partners < 1:
        raise ConfigError(f"partners must be at least 1, got {partners}")
    if not 1 <= months <= _LAST_MONTH:
        raise ConfigError(f"months must be from 1 to {_LAST_MONTH}, got {months}")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")


def _months_later(day: dt.date, months: int) -> dt.date:
    if day.day > 28:
        raise ConfigError(f"start must be on a day that every month has (1 to 28), got {day}")
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1)
