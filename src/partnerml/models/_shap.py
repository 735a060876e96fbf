"""SHAP's own plots of a model's exact effects: the only place that knows shap (extra ``shap``).

The effects are the model's `contributions`, nothing is estimated: shap only draws. It takes seconds to import, so
nothing else of partnerml does.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml.errors import InputError, require
from partnerml.models._artifact import BASE, Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PURPOSE = "SHAP plots"
_ROW_HEIGHT = 0.42  # inches


def shap_explanation(model: Model, X: pd.DataFrame) -> Any:
    """Return the effects of some rows as ``shap.Explanation``, for any plot of shap.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, at least n_columns)

    Returns
    -------
    shap.Explanation
        ``values`` of shape (n, n_features), in log-odds of the calibrated score; ``base_values`` of shape (n,); their
        sum is the row's log-odds. ``feature_names`` are the features in words.

    Raises
    ------
    MissingExtraError
        If shap is not installed.
    InputError
        If there is no row.
    """
    shap = _shap()
    if not len(X):
        raise InputError("SHAP plots need rows; X has none")
    effects = model.contributions(X)
    names = [str(name) for name in effects.columns if name != BASE]
    words = {info.name: info.words for info in model.dictionary}
    return shap.Explanation(
        values=effects[names].to_numpy(),
        base_values=effects[BASE].to_numpy(),
        data=X[names].reset_index(drop=True),
        feature_names=[words[name] for name in names],
    )


def shap_figure(model: Model, X: pd.DataFrame, *, kind: str = "beeswarm", shown: int = 12, seed: int = 0) -> Figure:
    """Draw the effects of some rows with shap.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, at least n_columns)
    kind : {"beeswarm", "bar"}
        A point for each row and feature, or the mean absolute effect of each feature.
    shown : int
        Features that are told apart; the rest is one line.
    seed : int
        shap draws the heights of the points; the same seed gives the same figure.

    Raises
    ------
    MissingExtraError
        If shap or matplotlib is not installed.
    InputError
        If there is no such plot, or no row.
    """
    explained = shap_explanation(model, X)
    plots = _shap().plots
    drawers: Mapping[str, Callable[..., Any]] = {"beeswarm": plots.beeswarm, "bar": plots.bar}
    if kind not in drawers:
        raise InputError(f"kind of a SHAP plot must be one of {', '.join(drawers)}; got {kind!r}")
    module = require("matplotlib.figure", "shap", _PURPOSE)
    lines = min(shown, explained.values.shape[1])
    figure = module.Figure(figsize=(9.0, 1.6 + _ROW_HEIGHT * lines), layout="constrained")
    axes = figure.add_subplot()
    with _seeded(seed):
        drawers[kind](explained, max_display=shown, ax=axes, show=False, **_SIZES[kind])
    axes.set_xlabel({"beeswarm": "effect on the log-odds of the score", "bar": "mean absolute effect (log-odds)"}[kind])
    axes.tick_params(labelsize=9)
    return figure


_SIZES: Mapping[str, Mapping[str, Any]] = {"beeswarm": {"plot_size": None}, "bar": {}}


def _shap() -> Any:
    with warnings.catch_warnings():
        # of its colour maps, with matplotlib 3.11
        warnings.filterwarnings("ignore", message="The set_.* function will be deprecated")
        return require("shap", "shap", _PURPOSE)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which shap draws from, and put it back as it was."""
    former = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(former)  # noqa: NPY002
