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
        by_groups,
        choose,
        embargoed,
        months,
        replay,
        rolling_origin,
    )
    from partnerml.models._blend import SPREAD, Blend, Component, blended, choose_weights
    from partnerml.models._buy_till_you_die import BuyTillYouDie, Transactions
    from partnerml.models._calibration import PlattCalibrator
    from partnerml.models._challenge import Contest, decide, enough
    from partnerml.models._classifier import BoostedTrees
    from partnerml.models._conditions import Condition
    from partnerml.models._crossfit import cluster_groups, cross_fitted_loss
    from partnerml.models._drift import drift_baseline
    from partnerml.models._evaluate import (
        Difference,
        Interval,
        Verdict,
        evaluate,
        fold_table,
        intervals,
        paired_difference,
        promotable,
    )
    from partnerml.models._explain import Reason, explain
    from partnerml.models._group_survival import Contrast
    from partnerml.models._hazard import DiscreteTimeHazard, PersonPeriods, person_periods, shifted
    from partnerml.models._importance import Driver, dependence, explanation, importance
    from partnerml.models._importance_plots import importance_figures
    from partnerml.models._intervals import GroupIntervals, ScoreGroup, group_intervals
    from partnerml.models._lineage import Lineage
    from partnerml.models._logistic import LogLogistic
    from partnerml.models._maturing import Maturing
    from partnerml.models._metrics import (
        METRICS,
        PerfectEce,
        calibration_curve,
        gain,
        metrics,
        perfect_ece,
        precision_at,
        score_counts,
    )
    from partnerml.models._neighbours import NearestPartners, Neighbour
    from partnerml.models._permutation import permutation_values
    from partnerml.models._plots import figures, svg
    from partnerml.models._positive_unlabelled import (
        BaggedPositiveUnlabelled,
        ClassPrior,
        balanced_weights,
        prior_range,
    )
    from partnerml.models._profile import Lift, Profile
    from partnerml.models._profile_plot import profile_figure
    from partnerml.models._profile_search import ideal_profile
    from partnerml.models._registry import Registered, Registry
    from partnerml.models._segments import segment_labels, segments
    from partnerml.models._selected_at_random import selected_at_random
    from partnerml.models._selection import (
        Overlap,
        Weighting,
        effective_sample_size,
        inverse_propensity,
        standardised_rates,
    )
    from partnerml.models._shap import shap_explanation, shap_figure
    from partnerml.models._shrinkage import PeerRate
    from partnerml.models._success import MonthlyTrees, SuccessHazard, success_grid
    from partnerml.models._survival import KaplanMeier, censoring_weights, median_days, restricted_mean_days
    from partnerml.models._target_statistics import OrderedTargetStatistics, known_rows
    from partnerml.models._thresholds import Selection, threshold_by_capacity, threshold_by_cost
    from partnerml.models._tuning import Parameter, Search, Trial, optuna_module, search

