"""The card of a model tells what the model holds, all of it escaped, and leaves out what it does not hold."""

from __future__ import annotations

import dataclasses
import json
import re
import types

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tests.models.made_up_models import LOGINS, frame, made_up
from tests.test_report import read

import partnerml
from partnerml import cli, nightly, tasks
from partnerml.errors import InputError
from partnerml.models import Lineage, Model, drift_baseline, explanation
from partnerml.report import card_files, card_folder, model_card, write_card
from partnerml.report._blocks import Bullets, Facts, Figure, Page, Section, Table, Text
from partnerml.report._card_words import OTHER, TASKS

EVIL = "<script>alert('x')</script> | *b* [a](b)"


def whole() -> Model:
    """A model with everything that a card can tell."""
    model, (X, _) = made_up(), frame(400)
    as_of = pd.Series(pd.Timestamp("2026-01-01", tz="UTC"), index=X.index)
    keys = np.array([f"p{place % 90:03d}" for place in range(400)])
    said = explanation(model, X, keys, as_of)
    rows = {"rows": 150, "partners": 40, "base_rate": 0.2, "mean_prediction": 0.1, "auc": 0.6, "log_loss": 0.5}
    segments = [
        {"segment": "country", "value": "AT", **rows, "flag": "forecast too low", "words": "country AT: off by half"},
        *({"segment": "tier", "value": f"t{place}", **rows, "flag": "", "words": ""} for place in range(14)),
    ]
    group = {
        "above": 0.0,
        "up_to": 0.2,
        "rows": 200,
        "mean_prediction": 0.1,
        "observed": 0.12,
        "low": 0.05,
        "high": 0.3,
    }
    evaluation = {
        **model.evaluation,
        "folds": [{**fold, "rows": 133} for fold in model.evaluation["folds"]],
        "verdict": {"promoted": True, "reason": "the model's log loss of 0.4 is below all others"},
        "segments": segments,
        "groups": {"level": 0.9, "groups": [group], "spread": {}},
        "tuning": {
            "trials": 40,
            "kept": "tuned",
            "gain": -0.01,
            "interval": {"low": -0.02, "high": -0.001},
            "chosen": {"trees": {"num_leaves": 12}},
            "reason": "tuning lowers the log loss",
        },
    }
    training = {
        **model.training,
        "rows": 4000,
        "partners": 400,
        "base_rate": 0.25,
        "gap_days": 90.0,
        "as_of": ["2025-06-01T00:00:00+00:00", "2025-11-01T00:00:00+00:00"],
        "settings": {"trees": {"num_leaves": 12}},
        "lineage": {**Lineage.here().to_dict(), "trials": 0, "configuration": {}},
    }
    full = dataclasses.replace(model, task=tasks.churn().to_dict(), evaluation=evaluation, training=training)
    return full.with_documents({**said, "baseline": drift_baseline(model, X, model.predict_proba(X))})


@pytest.fixture(scope="module")
def model() -> Model:
    return whole()


def words(text: str) -> str:
    return " ".join(" ".join(read(text).words).split())


def test_the_card_tells_purpose_data_quality_limits_and_lineage(model):
    html, markdown = words(model_card(model, format="html")), model_card(model)
    titles = [line.removeprefix("## ") for line in markdown.splitlines() if line.startswith("## ")]
    assert titles == [
        "Purpose", "Limits", "How good it is", "Calibration", "Over time", "Segments", "What the scores go by", "Data",
        "Tuning", "Drift baseline", "Lineage",
    ]  # fmt: skip
    auc = model.evaluation["models"]["model"]["auc"]
    for text in (html, markdown):
        plain = text.replace("\\", "").replace("\u00a0", " ")
        for said in (
            f"version {model.version}, trained on what was known before 2026-03-01",
            "goes quiet or leaves within 90 days",
            "It may be used: the model's log loss of 0.4 is below all others.",
            "It has seen nothing from 2026-03-01 on.",
            "Only 400 partners stand behind it",
            "country AT: off by half",
            f"{auc['estimate']:.3f}",
            f"{auc['low']:.3f} to {auc['high']:.3f}",
            "4,000, of 400 partners",
            "2025-06-01 to 2025-11-01",
            "0123456789abcdef",
            "Tuning lowers the log loss.",
            "-0.0100 (95 % interval -0.0200 to -0.0010)",
            "weight 0.500; colsample 0.5",
            "trees.num_leaves 12",
            f"partnerml {partnerml.__version__}, code {Lineage.here().code}",
            f"numpy {np.__version__}",
            "3 smaller segments without a flag are not shown.",
            "an interval that holds it in 90 % of cases",
        ):
            assert said in plain, said


