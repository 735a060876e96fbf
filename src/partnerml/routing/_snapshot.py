"""The snapshot: all that routing needs at a moment, in memory; nothing else is asked while a lead is routed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from partnerml.config import CurrencyConfig, RoutingConfig
from partnerml.errors import DataError
from partnerml.moments import Moment, moment
from partnerml.pairs import PartnerFacts, shrunken
from partnerml.routing._names import domain_key, normalised
from partnerml.routing._offers import ACCEPTED, DECLINED, EXPIRED, OUTCOMES, WITHDRAWN
from partnerml.routing._partners import NO_ROW, Accounts, Certifications, Deals, Partners, moments, rows_of, zoned
from partnerml.routing._scorer import RateScorer, Scorer
from partnerml.routing._situation import Match
from partnerml.routing._tables import canonical, column, held_leads

Floats = npt.NDArray[np.float64]

TABLES = ("partners", "territories", "certifications", "deals", "accounts", "leads")
HELD = "held"
_REFUSED = (DECLINED, EXPIRED, WITHDRAWN)
_ANSWERED = (ACCEPTED, DECLINED, EXPIRED)
_TALLIES = ("closed", "won", "days", "sized", "amount")
_EVERYTHING = "all"
_ABOUT = ("country", "region", "postal_code", "latitude", "longitude", "verticals", "languages")
_AREA = ("country", "region", "postal_prefix", "latitude", "longitude", "radius_km", "verticals")


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """All that routing needs, as of a moment.

    Make one with `Snapshot.of`, or open one that was published.

    Attributes
    ----------
    as_of : datetime
        Zoned UTC.
    tables : mapping of str to pyarrow.Table
        What it is made of: canonical tables with current values, and ``held``, the leads that partners hold open.
    partners : Partners
        Current values, which the rules read; everything below is aligned with its rows.
    facts : PartnerFacts
        The same values, encoded for the kernels of `partnerml.pairs`, with all territories whenever they are valid.
    known : PartnerFacts
        What was known of the same partners at 00:00 UTC of the day: what the model goes by.
    certifications : Certifications
    territories : mapping of str to array
        ``row``, ``exclusive``, ``valid_from`` and ``valid_to``, aligned with ``facts.territories``.
    deals : Deals
    accounts : Accounts
    scorer : Scorer
    prices : array, shape (n,)
        What a unit of each partner's capacity costs, in units of utility.
    acceptance : array, shape (n,)
        How likely each accepts what it is offered.
    config : RoutingConfig
        As published.
    versions : mapping of str to str
        Of what made it.
    currency : CurrencyConfig or None
        Of all amounts, and what others are worth in it; None where the tables do not say.
    """

    as_of: dt.datetime
    tables: Mapping[str, pa.Table]
    partners: Partners
    facts: PartnerFacts
    known: PartnerFacts
    certifications: Certifications
    territories: Mapping[str, npt.NDArray[Any]]
    deals: Deals
    accounts: Accounts
    scorer: Scorer
    prices: Floats
    acceptance: Floats
    config: RoutingConfig
    versions: Mapping[str, str]
    currency: CurrencyConfig | None = None

    @classmethod
    def of(
        cls,
        *,
        as_of: Moment,
        partners: Any,
        territories: Any = None,
        certifications: Any = None,
        deals: Any = None,
        accounts: Any = None,
        leads: Any = None,
        assignments: Any = None,
        held: Any = None,
        cells: Any = None,
        scorer: Scorer | None = None,
        prices: Any = None,
        config: RoutingConfig | None = None,
        known: PartnerFacts | None = None,
        versions: Mapping[str, str] | None = None,
        currency: CurrencyConfig | None = None,
    ) -> Self:
        """Put a snapshot together from canonical tables with current values.

        Parameters
        ----------
        as_of : moment
        partners, territories, certifications, deals, accounts, leads : table
            A DataFrame, a pyarrow.Table, or columns by name; None is a table without rows.
        assignments : table, optional
            Tells which partner has a lead (without it the column ``partner_id`` of `leads` does), and how often
            partners accept (without it, always).
        held : table, optional
            Which leads partners hold open by then (``lead_id``, ``partner_id``): they take room until the ledger gives
            them to somebody. By default those of `assignments` that are neither refused nor closed, if it tells any
            outcome.
        cells : table, optional
            Tallies of past deals and leads where `known` is not given: ``partner_id``, ``dimension`` (``vertical``,
            ``country``, ``size``, or ``all`` for the whole of a partner), ``value``, ``closed``, ``won``, ``days``
            (the sum to the wins), and for ``all`` also ``sized`` and ``amount``.
        scorer : Scorer, optional
            By default the partners' win rates.
        prices : array-like of shape (n,), optional
            In the order of the ids of partners; 0 by default.
        config : RoutingConfig, optional
        known : PartnerFacts, optional
            What the model goes by, of the same partners in the order of their ids; by default the current values.
        versions : mapping of str to str, optional
        currency : CurrencyConfig, optional
            Of the amounts of the tables, and what others are worth in it.

        Raises
        ------
        DataError
            If a table breaks its schema, or `known` or `prices` are of other partners.
        """
        given = dict(zip(TABLES, (partners, territories, certifications, deals, accounts, leads), strict=True))
        tables = {name: canonical(name, table) for name, table in given.items()}
        made = canonical("assignments", assignments)
        tables[HELD] = held_leads(_open(made) if held is None else held)
        if assignments is not None:
            tables["leads"] = _with_partner(tables["leads"], made)
        return cls.of_tables(
            tables,
            acceptance=acceptance_rates(made, column(tables["partners"], "partner_id")),
            as_of=moment(as_of),
            known=known,
            cells=cells,
            scorer=scorer or RateScorer(),
            prices=prices,
            config=config or RoutingConfig(),
            versions=versions or {},
            currency=currency,
        )

    @classmethod
    def of_tables(
        cls,
        tables: Mapping[str, pa.Table],
        *,
        as_of: dt.datetime,
        known: PartnerFacts | None,
        cells: Any,
        scorer: Scorer,
        prices: Any,
        acceptance: Floats,
        config: RoutingConfig,
        versions: Mapping[str, str],
        currency: CurrencyConfig | None = None,
    ) -> Self:
        """Put a snapshot together from tables that are canonical already."""
        partners = Partners.of(tables["partners"])
        accounts = Accounts(tables["accounts"], partners)
        held = Certifications.of(tables["certifications"], partners)
        facts = _current(tables, partners, held, as_of=as_of, cells=cells)
        if known is not None:
            if list(known.partner_id) != list(partners.partner_id):
                raise DataError("snapshot: what is known of partners is not of those in the table partners, in order")
            facts = dataclasses.replace(facts, record=known.record)
        costs = np.zeros(len(partners)) if prices is None else np.asarray(prices, dtype=np.float64)
        if costs.shape != (len(partners),) or not np.isfinite(costs).all():
            raise DataError(
                f"snapshot: prices must be one finite number for each of the {len(partners)} partners; got an array of "
                f"shape {costs.shape}"
            )
        return cls(
            as_of=as_of,
            tables=MappingProxyType(dict(tables)),
            partners=partners,
            facts=facts,
            known=facts if known is None else known,
            certifications=held,
            territories=_territories(tables["territories"], partners),
            deals=Deals.of(tables["deals"], partners, accounts),
            accounts=accounts,
            scorer=scorer,
            prices=costs,
            acceptance=acceptance,
            config=config,
            versions=MappingProxyType(dict(versions)),
            currency=currency,
        )

    def __len__(self) -> int:
        return len(self.partners)

    @property
    def held(self) -> list[tuple[str, str]]:
        """The leads that partners hold open by the tables, and by whom; none where it was written without them."""
        rows = self.tables.get(HELD)
        return [] if rows is None else list(zip(column(rows, "lead_id"), column(rows, "partner_id"), strict=True))

    @functools.cached_property
    def leads(self) -> tuple[Match, ...]:
        """The leads of the last `duplicates.window`, with the partner that each has, in the order of their moments."""
        since = self.as_of - self.config.duplicates.window
        rows = ((values, zoned(values["created_at"])) for values in self.tables["leads"].to_pylist())
        return tuple(
            Match(
                lead_id=values["lead_id"],
                partner_id=values["partner_id"],
                created_at=created,
                account_id=values["account_id"],
                domain=domain_key(values["domain"]),
                name=normalised(values["account_name"]),
                country=values["country"],
            )
            for values, created in rows
            if created >= since
        )

    @functools.cached_property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 over its files: the same content has the same id."""
        from partnerml.routing._snapshot_files import encode, id_of

        return id_of(encode(self))

    def ruled_by(self, config: RoutingConfig) -> Self:
        """Return the snapshot with another configuration; prices of another objective are in another unit: come off."""
        prices = self.prices if config.objective == self.config.objective else np.zeros(len(self))
        return dataclasses.replace(self, config=config, prices=prices)

    def with_prices(self, prices: Any) -> Self:
        """Return the snapshot with other prices, in the order of its partners."""
        return dataclasses.replace(self, prices=np.asarray(prices, dtype=np.float64))

    def write(self, folder: str | Path) -> Path:
        """Write the snapshot as the folder ``ID`` in a folder, whole or not at all, and return it.

        Raises
        ------
        SourceError
            If the folder cannot be written.
        ConfigError
            If its scorer is a function, which no file can hold.
        """
        from partnerml.routing._snapshot_files import write

        return write(self, Path(folder))

    @classmethod
    def open(cls, folder: str | Path, *, lazy: bool = False) -> Snapshot:
        """Open a snapshot that was written: one folder, or the file ``current`` that names one beside it.

        Every file is held against its hash.

        Parameters
        ----------
        folder : str or Path
        lazy : bool
            Whether the model is read when it is to score for the first time, and not now: that takes seconds.

        Raises
        ------
        SourceError
            If there is none.
        ModelError
            If it is damaged, mixed up or of another format; names the file.
        """
        from partnerml.routing._snapshot_files import read

        return read(cls, Path(folder), lazy=lazy)


