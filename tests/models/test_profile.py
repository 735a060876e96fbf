"""The ideal partner profile: what was planted is found, what is chance is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.profile import benjamini_hochberg, kaplan_meier, log_rank

from partnerml.dataset import FeatureInfo
from partnerml.errors import ConfigError, ModelError, NotEnoughDataError
from partnerml.models import Condition, Profile, _profile_search, ideal_profile, svg
from partnerml.models._conditions import conditions
from partnerml.models._profile_plot import profile_figures
from partnerml.models._profile_search import corrected

DAYS = 365
COUNTRY, TYPE, SIZE = (f"partners__{name}__trait__asof" for name in ("country", "partner_type", "employees"))
RETAIL, ITEMS = "partners__verticals.retail__has__asof", "partners__verticals__items__asof"


def info(name, measure, words, unit):
    subject = words.partition(" include ")[0]
    return FeatureInfo(name, f"{words}.", "partners", ("x",), None, "null", words, subject, measure, name, unit)


DICTIONARY = (
    info(COUNTRY, "trait", "country", "category"),
    info(TYPE, "trait", "partner type", "category"),
    info(SIZE, "trait", "employees", "number"),
    info(RETAIL, "has", "verticals include retail", "yes or no"),
    info(ITEMS, "items", "number of verticals", "count"),
)


def world(n=600, seed=0, chance=lambda X: np.full(len(X), 0.3), followed=(200.0, 1500.0)):
    """Traits, times and joining dates; `chance` is that of success within 365 days."""
    generator = np.random.default_rng(seed)
    verticals = generator.integers(0, 4, n).astype(float)
    unknown = generator.random(n) < 0.1
    X = pd.DataFrame(
        {
            COUNTRY: pd.Categorical(generator.choice(["AT", "DE", "FR", None], n, p=[0.2, 0.4, 0.3, 0.1])),
            TYPE: pd.Categorical(generator.choice(["msp", "reseller", "si"], n)),
            SIZE: np.where(generator.random(n) < 0.2, np.nan, generator.lognormal(4, 1, n).round()),
            RETAIL: np.where(unknown, np.nan, (generator.random(n) < 0.3).astype(float)),
            ITEMS: np.where(unknown, np.nan, verticals),
        }
    )
    time = generator.exponential(-DAYS / np.log1p(-chance(X)))
    limit = generator.uniform(*followed, n)
    times = pd.DataFrame({"duration_days": np.minimum(time, limit), "observed": time <= limit})
    joined = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") - pd.to_timedelta(limit, unit="D"))
    return X, times, joined


def profile_of(X, times, joined, **options):
    return ideal_profile(X, times, joined, success_days=DAYS, dictionary=DICTIONARY, **options)


def planted(X):
    """German resellers succeed; neither does without the other."""
    both = (X[COUNTRY] == "DE") & (X[TYPE] == "reseller")
    return np.where(both, 0.7, 0.25)


@pytest.fixture(scope="module")
def found():
    return profile_of(*world(n=1500, seed=4, chance=planted))


def test_every_figure_is_that_of_the_oracle():
    X, times, joined = world(n=240, seed=1)
    profile = profile_of(X, times, joined, periods=2)
    rows = list(zip(np.ceil(times["duration_days"]), times["observed"], strict=True))
    assert profile.rate == pytest.approx(kaplan_meier(rows, DAYS))
    by_joining = np.argsort(joined.to_numpy(), kind="stable")
    for lift in profile.traits:
        inside = lift.conditions[0].holds(X)
        ours = [row for row, within in zip(rows, inside, strict=True) if within]
        theirs = [row for row, within in zip(rows, inside, strict=True) if not within]
        assert (lift.partners, lift.share) == (len(ours), pytest.approx(len(ours) / 240))
        assert lift.successes == sum(seen and days <= DAYS for days, seen in ours)
        assert lift.contrast.rate == pytest.approx(kaplan_meier(ours, DAYS))
        expected_lift = kaplan_meier(ours, DAYS) / kaplan_meier(theirs, DAYS)
        assert lift.contrast.lift == pytest.approx(expected_lift)
        for period, members in zip(lift.periods, np.array_split(by_joining, 2), strict=True):
            one = [rows[k] for k in members if inside[k]]
            other = [rows[k] for k in members if not inside[k]]
            (got, due), (rest, rest_due) = log_rank(one, other, DAYS), log_rank(other, one, DAYS)
            assert period.ratio == pytest.approx(got / due / (rest / rest_due))
            assert period.joined_from == f"{joined[members].min():%Y-%m-%d}"


def test_what_was_planted_is_found_and_stable(found):
    (first, *_) = found.combinations
    assert {condition.words for condition in first.conditions} == {"country is DE", "partner type is reseller"}
    assert first.contrast.rate == pytest.approx(0.7, abs=0.08)
    assert first.contrast.lift_low < 0.7 / 0.25 < first.contrast.lift_high
    assert first.alone == pytest.approx((0.25, 0.25), abs=0.08)
    assert first.stable
    assert found.found[0] == first
    told = found.words()
    assert told[1].startswith("Partners whose country is DE and partner type is reseller (n = ")
    assert "within 365 days (95 % interval of the ratio" in told[1]
    assert told[1].endswith("the direction is the same in 4 of 4 periods of joining")


def test_a_combination_that_adds_nothing_to_a_part_is_not_found():
    # type alone decides: country and type together do no better than the type
    profile = profile_of(*world(n=2000, seed=2, chance=lambda X: np.where(X[TYPE] == "si", 0.6, 0.25)))
    assert profile.found[0].words == "partner type is si"
    assert profile.tested > 20
    assert len(profile.combinations) <= 1  # one in twenty found may be false


def test_two_traits_that_each_add_are_found_together():
    def chance(X):
        return 0.15 + 0.2 * (X[COUNTRY] == "DE") + 0.2 * (X[TYPE] == "si")

    profile = profile_of(*world(n=3000, seed=3, chance=chance))
    assert {"country is DE", "partner type is si"} <= {lift.words for lift in profile.found}
    assert "country is DE and partner type is si" in {lift.words for lift in profile.combinations}


def test_without_an_effect_little_is_found():
    """Of 40 worlds without any effect, single traits and combinations each err in about 5 %."""
    worlds = [profile_of(*world(n=400, seed=100 + k)) for k in range(40)]
    any_single = sum(any(lift.q_value <= 0.05 for lift in profile.traits) for profile in worlds)
    any_combination = sum(bool(profile.combinations) for profile in worlds)
    # beyond these, a rate of 5 % is refuted at 1 in 1,000
    assert any_single <= 7
    assert any_combination <= 7
    # and the correction is what keeps it so
    uncorrected = sum(any(lift.contrast.p_value <= 0.05 for lift in profile.traits) for profile in worlds)
    assert uncorrected >= 12


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), max_size=30))
def test_p_values_are_corrected_by_benjamini_and_hochberg(p_values):
    assert corrected(p_values) == pytest.approx(benjamini_hochberg(p_values))


def test_what_changes_its_direction_is_not_stable():
    X, times, joined = world(n=1600, seed=6, followed=(400.0, 1500.0))
    early = (joined < joined.median()).to_numpy()
    german = (X[COUNTRY] == "DE").to_numpy()
    # in one half Germans are much faster, in the other a little slower
    generator = np.random.default_rng(1)
    chance = np.where(german, np.where(early, 0.75, 0.2), 0.3)
    time = generator.exponential(-DAYS / np.log1p(-chance))
    times = times.assign(observed=time <= 400, duration_days=np.minimum(time, 400))
    profile = profile_of(X, times, joined)
    (lift,) = (each for each in profile.traits if each.words == "country is DE")
    assert lift.q_value < 0.01
    assert lift.agreeing == (2, 4)
    assert lift not in profile.found


def test_the_order_of_rows_and_the_index_do_not_matter(found):
    X, times, joined = world(n=1500, seed=4, chance=planted)
    order = np.random.default_rng(0).permutation(len(X))
    again = profile_of(X.iloc[order], times.iloc[order], joined.iloc[order])
    assert again.to_dict() == found.to_dict()


def test_it_is_read_back_as_it_was(found):
    state = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Profile.from_dict(state) == found
    assert state["words"] == found.words()


def test_the_table_has_one_row_a_split(found):
    frame = found.frame()
    assert len(frame) == len(found.traits) + len(found.combinations)
    assert frame.loc[frame["found"], "words"].tolist() == [
        lift.words for lift in (*found.traits, *found.combinations) if lift in found.found
    ]
    assert frame["q_value"].ge(frame["p_value"]).all()
    assert (frame["lift"] == frame["rate"] / frame["rest_rate"]).all()


def test_every_column_is_told(found):
    text = (Path(__file__).resolve().parents[2] / "docs" / "profile.md").read_text(encoding="utf-8")
    assert [name for name in found.frame().columns if f"`{name}`" not in text] == []


def test_conditions_split_in_words():
    X, _, _ = world(n=400, seed=0)
    known, masks = conditions(X, DICTIONARY, at_least=30)
    words = [condition.words for condition in known]
    assert words[:4] == ["country is DE", "country is FR", "country is AT", "country is not known"]
    assert "verticals include retail" in words
    assert "verticals are not known" in words
    # the items of a list are unknown together: told once
    assert "number of verticals is not known" not in words
    assert "number of verticals is at least 2" in words
    assert masks.shape == (len(known), 400)
    assert all(30 <= mask.sum() <= 370 for mask in masks)
    for condition, mask in zip(known, masks, strict=True):
        assert (condition.holds(X) == mask).all()
        assert Condition.from_dict(json.loads(json.dumps(condition.to_dict()))) == condition


def test_cuts_are_those_of_the_rows_they_were_found_on():
    X, _, _ = world(n=400, seed=0)
    (low, middle, high, missing) = (c for c in conditions(X, DICTIONARY, at_least=30)[0] if c.feature == SIZE)
    assert (low.kind, middle.kind, high.kind, missing.kind) == ("below", "at_least", "at_least", "missing")
    assert {low.value, middle.value, high.value} <= set(X[SIZE])
    others = pd.DataFrame({SIZE: [low.value - 1, low.value, middle.value, np.nan]})
    assert low.holds(others).tolist() == [True, False, False, False]
    assert middle.holds(others).tolist() == [False, False, True, False]
    assert missing.holds(others).tolist() == [False, False, False, True]
    with pytest.raises(ModelError, match="needs the column partners__employees__trait__asof"):
        low.holds(others.rename(columns={SIZE: "x"}))


def test_two_levels_are_one_split():
    X = pd.DataFrame({TYPE: pd.Categorical(["msp", "si"] * 50)})
    known, _ = conditions(X, DICTIONARY, at_least=10)
    assert [condition.words for condition in known] == ["partner type is msp"]


def test_a_forest_plot_shows_what_was_found(found):
    figure = found.figure()
    (axes,) = figure.axes
    labels = [text.get_text().replace("\n", " ") for text in axes.get_yticklabels()]
    assert len(labels) == len(found.found)
    assert labels[0].startswith("country is DE and partner type is reseller n = ")
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots[0] == pytest.approx(found.found[0].contrast.lift)
    assert svg(figure) == svg(found.figure())
    (drawn,) = profile_figures({"profile": found.to_dict()}).values()
    assert svg(drawn) == svg(figure)
    assert profile_figures({"importance": {}}) == {}
    nothing = profile_of(*world(n=400, seed=101))
    assert nothing.found == ()
    assert [text.get_text() for text in nothing.figure().axes[0].texts] == ["nothing beyond chance"]
    assert nothing.words()[1].startswith("None of ")


def test_the_largest_combinations_are_looked_at(monkeypatch):
    monkeypatch.setattr(_profile_search, "MAX_COMBINATIONS", 3)
    X, times, joined = world(n=600, seed=4, chance=planted)
    assert profile_of(X, times, joined).tested <= 3


def test_too_little_is_refused_with_the_reason():
    X, times, joined = world(n=59)
    with pytest.raises(NotEnoughDataError, match="needs 60 partners, 30 on either side of a split; there are 59"):
        profile_of(X, times, joined)
    X, times, joined = world(n=100)
    with pytest.raises(NotEnoughDataError, match=r"followed for success_days \(365\) yet; .* for 90 days"):
        profile_of(X, times.assign(duration_days=90.0, observed=False), joined)
    with pytest.raises(NotEnoughDataError, match="nobody of 100 partners succeeded within 365 days"):
        profile_of(X, times.assign(duration_days=900.0), joined)
    with pytest.raises(NotEnoughDataError, match="everybody of 100"):
        profile_of(X, times.assign(duration_days=9.0, observed=True), joined)
    with pytest.raises(ModelError, match="1 of 100 rows lack one, the first at position 3"):
        profile_of(X, times.assign(duration_days=times["duration_days"].where(times.index != 3)), joined)
    with pytest.raises(ModelError, match="as many rows; got 100, 100 and 99"):
        profile_of(X, times, joined[:-1])
    with pytest.raises(ConfigError, match="false_discoveries must lie between 0 and 1, got 0"):
        profile_of(X, times, joined, false_discoveries=0)
