"""What a partner is, as it was known at the time: traits and tenure.

A trait comes from the last row of ``partner_history`` that was known before as_of; without such a row from
``partners``, if the column is declared as known at any time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
from ibis import _

from partnerml import schema
from partnerml.config import DEFAULT_TRAITS
from partnerml.errors import ConfigError
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._lists import as_text, contains, item_names, vocabulary
from partnerml.features._measure import Family
from partnerml.features._stream import days_between, interval

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

KNOWN = "known__"
# a name identifies a partner; joining is `tenure_days`, and the start of a row of the history is no fact of its own
_NEVER = ("name", "joined_at", "valid_from")
# what becomes a part of a feature's name
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
# where a trait at joining may come from
AT_JOINING = ("partners", "partner_history", "recruits")
_FORMS = {"trait": ("text", "number"), "has": ("list",), "items": ("list",), "since_days": ("moment",)}


def static_traits(eco: Ecosystem) -> tuple[str, ...]:
    """Return the columns of ``partners`` that the configuration declares known at any time, as far as they exist."""
    return tuple(name for name in named_traits(eco) if usable(eco, "partners", name))


def named_traits(eco: Ecosystem) -> tuple[str, ...]:
    """Return the columns that ``traits.partners`` names, whether or not a table has them."""
    config = getattr(eco, "config", None)
    named: Sequence[str] = DEFAULT_TRAITS if config is None else config.traits.partners
    return tuple(dict.fromkeys(named))


def historic_traits(eco: Ecosystem) -> tuple[str, ...]:
    """Return the columns of ``partner_history`` that can be traits."""
    if not eco.has("partner_history"):
        return ()
    return tuple(name for name in eco.table("partner_history").columns if usable(eco, "partner_history", name))


def usable(eco: Ecosystem, table: str, column: str) -> bool:
    """Whether a column can be a trait: text, numbers, true or false, a list of texts, a moment; but no id and no name.

    A column whose name is not made of letters, digits and underscores cannot be named in a feature.
    """
    declared = schema.TABLES[table].column(column)
    is_id = declared is not None and declared.type is schema.Type.ID
    if is_id or column in _NEVER or _NAME.fullmatch(column) is None or not eco.has(table, column):
        return False
    return form(eco.table(table)[column].type()) is not None


def form(type_: Any) -> str | None:
    """Return what a column of an Ibis type is: ``text``, ``number``, ``list`` or ``moment``; None for anything else."""
    if type_.is_string():
        return "text"
    if type_.is_numeric() or type_.is_boolean():
        return "number"
    if type_.is_array():
        return "list" if type_.value_type.is_string() else None
    return "moment" if type_.is_timestamp() or type_.is_date() else None


def form_at_joining(eco: Ecosystem, column: str) -> str | None:
    """Return what a column holds, alike in all tables that have it; None if none can use it.

    Raises
    ------
    ConfigError
        If it holds different things in two of them.
    """
    found = {table: form(eco.table(table)[column].type()) for table in AT_JOINING if usable(eco, table, column)}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{kind} in {table}" for table, kind in found.items())
        raise ConfigError(f"the trait {column} is {told}; map it to one type everywhere")
    return next(iter(found.values()), None)


def trait_features(eco: Ecosystem, *, before: datetime) -> tuple[tuple[Feature, ...], Mapping[str, tuple[str, ...]]]:
    """Return the features of all traits that the tables allow, and the vocabularies of those that are lists.

    Parameters
    ----------
    eco : Ecosystem
    before : datetime
        Naive UTC. Items of lists are those that were known before it, the 20 most frequent of each column.
    """
    static, historic = static_traits(eco), historic_traits(eco)
    forms = {name: form(eco.table("partners")[name].type()) for name in static}
    forms |= {name: form(eco.table("partner_history")[name].type()) for name in historic}
    lists = [name for name, kind in forms.items() if kind == "list"]
    vocabularies = list_vocabularies(eco, lists, static=static, before=before)
    return tuple(features_of(forms, vocabularies)), vocabularies


def features_of(
    forms: Mapping[str, str | None], vocabularies: Mapping[str, tuple[str, ...]], *, source: str = "partners"
) -> list[Feature]:
    """Return the features of columns of a table, given what each of them holds."""
    features: list[Feature] = []
    for column, kind in forms.items():
        if kind == "list":
            items = item_names(vocabularies.get(column, ()))
            features.extend(Feature(source, f"{column}.{name}", "has", "asof") for name in items)
            features.append(Feature(source, column, "items", "asof"))
        else:
            measure = "since_days" if kind == "moment" else "trait"
            features.append(Feature(source, column, measure, "asof"))
    return features


def list_vocabularies(
    eco: Ecosystem, columns: Sequence[str], *, static: Sequence[str], before: datetime
) -> dict[str, tuple[str, ...]]:
    """Return the most frequent items of list columns, as the partners of that time were known before a moment."""
    if not columns:
        return {}
    moment = ibis.literal(before, type="timestamp(6)")
    partners = eco.table("partners")
    if eco.has("partners", "joined_at"):
        partners = partners.filter((partners.joined_at + interval(eco.lag("partners")) < moment).fill_null(True))
    rows = known(eco, columns, static=static, rows=partners.select("partner_id", as_of=moment))
    return {column: items_of(eco, rows.select("partner_id", items=rows[KNOWN + column])) for column in columns}


def items_of(eco: Ecosystem, held: ibis.Table) -> tuple[str, ...]:
    """Return the vocabulary of a table of ``partner_id`` and ``items`` (lists)."""
    single = held.select("partner_id", item=held["items"].unnest())
    single = single.filter(single.item.notnull()).mutate(item=_.item.lower()).distinct()
    found = eco.backend.to_pyarrow(single)
    return vocabulary(zip(found["partner_id"].to_pylist(), found["item"].to_pylist(), strict=True))


def trait_columns(
    eco: Ecosystem, features: Sequence[Feature], *, catalogue: Catalogue, spine: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Return the traits and the tenure of the rows of a spine as they were known before as_of.

    Parameters
    ----------
    eco : Ecosystem
    features : sequence of Feature
        Of the source ``partners``.
    catalogue : Catalogue
        Names the columns that are known at any time, and the items of lists.
    spine : ibis.Table
        ``slot``, ``partner_id``, ``as_of``.
    as_of : sequence of datetime
        Not needed here; every family of features is asked alike.

    Returns
    -------
    ibis.Table
        ``slot`` and a column for each feature, named as it: float64, or text.

    Raises
    ------
    ConfigError
        If a column is in neither table, or does not hold what the feature needs.
    """
    columns = columns_of(features)
    rows = spine.select("slot", "partner_id", "as_of")
    if any(feature.measure == "tenure_days" for feature in features):
        rows = _with_joining(eco, rows)
    rows = known(eco, columns, static=catalogue.static_traits, rows=rows)
    return rows_of_features(rows, features, vocabularies=catalogue.vocabularies, keys=("slot",))


