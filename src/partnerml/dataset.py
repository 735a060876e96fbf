"""What a task is trained on and scored with: rows of (partner, moment), features, labels and what they mean.

`Dataset` is a value: nothing in it is changed in place. It is made by `partnerml.features.build` and known to
the models, which never see an ecosystem.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from partnerml.errors import InternalError


@dataclasses.dataclass(frozen=True)
class FeatureInfo:
    """What one feature is, for people and for the reasons of a score.

    Attributes
    ----------
    name : str
        Column of `Dataset.X`, such as ``events__portal_login__count__30d``.
    definition : str
        One sentence that defines it.
    table : str
        The canonical table (or tables, joined by ``+``) it comes from.
    columns : tuple of str
        The columns of that table it reads.
    window_days : int or None
        Length of its window ``[as_of - window, as_of)``; None for "ever" and for traits.
    null_rule : str
        What a missing value means.
    words : str
        The feature in plain words, such as "portal logins in the last 30 days".
    subject : str
        What is counted or described, such as "portal logins".
    measure : str
        What is said about the subject: ``count``, ``recency_days``, ``trait`` ...
    group : str
        Features of one group tell the same story over several windows.
    unit : str
        ``count``, ``days``, ``money``, ``value``, ``ratio``, ``per week``, ``percentile``, ``category``, ``yes or no``,
        ``degrees``, ``km`` or ``number``, and a few that only pairs have.
    """

    name: str
    definition: str
    table: str
    columns: tuple[str, ...]
    window_days: int | None
    null_rule: str
    words: str
    subject: str
    measure: str
    group: str
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**dataclasses.asdict(self), "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FeatureInfo:
        """Return the value that `to_dict` was made from."""
        return cls(**{**state, "columns": tuple(state["columns"])})


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows of a task at some moments, with features and, where asked for, labels.

    Attributes
    ----------
    keys : DataFrame of shape (n, 2) or (n, 3)
        The key of the task, such as ``partner_id`` or ``lead_id`` and ``partner_id``, and ``as_of`` (UTC); rows are
        sorted by as_of and the key.
    X : DataFrame of shape (n, p)
        Features: float64, and text traits as `category`.
    y : Series of shape (n,) or None
        1 for the event, 0 for none, NaN where the label is not mature.
    times : DataFrame of shape (n, 2) or None
        ``duration_days`` (float64) from as_of to the event or to the end of what was observed, and ``observed``
        (bool): whether the event happened by then.
    weights : Series of shape (n,)
        Weight of each row in a fit.
    dictionary : tuple of FeatureInfo
        One entry for each column of X, in order.
    fingerprint : str
        16 hex digits over the specification and the data: equal for equal input, whatever the threads.
    """

    keys: pd.DataFrame
    X: pd.DataFrame
    y: pd.Series | None
    times: pd.DataFrame | None
    weights: pd.Series
    dictionary: tuple[FeatureInfo, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        n = len(self.keys)
        for name in ("X", "y", "times", "weights"):
            part = getattr(self, name)
            if part is not None and len(part) != n:
                raise InternalError(f"Dataset.{name} has {len(part)} rows, keys have {n}")
        if tuple(self.X.columns) != tuple(info.name for info in self.dictionary):
            raise InternalError("the columns of Dataset.X are not those of its dictionary")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def as_of(self) -> pd.Series:
        """The moment of each row (UTC)."""
        return self.keys["as_of"]

    @property
    def labels(self) -> pd.Series:
        """The labels, where the rows were built with them; NaN where one is not mature.

        Raises
        ------
        InternalError
            If the rows were built without labels.
        """
        if self.y is None:
            raise InternalError("the labels are asked for of a Dataset that was built without labels")
        return self.y

    @property
    def known_times(self) -> pd.DataFrame:
        """Durations, and whether the event was seen, where the rows were built with labels.

        Raises
        ------
        InternalError
            If the rows were built without labels.
        """
        if self.times is None:
            raise InternalError("the times of events are asked for of a Dataset that was built without labels")
        return self.times

    @property
    def as_ofs(self) -> tuple[datetime, ...]:
        """The distinct moments, in order (UTC)."""
        return tuple(moment.to_pydatetime() for moment in pd.DatetimeIndex(self.keys["as_of"].unique()).sort_values())

    @property
    def mature(self) -> np.ndarray:
        """Mask of the rows whose label is known, shape (n,); all False without labels."""
        if self.y is None:
            return np.zeros(len(self), dtype=bool)
        return self.y.notna().to_numpy()

    def where(self, mask: np.ndarray | pd.Series) -> Dataset:
        """Return the rows of a boolean mask of shape (n,), as a Dataset with a fingerprint of its own."""
        chosen = np.asarray(mask, dtype=bool)
        kept: dict[str, Any] = {
            name: None if part is None else part.loc[chosen].reset_index(drop=True)
            for name in ("keys", "X", "y", "times", "weights")
            for part in (getattr(self, name),)
        }
        digest = hashlib.sha256(self.fingerprint.encode() + np.packbits(chosen).tobytes())
        return dataclasses.replace(self, **kept, fingerprint=digest.hexdigest()[:16])

    def at(self, *as_of: datetime) -> Dataset:
        """Return the rows of the given moments (zoned, or naive and taken as UTC)."""
        wanted = pd.DatetimeIndex([_utc(moment) for moment in as_of]).as_unit("us")
        return self.where(self.keys["as_of"].isin(wanted))


def fingerprint(spec: Mapping[str, Any], frames: Sequence[pd.DataFrame | None]) -> str:
    """Return 16 hex digits of a SHA-256 over a JSON specification and the content of frames.

    Parameters
    ----------
    spec : mapping
        JSON values.
    frames : sequence of DataFrame or None
        Columns are hashed by name, in order: numbers by their bytes, texts and categories by their values.
    """
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True, ensure_ascii=False).encode())
    for frame in frames:
        digest.update(b"\x00-" if frame is None else b"\x00+")
        if frame is None:
            continue
        for name in frame.columns:
            digest.update(str(name).encode() + b"\x00")
            for part in _content(frame[name]):
                digest.update(part)
    return digest.hexdigest()[:16]


def _content(column: pd.Series) -> tuple[bytes, ...]:
    """Return the bytes that stand for a column."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        labels = json.dumps([str(label) for label in column.cat.categories], ensure_ascii=False).encode()
        return labels, column.cat.codes.to_numpy().astype("<i4").tobytes()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return (column.astype("int64").to_numpy().astype("<i8").tobytes(),)
    if pd.api.types.is_bool_dtype(column.dtype):
        return (column.to_numpy().astype("u1").tobytes(),)
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype="<f8", copy=True)
        values[np.isnan(values)] = np.nan  # one NaN: its sign and payload carry no meaning
        return ((values + 0.0).tobytes(),)  # and one zero
    codes, uniques = pd.factorize(column, sort=True)
    return json.dumps([str(text) for text in uniques], ensure_ascii=False).encode(), codes.astype("<i8").tobytes()


def _utc(moment: datetime) -> pd.Timestamp:
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
