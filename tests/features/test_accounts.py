"""Accounts as rows: who has one, what is known of it, and whether it became a partner."""

from __future__ import annotations

import contextlib
import logging
import types

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import accounts as oracle

from partnerml.errors import ConfigError
from partnerml.features import (
    Accounts,
    Catalogue,
    Feature,
    PartnerLabel,
    build_accounts,
    build_labelled_accounts,
    build_rows,
    default_catalogue,
    describe,
    dictionary,
    missing,
    partner_accounts,
    tell_idle_exclusions,
)

DAY, START, TICK = made.DAY, made.START, made.TICK
UNTIL = START + 40 * DAY
COUNTRY, INDUSTRY = "accounts__country__trait__asof", "accounts__industry__trait__asof"
CATALOGUE = Catalogue((Feature.parse(COUNTRY), Feature.parse(INDUSTRY)))


@contextlib.contextmanager
def opened(backend, accounts, *, lag=None, traits=("country", "industry"), **tables):
    eco = made.Tables(backend, {"accounts": accounts, **tables}, {} if lag is None else {"accounts": lag})
    features = types.SimpleNamespace(choose=lambda names: (tuple(names), ()), peers=None)
    eco.config = types.SimpleNamespace(traits=types.SimpleNamespace(accounts=traits, partners=()), features=features)
    eco.config.features.peers = types.SimpleNamespace(by=("country",), at_least=20)
    try:
        yield eco
    finally:
        eco.close()


_MOMENTS = st.sampled_from([None, START - DAY, START, START + TICK, START + 10 * DAY, UNTIL - DAY, UNTIL, UNTIL + DAY])
_ACCOUNT = st.fixed_dictionaries(
    {
        "created_at": _MOMENTS,
        "partner_since": st.one_of(st.none(), _MOMENTS),
        "is_partner": st.sampled_from([None, None, True, False]),
        "partner_id": st.sampled_from([None, None, "A"]),
        "country": st.sampled_from([None, "DE", "FR"]),
        "industry": st.sampled_from([None, "it", "retail"]),
        "relationship": st.sampled_from([None, "customer", " Competitor", "supplier"]),
    }
)


def numbered(rows):
    return [{"account_id": f"c{i}", **row} for i, row in enumerate(rows)]


@settings(max_examples=4, **made.quick)
@given(
    rows=st.lists(_ACCOUNT, min_size=1, max_size=16).map(numbered),
    lag=st.sampled_from([DAY * 0, DAY]),
    exclude=st.sampled_from([{}, {"relationship": ["COMPETITOR ", "supplier"]}]),
    horizon=st.sampled_from([1, 10, 30]),
)
def test_rows_and_labels_are_those_of_the_oracle(backend, rows, lag, exclude, horizon):
    population = Accounts(tuple((column, tuple(values)) for column, values in exclude.items()))
    kept = {"lag": lag, "exclude": exclude}
    with opened(backend, rows, lag=lag) as eco:
        data = build_accounts(eco, catalogue=CATALOGUE, population=population, as_of=[START + 10 * DAY, UNTIL])
        ones = build_accounts(eco, catalogue=CATALOGUE, population=population, as_of=UNTIL, partners=True)
        labelled = build_labelled_accounts(
            eco, catalogue=CATALOGUE, population=population, label=PartnerLabel(horizon, dated=True), until=UNTIL
        )
        either = build_labelled_accounts(
            eco, catalogue=CATALOGUE, population=population, label=PartnerLabel(dated=False), until=UNTIL
        )
    expected = [(who, at) for at in (START + 10 * DAY, UNTIL) for who in oracle.candidates(rows, at, **kept)]
    found = data.keys.assign(as_of=data.as_of.dt.tz_localize(None))
    assert list(found.itertuples(index=False, name=None)) == expected
    assert ones.keys["account_id"].tolist() == oracle.partners(rows, UNTIL, **kept)
    by_id = {row["account_id"]: row for row in rows}
    for who, country in zip(data.keys["account_id"], data.X[COUNTRY], strict=True):
        assert made.same(country, by_id[who]["country"])
    told = oracle.dated(rows, UNTIL, horizon=horizon, **kept)
    assert labelled.keys["account_id"].tolist() == [one[0] for one in told]
    columns = zip(labelled.y, labelled.times["duration_days"], labelled.times["observed"], strict=True)
    for (who, _, y, days, seen), (label, duration, observed) in zip(told, columns, strict=True):
        assert made.same(label, y), who
        assert (duration, observed) == (pytest.approx(days), seen), who
    positive = set(oracle.partners(rows, UNTIL, **kept))
    assert either.keys["account_id"].tolist() == sorted(positive | set(oracle.candidates(rows, UNTIL, **kept)))
    assert either.y.tolist() == [float(who in positive) for who in either.keys["account_id"]]
    assert either.times is None


