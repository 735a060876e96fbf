"""Figures of what a model goes by: its drivers with intervals, and the score along each of the main ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.errors import require
from partnerml.models._plots import BLUE, GREY, ORANGE, _canvas, _quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 12
_WIDTH = 44  # letters of a line
_ACROSS = 3


def importance_figures(documents: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw what the documents of a model hold: ``importance`` and ``dependence``, as far as they are there."""
    drawn = {}
    if documents.get("importance"):
        drawn["importance"] = importance_figure(documents["importance"]["drivers"])
    if documents.get("dependence"):
        drawn["dependence"] = dependence_figure(documents["dependence"])
    return drawn


def importance_figure(drivers: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the weightiest drivers with their intervals; blue where more raises the score, orange where it lowers it.

    Parameters
    ----------
    drivers : sequence of mappings
        Of `Driver.to_dict`.
    """
    shown = list(reversed(drivers[:_SHOWN]))
    across = "mean absolute effect on the log-odds of the score, 95 % interval"
    figure, axes = _canvas("What the scores go by", across=across, up="")
    figure.set_size_inches(8.0, 1.5 + 0.45 * len(shown))
    size = np.array([driver["importance"] for driver in shown], dtype=np.float64)
    low = np.array([driver["low"] for driver in shown], dtype=np.float64)
    high = np.array([driver["high"] for driver in shown], dtype=np.float64)
    axes.barh(range(len(shown)), size, color=[_colour(driver["direction"]) for driver in shown], height=0.62)
    if np.isfinite(low).all():
        apart = np.maximum([size - low, high - size], 0.0)
        axes.errorbar(size, range(len(shown)), xerr=apart, fmt="none", ecolor="0.25", elinewidth=1.2, capsize=2.5)
    axes.set_yticks(range(len(shown)), [textwrap.fill(driver["words"], _WIDTH) for driver in shown], fontsize=9)
    patches = require("matplotlib.patches", "mlflow", "figures")
    keys = {BLUE: "more raises the score", ORANGE: "more lowers it", GREY: "neither, or no number"}
    axes.legend(
        handles=[patches.Patch(color=colour, label=words) for colour, words in keys.items()],
        frameon=False,
        loc="lower right",
        fontsize=9,
    )
    return figure


def dependence_figure(told: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the mean score along each main driver, all else as it is.

    Parameters
    ----------
    told : sequence of mappings
        Of `dependence`.
    """
    rows = -(-len(told) // _ACROSS)
    module = require("matplotlib.figure", "mlflow", "figures")
    figure = module.Figure(figsize=(3.6 * min(len(told), _ACROSS), 3.1 * rows), layout="constrained")
    top = 1.15 * max(point["score"] for driver in told for point in driver["points"])
    for place, driver in enumerate(told):
        axes = figure.add_subplot(rows, min(len(told), _ACROSS), place + 1)
        _curve(axes, driver)
        axes.set_ylim(0, min(top, 1.0))
        axes.set_title(textwrap.fill(driver["words"], 34), loc="left", fontsize=9)
        if place % _ACROSS == 0:
            axes.set_ylabel("mean score", fontsize=9)
        axes.tick_params(labelsize=8)
        _quiet(axes)
    return figure


def _curve(axes: Axes, driver: Mapping[str, Any]) -> None:
    """Draw one driver over evenly spaced levels: counts have long tails, and quantiles lie where the rows are."""
    points = driver["points"]
    score = [point["score"] for point in points]
    names = ["not known" if point["value"] is None else _name(point["value"]) for point in points]
    known = [place for place, point in enumerate(points) if isinstance(point["value"], float | int)]
    texts = [place for place, point in enumerate(points) if isinstance(point["value"], str)]
    unknown = [place for place, point in enumerate(points) if point["value"] is None]
    axes.plot(known, [score[place] for place in known], "o-", color=BLUE, markersize=4)
    axes.plot(texts, [score[place] for place in texts], "o", color=BLUE, markersize=5)
    axes.plot(unknown, [score[place] for place in unknown], "D", color=GREY, markersize=5)
    slant: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(points)), names, **(slant if max(map(len, names)) > 4 else {}))
    axes.set_xlabel(driver["unit"], fontsize=8)


def _name(value: float | str) -> str:
    if isinstance(value, str):
        return textwrap.shorten(value, 16, placeholder="…")
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _colour(direction: float | None) -> str:
    if direction is None or abs(direction) < 0.1:
        return GREY
    return BLUE if direction > 0 else ORANGE
