"""Small figures as SVG text: coloured by the page's style, so that they follow dark mode and print.

Numbers are written with one decimal, which is a tenth of a pixel, so the same data give the same bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partnerml.errors import require

_BINS = 40
_TOP, _BOTTOM, _LEFT, _RIGHT = 14.0, 40.0, 52.0, 24.0
BANDS = ("low", "medium", "high", "critical")


class _Canvas:
    """A plot area with linear axes, and the SVG elements drawn into it."""

    def __init__(
        self, width: float, height: float, *, x: tuple[float, float], y: tuple[float, float], title: str
    ) -> None:
        self.width, self.height, self.title = width, height, title
        self._x, self._y = x, y
        self.parts: list[str] = []

    def across(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        low, high = self._y
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        self.parts.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')

    def path(self, points: Sequence[tuple[float, float]], style: str, *, closed: bool = False) -> None:
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{style}" d="M{steps}{" Z" if closed else ""}"/>')

    def dot(self, x: float, y: float, style: str, *, radius: float = 4.0, tip: str = "") -> None:
        self.parts.append(
            f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{tip}</title></circle>'
        )

    def grid(self, ticks: Sequence[float], texts: Sequence[str]) -> None:
        """Draw horizontal lines with their values."""
        for tick, text in zip(ticks, texts, strict=True):
            y = self.up(tick)
            self.line(_LEFT, y, self.width - _RIGHT, y, "grid")
            self.text(_LEFT - 8, y + 4, text, anchor="end")

    def below(self, ticks: Sequence[float], texts: Sequence[str]) -> None:
        """Write the values of the horizontal axis."""
        for tick, text in zip(ticks, texts, strict=True):
            self.text(self.across(tick), self.height - _BOTTOM + 18, text)

    def caption(self, text: str) -> None:
        self.text((_LEFT + self.width - _RIGHT) / 2, self.height - 4, text)

    def svg(self) -> Any:
        # built of numbers and of texts written in this module only, so it may enter the page unescaped
        markup = require("markupsafe", "report", "the HTML report").Markup
        body = "".join(self.parts)
        size = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        return markup(f'<svg class="figure" role="img" {size} aria-label="{self.title}">{body}</svg>')


def _steps(highest: float, *, at_most: int = 5) -> list[float]:
    """Return round values from 0 to just above the highest."""
    raw = max(highest, 1e-9) / at_most
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))
    return [float(step * place) for place in range(int(np.ceil(highest / step - 1e-9)) + 1)]


def histogram(scores: NDArray[np.float64], cuts: Sequence[float]) -> Any:
    """Draw how many partners have which score, in the colours of the bands.

    Bars are cut where a band begins, so that no bar has two colours.
    """
    edges = np.unique(np.round([*np.linspace(0, 1, _BINS + 1), *cuts], 6))
    counts, _ = np.histogram(scores, bins=edges)
    # a bar cut in two by a band keeps its height per width: the area is the number
    heights = counts / (np.diff(edges) * _BINS)
    ticks = [tick for tick in _steps(float(heights.max(initial=1.0))) if tick == int(tick)]
    canvas = _Canvas(
        460, 270, x=(0, 1), y=(0, max(ticks[-1], float(heights.max(initial=1.0)))), title="Partners by risk"
    )
    canvas.grid(ticks, [f"{tick:,.0f}" for tick in ticks])
    for low, high, height, count in zip(edges[:-1], edges[1:], heights, counts, strict=True):
        if not count:
            continue
        band = BANDS[int(np.searchsorted(np.asarray(cuts), (low + high) / 2, side="right"))]
        x, y = canvas.across(low), canvas.up(height)
        width = max(canvas.across(high) - x - 1.2, 1.0)
        tip = f"{100 * low:.1f} to {100 * high:.1f} %: {count:,} partners"
        canvas.parts.append(
            f'<rect class="band-{band}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{canvas.up(0) - y:.1f}"><title>{tip}</title></rect>'
        )
    canvas.line(_LEFT, canvas.up(0), canvas.width - _RIGHT, canvas.up(0), "axis")
    canvas.below([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    canvas.caption("risk")
    return canvas.svg()


def calibration(bins: Sequence[Mapping[str, Any]], *, happened: str = "went quiet") -> Any:
    """Draw what was forecast against what happened, with the range that chance alone explains."""
    seen = [entry for entry in bins if entry["observed"] is not None]
    highest = max([0.1, *(max(entry["mean_prediction"], entry["observed"], entry["high"]) for entry in seen)])
    ticks = [tick for tick in _steps(highest) if tick <= 1.0 + 1e-9]
    top = min(1.0, max(ticks[-1], highest))
    canvas = _Canvas(380, 320, x=(0, top), y=(0, top), title="Forecast against outcome")
    texts = [f"{100 * tick:.0f} %" for tick in ticks]
    canvas.grid(ticks, texts)
    canvas.below(ticks, texts)
    across = [canvas.across(entry["mean_prediction"]) for entry in seen]
    if len(seen) > 1:
        upper = [(x, canvas.up(entry["high"])) for x, entry in zip(across, seen, strict=True)]
        lower = [(x, canvas.up(entry["low"])) for x, entry in zip(across, seen, strict=True)]
        canvas.path([*upper, *reversed(lower)], "chance", closed=True)
    canvas.line(canvas.across(0), canvas.up(0), canvas.across(top), canvas.up(top), "ideal")
    points = [(x, canvas.up(entry["observed"])) for x, entry in zip(across, seen, strict=True)]
    if points:
        canvas.path(points, "curve")
    for (x, y), entry in zip(points, seen, strict=True):
        tip = f"forecast {100 * entry['mean_prediction']:.1f} %, {happened} {100 * entry['observed']:.1f} %"
        canvas.dot(x, y, "point", tip=f"{tip}, {entry['n']:,.0f} forecasts")
    canvas.caption(f"forecast; up: share that {happened}")
    return canvas.svg()


def months(folds: Sequence[Mapping[str, Any]], *, happened: str = "went quiet") -> Any:
    """Draw, for each month judged, the forecast share and the share that came true."""
    ours = sorted((fold for fold in folds if fold["model"] == "model"), key=lambda fold: str(fold["as_of"]))
    if not ours:
        return ""
    highest = max([0.01, *(max(fold["mean_prediction"], fold["base_rate"]) for fold in ours)])
    ticks = _steps(highest * 1.15, at_most=4)
    canvas = _Canvas(380, 320, x=(-0.5, len(ours) - 0.5), y=(0, ticks[-1]), title="Forecast and outcome by month")
    places = 0 if all(abs(100 * tick - round(100 * tick)) < 1e-9 for tick in ticks) else 1
    canvas.grid(ticks, [f"{100 * tick:.{places}f} %" for tick in ticks])
    every = max(1, (len(ours) + 4) // 5)
    labelled = range(0, len(ours), every)
    canvas.below(list(labelled), [f"{dt.datetime.fromisoformat(str(ours[i]['as_of'])):%b %Y}" for i in labelled])
    lines = (("base_rate", "outcome", "point-outcome", happened), ("mean_prediction", "curve", "point", "forecast"))
    for key, style, point, words in lines:
        points = [(canvas.across(place), canvas.up(fold[key])) for place, fold in enumerate(ours)]
        canvas.path(points, style)
        for (x, y), fold in zip(points, ours, strict=True):
            canvas.dot(x, y, point, radius=3.5, tip=f"{words} {100 * fold[key]:.1f} % of {fold['rows']:,.0f}")
    canvas.caption(f"filled: forecast; hollow: {happened}")
    return canvas.svg()
