"""Prices that change between two snapshots: each set of them a small file, found again by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from partnerml import outputs
from partnerml.errors import InputError, ModelError
from partnerml.pairs._arrays import Floats

_FOLDER = "prices"
_DIGITS = 12


def id_of_prices(prices: Floats) -> str:
    """Return the first 12 hex digits of the SHA-256 of some prices."""
    return hashlib.sha256(np.asarray(prices, dtype="<f8").tobytes()).hexdigest()[:_DIGITS]


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
