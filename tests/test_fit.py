"""Fit, end to end: who is trained on and scored, censoring, honest judgement, and refusals that say what is missing."""

import datetime as dt
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from tests.oracles import success as oracle

from partnerml import Ecosystem, load_model, score, tasks
from partnerml.config import Config, FitConfig
from partnerml.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from partnerml.models import Profile, SuccessHazard
from partnerml.progress import Progress
from partnerml.training import _fit_plan, recipe_of

pytestmark = pytest.mark.xdist_group("fit")

START, END = pd.Timestamp("2024-01-01"), pd.Timestamp("2025-07-01")
DAYS = 90
UNTIL = END.tz_localize("UTC").to_pydatetime()
TASK = tasks.fit(success_days=DAYS)
COLUMNS = [
    "partner_id", "as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread",
    "median_days_to_success", "restricted_mean_days", "model_version",
]  # fmt: skip


def programme(n=1_200, seed=0):
    """Return the tables of a programme, and the true chance of each partner to win a deal within 90 days."""
    rng = np.random.default_rng(seed)
    joined = START + pd.to_timedelta(rng.uniform(0, (END - START).days, n), unit="D").floor("s")
    kind, country = rng.choice(["reseller", "isv", "msp"], n), rng.choice(["DE", "FR", "US"], n)
    effect = 1.3 * (kind == "msp") - 0.9 * (kind == "isv") + 0.5 * (country == "US")
    rate = expit(effect - 2.3) / 30
    first = joined + pd.to_timedelta(rng.exponential(1 / rate), unit="D").floor("s")
    names = np.array([f"p{i:04d}" for i in range(n)])
    won = first < END
    deals = pd.DataFrame(
        {
            "deal_id": [f"d{i}" for i in range(won.sum())],
            "partner_id": names[won],
            "registered_at": joined[won],
            "outcome": "won",
            "closed_at": first[won],
            "amount": 100.0,
        }
    )
    partners = pd.DataFrame({"partner_id": names, "joined_at": joined, "partner_type": kind, "country": country})
    partners["left_at"] = pd.Series(pd.NaT, index=partners.index).where(partners.index != 7, END - pd.Timedelta(days=1))
    recruits = pd.DataFrame({"partner_id": ["r1", "r2"], "partner_type": ["msp", "isv"], "country": ["US", "DE"]})
    return {"partners": partners, "deals": deals, "recruits": recruits}, 1 - np.exp(-rate * DAYS)


@pytest.fixture(scope="module")
def tables():
    return programme()[0]


@pytest.fixture(scope="module")
def eco(tables):
    with Ecosystem.from_frames(now=UNTIL, **tables) as opened:
        yield opened


@pytest.fixture(scope="module")
def trained(eco):
    recipe = recipe_of(eco, TASK, until=UNTIL, seed=1, origins=4)
    return recipe, recipe.train(Progress.silent())


@pytest.fixture(scope="module")
def model(trained):
    return trained[1].model


@pytest.fixture(scope="module")
def scored(eco, model):
    return score(eco, model, as_of=UNTIL)


def rows_of(tables):
    """What the oracle takes."""
    moments = ("joined_at", "left_at", "closed_at", "registered_at")
    return {
        name: [
            {k: (None if pd.isna(v) else v.to_pydatetime() if k in moments else v) for k, v in row.items()}
            for row in frame.to_dict("records")
        ]
        for name, frame in tables.items()
    }


def test_every_partner_is_trained_on_censored_or_not(trained, tables):
    recipe = trained[0]
    assert set(recipe.data.keys["partner_id"]) == set(tables["partners"]["partner_id"])
    assert recipe.cluster == "partner_id"
    first = recipe.folds[0]
    joined = recipe.data.as_of
    assert (joined.iloc[first.train] < first.cut).all()
    assert (joined.iloc[first.test] >= first.cut).all()
    # at an origin most of those that joined lately have no label, and are fitted on all the same
    assert recipe.known[first.cut].iloc[first.train].isna().mean() > 0.2
    told = recipe.known[first.cut]
    mature = joined + pd.Timedelta(days=DAYS) <= first.cut
    assert told[mature].notna().all()
    assert told[~mature].isna().all()


