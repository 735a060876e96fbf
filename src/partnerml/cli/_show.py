"""What the commands print for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from partnerml.demo import Demo, Made
    from partnerml.ecosystem import ValidationReport
    from partnerml.nightly import Night
    from partnerml.scoring import Scores
    from partnerml.training import Outcome

_SHOWN_PARTNERS = 10
_ROWS = {"score:close": "pairs of lead and partner", "score:propensity": "accounts"}
_STYLES = {
    "error": "bold red",
    "warning": "yellow",
    "notice": "dim",
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
}


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """Return an empty table; texts come from data, so nothing in them is taken for markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(Text(column), justify="right" if column in numbers else "left")
    return made


def add(table: Table, *cells: object, style: str | None = None) -> None:
    from rich.text import Text

    table.add_row(*[cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells], style=style)


def _styled(word: str) -> Any:
    from rich.text import Text

    return Text(word, style=_STYLES.get(word, ""))


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, style=style, soft_wrap=True)


def path(console: Console, what: str, place: Path) -> None:
    """Print where an output lies."""
    say(console, f"{what}: {place}")


def init(console: Console, made: Made) -> None:
    """Tell what `init` wrote and what to do next."""
    path(console, "configuration", made.config)
    if made.tables:
        rows = ", ".join(f"{name} {count:,}" for name, count in made.tables.items())
        say(console, f"sample tables (rows): {rows}")
        say(console, f"next: partnerml nightly -c {made.config} --as-of {made.as_of:%Y-%m-%d}")
        if made.leads is not None:
            say(console, f"then: {_route(made)}")
    else:
        say(console, f"next: name your tables in it, then partnerml validate -c {made.config}")


def validation(console: Console, report: ValidationReport, rejects: Sequence[Path] = ()) -> None:
    """Print rows by table and every violation."""
    tables = table("Tables", "table", "rows", "set aside", numbers=("rows", "set aside"))
    for name, rows in report.rows.items():
        add(tables, name, f"{rows:,}", f"{report.set_aside.get(name, 0):,}")
    console.print(tables)
    if report.violations:
        found = table("Violations", "severity", "where", "rule", "rows", "first rows and remedy", numbers=("rows",))
        for violation in report.violations:
            where = f"{violation.table}.{violation.column}" if violation.column else violation.table
            first = ", ".join(str(dict(row)) for row in violation.first[:3])
            told = "\n".join(text for text in (first, violation.remedy) if text)
            add(
                found,
                _styled(violation.severity),
                where,
                violation.rule.replace("_", " "),
                f"{violation.count:,}",
                told,
            )
        console.print(found)
    say(console, f"{len(report.errors)} errors, {len(report.warnings)} warnings, {len(report.notices)} notices")
    for place in rejects:
        path(console, "set aside", place)


def features(console: Console, document: Mapping[str, Any]) -> None:
    """Tell where the features lie."""
    for file in document["files"]:
        what = f"{file['rows']:,} rows, {document['features']} features, fingerprint {file['fingerprint']}"
        say(console, f"{file['as_of']:%Y-%m-%d}: {what}")
        path(console, "features", file["path"])


