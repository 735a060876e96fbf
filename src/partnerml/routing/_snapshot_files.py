"""A snapshot as a folder, named by its content: written whole or not at all, and checked file by file when opened.

::

    OUT/snapshots/current         the id of the snapshot to route by, one line
    OUT/snapshots/ID/
        manifest.json             kind, format, id, and the SHA-256 of every other file
        snapshot.json             as of when, of which versions, the configuration
        tables/NAME.parquet       canonical tables with current values
        known.json, known.npz     what was known of partners at 00:00 UTC of the day
        prices.npy, acceptance.npy
        features.npy              of partners, a row each, as the model reads them
        unseen.json               texts among them that training never saw, where there are any
        model/                    the close model, as `Model.save` writes it

The hashes tell damage and mixed folders; they do not vouch for who wrote it. Nothing that is read is run.
"""

from __future__ import annotations

import datetime as dt
import functools
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from partnerml import outputs
from partnerml.config import CurrencyConfig, RoutingConfig
from partnerml.errors import ConfigError, ModelError, PartnermlError, SourceError
from partnerml.manifests import MANIFEST, Folder, digest_of, hash_of, hashes_of, names_in
from partnerml.pairs import PartnerFacts
from partnerml.pairs._state import from_state, to_state
from partnerml.routing._scorer import ModelScorer, RateScorer, SavedScorer, Scorer

if TYPE_CHECKING:
    from partnerml.models._quick import Unseen
    from partnerml.routing._snapshot import Snapshot

CURRENT = "current"
_SNAPSHOT, _MODEL, _FEATURES = "snapshot.json", "model", "features.npy"
_UNSEEN = "unseen.json"
_PUBLISHED = Folder(
    kind="partnerml snapshot",
    format=1,
    called="a snapshot",
    whole="the snapshot",
    digest="id",
    absent="it is no snapshot; run partnerml publish, or name another folder",
    again="publish it again, or copy the folder again",
    missing=SourceError,
)


def encode(snapshot: Snapshot) -> dict[str, bytes]:
    """Return the files of a snapshot by name, without the manifest."""
    layout, arrays = to_state(snapshot.known)
    scorer = _at_hand(snapshot.scorer)
    files = {
        _SNAPSHOT: outputs.canonical_json(_facts_of(snapshot)).encode(),
        "known.json": outputs.canonical_json(layout).encode(),
        "known.npz": _npz(arrays),
        "prices.npy": _npy(snapshot.prices),
        "acceptance.npy": _npy(snapshot.acceptance),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, table in snapshot.tables.items():
            outputs.write_parquet(table, folder / "tables" / f"{name}.parquet")
        if isinstance(scorer, ModelScorer):
            scorer.model.save(folder / _MODEL)
            files[_FEATURES] = _npy(scorer.codes)
            if scorer.unseen:
                files[_UNSEEN] = outputs.canonical_json(_by_text(scorer.unseen)).encode()
        return files | {name: (folder / name).read_bytes() for name in names_in(folder)}


def id_of(files: Mapping[str, bytes]) -> str:
    """Return the first 12 hex digits of the SHA-256 over the names and hashes of files."""
    return digest_of(hashes_of(files))


def write(snapshot: Snapshot, folder: Path) -> Path:
    """Write a snapshot as ``ID`` in a folder; one that is there and whole stays as it is."""
    if not isinstance(_at_hand(snapshot.scorer), ModelScorer | RateScorer):
        raise ConfigError(
            f"a snapshot with the scorer {snapshot.scorer.version!r} cannot be written: it is code; publish one with a "
            "model, or keep it in memory"
        )
    files = encode(snapshot)
    hashes = hashes_of(files)
    target = folder / digest_of(hashes)
    if _is_whole(target):
        return target
    _PUBLISHED.write(target, files, hashes)
    return target


def read(kind: type[Snapshot], path: Path, *, lazy: bool = False) -> Snapshot:
    """Open a snapshot: its folder, or the file that names one beside it; lazily, without its model till that scores."""
    folder = path.parent / current(path.parent, name=path.name) if path.is_file() else path
    manifest = _verified(folder)
    try:
        snapshot = _read(kind, folder, lazy=lazy)
    except PartnermlError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, pa.ArrowException) as error:
        raise ModelError(
            f"{folder} cannot be read by this version of partnerml ({error!r}); publish a snapshot with it"
        ) from error
    # what was read is what would be written
    snapshot.__dict__["id"] = manifest["id"]
    return snapshot


def publish_current(folder: str | Path, snapshot_id: str) -> Path:
    """Make one of the snapshots in a folder the one to route by: those that route follow at their next look.

    Raises
    ------
    SourceError
        If there is no such snapshot.
    """
    if not (Path(folder) / snapshot_id / MANIFEST).is_file():
        raise SourceError(f"there is no snapshot {snapshot_id!r} in {folder}; publish it first")
    return outputs.write_text(Path(folder) / CURRENT, snapshot_id + "\n")


