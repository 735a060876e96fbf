"""The tasks: what a row is, who belongs, what is predicted. Four values of one type: churn, fit, propensity and close.

>>> from partnerml import tasks
>>> tasks.churn(horizon_days=90).horizon_days
90
"""

from __future__ import annotations

from partnerml.tasks._building import build_dataset, build_features, cells_of, feature_catalogue
from partnerml.tasks._choosing import MAX_STALE_DAYS, configured, from_config, staleness, wanted
from partnerml.tasks._churn import RISK_DAYS, churn, history_days, nobody, snapshots, transactions
from partnerml.tasks._close import close
from partnerml.tasks._fit import fit
from partnerml.tasks._kinds import NAMES
from partnerml.tasks._propensity import propensity
from partnerml.tasks._task import Kind, Task

__all__ = [
    "MAX_STALE_DAYS",
    "NAMES",
    "RISK_DAYS",
    "Kind",
    "Task",
    "build_dataset",
    "build_features",
    "cells_of",
    "churn",
    "close",
    "configured",
    "feature_catalogue",
    "fit",
    "from_config",
    "history_days",
    "nobody",
    "propensity",
    "snapshots",
    "staleness",
    "transactions",
    "wanted",
]
