"""A training run: train, log, register, and promote what earns it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.moments import Moment
from partnerml.moments import moment as moment_of
from partnerml.outputs import canonical_json
from partnerml.progress import Progress
from partnerml.report import card_files, card_folder, write_card
from partnerml.training import _train
from partnerml.training._challenge import REPLAY, challenge
from partnerml.training._recipe import MAX_FOLDS

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Contest, Registered, Registry
    from partnerml.tasks import Task
    from partnerml.training._recipe import Trained

_logger = logging.getLogger("partnerml")

PROMOTION = "promotion.json"  # the document of a run that says how it fared against the champion


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of training a task.

    Attributes
    ----------
    task : str
    version : str
        Of the model: 12 hex digits.
    registered : str
        Address in the registry, such as ``models:/churn/3``.
    promoted : bool
        Whether it became champion.
    verdict : str
        Why, in figures.
    metrics : mapping
        The evaluation of the model, beside the baselines'.
    until : datetime
        What was known before this moment was used.
    run_id : str
        The run in MLflow.
    contest : mapping
        How it fared against the champion, as `Contest.to_dict` tells it.
    card : Path or None
        The folder of its model card.
    """

    task: str
    version: str
    registered: str
    promoted: bool
    verdict: str
    metrics: Mapping[str, Any]
    until: dt.datetime
    run_id: str
    contest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    card: Path | None = None


def run(
    eco: Ecosystem,
    task: Task,
    *,
    until: Moment | None = None,
    trials: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Train a task, log the run, write its card, register the model, and promote it if it earns it.

    A model that is not surely better than the base rate and than the simplest ranking alone is registered as challenger
    and never becomes champion: "no signal" is a result. One that is has to be better than the champion, on rows that
    neither has learnt from, or as good and simpler. Takes the parameters of `train`.

    Raises
    ------
    MissingExtraError
        If MLflow is not installed; before anything is trained.
    """
    registry = registry_of(eco)
    progress = progress or Progress.silent()
    last = _train.end_of(eco, task, until)
    made = _train.trained(eco, task, until=last, trials=trials, seed=seed, progress=progress)
    return entered(eco, task, made, registry, until=last, progress=progress)


def registry_of(eco: Ecosystem) -> Registry:
    """Return the registry that is configured.

    Raises
    ------
    MissingExtraError
        If MLflow is not installed.
    """
    from partnerml.models import Registry

    registry = Registry(eco.config.tracking_uri)
    registry.check()
    return registry


def entered(
    eco: Ecosystem, task: Task, made: Trained, registry: Registry, *, until: dt.datetime, progress: Progress
) -> Outcome:
    """Compare what was trained with the champion, and enter it in the registry, with its card."""
    model = made.model
    with progress.stage(f"{task.name}: comparison with the champion"):
        contest = challenge(eco, task, made, registry, until=until)
    with progress.stage(f"{task.name}: card and registry"):
        card = card_files(model)
        run_id = registry.log_run(
            task.name,
            model,
            parameters=_settings(task),
            metrics=contest.metrics(),
            texts={
                **{f"card/{name}": text for name, text in card.items()},
                PROMOTION: canonical_json(contest.to_dict()),
            },
            tables={REPLAY: made.replay},
        )
        registered = _registered(registry, task.name, run_id, contest)
        folder = write_card(card, card_folder(eco.config.out, task.name, model.version))
    return Outcome(
        task=task.name,
        version=model.version,
        registered=registered.uri,
        promoted=contest.promoted,
        verdict=contest.reason,
        metrics=model.evaluation,
        until=moment_of(model.training["until"]),
        run_id=run_id,
        contest=contest.to_dict(),
        card=folder,
    )


def _registered(registry: Registry, task: str, run_id: str, contest: Contest) -> Registered:
    """Make the model of a run a version, and give it the alias that it has earned."""
    current = registry.current(task)
    if contest.verdict == "same" and current is not None:
        return current
    registered = registry.register(task, run_id, alias=None if contest.promoted else "challenger")
    if contest.promoted:
        registry.promote(task, registered.version)
    else:
        _logger.warning("%s: %s. It is registered as challenger and not promoted", task, contest.reason)
    return registered


def _settings(task: Task) -> dict[str, Any]:
    return {"max_folds": MAX_FOLDS, "task": task.to_dict()}
