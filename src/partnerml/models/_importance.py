"""What a model goes by as a whole: the drivers of its scores with intervals, and how a score moves along each.

Both tell of the model, not of the world: what a partner would do if its figures were changed is another question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.dataset import FeatureInfo
from partnerml.errors import InputError, InternalError
from partnerml.models._artifact import BASE, Model
from partnerml.models._evaluate import LEVEL, _draws
from partnerml.models._explain import aspect
from partnerml.models._metrics import FloatArray

# the standard error of a mean |effect| over a thousand rows is a thirtieth of its spread: enough to rank by
EXPLAINED_ROWS = 1_000
BACKGROUND_ROWS = 300
MAIN_DRIVERS = 6
_LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
_SHOWN_VALUES = 8
_RARE = 0.005  # a share of unknown values below it makes no point of its own
_ADDITIVE = 1e-6  # log-odds; sums of floats over hundreds of columns reach 1e-9
_TOLD: Mapping[str, str] = {
    "volume": "how many",
    "value": "how much",
    "recency": "how long ago the last",
    "rhythm": "how far apart",
    "age": "how long ago the first",
}


@dataclasses.dataclass(frozen=True)
class Driver:
    """Features of one aspect of one thing, such as how many portal logins there were, over all windows.

    Attributes
    ----------
    words : str
        What it is, for people.
    lead : str
        The feature that carries most of it.
    features : tuple of str
        All of them, the weightiest first.
    importance : float
        Mean over the rows of the absolute effect on the log-odds of the score, summed over the features first:
        windows of one thing are near-identical columns that share their effect at random.
    low, high : float or None
        95 % percentile interval of the importance, by bootstrap over clusters; None with fewer than two. It is about
        the rows, for the model as it is: fitting it anew would move it more.
    share : float
        Of the sum over all drivers.
    direction : float or None
        Rank correlation of the lead's value with the effect: 1 where more always raises the score, -1 where it
        always lowers it; None for texts and constants.
    """

    words: str
    lead: str
    features: tuple[str, ...]
    importance: float
    low: float | None
    high: float | None
    share: float
    direction: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "features": list(self.features)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Driver:
        """Return the value that `to_dict` was made from."""
        return cls(**{**state, "features": tuple(state["features"])})


def importance(
    model: Model, X: pd.DataFrame, clusters: ArrayLike, *, n_boot: int = 500, seed: int = 0
) -> tuple[Driver, ...]:
    """Rank what drives the scores of some rows.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, at least n_columns)
        Rows such as those that are scored; a few hundred are enough.
    clusters : array-like of shape (n,)
        The partner or lead of each row: rows of one go together in the bootstrap.
    n_boot, seed : int
        Draws of the bootstrap, and their seed.

    Returns
    -------
    tuple of Driver
        The weightiest first; together they hold every feature that the score reads.

    Raises
    ------
    InputError
        If there is no row, or not one cluster a row.
    InternalError
        If the effects of a row do not sum to the log-odds of its score.
    """
    keys = np.asarray(clusters)
    if not len(X) or keys.shape != (len(X),):
        raise InputError(f"importance needs rows and one cluster for each; got {len(X)} rows, clusters {keys.shape}")
    effects = _checked(model, X)
    infos = {info.name: info for info in model.dictionary}
    members: dict[tuple[str, str], list[str]] = {}
    for name in effects.columns:
        members.setdefault(aspect(infos[name]), []).append(name)
    parts = sorted(members)
    summed = np.column_stack([effects[members[part]].to_numpy().sum(axis=1) for part in parts])
    mean = np.abs(summed).mean(axis=0)
    low, high = _interval(np.abs(summed), keys, n_boot=n_boot, seed=seed)
    total = float(mean.sum())
    found = []
    for place, part in enumerate(parts):
        weights = effects[members[part]].abs().mean()
        names = sorted(members[part], key=lambda name: (-weights[name], name))
        found.append(
            Driver(
                words=_words(infos[names[0]], part[1], len(names)),
                lead=names[0],
                features=tuple(names),
                importance=float(mean[place]),
                low=None if low is None else float(low[place]),
                high=None if high is None else float(high[place]),
                share=float(mean[place]) / total if total else 0.0,
                direction=_direction(X[names[0]], summed[:, place]),
            )
        )
    return tuple(sorted(found, key=lambda driver: (-driver.importance, driver.lead)))


def _checked(model: Model, X: pd.DataFrame) -> pd.DataFrame:
    effects = model.contributions(X)
    apart = np.abs(effects.to_numpy().sum(axis=1) - model.log_odds(X)).max()
    if not apart <= _ADDITIVE:
        raise InternalError(f"effects do not sum to the log-odds of the score: they are {apart:.3g} apart")
    return effects.drop(columns=BASE)


def _interval(
    sizes: FloatArray, clusters: NDArray[Any], *, n_boot: int, seed: int
) -> tuple[FloatArray | None, FloatArray | None]:
    """Return the percentile interval of each column's mean over draws of whole clusters."""
    known, codes = np.unique(clusters, return_inverse=True)
    if len(known) < 2:
        return None, None
    counts = np.bincount(codes, minlength=len(known)).astype(np.float64)
    sums = np.column_stack([np.bincount(codes, weights=column, minlength=len(known)) for column in sizes.T])
    # a row a cluster: each draw says how often it takes the cluster
    blocks = _draws(np.arange(len(known)), len(known), n_boot=n_boot, seed=seed)
    # no matrix product: its sums depend on the number of threads
    draws = [(times[:, None] * sums).sum(axis=0) / (times * counts).sum() for block in blocks for times in block]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _direction(values: pd.Series, effects: FloatArray) -> float | None:
    if not pd.api.types.is_numeric_dtype(values):
        return None
    ranks = pd.DataFrame({"value": values.to_numpy(), "effect": effects}).dropna().rank()
    if ranks["value"].nunique() < 2 or ranks["effect"].nunique() < 2:
        return None
    a, b = (ranks[name].to_numpy() - ranks[name].mean() for name in ("value", "effect"))
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def _words(lead: FeatureInfo, part: str, several: int) -> str:
    if several == 1:
        return lead.words
    if part in _TOLD:
        return f"{lead.subject}: {_TOLD[part]}"
    return f"{lead.words}, and {several - 1} like it"


