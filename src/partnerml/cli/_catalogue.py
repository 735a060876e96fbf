"""A catalogue for people: one line for each measure with its windows, instead of one for each feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from partnerml.cli._show import add, say, table

if TYPE_CHECKING:
    from rich.console import Console

    from partnerml.dataset import FeatureInfo

SUBJECTS: Mapping[str, str] = {
    "events": "What it does: events",
    "activity": "What it does: qualifying activity",
    "deals": "What it sells: deals",
    "certifications": "What it learns: certifications",
    "partners": "What it is: traits",
    "pair": "How it suits a lead",
    "peers": "Among its peers",
}
COLUMNS = ("measure", "of", "windows", "n", "for example", "missing means")
_SHOWN_KINDS = 3
_WHOLE = ("all", "other")  # kinds of events that are no types


@dataclasses.dataclass(frozen=True)
class Line:
    """Features that differ in their kind and window alone.

    Attributes
    ----------
    subject : str
        A key of `SUBJECTS`.
    measure : str
    kinds : tuple of str
        What it is about: event types, steps of deals, columns.
    windows : tuple of str
    features : int
    unit, null_rule : str
    example : str
        One of them in words.
    """

    subject: str
    measure: str
    kinds: tuple[str, ...]
    windows: tuple[str, ...]
    features: int
    unit: str
    null_rule: str
    example: str

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table shows of it, in the order of `COLUMNS`."""
        return self.measure, self._of(), _told(self.windows), f"{self.features:,}", self.example, self.null_rule

    def _of(self) -> str:
        shown = self.kinds
        if self.subject == "events":
            types = [kind for kind in self.kinds if kind not in _WHOLE]
            if len(types) > _SHOWN_KINDS:
                shown = (*(kind for kind in self.kinds if kind in _WHOLE), f"{len(types)} event types")
        if len(shown) > _SHOWN_KINDS:
            return f"{', '.join(shown[:_SHOWN_KINDS])} and {len(shown) - _SHOWN_KINDS} more"
        return ", ".join(shown)


def _told(windows: Sequence[str]) -> str:
    """Return windows with their unit said once: ``7 30 90 d``, ``30:90 d``, ``12 26 w``."""
    by_unit: dict[str, list[str]] = {}
    for window in windows:
        unit = window[-1] if window[0].isdigit() else ""
        by_unit.setdefault(unit, []).append(window.replace(f"{unit}_", ":").removesuffix(unit) if unit else window)
    return ", ".join(" ".join((*numbers, unit)).strip() for unit, numbers in by_unit.items())


def lines(dictionary: Sequence[FeatureInfo]) -> tuple[Line, ...]:
    """Fold the features of a dictionary into lines, in the order of the subjects.

    Features go together that say the same (measure, unit, null rule) of rows of one source over the same windows.
    """
    by_kind: dict[tuple[str, ...], list[FeatureInfo]] = {}
    for info in dictionary:
        subject, source, kind, measure, _ = _parts(info.name)
        about = kind.partition(".")[0] if measure == "has" else kind
        by_kind.setdefault((subject, source, measure, info.unit, info.null_rule, about), []).append(info)
    same: dict[tuple[object, ...], list[tuple[str, list[FeatureInfo]]]] = {}
    for (*what, about), infos in by_kind.items():
        windows = tuple(dict.fromkeys(_parts(info.name)[4] for info in infos))
        same.setdefault((*what, windows), []).append((about, infos))
    found = [_line(kinds) for kinds in same.values()]
    order = tuple(SUBJECTS)
    return tuple(sorted(found, key=lambda line: order.index(line.subject)))


def _parts(name: str) -> tuple[str, str, str, str, str]:
    """Return subject, source, kind, measure and window of a feature's name."""
    head, measure, window = name.removeprefix("peers__").rsplit("__", 2)
    source, _, kind = head.partition("__")
    return "peers" if name.startswith("peers__") else source, source, kind, measure, window


def _line(kinds: Sequence[tuple[str, list[FeatureInfo]]]) -> Line:
    infos = [info for _, several in kinds for info in several]
    first = infos[0]
    subject, source, _, measure, _ = _parts(first.name)
    return Line(
        subject=subject,
        measure=measure,
        kinds=tuple(f"{source} {kind}" if subject == "peers" else kind for kind, _ in kinds),
        windows=tuple(dict.fromkeys(_parts(info.name)[4] for info in infos)),
        features=len(infos),
        unit=first.unit,
        null_rule=first.null_rule,
        example=min((info.words for info in infos), key=len),
    )


def by_subject(found: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Yield the title of each subject that has lines, and its lines."""
    for subject, title in SUBJECTS.items():
        mine = [line for line in found if line.subject == subject]
        if mine:
            yield f"{title} ({sum(line.features for line in mine):,})", mine


def show(console: Console, dictionary: Sequence[FeatureInfo], missing: Mapping[str, Sequence[str]]) -> None:
    """Print the catalogue by subject, and what the tables leave out."""
    types = sorted({_parts(info.name)[2] for info in dictionary if _parts(info.name)[0] == "events"} - set(_WHOLE))
    if types:
        say(console, f"event types with features of their own: {', '.join(types)}; the others are `other`")
    for title, mine in by_subject(lines(dictionary)):
        shown = table(title, *COLUMNS, numbers=("n",))
        for line in mine:
            add(shown, *line.cells)
        console.print(shown)
    say(console, f"{len(dictionary):,} features; with --json, each with its definition, tables and columns")
    for absent, measures in missing.items():
        say(console, f"left out: {left_out(absent, measures)}", style="dim")


def left_out(absent: str, measures: Sequence[str]) -> str:
    """Return what an absent table or column costs, in words."""
    if absent in SUBJECTS:
        return f"everything about {absent}, for want of the table"
    kind = "column" if "." in absent else "table"
    return f"{', '.join(measures)}, for want of the {kind} {absent}"
