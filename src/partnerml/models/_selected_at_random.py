"""Were the labelled drawn at random from the positives: what data can say about it, and what they cannot.

That the labelled are a random sample of the positives ("selected completely at random") is what ranking by
positive-unlabelled learning rests on. Labels and traits alone never refute it: whatever their distributions, some share
of hidden positives fits them (Bekker and Davis 2020, Learning from positive and unlabeled data: a survey). Two things
beside them do.

*A class prior.* If a share pi of the unlabelled are positives with the traits of the labelled, then every group that
holds a share a of the labelled holds at least the share ``pi a`` of the unlabelled. The groups looked at are those that
the ranking puts on top, where hidden positives should abound. The same bound tells the largest prior that fits.

*Dates.* If the labels of early partners and of late ones come from the same draw, a classifier cannot tell the two
apart by their traits (Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu, norm

from partnerml.models._binary import Array
from partnerml.models._logistic import LogLogistic

LEVEL = 0.05
# the groups of the bound: those that hold these shares of the labelled, from the top of the ranking
_SHARES = (0.1, 0.2, 0.35, 0.5, 0.75)
# fewer partners on either side of the median date tell nothing
_MIN_DATED = 20
_PRIOR_VARIANCE = 0.8
_UNTOLD = (
    "whether the labelled were drawn at random cannot be told: there are neither dates of enough partners nor a class "
    "prior. If they were, at most {upper:.1%} of the accounts that are not labelled are like those that are; if you "
    "know of more, they were not"
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One test of the assumption.

    Attributes
    ----------
    name : str
        ``bound`` or ``early_late``.
    statistic : float
        Of ``bound`` the z-value of the group that fits worst, of ``early_late`` the AUC that tells late from early.
    p_value : float
        Corrected for the groups, or the halves, that were tried.
    words : str
    """

    name: str
    statistic: float
    p_value: float
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return dataclasses.asdict(self)


