"""What the tables say of partners at midnights, for pairs of leads and partners, as `partnerml.pairs` wants it.

Everything is as it was known before the midnight. Tallies of past deals and leads are running sums over outcomes and
questions in one order of time, so that the cost follows the number of deals and of pairs, never their product.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
from ibis import _

from partnerml.features._pair_outcomes import EVERYBODY, MOMENT, PARTNER, SUMS, asked_table, column, outcome_cells
from partnerml.features._spine import naive_utc
from partnerml.features._stream import interval, seen_at
from partnerml.features._traits import historic_traits, known, static_traits
from partnerml.moments import Moment
from partnerml.pairs import PartnerFacts

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem

_DAY_US = 86_400_000_000.0
_KNOWN = "known__"
OUTCOMES = "outcomes"
# columns of partners by what asks for them: of how near a place is, region and postal code tell too
_COLUMNS: Mapping[str, str] = {
    "country": "traits.country",
    "region": "traits.country",
    "postal_code": "traits.country",
    "latitude": "traits.latitude",
    "longitude": "traits.longitude",
    "verticals": "traits.verticals",
    "languages": "traits.languages",
    "max_open_leads": "partner_history.max_open_leads",
}
READS = frozenset({OUTCOMES, "certifications", "territories", "partners.joined_at", *_COLUMNS.values()})
_NO_HELD: Mapping[str, list[Any]] = {"row": [], "certification": []}
_NO_AREAS: Mapping[str, list[Any]] = {"row": []}
_CELL = ("partner_id", "dimension", "value")


def partner_facts(eco: Ecosystem, *, as_of: Moment) -> PartnerFacts:
    """Return what was known of all partners at one moment: what a snapshot for routing holds.

    Parameters
    ----------
    eco : Ecosystem
    as_of : moment
        00:00 UTC of the day.
    """
    moment = naive_utc(as_of)
    partners = eco.table("partners").select("partner_id").order_by("partner_id")
    ids = eco.backend.to_pyarrow(partners)["partner_id"].to_pylist()
    rows = pd.DataFrame({"partner_id": ids, "as_of": np.full(len(ids), np.datetime64(moment, "us"))})
    outcomes = outcome_cells(eco)
    if outcomes is None:
        return _facts(eco, rows, _no_tallies(), READS)
    seen = outcomes.filter(_.seen_at < ibis.literal(moment, type=MOMENT))
    sums = seen.group_by(*_CELL).aggregate(**{name: _[name].sum() for name in SUMS})
    found = _frame(eco, sums, _CELL)
    found["row"] = pd.Index(rows["partner_id"]).get_indexer(found["partner_id"])
    found.loc[found["dimension"] == EVERYBODY, "row"] = 0
    return _facts(eco, rows, found[found["row"] >= 0], READS)


def facts_of(eco: Ecosystem, rows: pd.DataFrame, cells: pd.DataFrame, *, reads: Collection[str]) -> PartnerFacts:
    """Return what was known of partners at moments, as far as it is asked for.

    Parameters
    ----------
    eco : Ecosystem
    rows : DataFrame
        Distinct ``partner_id`` and ``as_of`` (naive UTC).
    cells : DataFrame
        Distinct ``row`` (position in `rows`), ``dimension`` and ``value``: the tallies that are asked for.
    reads : collection of str
        What is read at all, of `READS`; the rest is unknown.
    """
    outcomes = outcome_cells(eco) if OUTCOMES in reads else None
    if outcomes is None:
        return _facts(eco, rows, _no_tallies(), reads)
    number = np.arange(len(rows))
    whole = pd.DataFrame({"row": number, "dimension": PARTNER, "value": ""})
    everybody = pd.DataFrame({"row": number, "dimension": EVERYBODY, "value": ""})
    everybody = everybody[~rows["as_of"].duplicated().to_numpy()]
    asked = pd.concat([cells[["row", "dimension", "value"]], whole, everybody], ignore_index=True)
    asked["partner_id"] = rows["partner_id"].to_numpy()[asked["row"]]
    asked.loc[asked["dimension"] == EVERYBODY, "partner_id"] = ""
    asked["as_of"] = rows["as_of"].to_numpy()[asked["row"]]
    return _facts(eco, rows, _frame(eco, _tallies(outcomes, asked), ("row", "dimension", "value")), reads)


def _tallies(cells: ibis.Table, asked: pd.DataFrame) -> ibis.Table:
    """Return for each question the sums over the rows of its cell that were seen before its moment."""
    types = {"row": "int64", "partner_id": "string", "dimension": "string", "value": "string", "as_of": MOMENT}
    questions = asked_table(asked[list(types)], types)
    zeros = {name: ibis.literal(0).cast(cells[name].type()) for name in SUMS}
    questions = questions.select(*_CELL, moment=_.as_of, asks=ibis.literal(0, type="int8"), row=_.row, **zeros)
    facts = cells.semi_join(questions, _CELL)
    nobody = ibis.literal(-1, type="int64")
    facts = facts.select(
        *_CELL, moment=_.seen_at, asks=ibis.literal(1, type="int8"), row=nobody, **{s: _[s] for s in SUMS}
    )
    # at the same moment the question comes first: what is seen then was not known before
    so_far = ibis.window(group_by=list(_CELL), order_by=["moment", "asks"], preceding=None, following=0)
    both = ibis.union(questions, facts)
    both = both.mutate(**{name: _[name].sum().over(so_far) for name in SUMS})
    return both.filter(_.asks == 0).select("row", "dimension", "value", *SUMS)


def _facts(eco: Ecosystem, rows: pd.DataFrame, tallies: pd.DataFrame, reads: Collection[str]) -> PartnerFacts:
    types = {"row": "int64", "partner_id": "string", "as_of": MOMENT}
    asked = asked_table(rows.assign(row=np.arange(len(rows)))[list(types)], types)
    dimension, as_of = tallies["dimension"], pd.Index(rows["as_of"])
    own = tallies[dimension == PARTNER].set_index("row").reindex(np.arange(len(rows)))
    everybody = tallies[dimension == EVERYBODY]
    # one row for each moment stands for all of that moment
    everybody = everybody.set_index(as_of[everybody["row"].to_numpy()]).reindex(as_of)
    partners = _columns(eco, _states(eco, asked, reads).order_by("row"))
    partners |= {name: own[name].fillna(0.0).to_numpy() for name in SUMS}
    partners |= {f"all_{name}": everybody[name].fillna(0.0).to_numpy() for name in ("closed", "won", "days")}
    partners["as_of"] = rows["as_of"].to_numpy()
    cells = tallies[~dimension.isin((PARTNER, EVERYBODY))]
    held, areas = (table in reads and eco.has(table) for table in ("certifications", "territories"))
    return PartnerFacts.of(
        partners,
        certifications=_columns(eco, _valid_certifications(eco, asked)) if held else _NO_HELD,
        territories=_columns(eco, _valid_territories(eco, asked)) if areas else _NO_AREAS,
        cells={name: cells[name].tolist() for name in ("row", "dimension", "value", "closed", "won", "days")},
    )


def _states(eco: Ecosystem, asked: ibis.Table, reads: Collection[str]) -> ibis.Table:
    """Return the partners as they were known: from their history, else what is declared to be known at any time.

    ``max_open_leads`` changes with what is predicted, so it comes from the history alone.
    """
    static, historic = static_traits(eco), historic_traits(eco)
    wanted = [name for name, needed_by in _COLUMNS.items() if needed_by in reads]
    columns = [name for name in wanted if name in historic or (name in static and name != "max_open_leads")]
    states = known(eco, columns, static=static, rows=asked) if columns else asked
    states = states.rename({name: _KNOWN + name for name in columns})
    if "partners.joined_at" not in reads or not eco.has("partners", "joined_at"):
        return states
    joined = eco.table("partners").select("partner_id", "joined_at")
    return states.left_join(joined, "partner_id").drop("partner_id_right")


def _valid_certifications(eco: Ecosystem, asked: ibis.Table) -> ibis.Table:
    """Return ``row`` and ``certification``: earned, and as was known then neither expired nor revoked."""
    held = eco.table("certifications").semi_join(asked, "partner_id")
    lag = interval(eco.lag("certifications"))
    held = held.select(
        "partner_id",
        "certification",
        seen_at=seen_at(eco, "certifications", held, "earned_at"),
        expires_at=column(held, "expires_at", MOMENT),
        revoked_at=column(held, "revoked_at", MOMENT),
    )
    pairs = asked.inner_join(held, "partner_id").filter(_.seen_at < _.as_of)
    pairs = pairs.filter((_.expires_at > _.as_of).fill_null(True) & (_.revoked_at + lag >= _.as_of).fill_null(True))
    return pairs.select("row", "certification").distinct()


def _valid_territories(eco: Ecosystem, asked: ibis.Table) -> ibis.Table:
    """Return ``row`` and the columns of the territories that are valid: ``valid_from <= as_of < valid_to``.

    Validity is a plan, made ahead; with a declared lag a row is used that much later.
    """
    rows = eco.table("territories").semi_join(asked, "partner_id")
    lag = interval(eco.lag("territories"))
    begins, ends = column(rows, "valid_from", MOMENT), column(rows, "valid_to", MOMENT)
    about = [name for name in _OF_TERRITORY if name in rows.columns]
    rows = rows.select("partner_id", *about, begins=begins, ends=ends)
    valid = asked.inner_join(rows, "partner_id").filter((_.begins + lag <= _.as_of).fill_null(True))
    return valid.filter((_.ends > _.as_of).fill_null(True)).select("row", *about)


_OF_TERRITORY = ("country", "region", "postal_prefix", "latitude", "longitude", "radius_km", "verticals")


def _columns(eco: Ecosystem, rows: ibis.Table) -> dict[str, Any]:
    found: dict[str, Any] = eco.backend.to_pyarrow(rows).to_pydict()
    return found


def _frame(eco: Ecosystem, sums: ibis.Table, names: Sequence[str]) -> pd.DataFrame:
    """Return tallies as float64, with the days to win in days."""
    values: dict[str, Any] = {name: sums[name].cast("float64") for name in SUMS}
    values["days"] = values["days"] / _DAY_US
    frame: pd.DataFrame = eco.backend.to_pyarrow(sums.select(*names, **values)).to_pandas()
    return frame


def _no_tallies() -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in ("row", "dimension", "value", *SUMS)}).astype({"row": "int64"})
