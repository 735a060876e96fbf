"""The fast path of the close model says what the model says of the rows that training would have built."""

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from tests.routing.made_up import AS_OF, snapshot
from tests.routing.made_up_close import DAY, close_model

from partnerml.errors import DataError, ModelError
from partnerml.features import Catalogue, build_pairs
from partnerml.features._pair_outcomes import open_leads
from partnerml.models import PeerRate, explain
from partnerml.publishing import _features, snapshot_of
from partnerml.routing import Ledger, Router, _scorer, _words
from partnerml.routing._lead import Lead
from partnerml.routing._meetings import Meetings, Memory
from partnerml.routing._scorer import CallableScorer, ModelScorer, wanted
from partnerml.routing._situation import Load, Situation
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._snapshot_files import encode
from partnerml.routing._words import facts

pytestmark = pytest.mark.xdist_group("routing-close")
MOMENT = DAY + dt.timedelta(hours=10, minutes=7)


@pytest.fixture(scope="module")
def close():
    return close_model()


@pytest.fixture(scope="module")
def eco(close):
    with close.open() as opened:
        yield opened


@pytest.fixture(scope="module")
def published(eco, close):
    return snapshot_of(eco, as_of=DAY, model=close.model)


@pytest.fixture(scope="module")
def leads(close):
    table = close.tables["leads"].to_pandas()
    near = table[(table["created_at"] < DAY) & (table["created_at"] > DAY - dt.timedelta(days=60))]
    return near.sample(12, random_state=4).sort_values("lead_id", ignore_index=True)


@pytest.fixture(scope="module")
def pairs(eco, close, published, leads):
    """The pairs of those leads with all partners, as training builds them."""
    ids = [str(partner) for partner in published.partners.partner_id]
    every = pd.MultiIndex.from_product([leads["lead_id"], ids], names=["lead_id", "partner_id"]).to_frame(index=False)
    asked = every.assign(assigned_at=pd.Timestamp(MOMENT))
    return build_pairs(eco, asked, catalogue=Catalogue.from_dict(close.model.catalogue))


@pytest.fixture(scope="module")
def held(eco, published):
    """How many leads each partner holds open at that moment, by the oracle of the features."""
    ids = [str(partner) for partner in published.partners.partner_id]
    asked = pd.DataFrame({"partner_id": ids, "assigned_at": pd.Timestamp(MOMENT).tz_localize(None)})
    return open_leads(eco, asked).astype(np.int64)


def situation(published: Snapshot, row: pd.Series, held) -> Situation:
    zeros = np.zeros(len(published), dtype=np.int64)
    return Situation(
        lead=Lead.of({name: value for name, value in row.items() if not _null(value)}),
        moment=MOMENT,
        snapshot=published,
        load=Load(zeros, zeros, held),
        had=frozenset(),
        matches=(),
        config=published.config,
    )


def _null(value) -> bool:
    return value is None or (not isinstance(value, list | tuple | np.ndarray) and pd.isna(value))


def test_scores_are_those_of_the_model(close, published, leads, pairs, held):
    rng = np.random.default_rng(0)
    for _, row in leads.iterrows():
        mine = pairs.X[(pairs.keys["lead_id"] == row["lead_id"]).to_numpy()].reset_index(drop=True)
        rows = np.sort(rng.choice(len(published), 40, replace=False))
        scored = published.scorer.score(situation(published, row, held), rows)
        np.testing.assert_allclose(scored.p, close.model.predict_proba(mine)[rows], rtol=0, atol=1e-12)
        peers = PeerRate.from_state(close.model.documents["peers"])
        spread = np.hypot(close.model.spread(mine), peers.deviation(mine))
        np.testing.assert_allclose(scored.spread, spread[rows], rtol=0, atol=1e-12)


def test_a_score_does_not_depend_on_who_else_is_asked(published, leads, held):
    case = situation(published, leads.iloc[0], held)
    every = published.scorer.score(case, np.arange(len(published))).p
    for rows in ([3], [7, 2, 150], list(range(0, 160, 9))):
        np.testing.assert_array_equal(published.scorer.score(case, np.array(rows)).p, every[rows])
    assert len(published.scorer.score(case, np.array([], dtype=np.int64)).p) == 0


