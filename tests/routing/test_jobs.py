"""A batch whose candidates are looked for by several processes: the same to the last bit, and whole or not at all."""

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.routing.made_up import snapshot
from tests.routing.test_batch import NOW, leads, scored

from partnerml.errors import ConfigError, InputError
from partnerml.routing import Router, Rule, _batch, _candidates, register_rule

CHUNK = 8
N = 2 * CHUNK + 3
RULE = "of_one_half"


def of_one_half(situation):
    return np.arange(len(situation.snapshot)) % 2 == 0


@pytest.fixture
def chunks(monkeypatch):
    """Let small batches be looked at in chunks, by processes."""
    monkeypatch.setattr(_batch, "CHUNK", CHUNK)
    monkeypatch.setattr(_candidates, "LEADS_EACH", CHUNK)


@pytest.fixture
def rated():
    """Return a snapshot that scores by win rates and asks a rule of one's own."""
    pytest.importorskip("numba")
    register_rule(Rule(RULE, "is of one half", of_one_half), replace=True)
    own, n = np.random.default_rng(5), 40
    tallies = [
        {"partner_id": f"p{i}", "dimension": "all", "value": "", "closed": won + 3, "won": won, "days": 4.0 * won}
        | {"sized": won, "amount": 100.0 * won}
        for i, won in enumerate(own.integers(0, 9, n).tolist())
    ]
    partners = [{"country": "DE", "max_open_leads": 3} for _ in range(n)]
    return snapshot(partners, cells=tallies, config={"rules": {RULE: {}}, "batch": {"candidates": 5}})


@pytest.mark.usefixtures("chunks")
def test_a_batch_is_the_same_by_several_processes(rated):
    given = []
    for jobs in (1, 2):
        with Router.open(rated) as router:
            # the best are full by then
            before = [router.route(lead, now=NOW).partner_id for lead in leads(9, prefix="x", country="DE")]
            decisions = router.assign(leads(N, country="DE"), now=NOW, jobs=jobs).decisions
        given.append([decision.to_json() for decision in decisions])
        got = {decision.partner_id for decision in decisions}
        assert len(got) > 2
        assert not got & set(before)
        assert {rated.partners.row(partner) % 2 for partner in got} == {0}
    assert given[0] == given[1]


@pytest.mark.usefixtures("chunks")
def test_where_a_process_is_killed_nothing_is_written_and_it_can_be_asked_again(rated):
    def looking():
        # beside them there is the process that hands on what they log
        return {child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")}

    before = looking()

    def kill():
        while not (started := looking() - before):
            time.sleep(0.05)
        for child in started:
            child.kill()

    with Router.open(rated) as router, ThreadPoolExecutor(1) as pool:
        pool.submit(kill)
        with pytest.raises(InputError, match=r"was killed.*try fewer. Nothing of the batch was written"):
            router.assign(leads(N, country="DE"), now=NOW, jobs=2)
        assert router.ledger.history().empty
        assert not looking() - before
        assert len(router.assign(leads(N, country="DE"), now=NOW).decisions) == N


@pytest.mark.parametrize(
    ("jobs", "words"),
    [(0, "jobs must be at least 1, got 0"), (2, "jobs: other processes cannot look at these leads: .*or use jobs=1")],
)
@pytest.mark.usefixtures("chunks")
def test_jobs_that_cannot_be(jobs, words):
    pytest.importorskip("numba")
    with Router.open(snapshot(4, p=scored)) as router, pytest.raises(ConfigError, match=words):
        router.assign(leads(N), now=NOW, jobs=jobs)


@pytest.mark.usefixtures("chunks")
def test_a_rule_that_other_processes_cannot_know_is_named(rated):
    register_rule(Rule(RULE, "is of one half", lambda situation: of_one_half(situation)), replace=True)
    told = f"jobs: .*rule '{RULE}' cannot be given to other processes.*or use jobs=1"
    with Router.open(rated) as router, pytest.raises(ConfigError, match=told):
        router.assign(leads(N), now=NOW, jobs=2)


@pytest.mark.parametrize(("each", "begun"), [(N + 1, []), (N, []), (N // 2, [2]), (N // 3, [3]), (1, [4])])
def test_there_are_no_more_processes_than_the_leads_are_worth(rated, monkeypatch, each, begun):
    asked = []

    def workers(jobs):
        asked.append(jobs)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(_candidates, "LEADS_EACH", each)
    monkeypatch.setattr(_candidates, "workers", workers)
    monkeypatch.setattr(_candidates, "_LOOKING", {})
    with Router.open(rated) as router:
        router.assign(leads(N, country="DE"), now=NOW, jobs=4)
    assert asked == begun
