"""What made a model: the program, the code, and the libraries whose arithmetic its bytes depend on.

Together with what a model says of itself anyway (task, catalogue, until, seed, fingerprint of the data) that is enough
to make it again, byte for byte; `partnerml.training.rebuild` does, and says what stands in the way where it cannot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.resources
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from partnerml.errors import InternalError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# whose results a model is made of; the others only carry or show it
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "lightgbm", "duckdb", "ibis-framework", "pyarrow")
# of an extra: what tuning finds hangs on it, and a model that was not tuned does not
OPTIONAL = ("optuna",)
# what makes no part of a model: a change there makes no other one
_BESIDE = frozenset(
    {
        "cli",
        "demo.py",
        "nightly.py",
        "outreach",
        "publishing.py",
        "report",
        "routing",
        "scoring",
        "spark.py",
        "synthetic",
        "templates",
    }
)


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The program that made a model.

    Attributes
    ----------
    program : str
        Version of partnerml.
    code : str
        First 12 hex digits of the SHA-256 over its modules, so that two states of one version are told apart.
    python : str
        Version of Python, without the patch level.
    libraries : mapping of str to str
        Versions of `LIBRARIES`, and of those of `OPTIONAL` that were used.
    at_hand : mapping of str to str
        Versions of `OPTIONAL` as far as they are installed. Nothing hangs on them unless they are used.
    """

    program: str
    code: str
    python: str
    libraries: Mapping[str, str]
    at_hand: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def here(cls) -> Self:
        """Return that of this process."""
        from partnerml import __version__

        python = ".".join(platform.python_version_tuple()[:2])
        libraries = {name: _version(name) for name in LIBRARIES}
        return cls(__version__, code_digest(), python, libraries, dict(_installed(OPTIONAL)))

    def using(self, *names: str) -> Self:
        """Return the lineage of what was made with libraries of `OPTIONAL` too."""
        used = {name: self.at_hand[name] for name in names if name in self.at_hand}
        return dataclasses.replace(self, libraries={**self.libraries, **used})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"program": self.program, "code": self.code, "python": self.python, "libraries": dict(self.libraries)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` was made from."""
        return cls(state["program"], state["code"], state["python"], dict(state["libraries"]))

    def differences(self, other: Lineage) -> tuple[str, ...]:
        """Return what is not the same, in words: this one first, the other second."""
        pairs = [("partnerml", self.program, other.program), ("Python", self.python, other.python)]
        pairs += [(name, self._known(name), other._known(name)) for name in sorted({*self.libraries, *other.libraries})]
        found = [f"{name} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]
        if self.code != other.code:
            found.insert(0, f"code {self.code}, not {other.code}")
        return tuple(found)

    def _known(self, library: str) -> str:
        return self.libraries.get(library) or self.at_hand.get(library, "none")


@functools.cache
def code_digest() -> str:
    """Return 12 hex digits over the modules that a training runs through: their names and bytes."""
    digest = hashlib.sha256()
    for name, module in sorted(_modules(importlib.resources.files("partnerml"))):
        digest.update(name.encode() + b"\x00" + module.read_bytes().replace(b"\r\n", b"\n") + b"\x00")
    return digest.hexdigest()[:12]


def _modules(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if not prefix and entry.name in _BESIDE:
            continue
        if entry.is_dir():
            yield from _modules(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry


def _installed(libraries: Iterable[str]) -> Iterator[tuple[str, str]]:
    for library in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield library, importlib.metadata.version(library)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError as error:
        raise InternalError(f"{library} is a dependency of partnerml and is not installed") from error
