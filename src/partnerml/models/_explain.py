"""Reasons: what moved a score, in log-odds and in the partner's own figures.

The effects of a row are additive: over all features they sum to ``logit(score) - base``. Windows of one thing
are near-identical columns that share their effect at random, so they are told as one reason: effects are summed
over the features of an *aspect* of a group (how much, how often, how long ago), and the three largest sums are
shown. What a reason says is computed from the row's own figures; what it compares with is the median of the
training rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.dataset import FeatureInfo
from partnerml.models._figures import figure, sentence

BASE = "base"

# The part of a group that a measure speaks of: measures of one part are told as one reason.
_ASPECTS = {
    "count": "volume",
    "active_days": "volume",
    "count_ratio": "volume",
    "prior_ratio": "volume",
    "count_trend": "volume",
    "value": "value",
    "amount": "value",
    "recency_days": "recency",
    "recency_over_gap": "recency",
    "gap_mean": "rhythm",
    "gap_max": "rhythm",
    "gap_sd": "rhythm",
    "age_days": "age",
    "tenure_days": "age",
    "own": "source",
    "distance_km": "distance",
    "given_km": "distance",
}

# The spans in which change is told, shortest first: each needs a window twice as long beside it.
_SPANS = (30, 90)
_ACTIVITY = "activity__all"
_RHYTHM = f"{_ACTIVITY}__gap_mean__365d"
_OPEN = "deals__open"
_DISTANCE, _OWN = "pair__place__distance_km__asof", "pair__source__own__asof"


@dataclasses.dataclass(frozen=True)
class Reason:
    """One reason for a score.

    Attributes
    ----------
    feature : str
        The feature that carries most of the effect.
    value : float or str or None
        Its value for this row.
    effect : float
        The summed effect of the aspect, in log-odds.
    text : str
        The reason in words.
    """

    feature: str
    value: float | str | None
    effect: float
    text: str

    def to_dict(self) -> dict[str, object]:
        """Return the reason as the struct that scores hold; a text value is part of the words only."""
        value = None if self.value is None or isinstance(self.value, str) else float(self.value)
        return {"feature": self.feature, "value": value, "effect": self.effect, "text": self.text}


def aspect(info: FeatureInfo) -> tuple[str, str]:
    """Return the (group, aspect) under which a feature is told."""
    return info.group, _ASPECTS.get(info.measure, info.measure)


def figures(info: FeatureInfo) -> tuple[str, ...]:
    """Return the names of all features that the words of a reason may draw on, where this one leads it."""
    part = aspect(info)[1]
    if part in ("volume", "value"):
        return (info.name, *(f"{_stem(info)}__{days}d" for span in _SPANS for days in (span, 2 * span)))
    if part == "recency":
        return (info.name, f"{info.group}__recency_days__ever", *((_RHYTHM,) if info.group == _ACTIVITY else ()))
    return (info.name, _DISTANCE, _OWN) if part == "distance" else (info.name,)


def explain(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    *,
    dictionary: Sequence[FeatureInfo],
    typical: Mapping[str, float],
    top: int = 3,
) -> list[list[Reason]]:
    """Tell the largest effects of every row in words.

    Parameters
    ----------
    contributions : DataFrame of shape (n_rows, n_features + 1)
        Effects in log-odds of the calibrated score, one column a feature, and ``base``.
    X : DataFrame of shape (n_rows, n_columns)
        The rows' figures. It may hold more columns than the model uses: words draw on all of them.
    dictionary : sequence of FeatureInfo
        What each column means.
    typical : mapping of str to float
        Medians of the training rows.
    top : int
        How many reasons to tell.

    Returns
    -------
    list of list of Reason
        For each row its reasons, largest absolute effect first.
    """
    features = [str(name) for name in contributions.columns if name != BASE]
    telling = Telling(features, dictionary=dictionary, typical=typical)
    return telling.tell(contributions[features].to_numpy(dtype=np.float64), _records(X), top=top)


class Telling:
    """Tells the effects of some features, whichever rows are asked about: what `explain` says, made ready once.

    Parameters
    ----------
    features : sequence of str
        That have effects.
    dictionary : sequence of FeatureInfo
    typical : mapping of str to float
    """

    def __init__(
        self, features: Sequence[str], *, dictionary: Sequence[FeatureInfo], typical: Mapping[str, float]
    ) -> None:
        self._features, self._typical = features, typical
        self._infos = {info.name: info for info in dictionary}
        places: dict[tuple[str, str], list[int]] = {}
        for place, name in enumerate(features):
            places.setdefault(aspect(self._infos[name]), []).append(place)
        self._members = [members for _, members in sorted(places.items())]

    def tell(
        self, effects: npt.NDArray[np.float64], rows: Sequence[Mapping[str, object]], *, top: int
    ) -> list[list[Reason]]:
        """Return the reasons of each row, largest absolute effect first.

        Parameters
        ----------
        effects : array, shape (n, len(features))
        rows : sequence of mapping
            Their figures by the names of the columns.
        top : int
        """
        totals = np.column_stack([effects[:, members].sum(axis=1) for members in self._members])
        return [
            [self._reason(row, own, self._members[place], float(total[place])) for place in largest]
            for row, own, total, largest in zip(rows, effects, totals, _largest(totals, top), strict=True)
        ]

    def _reason(
        self, row: Mapping[str, object], effects: npt.NDArray[np.float64], members: Sequence[int], total: float
    ) -> Reason:
        lead = self._features[max(members, key=lambda place: (abs(effects[place]), self._features[place]))]
        text = _Words(row, self._infos, self._typical).tell(self._infos[lead], total)
        return Reason(lead, _plain(row.get(lead)), total, text)


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    # `to_dict("records")` takes ten times as long for one row
    columns = [frame[name].tolist() for name in frame.columns]
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _largest(totals: npt.NDArray[np.float64], top: int) -> npt.NDArray[np.intp]:
    # stable: equal effects keep the order of the names
    return np.argsort(-np.abs(totals), axis=1, kind="stable")[:, :top]


def _plain(value: object) -> float | str | None:
    if value is None or value is pd.NA:
        return None
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return None if math.isnan(number) else number


@dataclasses.dataclass(frozen=True)
class _Words:
    """The words for one row's reasons."""

    row: Mapping[str, object]
    infos: Mapping[str, FeatureInfo]
    typical: Mapping[str, float]

    def tell(self, info: FeatureInfo, effect: float) -> str:
        kind = aspect(info)[1]
        teller = {
            "volume": self._change,
            "value": self._change,
            "recency": self._recency,
            "rhythm": self._rhythm,
            "age": self._age,
            "source": self._source,
            "distance": self._distance,
        }.get(kind, self._level)
        return teller(info, effect)

    def _number(self, name: str) -> float | None:
        value = _plain(self.row.get(name))
        return value if isinstance(value, float) else None

    def _change(self, info: FeatureInfo, effect: float) -> str:
        """Say how a count or a sum changed between the last span and the one before it."""
        stem = _stem(info)
        if info.group == _ACTIVITY:
            info = dataclasses.replace(info, subject="active days")
        told = [self._span(stem, days) for days in _SPANS]
        spans = [span for span in told if span is not None and max(span[1:]) > 0]
        if not spans:
            return self._level(info, effect)
        # the span whose change goes the way of the effect; the shortest of them
        fitting = [span for span in spans if (span[1] < span[2]) == (effect > 0) and span[1] != span[2]]
        days, now, before = (fitting or spans)[0]
        name = f"{stem}__{days}d"
        if not fitting:
            # the level speaks, not the change: a fall that lowers the risk, say, of somebody far above the others
            subject = _singular(info.subject) if now == 1 else info.subject
            return f"{figure(info, now)} {subject} in {days} days{self._usual(info, name, now)}"
        return _change_text(info, days, now, before, self._usual(info, name))

    def _span(self, stem: str, days: int) -> tuple[int, float, float] | None:
        now, both = self._number(f"{stem}__{days}d"), self._number(f"{stem}__{2 * days}d")
        return None if now is None or both is None else (days, now, both - now)

    def _usual(self, info: FeatureInfo, name: str, value: float | None = None) -> str:
        """Say what is typical, and of a value that is told as such that it is."""
        usual = self.typical.get(name)
        if usual is None or math.isnan(usual):
            return ""
        said = figure(info, usual)
        return " (as is typical)" if value is not None and figure(info, value) == said else f" (typical: {said})"

    def _recency(self, info: FeatureInfo, effect: float) -> str:
        name = f"{info.group}__recency_days__ever"
        if name not in self.row:  # a catalogue of one's own, without it
            return self._level(info, effect)
        days = self._number(name)
        if days is None:
            return f"no {info.subject} on record"
        gap = self._number(_RHYTHM)
        # the rhythm is that of all activity, and says nothing about one kind of it
        known = info.group == _ACTIVITY and gap is not None and gap > 0
        rhythm = f", usually every {_days(gap or 0.0)}" if known else self._usual(info, name)
        return f"last {_singular(info.subject)} {_days(days)} ago{rhythm}"

    def _rhythm(self, info: FeatureInfo, effect: float) -> str:
        value = self._number(info.name)
        if value is None:
            return f"too few {info.subject} to see a rhythm"
        return f"{info.words}: {_days(value)}{self._usual(info, info.name)}"

    def _age(self, info: FeatureInfo, effect: float) -> str:
        if info.group == _OPEN:  # of many
            return self._level(info, effect)
        value = self._number(info.name)
        if value is None:
            return f"{info.words}: not known"
        what = "joined" if info.measure == "tenure_days" else f"first {_singular(info.subject)}"
        return f"{what} {_days(value)} ago{self._usual(info, info.name)}"

    def _source(self, info: FeatureInfo, effect: float) -> str:
        return "handed the lead in itself" if self._number(info.name) else "did not hand the lead in"

    def _distance(self, info: FeatureInfo, effect: float) -> str:
        known = self._number(_DISTANCE)
        if self._number(info.name) is not None:
            return self._level(info, effect)
        if known is not None:
            return f"handed the lead in itself, {figure(info, known)} from the customer"
        return "handed the lead in itself" if self._number(_OWN) else "distance to the customer: not known"

    def _level(self, info: FeatureInfo, effect: float) -> str:
        value = _plain(self.row.get(info.name))
        if value is None:
            return f"{info.words}: not known"
        if isinstance(value, str):
            return f"{info.words}: {value}"
        return sentence(info).format(figure(info, value)) + self._usual(info, info.name, value)


def _stem(info: FeatureInfo) -> str:
    """Return the name, without its window, of the figures that tell a change."""
    if info.group == _ACTIVITY:
        # days, not rows: what is an event and a deal at once is no more activity for that
        return f"{info.group}__active_days"
    return f"{info.group}__{'count' if aspect(info)[1] == 'volume' else info.measure}"


def _change_text(info: FeatureInfo, days: int, now: float, before: float, usual: str) -> str:
    verb = "fell" if now < before else "rose"
    return f"{info.subject} {verb} from {figure(info, before)} to {figure(info, now)} in {days} days{usual}"


def _days(value: float) -> str:
    if value < 1:
        return "less than a day"
    rounded = round(value) if value >= 3 else round(value, 1)
    return "1 day" if rounded == 1 else f"{rounded:g} days"


def _singular(subject: str) -> str:
    if subject.endswith("ies"):
        return subject[:-3] + "y"
    return subject[:-1] if subject.endswith("s") and not subject.endswith("ss") else subject
