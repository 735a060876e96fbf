"""Codes that columns hold: countries, regions, currencies and time zones; read from tables and from leads alike."""

from __future__ import annotations

import functools

from partnerml.schema import Type

# the user-assigned code for Kosovo, in use by the EU, the UN and every large CRM
_EXTRA_COUNTRIES = ("XK",)


@functools.cache
def valid_codes(kind: Type) -> tuple[str, ...]:
    """Return all valid codes of a coded type, sorted."""
    if kind is Type.TIME_ZONE:
        import zoneinfo

        return tuple(sorted(zoneinfo.available_timezones()))
    # its tables take a moment to load and only coded columns need them
    import pycountry

    if kind is Type.COUNTRY:
        return tuple(sorted([country.alpha_2 for country in pycountry.countries] + list(_EXTRA_COUNTRIES)))
    if kind is Type.REGION:
        return tuple(sorted(region.code for region in pycountry.subdivisions))
    return tuple(sorted(currency.alpha_3 for currency in pycountry.currencies))
