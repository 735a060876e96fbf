"""The ideal partner profile: what goes with success, as a value, a table and words.

It is found by `partnerml.models._profile_search`. A profile says what goes with success, not what makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml.models._conditions import Condition
from partnerml.models._group_survival import Contrast

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Period:
    """What partners that joined in one period say about a split.

    Attributes
    ----------
    joined_from, joined_to : str
        First and last day of joining, ISO 8601.
    ratio : float or None
        How often the group succeeded, relative to the others, by successes seen over those expected; None where fewer
        than two are expected on either side.
    """

    joined_from: str
    joined_to: str
    ratio: float | None


@dataclasses.dataclass(frozen=True)
class Lift:
    """Success of the partners with a trait, or two, beside that of all others.

    Attributes
    ----------
    conditions : tuple of Condition
        One, or two that hold together.
    partners, successes : int
        How many there are, and how many of them were seen to succeed in time.
    share : float
        Of all partners.
    contrast : Contrast
        Rates, lift, intervals and p-value.
    q_value : float
        The p-value, corrected: the share of false discoveries among all that have one as low.
    periods : tuple of Period
        The direction in each period of joining.
    alone : tuple of float
        For two conditions: the rate of the partners that fulfil the first and not the second, and the other way round.
    """

    conditions: tuple[Condition, ...]
    partners: int
    successes: int
    share: float
    contrast: Contrast
    q_value: float
    periods: tuple[Period, ...]
    alone: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """The conditions in words, such as "country is DE and verticals include retail"."""
        return " and ".join(condition.words for condition in self.conditions)

    @property
    def agreeing(self) -> tuple[int, int]:
        """In how many periods the direction is the same, and how many have a say."""
        ratios = [period.ratio for period in self.periods if period.ratio is not None]
        return sum((ratio > 1) == (self.contrast.lift > 1) for ratio in ratios), len(ratios)

    @property
    def stable(self) -> bool:
        """Whether all periods that have a say agree, and there are at least two."""
        agree, of = self.agreeing
        return of >= 2 and agree == of

    def sentence(self, success_days: int) -> str:
        """Tell it in one sentence."""
        found = self.contrast
        who = f"Partners whose {self.words} (n = {self.partners:,}, {100 * self.share:.0f} %)"
        times = "" if np.isinf(found.lift) else f" {_times(found.lift)} times as often as the others"
        rates = f"{100 * found.rate:.0f} % against {100 * found.rest_rate:.0f} % within {success_days} days"
        span = f"95 % interval of the ratio {_times(found.lift_low)} to {_times(found.lift_high)}"
        agree, of = self.agreeing
        alone = " and ".join(f"{100 * rate:.0f} %" for rate in self.alone)
        either = f"with the first alone and the second alone {alone}; " if alone else ""
        return (
            f"{who} succeed{times}: {rates} ({span}); {either}"
            f"the direction is the same in {agree} of {of} periods of joining"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is infinite is null."""
        flat = {name: None if np.isinf(value) else value for name, value in dataclasses.asdict(self.contrast).items()}
        agree, of = self.agreeing
        return {
            "words": self.words,
            "conditions": [condition.to_dict() for condition in self.conditions],
            "partners": self.partners,
            "successes": self.successes,
            "share": self.share,
            **flat,
            "q_value": self.q_value,
            "stable": self.stable,
            "agree": agree,
            "of": of,
            "periods": [dataclasses.asdict(period) for period in self.periods],
            "alone": list(self.alone),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Lift:
        """Rebuild from `to_dict`."""
        names = [field.name for field in dataclasses.fields(Contrast)]
        return cls(
            tuple(Condition.from_dict(condition) for condition in state["conditions"]),
            int(state["partners"]),
            int(state["successes"]),
            float(state["share"]),
            Contrast(**{name: float("inf") if state[name] is None else float(state[name]) for name in names}),
            float(state["q_value"]),
            tuple(Period(**period) for period in state["periods"]),
            tuple(float(rate) for rate in state["alone"]),
        )


@dataclasses.dataclass(frozen=True)
class Profile:
    """What goes with success.

    Attributes
    ----------
    success_days : int
        By when a partner succeeds.
    partners, successes : int
        How many partners there are, and how many were seen to succeed in time.
    rate, low, high : float
        Share of all that succeeds, with its 95 % interval.
    traits : tuple of Lift
        Every single trait that was looked at, surest first.
    combinations : tuple of Lift
        The combinations that were found; surest first.
    tested : int
        How many combinations were looked at.
    false_discoveries : float
        The q-value up to which a split counts as found.
    """

    success_days: int
    partners: int
    successes: int
    rate: float
    low: float
    high: float
    traits: tuple[Lift, ...]
    combinations: tuple[Lift, ...]
    tested: int
    false_discoveries: float

    @property
    def found(self) -> tuple[Lift, ...]:
        """What is beyond chance and holds in all periods that have a say; what helps most comes first.

        In order of the lower end of the lift's interval: a large lift of few partners does not come before a sure one.
        """
        sure = [lift for lift in (*self.traits, *self.combinations) if self._beyond_chance(lift) and lift.stable]
        return tuple(sorted(sure, key=lambda lift: (-lift.contrast.lift_low, -lift.partners, lift.words)))

    @property
    def lifting(self) -> tuple[Lift, ...]:
        """Those of `found` that go with more success, what helps most first."""
        return tuple(lift for lift in self.found if lift.contrast.lift > 1)

    @property
    def lowering(self) -> tuple[Lift, ...]:
        """Those of `found` that go with less success, what is most surely low first."""
        low = [lift for lift in self.found if lift.contrast.lift < 1]
        return tuple(sorted(low, key=lambda lift: (lift.contrast.lift_high, -lift.partners, lift.words)))

    def _beyond_chance(self, lift: Lift) -> bool:
        return lift.q_value <= self.false_discoveries

    def frame(self) -> pd.DataFrame:
        """Return one row a split: all single traits, and the combinations that were found.

        Returns
        -------
        DataFrame
            ``words``, ``partners``, ``share``, ``successes``, ``rate``, ``low``, ``high``, ``rest_rate``, ``lift``,
            ``lift_low``, ``lift_high``, ``p_value``, ``q_value``, ``effective``, ``agree``, ``of``, ``stable`` and
            ``found``.
        """
        found = {lift.words for lift in self.found}
        columns = [
            *("words", "partners", "share", "successes", "rate", "low", "high", "rest_rate", "lift", "lift_low"),
            *("lift_high", "p_value", "q_value", "effective", "agree", "of", "stable"),
        ]
        rows = [lift.to_dict() for lift in (*self.traits, *self.combinations)]
        frame = pd.DataFrame([{name: row[name] for name in columns} for row in rows], columns=columns)
        return frame.assign(found=frame["words"].isin(found))

    def words(self, *, top: int = 5) -> list[str]:
        """Tell the profile in sentences: all together, then what lifts success most, then what goes with less of it."""
        told = [
            f"{100 * self.rate:.0f} % of {self.partners:,} partners succeed within {self.success_days} days "
            f"(95 % interval {100 * self.low:.0f} % to {100 * self.high:.0f} %)"
        ]
        shown = (*self.lifting[:top], *self.lowering[:top])
        told.extend(lift.sentence(self.success_days) for lift in shown)
        if len(told) == 1:
            told.append(
                f"None of {len(self.traits)} traits and {self.tested} combinations goes with more or less success, "
                "beyond chance and in every period of joining"
            )
        return told

    def figure(self, *, top: int = 12) -> Figure:
        """Draw the lifts that were found with their intervals, as a forest plot."""
        from partnerml.models._profile_plot import profile_figure

        return profile_figure(self, top=top)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the words included."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("traits", "combinations")
        }
        return {
            **plain,
            "traits": [lift.to_dict() for lift in self.traits],
            "combinations": [lift.to_dict() for lift in self.combinations],
            "words": self.words(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Profile:
        """Rebuild from `to_dict`."""
        lifts = {name: tuple(Lift.from_dict(row) for row in state[name]) for name in ("traits", "combinations")}
        return cls(**{**{key: value for key, value in state.items() if key != "words"}, **lifts})


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
