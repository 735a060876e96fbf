"""What a model says of itself: what it goes by, what its data looked like, and what made it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.models import Model


def documented(
    model: Model, data: Dataset, clusters: pd.Series, *, scores: ArrayLike | None = None, seed: int = 0
) -> Model:
    """Return the model with the documents ``importance``, ``dependence`` and ``baseline``.

    Parameters
    ----------
    model : Model
    data : Dataset
        What it was fitted on.
    clusters : Series of shape (n,)
        The partner or lead of each row of the data.
    scores : array-like of shape (m,), optional
        Its scores out of time: what later scores are held against.
    seed : int
        Draws rows and the bootstrap.
    """
    from partnerml.models import drift_baseline, explanation

    said = explanation(model, data.X, clusters, data.as_of, seed=seed)
    return model.with_documents({**said, "baseline": drift_baseline(model, data.X, scores)})


def training_facts(
    data: Dataset,
    *,
    cluster: str,
    until: dt.datetime,
    seed: int,
    gap: dt.timedelta,
    twins: Mapping[str, str],
    base_rate: float,
    settings: Mapping[str, Mapping[str, Any]],
    **told: Any,
) -> dict[str, Any]:
    """Return what a reader of the model asks: until when, on what, how.

    Parameters
    ----------
    data : Dataset
        What it was fitted on.
    cluster : str
        The key column that is counted as ``partners``.
    until : datetime
    seed : int
    gap : timedelta
        From a row's moment until its label is known.
    twins : mapping of str to str
        Features left out because another one says the same, and that one.
    base_rate : float
    settings : mapping
        Of the learners, in the place of their defaults.
    **told
        What else there is to say, such as ``from`` and ``to``; takes the place of the above.
    """
    numeric = data.X.select_dtypes("number")
    return {
        "until": until.isoformat(),
        "rows": len(data),
        "partners": int(data.keys[cluster].nunique()),
        "base_rate": base_rate,
        "gap_days": gap.total_seconds() / 86_400,
        "data_fingerprint": data.fingerprint,
        "seed": seed,
        "settings": {name: dict(values) for name, values in settings.items()},
        "twins": dict(twins),
        "typical": {name: float(value) for name, value in numeric.median().items() if not np.isnan(value)},
        **told,
    }


def with_lineage(model: Model, *, trials: int, configuration: Mapping[str, Any]) -> Model:
    """Return the model with what is needed to make it again, as ``training["lineage"]``.

    Parameters
    ----------
    model : Model
    trials : int
        Of tuning.
    configuration : mapping
        What of the configuration makes rows and columns, as JSON values.
    """
    from partnerml.models import Lineage

    here = Lineage.here().using("optuna") if trials else Lineage.here()
    lineage = {**here.to_dict(), "trials": trials, "configuration": dict(configuration)}
    return dataclasses.replace(model, training={**model.training, "lineage": lineage})
