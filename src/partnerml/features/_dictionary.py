"""What a catalogue says, and what the tables cannot say, without building anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from partnerml import schema
from partnerml.dataset import FeatureInfo
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._measure import Family, Measure
from partnerml.features._measures import MEASURES
from partnerml.features._traits import AT_JOINING, form, form_at_joining, historic_traits
from partnerml.features._words import describe

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

# where one of the tables is enough
_EITHER: Mapping[str, tuple[str, ...]] = {
    "activity": ("events", "deals"),
    "deals+assignments": ("deals", "assignments"),
}
# without them, nothing was revoked, or nothing expires
_OPTIONAL = frozenset({"revoked_at", ("valid", "expires_at")})
_FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "churn": (Family.WINDOWS, Family.DEALS, Family.CERTIFICATIONS, Family.TRAITS),
    "fit": (Family.TRAITS,),
    "propensity": (Family.TRAITS,),
    "close": tuple(Family),
}


def dictionary(eco: Ecosystem, catalogue: Catalogue, *, at_joining: bool = False) -> tuple[FeatureInfo, ...]:
    """Return what each feature of a catalogue is, in its order.

    Parameters
    ----------
    eco : Ecosystem
        Tells which traits are text, and which come from ``partner_history``.
    catalogue : Catalogue
    at_joining : bool
        Traits are those that a partner or recruit was signed with, as in the fit task.
    """
    if at_joining:
        tables = "+".join(table for table in reversed(AT_JOINING) if eco.has(table))
        return tuple(_info_at_joining(eco, feature, tables) for feature in catalogue.features)
    historic = frozenset(historic_traits(eco))
    return tuple(_info(eco, feature, historic) for feature in catalogue.features)


def _info_at_joining(eco: Ecosystem, feature: Feature, tables: str) -> FeatureInfo:
    column = feature.kind.partition(".")[0]
    form_at_joining(eco, column)  # refuses what is not alike in all tables
    return describe(feature, table=tables, unit=_unit(eco, AT_JOINING, column))


def _info(eco: Ecosystem, feature: Feature, historic: frozenset[str]) -> FeatureInfo:
    column = feature.kind.partition(".")[0]
    if feature.source == "accounts":
        return describe(feature, unit=_unit(eco, ("accounts",), column))
    if feature.source != "partners" or feature.measure not in ("trait", "has", "items", "since_days"):
        return describe(feature)
    table = "partner_history" if column in historic else "partners"
    return describe(feature, table=table, unit=_unit(eco, (table,), column))


def _unit(eco: Ecosystem, tables: Sequence[str], column: str) -> str:
    """Return what the values of a trait are, in one table or in several that have it."""
    types = [eco.table(table)[column].type() for table in tables if eco.has(table, column)]
    if any(form(found) == "text" for found in types):
        return "category"
    return "yes or no" if types and all(found.is_boolean() for found in types) else "number"


def missing(eco: Ecosystem, task: str) -> dict[str, tuple[str, ...]]:
    """Return what the tables leave out.

    Parameters
    ----------
    eco : Ecosystem
    task : str
        ``churn``, ``fit``, ``propensity`` or ``close``.

    Returns
    -------
    dict of str to tuple of str
        For each table (``certifications``) or column (``events.value``) that is absent, the measures that want it.
    """
    found: dict[str, list[str]] = {}
    for entry in MEASURES:
        if entry.family in _FAMILIES[task]:
            # accounts are all that propensity is about, and nothing else is about them
            about = {s: kinds for s, kinds in entry.on.items() if (s == "accounts") == (task == "propensity")}
            for source, kinds in about.items():
                for absent in _absent(eco, entry, source, kinds):
                    found.setdefault(absent, []).append(entry.name)
    return {absent: tuple(dict.fromkeys(names)) for absent, names in sorted(found.items())}


def _absent(eco: Ecosystem, entry: Measure, source: str, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the tables, else the columns, that an entry wants and that are not there."""
    named = entry.table or source
    tables = _EITHER.get(named, tuple(named.split("+")))
    gone = [table for table in tables if not eco.has(table)]
    enough = 1 if named in _EITHER else len(tables)
    if len(tables) - len(gone) < enough:
        yield from gone
        return
    for wanted in _columns(entry, source, kinds):
        table, _, column = wanted.rpartition(".")
        if table and not eco.has(table):
            yield table
            continue
        places = (table,) if table else [t for t in tables if schema.TABLES[t].column(column) is not None]
        without = [place for place in places if not eco.has(place, column)]
        if len(places) - len(without) < min(enough, len(places)):
            yield from (f"{place}.{column}" for place in without if eco.has(place))


def _columns(entry: Measure, source: str, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the columns that an entry cannot do without."""
    if source == "deals" and (entry.name == "win_rate" or {"won", "lost"} & set(kinds)):
        yield "deals.closed_at"
    for column in entry.columns:
        if column not in _OPTIONAL and not any((kind, column) in _OPTIONAL for kind in kinds):
            yield column
