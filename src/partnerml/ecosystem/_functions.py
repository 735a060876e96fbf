"""The extra SQL functions of a mapping: `country`, `region`, `domain`, `slug` and `id18`.

Null in, null out. `country`, `region` and `id18` hand back what they do not know as it came (trimmed), so that
validation names the value instead of a null that nobody sees. They read bundled lists only, never the network.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

_CACHED = 1 << 16

# what exports call countries, beside the ISO names; keys are folded
_COUNTRY_ALIASES: Mapping[str, str] = {
    "unitedstatesofamerica": "US", "us": "US", "america": "US", "estadosunidos": "US",
    "uk": "GB", "greatbritain": "GB", "britain": "GB", "england": "GB", "scotland": "GB", "wales": "GB",
    "northernireland": "GB", "unitedkingdomofgreatbritain": "GB",
    "southkorea": "KR", "korea": "KR", "republicofkorea": "KR", "northkorea": "KP",
    "russia": "RU", "vietnam": "VN", "iran": "IR", "syria": "SY", "bolivia": "BO", "venezuela": "VE",
    "tanzania": "TZ", "moldova": "MD", "taiwan": "TW", "laos": "LA", "brunei": "BN", "micronesia": "FM",
    "czechrepublic": "CZ", "ivorycoast": "CI", "capeverde": "CV", "swaziland": "SZ", "macedonia": "MK",
    "turkey": "TR", "holland": "NL", "netherlands": "NL", "burma": "MM", "bahamas": "BS", "gambia": "GM",
    "uae": "AE", "emirates": "AE", "macau": "MO", "palestine": "PS", "vatican": "VA", "vaticancity": "VA",
    "easttimor": "TL", "congokinshasa": "CD", "drcongo": "CD", "drc": "CD", "congobrazzaville": "CG",
    "republicofireland": "IE", "mainlandchina": "CN", "prchina": "CN", "ksa": "SA", "rsa": "ZA",
    "deutschland": "DE", "osterreich": "AT", "schweiz": "CH", "suisse": "CH", "svizzera": "CH", "espana": "ES",
    "italia": "IT", "brasil": "BR", "nederland": "NL", "belgie": "BE", "belgique": "BE", "danmark": "DK",
    "norge": "NO", "sverige": "SE", "suomi": "FI", "polska": "PL", "cesko": "CZ", "magyarorszag": "HU",
    "nippon": "JP", "allemagne": "DE", "alemania": "DE",
}  # fmt: skip

_REGION_ALIASES: Mapping[str, str] = {
    "DE:bavaria": "DE-BY", "DE:saxony": "DE-SN", "DE:lowersaxony": "DE-NI", "DE:saxonyanhalt": "DE-ST",
    "DE:northrhinewestphalia": "DE-NW", "DE:rhinelandpalatinate": "DE-RP", "DE:hesse": "DE-HE",
    "DE:thuringia": "DE-TH", "US:washingtondc": "US-DC", "IT:lombardy": "IT-25", "IT:tuscany": "IT-52",
    "IT:piedmont": "IT-21", "IT:sicily": "IT-82", "ES:catalonia": "ES-CT", "ES:andalusia": "ES-AN",
    "CA:quebec": "CA-QC", "AT:vienna": "AT-9", "AT:tyrol": "AT-7", "CH:zurich": "CH-ZH", "CH:geneva": "CH-GE",
    "FR:brittany": "FR-BRE", "FR:normandy": "FR-NOR", "FR:corsica": "FR-20R",
}  # fmt: skip

_SALESFORCE_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def fold(text: str) -> str:
    """Return the letters and digits of a text without case or accents, as a key to compare by."""
    plain = unicodedata.normalize("NFKD", text.replace("&", "and").replace("ß", "ss"))
    return "".join(character for character in plain.casefold() if character.isalnum())


@functools.lru_cache(maxsize=_CACHED)
def country(text: str) -> str:
    """Return the ISO 3166-1 alpha-2 code of a country's name, alpha-2 or alpha-3 code, or common alias."""
    names = _country_names()
    key = fold(text)
    return names.get(key) or names.get(key.removeprefix("the")) or text.strip()


@functools.lru_cache(maxsize=_CACHED)
def region(of: str | None, text: str) -> str:
    """Return the ISO 3166-2 code of a region's name or code inside a country (any form that `country` reads)."""
    codes, names = _region_names()
    given = text.strip()
    if given.upper() in codes:
        return given.upper()
    if of is None:
        return given
    code = country(of)
    if f"{code}-{given.upper()}" in codes:
        return f"{code}-{given.upper()}"
    key = f"{code}:{fold(text)}"
    return _REGION_ALIASES.get(key) or names.get(key) or given


