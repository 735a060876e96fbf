"""From scores, a model's evaluation and a validation report to one page of HTML."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partnerml import __version__
from partnerml.report import _blocks, _content, _figures, _tasks
from partnerml.report._words import Money, percent, whole

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.ecosystem import ValidationReport
    from partnerml.models import Model

_SHOWN_PARTNERS = 20


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores of a task and the model that gave them.

    Attributes
    ----------
    frame : DataFrame
        Scores with the columns of the docs page of the scores.
    model : Model
    """

    frame: pd.DataFrame
    model: Model


def build_report(
    *,
    as_of: dt.datetime,
    validation: ValidationReport,
    churn: Scored | None = None,
    others: Mapping[str, Scored] | None = None,
    partners: pd.DataFrame | None = None,
    names: Mapping[str, str] | None = None,
    skipped: Mapping[str, str] | None = None,
    currency: str | None = None,
    cuts: Sequence[float] = (0.25, 0.5, 0.75),
) -> str:
    """Return the page.

    Parameters
    ----------
    as_of : datetime
        The moment that the scores stand for; the only date on the page that is not the model's.
    validation : ValidationReport
        Rows and violations of each table.
    churn : Scored, optional
        Churn risk; without it the page tells why there is none and how good the data are.
    others : mapping of str to Scored, optional
        The scores of other tasks by name.
    partners : DataFrame, optional
        ``partner_id`` and, where known, ``name``, ``partner_type``, ``country``, ``region`` and ``tier``.
    names : mapping of str to str, optional
        Names of partners and accounts by id.
    skipped : mapping of str to str, optional
        Why a task has no scores.
    currency : str, optional
        Code in front of amounts.
    cuts : sequence of three floats
        Where the bands medium, high and critical begin.

    Returns
    -------
    str
        HTML. The same input gives the same text: there is no clock in it.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    environment = _blocks.environment("the HTML report")
    environment.filters["percent"] = percent
    environment.filters["whole"] = whole
    environment.filters["money"] = Money(currency).text
    page = environment.get_template("report.html").render(
        as_of=f"{as_of:%d %B %Y}".lstrip("0"),
        program=f"partnerml {__version__}",
        quality=_content.quality(validation),
        skipped=dict(skipped or {}),
        currency=currency,
        churn=None if churn is None else _churn(churn, partners, cuts),
        others=_others(others or {}, names or {}),
    )
    return str(page)


def _others(others: Mapping[str, Scored], names: Mapping[str, str]) -> list[dict[str, Any]]:
    found = [(task, others[task]) for task in _tasks.HEADINGS if task in others]
    return [_tasks.section(task, scored.frame, scored.model, names) for task, scored in found]


def _churn(scored: Scored, partners: pd.DataFrame | None, cuts: Sequence[float]) -> dict[str, Any]:
    """Return what the part on churn shows: values for the template, and figures that are safe to insert."""
    frame = _content.described(scored.frame, partners)
    model = scored.model
    evaluation = model.evaluation
    horizon = int(model.task["label"]["horizon_days"])
    happened = f"went quiet within {horizon} days"
    return {
        "horizon": horizon,
        "headline": _content.headline(frame),
        "bands": _content.bands(frame, cuts),
        "first": _content.first_rows(_content.call_first(frame, _SHOWN_PARTNERS)),
        "left": len(frame) - min(len(frame), _SHOWN_PARTNERS),
        "lowest": float(cuts[0]),
        "segments": _content.segments(frame),
        "drivers": _content.drivers(frame, model.dictionary),
        "curve": _content.mean_curve(frame),
        "metrics": _content.metric_rows(evaluation),
        "sentences": _content.sentences(evaluation, unit="partners", happened=happened),
        "facts": _content.facts(model, happened=happened),
        "histogram": _figures.histogram(frame["score"].to_numpy(), cuts),
        "calibration": _figures.calibration(evaluation["calibration"]),
        "months": _figures.months(evaluation["folds"]),
    }
