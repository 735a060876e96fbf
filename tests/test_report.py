import html.parser
import math
import re
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_up import AS_OF, LOGINS, model, other_model, other_scores, partners, scores

from partnerml.ecosystem._report import ValidationReport, Violation
from partnerml.report import Scored, build_report, call_first
from partnerml.report._content import bands, drivers, headline
from partnerml.report._figures import histogram
from partnerml.report._tasks import section
from partnerml.report._words import Money, percent

VALIDATION = ValidationReport(
    (Violation("deals", "partner_id", "orphan", "warning", 2, 1000, ({"deal_id": "d1"},), "Add the partners.", True),),
    {"partners": 400, "deals": 1000},
    {"deals": 2},
)


def page(frame: pd.DataFrame | None = None, **changed) -> str:
    frame = scores() if frame is None else frame
    given = {
        "as_of": AS_OF,
        "validation": VALIDATION,
        "churn": Scored(frame, model()),
        "partners": partners(frame),
        "currency": "EUR",
    }
    return build_report(**(given | changed))


class Checker(html.parser.HTMLParser):
    """Collects the tags and fails on one that is closed in the wrong order."""

    VOID = frozenset({"meta", "line", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def read(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_needs_nothing_from_outside():
    text = page()
    checker = read(text)
    assert checker.seen.count("svg") == 3
    assert "script" not in checker.seen
    assert "link" not in checker.seen
    assert "img" not in checker.seen
    assert re.search(r"https?:|url\(|@import", text) is None


def test_the_same_input_gives_the_same_bytes():
    assert page() == page()


def test_what_comes_from_the_data_is_escaped():
    frame = scores(12)
    evil = "<script>alert('x')</script>"
    frame["reasons"] = [[{"feature": LOGINS, "value": 1.0, "effect": 1.0, "text": evil}]] * 12
    about = partners(frame).assign(name=evil, partner_type=[evil, "msp"] * 6)
    odd = ValidationReport((Violation("deals", evil, "orphan", "warning", 1, 2, (), evil),), {evil: 3}, {})
    text = page(frame, partners=about, validation=odd, skipped={"fit": evil}, currency=evil)
    assert "<script" not in text
    assert "script" not in read(text).seen
    assert "&lt;script&gt;" in text


def test_headline_figures_are_those_of_the_scores():
    frame = scores()
    found = headline(frame)
    words = " ".join(" ".join(read(page(frame)).words).split())
    assert f"{len(frame)} active partners scored" in words
    assert f"{frame['score'].sum():.0f} expected to go quiet within 90 days" in words
    assert found["at_risk"] == pytest.approx(frame["revenue_at_risk"].sum())
    assert found["revenue"] == pytest.approx((frame["revenue_at_risk"] / frame["score"]).sum())


def test_bands_add_up():
    frame = scores()
    found = bands(frame, (0.25, 0.5, 0.75))
    assert [band["name"] for band in found] == ["critical", "high", "medium", "low"]
    assert [band["range"].replace("\u00a0", " ") for band in found] == [
        "75 % to 100 %",
        "50 % to 75 %",
        "25 % to 50 %",
        "0 % to 25 %",
    ]
    assert sum(band["partners"] for band in found) == len(frame)
    assert sum(band["expected"] for band in found) == pytest.approx(frame["score"].sum())


def test_a_driver_counts_each_partner_once():
    reasons = [{"feature": LOGINS, "value": 1.0, "effect": effect, "text": ""} for effect in (0.5, -0.2)]
    frame = scores(6).assign(reasons=[reasons] * 5 + [None])
    assert drivers(frame, model().dictionary) == [
        {"subject": "portal logins", "raises": 5, "lowers": 0, "strength": pytest.approx(1.5), "share": 1.0}
    ]
    assert drivers(frame.iloc[5:], model().dictionary) == []


def test_call_first_is_by_revenue_at_risk_and_low_risk_comes_last():
    frame = pd.DataFrame(
        {
            "partner_id": list("abcde"),
            "score": [0.9, 0.3, 0.2, 0.6, 0.1],
            "band": ["critical", "medium", "low", "high", "low"],
            "revenue_at_risk": [10.0, 300.0, 9e9, np.nan, 1.0],
        }
    )
    assert list(call_first(frame, 9)["partner_id"]) == ["b", "a", "d", "c", "e"]
    assert list(call_first(frame, 2)["partner_id"]) == ["b", "a"]
    assert list(call_first(frame, 2).columns) == list(frame.columns)


def test_without_scores_the_page_says_why_and_shows_the_data():
    words = " ".join(" ".join(read(page(churn=None, skipped={"churn": "too few labels: 3"})).words).split())
    assert "No churn scores." in words
    assert "too few labels: 3" in words
    assert "deals 1,000 2" in words
    assert "deals.partner_id: orphan, 2 of 1,000 rows" in words


def test_without_revenue_names_or_traits_nothing_is_made_up():
    frame = scores(30).assign(revenue_at_risk=np.nan)
    words = " ".join(" ".join(read(page(frame, partners=None, currency=None)).words).split())
    assert "nan" not in words.lower().replace("financ", "")
    assert "None" not in words
    assert "— revenue at risk" in words
    assert "p0000" in words


def test_one_partner_and_reasons_as_parquet_gives_them(tmp_path):
    from partnerml.outputs import write_parquet

    path = write_parquet(scores(1), tmp_path / "scores.parquet")
    words = " ".join(read(page(pd.read_parquet(path))).words)
    assert "portal logins fell from 14 to 3 in 30 days" in words


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            "fit",
            ("Which recruits will succeed", "half of such partners have succeeded by day 200", "1.6 times as often"),
        ),
        ("propensity", ("Which companies would make good partners", "like Nord GmbH", "became a partner within 180")),
        ("close", ("Which open leads will close", "with Nord GmbH", "were won within 180 days")),
    ],
)
def test_other_tasks_have_a_part_of_their_own(task, says):
    found = other_scores(task)
    read_page = read(page(others={task: Scored(found, other_model(task))}, names={"p0001": "Nord GmbH"}))
    words = " ".join(" ".join(read_page.words).split())
    assert [text for text in says if text not in words] == []
    assert f"The other {len(found) - 10} are in scores.parquet" in words
    expected = found["score"].sum()
    assert re.search(rf"{len(found)} [a-z ]+ are scored; of as many with such scores, {expected:.0f} ", words)