def test_figures_are_in_the_page_and_nothing_comes_from_outside(model):
    html = model_card(model, format="html")
    checker = read(html)
    assert checker.seen.count("svg") == 2
    assert not {"script", "link", "img"} & set(checker.seen)
    assert re.search(r"https?:|url\(|@import", html) is None
    assert html.count("<circle") == len(model.evaluation["calibration"]) + 2 * 3


@pytest.mark.parametrize(
    ("shown", "effect", "said"),
    [
        (0.02, 2.5, "as rows of the same partners go together (2.5 times the variance of as many independent rows)"),
        (0.02, 2.5, "this one shows 0.020, no more than chance."),
        (0.04, 2.5, "this one shows 0.040, more than chance: scores are off."),
        (0.02, None, "this one shows 0.020, no more than chance."),
        # a model from before: its bar knows nothing of rows that go together
        (0.04, None, "if rows of the same partners were independent; this one shows 0.040, more than that, and that"),
    ],
)
def test_the_calibration_error_is_held_against_chance_as_far_as_that_is_known(model, shown, effect, said):
    measured = {**model.evaluation["models"]["model"], "ece": {"estimate": shown, "low": 0.01, "high": 0.05}}
    perfect = {"mean": 0.015, "p95": 0.03, "n_sim": 2000, **({} if effect is None else {"design_effect": effect})}
    models = {**model.evaluation["models"], "model": measured}
    other = dataclasses.replace(model, evaluation={**model.evaluation, "models": models, "perfect_ece": perfect})
    assert said in model_card(other)


def test_segments_that_are_all_too_small_to_be_tested_are_not_said_to_be_served_alike(model):
    for p_value, tested in ((None, False), (np.nan, False), (0.4, True)):
        told = [{**entry, "flag": "", "p_bias": p_value} for entry in model.evaluation["segments"]]
        text = model_card(dataclasses.replace(model, evaluation={**model.evaluation, "segments": told}))
        assert ("No segment is large enough" in text) is not tested
        assert ("No segment is served worse than the rest, beyond chance." in text) is tested


def test_the_figures_of_the_table_are_those_of_the_evaluation(model):
    markdown = model_card(model).replace("\u00a0", " ")
    for fold in (fold for fold in model.evaluation["folds"] if fold["model"] == "model"):
        row = next(line for line in markdown.splitlines() if line.startswith(f"| {fold['as_of'][:10]} |"))
        assert f"| {fold['auc']:.3f} | {fold['brier']:.3f} | {fold['log_loss']:.3f} |" in row
    for entry in model.evaluation["calibration"]:
        assert f"| {100 * entry['mean_prediction']:.1f} % | {100 * entry['observed']:.1f} % |" in markdown
    logins = model.documents["baseline"]["features"][LOGINS]["quantiles"]
    name = LOGINS.replace("_", "\\_")
    row = [line for line in markdown.splitlines() if line.startswith(f"| {name} |")][-1]
    assert [cell.strip() for cell in row.split("|")[2:7]] == [
        f"{logins[level]:g}" for level in ("0.05", "0.25", "0.5", "0.75", "0.95")
    ]


