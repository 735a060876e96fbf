"""Draw one partner's time line: `python docs/timeline.py` writes `docs/_static/timeline.svg`.

Nothing in the picture is placed or counted by hand: the rows are built into features and a label by partnerml, and the
cells and rings are those of the engine's calendar. A test holds the file against what this script draws.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from partnerml import Ecosystem, build_dataset, tasks
from partnerml.features import Catalogue, Feature
from partnerml.features._calendar import Calendar

PATH = Path(__file__).parent / "_static" / "timeline.svg"

AS_OF = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HORIZON = 90
UNTIL = "2026-06-15"
WINDOWS = (30, 60, 90)
# when it happened and, where that is later, when it was recorded
ROWS = (
    ("2025-11-22", None),
    ("2025-12-07", None),
    ("2025-12-16", None),
    ("2026-01-03", None),
    ("2026-01-12", None),
    ("2026-01-22", None),
    ("2026-01-30", None),
    ("2026-02-04", None),
    ("2026-02-09", None),
    ("2026-02-17", "2026-03-09"),
    ("2026-02-24", None),
    ("2026-06-06", None),
)
FIRST, LAST = dt.date(2025, 11, 12), dt.date(2026, 6, 12)
WIDTH, HEIGHT, LEFT, RIGHT = 860, 366, 72, 16
RING_COLOURS = ("#4c78a8", "#72a0c8", "#a9c8e0")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the engine says of the partner."""

    counts: tuple[int, ...]  # by window
    label: float
    edges: tuple[dt.date, ...]  # of the cells that a window sees, and as_of
    rings: tuple[int, ...]  # of each such cell
    cells: tuple[int, ...]  # rows in each such cell


def scene() -> Scene:
    """Build the features, the label and the cells."""
    catalogue = Catalogue(tuple(Feature("events", "all", "count", f"{days}d") for days in WINDOWS))
    with Ecosystem.from_frames(
        partners=pd.DataFrame({"partner_id": ["acme"], "joined_at": ["2025-06-01"]}),
        events=pd.DataFrame(ROWS, columns=["occurred_at", "recorded_at"]).assign(partner_id="acme", event_type="login"),
    ) as eco:
        task = tasks.churn(horizon_days=HORIZON, inactivity_days=HORIZON)
        data = build_dataset(eco, task, as_of=[AS_OF], until=UNTIL, catalogue=catalogue)
        calendar = Calendar.of([AS_OF.replace(tzinfo=None)], WINDOWS)
        seen = eco.backend.to_pyarrow(calendar.rings()).to_pandas().sort_values("cell")
    assert data.y is not None
    starts = calendar.edges[seen["cell"].to_numpy() - 1]
    edges = [*starts, calendar.as_of[0]]
    moments = np.asarray([np.datetime64(when) for when, late in ROWS if late is None])
    inside = np.histogram(moments.astype("datetime64[s]").astype("int64"), _seconds(edges))[0]
    return Scene(
        counts=tuple(int(count) for count in data.X.iloc[0]),
        label=float(data.y.iloc[0]),
        edges=tuple(edge.astype("datetime64[D]").item() for edge in edges),
        rings=tuple(int(ring) for ring in seen["ring"]),
        cells=tuple(int(count) for count in inside),
    )


def _seconds(edges: Sequence[np.datetime64]) -> np.ndarray:
    return np.asarray(edges).astype("datetime64[s]").astype("int64")


def x(day: dt.date | str) -> float:
    """Where a day lies."""
    date = dt.date.fromisoformat(day) if isinstance(day, str) else day
    return round(LEFT + (date - FIRST).days / (LAST - FIRST).days * (WIDTH - LEFT - RIGHT), 1)


