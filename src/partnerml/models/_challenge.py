"""Champion and challenger: who is better on the same rows, and is that enough to change.

A new model has to be better than the reigning one by a paired interval, or as good and simpler. Being newer is no merit
of its own: a champion that falls behind loses the comparison as soon as rows show it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from partnerml.models._artifact import Model
from partnerml.models._evaluate import Difference, paired_difference

METRIC = "log_loss"
# of the champion's log loss: a challenger that may be this much worse, and no more, counts as equal
EQUAL = 0.01
# fewer of the rarer label leave an interval of the difference that says nothing
MIN_CONTESTED = 30


@dataclasses.dataclass(frozen=True)
class Contest:
    """How a new model fared against the champion.

    Attributes
    ----------
    promoted : bool
        Whether it becomes champion.
    verdict : str
        ``no signal`` (not better than its own baselines), ``first`` (there is no champion), ``incomparable`` (the
        champion answers another question, or cannot be asked), ``same`` (it is the champion, byte for byte),
        ``better``, ``simpler`` (as good, and simpler), ``worse``, ``undecided``, or ``no rows`` (none on which both
        can be judged).
    reason : str
        One sentence, with the figures.
    champion : str or None
        Version of the champion.
    rows : mapping
        On which rows they were compared: ``rows``, ``clusters``, ``first``, ``last`` and ``which``: ``fresh`` (after
        the champion's training ended) or ``replayed`` (those of both backtests); empty without a comparison.
    difference : Difference or None
        Log loss of the new model minus that of the champion.
    sizes : mapping
        ``components`` and ``columns`` of ``model`` and ``champion``.
    """

    promoted: bool
    verdict: str
    reason: str
    champion: str | None = None
    rows: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    difference: Difference | None = None
    sizes: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        difference = None if self.difference is None else self.difference.to_dict()
        return {**state, "rows": dict(self.rows), "difference": difference, "sizes": dict(self.sizes)}

    def metrics(self) -> dict[str, float]:
        """Return the figures for the run's log, by name; none without a comparison."""
        if self.difference is None:
            return {}
        found = {
            "contest.log_loss": self.difference.model,
            "contest.champion_log_loss": self.difference.other,
            "contest.difference": self.difference.difference,
            "contest.difference.low": self.difference.low,
            "contest.difference.high": self.difference.high,
            "contest.rows": float(self.rows["rows"]),
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}


def size_of(model: Model) -> dict[str, int]:
    """Return how many components and columns a model has: the fewer, the simpler, components first."""
    return {"components": len(model.blend.components), "columns": len(model.columns)}


def decide(
    rows: pd.DataFrame, *, model: Model, champion: Model, which: str, n_boot: int = 2000, seed: int = 0
) -> Contest:
    """Compare two models on rows that neither has learnt from.

    Parameters
    ----------
    rows : DataFrame of shape (n, 6)
        ``y``, ``score`` (the new model's probability), ``champion`` (the champion's), ``cluster``, ``weight`` and
        ``as_of``, sorted by cluster and as_of.
    model, champion : Model
        Whose they are; read for their versions and sizes.
    which : str
        ``fresh`` or ``replayed``.
    n_boot, seed : int
        Draws of the paired bootstrap over clusters, and their seed.

    Returns
    -------
    Contest
    """
    found = paired_difference(
        rows["y"].to_numpy(),
        rows["score"].to_numpy(),
        rows["champion"].to_numpy(),
        rows["cluster"].to_numpy(),
        metric=METRIC,
        weights=rows["weight"].to_numpy(),
        n_boot=n_boot,
        seed=seed,
    )
    sizes = {"model": size_of(model), "champion": size_of(champion)}
    promoted, verdict, words = _judged(found, sizes)
    about = {
        "which": which,
        "rows": len(rows),
        "clusters": int(rows["cluster"].nunique()),
        "first": rows["as_of"].min().isoformat(),
        "last": rows["as_of"].max().isoformat(),
    }
    span = f"{rows['as_of'].min():%Y-%m-%d} to {rows['as_of'].max():%Y-%m-%d}"
    where = (
        f"on {len(rows):,} rows of {span}, after the champion's training ended"
        if which == "fresh"
        else f"on {len(rows):,} rows of {span}, each predicted by what was known then (the replays of both)"
    )
    reason = f"{words}: log loss {_figures(found)} {where}"
    return Contest(promoted, verdict, reason, champion.version, about, found, sizes)


def _judged(found: Difference, sizes: Mapping[str, Mapping[str, int]]) -> tuple[bool, str, str]:
    ours, theirs = (tuple(sizes[name].values()) for name in ("model", "champion"))
    if found.high < 0:
        return True, "better", "better than the champion"
    if found.low > 0:
        return False, "worse", "worse than the champion"
    if found.high <= EQUAL * found.other and ours < theirs:
        return True, "simpler", f"as good as the champion, and simpler ({_sizes(sizes)})"
    if found.high <= EQUAL * found.other:
        return False, "undecided", "as good as the champion, and not simpler"
    return False, "undecided", "not surely better than the champion"


def _sizes(sizes: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{sizes['model'][part]} {part} against {sizes['champion'][part]}" for part in sizes["model"])


def _figures(found: Difference) -> str:
    span = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
    return f"{found.model:.4f} against {found.other:.4f} (difference {found.difference:+.4f}, {span})"


def enough(y: ArrayLike) -> bool:
    """Tell whether rows hold enough of both labels to compare two models on."""
    labels = np.asarray(y, dtype=np.float64)
    return bool(min(labels.sum(), len(labels) - labels.sum()) >= MIN_CONTESTED)
