"""Folders whose files are listed in a manifest with their hashes: written whole, and checked file by file when read.

`manifest.json` holds the SHA-256 of every other file, and a digest of the whole: a hash over those, by which equal
content has equal names. The hashes tell damage and mixed folders; they do not vouch for who wrote it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partnerml.errors import InputError, ModelError
from partnerml.outputs import canonical_json, whole_folder

MANIFEST = "manifest.json"
_DIGITS = 12
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Folder:
    """A kind of folder, and how its faults are told.

    Attributes
    ----------
    kind : str
        As the manifest has it.
    format : int
        The one that is written and read.
    called, whole : str
        What it is, after "that of", and after "part of".
    digest : str
        The key of the digest.
    absent : str
        What to say of a folder that is none.
    again : str
        What to do about a damaged one.
    missing : type of InputError
        What is raised of a folder that is none.
    """

    kind: str
    format: int
    called: str
    whole: str
    digest: str
    absent: str
    again: str
    missing: type[InputError] = ModelError

    def write(self, folder: Path, files: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
        """Write files and their manifest, whole or not at all; what was in the folder goes."""
        manifest = {"kind": self.kind, "format": self.format, self.digest: digest_of(hashes), "files": dict(hashes)}
        with whole_folder(folder) as fresh:
            for name, content in files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(content)
            (fresh / MANIFEST).write_bytes(canonical_json(manifest).encode())

    def manifest(self, folder: Path) -> dict[str, Any]:
        """Return the manifest of a folder.

        Raises
        ------
        ModelError
            If it is damaged, or of another kind or format.
        InputError
            Of the type `missing`, if there is none.
        """
        path = folder / MANIFEST
        if not path.is_file():
            where = "is not there" if not folder.exists() else f"has no {MANIFEST}"
            raise self.missing(f"{folder} {where}: {self.absent}")
        try:
            manifest = dict(json.loads(path.read_bytes()))
            if manifest["kind"] != self.kind or not isinstance(manifest["files"], dict):
                raise ModelError(
                    f"{path} is not that of {self.called}: its kind is {manifest['kind']!r}, not {self.kind!r}"
                )
            form = int(manifest["format"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error!r}); {self.again}") from error
        if form != self.format:
            age = "a newer" if form > self.format else "an older"
            raise ModelError(f"{folder} was written by {age} partnerml (format {form}, this one reads {self.format})")
        return manifest

    def check_names(self, folder: Path, expected: Mapping[str, str]) -> None:
        """Refuse a folder that lacks a file of its manifest, or holds another."""
        there = set(names_in(folder)) - {MANIFEST}
        missing, extra = sorted(set(expected) - there), sorted(there - set(expected))
        if missing:
            raise ModelError(f"{folder} is damaged: {len(missing)} file(s) missing: {first_of(missing)}; {self.again}")
        if extra:
            raise ModelError(
                f"{folder} holds {len(extra)} file(s) that are not part of {self.whole}: {first_of(extra)}; move them"
            )

    def check_hashes(self, folder: Path, expected: Mapping[str, str], found: Mapping[str, str]) -> None:
        """Refuse files that are not what the manifest says."""
        damaged = [name for name in sorted(expected) if found[name] != expected[name]]
        if damaged:
            raise ModelError(f"{folder} is damaged: {first_of(damaged)} changed since it was written; {self.again}")

    def check_digest(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Refuse a manifest whose digest is not that of its files."""
        if manifest.get(self.digest) != digest_of(manifest["files"]):
            raise ModelError(
                f"{folder / MANIFEST} is damaged: its {self.digest} is not that of its files; {self.again}"
            )


def hashes_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of files by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, which is not read into memory at once."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(hashes: Mapping[str, str]) -> str:
    """Return the first 12 hex digits of the SHA-256 over the names and hashes of files."""
    return hashlib.sha256(canonical_json(dict(hashes)).encode()).hexdigest()[:_DIGITS]


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder and those beneath it, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def first_of(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
