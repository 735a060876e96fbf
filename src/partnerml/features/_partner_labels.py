"""Which accounts became partners: the label of propensity, with dates and without.

With a date of creation and one of partnership, an account is a row at its creation, and the label whether it became a
partner within the horizon. Without them nobody knows of whom one could have said it when; all accounts are looked at
together then, and those that are partners are positives among the unlabelled.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd

from partnerml.dataset import Dataset
from partnerml.errors import ConfigError
from partnerml.features._accounts import (
    SOURCE,
    Accounts,
    account_rows,
    build_accounts,
    dataset_of,
    is_known_partner,
)
from partnerml.features._assemble import assembled, zoned
from partnerml.features._build import build_rows
from partnerml.features._catalog import Catalogue, Feature
from partnerml.features._spine import naive_utc
from partnerml.features._stream import days_between, interval
from partnerml.features._traits import columns_of
from partnerml.moments import Moment

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_logger = logging.getLogger("partnerml")

POSITIVES = ("partners", "best")
_REVENUE = "deals__won__amount__ever"


@dataclasses.dataclass(frozen=True)
class PartnerLabel:
    """Propensity: becoming a partner within the horizon, or looking like one.

    Parameters
    ----------
    horizon_days : int
        Of a dated label: becomes a partner in ``[created_at, created_at + horizon_days)``.
    dated : bool or None
        Whether rows are accounts at their creation. None: if ``accounts`` has both ``created_at`` and
        ``partner_since``, and the positives are all partners.
    positives : str
        Of an undated label: ``partners`` are all accounts that are partners; ``best`` those with the most won revenue.
    best_share : float
        Which share of the partners that have won revenue are the best.
    class_prior : tuple of (float, float) or None
        Of an undated label: between which shares of the accounts that are not labelled are like those that are. Only
        then is a score a probability.

    Raises
    ------
    ConfigError
        If a value is out of range, or the best partners are asked for with dates.
    """

    horizon_days: int = 90
    dated: bool | None = None
    positives: str = "partners"
    best_share: float = 0.25
    class_prior: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.horizon_days < 1:
            raise ConfigError(f"horizon_days must be at least 1, not {self.horizon_days}")
        if self.positives not in POSITIVES:
            raise ConfigError(f"positives must be one of {', '.join(POSITIVES)}, not {self.positives!r}")
        if not 0 < self.best_share <= 1:
            raise ConfigError(f"best_share must be above 0 and at most 1, not {self.best_share}")
        if self.class_prior is not None:
            low, high = (float(share) for share in self.class_prior)
            if not 0 < low <= high < 1:
                raise ConfigError(
                    f"class_prior must be a share between 0 and 1, or a range such as [0.02, 0.1]; got {low} to {high}"
                )
            object.__setattr__(self, "class_prior", (low, high))
        if self.dated and (self.positives == "best" or self.class_prior is not None):
            what = "class_prior" if self.positives != "best" else "positives: best"
            raise ConfigError(f"{what} is about accounts without dates, and dated is true; leave one of them out")

    def resolved(self, eco: Ecosystem) -> PartnerLabel:
        """Return the label with `dated` decided by the columns of ``accounts``.

        Raises
        ------
        ConfigError
            If dated labels are asked for and a date is not there, or nothing says who is a partner.
        """
        both = eco.has("accounts", "created_at", "partner_since")
        if self.dated and not both:
            absent = [c for c in ("created_at", "partner_since") if not eco.has("accounts", c)]
            raise ConfigError(f"dated labels of propensity need accounts.{' and accounts.'.join(absent)}; map them")
        if not any(eco.has("accounts", column) for column in ("is_partner", "partner_since", "partner_id")):
            raise ConfigError(
                "nothing says which accounts are partners: accounts has none of is_partner, partner_since and "
                "partner_id; map one of them"
            )
        undated = self.positives == "best" or self.class_prior is not None
        return dataclasses.replace(self, dated=self.dated if self.dated is not None else both and not undated)

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON."""
        prior = None if self.class_prior is None else list(self.class_prior)
        return {**dataclasses.asdict(self), "class_prior": prior}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> PartnerLabel:
        """Return the value that `to_dict` was made from."""
        prior = state["class_prior"]
        return cls(**{**state, "class_prior": None if prior is None else tuple(prior)})


def build_labelled_accounts(
    eco: Ecosystem,
    *,
    catalogue: Catalogue,
    population: Accounts | None = None,
    label: PartnerLabel,
    until: Moment,
) -> Dataset:
    """Build the rows that propensity is trained on.

    Parameters
    ----------
    eco : Ecosystem
    catalogue : Catalogue
        Traits of accounts alone.
    population : Accounts, optional
        Whom to leave out.
    label : PartnerLabel
    until : moment
        What was known before it is used.

    Returns
    -------
    Dataset
        Keys ``account_id`` and ``as_of``. Dated: as_of is the creation of the account; y is whether it became a partner
        within the horizon, NaN where that is not over; times are those to becoming one. Undated: as_of is `until`; y is
        1 for a labelled account and 0 for an **unlabelled** one, which may be as good; without times.
    """
    population, label = population or Accounts(), label.resolved(eco)
    if label.dated:
        return _dated(eco, catalogue, population, label, naive_utc(until))
    return _undated(eco, catalogue, population, label, until)


