"""The commands. Each opens what it needs, calls one function of the library, and returns what to print."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partnerml.cli import _show
from partnerml.cli._app import MOMENT, Result, Session, command
from partnerml.cli._card import card
from partnerml.cli._features import features
from partnerml.cli._ledger import expire, forget, outcomes, override, respond, withdraw
from partnerml.cli._outreach import outreach
from partnerml.cli._questions import export, for_partner, history, queue, simulate
from partnerml.cli._routing import publish, replay, reprice, route, why_not
from partnerml.errors import ConfigError, DataError, NoChampionError, NotEnoughDataError

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.tasks import Task

_logger = logging.getLogger("partnerml")

_ALL = "all"
_as_of = click.option(
    "--as-of", type=MOMENT, required=True, metavar="DATE", help="Use what was known before 00:00 UTC of this date."
)


@command("init", configured=False)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sample", type=click.Choice(["synthetic"]), help="Write sample tables as well, ready to run.")
@click.option("--partners", type=click.IntRange(min=1), default=2000, show_default=True, help="Size of the sample.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty; nothing else in it is touched.")
def init(session: Session, *, directory: Path, sample: str | None, partners: int, force: bool) -> Result:
    """Write a commented partnerml.yaml into DIR, and sample tables if asked for.

    \b
    Example:
      partnerml init trial/ --sample synthetic
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    from partnerml import demo

    made = demo.init(directory, sample=sample is not None, partners=partners, force=force, progress=session.progress)
    document = {"config": made.config, "tables": dict(made.tables), "as_of": made.as_of}
    return Result(document, lambda console: _show.init(console, made))


@command("validate")
@click.option(
    "--now", type=MOMENT, metavar="TIMESTAMP", help="Moments more than a day after it are wrong [default: now]."
)
def validate(session: Session, *, now: dt.datetime | None) -> Result:
    """Tell every violation in the tables: table, column, rule, severity, count, first rows.

    Rows that are set aside are written to OUT/rejects. Ends with 2 if there are errors.

    \b
    Example:
      partnerml validate -c crm/partnerml.yaml
    """  # noqa: D301
    from partnerml import outputs

    with (
        session.ecosystem(now=now) as eco,
        outputs.lock(eco.config.out, purpose="partnerml validate"),
        session.progress.stage("validate"),
    ):
        report = eco.validate(now=now)
        rejects = eco.write_rejects()
    failure = None
    try:
        report.raise_for_errors()
    except DataError as error:
        failure = error
    document = report.to_dict() | {"rejects": rejects}
    return Result(document, lambda console: _show.validation(console, report, rejects), failure)