def test_of_who_was_followed_exactly_to_the_horizon_nothing_is_known(tables):
    """A win on its last day may still come to be known: it is no partner that did not succeed."""
    with altered(tables, partners=lambda frame: frame.assign(joined_at=frame["joined_at"].dt.floor("D"))) as eco:
        recipe = recipe_of(eco, TASK, until=UNTIL, seed=0, origins=4)
    whole = recipe.data.as_of + pd.Timedelta(days=DAYS)
    assert sum((whole == cut).sum() for cut in recipe.known) > 3
    for cut, told in recipe.known.items():
        assert told[whole < cut].notna().all()
        assert told[whole >= cut].isna().all()


def test_an_origin_is_asked_for_once_enough_were_followed_beyond_the_horizon():
    """Of 30 partners that joined on New Year's Day all have 91 days behind them on April Fools' Day, and no more."""
    joined = pd.Series(pd.to_datetime(["2024-01-01"] * 30 + ["2024-04-10", "2024-05-10"], utc=True))
    times = pd.DataFrame({"duration_days": 5.0, "observed": True}, index=joined.index)
    rows, asked = SimpleNamespace(as_of=joined, known_times=times), np.ones(len(joined), dtype=bool)
    for days, first in ((90, "2024-04-01"), (91, "2024-05-01")):
        folds = list(_fit_plan._folds(rows, dt.timedelta(0), asked, days=days, at_most=8))
        assert folds[0].cut == pd.Timestamp(first, tz="UTC")
    # the outcomes of the first origin's own partners, that they had 21 days for at the second, are not in at 21 days
    for days, replayed in ((20, True), (21, False)):
        assert _fit_plan._is_replayed(rows, _origins(rows, days), days, dt.timedelta(0)) is replayed


def _origins(rows, days):
    asked = np.ones(len(rows.as_of), dtype=bool)
    return list(_fit_plan._folds(rows, dt.timedelta(0), asked, days=days, at_most=8))[-2:]


def test_who_was_followed_exactly_to_the_horizon_is_no_failure_to_judge_on(trained):
    recipe = trained[0]
    spans = (np.full(len(recipe.data), float(DAYS)), np.full(len(recipe.data), DAYS + 0.1))
    assert _fit_plan._judged(recipe.data, recipe.folds, DAYS, spans[0]) == 0
    assert _fit_plan._judged(recipe.data, recipe.folds, DAYS, spans[1]) > 50


def test_it_is_judged_out_of_time_beside_its_baselines(model, trained):
    said = model.evaluation["models"]
    assert set(said) == {"model", "logistic", "trees", "base_rate", "one_trait"}
    assert model.evaluation["replayed"]
    assert said["model"]["log_loss"]["estimate"] < said["base_rate"]["log_loss"]["estimate"] - 0.02
    assert abs(said["model"]["mean_prediction"]["estimate"] - said["model"]["base_rate"]["estimate"]) < 0.05
    assert model.evaluation["verdict"]["against_base_rate"]["high"] < 0
    assert model.training["judged_days"] == DAYS
    assert trained[1].replay["weight"].min() > 0


def test_it_finds_the_truth(eco, model):
    fresh, truth = programme(seed=1)
    with Ecosystem.from_frames(now=UNTIL, **fresh) as other:
        data = tasks.build_dataset(other, TASK, as_of=UNTIL, catalogue=model.catalogue, labels=False)
    said = pd.Series(model.predict_proba(data.X), index=data.keys["partner_id"]).reindex(
        fresh["partners"]["partner_id"]
    )
    # of 1,200 partners the share itself has a standard error of .015
    assert abs(said.mean() - truth.mean()) < 0.04
    assert np.corrcoef(said, truth)[0, 1] > 0.95
    # the test of the test: those that could not be followed, left out
    rows = tasks.build_dataset(eco, TASK, as_of=UNTIL, until=UNTIL, catalogue=model.catalogue)
    followed = (rows.times["duration_days"] >= DAYS) | rows.times["observed"]
    late = rows.as_of >= pd.Timestamp(UNTIL) - pd.Timedelta(days=DAYS)
    naive = (rows.times["observed"] & (rows.times["duration_days"] <= DAYS))[followed & late].mean()
    assert naive - truth.mean() > 0.05


