"""The command `card`: the card of a registered model."""

from __future__ import annotations

import click

from partnerml.cli import _show
from partnerml.cli._app import Result, Session, command


@command("card")
@click.argument("task")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Of the registry [default: the champion].")
def card(session: Session, *, task: str, version: int | None) -> Result:
    """Write the card of TASK's champion as HTML and Markdown: OUT/models/TASK/VERSION/.

    What it is for, how good it is beside its baselines, where it ends, what made it. `train` writes the card of every
    model; this writes it again, for a model that was trained elsewhere, say.

    \b
    Examples:
      partnerml card churn
      partnerml card churn --version 3
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    from partnerml import nightly, outputs, report, tasks

    config = session.load()
    name = tasks.configured(config, task).name
    with outputs.lock(config.out, purpose="partnerml card"):
        registry = nightly.registry_of(config)
        model = registry.champion(name) if version is None else registry.load(f"models:/{name}/{version}")
        folder = report.write_card(report.card_files(model), report.card_folder(config.out, name, model.version))
    document = {"task": name, "model_version": model.version, "path": folder}
    return Result(document, lambda console: _show.path(console, f"card of {name} {model.version}", folder))