def test_what_is_kept_of_some_leads_changes_no_bit_of_others(published, leads, held):
    scorer, rows = published.scorer, np.arange(1, len(published), 3)
    assert scorer._quick.keeps
    for given in (held, held + 1):
        for _, row in leads.iterrows():
            case = situation(published, row, given)
            parts = scorer._quick.log_odds_of_components(rows, scorer._meetings.values(case, rows))
            np.testing.assert_array_equal(scorer.score(case, rows).p, expit(scorer._quick.log_odds(parts)))


def test_of_very_many_partners_nothing_is_found_beforehand(monkeypatch, published, leads, held):
    rows = np.arange(1, len(published), 3)
    cases = [situation(published, row, held) for _, row in leads.iterrows()]
    scorer, asked = published.scorer, []
    kept = [
        (scorer.score(case, rows).p, scorer.glance(case, rows), [facts(case, row) for row in rows]) for case in cases
    ]
    for module in (_scorer, _words):
        monkeypatch.setattr(module, "FEW_ENOUGH", len(published) - 1)
    monkeypatch.setattr(scorer._quick, "kept", lambda *given: asked.append(given))
    monkeypatch.setattr(scorer._meetings, "remembered", lambda *given: asked.append(given))
    monkeypatch.setattr(cases[0].index.told, "get", lambda *given: asked.append(given))
    for case, (p, glance, words) in zip(cases, kept, strict=True):
        np.testing.assert_array_equal(scorer.score(case, rows).p, p)
        np.testing.assert_array_equal(scorer.glance(case, rows), glance)
        assert [facts(case, row) for row in rows] == words
    assert not asked


def test_reasons_are_those_of_the_model(close, published, leads, pairs, held):
    model, typical = close.model, close.model.training["typical"]
    for place in (2, 5, 8):
        row = leads.iloc[place]
        mine = pairs.X[(pairs.keys["lead_id"] == row["lead_id"]).to_numpy()].reset_index(drop=True)
        every = explain(model.contributions(mine), mine, dictionary=model.dictionary, typical=typical, top=99)
        for partner in (0, 17, len(mine) - 1):
            told, expected = published.scorer.reasons(situation(published, row, held), partner, 99), every[partner]
            assert len(told) > 3
            assert {reason["text"] for reason in told} == {reason.text for reason in expected}
            effect = {reason.feature: reason.effect for reason in expected}
            assert {reason["feature"] for reason in told} == set(effect)
            for reason in told:
                np.testing.assert_allclose(reason["effect"], effect[reason["feature"]], rtol=0, atol=1e-12)


def test_a_text_that_training_never_saw_is_named_as_the_scores_of_the_model_name_it(
    eco, close, published, leads, pairs, held, tmp_path
):
    name, row, model = "partners__partner_type__trait__asof", leads.iloc[2], close.model
    features = _features(eco, model, published.known, DAY)
    features[name] = features[name].astype(object)
    features.loc[[7, 9, 30], name] = ["consortium", "consortium", "co-op, Ltd."]
    scorer = ModelScorer.of(model, published.known, features)
    here = dataclasses.replace(published, scorer=scorer)
    again = Snapshot.open(here.write(tmp_path))
    assert name not in published.scorer.unseen
    nothing = ModelScorer(model, published.known, published.scorer.codes)
    assert "unseen.json" not in encode(dataclasses.replace(published, scorer=nothing))
    mine = pairs.X[(pairs.keys["lead_id"] == row["lead_id"]).to_numpy()].reset_index(drop=True)
    mine[name] = features[name].to_numpy()
    typical = model.training["typical"]
    expected = explain(model.contributions(mine), mine, dictionary=model.dictionary, typical=typical, top=99)
    for partner, text in ((7, "consortium"), (9, "consortium"), (30, "co-op, Ltd."), (8, None)):
        for snap in (here, again):
            told = [reason["text"] for reason in snap.scorer.reasons(situation(snap, row, held), partner, 99)]
            assert set(told) == {reason.text for reason in expected[partner]}
            assert text is None or f"partner type: {text}" in told
    rows = np.array([7, 30])
    np.testing.assert_array_equal(*(snap.scorer.score(situation(snap, row, held), rows).p for snap in (here, again)))
    np.testing.assert_allclose(
        here.scorer.score(situation(here, row, held), rows).p, model.predict_proba(mine)[rows], rtol=0, atol=1e-12
    )