def _with_partner(leads: pa.Table, assignments: pa.Table) -> pa.Table:
    """Return leads with the partner that has each: the last that was given it and did not refuse it."""
    # in the order of their moments: the last one stays
    made = zip(*(column(assignments, name) for name in ("lead_id", "partner_id", "response")), strict=True)
    holder = {lead: partner for lead, partner, response in made if response not in _REFUSED}
    held = pa.array([holder.get(lead) for lead in column(leads, "lead_id")], type=pa.string())
    return leads.set_column(leads.schema.get_field_index("partner_id"), "partner_id", held)


def _open(assignments: pa.Table) -> dict[str, Any] | None:
    """Return the assignments that are neither refused nor closed."""
    if assignments["outcome"].null_count == len(assignments):  # nothing tells how leads end
        return None
    made = (column(assignments, name) for name in ("lead_id", "partner_id", "response", "outcome"))
    rows = [each[:2] for each in zip(*made, strict=True) if each[2] not in _REFUSED and each[3] not in OUTCOMES]
    return dict(zip(("lead_id", "partner_id"), zip(*rows, strict=True), strict=False))


def acceptance_rates(assignments: pa.Table, partner_id: Sequence[str]) -> Floats:
    """Return how likely each partner accepts an offer: its share of those answered, drawn toward everybody's.

    One where nobody has answered any. An offer that was withdrawn was not answered; one that expired was, by silence.
    """
    index = {partner: row for row, partner in enumerate(partner_id)}
    answered, accepted = np.zeros(len(index)), np.zeros(len(index))
    for partner, response in zip(column(assignments, "partner_id"), column(assignments, "response"), strict=True):
        row = index.get(partner)
        if row is not None and response in _ANSWERED:
            answered[row] += 1.0
            accepted[row] += response == ACCEPTED
    if not answered.any():
        return np.ones(len(index))
    rates: Floats = shrunken(accepted, answered, accepted.sum() / answered.sum())
    return rates