def dependence(
    model: Model, X: pd.DataFrame, drivers: Sequence[Driver], *, top: int = MAIN_DRIVERS, seed: int = 0
) -> list[dict[str, Any]]:
    """Move one driver over its range, all else as it is, and average the scores (partial dependence, Friedman 2001).

    All windows of a driver move together, each to the same quantile of its own: moving one alone would ask about
    partners with forty logins in a week and three in the month around it.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, at least n_columns)
        Rows such as those that are scored; `BACKGROUND_ROWS` of them are drawn.
    drivers : sequence of Driver
        From `importance`.
    top : int
        Of how many drivers to tell.
    seed : int
        Draws the rows.

    Returns
    -------
    list of dict
        For each driver ``words``, ``lead``, ``unit`` and ``points``: ``value`` of the lead (a number, a text, or None
        for unknown), ``share`` of the rows at most at it (of a text or of unknown: that have it), and ``score``, the
        mean probability. Levels at which a row cannot be (more deals won than closed) are left out.
    """
    infos = {info.name: info for info in model.dictionary}
    rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:BACKGROUND_ROWS])
    background = X[list(model.columns)].iloc[rows].reset_index(drop=True)
    told = []
    for driver in drivers[:top]:
        points = _texts(X, driver) if driver.lead in model.vocabulary else _numbers(X, driver, model.vocabulary)
        if len(points) < 2:
            continue
        moved = pd.concat([background.assign(**setting) for _, _, setting in points], ignore_index=True)
        # rows that cannot be, such as more won than closed, have no score, and their level is no point
        with np.errstate(all="ignore"):
            scores = model.predict_proba(moved).reshape(len(points), len(background)).mean(axis=1)
        defined = [
            {"value": value, "share": share, "score": float(score)}
            for (value, share, _), score in zip(points, scores, strict=True)
            if np.isfinite(score)
        ]
        if len(defined) < 2:
            continue
        info = infos[driver.lead]
        about = {"words": driver.words, "lead": driver.lead, "about": info.words, "unit": info.unit}
        told.append({**about, "points": defined})
    return told


