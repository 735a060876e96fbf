"""The commands of routing and of the ledger, on a small snapshot that needs no model."""

import csv
import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from tests.routing.made_up import snapshot

from partnerml.cli import app
from partnerml.config import CurrencyConfig
from partnerml.routing import Ledger, Router
from partnerml.routing._snapshot_files import publish_current

NOW = ("--now", "2026-06-01T09:00")
LATER = ("--now", "2026-06-02T09:00")
CONTRACT = [
    *("decision_id", "lead_id", "status", "partner_id", "offer_id", "duplicate_of", "rank", "p_win", "price"),
    *("utility", "propensity", "explores", "n_eligible", "funnel", "alternatives", "reasons", "policy"),
    *("model_version", "snapshot_id", "decided_at", "seed"),
]


def partnerml(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(*arguments: object) -> dict:
    """What a command prints as JSON."""
    done = partnerml(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def publish_world(config: Path, *, joined: int = 0, **more: object) -> None:
    """Publish a snapshot of four partners, of whom p1 has won most, and of some who joined later."""
    partners = [{"name": f"Firm {i}", "country": "DE", "max_open_leads": 3} for i in range(4 + joined)]
    partners[3]["min_deal_amount"] = 1000.0
    won = {"p0": 2, "p1": 9, "p2": 5, "p3": 10}
    cells = [
        {"partner_id": partner, "dimension": "all", "value": "all", "closed": 10, "won": n, "days": 90}
        for partner, n in won.items()
    ]
    world = snapshot(partners, cells=cells, **more)
    folder = config.parent / "out" / "snapshots"
    publish_current(folder, world.write(folder).name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a snapshot."""
    path = tmp_path / "partnerml.yaml"
    publish_world(path)
    path.write_text("data: {source: data/}\n")
    return path


def leads(folder: Path, rows: list[dict], name: str = "leads.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def a_lead(number: int, **values: object) -> dict[str, object]:
    return {"lead_id": f"l{number}", "created_at": "2026-06-01T08:00:00Z", "amount": 50, **values}


@pytest.fixture
def routed(config: Path) -> dict:
    """The decision on one lead."""
    file = leads(config.parent, [a_lead(1)])
    out = config.parent / "decisions.jsonl"
    told("route", "-c", config, "--leads", file, "--out", out, *NOW)
    return json.loads(out.read_text())


# route


def test_leads_become_decisions_with_the_columns_of_the_contract(config):
    file = leads(config.parent, [a_lead(1), a_lead(2, domain="acme.com"), a_lead(3, domain="www.acme.com")])
    out = config.parent / "made" / "decisions.parquet"
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW)
    assert done.exit_code == 0, done.stderr
    frame = pd.read_parquet(out)
    assert list(frame.columns) == CONTRACT
    assert frame["lead_id"].tolist() == ["l1", "l2", "l3"]
    assert frame["status"].tolist() == ["assigned", "assigned", "duplicate"]
    assert frame["partner_id"].tolist()[0] == "p1"
    assert str(frame["decided_at"].dtype) == "datetime64[us, UTC]"
    for words in (
        "Firm 1 (p1)",
        "the most likely to close of 3 eligible",
        "it is the lead l2 of 2026-06-01 come again",
        "3 are eligible; left out: 1 by deal_size",
        "answer with: partnerml respond offer-",
        "3 leads: 2 assigned, 1 duplicate",
        f"decisions: {out}",
    ):
        assert words in " ".join(done.stdout.split())


def test_leads_in_a_currency_without_a_rate_are_set_aside(config):
    publish_world(config, currency=CurrencyConfig(to="EUR", rates={"JPY": 0.006}))
    rows = [a_lead(1, amount=2000), a_lead(2, amount=2000, currency="JPY"), a_lead(3, amount=2000, currency="CHF")]
    file, out = leads(config.parent, rows), config.parent / "decisions.csv"
    most = ("--set", "validation.max_rejected=0.5")
    for mode in ("online", "batch"):
        found = told("route", "-c", config, "--leads", file, "--out", out, *NOW, *most, "--mode", mode, "--dry-run")
        assert (found["set_aside"], found["statuses"]) == (1, {"assigned": 2})
        # p3 takes deals of 1,000 and more
        assert pd.read_csv(out)["partner_id"].tolist() == ["p3", "p1"]
        (aside,) = pd.read_csv(found["rejects"])["reason"]
        assert aside.startswith("lead 'l3': its amount is in CHF, and amounts here are in EUR; name the rate in data.")


def test_the_same_again_is_the_same_file(config):
    file, out = leads(config.parent, [a_lead(n) for n in range(5)]), config.parent / "decisions.csv"
    first = told("route", "-c", config, "--leads", file, "--out", out, *NOW)
    before = out.read_bytes()
    again = told("route", "-c", config, "--leads", file, "--out", out, "--now", "2026-06-01T11:00")
    assert again == first
    assert first["statuses"] == {"assigned": 5}
    assert first["set_aside"] == 0
    assert first["rejects"] is None
    assert first["ledger"] == f"sqlite:///{config.parent / 'out' / 'ledger.db'}"
    assert out.read_bytes() == before


def test_a_run_that_was_stopped_is_run_again(config, monkeypatch):
    file, out = leads(config.parent, [a_lead(n) for n in range(6)]), config.parent / "decisions.jsonl"
    real, seen = Router.route, []

    def route(self, lead, **more):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(real(self, lead, **more))
        return seen[-1]

    monkeypatch.setattr(Router, "route", route)
    stopped = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW)
    assert stopped.exit_code == 130
    assert not out.exists()
    monkeypatch.setattr(Router, "route", real)
    told("route", "-c", config, "--leads", file, "--out", out, "--now", "2026-06-01T10:00")
    texts = out.read_text().splitlines()
    assert texts[:3] == [decision.to_json() for decision in seen]
    assert len(texts) == 6


def test_rows_that_are_no_leads_are_set_aside(config):
    rows = [a_lead(n) for n in range(5)] + [a_lead(8, latitude=91), {"lead_id": "l9", "amount": "much"}]
    file, out = leads(config.parent, rows), config.parent / "decisions.csv"
    refused = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW)
    assert refused.exit_code == 2
    assert "2 of 7 rows cannot be used, more than validation.max_rejected allows (1 %)" in refused.stderr
    assert "lead 'l8': latitude must be degrees from -90 to 90, got 91" in refused.stderr
    assert "nothing was routed" in refused.stderr
    assert not out.exists()
    most = ("--set", "validation.max_rejected=0.5")
    found = told("route", "-c", config, "--leads", file, "--out", out, *NOW, *most)
    assert (found["leads"], found["set_aside"], found["statuses"]) == (7, 2, {"assigned": 5})
    with Path(found["rejects"]).open() as handle:
        aside = list(csv.DictReader(handle))
    assert [row["lead_id"] for row in aside] == ["l8", "l9"]
    assert aside[0]["latitude"] == "91"
    assert "amount must be an amount" in aside[1]["reason"]
    # what is set aside by no run any more is gone
    leads(config.parent, rows[:5])
    assert told("route", "-c", config, "--leads", file, "--out", out, *NOW)["rejects"] is None
    assert not Path(found["rejects"]).exists()


def test_a_lead_that_came_with_other_values_is_set_aside(config, routed):
    rows = [a_lead(1, amount=60), *(a_lead(n) for n in range(2, 5))]
    file, out = leads(config.parent, rows), config.parent / "more.csv"
    most = ("--set", "validation.max_rejected=0.5")
    found = told("route", "-c", config, "--leads", file, "--out", out, *NOW, *most)
    assert (found["set_aside"], found["statuses"]) == (1, {"assigned": 3})
    assert "was routed before with other values of amount" in Path(found["rejects"]).read_text()
    # without that allowance nothing is routed, and no file appears
    out = config.parent / "none.csv"
    for way in ((), ("--mode", "batch"), ("--dry-run",)):
        rows = [a_lead(1, amount=60), *(a_lead(n) for n in range(10, 13))]
        file = leads(config.parent, rows, "others.jsonl")
        failed = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, *way, "--json")
        assert failed.exit_code == 2
        assert "1 of 4 rows cannot be used" in json.loads(failed.stdout)["error"]["message"]
        assert "nothing was routed" in failed.stderr
        assert not out.exists()
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        assert {offer.lead_id for offer in ledger.offers()} == {"l1", "l2", "l3", "l4"}


def test_a_lead_that_came_with_other_values_leaves_no_empty_file(config, routed):
    file, out = leads(config.parent, [a_lead(1, amount=60)]), config.parent / "none.csv"
    failed = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW)
    assert failed.exit_code == 2
    assert "routed before with other values of amount" in failed.stderr
    assert not out.exists()


def test_a_lead_that_changes_while_leads_are_routed_is_set_aside(config, monkeypatch):
    file, out = leads(config.parent, [a_lead(1), a_lead(2)]), config.parent / "some.csv"
    real = Router.route

    def route(self, lead, **more):
        if lead.lead_id == "l2":  # somebody else sends it first, otherwise
            real(self, a_lead(2, amount=60), **more)
        return real(self, lead, **more)

    monkeypatch.setattr(Router, "route", route)
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["statuses"] == {"assigned": 1}
    assert pd.read_csv(out)["lead_id"].tolist() == ["l1"]


def test_odd_moments_of_leads_are_warned_of(config):
    undated = {"lead_id": "l3", "amount": 50}
    rows = [a_lead(1), a_lead(2, created_at="2026-06-03T08:00:00Z"), undated]
    file, out = leads(config.parent, rows), config.parent / "decisions.csv"
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, "--json")
    assert done.exit_code == 0, done.stderr
    assert "1 of 3 leads have no created_at, first 'l3'" in done.stderr
    assert (
        "1 of 3 leads have a created_at more than a day after now (2026-06-01T09:00:00+00:00), first 'l2'"
        in done.stderr
    )
    found = json.loads(done.stdout)
    assert (len(found["warnings"]), found["statuses"]) == (2, {"assigned": 3})
    leads(config.parent, [a_lead(1)])
    assert told("route", "-c", config, "--leads", file, "--out", out, *NOW)["warnings"] == []


def test_a_rule_that_there_is_not_is_refused_whatever_was_published(config):
    file, out = leads(config.parent, [a_lead(1)]), config.parent / "decisions.csv"
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, "--set", "routing.order=[langage]")
    assert done.exit_code == 2
    assert "langage" in done.stderr
    assert "language" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "file", "words"),
    [
        ("decisions.xlsx", "leads.jsonl", "decisions are written to .parquet, .csv, .jsonl"),
        ("decisions.csv", "nowhere.csv", "there is no such file"),
        ("decisions.csv", "leads.xlsx", "leads are read from .csv, .csv.gz, .parquet, .jsonl"),
    ],
)
def test_files_that_cannot_be_are_refused(config, out, file, words):
    leads(config.parent, [a_lead(1)])
    done = partnerml("route", "-c", config, "--leads", config.parent / file, "--out", config.parent / out, *NOW)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (config.parent / "out" / "ledger.db").exists()


def test_a_batch_is_given_out_at_once(config):
    pytest.importorskip("numba")
    file, out = leads(config.parent, [a_lead(n) for n in range(8)]), config.parent / "decisions.parquet"
    done = partnerml("route", "-c", config, "--leads", file, "--out", out, *NOW, "--mode", "batch")
    assert done.exit_code == 0, done.stderr
    frame = pd.read_parquet(out)
    assert frame["partner_id"].value_counts().to_dict() == {"p1": 3, "p2": 3, "p0": 2}
    assert set(frame["policy"]) == {"batch"}
    assert "8 given out at once" in done.stdout
    # capacity has been given out: one by one they get the same
    again = told("route", "-c", config, "--leads", file, "--out", out, *NOW)
    assert again["statuses"] == {"assigned": 8}
    assert pd.read_parquet(out).equals(frame)


def test_several_jobs_are_for_a_batch(config):
    pytest.importorskip("numba")
    file, out = leads(config.parent, [a_lead(n) for n in range(3)]), config.parent / "decisions.jsonl"
    command = ("route", "-c", config, "--leads", file, "--out", out, *NOW, "--jobs", "2")
    done = partnerml(*command)
    assert done.exit_code == 2
    assert "--jobs is for a batch" in done.stderr
    assert not out.exists()
    # fewer than one chunk: no other process is begun
    assert told(*command, "--mode", "batch")["batch"]["given"] == 3


def test_a_dry_run_goes_by_the_rules_of_the_configuration_and_writes_nothing_else(config):
    file, out = leads(config.parent, [a_lead(n) for n in range(4)]), config.parent / "would.csv"
    command = ("route", "-c", config, "--leads", file, "--out", out, *NOW, "--dry-run")
    as_it_is = partnerml(*command)
    assert as_it_is.exit_code == 0, as_it_is.stderr
    assert "no offer was made, and nothing is in the ledger" in as_it_is.stdout
    assert "answer with" not in as_it_is.stdout
    assert pd.read_csv(out)["partner_id"].tolist() == ["p1", "p1", "p1", "p2"]
    without = told(*command, "--set", "routing.rules.deal_size.enabled=false")
    assert pd.read_csv(out)["partner_id"].tolist() == ["p3", "p3", "p3", "p1"]
    assert without["dry_run"] is True
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        assert ledger.history().empty


def test_a_dry_run_of_a_batch_tells_what_it_would_do_and_writes_nothing_else(config):
    pytest.importorskip("numba")
    file, out = leads(config.parent, [a_lead(n) for n in range(8)]), config.parent / "would.csv"
    command = ("route", "-c", config, "--leads", file, "--out", out, *NOW, "--mode", "batch")
    would = told(*command, "--dry-run")
    rehearsed = out.read_bytes()
    assert (would["dry_run"], would["batch"]["given"]) == (True, 8)
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        assert ledger.history().empty
    # the prices of an auction that gave nothing out are not kept either
    assert not (config.parent / "out" / "snapshots" / "prices").exists()
    assert told(*command)["batch"] == would["batch"]
    assert out.read_bytes() == rehearsed


def test_rules_that_changed_and_were_not_published_are_warned_of(config, routed):
    done = partnerml("expire", "-c", config, *NOW, "--set", "routing.offers.limit=5")
    assert done.exit_code == 0
    assert "routing.offers changed since the snapshot was published" in done.stderr
    assert "changed since" not in partnerml("expire", "-c", config, *NOW).stderr


def test_without_a_snapshot_the_remedy_is_told(tmp_path):
    (tmp_path / "partnerml.yaml").write_text("data: {source: data/}\n")
    file = leads(tmp_path, [a_lead(1)])
    for command in (
        ("route", "--leads", file, "--out", tmp_path / "decisions.csv"),
        ("respond", "offer-1", "accepted"),
        ("why-not", "l1", "p1"),
    ):
        done = partnerml(*command, "-c", tmp_path / "partnerml.yaml")
        assert done.exit_code == 2
        assert "run partnerml publish --as-of DATE first" in done.stderr


def test_a_snapshot_that_is_too_old_is_told(config):
    file = leads(config.parent, [a_lead(1)])
    done = partnerml("route", "-c", config, "--leads", file, "--out", "x.csv", "--now", "2026-06-05")
    assert done.exit_code == 2
    assert "routing.max_snapshot_age allows 36" in done.stderr


# the ledger


def test_answers(config, routed):
    offer = routed["offer_id"]
    declined = partnerml("respond", "-c", config, offer, "declined", "--by", "Ada", "--reason", "busy", *NOW)
    assert declined.exit_code == 0, declined.stderr
    assert f"offer {offer} is declined; where the lead stands now:" in declined.stdout
    assert "partner Firm 2 (p2)" in declined.stdout
    second = told("respond", "-c", config, offer, "declined", *NOW)["decision"]
    accepted = told("respond", "-c", config, second["offer_id"], "accepted", *NOW)["decision"]
    assert accepted == second
    done = partnerml("respond", "-c", config, offer, "accepted", *NOW)
    assert done.exit_code == 2
    assert "is declined" in done.stderr
    assert partnerml("respond", "-c", config, offer, "maybe").exit_code == 2


def test_overdue_offers_expire(config, routed):
    nothing = partnerml("expire", "-c", config, *LATER)
    assert "no offer is overdue, and no lead waits that can go on" in nothing.stdout
    # by then the snapshot is too old to choose by
    (waits,) = told("expire", "-c", config, "--now", "2026-06-05")["decisions"]
    assert (waits["status"], waits["partner_id"]) == ("fallback", None)
    assert "routing.max_snapshot_age allows 36" in waits["why"]
    publish_world(config, as_of=dt.datetime(2026, 6, 5, tzinfo=dt.UTC))
    # its offer had expired before
    moved = partnerml("expire", "-c", config, "--now", "2026-06-05")
    assert "1 lead goes on; where it stands now" in moved.stdout
    assert "Firm 2 (p2)" in moved.stdout
    (again,) = told("expire", "-c", config, "--now", "2026-06-12")["decisions"]
    assert again["lead_id"] == "l1"


def test_a_person_decides_otherwise(config, routed):
    command = ("override", "-c", config, "l1", "p3", "--by", "Ada", "--reason", "knows them", *NOW)
    done = partnerml(*command)
    assert done.exit_code == 0, done.stderr
    assert "Ada gave it to this partner: knows them" in done.stdout
    assert "answer with" not in done.stdout
    assert partnerml("override", "-c", config, "l1", "p3").exit_code == 2
    wrong = partnerml("override", "-c", config, "l1", "p9", "--by", "Ada", "--reason", "so")
    assert "there is no partner 'p9'" in wrong.stderr


def test_why_not(config, routed):
    one = partnerml("why-not", "-c", config, "l1", "p3", *NOW)
    assert one.exit_code == 0, one.stderr
    assert one.stdout.splitlines()[0] == "Firm 3 (p3) may not get lead l1:"
    assert one.stdout.splitlines()[1].startswith("  deal_size: ")
    file = leads(config.parent, [a_lead(7, amount=5000)], "new.jsonl")
    free = told("why-not", "-c", config, "p3", "--lead", file, *NOW)
    assert free == {"lead_id": "l7", "partner_id": "p3", "eligible": True, "failed": []}
    leads(config.parent, [a_lead(7), a_lead(8)], "new.jsonl")
    several = partnerml("why-not", "-c", config, "p3", "--lead", file, *NOW)
    assert "holds 2 leads; say which" in several.stderr
    assert told("why-not", "-c", config, "l8", "p3", "--lead", file, *NOW)["eligible"] is False
    assert "holds no lead 'l9'" in partnerml("why-not", "-c", config, "l9", "p3", "--lead", file).stderr
    assert "name the lead and the partner" in partnerml("why-not", "-c", config, "l1").stderr
    assert "was never routed" in partnerml("why-not", "-c", config, "l9", "p3").stderr


def test_why_not_for_a_partner_tells_nothing_about_others(config):
    rows = [a_lead(1, domain="acme.com"), a_lead(2, domain="acme.com")]
    out = config.parent / "decisions.csv"
    told("route", "-c", config, "--leads", leads(config.parent, rows), "--out", out, *NOW)
    file = leads(config.parent, rows[1:], "new.jsonl")
    ours = told("why-not", "-c", config, "p3", "--lead", file, *NOW)
    theirs = told("why-not", "-c", config, "p3", "--lead", file, *NOW, "--audience", "partner")
    assert "p1" in ours["failed"][0]["evidence"]
    assert theirs["failed"][0]["evidence"] == "it is another lead come again"


def test_a_past_decision_is_made_again(config, routed):
    done = partnerml("replay", "-c", config, routed["decision_id"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("comes out the same, byte for byte:")
    assert told("replay", "-c", config, routed["decision_id"])["decision"] == routed
    assert told("replay", "-c", config, routed["decision_id"], *NOW)["decision"] == routed
    early = partnerml("replay", "-c", config, routed["decision_id"], "--now", "2026-06-01")
    assert (early.exit_code, "after 2026-06-01T00:00:00" in early.stderr) == (2, True)
    unknown = partnerml("replay", "-c", config, "decision-1")
    assert unknown.exit_code == 2
    assert "there is no decision 'decision-1'" in unknown.stderr


def test_outcomes_from_a_file(config, routed):
    told("respond", "-c", config, routed["offer_id"], "accepted", *NOW)
    file = config.parent / "closed.csv"
    file.write_text("lead_id,outcome,closed_at,amount\nl1,Won,2026-06-01T20:00:00Z,4500\n")
    found = told("outcomes", "-c", config, "--from", file, "--by", "crm", *LATER)
    assert found == {"rows": 1, "written": 1, "set_aside": 0, "rejects": None}
    assert told("outcomes", "-c", config, "--from", file, *LATER) == found
    file.write_text(
        "lead_id,outcome,closed_at,amount\nl1,won,2026-06-01T20:00:00Z,4500\nl2,won,,\nl3,gone,,\n,lost,,\nl5,won,x,\n"
    )
    done = partnerml("outcomes", "-c", config, "--from", file, *LATER)
    assert done.exit_code == 2
    assert "0 outcomes in the ledger" in done.stdout
    assert "4 of 5 rows cannot be used" in done.stderr
    assert "; nothing was written" in done.stderr
    few = partnerml("outcomes", "-c", config, "--from", file, "--set", "validation.max_rejected=0.9", *LATER)
    assert few.exit_code == 0, few.stderr
    assert "1 outcome in the ledger" in few.stdout
    reasons = pd.read_csv(config.parent / "out" / "outcomes.rejects.csv")["reason"].tolist()
    for words, reason in zip(
        (
            "there is no lead 'l2' in this ledger",
            "must be one of won, lost, cancelled, got 'gone'",
            "lead_id is missing",
            "closed_at must be a date",
        ),
        reasons,
        strict=True,
    ):
        assert words in reason
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        exported = ledger.export("assignments").iloc[0]
    assert (exported["outcome"], exported["amount"]) == ("won", 4500.0)


def test_forgetting(config, routed):
    done = partnerml("forget", "-c", config, "l1", "--by", "Ada", *LATER)
    assert done.stdout == "1 lead of l1 forgotten\n"
    again = partnerml("forget", "-c", config, "l1", *LATER)
    assert again.exit_code == 2
    assert "there is no lead and no account 'l1'" in again.stderr


def test_the_ledger_is_where_the_configuration_says(config):
    file = leads(config.parent, [a_lead(1)])
    with config.open("a") as handle:
        handle.write("routing: {ledger: 'sqlite:///kept.db'}\n")
    told("route", "-c", config, "--leads", file, "--out", config.parent / "d.csv", *NOW)
    assert (config.parent / "kept.db").is_file()
    assert not (config.parent / "out" / "ledger.db").exists()


# publish


def test_there_is_nothing_to_publish_without_a_model(tmp_path):
    (tmp_path / "data").mkdir()
    pd.DataFrame({"partner_id": ["p1"]}).to_csv(tmp_path / "data" / "partners.csv", index=False)
    (tmp_path / "partnerml.yaml").write_text("data: {source: data/}\n")
    done = partnerml("publish", "-c", tmp_path / "partnerml.yaml", "--as-of", "2026-06-01")
    assert done.exit_code == 2
    assert "run partnerml train close first" in done.stderr


def test_the_address_of_the_ledger_is_no_part_of_a_snapshot(tmp_path):
    secret = snapshot(2, config={"ledger": "postgresql+psycopg://me:secret@host/db"})
    folder = secret.write(tmp_path)
    assert folder.name == snapshot(2).write(tmp_path).name
    assert not any(b"secret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_decisions_never_take_the_place_of_the_leads(config):
    file = config.parent / "leads.csv"
    file.write_text("lead_id,created_at\nl1,2026-06-01T08:00:00Z\n")
    before = file.read_bytes()
    done = partnerml("route", "-c", config, "--leads", file, "--out", file.parent / "." / file.name, *NOW)
    assert done.exit_code == 2
    assert "holds the leads" in done.stderr
    assert file.read_bytes() == before


def test_nor_do_leads_that_are_set_aside(config):
    file = config.parent / "mended.rejects.csv"
    file.write_text("lead_id,created_at\nl1,2026-06-01T08:00:00Z\n")
    before = file.read_bytes()
    done = partnerml("route", "-c", config, "--leads", file, "--out", config.parent / "mended.csv", *NOW)
    assert done.exit_code == 2
    assert "holds the leads" in done.stderr
    assert file.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told_before_any_lead_is_routed(config):
    file = leads(config.parent, [a_lead(1)])
    done = partnerml("route", "-c", config, "--leads", file, "--out", "/proc/decisions.csv", *NOW)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        assert ledger.offers() == []


def test_rows_set_aside_lie_beside_the_decisions_under_their_name(config):
    other = config.parent / "a.rejects.csv"
    other.write_text("somebody else's\n")
    file = leads(config.parent, [a_lead(1)])
    done = partnerml("route", "-c", config, "--leads", file, "--out", config.parent / "a.b.csv", *NOW)
    assert done.exit_code == 0, done.stderr
    assert other.read_text() == "somebody else's\n"
