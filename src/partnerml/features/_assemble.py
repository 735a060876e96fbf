"""From built rows to a `Dataset`: their types, their labels, a weight of one each, and what identifies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from partnerml.dataset import Dataset, FeatureInfo, fingerprint
from partnerml.features._catalog import Catalogue


def dataset_from(
    frame: pd.DataFrame,
    catalogue: Catalogue,
    *,
    key: str,
    dictionary: tuple[FeatureInfo, ...],
    spec: Mapping[str, Any],
    labelled: bool,
) -> Dataset:
    """Return rows as a dataset, in their order.

    Parameters
    ----------
    frame : DataFrame
        The key, ``as_of``, a column for each feature (text, or a number); where labelled ``y``, ``duration_days`` and
        ``observed``.
    catalogue : Catalogue
    key : str
        The column that names the subject of a row.
    dictionary : tuple of FeatureInfo
    spec : mapping
        What the fingerprint covers beside the data.
    labelled : bool
    """
    keys = pd.DataFrame({key: frame[key].astype("str"), "as_of": zoned(frame["as_of"])})
    X = frame[list(catalogue.names)]
    texts = {name for name in X.columns if not pd.api.types.is_numeric_dtype(X[name].dtype)}
    # a cast by column leaves one block a column, which every later copy pays for: copy once, together
    X = X.astype({name: "category" if name in texts else "float64" for name in X.columns}).copy()
    y = frame["y"].astype("float64") if labelled else None
    times = frame[["duration_days", "observed"]].astype({"observed": bool}) if labelled else None
    return assembled(keys, X, y, times, dictionary=dictionary, spec=spec)


def assembled(
    keys: pd.DataFrame,
    X: pd.DataFrame,
    y: pd.Series | None = None,
    times: pd.DataFrame | None = None,
    *,
    dictionary: tuple[FeatureInfo, ...],
    spec: Mapping[str, Any],
) -> Dataset:
    """Return a dataset of rows of weight one; its fingerprint covers the specification, the keys, X and labels."""
    labels = None
    if y is not None:
        labels = y.to_frame() if times is None else times.assign(y=y)
    weights = pd.Series(1.0, index=X.index, name="weight")
    return Dataset(keys, X, y, times, weights, dictionary, fingerprint(spec, [keys, X, labels]))


def zoned(moments: pd.Series) -> pd.Series:
    """Return naive UTC moments as zoned ones, as which Spark hands them out already."""
    return pd.to_datetime(moments, utc=True).dt.as_unit("us")
