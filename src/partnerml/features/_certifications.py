"""Certifications as they stood: which ones were valid at as_of, were about to expire, or had lapsed.

A row is there from when it can be seen. A revocation is known from its moment plus the lag of the table; before that
the certification reads as valid. A renewal is a row of its own: expiry dates are what they were when the row was
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ibis

from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._stream import interval, seen_at

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem


def certification_columns(
    eco: Ecosystem, features: Sequence[Feature], *, catalogue: Catalogue, spine: ibis.Table, as_of: Sequence[datetime]
) -> ibis.Table:
    """Return how many certifications of each partner were valid, expiring or lapsed at as_of, counted by name.

    Parameters
    ----------
    eco : Ecosystem
        Without ``certifications``, all counts are 0.
    features : sequence of Feature
        Of the family of certifications.
    catalogue : Catalogue
        Not needed: certifications have no vocabulary.
    spine : ibis.Table
        ``partner_id``, ``as_of``, ``slot``.
    as_of : sequence of datetime
        The moments of the spine; not needed, the spine has them.

    Returns
    -------
    ibis.Table
        ``slot`` and a float64 column for each feature under its name, one row for every row of the spine.
    """
    slots = spine.select("slot")
    if not eco.has("certifications"):
        return slots.mutate(**{f.name: ibis.literal(0.0) for f in features})
    names = _by_name(_known(eco, spine))
    counts = {f.name: names.count(where=_HOLDS[f.kind](names, f)).cast("float64") for f in features}
    table = slots.left_join(names.group_by("slot").aggregate(**counts), "slot").drop("slot_right")
    return table.select("slot", **{name: table[name].fill_null(0.0) for name in counts})


def _known(eco: Ecosystem, spine: ibis.Table) -> ibis.Table:
    """Join the spine to the certifications that were on record, with when each ended as far as that was known."""
    rows = eco.table("certifications")
    null = ibis.null("timestamp(6)")
    revoked = rows.revoked_at if eco.has("certifications", "revoked_at") else null
    dated = rows.select(
        "partner_id",
        "certification",
        seen_from=seen_at(eco, "certifications", rows, "earned_at"),
        expires_at=rows.expires_at if eco.has("certifications", "expires_at") else null,
        revoked_at=revoked,
        seen_revoked=revoked + interval(eco.lag("certifications")),
    )
    pairs = spine.select("slot", "partner_id", "as_of").inner_join(dated, "partner_id")
    pairs = pairs.filter(pairs.seen_from < pairs.as_of)
    is_revoked = (pairs.seen_revoked < pairs.as_of).fill_null(False)
    return pairs.select(
        "slot",
        "as_of",
        "certification",
        "expires_at",
        valid=~is_revoked & (pairs.expires_at.isnull() | (pairs.expires_at > pairs.as_of)),
        ended_at=ibis.least(pairs.expires_at, is_revoked.ifelse(pairs.revoked_at, null)),
    )


def _by_name(rows: ibis.Table) -> ibis.Table:
    """Fold the rows of one certification: a renewal, or a second row of it, makes no second certification.

    ``valid`` and ``endless`` count its valid rows and those of them that never expire, ``expires_at`` is the latest
    expiry of the valid ones, ``ended_at`` the latest end.
    """
    return rows.group_by("slot", "as_of", "certification").aggregate(
        valid=rows.count(where=rows.valid),
        endless=rows.count(where=rows.valid & rows.expires_at.isnull()),
        expires_at=rows.expires_at.max(where=rows.valid),
        ended_at=rows.ended_at.max(),
    )


def _valid(names: ibis.Table, feature: Feature) -> Any:
    return names.valid > 0


def _expiring(names: ibis.Table, feature: Feature) -> Any:
    soon = names.expires_at < names.as_of + ibis.interval(days=feature.days[0])
    return (names.valid > 0) & (names.endless == 0) & soon


def _lapsed(names: ibis.Table, feature: Feature) -> Any:
    return (names.valid == 0) & (names.ended_at >= names.as_of - ibis.interval(days=feature.days[0]))


_HOLDS: Mapping[str, Callable[[ibis.Table, Feature], Any]] = MappingProxyType(
    {"valid": _valid, "expiring": _expiring, "lapsed": _lapsed}
)
