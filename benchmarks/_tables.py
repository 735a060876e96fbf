"""What `partnerml.models.evaluate` returned, as tables: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN = ("auc", "average_precision", "brier", "log_loss", "ece", "mean_prediction")
PAIRED = ("auc", "brier", "log_loss")


def print_report(report: Mapping[str, Any], *, title: str, unit: str) -> None:
    """Print the metrics of each model, and how the first differs from each of the others.

    Parameters
    ----------
    report : mapping
    title : str
    unit : str
        What the bootstrap draws, in the plural.
    """
    console = Console(width=150)
    table = Table("model", title=title)
    for metric in SHOWN:
        table.add_column(metric, justify="right")
    for name, values in report["models"].items():
        table.add_row(name, *(_span(values[metric], "estimate", ".4f", ".3f") for metric in SHOWN))
    console.print(table)
    paired = Table("baseline", title=f"model minus baseline, paired 95 % intervals by bootstrap over {unit}")
    for metric in PAIRED:
        paired.add_column(metric, justify="right")
    for name, differences in report["differences"].items():
        paired.add_row(name, *(_span(differences[metric], "difference", "+.4f", "+.4f") for metric in PAIRED))
    console.print(paired)


def _span(found: Mapping[str, float], middle: str, form: str, edges: str) -> str:
    return f"{found[middle]:{form}} [{found['low']:{edges}}, {found['high']:{edges}}]"