def text(at: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    """Return a text element."""
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{at:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def box(left: float, right: float, y: float, height: float, *, colour: str, opacity: float = 1.0) -> str:
    """Return a rectangle."""
    shape = f'x="{left:g}" y="{y:g}" width="{right - left:g}" height="{height:g}"'
    return f'<rect {shape} fill="{colour}" fill-opacity="{opacity:g}" stroke="#fff"/>'


def draw(found: Scene) -> str:
    """Return the picture as SVG."""
    as_of, end = AS_OF.date(), AS_OF.date() + dt.timedelta(days=HORIZON)
    parts = [
        box(x(as_of), x(end), 34, 62, colour="#f58518", opacity=0.14),
        *_edges(found, as_of, end),
        *_rows(as_of),
        *_windows(found, as_of),
        *_cells(found, as_of),
        *_label(found, as_of, end),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="One partner&#8217;s time line: rows, windows, cells, rings and label">'
    )
    style = """  <style>
    text { font: 13px sans-serif; fill: #333 }
    .dim { fill: #777 }
    .small { font-size: 12px; fill: #777 }
    .lane { font-weight: bold }
    .count { fill: #fff; font-weight: bold }
    .dark { font-weight: bold }
    .one { fill: #c44; font-weight: bold }
    .axis { stroke: #777; stroke-width: 1.5; fill: none }
    .edge { stroke: #4c78a8; stroke-width: 1; stroke-dasharray: 4 3 }
    .block { stroke: #999; stroke-width: 1; stroke-dasharray: 1 3 }
    .now { stroke: #333; stroke-width: 1.5 }
    .seen { fill: #4c78a8 }
    .unseen { fill: #fff; stroke: #c44; stroke-width: 2 }
    .outside { fill: #aaa }
    .late { stroke: #c44; stroke-width: 1.5; fill: none }
    .silence { stroke: #c44; stroke-width: 3 }
  </style>
  <rect width="860" height="366" rx="6" fill="#fff"/>"""
    return "\n".join([head, style, *(f"  {part}" for part in parts), "</svg>", ""])


def _edges(found: Scene, as_of: dt.date, end: dt.date) -> Iterator[str]:
    for edge in found.edges[:-1]:
        days = (as_of - edge).days
        is_window = days in WINDOWS
        yield f'<line class="{"edge" if is_window else "block"}" x1="{x(edge):g}" y1="34" x2="{x(edge):g}" y2="300"/>'
        date = f"{edge.day} {edge:%b}"
        if is_window:
            yield text(x(edge), 316, date, anchor="middle")
            yield text(x(edge), 332, f"&#8722; {days} d", kind="small", anchor="middle")
        else:
            yield f'<line class="block" x1="{x(edge):g}" y1="300" x2="{x(edge):g}" y2="340"/>'
            yield text(x(edge), 352, f"{date}: a block of 60 days begins", kind="small", anchor="middle")
    yield f'<line class="now" x1="{x(as_of):g}" y1="30" x2="{x(as_of):g}" y2="300"/>'
    yield f'<line class="edge" x1="{x(end):g}" y1="34" x2="{x(end):g}" y2="105"/>'
    yield text(x(as_of), 24, "as_of", kind="lane", anchor="middle")
    yield text(x(as_of), 316, f"{as_of.day} {as_of:%b}", anchor="middle")
    yield text(x(end), 24, f"as_of + {HORIZON} d", kind="small", anchor="middle")


def _rows(as_of: dt.date) -> Iterator[str]:
    y = 82
    yield text(10, y + 4, "rows", kind="lane")
    yield f'<line class="axis" x1="{LEFT}" y1="{y}" x2="{WIDTH - 8}" y2="{y}"/>'
    yield f'<path class="axis" d="M{WIDTH - 14} {y - 5} L{WIDTH - 7} {y} L{WIDTH - 14} {y + 5}"/>'
    earliest = (as_of - dt.timedelta(days=max(WINDOWS))).isoformat()
    for when, late in ROWS:
        if late is not None:
            yield from _late(when, late, y)
        else:
            kind = "seen" if earliest <= when < as_of.isoformat() else "outside"
            yield f'<circle class="{kind}" cx="{x(when):g}" cy="{y}" r="5"/>'


def _late(when: str, late: str, y: float) -> Iterator[str]:
    start, stop = x(when), x(late)
    yield f'<circle class="unseen" cx="{start:g}" cy="{y}" r="5"/>'
    yield f'<path class="late" d="M{start:g} {y - 6} L{start:g} {y - 28} L{stop:g} {y - 28} L{stop:g} {y - 8}"/>'
    yield f'<path class="late" d="M{stop - 4:g} {y - 14} L{stop:g} {y - 8} L{stop + 4:g} {y - 14}"/>'
    yield text(stop + 8, y - 24, "recorded after as_of: not seen", kind="small")


def _windows(found: Scene, as_of: dt.date) -> Iterator[str]:
    yield text(10, 150, "windows", kind="lane")
    for number, (days, count) in enumerate(zip(WINDOWS, found.counts, strict=True)):
        y = 114 + 22 * number
        yield box(x(as_of - dt.timedelta(days=days)), x(as_of), y, 18, colour="#4c78a8", opacity=0.22)
        yield text(x(as_of) - 6, y + 14, f"{days} d: {count}", anchor="end")


def _cells(found: Scene, as_of: dt.date) -> Iterator[str]:
    yield text(10, 214, "cells", kind="lane")
    yield text(10, 274, "rings", kind="lane")
    sums = [0] * len(WINDOWS)
    for start, stop, ring, count in zip(found.edges[:-1], found.edges[1:], found.rings, found.cells, strict=True):
        sums[ring] += count
        yield box(x(start), x(stop), 194, 30, colour=RING_COLOURS[ring])
        yield text((x(start) + x(stop)) / 2, 214, str(count), kind="count" if ring < 2 else "dark", anchor="middle")
    for ring, total in enumerate(sums):
        far = as_of - dt.timedelta(days=WINDOWS[ring])
        near = as_of - dt.timedelta(days=WINDOWS[ring - 1] if ring else 0)
        yield box(x(far), x(near), 254, 30, colour=RING_COLOURS[ring])
        words = f"ring {ring}: {total}"
        yield text((x(far) + x(near)) / 2, 274, words, kind="count" if ring < 2 else "dark", anchor="middle")
    beside = x(as_of) + 14
    yield text(beside, 207, "rows are folded into cells once:", kind="small")
    yield text(beside, 222, "no window has its edge inside one", kind="small")
    yield text(beside, 250, "a window is a sum of rings:", kind="small")
    for number, days in enumerate(WINDOWS):
        rings = " + ".join(str(total) for total in sums[: number + 1])
        total = sum(sums[: number + 1])
        assert total == found.counts[number], "the engine counts what the cells hold"
        words = f"{days} d = {rings} = {total}" if number else f"{days} d = {total}"
        yield text(beside, 266 + 16 * number, words, kind="small")


def _label(found: Scene, as_of: dt.date, end: dt.date) -> Iterator[str]:
    assert found.label == 1, "the silence lasts"
    yield f'<line class="silence" x1="{x(as_of):g}" y1="82" x2="{x(end):g}" y2="82"/>'
    words = f"silent for {HORIZON} days: label {found.label:g}"
    yield text((x(as_of) + x(end)) / 2 + 30, 116, words, kind="one", anchor="middle")


def main() -> None:
    """Write the picture."""
    PATH.write_text(draw(scene()), encoding="utf-8")


if __name__ == "__main__":
    main()
