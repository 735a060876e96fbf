"""Whether some partners are served worse than the rest: the evaluation of a model by type, country, tier, size, tenure.

Three things are asked of every segment that is large enough: whether its forecasts are off on average (calibration in
the large); whether its log loss is higher than the forecasts themselves expect, ``-p log p - (1 - p) log (1 - p)``, so
that a segment is not blamed for a base rate near one half; and whether they tell its partners apart less well (AUC).
Each is held against all other rows.

Looking at thirty segments finds something by chance in every model. The p-values are therefore those of the largest of
all differences under resampling, step by step (Romano and Wolf 2005, "Stepwise multiple testing as formalized data
snooping"): with nothing there, the chance of a single flag anywhere is at most `alpha`. What is resampled are partners,
because a partner's rows go together, and of each partner its influence on the estimates (the linear part, as in Kline
and Santos 2012, "A score based approach to wild bootstrap inference"), which makes a thousand draws one product of
matrices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from partnerml.dataset import Dataset
from partnerml.errors import InputError
from partnerml.models._evaluate import _cluster_codes, _draws
from partnerml.models._metrics import FloatArray, checked, metrics

MIN_ROWS = 100
MIN_CLUSTERS = 30
MIN_MINORITY = 10  # rows of the rarer label
ALPHA = 0.05
OTHER, MISSING = "(other)", "(missing)"
_TRAITS = ("partner_type", "country", "tier")
_WON, _TENURE = "deals__won__amount__365d", "partners__all__tenure_days__asof"
_YEARS = ((1.0, "under 1 year"), (3.0, "1 to 3 years"), (np.inf, "3 years and more"))
_NORMAL_95 = 1.959963984540054
_TINY = 1e-12
_CLIP = 1e-15

OVER, UNDER, SURE, LESS = "forecast too high", "forecast too low", "surer than right", "told apart worse"
_TESTS = ("bias", "excess_loss", "auc")


def segment_labels(data: Dataset) -> pd.DataFrame:
    """Say which segments the rows of a dataset belong to, from what its features hold.

    Returns
    -------
    DataFrame of shape (n, n_columns)
        Texts, as far as the dataset has what they are made of: ``partner_type``, ``country`` and ``tier`` (traits),
        ``size`` (thirds of the won revenue of the last 365 days, among rows that have any) and ``tenure``; missing
        values are named so.
    """
    found: dict[str, pd.Series] = {}
    for info in data.dictionary:
        column = info.name.split("__")[1] if "__" in info.name else ""
        if info.measure == "trait" and column in _TRAITS and column not in found:
            found[column] = _texts(data.X[info.name])
    if _WON in data.X:
        found["size"] = _sizes(data.X[_WON])
    if _TENURE in data.X:
        found["tenure"] = _tenures(data.X[_TENURE])
    ordered = [name for name in (*_TRAITS, "size", "tenure") if name in found]
    return pd.DataFrame({name: found[name] for name in ordered}, index=data.X.index)


def _texts(values: pd.Series) -> pd.Series:
    known = values.astype(object).map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    return known.where(values.notna().to_numpy(), MISSING)


def _sizes(won: pd.Series) -> pd.Series:
    revenue = won.fillna(0.0).to_numpy(dtype=np.float64)
    some = revenue[revenue > 0]
    cuts = np.quantile(some, [1 / 3, 2 / 3]) if len(some) else np.zeros(2)
    named = np.array(["lower third", "middle third", "upper third"])[np.searchsorted(cuts, revenue, side="left")]
    return pd.Series(np.where(revenue > 0, named, "no won revenue"), index=won.index)


def _tenures(days: pd.Series) -> pd.Series:
    years = days.to_numpy(dtype=np.float64) / 365.25
    bands = np.select([years < limit for limit, _ in _YEARS], [name for _, name in _YEARS], MISSING)
    return pd.Series(bands, index=days.index)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Rows of one segment that is large enough to be told."""

    column: str
    value: str
    rows: NDArray[np.bool_]


