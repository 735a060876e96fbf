"""The folder that a model is saved in: text alone, hashed file by file, written whole or not at all.

A document is a JSON value; a text of several lines inside it (a booster) goes to a file of its own, so that both can be
read by people and compared line by line. The manifest (`partnerml.manifests`) holds the version.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from partnerml.errors import InternalError, ModelError
from partnerml.manifests import MANIFEST, Folder, digest_of, first_of, hashes_of, names_in
from partnerml.outputs import canonical_json

_SAVED = Folder(
    kind="partnerml model",
    format=1,
    called="a saved model",
    whole="the model",
    digest="version",
    absent="it is not a saved model; name the folder that Model.save wrote, "
    'or load_model("models:/churn@champion", store="out/mlflow.db")',
    again="copy the model again",
)
_TEXT = "$text"


def encode(documents: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that hold documents: ``NAME.json`` for each, and a ``.txt`` for each long text inside.

    Raises
    ------
    InternalError
        If a document has no JSON form, or holds a number that is not finite.
    """
    files: dict[str, bytes] = {}
    for name, document in documents.items():
        texts: dict[str, str] = {}
        without = _texts_out(document, name, texts)
        try:
            files[f"{name}.json"] = canonical_json(without).encode()
        except (TypeError, ValueError) as error:
            raise InternalError(f"the {name} of the model has no JSON form: {error}") from error
        files |= {file: text.encode() for file, text in texts.items()}
    return files


def decode(files: Mapping[str, bytes], name: str) -> Any:
    """Return the document of a name from its files."""
    return _texts_in(json.loads(files[f"{name}.json"]), files)


def version_of(files: Mapping[str, bytes]) -> str:
    """Return the first 12 hex digits of the SHA-256 over the names and hashes of files."""
    return digest_of(hashes_of(files))


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their manifest as a folder, whole or not at all.

    Raises
    ------
    ModelError
        If the folder holds anything but a saved model; nothing in it is touched.
    """
    _check_replaceable(folder)
    _SAVED.write(folder, files, hashes_of(files))


def read(folder: Path) -> dict[str, bytes]:
    """Return the files of a saved model, each held against the manifest; nothing but the listed files is opened.

    Raises
    ------
    ModelError
        If it is no saved model, was written in another format, or a file is missing, damaged or too many; names it.
    """
    manifest = _SAVED.manifest(folder)
    expected = manifest["files"]
    _SAVED.check_names(folder, expected)
    files = {name: (folder / name).read_bytes() for name in sorted(expected)}
    _SAVED.check_hashes(folder, expected, hashes_of(files))
    _SAVED.check_digest(folder, manifest)
    return files


def _check_replaceable(target: Path) -> None:
    if not target.is_dir() or not any(target.iterdir()):
        return
    try:
        files = {*_SAVED.manifest(target)["files"], MANIFEST}
    except ModelError as error:
        raise ModelError(f"{target} holds files and is not a saved model ({error}); name another folder") from error
    foreign = sorted(set(names_in(target)) - files)
    if foreign:
        raise ModelError(f"{target} holds files that are no part of a model: {first_of(foreign)}; name another folder")


def _texts_out(value: Any, path: str, texts: dict[str, str]) -> Any:
    """Replace every text of several lines by a reference to a file of its own, named after its place."""
    if isinstance(value, str) and "\n" in value:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path)
        # two places may have one name once it is fit for a file
        name = next(file for file in _numbered(stem) if file not in texts)
        texts[name] = value
        return {_TEXT: name}
    if isinstance(value, Mapping):
        return {key: _texts_out(value[key], f"{path}.{key}", texts) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_texts_out(part, f"{path}.{place}", texts) for place, part in enumerate(value)]
    return value


def _numbered(stem: str) -> Iterator[str]:
    yield f"{stem}.txt"
    yield from (f"{stem}~{number}.txt" for number in range(2, 10_000))


def _texts_in(value: Any, contents: Mapping[str, bytes]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_TEXT}:
            return contents[value[_TEXT]].decode()
        return {key: _texts_in(part, contents) for key, part in value.items()}
    if isinstance(value, list):
        return [_texts_in(part, contents) for part in value]
    return value


def plain(value: Any, path: str) -> Any:
    """Return JSON values: numpy's numbers as Python's, moments as ISO 8601, what is not finite as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        # in the order that they are written, so that nothing differs after loading
        return {key: plain(value[key], f"{path}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(part, f"{path}.{place}") for place, part in enumerate(value)]
    if isinstance(value, dt.date):
        return value.isoformat()
    converters: dict[type, Callable[[Any], Any]] = {np.generic: np.generic.item, np.ndarray: np.ndarray.tolist}
    for kind, convert in converters.items():
        if isinstance(value, kind):
            return plain(convert(value), path)
    raise InternalError(f"{path} of the model is a {type(value).__name__}, which has no JSON form")
