"""What has been worked out once and may be asked for again: arrays, or what is made of them, by key, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Sized(Protocol):
    """What holds numbers: an array, or a few of them."""

    @property
    def size(self) -> int:
        """How many numbers there are."""


Held = TypeVar("Held", bound=Sized)
# What a word of a lead says of all partners is found at its first lead: of more partners than this that lead would wait
# for 15 ms and more, to save the next ones one or two.
FEW_ENOUGH = 1 << 15
_MOST = 1 << 25  # numbers that are remembered: 256 MB


class Memory(Generic[Held]):
    """Values by key, the oldest of which go when there are too many numbers."""

    def __init__(self, most: int = _MOST) -> None:
        self._most, self._held = most, 0
        self._values: dict[Any, Held] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Held]) -> Held:
        """Return the value of a key; made where it is not there."""
        found = self._values.get(key)
        if found is None:
            found = make()
            with self._lock:
                self._keep(key, found)
        return found

    def _keep(self, key: Any, value: Held) -> None:
        # another thread may have been faster
        former = self._values.pop(key, None)
        self._values[key] = value
        self._held += value.size - (0 if former is None else former.size)
        while self._held > self._most and len(self._values) > 1:
            self._held -= self._values.pop(next(iter(self._values))).size
