"""The commands on the ledger: answers of partners, deadlines, what a person decides, outcomes, and forgetting."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partnerml.cli import _routed, _show
from partnerml.cli._app import Result, Session, command
from partnerml.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console


@command("respond")
@click.argument("offer_id")
@click.argument("response", type=click.Choice(["accepted", "declined"]))
@_routed.by_option
@click.option("--reason", metavar="TEXT", help="Why; kept in the ledger.")
@_routed.now_option
def respond(
    session: Session, *, offer_id: str, response: str, by: str | None, reason: str | None, now: dt.datetime | None
) -> Result:
    """Write a partner's answer to an offer; after a decline the lead goes to the next partner at once.

    \b
    Examples:
      partnerml respond offer-3f1c9a5be27d40c8a6b2 accepted
      partnerml respond offer-3f1c9a5be27d40c8a6b2 declined --reason "no time before March"
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    with _routed.router_of(session) as (_, router):
        decision = router.respond(offer_id, response, now=now, by=by, reason=reason)
        names = _routed.names_of(router.snapshot)
    first = f"offer {offer_id} is {response}" + ("; where the lead stands now:" if response == "declined" else ":")
    return _routed.one(decision, names, first=first, asks=response == "declined")


@command("withdraw")
@click.argument("offer_id")
@_routed.by_option
@click.option("--reason", metavar="TEXT", help="Why; kept in the ledger.")
@_routed.now_option
def withdraw(session: Session, *, offer_id: str, by: str | None, reason: str | None, now: dt.datetime | None) -> Result:
    """Take an offer, or a lead that a partner has accepted or got without being asked, back; it goes to the next one.

    An offer whose deadline has passed was not taken back: it expires, and nobody is named for it.

    \b
    Example:
      partnerml withdraw offer-3f1c9a5be27d40c8a6b2 --by "Ada Lovelace" --reason "the partner gave it back"
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        decision = router.withdraw(offer_id, now=now, by=by, reason=reason)
        names, ended = _routed.names_of(router.snapshot), router.ledger.offer(offer_id).status
    return _routed.one(decision, names, first=f"offer {offer_id} is {ended}; where the lead stands now:")


@command("expire")
@_routed.now_option
def expire(session: Session, *, now: dt.datetime | None) -> Result:
    """Let offers expire that were not answered in time, and give their leads to the next partners.

    Nothing has to run for it to be right: an overdue offer expires by itself when its lead is touched. Run it often,
    so that leads do not wait. By a snapshot older than routing.max_snapshot_age nobody is chosen: the leads are
    decided by the first run after the next publish.

    \b
    Example:
      partnerml expire
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        decisions = router.expire(now=now)
        names = _routed.names_of(router.snapshot)
    # leads that waited for a snapshot are among them
    goes, stands = ("goes", "it stands") if len(decisions) == 1 else ("go", "they stand")
    title = f"{_routed.plural(len(decisions), 'lead')} {goes} on; where {stands} now"
    return _routed.several(decisions, names, title=title, none="no offer is overdue, and no lead waits that can go on")


@command("override")
@click.argument("lead_id")
@click.argument("partner_id")
@click.option("--by", required=True, metavar="WHO", help="Who decides; kept in the ledger.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the ledger.")
@_routed.now_option
def override(
    session: Session, *, lead_id: str, partner_id: str, by: str, reason: str, now: dt.datetime | None
) -> Result:
    """Give a lead that was routed to another partner, whatever rules and scores say.

    \b
    Example:
      partnerml override L00021242 P0000934 --by "Ada Lovelace" --reason "knows the customer"
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        decision = router.override(lead_id, partner_id, by=by, reason=reason, now=now)
        names = _routed.names_of(router.snapshot)
    return _routed.one(decision, names)


@command("outcomes")
@click.option(
    "--from", "file", type=click.Path(path_type=Path), required=True, metavar="PATH",
    help="Rows of lead_id, outcome (won, lost, cancelled), closed_at and amount: .csv, .csv.gz, .parquet or .jsonl.",
)  # fmt: skip
@_routed.by_option
@_routed.now_option
def outcomes(session: Session, *, file: Path, by: str | None, now: dt.datetime | None) -> Result:
    """Write what became of leads, which frees their partners for others and is what the next model learns from.

    Without closed_at a lead is closed now. The same file again changes nothing. Rows that cannot be used (no partner
    has accepted the lead, say) are set aside in OUT/outcomes.rejects.csv, with the reason; if they are more than
    validation.max_rejected of the file, nothing is written.

    \b
    Example:
      partnerml outcomes --from crm/closed.csv
    """  # noqa: D301
    from partnerml.routing._decision_files import write_rejects
    from partnerml.routing._lead_files import read_leads
    from partnerml.routing._outcomes import write_outcomes

    with _routed.ledger_of(session) as (config, ledger):
        rows = read_leads(file)
        most = config.validation.max_rejected
        told = write_outcomes(ledger, rows, now=_routed.moment_of(now), by=by, progress=session.progress, most=most)
    rejects = write_rejects(told.refused, config.out / "outcomes.rejects.csv")
    document = {"rows": len(rows), "written": told.written, "set_aside": len(told.refused), "rejects": rejects}
    first = told.refused[0][1] if told.refused else ""
    too_many = _routed.share_refused(str(file), len(told.refused), len(rows), most, first)

    def show(console: Console) -> None:
        _show.say(console, f"{_routed.plural(told.written, 'outcome')} in the ledger")
        if rejects is not None:
            _show.path(console, f"{len(told.refused):,} set aside", rejects)

    nothing = "" if told.written else "; nothing was written"
    failure = None if too_many is None else DataError(f"{too_many}. All of them lie in {rejects}{nothing}")
    return Result(document, show, failure)


@command("forget")
@click.argument("identifier", metavar="ID")
@click.option(
    "--kind", type=click.Choice(["lead", "account"]), help="Of which ID is, where a lead and an account have the same."
)
@_routed.by_option
@_routed.now_option
def forget(session: Session, *, identifier: str, kind: str | None, by: str | None, now: dt.datetime | None) -> Result:
    """Forget who a lead, or all leads of an account, were: ID is that of either.

    What they were is replaced by pseudonyms for good; what was counted stays, and their decisions cannot be replayed.

    \b
    Example:
      partnerml forget A00005085 --by "privacy desk"
    """  # noqa: D301
    with _routed.ledger_of(session) as (_, ledger):
        count = ledger.forget(identifier, moment=_routed.moment_of(now), by=by, kind=kind)
    return Result(
        {"id": identifier, "leads": count}, _routed.lines(f"{_routed.plural(count, 'lead')} of {identifier} forgotten")
    )
