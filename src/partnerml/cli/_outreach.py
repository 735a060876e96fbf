"""The command `outreach`: whom to call first, and about what."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

import click

from partnerml.cli import _show
from partnerml.cli._app import MOMENT, Result, Session, command

if TYPE_CHECKING:
    from rich.console import Console

    from partnerml.outreach import Outreach

_SHOWN = 15


@command("outreach")
@click.option(
    "--as-of", type=MOMENT, required=True, metavar="DATE", help="Use what was known before 00:00 UTC of this date."
)
@click.option(
    "--capacity", type=click.IntRange(min=1), help="How many partners can be called [default: outreach.capacity]."
)
def outreach(session: Session, *, as_of: dt.datetime, capacity: int | None) -> Result:
    """Rank the partners to call, with the reason and what to do: OUT/outreach/date=DATE/outreach.csv.

    The order is risk x revenue x how much can be done about the reason; the champion of churn tells the risk. Calls
    that are not worth their cost (outreach.cost_of_contact) are left out, and so is who was contacted lately
    (outreach.contact_events).

    \b
    Examples:
      partnerml outreach --as-of 2026-06-01 --capacity 40
      partnerml outreach --as-of 2026-06-01 --set outreach.cost_of_contact=80 --set outreach.save_rate=0.2
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    from partnerml import nightly, outputs, tasks
    from partnerml.outreach import recommend_outreach

    with session.ecosystem() as eco, outputs.lock(eco.config.out, purpose="partnerml outreach"):
        model = nightly.registry_of(eco.config).champion("churn")
        nightly.warn_if_trained_later(model, as_of)
        found = recommend_outreach(
            eco,
            model,
            as_of=as_of,
            capacity=capacity,
            cells=tasks.cells_of(eco, until=as_of),
            progress=session.progress,
        )
        folder = found.write(eco.config.out)
    document = {
        "as_of": found.as_of,
        "model_version": found.model_version,
        **found.summary,
        "path": folder,
        "partners": found.frame.drop(columns=["as_of", "model_version"]).to_dict("records"),
    }

    def show(console: Console) -> None:
        _list(console, found)
        _show.path(console, "outreach", folder)

    return Result(document, show)


def _list(console: Console, found: Outreach) -> None:
    """Print whom to call, and what that is expected to bring."""
    columns = ("", "partner", "risk", "trend", "revenue at risk", "about", "reason")
    shown = _show.table("Whom to call first", *columns, numbers=("", "risk", "revenue at risk"))
    for row in found.frame.head(_SHOWN).to_dict("records"):
        partner = row["partner_id"] if not isinstance(row["name"], str) else f"{row['name']} ({row['partner_id']})"
        money = "" if math.isnan(row["revenue_at_risk"]) else f"{row['revenue_at_risk']:,.0f}"
        risk, trend = f"{100 * row['score']:.0f} %", row["trend"] or ""
        _show.add(shown, row["rank"], partner, risk, trend, money, row["kind"], row["reason"])
    console.print(shown)
    # one action a kind: said once, the rows stay short
    for kind, action in sorted(set(zip(found.frame["kind"], found.frame["action"], strict=True))):
        _show.say(console, f"{kind}: {action}")
    for line in _sentences(found):
        _show.say(console, line)


def _sentences(found: Outreach) -> list[str]:
    told = found.summary
    lines = [
        f"{told['contacts']:,} of {told['scored']:,} partners to call; {told['expected_churn']:.0f} of them are "
        f"expected to go quiet, of {told['expected_churn_of_all']:.0f} in all"
    ]
    if told["paused"]:
        lines.append(f"{told['paused']:,} more were contacted lately and are left out")
    if told["expected_value"] is not None:
        what = (
            "the calls are expected to save" if told["save_rate"] < 1 else "the calls can save, if each of them works,"
        )
        cost = f" after their cost of {told['cost']:,.0f}" if told["cost"] else ""
        lines.append(
            f"{what} {told['expected_value']:,.0f}{cost} (95 % range {told['low']:,.0f} to {told['high']:,.0f}); "
            f"calling the others would add {told['missed_value']:,.0f}"
        )
    return lines