def trained(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the model beside its baselines, and the verdict."""
    for outcome in outcomes:
        evaluation(console, outcome.task, outcome.metrics)
        verdict = "promoted to champion" if outcome.promoted else "not promoted"
        if "tuning" in outcome.metrics:
            say(console, f"{outcome.task}: {outcome.metrics['tuning']['reason']}")
        say(console, f"{outcome.task} {outcome.version}: {verdict}; {outcome.verdict}")
        if outcome.card is not None:
            path(console, "card", outcome.card)


_METRICS = ("auc", "average_precision", "brier", "log_loss", "mean_prediction")


def evaluation(console: Console, task: str, found: Mapping[str, Any]) -> None:
    """Print the metrics of a model beside its baselines, with 95 % intervals."""
    title = (
        f"{task}: out of time, {found['rows']:,} rows of {found['partners']:,} partners, "
        f"base rate {found['models']['model']['base_rate']['estimate']:.4f}; below each figure its 95 % interval"
    )
    columns = ("model", "AUC", "average precision", "Brier", "log loss", "mean prediction", "log loss above model's")
    shown = table(title, *columns, numbers=columns[1:])
    for name, metrics in sorted(found["models"].items(), key=lambda item: (item[0] != "model", item[0])):
        cells = [_interval(metrics[metric]) for metric in _METRICS]
        difference = (
            "" if name == "model" else _interval(_reversed(found["differences"][name]["log_loss"]), signed=True)
        )
        add(shown, name, *cells, difference, style="bold" if name == "model" else None)
    shown.columns[0].no_wrap = True
    console.print(shown)


def _reversed(difference: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return baseline minus model: above 0, the model is better."""
    low, high, middle = difference["low"], difference["high"], difference["difference"]
    negated = [None if value is None else -value for value in (middle, high, low)]
    return dict(zip(("estimate", "low", "high"), negated, strict=True))


def _interval(found: Mapping[str, float | None], *, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    texts = [_number(found[key], form) for key in ("estimate", "low", "high")]
    return f"{texts[0]}\n{texts[1]} {texts[2]}"


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None or math.isnan(value) else format(value, form)


def scored(console: Console, found: Sequence[tuple[Scores, Path]], names: Mapping[str, str]) -> None:
    """Print who is most at risk, and where the scores lie."""
    for scores, place in found:
        by_band = scores.frame["band"].astype(str).value_counts()
        bands = ", ".join(f"{by_band.get(band, 0):,} {band}" for band in ("critical", "high", "medium", "low"))
        if scores.task == "churn":
            top(console, f"{scores.task}: whom to call first", scores.frame, names)
        else:
            highest(console, f"{scores.task}: the highest scores", scores, names)
        say(console, f"{len(scores):,} rows scored by model {scores.model_version}: {bands}")
        path(console, "scores", place)


def highest(console: Console, title: str, scores: Scores, names: Mapping[str, str]) -> None:
    """Print the highest scores of a task, each with its first reason."""
    columns = (*(name.removesuffix("_id") for name in scores.key), "score", "percentile", "first reason")
    shown = table(title, *columns, numbers=("score", "percentile"))
    for row in scores.frame.head(_SHOWN_PARTNERS).to_dict("records"):
        keys = [str(row[name]) for name in scores.key]
        called = [f"{names[key]} ({key})" if key in names else key for key in keys]
        reasons = list(row["reasons"])
        first = reasons[0]["text"] if reasons else ""
        add(shown, *called, f"{row['score']:.3f}", f"{row['percentile']:.0f}", first)
    console.print(shown)


def top(console: Console, title: str, frame: pd.DataFrame, names: Mapping[str, str]) -> None:
    """Print the partners to call first, each with its first reason."""
    from partnerml.report import call_first

    columns = ("partner", "risk", "band", "trend", "revenue at risk", "first reason")
    shown = table(title, *columns, numbers=("risk", "revenue at risk"))
    for row in call_first(frame, _SHOWN_PARTNERS).to_dict("records"):
        key = str(row["partner_id"])
        partner = f"{names[key]} ({key})" if key in names else key
        reasons = list(row["reasons"])
        money = "" if math.isnan(row["revenue_at_risk"]) else f"{row['revenue_at_risk']:,.0f}"
        trend = "" if row["trend"] is None else str(row["trend"])
        first = reasons[0]["text"] if reasons else ""
        add(shown, partner, f"{100 * row['score']:.0f} %", _styled(str(row["band"])), trend, money, first)
    console.print(shown)


def rolled_back(console: Console, document: Mapping[str, Any]) -> None:
    """Tell who is champion now."""
    say(console, f"champion of {document['task']}: version {document['version']}, model {document['model_version']}")


def night(console: Console, done: Night) -> None:
    """Print the stages of a night and where its outputs lie."""
    shown = table(f"Night of {done.as_of:%Y-%m-%d}", "stage", "status", "")
    told: set[str] = set()
    for stage in done.stages:
        status = f"{stage.status}, as before" if stage.repeated else stage.status
        # what is not trained is not scored, for the same reason
        reason = "as above" if stage.reason in told else stage.reason
        told |= {stage.reason} - {""}
        add(shown, stage.name, status, reason or _facts(stage.name, stage.facts))
    console.print(shown)
    path(console, "report", done.report)


def _facts(stage: str, facts: Mapping[str, Any]) -> str:
    if "snapshot_id" in facts:
        return f"snapshot {facts['snapshot_id']}, by model {facts['model_version']}"
    if "model_version" in facts and "rows" in facts:
        return f"{facts['rows']:,} {_ROWS.get(stage, 'partners')} by model {facts['model_version']}"
    if "model_version" in facts:
        return f"champion {facts['model_version']}"
    return str(facts.get("path", ""))


def demo(console: Console, shown: Demo) -> None:
    """Print what a first-time reader wants to see: the data, how good the models are, whom to call, who gets a lead."""
    from partnerml.cli import _routed

    validation(console, shown.night.validation)
    if shown.evaluation is not None:
        evaluation(console, "churn", shown.evaluation)
    if shown.scores is not None:
        top(console, "Whom to call first", shown.scores, shown.names)
    night(console, shown.night)
    if shown.decisions:
        _routed.shown(console, "Who gets the leads of the morning", shown.decisions, shown.names)
    again = f"partnerml nightly -c {shown.made.config} --as-of {shown.made.as_of:%Y-%m-%d}"
    say(console, f"open the report in a browser; another night: {again}")
    if shown.decisions:
        say(console, f"the same leads get the same decisions: {_route(shown.made)}")


def _route(made: Made) -> str:
    """Return the command that routes the leads of a sample."""
    out = made.config.parent / "out" / "decisions.parquet"
    return f"partnerml route -c {made.config} --leads {made.leads} --out {out} --now {made.morning:%Y-%m-%dT%H:%M}"
