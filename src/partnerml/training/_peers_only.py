"""Close where the data do not carry a model: the shrunken rate of a partner's peers, moved by its own record."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit

from partnerml.progress import Progress
from partnerml.training._documents import documented, training_facts
from partnerml.training._recipe import Trained

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.features import Catalogue
    from partnerml.models import Model
    from partnerml.tasks import Task
    from partnerml.training._close_parts import Fitted, Parts

_logger = logging.getLogger("partnerml")

GROUPS = 5


@dataclasses.dataclass(frozen=True)
class PeersOnly:
    """What a model of rates is made from: it stands for a recipe where there are too few outcomes for one.

    It is never promoted, since nothing shows out of time that it is better than the base rate: it is registered as
    challenger, and who wants more than the base rate can route by it.

    Attributes
    ----------
    task : Task
    catalogue : Catalogue
    data : Dataset
    parts : Parts
    twins : mapping of str to str
    until : datetime
    seed : int
    why : str
        Why there is no model, in words.
    """

    task: Task
    catalogue: Catalogue
    data: Dataset
    parts: Parts
    twins: Mapping[str, str]
    until: dt.datetime
    seed: int
    why: str

    def train(self, progress: Progress, *, trials: int = 0, database: Path | None = None) -> Trained:
        """Judge the rates on leads that were left out, and fit them on all pairs.

        Parameters
        ----------
        progress : Progress
        trials : int
            Not used: rates have nothing to tune.
        database : Path, optional
            Not used.
        """
        if trials:
            _logger.warning("%s: rates of peers have nothing to tune", self.task.name)
        with progress.stage(f"{self.task.name}: rates of peers"):
            replay = self._left_out()
            model = self._model(self._evaluation(replay))
        keys, X = (part[self.data.mature].reset_index(drop=True) for part in (self.data.keys, self.data.X))
        told = replay.drop(columns="base_rate").rename(columns={"model": "score"})
        return Trained(model, pd.concat([keys, told], axis=1), X)

    @property
    def cluster(self) -> str:
        """The key column whose values are one each."""
        return "lead_id"

    def _left_out(self) -> pd.DataFrame:
        """Return for each mature row what rates and base rate say that have not seen its lead."""
        from partnerml.models import cluster_groups

        rows = np.flatnonzero(self.data.mature)
        y = self.data.labels.to_numpy(dtype=np.float64)[rows]
        lead = self.data.keys[self.cluster].to_numpy(dtype=object)[rows]
        group = cluster_groups(lead, n_groups=GROUPS, seed=self.seed)
        said = np.empty((len(rows), 2))
        for k in range(GROUPS):
            now, seen = group == k, rows[group != k]
            model = self.parts.rate(self._rows(seen))
            said[now, 0] = expit(model.decision_function(self.data.X.iloc[rows[now]]))
            # half a row of each label keeps it from certainty
            said[now, 1] = (y[group != k].sum() + 0.5) / (len(seen) + 1.0)
        return pd.DataFrame(
            {
                "cut": pd.Timestamp(self.until),
                "cluster": lead,
                "y": y,
                "weight": 1.0,
                "model": said[:, 0],
                "base_rate": said[:, 1],
            }
        )

    def _rows(self, places: np.ndarray[Any, np.dtype[np.intp]]) -> Fitted:
        from partnerml.training._close_parts import Fitted

        y = self.data.labels.to_numpy(dtype=np.float64)[places]
        return Fitted(y, np.ones(len(places)), places)

    def _evaluation(self, replay: pd.DataFrame) -> dict[str, Any]:
        from partnerml.models import evaluate, promotable

        y, lead = replay["y"].to_numpy(), replay["cluster"].to_numpy()
        said = {name: replay[name].to_numpy() for name in ("model", "base_rate")}
        found = promotable(
            y, said["model"], said["base_rate"], said["base_rate"], lead, simplest_name="the base rate", seed=self.seed
        )
        reason = f"{self.why}. What is registered is the rate of a partner's peers, moved by its own record"
        return {
            **evaluate(y, said, lead, seed=self.seed),
            "verdict": {**found.to_dict(), "promoted": False, "reason": reason},
            "weights": {"peers": 1.0},
            "replayed": False,
            "folds": [],
            "judged_on": f"leads that were left out in {GROUPS} groups, not later ones",
            "fallback": self.why,
        }

    def _model(self, evaluation: Mapping[str, Any]) -> Model:
        from partnerml.models import Blend, Model

        peers = self.parts.peers()
        model = Model.of(
            task=self.task.to_dict(),
            catalogue=self.catalogue,
            dictionary=self.data.dictionary,
            blend=Blend({"peers": peers}, {"peers": 1.0}),
            evaluation=evaluation,
            training=self._facts(),
        )
        model = model.with_documents({"peers": peers.to_state()})
        return documented(model, self.data, self.data.keys[self.cluster], seed=self.seed)

    def _facts(self) -> dict[str, Any]:
        """Return what a reader of the model asks: until when, on what, how."""
        told = self.data.as_of[self.data.mature]
        return training_facts(
            self.data,
            cluster=self.cluster,
            until=self.until,
            seed=self.seed,
            gap=self.parts.gap,
            twins=self.twins,
            base_rate=float(self.data.labels.mean()),
            settings={},
            **{"as_of": [], "from": told.min().isoformat(), "to": told.max().isoformat()},
        )