def test_who_handed_a_lead_in_has_it_in_its_facts_and_in_its_score(published, leads, held):
    ids = [str(partner) for partner in published.partners.partner_id]
    lead = leads.iloc[5].drop("source_partner_id")
    nobody = situation(published, lead, held)
    case = situation(published, pd.concat([lead, pd.Series({"source_partner_id": ids[17]})]), held)
    told = [i for i in range(len(ids)) if "handed the lead in itself" in facts(case, i)]
    assert told == [17]
    assert not any("handed" in words for words in facts(nobody, 17))
    rows = np.arange(len(ids))
    gain = published.scorer.score(case, rows).p - published.scorer.score(nobody, rows).p
    others = np.delete(gain, 17)
    assert gain[17] > others.max()


def test_a_model_of_the_distance_of_given_leads_asks_who_handed_them_in(published, leads, held):
    meetings = Meetings(published.scorer.known, ["pair__place__given_km__asof"])
    lead, rows = leads.iloc[5].copy(), np.arange(len(published))
    lead["latitude"], lead["longitude"] = 48.1, 11.6
    lead["source_partner_id"] = str(published.partners.partner_id[17])
    case = situation(published, lead, held)
    for values in (meetings.values(case, rows), meetings.values_of_many([case], [rows])):
        assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [17]


def test_an_opened_snapshot_scores_the_same(published, leads, held, tmp_path):
    again = Snapshot.open(published.write(tmp_path))
    assert isinstance(again.scorer, ModelScorer)
    assert again.scorer.version == published.scorer.version
    assert isinstance(again.scorer.codes, np.memmap)
    rows = np.arange(len(published))
    for _, row in leads.iloc[:3].iterrows():
        one, other = (s.scorer.score(situation(s, row, held), rows).p for s in (published, again))
        np.testing.assert_array_equal(one, other)


def test_a_model_that_is_read_when_it_is_to_score_is_the_same(published, leads, held, tmp_path, monkeypatch):
    folder, reads = published.write(tmp_path), []
    read = ModelScorer.read.__func__
    monkeypatch.setattr(ModelScorer, "read", classmethod(lambda *given: reads.append(given) or read(*given)))
    lazy = Snapshot.open(folder, lazy=True)
    assert lazy.scorer.version == published.scorer.version
    assert lazy.id == published.id
    with Ledger.open() as ledger:
        eager = Router.open(published, ledger=ledger)
        every = [eager.route(situation(published, row, held).lead, now=MOMENT) for _, row in leads.iterrows()]
        made = next(decision for decision in every if decision.status == "assigned")
        kept, partner = Router.open(lazy, ledger=ledger), str(lazy.partners.partner_id[0])
        kept.respond(made.offer_id, "accepted", now=MOMENT)
        given = kept.override(made.lead_id, partner, by="Ada", reason="so", now=MOMENT)
        assert given.model_version == made.model_version
    assert reads == []
    rows, cases = np.arange(len(published)), [situation(lazy, row, held) for _, row in leads.iloc[:3].iterrows()]
    for case, many in zip(cases, lazy.scorer.score_many(cases, [rows] * 3), strict=True):
        expected = published.scorer.score(dataclasses.replace(case, snapshot=published), rows)
        np.testing.assert_array_equal(lazy.scorer.score(case, rows).p, expected.p)
        np.testing.assert_array_equal(many, expected.p)
        np.testing.assert_array_equal(lazy.scorer.glance(case, rows), published.scorer.glance(case, rows))
        assert lazy.scorer.reasons(case, 3, 9) == published.scorer.reasons(case, 3, 9)
    assert len(reads) == 1
    assert encode(Snapshot.open(folder, lazy=True)) == encode(published)
    (folder / "model" / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match="is damaged"):
        Snapshot.open(folder, lazy=True)