def test_scored_is_who_may_still_succeed(scored, tables):
    lists = rows_of(tables)
    succeeded = {row["partner_id"] for row in lists["deals"]}
    young = tables["partners"][tables["partners"]["joined_at"] + pd.Timedelta(days=DAYS) > END]
    waiting = set(young["partner_id"]) - succeeded - {"p0007"}
    assert set(scored.frame["partner_id"]) == waiting | {"r1", "r2"}
    assert list(scored.frame.columns) == COLUMNS


def test_times_to_success_follow_the_score(scored):
    frame = scored.frame
    assert (frame["median_days_to_success"].notna() == (frame["score"] >= 0.5)).all()
    assert frame["median_days_to_success"].dropna().between(0, DAYS).all()
    assert frame["median_days_to_success"].notna().any()
    assert frame["restricted_mean_days"].between(0, DAYS).all()
    # a higher score comes sooner
    assert np.corrcoef(frame["score"], frame["restricted_mean_days"])[0, 1] < -0.95


def test_a_score_is_as_at_joining_however_old_the_partner(eco, model, scored):
    earlier = score(eco, model, as_of=UNTIL - dt.timedelta(days=30)).frame.set_index("partner_id")
    now = scored.frame.set_index("partner_id")
    both = now.index.intersection(earlier.index)
    assert len(both) > 20
    pd.testing.assert_series_equal(now["score"][both], earlier["score"][both])
    new = set(now.index[now["trend"] == "new"])
    assert new == set(now.index) - set(earlier.index)
    moved = now["percentile"][both] - earlier["percentile"][both]
    assert (now["trend"][both] == np.select([moved >= 5, moved <= -5], ["rising", "falling"], "steady")).all()


def test_reasons_add_up_over_all_traits_and_are_told_in_words(eco, model, scored):
    data = tasks.build_dataset(eco, TASK, as_of=UNTIL, catalogue=model.catalogue, labels=False)
    effects = model.contributions(data.X)
    np.testing.assert_allclose(effects.sum(axis=1), logit(model.predict_proba(data.X)), rtol=0, atol=1e-9)
    best = scored.frame.iloc[0]["reasons"]
    assert best[0]["text"] == "partner type: msp"
    assert best[0]["effect"] > 0
    assert all("__" not in reason["text"] for reasons in scored.frame["reasons"] for reason in reasons)


def test_the_profile_of_the_ideal_partner_comes_with_the_model(trained, model):
    profile = Profile.from_dict(model.documents["profile"])
    assert profile.success_days == DAYS
    assert profile.partners == len(trained[0].data) == model.training["rows"]
    assert profile.words()[0].startswith(f"{model.training['base_rate']:.0%}".replace("%", " %"))


def test_a_saved_model_is_the_same(trained, model, scored, tmp_path):
    again, X = load_model(model.save(tmp_path / "model")), trained[0].data.X.head(50)
    assert again.version == model.version
    np.testing.assert_array_equal(again.contributions(X), model.contributions(X))
    assert scored.write(tmp_path).parent.parent == tmp_path / "scores" / "fit"


def test_a_short_history_is_judged_at_a_shorter_time_and_says_so(eco, caplog):
    recipe = recipe_of(eco, tasks.fit(success_days=365, train_from="2024-01-20"), until=UNTIL, seed=0)
    assert recipe.data.as_of.min() >= pd.Timestamp("2024-01-20", tz="UTC")
    assert recipe.told["judged_days"] < 365
    assert f"the model is judged on success within {recipe.told['judged_days']} days" in caplog.text
    # a line fitted at one time would not hold at another
    assert recipe.folds[-1].cut + pd.Timedelta(recipe.maturity) > pd.Timestamp(UNTIL) + pd.Timedelta(days=9_999)
    final = pd.Timestamp(UNTIL)
    fitted = {
        cut: recipe.learners()["logistic"](recipe.data.X, recipe.labels, cut) for cut in (recipe.folds[0].cut, final)
    }
    assert fitted[final].success_days == 365
    assert fitted[recipe.folds[0].cut].success_days == recipe.told["judged_days"]


