"""A model made again from what it says of itself: the same bytes, or what stands in the way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from partnerml.errors import ModelError
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress
from partnerml.training._recipe import Trainable, configuration

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model

_SHOWN = 5


def rebuild(model: Model, eco: Ecosystem, *, progress: Progress | None = None) -> Model:
    """Make a model again, byte for byte, from its lineage: task, until, seed, settings, data and code.

    Parameters
    ----------
    model : Model
        Such as one that was loaded from a folder or from the registry.
    eco : Ecosystem
        The data that it was trained on. Rows recorded at or after its `until` may have come since.
    progress : Progress, optional
        Where to show progress; silent by default.

    Returns
    -------
    Model
        With the version of the one that was given.

    Raises
    ------
    ModelError
        If this program is another than the one that made it, if the data are not the same, or if what comes out is
        not; names the differences.
    """
    from partnerml.models import Lineage
    from partnerml.tasks import Task
    from partnerml.training._train import finished, prepared

    progress = progress or Progress.silent()
    known = model.training.get("lineage")
    if not known:
        raise ModelError(f"model {model.version} says nothing of what made it, so it cannot be made again; train anew")
    if apart := Lineage.here().differences(Lineage.from_dict(known)):
        raise ModelError(
            f"model {model.version} was made by another program than this one, so its bytes would differ. Here: "
            f"{_listed(apart)}. Install what made it, or train anew"
        )
    task, until, trials = Task.from_dict(model.task), moment_of(model.training["until"]), int(known["trials"])
    seed = int(model.training["seed"])
    recipe = prepared(eco, task, until=until, trials=trials, seed=seed, progress=progress)
    changed = _changed(known.get("configuration", {}), configuration(eco))
    _check_data(model, recipe, changed, until)
    again = finished(recipe, eco, progress=progress, trials=trials).model
    if again.version != model.version:
        why = (
            f"The configuration is another one: {_listed(changed)}. Set it back, or train anew"
            if changed
            else "Labels as they were known earlier, or what is fitted without labels, have changed in the tables"
        )
        raise ModelError(
            f"model {model.version} came out as {again.version}: its rows are the same, and not the same are "
            f"{_listed(_parts(model, again))}. {why}"
        )
    return again


def _check_data(model: Model, recipe: Trainable, changed: list[str], until: dt.datetime) -> None:
    was, found = model.training.get("data_fingerprint"), recipe.data.fingerprint
    if was == found:
        return
    here = {"rows": len(recipe.data), "partners": int(recipe.data.keys[recipe.cluster].nunique())}
    apart = [
        f"{name} {value:,}, not {model.training[name]:,}"
        for name, value in here.items()
        if model.training.get(name) not in (None, value)
    ]
    more = f" Here: {_listed([*apart, *changed])}." if apart or changed else ""
    raise ModelError(
        f"the data are not those that model {model.version} was trained on: what was known before {until:%Y-%m-%d} has "
        f"fingerprint {found}, and was {was}.{more} Rows recorded before that date were added, changed or deleted, or "
        "are mapped in another way; restore them, or train anew"
    )


def _changed(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the settings that differ, in words."""
    found = []
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _changed(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} {after!r}, not {before!r}")
    return found


def _parts(model: Model, again: Model) -> list[str]:
    return sorted(_different(model, again)) or ["its documents"]


def _different(model: Model, again: Model) -> Iterator[str]:
    if model.blend.to_state() != again.blend.to_state():
        yield "its blend"
    for name in ("columns", "catalogue", "dictionary", "evaluation", "training", "documents"):
        if getattr(model, name) != getattr(again, name):
            yield f"its {name}"


def _listed(items: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more
