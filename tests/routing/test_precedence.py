"""What comes before any choice: duplicates, registered deals, owners; and how companies are compared."""

import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz
from tests.routing.made_up import AS_OF, snapshot
from tests.routing.situations import situation

from partnerml.errors import InputError
from partnerml.routing import Router
from partnerml.routing._lead import Lead
from partnerml.routing._names import FREE_MAIL, Names, domain_key, likeness, normalised
from partnerml.routing._precedence import keys_of, precedence
from partnerml.routing._situation import Match

DAY = dt.timedelta(days=1)
YESTERDAY = AS_OF - DAY
ACME = {"account_id": "a1", "domain": "acme.com", "account_name": "Acme Tools GmbH", "country": "DE"}


def decided(lead, **more):
    return precedence(situation(lead, **more))


# names and domains


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Müller & Söhne G.m.b.H.", "muller sohne"),
        ("MULLER SOHNE", "muller sohne"),
        ("Acme, Inc.", "acme"),
        ("The Acme Company Ltd", "acme"),
        ("Acme GmbH & Co. KG", "acme"),
        ("Rossi S.p.A.", "rossi"),
        ("Foo Sp. z o.o.", "foo"),
        ("Spółka z o.o. Foo", "foo"),
        ("PT Acme", "acme"),
        ("Société Générale S.A.", "societe generale"),
        ("Norge A/S", "norge"),
        ("O’Reilly Media", "oreilly media"),  # noqa: RUF001
        ("E.ON SE", "e on"),
        ("Pizza Zoo", "pizza zoo"),
        ("株式会社トヨタ", "株式会社トヨタ"),
        ("GmbH", "gmbh"),
        ("The Limited", "the limited"),
        ("z o.o.", "z oo"),
        ("n/a", None),
        ("N.A.", None),
        ("Unknown Ltd", None),
        ("- not provided -", None),
        ("Private Person", None),
        ("Company", None),
        ("Keine Angabe", None),
        ("Unknown Pleasures", "unknown pleasures"),
        ("!!!", None),
        ("", None),
        (None, None),
    ],
)
def test_names_without_case_accents_and_legal_form(name, wanted):
    assert normalised(name) == wanted


@given(st.text(max_size=40))
def test_a_normalised_name_stays_as_it_is_or_gets_shorter(name):
    once = normalised(name)
    assert once is None or once == once.strip() != ""
    assert once is None or len(normalised(once) or once) <= len(once)


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ("Acme.com", "acme.com"),
        ("https://www.acme.com/contact?x=1", "acme.com"),
        ("jo@acme.com", "acme.com"),
        ("acme.com:8080.", "acme.com"),
        ("gmail.com", None),
        ("jo@GoogleMail.com", None),
        ("localhost", None),
        ("", None),
        (None, None),
    ],
)
def test_domains_by_which_companies_are_known(domain, wanted):
    assert domain_key(domain) == wanted


def test_free_mail_is_a_short_list():
    assert all(domain == domain.lower() and "." in domain for domain in FREE_MAIL)
    assert len(FREE_MAIL) < 200


def spaced(text):
    """A text as normalised names are: one blank between words."""
    return " ".join(text.split())


WORDS = st.lists(st.sampled_from(["solar", "solars", "nord", "tele", "acme", "akme", "tools", "x", "é"]), max_size=4)


@settings(max_examples=300)
@given(
    WORDS.map(" ".join).filter(bool),
    st.lists(st.one_of(st.none(), WORDS.map(" ".join), st.text(min_size=1, max_size=12).map(spaced)), max_size=12),
    st.sampled_from([50.0, 70.0, 80.0, 92.0, 100.0]),
)
def test_names_that_are_alike_are_those_that_rapidfuzz_finds_among_all(name, others, threshold):
    wanted = [
        (place, fuzz.token_sort_ratio(name, other))
        for place, other in enumerate(others)
        if other is not None and fuzz.token_sort_ratio(name, other) >= threshold
    ]
    assert Names.of(others).alike(name, threshold) == wanted


def test_among_thousands_of_names_none_is_missed():
    rng = random.Random(0)
    others = [spaced("".join(rng.choices("abcde ", k=rng.randint(3, 9)))) or "x" for _ in range(3000)]
    found = Names.of(others).alike("abcda bc", 75.0)
    assert found == [(i, s) for i, other in enumerate(others) if (s := likeness("abcda bc", other)) >= 75.0]
    assert len(found) == 10


# duplicates


