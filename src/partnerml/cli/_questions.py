"""The commands that ask the ledger and write nothing into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from partnerml.cli import _routed, _show
from partnerml.cli._app import Result, Session, command

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_SHOWN = 50


@command("queue")
def queue(session: Session) -> Result:
    """List the leads that a person must decide, who waits longest first: nobody has them, and nobody is asked.

    They are those whose latest decision is a fallback. `partnerml override` gives one to a partner, which takes it off
    the list.

    \b
    Examples:
      partnerml queue
      partnerml queue --json
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    with _routed.ledger_of(session) as (_, ledger):
        found = rows_of(ledger.queue())

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
        _show.say(
            console, f"{_routed.plural(len(found), 'lead')}" + (f", {own:,} of them until a publish" if own else "")
        )
        _show.say(console, '  give one with: partnerml override LEAD_ID PARTNER_ID --by "..." --reason "..."')

    return Result({"leads": found}, show)


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


def _minute(moment: Any) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _more(console: Console, count: int) -> None:
    if count > _SHOWN:
        _show.say(console, f"and {count - _SHOWN:,} more")
