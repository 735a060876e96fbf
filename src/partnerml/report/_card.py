"""The card of a model, from the model alone: what it is for, how good it is, where it ends, what made it.

After Mitchell et al. (2019), "Model cards for model reporting", FAT*. Nothing in it is written by hand, there is no
clock in it, and the same model gives the same bytes.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from partnerml import outputs
from partnerml.errors import InputError
from partnerml.report import _card_quality as quality
from partnerml.report import _card_sections as sections
from partnerml.report._blocks import Page, Section
from partnerml.report._card_words import day

if TYPE_CHECKING:
    from partnerml.models import Model

FORMATS = ("markdown", "html")
_FIGURES = {"calibration.svg": "calibration"}

_logger = logging.getLogger("partnerml")


def model_card(model: Model, *, format: str = "markdown") -> str:
    """Return the card of a model: purpose, data, quality, calibration, segments, limits, drift baseline, lineage.

    Parameters
    ----------
    model : Model
        Of any task; what it does not hold is left out.
    format : {"markdown", "html"}
        HTML is one file that needs nothing from outside, and has the figures in it.

    Raises
    ------
    InputError
        If there is no such format.
    MissingExtraError
        If jinja2 is not installed, for HTML.

    Examples
    --------
    >>> print(model_card(model))  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise InputError(f"format of a model card must be one of {', '.join(FORMATS)}; got {format!r}")
    page = _page(model, drawn=format == "html")
    return page.html() if format == "html" else page.markdown()


def card_files(model: Model) -> dict[str, str]:
    """Return the files of a card: ``card.md`` with its figures, and ``card.html``.

    Figures need matplotlib and HTML needs jinja2; what needs what is not installed is left out, and that is logged.
    """
    files: dict[str, str] = {}
    if _installed("matplotlib"):
        from partnerml.models import figures, svg

        drawn = figures({"calibration": model.evaluation.get("calibration")})
        files |= {file: svg(drawn[name]).decode() for file, name in _FIGURES.items() if name in drawn}
    # without jinja2 there is no markupsafe either, which the figures of the page are made with
    html = _installed("jinja2")
    page = _page(model, drawn=html)
    files["card.md"] = page.markdown(files=tuple(files))
    if html:
        files["card.html"] = page.html()
    else:
        _logger.info('the model card is written without HTML; for it: pip install "partnerml[report]"')
    return dict(sorted(files.items()))


def write_card(files: Mapping[str, str], folder: Path) -> Path:
    """Write the files of a card as a folder, whole or not at all, and return the folder."""
    with outputs.whole_folder(folder) as fresh:
        for name, text in files.items():
            (fresh / name).write_bytes(text.encode())
    return folder


def card_folder(out: Path, task: str, version: str) -> Path:
    """Return where the card of a version lies: ``OUT/models/TASK/VERSION``."""
    return out / "models" / task / version


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _page(model: Model, *, drawn: bool) -> Page:
    name = str(model.task.get("name") or "model")
    until = day(model.training.get("until"))
    subtitle = f"version {model.version}" + (f", trained on what was known before {until}" if until else "")
    found: list[Section | None] = [
        sections.purpose(model),
        sections.limits(model),
        quality.quality(model),
        quality.calibration(model, drawn=drawn),
        quality.folds(model, drawn=drawn),
        quality.segments(model),
        quality.drivers(model),
        quality.findings(model),
        sections.data(model),
        sections.tuning(model),
        sections.drift(model),
        sections.lineage(model),
    ]
    return Page(f"Model card: {name}", subtitle, [section for section in found if section is not None])