def test_what_was_judged_at_a_shorter_time_is_told_as_that(eco):
    recipe = recipe_of(eco, tasks.fit(success_days=365), until=UNTIL, seed=0, origins=2)
    days = recipe.told["judged_days"]
    made = recipe.train(Progress.silent())
    said = made.model.evaluation
    assert said["judged_days"] == days < 365
    assert said["judged_on"].endswith(f"success within {days} days, the longest that the history allows")
    # what is scored is success within a year: figures of fewer days are none of it
    assert "groups" not in said
    assert made.model.documents["baseline"]["scores"] is None
    with pytest.raises(ModelError, match="holds no intervals"):
        made.model.interval([0.5])


def test_what_is_judged_as_it_is_scored_needs_no_telling(model):
    assert not {"judged_days", "judged_on"} & set(model.evaluation)
    assert model.evaluation["groups"]
    assert model.documents["baseline"]["scores"]["rows"] == model.evaluation["rows"]


@pytest.mark.parametrize("final", [False, True])
def test_a_partner_is_not_told_outcomes_that_came_after_it_joined(trained, monkeypatch, final):
    """Outcomes of earlier joiners stand for long texts: those alone that were whole by then."""
    recipe, told = trained[0], {}

    class Watched(SuccessHazard):
        def fit(self, X, duration_days, observed, *, follow_up_days=None, known_rows=None):
            told.update(days=self.success_days, rows=X.index, known=known_rows)
            return super().fit(X, duration_days, observed, follow_up_days=follow_up_days, known_rows=known_rows)

    monkeypatch.setattr("partnerml.models.SuccessHazard", Watched)
    fold = recipe.folds[-1]
    rows = recipe.data.X if final else recipe.data.X.iloc[fold.train]
    cut = pd.Timestamp(UNTIL) if final else fold.cut
    # other settings than the defaults: the curve of all rows is fitted once and kept
    recipe.make({"logistic": {"prior_variance": 0.5}})["logistic"](rows, recipe.labels.loc[rows.index], cut)
    joined = recipe.data.as_of.loc[told["rows"]]
    whole = joined + pd.Timedelta(days=told["days"])
    assert list(told["known"]) == [int((whole <= moment).sum()) for moment in joined]
    assert 0 < max(told["known"]) < len(rows)


def altered(tables, **changes):
    changed = dict(tables)
    for name, change in changes.items():
        changed[name] = change(tables[name].copy())
    return Ecosystem.from_frames(now=UNTIL, **changed)


def of_partners(kept):
    """Return changes that leave only some partners, with their deals."""
    return {name: lambda frame: frame[frame["partner_id"].isin(kept)] for name in ("partners", "deals")}


def test_too_few_partners_are_refused_with_what_there_is(tables):
    few = tables["partners"]["partner_id"].head(30)
    with (
        altered(tables, **of_partners(few)) as eco,
        pytest.raises(
            NotEnoughDataError, match="fit needs 20 partners that succeeded within 90 days of joining and 20"
        ),
    ):
        recipe_of(eco, TASK, until=UNTIL, seed=0)


def test_of_few_partners_those_that_are_known_stand_for_those_that_are_not(tables):
    some = tables["partners"]["partner_id"].head(240)
    with altered(tables, **of_partners(some)) as eco:
        recipe = recipe_of(eco, TASK, until=UNTIL, seed=0)
    # without time to replay a choice there is none between components
    assert list(recipe.learners()) == ["logistic"]
    assert recipe.told["judged_days"] == DAYS
    asked = np.concatenate([fold.test for fold in recipe.folds])
    joined = recipe.data.as_of.iloc[asked]
    assert (joined + pd.Timedelta(days=DAYS) > pd.Timestamp(UNTIL)).any()
    assert (joined + pd.Timedelta(days=DAYS / 2) < pd.Timestamp(UNTIL)).all()
    known = recipe.labels.notna()
    assert recipe.weights[known].max() > 1
    assert (recipe.weights[~known] == 0).all()
    lists = rows_of(tables)
    times = [
        oracle.label(name, lists, until=END, success_days=DAYS)[1:]
        for name in recipe.data.keys["partner_id"].iloc[asked]
    ]
    share = (recipe.labels * recipe.weights).sum() / len(asked)
    assert share == pytest.approx(1 - float(oracle.kaplan_meier(times, DAYS)))


