"""What a model is, by its card: purpose, limits, data, tuning, drift baseline, lineage.

A section is made from what the model holds; what it does not hold is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from partnerml.report._blocks import Block, Bullets, Facts, Section, Table, Text
from partnerml.report._card_words import LIMITS, RANK, called, clusters, day, days, figure, is_rank, sentence, words_of
from partnerml.report._words import UNKNOWN, percent, whole

if TYPE_CHECKING:
    from partnerml.models import Model

_SHOWN_FEATURES = 12
_FEW = 1_000  # clusters; an AUC of so many has a standard error of about .02
_PARAMETERS = 400  # letters


def purpose(model: Model) -> Section:
    """Tell what it says, whom it is about, what it is for, and whether it has earned to be used."""
    words = words_of(model)
    blocks: list[Block] = [Text(words.purpose.format(days=days(model))), Text(words.use)]
    if "population" in model.task:
        from partnerml.tasks import Task

        blocks.append(Text(f"Whom it is about: {Task.from_dict(model.task).words}."))
    verdict = model.evaluation.get("verdict") or {}
    if verdict.get("reason"):
        earned = "It may be used" if verdict.get("promoted") else "It must not be used"
        blocks.append(Text(f"{earned}: {verdict['reason']}."))
    return Section("Purpose", blocks)


def data(model: Model) -> Section:
    """Tell what it has learnt from."""
    training, columns = model.training, len(model.columns)
    moments = training.get("as_of") or []
    first = training.get("from") or (moments[0] if moments else None)
    last = training.get("to") or (moments[-1] if moments else None)
    read = {info.table for info in model.dictionary if info.name in model.columns}
    rows = whole(training["rows"]) if "rows" in training else ""
    if rows and "partners" in training:
        rows += f", of {whole(training['partners'])} {clusters(model)}"
    pairs = [
        ("Known before", day(training.get("until"))),
        ("Rows from", f"{day(first)} to {day(last)}" if first and last else ""),
        ("Snapshots", whole(len(moments)) if moments else ""),
        ("Rows", rows),
        ("Drawn from", _drawn(model)),
        (f"Of them {words_of(model).happened}", percent(training.get("base_rate"), 1) if rows else ""),
        ("Time until a label is known", f"{training['gap_days']:g} days" if "gap_days" in training else ""),
        ("Features", f"{whole(columns)} read, of {whole(len(model.dictionary))} built"),
        ("Tables behind them", ", ".join(sorted({part for table in read for part in table.split("+")}))),
        ("Data fingerprint", str(training.get("data_fingerprint") or "")),
    ]
    return Section("Data", [Facts([(name, text) for name, text in pairs if text])])


def _drawn(model: Model) -> str:
    among = model.training.get("drawn_from")
    return "" if among is None else f"{whole(among)} rows, those of {clusters(model)} drawn at random"


def tuning(model: Model) -> Section | None:
    """Tell what tuning gained."""
    found = model.evaluation.get("tuning")
    if not found:
        return None
    gain, span = found.get("gain"), found.get("interval")
    figures = "" if gain is None else f"{gain:+.4f}"
    if gain is not None and span:
        figures += f" (95 % interval {span['low']:+.4f} to {span['high']:+.4f})"
    chosen = {
        f"{part} {name}": value
        for part, values in (found.get("chosen") or {}).items()
        for name, value in values.items()
    }
    pairs = [
        ("Trials", whole(found.get("trials"))),
        ("Kept", str(found.get("kept") or "")),
        ("Gain in log loss", figures),
        ("Found best", ", ".join(f"{name} {_told(value)}" for name, value in sorted(chosen.items()))),
    ]
    told = [Text(sentence(str(found["reason"])))] if found.get("reason") else []
    return Section("Tuning", [*told, Facts([(name, text) for name, text in pairs if text])])


def limits(model: Model) -> Section:
    """Tell what it must not be used for, and what weakens it."""
    evaluation, training = model.evaluation, model.training
    said = [*words_of(model).limits, *([RANK] if is_rank(model) else []), *LIMITS]
    if training.get("until"):
        said.append(f"It has seen nothing from {day(training['until'])} on. What has changed since then is not in it.")
    people = training.get("partners")
    if people is not None and people < _FEW:
        said.append(
            f"Only {whole(people)} {clusters(model)} stand behind it: differences between small groups are mostly "
            "chance, and so may be the order of its baselines."
        )
    judged = evaluation.get("partners")
    if judged is not None and judged < _FEW:
        said.append(f"It was judged on {whole(judged)} {clusters(model)} only: the intervals of its figures are wide.")
    said += [str(entry["words"]) for entry in evaluation.get("segments") or [] if entry.get("flag")]
    said.append("The spread of a score tells how far its components disagree; it is no standard error.")
    return Section("Limits", [Bullets(said)])


def drift(model: Model) -> Section | None:
    """Tell what later rows are held against."""
    baseline = model.documents.get("baseline")
    if not baseline:
        return None
    infos = {info.name: info for info in model.dictionary}
    leads = [driver["lead"] for driver in (model.documents.get("importance") or {}).get("drivers") or []]
    known = [
        name for name in leads or sorted(baseline["features"]) if "quantiles" in baseline["features"].get(name, {})
    ]
    rows = [
        [infos[name].words, *_quantiles(baseline["features"][name])]
        for name in known[:_SHOWN_FEATURES]
        if name in infos
    ]
    if baseline.get("scores"):
        rows.insert(0, ["score, out of time", *_quantiles(baseline["scores"])])
    return Section(
        "Drift baseline",
        [
            Text(
                f"As they were in the {whole(baseline['rows'])} rows of the training; all {whole(len(model.columns))} "
                "features that it reads are in baseline.json of the model.",
            ),
            Table(["", "5 %", "25 %", "Median", "75 %", "95 %", "Not known"], rows),
        ],
    )


def _quantiles(found: Mapping[str, Any]) -> list[str]:
    values = [found["quantiles"].get(level) for level in ("0.05", "0.25", "0.5", "0.75", "0.95")]
    return [*(UNKNOWN if value is None else figure(value) for value in values), percent(found["missing"])]


def lineage(model: Model) -> Section:
    """Tell what made it, and how to make it again."""
    training = model.training
    made = training.get("lineage") or {}
    parameters = [
        (f"Component {called(name).removesuffix(' alone')}", _parameters(part, model.blend.weights[name]))
        for name, part in model.blend.components.items()
    ]
    line = model.blend.calibrator
    pairs = [
        ("Version", model.version),
        ("Task", ", ".join(_flat(model.task))),
        *parameters,
        ("Calibration line", f"log-odds x {line.slope:.4g} {line.intercept:+.4g}"),
        ("Ceiling", f"no probability is above {line.ceiling:.4g}" if line.ceiling < 1 else ""),
        ("Settings", ", ".join(_flat(training.get("settings") or {}))),
        ("Seed", str(training.get("seed", ""))),
        ("Program", f"partnerml {made['program']}, code {made['code']}" if made else ""),
        ("Python", str(made.get("python", ""))),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in (made.get("libraries") or {}).items())),
    ]
    again = "partnerml.rebuild(model, eco) makes it again from the same data and code, byte for byte, or says why not."
    blocks: list[Block] = [Facts([(name, text) for name, text in pairs if text])]
    return Section("Lineage", [*blocks, *([Text(again)] if made else [])])


def _parameters(component: Any, weight: float) -> str:
    known = component.get_params(deep=False) if hasattr(component, "get_params") else _scalars(component.to_state())
    # how many threads there were is no part of the model
    told = ", ".join(f"{name} {_told(value)}" for name, value in sorted(known.items()) if name != "n_jobs")
    return f"weight {weight:.3f}" + (f"; {told}" if told else "")


def _scalars(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in the state of a component that has no `get_params`: what is one number or word."""
    beside = state.get("parameters")
    values = {**state, **(beside if isinstance(beside, Mapping) else {})}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, bool | int | float | str) and "\n" not in str(value)
    }


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return text if len(text) <= _PARAMETERS else text[:_PARAMETERS] + " …"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield what is set, by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, [], "", False):
            yield f"{prefix}{name} {_told(value)}"
