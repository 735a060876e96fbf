"""The command `features`: what a task knows of its rows, as Parquet by date, or what there is to know."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partnerml.cli import _catalogue, _show
from partnerml.cli._app import MOMENT, Result, Session, command
from partnerml.errors import ConfigError, NotEnoughDataError
from partnerml.moments import is_midnight

if TYPE_CHECKING:
    from partnerml.dataset import Dataset
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import Catalogue

FEATURES, DICTIONARY = "features.parquet", "dictionary.json"


@command("features")
@click.argument("task")
@click.option(
    "--as-of",
    "as_ofs",
    type=MOMENT,
    required=True,
    multiple=True,
    metavar="DATE",
    help="Use what was known before 00:00 UTC of this date; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder [default: OUT/features/TASK/date=DATE]; with several dates, that of their folders.",
)
@click.option("--rebuild", is_flag=True, help="Read all events anew into the cells (features.cells: true).")
@click.option("--describe", is_flag=True, help="Print what there is to know, by subject, and write nothing.")
def features(
    session: Session, *, task: str, as_ofs: tuple[dt.datetime, ...], out: Path | None, rebuild: bool, describe: bool
) -> Result:
    """Build the features of TASK, as features.parquet with dictionary.json beside it.

    TASK is churn (active partners), fit (partners and recruits as they were at joining), propensity (accounts that are
    not partners) or close (pairs of lead and partner as they were when assigned). Several dates get the same columns:
    those found before the first of them.

    \b
    Examples:
      partnerml features churn --as-of 2026-06-01
      partnerml features churn --as-of 2026-05-01 --as-of 2026-06-01
      partnerml features close --as-of 2026-06-01 --describe
    """  # noqa: D301 (click reads \b as: leave the lines as they are)
    from partnerml import outputs, tasks

    moments = sorted(set(as_ofs))
    with session.ecosystem() as eco:
        catalogue = tasks.feature_catalogue(eco, task, before=moments[0])
        if describe:
            return _described(eco, task, catalogue)
        folders = {moment: _folder(eco, task, moment, out, several=len(moments) > 1) for moment in moments}
        with outputs.lock(eco.config.out, purpose="partnerml features"), session.progress.stage("features"):
            cells = tasks.cells_of(eco, until=moments[-1], rebuild=rebuild)
            built = tasks.build_features(eco, task, moments, catalogue=catalogue, cells=cells)
            for moment, data in built.items():
                if not len(data):
                    raise _nobody(eco, task, moment)
            files = [_written(data, moment, folders[moment]) for moment, data in built.items()]
    document = {"task": task, "features": len(catalogue.features), "files": files}
    return Result(document, lambda console: _show.features(console, document))


def _described(eco: Ecosystem, task: str, catalogue: Catalogue) -> Result:
    from partnerml.features import dictionary, missing

    infos, absent = dictionary(eco, catalogue, at_joining=task == "fit"), missing(eco, task)
    document = {
        "task": task,
        "features": len(infos),
        "catalogue": catalogue.to_dict(),
        "dictionary": [info.to_dict() for info in infos],
        "absent": {name: list(measures) for name, measures in absent.items()},
    }
    return Result(document, lambda console: _catalogue.show(console, infos, absent))


def _folder(eco: Ecosystem, task: str, moment: dt.datetime, out: Path | None, *, several: bool) -> Path:
    """Return where the features of a moment go.

    Raises
    ------
    ConfigError
        If it is filed by day and no midnight, or if the folder holds something else, which would be lost.
    """
    if (out is None or several) and not is_midnight(moment):
        alone = "" if several else "; or name --out"
        raise ConfigError(
            f"features are filed by day: --as-of must be 00:00 UTC of one, got {moment.isoformat()}{alone}"
        )
    day = f"date={moment:%Y-%m-%d}"
    if out is None:
        return eco.config.out / "features" / task / day
    folder = (out / day if several else out).absolute()
    others = (
        sorted(path.name for path in folder.iterdir() if path.name not in (FEATURES, DICTIONARY))
        if folder.is_dir()
        else []
    )
    if others:
        raise ConfigError(
            f"--out {out}: the folder holds {len(others)} other entries (the first is {others[0]}), and it is replaced "
            "as a whole; name a folder of its own"
        )
    return folder


def _written(data: Dataset, moment: dt.datetime, folder: Path) -> Mapping[str, Any]:
    """Write features and their dictionary together: both are there, or neither."""
    from partnerml import outputs

    with outputs.whole_folder(folder) as fresh:
        outputs.write_json(fresh / DICTIONARY, [info.to_dict() for info in data.dictionary])
        outputs.write_parquet(data.keys.join(data.X), fresh / FEATURES)
    return {"as_of": moment, "rows": len(data), "fingerprint": data.fingerprint, "path": folder / FEATURES}


def _nobody(eco: Ecosystem, task: str, moment: dt.datetime) -> NotEnoughDataError:
    from partnerml import tasks

    if task == "churn":
        return tasks.nobody(eco, tasks.configured(eco.config, task), moment)
    what = {
        "fit": "no partner and no recruit had joined",
        "propensity": "no account was there that is no partner and not excluded",
        "close": "no lead had been assigned to a partner",
    }[task]
    return NotEnoughDataError(f"{what} before {moment:%Y-%m-%d}, by what was known then: choose a later date")