_HOMES = {
    "Backtest": "_backtest",
    "BaggedPositiveUnlabelled": "_positive_unlabelled",
    "BaseRate": "_backtest",
    "Blend": "_blend",
    "BoostedTrees": "_classifier",
    "BuyTillYouDie": "_buy_till_you_die",
    "Choice": "_backtest",
    "ClassPrior": "_positive_unlabelled",
    "Component": "_blend",
    "Condition": "_conditions",
    "Contest": "_challenge",
    "Contrast": "_group_survival",
    "Difference": "_evaluate",
    "DiscreteTimeHazard": "_hazard",
    "Driver": "_importance",
    "Fold": "_backtest",
    "GroupIntervals": "_intervals",
    "Interval": "_evaluate",
    "KaplanMeier": "_survival",
    "Learner": "_backtest",
    "Lift": "_profile",
    "Lineage": "_lineage",
    "LogLogistic": "_logistic",
    "METRICS": "_metrics",
    "Maturing": "_maturing",
    "Model": "_artifact",
    "MonthlyTrees": "_success",
    "NearestPartners": "_neighbours",
    "Neighbour": "_neighbours",
    "OrderedTargetStatistics": "_target_statistics",
    "Overlap": "_selection",
    "Parameter": "_tuning",
    "PeerRate": "_shrinkage",
    "PerfectEce": "_metrics",
    "PersonPeriods": "_hazard",
    "PlattCalibrator": "_calibration",
    "Profile": "_profile",
    "Reason": "_explain",
    "Registered": "_registry",
    "Registry": "_registry",
    "SPREAD": "_blend",
    "ScoreGroup": "_intervals",
    "Search": "_tuning",
    "Selection": "_thresholds",
    "SuccessHazard": "_success",
    "Transactions": "_buy_till_you_die",
    "Trial": "_tuning",
    "Verdict": "_evaluate",
    "Weighting": "_selection",
    "backtest": "_backtest",
    "balanced_weights": "_positive_unlabelled",
    "blended": "_blend",
    "by_groups": "_backtest",
    "calibration_curve": "_metrics",
    "censoring_weights": "_survival",
    "choose": "_backtest",
    "choose_weights": "_blend",
    "cluster_groups": "_crossfit",
    "cross_fitted_loss": "_crossfit",
    "decide": "_challenge",
    "dependence": "_importance",
    "drift_baseline": "_drift",
    "effective_sample_size": "_selection",
    "embargoed": "_backtest",
    "enough": "_challenge",
    "evaluate": "_evaluate",
    "explain": "_explain",
    "explanation": "_importance",
    "figures": "_plots",
    "fold_table": "_evaluate",
    "gain": "_metrics",
    "group_intervals": "_intervals",
    "ideal_profile": "_profile_search",
    "importance": "_importance",
    "importance_figures": "_importance_plots",
    "intervals": "_evaluate",
    "inverse_propensity": "_selection",
    "known_rows": "_target_statistics",
    "load_model": "_artifact",
    "median_days": "_survival",
    "metrics": "_metrics",
    "months": "_backtest",
    "optuna_module": "_tuning",
    "paired_difference": "_evaluate",
    "perfect_ece": "_metrics",
    "permutation_values": "_permutation",
    "person_periods": "_hazard",
    "precision_at": "_metrics",
    "prior_range": "_positive_unlabelled",
    "profile_figure": "_profile_plot",
    "promotable": "_evaluate",
    "replay": "_backtest",
    "restricted_mean_days": "_survival",
    "rolling_origin": "_backtest",
    "score_counts": "_metrics",
    "search": "_tuning",
    "segment_labels": "_segments",
    "segments": "_segments",
    "selected_at_random": "_selected_at_random",
    "shap_explanation": "_shap",
    "shap_figure": "_shap",
    "shifted": "_hazard",
    "standardised_rates": "_selection",
    "success_grid": "_success",
    "svg": "_plots",
    "threshold_by_capacity": "_thresholds",
    "threshold_by_cost": "_thresholds",
}

__all__ = [
    "METRICS",
    "SPREAD",
    "Backtest",
    "BaggedPositiveUnlabelled",
    "BaseRate",
    "Blend",
    "BoostedTrees",
    "BuyTillYouDie",
    "Choice",
    "ClassPrior",
    "Component",
    "Condition",
    "Contest",
    "Contrast",
    "Difference",
    "DiscreteTimeHazard",
    "Driver",
    "Fold",
    "GroupIntervals",
    "Interval",
    "KaplanMeier",
    "Learner",
    "Lift",
    "Lineage",
    "LogLogistic",
    "Maturing",
    "Model",
    "MonthlyTrees",
    "NearestPartners",
    "Neighbour",
    "OrderedTargetStatistics",
    "Overlap",
    "Parameter",
    "PeerRate",
    "PerfectEce",
    "PersonPeriods",
    "PlattCalibrator",
    "Profile",
    "Reason",
    "Registered",
    "Registry",
    "ScoreGroup",
    "Search",
    "Selection",
    "SuccessHazard",
    "Transactions",
    "Trial",
    "Verdict",
    "Weighting",
    "backtest",
    "balanced_weights",
    "blended",
    "by_groups",
    "calibration_curve",
    "censoring_weights",
    "choose",
    "choose_weights",
    "cluster_groups",
    "cross_fitted_loss",
    "decide",
    "dependence",
    "drift_baseline",
    "effective_sample_size",
    "embargoed",
    "enough",
    "evaluate",
    "explain",
    "explanation",
    "figures",
    "fold_table",
    "gain",
    "group_intervals",
    "ideal_profile",
    "importance",
    "importance_figures",
    "intervals",
    "inverse_propensity",
    "known_rows",
    "load_model",
    "median_days",
    "metrics",
    "months",
    "optuna_module",
    "paired_difference",
    "perfect_ece",
    "permutation_values",
    "person_periods",
    "precision_at",
    "prior_range",
    "profile_figure",
    "promotable",
    "replay",
    "restricted_mean_days",
    "rolling_origin",
    "score_counts",
    "search",
    "segment_labels",
    "segments",
    "selected_at_random",
    "shap_explanation",
    "shap_figure",
    "shifted",
    "standardised_rates",
    "success_grid",
    "svg",
    "threshold_by_capacity",
    "threshold_by_cost",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
