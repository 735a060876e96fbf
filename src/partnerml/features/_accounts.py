"""Accounts as rows of the propensity task: which companies may become partners, and what is known of them.

An account that is a partner already has no row to score, nor has one that the configuration excludes, such as a
competitor.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd

from partnerml import schema
from partnerml.config import nearest
from partnerml.dataset import Dataset
from partnerml.errors import ConfigError
from partnerml.features._assemble import dataset_from, zoned
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._dictionary import dictionary
from partnerml.features._lists import as_text, contains
from partnerml.features._spine import moments as distinct_moments
from partnerml.features._stream import interval
from partnerml.features._traits import KNOWN, columns_of, features_of, form, items_of, rows_of_features, usable
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

SOURCE = "accounts"
KEYS = ("account_id", "as_of")


@dataclasses.dataclass(frozen=True)
class Accounts:
    """The companies of the propensity task: accounts that are not partners, by what was known at as_of.

    Parameters
    ----------
    exclude : tuple of (str, tuple of str)
        Columns of ``accounts`` and values: an account that has one of them never has a row. Compared trimmed and
        without regard to case; true and false are ``true`` and ``false``; a list is looked through item by item.
    """

    exclude: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        folded = tuple((column, tuple(str(v).strip().lower() for v in values)) for column, values in self.exclude)
        empty = [column for column, values in folded if not values or "" in values]
        if empty:
            raise ConfigError(f"exclude.{empty[0]}: list at least one value, and no empty one")
        object.__setattr__(self, "exclude", folded)

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {"exclude": {column: list(values) for column, values in self.exclude}}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Accounts:
        """Return the value that `to_dict` was made from."""
        return cls(tuple((str(column), tuple(values)) for column, values in state["exclude"].items()))

    @property
    def words(self) -> str:
        """Who belongs, in words."""
        without = " and ".join(f"{column} {' or '.join(values)}" for column, values in self.exclude)
        return "accounts that are not partners" + (f", without those of {without}" if without else "")


def build_accounts(
    eco: Ecosystem,
    *,
    catalogue: Catalogue,
    population: Accounts | None = None,
    as_of: Sequence[Moment] | Moment,
    partners: bool = False,
) -> Dataset:
    """Build the traits of the accounts that are not partners at some moments.

    Parameters
    ----------
    eco : Ecosystem
    catalogue : Catalogue
        Traits of accounts alone; see `account_features`.
    population : Accounts, optional
        Whom to leave out.
    as_of : moments
        Accounts that were created, by what was known then, and had not become partners.
    partners : bool
        Those that are partners instead, and have not stopped being ones.

    Returns
    -------
    Dataset
        Keys ``account_id`` and ``as_of``, sorted by (as_of, account_id); without labels.

    Raises
    ------
    ConfigError
        If there is no table ``accounts``, a column to exclude by is not there, or a feature is no trait of accounts.
    """
    population = population or Accounts()
    points = distinct_moments(as_of)
    rows = account_rows(eco, population, columns=columns_of(catalogue.features, source=SOURCE))
    parts = []
    for point in points:
        chosen = is_known_partner(eco, rows, point) & rows.is_now if partners else may_become(eco, rows, point)
        parts.append(rows.filter(chosen).mutate(as_of=ibis.literal(point, type="timestamp(6)")))
    table = parts[0] if len(parts) == 1 else ibis.union(*parts)
    spec = {
        "population": population.to_dict(),
        "catalogue": catalogue.to_dict(),
        "as_of": [point.isoformat() for point in points],
        "partners": partners,
    }
    return dataset_of(eco, table, catalogue, spec)


def account_rows(eco: Ecosystem, population: Accounts, *, columns: Sequence[str] = ()) -> ibis.Table:
    """Return the accounts that are not excluded.

    Parameters
    ----------
    eco : Ecosystem
    population : Accounts
    columns : sequence of str
        To add, under ``known__COLUMN``.

    Returns
    -------
    ibis.Table
        ``account_id``; ``partner_id``, its record as a partner; ``created_at``; ``since``, when it became a partner;
        ``is_now``, whether it is one as the table holds it; ``always``, whether it is one since nobody knows when.
        Without is_partner an account is a partner if it has a date or a partner_id.
    """
    if not eco.has("accounts"):
        raise ConfigError("propensity needs the table accounts, which is not there: add it to data.tables")
    table = _without_excluded(eco.table("accounts"), population)
    for name in columns:
        if not usable(eco, "accounts", name):
            raise ConfigError(
                f"the trait {name!r} is no usable column of accounts; map it, or take it out of traits.accounts and "
                "train again"
            )
    partner_id = table.partner_id if eco.has("accounts", "partner_id") else ibis.null("string")
    since = table.partner_since if eco.has("accounts", "partner_since") else ibis.null("timestamp(6)")
    known = since.notnull() | partner_id.notnull()  # noqa: PD004 (an Ibis column)
    is_now = ibis.coalesce(table.is_partner, known) if eco.has("accounts", "is_partner") else known
    rows = table.select(
        "account_id",
        partner_id=partner_id,
        created_at=table.created_at if eco.has("accounts", "created_at") else ibis.null("timestamp(6)"),
        since=since,
        is_now=is_now,
        **{KNOWN + name: table[name] for name in columns},
    )
    return rows.mutate(always=rows.since.isnull() & rows.is_now)  # noqa: PD003 (an Ibis column)


def is_known_partner(eco: Ecosystem, rows: ibis.Table, moment: datetime) -> Any:
    """Return whether an account of `account_rows` had become a partner, by what was known before a moment."""
    became = (rows.since + interval(eco.lag(SOURCE)) < ibis.literal(moment, type="timestamp(6)")).fill_null(False)
    return rows.always | became


def may_become(eco: Ecosystem, rows: ibis.Table, moment: datetime) -> Any:
    """Return whether an account was there and no partner, by what was known before a moment."""
    return _was_there(eco, rows, moment) & ~is_known_partner(eco, rows, moment)


def _was_there(eco: Ecosystem, rows: ibis.Table, moment: datetime) -> Any:
    known_at = rows.created_at + interval(eco.lag(SOURCE))
    return (known_at < ibis.literal(moment, type="timestamp(6)")).fill_null(True)


def dataset_of(
    eco: Ecosystem, rows: ibis.Table, catalogue: Catalogue, spec: Mapping[str, Any], *, labelled: bool = False
) -> Dataset:
    """Build the features of rows that hold the keys and the columns that the features read.

    Parameters
    ----------
    eco : Ecosystem
    rows : ibis.Table
        ``account_id``, ``as_of``, ``known__COLUMN`` of each trait; where labelled ``y``, ``duration_days``,
        ``observed``.
    catalogue : Catalogue
    spec : mapping
        What the fingerprint covers beside the data.
    labelled : bool
    """
    labels = ("y", "duration_days", "observed") if labelled else ()
    table = rows_of_features(rows, catalogue.features, vocabularies=catalogue.vocabularies, keys=(*KEYS, *labels))
    frame: pd.DataFrame = eco.backend.to_pyarrow(table).to_pandas(date_as_object=False)
    frame = frame.sort_values(["as_of", "account_id"], ignore_index=True, kind="stable")
    told = dictionary(eco, catalogue)
    return dataset_from(frame, catalogue, key="account_id", dictionary=told, spec=spec, labelled=labelled)


def account_features(eco: Ecosystem, *, before: datetime) -> tuple[tuple[Feature, ...], Mapping[str, tuple[str, ...]]]:
    """Return the features of the traits that ``traits.accounts`` names, and the vocabularies of those that are lists.

    Parameters
    ----------
    eco : Ecosystem
    before : datetime
        Naive UTC. Items of lists are those of accounts that were created before it, the 20 most frequent of each.

    Raises
    ------
    ConfigError
        If there is no table ``accounts``, no trait is named, or one of them is no column that can be one.
    """
    named = _named(eco)
    rows = account_rows(eco, Accounts(), columns=named)
    forms = {name: form(rows[KNOWN + name].type()) for name in named}
    lists = [name for name, kind in forms.items() if kind == "list"]
    there = rows.filter(_was_there(eco, rows, before))
    held = {name: there.select(partner_id="account_id", items=there[KNOWN + name]) for name in lists}
    vocabularies = {name: items_of(eco, table) for name, table in held.items()}
    return tuple(features_of(forms, vocabularies, source=SOURCE)), vocabularies


def _named(eco: Ecosystem) -> tuple[str, ...]:
    config = getattr(eco, "config", None)
    named = () if config is None else tuple(dict.fromkeys(config.traits.accounts))
    if not eco.has("accounts"):
        raise ConfigError("features of accounts need the table accounts, which is not there: add it to data.tables")
    if not named:
        declared = {column.name for column in schema.TABLES["accounts"].columns}
        others = [name for name in eco.table("accounts").columns if name not in declared or name == "country"]
        raise ConfigError(
            "traits.accounts names no column, so nothing is known of an account: name those that were known before it "
            f"became a partner, such as {', '.join(others[:5]) or 'its industry or its size'}"
        )
    return named


def tell_idle_exclusions(eco: Ecosystem, population: Accounts) -> None:
    """Warn of values to exclude by that no account has: a typing error would let in those that they are meant for."""
    table = eco.table("accounts")
    counts = {
        f"{column}: {value}": _has_value(_excluding(table, column), value).sum()
        for column, values in population.exclude
        for value in values
    }
    if not counts:
        return
    told = eco.backend.to_pyarrow(table.aggregate(**{f"n{i}": n for i, n in enumerate(counts.values())})).to_pylist()[0]
    idle = [name for name, n in zip(counts, told.values(), strict=True) if not n]
    if idle:
        _logger.warning("propensity: exclude matches no row of accounts for %s", ", ".join(idle))


def _without_excluded(table: ibis.Table, population: Accounts) -> ibis.Table:
    kept = ibis.literal(True)
    for column, values in population.exclude:
        for value in values:
            kept = kept & ~_has_value(_excluding(table, column), value)
    return table.filter(kept) if population.exclude else table


def _excluding(table: ibis.Table, column: str) -> Any:
    """Return the column to exclude by.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if column not in table.columns:
        known = [name for name in table.columns if name != "account_id"]
        raise ConfigError(
            f"exclude.{column}: accounts has no column of that name{nearest(column, known)} (it has {', '.join(known)})"
        )
    return table[column]


def _has_value(column: Any, value: str) -> Any:
    if column.type().is_array():
        return (contains(as_text(column), value) == 1.0).fill_null(False)
    return (column.cast("string").strip().lower() == value).fill_null(False)


def created_at(eco: Ecosystem) -> pd.Series:
    """Return when each account was created (UTC), by account_id; null where nobody knows."""
    rows = account_rows(eco, Accounts()).select("account_id", "created_at")
    frame: pd.DataFrame = eco.backend.to_pyarrow(rows).to_pandas()
    return pd.Series(zoned(frame["created_at"]).array, index=frame["account_id"].astype("str"))
