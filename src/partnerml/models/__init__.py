"""Model components, evaluation, the saved model and the registry.

Names are imported on first use, so that a routing process that loads a model does not pay for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partnerml.models._artifact import Model, load_model
    from partnerml.models._backtest import (
        Backtest,
        BaseRate,
        Choice,
        Fold,
        Learner,
        backtest,
        choose,
        replay,
        rolling_origin,
    )
    from partnerml.models._blend import Blend, Component, blended, choose_weights
    from partnerml.models._buy_till_you_die import BuyTillYouDie, Transactions
    from partnerml.models._calibration import PlattCalibrator
    from partnerml.models._classifier import BoostedTrees
    from partnerml.models._evaluate import (
        Difference,
        Interval,
        Verdict,
        evaluate,
        intervals,
        paired_difference,
        promotable,
    )
    from partnerml.models._explain import Reason, explain
    from partnerml.models._hazard import DiscreteTimeHazard, PersonPeriods, person_periods, shifted
    from partnerml.models._logistic import LogLogistic
    from partnerml.models._metrics import (
        METRICS,
        PerfectEce,
        calibration_curve,
        gain,
        metrics,
        perfect_ece,
        score_counts,
    )
    from partnerml.models._plots import figures, svg
    from partnerml.models._registry import Registered, Registry
    from partnerml.models._target_statistics import OrderedTargetStatistics, known_rows

_HOMES = {
    "Backtest": "_backtest",
    "BaseRate": "_backtest",
    "Blend": "_blend",
    "BoostedTrees": "_classifier",
    "BuyTillYouDie": "_buy_till_you_die",
    "Choice": "_backtest",
    "Component": "_blend",
    "Difference": "_evaluate",
    "DiscreteTimeHazard": "_hazard",
    "Fold": "_backtest",
    "Interval": "_evaluate",
    "Learner": "_backtest",
    "LogLogistic": "_logistic",
    "METRICS": "_metrics",
    "Model": "_artifact",
    "OrderedTargetStatistics": "_target_statistics",
    "PerfectEce": "_metrics",
    "PersonPeriods": "_hazard",
    "PlattCalibrator": "_calibration",
    "Reason": "_explain",
    "Registered": "_registry",
    "Registry": "_registry",
    "Transactions": "_buy_till_you_die",
    "Verdict": "_evaluate",
    "backtest": "_backtest",
    "blended": "_blend",
    "calibration_curve": "_metrics",
    "choose": "_backtest",
    "choose_weights": "_blend",
    "evaluate": "_evaluate",
    "explain": "_explain",
    "figures": "_plots",
    "gain": "_metrics",
    "intervals": "_evaluate",
    "known_rows": "_target_statistics",
    "load_model": "_artifact",
    "metrics": "_metrics",
    "paired_difference": "_evaluate",
    "perfect_ece": "_metrics",
    "person_periods": "_hazard",
    "promotable": "_evaluate",
    "replay": "_backtest",
    "rolling_origin": "_backtest",
    "score_counts": "_metrics",
    "shifted": "_hazard",
    "svg": "_plots",
}

__all__ = [
    "METRICS",
    "Backtest",
    "BaseRate",
    "Blend",
    "BoostedTrees",
    "BuyTillYouDie",
    "Choice",
    "Component",
    "Difference",
    "DiscreteTimeHazard",
    "Fold",
    "Interval",
    "Learner",
    "LogLogistic",
    "Model",
    "OrderedTargetStatistics",
    "PerfectEce",
    "PersonPeriods",
    "PlattCalibrator",
    "Reason",
    "Registered",
    "Registry",
    "Transactions",
    "Verdict",
    "backtest",
    "blended",
    "calibration_curve",
    "choose",
    "choose_weights",
    "evaluate",
    "explain",
    "figures",
    "gain",
    "intervals",
    "known_rows",
    "load_model",
    "metrics",
    "paired_difference",
    "perfect_ece",
    "person_periods",
    "promotable",
    "replay",
    "rolling_origin",
    "score_counts",
    "shifted",
    "svg",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