def _dated(eco: Ecosystem, catalogue: Catalogue, population: Accounts, label: PartnerLabel, until: datetime) -> Dataset:
    rows = account_rows(eco, population, columns=columns_of(catalogue.features, source=SOURCE))
    _tell_left_out(eco, rows)
    lag, end = interval(eco.lag(SOURCE)), ibis.literal(until, type="timestamp(6)")
    # a partner since before it was created was one already
    rows = rows.filter(
        rows.created_at.notnull()  # noqa: PD004 (an Ibis column)
        & (rows.created_at + lag < end)
        & ~rows.always
        & (rows.since >= rows.created_at).fill_null(True)
    )
    observed = (rows.since + lag < end).fill_null(False)
    horizon = rows.created_at + ibis.interval(days=label.horizon_days)
    became = observed & (rows.since < horizon).fill_null(False)
    stops = observed.ifelse(rows.since, ibis.greatest(rows.created_at, end - lag))
    rows = rows.mutate(
        as_of=rows.created_at,
        y=(horizon + lag <= end).ifelse(became.cast("float64"), ibis.null("float64")),
        duration_days=days_between(rows.created_at, stops),
        observed=observed,
    )
    spec = {
        "population": population.to_dict(),
        "label": label.to_dict(),
        "catalogue": catalogue.to_dict(),
        "until": until.isoformat(),
    }
    return dataset_of(eco, rows, catalogue, spec, labelled=True)


def _tell_left_out(eco: Ecosystem, rows: ibis.Table) -> None:
    undated = rows.created_at.isnull()  # noqa: PD003 (an Ibis column)
    counts = eco.backend.to_pyarrow(rows.aggregate(undated=undated.sum(), always=(rows.always & ~undated).sum()))
    told = counts.to_pylist()[0]
    reasons = {
        "without created_at": told["undated"] or 0,
        "that are partners without partner_since": told["always"] or 0,
    }
    for reason, n in reasons.items():
        if n:
            _logger.warning("propensity: %d account(s) %s are not trained on", n, reason)


def _undated(eco: Ecosystem, catalogue: Catalogue, population: Accounts, label: PartnerLabel, until: Moment) -> Dataset:
    partners, others = (
        build_accounts(eco, catalogue=catalogue, population=population, as_of=until, partners=side)
        for side in (True, False)
    )
    if label.positives == "best":
        facts = partner_accounts(eco, population, until=until, best_share=label.best_share)
        best = set(facts.loc[facts["best"], "account_id"])
        partners = partners.where(partners.keys["account_id"].isin(best))
    keys = pd.concat([partners.keys, others.keys], ignore_index=True)
    X = _stacked(partners.X, others.X)
    y = pd.Series(np.repeat([1.0, 0.0], [len(partners), len(others)]), name="y")
    order = keys.sort_values(["as_of", "account_id"], kind="stable").index
    keys, X = keys.loc[order].reset_index(drop=True), X.loc[order].reset_index(drop=True)
    y = y.loc[order].reset_index(drop=True)
    spec = {"label": label.to_dict(), "rows": [partners.fingerprint, others.fingerprint]}
    return assembled(keys, X, y, dictionary=others.dictionary, spec=spec)


def _stacked(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Put rows under each other; categories of both."""
    columns = {}
    for name in first.columns:
        joined = pd.concat([first[name].astype(object), second[name].astype(object)], ignore_index=True)
        is_text = isinstance(first[name].dtype, pd.CategoricalDtype)
        columns[name] = (
            joined.astype("str").where(joined.notna()).astype("category") if is_text else joined.astype(float)
        )
    return pd.DataFrame(columns)


def partner_accounts(
    eco: Ecosystem, population: Accounts | None = None, *, until: Moment, best_share: float = 0.25
) -> pd.DataFrame:
    """Return the accounts that are partners, when they became ones, and what they won.

    Parameters
    ----------
    eco : Ecosystem
    population : Accounts, optional
        Whom to leave out.
    until : moment
        What was known before it is used.
    best_share : float
        Which share of those with won revenue are the best; at least one.

    Returns
    -------
    DataFrame
        ``account_id`` (sorted), ``partner_id``, ``since`` (UTC), ``revenue`` (won so far; null without deals or a
        partner_id), ``best``. Without any won revenue nobody is best.
    """
    rows = account_rows(eco, population or Accounts())
    rows = rows.filter(is_known_partner(eco, rows, naive_utc(until)) & rows.is_now)
    frame: pd.DataFrame = eco.backend.to_pyarrow(rows.select("account_id", "partner_id", "since")).to_pandas()
    frame = frame.sort_values("account_id", ignore_index=True)
    frame["since"] = zoned(frame["since"])
    frame["revenue"] = frame["partner_id"].map(_won_revenue(eco, frame["partner_id"].dropna().unique(), until))
    frame["revenue"] = frame["revenue"].astype("float64")
    earning = frame[frame["revenue"] > 0].sort_values(["revenue", "account_id"], ascending=[False, True])
    best = earning.index[: math.ceil(best_share * len(earning))]
    return frame.assign(best=frame.index.isin(best))


def _won_revenue(eco: Ecosystem, partner_ids: Any, until: Moment) -> pd.Series:
    """Return the won revenue of partners by id; an id that partners does not hold has none."""
    empty = pd.Series(dtype="float64")
    if not eco.has("partners") or not eco.has("deals", "closed_at", "amount"):
        return empty
    known = set(eco.backend.to_pyarrow(eco.table("partners").select("partner_id"))["partner_id"].to_pylist())
    keys = pd.DataFrame({"partner_id": [one for one in partner_ids if one in known]})
    if keys.empty:
        return empty
    data = build_rows(eco, keys.assign(as_of=naive_utc(until)), catalogue=Catalogue((Feature.parse(_REVENUE),)))
    return pd.Series(data.X[_REVENUE].to_numpy(), index=data.keys["partner_id"].to_numpy())
