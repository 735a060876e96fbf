"""Whom to call first: beside the same list by hand, and through the whole path."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import UNTIL

from partnerml import Ecosystem
from partnerml.cli import app
from partnerml.config import REASON_KINDS, ActionabilityConfig, Config, OutreachConfig
from partnerml.errors import ConfigError, InputError, ModelError, NoChampionError
from partnerml.features import MEASURES, Feature
from partnerml.outreach import COLUMNS, KINDS, kind_of, recommend_outreach
from partnerml.outreach._kinds import advice
from partnerml.scoring import Scores

DOCS = Path(__file__).resolve().parents[1] / "docs" / "outreach.md"
AS_OF = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
LOGINS, WON, COUNTRY = "events__portal_login__count__30d", "deals__won__amount__365d", "partners__country__trait__asof"
TICKETS = "events__support_ticket__count__30d"


def reason(feature, effect, text):
    return {"feature": feature, "value": 1.0, "effect": effect, "text": text}


def scores(*rows):
    """Rows are (partner, score, revenue at risk, reasons)."""
    frame = pd.DataFrame(rows, columns=["partner_id", "score", "revenue_at_risk", "reasons"])
    frame = frame.assign(as_of=pd.Timestamp(AS_OF), task="churn", band="high", trend="steady", model_version="0" * 12)
    return Scores("churn", AS_OF, "0" * 12, frame)


@pytest.fixture(scope="module")
def programme():
    """Four partners, and who was in touch when."""
    partners = pd.DataFrame({"partner_id": list("abcd"), "joined_at": "2024-01-01"})
    events = [
        ("a", "2026-05-25", "account_call"),
        ("b", "2026-05-10", "account_call"),
        ("c", "2026-05-31", "portal_login"),
        ("d", "2026-06-01", "account_call"),  # not before the date
    ]
    tables = {
        "partners": partners.assign(name=[f"=Name {p}" for p in "abcd"]),
        "events": pd.DataFrame(events, columns=["partner_id", "occurred_at", "event_type"]),
    }
    with Ecosystem.from_frames(now=AS_OF, **tables) as opened:
        yield opened


QUIET = [reason(LOGINS, 0.8, "portal logins fell from 14 to 3 in 30 days"), reason(COUNTRY, 0.2, "country: DE")]
SLOW = [reason(WON, 0.5, "won revenue fell"), reason(LOGINS, -0.4, "12 portal logins in 30 days")]
BORN = [reason(COUNTRY, 0.9, "country: DE")]
FINE = [reason(LOGINS, -0.9, "40 portal logins in 30 days")]


@pytest.fixture(scope="module")
def four():
    return scores(("a", 0.6, 6000.0, SLOW), ("b", 0.5, 4000.0, QUIET), ("c", 0.9, 9000.0, BORN), ("d", 0.4, 0.0, QUIET))


def test_risk_revenue_and_what_can_be_done_decide(four, programme):
    found = recommend_outreach(programme, four)
    # by hand: 6000 x .5; 4000 x (.8 x 1 + .2 x .1); 9000 x .1; nothing at stake
    assert found.frame["partner_id"].tolist() == ["b", "a", "c", "d"]
    assert found.frame["priority"].tolist() == pytest.approx([4000 * 0.82, 3000, 900, 0])
    assert found.frame["actionability"].tolist() == pytest.approx([0.82, 0.5, 0.1, 0.82])
    assert found.frame["rank"].tolist() == [1, 2, 3, 4]
    assert found.frame["reason"].tolist() == [
        "portal logins fell from 14 to 3 in 30 days",
        "won revenue fell",
        "country: DE",
        "portal logins fell from 14 to 3 in 30 days",
    ]
    assert found.frame["kind"].tolist() == ["engagement", "performance", "profile", "engagement"]
    assert found.frame["action"].tolist() == [KINDS[kind].action for kind in found.frame["kind"]]
    assert tuple(found.frame.columns) == COLUMNS
    assert (found.summary["scored"], found.summary["contacts"]) == (4, 4)
    assert found.summary["expected_churn"] == found.summary["expected_churn_of_all"] == pytest.approx(2.4)


def test_capacity_cost_and_what_a_call_saves(four, programme):
    settings = OutreachConfig(cost_of_contact=200.0, save_rate=0.1)
    found = recommend_outreach(programme, four, settings=settings)
    # worth 328 and 300, at a cost of 200; the others are worth less than a call costs
    assert found.frame["partner_id"].tolist() == ["b", "a"]
    assert found.frame["expected_value"].tolist() == pytest.approx([128, 100])
    assert found.summary["expected_value"] == pytest.approx(228)
    assert (found.summary["cost"], found.summary["missed_value"]) == (400, 0)
    one = recommend_outreach(programme, four, settings=settings, capacity=1)
    assert one.frame["partner_id"].tolist() == ["b"]
    assert one.summary["missed_value"] == pytest.approx(100)
    assert one.summary["expected_churn"] == 0.5
    configured = settings.model_copy(update={"capacity": 1})
    assert recommend_outreach(programme, four, settings=configured).summary == one.summary


def test_low_risk_is_not_called(four, programme):
    found = recommend_outreach(programme, four, settings=OutreachConfig(min_score=0.55))
    assert found.frame["partner_id"].tolist() == ["a", "c"]
    assert found.summary["worth_a_call"] == 2
    # by default, from where the band medium begins: the cut belongs to it
    low = scores(("a", 0.25, 10.0, QUIET), ("b", 0.24, 10.0, QUIET))
    assert recommend_outreach(programme, low).frame["partner_id"].tolist() == ["a"]


def test_nobody_to_call_is_a_result(four, programme, tmp_path):
    nobody = recommend_outreach(programme, four, settings=OutreachConfig(min_score=0.95))
    assert (len(nobody), nobody.summary["contacts"], nobody.summary["expected_churn"]) == (0, 0, 0)
    rows = pq.ParquetFile(nobody.write(tmp_path) / "outreach.parquet").read()
    assert (rows.num_rows, tuple(rows.column_names)) == (0, COLUMNS)


def test_small_partners_are_not_forgotten(four, programme):
    found = recommend_outreach(programme, four, settings=OutreachConfig(least_value=20_000.0))
    # all are worth 20,000: b .5 x .82, d .4 x .82, a .6 x .5, c .9 x .1
    assert found.frame["partner_id"].tolist() == ["b", "d", "a", "c"]
    assert found.frame["priority"].tolist() == pytest.approx([8200, 6560, 6000, 1800])


def test_without_amounts_the_risk_decides(four, programme, caplog):
    rows = Scores("churn", AS_OF, "0" * 12, four.frame.assign(revenue_at_risk=np.nan))
    found = recommend_outreach(programme, rows, capacity=2, settings=OutreachConfig(cost_of_contact=5.0))
    assert found.frame["partner_id"].tolist() == ["b", "d"]
    assert found.frame["expected_value"].isna().all()
    assert found.summary["expected_value"] is found.summary["missed_value"] is None
    assert "outreach.cost_of_contact (5) is not weighed: no amounts are known" in caplog.text


def test_who_was_contacted_lately_is_left_out(four, programme):
    settings = OutreachConfig(contact_events=("account_call",), pause_days=14)
    found = recommend_outreach(programme, four, settings=settings)
    assert found.frame["partner_id"].tolist() == ["b", "c", "d"]
    assert (found.summary["paused"], found.summary["worth_a_call"]) == (1, 4)
    longer = recommend_outreach(programme, four, settings=settings.model_copy(update={"pause_days": 30}))
    assert longer.frame["partner_id"].tolist() == ["c", "d"]


def test_contacts_without_events_are_refused(four):
    partners = pd.DataFrame({"partner_id": list("abcd"), "joined_at": "2024-01-01"})
    config = Config.from_dict({"outreach": {"contact_events": ["account_call"]}})
    with (
        Ecosystem.from_frames(config=config, now=AS_OF, partners=partners) as eco,
        pytest.raises(ConfigError, match="there is no table events"),
    ):
        recommend_outreach(eco, four)


def test_the_list_is_written_as_parquet_and_csv(four, programme, tmp_path):
    found = recommend_outreach(programme, four)
    folder = found.write(tmp_path)
    assert folder == tmp_path / "outreach" / "date=2026-06-01"
    assert sorted(path.name for path in folder.iterdir()) == ["outreach.csv", "outreach.parquet", "summary.json"]
    rows = pq.ParquetFile(folder / "outreach.parquet").read().to_pylist()
    assert [row["name"] for row in rows] == [f"=Name {p}" for p in "bacd"]
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    with (folder / "outreach.csv").open(encoding="utf-8", newline="") as handle:
        told = list(csv.DictReader(handle))
    assert [row["partner_id"] for row in told] == list("bacd")
    # what a spreadsheet would run as a formula is text
    assert told[0]["name"] == "'=Name b"
    assert (told[0]["score"], told[0]["priority"], told[0]["as_of"]) == ("0.5000", "3280.00", "2026-06-01")
    assert recommend_outreach(programme, four).write(tmp_path) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_the_order_of_the_scores_does_not_matter(four, programme):
    first = recommend_outreach(programme, four)
    second = recommend_outreach(programme, Scores("churn", AS_OF, "0" * 12, four.frame.iloc[::-1]))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.summary == second.summary


def test_other_scores_and_half_days_are_refused(four, programme, tmp_path):
    with pytest.raises(ModelError, match="it needs churn, got fit"):
        recommend_outreach(programme, Scores("fit", AS_OF, "0" * 12, four.frame))
    with pytest.raises(ConfigError, match="as_of is that of the scores"):
        recommend_outreach(programme, four, as_of="2026-06-01")
    with pytest.raises(InputError, match="capacity must be a whole number of contacts, 1 or more; got 0"):
        recommend_outreach(programme, four, capacity=0)
    noon = Scores("churn", AS_OF + dt.timedelta(hours=12), "0" * 12, four.frame)
    with pytest.raises(ConfigError, match="as_of must be 00:00 UTC"):
        recommend_outreach(programme, noon).write(tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_a_model_is_asked_for_more_reasons(eco, model, scores):
    with pytest.raises(ConfigError, match="as_of is needed"):
        recommend_outreach(eco, model)
    six, three = recommend_outreach(eco, model, as_of=UNTIL), recommend_outreach(eco, scores)
    assert len(six) > 30
    assert six.frame["priority"].is_monotonic_decreasing
    told = scores.frame.set_index("partner_id").loc[six.frame["partner_id"]]
    assert six.frame["score"].tolist() == told["score"].tolist()
    assert six.frame["revenue_at_risk"].tolist() == told["revenue_at_risk"].tolist()
    assert set(three.frame["partner_id"]) == set(six.frame["partner_id"])
    # with three reasons alone, more have none that raises the risk
    assert (six.frame["reason"] == "").sum() <= (three.frame["reason"] == "").sum()
    assert six.summary["scored"] == len(scores)


# the command


def test_the_command_writes_the_list_and_shows_it(four, programme, tmp_path, monkeypatch):
    config = tmp_path / "partnerml.yaml"
    (tmp_path / "data").mkdir()
    pd.DataFrame({"partner_id": list("abcd")}).to_csv(tmp_path / "data" / "partners.csv", index=False)
    config.write_text("data: {source: data/}\n")
    registry = types.SimpleNamespace(champion=lambda task: types.SimpleNamespace(training={"until": "2026-01-01"}))
    monkeypatch.setattr("partnerml.nightly.registry_of", lambda config: registry)
    asked = {}

    def recommend(eco, model, **options):
        asked.update(options)
        return recommend_outreach(programme, four, capacity=options["capacity"])

    monkeypatch.setattr("partnerml.outreach.recommend_outreach", recommend)
    arguments = ["outreach", "-c", str(config), "--as-of", "2026-06-01", "--capacity", "3"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.stderr
    assert "=Name b (b)" in shown.stdout
    assert "3 of 4 partners to call; 2 of them are expected to go quiet, of 2 in all" in shown.stdout
    assert "engagement: call and ask what keeps them away" in shown.stdout
    assert "the calls can save, if each of them works, 7,180 (95 % range 0 to " in " ".join(shown.stdout.split())
    assert (asked["as_of"], asked["capacity"]) == (AS_OF, 3)
    told = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(told.stdout)
    assert [row["partner_id"] for row in document["partners"]] == ["b", "a", "c"]
    assert document["expected_value"] == pytest.approx(4000 * 0.82 + 3000 + 900)
    folder = Path(document["path"])
    assert folder == tmp_path / "out" / "outreach" / "date=2026-06-01"
    assert document["contacts"] == pq.ParquetFile(folder / "outreach.parquet").metadata.num_rows == 3


def test_without_a_champion_there_is_nobody_to_call(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    pd.DataFrame({"partner_id": ["a"]}).to_csv(tmp_path / "data" / "partners.csv", index=False)
    (tmp_path / "partnerml.yaml").write_text("data: {source: data/}\n")

    class Empty:
        def champion(self, task):
            raise NoChampionError(f"no champion of {task}")

    monkeypatch.setattr("partnerml.nightly.registry_of", lambda config: Empty())
    done = CliRunner().invoke(app, ["outreach", "-c", str(tmp_path / "partnerml.yaml"), "--as-of", "2026-06-01"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: no champion of churn" in done.stderr
    assert not (tmp_path / "out" / "outreach").exists()


# kinds of reasons


def test_every_feature_has_a_kind():
    features = [Feature.example(entry).name for entry in MEASURES]
    kinds = {name: kind_of(name) for name in features}
    assert set(kinds.values()) <= set(KINDS)
    assert tuple(KINDS) == REASON_KINDS == tuple(ActionabilityConfig.model_fields)


@pytest.mark.parametrize(
    ("feature", "kind"),
    [
        (LOGINS, "engagement"),
        ("activity__all__recency_days__ever", "engagement"),
        ("events__all__count__90d", "engagement"),
        (TICKETS, "support"),
        ("events__surveys__value_last__365d", "support"),
        ("events__showcase_view__count__30d", "engagement"),
        ("events__training__count__30d", "enablement"),
        ("certifications__valid__count__asof", "enablement"),
        ("deals__registered__count__90d", "pipeline"),
        ("deals__open__count__asof", "pipeline"),
        ("peers__deals__won__amount__365d", "performance"),
        ("events__sale__count__30d", "performance"),
        (COUNTRY, "profile"),
        ("partners__all__tenure_days__asof", "profile"),
        ("no feature at all", "profile"),
    ],
)
def test_kinds_of_reasons(feature, kind):
    assert kind_of(feature) == kind


def test_an_event_type_is_given_a_kind_by_the_configuration():
    assert kind_of(LOGINS, {"portal_login": "pipeline"}) == "pipeline"
    assert kind_of(TICKETS, {"portal_login": "pipeline"}) == "support"


REASONS = st.lists(
    st.tuples(st.sampled_from([LOGINS, WON, COUNTRY, TICKETS]), st.floats(-2, 2).filter(lambda x: abs(x) > 1e-6)),
    max_size=5,
)


@settings(max_examples=40)
@given(REASONS)
def test_actionability_lies_between_those_of_the_reasons(drawn):
    weights = ActionabilityConfig()
    told = [reason(feature, effect, f"{feature} {k}") for k, (feature, effect) in enumerate(drawn)]
    found = advice(told, weights)
    raising = [row for row in told if row["effect"] > 0]
    if not raising:
        assert (found.actionability, found.kind, found.reason) == (weights.profile, "profile", "")
        return
    worth = {row["text"]: getattr(weights, kind_of(row["feature"])) for row in raising}
    assert min(worth.values()) - 1e-12 <= found.actionability <= max(worth.values()) + 1e-12
    chosen = next(row for row in raising if row["text"] == found.reason)
    best = max(row["effect"] * worth[row["text"]] for row in raising)
    assert chosen["effect"] * worth[found.reason] == best


def test_the_reason_to_act_on_does_not_depend_on_the_order():
    for order in itertools.permutations([*QUIET, *SLOW]):
        assert advice(order, ActionabilityConfig()).reason == "portal logins fell from 14 to 3 in 30 days"


def test_every_kind_and_column_is_told():
    text = DOCS.read_text(encoding="utf-8")
    for kind in KINDS.values():
        weight = getattr(ActionabilityConfig(), kind.name)
        assert f"| `{kind.name}` | {weight} | {kind.about} | {kind.action} |" in text
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"outreach\.events.*unknown kind.*did you mean.*engagement"):
        Config.from_dict({"outreach": {"events": {"portal_login": "engagment"}}})
    with pytest.raises(ConfigError, match=r"outreach\.save_rate"):
        Config.from_dict({"outreach": {"save_rate": 1.5}})
    with pytest.raises(ConfigError, match=r"outreach\.actionability"):
        Config.from_dict({"outreach": {"actionability": {"engagment": 1}}})
