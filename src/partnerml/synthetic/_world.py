"""The laws of the synthetic world, and the partners that live in it.

Everything the simulator draws from, and everything the oracle needs to know, stands here: the rates, the
hidden states of engagement, the calendar, the geography, and the traits of each partner.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SECOND = 1_000_000  # microseconds
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NEVER = np.int64(2**61)  # later than every moment, and safe to add days to
NO_DAY = 2**30  # likewise for days counted from the start

# --- engagement: a hidden Markov chain by day, times a level that never changes -----------------------------------
ENGAGED, DECLINING, DORMANT, LEFT, ABSENT = range(5)
STATES = ("engaged", "declining", "dormant", "left")
# Expected qualifying actions a day of an engaged partner; the sizes of partners differ by a factor of 50.
LEVEL_RATES: Floats = np.array([0.25, 0.6, 1.4, 3.0, 6.5, 13.0]) / 7
STATE_ACTIVITY: Floats = np.array([1.0, 0.22, 0.01])
START: Floats = np.array([0.80, 0.12, 0.08])
TRANSITIONS: Floats = np.array(
    [  # engaged, declining, dormant, left: the chance to be in each a day later
        [1 - 1 / 240, 1 / 240, 0.0, 0.0],
        [1 / 160, 1 - 1 / 160 - 1 / 55, 1 / 55, 0.0],
        [1 / 240, 0.0, 1 - 1 / 240 - 1 / 600, 1 / 600],
    ]
)

# What partners do, and how the mix shifts: training and deals stall first, tickets pile up.
EVENT_TYPES = ("portal_login", "content_download", "training", "campaign", "support_ticket", "survey")
DEAL_MARK = len(EVENT_TYPES)
MARKS: Floats = np.array(
    [
        [0.42, 0.17, 0.13, 0.09, 0.06, 0.04, 0.09],
        [0.45, 0.14, 0.05, 0.06, 0.19, 0.06, 0.05],
        [0.60, 0.10, 0.02, 0.03, 0.15, 0.07, 0.03],
    ]
)
# What the vendor and its systems do to every partner alike: no sign of engagement.
OTHER_TYPES = ("newsletter", "campaign_invite")
OTHER_ACTORS = ("system", "vendor")
OTHER_RATES = (1 / 30, 1 / 60)

_WEEKDAY: Floats = np.array([1.15, 1.2, 1.2, 1.15, 1.1, 0.25, 0.2])
_MONTH: Floats = np.array([0.95, 1.05, 1.1, 1.05, 1.05, 1.05, 0.95, 0.65, 1.1, 1.1, 1.1, 0.75])

# --- records arrive late: most by hours, one in fifty by days ------------------------------------------------------
LATE_SHARE = 0.02
MEAN_DELAY_HOURS = 3.0
LATE_DAYS = (1.0, 15.0)
_MIDDAY, _SPREAD = 13.0, 2.8  # local hours at which people work

# --- deals and leads -----------------------------------------------------------------------------------------------
CLOSE_DAYS = np.arange(3, 401)
CLOSING_SHARE = 0.95  # the rest stays open for good
SKILL_GRID: Floats = np.array([-0.9, -0.45, 0.0, 0.45, 0.9])
SKILL_PRIOR: Floats = np.array([0.1, 0.25, 0.3, 0.25, 0.1])
WIN_BASE, WIN_MATCH = -1.2, 0.6
LEAD_WIN_BASE, LEAD_WIN_KM, LEAD_WIN_LOAD = -0.6, -1 / 300, -0.15
CANCELLED_SHARE = 0.15  # of what is not won

# --- vocabularies --------------------------------------------------------------------------------------------------
PARTNER_TYPES = ("reseller", "integrator", "msp", "isv", "referral")
LEVEL_PRIOR: Floats = np.array(
    [
        [0.08, 0.20, 0.32, 0.25, 0.12, 0.03],
        [0.03, 0.10, 0.25, 0.35, 0.20, 0.07],
        [0.01, 0.04, 0.15, 0.35, 0.32, 0.13],
        [0.15, 0.35, 0.30, 0.14, 0.05, 0.01],
        [0.40, 0.35, 0.17, 0.06, 0.015, 0.005],
    ]
)
_TYPE_SHARES: Floats = np.array([0.35, 0.2, 0.15, 0.12, 0.18])
_TYPE_SKILL: Floats = np.array([0.0, 0.35, 0.3, -0.2, -0.6])
_FOCUS_SKILL: Floats = np.array([0.45, 0.0, -0.45])  # specialists of one vertical win more than generalists of three
VERTICALS = (
    "manufacturing.automotive",
    "manufacturing.machinery",
    "finance.banking",
    "finance.insurance",
    "health.hospitals",
    "retail.grocery",
    "public.education",
    "technology.software",
)
VERTICAL_SHARES: Floats = np.array([0.16, 0.12, 0.16, 0.1, 0.12, 0.14, 0.08, 0.12])
TIERS = ("registered", "silver", "gold", "platinum")
TIER_REVENUE: Floats = np.array([20_000.0, 80_000.0, 250_000.0])  # won in a year, for the tiers above the first
PRODUCTS = ("core", "analytics", "security", "cloud")
CERTIFICATIONS = ("core_associate", "core_expert", "security_expert", "cloud_expert")
CURRENCY = "EUR"


@dataclasses.dataclass(frozen=True)
class City:
    """A place where partners and customers are; `hours` is its offset from UTC in winter."""

    country: str
    region: str
    postal: str
    latitude: float
    longitude: float
    time_zone: str
    hours: float
    languages: tuple[str, ...]
    weight: float


CITIES = (
    City("US", "US-NY", "10001", 40.71, -74.01, "America/New_York", -5, ("en",), 6),
    City("US", "US-IL", "60601", 41.88, -87.63, "America/Chicago", -6, ("en",), 4),
    City("US", "US-TX", "75201", 32.78, -96.80, "America/Chicago", -6, ("en", "es"), 4),
    City("US", "US-CA", "94103", 37.77, -122.42, "America/Los_Angeles", -8, ("en",), 5),
    City("CA", "CA-ON", "M5H", 43.65, -79.38, "America/Toronto", -5, ("en", "fr"), 3),
    City("CA", "CA-BC", "V6B", 49.28, -123.12, "America/Vancouver", -8, ("en",), 2),
    City("GB", "GB-LND", "EC1A", 51.51, -0.13, "Europe/London", 0, ("en",), 6),
    City("GB", "GB-MAN", "M1", 53.48, -2.24, "Europe/London", 0, ("en",), 3),
    City("GB", "GB-EDH", "EH1", 55.95, -3.19, "Europe/London", 0, ("en",), 2),
    City("DE", "DE-BE", "10115", 52.52, 13.40, "Europe/Berlin", 1, ("de", "en"), 4),
    City("DE", "DE-BY", "80331", 48.14, 11.58, "Europe/Berlin", 1, ("de", "en"), 4),
    City("DE", "DE-HH", "20095", 53.55, 9.99, "Europe/Berlin", 1, ("de", "en"), 3),
    City("FR", "FR-IDF", "75001", 48.86, 2.35, "Europe/Paris", 1, ("fr",), 5),
    City("FR", "FR-ARA", "69001", 45.76, 4.84, "Europe/Paris", 1, ("fr",), 3),
    City("NL", "NL-NH", "1011", 52.37, 4.90, "Europe/Amsterdam", 1, ("nl", "en"), 3),
    City("ES", "ES-MD", "28001", 40.42, -3.70, "Europe/Madrid", 1, ("es",), 3),
    City("ES", "ES-CT", "08001", 41.39, 2.17, "Europe/Madrid", 1, ("es", "ca"), 2),
    City("BR", "BR-SP", "01000", -23.55, -46.63, "America/Sao_Paulo", -3, ("pt",), 4),
    City("BR", "BR-RJ", "20000", -22.91, -43.17, "America/Sao_Paulo", -3, ("pt",), 2),
    City("IN", "IN-MH", "400001", 19.08, 72.88, "Asia/Kolkata", 5.5, ("en", "hi"), 3),
    City("IN", "IN-KA", "560001", 12.97, 77.59, "Asia/Kolkata", 5.5, ("en",), 3),
    City("JP", "JP-13", "100-0001", 35.68, 139.69, "Asia/Tokyo", 9, ("ja",), 3),
    City("AU", "AU-NSW", "2000", -33.87, 151.21, "Australia/Sydney", 10, ("en",), 2),
    City("NA", "NA-KH", "10005", -22.56, 17.08, "Africa/Windhoek", 2, ("en", "af"), 1),
)
COUNTRIES = tuple(dict.fromkeys(city.country for city in CITIES))
CITY_COUNTRY: Ints = np.array([COUNTRIES.index(city.country) for city in CITIES])
CITY_LATITUDE: Floats = np.array([city.latitude for city in CITIES])
CITY_LONGITUDE: Floats = np.array([city.longitude for city in CITIES])
OFFSETS: Floats = np.unique([city.hours for city in CITIES])
CITY_OFFSET: Ints = np.searchsorted(OFFSETS, [city.hours for city in CITIES])
_COUNTRY_SKILL: Floats = np.linspace(0.5, -0.5, len(COUNTRIES))


@dataclasses.dataclass(frozen=True)
class Calendar:
    """The simulated days: `first` is the day since 1970 of the start, `days` how many there are."""

    first: int
    days: int

    @property
    def start(self) -> int:
        """The first moment, in microseconds since 1970."""
        return self.first * DAY

    @property
    def end(self) -> int:
        """The moment of the extract: nothing recorded from then on is in the tables."""
        return (self.first + self.days) * DAY

    def season(self, begin: int, end: int) -> Floats:
        """Return the activity factor (mean about 1) of the days [begin, end), counted from the start."""
        days = np.arange(self.first + begin, self.first + end)
        dates = days.astype("datetime64[D]")
        months = dates.astype("datetime64[M]").astype(np.int64) % 12
        factor: Floats = _WEEKDAY[(days + 3) % 7] * 7 / _WEEKDAY.sum() * _MONTH[months] * 12 / _MONTH.sum()
        return factor

    def day_of(self, moments: Ints) -> Ints:
        """Return the day, counted from the start, of moments in microseconds."""
        return moments // DAY - self.first


def microseconds(moment: dt.datetime) -> int:
    """Return a moment (naive means UTC) as microseconds since 1970."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def generator(seed: int, part: str, chunk: int = 0) -> np.random.Generator:
    """Return the random stream of one part, so that a change of one table does not shift the others."""
    key = (*part.encode(), chunk)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def draw(rng: np.random.Generator, weights: Floats, size: int) -> Ints:
    """Draw `size` indices in proportion to `weights`."""
    edges = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(edges, rng.random(size), side="right"), len(weights) - 1)


