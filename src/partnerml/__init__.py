"""partnerml scores partners and routes leads.

The public names are loaded on first use, so that ``import partnerml`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partnerml import tasks
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model, load_model
    from partnerml.outreach import Outreach, recommend_outreach
    from partnerml.report import model_card
    from partnerml.routing import Router
    from partnerml.scoring import Scores, score
    from partnerml.tasks import Task, build_dataset
    from partnerml.training import rebuild, train

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "partnerml.dataset",
    "Ecosystem": "partnerml.ecosystem",
    "Model": "partnerml.models",
    "Outreach": "partnerml.outreach",
    "Router": "partnerml.routing",
    "Scores": "partnerml.scoring",
    "Task": "partnerml.tasks",
    "build_dataset": "partnerml.tasks",
    "load_model": "partnerml.models",
    "model_card": "partnerml.report",
    "rebuild": "partnerml.training",
    "recommend_outreach": "partnerml.outreach",
    "score": "partnerml.scoring",
    "tasks": "",
    "train": "partnerml.training",
}

__all__ = [
    "Dataset",
    "Ecosystem",
    "Model",
    "Outreach",
    "Router",
    "Scores",
    "Task",
    "__version__",
    "build_dataset",
    "load_model",
    "model_card",
    "rebuild",
    "recommend_outreach",
    "score",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'partnerml' has no attribute {name!r}; the public names are {', '.join(__all__)}")
    if not home:
        return importlib.import_module(f"partnerml.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
