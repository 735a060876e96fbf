"""What past routing did to the data: weights that undo its choices, and win rates of partners on equal terms.

Who gave the easy leads to some partners made their win rates look better than they are. Standardising asks what each
partner would win of the *same* leads: by a model's predictions (g-computation, Robins 1986), and by these corrected
with the partner's own weighted errors, which is right if either the model or the weights are (doubly robust: Robins,
Rotnitzky and Zhao 1994; Dudik, Langford and Li 2011).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from partnerml.errors import InputError
from partnerml.models._binary import Array
from partnerml.models._logistic import LogLogistic

AT_MOST = 10.0  # a row never counts for more than so many of the mean: few rows must not decide alone
LEVEL = 0.95
# what 99 of 100 of the pairs that were made exceed, others may be compared at
_TAIL = 0.01
# fewer effective rows do not carry a rate of a partner's own
LEAST_EFFECTIVE = 5.0
LEAST_OVERLAP = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class Weighting:
    """Weights of rows, and what they cost.

    Attributes
    ----------
    weights : array of shape (n,)
        Above 0, of mean 1.
    source : str
        ``logged`` or ``estimated`` propensities.
    clipped : float
        Share of the rows whose weight was cut to the largest that is allowed.
    """

    weights: Array
    source: str
    clipped: float

    @property
    def effective(self) -> float:
        """The effective sample size: as many rows of equal weight would be as informative (Kish 1965)."""
        return effective_sample_size(self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return what is reported of the weights."""
        rows = len(self.weights)
        return {"source": self.source, "rows": rows, "effective": self.effective, "clipped": self.clipped}


def effective_sample_size(weights: ArrayLike) -> float:
    """Return ``(sum w)^2 / sum w^2``; 0 without rows."""
    w = np.asarray(weights, dtype=np.float64)
    total = float((w**2).sum())
    return float(w.sum() ** 2 / total) if total > 0 else 0.0


def inverse_propensity(propensity: ArrayLike, *, at_most: float = AT_MOST) -> Weighting:
    """Weigh rows by one over the logged chance that their partner was chosen.

    Parameters
    ----------
    propensity : array-like of shape (n,)
        In (0, 1]; NaN where none was logged: such rows weigh as much as the mean of the others.
    at_most : float
        The largest weight, in units of the mean.

    Raises
    ------
    InputError
        If a propensity is 0 or less, or above 1.
    """
    chance = np.asarray(propensity, dtype=np.float64)
    known = ~np.isnan(chance)
    wrong = known & ~((chance > 0) & (chance <= 1))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"propensities lie above 0 and are at most 1; {int(wrong.sum())} of {len(chance)} do not, the first is "
            f"{chance[first]!r} in row {first}"
        )
    weights = np.ones_like(chance)
    weights[known], clipped = _normalised(1.0 / chance[known], at_most)
    return Weighting(weights, "logged", float(clipped.sum()) / max(len(chance), 1))


def _normalised(raw: Array, at_most: float) -> tuple[Array, NDArray[np.bool_]]:
    """Cut weights at so many times the mean of those that are left, and bring that mean to 1."""
    if not len(raw):
        return raw, np.zeros(0, dtype=bool)
    # with the k largest at the limit it is at_most * (k limit + the rest) / n: the first k that leaves none above
    down = np.sort(raw)[::-1]
    n, k = len(down), np.arange(len(down))
    rest, room = np.cumsum(down[::-1])[::-1], n - at_most * k
    limits = np.divide(at_most * rest, room, out=np.full(n, np.inf), where=room > 0)
    limit = limits[np.argmax(down <= limits)]
    cut = np.minimum(raw, limit)
    return cut / cut.mean(), raw > limit


class Overlap:
    """How the pairs that past routing made differ from pairs as they could be made: a ratio of two densities.

    Where no propensities were logged, a classifier that tells the pairs that were made from a reference of pairs (the
    same leads with any partner) gives the ratio of their densities as its odds (Bickel, Brueckner and Scheffer 2009).

    Parameters
    ----------
    C : float
        Inverse strength of the classifier's penalty.
    at_most : float
        The largest weight, in units of the mean.

    Attributes
    ----------
    model_ : LogLogistic
        Log-odds of having been made.
    floor_ : float
        Log-odds that 99 of 100 of the pairs that were made exceed.
    """

    def __init__(self, *, C: float = 1.0, at_most: float = AT_MOST) -> None:
        self.C, self.at_most = C, at_most

    def fit(self, made: pd.DataFrame, reference: pd.DataFrame) -> Self:
        """Learn the ratio.

        Parameters
        ----------
        made : DataFrame of shape (n, p)
            Features of the pairs that were made: what the choice may have depended on.
        reference : DataFrame of shape (m, p)
            The same features of pairs as they could be made.
        """
        labels = np.repeat([1.0, 0.0], [len(made), len(reference)])
        # both sides count alike: odds of 1 are pairs that are as frequent among the one as among the other
        weight = np.repeat([0.5 / max(len(made), 1), 0.5 / max(len(reference), 1)], [len(made), len(reference)])
        both = pd.concat([made, reference[made.columns]], ignore_index=True)
        self.model_ = LogLogistic(C=self.C).fit(both, labels, sample_weight=weight * len(both))
        self.floor_ = float(np.quantile(self.model_.decision_function(made), _TAIL))
        return self

    def weights(self, made: pd.DataFrame) -> Weighting:
        """Weigh pairs that were made so that together they look like the reference."""
        raw = np.exp(-self.model_.decision_function(made))
        weights, clipped = _normalised(raw, self.at_most)
        return Weighting(weights, "estimated", float(clipped.mean()) if len(raw) else 0.0)

    def overlaps(self, pairs: pd.DataFrame) -> NDArray[np.bool_]:
        """Mark the pairs that are like pairs that were made; of others the data say nothing. Shape (n,)."""
        found: NDArray[np.bool_] = self.model_.decision_function(pairs) >= self.floor_
        return found


