"""Propensity from tables to scores: with dates, and without them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from tests import made_up_accounts as made

from partnerml import Ecosystem, load_model, score, tasks, train
from partnerml.config import Config
from partnerml.errors import ConfigError, DataError, NotEnoughDataError
from partnerml.models import metrics
from partnerml.nightly import warn_if_task_changed
from partnerml.training._propensity import best_partners, weeks

UNTIL = pd.Timestamp("2026-01-01", tz="UTC")
DAY = pd.Timedelta("1D")

pytestmark = pytest.mark.xdist_group("propensity")


def opened(accounts, tmp_path, *, deals=None, **settings):
    """An ecosystem of accounts, their partners, and a login on the day before UNTIL."""
    if "partner_id" not in accounts:
        accounts = accounts.assign(partner_id=None)
    ids = [*accounts["partner_id"].dropna().unique(), "somebody"]
    partners = pd.DataFrame({"partner_id": ids})
    events = pd.DataFrame({"partner_id": ids, "event_type": "login", "occurred_at": UNTIL - DAY})
    tree = {"traits": {"accounts": list(made.COLUMNS)}, "output": str(tmp_path), "tasks": {"propensity": settings}}
    more = {} if deals is None else {"deals": deals}
    config = Config.from_dict(tree)
    return Ecosystem.from_frames(accounts=accounts, partners=partners, events=events, config=config, **more)


def undated(n=900, *, chance=0.4, seed=0):
    """Accounts without dates; a few partners have won revenue, and some accounts are competitors."""
    frame, log_odds = made.companies(n, seed=seed)
    positive = made.drawn(log_odds, seed=seed)
    labelled = made.some(positive, chance, seed=seed) == 1
    partner_id = pd.Series(np.where(labelled, "p" + frame["account_id"], None), dtype=object)
    relationship = np.where(np.arange(n) % 20 == 3, " Competitor", "customer")
    return frame.assign(is_partner=labelled, partner_id=partner_id, relationship=relationship), log_odds, positive


def won(accounts):
    """Deals of the partners: the amount grows with the number of the account."""
    partners = accounts.dropna(subset="partner_id").reset_index(drop=True)
    closed = UNTIL - 30 * DAY
    return pd.DataFrame(
        {
            "deal_id": "d" + partners["account_id"],
            "partner_id": partners["partner_id"],
            "registered_at": closed - DAY,
            "outcome": "won",
            "closed_at": closed,
            "amount": 100.0 + partners.index.to_numpy(),
        }
    )


@pytest.fixture(scope="module")
def look_alike(tmp_path_factory):
    """Accounts without dates, the ecosystem, the model with a range of priors, and its scores."""
    accounts, log_odds, positive = undated()
    folder = tmp_path_factory.mktemp("look_alike")
    settings = {"class_prior": [0.1, 0.3], "exclude": {"relationship": "competitor"}}
    with pytest.MonkeyPatch.context() as patch, opened(accounts, folder, deals=won(accounts), **settings) as eco:
        patch.setattr("partnerml.training._look_alike.BAGS", 5)
        model = train(eco, tasks.configured(eco.config, "propensity"), until=UNTIL, seed=1)
        frame = score(eco, model, as_of=UNTIL).frame
        yield accounts.assign(log_odds=log_odds, positive=positive), eco, model, frame


def test_scores_are_of_accounts_that_are_no_partners_and_not_excluded(look_alike):
    accounts, _, model, frame = look_alike
    competitor = accounts["relationship"].str.strip().eq("Competitor")
    expected = accounts["account_id"][~accounts["is_partner"] & ~competitor]
    assert sorted(frame["account_id"]) == sorted(expected)
    assert list(frame.columns) == [
        "account_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread", "is_probability",
        "nearest_partners", "model_version",
    ]  # fmt: skip
    assert frame["score"].between(0, 1).all()
    assert (frame["model_version"] == model.version).all()
    assert (frame["trend"] == "steady").all()
    assert model.training["rows"] == int((~competitor).sum())


def test_it_ranks_the_hidden_like_the_truth(look_alike):
    accounts, _, model, frame = look_alike
    rows = frame.merge(accounts, on="account_id")
    y = rows["positive"].to_numpy(dtype=float)
    best, ours = (metrics(y, p)["auc"] for p in (expit(rows["log_odds"].to_numpy()), rows["score"].to_numpy()))
    assert best - 0.04 < ours <= best + 0.01
    assert model.evaluation["verdict"]["against_base_rate"]["high"] < 0
    found = model.evaluation["models"]
    assert found["model"]["auc"]["estimate"] > found["one_trait"]["auc"]["estimate"]
    assert model.evaluation["labelled"] + model.evaluation["unlabelled"] == model.training["rows"]


def test_with_a_class_prior_scores_are_probabilities_of_that_mean(look_alike):
    _, _, model, frame = look_alike
    told = model.evaluation["class_prior"]
    assert frame["is_probability"].all()
    assert logit(told["used"]) == pytest.approx((logit(0.1) + logit(0.3)) / 2)
    assert frame["score"].mean() == pytest.approx(told["used"], abs=0.02)
    assert [one["prior"] for one in told["sensitivity"]] == pytest.approx([0.1, told["used"], 0.3])
    means = [one["mean_score"] for one in told["sensitivity"]]
    assert means == pytest.approx([0.1, told["used"], 0.3], abs=0.005)


def test_reasons_are_told_in_words_and_add_up(look_alike):
    _, eco, model, frame = look_alike
    data = tasks.build_dataset(
        eco, tasks.Task.from_dict(model.task), as_of=UNTIL, catalogue=model.catalogue, labels=False
    )
    effects = model.contributions(data.X)
    np.testing.assert_allclose(effects.sum(axis=1), model.log_odds(data.X), atol=1e-9)
    said = pd.Series(expit(model.log_odds(data.X)), index=data.keys["account_id"])
    np.testing.assert_array_equal(frame["score"], said.loc[frame["account_id"]])
    top = frame.iloc[0]
    assert top["reasons"][0]["text"] in ("industry: software", "industry: consulting", "certified: 1 (typical: 0)")
    assert not any("__" in reason["text"] for row in frame["reasons"] for reason in row)
    assert frame["spread"].gt(0).all()


def test_the_nearest_partners_are_the_best_and_share_what_is_told(look_alike):
    accounts, _, _, frame = look_alike
    partners = accounts[accounts["is_partner"]]
    kept = partners[~partners["relationship"].str.strip().eq("Competitor")]
    # amounts grow with the order of the accounts: the best quarter are the last ones
    best = set(kept["account_id"].tail(int(np.ceil(len(kept) * 0.25))))
    by_id = accounts.set_index("account_id")
    for row in frame.head(100).itertuples():
        named = [one["account_id"] for one in row.nearest_partners]
        assert len(named) == 3
        assert set(named) <= best
        assert [one["similarity"] for one in row.nearest_partners] == sorted(
            (one["similarity"] for one in row.nearest_partners), reverse=True
        )
        for one in row.nearest_partners:
            assert one["partner_id"] == by_id.loc[one["account_id"], "partner_id"]
            same = by_id.loc[row.account_id, "industry"] == by_id.loc[one["account_id"], "industry"]
            industry = f"industry: {by_id.loc[row.account_id, 'industry']}"
            assert not one["shared"] or (industry in one["shared"]) == same


def test_saved_and_loaded_it_is_the_same(look_alike, tmp_path):
    _, eco, model, frame = look_alike
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.version == model.version
    assert tasks.Task.from_dict(model.task).to_dict() == model.task
    again = score(eco, loaded, as_of=UNTIL)
    pd.testing.assert_frame_equal(again.frame, frame)
    path = again.write(tmp_path)
    assert path.parts[-4:] == ("scores", "propensity", "date=2026-01-01", "scores.parquet")
    assert pd.read_parquet(path)["account_id"].is_monotonic_increasing


def test_the_order_of_the_rows_changes_nothing(look_alike, tmp_path):
    accounts, _, model, _ = look_alike
    shuffled = accounts.drop(columns=["log_odds", "positive"]).sample(frac=1, random_state=0)
    settings = {"class_prior": [0.1, 0.3], "exclude": {"relationship": "competitor"}}
    with opened(shuffled, tmp_path, deals=won(accounts), **settings) as eco:
        data = tasks.build_dataset(eco, tasks.Task.from_dict(model.task), as_of=UNTIL, until=UNTIL)
    # what a model is made from is this and the seed
    assert data.where(data.mature).fingerprint == model.training["data_fingerprint"]


def dated(n=2500, *, seed=0, horizon=30):
    """Accounts created over a year and a half; the good ones sign some days later, most within the horizon."""
    rng = np.random.default_rng([seed, 7])
    frame, log_odds = made.companies(n, seed=seed, share_shift=-3.0)
    created = UNTIL - 540 * DAY + pd.to_timedelta(np.sort(rng.random(n)) * 540, unit="D").floor("s")
    signs = rng.random(n) < expit(log_odds)
    delay = pd.to_timedelta(rng.exponential(horizon / 3, n) + 0.5, unit="D").floor("s")
    since = (created + delay).where(signs)
    return frame.assign(created_at=created, partner_since=since).assign(log_odds=log_odds, signs=signs)


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """Accounts with dates, the ecosystem, a model trained until 90 days before the end."""
    accounts = dated()
    until = UNTIL - 90 * DAY
    tables = accounts.drop(columns=["log_odds", "signs"])
    with opened(tables, tmp_path_factory.mktemp("dated"), horizon_days=30) as eco:
        model = train(eco, tasks.configured(eco.config, "propensity"), until=until, seed=1)
        yield accounts, eco, model, until


def test_with_dates_it_predicts_who_signs_within_the_horizon(supervised):
    accounts, eco, model, until = supervised
    assert model.task["label"]["dated"] is True
    assert model.evaluation["verdict"]["promoted"]
    task = tasks.Task.from_dict(model.task)
    data = tasks.build_dataset(eco, task, as_of=UNTIL, until=UNTIL, catalogue=model.catalogue)
    later = data.where((data.as_of >= until).to_numpy() & data.mature)
    p = model.predict_proba(later.X)
    rows = later.keys.merge(accounts, on="account_id")
    found, best = metrics(later.y, p), metrics(later.y, expit(rows["log_odds"].to_numpy()))
    assert found["auc"] > best["auc"] - 0.02
    assert abs(found["mean_prediction"] - found["base_rate"]) < 0.05


def test_a_score_is_a_probability_while_the_horizon_lasts(supervised):
    accounts, eco, model, until = supervised
    frame = score(eco, model, as_of=until).frame.merge(accounts, on="account_id")
    assert (frame["created_at"] < until).all()
    assert not (frame["partner_since"] < until).any()
    young = frame["created_at"] + 30 * DAY > until
    assert frame["is_probability"].tolist() == young.tolist()
    assert set(frame["trend"][frame["created_at"] >= until - 30 * DAY]) == {"new"}
    assert frame["nearest_partners"].map(len).eq(3).all()


def test_what_comes_after_until_changes_nothing(supervised, tmp_path):
    accounts, _, model, until = supervised
    known = accounts.drop(columns=["log_odds", "signs"])
    late = known["created_at"] < until
    cut = known[late].assign(partner_since=known["partner_since"].where(known["partner_since"] < until))
    with opened(cut, tmp_path, horizon_days=30) as eco:
        data = tasks.build_dataset(eco, tasks.Task.from_dict(model.task), as_of=until, until=until)
    # what a model is made from is this and the seed
    assert data.where(data.mature).fingerprint == model.training["data_fingerprint"]


def test_too_little_is_told(tmp_path):
    accounts, _, _ = undated(300, chance=0.1)
    with opened(accounts, tmp_path) as eco:
        with pytest.raises(NotEnoughDataError, match="learns from at least 50 accounts that are labelled"):
            train(eco, tasks.propensity(), until=UNTIL)
        with pytest.raises(NotEnoughDataError, match=r"nothing is labelled: none .* has won revenue"):
            train(eco, tasks.propensity(positives="best"), until=UNTIL)
        with pytest.raises(ConfigError, match=r"dated labels of propensity need accounts.created_at"):
            train(eco, tasks.propensity(dated=True), until=UNTIL)
    nobody = r"nothing is labelled: none .* is a partner"
    with (
        opened(accounts.assign(is_partner=False, partner_id=None), tmp_path) as eco,
        pytest.raises(NotEnoughDataError, match=nobody),
    ):
        train(eco, tasks.propensity(), until=UNTIL)
    young = dated(200).drop(columns=["log_odds", "signs"])
    with (
        opened(young.assign(partner_since=pd.NaT), tmp_path) as eco,
        pytest.raises(NotEnoughDataError, match="no account became a partner within 90 days"),
    ):
        train(eco, tasks.propensity(), until=UNTIL)
    with opened(young, tmp_path) as eco, pytest.raises(NotEnoughDataError, match="needs 2 weeks to validate on"):
        train(eco, tasks.propensity(), until=UNTIL)


def test_a_trait_that_only_partners_have_is_refused(tmp_path):
    accounts, _, _ = undated(600)
    told = accounts.assign(certified=accounts["certified"].where(accounts["is_partner"]))
    with opened(told, tmp_path) as eco, pytest.raises(DataError, match=r"the trait certified .* tells the outcome"):
        train(eco, tasks.propensity(), until=UNTIL)


def test_features_are_those_that_scores_are_made_from(look_alike):
    _, eco, model, frame = look_alike
    earlier = UNTIL - 30 * DAY
    built = tasks.build_features(eco, "propensity", [UNTIL, earlier])
    assert list(built) == [earlier.to_pydatetime(), UNTIL.to_pydatetime()]
    data = built[UNTIL.to_pydatetime()]
    assert data.keys["account_id"].tolist() == sorted(frame["account_id"])
    assert list(data.X.columns) == [f"accounts__{column}__trait__asof" for column in made.COLUMNS]
    assert data.y is None
    np.testing.assert_array_equal(
        model.predict_proba(data.X), frame.set_index("account_id")["score"].loc[data.keys["account_id"]]
    )


def test_nobody_to_score_is_told(look_alike):
    _, eco, model, _ = look_alike
    everybody = dataclasses.replace(
        model,
        task={**model.task, "population": {"exclude": {"relationship": ["competitor", "customer"]}}},
    )
    with pytest.raises(NotEnoughDataError, match="no account belongs to the population of propensity"):
        score(eco, everybody, as_of=UNTIL)


def test_weeks_begin_on_monday_and_the_best_are_those_with_the_most():
    moments = pd.Series(pd.to_datetime(["2026-01-05T00:00Z", "2026-01-11T23:59Z", "2026-01-12T00:00Z"]))
    assert [f"{one:%d}" for one in weeks(moments)] == ["05", "05", "12"]
    facts = pd.DataFrame(
        {"account_id": list("abcd"), "partner_id": None, "revenue": [1.0, np.nan, 3.0, 3.0], "best": [False] * 4}
    )
    assert best_partners(facts)["account_id"].tolist() == list("abcd")
    facts["best"] = [False, False, True, True]
    assert best_partners(facts)["account_id"].tolist() == ["c", "d"]


def test_the_configuration_says_what_the_call_says():
    tree = {"horizon_days": 60, "positives": "best", "best_share": 0.1, "class_prior": 0.05}
    config = Config.from_dict({"tasks": {"propensity": {**tree, "exclude": {"is_rival": [True], "kind": "Rival"}}}})
    (task,) = tasks.from_config(config)
    assert task == tasks.propensity(**tree, exclude={"is_rival": ["true"], "kind": ["rival"]})
    assert Config.from_dict(config.resolved()) == config
    assert tasks.Task.from_dict(task.to_dict()) == task
    assert task.horizon_days == 60
    for wrong, message in (
        ({"class_prior": [0.2, 0.1]}, "a share between 0 and 1 is needed"),
        ({"class_prior": 1}, r"a share between 0 and 1 is needed, .*; got \[1.0, 1.0\]"),
        ({"dated": True, "positives": "best"}, "positives: best is about accounts without dates"),
        ({"exclude": {"kind": []}}, "kind: list the values"),
        ({"best_share": 0}, "tasks.propensity.best_share"),
    ):
        with pytest.raises(ConfigError, match=message):
            Config.from_dict({"tasks": {"propensity": wrong}})
    with pytest.raises(ConfigError, match="is_partner tells whether the account is a partner"):
        Config.from_dict({"traits": {"accounts": ["is_partner"]}})


def test_a_model_of_the_same_question_is_not_warned_of(look_alike, caplog):
    """Whether labels have dates is left to the tables here, and the model was told what that came to."""
    _, eco, model, _ = look_alike
    task = tasks.configured(eco.config, "propensity")
    assert task.label.dated is None
    warn_if_task_changed(model, task, eco)
    assert caplog.messages == []
    changed = dataclasses.replace(task, label=dataclasses.replace(task.label, class_prior=(0.2, 0.2)))
    warn_if_task_changed(model, changed, eco)
    assert len(caplog.messages) == 1
    assert "class_prior" in caplog.messages[0]
