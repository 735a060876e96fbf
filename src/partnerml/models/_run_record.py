"""What a training run leaves in the log, as plain names and values; `partnerml.models._registry` writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partnerml.models._artifact import Model

_PARAMETER_LENGTH = 500
# one value a column: tables, which the log keeps as documents
_TABLES = ("training.typical.", "training.twins.", "training.lineage.configuration.")


def run_parameters(model: Model) -> dict[str, str]:
    """Return task, weights, parameters of each component and facts of the training, by dotted name."""
    known = flat({"task": model.task, "weights": model.blend.weights, "training": model.training})
    for name, component in model.blend.components.items():
        if hasattr(component, "get_params"):
            known |= flat({name: component.get_params(deep=False)})
    return {key: value for key, value in known.items() if not key.startswith(_TABLES)}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values by dotted name, as text; what is too long for a parameter is left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) <= _PARAMETER_LENGTH:
            found[log_name(name)] = text
    return found


def run_metrics(evaluation: Mapping[str, Any], *, subject: str = "model") -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, step); what is undefined is left out, because MLflow stores no nulls."""
    for model, measured in evaluation.get("models", {}).items():
        prefix = "" if model == subject else f"{model}."
        for name, interval in measured.items():
            for part, suffix in (("estimate", ""), ("low", ".low"), ("high", ".high")):
                if interval.get(part) is not None:
                    yield f"{prefix}{name}{suffix}", interval[part], 0
    folds: Sequence[Mapping[str, Any]] = evaluation.get("folds") or []
    steps = {moment: step for step, moment in enumerate(sorted({str(fold["as_of"]) for fold in folds}))}
    for fold in folds:
        prefix = "fold." if fold["model"] == subject else f"fold.{fold['model']}."
        for name, value in fold.items():
            if isinstance(value, float | int) and not isinstance(value, bool):
                yield f"{prefix}{name}", value, steps[str(fold["as_of"])]


def log_name(text: str) -> str:
    """Return the text without what MLflow refuses in a name."""
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", text)
