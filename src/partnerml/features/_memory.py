"""Arrow tables as Ibis tables."""

from __future__ import annotations

import ibis
import ibis.expr.operations as ops
import pyarrow as pa
from ibis.formats.pyarrow import PyArrowTableProxy


def arrow_rows(data: pa.Table) -> ibis.Table:
    """Return an Arrow table as `ibis.memtable` does, which first imports every kind of data set that Arrow knows."""
    name = ibis.util.gen_name("partnerml_rows")
    schema = ibis.Schema.from_pyarrow(data.schema)
    return ibis.Table(ops.InMemoryTable(name=name, schema=schema, data=PyArrowTableProxy(data)))
