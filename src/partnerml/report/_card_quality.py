"""How good a model is, by its card: metrics, calibration, over time, by segment, and what the scores go by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partnerml.report import _figures
from partnerml.report._blocks import Block, Bullets, Figure, Section, Table, Text
from partnerml.report._card_words import METRICS, called, clusters, day, decimals, figure, sentence, words_of
from partnerml.report._words import UNKNOWN, percent, whole

if TYPE_CHECKING:
    from partnerml.models import Model

_SHOWN_DRIVERS = 12
_SHOWN_SEGMENTS = 12
_NAMED = 5
_NONE_WORSE = "No segment is served worse than the rest, beyond chance."
_NONE_TESTED = "No segment is large enough, beside a rest that is, to tell whether it is served worse."
# of what a training asks its backtest
_ASKED_LATE = (
    "What is decided so is decided once, by what is known now of the latest origins, which the figures above are of "
    "too: a choice that was lucky there makes them look a little better than they are."
)
# what a training asks its backtest
_DECISIONS: Mapping[str, str] = {
    "immature": "Rows whose outcome is not known yet",
    "selection": "Weights that undo past routing",
}


def quality(model: Model) -> Section | None:
    """Tell how good it is, out of time, beside its baselines."""
    evaluation = model.evaluation
    models: Mapping[str, Any] = evaluation.get("models") or {}
    if "model" not in models:
        return None
    shown = [metric for metric in METRICS if metric in models["model"]]
    others = sorted((n for n in models if n != "model"), key=lambda n: (_number(models[n], "log_loss"), n))
    rows = [
        [called(name), *(_span(models[name].get(metric)) for metric in shown), _against(evaluation, name)]
        for name in ("model", *others)
    ]
    blocks: list[Block] = []
    if "rows" in evaluation:
        many = f"{whole(evaluation['rows'])} predictions for {whole(evaluation.get('partners'))} {clusters(model)}"
        honest = "each made with what was known at the time and compared with what happened after"
        blocks.append(
            Text(
                f"Judged on {many}: {evaluation.get('judged_on') or honest}. Each figure has its 95 % interval. Higher "
                "is better for AUC and average precision, lower for Brier score, log loss and calibration error."
            )
        )
    heads = ["Prediction by", *(METRICS[metric] for metric in shown), "Log loss, beside it"]
    blocks.append(Table(heads, rows, ours=0))
    blocks += [Text(sentence) for sentence in _sentences(model)]
    return Section("How good it is", blocks)


def _number(measured: Mapping[str, Any], metric: str) -> float:
    value = (measured.get(metric) or {}).get("estimate")
    return math.inf if value is None else float(value)


def _span(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("estimate") is None:
        return UNKNOWN
    if found.get("low") is None or found.get("high") is None:
        return f"{found['estimate']:.3f}"
    return f"{found['estimate']:.3f}\n{found['low']:.3f} to {found['high']:.3f}"


def _against(evaluation: Mapping[str, Any], name: str) -> str:
    difference = ((evaluation.get("differences") or {}).get(name) or {}).get("log_loss")
    if name == "model" or not difference or difference.get("low") is None or difference.get("high") is None:
        return ""
    if difference["high"] < 0:
        return "worse"
    return "better" if difference["low"] > 0 else "not distinguishable"


def _sentences(model: Model) -> Iterator[str]:
    evaluation, happened = model.evaluation, words_of(model).happened
    ece = evaluation["models"]["model"].get("ece") or {}
    perfect = evaluation.get("perfect_ece") or {}
    if ece.get("estimate") is not None and perfect.get("p95") is not None:
        yield _against_chance(float(ece["estimate"]), perfect, clusters(model))
    for entry in evaluation.get("gain") or []:
        if abs(entry["share"] - 0.1) < 1e-9 and entry.get("gain") is not None:
            yield (
                f"The tenth with the highest scores held {percent(entry['gain'])} of all that {happened}: "
                f"{entry['lift']:.1f} times as many as a list in random order."
            )
    if evaluation.get("replayed") is False:
        yield (
            "The history was too short to replay how the components are weighted and calibrated: they are blended "
            "equally and not calibrated."
        )


def _against_chance(ece: float, perfect: Mapping[str, Any], owners: str) -> str:
    """Hold a calibration error against that of a perfect model; models from before took rows as independent."""
    effect = perfect.get("design_effect")
    if effect is None:
        rows = f", if rows of the same {owners} were independent"
        beyond = "more than that, and that they go together may be why"
    else:
        times = f"{float(effect):.1f} times the variance of as many independent rows"
        rows, beyond = f", as rows of the same {owners} go together ({times})", "more than chance: scores are off"
    return (
        f"A perfectly calibrated model would show a calibration error of {perfect['mean']:.3f} on so many rows, and of "
        f"up to {perfect['p95']:.3f} in 95 of 100 cases{rows}; this one shows {ece:.3f}, "
        f"{'no more than chance' if ece <= perfect['p95'] else beyond}."
    )


def calibration(model: Model, *, drawn: bool) -> Section | None:
    """Hold prediction against outcome."""
    bins = model.evaluation.get("calibration") or []
    if not bins:
        return None
    happened = words_of(model).happened
    rows = [
        [
            percent(entry["mean_prediction"], 1),
            percent(entry["observed"], 1),
            f"{percent(entry['low'], 1)} to {percent(entry['high'], 1)}",
            whole(entry["n"]),
        ]
        for entry in bins
    ]
    heads = ["Mean prediction", f"Share that {happened}", "A perfect model in 95 of 100 cases", "Rows"]
    drawing = [Figure(_figures.calibration(bins, happened=happened), "calibration.svg", "Calibration")] if drawn else []
    told = Text("On the dashed line a prediction is right on average; inside the shade the distance is chance.", True)
    return Section("Calibration", [*drawing, *([told] if drawn else []), Table(heads, rows, words=0), *_groups(model)])


def _groups(model: Model) -> Iterator[Block]:
    """Yield the intervals of groups of rows with similar scores, where the model has them."""
    found = model.evaluation.get("groups") or {}
    if not found.get("groups"):
        return
    yield Text(
        "How far the mean probability of rows with similar scores may lie from their scores, in a month to come: an "
        f"interval that holds it in {percent(found['level'])} of cases."
    )
    rows = [
        [
            f"{percent(group['above'], 1)} to {percent(group['up_to'], 1)}",
            whole(group["rows"]),
            percent(group["mean_prediction"], 1),
            percent(group["observed"], 1),
            f"{percent(group['low'], 1)} to {percent(group['high'], 1)}",
        ]
        for group in found["groups"]
    ]
    happened = words_of(model).happened
    yield Table(["Score", "Rows", "Mean prediction", f"Share that {happened}", "Interval"], rows)


def folds(model: Model, *, drawn: bool) -> Section | None:
    """Tell how it did at each origin of the backtest."""
    table: Sequence[Mapping[str, Any]] = model.evaluation.get("folds") or []
    ours = sorted((fold for fold in table if fold["model"] == "model"), key=lambda fold: str(fold["as_of"]))
    if not ours:
        return None
    rows = [
        [
            day(str(fold["as_of"])),
            whole(fold.get("rows")),
            percent(fold.get("base_rate"), 1),
            percent(fold.get("mean_prediction"), 1),
            *(decimals(fold.get(metric)) for metric in ("auc", "brier", "log_loss")),
        ]
        for fold in ours
    ]
    happened = words_of(model).happened
    heads = ["As of", "Rows", f"Share that {happened}", "Mean prediction", "AUC", "Brier score", "Log loss"]
    drawing = [Figure(_figures.months(ours, happened=happened), "", "Prediction and outcome by month")] if drawn else []
    return Section("Over time", [*drawing, Table(heads, rows)])


def segments(model: Model) -> Section | None:
    """Tell whether some are served worse than the rest."""
    found: Sequence[Mapping[str, Any]] = model.evaluation.get("segments") or []
    if not found:
        return None
    flagged = [str(entry["words"]) for entry in found if entry.get("flag")]
    told = flagged or [_NONE_WORSE if any(map(_tested, found)) else _NONE_TESTED]
    largest = sorted(found, key=lambda entry: -int(entry["rows"]))[:_SHOWN_SEGMENTS]
    shown = [entry for entry in found if entry.get("flag") or entry in largest]
    rows = [
        [
            str(entry["segment"]),
            str(entry["value"]),
            whole(entry["rows"]),
            percent(entry.get("base_rate"), 1),
            percent(entry.get("mean_prediction"), 1),
            decimals(entry.get("auc")),
            decimals(entry.get("log_loss")),
            str(entry.get("flag") or ""),
        ]
        for entry in shown
    ]
    heads = ["Segment", "Value", "Rows", "Came true", "Mean prediction", "AUC", "Log loss", "Flag"]
    left = len(found) - len(shown)
    more: list[Block] = [Text(f"{left} smaller segments without a flag are not shown.", True)] if left else []
    return Section("Segments", [Bullets(told), Table(heads, rows, words=2), *more])


def _tested(segment: Mapping[str, Any]) -> bool:
    value = segment.get("p_bias")
    return value is not None and math.isfinite(value)


def drivers(model: Model) -> Section | None:
    """Tell what the scores go by."""
    found = (model.documents.get("importance") or {}).get("drivers") or []
    if not found:
        return None
    rows = [
        [
            driver["words"],
            _size(driver),
            percent(driver["share"]),
            _direction(driver["direction"]),
        ]
        for driver in found[:_SHOWN_DRIVERS]
    ]
    blocks: list[Block] = [
        Text(
            "The mean absolute effect on the log-odds of a score, over the latest rows of the training, with its "
            f"95 % interval over {clusters(model)}, for this model as it is. Windows of one thing are told together."
        ),
        Table(["Driver", "Mean effect", "Of all", "More of it"], rows),
    ]
    if curves := [_curve(entry) for entry in model.documents.get("dependence") or []]:
        blocks.append(Text("The mean score with one driver moved and all else as it is:"))
        blocks.append(Bullets(curves))
    return Section("What the scores go by", blocks)


def _size(driver: Mapping[str, Any]) -> str:
    if driver["low"] is None or driver["high"] is None:
        return f"{driver['importance']:.3f}"
    return f"{driver['importance']:.3f}\n{driver['low']:.3f} to {driver['high']:.3f}"


def _direction(value: float | None) -> str:
    if value is None or abs(value) < 0.1:
        return UNKNOWN
    return "raises the score" if value > 0 else "lowers the score"


def _curve(entry: Mapping[str, Any]) -> str:
    points = [f"{_value(point['value'])}: {percent(point['score'])}" for point in entry["points"]]
    return f"{entry['about']}: " + ", ".join(points)


def _value(value: float | str | None) -> str:
    if value is None:
        return "not known"
    return value if isinstance(value, str) else figure(value)


def findings(model: Model) -> Section | None:
    """Tell what the training of this task has found out and decided, beside how good the model is."""
    evaluation = model.evaluation
    said = []
    for name, what in _DECISIONS.items():
        decision = evaluation.get(name) or {}
        if decision.get("reason"):
            said.append(f"{what}: {decision.get('choice', '')}; {decision['reason']}.".replace(": ; ", ": "))
        if decision.get("effective") is not None:
            said.append(
                f"Weights by propensity ({decision['source']}) would leave {whole(decision['effective'])} of "
                f"{whole(decision['rows'])} rows in effect."
            )
    if any((evaluation.get(name) or {}).get("difference") for name in _DECISIONS):
        said.append(_ASKED_LATE)
    apart = (model.documents.get("win_rates") or {}).get("without_overlap") or {}
    if apart.get("number"):
        said.append(
            f"{whole(apart['number'])} partners have too few leads like those of the others to be compared: their win "
            f"rates stand alone (the first: {', '.join(map(str, apart['first'][:_NAMED]))})."
        )
    checked = evaluation.get("selected_at_random") or {}
    if checked.get("words"):
        said.append(sentence(str(checked["words"])))
    blocks: list[Block] = [Bullets(said)] if said else []
    if profile := [str(words) for words in (model.documents.get("profile") or {}).get("words") or []]:
        blocks += [Text("The ideal partner, by the traits at joining:"), Bullets(profile)]
    return Section("What the training found", blocks) if blocks else None
