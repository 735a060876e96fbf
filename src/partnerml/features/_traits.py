"""What a partner is, as it was known at the time: traits and tenure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ibis
from ibis import _

from partnerml.errors import ConfigError
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._stream import microseconds

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_DAY_US = 86_400_000_000.0
# names identify a partner, moments and lists are no traits yet
_NEVER = ("partner_id", "valid_from", "name", "parent_id", "postal_code")
DEFAULT_TRAITS = ("partner_type", "country", "region", "latitude", "longitude")


def static_traits(eco: Ecosystem) -> tuple[str, ...]:
    """Return the columns of ``partners`` that the configuration declares known at any time, as far as they exist."""
    config = getattr(eco, "config", None)
    named: Sequence[str] = DEFAULT_TRAITS if config is None else config.traits.partners
    return tuple(name for name in dict.fromkeys(named) if _usable(eco, "partners", name))


def historic_traits(eco: Ecosystem) -> tuple[str, ...]:
    """Return the columns of ``partner_history`` that can be traits."""
    if not eco.has("partner_history"):
        return ()
    return tuple(name for name in eco.table("partner_history").columns if _usable(eco, "partner_history", name))


def _usable(eco: Ecosystem, table: str, column: str) -> bool:
    if column in _NEVER or not eco.has(table, column):
        return False
    type_ = eco.table(table)[column].type()
    return bool(type_.is_string() or type_.is_numeric() or type_.is_boolean())


def with_traits(eco: Ecosystem, catalogue: Catalogue, *, spine: ibis.Table) -> ibis.Table:
    """Add the traits and the tenure of a catalogue to the spine, each under the name of its feature.

    A trait is that of the last row of ``partner_history`` that was known before as_of; where there is none, that of
    ``partners`` if the catalogue declares the column known at any time, else null.

    Raises
    ------
    ConfigError
        If a trait is in neither table.
    """
    wanted = [feature for feature in catalogue.features if feature.source == "partners"]
    if not wanted:
        return spine
    partners = eco.table("partners")
    historic = set(historic_traits(eco))
    traits = [feature for feature in wanted if feature.measure == "trait"]
    past = [feature for feature in traits if feature.kind in historic]
    columns: dict[str, Any] = {}
    table = spine
    if past:
        table = table.left_join(_as_of(eco, past, spine), "slot").drop("slot_right")
    now = partners.select("partner_id", **_static(eco, wanted))
    table = table.left_join(now, "partner_id")
    for feature in wanted:
        if feature.measure == "tenure_days":
            days = table.as_of.delta(table.joined, unit="microsecond").cast("float64") / _DAY_US
            columns[feature.name] = days
            continue
        columns[feature.name] = _trait(eco, table, feature, feature in past, catalogue.static_traits)
    return table.select(*spine.columns, **columns)


def _static(eco: Ecosystem, wanted: Sequence[Feature]) -> dict[str, Any]:
    partners = eco.table("partners")
    columns = {}
    for feature in wanted:
        if feature.measure == "tenure_days":
            columns["joined"] = partners.joined_at if eco.has("partners", "joined_at") else ibis.null("timestamp(6)")
        elif eco.has("partners", feature.kind):
            columns[f"now__{feature.kind}"] = partners[feature.kind]
    return columns


def _trait(eco: Ecosystem, table: ibis.Table, feature: Feature, is_historic: bool, static: Sequence[str]) -> Any:
    known = f"now__{feature.kind}"
    is_static = feature.kind in static and known in table.columns
    if is_historic and is_static:
        value = table.has_past.fill_null(False).ifelse(table[f"past__{feature.kind}"], table[known])
    elif is_historic:
        value = table[f"past__{feature.kind}"]
    elif is_static:
        value = table[known]
    else:
        raise ConfigError(
            f"feature {feature.name}: the column {feature.kind!r} is neither in partner_history nor among the traits "
            "of partners; add it to the mapping and to traits.partners, or train a model without it"
        )
    return value if value.type().is_string() else value.cast("float64")


def _as_of(eco: Ecosystem, past: Sequence[Feature], spine: ibis.Table) -> ibis.Table:
    """Return for each slot the last row of the history that was known before as_of."""
    lag = ibis.interval(microseconds=microseconds(eco.lag("partner_history")))
    history = eco.table("partner_history")
    dated = history.select("partner_id", "valid_from", known_at=history.valid_from + lag)
    pairs = spine.select("slot", "partner_id", "as_of").inner_join(dated, "partner_id").filter(_.known_at < _.as_of)
    latest = pairs.group_by("slot", "partner_id").aggregate(valid_from=_.valid_from.max())
    values = history.select("partner_id", "valid_from", **{f"past__{f.kind}": history[f.kind] for f in past})
    return (
        latest.inner_join(values, ["partner_id", "valid_from"]).drop("partner_id", "valid_from").mutate(has_past=True)
    )
