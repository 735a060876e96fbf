"""What the commands of routing and of the ledger share: the router they ask, and how they print decisions."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import click

from partnerml.cli import _show
from partnerml.cli._app import MOMENT, Result, Session
from partnerml.errors import SourceError

if TYPE_CHECKING:
    from rich.console import Console

    from partnerml.config import Config, RoutingConfig
    from partnerml.routing import Decision, Ledger, Router, Snapshot

_logger = logging.getLogger("partnerml")

SHOWN = 12
# what is read where it is needed, and is no part of how decisions are made
_NOT_PUBLISHED = {"ledger"}

now_option = click.option(
    "--now", type=MOMENT, metavar="TIMESTAMP", help="The moment that it is [default: that of the clock]."
)
by_option = click.option("--by", metavar="WHO", help="Who says so; kept in the ledger.")


@contextlib.contextmanager
def router_of(
    session: Session,
    *,
    tried: bool = False,
    compares: bool = False,
    scores: bool = False,
    ledger: Literal["there", "begun", "any"] = "there",
) -> Iterator[tuple[Config, Router]]:
    """Open the router of a configuration: the snapshot that was published last, and the ledger.

    Parameters
    ----------
    session : Session
    tried : bool
        Whether to go by the section routing as it is now, and not as it was published.
    compares : bool
        Whether both are set beside each other, so that nobody need be told that they differ.
    scores : bool
        Whether leads are scored in any case: else the model is read once one is.
    ledger : {"there", "begun", "any"}
        What becomes of a ledger that is not there: it is refused, begun, or stood for by an empty one in memory.

    Raises
    ------
    SourceError
        If nothing was published, or there is no ledger.
    ConfigError
        If the configuration names a rule that there is not.
    """
    from partnerml.publishing import snapshots_folder
    from partnerml.routing import Router, Snapshot
    from partnerml.routing._rules import rules_of
    from partnerml.routing._snapshot_files import CURRENT

    config = session.load()
    rules_of(config.routing)  # one that there is not is told now, and not when it has been published
    current = snapshots_folder(config) / CURRENT
    if not current.is_file():
        raise SourceError(
            f"there is no snapshot to route by in {current.parent}: run partnerml publish --as-of DATE first"
        )
    with session.progress.stage("open the snapshot"):
        snapshot = Snapshot.open(current, lazy=not scores)
        if tried:
            snapshot = snapshot.ruled_by(config.routing)
        # prices are those that were found last, whatever rules are tried but for another objective
        router = Router.open(snapshot, ledger=_ledger(config.ledger_url, ledger), source=current)
    with router:
        if not compares:
            _warn_of_changes(router.snapshot.config, config.routing)
        yield config, router


def _ledger(url: str, way: str) -> Ledger:
    """Open a ledger that is there, or do without."""
    from partnerml.routing import Ledger
    from partnerml.routing._database import NoLedgerError

    try:
        return Ledger.open(url, begin=way == "begun")
    except NoLedgerError:
        if way == "any":
            return Ledger.open(None)
        raise


@contextlib.contextmanager
def ledger_of(session: Session) -> Iterator[tuple[Config, Ledger]]:
    """Open the ledger of a configuration alone, which must be there: nothing is decided."""
    config = session.load()
    with _ledger(config.ledger_url, "there") as ledger:
        yield config, ledger


def moment_of(now: dt.datetime | None) -> dt.datetime:
    """Return the moment that a command was told, or that of the clock."""
    return dt.datetime.now(dt.UTC) if now is None else now


def _warn_of_changes(published: RoutingConfig, configured: RoutingConfig) -> None:
    """Warn of rules that were changed and not published: decisions go by the snapshot."""
    was, asked = (config.model_dump(mode="json", exclude=_NOT_PUBLISHED) for config in (published, configured))
    changed = [f"routing.{key}" for key in asked if asked[key] != was.get(key)]
    if changed:
        _logger.warning(
            "%s changed since the snapshot was published, which goes by what it was: run partnerml publish again",
            ", ".join(changed),
        )


def names_of(snapshot: Snapshot) -> dict[str, str]:
    """Return the names of partners by their ids."""
    pairs = zip(snapshot.partners.partner_id, snapshot.partners.name, strict=True)
    return {str(partner): str(name) for partner, name in pairs if name is not None}


def one(decision: Decision, names: Mapping[str, str], *, first: str = "", asks: bool = True) -> Result:
    """Return one decision as what a command found, with a line before it, and how to answer where that is open."""

    def show(console: Console) -> None:
        if first:
            _show.say(console, first)
        words(console, decision, names, asks=asks)

    return Result({"decision": decision.to_dict()}, show)


def shown(
    console: Console, title: str, decisions: Sequence[Decision], names: Mapping[str, str], *, asks: bool = True
) -> None:
    """Print the first of some decisions, a line each, and one of them in full."""
    listed(console, title, decisions, names)
    full = next((decision for decision in decisions if decision.status == "assigned"), decisions[0])
    words(console, full, names, asks=asks)


def words(console: Console, decision: Decision, names: Mapping[str, str], *, asks: bool = True) -> None:
    """Print a decision in words, with what may be done next."""
    _show.say(console, decision.words(names))
    if asks and decision.status == "assigned" and decision.policy != "override":
        _show.say(console, f"  answer with: partnerml respond {decision.offer_id} accepted")


def listed(console: Console, title: str, decisions: Sequence[Decision], names: Mapping[str, str]) -> None:
    """Print the first decisions, a line each."""
    columns = ("lead", "status", "partner", "to win", "why")
    shown = _show.table(title, *columns, numbers=("to win",))
    for decision in decisions[:SHOWN]:
        partner = decision.partner_id or ""
        called = f"{names[partner]} ({partner})" if partner in names else partner
        chance = "" if decision.p_win is None else f"{100 * decision.p_win:.1f} %"
        status = decision.status.replace("_", " ")
        _show.add(shown, decision.lead_id, status, called, chance, decision.why)
    console.print(shown)
    if len(decisions) > SHOWN:
        _show.say(console, f"and {len(decisions) - SHOWN:,} more")


def counted(found: Mapping[str, int]) -> str:
    """Return how many decisions there are of each status, in words."""
    return ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in found.items())


def several(decisions: Sequence[Decision], names: Mapping[str, str], *, title: str, none: str) -> Result:
    """Return some decisions as what a command found."""

    def show(console: Console) -> None:
        if not decisions:
            _show.say(console, none)
            return
        listed(console, title, decisions, names)

    return Result({"decisions": [decision.to_dict() for decision in decisions]}, show)


def kept_out(rule: str, words: str, evidence: str, *, brief: bool = False) -> str:
    """Return in words which rule keeps a partner from a lead: its evidence, and who passes, if not brief.

    A rule without evidence tells who passes in any case.
    """
    passes = f"a partner passes that {words}"
    if not evidence:
        return f"{rule}: {passes}"
    return f"{rule}: {evidence}" + ("" if brief else f" ({passes})")


def lines(*texts: str) -> Callable[[Console], None]:
    """Return what prints some lines."""

    def show(console: Console) -> None:
        for text in texts:
            _show.say(console, text)

    return show


def share_refused(what: str, refused: int, total: int, allowed: float, first: str) -> str | None:
    """Return why a file is refused because of its bad rows; None if there are few enough of them."""
    if not refused or (refused <= allowed * total and refused < total):
        return None
    return (
        f"{what}: {refused:,} of {total:,} rows cannot be used, more than validation.max_rejected allows "
        f"({100 * allowed:.3g} %); the first: {first}"
    )


def plural(count: int, what: str) -> str:
    """Return a count with its noun, as decisions tell it."""
    from partnerml.routing._decision import counted

    return counted(count, what)