@command("train")
@click.argument("task")
@click.option(
    "--until", type=MOMENT, metavar="DATE", help="Use what was known before it [default: the end of the dense data]."
)
@click.option(
    "--trials",
    type=click.IntRange(min=0),
    help="How many settings to try; 0 takes the defaults as they are [default: the configuration's].",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of everything drawn [default: the configuration's].")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many tasks to train at the same time, each in a process with memory of its own.",
)
def train(
    session: Session, *, task: str, until: dt.datetime | None, trials: int | None, seed: int | None, jobs: int
) -> Result:
    """Train TASK (or all), judge it out of time, register it, and promote it if it earns it.

    A model that is not surely better than the base rate and than the simplest ranking of its task (for churn the days
    since the last activity) is not promoted: "no signal" is a result, and ends with 0. Nor is one that does not beat
    the champion.

    \b
    Examples:
      partnerml train churn
      partnerml train all --until 2026-03-01 --seed 1
      partnerml train all --jobs 2
      partnerml train churn --trials 50
    """  # noqa: D301
    from partnerml import outputs, training

    with session.ecosystem() as eco, outputs.lock(eco.config.out, purpose="partnerml train"):
        chosen = _several(eco, task)
        drawn = eco.config.seed if seed is None else seed
        tried = eco.config.tuning.trials if trials is None else trials
        outcomes = training.run_all(
            eco, chosen, until=until, trials=tried, seed=drawn, jobs=jobs, progress=session.progress
        )
    document = {
        "models": [
            {
                "task": outcome.task,
                "version": outcome.version,
                "registered": outcome.registered,
                "promoted": outcome.promoted,
                "verdict": outcome.verdict,
                "until": outcome.until,
                "run_id": outcome.run_id,
                "contest": outcome.contest,
                "card": outcome.card,
                "evaluation": outcome.metrics,
            }
            for outcome in outcomes
        ]
    }
    return Result(document, lambda console: _show.trained(console, outcomes))


@command("score")
@click.argument("task")
@_as_of
def score(session: Session, *, task: str, as_of: dt.datetime) -> Result:
    """Score TASK (or all) with its champion: OUT/scores/TASK/date=DATE/scores.parquet.

    \b
    Example:
      partnerml score churn --as-of 2026-06-01
    """  # noqa: D301
    from partnerml import nightly, outputs

    with session.ecosystem() as eco, outputs.lock(eco.config.out, purpose="partnerml score"):
        scored = [
            found
            for each in _several(eco, task)
            if (found := _scored(session, eco, each, as_of, skips=task == _ALL)) is not None
        ]
        names = nightly.names_of(eco) if scored else {}
    document = {
        "scores": [
            {
                "task": scores.task,
                "as_of": scores.as_of,
                "model_version": scores.model_version,
                "rows": len(scores),
                "path": path,
            }
            for scores, path in scored
        ]
    }
    return Result(document, lambda console: _show.scored(console, scored, names))


def _scored(session: Session, eco: Any, task: Task, as_of: dt.datetime, *, skips: bool) -> tuple[Any, Path] | None:
    from partnerml import nightly, scoring, tasks

    try:
        model = nightly.registry_of(eco.config).champion(task.name)
    except NoChampionError as error:
        if not skips:
            raise
        _logger.info("%s is not scored: %s", task.name, error)
        return None
    nightly.warn_if_trained_later(model, as_of)
    nightly.warn_if_task_changed(model, task, eco)
    try:
        scores = scoring.score(
            eco,
            model,
            as_of=as_of,
            cuts=eco.config.report.bands,
            cells=tasks.cells_of(eco, until=as_of),
            progress=session.progress,
        )
    except NotEnoughDataError as error:
        if not skips:
            raise
        _logger.warning("%s is not scored: %s", task.name, error)
        return None
    return scores, scores.write(eco.config.out)


@command("rollback")
@click.argument("task")
def rollback(session: Session, *, task: str) -> Result:
    """Make the former champion of TASK the champion again.

    \b
    Example:
      partnerml rollback churn
    """  # noqa: D301
    from partnerml import nightly, outputs, tasks

    config = session.load()
    with outputs.lock(config.out, purpose="partnerml rollback"):
        registered = nightly.registry_of(config).rollback(tasks.configured(config, task).name)
    document = {"task": registered.task, "version": registered.version, "model_version": registered.model_version}
    return Result(document, lambda console: _show.rolled_back(console, document))


@command("nightly")
@_as_of
@click.option("--seed", type=click.IntRange(min=0), help="Seed of training [default: the configuration's].")
def nightly(session: Session, *, as_of: dt.datetime, seed: int | None) -> Result:
    """Run the stages of a night: validate, train what has no champion, score, publish, report.

    Can be killed and run again: finished stages whose input is the same are not repeated. A task with too little
    data or without signal is skipped with the reason, and does not fail the night.

    \b
    Example:
      partnerml nightly -c /srv/crm/partnerml.yaml --as-of 2026-06-01
    """  # noqa: D301
    from partnerml import nightly as night

    with session.ecosystem() as eco:
        done = night.run(eco, as_of=as_of, seed=seed, progress=session.progress)
    return Result(_night_document(done), lambda console: _show.night(console, done))


def _night_document(done: Any) -> dict[str, Any]:
    stages = [
        {"name": s.name, "status": s.status, "reason": s.reason, "repeated": s.repeated, "facts": dict(s.facts)}
        for s in done.stages
    ]
    return {
        "as_of": done.as_of,
        "stages": stages,
        "report": done.report,
        "scores": dict(done.scores),
        "snapshot": done.snapshot,
    }


@command("report")
@click.option("--as-of", type=MOMENT, metavar="DATE", help="Date of the scores [default: the newest].")
def report(session: Session, *, as_of: dt.datetime | None) -> Result:
    """Build the HTML summary of the scores of a date: OUT/reports/DATE/index.html.

    \b
    Example:
      partnerml report --as-of 2026-06-01
    """  # noqa: D301
    from partnerml import nightly, outputs

    with session.ecosystem() as eco, outputs.lock(eco.config.out, purpose="partnerml report"):
        newest = nightly.latest_scores(eco.config.out)
        moment = as_of or newest
        if not any(eco.config.out.glob(f"scores/*/date={moment:%Y-%m-%d}/scores.parquet")):
            raise NoChampionError(
                f"there are no scores of {moment:%Y-%m-%d} in {eco.config.out / 'scores'}; the newest are of "
                f"{newest:%Y-%m-%d}: run partnerml score all --as-of {moment:%Y-%m-%d} first"
            )
        with session.progress.stage("report"):
            path = nightly.write_report(eco, as_of=moment)
    return Result({"as_of": moment, "path": path}, lambda console: _show.path(console, "report", path))


@command("demo", configured=False)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default="partnerml-demo",
    show_default=True,
    help="A folder of its own.",
)
@click.option("--partners", type=click.IntRange(min=1), default=1200, show_default=True, help="Size of the sample.")
@click.option("--force", is_flag=True, help="Run in a folder that is not empty.")
def demo(session: Session, *, directory: Path, partners: int, force: bool) -> Result:
    """Make a synthetic programme, run a night on it, route leads, and show the result; takes about two minutes.

    \b
    Example:
      partnerml demo --dir trial/
    """  # noqa: D301
    from partnerml import demo as demonstration

    shown = demonstration.run(directory, partners=partners, force=force, progress=session.progress)
    document = _night_document(shown.night) | {
        "config": shown.made.config,
        "validation": shown.night.validation.to_dict(),
        "decisions": [decision.to_dict() for decision in shown.decisions],
    }
    return Result(document, lambda console: _show.demo(console, shown))


def _several(eco: Ecosystem, name: str) -> Sequence[Task]:
    from partnerml import tasks

    if name != _ALL:
        return (tasks.configured(eco.config, name),)
    chosen = tasks.wanted(eco)
    if not chosen:
        raise ConfigError(
            "there is no task to train or score: the configuration lists none, or the tables have no label of any; "
            "write `tasks: {churn: {}}`, or map the tables events and deals"
        )
    return chosen


COMMANDS = (
    *(init, validate, features, train, card, score, rollback, outreach),
    *(publish, reprice, route, respond, withdraw, expire, override, queue, why_not, replay),
    *(simulate, history, for_partner, export, outcomes, forget),
    *(nightly, report, demo),
)
