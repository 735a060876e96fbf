"""What a policy chose from, in few bytes: who was looked at, with what probability, and how much room they had."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from partnerml.pairs._arrays import Floats

_NUMBERS = ("probability", "p_win", "utility", "free")


@dataclasses.dataclass(frozen=True, eq=False)
class Vector:
    """The partners that a policy chose from: the eligible with capacity, or the shortlist of them.

    Attributes
    ----------
    partner_id : sequence of str
        Those that are not here had no chance.
    probability : array of float, shape (m,)
        With what probability each would have been chosen; exactly what was drawn from.
    p_win, utility : array of float, shape (m,)
    free : array of float, shape (m,)
        How many leads more each could have been offered; inf = unlimited.
    """

    partner_id: Sequence[str]
    probability: Floats
    p_win: Floats
    utility: Floats
    free: Floats

    def packed(self) -> bytes:
        """Return it as compressed bytes, exactly."""
        numbers = b"".join(np.asarray(getattr(self, name), dtype="<f8").tobytes() for name in _NUMBERS)
        partners = json.dumps(list(self.partner_id), ensure_ascii=False, separators=(",", ":")).encode()
        return zlib.compress(len(partners).to_bytes(4, "little") + partners + numbers, 1)

    @classmethod
    def unpacked(cls, packed: bytes) -> Vector:
        """Read what `packed` wrote."""
        plain = zlib.decompress(packed)
        size = int.from_bytes(plain[:4], "little")
        partners = json.loads(plain[4 : 4 + size])
        numbers = np.frombuffer(plain[4 + size :], dtype="<f8").reshape(len(_NUMBERS), len(partners))
        return cls(partners, *numbers.copy())
