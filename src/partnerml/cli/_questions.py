"""The commands that ask the ledger and write nothing into it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partnerml.cli import _routed, _show
from partnerml.cli._app import MOMENT, Result, Session, command
from partnerml.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from partnerml.routing import Router

_SHOWN = 50


@command("queue")
@_routed.now_option
def queue(session: Session, *, now: dt.datetime | None) -> Result:
    """List the leads that a person must decide, who waits longest first: nobody works on them, and nobody is asked.

    They are those whose latest decision is a fallback, those that repeat a lead of the tables which no partner has and
    which was never routed, and those of partners that have left. `partnerml override` gives one to a partner, which
    takes it off the list; `partnerml withdraw` lets one of a partner that has left go on to the next. With --now they
    are those of that moment.

    \b
    Examples:
      partnerml queue
      partnerml queue --json
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    with _routed.router_of(session) as (_, router):
        found = rows_of(router.queue(now=now))

    def show(console: Console) -> None:
        if not found:
            _show.say(console, "no lead waits for a person")
            return
        shown = _show.table("Leads to decide", "lead", "since", "company", "asked", "why", numbers=("asked",))
        for row in found[:_SHOWN]:
            _show.add(shown, row["lead_id"], _minute(row["since"]), _company(row), row["asked"], row["why"])
        console.print(shown)
        _more(console, len(found))
        own = sum(row["waits"] for row in found)
        _show.say(console, _routed.plural(len(found), "lead"))
        if own:
            text = "of them partnerml expire decides, once a newer snapshot is there or what failed is mended"
            _show.say(console, f"  {own:,} {text}")
        _show.say(console, '  give one with: partnerml override LEAD_ID PARTNER_ID --by "..." --reason "..."')

    return Result({"leads": found}, show)


@command("history")
@click.argument("lead_id")
@_routed.now_option
def history(session: Session, *, lead_id: str, now: dt.datetime | None) -> Result:
    """Tell everything that happened to a lead, in order: decisions, offers, answers, outcomes, who said so and why.

    What happened after --now is left out.

    \b
    Example:
      partnerml history L00021242
    """  # noqa: D301
    with _routed.ledger_of(session) as (_, ledger):
        found = rows_of(ledger.history(lead_id, now=now))
    if not found:
        raise InputError(f"lead {lead_id!r} was never routed: there is nothing of it in the ledger{_by(now)}")

    def show(console: Console) -> None:
        shown = _show.table(f"Lead {lead_id}", "when", "what", "partner", "id", "by", "why")
        for row in found:
            words = row["what"] if row["status"] is None else f"{row['what']}: {row['status'].replace('_', ' ')}"
            told = (words, row["partner_id"], row["offer_id"] or row["decision_id"], row["by"], row["reason"])
            _show.add(shown, _minute(row["at"]), *("" if cell is None else cell for cell in told))
        console.print(shown)

    return Result({"lead_id": lead_id, "history": found}, show)


@command("for-partner")
@click.argument("lead_id")
@click.argument("partner_id")
@_routed.now_option
def for_partner(session: Session, *, lead_id: str, partner_id: str, now: dt.datetime | None) -> Result:
    """Tell what a partner may be told of the latest decision on a lead: its own rank and facts, and nobody else's.

    What was decided after --now is left out.

    \b
    Example:
      partnerml for-partner L00021242 P0000934
    """  # noqa: D301
    with _routed.router_of(session) as (_, router):
        found = router.for_partner(lead_id, partner_id, now=now)
    place = f", rank {found['rank']} of {found['n_eligible']:,} eligible" if found["rank"] else ""
    failed = found["failed"]
    first = f"lead {lead_id}: {'yours' if found['yours'] else found['status'].replace('_', ' ')}{place}"
    told = [*found["facts"], *found["reasons"], *([_routed.kept_out(**failed, brief=True)] if failed else [])]
    return Result(found, _routed.lines(first, *(f"  {words}" for words in told)))


def stood(router: Router, lead_id: str, partner_id: str, *, audience: str, now: dt.datetime | None = None) -> str:
    """Return where an eligible partner stood in the latest decision on a lead by now, in words; empty if it did not."""
    from partnerml.routing._own_view import rank_of

    decision_id = router.ledger.latest(lead_id, now=now)
    if decision_id is None:
        return ""
    decision = router.decision(decision_id)
    told = decision.place_of(partner_id, audience=audience)
    if told:
        return told
    vector = router.ledger.vector(decision_id)
    if vector is None:  # nobody was ranked: a rule of engagement named the partner, or a batch left the lead over
        return ""
    rank = rank_of(decision, vector, partner_id)
    return f"rank {rank} of {decision.n_eligible:,} eligible" if rank else "it was not among those considered"


