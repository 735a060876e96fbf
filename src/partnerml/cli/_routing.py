"""The commands of routing: publish a snapshot, route leads, ask why, and make a past decision again."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partnerml.cli import _routed, _show
from partnerml.cli._app import MOMENT, Result, Session, command
from partnerml.cli._questions import stood
from partnerml.errors import ConfigError, DataError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from partnerml.routing import Decision, Lead, Router

_logger = logging.getLogger("partnerml")
_Row = tuple[Mapping[str, Any], str]


@command("publish")
@click.option(
    "--as-of", type=MOMENT, required=True, metavar="DATE", help="Use what was known before 00:00 UTC of this date."
)
def publish(session: Session, *, as_of: dt.datetime) -> Result:
    """Write all that routing needs as one folder, and make it the one to route by: OUT/snapshots/ID/.

    Partners, territories, deals, the model of close that was trained (its champion, else its challenger; where there
    were too few outcomes for a model, the rates of peers that train close has registered), and the section routing of
    the configuration. Running routers follow OUT/snapshots/current.

    \b
    Example:
      partnerml publish --as-of 2026-06-01
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    from partnerml import outputs, publishing

    with session.ecosystem() as eco, outputs.lock(eco.config.out, purpose="partnerml publish"):
        folder, prices = publishing.publish_beside_prices(eco, as_of=as_of, progress=session.progress)
    told = None if prices is None else prices.evidence()
    document = {"as_of": as_of, "snapshot_id": folder.name, "path": folder, "prices": told}

    def show(console: Console) -> None:
        _show.path(console, f"snapshot {folder.name}", folder)
        if prices is not None:
            _show.say(console, f"leads go by {prices.words()}")

    return Result(document, show)