def draw_rows(rng: np.random.Generator, weights: Floats) -> Ints:
    """Draw one index for each row of a matrix of probabilities."""
    edges = np.cumsum(weights, axis=1)
    chosen = (rng.random(len(weights))[:, None] * edges[:, -1:] >= edges).sum(axis=1)
    capped: Ints = np.minimum(chosen, weights.shape[1] - 1)
    return capped


def times_of_day(rng: np.random.Generator, hours: Floats) -> Ints:
    """Draw working times, as microseconds since 00:00 UTC, of people whose clock is `hours` ahead of UTC.

    They wrap at midnight UTC: an action stays in the UTC day to which its rate belongs.
    """
    local = rng.normal(_MIDDAY, _SPREAD, len(hours))
    seconds = ((local - hours) % 24 * 3600).astype(np.int64)
    return np.minimum(seconds, 86_399) * SECOND


def delays(rng: np.random.Generator, size: int) -> Ints:
    """Draw how long after the fact a row is recorded, in microseconds."""
    soon = np.minimum(rng.exponential(MEAN_DELAY_HOURS / 24, size), LATE_DAYS[0])
    late = rng.uniform(*LATE_DAYS, size)
    days = np.where(rng.random(size) < LATE_SHARE, late, soon)
    return (days * 86_400).astype(np.int64) * SECOND


