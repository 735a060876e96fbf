"""SHAP draws what the model says: the same numbers, the features in words, and nothing global is touched."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.special import logit
from tests.models.made_up_models import frame, made_up

from partnerml.errors import InputError, MissingExtraError
from partnerml.models._plots import svg
from partnerml.models._shap import shap_explanation, shap_figure

# shap takes seconds to import: the tests that do go together
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shap")]


def test_values_and_base_sum_to_the_log_odds_of_the_score():
    model, (X, _) = made_up(), frame(60, seed=2)
    explained = shap_explanation(model, X)
    total = explained.values.sum(axis=1) + explained.base_values
    np.testing.assert_allclose(total, logit(model.predict_proba(X)), atol=1e-9)
    words = {info.name: info.words for info in model.dictionary}
    assert explained.feature_names == [words[name] for name in model.blend.feature_names_in_]


@pytest.mark.parametrize("kind", ["beeswarm", "bar"])
def test_figures_are_repeatable_and_touch_nothing_global(kind):
    from matplotlib import _pylab_helpers

    model, (X, _) = made_up(), frame(60, seed=2)
    former = np.random.get_state()  # noqa: NPY002
    first, second = (svg(shap_figure(model, X, kind=kind, shown=4)) for _ in range(2))
    after = np.random.get_state()  # noqa: NPY002
    assert first == second
    assert (former[1] == after[1]).all()
    assert former[2:] == after[2:]
    assert _pylab_helpers.Gcf.get_all_fig_managers() == []
    assert b"Sum of 3 other features" in first


def test_what_cannot_be_drawn_is_told(monkeypatch):
    model, (X, _) = made_up(), frame(10)
    with pytest.raises(InputError, match="kind of a SHAP plot must be one of beeswarm, bar; got 'waterfall'"):
        shap_figure(model, X, kind="waterfall")
    with pytest.raises(InputError, match="SHAP plots need rows; X has none"):
        shap_explanation(model, X.iloc[:0])
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match=r'pip install "partnerml\[shap\]"'):
        shap_explanation(model, X)
