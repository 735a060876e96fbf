from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from partnerml.ecosystem._validation import CheckedTables, check_tables

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def create_table(backend: Any, name: str, frame: pd.DataFrame) -> ibis.Table:
    """Store a frame; by way of Arrow, because Ibis reads a deprecated option of pandas."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # a column without any value has a type of its own that Ibis cannot store
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return backend.create_table(name, table.cast(pa.schema(fields)), overwrite=True)


@pytest.fixture
def backend() -> Iterator[Any]:
    """Return an embedded DuckDB as the ecosystem opens it."""
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone='UTC'")
    yield connection
    connection.disconnect()


@pytest.fixture
def check(backend: Any) -> Callable[..., CheckedTables]:
    """Return a function that checks frames as if they had been mapped."""

    def run(*, max_rejected: float = 0.01, **tables: pd.DataFrame) -> CheckedTables:
        options = {
            name: tables.pop(name)
            for name in ("zones", "lags", "now", "currency", "mapping_violations")
            if name in tables
        }
        mapped = {
            name: frame if isinstance(frame, ibis.Table) else create_table(backend, f"in_{name}", frame)
            for name, frame in tables.items()
        }
        defaults = {"mapping_violations": (), "zones": {}, "lags": {}, "now": NOW, "currency": None}
        return check_tables(backend, mapped, max_rejected=max_rejected, **{**defaults, **options})

    return run
