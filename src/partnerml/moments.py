"""Moments: every one that users give or get is zoned UTC; a date is 00:00 UTC of its day."""

from __future__ import annotations

import datetime as dt

from partnerml.errors import ConfigError

Moment = dt.datetime | dt.date | str
# epoch milliseconds between 1973 and 2286: anything smaller is seconds or a number like 20240131
EPOCH_MS = (100_000_000_000, 10_000_000_000_000)


def moment(value: Moment, *, name: str = "as_of") -> dt.datetime:
    """Return a moment as zoned UTC.

    Parameters
    ----------
    value : datetime, date or str
        A date, or a timestamp in ISO 8601; without a zone it is UTC.
    name : str
        What it is, for the message of an error.

    Raises
    ------
    ConfigError
        If it is neither, or lies beyond the ends of the calendar in UTC.

    Examples
    --------
    >>> moment("2026-06-01")
    datetime.datetime(2026, 6, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if isinstance(value, str):
        value = _parsed(value, name)
    if isinstance(value, dt.datetime):
        return _in_utc(value, name)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time(), tzinfo=dt.UTC)
    raise ConfigError(f"{name} must be a date or a timestamp such as 2026-06-01; got {value!r}")


def _in_utc(value: dt.datetime, name: str) -> dt.datetime:
    try:
        # a pandas Timestamp is a datetime too; plain datetimes keep what follows simple
        plain = dt.datetime.combine(value.date(), value.time(), tzinfo=value.tzinfo)
        return plain.replace(tzinfo=dt.UTC) if plain.tzinfo is None else plain.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:  # pandas' NaT is a datetime as well
        raise ConfigError(
            f"{name} must be a date or a timestamp such as 2026-06-01, in the years 1 to 9999 of UTC; got {value}"
        ) from error


def _parsed(text: str, name: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"{name} must be a date or a timestamp such as 2026-06-01 or 2026-06-01T06:30+02:00; got {text!r}"
        ) from error


def is_midnight(value: dt.datetime) -> bool:
    """Tell whether a zoned UTC moment lies on the start of a day."""
    return value.time() == dt.time()


def month_starts(first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    """Return 00:00 UTC of the first of every month in ``[first, last]``."""
    year, month = first.year, first.month
    found = []
    while (start := dt.datetime(year, month, 1, tzinfo=dt.UTC)) <= last:
        if start >= first:
            found.append(start)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found
