"""The figures show the data that they are given, and the same bytes for the same data."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.models.made_up_models import made_up

from partnerml.models._evaluate import evaluate
from partnerml.models._plots import (
    calibration_figure,
    figures,
    folds_figure,
    gain_figure,
    groups_figure,
    scores_figure,
    segments_figure,
    svg,
)


@pytest.fixture(scope="module")
def evaluation():
    return made_up().evaluation


def test_every_figure_of_an_evaluation_is_drawn_and_repeatable(evaluation):
    first, second = figures(evaluation), figures(evaluation)
    assert list(first) == ["calibration", "gain", "scores", "folds_log_loss", "folds_auc", "folds_lift"]
    for name, figure in first.items():
        written = svg(figure)
        assert written == svg(second[name]), name
        assert ElementTree.fromstring(written).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"<dc:date>" not in written


def test_no_figure_depends_on_the_speed_of_the_machine(evaluation, monkeypatch):
    """Matplotlib warns where it looks for the best place of a legend for more than a second: here all take longer."""
    from matplotlib import legend

    ticks = itertools.count(step=2.0)
    monkeypatch.setattr(legend, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    for figure in figures(evaluation).values():
        svg(figure)


def test_only_what_an_evaluation_holds_is_drawn(evaluation):
    assert figures({}) == {}
    assert list(figures({"gain_curves": evaluation["gain_curves"]})) == ["gain"]


def test_calibration_shows_prediction_against_share(evaluation):
    curve = evaluation["calibration"]
    (axes,) = calibration_figure(curve).axes
    line = next(line for line in axes.lines if line.get_label() == "model")
    assert line.get_xdata().tolist() == [row["mean_prediction"] for row in curve]
    assert line.get_ydata().tolist() == [row["observed"] for row in curve]


def test_folds_are_in_order_of_time_and_undefined_metrics_leave_a_gap():
    folds = [
        {"as_of": "2026-02-01T00:00:00", "model": "model", "auc": None},
        {"as_of": "2026-01-01T00:00:00", "model": "model", "auc": 0.8},
        {"as_of": "2026-02-01T00:00:00", "model": "recency", "auc": 0.6},
    ]
    (axes,) = folds_figure(folds, metric="auc").axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_equal(lines["model"], [0.8, np.nan])
    np.testing.assert_equal(lines["recency"], [np.nan, 0.6])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2026-01-01", "2026-02-01"]
    assert axes.get_title(loc="left") == "AUC per fold (higher is better)"
    assert folds_figure(folds, metric="brier").axes[0].get_title(loc="left") == "Brier score per fold (lower is better)"


def test_gain_curves_run_from_nothing_to_all_and_the_constant_is_the_diagonal():
    y = np.array([1.0] * 10 + [0.0] * 30)
    p = np.linspace(0.9, 0.1, 40)
    found = evaluate(y, {"model": p, "base_rate": np.full(40, 0.25)}, np.arange(40), n_boot=10)["gain_curves"]
    assert [row["gain"] for row in found["base_rate"]] == pytest.approx(np.linspace(0, 1, 21))
    (axes,) = gain_figure(found).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert "base rate" not in lines
    assert lines["model"].get_ydata()[[0, 5, 20]].tolist() == pytest.approx([0, 1, 1])
    assert lines["model"].get_linewidth() > lines["in random order"].get_linewidth()


def test_scores_count_every_row_once():
    found = evaluate([0, 1, 1, 0], {"model": [0.0, 1.0, 0.51, 0.3]}, np.arange(4), n_boot=10)["scores"]
    assert sum(found["negative"]) == sum(found["positive"]) == 2
    assert found["positive"][-1] == found["negative"][0] == 1
    (axes,) = scores_figure(found).axes
    assert sum(bar.get_height() for bar in axes.patches) == 4


@pytest.mark.slow
def test_drawing_needs_no_display_and_no_pyplot():
    code = (
        "import sys; from partnerml.models._plots import scores_figure, svg\n"
        "svg(scores_figure({'edges': [0, .5, 1], 'negative': [1, 2], 'positive': [3, 4]}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_groups_show_interval_and_observation():
    group = {"mean_prediction": 0.2, "observed": 0.25, "low": 0.15, "high": 0.3}
    (axes,) = groups_figure({"level": 0.9, "groups": [group, {**group, "mean_prediction": 0.6}]}).axes
    (spans,) = axes.collections
    assert [segment.tolist() for segment in spans.get_segments()] == [
        [[0.2, 0.15], [0.2, 0.3]],
        [[0.6, 0.15], [0.6, 0.3]],
    ]
    assert spans.get_label() == "90 % interval"
    assert axes.lines[1].get_ydata().tolist() == [0.25, 0.25]


def test_segments_show_the_bias_of_each_and_the_flagged_in_another_colour():
    row = {"segment": "partner_type", "value": "msp", "rows": 1200, "bias": 0.02, "bias_low": -0.01, "bias_high": 0.05}
    flagged = {**row, "segment": "country", "value": "AT", "bias": 0.1, "bias_low": 0.06, "bias_high": 0.14}
    (axes,) = segments_figure([{**row, "flag": ""}, {**flagged, "flag": "forecast too high"}]).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["partner type msp (1,200)", "country AT (1,200)"]
    plain, red = axes.collections
    assert plain.get_segments()[0].tolist() == [[-1.0, 1.0], [5.0, 1.0]]
    assert red.get_segments()[0][:, 0] == pytest.approx([6, 14])
    assert (plain.get_color() != red.get_color()).any()


def test_an_evaluation_with_groups_segments_and_lifts_draws_them(evaluation):
    group = {"mean_prediction": 0.2, "observed": 0.25, "low": 0.15, "high": 0.3}
    segment = {
        "segment": "country",
        "value": "AT",
        "rows": 9,
        "bias": 0.1,
        "bias_low": 0.0,
        "bias_high": 0.2,
        "flag": "",
    }
    fold = {"as_of": "2026-01-01T00:00:00", "model": "model", "log_loss": 0.4, "auc": 0.8, "lift_at_10pct": 2.5}
    drawn = figures(
        {"groups": {"level": 0.9, "groups": [group]}, "segments": [segment], "folds": [fold], "calibration": []}
    )
    assert list(drawn) == ["groups", "folds_log_loss", "folds_auc", "folds_lift", "segments"]
    assert svg(drawn["segments"]).startswith(b"<?xml")