def test_what_was_judged_at_a_shorter_time_is_not_told_of_the_horizon():
    found = other_model("fit")
    told = section("fit", other_scores("fit"), found, {})["sentences"]
    assert [text for text in told if f"within {found.horizon_days:g} days" in text]
    early = types.SimpleNamespace(**{**vars(found), "evaluation": {**found.evaluation, "judged_days": 60}})
    shown = section("fit", other_scores("fit"), early, {})
    *figures, last = shown["sentences"]
    assert [text for text in figures if "within 60 days" in text]
    assert not [text for text in figures if f"within {found.horizon_days:g} days" in text]
    assert last.startswith(
        f"The history is too short to judge {found.horizon_days:g} days: the figures are those of 60"
    )
    assert f"succeeded within {found.horizon_days:g} days" in shown["lead"]


def test_a_rank_is_not_shown_as_a_chance():
    others = {"propensity": Scored(other_scores("propensity", rank=True), other_model("propensity"))}
    html = build_report(as_of=AS_OF, validation=VALIDATION, others=others)
    words = " ".join(" ".join(read(html).words).split())
    assert "The score is a rank and no probability" in words
    assert "Percentile" in words
    assert "Of 100 accounts" in words  # what the backtest saw is told all the same
    assert "Forecast against outcome" not in words


def test_the_words_of_the_evaluation():
    words = " ".join(" ".join(read(page()).words).split())
    assert re.search(r"Of 100 partners scored about \d+ %, \d+ went quiet within 90 days\.", words)
    assert re.search(r"The tenth of the partners with the highest score held \d+ % of all", words)
    assert "worse than this model" in words


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_a_histogram_counts_everybody(values):
    drawn = str(histogram(np.asarray(values), (0.25, 0.5, 0.75)))
    counts = [int(text.replace(",", "")) for text in re.findall(r"%: ([\d,]+) partners", drawn)]
    assert sum(counts) == len(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "EUR 0"),
        (999.4, "EUR 999"),
        (999.6, "EUR 1.00 k"),
        (12_345.0, "EUR 12.3 k"),
        (987_654.0, "EUR 988 k"),
        (1.5e6, "EUR 1.50 M"),
        (2.5e9, "EUR 2.50 bn"),
        (math.nan, "—"),
        (None, "—"),
    ],
)
def test_money(value, text):
    assert Money("EUR").text(value).replace("\u00a0", " ") == text


def test_shares():
    texts = [percent(0.256), percent(0.256, 1), percent(None), percent(math.nan)]
    assert texts == ["26\u00a0%", "25.6\u00a0%", "—", "—"]
