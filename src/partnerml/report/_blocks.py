"""A page as a value: sections of texts, lists, facts, tables and figures; written as Markdown or as HTML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from partnerml import __version__
from partnerml.errors import require

_MARKUP = re.compile(r"([\\|<>*_`\[\]])")


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; a soft one explains what is beside it."""

    text: str
    soft: bool = False
    kind = "text"


@dataclasses.dataclass(frozen=True)
class Bullets:
    """Sentences, one below the other."""

    items: Sequence[str]
    kind = "bullets"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    pairs: Sequence[tuple[str, str]]
    kind = "facts"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of texts under their heads.

    Attributes
    ----------
    heads : sequence of str
    rows : sequence of sequence of str
    words : int
        How many of the first columns are words; the others are figures, and stand to the right. A second line of a
        figure is its interval.
    ours : int or None
        The row to bring out.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    ours: int | None = None
    kind = "table"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes
    ----------
    markup : Any
        SVG that is safe to insert.
    file : str
        The name of the same as a file beside the Markdown, where there is one.
    alt : str
        What it shows, for who cannot see it.
    """

    markup: Any
    file: str
    alt: str
    kind = "figure"


Block = Text | Bullets | Facts | Table | Figure


@dataclasses.dataclass(frozen=True)
class Section:
    """A title and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes
    ----------
    title, subtitle : str
    sections : sequence of Section
    """

    title: str
    subtitle: str
    sections: Sequence[Section]

    def markdown(self, *, files: Sequence[str] = ()) -> str:
        """Return the page as Markdown.

        Parameters
        ----------
        files : sequence of str
            The figures that lie beside the file; the others are left out.
        """
        parts = [f"# {_escaped(self.title)}", _escaped(self.subtitle)]
        for section in self.sections:
            parts.append(f"## {_escaped(section.title)}")
            parts += [text for block in section.blocks if (text := _markdown(block, files))]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """Return the page as one file of HTML that needs nothing from outside.

        Raises
        ------
        MissingExtraError
            If jinja2 is not installed.
        """
        return str(
            environment("the HTML model card")
            .get_template("card.html")
            .render(page=self, program=f"partnerml {__version__}")
        )


def environment(what: str) -> Any:
    """Return where templates are found: everything is escaped, and a name that is missing is an error.

    Parameters
    ----------
    what : str
        What is to be made, for the error that says what to install.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    jinja2 = require("jinja2", "report", what)
    return jinja2.Environment(
        loader=jinja2.PackageLoader("partnerml", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _markdown(block: Block, files: Sequence[str]) -> str:
    if isinstance(block, Text):
        return _escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Facts):
        return "\n".join(_table(("", ""), [(_escaped(name), _escaped(text)) for name, text in block.pairs], words=2))
    if isinstance(block, Table):
        rows = [[_escaped(_on_one_line(cell)) for cell in row] for row in block.rows]
        if block.ours is not None:
            rows[block.ours][0] = f"**{rows[block.ours][0]}**"
        return "\n".join(_table([_escaped(head) for head in block.heads], rows, words=block.words))
    return f"![{_escaped(block.alt)}]({block.file})" if block.file in files else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join("---" if place < words else "---:" for place in range(len(heads))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _on_one_line(cell: str) -> str:
    figure, _, interval = cell.partition("\n")
    return f"{figure} ({interval})" if interval else figure


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
