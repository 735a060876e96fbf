"""What each feature is, in words: for the feature dictionary and for the reasons of a score."""

from __future__ import annotations

from collections.abc import Mapping

from partnerml.dataset import FeatureInfo
from partnerml.features._catalog import PEERS, Feature
from partnerml.features._measure import AS_OF, LIVE

_SUBJECTS: Mapping[tuple[str, str], str] = {
    ("events", "all"): "events",
    ("events", "other"): "other events",
    ("deals", "all"): "deal steps",
    ("deals", "registered"): "registered deals",
    ("deals", "won"): "won deals",
    ("deals", "lost"): "lost deals",
    ("deals", "open"): "open deals",
    ("certifications", "all"): "certifications",
    ("certifications", "earned"): "certifications",
    ("certifications", "valid"): "valid certifications",
    ("certifications", "expiring"): "expiring certifications",
    ("certifications", "lapsed"): "lapsed certifications",
    ("activity", "all"): "activities",
}
_TABLES: Mapping[str, str] = {
    "events": "events",
    "deals": "deals",
    "certifications": "certifications",
    "activity": "events+deals",
    "partners": "partners",
    "accounts": "accounts",
    "pair": "leads+partners",
}
_LIKE_THIS: Mapping[str, str] = {
    "vertical": " in the lead's industry",
    "country": " in the lead's country",
    "size": " of the lead's size",
}
_MOMENTS: Mapping[str, tuple[str, ...]] = {
    "events": ("occurred_at",),
    "registered": ("registered_at",),
    "won": ("closed_at", "outcome"),
    "lost": ("closed_at", "outcome"),
    "deals": ("registered_at", "closed_at", "outcome"),
    "certifications": ("earned_at",),
    "activity": ("occurred_at", "actor", "registered_at", "closed_at", "outcome"),
}
_DEGREES = ("latitude", "longitude")


def describe(feature: Feature, *, table: str | None = None, unit: str | None = None) -> FeatureInfo:
    """Return what a feature is.

    Parameters
    ----------
    feature : Feature
    table : str, optional
        Where a trait comes from, when that is not ``partners``.
    unit : str, optional
        The unit of a trait: ``category``, ``yes or no`` or ``number``.
    """
    entry = feature.entry
    words = _told(feature, entry.words)
    group, measure, unit_of = f"{feature.source}__{feature.kind}", feature.measure, entry.unit
    if feature.measure == "trait":
        unit_of = "degrees" if feature.kind in _DEGREES else (unit or entry.unit)
    definition = f"{words}, {_scope(feature)}"
    if feature.relative:
        words = f"{words}, as a percentile among its peers"
        definition = f"{words}: {_scope(feature)}"
        group, measure, unit_of = PEERS + group, "percentile", "percentile"
    return FeatureInfo(
        name=feature.name,
        definition=definition[0].upper() + definition[1:] + ".",
        table=table or entry.table or _TABLES[feature.source],
        columns=_columns(feature),
        window_days=_span(feature),
        null_rule=_null_rule(feature),
        words=words,
        subject=_told(feature, entry.subject),
        measure=measure,
        group=group,
        unit=unit_of,
    )


def _span(feature: Feature) -> int | None:
    """Return how far back a feature looks, in days; None for what has no window."""
    if not feature.days or feature.kind == "expiring":
        return None
    return max(feature.days) * (2 if feature.measure == "prior_ratio" else 1)


def _scope(feature: Feature) -> str:
    span = _span(feature)
    if feature.source == "partners":
        return "as it was known before as_of"
    if feature.source == "accounts":
        return "as accounts holds it"
    if feature.source == "pair":
        at = "the moment of assignment" if feature.window == LIVE else "00:00 UTC of the day of assignment"
        return f"by what was known before {at}"
    if feature.window == AS_OF or feature.kind in ("expiring", "lapsed"):
        return "as it stood at as_of, by what was known before it"
    window = "all time before as_of" if span is None else f"[as_of - {span} days, as_of)"
    return f"over rows in {window} that were known before as_of"


def _null_rule(feature: Feature) -> str:
    if not feature.relative:
        return feature.entry.null_rule
    return "null without a value, or with too few peers that have one"


def plural(words: str) -> str:
    """Return words with the last one in the plural: "portal login" -> "portal logins"."""
    head, _, last = words.rpartition(" ")
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    elif last.endswith(("ss", "x", "ch", "sh", "z")):
        last += "es"
    elif not last.endswith("s"):
        last += "s"
    return f"{head} {last}".strip()


def _rows(feature: Feature) -> str:
    """Return what the rows of a feature are, in the plural."""
    known = _SUBJECTS.get(feature.series)
    return known if known is not None else plural(" ".join(feature.kind.split("_")).strip() or feature.kind)


def _told(feature: Feature, template: str) -> str:
    """Fill the words of a measure for one feature."""
    rows, days = _rows(feature), feature.days
    during = f"in the last {days[0]} days" if days else "so far"
    column, _, item = feature.kind.partition(".")
    return template.format(
        rows=rows,
        source="deal steps" if feature.source == "deals" else _SUBJECTS.get((feature.source, "all"), feature.source),
        revenue="won revenue" if feature.kind == "won" else f"revenue of {rows}",
        during=during,
        within=f" {during}" if days else "",
        shortest=days[0] if days else 0,
        longest=days[-1] if days else 0,
        weeks=days[0] // 7 if days else 0,
        trait=" ".join(column.removesuffix("_at").split("_")),
        item=" ".join(item.split("_")),
        where=_LIKE_THIS.get(feature.kind, ""),
    )


def _columns(feature: Feature) -> tuple[str, ...]:
    entry = feature.entry
    if feature.source in ("partners", "accounts", "pair"):
        return entry.columns or (feature.kind.partition(".")[0],)
    columns = list(_MOMENTS.get(feature.kind if feature.source == "deals" else feature.source, ()))
    if feature.source == "deals" and not columns:
        columns = list(_MOMENTS["deals"])
    if feature.source == "events" and feature.kind != "all":
        columns.append("event_type")
    return tuple(dict.fromkeys((*columns, *entry.columns)))
