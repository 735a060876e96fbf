"""What is asked of a scorer, and what all tasks answer alike."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.errors import ModelError
from partnerml.features import Catalogue
from partnerml.progress import Progress
from partnerml.scoring._scores import TREND_DAYS, band, percentile, trend

if TYPE_CHECKING:
    from partnerml.dataset import Dataset, FeatureInfo
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model

# of every task, in this order, between the key and what the task adds; model_version comes last
COMMON = ("as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be scored, and how it is told.

    Attributes
    ----------
    eco : Ecosystem
    model : Model
    task : Task
        The model's.
    moment : datetime
        When rows are scored (UTC).
    cuts : sequence of three floats
        Where the bands begin.
    top : int
        How many reasons to tell.
    cells : CellStore or None
        Stands for the events where it can.
    progress : Progress
    """

    eco: Ecosystem
    model: Model
    task: tasks.Task
    moment: dt.datetime
    cuts: Sequence[float]
    top: int
    cells: CellStore | None
    progress: Progress

    @property
    def earlier(self) -> dt.datetime:
        """The moment that trends compare with."""
        return self.moment - dt.timedelta(days=TREND_DAYS)

    @property
    def key(self) -> list[str]:
        """The columns that identify a row, without ``as_of``."""
        return [name for name in self.task.key if name != "as_of"]

    def rows(self, *as_of: dt.datetime, catalogue: Catalogue | None = None) -> Dataset:
        """Build the rows of the task at some moments, without labels; by default with what the model needs."""
        return tasks.build_dataset(
            self.eco,
            self.task,
            as_of=as_of,
            catalogue=needed_of(self.model) if catalogue is None else catalogue,
            labels=False,
            cells=self.cells,
        )

    def common(self, data: Dataset) -> pd.DataFrame:
        """Return the key and the columns of every task for some rows, in their order, without ``trend``."""
        X = data.X.reset_index(drop=True)
        probability = self.model.predict_proba(X)
        frame = data.keys.drop(columns="as_of").reset_index(drop=True)
        frame["as_of"] = pd.Timestamp(self.moment)
        frame["task"] = self.task.name
        frame["score"] = probability
        frame["percentile"] = percentile(probability)
        frame["band"] = band(probability, self.cuts)
        frame["reasons"] = pd.Series(self._reasons(X, data.dictionary), index=frame.index, dtype=object)
        frame["spread"] = self.model.spread(X)
        frame["model_version"] = self.model.version
        return frame

    def _reasons(self, X: pd.DataFrame, dictionary: Sequence[FeatureInfo]) -> list[list[dict[str, object]]]:
        """Return what moved the score of each row most, in words."""
        from partnerml.models import explain

        effects, typical = self.model.contributions(X), self.model.training["typical"]
        told = explain(effects, X, dictionary=dictionary, typical=typical, top=self.top)
        return [[reason.to_dict() for reason in row] for row in told]

    def trend(self, found: pd.DataFrame, before: Dataset) -> npt.NDArray[Any]:
        """Return how each row moved against those that the same model scores earlier, shape (n,)."""
        (name,) = self.key
        said = self.model.predict_proba(before.X) if len(before) else np.empty(0)
        then = pd.Series(percentile(said), index=before.keys[name].to_numpy())
        return trend(found.set_index(name)["percentile"], then).to_numpy()

    def ranked(self, frame: pd.DataFrame, *extra: str) -> pd.DataFrame:
        """Return the columns of the task in their order, with those that it adds; rows with the highest score first."""
        columns = [*self.key, *COMMON, *extra, "model_version"]
        ascending = [False, *(True for _ in self.key)]
        return frame[columns].sort_values(["score", *self.key], ascending=ascending, ignore_index=True, kind="stable")

    def check_traits(self, X: pd.DataFrame, *, who: str, remedy: str) -> None:
        """Refuse a trait that training knew and no row to score has: the source has lost a column.

        Parameters
        ----------
        X : DataFrame of shape (n, p)
        who : str
            What a row is, such as ``partners``.
        remedy : str
            The key of the configuration that names the traits, such as ``traits.partners``.

        Raises
        ------
        ModelError
            If there is one.
        """
        model = self.model
        known = {*model.vocabulary, *model.training["typical"]}
        for info in model.dictionary:
            read = info.measure == "trait" and info.name in model.columns and info.name in known
            if read and X[info.name].isna().all():
                raise ModelError(
                    f"the trait {info.subject} (table {info.table}) is null for all {len(X)} {who} to score and was "
                    f"known in training; check that the source still fills it, or train without it ({remedy})"
                )


def needed_of(model: Model, *more: str) -> Catalogue:
    """Return what is built of a model's catalogue: what scores and reasons draw on, and more of it by name."""
    catalogue = Catalogue.from_dict(model.catalogue)
    wanted = {*model.features, *more}
    return catalogue.only(name for name in catalogue.names if name in wanted)
