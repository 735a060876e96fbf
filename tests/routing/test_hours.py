"""Business hours against a walk over quarters of an hour, and what the calendars of zones and countries do."""

import datetime as dt
import threading
import zoneinfo
from concurrent.futures import ThreadPoolExecutor

import holidays
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partnerml.config._routing import HoursConfig
from partnerml.errors import ConfigError, DataError
from partnerml.routing import _hours
from partnerml.routing._hours import (
    business_time,
    check_hours,
    day_number,
    deadline,
    is_open,
    iso_week,
    local_day,
    week_number,
)

QUARTER = dt.timedelta(minutes=15)
HOUR = dt.timedelta(hours=1)
NINE_TO_FIVE = HoursConfig()
GERMAN = HoursConfig(holidays=("DE", "FR", "DE-BY"))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago")
quarters = st.integers(0, 4 * 24 * 730).map(lambda i: dt.datetime(2025, 1, 1, tzinfo=dt.UTC) + i * QUARTER)
zones = st.sampled_from(ZONES)


def open_by_hand(config, zone, country, moment):
    local = moment.astimezone(zoneinfo.ZoneInfo(zone))
    if local.strftime("%a").lower() not in config.days:
        return False
    if any(country == place[:2] and local.date() in holidays.country_holidays(place) for place in config.holidays):
        return False
    return config.start <= local.strftime("%H:%M") < config.end


@given(quarters, zones, st.sampled_from([None, "DE", "FR", "US"]))
def test_open_is_what_a_person_reads_off_clock_and_calendar(moment, zone, country):
    config = HoursConfig(holidays=("DE", "FR"), start="08:30", end="17:15")
    assert is_open(config, zone, country, moment) == open_by_hand(config, zone, country, moment)


@given(quarters, zones, st.integers(1, 4 * 30))
@settings(max_examples=30)
def test_deadline_is_where_a_walk_over_quarters_of_an_hour_ends(moment, zone, count):
    config = HoursConfig(holidays=("DE", "FR"))
    left, now = count, moment
    while left:
        left -= open_by_hand(config, zone, "DE", now)
        now += QUARTER
    assert deadline(config, zone, "DE", moment, count * QUARTER) == now


@given(quarters, zones, st.integers(0, 60 * 200), st.sampled_from(["00:00", "01:30", "09:00"]))
# the clocks of Berlin go forward within the working day, and back
@example(dt.datetime(2026, 3, 28, 22, 15, tzinfo=dt.UTC), "Europe/Berlin", 200, "01:30")
@example(dt.datetime(2026, 10, 24, 22, 15, tzinfo=dt.UTC), "Europe/Berlin", 200, "01:30")
def test_between_a_moment_and_its_deadline_lies_the_time_that_was_asked_for(moment, zone, minutes, start):
    config = HoursConfig(start=start, end="23:30", days=("mon", "thu", "sat", "sun"))
    business = dt.timedelta(minutes=minutes)
    until = deadline(config, zone, None, moment, business)
    assert until >= moment
    assert until.tzinfo is dt.UTC
    assert business_time(config, zone, None, moment, until) == business
    if minutes:
        assert business_time(config, zone, None, moment, until - dt.timedelta(seconds=1)) < business


def test_24_hours_are_three_working_days_and_a_weekend_does_not_count():
    friday = dt.datetime(2026, 11, 20, 15, tzinfo=dt.UTC)
    assert deadline(NINE_TO_FIVE, "UTC", None, friday, 24 * HOUR) == dt.datetime(2026, 11, 25, 15, tzinfo=dt.UTC)


def test_what_ends_with_the_day_ends_at_its_end_and_not_the_next_morning():
    morning = dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC)
    assert deadline(NINE_TO_FIVE, "UTC", None, morning, 8 * HOUR) == morning + 8 * HOUR
    assert deadline(NINE_TO_FIVE, "UTC", None, morning, dt.timedelta(0)) == morning