def test_a_later_fact_changes_no_label_that_was_known_before_it(backend):
    rows = [{"account_id": "a", "created_at": START, "partner_since": START + 20 * DAY, "country": "DE"}]
    label = PartnerLabel(30, dated=True)
    known = []
    for until in (START + 30 * DAY - TICK, START + 30 * DAY, START + 60 * DAY):
        with opened(backend, rows, traits=("country",)) as eco:
            catalogue = Catalogue((Feature.parse(COUNTRY),))
            known.append(build_labelled_accounts(eco, catalogue=catalogue, label=label, until=until).y.tolist())
    assert pd.isna(known[0][0])
    assert known[1:] == [[1.0], [1.0]]


def test_excluded_values_are_found_in_lists_and_flags_and_an_idle_one_is_told(backend, caplog):
    rows = [
        {"account_id": "a", "country": "DE", "flags": "x", "is_competitor": "true"},
        {"account_id": "b", "country": "DE", "flags": "y", "is_competitor": "false"},
    ]
    with opened(backend, rows, traits=("country",)) as eco, caplog.at_level(logging.WARNING, "partnerml"):
        catalogue = Catalogue((Feature.parse(COUNTRY),))
        population = Accounts((("is_competitor", ("true",)), ("flags", ("nobody",))))
        data = build_accounts(eco, catalogue=catalogue, population=population, as_of=UNTIL)
        assert data.keys["account_id"].tolist() == ["b"]
        tell_idle_exclusions(eco, population)
        assert "exclude matches no row of accounts for flags: nobody" in caplog.text
        with pytest.raises(
            ConfigError, match=r"exclude\.flag: accounts has no column of that name; did you mean flags"
        ):
            build_accounts(eco, catalogue=catalogue, population=Accounts((("flag", ("x",)),)), as_of=UNTIL)
    with pytest.raises(ConfigError, match=r"exclude\.flags: list at least one value"):
        Accounts((("flags", ()),))


def test_the_default_catalogue_is_what_traits_accounts_names(backend):
    rows = [
        {"account_id": "a", "created_at": START, "country": "DE", "industry": "it", "size": "12"},
        {"account_id": "b", "created_at": UNTIL, "country": "FR", "industry": "late", "size": "1"},
    ]
    with opened(backend, rows) as eco:
        catalogue = default_catalogue(eco, before=UNTIL, task="propensity")
        assert catalogue.names == (COUNTRY, INDUSTRY)
        assert Catalogue.from_dict(catalogue.to_dict()) == catalogue
        told = dictionary(eco, catalogue)
        assert told == build_accounts(eco, catalogue=catalogue, as_of=UNTIL).dictionary
        assert (told[1].words, told[1].definition, told[1].unit) == (
            "industry", "Industry, as accounts holds it.", "category",
        )  # fmt: skip
        assert missing(eco, "propensity") == {}
    with opened(backend, rows, traits=()) as eco, pytest.raises(ConfigError, match=r"traits\.accounts names no column"):
        default_catalogue(eco, before=UNTIL, task="propensity")
    with opened(backend, rows, traits=("sector",)) as eco, pytest.raises(ConfigError, match="'sector' is no usable"):
        default_catalogue(eco, before=UNTIL, task="propensity")
    with contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A"}]})) as eco:
        assert set(missing(eco, "propensity")) == {"accounts"}
        with pytest.raises(ConfigError, match="need the table accounts"):
            default_catalogue(eco, before=UNTIL, task="propensity")