def selected_at_random(
    log_odds: ArrayLike,
    labelled: ArrayLike,
    *,
    prior: float | None = None,
    X: pd.DataFrame | None = None,
    since: pd.Series | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Test what can be tested of the assumption that labels were given at random among the positives.

    Parameters
    ----------
    log_odds : array-like of shape (n,)
        The ranking of rows that it has not been fitted on.
    labelled : array-like of shape (n,)
        1 for labelled, 0 for unlabelled.
    prior : float, optional
        The share of positives among the unlabelled, as the user gives it: the lowest one of a range.
    X : DataFrame of shape (n_labelled, p), optional
        Traits of labelled rows.
    since : Series of shape (n_labelled,), optional
        When they were labelled; null where nobody knows.
    seed : int
        Of the halves of the two-sample test.

    Returns
    -------
    dict
        ``rejected``: True, False, or None where nothing could be tested; ``statistic`` and ``p_value`` of the test that
        speaks most against it (corrected for the number of tests; null without any); ``tests``; ``prior_at_most``: the
        largest share of the unlabelled that can be like the labelled, with its 95 % upper limit; ``words``.
    """
    raw, positive = np.asarray(log_odds, dtype=np.float64), np.asarray(labelled) == 1
    checks = []
    if prior is not None:
        checks.append(bound_check(raw, positive, prior))
    if X is not None and since is not None and (check := early_late_check(X, since, seed=seed)) is not None:
        checks.append(check)
    estimate, upper = prior_at_most(raw, positive)
    worst = min(checks, key=lambda check: check.p_value, default=None)
    rejected, p_value, words = None, None, _UNTOLD.format(upper=upper)
    if worst is not None:
        p_value = min(1.0, worst.p_value * len(checks))
        rejected = p_value < LEVEL
        words = _words(worst, p_value, rejected=rejected)
    return {
        "rejected": rejected,
        "statistic": None if worst is None else worst.statistic,
        "p_value": p_value,
        "tests": [check.to_dict() for check in checks],
        "prior_at_most": {"estimate": estimate, "high": upper},
        "words": words,
    }


def _words(worst: Check, p_value: float, *, rejected: bool) -> str:
    """Say what the test that speaks most against it has found."""
    if not rejected:
        return f"the labelled may have been drawn at random (p = {p_value:.2g}): {worst.words}"
    return (
        f"the labelled were not drawn at random among those like them (p = {p_value:.2g}): {worst.words}. The ranking "
        "then favours whoever used to be asked, and a probability would be off"
    )


def bound_check(log_odds: Array, positive: NDArray[np.bool_], prior: float) -> Check:
    """Test whether the groups on top hold as many unlabelled rows as hidden positives alone would make.

    Parameters
    ----------
    log_odds : array of shape (n,)
    positive : array of bool, shape (n,)
        Labelled or not.
    prior : float
        The share of positives among the unlabelled.
    """
    a, b = _top_shares(log_odds, positive)
    n, m = int(positive.sum()), int((~positive).sum())
    error = np.sqrt(prior**2 * a * (1 - a) / n + np.maximum(b, 1 / m) * (1 - b) / m)
    z = np.where(error > 0, (prior * a - b) / np.where(error > 0, error, 1.0), 0.0)
    worst = int(np.argmax(z))
    p_value = min(1.0, float(norm.sf(z[worst])) * len(z))
    words = (
        f"the {a[worst]:.0%} of the labelled that rank highest share their traits with {b[worst]:.2%} of the others, "
        f"and with {prior:.1%} of them alike there should be at least {prior * a[worst]:.2%}"
    )
    return Check("bound", float(z[worst]), p_value, words)


def prior_at_most(log_odds: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the largest share of the unlabelled that can be like the labelled, and its 95 % upper limit."""
    a, b = _top_shares(log_odds, positive)
    n, m = int(positive.sum()), int((~positive).sum())
    b = np.maximum(b, 0.5 / m)
    error = np.sqrt((1 - a) / (a * n) + (1 - b) / (b * m))
    high = b / a * np.exp(norm.isf(LEVEL / len(a)) * error)
    return min(1.0, float((b / a).min())), min(1.0, float(high.min()))


def _top_shares(log_odds: Array, positive: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return which shares of the labelled and of the unlabelled each group on top of the ranking holds."""
    cuts = np.quantile(log_odds[positive], [1 - share for share in _SHARES])
    ours, theirs = np.sort(log_odds[positive]), np.sort(log_odds[~positive])
    a = 1 - np.searchsorted(ours, cuts, side="left") / len(ours)
    b = 1 - np.searchsorted(theirs, cuts, side="left") / len(theirs)
    return a, b


def early_late_check(X: pd.DataFrame, since: pd.Series, *, seed: int = 0) -> Check | None:
    """Test whether traits tell the later half of the labelled from the earlier one; None where there are too few.

    A logistic regression learns it on one half of the rows and is judged on the other, both ways round: on rows that
    it has not seen, its ranks are those of a coin if nothing can be told (Mann and Whitney's test).

    Parameters
    ----------
    X : DataFrame of shape (n, p)
    since : Series of shape (n,)
        When each became a partner; null where nobody knows.
    seed : int
    """
    dated = since.notna().to_numpy()
    moments, traits = since[dated].reset_index(drop=True), X.loc[dated].reset_index(drop=True)
    if not len(moments):
        return None
    late = (moments > moments.sort_values(ignore_index=True).iloc[(len(moments) - 1) // 2]).to_numpy()
    if min(late.sum(), (~late).sum()) < _MIN_DATED:
        return None
    half = _halves(late, seed)
    found = [_told_apart(traits, late, half == side) for side in (0, 1)]
    auc = float(np.mean([one for one, _ in found]))
    p_value = min(1.0, 2 * min(p for _, p in found))
    words = (
        f"the traits of the {int(late.sum())} later partners tell them from the {int((~late).sum())} earlier ones with "
        f"an AUC of {auc:.2f} (.50: not at all)"
    )
    return Check("early_late", auc, p_value, words)


def _halves(late: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Return 0 or 1 for each row, alike among early and late ones."""
    generator = np.random.default_rng(seed)
    half = np.zeros(len(late), dtype=np.intp)
    for side in (True, False):
        rows = np.flatnonzero(late == side)
        half[generator.permutation(rows)[len(rows) // 2 :]] = 1
    return half


def _told_apart(X: pd.DataFrame, late: NDArray[np.bool_], judged: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUC and p-value on the judged rows of a model that was fitted on the others."""
    model = LogLogistic(C=_PRIOR_VARIANCE / max(X.shape[1], 1)).fit(X.loc[~judged], late[~judged])
    said, target = model.decision_function(X.loc[judged]), late[judged]
    found = mannwhitneyu(said[target], said[~target], alternative="greater", method="asymptotic")
    p_value = 1.0 if np.isnan(found.pvalue) else float(found.pvalue)
    return float(found.statistic) / (int(target.sum()) * int((~target).sum())), p_value