def standardised_rates(
    y: ArrayLike,
    partner: ArrayLike,
    expected: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    reference: pd.DataFrame,
) -> pd.DataFrame:
    """Return the share of the same leads that each partner would win.

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes of the pairs that were made, 0 or 1.
    partner : array-like of shape (n,)
    expected : array-like of shape (n,)
        What a model expected of them: of leads with the partner that had them.
    weights : array-like of shape (n,), optional
        One over the chance that the partner was chosen, up to a factor; equal by default.
    reference : DataFrame
        The same leads for each partner: ``partner_id``, ``expected`` (what the model expects of a lead with that
        partner) and, where known, ``overlaps``: rates are told over the leads for which it is true, since of pairs
        unlike any that were ever made the data say nothing.

    Returns
    -------
    DataFrame
        One row for each partner of `reference`, in order of ``partner_id``: ``rows`` (pairs that were made),
        ``effective`` (their effective number), ``raw`` (the share that was won; NaN without rows), ``model`` (mean
        over those leads of what the model expects), ``doubly_robust`` (plus the weighted mean error on its own
        pairs), ``standardised`` (that correction shrunk by how much of it is noise), ``low`` and ``high`` (a 95 %
        interval by the noise of the correction in full, NaN without rows), ``overlap`` (share of the reference that is
        like pairs that were made) and ``comparable`` (whether effective rows and overlap are enough).

    Notes
    -----
    The errors of partners scatter around 0 by noise of known size and by what the model misses of partners, whose
    variance is estimated from all of them (DerSimonian and Laird 1986, around 0).
    """
    outcome, guess = np.asarray(y, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    weight = np.ones_like(outcome) if weights is None else np.asarray(weights, dtype=np.float64)
    ids = np.unique(reference["partner_id"].to_numpy(dtype=object))
    place = pd.Index(ids).get_indexer(np.asarray(partner, dtype=object))
    kept = place >= 0
    place, outcome, guess, weight = place[kept], outcome[kept], guess[kept], weight[kept]
    sums = {
        name: np.asarray(np.bincount(place, weights=part, minlength=len(ids)), dtype=np.float64)
        for name, part in {
            "rows": np.ones_like(weight),
            "won": outcome,
            "weight": weight,
            "squares": weight**2,
            "errors": weight * (outcome - guess),
            "noise": weight**2 * guess * (1 - guess),
        }.items()
    }
    table = _of_reference(reference)
    table["rows"] = sums["rows"].astype(np.int64)
    table["effective"] = _ratio(sums["weight"] ** 2, sums["squares"], empty=0.0)
    table["raw"] = _ratio(sums["won"], sums["rows"], empty=np.nan)
    error, noise = (
        _ratio(sums["errors"], sums["weight"], empty=0.0),
        _ratio(sums["noise"], sums["weight"] ** 2, empty=np.nan),
    )
    _correct(table, error, noise)
    table["comparable"] = (table["effective"] >= LEAST_EFFECTIVE) & (table["overlap"] >= LEAST_OVERLAP)
    order = ("partner_id", "rows", "effective", "raw", "model", "doubly_robust", "standardised", "low", "high")
    return table[[*order, "overlap", "comparable"]]


def _of_reference(reference: pd.DataFrame) -> pd.DataFrame:
    """Return for each partner the mean and the sampling variance of what is expected, and the share that overlaps."""
    overlaps = reference["overlaps"] if "overlaps" in reference else pd.Series(True, index=reference.index)
    seen = reference.assign(expected=reference["expected"].where(overlaps), overlaps=overlaps.astype("float64"))
    by = seen.groupby("partner_id", sort=True)
    table = by.agg(model=("expected", "mean"), overlap=("overlaps", "mean")).reset_index()
    table["sampling"] = (by["expected"].var(ddof=0) / by["expected"].count()).to_numpy()
    return table


def _correct(table: pd.DataFrame, error: Array, noise: Array) -> None:
    """Add the corrected rates and the interval; partners without rows keep the model's rate and have no interval."""
    told = noise > 0
    missed = 0.0
    if told.any():
        precision = 1.0 / noise[told]
        missed = max(0.0, float(((error[told] ** 2 * precision).sum() - told.sum()) / precision.sum()))
    share = np.where(told, missed / np.where(told, missed + noise, 1.0), 0.0)
    model = table["model"].to_numpy()
    table["doubly_robust"] = np.where(np.isnan(noise), np.nan, np.clip(model + error, 0.0, 1.0))
    table["standardised"] = np.clip(model + share * error, 0.0, 1.0)
    # the model has learnt from the same rows: what it says of a partner is no surer than they are
    reach = float(ndtri(0.5 + LEVEL / 2)) * np.sqrt(noise + table.pop("sampling").to_numpy())
    table["low"] = np.clip(table["standardised"] - reach, 0.0, 1.0)
    table["high"] = np.clip(table["standardised"] + reach, 0.0, 1.0)


def _ratio(above: Array, below: Array, *, empty: float) -> Array:
    return np.divide(above, below, out=np.full(len(below), empty), where=below > 0)
