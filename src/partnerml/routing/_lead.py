"""A lead as it comes from outside, as one clean and frozen value, and the one text that it is compared by.

Nothing of a payload is trusted. What a column of `schema.LEADS` may hold is read as the tables are read (texts of a CSV
file and values of JSON, numpy and pandas alike), anything else is kept if JSON has a word for it, and whatever cannot
be read is refused with its name, what came and what is allowed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from partnerml.errors import DataError
from partnerml.routing._lead_columns import about_header, misnamed
from partnerml.routing._lead_values import LONGEST_ID, RefusedError, is_absent, name_of, shown, value_of

LARGEST_PAYLOAD = 100_000  # characters of the canonical text
_MOST_COLUMNS = 500
_SHOWN = 5
_ONE_DAY = dt.timedelta(days=1)
_ID = "lead_id"


@dataclasses.dataclass(frozen=True)
class Lead:
    """One lead, clean.

    Make one with `Lead.of`.

    Attributes
    ----------
    lead_id : str
    values : mapping of str to object
        The columns that were given and are not null, in order of their names: those of ``leads`` by their types, lists
        as sorted tuples of text, moments zoned UTC; other columns as JSON has them.
    payload : str
        Canonical JSON of the values: equal for leads that mean the same.
    """

    lead_id: str
    values: Mapping[str, Any] = dataclasses.field(hash=False)
    payload: str

    @classmethod
    def of(cls, payload: Mapping[str, Any] | Lead) -> Lead:
        """Read a payload.

        Parameters
        ----------
        payload : mapping, or Lead
            Columns of ``leads`` and any others. None, NaN, NaT and the empty text are no value.

        Raises
        ------
        DataError
            If it has no ``lead_id``, or a column holds what it may not; every such column is named.

        Examples
        --------
        >>> Lead.of({"lead_id": 7, "country": "de", "amount": "5", "region": None}).payload
        '{"amount":5.0,"country":"DE","lead_id":"7"}'
        """
        if isinstance(payload, Lead):
            return payload
        if not isinstance(payload, Mapping):
            raise DataError(f"a lead is a mapping of columns to values, got {shown(payload)}")
        values, problems = _read(payload)
        if problems:
            raise DataError(_message(values.get(_ID), problems))
        if _ID not in values:
            raise DataError("lead: lead_id is missing; give each lead an id that stays the same when it is sent again")
        text = _canonical(values)
        if len(text) > LARGEST_PAYLOAD:
            raise DataError(
                f"lead {values[_ID]!r}: it has {len(text):,} characters as JSON, and {LARGEST_PAYLOAD:,} are allowed; "
                "leave out columns that routing does not need"
            )
        return cls(values[_ID], MappingProxyType(values), text)

    @classmethod
    def of_payload(cls, payload: str) -> Self:
        """Read the canonical text again that a lead was stored by."""
        lead = cls.of(json.loads(payload))
        return cls(lead.lead_id, lead.values, lead.payload)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a column, or the default where the lead has none."""
        return self.values.get(name, default)

    def __reduce__(self) -> tuple[Any, ...]:
        # to other processes as it is: to read its payload again takes ten times as long
        return _restored, (self.lead_id, dict(self.values), self.payload)

    def differs(self, payload: str) -> list[str]:
        """Return the names of the columns in which an earlier payload differs, sorted."""
        if payload == self.payload:
            return []
        own, other = json.loads(self.payload), json.loads(payload)
        # as texts: to Python, true equals 1
        return [name for name in sorted({*own, *other}) if _word(own, name) != _word(other, name)]


def _restored(lead_id: str, values: dict[str, Any], payload: str) -> Lead:
    return Lead(lead_id, MappingProxyType(values), payload)


@dataclasses.dataclass(frozen=True)
class Refused:
    """A row that is no lead.

    Attributes
    ----------
    row : int
        From 1, without a header.
    lead_id : str or None
        None where it cannot be read either.
    reason : str
    """

    row: int
    lead_id: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class LeadTable:
    """The leads of a table, and its rows that are none; what to do about those is for the caller to say."""

    leads: tuple[Lead, ...]
    refused: tuple[Refused, ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any] | Lead], *, name: str = "leads") -> LeadTable:
        """Read rows.

        Parameters
        ----------
        rows : iterable of mapping or Lead
        name : str
            What the table is called in messages: a file, or an argument.

        Raises
        ------
        DataError
            If there is no row, no row has a ``lead_id``, or one comes twice.
        """
        rows = list(rows)
        check_ids(rows, name)
        leads, refused = [], []
        for number, row in enumerate(rows, start=1):
            try:
                leads.append(Lead.of(row))
            except DataError as error:
                refused.append(Refused(number, readable_id(row), str(error)))
        return cls(tuple(leads), tuple(refused))


