"""Prices that change between two snapshots: each set of them a small file, found again by its content.

::

    OUT/snapshots/prices/current.json   the last that were found, by the ids of partners: they outlast a snapshot
    OUT/snapshots/prices/ID.npy         those that decisions were made with, by the rows of their snapshot
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from partnerml import outputs
from partnerml.errors import InputError, ModelError
from partnerml.pairs._arrays import Floats

_FOLDER, _LAST = "prices", "current.json"
_DIGITS = 12


def id_of_prices(prices: Floats) -> str:
    """Return the first 12 hex digits of the SHA-256 of some prices."""
    return hashlib.sha256(np.asarray(prices, dtype="<f8").tobytes()).hexdigest()[:_DIGITS]


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices as they were found once, by the ids of partners.

    Attributes
    ----------
    found_at : datetime
        Zoned.
    leads : int
        By how many.
    expected : int
        For how many that were to come.
    by_partner : mapping of str to float
        Of those that have one, in units of utility; that of all others is 0.
    """

    found_at: dt.datetime
    leads: int
    expected: int
    by_partner: Mapping[str, float]

    def of(self, partner_id: Iterable[str]) -> Floats:
        """Return the prices of some partners, in their order."""
        return np.array([self.by_partner.get(partner, 0.0) for partner in partner_id], dtype=np.float64)

    def to_json(self) -> str:
        """Return them as a text."""
        return outputs.canonical_json(vars(self) | {"found_at": self.found_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            If it is something else.
        """
        told = json.loads(text)
        prices = {str(partner): float(price) for partner, price in told["by_partner"].items()}
        if not all(map(math.isfinite, prices.values())):
            raise ValueError("a price is no finite number")
        return cls(dt.datetime.fromisoformat(told["found_at"]), int(told["leads"]), int(told["expected"]), prices)


class PriceBook:
    """The prices that decisions were made with, so that they can be made again.

    Parameters
    ----------
    snapshots : Path or None
        The folder of the snapshots, where prices are kept as ``prices/ID.npy``; None = in memory.
    """

    def __init__(self, snapshots: Path | None) -> None:
        self._folder = None if snapshots is None else snapshots / _FOLDER
        self._known: dict[str, Floats] = {}

    def keep(self, prices: Floats) -> str:
        """Keep prices, and return their id."""
        found = id_of_prices(prices)
        if self._folder is None:
            self._known[found] = np.array(prices, dtype=np.float64)
        elif not (path := self._folder / f"{found}.npy").exists():
            with outputs.whole_file(path) as fresh, fresh.open("wb") as handle:
                np.save(handle, np.asarray(prices, dtype="<f8"), allow_pickle=False)
        return found

    def publish(self, prices: Prices) -> Path:
        """Make prices those that all take up who follow these snapshots; switched in one step.

        Raises
        ------
        InputError
            If the prices are kept in memory, where nobody else finds them.
        """
        if self._folder is None:
            raise InputError("prices are published beside snapshots; this router's snapshot was opened in memory")
        return outputs.write_text(self._folder / _LAST, prices.to_json())

    def published(self) -> Prices | None:
        """Return the prices that were published last; None if there are none.

        Raises
        ------
        ModelError
            If their file is damaged.
        """
        path = None if self._folder is None else self._folder / _LAST
        try:
            return None if path is None else Prices.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{path} holds no prices ({error!r}); run partnerml reprice again, or delete it to do without"
            ) from error

    def find(self, prices_id: str) -> Floats:
        """Return prices that were kept.

        Raises
        ------
        InputError
            If they are not there.
        ModelError
            If their file is damaged.
        """
        if self._folder is None:
            if prices_id not in self._known:
                raise InputError(f"the prices {prices_id} were kept in the memory of another router and are gone")
            return self._known[prices_id]
        path = self._folder / f"{prices_id}.npy"
        try:
            found: Floats = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"the prices {prices_id} are not in {path.parent}; restore the file to replay") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}; restore the file to replay") from error
        if id_of_prices(found) != prices_id:
            raise ModelError(f"{path} is damaged: its content has another id; restore the file to replay")
        return found