def test_holidays_are_kept_by_partners_of_the_countries_that_are_named():
    epiphany, unity = (dt.datetime(2026, month, day, 12, tzinfo=dt.UTC) for month, day in ((1, 6), (5, 14)))
    assert not is_open(GERMAN, "UTC", "de", unity)  # Ascension
    assert is_open(GERMAN, "UTC", "US", unity)
    assert is_open(GERMAN, "UTC", None, unity)
    assert is_open(NINE_TO_FIVE, "UTC", "DE", unity)
    # a holiday of Bavaria: kept there, and by a partner that does not say where in the country it is
    assert not is_open(GERMAN, "UTC", "DE", epiphany, region="DE-BY")
    assert not is_open(GERMAN, "UTC", None, epiphany, region="DE-BY")
    assert is_open(GERMAN, "UTC", "DE", epiphany, region="DE-BE")
    assert not is_open(GERMAN, "UTC", "DE", epiphany)


def test_a_partner_without_a_zone_has_that_of_the_configuration():
    config = HoursConfig(time_zone="Asia/Tokyo")
    assert is_open(config, None, None, dt.datetime(2026, 11, 20, 1, tzinfo=dt.UTC))
    assert not is_open(config, "UTC", None, dt.datetime(2026, 11, 20, 1, tzinfo=dt.UTC))


@pytest.mark.parametrize(
    ("zone", "day", "week"),
    [("UTC", 20261231, 202653), ("Pacific/Kiritimati", 20270101, 202653), ("Pacific/Pago_Pago", 20261231, 202653)],
)
def test_days_and_weeks_are_those_of_the_zone(zone, day, week):
    moment = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC)
    assert (local_day(zone, moment), iso_week(zone, moment)) == (day, week)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2090, 1, 1)))
def test_numbers_of_days_and_weeks_grow_with_time(date):
    after = date + dt.timedelta(days=1)
    assert day_number(date) < day_number(after)
    assert week_number(date) + (after.isoweekday() == 1) <= week_number(after)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("DE-XX", "the public holidays of 'DE-XX' are not known"),
        ("XX", "'XX' begins with no two-letter code"),
        ("Germany", "'Germany' begins with no two-letter code"),
    ],
)
def test_holidays_that_nobody_knows_are_refused_by_name(place, words):
    with pytest.raises(ConfigError, match=f"routing.hours.holidays: {words}"):
        check_hours(HoursConfig(holidays=("FR", place)))


@pytest.mark.parametrize("place", ["UK", "GBR", "USA", "DEU"])
def test_holidays_are_named_as_the_countries_of_partners_are(place):
    assert place in holidays.list_supported_countries(include_aliases=True)
    with pytest.raises(ConfigError, match=rf"routing.hours.holidays: '{place}' begins with no two-letter code"):
        check_hours(HoursConfig(holidays=("FR", place)))


def test_a_zone_that_nobody_knows_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"routing.hours.time_zone: 'Mars/Olympus' is not a time zone such as"):
        check_hours(HoursConfig(time_zone="Mars/Olympus"))
    with pytest.raises(DataError, match=r"'../etc/passwd' is not a time zone"):
        is_open(NINE_TO_FIVE, "../etc/passwd", None, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    check_hours(GERMAN)


def test_a_calendar_without_enough_time_is_refused():
    with pytest.raises(ConfigError, match="not enough working time in ten years"):
        deadline(NINE_TO_FIVE, "UTC", None, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(days=10_000))


class SlowCalendar:
    """Works out a year when it is asked for it, as those of `holidays` do: it has the year before it has its days."""

    def __init__(self):
        self.years, self.days, self.begun = set(), set(), threading.Event()

    def __contains__(self, date):
        if date.year not in self.years:
            self.years.add(date.year)
            self.begun.set()
            threading.Event().wait(0.2)
            self.days.add(dt.date(date.year, 12, 25))
        return date in self.days


def test_a_thread_that_asks_while_another_fills_the_calendar_sees_all_holidays(monkeypatch):
    calendar = SlowCalendar()
    monkeypatch.setattr(_hours, "_calendar", lambda place: calendar)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_hours._is_holiday, "nowhere", dt.date(2031, 12, 24))
        assert calendar.begun.wait(10)
        # what is answered is kept, so that a wrong answer would stay
        assert _hours._is_holiday("nowhere", dt.date(2031, 12, 25))
        assert not first.result()
