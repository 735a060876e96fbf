from __future__ import annotations

import pytest

from partnerml.ecosystem._engine import EmbeddedDuckDB


@pytest.fixture(scope="session")
def backend():
    connection = EmbeddedDuckDB().connect(threads=2)
    connection.con.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.disconnect()
