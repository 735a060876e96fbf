"""Leads that are encoded one by one, from what is remembered, are those that are encoded together."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.test_pairs import facts

from partnerml.pairs import LEAD_COLUMNS, Leads, OneLead

VERTICALS = st.sampled_from(["telecom", "Telecom.isp", "retail", "retail.food.fresh", "unseen", "unseen.isp"])
LISTS = st.lists(st.sampled_from(["de", "en-GB", "EN", "iso", "Iso ", "none"]), max_size=3).map(tuple)
LEADS = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(["DE", "FR", "us"]),
        "region": st.sampled_from(["DE-BE", "FR-75", "XX"]),
        "postal_code": st.sampled_from(["10115", "10-1", "1", "75001", "7 50", "SW1A 1AA"]),
        "latitude": st.floats(-90, 90),
        "longitude": st.floats(-180, 180),
        "vertical": VERTICALS,
        "amount": st.floats(0, 1e9) | st.sampled_from([0.0, 99.99, 100.0, 300.0]),
        "languages": LISTS,
        "required_certifications": LISTS,
        "source_partner_id": st.sampled_from(["P0", "P2", " P2", "unseen"]),
        "employees": st.integers(0, 9),
    },
)
KNOWN = facts(
    [
        {"country": "DE", "region": "DE-BE", "postal_code": "10117", "verticals": ["telecom"], "languages": ["de"]},
        {"country": "FR", "region": "FR-75", "verticals": ["retail.food", "telecom.isp"], "languages": ["en", "fr"]},
        {},
    ],
    territories=[
        {"row": 0, "country": "DE", "postal_prefix": "101"},
        {"row": 1, "country": "FR", "verticals": ["retail"]},
        {"row": 1, "latitude": 48.9, "longitude": 2.3, "radius_km": 100.0},
    ],
    certifications=[{"row": 0, "certification": "iso"}],
    cells=[
        {"row": 0, "dimension": dimension, "value": value, "closed": 3.0, "won": 1.0, "days": 9.0}
        for dimension, value in (("vertical", "telecom"), ("country", "DE"), ("size", "1"), ("size", "2"))
    ],
)
BARE = facts([{}])


def same(found, expected):
    """Say that two encodings are one: their arrays have the same values, shapes and types."""
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, values in expected.items():
            same(found[name], values)
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)


@given(st.lists(LEADS, max_size=6))
def test_a_lead_is_encoded_alone_as_with_others(leads):
    for known in (KNOWN, BARE):
        one = OneLead(known)
        # the second time everything is remembered
        for lead in leads + leads:
            columns = {name: [value] for name, value in lead.items() if name in LEAD_COLUMNS}
            same(one.encode(lead), Leads.of(columns, known, n=1))
