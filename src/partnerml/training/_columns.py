"""The columns that a model may read: those that say something, and no trait that tells the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from partnerml.errors import DataError

if TYPE_CHECKING:
    from partnerml.dataset import Dataset


def check_traits(data: Dataset) -> None:
    """Refuse a trait that is filled for one label only: it was filled in because of the outcome."""
    labels = data.labels
    for info in data.dictionary:
        if info.measure != "trait" or data.X[info.name].isna().all():
            continue
        for label in (0.0, 1.0):
            chosen = (labels == label).to_numpy()
            if chosen.any() and data.X[info.name][chosen].isna().all():
                raise DataError(
                    f"the trait {info.subject} (table {info.table}) is null in all {int(chosen.sum())} rows of label "
                    f"{label:g} and not in the others: it tells the outcome. Leave it out of "
                    f"traits.{'accounts' if info.table == 'accounts' else 'partners'}"
                )


def select_columns(X: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """Leave out columns that say nothing, or what another column says already.

    Parameters
    ----------
    X : DataFrame of shape (n, p)

    Returns
    -------
    kept : list of str
        In the order of `X`: neither constant nor equal to an earlier column in every row.
    twins : dict of str to str
        For each column left out as equal, the one that is kept.
    """
    kept: list[str] = []
    twins: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name in X.columns:
        column = X[name]
        if column.nunique(dropna=False) < 2:
            continue
        digest = _digest(column)
        if digest in seen:
            twins[name] = seen[digest]
        else:
            seen[digest] = name
            kept.append(name)
    return kept, twins


def _digest(column: pd.Series) -> str:
    import hashlib

    values = column.astype(str) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return hashlib.sha256(pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes()).hexdigest()