def visibility() -> Floats:
    """Return the chance that an action is on record `lag` days after 00:00 of its day.

    Returns
    -------
    array of shape (len(OFFSETS), 17)
        Column `lag`; 0 on the day itself, exactly 1 in the last column.
    """
    quantiles = (np.arange(2000) + 0.5) / 2000
    local = _MIDDAY + _SPREAD * np.array([statistics.NormalDist().inv_cdf(q) for q in quantiles])
    age = np.arange(17)[None, :, None] - ((local[None, :] - OFFSETS[:, None]) % 24 / 24)[:, None, :]
    soon = np.where(age >= LATE_DAYS[0], 1.0, 1 - np.exp(-np.maximum(age, 0) * 24 / MEAN_DELAY_HOURS))
    late = np.clip((age - LATE_DAYS[0]) / (LATE_DAYS[1] - LATE_DAYS[0]), 0, 1)
    seen: Floats = ((1 - LATE_SHARE) * soon + LATE_SHARE * late).mean(axis=2)
    return seen


def closing() -> Floats:
    """Return the chance that a deal closes `k` days after the day of its registration, for k = 0..400."""
    density = np.zeros(CLOSE_DAYS[-1] + 1)
    density[CLOSE_DAYS] = np.exp(-0.5 * (np.log(CLOSE_DAYS / 45) / 0.7) ** 2) / CLOSE_DAYS
    chances: Floats = CLOSING_SHARE * density / density.sum()
    return chances


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


