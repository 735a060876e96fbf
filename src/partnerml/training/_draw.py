"""Which rows to train on where there are more than a model of this size learns from: those of partners drawn at random.

All rows of a partner go together, and who is drawn hangs on a hash of its id and the seed alone: neither on the order
of the rows nor on a label, so that rates stay what they are. A larger draw holds every smaller one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from partnerml.dataset import Dataset

_logger = logging.getLogger("partnerml")


@dataclasses.dataclass(frozen=True)
class Draw:
    """Who is trained on.

    Attributes
    ----------
    ids : frozenset of str or None
        Partners, or accounts; None: everybody.
    among : int
        How many rows everybody has, where not all are trained on.
    """

    ids: frozenset[str] | None = None
    among: int = 0

    def told(self) -> dict[str, Any]:
        """Return what a model tells of it, as JSON values; nothing where everybody is trained on."""
        return {} if self.ids is None else {"drawn_from": self.among}

    def of(self, data: Dataset, key: str) -> Dataset:
        """Return the rows of who was drawn, by the column of their ids."""
        return data if self.ids is None else data.where(data.keys[key].isin(self.ids))


def draw(rows: pd.Series, *, at_most: int, seed: int, of: str, task: str) -> Draw:
    """Draw partners, in the order of their hashes, as long as their rows are at most so many together.

    Parameters
    ----------
    rows : Series of shape (n,)
        How many rows each has, by id; those without a row may be drawn as well.
    at_most : int
    seed : int
    of : str
        Whose rows they are, such as ``partners``.
    task : str
    """
    among = int(rows.sum())
    if among <= at_most:
        return Draw()
    rows = rows.sort_index()
    shuffled = rows.iloc[np.argsort(_hashes(rows.index, seed), kind="stable")]
    kept = shuffled[shuffled.cumsum() <= at_most]
    told = f"{int(kept.sum()):,} of {among:,} rows"
    _logger.info("%s: trained on %s, those of %s drawn at random", task, told, of)
    return Draw(frozenset(map(str, kept.index)), among)


def ones(data: Dataset, key: str) -> pd.Series:
    """Return one row for each id of a column, shape (n,)."""
    return pd.Series(1, index=data.keys[key])


def _hashes(ids: Iterable[Hashable], seed: int) -> npt.NDArray[np.uint64]:
    """Return a number for each id that has nothing to do with anything else, shape (n,)."""
    key = str(seed).encode()
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8, key=key).digest() for one in ids)
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)
