"""What made a model: the program, the code, and the libraries whose arithmetic its bytes depend on.

Together with what a model says of itself anyway (task, catalogue, until, seed, fingerprint of the data) that is enough
to make it again, byte for byte; `partnerml.training.rebuild` does, and says what stands in the way where it cannot.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.resources
import platform
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from partnerml.errors import InternalError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# whose results a model is made of; the others only carry or show it
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "lightgbm", "duckdb", "ibis-framework", "pyarrow")
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
        Versions of `LIBRARIES`.
    """

    program: str
    code: str
    python: str
    libraries: Mapping[str, str]

    @classmethod
    def here(cls) -> Self:
        """Return that of this process."""
        from partnerml import __version__

        python = ".".join(platform.python_version_tuple()[:2])
        return cls(__version__, code_digest(), python, {name: _version(name) for name in LIBRARIES})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "libraries": dict(self.libraries)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` was made from."""
        return cls(state["program"], state["code"], state["python"], dict(state["libraries"]))

    def differences(self, other: Lineage) -> tuple[str, ...]:
        """Return what is not the same, in words: this one first, the other second."""
        pairs = [("partnerml", self.program, other.program), ("Python", self.python, other.python)]
        pairs += [
            (name, self.libraries.get(name, "none"), other.libraries.get(name, "none"))
            for name in sorted({*self.libraries, *other.libraries})
        ]
        found = [f"{name} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]
        if self.code != other.code:
            found.insert(0, f"code {self.code}, not {other.code}")
        return tuple(found)


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


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError as error:
        raise InternalError(f"{library} is a dependency of partnerml and is not installed") from error
