"""What validation found: violations and the report over all tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from partnerml.errors import DataError

Severity = Literal["error", "warning", "notice"]

_ORDER: Mapping[str, int] = {"error": 0, "warning": 1, "notice": 2}
_FRAME_COLUMNS = ("table", "column", "rule", "severity", "count", "total", "sets_aside", "first", "remedy")


@dataclasses.dataclass(frozen=True)
class Violation:
    """One rule that rows, a column or a table break.

    Attributes
    ----------
    table : str
    column : str
        The column, several joined by a comma, or empty where the rule is about the table.
    rule : str
        Name of the rule, such as ``orphan``.
    severity : {"error", "warning", "notice"}
        Errors stop a run; warnings and notices do not.
    count, total : int
        Rows that break the rule, and rows of the table.
    first : tuple of dict
        The first of these rows, by key: the key columns and the offending values, as they came.
    remedy : str
        What is allowed and what to do.
    sets_aside : bool
        Whether the rows are left out of the table and written to the rejects.
    """

    table: str
    column: str
    rule: str
    severity: Severity
    count: int
    total: int
    first: tuple[Mapping[str, Any], ...] = ()
    remedy: str = ""
    sets_aside: bool = False

    @property
    def message(self) -> str:
        """The violation in one line."""
        where = f"{self.table}.{self.column}" if self.column else self.table
        text = f"{where}: {self.rule.replace('_', ' ')}"
        if self.total:
            text += f", {self.count:,} of {self.total:,} rows"
        if self.first:
            rows = ("{" + ", ".join(f"{name}: {value}" for name, value in row.items()) + "}" for row in self.first)
            text += f"; first: {', '.join(rows)}"
        return f"{text}. {self.remedy}".rstrip(". ") + "."


@dataclasses.dataclass(frozen=True)
class ValidationReport:
    """The outcome of validating all tables of an ecosystem.

    Attributes
    ----------
    violations : tuple of Violation
        Errors first, then by table in the order of the schema.
    rows : mapping of str to int
        Rows of each table as mapped.
    set_aside : mapping of str to int
        Rows of each table that were left out; a row with several problems counts once.
    """

    violations: tuple[Violation, ...]
    rows: Mapping[str, int]
    set_aside: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing stops a run."""
        return not self.errors

    @property
    def errors(self) -> tuple[Violation, ...]:
        """What stops a run."""
        return self._of("error")

    @property
    def warnings(self) -> tuple[Violation, ...]:
        """What does not stop a run, and is worth a look."""
        return self._of("warning")

    @property
    def notices(self) -> tuple[Violation, ...]:
        """What is good to know."""
        return self._of("notice")

    def raise_for_errors(self) -> None:
        """Raise if there are errors.

        Raises
        ------
        DataError
            With the first error in full, how many there are, and the violations.
        """
        errors = self.errors
        if errors:
            more = f" {len(errors) - 1} more: `partnerml validate` lists all of them." if len(errors) > 1 else ""
            raise DataError(errors[0].message + more, errors)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per violation."""
        rows = [
            {**{name: getattr(violation, name) for name in _FRAME_COLUMNS}, "first": [dict(r) for r in violation.first]}
            for violation in self.violations
        ]
        return pd.DataFrame(rows, columns=list(_FRAME_COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        return {
            "ok": self.ok,
            "rows": dict(self.rows),
            "set_aside": dict(self.set_aside),
            "violations": [
                {**dataclasses.asdict(violation), "first": [dict(row) for row in violation.first]}
                for violation in self.violations
            ],
        }

    def text(self) -> str:
        """Return the report for a terminal: a line per table, then a line per violation."""
        lines = []
        for table, rows in self.rows.items():
            aside = self.set_aside.get(table, 0)
            share = f", {aside:,} set aside ({100 * aside / rows:.2g} %)" if aside else ""
            lines.append(f"{table}: {rows:,} rows{share}")
        lines += [f"{violation.severity}  {violation.message}" for violation in self.violations]
        verdict = "ok" if self.ok else "not usable"
        counts = f"{len(self.errors)} errors, {len(self.warnings)} warnings, {len(self.notices)} notices"
        return "\n".join([*lines, f"{verdict}: {counts}"])

    def _of(self, severity: Severity) -> tuple[Violation, ...]:
        return tuple(violation for violation in self.violations if violation.severity == severity)


def build_report(
    violations: list[Violation], *, rows: Mapping[str, int], set_aside: Mapping[str, int]
) -> ValidationReport:
    """Order violations, worst first and otherwise as found, into a report."""
    ordered = sorted(violations, key=lambda violation: _ORDER[violation.severity])
    return ValidationReport(tuple(ordered), dict(rows), dict(set_aside))
