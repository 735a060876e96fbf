"""Made-up scores and a made-up model, for tests of what shows them."""

import copy
import datetime as dt
import functools
import types

import numpy as np
import pandas as pd

from partnerml.dataset import FeatureInfo
from partnerml.models._evaluate import evaluate

AS_OF = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
LOGINS = "events__portal_login__count__30d"
DEALS = "deals__registered__count__90d"


def info(name: str, subject: str) -> FeatureInfo:
    return FeatureInfo(name, "", "events", (), 30, "", subject, subject, "count", subject, "count")


def scores(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = np.sort(rng.beta(0.8, 3.0, n))[::-1]
    revenue = np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(10, 1, n))
    reasons = [
        [
            {"feature": LOGINS, "value": 3.0, "effect": 0.8, "text": "portal logins fell from 14 to 3 in 30 days"},
            {"feature": DEALS, "value": 1.0, "effect": -0.3, "text": "deals registered steady at 2 in 90 days"},
        ]
        for _ in range(n)
    ]
    return pd.DataFrame(
        {
            "partner_id": [f"p{i:04d}" for i in range(n)],
            "as_of": pd.Timestamp(AS_OF),
            "task": "churn",
            "score": score,
            "percentile": np.linspace(100, 0, n),
            "band": np.asarray(["low", "medium", "high", "critical"])[
                np.searchsorted([0.25, 0.5, 0.75], score, "right")
            ],
            "trend": rng.choice(["rising", "steady", "falling", "new"], n),
            "reasons": reasons,
            "risk_30d": np.nan,
            "risk_60d": np.nan,
            "risk_90d": score,
            "risk_180d": np.sqrt(score),
            "revenue_at_risk": score * revenue,
            "model_version": "0123456789ab",
        }
    )


def partners(frame: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = len(frame)
    return pd.DataFrame(
        {
            "partner_id": frame["partner_id"],
            "name": [f"Partner {i}" if i % 3 else None for i in range(n)],
            "partner_type": rng.choice(["reseller", "integrator", "msp"], n),
            "country": rng.choice(["DE", "FR", "US", "JP", "BR"], n),
            "tier": pd.Series(rng.choice(["gold", "silver", "registered"], n)).where(rng.random(n) < 0.9),
        }
    )


@functools.cache
def evaluation(seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.8, 3.0, 1500)
    y = (rng.random(1500) < p).astype(float)
    said = {"model": p, "recency": np.clip(p + rng.normal(0, 0.2, 1500), 0.02, 0.98), "base_rate": np.full(1500, 0.2)}
    found = evaluate(y, said, np.arange(1500) % 400, n_boot=50)
    found["folds"] = [
        {
            "as_of": f"2026-0{month}-01T00:00:00+00:00",
            "model": name,
            "rows": 300,
            "mean_prediction": 0.2,
            "base_rate": 0.22,
        }
        for month in range(1, 6)
        for name in said
    ]
    found["weights"] = {"trees": 0.4, "logistic": 0.6, "bgnbd": 0.0}
    found["verdict"] = {"reason": "the model's log loss of 0.3 is below that of recency alone"}
    return found


def model(seed: int = 2) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        version="0123456789ab",
        task={"label": {"horizon_days": 90, "inactivity_days": 90}},
        evaluation=copy.deepcopy(evaluation(seed)),
        training={
            "until": "2026-03-01T00:00:00+00:00",
            "as_of": ["2025-06-01T00:00:00+00:00", "2025-11-01T00:00:00+00:00"],
            "rows": 1500,
            "partners": 400,
            "base_rate": 0.2,
            "data_fingerprint": "feedbeef",
            "seed": 0,
        },
        dictionary=(info(LOGINS, "portal logins"), info(DEALS, "deals registered")),
    )


def other_scores(task: str, n: int = 30, *, rank: bool = False) -> pd.DataFrame:
    """Return scores of fit, propensity or close."""
    frame = scores(n).drop(columns=["risk_30d", "risk_60d", "risk_90d", "risk_180d", "revenue_at_risk"])
    if task == "fit":
        return frame.assign(task=task, median_days_to_success=[200.0, *[np.nan] * (n - 1)], restricted_mean_days=300.0)
    if task == "close":
        return frame.assign(task=task, lead_id=[f"l{i:04d}" for i in range(n)], trend=None)
    near = [{"partner_id": "p0001", "similarity": 0.9, "shared": ["country DE"]}]
    accounts = frame.rename(columns={"partner_id": "account_id"})
    return accounts.assign(task=task, is_probability=not rank, nearest_partners=[near] * n)


def other_model(task: str) -> types.SimpleNamespace:
    """Return a model of fit, propensity or close."""
    made = model()
    made.task, made.horizon_days, made.documents = {"name": task, "label": {"horizon_days": 180}}, 180.0, {}
    if task == "fit":
        made.documents = {"profile": {"words": ["Partners in DE succeed 1.6 times as often as others"]}}
    return made