def domain(text: str) -> str | None:
    """Return the registrable domain of a URL, host or e-mail address; null where there is none.

    By the bundled Public Suffix List (publicsuffix.org), so that ``shop.acme.co.uk`` gives ``acme.co.uk``.
    """
    given = text.strip().lower()
    if "@" in given and "/" not in given:  # an address, perhaps as `Name <address>`
        host = given.rpartition("@")[2].rstrip(">").strip()
    else:
        authority = re.split(r"[/?#]", re.sub(r"^[a-z][a-z0-9+.-]*://", "", given), maxsplit=1)[0]
        host = authority.rpartition("@")[2].partition(":")[0]
    return _registrable(host.strip(".")) if host else None


@functools.lru_cache(maxsize=_CACHED)
def _registrable(host: str) -> str | None:
    if re.fullmatch(r"[\d.]+", host):
        return None  # an IPv4 address
    try:
        ascii_host = host.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", ascii_host) is None:
        return None
    found = _public_suffixes().privatesuffix(ascii_host)
    return str(found) if found else None


def slug(text: str) -> str | None:
    """Return lower-case letters, digits and single underscores; null for an empty text.

    A text without a Latin letter or digit becomes ``x`` and eight digits of its SHA-1, so that two stay two.
    """
    given = text.strip()
    if not given:
        return None
    decomposed = unicodedata.normalize("NFKD", given.replace("ß", "ss"))
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    found = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    return found or "x" + hashlib.sha1(given.encode(), usedforsecurity=False).hexdigest()[:8]


def id18(text: str) -> str:
    """Return the 18-character form of a 15-character Salesforce id.

    The suffix holds, for each block of five characters, which of them are capitals: five bits, the first
    character lowest, as one of ``A-Z0-5`` (Salesforce, "How to convert a 15 digit id to an 18 digit id").
    """
    given = text.strip()
    if len(given) != 15 or not (given.isascii() and given.isalnum()):
        return given
    return given + _suffix(given[:5]) + _suffix(given[5:10]) + _suffix(given[10:])


@functools.lru_cache(maxsize=_CACHED)
def _suffix(block: str) -> str:
    return _SALESFORCE_SUFFIX[sum(1 << place for place, letter in enumerate(block) if letter.isupper())]


@functools.cache
def _country_names() -> Mapping[str, str]:
    import pycountry

    names: dict[str, str] = {}
    for entry in pycountry.countries:
        for attribute in ("name", "official_name", "common_name", "alpha_3", "alpha_2"):
            value = getattr(entry, attribute, None)
            if value:
                names[fold(value)] = entry.alpha_2
    return {**_COUNTRY_ALIASES, **names}


@functools.cache
def _region_names() -> tuple[frozenset[str], Mapping[str, str]]:
    import pycountry

    codes = frozenset(entry.code for entry in pycountry.subdivisions)
    # sorted backwards, so that of two regions of one name the first code wins, always
    entries = sorted(pycountry.subdivisions, key=lambda entry: str(entry.code), reverse=True)
    return codes, {f"{entry.country_code}:{fold(entry.name)}": entry.code for entry in entries}


@functools.cache
def _public_suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def _over_distinct(function: Callable[[str], str | None]) -> Callable[[Any], pa.Array]:
    """Lift a function of one text to a column, called once per distinct value."""

    def apply(column: Any) -> pa.Array:
        encoded = _combined(column).dictionary_encode()
        values = [None if value is None else function(value) for value in encoded.dictionary.to_pylist()]
        return pa.array(values, pa.string()).take(encoded.indices)

    return apply


def _region_columns(of: Any, column: Any) -> pa.Array:
    pairs = zip(_combined(of).to_pylist(), _combined(column).to_pylist(), strict=True)
    return pa.array([None if text is None else region(place, text) for place, text in pairs], pa.string())


def _combined(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


EXTRA_FUNCTIONS: tuple[str, ...] = ("country", "domain", "id18", "region", "slug")


def register(connection: Any) -> None:
    """Define the extra functions in a DuckDB connection."""
    for name, function in (("country", country), ("domain", domain), ("id18", id18), ("slug", slug)):
        _define(connection, name, _over_distinct(function), arguments=1)
    _define(connection, "region", _region_columns, arguments=2)


def _define(connection: Any, name: str, function: Callable[..., pa.Array], *, arguments: int) -> None:
    text = ["VARCHAR"] * arguments
    connection.create_function(name, function, text, "VARCHAR", type="arrow", null_handling="special")