def test_followed_long_enough_is_more_than_the_horizon(tables):
    """All joined 90 days before the end: success on the last day may still come to be known."""
    some = tables["partners"]["partner_id"].head(400)

    def at_once(frame):
        return frame[frame["partner_id"].isin(some)].assign(joined_at=pd.Timestamp(UNTIL) - pd.Timedelta(days=DAYS))

    def soon(frame):
        frame = frame[frame["partner_id"].isin(some)]
        return frame.assign(
            registered_at=pd.Timestamp(UNTIL) - pd.Timedelta(days=DAYS),
            closed_at=pd.Timestamp(UNTIL) - pd.Timedelta(days=9),
        )

    with (
        altered(tables, partners=at_once, deals=soon) as eco,
        pytest.raises(NotEnoughDataError, match=r"20 that joined more than 90 days before .* did and 0 are"),
    ):
        recipe_of(eco, TASK, until=UNTIL, seed=0)


def test_a_joining_date_taken_from_the_first_deal_is_refused(tables):
    def at_first_deal(frame):
        first = tables["deals"].set_index("partner_id")["closed_at"]
        return frame.assign(joined_at=frame["partner_id"].map(first))

    with altered(tables, partners=at_first_deal) as eco, pytest.raises(DataError, match="taken from the first deal"):
        recipe_of(eco, TASK, until=UNTIL, seed=0)


def test_a_trait_that_was_filled_in_because_of_success_is_refused(tables):
    won = set(tables["deals"]["partner_id"])

    def filled(frame):
        return frame.assign(region=[("US-NY" if p in won else None) for p in frame["partner_id"]])

    with (
        altered(tables, partners=filled) as eco,
        pytest.raises(DataError, match=r"the trait region .* is known for all .* partners that succeeded"),
    ):
        recipe_of(eco, TASK, until=UNTIL, seed=0)


def test_who_joined_before_the_deals_began_is_left_out(tables, caplog):
    def later(frame):
        return frame[frame["registered_at"] >= pd.Timestamp("2024-05-11")]

    with altered(tables, deals=later) as eco:
        recipe = recipe_of(eco, TASK, until=UNTIL, seed=0, origins=2)
    assert recipe.data.as_of.min() >= pd.Timestamp("2024-05-01", tz="UTC")
    assert "joined before the month of the first deal on record (2024-05) and are left out" in caplog.text


def test_a_trait_that_nobody_to_score_has_is_refused(tables, model):
    nothing = dict.fromkeys(("partners", "recruits"), lambda frame: frame.assign(country=None))
    with altered(tables, **nothing) as eco, pytest.raises(ModelError, match=r"trait country .* is null for all"):
        score(eco, model, as_of=UNTIL)


def test_nobody_to_score_is_said(tables, model):
    old = tables["partners"]["partner_id"][tables["partners"]["joined_at"] < "2024-06-01"]
    nobody = of_partners(old) | {"recruits": lambda frame: frame.head(0)}
    with (
        altered(tables, **nobody) as eco,
        pytest.raises(NotEnoughDataError, match="nobody is scored for fit at 2025-07-01"),
    ):
        score(eco, model, as_of=UNTIL)


def test_the_task_is_read_from_the_configuration():
    config = Config.from_dict(
        {"tasks": {"fit": {"success_days": 180, "success_amount": 5000, "train_from": "2024-03-01"}}}
    )
    (task,) = tasks.from_config(config)
    assert task == tasks.fit(success_days=180, success_amount=5000.0, train_from="2024-03-01")
    assert tasks.Task.from_dict(task.to_dict()) == task
    assert task.horizon_days == 180
    assert FitConfig().success_days == 365
    with pytest.raises(ConfigError, match=r"tasks.fit.success_days"):
        Config.from_dict({"tasks": {"fit": {"success_days": 0}}})
    with pytest.raises(ConfigError, match="'soon' is not a date"):
        Config.from_dict({"tasks": {"fit": {"train_from": "soon"}}})


def test_what_is_missing_is_said():
    partners = pd.DataFrame({"partner_id": ["a"], "country": ["DE"]})
    with Ecosystem.from_frames(partners=partners) as eco:
        assert TASK.kind.missing(eco) == "a joining date: neither partners.joined_at nor recruits.joined_at"
    with Ecosystem.from_frames(partners=partners.assign(joined_at=START)) as eco:
        assert TASK.kind.missing(eco) == "deals with closed_at, which say when a partner succeeded"
