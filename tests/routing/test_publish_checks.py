"""Before a snapshot becomes the one to route by, it is looked at as routers do; these need no model."""

import datetime as dt
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tests.routing.made_up import AS_OF, snapshot

from partnerml import publishing
from partnerml.cli import app
from partnerml.config import Config
from partnerml.errors import ConfigError, DataError
from partnerml.publishing import publish, snapshots_folder
from partnerml.routing import Prices, Router
from partnerml.routing._pricing import PriceBook
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._snapshot_files import current

WEIGHED = {"policy": {"kind": "round_robin", "weights": "share"}}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Publish partners as dicts under a section `routing`, and return the folder of the snapshots."""

    def published(partners, **routing):
        config = Config.model_validate({"output": str(tmp_path), "routing": routing})

        def made(eco, *, as_of, progress):
            return snapshot(partners, config=eco.config.routing, cells=[], as_of=as_of)

        monkeypatch.setattr(publishing, "snapshot_of", made)
        publish(SimpleNamespace(config=config), as_of=AS_OF)
        return snapshots_folder(config)

    return published


@pytest.mark.parametrize(
    ("routing", "told"),
    [
        ({"order": ["foo"]}, "routing.order: there is no rule 'foo'"),
        ({"hours": {"time_zone": "Mars/X"}}, "routing.hours.time_zone: 'Mars/X' is not a time zone"),
        ({"hours": {"holidays": ["XX"]}}, "routing.hours.holidays: 'XX' begins with no two-letter code"),
        ({"policy": {"kind": "round_robin", "weights": "nosuch"}}, "partners has no column 'nosuch'"),
        ({"policy": {"kind": "round_robin", "weights": "name"}}, "the column 'name' of partners holds no numbers"),
        ({"batch": {"shares": [{"column": "nosuch", "value": "x", "least": 0.1}]}}, "partners has no column 'nosuch'"),
        ({"batch": {"shares": [{"column": "tier", "value": "x", "least": 0.1}]}}, "no partner has tier=x"),
    ],
)
def test_what_no_router_could_work_with_does_not_become_the_one_to_route_by(published, routing, told):
    partners = [{"name": "A", "tier": "gold"}, {"name": "B", "tier": "gold"}]
    folder = published(partners)
    before, there = current(folder), sorted(path.name for path in folder.iterdir())
    with pytest.raises(ConfigError, match=told):
        published(partners, **routing)
    assert current(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == there
    with Router.open(folder / "current") as router:
        assert router.route({"lead_id": "l1"}, now=AS_OF).status == "assigned"


def test_a_partner_in_no_time_zone_is_told_before_anything_is_switched(published):
    folder = published([{}])
    before = current(folder)
    with pytest.raises(DataError, match="time_zone of 1 partner"):
        published([{"time_zone": "Mars/X"}])
    assert current(folder) == before


def test_an_empty_weight_is_told_and_counts_as_nothing(published, caplog):
    folder = published([{"share": 2.0}, {"share": None}, {"share": 1.0}], **WEIGHED)
    assert "1 of 3 partners have no share (routing.policy.weights)" in caplog.text
    with Router.open(folder / "current") as router:
        got = [router.route({"lead_id": f"l{number}"}, now=AS_OF).partner_id for number in range(9)]
    assert [got.count(f"p{i}") for i in range(3)] == [6, 0, 3]


@pytest.mark.parametrize("weight", [-1.0, float("inf")])
def test_a_weight_that_is_none_is_refused(published, weight):
    with pytest.raises(DataError, match=f"share of 1 partner.s., first p1, is {weight}"):
        published([{"share": 2.0}, {"share": weight}], **WEIGHED)


def test_prices_lie_beside_what_is_published_and_a_batch_goes_by_its_own(published, caplog):
    folder = published([{}] * 3, hold_back=True)
    assert "routing.hold_back needs prices, and none were found yet" in caplog.text
    caplog.clear()
    by_partner = {"p0": 0.9, "p1": 0.25, "gone": 0.5}
    PriceBook(folder).publish(Prices(AS_OF, leads=5, expected=9, objective="win", by_partner=by_partner))
    published([{}] * 2, hold_back=True)
    assert caplog.text == ""
    assert Snapshot.open(folder / "current").prices.tolist() == [0.0, 0.0]
    with Router.open(folder / "current") as router:
        assert router.snapshot.prices.tolist() == [0.9, 0.25]
        decision = router.route({"lead_id": "l1"}, now=AS_OF)
        assert decision.prices_id
        assert router.replay(decision.decision_id) == decision
        assert router._in_use.opened.as_published().snapshot.prices.tolist() == [0.0, 0.0]
        # after a publish too, to delete the file is to do without
        (folder / "prices" / "current.json").unlink()
        assert router.refresh()
        assert router.unpriced
        assert router.route({"lead_id": "l2"}, now=AS_OF).price == 0.0


def test_who_publishes_beside_old_prices_is_told(published, caplog):
    folder, day = published([{}] * 2), AS_OF - dt.timedelta(days=1)
    for found_at, warned in ((day, False), (day - dt.timedelta(hours=13), True)):
        since = found_at - dt.timedelta(days=7)
        PriceBook(folder).publish(Prices(found_at, leads=5, expected=9, objective="win", by_partner={}, since=since))
        published([{}] * 2)
        assert ("found by 5 leads that came from" in caplog.text) == warned
        assert ("are older than routing.max_price_age (36 hours)" in caplog.text) == warned


def test_the_command_reads_prices_once_and_tells_what_it_read(published, caplog, tmp_path):
    folder = published([{}] * 2)
    (tmp_path / "partners.csv").write_text("partner_id\np0\np1\n")
    (config := tmp_path / "partnerml.yaml").write_text(f"data: {{source: .}}\noutput: {tmp_path}\n")

    def command():
        done = CliRunner().invoke(app, ["publish", "-c", str(config), "--as-of", "2026-06-01", "--json"])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["prices"], done.stderr

    assert command()[0] is None
    found = Prices(AS_OF, leads=5, expected=9, objective="win", by_partner={})
    PriceBook(folder).publish(found)
    assert command()[0] == found.evidence()
    (folder / "prices" / "current.json").write_text("{")
    none, told = command()
    assert none is None
    assert told.count("current.json holds no prices") == 1


def test_who_publishes_by_another_objective_is_told_that_prices_are_in_another_unit(published, caplog):
    folder = published([{}] * 2, objective="value")
    PriceBook(folder).publish(Prices(AS_OF, leads=5, expected=9, objective="value", by_partner={"p1": 900.0}))
    published([{}] * 2, hold_back=True)
    assert "are in the unit of routing.objective: value, and leads are routed by win" in caplog.text
    assert "routing.hold_back needs prices" in caplog.text
    (folder / "prices" / "current.json").write_text("{")
    published([{}] * 2)
    assert "current.json holds no prices" in caplog.text
