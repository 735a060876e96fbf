"""What a model says of itself: what it goes by, what its data looked like, and what made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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

    lineage = {**Lineage.here().to_dict(), "trials": trials, "configuration": dict(configuration)}
    return dataclasses.replace(model, training={**model.training, "lineage": lineage})
