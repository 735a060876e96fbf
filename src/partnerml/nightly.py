"""The stages of a night in order: validate, train what has no champion, score, publish, report.

A night can be killed and run again. Each finished stage is noted in ``OUT/runs/DATE/state.json`` with a fingerprint of
what went into it, the configuration, the data and the model's version; a stage whose fingerprint and output are still
the same is not repeated. ``run.json`` beside it is the record of the last run, with timings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import hashlib
import json
import logging
import operator
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml import __version__, outputs
from partnerml.errors import ConfigError, ModelError, NoChampionError, NotEnoughDataError
from partnerml.manifests import hash_of
from partnerml.masking import masked
from partnerml.moments import Moment, is_midnight
from partnerml.moments import moment as moment_of
from partnerml.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.config import Config
    from partnerml.ecosystem import Ecosystem, ValidationReport
    from partnerml.models import Model, Registry
    from partnerml.tasks import Task

DONE, SKIPPED = "done", "skipped"
_ROUTED_BY = "close"  # the task whose model tells who wins a lead
_ABOUT_PARTNERS = ("partner_id", "name", "partner_type", "country", "region", "tier")
# where a name is found, the partner's last: of equal ids its own is told
_NAMED = (("accounts", "account_id", "name"), ("leads", "lead_id", "account_name"), ("partners", "partner_id", "name"))

# `validate` finds rows in the future by the clock; a night must come out the same whenever it is run again
_NO_CLOCK = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)

_logger = logging.getLogger("partnerml")


@dataclasses.dataclass(frozen=True)
class Stage:
    """How one stage of a night ended.

    Attributes
    ----------
    name : str
        ``validate``, ``train:TASK``, ``score:TASK``, ``publish`` or ``report``.
    status : str
        ``done`` or ``skipped``.
    reason : str
        Why it was skipped.
    facts : mapping
        What else is known, such as the model's version, or the path and the SHA-256 of the output.
    repeated : bool
        Whether an earlier run of the same night had done it already.
    """

    name: str
    status: str
    reason: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    repeated: bool = False


@dataclasses.dataclass(frozen=True)
class Night:
    """What a night brought.

    Attributes
    ----------
    as_of : datetime
        Zoned, UTC.
    stages : tuple of Stage
        In the order of their run.
    validation : ValidationReport
    report : Path
        The HTML summary.
    scores : mapping of str to Path
        The scores of each task that has any.
    snapshot : Path or None
        The folder that routing goes by; None where nothing is routed, or there is no model to route by.
    """

    as_of: dt.datetime
    stages: tuple[Stage, ...]
    validation: ValidationReport
    report: Path
    scores: Mapping[str, Path]
    snapshot: Path | None = None


def run(eco: Ecosystem, *, as_of: Moment, seed: int | None = None, progress: Progress | None = None) -> Night:
    """Run the stages of a night, or what is left of them.

    Parameters
    ----------
    eco : Ecosystem
        Its configuration says where outputs go.
    as_of : date
        A midnight; what was known before it is used, by training and scoring.
    seed : int, optional
        Of training; the configuration's by default.
    progress : Progress, optional
        Where to show progress; silent by default.

    Raises
    ------
    BusyError
        If another run holds the output folder.
    DataError
        If the tables have errors.
    """
    moment = moment_of(as_of)
    if not is_midnight(moment):
        raise ConfigError(f"a night is run as of a date; got {moment.isoformat()}, which is not 00:00 UTC")
    with outputs.lock(eco.config.out, purpose="partnerml nightly"):
        return _Night(eco, moment, eco.config.seed if seed is None else seed, progress or Progress.silent()).run()


def registry_of(config: Config) -> Registry:
    """Return the model registry of a configuration."""
    from partnerml.models import Registry

    return Registry(config.tracking_uri)


def write_report(eco: Ecosystem, *, as_of: dt.datetime, skipped: Mapping[str, str] | None = None) -> Path:
    """Build ``OUT/reports/DATE/index.html`` from the scores of that date, and return its path.

    Parameters
    ----------
    eco : Ecosystem
    as_of : datetime
        The date of the scores.
    skipped : mapping of str to str, optional
        Why a task has no scores.

    Raises
    ------
    ModelError
        If the scores are those of another model than the champion.
    """
    from partnerml import tasks
    from partnerml.report import Scored, build_report

    config = eco.config
    reasons, scored = dict(skipped or {}), {}
    for task in tasks.wanted(eco):
        path = scores_path(config.out, task.name, as_of)
        if task.name in reasons:
            continue
        if path.is_file():
            scored[task.name] = Scored(*_scores_and_model(config, path, task.name))
        else:
            reasons[task.name] = (
                f"There are none for {as_of:%Y-%m-%d}: run partnerml score {task.name} --as-of {as_of:%Y-%m-%d}."
            )
    partners = _about_partners(eco)
    page = build_report(
        as_of=as_of,
        validation=eco.validate(now=_NO_CLOCK),
        churn=scored.pop("churn", None),
        others=scored,
        partners=partners,
        names=names_of(eco),
        skipped=reasons,
        currency=None if config.data.currency is None else config.data.currency.to,
        cuts=config.report.bands,
    )
    return outputs.write_text(config.out / "reports" / f"{as_of:%Y-%m-%d}" / "index.html", page)


def scores_path(out: Path, task: str, as_of: dt.datetime) -> Path:
    """Return where the scores of a task and date lie."""
    return out / "scores" / task / f"date={as_of:%Y-%m-%d}" / "scores.parquet"


def _scores_and_model(config: Config, path: Path, task: str) -> tuple[pd.DataFrame, Model]:
    import pandas as pd

    frame = pd.read_parquet(path)
    model = registry_of(config).champion(task)
    made_by = sorted(set(frame["model_version"]))
    if made_by != [model.version]:
        raise ModelError(
            f"{path} holds scores of model {', '.join(made_by)}, and the champion of {task} is {model.version}: "
            f"run partnerml score {task} for that date again"
        )
    return frame, model


def _about_partners(eco: Ecosystem) -> pd.DataFrame:
    table = eco.table("partners")
    frame: pd.DataFrame = table.select(*[name for name in _ABOUT_PARTNERS if name in table.columns]).to_pandas()
    return frame


def names_of(eco: Ecosystem) -> dict[str, str]:
    """Return the names of partners, and of accounts and leads where there are any, by id."""
    found: dict[str, str] = {}
    for table, key, name in _NAMED:
        if eco.has(table, name):
            known = eco.table(table).select(key, name).to_pandas().dropna()
            found |= dict(zip(known[key], known[name], strict=True))
    return found


class _Night:
    """One run of a night: what the stages share."""

    def __init__(self, eco: Ecosystem, as_of: dt.datetime, seed: int, progress: Progress) -> None:
        self.eco, self.as_of, self.seed, self.progress = eco, as_of, seed, progress
        self.folder = _run_folder(eco.config.out, as_of)
        self.before = _read_state(self.folder)
        self.stages: dict[str, Stage] = {}
        self.fingerprints: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.registry = registry_of(eco.config)

    def run(self) -> Night:
        from partnerml import tasks

        started = dt.datetime.now(dt.UTC)
        try:
            self._stage("validate", self._validate)
            chosen = tasks.wanted(self.eco)
            for task in chosen:
                self._stage(f"train:{task.name}", functools.partial(self._train, task))
            for task in chosen:
                self._stage(f"score:{task.name}", functools.partial(self._score, task))
            if any(task.name == _ROUTED_BY for task in chosen):
                self._stage("publish", self._publish)
            self._stage("report", self._report)
            self._save(ended=True)
        except BaseException as error:
            self._record(started, failure=f"{type(error).__name__}: {error}")
            raise
        self._record(started)
        out = self.eco.config.out
        scores = {
            name.partition(":")[2]: out / stage.facts["path"]
            for name, stage in self.stages.items()
            if name.startswith("score:") and stage.status == DONE
        }
        return Night(
            self.as_of,
            tuple(self.stages.values()),
            self.eco.validate(now=_NO_CLOCK),
            out / self.stages["report"].facts["path"],
            scores,
            self._snapshot(),
        )

    def _snapshot(self) -> Path | None:
        stage = self.stages.get("publish")
        if stage is None or stage.status == SKIPPED:
            return None
        manifest: Path = self.eco.config.out / stage.facts["path"]
        return manifest.parent

    def _stage(self, name: str, work: Callable[[str], Stage]) -> None:
        started = time.monotonic()
        with self.progress.stage(name):
            stage = work(name)
        self.seconds[name] = time.monotonic() - started
        told = {earlier.reason for earlier in self.stages.values()}
        self.stages[name] = stage
        if stage.status == SKIPPED and stage.reason not in told:
            _logger.warning("%s skipped: %s", name, stage.reason)
        self._save()

    def _validate(self, name: str) -> Stage:
        report = self.eco.validate(now=_NO_CLOCK)
        self.eco.write_rejects()
        report.raise_for_errors()
        for violation in report.warnings:
            _logger.warning("%s", violation.message)
        self.fingerprints[name] = self._given
        return Stage(name, DONE, facts={"set_aside": dict(report.set_aside), "violations": len(report.violations)})

    def _train(self, task: Task, name: str) -> Stage:
        from partnerml import training

        self.fingerprints[name] = _digest(self._given, task.to_dict(), self.seed)
        champion = self.registry.current(task.name)
        if champion is not None:
            return Stage(name, DONE, facts={"model_version": champion.model_version}, repeated=True)
        reason = self._skipped_before(name)
        if reason is not None:
            return Stage(name, SKIPPED, reason, repeated=True)
        try:
            outcome = training.run(
                self.eco,
                task,
                until=self.as_of,
                trials=self.eco.config.tuning.trials,
                seed=self.seed,
                progress=self.progress,
            )
        except NotEnoughDataError as error:
            return Stage(name, SKIPPED, str(error))
        if not outcome.promoted:
            return Stage(name, SKIPPED, f"not promoted: {outcome.verdict}")
        return Stage(name, DONE, facts={"model_version": outcome.version})

    def _skipped_before(self, name: str) -> str | None:
        """Return why the task was skipped on the same data, this night or the last one that tried it."""
        for folder in sorted(self.folder.parent.glob("????-??-??"), reverse=True):
            if folder.name > self.folder.name:
                continue
            noted = (self.before if folder == self.folder else _read_state(folder)).get(name)
            if noted is not None:
                same = noted["status"] == SKIPPED and noted["fingerprint"] == self.fingerprints[name]
                return str(noted["reason"]) if same else None
        return None

    def _score(self, task: Task, name: str) -> Stage:
        from partnerml import scoring, tasks

        champion = self.registry.current(task.name)
        if champion is None:
            return Stage(name, SKIPPED, self.stages[f"train:{task.name}"].reason)
        config = self.eco.config
        self.fingerprints[name] = _digest(
            self._given, champion.model_version, self.as_of.isoformat(), list(config.report.bands)
        )
        done = self._done_before(name)
        if done is not None:
            return done
        model = self.registry.champion(task.name)
        warn_if_trained_later(model, self.as_of)
        warn_if_task_changed(model, task, self.eco)
        cells = tasks.cells_of(self.eco, until=self.as_of)
        try:
            scores = scoring.score(
                self.eco, model, as_of=self.as_of, cuts=config.report.bands, cells=cells, progress=self.progress
            )
        except NotEnoughDataError as error:
            return Stage(name, SKIPPED, str(error))
        return self._written(name, scores.write(config.out), model_version=model.version, rows=len(scores))

    def _publish(self, name: str) -> Stage:
        from partnerml import publishing

        found = publishing.routed_by(self.registry)
        if found is None:
            return Stage(name, SKIPPED, self.stages[f"train:{_ROUTED_BY}"].reason)
        model, config = found[0].model_version, self.eco.config
        rules = config.routing.model_dump(mode="json", exclude={"ledger"})
        self.fingerprints[name] = _digest(self._given, rules, config.seed, found[1], model, self.as_of.isoformat())
        # a night of the past, for scores that are missing, is not to take routing back to what was known then
        current = publishing.published_as_of(config)
        is_past = current is not None and current > self.as_of
        done = self._done_before(name)
        if done is not None:
            if not is_past:
                publishing.route_by(config, str(done.facts["snapshot_id"]))
            return done
        if is_past:
            words = f"leads are routed by a snapshot as of {current:%Y-%m-%d}, which is later than this night and stays"
            return Stage(name, SKIPPED, words)
        folder = publishing.publish(self.eco, as_of=self.as_of, progress=self.progress)
        # it holds the hashes of all other files
        return self._written(name, folder / "manifest.json", model_version=model, snapshot_id=folder.name)

    def _report(self, name: str) -> Stage:
        skipped = {
            stage.name.partition(":")[2]: stage.reason
            for stage in self.stages.values()
            if stage.name.startswith("score:") and stage.status == SKIPPED
        }
        scores = {key: dict(stage.facts) for key, stage in self.stages.items() if key.startswith("score:")}
        self.fingerprints[name] = _digest(self._given, scores, skipped, self.as_of.isoformat())
        done = self._done_before(name)
        if done is not None:
            return done
        return self._written(name, write_report(self.eco, as_of=self.as_of, skipped=skipped))

    def _written(self, name: str, path: Path, **facts: Any) -> Stage:
        place = path.relative_to(self.eco.config.out)
        return Stage(name, DONE, facts={"path": place.as_posix(), "sha256": hash_of(path), **facts})

    def _done_before(self, name: str) -> Stage | None:
        """Return the stage of an earlier run of this night if all that went in is the same and its output is there."""
        noted = self.before.get(name)
        if noted is None or noted["status"] != DONE or noted["fingerprint"] != self.fingerprints[name]:
            return None
        path = self.eco.config.out / noted["facts"]["path"]
        if not path.is_file() or hash_of(path) != noted["facts"]["sha256"]:
            return None
        return Stage(name, DONE, facts=noted["facts"], repeated=True)

    @functools.cached_property
    def _given(self) -> str:
        """Fingerprint of the configuration, the data and this version of partnerml."""
        return _digest(__version__, _meaning(self.eco.config), data_fingerprint(self.eco))

    def _save(self, *, ended: bool = False) -> None:
        """Note the stages so far; those of an earlier run stay until this one has ended."""
        noted = {} if ended else dict(self.before)
        noted |= {
            name: {
                "status": stage.status,
                "reason": stage.reason,
                "facts": dict(stage.facts),
                "fingerprint": self.fingerprints.get(name, ""),
            }
            for name, stage in self.stages.items()
        }
        outputs.write_json(self.folder / "state.json", {"as_of": self.as_of.isoformat(), "stages": noted})

    def _record(self, started: dt.datetime, *, failure: str | None = None) -> None:
        record = {
            "as_of": self.as_of.isoformat(),
            "started": started.isoformat(timespec="seconds"),
            "ended": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "failure": masked(failure),
            "stages": [
                {**dataclasses.asdict(stage), "seconds": round(self.seconds[name], 2)}
                for name, stage in self.stages.items()
            ],
            "partnerml": __version__,
            "python": platform.python_version(),
            "config": masked(self.eco.config.resolved()),
        }
        # the error that ended the run is the one to be told, not that of a full disk while noting it
        with contextlib.suppress(*(() if failure is None else (Exception,))):
            outputs.write_json(self.folder / "run.json", record)


def warn_if_trained_later(model: Model, as_of: dt.datetime) -> None:
    """Warn of scores of a time that the model has seen already."""
    until = moment_of(str(model.training["until"]), name="until")
    if as_of < until:
        _logger.warning(
            "scores as of %s come from a model trained on what was known until %s: it has seen what came after, "
            "so they look better than they are",
            f"{as_of:%Y-%m-%d}",
            f"{until:%Y-%m-%d}",
        )


def warn_if_task_changed(model: Model, task: Task, eco: Ecosystem) -> None:
    """Warn of a champion that answers another question than the configuration asks of these tables."""
    made, asked = model.task, task.kind.resolved(eco, task).to_dict()
    for part in ("population", "label"):
        for key in sorted(asked[part]):
            if part in made and made[part].get(key) != asked[part][key]:
                _logger.warning(
                    "the champion of %s was trained with %s %s, and the configuration says %s; "
                    "for a model of that: partnerml train %s",
                    task.name, key, made[part].get(key), asked[part][key], task.name,
                )  # fmt: skip


def data_fingerprint(eco: Ecosystem) -> str:
    """Return 16 hex digits over the rows of all tables, whatever their order.

    Each row is hashed in the engine and the hashes are summed, so nothing is pulled out and threads do not matter.
    """
    found = {}
    for name in sorted(eco.tables):
        table = eco.table(name)
        row = functools.reduce(
            operator.xor,
            # the column's name is hashed along: equal values of two columns would cancel out
            [(table[column].hash().cast("string") + column).hash() for column in table.columns],
        )
        counted = table.aggregate(rows=table.count(), total=(row % 2_147_483_647).sum()).to_pyarrow().to_pylist()[0]
        found[name] = [table.columns, counted["rows"], counted["total"]]
    return _digest(found)


def latest_scores(out: Path) -> dt.datetime:
    """Return the date of the newest scores.

    Raises
    ------
    NoChampionError
        If nothing has been scored.
    """
    dates = sorted(path.parent.name.removeprefix("date=") for path in out.glob("scores/*/date=*/scores.parquet"))
    if not dates:
        raise NoChampionError(f"there are no scores in {out / 'scores'}: run partnerml score all --as-of DATE first")
    return moment_of(dates[-1])


def _meaning(config: Config) -> dict[str, Any]:
    """Return the part of the configuration that can change a result."""
    without = ("engine", "output", "mlflow", "seed", "outreach", "routing")
    meant = {key: value for key, value in config.resolved().items() if key not in without}
    # how features are kept, and not which: the result is the same
    return meant | {"features": {key: value for key, value in meant["features"].items() if key != "cells"}}


def _digest(*values: Any) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _run_folder(out: Path, as_of: dt.datetime) -> Path:
    return out / "runs" / f"{as_of:%Y-%m-%d}"


def _read_state(folder: Path) -> dict[str, Any]:
    """Return the stages noted by an earlier run; none where the file is missing or not ours."""
    try:
        stages = json.loads((folder / "state.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stages if isinstance(stages, dict) else {}
