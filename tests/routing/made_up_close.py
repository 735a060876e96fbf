"""A close model of every kind of component, fitted on a small synthetic world: for tests of what scores by it."""

import dataclasses
import datetime as dt
import functools
from typing import Any

import pandas as pd

from partnerml import Ecosystem, tasks
from partnerml.features import RECORD, Catalogue
from partnerml.models import Blend, BoostedTrees, LogLogistic, Model, PeerRate, PlattCalibrator
from partnerml.synthetic import simulate

DAY = dt.datetime(2025, 1, 13, tzinfo=dt.UTC)
PEERS = ("partners__partner_type__trait__asof", "partners__country__trait__asof")


@dataclasses.dataclass(frozen=True)
class Close:
    """An ecosystem, its tables, and the model."""

    tables: dict[str, pd.DataFrame]
    end: dt.datetime
    model: Model

    def open(self, **settings: Any) -> Ecosystem:
        """Return the ecosystem."""
        return Ecosystem.from_frames(now=self.end, **self.tables, **settings)


@functools.cache
def close_model() -> Close:
    """Fit trees, a logistic and rates of peers, and blend them with a calibration that changes the scores."""
    world = simulate(partners=160, start="2024-01-01", months=13, seed=11)
    names = ("partners", "partner_history", "deals", "certifications", "accounts", "leads", "assignments")
    tables = {name: world.tables[name] for name in (*names, "territories")}
    task = tasks.close(horizon_days=60)
    with Ecosystem.from_frames(now=world.end, **tables) as eco:
        names = task.kind.catalogue(eco, task, pd.Timestamp(DAY)).names
        catalogue = Catalogue.from_dict({"features": [*names, *(name for name in RECORD if name not in names)]})
        data = tasks.build_dataset(eco, task, as_of=DAY, until=world.end, catalogue=catalogue)
    return Close(tables, world.end, _fitted(data, catalogue, task))


def _fitted(data: Any, catalogue: Catalogue, task: Any) -> Model:
    mature = data.labels.notna()
    keys, X, y = (part[mature].reset_index(drop=True) for part in (data.keys, data.X, data.labels))
    groups = [name for name in PEERS if name in X]
    # few levels, so that a text column is replaced by its statistic
    trees = BoostedTrees(n_estimators=25, min_child_samples=10, max_levels=4).fit(X, y)
    logistic = LogLogistic(max_levels=6).fit(X.drop(columns=list(RECORD)), y)
    peers = PeerRate(groups, won=RECORD[0], closed=RECORD[1])
    peers.fit(X[[*groups, *RECORD]], y, partner=keys["partner_id"])
    numbers = X.select_dtypes("number")
    return Model.of(
        task=task.to_dict(),
        catalogue=catalogue,
        dictionary=data.dictionary,
        blend=Blend(
            {"trees": trees, "logistic": logistic, "peers": peers},
            {"trees": 0.5, "logistic": 0.3, "peers": 0.2},
            PlattCalibrator(1.3, -0.2, ceiling=0.9),
        ),
        evaluation={"models": {}},
        training={"typical": numbers.median().dropna().to_dict(), "until": DAY.isoformat()},
        documents={"peers": peers.to_state()},
    )
