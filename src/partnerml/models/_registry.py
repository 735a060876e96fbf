"""Runs, versions and aliases in MLflow: the only place that knows it.

Everything goes through `MlflowClient` with an address of its own. The fluent functions of MLflow would set the tracking
address of the whole process and its environment; a service that has an MLflow of its own must not notice us.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partnerml.errors import ConfigError, ModelError, NoChampionError, require
from partnerml.models._artifact import Model, load_model
from partnerml.models._run_record import flat, log_name, run_metrics, run_parameters
from partnerml.outputs import write_parquet

CHAMPION = "champion"
CHALLENGER = "challenger"
_LOADER = "partnerml.models._pyfunc"
_DATA = "model"  # the folder of the saved model inside MLflow's
_TABLES = "tables"  # the folder of a run's rows
_VERSION_TAG = "partnerml.version"
_HISTORY_TAG = "partnerml.champions"
_KEPT = 100  # champions remembered
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Registered:
    """A version of a task's model in the registry.

    Attributes
    ----------
    task : str
        The name it is registered under.
    version : int
        MLflow's number, from 1.
    model_version : str
        12 hex digits over the content, as in `Model.version`.
    aliases : tuple of str
        Such as ``champion``.
    run_id : str
        The run that trained it.
    """

    task: str
    version: int
    model_version: str
    aliases: tuple[str, ...]
    run_id: str

    @property
    def uri(self) -> str:
        """The address for `load_model`."""
        return f"models:/{self.task}/{self.version}"


class Registry:
    """The runs and the models of one MLflow store.

    Parameters
    ----------
    store : str or Path
        The path of an SQLite file, such as ``out/mlflow.db`` (made when something is logged), or a tracking URI.
    artifacts : str or Path, optional
        Where the files of models lie. Default: ``mlartifacts`` beside the SQLite file; for a URI, what its server says.
    """

    def __init__(self, store: str | Path, *, artifacts: str | Path | None = None) -> None:
        self.store = str(store)
        self._file = _sqlite_file(self.store)
        beside = None if self._file is None else self._file.parent / "mlartifacts"
        self.artifacts = beside if artifacts is None else artifacts

    def check(self) -> None:
        """Import MLflow now, before hours of work need it, as quietly as everything here does.

        Raises
        ------
        MissingExtraError
            If it is not installed.
        """
        with _quiet():
            pass

    def log_run(
        self,
        task: str,
        model: Model,
        *,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        texts: Mapping[str, str] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> str:
        """Log a training run with its model, and return the run's id.

        From the model come: its parameters; the metrics of ``evaluation["models"]`` (a baseline's under its name, as
        ``recency.log_loss``) and per fold, with a step, those of ``evaluation["folds"]`` (``fold.log_loss``); the
        figures; dictionary, catalogue and evaluation as JSON; and as tags its version and the data's fingerprint.

        Parameters
        ----------
        task : str
            Its experiment has this name.
        model : Model
            What was trained, promoted or not.
        parameters : mapping, optional
            More parameters.
        metrics : mapping of str to float, optional
            More metrics.
        texts : mapping of str to str, optional
            More documents, by file name.
        tables : mapping of str to DataFrame, optional
            Rows that `table` gives back, by name.
        """
        with _quiet() as mlflow:
            client = self._client
            run = client.create_run(self._experiment(task), run_name=f"{task} {model.version}", tags=_run_tags(model))
            run_id = str(run.info.run_id)
            try:
                logged = run_parameters(model) | flat(parameters or {})
                client.log_batch(run_id, **_batch(mlflow, model, logged, metrics or {}))
                self._log_documents(run_id, model, texts or {}, tables or {})
                self._log_model(mlflow, task, run, model)
            except BaseException:
                self._end(run_id, "FAILED")
                raise
            self._end(run_id, "FINISHED")
        return run_id

    def register(self, task: str, run_id: str, *, alias: str | None = None) -> Registered:
        """Make the model of a run a version of the task's, and give it an alias if one is named.

        Parameters
        ----------
        task : str
            The name to register it under.
        run_id : str
            From `log_run`.
        alias : str, optional
            Such as ``challenger``. Champions are made by `promote`, which remembers the former one.
        """
        with _quiet() as mlflow:
            client = self._client
            outputs = client.get_run(run_id).outputs
            if not outputs or not outputs.model_outputs:
                raise ModelError(f"run {run_id} in {self.store} has no model to register; log one with log_run")
            logged = client.get_logged_model(outputs.model_outputs[-1].model_id)
            if self._model_tags(task) is None:
                client.create_registered_model(task)
            # a local store would look `models:/ID` up under the address of the process, so it gets the place itself
            source = logged.artifact_location if self._file is not None else f"models:/{logged.model_id}"
            tags = {_VERSION_TAG: logged.tags.get(_VERSION_TAG, "")}
            made = client.create_model_version(task, source, run_id=run_id, tags=tags, model_id=logged.model_id)
            if alias is not None:
                client.set_registered_model_alias(task, alias, str(made.version))
            return _registered(mlflow, client.get_model_version(task, str(made.version)))

    def load(self, uri: str) -> Model:
        """Load ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

        Raises
        ------
        NoChampionError
            If there is no such model, version or alias.
        ModelError
            If its files are gone or damaged, or it was not registered by partnerml.
        """
        matched = _URI.fullmatch(uri)
        if matched is None:
            raise ModelError(f"a registered model is models:/NAME@ALIAS or models:/NAME/VERSION; got {uri!r}")
        with _quiet() as mlflow, tempfile.TemporaryDirectory() as spare:
            found = self._find(matched["name"], alias=matched["alias"], version=matched["version"])
            if found is None:
                raise NoChampionError(self._absence(matched["name"], matched["alias"], matched["version"]))
            folder = self._folder(mlflow, found, Path(spare))
            model = load_model(folder)
        if (said := found.tags.get(_VERSION_TAG)) and said != model.version:
            raise ModelError(f"{uri} was registered as {said}, and its files are those of {model.version}: {folder}")
        return model

    def champion(self, task: str) -> Model:
        """Load the champion of a task.

        Raises
        ------
        NoChampionError
            If none has been promoted.
        """
        return self.load(f"models:/{task}@{CHAMPION}")

    def current(self, task: str, *, alias: str = CHAMPION) -> Registered | None:
        """Return which version holds an alias, None if none does; no model is loaded."""
        with _quiet() as mlflow:
            found = self._find(task, alias=alias)
            return None if found is None else _registered(mlflow, found)

    def table(self, registered: Registered, name: str) -> pd.DataFrame | None:
        """Return the rows that were logged with a version under a name; None if there are none."""
        with _quiet() as mlflow, tempfile.TemporaryDirectory() as spare:
            place = f"{_TABLES}/{name}.parquet"
            try:
                local = self._client.download_artifacts(registered.run_id, place, spare)
                return pd.read_parquet(local)
            except (mlflow.exceptions.MlflowException, OSError):
                return None

    def versions(self, task: str) -> tuple[Registered, ...]:
        """Return all versions of a task's model, newest first; none if nothing has been registered."""
        if not self._exists():
            return ()
        with _quiet() as mlflow:
            escaped = task.replace("'", "''")
            found = self._client.search_model_versions(f"name = '{escaped}'")
            # a search leaves the aliases out
            full = [self._client.get_model_version(task, str(each.version)) for each in found]
            return tuple(sorted((_registered(mlflow, each) for each in full), key=lambda each: -each.version))

    def promote(self, task: str, version: int) -> Registered:
        """Make a version the champion, and remember the former one for `rollback`.

        Raises
        ------
        NoChampionError
            If there is no such version.
        """
        with _quiet() as mlflow:
            found = self._find(task, version=str(version))
            if found is None:
                raise NoChampionError(self._absence(task, None, str(version)))
            former = self._find(task, alias=CHAMPION)
            history = self._history(task)
            if former is not None and int(former.version) not in history[-1:]:
                history.append(int(former.version))
            if history[-1:] != [int(version)]:
                history.append(int(version))
            self._crown(task, int(version), history)
            if CHALLENGER in found.aliases:
                self._client.delete_registered_model_alias(task, CHALLENGER)
            return _registered(mlflow, self._client.get_model_version(task, str(version)))

    def rollback(self, task: str) -> Registered:
        """Make the former champion the champion again, and return it.

        Raises
        ------
        NoChampionError
            If there is no champion, or none before it.
        """
        with _quiet() as mlflow:
            now = self._find(task, alias=CHAMPION)
            if now is None:
                raise NoChampionError(self._absence(task, CHAMPION, None))
            history = self._history(task)
            while history and (history[-1] == int(now.version) or self._find(task, version=str(history[-1])) is None):
                history.pop()
            if not history:
                raise NoChampionError(
                    f"{task} version {now.version} is the first champion in {self.store}: there is none to go back to"
                )
            self._crown(task, history[-1], history)
            return _registered(mlflow, self._client.get_model_version(task, str(history[-1])))

    @functools.cached_property
    def _client(self) -> Any:
        mlflow = require("mlflow", "mlflow", "the model registry")
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        address = self.store if self._file is None else f"sqlite:///{self._file}"
        return mlflow.MlflowClient(tracking_uri=address, registry_uri=address)

    def _exists(self) -> bool:
        # opening an SQLite store makes it, which takes seconds: a question need not
        return self._file is None or self._file.is_file()

    def _experiment(self, task: str) -> str:
        known = self._client.get_experiment_by_name(task)
        if known is not None:
            return str(known.experiment_id)
        place = None if self.artifacts is None else f"{_located(self.artifacts)}/{task}"
        return str(self._client.create_experiment(task, artifact_location=place))

    def _end(self, run_id: str, status: str) -> None:
        # a server's client prints the run's address; standard output is the caller's
        with contextlib.redirect_stdout(io.StringIO()):
            self._client.set_terminated(run_id, status=status)

    def _log_documents(
        self, run_id: str, model: Model, texts: Mapping[str, str], tables: Mapping[str, pd.DataFrame]
    ) -> None:
        from partnerml.models._importance_plots import importance_figures
        from partnerml.models._plots import figures, svg
        from partnerml.models._profile_plot import profile_figures

        client = self._client
        client.log_text(run_id, _json([info.to_dict() for info in model.dictionary]), "dictionary.json")
        client.log_text(run_id, _json(model.catalogue), "catalogue.json")
        client.log_text(run_id, _json(model.evaluation), "evaluation.json")
        client.log_text(run_id, _json(model.training), "training.json")
        for name, document in model.documents.items():
            client.log_text(run_id, _json(document), f"documents/{name}.json")
        drawn = figures(model.evaluation) | importance_figures(model.documents) | profile_figures(model.documents)
        for name, figure in drawn.items():
            client.log_text(run_id, svg(figure).decode(), f"figures/{name}.svg")
        for name, text in texts.items():
            client.log_text(run_id, text, name)
        with tempfile.TemporaryDirectory() as spare:
            for name, table in tables.items():
                client.log_artifact(run_id, str(write_parquet(table, Path(spare) / f"{name}.parquet")), _TABLES)

    def _log_model(self, mlflow: Any, task: str, run: Any, model: Model) -> None:
        client, run_id = self._client, str(run.info.run_id)
        logged = client.create_logged_model(
            str(run.info.experiment_id), name=task, source_run_id=run_id, tags={_VERSION_TAG: model.version}
        )
        described = mlflow.models.Model(model_uuid=logged.model_id, model_id=logged.model_id, run_id=run_id)
        with tempfile.TemporaryDirectory() as spare:
            saved, packed = model.save(Path(spare) / _DATA), Path(spare) / "mlflow"
            mlflow.pyfunc.save_model(
                path=str(packed),
                loader_module=_LOADER,
                data_path=str(saved),
                # named, because MLflow would otherwise load the model in a process of its own to find them out
                pip_requirements=[_requirement()],
                signature=_signature(mlflow, model),
                input_example=_example(model),
                mlflow_model=described,
            )
            client.log_model_artifacts(logged.model_id, str(packed))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(logged.model_id, step=0)])

    def _find(self, task: str, *, alias: str | None = None, version: str | None = None) -> Any:
        """Return MLflow's version of an alias or a number, None if there is none."""
        if not self._exists():
            return None
        exceptions = require("mlflow.exceptions", "mlflow", "the model registry")
        try:
            if alias is None:
                return self._client.get_model_version(task, version)
            return self._client.get_model_version_by_alias(task, alias)
        except exceptions.MlflowException as error:
            # MLflow calls an unknown alias an invalid parameter
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def _folder(self, mlflow: Any, found: Any, spare: Path) -> Path:
        """Return the folder of the saved model: where it lies if that is a local path, else a copy."""
        place = self._client.get_model_version_download_uri(found.name, str(found.version))
        address = self.store if self._file is None else f"sqlite:///{self._file}"
        local = Path(place.removeprefix("file://"))
        if not local.is_absolute():
            local = Path(mlflow.artifacts.download_artifacts(place, dst_path=str(spare), tracking_uri=address))
        if not local.is_dir():
            raise ModelError(f"the files of {found.name} version {found.version} are gone: {local} is not there")
        folder = local / "data" / _DATA
        if not folder.is_dir():
            raise ModelError(f"{found.name} version {found.version} was not registered by partnerml: no {folder}")
        return folder

    def _absence(self, task: str, alias: str | None, version: str | None) -> str:
        if not self._exists():
            return f"no model of {task} has been trained: {self.store} is not there; run partnerml train {task}"
        if alias == CHAMPION:
            return f"no champion for {task} in {self.store}: none has been promoted; run partnerml train {task}"
        what = f"alias {alias!r}" if version is None else f"version {version}"
        return f"{task} has no {what} in {self.store}; run partnerml train {task}, or name another"

    def _model_tags(self, task: str) -> dict[str, str] | None:
        exceptions = require("mlflow.exceptions", "mlflow", "the model registry")
        try:
            return dict(self._client.get_registered_model(task).tags)
        except exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _history(self, task: str) -> list[int]:
        """Return the versions that were champion, oldest first."""
        return [int(version) for version in json.loads((self._model_tags(task) or {}).get(_HISTORY_TAG, "[]"))]

    def _crown(self, task: str, version: int, history: list[int]) -> None:
        self._client.set_registered_model_tag(task, _HISTORY_TAG, json.dumps(history[-_KEPT:]))
        self._client.set_registered_model_alias(task, CHAMPION, str(version))


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Yield mlflow, imported without telemetry, without its chatter and the warnings of its own making."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    with warnings.catch_warnings():
        for message in (
            ".*Any type hint is inferred as AnyType",  # of MLflow's own types, on import
            "The ``noload`` loader strategy is deprecated",  # of its tables, with SQLAlchemy 2.1
            "Operation with range is deprecated",  # of its input examples, with pandas 3
        ):
            warnings.filterwarnings("ignore", message=message)
        mlflow = _imported()
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield mlflow
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _imported() -> Any:
    # MLflow decides on import whether to report usage over the network; partnerml never does
    silent = "MLFLOW_DISABLE_TELEMETRY"
    former = os.environ.get(silent)
    os.environ[silent] = "true"
    try:
        require("mlflow.pyfunc", "mlflow", "the model registry")
        return require("mlflow", "mlflow", "the model registry")
    finally:
        if former is None:
            del os.environ[silent]
        else:
            os.environ[silent] = former