def segments(
    y: ArrayLike,
    p: ArrayLike,
    labels: pd.DataFrame,
    clusters: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    alpha: float = ALPHA,
    min_rows: int = MIN_ROWS,
    n_boot: int = 2000,
    seed: int = 0,
    called: str = "partners",
) -> pd.DataFrame:
    """Evaluate a model by segment, and flag the segments that it serves worse than the rest, beyond chance.

    Parameters
    ----------
    y, p : array-like of shape (n,)
        Labels (0 or 1) and predicted probabilities, out of time.
    labels : DataFrame of shape (n, n_columns)
        One text a row and kind of segment, such as `segment_labels` returns; null counts as missing.
    clusters : array-like of shape (n,)
        The partner of each row, or what else its rows go together by.
    weights : array-like of shape (n,), optional
        Weights of the rows.
    alpha : float
        The chance that a model which serves all alike gets any flag at all.
    min_rows : int
        Values with fewer rows, of fewer than 30 partners, or with fewer than 10 rows of either label are put
        together as ``(other)``, and told but not tested if they are still too few.
    n_boot, seed : int
        Number of draws, and their seed.
    called : str
        What the clusters are called in the words, in the plural.

    Returns
    -------
    DataFrame
        One row a segment, by column and descending number of rows: ``segment``, ``value``, ``rows``, ``partners``
        (clusters, whatever they are called), ``base_rate``, ``mean_prediction``, ``log_loss``, ``ece``; ``bias`` (mean
        prediction - base rate), ``excess_loss`` (log loss - what the forecasts expect of it) and ``auc``, each with
        ``_low`` and ``_high``, its 95 % interval; ``p_bias``, ``p_excess_loss`` and ``p_auc``, adjusted p-values
        against the rest (null if not tested); ``flag`` (empty, or of ``forecast too high``, ``forecast too low``,
        ``surer than right`` and ``told apart worse``, joined by ``;``) and ``words``.
    """
    label, score, weight = checked(y, p, weights)
    if len(labels) != len(label):
        raise InputError(f"labels must name the segments of every row, {len(label)}; got {len(labels)} rows")
    codes, n_clusters = _cluster_codes(clusters, len(label))
    order = np.lexsort((weight, label, score, codes))
    label, score, weight, codes = label[order], score[order], weight[order], codes[order]
    named = labels.astype(object).where(labels.notna(), MISSING).astype(str).iloc[order]
    parts = [part for column in named for part in _parts(named[column], label, codes, weight, min_rows=min_rows)]
    sums = _Sums.of(label, score, weight, codes, n_clusters)
    rows = [_measured(part, label, score, weight, codes, sums) for part in parts]
    tested = [place for place, part in enumerate(parts) if _tells(part.rows, label, codes, weight, min_rows)]
    tested = [place for place in tested if _tells(~parts[place].rows, label, codes, weight, min_rows)]
    p_values = _adjusted([sums.against_rest(parts[place].rows) for place in tested], codes, n_clusters, n_boot, seed)
    found = dict(zip(tested, p_values, strict=True))
    for place, row in enumerate(rows):
        p_of_tests = found.get(place, (np.nan,) * len(_TESTS))
        row |= {f"p_{name}": value for name, value in zip(_TESTS, p_of_tests, strict=True)}
        rest = sums.bias(~parts[place].rows)[0] if place in found else 0.0
        flags = _flags(row, rest, alpha)
        row |= {"flag": "; ".join(flags), "words": _words(row, flags, called, tested=place in found, alpha=alpha)}
    return pd.DataFrame(rows, columns=list(_COLUMNS))


_COLUMNS = (
    *("segment", "value", "rows", "partners", "base_rate", "mean_prediction", "log_loss", "ece"),
    *(f"{name}{suffix}" for name in _TESTS for suffix in ("", "_low", "_high")),
    *(f"p_{name}" for name in _TESTS),
    *("flag", "words"),
)