@pytest.mark.parametrize(
    ("other", "evidence"),
    [
        ({"account_id": "a1"}, {"by": "account", "account_id": "a1"}),
        ({"domain": "ACME.com"}, {"by": "domain", "domain": "acme.com"}),
        ({"account_name": "ACME Tools, Inc."}, {"by": "name", "name": "acme tools", "other_name": "acme tools"}),
        ({"account_name": "Tools Acme", "country": "DE"}, {"by": "name", "score": 100.0, "threshold": 93.0}),
        ({"account_name": "Acme Tool"}, {"by": "name", "other_name": "acme tool", "score": 94.7}),
        ({"account_name": "Acme Tools", "domain": "acme.de"}, {"by": "name", "score": 100.0}),
    ],
)
@pytest.mark.parametrize("source", ["snapshot", "ledger"])
def test_a_lead_come_again_names_the_other_and_its_partner(other, evidence, source):
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": YESTERDAY, **other}
    found = decided(ACME, leads=[row]) if source == "snapshot" else decided(ACME, matches=[match(row)])
    assert (found.status, found.duplicate_of, found.partner_id, found.deal_id) == ("duplicate", "L0", "p1", None)
    assert evidence.items() <= found.evidence.items()
    assert found.evidence["created_at"] == YESTERDAY.isoformat()
    assert found.words.startswith("it is the lead L0 of 2026-05-31 come again (")
    assert found.words.endswith("); partner p1 has it")
    assert found.anonymous == "it is another lead come again"


def match(row):
    """A row of leads as the ledger tells it."""
    return Match(
        row["lead_id"],
        row["partner_id"],
        row["created_at"],
        row.get("account_id"),
        domain_key(row.get("domain")),
        normalised(row.get("account_name")),
        row.get("country"),
    )


@pytest.mark.parametrize(
    ("lead", "other"),
    [
        ({"account_name": "Acme Tools", "country": "DE"}, {"account_name": "Acme Tools", "country": "AT"}),
        ({"account_name": "Acme Tools"}, {"account_name": "Acme Pools"}),
        (
            {"account_name": "Acme Tools", "account_id": "a1"},
            {"account_name": "Acme Tools", "account_id": "a2"},
        ),
        (
            {"account_name": "Volksbank Nordheim", "domain": "vb-nordheim.de"},
            {"account_name": "Volksbank Northeim", "domain": "vb-northeim.de"},
        ),
        ({"account_name": "Pharmacy 101 Springfield"}, {"account_name": "Pharmacy 102 Springfield"}),
        ({"account_name": "Westbank Capital Partners II"}, {"account_name": "Westbank Capital Partners III"}),
        ({"domain": "gmail.com"}, {"domain": "gmail.com"}),
        ({"account_name": "Unknown"}, {"account_name": "unknown"}),
        ({"account_name": "n/a", "country": "DE"}, {"account_name": "N.A.", "country": "DE"}),
        ({"account_id": "a1"}, {"account_id": "A1"}),
        ({}, {}),
        (ACME, {"lead_id": "L", "account_id": "a1"}),
        (ACME, {"account_id": "a1", "created_at": AS_OF - 91 * DAY}),
    ],
)
def test_who_is_another_is_no_duplicate(lead, other):
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": YESTERDAY, **other}
    assert decided(lead, leads=[row]) is None
    assert decided(lead, matches=[match(row)]) is None


def test_the_window_and_the_switch_are_configured():
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": AS_OF - 2 * DAY, **ACME}
    assert decided(ACME, matches=[match(row)], config={"duplicates": {"window": "2d"}}).duplicate_of == "L0"
    assert decided(ACME, matches=[match(row)], config={"duplicates": {"window": "1d"}}) is None
    assert decided(ACME, matches=[match(row)], config={"duplicates": {"enabled": False}}) is None
    near = {**row, "account_id": None, "domain": None, "account_name": "Acme Tool"}
    assert decided(ACME, matches=[match(near)], config={"duplicates": {"name_threshold": 95.0}}) is None


@pytest.mark.parametrize(
    ("own", "other", "score", "same"),
    [("Northwindtrade", "Northwindtradi", 92.857, False), ("Northwindtrader", "Northwindtradei", 93.333, True)],
)
def test_the_default_threshold_of_names_is_93(own, other, score, same):
    """One letter of 14 is too much, and one of 15 is not: for leads of the snapshot, of the ledger, and deals."""
    assert likeness(normalised(own), normalised(other)) == pytest.approx(score, abs=1e-3)
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": YESTERDAY, "account_name": other}
    lead = {"account_name": own}
    for found in (decided(lead, leads=[row]), decided(lead, matches=[match(row)])):
        assert (found is not None) is same
        assert found is None or (found.status, found.evidence["threshold"]) == ("duplicate", 93.0)


