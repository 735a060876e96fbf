"""Business hours in the time zone of a partner, public holidays, local days and ISO weeks.

A working day is one interval of local time, ``[start, end)``. It is turned into UTC before it is measured, so a day on
which the clocks change is as long as it really was.
"""

from __future__ import annotations

import datetime as dt
import functools
import threading
import zoneinfo
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from partnerml.codes import valid_codes
from partnerml.errors import ConfigError, DataError, require
from partnerml.schema import Type

if TYPE_CHECKING:
    from partnerml.config._routing import HoursConfig

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = dt.timedelta(days=1)
# a calendar works out a year when it is first asked for it, and another thread would see a part of its days
_ASKING = threading.Lock()
_LONGEST = 3660  # days to look ahead: a calendar without one working day in ten years is a mistake


def is_open(
    config: HoursConfig, time_zone: str | None, country: str | None, moment: dt.datetime, *, region: str | None = None
) -> bool:
    """Tell whether a partner works at a moment.

    Parameters
    ----------
    config : HoursConfig
    time_zone : str or None
        Of the partner (IANA); None = that of the configuration.
    country : str or None
        Of the partner; its holidays are kept where the configuration names it. None = no holidays.
    moment : datetime
        Zoned.
    region : str or None
        Of the partner, such as ``DE-BY``; None = it keeps the holidays of all regions that are named of its country.
    """
    local = moment.astimezone(zone(time_zone or config.time_zone))
    for date in (local.date() - _DAY, local.date()):
        interval = _interval(config, time_zone, country, region, date)
        if interval is not None and interval[0] <= moment < interval[1]:
            return True
    return False


def deadline(
    config: HoursConfig,
    time_zone: str | None,
    country: str | None,
    moment: dt.datetime,
    business: dt.timedelta,
    *,
    region: str | None = None,
) -> dt.datetime:
    """Return the first moment by which so much business time has passed, in UTC.

    Parameters
    ----------
    config, time_zone, country, moment, region
        As for `is_open`.
    business : timedelta
        Hours of work: 24 h are three days of eight hours.

    Raises
    ------
    ConfigError
        If there is no working day in ten years.
    """
    left = business
    if left <= dt.timedelta(0):
        return moment.astimezone(dt.UTC)
    for start, end in _intervals(config, time_zone, country, region, moment):
        if end - start >= left:
            return start + left
        left -= end - start
    raise ConfigError(
        f"routing.hours leaves a partner in {country or 'no country'} not enough working time in ten years for "
        f"{business}; look at days, start, end and holidays"
    )


def business_time(
    config: HoursConfig,
    time_zone: str | None,
    country: str | None,
    since: dt.datetime,
    until: dt.datetime,
    *,
    region: str | None = None,
) -> dt.timedelta:
    """Return how much business time lies in ``[since, until)``."""
    total = dt.timedelta(0)
    for start, end in _intervals(config, time_zone, country, region, since):
        if start >= until:
            break
        total += min(end, until) - start
    return total


def local_date(time_zone: str | None, moment: dt.datetime) -> dt.date:
    """Return the date that it is in a time zone (None = UTC)."""
    return moment.astimezone(zone(time_zone or "UTC")).date()


def local_day(time_zone: str | None, moment: dt.datetime) -> int:
    """Return the day that it is in a time zone as a number that people can read.

    Examples
    --------
    >>> local_day("Asia/Tokyo", dt.datetime(2026, 11, 22, 20, tzinfo=dt.UTC))
    20261123
    """
    return day_number(local_date(time_zone, moment))


def iso_week(time_zone: str | None, moment: dt.datetime) -> int:
    """Return the ISO week that it is in a time zone: 202647 is week 47 of 2026.

    Examples
    --------
    >>> iso_week(None, dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    202653
    """
    return week_number(local_date(time_zone, moment))


def day_number(date: dt.date) -> int:
    """Return a date as YYYYMMDD."""
    return (date.year * 100 + date.month) * 100 + date.day


def week_number(date: dt.date) -> int:
    """Return the ISO week of a date as YYYYWW; at the turn of a year its year may be another than the date's."""
    calendar = date.isocalendar()
    return calendar.year * 100 + calendar.week


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> zoneinfo.ZoneInfo:
    """Return a time zone by its IANA name.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(f"{name!r} is not a time zone such as Europe/Berlin (IANA)") from error


def check_hours(config: HoursConfig) -> None:
    """Refuse a time zone or holidays that nobody knows, before the first lead comes.

    Raises
    ------
    ConfigError
        That names the key.
    """
    try:
        zone(config.time_zone)
    except DataError as error:
        raise ConfigError(f"routing.hours.time_zone: {error}") from error
    for place in config.holidays:
        country = place.upper().partition("-")[0]
        if country not in valid_codes(Type.COUNTRY):  # the calendars know others (UK, USA), which no partner has
            raise ConfigError(
                f"routing.hours.holidays: {place!r} begins with no two-letter code of ISO 3166-1, which countries of "
                "partners are told by; write GB, US or DE-BY, for example"
            )
        _is_holiday(place, dt.date(2026, 1, 1))


def _intervals(
    config: HoursConfig, time_zone: str | None, country: str | None, region: str | None, moment: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Yield the working time from a moment on, day by day."""
    # a day before: where it is still yesterday's working day nothing is lost, and the dates of UTC and of a zone differ
    first = local_date(time_zone or config.time_zone, moment) - _DAY
    for i in range(_LONGEST):
        interval = _interval(config, time_zone, country, region, first + i * _DAY)
        if interval is not None and interval[1] > moment:
            yield max(interval[0], moment.astimezone(dt.UTC)), interval[1]


@functools.lru_cache(maxsize=1 << 15)
def _interval(
    config: HoursConfig, time_zone: str | None, country: str | None, region: str | None, date: dt.date
) -> tuple[dt.datetime, dt.datetime] | None:
    """Return the working time of a date in UTC; None where it is no working day."""
    if _WEEKDAYS[date.weekday()] not in config.days:
        return None
    if any(_is_holiday(place, date) for place in config.holidays if _keeps(place, country, region)):
        return None
    start, end = (_utc(date, clock, time_zone or config.time_zone) for clock in (config.start, config.end))
    return (start, end) if start < end else None


def _utc(date: dt.date, clock: str, time_zone: str) -> dt.datetime:
    return dt.datetime.combine(date, dt.time.fromisoformat(clock), tzinfo=zone(time_zone)).astimezone(dt.UTC)


def _keeps(place: str, country: str | None, region: str | None) -> bool:
    """Tell whether a partner keeps the holidays of a country or a region."""
    if country is None and region is not None:
        country = region.partition("-")[0]
    named, _, part = place.upper().partition("-")
    return country is not None and named == country.upper() and (not part or region in (None, place.upper()))


@functools.lru_cache(maxsize=1 << 16)
def _is_holiday(place: str, date: dt.date) -> bool:
    with _ASKING:
        return date in _calendar(place)


@functools.lru_cache(maxsize=512)
def _calendar(place: str) -> Container[dt.date]:
    """Return the public holidays of a country or a region.

    Raises
    ------
    ConfigError
        If nobody knows them.
    """
    known = require("holidays", "routing", "business hours with public holidays")
    country, _, part = place.upper().partition("-")
    try:
        found: Container[dt.date] = known.country_holidays(country, subdiv=part or None)
    except (NotImplementedError, KeyError) as error:
        raise ConfigError(
            f"routing.hours.holidays: the public holidays of {place!r} are not known; name a country by two letters, "
            "such as DE, or a part of it that has holidays of its own, such as DE-BY"
        ) from error
    return found
