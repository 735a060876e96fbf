"""Prices on the command line: found by one command, taken up by all others."""

import json

import pytest
from tests.routing.made_up import snapshot
from tests.test_cli_routing import NOW, a_lead, config, leads, partnerml, told

from partnerml.routing._snapshot_files import publish_current

pytest.importorskip("numba")
assert config  # a fixture


def decided(config, *more, prefix=0, n=2):
    out = config.parent / "decisions.jsonl"
    file = leads(config.parent, [a_lead(prefix + number) for number in range(n)])
    document = told("route", "-c", config, "--leads", file, "--out", out, *NOW, *more)
    return document, [json.loads(line) for line in out.read_text().splitlines()]


def test_prices_are_found_by_the_ledger_and_every_command_goes_by_them(config):
    _, first = decided(config)
    assert all(decision["price"] == 0 for decision in first)
    document = told("reprice", "-c", config, "--expected", 20, *NOW)
    assert (document["leads"], document["expected"], document["partners"]) == (2, 20, 4)
    assert (document["since"], document["found_at"]) == ("2026-05-25T09:00:00+00:00", "2026-06-01T09:00:00+00:00")
    assert max(document["prices"], key=document["prices"].get) == "p1"
    assert document["snapshot_id"] == first[0]["snapshot_id"]
    for more in ((), ("--dry-run",)):
        routed, priced = decided(config, *more, prefix=10, n=1)
        (alternative,) = [each for each in priced[0]["alternatives"] if each["partner_id"] == "p1"] or [priced[0]]
        assert alternative["price"] == document["prices"]["p1"]
        assert routed["snapshot_id"] == document["snapshot_id"]
    assert partnerml("replay", priced[0]["decision_id"], "-c", config).exit_code == 0
    shown = partnerml("reprice", "-c", config, "--expected", 20, *NOW).stdout
    assert "3 leads of the last 7 days, 20 expected, found at 2026-06-01 09:00 UTC: " in shown
    assert "of 4 partners have a price" in shown
    assert "Firm 1 (p1)" in shown


def test_without_leads_there_are_no_prices_and_that_is_told(config):
    decided(config)
    done = partnerml("reprice", "-c", config, "--now", "2026-07-01")
    assert done.exit_code == 0
    assert "no lead of the last 7 days was decided among partners of the snapshot: no price" in done.stderr
    assert partnerml("reprice", "-c", config, "--days", 0).exit_code == 2


def test_who_holds_leads_back_without_prices_is_warned(config):
    folder = config.parent / "out" / "snapshots"
    publish_current(folder, snapshot(3, cells=[], config={"hold_back": True}).write(folder).name)
    document, _ = decided(config, "--set", "routing.hold_back=true")
    assert any("routing.hold_back needs prices" in told for told in document["warnings"])
    told("reprice", "-c", config, "--set", "routing.hold_back=true", *NOW)
    document, _ = decided(config, "--set", "routing.hold_back=true", prefix=10)
    assert document["warnings"] == []


def test_a_damaged_file_of_prices_is_told_and_found_anew(config):
    decided(config)
    told("reprice", "-c", config, "--expected", 20, *NOW)
    file = config.parent / "out" / "snapshots" / "prices" / "current.json"
    file.write_text("{")
    done = partnerml("expire", "-c", config, *NOW)
    assert done.exit_code == 0
    assert "current.json holds no prices" in done.stderr
    document = told("reprice", "-c", config, "--expected", 20, *NOW)
    assert json.loads(file.read_text())["by_partner"] == document["prices"] != {}
    assert "prices" not in partnerml("expire", "-c", config, *NOW).stderr


def test_prices_in_the_unit_of_another_objective_are_left_out_of_what_is_tried(config):
    decided(config)
    told("reprice", "-c", config, "--expected", 20, *NOW)
    file = leads(config.parent, [a_lead(20)])
    out = config.parent / "would.jsonl"
    tried = ("-c", config, "--set", "routing.objective=value")
    done = partnerml("route", *tried, "--leads", file, "--out", out, "--dry-run", *NOW)
    assert done.exit_code == 0
    assert "in the unit of routing.objective: win, and leads are routed by value, without them" in done.stderr
    assert json.loads(out.read_text())["price"] == 0.0
