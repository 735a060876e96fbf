"""What each feature is, in words: for the feature dictionary and for the reasons of a score."""

from __future__ import annotations

from collections.abc import Mapping

from partnerml.dataset import FeatureInfo
from partnerml.features._catalog import Feature

_SUBJECTS: Mapping[tuple[str, str], str] = {
    ("events", "all"): "events",
    ("events", "other"): "other events",
    ("deals", "all"): "deal steps",
    ("deals", "registered"): "registered deals",
    ("deals", "won"): "won deals",
    ("deals", "lost"): "lost deals",
    ("certifications", "all"): "certifications",
    ("certifications", "earned"): "certifications",
    ("activity", "all"): "activities",
}
_TABLES: Mapping[str, str] = {
    "events": "events",
    "deals": "deals",
    "certifications": "certifications",
    "activity": "events+deals",
    "partners": "partners",
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
_ZERO = "0 if there are none"
_NULL_RULES: Mapping[str, str] = {
    "recency_days": "null if never",
    "age_days": "null if never",
    "count_ratio": "null if the longer window holds none",
    "prior_ratio": "null if the window before holds none",
    "gap_mean": "null with fewer than two active days",
    "gap_max": "null with fewer than two active days",
    "gap_sd": "null with fewer than two active days",
    "recency_over_gap": "null with fewer than two active days",
    "tenure_days": "null without a joining date",
    "trait": "null if unknown",
}
_UNITS: Mapping[str, str] = {
    "count": "count",
    "active_days": "count",
    "distinct_types": "count",
    "value": "value",
    "amount": "money",
    "count_ratio": "ratio",
    "prior_ratio": "ratio",
    "recency_over_gap": "ratio",
    "count_trend": "per week",
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
        The unit of a trait: ``category`` or ``number``.
    """
    words = _words(feature)
    # the window and the one before it
    days = tuple(2 * length for length in feature.days) if feature.measure == "prior_ratio" else feature.days
    window = f"[as_of - {days[-1]} days, as_of)" if days else "all time before as_of"
    if feature.source == "partners":
        definition = f"{words}, as it was known before as_of"
    else:
        definition = f"{words}; rows in {window} that were known before as_of"
    trait_unit = "degrees" if feature.kind in _DEGREES else (unit or "category")
    return FeatureInfo(
        name=feature.name,
        definition=definition[0].upper() + definition[1:] + ".",
        table=table or _TABLES[feature.source],
        columns=_columns(feature),
        window_days=days[-1] if days else None,
        null_rule=_NULL_RULES.get(feature.measure, _ZERO),
        words=words,
        subject=_subject(feature),
        measure=feature.measure,
        group=f"{feature.source}__{feature.kind}",
        unit=trait_unit if feature.measure == "trait" else _UNITS.get(feature.measure, "days"),
    )


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


def _subject(feature: Feature) -> str:
    if feature.measure == "trait":
        return " ".join(feature.kind.split("_"))
    if feature.measure == "tenure_days":
        return "tenure"
    if feature.measure == "amount":
        return "won revenue" if feature.kind == "won" else f"revenue of {_rows(feature)}"
    if feature.measure == "value":
        return f"value of {_rows(feature)}"
    return _rows(feature)


def _words(feature: Feature) -> str:
    rows, days = _rows(feature), feature.days
    singular_last = f"the last of the {rows}"
    during = f"in the last {days[0]} days" if days else "so far"
    words = {
        "count": f"{rows} {during}",
        "value": f"value of {rows} {during}",
        "amount": f"revenue of {rows} {during}",
        "active_days": f"days with {rows} {during}",
        "distinct_types": f"different types of {rows} {during}",
        "recency_days": f"days since {singular_last}" + (f" {during}" if days else ""),
        "age_days": f"days since the first of the {rows}",
        "prior_ratio": f"{rows} {during} for each in the {days[0] if days else 0} days before",
        "count_ratio": f"rate of {rows} {during} over that of the last {days[-1] if days else 0} days",
        "count_trend": f"weekly change of {rows} over the last {days[0] // 7 if days else 0} weeks",
        "gap_mean": f"mean gap between days with {rows} {during}",
        "gap_max": f"longest gap between days with {rows} {during}",
        "gap_sd": f"spread of the gaps between days with {rows} {during}",
        "recency_over_gap": f"days since {singular_last} over their mean gap {during}",
        "tenure_days": "days since joining",
        "trait": " ".join(feature.kind.split("_")),
    }
    return words[feature.measure]


def _columns(feature: Feature) -> tuple[str, ...]:
    if feature.measure == "trait":
        return (feature.kind,)
    if feature.measure == "tenure_days":
        return ("joined_at",)
    columns = list(_MOMENTS.get(feature.kind if feature.source == "deals" else feature.source, ()))
    if feature.source == "deals" and not columns:
        columns = list(_MOMENTS["deals"])
    if feature.source == "events" and (feature.kind != "all" or feature.measure == "distinct_types"):
        columns.append("event_type")
    if feature.measure in ("value", "amount"):
        columns.append(feature.measure)
    return tuple(columns)