@command("reprice")
@click.option(
    "--expected", type=click.IntRange(min=1), metavar="N",
    help="How many leads are to come until capacity is renewed [default: as many as came in those days].",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True, max=3660), default=7, show_default=True, metavar="D",
    help="How far back leads of the ledger count.",
)  # fmt: skip
@_routed.now_option
def reprice(session: Session, *, expected: int | None, days: float, now: dt.datetime | None) -> Result:
    """Find what partners' capacity is worth to leads to come, by late leads of the ledger, for all who route.

    A lead then goes where its utility less the price is highest. Run it every few hundred leads, and after a night;
    routers take the prices up when they look for a new snapshot, commands at once. Without OUT/snapshots/prices/
    current.json there are none.

    \b
    Example:
      partnerml reprice --days 7
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        prices = router.reprice(expected=expected, days=days, now=now, publish=True)
        names, partners, snapshot_id = _routed.names_of(router.snapshot), len(router.snapshot), router.snapshot_id
        found = router.prices
    assert found is not None, "they have just been found"
    if not found.leads:
        _logger.warning("no lead of the last %g days was decided among partners of the snapshot: no price", days)
    highest = sorted(prices.items(), key=lambda each: (-each[1], each[0]))
    document = {
        **found.evidence(),
        "partners": partners,
        "snapshot_id": snapshot_id,
        "prices": dict(highest),
    }

    def show(console: Console) -> None:
        told = f"{_routed.plural(found.leads, 'lead')} of the last {days:g} days, {found.expected:,} expected"
        told += f", found at {found.found_at:%Y-%m-%d %H:%M} UTC"
        _show.say(console, f"{told}: {len(prices):,} of {_routed.plural(partners, 'partner')} have a price")
        for partner, price in highest[: _routed.SHOWN]:
            called = f"{names[partner]} ({partner})" if partner in names else partner
            _show.say(console, f"  {price:.3g} {called}")

    return Result(document, show)


@dataclasses.dataclass(frozen=True)
class _Routed:
    """What became of leads: decisions, leads that there is none on with the reason, and what is told beside them."""

    decisions: Sequence[Decision]
    refused: Sequence[tuple[Lead, str]] = ()
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@command("route")
@click.option(
    "--leads", "file", type=click.Path(path_type=Path), required=True, metavar="PATH",
    help="The leads: .csv, .csv.gz, .parquet or .jsonl, with the columns of the table leads.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="PATH",
    help="Where the decisions go: .parquet, .csv or .jsonl.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(["online", "batch"]), default="online", show_default=True,
    help="One after the other as they come, or all at once so that the sum is highest.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True,
    help="Tell who would get what by the rules of the configuration, published or not; nothing is offered.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True,
    help="Of a batch: how many processes look for candidates; worth it from about 10,000 leads.",
)  # fmt: skip
@_routed.now_option
def route(
    session: Session, *, file: Path, out: Path, mode: str, dry_run: bool, jobs: int, now: dt.datetime | None
) -> Result:
    """Route leads: decide who gets each, make the offers, and write the decisions.

    A lead that was routed before gets the same decision again, so that a run that was killed is simply run again. Rows
    that are no leads are set aside beside the decisions, with the reason.

    \b
    Examples:
      partnerml route --leads new-leads.csv --out decisions.parquet
      partnerml route --leads new-leads.csv --out decisions.jsonl --mode batch
      partnerml route --leads backlog.parquet --out decisions.parquet --mode batch --jobs 4
      partnerml route --leads new-leads.csv --out would.csv --dry-run --set routing.policy.kind=thompson
    """  # noqa: D301
    from partnerml.publishing import NO_PRICES
    from partnerml.routing._decision import statuses
    from partnerml.routing._decision_files import check_ending, check_writable, write_decisions, write_rejects
    from partnerml.routing._lead import LeadTable, doubts
    from partnerml.routing._lead_files import read_leads
    from partnerml.routing._standing import changed, without_rate

    session.load()  # its own message where there is no file
    if jobs > 1 and mode != "batch":
        raise ConfigError(
            "--jobs is for a batch: leads that come one after the other are decided in turn; leave it "
            "out, or add --mode batch"
        )
    check_ending(out)
    rejects = out.with_suffix(".rejects.csv")
    for written_to in (out, rejects):
        check_writable(written_to, read=file)
    rows = read_leads(file)
    read = LeadTable.of(rows, name=str(file))
    aside: list[_Row] = [(rows[bad.row - 1], bad.reason) for bad in read.refused]
    opened = _routed.router_of(session, tried=dry_run, scores=True, ledger="any" if dry_run else "begun")
    with opened as (config, router):
        most = config.validation.max_rejected
        never = changed(router.ledger, read.leads)
        never += without_rate(router.ledger, read.leads, router.snapshot.currency)
        aside += _of_rows(rows, never)
        _refuse(file, aside, len(rows), most, write_rejects(aside, rejects))
        warnings = doubts(read.leads, _routed.moment_of(now))
        for warning in warnings:
            _logger.warning("%s: %s", file, warning)
        if router.snapshot.config.hold_back and router.unpriced:
            warnings = [*warnings, NO_PRICES]
            _logger.warning(NO_PRICES)
        refused = {lead.lead_id for lead, _ in never}
        leads = [lead for lead in read.leads if lead.lead_id not in refused]
        found = _WAYS[mode](session, router, leads, now, dry_run=dry_run, jobs=jobs)
        names, place = _routed.names_of(router.snapshot), router.ledger.place
        snapshot = router.snapshot_id
    aside += _of_rows(rows, found.refused)
    written = write_rejects(aside, rejects)
    write_decisions(found.decisions, out)
    document = {
        "leads": len(rows),
        "statuses": statuses(found.decisions),
        "set_aside": len(aside),
        "dry_run": dry_run,
        "snapshot_id": snapshot,
        "ledger": place,
        "path": out,
        "rejects": written,
        "warnings": warnings,
        **found.told,
    }
    told = _routed.share_refused(str(file), len(aside), len(rows), most, aside[0][1] if aside else "")
    failure = None if told is None else DataError(f"{told}. All of them lie in {written}")
    return Result(document, lambda console: _show_routed(console, found.decisions, names, document), failure)


def _of_rows(rows: Sequence[Mapping[str, Any]], refused: Sequence[tuple[Lead, str]]) -> list[_Row]:
    """Return the rows of leads that are refused, each with the reason."""
    from partnerml.routing._lead import readable_id

    reasons = {lead.lead_id: reason for lead, reason in refused}
    return [(row, reasons[name]) for row in rows if (name := readable_id(row)) in reasons] if reasons else []


def _one_by_one(
    session: Session, router: Router, leads: Sequence[Lead], now: dt.datetime | None, *, dry_run: bool, jobs: int
) -> _Routed:
    if dry_run:
        return _Routed(router.dry_run(leads, now=now, progress=session.progress))
    decisions, refused = [], []
    for lead in session.progress.track(leads, "route"):
        try:
            decisions.append(router.route(lead, now=now))
        except DataError as error:  # meanwhile it came from elsewhere, with other values
            refused.append((lead, str(error)))
    return _Routed(decisions, refused)


def _at_once(
    session: Session, router: Router, leads: Sequence[Lead], now: dt.datetime | None, *, dry_run: bool, jobs: int
) -> _Routed:
    batch = router.assign(leads, now=now, progress=session.progress, dry_run=dry_run, jobs=jobs)
    told = {key: value for key, value in batch.summary().items() if key not in ("leads", "statuses")}
    return _Routed(batch.decisions, told={"batch": told})


_WAYS = {"online": _one_by_one, "batch": _at_once}


def _refuse(file: Path, aside: Sequence[_Row], total: int, most: float, written: Path | None) -> None:
    """Refuse a file with too many rows that are no leads, before any of it is routed."""
    told = _routed.share_refused(str(file), len(aside), total, most, aside[0][1] if aside else "")
    if told is not None:
        raise DataError(f"{told}. All of them lie in {written} with the reason; nothing was routed")


def _show_routed(
    console: Console, decisions: Sequence[Decision], names: Mapping[str, str], document: Mapping[str, Any]
) -> None:
    """Print the first decisions, one of them in full, and where all of them lie."""
    if decisions:
        _routed.shown(console, "Decisions", decisions, names, asks=not document["dry_run"])
    told = _routed.counted(document["statuses"]) or "none routed"
    _show.say(console, f"{_routed.plural(document['leads'], 'lead')}: {told}")
    if "batch" in document:
        _show.say(console, _of_batch(document["batch"]))
    if document["dry_run"]:
        _show.say(console, "a dry run: no offer was made, and nothing is in the ledger")
    _show.path(console, "decisions", document["path"])
    if document["rejects"] is not None:
        _show.path(console, f"{document['set_aside']:,} set aside", document["rejects"])


def _of_batch(told: Mapping[str, Any]) -> str:
    """Return how good a batch is, in words."""
    if not told["given"] and not told["given_after"]:
        return (
            "none was given out at once: they have decisions already, a rule of engagement named the partner, or "
            "nobody may get them"
        )
    text = (
        f"{told['given']:,} given out at once, their utilities add up to {told['total']:,.2f}; no other way is better "
        f"by more than {100 * told['gap']:.3g} %; {_routed.plural(told['full_partners'], 'partner')} full"
    )
    if told["given_after"]:
        text += f"; of those left over {told['given_after']:,} were given out afterwards, one by one"
    return text + (f"; shares of groups cost {told['price_of_fairness']:,.2f}" if told["shares"] else "")


@command("why-not")
@click.argument("ids", nargs=-1, metavar="[LEAD_ID] PARTNER_ID")
@click.option(
    "--lead", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Ask about a lead in a file, which need not have been routed; LEAD_ID says which, if there are several.",
)  # fmt: skip
@click.option(
    "--audience", type=click.Choice(["vendor", "partner"]), default="vendor", show_default=True,
    help="Who reads it: a partner is told nothing about others.",
)  # fmt: skip
@_routed.now_option
def why_not(
    session: Session, *, ids: tuple[str, ...], file: Path | None, audience: str, now: dt.datetime | None
) -> Result:
    """Tell which rules keep a partner from a lead, with the partner's own facts; nothing is written.

    \b
    Examples:
      partnerml why-not L00021242 P0000934
      partnerml why-not P0000934 --lead lead.jsonl
      partnerml why-not L00021242 P0000934 --audience partner
    """  # noqa: D301
    from partnerml.routing._not_free import NOT_FREE

    lead_id, partner_id = _ids(ids, file)
    with _routed.router_of(session, ledger="there" if file is None else "any") as (_, router):
        lead = lead_id if file is None else _lead_in(file, lead_id)
        assert lead is not None, "without a file there is an id"
        failed = router.why_not(lead, partner_id, now=now, audience=audience)
        name = _routed.names_of(router.snapshot).get(partner_id)
        about = lead if isinstance(lead, str) else str(lead["lead_id"])
        may = all(each.rule in NOT_FREE for each in failed)  # the lead may not, whoever asks for it
        place = stood(router, about, partner_id, audience=audience, now=now) if may else ""
    called = f"{name} ({partner_id})" if name else partner_id
    document = {
        "lead_id": about,
        "partner_id": partner_id,
        "eligible": not failed,
        "failed": [each._asdict() for each in failed],
        **({"in_latest_decision": place} if place else {}),
    }
    if failed:
        first = f"{called} may not get lead {about}:"
        told = [f"  {_routed.kept_out(**each._asdict(), brief=may)}" for each in failed]
    else:
        first, told = f"no rule keeps {called} from lead {about}: it is eligible", []
    told += [f"  in the latest decision: {place}"] if place else []
    return Result(document, _routed.lines(first, *told))


def _ids(ids: tuple[str, ...], file: Path | None) -> tuple[str | None, str]:
    """Return the lead and the partner that were named."""
    if len(ids) == 2:
        return ids[0], ids[1]
    if len(ids) == 1 and file is not None:
        return None, ids[0]
    raise ConfigError(
        "name the lead and the partner: partnerml why-not LEAD_ID PARTNER_ID, or partnerml why-not PARTNER_ID "
        f"--lead FILE; got {len(ids)} name(s)"
    )


def _lead_in(file: Path, lead_id: str | None) -> Mapping[str, Any]:
    """Return a lead of a file: the one that is named, or the only one."""
    from partnerml.routing._lead import readable_id
    from partnerml.routing._lead_files import read_leads

    rows = read_leads(file)
    if lead_id is None:
        if len(rows) > 1:
            raise InputError(f"{file} holds {len(rows):,} leads; say which: partnerml why-not LEAD_ID PARTNER_ID")
        return rows[0]
    found = next((row for row in rows if readable_id(row) == lead_id), None)
    if found is None:
        raise InputError(f"{file} holds no lead {lead_id!r}, among {_routed.plural(len(rows), 'lead')}")
    return found


@command("replay")
@click.argument("decision_id")
@_routed.now_option
def replay(session: Session, *, decision_id: str, now: dt.datetime | None) -> Result:
    """Make a past decision again, from the snapshot, the load and the seed of then, and tell it.

    Ends with 1 if it does not come out the same; told in other words it is the same, and that is said. What was decided
    after --now is not past, and is refused.

    \b
    Example:
      partnerml replay decision-0f5a2c77e1d94b3a8c10
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        decision = router.replay(decision_id, now=now)
        names = _routed.names_of(router.snapshot)
        same = decision.to_json() == router.ledger.text(decision_id)
    first = "comes out the same, byte for byte:" if same else "comes out the same, in other words:"
    return _routed.one(decision, names, first=first, asks=False)