@dataclasses.dataclass(frozen=True)
class World:
    """The partners: one array entry each. Days count from the start of the calendar.

    Attributes
    ----------
    joined : array of int
        Moment of joining, in microseconds; activity begins on the day after (`first_day`).
    kind, city, verticals : array of int
        Partner type, city and the bit mask of verticals at joining.
    moved_day, moved_city, widened_day, widened_verticals : array of int
        A later move within the country, and a later wider choice of verticals; NO_DAY if none.
    paused_day, resumed_day : array of int
        Between them the partner takes no leads.
    level, start_state, skill_index : array of int
        The latent size, first state of engagement and selling skill.
    trait_skill, skill : array of float
        The part of the skill that follows from traits, and all of it, in log-odds of winning.
    """

    calendar: Calendar
    joined: Ints
    first_day: Ints
    kind: Ints
    city: Ints
    moved_day: Ints
    moved_city: Ints
    shift: Floats
    verticals: Ints
    widened_day: Ints
    widened_verticals: Ints
    paused_day: Ints
    resumed_day: Ints
    level: Ints
    start_state: Ints
    skill_index: Ints
    trait_skill: Floats

    @property
    def n(self) -> int:
        """How many partners there are."""
        return len(self.joined)

    @property
    def skill(self) -> Floats:
        """Selling skill in log-odds."""
        skill: Floats = self.trait_skill + SKILL_GRID[self.skill_index]
        return skill

    @property
    def offset(self) -> Ints:
        """Index into OFFSETS of the clock by which the partner works."""
        return CITY_OFFSET[self.city]

    def city_at(self, partners: Ints, days: Any) -> Ints:
        """Return the city of partners on days."""
        return np.where(days >= self.moved_day[partners], self.moved_city[partners], self.city[partners])

    def verticals_at(self, partners: Ints, days: Any) -> Ints:
        """Return the bit mask of verticals of partners on days."""
        widened = days >= self.widened_day[partners]
        return np.where(widened, self.widened_verticals[partners], self.verticals[partners])

    def place_at(self, partners: Ints, days: Any) -> tuple[Floats, Floats]:
        """Return latitude and longitude, in degrees, of partners on days."""
        city = self.city_at(partners, days)
        shift = self.shift[partners]
        return CITY_LATITUDE[city] + shift[..., 0], CITY_LONGITUDE[city] + shift[..., 1]


