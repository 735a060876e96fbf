"""The blend: a weighted sum of the components' log-odds, then Platt; its reasons add up exactly."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models._binary import Array, State
from partnerml.models._calibration import PlattCalibrator

# Named, never taken from a file: loading a model must not be able to reach other code.
_COMPONENTS = {
    "BoostedTrees": "partnerml.models._classifier",
    "LogLogistic": "partnerml.models._logistic",
    "BuyTillYouDie": "partnerml.models._buy_till_you_die",
    "PeerRate": "partnerml.models._shrinkage",
    "SuccessHazard": "partnerml.models._success",
    "BaggedPositiveUnlabelled": "partnerml.models._positive_unlabelled",
}

# how far the weights of the components may lie apart, in the scale of their log-odds
SPREAD = 0.25


class Component(Protocol):
    """What a member of a blend offers."""

    feature_names_in_: NDArray[np.object_]

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds, shape (n,)."""

    def contributions(self, X: Any) -> Array:
        """Return one effect for each of its columns and the base last, shape (n, p + 1)."""

    def to_state(self) -> State:
        """Return plain values for JSON."""


@dataclasses.dataclass(frozen=True)
class Blend:
    """Components, their weights, and the calibration of their weighted sum.

    Attributes
    ----------
    components : mapping of str to Component
        Fitted on frames, so that their columns have names. Those of weight 0 are dropped.
    weights : mapping of str to float
        Not negative; one for each component.
    calibrator : PlattCalibrator
    """

    components: Mapping[str, Component]
    weights: Mapping[str, float]
    calibrator: PlattCalibrator = dataclasses.field(default_factory=PlattCalibrator)

    def __post_init__(self) -> None:
        if set(self.components) != set(self.weights):
            raise ConfigError(
                f"a blend needs one weight for each component; components: {sorted(self.components)}, "
                f"weights: {sorted(self.weights)}"
            )
        negative = {name: weight for name, weight in self.weights.items() if not weight >= 0}
        if negative or not any(self.weights.values()):
            raise ConfigError(f"weights of a blend are 0 or more, and one is above 0; got {dict(self.weights)}")
        kept = [name for name, weight in self.weights.items() if weight > 0]
        object.__setattr__(self, "components", {name: self.components[name] for name in kept})
        object.__setattr__(self, "weights", {name: float(self.weights[name]) for name in kept})

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """The columns that any component reads, in order of first use."""
        names = [name for component in self.components.values() for name in component.feature_names_in_]
        return np.array(list(dict.fromkeys(names)), dtype=object)

    def raw_log_odds(self, X: pd.DataFrame) -> Array:
        """Return the weighted sum before calibration, shape (n,)."""
        parts = {name: component.decision_function(X) for name, component in self.components.items()}
        return blended(parts, self.weights)

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Return the calibrated log-odds, shape (n,)."""
        return self.calibrator.apply(self.raw_log_odds(X))

    def predict_proba(self, X: pd.DataFrame) -> Array:
        """Return the probability of the positive class, shape (n,)."""
        return np.asarray(expit(self.decision_function(X)))

    def disagreement(self, log_odds: Mapping[str, ArrayLike]) -> Array:
        """Return the weighted standard deviation of what each component alone would say, shape (n,).

        That is its probability with the blend's calibration; 0 where there is one component.

        Parameters
        ----------
        log_odds : mapping of str to array-like of shape (n,) or (bags, n)
            Of each component; of one that has bags, what each of them says.
        """
        total = np.array(list(self.weights.values())).sum()
        raw, shares = [], []
        for name, weight in self.weights.items():
            said = np.atleast_2d(np.asarray(log_odds[name], dtype=np.float64))
            raw.append(said)
            shares += [weight / total / len(said)] * len(said)
        alone = expit(self.calibrator.apply(np.concatenate(raw) * total))
        share = np.array(shares)[:, None]
        centre = (share * alone).sum(axis=0)
        return np.asarray(np.sqrt((share * (alone - centre) ** 2).sum(axis=0)))

    def contributions(self, X: pd.DataFrame) -> Array:
        """Return effects in calibrated log-odds, shape (n, p + 1): one for each of `feature_names_in_`, the base last.

        A row sums to its `decision_function`: every part is additive in log-odds, and so is their weighted sum.
        """
        return self.joined({name: component.contributions(X) for name, component in self.components.items()})

    def joined(self, contributions: Mapping[str, Array]) -> Array:
        """Return the `contributions` that those of the components come to.

        Parameters
        ----------
        contributions : mapping of str to array, shape (n, p_k + 1)
            Of each component: one for each of its columns, the base last.
        """
        names = list(self.feature_names_in_)
        places = {name: j for j, name in enumerate(names)}
        effects = np.zeros((len(next(iter(contributions.values()))), len(names) + 1))
        for name, component in self.components.items():
            columns = [places[column] for column in component.feature_names_in_] + [len(names)]
            effects[:, columns] += self.weights[name] * contributions[name]
        return self.calibrator.effects(effects)

    def calibrated(self, calibrator: PlattCalibrator) -> Self:
        """Return the same blend with another calibration."""
        return dataclasses.replace(self, calibrator=calibrator)

    def to_state(self) -> State:
        """Return plain values for JSON."""
        components = {
            name: {"type": type(component).__name__, "state": component.to_state()}
            for name, component in self.components.items()
        }
        return {"components": components, "weights": dict(self.weights), "calibrator": self.calibrator.to_state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from `to_state`.

        Raises
        ------
        ModelError
            If a component is of a type that partnerml does not know.
        """
        components = {name: _component(part) for name, part in state["components"].items()}
        return cls(components, dict(state["weights"]), PlattCalibrator.from_state(state["calibrator"]))


