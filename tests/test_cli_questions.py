"""The commands that ask the ledger: what they print is what the library returns."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.routing import made_up
from tests.test_cli_routing import LATER, NOW, a_lead, config, leads, partnerml, publish_world, routed, told

from partnerml import Ecosystem
from partnerml.cli._questions import stood
from partnerml.routing import Ledger, Router
from partnerml.routing._decision_files import write_export

__all__ = ["config", "routed"]
BEFORE = ("--now", "2026-06-01T08:59")


def test_the_queue_is_empty_until_nobody_is_left(config, routed):
    assert partnerml("queue", "-c", config).stdout == "no lead waits for a person\n"
    file = leads(config.parent, [a_lead(7, excluded_partners=["p0", "p1", "p2"], account_name="Acme")], "new.jsonl")
    told("route", "-c", config, "--leads", file, "--out", config.parent / "d.csv", *NOW)
    (row,) = told("queue", "-c", config)["leads"]
    assert (row["lead_id"], row["since"], row["asked"]) == ("l7", "2026-06-01T09:00:00+00:00", 0)
    shown = partnerml("queue", "-c", config).stdout
    for part in ("l7", "2026-06-01 09:00", "Acme", "nobody may get it", "1 lead", "partnerml override LEAD_ID"):
        assert part in shown
    told("override", "-c", config, "l7", "p1", "--by", "Ada", "--reason", "knows them", *LATER)
    assert told("queue", "-c", config) == {"leads": []}
    assert told("queue", "-c", config, *NOW) == {"leads": [row]}
    assert told("queue", "-c", config, *BEFORE) == {"leads": []}


def test_the_queue_tells_what_goes_on_without_a_person(config, routed):
    told("respond", "-c", config, routed["offer_id"], "declined", "--now", "2026-06-02T10:00")
    told("expire", "-c", config, "--now", "2026-06-20T09:00")
    shown = " ".join(partnerml("queue", "-c", config).stdout.split())
    assert "1 of them partnerml expire decides, once a newer snapshot is there or what failed is mended" in shown


def test_what_is_asked_of_a_moment_is_as_it_was_known_by_then(config, routed):
    told("respond", "-c", config, routed["offer_id"], "declined", *LATER)
    assert [event["what"] for event in told("history", "-c", config, "l1", *NOW)["history"]] == ["decided", "offered"]
    assert told("for-partner", "-c", config, "l1", "p1", *NOW)["yours"]
    assert not told("for-partner", "-c", config, "l1", "p1", *LATER)["yours"]
    assert told("simulate", "-c", config, "2026-06-01", *NOW)["leads"] == 1
    assert "in_latest_decision" in told("why-not", "-c", config, "l1", "p0", *LATER)
    for then in (NOW, BEFORE):
        past = partnerml("why-not", "-c", config, "l1", "p0", *then)
        assert past.exit_code == 2
        assert "who may get a lead is told as things stand, and the ledger was written at 2026-06-0" in past.stderr
        assert "partnerml for-partner LEAD_ID PARTNER_ID --now" in past.stderr
    for before in (("history", "l1"), ("for-partner", "l1", "p1"), ("simulate", "2026-06-01")):
        done = partnerml(*before, "-c", config, *BEFORE)
        assert done.exit_code == 2, before
    assert told("export", "decisions", "-c", config, "--out", config.parent / "x.csv", *NOW)["rows"] == 1
    assert told("export", "decisions", "-c", config, "--out", config.parent / "x.csv")["rows"] == 2


def test_the_history_of_a_lead_tells_who_said_what_and_why(config, routed):
    told("respond", "-c", config, routed["offer_id"], "declined", "--by", "Ada", "--reason", "no time", *NOW)
    events = told("history", "-c", config, "l1")["history"]
    assert [event["what"] for event in events] == ["decided", "offered", "declined", "decided", "offered"]
    assert (events[2]["by"], events[2]["reason"], events[2]["at"]) == ("Ada", "no time", "2026-06-01T09:00:00+00:00")
    shown = partnerml("history", "-c", config, "l1").stdout
    for part in ("Lead l1", "decided: assigned", "declined", "no time", "2026-06-01 09:00"):
        assert part in shown
    unknown = partnerml("history", "-c", config, "l9")
    assert (unknown.exit_code, "lead 'l9' was never routed" in unknown.stderr) == (2, True)


def test_what_a_partner_gives_back_goes_to_the_next(config, routed):
    told("respond", "-c", config, routed["offer_id"], "accepted", *NOW)
    done = partnerml("withdraw", "-c", config, routed["offer_id"], "--by", "Ada", "--reason", "gave it back", *NOW)
    assert done.exit_code == 0, done.stderr
    assert f"offer {routed['offer_id']} is withdrawn; where the lead stands now:" in done.stdout
    assert "partner Firm 2 (p2)" in done.stdout
    assert "gave it back" in [event["reason"] for event in told("history", "-c", config, "l1")["history"]]


def test_what_is_given_back_too_late_has_expired(config, routed):
    late = ("--now", "2026-06-20T09:00", "--set", "routing.max_snapshot_age=90d")
    done = partnerml("withdraw", "-c", config, routed["offer_id"], "--by", "Ada", "--reason", "gave it back", *late)
    assert f"offer {routed['offer_id']} is expired; where the lead stands now:" in done.stdout, done.stderr
    (ended,) = (event for event in told("history", "-c", config, "l1")["history"] if event["what"] == "expired")
    assert ended["by"] is None


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("what", ["assignments", "decisions", "vectors"])
def test_an_export_reads_back_as_the_ledger_has_it(config, routed, what, ending):
    out = config.parent / f"x.{ending}"
    assert told("export", what, "-c", config, "--out", out) == {"what": what, "rows": 1, "path": str(out)}
    with Ledger.open(f"sqlite:///{config.parent / 'out' / 'ledger.db'}") as ledger:
        (wanted,) = ledger.export(what).to_dict("records")
    found = pd.read_parquet(out) if ending == "parquet" else pd.read_csv(out)
    assert list(found.columns) == list(wanted)
    (row,) = found.to_dict("records")
    for name, value in wanted.items():
        got = row[name]
        if ending == "csv" and isinstance(got, str) and got.startswith("["):
            assert json.loads(got) == list(value)
        elif isinstance(value, list) or hasattr(value, "tolist"):
            assert [dict(item) if isinstance(item, dict) else item for item in got] == list(value)
        elif pd.isna(value):
            assert pd.isna(got)
        else:
            assert (pd.Timestamp(got) if isinstance(value, pd.Timestamp) else got) == value


def test_types_of_an_export_do_not_hang_on_its_values(tmp_path):
    with Router.open(made_up.snapshot(2)) as router:
        for what in ("assignments", "decisions", "vectors"):
            write_export(router.ledger.export(what), tmp_path / f"{what}-none.parquet")
        router.route({"lead_id": "l1"}, now=made_up.AS_OF)
        for what in ("assignments", "decisions", "vectors"):
            write_export(router.ledger.export(what), tmp_path / f"{what}.parquet")
            schemas = [pq.read_schema(tmp_path / f"{what}{more}.parquet") for more in ("", "-none")]
            assert schemas[0] == schemas[1]


def test_what_was_exported_is_a_second_source_of_assignments(config, routed):
    data = config.parent / "data"
    data.mkdir()
    pd.DataFrame({"partner_id": ["p0", "p1"]}).to_csv(data / "partners.csv", index=False)
    pd.DataFrame({"lead_id": ["l0", "l1"], "created_at": ["2026-05-01", "2026-06-01"]}).to_csv(
        data / "leads.csv", index=False
    )
    own = {"lead_id": ["l0"], "partner_id": ["p0"], "assigned_at": ["2026-05-01"]}
    pd.DataFrame(own).to_csv(data / "assignments.csv", index=False)
    told("export", "assignments", "-c", config, "--out", config.parent / "routed.parquet")
    config.write_text(
        "data:\n  source: data/\n  sources: {routed: routed.parquet}\n  tables:\n"
        "    partners: {from: partners}\n    leads: {from: leads}\n"
        "    assignments: [{from: assignments}, {from: routed}]\n"
    )
    with Ecosystem.open(config) as eco:
        rows = eco.table("assignments").to_pandas().sort_values("lead_id")
        assert rows["partner_id"].tolist() == ["p0", "p1"]
        assert rows["propensity"].tolist()[1:] == [1.0]


def test_a_day_by_other_rules_is_set_beside_the_day_that_was(config, routed):
    same = told("simulate", "-c", config, "2026-06-01")
    assert [same[name] for name in ("leads", "changed", "differs", "of_batch", "changes")] == [1, 0, 0, 0, []]
    other = ("--set", "routing.policy.kind=round_robin")
    out = config.parent / "beside.csv"
    (row,) = told("simulate", "-c", config, "2026-06-01", *other, "--out", out)["changes"]
    assert [row[f"{side}_partner_id"] for side in ("was", "published", "would")] == ["p1", "p1", "p2"]
    assert pd.read_csv(out)["would_partner_id"].tolist() == ["p2"]
    shown = partnerml("simulate", "-c", config, "2026-06-01", *other).stdout
    for part in ("What would change", "as published", "Firm 1 (p1)", "Firm 2 (p2)", "1 lead: 1 would go otherwise"):
        assert part in shown
    assert "changed since the snapshot was published" not in shown  # which is the question
    assert len(told("history", "-c", config, "l1")["history"]) == 2
    none = partnerml("simulate", "-c", config, "2026-05-01")
    assert (none.exit_code, "there is nothing to simulate" in none.stderr) == (2, True)


def test_of_a_day_that_ran_as_a_batch_it_is_told(config):
    file = leads(config.parent, [a_lead(number) for number in range(3)])
    told("route", "-c", config, "--leads", file, "--out", config.parent / "d.csv", "--mode", "batch", *NOW)
    done = partnerml("simulate", "-c", config, "2026-06-01", "--json")
    assert json.loads(done.stdout)["of_batch"] == 3
    assert "3 of 3 decisions were of a batch" in done.stderr


def test_a_batch_that_rules_of_engagement_decide_says_so(config):
    publish_world(config, accounts=[{"account_id": "a1", "owner_partner_id": "p2"}])
    file = leads(config.parent, [a_lead(1, account_id="a1")])
    done = partnerml("route", "-c", config, "--leads", file, "--out", config.parent / "d.csv", "--mode", "batch", *NOW)
    assert "1 lead: 1 existing owner" in done.stdout, done.stderr
    assert "a rule of engagement named the partner" in " ".join(done.stdout.split())


def test_why_not_tells_where_an_eligible_partner_stood(config, routed):
    done = partnerml("why-not", "-c", config, "l1", "p2", *NOW)
    behind = routed["alternatives"][0]["behind"]
    assert done.stdout.splitlines() == [
        "Firm 2 (p2) may not get lead l1:",
        "  held: partner p1 was offered it and has yet to answer; partnerml override gives it to another",
        "  in the latest decision: rank 2 of 3 eligible; "
        f"chosen if its chance to win were {100 * behind:.3g} percentage points higher",
    ]
    theirs = told("why-not", "-c", config, "l1", "p2", "--audience", "partner", *NOW)
    assert theirs["in_latest_decision"] == "rank 2 of 3 eligible"
    assert theirs["failed"] == [{"rule": "held", "words": "the lead is free", "evidence": "it has been given out"}]


def test_why_not_of_who_joined_after_the_decision_and_without_its_snapshot(config, routed):
    before = config.parent / "out" / "snapshots" / routed["snapshot_id"]
    publish_world(config, joined=1)
    shutil.rmtree(before)
    late = told("why-not", "-c", config, "l1", "p4", *NOW)
    assert late["in_latest_decision"] == "it was not among those considered"
    assert [each["rule"] for each in late["failed"]] == ["held"]
    assert told("why-not", "-c", config, "l1", "p2", *NOW)["in_latest_decision"].startswith("rank 2 of 3 eligible")


def test_a_place_is_told_where_nobody_was_chosen_and_not_where_nobody_was_ranked():
    with Router.open(made_up.snapshot(3, p={"p0": 0.6, "p1": 0.4, "p2": 0.5})) as router:
        made = router.route({"lead_id": "l1"}, now=made_up.AS_OF)
        chosen_from = router.ledger.vector(made.decision_id)
    nobody = dataclasses.replace(made, partner_id=None, offer_id=None, alternatives=(), status="fallback")

    def place(partner_id, vector=chosen_from):
        ledger = SimpleNamespace(latest=lambda _, now: made.decision_id, vector=lambda _: vector)
        asked = SimpleNamespace(ledger=ledger, decision=lambda _: nobody)
        return stood(asked, "l1", partner_id, audience="vendor")

    assert place("p1") == "rank 3 of 3 eligible"
    assert place("p9") == "it was not among those considered"
    assert place("p1", vector=None) == ""


def test_a_rule_without_evidence_says_who_passes(config, routed):
    told("respond", "-c", config, routed["offer_id"], "declined", *NOW)
    told("respond", "-c", config, told("for-partner", "-c", config, "l1", "p2")["offer_id"], "declined", *NOW)
    shown = partnerml("for-partner", "-c", config, "l1", "p1").stdout.splitlines()
    assert shown[-1] == "  had_before: a partner passes that has not had the lead before"
    theirs = partnerml("why-not", "-c", config, "l1", "p1", "--audience", "partner", *NOW).stdout.splitlines()
    assert theirs[1] == shown[-1]


def test_a_partner_is_told_of_itself_alone(config, routed):
    own = told("for-partner", "-c", config, "l1", "p1")
    assert (own["yours"], own["rank"], own["offer_id"]) == (True, 1, routed["offer_id"])
    assert own["facts"] == routed["facts"]
    second = partnerml("for-partner", "-c", config, "l1", "p2")
    assert second.stdout.splitlines()[0] == "lead l1: given to another partner, rank 2 of 3 eligible"
    out = told("for-partner", "-c", config, "l1", "p3")
    assert (out["rank"], out["failed"]["rule"]) == (None, "deal_size")
    for text in (second.stdout, json.dumps(out)):
        assert not any(other in text for other in ("p0", "p1", "Firm"))
    unknown = partnerml("for-partner", "-c", config, "l1", "p9")
    assert (unknown.exit_code, "there is no partner 'p9'" in unknown.stderr) == (2, True)
    never = partnerml("for-partner", "-c", config, "l9", "p1")
    assert (never.exit_code, "lead 'l9' was never routed" in never.stderr) == (2, True)
