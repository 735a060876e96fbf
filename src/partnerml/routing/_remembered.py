"""What has been worked out once and may be asked for again: arrays by key, within bounds."""

from __future__ import annotations

import threading
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
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Held]) -> Held:
        """Return the array of a key; made where it is not there."""
        found = self._arrays.get(key)
        if found is None:
            found = make()
            with self._lock:
                self._keep(key, found)
        return found

    def _keep(self, key: Any, array: Held) -> None:
        # another thread may have been faster
        former = self._arrays.pop(key, None)
        self._arrays[key] = array
        self._held += array.size - (0 if former is None else former.size)
        while self._held > self._most and len(self._arrays) > 1:
            self._held -= self._arrays.pop(next(iter(self._arrays))).size
