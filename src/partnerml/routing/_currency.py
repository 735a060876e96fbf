"""Amounts of leads in one currency: that of the tables, at the rates with which the snapshot was published.

What a partner's smallest deal is, what a model learnt of amounts and what a lead is worth are all in that currency. The
payload of a lead stays as it came; what decisions read is converted.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partnerml.config import CurrencyConfig
    from partnerml.routing._lead import Lead


def in_one_currency(lead: Lead, rule: CurrencyConfig | None) -> Lead:
    """Return a lead as decisions read it: its amount converted, and none where there is no rate for it.

    Parameters
    ----------
    lead : Lead
    rule : CurrencyConfig or None
        None where nothing says in what currency amounts are: they are taken as they come.
    """
    given = _foreign(lead, rule)
    if rule is None or given is None:
        return lead
    values = {name: value for name, value in lead.values.items() if name != "amount"}
    rate = rule.rates.get(given)
    if rate is not None:
        values |= {"amount": lead.values["amount"] * rate, "currency": rule.to}
    return dataclasses.replace(lead, values=MappingProxyType(values))


def no_rate(lead: Lead, rule: CurrencyConfig | None) -> str | None:
    """Return why the amount of a lead cannot be converted, and what to do; None if it can."""
    given = _foreign(lead, rule)
    if rule is None or given is None or given in rule.rates:
        return None
    return (
        f"lead {lead.lead_id!r}: its amount is in {given}, and amounts here are in {rule.to}; name the rate in "
        f"data.currency.rates and publish again, or send the amount in {rule.to}"
    )


def _foreign(lead: Lead, rule: CurrencyConfig | None) -> str | None:
    """Return the currency of an amount that is in another one than all others; None if it has none, or is in theirs."""
    given: str | None = lead.get("currency")
    # nothing is nothing in any currency
    return None if rule is None or given == rule.to or not lead.get("amount") else given