def _sqlite_file(store: str) -> Path | None:
    """Return the file behind a store, None if it is no SQLite file."""
    if store.startswith("sqlite:///"):
        return Path(store.removeprefix("sqlite:///")).absolute()
    if "://" in store or store.startswith("databricks"):
        return None
    path = Path(store).absolute()
    if path.is_dir():
        raise ConfigError(f"store must be an SQLite file such as {path / 'mlflow.db'}, or a tracking URI; got a folder")
    return path


def _located(artifacts: str | Path) -> str:
    text = str(artifacts).rstrip("/")
    return text if "://" in text else str(Path(text).absolute())


def _registered(mlflow: Any, found: Any) -> Registered:
    aliases = tuple(sorted(found.aliases))
    return Registered(found.name, int(found.version), found.tags.get(_VERSION_TAG, ""), aliases, str(found.run_id))


def _requirement() -> str:
    from partnerml import __version__

    return f"partnerml=={__version__}"


def _signature(mlflow: Any, model: Model) -> Any:
    """Numbers are doubles; texts take any type, because MLflow's string refuses a category. Absence is told by us."""
    schema = mlflow.types.schema
    columns = [
        schema.ColSpec(schema.AnyType() if name in model.vocabulary else "double", name, required=False)
        for name in model.columns
    ]
    output = schema.Schema([schema.ColSpec("double", "score")])
    return mlflow.models.ModelSignature(inputs=schema.Schema(columns), outputs=output)


def _example(model: Model) -> pd.DataFrame:
    typical = model.training.get("typical") or {}
    row = {name: [float(typical.get(name) or 0.0)] for name in model.columns if name not in model.vocabulary}
    texts = {name: [values[0] if values else ""] for name, values in model.vocabulary.items()}
    return pd.DataFrame(row | texts)[list(model.columns)]


def _run_tags(model: Model) -> dict[str, str]:
    tags = {_VERSION_TAG: model.version}
    if fingerprint := model.training.get("data_fingerprint"):
        tags["partnerml.data_fingerprint"] = str(fingerprint)
    return tags


def _batch(mlflow: Any, model: Model, parameters: Mapping[str, str], more: Mapping[str, float]) -> dict[str, Any]:
    entities, now = mlflow.entities, int(time.time() * 1000)
    values = [*run_metrics(model.evaluation), *((name, value, 0) for name, value in more.items())]
    return {
        "params": [entities.Param(name, value) for name, value in parameters.items()],
        "metrics": [entities.Metric(log_name(name), float(value), now, step) for name, value, step in values],
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False)