def _parts(
    named: pd.Series, label: FloatArray, codes: NDArray[np.intp], weight: FloatArray, *, min_rows: int
) -> Iterator[_Part]:
    """Yield the segments of a column, the largest first; those that tell nothing go together at the end."""
    texts = named.to_numpy()
    values, counts = np.unique(texts, return_counts=True)
    left = np.zeros(len(texts), dtype=bool)
    for place in np.lexsort((values, -counts)):
        rows = texts == values[place]
        if _tells(rows, label, codes, weight, min_rows):
            yield _Part(str(named.name), str(values[place]), rows)
        else:
            left |= rows
    if left.any():
        small = np.unique(texts[left])
        yield _Part(str(named.name), str(small[0]) if len(small) == 1 else OTHER, left)


def _tells(
    rows: NDArray[np.bool_], label: FloatArray, codes: NDArray[np.intp], weight: FloatArray, min_rows: int
) -> bool:
    counted = rows & (weight > 0)
    n, positives = int(counted.sum()), int(label[counted].sum())
    rarer = min(positives, n - positives)
    return n >= min_rows and rarer >= MIN_MINORITY and len(np.unique(codes[counted])) >= MIN_CLUSTERS


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Estimates over some rows, and the influence of each partner on them."""

    label: FloatArray
    score: FloatArray
    weight: FloatArray
    codes: NDArray[np.intp]
    n_clusters: int
    place: NDArray[np.intp]  # of each score among the distinct ones

    @classmethod
    def of(
        cls, label: FloatArray, score: FloatArray, weight: FloatArray, codes: NDArray[np.intp], n_clusters: int
    ) -> _Sums:
        """Rank the scores once for all segments."""
        return cls(label, score, weight, codes, n_clusters, np.unique(score, return_inverse=True)[1])

    def _by_cluster(self, values: FloatArray) -> FloatArray:
        return np.bincount(self.codes, weights=values, minlength=self.n_clusters).astype(np.float64)

    def bias(self, rows: NDArray[np.bool_]) -> tuple[float, FloatArray]:
        """Mean prediction minus base rate, and the influence of each cluster on it."""
        weight = np.where(rows, self.weight, 0.0)
        share = weight / weight.sum()
        estimate = float((share * (self.score - self.label)).sum())
        return estimate, self._by_cluster(share * (self.score - self.label - estimate))

    def excess_loss(self, rows: NDArray[np.bool_]) -> tuple[float, FloatArray]:
        """Log loss minus what the forecasts expect of it, and the influence of each cluster on it."""
        weight = np.where(rows, self.weight, 0.0)
        share = weight / weight.sum()
        score = np.clip(self.score, _CLIP, 1 - _CLIP)
        # log loss minus entropy: nothing where a label is worth no more and no less than its forecast says
        excess = (score - self.label) * (np.log(score) - np.log1p(-score))
        estimate = float((share * excess).sum())
        return estimate, self._by_cluster(share * (excess - estimate))

    def auc(self, rows: NDArray[np.bool_]) -> tuple[float, FloatArray]:
        """AUC, and the influence of each cluster on it (DeLong, DeLong and Clarke-Pearson 1988)."""
        weight = np.where(rows, self.weight, 0.0)
        positive, negative = weight * self.label, weight * (1 - self.label)
        if not (positive.any() and negative.any()):
            return np.nan, np.full(self.n_clusters, np.nan)
        below, above = (self._share_below(mass) for mass in (negative, positive))
        estimate = float((positive * below).sum() / positive.sum())
        influence = positive / positive.sum() * (below - estimate) + negative / negative.sum() * (1 - above - estimate)
        return estimate, self._by_cluster(influence)

    def _share_below(self, mass: FloatArray) -> FloatArray:
        """For each row the share of a mass at lower scores, and half of that at its own."""
        held = np.bincount(self.place, weights=mass, minlength=int(self.place.max()) + 1)
        return np.asarray((np.cumsum(held) - held / 2)[self.place] / mass.sum())

    def against_rest(self, rows: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Estimates minus those of all other rows, shape (3,), and the influences, shape (n_clusters, 3)."""
        pairs = [(measure(rows), measure(~rows)) for measure in (self.bias, self.excess_loss, self.auc)]
        estimates = np.array([here[0] - there[0] for here, there in pairs])
        return estimates, np.column_stack([here[1] - there[1] for here, there in pairs])


