"""What a card says of each task: its purpose, what came true, and what it must not be used for."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partnerml.report._words import UNKNOWN

if TYPE_CHECKING:
    from partnerml.models import Model


@dataclasses.dataclass(frozen=True)
class TaskWords:
    """The words of one task.

    Attributes
    ----------
    purpose : str
        What a score says; ``{days}`` stands for the horizon.
    happened : str
        What label 1 is, in the past tense.
    use : str
        What it is made for.
    limits : tuple of str
        What it does not know and must not be used for.
    """

    purpose: str
    happened: str
    use: str
    limits: tuple[str, ...]


TASKS: Mapping[str, TaskWords] = {
    "churn": TaskWords(
        purpose="The probability that a partner that is active now goes quiet or leaves within {days} days.",
        happened="went quiet",
        use="To decide whom to call first, and how much revenue is at stake.",
        limits=(
            "It says who goes quiet, not what a call would change: a reason tells what moved the score, and is no "
            "claim of a cause.",
            "A partner outside its population has no score; that is no sign of low risk.",
        ),
    ),
    "fit": TaskWords(
        purpose="The probability that a partner has its first success within {days} days of joining, by its traits.",
        happened="succeeded",
        use="To compare recruits, and to see what successful partners have in common.",
        limits=(
            "It knows traits as they were at joining, and nothing that came after.",
            "A trait that goes with success is no proof that it makes it: partners were recruited, not drawn.",
            "A recruit of a kind that joined seldom gets nearly the average; that is ignorance, not a judgement.",
        ),
    ),
    "propensity": TaskWords(
        purpose="How likely an account is to become a partner, by how much it resembles those that did.",
        happened="became a partner",
        use="To choose which accounts to approach.",
        limits=(
            "An account that is no partner may never have been asked: it stands for the unknown, not for a no.",
            "Accounts unlike all partners so far score low whatever they could become.",
        ),
    ),
    "close": TaskWords(
        purpose="The probability that a lead is won within {days} days of its assignment, if the partner keeps it.",
        happened="were won",
        use="To rank the partners that may get a lead.",
        limits=(
            "It has learnt from the leads as they were given out: pairs that routing never made are a guess.",
            "It does not tell whether the partner accepts the lead.",
            "A partner without history gets the rate of its peer group; its spread says how little is known.",
        ),
    ),
}

OTHER = TaskWords(
    purpose="The probability of the label of its task within {days} days.",
    happened="came true",
    use="To rank rows of its task.",
    limits=(),
)

# of a propensity that has neither dates nor a share of future partners to be calibrated to
RANK = (
    "A score is a rank, no probability: an account that scores higher resembles the partners more, and how many of the "
    "accounts become partners is not known (tasks.propensity.class_prior would tell)."
)

# of every model
LIMITS = (
    "It is no ground on its own to end a partnership, to change its terms, or to judge a person.",
    "It stands on what was recorded: activity that reaches no table is not seen, and a change in how it is recorded "
    "looks like a change of the partners. Hold features and scores against the drift baseline.",
)

NAMES: Mapping[str, str] = {
    "model": "this model",
    "trees": "boosted trees alone",
    "logistic": "logistic regression alone",
    "bgnbd": "BG/NBD alone",
    "recency": "days since the last activity",
    "one_trait": "the best single trait alone",
    "peers": "rates of peers and record alone",
    "base_rate": "the average for everybody",
    "bags": "bags of trees on partners and unlabelled accounts",
}

METRICS: Mapping[str, str] = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Calibration error",
    "mean_prediction": "Mean prediction",
}


def called(name: str) -> str:
    """Return what a component or a baseline is called."""
    return NAMES.get(name, name.replace("_", " "))


def words_of(model: Model) -> TaskWords:
    """Return the words of a model's task."""
    return TASKS.get(str(model.task.get("name")), OTHER)


def days(model: Model) -> str:
    """Return how far ahead a model looks, in days."""
    for block in (model.task, *(part for part in model.task.values() if isinstance(part, Mapping))):
        for name in ("horizon_days", "success_days"):
            if block.get(name) is not None:
                return f"{block[name]:g}"
    return "so many"


def is_rank(model: Model) -> bool:
    """Return whether the scores of a model order rows and say no more."""
    label = model.task.get("label") or {}
    return label.get("dated") is False and label.get("class_prior") is None


def clusters(model: Model) -> str:
    """Return what the rows of a model are about, such as partners."""
    key = (model.task.get("key") or ["partner_id"])[0]
    return {"partner_id": "partners", "lead_id": "leads", "account_id": "accounts"}.get(key, "clusters")


def decimals(value: Any) -> str:
    """Return a metric with three decimals; a dash where it is not defined."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3f}"


def figure(value: float) -> str:
    """Return a number of any size with about three digits."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def day(text: str | None) -> str:
    """Return the date of a moment in ISO 8601; empty without one."""
    return "" if not text else f"{dt.datetime.fromisoformat(text):%Y-%m-%d}"


def sentence(text: str) -> str:
    """Return a text as a sentence: with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