def city_weights() -> Floats:
    """Return how many partners and customers each city has, relative to the others."""
    return np.array([city.weight for city in CITIES])


def create_world(partners: int, *, calendar: Calendar, seed: int) -> World:
    """Draw the partners: half of them join in the first 60 days, the others steadily afterwards."""
    rng = generator(seed, "partners")
    days = calendar.days
    launch = rng.random(partners) < 0.5
    joined_day = np.where(launch, rng.integers(0, min(60, days), partners), rng.integers(0, days, partners))
    city = draw(rng, city_weights(), partners)
    joined = (calendar.first + joined_day) * DAY + times_of_day(rng, OFFSETS[CITY_OFFSET[city]])
    kind = draw(rng, _TYPE_SHARES, partners)
    verticals, focus = _draw_verticals(rng, partners)
    trait_skill = _TYPE_SKILL[kind] + _FOCUS_SKILL[focus] + _COUNTRY_SKILL[CITY_COUNTRY[city]]
    paused_day = change_days(rng, joined_day, days, yearly=0.08)
    return World(
        calendar=calendar,
        joined=joined,
        first_day=joined_day + 1,
        kind=kind,
        city=city,
        moved_day=change_days(rng, joined_day, days, yearly=0.03),
        moved_city=_other_city(rng, city),
        shift=rng.normal(0, 0.2, (partners, 2)).round(4),
        verticals=verticals,
        widened_day=change_days(rng, joined_day, days, yearly=0.06),
        widened_verticals=verticals | (1 << draw(rng, VERTICAL_SHARES, partners)),
        paused_day=paused_day,
        resumed_day=paused_day + rng.integers(7, 60, partners),
        level=draw_rows(rng, LEVEL_PRIOR[kind]),
        start_state=draw(rng, START, partners),
        skill_index=draw(rng, SKILL_PRIOR, partners),
        trait_skill=trait_skill,
    )


def _draw_verticals(rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """Draw one to three verticals each: their bit mask, and how many beyond the first."""
    wanted = draw(rng, np.array([0.45, 0.35, 0.2]), n)
    mask = np.zeros(n, dtype=np.int64)
    for position in range(3):
        mask |= np.where(wanted >= position, 1 << draw(rng, VERTICAL_SHARES, n), 0)
    return mask, np.bitwise_count(mask).astype(np.int64) - 1


def change_days(rng: np.random.Generator, joined_day: Ints, days: int, *, yearly: float) -> Ints:
    """Draw the day of a change that comes `yearly` times a year, from a month after joining; NO_DAY if none."""
    after = joined_day + 30 + rng.exponential(365 / yearly, len(joined_day))
    return np.where(after < days, after, NO_DAY).astype(np.int64)


def _other_city(rng: np.random.Generator, city: Ints) -> Ints:
    """Draw a city of the same country for each (the same one where the country has no other)."""
    members = [np.flatnonzero(country == CITY_COUNTRY) for country in range(len(COUNTRIES))]
    counts = np.array([len(m) for m in members])
    firsts = np.array([m[0] for m in members])  # cities of a country stand together in CITIES
    country = CITY_COUNTRY[city]
    step = rng.integers(1, 4, len(city))
    moved: Ints = firsts[country] + (city - firsts[country] + step) % counts[country]
    return moved
