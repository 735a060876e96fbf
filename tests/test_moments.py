import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partnerml.errors import ConfigError
from partnerml.moments import is_midnight, moment, month_starts

UTC = dt.UTC


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-06-01", dt.datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T06:30", dt.datetime(2026, 6, 1, 6, 30, tzinfo=UTC)),
        ("2026-06-01T06:30+02:00", dt.datetime(2026, 6, 1, 4, 30, tzinfo=UTC)),
        (dt.date(2026, 6, 1), dt.datetime(2026, 6, 1, tzinfo=UTC)),
        (dt.datetime(2026, 6, 1, 5), dt.datetime(2026, 6, 1, 5, tzinfo=UTC)),  # noqa: DTZ001
        (pd.Timestamp("2026-06-01", tz="Europe/Berlin"), dt.datetime(2026, 5, 31, 22, tzinfo=UTC)),
    ],
)
def test_every_form_of_a_moment_becomes_zoned_utc(given, expected):
    found = moment(given)
    assert found == expected
    assert found.utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize("wrong", ["1 June", "2026-13-01", "", 20260601])
def test_what_is_no_moment_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match="until must be a date or a timestamp"):
        moment(wrong, name="until")


@pytest.mark.parametrize(
    "wrong",
    [
        "9999-12-31T23:59:59-05:00",
        "0001-01-01T00:00+02:00",
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5))),
        pd.NaT,
    ],
)
def test_what_is_beyond_the_ends_of_the_calendar_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=r"until must be a date or a timestamp such as .* in the years 1 to 9999"):
        moment(wrong, name="until")


def test_midnight():
    assert is_midnight(moment("2026-06-01"))
    assert not is_midnight(moment("2026-06-01T00:00:01"))


@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2030, 1, 1)), st.integers(0, 1500))  # noqa: DTZ001
def test_month_starts_are_all_the_first_days_in_the_span(first, days):
    first = first.replace(tzinfo=UTC)
    last = first + dt.timedelta(days=days)
    every_day = [first.date() + dt.timedelta(days=k) for k in range(days + 2)]
    expected = [dt.datetime(d.year, d.month, 1, tzinfo=UTC) for d in every_day if d.day == 1]
    assert month_starts(first, last) == [m for m in expected if first <= m <= last]