def test_of_several_the_surest_and_then_the_first_counts():
    rows = [
        {"lead_id": "L1", "partner_id": "p1", "created_at": AS_OF - 5 * DAY, "account_name": "Acme Tools"},
        {"lead_id": "L2", "partner_id": "p2", "created_at": AS_OF - 3 * DAY, "domain": "acme.com"},
        {"lead_id": "L3", "partner_id": "p0", "created_at": AS_OF - 4 * DAY, "domain": "acme.com"},
        {"lead_id": "L4", "partner_id": None, "created_at": AS_OF - 9 * DAY, "domain": "acme.com"},
    ]
    assert decided(ACME, leads=rows).duplicate_of == "L3"


def test_the_ledger_knows_better_than_the_snapshot_who_has_a_lead():
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": YESTERDAY, **ACME}
    found = decided(ACME, leads=[row], matches=[match({**row, "partner_id": "p2"})])
    assert found.partner_id == "p2"


def test_of_two_leads_that_nobody_has_one_is_routed_whichever_comes_first():
    one, two = ({**ACME, "lead_id": name, "created_at": AS_OF - days * DAY} for name, days in (("A", 2), ("B", 1)))
    known = snapshot(3, leads=[one, two])
    for first, second in ((one, two), (two, one)):
        found = {}
        for lead in (first, second):
            earlier = [match({**other, "partner_id": None}) for other in (one, two) if other["lead_id"] in found]
            found[lead["lead_id"]] = decided(lead, known=known, matches=earlier)
        assert found["A"] is None
        assert (found["B"].duplicate_of, found["B"].partner_id) == ("A", None)
        assert found["B"].words.endswith("no partner has it")


# registered deals


def deal(**more):
    row = {"deal_id": "d1", "partner_id": "p1", "registered_at": AS_OF - 10 * DAY, "outcome": "open"}
    return {**row, "registration_status": "approved", **more}


ACCOUNT = {"account_id": "a1", "name": "Acme Tools GmbH", "domain": "www.acme.com", "country": "DE"}


@pytest.mark.parametrize(
    ("lead", "more", "by"),
    [
        ({}, {"lead_id": "L"}, "lead"),
        ({"account_id": "a1"}, {"account_id": "a1"}, "account"),
        ({"domain": "acme.com"}, {"account_id": "a1"}, "domain"),
        ({"account_name": "ACME Tools"}, {"account_id": "a1"}, "name"),
        ({"account_id": "a1"}, {"account_id": "a1", "registration_status": "pending"}, "account"),
    ],
)
def test_a_registered_deal_goes_before_all_scores(lead, more, by):
    found = decided(lead, deals=[deal(**more)], accounts=[ACCOUNT])
    assert (found.status, found.partner_id, found.deal_id, found.duplicate_of) == ("registered_deal", "p1", "d1", None)
    assert found.evidence["by"] == by
    assert found.evidence["protected_until"] == (AS_OF + 80 * DAY).isoformat()
    assert "partner p1 registered the deal d1 on 2026-05-22" in found.words
    assert found.anonymous == "a deal with this company was registered first and is protected"


@pytest.mark.parametrize(
    ("more", "moment", "wanted"),
    [
        ({}, AS_OF + 80 * DAY - dt.timedelta(microseconds=1), True),
        ({}, AS_OF + 80 * DAY, False),
        ({"protected_until": AS_OF + DAY}, AS_OF, True),
        ({"protected_until": AS_OF + DAY}, AS_OF + DAY, False),
        ({"registration_status": "denied"}, AS_OF, False),
        ({"registration_status": "expired"}, AS_OF, False),
        ({"registration_status": None}, AS_OF, False),
        ({"registered_at": AS_OF + DAY}, AS_OF, False),
        ({"partner_id": "gone"}, AS_OF, False),
        ({"account_id": "a2"}, AS_OF, False),
    ],
)
def test_a_deal_is_protected_for_a_time(more, moment, wanted):
    partners = [{}, {}, {}, {"partner_id": "gone", "left_at": AS_OF}]
    found = decided(
        {"account_id": "a1"}, partners=partners, deals=[deal(**{"account_id": "a1", **more})], moment=moment
    )
    assert (found is not None) is wanted


def test_no_deal_is_found_by_what_is_no_name():
    for name, found in (("Unknown", None), ("Unknown Pleasures", "registered_deal")):
        accounts = [{"account_id": "a9", "name": name}]
        told = decided({"account_name": name.lower()}, deals=[deal(account_id="a9")], accounts=accounts)
        assert (told and told.status) == found


def test_the_first_registered_wins():
    deals = [
        deal(deal_id="d2", partner_id="p2", registered_at=AS_OF - 3 * DAY, lead_id="L"),
        deal(
            deal_id="d1", partner_id="p1", registered_at=AS_OF - 4 * DAY, account_id="a1", registration_status="pending"
        ),
        deal(deal_id="d0", partner_id="p0", registered_at=AS_OF - 99 * DAY, account_id="a1"),
    ]
    assert decided({"account_id": "a1"}, deals=deals).deal_id == "d1"
    assert decided({"account_id": "a1"}, deals=deals, config={"protection": "100d"}).deal_id == "d0"