@command("export")
@click.argument("what", type=click.Choice(["assignments", "decisions", "vectors"]))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Where it goes: .parquet or .csv."
)
@_routed.now_option
def export(session: Session, *, what: str, out: Path, now: dt.datetime | None) -> Result:
    """Write what training and evaluation learn from: all that the ledger holds, as a table.

    assignments: the canonical table, with answers, outcomes and propensities. decisions: each with what was expected
    of it. vectors: who each policy chose from, and with what probabilities.

    With --now it is of the ledger as it was at that moment: what was decided, answered and closed by then.

    \b
    Example:
      partnerml export assignments --out routed.parquet
    """  # noqa: D301
    from partnerml.routing._decision_files import check_export, write_export

    check_export(out)
    with _routed.ledger_of(session) as (_, ledger):
        frame = ledger.export(what, now=now)
    write_export(frame, out)

    def show(console: Console) -> None:
        _show.path(console, f"{len(frame):,} rows of {what}", out)

    return Result({"what": what, "rows": len(frame), "path": out}, show)


@command("simulate")
@click.argument("day", type=MOMENT)
@click.option("--days", type=click.IntRange(min=1), default=1, show_default=True, help="How many days.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where all rows go, changed or not: .parquet or .csv.",
)
@_routed.now_option
def simulate(session: Session, *, day: dt.datetime, days: int, out: Path | None, now: dt.datetime | None) -> Result:
    """Set who would have got the leads of a past day by the rules of the configuration beside who does as published.

    As they are now, published or not: try rules with --set. Both are made anew in the same way: leads come as they
    came, from what partners held when the day began, and partners are supposed to keep what they would have been
    offered. What really was is told beside. Nothing is written into the ledger. Leads that were decided after --now
    are left out.

    \b
    Examples:
      partnerml simulate 2026-06-01
      partnerml simulate 2026-06-01 --days 7 --set routing.rules.language.enabled=false --out beside.csv
    """  # noqa: D301
    from partnerml.routing._decision_files import check_export, write_export

    if out is not None:
        check_export(out)
    with _routed.router_of(session, compares=True) as (config, router):
        frame = router.simulate(day, config=config.routing, days=days, now=now, progress=session.progress)
        names = _routed.names_of(router.snapshot)
    if out is not None:
        write_export(frame, out)
    changed = rows_of(frame[frame["changed"]])
    document = {
        "day": day, "days": days, "leads": len(frame), "changed": len(changed),
        **{name: frame.attrs[name] for name in ("of_batch", "differs")}, "changes": changed, "path": out,
    }  # fmt: skip

    def show(console: Console) -> None:
        if changed:
            shown = _show.table("What would change", "lead", "as published", "would be", "why")
            for row in changed[:_SHOWN]:
                published, would = (_who(row, side, names) for side in ("published", "would"))
                _show.add(shown, row["lead_id"], published, would, row["would_why"])
            console.print(shown)
            _more(console, len(changed))
        _show.say(
            console,
            f"{_routed.plural(len(frame), 'lead')}: {len(changed):,} would go otherwise than by the published rules, "
            f"both made anew; by the published ones {frame.attrs['differs']:,} go otherwise than they did",
        )
        if out is not None:
            _show.path(console, "all of them", out)

    return Result(document, show)


def _who(row: dict[str, Any], side: str, names: dict[str, str]) -> str:
    """Return who gets a lead, or why nobody does."""
    partner, status = row[f"{side}_partner_id"], str(row[f"{side}_status"]).replace("_", " ")
    called = "" if partner is None else f"{names[partner]} ({partner})" if partner in names else str(partner)
    return called if status == "assigned" else f"{status} {called}".strip()


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON has them: moments as Python's, and None for no value."""
    import pandas as pd

    plain = frame.astype(object)
    return [
        {
            str(name): None if pd.isna(value) else value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
            for name, value in row.items()
        }
        for row in plain.to_dict("records")
    ]


def _company(row: dict[str, Any]) -> str:
    """Return who a lead is, as far as it is known."""
    return ", ".join(str(row[name]) for name in ("account_name", "country") if row[name] is not None)


def _by(now: dt.datetime | None) -> str:
    return "" if now is None else f" by {now:%Y-%m-%d %H:%M} UTC"


def _minute(moment: Any) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _more(console: Console, count: int) -> None:
    if count > _SHOWN:
        _show.say(console, f"and {count - _SHOWN:,} more")