def doubts(leads: Sequence[Lead], moment: dt.datetime) -> list[str]:
    """Return what is odd about leads, in words: those without a moment, those of tomorrow, and columns nobody reads.

    Parameters
    ----------
    leads : sequence of Lead
    moment : datetime
        Now, zoned UTC.
    """
    undated = [lead for lead in leads if lead.get("created_at") is None]
    ahead = [lead for lead in leads if (lead.get("created_at") or moment) > moment + _ONE_DAY]
    told = []
    if undated:
        told.append(
            f"{len(undated):,} of {len(leads):,} leads have no created_at, first {undated[0].lead_id!r}: they count as "
            "come when they are first decided, also where two may be the same"
        )
    if ahead:
        told.append(
            f"{len(ahead):,} of {len(leads):,} leads have a created_at more than a day after now "
            f"({moment.isoformat()}), first {ahead[0].lead_id!r}: {ahead[0].get('created_at').isoformat()}; check the "
            "clock and the time zone that they come from"
        )
    return told + misnamed(leads)


def check_ids(rows: Sequence[Mapping[str, Any] | Lead], name: str) -> None:
    """Refuse a table without rows or ids, and ids that come twice.

    Raises
    ------
    DataError
        It names the table, the column, and the rows.
    """
    if not rows:
        raise DataError(f"{name}: there are no rows; give at least one lead")
    tables = [row for row in rows if not isinstance(row, Lead)]
    if len(tables) == len(rows) and not any(_ID in row for row in tables):
        there = ", ".join(str(column)[:LONGEST_ID] for column in list(tables[0])[:20])
        raise DataError(
            f"{name}: the column lead_id is missing (there are {there or 'no columns'})"
            f"{about_header(map(str, tables[0]), _ID) or '; rename or add it'}"
        )
    numbers: dict[str, list[int]] = {}
    for number, row in enumerate(rows, start=1):
        found = readable_id(row)
        if found is not None:
            numbers.setdefault(found, []).append(number)
    twice = {lead_id: places for lead_id, places in numbers.items() if len(places) > 1}
    if twice:
        lead_id, places = next(iter(twice.items()))
        at = ", ".join(map(str, places[:_SHOWN])) + (", ..." if len(places) > _SHOWN else "")
        count = f"{len(twice)} id{' comes' if len(twice) == 1 else 's come'} more than once"
        raise DataError(
            f"{name}: column lead_id: {count}, first {lead_id!r} in rows {at}; a lead is one row, so keep one of them"
        )


def readable_id(row: Any) -> str | None:
    """Return the id of a row, which may be no lead; None where it has none."""
    if isinstance(row, Lead):
        return row.lead_id
    try:
        found = value_of(_ID, row[_ID])
    except (RefusedError, KeyError, TypeError, IndexError):
        return None
    return None if found is None else str(found)


def _read(payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    values, problems = {}, []
    for count, (given, value) in enumerate(payload.items()):
        if count >= _MOST_COLUMNS:
            problems.append(f"it has {len(payload):,} columns, and {_MOST_COLUMNS} are allowed")
            break
        try:
            name = name_of(given)
            found = None if is_absent(value) else value_of(name, value)
        except RefusedError as error:
            problems.append(str(error))
            continue
        if found is not None:
            values[name] = found
    return dict(sorted(values.items())), problems


def _message(lead_id: str | None, problems: list[str]) -> str:
    more = [] if len(problems) <= _SHOWN else [f"and {len(problems) - _SHOWN} more"]
    return f"lead{'' if lead_id is None else f' {lead_id!r}'}: " + "; ".join([*problems[:_SHOWN], *more])


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(
        values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_moment_text
    )


def _moment_text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _word(values: Mapping[str, Any], name: str) -> str | None:
    return json.dumps(values[name], sort_keys=True) if name in values else None
