"""What the page says: plain values from scores, evaluation and validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml.report._card_words import called, day, decimals
from partnerml.report._words import percent, whole

if TYPE_CHECKING:
    from partnerml.dataset import FeatureInfo
    from partnerml.ecosystem import ValidationReport
    from partnerml.models import Model

BANDS = ("critical", "high", "medium", "low")
_ARROWS = {"rising": "↑ rising", "falling": "↓ falling", "steady": "→ steady", "new": "new"}
_SEGMENTS = {"partner_type": "Partner type", "country": "Country", "region": "Region", "tier": "Tier"}
_SHOWN_SEGMENTS = 8
_SHOWN_DRIVERS = 8


def call_first(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the partners to call first.

    Partners at medium risk or above by revenue at risk (score times won revenue of the last 365 days), then by score;
    if there are fewer than `n`, the others by score.

    Parameters
    ----------
    frame : DataFrame
        Scores.
    n : int
        How many at most.
    """
    ranked = frame.assign(
        _low=frame["band"].astype(str).eq("low"),
        _revenue=frame["revenue_at_risk"].fillna(0.0),
    )
    # below medium the sums at stake no longer decide: a small risk of a large partner is no reason to call
    ranked.loc[ranked["_low"], "_revenue"] = 0.0
    ordered = ranked.sort_values(
        ["_low", "_revenue", "score", "partner_id"], ascending=[True, False, False, True], kind="stable"
    )
    return ordered.drop(columns=["_low", "_revenue"]).head(n).reset_index(drop=True)


def described(frame: pd.DataFrame, partners: pd.DataFrame | None) -> pd.DataFrame:
    """Return the scores with what is known of each partner, ``name`` falling back to the id."""
    columns = ["partner_id", "name", *_SEGMENTS]
    if partners is None:
        partners = pd.DataFrame({"partner_id": pd.Series(dtype="str")})
    known = partners[[name for name in columns if name in partners]]
    merged = frame.merge(known, on="partner_id", how="left", validate="one_to_one")
    if "name" not in merged:
        merged["name"] = merged["partner_id"]
    merged["name"] = merged["name"].fillna(merged["partner_id"])
    return merged


def headline(frame: pd.DataFrame) -> dict[str, float]:
    """Return the figures at the top of the page."""
    revenue = _revenue(frame)
    at_risk = frame["revenue_at_risk"]
    return {
        "partners": len(frame),
        "expected": float(frame["score"].sum()),
        "share": float(frame["score"].mean()),
        "revenue": float(revenue.sum()) if revenue.notna().any() else math.nan,
        "at_risk": float(at_risk.sum()) if at_risk.notna().any() else math.nan,
        "urgent": int(frame["band"].astype(str).isin(("critical", "high")).sum()),
        "rising": int(frame["trend"].astype(str).eq("rising").sum()),
    }


def _revenue(frame: pd.DataFrame) -> pd.Series:
    """Return won revenue of the last 365 days: what revenue at risk was made from."""
    return frame["revenue_at_risk"] / frame["score"].where(frame["score"] > 0)


def bands(frame: pd.DataFrame, cuts: Sequence[float]) -> list[dict[str, Any]]:
    """Return one entry a band, worst first: its range, partners and revenue at risk."""
    edges = [0.0, *cuts, 1.0]
    names = frame["band"].astype(str)
    known = bool(frame["revenue_at_risk"].notna().any())
    rows = []
    for place, name in enumerate(BANDS):
        low, high = edges[len(BANDS) - 1 - place], edges[len(BANDS) - place]
        inside = frame[names == name]
        rows.append(
            {
                "name": name,
                "range": f"{percent(low)} to {percent(high)}",
                "partners": len(inside),
                "share": len(inside) / max(len(frame), 1),
                "expected": float(inside["score"].sum()),
                "at_risk": float(inside["revenue_at_risk"].sum()) if known else math.nan,
            }
        )
    return rows


def first_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the table of partners to call."""
    # a region names its country already
    kept = [name for name in _SEGMENTS if name in frame and not (name == "country" and "region" in frame)]
    rows = []
    for record in frame.to_dict("records"):
        traits = [str(record[name]) for name in kept if isinstance(record[name], str)]
        rows.append(
            {
                "partner_id": record["partner_id"],
                "name": record["name"],
                "traits": " · ".join(traits),
                "score": float(record["score"]),
                "band": str(record["band"]),
                "trend": _ARROWS.get(str(record["trend"]), ""),
                "at_risk": float(record["revenue_at_risk"]),
                "reasons": [
                    {"text": reason["text"], "raises": reason["effect"] > 0} for reason in reasons_of(record["reasons"])
                ],
            }
        )
    return rows


def reasons_of(value: Any) -> list[Mapping[str, Any]]:
    """Return the reasons of one row as a list, also where Parquet gave an array or nothing."""
    return [] if value is None or isinstance(value, float) else list(value)


def segments(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each trait, its largest groups with their risk."""
    tables = []
    for column, title in _SEGMENTS.items():
        if column not in frame or frame[column].nunique() < 2:
            continue
        groups = frame.assign(_group=frame[column].astype("str").fillna("not known")).groupby("_group", sort=True)
        table = groups.agg(
            partners=("score", "size"),
            risk=("score", "mean"),
            at_risk=("revenue_at_risk", lambda s: s.sum(min_count=1)),
        ).reset_index()
        largest = table.sort_values(["partners", "_group"], ascending=[False, True]).head(_SHOWN_SEGMENTS)
        rows = largest.sort_values(["risk", "_group"], ascending=[False, True]).rename(columns={"_group": "group"})
        tables.append({"title": title, "rows": rows.to_dict("records"), "left": len(table) - len(rows)})
    return tables


