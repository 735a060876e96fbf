"""What an engine cannot do, said before it computes something else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from partnerml.errors import ConfigError

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_DAYS_ONLY = ("pyspark",)


def check_moments(eco: Ecosystem, as_of: Sequence[datetime]) -> None:
    """Refuse moments within a day on an engine that finds rows by their day alone.

    Parameters
    ----------
    eco : Ecosystem
    as_of : sequence of datetime
        Naive UTC.

    Raises
    ------
    ConfigError
        If one of them is no midnight, on Spark.
    """
    if eco.backend.name not in _DAYS_ONLY:
        return
    within = [moment for moment in as_of if moment != moment.replace(hour=0, minute=0, second=0, microsecond=0)]
    if within:
        raise ConfigError(
            f"as_of: {within[0]} is no midnight (UTC), and on Spark every as_of is one ({len(within)} of {len(as_of)} "
            "are not); take 00:00 of a day, or build these rows on DuckDB"
        )
