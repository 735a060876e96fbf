from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import duckdb
import pycountry
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partnerml.ecosystem import _functions


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with duckdb.connect() as opened:
        _functions.register(opened)
        yield opened


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("Brazil", "BR"),
        (" brasil ", "BR"),
        ("BRA", "BR"),
        ("br", "BR"),
        ("The Netherlands", "NL"),
        ("Côte d'Ivoire", "CI"),
        ("Korea, Republic of", "KR"),
        ("South Korea", "KR"),
        ("U.S.A.", "US"),
        ("United States", "US"),
        ("UK", "GB"),
        ("Türkiye", "TR"),
        ("Turkey", "TR"),
        ("NA", "NA"),  # Namibia, not "not available"
        ("no", "NO"),
        (" Narnia ", "Narnia"),  # validation is to name it
    ],
)
def test_country(given_: str, expected: str) -> None:
    assert _functions.country(given_) == expected


def test_every_iso_country_is_read_by_name_and_codes() -> None:
    for entry in pycountry.countries:
        for value in (entry.name, entry.alpha_2, entry.alpha_3):
            assert _functions.country(value) == entry.alpha_2, value


@pytest.mark.parametrize(
    ("of", "text", "expected"),
    [
        ("BR", "SP", "BR-SP"),
        ("Brazil", "São Paulo", "BR-SP"),
        ("Brazil", "sao paulo", "BR-SP"),
        ("US", "California", "US-CA"),
        ("Germany", "Bavaria", "DE-BY"),
        (None, "us-ny", "US-NY"),
        ("US", "Nowhere", "Nowhere"),
        (None, "SP", "SP"),
    ],
)
def test_region(of: str | None, text: str, expected: str) -> None:
    assert _functions.region(of, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://www.acme.co.uk:8080/a?b#c", "acme.co.uk"),
        ("http://user:word@shop.example.com.br", "example.com.br"),
        ("Jo.Doe@Mail.Acme.com", "acme.com"),
        ("Acme GmbH <info@acme.de>", "acme.de"),
        ("mailto:x@y.org", "y.org"),
        ("acme.de.", "acme.de"),
        ("www.acme.com/path@x", "acme.com"),
        ("https://münchen.de/", "xn--mnchen-3ya.de"),
        ("co.uk", None),
        ("localhost", None),
        ("10.0.0.1", None),
        ("n/a", None),
        ("", None),
    ],
)
def test_domain(text: str, expected: str | None) -> None:
    assert _functions.domain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Portal Login", "portal_login"),
        ("  Übung—3 ", "ubung_3"),
        ("a__b--c", "a_b_c"),
        ("Straße", "strasse"),
        ("", None),
        ("  ", None),
    ],
)
def test_slug(text: str, expected: str | None) -> None:
    assert _functions.slug(text) == expected


@given(st.text())
def test_a_slug_is_safe_inside_a_feature_name(text: str) -> None:
    found = _functions.slug(text)
    if found is None:
        assert not text.strip()
    else:
        assert set(found) <= set(string.ascii_lowercase + string.digits + "_")
        assert "__" not in found
        assert not found.startswith("_")
        assert not found.endswith("_")
        assert _functions.slug(found) == found


def test_slugs_without_latin_letters_stay_apart() -> None:
    assert _functions.slug("ログイン") != _functions.slug("登録")


def suffix_by_the_book(text: str) -> str:
    """Salesforce's description, digit by digit: the oracle."""
    suffix = ""
    for block in (text[0:5], text[5:10], text[10:15]):
        bits = "".join("1" if letter in string.ascii_uppercase else "0" for letter in reversed(block))
        suffix += (string.ascii_uppercase + "012345")[int(bits, 2)]
    return suffix


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=15, max_size=15))
def test_id18_adds_the_check_suffix(text: str) -> None:
    assert _functions.id18(text) == text + suffix_by_the_book(text)
    assert _functions.id18(_functions.id18(text)) == _functions.id18(text)


def test_id18_of_published_ids() -> None:
    assert _functions.id18("0015000000Gv7qJ") == "0015000000Gv7qJAAR"
    assert _functions.id18(" 0015000000Gv7qJAAR ") == "0015000000Gv7qJAAR"
    assert _functions.id18("acme") == "acme"


def test_null_in_null_out(connection: Any) -> None:
    query = "SELECT country(NULL), region(NULL, NULL), region('BR', NULL), domain(NULL), slug(NULL), id18(NULL)"
    assert connection.execute(query).fetchone() == (None,) * 6
    assert connection.execute("SELECT region(NULL, 'BR-SP')").fetchone() == ("BR-SP",)


def test_columns_agree_with_single_values(connection: Any) -> None:
    rows = connection.execute(
        """
        SELECT k, country(k), s, region(k, s), slug(s)
        FROM (SELECT ['Brazil', 'USA', NULL, 'x'][1 + i % 4] AS k, ['SP', 'ny', NULL][1 + i % 3] AS s
              FROM range(5000) r(i))
        """
    ).fetchall()
    assert len(rows) == 5000
    for k, country, s, region, slug in set(rows):
        assert country == (None if k is None else _functions.country(k))
        assert region == (None if s is None else _functions.region(k, s))
        assert slug == (None if s is None else _functions.slug(s))
