"""The ideal partner profile as a forest plot: one line a trait, its lift and how sure that is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partnerml.models._plots import BLUE, GREY, RED, _canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from partnerml.models._profile import Lift, Profile

_WIDTH = 8.6  # inches
_PER_LINE = 0.19
_AROUND = 1.5  # title, axis and margins
_LETTERS = 44  # of a label, before it goes on in the next line
_FURTHEST = 32.0  # an interval that reaches further is cut off: the axis is logarithmic


def profile_figure(profile: Profile, *, top: int = 12) -> Figure:
    """Draw what goes with more success, and what goes with less, each with its 95 % interval.

    Parameters
    ----------
    profile : Profile
    top : int
        How many splits on either side of 1 at most, those that differ most surely.

    Returns
    -------
    Figure
        Where nothing was found it says so.
    """
    shown = _shown(profile, top)
    labels = [_label(lift) for lift in shown]
    lines = [label.count("\n") + 1.6 for label in labels] or [3.0]
    figure, axes = _canvas("What goes with success", across="times as often as the others (logarithmic)", up="")
    figure.set_size_inches(_WIDTH, _AROUND + _PER_LINE * sum(lines))
    places = np.cumsum(lines) - np.array(lines) / 2
    axes.axvline(1.0, color=GREY, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    for lift, place in zip(shown, places, strict=False):
        found = lift.contrast
        ends = np.clip([found.lift_low, found.lift, found.lift_high], 1 / _FURTHEST, _FURTHEST)
        colour = BLUE if found.lift > 1 else RED
        axes.plot(ends[[0, 2]], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(ends[1], place, "o", color=colour, markersize=5)
    axes.set_yticks(places[: len(shown)], labels, fontsize=8)
    axes.set_ylim(sum(lines), 0)
    if not shown:
        axes.text(1.0, sum(lines) / 2, "nothing beyond chance", ha="center", va="center", color=GREY)
        axes.set_xlim(0.5, 2.0)
    _tick_ratios(axes)
    return figure


def profile_figures(documents: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the profile that a model keeps among its documents, as ``profile``; nothing where it has none."""
    from partnerml.models._profile import Profile

    state = documents.get("profile")
    return {} if state is None else {"profile": profile_figure(Profile.from_dict(state))}


def _shown(profile: Profile, top: int) -> Sequence[Lift]:
    # from the surest above 1 to the surest below it
    return [*profile.lifting[:top], *reversed(profile.lowering[:top])]


def _label(lift: Lift) -> str:
    text = textwrap.fill(lift.words, _LETTERS)
    rates = f"{100 * lift.contrast.rate:.0f} % against {100 * lift.contrast.rest_rate:.0f} %"
    return f"{text}\nn = {lift.partners:,}, {rates}"


def _tick_ratios(axes: Axes) -> None:
    """Label the axis with ratios that people say, those inside of its limits."""
    low, high = axes.get_xlim()
    told = [ratio for ratio in (0.03, 0.06, 0.125, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 8, 16, 32) if low <= ratio <= high]
    axes.set_xticks(told, [f"{ratio:g}" for ratio in told])
    axes.set_xticks([], minor=True)