def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    first, second = card_files(model), card_files(whole())
    assert list(first) == ["calibration.svg", "card.html", "card.md"]
    assert first == second
    assert "![Calibration](calibration.svg)" in first["card.md"]
    assert "calibration.svg" not in model_card(model)
    folder = write_card(first, card_folder(tmp_path, "churn", model.version))
    assert folder == tmp_path / "models" / "churn" / model.version
    assert {path.name: path.read_bytes().decode() for path in folder.iterdir()} == first


def test_a_model_that_holds_little_has_a_short_card():
    little = Model.of(
        task={"name": "churn", "label": {}},
        catalogue={},
        dictionary=made_up().dictionary,
        blend=made_up().blend,
        evaluation={"segments": None, "folds": [], "tuning": None},
        training={},
    )
    for chosen in ("markdown", "html"):
        text = model_card(little, format=chosen)
        assert "None" not in text
        assert "nan" not in text.lower().replace("financ", "")
        for absent in (
            "How good it is",
            ">Calibration<",
            "## Calibration",
            "Segments",
            "Drift baseline",
            "Tuning",
            "rebuild",
        ):
            assert absent not in text
    assert set(card_files(little)) == {"card.html", "card.md"}


@pytest.mark.parametrize("name", [*TASKS, "another"])
def test_every_task_has_its_words(name):
    made = dataclasses.replace(made_up(), task={"name": name, "key": ["lead_id"], "label": {"horizon_days": 30}})
    text = model_card(made)
    told = TASKS.get(name, OTHER)
    assert told.purpose.format(days="30") in text
    assert all(limit in text.replace("\\", "") for limit in told.limits)
    assert f"Share that {told.happened}" in text
    assert "leads" in text


def test_what_the_training_of_a_task_found_is_told():
    evaluation = {
        **made_up().evaluation,
        "judged_on": "accounts left out",
        "immature": {"used": True, "choice": "by hazard", "reason": "log loss .3 against .4"},
        "selection": {
            "choice": "not weighted",
            "reason": "no gain",
            "source": "logged",
            "rows": 900,
            "effective": 310.2,
        },
        "selected_at_random": {"words": "the labelled may have been drawn at random"},
    }
    documents = {
        "profile": {"words": ["Partners in DE succeed 1.6 times as often"]},
        "win_rates": {"without_overlap": {"number": 7, "first": ["p1", "p2"]}},
    }
    plain = made_up()
    text = model_card(dataclasses.replace(plain, evaluation=evaluation, documents=documents))
    for said in (
        "predictions for 400 partners: accounts left out. Each figure",
        "- Rows whose outcome is not known yet: by hazard; log loss .3 against .4.",
        "- Weights that undo past routing: not weighted; no gain.",
        "- Weights by propensity (logged) would leave 310 of 900 rows in effect.",
        "- 7 partners have too few leads like those of the others to be compared: their win rates stand alone "
        "(the first: p1, p2).",
        "- The labelled may have been drawn at random.",
        "- Partners in DE succeed 1.6 times as often",
    ):
        assert said in text
    assert "What the training found" not in model_card(plain)
    # it may have been asked nothing: too few pairs had a propensity, say
    assert "is decided once, by what is known now" not in text
    asked = {**evaluation, "immature": {**evaluation["immature"], "difference": {"difference": -0.1}}}
    text = model_card(dataclasses.replace(plain, evaluation=asked))
    assert "decided once, by what is known now of the latest origins, which the figures above are of too" in text


@pytest.mark.parametrize(
    ("key", "drawn"), [("partner_id", "partners"), ("lead_id", "leads"), ("account_id", "accounts")]
)
def test_the_interval_of_a_driver_names_what_it_is_drawn_over(model, key, drawn):
    told = model_card(dataclasses.replace(model, task={**model.task, "key": [key]}))
    assert f"with its 95 % interval over {drawn}, for this model" in told


@pytest.mark.parametrize(
    ("task", "rank"),
    [
        (tasks.propensity(dated=False), True),
        (tasks.propensity(dated=False, class_prior=0.1), False),
        (tasks.propensity(dated=True), False),
        (tasks.churn(), False),
    ],
)
def test_a_score_that_is_only_a_rank_says_so(task, rank):
    told = model_card(dataclasses.replace(made_up(), task=task.to_dict()))
    assert ("- A score is a rank, no probability:" in told) == rank


