"""How the parts of a close model are fitted, on which rows and with which weights, and what the backtest prefers."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from partnerml.features import RECORD
from partnerml.training._recipe import Settings, days_followed, strength

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.features import Catalogue, PairOutcomes
    from partnerml.models import Difference, Fold, Learner, LogLogistic, Maturing, PeerRate, Weighting
    from partnerml.tasks import Task
    from partnerml.training._recipe import Maker

Array = npt.NDArray[np.float64]
# a cut, and the mature rows that a fold has at it: folds of one cut differ in who is left out
Key = tuple[pd.Timestamp, bytes]

# The number of trees grows with that of the pairs. On 29,000 pairs 300 were better than 120 (AUC .656 and .653 a year
# later), on 5,000 worse (.623 and .631); on 60,000 300 leave chances too close together (slope of the best line 1.06,
# with 600 1.01).
PAIRS_A_TREE, LEAST_TREES = 100, 120
# The rates of peers know nothing of the pair. Where there are many pairs the rest of the blend knows what they say: of
# 60,000 they had up to a fifth of it by noise, and the log loss on the true chances was never lower for it.
PEERS_BELOW = 10_000
# how many of the latest origins the two questions are put to, by the logistic alone: it is quick
_ASKED = 4
# in the names of features that are distances
_KM = "_km__"
# fewer pairs with a logged propensity than this share leave most weights unknown
_LOGGED = 0.5


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The rows that a component is fitted on, in the order of time.

    Attributes
    ----------
    y : array of shape (m,)
        0 or 1.
    weight : array of shape (m,)
    places : array of int of shape (m,)
        Position of each row in the data; an immature pair comes twice, as won and as not, weighted by its chance.
    """

    y: Array
    weight: Array
    places: npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """How the components are fitted on the pairs.

    Attributes
    ----------
    task : Task
    data : Dataset
    outcomes : PairOutcomes
    places : array of int, shape (n,)
        Of the rows of `data` in `outcomes`.
    columns : list of str
        What trees and logistic read.
    groups : tuple of str
        The columns that make peers, of those of the catalogue's peers that are features.
    gap : timedelta
    until : datetime
    seed : int
    immature : bool
        Whether immature pairs take part, with the chance that they have.
    weighting : Weighting or None
        Weights that undo past routing.
    fitted, open : dict
        The rows to fit on, and the pairs that are open with their chances: several ask for the same.
    """

    task: Task
    data: Dataset
    outcomes: PairOutcomes
    places: npt.NDArray[np.intp]
    columns: list[str]
    groups: tuple[str, ...]
    gap: dt.timedelta
    until: dt.datetime
    seed: int
    immature: bool = False
    weighting: Weighting | None = None
    fitted: dict[Key, Fitted] = dataclasses.field(default_factory=dict)
    open: dict[Key, tuple[npt.NDArray[np.intp], Array]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        data: Dataset,
        outcomes: PairOutcomes,
        columns: list[str],
        *,
        catalogue: Catalogue,
        gap: dt.timedelta,
        until: dt.datetime,
        seed: int,
    ) -> Self:
        """Take the rows."""
        named = [f"partners__{column}__trait__asof" for column in catalogue.peers.by]
        groups = tuple(name for name in named if name in data.X and isinstance(data.X[name].dtype, pd.CategoricalDtype))
        return cls(task, data, outcomes, outcomes.places(data.keys), columns, groups, gap, until, seed)

    @property
    def record(self) -> tuple[str | None, str | None]:
        """The columns that hold how many cases a partner won, and how many were decided; None without outcomes."""
        return (RECORD[0], RECORD[1]) if set(RECORD) <= set(self.data.X) else (None, None)

    def learners(self, settings: Settings) -> Mapping[str, Maker]:
        """How the components of the blend are fitted."""
        from partnerml.models import BoostedTrees

        number = max(LEAST_TREES, len(self.data) // PAIRS_A_TREE)
        trees = {"n_estimators": number, "random_state": self.seed, **settings.get("trees", {})}

        def fit(estimator: Any, X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Any:
            rows = self.rows(X, y, cut)
            read = self.data.X.iloc[rows.places][self.columns]
            return estimator.fit(read, rows.y, rows.weight, known_rows=self.known_rows(rows.places))

        return {
            "trees": lambda X, y, cut: fit(BoostedTrees(**trees), X, y, cut),
            "logistic": lambda X, y, cut: fit(self._logistic(settings), X, y, cut),
            **(self._rates if self._peers_help else {}),
        }

    @property
    def _peers_help(self) -> bool:
        """Whether the rates of peers may be part of the blend; they are a baseline in any case."""
        return len(self.data) < PEERS_BELOW

    @property
    def _rates(self) -> Mapping[str, Maker]:
        return {"peers": lambda X, y, cut: self.rate(self.rows(X, y, cut))}

    def _logistic(self, settings: Settings) -> LogLogistic:
        """Return what is to be fitted: kilometres are read as they are too."""
        from partnerml.models import LogLogistic

        straight = tuple(name for name in self.columns if _KM in name)
        return LogLogistic(C=strength([*self.columns, *straight], settings), straight=straight)

    def baselines(self) -> Mapping[str, Learner]:
        """How the baselines are fitted that are not components already."""
        from partnerml.models import BaseRate

        return {
            "base_rate": lambda X, y, cut: BaseRate.learn(X[y.notna()], y.dropna(), cut),
            **({} if self._peers_help else self._rates),
        }

    def peers(self) -> PeerRate:
        """Fit the rates of peers on all that is known at `until`."""
        return self.rate(self.rows(self.data.X, self.data.labels, pd.Timestamp(self.until)))

    def rate(self, rows: Fitted) -> PeerRate:
        """Fit the rates of peers."""
        from partnerml.models import PeerRate

        won, closed = self.record
        partner = self.data.keys["partner_id"].to_numpy(dtype=object)[rows.places]
        read = self.data.X[[*self.groups, *filter(None, self.record)]].iloc[rows.places]
        model = PeerRate(self.groups, won=won, closed=closed)
        return model.fit(read, rows.y, partner=partner, sample_weight=rows.weight)

    def known_rows(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return how many of these rows had a known label when each was assigned, shape (m,)."""
        from partnerml.models import known_rows

        return known_rows(self.data.as_of.iloc[places], pd.Timedelta(self.gap))

    def rows(self, X: pd.DataFrame, y: pd.Series, cut: pd.Timestamp) -> Fitted:
        """Return the rows to fit on at a cut: those that are mature, and those that are not yet if they help."""
        mature = (y.notna() & (self.data.as_of.loc[X.index] + pd.Timedelta(self.gap) <= cut)).to_numpy()
        told = X.index[mature].to_numpy(dtype=np.intp)
        key = (cut, told.tobytes())
        if key not in self.fitted:
            self.fitted[key] = self._rows(told, y[mature].to_numpy(dtype=np.float64), key)
        return self.fitted[key]

    def _rows(self, told: npt.NDArray[np.intp], labels: Array, key: Key) -> Fitted:
        places, weight = told, self._weights(told)
        if self.immature:
            if key not in self.open:
                self.open[key] = self._maturing(told, labels, key[0])
            open_, chance = self.open[key]
            share = self._weights(open_)
            places = np.concatenate([told, open_, open_])
            labels = np.concatenate([labels, np.ones(len(open_)), np.zeros(len(open_))])
            weight = np.concatenate([weight, chance * share, (1.0 - chance) * share])
            kept = weight > 0
            places, labels, weight = places[kept], labels[kept], weight[kept]
        order = np.argsort(places, kind="stable")
        return Fitted(labels[order], weight[order], places[order])

    def _weights(self, places: npt.NDArray[np.intp]) -> Array:
        return np.ones(len(places)) if self.weighting is None else self.weighting.weights[places]

    def _maturing(
        self, told: npt.NDArray[np.intp], labels: Array, cut: pd.Timestamp
    ) -> tuple[npt.NDArray[np.intp], Array]:
        """Return the pairs whose outcome was not mature at a cut, and the chance that each will have been won."""
        from partnerml.models import Maturing

        known = self._known(cut)
        open_ = np.flatnonzero(known["y"].isna().to_numpy() & known["there"].to_numpy() & ~self._judged_later(cut))
        X, horizon = self.data.X[self.columns], float(self.task.horizon_days)
        model = self._logistic({}).fit(X.iloc[told], labels, known_rows=self.known_rows(told))
        both = np.concatenate([told, open_])
        index = model.decision_function(X.iloc[both])
        won, lost, follow = (known[name].to_numpy(dtype=np.float64) for name in ("won_days", "lost_days", "followed"))
        curves = Maturing(horizon).fit(index, won[both], lost[both], follow[both])
        chance = curves.chances(index[len(told) :], follow[open_])
        chance = np.where(np.isnan(lost[open_]), chance, 0.0)
        return open_, np.where(np.isnan(won[open_]), chance, (won[open_] < horizon).astype(np.float64))

    def _known(self, cut: pd.Timestamp) -> pd.DataFrame:
        """Return what was known of each row at a cut: ``y``, days to the win and to the loss, days followed.

        ``there`` says whether the pair itself was known, and not as refused. One that was won, nobody knows when, is
        neither open nor followed: it is not there.
        """
        known = self.outcomes.labels(self.task.label, cut.to_pydatetime()).iloc[self.places].reset_index(drop=True)
        there = (self.outcomes.known(cut.to_pydatetime()) & ~self.outcomes.undated_wins)[self.places]
        return pd.DataFrame(
            {
                "y": known["y"],
                "won_days": known["duration_days"].where(known["observed"]),
                "lost_days": known["lost_days"],
                "followed": np.maximum(days_followed(self.data, cut, self.outcomes.lag), 0.0),
                "there": there & (self.data.as_of < cut).to_numpy(),
            }
        )

    def curves(self, cut: pd.Timestamp) -> Maturing:
        """Return how long wins and losses take, as was known at a cut."""
        return self._curves(self._known(cut))

    def _curves(self, known: pd.DataFrame) -> Maturing:
        from partnerml.models import Maturing

        seen = known[known["there"]]
        index = np.zeros(len(seen))
        return Maturing(self.task.horizon_days).fit(index, seen["won_days"], seen["lost_days"], seen["followed"])

    def judged(self, cut: pd.Timestamp, *, least_days: float) -> tuple[pd.Series, pd.Series]:
        """Return the labels and weights by which rows are judged, as known at a cut; shape (n,) each.

        A pair that is mature counts once. One that is not, and was followed for `least_days`, counts for those of its
        age that end as it did; one that is open counts as not won, for those that will be open at the horizon still.
        So calibration need not wait for the horizon.
        """
        known, horizon = self._known(cut), float(self.task.horizon_days)
        y, weight = known["y"].to_numpy(copy=True), known["y"].notna().to_numpy(dtype=np.float64)
        early = known["there"].to_numpy() & np.isnan(y)
        early &= (known["followed"] >= least_days).to_numpy() & (known["followed"] < horizon).to_numpy()
        rows = np.flatnonzero(early)
        if len(rows):
            seen = known.iloc[rows]
            # with a lag an end may be known before it counts as followed, and one after the horizon is none
            won, lost = (seen[name].to_numpy() < horizon for name in ("won_days", "lost_days"))
            stands_for = self._curves(known).weights(np.zeros(len(rows)), seen["followed"], won, lost)
            y[rows], weight[rows] = np.where(stands_for > 0, won, np.nan), stands_for
        return pd.Series(y, name="y"), pd.Series(weight, name="weight")

    def _judged_later(self, cut: pd.Timestamp) -> npt.NDArray[np.bool_]:
        """Mark the pairs of leads that have a pair from the cut on: they are judged on."""
        lead, _ = pd.factorize(self.data.keys["lead_id"])
        found: npt.NDArray[np.bool_] = np.isin(lead, lead[(self.data.as_of >= cut).to_numpy()])
        return found


def decided(
    parts: Parts,
    folds: Sequence[Fold],
    known: Mapping[pd.Timestamp, pd.Series],
    *,
    judged: tuple[pd.Series, pd.Series],
    estimated: Callable[[], Weighting | None],
) -> tuple[Parts, dict[str, Any]]:
    """Put the two questions to the latest origins, and return the parts that answer them, and what was found.

    The logistic regression stands for the components. A change is made only if its log loss out of time is below that
    of the parts as they are by a paired 95 % interval over leads.

    Parameters
    ----------
    parts : Parts
    folds : sequence of Fold
    known : mapping of Timestamp to Series
        The labels as they were known at each cut.
    judged : tuple of Series
        The labels and weights to judge by, from `Parts.judged`.
    estimated : callable
        Returns the weights that undo past routing where no propensities were logged.
    """
    ask = _Question(folds, known, judged, parts)
    with_open = dataclasses.replace(parts, immature=True, fitted={})
    found, used = ask.better(with_open, parts)
    findings = {"immature": _said(found, used, yes="by hazard", no="left out")}
    best = with_open if used else parts
    weighting = logged_weights(parts) or estimated()
    if weighting is None:
        reason = "too few pairs have a logged propensity, and there is nothing to estimate it from"
        return best, {**findings, "selection": {"used": False, "choice": "not weighted", "reason": reason}}
    weighted = dataclasses.replace(best, weighting=weighting, fitted={})
    found, used = ask.better(weighted, best)
    said = _said(found, used, yes="weighted", no="not weighted")
    return weighted if used else best, {**findings, "selection": {**said, **weighting.to_dict()}}


def logged_weights(parts: Parts) -> Weighting | None:
    """Return weights by the logged propensities; None where most have none, or all are 1: nothing was left to chance.

    A row without one (the partner brought the lead itself, say) weighs as much as the mean.
    """
    from partnerml.models import inverse_propensity

    chance = parts.outcomes.pairs["propensity"].to_numpy(dtype=np.float64)[parts.places]
    told = ~np.isnan(chance) & (chance > 0)
    if told.mean() < _LOGGED or not (chance[told] < 1).any():
        return None
    return inverse_propensity(np.where(told, chance, np.nan))


class _Question:
    """Whether one way is surely better than another, by a logistic regression on the latest origins."""

    def __init__(
        self,
        folds: Sequence[Fold],
        known: Mapping[pd.Timestamp, pd.Series],
        judged: tuple[pd.Series, pd.Series],
        parts: Parts,
    ) -> None:
        self.folds, self.known, self.data, self.seed = folds[-_ASKED:], known, parts.data, parts.seed
        self.tested = np.concatenate([fold.test for fold in self.folds])
        self.y, self.weights = (part.iloc[self.tested] for part in judged)
        self.answers: dict[Parts, Array] = {}

    def better(self, way: Parts, other: Parts) -> tuple[Difference, bool]:
        """Return the log loss of one way minus that of the other, and whether it is surely lower."""
        from partnerml.models import paired_difference

        lead = self.data.keys["lead_id"].iloc[self.tested]
        found = paired_difference(
            self.y, self.said(way), self.said(other), lead, weights=self.weights, n_boot=1000, seed=self.seed
        )
        return found, bool(found.high < 0)

    def said(self, way: Parts) -> Array:
        """Return the probabilities of one way, shape (n,)."""
        if way not in self.answers:
            learn, X = way.learners({})["logistic"], self.data.X
            log_odds = [
                learn(X.iloc[fold.train], self.known[fold.cut].iloc[fold.train], fold.cut).decision_function(
                    X.iloc[fold.test]
                )
                for fold in self.folds
            ]
            self.answers[way] = np.asarray(expit(np.concatenate(log_odds)))
        return self.answers[way]


def _said(found: Difference, used: bool, *, yes: str, no: str) -> dict[str, Any]:
    span = f"difference {found.difference:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    told = f"log loss of a logistic regression out of time {found.model:.4f} ({yes}) against {found.other:.4f} ({no})"
    return {"used": used, "choice": yes if used else no, "reason": f"{told}: {span}", "difference": found.to_dict()}