def test_values_that_training_never_saw_and_leads_that_say_nothing(close, published, held):
    for payload in ({}, {"country": "ZW", "vertical": "space.mining", "amount": 1e12, "languages": ["tlh"]}):
        case = situation(published, pd.Series({"lead_id": "new", **payload}), held)
        p = published.scorer.score(case, np.arange(len(published))).p
        assert ((p > 0) & (p < 1)).all()


def test_what_a_model_needs_of_partners_and_pairs(close):
    names = wanted(close.model)
    assert len(names) == len(set(names))
    assert set(close.model.columns) <= set(names)
    assert set(PeerRate.from_state(close.model.documents["peers"]).feature_names_in_) <= set(names)


def test_a_function_of_ones_own():
    made = snapshot(4, p={"p0": 0.5, "p2": 0.9})
    case = Situation(Lead.of({"lead_id": "a"}), AS_OF, made, Load.none(4), frozenset(), (), made.config)
    np.testing.assert_array_equal(made.scorer.score(case, np.array([0, 2, 3])).p, [0.5, 0.9, 0.3])
    np.testing.assert_array_equal(made.scorer.score(case, np.array([0, 2])).spread, [0, 0])
    assert made.scorer.reasons(case, 0, 3) == []
    wrong = dataclasses.replace(made, scorer=CallableScorer(lambda situation, rows: rows + 0.5, version="mine"))
    with pytest.raises(DataError, match=r"scorer 'mine': it must return one probability in \[0, 1\] for each of the 2"):
        wrong.scorer.score(case, np.array([0, 2]))


def test_rates_without_a_model():
    cells = [
        {"partner_id": "p0", "dimension": "all", "value": "", "closed": 14, "won": 9, "days": 300},
        {"partner_id": "p1", "dimension": "all", "value": "", "closed": 6, "won": 0, "days": 0},
    ]
    made = snapshot(3, cells=cells)
    case = Situation(Lead.of({"lead_id": "a"}), AS_OF, made, Load.none(3), frozenset(), (), made.config)
    scored = made.scorer.score(case, np.arange(3))
    np.testing.assert_allclose(scored.p, [(9 + 4.5) / 24, 4.5 / 16, 0.45])
    assert (np.diff(scored.spread[[0, 1, 2]]) > -0.02).all()
    assert made.scorer.reasons(case, 0, 3)[0]["text"] == "won 9 of 14 deals and leads"
    assert made.scorer.reasons(case, 2, 3)[0]["text"] == "no deal or lead closed so far"
    nobody = snapshot(2)
    assert nobody.scorer.score(dataclasses.replace(case, snapshot=nobody), np.arange(2)).p.tolist() == [0.5, 0.5]


def test_a_glance_puts_the_best_among_the_first(published, leads, held):
    rows = np.arange(len(published))
    for _, row in leads.iterrows():
        case = situation(published, row, held)
        p, glance = published.scorer.score(case, rows).p, published.scorer.glance(case, rows)
        assert (glance > glance[p.argmax()]).sum() < 12
        assert np.corrcoef(np.log(p / (1 - p)), glance)[0, 1] > 0.9
        some = rows[::3]
        np.testing.assert_array_equal(published.scorer.glance(case, some), glance[some])


def test_what_is_remembered_has_an_end():
    memory, made = Memory(most=10), []

    def make(number):
        made.append(number)
        return np.full(4, number)

    for number in (1, 2, 1, 3, 1, 2):
        assert memory.get(number, lambda number=number: make(number))[0] == number
    assert made == [1, 2, 3, 1, 2]
    assert memory.get("large", lambda: np.zeros(20)).size == 20
    assert memory.get("large", lambda: np.ones(20))[0] == 0