def columns_of(features: Sequence[Feature], *, source: str = "partners") -> tuple[str, ...]:
    """Return the columns that features of traits read, without the joining date.

    Raises
    ------
    ConfigError
        If a feature is no trait of this table.
    """
    for feature in features:
        if feature.source != source or feature.entry.family is not Family.TRAITS or feature.relative:
            raise ConfigError(
                f"feature {feature.name}: the rows are {source}, and it is no trait of theirs; leave it out"
            )
    named = (feature.kind.partition(".")[0] for feature in features if feature.measure != "tenure_days")
    return tuple(dict.fromkeys(named))


def rows_of_features(
    rows: ibis.Table,
    features: Sequence[Feature],
    *,
    vocabularies: Mapping[str, tuple[str, ...]],
    keys: Sequence[str],
) -> ibis.Table:
    """Return the features of rows that hold their columns as `known` returns them: the keys and one column each."""
    for feature in features:
        if feature.measure != "tenure_days":
            _check_form(rows, feature)
    lists = {feature.kind.partition(".")[0] for feature in features if feature.measure == "has"}
    rows = rows.mutate(**{f"text__{column}": as_text(rows[KNOWN + column]) for column in sorted(lists)})
    names = {column: item_names(vocabularies.get(column, ())) for column in lists}
    return rows.select(*keys, **{feature.name: _value(rows, feature, names) for feature in features})


def _check_form(rows: ibis.Table, feature: Feature) -> None:
    column = feature.kind.partition(".")[0]
    found = form(rows[KNOWN + column].type())
    if found not in _FORMS[feature.measure]:
        raise ConfigError(
            f"feature {feature.name}: the column {column!r} holds {rows[KNOWN + column].type()}, and "
            f"{feature.measure} needs a {' or a '.join(_FORMS[feature.measure])}; map it as it was in training"
        )


