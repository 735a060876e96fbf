"""Columns of leads under another name than theirs: nobody reads those, and a lead without its place goes nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING

from partnerml import schema
from partnerml.config import nearest

if TYPE_CHECKING:
    from partnerml.routing._lead import Lead

# what exports of customer systems call a column, where no letters tell
_MEANT = MappingProxyType(
    {
        **dict.fromkeys(("zip", "zip_code", "plz", "post_code"), "postal_code"),
        **dict.fromkeys(("industry", "sector", "branch"), "vertical"),
        **dict.fromkeys(("company", "company_name", "organisation", "organization", "customer_name"), "account_name"),
        **dict.fromkeys(("website", "web_site", "url", "homepage", "domain_name"), "domain"),
        **dict.fromkeys(("country_code", "billing_country", "shipping_country"), "country"),
        **dict.fromkeys(("state", "province", "state_code", "region_code"), "region"),
        **dict.fromkeys(("deal_amount", "deal_size", "deal_value", "budget", "value", "estimated_value"), "amount"),
        **dict.fromkeys(("created_date", "creation_date", "created_on", "date_created"), "created_at"),
        **dict.fromkeys(("langs", "lang"), "languages"),
        **dict.fromkeys(("certifications", "certificates", "certs"), "required_certifications"),
        **dict.fromkeys(("customer_id", "company_id"), "account_id"),
        **dict.fromkeys(("lat",), "latitude"),
        **dict.fromkeys(("lon", "lng", "long"), "longitude"),
    }
)
_NEAR = 0.8  # at .75, `account_type` is taken for `account_name`
_SEPARATORS = (";", "\t", "|")


def misnamed(leads: Iterable[Lead]) -> list[str]:
    """Return which columns of leads have nearly the name of one that none of the leads has, in words.

    Parameters
    ----------
    leads : iterable of Lead
    """
    given = list(dict.fromkeys(name for lead in leads for name in lead.values))
    lacking = [name for name in schema.LEADS.names if name not in given]
    hints = {name: hint for name in given if name not in schema.LEADS.names and (hint := meant(name, lacking))}
    return [
        f"the column {name!r} is none of the table leads, so that no rule and no score of partnerml's own reads "
        f"it{hint} A lead that is routed cannot come again with other values: rename the column first"
        for name, hint in hints.items()
    ]


def meant(name: str, known: Iterable[str]) -> str:
    """Return a hint such as ``"; did you mean postal_code?"``, or nothing if no known name is near.

    Examples
    --------
    >>> meant("Zip Code", ["country", "postal_code"])
    '; did you mean postal_code?'
    """
    names, plain = list(known), re.sub(r"\W+", "_", name.strip()).casefold()
    other = _MEANT.get(plain)
    return f"; did you mean {other}?" if other in names else nearest(plain, names, cutoff=_NEAR)


def about_header(columns: Iterable[str], wanted: str) -> str:
    """Return why a column may be missing of a table that has others: another separator, or another name; or nothing."""
    names = list(columns)
    if len(names) == 1:
        separator = next((sign for sign in _SEPARATORS if sign in names[0]), None)
        if separator is not None:
            return (
                f"; the header has {separator!r} between names, and a CSV file is split at commas: save it with these"
            )
    return next((f"; is it the one that is called {name!r} here?" for name in names if meant(name, [wanted])), "")
