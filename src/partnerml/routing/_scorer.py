"""Who scores lead and partner: the close model, rates where there is none, a function of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from partnerml.errors import DataError, ModelError
from partnerml.pairs import FEATURES, PSEUDO_COUNT, Leads, Pairing, PartnerFacts
from partnerml.routing._meetings import Meetings, varies
from partnerml.routing._remembered import FEW_ENOUGH

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from partnerml.models import Model, PeerRate
    from partnerml.models._binary import Columns
    from partnerml.models._quick import Additive, Unseen
    from partnerml.routing._situation import Situation

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BELOW_ONE = 1e-9
_AT_ONCE = 2_048  # pairs whose trees fit into a cache
_LITTLE = 0.03  # of all that features add
_SOURCE = "pair__source__own__asof"


class Scored:
    """What a scorer says of some partners.

    Parameters
    ----------
    p : array, shape (m,)
        P(won) if the partner keeps the lead.
    spread : callable
        Returns how uncertain each of them is, as a standard deviation of p; asked for by few policies.
    """

    def __init__(self, p: Floats, spread: Callable[[], Floats] | None = None) -> None:
        self.p = p
        self._spread = spread

    @functools.cached_property
    def spread(self) -> Floats:
        """The standard deviation of each p, shape (m,); 0 where nothing is known of it."""
        return np.zeros(len(self.p)) if self._spread is None else self._spread()


class Scorer(Protocol):
    """What scores the pairs of a lead and partners."""

    @property
    def version(self) -> str:
        """What tells this scorer from others."""

    def score(self, situation: Situation, rows: Ints) -> Scored:
        """Return P(won) of the lead with the partners of some rows, each in [0, 1]."""

    @property
    def ceiling(self) -> float:
        """Above which no chance is, in (0, 1]."""

    def glance(self, situation: Situation, rows: Ints) -> Floats:
        """Return a cheap score, shape (m,): the log-odds of about P(won) over the ceiling.

        What the first stage of very many partners goes by.
        """

    def reasons(self, situation: Situation, row: int, top: int) -> list[dict[str, Any]]:
        """Return what moved the score of one partner most: feature, value, effect (log-odds) and text of each."""


class CallableScorer:
    """A function of one's own.

    Parameters
    ----------
    function : callable
        Takes the situation and the rows, an array of int of shape (m,), and returns P(won), shape (m,).
    version : str
        What tells it from others.
    """

    ceiling = 1.0

    def __init__(self, function: Callable[[Situation, Ints], Any], *, version: str = "callable") -> None:
        self.function, self._version = function, version

    @property
    def version(self) -> str:
        """What tells it from others."""
        return self._version

    def score(self, situation: Situation, rows: Ints) -> Scored:
        """Return what the function says.

        Raises
        ------
        DataError
            If it is not one probability for each row.
        """
        p = np.asarray(self.function(situation, rows), dtype=np.float64)
        if p.shape != (len(rows),) or not ((p >= 0.0) & (p <= 1.0)).all():
            raise DataError(
                f"scorer {self.version!r}: it must return one probability in [0, 1] for each of the {len(rows)} rows "
                f"that it was asked; got an array of shape {p.shape} with {int((~((p >= 0) & (p <= 1))).sum())} "
                "value(s) outside"
            )
        return Scored(p)

    def glance(self, situation: Situation, rows: Ints) -> Floats:
        """Return the log-odds of the function itself: nothing cheaper is known."""
        return log_odds(self.score(situation, rows).p)

    def reasons(self, situation: Situation, row: int, top: int) -> list[dict[str, Any]]:
        """Return nothing: a function tells no reasons."""
        return []


class RateScorer:
    """The win rate of each partner over all that it closed, drawn toward everybody's: what there is without a model."""

    ceiling = 1.0

    @property
    def version(self) -> str:
        """Its name."""
        return "rates"

    def score(self, situation: Situation, rows: Ints) -> Scored:
        """Return the rates; one half where nobody has closed anything."""
        rate = np.nan_to_num(situation.snapshot.facts.record.rate[rows], nan=0.5)

        def spread() -> Floats:
            closed = situation.snapshot.facts.record.own.closed[rows]
            return np.asarray(np.sqrt(rate * (1.0 - rate) / (closed + PSEUDO_COUNT + 1.0)))

        return Scored(rate, spread)

    def glance(self, situation: Situation, rows: Ints) -> Floats:
        """Return the log-odds of the rates."""
        return log_odds(self.score(situation, rows).p)

    def reasons(self, situation: Situation, row: int, top: int) -> list[dict[str, Any]]:
        """Return the record of the partner in words."""
        own = situation.snapshot.facts.record.own
        won, closed = int(own.won[row]), int(own.closed[row])
        text = f"won {won} of {closed} deals and leads" if closed else "no deal or lead closed so far"
        rate = float(self.score(situation, np.array([row])).p[0])
        reason = {"feature": "pair__all__win_rate__ever", "value": rate, "effect": 0.0, "text": text}
        return [reason][:top]


