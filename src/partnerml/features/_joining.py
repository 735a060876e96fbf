"""Partners and recruits as they were signed: the rows and the traits of the fit task.

A partner that also has a row in ``recruits`` takes its traits from there, as known at signing; else from
``partner_history`` at joined_at; else from ``partners``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
from ibis import _

from partnerml.dataset import Dataset
from partnerml.errors import ConfigError
from partnerml.features._assemble import dataset_from
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._dictionary import dictionary
from partnerml.features._measure import Family
from partnerml.features._spine import joined_and_left, naive_utc, partners_table
from partnerml.features._stream import interval
from partnerml.features._success import SuccessLabel, first_successes, success_labels
from partnerml.features._traits import (
    AT_JOINING,
    columns_of,
    features_of,
    form_at_joining,
    items_of,
    known,
    named_traits,
    rows_of_features,
    usable,
)
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_TYPES: Mapping[str, str] = {"text": "string", "number": "float64", "list": "array<string>", "moment": "timestamp(6)"}


def build_joining(
    eco: Ecosystem,
    *,
    catalogue: Catalogue,
    as_of: Moment,
    label: SuccessLabel | None = None,
    until: Moment | None = None,
) -> Dataset:
    """Build the traits of partners and recruits as they were at joining, and what became of them.

    Parameters
    ----------
    eco : Ecosystem
    catalogue : Catalogue
        Traits alone; see `joining_features`.
    as_of : moment
        Who had joined, or was recruited, then. Zoned, or naive and taken as UTC.
    label : SuccessLabel, optional
        With it the rows have labels, and recruits without a joining date are left out: of them nothing can be known.
    until : moment, optional
        Labels use what was known before it; by default `Ecosystem.default_until`.

    Returns
    -------
    Dataset
        Keys ``partner_id`` and ``as_of``, the moment of joining (the one asked for where a recruit has none), sorted
        by (as_of, partner_id).

    Raises
    ------
    ConfigError
        If a feature is no trait, or its column is in no table.
    """
    others = [f for f in catalogue.features if f.entry.family is not Family.TRAITS or f.measure == "tenure_days"]
    others += [feature for feature in catalogue.features if feature.relative]
    if others:
        raise ConfigError(f"feature {others[0].name}: at joining a partner has traits and no history; leave it out")
    moment = naive_utc(as_of)
    known_until = None if label is None else naive_utc(eco.default_until() if until is None else until)
    rows = joining_rows(eco, as_of=moment)
    table = joining_columns(eco, catalogue.features, vocabularies=catalogue.vocabularies, rows=rows)
    if label is not None and known_until is not None:
        labels = success_labels(eco, label, rows=rows.filter(rows.dated), until=known_until)
        table = table.inner_join(labels, "partner_id")
    spec = {
        "joining": moment.isoformat(),
        "catalogue": catalogue.to_dict(),
        "label": None if label is None else label.to_dict(),
        "until": None if known_until is None else known_until.isoformat(),
    }
    frame = eco.backend.to_pyarrow(table).to_pandas(date_as_object=False)
    frame = frame.sort_values(["as_of", "partner_id"], ignore_index=True)
    told = dictionary(eco, catalogue, at_joining=True)
    return dataset_from(frame, catalogue, key="partner_id", dictionary=told, spec=spec, labelled=label is not None)


def waiting_at(eco: Ecosystem, label: SuccessLabel, *, as_of: Moment) -> pd.Index:
    """Return the partners and recruits whose success is still open at a moment, in the order of their ids.

    Left out is who had succeeded, who joined `success_days` ago or earlier, and who has left, each as far as was known
    before the moment.

    Parameters
    ----------
    eco : Ecosystem
    label : SuccessLabel
    as_of : moment
    """
    moment = naive_utc(as_of)
    now = ibis.literal(moment, type="timestamp(6)")
    rows = joining_rows(eco, as_of=moment).anti_join(first_successes(eco, label, until=moment), "partner_id")
    young = rows.as_of + ibis.interval(days=label.success_days) > now
    rows = rows.filter(young | ~rows.dated)
    partners = partners_table(eco).mutate(as_of=now)
    left = partners.filter(joined_and_left(eco, partners)[1])
    rows = rows.anti_join(left, "partner_id").select("partner_id").order_by("partner_id")
    return pd.Index(eco.backend.to_pyarrow(rows)["partner_id"].to_pylist(), dtype="str", name="partner_id")


def successes_as_known(
    eco: Ecosystem, label: SuccessLabel, *, as_of: Moment, untils: Sequence[Moment]
) -> list[pd.DataFrame]:
    """Return the labels of who had joined at a moment as they were known at several others.

    Parameters
    ----------
    eco : Ecosystem
    label : SuccessLabel
    as_of : moment
        Who had a joining date then.
    untils : sequence of moments
        Labels use what was known before each of them.

    Returns
    -------
    list of DataFrame
        ``y``, ``duration_days`` and ``observed`` by partner_id.
    """
    rows = joining_rows(eco, as_of=naive_utc(as_of))
    rows = rows.filter(rows.dated)
    found = []
    for until in untils:
        table = success_labels(eco, label, rows=rows, until=naive_utc(until))
        frame = eco.backend.to_pyarrow(table).to_pandas().astype({"partner_id": "str", "observed": "bool"})
        found.append(frame.set_index("partner_id").sort_index())
    return found


def joining_rows(eco: Ecosystem, *, as_of: datetime) -> ibis.Table:
    """Return who had joined, and who was recruited, at a moment.

    Parameters
    ----------
    eco : Ecosystem
    as_of : datetime
        Naive UTC.

    Returns
    -------
    ibis.Table
        ``partner_id``; ``as_of``, the moment of joining, or the one asked for where a recruit has none; ``dated``,
        whether it has one; ``recruit``, whether it has a row in ``recruits``. Partners without joined_at that are no
        recruits are left out, and so is who joins later than was known at as_of.
    """
    moment = ibis.literal(as_of, type="timestamp(6)")
    rows = _dated(eco, "partners").filter(_.joined_at.notnull())  # noqa: PD004 (an Ibis column)
    if eco.has("recruits"):
        # a partner's joining date comes from partners, where it is kept up
        signed = _dated(eco, "recruits").rename(signed_at="joined_at", signed_known="known_at")
        rows = rows.outer_join(signed, "partner_id")
        rows = rows.select(
            partner_id=ibis.coalesce(rows.partner_id, rows.partner_id_right),
            joined_at=ibis.coalesce(rows.joined_at, rows.signed_at),
            known_at=ibis.coalesce(rows.known_at, rows.signed_known),
            recruit=rows.partner_id_right.notnull(),  # noqa: PD004 (an Ibis column)
        )
    else:
        rows = rows.mutate(recruit=ibis.literal(False))
    rows = rows.filter((rows.known_at < moment).fill_null(True))
    return rows.select(
        "partner_id",
        as_of=rows.joined_at.fill_null(moment),
        dated=rows.joined_at.notnull(),  # noqa: PD004 (an Ibis column)
        recruit=rows.recruit,
    )


def _dated(eco: Ecosystem, table: str) -> ibis.Table:
    rows = eco.table(table)
    joined = rows.joined_at if eco.has(table, "joined_at") else ibis.null("timestamp(6)")
    return rows.select("partner_id", joined_at=joined).mutate(known_at=_.joined_at + interval(eco.lag(table)))


def joining_features(eco: Ecosystem, *, before: datetime) -> tuple[tuple[Feature, ...], Mapping[str, tuple[str, ...]]]:
    """Return the features of the traits that ``traits.partners`` names, and the vocabularies of those that are lists.

    Parameters
    ----------
    eco : Ecosystem
    before : datetime
        Naive UTC. Items of lists are those of partners and recruits that joined before it.
    """
    forms = {name: found for name in named_traits(eco) if (found := form_at_joining(eco, name)) is not None}
    lists = [name for name, kind in forms.items() if kind == "list"]
    vocabularies: dict[str, tuple[str, ...]] = {}
    if lists:
        moment = ibis.literal(before, type="timestamp(6)")
        rows = joining_rows(eco, as_of=before)
        signed = _signed(eco, lists, rows=rows.filter(rows.as_of < moment))
        vocabularies = {c: items_of(eco, signed.select("partner_id", items=signed[f"known__{c}"])) for c in lists}
    return tuple(features_of(forms, vocabularies)), vocabularies


def joining_columns(
    eco: Ecosystem,
    features: Sequence[Feature],
    *,
    vocabularies: Mapping[str, tuple[str, ...]],
    rows: ibis.Table,
) -> ibis.Table:
    """Return the traits of partners and recruits at joining.

    Parameters
    ----------
    eco : Ecosystem
    features : sequence of Feature
        Traits of the source ``partners``.
    vocabularies : mapping of str to tuple of str
        The items of each list that have features of their own.
    rows : ibis.Table
        What `joining_rows` returns.

    Returns
    -------
    ibis.Table
        ``partner_id``, ``as_of`` (when it joined) and a column for each feature.

    Raises
    ------
    ConfigError
        If a column is in no table, or holds different things in two of them.
    """
    rows = _signed(eco, columns_of(features), rows=rows)
    return rows_of_features(rows, features, vocabularies=vocabularies, keys=("partner_id", "as_of"))


def _signed(eco: Ecosystem, columns: Sequence[str], *, rows: ibis.Table) -> ibis.Table:
    """Add columns as they were at joining, under ``known__COLUMN``."""
    forms = {name: form_at_joining(eco, name) for name in columns}
    missing = [name for name, kind in forms.items() if kind is None]
    if missing:
        raise ConfigError(
            f"the trait {missing[0]!r} is a usable column of none of {', '.join(AT_JOINING)}; map it, or take it "
            "out of traits.partners and train again"
        )
    keys = ("partner_id", "as_of")
    at_hand = [name for name in columns if usable(eco, "partners", name) or usable(eco, "partner_history", name)]
    others = known(eco, at_hand, static=at_hand, rows=rows.filter(~rows.recruit).select(*keys), at_joining=True)
    parts = [others.select(*keys, **{f"known__{c}": _typed(others, f"known__{c}", forms[c]) for c in columns})]
    if eco.has("recruits"):
        recruits = eco.table("recruits")
        values = {f"known__{c}": _typed(recruits, c, forms[c]) for c in columns}
        signed = (
            rows.filter(rows.recruit).select(*keys).inner_join(recruits.select("partner_id", **values), "partner_id")
        )
        parts.append(signed.select(*keys, *values))
    return parts[0] if len(parts) == 1 else ibis.union(*parts)


def _typed(rows: ibis.Table, column: str, kind: str | None) -> Any:
    """Return a column in the type of its form; null where the table lacks it."""
    type_ = _TYPES[kind or "text"]
    return rows[column].cast(type_) if column in rows.columns else ibis.null(type_)
