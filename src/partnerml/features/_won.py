"""What became of the leads that partners were given: the label of the close task, as it was known at any moment.

Who refused a lead, when it was won and when it was lost each have a moment from which that is known. They are read
once; what was known at an `until` is then arithmetic on arrays, so that a backtest with many origins costs one query.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import ibis
import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml.errors import ConfigError
from partnerml.features._pair_outcomes import MOMENT, OVER, REFUSALS, column, ended_deals
from partnerml.features._spine import largest_lag, naive_utc
from partnerml.features._stream import seen_at
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_KEY = ["lead_id", "partner_id", "assigned_at"]
_NEVER = np.iinfo(np.int64).max
_DAY = 86_400_000_000  # microseconds
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Assigned:
    """The pairs of the close task: a lead and a partner that was given it and did not refuse it, as far as was known.

    A pair that was declined, that expired or that was withdrawn is left out: the score is the chance that the lead is
    won *given that the partner keeps it*.
    """

    @property
    def words(self) -> str:
        """Who belongs, in words."""
        return "pairs of a lead and a partner that was given it and did not decline it, let it expire or lose it"

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` was made from."""
        return cls()


@dataclasses.dataclass(frozen=True)
class WonLabel:
    """Won within `horizon_days` of the assignment: 1; not won by then: 0; not known yet: null.

    A lead is won by what its assignment says (``outcome``, ``closed_at``) or by a deal of the partner that names the
    lead (``deals.lead_id``), whichever is the earlier; a closing at ``assigned_at + horizon_days`` comes too late.

    Parameters
    ----------
    horizon_days : int

    Raises
    ------
    ConfigError
        If the horizon is not at least a day.
    """

    horizon_days: int = 180

    def __post_init__(self) -> None:
        if self.horizon_days < 1:
            raise ConfigError(f"horizon_days of close must be at least 1, not {self.horizon_days}")

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        return {"horizon_days": self.horizon_days}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` was made from."""
        return cls(int(state["horizon_days"]))


@dataclasses.dataclass(frozen=True, eq=False)
class PairOutcomes:
    """Every assignment, and what became of it, each with the moment from which it is known.

    Attributes
    ----------
    pairs : DataFrame
        ``lead_id``, ``partner_id``, ``assigned_at`` (naive UTC), and of the policy that chose: ``propensity`` (NaN
        where none was logged), ``origin`` (null where unknown). Sorted by (assigned_at, lead_id, partner_id).
    ends : DataFrame
        One row for each end that is on record: ``row`` (position in `pairs`), ``closed_at``, ``seen_at``
        (microseconds since 1970) and ``won``.
    known_at, refused_at : array of int64, shape (n,)
        Microseconds: from when the assignment is known, and from when a refusal is; the largest int64 for never.
    undated : array of bool, shape (n,)
        Marked as over, with no date to tell when: nobody works on them.
    undated_wins : array of bool, shape (n,)
        Those of them that were won: their label is never known. What was lost or cancelled on a day that nobody knows
        was not won, and is what it would be if it were open: many sources date their wins alone.
    lag : timedelta
        The largest of the tables that tell; labels mature so much later.
    """

    pairs: pd.DataFrame
    ends: pd.DataFrame
    known_at: Ints
    refused_at: Ints
    undated: Bools
    undated_wins: Bools
    lag: timedelta

    @property
    def assigned(self) -> Ints:
        """The moments of assignment, in microseconds, shape (n,)."""
        return _microseconds(self.pairs["assigned_at"])

    def given(self, until: Moment) -> Bools:
        """Mark the pairs that were known before a moment, refused or not; shape (n,)."""
        found: Bools = self.known_at < _microsecond(until)
        return found

    def known(self, until: Moment) -> Bools:
        """Mark the pairs that were known before a moment and, as far as was known, not refused; shape (n,)."""
        refused: Bools = self.refused_at < _microsecond(until)
        return self.given(until) & ~refused

    def ended(self, until: Moment) -> tuple[Ints, Ints]:
        """Return when each pair was won and when it was lost or cancelled, as known before a moment; shape (n,) each.

        Microseconds; the largest int64 where that is not known. What is won is not lost.
        """
        known = self.ends[self.ends["seen_at"].to_numpy() < _microsecond(until)]
        won, lost = (np.full(len(self.pairs), _NEVER) for _ in range(2))
        for moments, rows in ((won, known[known["won"]]), (lost, known[~known["won"]])):
            np.minimum.at(moments, rows["row"].to_numpy(), rows["closed_at"].to_numpy())
        return won, np.where(won < _NEVER, _NEVER, lost)

    def labels(self, label: WonLabel, until: Moment) -> pd.DataFrame:
        """Return the labels as they were known before a moment.

        Parameters
        ----------
        label : WonLabel
        until : moment
            What was recorded at or after it is unseen.

        Returns
        -------
        DataFrame of shape (n, 4), in the order of `pairs`
            ``y`` (1, 0, or NaN where not mature), ``duration_days`` to the win or to the end of what was observed,
            ``observed`` (whether the win was), and ``lost_days`` to the loss (NaN where none was observed). A pair that
            was lost is never won, so it counts as followed to the end.
        """
        assigned, end = self.assigned, _microsecond(until)
        horizon, lag = label.horizon_days * _DAY, self.lag // timedelta(microseconds=1)
        won, lost = self.ended(until)
        seen_until = np.maximum(assigned, end - lag)
        mature = (assigned + horizon + lag <= end) & ~self.undated_wins
        stops = np.where(won < _NEVER, won, seen_until)
        return pd.DataFrame(
            {
                "y": np.where(mature, (won < assigned + horizon).astype(np.float64), np.nan),
                "duration_days": (stops - assigned) / _DAY,
                "observed": won < _NEVER,
                "lost_days": np.where(lost < _NEVER, (np.where(lost < _NEVER, lost, 0) - assigned) / _DAY, np.nan),
            }
        )

    def live(self, label: WonLabel, as_of: Moment) -> pd.DataFrame:
        """Return the pairs that are being worked on at a moment: ``lead_id``, ``partner_id``, ``assigned_at``.

        Known and not refused, neither won nor lost, the lead not won by another partner either, and assigned less
        than a horizon ago: of older ones the question is answered. Of a lead that a partner was given twice, the
        latest.
        """
        won, lost = self.ended(as_of)
        taken = self.pairs["lead_id"].isin(self.pairs["lead_id"][won < _NEVER]).to_numpy()
        young = self.assigned + label.horizon_days * _DAY > _microsecond(as_of)
        chosen = self.known(as_of) & ~taken & (lost == _NEVER) & ~self.undated & young
        pairs = self.pairs.loc[chosen, _KEY]
        return pairs.drop_duplicates(["lead_id", "partner_id"], keep="last").reset_index(drop=True)

    def places(self, keys: pd.DataFrame) -> npt.NDArray[np.intp]:
        """Return the position in `pairs` of rows by ``lead_id``, ``partner_id`` and ``as_of`` (or ``assigned_at``)."""
        moments = keys["assigned_at"] if "assigned_at" in keys else keys["as_of"]
        if moments.dt.tz is not None:
            moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
        asked = pd.MultiIndex.from_arrays([keys["lead_id"], keys["partner_id"], moments.astype("datetime64[us]")])
        return pd.MultiIndex.from_frame(self.pairs[_KEY]).get_indexer(asked)


def won_tables(eco: Ecosystem) -> tuple[str, ...]:
    """Return the tables that tell what was won; the largest of their lags delays maturity."""
    deals = eco.has("deals", "lead_id", "closed_at")
    return ("assignments", *(("deals",) if deals else ()))


def pair_outcomes(eco: Ecosystem) -> PairOutcomes:
    """Read every assignment and what became of it.

    Raises
    ------
    ConfigError
        If there are no assignments, or nothing says when they were won.
    """
    if not eco.has("assignments"):
        raise ConfigError("close needs the table assignments: which lead was given to which partner, and when; map it")
    if not eco.has("assignments", "outcome", "closed_at") and not eco.has("deals", "lead_id", "closed_at"):
        raise ConfigError(
            "close needs to know what was won and when: map assignments.outcome with assignments.closed_at, or "
            "deals.lead_id with deals.closed_at"
        )
    made = _made(eco)
    pairs = made[[*_KEY, "propensity", "origin"]].copy()
    refused = made["response"].isin(REFUSALS).to_numpy()
    lag = eco.lag("assignments") // timedelta(microseconds=1)
    assigned = _microseconds(made["assigned_at"])
    # nothing is answered before it was asked; an answer without a date is taken to be at once
    answered = np.maximum(assigned, _microseconds(made["responded_at"].fillna(made["assigned_at"])))
    own = made["outcome"].isin(OVER).to_numpy()
    dated = own & made["closed_at"].notna().to_numpy()
    ends = [_own_ends(made, dated), _ends_of_deals(eco, pairs)]
    found = pd.concat([part for part in ends if len(part)] or ends[:1], ignore_index=True)
    undated = own & ~dated & ~np.isin(np.arange(len(made)), found["row"])
    return PairOutcomes(
        pairs=pairs,
        ends=found.sort_values(["row", "seen_at", "closed_at", "won"], ignore_index=True),
        known_at=assigned + lag,
        refused_at=np.where(refused, answered + lag, _NEVER),
        undated=undated,
        undated_wins=undated & (made["outcome"] == "won").to_numpy(dtype=bool),
        lag=largest_lag(eco, won_tables(eco)),
    )


def _made(eco: Ecosystem) -> pd.DataFrame:
    """Return the assignments in order, with null columns for those that the table lacks."""
    rows = eco.table("assignments")
    types = {"response": "string", "responded_at": MOMENT, "outcome": "string", "closed_at": MOMENT}
    types |= {"propensity": "float64", "origin": "string"}
    seen: Any = ibis.null(MOMENT)
    if eco.has("assignments", "closed_at"):
        seen = seen_at(eco, "assignments", rows, "closed_at", "closed_recorded_at")
    chosen = rows.select(*_KEY, seen_at=seen, **{name: column(rows, name, type_) for name, type_ in types.items()})
    frame: pd.DataFrame = eco.backend.to_pyarrow(chosen).to_pandas(date_as_object=False)
    moments = dict.fromkeys(("assigned_at", "responded_at", "closed_at", "seen_at"), "datetime64[us]")
    frame = frame.astype({"lead_id": "str", "partner_id": "str", "propensity": "float64", **moments})
    return frame.sort_values(["assigned_at", "lead_id", "partner_id"], ignore_index=True)


def _own_ends(made: pd.DataFrame, dated: Bools) -> pd.DataFrame:
    """Return the ends that the assignments tell themselves; none comes before the assignment."""
    rows = made[dated]
    assigned = _microseconds(rows["assigned_at"])
    return pd.DataFrame(
        {
            "row": np.flatnonzero(dated),
            "closed_at": np.maximum(assigned, _microseconds(rows["closed_at"])),
            "seen_at": np.maximum(assigned, _microseconds(rows["seen_at"])),
            "won": (rows["outcome"] == "won").to_numpy(dtype=bool),
        }
    )


def _ends_of_deals(eco: Ecosystem, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the ends of deals that came of a lead, for each assignment of that lead to a partner on the deal.

    A deal that had closed before the lead was given came of something else.
    """
    deals = ended_deals(eco) if eco.has("deals", "lead_id") else None
    if deals is None:
        return pd.DataFrame({"row": [], "closed_at": [], "seen_at": [], "won": []}).astype({"won": bool})
    deals = deals.filter(deals.lead_id.notnull())  # noqa: PD004 (an Ibis column)
    table = deals.select("lead_id", "partner_id", "closed_at", "seen_at", won=deals.outcome == "won")
    found: pd.DataFrame = eco.backend.to_pyarrow(table).to_pandas(date_as_object=False)
    found = found.astype({"lead_id": "str", "partner_id": "str", "won": bool})
    both = found.merge(pairs[_KEY].assign(row=np.arange(len(pairs))), on=["lead_id", "partner_id"])
    after = (both["closed_at"] >= both["assigned_at"]).to_numpy()
    both = both[after]
    moments = {name: _microseconds(both[name]) for name in ("closed_at", "seen_at")}
    return pd.DataFrame({"row": both["row"].to_numpy(), **moments, "won": both["won"].to_numpy()})


def _microseconds(moments: pd.Series) -> Ints:
    """Return naive moments as microseconds since 1970."""
    return moments.to_numpy().astype("datetime64[us]").astype(np.int64)


def _microsecond(moment: Moment) -> int:
    naive: datetime = naive_utc(moment)
    return (naive - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 (naive UTC, as inside the engine)
