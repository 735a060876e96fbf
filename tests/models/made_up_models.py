"""A small model on made-up partners, with every kind of component, for the tests of saving, logging and drawing."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from partnerml.dataset import FeatureInfo
from partnerml.models._artifact import Model
from partnerml.models._blend import Blend
from partnerml.models._buy_till_you_die import BuyTillYouDie
from partnerml.models._calibration import PlattCalibrator
from partnerml.models._classifier import BoostedTrees
from partnerml.models._evaluate import evaluate
from partnerml.models._hazard import DiscreteTimeHazard
from partnerml.models._logistic import LogLogistic
from partnerml.models._metrics import metrics

ACTIVE, RECENCY, AGE = (f"activity__all__{part}__ever" for part in ("active_days", "recency_days", "age_days"))
LOGINS, WON, COUNTRY = "events__portal_login__count__30d", "deals__won__amount__365d", "partners__country__trait__asof"


def frame(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and labels: who logs in seldom goes quiet."""
    generator = np.random.default_rng(seed)
    age = generator.integers(200, 900, size=n).astype(float)
    active = generator.integers(1, 60, size=n).astype(float)
    recency = np.where(active > 1, generator.uniform(1, 120, size=n).round(), age)
    logins = generator.poisson(6, size=n).astype(float)
    won = np.where(generator.random(n) < 0.3, np.nan, generator.gamma(2, 500, size=n))
    country = pd.Categorical(generator.choice(["AT", "DE", "NA", None], size=n))
    X = pd.DataFrame({COUNTRY: country, LOGINS: logins, ACTIVE: active, RECENCY: recency, AGE: age, WON: won})
    z = 1.2 - 0.35 * logins + 0.01 * recency + 0.8 * (country == "AT")
    return X, (generator.random(n) < 1 / (1 + np.exp(-z))).astype(float)


def dictionary() -> tuple[FeatureInfo, ...]:
    """One entry a feature."""
    return tuple(
        FeatureInfo(name, f"{name}.", name.split("__")[0], ("x",), None, "0", name, name, "count", name, "count")
        for name in frame(1)[0].columns
    )


@functools.cache
def made_up(seed: int = 0) -> Model:
    """A blend of three, its hazard and an evaluation that is no more than for show."""
    X, y = frame(seed=seed)
    components = {
        "trees": BoostedTrees(n_estimators=15, n_seeds=2, min_child_samples=20, random_state=seed, n_jobs=1).fit(X, y),
        "logistic": LogLogistic().fit(X, y),
        "bgnbd": BuyTillYouDie(n_background=16, random_state=seed).fit_features(X),
    }
    blend = Blend(components, {"trees": 0.5, "logistic": 0.3, "bgnbd": 0.2}, PlattCalibrator(1.1, -0.2))
    generator = np.random.default_rng(seed)
    duration = np.where(y == 1, 90.0, generator.uniform(91, 300, size=len(y)).round())
    hazard = DiscreteTimeHazard([90.0, 180.0]).fit(X, duration, (y == 1) | (duration < 250))
    partners = np.array([f"p{i:03d}" for i in range(len(y))])
    said = {"model": blend.predict_proba(X), "base_rate": np.full(len(y), y.mean())}
    folds = [
        {"as_of": f"2026-0{month}-01T00:00:00+00:00", "model": name, **metrics(y[month::3], p[month::3])}
        for month in (1, 2, 3)
        for name, p in said.items()
    ]
    return Model.of(
        task={"name": "churn", "horizon_days": 90, "inactivity_days": 90, "activity": {"include": (), "exclude": ()}},
        catalogue={"windows": [30, 365], "kinds": {"events": ("portal_login",)}},
        dictionary=dictionary(),
        blend=blend,
        hazard=hazard,
        evaluation={**evaluate(y, said, partners, n_boot=30), "folds": folds},
        training={
            "until": pd.Timestamp("2026-03-01", tz="UTC"),
            "seed": seed,
            "data_fingerprint": "0123456789abcdef",
            "typical": {name: np.float64(X[name].median()) for name in X.columns if name != COUNTRY},
        },
    )
