"""Publishing: what routing needs, taken out of the tables and the registry, as one folder.

``OUT/snapshots/ID/`` is named by its content and never changes; ``OUT/snapshots/current`` names the one to route by.
Old ones stay: a decision is repeated with the snapshot that it was made with.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml import __version__
from partnerml.errors import ConfigError, NoChampionError, SourceError
from partnerml.moments import Moment, is_midnight, moment
from partnerml.progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from partnerml.config import Config, CurrencyConfig
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Model, Registered, Registry
    from partnerml.pairs import PartnerFacts
    from partnerml.routing import Prices
    from partnerml.routing._snapshot import Snapshot

__all__ = [
    "publish",
    "publish_beside_prices",
    "published_as_of",
    "route_by",
    "routed_by",
    "snapshot_of",
    "snapshots_folder",
]

TASK = "close"
NO_PRICES = (
    "routing.hold_back needs prices, and none were found yet: nothing is held back until partnerml reprice has run"
)
_logger = logging.getLogger("partnerml")
_OPEN = "open"


def publish(eco: Ecosystem, *, as_of: Moment, progress: Progress | None = None) -> Path:
    """Write a snapshot of an ecosystem and its close model, make it the one to route by, and return its folder.

    Prices (`Router.reprice`) are no part of it: who routes takes up those that were published last beside it.

    Parameters
    ----------
    eco : Ecosystem
    as_of : moment
        00:00 UTC of the day that scores are as of.
    progress : Progress, optional

    Raises
    ------
    ConfigError, DataError
        If `as_of` is not at 00:00 UTC, or no router could work with the snapshot: rules, hours, weights or groups of
        partners that the section routing names are not there. The one to route by stays what it was.
    NoChampionError
        If no model of close was ever trained.
    """
    return publish_beside_prices(eco, as_of=as_of, progress=progress)[0]


def publish_beside_prices(
    eco: Ecosystem, *, as_of: Moment, progress: Progress | None = None
) -> tuple[Path, Prices | None]:
    """Publish a snapshot, and return the prices that leads are routed by beside it as well; None if there are none."""
    from partnerml.routing._opened import Opened, check_config, check_snapshot
    from partnerml.routing._pricing import PriceBook, aged
    from partnerml.routing._snapshot import Snapshot
    from partnerml.routing._snapshot_files import publish_current

    told = progress or Progress.silent()
    check_config(eco.config.routing)  # before features are built, which takes minutes
    folder = snapshots_folder(eco.config)
    snapshot = snapshot_of(eco, as_of=as_of, progress=told)
    check_snapshot(snapshot)
    _warn_of_weights(snapshot)
    book = PriceBook(folder)
    last = book.fitting(book.published(), snapshot.config.objective)
    if snapshot.config.hold_back and last is None:
        _logger.warning(NO_PRICES)
    if last is not None and last.too_old(snapshot.as_of, snapshot.config.max_price_age):
        _logger.warning("%s", aged(last, snapshot.config.max_price_age))
    with told.stage("writing the snapshot"):
        written = snapshot.write(folder)
    with told.stage("opening it as a router does"):
        Opened.of(Snapshot.open(written))
        publish_current(folder, written.name)
    return written, last


def _warn_of_weights(snapshot: Snapshot) -> None:
    """Tell how many partners never have their turn, since the table says nothing of them."""
    import pandas as pd

    name = snapshot.config.weights
    weights = None if name is None else snapshot.partners.column(name)
    empty = 0 if weights is None else int(pd.isna(weights).sum())
    if empty:
        _logger.warning(
            "%d of %d partners have no %s (routing.policy.weights): their weight in round robin is 0",
            empty,
            len(snapshot),
            name,
        )


def snapshots_folder(config: Config) -> Path:
    """Return where the snapshots of a configuration lie."""
    return config.out / "snapshots"


def published_as_of(config: Config) -> dt.datetime | None:
    """Return what the snapshot to route by is as of (zoned UTC); None if there is none that can be read."""
    from partnerml.routing._snapshot_files import as_of_current

    return as_of_current(snapshots_folder(config))


def route_by(config: Config, snapshot_id: str) -> None:
    """Make a snapshot that was published before the one to route by again, if it is not."""
    from partnerml.routing._snapshot_files import current, publish_current

    folder, named = snapshots_folder(config), None
    with contextlib.suppress(SourceError):
        named = current(folder)
    if named != snapshot_id:
        publish_current(folder, snapshot_id)


def snapshot_of(
    eco: Ecosystem,
    *,
    as_of: Moment,
    model: Model | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """Return the snapshot of an ecosystem, in memory.

    Parameters
    ----------
    eco : Ecosystem
    as_of : moment
        00:00 UTC of the day.
    model : Model, optional
        Of close; by default the champion of the registry, and where none was promoted the challenger.
    progress : Progress, optional
    """
    from partnerml import features
    from partnerml.routing._scorer import ModelScorer
    from partnerml.routing._snapshot import Snapshot

    at, told = moment(as_of), progress or Progress.silent()
    if not is_midnight(at):
        raise ConfigError(f"a snapshot is as of 00:00 UTC of a day, since features are; got {at.isoformat()}")
    versions = {"partnerml": __version__, "model": "given", "seed": str(eco.config.seed)}
    if model is None:
        model, versions["model"] = _registered(eco)
    with told.stage("what is known of partners"):
        known = features.partner_facts(eco, as_of=at)
    with told.stage(f"features of {len(known):,} partners"):
        scorer = ModelScorer.of(model, known, _features(eco, model, known, at))
    with told.stage("tables of the snapshot"):
        return Snapshot.of(
            as_of=at,
            partners=_table(eco, "partners"),
            territories=_table(eco, "territories"),
            certifications=_table(eco, "certifications"),
            deals=_deals(eco),
            accounts=_table(eco, "accounts"),
            leads=_leads(eco, since=at - eco.config.routing.duplicates.window),
            assignments=_table(eco, "assignments"),
            held=_held(eco, at),
            scorer=scorer,
            known=known,
            config=eco.config.routing,
            versions=versions | {"model_version": model.version},
            currency=_currency(eco),
        )


def routed_by(registry: Registry) -> tuple[Registered, str] | None:
    """Return the model to route by, and what it is: the champion, else the challenger; None if there is neither."""
    for alias in ("champion", "challenger"):
        found = registry.current(TASK, alias=alias)
        if found is not None:
            return found, alias
    return None


def _registered(eco: Ecosystem) -> tuple[Model, str]:
    """Return the model to route by, and what it is in the registry.

    Raises
    ------
    NoChampionError
        If there is neither champion nor challenger.
    """
    from partnerml.models import Registry

    registry = Registry(eco.config.tracking_uri)
    found = routed_by(registry)
    if found is None:
        raise NoChampionError(
            f"there is no model of {TASK} to route by: run partnerml train {TASK} first. Where there are too few "
            "outcomes for a model, it registers the rates of peers, and these can be published"
        )
    if found[1] != "champion":
        _logger.warning("%s has no champion: the snapshot goes by its challenger %s", TASK, found[0].model_version)
    return registry.load(found[0].uri), found[1]


def _features(eco: Ecosystem, model: Model, known: PartnerFacts, at: dt.datetime) -> pd.DataFrame:
    """Return what the model reads of partners, in the order of what is known of them."""
    import pandas as pd

    from partnerml import features
    from partnerml.features import Catalogue
    from partnerml.pairs import FEATURES
    from partnerml.routing._scorer import wanted

    catalogue, names = Catalogue.from_dict(model.catalogue), set(wanted(model)) - set(FEATURES)
    keys = pd.DataFrame({"partner_id": pd.Series(known.partner_id, dtype="str"), "as_of": pd.Timestamp(at)})
    chosen = [name for name in catalogue.names if name in names]
    if not chosen or keys.empty:
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in chosen}, index=range(len(keys)))
    built = features.build_rows(eco, keys, catalogue=catalogue.only(chosen))
    place = pd.Index(built.keys["partner_id"]).get_indexer(keys["partner_id"])
    return built.X.take(place).reset_index(drop=True)


def _currency(eco: Ecosystem) -> CurrencyConfig | None:
    """Return the currency of all amounts, and the rates of others; None where the tables name none."""
    from partnerml.config import CurrencyConfig

    if eco.config.data.currency is not None:
        return eco.config.data.currency
    found: set[str] = set()
    for table in (eco.table(name) for name in ("deals", "leads") if eco.has(name, "amount", "currency")):
        named = table.filter(table.amount.notnull() & table.currency.notnull())  # noqa: PD004 (Ibis columns)
        found |= set(eco.backend.to_pyarrow(named.select("currency").distinct())["currency"].to_pylist())
    # several without rates are refused before
    return CurrencyConfig(to=found.pop()) if len(found) == 1 else None


def _table(eco: Ecosystem, name: str) -> pa.Table | None:
    return eco.backend.to_pyarrow(eco.table(name)) if eco.has(name) else None


def _leads(eco: Ecosystem, *, since: dt.datetime) -> pa.Table | None:
    """Return the leads that another one may be the same as."""
    if not eco.has("leads"):
        return None
    rows = eco.table("leads")
    return eco.backend.to_pyarrow(rows.filter(rows.created_at >= since.replace(tzinfo=None)))


def _held(eco: Ecosystem, at: dt.datetime) -> pa.Table | dict[str, Any]:
    """Return the leads that partners hold open by then; none where no table tells how leads end."""
    from partnerml.features._pair_outcomes import held_leads

    held = held_leads(eco, as_of=at.replace(tzinfo=None)) if eco.has("assignments") else None
    return {} if held is None else held


def _deals(eco: Ecosystem) -> pa.Table | None:
    """Return the open registered deals; one that names no partner is of the one that leads on it."""
    from partnerml.routing._partners import REGISTERED
    from partnerml.routing._tables import KEPT

    if not eco.has("deals", "registration_status"):
        return None
    rows = eco.table("deals")
    rows = rows.filter((rows.outcome == _OPEN) & rows.registration_status.isin(REGISTERED))
    rows = rows.select(*[name for name in KEPT["deals"] if name in rows.columns])
    if not eco.has("deal_partners", "is_primary"):
        return eco.backend.to_pyarrow(rows)
    shared = eco.table("deal_partners")
    leads_on = shared.filter(shared.is_primary).group_by("deal_id").aggregate(primary=shared.partner_id.min())
    joined = rows.left_join(leads_on, "deal_id").drop("deal_id_right")
    known: Any = joined.partner_id.coalesce(joined.primary) if "partner_id" in rows.columns else joined.primary
    return eco.backend.to_pyarrow(joined.mutate(partner_id=known).drop("primary"))