def blended(log_odds: Mapping[str, Array], weights: Mapping[str, float]) -> Array:
    """Return the weighted sum of the log-odds of those components that have a weight above 0, shape (n,)."""
    parts = [weight * np.asarray(log_odds[name], dtype=np.float64) for name, weight in weights.items() if weight > 0]
    return np.asarray(np.sum(np.stack(parts), axis=0))


def choose_weights(
    log_odds: Mapping[str, ArrayLike],
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    spread: float = SPREAD,
    min_share: float = 0.05,
) -> dict[str, float]:
    """Choose the weights of a blend on rows that no component was fitted on.

    The calibrated blend ``sum v_k f_k + c`` with ``v_k >= 0`` is a logistic regression: its log loss is minimised
    under a Gaussian pull of each v_k towards their common mean, so that noise alone leaves the weights equal. Weights
    are v divided by its sum, because Platt's slope takes up the scale. A component below `min_share` is dropped and
    the rest are chosen again: a model that hardly counts is not worth its running.

    Parameters
    ----------
    log_odds : mapping of str to array-like of shape (n,)
        Out-of-time log-odds of each component.
    y : array-like of shape (n,)
        Labels 0 or 1.
    sample_weight : array-like of shape (n,), optional
    spread : float
        Standard deviation of the pull, in units of v: small keeps the weights together.
    min_share : float
        Smallest weight that is kept.

    Returns
    -------
    dict of str to float
        Every component of `log_odds`, with weight 0 where dropped; the weights sum to 1.

    Raises
    ------
    NotEnoughDataError
        If the labels are all equal.
    """
    target = np.asarray(y, dtype=np.float64)
    weight = np.ones_like(target) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if np.unique(target[weight > 0]).size < 2:
        raise NotEnoughDataError(
            f"choosing the weights of a blend needs both labels; the {int((weight > 0).sum())} out-of-time rows hold "
            f"{int(target[weight > 0].sum())} positives. Backtest over more months"
        )
    names = list(log_odds)
    while True:
        columns = np.column_stack([np.asarray(log_odds[name], dtype=np.float64) for name in names])
        strength = _strengths(columns, target, weight, spread)
        total = strength.sum()
        # nothing ranks better than chance: no reason to prefer one over another
        shares = strength / total if total > 0 else np.full(len(names), 1.0 / len(names))
        weakest = int(np.argmin(shares))
        if len(names) == 1 or shares[weakest] >= min_share:
            chosen = dict(zip(names, shares.tolist(), strict=True))
            return {name: chosen.get(name, 0.0) for name in log_odds}
        names.pop(weakest)


def _strengths(columns: Array, target: Array, weight: Array, spread: float) -> Array:
    share = weight / weight.sum()
    pull = 1.0 / (spread**2 * weight.sum())

    def loss(theta: Array) -> tuple[float, Array]:
        v, intercept = theta[:-1], theta[-1]
        z = (columns * v).sum(axis=1) + intercept
        apart = v - v.mean()
        value = np.sum(share * (np.logaddexp(0.0, z) - target * z)) + 0.5 * pull * np.sum(apart**2)
        residual = share * (expit(z) - target)
        slope = (columns * residual[:, None]).sum(axis=0) + pull * apart
        return float(value), np.append(slope, residual.sum())

    k = columns.shape[1]
    start = np.append(np.full(k, 1.0 / k), 0.0)
    bounds = [(0.0, None)] * k + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9})
    return np.asarray(found.x[:-1])


def _component(part: Mapping[str, Any]) -> Component:
    kind = str(part["type"])
    if kind not in _COMPONENTS:
        raise ModelError(f"a blend cannot hold a component of type {kind!r}; known: {', '.join(sorted(_COMPONENTS))}")
    loaded: Component = getattr(importlib.import_module(_COMPONENTS[kind]), kind).from_state(part["state"])
    return loaded