_Point = tuple[float | str | None, float, dict[str, Any]]


def _numbers(X: pd.DataFrame, driver: Driver, vocabulary: Mapping[str, Any]) -> list[_Point]:
    """Return the points of a driver that is a number: quantiles of its lead, and unknown where that happens."""
    known = {name: X[name].dropna().to_numpy(dtype=np.float64) for name in driver.features if name not in vocabulary}
    moving = {name: np.quantile(values, _LEVELS) for name, values in known.items() if len(values)}
    if driver.lead not in moving:
        return []
    points: list[_Point] = []
    for value in np.unique(moving[driver.lead]):
        # counts have many ties: of the levels with one value, the middle one
        ties = np.flatnonzero(moving[driver.lead] == value)
        level = int(ties[len(ties) // 2])
        share = float((known[driver.lead] <= value).mean())
        points.append((float(value), share, {name: float(levels[level]) for name, levels in moving.items()}))
    unknown = float(X[driver.lead].isna().mean())
    if unknown >= _RARE:
        without = {name: np.nan for name in moving if X[name].isna().any()}
        points.append((None, unknown, without))
    return points


def _texts(X: pd.DataFrame, driver: Driver) -> list[_Point]:
    """Return the points of a driver that is a text: its most frequent values, and unknown where that happens."""
    values = X[driver.lead].astype(object)
    shares = values.dropna().astype(str).value_counts() / len(X)
    frequent = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_VALUES]
    points: list[_Point] = [
        (str(value), float(share), {driver.lead: pd.Categorical([value] * min(len(X), BACKGROUND_ROWS))})
        for value, share in frequent
    ]
    unknown = float(values.isna().mean())
    if unknown >= _RARE:
        points.append(
            (None, unknown, {driver.lead: pd.Categorical([None] * min(len(X), BACKGROUND_ROWS), categories=["?"])})
        )
    return points


def explanation(
    model: Model, X: pd.DataFrame, clusters: ArrayLike, as_of: pd.Series, *, seed: int = 0
) -> dict[str, Any]:
    """Return the documents ``importance`` and ``dependence`` of a model, from the latest of its training rows.

    Parameters
    ----------
    model : Model
    X : DataFrame of shape (n, p)
    clusters : array-like of shape (n,)
    as_of : Series of shape (n,)
        The moments of the rows; the latest `EXPLAINED_ROWS` speak, and more of one moment are drawn from.
    seed : int
    """
    rows = latest(as_of, EXPLAINED_ROWS, seed=seed)
    chosen, keys = X.iloc[rows], np.asarray(clusters)[rows]
    drivers = importance(model, chosen, keys, seed=seed)
    seen = as_of.iloc[rows]
    return {
        "importance": {
            "rows": len(rows),
            "clusters": len(np.unique(keys)),
            "first": seen.min(),
            "last": seen.max(),
            "drivers": [driver.to_dict() for driver in drivers],
        },
        "dependence": dependence(model, chosen, drivers, seed=seed),
    }


def latest(as_of: pd.Series, at_most: int, *, seed: int = 0) -> NDArray[np.intp]:
    """Return the positions of the latest rows, in order; of the moment that would be too many, some are drawn."""
    moments = as_of.to_numpy()
    order = np.argsort(moments, kind="stable")[::-1]
    if len(order) <= at_most:
        return np.sort(order)
    edge = moments[order[at_most - 1]]
    surely = np.flatnonzero(moments > edge)
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(moments == edge))[: at_most - len(surely)]
    return np.sort(np.concatenate([surely, drawn]))
