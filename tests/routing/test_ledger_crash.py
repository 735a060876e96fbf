"""Nothing lost, nothing twice: processes that route on one ledger are killed (in full size it is a benchmark)."""

import pytest
from tests.routing.ledger_storm import Storm, blow, check


@pytest.mark.slow
def test_routers_that_are_killed_lose_nothing_and_do_nothing_twice(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    storm = Storm(url, tmp_path, leads=120, partners=12, processes=4, kills=6, routed=True)
    _, kills = blow(storm)
    found = check(storm)
    assert kills >= 3
    assert found["offers"] > 80
    assert found["full"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_are_killed_lose_nothing_and_do_nothing_twice(kind, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    storm = Storm(url, tmp_path, leads=150, partners=15, processes=4, kills=6)
    _, kills = blow(storm)
    found = check(storm)
    assert kills >= 3
    assert found["offers"] > 100
    assert found["full"] > 0
