"""The commands that ask the ledger: what they print is what the library returns."""


from tests.test_cli_routing import NOW, a_lead, config, leads, partnerml, routed, told

__all__ = ["config", "routed"]


def test_the_queue_is_empty_until_nobody_is_left(config, routed):
    assert partnerml("queue", "-c", config).stdout == "no lead waits for a person\n"
    file = leads(config.parent, [a_lead(7, excluded_partners=["p0", "p1", "p2"], account_name="Acme")], "new.jsonl")
    told("route", "-c", config, "--leads", file, "--out", config.parent / "d.csv", *NOW)
    (row,) = told("queue", "-c", config)["leads"]
    assert (row["lead_id"], row["since"], row["asked"]) == ("l7", "2026-06-01T09:00:00+00:00", 0)
    shown = partnerml("queue", "-c", config).stdout
    for part in ("l7", "2026-06-01 09:00", "Acme", "nobody may get it", "1 lead", "partnerml override LEAD_ID"):
        assert part in shown
    told("override", "-c", config, "l7", "p1", "--by", "Ada", "--reason", "knows them", *NOW)
    assert told("queue", "-c", config) == {"leads": []}