class ModelScorer:
    """The close model, on matrices: as `Model.predict_proba` scores the same pairs, without a frame.

    What does not depend on the lead lies ready in one matrix, a row for each partner; the kernels of `partnerml.pairs`
    fill in the rest for the rows that are asked.

    Parameters
    ----------
    model : Model
        Of the task close.
    known : PartnerFacts
        What was known of partners at 00:00 UTC of the day.
    codes : array, shape (n, len(wanted(model)))
        For each of those partners the features that do not depend on a lead, text columns as codes; a memory map will
        do. What depends on the lead is NaN.
    unseen : mapping of str to mapping of int to str, optional
        Texts of these features that training never saw, by feature and row: scores take them for missing, as the model
        does, and reasons name them.
    """

    def __init__(self, model: Model, known: PartnerFacts, codes: Floats, unseen: Unseen | None = None) -> None:
        from partnerml.models._quick import QuickModel

        self.model, self.known, self.codes, self.unseen = model, known, codes, unseen or {}
        columns = _columns(model)
        live = [(place, name) for place, name in enumerate(columns.names) if varies(name)]
        self._meetings = Meetings(known, [name for _, name in live])
        self._quick = QuickModel(model, _peers(model), columns, codes, [place for place, _ in live], self.unseen)

    @classmethod
    def of(cls, model: Model, known: PartnerFacts, features: pd.DataFrame) -> Self:
        """Take the features of all partners, in the order of what is known of them.

        Parameters
        ----------
        model : Model
        known : PartnerFacts
        features : DataFrame, shape (n, q)
            Those of `wanted` that are not of pairs, as of 00:00 UTC of the day.
        """
        from partnerml.models._quick import unseen_texts

        of_pairs = {name: np.full(len(features), np.nan) for name in wanted(model) if name in FEATURES}
        alike = [name for name in of_pairs if not varies(name)]
        found = Pairing(Leads.of({}, known, n=1), known, 0, slice(None)).features(alike)
        of_pairs |= {name: found[:, j] for j, name in enumerate(alike)}
        columns, frame = _columns(model), features.assign(**of_pairs)
        codes = columns.encode(frame)
        return cls(model, known, codes, unseen_texts(columns, frame, codes))

    @classmethod
    def read(cls, folder: Path, known: PartnerFacts, codes: Floats, unseen: Unseen | None = None) -> Self:
        """Take a saved model.

        Raises
        ------
        ModelError
            If it is damaged, or the matrix is not of its features and these partners.
        """
        from partnerml.models import load_model

        model = load_model(folder)
        shape = (len(known), len(wanted(model)))
        if codes.shape != shape:
            raise ModelError(f"the features beside {folder} are of the shape {codes.shape}, not {shape}; publish again")
        return cls(model, known, codes, unseen)

    @property
    def version(self) -> str:
        """That of the model."""
        return self.model.version

    @property
    def ceiling(self) -> float:
        """That of the model's calibration."""
        return self.model.blend.calibrator.ceiling

    def score(self, situation: Situation, rows: Ints) -> Scored:
        """Return the model's scores; how uncertain they are is found out when it is asked for."""
        parts = self._parts(situation, rows)
        p = np.asarray(expit(self._quick.log_odds(parts)))
        return Scored(p, lambda: self._quick.spread(rows, self._meetings.values(situation, rows), parts))

    def _parts(self, situation: Situation, rows: Ints) -> dict[str, Floats]:
        """Return the log-odds of each component; of few partners, what depends on one word of the lead is kept."""
        meetings, quick = self._meetings, self._quick
        if not quick.keeps or len(self.known) > FEW_ENOUGH:
            return quick.log_odds_of_components(rows, meetings.values(situation, rows))
        kept = [
            meetings.remembered("kept", kind, situation, functools.partial(quick.kept, places))
            for kind, places in meetings.kinds.items()
        ]
        return quick.log_odds_by(rows, kept, meetings.here, meetings.values_here(situation, rows, meetings.here))

    def score_many(self, situations: Sequence[Situation], rows: Sequence[Ints]) -> list[Floats]:
        """Return what `score` says of each situation and its rows: the same to the last bit, and quicker."""
        every, values = np.concatenate(rows), self._meetings.values_of_many(situations, rows)
        p = np.empty(len(every))
        for start in range(0, len(every), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            p[some] = expit(self._quick.log_odds(self._quick.log_odds_of_components(every[some], values[some])))
        return np.split(p, np.cumsum([len(own) for own in rows])[:-1])

    def glance(self, situation: Situation, rows: Ints) -> Floats:
        """Return about the model's log-odds under its ceiling: as if what features add did not depend on each other."""
        meetings, additive = self._meetings, self._additive
        found: Floats = additive.base[rows]
        for kind, places in meetings.kinds.items():
            effect = functools.partial(_added, additive, places)
            if len(self.known) > FEW_ENOUGH:
                found += effect(meetings.block(kind, situation).take(rows, axis=0))
            else:
                found += meetings.remembered("glance", kind, situation, effect)[rows]
        return found + _added(additive, self._telling, meetings.values_here(situation, rows, self._telling))

    @functools.cached_property
    def _additive(self) -> Additive:
        from partnerml.models._quick import Additive

        # most leads that are to be routed were handed in by nobody, whatever those were that trained the model
        typical = {**self.model.training["typical"], _SOURCE: 0.0}
        return Additive(self._quick, np.array([typical.get(name, np.nan) for name in self._meetings.names]))

    @functools.cached_property
    def _telling(self) -> list[int]:
        """Those of the features that depend on the whole of the lead which are worth a look at all of very many."""
        strength = self._additive.strength
        return [place for place in self._meetings.here if strength[place] > _LITTLE * strength.sum()]

    def reasons(self, situation: Situation, row: int, top: int) -> list[dict[str, Any]]:
        """Return what moved the score of one partner most, in words."""
        rows = np.array([row])
        (told,) = self._quick.reasons(rows, self._meetings.values(situation, rows), top=top)
        return [reason.to_dict() for reason in told]


class SavedScorer:
    """The close model of a folder, read when a score is asked for first: to write an answer down takes none.

    Parameters
    ----------
    version : str
        Of the model.
    read : callable
        Returns its scorer.
    """

    def __init__(self, version: str, read: Callable[[], ModelScorer]) -> None:
        self._version, self._read = version, read

    @functools.cached_property
    def model_scorer(self) -> ModelScorer:
        """The scorer itself."""
        return self._read()

    @property
    def version(self) -> str:
        """That of the model."""
        return self._version

    def score(self, situation: Situation, rows: Ints) -> Scored:
        """Return the model's scores."""
        return self.model_scorer.score(situation, rows)

    def score_many(self, situations: Sequence[Situation], rows: Sequence[Ints]) -> list[Floats]:
        """Return what `score` says of each situation and its rows."""
        return self.model_scorer.score_many(situations, rows)

    @property
    def ceiling(self) -> float:
        """That of the model's calibration."""
        return self.model_scorer.ceiling

    def glance(self, situation: Situation, rows: Ints) -> Floats:
        """Return about the model's log-odds under its ceiling."""
        return self.model_scorer.glance(situation, rows)

    def reasons(self, situation: Situation, row: int, top: int) -> list[dict[str, Any]]:
        """Return what moved the score of one partner most, in words."""
        return self.model_scorer.reasons(situation, row, top)


def wanted(model: Model) -> tuple[str, ...]:
    """Return the features that a close model scores, explains and doubts by."""
    peers = _peers(model)
    more = () if peers is None else (str(name) for name in peers.feature_names_in_)
    return tuple(dict.fromkeys((*model.features, *more)))


def _peers(model: Model) -> PeerRate | None:
    """Return the rates of peers that every model of close is saved with."""
    from partnerml.models import PeerRate

    state = model.documents.get("peers")
    return None if state is None else PeerRate.from_state(state)


def _columns(model: Model) -> Columns:
    from partnerml.models._quick import coded

    return coded(model, _peers(model), wanted(model))


def _added(additive: Additive, places: Sequence[int], values: Floats) -> Floats:
    """Return what columns add together, shape (m,)."""
    total = np.zeros(len(values))
    for j, place in enumerate(places):
        total += additive.effect(place, values[:, j])
    return total


def log_odds(p: Floats) -> Floats:
    """Return finite log-odds of probabilities."""
    inside = np.clip(p, _BELOW_ONE, 1.0 - _BELOW_ONE)
    return np.asarray(np.log(inside) - np.log1p(-inside))