def test_what_comes_from_the_data_is_escaped(model):
    infos = tuple(dataclasses.replace(info, words=EVIL, subject=EVIL) for info in model.dictionary)
    drivers = [{**driver, "words": EVIL} for driver in model.documents["importance"]["drivers"]]
    told = [{**entry, "about": EVIL} for entry in model.documents["dependence"]]
    segments = [{**entry, "value": EVIL, "words": EVIL} for entry in model.evaluation["segments"]]
    evil = dataclasses.replace(
        model,
        dictionary=infos,
        evaluation={**model.evaluation, "segments": segments, "verdict": {"promoted": False, "reason": EVIL}},
        documents={**model.documents, "importance": {**model.documents["importance"], "drivers": drivers}}
        | {"dependence": told},
    )
    html, markdown = model_card(evil, format="html"), model_card(evil)
    assert "<script" not in html
    assert "script" not in read(html).seen
    assert "<script" not in markdown.replace("\\<", "")
    bars = {line.count("|") - line.count("\\|") for line in markdown.splitlines() if line.startswith("| country ")}
    assert bars == {9}


def test_markdown_of_each_kind_of_block():
    page = Page(
        "A_title",
        "sub",
        [
            Section(
                "One",
                [
                    Text("a  b\nc"),
                    Bullets(["x", "y*"]),
                    Facts([("k", "v|w")]),
                    Table(["h", "n"], [["a", "1.5\n1 to 2"], ["b", "2"]], ours=0),
                    Figure("<svg/>", "f.svg", "seen"),
                ],
            )
        ],
    )
    expected = (
        "# A\\_title\n\nsub\n\n## One\n\na b c\n\n- x\n- y\\*\n\n|  |  |\n|---|---|\n| k | v\\|w |\n\n"
        "| h | n |\n|---|---:|\n| **a** | 1.5 (1 to 2) |\n| b | 2 |\n"
    )
    assert page.markdown() == expected
    assert page.markdown(files=["f.svg"]) == expected + "\n![seen](f.svg)\n"


def test_a_format_that_does_not_exist_is_refused(model):
    with pytest.raises(InputError, match="format of a model card must be one of markdown, html; got 'pdf'"):
        model_card(model, format="pdf")


def test_without_jinja_or_matplotlib_the_markdown_is_written_all_the_same(model, monkeypatch, caplog):
    monkeypatch.setattr("partnerml.report._card._installed", lambda module: False)
    with caplog.at_level("INFO", logger="partnerml"):
        files = card_files(model)
    assert set(files) == {"card.md"}
    assert "calibration.svg" not in files["card.md"]
    assert 'pip install "partnerml[report]"' in caplog.text


def test_the_command_writes_the_card_of_the_champion_or_of_a_version(model, tmp_path, monkeypatch):
    path = tmp_path / "partnerml.yaml"
    path.write_text("data: {source: data/}\ntasks: {churn: {}}\n")
    asked = []
    registry = types.SimpleNamespace(
        champion=lambda name: asked.append(name) or model, load=lambda uri: asked.append(uri) or model
    )
    monkeypatch.setattr(nightly, "registry_of", lambda config: registry)
    for more in ((), ("--version", "3")):
        done = CliRunner().invoke(cli.app, ["card", "churn", "-c", str(path), "--json", *more])
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert document["model_version"] == model.version
        assert (tmp_path / "out" / "models" / "churn" / model.version / "card.html").is_file()
    assert asked == ["churn", "models:/churn/3"]


def test_without_a_champion_the_command_ends_with_2(tmp_path):
    path = tmp_path / "partnerml.yaml"
    path.write_text("data: {source: data/}\ntasks: {churn: {}}\n")
    done = CliRunner().invoke(cli.app, ["card", "churn", "-c", str(path)])
    assert done.exit_code == 2
    assert "no model of churn has been trained" in done.stderr
