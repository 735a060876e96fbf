"""Directives whose content is read off the code, so that reference pages cannot fall behind it.

Each function returns Markdown. The tests call the same functions, to see every name and default on its page.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

TYPE_WORDS = {
    "id": "id",
    "text": "text",
    "slug": "slug",
    "timestamp": "moment",
    "number": "number",
    "amount": "amount",
    "integer": "integer",
    "share": "share, 0 to 1",
    "boolean": "true/false",
    "list": "list of text",
    "country": "country, ISO 3166-1 alpha-2",
    "region": "region, ISO 3166-2",
    "currency": "currency, ISO 4217",
    "time_zone": "time zone, IANA",
    "latitude": "degrees, -90 to 90",
    "longitude": "degrees, -180 to 180",
}


WIDTH = 88  # of help texts: what fits beside the table of contents


def pipe_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    head = list(head)
    lines = [_line(head), _line("---" for _ in head), *(_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def code(text: str) -> str:
    """Return a text in backticks, or nothing for an empty one."""
    return f"`{text}`" if text else ""


# what a column means, where its name and type do not say it; `table.column` wins over `column`
MEANINGS: Mapping[str, str] = {
    "partner_id": "the partner",
    "partners.partner_id": "the partner; every other table refers to it",
    "joined_at": "when it became a partner",
    "left_at": "when it ceased to be one",
    "name": "how to call it in reports",
    "partner_type": "such as `reseller`, `integrator`, `msp`",
    "tier": "such as `gold`",
    "parent_id": "the partner that it belongs to",
    "country": "where it is",
    "region": "state or province",
    "postal_code": "as written, leading zeros kept",
    "time_zone": "whose days and weeks count",
    "verticals": "dotted codes such as `manufacturing.automotive`",
    "languages": "languages spoken",
    "capacity_per_day": "leads that it takes a day",
    "capacity_per_week": "leads that it takes a week",
    "max_open_leads": "leads that it holds at once",
    "paused_until": "takes no leads before",
    "min_deal_amount": "smallest deal that it takes",
    "max_deal_amount": "largest deal that it takes",
    "flags": "compliance, ESG and the like",
    "valid_from": "from when the row holds",
    "valid_to": "until when the row holds",
    "event_id": "the event, where events have ids; none may come twice",
    "occurred_at": "when it happened",
    "event_type": "what happened",
    "value": "a number to sum, such as an amount or minutes",
    "actor": "who acted; only the partner's own acts are its activity",
    "recorded_at": "when it first entered the source",
    "closed_recorded_at": "when the closing first entered the source",
    "deal_id": "the deal",
    "deals.partner_id": "the partner that registered it; null is a direct deal",
    "registered_at": "when it was registered or created",
    "outcome": "what came of it",
    "closed_at": "when it was actually closed; null while open",
    "expected_close_at": "when it was expected to close",
    "amount": "what it is worth",
    "currency": "of the amount",
    "account_id": "the customer",
    "lead_id": "the lead",
    "vertical": "the customer's industry",
    "product": "what is sold",
    "role": "whether the partner brought it or helped",
    "registration_status": "of the registration",
    "protected_until": "how long the registration protects it",
    "stage": "stage of the pipeline",
    "is_primary": "whether revenue goes to this partner where no share is given",
    "share": "of the revenue",
    "certification": "which one",
    "earned_at": "when it was earned",
    "expires_at": "when it expires",
    "revoked_at": "when it was taken away",
    "created_at": "when it was created",
    "is_partner": "whether it is a partner now",
    "partner_since": "when it became one",
    "accounts.partner_id": "the partner that it became",
    "owner_partner_id": "the partner that owns the account",
    "domain": "registrable domain, such as `acme.co.uk`",
    "account_name": "the customer's name",
    "required_certifications": "what the partner must hold",
    "excluded_partners": "who must not get it",
    "source_partner_id": "the partner that handed it in",
    "consent": "whether it may be passed on",
    "assigned_at": "when it was given to the partner",
    "propensity": "probability with which this partner was chosen",
    "explores": "whether the choice was made to learn",
    "response": "what the partner said",
    "responded_at": "when it said so",
    "origin": "who decided",
    "policy": "by which policy",
    "postal_prefix": "first characters of the postal code",
    "radius_km": "around the coordinates",
    "exclusive": "whether others are shut out",
    "latitude": "",
    "longitude": "",
}


def canonical_table(name: str) -> str:
    """Columns of one canonical table."""
    from partnerml.schema import TABLES

    table = TABLES[name]
    rows = [(code(c.name), TYPE_WORDS[c.type.value], _meaning(table, c)) for c in table.columns]
    key = ", ".join(map(code, table.key)) if table.key else "none"
    more = " Other columns may ride along as traits." if table.open_columns else ""
    return f"Key: {key}.{more}\n\n" + pipe_table(("column", "type", "what it is"), rows)


def _meaning(table: Any, column: Any) -> str:
    # a name without an entry raises: new columns want words
    own = MEANINGS.get(f"{table.name}.{column.name}")
    notes = ["**required**" if column.required else "", MEANINGS[column.name] if own is None else own]
    notes += [f"a `{r.key}` of `{r.table}`" for r in table.references if r.column == column.name]
    notes += [f"dates `{moment}`" for moment, recorded in table.recorded if recorded == column.name]
    if column.values:
        notes.append("one of " + ", ".join(map(code, column.values)))
    if column.default is not None:
        notes.append(f"null means `{column.default}`")
    return "; ".join(filter(None, notes))


def config_keys(_: str = "") -> str:
    """Every key of the configuration with its type, default and meaning."""
    from partnerml.config import describe

    rows = ((code(k.key), k.type, code(k.default), k.meaning) for k in describe())
    return pipe_table(("key", "type", "default", "meaning"), rows)


def command_help(name: str = "") -> str:
    """The help text of one command, as the terminal shows it."""
    import click

    from partnerml.cli import app

    # a command keeps the help option that it is first asked for: with the names of the program, then
    names = app.context_settings["help_option_names"]
    context = click.Context(
        app, info_name="partnerml", max_content_width=WIDTH, terminal_width=WIDTH, help_option_names=names
    )
    command: click.Command = app
    if name:
        command = app.commands[name]
        context = click.Context(command, parent=context, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH)
    return f"```text\n{command.get_help(context)}\n```\n"


def error_types(_: str = "") -> str:
    """Every error type with the exit code of the command line and what it means."""
    from partnerml import errors

    types = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.PartnermlError) and found.__module__ == errors.__name__
    ]
    types.sort(key=lambda found: inspect.getsourcelines(found)[1])
    rows = ((code(found.__name__), _exit_code(found), _first_line(found)) for found in types)
    return pipe_table(("error", "exit code", "raised when"), rows)


def _exit_code(found: type) -> str:
    from partnerml.errors import InputError, InternalError

    return "2" if issubclass(found, InputError) else "1" if issubclass(found, InternalError) else ""


def _first_line(found: Any) -> str:
    return (inspect.getdoc(found) or "").split("\n")[0]


def measures(_: str = "") -> str:
    """Every measure by what it is about: what it says, what of, over which windows, and when it is null."""
    from partnerml.features import MEASURES, Feature, describe

    parts = []
    for title, entries in _by_subject(MEASURES):
        rows = []
        for entry in entries:
            info = describe(Feature.example(entry))
            rows.append((code(entry.name), info.words, _kinds(entry), _windows(entry), info.unit, info.null_rule))
        head = ("measure", "says", "of", "windows", "unit", "missing means")
        parts.append(f"**{title}**\n\n{pipe_table(head, rows)}")
    return "\n".join(parts)


def _kinds(entry: Any) -> str:
    """What a measure can be about: sources, and the kinds of those that do not have it for all of theirs."""
    from partnerml.features._measure import ANY
    from partnerml.features._measures import STREAMS

    told = []
    for source, kinds in entry.on.items():
        everything = kinds in (ANY, STREAMS.get(source))
        told.append(source if everything else f"{source} {', '.join(kinds)}")
    return "; ".join(told)


def _windows(entry: Any) -> str:
    from partnerml.features._measure import DAYS_OR_EVER, FORMS

    example = FORMS[entry.window][1]
    return f"{code(example)} {code('ever')}" if entry.window == DAYS_OR_EVER else code(example)


def _by_subject(entries: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    """Group measures by the part of the engine that builds them, in the order of the table."""
    titles = {
        "windows": "What happened in a window",
        "deals": "Deals as they stood",
        "certifications": "Certifications as they stood",
        "traits": "What a partner is",
        "pairs": "How a lead and a partner suit each other",
    }
    groups: dict[str, list[Any]] = {}
    for entry in entries:
        groups.setdefault(titles[entry.family.value], []).append(entry)
    return list(groups.items())


def catalogue(task: str = "churn") -> str:
    """The features that a task takes by default of a programme that has every table, one line for each measure."""
    from partnerml.cli._catalogue import COLUMNS, by_subject, lines

    parts = []
    for title, found in by_subject(lines(_dictionary(task))):
        rows = ((code(measure), *rest) for measure, *rest in (line.cells for line in found))
        parts.append(f"**{title}**\n\n{pipe_table(COLUMNS, rows)}")
    return "\n".join(parts)


@functools.cache
def _dictionary(task: str) -> Any:
    """Return the default dictionary of a task over a small synthetic programme."""
    from partnerml import Ecosystem
    from partnerml.features import default_catalogue, dictionary
    from partnerml.synthetic import simulate

    world = simulate(partners=60, months=12, seed=0)
    with Ecosystem.from_frames(now=world.end, **world.tables) as eco:
        catalogue = default_catalogue(eco, before=world.end, task=task)
        return dictionary(eco, catalogue, at_joining=task == "fit")


DIRECTIVES: Mapping[str, Callable[[str], str]] = {
    "canonical-table": canonical_table,
    "config-keys": config_keys,
    "command-help": command_help,
    "error-types": error_types,
    "measures": measures,
    "catalogue": catalogue,
}


def setup(app: Any) -> dict[str, Any]:
    """Register the directives with Sphinx."""
    from sphinx.util.docutils import SphinxDirective

    def directive(make: Callable[[str], str]) -> type[SphinxDirective]:
        class FromCode(SphinxDirective):
            optional_arguments = 1

            def run(self) -> list[Any]:
                text = make(self.arguments[0] if self.arguments else "")
                return self.parse_text_to_nodes(text)

        return FromCode

    for name, make in DIRECTIVES.items():
        app.add_directive(name, directive(make))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
