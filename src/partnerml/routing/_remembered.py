"""What has been worked out once and may be asked for again: arrays by key, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy.typing as npt

Held = TypeVar("Held", bound=npt.NDArray[Any])
_MOST = 1 << 25  # numbers that are remembered: 256 MB


class Memory(Generic[Held]):
    """Arrays by key, the oldest of which go when there are too many numbers."""

    def __init__(self, most: int = _MOST) -> None:
        self._most, self._held = most, 0
        self._arrays: dict[Any, Held] = {}

    def get(self, key: Any, make: Callable[[], Held]) -> Held:
        """Return the array of a key; made where it is not there."""
        found = self._arrays.get(key)
        if found is None:
            found = make()
            self._arrays[key] = found
            self._held += found.size
            while self._held > self._most and len(self._arrays) > 1:
                # another thread may have been faster
                gone = self._arrays.pop(next(iter(self._arrays)), None)
                self._held -= 0 if gone is None else gone.size
        return found
