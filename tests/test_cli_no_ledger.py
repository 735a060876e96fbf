"""A ledger that is not there: a mistyped address must not begin one that knows of no lead."""

import pytest
from tests.test_cli_routing import NOW, a_lead, config, leads, partnerml, told

from partnerml.errors import SourceError
from partnerml.routing import Ledger, Router

assert config  # a fixture


@pytest.mark.parametrize(
    "command",
    [
        ("expire",),
        ("queue",),
        ("respond", "offer-1", "accepted"),
        ("override", "l1", "p0", "--by", "Ada", "--reason", "why"),
        ("why-not", "l1", "p0"),
        ("replay", "decision-1"),
        ("forget", "l1"),
        ("reprice",),
        ("withdraw", "offer-1"),
        ("history", "l1"),
        ("for-partner", "l1", "p0"),
        ("export", "assignments", "--out", "x.csv"),
        ("simulate", "2026-06-01"),
    ],
)
def test_who_needs_one_says_that_it_is_not_there(config, command):
    done = partnerml(*command, "-c", config)
    assert done.exit_code == 2
    assert "there is no ledger in sqlite" in done.stderr
    assert "correct its address (routing.ledger)" in done.stderr
    assert not list(config.parent.rglob("ledger.db*"))


def test_outcomes_need_one_too(config):
    done = partnerml("outcomes", "-c", config, "--from", leads(config.parent, [{"lead_id": "l1", "outcome": "won"}]))
    assert done.exit_code == 2
    assert "there is no ledger in sqlite" in done.stderr


def test_route_tells_that_it_begins_one_and_dry_runs_and_questions_make_none(config):
    file = leads(config.parent, [a_lead(1)])
    asked = ("-c", config, "--leads", file, "--out", config.parent / "out.jsonl", *NOW)
    assert told("route", *asked, "--dry-run")["statuses"] == {"assigned": 1}
    assert told("why-not", "p3", "--lead", file, "-c", config, *NOW)["failed"]
    assert not list(config.parent.rglob("ledger.db*"))
    begins = "out/ledger.db holds no leads yet: a new ledger begins"
    assert begins in partnerml("route", *asked).stderr
    assert begins not in partnerml("route", *asked).stderr
    # what was written is read by a dry run
    (first,) = Ledger.open(f"sqlite:///{config.parent}/out/ledger.db").offers()
    assert first.lead_id == "l1"


def test_a_folder_that_is_not_there_is_refused(config):
    file = leads(config.parent, [a_lead(1)])
    address = f"routing.ledger=sqlite:///{config.parent}/nodir/x.db"
    out = config.parent / "out.jsonl"
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, "--set", address)
    assert done.exit_code == 2
    assert "nodir/x.db is not there: make it, or correct the address (routing.ledger)" in done.stderr
    assert not (config.parent / "nodir").exists()
    assert not out.exists()


def test_in_python_one_is_begun_unless_it_is_to_be_there(tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(SourceError, match="there is no ledger in sqlite"):
        Ledger.open(url, begin=False)
    (tmp_path / "ledger.db").touch()  # a file without tables is none either, and stays without
    for _ in range(2):
        with pytest.raises(SourceError, match="there is no ledger in sqlite"):
            Ledger.open(url, begin=False)
    caplog.set_level("INFO", "partnerml")
    Ledger.open(url).close()
    assert "a new ledger begins" in caplog.text
    caplog.clear()
    with Ledger.open(url, begin=False) as ledger:
        assert ledger.offers() == []
    Ledger.open(None).close()
    assert caplog.text == ""


def test_a_router_takes_a_ledger_that_is_open(config):
    with Ledger.open(None) as ledger, Router.open(config.parent / "out/snapshots/current", ledger=ledger) as router:
        assert router.ledger is ledger
