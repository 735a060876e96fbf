"""Win rates of partners on equal terms: what each would win of the same leads, beside what it did win of its own."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partnerml.features import build_pairs

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import Catalogue
    from partnerml.models import Model, Overlap, Weighting
    from partnerml.training._close_parts import Parts

# of the leads a sample, of the partners those with the most outcomes: a table that is read by people
LEADS, PARTNERS = 200, 200
_NAMED = 20


class Reference:
    """The same leads with each of the partners, as they could be made at `until`.

    Parameters
    ----------
    eco : Ecosystem
    parts : Parts
    catalogue : Catalogue
    until : datetime
    seed : int
        Draws the leads.
    """

    def __init__(self, eco: Ecosystem, parts: Parts, catalogue: Catalogue, *, until: dt.datetime, seed: int) -> None:
        self.eco, self.parts, self.catalogue, self.until, self.seed = eco, parts, catalogue, until, seed

    @functools.cached_property
    def partners(self) -> list[str]:
        """The partners with the most mature pairs, in order of their ids."""
        keys = self.parts.data.keys["partner_id"][self.parts.data.mature]
        counts = keys.value_counts().rename_axis("partner_id").reset_index(name="n")
        return sorted(counts.sort_values(["n", "partner_id"], ascending=[False, True])["partner_id"].head(PARTNERS))

    @functools.cached_property
    def leads(self) -> list[str]:
        """A sample of the leads, in order of their ids."""
        every = np.unique(self.parts.data.keys["lead_id"].to_numpy(dtype=object))
        size = min(LEADS, len(every))
        return sorted(np.random.default_rng(self.seed).choice(every, size, replace=False).tolist())

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """``lead_id`` and ``partner_id`` of all pairs, beside the features."""
        midnight = self.until.replace(hour=0, minute=0, second=0, microsecond=0)
        every = pd.MultiIndex.from_product([self.leads, self.partners], names=["lead_id", "partner_id"])
        asked = every.to_frame(index=False).assign(assigned_at=pd.Timestamp(midnight))
        built = build_pairs(self.eco, asked, catalogue=self.catalogue)
        return pd.concat([built.keys[["lead_id", "partner_id"]], built.X], axis=1)

    @functools.cached_property
    def overlap(self) -> Overlap:
        """How the pairs that were made differ from these, by how lead and partner suit each other."""
        from partnerml.models import Overlap

        return Overlap().fit(self.parts.data.X[self.columns], self.pairs[self.columns])

    @property
    def columns(self) -> list[str]:
        """What the choice of a partner may have gone by, and that does not grow with time.

        Who handed a lead in is no such thing: of those leads nobody chose.
        """
        suits = [name for name in self.parts.columns if name.startswith("pair__") and name.endswith("__asof")]
        suits = [name for name in suits if not name.startswith("pair__source__")]
        return [*suits, *(name for name in self.parts.groups if name in self.parts.columns)]

    @functools.cached_property
    def estimated(self) -> Weighting | None:
        """Weights that undo past routing, estimated; None where nothing tells pairs apart."""
        return self.overlap.weights(self.parts.data.X[self.columns]) if self.columns else None

    def rates(self, model: Model, weighting: Weighting | None) -> dict[str, Any]:
        """Return the table of win rates, and who cannot be compared, as JSON values.

        Parameters
        ----------
        model : Model
        weighting : Weighting or None
            Of the rows of the data.
        """
        from partnerml.models import standardised_rates

        data, mature = self.parts.data, self.parts.data.mature
        reference = self.pairs[["partner_id"]].assign(expected=model.predict_proba(self.pairs))
        if self.columns:
            reference["overlaps"] = self.overlap.overlaps(self.pairs[self.columns])
        weights = np.ones(len(data)) if weighting is None else weighting.weights
        table = standardised_rates(
            data.labels[mature],
            data.keys["partner_id"][mature],
            model.predict_proba(data.X[mature]),
            weights=weights[mature],
            reference=reference,
        )
        apart = table["partner_id"][~table["comparable"]].tolist()
        return {
            "leads": len(self.leads),
            "partners": len(table),
            "weights": "equal" if weighting is None else weighting.source,
            "effective": float(table["effective"].sum()),
            "without_overlap": {"number": len(apart), "first": apart[:_NAMED]},
            "never_assigned": self._never_assigned(),
            "table": [{str(name): value for name, value in row.items()} for row in table.to_dict("records")],
        }

    def _never_assigned(self) -> int:
        """Return how many partners were never given a lead, as known at `until`, trained on or not."""
        outcomes = self.parts.outcomes
        given = outcomes.pairs["partner_id"][outcomes.given(self.until)].unique()
        partners = self.eco.table("partners").select("partner_id").distinct()
        found = self.eco.backend.to_pyarrow(partners).to_pandas()["partner_id"].astype("str")
        return int((~found.isin(given)).sum())
