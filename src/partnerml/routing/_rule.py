"""What a rule of engagement is: a small named value."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from partnerml.errors import ConfigError

if TYPE_CHECKING:
    from partnerml.routing._situation import Situation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Mask = Callable[["Situation"], Any]
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


def _no_evidence(situation: Situation, row: int) -> str:
    return ""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule of who may get a lead.

    Parameters
    ----------
    name : str
        As the configuration calls it: lower-case letters, digits and underscores.
    words : str
        What a partner does that passes, such as ``"covers the lead's place"``.
    passes : callable
        Takes a `Situation` and returns which of its partners pass: an array of bool of shape (n,), in the order of
        ``situation.snapshot.partners``.
    failed : callable, optional
        Takes a `Situation` and the row of a partner who does not pass, and returns why in words, for those who run the
        programme: the partner's facts and the lead's.
    own : callable, optional
        The same for that partner itself, which may not know the lead: its own facts, nothing of the lead or of others.
        By default it reads the `words` of the rule alone.
    enabled : bool
        Whether it is asked where the configuration does not say.
    narrows : bool
        A rule that narrows is asked last, of those who are left: if any of them passes, only such partners remain.
    apart : mapping of str to callable
        Of those that fail, which are counted under a name of their own.
    reads : sequence of str, optional
        Columns of the lead that it goes by, where it goes by nothing else but who has had the lead, what is the same
        for all leads at a moment, and what partners hold: a batch then asks it once for leads that are alike in them.
        None = it may read anything, and is asked about every lead.
    among : callable, optional
        Takes a `Situation` and rows, an array of int of shape (m,), and returns what `passes` says of those rows, shape
        (m,). Where few partners are left it is asked in its place, and need not look at all of them.

    Raises
    ------
    ConfigError
        If the name is none, or something is no function.
    """

    name: str
    words: str
    passes: Mask
    failed: Callable[[Situation, int], str] = _no_evidence
    own: Callable[[Situation, int], str] = _no_evidence
    enabled: bool = True
    narrows: bool = False
    apart: Mapping[str, Mask] = dataclasses.field(default_factory=dict)
    reads: Sequence[str] | None = None
    among: Callable[[Situation, Ints], Any] | None = None

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(
                f"rule {self.name!r}: a name has lower-case letters, digits and underscores, and begins with a letter"
            )
        functions = {"passes": self.passes, "failed": self.failed, "own": self.own}
        wrong = [name for name, function in functions.items() if not callable(function)]
        if wrong:
            got = functions[wrong[0]]
            raise ConfigError(f"rule {self.name!r}: {wrong[0]} must be a function of the situation, got {got!r}")

    def mask(self, situation: Situation) -> Bools:
        """Return which partners pass.

        Raises
        ------
        ConfigError
            If the rule returns anything else.
        """
        found = self.passes(situation)
        everybody: Bools = situation.index.everybody
        is_shared = found is everybody  # of the rules of partnerml
        if is_shared:
            return everybody
        return _checked(self.name, found, len(situation.snapshot))

    def mask_among(self, situation: Situation, rows: Ints) -> Bools:
        """Return which of the partners of some rows pass, by `among`, shape (m,).

        Raises
        ------
        ConfigError
            If the rule returns anything else.
        """
        assert self.among is not None, "asked only of rules that have it"
        return _checked(self.name, self.among(situation, rows), len(rows))

    def counted_apart(self, situation: Situation) -> dict[str, Bools]:
        """Return which partners are counted under other names."""
        n = len(situation.snapshot)
        return {name: _checked(name, mask(situation), n) for name, mask in self.apart.items()}


def _checked(name: str, passes: Any, n: int) -> Bools:
    found = np.asarray(passes)
    if found.dtype.kind != "b" or found.shape != (n,):
        raise ConfigError(
            f"rule {name!r} must return an array of bool of shape ({n},), one for each partner; got {found.dtype} of "
            f"shape {found.shape}"
        )
    return found