def test_traits_of_accounts_and_of_partners_are_not_mixed(backend):
    partners = [{"partner_id": "A", "country": "DE"}]
    with opened(backend, [{"account_id": "a", "country": "DE"}], partners=partners) as eco:
        keys = pd.DataFrame({"partner_id": ["A"], "as_of": [UNTIL]})
        with pytest.raises(ConfigError, match=f"feature {COUNTRY}: the rows are partners"):
            build_rows(eco, keys, catalogue=Catalogue((Feature.parse(COUNTRY),)))
        other = Catalogue((Feature.parse("partners__country__trait__asof"),))
        with pytest.raises(ConfigError, match="the rows are accounts"):
            build_accounts(eco, catalogue=other, as_of=UNTIL)
    with pytest.raises(ConfigError, match="an account has no peers"):
        Feature.parse("peers__" + COUNTRY)
    assert describe(Feature.parse(COUNTRY)).table == "accounts"


def test_the_best_partners_are_those_with_the_most_won_revenue(backend):
    amounts = {"A": 100.0, "B": 300.0, "C": 200.0, "D": None}
    deals = [
        {
            "deal_id": f"{name}{n}",
            "partner_id": name,
            "registered_at": START,
            "outcome": "won",
            "closed_at": START + DAY if n == 0 else UNTIL + DAY,
            "amount": amount if n == 0 else 10_000.0,
        }
        for name, amount in amounts.items()
        for n in (0, 1)
    ]
    rows = [{"account_id": f"of {name}", "partner_id": name, "country": "DE"} for name in amounts]
    rows += [
        {"account_id": "unknown", "partner_id": "Z", "country": "DE"},
        {"account_id": "former", "partner_id": "B", "is_partner": False, "partner_since": START, "country": "DE"},
        {"account_id": "other", "country": "FR"},
    ]
    partners = [{"partner_id": name, "joined_at": START - DAY} for name in amounts]
    with opened(backend, rows, traits=("country",), partners=partners, deals=deals) as eco:
        facts = partner_accounts(eco, until=UNTIL, best_share=0.5).set_index("account_id")
        data = build_labelled_accounts(
            eco,
            catalogue=Catalogue((Feature.parse(COUNTRY),)),
            label=PartnerLabel(positives="best", best_share=0.5),
            until=UNTIL,
        )
    # what closed after until is not known, and an id that is no partner's has no revenue
    assert facts["revenue"].to_dict() == pytest.approx(
        {"of A": 100.0, "of B": 300.0, "of C": 200.0, "of D": 0.0, "unknown": float("nan")}, nan_ok=True
    )
    assert facts.index[facts["best"]].tolist() == ["of B", "of C"]
    # the other partners are neither best nor unlabelled, and who was a partner once is neither either
    assert dict(zip(data.keys["account_id"], data.y, strict=True)) == {"of B": 1.0, "of C": 1.0, "other": 0.0}


def test_which_label_it_is_follows_the_columns(backend):
    row = {"account_id": "a", "created_at": START, "partner_since": None, "country": "DE"}
    with opened(backend, [row]) as eco:
        assert PartnerLabel().resolved(eco).dated is True
        assert PartnerLabel(positives="best").resolved(eco).dated is False
        assert PartnerLabel(class_prior=(0.1, 0.2)).resolved(eco).dated is False
    with opened(backend, [{"account_id": "a", "is_partner": True}]) as eco:
        assert PartnerLabel().resolved(eco).dated is False
        with pytest.raises(ConfigError, match=r"need accounts.created_at and accounts.partner_since; map them"):
            PartnerLabel(dated=True).resolved(eco)
    with opened(backend, [{"account_id": "a"}]) as eco, pytest.raises(ConfigError, match="nothing says which accounts"):
        PartnerLabel().resolved(eco)
    for label in (PartnerLabel(30), PartnerLabel(class_prior=(0.1, 0.2), positives="best")):
        assert PartnerLabel.from_dict(label.to_dict()) == label
    population = Accounts((("relationship", ("Competitor",)),))
    assert Accounts.from_dict(population.to_dict()) == population
    assert population.words == "accounts that are not partners, without those of relationship competitor"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"horizon_days": 0}, "horizon_days must be at least 1"),
        ({"positives": "all"}, "positives must be one of partners, best"),
        ({"best_share": 0.0}, "best_share must be above 0"),
        ({"class_prior": (0.3, 0.1)}, "class_prior must be a share between 0 and 1"),
        ({"dated": True, "positives": "best"}, "positives: best is about accounts without dates"),
    ],
)
def test_a_wrong_label_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        PartnerLabel(**given)