def _measured(
    part: _Part, label: FloatArray, score: FloatArray, weight: FloatArray, codes: NDArray[np.intp], sums: _Sums
) -> dict[str, Any]:
    rows = part.rows
    values = metrics(label[rows], score[rows], weight[rows])
    measured: dict[str, Any] = {
        "segment": part.column,
        "value": part.value,
        "rows": int(rows.sum()),
        "partners": len(np.unique(codes[rows])),
        **{name: values[name] for name in ("base_rate", "mean_prediction", "log_loss", "ece")},
    }
    for name in _TESTS:
        estimate, influence = getattr(sums, name)(rows)
        half = _NORMAL_95 * float(np.sqrt((influence**2).sum()))
        measured |= {name: estimate, f"{name}_low": estimate - half, f"{name}_high": estimate + half}
    return measured


def _adjusted(
    found: Sequence[tuple[FloatArray, FloatArray]], codes: NDArray[np.intp], n_clusters: int, n_boot: int, seed: int
) -> list[tuple[float, ...]]:
    """Step-down p-values of the largest difference: of the bias two-sided, of the others where they are worse."""
    if not found:
        return []
    estimates = np.concatenate([estimate for estimate, _ in found])
    influences = np.column_stack([influence for _, influence in found])
    errors = np.maximum(np.sqrt((influences**2).sum(axis=0)), _TINY)
    observed = _statistic(estimates / errors)
    one_row_each = np.arange(n_clusters)
    drawn = np.concatenate(
        [
            _statistic((block - 1.0) @ influences / errors)
            for block in _draws(one_row_each, n_clusters, n_boot=n_boot, seed=seed)
        ]
    )
    order = np.argsort(-observed, kind="stable")
    # the largest of those that are not told yet: what chance alone makes of the rest
    largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    p_values = (1 + (largest >= observed[order]).sum(axis=0)) / (1 + n_boot)
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(p_values)
    return [tuple(of_part) for of_part in adjusted.reshape(-1, len(_TESTS)).tolist()]


def _statistic(ratios: FloatArray) -> FloatArray:
    """How much worse: either sign of a bias, a higher loss, a lower AUC."""
    test = np.arange(ratios.shape[-1]) % len(_TESTS)
    return np.select([test == 0, test == 1], [np.abs(ratios), ratios], -ratios)


def _flags(row: Mapping[str, Any], rest: float, alpha: float) -> list[str]:
    flags = []
    bias = row["bias"]
    # a segment that is right where the rest is off differs from it, and is not served worse
    is_off = row["bias_low"] > 0 or row["bias_high"] < 0
    if row["p_bias"] <= alpha and is_off and abs(bias) > abs(rest):
        flags.append(OVER if bias > 0 else UNDER)
    elif row["p_excess_loss"] <= alpha and row["excess_loss_low"] > 0:
        # a bias costs log loss by itself, and is told as such
        flags.append(SURE)
    if row["p_auc"] <= alpha:
        flags.append(LESS)
    return flags


def _words(row: Mapping[str, Any], flags: Sequence[str], called: str, *, tested: bool, alpha: float) -> str:
    said = (
        f"{row['segment']} {row['value']}: {row['rows']:,} forecasts for {row['partners']:,} {called}, "
        f"{100 * float(str(row['mean_prediction'])):.1f} % forecast and {100 * float(str(row['base_rate'])):.1f} % "
        "came true"
    )
    if not tested:
        return f"{said}; too few to be told from chance"
    if not flags:
        differs = row["p_bias"] <= alpha
        return f"{said}; {'served no worse than the rest' if differs else 'not distinguishable from the rest'}"
    chances = {OVER: row["p_bias"], UNDER: row["p_bias"], SURE: row["p_excess_loss"], LESS: row["p_auc"]}
    told = "; ".join(f"{flag}, beyond chance (adjusted p {_chance(chances[flag])})" for flag in flags)
    return f"{said}; {told}"


def _chance(p_value: float) -> str:
    return "below .001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0")