def _value(rows: ibis.Table, feature: Feature, names: Mapping[str, Mapping[str, str]]) -> Any:
    if feature.measure == "tenure_days":
        return days_between(rows.joined, rows.as_of)
    column, _dot, item = feature.kind.partition(".")
    value = rows[KNOWN + column]
    if feature.measure == "has":
        if item not in names[column]:
            raise ConfigError(
                f"feature {feature.name}: {item!r} is not among the items of {column} in the catalogue's vocabularies: "
                f"{', '.join(names[column]) or '(none)'}"
            )
        return contains(rows[f"text__{column}"], names[column][item])
    if feature.measure == "items":
        return value.length().cast("float64")
    if feature.measure == "since_days":
        return days_between(value.cast("timestamp(6)"), rows.as_of)
    return value if value.type().is_string() else value.cast("float64")


def _with_joining(eco: Ecosystem, rows: ibis.Table) -> ibis.Table:
    if not eco.has("partners", "joined_at"):
        return rows.mutate(joined=ibis.null("timestamp(6)"))
    joined = eco.table("partners").select("partner_id", joined=_.joined_at)
    return rows.left_join(joined, "partner_id").drop("partner_id_right")


def known(
    eco: Ecosystem, columns: Sequence[str], *, static: Sequence[str], rows: ibis.Table, at_joining: bool = False
) -> ibis.Table:
    """Add columns of partners as they were known before as_of.

    Parameters
    ----------
    eco : Ecosystem
    columns : sequence of str
    static : sequence of str
        Those that ``partners`` holds as they were known at any time.
    rows : ibis.Table
        ``partner_id``, ``as_of`` and any others.
    at_joining : bool
        as_of is when the partner joined: take the row of the history that began with it (``valid_from <= as_of``),
        which is how it was signed, whenever that row was written.

    Returns
    -------
    ibis.Table
        The rows with ``known__COLUMN`` for each column.

    Raises
    ------
    ConfigError
        If a column is in neither table, or holds different things in the two.
    """
    of_history = set(historic_traits(eco))
    historic = [name for name in columns if name in of_history]
    declared = [name for name in columns if name in static and usable(eco, "partners", name)]
    for name in columns:
        _check_source(eco, name, is_historic=name in historic, is_static=name in declared)
    kept = tuple(rows.columns)
    if historic:
        rows = _with_history(eco, historic, rows, at_joining=at_joining)
    if declared:
        now = eco.table("partners").select("partner_id", **{f"now__{name}": _[name] for name in declared})
        rows = rows.left_join(now, "partner_id").drop("partner_id_right")
    values: dict[str, Any] = {}
    for name in columns:
        value = rows[f"past__{name}"] if name in historic else rows[f"now__{name}"]
        if name in historic and name in declared:
            value = rows.has_past.ifelse(value, rows[f"now__{name}"])
        values[KNOWN + name] = value
    return rows.select(*kept, **values)


def _check_source(eco: Ecosystem, name: str, *, is_historic: bool, is_static: bool) -> None:
    if not is_historic and not is_static:
        raise ConfigError(
            f"feature partners__{name}: the column {name!r} is neither in partner_history nor among the traits "
            "of partners; add it to the mapping and to traits.partners, or train a model without it"
        )
    if is_historic and is_static:
        past, now = (eco.table(table)[name].type() for table in ("partner_history", "partners"))
        if form(past) != form(now):
            raise ConfigError(
                f"the column {name} holds {now} in partners and {past} in partner_history; map both to the same type"
            )


def _with_history(eco: Ecosystem, columns: Sequence[str], rows: ibis.Table, *, at_joining: bool) -> ibis.Table:
    """Add the row of the history that counts at as_of, and whether there is one."""
    lag = interval(timedelta(0) if at_joining else eco.lag("partner_history"))
    history = eco.table("partner_history").semi_join(rows, "partner_id")
    history = history.select(
        past_of="partner_id",
        known_at=_.valid_from + lag,
        **{f"past__{name}": _[name] for name in columns},
    )
    # the lag is the same for all rows, so the next one to be valid is the next one to be known
    following = history.known_at.lead().over(group_by="past_of", order_by="known_at")
    history = history.mutate(until=following)
    begun = history.known_at <= rows.as_of if at_joining else history.known_at < rows.as_of
    ended = history.until <= rows.as_of if at_joining else history.until < rows.as_of
    same = rows.partner_id == history.past_of
    joined = rows.left_join(history, [same, begun, ~ended.fill_null(False)])
    return joined.mutate(has_past=joined.past_of.notnull()).drop("past_of", "known_at", "until")
