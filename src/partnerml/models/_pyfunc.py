"""What MLflow loads: `loader_module` of every registered model. It needs neither mlflow nor a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from partnerml.models._artifact import Model, load_model


class Scorer:
    """A model behind the interface of ``mlflow.pyfunc``.

    Parameters
    ----------
    model : Model
        What scores.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one column ``score`` in [0, 1], in the order of the rows.

        Parameters
        ----------
        model_input : DataFrame
            The features by name. MLflow refuses integers for a column of floats before they get here: give float64.
        params : dict, optional
            Taken because MLflow passes it; there are none.

        Raises
        ------
        ModelError
            If features are missing; names them.
        """
        return pd.DataFrame({"score": self.model.predict_proba(model_input)}, index=model_input.index)


def _load_pyfunc(path: str) -> Scorer:
    """Load from what MLflow stored: the folder that `Model.save` wrote."""
    return Scorer(load_model(Path(path)))
