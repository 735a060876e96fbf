"""Figures of an evaluation: calibration, folds, gain and the spread of the scores.

They are drawn from what `partnerml.models.evaluate` returns and a saved model keeps, on `matplotlib.figure.Figure`
alone: nothing global is touched, no display is needed, and `svg` writes the same bytes for the same evaluation.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.errors import require
from partnerml.models._metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#767676"
# one colour a model in all figures
_COLOURS = {"recency": ORANGE, "logistic": GREEN, "bgnbd": PURPLE, "trees": "#56B4E9", "base_rate": GREY}
_SPARE = (RED, "#F0E442", "black")
_SIZE = (6.4, 4.4)  # inches
_WORDS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "log_loss": "log loss (nats)",
    "ece": "expected calibration error",
    "mean_prediction": "mean prediction",
    "base_rate": "base rate",
    "lift_at_10pct": "lift of the highest tenth",
}


def figures(evaluation: Mapping[str, Any], *, subject: str = "model") -> dict[str, Figure]:
    """Draw everything that an evaluation holds.

    Parameters
    ----------
    evaluation : mapping
        As `evaluate` returns it; ``folds``, where it has them, are records with ``as_of``, ``model`` and metrics.
    subject : str
        The model to bring out.

    Returns
    -------
    dict of str to Figure
        ``calibration``, ``groups``, ``gain``, ``scores``, ``folds_log_loss``, ``folds_auc``, ``folds_lift`` and
        ``segments``, as far as there is data for them.
    """
    drawn = {}
    if evaluation.get("calibration"):
        drawn["calibration"] = calibration_figure(evaluation["calibration"])
    if evaluation.get("groups"):
        drawn["groups"] = groups_figure(evaluation["groups"])
    if evaluation.get("gain_curves"):
        drawn["gain"] = gain_figure(evaluation["gain_curves"], subject=subject)
    if evaluation.get("scores"):
        drawn["scores"] = scores_figure(evaluation["scores"])
    if evaluation.get("folds"):
        for name, metric in (("log_loss", "log_loss"), ("auc", "auc"), ("lift", "lift_at_10pct")):
            if any(metric in row for row in evaluation["folds"]):
                drawn[f"folds_{name}"] = folds_figure(evaluation["folds"], metric=metric, subject=subject)
    if evaluation.get("segments"):
        drawn["segments"] = segments_figure(evaluation["segments"])
    return drawn


def calibration_figure(curve: Records) -> Figure:
    """Draw prediction against share, with the range that a perfect model keeps to in 95 of 100 cases.

    Parameters
    ----------
    curve : sequence of mappings
        Records of `calibration_curve`.
    """
    mean, observed, low, high = (
        np.array([row[name] for row in curve], dtype=np.float64)
        for name in ("mean_prediction", "observed", "low", "high")
    )
    figure, axes = _canvas("Calibration, out of time", across="mean prediction", up="share that came true")
    top = min(1.0, 1.08 * float(np.concatenate((mean, observed, high)).max()))
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--")
    axes.errorbar(
        mean,
        mean,
        yerr=np.maximum([mean - low, high - mean], 0.0),
        fmt="none",
        ecolor="0.78",
        elinewidth=7,
        label="where a perfect model would be (95 %)",
    )
    axes.plot(mean, observed, "o-", color=BLUE, markersize=5, label="model")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(frameon=False, loc="upper left")
    return figure


def folds_figure(folds: Records, *, metric: str, subject: str = "model") -> Figure:
    """Draw one metric per fold, the model beside its baselines.

    Parameters
    ----------
    folds : sequence of mappings
        Records with ``as_of`` (a text that starts with the date), ``model`` and the metric, null where undefined.
    metric : str
        The name of the metric, as in `metrics`.
    subject : str
        The model to bring out.
    """
    words = _WORDS.get(metric, metric)
    better = "higher" if metric in HIGHER_IS_BETTER else "lower"
    judged = "" if metric in {"mean_prediction", "base_rate"} else f" ({better} is better)"
    title = f"{words} per fold{judged}"
    figure, axes = _canvas(title[:1].upper() + title[1:], across="as of", up=words)
    moments = sorted({str(row["as_of"]) for row in folds})
    names = list(dict.fromkeys(str(row["model"]) for row in folds))
    found = {(str(row["model"]), str(row["as_of"])): row.get(metric) for row in folds}
    for name, line in _lines(names, subject):
        values = np.array([found.get((name, moment)) for moment in moments], dtype=np.float64)
        axes.plot(range(len(moments)), values, marker="o", markersize=4, label=_label(name), **line)
    crowded = len(moments) > 5
    slant: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(moments)), [moment[:10] for moment in moments], **slant)
    # below the axes: the lines of good models lie close together, and no corner is sure to be free
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.32 if crowded else -0.16), ncols=4)
    return figure


def groups_figure(intervals: Mapping[str, Any]) -> Figure:
    """Draw the interval of the mean probability of each group of scores, and what was observed in earlier folds.

    Parameters
    ----------
    intervals : mapping
        ``level`` and ``groups``, as `GroupIntervals.to_dict` returns them.
    """
    groups: Records = intervals["groups"]
    mean, observed, low, high = (
        np.array([group[name] for group in groups], dtype=np.float64)
        for name in ("mean_prediction", "observed", "low", "high")
    )
    title = "Groups of scores: where the next ones will be"
    figure, axes = _canvas(title, across="mean score of the group", up="share that comes true")
    top = min(1.0, 1.08 * float(np.concatenate((mean, observed, high)).max()))
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--")
    words = f"{100 * float(intervals['level']):.0f} % interval"
    axes.vlines(mean, low, high, color=BLUE, linewidth=3, alpha=0.5, label=words)
    axes.plot(mean, observed, "o", color=BLUE, markersize=5, label="observed in the folds")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(frameon=False, loc="upper left")
    return figure


def segments_figure(segments: Records) -> Figure:
    """Draw how far the forecasts were off on average in each segment, those served worse than the rest in red.

    Parameters
    ----------
    segments : sequence of mappings
        Records of `segments`.
    """
    told = [row for row in segments if row["bias"] is not None]
    figure, axes = _canvas(
        "Segments: are some served worse?", across="forecast minus outcome, percentage points", up=""
    )
    figure.set_size_inches(_SIZE[0], 1.3 + 0.24 * max(len(told), 4))
    places = np.arange(len(told))[::-1]
    for colour, flagged, words in ((BLUE, False, "as the rest"), (RED, True, "served worse, beyond chance")):
        chosen = [place for place, row in enumerate(told) if bool(row["flag"]) == flagged]
        if not chosen:
            continue
        middle, low, high = (
            100 * np.array([told[place][name] for place in chosen], dtype=np.float64)
            for name in ("bias", "bias_low", "bias_high")
        )
        axes.hlines(places[chosen], low, high, color=colour, linewidth=2, alpha=0.6)
        axes.plot(middle, places[chosen], "o", color=colour, markersize=5, label=words)
    axes.axvline(0.0, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(places, [f"{row['segment']} {row['value']} ({row['rows']:,})".replace("_", " ") for row in told])
    axes.set_ylim(-0.7, len(told) - 0.3)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -1.1 / (1.3 + 0.24 * len(told))), ncols=2)
    return figure


def gain_figure(curves: Mapping[str, Records], *, subject: str = "model") -> Figure:
    """Draw how many of the positives a list of the highest scores finds, by the length of the list.

    Parameters
    ----------
    curves : mapping of str to sequence of mappings
        For each model records with ``share`` and ``gain``.
    subject : str
        The model to bring out.
    """
    figure, axes = _canvas("Gain: what the top of the list finds", across="share contacted", up="share found")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="in random order")
    # a constant finds what chance finds, and that line is there
    told = [name for name in curves if name != "base_rate"]
    for name, line in _lines(told, subject):
        share, found = (np.array([row[key] for row in curves[name]], dtype=np.float64) for key in ("share", "gain"))
        axes.plot(share, found, label=_label(name), **line)
    for cut in (0.05, 0.1, 0.2):
        axes.axvline(cut, color="0.8", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    return figure


def scores_figure(counts: Mapping[str, Sequence[float]]) -> Figure:
    """Draw how the scores spread, apart for what came true and what did not.

    Parameters
    ----------
    counts : mapping
        ``edges``, ``negative`` and ``positive``, as `score_counts` returns them.
    """
    edges = np.asarray(counts["edges"], dtype=np.float64)
    below = np.asarray(counts["negative"], dtype=np.float64)
    above = np.asarray(counts["positive"], dtype=np.float64)
    figure, axes = _canvas("Scores, by what happened", across="score", up="rows")
    bars: dict[str, Any] = {"x": edges[:-1], "width": np.diff(edges), "align": "edge"}
    axes.bar(height=below, color=BLUE, label=f"did not happen ({below.sum():,.0f})", **bars)
    axes.bar(height=above, bottom=below, color=RED, label=f"happened ({above.sum():,.0f})", **bars)
    axes.set_xlim(0, 1)
    # below the axes: bars may be high anywhere, and to look for the best place takes matplotlib so long on a busy
    # machine that it warns
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def svg(figure: Figure) -> bytes:
    """Write a fresh figure as SVG: no date, fixed ids, text kept as text; equal data give equal bytes."""
    matplotlib = require("matplotlib", "mlflow", "figures")
    buffer = io.BytesIO()
    settings = {"svg.hashsalt": "partnerml", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _canvas(title: str, *, across: str, up: str) -> tuple[Figure, Axes]:
    module = require("matplotlib.figure", "mlflow", "figures")
    figure = module.Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    _quiet(axes)
    return figure, axes


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _lines(names: Sequence[str], subject: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each model its line; the subject is drawn last, on top."""
    spare = itertools.cycle(_SPARE)
    for name in names:
        if name != subject:
            yield name, {"color": _COLOURS.get(name) or next(spare), "linewidth": 1.2, "linestyle": "--"}
    if subject in names:
        yield subject, {"color": BLUE, "linewidth": 2.2, "zorder": 3}


def _label(name: str) -> str:
    return {"bgnbd": "BG/NBD"}.get(name, name.replace("_", " "))
