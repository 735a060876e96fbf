"""Success after joining: equal to the row-by-row oracle, and right at the edges."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import tables as made
from tests.oracles import success as oracle

from partnerml.errors import ConfigError
from partnerml.features import (
    Catalogue,
    Joining,
    SuccessLabel,
    build_joining,
    first_deal,
    success_tables,
    successes_as_known,
    waiting_at,
)

DAY, START, TICK = made.DAY, made.START, made.TICK
UNTIL = START + 100 * DAY
COUNTRY = Catalogue.from_dict({"features": ["partners__country__trait__asof"], "static_traits": ["country"]})


@contextlib.contextmanager
def opened(backend, tables, lags=None):
    with contextlib.closing(made.Tables(backend, tables, lags)) as eco:
        yield eco


def deal(name, closed, *, partner="A", outcome="won", amount=10.0, registered=START - 50 * DAY, **more):
    return {
        "deal_id": name,
        "partner_id": partner,
        "registered_at": registered,
        "closed_at": closed,
        "outcome": outcome,
        "amount": amount,
        **more,
    }


def partner(name="A", joined=START, **more):
    return {"partner_id": name, "joined_at": joined, "country": "DE", **more}


moments = st.sampled_from([START - 9 * DAY, START, START + TICK, START + 10 * DAY, START + 30 * DAY, UNTIL - TICK])


@st.composite
def programmes(draw):
    """Draw partners, recruits and deals of several partners, recorded late."""
    joins = st.sampled_from([None, START - 9 * DAY, START, START + 30 * DAY, UNTIL - DAY])
    tables = {"partners": [partner(name, draw(joins)) for name in "ABC"]}
    if draw(st.booleans()):
        tables["recruits"] = [{"partner_id": name, "joined_at": draw(joins), "country": "FR"} for name in "CD"]
    late = draw(st.booleans())

    def one(name):
        closed = draw(st.one_of(st.none(), moments))
        outcome = "open" if closed is None else draw(st.sampled_from(["won", "lost"]))
        row = deal(name, closed, partner=draw(st.sampled_from([None, "A", "C", "D"])), outcome=outcome)
        row["amount"] = draw(st.sampled_from([None, 0.1, 5.0, 12.5]))
        if late:
            row["recorded_at"] = draw(st.sampled_from([None, START + 20 * DAY]))
            row["closed_recorded_at"] = None if closed is None else draw(st.sampled_from([None, closed + 5 * DAY]))
        return row

    tables["deals"] = [one(f"d{i}") for i in range(draw(st.integers(1, 6)))]
    if draw(st.booleans()):
        pairs = st.tuples(st.sampled_from([row["deal_id"] for row in tables["deals"]]), st.sampled_from("AB"))
        chosen = draw(st.lists(pairs, min_size=1, max_size=4, unique=True))
        tables["deal_partners"] = [
            {"deal_id": d, "partner_id": p, "share": draw(st.sampled_from([None, 0.3]))} for d, p in chosen
        ]
    lags = {name: draw(st.sampled_from([0, 3])) * DAY for name in tables}
    return tables, lags


@settings(max_examples=4, **made.quick)
@given(programmes(), st.sampled_from([10, 30, 365]), st.sampled_from([None, 10.0]))
def test_equal_to_the_oracle(backend, drawn, days, amount):
    tables, lags = drawn
    label = SuccessLabel(days, amount)
    with opened(backend, tables, lags) as eco:
        data = build_joining(eco, catalogue=COUNTRY, as_of=UNTIL, label=label, until=UNTIL)
        (earlier,) = successes_as_known(eco, label, as_of=UNTIL, untils=[START + 29 * DAY])
        waiting = waiting_at(eco, label, as_of=UNTIL)
    lag_of_partners = lags["partners"]
    names = sorted({row["partner_id"] for table in ("partners", "recruits") for row in tables.get(table, [])})
    dates = {name: oracle.joining_date(name, tables) for name in names}
    on_record = {row["partner_id"] for row in tables["partners"] if row["joined_at"] is not None}
    recruits = {row["partner_id"] for row in tables.get("recruits", [])}

    def known(name):
        if dates[name] is None:
            return name in recruits
        lag = lag_of_partners if name in on_record else lags.get("recruits", 0 * DAY)
        return dates[name] + lag < UNTIL

    rows = sorted((dates[name], name) for name in names if dates[name] is not None and known(name))
    assert data.keys["partner_id"].tolist() == [name for _, name in rows]
    for i, (_, name) in enumerate(rows):
        y, duration, observed = oracle.label(name, tables, until=UNTIL, success_days=days, amount=amount, lags=lags)
        assert (None if math.isnan(data.y[i]) else data.y[i]) == y, name
        assert data.times["observed"][i] == observed, name
        assert math.isclose(data.times["duration_days"][i], duration, abs_tol=1e-9), name
        then = oracle.label(name, tables, until=START + 29 * DAY, success_days=days, amount=amount, lags=lags)
        assert (earlier["observed"][name], pytest.approx(earlier["duration_days"][name])) == (then[2], then[1])
    still = [
        name
        for name in names
        if known(name)
        and oracle.success_at(name, tables, until=UNTIL, amount=amount, lags=lags) is None
        and (dates[name] is None or dates[name] + days * DAY > UNTIL)
    ]
    assert waiting.tolist() == still


def labels(backend, deals, *, label=SuccessLabel(30), until=UNTIL, lags=None, joined=START, **more):  # noqa: B008
    tables = {"partners": [partner(joined=joined)], "deals": deals, **more}
    with opened(backend, tables, lags) as eco:
        data = build_joining(eco, catalogue=COUNTRY, as_of=until, label=label, until=until)
    return data.y[0], data.times["duration_days"][0], bool(data.times["observed"][0])


def test_success_on_the_last_day_counts_and_a_tick_later_does_not(backend):
    assert labels(backend, [deal("d", START + 30 * DAY)]) == (1.0, 30.0, True)
    y, duration, observed = labels(backend, [deal("d", START + 30 * DAY + TICK)])
    assert (y, observed) == (0.0, True)
    assert duration > 30


def test_what_was_won_before_joining_is_success_on_day_0(backend):
    assert labels(backend, [deal("d", START - 5 * DAY)]) == (1.0, 0.0, True)
    assert labels(backend, [deal("d", START)]) == (1.0, 0.0, True)


def test_who_has_left_is_followed_on_without_success(backend):
    left = [partner(left_at=START + DAY)]
    assert labels(backend, [deal("d", None, outcome="open")], partners=left) == (0.0, 100.0, False)


def test_a_label_matures_with_the_horizon_and_the_largest_lag(backend):
    lost = [deal("d", START + DAY, outcome="lost")]
    assert labels(backend, lost, until=START + 30 * DAY + TICK)[0] == 0.0
    assert math.isnan(labels(backend, lost, until=START + 30 * DAY)[0])
    lags = {"deals": 3 * DAY, "partners": DAY}
    followed = pytest.approx(30.0, abs=1e-9)
    assert labels(backend, lost, until=START + 33 * DAY + TICK, lags=lags) == (0.0, followed, False)
    assert math.isnan(labels(backend, lost, until=START + 33 * DAY, lags=lags)[0])
    assert math.isnan(labels(backend, lost, until=START + 32 * DAY, lags=lags)[0])
    # a success of days that are not wholly known yet is not counted before its failures could be
    early = [deal("d", START + 10 * DAY, closed_recorded_at=START + 10 * DAY)]
    nothing = pytest.approx(math.nan, nan_ok=True)
    assert labels(backend, early, until=START + 12 * DAY, lags=lags) == (nothing, 9.0, False)


@pytest.mark.parametrize("lags", [{}, {"deals": 3 * DAY}, {"partners": 3 * DAY}])
def test_a_mature_label_stays_what_it_is(backend, lags):
    for closed in (START + 30 * DAY - TICK, START + 30 * DAY, START + 30 * DAY + TICK):
        won = [deal("d", closed)]
        later = [START + days * DAY + ticks * TICK for days in (30, 31, 33) for ticks in (-1, 0, 1)]
        found = [labels(backend, won, until=until, lags=lags)[0] for until in (*later, UNTIL)]
        assert {y for y in found if not math.isnan(y)} == {float(closed <= START + 30 * DAY)}


def test_the_future_changes_nothing(backend):
    told = [deal("d", START + 20 * DAY, closed_recorded_at=START + 60 * DAY), deal("e", START + 25 * DAY)]
    y, duration, _ = labels(backend, told, until=START + 60 * DAY)
    assert (y, duration) == (1.0, 25.0)
    assert labels(backend, told, until=START + 60 * DAY + TICK)[1] == 20.0


def test_an_amount_is_reached_by_own_shares_in_order_of_closing(backend):
    deals = [deal("d", START + 20 * DAY), deal("e", START + 5 * DAY), deal("f", START + 9 * DAY, amount=None)]
    half = [{"deal_id": "e", "partner_id": "A", "share": 0.5}, {"deal_id": "e", "partner_id": "B", "share": 0.5}]
    for amount, day in ((5.0, 5.0), (15.0, 20.0)):
        label = SuccessLabel(30, amount)
        assert labels(backend, deals, label=label, deal_partners=half) == (1.0, day, True)
    assert labels(backend, deals, label=SuccessLabel(30, 15.1), deal_partners=half) == (0.0, 100.0, False)
    # the cents of three deals reach a sum that floats would miss
    cents = [deal(f"d{i}", START + i * DAY, amount=0.1) for i in range(3)]
    assert labels(backend, cents, label=SuccessLabel(30, 0.3))[1] == 2.0


def test_a_partner_that_only_takes_part_has_its_success(backend):
    joint = [{"deal_id": "d", "partner_id": p, "is_primary": p == "B"} for p in "AB"]
    assert labels(backend, [deal("d", START + DAY, partner="B")], deal_partners=joint) == (1.0, 1.0, True)


def test_who_waits_for_success(backend):
    tables = {
        "partners": [
            partner("older", UNTIL - 30 * DAY),
            partner("young", UNTIL - 30 * DAY + TICK),
            partner("succeeded", UNTIL - 9 * DAY),
            partner("left", UNTIL - 9 * DAY, left_at=UNTIL - DAY),
            partner("leaves", UNTIL - 9 * DAY, left_at=UNTIL),
            partner("undated", None),
        ],
        "recruits": [{"partner_id": name, "joined_at": None, "country": "FR"} for name in ("recruit", "older")],
        "deals": [deal("d", UNTIL - DAY, partner="succeeded"), deal("e", UNTIL, partner="young")],
    }
    with opened(backend, tables) as eco:
        assert waiting_at(eco, SuccessLabel(30), as_of=UNTIL).tolist() == ["leaves", "recruit", "young"]
        # what was won today is known tomorrow
        assert waiting_at(eco, SuccessLabel(90), as_of=UNTIL + TICK).tolist() == ["older", "recruit"]
        assert first_deal(eco).replace(tzinfo=None) == START - 50 * DAY
        assert success_tables(eco) == ("partners", "recruits", "deals")


def test_without_deals_nobody_succeeds(backend):
    with opened(backend, {"partners": [partner()]}) as eco:
        data = build_joining(eco, catalogue=COUNTRY, as_of=UNTIL, label=SuccessLabel(30), until=UNTIL)
        assert first_deal(eco) is None
    assert data.y.tolist() == [0.0]


def test_a_recruit_without_a_date_has_a_row_and_no_label(backend):
    tables = {
        "partners": [partner()],
        "recruits": [{"partner_id": "R", "joined_at": None, "country": "FR"}],
        "deals": [deal("d", START + DAY)],
    }
    with opened(backend, tables) as eco:
        rows = build_joining(eco, catalogue=COUNTRY, as_of=UNTIL)
        labelled = build_joining(eco, catalogue=COUNTRY, as_of=UNTIL, label=SuccessLabel(30), until=UNTIL)
    assert rows.keys["partner_id"].tolist() == ["A", "R"]
    assert rows.y is None
    assert labelled.keys["partner_id"].tolist() == ["A"]
    assert rows.fingerprint != labelled.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"success_days": 0}, "success_days must be at least 1, not 0"), ({"success_amount": 0.0}, "must be above 0")],
)
def test_a_label_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SuccessLabel(**wrong)


def test_the_values_are_rebuilt_from_json():
    label = SuccessLabel(90, 1000.0)
    assert SuccessLabel.from_dict(label.to_dict()) == label
    assert Joining.from_dict(Joining().to_dict()) == Joining()
    assert label.words == "won revenue of 1,000 within 90 days of joining"