# owners and order


def test_the_owner_of_an_account_gets_its_leads():
    accounts = [{**ACCOUNT, "owner_partner_id": "p2"}, {"account_id": "a2", "domain": "acme.com"}]
    found = decided({"account_id": "a1"}, accounts=accounts)
    assert (found.status, found.partner_id, found.deal_id) == ("existing_owner", "p2", None)
    assert found.words == "partner p2 owns the account (same account a1)"
    assert found.anonymous == "the account has an owner"
    by_domain = decided({"domain": "acme.com"}, accounts=accounts)
    assert dict(by_domain.evidence) == {"by": "domain", "domain": "acme.com"}
    # an account that is known and has no owner is not looked for elsewhere
    assert decided({"account_id": "a2"}, accounts=accounts) is None
    assert decided({"account_id": "a1"}, accounts=accounts, partners=[{}, {}, {"left_at": AS_OF}]) is None


def test_duplicates_come_first_then_deals_then_owners():
    accounts = [{**ACCOUNT, "owner_partner_id": "p2"}]
    deals, leads = [deal(account_id="a1")], [{"lead_id": "L0", "created_at": YESTERDAY, "partner_id": "p0", **ACME}]
    tables = {"accounts": accounts, "deals": deals, "leads": leads}
    for status in ("duplicate", "registered_deal", "existing_owner"):
        assert decided({"account_id": "a1"}, **tables).status == status
        tables.pop({"duplicate": "leads", "registered_deal": "deals"}.get(status, "accounts"))
    assert decided({"account_id": "a1"}, **tables) is None


def test_what_a_lead_does_not_say_its_account_does():
    known = snapshot(1, accounts=[ACCOUNT])
    keys = keys_of(Lead.of({"lead_id": "L", "account_id": "a1"}), known)
    assert (keys.account_id, keys.domain, keys.name, keys.country) == ("a1", "acme.com", "acme tools", "DE")
    own = keys_of(Lead.of({"lead_id": "L", "account_id": "a1", "account_name": "Other Ltd", "domain": "o.com"}), known)
    assert (own.domain, own.name) == ("o.com", "other")


def test_copies_with_other_prices_share_what_was_indexed():
    known = snapshot(3, leads=[{"lead_id": "L0", "created_at": YESTERDAY, "partner_id": "p0", **ACME}])
    assert decided(ACME, known=known.with_prices([0.1, 0.2, 0.3])).duplicate_of == "L0"
    assert decided(ACME, known=known).duplicate_of == "L0"


def test_an_older_lead_that_is_sent_later_has_not_come_again():
    row = {"lead_id": "L0", "partner_id": "p1", "created_at": YESTERDAY, **ACME}
    found = decided({**ACME, "created_at": YESTERDAY - DAY}, matches=[match(row)])
    assert found.words.startswith(
        "it is the same as the lead L0 of 2026-05-31, which was given out before (same account"
    )
    assert "come again" in decided({**ACME, "created_at": YESTERDAY}, matches=[match(row)]).words


def test_of_a_lead_that_was_closed_it_is_told_how_and_when_the_next_one_counts():
    first = {"lead_id": "c1", "created_at": AS_OF.isoformat(), **ACME}
    with Router.open(snapshot(3)) as router:
        made = router.route(first, now=AS_OF)
        router.respond(made.offer_id, "accepted", now=AS_OF)
        again = router.route({**first, "lead_id": "c2"}, now=AS_OF)
        assert again.why.endswith(f"partner {made.partner_id} has it")
        router.outcome("c1", "won", amount=9, now=AS_OF + dt.timedelta(hours=20))
        with pytest.raises(InputError, match=r"New business is a new lead; within routing\.duplicates\.window"):
            router.override("c1", "p2", by="Ada", reason="so", now=AS_OF + DAY)
        late = router.route({**first, "lead_id": "c3"}, now=AS_OF + DAY)
        assert late.status == "duplicate"
        assert late.why.endswith(
            f"partner {made.partner_id} closed it as won on 2026-06-01; a lead of this company is a new one once none "
            "has come for 90 days, and until then override gives it to somebody"
        )
        # what became of the lead later is not what was known
        router.outcome("c1", "lost", now=AS_OF + dt.timedelta(hours=30))
        assert router.replay(late.decision_id).to_json() == late.to_json()
        assert router.replay(again.decision_id).to_json() == again.to_json()
        assert router.override("c3", "p2", by="Ada", reason="so", now=AS_OF + DAY).partner_id == "p2"
