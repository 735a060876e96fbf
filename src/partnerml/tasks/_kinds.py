"""The tasks that there are, in the order of the pipeline."""

from __future__ import annotations

from partnerml.config import nearest
from partnerml.errors import ConfigError
from partnerml.tasks import _churn, _close, _fit, _propensity
from partnerml.tasks._task import Kind

KINDS = {kind.name: kind for kind in (_churn.KIND, _fit.KIND, _propensity.KIND, _close.KIND)}
NAMES = tuple(KINDS)


def kind_of(name: str) -> Kind:
    """Return what is particular about a task.

    Raises
    ------
    ConfigError
        If this version knows no task of that name.
    """
    if name not in KINDS:
        raise ConfigError(
            f"there is no task {name!r} in this version{nearest(name, NAMES)}; known are {', '.join(NAMES)}"
        )
    return KINDS[name]
