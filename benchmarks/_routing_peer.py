"""The same decision in plain pandas: a DataFrame for each table, a filter or a merge for each rule, and the model.

What pairs have to do with each other comes from the kernels of `partnerml.pairs`, which are quicker than merges would
be: the peer is better than plain in that. It knows the rules of the standard configuration, of a lead that is nobody's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from partnerml.pairs import FEATURES, routing_pairs
from partnerml.routing import Lead, Snapshot
from partnerml.routing._scorer import ModelScorer

_EARTH_KM = 6371.0088


class Found(NamedTuple):
    """What was decided: how many were eligible, and the chance of the best of them, if there is any."""

    n_eligible: int
    best: float | None


class Plain:
    """Decides by DataFrames.

    Parameters
    ----------
    snapshot : Snapshot
        With a model and the standard configuration.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        scorer = snapshot.scorer
        assert isinstance(scorer, ModelScorer)
        assert not snapshot.config.tiers
        assert not snapshot.config.rules
        self.flags, self.known, self.model = set(snapshot.config.flags), snapshot.known, scorer.model
        ids = snapshot.partners.partner_id
        tables = {name: table.to_pandas() for name, table in snapshot.tables.items()}
        # in the order of the rows of what is known of them
        self.partners = tables["partners"].set_index("partner_id").loc[list(ids)].reset_index()
        self.areas, self.certifications = tables["territories"], tables["certifications"]
        self.features = scorer._quick.columns.decode(np.asarray(scorer.codes))
        self.of_pairs = [name for name in self.features if name in FEATURES]

    def decide(self, lead: Lead, now: dt.datetime) -> Found:
        """Return who may get a lead, and the best of them."""
        kept = self._eligible(lead, pd.Timestamp(now).tz_localize(None))
        if kept.empty:
            return Found(0, None)
        X = self.features.loc[kept.index].copy()
        asked = {name: value for name, value in lead.values.items() if name not in ("lead_id", "created_at")}
        X[self.of_pairs] = routing_pairs(
            asked, self.known, np.zeros(len(X)), self.of_pairs, rows=kept.index.to_numpy(dtype=np.int64)
        )
        p = pd.Series(self.model.predict_proba(X), index=X.index)
        return Found(len(kept), float(p.max()))

    def _eligible(self, lead: Lead, now: pd.Timestamp) -> pd.DataFrame:
        get, found = lead.get, self.partners
        found = found[~(found["joined_at"] > now) & ~(found["left_at"] <= now) & ~(found["paused_until"] > now)]
        found = found[~found["partner_id"].isin(get("excluded_partners", ()))]
        found = found[_each(not self.flags & set(_items(flags)) for flags in found["flags"])]
        if get("consent") is False:
            found = found.iloc[:0]
        areas = self.areas[~(self.areas["valid_from"] > now) & ~(self.areas["valid_to"] <= now)]
        holds = areas[_hold(areas, lead)]
        anywhere = ~found["partner_id"].isin(self.areas["partner_id"])
        found = found[anywhere | found["partner_id"].isin(holds["partner_id"])]
        vertical = (get("vertical") or "").lower()
        found = found[_each(_takes(own, vertical) for own in found["verticals"])]
        held = self.certifications
        held = held[~(held["earned_at"] > now) & ~(held["expires_at"] <= now) & ~(held["revoked_at"] <= now)]
        for name in get("required_certifications", ()):
            found = found[found["partner_id"].isin(held.loc[held["certification"] == name, "partner_id"])]
        spoken = {_language(tag) for tag in get("languages", ())}
        own_tags = map(_items, found["languages"])
        found = found[_each(len(own) == 0 or bool(spoken & {*map(_language, own)}) for own in own_tags)]
        found = found[_takes_size(found, get("amount"))]
        limits = found[["capacity_per_day", "capacity_per_week", "max_open_leads"]]
        found = found[~(limits <= 0).any(axis=1)]
        exclusive = found["partner_id"].isin(holds.loc[holds["exclusive"] == True, "partner_id"])  # noqa: E712 (nulls)
        return found[exclusive] if exclusive.any() else found


def _hold(areas: pd.DataFrame, lead: Lead) -> pd.Series:
    get = lead.get
    region = get("region")
    country = get("country") or (region or "").partition("-")[0]
    postal = (get("postal_code") or "").upper().replace(" ", "").replace("-", "")
    holds = areas["country"].isna() | (areas["country"] == country)
    holds &= areas["region"].isna() | (areas["region"] == region)
    prefixes = areas["postal_prefix"].fillna("").str.replace(r"[ -]", "", regex=True)
    holds &= _each(postal.startswith(prefix) for prefix in prefixes)
    holds &= areas["radius_km"].isna() | (_km(areas, get("latitude"), get("longitude")) <= areas["radius_km"])
    vertical = (get("vertical") or "").lower()
    return holds & _each(_takes(own, vertical) for own in areas["verticals"])


def _km(areas: pd.DataFrame, latitude: float | None, longitude: float | None) -> pd.Series:
    """Return the distance by the haversine formula; NaN where a point is unknown."""
    here = np.radians([np.nan if latitude is None else latitude, np.nan if longitude is None else longitude])
    phi, theta = np.radians(areas["latitude"]), np.radians(areas["longitude"])
    a = np.sin((phi - here[0]) / 2) ** 2 + np.cos(phi) * np.cos(here[0]) * np.sin((theta - here[1]) / 2) ** 2
    return 2 * _EARTH_KM * np.arcsin(np.sqrt(a))


def _takes_size(partners: pd.DataFrame, amount: float | None) -> pd.Series:
    low, high = partners["min_deal_amount"], partners["max_deal_amount"]
    return low.isna() & high.isna() if amount is None else ~(low > amount) & ~(high < amount)


def _takes(own: Any, vertical: str) -> bool:
    """Tell whether dotted codes cover one; none covers all."""
    codes = [code.lower() for code in _items(own)]
    return not codes or any(f"{vertical}.".startswith(f"{code}.") for code in codes)


def _each(flags: Iterable[bool]) -> np.ndarray:
    return np.array(list(flags), dtype=bool)


def _items(own: Any) -> Any:
    return () if own is None or isinstance(own, float) else own


def _language(tag: str) -> str:
    return tag.lower().replace("_", "-").partition("-")[0]