def drivers(frame: pd.DataFrame, dictionary: Sequence[FeatureInfo]) -> list[dict[str, Any]]:
    """Return what is told most often as a reason: for how many partners it raises the risk, and lowers it."""
    subjects = {info.name: info.subject for info in dictionary}
    told = [
        (partner, subjects.get(reason["feature"], reason["feature"]), float(reason["effect"]))
        for partner, value in zip(frame["partner_id"], frame["reasons"], strict=True)
        for reason in reasons_of(value)
    ]
    if not told:
        return []
    # a partner that is told of a subject twice (how much, how long ago) counts once, by the sum
    each = pd.DataFrame(told, columns=["partner", "subject", "effect"]).groupby(["subject", "partner"])["effect"].sum()
    rows: list[dict[str, Any]] = [
        {
            "subject": str(subject),
            "raises": int((effects > 0).sum()),
            "lowers": int((effects < 0).sum()),
            "strength": float(effects.abs().sum()),
        }
        for subject, effects in each.groupby(level="subject", sort=True)
    ]
    # sorted() is stable: equal ones stay in the order of their names
    strongest = sorted(rows, key=lambda row: -row["strength"])[:_SHOWN_DRIVERS]
    largest = max(strongest[0]["strength"], 1e-12)
    return [{**row, "share": row["strength"] / largest} for row in strongest]


def mean_curve(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the expected number of partners gone quiet by each horizon that is defined."""
    rows = []
    for column in [name for name in frame.columns if name.startswith("risk_")]:
        if frame[column].notna().any():
            days = int(column.removeprefix("risk_").removesuffix("d"))
            rows.append({"days": days, "expected": float(frame[column].sum()), "share": float(frame[column].mean())})
    return rows


def metric_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the model and its baselines, best log loss first below the model."""
    models, differences = evaluation["models"], evaluation["differences"]
    others = sorted((name for name in models if name != "model"), key=lambda n: (models[n]["log_loss"]["estimate"], n))
    rows = []
    for name in ["model", *others]:
        found = models[name]
        rows.append(
            {
                "name": called(name),
                "is_model": name == "model",
                "values": [_estimate(found[metric]) for metric in ("auc", "average_precision", "brier", "log_loss")],
                "mean": decimals(found["mean_prediction"]["estimate"]),
                "verdict": "" if name == "model" else _compared(differences[name]["log_loss"]),
            }
        )
    return rows


def _estimate(found: Mapping[str, float | None]) -> dict[str, str]:
    return {"value": decimals(found["estimate"]), "span": f"{decimals(found['low'])} to {decimals(found['high'])}"}


def _compared(difference: Mapping[str, float | None]) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "cannot be told"
    if high < 0:
        return "worse than this model"
    return "better than this model" if low > 0 else "not distinguishable"


def sentences(evaluation: Mapping[str, Any], *, unit: str, happened: str) -> list[str]:
    """Return what the figures of the evaluation mean, in words.

    Parameters
    ----------
    evaluation : mapping
        Of the model.
    unit : str
        What is scored, in the plural.
    happened : str
        What became of the positives, such as ``went quiet within 90 days``.
    """
    said = [
        f"Judged on {whole(evaluation['rows'])} forecasts, each made with what was known at the time and compared with "
        "what happened afterwards."
    ]
    bins = [entry for entry in evaluation["calibration"] if entry["observed"] is not None]
    chosen = {_nearest(bins, 0.3), _nearest(bins, 1.0)} if bins else set()
    said += [
        f"Of 100 {unit} scored about {percent(bins[place]['mean_prediction'])}, "
        f"{round(100 * bins[place]['observed'])} {happened}."
        for place in sorted(chosen)
    ]
    tenth = next((entry for entry in evaluation["gain"] if abs(entry["share"] - 0.1) < 1e-9), None)
    if tenth is not None and tenth["gain"] is not None:
        said.append(
            f"The tenth of the {unit} with the highest score held {percent(tenth['gain'])} of all that {happened}: "
            f"{tenth['lift']:.1f} times as many as a list in random order."
        )
    return said


def _nearest(bins: Sequence[Mapping[str, float]], prediction: float) -> int:
    return int(np.argmin([abs(entry["mean_prediction"] - prediction) for entry in bins]))


def facts(model: Model, *, happened: str) -> list[tuple[str, str]]:
    """Return what identifies the model and says how it was made; `happened` as in `sentences`."""
    training, weights = model.training, model.evaluation.get("weights", {})
    blend = ", ".join(f"{called(n).removesuffix(' alone')} {w:.2f}" for n, w in sorted(weights.items()) if w)
    snapshots = training.get("as_of") or []
    pairs = [
        ("Version", model.version),
        ("Trained on what was known before", day(training.get("until"))),
        ("Moments", f"{len(snapshots)}, {day(snapshots[0])} to {day(snapshots[-1])}" if snapshots else ""),
        ("Rows", whole(training["rows"]) if "rows" in training else ""),
        (f"Of them {happened}", percent(training.get("base_rate"), 1)),
        ("Blend, in log-odds", blend),
        ("Promotion", str(model.evaluation.get("verdict", {}).get("reason", ""))),
        ("Data fingerprint", str(training.get("data_fingerprint", ""))),
        ("Seed", str(training.get("seed", ""))),
    ]
    return [(name, text) for name, text in pairs if text]


def quality(validation: ValidationReport) -> dict[str, Any]:
    """Return rows by table and what validation found."""
    return {
        "tables": [
            {"name": name, "rows": rows, "aside": int(validation.set_aside.get(name, 0))}
            for name, rows in validation.rows.items()
        ],
        "violations": [
            {"severity": violation.severity, "message": violation.message} for violation in validation.violations
        ],
    }