def current(folder: str | Path, *, name: str = CURRENT) -> str:
    """Return the id of the snapshot to route by.

    Raises
    ------
    SourceError
        If none was published, or the file that names it holds no id.
    """
    path = Path(folder) / name
    try:
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} does not name a snapshot ({error}); run partnerml publish first") from error
    if not found.isalnum() or len(found) > 64:
        raise SourceError(f"{path} must hold the id of a snapshot, got {found[:40]!r}; run partnerml publish again")
    return found


def as_of_current(folder: str | Path) -> dt.datetime | None:
    """Return what the snapshot to route by is as of; None if there is none, or it cannot be read."""
    try:
        told = json.loads((Path(folder) / current(folder) / _SNAPSHOT).read_bytes())
        return dt.datetime.fromisoformat(told["as_of"])
    except (SourceError, OSError, KeyError, TypeError, ValueError):
        return None


def _facts_of(snapshot: Snapshot) -> dict[str, Any]:
    currency = snapshot.currency
    return {
        "as_of": snapshot.as_of.isoformat(),
        **({} if currency is None else {"currency": currency.model_dump(mode="json")}),
        "versions": dict(snapshot.versions),
        # where decisions are kept is no part of how they are made, and its address may hold a password
        "config": snapshot.config.model_dump(mode="json", by_alias=True, exclude={"ledger"}),
        "scorer": "model" if isinstance(_at_hand(snapshot.scorer), ModelScorer) else snapshot.scorer.version,
    }


def _at_hand(scorer: Scorer) -> Scorer:
    """Return a scorer, read if it was not yet."""
    return scorer.model_scorer if isinstance(scorer, SavedScorer) else scorer


def _read(kind: type[Snapshot], folder: Path, *, lazy: bool) -> Snapshot:
    told = json.loads((folder / _SNAPSHOT).read_bytes())
    tables = {path.stem: pq.read_table(path) for path in sorted((folder / "tables").glob("*.parquet"))}
    with np.load(folder / "known.npz", allow_pickle=False) as arrays:
        ids = tables["partners"]["partner_id"].to_pylist()
        known = from_state(json.loads((folder / "known.json").read_bytes()), dict(arrays), ids)
    return kind.of_tables(
        tables,
        as_of=dt.datetime.fromisoformat(told["as_of"]),
        known=known,
        cells=None,
        scorer=_scorer(folder, told["scorer"], known, lazy=lazy),
        prices=np.load(folder / "prices.npy", allow_pickle=False),
        acceptance=np.load(folder / "acceptance.npy", allow_pickle=False),
        config=RoutingConfig.model_validate(told["config"]),
        versions=told["versions"],
        currency=CurrencyConfig.model_validate(told["currency"]) if "currency" in told else None,
    )


def _scorer(folder: Path, kind: str, known: PartnerFacts, *, lazy: bool) -> Scorer:
    if kind == RateScorer().version:
        return RateScorer()
    if lazy:
        version = json.loads((folder / _MODEL / MANIFEST).read_bytes())["version"]
        return SavedScorer(version, functools.partial(_model_scorer, folder, known))
    return _model_scorer(folder, known)


def _model_scorer(folder: Path, known: PartnerFacts) -> ModelScorer:
    codes = np.load(folder / _FEATURES, mmap_mode="r", allow_pickle=False)
    path = folder / _UNSEEN
    unseen = _by_row(json.loads(path.read_bytes())) if path.exists() else {}
    return ModelScorer.read(folder / _MODEL, known, codes, unseen)


def _by_text(unseen: Unseen) -> dict[str, dict[str, list[int]]]:
    """Return for each column the rows of each text: many partners share one."""
    told: dict[str, dict[str, list[int]]] = {}
    for name, texts in unseen.items():
        for row, text in texts.items():
            told.setdefault(name, {}).setdefault(text, []).append(row)
    return told


def _by_row(told: Mapping[str, Mapping[str, Sequence[int]]]) -> Unseen:
    """Return what `_by_text` was given."""
    return {name: {int(row): text for text, rows in of.items() for row in rows} for name, of in told.items()}


def _verified(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder that is as it was written."""
    manifest = _PUBLISHED.manifest(folder)
    expected = manifest["files"]
    _PUBLISHED.check_names(folder, expected)
    # large files are mapped later: they are not read into memory for this
    _PUBLISHED.check_hashes(folder, expected, {name: hash_of(folder / name) for name in expected})
    _PUBLISHED.check_digest(folder, manifest)
    return manifest


def _is_whole(folder: Path) -> bool:
    try:
        _verified(folder)
    except (ModelError, SourceError):
        return False
    return True


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    parts: dict[str, Any] = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    np.savez(buffer, **parts)
    return buffer.getvalue()
