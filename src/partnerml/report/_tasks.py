"""What the page says of fit, propensity and close: who comes first, why, and how far to trust it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from partnerml.report import _figures
from partnerml.report._card_words import TASKS
from partnerml.report._content import facts, metric_rows, reasons_of, sentences
from partnerml.report._words import percent, whole

if TYPE_CHECKING:
    from partnerml.models import Model

_SHOWN_ROWS = 10
_SHOWN_NEAREST = 3


@dataclasses.dataclass(frozen=True)
class Heading:
    """How the part on a task is headed.

    Attributes
    ----------
    title : str
    unit : str
        What is scored, in the plural.
    one : str
        What a row is, as the heading of a column.
    """

    title: str
    unit: str
    one: str


HEADINGS: Mapping[str, Heading] = {
    "fit": Heading("Which recruits will succeed", "recruits and young partners", "Partner"),
    "propensity": Heading("Which companies would make good partners", "accounts", "Account"),
    "close": Heading("Which open leads will close", "pairs of lead and partner", "Lead"),
}


def section(task: str, frame: pd.DataFrame, model: Model, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what the part of the page on a task shows.

    Parameters
    ----------
    task : str
    frame : DataFrame
        Its scores.
    model : Model
        The one that gave them.
    names : mapping of str to str
        Names by partner or account.

    Returns
    -------
    dict
        Values for the template.
    """
    words, happened = HEADINGS[task], TASKS[task].happened
    told = f"{happened} within {model.horizon_days:g} days"
    is_rank = "is_probability" in frame and not frame["is_probability"].any()
    evaluation = model.evaluation
    folds = evaluation.get("folds") or []
    calibration = evaluation.get("calibration") or []
    return {
        "task": task,
        "title": words.title,
        "unit": words.unit,
        "one": words.one,
        "lead": _lead(frame, words, told, is_rank=is_rank),
        "rank": is_rank,
        "rows": [_row(task, record, names, is_rank=is_rank) for record in _first(frame)],
        "left": max(0, len(frame) - _SHOWN_ROWS),
        "profile": list((model.documents.get("profile") or {}).get("words", ())),
        "metrics": metric_rows(evaluation) if evaluation.get("models") else [],
        "sentences": _judged(model, words, happened) if calibration else [],
        "calibration": _figures.calibration(calibration, happened=happened) if calibration and not is_rank else "",
        "months": _figures.months(folds, happened=happened) if folds and not is_rank else "",
        "facts": facts(model, happened=told),
    }


def _judged(model: Model, words: Heading, happened: str) -> list[str]:
    """Return what the figures mean, and of which horizon they are where it is not that of the score."""
    days = model.evaluation.get("judged_days")
    if days is None:
        return sentences(model.evaluation, unit=words.unit, happened=f"{happened} within {model.horizon_days:g} days")
    return [
        *sentences(model.evaluation, unit=words.unit, happened=f"{happened} within {days:g} days"),
        f"The history is too short to judge {model.horizon_days:g} days: the figures are those of {days:g} days, made "
        "by the same recipe.",
    ]


def _lead(frame: pd.DataFrame, words: Heading, told: str, *, is_rank: bool) -> str:
    if is_rank:
        return (
            f"{whole(len(frame))} {words.unit}, the most promising first. The score is a rank and no probability: how "
            "many of them would say yes, such data do not tell."
        )
    expected = float(frame["score"].sum())
    return (
        f"{whole(len(frame))} {words.unit} are scored; of as many with such scores, {whole(expected)} "
        f"({percent(expected / max(len(frame), 1), 1)}) {told}."
    )


def _first(frame: pd.DataFrame) -> list[dict[str, Any]]:
    key = [name for name in ("partner_id", "account_id", "lead_id") if name in frame]
    ordered = frame.sort_values(["score", *key], ascending=[False, *(True for _ in key)], kind="stable")
    return [{str(name): value for name, value in row.items()} for row in ordered.head(_SHOWN_ROWS).to_dict("records")]


def _row(task: str, record: Mapping[str, Any], names: Mapping[str, str], *, is_rank: bool) -> dict[str, Any]:
    subject = str(record["lead_id" if task == "close" else "account_id" if task == "propensity" else "partner_id"])
    partner = str(record["partner_id"]) if task == "close" else ""
    return {
        "id": subject,
        "name": names.get(subject, subject),
        "beside": f"with {names.get(partner, partner)}" if partner else _beside(task, record, names),
        "score": f"{record['percentile']:.0f}" if is_rank else percent(float(record["score"])),
        "band": str(record["band"]),
        "reasons": [
            {"text": reason["text"], "raises": reason["effect"] > 0} for reason in reasons_of(record["reasons"])
        ],
    }


def _beside(task: str, record: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return what else the table tells of a row: the time to success, or the partners that it resembles."""
    if task == "fit":
        days = record["median_days_to_success"]
        known = days is not None and not pd.isna(days)
        return f"half of such partners have succeeded by day {whole(float(days))}" if known else ""
    nearest = [str(partner["partner_id"]) for partner in reasons_of(record["nearest_partners"])][:_SHOWN_NEAREST]
    return f"like {', '.join(names.get(partner, partner) for partner in nearest)}" if nearest else ""
