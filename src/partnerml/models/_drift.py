"""What features and scores looked like when a model was made: what later ones are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.models._artifact import Model

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
BINS = 10
_VALUES = 50


def drift_baseline(model: Model, X: pd.DataFrame, scores: ArrayLike | None = None) -> dict[str, Any]:
    """Describe each feature that a model reads, and its scores, as they were in training.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, at least n_columns)
        The rows of the training.
    scores : array-like of shape (m,), optional
        Scores out of time: those of rows that a model was fitted on are bolder than any that it will give.

    Returns
    -------
    dict
        ``rows``; ``features``: for each column ``missing``, the share of unknown values, and of numbers ``quantiles``
        (level to value), ``edges`` and ``shares`` of at most `BINS` bins of equal size (the outer ones are open; the
        k-th bin holds ``edges[k-1] < x <= edges[k]``), of texts ``values`` (value to share; of many values the fifty
        most frequent); ``scores``: the same of the scores, or None.
    """
    features = {
        name: _of_texts(X[name]) if name in model.vocabulary else _of_numbers(X[name].to_numpy(dtype=np.float64))
        for name in model.columns
    }
    known = None if scores is None else np.asarray(scores, dtype=np.float64)
    return {
        "rows": len(X),
        "features": features,
        "scores": None if known is None or not len(known) else {"rows": len(known), **_of_numbers(known)},
    }


def _of_numbers(values: NDArray[np.float64]) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    missing = 1.0 - len(known) / len(values) if len(values) else 0.0
    if not len(known):
        return {"missing": missing, "quantiles": {}, "edges": [], "shares": []}
    quantiles = np.quantile(known, QUANTILES)
    # counts have ties: equal edges fall together, and a bin may hold more than a tenth
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    places = np.searchsorted(edges, known, side="left")
    shares = np.bincount(places, minlength=len(edges) + 1) / len(known)
    return {
        "missing": missing,
        "quantiles": {f"{level:g}": float(value) for level, value in zip(QUANTILES, quantiles, strict=True)},
        "edges": edges.tolist(),
        "shares": shares.tolist(),
    }


def _of_texts(values: pd.Series) -> dict[str, Any]:
    known = values.dropna().astype(str)
    shares = known.value_counts() / max(len(known), 1)
    frequent = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:_VALUES]
    return {
        "missing": float(values.isna().mean()) if len(values) else 0.0,
        "values": {str(value): float(share) for value, share in sorted(frequent)},
    }