def _current(
    tables: Mapping[str, pa.Table], partners: Partners, held: Certifications, *, as_of: dt.datetime, cells: Any
) -> PartnerFacts:
    """Encode current values for the kernels."""
    table, areas, tallied = tables["partners"], tables["territories"], _tallied(cells, partners)
    n, naive = len(partners), np.datetime64(as_of.replace(tzinfo=None), "us")
    seats: dict[str, Any] = {name: column(table, name) for name in _ABOUT}
    seats |= {
        "partner_id": list(partners.partner_id),
        "as_of": np.full(n, naive),
        "joined_at": partners.joined_at,
        "max_open_leads": partners.max_open_leads,
        **_whole(tallied, n),
    }
    valid = (held.earned_at <= naive) & ~(held.expires_at <= naive) & ~(held.revoked_at <= naive)
    rows = rows_of(areas, partners)
    of_areas: dict[str, Any] = {name: column(areas.filter(pa.array(rows >= 0)), name) for name in _AREA}
    return PartnerFacts.of(
        seats,
        certifications=_columns(held, valid),
        territories=of_areas | {"row": rows[rows >= 0]},
        cells=tallied,
    )


def _columns(held: Certifications, valid: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {"row": held.row[valid], "certification": [held.names[code] for code in held.code[valid]]}


def _territories(table: pa.Table, partners: Partners) -> Mapping[str, npt.NDArray[Any]]:
    """Return what the kernels do not read, in the order that they keep rows in."""
    rows = rows_of(table, partners)
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] >= 0]
    exclusive = np.array([value is True for value in column(table, "exclusive")], dtype=bool)
    about = {name: np.array(column(table, name), dtype=object)[order] for name in _AREA if name != "verticals"}
    spans = {name: moments(table, name)[order] for name in ("valid_from", "valid_to")}
    return MappingProxyType({"row": rows[order], "exclusive": exclusive[order], **spans, **about})


def _tallied(cells: Any, partners: Partners) -> dict[str, Any]:
    """Return tallies as arrays, with the rows of their partners; those of partners that are not here are left out."""
    given = {} if cells is None else {str(name): np.asarray(list(cells[name]), dtype=object) for name in cells}
    size = len(given.get("partner_id", ()))
    row = np.array([partners.index.get(partner, NO_ROW) for partner in given.get("partner_id", ())], dtype=np.int64)
    found: dict[str, npt.NDArray[Any]] = {"row": row}
    for name in ("dimension", "value"):
        found[name] = given.get(name, np.full(size, "", dtype=object))
    for name in _TALLIES:
        found[name] = np.nan_to_num(np.asarray(given.get(name, np.zeros(size)), dtype=np.float64))
    return {name: values[row != NO_ROW] for name, values in found.items()}


def _whole(tallied: Mapping[str, Any], n: int) -> dict[str, Floats]:
    """Return the whole of each partner, and everybody's."""
    whole = tallied["dimension"] == _EVERYTHING
    rows = tallied["row"][whole]
    own = {name: np.bincount(rows, weights=tallied[name][whole], minlength=n) for name in _TALLIES}
    return own | {f"all_{name}": np.full(n, own[name].sum()) for name in ("closed", "won", "days")}
